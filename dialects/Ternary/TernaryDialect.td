//===- TernaryDialect.td - the ternary dialect ---------------------*- tablegen -*-===//
#ifndef SETUN_TERNARY_DIALECT_TD
#define SETUN_TERNARY_DIALECT_TD

include "mlir/IR/OpBase.td"

def Ternary_Dialect : Dialect {
  let name = "ternary";
  let cppNamespace = "::mlir::ternary";
  let summary = "how a 1-bit or 1.58-bit network is computed";
  let description = [{
    `ternary` operations are in destination style and work on tensors and, after bufferisation, on memrefs. They carry
    every decision that later passes obey: the byte layout of packed weights (`#ternary.layout`, defined byte by byte in
    `include/setun/Packing.h`), the kernel row (`#ternary.kernel`, a row of `lib/Target/Kernels.def`) and its tile, and
    what is fused into prologue and epilogue.

    Packed weights are bytes, `tensor<..xi8>`: there is no i2 in memory. Activation codes are padded with zeros to a
    multiple of 4 columns, so that a step of a kernel may always read four.

    The formulas are those of the `bitnet` operations that an operation stands for, floats in the same stated order.
    Operands and destinations of an operation are all tensors or all memrefs. Where an operation asks for static sizes,
    they are at least 1.
  }];
  let dependentDialects = ["::mlir::bitnet::BitNetDialect", "::mlir::arith::ArithDialect"];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 1;
}

#endif // SETUN_TERNARY_DIALECT_TD
