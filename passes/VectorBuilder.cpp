//===- VectorBuilder.cpp - loops and 16-lane vectors, in the stated order --------===//
#include "passes/VectorBuilder.h"

#include "setun/Exp.h"

using namespace mlir;
using namespace setun;

Value VectorBuilder::splat(float value) {
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(f32Lanes(), value));
}
Value VectorBuilder::splatI32(int32_t value) {
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(i32Lanes(), value));
}
Value VectorBuilder::broadcast(Value scalar) {
  return vector::BroadcastOp::create(b, loc, VectorType::get({kLanes}, scalar.getType()), scalar);
}

Value VectorBuilder::maxf(Value x, Value y) {
  Value greater = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, y);
  return arith::SelectOp::create(b, loc, greater, x, y);
}
Value VectorBuilder::minf(Value x, Value y) {
  Value less = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y);
  return arith::SelectOp::create(b, loc, less, x, y);
}

Value VectorBuilder::roundEven(Value x) {
  Value magic = isa<VectorType>(x.getType()) ? splat(12582912.0f) : f32(12582912.0f);
  return subf(addf(x, magic), magic);
}

Value VectorBuilder::exp(Value x) {
  using C = ExpConstants;
  x = maxf(x, splat(C::lowest));
  x = minf(x, splat(C::highest));
  Value n = roundEven(mulf(x, splat(C::log2e)));
  Value r = subf(x, mulf(n, splat(C::ln2Hi)));
  r = subf(r, mulf(n, splat(C::ln2Lo)));
  Value p = splat(C::poly[0]);
  for (int i = 1; i < 6; ++i)
    p = addf(mulf(p, r), splat(C::poly[i]));
  Value t = mulf(p, mulf(r, r));
  t = addf(addf(t, r), splat(1.0f));
  Value bits = arith::FPToSIOp::create(b, loc, i32Lanes(), n);
  bits = arith::AddIOp::create(b, loc, bits, splatI32(127));
  bits = arith::ShLIOp::create(b, loc, bits, splatI32(23));
  return mulf(t, arith::BitcastOp::create(b, loc, f32Lanes(), bits));
}

Value VectorBuilder::tree(Value lanes, function_ref<Value(Value, Value)> combine) {
  for (int64_t half = kLanes / 2; half >= 1; half /= 2) {
    Value low = vector::ExtractStridedSliceOp::create(b, loc, lanes, ArrayRef<int64_t>{0}, ArrayRef<int64_t>{half},
                                                      ArrayRef<int64_t>{1});
    Value high = vector::ExtractStridedSliceOp::create(b, loc, lanes, ArrayRef<int64_t>{half}, ArrayRef<int64_t>{half},
                                                       ArrayRef<int64_t>{1});
    lanes = combine(low, high);
  }
  return vector::ExtractOp::create(b, loc, lanes, ArrayRef<int64_t>{0});
}
Value VectorBuilder::treeSum(Value lanes) {
  return tree(lanes, [&](Value x, Value y) { return addf(x, y); });
}
Value VectorBuilder::treeMax(Value lanes) {
  return tree(lanes, [&](Value x, Value y) { return maxf(x, y); });
}

Value VectorBuilder::constantMask(int64_t lanes) {
  return vector::ConstantMaskOp::create(b, loc, VectorType::get({kLanes}, b.getI1Type()), ArrayRef<int64_t>{lanes});
}
Value VectorBuilder::prefixMask(Value count) {
  return vector::CreateMaskOp::create(b, loc, VectorType::get({kLanes}, b.getI1Type()), count);
}

Value VectorBuilder::load(Value memref, ValueRange indices, int64_t lanes) {
  auto type = VectorType::get({kLanes}, cast<MemRefType>(memref.getType()).getElementType());
  if (lanes == kLanes)
    return vector::LoadOp::create(b, loc, type, memref, indices);
  return loadMasked(memref, indices, constantMask(lanes));
}
Value VectorBuilder::loadMasked(Value memref, ValueRange indices, Value mask) {
  auto type = VectorType::get({kLanes}, cast<MemRefType>(memref.getType()).getElementType());
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  return vector::MaskedLoadOp::create(b, loc, type, memref, indices, mask, zero);
}
void VectorBuilder::store(Value vector, Value memref, ValueRange indices, int64_t lanes) {
  if (lanes == kLanes)
    vector::StoreOp::create(b, loc, vector, memref, indices);
  else
    storeMasked(vector, memref, indices, constantMask(lanes));
}
void VectorBuilder::storeMasked(Value vector, Value memref, ValueRange indices, Value mask) {
  vector::MaskedStoreOp::create(b, loc, memref, indices, mask, vector);
}

SmallVector<Value> VectorBuilder::loop(Value from, Value to, int64_t step, ValueRange init, Body body) {
  auto op = scf::ForOp::create(b, loc, from, to, index(step), init);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  SmallVector<Value> next = body(op.getInductionVar(), op.getRegionIterArgs());
  if (!init.empty())
    scf::YieldOp::create(b, loc, next);
  return SmallVector<Value>(op.getResults());
}
void VectorBuilder::loop(Value from, Value to, int64_t step, function_ref<void(Value)> body) {
  loop(from, to, step, ValueRange(), [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>();
  });
}

SmallVector<Value> VectorBuilder::chunks(int64_t size, ValueRange init, ChunkBody body) {
  int64_t full = size / kLanes * kLanes;
  SmallVector<Value> state(init.begin(), init.end());
  if (full)
    state = loop(index(0), index(full), kLanes, init, [&](Value k, ValueRange args) { return body(k, kLanes, args); });
  if (size > full)
    state = body(index(full), size - full, state);
  return state;
}
void VectorBuilder::chunks(int64_t size, function_ref<void(Value, int64_t)> body) {
  chunks(size, ValueRange(), [&](Value k, int64_t lanes, ValueRange) {
    body(k, lanes);
    return SmallVector<Value>();
  });
}
void VectorBuilder::onlyIf(Value condition, function_ref<void()> body) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&op.getThenRegion().front());
  body();
}

void VectorBuilder::choose(Value condition, function_ref<void()> then, function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&op.getThenRegion().front());
  then();
  b.setInsertionPointToStart(&op.getElseRegion().front());
  otherwise();
}

std::pair<Value, Value> VectorBuilder::share(Value total, Value thread, Value threads) {
  Value chunk = arith::CeilDivUIOp::create(b, loc, total, threads);
  Value begin = min(arith::MulIOp::create(b, loc, thread, chunk), total);
  return {begin, min(add(begin, chunk), total)};
}

SmallVector<Value> VectorBuilder::shareTaking(Value total, Value thread, Value threads, Value taken, ValueRange init,
                                              PartBody body, int64_t part) {
  if (!taken) {
    auto [from, to] = share(total, thread, threads);
    return body(from, to, init);
  }
  // Most of a share is its thread's own. The rest is taken in parts, of half of what is left: each begins a stream
  // anew, so they are few, and the last are small, for all may have to wait for who has it.
  const int64_t own = part ? 1 : 8; // the rest is one of so many parts
  constexpr int64_t kShares = 4;    // its own and the next threads': with many, to look at all would take too long
  auto compare = [&](arith::CmpIPredicate predicate, Value x, Value y) -> Value {
    return arith::CmpIOp::create(b, loc, predicate, x, y);
  };
  Value zero = index(0), one = index(1);
  Value several = compare(arith::CmpIPredicate::ne, threads, one);
  Value no = arith::ConstantOp::create(b, loc, b.getBoolAttr(false));
  auto shareOf = [&](Value owner) -> std::array<Value, 3> { // begin, end, and the size of its rest
    auto [begin, end] = share(total, owner, threads);
    Value rest = arith::CeilDivUIOp::create(b, loc, sub(end, begin), index(own));
    return {begin, end, arith::SelectOp::create(b, loc, several, rest, zero)};
  };
  // What is left of a rest of which so many parts are taken.
  auto left = [&](Value rest, Value parts) -> Value {
    if (part)
      return sub(rest, min(mul(parts, part), rest));
    return arith::ShRUIOp::create(b, loc, rest, min(parts, index(63)));
  };
  memref::PrefetchOp::create(b, loc, taken, ValueRange{thread, zero}, /*isWrite=*/true, /*localityHint=*/3,
                             /*isDataCache=*/true);
  auto [ownBegin, ownEnd, ownRest] = shareOf(thread);
  Type indexType = b.getIndexType(), flag = b.getI1Type();
  const unsigned kPart = 4; // the part, whose it is, whether there is one; then the state
  SmallVector<Type> types = {indexType, indexType, indexType, flag};
  llvm::append_range(types, init.getTypes());
  SmallVector<Location> locs(types.size(), loc);
  SmallVector<Value> first = {ownBegin, sub(ownEnd, ownRest), zero,
                              arith::ConstantOp::create(b, loc, b.getBoolAttr(true))};
  llvm::append_range(first, init);
  auto parts = scf::WhileOp::create(b, loc, types, first);
  OpBuilder::InsertionGuard guard(b);
  Block *test = b.createBlock(&parts.getBefore(), {}, types, locs);
  scf::ConditionOp::create(b, loc, test->getArgument(3), test->getArguments());
  Block *work = b.createBlock(&parts.getAfter(), {}, types, locs);
  SmallVector<Value> state =
      body(work->getArgument(0), work->getArgument(1), ValueRange(work->getArguments()).drop_front(kPart));
  types.truncate(kPart);
  locs.truncate(kPart);
  auto search = scf::WhileOp::create(b, loc, types, ValueRange{zero, zero, work->getArgument(2), no});
  SmallVector<Value> next(search.getResults());
  llvm::append_range(next, state);
  scf::YieldOp::create(b, loc, next);
  test = b.createBlock(&search.getBefore(), {}, types, locs);
  Value goesOn = compare(arith::CmpIPredicate::ult, test->getArgument(2), min(threads, index(kShares)));
  goesOn = arith::SelectOp::create(b, loc, test->getArgument(3), no, goesOn);
  scf::ConditionOp::create(b, loc, goesOn, test->getArguments());
  Block *look = b.createBlock(&search.getAfter(), {}, types, locs);
  Value distance = look->getArgument(2), owner = add(thread, distance);
  owner =
      arith::SelectOp::create(b, loc, compare(arith::CmpIPredicate::uge, owner, threads), sub(owner, threads), owner);
  auto [begin, end, rest] = shareOf(owner);
  Value increment = arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(1));
  Value before = toIndex(
      memref::AtomicRMWOp::create(b, loc, arith::AtomicRMWKind::addi, increment, taken, ValueRange{owner, zero}));
  Value from = left(rest, before), to = left(rest, add(before, 1));
  Value found = compare(arith::CmpIPredicate::ne, from, zero), isLast = compare(arith::CmpIPredicate::eq, to, zero);
  scf::YieldOp::create(b, loc,
                       ValueRange{sub(end, from), sub(end, to),
                                  arith::SelectOp::create(b, loc, isLast, add(distance, 1), distance), found});
  return SmallVector<Value>(parts.getResults().drop_front(kPart));
}
