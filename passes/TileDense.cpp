//===- TileDense.cpp - loops of full-precision panels: head and embedding --------===//
#include "passes/VectorBuilder.h"

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

/// Widens 16-bit patterns (already in i32 lanes or scalars) to the f32 of the same value.
static Value widen(VectorBuilder &v, Value bits, Type stored) {
  OpBuilder &b = v.b;
  Location loc = v.loc;
  bool isVector = isa<VectorType>(bits.getType());
  auto constant = [&](int32_t value) -> Value {
    return isVector ? v.splatI32(value) : arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value)).getResult();
  };
  Type f32 = isVector ? Type(v.f32Lanes()) : Type(b.getF32Type());
  if (stored.isBF16())
    return arith::BitcastOp::create(b, loc, f32, arith::ShLIOp::create(b, loc, bits, constant(16)));
  // f16: exponent and fraction in f32's place are the value times 2^-112, exactly, subnormals included. Infinities and
  // NaN do not occur in weights.
  Value magnitude = arith::ShLIOp::create(b, loc, arith::AndIOp::create(b, loc, bits, constant(0x7fff)), constant(13));
  Value sign = arith::ShLIOp::create(b, loc, arith::AndIOp::create(b, loc, bits, constant(0x8000)), constant(16));
  Value value = arith::BitcastOp::create(b, loc, f32, magnitude);
  value = v.mulf(value, isVector ? v.splat(0x1p112f) : v.f32(0x1p112f));
  Type i32 = isVector ? Type(v.i32Lanes()) : Type(b.getI32Type());
  Value signedBits = arith::OrIOp::create(b, loc, arith::BitcastOp::create(b, loc, i32, value), sign);
  return arith::BitcastOp::create(b, loc, f32, signedBits);
}

Value setun::loadAsF32(VectorBuilder &v, Value memref, ValueRange indices) {
  Type stored = cast<MemRefType>(memref.getType()).getElementType();
  Value raw = v.load(memref, indices);
  if (stored.isF32())
    return raw;
  Value bits = vector::BitCastOp::create(v.b, v.loc, VectorType::get({kLanes}, v.b.getI16Type()), raw);
  return widen(v, arith::ExtUIOp::create(v.b, v.loc, v.i32Lanes(), bits), stored);
}

Value setun::scalarAsF32(VectorBuilder &v, Value stored) {
  Type type = stored.getType();
  if (type.isF32())
    return stored;
  Value bits = arith::BitcastOp::create(v.b, v.loc, v.b.getI16Type(), stored);
  return widen(v, arith::ExtUIOp::create(v.b, v.loc, v.b.getI32Type(), bits), type);
}

void setun::tileDense(DenseOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  auto packed = cast<MemRefType>(op.getPacked().getType());
  int64_t panels = packed.getDimSize(0), k = packed.getDimSize(1);
  int64_t rows = cast<MemRefType>(op.getY().getType()).getDimSize(1);
  constexpr int64_t fields = 64 / kLanes, tile = 4;
  Value tokens = v.dim(op.getX(), 0);
  auto [begin, end] = v.share(v.index(panels), c.thread, c.threads);

  auto tokenTile = [&](Value panel, Value token, int64_t count) {
    SmallVector<Value> init(count * fields, v.splat(0.0f));
    SmallVector<Value> acc = v.loop(v.index(0), v.index(k), 1, init, [&](Value i, ValueRange state) {
      SmallVector<Value> w;
      for (int64_t f = 0; f < fields; ++f)
        w.push_back(loadAsF32(v, op.getPacked(), {panel, i, v.index(f * kLanes)}));
      SmallVector<Value> next;
      for (int64_t m = 0; m < count; ++m) {
        Value x = v.broadcast(v.loadScalar(op.getX(), {v.add(token, m), i}));
        for (int64_t f = 0; f < fields; ++f)
          next.push_back(v.addf(state[m * fields + f], v.mulf(x, w[f])));
      }
      return next;
    });
    for (int64_t f = 0; f < fields; ++f) {
      Value first = v.add(v.mul(panel, 64), f * kLanes);
      Value mask = rows % 64 ? v.prefixMask(v.sub(v.index(rows), first)) : Value();
      for (int64_t m = 0; m < count; ++m) {
        Value value = acc[m * fields + f];
        Value t = v.add(token, m);
        if (op.getBias())
          value = v.addf(value, mask ? v.loadMasked(op.getBias(), {first}, mask) : v.load(op.getBias(), {first}));
        if (mask)
          v.storeMasked(value, op.getY(), {t, first}, mask);
        else
          v.store(value, op.getY(), {t, first});
      }
    }
  };
  v.loop(begin, end, 1, [&](Value panel) {
    Value whole = v.mul(v.div(tokens, tile), tile);
    v.loop(v.index(0), whole, tile, [&](Value token) { tokenTile(panel, token, tile); });
    v.loop(whole, tokens, 1, [&](Value token) { tokenTile(panel, token, 1); });
  });
}

void setun::tileEmbedding(EmbeddingOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  int64_t size = cast<MemRefType>(op.getPacked().getType()).getDimSize(1);
  auto [begin, end] = v.share(v.dim(op.getTokens(), 0), c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value t) {
    Value token = v.toIndex(v.loadScalar(op.getTokens(), {t}));
    // A token outside the table reads row 0; as unsigned, negative ones are large.
    Value inside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, token, v.index(op.getVocab()));
    token = arith::SelectOp::create(b, loc, inside, token, v.index(0));
    Value panel = v.div(token, 64), row = v.rem(token, 64);
    v.loop(v.index(0), v.index(size), 1, [&](Value k) {
      v.storeScalar(scalarAsF32(v, v.loadScalar(op.getPacked(), {panel, k, row})), op.getY(), {t, k});
    });
  });
}
