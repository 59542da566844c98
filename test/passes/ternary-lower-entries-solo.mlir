// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(ternary-mark-entries,one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map},ternary-lower-entries,canonicalize,cse)' | FileCheck %s

// With one token every thread normalises for itself, into its own part of the workspace; with several there is one part,
// and a barrier.
// CHECK-LABEL: func.func @setun_workspace_private
// CHECK-SAME: %[[DIMS:.*]]: !llvm.ptr, %[[COUNT:.*]]: i32) -> i64
// CHECK: %[[THREADS:.*]] = arith.index_castui %[[COUNT]]
// CHECK: %[[BYTES:.*]] = arith.andi
// CHECK: %[[ONE:.*]] = arith.cmpi eq, %{{.*}}, %c1
// CHECK: %[[PARTS:.*]] = arith.select %[[ONE]], %[[THREADS]], %c1
// CHECK: arith.muli %[[BYTES]], %[[PARTS]]
// CHECK-LABEL: func.func @setun_entry_private
// CHECK-SAME: %{{.*}}: !llvm.ptr, %[[NUMBER:.*]]: i32) {
// CHECK: %[[THREAD:.*]] = arith.index_castui %[[NUMBER]]
// CHECK: %[[BYTES:.*]] = arith.andi
// CHECK: %[[PART:.*]] = arith.select %{{.*}}, %[[THREAD]], %c0
// CHECK: %[[OFFSET:.*]] = arith.muli %[[BYTES]], %[[PART]]
// CHECK: %[[OWN:.*]] = memref.view %{{.*}}[%[[OFFSET]]]
// CHECK: ternary.norm %{{.*}} outs(%[[OWN]]) {{.*}}ternary.alone
// CHECK: %[[SEVERAL:.*]] = arith.cmpi ne, %{{.*}}, %c1
// CHECK: scf.if %[[SEVERAL]] {
// CHECK: llvm.call
// CHECK: }
// CHECK: linalg.matmul {{.*}}ins(%[[OWN]]
// CHECK-NOT: llvm.call
func.func @private(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<?x8xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e0 = tensor.empty(%t) : tensor<?x8xf32>
  %e1 = tensor.empty(%t) : tensor<?x8xf32>
  %n = ternary.norm %x outs(%e0) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = linalg.matmul ins(%n, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%e1 : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Always one token: no barrier at all between the two, though the second is split among the threads.
// CHECK-LABEL: func.func @setun_entry_always
// CHECK: ternary.norm {{.*}}ternary.alone
// CHECK-NOT: llvm.call
// CHECK: linalg.matmul
func.func @always(%x: tensor<1x8xf32> {bitnet.name = "x"}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<1x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e0 = tensor.empty() : tensor<1x8xf32>
  %e1 = tensor.empty() : tensor<1x8xf32>
  %n = ternary.norm %x outs(%e0) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %y = linalg.matmul ins(%n, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%e1 : tensor<1x8xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}

// -----

// Never one token: as any other operation.
// CHECK-LABEL: func.func @setun_entry_never
// CHECK: ternary.norm {{.*}} {norm = {{[^,]*}}, eps = {{[^,]*}}, ternary.compute}
// CHECK-NOT: scf.if
// CHECK: llvm.call
// CHECK: linalg.matmul
func.func @never(%x: tensor<2x8xf32> {bitnet.name = "x"}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<2x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e0 = tensor.empty() : tensor<2x8xf32>
  %e1 = tensor.empty() : tensor<2x8xf32>
  %n = ternary.norm %x outs(%e0) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %y = linalg.matmul ins(%n, %w : tensor<2x8xf32>, tensor<8x8xf32>) outs(%e1 : tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// -----

// What the caller gets is one tensor for all threads.
// CHECK-LABEL: func.func @setun_entry_output
// CHECK: ternary.norm {{.*}} {norm = {{[^,]*}}, eps = {{[^,]*}}, ternary.compute}
// CHECK-NOT: scf.if
// CHECK: llvm.call
// CHECK: linalg.matmul
func.func @output(%x: tensor<1x8xf32> {bitnet.name = "x"}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<1x8xf32> {bitnet.name = "n"}, tensor<1x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e0 = tensor.empty() : tensor<1x8xf32>
  %e1 = tensor.empty() : tensor<1x8xf32>
  %n = ternary.norm %x outs(%e0) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %y = linalg.matmul ins(%n, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%e1 : tensor<1x8xf32>) -> tensor<1x8xf32>
  return %n, %y : tensor<1x8xf32>, tensor<1x8xf32>
}

// -----

// One tensor that a matmul and then a gate write, in place: shared, so the gate is the work of one thread.
// CHECK-LABEL: func.func @setun_entry_in_place
// CHECK: linalg.matmul
// CHECK-NOT: scf.if
// CHECK: llvm.call
// CHECK: linalg.generic
// CHECK-NOT: ternary.alone
// CHECK: llvm.call
// CHECK: linalg.matmul
func.func @in_place(%x: tensor<1x8xf32> {bitnet.name = "x"}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<1x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e = tensor.empty() : tensor<1x8xf32>
  %a = linalg.matmul ins(%x, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%e : tensor<1x8xf32>) -> tensor<1x8xf32>
  %g = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      outs(%a : tensor<1x8xf32>) {
    ^bb0(%v: f32):
      %two = arith.addf %v, %v : f32
      linalg.yield %two : f32
  } -> tensor<1x8xf32>
  %f = tensor.empty() : tensor<1x8xf32>
  %y = linalg.matmul ins(%g, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%f : tensor<1x8xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}

// -----

// Private and shared tensors never use one place: 64 bytes for each of 2 normalised rows in turn (one place for each
// thread), 64 for the product.
// CHECK-LABEL: func.func @setun_workspace_apart
// CHECK-SAME: %{{.*}}: !llvm.ptr, %[[COUNT:.*]]: i32) -> i64
// CHECK: %[[THREADS:.*]] = arith.index_castui %[[COUNT]]
// CHECK: %[[PRIVATE:.*]] = arith.muli %[[THREADS]], %c64
// CHECK: %[[BOTH:.*]] = arith.addi %[[PRIVATE]], %c64
// CHECK: arith.index_cast %[[BOTH]]
// CHECK-LABEL: func.func @setun_entry_apart
// CHECK: ternary.norm %{{.*}} outs(%[[OWN:.*]]) {
// CHECK-NOT: llvm.call
// CHECK: linalg.matmul {{.*}}ins(%[[OWN]], %{{.*}} outs(%[[ALL:[^ ]*]]
// CHECK: llvm.call
// CHECK: ternary.norm %[[ALL]] outs(%[[OWN]]) {
// CHECK-NOT: llvm.call
// CHECK: linalg.matmul {{.*}}ins(%[[OWN]]
func.func @apart(%x: tensor<1x8xf32> {bitnet.name = "x"}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<1x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e0 = tensor.empty() : tensor<1x8xf32>
  %e1 = tensor.empty() : tensor<1x8xf32>
  %n = ternary.norm %x outs(%e0) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %a = linalg.matmul ins(%n, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%e1 : tensor<1x8xf32>) -> tensor<1x8xf32>
  %f = tensor.empty() : tensor<1x8xf32>
  %m = ternary.norm %a outs(%f) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %g = tensor.empty() : tensor<1x8xf32>
  %y = linalg.matmul ins(%m, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%g : tensor<1x8xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}

// -----

// Codes, sums and the one scale of all tokens are a thread's own together.
// CHECK-LABEL: func.func @setun_entry_per_tensor
// CHECK: ternary.quantize {{.*}}ternary.alone
// CHECK: %[[SEVERAL:.*]] = arith.cmpi ne
// CHECK: scf.if %[[SEVERAL]]
// CHECK: ternary.matmul
func.func @per_tensor(%x: tensor<?x64xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x64xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x64xf32>
  %p = ternary.section {offset = 0} : tensor<1024xi8>
  %w = ternary.section {offset = 1024} : tensor<1x1x64xf32>
  %codes = tensor.empty(%t) : tensor<?x64xi8>
  %scale = tensor.empty() : tensor<1xf32>
  %sums = tensor.empty(%t) : tensor<?xi32>
  %q:3 = ternary.quantize %x outs(%codes, %scale, %sums) {activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0e-5>}
    : (tensor<?x64xf32>, tensor<?x64xi8>, tensor<1xf32>, tensor<?xi32>) -> (tensor<?x64xi8>, tensor<1xf32>, tensor<?xi32>)
  %e = tensor.empty(%t) : tensor<?x64xf32>
  %y = ternary.matmul %q#0, %p, %w act_scale(%q#1) sums(%q#2) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 64, cols = 64>}
    : (tensor<?x64xi8>, tensor<1024xi8>, tensor<1x1x64xf32>, tensor<1xf32>, tensor<?xi32>, tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Rows of T tokens, then the last of them alone: the first barrier is needed unless T is 1, the second never.
// CHECK-LABEL: func.func @setun_entry_last
// CHECK: ternary.norm {{.*}}ternary.alone
// CHECK: scf.if
// CHECK: llvm.call
// CHECK: ternary.hadamard {{.*}}ternary.alone
// CHECK-NOT: llvm.call
// CHECK: linalg.matmul
func.func @last(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<1x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %last = arith.subi %t, %c1 : index
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %n = ternary.norm %x outs(%e) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %row = tensor.extract_slice %n[%last, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
  %f = tensor.empty() : tensor<1x8xf32>
  %h = ternary.hadamard %row outs(%f) {block = 8} : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %g = tensor.empty() : tensor<1x8xf32>
  %y = linalg.matmul ins(%h, %w : tensor<1x8xf32>, tensor<8x8xf32>) outs(%g : tensor<1x8xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}

// -----

// An operation that says itself that it is solo may write what all threads share: it is no hazard with one token.
// CHECK-LABEL: func.func @setun_entry_given
// CHECK: ternary.cache_update {{.*}}ternary.alone
// CHECK: %[[SEVERAL:.*]] = arith.cmpi ne
// CHECK: scf.if %[[SEVERAL]]
// CHECK: llvm.call
// CHECK: }
// CHECK-NOT: llvm.call
// CHECK: linalg.matmul
func.func @given(%new: tensor<?x2x4xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                 %k: tensor<8x2x4xf32> {bitnet.state = "k"}, %w: tensor<4x4xf32> {bitnet.name = "w"})
    -> (tensor<16x4xf32> {bitnet.name = "y"}, tensor<8x2x4xf32> {bitnet.state = "k"}) attributes {bitnet.entry, bitnet.max_context = 8 : i64} {
  %u = ternary.cache_update %new, %pos outs(%k) {solo} : (tensor<?x2x4xf32>, i64, tensor<8x2x4xf32>) -> tensor<8x2x4xf32>
  %rows = tensor.collapse_shape %u [[0, 1], [2]] : tensor<8x2x4xf32> into tensor<16x4xf32>
  %e = tensor.empty() : tensor<16x4xf32>
  %y = linalg.matmul ins(%rows, %w : tensor<16x4xf32>, tensor<4x4xf32>) outs(%e : tensor<16x4xf32>) -> tensor<16x4xf32>
  return %y, %u : tensor<16x4xf32>, tensor<8x2x4xf32>
}

// -----

// A barrier that is skipped with one token orders nothing else there: the product and what reads it need their own.
// CHECK-LABEL: func.func @setun_entry_skipped
// CHECK: linalg.matmul
// CHECK: ternary.norm
// CHECK: scf.if
// CHECK: }
// CHECK: linalg.matmul
// CHECK: llvm.call
// CHECK: linalg.matmul
func.func @skipped(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %w: tensor<8x8xf32> {bitnet.name = "w"})
    -> (tensor<?x8xf32> {bitnet.name = "y", bitnet.dims = ["T"]}, tensor<?x8xf32> {bitnet.name = "z", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e0 = tensor.empty(%t) : tensor<?x8xf32>
  %e1 = tensor.empty(%t) : tensor<?x8xf32>
  %e2 = tensor.empty(%t) : tensor<?x8xf32>
  %e3 = tensor.empty(%t) : tensor<?x8xf32>
  %a = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%e0 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %n = ternary.norm %x outs(%e1) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = linalg.matmul ins(%n, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%e2 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %z = linalg.matmul ins(%a, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%e3 : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y, %z : tensor<?x8xf32>, tensor<?x8xf32>
}
