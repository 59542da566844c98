// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-fuse-rotary))' | FileCheck %s

// Queries are rotated where they are read, new keys where they are written: by the update, and by attention itself.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[Q:.*]]: tensor<?x4x8xf32>, %[[NEW:.*]]: tensor<?x2x8xf32>, %[[POS:.*]]: i64, %[[C:.*]]: tensor<32x4xf32>, %[[S:.*]]: tensor<32x4xf32>,
// CHECK-NOT: ternary.rotary
// CHECK: %[[K:.*]] = ternary.cache_update %[[NEW]], %[[POS]] rotary(%[[C]], %[[S]]) outs(%{{.*}}) {blocked, solo}
// CHECK: ternary.attention %[[Q]], %[[K]], %{{.*}}, %[[POS]] new(%[[NEW]], %[[NEW]]) rotary(%[[C]], %[[S]]) outs
func.func @step(%q: tensor<?x4x8xf32>, %new: tensor<?x2x8xf32>, %pos: i64, %c: tensor<32x4xf32>, %s: tensor<32x4xf32>,
                %k: tensor<?x2x8xf16>, %v: tensor<?x2x8xf16>, %e: tensor<?x4x8xf32>, %f: tensor<?x2x8xf32>) -> tensor<?x4x8xf32> {
  %r = ternary.rotary %q, %c, %s, %pos outs(%e) : (tensor<?x4x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  %n = ternary.rotary %new, %c, %s, %pos outs(%f) : (tensor<?x2x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  %kn = ternary.cache_update %n, %pos outs(%k) {blocked, solo} : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %a:3 = ternary.attention %r, %kn, %v, %pos new(%n, %new) outs(%e) {blocked, causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>)
      -> (tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>)
  return %a#2 : tensor<?x4x8xf32>
}

// -----

// Caches that attention does not write: each for itself.
// CHECK-LABEL: func.func @apart
// CHECK-NOT: ternary.rotary
// CHECK: ternary.cache_update {{.*}} rotary(
// CHECK: ternary.attention {{.*}} rotary(
func.func @apart(%q: tensor<3x4x8xf32>, %new: tensor<3x2x8xf32>, %pos: i64, %c: tensor<32x4xf32>, %s: tensor<32x4xf32>,
                 %k: tensor<16x2x8xf32>, %v: tensor<16x2x8xf32>) -> tensor<3x4x8xf32> {
  %r = ternary.rotary %q, %c, %s, %pos outs(%q) : (tensor<3x4x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<3x4x8xf32>) -> tensor<3x4x8xf32>
  %n = ternary.rotary %new, %c, %c, %pos outs(%new) : (tensor<3x2x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<3x2x8xf32>) -> tensor<3x2x8xf32>
  %kn = ternary.cache_update %n, %pos outs(%k) {blocked} : (tensor<3x2x8xf32>, i64, tensor<16x2x8xf32>) -> tensor<16x2x8xf32>
  %a = ternary.attention %r, %kn, %v, %pos outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (tensor<3x4x8xf32>, i64, tensor<16x2x8xf32>, tensor<16x2x8xf32>, tensor<3x4x8xf32>) -> tensor<3x4x8xf32>
  return %a : tensor<3x4x8xf32>
}

// -----

// Rotated rows that something else reads, or at another position, stay.
// CHECK-LABEL: func.func @others
// CHECK-COUNT-2: ternary.rotary
// CHECK-NOT: rotary(
func.func @others(%q: tensor<3x4x8xf32>, %new: tensor<3x2x8xf32>, %pos: i64, %other: i64, %c: tensor<32x4xf32>,
                  %k: tensor<16x2x8xf32>, %v: tensor<16x2x8xf32>) -> (tensor<3x4x8xf32>, tensor<3x4x8xf32>) {
  %r = ternary.rotary %q, %c, %c, %pos outs(%q) : (tensor<3x4x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<3x4x8xf32>) -> tensor<3x4x8xf32>
  %n = ternary.rotary %new, %c, %c, %other outs(%new) : (tensor<3x2x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<3x2x8xf32>) -> tensor<3x2x8xf32>
  %kn = ternary.cache_update %n, %pos outs(%k) {blocked} : (tensor<3x2x8xf32>, i64, tensor<16x2x8xf32>) -> tensor<16x2x8xf32>
  %a = ternary.attention %r, %kn, %v, %pos outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (tensor<3x4x8xf32>, i64, tensor<16x2x8xf32>, tensor<16x2x8xf32>, tensor<3x4x8xf32>) -> tensor<3x4x8xf32>
  return %a, %r : tensor<3x4x8xf32>, tensor<3x4x8xf32>
}
