// RUN: setun-opt %s --bitnet-convert-math --bitnet-raise-linear --split-input-file --verify-diagnostics | FileCheck %s

// The quantiser of the papers, its scale taken out before the product.
// CHECK-LABEL: @papers
// CHECK-SAME: %[[X:.*]]: tensor<?x4xf32>
// CHECK: %[[W:.*]], %{{.*}} = bitnet.quantize_weight %{{.*}} {eps = 0.000000e+00 : f32, method = #bitnet.weight_quant<absmean>} : tensor<2x4xf32> -> tensor<2x4xi2>
// CHECK: %[[S:.*]] = arith.constant dense<5.000000e-01> : tensor<1xf32>
// CHECK: %[[Y:.*]] = bitnet.linear %[[X]], %[[W]] scale(%[[S]]) {activation = #bitnet.act_quant<per_token, bits = 8, eps = {{.*}}>,
// CHECK: return %[[Y]]
func.func @papers(%x: tensor<?x4xf32>) -> tensor<?x2xf32> {
  %w = arith.constant dense<[[0.5, 0.0, -0.5, 0.5], [0.0, 0.5, 0.5, -0.5]]> : tensor<2x4xf32>
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x4xf32>
  %low = arith.constant 0xFF800000 : f32
  %e = tensor.empty(%t) : tensor<?xf32>
  %f = linalg.fill ins(%low : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %abs = math.absf %x : tensor<?x4xf32>
  %max = linalg.reduce { arith.maximumf } ins(%abs : tensor<?x4xf32>) outs(%f : tensor<?xf32>) dimensions = [1]
  %eps = arith.constant 1.0e-5 : f32
  %epss = linalg.fill ins(%eps : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %m = arith.maximumf %max, %epss : tensor<?xf32>
  %one = arith.constant 1.0 : f32
  %ones = linalg.fill ins(%one : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %inverse = arith.divf %ones, %m : tensor<?xf32>
  %qmax = arith.constant 127.0 : f32
  %qmaxs = linalg.fill ins(%qmax : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %s = arith.mulf %inverse, %qmaxs : tensor<?xf32>
  %e2 = tensor.empty(%t) : tensor<?x4xf32>
  %sw = linalg.broadcast ins(%s : tensor<?xf32>) outs(%e2 : tensor<?x4xf32>) dimensions = [1]
  %scaled = arith.mulf %x, %sw : tensor<?x4xf32>
  %r = math.roundeven %scaled : tensor<?x4xf32>
  %least = arith.constant -128.0 : f32
  %leasts = linalg.fill ins(%least : f32) outs(%e2 : tensor<?x4xf32>) -> tensor<?x4xf32>
  %most = linalg.fill ins(%qmax : f32) outs(%e2 : tensor<?x4xf32>) -> tensor<?x4xf32>
  %c = arith.maximumf %r, %leasts : tensor<?x4xf32>
  %q = arith.minimumf %c, %most : tensor<?x4xf32>
  %dq = arith.divf %q, %sw : tensor<?x4xf32>
  // A straight-through estimator around it.
  %difference = arith.subf %dq, %x : tensor<?x4xf32>
  %ste = arith.addf %x, %difference : tensor<?x4xf32>
  %o = bitnet.dense %ste, %w : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
  return %o : tensor<?x2xf32>
}

// -----

// Another rounding, codes by way of i8, the scale after the product, binary weights: the codes as they are written.
// CHECK-LABEL: @codes
// CHECK: %[[Q:.*]] = arith.minimumf
// CHECK: arith.sitofp
// CHECK: %[[I:.*]] = arith.fptosi %[[Q]] : tensor<3x4xf32> to tensor<3x4xi8>
// CHECK: %[[WIDE:.*]] = arith.extsi %[[I]]
// CHECK: %[[SUMS:.*]] = linalg.reduce ins(%[[WIDE]]
// CHECK: %[[W:.*]], %{{.*}} = bitnet.quantize_weight {{.*}}#bitnet.weight_quant<sign>} : tensor<2x4xf32> -> tensor<2x4xi1>
// CHECK: %[[ACC:.*]] = bitnet.matmul %[[I]], %[[W]] sums(%[[SUMS]])
// CHECK: %[[F:.*]] = arith.sitofp %[[ACC]]
// CHECK: %[[SCALED:.*]] = arith.mulf %[[F]]
// CHECK: arith.divf %[[SCALED]], %{{.*}}
func.func @codes(%x: tensor<3x4xf32>, %s: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = arith.constant dense<[[2.0, -2.0, -2.0, 2.0], [2.0, 2.0, 2.0, -2.0]]> : tensor<2x4xf32>
  %half = arith.constant dense<0.5> : tensor<3x4xf32>
  %least = arith.constant dense<-8.0> : tensor<3x4xf32>
  %most = arith.constant dense<7.0> : tensor<3x4xf32>
  %0 = arith.addf %x, %half : tensor<3x4xf32>
  %1 = math.floor %0 : tensor<3x4xf32>
  %2 = arith.maximumf %1, %least : tensor<3x4xf32>
  %3 = arith.minimumf %2, %most : tensor<3x4xf32>
  %4 = arith.fptosi %3 : tensor<3x4xf32> to tensor<3x4xi8>
  %5 = arith.sitofp %4 : tensor<3x4xi8> to tensor<3x4xf32>
  %y = bitnet.dense %5, %w : (tensor<3x4xf32>, tensor<2x4xf32>) -> tensor<3x2xf32>
  %z = arith.divf %y, %s : tensor<3x2xf32>
  return %z : tensor<3x2xf32>
}

// -----

// Codes beyond i8, and weights of several magnitudes, stay as they are written.
// CHECK-LABEL: @others
// CHECK: bitnet.dense
// CHECK: bitnet.linear {{.*}} {scales = #bitnet.scales<tensor>}
// CHECK: bitnet.dense
func.func @others(%x: tensor<3x4xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>, tensor<3x2xf32>) {
  %several = arith.constant dense<[[2.0, -2.0, 1.0, 2.0], [2.0, 2.0, 2.0, -2.0]]> : tensor<2x4xf32>
  %w = arith.constant dense<[[2.0, -2.0, 0.0, 2.0], [2.0, 2.0, 2.0, -2.0]]> : tensor<2x4xf32>
  %least = arith.constant dense<-8.0> : tensor<3x4xf32>
  %most = arith.constant dense<7.0> : tensor<3x4xf32>
  %large = arith.constant dense<200.0> : tensor<3x4xf32>
  %0 = math.roundeven %x : tensor<3x4xf32>
  %1 = arith.maximumf %0, %least : tensor<3x4xf32>
  %2 = arith.minimumf %1, %most : tensor<3x4xf32>
  // expected-remark @below {{computed in floats: its input is quantised, but its weights have more than one magnitude}}
  %y0 = bitnet.dense %2, %several : (tensor<3x4xf32>, tensor<2x4xf32>) -> tensor<3x2xf32>
  %3 = arith.minimumf %1, %large : tensor<3x4xf32>
  // expected-remark @below {{activations in floats: the weights are ternary, but no quantiser of the input is recognised}}
  %y1 = bitnet.dense %3, %w : (tensor<3x4xf32>, tensor<2x4xf32>) -> tensor<3x2xf32>
  %y2 = bitnet.dense %x, %several : (tensor<3x4xf32>, tensor<2x4xf32>) -> tensor<3x2xf32>
  return %y0, %y1, %y2 : tensor<3x2xf32>, tensor<3x2xf32>, tensor<3x2xf32>
}

// -----

// A quantiser for each head, whose codes are then put together: its scale is not that of a row, nor its range.
// CHECK-LABEL: @heads
// CHECK-NOT: bitnet.quantize %
// CHECK: bitnet.linear {{.*}} {scales = #bitnet.scales<tensor>} : (tensor<3x4xf32>
func.func @heads(%x: tensor<3x2x2xf32>) -> tensor<3x2xf32> {
  %w = arith.constant dense<[[0.5, 0.0, -0.5, 0.5], [0.0, 0.5, 0.5, -0.5]]> : tensor<2x4xf32>
  %low = arith.constant dense<0xFF800000> : tensor<3x2xf32>
  %abs = math.absf %x : tensor<3x2x2xf32>
  %max = linalg.reduce { arith.maximumf } ins(%abs : tensor<3x2x2xf32>) outs(%low : tensor<3x2xf32>) dimensions = [2]
  %eps = arith.constant dense<1.0e-5> : tensor<3x2xf32>
  %m = arith.maximumf %max, %eps : tensor<3x2xf32>
  %one = arith.constant dense<1.0> : tensor<3x2xf32>
  %inverse = arith.divf %one, %m : tensor<3x2xf32>
  %qmax = arith.constant dense<127.0> : tensor<3x2xf32>
  %s = arith.mulf %inverse, %qmax : tensor<3x2xf32>
  %e = tensor.empty() : tensor<3x2x2xf32>
  %sw = linalg.broadcast ins(%s : tensor<3x2xf32>) outs(%e : tensor<3x2x2xf32>) dimensions = [2]
  %scaled = arith.mulf %x, %sw : tensor<3x2x2xf32>
  %r = math.roundeven %scaled : tensor<3x2x2xf32>
  %least = arith.constant dense<-128.0> : tensor<3x2x2xf32>
  %most = arith.constant dense<127.0> : tensor<3x2x2xf32>
  %c = arith.maximumf %r, %least : tensor<3x2x2xf32>
  %q = arith.minimumf %c, %most : tensor<3x2x2xf32>
  %dq = arith.divf %q, %sw : tensor<3x2x2xf32>
  %rows = tensor.collapse_shape %dq [[0], [1, 2]] : tensor<3x2x2xf32> into tensor<3x4xf32>
  // expected-remark @below {{activations in floats: the weights are ternary, but no quantiser of the input is recognised}}
  %y = bitnet.dense %rows, %w : (tensor<3x4xf32>, tensor<2x4xf32>) -> tensor<3x2xf32>
  return %y : tensor<3x2xf32>
}

// -----

// Signs of which one is rare are kept as ternary codes: the mean of the weights is their magnitude, and none is above it.
// CHECK-LABEL: @one_minus
// CHECK: bitnet.quantize_weight {{.*}}#bitnet.weight_quant<absmean>
func.func @one_minus(%x: tensor<3x128xf32>) -> tensor<3x1xf32> {
  %w = arith.constant dense<"0x000080BF0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F0000803F"> : tensor<1x128xf32>
  // expected-remark @below {{activations in floats: the weights are ternary, but no quantiser of the input is recognised}}
  %y = bitnet.dense %x, %w : (tensor<3x128xf32>, tensor<1x128xf32>) -> tensor<3x1xf32>
  return %y : tensor<3x1xf32>
}
