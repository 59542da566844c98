// RUN: setun-opt %s --ternary-lower-tiles | FileCheck %s
// RUN: setun-opt %s --ternary-lower-tiles='emulate=amx-int8' | FileCheck %s --check-prefix=EMULATED

// Five fields are two pairs and a single one; up to 16 tokens are one tile. Sums of a token lie 2 * 5 * 16 numbers from
// those of the next.
// CHECK-LABEL: func.func @five_fields
// CHECK: scf.if
// CHECK: call @dot_tiles_2x2
// CHECK: call @dot_tiles_2x1
// CHECK: else
// CHECK: call @dot_tiles_1x2
// CHECK: call @dot_tiles_1x1
// CHECK-NOT: ternary.dot_tiles
// CHECK-LABEL: func.func private @dot_tiles_2x2(
// CHECK-SAME: %[[ROWS:.*]]: i16, %[[COLS:.*]]: i16, %[[DEPTH:.*]]: i16, %{{.*}}: !llvm.ptr
// CHECK-SAME: passthrough = ["noinline", "optsize", "setun-opaque"]
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.x86.tileloadd64.internal"(%[[ROWS]], %c64{{.*}}_i16, {{.*}} -> !llvm.x86_amx
// CHECK: scf.for {{.*}} -> (!llvm.x86_amx, !llvm.x86_amx, !llvm.x86_amx, !llvm.x86_amx)
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.tileloadd64.internal"(%[[ROWS]], %[[COLS]],
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.tileloadd64.internal"(%[[DEPTH]],
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.x86.tdpbsud.internal"(%[[ROWS]], %{{.*}}, %[[COLS]],
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.x86.tilestored64.internal"(%[[ROWS]],
// CHECK-NOT: func.func private @dot_tiles_2x2

// EMULATED-LABEL: func.func private @dot_tiles_2x2(
// EMULATED-SAME: ternary.kernel_row = "amxint8"
// EMULATED-NOT: llvm.call_intrinsic
// EMULATED: ternary.dot {{.*}}max_code = 255
// EMULATED-NOT: llvm.call_intrinsic
func.func @five_fields(%x: memref<?x64xi8>, %u: memref<5x96x64xi8>, %s: memref<128x2x5x16xi32>, %i: index, %n: index)
    attributes {ternary.kernel_row = "amxint8"} {
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%n) blocks(%i) width(%i)
    : memref<?x64xi8>, memref<5x96x64xi8>, memref<128x2x5x16xi32>
  // Another piece shares the functions.
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%n) blocks(%i) width(%n)
    : memref<?x64xi8>, memref<5x96x64xi8>, memref<128x2x5x16xi32>
  return
}
