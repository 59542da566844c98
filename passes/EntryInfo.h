//===- EntryInfo.h - what callers see of an entry point ------------*- C++ -*-===//
#ifndef SETUN_PASSES_ENTRYINFO_H
#define SETUN_PASSES_ENTRYINFO_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>

namespace setun {

/// A tensor of an entry point. A dimension is a size, or where it is dynamic the index of a symbol, encoded as -1 - i.
struct EntryTensor {
  std::string name;
  mlir::Type elementType;
  llvm::SmallVector<int64_t> shape;
  /// Inputs that index a table: elements lie in [0, below); 0: no such limit.
  int64_t below = 0;
  /// Index of the function's argument (inputs, states) or result (outputs).
  unsigned index = 0;
};

/// Read from the attributes of docs/contracts.md. Works on functions whose tensors are still tensors.
struct EntryInfo {
  std::string name;
  llvm::SmallVector<EntryTensor> inputs, states, outputs;
  /// Results that carry states, in the order of `states`.
  llvm::SmallVector<unsigned> stateResults;
  /// Symbols in order of first appearance: inputs, then states.
  llvm::SmallVector<std::string> symbols;
  int positionArg = -1;
  bool resets = false;
  int64_t maxContext = 0;
};

/// What of it is kept for after bufferisation: `ternary.abi` of an entry function. The buffers of an entry are its
/// inputs, then its states, then its outputs.
struct EntryAbi {
  /// Of each buffer, with dimensions as in EntryTensor.
  llvm::SmallVector<llvm::SmallVector<int64_t>> shapes;
  /// Numbers of the arguments that are inputs and states, and of the results that are outputs.
  llvm::SmallVector<int64_t> arguments, outputs;
  /// Numbers of the argument and of the result of each state.
  llvm::SmallVector<int64_t> stateArguments, stateResults;
  /// Number of the argument that is the position; -1: none.
  int64_t position = -1;
};
mlir::DictionaryAttr toAttribute(mlir::MLIRContext *context, const EntryAbi &abi);
/// Of a bufferised entry. Diagnoses and fails where the attribute is missing or does not fit the function, and where
/// the function is not one block of operations on buffers.
mlir::FailureOr<EntryAbi> getEntryAbi(mlir::func::FuncOp func);

/// Whether a function begins with the arguments of setun_entry_fn, as ternary-lower-entries leaves it; diagnoses if
/// not.
mlir::LogicalResult verifyLowered(mlir::func::FuncOp func);

/// Names of the LLVM functions of an entry.
std::string entrySymbol(llvm::StringRef entry);     // setun_entry_<name>, a setun_entry_fn
std::string workspaceSymbol(llvm::StringRef entry); // setun_workspace_<name>, a setun_workspace_fn

/// True for functions that are entry points.
bool isEntry(mlir::func::FuncOp func);

/// Diagnoses at the function and fails if attributes are missing or do not fit together.
mlir::FailureOr<EntryInfo> getEntryInfo(mlir::func::FuncOp func);

/// The buffer that a memref is a view of.
mlir::Value rootOf(mlir::Value value);

} // namespace setun

#endif // SETUN_PASSES_ENTRYINFO_H
