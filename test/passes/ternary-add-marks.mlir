// RUN: setun-opt %s --split-input-file --verify-diagnostics --ternary-add-marks | FileCheck %s

// The address of the invocation's mark is read once; each thread tells its start, the end of each operation by its number
// and the end of a wait. Operations without a number get the next ones, and no number is left to tell kernels apart.
// CHECK-LABEL: func.func @setun_entry_f
// CHECK-SAME: %[[INV:[a-z0-9]*]]: !llvm.ptr, %[[THREAD:[a-z0-9]*]]: i32
// CHECK-SAME: ternary.operations = [{kind = "norm", name = "n"}, {kind = "gated"}, {kind = "copy", rows = 1 : i64}]
// CHECK-DAG: %[[MARK:.*]] = llvm.load
// CHECK-DAG: %[[ON:.*]] = llvm.icmp "ne" %[[MARK]]
// CHECK: scf.if %[[ON]]
// CHECK: %[[BEGIN:.*]] = llvm.mlir.constant(-1 : i32)
// CHECK: %[[DATA:.*]] = llvm.load
// CHECK: llvm.call %[[MARK]](%[[DATA]], %[[THREAD]], %[[BEGIN]]) : !llvm.ptr, (!llvm.ptr, i32, i32) -> ()
// CHECK: ternary.norm {{.*}} {norm = #bitnet.norm<rms, eps = {{[^>]*}}>, ternary.compute}
// CHECK: scf.if %[[ON]]
// CHECK: llvm.mlir.constant(0 : i32)
// CHECK: llvm.call %[[MARK]]
// CHECK: llvm.call %{{.*}}(%[[THREAD]])
// CHECK: scf.if %[[ON]]
// CHECK: llvm.mlir.constant(-2 : i32)
// CHECK: llvm.call %[[MARK]]
// CHECK: ternary.gated
// CHECK: scf.if %[[ON]]
// CHECK: llvm.mlir.constant(1 : i32)
// CHECK: llvm.call %[[MARK]]
// No barrier between: no wait.
// CHECK-NOT: scf.if
// CHECK: memref.copy {{.*}} {ternary.compute}
// CHECK: scf.if %[[ON]]
// CHECK: llvm.mlir.constant(2 : i32)
// CHECK: llvm.call %[[MARK]]
// CHECK-NOT: scf.if
// CHECK: return
func.func @setun_entry_f(%inv: !llvm.ptr, %thread: i32, %barrier: !llvm.ptr, %x: memref<1x4xf32>, %y: memref<1x4xf32>, %z: memref<1x4xf32>)
    attributes {ternary.operations = [{kind = "norm", name = "n"}, {kind = "gated"}]} {
  ternary.norm %x outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>, ternary.compute, ternary.operation = 0 : i64}
    : (memref<1x4xf32>, memref<1x4xf32>) -> ()
  llvm.call %barrier(%thread) : !llvm.ptr, (i32) -> ()
  ternary.gated %y, %y outs(%x) {act = #bitnet.gate_act<silu>, ternary.compute, ternary.operation = 1 : i64}
    : (memref<1x4xf32>, memref<1x4xf32>, memref<1x4xf32>) -> ()
  memref.copy %y, %z {ternary.compute} : memref<1x4xf32> to memref<1x4xf32>
  return
}

// Other functions are left alone.
// CHECK-LABEL: func.func @other
// CHECK-NEXT: return
func.func @other(%inv: !llvm.ptr, %thread: i32) {
  return
}

// -----

// expected-error@+1 {{expects an entry point with the arguments of setun_entry_fn (ternary-lower-entries)}}
func.func @not_lowered() attributes {ternary.operations = []} {
  return
}

// -----

// expected-error@+1 {{expects ternary.operations to be a list (ternary-describe-operations)}}
func.func @no_list(%inv: !llvm.ptr, %thread: i32) attributes {ternary.operations} {
  return
}
