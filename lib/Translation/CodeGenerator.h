//===- CodeGenerator.h - from the LLVM dialect to object code ------*- C++ -*-===//
#ifndef SETUN_LIB_TRANSLATION_CODEGENERATOR_H
#define SETUN_LIB_TRANSLATION_CODEGENERATOR_H

#include "lib/Target/Targets.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include "llvm/Target/TargetMachine.h"

#include <memory>
#include <string>

namespace mlir {
class DialectRegistry;
}

namespace setun {

/// Attribute of LLVM functions whose arguments must stay arguments: not even their ranges may be derived from calls.
inline constexpr llvm::StringLiteral kOpaqueAttr = "setun-opaque";

/// What the context of a module needs for CodeGenerator::translate.
void registerTranslations(mlir::DialectRegistry &registry);

/// Makes the code of one target. Compiled code is self-contained: it calls no library, and its floating-point results
/// are those of the operations as written, on every target.
class CodeGenerator {
public:
  static llvm::Expected<std::unique_ptr<CodeGenerator>> create(const TargetSpec &target);

  /// A module of the LLVM dialect as LLVM IR for this target. Functions named in `exported` stay visible. Null after a
  /// diagnostic.
  std::unique_ptr<llvm::Module> translate(mlir::ModuleOp module, llvm::ArrayRef<std::string> exported);
  /// Runs LLVM's optimiser.
  void optimise(llvm::Module &module);

  enum class Output { Assembly, Object };
  llvm::Error emit(llvm::Module &module, Output output, llvm::SmallVectorImpl<char> &text);

private:
  CodeGenerator() = default;

  TargetSpec target;
  std::unique_ptr<llvm::TargetMachine> machine;
  /// Owns the modules' types; they must not outlive the generator.
  llvm::LLVMContext context;
  std::string errors;
};

} // namespace setun

#endif // SETUN_LIB_TRANSLATION_CODEGENERATOR_H
