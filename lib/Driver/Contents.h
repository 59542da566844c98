//===- Contents.h - what a package tells about a module ------------*- C++ -*-===//
#ifndef SETUN_LIB_DRIVER_CONTENTS_H
#define SETUN_LIB_DRIVER_CONTENTS_H

#include "lib/Target/MatrixKernels.h"
#include "lib/Target/Targets.h"
#include "passes/EntryInfo.h"
#include "setun/Package.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace setun {

/// An entry point as the manifest describes it. Diagnoses at the function and fails if it cannot be.
mlir::FailureOr<package::EntryDesc> describeEntry(mlir::func::FuncOp func);

/// Takes the table of operations from an entry in the LLVM dialect (`symbol` is its function).
std::vector<package::OperationDesc> takeOperations(mlir::ModuleOp module, llvm::StringRef symbol);

/// Takes the messages of an entry's conditions on sizes from its workspace function in the LLVM dialect (`symbol`).
std::vector<std::string> takeConditions(mlir::ModuleOp module, llvm::StringRef symbol);

/// The layers of a model, collected from the modules of all targets after the kernels have been chosen.
class LayerTable {
public:
  /// Adds what `module` has; layers that are known get this target's kernel. `threads` is for the predictions, and
  /// `kernels` tells what was measured.
  void add(mlir::ModuleOp module, const TargetSpec &target, unsigned threads, llvm::ArrayRef<MatrixKernel> kernels);
  const std::vector<package::LayerInfo> &layers() const { return table; }
  /// Bytes of all layers.
  uint64_t bytes() const;

private:
  /// `kernel` has no name where there is none to choose.
  void add(package::LayerInfo layer, const package::LayerKernel &kernel);

  std::vector<package::LayerInfo> table;
  llvm::StringMap<size_t> byName;
};

/// "F bytes, header XXH3 H": tells weight files apart without reading all of them. The header of a .safetensors file
/// holds the names, types and shapes of its tensors; the values are not hashed.
llvm::Expected<std::string> describeWeightFile(const std::string &path);

} // namespace setun

#endif // SETUN_LIB_DRIVER_CONTENTS_H
