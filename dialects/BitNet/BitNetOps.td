//===- BitNetOps.td - operations of the bitnet dialect -------------*- tablegen -*-===//
#ifndef SETUN_BITNET_OPS_TD
#define SETUN_BITNET_OPS_TD

include "dialects/BitNet/BitNetAttrs.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class BitNet_Op<string mnemonic, list<Trait> traits = []> : Op<BitNet_Dialect, mnemonic, !listconcat([Pure], traits)>;

def BitNet_Activations : RankedTensorOf<[F32]>;
def BitNet_Codes : RankedTensorOf<[I8]>;
def BitNet_WeightBits : RankedTensorOf<[I<2>, I1, I8]>;
def BitNet_MatmulInput : RankedTensorOf<[I8, F32]>;
def BitNet_StoredFloat : RankedTensorOf<[F32, F16, BF16]>;
def BitNet_Cache : RankedTensorOf<[F32, F16]>;

def BitNet_WeightOp : BitNet_Op<"weight"> {
  let summary = "weight tensor held outside the module";
  let description = [{
    The value of the tensor `name` of the weight files that the compiler is given; the bytes stay in the file until they
    are packed. Conversion by file dtype: `docs/contracts.md`.

    C1: the element type is i2, i1, f32, f16 or bf16. C2: the shape is static. C3: the name is not empty.
    C4: an i2 or i1 weight has rank 2.

    Example:

    ```mlir
    %w = bitnet.weight "model.layers.0.mlp.up_proj.weight" : tensor<6912x2560xi2>
    ```
  }];
  let arguments = (ins StrAttr:$name);
  let results = (outs RankedTensorOf<[I<2>, I1, F32, F16, BF16]>:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def BitNet_QuantizeWeightOp : BitNet_Op<"quantize_weight"> {
  let summary = "codes of few bits and scale of master weights";
  let description = [{
    `absmean` (b1.58): `m = max(mean|W|, eps)`, `codes = clamp(rhe(W * (1/m)), -1, 1)` (i2), `scale = m`.
    `sign` (b1): `codes = W - mean(W) > 0` (i1), `scale = mean|W|` of the uncentred weights.
    The means are over the tensor, or over each group of `scales = <group = g>` along a row; they are computed in double
    and rounded once. `absmax` (8-bit full-precision layers): for each row `scale = max(max|W|, eps) / 127`,
    `codes = clamp(rhe(W * (1/scale)), -127, 127)` (i8).
    Sources: arXiv 2402.17764; arXiv 2310.11453 with Sign(0) = -1.

    C1: `absmean` gives i2, `sign` gives i1, `absmax` gives i8. C2: codes have the shape of the masters.
    C3: `scales` is `tensor` (also when absent) or `group`, for `absmax` `rows` without ranges, and the scale tensor has
    the shape that it asks for. C4: `eps` is finite and not negative, for `absmax` at least 1e-30.
    C5: rank 2 and static shape.

    Example:

    ```mlir
    %codes, %scale = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmean>, eps = 1.0e-5 : f32}
      : tensor<8x4xbf16> -> tensor<8x4xi2>, tensor<1xf32>
    ```
  }];
  let arguments = (ins BitNet_StoredFloat:$masters, BitNet_WeightQuantAttr:$method, F32Attr:$eps,
                       OptionalAttr<BitNet_ScalesAttr>:$scales);
  let results = (outs BitNet_WeightBits:$codes, RankedTensorOf<[F32]>:$scale);
  let extraClassDeclaration = [{
    /// Granularity of the means; per tensor where the attribute is absent.
    ScalesAttr getGranularity() { return getScales().value_or(ScalesAttr::get(getContext(), ScaleKind::Tensor)); }
  }];
  let assemblyFormat = "$masters attr-dict `:` type($masters) `->` type($codes) `,` type($scale)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def BitNet_LinearOp : BitNet_Op<"linear", [AttrSizedOperandSegments]> {
  let summary = "BitLinear layer";
  let description = [{
    `x' = norm(x)`; `q, s = quantize(x')`; `acc[t][n] = sum_k q[t][k] * w[n][k]` (exact, i32);
    `y[t][n] = f32(acc[t][n]) * ((1/s[t]) * sw[n]) + bias[n]`, where `sw` is the stored scale, or its reciprocal if
    `direction` is `divide`. With groups: `y = seq_g(f32(acc[t][n][g]) * sw[n][g]) * (1/s[t])`.
    `bias_place = before_scale` adds the bias to `f32(acc)` before the product (not with groups).
    Without `activation` (weight-only): `acc[t][n] = seq_k(x'[t][k] * w[n][k])` in f32 and `1/s` is left out.
    Sources: arXiv 2310.11453, 2402.17764; bias and scale direction as in Hugging Face transformers.

    C1: `x` is `TxK`, `w` is `NxK` with static N and K, `y` is `TxN`. C2: the scale has the shape that `scales` asks for.
    C3: row ranges add up to N. C4: bias is `tensor<Nxf32>`. C5: norm weight and norm bias are `tensor<Kxf32>` and need
    `norm`; a norm bias needs `layer`. C6: K times the largest code product fits i32. C7: `before_scale` needs a bias
    and no groups.

    Example:

    ```mlir
    %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
         scales = #bitnet.scales<tensor>, direction = #bitnet.direction<multiply>}
       : (tensor<?x2560xf32>, tensor<640x2560xi2>, tensor<1xf32>) -> tensor<?x640xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, BitNet_WeightBits:$w, RankedTensorOf<[F32]>:$scale,
                       Optional<RankedTensorOf<[F32]>>:$bias, Optional<RankedTensorOf<[F32]>>:$norm_weight,
                       Optional<RankedTensorOf<[F32]>>:$norm_bias,
                       OptionalAttr<BitNet_ActQuantAttr>:$activation, BitNet_ScalesAttr:$scales,
                       DefaultValuedAttr<BitNet_DirectionAttr, "Direction::Multiply">:$direction,
                       DefaultValuedAttr<BitNet_BiasPlaceAttr, "BiasPlace::AfterScale">:$bias_place,
                       OptionalAttr<BitNet_NormAttr>:$norm);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = [{
    $x `,` $w `scale` `(` $scale `)` (`bias` `(` $bias^ `)`)? (`norm_weight` `(` $norm_weight^ `)`)?
    (`norm_bias` `(` $norm_bias^ `)`)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def BitNet_QuantizeOp : BitNet_Op<"quantize"> {
  let summary = "absmax activation quantisation";
  let description = [{
    `codes` as in `#bitnet.act_quant`; `scale[t] = 1 / s` (multiply by it to dequantise); `sums[t] = sum_k codes[t][k]`.
    With `per_tensor` there is one scale, `tensor<1xf32>`.

    C1: `x` is `TxK` with static K and `codes` has its shape. C2: `scale` is `tensor<Txf32>` (`per_token`) or `tensor<1xf32>`.
    C3: `sums` is `tensor<Txi32>`.

    Example:

    ```mlir
    %q, %s, %c = bitnet.quantize %x {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
      : tensor<?x64xf32> -> tensor<?x64xi8>, tensor<?xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, BitNet_ActQuantAttr:$activation);
  let results = (outs BitNet_Codes:$codes, RankedTensorOf<[F32]>:$scale, RankedTensorOf<[I32]>:$sums);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($codes) `,` type($scale) `,` type($sums)";
  let hasVerifier = 1;
}

def BitNet_MatmulOp : BitNet_Op<"matmul"> {
  let summary = "product of activation codes and weights of few bits";
  let description = [{
    `acc[t][n] = sum_k x[t][k] * w[n][k]`, exact in i32 for i8 codes. `sums[t] = sum_k x[t][k]` comes from
    `bitnet.quantize`; kernels with biased weight codes need it. For f32 activations (weight-only): `seq_k` in f32, and
    no sums. With `group = g`: `acc[t][n][j]` sums over group `j` of `g` consecutive k.

    C1: `x` is `TxK`, `w` is `NxK` static, `acc` is `TxN`, or `TxNxG` with `G = ceil(K / group)`.
    C2: i8 gives i32 and needs sums, f32 gives f32 and has none. C3: sums is `tensor<Txi32>`. C4: K times the largest product of codes fits i32.
    C5: the group is a multiple of 4.

    Example:

    ```mlir
    %acc = bitnet.matmul %q, %w sums(%c) : (tensor<?x64xi8>, tensor<96x64xi2>, tensor<?xi32>) -> tensor<?x96xi32>
    ```
  }];
  let arguments = (ins BitNet_MatmulInput:$x, BitNet_WeightBits:$w, Optional<RankedTensorOf<[I32]>>:$sums,
                       OptionalAttr<I64Attr>:$group);
  let results = (outs RankedTensorOf<[I32, F32]>:$acc);
  let assemblyFormat = "$x `,` $w (`sums` `(` $sums^ `)`)? attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def BitNet_DequantizeOp : BitNet_Op<"dequantize", [AttrSizedOperandSegments]> {
  let summary = "activation and weight scales, and the bias, of a BitLinear layer";
  let description = [{
    The last line of `bitnet.linear`: `y = f32(acc) * (act_scale * sw) + bias`; with groups
    `y = seq_g(f32(acc[g]) * sw[g]) * act_scale + bias`; without `act_scale` (weight-only) it is left out.

    C1: `acc` is `TxN` or `TxNxG`, `y` is `TxN`, N and G static. C2: the scale has the shape that `scales` asks for.
    C3: bias is `tensor<Nxf32>`. C4: `act_scale` is `tensor<Txf32>` or `tensor<1xf32>`. C5: row ranges add up to N.
    C6: `before_scale` needs a bias and no groups.

    Example:

    ```mlir
    %y = bitnet.dequantize %acc scale(%ws) act_scale(%s) {scales = #bitnet.scales<tensor>}
      : (tensor<?x96xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x96xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[I32, F32]>:$acc, RankedTensorOf<[F32]>:$scale,
                       Optional<RankedTensorOf<[F32]>>:$act_scale, Optional<RankedTensorOf<[F32]>>:$bias,
                       BitNet_ScalesAttr:$scales,
                       DefaultValuedAttr<BitNet_DirectionAttr, "Direction::Multiply">:$direction,
                       DefaultValuedAttr<BitNet_BiasPlaceAttr, "BiasPlace::AfterScale">:$bias_place);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = [{
    $acc `scale` `(` $scale `)` (`act_scale` `(` $act_scale^ `)`)? (`bias` `(` $bias^ `)`)? attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def BitNet_RmsNormOp : BitNet_Op<"rms_norm", [AllTypesMatch<["x", "y"]>]> {
  let summary = "root mean square normalisation over the last axis";
  let description = [{
    `y = (x * (1 / sqrt(sum16(x*x) / K + eps))) * g` for each row of `x`. Source: arXiv 1910.07467.

    C1: `x` is `TxK` with static K; `g` is `tensor<Kxf32>`. C2: `eps` is finite and not negative.

    Example:

    ```mlir
    %y = bitnet.rms_norm %x, %g {eps = 1.0e-5 : f32} : tensor<?x2560xf32>, tensor<2560xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, Optional<RankedTensorOf<[F32]>>:$weight, F32Attr:$eps);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$x (`,` $weight^)? attr-dict `:` type($x) (`,` type($weight)^)?";
  let hasVerifier = 1;
}

def BitNet_LayerNormOp : BitNet_Op<"layer_norm", [AttrSizedOperandSegments, AllTypesMatch<["x", "y"]>]> {
  let summary = "layer normalisation over the last axis";
  let description = [{
    `d = x - sum16(x) / K`; `y = (d * (1 / sqrt(sum16(d*d) / K + eps))) * g + b`. Gain and shift may be absent
    (BitNet b1 has neither). Source: arXiv 1607.06450.

    C1: `x` is `TxK` with static K; gain and shift are `tensor<Kxf32>`. C2: `eps` is finite and not negative.

    Example:

    ```mlir
    %y = bitnet.layer_norm %x weight(%g) bias(%b) {eps = 1.0e-5 : f32}
      : (tensor<?x64xf32>, tensor<64xf32>, tensor<64xf32>) -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, Optional<RankedTensorOf<[F32]>>:$weight,
                       Optional<RankedTensorOf<[F32]>>:$bias, F32Attr:$eps);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = [{
    $x (`weight` `(` $weight^ `)`)? (`bias` `(` $bias^ `)`)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def BitNet_RotaryOp : BitNet_Op<"rotary", [AllTypesMatch<["x", "y"]>, AllTypesMatch<["cos", "sin"]>]> {
  let summary = "rotary position embedding, rotate-half pairs";
  let description = [{
    For token `t`, head `h`, `i < D/2`, with `c = cos[pos+t][i]`, `s = sin[pos+t][i]`:
    `y[i] = x[i]*c - x[i+D/2]*s`, `y[i+D/2] = x[i+D/2]*c + x[i]*s`. Source: arXiv 2104.09864, pairs as in Llama.

    C1: `x` is `TxHxD` with static H and D, D even. C2: tables are `CxD/2` with static C.

    Example:

    ```mlir
    %y = bitnet.rotary %x, %cos, %sin, %pos : tensor<?x20x128xf32>, tensor<4096x64xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, BitNet_Activations:$cos, BitNet_Activations:$sin, I64:$pos);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$x `,` $cos `,` $sin `,` $pos attr-dict `:` type($x) `,` type($cos)";
  let hasVerifier = 1;
}

def BitNet_CacheUpdateOp : BitNet_Op<"cache_update", [AllTypesMatch<["cache", "result"]>]> {
  let summary = "writes new rows into a key or value cache";
  let description = [{
    `result = cache` with rows `pos .. pos+T-1` replaced by `new`. The runtime guarantees `pos + T <= C`.
    A cache of f16 takes `min(max(x, -65504), 65504)` rounded to nearest even, subnormals included; NaN becomes -65504.

    C1: `cache` is `CxHxD`, `new` is `TxHxD`, with the same static H and D.

    Example:

    ```mlir
    %c = bitnet.cache_update %cache, %new, %pos : tensor<?x5x128xf16>, tensor<?x5x128xf32>
    ```
  }];
  let arguments = (ins BitNet_Cache:$cache, BitNet_Activations:$rows, I64:$pos);
  let results = (outs BitNet_Cache:$result);
  let assemblyFormat = "$cache `,` $rows `,` $pos attr-dict `:` type($cache) `,` type($rows)";
  let hasVerifier = 1;
}

def BitNet_AttentionOp : BitNet_Op<"attention", [AllTypesMatch<["q", "o"]>, AllTypesMatch<["k", "v"]>]> {
  let summary = "grouped-query attention over a cache";
  let description = [{
    Token `t` of head `h` attends rows `j < L` of key/value head `h / (H / HKV)`, with `L = pos+t+1` if `causal`, else
    `pos+T`. Scores `s_j = seq(q' * k_j)` with `q' = q * scale`; `k` and `v` of f16 are widened, which is exact.

    Rows are taken in ranges of 256, and these in blocks of 64, both counted from row 0. A range starts with `m` = the
    lowest finite f32, `l` = 16 lanes of 0 and `acc = 0`. For each of its blocks below L: `m' = max(m, max_j s_j)`,
    `f = exp(m - m')`, `p_j = exp(s_j - m')` (0 beyond L), `l = l*f`, then `l[lane] = l[lane] + p_(16*i+lane)` for
    i = 0 .. 3; `acc = acc*f`, then `acc = acc + p_j * v_j` for j ascending below L. Totals `M`, `S`, `A` start likewise;
    each range in turn is folded in: `M' = max(M, m)`, `f = exp(M - M')`, `g = exp(m - M')`, `S = S*f + l*g`,
    `A = A*f + acc*g`. At the end `o = (A + 0) * (1 / tree(S))`, `tree` adding the 16 lanes as `sum16` does. The maximum of a
    block is `a > b ? a : b`, lane by lane, from the lowest finite f32 over its four times 16 scores in order (the lowest
    beyond L) to the lowest once more, then over the lanes as `tree` pairs them.

    C1: `q` is `TxHxD`, `k` and `v` are `CxHKVxD`, H, HKV and D static, D at most 1,024. C2: H is a multiple of HKV.
    C3: `scale` is finite.

    Example:

    ```mlir
    %o = bitnet.attention %q, %k, %v, %pos {causal, scale = 0.088388346 : f32}
      : tensor<?x20x128xf32>, tensor<?x5x128xf16>, tensor<?x5x128xf16>
    ```
  }];
  let arguments = (ins BitNet_Activations:$q, BitNet_Cache:$k, BitNet_Cache:$v, I64:$pos, F32Attr:$scale,
                       UnitAttr:$causal);
  let results = (outs BitNet_Activations:$o);
  let assemblyFormat = "$q `,` $k `,` $v `,` $pos attr-dict `:` type($q) `,` type($k) `,` type($v)";
  let hasVerifier = 1;
}

def BitNet_GatedOp : BitNet_Op<"gated", [AllTypesMatch<["gate", "up", "y"]>]> {
  let summary = "gated activation";
  let description = [{
    `relu2`: `y = (max(gate, 0) * max(gate, 0)) * up`. `silu`: `y = (gate / (1 + exp(-gate))) * up`.

    C1: `TxF` with static F.

    Example:

    ```mlir
    %y = bitnet.gated %gate, %up {act = #bitnet.gate_act<relu2>} : tensor<?x6912xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$gate, BitNet_Activations:$up, BitNet_GateActAttr:$act);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$gate `,` $up attr-dict `:` type($y)";
  let hasVerifier = 1;
}

def BitNet_EmbeddingOp : BitNet_Op<"embedding"> {
  let summary = "rows of a table";
  let description = [{
    `y[t] = f32(table[tokens[t]])`. A token outside [0, V) reads row 0, so compiled code never reads outside the
    table; for tokens that are an entry's input the runtime refuses such values.

    C1: `table` is `VxH` static, `tokens` is `tensor<Txi64>`, `y` is `TxH`.

    Example:

    ```mlir
    %e = bitnet.embedding %table, %tokens : tensor<1000x64xbf16>, tensor<?xi64> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins BitNet_StoredFloat:$table, RankedTensorOf<[I64]>:$tokens);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$table `,` $tokens attr-dict `:` type($table) `,` type($tokens) `->` type($y)";
  let hasVerifier = 1;
}

def BitNet_DenseOp : BitNet_Op<"dense"> {
  let summary = "full-precision linear layer, the language-model head";
  let description = [{
    `y[t][n] = sum16_k(x[t][k] * f32(w[n][k])) + bias[n]`.

    C1: `x` is `TxK`, `w` is `NxK` static, `y` is `TxN`. C2: bias is `tensor<Nxf32>`.

    Example:

    ```mlir
    %l = bitnet.dense %x, %table : (tensor<?x64xf32>, tensor<1000x64xbf16>) -> tensor<?x1000xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, BitNet_StoredFloat:$w, Optional<RankedTensorOf<[F32]>>:$bias);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$x `,` $w (`bias` `(` $bias^ `)`)? attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def BitNet_TopKOp : BitNet_Op<"top_k"> {
  let summary = "the rows of a matrix with the largest dot products: choice of the next token";
  let description = [{
    With the logits `y = bitnet.dense(x, w)`, in which a NaN counts as -infinity: `ids` are the numbers of the
    `min(k, N)` largest, the largest first and of equal ones the lowest number first, `logits` are their values. The
    rest of the results, which are as long as the largest `k`, is -1 and -infinity. A `k` outside [0, L] counts as the
    nearer end; for a `k` that is an entry's input the runtime refuses such values.

    C1: `x` is `1xK`, `w` is `NxK` static, `k` is `tensor<1xi64>`. C2: both results have the same length L in [1, 64].

    Example:

    ```mlir
    %ids, %logits = bitnet.top_k %x, %table, %k
      : (tensor<1x64xf32>, tensor<1000x64xbf16>, tensor<1xi64>) -> (tensor<64xi64>, tensor<64xf32>)
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, BitNet_StoredFloat:$w, RankedTensorOf<[I64]>:$k);
  let results = (outs RankedTensorOf<[I64]>:$ids, BitNet_Activations:$logits);
  let extraClassDeclaration = [{
    static constexpr int64_t kLongest = 64;
    int64_t getLength() { return ::llvm::cast<::mlir::ShapedType>(getIds().getType()).getDimSize(0); }
  }];
  let assemblyFormat = "$x `,` $w `,` $k attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def BitNet_LargestOp : BitNet_Op<"largest"> {
  let summary = "the numbers and values of the largest logits";
  let description = [{
    What `bitnet.top_k` chooses, of logits that are there: `ids` are the numbers of the `min(k, N)` largest, `logits`
    their values.

    C1: `y` is `1xN` static, `k` is `tensor<1xi64>`. C2: both results have the same length L in [1, 64].

    Example:

    ```mlir
    %ids, %logits = bitnet.largest %y, %k : (tensor<1x1000xf32>, tensor<1xi64>) -> (tensor<64xi64>, tensor<64xf32>)
    ```
  }];
  let arguments = (ins BitNet_Activations:$y, RankedTensorOf<[I64]>:$k);
  let results = (outs RankedTensorOf<[I64]>:$ids, BitNet_Activations:$logits);
  let extraClassDeclaration = [{
    int64_t getLength() { return ::llvm::cast<::mlir::ShapedType>(getIds().getType()).getDimSize(0); }
  }];
  let assemblyFormat = "$y `,` $k attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def BitNet_HadamardOp : BitNet_Op<"hadamard", [AllTypesMatch<["x", "y"]>]> {
  let summary = "blockwise orthonormal Walsh-Hadamard transform of the last axis";
  let description = [{
    Each block of `block` elements is multiplied by the Sylvester matrix divided by `sqrt(block)`: butterflies
    `(a, b) -> (a + b, a - b)` at distance 1, 2, 4, ..., then a product with `f32(1/sqrt(block))`.
    Source: arXiv 2504.18415.

    C1: `x` is `TxK` with static K. C2: `block` is a power of two that divides K.

    Example:

    ```mlir
    %y = bitnet.hadamard %x {block = 64} : tensor<?x128xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, I64Attr:$block);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$x attr-dict `:` type($x)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Whole tensors
//===----------------------------------------------------------------------===//

/// Numbers, and tensors and vectors of them, element by element.
def BitNet_Numbers : AnyTypeOf<[F32, VectorOfAnyRankOf<[F32]>, RankedTensorOf<[F32]>], "f32 or f32 elements">;

def BitNet_MathOp : BitNet_Op<"math", !listconcat([SameOperandsAndResultType], ElementwiseMappable.traits)> {
  let summary = "elementary function or activation, element by element";
  let description = [{
    The function of `include/setun/Math.h`: one stated sequence of operations, the same bits on every target.
    `math.exp` and its like become this operation before anything could fold them by another library's function.

    Example:

    ```mlir
    %y = bitnet.math <gelu> %x : tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins BitNet_FunctionAttr:$function, BitNet_Numbers:$x);
  let results = (outs BitNet_Numbers:$y);
  let assemblyFormat = "$function $x attr-dict `:` type($y)";
}

def BitNet_PowOp : BitNet_Op<"pow", !listconcat([SameOperandsAndResultType], ElementwiseMappable.traits)> {
  let summary = "power, element by element";
  let description = [{
    `x^y` of `include/setun/Math.h`, rounded from double precision.

    Example:

    ```mlir
    %y = bitnet.pow %x, %e : tensor<?x64xf32>
    ```
  }];
  let arguments = (ins BitNet_Numbers:$x, BitNet_Numbers:$exponent);
  let results = (outs BitNet_Numbers:$y);
  let assemblyFormat = "$x `,` $exponent attr-dict `:` type($y)";
}

def BitNet_SoftmaxOp : BitNet_Op<"softmax", [AllTypesMatch<["x", "y"]>]> {
  let summary = "softmax over the last axis";
  let description = [{
    For each row: `m` is the largest element (the lowest finite f32 if there is none larger, a NaN never is),
    `p[i] = exp(x[i] - m)`, `y[i] = p[i] * (1 / sum16(p))`.

    C1: the rank is at least 1.

    Example:

    ```mlir
    %y = bitnet.softmax %x : tensor<?x6x?x?xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x);
  let results = (outs BitNet_Activations:$y);
  let assemblyFormat = "$x attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def BitNet_BatchAttentionOp : BitNet_Op<"batch_attention", [AllTypesMatch<["q", "o"]>, AllTypesMatch<["k", "v"]>]> {
  let summary = "grouped-query attention of a batch, without a cache";
  let description = [{
    For each sample `b`: `bitnet.attention` of queries `q[b]` over the rows of `k[b]` and `v[b]`, of which token `t`
    attends the first `min(t+1, S)` if `causal`, else all S. With a mask, `mask[b][h][t][j]` is added to score `s_j`; a
    first or second axis of size 1 serves all samples or heads.

    C1: `q` is `BxTxHxD`, `k` and `v` are `BxSxHKVxD`, H, HKV and D static, D at most 1,024. C2: H is a multiple of
    HKV. C3: `scale` is finite. C4: the mask has rank 4, axes B or 1, H or 1, T, S.

    Example:

    ```mlir
    %o = bitnet.batch_attention %q, %k, %v {scale = 0.125 : f32}
      : (tensor<?x197x6x64xf32>, tensor<?x197x6x64xf32>, tensor<?x197x6x64xf32>) -> tensor<?x197x6x64xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$q, BitNet_Activations:$k, BitNet_Activations:$v,
                       Optional<BitNet_Activations>:$mask, F32Attr:$scale, UnitAttr:$causal);
  let results = (outs BitNet_Activations:$o);
  let assemblyFormat = [{
    $q `,` $k `,` $v (`mask` `(` $mask^ `)`)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def BitNet_Conv2DOp : BitNet_Op<"conv2d"> {
  let summary = "convolution with ternary or binary weights";
  let description = [{
    Codes of `x` as `bitnet.quantize` makes them of `x` as a `B x (C*H*W)` matrix, so `per_token` is one scale a sample.
    For each output pixel, `acc[b][f][i][j] = sum w[f][c, u, v] * code[b][g*C/G + c][i*sh + u*dh - top][j*sw + v*dw -
    left]` (exact, i32) over the `C/G` channels of the group `g = f / (F/G)` and the kernel, codes beyond the edges
    counting 0. Then scales and bias as in `bitnet.linear`, with the rows of the weight as outputs.

    C1: `x` is `BxCxHxW` with static C, H and W; `y` is `BxFxHOxWO` with the sizes that the window gives.
    C2: `w` is `F x (C/G * kh * kw)`, columns in the order channel, row, column of the kernel. C3: `kernel`, `strides`
    and `dilations` are two positive numbers, `padding` is four that are not negative (top, left, bottom, right), all
    below 2^31.
    C4: `groups` divides C and F. C5: scale, bias and number of columns as in `bitnet.linear`; no groups of columns.

    Example:

    ```mlir
    %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
         scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, padding = array<i64: 1, 1, 1, 1>}
       : (tensor<?x16x28x28xf32>, tensor<32x144xi2>, tensor<1xf32>) -> tensor<?x32x28x28xf32>
    ```
  }];
  let arguments = (ins BitNet_Activations:$x, BitNet_WeightBits:$w, RankedTensorOf<[F32]>:$scale,
                       Optional<RankedTensorOf<[F32]>>:$bias, BitNet_ActQuantAttr:$activation,
                       BitNet_ScalesAttr:$scales,
                       DefaultValuedAttr<BitNet_DirectionAttr, "Direction::Multiply">:$direction,
                       DenseI64ArrayAttr:$kernel, DefaultValuedAttr<DenseI64ArrayAttr, "{1, 1}">:$strides,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{0, 0, 0, 0}">:$padding,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{1, 1}">:$dilations,
                       DefaultValuedAttr<I64Attr, "1">:$groups);
  let results = (outs BitNet_Activations:$y);
  let extraClassDeclaration = [{
    /// Rows (0) or columns (1) of the output.
    int64_t getOutputSize(int64_t axis) {
      int64_t span = (getKernel()[axis] - 1) * getDilations()[axis] + 1;
      int64_t size = ::llvm::cast<::mlir::ShapedType>(getX().getType()).getDimSize(2 + axis);
      int64_t room = size + getPadding()[axis] + getPadding()[2 + axis] - span;
      return room < 0 ? 0 : room / getStrides()[axis] + 1;
    }
  }];
  let assemblyFormat = [{
    $x `,` $w `scale` `(` $scale `)` (`bias` `(` $bias^ `)`)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif // SETUN_BITNET_OPS_TD
