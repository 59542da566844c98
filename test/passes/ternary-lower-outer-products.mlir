// RUN: setun-opt %s --ternary-lower-tiles | FileCheck %s
// RUN: setun-opt %s --ternary-lower-tiles='emulate=sme' | FileCheck %s --check-prefix=EMULATED

// One call for any number of tokens; blocks times width are its steps.
// CHECK-LABEL: func.func @unsigned_codes(
// CHECK-SAME: %[[I:[a-z0-9]+]]: index, %[[N:[a-z0-9]+]]: index, %[[W:[a-z0-9]+]]: index)
// CHECK: %[[STEPS:.*]] = arith.muli %[[I]], %[[W]]
// CHECK: call @outer_products(%[[N]], %[[STEPS]], {{.*}}, %c6144{{.*}}, %c5{{.*}},
// CHECK-NOT: ternary.dot_tiles
// CHECK: return
func.func @unsigned_codes(%x: memref<?x64xi8>, %u: memref<5x96x64xi8>, %s: memref<128x2x5x16xi32>, %i: index,
    %n: index, %w: index) attributes {ternary.kernel_row = "sme"} {
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%n) blocks(%i) width(%w)
    : memref<?x64xi8>, memref<5x96x64xi8>, memref<128x2x5x16xi32>
  return
}

// Another function multiplies signed codes, and two operations share it.
// CHECK-LABEL: func.func @signed_codes(
// CHECK-COUNT-2: call @outer_products_signed(
func.func @signed_codes(%x: memref<?x64xi8>, %u: memref<4x128x64xi8>, %s: memref<128x1x4x16xi32>, %i: index)
    attributes {ternary.kernel_row = "sme"} {
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%i) blocks(%i) width(%i) {signed_codes}
    : memref<?x64xi8>, memref<4x128x64xi8>, memref<128x1x4x16xi32>
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%i) blocks(%i) width(%i) {signed_codes}
    : memref<?x64xi8>, memref<4x128x64xi8>, memref<128x1x4x16xi32>
  return
}

// Its caller enters streaming mode; it saves what its callers left in the tiles and switches them on and off.
// CHECK-LABEL: func.func private @outer_products(
// CHECK-SAME: passthrough = ["noinline", "aarch64_pstate_sm_enabled"]
// CHECK-SAME: ternary.kernel_row = "sme"
// CHECK: %[[BLOCK:.*]] = llvm.call_intrinsic "llvm.aarch64.sme.get.tpidr2"
// CHECK: scf.if
// CHECK: llvm.call_intrinsic "llvm.aarch64.sme.str"
// CHECK: llvm.call_intrinsic "llvm.aarch64.sme.set.tpidr2"
// CHECK: llvm.call_intrinsic "llvm.aarch64.sme.za.enable"
// Codes are written as rows of a tile and read as columns.
// CHECK: llvm.call_intrinsic "llvm.aarch64.sme.ld1w.horiz"
// CHECK: llvm.call_intrinsic "llvm.aarch64.sme.st1w.vert"
// Two vectors of tokens by two of weights, four tiles of sums.
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.aarch64.sme.ld1w.horiz"
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.aarch64.sve.ld1.nxv16i8"
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.aarch64.sme.sumopa.wide.nxv16i8"
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.aarch64.sme.st1w.horiz"
// CHECK: llvm.call_intrinsic "llvm.aarch64.sme.za.disable"
// CHECK-LABEL: func.func private @outer_products_signed(
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.aarch64.sme.smopa.wide.nxv16i8"
// CHECK-NOT: func.func private @outer_products

// EMULATED-LABEL: func.func private @dot_tiles_2x2(
// EMULATED-SAME: ternary.kernel_row = "sme"
// EMULATED-NOT: llvm.call_intrinsic
// EMULATED: ternary.dot {{.*}}max_code = 255 : i64}
// EMULATED-LABEL: func.func private @dot_tiles_2x2_signed(
// EMULATED: ternary.dot {{.*}}max_code = 128 : i64, signed_codes
// EMULATED-NOT: llvm.call_intrinsic
