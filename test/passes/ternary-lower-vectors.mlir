// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(ternary-lower-vectors))' | FileCheck %s

// CHECK-LABEL: func.func @vnni
// CHECK-SAME: %[[ACC:.*]]: vector<16xi32>, %[[U:.*]]: vector<64xi8>, %[[S:.*]]: vector<64xi8>
// CHECK: %[[R:.*]] = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"(%[[ACC]], %[[U]], %[[S]])
// CHECK: return %[[R]]
func.func @vnni(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32>
    attributes {ternary.kernel_row = "avx512vnni"} {
  %r = ternary.dot %acc, %u, %s {max_code = 255} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// CHECK-LABEL: func.func @bw
// CHECK-SAME: %[[ACC:.*]]: vector<16xi32>, %[[U:.*]]: vector<64xi8>, %[[S:.*]]: vector<64xi8>
// CHECK: %[[PAIRS:.*]] = llvm.call_intrinsic "llvm.x86.avx512.pmaddubs.w.512"(%[[U]], %[[S]])
// CHECK: %[[SUMS:.*]] = llvm.call_intrinsic "llvm.x86.avx512.pmaddw.d.512"(%[[PAIRS]], %{{.*}})
// CHECK: arith.addi %[[ACC]], %[[SUMS]]
func.func @bw(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32>
    attributes {ternary.kernel_row = "avx512bw"} {
  %r = ternary.dot %acc, %u, %s {max_code = 3} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// Two halves of 256 bits.
// CHECK-LABEL: func.func @avx2
// CHECK: llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"
// CHECK: llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
// CHECK: llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"
// CHECK: llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
// CHECK-NOT: llvm.call_intrinsic
func.func @avx2(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32>
    attributes {ternary.kernel_row = "avx2"} {
  %r = ternary.dot %acc, %u, %s {max_code = 127} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// Plain vector arithmetic, in a function without a row as well.
// CHECK-LABEL: func.func @generic
// CHECK: arith.muli {{.*}} : vector<32xi16>
// CHECK-NOT: llvm.call_intrinsic
// CHECK: return
func.func @generic(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32> {
  %r = ternary.dot %acc, %u, %s {max_code = 3} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// The top field needs no mask, the lowest no shift, a cumulative field neither shift.
// CHECK-LABEL: func.func @unpack
// CHECK-SAME: %[[B:.*]]: vector<64xi8>
// CHECK-DAG: %[[C3:.*]] = arith.constant dense<3> : vector<64xi8>
// CHECK-DAG: %[[C15:.*]] = arith.constant dense<15> : vector<64xi8>
// CHECK-DAG: %[[C2:.*]] = arith.constant dense<2> : vector<64xi8>
// CHECK-DAG: %[[C6:.*]] = arith.constant dense<6> : vector<64xi8>
// CHECK: %[[F0:.*]] = arith.andi %[[B]], %[[C3]]
// CHECK: %[[SHIFTED:.*]] = arith.shrui %[[B]], %[[C2]]
// CHECK: %[[F1:.*]] = arith.andi %[[SHIFTED]], %[[C3]]
// CHECK: %[[F3:.*]] = arith.shrui %[[B]], %[[C6]]
// CHECK: %[[U1:.*]] = arith.andi %[[B]], %[[C15]]
// CHECK: return %[[F0]], %[[F1]], %[[F3]], %[[U1]], %[[B]]
func.func @unpack(%b: vector<64xi8>)
    -> (vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>) {
  %0 = ternary.unpack %b {field = 0, bits = 2} : vector<64xi8>
  %1 = ternary.unpack %b {field = 1, bits = 2} : vector<64xi8>
  %2 = ternary.unpack %b {field = 3, bits = 2} : vector<64xi8>
  %3 = ternary.unpack %b {field = 1, bits = 2, cumulative} : vector<64xi8>
  %4 = ternary.unpack %b {field = 3, bits = 2, cumulative} : vector<64xi8>
  return %0, %1, %2, %3, %4 : vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>
}

// -----

// Two products of a code of 128 and more do not fit 16 bits.
func.func @too_large(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32>
    attributes {ternary.kernel_row = "avx2"} {
  // expected-error@+1 {{expects a max_code of at most 127 on kernel row avx2, whose partial sums have 16 bits, got 128}}
  %r = ternary.dot %acc, %u, %s {max_code = 128} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// expected-error@+1 {{expects a row of the kernel table, got avx3}}
func.func @unknown_row(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32>
    attributes {ternary.kernel_row = "avx3"} {
  %r = ternary.dot %acc, %u, %s {max_code = 3} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// CHECK-LABEL: func.func @avxvnni
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"({{.*}}) : (vector<8xi32>, vector<32xi8>, vector<32xi8>) -> vector<8xi32>
// CHECK-NOT: llvm.call_intrinsic
func.func @avxvnni(%acc: vector<16xi32>, %u: vector<64xi8>, %s: vector<64xi8>) -> vector<16xi32>
    attributes {ternary.kernel_row = "avxvnni"} {
  %r = ternary.dot %acc, %u, %s {max_code = 255} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// -----

// A remainder is a minimum: what is below the divisor wraps round.
// CHECK-LABEL: func.func @base3
// CHECK-SAME: %[[B:.*]]: vector<64xi8>)
// CHECK: %[[D:.*]] = arith.constant dense<84> : vector<64xi8>
// CHECK: %[[S0:.*]] = arith.subi %[[B]], %[[D]]
// CHECK: %[[M0:.*]] = arith.minui %[[B]], %[[S0]]
// CHECK: %[[S1:.*]] = arith.subi %[[M0]], %[[D]]
// CHECK: %[[LOW:.*]] = arith.minui %[[M0]], %[[S1]]
// CHECK: return %[[LOW]]
func.func @base3(%b: vector<64xi8>) -> vector<64xi8> attributes {ternary.kernel_row = "avx512vbmi"} {
  %low = ternary.trits_below %b {divisor = 84} : vector<64xi8>
  return %low : vector<64xi8>
}

// -----

// Bytes are looked up by the lower six bits of their indices, so that bits of a neighbour may get in above them.
// CHECK-LABEL: func.func @bytes_by_six_bits
// CHECK-SAME: %[[B:.*]]: vector<64xi8>, %[[FEW:.*]]: vector<16xi8>
// CHECK: %[[LOWER:.*]] = llvm.call_intrinsic "llvm.x86.avx512.permvar.qi.512"(%[[TABLE:.*]], %[[B]])
// CHECK: %[[HALVES:.*]] = vector.bitcast %[[B]] : vector<64xi8> to vector<32xi16>
// CHECK: %[[SHIFTED:.*]] = arith.shrui %[[HALVES]], %{{.*}} : vector<32xi16>
// CHECK: %[[BYTES:.*]] = vector.bitcast %[[SHIFTED]]
// CHECK: %[[UPPER:.*]] = llvm.call_intrinsic "llvm.x86.avx512.permvar.qi.512"(%{{.*}}, %[[BYTES]])
// CHECK: %[[AT:.*]] = arith.andi %[[FEW]]
// CHECK-COUNT-16: vector.extract %[[AT]]
// CHECK: vector.from_elements
// CHECK: return %[[LOWER]], %[[UPPER]]
func.func @bytes_by_six_bits(%b: vector<64xi8>, %few: vector<16xi8>) -> (vector<64xi8>, vector<64xi8>, vector<16xi8>)
    attributes {ternary.kernel_row = "avx512vbmi"} {
  %0 = ternary.look_up_bytes %b {table = array<i8: -50, -48, -46, -44, -42, -40, -38, -36, -34, -32, -30, -28, -26, -24, -22, -20, -18, -16, -14, -12, -10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 66, 68, 70, 72, 74, 76>} : vector<64xi8>
  %1 = ternary.look_up_bytes %b {shift = 2, table = array<i8: -50, -48, -46, -44, -42, -40, -38, -36, -34, -32, -30, -28, -26, -24, -22, -20, -18, -16, -14, -12, -10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 66, 68, 70, 72, 74, 76>} : vector<64xi8>
  %2 = ternary.look_up_bytes %few {table = array<i8: -50, -48, -46, -44, -42, -40, -38, -36, -34, -32, -30, -28, -26, -24, -22, -20, -18, -16, -14, -12, -10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 66, 68, 70, 72, 74, 76>} : vector<16xi8>
  return %0, %1, %2 : vector<64xi8>, vector<64xi8>, vector<16xi8>
}

// -----

// Without its instruction a look-up takes the words one by one.
// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(ternary-lower-vectors{emulate=avx512bw}))' | FileCheck %s --check-prefix=WORDS
// CHECK-LABEL: func.func @look_up
// CHECK-SAME: %[[I:.*]]: vector<32xi16>, %[[LOW:.*]]: vector<32xi16>, %[[HIGH:.*]]: vector<32xi16>
// CHECK: llvm.call_intrinsic "llvm.x86.avx512.vpermi2var.hi.512"(%[[LOW]], %[[I]], %[[HIGH]])
// WORDS-LABEL: func.func @look_up
// WORDS-SAME: %[[I:.*]]: vector<32xi16>, %[[LOW:.*]]: vector<32xi16>, %[[HIGH:.*]]: vector<32xi16>
// WORDS-DAG: %[[ALL:.*]] = vector.shuffle %[[LOW]], %[[HIGH]]
// WORDS-DAG: %[[LAST:.*]] = arith.andi %[[I]]
// WORDS: %[[X:.*]] = vector.extract %[[LAST]][0] : i16 from vector<32xi16>
// WORDS: %[[AT:.*]] = arith.index_castui %[[X]] : i16 to index
// WORDS: vector.extract %[[ALL]][%[[AT]]] : i16 from vector<64xi16>
// WORDS: vector.from_elements
func.func @look_up(%i: vector<32xi16>, %low: vector<32xi16>, %high: vector<32xi16>) -> vector<32xi16>
    attributes {ternary.kernel_row = "avx512lut"} {
  %r = ternary.look_up %i, %low, %high : vector<32xi16>
  return %r : vector<32xi16>
}

// -----

// A fence is an unknown instruction of no bytes that puts its results where its operands were; of one value, or where the
// order of instructions was not chosen, it is nothing.
// CHECK-LABEL: func.func @fence
// CHECK-SAME: %[[A:.*]]: vector<32xi16>, %[[B:.*]]: vector<32xi16>
// CHECK: %[[R:.*]] = llvm.inline_asm "", "=v,=v,0,1" %[[A]], %[[B]] : (vector<32xi16>, vector<32xi16>) -> !llvm.struct<(vector<32xi16>, vector<32xi16>)>
// CHECK: %[[FIRST:.*]] = llvm.extractvalue %[[R]][0]
// CHECK: %[[SECOND:.*]] = llvm.extractvalue %[[R]][1]
// CHECK: return %[[FIRST]], %[[SECOND]], %[[B]]
// WORDS-LABEL: func.func @fence
// WORDS-SAME: %[[A:.*]]: vector<32xi16>, %[[B:.*]]: vector<32xi16>
// WORDS-NEXT: return %[[A]], %[[B]], %[[B]]
func.func @fence(%a: vector<32xi16>, %b: vector<32xi16>) -> (vector<32xi16>, vector<32xi16>, vector<32xi16>)
    attributes {ternary.kernel_row = "avx512lut"} {
  %r:2 = ternary.fence %a, %b : vector<32xi16>, vector<32xi16>
  %one = ternary.fence %b : vector<32xi16>
  return %r#0, %r#1, %one : vector<32xi16>, vector<32xi16>, vector<32xi16>
}

// -----

// CHECK-LABEL: func.func @top
// CHECK-DAG: arith.cmpi uge, %{{.*}}, %{{.*}} : vector<32xi8>
// CHECK-DAG: arith.cmpi uge, %{{.*}}, %{{.*}} : vector<32xi8>
// CHECK: arith.addi
func.func @top(%b: vector<32xi8>) -> vector<32xi8> attributes {ternary.kernel_row = "avx2"} {
  %top = ternary.top_trit %b {divisor = 28} : vector<32xi8>
  return %top : vector<32xi8>
}

// -----

// CHECK-LABEL: func.func @widen
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
// CHECK: arith.addi
func.func @widen(%acc: vector<16xi32>, %pairs: vector<32xi16>) -> vector<16xi32> attributes {ternary.kernel_row = "avx2"} {
  %r = ternary.add_pairs %acc, %pairs : vector<16xi32>, vector<32xi16>
  return %r : vector<16xi32>
}

// -----

// CHECK-LABEL: func.func @widen_generic
// CHECK-NOT: llvm.call_intrinsic
// CHECK: arith.shrsi
func.func @widen_generic(%acc: vector<4xi32>, %pairs: vector<8xi16>) -> vector<4xi32> attributes {ternary.kernel_row = "generic"} {
  %r = ternary.add_pairs %acc, %pairs : vector<4xi32>, vector<8xi16>
  return %r : vector<4xi32>
}

// -----

// Without its instruction a row's dot is plain arithmetic for all unsigned bytes.
// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(ternary-lower-vectors{emulate=avxvnni}))' | FileCheck %s --check-prefix=EMULATED
// CHECK-LABEL: func.func @avxvnni
// CHECK: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"
// EMULATED-LABEL: func.func @avxvnni
// EMULATED-COUNT-2: arith.muli {{.*}} : vector<16xi16>
// EMULATED-NOT: llvm.call_intrinsic
// EMULATED: return
func.func @avxvnni(%acc: vector<8xi32>, %u: vector<32xi8>, %s: vector<32xi8>) -> vector<8xi32>
    attributes {ternary.kernel_row = "avxvnni"} {
  %r = ternary.dot %acc, %u, %s {max_code = 255} : vector<8xi32>, vector<32xi8>
  return %r : vector<8xi32>
}

// -----

// Signed codes and codes below 128 fit sdot; larger ones are lowered by 128 first, and 128 times the activations added.
// CHECK-LABEL: func.func @sdot
// CHECK-SAME: %[[ACC:.*]]: vector<4xi32>, %[[U:.*]]: vector<16xi8>, %[[S:.*]]: vector<16xi8>
// CHECK-DAG: %[[C128:.*]] = arith.constant dense<-128> : vector<16xi8>
// CHECK-DAG: %[[C64:.*]] = arith.constant dense<64> : vector<16xi8>
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%[[ACC]], %[[U]], %[[S]])
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%{{.*}}, %[[U]], %[[S]])
// CHECK: %[[LOW:.*]] = arith.xori %[[U]], %[[C128]]
// CHECK: %[[D0:.*]] = llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%{{.*}}, %[[LOW]], %[[S]])
// CHECK: %[[D1:.*]] = llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%[[D0]], %[[C64]], %[[S]])
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%[[D1]], %[[C64]], %[[S]])
func.func @sdot(%acc: vector<4xi32>, %u: vector<16xi8>, %s: vector<16xi8>) -> vector<4xi32>
    attributes {ternary.kernel_row = "dotprod"} {
  %0 = ternary.dot %acc, %u, %s {max_code = 127} : vector<4xi32>, vector<16xi8>
  %1 = ternary.dot %0, %u, %s {max_code = 128, signed_codes} : vector<4xi32>, vector<16xi8>
  %2 = ternary.dot %1, %u, %s {max_code = 255} : vector<4xi32>, vector<16xi8>
  return %2 : vector<4xi32>
}

// -----

// CHECK-LABEL: func.func @i8mm
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.usdot.v4i32.v16i8"
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.smmla.v4i32.v16i8"
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.usmmla.v4i32.v16i8"
func.func @i8mm(%acc: vector<4xi32>, %u: vector<16xi8>, %s: vector<16xi8>) -> vector<4xi32>
    attributes {ternary.kernel_row = "i8mm"} {
  %0 = ternary.dot %acc, %u, %s {max_code = 255} : vector<4xi32>, vector<16xi8>
  %1 = ternary.matrix_dot %0, %u, %s {max_code = 106, signed_codes} : vector<4xi32>, vector<16xi8>
  %2 = ternary.matrix_dot %1, %u, %s {max_code = 170} : vector<4xi32>, vector<16xi8>
  return %2 : vector<4xi32>
}

// -----

// LLVM makes smlal and smlal2 of these.
// CHECK-LABEL: func.func @neon
// CHECK-COUNT-2: arith.muli {{.*}} : vector<8xi16>
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.aarch64.neon.saddlp.v4i32.v8i16"
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.addp.v4i32"
func.func @neon(%acc: vector<16xi16>, %wide: vector<4xi32>, %u: vector<16xi8>, %s: vector<16xi8>) -> vector<4xi32>
    attributes {ternary.kernel_row = "neon"} {
  %0 = ternary.multiply_add %acc, %u, %s {max_code = 2, steps = 127} : vector<16xi16>, vector<16xi8>
  %1 = ternary.add_pairs %wide, %0 : vector<4xi32>, vector<16xi16>
  return %1 : vector<4xi32>
}

// -----

// CHECK-LABEL: func.func @neon_pairs
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.aarch64.neon.smull.v8i16"
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.addp.v8i16"
// CHECK-COUNT-2: llvm.call_intrinsic "llvm.aarch64.neon.smull.v8i16"
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.addp.v8i16"
// CHECK: llvm.call_intrinsic "llvm.aarch64.neon.saddlp.v4i32.v8i16"
func.func @neon_pairs(%acc: vector<8xi16>, %wide: vector<4xi32>, %u: vector<16xi8>, %s: vector<16xi8>)
    -> (vector<8xi16>, vector<4xi32>) attributes {ternary.kernel_row = "neon"} {
  %0 = ternary.dot_pairs %acc, %u, %s {max_code = 15, steps = 4} : vector<8xi16>, vector<16xi8>
  %1 = ternary.dot %wide, %u, %s {max_code = 3} : vector<4xi32>, vector<16xi8>
  return %0, %1 : vector<8xi16>, vector<4xi32>
}

// -----

// CHECK-LABEL: func.func @sve
// CHECK: llvm.call_intrinsic "llvm.aarch64.sve.sdot.nxv4i32"({{.*}}) : (vector<[4]xi32>, vector<[16]xi8>, vector<[16]xi8>)
func.func @sve(%acc: vector<[4]xi32>, %u: vector<[16]xi8>, %s: vector<[16]xi8>) -> vector<[4]xi32>
    attributes {ternary.kernel_row = "sve"} {
  %0 = ternary.dot %acc, %u, %s {max_code = 63} : vector<[4]xi32>, vector<[16]xi8>
  return %0 : vector<[4]xi32>
}

// -----

func.func @sve_unsigned(%acc: vector<[4]xi32>, %u: vector<[16]xi8>) -> vector<[4]xi32>
    attributes {ternary.kernel_row = "sve"} {
  // expected-error @below {{expects codes that fit signed bytes}}
  %0 = ternary.dot %acc, %u, %u {max_code = 170} : vector<[4]xi32>, vector<[16]xi8>
  return %0 : vector<[4]xi32>
}
