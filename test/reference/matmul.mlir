// ternary.matmul against bitnet operations: row orders, epilogues, residuals, fused projections, shapes that fill no tile.
// RUN: setun-opt --interpret %s | FileCheck %s

// Two matrices packed as one, each with its own scale.
// CHECK-LABEL: @fused_projections
// CHECK-NEXT: a : tensor<2x3xf32> = [[A:.*]]
// CHECK-NEXT: b : tensor<2x2xf32> = [[B:.*]]
// CHECK-NEXT: fused_a : tensor<2x3xf32> = [[A]]
// CHECK-NEXT: fused_b : tensor<2x2xf32> = [[B]]
func.func @fused_projections() -> (tensor<2x3xf32> {bitnet.name = "a"}, tensor<2x2xf32> {bitnet.name = "b"},
                                   tensor<2x3xf32> {bitnet.name = "fused_a"}, tensor<2x2xf32> {bitnet.name = "fused_b"}) {
  %x = arith.constant dense<[[0.3, -1.7, 0.9, 2.2, -0.1], [5.0, 1.25, -3.5, 0.0, 0.7]]> : tensor<2x5xf32>
  %wa = arith.constant dense<[[1, 0, -1, 1, 1], [-1, -1, 0, 0, 1], [0, 1, 1, -1, 0]]> : tensor<3x5xi2>
  %wb = arith.constant dense<[[-1, 1, 1, 0, 0], [1, 1, -1, -1, 1]]> : tensor<2x5xi2>
  %sa = arith.constant dense<[0.37, 1.9]> : tensor<2xf32>
  %sb = arith.constant dense<3.3> : tensor<1xf32>
  %bias = arith.constant dense<[0.1, 0.2, 0.3, 0.4, 0.5]> : tensor<5xf32>
  %ba = tensor.extract_slice %bias[0] [3] [1] : tensor<5xf32> to tensor<3xf32>
  %bb = tensor.extract_slice %bias[3] [2] [1] : tensor<5xf32> to tensor<2xf32>
  %a = bitnet.linear %x, %wa scale(%sa) bias(%ba) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<rows = [1, 2]>} : (tensor<2x5xf32>, tensor<3x5xi2>, tensor<2xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %b = bitnet.linear %x, %wb scale(%sb) bias(%bb) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, direction = #bitnet.direction<divide>}
    : (tensor<2x5xf32>, tensor<2x5xi2>, tensor<1xf32>, tensor<2xf32>) -> tensor<2x2xf32>

  %qe = tensor.empty() : tensor<2x8xi8>
  %se = tensor.empty() : tensor<2xf32>
  %ce = tensor.empty() : tensor<2xi32>
  %q, %s, %c = ternary.quantize %x outs(%qe, %se, %ce) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<2x5xf32>, tensor<2x8xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x8xi8>, tensor<2xf32>, tensor<2xi32>)
  %p = ternary.pack %wa, %wb {layout = #ternary.layout<r16k4f4, rows = 5, cols = 5>}
    : (tensor<3x5xi2>, tensor<2x5xi2>) -> tensor<128xi8>
  %ps = ternary.pack_scales %sa, %sb {layout = #ternary.layout<r16k4f4, rows = 5, cols = 5>, row_counts = array<i64: 3, 2>,
    scales = [#bitnet.scales<rows = [1, 2]>, #bitnet.scales<tensor>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<divide>]} : (tensor<2xf32>, tensor<1xf32>) -> tensor<1x1x64xf32>
  %ye = tensor.empty() : tensor<2x5xf32>
  %y = ternary.matmul %q, %p, %ps act_scale(%s) sums(%c) bias(%bias) outs(%ye) {layout = #ternary.layout<r16k4f4, rows = 5, cols = 5>}
    : (tensor<2x8xi8>, tensor<128xi8>, tensor<1x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<5xf32>, tensor<2x5xf32>) -> tensor<2x5xf32>
  %ya = tensor.extract_slice %y[0, 0] [2, 3] [1, 1] : tensor<2x5xf32> to tensor<2x3xf32>
  %yb = tensor.extract_slice %y[0, 3] [2, 2] [1, 1] : tensor<2x5xf32> to tensor<2x2xf32>
  return %a, %b, %ya, %yb : tensor<2x3xf32>, tensor<2x2xf32>, tensor<2x3xf32>, tensor<2x2xf32>
}

// Gate and up in one gated layout, with either activation; binary weights and a residual for the second.
// CHECK-LABEL: @gated
// CHECK-NEXT: silu : tensor<2x3xf32> = [[S:.*]]
// CHECK-NEXT: fused_silu : tensor<2x3xf32> = [[S]]
// CHECK-NEXT: relu2 : tensor<2x3xf32> = [[R:.*]]
// CHECK-NEXT: fused_relu2 : tensor<2x3xf32> = [[R]]
func.func @gated() -> (tensor<2x3xf32> {bitnet.name = "silu"}, tensor<2x3xf32> {bitnet.name = "fused_silu"},
                       tensor<2x3xf32> {bitnet.name = "relu2"}, tensor<2x3xf32> {bitnet.name = "fused_relu2"}) {
  %x = arith.constant dense<[[0.3, -1.7, 0.9, 2.2, -0.1], [5.0, 1.25, -3.5, 0.0, 0.7]]> : tensor<2x5xf32>
  %r = arith.constant dense<[[0.3, -1.7, 0.9], [5.0, 1.25, -3.5]]> : tensor<2x3xf32>
  %wg = arith.constant dense<[[1, 0, -1, 1, 1], [-1, -1, 0, 0, 1], [0, 1, 1, -1, 0]]> : tensor<3x5xi2>
  %wu = arith.constant dense<[[-1, 1, 1, 0, 0], [1, 1, -1, -1, 1], [1, 0, 0, 0, 1]]> : tensor<3x5xi2>
  %bg = arith.constant dense<[[1, 0, 1, 1, 1], [1, 1, 0, 0, 1], [0, 1, 1, 1, 0]]> : tensor<3x5xi1>
  %bu = arith.constant dense<[[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 1]]> : tensor<3x5xi1>
  %sg = arith.constant dense<0.37> : tensor<1xf32>
  %su = arith.constant dense<1.9> : tensor<1xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<2x5xf32> -> tensor<2x5xi8>, tensor<2xf32>, tensor<2xi32>
  %ag = bitnet.matmul %q, %wg sums(%c) : (tensor<2x5xi8>, tensor<3x5xi2>, tensor<2xi32>) -> tensor<2x3xi32>
  %au = bitnet.matmul %q, %wu sums(%c) : (tensor<2x5xi8>, tensor<3x5xi2>, tensor<2xi32>) -> tensor<2x3xi32>
  %g = bitnet.dequantize %ag scale(%sg) act_scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<2x3xi32>, tensor<1xf32>, tensor<2xf32>) -> tensor<2x3xf32>
  %u = bitnet.dequantize %au scale(%su) act_scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<2x3xi32>, tensor<1xf32>, tensor<2xf32>) -> tensor<2x3xf32>
  %silu = bitnet.gated %g, %u {act = #bitnet.gate_act<silu>} : tensor<2x3xf32>
  %abg = bitnet.matmul %q, %bg sums(%c) : (tensor<2x5xi8>, tensor<3x5xi1>, tensor<2xi32>) -> tensor<2x3xi32>
  %abu = bitnet.matmul %q, %bu sums(%c) : (tensor<2x5xi8>, tensor<3x5xi1>, tensor<2xi32>) -> tensor<2x3xi32>
  %g2 = bitnet.dequantize %abg scale(%sg) act_scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<2x3xi32>, tensor<1xf32>, tensor<2xf32>) -> tensor<2x3xf32>
  %u2 = bitnet.dequantize %abu scale(%su) act_scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<2x3xi32>, tensor<1xf32>, tensor<2xf32>) -> tensor<2x3xf32>
  %squared = bitnet.gated %g2, %u2 {act = #bitnet.gate_act<relu2>} : tensor<2x3xf32>
  %relu2 = arith.addf %r, %squared : tensor<2x3xf32>

  %zero = arith.constant dense<0> : tensor<2x8xi8>
  %qp = tensor.insert_slice %q into %zero[0, 0] [2, 5] [1, 1] : tensor<2x5xi8> into tensor<2x8xi8>
  %p = ternary.pack %wg, %wu {layout = #ternary.layout<r16k4f4, rows = 6, cols = 5, order = gated>}
    : (tensor<3x5xi2>, tensor<3x5xi2>) -> tensor<128xi8>
  %ps = ternary.pack_scales %sg, %su {layout = #ternary.layout<r16k4f4, rows = 6, cols = 5, order = gated>,
    row_counts = array<i64: 3, 3>, scales = [#bitnet.scales<tensor>, #bitnet.scales<tensor>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]} : (tensor<1xf32>, tensor<1xf32>) -> tensor<1x1x64xf32>
  %pb = ternary.pack %bg, %bu {layout = #ternary.layout<r16k4f8, rows = 6, cols = 5, order = gated>}
    : (tensor<3x5xi1>, tensor<3x5xi1>) -> tensor<128xi8>
  %psb = ternary.pack_scales %sg, %su {layout = #ternary.layout<r16k4f8, rows = 6, cols = 5, order = gated>,
    row_counts = array<i64: 3, 3>, scales = [#bitnet.scales<tensor>, #bitnet.scales<tensor>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]} : (tensor<1xf32>, tensor<1xf32>) -> tensor<1x1x128xf32>
  %e = tensor.empty() : tensor<2x3xf32>
  %fs = ternary.matmul %qp, %p, %ps act_scale(%s) sums(%c) outs(%e) {epilogue = #ternary.epilogue<silu>,
    layout = #ternary.layout<r16k4f4, rows = 6, cols = 5, order = gated>}
    : (tensor<2x8xi8>, tensor<128xi8>, tensor<1x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %fr = ternary.matmul %qp, %pb, %psb act_scale(%s) sums(%c) residual(%r) outs(%e) {epilogue = #ternary.epilogue<relu2>,
    layout = #ternary.layout<r16k4f8, rows = 6, cols = 5, order = gated>}
    : (tensor<2x8xi8>, tensor<128xi8>, tensor<1x1x128xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  return %silu, %fs, %relu2, %fr : tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>
}

// Weight-only, with the bias before the scale.
// CHECK-LABEL: @weight_only
// CHECK-NEXT: y : tensor<1x2xf32> = [[Y:.*]]
// CHECK-NEXT: packed : tensor<1x2xf32> = [[Y]]
// CHECK-NEXT: acc : tensor<1x2xf32> = {{\[\[}}-2.75, -2.5]]
func.func @weight_only() -> (tensor<1x2xf32> {bitnet.name = "y"}, tensor<1x2xf32> {bitnet.name = "packed"},
                             tensor<1x2xf32> {bitnet.name = "acc"}) {
  %x = arith.constant dense<[[0.25, -1.75, 1.25, 2.125, -0.125]]> : tensor<1x5xf32>
  %w = arith.constant dense<[[1, 1, -1, 0, 0], [-1, 0, 0, -1, 1]]> : tensor<2x5xi2>
  %s = arith.constant dense<0.37> : tensor<1xf32>
  %b = arith.constant dense<[0.1, 0.2]> : tensor<2xf32>
  %y = bitnet.linear %x, %w scale(%s) bias(%b) {scales = #bitnet.scales<tensor>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<1x5xf32>, tensor<2x5xi2>, tensor<1xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 5>} : (tensor<2x5xi2>) -> tensor<128xi8>
  %ps = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 5>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<1x1x64xf32>
  %e = tensor.empty() : tensor<1x2xf32>
  %f:2 = ternary.matmul %x, %p, %ps bias(%b) outs(%e) acc_outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 5>,
    bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<1x5xf32>, tensor<128xi8>, tensor<1x1x64xf32>, tensor<2xf32>, tensor<1x2xf32>, tensor<1x2xf32>)
      -> (tensor<1x2xf32>, tensor<1x2xf32>)
  return %y, %f#0, %f#1 : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// One scale for a panel is the same as one for each of its rows.
// CHECK-LABEL: @panel_scales
// CHECK-NEXT: rows : tensor<1x66xf32> = [[Y:.*]]
// CHECK-NEXT: panels : tensor<1x66xf32> = [[Y]]
func.func @panel_scales() -> (tensor<1x66xf32> {bitnet.name = "rows"}, tensor<1x66xf32> {bitnet.name = "panels"}) {
  %q = arith.constant dense<[[3, -2, 5, 7]]> : tensor<1x4xi8>
  %c = arith.constant dense<13> : tensor<1xi32>
  %a = arith.constant dense<0.5> : tensor<1xf32>
  %w = arith.constant dense<1> : tensor<66x4xi2>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>} : (tensor<66x4xi2>) -> tensor<128xi8>
  %s = arith.constant dense<0.75> : tensor<1xf32>
  %t = arith.constant dense<0.25> : tensor<1xf32>
  %rows = ternary.pack_scales %s, %t {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>, row_counts = array<i64: 64, 2>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]}
    : (tensor<1xf32>, tensor<1xf32>) -> tensor<2x1x64xf32>
  %panels = arith.constant dense<[[[0.75]], [[0.25]]]> : tensor<2x1x1xf32>
  %e = tensor.empty() : tensor<1x66xf32>
  %y = ternary.matmul %q, %p, %rows act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>}
    : (tensor<1x4xi8>, tensor<128xi8>, tensor<2x1x64xf32>, tensor<1xf32>, tensor<1xi32>, tensor<1x66xf32>) -> tensor<1x66xf32>
  %z = ternary.matmul %q, %p, %panels act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>}
    : (tensor<1x4xi8>, tensor<128xi8>, tensor<2x1x1xf32>, tensor<1xf32>, tensor<1xi32>, tensor<1x66xf32>) -> tensor<1x66xf32>
  return %y, %z : tensor<1x66xf32>, tensor<1x66xf32>
}
