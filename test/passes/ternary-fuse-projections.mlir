// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(bitnet-decompose-linear,cse,convert-bitnet-to-ternary,cse,ternary-fuse-projections))' | FileCheck %s

// Each matrix keeps its own scales and direction.
#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @projections
// CHECK-SAME: %{{[^:]*}}: tensor<?x8xf32>, %[[WQ:[^:]*]]: tensor<6x8xi2>, %[[WK:[^:]*]]: tensor<2x8xi2>, %[[SQ:[^:]*]]: tensor<1xf32>, %[[SK:[^:]*]]: tensor<2xf32>
// CHECK: %[[Q:.*]]:3 = ternary.quantize
// CHECK: %[[P:.*]] = ternary.pack %[[WQ]], %[[WK]] {layout = #ternary.layout<r16k4f4, rows = 8, cols = 8>}
// CHECK: %[[S:.*]] = ternary.pack_scales %[[SQ]], %[[SK]] {directions = [#bitnet.direction<multiply>, #bitnet.direction<divide>], {{.*}}row_counts = array<i64: 6, 2>, scales = [#bitnet.scales<tensor>, #bitnet.scales<rows = [1, 1]>]}
// CHECK: %[[Y:.*]] = ternary.matmul %[[Q]]#0, %[[P]], %[[S]] act_scale(%[[Q]]#1) sums(%[[Q]]#2) {{.*}} -> tensor<?x8xf32>
// CHECK-NOT: ternary.matmul
// CHECK: %[[A:.*]] = tensor.extract_slice %[[Y]][0, 0] [%{{.*}}, 6] [1, 1]
// CHECK: %[[B:.*]] = tensor.extract_slice %[[Y]][0, 6] [%{{.*}}, 2] [1, 1]
// CHECK: return %[[A]], %[[B]]
func.func @projections(%x: tensor<?x8xf32>, %wq: tensor<6x8xi2>, %wk: tensor<2x8xi2>, %sq: tensor<1xf32>,
                       %sk: tensor<2xf32>) -> (tensor<?x6xf32>, tensor<?x2xf32>) {
  %q = bitnet.linear %x, %wq scale(%sq) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>) -> tensor<?x6xf32>
  %k = bitnet.linear %x, %wk scale(%sk) {activation = #quant, scales = #bitnet.scales<rows = [1, 1]>,
    direction = #bitnet.direction<divide>} : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<2xf32>) -> tensor<?x2xf32>
  return %q, %k : tensor<?x6xf32>, tensor<?x2xf32>
}

// -----

#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @gate_and_up
// CHECK-SAME: %{{[^:]*}}: tensor<?x8xf32>, %[[WG:[^:]*]]: tensor<6x8xi1>, %[[WU:[^:]*]]: tensor<6x8xi1>
// CHECK: ternary.pack %[[WG]], %[[WU]] {layout = #ternary.layout<r16k4f8, rows = 12, cols = 8, order = gated>}
// CHECK: ternary.matmul {{.*}} {epilogue = #ternary.epilogue<silu>, {{.*}} -> tensor<?x6xf32>
// CHECK-NOT: ternary.gated
func.func @gate_and_up(%x: tensor<?x8xf32>, %wg: tensor<6x8xi1>, %wu: tensor<6x8xi1>, %s: tensor<1xf32>) -> tensor<?x6xf32> {
  %g = bitnet.linear %x, %wg scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi1>, tensor<1xf32>) -> tensor<?x6xf32>
  %u = bitnet.linear %x, %wu scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi1>, tensor<1xf32>) -> tensor<?x6xf32>
  %y = bitnet.gated %g, %u {act = #bitnet.gate_act<silu>} : tensor<?x6xf32>
  return %y : tensor<?x6xf32>
}

// -----

// A gate with another reader is not consumed; its product and that of `up` still go together.
#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @gate_with_other_use
// CHECK: ternary.matmul {{.*}} -> tensor<?x12xf32>
// CHECK-NOT: ternary.matmul
// CHECK: ternary.gated
func.func @gate_with_other_use(%x: tensor<?x8xf32>, %wg: tensor<6x8xi2>, %wu: tensor<6x8xi2>, %s: tensor<1xf32>)
    -> (tensor<?x6xf32>, tensor<?x6xf32>) {
  %g = bitnet.linear %x, %wg scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>) -> tensor<?x6xf32>
  %u = bitnet.linear %x, %wu scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>) -> tensor<?x6xf32>
  %y = bitnet.gated %g, %u {act = #bitnet.gate_act<relu2>} : tensor<?x6xf32>
  return %y, %g : tensor<?x6xf32>, tensor<?x6xf32>
}

// -----

// What does not go together: ternary and binary, different groups, a bias, different inputs.
#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @apart
// CHECK-COUNT-5: ternary.matmul
// CHECK-NOT: ternary.matmul
func.func @apart(%x: tensor<?x8xf32>, %z: tensor<?x8xf32>, %w: tensor<6x8xi2>, %b: tensor<6x8xi1>, %s: tensor<1xf32>,
                 %sg: tensor<6x2xf32>, %bias: tensor<6xf32>)
    -> (tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>) {
  %0 = bitnet.linear %x, %w scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>) -> tensor<?x6xf32>
  %1 = bitnet.linear %x, %b scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi1>, tensor<1xf32>) -> tensor<?x6xf32>
  %2 = bitnet.linear %x, %w scale(%sg) {activation = #quant, scales = #bitnet.scales<group = 4>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<6x2xf32>) -> tensor<?x6xf32>
  %3 = bitnet.linear %x, %w scale(%s) bias(%bias) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>, tensor<6xf32>) -> tensor<?x6xf32>
  %4 = bitnet.linear %z, %w scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>) -> tensor<?x6xf32>
  return %0, %1, %2, %3, %4 : tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>
}

// -----

// The same codes under different activation scales.
// CHECK-LABEL: func.func @different_activation_scales
// CHECK-SAME: %[[A:[^:]*]]: tensor<?xf32>, %[[B:[^:]*]]: tensor<?xf32>
// CHECK: ternary.matmul {{.*}} act_scale(%[[A]])
// CHECK: ternary.matmul {{.*}} act_scale(%[[B]])
func.func @different_activation_scales(%a: tensor<?xf32>, %b: tensor<?xf32>, %x: tensor<?x8xi8>, %c: tensor<?xi32>,
    %w: tensor<6x8xi2>, %s: tensor<1xf32>) -> (tensor<?x6xf32>, tensor<?x6xf32>) {
  %0 = bitnet.matmul %x, %w sums(%c) : (tensor<?x8xi8>, tensor<6x8xi2>, tensor<?xi32>) -> tensor<?x6xi32>
  %1 = bitnet.matmul %x, %w sums(%c) : (tensor<?x8xi8>, tensor<6x8xi2>, tensor<?xi32>) -> tensor<?x6xi32>
  %2 = bitnet.dequantize %0 scale(%s) act_scale(%a) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x6xf32>
  %3 = bitnet.dequantize %1 scale(%s) act_scale(%b) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x6xf32>
  return %2, %3 : tensor<?x6xf32>, tensor<?x6xf32>
}

// -----

// Weights that are computed in several steps all move up.
#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @computed_weights
// CHECK: bitnet.weight "a"
// CHECK: bitnet.weight "b"
// CHECK: bitnet.quantize_weight
// CHECK: tensor.extract_slice
// CHECK: ternary.pack %{{.*}}, %{{.*}} {layout = #ternary.layout<r16k4f4, rows = 6, cols = 8>}
// CHECK: ternary.matmul
// CHECK-NOT: ternary.matmul
func.func @computed_weights(%x: tensor<?x8xf32>, %s: tensor<1xf32>) -> (tensor<?x4xf32>, tensor<?x2xf32>) {
  %wa = bitnet.weight "a" : tensor<4x8xi2>
  %a = bitnet.linear %x, %wa scale(%s) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<4x8xi2>, tensor<1xf32>) -> tensor<?x4xf32>
  %m = bitnet.weight "b" : tensor<4x8xf32>
  %c, %cs = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32} : tensor<4x8xf32> -> tensor<4x8xi2>, tensor<1xf32>
  %wb = tensor.extract_slice %c[2, 0] [2, 8] [1, 1] : tensor<4x8xi2> to tensor<2x8xi2>
  %b = bitnet.linear %x, %wb scale(%cs) {activation = #quant, scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<2x8xi2>, tensor<1xf32>) -> tensor<?x2xf32>
  return %a, %b : tensor<?x4xf32>, tensor<?x2xf32>
}

// -----

// Matmuls that an activation follows stay.
// CHECK-LABEL: func.func @activations
// CHECK: ternary.matmul {{.*}}activation = #bitnet.function<gelu>
// CHECK: ternary.matmul {{.*}}activation = #bitnet.function<relu>
func.func @activations(%x: tensor<?x8xi8>, %w: tensor<2x8xi2>, %s: tensor<1xf32>, %a: tensor<?xf32>, %c: tensor<?xi32>, %t: index)
    -> (tensor<?x2xf32>, tensor<?x2xf32>) {
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 8>} : (tensor<2x8xi2>) -> tensor<128xi8>
  %ps = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 8>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<1x1x64xf32>
  %e = tensor.empty(%t) : tensor<?x2xf32>
  %y = ternary.matmul %x, %p, %ps act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 8>, activation = #bitnet.function<gelu>}
    : (tensor<?x8xi8>, tensor<128xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>) -> tensor<?x2xf32>
  %z = ternary.matmul %x, %p, %ps act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 8>, activation = #bitnet.function<relu>}
    : (tensor<?x8xi8>, tensor<128xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>) -> tensor<?x2xf32>
  return %y, %z : tensor<?x2xf32>, tensor<?x2xf32>
}
