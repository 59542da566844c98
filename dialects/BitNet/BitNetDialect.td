//===- BitNetDialect.td - the bitnet dialect -----------------------*- tablegen -*-===//
#ifndef SETUN_BITNET_DIALECT_TD
#define SETUN_BITNET_DIALECT_TD

include "mlir/IR/OpBase.td"

def BitNet_Dialect : Dialect {
  let name = "bitnet";
  let cppNamespace = "::mlir::bitnet";
  let summary = "what a 1-bit or 1.58-bit network computes, in the words of the papers";
  let description = [{
    `bitnet` operations work on tensors and have value semantics. They say what is computed (BitNet, arXiv 2310.11453;
    BitNet b1.58, arXiv 2402.17764), never how: layouts, kernels and tiles belong to the `ternary` dialect.

    Ternary weights are `tensor<NxKxi2>` with values -1, 0, +1 (never -2); binary weights are `tensor<NxKxi1>` where bit
    1 means +1 and bit 0 means -1. Sub-byte tensors are values only: they never live in memory in that form.

    **Floats have a stated order.** Every float operation is an IEEE single operation rounded to nearest even, never
    fused, in the order that the operation's formula states. Two sums occur:
    * `sum16(v)`: lane `l` of 16 adds `v[l], v[l+16], v[l+32], ...` in this order, starting from +0; lanes are then
      added as `l` with `l+8`, then `l+4`, `l+2`, `l+1`. Missing elements of the last step count as +0.
    * `seq(v)`: `((+0 + v[0]) + v[1]) + ...`.
    `exp` is the polynomial of `include/setun/Exp.h`; `bitnet.math` computes what `include/setun/Math.h` says. Upstream
    structured operations reduce by lanes, as `sum16`, where the innermost loop reduces a tensor
    (`dialects/BitNet/ReductionOrder.h`), else in the order of their loops, as `seq`. So results are the same bits on
    every target, thread count and batch.

    Where an operation asks for static sizes, they are at least 1.

    Attributes of functions and arguments that describe entry points (`bitnet.entry`, `bitnet.name`, `bitnet.dims`,
    `bitnet.state`, `bitnet.position`, `bitnet.reset`, `bitnet.max_context`) are described in `docs/contracts.md`.
  }];
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect"];
  let hasConstantMaterializer = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
}

#endif // SETUN_BITNET_DIALECT_TD
