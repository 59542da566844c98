//===- TileHead.cpp - loops of the choice among the rows of a head ----------------===//
//
// The k largest of y_r = h . w_r over the rows of a full-precision matrix, without reading most of it. The result is
// that of all exact logits: the same rows, in the same order, with the same bits.
//
// What is stored of a row (HeadPlanes.h): w = c + E with a coarse approximation c and a bound R >= ||E||, finer ones
// w = c + f + F, by first bits and by both, each with R' >= ||F||, R' <= R, and n >= ||w||, where R <= n (a plane that
// is no better than zeros is stored as zeros). What head_quantize makes of h: h = a*q + e with codes q, whatever they
// are: it measures Q = ||a*q||, ||e|| and H = ||h||. Then by Cauchy and Schwarz, in exact arithmetic,
//
//     h.w = a*q.c + a*q.E + e.w       |h.w - a*q.c|       <= Q*R  + ||e||*n
//     h.w = a*q.(c+f) + a*q.F + e.w   |h.w - a*q.(c + f)| <= Q*R' + ||e||*n
//
// The same holds for an f of which only the first columns are there, with a bound of what is then left for R'.
//
// Roundings, with u = 2^-24:
//  * The exact logit y sums K products in 16 lanes and a tree: each product passes through at most n0 = K/16 + 6
//    roundings, so |y - h.w| <= 1.01*n0*u*H*n, plus K * 2^-150 * 1.01 where products are subnormal (sums of
//    subnormal numbers are exact). No sum overflows: H <= 2^100 and n <= 2^20, or the bounds are infinite.
//  * Integer sums are exact (|sum| < 2^31: 128 * 127 * 8 per group of 16 columns, K <= 2^16). The approximation
//    A = (f32(sum) * step) * a, and the fine correction, are three roundings each and their addition one: below
//    8*u*(|a*q.c| + |a*q.f|), plus (a + 1) * 2^-149 where a product is subnormal. Since ||c|| <= n + R <= 2*n,
//    ||f|| <= R + R' <= 2*n, of some columns as of all, and Q <= 2.01*H (a code that is not 0 comes from an |h| of at
//    least about a/2), that is below 8 * 4 * 2.01 * u * H * n < 66*u*H*n.
//  * So the logit is at most A + Q*R + (||e|| + C*H)*n + eta with C = (K/16 + 64) * 2*u, which is at least
//    1.01*n0*u + 66*u + 16*u, the last for rounding the final sum, whose first term is below 2.01*2*H*n(1+..) and whose
//    other terms are covered below; eta = (K + 64) * (a + 1) * 2^-147 covers the subnormal terms several times.
//  * alpha >= Q, beta >= ||e|| + C*H carry a factor 1 + 2^-16, which covers the sums of squares and the roots in f64
//    (relative error below (K + 8) * 2^-53), the roundings to f32, and those of alpha*R + (beta*n + eta) and of adding
//    that to A (at most five, 5*u < 2^-21). They are at least 2^-100, so that no relative error is lost to subnormals.
//  * An h with infinities, NaN or a norm beyond 2^100 has infinite alpha and beta, a row beyond 2^20 infinite R and n:
//    the upper bound is then infinite or NaN and the row survives every test, which are all "unless upper < least".
//
// The choice: `least` is the smallest of k exact logits, so the k-th largest of all logits is at least that. A row with
// upper < least is below it and not among the k largest; all others are scored exactly. What the threads share out and
// which rows are promising changes the work, not the result.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
#include "passes/VectorBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;
using packing::HeadShape;

namespace {
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kPanelRows = HeadShape::kPanelRows;

/// What the operations below share.
class HeadTiler {
public:
  explicit HeadTiler(TileContext &c) : c(c), v(c.v), b(c.v.b), loc(c.v.loc) {}

  void quantize(HeadQuantizeOp op);
  void scan(HeadScanOp op);
  void candidates(HeadCandidatesOp op);
  void rescore(HeadRescoreOp op);
  void select(HeadSelectOp op);

private:
  TileContext &c;
  VectorBuilder &v;
  OpBuilder &b;
  Location loc;

  Value i32(int32_t value) { return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value)); }
  Value i64(int64_t value) { return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(value)); }
  Value f64(double value) { return arith::ConstantOp::create(b, loc, b.getF64FloatAttr(value)); }
  VectorType bytes(int64_t n) { return VectorType::get({n}, b.getI8Type()); }
  VectorType mask() { return VectorType::get({kLanes}, b.getI1Type()); }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(b, loc, predicate, x, y);
  }
  Value choose(Value condition, Value yes, Value no) { return arith::SelectOp::create(b, loc, condition, yes, no); }
  Value both(Value x, Value y) { return arith::AndIOp::create(b, loc, x, y); }
  Value either(Value x, Value y) { return arith::OrIOp::create(b, loc, x, y); }
  Value anyOf(Value lanes) { return vector::ReductionOp::create(b, loc, vector::CombiningKind::OR, lanes); }
  Value isFirstThread() { return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, c.thread, v.index(0)); }
  /// A NaN as -infinity, lanewise or scalar.
  Value ordered(Value x) {
    bool isVector = isa<VectorType>(x.getType());
    return choose(compare(arith::CmpFPredicate::ORD, x, x), x, isVector ? v.splat(-kInfinity) : v.f32(-kInfinity));
  }
  /// alpha * residual + (beta * norm + eta).
  Value bound(Value alpha, Value beta, Value eta, Value residual, Value norm) {
    return v.addf(v.mulf(alpha, residual), v.addf(v.mulf(beta, norm), eta));
  }
  /// k as an index, at least 0 and at most `longest`.
  Value count(Value k, int64_t longest) {
    Value value = v.loadScalar(k, {v.index(0)});
    value = arith::MaxSIOp::create(b, loc, value, i64(0));
    return v.toIndex(arith::MinSIOp::create(b, loc, value, i64(longest)));
  }
  /// Puts the numbers of the rows whose lane of `mask` is set into `list`, from place `count` on; the first lane is row
  /// `first`. Returns the next place.
  Value listLanes(Value mask, Value first, Value list, Value count);
  /// 64 bytes of weights and four of x, for which `row` has dots.
  Value fourOf(Value q, Value at);

  /// A list of the k largest values with their numbers, ordered, in memory.
  struct Best {
    Value values, ids, k;
  };
  void clear(const Best &best, int64_t length);
  /// Whether `value` belongs into the list; with `id` above all that were offered before, equal values do not.
  Value belongs(const Best &best, Value value);
  void insert(const Best &best, Value value, Value id);
  /// Offers the first n elements of `source`, of rank 1 or 1 x M.
  void offerAll(const Best &best, Value source, int64_t n);
  Value elementAt(Value source, Value i) {
    if (cast<MemRefType>(source.getType()).getRank() == 1)
      return v.loadScalar(source, {i});
    return v.loadScalar(source, {v.index(0), i});
  }
  Value lanesAt(Value source, Value i, Value mask) {
    SmallVector<Value> at = {i};
    if (cast<MemRefType>(source.getType()).getRank() == 2)
      at.insert(at.begin(), v.index(0));
    return mask ? v.loadMasked(source, at, mask) : v.load(source, at);
  }
};

void HeadTiler::clear(const Best &best, int64_t length) {
  v.loop(v.index(0), v.index(length), 1, [&](Value i) {
    v.storeScalar(v.f32(-kInfinity), best.values, {i});
    v.storeScalar(i64(-1), best.ids, {i});
  });
}

Value HeadTiler::belongs(const Best &best, Value value) {
  Value last = v.sub(best.k, v.index(1));
  Value empty = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, v.loadScalar(best.ids, {last}), i64(0));
  return either(compare(arith::CmpFPredicate::OGT, value, v.loadScalar(best.values, {last})), empty);
}

void HeadTiler::insert(const Best &best, Value value, Value id) {
  Value never = arith::ConstantOp::create(b, loc, b.getBoolAttr(false));
  // Once it has found its place, everything below moves down by one.
  v.loop(v.index(0), best.k, 1, ValueRange{value, id, never}, [&](Value i, ValueRange carried) {
    Value oldValue = v.loadScalar(best.values, {i}), oldId = v.loadScalar(best.ids, {i});
    Value empty = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, oldId, i64(0));
    Value larger = compare(arith::CmpFPredicate::OGT, carried[0], oldValue);
    Value placed = either(carried[2], either(larger, empty));
    v.storeScalar(choose(placed, carried[0], oldValue), best.values, {i});
    v.storeScalar(choose(placed, carried[1], oldId), best.ids, {i});
    return SmallVector<Value>{choose(placed, oldValue, carried[0]), choose(placed, oldId, carried[1]), placed};
  });
}

void HeadTiler::offerAll(const Best &best, Value source, int64_t n) {
  v.loop(v.index(0), v.index(n), kLanes, [&](Value first) {
    Value left = v.sub(v.index(n), first);
    Value there = n % kLanes ? v.prefixMask(left) : Value();
    Value lanes = ordered(lanesAt(source, first, there));
    Value last = v.sub(best.k, v.index(1));
    Value larger = compare(arith::CmpFPredicate::OGT, lanes, v.broadcast(v.loadScalar(best.values, {last})));
    if (there)
      larger = both(larger, there);
    Value empty = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, v.loadScalar(best.ids, {last}), i64(0));
    v.onlyIf(either(anyOf(larger), empty), [&] {
      v.loop(first, v.min(v.add(first, kLanes), v.index(n)), 1, [&](Value i) {
        Value value = ordered(elementAt(source, i));
        v.onlyIf(belongs(best, value),
                 [&] { insert(best, value, arith::IndexCastOp::create(b, loc, b.getI64Type(), i)); });
      });
    });
  });
}

void HeadTiler::quantize(HeadQuantizeOp op) {
  v.onlyIf(isFirstThread(), [&] {
    int64_t k = cast<MemRefType>(op.getX().getType()).getDimSize(1);
    HeadShape shape{1, k};
    Value zero = v.index(0);
    Value largest = v.chunks(k, v.splat(0.0f), [&](Value at, int64_t lanes, ValueRange acc) {
      Value x = math::AbsFOp::create(b, loc, v.load(op.getX(), {zero, at}, lanes));
      return SmallVector<Value>{v.maxf(x, acc[0])};
    })[0];
    largest = v.treeMax(largest);
    Value usable = both(compare(arith::CmpFPredicate::OGE, largest, v.f32(0x1p-100f)),
                        compare(arith::CmpFPredicate::OLE, largest, v.f32(0x1p100f)));
    Value inverse = choose(usable, v.divf(v.f32(127.0f), largest), v.f32(0.0f));
    Value a = choose(usable, v.divf(largest, v.f32(127.0f)), v.f32(0.0f));

    auto doubles = VectorType::get({kLanes}, b.getF64Type());
    Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(doubles));
    Value factor = v.broadcast(inverse);
    Value wideA = v.broadcast(arith::ExtFOp::create(b, loc, b.getF64Type(), a));
    SmallVector<Value> init = {v.splatI32(0), none, none, none};
    SmallVector<Value> sums = v.chunks(k, init, [&](Value at, int64_t lanes, ValueRange acc) {
      // Lanes beyond the row are zeros, and so are their codes.
      Value x = v.load(op.getX(), {zero, at}, lanes);
      Value q = v.roundEven(v.mulf(x, factor));
      q = v.minf(v.maxf(q, v.splat(-127.0f)), v.splat(127.0f));
      if (lanes < kLanes) // an infinite factor would make them NaN
        q = choose(v.constantMask(lanes), q, v.splat(0.0f));
      Value code = arith::FPToSIOp::create(b, loc, v.i32Lanes(), q);
      v.store(arith::TruncIOp::create(b, loc, bytes(kLanes), code), op.getQ(), {at});
      v.storeScalar(vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, code), op.getSums(),
                    {v.div(at, kLanes)});
      Value h = arith::ExtFOp::create(b, loc, doubles, x);
      Value p = v.mulf(wideA, arith::ExtFOp::create(b, loc, doubles, q));
      Value e = v.subf(h, p);
      return SmallVector<Value>{arith::AddIOp::create(b, loc, acc[0], code), v.addf(acc[1], v.mulf(h, h)),
                                v.addf(acc[2], v.mulf(p, p)), v.addf(acc[3], v.mulf(e, e))};
    });
    Value nothing = arith::ConstantOp::create(b, loc, b.getZeroAttr(bytes(kLanes)));
    v.loop(v.index(shape.groups() * kLanes), v.index(shape.paddedCols()), kLanes,
           [&](Value at) { v.store(nothing, op.getQ(), {at}); });
    v.storeScalar(vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, sums[0]), op.getSums(),
                  {v.index(shape.groups())});

    Value squares = v.treeSum(sums[1]), h = v.sqrt(squares);
    Value q = v.sqrt(v.treeSum(sums[2])), e = v.sqrt(v.treeSum(sums[3]));
    Value known = compare(arith::CmpFPredicate::OLE, squares, f64(0x1p200));
    double c = (static_cast<double>(k) / 16 + 64) * 0x1p-23;
    Value alpha = v.mulf(q, f64(1 + 0x1p-16));
    Value beta = v.mulf(v.addf(e, v.mulf(h, f64(c))), f64(1 + 0x1p-16));
    Value eta = v.mulf(v.addf(arith::ExtFOp::create(b, loc, b.getF64Type(), a), f64(1.0)),
                       f64(static_cast<double>(k + 64) * 0x1p-147));
    auto store = [&](int64_t i, Value value, float otherwise) {
      if (value.getType().isF64())
        value = arith::TruncFOp::create(b, loc, b.getF32Type(), value);
      v.storeScalar(choose(known, value, v.f32(otherwise)), op.getParams(), {v.index(i)});
    };
    store(0, a, 0.0f);
    store(1, v.maxf(alpha, f64(0x1p-100)), kInfinity);
    store(2, v.maxf(beta, f64(0x1p-100)), kInfinity);
    store(3, eta, kInfinity);
  });
}

Value HeadTiler::fourOf(Value q, Value at) {
  Value four = vector::LoadOp::create(b, loc, bytes(4), q, at);
  Value word = vector::BitCastOp::create(b, loc, VectorType::get({1}, b.getI32Type()), four);
  Value all = v.broadcast(vector::ExtractOp::create(b, loc, word, ArrayRef<int64_t>{0}));
  return vector::BitCastOp::create(b, loc, bytes(64), all);
}

void HeadTiler::scan(HeadScanOp op) {
  const KernelRow *row = findKernelRow(op.getKernel() ? op.getKernel()->getRow() : StringRef("generic"));
  HeadShape shape{op.getRowsAttr().getInt(), op.getColsAttr().getInt()};
  auto param = [&](int64_t i) { return v.broadcast(v.loadScalar(op.getParams(), {v.index(i)})); };
  Value a = param(0), alpha = param(1), beta = param(2), eta = param(3);
  auto add = [&](Value x, Value y) -> Value { return arith::AddIOp::create(b, loc, x, y); };
  auto shiftDown = [&](Value x, int32_t n) -> Value { return arith::ShRSIOp::create(b, loc, x, v.splatI32(n)); };
  auto shiftUp = [&](Value x, int32_t n) -> Value { return arith::ShLIOp::create(b, loc, x, v.splatI32(n)); };
  auto load = [&](Value group, int64_t step) -> Value {
    Value at = v.add(v.mul(group, 256), 64 * step);
    return vector::LoadOp::create(b, loc, bytes(64), op.getCodes(), at);
  };
  auto unpack = [&](Value packed, int64_t field, bool cumulative) -> Value {
    return UnpackOp::create(b, loc, packed.getType(), packed, field, 4, cumulative);
  };

  /// Sums of stored codes (code + 8) and q over a group, for the two fields. `group` counts over all panels.
  auto dots = [&](Value group, Value column) -> std::pair<Value, Value> {
    if (row->isFourWay()) {
      // Where dots take signed bytes alone, the fields apart.
      const bool whole = !row->hasSignedDots() || row->hasMatrixDots();
      Value low = v.splatI32(0), all = v.splatI32(0);
      for (int64_t step = 0; step < 4; ++step) {
        Value packed = load(group, step), x = fourOf(op.getQ(), v.add(column, 4 * step));
        low = DotOp::create(b, loc, v.i32Lanes(), low, unpack(packed, 0, true), x, int64_t(15));
        all = DotOp::create(b, loc, v.i32Lanes(), all, unpack(packed, 1, whole), x, int64_t(whole ? 255 : 15));
      }
      if (!whole)
        return {low, all};
      return {low, shiftDown(arith::SubIOp::create(b, loc, all, low), 4)};
    }
    // Four steps of 2 * 15 * 128 stay within 16 bits.
    auto pairs = VectorType::get({32}, b.getI16Type());
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(pairs));
    Value sums[2] = {zero, zero};
    for (int64_t step = 0; step < 4; ++step) {
      Value packed = load(group, step), x = fourOf(op.getQ(), v.add(column, 4 * step));
      for (int64_t field = 0; field < 2; ++field)
        sums[field] =
            DotPairsOp::create(b, loc, pairs, sums[field], unpack(packed, field, false), x, int64_t(15), int64_t(4));
    }
    auto widen = [&](Value sum) -> Value { return AddPairsOp::create(b, loc, v.i32Lanes(), v.splatI32(0), sum); };
    return {widen(sums[0]), widen(sums[1])};
  };

  auto scanPanel = [&](Value panel) {
    Value firstGroup = v.mul(panel, shape.groups());
    SmallVector<Value> init = {v.splatI32(0), v.splatI32(0)};
    SmallVector<Value> sums = v.loop(v.index(0), v.index(shape.groups()), 1, init, [&](Value g, ValueRange acc) {
      Value group = v.add(firstGroup, g);
      auto [low, high] = dots(group, v.mul(g, kLanes));
      Value eight = arith::MulIOp::create(b, loc, v.loadScalar(op.getSums(), {g}), i32(8));
      Value offset = v.broadcast(eight);
      Value scales = vector::LoadOp::create(b, loc, bytes(kLanes), op.getScales(), v.mul(group, kLanes));
      scales = arith::ExtSIOp::create(b, loc, v.i32Lanes(), scales);
      auto scaled = [&](Value dot, Value scale) -> Value {
        return arith::MulIOp::create(b, loc, arith::SubIOp::create(b, loc, dot, offset), scale);
      };
      return SmallVector<Value>{add(acc[0], scaled(low, shiftDown(shiftUp(scales, 28), 28))),
                                add(acc[1], scaled(high, shiftDown(scales, 4)))};
    });
    Value largest;
    for (int64_t field = 0; field < 2; ++field) {
      auto described = [&](int64_t what) {
        return v.load(op.getCoarse(), {panel, v.index(what), v.index(field * kLanes)});
      };
      Value approx = arith::SIToFPOp::create(b, loc, v.f32Lanes(), sums[field]);
      approx = v.mulf(v.mulf(approx, described(0)), a);
      Value upper = v.addf(approx, bound(alpha, beta, eta, described(1), described(2)));
      Value first = v.add(v.mul(panel, kPanelRows), field * kLanes);
      if (shape.rows % kPanelRows) {
        Value exist = v.prefixMask(v.sub(v.index(shape.rows), first));
        approx = choose(exist, approx, v.splat(-kInfinity));
        upper = choose(exist, upper, v.splat(-kInfinity));
      }
      v.store(approx, op.getApprox(), {v.index(0), first});
      v.store(upper, op.getUpper(), {v.index(0), first});
      largest = field ? v.maxf(approx, largest) : approx;
    }
    v.storeScalar(v.treeMax(largest), op.getMaxima(), {panel});
  };
  v.shareTaking(v.index(shape.panels()), c.thread, c.threads, op.getTaken(), {}, [&](Value from, Value to, ValueRange) {
    v.loop(from, to, 1, scanPanel);
    return SmallVector<Value>();
  });
}

void HeadTiler::candidates(HeadCandidatesOp op) {
  auto w = cast<MemRefType>(op.getW().getType());
  HeadShape shape{w.getDimSize(0), w.getDimSize(1)};
  int64_t length = cast<MemRefType>(op.getExact().getType()).getDimSize(0);
  // Every thread makes the list by itself, and scores its share of it.
  Best best{memref::AllocaOp::create(b, loc, MemRefType::get({length}, b.getF32Type())),
            memref::AllocaOp::create(b, loc, MemRefType::get({length}, b.getI64Type())), count(op.getK(), length)};
  bool byPanels = shape.panels() >= 4 * length;
  clear(best, length);
  Value some = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sgt, best.k, v.index(0));
  v.onlyIf(some, [&] {
    if (byPanels)
      offerAll(best, op.getMaxima(), shape.panels());
    else
      offerAll(best, op.getApprox(), shape.rows);
  });
  auto [begin, end] = v.share(best.k, c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value i) {
    Value id = v.loadScalar(best.ids, {i});
    v.storeScalar(v.f32(-kInfinity), op.getExact(), {i});
    Value there = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, id, i64(0));
    v.onlyIf(there, [&] {
      Value row = v.toIndex(id);
      if (byPanels) {
        Value first = v.mul(row, kPanelRows), maximum = v.loadScalar(best.values, {i});
        // Backwards: the last that is found is the first row.
        Value lane = v.loop(v.index(0), v.index(kPanelRows), 1, v.index(0), [&](Value back, ValueRange found) {
          Value lane = v.sub(v.index(kPanelRows - 1), back);
          Value approx = v.loadScalar(op.getApprox(), {v.index(0), v.add(first, lane)});
          return SmallVector<Value>{choose(compare(arith::CmpFPredicate::OEQ, approx, maximum), lane, found[0])};
        })[0];
        row = v.add(first, lane);
      }
      v.storeScalar(ordered(dotRows(v, op.getX(), v.index(0), 1, op.getW(), row, 1)[0]), op.getExact(), {i});
    });
  });
}

Value HeadTiler::listLanes(Value mask, Value first, Value list, Value count) {
  // From one set bit to the next: few are, so that asking each lane would take longer.
  Value bits = vector::BitCastOp::create(b, loc, VectorType::get({1}, b.getIntegerType(kLanes)), mask);
  bits = vector::ExtractOp::create(b, loc, bits, ArrayRef<int64_t>{0});
  Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(bits.getType()));
  Value one = arith::ConstantOp::create(b, loc, b.getIntegerAttr(bits.getType(), 1));
  SmallVector<Type> types = {bits.getType(), b.getIndexType()};
  SmallVector<Location> locs(types.size(), loc);
  auto next = scf::WhileOp::create(b, loc, types, ValueRange{bits, count});
  OpBuilder::InsertionGuard guard(b);
  Block *test = b.createBlock(&next.getBefore(), {}, types, locs);
  Value some = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, test->getArgument(0), none);
  scf::ConditionOp::create(b, loc, some, test->getArguments());
  Block *body = b.createBlock(&next.getAfter(), {}, types, locs);
  Value left = body->getArgument(0), at = body->getArgument(1);
  Value lane = math::CountTrailingZerosOp::create(b, loc, left);
  Value row = v.add(first, arith::IndexCastUIOp::create(b, loc, b.getIndexType(), lane));
  v.storeScalar(arith::IndexCastOp::create(b, loc, b.getI32Type(), row), list, {at});
  left = arith::AndIOp::create(b, loc, left, arith::SubIOp::create(b, loc, left, one));
  scf::YieldOp::create(b, loc, ValueRange{left, v.add(at, 1)});
  return next.getResult(1);
}

void HeadTiler::rescore(HeadRescoreOp op) {
  auto w = cast<MemRefType>(op.getW().getType());
  HeadShape shape{w.getDimSize(0), w.getDimSize(1)};
  int64_t length = cast<MemRefType>(op.getCandidates().getType()).getDimSize(0);
  auto param = [&](int64_t i) { return v.loadScalar(op.getParams(), {v.index(i)}); };
  Value a = param(0), alpha = param(1), beta = param(2), eta = param(3);
  Value least = v.loop(v.index(0), count(op.getK(), length), 1, v.f32(kInfinity), [&](Value i, ValueRange acc) {
    return SmallVector<Value>{v.minf(v.loadScalar(op.getCandidates(), {i}), acc[0])};
  })[0];
  auto survives = [&](Value upper) { return compare(arith::CmpFPredicate::UGE, upper, least); };
  auto add = [&](Value x, Value y) -> Value { return arith::AddIOp::create(b, loc, x, y); };
  auto sub = [&](Value x, Value y) -> Value { return arith::SubIOp::create(b, loc, x, y); };
  auto times = [&](int32_t n, Value x) -> Value { return arith::MulIOp::create(b, loc, x, i32(n)); };
  // The sums of q where a bit of rows' fine codes is set, of some blocks. Seven fields are isolated in place, so that
  // dots of field f are 2^f times theirs; the last would be no signed byte.
  auto sumsWhereSet = [&](ArrayRef<Value> rows, int64_t bit, Value from, Value to) {
    constexpr int64_t kFields = 8, kInPlace = kFields - 1;
    const int64_t count = static_cast<int64_t>(rows.size());
    SmallVector<Value> init(kInPlace * count, v.splatI32(0));
    SmallVector<Value> acc = v.loop(from, to, 1, init, [&](Value at, ValueRange state) {
      SmallVector<Value> packed, next(state);
      for (Value row : rows)
        packed.push_back(
            vector::LoadOp::create(b, loc, bytes(64), op.getFine(), ValueRange{v.index(bit), row, v.mul(at, 64)}));
      for (int64_t field = 0; field < kFields; ++field) {
        Value x =
            vector::LoadOp::create(b, loc, bytes(64), op.getQ(), v.add(v.mul(at, HeadShape::kFineBlock), 64 * field));
        const bool last = field == kInPlace;
        const auto isolating = DenseElementsAttr::get(bytes(64), static_cast<int8_t>(1 << field));
        for (int64_t i = 0; i < count; ++i) {
          Value codes;
          if (last)
            codes = UnpackOp::create(b, loc, packed[i].getType(), packed[i], field, 1, false);
          else
            codes = arith::AndIOp::create(b, loc, packed[i], arith::ConstantOp::create(b, loc, isolating));
          Value &sum = next[i * kInPlace + (last ? 0 : field)];
          sum = DotOp::create(b, loc, v.i32Lanes(), sum, codes, x, last ? int64_t(1) : int64_t(1) << field);
        }
      }
      return next;
    });
    SmallVector<Value> sums;
    for (int64_t i = 0; i < count; ++i) {
      Value all = acc[i * kInPlace];
      for (int64_t field = 1; field < kInPlace; ++field) {
        Value shift = v.splatI32(static_cast<int32_t>(field));
        all = add(all, arith::ShRSIOp::create(b, loc, acc[i * kInPlace + field], shift));
      }
      sums.push_back(vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, all));
    }
    return sums;
  };
  /// Whether a row may be among the best by `sum`, of what its fine codes stand for and q, with the residual `what` of
  /// its description.
  auto mayBe = [&](Value row, Value sum, int64_t what) {
    auto described = [&](int64_t what) { return v.loadScalar(op.getFineRows(), {row, v.index(what)}); };
    Value more = arith::SIToFPOp::create(b, loc, b.getF32Type(), sum);
    more = v.mulf(v.mulf(more, described(0)), a);
    Value better = v.addf(v.loadScalar(op.getApprox(), {v.index(0), row}), more);
    return survives(v.addf(better, bound(alpha, beta, eta, described(what), described(HeadShape::kNorm))));
  };

  // What rows are asked, one stage after the other: first bits, block by block, then the second bits of all.
  struct Stage {
    int64_t bit, from, to, residual;
    Value total; // of q, in the columns up to the end
  };
  SmallVector<Stage> stages;
  Value total = i32(0);
  for (int64_t i = 0, from = 0; i < HeadShape::kStages; ++i) {
    const int64_t to = shape.stageBlocks(i);
    if (from == to)
      continue;
    auto groupsTo = [&](int64_t block) {
      return v.index(std::min(block * HeadShape::kFineBlock / HeadShape::kGroup, shape.groups()));
    };
    total = v.loop(groupsTo(from), groupsTo(to), 1, total, [&](Value group, ValueRange sum) {
      return SmallVector<Value>{add(sum[0], v.loadScalar(op.getSums(), {group}))};
    })[0];
    stages.push_back({0, from, to, HeadShape::kStageResiduals + i, total});
    from = to;
  }
  stages.push_back({1, 0, shape.fineBlocks(), HeadShape::kBothResidual, total});

  // Rows of some panels are listed first, for survivors are far apart, and each would wait for memory: what the first
  // stage reads of the next few is on its way while one is asked, and what a later stage reads while others still are
  // in the one before.
  constexpr int64_t kAhead = 8;
  // With registers of 512 bits for their sums, two rows at a time are multiplied, which share what is loaded of q.
  // Lists have a place more for the last one's twin.
  const int64_t rowsAtOnce = c.target.vectorBits >= 512 ? 2 : 1;
  auto list = [&] {
    auto type = MemRefType::get({HeadShape::kBlockRows + rowsAtOnce - 1}, b.getI32Type());
    return memref::AllocaOp::create(b, loc, type);
  };
  Value rows = list(), firsts = list();
  auto ask = [&](Value row, const Stage &stage, int64_t from) {
    for (int64_t block = from; block < stage.to; ++block)
      v.prefetch(op.getFine(), {v.index(stage.bit), row, v.index(64 * block)});
  };
  auto scoreBlock = [&](Value block) {
    Value from = v.mul(block, HeadShape::kBlockPanels);
    Value to = v.min(v.add(from, HeadShape::kBlockPanels), v.index(shape.panels()));
    auto forPanels = [&](llvm::function_ref<Value(Value panel, Value state)> body) {
      return v.loop(from, to, 1, ValueRange{v.index(0)},
                    [&](Value panel, ValueRange state) { return SmallVector<Value>{body(panel, state[0])}; })[0];
    };
    auto lanes = [&](Value panel, int64_t field) -> SmallVector<Value> {
      return {v.index(0), v.add(v.mul(panel, kPanelRows), field * kLanes)};
    };
    Value survivors = forPanels([&](Value panel, Value listed) {
      for (int64_t field = 0; field < 2; ++field) {
        SmallVector<Value> at = lanes(panel, field);
        v.store(v.splat(-kInfinity), op.getExact(), at);
        Value found = compare(arith::CmpFPredicate::UGE, v.load(op.getUpper(), at), v.broadcast(least));
        if (shape.rows % kPanelRows)
          found = both(found, v.prefixMask(v.sub(v.index(shape.rows), at[1])));
        listed = listLanes(found, at[1], rows, listed);
      }
      return listed;
    });
    auto rowAt = [&](Value i) { return v.toIndex(v.loadScalar(rows, {i})); };
    // Whether all first bits are read at once (HeadPlanes.h): stages before the last are then left out.
    Value atOnce =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, survivors, v.index(HeadShape::kMostInStages));
    for (size_t number = 0; number < stages.size(); ++number) {
      const Stage &stage = stages[number], *after = number + 1 < stages.size() ? &stage + 1 : nullptr;
      const bool isLeftOut = !stage.bit && !after->bit, isWhole = number && !stage.bit && after->bit;
      Value asked = isLeftOut ? choose(atOnce, v.index(0), survivors) : survivors;
      Value from = isWhole ? choose(atOnce, v.index(0), v.index(stage.from)) : v.index(stage.from);
      if (rowsAtOnce > 1)
        v.onlyIf(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, asked, v.index(0)), [&] {
          Value last = v.loadScalar(rows, {v.sub(asked, v.index(1))});
          v.storeScalar(last, rows, {asked});
        });
      v.loop(v.index(0), asked, rowsAtOnce, [&](Value i) {
        SmallVector<Value> at, some;
        for (int64_t r = 0; r < rowsAtOnce; ++r) {
          at.push_back(v.add(i, r));
          some.push_back(rowAt(at[r]));
          auto askAhead = [&](int64_t from) {
            Value ahead = rowAt(v.min(v.add(at[r], kAhead), v.sub(survivors, v.index(1))));
            v.prefetch(op.getFineRows(), {ahead, v.index(0)});
            ask(ahead, stage, from);
          };
          if (number == 0)
            askAhead(0);
          else if (isWhole)
            v.onlyIf(atOnce, [&] { askAhead(0); });
        }
        SmallVector<Value> sums = sumsWhereSet(some, stage.bit, from, v.index(stage.to));
        for (int64_t r = 0; r < rowsAtOnce; ++r) {
          Value sum = sums[r];
          if (number) {
            Value before = v.loadScalar(firsts, {at[r]});
            if (isWhole)
              before = choose(atOnce, i32(0), before);
            sum = add(stage.bit ? times(2, before) : before, sum);
          }
          v.storeScalar(sum, firsts, {at[r]});
        }
      });
      Value left = v.loop(v.index(0), asked, 1, ValueRange{v.index(0)}, [&](Value i, ValueRange listed) {
        Value row = rowAt(i), sum = v.loadScalar(firsts, {i});
        Value remains = mayBe(
            row, stage.bit ? sub(times(2, sum), times(3, stage.total)) : times(2, sub(times(2, sum), stage.total)),
            stage.residual);
        // Written where the next one goes that is still listed.
        v.storeScalar(arith::IndexCastOp::create(b, loc, b.getI32Type(), row), rows, {listed[0]});
        v.storeScalar(sum, firsts, {listed[0]});
        if (after)
          v.onlyIf(remains, [&] { ask(row, *after, after->from); });
        return SmallVector<Value>{choose(remains, v.add(listed[0], 1), listed[0])};
      })[0];
      survivors = isLeftOut ? choose(atOnce, survivors, left) : left;
    }
    v.loop(v.index(0), survivors, 1, [&](Value i) {
      Value row = rowAt(i), next = rowAt(v.min(v.add(i, 1), v.sub(survivors, v.index(1))));
      Value exact = dotRows(v, op.getX(), v.index(0), 1, op.getW(), row, 1, next)[0];
      v.storeScalar(exact, op.getExact(), {v.index(0), row});
    });
    forPanels([&](Value panel, Value none) {
      Value largest;
      for (int64_t field = 0; field < 2; ++field) {
        Value exact = ordered(v.load(op.getExact(), lanes(panel, field)));
        largest = field ? v.maxf(exact, largest) : exact;
      }
      v.storeScalar(v.treeMax(largest), op.getMaxima(), {panel});
      return none;
    });
  };
  // Survivors may be frequent in one part of the rows, so that shares are taken in small parts.
  v.shareTaking(
      v.index(shape.rowBlocks()), c.thread, c.threads, op.getTaken(), {},
      [&](Value from, Value to, ValueRange) {
        v.loop(from, to, 1, scoreBlock);
        return SmallVector<Value>();
      },
      /*part=*/1);
}

void HeadTiler::select(HeadSelectOp op) {
  int64_t rows = op.getRowsAttr().getInt(), length = cast<MemRefType>(op.getIds().getType()).getDimSize(0);
  v.onlyIf(isFirstThread(), [&] {
    Best best{op.getBest(), op.getIds(), count(op.getK(), length)};
    clear(best, length);
    Value some = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sgt, best.k, v.index(0));
    v.onlyIf(some, [&] {
      if (!op.getMaxima())
        return offerAll(best, op.getLogits(), rows);
      v.loop(v.index(0), v.index((rows + kPanelRows - 1) / kPanelRows), 1, [&](Value panel) {
        v.onlyIf(belongs(best, v.loadScalar(op.getMaxima(), {panel})), [&] {
          Value first = v.mul(panel, kPanelRows);
          v.loop(first, v.min(v.add(first, kPanelRows), v.index(rows)), 1, [&](Value row) {
            Value value = ordered(v.loadScalar(op.getLogits(), {v.index(0), row}));
            v.onlyIf(belongs(best, value),
                     [&] { insert(best, value, arith::IndexCastOp::create(b, loc, b.getI64Type(), row)); });
          });
        });
      });
    });
  });
}
} // namespace

void setun::tileHeadQuantize(HeadQuantizeOp op, TileContext &c) { HeadTiler(c).quantize(op); }
void setun::tileHeadScan(HeadScanOp op, TileContext &c) { HeadTiler(c).scan(op); }
void setun::tileHeadCandidates(HeadCandidatesOp op, TileContext &c) { HeadTiler(c).candidates(op); }
void setun::tileHeadRescore(HeadRescoreOp op, TileContext &c) { HeadTiler(c).rescore(op); }
void setun::tileHeadSelect(HeadSelectOp op, TileContext &c) { HeadTiler(c).select(op); }
