// ternary.unpack and ternary.dot on vectors; a product of packed weights by isolated and by cumulative fields.
// RUN: setun-opt --interpret %s | FileCheck %s

// Byte 0xE4 holds the fields 0, 1, 2, 3; cumulated 0, 4, 36, 228. Bits of 0xA5 from the lowest: 1, 0, 1, 0, 0, ...
// CHECK-LABEL: @unpack
// CHECK-NEXT: = [0,
// CHECK-NEXT: = [1,
// CHECK-NEXT: = [3,
// CHECK-NEXT: = [4,
// CHECK-NEXT: = [36,
// CHECK-NEXT: = [-28,
// CHECK-NEXT: = [1,
// CHECK-NEXT: = [0,
// CHECK-NEXT: = [1,
// CHECK-NEXT: = [37,
func.func @unpack() -> (vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>,
                        vector<64xi8>, vector<64xi8>, vector<64xi8>) {
  %e4 = arith.constant dense<0xE4> : vector<64xi8>
  %a5 = arith.constant dense<0xA5> : vector<64xi8>
  %0 = ternary.unpack %e4 {field = 0, bits = 2} : vector<64xi8>
  %1 = ternary.unpack %e4 {field = 1, bits = 2} : vector<64xi8>
  %2 = ternary.unpack %e4 {field = 3, bits = 2} : vector<64xi8>
  %3 = ternary.unpack %e4 {field = 1, bits = 2, cumulative} : vector<64xi8>
  %4 = ternary.unpack %e4 {field = 2, bits = 2, cumulative} : vector<64xi8>
  %5 = ternary.unpack %e4 {field = 3, bits = 2, cumulative} : vector<64xi8>
  %6 = ternary.unpack %a5 {field = 0, bits = 1} : vector<64xi8>
  %7 = ternary.unpack %a5 {field = 1, bits = 1} : vector<64xi8>
  %8 = ternary.unpack %a5 {field = 7, bits = 1} : vector<64xi8>
  %9 = ternary.unpack %a5 {field = 5, bits = 1, cumulative} : vector<64xi8>
  return %0, %1, %2, %3, %4, %5, %6, %7, %8, %9 : vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>,
    vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>
}

// Bytes of u are unsigned, those of s signed: 4 * 255 * -128 + 5.
// CHECK-LABEL: @dot
// CHECK: [-130555, -130555
func.func @dot() -> vector<16xi32> {
  %acc = arith.constant dense<5> : vector<16xi32>
  %u = arith.constant dense<-1> : vector<64xi8>
  %s = arith.constant dense<-128> : vector<64xi8>
  %r = ternary.dot %acc, %u, %s {max_code = 255} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// Fields 2, 0, 1, 2 (codes 1, -1, 0, 1) times 3, -5, 7, 2 (sum 7), once by fields and once by the triangular system:
// the difference of two cumulative sums is a field's sum times 4^field. Biased codes lose the sum of the activations.
// CHECK-LABEL: @triangular
// CHECK-NEXT: [7, 7
// CHECK-NEXT: [-7, -7
// CHECK-NEXT: [-7, -7
func.func @triangular() -> (vector<16xi32>, vector<16xi32>, vector<16xi32>) {
  %zero = arith.constant dense<0> : vector<16xi32>
  %sum = arith.constant dense<7> : vector<16xi32>
  // 2 + 4*0 + 16*1 + 64*2
  %bytes = arith.constant dense<0x92> : vector<64xi8>
  %x = arith.constant dense<[3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2,
    3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2, 3, -5, 7, 2]> : vector<64xi8>
  %f0 = ternary.unpack %bytes {field = 0, bits = 2} : vector<64xi8>
  %f1 = ternary.unpack %bytes {field = 1, bits = 2} : vector<64xi8>
  %d0 = ternary.dot %zero, %f0, %x {max_code = 3} : vector<16xi32>, vector<64xi8>
  %d1 = ternary.dot %zero, %f1, %x {max_code = 3} : vector<16xi32>, vector<64xi8>
  %acc0 = arith.subi %d0, %sum : vector<16xi32>
  %acc1 = arith.subi %d1, %sum : vector<16xi32>
  %c0 = ternary.unpack %bytes {field = 0, bits = 2, cumulative} : vector<64xi8>
  %c1 = ternary.unpack %bytes {field = 1, bits = 2, cumulative} : vector<64xi8>
  %t0 = ternary.dot %zero, %c0, %x {max_code = 2} : vector<16xi32>, vector<64xi8>
  %t1 = ternary.dot %zero, %c1, %x {max_code = 10} : vector<16xi32>, vector<64xi8>
  %difference = arith.subi %t1, %t0 : vector<16xi32>
  %two = arith.constant dense<2> : vector<16xi32>
  %quarter = arith.shrsi %difference, %two : vector<16xi32>
  %solved = arith.subi %quarter, %sum : vector<16xi32>
  ternary.barrier
  return %acc0, %acc1, %solved : vector<16xi32>, vector<16xi32>, vector<16xi32>
}

// Two-way: 1 + 2 * 127 + 2 * 127 and 1 + 2 * -128 + 2 * -128.
// CHECK-LABEL: @dot_pairs
// CHECK-NEXT: [509, 509
// CHECK-NEXT: [-511, -511
func.func @dot_pairs() -> (vector<8xi16>, vector<8xi16>) {
  %acc = arith.constant dense<1> : vector<8xi16>
  %u = arith.constant dense<2> : vector<16xi8>
  %high = arith.constant dense<127> : vector<16xi8>
  %low = arith.constant dense<-128> : vector<16xi8>
  %0 = ternary.dot_pairs %acc, %u, %high {max_code = 2, steps = 63} : vector<8xi16>, vector<16xi8>
  %1 = ternary.dot_pairs %acc, %u, %low {max_code = 2, steps = 63} : vector<8xi16>, vector<16xi8>
  return %0, %1 : vector<8xi16>, vector<8xi16>
}

// 2 + 3*0 + 9*1 + 28*2 + 84*1 = 151: below 84 are 67, the top trit is 1; 67 = 2*28 + 11. In a table of 2*i - 50, 151
// modulo 64 is place 23, and 151 / 4 is place 37.
// CHECK-LABEL: @base3
// CHECK-NEXT: [67, 67
// CHECK-NEXT: [-4, -4
// CHECK-NEXT: [24, 24
// CHECK-NEXT: [1, 1
// CHECK-NEXT: [11, 11
// CHECK-NEXT: [2, 2
func.func @base3() -> (vector<16xi8>, vector<16xi8>, vector<16xi8>, vector<16xi8>, vector<16xi8>, vector<16xi8>) {
  %b = arith.constant dense<151> : vector<16xi8>
  %low = ternary.trits_below %b {divisor = 84} : vector<16xi8>
  %lower = ternary.look_up_bytes %b {table = array<i8: -50, -48, -46, -44, -42, -40, -38, -36, -34, -32, -30, -28, -26, -24, -22, -20, -18, -16, -14, -12, -10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 66, 68, 70, 72, 74, 76>} : vector<16xi8>
  %upper = ternary.look_up_bytes %b {shift = 2, table = array<i8: -50, -48, -46, -44, -42, -40, -38, -36, -34, -32, -30, -28, -26, -24, -22, -20, -18, -16, -14, -12, -10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 66, 68, 70, 72, 74, 76>} : vector<16xi8>
  %top = ternary.top_trit %b {divisor = 84} : vector<16xi8>
  %rest = ternary.trits_below %low {divisor = 28} : vector<16xi8>
  %third = ternary.top_trit %low {divisor = 28} : vector<16xi8>
  return %low, %lower, %upper, %top, %rest, %third : vector<16xi8>, vector<16xi8>, vector<16xi8>, vector<16xi8>, vector<16xi8>, vector<16xi8>
}

// CHECK-LABEL: @add_pairs
// CHECK-NEXT: [-59998, -59998
func.func @add_pairs() -> vector<4xi32> {
  %acc = arith.constant dense<2> : vector<4xi32>
  %pairs = arith.constant dense<-30000> : vector<8xi16>
  %r = ternary.add_pairs %acc, %pairs : vector<4xi32>, vector<8xi16>
  return %r : vector<4xi32>
}

// Bytes of u are signed, too: 4 * -128 * -128 + 5.
// CHECK-LABEL: @signed_dot
// CHECK: [65541, 65541
func.func @signed_dot() -> vector<16xi32> {
  %acc = arith.constant dense<5> : vector<16xi32>
  %u = arith.constant dense<-128> : vector<64xi8>
  %r = ternary.dot %acc, %u, %u {max_code = 128, signed_codes} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// Rows of weights 1, ..., 1 and 200, 0, ..., 0 by tokens -1, ..., -1 and 1, 2, ..., 8.
// CHECK-LABEL: @matrix_dot
// CHECK: [-7, 37, -198, 204]
func.func @matrix_dot() -> vector<4xi32> {
  %acc = arith.constant dense<[1, 1, 2, 4]> : vector<4xi32>
  %u = arith.constant dense<[1, 1, 1, 1, 1, 1, 1, 1, 200, 0, 0, 0, 0, 0, 0, 0]> : vector<16xi8>
  %s = arith.constant dense<[-1, -1, -1, -1, -1, -1, -1, -1, 1, 2, 3, 4, 5, 6, 7, 8]> : vector<16xi8>
  %r = ternary.matrix_dot %acc, %u, %s {max_code = 200} : vector<4xi32>, vector<16xi8>
  return %r : vector<4xi32>
}

// 2 * -128 in each lane; four of them and 7 in 32 bits.
// CHECK-LABEL: @multiply_add
// CHECK-NEXT: [-255, -255
// CHECK-NEXT: [-1013, -1013, -1013, -1013]
func.func @multiply_add() -> (vector<16xi16>, vector<4xi32>) {
  %acc = arith.constant dense<1> : vector<16xi16>
  %seven = arith.constant dense<7> : vector<4xi32>
  %u = arith.constant dense<2> : vector<16xi8>
  %s = arith.constant dense<-128> : vector<16xi8>
  %r = ternary.multiply_add %acc, %u, %s {max_code = 2, steps = 1} : vector<16xi16>, vector<16xi8>
  %sums = ternary.add_pairs %seven, %r : vector<4xi32>, vector<16xi16>
  return %r, %sums : vector<16xi16>, vector<4xi32>
}

// Bit 5 chooses the table, the bits above it do not count: low[1], high[1], high[31], low[0].
// CHECK-LABEL: @look_up
// CHECK-NEXT: [1, 101, 131, 0, 0
func.func @look_up() -> vector<32xi16> {
  %i = arith.constant dense<[1, 33, -1, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]> : vector<32xi16>
  %low = arith.constant dense<[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]> : vector<32xi16>
  %high = arith.constant dense<[100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131]> : vector<32xi16>
  %r = ternary.look_up %i, %low, %high : vector<32xi16>
  return %r : vector<32xi16>
}

// CHECK-LABEL: @fence
// CHECK-NEXT: [1, 2, 3, 4]
// CHECK-NEXT: [5, 6]
func.func @fence() -> (vector<4xi32>, vector<2xf32>) {
  %a = arith.constant dense<[1, 2, 3, 4]> : vector<4xi32>
  %b = arith.constant dense<[5.0, 6.0]> : vector<2xf32>
  %r:2 = ternary.fence %a, %b : vector<4xi32>, vector<2xf32>
  return %r#0, %r#1 : vector<4xi32>, vector<2xf32>
}
