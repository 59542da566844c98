// Every operation in every form, on tensors and on memrefs, through text (custom and generic) and bytecode.
// RUN: setun-opt %s --verify-roundtrip | FileCheck %s
// RUN: setun-opt %s --mlir-print-op-generic | setun-opt | FileCheck %s

// CHECK-LABEL: func @weights
func.func @weights(%w: tensor<96x64xi2>, %b: tensor<96x64xi1>, %a: tensor<1xf32>, %r: tensor<2xf32>, %g: tensor<96x2xf32>,
                   %t: tensor<100x64xbf16>) {
  // CHECK: ternary.pack %{{.*}} {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<2048xi8>
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<2048xi8>
  // CHECK: ternary.pack %{{.*}}, %{{.*}} {layout = #ternary.layout<r16k4f8, rows = 192, cols = 64, order = gated>} : (tensor<96x64xi1>, tensor<96x64xi1>) -> tensor<2048xi8>
  %1 = ternary.pack %b, %b {layout = #ternary.layout<r16k4f8, rows = 192, cols = 64, order = gated>}
    : (tensor<96x64xi1>, tensor<96x64xi1>) -> tensor<2048xi8>
  // CHECK: ternary.pack_scales %{{.*}}, %{{.*}} {directions = [#bitnet.direction<multiply>, #bitnet.direction<divide>], layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 32, 64>, scales = [#bitnet.scales<tensor>, #bitnet.scales<rows = [60, 4]>]} : (tensor<1xf32>, tensor<2xf32>) -> tensor<2x1x64xf32>
  %2 = ternary.pack_scales %a, %r {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 32, 64>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<rows = [60, 4]>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<divide>]} : (tensor<1xf32>, tensor<2xf32>) -> tensor<2x1x64xf32>
  // CHECK: scales = [#bitnet.scales<group = 32>]} : (tensor<96x2xf32>) -> tensor<2x2x64xf32>
  %3 = ternary.pack_scales %g {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 96>,
    scales = [#bitnet.scales<group = 32>], directions = [#bitnet.direction<multiply>]} : (tensor<96x2xf32>) -> tensor<2x2x64xf32>
  // CHECK: ternary.section {offset = 4096 : i64} : tensor<2048xi8>
  %5 = ternary.section {offset = 4096} : tensor<2048xi8>
  // CHECK: ternary.section {offset = 0 : i64} : memref<2048xi8>
  %6 = ternary.section {offset = 0} : memref<2048xi8>
  return
}

// CHECK-LABEL: func @quantize
func.func @quantize(%x: tensor<?x66xf32>, %g: tensor<66xf32>, %q: tensor<?x68xi8>, %s: tensor<?xf32>, %s1: tensor<1xf32>,
                    %c: tensor<?xi32>, %mx: memref<2x66xf32>, %mq: memref<2x68xi8>, %ms: memref<2xf32>, %mc: memref<2xi32>,
                    %next: memref<?xi8>) {
  // CHECK: ternary.quantize %{{.*}} outs(%{{.*}}, %{{.*}}, %{{.*}}) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 9.99999974E-6>} : (tensor<?x66xf32>, tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>)
  %0:3 = ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<?x66xf32>, tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>)
  // CHECK: ternary.quantize %{{.*}} norm_weight(%{{.*}}) norm_bias(%{{.*}}) outs({{.*}}) {activation = #bitnet.act_quant<per_tensor, bits = 4, eps = 9.99999974E-6>, norm = #bitnet.norm<layer, eps = 9.99999974E-6>}
  %1:3 = ternary.quantize %x norm_weight(%g) norm_bias(%g) outs(%q, %s1, %c) {
    activation = #bitnet.act_quant<per_tensor, bits = 4, eps = 1.0e-5>, norm = #bitnet.norm<layer, eps = 1.0e-5>}
    : (tensor<?x66xf32>, tensor<66xf32>, tensor<66xf32>, tensor<?x68xi8>, tensor<1xf32>, tensor<?xi32>)
      -> (tensor<?x68xi8>, tensor<1xf32>, tensor<?xi32>)
  // CHECK: ternary.quantize %{{.*}} outs(%{{.*}}, %{{.*}}, %{{.*}}) {{.*}} : (memref<2x66xf32>, memref<2x68xi8>, memref<2xf32>, memref<2xi32>) -> ()
  ternary.quantize %mx outs(%mq, %ms, %mc) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (memref<2x66xf32>, memref<2x68xi8>, memref<2xf32>, memref<2xi32>) -> ()
  // CHECK: ternary.quantize %{{.*}} ahead(%{{.*}}) outs(%{{.*}}, %{{.*}}, %{{.*}}) {{.*}} : (memref<2x66xf32>, memref<?xi8>, memref<2x68xi8>, memref<2xf32>, memref<2xi32>) -> ()
  ternary.quantize %mx ahead(%next) outs(%mq, %ms, %mc) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (memref<2x66xf32>, memref<?xi8>, memref<2x68xi8>, memref<2xf32>, memref<2xi32>) -> ()
  return
}

// CHECK-LABEL: func @matmul
func.func @matmul(%q: tensor<?x64xi8>, %x: tensor<?x64xf32>, %p: tensor<2048xi8>, %p2: tensor<3072xi8>, %ws: tensor<2x1x64xf32>,
                  %ws2: tensor<3x1x64xf32>, %gs: tensor<2x2x64xf32>, %s: tensor<?xf32>, %c: tensor<?xi32>, %b: tensor<96xf32>,
                  %r: tensor<?x96xf32>, %y: tensor<?x96xf32>, %acc: tensor<?x96xi32>, %gacc: tensor<?x96x2xi32>,
                  %mq: memref<?x64xi8>, %mp: memref<2048xi8>, %mws: memref<2x1x64xf32>, %mc: memref<?xi32>,
                  %macc: memref<?x96xi32>) {
  // CHECK: ternary.matmul %{{.*}}, %{{.*}}, %{{.*}} act_scale(%{{.*}}) sums(%{{.*}}) outs(%{{.*}}) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<?x64xi8>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  %0 = ternary.matmul %q, %p, %ws act_scale(%s) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
    : (tensor<?x64xi8>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  // CHECK: ternary.matmul {{.*}} bias(%{{.*}}) residual(%{{.*}}) outs(%{{.*}}) acc_outs(%{{.*}}) {bias_place = #bitnet.bias_place<before_scale>, kernel = #ternary.kernel<"generic", tokens = 1>, layout = {{.*}}} : {{.*}} -> (tensor<?x96xf32>, tensor<?x96xi32>)
  %1:2 = ternary.matmul %q, %p, %ws act_scale(%s) sums(%c) bias(%b) residual(%r) outs(%y) acc_outs(%acc) {
    layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, bias_place = #bitnet.bias_place<before_scale>,
    kernel = #ternary.kernel<"generic", tokens = 1>}
    : (tensor<?x64xi8>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<96xf32>, tensor<?x96xf32>,
       tensor<?x96xf32>, tensor<?x96xi32>) -> (tensor<?x96xf32>, tensor<?x96xi32>)
  // CHECK: ternary.matmul %{{.*}}, %{{.*}}, %{{.*}} sums(%{{.*}}) acc_outs(%{{.*}}) {group = 32 : i64, layout = {{.*}}} : {{.*}} -> tensor<?x96x2xi32>
  %2 = ternary.matmul %q, %p, %gs sums(%c) acc_outs(%gacc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, group = 32}
    : (tensor<?x64xi8>, tensor<2048xi8>, tensor<2x2x64xf32>, tensor<?xi32>, tensor<?x96x2xi32>) -> tensor<?x96x2xi32>
  // CHECK: ternary.matmul {{.*}} outs(%{{.*}}) {epilogue = #ternary.epilogue<silu>, layout = #ternary.layout<r16k4f4, rows = 192, cols = 64, order = gated>}
  %3 = ternary.matmul %q, %p2, %ws2 act_scale(%s) sums(%c) outs(%y) {epilogue = #ternary.epilogue<silu>,
    layout = #ternary.layout<r16k4f4, rows = 192, cols = 64, order = gated>}
    : (tensor<?x64xi8>, tensor<3072xi8>, tensor<3x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  // CHECK: ternary.matmul %{{.*}}, %{{.*}}, %{{.*}} outs(%{{.*}}) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<?x64xf32>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  %4 = ternary.matmul %x, %p, %ws outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
    : (tensor<?x64xf32>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  // CHECK: ternary.matmul {{.*}} acc_outs(%{{.*}}) {{.*}} : (memref<?x64xi8>, memref<2048xi8>, memref<2x1x64xf32>, memref<?xi32>, memref<?x96xi32>) -> ()
  ternary.matmul %mq, %mp, %mws sums(%mc) acc_outs(%macc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
    : (memref<?x64xi8>, memref<2048xi8>, memref<2x1x64xf32>, memref<?xi32>, memref<?x96xi32>) -> ()
  return
}

// CHECK-LABEL: func @rows
func.func @rows(%x: tensor<?x64xf32>, %y: tensor<?x100xf32>, %w: tensor<100x64xbf16>, %b: tensor<100xf32>, %g: tensor<64xf32>,
                %tokens: tensor<?xi64>, %mx: memref<?x64xf32>, %my: memref<?x64xf32>) {
  // CHECK: ternary.dense %{{.*}}, %{{.*}} outs(%{{.*}}) : (tensor<?x64xf32>, tensor<100x64xbf16>, tensor<?x100xf32>) -> tensor<?x100xf32>
  %0 = ternary.dense %x, %w outs(%y) : (tensor<?x64xf32>, tensor<100x64xbf16>, tensor<?x100xf32>) -> tensor<?x100xf32>
  // CHECK: ternary.dense %{{.*}}, %{{.*}} bias(%{{.*}}) outs(%{{.*}}) : (tensor<?x64xf32>, tensor<100x64xbf16>, tensor<100xf32>, tensor<?x100xf32>) -> tensor<?x100xf32>
  %1 = ternary.dense %x, %w bias(%b) outs(%y)
    : (tensor<?x64xf32>, tensor<100x64xbf16>, tensor<100xf32>, tensor<?x100xf32>) -> tensor<?x100xf32>
  // CHECK: ternary.norm %{{.*}} weight(%{{.*}}) bias(%{{.*}}) outs(%{{.*}}) {norm = #bitnet.norm<layer, eps = 9.99999974E-6>}
  %2 = ternary.norm %x weight(%g) bias(%g) outs(%x) {norm = #bitnet.norm<layer, eps = 1.0e-5>}
    : (tensor<?x64xf32>, tensor<64xf32>, tensor<64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
  // CHECK: ternary.norm %{{.*}} outs(%{{.*}}) {norm = #bitnet.norm<rms, eps = 0.000000e+00>} : (memref<?x64xf32>, memref<?x64xf32>) -> ()
  ternary.norm %mx outs(%my) {norm = #bitnet.norm<rms, eps = 0.0>} : (memref<?x64xf32>, memref<?x64xf32>) -> ()
  // CHECK: ternary.gated %{{.*}}, %{{.*}} outs(%{{.*}}) {act = #bitnet.gate_act<relu2>}
  %3 = ternary.gated %x, %x outs(%x) {act = #bitnet.gate_act<relu2>} : (tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
  // CHECK: ternary.embedding %{{.*}}, %{{.*}} outs(%{{.*}})
  %4 = ternary.embedding %w, %tokens outs(%x) : (tensor<100x64xbf16>, tensor<?xi64>, tensor<?x64xf32>) -> tensor<?x64xf32>
  // CHECK: ternary.hadamard %{{.*}} outs(%{{.*}}) {block = 32 : i64}
  %5 = ternary.hadamard %x outs(%x) {block = 32} : (tensor<?x64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
  return
}

// CHECK-LABEL: func @attention
func.func @attention(%q: tensor<?x4x8xf32>, %k: tensor<?x2x8xf32>, %t: tensor<32x4xf32>, %new: tensor<?x2x8xf32>, %pos: i64) {
  // CHECK: ternary.rotary %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} outs(%{{.*}}) : (tensor<?x4x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  %0 = ternary.rotary %q, %t, %t, %pos outs(%q)
    : (tensor<?x4x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  // CHECK: ternary.cache_update %{{.*}}, %{{.*}} outs(%{{.*}}) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  %1 = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x8xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  // CHECK: ternary.attention %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} outs(%{{.*}}) {causal, scale = 5.000000e-01 : f32}
  %2 = ternary.attention %q, %1, %k, %pos outs(%q) {causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return
}

// CHECK-LABEL: func @blocked
func.func @blocked(%q: tensor<?x4x8xf32>, %k: tensor<32x2x8xf16>, %v: tensor<?x2x8xf16>, %new: tensor<?x2x8xf32>, %pos: i64) {
  // CHECK: ternary.cache_update %{{.*}}, %{{.*}} outs(%{{.*}}) {blocked} : (tensor<?x2x8xf32>, i64, tensor<32x2x8xf16>) -> tensor<32x2x8xf16>
  %0 = ternary.cache_update %new, %pos outs(%k) {blocked} : (tensor<?x2x8xf32>, i64, tensor<32x2x8xf16>) -> tensor<32x2x8xf16>
  // CHECK: ternary.cache_update {{.*}} : (tensor<?x2x8xf16>, i64, tensor<32x2x8xf16>) -> tensor<32x2x8xf16>
  %1 = ternary.cache_update %v, %pos outs(%0) : (tensor<?x2x8xf16>, i64, tensor<32x2x8xf16>) -> tensor<32x2x8xf16>
  // CHECK: ternary.attention {{.*}} {blocked, causal, scale = 5.000000e-01 : f32}
  %2 = ternary.attention %q, %0, %v, %pos outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (tensor<?x4x8xf32>, i64, tensor<32x2x8xf16>, tensor<?x2x8xf16>, tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
  return
}

// CHECK-LABEL: func @vectors
func.func @vectors(%b: vector<64xi8>, %acc: vector<16xi32>) {
  // CHECK: ternary.unpack %{{.*}} {bits = 2 : i64, field = 3 : i64} : vector<64xi8>
  %0 = ternary.unpack %b {field = 3, bits = 2} : vector<64xi8>
  // CHECK: ternary.unpack %{{.*}} {bits = 1 : i64, cumulative, field = 7 : i64} : vector<64xi8>
  %1 = ternary.unpack %b {field = 7, bits = 1, cumulative} : vector<64xi8>
  // CHECK: ternary.dot %{{.*}}, %{{.*}}, %{{.*}} {max_code = 3 : i64} : vector<16xi32>, vector<64xi8>
  %2 = ternary.dot %acc, %0, %b {max_code = 3} : vector<16xi32>, vector<64xi8>
  // CHECK: ternary.dot_pairs %{{.*}}, %{{.*}}, %{{.*}} {max_code = 2 : i64, steps = 63 : i64} : vector<32xi16>, vector<64xi8>
  %pairs = arith.constant dense<0> : vector<32xi16>
  %3 = ternary.dot_pairs %pairs, %0, %b {max_code = 2, steps = 63} : vector<32xi16>, vector<64xi8>
  // CHECK: ternary.dot %{{.*}}, %{{.*}}, %{{.*}} {max_code = 128 : i64, signed_codes} : vector<16xi32>, vector<64xi8>
  %4 = ternary.dot %acc, %0, %b {max_code = 128, signed_codes} : vector<16xi32>, vector<64xi8>
  %four = arith.constant dense<0> : vector<4xi32>
  %bytes = arith.constant dense<0> : vector<16xi8>
  // CHECK: ternary.matrix_dot %{{.*}}, %{{.*}}, %{{.*}} {max_code = 170 : i64} : vector<4xi32>, vector<16xi8>
  %5 = ternary.matrix_dot %four, %bytes, %bytes {max_code = 170} : vector<4xi32>, vector<16xi8>
  %words = arith.constant dense<0> : vector<16xi16>
  // CHECK: ternary.multiply_add %{{.*}}, %{{.*}}, %{{.*}} {max_code = 2 : i64, steps = 127 : i64} : vector<16xi16>, vector<16xi8>
  %6 = ternary.multiply_add %words, %bytes, %bytes {max_code = 2, steps = 127} : vector<16xi16>, vector<16xi8>
  // CHECK: ternary.add_pairs %{{.*}}, %{{.*}} : vector<4xi32>, vector<16xi16>
  %7 = ternary.add_pairs %four, %6 : vector<4xi32>, vector<16xi16>
  // CHECK: ternary.look_up %{{.*}}, %{{.*}}, %{{.*}} : vector<32xi16>
  %8 = ternary.look_up %pairs, %pairs, %3 : vector<32xi16>
  // CHECK: ternary.fence %{{.*}}, %{{.*}} : vector<32xi16>, vector<16xi8>
  %9:2 = ternary.fence %8, %bytes : vector<32xi16>, vector<16xi8>
  %c = arith.constant 1 : index
  %codes = memref.alloc(%c) : memref<?x64xi8>
  %unpacked = memref.alloc() : memref<4x16x64xi8>
  %sums = memref.alloc() : memref<16x1x4x16xi32>
  // CHECK: ternary.dot_tiles %{{.*}}[%{{.*}}, %{{.*}}], %{{.*}}[%{{.*}}], %{{.*}}[%{{.*}}, %{{.*}}] tokens(%{{.*}}) blocks(%{{.*}}) width(%{{.*}}) : memref<?x64xi8>, memref<4x16x64xi8>, memref<16x1x4x16xi32>
  ternary.dot_tiles %codes[%c, %c], %unpacked[%c], %sums[%c, %c] tokens(%c) blocks(%c) width(%c)
    : memref<?x64xi8>, memref<4x16x64xi8>, memref<16x1x4x16xi32>
  // CHECK: ternary.barrier
  ternary.barrier
  return
}

// CHECK-LABEL: func private @attributes
// CHECK-SAME: a = #ternary.layout<r16k4f4, rows = 1, cols = 1>
// CHECK-SAME: b = #ternary.layout<r16k4f8, rows = 2, cols = 5, order = gated>
// CHECK-SAME: c = #ternary.kernel<"avx512vnni", tokens = 4>
// CHECK-SAME: d = #ternary.epilogue<none>, e = #ternary.epilogue<relu2>, f = #ternary.epilogue<silu>
func.func private @attributes() attributes {
  a = #ternary.layout<r16k4f4, rows = 1, cols = 1, order = linear>,
  b = #ternary.layout<r16k4f8, rows = 2, cols = 5, order = gated>,
  c = #ternary.kernel<"avx512vnni", tokens = 4>,
  d = #ternary.epilogue<none>, e = #ternary.epilogue<relu2>, f = #ternary.epilogue<silu>
}

// CHECK-LABEL: func.func @pack_head
func.func @pack_head(%w: tensor<40x64xbf16>) {
  // CHECK: ternary.pack_head %{{.*}} : tensor<40x64xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x64xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  return
}

// CHECK-LABEL: func.func @head_quantize
func.func @head_quantize(%x: tensor<1x64xf32>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>) {
  // CHECK: ternary.head_quantize
  %r:3 = ternary.head_quantize %x outs(%q, %sums, %params)
    : (tensor<1x64xf32>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>) -> (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>)
  return
}

// CHECK-LABEL: func.func @head_scan
func.func @head_scan(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // CHECK: ternary.head_scan
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// CHECK-LABEL: func.func @head_candidates
func.func @head_candidates(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x64xf32>, %maxima: tensor<2xf32>, %k: tensor<1xi64>, %cand: tensor<8xf32>) {
  // CHECK: ternary.head_candidates
  %r = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%cand)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1x64xf32>, tensor<2xf32>, tensor<1xi64>, tensor<8xf32>) -> tensor<8xf32>
  return
}

// CHECK-LABEL: func.func @head_rescore
func.func @head_rescore(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // CHECK: ternary.head_rescore
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// CHECK-LABEL: func.func @matmul_ahead
func.func @matmul_ahead(%x: memref<?x68xi8>, %p: memref<2176xi8>, %ws: memref<2x1x64xf32>, %c: memref<?xi32>, %taken: memref<?x16xi64>, %ahead: memref<512xi8>, %acc: memref<?x96xi32>) {
  // CHECK: ternary.matmul {{.*}} taken(%{{.*}}) ahead(%{{.*}}) acc_outs
  ternary.matmul %x, %p, %ws sums(%c) taken(%taken) ahead(%ahead) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (memref<?x68xi8>, memref<2176xi8>, memref<2x1x64xf32>, memref<?xi32>, memref<?x16xi64>, memref<512xi8>, memref<?x96xi32>) -> ()
  return
}

// CHECK-LABEL: func.func @norm_bf16
func.func @norm_bf16(%x: tensor<2x8xf32>, %g: tensor<8xbf16>, %y: tensor<2x8xf32>) {
  // CHECK: ternary.norm %{{.*}} weight(%{{.*}}) outs(%{{.*}}) {{.*}} : (tensor<2x8xf32>, tensor<8xbf16>, tensor<2x8xf32>)
  %0 = ternary.norm %x weight(%g) outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<2x8xf32>, tensor<8xbf16>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return
}

// CHECK-LABEL: func.func @head_rescore_taken
func.func @head_rescore_taken(%x: memref<1x64xf32>, %w: memref<40x64xbf16>, %q: memref<512xi8>, %sums: memref<5xi32>, %params: memref<4xf32>, %approx: memref<1x64xf32>, %upper: memref<1x64xf32>, %cand: memref<8xf32>, %k: memref<1xi64>, %fine: memref<2x40x64xi8>, %fr: memref<40x8xf32>, %taken: memref<?x16xi64>, %exact: memref<1x64xf32>, %largest: memref<2xf32>) {
  // CHECK: ternary.head_rescore {{.*}} taken(%{{.*}}) outs
  ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr taken(%taken) outs(%exact, %largest)
    : (memref<1x64xf32>, memref<40x64xbf16>, memref<512xi8>, memref<5xi32>, memref<4xf32>, memref<1x64xf32>, memref<1x64xf32>, memref<8xf32>, memref<1xi64>, memref<2x40x64xi8>, memref<40x8xf32>, memref<?x16xi64>, memref<1x64xf32>, memref<2xf32>) -> ()
  return
}

// CHECK-LABEL: func.func @head_select
func.func @head_select(%exact: tensor<1x64xf32>, %k: tensor<1xi64>, %ids: tensor<8xi64>, %best: tensor<8xf32>) {
  // CHECK: ternary.head_select
  %r:2 = ternary.head_select %exact, %k outs(%ids, %best) {rows = 40}
    : (tensor<1x64xf32>, tensor<1xi64>, tensor<8xi64>, tensor<8xf32>) -> (tensor<8xi64>, tensor<8xf32>)
  return
}

// CHECK-LABEL: func.func @head_select_panels
func.func @head_select_panels(%exact: tensor<1x64xf32>, %k: tensor<1xi64>, %m: tensor<2xf32>, %ids: tensor<8xi64>, %best: tensor<8xf32>) {
  // CHECK: ternary.head_select %{{.*}}, %{{.*}} maxima(%{{.*}}) outs(%{{.*}}, %{{.*}}) {rows = 40 : i64}
  %r:2 = ternary.head_select %exact, %k maxima(%m) outs(%ids, %best) {rows = 40}
    : (tensor<1x64xf32>, tensor<1xi64>, tensor<2xf32>, tensor<8xi64>, tensor<8xf32>) -> (tensor<8xi64>, tensor<8xf32>)
  return
}

// CHECK-LABEL: func.func @whole_tensors
func.func @whole_tensors(%x: memref<?x6x?xf32>, %y: memref<?x6x?xf32>, %t: tensor<?x7xf32>) -> tensor<?x7xf32> {
  // CHECK: ternary.softmax %{{.*}} outs(%{{.*}}) : (memref<?x6x?xf32>, memref<?x6x?xf32>) -> ()
  ternary.softmax %x outs(%y) : (memref<?x6x?xf32>, memref<?x6x?xf32>) -> ()
  // CHECK: ternary.softmax %{{.*}} outs(%{{.*}}) : (tensor<?x7xf32>, tensor<?x7xf32>) -> tensor<?x7xf32>
  %0 = ternary.softmax %t outs(%t) : (tensor<?x7xf32>, tensor<?x7xf32>) -> tensor<?x7xf32>
  return %0 : tensor<?x7xf32>
}

// CHECK-LABEL: func.func @batch_attention
func.func @batch_attention(%q: memref<?x9x4x8xf32>, %k: memref<?x9x2x8xf32>, %m: memref<1x1x9x9xf32>, %o: memref<?x9x4x8xf32>) {
  // CHECK: ternary.batch_attention %{{.*}}, %{{.*}}, %{{.*}} mask(%{{.*}}) outs(%{{.*}}) {causal, scale = 1.000000e+00 : f32}
  ternary.batch_attention %q, %k, %k mask(%m) outs(%o) {causal, scale = 1.0 : f32}
    : (memref<?x9x4x8xf32>, memref<?x9x2x8xf32>, memref<?x9x2x8xf32>, memref<1x1x9x9xf32>, memref<?x9x4x8xf32>) -> ()
  return
}

// CHECK-LABEL: func.func @matmul_activation
func.func @matmul_activation(%x: memref<?x4xi8>, %p: memref<64xi8>, %ws: memref<1x1x64xf32>, %c: memref<?xi32>, %a: memref<?xf32>, %y: memref<?x2xf32>) {
  // CHECK: ternary.matmul {{.*}} {activation = #bitnet.function<gelu>, layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
  ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, activation = #bitnet.function<gelu>}
    : (memref<?x4xi8>, memref<64xi8>, memref<1x1x64xf32>, memref<?xf32>, memref<?xi32>, memref<?x2xf32>) -> ()
  return
}
