//===- Diagnostics.h - messages of a compilation -------------------*- C++ -*-===//
#ifndef SETUN_LIB_DRIVER_DIAGNOSTICS_H
#define SETUN_LIB_DRIVER_DIAGNOSTICS_H

#include "setun/Compiler.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/SourceMgr.h"

#include <memory>
#include <mutex>

namespace setun {

/// Hands messages to the caller's callback and keeps them for the result; a remark once, however often it is made.
class DiagnosticLog {
public:
  DiagnosticLog(const CompileOptions &options, CompileResult &result) : options(options), result(result) {}

  void error(const llvm::Twine &message);
  void warning(const llvm::Twine &message);
  void add(mlir::Diagnostic &diagnostic);
  /// An error that only says where earlier ones came from: `message` becomes an error if there was none yet, else
  /// both are notes.
  void failure(const llvm::Twine &message, const llvm::Twine &hint);
  bool hasErrors() const { return errors != 0; }

  /// The text that locations in `name` refer to; it lives as long as `sources`.
  void setSource(llvm::StringRef name, llvm::StringRef text);
  void keepAlive(std::shared_ptr<llvm::SourceMgr> sources) { this->sources = std::move(sources); }

private:
  Diagnostic convert(mlir::Diagnostic &diagnostic);
  void report(Diagnostic diagnostic);

  const CompileOptions &options;
  CompileResult &result;
  std::mutex mutex;
  unsigned errors = 0;
  std::string sourceName;
  llvm::StringRef source;
  std::shared_ptr<llvm::SourceMgr> sources;
};

} // namespace setun

#endif // SETUN_LIB_DRIVER_DIAGNOSTICS_H
