// The worked example of the Hugging Face post on 1.58-bit fine-tuning (weights and inputs; its quantisers by the papers'
// code), through the layer as one operation and step by step, on bitnet and on ternary operations.
// RUN: setun-opt --interpret %s --probe | FileCheck %s
// RUN: setun-opt --canonicalize %s | setun-opt --interpret - --probe | FileCheck %s

// CHECK-LABEL: @b158
// CHECK: codes : tensor<3x3xi2> = {{\[\[}}1, -1, 1], [-1, 0, -1], [1, -1, 0]]
// CHECK: scale : tensor<1xf32> = [0.833333313]
// CHECK: y : tensor<3x3xf32> = {{\[\[1\.91601[0-9]*, -1\.41732[0-9]*, 1\.33202[0-9]*\], \[-2\.07874[0-9]*, 1\.74803[0-9]*, -1\.07874[0-9]*\], \[1\.33333[0-9]*, -0\.91863[0-9]*, 1\.08136[0-9]*\]\]}}
// CHECK: probe.linear0.codes : tensor<3x3xi8> = {{\[\[}}127, -76, 89], [-95, 42, -127], [127, -79, 48]]
// CHECK: probe.linear0.acc : tensor<3x3xi32> = {{\[\[}}292, -216, 203], [-264, 222, -137], [254, -175, 206]]
func.func @b158() -> (tensor<3x3xi2> {bitnet.name = "codes"}, tensor<1xf32> {bitnet.name = "scale"}, tensor<3x3xf32> {bitnet.name = "y"}) {
  %m = arith.constant dense<[[0.8, -0.5, 1.2], [-1.5, 0.4, -0.9], [1.3, -0.7, 0.2]]> : tensor<3x3xf32>
  %x = arith.constant dense<[[1.0, -0.6, 0.7], [-0.9, 0.4, -1.2], [0.8, -0.5, 0.3]]> : tensor<3x3xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<3x3xf32> -> tensor<3x3xi2>, tensor<1xf32>
  %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<3x3xf32>, tensor<3x3xi2>, tensor<1xf32>) -> tensor<3x3xf32>
  return %w, %s, %y : tensor<3x3xi2>, tensor<1xf32>, tensor<3x3xf32>
}

// CHECK-LABEL: @b158_steps
// CHECK: q : tensor<3x3xi8> = {{\[\[}}127, -76, 89], [-95, 42, -127], [127, -79, 48]]
// CHECK: sums : tensor<3xi32> = [140, -180, 96]
// CHECK: acc : tensor<3x3xi32> = {{\[\[}}292, -216, 203], [-264, 222, -137], [254, -175, 206]]
// CHECK: y : tensor<3x3xf32> = {{\[\[}}1.91601{{[0-9]*}}, -1.41732{{[0-9]*}}, 1.33202{{[0-9]*}}]
func.func @b158_steps() -> (tensor<3x3xi8> {bitnet.name = "q"}, tensor<3xi32> {bitnet.name = "sums"},
                            tensor<3x3xi32> {bitnet.name = "acc"}, tensor<3x3xf32> {bitnet.name = "y"}) {
  %x = arith.constant dense<[[1.0, -0.6, 0.7], [-0.9, 0.4, -1.2], [0.8, -0.5, 0.3]]> : tensor<3x3xf32>
  %w = arith.constant dense<[[1, -1, 1], [-1, 0, -1], [1, -1, 0]]> : tensor<3x3xi2>
  %ws = arith.constant dense<0.833333313> : tensor<1xf32>
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<3x3xf32> -> tensor<3x3xi8>, tensor<3xf32>, tensor<3xi32>
  %acc = bitnet.matmul %q, %w sums(%c) : (tensor<3x3xi8>, tensor<3x3xi2>, tensor<3xi32>) -> tensor<3x3xi32>
  %y = bitnet.dequantize %acc scale(%ws) act_scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<3x3xi32>, tensor<1xf32>, tensor<3xf32>) -> tensor<3x3xf32>
  return %q, %c, %acc, %y : tensor<3x3xi8>, tensor<3xi32>, tensor<3x3xi32>, tensor<3x3xf32>
}

// CHECK-LABEL: @b158_packed
// CHECK: q : tensor<3x4xi8> = {{\[\[}}127, -76, 89, 0], [-95, 42, -127, 0], [127, -79, 48, 0]]
// CHECK: sums : tensor<3xi32> = [140, -180, 96]
// CHECK: y : tensor<3x3xf32> = {{\[\[}}1.91601{{[0-9]*}}, -1.41732{{[0-9]*}}, 1.33202{{[0-9]*}}]
// CHECK: acc : tensor<3x3xi32> = {{\[\[}}292, -216, 203], [-264, 222, -137], [254, -175, 206]]
func.func @b158_packed() -> (tensor<3x4xi8> {bitnet.name = "q"}, tensor<3xi32> {bitnet.name = "sums"},
                             tensor<3x3xf32> {bitnet.name = "y"}, tensor<3x3xi32> {bitnet.name = "acc"}) {
  %x = arith.constant dense<[[1.0, -0.6, 0.7], [-0.9, 0.4, -1.2], [0.8, -0.5, 0.3]]> : tensor<3x3xf32>
  %w = arith.constant dense<[[1, -1, 1], [-1, 0, -1], [1, -1, 0]]> : tensor<3x3xi2>
  %ws = arith.constant dense<0.833333313> : tensor<1xf32>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 3, cols = 3>} : (tensor<3x3xi2>) -> tensor<64xi8>
  %ps = ternary.pack_scales %ws {layout = #ternary.layout<r16k4f4, rows = 3, cols = 3>, row_counts = array<i64: 3>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<1x1x64xf32>
  %qe = tensor.empty() : tensor<3x4xi8>
  %se = tensor.empty() : tensor<3xf32>
  %ce = tensor.empty() : tensor<3xi32>
  %q, %s, %c = ternary.quantize %x outs(%qe, %se, %ce) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<3x3xf32>, tensor<3x4xi8>, tensor<3xf32>, tensor<3xi32>) -> (tensor<3x4xi8>, tensor<3xf32>, tensor<3xi32>)
  %ye = tensor.empty() : tensor<3x3xf32>
  %ae = tensor.empty() : tensor<3x3xi32>
  %y, %acc = ternary.matmul %q, %p, %ps act_scale(%s) sums(%c) outs(%ye) acc_outs(%ae) {
    layout = #ternary.layout<r16k4f4, rows = 3, cols = 3>}
    : (tensor<3x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<3xf32>, tensor<3xi32>, tensor<3x3xf32>, tensor<3x3xi32>)
      -> (tensor<3x3xf32>, tensor<3x3xi32>)
  return %q, %c, %y, %acc : tensor<3x4xi8>, tensor<3xi32>, tensor<3x3xf32>, tensor<3x3xi32>
}

// Binary weights: centred before the sign, scaled by the mean magnitude of the uncentred weights.
// CHECK-LABEL: @b1
// CHECK: signs : tensor<3x3xi1> = {{\[\[}}1, 0, 1], [0, 1, 0], [1, 0, 1]]
// CHECK: beta : tensor<1xf32> = [0.833333313]
// CHECK: y : tensor<3x3xf32> = {{\[\[}}1.91601{{[0-9]*}}, -1.91601{{[0-9]*}}, 1.91601{{[0-9]*}}]
// CHECK: probe.linear0.codes : tensor<3x3xi8> = {{\[\[}}127, -76, 89], [-95, 42, -127], [127, -79, 48]]
// CHECK: probe.linear0.acc : tensor<3x3xi32> = {{\[\[}}292, -292, 292], [-264, 264, -264], [254, -254, 254]]
func.func @b1() -> (tensor<3x3xi1> {bitnet.name = "signs"}, tensor<1xf32> {bitnet.name = "beta"}, tensor<3x3xf32> {bitnet.name = "y"}) {
  %m = arith.constant dense<[[0.8, -0.5, 1.2], [-1.5, 0.4, -0.9], [1.3, -0.7, 0.2]]> : tensor<3x3xf32>
  %x = arith.constant dense<[[1.0, -0.6, 0.7], [-0.9, 0.4, -1.2], [0.8, -0.5, 0.3]]> : tensor<3x3xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<sign>, eps = 1.0e-5 : f32}
    : tensor<3x3xf32> -> tensor<3x3xi1>, tensor<1xf32>
  %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<3x3xf32>, tensor<3x3xi1>, tensor<1xf32>) -> tensor<3x3xf32>
  return %w, %s, %y : tensor<3x3xi1>, tensor<1xf32>, tensor<3x3xf32>
}

// CHECK-LABEL: @b1_packed
// CHECK: acc : tensor<3x3xi32> = {{\[\[}}292, -292, 292], [-264, 264, -264], [254, -254, 254]]
func.func @b1_packed() -> (tensor<3x3xi32> {bitnet.name = "acc"}) {
  %q = arith.constant dense<[[127, -76, 89, 0], [-95, 42, -127, 0], [127, -79, 48, 0]]> : tensor<3x4xi8>
  %c = arith.constant dense<[140, -180, 96]> : tensor<3xi32>
  %w = arith.constant dense<[[1, 0, 1], [0, 1, 0], [1, 0, 1]]> : tensor<3x3xi1>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f8, rows = 3, cols = 3>} : (tensor<3x3xi1>) -> tensor<64xi8>
  %ps = arith.constant dense<0.0> : tensor<1x1x128xf32>
  %ae = tensor.empty() : tensor<3x3xi32>
  %acc = ternary.matmul %q, %p, %ps sums(%c) acc_outs(%ae) {layout = #ternary.layout<r16k4f8, rows = 3, cols = 3>}
    : (tensor<3x4xi8>, tensor<64xi8>, tensor<1x1x128xf32>, tensor<3xi32>, tensor<3x3xi32>) -> tensor<3x3xi32>
  return %acc : tensor<3x3xi32>
}
