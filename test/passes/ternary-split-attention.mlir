// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-split-attention))' | FileCheck %s
// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-split-attention,ternary-split-attention))' | FileCheck %s

// One part for each range of 256 rows of the cache; caches that attention writes go through as before.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[Q:.*]]: tensor<?x4x8xf32>, %[[NEW:.*]]: tensor<?x2x8xf32>, %[[POS:.*]]: i64, %[[K:.*]]: tensor<?x2x8xf16>, %[[V:.*]]: tensor<?x2x8xf16>, %[[E:.*]]: tensor<?x4x8xf32>)
// CHECK: %[[ROWS:.*]] = tensor.dim %[[K]], %c0
// CHECK: %[[MORE:.*]] = arith.addi %[[ROWS]], %c255
// CHECK: %[[RANGES:.*]] = arith.divui %[[MORE]], %c256
// CHECK: %[[PARTS:.*]] = tensor.empty(%[[RANGES]]) : tensor<?x4x40xf32>
// CHECK: %[[A:.*]]:4 = ternary.attention %[[Q]], %[[KN:.*]], %[[V]], %[[POS]] new(%[[NEW]], %[[NEW]]) parts(%[[PARTS]]) outs(%[[E]]) {blocked, causal, scale = 5.000000e-01 : f32}
// CHECK: %[[O:.*]] = ternary.attention_fold %[[A]]#2, %[[POS]] outs(%[[A]]#3) : (tensor<?x4x40xf32>, i64, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
// CHECK-NOT: ternary
// CHECK: return %[[O]], %[[A]]#0, %[[A]]#1
func.func @step(%q: tensor<?x4x8xf32>, %new: tensor<?x2x8xf32>, %pos: i64, %k: tensor<?x2x8xf16>, %v: tensor<?x2x8xf16>,
                %e: tensor<?x4x8xf32>) -> (tensor<?x4x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>) {
  %kn = ternary.cache_update %new, %pos outs(%k) {blocked, solo} : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %a:3 = ternary.attention %q, %kn, %v, %pos new(%new, %new) outs(%e) {blocked, causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>)
      -> (tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>)
  return %a#2, %a#0, %a#1 : tensor<?x4x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>
}

// -----

// Several tokens for certain.
// CHECK-LABEL: func.func @prompt
// CHECK-NOT: parts
// CHECK-NOT: ternary.attention_fold
func.func @prompt(%q: tensor<3x4x8xf32>, %pos: i64, %k: tensor<16x2x8xf32>, %v: tensor<16x2x8xf32>) -> tensor<3x4x8xf32> {
  %o = ternary.attention %q, %k, %v, %pos outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (tensor<3x4x8xf32>, i64, tensor<16x2x8xf32>, tensor<16x2x8xf32>, tensor<3x4x8xf32>) -> tensor<3x4x8xf32>
  return %o : tensor<3x4x8xf32>
}

// -----

// On buffers there is nothing to split.
// CHECK-LABEL: func.func @buffers
// CHECK-NOT: parts
func.func @buffers(%q: memref<?x4x8xf32>, %pos: i64, %k: memref<16x2x8xf32>) {
  ternary.attention %q, %k, %k, %pos outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (memref<?x4x8xf32>, i64, memref<16x2x8xf32>, memref<16x2x8xf32>, memref<?x4x8xf32>) -> ()
  return
}
