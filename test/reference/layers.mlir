// The operations around BitLinear, in both dialects, on values that can be worked out by hand.
// RUN: setun-opt --interpret %s | FileCheck %s

// [6, 8] has mean square 50; with eps 14 the root is 8. Layer norm of [1, 3]: mean 2, variance 1, eps 3: root 2.
// CHECK-LABEL: @norms
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}0.75, 1]]
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}1.5, -3]]
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}-0.5, 0.5]]
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}0, -1]]
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}1.5, -3]]
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}0, -1]]
func.func @norms() -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) {
  %x = arith.constant dense<[[6.0, 8.0]]> : tensor<1x2xf32>
  %g = arith.constant dense<[2.0, -3.0]> : tensor<2xf32>
  %b = arith.constant dense<[1.0, 0.5]> : tensor<2xf32>
  %0 = bitnet.rms_norm %x {eps = 14.0 : f32} : tensor<1x2xf32>
  %1 = bitnet.rms_norm %x, %g {eps = 14.0 : f32} : tensor<1x2xf32>, tensor<2xf32>
  %y = arith.constant dense<[[1.0, 3.0]]> : tensor<1x2xf32>
  %2 = bitnet.layer_norm %y {eps = 3.0 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %3 = bitnet.layer_norm %y weight(%g) bias(%b) {eps = 3.0 : f32} : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %e = tensor.empty() : tensor<1x2xf32>
  %4 = ternary.norm %x weight(%g) outs(%e) {norm = #bitnet.norm<rms, eps = 14.0>}
    : (tensor<1x2xf32>, tensor<2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %5 = ternary.norm %y weight(%g) bias(%b) outs(%e) {norm = #bitnet.norm<layer, eps = 3.0>}
    : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  return %0, %1, %2, %3, %4, %5 : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// sum16 adds lanes, then lanes 8, 4, 2 and 1 apart. Of 4, 2^-22, 0, 2^-22 the tree adds 4 + 0 and 2^-21 first, which
// makes 4 + 2^-21, while one after the other would lose each small term to a tie. A mean shows it: 1 - mean is -2^-23.
// CHECK-LABEL: @order_of_sums
// CHECK-NEXT: tensor<1x4xf32> = {{\[\[}}-1.1920929e-07, 0, 0, 0]]
func.func @order_of_sums() -> tensor<1x4xf32> {
  %x = arith.constant dense<[[4.0, 0.0000002384185791015625, 0.0, 0.0000002384185791015625]]> : tensor<1x4xf32>
  %mean = call @mean_of(%x) : (tensor<1x4xf32>) -> tensor<1x1xf32>
  %one = arith.constant dense<1.0> : tensor<1x1xf32>
  %d = arith.subf %one, %mean : tensor<1x1xf32>
  %z = arith.constant dense<0.0> : tensor<1x4xf32>
  %r = tensor.insert_slice %d into %z[0, 0] [1, 1] [1, 1] : tensor<1x1xf32> into tensor<1x4xf32>
  return %r : tensor<1x4xf32>
}
func.func private @mean_of(%x: tensor<1x4xf32>) -> tensor<1x1xf32> {
  // Layer norm of x with eps 2^40 is (x - mean) / 2^20 but for the variance, which vanishes beside it.
  %n = bitnet.layer_norm %x {eps = 1099511627776.0 : f32} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %third = tensor.extract_slice %n[0, 2] [1, 1] [1, 1] : tensor<1x4xf32> to tensor<1x1xf32>
  %scale = arith.constant dense<-1048576.0> : tensor<1x1xf32>
  %mean = arith.mulf %third, %scale : tensor<1x1xf32>
  return %mean : tensor<1x1xf32>
}

// relu2: max(g, 0)^2 * up. silu at 0 is 0; exp(0) is exactly 1; far out silu is the identity or 0 times up.
// CHECK-LABEL: @gated
// CHECK-NEXT: tensor<1x4xf32> = {{\[\[}}0, 0, 8, -18]]
// CHECK-NEXT: tensor<1x4xf32> = {{\[\[}}-0.806824{{[0-9]*}}, 0, 3.5231{{[0-9]*}}, -5.7154{{[0-9]*}}]]
// CHECK-NEXT: tensor<1x4xf32> = {{\[\[}}0, 0, 8, -18]]
// CHECK-NEXT: tensor<1x1xf32> = {{\[\[}}200]]
func.func @gated() -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x1xf32>) {
  %g = arith.constant dense<[[-1.0, 0.0, 2.0, 3.0]]> : tensor<1x4xf32>
  %u = arith.constant dense<[[3.0, 5.0, 2.0, -2.0]]> : tensor<1x4xf32>
  %0 = bitnet.gated %g, %u {act = #bitnet.gate_act<relu2>} : tensor<1x4xf32>
  %1 = bitnet.gated %g, %u {act = #bitnet.gate_act<silu>} : tensor<1x4xf32>
  %e = tensor.empty() : tensor<1x4xf32>
  %2 = ternary.gated %g, %u outs(%e) {act = #bitnet.gate_act<relu2>}
    : (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %far = arith.constant dense<100.0> : tensor<1x1xf32>
  %two = arith.constant dense<2.0> : tensor<1x1xf32>
  %3 = bitnet.gated %far, %two {act = #bitnet.gate_act<silu>} : tensor<1x1xf32>
  return %0, %1, %2, %3 : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x1xf32>
}

// Pairs (0, 2) and (1, 3); row 1 of the tables turns the first pair by a right angle and leaves the second.
// CHECK-LABEL: @rotary
// CHECK-NEXT: tensor<2x1x4xf32> = {{\[\[\[}}-3, 2, 1, 4]], {{\[\[}}-7, 12, 5, 16]]]
// CHECK-NEXT: tensor<2x1x4xf32> = {{\[\[\[}}-3, 2, 1, 4]], {{\[\[}}-7, 12, 5, 16]]]
func.func @rotary() -> (tensor<2x1x4xf32>, tensor<2x1x4xf32>) {
  %x = arith.constant dense<[[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0, 7.0, 8.0]]]> : tensor<2x1x4xf32>
  %cos = arith.constant dense<[[1.0, 1.0], [0.0, 1.0], [0.0, 2.0]]> : tensor<3x2xf32>
  %sin = arith.constant dense<[[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]> : tensor<3x2xf32>
  %pos = arith.constant 1 : i64
  %y = bitnet.rotary %x, %cos, %sin, %pos : tensor<2x1x4xf32>, tensor<3x2xf32>
  %e = tensor.empty() : tensor<2x1x4xf32>
  %z = ternary.rotary %x, %cos, %sin, %pos outs(%e)
    : (tensor<2x1x4xf32>, tensor<3x2xf32>, tensor<3x2xf32>, i64, tensor<2x1x4xf32>) -> tensor<2x1x4xf32>
  return %y, %z : tensor<2x1x4xf32>, tensor<2x1x4xf32>
}

// CHECK-LABEL: @cache_update
// CHECK-NEXT: tensor<4x1x2xf32> = {{\[\[\[}}9, 9]], {{\[\[}}1, 2]], {{\[\[}}3, 4]], {{\[\[}}9, 9]]]
// CHECK-NEXT: tensor<4x1x2xf32> = {{\[\[\[}}9, 9]], {{\[\[}}9, 9]], {{\[\[}}1, 2]], {{\[\[}}3, 4]]]
func.func @cache_update() -> (tensor<4x1x2xf32>, tensor<4x1x2xf32>) {
  %cache = arith.constant dense<9.0> : tensor<4x1x2xf32>
  %rows = arith.constant dense<[[[1.0, 2.0]], [[3.0, 4.0]]]> : tensor<2x1x2xf32>
  %one = arith.constant 1 : i64
  %two = arith.constant 2 : i64
  %0 = bitnet.cache_update %cache, %rows, %one : tensor<4x1x2xf32>, tensor<2x1x2xf32>
  %1 = ternary.cache_update %rows, %two outs(%cache) : (tensor<2x1x2xf32>, i64, tensor<4x1x2xf32>) -> tensor<4x1x2xf32>
  return %0, %1 : tensor<4x1x2xf32>, tensor<4x1x2xf32>
}

// Queries of zero weigh all rows alike, so the result is the mean of the values that a token may see: from position 1,
// two and three of them if causal, else three for both tokens. Rows past these are not looked at.
// CHECK-LABEL: @attention_means
// CHECK-NEXT: tensor<2x1x2xf32> = {{\[\[\[}}2, 20]], {{\[\[}}4, 40]]]
// CHECK-NEXT: tensor<2x1x2xf32> = {{\[\[\[}}4, 40]], {{\[\[}}4, 40]]]
// CHECK-NEXT: tensor<2x1x2xf32> = {{\[\[\[}}2, 20]], {{\[\[}}4, 40]]]
func.func @attention_means() -> (tensor<2x1x2xf32>, tensor<2x1x2xf32>, tensor<2x1x2xf32>) {
  %q = arith.constant dense<0.0> : tensor<2x1x2xf32>
  %k = arith.constant dense<1.0> : tensor<4x1x2xf32>
  %v = arith.constant dense<[[[1.0, 10.0]], [[3.0, 30.0]], [[8.0, 80.0]], [[0x7F800000, 0x7FC00000]]]> : tensor<4x1x2xf32>
  %pos = arith.constant 1 : i64
  %0 = bitnet.attention %q, %k, %v, %pos {causal, scale = 1.0 : f32} : tensor<2x1x2xf32>, tensor<4x1x2xf32>, tensor<4x1x2xf32>
  %1 = bitnet.attention %q, %k, %v, %pos {scale = 1.0 : f32} : tensor<2x1x2xf32>, tensor<4x1x2xf32>, tensor<4x1x2xf32>
  %e = tensor.empty() : tensor<2x1x2xf32>
  %2 = ternary.attention %q, %k, %v, %pos outs(%e) {causal, scale = 1.0 : f32}
    : (tensor<2x1x2xf32>, i64, tensor<4x1x2xf32>, tensor<4x1x2xf32>, tensor<2x1x2xf32>) -> tensor<2x1x2xf32>
  return %0, %1, %2 : tensor<2x1x2xf32>, tensor<2x1x2xf32>, tensor<2x1x2xf32>
}

// Four query heads on two key/value heads: heads 0 and 1 read the first, 2 and 3 the second. Scores of 0 and 100: what
// is left of the smaller one is e^-87, less than half a unit of the last place.
// CHECK-LABEL: @attention_heads
// CHECK-NEXT: tensor<1x4x1xf32> = {{\[\[\[}}5], [1], [7], [3]]]
func.func @attention_heads() -> tensor<1x4x1xf32> {
  %q = arith.constant dense<[[[1.0], [-1.0], [1.0], [-1.0]]]> : tensor<1x4x1xf32>
  %k = arith.constant dense<[[[0.0], [0.0]], [[50.0], [50.0]]]> : tensor<2x2x1xf32>
  %v = arith.constant dense<[[[1.0], [3.0]], [[5.0], [7.0]]]> : tensor<2x2x1xf32>
  %pos = arith.constant 1 : i64
  %0 = bitnet.attention %q, %k, %v, %pos {causal, scale = 2.0 : f32} : tensor<1x4x1xf32>, tensor<2x2x1xf32>, tensor<2x2x1xf32>
  return %0 : tensor<1x4x1xf32>
}

// More than one block of 16 rows: the maximum moves in the second block, and the first is scaled down to nothing.
// CHECK-LABEL: @attention_blocks
// CHECK-NEXT: tensor<1x1x1xf32> = {{\[\[\[}}2.5]]]
// CHECK-NEXT: tensor<1x1x1xf32> = {{\[\[\[}}0.5]]]
func.func @attention_blocks() -> (tensor<1x1x1xf32>, tensor<1x1x1xf32>) {
  %q = arith.constant dense<1.0> : tensor<1x1x1xf32>
  %zero = arith.constant dense<0.0> : tensor<20x1x1xf32>
  %high = arith.constant dense<200.0> : tensor<2x1x1xf32>
  %k = tensor.insert_slice %high into %zero[17, 0, 0] [2, 1, 1] [1, 1, 1] : tensor<2x1x1xf32> into tensor<20x1x1xf32>
  %two = arith.constant dense<[[[2.0]], [[3.0]]]> : tensor<2x1x1xf32>
  %v = tensor.insert_slice %two into %zero[17, 0, 0] [2, 1, 1] [1, 1, 1] : tensor<2x1x1xf32> into tensor<20x1x1xf32>
  %pos = arith.constant 18 : i64
  %0 = bitnet.attention %q, %k, %v, %pos {causal, scale = 1.0 : f32} : tensor<1x1x1xf32>, tensor<20x1x1xf32>, tensor<20x1x1xf32>
  // Twenty equal scores, values that add up to 10.
  %ten = arith.constant dense<5.0> : tensor<2x1x1xf32>
  %v2 = tensor.insert_slice %ten into %zero[15, 0, 0] [2, 1, 1] [1, 1, 1] : tensor<2x1x1xf32> into tensor<20x1x1xf32>
  %last = arith.constant 19 : i64
  %1 = bitnet.attention %q, %zero, %v2, %last {causal, scale = 1.0 : f32} : tensor<1x1x1xf32>, tensor<20x1x1xf32>, tensor<20x1x1xf32>
  return %0, %1 : tensor<1x1x1xf32>, tensor<1x1x1xf32>
}

// A token outside the table reads row 0.
// CHECK-LABEL: @embedding
// CHECK-NEXT: tensor<4x2xf32> = {{\[\[}}5, 6], [1, 2], [1, 2], [1, 2]]
// CHECK-NEXT: tensor<4x2xf32> = {{\[\[}}5, 6], [1, 2], [1, 2], [1, 2]]
func.func @embedding() -> (tensor<4x2xf32>, tensor<4x2xf32>) {
  %table = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xbf16>
  %tokens = arith.constant dense<[2, 0, 3, -1]> : tensor<4xi64>
  %0 = bitnet.embedding %table, %tokens : tensor<3x2xbf16>, tensor<4xi64> -> tensor<4x2xf32>
  %e = tensor.empty() : tensor<4x2xf32>
  %1 = ternary.embedding %table, %tokens outs(%e) : (tensor<3x2xbf16>, tensor<4xi64>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return %0, %1 : tensor<4x2xf32>, tensor<4x2xf32>
}

// CHECK-LABEL: @dense
// CHECK-NEXT: tensor<1x3xf32> = {{\[\[}}5, 11, 17]]
// CHECK-NEXT: tensor<1x3xf32> = {{\[\[}}5.5, 11.5, 17]]
// CHECK-NEXT: tensor<1x3xf32> = {{\[\[}}5.5, 11.5, 17]]
// CHECK-NEXT: tensor<1x1xf32> = {{\[\[}}2]]
func.func @dense() -> (tensor<1x3xf32>, tensor<1x3xf32>, tensor<1x3xf32>, tensor<1x1xf32>) {
  %w = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf16>
  %x = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
  %b = arith.constant dense<[0.5, 0.5, 0.0]> : tensor<3xf32>
  %0 = bitnet.dense %x, %w : (tensor<1x2xf32>, tensor<3x2xf16>) -> tensor<1x3xf32>
  %1 = bitnet.dense %x, %w bias(%b) : (tensor<1x2xf32>, tensor<3x2xf16>, tensor<3xf32>) -> tensor<1x3xf32>
  %e = tensor.empty() : tensor<1x3xf32>
  %2 = ternary.dense %x, %w bias(%b) outs(%e)
    : (tensor<1x2xf32>, tensor<3x2xf16>, tensor<3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  // Sixteen lanes: 2^24 of the first goes with -2^24 of the ninth before the ones of the others come to it.
  %big = arith.constant dense<[[16777216.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -16777216.0, 1.0]]> : tensor<1x10xf32>
  %ones = arith.constant dense<1.0> : tensor<1x10xf32>
  %3 = bitnet.dense %big, %ones : (tensor<1x10xf32>, tensor<1x10xf32>) -> tensor<1x1xf32>
  return %0, %1, %2, %3 : tensor<1x3xf32>, tensor<1x3xf32>, tensor<1x3xf32>, tensor<1x1xf32>
}

// By logit, then by number; a NaN is the least.
// CHECK-LABEL: @top_k
// CHECK-NEXT: tensor<4xi64> = [1, 3, 0, -1]
// CHECK-NEXT: tensor<4xf32> = [3, 3, 1, -inf]
// CHECK-NEXT: tensor<6xi64> = [1, 3, 0, 2, -1, -1]
// CHECK-NEXT: tensor<6xf32> = [3, 3, 1, -inf, -inf, -inf]
// CHECK-NEXT: tensor<2xi64> = [1, 3]
// CHECK-NEXT: tensor<2xf32> = [3, 3]
func.func @top_k() -> (tensor<4xi64>, tensor<4xf32>, tensor<6xi64>, tensor<6xf32>, tensor<2xi64>, tensor<2xf32>) {
  %w = arith.constant dense<[[1.0, 0.0], [1.0, 2.0], [0.0, 0x7FC0], [2.0, 1.0]]> : tensor<4x2xbf16>
  %x = arith.constant dense<1.0> : tensor<1x2xf32>
  %three = arith.constant dense<3> : tensor<1xi64>
  %many = arith.constant dense<100> : tensor<1xi64>
  %0:2 = bitnet.top_k %x, %w, %three : (tensor<1x2xf32>, tensor<4x2xbf16>, tensor<1xi64>) -> (tensor<4xi64>, tensor<4xf32>)
  %1:2 = bitnet.top_k %x, %w, %many : (tensor<1x2xf32>, tensor<4x2xbf16>, tensor<1xi64>) -> (tensor<6xi64>, tensor<6xf32>)
  %2:2 = bitnet.top_k %x, %w, %many : (tensor<1x2xf32>, tensor<4x2xbf16>, tensor<1xi64>) -> (tensor<2xi64>, tensor<2xf32>)
  return %0#0, %0#1, %1#0, %1#1, %2#0, %2#1 : tensor<4xi64>, tensor<4xf32>, tensor<6xi64>, tensor<6xf32>, tensor<2xi64>, tensor<2xf32>
}

// Blocks of four of Sylvester's matrix, halved; of two, times f32(1/sqrt(2)).
// CHECK-LABEL: @hadamard
// CHECK-NEXT: tensor<1x8xf32> = {{\[\[}}5, -1, -2, 0, 2, 2, 2, 2]]
// CHECK-NEXT: tensor<1x8xf32> = {{\[\[}}5, -1, -2, 0, 2, 2, 2, 2]]
// CHECK-NEXT: tensor<1x2xf32> = {{\[\[}}0.707106769, 0.707106769]]
func.func @hadamard() -> (tensor<1x8xf32>, tensor<1x8xf32>, tensor<1x2xf32>) {
  %x = arith.constant dense<[[1.0, 2.0, 3.0, 4.0, 4.0, 0.0, 0.0, 0.0]]> : tensor<1x8xf32>
  %0 = bitnet.hadamard %x {block = 4} : tensor<1x8xf32>
  %e = tensor.empty() : tensor<1x8xf32>
  %1 = ternary.hadamard %x outs(%e) {block = 4} : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %unit = arith.constant dense<[[1.0, 0.0]]> : tensor<1x2xf32>
  %2 = bitnet.hadamard %unit {block = 2} : tensor<1x2xf32>
  return %0, %1, %2 : tensor<1x8xf32>, tensor<1x8xf32>, tensor<1x2xf32>
}
