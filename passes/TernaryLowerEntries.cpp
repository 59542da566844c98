//===- TernaryLowerEntries.cpp - memory plan, barriers and C ABI of entries ------===//
//
// Works on bufferised entry functions of one block. See the pass description for what comes in and goes out.
//
//===----------------------------------------------------------------------===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"

#include "mlir/Interfaces/ViewLikeInterface.h"

#include "llvm/ADT/MapVector.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYLOWERENTRIES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
constexpr int64_t kAlignment = 64;

/// The buffer that a memref is a view of.
Value rootOf(Value value) {
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

/// Operations that touch memory and become kernels.
bool isCompute(Operation *op) {
  return isa<DestinationStyleOpInterface>(op) || isa<memref::CopyOp>(op) || isa<linalg::LinalgOp>(op);
}

/// One entry on its way from bufferised function to C ABI.
class EntryLowering {
public:
  EntryLowering(func::FuncOp func) : func(func), context(func.getContext()), b(context) {}
  LogicalResult run();

private:
  struct Buffer {
    memref::AllocOp alloc;
    unsigned firstUse = 0, lastUse = 0;
    int slot = -1;
  };

  LogicalResult readAbi();
  LogicalResult redirectResults();
  /// The number that `shapes` has for a dynamic size (a symbol, below 0), if it is plainly that of an input or state.
  std::optional<int64_t> symbolOf(Value memref, int64_t axis);
  LogicalResult planMemory();
  void insertBarriers();
  LogicalResult makeWorkspaceFunction();
  void makeEntryFunction();
  Value bytesOf(OpBuilder &b, memref::AllocOp alloc, IRMapping &map);
  /// The size of a memref along one axis, in the terms of the entry's dimensions.
  FailureOr<Value> sizeOf(OpBuilder &b, Value memref, int64_t axis, IRMapping &map, function_ref<Value(int64_t)> dims);
  /// Clones into `b`'s place what `value` is computed from; sizes of arguments come from `dims`.
  FailureOr<Value> cloneSize(OpBuilder &b, Value value, IRMapping &map, function_ref<Value(int64_t symbol)> dims);

  func::FuncOp func;
  MLIRContext *context;
  OpBuilder b;
  Block *body = nullptr;
  SmallVector<SmallVector<int64_t>> shapes; // buffers in ABI order
  SmallVector<int64_t> arguments, outputs, stateArguments, stateResults;
  int64_t position = -1;
  SmallVector<Value> bufferValues; // in ABI order
  std::vector<Buffer> buffers;
  int numSlots = 0;
  Value workspaceArg;
};

LogicalResult EntryLowering::readAbi() {
  auto abi = func->getAttrOfType<DictionaryAttr>(setun::kAbiAttr);
  if (!abi)
    return func.emitError() << "expects " << setun::kAbiAttr << " (ternary-mark-entries) on an entry point";
  for (Attribute shape : abi.getAs<ArrayAttr>("shapes"))
    shapes.emplace_back(cast<DenseI64ArrayAttr>(shape).asArrayRef());
  auto list = [&](StringRef name) { return abi.getAs<DenseI64ArrayAttr>(name).asArrayRef(); };
  arguments.assign(list("arguments").begin(), list("arguments").end());
  outputs.assign(list("outputs").begin(), list("outputs").end());
  stateArguments.assign(list("state_arguments").begin(), list("state_arguments").end());
  stateResults.assign(list("state_results").begin(), list("state_results").end());
  position = abi.getAs<IntegerAttr>("position").getInt();
  return success();
}

std::optional<int64_t> EntryLowering::symbolOf(Value memref, int64_t axis) {
  auto it = llvm::find(bufferValues, memref);
  if (it != bufferValues.end())
    return shapes[it - bufferValues.begin()][axis];
  auto ofSize = [&](OpFoldResult size) -> std::optional<int64_t> {
    auto value = dyn_cast<Value>(size);
    auto dim = value ? value.getDefiningOp<memref::DimOp>() : memref::DimOp();
    std::optional<int64_t> index = dim ? dim.getConstantIndex() : std::nullopt;
    return index ? symbolOf(dim.getSource(), *index) : std::nullopt;
  };
  Operation *def = memref.getDefiningOp();
  if (auto alloc = dyn_cast_or_null<memref::AllocOp>(def))
    return ofSize(alloc.getMixedSizes()[axis]);
  if (auto cast = dyn_cast_or_null<memref::CastOp>(def))
    return symbolOf(cast.getSource(), axis);
  if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(def))
    return ofSize(expand.getMixedOutputShape()[axis]);
  return std::nullopt;
}

LogicalResult EntryLowering::redirectResults() {
  auto ret = cast<func::ReturnOp>(body->getTerminator());
  SmallVector<Value> results(ret.getOperands());
  Location loc = ret.getLoc();
  b.setInsertionPoint(ret);
  ret.getOperandsMutable().clear();
  for (int64_t argument : arguments)
    bufferValues.push_back(body->getArgument(argument));

  // Outputs are complete before a state changes: they may be what a state was before the run.
  for (int64_t result : outputs) {
    Value value = results[result];
    auto type = dyn_cast<MemRefType>(value.getType());
    if (!type)
      return func.emitError() << "expects output " << result << " to be a tensor, got " << value.getType();
    // The caller's buffer is as large as the attributes say: what is written there must not be larger.
    for (int64_t axis = 0; axis < type.getRank(); ++axis)
      if (std::optional<int64_t> symbol = type.isDynamicDim(axis) ? symbolOf(value, axis) : std::nullopt;
          symbol && *symbol != shapes[bufferValues.size()][axis])
        return func.emitError() << "expects dimension " << axis << " of output " << result
                                << " to have the size that its " << bitnet::kDimsAttr << " names";
    auto plain = MemRefType::get(type.getShape(), type.getElementType());
    Value argument = body->addArgument(plain, value.getLoc());
    bufferValues.push_back(argument);
    auto alloc = value.getDefiningOp<memref::AllocOp>();
    if (!alloc || alloc.getType() != plain) {
      memref::CopyOp::create(b, loc, value, argument);
      continue;
    }
    // The caller's buffer takes the place of our own: nothing to copy.
    alloc.getResult().replaceAllUsesWith(argument);
    llvm::replace(results, value, argument);
    alloc.erase();
  }

  // States that become other states are copied aside first: their places may be taken before they are read.
  SmallVector<std::pair<Value, Value>> moves;
  for (auto [argument, result] : llvm::zip(stateArguments, stateResults)) {
    Value state = body->getArgument(argument), value = results[result], root = rootOf(value);
    if (root == state)
      continue;
    if (llvm::any_of(stateArguments, [&](int64_t other) { return body->getArgument(other) == root; })) {
      auto type = cast<MemRefType>(value.getType());
      SmallVector<Value> sizes;
      for (auto [axis, size] : llvm::enumerate(type.getShape()))
        if (ShapedType::isDynamic(size))
          sizes.push_back(memref::DimOp::create(b, loc, value, axis));
      Value aside = memref::AllocOp::create(b, loc, MemRefType::get(type.getShape(), type.getElementType()), sizes);
      memref::CopyOp::create(b, loc, value, aside);
      value = aside;
    }
    moves.push_back({value, state});
  }
  for (auto [value, state] : moves)
    memref::CopyOp::create(b, loc, value, state);
  return success();
}

LogicalResult EntryLowering::planMemory() {
  llvm::DenseMap<Operation *, unsigned> order;
  unsigned count = 0;
  for (Operation &op : *body)
    order[&op] = count++;
  llvm::MapVector<Value, Buffer> live;
  for (Operation &op : *body) {
    if (auto alloc = dyn_cast<memref::AllocOp>(op)) {
      live[alloc].alloc = alloc;
      live[alloc].firstUse = ~0u;
      continue;
    }
    if (isa<memref::DeallocOp>(op))
      continue;
    if (op.getNumRegions() && !isa<linalg::LinalgOp>(op))
      return op.emitError() << "expects straight-line code in an entry point";
    // Bodies read buffers, too.
    op.walk([&](Operation *inner) {
      if (isa<memref::DimOp>(inner) || isa<ViewLikeOpInterface>(inner))
        return;
      for (Value operand : inner->getOperands()) {
        auto it = isa<MemRefType>(operand.getType()) ? live.find(rootOf(operand)) : live.end();
        if (it == live.end())
          continue;
        it->second.firstUse = std::min(it->second.firstUse, order[&op]);
        it->second.lastUse = order[&op];
      }
    });
  }
  // Sizes, as far as they are known now, decide which slot fits best: the one whose size per token is nearest.
  auto weight = [](memref::AllocOp alloc) {
    int64_t size = alloc.getType().getElementTypeBitWidth() / 8;
    for (int64_t dim : alloc.getType().getShape())
      size *= ShapedType::isDynamic(dim) ? 1 : dim;
    return size;
  };
  SmallVector<unsigned> slotFreeAt;
  SmallVector<int64_t> slotWeight;
  SmallVector<SmallVector<Value>> slotShape;
  for (auto &entry : live) {
    Buffer &buffer = entry.second;
    if (buffer.firstUse == ~0u) { // never used
      buffers.push_back(buffer);
      continue;
    }
    int best = -1;
    for (unsigned slot = 0; slot < slotFreeAt.size(); ++slot)
      if (slotFreeAt[slot] < buffer.firstUse && (best < 0 || std::abs(slotWeight[slot] - weight(buffer.alloc)) <
                                                                 std::abs(slotWeight[best] - weight(buffer.alloc))))
        best = slot;
    if (best < 0) {
      best = numSlots++;
      slotFreeAt.push_back(0);
      slotWeight.push_back(0);
    }
    slotFreeAt[best] = buffer.lastUse;
    slotWeight[best] = std::max(slotWeight[best], weight(buffer.alloc));
    buffer.slot = best;
    buffers.push_back(buffer);
  }
  for (Operation &op : llvm::make_early_inc_range(*body))
    if (isa<memref::DeallocOp>(op))
      op.erase();
  return success();
}

void EntryLowering::insertBarriers() {
  // Roots that were read or written since the last barrier; workspace buffers stand for their slot.
  llvm::DenseMap<Value, Value> rootId;
  llvm::DenseMap<int, Value> slotId;
  for (Buffer &buffer : buffers)
    if (buffer.slot >= 0)
      rootId[buffer.alloc] = slotId.try_emplace(buffer.slot, buffer.alloc).first->second;
  auto idOf = [&](Value value) {
    Value root = rootOf(value);
    auto it = rootId.find(root);
    return it == rootId.end() ? root : it->second;
  };
  llvm::SmallDenseSet<Value> read, written;
  for (Operation &op : llvm::make_early_inc_range(*body)) {
    if (isa<memref::AllocOp, memref::DimOp>(op) || isa<ViewLikeOpInterface>(op))
      continue;
    SmallVector<Value> reads, writes;
    auto note = [&](Value value, bool isWrite) {
      if (!isa<MemRefType>(value.getType()) || rootOf(value).getDefiningOp<SectionOp>())
        return;
      (isWrite ? writes : reads).push_back(idOf(value));
    };
    if (auto copy = dyn_cast<memref::CopyOp>(op)) {
      note(copy.getSource(), false);
      note(copy.getTarget(), true);
    } else if (auto dps = dyn_cast<DestinationStyleOpInterface>(op)) {
      for (OpOperand &operand : op.getOpOperands())
        note(operand.get(), dps.isDpsInit(&operand));
      // What a body reads besides its operands.
      for (Region &region : op.getRegions())
        region.walk([&](Operation *inner) {
          if (!isa<memref::DimOp>(inner))
            for (Value operand : inner->getOperands())
              note(operand, !isa<memref::LoadOp>(inner));
        });
    } else {
      // Single elements, which every thread reads and writes by itself.
      for (Value operand : op.getOperands())
        note(operand, !isa<memref::LoadOp>(op));
    }
    bool conflict = llvm::any_of(reads, [&](Value v) { return written.contains(v); }) ||
                    llvm::any_of(writes, [&](Value v) { return written.contains(v) || read.contains(v); });
    if (conflict) {
      b.setInsertionPoint(&op);
      BarrierOp::create(b, op.getLoc());
      read.clear();
      written.clear();
    }
    read.insert(reads.begin(), reads.end());
    written.insert(writes.begin(), writes.end());
  }
}

FailureOr<Value> EntryLowering::sizeOf(OpBuilder &b, Value memref, int64_t axis, IRMapping &map,
                                       function_ref<Value(int64_t)> dims) {
  Location loc = func.getLoc();
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(axis))
    return Value(arith::ConstantIndexOp::create(b, loc, type.getDimSize(axis)));
  for (auto [i, buffer] : llvm::enumerate(bufferValues))
    if (buffer == memref)
      return dims(-1 - shapes[i][axis]);
  auto mixed = [&](OpFoldResult size) -> FailureOr<Value> {
    if (auto value = dyn_cast<Value>(size))
      return cloneSize(b, value, map, dims);
    return Value(arith::ConstantIndexOp::create(b, loc, cast<IntegerAttr>(cast<Attribute>(size)).getInt()));
  };
  Operation *def = memref.getDefiningOp();
  if (auto alloc = dyn_cast_or_null<memref::AllocOp>(def))
    return cloneSize(b, alloc.getDynamicSizes()[type.getDynamicDimIndex(axis)], map, dims);
  if (auto cast = dyn_cast_or_null<memref::CastOp>(def))
    return sizeOf(b, cast.getSource(), axis, map, dims);
  if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(def))
    return mixed(expand.getMixedOutputShape()[axis]);
  if (auto subview = dyn_cast_or_null<memref::SubViewOp>(def)) {
    llvm::SmallBitVector dropped = subview.getDroppedDims();
    for (auto [i, size] : llvm::enumerate(subview.getMixedSizes()))
      if (!dropped[i] && axis-- == 0)
        return mixed(size);
  }
  if (auto collapse = dyn_cast_or_null<memref::CollapseShapeOp>(def)) {
    Value product = arith::ConstantIndexOp::create(b, loc, 1);
    for (int64_t inner : collapse.getReassociationIndices()[axis]) {
      auto size = sizeOf(b, collapse.getSrc(), inner, map, dims);
      if (failed(size))
        return failure();
      product = arith::MulIOp::create(b, loc, product, *size);
    }
    return product;
  }
  emitError(memref.getLoc()) << "expects the size of an intermediate tensor to follow from the entry's dimensions";
  return failure();
}

FailureOr<Value> EntryLowering::cloneSize(OpBuilder &b, Value value, IRMapping &map,
                                          function_ref<Value(int64_t)> dims) {
  if (Value known = map.lookupOrNull(value))
    return known;
  Operation *def = value.getDefiningOp();
  if (auto dim = dyn_cast_or_null<memref::DimOp>(def))
    if (std::optional<int64_t> index = dim.getConstantIndex()) {
      auto size = sizeOf(b, dim.getSource(), *index, map, dims);
      if (succeeded(size))
        map.map(value, *size);
      return size;
    }
  if (def && isa<arith::ArithDialect>(def->getDialect()) && def->getNumRegions() == 0) {
    for (Value operand : def->getOperands()) {
      auto cloned = cloneSize(b, operand, map, dims);
      if (failed(cloned))
        return failure();
    }
    b.clone(*def, map);
    return map.lookup(value);
  }
  emitError(value.getLoc()) << "expects the size of an intermediate tensor to follow from the entry's dimensions";
  return failure();
}

/// Bytes of a buffer, rounded up to the alignment.
Value EntryLowering::bytesOf(OpBuilder &b, memref::AllocOp alloc, IRMapping &map) {
  Location loc = func.getLoc();
  int64_t fixed = std::max<int64_t>(1, alloc.getType().getElementTypeBitWidth() / 8);
  for (int64_t dim : alloc.getType().getShape())
    fixed *= ShapedType::isDynamic(dim) ? 1 : dim;
  Value bytes = arith::ConstantIndexOp::create(b, loc, fixed);
  for (Value size : alloc.getDynamicSizes())
    bytes = arith::MulIOp::create(b, loc, bytes, map.lookup(size));
  Value mask = arith::ConstantIndexOp::create(b, loc, -kAlignment);
  Value up = arith::ConstantIndexOp::create(b, loc, kAlignment - 1);
  return arith::AndIOp::create(b, loc, arith::AddIOp::create(b, loc, bytes, up), mask);
}

LogicalResult EntryLowering::makeWorkspaceFunction() {
  auto ptr = LLVM::LLVMPointerType::get(context);
  Location loc = func.getLoc();
  b.setInsertionPoint(func);
  auto fn =
      func::FuncOp::create(b, loc, setun::workspaceSymbol(func.getName()), b.getFunctionType({ptr}, {b.getI64Type()}));
  Block *block = fn.addEntryBlock();
  OpBuilder fb = OpBuilder::atBlockBegin(block);
  llvm::DenseMap<int64_t, Value> loaded;
  auto dims = [&](int64_t symbol) {
    Value &value = loaded[symbol];
    if (!value) {
      Value address = LLVM::GEPOp::create(fb, loc, ptr, fb.getI64Type(), block->getArgument(0),
                                          ArrayRef<LLVM::GEPArg>{int32_t(symbol)});
      Value size = LLVM::LoadOp::create(fb, loc, fb.getI64Type(), address);
      value = arith::IndexCastOp::create(fb, loc, fb.getIndexType(), size);
    }
    return value;
  };
  IRMapping map;
  SmallVector<Value> slotBytes(numSlots);
  for (Buffer &buffer : buffers) {
    if (buffer.slot < 0)
      continue;
    for (Value size : buffer.alloc.getDynamicSizes()) {
      auto cloned = cloneSize(fb, size, map, dims);
      if (failed(cloned))
        return failure();
      map.map(size, *cloned);
    }
    Value bytes = bytesOf(fb, buffer.alloc, map);
    Value &slot = slotBytes[buffer.slot];
    slot = slot ? Value(arith::MaxSIOp::create(fb, loc, slot, bytes)) : bytes;
  }
  Value total = arith::ConstantIndexOp::create(fb, loc, 0);
  for (Value bytes : slotBytes)
    total = arith::AddIOp::create(fb, loc, total, bytes);
  Value result = arith::IndexCastOp::create(fb, loc, fb.getI64Type(), total);
  func::ReturnOp::create(fb, loc, result);
  return success();
}

void EntryLowering::makeEntryFunction() {
  Location loc = func.getLoc();
  auto ptr = LLVM::LLVMPointerType::get(context);
  Type i32 = b.getI32Type(), i64 = b.getI64Type(), index = b.getIndexType();
  Type invocation = setun::invocationType(context);

  Block *old = body;
  auto *block = new Block();
  func.getBody().push_front(block);
  Value inv = block->addArgument(ptr, loc), thread = block->addArgument(i32, loc);
  b.setInsertionPointToStart(block);
  auto field = [&](int32_t i, Type type) -> Value {
    Value address = LLVM::GEPOp::create(b, loc, ptr, invocation, inv, ArrayRef<LLVM::GEPArg>{0, i});
    return LLVM::LoadOp::create(b, loc, type, address);
  };
  auto constant = [&](int64_t value) -> Value {
    return LLVM::ConstantOp::create(b, loc, i64, b.getI64IntegerAttr(value));
  };
  // A memref on a pointer, dense and row-major, through its descriptor.
  auto memrefOn = [&](Value pointer, MemRefType type, ArrayRef<Value> sizes) -> Value {
    int64_t rank = type.getRank();
    SmallVector<Type> fields = {ptr, ptr, i64};
    if (rank) {
      auto array = LLVM::LLVMArrayType::get(i64, rank);
      fields.push_back(array);
      fields.push_back(array);
    }
    Value d = LLVM::PoisonOp::create(b, loc, LLVM::LLVMStructType::getLiteral(context, fields));
    d = LLVM::InsertValueOp::create(b, loc, d, pointer, ArrayRef<int64_t>{0});
    d = LLVM::InsertValueOp::create(b, loc, d, pointer, ArrayRef<int64_t>{1});
    d = LLVM::InsertValueOp::create(b, loc, d, constant(0), ArrayRef<int64_t>{2});
    Value stride = constant(1);
    for (int64_t i = rank - 1; i >= 0; --i) {
      d = LLVM::InsertValueOp::create(b, loc, d, sizes[i], ArrayRef<int64_t>{3, i});
      d = LLVM::InsertValueOp::create(b, loc, d, stride, ArrayRef<int64_t>{4, i});
      stride = LLVM::MulOp::create(b, loc, stride, sizes[i]);
    }
    return UnrealizedConversionCastOp::create(b, loc, TypeRange{type}, ValueRange{d}).getResult(0);
  };

  Value weights = field(2, ptr), workspace = field(3, ptr), table = field(4, ptr), dims = field(5, ptr);
  llvm::DenseMap<int64_t, Value> loaded;
  auto dimOf = [&](int64_t size) -> Value {
    if (size >= 0)
      return constant(size);
    Value &value = loaded[size];
    if (!value) {
      Value address = LLVM::GEPOp::create(b, loc, ptr, i64, dims, ArrayRef<LLVM::GEPArg>{int32_t(-1 - size)});
      value = LLVM::LoadOp::create(b, loc, i64, address);
    }
    return value;
  };
  // Offsets are sums of slot sizes; sizes follow from the dimensions.
  IRMapping map;
  auto symbolValue = [&](int64_t symbol) -> Value {
    return arith::IndexCastOp::create(b, loc, index, dimOf(-1 - symbol));
  };
  SmallVector<Value> slotBytes(numSlots), slotOffset(numSlots);
  for (Buffer &buffer : buffers) {
    if (buffer.slot < 0)
      continue;
    for (Value size : buffer.alloc.getDynamicSizes())
      map.map(size, *cloneSize(b, size, map, symbolValue)); // did not fail for the workspace function
    Value bytes = bytesOf(b, buffer.alloc, map);
    Value &slot = slotBytes[buffer.slot];
    slot = slot ? Value(arith::MaxSIOp::create(b, loc, slot, bytes)) : bytes;
  }
  Value offset = arith::ConstantIndexOp::create(b, loc, 0);
  for (int i = 0; i < numSlots; ++i) {
    slotOffset[i] = offset;
    offset = arith::AddIOp::create(b, loc, offset, slotBytes[i]);
  }
  for (auto [i, value] : llvm::enumerate(bufferValues)) {
    Value address = LLVM::GEPOp::create(b, loc, ptr, ptr, table, ArrayRef<LLVM::GEPArg>{int32_t(i)});
    Value pointer = LLVM::LoadOp::create(b, loc, ptr, address);
    SmallVector<Value> sizes;
    for (int64_t size : shapes[i])
      sizes.push_back(dimOf(size));
    value.replaceAllUsesWith(memrefOn(pointer, cast<MemRefType>(value.getType()), sizes));
  }
  if (position >= 0)
    old->getArgument(position).replaceAllUsesWith(field(6, i64));

  auto bytesType = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  Value arena = memrefOn(workspace, bytesType, {LLVM::ConstantOp::create(b, loc, i64, b.getI64IntegerAttr(INT64_MAX))});
  Value section = memrefOn(weights, bytesType, {LLVM::ConstantOp::create(b, loc, i64, b.getI64IntegerAttr(INT64_MAX))});
  for (Buffer &buffer : buffers) {
    if (buffer.slot >= 0) {
      SmallVector<Value> sizes;
      for (Value size : buffer.alloc.getDynamicSizes())
        sizes.push_back(map.lookup(size));
      Value view = memref::ViewOp::create(b, loc, buffer.alloc.getType(), arena, slotOffset[buffer.slot], sizes);
      buffer.alloc.getResult().replaceAllUsesWith(view);
    }
    buffer.alloc.erase();
  }
  for (Operation &op : llvm::make_early_inc_range(*old)) {
    if (auto sectionOp = dyn_cast<SectionOp>(op)) {
      Value at = arith::ConstantIndexOp::create(b, op.getLoc(), sectionOp.getOffset());
      Value view = memref::ViewOp::create(b, op.getLoc(), cast<MemRefType>(sectionOp.getResult().getType()), section,
                                          at, ValueRange());
      sectionOp.getResult().replaceAllUsesWith(view);
      op.erase();
    } else if (isa<BarrierOp>(op)) {
      b.setInsertionPoint(&op);
      Value function = field(7, ptr), data = field(8, ptr);
      auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), {ptr, i32});
      LLVM::CallOp::create(b, op.getLoc(), type, ValueRange{function, data, thread});
      op.erase();
      b.setInsertionPointToEnd(block);
    }
  }
  block->getOperations().splice(block->end(), old->getOperations());
  old->erase();
  func.setType(b.getFunctionType({ptr, i32}, {}));
  func.setAllArgAttrs(ArrayAttr());
  func.setAllResultAttrs(ArrayAttr());
  for (StringRef name : {StringRef(setun::kAbiAttr), StringRef(bitnet::kEntryAttr), StringRef(bitnet::kResetAttr),
                         StringRef(bitnet::kMaxContextAttr)})
    func->removeAttr(name);
  func.setName(setun::entrySymbol(func.getName()));
  // What the outliner takes.
  func.walk([&](Operation *op) {
    if (isCompute(op) && op->getBlock() == block)
      op->setAttr("ternary.compute", b.getUnitAttr());
  });
}

LogicalResult EntryLowering::run() {
  if (!func.getBody().hasOneBlock())
    return func.emitError() << "expects straight-line code in an entry point";
  body = &func.getBody().front();
  if (failed(readAbi()) || failed(redirectResults()) || failed(planMemory()))
    return failure();
  insertBarriers();
  if (failed(makeWorkspaceFunction()))
    return failure();
  makeEntryFunction();
  return success();
}

struct TernaryLowerEntries : public setun::impl::TernaryLowerEntriesBase<TernaryLowerEntries> {
  void runOnOperation() override {
    SmallVector<func::FuncOp> entries;
    for (auto func : llvm::make_early_inc_range(getOperation().getOps<func::FuncOp>())) {
      if (setun::isEntry(func))
        entries.push_back(func);
      else if (func.isPrivate() && SymbolTable::symbolKnownUseEmpty(func, getOperation()))
        func.erase();
    }
    for (func::FuncOp func : entries)
      if (failed(EntryLowering(func).run()))
        return signalPassFailure();
  }
};
} // namespace
