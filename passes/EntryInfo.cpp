//===- EntryInfo.cpp - what callers see of an entry point ------------------------===//
#include "passes/EntryInfo.h"

#include "passes/Passes.h"

#include "mlir/Interfaces/ViewLikeInterface.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace setun;

Type setun::invocationType(MLIRContext *context) {
  auto ptr = LLVM::LLVMPointerType::get(context);
  Type i32 = IntegerType::get(context, 32), i64 = IntegerType::get(context, 64);
  return LLVM::LLVMStructType::getLiteral(context, {i32, i32, ptr, ptr, ptr, ptr, i64, ptr, ptr, ptr, ptr});
}

Value setun::tokensOperand(Operation *op) {
  auto dps = dyn_cast<DestinationStyleOpInterface>(op);
  if (dps && dps.getNumDpsInits() && isa<linalg::LinalgOp, ternary::EmbeddingOp, ternary::AttentionFoldOp>(op))
    return dps.getDpsInits()[0];
  return op->getNumOperands() ? op->getOperand(0) : Value();
}

std::string setun::entrySymbol(StringRef entry) { return ("setun_entry_" + entry).str(); }
std::string setun::workspaceSymbol(StringRef entry) { return ("setun_workspace_" + entry).str(); }

bool setun::isEntry(func::FuncOp func) { return func->hasAttr(bitnet::kEntryAttr) && !func.isExternal(); }

namespace {
struct Reader {
  func::FuncOp func;
  EntryInfo info;

  FailureOr<EntryTensor> tensor(StringRef what, unsigned index, Type type, DictionaryAttr attrs, StringRef nameAttr,
                                bool mayAddSymbols);
  FailureOr<int64_t> symbol(StringRef name, StringRef tensorName, bool mayAdd);
  /// A session must not get longer than what is indexed by its positions.
  LogicalResult boundContext();
};
} // namespace

LogicalResult Reader::boundContext() {
  auto bound = [&](Operation *user, StringRef what, Value rows) -> LogicalResult {
    int64_t most = rows ? cast<ShapedType>(rows.getType()).getDimSize(0) : ShapedType::kDynamic;
    if (ShapedType::isDynamic(most))
      return success();
    if (!func->hasAttr(bitnet::kMaxContextAttr))
      info.maxContext = info.maxContext ? std::min(info.maxContext, most) : most;
    else if (info.maxContext > most)
      return user->emitError() << "expects " << bitnet::kMaxContextAttr << " of at most " << most << ", the rows of "
                               << what << ", got " << info.maxContext;
    return success();
  };
  for (BlockArgument argument : func.getArguments()) {
    if (!func.getArgAttr(argument.getArgNumber(), bitnet::kPositionAttr))
      continue;
    for (Operation *user : argument.getUsers()) {
      auto [table, cache] =
          llvm::TypeSwitch<Operation *, std::pair<Value, Value>>(user)
              .Case<bitnet::RotaryOp, ternary::RotaryOp>([](auto op) { return std::pair(Value(op.getCos()), Value()); })
              .Case([](bitnet::CacheUpdateOp op) { return std::pair(Value(), Value(op.getCache())); })
              .Case([](ternary::CacheUpdateOp op) { return std::pair(Value(op.getCos()), Value(op.getCache())); })
              .Case([](ternary::AttentionOp op) { return std::pair(Value(op.getCos()), Value()); })
              .Default([](Operation *) { return std::pair<Value, Value>(); });
      if (failed(bound(user, "a rotary table", table)) || failed(bound(user, "a cache", cache)))
        return failure();
    }
  }
  return success();
}

FailureOr<int64_t> Reader::symbol(StringRef name, StringRef tensorName, bool mayAdd) {
  auto it = llvm::find(info.symbols, name);
  if (it == info.symbols.end()) {
    if (!mayAdd) {
      func.emitError() << "expects an input or state with the dimension " << name << " of output " << tensorName;
      return failure();
    }
    info.symbols.push_back(name.str());
    it = std::prev(info.symbols.end());
  }
  return -1 - static_cast<int64_t>(it - info.symbols.begin());
}

FailureOr<EntryTensor> Reader::tensor(StringRef what, unsigned index, Type type, DictionaryAttr attrs,
                                      StringRef nameAttr, bool mayAddSymbols) {
  auto shaped = dyn_cast<RankedTensorType>(type);
  if (!shaped) {
    func.emitError() << "expects " << what << " " << index << " of the entry to be a ranked tensor, got " << type;
    return failure();
  }
  EntryTensor tensor;
  tensor.index = index;
  tensor.elementType = shaped.getElementType();
  auto name = attrs ? attrs.getAs<StringAttr>(nameAttr) : StringAttr();
  tensor.name = name ? name.getValue().str() : (what + std::to_string(index)).str();
  auto dims = attrs ? attrs.getAs<ArrayAttr>(bitnet::kDimsAttr) : ArrayAttr();
  unsigned next = 0;
  for (auto [axis, dim] : llvm::enumerate(shaped.getShape())) {
    if (!ShapedType::isDynamic(dim)) {
      tensor.shape.push_back(dim);
      continue;
    }
    if (!dims || next >= dims.size()) {
      func.emitError() << "expects " << bitnet::kDimsAttr << " on " << what << " " << tensor.name
                       << " with a symbol for dimension " << axis;
      return failure();
    }
    auto id = symbol(cast<StringAttr>(dims[next++]).getValue(), tensor.name, mayAddSymbols);
    if (failed(id))
      return failure();
    tensor.shape.push_back(*id);
  }
  return tensor;
}

FailureOr<EntryInfo> setun::getEntryInfo(func::FuncOp func) {
  Reader reader{func, {}};
  EntryInfo &info = reader.info;
  info.name = func.getName().str();
  info.resets = func->hasAttr(bitnet::kResetAttr);
  if (auto context = func->getAttrOfType<IntegerAttr>(bitnet::kMaxContextAttr))
    info.maxContext = context.getInt();

  if (failed(reader.boundContext()))
    return failure();
  // Inputs first, so that symbols are numbered in the order that the manifest has.
  for (bool states : {false, true})
    for (unsigned i = 0; i < func.getNumArguments(); ++i) {
      DictionaryAttr attrs = func.getArgAttrDict(i);
      if (attrs && attrs.contains(bitnet::kPositionAttr)) {
        info.positionArg = i;
        continue;
      }
      bool isState = attrs && attrs.contains(bitnet::kStateAttr);
      if (isState != states)
        continue;
      auto tensor = reader.tensor(isState ? "state" : "input", i, func.getArgumentTypes()[i], attrs,
                                  isState ? bitnet::kStateAttr : bitnet::kNameAttr, true);
      if (failed(tensor))
        return failure();
      SmallVector<Operation *> users(func.getArgument(i).getUsers());
      while (!users.empty()) {
        Operation *user = users.pop_back_val();
        // The same elements in another shape have the same limit.
        if (isa<tensor::CollapseShapeOp, tensor::ExpandShapeOp, memref::CollapseShapeOp, memref::ExpandShapeOp>(user))
          llvm::append_range(users, user->getUsers());
        int64_t rows = 0;
        if (auto embedding = dyn_cast<bitnet::EmbeddingOp>(user))
          rows = cast<ShapedType>(embedding.getTable().getType()).getDimSize(0);
        else if (auto embedding = dyn_cast<ternary::EmbeddingOp>(user))
          rows = cast<ShapedType>(embedding.getTable().getType()).getDimSize(0);
        else if (auto choice = dyn_cast<bitnet::TopKOp>(user))
          rows = choice.getLength() + 1; // how many are wanted, none to all
        else if (auto choice = dyn_cast<ternary::HeadSelectOp>(user))
          rows = cast<ShapedType>(choice.getIds().getType()).getDimSize(0) + 1;
        if (rows)
          tensor->below = tensor->below ? std::min(tensor->below, rows) : rows;
      }
      (isState ? info.states : info.inputs).push_back(*tensor);
    }

  info.stateResults.assign(info.states.size(), ~0u);
  for (unsigned i = 0; i < func.getNumResults(); ++i) {
    DictionaryAttr attrs = func.getResultAttrDict(i);
    Type type = func.getResultTypes()[i];
    if (attrs && attrs.contains(bitnet::kStateAttr)) {
      StringRef name = attrs.getAs<StringAttr>(bitnet::kStateAttr).getValue();
      auto it = llvm::find_if(info.states, [&](EntryTensor &state) { return state.name == name; });
      if (it == info.states.end() || func.getArgumentTypes()[it->index] != type) {
        func.emitError() << "expects an argument with the state " << name << " of type " << type;
        return failure();
      }
      unsigned &known = info.stateResults[it - info.states.begin()];
      if (known != ~0u) {
        func.emitError() << "expects one result with the state " << name << ", got results " << known << " and " << i;
        return failure();
      }
      known = i;
      continue;
    }
    auto tensor = reader.tensor("output", i, type, attrs, bitnet::kNameAttr, false);
    if (failed(tensor))
      return failure();
    info.outputs.push_back(*tensor);
  }
  for (auto [state, result] : llvm::zip(info.states, info.stateResults))
    if (result == ~0u) {
      func.emitError() << "expects a result with the state " << state.name;
      return failure();
    }
  return info;
}

DictionaryAttr setun::toAttribute(MLIRContext *context, const EntryAbi &abi) {
  Builder b(context);
  SmallVector<Attribute> shapes;
  for (ArrayRef<int64_t> shape : abi.shapes)
    shapes.push_back(b.getDenseI64ArrayAttr(shape));
  return b.getDictionaryAttr({
      b.getNamedAttr("shapes", b.getArrayAttr(shapes)),
      b.getNamedAttr("arguments", b.getDenseI64ArrayAttr(abi.arguments)),
      b.getNamedAttr("outputs", b.getDenseI64ArrayAttr(abi.outputs)),
      b.getNamedAttr("state_arguments", b.getDenseI64ArrayAttr(abi.stateArguments)),
      b.getNamedAttr("state_results", b.getDenseI64ArrayAttr(abi.stateResults)),
      b.getNamedAttr("position", b.getI64IntegerAttr(abi.position)),
  });
}

/// The attribute's fields; none where one is missing or of another kind.
static std::optional<EntryAbi> readAbi(DictionaryAttr attribute) {
  EntryAbi abi;
  for (auto [name, list] :
       {std::pair("arguments", &abi.arguments), std::pair("outputs", &abi.outputs),
        std::pair("state_arguments", &abi.stateArguments), std::pair("state_results", &abi.stateResults)}) {
    auto numbers = attribute.getAs<DenseI64ArrayAttr>(name);
    if (!numbers)
      return std::nullopt;
    llvm::append_range(*list, numbers.asArrayRef());
  }
  auto shapes = attribute.getAs<ArrayAttr>("shapes");
  auto position = attribute.getAs<IntegerAttr>("position");
  if (!shapes || !llvm::all_of(shapes, llvm::IsaPred<DenseI64ArrayAttr>) || !position ||
      !position.getType().isInteger(64))
    return std::nullopt;
  for (Attribute shape : shapes)
    abi.shapes.emplace_back(cast<DenseI64ArrayAttr>(shape).asArrayRef());
  abi.position = position.getInt();
  return abi;
}

FailureOr<EntryAbi> setun::getEntryAbi(func::FuncOp func) {
  auto attribute = func->getAttrOfType<DictionaryAttr>(kAbiAttr);
  if (!attribute) {
    func.emitError() << "expects " << kAbiAttr << " (ternary-mark-entries) on an entry point";
    return failure();
  }
  if (!func.getBody().hasOneBlock() || !isa<func::ReturnOp>(func.getBody().front().getTerminator())) {
    func.emitError() << "expects straight-line code in an entry point";
    return failure();
  }
  auto isTensor = llvm::IsaPred<TensorType>;
  for (Operation &op : func.getBody().front())
    if (llvm::any_of(op.getOperandTypes(), isTensor) || llvm::any_of(op.getResultTypes(), isTensor)) {
      op.emitError() << "expects buffers (one-shot-bufferize), got a tensor";
      return failure();
    }
  auto isBuffer = [](Type type, ArrayRef<int64_t> shape) {
    auto memref = dyn_cast<MemRefType>(type);
    return memref && memref.getRank() == static_cast<int64_t>(shape.size());
  };
  auto below = [](ArrayRef<int64_t> numbers, unsigned limit) {
    return llvm::all_of(numbers, [&](int64_t number) { return number >= 0 && number < limit; });
  };
  std::optional<EntryAbi> abi = readAbi(attribute);
  const unsigned arguments = func.getNumArguments(), results = func.getNumResults();
  bool fits = abi && below(abi->arguments, arguments) && below(abi->stateArguments, arguments) &&
              below(abi->outputs, results) && below(abi->stateResults, results) && abi->position < arguments &&
              abi->stateArguments.size() == abi->stateResults.size() &&
              abi->shapes.size() == abi->arguments.size() + abi->outputs.size();
  for (size_t i = 0; fits && i < abi->shapes.size(); ++i)
    fits = i < abi->arguments.size()
               ? isBuffer(func.getArgumentTypes()[abi->arguments[i]], abi->shapes[i])
               : isBuffer(func.getResultTypes()[abi->outputs[i - abi->arguments.size()]], abi->shapes[i]);
  for (unsigned i = 0; fits && i < arguments; ++i)
    fits = llvm::is_contained(abi->arguments, i) || i == abi->position;
  for (size_t i = 0; fits && i < abi->stateArguments.size(); ++i)
    fits = llvm::is_contained(abi->arguments, abi->stateArguments[i]) &&
           isa<MemRefType>(func.getResultTypes()[abi->stateResults[i]]);
  if (!fits) {
    func.emitError() << "expects " << kAbiAttr << " as ternary-mark-entries writes it, got " << attribute;
    return failure();
  }
  return *abi;
}

LogicalResult setun::verifyLowered(func::FuncOp func) {
  ArrayRef<Type> types = func.getArgumentTypes();
  if (func.isExternal() || types.size() < 2 || !isa<LLVM::LLVMPointerType>(types[0]) || !types[1].isInteger(32))
    return func.emitError() << "expects an entry point with the arguments of setun_entry_fn (ternary-lower-entries)";
  return success();
}

Value setun::rootOf(Value value) {
  while (auto *def = value.getDefiningOp()) {
    if (auto view = dyn_cast<ViewLikeOpInterface>(def))
      value = view.getViewSource();
    else if (auto cast = dyn_cast<memref::CastOp>(def))
      value = cast.getSource();
    else
      break;
  }
  return value;
}
