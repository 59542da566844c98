//===- Interpreter.cpp - slow and obvious evaluation of modules ------------------===//
#include "lib/Reference/Interpreter.h"

#include "lib/Reference/Formulas.h"

#include "dialects/BitNet/BitNet.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "llvm/Support/FormatVariadic.h"

#include <cstring>

using namespace mlir;
using namespace setun;
using namespace setun::reference;

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

Tensor reference::makeFloats(MLIRContext *context, ArrayRef<float> values, ArrayRef<int64_t> shape) {
  Tensor result(Float32Type::get(context), shape);
  assert(static_cast<int64_t>(values.size()) == result.size() && "shape does not fit");
  std::copy(values.begin(), values.end(), result.mutableData<float>());
  return result;
}

void reference::writeCache(const Tensor &rows, int64_t pos, function_ref<int64_t(int64_t, int64_t, int64_t)> index,
                           Tensor &cache) {
  bool narrow = rows.elementType().isF32() && cache.elementType().isF16();
  int64_t from = 0;
  for (int64_t t = 0; t < rows.dim(0); ++t)
    for (int64_t head = 0; head < rows.dim(1); ++head)
      for (int64_t i = 0; i < rows.dim(2); ++i, ++from) {
        int64_t to = index(pos + t, head, i);
        if (narrow)
          cache.mutableData<uint16_t>()[to] = cacheF16(rows.data<float>()[from]);
        else
          cache.copyElement(to, rows, from);
      }
}

void reference::softmaxRows(const Tensor &x, Tensor &y) {
  int64_t size = x.dim(x.rank() - 1);
  for (int64_t i = 0; size && i < x.size(); i += size)
    softmaxRow(size, x.data<float>() + i, y.mutableData<float>() + i);
}

LogicalResult reference::attendBatch(Operation *op, float scale, bool causal, const Tensor &q, const Tensor &k,
                                     const Tensor &v, const Tensor *mask, Tensor &o) {
  if (k.dim(0) != q.dim(0) || v.shape() != k.shape())
    return op->emitOpError() << "expects keys and values of one shape for " << q.dim(0) << " samples, got "
                             << k.typeString() << " and " << v.typeString();
  if (mask && ((mask->dim(0) != 1 && mask->dim(0) != q.dim(0)) || mask->dim(2) != q.dim(1) ||
               (mask->dim(1) != 1 && mask->dim(1) != q.dim(2)) || mask->dim(3) != k.dim(1)))
    return op->emitOpError() << "expects a mask that fits " << q.typeString() << " and " << k.typeString() << ", got "
                             << mask->typeString();
  AttentionShape shape = {q.dim(1), q.dim(2), k.dim(2), q.dim(3), 0, k.dim(1), causal, scale};
  int64_t queries = q.dim(1) * q.dim(2) * q.dim(3), keys = k.dim(1) * k.dim(2) * k.dim(3);
  auto keyIndex = [&](int64_t row, int64_t head, int64_t i) { return (row * k.dim(2) + head) * k.dim(3) + i; };
  for (int64_t b = 0; b < q.dim(0); ++b) {
    auto added = [&](int64_t head, int64_t token, int64_t row) {
      Shape at = {mask->dim(0) == 1 ? 0 : b, mask->dim(1) == 1 ? 0 : head, token, row};
      return mask->data<float>()[flatten(at, mask->shape())];
    };
    llvm::function_ref<float(int64_t, int64_t, int64_t)> bias = nullptr;
    if (mask)
      bias = added;
    attention(shape, q.data<float>() + b * queries, k.data<float>() + b * keys, keyIndex, v.data<float>() + b * keys,
              o.mutableData<float>() + b * queries, bias);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

const Evaluator *EvaluatorTable::find(Operation *op) const {
  auto it = evaluators.find(op->getName().getTypeID());
  if (it != evaluators.end())
    return &it->second;
  return isa<linalg::LinalgOp>(op) ? &structured : nullptr;
}

const Tensor &Frame::get(mlir::Value value) {
  auto it = values.find(value);
  assert(it != values.end() && "operands are evaluated before their users");
  return it->second;
}

/// The values whose last use in the block is by (something inside) the operation.
static llvm::DenseMap<Operation *, SmallVector<mlir::Value>> lastUses(Block &block) {
  llvm::DenseMap<mlir::Value, Operation *> last;
  for (Operation &op : block)
    op.walk([&](Operation *inner) {
      for (mlir::Value operand : inner->getOperands())
        last[operand] = &op;
    });
  llvm::DenseMap<Operation *, SmallVector<mlir::Value>> result;
  for (auto [value, op] : last)
    result[op].push_back(value);
  return result;
}

LogicalResult Frame::evaluate(Block &block, SmallVectorImpl<Tensor> &results, bool release) {
  llvm::DenseMap<Operation *, SmallVector<mlir::Value>> dying;
  if (release)
    dying = lastUses(block);
  for (Operation &op : block) {
    // Weights are read when first used, so that only a layer's worth is held.
    if (release)
      for (mlir::Value operand : op.getOperands())
        if (!has(operand) && operand.getDefiningOp<bitnet::WeightOp>() &&
            failed(run.evaluate(operand.getDefiningOp(), *this)))
          return failure();
    if (op.hasTrait<OpTrait::IsTerminator>()) {
      results.clear();
      for (mlir::Value operand : op.getOperands())
        results.push_back(get(operand));
      return success();
    }
    bool usedDirectly = llvm::all_of(op.getUsers(), [&](Operation *user) { return user->getBlock() == &block; });
    if (release && isa<bitnet::WeightOp>(op) && usedDirectly)
      continue;
    if (failed(run.evaluate(&op, *this)))
      return failure();
    for (mlir::Value value : dying.lookup(&op))
      erase(value);
  }
  return success();
}

Run::Run(ModuleOp module, const Options &options) : module(module), options(options) {
  addBitNetEvaluators(table);
  addTernaryEvaluators(table);
  addHeadEvaluators(table);
  addArithEvaluators(table);
  addTensorEvaluators(table);
}

LogicalResult Run::evaluate(Operation *op, Frame &frame) {
  const Evaluator *evaluator = table.find(op);
  if (!evaluator)
    return op->emitOpError() << "is not supported by the reference interpreter";
  auto supported = [](Type type) {
    Type element = getElementTypeOrSelf(type);
    return !isa<BaseMemRefType>(type) && Tensor::supports(element);
  };
  for (Type type : op->getResultTypes())
    if (!supported(type))
      return op->emitOpError() << "has a result of type " << type
                               << ", which the reference interpreter does not support";
  for (Type type : op->getOperandTypes())
    if (!supported(type))
      return op->emitOpError() << "has an operand of type " << type
                               << ", which the reference interpreter does not support";
  if (failed((*evaluator)(op, frame)))
    return failure();
  for (mlir::Value result : op->getResults())
    if (!frame.get(result).conformsTo(result.getType()))
      return op->emitOpError() << "gives " << frame.get(result).typeString() << " for its result of type "
                               << result.getType();
  return success();
}

LogicalResult Run::call(func::FuncOp fn, ArrayRef<Tensor> args, SmallVectorImpl<Tensor> &results) {
  if (fn.isExternal())
    return fn.emitOpError() << "has no body to interpret";
  if (!fn.getBody().hasOneBlock())
    return fn.emitOpError() << "has control flow, which the reference interpreter does not support";
  if (++depth > 256)
    return fn.emitOpError() << "is called too deeply";
  Frame frame(*this);
  for (auto [argument, value] : llvm::zip(fn.getArguments(), args))
    frame.set(argument, value);
  LogicalResult status = frame.evaluate(fn.getBody().front(), results, /*release=*/true);
  --depth;
  return status;
}

void Run::recordProbe(StringRef weight, const Tensor *codes, const Tensor &acc) {
  std::string layer = weight.str();
  if (weight.consume_back(".weight"))
    layer = weight.str();
  if (layer.empty())
    layer = "linear" + std::to_string(linearCount);
  ++linearCount;
  if (int64_t runs = ++layerRuns[layer]; runs > 1)
    layer += "#" + std::to_string(runs);
  if (codes)
    probes.push_back({"probe." + layer + ".codes", *codes});
  probes.push_back({"probe." + layer + ".acc", acc});
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

namespace {
/// Finds the arguments of an entry point among the named inputs.
class Binder {
public:
  Binder(func::FuncOp fn, ArrayRef<NamedTensor> inputs, const Options &options)
      : fn(fn), inputs(inputs), options(options), args(fn.getNumArguments()) {}

  llvm::Expected<std::vector<Tensor>> bind() {
    llvm::StringMap<bool> known;
    // Given tensors first: they say what the symbols are.
    for (unsigned i = 0; i < fn.getNumArguments(); ++i) {
      if (fn.getArgAttr(i, bitnet::kPositionAttr)) {
        args[i] = Tensor::scalar(fn.getArgumentTypes()[i], options.position);
        continue;
      }
      std::string name = argumentName(i);
      if (!known.insert({name, true}).second)
        return fail("two arguments of @" + fn.getName() + " are named '" + name + "'");
      for (const NamedTensor &input : inputs)
        if (input.name == name)
          if (llvm::Error error = take(i, name, input.value))
            return std::move(error);
    }
    for (const NamedTensor &input : inputs)
      if (!known.count(input.name))
        return fail("@" + fn.getName() + " has no input '" + input.name + "'; it has " +
                    (known.empty() ? std::string("none") : llvm::join(known.keys(), ", ")));
    for (unsigned i = 0; i < fn.getNumArguments(); ++i)
      if (!args[i].elementType())
        if (llvm::Error error = makeState(i))
          return std::move(error);
    return std::move(args);
  }

private:
  std::string argumentName(unsigned i) {
    for (StringRef attr : {bitnet::kNameAttr, bitnet::kStateAttr})
      if (auto name = fn.getArgAttrOfType<StringAttr>(i, attr))
        return name.str();
    return "arg" + std::to_string(i);
  }

  /// Symbols of the dynamic dimensions of an argument.
  SmallVector<StringRef> symbolsOf(unsigned i) {
    SmallVector<StringRef> result;
    if (auto names = fn.getArgAttrOfType<ArrayAttr>(i, bitnet::kDimsAttr))
      for (auto name : names.getAsRange<StringAttr>())
        result.push_back(name.getValue());
    return result;
  }

  llvm::Error take(unsigned i, StringRef name, const Tensor &value) {
    Type type = fn.getArgumentTypes()[i];
    std::string typeText;
    llvm::raw_string_ostream(typeText) << type;
    if (args[i].elementType())
      return fail("input '" + name + "' is given twice");
    if (!value.conformsTo(type))
      return fail("input '" + name + "': expects " + typeText + ", got " + value.typeString());
    args[i] = value;
    auto shaped = dyn_cast<ShapedType>(type);
    SmallVector<StringRef> symbols = symbolsOf(i);
    size_t next = 0;
    for (int64_t axis = 0; shaped && axis < shaped.getRank(); ++axis) {
      if (!shaped.isDynamicDim(axis) || next >= symbols.size())
        continue;
      StringRef symbol = symbols[next++];
      auto [it, isNew] = sizes.insert({symbol, value.dim(axis)});
      if (!isNew && it->second != value.dim(axis))
        return fail(llvm::formatv("input '{0}': expects {1} = {2} as in other inputs, got {3}", name, symbol,
                                  it->second, value.dim(axis)));
    }
    return llvm::Error::success();
  }

  llvm::Error makeState(unsigned i) {
    auto state = fn.getArgAttrOfType<StringAttr>(i, bitnet::kStateAttr);
    auto type = dyn_cast<RankedTensorType>(fn.getArgumentTypes()[i]);
    if (!state || !type || !Tensor::supports(type.getElementType()))
      return fail("input '" + argumentName(i) + "' of @" + fn.getName() + " is missing");
    int64_t capacity = options.position + (sizes.count("T") ? sizes["T"] : 0);
    if (auto limit = fn->getAttrOfType<IntegerAttr>(bitnet::kMaxContextAttr))
      capacity = limit.getInt();
    capacity = options.context.value_or(capacity);
    Shape shape(type.getShape().begin(), type.getShape().end());
    SmallVector<StringRef> symbols = symbolsOf(i);
    size_t next = 0;
    int64_t elements = 1;
    for (int64_t &dim : shape) {
      if (ShapedType::isDynamic(dim)) {
        StringRef symbol = next < symbols.size() ? symbols[next++] : "";
        dim = symbol.empty() ? capacity : sizes.insert({symbol, capacity}).first->second;
      }
      if (dim < 0 || llvm::MulOverflow(elements, dim, elements) || elements > (int64_t(1) << 36))
        return fail("state '" + state.getValue() + "' is too large for a context of " + llvm::Twine(capacity));
    }
    args[i] = Tensor(type.getElementType(), shape);
    return llvm::Error::success();
  }

  func::FuncOp fn;
  ArrayRef<NamedTensor> inputs;
  const Options &options;
  std::vector<Tensor> args;
  llvm::StringMap<int64_t> sizes;
};
} // namespace

llvm::Expected<std::vector<NamedTensor>> reference::interpret(ModuleOp module, StringRef entry,
                                                              ArrayRef<NamedTensor> inputs, const Options &options) {
  auto fn = module.lookupSymbol<func::FuncOp>(entry);
  if (!fn)
    return fail("there is no function @" + entry);
  llvm::Expected<std::vector<Tensor>> args = Binder(fn, inputs, options).bind();
  if (!args)
    return args.takeError();
  Run run(module, options);
  SmallVector<Tensor> values;
  if (failed(run.call(fn, *args, values)))
    return fail("cannot interpret @" + entry);
  std::vector<NamedTensor> results;
  for (auto [i, value] : llvm::enumerate(values)) {
    std::string name = "result" + std::to_string(i);
    for (StringRef attr : {bitnet::kNameAttr, bitnet::kStateAttr})
      if (auto given = fn.getResultAttrOfType<StringAttr>(i, attr))
        name = given.str();
    results.push_back({name, value});
  }
  results.insert(results.end(), run.probes.begin(), run.probes.end());
  return results;
}
