// Every operation in every form, through text (custom and generic) and bytecode.
// RUN: setun-opt %s --verify-roundtrip | FileCheck %s
// RUN: setun-opt %s --mlir-print-op-generic | setun-opt | FileCheck %s

// CHECK-LABEL: func @weight
func.func @weight() {
  // CHECK: bitnet.weight "a.weight" : tensor<6x5xi2>
  %0 = bitnet.weight "a.weight" : tensor<6x5xi2>
  // CHECK: bitnet.weight "b.weight" : tensor<6x5xi1>
  %1 = bitnet.weight "b.weight" : tensor<6x5xi1>
  // CHECK: bitnet.weight "norm" : tensor<5xf32>
  %2 = bitnet.weight "norm" : tensor<5xf32>
  // CHECK: bitnet.weight "table" : tensor<6x5xf16>
  %3 = bitnet.weight "table" : tensor<6x5xf16>
  // CHECK: bitnet.weight "scalar" : tensor<bf16>
  %4 = bitnet.weight "scalar" : tensor<bf16>
  return
}

// CHECK-LABEL: func @quantize_weight
func.func @quantize_weight(%w: tensor<8x6xbf16>, %f: tensor<8x6xf32>) {
  // CHECK: bitnet.quantize_weight %{{.*}} {eps = 9.99999974E-6 : f32, method = #bitnet.weight_quant<absmean>} : tensor<8x6xbf16> -> tensor<8x6xi2>, tensor<1xf32>
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<8x6xbf16> -> tensor<8x6xi2>, tensor<1xf32>
  // CHECK: bitnet.quantize_weight %{{.*}} {eps = 0.000000e+00 : f32, method = #bitnet.weight_quant<sign>, scales = #bitnet.scales<group = 4>} : tensor<8x6xf32> -> tensor<8x6xi1>, tensor<8x2xf32>
  %1:2 = bitnet.quantize_weight %f {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32, scales = #bitnet.scales<group = 4>}
    : tensor<8x6xf32> -> tensor<8x6xi1>, tensor<8x2xf32>
  // CHECK: scales = #bitnet.scales<tensor>
  %2:2 = bitnet.quantize_weight %f {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32, scales = #bitnet.scales<tensor>}
    : tensor<8x6xf32> -> tensor<8x6xi1>, tensor<1xf32>
  return
}

// CHECK-LABEL: func @linear
func.func @linear(%x: tensor<?x6xf32>, %xs: tensor<2x6xf32>, %w: tensor<8x6xi2>, %b: tensor<8x6xi1>, %s: tensor<1xf32>,
                  %rows: tensor<2xf32>, %groups: tensor<8x2xf32>, %bias: tensor<8xf32>, %g: tensor<6xf32>) {
  // CHECK: bitnet.linear %{{.*}}, %{{.*}} scale(%{{.*}}) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 9.99999974E-6>, scales = #bitnet.scales<tensor>} : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  %0 = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  // CHECK: bitnet.linear {{.*}} bias(%{{.*}}) norm_weight(%{{.*}}) {activation = #bitnet.act_quant<per_tensor, bits = 4, eps = 9.99999974E-6>, norm = #bitnet.norm<rms, eps = 9.99999974E-6>, scales = #bitnet.scales<rows = [3, 5]>}
  %1 = bitnet.linear %x, %b scale(%rows) bias(%bias) norm_weight(%g) {
    activation = #bitnet.act_quant<per_tensor, bits = 4, eps = 1.0e-5>, scales = #bitnet.scales<rows = [3, 5]>,
    norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x6xf32>, tensor<8x6xi1>, tensor<2xf32>, tensor<8xf32>, tensor<6xf32>) -> tensor<?x8xf32>
  // CHECK: bitnet.linear {{.*}} norm_weight(%{{.*}}) norm_bias(%{{.*}}) {norm = #bitnet.norm<layer, eps = 0.000000e+00>, scales = #bitnet.scales<group = 4>}
  %2 = bitnet.linear %xs, %w scale(%groups) norm_weight(%g) norm_bias(%g) {scales = #bitnet.scales<group = 4>,
    norm = #bitnet.norm<layer, eps = 0.0>}
    : (tensor<2x6xf32>, tensor<8x6xi2>, tensor<8x2xf32>, tensor<6xf32>, tensor<6xf32>) -> tensor<2x8xf32>
  // CHECK: bitnet.linear {{.*}} bias(%{{.*}}) {bias_place = #bitnet.bias_place<before_scale>, direction = #bitnet.direction<divide>, norm = #bitnet.norm<none, eps = 0.000000e+00>, scales = #bitnet.scales<tensor>}
  %3 = bitnet.linear %x, %w scale(%s) bias(%bias) {scales = #bitnet.scales<tensor>, norm = #bitnet.norm<none, eps = 0.0>,
    direction = #bitnet.direction<divide>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func @quantize
func.func @quantize(%x: tensor<?x6xf32>) {
  // CHECK: bitnet.quantize %{{.*}} {activation = #bitnet.act_quant<per_token, bits = 8, eps = 9.99999974E-6>} : tensor<?x6xf32> -> tensor<?x6xi8>, tensor<?xf32>, tensor<?xi32>
  %0:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<?x6xf32> -> tensor<?x6xi8>, tensor<?xf32>, tensor<?xi32>
  // CHECK: bitnet.quantize %{{.*}} {activation = #bitnet.act_quant<per_tensor, bits = 2, eps = 9.99999974E-6>} : tensor<?x6xf32> -> tensor<?x6xi8>, tensor<1xf32>, tensor<?xi32>
  %1:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_tensor, bits = 2, eps = 1.0e-5>}
    : tensor<?x6xf32> -> tensor<?x6xi8>, tensor<1xf32>, tensor<?xi32>
  return
}

// CHECK-LABEL: func @matmul
func.func @matmul(%q: tensor<?x6xi8>, %x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %b: tensor<8x6xi1>, %c: tensor<?xi32>) {
  // CHECK: bitnet.matmul %{{.*}}, %{{.*}} sums(%{{.*}}) : (tensor<?x6xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x8xi32>
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<?x6xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x8xi32>
  // CHECK: bitnet.matmul %{{.*}}, %{{.*}} sums(%{{.*}}) {group = 4 : i64} : (tensor<?x6xi8>, tensor<8x6xi1>, tensor<?xi32>) -> tensor<?x8x2xi32>
  %1 = bitnet.matmul %q, %b sums(%c) {group = 4} : (tensor<?x6xi8>, tensor<8x6xi1>, tensor<?xi32>) -> tensor<?x8x2xi32>
  // CHECK: bitnet.matmul %{{.*}}, %{{.*}} : (tensor<?x6xf32>, tensor<8x6xi2>) -> tensor<?x8xf32>
  %2 = bitnet.matmul %x, %w : (tensor<?x6xf32>, tensor<8x6xi2>) -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func @dequantize
func.func @dequantize(%acc: tensor<?x8xi32>, %g: tensor<?x8x2xi32>, %f: tensor<?x8xf32>, %s: tensor<1xf32>,
                      %gs: tensor<8x2xf32>, %a: tensor<?xf32>, %bias: tensor<8xf32>) {
  // CHECK: bitnet.dequantize %{{.*}} scale(%{{.*}}) act_scale(%{{.*}}) {scales = #bitnet.scales<tensor>} : (tensor<?x8xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x8xf32>
  %0 = bitnet.dequantize %acc scale(%s) act_scale(%a) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x8xf32>
  // CHECK: bitnet.dequantize %{{.*}} scale(%{{.*}}) act_scale(%{{.*}}) bias(%{{.*}}) {scales = #bitnet.scales<group = 4>}
  %1 = bitnet.dequantize %g scale(%gs) act_scale(%s) bias(%bias) {scales = #bitnet.scales<group = 4>}
    : (tensor<?x8x2xi32>, tensor<8x2xf32>, tensor<1xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  // CHECK: bitnet.dequantize %{{.*}} scale(%{{.*}}) bias(%{{.*}}) {bias_place = #bitnet.bias_place<before_scale>, direction = #bitnet.direction<divide>, scales = #bitnet.scales<tensor>}
  %2 = bitnet.dequantize %f scale(%s) bias(%bias) {scales = #bitnet.scales<tensor>,
    direction = #bitnet.direction<divide>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<?x8xf32>, tensor<1xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func @norms
func.func @norms(%x: tensor<?x6xf32>, %g: tensor<6xf32>) {
  // CHECK: bitnet.rms_norm %{{.*}}, %{{.*}} {eps = 9.99999974E-6 : f32} : tensor<?x6xf32>, tensor<6xf32>
  %0 = bitnet.rms_norm %x, %g {eps = 1.0e-5 : f32} : tensor<?x6xf32>, tensor<6xf32>
  // CHECK: bitnet.rms_norm %{{[^,]*}} {eps = 9.99999974E-6 : f32} : tensor<?x6xf32>
  %1 = bitnet.rms_norm %x {eps = 1.0e-5 : f32} : tensor<?x6xf32>
  // CHECK: bitnet.layer_norm %{{.*}} weight(%{{.*}}) bias(%{{.*}}) {eps = 9.99999974E-6 : f32} : (tensor<?x6xf32>, tensor<6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
  %2 = bitnet.layer_norm %x weight(%g) bias(%g) {eps = 1.0e-5 : f32}
    : (tensor<?x6xf32>, tensor<6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
  // CHECK: bitnet.layer_norm %{{.*}} bias(%{{.*}}) {eps = 9.99999974E-6 : f32} : (tensor<?x6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
  %3 = bitnet.layer_norm %x bias(%g) {eps = 1.0e-5 : f32} : (tensor<?x6xf32>, tensor<6xf32>) -> tensor<?x6xf32>
  // CHECK: bitnet.layer_norm %{{[^ ]*}} {eps = 9.99999974E-6 : f32} : (tensor<?x6xf32>) -> tensor<?x6xf32>
  %4 = bitnet.layer_norm %x {eps = 1.0e-5 : f32} : (tensor<?x6xf32>) -> tensor<?x6xf32>
  return
}

// CHECK-LABEL: func @attention
func.func @attention(%q: tensor<?x4x8xf32>, %k: tensor<?x2x8xf32>, %new: tensor<?x2x8xf32>, %t: tensor<32x4xf32>, %pos: i64) {
  // CHECK: bitnet.rotary %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x4x8xf32>, tensor<32x4xf32>
  %0 = bitnet.rotary %q, %t, %t, %pos : tensor<?x4x8xf32>, tensor<32x4xf32>
  // CHECK: bitnet.cache_update %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x2x8xf32>, tensor<?x2x8xf32>
  %1 = bitnet.cache_update %k, %new, %pos : tensor<?x2x8xf32>, tensor<?x2x8xf32>
  // CHECK: bitnet.attention %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 3.535530e-01 : f32} : tensor<?x4x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32>
  %2 = bitnet.attention %q, %1, %k, %pos {causal, scale = 0.353553 : f32}
    : tensor<?x4x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32>
  // CHECK: bitnet.attention %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} {scale = 1.000000e+00 : f32} : tensor<?x4x8xf32>
  %3 = bitnet.attention %q, %k, %k, %pos {scale = 1.0 : f32} : tensor<?x4x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32>
  return
}

// CHECK-LABEL: func @attention_f16
func.func @attention_f16(%q: tensor<?x4x8xf32>, %k: tensor<?x2x8xf16>, %new: tensor<?x2x8xf32>, %pos: i64) {
  // CHECK: bitnet.cache_update %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x2x8xf16>, tensor<?x2x8xf32>
  %0 = bitnet.cache_update %k, %new, %pos : tensor<?x2x8xf16>, tensor<?x2x8xf32>
  // CHECK: bitnet.attention {{.*}} : tensor<?x4x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>
  %1 = bitnet.attention %q, %0, %k, %pos {scale = 1.0 : f32} : tensor<?x4x8xf32>, tensor<?x2x8xf16>, tensor<?x2x8xf16>
  return
}

// CHECK-LABEL: func @rest
func.func @rest(%x: tensor<?x8xf32>, %tokens: tensor<?xi64>, %table: tensor<10x8xbf16>, %bias: tensor<10xf32>) {
  // CHECK: bitnet.gated %{{.*}}, %{{.*}} {act = #bitnet.gate_act<relu2>} : tensor<?x8xf32>
  %0 = bitnet.gated %x, %x {act = #bitnet.gate_act<relu2>} : tensor<?x8xf32>
  // CHECK: bitnet.gated %{{.*}}, %{{.*}} {act = #bitnet.gate_act<silu>} : tensor<?x8xf32>
  %1 = bitnet.gated %x, %x {act = #bitnet.gate_act<silu>} : tensor<?x8xf32>
  // CHECK: bitnet.embedding %{{.*}}, %{{.*}} : tensor<10x8xbf16>, tensor<?xi64> -> tensor<?x8xf32>
  %2 = bitnet.embedding %table, %tokens : tensor<10x8xbf16>, tensor<?xi64> -> tensor<?x8xf32>
  // CHECK: bitnet.dense %{{.*}}, %{{.*}} : (tensor<?x8xf32>, tensor<10x8xbf16>) -> tensor<?x10xf32>
  %3 = bitnet.dense %x, %table : (tensor<?x8xf32>, tensor<10x8xbf16>) -> tensor<?x10xf32>
  // CHECK: bitnet.dense %{{.*}}, %{{.*}} bias(%{{.*}}) : (tensor<?x8xf32>, tensor<10x8xbf16>, tensor<10xf32>) -> tensor<?x10xf32>
  %4 = bitnet.dense %x, %table bias(%bias) : (tensor<?x8xf32>, tensor<10x8xbf16>, tensor<10xf32>) -> tensor<?x10xf32>
  // CHECK: bitnet.hadamard %{{.*}} {block = 4 : i64} : tensor<?x8xf32>
  %5 = bitnet.hadamard %x {block = 4} : tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @top_k
func.func @top_k(%x: tensor<1x8xf32>, %w: tensor<10x8xbf16>, %k: tensor<1xi64>) -> tensor<5xi64> {
  // CHECK: bitnet.top_k %{{.*}}, %{{.*}}, %{{.*}} : (tensor<1x8xf32>, tensor<10x8xbf16>, tensor<1xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  %ids, %logits = bitnet.top_k %x, %w, %k : (tensor<1x8xf32>, tensor<10x8xbf16>, tensor<1xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return %ids : tensor<5xi64>
}

// CHECK-LABEL: func @whole_tensors
func.func @whole_tensors(%x: tensor<?x?x8xf32>, %v: vector<16xf32>, %n: f32) {
  // CHECK: bitnet.math <gelu> %{{.*}} : tensor<?x?x8xf32>
  %0 = bitnet.math <gelu> %x : tensor<?x?x8xf32>
  // CHECK: bitnet.math <round_even> %{{.*}} : vector<16xf32>
  %1 = bitnet.math <round_even> %v : vector<16xf32>
  // CHECK: bitnet.pow %{{.*}}, %{{.*}} : f32
  %2 = bitnet.pow %n, %n : f32
  // CHECK: bitnet.softmax %{{.*}} : tensor<?x?x8xf32>
  %3 = bitnet.softmax %x : tensor<?x?x8xf32>
  return
}

// CHECK-LABEL: func @batch_attention
func.func @batch_attention(%q: tensor<?x?x4x8xf32>, %k: tensor<?x?x2x8xf32>, %m: tensor<1x4x?x?xf32>) {
  // CHECK: bitnet.batch_attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 5.000000e-01 : f32}
  %0 = bitnet.batch_attention %q, %k, %k {causal, scale = 0.5 : f32}
    : (tensor<?x?x4x8xf32>, tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>) -> tensor<?x?x4x8xf32>
  // CHECK: bitnet.batch_attention %{{.*}}, %{{.*}}, %{{.*}} mask(%{{.*}}) {scale = 5.000000e-01 : f32}
  %1 = bitnet.batch_attention %q, %k, %k mask(%m) {scale = 0.5 : f32}
    : (tensor<?x?x4x8xf32>, tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>, tensor<1x4x?x?xf32>) -> tensor<?x?x4x8xf32>
  return
}

// CHECK-LABEL: func @conv2d
func.func @conv2d(%x: tensor<?x4x9x9xf32>, %w: tensor<6x18xi2>, %s: tensor<1xf32>, %b: tensor<6xf32>) {
  // CHECK: bitnet.conv2d %{{.*}}, %{{.*}} scale(%{{.*}}) bias(%{{.*}}) {activation = #bitnet.act_quant<per_token, bits = 8, eps = {{.*}}>, groups = 2 : i64, kernel = array<i64: 3, 3>, padding = array<i64: 1, 1, 1, 1>, scales = #bitnet.scales<tensor>, strides = array<i64: 2, 2>}
  %0 = bitnet.conv2d %x, %w scale(%s) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, strides = array<i64: 2, 2>,
    padding = array<i64: 1, 1, 1, 1>, groups = 2 : i64}
    : (tensor<?x4x9x9xf32>, tensor<6x18xi2>, tensor<1xf32>, tensor<6xf32>) -> tensor<?x6x5x5xf32>
  return
}
