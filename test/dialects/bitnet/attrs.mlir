// Attributes of the dialect, and the ones that describe entry points.
// RUN: setun-opt %s --verify-roundtrip | FileCheck %s

// CHECK: bitnet.provenance = {source = "somewhere"}
module attributes {bitnet.provenance = {source = "somewhere"}} {

// CHECK-LABEL: func @attributes
func.func @attributes() attributes {
  // CHECK-SAME: a = #bitnet.act_quant<per_token, bits = 8, eps = 9.99999974E-6>
  a = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
  // CHECK-SAME: b = #bitnet.act_quant<per_tensor, bits = 2, eps = 1.000000e+00>
  b = #bitnet.act_quant<per_tensor, bits = 2, eps = 1.0>,
  // CHECK-SAME: c = #bitnet.norm<none, eps = 0.000000e+00>
  c = #bitnet.norm<none, eps = 0.0>,
  // CHECK-SAME: d = #bitnet.norm<rms, eps = 9.99999997E-7>
  d = #bitnet.norm<rms, eps = 1.0e-6>,
  // CHECK-SAME: e = #bitnet.norm<layer, eps = 1.000000e+00>
  e = #bitnet.norm<layer, eps = 1.0>,
  // CHECK-SAME: f = #bitnet.scales<tensor>
  f = #bitnet.scales<tensor>,
  // CHECK-SAME: g = #bitnet.scales<rows = [1]>
  g = #bitnet.scales<rows = [1]>,
  // CHECK-SAME: h = #bitnet.scales<rows = [3, 2, 1]>
  h = #bitnet.scales<rows = [3, 2, 1]>,
  // CHECK-SAME: i = #bitnet.scales<group = 128>
  i = #bitnet.scales<group = 128>,
  // CHECK-SAME: j = #bitnet.direction<multiply>, k = #bitnet.direction<divide>
  j = #bitnet.direction<multiply>, k = #bitnet.direction<divide>,
  // CHECK-SAME: l = #bitnet.bias_place<after_scale>, m = #bitnet.bias_place<before_scale>
  l = #bitnet.bias_place<after_scale>, m = #bitnet.bias_place<before_scale>,
  // CHECK-SAME: n = #bitnet.weight_quant<absmean>, o = #bitnet.weight_quant<sign>
  n = #bitnet.weight_quant<absmean>, o = #bitnet.weight_quant<sign>,
  // CHECK-SAME: p = #bitnet.gate_act<relu2>, q = #bitnet.gate_act<silu>
  p = #bitnet.gate_act<relu2>, q = #bitnet.gate_act<silu>,
  // CHECK-SAME: r = #bitnet.scales<rows>, s = #bitnet.weight_quant<absmax>
  r = #bitnet.scales<rows>, s = #bitnet.weight_quant<absmax>
} {
  return
}

// CHECK-LABEL: func @forward
// CHECK-SAME: %{{.*}}: tensor<?xi64> {bitnet.dims = ["T"], bitnet.name = "tokens"}
// CHECK-SAME: %{{.*}}: i64 {bitnet.position}
// CHECK-SAME: %{{.*}}: tensor<?x5x128xf32> {bitnet.dims = ["C"], bitnet.state = "layers.0.k"}
// CHECK-SAME: attributes {bitnet.entry, bitnet.max_context = 4096 : i64, bitnet.reset}
func.func @forward(%tokens: tensor<?xi64> {bitnet.name = "tokens", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                   %k: tensor<?x5x128xf32> {bitnet.state = "layers.0.k", bitnet.dims = ["C"]})
    -> (tensor<?xi64> {bitnet.name = "out", bitnet.dims = ["T"]},
        tensor<?x5x128xf32> {bitnet.state = "layers.0.k", bitnet.dims = ["C"]})
    attributes {bitnet.entry, bitnet.reset, bitnet.max_context = 4096 : i64} {
  return %tokens, %k : tensor<?xi64>, tensor<?x5x128xf32>
}

}
