// Folds of ternary operations: constants are packed as include/setun/Packing.h says.
// RUN: setun-opt %s --canonicalize --split-input-file | FileCheck %s

// Byte of lane l, column k at l*4 + k: rows 0 and 1 are +1 and -1 in field 0, padding is code 0 (bits 01).
// CHECK-LABEL: func @pack
// CHECK: %[[P:.*]] = arith.constant dense<[86, 84, 86, 85, 84, 84, 85, 85, 85
// CHECK-SAME: tensor<64xi8>
// CHECK: return %[[P]]
func.func @pack() -> tensor<64xi8> {
  %w = arith.constant dense<[[1, -1, 1], [-1, -1, 0]]> : tensor<2x3xi2>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 3>} : (tensor<2x3xi2>) -> tensor<64xi8>
  return %p : tensor<64xi8>
}

// -----

// One bit a weight; padding bits are 0.
// CHECK-LABEL: func @pack_binary
// CHECK: arith.constant dense<[1, 0, 1, 0, 0, 0, 1, 0, 0
func.func @pack_binary() -> tensor<64xi8> {
  %w = arith.constant dense<[[1, 0, 1], [0, 0, 1]]> : tensor<2x3xi1>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f8, rows = 2, cols = 3>} : (tensor<2x3xi1>) -> tensor<64xi8>
  return %p : tensor<64xi8>
}

// -----

// Gate rows in the low half of the fields, the up row of the same number in the same lane two fields higher.
// CHECK-LABEL: func @pack_gated
// CHECK: arith.constant dense<[70, 85, 85, 85, 85, 85
func.func @pack_gated() -> tensor<64xi8> {
  %gate = arith.constant dense<[[1]]> : tensor<1x1xi2>
  %up = arith.constant dense<[[-1]]> : tensor<1x1xi2>
  %p = ternary.pack %gate, %up {layout = #ternary.layout<r16k4f4, rows = 2, cols = 1, order = gated>}
    : (tensor<1x1xi2>, tensor<1x1xi2>) -> tensor<64xi8>
  return %p : tensor<64xi8>
}

// -----

// CHECK-LABEL: func @not_constant
// CHECK: ternary.pack
func.func @not_constant(%w: tensor<2x3xi2>) -> tensor<64xi8> {
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 3>} : (tensor<2x3xi2>) -> tensor<64xi8>
  return %p : tensor<64xi8>
}

// -----

// Three matrices: a tensor scale, row ranges, and one that divides. Padding rows get 0.
// CHECK-LABEL: func @pack_scales
// CHECK: arith.constant dense<{{\[\[\[}}2.000000e+00, 3.000000e+00, 3.000000e+00, 4.000000e+00, 2.500000e-01, 0.000000e+00
// CHECK-SAME: tensor<1x1x64xf32>
func.func @pack_scales() -> tensor<1x1x64xf32> {
  %a = arith.constant dense<2.0> : tensor<1xf32>
  %b = arith.constant dense<[3.0, 4.0]> : tensor<2xf32>
  %c = arith.constant dense<4.0> : tensor<1xf32>
  %s = ternary.pack_scales %a, %b, %c {layout = #ternary.layout<r16k4f4, rows = 5, cols = 4>, row_counts = array<i64: 1, 3, 1>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<rows = [2, 1]>, #bitnet.scales<tensor>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>, #bitnet.direction<divide>]}
    : (tensor<1xf32>, tensor<2xf32>, tensor<1xf32>) -> tensor<1x1x64xf32>
  return %s : tensor<1x1x64xf32>
}

// -----

// One row of 64 scales for each group.
// CHECK-LABEL: func @pack_scales_group
// As bytes: 1.0, 3.0, 62 zeros, 2.0, 4.0, zeros.
// CHECK: arith.constant dense<"0x0000803F00004040{{0+}}4000008040{{0+}}"> : tensor<1x2x64xf32>
func.func @pack_scales_group() -> tensor<1x2x64xf32> {
  %a = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %s = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 2, cols = 6>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<group = 4>], directions = [#bitnet.direction<multiply>]} : (tensor<2x2xf32>) -> tensor<1x2x64xf32>
  return %s : tensor<1x2x64xf32>
}
