// Weight quantisation, and weights from files.
// RUN: %python %S/Inputs/make_weights.py %t.safetensors
// RUN: setun-opt --interpret %s --weights %t.safetensors --probe | FileCheck %s

// Sign(0) is -1 (the paper; reference code has 0), also for -0.
// CHECK-LABEL: @sign_of_zero
// CHECK: tensor<1x4xi1> = {{\[\[}}1, 0, 0, 0]]
// CHECK: tensor<1xf32> = [0.5]
func.func @sign_of_zero() -> (tensor<1x4xi1>, tensor<1xf32>) {
  %m = arith.constant dense<[[1.0, -1.0, 0.0, -0.0]]> : tensor<1x4xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32}
    : tensor<1x4xf32> -> tensor<1x4xi1>, tensor<1xf32>
  return %w, %s : tensor<1x4xi1>, tensor<1xf32>
}

// A matrix of zeros meets eps: codes 0, no NaN. Half an absmean is a tie and rounds to 0, one and a half is clamped.
// CHECK-LABEL: @absmean_edges
// CHECK: tensor<2x2xi2> = {{\[\[}}0, 0], [0, 0]]
// CHECK: tensor<1xf32> = [9.99999975e-06]
// CHECK: tensor<1x4xi2> = {{\[\[}}0, 0, 1, -1]]
// CHECK: tensor<1xf32> = [1]
func.func @absmean_edges() -> (tensor<2x2xi2>, tensor<1xf32>, tensor<1x4xi2>, tensor<1xf32>) {
  %z = arith.constant dense<0.0> : tensor<2x2xf32>
  %w, %s = bitnet.quantize_weight %z {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<2x2xf32> -> tensor<2x2xi2>, tensor<1xf32>
  %m = arith.constant dense<[[0.5, -0.5, 1.5, -1.5]]> : tensor<1x4xf32>
  %w2, %s2 = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<1x4xf32> -> tensor<1x4xi2>, tensor<1xf32>
  return %w, %s, %w2, %s2 : tensor<2x2xi2>, tensor<1xf32>, tensor<1x4xi2>, tensor<1xf32>
}

// Hugging Face's packing: four blocks of rows in the bits of a byte (the example of transformers' documentation).
// CHECK-LABEL: @unpack
// CHECK: tensor<8x2xi2> = {{\[\[}}0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]
func.func @unpack() -> tensor<8x2xi2> {
  %w = bitnet.weight "packed.weight" : tensor<8x2xi2>
  return %w : tensor<8x2xi2>
}

// CHECK-LABEL: @other_types
// CHECK: tensor<2x2xi1> = {{\[\[}}1, 0], [0, 1]]
// CHECK: tensor<2x2xbf16> = {{\[\[}}1, -2], [0.5, 3]]
// CHECK: tensor<2x2xf16> = {{\[\[}}1, -2], [0.5, 3]]
// CHECK: tensor<3xf32> = [1.5, -2.5, 0]
// CHECK: tensor<3xbf16> = [1.5, -2.5, 0]
func.func @other_types() -> (tensor<2x2xi1>, tensor<2x2xbf16>, tensor<2x2xf16>, tensor<3xf32>, tensor<3xbf16>) {
  %b = bitnet.weight "binary" : tensor<2x2xi1>
  %h = bitnet.weight "table" : tensor<2x2xbf16>
  %f = bitnet.weight "table" : tensor<2x2xf16>
  %v = bitnet.weight "vector" : tensor<3xf32>
  %u = bitnet.weight "vector" : tensor<3xbf16>
  return %b, %h, %f, %v, %u : tensor<2x2xi1>, tensor<2x2xbf16>, tensor<2x2xf16>, tensor<3xf32>, tensor<3xbf16>
}

// Probes bear the name of the weight, through a call too; a layer that runs twice is numbered.
// CHECK-LABEL: @probes
// CHECK: probe.packed.codes : tensor<1x2xi8> = {{\[\[}}127, 64]]
// CHECK: probe.packed.acc : tensor<1x8xi32> = {{\[\[}}-64, -63, -63, -63, 127, -64, 63, 63]]
// CHECK: probe.packed#2.codes
// CHECK: probe.packed#2.acc
// CHECK: probe.table.acc : tensor<1x2xf32> = {{\[\[}}0.5, -0.5]]
func.func @probes() -> tensor<1x8xf32> {
  %x = arith.constant dense<[[1.0, 0.5]]> : tensor<1x2xf32>
  %s = arith.constant dense<1.0> : tensor<1xf32>
  %w = bitnet.weight "packed.weight" : tensor<8x2xi2>
  %y = func.call @layer(%x, %w) : (tensor<1x2xf32>, tensor<8x2xi2>) -> tensor<1x8xf32>
  %z = func.call @layer(%x, %w) : (tensor<1x2xf32>, tensor<8x2xi2>) -> tensor<1x8xf32>
  %m = bitnet.weight "table" : tensor<2x2xf32>
  %c, %cs = bitnet.quantize_weight %m {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32}
    : tensor<2x2xf32> -> tensor<2x2xi1>, tensor<1xf32>
  %v = bitnet.linear %x, %c scale(%cs) {scales = #bitnet.scales<tensor>}
    : (tensor<1x2xf32>, tensor<2x2xi1>, tensor<1xf32>) -> tensor<1x2xf32>
  return %z : tensor<1x8xf32>
}

func.func private @layer(%x: tensor<1x2xf32>, %w: tensor<8x2xi2>) -> tensor<1x8xf32> {
  %s = arith.constant dense<1.0> : tensor<1xf32>
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>,
    activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<1x2xf32>, tensor<8x2xi2>, tensor<1xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}
