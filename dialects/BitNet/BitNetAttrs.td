//===- BitNetAttrs.td - attributes of the bitnet dialect -----------*- tablegen -*-===//
#ifndef SETUN_BITNET_ATTRS_TD
#define SETUN_BITNET_ATTRS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "dialects/BitNet/BitNetDialect.td"

class BitNet_Attr<string name, string mnem, list<Trait> traits = []> : AttrDef<BitNet_Dialect, name, traits> {
  let mnemonic = mnem;
}

class BitNet_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::bitnet";
  let genSpecializedAttr = 0;
}
class BitNet_EnumAttr<EnumInfo info, string mnem> : EnumAttr<BitNet_Dialect, info, mnem> {
  let assemblyFormat = "`<` $value `>`";
}

def BitNet_ActGranularity : BitNet_Enum<"ActGranularity", "what shares one activation scale", [
  I32EnumAttrCase<"PerToken", 0, "per_token">, I32EnumAttrCase<"PerTensor", 1, "per_tensor">]>;
def BitNet_NormKind : BitNet_Enum<"NormKind", "normalisation over the last axis", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Rms", 1, "rms">, I32EnumAttrCase<"Layer", 2, "layer">]>;
def BitNet_ScaleKind : BitNet_Enum<"ScaleKind", "what shares one weight scale", [
  I32EnumAttrCase<"Tensor", 0, "tensor">, I32EnumAttrCase<"Rows", 1, "rows">, I32EnumAttrCase<"Group", 2, "group">]>;

def BitNet_Direction : BitNet_Enum<"Direction", "whether the stored weight scale multiplies or divides", [
  I32EnumAttrCase<"Multiply", 0, "multiply">, I32EnumAttrCase<"Divide", 1, "divide">]>;
def BitNet_DirectionAttr : BitNet_EnumAttr<BitNet_Direction, "direction">;
def BitNet_BiasPlace : BitNet_Enum<"BiasPlace", "where the bias is added", [
  I32EnumAttrCase<"AfterScale", 0, "after_scale">, I32EnumAttrCase<"BeforeScale", 1, "before_scale">]>;
def BitNet_BiasPlaceAttr : BitNet_EnumAttr<BitNet_BiasPlace, "bias_place">;
def BitNet_WeightQuant : BitNet_Enum<"WeightQuant", "weight quantiser", [
  I32EnumAttrCase<"Absmean", 0, "absmean">, I32EnumAttrCase<"Sign", 1, "sign">,
  I32EnumAttrCase<"Absmax", 2, "absmax">]>;
def BitNet_WeightQuantAttr : BitNet_EnumAttr<BitNet_WeightQuant, "weight_quant">;
def BitNet_GateAct : BitNet_Enum<"GateAct", "activation of a gated unit", [
  I32EnumAttrCase<"Relu2", 0, "relu2">, I32EnumAttrCase<"Silu", 1, "silu">]>;
def BitNet_GateActAttr : BitNet_EnumAttr<BitNet_GateAct, "gate_act">;

def BitNet_Function : BitNet_Enum<"Function", "function of one number, as include/setun/Math.h computes it", [
  I32EnumAttrCase<"Exp", 0, "exp">, I32EnumAttrCase<"Exp2", 1, "exp2">, I32EnumAttrCase<"Expm1", 2, "expm1">,
  I32EnumAttrCase<"Log", 3, "log">, I32EnumAttrCase<"Log2", 4, "log2">, I32EnumAttrCase<"Log10", 5, "log10">,
  I32EnumAttrCase<"Log1p", 6, "log1p">, I32EnumAttrCase<"Sin", 7, "sin">, I32EnumAttrCase<"Cos", 8, "cos">,
  I32EnumAttrCase<"Tan", 9, "tan">, I32EnumAttrCase<"Atan", 10, "atan">, I32EnumAttrCase<"Sinh", 11, "sinh">,
  I32EnumAttrCase<"Cosh", 12, "cosh">, I32EnumAttrCase<"Tanh", 13, "tanh">, I32EnumAttrCase<"Erf", 14, "erf">,
  I32EnumAttrCase<"Rsqrt", 15, "rsqrt">, I32EnumAttrCase<"Floor", 16, "floor">, I32EnumAttrCase<"Ceil", 17, "ceil">,
  I32EnumAttrCase<"Trunc", 18, "trunc">, I32EnumAttrCase<"Round", 19, "round">,
  I32EnumAttrCase<"RoundEven", 20, "round_even">, I32EnumAttrCase<"Relu", 21, "relu">,
  I32EnumAttrCase<"Sigmoid", 22, "sigmoid">, I32EnumAttrCase<"Silu", 23, "silu">, I32EnumAttrCase<"Gelu", 24, "gelu">,
  I32EnumAttrCase<"GeluTanh", 25, "gelu_tanh">]>;
def BitNet_FunctionAttr : BitNet_EnumAttr<BitNet_Function, "function">;

def BitNet_ActQuantAttr : BitNet_Attr<"ActQuant", "act_quant"> {
  let summary = "absmax activation quantiser";
  let description = [{
    `q = clamp(rhe(x * s), -2^(bits-1), 2^(bits-1) - 1)` with `s = (1 / max(absmax(x), eps)) * (2^(bits-1) - 1)`; the
    maximum is over a token (last axis) or over the whole tensor; `rhe` rounds half to even. The division and the
    product are two roundings, as in the training code (`127 / t` is a reciprocal and a product in PyTorch).

    C1: `bits` is in [2, 8]. C2: `eps` is finite and greater than 0.
  }];
  let parameters = (ins EnumParameter<BitNet_ActGranularity>:$granularity, "unsigned":$bits, "::mlir::FloatAttr":$eps);
  let assemblyFormat = "`<` $granularity `,` `bits` `=` $bits `,` `eps` `=` custom<F32>($eps) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    int64_t getQMax() const { return (int64_t(1) << (getBits() - 1)) - 1; }
    int64_t getQMin() const { return -(int64_t(1) << (getBits() - 1)); }
    float getEpsValue() const { return getEps().getValue().convertToFloat(); }
  }];
}

def BitNet_NormAttr : BitNet_Attr<"Norm", "norm"> {
  let summary = "normalisation inside a layer";
  let description = [{
    `rms`: `(x * (1 / sqrt(sum16(x*x) / K + eps))) * g`. `layer`: `d = x - sum16(x) / K`,
    `(d * (1 / sqrt(sum16(d*d) / K + eps))) * g + b`. Gain and shift are left out where absent.

    C1: `eps` is finite and not negative.
  }];
  let parameters = (ins EnumParameter<BitNet_NormKind>:$kind, "::mlir::FloatAttr":$eps);
  let assemblyFormat = "`<` $kind `,` `eps` `=` custom<F32>($eps) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    float getEpsValue() const { return getEps().getValue().convertToFloat(); }
  }];
}

def BitNet_ScalesAttr : BitNet_Attr<"Scales", "scales"> {
  let summary = "granularity of weight scales";
  let description = [{
    `<tensor>`: one scale, `tensor<1xf32>`. `<rows = [n0, n1, ...]>`: one scale per contiguous range of output rows,
    `tensor<Rxf32>`; `<rows>`: one scale per row, `tensor<Nxf32>`. `<group = g>`: one scale per row and per group of
    `g` consecutive inputs, `tensor<NxGxf32>` with `G = ceil(K / g)`.

    C1: row counts are positive. C2: the group is a positive multiple of 4.
  }];
  let parameters = (ins EnumParameter<BitNet_ScaleKind>:$kind, OptionalArrayRefParameter<"int64_t">:$rows,
                        DefaultValuedParameter<"int64_t", "0">:$group);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let builders = [AttrBuilder<(ins "ScaleKind":$kind), [{ return $_get($_ctxt, kind, ArrayRef<int64_t>(), 0); }]>];
}

#endif // SETUN_BITNET_ATTRS_TD
