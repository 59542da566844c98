// RUN: setun-opt %s --split-input-file --verify-diagnostics --ternary-outline-kernels | FileCheck %s

#layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>
// The same operation on the same types is one kernel, called with each call's buffers and the thread's numbers.
// CHECK-LABEL: func.func @entry
// CHECK-SAME: %[[INV:.*]]: !llvm.ptr, %[[THREAD:.*]]: i32, %[[X:.*]]: memref<?x8xf32>, %[[Y:.*]]: memref<?x8xf32>
// CHECK-DAG: %[[T:.*]] = arith.index_cast %[[THREAD]] : i32 to index
// CHECK-DAG: %[[COUNT:.*]] = llvm.load
// CHECK-DAG: %[[N:.*]] = arith.index_cast %[[COUNT]] : i32 to index
// CHECK: call @kernel_norm_0(%[[X]], %[[Y]], %[[T]], %[[N]])
// CHECK: call @kernel_norm_0(%[[Y]], %[[X]], %[[T]], %[[N]])
// Another attribute, another kernel.
// CHECK: call @kernel_norm_1(%[[X]], %[[Y]],
// One buffer in two places is passed once, and is another kernel.
// CHECK: call @kernel_norm_2(%[[X]], %[[T]], %[[N]])
func.func @entry(%inv: !llvm.ptr, %thread: i32, %x: memref<?x8xf32>, %y: memref<?x8xf32>) {
  ternary.norm %x outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>, ternary.compute} : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  ternary.norm %y outs(%x) {norm = #bitnet.norm<rms, eps = 1.0e-5>, ternary.compute} : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  ternary.norm %x outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-6>, ternary.compute} : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  ternary.norm %x outs(%x) {norm = #bitnet.norm<rms, eps = 1.0e-5>, ternary.compute} : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  return
}
// Matmuls carry their row, which their kernel keeps.
// CHECK-LABEL: func.func @matmul
// CHECK: call @kernel_matmul_avx2_3(
func.func @matmul(%inv: !llvm.ptr, %thread: i32, %x: memref<?x4xi8>, %p: memref<64xi8>, %s: memref<1x1x64xf32>,
                  %c: memref<?xi32>, %y: memref<?x2xi32>) {
  ternary.matmul %x, %p, %s sums(%c) acc_outs(%y) {layout = #layout, kernel = #ternary.kernel<"avx2", tokens = 2>, ternary.compute}
    : (memref<?x4xi8>, memref<64xi8>, memref<1x1x64xf32>, memref<?xi32>, memref<?x2xi32>) -> ()
  return
}
// A body's captured scalars become arguments; equal bodies share the kernel, others do not.
// CHECK-LABEL: func.func @bodies
// CHECK-SAME: %[[A:[a-z0-9]*]]: f32, %[[B:[a-z0-9]*]]: f32, %[[V:[a-z0-9]*]]: memref<4xf32>
// CHECK: call @[[MUL:kernel_generic_[0-9]+]](%[[V]], %[[A]], %{{.*}}, %{{.*}})
// CHECK: call @[[MUL]](%[[V]], %[[B]],
// CHECK-NOT: call @[[MUL]](
// CHECK: call @kernel_generic_{{[0-9]+}}(%[[V]], %[[A]],
#id = affine_map<(i) -> (i)>
func.func @bodies(%inv: !llvm.ptr, %thread: i32, %a: f32, %b: f32, %v: memref<4xf32>) {
  linalg.generic {indexing_maps = [#id], iterator_types = ["parallel"]} outs(%v : memref<4xf32>) attrs = {ternary.compute} {
  ^bb0(%o: f32):
    %m = arith.mulf %o, %a : f32
    linalg.yield %m : f32
  }
  linalg.generic {indexing_maps = [#id], iterator_types = ["parallel"]} outs(%v : memref<4xf32>) attrs = {ternary.compute} {
  ^bb0(%o: f32):
    %m = arith.mulf %o, %b : f32
    linalg.yield %m : f32
  }
  linalg.generic {indexing_maps = [#id], iterator_types = ["parallel"]} outs(%v : memref<4xf32>) attrs = {ternary.compute} {
  ^bb0(%o: f32):
    %m = arith.addf %o, %a : f32
    linalg.yield %m : f32
  }
  return
}
// CHECK: func.func private @kernel_norm_0(%{{.*}}: memref<?x8xf32>, %{{.*}}: memref<?x8xf32>, %{{.*}}: index, %{{.*}}: index) attributes {ternary.kernel}
// CHECK-NEXT: ternary.norm
// CHECK-NOT: ternary.compute
// CHECK: func.func private @kernel_matmul_avx2_3({{.*}} attributes {ternary.kernel, ternary.kernel_row = "avx2"}

// -----

func.func @tensors(%inv: !llvm.ptr, %thread: i32, %x: tensor<2x8xf32>) {
  // expected-error@+1 {{expects an operation on buffers in an entry point (ternary-lower-entries)}}
  %y = ternary.norm %x outs(%x) {norm = #bitnet.norm<rms, eps = 1.0e-5>, ternary.compute} : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return
}

// -----

// expected-error@+1 {{expects an entry point with the arguments of setun_entry_fn (ternary-lower-entries)}}
func.func @not_lowered(%x: memref<2x8xf32>) {
  ternary.norm %x outs(%x) {norm = #bitnet.norm<rms, eps = 1.0e-5>, ternary.compute} : (memref<2x8xf32>, memref<2x8xf32>) -> ()
  return
}
