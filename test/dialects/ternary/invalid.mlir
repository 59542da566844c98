// One function (or more) for each numbered constraint of the operations and attributes, named after it.
// RUN: setun-opt %s --verify-diagnostics --split-input-file

func.func @pack_c1(%w: tensor<?x64xi2>) {
  // expected-error @below {{expects weights of static shape [rows, 64], got 'tensor<?x64xi2>'}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<?x64xi2>) -> tensor<2048xi8>
  return
}

// -----

func.func @pack_c1_columns(%w: tensor<96x63xi2>) {
  // expected-error @below {{expects weights of static shape [rows, 64], got 'tensor<96x63xi2>'}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x63xi2>) -> tensor<2048xi8>
  return
}

// -----

func.func @pack_c1_rows(%w: tensor<95x64xi2>) {
  // expected-error @below {{expects 96 rows in all, got 95}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<95x64xi2>) -> tensor<2048xi8>
  return
}

// -----

func.func @pack_c2(%w: tensor<96x64xi1>) {
  // expected-error @below {{expects i2 weights for r16k4f4, got 'tensor<96x64xi1>'}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x64xi1>) -> tensor<2048xi8>
  return
}

// -----

func.func @pack_c2_binary(%w: tensor<96x64xi2>) {
  // expected-error @below {{expects i1 weights for r16k4f8, got 'tensor<96x64xi2>'}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f8, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<1024xi8>
  return
}

// -----

func.func @pack_c3(%w: tensor<96x64xi2>) {
  // expected-error @below {{expects packed bytes of shape [2048], got 'tensor<1024xi8>'}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<1024xi8>
  return
}

// -----

func.func @pack_c4(%w: tensor<96x64xi2>) {
  // expected-error @below {{expects two weights of the same shape for a gated layout}}
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64, order = gated>} : (tensor<96x64xi2>) -> tensor<2048xi8>
  return
}

// -----

func.func @pack_scales_c1(%a: tensor<1xf32>) {
  // expected-error @below {{expects a row count, granularity and direction for each of the 1 scales}}
  %0 = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 48, 48>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<2x1x64xf32>
  return
}

// -----

func.func @pack_scales_c1_rows(%a: tensor<1xf32>) {
  // expected-error @below {{expects row counts that add up to 96, got 95}}
  %0 = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 95>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<2x1x64xf32>
  return
}

// -----

func.func @pack_scales_c1_shape(%a: tensor<2xf32>) {
  // expected-error @below {{expects a scale of shape [1] for #bitnet.scales<tensor>, got 'tensor<2xf32>'}}
  %0 = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 96>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<2xf32>) -> tensor<2x1x64xf32>
  return
}

// -----

func.func @pack_scales_c1_ranges(%a: tensor<2xf32>) {
  // expected-error @below {{expects row ranges that add up to 96, got 95}}
  %0 = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 96>,
    scales = [#bitnet.scales<rows = [90, 5]>], directions = [#bitnet.direction<multiply>]} : (tensor<2xf32>) -> tensor<2x1x64xf32>
  return
}

// -----

func.func @pack_scales_c1_count(%a: tensor<1xf32>) {
  // expected-error @below {{expects row counts of at least one row, got 0}}
  %0 = ternary.pack_scales %a, %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 0, 96>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<tensor>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]}
    : (tensor<1xf32>, tensor<1xf32>) -> tensor<2x1x64xf32>
  return
}

// -----

func.func @pack_scales_c2(%a: tensor<1xf32>, %b: tensor<48x2xf32>) {
  // expected-error @below {{expects the same group in all scales, got 0 and 32}}
  %0 = ternary.pack_scales %a, %b {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 48, 48>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<group = 32>],
    directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]}
    : (tensor<1xf32>, tensor<48x2xf32>) -> tensor<2x2x64xf32>
  return
}

// -----

func.func @pack_scales_c3(%a: tensor<1xf32>) {
  // expected-error @below {{expects packed scales of shape [2, 1, 64], got 'tensor<2x64x1xf32>'}}
  %0 = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 96>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<2x64x1xf32>
  return
}

// -----

func.func @section_c1() {
  // expected-error @below {{expects an offset that is a multiple of 64 and not negative, got 96}}
  %0 = ternary.section {offset = 96} : tensor<2048xi8>
  return
}

// -----

func.func @section_c1_negative() {
  // expected-error @below {{expects an offset that is a multiple of 64 and not negative, got -64}}
  %0 = ternary.section {offset = -64} : tensor<2048xi8>
  return
}

// -----

func.func @section_c2() {
  // expected-error @below {{expects a static shape, got 'tensor<?xi8>'}}
  %0 = ternary.section {offset = 64} : tensor<?xi8>
  return
}

// -----

func.func @quantize_c1(%x: tensor<2x66xf32>, %q: tensor<2x66xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects codes of shape [2, 68], got 'tensor<2x66xi8>'}}
  %0:3 = ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : (tensor<2x66xf32>, tensor<2x66xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x66xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @quantize_c1_rank(%x: tensor<66xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects x of rank 2, got 'tensor<66xf32>'}}
  %0:3 = ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : (tensor<66xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @quantize_c1_static(%x: tensor<2x?xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects static columns of at least 1, got 'tensor<2x?xf32>'}}
  %0:3 = ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : (tensor<2x?xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @quantize_c2(%x: tensor<2x66xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects scale of shape [1], got 'tensor<2xf32>'}}
  %0:3 = ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0>}
    : (tensor<2x66xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @quantize_c2_sums(%x: tensor<2x66xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<3xi32>) {
  // expected-error @below {{expects sums of shape [2], got 'tensor<3xi32>'}}
  %0:3 = ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : (tensor<2x66xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<3xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<3xi32>)
  return
}

// -----

func.func @quantize_c3(%x: tensor<2x66xf32>, %g: tensor<68xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects norm weight of shape [66], got 'tensor<68xf32>'}}
  %0:3 = ternary.quantize %x norm_weight(%g) outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>, norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<2x66xf32>, tensor<68xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @quantize_c3_none(%x: tensor<2x66xf32>, %g: tensor<66xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects a norm for its norm weight or bias, got none}}
  %0:3 = ternary.quantize %x norm_weight(%g) outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : (tensor<2x66xf32>, tensor<66xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @quantize_c5(%x: memref<2x66xf32>, %next: memref<8x64xi8>, %q: memref<2x68xi8>, %s: memref<2xf32>, %c: memref<2xi32>) {
  // expected-error @below {{expects ahead of rank 1, got 'memref<8x64xi8>'}}
  ternary.quantize %x ahead(%next) outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : (memref<2x66xf32>, memref<8x64xi8>, memref<2x68xi8>, memref<2xf32>, memref<2xi32>) -> ()
  return
}

// -----

func.func @quantize_c3_bias(%x: tensor<2x66xf32>, %b: tensor<66xf32>, %q: tensor<2x68xi8>, %s: tensor<2xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects a norm for its norm weight or bias, got rms}}
  %0:3 = ternary.quantize %x norm_bias(%b) outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>, norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<2x66xf32>, tensor<66xf32>, tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>) -> (tensor<2x68xi8>, tensor<2xf32>, tensor<2xi32>)
  return
}

// -----

func.func @matmul_c1(%x: tensor<2x66xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects x of shape [2, 68], got 'tensor<2x66xi8>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x66xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c1_float(%x: tensor<2x68xf32>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects x of shape [2, 66], got 'tensor<2x68xf32>'}}
  %0 = ternary.matmul %x, %p, %ws outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xf32>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c2(%x: tensor<2x68xi8>, %p: tensor<2048xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects packed bytes of shape [2176], got 'tensor<2048xi8>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c2_scales(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x3x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects row scales of shape [2, 1, 64], got 'tensor<2x3x64xf32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x3x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c3(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects sums with codes, and neither sums nor act_scale with f32 activations}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c3_float(%x: tensor<2x66xf32>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects sums with codes, and neither sums nor act_scale with f32 activations}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x66xf32>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c3_scale(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects act_scale for a scaled result}}
  %0 = ternary.matmul %x, %p, %ws sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c3_shape(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<3xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects sums of shape [2], got 'tensor<3xi32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<3xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c3_act_scale(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<3xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects an activation scale per token or one, got 'tensor<3xf32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<3xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c5(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects relu2 or silu with a gated layout and with no other}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>, epilogue = #ternary.epilogue<silu>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c5_none(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x48xf32>) {
  // expected-error @below {{expects relu2 or silu with a gated layout and with no other}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66, order = gated>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x48xf32>) -> tensor<2x48xf32>
  return
}

// -----

func.func @matmul_c6(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x48xf32>) {
  // expected-error @below {{expects y of shape [2, 96], got 'tensor<2x48xf32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x48xf32>) -> tensor<2x48xf32>
  return
}

// -----

func.func @matmul_c6_gated(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects y of shape [2, 48], got 'tensor<2x96xf32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66, order = gated>, epilogue = #ternary.epilogue<silu>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c6_residual(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %r: tensor<3x96xf32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects residual of shape [2, 96], got 'tensor<3x96xf32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) residual(%r) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<3x96xf32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c6_acc(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x2x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>, %acc: tensor<2x96xi32>) {
  // expected-error @below {{expects acc of shape [2, 96, 2], got 'tensor<2x96xi32>'}}
  %0:2 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>, group = 36}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x2x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>, tensor<2x96xi32>) -> (tensor<2x96xf32>, tensor<2x96xi32>)
  return
}

// -----

func.func @matmul_c6_type(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>, %acc: tensor<2x96xf32>) {
  // expected-error @below {{expects an accumulator of i32, got 'tensor<2x96xf32>'}}
  %0:2 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>, tensor<2x96xf32>) -> (tensor<2x96xf32>, tensor<2x96xf32>)
  return
}

// -----

func.func @matmul_c7(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %b: tensor<48xf32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects bias of shape [96], got 'tensor<48xf32>'}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) bias(%b) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<48xf32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c7_gated(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %b: tensor<96xf32>, %y: tensor<2x48xf32>) {
  // expected-error @below {{expects no bias with a gated layout}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) bias(%b) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66, order = gated>, epilogue = #ternary.epilogue<silu>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<96xf32>, tensor<2x48xf32>) -> tensor<2x48xf32>
  return
}

// -----

func.func @matmul_c7_place(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects a bias and no groups with before_scale}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c11(%x: memref<2x68xi8>, %p: memref<2176xi8>, %ws: memref<2x1x64xf32>, %c: memref<2xi32>, %scratch: memref<64xi8>, %acc: memref<2x96xi32>) {
  // expected-error @+1 {{expects scratch memory of rank 1 and dynamic size, got 'memref<64xi8>'}}
  ternary.matmul %x, %p, %ws sums(%c) scratch(%scratch) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (memref<2x68xi8>, memref<2176xi8>, memref<2x1x64xf32>, memref<2xi32>, memref<64xi8>, memref<2x96xi32>) -> ()
  return
}

// -----

func.func @matmul_c13(%x: memref<?x68xi8>, %p: memref<2176xi8>, %ws: memref<2x1x64xf32>, %c: memref<?xi32>, %ahead: memref<?xi8>, %acc: memref<?x96xi32>) {
  // expected-error @+1 {{expects bytes to look ahead to of rank 1 and fixed size, got 'memref<?xi8>'}}
  ternary.matmul %x, %p, %ws sums(%c) ahead(%ahead) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (memref<?x68xi8>, memref<2176xi8>, memref<2x1x64xf32>, memref<?xi32>, memref<?xi8>, memref<?x96xi32>) -> ()
  return
}

// -----

func.func @matmul_c12(%x: memref<?x68xi8>, %p: memref<2176xi8>, %ws: memref<2x1x64xf32>, %c: memref<?xi32>, %taken: memref<2x16xi64>, %acc: memref<?x96xi32>) {
  // expected-error @+1 {{expects counters of a dynamic number of rows and fixed columns, got 'memref<2x16xi64>'}}
  ternary.matmul %x, %p, %ws sums(%c) taken(%taken) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (memref<?x68xi8>, memref<2176xi8>, memref<2x1x64xf32>, memref<?xi32>, memref<2x16xi64>, memref<?x96xi32>) -> ()
  return
}

// -----

func.func @matmul_c8(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x2x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects a group that is a positive multiple of 4, got 34}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>, group = 34}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x2x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c8_negative(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x96xf32>) {
  // expected-error @below {{expects a group that is a positive multiple of 4, got -4}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>, group = -4}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x96xf32>) -> tensor<2x96xf32>
  return
}

// -----

func.func @matmul_c9(%x: tensor<2x16777216xi8>, %p: tensor<268435456xi8>, %ws: tensor<1x1x64xf32>, %a: tensor<2xf32>, %c: tensor<2xi32>, %y: tensor<2x1xf32>) {
  // expected-error @below {{expects at most 16777215 columns, got 16777216}}
  %0 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 1, cols = 16777216>}
    : (tensor<2x16777216xi8>, tensor<268435456xi8>, tensor<1x1x64xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2x1xf32>) -> tensor<2x1xf32>
  return
}

// -----

func.func @matmul_c4(%x: tensor<2x68xi8>, %p: tensor<2176xi8>, %ws: tensor<2x1x64xf32>, %c: tensor<2xi32>) {
  // expected-error @below {{expects y, acc or both}}
  ternary.matmul %x, %p, %ws sums(%c) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 66>}
    : (tensor<2x68xi8>, tensor<2176xi8>, tensor<2x1x64xf32>, tensor<2xi32>) -> ()
  return
}

// -----

func.func @dense_c1(%x: tensor<2x64xf32>, %w: tensor<100x32xf32>, %y: tensor<2x100xf32>) {
  // expected-error @below {{expects x of shape [?, 32], got 'tensor<2x64xf32>'}}
  %0 = ternary.dense %x, %w outs(%y)
    : (tensor<2x64xf32>, tensor<100x32xf32>, tensor<2x100xf32>) -> tensor<2x100xf32>
  return
}

// -----

func.func @dense_c1_static(%x: tensor<2x64xf32>, %w: tensor<?x64xf32>, %y: tensor<2x100xf32>) {
  // expected-error @below {{expects static rows and columns of at least 1, got 'tensor<?x64xf32>'}}
  %0 = ternary.dense %x, %w outs(%y)
    : (tensor<2x64xf32>, tensor<?x64xf32>, tensor<2x100xf32>) -> tensor<2x100xf32>
  return
}

// -----

func.func @dense_c1_rows(%x: tensor<3x64xf32>, %w: tensor<100x64xf32>, %y: tensor<2x100xf32>) {
  // expected-error @below {{expects y of shape [3, 100], got 'tensor<2x100xf32>'}}
  %0 = ternary.dense %x, %w outs(%y)
    : (tensor<3x64xf32>, tensor<100x64xf32>, tensor<2x100xf32>) -> tensor<2x100xf32>
  return
}

// -----

func.func @dense_c2(%x: tensor<2x64xf32>, %w: tensor<100x64xf32>, %b: tensor<128xf32>, %y: tensor<2x100xf32>) {
  // expected-error @below {{expects bias of shape [100], got 'tensor<128xf32>'}}
  %0 = ternary.dense %x, %w bias(%b) outs(%y)
    : (tensor<2x64xf32>, tensor<100x64xf32>, tensor<128xf32>, tensor<2x100xf32>) -> tensor<2x100xf32>
  return
}

// -----

func.func @norm_c1(%x: tensor<2x64xf32>, %y: tensor<2x32xf32>) {
  // expected-error @below {{expects y of shape [2, 64], got 'tensor<2x32xf32>'}}
  %0 = ternary.norm %x outs(%y) {norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<2x64xf32>, tensor<2x32xf32>) -> tensor<2x32xf32>
  return
}

// -----

func.func @norm_c1_gain(%x: tensor<2x64xf32>, %g: tensor<2xf32>, %y: tensor<2x64xf32>) {
  // expected-error @below {{expects weight of shape [64], got 'tensor<2xf32>'}}
  %0 = ternary.norm %x weight(%g) outs(%y) {norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<2x64xf32>, tensor<2xf32>, tensor<2x64xf32>) -> tensor<2x64xf32>
  return
}

// -----

func.func @norm_c2(%x: tensor<2x64xf32>, %g: tensor<64xf32>, %y: tensor<2x64xf32>) {
  // expected-error @below {{expects a norm for its weight or bias, got none}}
  %0 = ternary.norm %x weight(%g) outs(%y) {norm = #bitnet.norm<none, eps = 0.0>}
    : (tensor<2x64xf32>, tensor<64xf32>, tensor<2x64xf32>) -> tensor<2x64xf32>
  return
}

// -----

func.func @norm_c2_shift(%x: tensor<2x64xf32>, %g: tensor<64xf32>, %y: tensor<2x64xf32>) {
  // expected-error @below {{expects a norm for its weight or bias, got rms}}
  %0 = ternary.norm %x bias(%g) outs(%y) {norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<2x64xf32>, tensor<64xf32>, tensor<2x64xf32>) -> tensor<2x64xf32>
  return
}

// -----

func.func @rotary_c1(%x: tensor<2x4x8xf32>, %c: tensor<32x4xf32>, %s: tensor<32x4xf32>, %p: i64, %y: tensor<2x4x6xf32>) {
  // expected-error @below {{expects y of shape [2, 4, 8], got 'tensor<2x4x6xf32>'}}
  %0 = ternary.rotary %x, %c, %s, %p outs(%y)
    : (tensor<2x4x8xf32>, tensor<32x4xf32>, tensor<32x4xf32>, i64, tensor<2x4x6xf32>) -> tensor<2x4x6xf32>
  return
}

// -----

func.func @rotary_c1_odd(%x: tensor<2x4x7xf32>, %c: tensor<32x3xf32>, %s: tensor<32x3xf32>, %p: i64, %y: tensor<2x4x7xf32>) {
  // expected-error @below {{expects an even head size, got 'tensor<2x4x7xf32>'}}
  %0 = ternary.rotary %x, %c, %s, %p outs(%y)
    : (tensor<2x4x7xf32>, tensor<32x3xf32>, tensor<32x3xf32>, i64, tensor<2x4x7xf32>) -> tensor<2x4x7xf32>
  return
}

// -----

func.func @rotary_c2(%x: tensor<2x4x8xf32>, %c: tensor<32x8xf32>, %s: tensor<32x8xf32>, %p: i64, %y: tensor<2x4x8xf32>) {
  // expected-error @below {{expects cos of shape [?, 4], got 'tensor<32x8xf32>'}}
  %0 = ternary.rotary %x, %c, %s, %p outs(%y)
    : (tensor<2x4x8xf32>, tensor<32x8xf32>, tensor<32x8xf32>, i64, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @rotary_c2_sin(%x: tensor<2x4x8xf32>, %c: tensor<32x4xf32>, %s: tensor<16x4xf32>, %p: i64, %y: tensor<2x4x8xf32>) {
  // expected-error @below {{expects sin of shape [32, 4], got 'tensor<16x4xf32>'}}
  %0 = ternary.rotary %x, %c, %s, %p outs(%y)
    : (tensor<2x4x8xf32>, tensor<32x4xf32>, tensor<16x4xf32>, i64, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @cache_update_c1(%r: tensor<2x3x8xf32>, %p: i64, %c: tensor<?x2x8xf32>) {
  // expected-error @below {{expects the cache of shape [?, 3, 8], got 'tensor<?x2x8xf32>'}}
  %0 = ternary.cache_update %r, %p outs(%c)
    : (tensor<2x3x8xf32>, i64, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  return
}

// -----

func.func @cache_update_c1_static(%r: tensor<2x?x8xf32>, %p: i64, %c: tensor<?x?x8xf32>) {
  // expected-error @below {{expects static heads and head size of at least 1, got 'tensor<2x?x8xf32>'}}
  %0 = ternary.cache_update %r, %p outs(%c)
    : (tensor<2x?x8xf32>, i64, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  return
}

// -----

func.func @cache_update_c2(%r: tensor<2x3x8xf32>, %p: i64, %c: tensor<40x3x8xf32>) {
  // expected-error @below {{expects a blocked cache of a multiple of 16 rows, got 'tensor<40x3x8xf32>'}}
  %0 = ternary.cache_update %r, %p outs(%c) {blocked}
    : (tensor<2x3x8xf32>, i64, tensor<40x3x8xf32>) -> tensor<40x3x8xf32>
  return
}

// -----

func.func @cache_update_c3(%r: tensor<2x3x8xf16>, %p: i64, %c: tensor<?x3x8xf32>) {
  // expected-error @below {{expects rows of f32 or the cache's elements, got 'tensor<2x3x8xf16>' for 'tensor<?x3x8xf32>'}}
  %0 = ternary.cache_update %r, %p outs(%c)
    : (tensor<2x3x8xf16>, i64, tensor<?x3x8xf32>) -> tensor<?x3x8xf32>
  return
}

// -----

func.func @attention_c1(%q: tensor<2x4x8xf32>, %k: tensor<?x2x8xf32>, %v: tensor<?x2x6xf32>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects v of shape [?, 2, 8], got 'tensor<?x2x6xf32>'}}
  %0 = ternary.attention %q, %k, %v, %p outs(%o) {scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x6xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @attention_c1_size(%q: tensor<2x4x8xf32>, %k: tensor<?x2x6xf32>, %v: tensor<?x2x6xf32>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects keys that fit the heads of 'tensor<2x4x8xf32>', got 'tensor<?x2x6xf32>'}}
  %0 = ternary.attention %q, %k, %v, %p outs(%o) {scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<?x2x6xf32>, tensor<?x2x6xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @attention_c1_static(%q: tensor<2x?x8xf32>, %k: tensor<?x2x8xf32>, %v: tensor<?x2x8xf32>, %p: i64, %o: tensor<2x?x8xf32>) {
  // expected-error @below {{expects static heads and head size of at least 1, got 'tensor<2x?x8xf32>'}}
  %0 = ternary.attention %q, %k, %v, %p outs(%o) {scale = 1.0 : f32}
    : (tensor<2x?x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<2x?x8xf32>) -> tensor<2x?x8xf32>
  return
}

// -----

func.func @attention_c2(%q: tensor<2x4x8xf32>, %k: tensor<?x3x8xf32>, %v: tensor<?x3x8xf32>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects keys that fit the heads of 'tensor<2x4x8xf32>', got 'tensor<?x3x8xf32>'}}
  %0 = ternary.attention %q, %k, %v, %p outs(%o) {scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<?x3x8xf32>, tensor<?x3x8xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @attention_c1_types(%q: tensor<2x4x8xf32>, %k: tensor<?x2x8xf32>, %v: tensor<?x2x8xf16>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects keys and values of one element type, got 'tensor<?x2x8xf32>' and 'tensor<?x2x8xf16>'}}
  %0 = ternary.attention %q, %k, %v, %p outs(%o) {scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<?x2x8xf32>, tensor<?x2x8xf16>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @attention_c3(%q: tensor<2x4x8xf32>, %k: tensor<24x2x8xf32>, %v: tensor<24x2x8xf32>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects blocked keys of a multiple of 16 rows, got 'tensor<24x2x8xf32>'}}
  %0 = ternary.attention %q, %k, %v, %p outs(%o) {blocked, scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<24x2x8xf32>, tensor<24x2x8xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}

// -----

func.func @attention_c4(%q: tensor<2x4x8xf32>, %n: tensor<2x2x8xf32>, %k: tensor<32x2x8xf32>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects new keys and values together, with blocked keys}}
  %0:3 = ternary.attention %q, %k, %k, %p new(%n, %n) outs(%o) {scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<2x2x8xf32>, tensor<2x2x8xf32>, tensor<32x2x8xf32>, tensor<32x2x8xf32>, tensor<2x4x8xf32>)
    -> (tensor<32x2x8xf32>, tensor<32x2x8xf32>, tensor<2x4x8xf32>)
  return
}

// -----

func.func @attention_c4_heads(%q: tensor<2x4x8xf32>, %n: tensor<2x4x8xf32>, %k: tensor<32x2x8xf32>, %p: i64, %o: tensor<2x4x8xf32>) {
  // expected-error @below {{expects new keys of shape [?, 2, 8], got 'tensor<2x4x8xf32>'}}
  %0:3 = ternary.attention %q, %k, %k, %p new(%n, %n) outs(%o) {blocked, scale = 1.0 : f32}
    : (tensor<2x4x8xf32>, i64, tensor<2x4x8xf32>, tensor<2x4x8xf32>, tensor<32x2x8xf32>, tensor<32x2x8xf32>, tensor<2x4x8xf32>)
    -> (tensor<32x2x8xf32>, tensor<32x2x8xf32>, tensor<2x4x8xf32>)
  return
}

// -----

func.func @gated_c1(%g: tensor<2x64xf32>, %u: tensor<3x64xf32>, %y: tensor<2x64xf32>) {
  // expected-error @below {{expects up of shape [2, 64], got 'tensor<3x64xf32>'}}
  %0 = ternary.gated %g, %u outs(%y) {act = #bitnet.gate_act<silu>}
    : (tensor<2x64xf32>, tensor<3x64xf32>, tensor<2x64xf32>) -> tensor<2x64xf32>
  return
}

// -----

func.func @embedding_c1(%table: tensor<100x64xbf16>, %t: tensor<3xi64>, %y: tensor<3x32xf32>) {
  // expected-error @below {{expects y of shape [3, 64], got 'tensor<3x32xf32>'}}
  %0 = ternary.embedding %table, %t outs(%y)
    : (tensor<100x64xbf16>, tensor<3xi64>, tensor<3x32xf32>) -> tensor<3x32xf32>
  return
}

// -----

func.func @embedding_c1_static(%table: tensor<?x64xbf16>, %t: tensor<3xi64>, %y: tensor<3x64xf32>) {
  // expected-error @below {{expects static rows and columns of at least 1, got 'tensor<?x64xbf16>'}}
  %0 = ternary.embedding %table, %t outs(%y)
    : (tensor<?x64xbf16>, tensor<3xi64>, tensor<3x64xf32>) -> tensor<3x64xf32>
  return
}

// -----

func.func @hadamard_c1(%x: tensor<2x64xf32>, %y: tensor<3x64xf32>) {
  // expected-error @below {{expects y of shape [2, 64], got 'tensor<3x64xf32>'}}
  %0 = ternary.hadamard %x outs(%y) {block = 32}
    : (tensor<2x64xf32>, tensor<3x64xf32>) -> tensor<3x64xf32>
  return
}

// -----

func.func @hadamard_c2(%x: tensor<2x64xf32>, %y: tensor<2x64xf32>) {
  // expected-error @below {{expects a block that is a power of two and divides the columns of 'tensor<2x64xf32>', got 24}}
  %0 = ternary.hadamard %x outs(%y) {block = 24}
    : (tensor<2x64xf32>, tensor<2x64xf32>) -> tensor<2x64xf32>
  return
}

// -----

func.func @unpack_c1(%b: vector<64xi8>) {
  // expected-error @below {{expects 1, 2 or 4 bits and a field within the byte, got field 4 of 2 bits}}
  %0 = ternary.unpack %b {field = 4, bits = 2} : vector<64xi8>
  return
}

// -----

func.func @unpack_c1_bits(%b: vector<64xi8>) {
  // expected-error @below {{expects 1, 2 or 4 bits and a field within the byte, got field 0 of 3 bits}}
  %0 = ternary.unpack %b {field = 0, bits = 3} : vector<64xi8>
  return
}

// -----

func.func @dot_c1(%a: vector<16xi32>, %b: vector<64xi8>) {
  // expected-error @below {{expects max_code in [1, 255], got 256}}
  %0 = ternary.dot %a, %b, %b {max_code = 256} : vector<16xi32>, vector<64xi8>
  return
}

// -----

func.func @dot_c1_signed(%a: vector<16xi32>, %b: vector<64xi8>) {
  // expected-error @below {{expects max_code in [1, 128], got 129}}
  %0 = ternary.dot %a, %b, %b {max_code = 129, signed_codes} : vector<16xi32>, vector<64xi8>
  return
}

// -----

func.func @matrix_dot_c1(%a: vector<4xi32>, %b: vector<16xi8>) {
  // expected-error @below {{expects max_code in [1, 255], got 0}}
  %0 = ternary.matrix_dot %a, %b, %b {max_code = 0} : vector<4xi32>, vector<16xi8>
  return
}

// -----

func.func @multiply_add_c1(%a: vector<16xi16>, %b: vector<16xi8>) {
  // expected-error @below {{expects steps of codes that fit 16 bits, got 128 of codes up to 2}}
  %0 = ternary.multiply_add %a, %b, %b {max_code = 2, steps = 128} : vector<16xi16>, vector<16xi8>
  return
}

// -----

func.func @multiply_add_c2(%a: vector<16xi16>, %b: vector<32xi8>) {
  // expected-error @below {{expects as many lanes as bytes, got 'vector<16xi16>' and 'vector<32xi8>'}}
  %0 = ternary.multiply_add %a, %b, %b {max_code = 2, steps = 1} : vector<16xi16>, vector<32xi8>
  return
}

// -----

func.func @results(%x: tensor<2x64xf32>, %y: tensor<2x64xf32>) {
  // expected-error @below {{expected the number of tensor results (0) to be equal to the number of output tensors (1)}}
  ternary.hadamard %x outs(%y) {block = 32} : (tensor<2x64xf32>, tensor<2x64xf32>) -> ()
  return
}

// -----

// expected-error @below {{expects positive rows and columns, got 0 and 4}}
func.func private @layout_c1() attributes {a = #ternary.layout<r16k4f4, rows = 0, cols = 4>}

// -----

// expected-error @below {{expects positive rows and columns, got 4 and -1}}
func.func private @layout_c1_columns() attributes {a = #ternary.layout<r16k4f4, rows = 4, cols = -1>}

// -----

// expected-error @below {{expects an even number of rows in gated order, got 3}}
func.func private @layout_c2() attributes {a = #ternary.layout<r16k4f4, rows = 3, cols = 4, order = gated>}

// -----

// expected-error @below {{expects a row of the kernel table (amxint8, avx512vbmi, avx512lut, avx512vnni, avx512bw, avxvnni, avx2, sme, i8mm, sve, dotprod, neon, generic), got fast}}
func.func private @kernel_c1() attributes {a = #ternary.kernel<"fast", tokens = 1>}

// -----

// expected-error @below {{expects 1 to 16 tokens, got 0}}
func.func private @kernel_c2() attributes {a = #ternary.kernel<"generic", tokens = 0>}

// -----

func.func @dot_pairs_c1(%a: vector<32xi16>, %b: vector<64xi8>) {
  // expected-error @below {{expects steps of codes that fit 16 bits, got 64 of codes up to 2}}
  %0 = ternary.dot_pairs %a, %b, %b {max_code = 2, steps = 64} : vector<32xi16>, vector<64xi8>
  return
}

// -----

func.func @dot_pairs_c2(%a: vector<16xi16>, %b: vector<64xi8>) {
  // expected-error @below {{expects half as many lanes as bytes, got 'vector<16xi16>' and 'vector<64xi8>'}}
  %0 = ternary.dot_pairs %a, %b, %b {max_code = 2, steps = 1} : vector<16xi16>, vector<64xi8>
  return
}

// -----

// expected-error @below {{expects a number of tokens that is not negative for staging, got -1}}
func.func private @kernel_c3() attributes {a = #ternary.kernel<"generic", tokens = 1, staged = -1>}

// -----

func.func @dot_c2(%a: vector<16xi32>, %b: vector<32xi8>) {
  // expected-error @below {{expects a quarter as many lanes as bytes}}
  %0 = ternary.dot %a, %b, %b {max_code = 2} : vector<16xi32>, vector<32xi8>
  return
}

// -----

func.func @dot_c2_scalable(%a: vector<4xi32>, %b: vector<[16]xi8>) {
  // expected-error @below {{expects a quarter as many lanes as bytes, got 'vector<4xi32>' and 'vector<[16]xi8>'}}
  %0 = ternary.dot %a, %b, %b {max_code = 2} : vector<4xi32>, vector<[16]xi8>
  return
}

// -----

func.func @trits_below_c1(%b: vector<64xi8>) {
  // expected-error @below {{expects a divisor of 3, 9, 28 or 84, got 10}}
  %0 = ternary.trits_below %b {divisor = 10} : vector<64xi8>
  return
}

// -----

func.func @look_up_bytes_c1(%b: vector<64xi8>) {
  // expected-error @below {{expects a table of 64 bytes, got 3}}
  %0 = ternary.look_up_bytes %b {table = array<i8: 1, 2, 3>} : vector<64xi8>
  return
}

// -----

func.func @look_up_bytes_c2(%b: vector<64xi8>) {
  // expected-error @below {{expects a shift of 0, 1 or 2, got 3}}
  %0 = ternary.look_up_bytes %b {shift = 3, table = array<i8: 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : vector<64xi8>
  return
}

// -----

func.func @top_trit_c1(%b: vector<64xi8>) {
  // expected-error @below {{expects a divisor of 3, 9, 28 or 84, got 1}}
  %0 = ternary.top_trit %b {divisor = 1} : vector<64xi8>
  return
}

// -----

func.func @add_pairs_c1(%a: vector<16xi32>, %b: vector<16xi16>) {
  // expected-error @below {{expects two or four times as many 16-bit sums as lanes}}
  %0 = ternary.add_pairs %a, %b : vector<16xi32>, vector<16xi16>
  return
}

// -----

func.func @pack_head_c1(%w: tensor<?x64xbf16>) {
  // expected-error @below {{expects a static matrix, got 'tensor<?x64xbf16>'}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<?x64xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  return
}

// -----

func.func @pack_head_c1_columns(%w: tensor<40x65537xbf16>) {
  // expected-error @below {{expects at least one row and 1 to 65536 columns, got 40 x 65537}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x65537xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  return
}

// -----

func.func @pack_head_c2(%w: tensor<40x64xbf16>) {
  // expected-error @below {{expects codes of shape [2048], got 'tensor<1024xi8>'}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x64xbf16> -> tensor<1024xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  return
}

// -----

func.func @pack_head_c2_scales(%w: tensor<40x64xbf16>) {
  // expected-error @below {{expects scales of shape [128], got 'tensor<64xi8>'}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x64xbf16> -> tensor<2048xi8>, tensor<64xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  return
}

// -----

func.func @pack_head_c2_rows(%w: tensor<40x64xbf16>) {
  // expected-error @below {{expects coarse rows of shape [2, 3, 32], got 'tensor<2x2x32xf32>'}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x64xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x2x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
  return
}

// -----

func.func @pack_head_c2_fine(%w: tensor<40x64xbf16>) {
  // expected-error @below {{expects fine codes of shape [2, 40, 64], got 'tensor<64x64xi8>'}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x64xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<64x64xi8>, tensor<40x8xf32>
  return
}

// -----

func.func @pack_head_c2_fine_rows(%w: tensor<40x64xbf16>) {
  // expected-error @below {{expects fine rows of shape [40, 8], got 'tensor<64x3xf32>'}}
  %c, %s, %r, %f, %fr = ternary.pack_head %w
    : tensor<40x64xbf16> -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<64x3xf32>
  return
}

// -----

func.func @head_quantize_c1(%x: tensor<2x64xf32>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>) {
  // expected-error @below {{expects x of shape [1, 64], got 'tensor<2x64xf32>'}}
  %r:3 = ternary.head_quantize %x outs(%q, %sums, %params)
    : (tensor<2x64xf32>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>) -> (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>)
  return
}

// -----

func.func @head_quantize_c1_codes(%x: tensor<1x64xf32>, %q: tensor<64xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>) {
  // expected-error @below {{expects codes of shape [512], got 'tensor<64xi8>'}}
  %r:3 = ternary.head_quantize %x outs(%q, %sums, %params)
    : (tensor<1x64xf32>, tensor<64xi8>, tensor<5xi32>, tensor<4xf32>) -> (tensor<64xi8>, tensor<5xi32>, tensor<4xf32>)
  return
}

// -----

func.func @head_quantize_c1_columns(%x: tensor<1x65552xf32>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>) {
  // expected-error @below {{expects at least one row and 1 to 65536 columns, got 1 x 65552}}
  %r:3 = ternary.head_quantize %x outs(%q, %sums, %params)
    : (tensor<1x65552xf32>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>) -> (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>)
  return
}

// -----

func.func @head_quantize_c2(%x: tensor<1x64xf32>, %q: tensor<512xi8>, %sums: tensor<4xi32>, %params: tensor<4xf32>) {
  // expected-error @below {{expects sums of shape [5], got 'tensor<4xi32>'}}
  %r:3 = ternary.head_quantize %x outs(%q, %sums, %params)
    : (tensor<1x64xf32>, tensor<512xi8>, tensor<4xi32>, tensor<4xf32>) -> (tensor<512xi8>, tensor<4xi32>, tensor<4xf32>)
  return
}

// -----

func.func @head_quantize_c2_params(%x: tensor<1x64xf32>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<3xf32>) {
  // expected-error @below {{expects params of shape [4], got 'tensor<3xf32>'}}
  %r:3 = ternary.head_quantize %x outs(%q, %sums, %params)
    : (tensor<1x64xf32>, tensor<512xi8>, tensor<5xi32>, tensor<3xf32>) -> (tensor<512xi8>, tensor<5xi32>, tensor<3xf32>)
  return
}

// -----

func.func @head_scan_c3(%q: memref<512xi8>, %sums: memref<5xi32>, %params: memref<4xf32>, %codes: memref<2048xi8>, %scales: memref<128xi8>, %rows: memref<2x3x32xf32>, %taken: memref<?xi64>, %approx: memref<1x64xf32>, %upper: memref<1x64xf32>, %maxima: memref<2xf32>) {
  // expected-error @+1 {{expects counters of a dynamic number of rows and fixed columns, got 'memref<?xi64>'}}
  ternary.head_scan %q, %sums, %params, %codes, %scales, %rows taken(%taken) outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (memref<512xi8>, memref<5xi32>, memref<4xf32>, memref<2048xi8>, memref<128xi8>, memref<2x3x32xf32>, memref<?xi64>, memref<1x64xf32>, memref<1x64xf32>, memref<2xf32>) -> ()
  return
}

// -----

func.func @head_scan_c1_q(%q: tensor<1024xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects codes of x of shape [512], got 'tensor<1024xi8>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<1024xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c1_sums(%q: tensor<512xi8>, %sums: tensor<4xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects sums of shape [5], got 'tensor<4xi32>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<4xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c1_params(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<5xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects params of shape [4], got 'tensor<5xf32>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<5xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c1_codes(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<1024xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects codes of shape [2048], got 'tensor<1024xi8>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1024xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c1_scales(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<64xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects scales of shape [128], got 'tensor<64xi8>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<64xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c1_rows(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<1x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects coarse rows of shape [2, 3, 32], got 'tensor<1x3x32xf32>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<1x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c1_rows_attr(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects at least one row and 1 to 65536 columns, got 0 x 64}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 0, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c2_approx(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x40xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects approx of shape [1, 64], got 'tensor<1x40xf32>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x40xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x40xf32>, tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c2_upper(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x40xf32>, %maxima: tensor<2xf32>) {
  // expected-error @below {{expects upper of shape [1, 64], got 'tensor<1x40xf32>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x40xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<1x40xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_scan_c2_maxima(%q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %codes: tensor<2048xi8>, %scales: tensor<128xi8>, %rows: tensor<2x3x32xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %maxima: tensor<1xf32>) {
  // expected-error @below {{expects maxima of shape [2], got 'tensor<1xf32>'}}
  %r:3 = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
    : (tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<1xf32>) -> (tensor<1x64xf32>, tensor<1x64xf32>, tensor<1xf32>)
  return
}

// -----

func.func @head_candidates_c1_x(%x: tensor<1x32xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x64xf32>, %maxima: tensor<2xf32>, %k: tensor<1xi64>, %cand: tensor<8xf32>) {
  // expected-error @below {{expects x of shape [1, 64], got 'tensor<1x32xf32>'}}
  %r = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%cand)
    : (tensor<1x32xf32>, tensor<40x64xbf16>, tensor<1x64xf32>, tensor<2xf32>, tensor<1xi64>, tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @head_candidates_c1_approx(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x40xf32>, %maxima: tensor<2xf32>, %k: tensor<1xi64>, %cand: tensor<8xf32>) {
  // expected-error @below {{expects approx of shape [1, 64], got 'tensor<1x40xf32>'}}
  %r = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%cand)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1x40xf32>, tensor<2xf32>, tensor<1xi64>, tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @head_candidates_c1_maxima(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x64xf32>, %maxima: tensor<3xf32>, %k: tensor<1xi64>, %cand: tensor<8xf32>) {
  // expected-error @below {{expects maxima of shape [2], got 'tensor<3xf32>'}}
  %r = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%cand)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1x64xf32>, tensor<3xf32>, tensor<1xi64>, tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @head_candidates_c2_k(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x64xf32>, %maxima: tensor<2xf32>, %k: tensor<2xi64>, %cand: tensor<8xf32>) {
  // expected-error @below {{expects k of shape [1], got 'tensor<2xi64>'}}
  %r = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%cand)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1x64xf32>, tensor<2xf32>, tensor<2xi64>, tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @head_candidates_c2_length(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x64xf32>, %maxima: tensor<2xf32>, %k: tensor<1xi64>, %cand: tensor<65xf32>) {
  // expected-error @below {{expects exact logits of a length in [1, 64], got 'tensor<65xf32>'}}
  %r = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%cand)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1x64xf32>, tensor<2xf32>, tensor<1xi64>, tensor<65xf32>) -> tensor<65xf32>
  return
}

// -----

func.func @head_rescore_c3(%x: memref<1x64xf32>, %w: memref<40x64xbf16>, %q: memref<512xi8>, %sums: memref<5xi32>, %params: memref<4xf32>, %approx: memref<1x64xf32>, %upper: memref<1x64xf32>, %cand: memref<8xf32>, %k: memref<1xi64>, %fine: memref<2x40x64xi8>, %fr: memref<40x8xf32>, %taken: memref<?x0xi64>, %exact: memref<1x64xf32>, %largest: memref<2xf32>) {
  // expected-error @+1 {{expects counters of a dynamic number of rows and fixed columns, got 'memref<?x0xi64>'}}
  ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr taken(%taken) outs(%exact, %largest)
    : (memref<1x64xf32>, memref<40x64xbf16>, memref<512xi8>, memref<5xi32>, memref<4xf32>, memref<1x64xf32>, memref<1x64xf32>, memref<8xf32>, memref<1xi64>, memref<2x40x64xi8>, memref<40x8xf32>, memref<?x0xi64>, memref<1x64xf32>, memref<2xf32>) -> ()
  return
}

// -----

func.func @head_rescore_c1_x(%x: tensor<1x32xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects x of shape [1, 64], got 'tensor<1x32xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x32xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_q(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<1024xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects codes of x of shape [512], got 'tensor<1024xi8>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1024xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_sums(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<4xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects sums of shape [5], got 'tensor<4xi32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<4xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_params(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<5xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects params of shape [4], got 'tensor<5xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<5xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_approx(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x40xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects approx of shape [1, 64], got 'tensor<1x40xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x40xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_upper(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x40xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects upper of shape [1, 64], got 'tensor<1x40xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x40xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_k(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<2xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects k of shape [1], got 'tensor<2xi64>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<2xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_fine(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects fine codes of shape [2, 40, 64], got 'tensor<40x64xi8>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c1_fr(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x3xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects fine rows of shape [40, 8], got 'tensor<40x3xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x3xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c2_exact(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x40xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects exact of shape [1, 64], got 'tensor<1x40xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x40xf32>, tensor<2xf32>) -> (tensor<1x40xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_rescore_c2_largest(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<8xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<3xf32>) {
  // expected-error @below {{expects maxima of shape [2], got 'tensor<3xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<3xf32>) -> (tensor<1x64xf32>, tensor<3xf32>)
  return
}

// -----

func.func @head_rescore_c1_candidates(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %q: tensor<512xi8>, %sums: tensor<5xi32>, %params: tensor<4xf32>, %approx: tensor<1x64xf32>, %upper: tensor<1x64xf32>, %cand: tensor<0xf32>, %k: tensor<1xi64>, %fine: tensor<2x40x64xi8>, %fr: tensor<40x8xf32>, %exact: tensor<1x64xf32>, %largest: tensor<2xf32>) {
  // expected-error @below {{expects candidates of a length in [1, 64], got 'tensor<0xf32>'}}
  %r:2 = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %fr outs(%exact, %largest)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x64xf32>, tensor<1x64xf32>, tensor<0xf32>, tensor<1xi64>, tensor<2x40x64xi8>, tensor<40x8xf32>, tensor<1x64xf32>, tensor<2xf32>) -> (tensor<1x64xf32>, tensor<2xf32>)
  return
}

// -----

func.func @head_select_c1(%exact: tensor<1x32xf32>, %k: tensor<1xi64>, %ids: tensor<8xi64>, %best: tensor<8xf32>) {
  // expected-error @below {{expects one row of at least 40 logits, got 'tensor<1x32xf32>'}}
  %r:2 = ternary.head_select %exact, %k outs(%ids, %best) {rows = 40}
    : (tensor<1x32xf32>, tensor<1xi64>, tensor<8xi64>, tensor<8xf32>) -> (tensor<8xi64>, tensor<8xf32>)
  return
}

// -----

func.func @head_select_c1_tokens(%exact: tensor<2x64xf32>, %k: tensor<1xi64>, %ids: tensor<8xi64>, %best: tensor<8xf32>) {
  // expected-error @below {{expects one row of at least 40 logits, got 'tensor<2x64xf32>'}}
  %r:2 = ternary.head_select %exact, %k outs(%ids, %best) {rows = 40}
    : (tensor<2x64xf32>, tensor<1xi64>, tensor<8xi64>, tensor<8xf32>) -> (tensor<8xi64>, tensor<8xf32>)
  return
}

// -----

func.func @head_select_c2(%exact: tensor<1x64xf32>, %k: tensor<1xi64>, %m: tensor<3xf32>, %ids: tensor<8xi64>, %best: tensor<8xf32>) {
  // expected-error @below {{expects maxima of shape [2], got 'tensor<3xf32>'}}
  %r:2 = ternary.head_select %exact, %k maxima(%m) outs(%ids, %best) {rows = 40}
    : (tensor<1x64xf32>, tensor<1xi64>, tensor<3xf32>, tensor<8xi64>, tensor<8xf32>) -> (tensor<8xi64>, tensor<8xf32>)
  return
}

// -----

func.func @head_select_c3(%exact: tensor<1x64xf32>, %k: tensor<1xi64>, %ids: tensor<8xi64>, %best: tensor<9xf32>) {
  // expected-error @below {{expects best logits of shape [8], got 'tensor<9xf32>'}}
  %r:2 = ternary.head_select %exact, %k outs(%ids, %best) {rows = 40}
    : (tensor<1x64xf32>, tensor<1xi64>, tensor<8xi64>, tensor<9xf32>) -> (tensor<8xi64>, tensor<9xf32>)
  return
}

// -----

func.func @head_select_c3_length(%exact: tensor<1x64xf32>, %k: tensor<1xi64>, %ids: tensor<65xi64>, %best: tensor<65xf32>) {
  // expected-error @below {{expects ids of a length in [1, 64], got 'tensor<65xi64>'}}
  %r:2 = ternary.head_select %exact, %k outs(%ids, %best) {rows = 40}
    : (tensor<1x64xf32>, tensor<1xi64>, tensor<65xi64>, tensor<65xf32>) -> (tensor<65xi64>, tensor<65xf32>)
  return
}

// -----

func.func @head_select_c3_k(%exact: tensor<1x64xf32>, %k: tensor<2xi64>, %ids: tensor<8xi64>, %best: tensor<8xf32>) {
  // expected-error @below {{expects k of shape [1], got 'tensor<2xi64>'}}
  %r:2 = ternary.head_select %exact, %k outs(%ids, %best) {rows = 40}
    : (tensor<1x64xf32>, tensor<2xi64>, tensor<8xi64>, tensor<8xf32>) -> (tensor<8xi64>, tensor<8xf32>)
  return
}

// -----

func.func @dot_tiles_c1(%x: memref<?x64xi8, strided<[128, 2]>>, %u: memref<4x16x64xi8>, %s: memref<16x1x4x16xi32>, %i: index) {
  // expected-error @below {{expects rows of codes without gaps, got 'memref<?x64xi8, strided<[128, 2]>>'}}
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%i) blocks(%i) width(%i)
    : memref<?x64xi8, strided<[128, 2]>>, memref<4x16x64xi8>, memref<16x1x4x16xi32>
  return
}

// -----

func.func @dot_tiles_c2(%x: memref<?x64xi8>, %u: memref<4x16x64xi8>, %s: memref<16x1x5x16xi32>, %i: index) {
  // expected-error @below {{expects operands FxSx64 and sums TxPxFx16, static and without gaps}}
  ternary.dot_tiles %x[%i, %i], %u[%i], %s[%i, %i] tokens(%i) blocks(%i) width(%i)
    : memref<?x64xi8>, memref<4x16x64xi8>, memref<16x1x5x16xi32>
  return
}

// -----

func.func @attention_c5(%q: memref<?x4x8xf32>, %k: memref<16x2x8xf32>, %pos: i64, %parts: memref<1x4x8xf32>) {
  // expected-error @below {{expects parts of shape [?, 4, 40], got 'memref<1x4x8xf32>'}}
  ternary.attention %q, %k, %k, %pos parts(%parts) outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (memref<?x4x8xf32>, i64, memref<16x2x8xf32>, memref<16x2x8xf32>, memref<1x4x8xf32>, memref<?x4x8xf32>) -> ()
  return
}

// -----

func.func @attention_fold_c1(%o: memref<?x4x8xf32>, %pos: i64, %parts: memref<?x3x40xf32>) {
  // expected-error @below {{expects parts of shape [?, 4, 40], got 'memref<?x3x40xf32>'}}
  ternary.attention_fold %parts, %pos outs(%o) : (memref<?x3x40xf32>, i64, memref<?x4x8xf32>) -> ()
  return
}

// -----

func.func @attention_fold_c1_heads(%o: memref<?x?x8xf32>, %pos: i64, %parts: memref<?x3x40xf32>) {
  // expected-error @below {{expects static heads and head size of at least 1, got 'memref<?x?x8xf32>'}}
  ternary.attention_fold %parts, %pos outs(%o) : (memref<?x3x40xf32>, i64, memref<?x?x8xf32>) -> ()
  return
}

// -----

func.func @quantize_c2_groups(%x: memref<?x66xf32>, %q: memref<?x68xi8>, %s: memref<?xf32>, %c: memref<?x2xi32>) {
  // expected-error @below {{expects sums of shape [?, 3], got 'memref<?x2xi32>'}}
  ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, group = 32}
    : (memref<?x66xf32>, memref<?x68xi8>, memref<?xf32>, memref<?x2xi32>) -> ()
  return
}

// -----

func.func @quantize_c4(%x: memref<?x66xf32>, %q: memref<?x68xi8>, %s: memref<?xf32>, %c: memref<?x2xi32>) {
  // expected-error @below {{expects a group that is a positive multiple of 4, got 33}}
  ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, group = 33}
    : (memref<?x66xf32>, memref<?x68xi8>, memref<?xf32>, memref<?x2xi32>) -> ()
  return
}

// -----

func.func @matmul_c3_groups(%x: memref<?x68xi8>, %w: memref<1088xi8>, %s: memref<1x3x64xf32>, %a: memref<?xf32>,
                            %c: memref<?x2xi32>, %y: memref<?x5xf32>) {
  // expected-error @below {{expects sums of shape [?, 3], got 'memref<?x2xi32>'}}
  ternary.matmul %x, %w, %s act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 5, cols = 66>, group = 32}
    : (memref<?x68xi8>, memref<1088xi8>, memref<1x3x64xf32>, memref<?xf32>, memref<?x2xi32>, memref<?x5xf32>) -> ()
  return
}

// -----

func.func @pack_c2_bytes(%w: tensor<16x4xi2>) {
  // expected-error @below {{expects i8 weights for r16k4i8, got 'tensor<16x4xi2>'}}
  %p = ternary.pack %w {layout = #ternary.layout<r16k4i8, rows = 16, cols = 4>} : (tensor<16x4xi2>) -> tensor<64xi8>
  return
}

// -----

func.func @softmax_c1(%x: memref<?x7xf32>, %y: memref<?x8xf32>) {
  // expected-error @below {{expects y of shape [?, 7], got 'memref<?x8xf32>'}}
  ternary.softmax %x outs(%y) : (memref<?x7xf32>, memref<?x8xf32>) -> ()
  return
}

// -----

func.func @softmax_c1_rank(%x: memref<f32>) {
  // expected-error @below {{expects a tensor of rank 1 or more, got 'memref<f32>'}}
  ternary.softmax %x outs(%x) : (memref<f32>, memref<f32>) -> ()
  return
}

// -----

func.func @batch_attention_c1(%q: memref<?x5x4x8xf32>, %k: memref<?x5x2x8xf32>, %o: memref<?x5x4x7xf32>) {
  // expected-error @below {{expects o of shape}}
  ternary.batch_attention %q, %k, %k outs(%o) {scale = 0.5 : f32}
    : (memref<?x5x4x8xf32>, memref<?x5x2x8xf32>, memref<?x5x2x8xf32>, memref<?x5x4x7xf32>) -> ()
  return
}

// -----

func.func @batch_attention_c2(%q: memref<?x5x3x8xf32>, %k: memref<?x5x2x8xf32>, %o: memref<?x5x3x8xf32>) {
  // expected-error @below {{expects keys that fit}}
  ternary.batch_attention %q, %k, %k outs(%o) {scale = 0.5 : f32}
    : (memref<?x5x3x8xf32>, memref<?x5x2x8xf32>, memref<?x5x2x8xf32>, memref<?x5x3x8xf32>) -> ()
  return
}

// -----

func.func @batch_attention_c3(%q: memref<?x5x4x8xf32>, %k: memref<?x5x2x8xf32>, %o: memref<?x5x4x8xf32>, %m: memref<1x3x5x5xf32>) {
  // expected-error @below {{expects a mask of shape}}
  ternary.batch_attention %q, %k, %k mask(%m) outs(%o) {scale = 0.5 : f32}
    : (memref<?x5x4x8xf32>, memref<?x5x2x8xf32>, memref<?x5x2x8xf32>, memref<1x3x5x5xf32>, memref<?x5x4x8xf32>) -> ()
  return
}

// -----

func.func @matmul_c10(%x: memref<?x4xi8>, %p: memref<64xi8>, %ws: memref<1x1x64xf32>, %c: memref<?xi32>, %acc: memref<?x2xi32>) {
  // expected-error @below {{expects an activation with y and without a gated layout}}
  ternary.matmul %x, %p, %ws sums(%c) acc_outs(%acc) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, activation = #bitnet.function<gelu>}
    : (memref<?x4xi8>, memref<64xi8>, memref<1x1x64xf32>, memref<?xi32>, memref<?x2xi32>) -> ()
  return
}

// -----

func.func @attention_c6(%q: memref<?x4x8xf32>, %k: memref<16x2x8xf32>, %pos: i64, %t: memref<32x5xf32>) {
  // expected-error @below {{expects cos of shape [?, 4], got 'memref<32x5xf32>'}}
  ternary.attention %q, %k, %k, %pos rotary(%t, %t) outs(%q) {blocked, causal, scale = 0.5 : f32}
    : (memref<?x4x8xf32>, i64, memref<32x5xf32>, memref<32x5xf32>, memref<16x2x8xf32>, memref<16x2x8xf32>, memref<?x4x8xf32>) -> ()
  return
}

// -----

func.func @cache_update_c4(%n: memref<?x2x7xf32>, %k: memref<16x2x7xf32>, %pos: i64, %t: memref<32x3xf32>) {
  // expected-error @below {{expects an even head size for a rotation, got 7}}
  ternary.cache_update %n, %pos rotary(%t, %t) outs(%k) : (memref<?x2x7xf32>, i64, memref<32x3xf32>, memref<32x3xf32>, memref<16x2x7xf32>) -> ()
  return
}

// -----

func.func @cache_update_c4_rows(%n: memref<?x2x8xf16>, %k: memref<16x2x8xf16>, %pos: i64, %t: memref<32x4xf32>) {
  // expected-error @below {{expects rows of f32 for a rotation, got 'memref<?x2x8xf16>'}}
  ternary.cache_update %n, %pos rotary(%t, %t) outs(%k) : (memref<?x2x8xf16>, i64, memref<32x4xf32>, memref<32x4xf32>, memref<16x2x8xf16>) -> ()
  return
}

// -----

func.func @mixed(%x: tensor<?x8xf32>, %y: memref<?x8xf32>) {
  // expected-error @below {{expects operands that are all tensors or all memrefs}}
  "ternary.norm"(%x, %y) {norm = #bitnet.norm<rms, eps = 1.0e-5>, operandSegmentSizes = array<i32: 1, 0, 0, 1>}
    : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
  return
}

// -----

// expected-error @below {{expects rows and columns whose bytes fit 64 bits, got 9223372036854775807 and 4}}
func.func private @layout_c1_overflow() attributes {a = #ternary.layout<r16k4f4, rows = 9223372036854775807, cols = 4>}

// -----

// expected-error @below {{expects 1 to 16 tokens, got 1000000}}
func.func private @kernel_c2_many() attributes {a = #ternary.kernel<"generic", tokens = 1000000>}

// -----

func.func @pack_c3_dynamic(%w: tensor<2x4xi2>) {
  // expected-error @below {{expects packed bytes of static shape, got 'tensor<?xi8>'}}
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>} : (tensor<2x4xi2>) -> tensor<?xi8>
  return
}

// -----

func.func @pack_scales_c3_dynamic(%s: tensor<1xf32>) {
  // expected-error @below {{expects packed scales of static shape, got 'tensor<?x1x64xf32>'}}
  %p = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<?x1x64xf32>
  return
}

// -----

func.func @norm_c1_dynamic(%x: memref<?x?xf32>) {
  // expected-error @below {{expects static columns of at least 1, got 'memref<?x?xf32>'}}
  ternary.norm %x outs(%x) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (memref<?x?xf32>, memref<?x?xf32>) -> ()
  return
}

// -----

func.func @gated_c1_rank(%x: memref<8xf32>) {
  // expected-error @below {{expects gate of rank 2, got 'memref<8xf32>'}}
  ternary.gated %x, %x outs(%x) {act = #bitnet.gate_act<silu>} : (memref<8xf32>, memref<8xf32>, memref<8xf32>) -> ()
  return
}

// -----

func.func @dense_c1_zero(%x: memref<?x0xf32>, %w: memref<8x0xf32>, %y: memref<?x8xf32>) {
  // expected-error @below {{expects static rows and columns of at least 1, got 'memref<8x0xf32>'}}
  ternary.dense %x, %w outs(%y) : (memref<?x0xf32>, memref<8x0xf32>, memref<?x8xf32>) -> ()
  return
}

// -----

func.func @attention_c1_zero(%q: memref<?x4x8xf32>, %k: memref<?x0x8xf32>, %pos: i64) {
  // expected-error @below {{expects static heads and head size of at least 1, got 'memref<?x0x8xf32>'}}
  ternary.attention %q, %k, %k, %pos outs(%q) {scale = 0.5 : f32}
    : (memref<?x4x8xf32>, i64, memref<?x0x8xf32>, memref<?x0x8xf32>, memref<?x4x8xf32>) -> ()
  return
}

// -----

func.func @head_candidates_c2_rank(%x: tensor<1x64xf32>, %w: tensor<40x64xbf16>, %approx: tensor<1x64xf32>, %m: tensor<2xf32>, %k: tensor<1xi64>, %e: tensor<f32>) {
  // expected-error @below {{expects exact logits of a length in [1, 64], got 'tensor<f32>'}}
  %r = ternary.head_candidates %x, %w, %approx, %m, %k outs(%e)
    : (tensor<1x64xf32>, tensor<40x64xbf16>, tensor<1x64xf32>, tensor<2xf32>, tensor<1xi64>, tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func @unpack_rank(%b: vector<4x16xi8>) {
  // expected-error @below {{must be vector of 8-bit signless integer values of length 16/32/64, but got 'vector<4x16xi8>'}}
  %u = ternary.unpack %b {field = 1, bits = 2} : vector<4x16xi8>
  return
}
