//===- Passes.h - all passes of the compiler -----------------------*- C++ -*-===//
#ifndef SETUN_PASSES_PASSES_H
#define SETUN_PASSES_PASSES_H

#include "dialects/Ternary/Ternary.h"
#include "passes/WeightStore.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace setun {
struct MatrixShape;

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

/// Packs into `store`; without a store (opt tool) into memory that is dropped at the end.
std::unique_ptr<mlir::Pass> createTernaryPackWeights(std::shared_ptr<WeightStore> store);

/// Reads weights from the store's source; without a store, only constants are recognised.
std::unique_ptr<mlir::Pass> createBitNetRaiseLinear(std::shared_ptr<WeightStore> store);

/// What ternary-select-kernels knows a matrix by (lib/Target/MatrixKernels.h).
MatrixShape matrixShape(mlir::ternary::MatmulOp op);

/// Bytes of memory of its own that each thread needs for a matmul; 0 if none.
int64_t matmulScratchBytes(mlir::ternary::MatmulOp op);

/// setun_invocation of include/setun/EntryABI.h.
mlir::Type invocationType(mlir::MLIRContext *context);

/// Unit attribute of operations that, where they have exactly one token, every thread executes by itself and without a
/// hazard for other threads: into memory of its own, or leaving the work to its consumer. ternary-lower-entries finds
/// more of them.
inline constexpr llvm::StringLiteral kSoloAttr = "solo";
/// Unit attribute of an entry's operations between ternary-lower-entries and ternary-outline-kernels: as only thread if
/// there is one token.
inline constexpr llvm::StringLiteral kAloneAttr = "ternary.alone";
/// The operand whose first dimension counts the tokens of an operation that may be solo.
mlir::Value tokensOperand(mlir::Operation *op);

/// Attribute of kernel functions: the row of the kernel table that lowers their dots.
inline constexpr llvm::StringLiteral kKernelRowAttr = "ternary.kernel_row";
/// Attribute of kernel functions.
inline constexpr llvm::StringLiteral kKernelAttr = "ternary.kernel";
/// Attribute of entry functions between ternary-mark-entries and ternary-lower-entries.
inline constexpr llvm::StringLiteral kAbiAttr = "ternary.abi";
/// Attribute of operations between ternary-describe-operations and ternary-add-marks: their number in the entry.
inline constexpr llvm::StringLiteral kOperationAttr = "ternary.operation";
/// Attribute of entry functions from ternary-describe-operations on: what each number stands for (OperationInfo.h).
inline constexpr llvm::StringLiteral kOperationsAttr = "ternary.operations";
/// Attribute of workspace functions: the messages of an entry's conditions on sizes, by number.
inline constexpr llvm::StringLiteral kConditionsAttr = "ternary.conditions";
/// Attribute of operations on buffers that are to become kernels.
inline constexpr llvm::StringLiteral kComputeAttr = "ternary.compute";

#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"
} // namespace setun

#endif // SETUN_PASSES_PASSES_H
