// Activation quantisation: rounding, bounds, eps, granularity.
// RUN: setun-opt --interpret %s | FileCheck %s

// Half to even; s is 1 because the largest magnitude is 127 and 1/127 * 127 is exactly 1.
// CHECK-LABEL: @half_to_even
// CHECK: tensor<1x8xi8> = {{\[\[}}0, 2, 2, 0, -2, -2, 127, 4]]
// CHECK: tensor<1xf32> = [1]
// CHECK: tensor<1xi32> = [131]
func.func @half_to_even() -> (tensor<1x8xi8>, tensor<1xf32>, tensor<1xi32>) {
  %x = arith.constant dense<[[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 127.0, 3.5]]> : tensor<1x8xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<1x8xf32> -> tensor<1x8xi8>, tensor<1xf32>, tensor<1xi32>
  return %q, %s, %c : tensor<1x8xi8>, tensor<1xf32>, tensor<1xi32>
}

// The largest magnitude gives 127 or -127 whatever its sign: -128 is never reached.
// CHECK-LABEL: @bounds
// CHECK: tensor<2x3xi8> = {{\[\[}}-127, 127, 0], [127, -127, -64]]
func.func @bounds() -> tensor<2x3xi8> {
  %x = arith.constant dense<[[-3.0, 3.0, 0.0], [1.0e30, -1.0e30, -0.5e30]]> : tensor<2x3xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<2x3xf32> -> tensor<2x3xi8>, tensor<2xf32>, tensor<2xi32>
  return %q : tensor<2x3xi8>
}

// Zeros give zeros, not NaN; below eps the scale stays 127 / eps and codes stay below 127.
// CHECK-LABEL: @eps
// CHECK: tensor<2x3xi8> = {{\[\[}}0, 0, 0], [64, -64, 13]]
// CHECK: tensor<2xf32> = [7.87401{{[0-9]*}}e-08, 7.87401{{[0-9]*}}e-08]
// CHECK: tensor<2xi32> = [0, 13]
func.func @eps() -> (tensor<2x3xi8>, tensor<2xf32>, tensor<2xi32>) {
  %x = arith.constant dense<[[0.0, -0.0, 0.0], [5.0e-6, -5.0e-6, 1.0e-6]]> : tensor<2x3xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<2x3xf32> -> tensor<2x3xi8>, tensor<2xf32>, tensor<2xi32>
  return %q, %s, %c : tensor<2x3xi8>, tensor<2xf32>, tensor<2xi32>
}

// One scale for all tokens: the second token is small beside the first.
// CHECK-LABEL: @per_tensor
// CHECK: tensor<2x2xi8> = {{\[\[}}127, -32], [2, 0]]
// CHECK: tensor<1xf32> = [1]
// CHECK: tensor<2xi32> = [95, 2]
func.func @per_tensor() -> (tensor<2x2xi8>, tensor<1xf32>, tensor<2xi32>) {
  %x = arith.constant dense<[[127.0, -32.0], [1.5, 0.25]]> : tensor<2x2xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0e-5>}
    : tensor<2x2xf32> -> tensor<2x2xi8>, tensor<1xf32>, tensor<2xi32>
  return %q, %s, %c : tensor<2x2xi8>, tensor<1xf32>, tensor<2xi32>
}

// Fewer bits: codes in [-8, 7] and [-2, 1].
// CHECK-LABEL: @bits
// CHECK: tensor<1x4xi8> = {{\[\[}}7, -7, 2, 0]]
// CHECK: tensor<1x4xi8> = {{\[\[}}1, -1, 0, 0]]
func.func @bits() -> (tensor<1x4xi8>, tensor<1x4xi8>) {
  %x = arith.constant dense<[[7.0, -7.0, 2.5, 0.5]]> : tensor<1x4xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 4, eps = 1.0e-5>}
    : tensor<1x4xf32> -> tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>
  %q2, %s2, %c2 = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 2, eps = 1.0e-5>}
    : tensor<1x4xf32> -> tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>
  return %q, %q2 : tensor<1x4xi8>, tensor<1x4xi8>
}

// With a norm in front, and codes padded to a multiple of 4 columns. The row is 3, 4, 0, ...: its mean square is 1, so
// the norm leaves it as it is.
// CHECK-LABEL: @norm
// CHECK: tensor<1x28xi8> = {{\[\[}}95, 127, 0, {{.*}}0]]
// CHECK: tensor<1xi32> = [222]
func.func @norm() -> (tensor<1x28xi8>, tensor<1xi32>) {
  %zero = arith.constant dense<0.0> : tensor<1x25xf32>
  %two = arith.constant dense<[[3.0, 4.0]]> : tensor<1x2xf32>
  %x = tensor.insert_slice %two into %zero[0, 0] [1, 2] [1, 1] : tensor<1x2xf32> into tensor<1x25xf32>
  %qe = tensor.empty() : tensor<1x28xi8>
  %se = tensor.empty() : tensor<1xf32>
  %ce = tensor.empty() : tensor<1xi32>
  %q, %s, %c = ternary.quantize %x outs(%qe, %se, %ce) {norm = #bitnet.norm<rms, eps = 0.0>,
    activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<1x25xf32>, tensor<1x28xi8>, tensor<1xf32>, tensor<1xi32>) -> (tensor<1x28xi8>, tensor<1xf32>, tensor<1xi32>)
  return %q, %c : tensor<1x28xi8>, tensor<1xi32>
}
