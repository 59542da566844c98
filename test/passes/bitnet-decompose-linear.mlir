// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(bitnet-decompose-linear))' | FileCheck %s

// CHECK-LABEL: func.func @plain
// CHECK-SAME: %[[X:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<4x8xi2>, %[[S:.*]]: tensor<1xf32>
// CHECK: %[[CODES:.*]], %[[SCALE:.*]], %[[SUMS:.*]] = bitnet.quantize %[[X]] {activation = #bitnet.act_quant<per_token, bits = 8, eps = {{.*}}>} : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>
// CHECK: %[[ACC:.*]] = bitnet.matmul %[[CODES]], %[[W]] sums(%[[SUMS]]) : {{.*}} -> tensor<?x4xi32>
// CHECK: %[[Y:.*]] = bitnet.dequantize %[[ACC]] scale(%[[S]]) act_scale(%[[SCALE]]) {{{.*}}scales = #bitnet.scales<tensor>}
// CHECK: return %[[Y]]
// CHECK-NOT: bitnet.linear
func.func @plain(%x: tensor<?x8xf32>, %w: tensor<4x8xi2>, %s: tensor<1xf32>) -> tensor<?x4xf32> {
  %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<?x8xf32>, tensor<4x8xi2>, tensor<1xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// One scale for all tokens; the norm comes first; bias and its place go to the end.
// CHECK-LABEL: func.func @per_tensor_norm_bias
// CHECK-SAME: %[[X:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<4x8xi1>, %[[S:.*]]: tensor<4xf32>, %[[B:.*]]: tensor<4xf32>, %[[G:.*]]: tensor<8xf32>
// CHECK: %[[N:.*]] = bitnet.rms_norm %[[X]], %[[G]] {eps = {{.*}} : f32}
// CHECK: bitnet.quantize %[[N]] {{.*}} -> tensor<?x8xi8>, tensor<1xf32>, tensor<?xi32>
// CHECK: bitnet.dequantize {{.*}} bias(%[[B]]) {bias_place = #bitnet.bias_place<before_scale>, direction = #bitnet.direction<divide>, scales = #bitnet.scales<rows = [1, 1, 1, 1]>}
func.func @per_tensor_norm_bias(%x: tensor<?x8xf32>, %w: tensor<4x8xi1>, %s: tensor<4xf32>, %b: tensor<4xf32>,
                                %g: tensor<8xf32>) -> tensor<?x4xf32> {
  %y = bitnet.linear %x, %w scale(%s) bias(%b) norm_weight(%g) {
    activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<rows = [1, 1, 1, 1]>,
    direction = #bitnet.direction<divide>, bias_place = #bitnet.bias_place<before_scale>,
    norm = #bitnet.norm<rms, eps = 1.0e-6>}
    : (tensor<?x8xf32>, tensor<4x8xi1>, tensor<4xf32>, tensor<4xf32>, tensor<8xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: func.func @layer_norm
// CHECK-SAME: %[[X:[^:]*]]: tensor<3x8xf32>, {{.*}} %[[G:[^:]*]]: tensor<8xf32>, %[[H:[^:]*]]: tensor<8xf32>
// CHECK: %[[N:.*]] = bitnet.layer_norm %[[X]] weight(%[[G]]) bias(%[[H]]) {eps = {{.*}} : f32}
// CHECK: bitnet.quantize %[[N]]
func.func @layer_norm(%x: tensor<3x8xf32>, %w: tensor<4x8xi2>, %s: tensor<1xf32>, %g: tensor<8xf32>, %h: tensor<8xf32>)
    -> tensor<3x4xf32> {
  %y = bitnet.linear %x, %w scale(%s) norm_weight(%g) norm_bias(%h) {
    activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>,
    norm = #bitnet.norm<layer, eps = 1.0e-5>}
    : (tensor<3x8xf32>, tensor<4x8xi2>, tensor<1xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<3x4xf32>
  return %y : tensor<3x4xf32>
}

// -----

// Without activation quantiser the product is on floats and has neither sums nor an activation scale.
// CHECK-LABEL: func.func @weight_only
// CHECK-NOT: bitnet.quantize
// CHECK: %[[ACC:.*]] = bitnet.matmul %{{.*}}, %{{.*}} : (tensor<?x8xf32>, tensor<4x8xi2>) -> tensor<?x4xf32>
// CHECK: bitnet.dequantize %[[ACC]] scale(%{{.*}}) {
func.func @weight_only(%x: tensor<?x8xf32>, %w: tensor<4x8xi2>, %s: tensor<1xf32>) -> tensor<?x4xf32> {
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<4x8xi2>, tensor<1xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// The last group of 10 columns in groups of 4 has two of them.
// CHECK-LABEL: func.func @groups
// CHECK: bitnet.matmul {{.*}} {group = 4 : i64} : {{.*}} -> tensor<?x4x3xi32>
// CHECK: bitnet.dequantize {{.*}} {{{.*}}scales = #bitnet.scales<group = 4>} : (tensor<?x4x3xi32>, tensor<4x3xf32>, tensor<?xf32>) -> tensor<?x4xf32>
func.func @groups(%x: tensor<?x10xf32>, %w: tensor<4x10xi2>, %s: tensor<4x3xf32>) -> tensor<?x4xf32> {
  %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<group = 4>} : (tensor<?x10xf32>, tensor<4x10xi2>, tensor<4x3xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// A convolution: codes of whole samples, patches of them, for each group of channels a product with its rows.
// CHECK-LABEL: func.func @conv2d
// CHECK: %[[Q:.*]], %[[S:.*]], %{{.*}} = bitnet.quantize {{.*}} tensor<?x144xf32> -> tensor<?x144xi8>
// CHECK: tensor.pad {{.*}} low[0, 0, 1, 1] high[0, 0, 1, 1]
// CHECK: linalg.broadcast ins(%[[S]]
// CHECK-COUNT-2: bitnet.matmul {{.*}} : (tensor<?x18xi8>, tensor<3x18xi2>, tensor<?xi32>) -> tensor<?x3xi32>
// CHECK: tensor.concat dim(3)
// CHECK: linalg.transpose {{.*}} permutation = [0, 3, 1, 2]
func.func @conv2d(%x: tensor<?x4x6x6xf32>, %w: tensor<6x18xi2>, %s: tensor<1xf32>) -> tensor<?x6x6x6xf32> {
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, padding = array<i64: 1, 1, 1, 1>, groups = 2 : i64}
    : (tensor<?x4x6x6xf32>, tensor<6x18xi2>, tensor<1xf32>) -> tensor<?x6x6x6xf32>
  return %y : tensor<?x6x6x6xf32>
}

// -----

// With a scale for each filter a group takes those of its own.
// CHECK-LABEL: func.func @conv2d_rows
// CHECK-SAME: %[[S:[^:]*]]: tensor<6xf32>
// CHECK: %[[FIRST:.*]] = tensor.extract_slice %[[S]][0] [3] [1]
// CHECK: bitnet.dequantize {{.*}} scale(%[[FIRST]]) {{.*}}scales = #bitnet.scales<rows>
// CHECK: %[[SECOND:.*]] = tensor.extract_slice %[[S]][3] [3] [1]
// CHECK: bitnet.dequantize {{.*}} scale(%[[SECOND]]) {{.*}}scales = #bitnet.scales<rows>
// The result's batch is dynamic where that of the input is not.
// CHECK: tensor.cast {{.*}} : tensor<5x6x6x6xf32> to tensor<?x6x6x6xf32>
func.func @conv2d_rows(%x: tensor<5x4x6x6xf32>, %w: tensor<6x18xi2>, %s: tensor<6xf32>) -> tensor<?x6x6x6xf32> {
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<rows>, kernel = array<i64: 3, 3>, padding = array<i64: 1, 1, 1, 1>, groups = 2 : i64}
    : (tensor<5x4x6x6xf32>, tensor<6x18xi2>, tensor<6xf32>) -> tensor<?x6x6x6xf32>
  return %y : tensor<?x6x6x6xf32>
}
