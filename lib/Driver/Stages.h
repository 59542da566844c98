//===- Stages.h - timing and progress of a compilation -------------*- C++ -*-===//
#ifndef SETUN_LIB_DRIVER_STAGES_H
#define SETUN_LIB_DRIVER_STAGES_H

#include "setun/Compiler.h"

#include "mlir/Pass/PassInstrumentation.h"
#include "llvm/ADT/StringRef.h"

#include <chrono>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace setun {

/// Measures stages and tells the caller of their progress. A stage that starts within another interrupts it.
class Stages {
public:
  Stages(const CompileOptions &options, CompileResult &result) : options(options), result(result) {}

  /// Ends its stage when it goes.
  class Running {
  public:
    explicit Running(Stages &stages) : stages(&stages) {}
    Running(Running &&other) : stages(std::exchange(other.stages, nullptr)) {}
    ~Running() {
      if (stages)
        stages->end();
    }

  private:
    Stages *stages;
  };

  [[nodiscard]] Running start(llvm::StringRef name, llvm::StringRef target = "") {
    begin(name, target);
    return Running(*this);
  }
  void begin(llvm::StringRef name, llvm::StringRef target = "");
  void end();
  /// Part of the innermost stage that is done.
  void progress(double fraction);
  llvm::StringRef target() const { return stack.empty() ? llvm::StringRef() : llvm::StringRef(stack.back().target); }

private:
  using Clock = std::chrono::steady_clock;
  struct Stage {
    std::string name, target;
    double reported = 0;
  };

  /// Adds the time since the last call to the innermost stage.
  void account();

  const CompileOptions &options;
  CompileResult &result;
  std::vector<Stage> stack;
  Clock::time_point last;
};

/// Counts packing as a stage of its own, and remembers which pass failed.
class PassWatch : public mlir::PassInstrumentation {
public:
  explicit PassWatch(Stages &stages) : stages(stages) {}

  void runBeforePass(mlir::Pass *pass, mlir::Operation *op) override;
  void runAfterPass(mlir::Pass *pass, mlir::Operation *op) override;
  void runAfterPassFailed(mlir::Pass *pass, mlir::Operation *op) override;

  std::string failedPass;

private:
  Stages &stages;
  /// Function passes run in several threads.
  std::mutex mutex;
};

} // namespace setun

#endif // SETUN_LIB_DRIVER_STAGES_H
