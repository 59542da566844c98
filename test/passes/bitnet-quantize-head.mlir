// RUN: setun-opt %s --bitnet-quantize-head | FileCheck %s
// RUN: setun-opt %s --bitnet-quantize-head --bitnet-quantize-head | FileCheck %s
// RUN: setun-opt %s --bitnet-to-ternary-pipeline=head=int8 | FileCheck %s --check-prefix=TERNARY

// Logits and choice use the same 8-bit rows; the product in between, of another matrix, stays.
// CHECK-LABEL: func.func @forward
// CHECK-SAME: %[[X:.*]]: tensor<1x8xf32> {{{.*}}}, %[[K:.*]]: tensor<1xi64>
// CHECK: %[[HEAD:.*]] = bitnet.weight "head" : tensor<20x8xbf16>
// CHECK: %[[H:.*]] = bitnet.dense %[[X]], %{{.*}} : (tensor<1x8xf32>, tensor<8x8xf32>) -> tensor<1x8xf32>
// CHECK: %[[C:.*]], %[[S:.*]] = bitnet.quantize_weight %[[HEAD]] {eps = 1.000000e-30 : f32, method = #bitnet.weight_quant<absmax>, scales = #bitnet.scales<rows>} : tensor<20x8xbf16> -> tensor<20x8xi8>, tensor<20xf32>
// CHECK: %[[Y:.*]] = bitnet.linear %[[H]], %[[C]] scale(%[[S]]) bias(%{{.*}}) {activation = #bitnet.act_quant<per_token, bits = 8, eps = {{.*}}>, scales = #bitnet.scales<rows>}
// CHECK: %[[LOGITS:.*]] = bitnet.linear %[[X]], %{{.*}} -> tensor<1x20xf32>
// CHECK: %[[IDS:.*]], %[[BEST:.*]] = bitnet.largest %[[LOGITS]], %[[K]] : (tensor<1x20xf32>, tensor<1xi64>) -> (tensor<4xi64>, tensor<4xf32>)
// CHECK: return %[[Y]], %[[IDS]], %[[BEST]]
// TERNARY-LABEL: func.func @forward
// TERNARY: ternary.dense
// TERNARY: ternary.matmul {{.*}}layout = #ternary.layout<r16k4i8, rows = 20, cols = 8>
// TERNARY: ternary.matmul {{.*}}layout = #ternary.layout<r16k4i8, rows = 20, cols = 8>
// TERNARY: ternary.head_select
func.func @forward(%x: tensor<1x8xf32> {bitnet.name = "x"}, %k: tensor<1xi64> {bitnet.name = "k"})
    -> (tensor<1x20xf32> {bitnet.name = "y"}, tensor<4xi64> {bitnet.name = "ids"}, tensor<4xf32> {bitnet.name = "best"})
    attributes {bitnet.entry} {
  %head = bitnet.weight "head" : tensor<20x8xbf16>
  %other = bitnet.weight "other" : tensor<8x8xf32>
  %bias = bitnet.weight "bias" : tensor<20xf32>
  %h = bitnet.dense %x, %other : (tensor<1x8xf32>, tensor<8x8xf32>) -> tensor<1x8xf32>
  %y = bitnet.dense %h, %head bias(%bias) : (tensor<1x8xf32>, tensor<20x8xbf16>, tensor<20xf32>) -> tensor<1x20xf32>
  %ids, %best = bitnet.top_k %x, %head, %k
    : (tensor<1x8xf32>, tensor<20x8xbf16>, tensor<1xi64>) -> (tensor<4xi64>, tensor<4xf32>)
  return %y, %ids, %best : tensor<1x20xf32>, tensor<4xi64>, tensor<4xf32>
}

// The same matrix elsewhere is the head, too.
// CHECK-LABEL: func.func @inner
// CHECK-NOT: bitnet.dense
func.func @inner(%x: tensor<3x8xf32> {bitnet.name = "x"}) -> (tensor<3x20xf32> {bitnet.name = "y"})
    attributes {bitnet.entry} {
  %head = bitnet.weight "head" : tensor<20x8xbf16>
  %l = bitnet.dense %x, %head : (tensor<3x8xf32>, tensor<20x8xbf16>) -> tensor<3x20xf32>
  %y = arith.negf %l : tensor<3x20xf32>
  return %y : tensor<3x20xf32>
}
