// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(convert-bitnet-to-ternary))' | FileCheck %s
// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(convert-bitnet-to-ternary{head=exact}))' | FileCheck %s --check-prefix=EXACT

// A matmul and its dequantize are one operation, on weights and scales that are packed.
// CHECK-LABEL: func.func @linear
// CHECK-SAME: %[[X:.*]]: tensor<?x8xi8>, %[[SUMS:.*]]: tensor<?xi32>, %[[A:.*]]: tensor<?xf32>, %[[W:.*]]: tensor<70x8xi2>, %[[S:.*]]: tensor<1xf32>
// CHECK-DAG: %[[P:.*]] = ternary.pack %[[W]] {layout = #ternary.layout<r16k4f4, rows = 70, cols = 8>} : (tensor<70x8xi2>) -> tensor<256xi8>
// CHECK-DAG: %[[PS:.*]] = ternary.pack_scales %[[S]] {directions = [#bitnet.direction<multiply>], {{.*}}row_counts = array<i64: 70>, scales = [#bitnet.scales<tensor>]} : (tensor<1xf32>) -> tensor<2x1x64xf32>
// CHECK-DAG: %[[T:.*]] = tensor.dim %[[X]], %{{.*}} : tensor<?x8xi8>
// CHECK-DAG: %[[E:.*]] = tensor.empty(%[[T]]) : tensor<?x70xf32>
// CHECK: %[[Y:.*]] = ternary.matmul %[[X]], %[[P]], %[[PS]] act_scale(%[[A]]) sums(%[[SUMS]]) outs(%[[E]])
// CHECK: return %[[Y]]
// CHECK-NOT: bitnet.matmul
// CHECK-NOT: bitnet.dequantize
func.func @linear(%x: tensor<?x8xi8>, %sums: tensor<?xi32>, %a: tensor<?xf32>, %w: tensor<70x8xi2>, %s: tensor<1xf32>)
    -> tensor<?x70xf32> {
  %acc = bitnet.matmul %x, %w sums(%sums) : (tensor<?x8xi8>, tensor<70x8xi2>, tensor<?xi32>) -> tensor<?x70xi32>
  %y = bitnet.dequantize %acc scale(%s) act_scale(%a) {scales = #bitnet.scales<tensor>}
    : (tensor<?x70xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x70xf32>
  return %y : tensor<?x70xf32>
}

// -----

// Codes are padded with zeros to whole steps of 4 columns.
// CHECK-LABEL: func.func @padding
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x6xi8>
// CHECK: %[[FILLED:.*]] = linalg.fill ins(%{{.*}} : i8) outs(%{{.*}} : tensor<?x8xi8>)
// CHECK: %[[PADDED:.*]] = tensor.insert_slice %[[X]] into %[[FILLED]][0, 0] [%{{.*}}, 6] [1, 1]
// CHECK: ternary.matmul %[[PADDED]], {{.*}} acc_outs(%{{.*}}) {{.*}}tensor<?x8xi8>
func.func @padding(%x: tensor<?x6xi8>, %sums: tensor<?xi32>, %w: tensor<2x6xi2>) -> tensor<?x2xi32> {
  %acc = bitnet.matmul %x, %w sums(%sums) : (tensor<?x6xi8>, tensor<2x6xi2>, tensor<?xi32>) -> tensor<?x2xi32>
  return %acc : tensor<?x2xi32>
}

// -----

// A quantize writes padded codes, which its matmul reads as they are.
// CHECK-LABEL: func.func @padded_by_quantize
// CHECK: %[[Q:.*]]:3 = ternary.quantize %{{.*}} -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>)
// CHECK-NOT: linalg.fill
// CHECK: ternary.matmul %[[Q]]#0, {{.*}} sums(%[[Q]]#2)
func.func @padded_by_quantize(%x: tensor<?x6xf32>, %w: tensor<2x6xi2>) -> tensor<?x2xi32> {
  %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<?x6xf32> -> tensor<?x6xi8>, tensor<?xf32>, tensor<?xi32>
  %acc = bitnet.matmul %q, %w sums(%c) : (tensor<?x6xi8>, tensor<2x6xi2>, tensor<?xi32>) -> tensor<?x2xi32>
  return %acc : tensor<?x2xi32>
}

// -----

// The accumulator has another reader: both are written. Binary weights have the layout of one bit.
// CHECK-LABEL: func.func @accumulator_too
// CHECK: ternary.pack {{.*}} {layout = #ternary.layout<r16k4f8, rows = 2, cols = 8>}
// CHECK: %[[R:.*]]:2 = ternary.matmul {{.*}} outs(%{{.*}}) acc_outs(%{{.*}}) {{.*}} -> (tensor<?x2xf32>, tensor<?x2x2xi32>)
// CHECK: return %[[R]]#0, %[[R]]#1
func.func @accumulator_too(%x: tensor<?x8xi8>, %sums: tensor<?xi32>, %a: tensor<1xf32>, %w: tensor<2x8xi1>,
                           %s: tensor<2x2xf32>) -> (tensor<?x2xf32>, tensor<?x2x2xi32>) {
  %acc = bitnet.matmul %x, %w sums(%sums) {group = 4} : (tensor<?x8xi8>, tensor<2x8xi1>, tensor<?xi32>) -> tensor<?x2x2xi32>
  %y = bitnet.dequantize %acc scale(%s) act_scale(%a) {scales = #bitnet.scales<group = 4>}
    : (tensor<?x2x2xi32>, tensor<2x2xf32>, tensor<1xf32>) -> tensor<?x2xf32>
  return %y, %acc : tensor<?x2xf32>, tensor<?x2x2xi32>
}

// -----

// CHECK-LABEL: func.func @rows
// CHECK: %[[N:.*]] = ternary.norm %{{.*}} weight(%{{.*}}) outs(%{{.*}}) {norm = #bitnet.norm<rms, eps = {{.*}}>}
// CHECK: %[[L:.*]] = ternary.norm %[[N]] outs(%{{.*}}) {norm = #bitnet.norm<layer, eps = {{.*}}>}
// CHECK: %[[G:.*]] = ternary.gated %[[N]], %[[L]] outs(%{{.*}}) {act = #bitnet.gate_act<silu>}
// CHECK: ternary.hadamard %[[G]] outs(%{{.*}}) {block = 4 : i64}
// CHECK-NOT: bitnet.{{[a-z_]+}} %
func.func @rows(%x: tensor<?x8xf32>, %g: tensor<8xf32>) -> tensor<?x8xf32> {
  %n = bitnet.rms_norm %x, %g {eps = 1.0e-5 : f32} : tensor<?x8xf32>, tensor<8xf32>
  %l = bitnet.layer_norm %n {eps = 1.0e-5 : f32} : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = bitnet.gated %n, %l {act = #bitnet.gate_act<silu>} : tensor<?x8xf32>
  %h = bitnet.hadamard %y {block = 4} : tensor<?x8xf32>
  return %h : tensor<?x8xf32>
}

// -----

// The cache is the destination of its update; attention reads the updated cache.
// CHECK-LABEL: func.func @attention
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x2x4xf32>, %[[CACHE:[^:]*]]: tensor<?x2x4xf32>
// CHECK: %[[R:.*]] = ternary.rotary %[[X]]
// CHECK: %[[K:.*]] = ternary.cache_update %[[R]], %{{.*}} outs(%[[CACHE]])
// CHECK: ternary.attention %[[R]], %[[K]], %[[K]], %{{.*}} outs(%{{.*}}) {causal, scale = 5.000000e-01 : f32}
func.func @attention(%x: tensor<?x2x4xf32>, %cache: tensor<?x2x4xf32>, %cos: tensor<9x2xf32>, %sin: tensor<9x2xf32>,
                     %pos: i64) -> (tensor<?x2x4xf32>, tensor<?x2x4xf32>) {
  %r = bitnet.rotary %x, %cos, %sin, %pos : tensor<?x2x4xf32>, tensor<9x2xf32>
  %k = bitnet.cache_update %cache, %r, %pos : tensor<?x2x4xf32>, tensor<?x2x4xf32>
  %o = bitnet.attention %r, %k, %k, %pos {causal, scale = 0.5 : f32} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32>
  return %o, %k : tensor<?x2x4xf32>, tensor<?x2x4xf32>
}

// -----

// A tied head and its embedding read the same rows.
// CHECK-LABEL: func.func @tables(
// CHECK-SAME: %[[TABLE:.*]]: tensor<70x8xbf16>
// CHECK: %[[E:.*]] = ternary.embedding %[[TABLE]], %{{.*}} outs(%{{.*}})
// CHECK: ternary.dense %[[E]], %[[TABLE]] outs(%{{.*}}) : {{.*}} -> tensor<?x70xf32>
func.func @tables(%table: tensor<70x8xbf16>, %tokens: tensor<?xi64>) -> tensor<?x70xf32> {
  %e = bitnet.embedding %table, %tokens : tensor<70x8xbf16>, tensor<?xi64> -> tensor<?x8xf32>
  %l = bitnet.dense %e, %table : (tensor<?x8xf32>, tensor<70x8xbf16>) -> tensor<?x70xf32>
  return %l : tensor<?x70xf32>
}

// -----

// The choice of the next token scans planes of few bits and scores exactly what they leave open.
// CHECK-LABEL: func.func @choice(
// CHECK-SAME: %[[X:.*]]: tensor<1x8xf32>, %[[W:.*]]: tensor<70x8xbf16>, %[[K:.*]]: tensor<1xi64>
// CHECK: %[[CODES:.*]], %[[SCALES:.*]], %[[COARSE:.*]], %[[FINE:.*]], %[[ROWS:.*]] = ternary.pack_head %[[W]]
// CHECK: %[[Q:.*]]:3 = ternary.head_quantize %[[X]] outs
// CHECK: %[[S:.*]]:3 = ternary.head_scan %[[Q]]#0, %[[Q]]#1, %[[Q]]#2, %[[CODES]], %[[SCALES]], %[[COARSE]] outs
// CHECK: %[[C:.*]] = ternary.head_candidates %[[X]], %[[W]], %[[S]]#0, %[[S]]#2, %[[K]] outs
// CHECK: %[[E:.*]]:2 = ternary.head_rescore %[[X]], %[[W]], %[[Q]]#0, %[[Q]]#1, %[[Q]]#2, %[[S]]#0, %[[S]]#1, %[[C]], %[[K]], %[[FINE]], %[[ROWS]] outs
// CHECK: ternary.head_select %[[E]]#0, %[[K]] maxima(%[[E]]#1) outs(%{{.*}}, %{{.*}}) {rows = 70 : i64}
// EXACT-LABEL: func.func @choice(
// EXACT-NOT: ternary.pack_head
// EXACT: %[[Y:.*]] = ternary.dense %{{.*}}, %{{.*}} outs(%{{.*}}) : {{.*}} -> tensor<1x70xf32>
// EXACT: ternary.head_select %[[Y]], %{{.*}} outs(%{{.*}}, %{{.*}}) {rows = 70 : i64}
func.func @choice(%x: tensor<1x8xf32>, %w: tensor<70x8xbf16>, %k: tensor<1xi64>) -> (tensor<9xi64>, tensor<9xf32>) {
  %0:2 = bitnet.top_k %x, %w, %k : (tensor<1x8xf32>, tensor<70x8xbf16>, tensor<1xi64>) -> (tensor<9xi64>, tensor<9xf32>)
  return %0#0, %0#1 : tensor<9xi64>, tensor<9xf32>
}

// -----

func.func @not_decomposed(%x: tensor<?x8xf32>, %w: tensor<4x8xi2>, %s: tensor<1xf32>) -> tensor<?x4xf32> {
  // expected-error@+1 {{expects to be decomposed first (bitnet-decompose-linear)}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xf32>, tensor<4x8xi2>, tensor<1xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

func.func @accumulator_from_elsewhere(%acc: tensor<?x4xi32>, %s: tensor<1xf32>) -> tensor<?x4xf32> {
  // expected-error@+1 {{expects the accumulator of a bitnet.matmul}}
  %y = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<tensor>} : (tensor<?x4xi32>, tensor<1xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

func.func @convolution_not_decomposed(%x: tensor<?x4x6x6xf32>, %w: tensor<6x36xi2>, %s: tensor<1xf32>) -> tensor<?x6x4x4xf32> {
  // expected-error@+1 {{expects to be decomposed first (bitnet-decompose-linear)}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>}
    : (tensor<?x4x6x6xf32>, tensor<6x36xi2>, tensor<1xf32>) -> tensor<?x6x4x4xf32>
  return %y : tensor<?x6x4x4xf32>
}

// -----

// Some columns of codes are padded by zeros, not by the columns beside them.
// CHECK-LABEL: func.func @columns
// CHECK: %[[SOME:.*]] = tensor.extract_slice
// CHECK: %[[ZEROS:.*]] = linalg.fill
// CHECK: %[[PADDED:.*]] = tensor.insert_slice %[[SOME]] into %[[ZEROS]]
// CHECK: ternary.matmul %[[PADDED]]
func.func @columns(%x: tensor<3x8xf32>, %w: tensor<4x6xi2>, %c: tensor<3xi32>) -> tensor<3x4xi32> {
  %q, %s, %sums = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : tensor<3x8xf32> -> tensor<3x8xi8>, tensor<3xf32>, tensor<3xi32>
  %some = tensor.extract_slice %q[0, 0] [3, 6] [1, 1] : tensor<3x8xi8> to tensor<3x6xi8>
  %y = bitnet.matmul %some, %w sums(%c) : (tensor<3x6xi8>, tensor<4x6xi2>, tensor<3xi32>) -> tensor<3x4xi32>
  return %y : tensor<3x4xi32>
}
