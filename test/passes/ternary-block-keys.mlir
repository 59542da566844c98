// RUN: setun-opt %s --split-input-file --ternary-block-keys | FileCheck %s

// A state that is only updated, read as keys and handed on is kept in blocks; values keep their rows.
// CHECK-LABEL: func.func @keys
// CHECK: %[[K:.*]] = ternary.cache_update %{{.*}}, %{{.*}} outs(%arg{{[0-9]}}) {blocked}
// CHECK: %[[V:.*]] = ternary.cache_update %{{.*}}, %{{.*}} outs(%arg{{[0-9]}}) :
// CHECK: ternary.attention %{{.*}}, %[[K]], %[[V]], %{{.*}} outs(%{{.*}}) {blocked, causal
// CHECK: return %{{.*}}, %[[K]], %[[V]]
func.func @keys(%q: tensor<?x4x8xf32> {bitnet.name = "q", bitnet.dims = ["T"]},
                %new: tensor<?x2x8xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                %k: tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]},
                %v: tensor<?x2x8xf16> {bitnet.state = "v", bitnet.dims = ["C"]})
    -> (tensor<?x4x8xf32> {bitnet.name = "o", bitnet.dims = ["T"]}, tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]},
        tensor<?x2x8xf16> {bitnet.state = "v", bitnet.dims = ["C"]}) attributes {bitnet.entry} {
  %kn = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %vn = ternary.cache_update %new, %pos outs(%v) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %o = ternary.attention %q, %kn, %vn, %pos outs(%q) {causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return %o, %kn, %vn : tensor<?x4x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>
}

// An entry that only writes the same state writes it in blocks, too.
// CHECK-LABEL: func.func @only_writes
// CHECK: ternary.cache_update %{{.*}}, %{{.*}} outs(%{{.*}}) {blocked}
func.func @only_writes(%new: tensor<?x2x8xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                       %k: tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]}) attributes {bitnet.entry} {
  %kn = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  return %kn : tensor<?x2x8xf16>
}

// -----

// Keys that are values as well: a copy in blocks, of a whole number of them.
// CHECK-LABEL: func.func @both
// CHECK: %[[K:.*]] = ternary.cache_update %{{.*}}, %{{.*}} outs(%arg{{[0-9]}}) :
// CHECK: %[[ROWS:.*]] = tensor.dim %[[K]]
// CHECK: %[[BLOCKS:.*]] = arith.ceildivui %[[ROWS]], %[[STEP:.*]] :
// CHECK: %[[PADDED:.*]] = arith.muli %[[BLOCKS]], %[[STEP]]
// CHECK: %[[EMPTY:.*]] = tensor.empty(%[[PADDED]]) : tensor<?x2x8xf16>
// CHECK: %[[COPY:.*]] = ternary.cache_update %[[K]], %{{.*}} outs(%[[EMPTY]]) {blocked}
// CHECK: ternary.attention %{{.*}}, %[[COPY]], %[[K]], %{{.*}} outs(%{{.*}}) {blocked
// CHECK: return %{{.*}}, %[[K]]
func.func @both(%q: tensor<?x4x8xf32> {bitnet.name = "q", bitnet.dims = ["T"]},
                %new: tensor<?x2x8xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                %k: tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x4x8xf32> {bitnet.name = "o", bitnet.dims = ["T"]}, tensor<?x2x8xf16> {bitnet.state = "k", bitnet.dims = ["C"]})
    attributes {bitnet.entry} {
  %kn = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf16>) -> tensor<?x2x8xf16>
  %o = ternary.attention %q, %kn, %kn, %pos outs(%q) {scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return %o, %kn : tensor<?x4x8xf32>, tensor<?x2x8xf16>
}

// -----

// Another entry gives out the rows as a result: no entry may keep them in blocks.
// CHECK-LABEL: func.func @attends
// CHECK: ternary.cache_update %{{.*}}, %{{.*}} outs(%arg{{[0-9]}}) :
// CHECK: ternary.cache_update %{{.*}}, %{{.*}} outs(%{{.*}}) {blocked}
func.func @attends(%q: tensor<?x4x8xf32> {bitnet.name = "q", bitnet.dims = ["T"]},
                   %new: tensor<?x2x8xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                   %k: tensor<?x2x8xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x4x8xf32> {bitnet.name = "o", bitnet.dims = ["T"]}, tensor<?x2x8xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    attributes {bitnet.entry} {
  %kn = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  %o = ternary.attention %q, %kn, %new, %pos outs(%q) {scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return %o, %kn : tensor<?x4x8xf32>, tensor<?x2x8xf32>
}

func.func @shows(%pos: i64 {bitnet.position}, %k: tensor<?x2x8xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x2x8xf32> {bitnet.name = "rows", bitnet.dims = ["C"]}, tensor<?x2x8xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    attributes {bitnet.entry} {
  return %k, %k : tensor<?x2x8xf32>, tensor<?x2x8xf32>
}

// -----

// No cache at all, and a number of rows that is known.
// CHECK-LABEL: func.func @no_cache
// CHECK: %[[EMPTY:.*]] = tensor.empty() : tensor<48x2x8xf32>
// CHECK: ternary.cache_update %arg1, %{{.*}} outs(%[[EMPTY]]) {blocked} : (tensor<40x2x8xf32>, i64, tensor<48x2x8xf32>)
func.func @no_cache(%q: tensor<40x4x8xf32>, %k: tensor<40x2x8xf32>, %pos: i64) -> tensor<40x4x8xf32> {
  %o = ternary.attention %q, %k, %k, %pos outs(%q) {scale = 0.5 : f32}
    : (tensor<40x4x8xf32>, i64, tensor<40x2x8xf32>, tensor<40x2x8xf32>, tensor<40x4x8xf32>) -> tensor<40x4x8xf32>
  return %o : tensor<40x4x8xf32>
}

// -----

// On buffers nothing is copied.
// CHECK-LABEL: func.func @buffers
// CHECK-NOT: ternary.cache_update
func.func @buffers(%q: memref<?x4x8xf32>, %pos: i64, %k: memref<16x2x8xf32>) {
  ternary.attention %q, %k, %k, %pos outs(%q) {causal, scale = 0.5 : f32}
    : (memref<?x4x8xf32>, i64, memref<16x2x8xf32>, memref<16x2x8xf32>, memref<?x4x8xf32>) -> ()
  return
}
