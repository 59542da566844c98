// One function (or more) for each numbered constraint of the operations, named after it.
// RUN: setun-opt %s --verify-diagnostics --split-input-file

func.func @weight_c1() {
  // expected-error @below {{must be ranked tensor of 2-bit signless integer or 1-bit signless integer or 32-bit float or 16-bit float or bfloat16 type values, but got 'tensor<4x4xi8>'}}
  %0 = bitnet.weight "w" : tensor<4x4xi8>
  return
}

// -----

func.func @weight_c2() {
  // expected-error @below {{expects a static shape of the weight, got 'tensor<?x4xi2>'}}
  %0 = bitnet.weight "w" : tensor<?x4xi2>
  return
}

// -----

func.func @weight_c3() {
  // expected-error @below {{expects a name that is not empty}}
  %0 = bitnet.weight "" : tensor<4x4xi2>
  return
}

// -----

func.func @weight_c4() {
  // expected-error @below {{expects a ternary or binary weight of rank 2, got 'tensor<4xi1>'}}
  %0 = bitnet.weight "w" : tensor<4xi1>
  return
}

// -----

func.func @quantize_weight_c1(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects i2 codes from absmean, got 'tensor<8x4xi1>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<8x4xf32> -> tensor<8x4xi1>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c1_sign(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects i1 codes from sign, got 'tensor<8x4xi2>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<sign>, eps = 1.0e-5 : f32}
    : tensor<8x4xf32> -> tensor<8x4xi2>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c2(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects codes of the shape of 'tensor<8x4xf32>', got 'tensor<4x8xi2>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<8x4xf32> -> tensor<4x8xi2>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c3(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects scales per tensor or group, got #bitnet.scales<rows = [8]>}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32, scales = #bitnet.scales<rows = [8]>}
    : tensor<8x4xf32> -> tensor<8x4xi2>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c3_shape(%w: tensor<8x6xf32>) {
  // expected-error @below {{expects a scale of shape [8, 2] for #bitnet.scales<group = 4>, got 'tensor<8x1xf32>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32, scales = #bitnet.scales<group = 4>}
    : tensor<8x6xf32> -> tensor<8x6xi2>, tensor<8x1xf32>
  return
}

// -----

func.func @quantize_weight_c4(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects a finite eps that is not negative, got -1}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = -1.0 : f32}
    : tensor<8x4xf32> -> tensor<8x4xi2>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c5(%w: tensor<8xf32>) {
  // expected-error @below {{expects masters of rank 2, got 'tensor<8xf32>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<8xf32> -> tensor<8xi2>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c5_dynamic(%w: tensor<?x4xf32>) {
  // expected-error @below {{expects a static shape of masters, got 'tensor<?x4xf32>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
    : tensor<?x4xf32> -> tensor<?x4xi2>, tensor<1xf32>
  return
}

// -----

func.func @linear_c1_rank(%x: tensor<6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects x of rank 2, got 'tensor<6xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<6xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c1_static(%x: tensor<?x6xf32>, %w: tensor<?x6xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a static shape of w, got 'tensor<?x6xi2>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<?x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c1_columns(%x: tensor<?x7xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects x with 6 columns as w has, got 'tensor<?x7xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x7xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c1_result(%x: tensor<2x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a result of 2x8, got 'tensor<2x9xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<2x6xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<2x9xf32>
  return
}

// -----

func.func @linear_c2(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<8xf32>) {
  // expected-error @below {{expects a scale of shape [1] for #bitnet.scales<tensor>, got 'tensor<8xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c2_group(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a scale of shape [8, 2] for #bitnet.scales<group = 4>, got 'tensor<1xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<group = 4>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c3(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<2xf32>) {
  // expected-error @below {{expects row ranges that add up to 8, got 7}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<rows = [3, 4]>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<2xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c4(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>, %b: tensor<6xf32>) {
  // expected-error @below {{expects bias of shape 8, got 'tensor<6xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) bias(%b) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>, tensor<6xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c5(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>, %g: tensor<8xf32>) {
  // expected-error @below {{expects norm weight of shape 6, got 'tensor<8xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) norm_weight(%g) {scales = #bitnet.scales<tensor>, norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c5_none(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>, %g: tensor<6xf32>) {
  // expected-error @below {{expects a norm for its norm weight, got none}}
  %y = bitnet.linear %x, %w scale(%s) norm_weight(%g) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>, tensor<6xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c5_bias(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>, %g: tensor<6xf32>) {
  // expected-error @below {{expects a layer norm for its norm bias, got rms}}
  %y = bitnet.linear %x, %w scale(%s) norm_bias(%g) {scales = #bitnet.scales<tensor>, norm = #bitnet.norm<rms, eps = 0.0>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>, tensor<6xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c6(%x: tensor<?x16777216xf32>, %w: tensor<1x16777216xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects at most 16777215 columns, got 16777216}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>,
    activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<?x16777216xf32>, tensor<1x16777216xi2>, tensor<1xf32>) -> tensor<?x1xf32>
  return
}

// -----

func.func @linear_c7(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a bias and no groups with before_scale}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c7_group(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<8x2xf32>, %b: tensor<8xf32>) {
  // expected-error @below {{expects a bias and no groups with before_scale}}
  %y = bitnet.linear %x, %w scale(%s) bias(%b) {scales = #bitnet.scales<group = 4>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<8x2xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @quantize_c1(%x: tensor<?x6xf32>) {
  // expected-error @below {{expects codes of the shape of 'tensor<?x6xf32>', got 'tensor<?x8xi8>'}}
  %0:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : tensor<?x6xf32> -> tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>
  return
}

// -----

func.func @quantize_c1_rank(%x: tensor<6xf32>) {
  // expected-error @below {{expects x of rank 2, got 'tensor<6xf32>'}}
  %0:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : tensor<6xf32> -> tensor<6xi8>, tensor<?xf32>, tensor<?xi32>
  return
}

// -----

func.func @quantize_c2(%x: tensor<2x6xf32>) {
  // expected-error @below {{expects a scale of shape 1, got 'tensor<2xf32>'}}
  %0:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0>}
    : tensor<2x6xf32> -> tensor<2x6xi8>, tensor<2xf32>, tensor<2xi32>
  return
}

// -----

func.func @quantize_c3(%x: tensor<2x6xf32>) {
  // expected-error @below {{expects sums of shape 2, got 'tensor<6xi32>'}}
  %0:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : tensor<2x6xf32> -> tensor<2x6xi8>, tensor<2xf32>, tensor<6xi32>
  return
}

// -----

func.func @matmul_c1(%q: tensor<?x7xi8>, %w: tensor<8x6xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects x with 6 columns as w has, got 'tensor<?x7xi8>'}}
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<?x7xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x8xi32>
  return
}

// -----

func.func @matmul_c1_static(%q: tensor<?x6xi8>, %w: tensor<?x6xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects a static shape of w, got 'tensor<?x6xi2>'}}
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<?x6xi8>, tensor<?x6xi2>, tensor<?xi32>) -> tensor<?x8xi32>
  return
}

// -----

func.func @matmul_c1_groups(%q: tensor<2x6xi8>, %w: tensor<8x6xi2>, %c: tensor<2xi32>) {
  // expected-error @below {{expects an accumulator of shape [2, 8, 2], got 'tensor<2x8xi32>'}}
  %0 = bitnet.matmul %q, %w sums(%c) {group = 4} : (tensor<2x6xi8>, tensor<8x6xi2>, tensor<2xi32>) -> tensor<2x8xi32>
  return
}

// -----

func.func @matmul_c2(%q: tensor<?x6xi8>, %w: tensor<8x6xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects an accumulator of i32 for 'tensor<?x6xi8>', got 'tensor<?x8xf32>'}}
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<?x6xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @matmul_c2_sums(%q: tensor<?x6xi8>, %w: tensor<8x6xi2>) {
  // expected-error @below {{expects sums with i8 codes and none with f32 activations}}
  %0 = bitnet.matmul %q, %w : (tensor<?x6xi8>, tensor<8x6xi2>) -> tensor<?x8xi32>
  return
}

// -----

func.func @matmul_c3(%q: tensor<2x6xi8>, %w: tensor<8x6xi2>, %c: tensor<3xi32>) {
  // expected-error @below {{expects sums of shape 2, got 'tensor<3xi32>'}}
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<2x6xi8>, tensor<8x6xi2>, tensor<3xi32>) -> tensor<2x8xi32>
  return
}

// -----

func.func @matmul_c4(%q: tensor<?x16777216xi8>, %w: tensor<1x16777216xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects at most 16777215 columns, got 16777216}}
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<?x16777216xi8>, tensor<1x16777216xi2>, tensor<?xi32>) -> tensor<?x1xi32>
  return
}

// -----

func.func @matmul_c5(%q: tensor<?x6xi8>, %w: tensor<8x6xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects a group that is a positive multiple of 4, got 6}}
  %0 = bitnet.matmul %q, %w sums(%c) {group = 6} : (tensor<?x6xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x8x1xi32>
  return
}

// -----

func.func @matmul_c5_negative(%q: tensor<?x6xi8>, %w: tensor<8x6xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects a group that is a positive multiple of 4, got -4}}
  %0 = bitnet.matmul %q, %w sums(%c) {group = -4} : (tensor<?x6xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x8x1xi32>
  return
}

// -----

func.func @dequantize_c1(%acc: tensor<?x8xi32>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a result of the rows and columns of 'tensor<?x8xi32>', got 'tensor<?x9xf32>'}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<tensor>} : (tensor<?x8xi32>, tensor<1xf32>) -> tensor<?x9xf32>
  return
}

// -----

func.func @dequantize_c1_rank(%acc: tensor<?x8xi32>, %s: tensor<8x1xf32>) {
  // expected-error @below {{expects acc of rank 3, got 'tensor<?x8xi32>'}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<group = 4>}
    : (tensor<?x8xi32>, tensor<8x1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @dequantize_c2(%acc: tensor<?x8xi32>, %s: tensor<8xf32>) {
  // expected-error @below {{expects a scale of shape [1] for #bitnet.scales<tensor>, got 'tensor<8xf32>'}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<tensor>} : (tensor<?x8xi32>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @dequantize_c2_group(%acc: tensor<?x8x2xi32>, %s: tensor<8x3xf32>) {
  // expected-error @below {{expects a scale of shape [8, 2] for #bitnet.scales<group = 4>, got 'tensor<8x3xf32>'}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<group = 4>}
    : (tensor<?x8x2xi32>, tensor<8x3xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @dequantize_c3(%acc: tensor<?x8xi32>, %s: tensor<1xf32>) {
  // expected-error @below {{expects bias of shape 8, got 'tensor<1xf32>'}}
  %0 = bitnet.dequantize %acc scale(%s) bias(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x8xi32>, tensor<1xf32>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @dequantize_c4(%acc: tensor<3x8xi32>, %s: tensor<1xf32>, %a: tensor<2xf32>) {
  // expected-error @below {{expects an activation scale per token or one, got 'tensor<2xf32>'}}
  %0 = bitnet.dequantize %acc scale(%s) act_scale(%a) {scales = #bitnet.scales<tensor>}
    : (tensor<3x8xi32>, tensor<1xf32>, tensor<2xf32>) -> tensor<3x8xf32>
  return
}

// -----

func.func @dequantize_c5(%acc: tensor<?x8xi32>, %s: tensor<1xf32>) {
  // expected-error @below {{expects row ranges that add up to 8, got 9}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<rows = [9]>} : (tensor<?x8xi32>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @dequantize_c6(%acc: tensor<?x8xi32>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a bias and no groups with before_scale}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<tensor>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<?x8xi32>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @dequantize_c6_group(%acc: tensor<?x8x2xi32>, %s: tensor<8x2xf32>, %b: tensor<8xf32>) {
  // expected-error @below {{expects a bias and no groups with before_scale}}
  %0 = bitnet.dequantize %acc scale(%s) bias(%b) {scales = #bitnet.scales<group = 4>, bias_place = #bitnet.bias_place<before_scale>}
    : (tensor<?x8x2xi32>, tensor<8x2xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @rms_norm_c1(%x: tensor<?x?xf32>) {
  // expected-error @below {{expects static inner dimensions of x, got 'tensor<?x?xf32>'}}
  %y = bitnet.rms_norm %x {eps = 0.0 : f32} : tensor<?x?xf32>
  return
}

// -----

func.func @rms_norm_c1_gain(%x: tensor<?x6xf32>, %g: tensor<7xf32>) {
  // expected-error @below {{expects a weight of shape 6, got 'tensor<7xf32>'}}
  %y = bitnet.rms_norm %x, %g {eps = 0.0 : f32} : tensor<?x6xf32>, tensor<7xf32>
  return
}

// -----

func.func @rms_norm_c2(%x: tensor<?x6xf32>) {
  // expected-error @below {{expects a finite eps that is not negative, got NaN}}
  %y = bitnet.rms_norm %x {eps = 0x7FC00000 : f32} : tensor<?x6xf32>
  return
}

// -----

func.func @layer_norm_c1(%x: tensor<6xf32>) {
  // expected-error @below {{expects x of rank 2, got 'tensor<6xf32>'}}
  %y = bitnet.layer_norm %x {eps = 0.0 : f32} : (tensor<6xf32>) -> tensor<6xf32>
  return
}

// -----

func.func @layer_norm_c1_gain(%x: tensor<?x6xf32>, %g: tensor<7xf32>) {
  // expected-error @below {{expects a weight of shape 6, got 'tensor<7xf32>'}}
  %y = bitnet.layer_norm %x weight(%g) {eps = 0.0 : f32} : (tensor<?x6xf32>, tensor<7xf32>) -> tensor<?x6xf32>
  return
}

// -----

func.func @layer_norm_c1_shift(%x: tensor<?x6xf32>, %g: tensor<7xf32>) {
  // expected-error @below {{expects a bias of shape 6, got 'tensor<7xf32>'}}
  %y = bitnet.layer_norm %x bias(%g) {eps = 0.0 : f32} : (tensor<?x6xf32>, tensor<7xf32>) -> tensor<?x6xf32>
  return
}

// -----

func.func @layer_norm_c2(%x: tensor<?x6xf32>) {
  // expected-error @below {{expects a finite eps that is not negative, got -0}}
  %y = bitnet.layer_norm %x {eps = -0.5 : f32} : (tensor<?x6xf32>) -> tensor<?x6xf32>
  return
}

// -----

func.func @rotary_c1(%x: tensor<?x4x7xf32>, %t: tensor<32x3xf32>, %pos: i64) {
  // expected-error @below {{expects an even head size, got 7}}
  %y = bitnet.rotary %x, %t, %t, %pos : tensor<?x4x7xf32>, tensor<32x3xf32>
  return
}

// -----

func.func @rotary_c1_static(%x: tensor<?x?x8xf32>, %t: tensor<32x4xf32>, %pos: i64) {
  // expected-error @below {{expects static inner dimensions of x, got 'tensor<?x?x8xf32>'}}
  %y = bitnet.rotary %x, %t, %t, %pos : tensor<?x?x8xf32>, tensor<32x4xf32>
  return
}

// -----

func.func @rotary_c2(%x: tensor<?x4x8xf32>, %t: tensor<32x8xf32>, %pos: i64) {
  // expected-error @below {{expects tables with 4 columns, got 'tensor<32x8xf32>'}}
  %y = bitnet.rotary %x, %t, %t, %pos : tensor<?x4x8xf32>, tensor<32x8xf32>
  return
}

// -----

func.func @rotary_c2_static(%x: tensor<?x4x8xf32>, %t: tensor<?x4xf32>, %pos: i64) {
  // expected-error @below {{expects a static shape of tables, got 'tensor<?x4xf32>'}}
  %y = bitnet.rotary %x, %t, %t, %pos : tensor<?x4x8xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @cache_update_c1(%cache: tensor<?x2x8xf32>, %new: tensor<?x3x8xf32>, %pos: i64) {
  // expected-error @below {{expects rows with the heads and head size of 'tensor<?x2x8xf32>', got 'tensor<?x3x8xf32>'}}
  %0 = bitnet.cache_update %cache, %new, %pos : tensor<?x2x8xf32>, tensor<?x3x8xf32>
  return
}

// -----

func.func @cache_update_c1_static(%cache: tensor<?x?x8xf32>, %new: tensor<?x?x8xf32>, %pos: i64) {
  // expected-error @below {{expects static inner dimensions of the cache, got 'tensor<?x?x8xf32>'}}
  %0 = bitnet.cache_update %cache, %new, %pos : tensor<?x?x8xf32>, tensor<?x?x8xf32>
  return
}

// -----

func.func @attention_c1(%q: tensor<?x4x8xf32>, %k: tensor<?x2x6xf32>, %pos: i64) {
  // expected-error @below {{expects keys of head size 8, got 'tensor<?x2x6xf32>'}}
  %o = bitnet.attention %q, %k, %k, %pos {scale = 1.0 : f32} : tensor<?x4x8xf32>, tensor<?x2x6xf32>, tensor<?x2x6xf32>
  return
}

// -----

func.func @attention_c1_static(%q: tensor<?x4x?xf32>, %k: tensor<?x2x8xf32>, %pos: i64) {
  // expected-error @below {{expects static inner dimensions of q, got 'tensor<?x4x?xf32>'}}
  %o = bitnet.attention %q, %k, %k, %pos {scale = 1.0 : f32} : tensor<?x4x?xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32>
  return
}

// -----

func.func @attention_c2(%q: tensor<?x4x8xf32>, %k: tensor<?x3x8xf32>, %pos: i64) {
  // expected-error @below {{expects a number of query heads that is a multiple of 3, got 4}}
  %o = bitnet.attention %q, %k, %k, %pos {scale = 1.0 : f32} : tensor<?x4x8xf32>, tensor<?x3x8xf32>, tensor<?x3x8xf32>
  return
}

// -----

func.func @attention_c3(%q: tensor<?x4x8xf32>, %k: tensor<?x2x8xf32>, %pos: i64) {
  // expected-error @below {{expects a finite scale}}
  %o = bitnet.attention %q, %k, %k, %pos {scale = 0x7F800000 : f32}
    : tensor<?x4x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32>
  return
}

// -----

func.func @gated_c1(%x: tensor<?x?xf32>) {
  // expected-error @below {{expects static inner dimensions of gate, got 'tensor<?x?xf32>'}}
  %y = bitnet.gated %x, %x {act = #bitnet.gate_act<silu>} : tensor<?x?xf32>
  return
}

// -----

func.func @embedding_c1(%table: tensor<10x8xf32>, %tokens: tensor<3xi64>) {
  // expected-error @below {{expects a result of 3x8, got 'tensor<4x8xf32>'}}
  %y = bitnet.embedding %table, %tokens : tensor<10x8xf32>, tensor<3xi64> -> tensor<4x8xf32>
  return
}

// -----

func.func @embedding_c1_static(%table: tensor<?x8xf32>, %tokens: tensor<?xi64>) {
  // expected-error @below {{expects a static shape of the table, got 'tensor<?x8xf32>'}}
  %y = bitnet.embedding %table, %tokens : tensor<?x8xf32>, tensor<?xi64> -> tensor<?x8xf32>
  return
}

// -----

func.func @dense_c1(%x: tensor<?x7xf32>, %w: tensor<10x8xf32>) {
  // expected-error @below {{expects x with 8 columns as w has, got 'tensor<?x7xf32>'}}
  %y = bitnet.dense %x, %w : (tensor<?x7xf32>, tensor<10x8xf32>) -> tensor<?x10xf32>
  return
}

// -----

func.func @dense_c1_result(%x: tensor<2x8xf32>, %w: tensor<10x8xf32>) {
  // expected-error @below {{expects a result of 2x10, got 'tensor<2x8xf32>'}}
  %y = bitnet.dense %x, %w : (tensor<2x8xf32>, tensor<10x8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @dense_c2(%x: tensor<?x8xf32>, %w: tensor<10x8xf32>, %b: tensor<8xf32>) {
  // expected-error @below {{expects bias of shape 10, got 'tensor<8xf32>'}}
  %y = bitnet.dense %x, %w bias(%b) : (tensor<?x8xf32>, tensor<10x8xf32>, tensor<8xf32>) -> tensor<?x10xf32>
  return
}

// -----

func.func @hadamard_c1(%x: tensor<?x?xf32>) {
  // expected-error @below {{expects static inner dimensions of x, got 'tensor<?x?xf32>'}}
  %y = bitnet.hadamard %x {block = 2} : tensor<?x?xf32>
  return
}

// -----

func.func @hadamard_c2(%x: tensor<?x24xf32>) {
  // expected-error @below {{expects a block that is a power of two and divides 24, got 16}}
  %y = bitnet.hadamard %x {block = 16} : tensor<?x24xf32>
  return
}

// -----

func.func @hadamard_c2_power(%x: tensor<?x24xf32>) {
  // expected-error @below {{expects a block that is a power of two and divides 24, got 12}}
  %y = bitnet.hadamard %x {block = 12} : tensor<?x24xf32>
  return
}

// -----

func.func @top_k_c1(%x: tensor<2x8xf32>, %w: tensor<10x8xbf16>, %k: tensor<1xi64>) {
  // expected-error @below {{expects one row of x with 8 columns as w has, got 'tensor<2x8xf32>'}}
  %ids, %logits = bitnet.top_k %x, %w, %k : (tensor<2x8xf32>, tensor<10x8xbf16>, tensor<1xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return
}

// -----

func.func @top_k_c1_columns(%x: tensor<1x7xf32>, %w: tensor<10x8xbf16>, %k: tensor<1xi64>) {
  // expected-error @below {{expects one row of x with 8 columns as w has, got 'tensor<1x7xf32>'}}
  %ids, %logits = bitnet.top_k %x, %w, %k : (tensor<1x7xf32>, tensor<10x8xbf16>, tensor<1xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return
}

// -----

func.func @top_k_c1_k(%x: tensor<1x8xf32>, %w: tensor<10x8xbf16>, %k: tensor<2xi64>) {
  // expected-error @below {{expects k of one element, got 'tensor<2xi64>'}}
  %ids, %logits = bitnet.top_k %x, %w, %k : (tensor<1x8xf32>, tensor<10x8xbf16>, tensor<2xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return
}

// -----

func.func @top_k_c2(%x: tensor<1x8xf32>, %w: tensor<10x8xbf16>, %k: tensor<1xi64>) {
  // expected-error @below {{expects results of the same length in [1, 64], got 'tensor<5xi64>' and 'tensor<6xf32>'}}
  %ids, %logits = bitnet.top_k %x, %w, %k : (tensor<1x8xf32>, tensor<10x8xbf16>, tensor<1xi64>) -> (tensor<5xi64>, tensor<6xf32>)
  return
}

// -----

func.func @top_k_c2_length(%x: tensor<1x8xf32>, %w: tensor<10x8xbf16>, %k: tensor<1xi64>) {
  // expected-error @below {{expects results of the same length in [1, 64], got 'tensor<65xi64>' and 'tensor<65xf32>'}}
  %ids, %logits = bitnet.top_k %x, %w, %k : (tensor<1x8xf32>, tensor<10x8xbf16>, tensor<1xi64>) -> (tensor<65xi64>, tensor<65xf32>)
  return
}

// -----

func.func @quantize_weight_c1_absmax(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects i8 codes from absmax, got 'tensor<8x4xi2>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmax>, eps = 1.0e-5 : f32, scales = #bitnet.scales<rows>}
    : tensor<8x4xf32> -> tensor<8x4xi2>, tensor<8xf32>
  return
}

// -----

func.func @quantize_weight_c3_absmax(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects a scale per row, got #bitnet.scales<tensor>}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmax>, eps = 1.0e-5 : f32}
    : tensor<8x4xf32> -> tensor<8x4xi8>, tensor<1xf32>
  return
}

// -----

func.func @quantize_weight_c3_absmax_shape(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects a scale of shape [8] for #bitnet.scales<rows>, got 'tensor<7xf32>'}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmax>, eps = 1.0e-5 : f32, scales = #bitnet.scales<rows>}
    : tensor<8x4xf32> -> tensor<8x4xi8>, tensor<7xf32>
  return
}

// -----

func.func @quantize_weight_c4_absmax(%w: tensor<8x4xf32>) {
  // expected-error @below {{expects an eps of at least 1e-30 for absmax}}
  %0:2 = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmax>, eps = 0.0 : f32, scales = #bitnet.scales<rows>}
    : tensor<8x4xf32> -> tensor<8x4xi8>, tensor<8xf32>
  return
}

// -----

func.func @matmul_c4_bytes(%x: tensor<?x131072xi8>, %w: tensor<1x131072xi8>, %c: tensor<?xi32>) {
  // expected-error @below {{expects at most 131071 columns, got 131072}}
  %0 = bitnet.matmul %x, %w sums(%c) : (tensor<?x131072xi8>, tensor<1x131072xi8>, tensor<?xi32>) -> tensor<?x1xi32>
  return
}

// -----

func.func @largest_c1(%y: tensor<2x10xf32>, %k: tensor<1xi64>) {
  // expected-error @below {{expects one row of logits, got 'tensor<2x10xf32>'}}
  %ids, %logits = bitnet.largest %y, %k : (tensor<2x10xf32>, tensor<1xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return
}

// -----

func.func @largest_c1_dynamic(%y: tensor<1x?xf32>, %k: tensor<1xi64>) {
  // expected-error @below {{expects a static shape of y, got 'tensor<1x?xf32>'}}
  %ids, %logits = bitnet.largest %y, %k : (tensor<1x?xf32>, tensor<1xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return
}

// -----

func.func @largest_c1_k(%y: tensor<1x10xf32>, %k: tensor<2xi64>) {
  // expected-error @below {{expects k of one element, got 'tensor<2xi64>'}}
  %ids, %logits = bitnet.largest %y, %k : (tensor<1x10xf32>, tensor<2xi64>) -> (tensor<5xi64>, tensor<5xf32>)
  return
}

// -----

func.func @largest_c2(%y: tensor<1x10xf32>, %k: tensor<1xi64>) {
  // expected-error @below {{expects results of the same length in [1, 64], got 'tensor<65xi64>' and 'tensor<65xf32>'}}
  %ids, %logits = bitnet.largest %y, %k : (tensor<1x10xf32>, tensor<1xi64>) -> (tensor<65xi64>, tensor<65xf32>)
  return
}

// -----

func.func @softmax_c1(%x: tensor<f32>) {
  // expected-error @below {{expects a tensor of rank 1 or more, got 'tensor<f32>'}}
  %y = bitnet.softmax %x : tensor<f32>
  return
}

// -----

func.func @batch_attention_c1(%q: tensor<5x4x8xf32>, %k: tensor<5x2x8xf32>) {
  // expected-error @below {{expects q of rank 4}}
  %o = bitnet.batch_attention %q, %k, %k {scale = 0.5 : f32}
    : (tensor<5x4x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>) -> tensor<5x4x8xf32>
  return
}

// -----

func.func @batch_attention_c1_static(%q: tensor<?x5x?x8xf32>, %k: tensor<?x5x2x8xf32>) {
  // expected-error @below {{expects static inner dimensions of q}}
  %o = bitnet.batch_attention %q, %k, %k {scale = 0.5 : f32}
    : (tensor<?x5x?x8xf32>, tensor<?x5x2x8xf32>, tensor<?x5x2x8xf32>) -> tensor<?x5x?x8xf32>
  return
}

// -----

func.func @batch_attention_c1_samples(%q: tensor<2x5x4x8xf32>, %k: tensor<3x5x2x8xf32>) {
  // expected-error @below {{expects keys with the samples and the head size of}}
  %o = bitnet.batch_attention %q, %k, %k {scale = 0.5 : f32}
    : (tensor<2x5x4x8xf32>, tensor<3x5x2x8xf32>, tensor<3x5x2x8xf32>) -> tensor<2x5x4x8xf32>
  return
}

// -----

func.func @batch_attention_c2(%q: tensor<?x5x3x8xf32>, %k: tensor<?x5x2x8xf32>) {
  // expected-error @below {{expects a number of query heads that is a multiple of 2, got 3}}
  %o = bitnet.batch_attention %q, %k, %k {scale = 0.5 : f32}
    : (tensor<?x5x3x8xf32>, tensor<?x5x2x8xf32>, tensor<?x5x2x8xf32>) -> tensor<?x5x3x8xf32>
  return
}

// -----

func.func @batch_attention_c3(%q: tensor<?x5x4x8xf32>, %k: tensor<?x5x2x8xf32>) {
  // expected-error @below {{expects a finite scale}}
  %o = bitnet.batch_attention %q, %k, %k {scale = 0x7F800000 : f32}
    : (tensor<?x5x4x8xf32>, tensor<?x5x2x8xf32>, tensor<?x5x2x8xf32>) -> tensor<?x5x4x8xf32>
  return
}

// -----

func.func @batch_attention_c4(%q: tensor<?x5x4x8xf32>, %k: tensor<?x5x2x8xf32>, %m: tensor<5x5xf32>) {
  // expected-error @below {{expects a mask of rank 4}}
  %o = bitnet.batch_attention %q, %k, %k mask(%m) {scale = 0.5 : f32}
    : (tensor<?x5x4x8xf32>, tensor<?x5x2x8xf32>, tensor<?x5x2x8xf32>, tensor<5x5xf32>) -> tensor<?x5x4x8xf32>
  return
}

// -----

func.func @batch_attention_c4_heads(%q: tensor<?x5x4x8xf32>, %k: tensor<?x5x2x8xf32>, %m: tensor<1x2x5x5xf32>) {
  // expected-error @below {{expects a mask that fits queries}}
  %o = bitnet.batch_attention %q, %k, %k mask(%m) {scale = 0.5 : f32}
    : (tensor<?x5x4x8xf32>, tensor<?x5x2x8xf32>, tensor<?x5x2x8xf32>, tensor<1x2x5x5xf32>) -> tensor<?x5x4x8xf32>
  return
}

// -----

func.func @conv2d_c1(%x: tensor<?x4x?x9xf32>, %w: tensor<6x36xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects static inner dimensions of x}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>}
    : (tensor<?x4x?x9xf32>, tensor<6x36xi2>, tensor<1xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

func.func @conv2d_c1_size(%x: tensor<?x4x9x9xf32>, %w: tensor<6x36xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects a result of Bx6x7x7, got}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>}
    : (tensor<?x4x9x9xf32>, tensor<6x36xi2>, tensor<1xf32>) -> tensor<?x6x8x7xf32>
  return
}

// -----

func.func @conv2d_c2(%x: tensor<?x4x9x9xf32>, %w: tensor<6x32xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects weights with 36 columns, got}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>}
    : (tensor<?x4x9x9xf32>, tensor<6x32xi2>, tensor<1xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

func.func @conv2d_c3(%x: tensor<?x4x9x9xf32>, %w: tensor<6x36xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects 2 numbers in [1, 2147483647] as kernel, got [3, 0]}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 0>}
    : (tensor<?x4x9x9xf32>, tensor<6x36xi2>, tensor<1xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

func.func @conv2d_c3_padding(%x: tensor<?x4x9x9xf32>, %w: tensor<6x36xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects 4 numbers in [0, 2147483647] as padding, got [1, 1]}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, padding = array<i64: 1, 1>}
    : (tensor<?x4x9x9xf32>, tensor<6x36xi2>, tensor<1xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

func.func @conv2d_c4(%x: tensor<?x4x9x9xf32>, %w: tensor<6x36xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects groups that divide 4 and 6, got 3}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, groups = 3 : i64}
    : (tensor<?x4x9x9xf32>, tensor<6x36xi2>, tensor<1xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

func.func @conv2d_c5(%x: tensor<?x4x9x9xf32>, %w: tensor<6x36xi2>, %s: tensor<6x9xf32>) {
  // expected-error @below {{expects scales per tensor or rows, got}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<group = 4>, kernel = array<i64: 3, 3>}
    : (tensor<?x4x9x9xf32>, tensor<6x36xi2>, tensor<6x9xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

func.func @conv2d_c5_scale(%x: tensor<?x4x9x9xf32>, %w: tensor<6x36xi2>, %s: tensor<6xf32>) {
  // expected-error @below {{expects a scale of shape [1]}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>}
    : (tensor<?x4x9x9xf32>, tensor<6x36xi2>, tensor<6xf32>) -> tensor<?x6x7x7xf32>
  return
}

// -----

// Static sizes are at least 1, whatever the operation.
func.func @weight_c2_zero() {
  // expected-error @below {{expects sizes of at least 1 in the weight, got 'tensor<0x4xi2>'}}
  %0 = bitnet.weight "w" : tensor<0x4xi2>
  return
}

// -----

func.func @linear_c1_zero(%x: tensor<?x0xf32>, %w: tensor<8x0xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects sizes of at least 1 in w, got 'tensor<8x0xi2>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<tensor>}
    : (tensor<?x0xf32>, tensor<8x0xi2>, tensor<1xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c2_dynamic(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<?xf32>) {
  // expected-error @below {{expects a scale of shape [8] for #bitnet.scales<rows>, got 'tensor<?xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<rows>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<?xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c3_overflow(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<3xf32>) {
  // expected-error @below {{expects row ranges that add up to 8, got 9223372036854775807}}
  %y = bitnet.linear %x, %w scale(%s) {scales = #bitnet.scales<rows = [9223372036854775807, 9223372036854775807, 10]>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<3xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c4_dynamic(%x: tensor<?x6xf32>, %w: tensor<8x6xi2>, %s: tensor<1xf32>, %b: tensor<?xf32>) {
  // expected-error @below {{expects bias of shape 8, got 'tensor<?xf32>'}}
  %y = bitnet.linear %x, %w scale(%s) bias(%b) {scales = #bitnet.scales<tensor>}
    : (tensor<?x6xf32>, tensor<8x6xi2>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @quantize_c1_dynamic(%x: tensor<?x?xf32>) {
  // expected-error @below {{expects static inner dimensions of x, got 'tensor<?x?xf32>'}}
  %0:3 = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0>}
    : tensor<?x?xf32> -> tensor<?x?xi8>, tensor<?xf32>, tensor<?xi32>
  return
}

// -----

func.func @matmul_c1_dynamic(%q: tensor<?x6xi8>, %w: tensor<8x6xi2>, %c: tensor<?xi32>) {
  // expected-error @below {{expects an accumulator of shape}}
  %0 = bitnet.matmul %q, %w sums(%c) : (tensor<?x6xi8>, tensor<8x6xi2>, tensor<?xi32>) -> tensor<?x?xi32>
  return
}

// -----

func.func @dequantize_c1_dynamic(%acc: tensor<?x?xi32>, %s: tensor<1xf32>) {
  // expected-error @below {{expects static inner dimensions of acc, got 'tensor<?x?xi32>'}}
  %0 = bitnet.dequantize %acc scale(%s) {scales = #bitnet.scales<tensor>} : (tensor<?x?xi32>, tensor<1xf32>) -> tensor<?x?xf32>
  return
}

// -----

func.func @attention_c1_zero(%q: tensor<?x4x8xf32>, %k: tensor<?x0x8xf32>, %pos: i64) {
  // expected-error @below {{expects sizes of at least 1 in k, got 'tensor<?x0x8xf32>'}}
  %o = bitnet.attention %q, %k, %k, %pos {scale = 1.0 : f32} : tensor<?x4x8xf32>, tensor<?x0x8xf32>, tensor<?x0x8xf32>
  return
}

// -----

func.func @attention_c1_size(%q: tensor<?x4x4096xf32>, %pos: i64) {
  // expected-error @below {{expects heads of at most 1024 elements, got 'tensor<?x4x4096xf32>'}}
  %o = bitnet.attention %q, %q, %q, %pos {scale = 1.0 : f32} : tensor<?x4x4096xf32>, tensor<?x4x4096xf32>, tensor<?x4x4096xf32>
  return
}

// -----

func.func @batch_attention_c1_zero(%q: tensor<?x5x4x8xf32>, %k: tensor<?x5x0x8xf32>) {
  // expected-error @below {{expects sizes of at least 1 in k, got 'tensor<?x5x0x8xf32>'}}
  %o = bitnet.batch_attention %q, %k, %k {scale = 1.0 : f32}
    : (tensor<?x5x4x8xf32>, tensor<?x5x0x8xf32>, tensor<?x5x0x8xf32>) -> tensor<?x5x4x8xf32>
  return
}

// -----

func.func @embedding_c1_zero(%t: tensor<0x8xf32>, %i: tensor<?xi64>) {
  // expected-error @below {{expects sizes of at least 1 in the table, got 'tensor<0x8xf32>'}}
  %y = bitnet.embedding %t, %i : tensor<0x8xf32>, tensor<?xi64> -> tensor<?x8xf32>
  return
}

// -----

func.func @conv2d_c5_overflow(%x: tensor<?x4x8x8xf32>, %w: tensor<2x4xi2>, %s: tensor<1xf32>) {
  // expected-error @below {{expects at most 16777215 columns, got 9223372036854775807}}
  %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, kernel = array<i64: 2147483647, 2147483647>}
    : (tensor<?x4x8x8xf32>, tensor<2x4xi2>, tensor<1xf32>) -> tensor<?x2x8x8xf32>
  return
}
