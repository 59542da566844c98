//===- TileRows.cpp - loops of normalisation, quantisation and other row operations ===//
#include "passes/VectorBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;
using bitnet::NormKind;

namespace {
/// With one token, so much of what is read next is asked for while its activations are quantised. Zen 4 drops software
/// prefetches while its first cache waits for as many lines as it can, so they are spread over a pass, and all asked
/// for once more in the next. In the first cache they train the hardware's prefetching; with some missing they do not.
constexpr int64_t kAheadBytes = 8 * 1024;

/// What a norm needs to know of a row before it can write one: mean (layer) and 1 / sqrt(... + eps), on all lanes.
struct RowNorm {
  NormKind kind = NormKind::None;
  Value weight, bias;
  Value mean, inverse;
};

/// What is done besides while a pass over a row is at column k.
using Meanwhile = function_ref<void(Value k)>;

RowNorm measureRow(VectorBuilder &v, std::optional<bitnet::NormAttr> norm, Value weight, Value bias, Value x, Value t,
                   int64_t size, Meanwhile meanwhile = nullptr) {
  RowNorm row;
  if (!norm || norm->getKind() == NormKind::None)
    return row;
  row.kind = norm->getKind();
  row.weight = weight;
  row.bias = bias;
  Value count = v.f32(static_cast<float>(size));
  if (row.kind == NormKind::Layer) {
    Value sum = v.chunks(size, v.splat(0.0f), [&](Value k, int64_t lanes, ValueRange acc) {
      return SmallVector<Value>{v.addf(acc[0], v.load(x, {t, k}, lanes))};
    })[0];
    row.mean = v.broadcast(v.divf(v.treeSum(sum), count));
  }
  Value squares = v.chunks(size, v.splat(0.0f), [&](Value k, int64_t lanes, ValueRange acc) {
    if (meanwhile)
      meanwhile(k);
    Value value = v.load(x, {t, k}, lanes);
    if (row.mean) {
      value = v.subf(value, row.mean);
      if (lanes < kLanes)
        value = arith::SelectOp::create(v.b, v.loc, v.constantMask(lanes), value, v.splat(0.0f));
    }
    return SmallVector<Value>{v.addf(acc[0], v.mulf(value, value))};
  })[0];
  Value variance = v.addf(v.divf(v.treeSum(squares), count), v.f32(norm->getEpsValue()));
  row.inverse = v.broadcast(v.divf(v.f32(1.0f), v.sqrt(variance)));
  return row;
}

Value normalise(VectorBuilder &v, const RowNorm &row, Value x, Value k, int64_t lanes) {
  if (row.kind == NormKind::None)
    return x;
  if (row.mean)
    x = v.subf(x, row.mean);
  x = v.mulf(x, row.inverse);
  if (row.weight)
    x = v.mulf(x, loadAsF32(v, row.weight, {k}, lanes));
  if (row.bias)
    x = v.addf(x, v.load(row.bias, {k}, lanes));
  return x;
}
} // namespace

void setun::tileNorm(NormOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  int64_t size = cast<MemRefType>(op.getX().getType()).getDimSize(1);
  auto [begin, end] = v.share(v.dim(op.getX(), 0), c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value t) {
    RowNorm row = measureRow(v, op.getNorm(), op.getWeight(), op.getBias(), op.getX(), t, size);
    v.chunks(size, [&](Value k, int64_t lanes) {
      v.store(normalise(v, row, v.load(op.getX(), {t, k}, lanes), k, lanes), op.getY(), {t, k}, lanes);
    });
  });
}

void setun::tileQuantize(QuantizeOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  int64_t size = cast<MemRefType>(op.getX().getType()).getDimSize(1);
  int64_t padded = (size + 3) / 4 * 4;
  bitnet::ActQuantAttr quant = op.getActivation();
  Value tokens = v.dim(op.getX(), 0);
  Value qMax = v.f32(static_cast<float>(quant.getQMax()));

  // Maxima have no order (a NaN never is one), so several chains of them run side by side.
  auto absmax = [&](const RowNorm &row, Value t, Value start, Meanwhile meanwhile = nullptr) {
    constexpr int64_t chains = 4;
    int64_t together = size / (chains * kLanes) * (chains * kLanes);
    auto larger = [&](Value k, int64_t lanes, Value maximum) {
      Value x = normalise(v, row, v.load(op.getX(), {t, k}, lanes), k, lanes);
      if (lanes < kLanes)
        x = arith::SelectOp::create(b, loc, v.constantMask(lanes), x, v.splat(0.0f));
      return v.maxf(math::AbsFOp::create(b, loc, x), maximum);
    };
    SmallVector<Value> maxima(together ? chains : 1, v.splat(0.0f));
    maxima[0] = start;
    if (together)
      maxima = v.loop(v.index(0), v.index(together), chains * kLanes, maxima, [&](Value k, ValueRange acc) {
        SmallVector<Value> next;
        for (int64_t i = 0; meanwhile && i < chains; ++i)
          meanwhile(v.add(k, i * kLanes));
        for (int64_t i = 0; i < chains; ++i)
          next.push_back(larger(v.add(k, i * kLanes), kLanes, acc[i]));
        return next;
      });
    for (int64_t k = together; k < size; k += kLanes)
      maxima[0] = larger(v.index(k), std::min(kLanes, size - k), maxima[0]);
    for (size_t i = 1; i < maxima.size(); ++i)
      maxima[0] = v.maxf(maxima[i], maxima[0]);
    return maxima[0];
  };
  // s = (1 / max(absmax, eps)) * qmax, two roundings; what dequantises is 1 / s.
  auto scaleOf = [&](Value maximum) {
    Value m = v.maxf(maximum, v.f32(quant.getEpsValue()));
    return v.mulf(v.divf(v.f32(1.0f), m), qMax);
  };
  // Clamping before rounding is the same, as the bounds are integers, and leaves what the addition of 1.5 * 2^23 rounds
  // correctly: the sum's bits are then those of 1.5 * 2^23 plus the code, whose low byte is the code.
  constexpr float magic = 12582912.0f;
  constexpr int32_t magicBits = 0x4b400000;
  // Of codes that were just written, and are in the first cache.
  auto sumOf = [&](Value t, Value from, int64_t length) {
    auto widened = [&](Value k, int64_t lanes) -> Value {
      auto type = VectorType::get({lanes}, b.getI8Type());
      Value codes = vector::LoadOp::create(b, loc, type, op.getCodes(), ValueRange{t, v.add(from, k)});
      return arith::ExtSIOp::create(b, loc, VectorType::get({lanes}, b.getI32Type()), codes);
    };
    auto total = [&](Value lanes) -> Value {
      return vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, lanes);
    };
    int64_t whole = length / kLanes * kLanes;
    Value sum = total(v.loop(v.index(0), v.index(whole), kLanes, v.splatI32(0), [&](Value k, ValueRange acc) {
      return SmallVector<Value>{arith::AddIOp::create(b, loc, acc[0], widened(k, kLanes))};
    })[0]);
    if (whole == length)
      return sum;
    return Value(arith::AddIOp::create(b, loc, sum, total(widened(v.index(whole), length - whole))));
  };
  auto sumGroups = [&](Value t) {
    int64_t group = *op.getGroup(), full = size / group, rest = padded - full * group; // with the padding's zeros
    v.loop(v.index(0), v.index(full), 1,
           [&](Value g) { v.storeScalar(sumOf(t, v.mul(g, group), group), op.getSums(), {t, g}); });
    if (full < bitnet::groupCount(size, group))
      v.storeScalar(sumOf(t, v.index(full * group), rest), op.getSums(), {t, v.index(full)});
  };
  auto writeCodes = [&](const RowNorm &row, Value t, Value s, Meanwhile meanwhile = nullptr) {
    Value scale = v.broadcast(s);
    Value sum = v.chunks(size, v.splatI32(0), [&](Value k, int64_t valid, ValueRange acc) {
      if (meanwhile)
        meanwhile(k);
      // The last chunk also writes the padding columns: lanes beyond the row are zero.
      int64_t lanes = valid == kLanes ? kLanes : padded - size / kLanes * kLanes;
      Value x = normalise(v, row, v.load(op.getX(), {t, k}, valid), k, valid);
      Value q = v.maxf(v.mulf(x, scale), v.splat(static_cast<float>(quant.getQMin())));
      q = v.minf(q, v.splat(static_cast<float>(quant.getQMax())));
      Value code = arith::BitcastOp::create(b, loc, v.i32Lanes(), v.addf(q, v.splat(magic)));
      if (valid < kLanes)
        code = arith::SelectOp::create(b, loc, v.constantMask(valid), code, v.splatI32(magicBits));
      v.store(arith::TruncIOp::create(b, loc, VectorType::get({kLanes}, b.getI8Type()), code), op.getCodes(), {t, k},
              lanes);
      return SmallVector<Value>{arith::AddIOp::create(b, loc, acc[0], code)};
    })[0];
    if (op.getGroup())
      return sumGroups(t);
    // Every chunk added that constant to every lane; taken away modulo 2^32.
    uint32_t added = static_cast<uint32_t>((size + kLanes - 1) / kLanes) * static_cast<uint32_t>(magicBits);
    sum = arith::SubIOp::create(b, loc, sum, v.splatI32(static_cast<int32_t>(added)));
    Value total = vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, sum);
    v.storeScalar(total, op.getSums(), {t});
  };
  auto measure = [&](Value t, Meanwhile meanwhile = nullptr) {
    return measureRow(v, op.getNorm(), op.getNormWeight(), op.getNormBias(), op.getX(), t, size, meanwhile);
  };

  if (quant.getGranularity() == bitnet::ActGranularity::PerTensor) {
    // One scale for all tokens: every thread finds it by itself, so that no barrier is needed inside a kernel.
    Value maximum = v.loop(v.index(0), tokens, 1, v.splat(0.0f), [&](Value t, ValueRange acc) {
      return SmallVector<Value>{absmax(measure(t), t, acc[0])};
    })[0];
    Value s = scaleOf(v.treeMax(maximum));
    Value first = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, c.thread, v.index(0));
    v.onlyIf(first, [&] { v.storeScalar(v.divf(v.f32(1.0f), s), op.getScale(), {v.index(0)}); });
    auto [begin, end] = v.share(tokens, c.thread, c.threads);
    v.loop(begin, end, 1, [&](Value t) { writeCodes(measure(t), t, s); });
    return;
  }
  auto oneRow = [&](Value t, Meanwhile askForGains = nullptr, Meanwhile askAhead = nullptr) {
    RowNorm row = measure(t, askForGains);
    Value s = scaleOf(v.treeMax(absmax(row, t, v.splat(0.0f), askAhead)));
    v.storeScalar(v.divf(v.f32(1.0f), s), op.getScale(), {t});
    writeCodes(row, t, s, askAhead);
  };
  auto rows = [&] {
    auto [begin, end] = v.share(tokens, c.thread, c.threads);
    v.loop(begin, end, 1, [&](Value t) { oneRow(t); });
  };
  if (!op.getAhead())
    return rows();
  auto askForGains = [&](Value k) {
    if (op.getNormWeight())
      v.prefetch(op.getNormWeight(), {k}, /*locality=*/3);
  };
  // A line with each chunk, at most: with gaps between the lines they are of no use.
  const int64_t bytes = std::min(kAheadBytes, size * 64 / kLanes);
  auto askAhead = [&](Value k) { v.prefetch(op.getAhead(), {v.div(v.mul(k, bytes), size)}, /*locality=*/3); };
  Value one = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, tokens, v.index(1));
  v.choose(one, [&] { oneRow(v.index(0), askForGains, askAhead); }, rows);
}

void setun::tileSoftmax(SoftmaxOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  OpBuilder &b = v.b;
  Location loc = v.loc;
  // Rows, whatever the rank.
  auto rowsOf = [&](Value memref) -> Value {
    int64_t rank = cast<MemRefType>(memref.getType()).getRank();
    if (rank == 1)
      return memref::ExpandShapeOp::create(
          b, loc, ArrayRef<int64_t>{1, cast<MemRefType>(memref.getType()).getDimSize(0)}, memref,
          ArrayRef<ReassociationIndices>{{0, 1}},
          ArrayRef<OpFoldResult>{b.getIndexAttr(1), memref::getMixedSize(b, loc, memref, 0)});
    if (rank == 2)
      return memref;
    ReassociationIndices outer(llvm::to_vector<2>(llvm::seq<int64_t>(0, rank - 1)));
    return memref::CollapseShapeOp::create(b, loc, memref, ArrayRef<ReassociationIndices>{outer, {rank - 1}});
  };
  Value x = rowsOf(op.getX()), y = rowsOf(op.getY()), size = v.dim(x, 1);
  Value whole = v.mul(v.div(size, kLanes), kLanes), mask = v.prefixMask(v.sub(size, whole));
  Value isRagged = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, whole, size);
  Value lowest = v.splat(std::numeric_limits<float>::lowest());
  // Over a row in chunks, of which the last, ragged one is behind a branch.
  auto overRow = [&](Value init, function_ref<Value(Value at, Value mask, Value state)> body) {
    Value state = v.loop(v.index(0), whole, kLanes, init,
                         [&](Value at, ValueRange old) { return SmallVector<Value>{body(at, Value(), old[0])}; })[0];
    auto rest = scf::IfOp::create(b, loc, TypeRange{state.getType()}, isRagged, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&rest.getThenRegion().front());
    scf::YieldOp::create(b, loc, body(whole, mask, state));
    b.setInsertionPointToStart(&rest.getElseRegion().front());
    scf::YieldOp::create(b, loc, state);
    return rest.getResult(0);
  };
  auto load = [&](Value memref, ValueRange at, Value mask) {
    return mask ? v.loadMasked(memref, at, mask) : v.load(memref, at);
  };
  auto store = [&](Value value, Value memref, ValueRange at, Value mask) {
    mask ? v.storeMasked(value, memref, at, mask) : v.store(value, memref, at);
  };
  auto [begin, end] = v.share(v.dim(x, 0), c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value row) {
    Value most = overRow(lowest, [&](Value at, Value mask, Value state) {
      Value value = load(x, {row, at}, mask);
      if (mask)
        value = arith::SelectOp::create(b, loc, mask, value, lowest);
      return v.maxf(value, state);
    });
    Value top = v.broadcast(v.treeMax(most));
    Value sums = overRow(v.splat(0.0f), [&](Value at, Value mask, Value state) {
      Value p = v.exp(v.subf(load(x, {row, at}, mask), top));
      if (mask)
        p = arith::SelectOp::create(b, loc, mask, p, v.splat(0.0f));
      store(p, y, {row, at}, mask);
      return v.addf(state, p);
    });
    Value inverse = v.broadcast(v.divf(v.f32(1.0f), v.treeSum(sums)));
    overRow(inverse, [&](Value at, Value mask, Value state) {
      store(v.mulf(load(y, {row, at}, mask), state), y, {row, at}, mask);
      return state;
    });
  });
}

void setun::tileGated(GatedOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  Epilogue act = op.getAct() == bitnet::GateAct::Relu2 ? Epilogue::Relu2 : Epilogue::Silu;
  int64_t size = cast<MemRefType>(op.getGate().getType()).getDimSize(1);
  auto [begin, end] = v.share(v.dim(op.getGate(), 0), c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value t) {
    v.chunks(size, [&](Value k, int64_t lanes) {
      Value y = gate(v, act, v.load(op.getGate(), {t, k}, lanes), v.load(op.getUp(), {t, k}, lanes));
      v.store(y, op.getY(), {t, k}, lanes);
    });
  });
}

void setun::tileHadamard(HadamardOp op, TileContext &c) {
  VectorBuilder &v = c.v;
  int64_t size = cast<MemRefType>(op.getX().getType()).getDimSize(1);
  int64_t block = op.getBlock();
  auto [begin, end] = v.share(v.dim(op.getX(), 0), c.thread, c.threads);
  v.loop(begin, end, 1, [&](Value t) {
    v.chunks(size,
             [&](Value k, int64_t lanes) { v.store(v.load(op.getX(), {t, k}, lanes), op.getY(), {t, k}, lanes); });
    for (int64_t distance = 1; distance < block; distance *= 2) {
      // Pairs (i, i + distance) of every run of 2 * distance elements.
      v.loop(v.index(0), v.index(size), 2 * distance, [&](Value run) {
        auto pair = [&](Value i, int64_t lanes) {
          Value j = v.add(i, distance);
          Value x = v.load(op.getY(), {t, i}, lanes), y = v.load(op.getY(), {t, j}, lanes);
          v.store(v.addf(x, y), op.getY(), {t, i}, lanes);
          v.store(v.subf(x, y), op.getY(), {t, j}, lanes);
        };
        if (distance >= kLanes)
          v.loop(v.index(0), v.index(distance), kLanes, [&](Value i) { pair(v.add(run, i), kLanes); });
        else
          pair(run, distance);
      });
    }
    Value factor = v.splat(static_cast<float>(1.0 / std::sqrt(static_cast<double>(block))));
    v.chunks(size, [&](Value k, int64_t lanes) {
      v.store(v.mulf(v.load(op.getY(), {t, k}, lanes), factor), op.getY(), {t, k}, lanes);
    });
  });
}
