// BitLinear: scale granularities, directions, bias places, weight-only, norms, extreme sums. Activations of magnitude 127
// are their own codes.
// RUN: setun-opt --interpret %s | FileCheck %s

// Half of the scale and three of the bias, in both places; a dividing scale.
// CHECK-LABEL: @bias_places
// CHECK: after : tensor<1x2xf32> = {{\[\[}}66.5, -60.5]]
// CHECK: before : tensor<1x2xf32> = {{\[\[}}65, -62]]
// CHECK: divided : tensor<1x2xf32> = {{\[\[}}66.5, -60.5]]
func.func @bias_places() -> (tensor<1x2xf32> {bitnet.name = "after"}, tensor<1x2xf32> {bitnet.name = "before"},
                             tensor<1x2xf32> {bitnet.name = "divided"}) {
  %x = arith.constant dense<[[127.0, 3.0, -1.0]]> : tensor<1x3xf32>
  %w = arith.constant dense<[[1, 0, 0], [-1, 0, 0]]> : tensor<2x3xi2>
  %half = arith.constant dense<0.5> : tensor<1xf32>
  %two = arith.constant dense<2.0> : tensor<1xf32>
  %b = arith.constant dense<3.0> : tensor<2xf32>
  %after = bitnet.linear %x, %w scale(%half) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<1x3xf32>, tensor<2x3xi2>, tensor<1xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %before = bitnet.linear %x, %w scale(%half) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<1x3xf32>, tensor<2x3xi2>, tensor<1xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %divided = bitnet.linear %x, %w scale(%two) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, direction = #bitnet.direction<divide>}
    : (tensor<1x3xf32>, tensor<2x3xi2>, tensor<1xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  return %after, %before, %divided : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// Activations of zero give the bias.
// CHECK-LABEL: @zeros
// CHECK: tensor<1x2xf32> = {{\[\[}}1.5, -2]]
func.func @zeros() -> tensor<1x2xf32> {
  %x = arith.constant dense<0.0> : tensor<1x3xf32>
  %w = arith.constant dense<[[1, 0, 1], [-1, 0, 0]]> : tensor<2x3xi2>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %b = arith.constant dense<[1.5, -2.0]> : tensor<2xf32>
  %y = bitnet.linear %x, %w scale(%s) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<1x3xf32>, tensor<2x3xi2>, tensor<1xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  return %y : tensor<1x2xf32>
}

// Ranges of rows, the second dividing would be another op; one scale a row is ranges of one.
// CHECK-LABEL: @rows
// CHECK: tensor<2x3xf32> = {{\[\[}}254, 254, 381], [-4, -4, -6]]
// CHECK: tensor<2x3xf32> = {{\[\[}}127, 254, 508], [-2, -4, -8]]
func.func @rows() -> (tensor<2x3xf32>, tensor<2x3xf32>) {
  %x = arith.constant dense<[[127.0, 5.0], [-2.0, 127.0]]> : tensor<2x2xf32>
  %w = arith.constant dense<[[1, 0], [1, 0], [1, 0]]> : tensor<3x2xi2>
  %s = arith.constant dense<[2.0, 3.0]> : tensor<2xf32>
  %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<rows = [2, 1]>} : (tensor<2x2xf32>, tensor<3x2xi2>, tensor<2xf32>) -> tensor<2x3xf32>
  %s3 = arith.constant dense<[1.0, 2.0, 4.0]> : tensor<3xf32>
  %z = bitnet.linear %x, %w scale(%s3) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<rows = [1, 1, 1]>} : (tensor<2x2xf32>, tensor<3x2xi2>, tensor<3xf32>) -> tensor<2x3xf32>
  return %y, %z : tensor<2x3xf32>, tensor<2x3xf32>
}

// Groups of four, the last of one column: [127 + 1 - 2 + 3] * 2 + [4] * 10 = 298 and (-127) * 0.5 + 0 * 4 + 1 = -62.5.
// CHECK-LABEL: @groups
// CHECK: acc : tensor<1x2x2xi32> = {{\[\[\[}}129, 4], [-127, 0]]]
// CHECK: y : tensor<1x2xf32> = {{\[\[}}298, -62.5]]
// CHECK: packed : tensor<1x2xf32> = {{\[\[}}298, -62.5]]
// CHECK: packed_acc : tensor<1x2x2xi32> = {{\[\[\[}}129, 4], [-127, 0]]]
func.func @groups() -> (tensor<1x2x2xi32> {bitnet.name = "acc"}, tensor<1x2xf32> {bitnet.name = "y"},
                        tensor<1x2xf32> {bitnet.name = "packed"}, tensor<1x2x2xi32> {bitnet.name = "packed_acc"}) {
  %x = arith.constant dense<[[127.0, 1.0, -2.0, 3.0, 4.0]]> : tensor<1x5xf32>
  %w = arith.constant dense<[[1, 1, 1, 1, 1], [-1, 0, 0, 0, 0]]> : tensor<2x5xi2>
  %s = arith.constant dense<[[2.0, 10.0], [0.5, 4.0]]> : tensor<2x2xf32>
  %b = arith.constant dense<[0.0, 1.0]> : tensor<2xf32>
  %q, %a, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<1x5xf32> -> tensor<1x5xi8>, tensor<1xf32>, tensor<1xi32>
  %acc = bitnet.matmul %q, %w sums(%c) {group = 4} : (tensor<1x5xi8>, tensor<2x5xi2>, tensor<1xi32>) -> tensor<1x2x2xi32>
  %y = bitnet.linear %x, %w scale(%s) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<group = 4>} : (tensor<1x5xf32>, tensor<2x5xi2>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %zero = arith.constant dense<0> : tensor<1x8xi8>
  %qp = tensor.insert_slice %q into %zero[0, 0] [1, 5] [1, 1] : tensor<1x5xi8> into tensor<1x8xi8>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 5>} : (tensor<2x5xi2>) -> tensor<128xi8>
  %ps = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 5>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<group = 4>], directions = [#bitnet.direction<multiply>]} : (tensor<2x2xf32>) -> tensor<1x2x64xf32>
  %ye = tensor.empty() : tensor<1x2xf32>
  %ae = tensor.empty() : tensor<1x2x2xi32>
  %packed:2 = ternary.matmul %qp, %p, %ps act_scale(%a) sums(%c) bias(%b) outs(%ye) acc_outs(%ae) {group = 4,
    layout = #ternary.layout<r16k4f4, rows = 2, cols = 5>}
    : (tensor<1x8xi8>, tensor<128xi8>, tensor<1x2x64xf32>, tensor<1xf32>, tensor<1xi32>, tensor<2xf32>, tensor<1x2xf32>,
       tensor<1x2x2xi32>) -> (tensor<1x2xf32>, tensor<1x2x2xi32>)
  return %acc, %y, %packed#0, %packed#1 : tensor<1x2x2xi32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2x2xi32>
}

// Without activation quantiser: f32 sums in the order of k. 2^24 + 1 - 2^24 in this order loses the 1.
// CHECK-LABEL: @weight_only
// CHECK: tensor<1x2xf32> = {{\[\[}}0, 4]]
// CHECK: acc : tensor<1x2xf32> = {{\[\[}}0, 1]]
func.func @weight_only() -> (tensor<1x2xf32>, tensor<1x2xf32> {bitnet.name = "acc"}) {
  %x = arith.constant dense<[[16777216.0, 1.0, -16777216.0, 1.0]]> : tensor<1x4xf32>
  %w = arith.constant dense<[[1, 1, 1, 0], [1, 0, 1, 1]]> : tensor<2x4xi2>
  %s = arith.constant dense<4.0> : tensor<1xf32>
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<1x4xf32>, tensor<2x4xi2>, tensor<1xf32>) -> tensor<1x2xf32>
  %acc = bitnet.matmul %x, %w : (tensor<1x4xf32>, tensor<2x4xi2>) -> tensor<1x2xf32>
  return %y, %acc : tensor<1x2xf32>, tensor<1x2xf32>
}

// The whole tensor shares one activation scale.
// CHECK-LABEL: @per_tensor
// CHECK: tensor<2x1xf32> = {{\[\[}}127], [2]]
func.func @per_tensor() -> tensor<2x1xf32> {
  %x = arith.constant dense<[[127.0], [1.75]]> : tensor<2x1xf32>
  %w = arith.constant dense<1> : tensor<1x1xi2>
  %s = arith.constant dense<1.0> : tensor<1xf32>
  %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<2x1xf32>, tensor<1x1xi2>, tensor<1xf32>) -> tensor<2x1xf32>
  return %y : tensor<2x1xf32>
}

// Norms inside the layer. RMS of [3, 4] with gain 1, 2 is [3, 8] / sqrt(12.5); its codes are 48 and 127. LayerNorm of
// [1, 3] is [-1, 1], with shift 3 [2, 4]: codes 64 (63.5 is a tie) and 127.
// CHECK-LABEL: @norms
// CHECK: acc : tensor<1x1xi32> = {{\[\[}}175]]
// CHECK: layer : tensor<1x1xf32> = {{\[\[}}-63]]
func.func @norms() -> (tensor<1x1xi32> {bitnet.name = "acc"}, tensor<1x1xf32> {bitnet.name = "layer"}) {
  %x = arith.constant dense<[[3.0, 4.0]]> : tensor<1x2xf32>
  %g = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %w = arith.constant dense<1> : tensor<1x2xi2>
  %n = bitnet.rms_norm %x, %g {eps = 0.0 : f32} : tensor<1x2xf32>, tensor<2xf32>
  %q, %a, %c = bitnet.quantize %n {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<1x2xf32> -> tensor<1x2xi8>, tensor<1xf32>, tensor<1xi32>
  %acc = bitnet.matmul %q, %w sums(%c) : (tensor<1x2xi8>, tensor<1x2xi2>, tensor<1xi32>) -> tensor<1x1xi32>
  %x2 = arith.constant dense<[[1.0, 3.0]]> : tensor<1x2xf32>
  %gain = arith.constant dense<31.75> : tensor<2xf32>
  %shift = arith.constant dense<95.25> : tensor<2xf32>
  %w2 = arith.constant dense<[[1, 0]]> : tensor<1x2xi1>
  %s = arith.constant dense<1.0> : tensor<1xf32>
  %layer = bitnet.linear %x2, %w2 scale(%s) norm_weight(%gain) norm_bias(%shift) {norm = #bitnet.norm<layer, eps = 0.0>,
    activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
    : (tensor<1x2xf32>, tensor<1x2xi1>, tensor<1xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x1xf32>
  return %acc, %layer : tensor<1x1xi32>, tensor<1x1xf32>
}

// The largest sums of a published shape: 127 * 14336. 16-bit floats hold neither of them.
// CHECK-LABEL: @extreme
// CHECK: tensor<1x2xi32> = {{\[\[}}1820672, -1820672]]
// CHECK: tensor<1x1xi32> = {{\[\[}}-1835008]]
func.func @extreme() -> (tensor<1x2xi32>, tensor<1x1xi32>) {
  %q = arith.constant dense<127> : tensor<1x14336xi8>
  %c = arith.constant dense<1820672> : tensor<1xi32>
  %one = arith.constant dense<1> : tensor<1x14336xi2>
  %minus = arith.constant dense<-1> : tensor<1x14336xi2>
  %w = tensor.concat dim(0) %one, %minus : (tensor<1x14336xi2>, tensor<1x14336xi2>) -> tensor<2x14336xi2>
  %acc = bitnet.matmul %q, %w sums(%c) : (tensor<1x14336xi8>, tensor<2x14336xi2>, tensor<1xi32>) -> tensor<1x2xi32>
  %low = arith.constant dense<-128> : tensor<1x14336xi8>
  %lc = arith.constant dense<-1835008> : tensor<1xi32>
  %b = arith.constant dense<true> : tensor<1x14336xi1>
  %acc2 = bitnet.matmul %low, %b sums(%lc) : (tensor<1x14336xi8>, tensor<1x14336xi1>, tensor<1xi32>) -> tensor<1x1xi32>
  return %acc, %acc2 : tensor<1x2xi32>, tensor<1x1xi32>
}
