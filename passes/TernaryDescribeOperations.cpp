//===- TernaryDescribeOperations.cpp - numbers and costs of an entry's operations ===//
#include "passes/EntryInfo.h"
#include "passes/OperationInfo.h"
#include "passes/Passes.h"

#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/TypeSwitch.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYDESCRIBEOPERATIONS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;
using setun::OperationInfo;
using setun::rootOf;

//===----------------------------------------------------------------------===//
// Attribute
//===----------------------------------------------------------------------===//

namespace {
/// Calls `visit(name, field)` on each text and each number.
template <typename Info, typename Visit> void forEachField(Info &info, Visit visit) {
  visit("kind", info.kind);
  visit("detail", info.detail);
  visit("name", info.name);
  visit("shape", info.shape);
  visit("rows", info.rows);
  visit("weight_bytes", info.weightBytes);
  visit("row_bytes", info.rowBytes);
  visit("context_bytes", info.contextBytes);
  visit("int8_macs", info.int8Macs);
  visit("float_macs", info.floatMacs);
}

struct ToAttribute {
  Builder &b;
  SmallVector<NamedAttribute> &attributes;
  void operator()(StringRef name, const std::string &text) {
    if (!text.empty())
      attributes.push_back(b.getNamedAttr(name, b.getStringAttr(text)));
  }
  void operator()(StringRef name, int64_t number) {
    if (number)
      attributes.push_back(b.getNamedAttr(name, b.getI64IntegerAttr(number)));
  }
};

struct FromAttribute {
  DictionaryAttr attribute;
  void operator()(StringRef name, std::string &text) {
    auto value = attribute.getAs<StringAttr>(name);
    text = value ? value.getValue().str() : std::string();
  }
  void operator()(StringRef name, int64_t &number) {
    auto value = attribute.getAs<IntegerAttr>(name);
    number = value ? value.getInt() : 0;
  }
};
} // namespace

DictionaryAttr setun::toAttribute(MLIRContext *context, const OperationInfo &info) {
  Builder b(context);
  SmallVector<NamedAttribute> attributes;
  forEachField(info, ToAttribute{b, attributes});
  return b.getDictionaryAttr(attributes);
}

OperationInfo setun::fromAttribute(DictionaryAttr attribute) {
  OperationInfo info;
  forEachField(info, FromAttribute{attribute});
  return info;
}

//===----------------------------------------------------------------------===//
// Description
//===----------------------------------------------------------------------===//

namespace {
/// Bytes of an element, or of a whole buffer with its dynamic sizes taken for 1.
int64_t elementBytes(Value value) {
  return std::max<int64_t>(1, cast<MemRefType>(value.getType()).getElementTypeBitWidth() / 8);
}
int64_t bytesOf(Value value) {
  int64_t bytes = elementBytes(value);
  for (int64_t size : cast<MemRefType>(value.getType()).getShape())
    bytes *= ShapedType::isDynamic(size) ? 1 : size;
  return bytes;
}

/// The name of a location, if it has one: the outermost one, for weights are named around their place.
StringRef nameOf(Location loc) {
  StringRef name;
  loc->walk([&](Location inner) {
    auto named = dyn_cast<NameLoc>(inner);
    if (!named)
      return WalkResult::advance();
    name = named.getName().getValue();
    return WalkResult::interrupt();
  });
  return name;
}

std::string shapeText(Value value) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  for (auto [i, size] : llvm::enumerate(cast<MemRefType>(value.getType()).getShape()))
    if (ShapedType::isDynamic(size))
      stream << (i ? " x ?" : "?");
    else
      stream << (i ? " x " : "") << size;
  return text;
}

std::string matrixText(int64_t rows, int64_t cols) { return std::to_string(rows) + " x " + std::to_string(cols); }

class Describer {
public:
  Describer(func::FuncOp func, const setun::EntryAbi &abi) : func(func) {
    for (auto [argument, shape] : llvm::zip(abi.arguments, abi.shapes)) {
      shapes[func.getArgument(argument)] = shape;
      // What a size is taken for that does not plainly come from one argument: the first symbol of the first input.
      for (int64_t size : shape)
        if (size < 0 && firstSymbol == 1)
          firstSymbol = size;
    }
    for (int64_t argument : abi.stateArguments)
      states.insert(func.getArgument(argument));
  }

  OperationInfo describe(Operation *op);

private:
  /// A size along an axis; a symbol is below 0.
  int64_t sizeOf(Value memref, int64_t axis);
  int64_t sizeOf(OpFoldResult size);
  /// Name, bytes of weights and of states from the operands, as if each were read whole.
  void addOperands(Operation *op, OperationInfo &info);

  func::FuncOp func;
  llvm::DenseMap<Value, SmallVector<int64_t>> shapes; // of arguments
  llvm::DenseSet<Value> states;
  int64_t firstSymbol = 1;
};

int64_t Describer::sizeOf(OpFoldResult size) {
  if (auto attribute = dyn_cast<Attribute>(size))
    return cast<IntegerAttr>(attribute).getInt();
  auto dim = cast<Value>(size).getDefiningOp<memref::DimOp>();
  std::optional<int64_t> index = dim ? dim.getConstantIndex() : std::nullopt;
  return index ? sizeOf(dim.getSource(), *index) : firstSymbol;
}

int64_t Describer::sizeOf(Value memref, int64_t axis) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(axis))
    return type.getDimSize(axis);
  if (auto known = shapes.find(memref); known != shapes.end())
    return known->second[axis];
  Operation *def = memref.getDefiningOp();
  if (auto alloc = dyn_cast_or_null<memref::AllocOp>(def))
    return sizeOf(alloc.getMixedSizes()[axis]);
  if (auto cast = dyn_cast_or_null<memref::CastOp>(def))
    return sizeOf(cast.getSource(), axis);
  if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(def))
    return sizeOf(expand.getMixedOutputShape()[axis]);
  if (auto subview = dyn_cast_or_null<memref::SubViewOp>(def); subview && subview.getDroppedDims().none())
    return sizeOf(subview.getMixedSizes()[axis]);
  return firstSymbol;
}

/// Whether a value is a table of the rotation that is part of an operation.
static bool isTable(Operation *op, Value value) {
  if (!rootOf(value).getDefiningOp<SectionOp>())
    return false;
  if (auto update = dyn_cast<CacheUpdateOp>(op))
    return value == update.getCos() || value == update.getSin();
  auto attention = dyn_cast<AttentionOp>(op);
  return attention && (value == attention.getCos() || value == attention.getSin());
}

void Describer::addOperands(Operation *op, OperationInfo &info) {
  llvm::SmallDenseSet<Value> seen;
  int64_t largest = 0;
  StringRef state;
  auto dps = dyn_cast<DestinationStyleOpInterface>(op);
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    Value root = rootOf(operand.get());
    if (!seen.insert(root).second)
      continue;
    if (isTable(op, operand.get())) { // a row of it for each token
      info.rowBytes += cast<MemRefType>(operand.get().getType()).getDimSize(1) * elementBytes(operand.get());
      continue;
    }
    if (auto section = root.getDefiningOp<SectionOp>()) {
      int64_t bytes = bytesOf(operand.get());
      info.weightBytes += bytes;
      if (bytes > largest) {
        largest = bytes;
        info.name = nameOf(section.getLoc()).str();
      }
    } else if (states.contains(root)) {
      auto name = func.getArgAttrOfType<StringAttr>(cast<BlockArgument>(root).getArgNumber(), bitnet::kStateAttr);
      if (state.empty() && name)
        state = name.getValue();
      // A state is as long as the session may get; what is in use of it is read.
      bool isRead = !(dps && dps.isDpsInit(&operand)) || isa<AttentionOp>(op);
      if (isRead && llvm::any_of(shapes[root], [](int64_t size) { return size < 0; }))
        info.contextBytes += bytesOf(root);
    }
  }
  // Elements of weights that a body picks for itself.
  op->walk([&](memref::LoadOp load) {
    if (load.getMemRef().getParentRegion() == op->getParentRegion() &&
        rootOf(load.getMemRef()).getDefiningOp<SectionOp>())
      info.rowBytes += elementBytes(load.getMemRef());
  });
  if (info.name.empty())
    info.name = state.empty() ? nameOf(op->getLoc()).str() : state.str();
}

OperationInfo Describer::describe(Operation *op) {
  OperationInfo info;
  info.kind = op->getName().stripDialect().str();
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    info.kind = structured.getNumReductionLoops() ? "reduction" : "elementwise";
  addOperands(op, info);
  Value result;
  if (auto copy = dyn_cast<memref::CopyOp>(op))
    result = copy.getTarget();
  else if (auto dps = cast<DestinationStyleOpInterface>(op); dps.getNumDpsInits())
    result = dps.getDpsInitOperand(0)->get();
  if (result && cast<MemRefType>(result.getType()).getRank()) {
    info.rows = sizeOf(result, 0);
    info.shape = shapeText(result);
  }
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](MatmulOp matmul) {
        LayoutAttr layout = matmul.getLayout();
        bool codes = cast<ShapedType>(matmul.getX().getType()).getElementType().isInteger(8);
        info.detail = stringifyPacking(layout.getPacking()).str();
        if (matmul.getKernel())
          info.detail = (matmul.getKernel()->getRow() + " " + info.detail).str();
        info.shape = matrixText(layout.getRows(), layout.getCols());
        (codes ? info.int8Macs : info.floatMacs) = layout.getRows() * layout.getCols();
        if (auto section = rootOf(matmul.getPacked()).getDefiningOp<SectionOp>())
          info.name = nameOf(section.getLoc()).str();
        // The last panel's padding is no need.
        int64_t packedRows = layout.getPanels() * layout.getPanelRows(), padding = packedRows - layout.getRows();
        for (Value weights : {matmul.getPacked(), matmul.getRowScales()})
          if (rootOf(weights).getDefiningOp<SectionOp>())
            info.weightBytes -= bytesOf(weights) * padding / packedRows;
      })
      .Case([&](DenseOp dense) {
        auto type = cast<ShapedType>(dense.getW().getType());
        llvm::raw_string_ostream(info.detail) << type.getElementType();
        info.floatMacs = type.getDimSize(0) * type.getDimSize(1);
        info.shape = matrixText(type.getDimSize(0), type.getDimSize(1));
      })
      .Case([&](HeadScanOp scan) {
        info.detail = "scan4";
        if (scan.getKernel())
          info.detail = (scan.getKernel()->getRow() + " " + info.detail).str();
        info.int8Macs = scan.getRowsAttr().getInt() * scan.getColsAttr().getInt();
        info.shape = matrixText(scan.getRowsAttr().getInt(), scan.getColsAttr().getInt());
      })
      // How many rows is known at run time only: as a rule a few.
      .Case<HeadCandidatesOp, HeadRescoreOp>([&](auto) { info.weightBytes = 0; })
      .Case([&](BatchAttentionOp attention) {
        auto q = cast<ShapedType>(attention.getQ().getType()), k = cast<ShapedType>(attention.getK().getType());
        info.floatMacs = 2 * q.getDimSize(2) * q.getDimSize(3);
        for (int64_t size : {q.getDimSize(1), k.getDimSize(1)})
          info.floatMacs *= ShapedType::isDynamic(size) ? 1 : size;
      })
      .Case([&](EmbeddingOp embedding) {
        auto type = cast<ShapedType>(embedding.getTable().getType());
        llvm::raw_string_ostream(info.detail) << type.getElementType();
        info.weightBytes = 0; // one row of the table for each token
        info.rowBytes = type.getDimSize(1) * elementBytes(embedding.getTable());
      })
      .Case([&](AttentionOp attention) {
        if (attention.getParts()) { // the first destination otherwise
          info.rows = sizeOf(attention.getQ(), 0);
          info.shape = shapeText(attention.getO());
        }
      })
      .Case([&](CacheUpdateOp update) {
        info.rows = sizeOf(update.getRows(), 0);
        info.shape = shapeText(update.getRows());
      })
      .Case([&](RotaryOp rotary) {
        for (Value table : {rotary.getCos(), rotary.getSin()})
          if (rootOf(table).getDefiningOp<SectionOp>()) {
            info.weightBytes -= bytesOf(table);
            info.rowBytes += cast<ShapedType>(table.getType()).getDimSize(1) * elementBytes(table);
          }
      });
  return info;
}

struct TernaryDescribeOperations : public setun::impl::TernaryDescribeOperationsBase<TernaryDescribeOperations> {
  void runOnOperation() override {
    Builder b(&getContext());
    for (auto func : getOperation().getOps<func::FuncOp>()) {
      if (!setun::isEntry(func))
        continue;
      auto abi = setun::getEntryAbi(func);
      if (failed(abi))
        return signalPassFailure();
      Describer describer(func, *abi);
      SmallVector<Attribute> operations;
      for (Operation &op : func.getBody().front()) {
        if (!isa<DestinationStyleOpInterface, memref::CopyOp>(op))
          continue;
        op.setAttr(setun::kOperationAttr, b.getI64IntegerAttr(operations.size()));
        operations.push_back(setun::toAttribute(&getContext(), describer.describe(&op)));
      }
      func->setAttr(setun::kOperationsAttr, b.getArrayAttr(operations));
    }
  }
};
} // namespace
