//===- setun-opt.cpp - runs passes on modules, for tests and exploration ---------===//
#include "lib/Reference/Interpret.h"
#include "passes/Dialects.h"

#include "mlir/Dialect/Linalg/TransformOps/DialectExtension.h"
#include "mlir/Dialect/Transform/IR/TransformDialect.h"
#include "mlir/Dialect/Transform/Transforms/Passes.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  setun::registerDialects(registry);
  setun::registerPasses();
  // Transform scripts work on our operations through their interfaces.
  registry.insert<mlir::transform::TransformDialect>();
  mlir::linalg::registerTransformDialectExtension(registry);
  mlir::transform::registerTransformPasses();
  for (int i = 1; i < argc; ++i)
    if (llvm::StringRef(argv[i]) == "--interpret" || llvm::StringRef(argv[i]) == "-interpret")
      return setun::interpretMain(argc, argv, registry);
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Setun optimizer driver\n", registry));
}
