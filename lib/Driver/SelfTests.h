//===- SelfTests.h - recorded runs of each kind of kernel ----------*- C++ -*-===//
//
// A package proves at load that its code gives the recorded bytes on the machine at hand. The tests are small networks
// that the driver adds to the module as entry points whose names start with "__"; they pass through the same pipeline
// as the model's own, and what they must give is computed by the reference interpreter.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_DRIVER_SELFTESTS_H
#define SETUN_LIB_DRIVER_SELFTESTS_H

#include "setun/Package.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

#include <vector>

namespace setun {

/// Adds an entry point for each kind of weights that the module's layers have (ternary, binary or bytes; with quantised
/// activations or without; scales by group or not), and one for the choice of the largest logits where the module makes
/// one, and runs them with the interpreter. An error if the module has functions of these names.
llvm::Expected<std::vector<package::SelfTest>> addSelfTests(mlir::ModuleOp module);

} // namespace setun

#endif // SETUN_LIB_DRIVER_SELFTESTS_H
