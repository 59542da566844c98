//===- TernaryEnums.td - enumerations of the ternary dialect -------*- tablegen -*-===//
#ifndef SETUN_TERNARY_ENUMS_TD
#define SETUN_TERNARY_ENUMS_TD

include "mlir/IR/EnumAttr.td"

class Ternary_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::ternary";
  let genSpecializedAttr = 0;
}
def Ternary_Packing : Ternary_Enum<"Packing", "byte layout of weights", [
  I32EnumAttrCase<"R16K4F4", 0, "r16k4f4">, I32EnumAttrCase<"R16K4F8", 1, "r16k4f8">,
  I32EnumAttrCase<"R16K4T5", 2, "r16k4t5">, I32EnumAttrCase<"R16K4I8", 3, "r16k4i8">,
  I32EnumAttrCase<"R16K4S4", 4, "r16k4s4">]>;
def Ternary_RowOrder : Ternary_Enum<"RowOrder", "order of the rows of a packed matrix", [
  I32EnumAttrCase<"Linear", 0, "linear">, I32EnumAttrCase<"Gated", 1, "gated">]>;

def Ternary_Epilogue : Ternary_Enum<"Epilogue", "what follows the scales in a matmul", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Relu2", 1, "relu2">, I32EnumAttrCase<"Silu", 2, "silu">]>;

#endif // SETUN_TERNARY_ENUMS_TD
