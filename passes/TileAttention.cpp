//===- TileAttention.cpp - loops of attention, rotary embedding and the cache ----===//
#include "passes/VectorBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

void setun::tileRotary(RotaryOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto type = cast<MemRefType>(op.getX().getType());
  int64_t heads = type.getDimSize(1), half = type.getDimSize(2) / 2;
  Value total = v.mul(v.dim(op.getX(), 0), heads);
  auto [begin, end] = v.share(total, c.thread, c.threads);
  Value pos = v.toIndex(op.getPos());
  v.loop(begin, end, 1, [&](Value item) {
    Value t = v.div(item, heads), h = v.rem(item, heads), row = v.add(pos, t);
    v.chunks(half, [&](Value i, int64_t lanes) {
      Value j = v.add(i, half);
      Value cosine = v.load(op.getCos(), {row, i}, lanes), sine = v.load(op.getSin(), {row, i}, lanes);
      Value x = v.load(op.getX(), {t, h, i}, lanes), y = v.load(op.getX(), {t, h, j}, lanes);
      v.store(v.subf(v.mulf(x, cosine), v.mulf(y, sine)), op.getY(), {t, h, i}, lanes);
      v.store(v.addf(v.mulf(y, cosine), v.mulf(x, sine)), op.getY(), {t, h, j}, lanes);
    });
  });
}

void setun::tileCacheUpdate(CacheUpdateOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto type = cast<MemRefType>(op.getRows().getType());
  int64_t heads = type.getDimSize(1), size = type.getDimSize(2);
  Value total = v.mul(v.dim(op.getRows(), 0), heads);
  auto [begin, end] = v.share(total, c.thread, c.threads);
  Value pos = v.toIndex(op.getPos());
  v.loop(begin, end, 1, [&](Value item) {
    Value t = v.div(item, heads), h = v.rem(item, heads), row = v.add(pos, t);
    v.chunks(size, [&](Value i, int64_t lanes) {
      v.store(v.load(op.getRows(), {t, h, i}, lanes), op.getCache(), {row, h, i}, lanes);
    });
  });
}

void setun::tileAttention(AttentionOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  auto qType = cast<MemRefType>(op.getQ().getType());
  auto kType = cast<MemRefType>(op.getK().getType());
  int64_t heads = qType.getDimSize(1), size = qType.getDimSize(2);
  int64_t headsPerKey = heads / kType.getDimSize(1);
  int64_t vectors = (size + kLanes - 1) / kLanes;
  auto lanesOf = [&](int64_t i) { return std::min(kLanes, size - i * kLanes); };
  Value tokens = v.dim(op.getQ(), 0);
  Value total = v.mul(tokens, heads);
  auto [begin, end] = v.share(total, c.thread, c.threads);
  Value pos = v.toIndex(op.getPos());
  Value lowest = v.splat(std::numeric_limits<float>::lowest());
  Value scale = v.f32(op.getScale().convertToFloat());
  // One block of scores; a stack slot, since lanes are written one by one.
  Value scores = memref::AllocaOp::create(b, loc, MemRefType::get({kLanes}, b.getF32Type()));

  v.loop(begin, end, 1, [&](Value item) {
    Value t = v.div(item, heads), h = v.rem(item, heads);
    Value kv = v.div(h, headsPerKey);
    Value length = op.getCausal() ? v.add(v.add(pos, t), 1) : v.add(pos, tokens);
    SmallVector<Value> q;
    for (int64_t i = 0; i < vectors; ++i)
      q.push_back(v.load(op.getQ(), {t, h, v.index(i * kLanes)}, lanesOf(i)));

    SmallVector<Value> init = {lowest, v.splat(0.0f)};
    init.append(vectors, v.splat(0.0f));
    SmallVector<Value> state = v.loop(v.index(0), length, kLanes, init, [&](Value first, ValueRange old) {
      Value valid = v.min(v.sub(length, first), v.index(kLanes));
      v.store(lowest, scores, {v.index(0)});
      v.loop(v.index(0), valid, 1, [&](Value j) {
        Value row = v.add(first, j);
        Value sum = v.splat(0.0f);
        for (int64_t i = 0; i < vectors; ++i)
          sum = v.addf(sum, v.mulf(q[i], v.load(op.getK(), {row, kv, v.index(i * kLanes)}, lanesOf(i))));
        v.storeScalar(v.mulf(scale, v.treeSum(sum)), scores, {j});
      });
      Value s = v.load(scores, {v.index(0)});
      Value m = v.maxf(old[0], v.broadcast(v.treeMax(s)));
      Value factor = v.exp(v.subf(old[0], m));
      Value p = arith::SelectOp::create(b, loc, v.prefixMask(valid), v.exp(v.subf(s, m)), v.splat(0.0f));
      SmallVector<Value> next = {m, v.addf(v.mulf(old[1], factor), p)};
      SmallVector<Value> acc;
      for (int64_t i = 0; i < vectors; ++i)
        acc.push_back(v.mulf(old[2 + i], factor));
      v.store(p, scores, {v.index(0)});
      acc = v.loop(v.index(0), valid, 1, acc, [&](Value j, ValueRange sums) {
        Value row = v.add(first, j);
        Value weight = v.broadcast(v.loadScalar(scores, {j}));
        SmallVector<Value> out;
        for (int64_t i = 0; i < vectors; ++i)
          out.push_back(v.addf(sums[i], v.mulf(weight, v.load(op.getV(), {row, kv, v.index(i * kLanes)}, lanesOf(i)))));
        return out;
      });
      llvm::append_range(next, acc);
      return next;
    });
    Value denominator = v.broadcast(v.treeSum(state[1]));
    for (int64_t i = 0; i < vectors; ++i)
      v.store(v.divf(state[2 + i], denominator), op.getO(), {t, h, v.index(i * kLanes)}, lanesOf(i));
  });
}
