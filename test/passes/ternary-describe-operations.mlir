// RUN: setun-opt %s --split-input-file --verify-diagnostics --ternary-describe-operations | FileCheck %s

// A table is read a row for each token, a dense matrix once a run, a state as far as the session
// has come, rotary tables a row for each token. Rows are numbers, or -1 - s for symbol s. The name is that of the largest
// weights, else of the state, else of the operation's place.
#abi = {arguments = array<i64: 0, 3, 2>, outputs = array<i64>, position = 1 : i64,
        shapes = [array<i64: -1>, array<i64: 1, 3>, array<i64: -2, 2, 4>],
        state_arguments = array<i64: 2>, state_results = array<i64: 0>}
// CHECK-LABEL: func.func @model
// CHECK-SAME: ternary.operations = [
// CHECK-SAME: {detail = "bf16", kind = "embedding", name = "embed_tokens", row_bytes = 16 : i64, rows = -1 : i64, shape = "? x 8"},
// CHECK-SAME: {kind = "rotary", row_bytes = 16 : i64, rows = -1 : i64, shape = "? x 2 x 4"},
// CHECK-SAME: {kind = "cache_update", name = "layers.0.k", rows = -1 : i64, shape = "? x 2 x 4"},
// CHECK-SAME: {context_bytes = 32 : i64, kind = "attention", name = "layers.0.k", rows = -1 : i64, shape = "? x 2 x 4"},
// CHECK-SAME: {detail = "bf16", float_macs = 24 : i64, kind = "dense", name = "embed_tokens", rows = 1 : i64, shape = "3 x 8", weight_bytes = 48 : i64},
// CHECK-SAME: {kind = "elementwise", name = "model.act", rows = 1 : i64, shape = "1 x 3"},
// CHECK-SAME: {kind = "copy", rows = 1 : i64, shape = "1 x 3"}]
// CHECK: ternary.embedding {{.*}}ternary.operation = 0
// CHECK: ternary.rotary {{.*}}ternary.operation = 1
// CHECK: ternary.cache_update {{.*}}ternary.operation = 2
// CHECK: ternary.attention {{.*}}ternary.operation = 3
// CHECK: ternary.dense {{.*}}ternary.operation = 4
// CHECK: ternary.operation = 5
// CHECK: memref.copy {{.*}}ternary.operation = 6
func.func @model(%tokens: memref<?xi64> {bitnet.name = "tokens", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                 %k: memref<?x2x4xf32> {bitnet.state = "layers.0.k", bitnet.dims = ["C"]}, %out: memref<1x3xf32>)
    -> memref<?x2x4xf32> attributes {bitnet.entry, bitnet.max_context = 8 : i64, ternary.abi = #abi} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = memref.dim %tokens, %c0 : memref<?xi64>
  %last = arith.subi %t, %c1 : index
  %table = ternary.section {offset = 0} : memref<3x8xbf16> loc("embed_tokens")
  %cos = ternary.section {offset = 1024} : memref<8x2xf32>
  %sin = ternary.section {offset = 1088} : memref<8x2xf32>
  %x = memref.alloc(%t) : memref<?x8xf32>
  ternary.embedding %table, %tokens outs(%x) : (memref<3x8xbf16>, memref<?xi64>, memref<?x8xf32>) -> ()
  %h = memref.expand_shape %x [[0], [1, 2]] output_shape [%t, 2, 4] : memref<?x8xf32> into memref<?x2x4xf32>
  %r = memref.alloc(%t) : memref<?x2x4xf32>
  ternary.rotary %h, %cos, %sin, %pos outs(%r)
    : (memref<?x2x4xf32>, memref<8x2xf32>, memref<8x2xf32>, i64, memref<?x2x4xf32>) -> ()
  ternary.cache_update %r, %pos outs(%k) : (memref<?x2x4xf32>, i64, memref<?x2x4xf32>) -> ()
  ternary.attention %r, %k, %k, %pos outs(%h) {causal, scale = 0.5 : f32}
    : (memref<?x2x4xf32>, i64, memref<?x2x4xf32>, memref<?x2x4xf32>, memref<?x2x4xf32>) -> ()
  %row = memref.subview %x[%last, 0] [1, 8] [1, 1] : memref<?x8xf32> to memref<1x8xf32, strided<[8, 1], offset: ?>>
  %y = memref.alloc() : memref<1x3xf32>
  ternary.dense %row, %table outs(%y) : (memref<1x8xf32, strided<[8, 1], offset: ?>>, memref<3x8xbf16>, memref<1x3xf32>) -> ()
  linalg.exp ins(%y : memref<1x3xf32>) outs(%y : memref<1x3xf32>) loc("model.act")
  memref.copy %y, %out : memref<1x3xf32> to memref<1x3xf32>
  return %k : memref<?x2x4xf32>
}

// -----

// Multiply-adds of codes count as integers, of floats as floats; the scales belong to the weights.
#abi = {arguments = array<i64: 0, 1, 2, 3>, outputs = array<i64>, position = -1 : i64,
        shapes = [array<i64: -1, 4>, array<i64: -1>, array<i64: -1, 4>, array<i64: -1, 2>], state_arguments = array<i64>, state_results = array<i64>}
#layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>
// CHECK-LABEL: func.func @matmul
// CHECK-SAME: ternary.operations = [
// CHECK-SAME: {detail = "avx2 r16k4f4", int8_macs = 8 : i64, kind = "matmul", name = "q+k", rows = -1 : i64, shape = "2 x 4", weight_bytes = 10 : i64},
// CHECK-SAME: {detail = "r16k4f4", float_macs = 8 : i64, kind = "matmul", name = "q+k", rows = -1 : i64, shape = "2 x 4", weight_bytes = 10 : i64}]
func.func @matmul(%q: memref<?x4xi8>, %c: memref<?xi32>, %x: memref<?x4xf32>, %y: memref<?x2xf32>)
    attributes {bitnet.entry, ternary.abi = #abi} {
  %w = ternary.section {offset = 0} : memref<64xi8> loc("q+k")
  %s = ternary.section {offset = 64} : memref<1x1x64xf32> loc("scale")
  %c0 = arith.constant 0 : index
  %t = memref.dim %q, %c0 : memref<?x4xi8>
  %a = memref.alloc(%t) : memref<?xf32>
  ternary.matmul %q, %w, %s act_scale(%a) sums(%c) outs(%y) {layout = #layout, kernel = #ternary.kernel<"avx2", tokens = 2>}
    : (memref<?x4xi8>, memref<64xi8>, memref<1x1x64xf32>, memref<?xf32>, memref<?xi32>, memref<?x2xf32>) -> ()
  ternary.matmul %x, %w, %s outs(%y) {layout = #layout}
    : (memref<?x4xf32>, memref<64xi8>, memref<1x1x64xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

// expected-error@+1 {{expects ternary.abi (ternary-mark-entries) on an entry point}}
func.func @unmarked() attributes {bitnet.entry} {
  return
}

// -----

// Attributes that ternary-mark-entries did not write, and entries that are not bufferised.
// expected-error@+1 {{expects ternary.abi as ternary-mark-entries writes it, got {arguments = array<i64: 0>}}}
func.func @other_attribute(%x: memref<4xf32>) attributes {bitnet.entry, ternary.abi = {arguments = array<i64: 0>}} {
  return
}

// -----

#abi = {arguments = array<i64: 1>, outputs = array<i64>, position = -1 : i64, shapes = [array<i64: 4>],
        state_arguments = array<i64>, state_results = array<i64>}
// expected-error@+1 {{expects ternary.abi as ternary-mark-entries writes it}}
func.func @other_arguments(%x: memref<4xf32>) attributes {bitnet.entry, ternary.abi = #abi} {
  return
}

// -----

#abi = {arguments = array<i64: 0>, outputs = array<i64>, position = -1 : i64, shapes = [array<i64: 2, 4>],
        state_arguments = array<i64>, state_results = array<i64>}
func.func @tensors(%x: tensor<2x4xf32>) attributes {bitnet.entry, ternary.abi = #abi} {
  // expected-error@+1 {{expects buffers (one-shot-bufferize), got a tensor}}
  %e = tensor.empty() : tensor<2x4xf32>
  %y = ternary.norm %x outs(%e) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  return
}
