//===- TileAttention.cpp - loops of attention, rotary embedding and the cache ----===//
#include "passes/VectorBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

/// `body(i, lanes, values)` for all elements of row (t, h) of x, rotated by row `position` of the tables.
static void forRotated(VectorBuilder &v, Value x, Value t, Value h, Value cos, Value sin, Value position,
                       function_ref<void(Value i, int64_t lanes, Value values)> body) {
  int64_t half = cast<MemRefType>(cos.getType()).getDimSize(1);
  v.chunks(half, [&](Value i, int64_t lanes) {
    Value j = v.add(i, half);
    Value cosine = v.load(cos, {position, i}, lanes), sine = v.load(sin, {position, i}, lanes);
    Value first = v.load(x, {t, h, i}, lanes), second = v.load(x, {t, h, j}, lanes);
    body(i, lanes, v.subf(v.mulf(first, cosine), v.mulf(second, sine)));
    body(j, lanes, v.addf(v.mulf(second, cosine), v.mulf(first, sine)));
  });
}

void setun::tileRotary(RotaryOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto type = cast<MemRefType>(op.getX().getType());
  int64_t heads = type.getDimSize(1);
  Value total = v.mul(v.dim(op.getX(), 0), heads);
  auto [begin, end] = v.share(total, c.thread, c.threads);
  Value pos = v.toIndex(op.getPos());
  v.loop(begin, end, 1, [&](Value item) {
    Value t = v.div(item, heads), h = v.rem(item, heads);
    forRotated(v, op.getX(), t, h, op.getCos(), op.getSin(), v.add(pos, t),
               [&](Value i, int64_t lanes, Value values) { v.store(values, op.getY(), {t, h, i}, lanes); });
  });
}

namespace {
/// A cache of f32 or f16 as tiles see it: rows of a head in memory, or 16 rows to a vector if it is blocked.
class CacheView {
public:
  CacheView(TileContext &c, Value memref, bool blocked) : c(c), v(c.v), memref(memref), blocked(blocked) {
    auto type = cast<MemRefType>(memref.getType());
    element = type.getElementType();
    if (!blocked)
      return;
    // The same bytes as [block][head][i][row].
    constexpr int64_t rows = packing::kCacheBlockRows;
    static_assert(rows == kLanes, "a vector holds one element of a block's rows");
    int64_t heads = type.getDimSize(1), size = type.getDimSize(2);
    auto blockType = MemRefType::get({ShapedType::kDynamic, heads, size, rows}, element);
    OpFoldResult blocks = arith::CeilDivUIOp::create(v.b, v.loc, v.dim(memref, 0), v.index(rows)).getResult();
    auto constant = [&](int64_t value) -> OpFoldResult { return v.b.getIndexAttr(value); };
    this->memref = memref::ReinterpretCastOp::create(
        v.b, v.loc, blockType, memref, constant(0),
        ArrayRef<OpFoldResult>{blocks, constant(heads), constant(size), constant(rows)},
        ArrayRef<OpFoldResult>{constant(heads * size * rows), constant(size * rows), constant(rows), constant(1)});
  }

  /// `lanes` elements of a row from element i on, as f32, the rest 0.
  Value load(Value row, Value head, Value i, int64_t lanes) const {
    if (element.isF32())
      return v.load(memref, {row, head, i}, lanes);
    auto part = VectorType::get({lanes}, element), full = VectorType::get({kLanes}, element);
    Value raw = vector::LoadOp::create(v.b, v.loc, part, memref, ValueRange{row, head, i});
    if (lanes < kLanes) {
      Value zero = arith::ConstantOp::create(v.b, v.loc, v.b.getZeroAttr(full));
      raw = vector::InsertStridedSliceOp::create(v.b, v.loc, raw, zero, ArrayRef<int64_t>{0}, ArrayRef<int64_t>{1});
    }
    return widenF16(c, raw);
  }
  /// Element i of the 16 rows of a block.
  Value loadBlock(Value block, Value head, Value i) const {
    Value raw = v.load(memref, {block, head, i, v.index(0)});
    return element.isF32() ? raw : widenF16(c, raw);
  }
  /// Asks for an element's line of the cache, which may lie beyond the end.
  void prefetch(ValueRange at, int64_t locality = 2) const { v.prefetch(memref, at, locality); }
  int64_t elementBytes() const { return element.getIntOrFloatBitWidth() / 8; }
  /// Stores `lanes` elements of a row from element i on.
  void store(Value values, Value row, Value head, Value i, int64_t lanes) const {
    if (element.isF16() && cast<VectorType>(values.getType()).getElementType().isF32())
      values = narrowF16(c, values);
    if (!blocked && (lanes == kLanes || element.isF32()))
      return v.store(values, memref, {row, head, i}, lanes);
    Value block = v.div(row, kLanes), lane = v.rem(row, kLanes);
    for (int64_t l = 0; l < lanes; ++l) {
      Value value = vector::ExtractOp::create(v.b, v.loc, values, ArrayRef<int64_t>{l});
      Value at = v.add(i, l);
      v.storeScalar(value, memref, blocked ? ValueRange{block, head, at, lane} : ValueRange{row, head, at});
    }
  }

private:
  TileContext &c;
  VectorBuilder &v;
  Value memref;
  Type element;
  bool blocked;
};
} // namespace

Value setun::widenF16(TileContext &c, Value half) {
  VectorBuilder &v = c.v;
  if (c.target.convertsF16)
    return arith::ExtFOp::create(v.b, v.loc, v.f32Lanes(), half);
  Value bits = vector::BitCastOp::create(v.b, v.loc, VectorType::get({kLanes}, v.b.getI16Type()), half);
  return widenBits(v, arith::ExtUIOp::create(v.b, v.loc, v.i32Lanes(), bits), v.b.getF16Type());
}

Value setun::narrowF16(TileContext &c, Value x) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  x = v.minf(v.maxf(x, v.splat(-65504.0f)), v.splat(65504.0f));
  auto halves = VectorType::get({kLanes}, b.getF16Type());
  if (c.target.convertsF16)
    return arith::TruncFOp::create(b, loc, halves, x);
  auto shiftRight = [&](Value value, int32_t by) -> Value {
    return arith::ShRUIOp::create(b, loc, value, v.splatI32(by));
  };
  auto bitAnd = [&](Value value, int32_t mask) -> Value {
    return arith::AndIOp::create(b, loc, value, v.splatI32(mask));
  };
  auto addTo = [&](Value value, int32_t term) -> Value {
    return arith::AddIOp::create(b, loc, value, v.splatI32(term));
  };
  Value bits = arith::BitcastOp::create(b, loc, v.i32Lanes(), x);
  Value sign = bitAnd(shiftRight(bits, 16), 0x8000), magnitude = bitAnd(bits, 0x7fffffff);
  // Below 2^-14: adding 0.5 leaves units of 2^-24, rounded to nearest even.
  Value half = v.addf(arith::BitcastOp::create(b, loc, v.f32Lanes(), magnitude), v.splat(0.5f));
  Value subnormal = addTo(arith::BitcastOp::create(b, loc, v.i32Lanes(), half), -0x3f000000);
  // Else the exponent is rebiased, and the carry of the rounded fraction may run into it.
  Value odd = bitAnd(shiftRight(magnitude, 13), 1);
  Value normal = arith::AddIOp::create(b, loc, addTo(magnitude, 0xfff - ((127 - 15) << 23)), odd);
  Value isSmall = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, magnitude, v.splatI32(0x38800000));
  Value result = arith::SelectOp::create(b, loc, isSmall, subnormal, shiftRight(normal, 13));
  result = arith::OrIOp::create(b, loc, result, sign);
  result = arith::TruncIOp::create(b, loc, VectorType::get({kLanes}, b.getI16Type()), result);
  return vector::BitCastOp::create(b, loc, halves, result);
}

void setun::tileCacheUpdate(CacheUpdateOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto type = cast<MemRefType>(op.getRows().getType());
  int64_t heads = type.getDimSize(1), size = type.getDimSize(2);
  CacheView cache(c, op.getCache(), op.getBlocked());
  Value total = v.mul(v.dim(op.getRows(), 0), heads);
  if (op.getSolo()) { // a single row is left to attention
    Value isOne = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::eq, v.dim(op.getRows(), 0), v.index(1));
    total = arith::SelectOp::create(v.b, v.loc, isOne, v.index(0), total);
  }
  auto [begin, end] = v.share(total, c.thread, c.threads);
  Value pos = v.toIndex(op.getPos());
  v.loop(begin, end, 1, [&](Value item) {
    Value t = v.div(item, heads), h = v.rem(item, heads), row = v.add(pos, t);
    auto store = [&](Value i, int64_t lanes, Value values) { cache.store(values, row, h, i, lanes); };
    if (op.getCos())
      return forRotated(v, op.getRows(), t, h, op.getCos(), op.getSin(), row, store);
    v.chunks(size, [&](Value i, int64_t lanes) { store(i, lanes, v.load(op.getRows(), {t, h, i}, lanes)); });
  });
}

namespace {
/// Loops of an attention. A tile is a run of queries of one key/value head: query r of the head is head r % group of
/// token r / group. A block of keys or values serves all queries of the tile, `together` of them at once, whose sums
/// stay in registers. A query's result does not depend on its tile.
///
/// Several tokens: keys and values of f16 are widened once for a tile, into scratch memory of this thread. One token: a
/// tile is small, and they are widened as they are read.
class AttentionTiler {
public:
  AttentionTiler(AttentionOp op, TileContext &c)
      : op(op), c(c), v(c.v), keys(c, op.getK(), op.getBlocked()), values(c, op.getV(), /*blocked=*/false) {}
  void run();

  /// Of one sample of a batch: the number of keys, and what is added to scores ([1 or H][T][keys], or null).
  Value allKeys, mask;

private:
  static constexpr int64_t kBlock = 64, kRange = AttentionOp::kRange; // as bitnet.attention says
  static constexpr int64_t kTileQueries = 64;

  /// Tiles of up to `most` queries, a multiple of `together`.
  void tiles(int64_t mostQueries, int64_t queriesTogether);
  /// All ranges of each head and tile, shared out among the threads; for one token.
  void pieces(int64_t queriesTogether);
  /// All ranges and the result, or the sums of one range alone.
  void tile(Value kvHead, Value first, Value oneRange = {});
  void writeNewRow(Value kvHead);
  /// Asks for the keys that scores begin with, a part with each query: the row that is written is among them.
  void askForKeys(Value kvHead, Value range, Value r);
  void copyKeys(Value kvHead, Value block);
  Value withMask(Value scores, Value kvHead, Value r, Value key);
  void block(Value kvHead, Value base);
  void scores(Value kvHead, Value base, Value vectors);
  void weigh(Value base, Value vectors);
  void accumulate(Value kvHead, Value base, Value count);
  void fold();

  Value scratch(ArrayRef<int64_t> shape, Type element) {
    OpBuilder::InsertionGuard guard(v.b); // not once for each sample
    v.b.setInsertionPointToStart(&op->getParentOfType<func::FuncOp>().getBody().front());
    return memref::AllocaOp::create(v.b, v.loc, MemRefType::get(shape, element), v.b.getI64IntegerAttr(64));
  }
  Value zero() { return v.index(0); }
  /// One element of a scratch row for all lanes.
  Value spread(Value memref, ValueRange at) { return v.broadcast(v.loadScalar(memref, at)); }
  int64_t padded() const { return llvm::alignTo(size, kLanes); }
  void overQueries(function_ref<void(Value r)> body) { v.loop(zero(), queries, 1, body); }
  /// `body(first)` for runs of `together` queries.
  void overRuns(function_ref<void(Value first)> body) { v.loop(zero(), queries, together, body); }
  /// All vectors of a scratch row, padding included.
  void overVectors(function_ref<void(Value i)> body) { v.loop(zero(), v.index(padded()), kLanes, body); }
  /// Vectors of 16 queries.
  void overLanes(function_ref<void(Value r)> body) { v.loop(zero(), queries, kLanes, body); }
  Value rowOf(Value first, Value r) { return v.min(v.add(first, r), v.add(total, -1)); }
  Value lengthOf(Value row) {
    Value causal = v.add(v.add(pos, v.div(row, group)), 1);
    if (allKeys)
      return op.getCausal() ? v.min(causal, allKeys) : allKeys;
    return op.getCausal() ? causal : v.add(pos, tokens);
  }
  /// Rows of the block at `base` that query r sees, from 0 to 64.
  Value seen(Value r, Value base) {
    Value left = v.sub(v.loadScalar(length, {r}), base);
    return v.min(arith::MaxSIOp::create(v.b, v.loc, left, zero()), v.index(kBlock));
  }
  /// Vectors that are handled at once with `together` queries.
  int64_t vectorsTogether(int64_t most) const {
    return int64_t(1) << llvm::Log2_64(std::clamp<int64_t>(budget / together, 1, most));
  }

  AttentionOp op;
  TileContext &c;
  VectorBuilder &v;
  CacheView keys, values;
  int64_t group = 0, size = 0, budget = 0, together = 0;
  bool widensFirst = false;
  Value pos, tokens, total; // total: queries of a key/value head
  Value queries, firstRow;  // of the tile at hand
  Value lastKey, nextHead;  // the last that it sees; the key/value head of the tile after it
  // Of the tile at hand: queries times scale, scores and then weights of a block, lengths; of a range and of all:
  // maxima, lanes of weights, sums; factors of old and new sums. Widened keys [i][row] and values [row][lane].
  Value query, score, length, top, nextTop, lanes, sums, allTop, allLanes, allSums, factor, newFactor, wideKeys,
      wideValues;
};

/// The 16 keys of a block that is not stored as such, element by element; those beyond the last are the last.
void AttentionTiler::copyKeys(Value kvHead, Value block) {
  Value last = v.add(allKeys ? allKeys : v.dim(op.getK(), 0), -1);
  SmallVector<Value> rows;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    rows.push_back(v.min(v.add(v.mul(block, kLanes), lane), last));
  v.chunks(size, [&](Value i, int64_t lanes) {
    SmallVector<Value> values;
    for (Value row : rows)
      values.push_back(keys.load(row, kvHead, i, lanes));
    // Interleaving rows that stand 8 apart, four times, transposes 16 by 16 elements.
    for (int round = 0; round < 4; ++round) {
      SmallVector<Value> next;
      for (int64_t row = 0; row < kLanes / 2; ++row)
        for (int64_t half = 0; half < 2; ++half) {
          SmallVector<int64_t> order;
          for (int64_t lane = 0; lane < kLanes / 2; ++lane)
            llvm::append_values(order, half * kLanes / 2 + lane, kLanes + half * kLanes / 2 + lane);
          next.push_back(vector::ShuffleOp::create(v.b, v.loc, values[row], values[row + kLanes / 2], order));
        }
      values = std::move(next);
    }
    for (int64_t element = 0; element < lanes; ++element)
      v.store(values[element], wideKeys, {v.add(i, element), zero()});
  });
}

/// Scores of query r of the tile for 16 keys from `key` on, with their part of the mask.
Value AttentionTiler::withMask(Value scores, Value kvHead, Value r, Value key) {
  if (!mask)
    return scores;
  Value row = rowOf(firstRow, r), head = v.add(v.mul(kvHead, group), v.rem(row, group));
  if (cast<MemRefType>(mask.getType()).getDimSize(0) == 1)
    head = zero();
  Value added = v.loadMasked(mask, {head, v.div(row, group), key}, v.prefixMask(v.sub(allKeys, key)));
  return v.addf(scores, added);
}

/// score[r][j] for the keys base .. base + 16 * vectors.
void AttentionTiler::scores(Value kvHead, Value base, Value vectors) {
  // A register that holds one element of a query for one vector of keys costs nothing where the CPU multiplies by an
  // element in memory.
  bool copies = widensFirst || !op.getBlocked();
  int64_t number = copies || (c.target.vectorBits >= 512 && together > 2) ? 1 : vectorsTogether(kBlock / kLanes);
  Value firstBlock = v.div(base, kLanes), last = v.add(v.add(firstBlock, vectors), -1);
  v.loop(zero(), vectors, number, [&](Value g) {
    SmallVector<Value> blocks; // beyond the last: the last once more
    for (int64_t n = 0; n < number; ++n)
      blocks.push_back(v.min(v.add(v.add(firstBlock, g), n), last));
    // Rows of a head lie apart in memory, too far for the CPU to foresee the next block, the next head's, or the values
    // that are read after this. Lines that nobody reads are not asked for: they take the places of those that are.
    SmallVector<Value> laterBlocks;
    if (!copies)
      for (Value block : blocks)
        laterBlocks.push_back(v.min(v.add(block, kBlock / kLanes), v.div(lastKey, kLanes)));
    if (!op.getBlocked())
      copyKeys(kvHead, blocks[0]);
    else if (widensFirst)
      v.loop(zero(), v.index(size), 1,
             [&](Value i) { v.store(keys.loadBlock(blocks[0], kvHead, i), wideKeys, {i, zero()}); });
    overRuns([&](Value first) {
      SmallVector<Value> init(together * number, v.splat(0.0f));
      SmallVector<Value> acc = v.loop(zero(), v.index(size), 1, init, [&](Value i, ValueRange state) {
        SmallVector<Value> key, next;
        for (Value block : blocks)
          key.push_back(copies ? v.load(wideKeys, {i, zero()}) : keys.loadBlock(block, kvHead, i));
        // Rows of a head lie apart in memory, too far for the CPU to foresee the next block, the next head's, or the
        // values that are read after this.
        if (!copies)
          for (auto [block, later] : llvm::zip(blocks, laterBlocks)) {
            keys.prefetch({later, kvHead, i, zero()});
            keys.prefetch({block, nextHead, i, zero()});
            Value element = v.mul(i, kLanes), row = v.add(v.mul(block, kLanes), v.div(element, size));
            values.prefetch({v.min(row, lastKey), kvHead, v.rem(element, size)});
          }
        for (int64_t r = 0; r < together; ++r) {
          Value x = spread(query, {v.add(first, r), i});
          for (int64_t n = 0; n < number; ++n)
            next.push_back(v.addf(state[r * number + n], v.mulf(x, key[n])));
        }
        return next;
      });
      for (int64_t r = 0; r < together; ++r)
        for (int64_t n = 0; n < number; ++n) {
          Value query = v.add(first, r), at = v.mul(v.add(g, n), kLanes);
          v.store(withMask(acc[r * number + n], kvHead, query, v.add(base, at)), score, {query, at});
        }
    });
  });
}

/// Scores of a block ==> weights, with the new maxima and the factors of the old sums.
void AttentionTiler::weigh(Value base, Value vectors) {
  Value lowest = v.splat(std::numeric_limits<float>::lowest());
  auto masked = [&](Value r, Value g, Value x, Value other) -> Value {
    Value left = v.sub(v.sub(v.loadScalar(length, {r}), base), v.mul(g, kLanes));
    return arith::SelectOp::create(v.b, v.loc, v.prefixMask(left), x, other);
  };
  overQueries([&](Value r) {
    Value largest = v.loop(zero(), vectors, 1, ValueRange{lowest}, [&](Value g, ValueRange state) {
      Value s = v.load(score, {r, v.mul(g, kLanes)});
      return SmallVector<Value>{v.maxf(state[0], masked(r, g, s, lowest))};
    })[0];
    Value largestOfAll = v.treeMax(v.maxf(largest, lowest));
    v.storeScalar(v.maxf(v.loadScalar(top, {r}), largestOfAll), nextTop, {r});
  });
  overLanes([&](Value r) {
    Value next = v.load(nextTop, {r});
    v.store(v.exp(v.subf(v.load(top, {r}), next)), factor, {r});
    v.store(next, top, {r});
  });
  overQueries([&](Value r) {
    Value most = spread(top, {r});
    Value sum = v.mulf(v.load(lanes, {r, zero()}), spread(factor, {r}));
    sum = v.loop(zero(), vectors, 1, ValueRange{sum}, [&](Value g, ValueRange state) {
      Value at = v.mul(g, kLanes);
      Value p = masked(r, g, v.exp(v.subf(v.load(score, {r, at}), most)), v.splat(0.0f));
      v.store(p, score, {r, at});
      return SmallVector<Value>{v.addf(state[0], p)};
    })[0];
    v.store(sum, lanes, {r, zero()});
  });
}

/// sums[r] = sums[r] * factor[r] + the rows of the block that query r sees; `count` is what the last query sees.
void AttentionTiler::accumulate(Value kvHead, Value base, Value count) {
  int64_t vectors = padded() / kLanes, number = widensFirst ? 1 : vectorsTogether(vectors);
  auto chunk = [&](Value at, int64_t number, int64_t lastLanes) {
    auto value = [&](Value j, int64_t n) {
      if (widensFirst)
        return v.load(wideValues, {j, zero()});
      Value i = v.add(at, n * kLanes);
      return values.load(v.add(base, j), kvHead, i, n + 1 < number ? kLanes : lastLanes);
    };
    if (widensFirst)
      v.loop(zero(), count, 1,
             [&](Value j) { v.store(values.load(v.add(base, j), kvHead, at, lastLanes), wideValues, {j, zero()}); });
    overRuns([&](Value first) {
      SmallVector<Value> init;
      for (int64_t r = 0; r < together; ++r)
        for (int64_t n = 0; n < number; ++n)
          init.push_back(v.mulf(v.load(sums, {v.add(first, r), v.add(at, n * kLanes)}), //
                                spread(factor, {v.add(first, r)})));
      Value common = seen(first, base); // by all queries of the run
      SmallVector<Value> acc = v.loop(zero(), common, 1, init, [&](Value j, ValueRange state) {
        SmallVector<Value> row, next;
        for (int64_t n = 0; n < number; ++n)
          row.push_back(value(j, n));
        if (!widensFirst) {
          Value later = v.min(v.add(v.add(base, j), kBlock), lastKey);
          for (int64_t n = 0; n < number; n += 2)
            values.prefetch({later, kvHead, v.add(at, n * kLanes)});
        }
        for (int64_t r = 0; r < together; ++r) {
          Value p = spread(score, {v.add(first, r), j});
          for (int64_t n = 0; n < number; ++n)
            next.push_back(v.addf(state[r * number + n], v.mulf(p, row[n])));
        }
        return next;
      });
      for (int64_t r = 0; r < together; ++r)
        for (int64_t n = 0; n < number; ++n)
          v.store(acc[r * number + n], sums, {v.add(first, r), v.add(at, n * kLanes)});
      if (!op.getCausal() || group % together == 0)
        return;
      // Rows that only later queries of the run see.
      v.loop(first, v.add(first, together), 1, [&](Value r) {
        SmallVector<Value> own;
        for (int64_t n = 0; n < number; ++n)
          own.push_back(v.load(sums, {r, v.add(at, n * kLanes)}));
        own = v.loop(common, seen(r, base), 1, own, [&](Value j, ValueRange state) {
          SmallVector<Value> next;
          Value p = spread(score, {r, j});
          for (int64_t n = 0; n < number; ++n)
            next.push_back(v.addf(state[n], v.mulf(p, value(j, n))));
          return next;
        });
        for (int64_t n = 0; n < number; ++n)
          v.store(own[n], sums, {r, v.add(at, n * kLanes)});
      });
    });
  };
  int64_t whole = size / kLanes / number * number, rest = vectors - whole;
  if (whole)
    v.loop(zero(), v.index(whole * kLanes), number * kLanes, [&](Value at) { chunk(at, number, kLanes); });
  if (rest)
    chunk(v.index(whole * kLanes), rest, size - (vectors - 1) * kLanes);
}

void AttentionTiler::block(Value kvHead, Value base) {
  Value count = seen(v.add(queries, -1), base);
  Value vectors = arith::CeilDivUIOp::create(v.b, v.loc, count, v.index(kLanes));
  scores(kvHead, base, vectors);
  weigh(base, vectors);
  accumulate(kvHead, base, count);
}

/// The sums of a range into those of all.
void AttentionTiler::fold() {
  overLanes([&](Value r) {
    Value old = v.load(allTop, {r}), part = v.load(top, {r}), next = v.maxf(old, part);
    v.store(v.exp(v.subf(old, next)), factor, {r});
    v.store(v.exp(v.subf(part, next)), newFactor, {r});
    v.store(next, allTop, {r});
  });
  overQueries([&](Value r) {
    Value f = spread(factor, {r}), g = spread(newFactor, {r});
    auto add = [&](Value all, Value part, Value i) {
      v.store(v.addf(v.mulf(v.load(all, {r, i}), f), v.mulf(v.load(part, {r, i}), g)), all, {r, i});
    };
    add(allLanes, lanes, zero());
    overVectors([&](Value i) { add(allSums, sums, i); });
  });
}

void AttentionTiler::writeNewRow(Value kvHead) {
  auto storeKeys = [&](Value i, int64_t count, Value row) { keys.store(row, pos, kvHead, i, count); };
  if (op.getCos())
    forRotated(v, op.getNewK(), zero(), kvHead, op.getCos(), op.getSin(), pos, storeKeys);
  v.chunks(size, [&](Value i, int64_t count) {
    if (!op.getCos())
      storeKeys(i, count, v.load(op.getNewK(), {zero(), kvHead, i}, count));
    values.store(v.load(op.getNewV(), {zero(), kvHead, i}, count), pos, kvHead, i, count);
  });
}

void AttentionTiler::askForKeys(Value kvHead, Value range, Value r) {
  if (!op.getBlocked())
    return;
  int64_t inLine = std::max<int64_t>(1, 64 / (kLanes * keys.elementBytes())), part = llvm::divideCeil(size, together);
  Value first = v.div(range, kLanes), left = v.add(v.div(v.sub(pos, range), kLanes), 1);
  v.loop(first, v.add(first, v.min(left, v.index(kBlock / kLanes))), 1, [&](Value block) {
    v.loop(v.mul(r, part), v.min(v.mul(v.add(r, 1), part), v.index(size)), inLine,
           [&](Value i) { keys.prefetch({block, kvHead, i, zero()}, /*locality=*/3); });
  });
}

void AttentionTiler::tile(Value kvHead, Value first, Value oneRange) {
  firstRow = first;
  Value none = v.splat(0.0f), lowest = v.splat(std::numeric_limits<float>::lowest());
  Value scale = v.splat(op.getScale().convertToFloat());
  auto headOf = [&](Value row) { return v.add(v.mul(kvHead, group), v.rem(row, group)); };
  auto clear = [&](Value rowsTop, Value rowsLanes, Value rowsSums) {
    overLanes([&](Value r) { v.store(lowest, rowsTop, {r}); });
    overQueries([&](Value r) {
      v.store(none, rowsLanes, {r, zero()});
      overVectors([&](Value i) { v.store(none, rowsSums, {r, i}); });
    });
  };
  overQueries([&](Value r) {
    Value row = rowOf(first, r), token = v.div(row, group), head = headOf(row);
    v.storeScalar(lengthOf(row), length, {r});
    if (oneRange)
      askForKeys(kvHead, oneRange, r);
    auto store = [&](Value i, int64_t count, Value values) { v.store(v.mulf(values, scale), query, {r, i}, count); };
    if (op.getCos())
      return forRotated(v, op.getQ(), token, head, op.getCos(), op.getSin(), v.add(pos, token), store);
    v.chunks(size, [&](Value i, int64_t count) { store(i, count, v.load(op.getQ(), {token, head, i}, count)); });
  });
  if (op.getNewK()) {
    // Several tiles of one head may write the same bytes. Of ranges, only the last reads the row.
    Value writes =
        oneRange ? arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::sle, pos, v.add(oneRange, kRange - 1))
                 : arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::eq, v.dim(op.getNewK(), 0), v.index(1));
    v.onlyIf(writes, [&] { writeNewRow(kvHead); });
  }
  overLanes([&](Value r) { v.store(lowest, nextTop, {r}); }); // lanes without a query, too
  Value longest = v.loadScalar(length, {v.add(queries, -1)});
  lastKey = v.add(longest, -1);
  auto overRange = [&](Value range) {
    clear(top, lanes, sums);
    v.loop(range, v.min(v.add(range, kRange), longest), kBlock, [&](Value base) { block(kvHead, base); });
  };
  if (oneRange) {
    overRange(oneRange);
    Value part = v.div(oneRange, kRange);
    overQueries([&](Value r) {
      Value head = headOf(rowOf(first, r));
      v.store(spread(top, {r}), op.getParts(), {part, head, zero()});
      v.store(v.load(lanes, {r, zero()}), op.getParts(), {part, head, v.index(kLanes)});
      v.chunks(size, [&](Value i, int64_t count) {
        v.store(v.load(sums, {r, i}, count), op.getParts(), {part, head, v.add(i, AttentionOp::kPartHeader)}, count);
      });
    });
    return;
  }
  clear(allTop, allLanes, allSums);
  v.loop(zero(), longest, kRange, [&](Value range) {
    overRange(range);
    fold();
  });
  overQueries([&](Value r) {
    Value row = rowOf(first, r), token = v.div(row, group), head = headOf(row);
    Value inverse = v.broadcast(v.divf(v.f32(1.0f), v.treeSum(v.load(allLanes, {r, zero()}))));
    v.chunks(size, [&](Value i, int64_t count) {
      v.store(v.mulf(v.addf(v.load(allSums, {r, i}), none), inverse), op.getO(), {token, head, i}, count);
    });
  });
}

void AttentionTiler::tiles(int64_t mostQueries, int64_t queriesTogether) {
  together = queriesTogether;
  int64_t kvHeads = cast<MemRefType>(op.getK().getType()).getDimSize(1);
  Value perHead = arith::CeilDivUIOp::create(v.b, v.loc, total, v.index(mostQueries));
  Value items = v.mul(perHead, kvHeads);
  auto compute = [&](Value item) {
    Value kvHead = arith::DivUIOp::create(v.b, v.loc, item, perHead);
    Value first = v.mul(arith::RemUIOp::create(v.b, v.loc, item, perHead), mostQueries);
    // Queries beyond the last are the last once more.
    Value left = v.min(v.sub(total, first), v.index(mostQueries));
    queries = mostQueries == together
                  ? v.index(together)
                  : v.mul(arith::CeilDivUIOp::create(v.b, v.loc, left, v.index(together)), together);
    nextHead = kvHead; // mostly
    tile(kvHead, first);
  };
  if (!op.getCausal()) {
    auto [begin, end] = v.share(items, c.thread, c.threads);
    v.loop(begin, end, 1, compute);
    return;
  }
  // A later tile costs more: threads take turns there and back.
  Value rounds = arith::CeilDivUIOp::create(v.b, v.loc, items, c.threads);
  v.loop(zero(), rounds, 1, [&](Value round) {
    Value back = v.sub(v.add(c.threads, -1), c.thread);
    Value isOdd = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::ne, v.rem(round, 2), zero());
    Value turn = arith::SelectOp::create(v.b, v.loc, isOdd, back, c.thread);
    Value item = v.add(arith::MulIOp::create(v.b, v.loc, round, c.threads), turn);
    Value exists = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::ult, item, items);
    v.onlyIf(exists, [&] { compute(item); });
  });
}

void AttentionTiler::pieces(int64_t queriesTogether) {
  together = queriesTogether;
  queries = v.index(together);
  int64_t kvHeads = cast<MemRefType>(op.getK().getType()).getDimSize(1), perHead = llvm::divideCeil(group, together);
  Value ranges = v.add(v.div(pos, kRange), 1);
  auto [begin, end] = v.share(v.mul(ranges, kvHeads * perHead), c.thread, c.threads);
  Value last = v.add(end, -1);
  v.loop(begin, end, 1, [&](Value item) {
    Value range = arith::RemUIOp::create(v.b, v.loc, item, ranges);
    Value rest = arith::DivUIOp::create(v.b, v.loc, item, ranges);
    Value next = v.min(v.add(item, 1), last);
    nextHead = v.div(arith::DivUIOp::create(v.b, v.loc, next, ranges), perHead);
    tile(v.div(rest, perHead), v.mul(v.rem(rest, perHead), together), v.mul(range, kRange));
  });
}

void AttentionTiler::run() {
  auto qType = cast<MemRefType>(op.getQ().getType());
  auto kType = cast<MemRefType>(op.getK().getType());
  size = qType.getDimSize(2);
  group = qType.getDimSize(1) / kType.getDimSize(1);
  bool isHalf = kType.getElementType().isF16();
  // Sums of 16 lanes that stay in registers.
  budget = c.target.vectorBits >= 512 ? 16 : c.target.vectorBits >= 256 ? 6 : 2;
  int64_t most = kTileQueries / budget * budget;
  // One token: the queries of a head in equal tiles.
  int64_t few = llvm::divideCeil(group, llvm::divideCeil(group, std::min<int64_t>(budget, 8)));
  pos = v.toIndex(op.getPos());
  tokens = v.dim(op.getQ(), 0);
  total = v.mul(tokens, group);

  Type f32 = v.b.getF32Type();
  int64_t stride = padded() + kLanes; // rows of one tile start in different sets of the cache
  int64_t rows = llvm::alignTo(most, kLanes);
  query = scratch({rows, stride}, f32);
  score = scratch({rows, kBlock}, f32);
  length = scratch({rows}, v.b.getIndexType());
  for (Value *row : {&top, &nextTop, &allTop, &factor, &newFactor})
    *row = scratch({rows}, f32);
  for (Value *row : {&lanes, &allLanes})
    *row = scratch({rows, kLanes}, f32);
  for (Value *row : {&sums, &allSums})
    *row = scratch({rows, stride}, f32);
  if (isHalf || !op.getBlocked())
    wideKeys = scratch({padded(), kLanes}, f32);
  if (isHalf) {
    wideValues = scratch({kBlock, kLanes}, f32);
  }

  Value isOne = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::eq, tokens, v.index(1));
  auto choice = scf::IfOp::create(v.b, v.loc, isOne, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(v.b);
  v.b.setInsertionPointToStart(&choice.getThenRegion().front());
  widensFirst = false;
  if (op.getParts())
    pieces(few);
  else
    tiles(few, few);
  v.b.setInsertionPointToStart(&choice.getElseRegion().front());
  widensFirst = isHalf;
  tiles(most, budget);
}
} // namespace

void setun::tileAttention(AttentionOp op, TileContext &c) { AttentionTiler(op, c).run(); }

void setun::tileAttentionFold(AttentionFoldOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto type = cast<MemRefType>(op.getO().getType());
  int64_t heads = type.getDimSize(1), size = type.getDimSize(2);
  Value isOne = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::eq, v.dim(op.getO(), 0), v.index(1));
  v.onlyIf(isOne, [&] {
    Value ranges = v.add(v.div(v.toIndex(op.getPos()), AttentionOp::kRange), 1);
    auto [begin, end] = v.share(v.index(heads), c.thread, c.threads);
    v.loop(begin, end, 1, [&](Value head) {
      // Maximum, lanes of weights, and the sums.
      SmallVector<Value> init = {v.splat(std::numeric_limits<float>::lowest()), v.splat(0.0f)};
      init.append(llvm::divideCeil(size, kLanes), v.splat(0.0f));
      SmallVector<Value> all = v.loop(v.index(0), ranges, 1, init, [&](Value range, ValueRange state) {
        auto part = [&](int64_t at, int64_t count = kLanes) {
          return v.load(op.getParts(), {range, head, v.index(at)}, count);
        };
        Value top = part(0), next = v.maxf(state[0], top);
        Value f = v.exp(v.subf(state[0], next)), g = v.exp(v.subf(top, next));
        SmallVector<Value> folded = {next, v.addf(v.mulf(state[1], f), v.mulf(part(kLanes), g))};
        for (int64_t i = 0; i < size; i += kLanes)
          folded.push_back(v.addf(v.mulf(state[folded.size()], f),
                                  v.mulf(part(AttentionOp::kPartHeader + i, std::min(kLanes, size - i)), g)));
        return folded;
      });
      Value inverse = v.broadcast(v.divf(v.f32(1.0f), v.treeSum(all[1])));
      for (int64_t i = 0; i < size; i += kLanes)
        v.store(v.mulf(v.addf(all[2 + i / kLanes], v.splat(0.0f)), inverse), op.getO(), {v.index(0), head, v.index(i)},
                std::min(kLanes, size - i));
    });
  });
}

/// Each sample as an attention of its own over views of the operands.
void setun::tileBatchAttention(BatchAttentionOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  auto sampleOf = [&](Value memref, Value at) -> Value {
    auto type = cast<MemRefType>(memref.getType());
    SmallVector<OpFoldResult> offsets(type.getRank(), b.getIndexAttr(0)), sizes = memref::getMixedSizes(b, loc, memref);
    SmallVector<OpFoldResult> strides(type.getRank(), b.getIndexAttr(1));
    offsets[0] = at;
    sizes[0] = b.getIndexAttr(1);
    auto result =
        memref::SubViewOp::inferRankReducedResultType(type.getShape().drop_front(), type, offsets, sizes, strides);
    return memref::SubViewOp::create(b, loc, cast<MemRefType>(result), memref, offsets, sizes, strides);
  };
  v.loop(v.index(0), v.dim(op.getQ(), 0), 1, [&](Value sample) {
    Value q = sampleOf(op.getQ(), sample), k = sampleOf(op.getK(), sample), values = sampleOf(op.getV(), sample),
          o = sampleOf(op.getO(), sample);
    Value start = arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(0));
    auto one = AttentionOp::create(b, loc, TypeRange(), q, start, Value(), Value(), Value(), Value(), k, values,
                                   /*parts=*/Value(), o, op.getScaleAttr(), op.getCausalAttr(), /*blocked=*/UnitAttr());
    AttentionTiler tiler(one, c);
    tiler.allKeys = v.dim(k, 0);
    if (op.getMask())
      tiler.mask =
          sampleOf(op.getMask(), cast<MemRefType>(op.getMask().getType()).getDimSize(0) == 1 ? v.index(0) : sample);
    tiler.run();
    one.erase();
  });
}
