//===- Interpreter.h - slow and obvious evaluation of modules ------*- C++ -*-===//
//
// Evaluates functions of a module on given inputs, operation by operation. The oracle of all tests: every float
// operation happens in the order that the dialects state, so compiled code must give the same bits.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_REFERENCE_INTERPRETER_H
#define SETUN_LIB_REFERENCE_INTERPRETER_H

#include "lib/Reference/Value.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"

#include <functional>

namespace setun {
class WeightSource;
}

namespace setun::reference {

struct NamedTensor {
  std::string name;
  Tensor value;
};

struct Options {
  /// Values of bitnet.weight; null if the module has none.
  const WeightSource *weights = nullptr;
  /// Value of the position argument.
  int64_t position = 0;
  /// Capacity of states that are not given; else bitnet.max_context, else position + T.
  std::optional<int64_t> context;
  /// Adds to the results, for each bitnet.linear in the order of execution, `probe.<layer>.codes` (i8 [T, K], not for
  /// weight-only layers) and `probe.<layer>.acc` (i32 or f32, [T, N] or [T, N, G]). The layer is the weight's name
  /// without a trailing ".weight"; `linear<number>` if it has none; a layer that runs again gets "#2", "#3", ...
  bool probe = false;
};

/// Runs a function. Inputs and states are found by bitnet.name and bitnet.state (`arg<number>` where there is neither);
/// a state that is not given is zero. Results bear the same kinds of names (`result<number>`). Errors that belong to an
/// operation are also reported as diagnostics at its location.
llvm::Expected<std::vector<NamedTensor>> interpret(mlir::ModuleOp module, llvm::StringRef entry,
                                                   llvm::ArrayRef<NamedTensor> inputs, const Options &options);

//===----------------------------------------------------------------------===//
// For evaluators
//===----------------------------------------------------------------------===//

class Run;

/// Values of one function call.
class Frame {
public:
  explicit Frame(Run &run) : run(run) {}

  const Tensor &get(mlir::Value value);
  /// As a scalar.
  int64_t getInt(mlir::Value value) { return get(value).intAt(0); }
  void set(mlir::Value value, Tensor tensor) { values[value] = std::move(tensor); }
  void erase(mlir::Value value) { values.erase(value); }
  bool has(mlir::Value value) const { return values.count(value); }
  /// Runs a block's operations; gives the operands of its terminator. With `release`, forgets values after their last
  /// use in the block.
  mlir::LogicalResult evaluate(mlir::Block &block, llvm::SmallVectorImpl<Tensor> &results, bool release = false);

  Run &run;
  /// Iteration of the innermost structured operation, for linalg.index.
  Shape iteration;

private:
  llvm::DenseMap<mlir::Value, Tensor> values;
};

using Evaluator = std::function<mlir::LogicalResult(mlir::Operation *, Frame &)>;

/// One evaluator for each kind of operation.
class EvaluatorTable {
public:
  template <typename OpTy, typename Fn> void add(Fn fn) {
    evaluators[mlir::TypeID::get<OpTy>()] = [fn](mlir::Operation *op, Frame &frame) {
      return fn(mlir::cast<OpTy>(op), frame);
    };
  }
  /// For every linalg operation without an evaluator of its own.
  void addStructured(Evaluator evaluator) { structured = std::move(evaluator); }
  const Evaluator *find(mlir::Operation *op) const;

private:
  Evaluator structured;
  llvm::DenseMap<mlir::TypeID, Evaluator> evaluators;
};

void addBitNetEvaluators(EvaluatorTable &table);
void addTernaryEvaluators(EvaluatorTable &table);
void addHeadEvaluators(EvaluatorTable &table);
void addArithEvaluators(EvaluatorTable &table);
void addTensorEvaluators(EvaluatorTable &table);

/// What all frames of one interpretation share.
class Run {
public:
  Run(mlir::ModuleOp module, const Options &options);

  mlir::LogicalResult call(mlir::func::FuncOp fn, llvm::ArrayRef<Tensor> args, llvm::SmallVectorImpl<Tensor> &results);
  /// Runs one operation and checks its results against their types.
  mlir::LogicalResult evaluate(mlir::Operation *op, Frame &frame);
  /// Records codes and accumulators of a layer; `codes` may be null.
  void recordProbe(llvm::StringRef weight, const Tensor *codes, const Tensor &acc);

  mlir::ModuleOp module;
  const Options &options;
  std::vector<NamedTensor> probes;

private:
  EvaluatorTable table;
  int64_t linearCount = 0;
  llvm::StringMap<int64_t> layerRuns;
  int64_t depth = 0;
};

/// A tensor of f32 with the given elements.
Tensor makeFloats(mlir::MLIRContext *context, llvm::ArrayRef<float> values, llvm::ArrayRef<int64_t> shape);
/// Writes `rows` [T][H][D] into a cache at row `pos`, each element where `index` says, in the cache's element type.
void writeCache(const Tensor &rows, int64_t pos,
                llvm::function_ref<int64_t(int64_t row, int64_t head, int64_t i)> index, Tensor &cache);
/// Softmax over the last axis.
void softmaxRows(const Tensor &x, Tensor &y);
/// Attention of each sample of a batch, as bitnet.batch_attention; `mask` may be null. Reports sizes that do not fit.
mlir::LogicalResult attendBatch(mlir::Operation *op, float scale, bool causal, const Tensor &q, const Tensor &k,
                                const Tensor &v, const Tensor *mask, Tensor &o);

} // namespace setun::reference

#endif // SETUN_LIB_REFERENCE_INTERPRETER_H
