//===- TernaryLowerEntries.cpp - memory plan, barriers and C ABI of entries ------===//
//
// Works on bufferised entry functions of one block. See the pass description for what comes in and goes out.
//
//===----------------------------------------------------------------------===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"
#include "passes/VectorBuilder.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/SaveAndRestore.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYLOWERENTRIES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;
using setun::rootOf;

namespace {
constexpr int64_t kAlignment = 64;
/// Largest result of one token that every thread makes by itself. One thread would make it anyhow while the others
/// wait, so this only bounds what all threads read at once from the caches of the one that wrote the input.
constexpr int64_t kSoloBytes = 256 * 1024;
/// The same for structured operations, whose first axis need not be tokens: made once, the larger ones are worth a
/// barrier.
constexpr int64_t kSoloStructuredBytes = 32 * 1024;

/// Weights from which on reading them takes much longer than the preparations for one token: than asking what is left
/// of a share, for a thread that is done with its own takes of those of others, and than the beginning of a stream,
/// which is asked for ahead.
constexpr int64_t kLargeBytes = 64 * 1024;
/// Threads' counters of what is taken are this far apart, so that no line, nor a pair of them, is two threads'.
constexpr int64_t kTakenAlignment = 128;

/// Operations that touch memory and become kernels.
bool isCompute(Operation *op) {
  return isa<DestinationStyleOpInterface>(op) || isa<memref::CopyOp>(op) || isa<linalg::LinalgOp>(op);
}

/// Buffers that an operation reads or writes, views included.
void forEachAccess(Operation *op, function_ref<void(Value memref, bool isWrite)> body) {
  auto note = [&](Value value, bool isWrite) {
    if (isa<MemRefType>(value.getType()) && !rootOf(value).getDefiningOp<SectionOp>())
      body(value, isWrite);
  };
  if (auto copy = dyn_cast<memref::CopyOp>(op)) {
    note(copy.getSource(), false);
    note(copy.getTarget(), true);
  } else if (auto dps = dyn_cast<DestinationStyleOpInterface>(op)) {
    for (OpOperand &operand : op->getOpOperands())
      note(operand.get(), dps.isDpsInit(&operand));
    // What a body reads besides its operands.
    for (Region &region : op->getRegions())
      region.walk([&](Operation *inner) {
        if (!isa<memref::DimOp>(inner))
          for (Value operand : inner->getOperands())
            note(operand, !isa<memref::LoadOp>(inner));
      });
  } else if (!isa<memref::AllocOp, memref::DeallocOp, memref::DimOp, ViewLikeOpInterface>(op)) {
    // Single elements, which every thread reads and writes by itself.
    for (Value operand : op->getOperands())
      note(operand, !isa<memref::LoadOp>(op));
  }
}

/// What an operation writes, if it is one whose work for one token is small.
Value smallResult(Operation *op) {
  Value result;
  int64_t most = kSoloBytes;
  if (auto copy = dyn_cast<memref::CopyOp>(op))
    result = copy.getTarget();
  else if (isa<QuantizeOp, NormOp, HadamardOp, GatedOp, RotaryOp, EmbeddingOp, AttentionFoldOp>(op))
    result = cast<DestinationStyleOpInterface>(op).getDpsInits()[0];
  else if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op)) {
    // The outermost loop is that of the tokens, and no loop is longer than the result.
    auto types = linalgOp.getIteratorTypesArray();
    if (types.empty() || linalgOp.getNumDpsInits() == 0 || !llvm::all_equal(types) ||
        types[0] != utils::IteratorType::parallel)
      return Value();
    result = linalgOp.getDpsInits()[0];
    most = kSoloStructuredBytes;
    AffineMap map = linalgOp.getMatchingIndexingMap(linalgOp.getDpsInitOperand(0));
    if (map.getNumResults() == 0 || map.getResult(0) != getAffineDimExpr(0, op->getContext()))
      return Value();
  }
  auto type = result ? dyn_cast<MemRefType>(result.getType()) : MemRefType();
  if (!type || type.getRank() == 0)
    return Value();
  int64_t bytes = std::max<int64_t>(1, type.getElementTypeBitWidth() / 8);
  for (int64_t size : type.getShape().drop_front()) {
    if (ShapedType::isDynamic(size) || size > most)
      return Value();
    bytes *= size;
    if (bytes > most)
      return Value();
  }
  return result;
}

/// Whether `op` leaves a buffer that it writes otherwise alone where there is one token.
bool idlesWithOneToken(Operation *op, Value buffer) {
  auto attention = dyn_cast<AttentionOp>(op);
  return attention && attention.getParts() && buffer == attention.getO();
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
    Value tokens; // written by solo operations of this many tokens alone: if that is 1, each thread has its own
  };
  /// A part of the workspace that buffers use one after another, with a barrier between that stands there anyhow:
  /// shared ones, or private ones of the same number of tokens.
  struct Slot {
    unsigned lastUse = 0;
    int64_t weight = 0;
    Value tokens;
    Value bytes, offset; // in the function that is being made
  };
  /// Whether an access can meet those of other threads: always, or only if the number of tokens is not 1.
  using Condition = Value;
  struct Accesses {
    llvm::MapVector<Value, SmallVector<Condition, 2>> of;
    void add(Value root, Condition condition);
    void dropWhere(ArrayRef<Value> tokens);
  };

  /// Takes the conditions on sizes (`cf.assert`) out of the body.
  LogicalResult takeConditions();
  LogicalResult redirectResults();
  /// What is written to `buffer`, whose sizes are `shape`, must not be larger: sizes that are not plainly the same
  /// become conditions.
  LogicalResult expectSizes(Value value, Value buffer, ArrayRef<int64_t> shape, const Twine &what);
  /// The number that `shapes` has for a dynamic size (a symbol, below 0), if it is plainly that of an input or state.
  std::optional<int64_t> symbolOf(Value memref, int64_t axis);
  void findSolo();
  LogicalResult planMemory();
  void insertBarriers();
  void findTakers();
  LogicalResult makeWorkspaceFunction();
  void makeEntryFunction();
  /// Gives quantisers the weights that a thread reads next, from its share on.
  void lookAhead(Block *ops, Value section, Value thread, Value threads);
  Value bytesOf(OpBuilder &b, memref::AllocOp alloc, IRMapping &map);
  /// Bytes of each thread's own memory that kernels use one after another.
  int64_t scratchBytes();
  /// Bytes of each thread's counters for `takers`.
  int64_t takenBytes() const { return llvm::alignTo(takers.size() * sizeof(int64_t), kTakenAlignment); }
  /// Finds size and place of each slot, of the scratch memory and of the counters; `threads` and `thread` are index
  /// values, the latter may be null. Returns the size of the workspace.
  FailureOr<Value> placeSlots(OpBuilder &b, IRMapping &map, function_ref<Value(int64_t)> dims, Value threads,
                              Value thread);
  /// The size of a memref along one axis, in the terms of the entry's dimensions.
  FailureOr<Value> sizeOf(OpBuilder &b, Value memref, int64_t axis, IRMapping &map, function_ref<Value(int64_t)> dims);
  /// Says that something does not follow from the entry's dimensions.
  LogicalResult unknownSize(Location loc) const;
  /// Clones into `b`'s place what `value` is computed from; sizes of arguments come from `dims`.
  FailureOr<Value> cloneSize(OpBuilder &b, Value value, IRMapping &map, function_ref<Value(int64_t symbol)> dims);

  func::FuncOp func;
  MLIRContext *context;
  OpBuilder b;
  Block *body = nullptr;
  setun::EntryAbi abi;
  SmallVector<Value> conditions; // on sizes, in order
  SmallVector<StringRef> messages;
  StringRef sized = "the size of an intermediate tensor"; // what is being cloned, for messages
  SmallVector<Value> bufferValues;                        // in ABI order
  llvm::DenseMap<Operation *, Value> solo;                // and the number of their tokens, one value for equal sizes
  llvm::DenseMap<Value, Value> privateTokens;             // of the allocations that only solo operations write
  std::vector<Buffer> buffers;
  std::vector<Slot> slots;
  Value scratchOffset; // of the thread's own, in the entry function
  // Operations whose threads take parts of one another's shares. Each has counters of its own, which are 0 when it
  // begins: threads set theirs to 0 at the start of the entry, and meet at a barrier before the first of these
  // operations.
  SmallVector<Operation *> takers;
  Value takenOffset; // of the first thread's counters, in the entry function
};

LogicalResult EntryLowering::takeConditions() {
  WalkResult walked = func.walk([&](cf::AssertOp op) {
    if (op->getBlock() != body) {
      op.emitError() << "expects conditions on sizes outside of other operations";
      return WalkResult::interrupt();
    }
    conditions.push_back(op.getArg());
    messages.push_back(op.getMsgAttr().getValue()); // lives as long as the context
    op.erase();
    return WalkResult::advance();
  });
  return failure(walked.wasInterrupted());
}

std::optional<int64_t> EntryLowering::symbolOf(Value memref, int64_t axis) {
  auto it = llvm::find(bufferValues, memref);
  if (it != bufferValues.end())
    return abi.shapes[it - bufferValues.begin()][axis];
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

LogicalResult EntryLowering::expectSizes(Value value, Value buffer, ArrayRef<int64_t> shape, const Twine &what) {
  auto type = cast<MemRefType>(value.getType());
  for (int64_t axis = 0; axis < type.getRank(); ++axis) {
    if (!type.isDynamicDim(axis))
      continue;
    if (std::optional<int64_t> symbol = symbolOf(value, axis)) {
      if (*symbol != shape[axis])
        return func.emitError() << "expects dimension " << axis << " of " << what << " to have the size that its "
                                << bitnet::kDimsAttr << " names";
      continue;
    }
    auto alloc = value.getDefiningOp<memref::AllocOp>();
    Value size = alloc ? alloc.getDynamicSizes()[type.getDynamicDimIndex(axis)]
                       : memref::DimOp::create(b, func.getLoc(), value, axis).getResult();
    Value named = memref::DimOp::create(b, func.getLoc(), buffer, axis);
    conditions.push_back(arith::CmpIOp::create(b, func.getLoc(), arith::CmpIPredicate::eq, size, named));
    messages.push_back(b.getStringAttr("dimension " + Twine(axis) + " of " + what + " expects the size that its " +
                                       bitnet::kDimsAttr + " names")
                           .getValue());
  }
  return success();
}

LogicalResult EntryLowering::redirectResults() {
  auto ret = cast<func::ReturnOp>(body->getTerminator());
  SmallVector<Value> results(ret.getOperands());
  Location loc = ret.getLoc();
  b.setInsertionPoint(ret);
  ret.getOperandsMutable().clear();
  for (int64_t argument : abi.arguments)
    bufferValues.push_back(body->getArgument(argument));

  // Outputs are complete before a state changes: they may be what a state was before the run.
  for (int64_t result : abi.outputs) {
    Value value = results[result];
    auto type = dyn_cast<MemRefType>(value.getType());
    if (!type)
      return func.emitError() << "expects output " << result << " to be a tensor, got " << value.getType();
    auto plain = MemRefType::get(type.getShape(), type.getElementType());
    Value argument = body->addArgument(plain, value.getLoc());
    bufferValues.push_back(argument);
    if (failed(expectSizes(value, argument, abi.shapes[bufferValues.size() - 1], "output " + Twine(result))))
      return failure();
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
  for (auto [argument, result] : llvm::zip(abi.stateArguments, abi.stateResults)) {
    Value state = body->getArgument(argument), value = results[result], root = rootOf(value);
    if (root == state)
      continue;
    size_t buffer = llvm::find(abi.arguments, argument) - abi.arguments.begin();
    if (failed(expectSizes(value, state, abi.shapes[buffer], "the state that is result " + Twine(result))))
      return failure();
    if (llvm::any_of(abi.stateArguments, [&](int64_t other) { return body->getArgument(other) == root; })) {
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

void EntryLowering::findSolo() {
  // One value for sizes that are plainly equal.
  llvm::DenseMap<int64_t, Value> bySymbol;
  Value one;
  auto tokensOf = [&](Operation *op, Value operand) -> Value {
    auto type = dyn_cast<MemRefType>(operand.getType());
    if (!type || type.getRank() == 0)
      return Value();
    if (!type.isDynamicDim(0)) {
      if (type.getDimSize(0) != 1)
        return Value();
      if (!one) {
        b.setInsertionPointToStart(body);
        one = arith::ConstantIndexOp::create(b, func.getLoc(), 1);
      }
      return one;
    }
    std::optional<int64_t> symbol = symbolOf(operand, 0);
    if (symbol && bySymbol.count(*symbol))
      return bySymbol[*symbol];
    Value size;
    if (auto alloc = operand.getDefiningOp<memref::AllocOp>()) {
      size = alloc.getDynamicSizes()[0];
    } else {
      b.setInsertionPoint(op);
      size = memref::DimOp::create(b, op->getLoc(), operand, 0);
    }
    if (symbol)
      bySymbol[*symbol] = size;
    return size;
  };

  struct Writer {
    Operation *op;
    Value idle; // the number of its tokens, if it writes nothing where that is 1
  };
  llvm::MapVector<Value, SmallVector<Writer>> writers;
  llvm::SmallDenseSet<Operation *> given;
  for (Operation &op : *body) {
    forEachAccess(&op, [&](Value value, bool isWrite) {
      if (isWrite)
        writers[rootOf(value)].push_back(
            {&op, idlesWithOneToken(&op, value) ? tokensOf(&op, setun::tokensOperand(&op)) : Value()});
    });
    if (!isCompute(&op))
      continue;
    bool isGiven = op.hasAttr(setun::kSoloAttr);
    Value counted = isGiven ? setun::tokensOperand(&op) : smallResult(&op);
    Value tokens = counted ? tokensOf(&op, counted) : Value();
    if (!tokens)
      continue;
    solo[&op] = tokens;
    if (isGiven)
      given.insert(&op);
  }
  // A buffer is private if all that write it with one token are solo with the same number of tokens; then so are its
  // writers. Those that were marked before may write what is not ours.
  auto tokensOfWriters = [&](ArrayRef<Writer> all) {
    for (const Writer &writer : all)
      if (!writer.idle)
        return solo.lookup(writer.op);
    return Value();
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (auto &[root, all] : writers) {
      bool ours = root.getDefiningOp<memref::AllocOp>() != nullptr;
      Value tokens = tokensOfWriters(all);
      bool isPrivate = ours && tokens && llvm::all_of(all, [&](const Writer &writer) {
                         return (writer.idle ? writer.idle : solo.lookup(writer.op)) == tokens;
                       });
      if (isPrivate)
        continue;
      for (const Writer &writer : all)
        if (!writer.idle && (ours || !given.contains(writer.op)))
          changed |= solo.erase(writer.op);
    }
  }
  for (auto &[root, all] : writers)
    if (root.getDefiningOp<memref::AllocOp>())
      if (Value tokens = tokensOfWriters(all))
        privateTokens[root] = tokens;
  for (auto &[op, tokens] : solo)
    op->setAttr(setun::kAloneAttr, b.getUnitAttr());
}

LogicalResult EntryLowering::planMemory() {
  // Place in order, and the barriers.
  llvm::DenseMap<Operation *, unsigned> order;
  SmallVector<std::pair<unsigned, BarrierOp>> barriers;
  for (auto [place, op] : llvm::enumerate(*body)) {
    order[&op] = place;
    if (auto barrier = dyn_cast<BarrierOp>(op))
      barriers.push_back({place, barrier});
  }
  // Where a buffer is private the thread itself is done with the one before; otherwise all threads must be.
  auto isFree = [&](const Slot &slot, const Buffer &buffer) {
    if (slot.tokens != buffer.tokens || slot.lastUse >= buffer.firstUse)
      return false;
    if (slot.tokens && matchPattern(slot.tokens, m_One()))
      return true;
    auto from = llvm::partition_point(barriers, [&](auto &barrier) { return barrier.first < slot.lastUse; });
    auto to = llvm::partition_point(barriers, [&](auto &barrier) { return barrier.first < buffer.firstUse; });
    return std::any_of(from, to, [&](auto &at) {
      BarrierOp barrier = at.second;
      return barrier.getTokens().empty() || (slot.tokens && llvm::is_contained(barrier.getTokens(), slot.tokens));
    });
  };
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
  for (auto &entry : live) {
    Buffer &buffer = entry.second;
    if (buffer.firstUse != ~0u) {
      buffer.tokens = privateTokens.lookup(buffer.alloc);
      // Private buffers of a thread must not meet shared ones, nor those of another thread: their slots are apart.
      int64_t size = weight(buffer.alloc);
      for (auto [i, slot] : llvm::enumerate(slots))
        if (isFree(slot, buffer) &&
            (buffer.slot < 0 || std::abs(slot.weight - size) < std::abs(slots[buffer.slot].weight - size)))
          buffer.slot = i;
      if (buffer.slot < 0) {
        buffer.slot = slots.size();
        slots.emplace_back().tokens = buffer.tokens;
      }
      Slot &slot = slots[buffer.slot];
      slot.lastUse = buffer.lastUse;
      slot.weight = std::max(slot.weight, size);
    }
    buffers.push_back(buffer);
  }
  for (Operation &op : llvm::make_early_inc_range(*body))
    if (isa<memref::DeallocOp>(op))
      op.erase();
  return success();
}

void EntryLowering::Accesses::add(Value root, Condition condition) {
  auto &conditions = of[root];
  if (!llvm::is_contained(conditions, condition))
    conditions.push_back(condition);
}

void EntryLowering::Accesses::dropWhere(ArrayRef<Value> tokens) {
  for (auto &entry : of)
    llvm::erase_if(entry.second, [&](Condition c) { return c && llvm::is_contained(tokens, c); });
}

void EntryLowering::insertBarriers() {
  // What was read or written since the last barrier.
  Accesses read, written;
  for (Operation &op : llvm::make_early_inc_range(*body)) {
    struct Access {
      Value root;
      bool isWrite;
      Condition condition;
    };
    SmallVector<Access> accesses;
    forEachAccess(&op, [&](Value value, bool isWrite) {
      Value root = rootOf(value);
      // A private buffer is the thread's own where there is one token, whoever uses it. What a solo operation writes
      // elsewhere is by its contract no hazard there.
      Condition condition = privateTokens.lookup(root);
      if (!condition && isWrite)
        condition = solo.lookup(&op);
      accesses.push_back({root, isWrite, condition});
    });
    // Two accesses conflict where both conditions hold; a barrier under either of them will do.
    bool always = false;
    SmallVector<Value> tokens;
    for (Access &access : accesses)
      for (Accesses *earlier : {&written, access.isWrite ? &read : nullptr}) {
        auto it = earlier ? earlier->of.find(access.root) : read.of.end();
        if (!earlier || it == earlier->of.end())
          continue;
        for (Condition other : it->second) {
          Condition both = other ? other : access.condition;
          always |= !both;
          if (both && !llvm::is_contained(tokens, both) && !matchPattern(both, m_One()))
            tokens.push_back(both);
        }
      }
    if (always || !tokens.empty()) {
      b.setInsertionPoint(&op);
      BarrierOp::create(b, op.getLoc(), always ? ArrayRef<Value>() : ArrayRef<Value>(tokens));
      for (Accesses *earlier : {&read, &written})
        if (always)
          earlier->of.clear();
        else // what waits for another condition has not been ordered where this barrier is skipped
          earlier->dropWhere(tokens);
    }
    for (Access &access : accesses)
      (access.isWrite ? written : read).add(access.root, access.condition);
  }
}

void EntryLowering::findTakers() {
  bool met = false;
  for (Operation &op : *body) {
    if (auto barrier = dyn_cast<BarrierOp>(op))
      met |= barrier.getTokens().empty();
    Value weights, tokens;
    if (auto matmul = dyn_cast<MatmulOp>(op)) {
      weights = matmul.getPacked();
      tokens = matmul.getX();
    } else if (auto scan = dyn_cast<HeadScanOp>(op)) {
      weights = scan.getCodes();
    } else if (auto rescore = dyn_cast<HeadRescoreOp>(op)) {
      weights = rescore.getFine();
    }
    if (!met || !weights || cast<MemRefType>(weights.getType()).getNumElements() < kLargeBytes)
      continue;
    int64_t count = tokens ? cast<MemRefType>(tokens.getType()).getDimSize(0) : 1;
    if (count == 1 || ShapedType::isDynamic(count))
      takers.push_back(&op);
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
      return dims(-1 - abi.shapes[i][axis]);
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
    ReassociationIndices together = collapse.getReassociationIndices()[axis];
    for (int64_t inner : together) {
      auto size = sizeOf(b, collapse.getSrc(), inner, map, dims);
      if (failed(size))
        return failure();
      product = arith::MulIOp::create(b, loc, product, *size);
    }
    return product;
  }
  return unknownSize(memref.getLoc());
}

LogicalResult EntryLowering::unknownSize(Location loc) const {
  return emitError(loc) << "expects " << sized << " to follow from the entry's dimensions";
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
  return unknownSize(value.getLoc());
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

int64_t EntryLowering::scratchBytes() {
  int64_t bytes = 0;
  for (MatmulOp op : body->getOps<MatmulOp>())
    bytes = std::max(bytes, setun::matmulScratchBytes(op));
  return llvm::alignTo(bytes, kAlignment);
}

FailureOr<Value> EntryLowering::placeSlots(OpBuilder &b, IRMapping &map, function_ref<Value(int64_t)> dims,
                                           Value threads, Value thread) {
  Location loc = func.getLoc();
  for (Slot &slot : slots)
    slot.bytes = slot.offset = Value();
  for (Buffer &buffer : buffers) {
    if (buffer.slot < 0)
      continue;
    for (Value size : buffer.alloc.getDynamicSizes()) {
      auto cloned = cloneSize(b, size, map, dims);
      if (failed(cloned))
        return failure();
      map.map(size, *cloned);
    }
    Value bytes = bytesOf(b, buffer.alloc, map);
    Value &slot = slots[buffer.slot].bytes;
    slot = slot ? Value(arith::MaxSIOp::create(b, loc, slot, bytes)) : bytes;
  }
  Value offset = arith::ConstantIndexOp::create(b, loc, 0);
  Value one = arith::ConstantIndexOp::create(b, loc, 1);
  for (Slot &slot : slots) {
    slot.offset = offset;
    Value bytes = slot.bytes;
    if (slot.tokens) {
      // All buffers of the slot take the same bytes of it, so a thread's parts do not meet those of others.
      auto tokens = cloneSize(b, slot.tokens, map, dims);
      if (failed(tokens))
        return failure();
      Value isOne = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, *tokens, one);
      Value parts = arith::SelectOp::create(b, loc, isOne, threads, one);
      if (thread) {
        Value part = arith::SelectOp::create(b, loc, isOne, thread, arith::ConstantIndexOp::create(b, loc, 0));
        slot.offset = arith::AddIOp::create(b, loc, offset, arith::MulIOp::create(b, loc, bytes, part));
      }
      bytes = arith::MulIOp::create(b, loc, bytes, parts);
    }
    offset = arith::AddIOp::create(b, loc, offset, bytes);
  }
  if (int64_t bytes = scratchBytes()) {
    Value each = arith::ConstantIndexOp::create(b, loc, bytes);
    if (thread)
      scratchOffset = arith::AddIOp::create(b, loc, offset, arith::MulIOp::create(b, loc, thread, each));
    offset = arith::AddIOp::create(b, loc, offset, arith::MulIOp::create(b, loc, threads, each));
  }
  if (!takers.empty()) {
    takenOffset = offset;
    Value each = arith::ConstantIndexOp::create(b, loc, takenBytes());
    offset = arith::AddIOp::create(b, loc, offset, arith::MulIOp::create(b, loc, threads, each));
  }
  return offset;
}

LogicalResult EntryLowering::makeWorkspaceFunction() {
  auto ptr = LLVM::LLVMPointerType::get(context);
  Location loc = func.getLoc();
  b.setInsertionPoint(func);
  auto fn = func::FuncOp::create(b, loc, setun::workspaceSymbol(func.getName()),
                                 b.getFunctionType({ptr, b.getI32Type()}, {b.getI64Type()}));
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
  Value threads = arith::IndexCastUIOp::create(fb, loc, fb.getIndexType(), block->getArgument(1));
  // Conditions may rely on those before them, and sizes on all of them: that a divisor is not 0, say.
  SmallVector<scf::IfOp> holding;
  for (auto [number, condition] : llvm::enumerate(conditions)) {
    llvm::SaveAndRestore what(sized, StringRef("a condition on sizes"));
    auto holds = cloneSize(fb, condition, map, dims);
    if (failed(holds))
      return failure();
    auto branch = scf::IfOp::create(fb, loc, TypeRange{fb.getI64Type()}, *holds, /*withElseRegion=*/true);
    fb.setInsertionPointToStart(branch.elseBlock());
    Value code = arith::ConstantIntOp::create(fb, loc, -1 - static_cast<int64_t>(number), 64);
    scf::YieldOp::create(fb, loc, code);
    fb.setInsertionPointToStart(branch.thenBlock());
    holding.push_back(branch);
  }
  auto total = placeSlots(fb, map, dims, threads, Value());
  if (failed(total))
    return failure();
  Value result = arith::IndexCastOp::create(fb, loc, fb.getI64Type(), *total);
  for (scf::IfOp branch : llvm::reverse(holding)) {
    scf::YieldOp::create(fb, loc, result);
    fb.setInsertionPointAfter(branch);
    result = branch.getResult(0);
  }
  if (!messages.empty())
    fn->setAttr(setun::kConditionsAttr, fb.getStrArrayAttr(messages));
  func::ReturnOp::create(fb, loc, result);
  return success();
}

void EntryLowering::lookAhead(Block *ops, Value section, Value thread, Value threads) {
  MatmulOp before;
  for (Operation &op : *ops) {
    if (auto matmul = dyn_cast<MatmulOp>(op))
      before = matmul;
    auto quantize = dyn_cast<QuantizeOp>(op);
    if (!quantize || !solo.contains(quantize) ||
        quantize.getActivation().getGranularity() != bitnet::ActGranularity::PerToken)
      continue;
    // Every thread reads all of the norm's gains.
    auto gains = quantize.getNormWeight() ? quantize.getNormWeight().getDefiningOp<memref::ViewOp>() : memref::ViewOp();
    if (before && before.getTaken() && gains && gains.getSource() == section) {
      auto type = cast<MemRefType>(gains.getType());
      int64_t bytes = type.getNumElements() * type.getElementTypeBitWidth() / 8;
      before.getAheadMutable().assign(memref::ViewOp::create(b, gains.getLoc(), MemRefType::get({bytes}, b.getI8Type()),
                                                             section, gains.getByteShift(), ValueRange()));
    }
    MatmulOp next;
    for (Operation *user : quantize.getCodes().getUsers())
      if (auto matmul = dyn_cast<MatmulOp>(user); matmul && matmul.getX() == quantize.getCodes() &&
                                                  quantize->isBeforeInBlock(matmul) &&
                                                  (!next || matmul->isBeforeInBlock(next)))
        next = matmul;
    auto view = next ? next.getPacked().getDefiningOp<memref::ViewOp>() : memref::ViewOp();
    int64_t bytes = next ? cast<MemRefType>(next.getPacked().getType()).getNumElements() : 0;
    if (!view || view.getSource() != section || bytes < kLargeBytes)
      continue;
    setun::VectorBuilder v(b, quantize.getLoc());
    int64_t units = next.getLayout().getUnits();
    Value begin = v.mul(v.share(v.index(units), thread, threads).first, bytes / units);
    auto type = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
    Value ahead = memref::ViewOp::create(b, quantize.getLoc(), type, section, v.add(view.getByteShift(), begin),
                                         ValueRange{v.sub(v.index(bytes), begin)});
    quantize.getAheadMutable().assign(ahead);
  }
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
  auto asIndex = [&](Value value) -> Value { return arith::IndexCastUIOp::create(b, loc, index, value); };
  Value threadCount = asIndex(field(1, i32)), threadIndex = asIndex(thread);
  (void)placeSlots(b, map, symbolValue, threadCount, threadIndex); // did not fail for the other function
  for (auto [i, value] : llvm::enumerate(bufferValues)) {
    Value address = LLVM::GEPOp::create(b, loc, ptr, ptr, table, ArrayRef<LLVM::GEPArg>{int32_t(i)});
    Value pointer = LLVM::LoadOp::create(b, loc, ptr, address);
    SmallVector<Value> sizes;
    for (int64_t size : abi.shapes[i])
      sizes.push_back(dimOf(size));
    value.replaceAllUsesWith(memrefOn(pointer, cast<MemRefType>(value.getType()), sizes));
  }
  if (abi.position >= 0)
    old->getArgument(abi.position).replaceAllUsesWith(field(6, i64));

  auto bytesType = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  Value arena = memrefOn(workspace, bytesType, {LLVM::ConstantOp::create(b, loc, i64, b.getI64IntegerAttr(INT64_MAX))});
  Value section = memrefOn(weights, bytesType, {LLVM::ConstantOp::create(b, loc, i64, b.getI64IntegerAttr(INT64_MAX))});
  for (Buffer &buffer : buffers) {
    if (buffer.slot >= 0) {
      SmallVector<Value> sizes;
      for (Value size : buffer.alloc.getDynamicSizes())
        sizes.push_back(map.lookup(size));
      Value view = memref::ViewOp::create(b, loc, buffer.alloc.getType(), arena, slots[buffer.slot].offset, sizes);
      buffer.alloc.getResult().replaceAllUsesWith(view);
    }
    buffer.alloc.erase();
  }
  if (scratchOffset) {
    Value size = arith::ConstantIndexOp::create(b, loc, scratchBytes());
    Value scratch = memref::ViewOp::create(b, loc, bytesType, arena, scratchOffset, size);
    for (MatmulOp op : old->getOps<MatmulOp>())
      if (setun::matmulScratchBytes(op))
        op.getScratchMutable().assign(scratch);
  }
  if (!takers.empty()) {
    auto type = MemRefType::get({ShapedType::kDynamic, takenBytes() / int64_t(sizeof(int64_t))}, i64);
    for (auto [number, op] : llvm::enumerate(takers)) {
      Value first = arith::ConstantIndexOp::create(b, loc, number * sizeof(int64_t));
      Value at = arith::AddIOp::create(b, loc, takenOffset, first);
      Value taken = memref::ViewOp::create(b, loc, type, arena, at, ValueRange{threadCount});
      llvm::TypeSwitch<Operation *>(op).Case<MatmulOp, HeadScanOp, HeadRescoreOp>(
          [&](auto taker) { taker.getTakenMutable().assign(taken); });
    }
    constexpr int64_t bytes = 64;
    Type line = VectorType::get({bytes}, b.getI8Type());
    Value zeros = LLVM::ZeroOp::create(b, loc, line);
    Value own = arith::MulIOp::create(b, loc, threadIndex, arith::ConstantIndexOp::create(b, loc, takenBytes()));
    own = arith::IndexCastOp::create(b, loc, i64, arith::AddIOp::create(b, loc, takenOffset, own));
    Value counters = LLVM::GEPOp::create(b, loc, ptr, b.getI8Type(), workspace, ArrayRef<LLVM::GEPArg>{own});
    for (int64_t at = 0; at < takenBytes(); at += bytes) {
      Value address = LLVM::GEPOp::create(b, loc, ptr, b.getI8Type(), counters, ArrayRef<LLVM::GEPArg>{int32_t(at)});
      LLVM::StoreOp::create(b, loc, zeros, address, bytes);
    }
  }
  for (Operation &op : llvm::make_early_inc_range(*old)) {
    if (auto sectionOp = dyn_cast<SectionOp>(op)) {
      Value at = arith::ConstantIndexOp::create(b, op.getLoc(), sectionOp.getOffset());
      Value view = memref::ViewOp::create(b, op.getLoc(), cast<MemRefType>(sectionOp.getResult().getType()), section,
                                          at, ValueRange());
      sectionOp.getResult().replaceAllUsesWith(view);
      op.erase();
    } else if (auto barrier = dyn_cast<BarrierOp>(op)) {
      b.setInsertionPoint(&op);
      Value wanted;
      for (Value tokens : barrier.getTokens()) {
        Value one = arith::ConstantIndexOp::create(b, op.getLoc(), 1);
        Value several = arith::CmpIOp::create(b, op.getLoc(), arith::CmpIPredicate::ne, tokens, one);
        wanted = wanted ? Value(arith::OrIOp::create(b, op.getLoc(), wanted, several)) : several;
      }
      if (wanted) {
        auto conditional = scf::IfOp::create(b, op.getLoc(), wanted, /*withElseRegion=*/false);
        b.setInsertionPointToStart(&conditional.getThenRegion().front());
      }
      Value function = field(7, ptr), data = field(8, ptr);
      auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), {ptr, i32});
      LLVM::CallOp::create(b, op.getLoc(), type, ValueRange{function, data, thread});
      op.erase();
      b.setInsertionPointToEnd(block);
    }
  }
  lookAhead(old, section, threadIndex, threadCount);
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
      op->setAttr(setun::kComputeAttr, b.getUnitAttr());
  });
}

LogicalResult EntryLowering::run() {
  auto known = setun::getEntryAbi(func);
  if (failed(known))
    return failure();
  abi = std::move(*known);
  body = &func.getBody().front();
  if (failed(takeConditions()) || failed(redirectResults()))
    return failure();
  findSolo();
  insertBarriers();
  findTakers();
  if (failed(planMemory()) || failed(makeWorkspaceFunction()))
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
