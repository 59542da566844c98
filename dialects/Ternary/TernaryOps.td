//===- TernaryOps.td - operations of the ternary dialect -----------*- tablegen -*-===//
#ifndef SETUN_TERNARY_OPS_TD
#define SETUN_TERNARY_OPS_TD

include "dialects/Ternary/TernaryAttrs.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/TilingInterface.td"

class Ternary_Op<string mnemonic, list<Trait> traits = []> : Op<Ternary_Dialect, mnemonic, traits>;

class Ternary_Shaped<list<Type> types> : ShapedContainerType<types,
    Or<[IsRankedTensorTypePred, IsMemRefTypePred]>, "ranked tensor or memref", "::mlir::ShapedType">;
def Ternary_F32 : Ternary_Shaped<[F32]>;
def Ternary_I32 : Ternary_Shaped<[I32]>;
def Ternary_I8 : Ternary_Shaped<[I8]>;
def Ternary_I64 : Ternary_Shaped<[I64]>;
def Ternary_Float : Ternary_Shaped<[F32, F16, BF16]>;
/// Gains of a norm: f32, or bf16 where that is as exact.
def Ternary_Gain : Ternary_Shaped<[F32, BF16]>;
def Ternary_Cache : Ternary_Shaped<[F32, F16]>;
def Ternary_Input : Ternary_Shaped<[I8, F32]>;
def Ternary_Acc : Ternary_Shaped<[I32, F32]>;

/// Vectors of one axis.
class Ternary_Vector<list<int> lengths, Type element>
    : Type<And<[VectorOfRankAndType<[1], [element]>.predicate, VectorOfLengthAndType<lengths, [element]>.predicate]>,
           VectorOfLengthAndType<lengths, [element]>.summary, "::mlir::VectorType">;

/// Operations in destination style: the last operands are written; on tensors they have one result each.
def Ternary_PureSemantics : NativeOpTrait<"PureSemantics"> {
  let cppNamespace = "::mlir::ternary";
}
class Ternary_DpsOp<string mnemonic, list<Trait> traits = []> : Ternary_Op<mnemonic, !listconcat(
    [DestinationStyleOpInterface, DeclareOpInterfaceMethods<MemoryEffectsOpInterface>, Ternary_PureSemantics], traits)> {
  let results = (outs Variadic<AnyRankedTensor>:$results);
  string dpsInits = "";
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable();
  }];
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

def Ternary_PackOp : Ternary_Op<"pack", [Pure]> {
  let summary = "packs weights into bytes";
  let description = [{
    The rows of all operands, one below the other, in the byte layout `layout`. Folds on constants.

    C1: operands have rank 2, static shape, one element type and `cols` columns; together they have `rows` rows.
    C2: `r16k4f4` and `r16k4t5` pack i2, `r16k4f8` i1, `r16k4i8` i8. C3: the result holds the layout's number of bytes.
    C4: a gated layout takes two operands of the same shape.

    Example:

    ```mlir
    %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<2048xi8>
    ```
  }];
  let arguments = (ins Variadic<RankedTensorOf<[I<2>, I1, I8]>>:$weights, Ternary_LayoutAttr:$layout);
  let results = (outs RankedTensorOf<[I8]>:$packed);
  let assemblyFormat = "$weights attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Ternary_PackScalesOp : Ternary_Op<"pack_scales", [Pure]> {
  let summary = "one multiplying scale per packed row and group";
  let description = [{
    Expands the scale of each packed matrix to one f32 per packed row (and group), `tensor<PxGxRxf32>` for P panels of R
    rows; a dividing scale becomes its reciprocal; padding rows get 0. Folds on constants.

    C1: one scale, granularity and direction per matrix, the scale in the shape that its granularity asks for;
    `row_counts` are positive and add up to the layout's rows.
    C2: all granularities are `group` with the same group, or none is. C3: the result has shape PxGxR.

    Example:

    ```mlir
    %s = ternary.pack_scales %a {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 96>,
         scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<2x1x64xf32>
    ```
  }];
  let arguments = (ins Variadic<RankedTensorOf<[F32]>>:$inputs, Ternary_LayoutAttr:$layout, DenseI64ArrayAttr:$row_counts,
                       TypedArrayAttrBase<BitNet_ScalesAttr, "granularities">:$scales,
                       TypedArrayAttrBase<BitNet_DirectionAttr, "directions">:$directions);
  let results = (outs RankedTensorOf<[F32]>:$packed);
  let assemblyFormat = "$inputs attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Ternary_SectionOp : Ternary_Op<"section", [Pure]> {
  let summary = "tensor (after bufferisation memref) at an offset of the package's weights section";
  let description = [{
    C1: the offset is a multiple of 64 and not negative. C2: the shape is static.

    Example:

    ```mlir
    %p = ternary.section {offset = 4096} : tensor<2048xi8>
    ```
  }];
  let arguments = (ins I64Attr:$offset);
  let results = (outs AnyTypeOf<[AnyRankedTensor, AnyMemRef]>:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Compute
//===----------------------------------------------------------------------===//

def Ternary_QuantizeOp : Ternary_DpsOp<"quantize", [AttrSizedOperandSegments]> {
  let summary = "normalisation and activation quantisation in one pass";
  let description = [{
    `x' = norm(x)`, then `bitnet.quantize`: codes padded with zero columns to a multiple of 4. With `group = g` there is
    a sum for each group of `g` consecutive codes. With one token, the first lines of `ahead` are asked for meanwhile:
    weights that the thread reads next.

    C1: `x` is `TxK` with static K, codes `T x 4*ceil(K/4)`. C2: scale is T or 1, sums T, with groups `TxG`.
    C3: gain and shift are K and need `norm`. C4: the group is a positive multiple of 4. C5: `ahead` is of rank 1.

    Example:

    ```mlir
    ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
      : (memref<?x66xf32>, memref<?x68xi8>, memref<?xf32>, memref<?xi32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Optional<Ternary_Gain>:$norm_weight, Optional<Ternary_F32>:$norm_bias,
                       Optional<MemRefOf<[I8]>>:$ahead, Ternary_I8:$codes, Ternary_F32:$scale, Ternary_I32:$sums,
                       BitNet_ActQuantAttr:$activation, OptionalAttr<BitNet_NormAttr>:$norm,
                       OptionalAttr<I64Attr>:$group);
  let assemblyFormat = [{
    $x (`norm_weight` `(` $norm_weight^ `)`)? (`norm_bias` `(` $norm_bias^ `)`)? (`ahead` `(` $ahead^ `)`)?
    `outs` `(` $codes `,` $scale `,` $sums `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_MatmulOp : Ternary_DpsOp<"matmul", [AttrSizedOperandSegments,
    DeclareOpInterfaceMethods<TilingInterface, ["getLoopIteratorTypes", "getIterationDomain", "getTiledImplementation",
                                                "getResultTilePosition"]>]> {
  let summary = "packed matmul of few bits with its epilogue";
  let description = [{
    `acc[t][n] = sum_k x[t][k] * w[n][k]` (exact i32 for i8 codes, `seq_k` in f32 otherwise), written to `acc` if given.
    If `y` is given: `v = f32(acc) * (act_scale[t] * row_scales[n])` (with groups `seq_g(f32(acc_g) * row_scales[n][g]) *
    act_scale[t]`), `v = v + bias[n]` (`before_scale`: added to `f32(acc)`), epilogue `relu2` or `silu` over the gate and
    up halves of a gated layout, or the `activation`, a function of `bitnet.math`; `v = residual[t][n] + v`.

    C1: `x` is `T x 4*ceil(K/4)` for codes, `TxK` for f32. C2: packed bytes match the layout, row scales are PxGxR,
    or PxGx1 where all rows of a panel have the same.
    C3: codes come with sums (T, or with groups also `TxG`), f32 with neither sums nor act_scale. C4: at least one of `y` and `acc`.
    C5: relu2 and silu need a gated layout, and a gated layout needs one of them if `y` is given.
    C6: `y` and residual are `T x output rows`, `acc` is `T x rows` or, with groups, `T x rows x G`.
    C7: bias is `rows` and is not combined with a gated layout; `before_scale` needs a bias and no groups.
    C8: the group is a positive multiple of 4. C9: K times the largest code product fits i32.
    C10: an activation needs `y` and no gated layout. C11: scratch is memory of the thread's own, for kernels that look
    sums up: rank 1 and of dynamic size. C12: `taken` is rank 2, of a dynamic number of rows and fixed columns.
    C13: `ahead` is of rank 1 and fixed size.

    `taken` are counters that are 0 at the start, the first of each row, and a row for each thread: how much of that
    thread's share of one token's work is taken, by the thread itself or by one that is done with its own. With one
    token, `ahead` is asked for meanwhile: what the operation behind the next barrier reads.

    Example:

    ```mlir
    ternary.matmul %q, %p, %ws act_scale(%s) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
      : (memref<?x64xi8>, memref<2048xi8>, memref<2x1x64xf32>, memref<?xf32>, memref<?xi32>, memref<?x96xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_Input:$x, Ternary_I8:$packed, Ternary_F32:$row_scales,
                       Optional<Ternary_F32>:$act_scale, Optional<Ternary_I32>:$sums, Optional<Ternary_F32>:$bias,
                       Optional<Ternary_F32>:$residual, Optional<MemRefOf<[I8]>>:$scratch,
                       Optional<MemRefOf<[I64]>>:$taken, Optional<MemRefOf<[I8]>>:$ahead, Optional<Ternary_F32>:$y,
                       Optional<Ternary_Acc>:$acc,
                       Ternary_LayoutAttr:$layout, OptionalAttr<I64Attr>:$group,
                       DefaultValuedAttr<Ternary_EpilogueAttr, "Epilogue::None">:$epilogue,
                       OptionalAttr<BitNet_FunctionAttr>:$activation,
                       DefaultValuedAttr<BitNet_BiasPlaceAttr, "::mlir::bitnet::BiasPlace::AfterScale">:$bias_place,
                       OptionalAttr<Ternary_KernelAttr>:$kernel);
  let assemblyFormat = [{
    $x `,` $packed `,` $row_scales (`act_scale` `(` $act_scale^ `)`)? (`sums` `(` $sums^ `)`)? (`bias` `(` $bias^ `)`)?
    (`residual` `(` $residual^ `)`)? (`scratch` `(` $scratch^ `)`)? (`taken` `(` $taken^ `)`)? (`ahead` `(` $ahead^ `)`)?
    (`outs` `(` $y^ `)`)? (`acc_outs` `(` $acc^ `)`)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable();
    int64_t getGroups() {
      int64_t group = getGroup().value_or(0);
      return ::mlir::bitnet::groupCount(getLayout().getCols(), group);
    }
    /// Whether all rows of a panel have the same scale.
    bool hasPanelScales() {
      auto type = ::llvm::cast<::mlir::ShapedType>(getRowScales().getType());
      return type.hasRank() && type.getRank() == 3 && type.getDimSize(2) == 1;
    }
  }];
}

def Ternary_DenseOp : Ternary_DpsOp<"dense"> {
  let summary = "full-precision matmul";
  let description = [{
    `bitnet.dense` on rows as they are stored.

    C1: `x` is `TxK`, `w` is `NxK`, `y` is `TxN`, K and N static. C2: bias is N.

    Example:

    ```mlir
    ternary.dense %x, %w outs(%y) : (memref<?x64xf32>, memref<1000x64xbf16>, memref<?x1000xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_Float:$w, Optional<Ternary_F32>:$bias, Ternary_F32:$y);
  let assemblyFormat = [{
    $x `,` $w (`bias` `(` $bias^ `)`)? `outs` `(` $y `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_NormOp : Ternary_DpsOp<"norm", [AttrSizedOperandSegments]> {
  let summary = "normalisation over the last axis";
  let description = [{
    `#bitnet.norm` on each row.

    C1: `x` and `y` are `TxK` with static K, gain and shift K. C2: a gain needs `rms` or `layer`, a shift `layer`.

    Example:

    ```mlir
    ternary.norm %x weight(%g) outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
      : (memref<?x64xf32>, memref<64xf32>, memref<?x64xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Optional<Ternary_Gain>:$weight, Optional<Ternary_F32>:$bias, Ternary_F32:$y,
                       BitNet_NormAttr:$norm);
  let assemblyFormat = [{
    $x (`weight` `(` $weight^ `)`)? (`bias` `(` $bias^ `)`)? `outs` `(` $y `)` attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_RotaryOp : Ternary_DpsOp<"rotary"> {
  let summary = "rotary position embedding";
  let description = [{
    `bitnet.rotary`.

    C1: `x` and `y` have the same shape `TxHxD`, H and D static, D even. C2: tables are `CxD/2`.

    Example:

    ```mlir
    ternary.rotary %x, %cos, %sin, %pos outs(%y)
      : (memref<?x20x128xf32>, memref<4096x64xf32>, memref<4096x64xf32>, i64, memref<?x20x128xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_F32:$cos, Ternary_F32:$sin, I64:$pos, Ternary_F32:$y);
  let assemblyFormat = [{
    $x `,` $cos `,` $sin `,` $pos `outs` `(` $y `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_CacheUpdateOp : Ternary_DpsOp<"cache_update", [AttrSizedOperandSegments]> {
  let summary = "writes rows into a cache in place";
  let description = [{
    `bitnet.cache_update`: the destination holds the old rows, of which those of the new tokens are replaced.

    A `blocked` cache keeps 16 rows together, element by element, so that a vector holds one element of 16 rows: element
    (row, head, i) lies at `((row/16 * H + head) * D + i) * 16 + row%16` of its bytes. Rows may be in the cache's own
    element type, too.

    With `solo`, an update of one row does nothing: the `ternary.attention` that reads the cache has the row as well, and
    writes it. With `rotary` tables, rows are rotated first (`bitnet.rotary`).

    C1: rows and cache agree in heads and head size, which are static. C2: a blocked cache has a multiple of 16 rows.
    C3: rows are f32 or of the cache's element type. C4: tables come together, are `CxD/2` with even D, and rows are f32.

    Example:

    ```mlir
    ternary.cache_update %rows, %pos outs(%cache) {blocked} : (memref<?x5x128xf32>, i64, memref<?x5x128xf16>) -> ()
    ```
  }];
  let arguments = (ins Ternary_Cache:$rows, I64:$pos, Optional<Ternary_F32>:$cos, Optional<Ternary_F32>:$sin,
                       Ternary_Cache:$cache, UnitAttr:$blocked, UnitAttr:$solo);
  let assemblyFormat = [{
    $rows `,` $pos (`rotary` `(` $cos^ `,` $sin `)`)? `outs` `(` $cache `)` attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_AttentionOp : Ternary_DpsOp<"attention", [AttrSizedOperandSegments]> {
  let summary = "grouped-query attention over a cache";
  let description = [{
    `bitnet.attention`. With `blocked`, `k` is a blocked cache (`ternary.cache_update`); kernels need it so.

    With `new`, the caches are destinations, too: if there is exactly one new row, whoever attends a head writes that
    head's part of it into the caches first. So one token needs no barrier between the update of a cache and attention.
    With more rows, the (solo) updates before have written them. Either way the caches hold the new rows afterwards.

    With `rotary` tables, `q` and new keys are rotated first (`bitnet.rotary`).

    With `parts`, one token's sums are not put together here but by `ternary.attention_fold`, so that threads can share
    the ranges of a head: `parts[i][h]` are maximum (16 times), lanes and sums of range i (`m`, `l` and `acc` of
    `bitnet.attention`), for the ranges below L, and `o` is not written. With more tokens `parts` is not written.

    C1: `q` and `o` have the same shape `TxHxD`, `k` and `v` are `CxHKVxD` of one element type, each with a number of
    rows of its own; H, HKV and D are static. C2: H is a multiple of HKV. C3: blocked keys have a multiple of 16 rows.
    C4: new keys and values come together, are `TxHKVxD` of f32, and keys are blocked then. C5: parts are `RxHx(32+D)`.
    C6: tables come together and are `CxD/2` with even D.

    Example:

    ```mlir
    ternary.attention %q, %k, %v, %pos outs(%o) {blocked, causal, scale = 0.088388346 : f32}
      : (memref<?x20x128xf32>, i64, memref<?x5x128xf16>, memref<?x5x128xf16>, memref<?x20x128xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$q, I64:$pos, Optional<Ternary_F32>:$new_k, Optional<Ternary_F32>:$new_v,
                       Optional<Ternary_F32>:$cos, Optional<Ternary_F32>:$sin, Ternary_Cache:$k, Ternary_Cache:$v,
                       Optional<Ternary_F32>:$parts, Ternary_F32:$o, F32Attr:$scale, UnitAttr:$causal,
                       UnitAttr:$blocked);
  let assemblyFormat = [{
    $q `,` $k `,` $v `,` $pos (`new` `(` $new_k^ `,` $new_v `)`)? (`rotary` `(` $cos^ `,` $sin `)`)?
    (`parts` `(` $parts^ `)`)? `outs` `(` $o `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable();
    /// Keys of a range, whose sums are apart, and what stands before the sums in its part: maximum and lanes.
    static constexpr int64_t kRange = 256, kPartHeader = 32;
  }];
}

def Ternary_AttentionFoldOp : Ternary_DpsOp<"attention_fold"> {
  let summary = "one token's attention from the sums of its ranges";
  let description = [{
    The end of `bitnet.attention` for one token at `pos`, from the `parts` of `ternary.attention`: the ranges up to that
    of row `pos` are folded in order. With more tokens, `o` stays what attention has written.

    C1: `o` is `TxHxD`, H and D static, `parts` is `RxHx(32+D)`.

    Example:

    ```mlir
    ternary.attention_fold %parts, %pos outs(%o) : (memref<?x20x160xf32>, i64, memref<?x20x128xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$parts, I64:$pos, Ternary_F32:$o);
  let assemblyFormat = "$parts `,` $pos `outs` `(` $o `)` attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Ternary_BatchAttentionOp : Ternary_DpsOp<"batch_attention"> {
  let summary = "grouped-query attention of a batch, without a cache";
  let description = [{
    `bitnet.batch_attention`.

    C1: `q` and `o` have the same shape `BxTxHxD`, `k` and `v` are `BxSxHKVxD`; H, HKV and D are static. C2: H is a
    multiple of HKV.
    C3: a mask is `B or 1 x H or 1 x T x S`.

    Example:

    ```mlir
    ternary.batch_attention %q, %k, %v outs(%o) {scale = 0.125 : f32}
      : (memref<?x197x6x64xf32>, memref<?x197x6x64xf32>, memref<?x197x6x64xf32>, memref<?x197x6x64xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$q, Ternary_F32:$k, Ternary_F32:$v, Optional<Ternary_F32>:$mask, Ternary_F32:$o,
                       F32Attr:$scale, UnitAttr:$causal);
  let assemblyFormat = [{
    $q `,` $k `,` $v (`mask` `(` $mask^ `)`)? `outs` `(` $o `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_SoftmaxOp : Ternary_DpsOp<"softmax"> {
  let summary = "softmax over the last axis";
  let description = [{
    `bitnet.softmax`.

    C1: `x` and `y` have the same shape, of rank 1 or more.

    Example:

    ```mlir
    ternary.softmax %x outs(%y) : (memref<?x?xf32>, memref<?x?xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_F32:$y);
  let assemblyFormat = "$x `outs` `(` $y `)` attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Ternary_GatedOp : Ternary_DpsOp<"gated"> {
  let summary = "gated activation";
  let description = [{
    `bitnet.gated`.

    C1: all operands have the same shape `TxF` with static F.

    Example:

    ```mlir
    ternary.gated %gate, %up outs(%y) {act = #bitnet.gate_act<silu>}
      : (memref<?x6912xf32>, memref<?x6912xf32>, memref<?x6912xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$gate, Ternary_F32:$up, Ternary_F32:$y, BitNet_GateActAttr:$act);
  let assemblyFormat = [{
    $gate `,` $up `outs` `(` $y `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_EmbeddingOp : Ternary_DpsOp<"embedding"> {
  let summary = "rows of a table";
  let description = [{
    `bitnet.embedding` on the rows that `ternary.dense` reads, so that a tied head and the embedding share their bytes.

    C1: `table` is `VxH` with static V and H, tokens T, `y` is `TxH`.

    Example:

    ```mlir
    ternary.embedding %table, %tokens outs(%y) : (memref<1000x64xbf16>, memref<?xi64>, memref<?x64xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_Float:$table, Ternary_I64:$tokens, Ternary_F32:$y);
  let assemblyFormat = [{
    $table `,` $tokens `outs` `(` $y `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_HadamardOp : Ternary_DpsOp<"hadamard"> {
  let summary = "blockwise Walsh-Hadamard transform";
  let description = [{
    `bitnet.hadamard`.

    C1: `x` and `y` have the same shape `TxK` with static K. C2: `block` is a power of two that divides K.

    Example:

    ```mlir
    ternary.hadamard %x outs(%y) {block = 64} : (memref<?x128xf32>, memref<?x128xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_F32:$y, I64Attr:$block);
  let assemblyFormat = [{
    $x `outs` `(` $y `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Choice of the largest logits (bitnet.top_k) by scan and exact re-score
//===----------------------------------------------------------------------===//

def Ternary_PackHeadOp : Ternary_Op<"pack_head", [Pure]> {
  let summary = "scan planes of a full-precision matrix";
  let description = [{
    The planes of `include/setun/HeadPlanes.h`: coarse codes, their scales, the description of the rows in the coarse
    plane, fine codes, and the description of the rows in the fine plane.

    C1: `w` is `NxK` static with K of at most 65,536. C2: the results have the sizes of the layout: `P*G*256` and
    `P*G*16` bytes, `Px3x32`, `N x 128*ceil(K/512)` bytes and `Nx8` with `P = ceil(N/32)` and `G = ceil(K/16)`.

    Example:

    ```mlir
    %c, %s, %r, %f, %fr = ternary.pack_head %w : tensor<40x64xbf16>
      -> tensor<2048xi8>, tensor<128xi8>, tensor<2x3x32xf32>, tensor<2x40x64xi8>, tensor<40x8xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32, F16, BF16]>:$w);
  let results = (outs RankedTensorOf<[I8]>:$codes, RankedTensorOf<[I8]>:$scales, RankedTensorOf<[F32]>:$coarse,
                      RankedTensorOf<[I8]>:$fine, RankedTensorOf<[F32]>:$fine_rows);
  let assemblyFormat = [{
    $w attr-dict `:` type($w) `->` type($codes) `,` type($scales) `,` type($coarse) `,` type($fine) `,` type($fine_rows)
  }];
  let hasVerifier = 1;
}

def Ternary_HeadQuantizeOp : Ternary_DpsOp<"head_quantize"> {
  let summary = "codes of the vector that a head is multiplied with, and what their error can do";
  let description = [{
    `m = max|x|`; if m is in [2^-100, 2^100]: `a = m / 127`, `q = clamp(rhe(x * (127 / m)), -127, 127)`, else both are 0
    (a NaN in x has code -127). Codes are padded with zeros to a multiple of 512. `sums[g]` is the sum of the codes of
    group g of 16 columns, `sums[G]` that of all.

    `params = [a, alpha, beta, eta]`: with f64 sums (16 lanes, as sum16) of squares H of x, Q of a*q and E of x - a*q,
    `alpha = max(sqrt(Q) * (1 + 2^-16), 2^-100)`,
    `beta = max((sqrt(E) + sqrt(H) * (K/16 + 64) * 2^-23) * (1 + 2^-16), 2^-100)`,
    `eta = (a + 1) * ((K + 64) * 2^-147)`, in f64, each rounded to f32 once. Unless `H <= 2^200`: a is 0, the others are
    infinite. What they bound: `passes/TileHead.cpp`.

    C1: `x` is `1xK` with static K of at most 65,536, codes `512*ceil(K/512)`. C2: sums are `ceil(K/16) + 1`, params 4.

    Example:

    ```mlir
    ternary.head_quantize %x outs(%q, %sums, %params)
      : (memref<1x64xf32>, memref<512xi8>, memref<5xi32>, memref<4xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_I8:$q, Ternary_I32:$sums, Ternary_F32:$params);
  let assemblyFormat = [{
    $x `outs` `(` $q `,` $sums `,` $params `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_HeadScanOp : Ternary_DpsOp<"head_scan"> {
  let summary = "approximate logits of all rows, and their upper bounds";
  let description = [{
    `approx[r] = (f32(sum_g scale[r][g] * sum_{k in g} code[r][k] * q[k]) * step[r]) * a`, the sums exact in i32;
    `upper[r] = approx[r] + (alpha * residual[r] + (beta * norm[r] + eta))`; both -infinity for padding rows.
    `maxima[p]` is the largest `approx` of panel p: of lane l and lane 16 + l, then the tree of sum16.

    C1: the planes have the sizes of the layout for `rows` and `cols`; codes, sums and params as in `head_quantize`.
    C2: `approx` and `upper` are `1 x 32*P`, `maxima` is P. C3: `taken` as in `matmul`.

    Example:

    ```mlir
    ternary.head_scan %q, %sums, %params, %c, %s, %r outs(%approx, %upper, %maxima) {rows = 40, cols = 64}
      : (memref<512xi8>, memref<5xi32>, memref<4xf32>, memref<2048xi8>, memref<128xi8>, memref<2x3x32xf32>,
         memref<1x64xf32>, memref<1x64xf32>, memref<2xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_I8:$q, Ternary_I32:$sums, Ternary_F32:$params, Ternary_I8:$codes, Ternary_I8:$scales,
                       Ternary_F32:$coarse, Optional<MemRefOf<[I64]>>:$taken, Ternary_F32:$approx, Ternary_F32:$upper,
                       Ternary_F32:$maxima, I64Attr:$rows, I64Attr:$cols, OptionalAttr<Ternary_KernelAttr>:$kernel);
  let assemblyFormat = [{
    $q `,` $sums `,` $params `,` $codes `,` $scales `,` $coarse (`taken` `(` $taken^ `)`)? `outs` `(` $approx `,` $upper
    `,` $maxima `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_HeadCandidatesOp : Ternary_DpsOp<"head_candidates"> {
  let summary = "exact logits of the rows that look best";
  let description = [{
    `exact[i]` for `i < k`: the logit, as `bitnet.dense` has it, of the i-th most promising row, or -infinity if there
    are fewer; a NaN counts as -infinity. The rows are those with the k largest `approx` if there are fewer than `4*L`
    panels; else of each of the k panels with the largest `maxima` the first row that has the maximum.

    C1: `x` is `1xK`, `w` is `NxK`, `approx` is `1 x 32*P`, `maxima` is P with `P = ceil(N/32)`. C2: `k` is 1 element,
    `exact` has L in [1, 64].

    Example:

    ```mlir
    ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%exact) : (memref<1x64xf32>, memref<40x64xbf16>,
      memref<1x64xf32>, memref<2xf32>, memref<1xi64>, memref<8xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_Float:$w, Ternary_F32:$approx, Ternary_F32:$maxima, Ternary_I64:$k,
                       Ternary_F32:$exact);
  let assemblyFormat = [{
    $x `,` $w `,` $approx `,` $maxima `,` $k `outs` `(` $exact `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_HeadRescoreOp : Ternary_DpsOp<"head_rescore"> {
  let summary = "exact logits of all rows that may be among the best";
  let description = [{
    With `least = min(candidates[i], i < k)` (infinity if k is 0): a row survives unless `upper[r] < least`; a survivor's
    first bits of the columns k < K_s, for each of the five stages s in turn (the last alone in a block of 2,048 rows of
    which more than 1,024 survive), give
    `better = approx[r] + (f32(2 * sum_k (2 * first[r][k] - 1) * q[k]) * delta[r]) * a`, and it survives these unless
    `better + (alpha * residual_s[r] + (beta * norm[r] + eta)) < least`; both bits of all columns give
    `better = approx[r] + (f32(sum_k (2 * fine[r][k] - 3) * q[k]) * delta[r]) * a`, and unless
    `better + (alpha * fine_residual[r] + (beta * norm[r] + eta)) < least` the row's logit, as `bitnet.dense` has it, is
    `exact[r]`. All other rows have -infinity. `maxima[p]` is the largest `exact` of panel p, NaN counting as -infinity.

    C1: as in `head_scan` and `head_candidates`; fine codes `2 x N x 64*ceil(K/512)` and their rows `Nx8`.
    C2: `exact` is `1 x 32*P`, `maxima` is P. C3: `taken` as in `matmul`.

    Example:

    ```mlir
    ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %candidates, %k, %f, %fr outs(%exact, %maxima)
      : (memref<1x64xf32>, memref<40x64xbf16>, memref<512xi8>, memref<5xi32>, memref<4xf32>, memref<1x64xf32>,
         memref<1x64xf32>, memref<8xf32>, memref<1xi64>, memref<2x40x64xi8>, memref<40x8xf32>, memref<1x64xf32>,
         memref<2xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$x, Ternary_Float:$w, Ternary_I8:$q, Ternary_I32:$sums, Ternary_F32:$params,
                       Ternary_F32:$approx, Ternary_F32:$upper, Ternary_F32:$candidates, Ternary_I64:$k,
                       Ternary_I8:$fine, Ternary_F32:$fine_rows, Optional<MemRefOf<[I64]>>:$taken,
                       Ternary_F32:$exact, Ternary_F32:$maxima, OptionalAttr<Ternary_KernelAttr>:$kernel);
  let assemblyFormat = [{
    $x `,` $w `,` $q `,` $sums `,` $params `,` $approx `,` $upper `,` $candidates `,` $k `,` $fine `,` $fine_rows
    (`taken` `(` $taken^ `)`)? `outs` `(` $exact `,` $maxima `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Ternary_HeadSelectOp : Ternary_DpsOp<"head_select"> {
  let summary = "the largest of a row of logits";
  let description = [{
    The choice of `bitnet.top_k` among the first `rows` elements of `logits`. Where `maxima` are given, one of each 32
    elements, panels that cannot hold any of the largest are passed over.

    C1: `logits` is `1xM` with M of at least `rows`. C2: `maxima` is `ceil(rows/32)`. C3: `k` is 1 element, `ids` and
    `best` have the same length in [1, 64].

    Example:

    ```mlir
    ternary.head_select %logits, %k maxima(%m) outs(%ids, %best) {rows = 40}
      : (memref<1x64xf32>, memref<1xi64>, memref<2xf32>, memref<8xi64>, memref<8xf32>) -> ()
    ```
  }];
  let arguments = (ins Ternary_F32:$logits, Ternary_I64:$k, Optional<Ternary_F32>:$maxima, Ternary_I64:$ids,
                       Ternary_F32:$best, I64Attr:$rows);
  let assemblyFormat = [{
    $logits `,` $k (`maxima` `(` $maxima^ `)`)? `outs` `(` $ids `,` $best `)` attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Vectors and threads
//===----------------------------------------------------------------------===//

def Ternary_UnpackOp : Ternary_Op<"unpack", [Pure, AllTypesMatch<["bytes", "codes"]>]> {
  let summary = "weight codes of one field of packed bytes";
  let description = [{
    Isolated: `codes = (bytes >> (bits * field)) & (2^bits - 1)`. With `cumulative`: `codes = bytes & (2^(bits * (field +
    1)) - 1)`, the field together with all lower ones; a kernel that sums these solves a triangular system at the end.

    C1: bits is 1, 2 or 4 and the field lies within the byte.

    Example:

    ```mlir
    %u = ternary.unpack %b {field = 1, bits = 2} : vector<64xi8>
    ```
  }];
  let arguments = (ins Ternary_Vector<[16, 32, 64], I8>:$bytes, I64Attr:$field, I64Attr:$bits,
                       UnitAttr:$cumulative);
  let results = (outs Ternary_Vector<[16, 32, 64], I8>:$codes);
  let assemblyFormat = "$bytes attr-dict `:` type($bytes)";
  let hasVerifier = 1;
}

class Ternary_TritOp<string mnemonic> : Ternary_Op<mnemonic, [Pure, AllTypesMatch<["bytes", "result"]>]> {
  let arguments = (ins Ternary_Vector<[16, 32, 64], I8>:$bytes, I64Attr:$divisor);
  let results = (outs Ternary_Vector<[16, 32, 64], I8>:$result);
  let assemblyFormat = "$bytes attr-dict `:` type($bytes)";
  let hasVerifier = 1;
}

def Ternary_TritsBelowOp : Ternary_TritOp<"trits_below"> {
  let summary = "the trits of a byte below one of them";
  let description = [{
    `result = bytes mod divisor` for unsigned bytes below `3 * divisor`.

    C1: the divisor is the place of a trit: 3, 9, 28 or 84.

    Example:

    ```mlir
    %low = ternary.trits_below %b {divisor = 84} : vector<64xi8>
    ```
  }];
}

def Ternary_TopTritOp : Ternary_TritOp<"top_trit"> {
  let summary = "the highest trit of a byte";
  let description = [{
    `result = bytes / divisor` for unsigned bytes below `3 * divisor`: 0, 1 or 2.

    C1: the divisor is the place of a trit: 3, 9, 28 or 84.

    Example:

    ```mlir
    %t4 = ternary.top_trit %b {divisor = 84} : vector<64xi8>
    ```
  }];
}

def Ternary_LookUpBytesOp : Ternary_Op<"look_up_bytes", [Pure, AllTypesMatch<["bytes", "result"]>]> {
  let summary = "bytes from a table of 64, by six bits";
  let description = [{
    `result[i] = table[bytes[i] >> shift & 63]`.

    C1: the table has 64 entries. C2: the shift is 0, 1 or 2.

    Example:

    ```mlir
    %f = ternary.look_up_bytes %b {shift = 2, table = array<i8:
      0, 1, 2, 4, 5, 6, 8, 9, 10, 16, 17, 18, 20, 21, 22, 24, 25, 26, 32, 33, 34, 36,
      37, 38, 40, 41, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : vector<64xi8>
    ```
  }];
  let arguments = (ins Ternary_Vector<[16, 32, 64], I8>:$bytes, DenseI8ArrayAttr:$table,
                       DefaultValuedAttr<I64Attr, "0">:$shift);
  let results = (outs Ternary_Vector<[16, 32, 64], I8>:$result);
  let assemblyFormat = "$bytes attr-dict `:` type($bytes)";
  let hasVerifier = 1;
}

def Ternary_DotOp : Ternary_Op<"dot", [Pure, AllTypesMatch<["acc", "result"]>, AllTypesMatch<["u", "s"]>]> {
  let summary = "four-way dot products of unsigned and signed bytes";
  let description = [{
    `result[i] = acc[i] + sum_{j<4} zext(u[4i+j]) * sext(s[4i+j])` in i32, exact. `max_code` bounds every `u`, so that a
    target with 16-bit partial sums can prove that none wraps: it lowers this op only if `2 * max_code * 128 <= 32767`.
    With `signed_codes`, `u` is read as signed, too, and `max_code` bounds its magnitude.

    C1: `max_code` is in [1, 255], with `signed_codes` in [1, 128]. C2: the accumulator has a quarter as many lanes as
    there are bytes, and is scalable if they are.

    Example:

    ```mlir
    %r = ternary.dot %acc, %u, %s {max_code = 3} : vector<16xi32>, vector<64xi8>
    ```
  }];
  let arguments = (ins Ternary_Vector<[4, 8, 16], I32>:$acc, Ternary_Vector<[16, 32, 64], I8>:$u,
                       Ternary_Vector<[16, 32, 64], I8>:$s, I64Attr:$max_code, UnitAttr:$signed_codes);
  let results = (outs Ternary_Vector<[4, 8, 16], I32>:$result);
  let assemblyFormat = "$acc `,` $u `,` $s attr-dict `:` type($acc) `,` type($u)";
  let hasVerifier = 1;
}

def Ternary_MatrixDotOp : Ternary_Op<"matrix_dot", [Pure, AllTypesMatch<["acc", "result"]>, AllTypesMatch<["u", "s"]>]> {
  let summary = "products of 2 x 8 weight codes and 8 x 2 activation codes";
  let description = [{
    `result[2i+j] = acc[2i+j] + sum_{k<8} zext(u[8i+k]) * sext(s[8j+k])` for i, j < 2, in i32, exact: two rows of weights
    by two tokens. `max_code` and `signed_codes` are as in `ternary.dot`.

    C1: `max_code` is in [1, 255], with `signed_codes` in [1, 128].

    Example:

    ```mlir
    %r = ternary.matrix_dot %acc, %u, %s {max_code = 170} : vector<4xi32>, vector<16xi8>
    ```
  }];
  let arguments = (ins Ternary_Vector<[4], I32>:$acc, Ternary_Vector<[16], I8>:$u,
                       Ternary_Vector<[16], I8>:$s, I64Attr:$max_code, UnitAttr:$signed_codes);
  let results = (outs Ternary_Vector<[4], I32>:$result);
  let assemblyFormat = "$acc `,` $u `,` $s attr-dict `:` type($acc) `,` type($u)";
  let hasVerifier = 1;
}

def Ternary_MultiplyAddOp : Ternary_Op<"multiply_add",
    [Pure, AllTypesMatch<["acc", "result"]>, AllTypesMatch<["u", "s"]>]> {
  let summary = "products of unsigned and signed bytes added in 16 bits";
  let description = [{
    `result[i] = acc[i] + zext(u[i]) * sext(s[i])` in i16. One step adds at most `max_code * 128` to a lane; the loop
    around it widens the lanes before `steps` of them could wrap.

    C1: `max_code` and `steps` are positive and `steps * max_code * 128 <= 32767`.
    C2: there are as many lanes as bytes.

    Example:

    ```mlir
    %r = ternary.multiply_add %acc, %u, %s {max_code = 2, steps = 127} : vector<16xi16>, vector<16xi8>
    ```
  }];
  let arguments = (ins Ternary_Vector<[16, 32, 64], I16>:$acc, Ternary_Vector<[16, 32, 64], I8>:$u,
                       Ternary_Vector<[16, 32, 64], I8>:$s, I64Attr:$max_code, I64Attr:$steps);
  let results = (outs Ternary_Vector<[16, 32, 64], I16>:$result);
  let assemblyFormat = "$acc `,` $u `,` $s attr-dict `:` type($acc) `,` type($u)";
  let hasVerifier = 1;
}

def Ternary_DotPairsOp : Ternary_Op<"dot_pairs",
    [Pure, AllTypesMatch<["acc", "result"]>, AllTypesMatch<["u", "s"]>]> {
  let summary = "two-way dot products of unsigned and signed bytes in 16 bits";
  let description = [{
    `result[i] = acc[i] + zext(u[2i]) * sext(s[2i]) + zext(u[2i+1]) * sext(s[2i+1])` in i16. One step adds at most
    `2 * max_code * 128` to a lane; the loop around it widens the lanes before `steps` of them could wrap.

    C1: `max_code` and `steps` are positive and `steps * 2 * max_code * 128 <= 32767`.
    C2: the accumulator has half as many lanes as there are bytes.

    Example:

    ```mlir
    %r = ternary.dot_pairs %acc, %u, %s {max_code = 2, steps = 63} : vector<32xi16>, vector<64xi8>
    ```
  }];
  let arguments = (ins Ternary_Vector<[8, 16, 32], I16>:$acc, Ternary_Vector<[16, 32, 64], I8>:$u,
                       Ternary_Vector<[16, 32, 64], I8>:$s, I64Attr:$max_code, I64Attr:$steps);
  let results = (outs Ternary_Vector<[8, 16, 32], I16>:$result);
  let assemblyFormat = "$acc `,` $u `,` $s attr-dict `:` type($acc) `,` type($u)";
  let hasVerifier = 1;
}

def Ternary_DotTilesOp : Ternary_Op<"dot_tiles", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "dot products of many tokens with unpacked operands, by tiles";
  let description = [{
    For each token `m < tokens`, field `f`, lane `r < 16` and step `s < blocks * width`, in i32, exact:
    `sums[row + m][panel][f][r] += sum_{j<4} zext(u[f][step + s][4r + j]) * sext(x[token + m][column + 4s + j])`.

    `tokens` is in [1, 32], `width` (the steps that a tile holds) in [1, 16], `blocks` is not negative. Reads and writes
    nothing else, so that tiles may end where the buffers do. With `signed_codes`, `u` is read as signed, too.

    C1: `x` has rank 2 and rows without gaps. C2: `u` is `F x S x 64` and `sums` is `T x P x F x 16`, both static
    and without gaps.

    Example:

    ```mlir
    ternary.dot_tiles %x[%token, %column], %u[%step], %sums[%row, %panel] tokens(%n) blocks(%k) width(%w)
      : memref<?x64xi8>, memref<4x128x64xi8>, memref<128x1x4x16xi32>
    ```
  }];
  let arguments = (ins MemRefOf<[I8]>:$x, Index:$token, Index:$column, MemRefOf<[I8]>:$u, Index:$step,
                       MemRefOf<[I32]>:$sums, Index:$row, Index:$panel, Index:$tokens, Index:$blocks, Index:$width,
                       UnitAttr:$signed_codes);
  let assemblyFormat = [{
    $x `[` $token `,` $column `]` `,` $u `[` $step `]` `,` $sums `[` $row `,` $panel `]` `tokens` `(` $tokens `)`
    `blocks` `(` $blocks `)` `width` `(` $width `)` attr-dict `:` type($x) `,` type($u) `,` type($sums)
  }];
  let hasVerifier = 1;
}

def Ternary_AddPairsOp : Ternary_Op<"add_pairs", [Pure, AllTypesMatch<["acc", "result"]>]> {
  let summary = "widens neighbouring 16-bit sums into 32 bits";
  let description = [{
    `result[i] = acc[i] + sum_{j<n} sext(pairs[n*i+j])` in i32: what ends a run of `ternary.dot_pairs` (n = 2) or of
    `ternary.multiply_add` (n = 4).

    C1: there are two or four times as many 16-bit sums as lanes.

    Example:

    ```mlir
    %r = ternary.add_pairs %acc, %pairs : vector<16xi32>, vector<32xi16>
    ```
  }];
  let arguments = (ins Ternary_Vector<[4, 8, 16, 32], I32>:$acc,
                       Ternary_Vector<[8, 16, 32, 64], I16>:$pairs);
  let results = (outs Ternary_Vector<[4, 8, 16, 32], I32>:$result);
  let assemblyFormat = "$acc `,` $pairs attr-dict `:` type($acc) `,` type($pairs)";
  let hasVerifier = 1;
}

def Ternary_LookUpOp : Ternary_Op<"look_up", [Pure, AllTypesMatch<["indices", "low", "high", "result"]>]> {
  let summary = "looks words up in two tables";
  let description = [{
    `result[i] = (indices[i] & 32 ? high : low)[indices[i] & 31]`. Other bits of the indices do not count.

    Example:

    ```mlir
    %r = ternary.look_up %i, %low, %high : vector<32xi16>
    ```
  }];
  let arguments = (ins Ternary_Vector<[32], I16>:$indices, Ternary_Vector<[32], I16>:$low,
                       Ternary_Vector<[32], I16>:$high);
  let results = (outs Ternary_Vector<[32], I16>:$result);
  let assemblyFormat = "$indices `,` $low `,` $high attr-dict `:` type($result)";
}

def Ternary_FenceOp : Ternary_Op<"fence", [Pure, DeclareOpInterfaceMethods<InferTypeOpInterface>]> {
  let summary = "keeps instructions before it from those behind";
  let description = [{
    The results are the operands. On targets for which the order of instructions was chosen, what computes the operands
    is issued before all that uses the results: code generators, which sort by a model of the CPU, do not see through it.
    It is no instruction itself.

    Example:

    ```mlir
    %r:2 = ternary.fence %a, %b : vector<32xi16>, vector<32xi16>
    ```
  }];
  let arguments = (ins Variadic<AnyVectorOfNonZeroRank>:$values);
  let results = (outs Variadic<AnyVectorOfNonZeroRank>:$results);
  let assemblyFormat = "$values attr-dict `:` type($values)";
}

def Ternary_BarrierOp : Ternary_Op<"barrier", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "waits for all worker threads";
  let description = [{
    Every thread of the invocation reaches the barrier before any leaves it. With `tokens`, only if one of these numbers,
    which are the same for all threads, is other than 1: what lies before is then made by each thread for itself.

    Example:

    ```mlir
    ternary.barrier
    ternary.barrier unless_one(%t)
    ```
  }];
  let arguments = (ins Variadic<Index>:$tokens);
  let assemblyFormat = "(`unless_one` `(` $tokens^ `)`)? attr-dict";
}

#endif // SETUN_TERNARY_OPS_TD
