// Folds and canonicalisation of bitnet operations.
// RUN: setun-opt %s --canonicalize --cse --split-input-file | FileCheck %s

// A transform of block 1 is the identity.
// CHECK-LABEL: func @hadamard_of_one
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: return %[[X]]
func.func @hadamard_of_one(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = bitnet.hadamard %x {block = 1} : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Twice the transform is the identity only up to rounding.
// CHECK-LABEL: func @hadamard_twice
// CHECK: bitnet.hadamard
// CHECK: bitnet.hadamard
func.func @hadamard_twice(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = bitnet.hadamard %x {block = 8} : tensor<?x8xf32>
  %z = bitnet.hadamard %y {block = 8} : tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

// CHECK-LABEL: func @absmean
// CHECK-DAG: %[[CODES:.*]] = arith.constant dense<{{\[\[}}1, -1, 1], [-1, 0, -1], [1, -1, 0]]> : tensor<3x3xi2>
// CHECK-DAG: %[[SCALE:.*]] = arith.constant dense<0.833333313> : tensor<1xf32>
// CHECK: return %[[CODES]], %[[SCALE]]
func.func @absmean() -> (tensor<3x3xi2>, tensor<1xf32>) {
  %m = arith.constant dense<[[0.8, -0.5, 1.2], [-1.5, 0.4, -0.9], [1.3, -0.7, 0.2]]> : tensor<3x3xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<3x3xf32> -> tensor<3x3xi2>, tensor<1xf32>
  return %w, %s : tensor<3x3xi2>, tensor<1xf32>
}

// -----

// Groups along a row; the last one is shorter. Zeros meet eps and give 0, not NaN.
// CHECK-LABEL: func @absmean_groups
// CHECK-DAG: %[[CODES:.*]] = arith.constant dense<{{\[\[}}1, 1, -1, -1, 1], [0, 0, 0, 0, -1]]> : tensor<2x5xi2>
// CHECK-DAG: %[[SCALE:.*]] = arith.constant dense<{{\[\[}}1.000000e+00, 4.000000e+00], [5.000000e-01, 8.000000e+00]]> : tensor<2x2xf32>
// CHECK: return %[[CODES]], %[[SCALE]]
func.func @absmean_groups() -> (tensor<2x5xi2>, tensor<2x2xf32>) {
  %m = arith.constant dense<[[1.0, 0.75, -1.25, -1.0, 4.0], [0.0, 0.0, 0.0, -0.0, -8.0]]> : tensor<2x5xbf16>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 0.5 : f32, scales = #bitnet.scales<group = 4>}
    : tensor<2x5xbf16> -> tensor<2x5xi2>, tensor<2x2xf32>
  return %w, %s : tensor<2x5xi2>, tensor<2x2xf32>
}

// -----

// What equals the mean is -1; the scale is that of the masters before centring.
// CHECK-LABEL: func @sign
// CHECK-DAG: %[[CODES:.*]] = arith.constant dense<{{\[\[}}true, false], [false, true]]> : tensor<2x2xi1>
// CHECK-DAG: %[[SCALE:.*]] = arith.constant dense<1.250000e+00> : tensor<1xf32>
// CHECK: return %[[CODES]], %[[SCALE]]
func.func @sign() -> (tensor<2x2xi1>, tensor<1xf32>) {
  %m = arith.constant dense<[[2.0, 1.0], [-0.5, 1.5]]> : tensor<2x2xf16>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32}
    : tensor<2x2xf16> -> tensor<2x2xi1>, tensor<1xf32>
  return %w, %s : tensor<2x2xi1>, tensor<1xf32>
}

// -----

// Masters that are not constant stay.
// CHECK-LABEL: func @not_constant
// CHECK: bitnet.quantize_weight
func.func @not_constant() -> (tensor<2x2xi1>, tensor<1xf32>) {
  %m = bitnet.weight "w" : tensor<2x2xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32}
    : tensor<2x2xf32> -> tensor<2x2xi1>, tensor<1xf32>
  return %w, %s : tensor<2x2xi1>, tensor<1xf32>
}

// -----

// Nor do masters that are not finite fold.
// CHECK-LABEL: func @not_finite
// CHECK: bitnet.quantize_weight
func.func @not_finite() -> (tensor<1x2xi2>, tensor<1xf32>) {
  %m = arith.constant dense<[[1.0, 0x7FC00000]]> : tensor<1x2xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 0.0 : f32}
    : tensor<1x2xf32> -> tensor<1x2xi2>, tensor<1xf32>
  return %w, %s : tensor<1x2xi2>, tensor<1xf32>
}

// -----

// Operations are pure: unused ones go, equal ones are one.
// CHECK-LABEL: func @pure
// CHECK-COUNT-1: bitnet.weight
// CHECK-NOT: bitnet
func.func @pure(%x: tensor<?x8xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %a = bitnet.weight "a" : tensor<4xf32>
  %b = bitnet.weight "a" : tensor<4xf32>
  %c = bitnet.hadamard %x {block = 4} : tensor<?x8xf32>
  return %a, %b : tensor<4xf32>, tensor<4xf32>
}
