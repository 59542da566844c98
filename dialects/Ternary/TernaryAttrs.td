//===- TernaryAttrs.td - attributes of the ternary dialect ---------*- tablegen -*-===//
#ifndef SETUN_TERNARY_ATTRS_TD
#define SETUN_TERNARY_ATTRS_TD

include "dialects/BitNet/BitNetAttrs.td"
include "dialects/Ternary/TernaryDialect.td"
include "dialects/Ternary/TernaryEnums.td"

class Ternary_EnumAttr<EnumInfo info, string mnem> : EnumAttr<Ternary_Dialect, info, mnem> {
  let assemblyFormat = "`<` $value `>`";
}

def Ternary_EpilogueAttr : Ternary_EnumAttr<Ternary_Epilogue, "epilogue">;

def Ternary_LayoutAttr : AttrDef<Ternary_Dialect, "Layout"> {
  let mnemonic = "layout";
  let summary = "byte layout of packed weights";
  let description = [{
    `r16k4f4`: ternary, 2 bits, panels of 64 rows (4 fields of 16 lanes), 4 columns a step, 64 bytes a step. `r16k4s4`:
    the same with the top field in two's complement.
    `r16k4f8`: binary, 1 bit, panels of 128 rows (8 fields of 16 lanes). `r16k4t5`: ternary, 1.6 bits, panels of 80 rows
    (5 trits of a byte in base 3). `r16k4i8`: codes of 8 bits, panels of 16 rows. `order = gated`: rows of two matrices
    of `rows / 2` rows each, half a panel of either at a time, or where a panel has an odd number of fields whole panels
    in turn. See `include/setun/Packing.h`.

    C1: rows and columns are positive, and few enough that all sizes fit 64 bits. C2: a gated layout has an even number
    of rows.
  }];
  let parameters = (ins EnumParameter<Ternary_Packing>:$packing, "int64_t":$rows, "int64_t":$cols,
                        DefaultValuedParameter<"::mlir::ternary::RowOrder", "RowOrder::Linear">:$order);
  let assemblyFormat = "`<` $packing `,` `rows` `=` $rows `,` `cols` `=` $cols (`,` `order` `=` $order^)? `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    bool isBinary() const { return getPacking() == Packing::R16K4F8; }
    bool isBase3() const { return getPacking() == Packing::R16K4T5; }
    bool isBytes() const { return getPacking() == Packing::R16K4I8; }
    bool hasSignedTop() const { return getPacking() == Packing::R16K4S4; }
    int64_t getFields() const { return isBinary() ? 8 : isBase3() ? 5 : isBytes() ? 1 : 4; }
    int64_t getPanelRows() const { return getFields() * 16; }
    /// Gated, with gate and up in panels of their own.
    bool alternates() const { return getOrder() == RowOrder::Gated && getFields() % 2; }
    /// Panels that one piece of output comes from.
    int64_t getPanelsPerUnit() const { return alternates() ? 2 : 1; }
    /// Rows that one unit adds to the output.
    int64_t getOutputRowsPerUnit() const {
      return getOrder() == RowOrder::Gated && !alternates() ? getPanelRows() / 2 : getPanelRows();
    }
    int64_t getOutputRows() const { return getOrder() == RowOrder::Gated ? getRows() / 2 : getRows(); }
    int64_t getUnits() const { return (getOutputRows() + getOutputRowsPerUnit() - 1) / getOutputRowsPerUnit(); }
    int64_t getPanels() const { return getUnits() * getPanelsPerUnit(); }
    int64_t getSteps() const { return (getCols() + 3) / 4; }
    int64_t getBytes() const { return getPanels() * getSteps() * 64; }
    int64_t getPaddedCols() const { return getSteps() * 4; }
  }];
}

def Ternary_KernelAttr : AttrDef<Ternary_Dialect, "Kernel"> {
  let mnemonic = "kernel";
  let summary = "row of the kernel table and its tile";
  let description = [{
    The name of a row of `lib/Target/Kernels.def` and the number of tokens that the inner loop computes at once. From
    `staged` tokens on (0: never), the operands of a piece of a panel are unpacked once into the first cache and used for
    all tokens.

    C1: the row exists. C2: 1 to 16 tokens. C3: `staged` is not negative.
  }];
  let parameters = (ins StringRefParameter<>:$row, "int64_t":$tokens, DefaultValuedParameter<"int64_t", "0">:$staged);
  let assemblyFormat = "`<` $row `,` `tokens` `=` $tokens (`,` `staged` `=` $staged^)? `>`";
  let genVerifyDecl = 1;
}

#endif // SETUN_TERNARY_ATTRS_TD
