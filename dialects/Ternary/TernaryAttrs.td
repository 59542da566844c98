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
  let summary = "byte layout of packed ternary or binary weights";
  let description = [{
    `r16k4f4`: ternary, 2 bits, panels of 64 rows (4 fields of 16 lanes), 4 columns a step, 64 bytes a step.
    `r16k4f8`: binary, 1 bit, panels of 128 rows (8 fields of 16 lanes). `order = gated`: rows of two matrices of
    `rows / 2` rows each, half a panel of either at a time. See `include/setun/Packing.h`.

    C1: rows and columns are positive. C2: a gated layout has an even number of rows.
  }];
  let parameters = (ins EnumParameter<Ternary_Packing>:$packing, "int64_t":$rows, "int64_t":$cols,
                        DefaultValuedParameter<"::mlir::ternary::RowOrder", "RowOrder::Linear">:$order);
  let assemblyFormat = "`<` $packing `,` `rows` `=` $rows `,` `cols` `=` $cols (`,` `order` `=` $order^)? `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    bool isBinary() const { return getPacking() == Packing::R16K4F8; }
    int64_t getFields() const { return isBinary() ? 8 : 4; }
    int64_t getPanelRows() const { return getFields() * 16; }
    /// Rows that one panel adds to the output: half of them for a gated layout.
    int64_t getOutputRowsPerPanel() const { return getOrder() == RowOrder::Gated ? getPanelRows() / 2 : getPanelRows(); }
    int64_t getOutputRows() const { return getOrder() == RowOrder::Gated ? getRows() / 2 : getRows(); }
    int64_t getPanels() const {
      return (getOutputRows() + getOutputRowsPerPanel() - 1) / getOutputRowsPerPanel();
    }
    int64_t getSteps() const { return (getCols() + 3) / 4; }
    int64_t getBytes() const { return getPanels() * getSteps() * 64; }
    int64_t getPaddedCols() const { return getSteps() * 4; }
  }];
}

def Ternary_KernelAttr : AttrDef<Ternary_Dialect, "Kernel"> {
  let mnemonic = "kernel";
  let summary = "row of the kernel table and its tile";
  let description = [{
    The name of a row of `lib/Target/Kernels.def` and the number of tokens that the inner loop computes at once.

    C1: the row exists. C2: at least one token.
  }];
  let parameters = (ins StringRefParameter<>:$row, "int64_t":$tokens);
  let assemblyFormat = "`<` $row `,` `tokens` `=` $tokens `>`";
  let genVerifyDecl = 1;
}

#endif // SETUN_TERNARY_ATTRS_TD
