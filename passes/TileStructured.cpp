//===- TileStructured.cpp - loops of upstream structured operations ----------------===//
//
// Any linalg operation on buffers: element by element, gathers, reductions, windows, products of matrices. Points of
// the parallel loops are shared among the threads. One parallel loop becomes vectors of 16 lanes, for which operands
// that are contiguous along it are loaded whole and others element by element; what is left at its end runs as numbers.
// Reductions run in the order of their loops within each lane, or by lanes (dialects/BitNet/ReductionOrder.h).
// Products of matrices of f32 have tiles of registers, in the same order.
//
//===----------------------------------------------------------------------===//
#include "dialects/BitNet/ReductionOrder.h"
#include "passes/MathBuilder.h"
#include "passes/VectorBuilder.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"

using namespace mlir;
using namespace setun;
using utils::IteratorType;

namespace {
/// Elements of the vectorised loop that are one piece of work for a thread.
constexpr int64_t kPiece = 1024;

/// By how much `expr` grows with loop `dim`, if that is a constant.
std::optional<int64_t> stepOf(AffineExpr expr, unsigned dim) {
  AffineExpr d = getAffineDimExpr(dim, expr.getContext());
  auto step = dyn_cast<AffineConstantExpr>(simplifyAffineExpr(expr.replace(d, d + 1) - expr, dim + 1, 0));
  if (step)
    return step.getValue();
  return expr.isFunctionOfDim(dim) ? std::nullopt : std::optional<int64_t>(0);
}

class StructuredTiler {
public:
  StructuredTiler(linalg::GenericOp op, TileContext &c)
      : op(op), c(c), v(c.v), b(c.v.b), loc(c.v.loc), loops(op.getIteratorTypesArray()) {}
  LogicalResult run();

private:
  /// How an operand's elements lie along a loop.
  enum class Access { Same, Contiguous, Apart };

  LogicalResult check();
  AffineMap mapOf(OpOperand &operand) { return op.getMatchingIndexingMap(&operand); }
  Access accessOf(OpOperand &operand, unsigned dim);
  bool isParallel(unsigned dim) const { return loops[dim] == IteratorType::parallel; }
  std::optional<unsigned> chooseVectorLoop();
  Value sizeOf(unsigned dim);
  bool isStaticBelow(unsigned dim, int64_t limit);
  SmallVector<Value> indicesOf(OpOperand &operand, ArrayRef<Value> point);

  // The loop at hand that lanes run along; none where points are numbers.
  using Lanes = std::optional<unsigned>;
  Value bytesOf(Value memref);
  Value loadNumber(Value memref, ValueRange indices);
  void storeNumber(Value value, Value memref, ValueRange indices);
  Value load(OpOperand &operand, ArrayRef<Value> point, Lanes lanes);
  void store(Value value, OpOperand &operand, ArrayRef<Value> point, Lanes lanes);
  /// `make(l)` for the point of each lane.
  Value eachLane(Type element, function_ref<Value(int64_t lane)> make);
  SmallVector<Value> pointOfLane(ArrayRef<Value> point, unsigned dim, int64_t lane);
  Value spread(Value number);

  /// The body's results; `old` are the outputs' elements.
  SmallVector<Value> body(ArrayRef<Value> point, Lanes lanes, ValueRange old);
  Value bodyOp(Operation &inner, ArrayRef<Value> point, Lanes lanes, IRMapping &map);
  Value bodyLoad(memref::LoadOp inner, Lanes lanes, IRMapping &map);
  /// A quotient or rest of integers, which `plain` makes of its operands, for any divisor: CPUs trap on 0, and on -1
  /// where the quotient does not fit. By 0 is as by 1, by -1 the negative, modulo 2^bits.
  Value divide(Operation &inner, Value x, Value y, function_ref<Value(ValueRange)> plain);

  /// Runs `visit(point, from, to)` for this thread's pieces of the parallel loops; with `along`, pieces of that loop.
  void overPieces(Lanes along, function_ref<void(SmallVector<Value> &point, Value from, Value to)> visit);
  /// The reduction loops from number `next` on, around `inner`.
  SmallVector<Value> reduce(ArrayRef<unsigned> reductions, SmallVector<Value> &point, ValueRange state,
                            function_ref<SmallVector<Value>(ArrayRef<Value> point, ValueRange state)> inner);
  void runInOrder();
  void runByLanes(Operation *combiner);
  SmallVector<unsigned> reductionLoops();

  linalg::GenericOp op;
  TileContext &c;
  VectorBuilder &v;
  OpBuilder &b;
  Location loc;
  SmallVector<IteratorType> loops;
  llvm::DenseMap<Value, Value> asBytes;
};

StructuredTiler::Access StructuredTiler::accessOf(OpOperand &operand, unsigned dim) {
  AffineMap map = mapOf(operand);
  if (!map.isFunctionOfDim(dim))
    return Access::Same;
  auto type = dyn_cast<MemRefType>(operand.get().getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  if (!type || failed(type.getStridesAndOffset(strides, offset)) || strides.back() != 1 ||
      stepOf(map.getResults().back(), dim) != 1)
    return Access::Apart;
  bool onlyLast = llvm::none_of(map.getResults().drop_back(), [&](AffineExpr e) { return e.isFunctionOfDim(dim); });
  return onlyLast ? Access::Contiguous : Access::Apart;
}

bool StructuredTiler::isStaticBelow(unsigned dim, int64_t limit) {
  int64_t size = op.getStaticLoopRanges()[dim];
  return !ShapedType::isDynamic(size) && size < limit;
}

/// The parallel loop along which most operands are contiguous, outputs above all.
std::optional<unsigned> StructuredTiler::chooseVectorLoop() {
  std::optional<unsigned> best;
  int64_t most = 0;
  for (unsigned dim = 0; dim < loops.size(); ++dim) {
    if (!isParallel(dim) || isStaticBelow(dim, kLanes))
      continue;
    int64_t score = 0;
    for (OpOperand &operand : op->getOpOperands()) {
      Access access = accessOf(operand, dim);
      score += access == Access::Contiguous ? (op.isDpsInit(&operand) ? 6 : 4) : access == Access::Same ? 2 : 0;
    }
    if (score >= most && score > 0) {
      best = dim;
      most = score;
    }
  }
  return best;
}

Value StructuredTiler::sizeOf(unsigned dim) {
  int64_t size = op.getStaticLoopRanges()[dim];
  if (!ShapedType::isDynamic(size))
    return v.index(size);
  for (OpOperand &operand : op->getOpOperands())
    for (auto [axis, expr] : llvm::enumerate(mapOf(operand).getResults()))
      if (expr == getAffineDimExpr(dim, b.getContext()))
        return v.dim(operand.get(), axis);
  llvm_unreachable("every loop is an axis of an operand");
}

SmallVector<Value> StructuredTiler::indicesOf(OpOperand &operand, ArrayRef<Value> point) {
  SmallVector<Value> indices;
  AffineMap map = mapOf(operand);
  for (AffineExpr expr : map.getResults()) {
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      indices.push_back(point[dim.getPosition()]);
    else
      indices.push_back(
          affine::AffineApplyOp::create(b, loc, AffineMap::get(map.getNumDims(), 0, expr), ValueRange(point)));
  }
  return indices;
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

/// Truth values lie in memory as bytes 0 and 1; the same memory as bytes.
Value StructuredTiler::bytesOf(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.getElementType().isInteger(1))
    return memref;
  Value &bytes = asBytes[memref];
  if (!bytes) {
    OpBuilder::InsertionGuard guard(b);
    if (Operation *def = memref.getDefiningOp())
      b.setInsertionPointAfter(def);
    else
      b.setInsertionPointToStart(cast<BlockArgument>(memref).getOwner());
    auto byteType = MemRefType::get(type.getShape(), b.getI8Type(), type.getLayout());
    bytes = UnrealizedConversionCastOp::create(b, loc, byteType, memref).getResult(0);
  }
  return bytes;
}

Value isTrue(OpBuilder &b, Location loc, Value bytes) {
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(bytes.getType()));
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, bytes, zero);
}

Value StructuredTiler::loadNumber(Value memref, ValueRange indices) {
  Value value = v.loadScalar(bytesOf(memref), indices);
  return cast<MemRefType>(memref.getType()).getElementType().isInteger(1) ? isTrue(b, loc, value) : value;
}

void StructuredTiler::storeNumber(Value value, Value memref, ValueRange indices) {
  if (value.getType().isInteger(1))
    value = arith::ExtUIOp::create(b, loc, b.getI8Type(), value);
  v.storeScalar(value, bytesOf(memref), indices);
}

Value StructuredTiler::eachLane(Type element, function_ref<Value(int64_t)> make) {
  SmallVector<Value> lanes;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    lanes.push_back(make(lane));
  return vector::FromElementsOp::create(b, loc, VectorType::get({kLanes}, element), lanes);
}

SmallVector<Value> StructuredTiler::pointOfLane(ArrayRef<Value> point, unsigned dim, int64_t lane) {
  SmallVector<Value> result(point);
  result[dim] = v.add(result[dim], lane);
  return result;
}

Value StructuredTiler::spread(Value number) {
  return vector::BroadcastOp::create(b, loc, VectorType::get({kLanes}, number.getType()), number);
}

Value StructuredTiler::load(OpOperand &operand, ArrayRef<Value> point, Lanes lanes) {
  Value memref = operand.get();
  if (!isa<MemRefType>(memref.getType()))
    return lanes ? spread(memref) : memref;
  Access access = lanes ? accessOf(operand, *lanes) : Access::Same;
  if (access == Access::Contiguous) {
    Value vector = v.load(bytesOf(memref), indicesOf(operand, point));
    return cast<MemRefType>(memref.getType()).getElementType().isInteger(1) ? isTrue(b, loc, vector) : vector;
  }
  if (access == Access::Apart)
    return eachLane(cast<MemRefType>(memref.getType()).getElementType(), [&](int64_t lane) {
      return loadNumber(memref, indicesOf(operand, pointOfLane(point, *lanes, lane)));
    });
  Value number = loadNumber(memref, indicesOf(operand, point));
  return lanes ? spread(number) : number;
}

void StructuredTiler::store(Value value, OpOperand &operand, ArrayRef<Value> point, Lanes lanes) {
  Value memref = operand.get();
  if (!lanes)
    return storeNumber(value, memref, indicesOf(operand, point));
  if (accessOf(operand, *lanes) == Access::Contiguous) {
    auto type = cast<VectorType>(value.getType());
    if (type.getElementType().isInteger(1))
      value = arith::ExtUIOp::create(b, loc, type.clone(b.getI8Type()), value);
    return v.store(value, bytesOf(memref), indicesOf(operand, point));
  }
  for (int64_t lane = 0; lane < kLanes; ++lane)
    storeNumber(vector::ExtractOp::create(b, loc, value, ArrayRef<int64_t>{lane}), memref,
                indicesOf(operand, pointOfLane(point, *lanes, lane)));
}

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

/// What a body may hold, and its lowering to what every target has.
LogicalResult checkBodyOp(Operation &inner) {
  auto isHalf = [](Type type) {
    Type element = getElementTypeOrSelf(type);
    return element.isF16() || element.isBF16();
  };
  if (isa<linalg::IndexOp, memref::LoadOp, memref::DimOp, affine::AffineApplyOp, arith::ConstantOp, bitnet::MathOp,
          bitnet::PowOp, arith::SelectOp>(inner))
    return success();
  if (auto widened = dyn_cast<arith::ExtFOp>(inner); widened && widened.getType().isF32())
    return success();
  bool isKnown = inner.hasTrait<OpTrait::Vectorizable>() && inner.getNumResults() == 1;
  if (isa<math::MathDialect>(inner.getDialect()))
    isKnown &= isa<math::AbsFOp, math::AbsIOp, math::SqrtOp, math::CopySignOp>(inner);
  if (!isKnown || isa<arith::RemFOp>(inner))
    return inner.emitOpError() << "is not supported element by element";
  if (llvm::any_of(inner.getOperandTypes(), isHalf) || llvm::any_of(inner.getResultTypes(), isHalf))
    return inner.emitOpError() << "expects f32; f16 and bf16 can only be widened";
  return success();
}

LogicalResult StructuredTiler::check() {
  for (Operation &inner : op.getBlock()->without_terminator())
    if (failed(checkBodyOp(inner)))
      return failure();
  return success();
}

/// An element of a buffer that the body picks. What lies outside is the nearest one inside.
Value StructuredTiler::bodyLoad(memref::LoadOp inner, Lanes lanes, IRMapping &map) {
  Value memref = inner.getMemRef();
  auto pick = [&](int64_t lane) {
    SmallVector<Value> indices;
    for (auto [axis, index] : llvm::enumerate(inner.getIndices())) {
      Value at = map.lookupOrDefault(index);
      if (isa<VectorType>(at.getType()))
        at = vector::ExtractOp::create(b, loc, at, ArrayRef<int64_t>{lane});
      Value last = v.add(v.dim(memref, axis), -1);
      at = arith::MaxSIOp::create(b, loc, arith::MinSIOp::create(b, loc, at, last), v.index(0));
      indices.push_back(at);
    }
    return loadNumber(memref, indices);
  };
  return lanes ? eachLane(inner.getType(), pick) : pick(0);
}

Value StructuredTiler::bodyOp(Operation &inner, ArrayRef<Value> point, Lanes lanes, IRMapping &map) {
  auto wide = [&](Type type) -> Type { return lanes ? VectorType::get({kLanes}, type) : type; };
  if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
    Value at = point[index.getDim()];
    if (!lanes)
      return at;
    at = spread(at);
    if (index.getDim() != *lanes)
      return at;
    return arith::AddIOp::create(b, loc, at, vector::StepOp::create(b, loc, cast<VectorType>(at.getType())));
  }
  if (auto loadOp = dyn_cast<memref::LoadOp>(inner))
    return bodyLoad(loadOp, lanes, map);
  if (auto constant = dyn_cast<arith::ConstantOp>(inner)) {
    Value number = b.clone(inner)->getResult(0);
    return lanes ? spread(number) : number;
  }
  if (isa<memref::DimOp>(inner)) {
    Value number = b.clone(inner, map)->getResult(0);
    return lanes ? spread(number) : number;
  }
  if (auto apply = dyn_cast<affine::AffineApplyOp>(inner)) {
    auto at = [&](int64_t lane) -> Value {
      SmallVector<Value> operands;
      for (Value operand : apply.getMapOperands()) {
        Value value = map.lookupOrDefault(operand);
        operands.push_back(isa<VectorType>(value.getType())
                               ? vector::ExtractOp::create(b, loc, value, ArrayRef<int64_t>{lane}).getResult()
                               : value);
      }
      return affine::AffineApplyOp::create(b, loc, apply.getMap(), operands);
    };
    return lanes ? eachLane(b.getIndexType(), at) : at(0);
  }
  SmallVector<Value> operands;
  for (Value operand : inner.getOperands()) {
    Value value = map.lookupOrDefault(operand);
    operands.push_back(lanes && !isa<VectorType>(value.getType()) ? spread(value) : value);
  }
  if (auto math = dyn_cast<bitnet::MathOp>(inner))
    return emitFunction(b, loc, math.getFunction(), operands[0]);
  if (isa<bitnet::PowOp>(inner))
    return emitPow(b, loc, operands[0], operands[1]);
  if (auto widened = dyn_cast<arith::ExtFOp>(inner); widened && !widened.getIn().getType().isF32()) {
    // By integers: not every CPU has an instruction. One number is 16 equal ones.
    Value halves = lanes ? operands[0] : spread(operands[0]);
    Value bits = vector::BitCastOp::create(b, loc, VectorType::get({kLanes}, b.getI16Type()), halves);
    bits = arith::ExtUIOp::create(b, loc, v.i32Lanes(), bits);
    Value value = widenBits(v, bits, widened.getIn().getType());
    return lanes ? value : vector::ExtractOp::create(b, loc, value, ArrayRef<int64_t>{0}).getResult();
  }
  auto plain = [&](ValueRange operands) {
    OperationState state(loc, inner.getName(), operands, wide(inner.getResult(0).getType()), inner.getAttrs());
    return b.create(state)->getResult(0);
  };
  if (isa<arith::DivSIOp, arith::FloorDivSIOp, arith::CeilDivSIOp, arith::RemSIOp, arith::DivUIOp, arith::RemUIOp>(
          inner))
    return divide(inner, operands[0], operands[1], plain);
  return plain(operands);
}

Value StructuredTiler::divide(Operation &inner, Value x, Value y, function_ref<Value(ValueRange)> plain) {
  auto equals = [&](Value number) -> Value {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, y, number);
  };
  auto choose = [&](Value condition, Value yes, Value no) -> Value {
    return arith::SelectOp::create(b, loc, condition, yes, no);
  };
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(y.getType()));
  Value one = arith::ConstantOp::create(b, loc, b.getOneAttr(y.getType()));
  Value divisor = choose(equals(zero), one, y);
  if (isa<arith::DivUIOp, arith::RemUIOp>(inner))
    return plain({x, divisor});
  Value isMinusOne = equals(v.sub(zero, one));
  Value result = plain({x, choose(isMinusOne, one, divisor)});
  return isa<arith::RemSIOp>(inner) ? result : choose(isMinusOne, v.sub(zero, x), result);
}

SmallVector<Value> StructuredTiler::body(ArrayRef<Value> point, Lanes lanes, ValueRange old) {
  IRMapping map;
  Block *block = op.getBlock();
  for (OpOperand *operand : op.getDpsInputOperands()) {
    BlockArgument argument = op.getMatchingBlockArgument(operand);
    if (!argument.use_empty())
      map.map(argument, load(*operand, point, lanes));
  }
  for (auto [argument, value] : llvm::zip(op.getRegionOutputArgs(), old))
    map.map(argument, value);
  for (Operation &inner : block->without_terminator())
    map.map(inner.getResult(0), bodyOp(inner, point, lanes, map));
  SmallVector<Value> results;
  for (Value yielded : block->getTerminator()->getOperands()) {
    Value value = map.lookupOrDefault(yielded);
    results.push_back(lanes && !isa<VectorType>(value.getType()) ? spread(value) : value);
  }
  return results;
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

SmallVector<unsigned> StructuredTiler::reductionLoops() {
  SmallVector<unsigned> result;
  for (unsigned dim = 0; dim < loops.size(); ++dim)
    if (!isParallel(dim))
      result.push_back(dim);
  return result;
}

void StructuredTiler::overPieces(Lanes along, function_ref<void(SmallVector<Value> &, Value, Value)> visit) {
  SmallVector<unsigned> outer;
  for (unsigned dim = 0; dim < loops.size(); ++dim)
    if (isParallel(dim) && dim != along)
      outer.push_back(dim);
  SmallVector<Value> sizes;
  Value total = v.index(1), length, pieces;
  if (along) {
    length = sizeOf(*along);
    total = pieces = arith::CeilDivUIOp::create(b, loc, length, v.index(kPiece));
  }
  for (unsigned dim : outer) {
    sizes.push_back(sizeOf(dim));
    total = arith::MulIOp::create(b, loc, total, sizes.back());
  }
  auto [begin, end] = v.share(total, c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value item) {
    SmallVector<Value> point(loops.size());
    Value from, to;
    if (along) {
      Value piece = arith::RemUIOp::create(b, loc, item, pieces);
      item = arith::DivUIOp::create(b, loc, item, pieces);
      from = v.mul(piece, kPiece);
      to = v.min(v.add(from, kPiece), length);
    }
    for (size_t i = outer.size(); i-- > 0;) {
      point[outer[i]] = i ? Value(arith::RemUIOp::create(b, loc, item, sizes[i])) : item;
      if (i)
        item = arith::DivUIOp::create(b, loc, item, sizes[i]);
    }
    visit(point, from, to);
  });
}

SmallVector<Value> StructuredTiler::reduce(ArrayRef<unsigned> reductions, SmallVector<Value> &point, ValueRange state,
                                           function_ref<SmallVector<Value>(ArrayRef<Value>, ValueRange)> inner) {
  if (reductions.empty())
    return inner(point, state);
  return v.loop(v.index(0), sizeOf(reductions[0]), 1, state, [&](Value iv, ValueRange next) {
    point[reductions[0]] = iv;
    return reduce(reductions.drop_front(), point, next, inner);
  });
}

void StructuredTiler::runInOrder() {
  SmallVector<unsigned> reductions = reductionLoops();
  std::optional<unsigned> along = chooseVectorLoop();
  bool isVector = along.has_value();
  if (!along) // numbers, along the last parallel loop
    for (unsigned dim = 0; dim < loops.size(); ++dim)
      if (isParallel(dim))
        along = dim;
  auto outputs = op.getDpsInitsMutable();
  auto atPoint = [&](SmallVector<Value> &point, Lanes lanes) {
    SmallVector<Value> old;
    for (auto [i, operand] : llvm::enumerate(outputs)) {
      bool isRead = !reductions.empty() || !op.getRegionOutputArgs()[i].use_empty();
      old.push_back(isRead ? load(operand, point, lanes) : Value());
    }
    SmallVector<Value> results =
        reduce(reductions, point, old, [&](ArrayRef<Value> at, ValueRange state) { return body(at, lanes, state); });
    for (auto [operand, result] : llvm::zip(outputs, results))
      store(result, operand, point, lanes);
  };
  overPieces(along, [&](SmallVector<Value> &point, Value from, Value to) {
    if (!along)
      return atPoint(point, std::nullopt);
    if (isVector) {
      Value whole = v.add(from, v.mul(v.div(v.sub(to, from), kLanes), kLanes));
      v.loop(from, whole, kLanes, [&](Value at) {
        SmallVector<Value> lanesPoint = point;
        lanesPoint[*along] = at;
        atPoint(lanesPoint, along);
      });
      from = whole;
    }
    v.loop(from, to, 1, [&](Value at) {
      SmallVector<Value> number = point;
      number[*along] = at;
      atPoint(number, std::nullopt);
    });
  });
}

void StructuredTiler::runByLanes(Operation *combiner) {
  unsigned last = loops.size() - 1;
  SmallVector<unsigned> outer = reductionLoops();
  outer.pop_back();
  OpOperand &output = *op.getDpsInitsMutable().begin();
  Type element = cast<MemRefType>(output.get().getType()).getElementType();
  auto lanesType = VectorType::get({kLanes}, element);
  bool hasTail = true;
  if (int64_t size = op.getStaticLoopRanges()[last]; !ShapedType::isDynamic(size))
    hasTail = size % kLanes != 0;
  // Truth values by bytes, as vectors of them are no memory.
  Type stored = element.isInteger(1) ? b.getI8Type() : element;
  Value scratch;
  if (hasTail)
    scratch = memref::AllocaOp::create(b, loc, MemRefType::get({kLanes}, stored), b.getI64IntegerAttr(64));
  auto combine = [&](Value x, Value y) -> Value {
    OperationState state(loc, combiner->getName(), {x, y}, {x.getType()}, combiner->getAttrs());
    return b.create(state)->getResult(0);
  };
  auto spill = [&](Value lanes) {
    if (element.isInteger(1))
      lanes = arith::ExtUIOp::create(b, loc, VectorType::get({kLanes}, stored), lanes);
    v.store(lanes, scratch, {v.index(0)});
  };
  auto refill = [&]() -> Value {
    Value lanes = v.load(scratch, {v.index(0)});
    return element.isInteger(1) ? isTrue(b, loc, lanes) : lanes;
  };
  Value neutral = arith::ConstantOp::create(b, loc, *arith::getNeutralElement(combiner));
  overPieces(std::nullopt, [&](SmallVector<Value> &point, Value, Value) {
    Value init = vector::BroadcastOp::create(b, loc, lanesType, neutral);
    Value size = sizeOf(last), whole = v.mul(v.div(size, kLanes), kLanes);
    Value lanes = reduce(outer, point, init, [&](ArrayRef<Value> at, ValueRange state) {
      SmallVector<Value> inner(at);
      SmallVector<Value> sums = v.loop(v.index(0), whole, kLanes, state, [&](Value iv, ValueRange old) {
        inner[last] = iv;
        return body(inner, last, old);
      });
      if (!hasTail)
        return sums;
      spill(sums[0]);
      v.loop(whole, size, 1, [&](Value iv) {
        inner[last] = iv;
        Value lane = v.sub(iv, whole), old = v.loadScalar(scratch, {lane});
        if (element.isInteger(1))
          old = isTrue(b, loc, old);
        Value sum = body(inner, std::nullopt, old)[0];
        if (element.isInteger(1))
          sum = arith::ExtUIOp::create(b, loc, stored, sum);
        v.storeScalar(sum, scratch, {lane});
      });
      return SmallVector<Value>{refill()};
    })[0];
    Value total = v.tree(lanes, combine);
    storeNumber(combine(loadNumber(output.get(), indicesOf(output, point)), total), output.get(),
                indicesOf(output, point));
  });
}

LogicalResult StructuredTiler::run() {
  if (failed(check()))
    return failure();
  if (Operation *combiner = bitnet::laneCombiner(op))
    runByLanes(combiner);
  else
    runInOrder();
  return success();
}

//===----------------------------------------------------------------------===//
// Products of matrices
//===----------------------------------------------------------------------===//

/// out[..., m, n] += lhs[..., m, k] * rhs[..., k, n] of f32, whatever the order of axes; `n` is the innermost axis of
/// the output.
struct Product {
  OpOperand *lhs, *rhs, *out;
  unsigned m, n, k;
};

std::optional<Product> matchProduct(linalg::GenericOp op) {
  auto dims = linalg::inferContractionDims(op);
  if (failed(dims) || dims->k.size() != 1 || dims->m.empty() || dims->n.empty() || op.getNumDpsInputs() != 2)
    return std::nullopt;
  // Windows have sums of loops as indices, and more reductions.
  if (op.getNumReductionLoops() != 1 ||
      !llvm::all_of(op.getIndexingMapsArray(), [](AffineMap map) { return map.isProjectedPermutation(); }))
    return std::nullopt;
  for (Value operand : op->getOperands())
    if (auto type = dyn_cast<MemRefType>(operand.getType()); !type || !type.getElementType().isF32())
      return std::nullopt;
  Block *body = op.getBlock();
  auto sum = body->getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  if (!sum || std::distance(body->begin(), body->end()) != 3)
    return std::nullopt;
  Value old = body->getArgument(2), other = sum.getLhs() == old ? sum.getRhs() : sum.getLhs();
  auto product = other.getDefiningOp<arith::MulFOp>();
  if (!product || (sum.getLhs() != old && sum.getRhs() != old) || product.getLhs() == product.getRhs() ||
      !isa<BlockArgument>(product.getLhs()) || !isa<BlockArgument>(product.getRhs()))
    return std::nullopt;
  Product result{op.getDpsInputOperand(0), op.getDpsInputOperand(1), op.getDpsInitOperand(0),
                 dims->m.back(),           dims->n.back(),           dims->k[0]};
  auto last = dyn_cast<AffineDimExpr>(op.getMatchingIndexingMap(result.out).getResults().back());
  if (!last)
    return std::nullopt;
  if (llvm::is_contained(dims->m, last.getPosition())) {
    std::swap(result.lhs, result.rhs);
    std::swap(result.m, result.n);
    std::swap(dims->m, dims->n);
  }
  if (llvm::is_contained(dims->n, last.getPosition()))
    result.n = last.getPosition();
  auto outType = cast<MemRefType>(result.out->get().getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  if (last.getPosition() != result.n || failed(outType.getStridesAndOffset(strides, offset)) || strides.back() != 1)
    return std::nullopt;
  return result;
}

/// Tiles of `rows` by `vectors` registers; the right-hand side is copied for a block of k, so that its elements for a
/// tile lie together whatever its layout.
class ProductTiler {
public:
  ProductTiler(linalg::GenericOp op, const Product &product, TileContext &c)
      : op(op), p(product), c(c), v(c.v), b(c.v.b), loc(c.v.loc) {}
  void run();

private:
  static constexpr int64_t kBlock = 128; // of k

  Value sizeOf(unsigned dim) {
    AffineMap map = op.getMatchingIndexingMap(dim == p.m ? p.lhs : p.rhs);
    auto at = map.getResultPosition(getAffineDimExpr(dim, b.getContext()));
    return v.dim((dim == p.m ? p.lhs : p.rhs)->get(), *at);
  }
  Value element(OpOperand *operand, SmallVector<Value> point, unsigned d0, Value i0, unsigned d1, Value i1) {
    point[d0] = i0;
    point[d1] = i1;
    return v.loadScalar(operand->get(), indices(operand, point));
  }
  SmallVector<Value> indices(OpOperand *operand, ArrayRef<Value> point) {
    SmallVector<Value> result;
    for (AffineExpr expr : op.getMatchingIndexingMap(operand).getResults())
      result.push_back(point[cast<AffineDimExpr>(expr).getPosition()]);
    return result;
  }
  /// One panel: all rows, columns from `column` on, `lanes` of the last vector (all: null).
  void panel(ArrayRef<Value> point, Value column, int64_t vectors, Value lanes);
  void pack(ArrayRef<Value> point, Value column, int64_t vectors, Value lanes, Value from, Value count);
  void tile(ArrayRef<Value> point, Value row, int64_t rows, Value column, int64_t vectors, Value lanes, Value from,
            Value count);
  bool isContiguousAlong(OpOperand *operand, unsigned dim);

  linalg::GenericOp op;
  Product p;
  TileContext &c;
  VectorBuilder &v;
  OpBuilder &b;
  Location loc;
  Value packed;
};

bool ProductTiler::isContiguousAlong(OpOperand *operand, unsigned dim) {
  SmallVector<int64_t> strides;
  int64_t offset;
  return op.getMatchingIndexingMap(operand).getResults().back() == getAffineDimExpr(dim, b.getContext()) &&
         succeeded(cast<MemRefType>(operand->get().getType()).getStridesAndOffset(strides, offset)) &&
         strides.back() == 1;
}

void ProductTiler::pack(ArrayRef<Value> point, Value column, int64_t vectors, Value lanes, Value from, Value count) {
  Value last = v.add(sizeOf(p.n), -1);
  if (isContiguousAlong(p.rhs, p.n)) {
    v.loop(v.index(0), count, 1, [&](Value k) {
      for (int64_t n = 0; n < vectors; ++n) {
        SmallVector<Value> at(point);
        at[p.k] = v.add(from, k);
        at[p.n] = v.add(column, n * kLanes);
        Value row = lanes ? v.loadMasked(p.rhs->get(), indices(p.rhs, at), v.prefixMask(lanes))
                          : v.load(p.rhs->get(), indices(p.rhs, at));
        v.store(row, packed, {k, v.index(n * kLanes)});
      }
    });
    return;
  }
  v.loop(v.index(0), v.index(vectors * kLanes), 1, [&](Value lane) {
    Value n = v.min(v.add(column, lane), last);
    v.loop(v.index(0), count, 1, [&](Value k) {
      SmallVector<Value> at(point);
      v.storeScalar(element(p.rhs, at, p.k, v.add(from, k), p.n, n), packed, {k, lane});
    });
  });
}

void ProductTiler::tile(ArrayRef<Value> point, Value row, int64_t rows, Value column, int64_t vectors, Value lanes,
                        Value from, Value count) {
  Value mask = lanes ? v.prefixMask(lanes) : Value();
  auto outAt = [&](int64_t m, int64_t n) {
    SmallVector<Value> at(point);
    at[p.m] = v.add(row, m);
    at[p.n] = v.add(column, n * kLanes);
    return indices(p.out, at);
  };
  Value out = p.out->get();
  SmallVector<Value> init;
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < vectors; ++n)
      init.push_back(mask ? v.loadMasked(out, outAt(m, n), mask) : v.load(out, outAt(m, n)));
  SmallVector<Value> acc = v.loop(v.index(0), count, 1, init, [&](Value k, ValueRange state) {
    SmallVector<Value> right, next;
    for (int64_t n = 0; n < vectors; ++n)
      right.push_back(v.load(packed, {k, v.index(n * kLanes)}));
    for (int64_t m = 0; m < rows; ++m) {
      SmallVector<Value> at(point);
      Value left = v.broadcast(element(p.lhs, at, p.m, v.add(row, m), p.k, v.add(from, k)));
      for (int64_t n = 0; n < vectors; ++n)
        next.push_back(v.addf(state[m * vectors + n], v.mulf(left, right[n])));
    }
    return next;
  });
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < vectors; ++n)
      if (mask)
        v.storeMasked(acc[m * vectors + n], out, outAt(m, n), mask);
      else
        v.store(acc[m * vectors + n], out, outAt(m, n));
}

void ProductTiler::panel(ArrayRef<Value> point, Value column, int64_t vectors, Value lanes) {
  int64_t budget = c.target.vectorBits >= 512 ? 16 : c.target.vectorBits >= 256 ? 6 : 2;
  int64_t rows = budget / vectors;
  Value size = sizeOf(p.k), all = sizeOf(p.m);
  v.loop(v.index(0), size, kBlock, [&](Value from) {
    Value count = v.min(v.sub(size, from), v.index(kBlock));
    pack(point, column, vectors, lanes, from, count);
    Value whole = v.mul(v.div(all, rows), rows);
    v.loop(v.index(0), whole, rows, [&](Value row) { tile(point, row, rows, column, vectors, lanes, from, count); });
    v.loop(whole, all, 1, [&](Value row) { tile(point, row, 1, column, vectors, lanes, from, count); });
  });
}

void ProductTiler::run() {
  int64_t wide = c.target.vectorBits >= 512 ? 2 : 1;
  packed = memref::AllocaOp::create(b, loc, MemRefType::get({kBlock, wide * kLanes}, b.getF32Type()),
                                    b.getI64IntegerAttr(64));
  // Everything but m, n and k, and panels of columns.
  SmallVector<unsigned> outer;
  SmallVector<Value> sizes;
  Value columns = sizeOf(p.n), panels = arith::CeilDivUIOp::create(b, loc, columns, v.index(wide * kLanes));
  Value total = panels;
  AffineMap outMap = op.getMatchingIndexingMap(p.out);
  for (auto [axis, expr] : llvm::enumerate(outMap.getResults())) {
    unsigned dim = cast<AffineDimExpr>(expr).getPosition();
    if (dim == p.m || dim == p.n)
      continue;
    outer.push_back(dim);
    sizes.push_back(v.dim(p.out->get(), axis));
    total = arith::MulIOp::create(b, loc, total, sizes.back());
  }
  auto [begin, end] = v.share(total, c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value item) {
    SmallVector<Value> point(op.getNumLoops());
    Value column = v.mul(arith::RemUIOp::create(b, loc, item, panels), wide * kLanes);
    item = arith::DivUIOp::create(b, loc, item, panels);
    for (size_t i = outer.size(); i-- > 0;) {
      point[outer[i]] = arith::RemUIOp::create(b, loc, item, sizes[i]);
      item = arith::DivUIOp::create(b, loc, item, sizes[i]);
    }
    Value left = v.sub(columns, column);
    Value isWhole = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, left, v.index(wide * kLanes));
    v.choose(
        isWhole, [&] { panel(point, column, wide, Value()); },
        [&] {
          v.loop(v.index(0), left, kLanes, [&](Value at) { panel(point, v.add(column, at), 1, v.sub(left, at)); });
        });
  });
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

/// Runs of parallel loops that every operand has side by side and without gaps, as one loop each.
linalg::GenericOp collapseLoops(linalg::GenericOp op, IRRewriter &rewriter) {
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  bool isPlain = !op.hasIndexSemantics() &&
                 llvm::all_of(maps, [](AffineMap map) { return map.isProjectedPermutation(); }) &&
                 llvm::all_of(op->getOperandTypes(), [](Type type) {
                   auto memref = dyn_cast<MemRefType>(type);
                   return !memref || memref.getLayout().isIdentity();
                 });
  if (!isPlain)
    return op;
  SmallVector<utils::IteratorType> loops = op.getIteratorTypesArray();
  SmallVector<ReassociationIndices> groups;
  for (int64_t dim = 0; dim < static_cast<int64_t>(loops.size()); ++dim) {
    ReassociationIndices together = groups.empty() ? ReassociationIndices() : groups.back();
    together.push_back(dim);
    bool joins = together.size() > 1 && loops[dim - 1] == IteratorType::parallel &&
                 loops[dim] == IteratorType::parallel && linalg::areDimSequencesPreserved(maps, {together});
    if (joins)
      groups.back() = together;
    else
      groups.push_back({dim});
  }
  if (groups.size() == loops.size())
    return op;
  rewriter.setInsertionPoint(op);
  FailureOr<linalg::CollapseResult> collapsed = linalg::collapseOpIterationDims(op, groups, rewriter);
  if (failed(collapsed))
    return op;
  rewriter.eraseOp(op);
  return cast<linalg::GenericOp>(collapsed->collapsedOp);
}
} // namespace

LogicalResult setun::tileStructured(linalg::LinalgOp op, TileContext &c) {
  IRRewriter rewriter(c.v.b);
  rewriter.setInsertionPoint(op);
  auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
  if (!generic) {
    FailureOr<linalg::GenericOp> general = linalg::generalizeNamedOp(rewriter, op);
    if (failed(general))
      return op.emitOpError() << "expects an operation that lowers to loops";
    generic = *general;
  }
  generic = collapseLoops(generic, rewriter);
  c.v.b.setInsertionPoint(generic);
  LogicalResult status = success();
  if (std::optional<Product> product = matchProduct(generic))
    ProductTiler(generic, *product, c).run();
  else
    status = StructuredTiler(generic, c).run();
  if (succeeded(status))
    generic.erase();
  return status;
}
