// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-fuse-cache-updates))' | FileCheck %s
// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-fuse-cache-updates),ternary-mark-entries,one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map},canonicalize,cse,ternary-lower-entries)' \
// RUN:   | FileCheck %s --check-prefix=BARRIERS

// Attention takes over the rows of one token; the caches go through it to the return.
// CHECK-LABEL: func.func @step
// CHECK: %[[K:.*]] = ternary.cache_update %[[NEW:.*]], %[[POS:.*]] outs(%{{.*}}) {blocked, solo}
// CHECK: %[[V:.*]] = ternary.cache_update %[[NEW]], %[[POS]] outs(%{{.*}}) {solo}
// CHECK: %[[A:.*]]:3 = ternary.attention %{{.*}}, %[[K]], %[[V]], %[[POS]] new(%[[NEW]], %[[NEW]]) outs(%{{.*}}) {blocked, causal
// CHECK: return %[[A]]#2, %[[A]]#0, %[[A]]#1

// In place, and with a barrier between for several tokens alone.
// BARRIERS-LABEL: func.func @setun_entry_step
// BARRIERS-NOT: memref.copy
// BARRIERS: ternary.cache_update
// BARRIERS-NOT: llvm.call
// BARRIERS: ternary.cache_update
// BARRIERS: %[[SEVERAL:.*]] = arith.cmpi ne, %{{.*}}, %c1{{.*}}
// BARRIERS-NEXT: scf.if %[[SEVERAL]] {
// BARRIERS: llvm.call
// BARRIERS-NEXT: }
// BARRIERS-NOT: llvm.call
// BARRIERS: ternary.attention
func.func @step(%q: tensor<?x4x8xf32> {bitnet.name = "q", bitnet.dims = ["T"]},
                %new: tensor<?x2x8xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                %k: tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]},
                %v: tensor<?x2x8xf16> {bitnet.state = "v", bitnet.dims = ["C"]})
    -> (tensor<?x4x8xf32> {bitnet.name = "o", bitnet.dims = ["T"]}, tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]},
        tensor<?x2x8xf16> {bitnet.state = "v", bitnet.dims = ["C"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %q, %c0 : tensor<?x4x8xf32>
  %e = tensor.empty(%t) : tensor<?x4x8xf32>
  %kn = ternary.cache_update %new, %pos outs(%k) {blocked} : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %vn = ternary.cache_update %new, %pos outs(%v) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %o = ternary.attention %q, %kn, %vn, %pos outs(%e) {blocked, causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return %o, %kn, %vn : tensor<?x4x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>
}

// -----

// Two attentions read the rows: the second could read what another thread has not written.
// CHECK-LABEL: func.func @twice
// CHECK-NOT: solo
// CHECK-NOT: new(
// BARRIERS-LABEL: func.func @setun_entry_twice
func.func @twice(%q: tensor<?x4x8xf32> {bitnet.name = "q", bitnet.dims = ["T"]},
                 %new: tensor<?x2x8xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                 %k: tensor<?x2x8xf32> {bitnet.state = "k", bitnet.dims = ["C"]},
                 %v: tensor<?x2x8xf32> {bitnet.state = "v", bitnet.dims = ["C"]})
    -> (tensor<?x4x8xf32> {bitnet.name = "o", bitnet.dims = ["T"]}, tensor<?x2x8xf32> {bitnet.state = "k", bitnet.dims = ["C"]},
        tensor<?x2x8xf32> {bitnet.state = "v", bitnet.dims = ["C"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %q, %c0 : tensor<?x4x8xf32>
  %e = tensor.empty(%t) : tensor<?x4x8xf32>
  %kn = ternary.cache_update %new, %pos outs(%k) {blocked} : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  %vn = ternary.cache_update %new, %pos outs(%v) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  %p = ternary.attention %q, %kn, %vn, %pos outs(%e) {blocked, causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  %o = ternary.attention %p, %kn, %vn, %pos outs(%e) {blocked, causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return %o, %kn, %vn : tensor<?x4x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32>
}
