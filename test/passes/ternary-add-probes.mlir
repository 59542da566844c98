// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(bitnet-to-ternary-pipeline{probe=true})' | FileCheck %s

#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @two_of_one_input
// CHECK-SAME: tensor<?x6xf32> {bitnet.dims = ["T"], bitnet.name = "a"}
// CHECK-SAME: tensor<?x2xf32> {bitnet.dims = ["T"], bitnet.name = "b"}
// CHECK-SAME: tensor<?x6xi8> {bitnet.dims = ["T"], bitnet.name = "probe.q.codes"}
// CHECK-SAME: tensor<?x6xi32> {bitnet.dims = ["T"], bitnet.name = "probe.q.acc"}
// CHECK-SAME: tensor<?x6xi8> {bitnet.dims = ["T"], bitnet.name = "probe.k.codes"}
// CHECK-SAME: tensor<?x2xi32> {bitnet.dims = ["T"], bitnet.name = "probe.k.acc"}
// The codes without their padding; the rows of each weight.
// CHECK: %[[Q:.*]]:3 = ternary.quantize
// CHECK: %[[Y:.*]]:2 = ternary.matmul %[[Q]]#0, {{.*}} -> (tensor<?x8xf32>, tensor<?x8xi32>)
// CHECK: tensor.extract_slice %[[Q]]#0[0, 0] [%{{.*}}, 6] [1, 1] : tensor<?x8xi8> to tensor<?x6xi8>
// CHECK-DAG: tensor.extract_slice %[[Y]]#1[0, 0] [%{{.*}}, 6] [1, 1] : tensor<?x8xi32> to tensor<?x6xi32>
// CHECK-DAG: tensor.extract_slice %[[Y]]#1[0, 6] [%{{.*}}, 2] [1, 1] : tensor<?x8xi32> to tensor<?x2xi32>
func.func @two_of_one_input(%x: tensor<?x6xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x6xf32> {bitnet.name = "a", bitnet.dims = ["T"]}, tensor<?x2xf32> {bitnet.name = "b", bitnet.dims = ["T"]})
    attributes {bitnet.entry} {
  %wq = bitnet.weight "q.weight" : tensor<6x6xi2>
  %wk = bitnet.weight "k.weight" : tensor<2x6xi2>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %q = bitnet.linear %x, %wq scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<6x6xi2>, tensor<1xf32>) -> tensor<?x6xf32>
  %k = bitnet.linear %x, %wk scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<2x6xi2>, tensor<1xf32>) -> tensor<?x2xf32>
  return %q, %k : tensor<?x6xf32>, tensor<?x2xf32>
}

// -----

// Without codes there are only accumulators. Masters give the name of their layer; a constant gets a number.
// CHECK-LABEL: func.func @floats
// CHECK-SAME: tensor<?x2xf32> {bitnet.dims = ["T"], bitnet.name = "probe.m.acc"}
// CHECK-SAME: tensor<?x2x2xf32> {bitnet.dims = ["T"], bitnet.name = "probe.linear0.acc"}
// CHECK-NOT: codes"
func.func @floats(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x2xf32> {bitnet.name = "a", bitnet.dims = ["T"]}, tensor<?x2xf32> {bitnet.name = "b", bitnet.dims = ["T"]})
    attributes {bitnet.entry} {
  %m = bitnet.weight "m.weight" : tensor<2x8xbf16>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<2x8xbf16> -> tensor<2x8xi2>, tensor<1xf32>
  %c = arith.constant dense<1> : tensor<2x8xi2>
  %sg = arith.constant dense<0.5> : tensor<2x2xf32>
  %a = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<1xf32>) -> tensor<?x2xf32>
  %b = bitnet.linear %x, %c scale(%sg) {scales = #bitnet.scales<group = 4>}
    : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<2x2xf32>) -> tensor<?x2xf32>
  return %a, %b : tensor<?x2xf32>, tensor<?x2xf32>
}

// -----

// Rows are named by the symbol that they are, whichever that is.
// CHECK-LABEL: func.func @second_symbol
// CHECK-SAME: tensor<?x2xf32> {bitnet.dims = ["N"], bitnet.name = "probe.w.acc"}
func.func @second_symbol(%s: tensor<?xf32> {bitnet.name = "s", bitnet.dims = ["M"]},
                         %x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["N"]})
    -> (tensor<?x2xf32> {bitnet.name = "y", bitnet.dims = ["N"]}, tensor<?xf32> {bitnet.name = "t", bitnet.dims = ["M"]})
    attributes {bitnet.entry} {
  %w = bitnet.weight "w.weight" : tensor<2x8xi2>
  %one = arith.constant dense<0.5> : tensor<1xf32>
  %y = bitnet.linear %x, %w scale(%one) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<1xf32>) -> tensor<?x2xf32>
  return %y, %s : tensor<?x2xf32>, tensor<?xf32>
}

// -----

// Rows that are computed have no symbol: the caller's buffer could not be sized.
func.func @computed_rows(%x: tensor<?x3x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x3x2xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %w = bitnet.weight "q.weight" : tensor<2x8xi2>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x3x8xf32>
  %rows = tensor.collapse_shape %x [[0, 1], [2]] : tensor<?x3x8xf32> into tensor<?x8xf32>
  // expected-error@+1 {{expects the rows of layer q to be a dimension of the entry's inputs, so that its probe has a size; compile without probes}}
  %a = bitnet.linear %rows, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<1xf32>) -> tensor<?x2xf32>
  %y = tensor.expand_shape %a [[0, 1], [2]] output_shape [%t, 3, 2] : tensor<?x2xf32> into tensor<?x3x2xf32>
  return %y : tensor<?x3x2xf32>
}

// -----

// Functions that are no entries have no outputs.
// CHECK-LABEL: func.func @no_entry
// CHECK-NOT: probe.
func.func @no_entry(%x: tensor<?x8xf32>) -> tensor<?x2xf32> {
  %w = bitnet.weight "w" : tensor<2x8xi2>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %a = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<1xf32>) -> tensor<?x2xf32>
  return %a : tensor<?x2xf32>
}

// -----

// expected-error@+1 {{expects straight-line code in an entry point}}
func.func @branches(%x: tensor<2x8xf32> {bitnet.name = "x"}) -> (tensor<2x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %first = tensor.extract %x[%c0, %c0] : tensor<2x8xf32>
  %is_one = arith.cmpf oeq, %first, %first : f32
  cf.cond_br %is_one, ^bb1, ^bb2
^bb1:
  return %x : tensor<2x8xf32>
^bb2:
  %y = arith.addf %x, %x : tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}
