//===- EntryInfo.cpp - what callers see of an entry point ------------------------===//
#include "passes/EntryInfo.h"

#include "passes/Passes.h"

#include "mlir/Interfaces/ViewLikeInterface.h"

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
};
} // namespace

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
      info.stateResults[it - info.states.begin()] = i;
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
