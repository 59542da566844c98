//===- TileDense.cpp - loops over full-precision rows: head and embedding ---------===//
#include "passes/VectorBuilder.h"

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

Value setun::widenBits(VectorBuilder &v, Value bits, Type stored) {
  OpBuilder &b = v.b;
  Location loc = v.loc;
  if (stored.isBF16())
    return arith::BitcastOp::create(b, loc, v.f32Lanes(), arith::ShLIOp::create(b, loc, bits, v.splatI32(16)));
  // f16: exponent and fraction in f32's place are the value times 2^-112, exactly, subnormals included. Infinities and
  // NaN do not occur in weights.
  Value magnitude = arith::AndIOp::create(b, loc, bits, v.splatI32(0x7fff));
  magnitude = arith::ShLIOp::create(b, loc, magnitude, v.splatI32(13));
  Value sign = arith::AndIOp::create(b, loc, bits, v.splatI32(0x8000));
  sign = arith::ShLIOp::create(b, loc, sign, v.splatI32(16));
  Value value = arith::BitcastOp::create(b, loc, v.f32Lanes(), magnitude);
  value = arith::BitcastOp::create(b, loc, v.i32Lanes(), v.mulf(value, v.splat(0x1p112f)));
  return arith::BitcastOp::create(b, loc, v.f32Lanes(), arith::OrIOp::create(b, loc, value, sign));
}

Value setun::loadAsF32(VectorBuilder &v, Value memref, ValueRange indices, int64_t lanes) {
  Type stored = cast<MemRefType>(memref.getType()).getElementType();
  Value raw = v.load(memref, indices, lanes);
  if (stored.isF32())
    return raw;
  Value bits = vector::BitCastOp::create(v.b, v.loc, VectorType::get({kLanes}, v.b.getI16Type()), raw);
  return widenBits(v, arith::ExtUIOp::create(v.b, v.loc, v.i32Lanes(), bits), stored);
}

SmallVector<Value> setun::dotRows(VectorBuilder &v, Value x, Value token, int64_t tokens, Value w, Value row,
                                  int64_t rows, Value ahead) {
  int64_t k = cast<MemRefType>(w.getType()).getDimSize(1);
  SmallVector<Value> init(tokens * rows, v.splat(0.0f));
  // Lanes beyond the row are zero in both factors: they add +0, which changes no sum.
  SmallVector<Value> acc = v.chunks(k, init, [&](Value at, int64_t lanes, ValueRange state) {
    SmallVector<Value> factors, next;
    for (int64_t r = 0; r < rows; ++r) {
      factors.push_back(loadAsF32(v, w, {v.add(row, r), at}, lanes));
      if (ahead && lanes == kLanes)
        v.prefetch(w, {v.add(ahead, r), at});
    }
    for (int64_t m = 0; m < tokens; ++m) {
      Value values = v.load(x, {v.add(token, m), at}, lanes);
      for (int64_t r = 0; r < rows; ++r)
        next.push_back(v.addf(state[m * rows + r], v.mulf(values, factors[r])));
    }
    return next;
  });
  for (Value &lanes : acc)
    lanes = v.treeSum(lanes);
  return acc;
}

void setun::tileDense(DenseOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto matrix = cast<MemRefType>(op.getW().getType());
  int64_t n = matrix.getDimSize(0);
  // Sixteen accumulators; a tile's rows stay in the first cache while the tokens of a block pass by, and the block
  // stays in the second while all rows do.
  constexpr int64_t rowTile = 4, tokenTile = 4, blockFloats = 128 << 10;
  int64_t block = llvm::alignTo(std::max<int64_t>(16, blockFloats / matrix.getDimSize(1)), tokenTile);
  Value tokens = v.dim(op.getX(), 0);
  std::pair<Value, Value> rows = v.share(v.index(n), c.thread, c.threads);

  auto tile = [&](Value row, int64_t rows, Value token, int64_t count) {
    // Four rows at once are four short streams, which the hardware's own prefetching follows too late.
    SmallVector<Value> sums =
        dotRows(v, op.getX(), token, count, op.getW(), row, rows, count == 1 ? v.add(row, rows) : Value());
    for (int64_t r = 0; r < rows; ++r) {
      Value at = v.add(row, r), bias = op.getBias() ? v.loadScalar(op.getBias(), {at}) : Value();
      for (int64_t m = 0; m < count; ++m) {
        Value sum = sums[m * rows + r];
        v.storeScalar(bias ? v.addf(sum, bias) : sum, op.getY(), {v.add(token, m), at});
      }
    }
  };
  auto someTokens = [&](Value row, int64_t rows, Value from, Value to) {
    Value whole = v.add(from, v.mul(v.div(v.sub(to, from), tokenTile), tokenTile));
    v.loop(from, whole, tokenTile, [&](Value token) { tile(row, rows, token, tokenTile); });
    v.loop(whole, to, 1, [&](Value token) { tile(row, rows, token, 1); });
  };
  Value whole = v.add(rows.first, v.mul(v.div(v.sub(rows.second, rows.first), rowTile), rowTile));
  v.loop(v.index(0), tokens, block, [&](Value from) {
    Value to = v.min(v.add(from, block), tokens);
    v.loop(rows.first, whole, rowTile, [&](Value row) { someTokens(row, rowTile, from, to); });
    v.loop(whole, rows.second, 1, [&](Value row) { someTokens(row, 1, from, to); });
  });
}

void setun::tileEmbedding(EmbeddingOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  auto table = cast<MemRefType>(op.getTable().getType());
  auto [begin, end] = v.share(v.dim(op.getTokens(), 0), c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value t) {
    Value token = v.toIndex(v.loadScalar(op.getTokens(), {t}));
    // A token outside the table reads row 0; as unsigned, negative ones are large.
    Value inside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, token, v.index(table.getDimSize(0)));
    token = arith::SelectOp::create(b, loc, inside, token, v.index(0));
    v.chunks(table.getDimSize(1), [&](Value k, int64_t lanes) {
      v.store(loadAsF32(v, op.getTable(), {token, k}, lanes), op.getY(), {t, k}, lanes);
    });
  });
}
