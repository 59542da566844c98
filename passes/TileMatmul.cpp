//===- TileMatmul.cpp - loops of the packed matmul --------------------------------===//
//
// for each panel of this thread, for each tile of tokens: one pass over K with fields x tokens accumulators of 16 lanes
// (16 rows of weights), then the epilogue. Threads split the panels, so that each reads its weights once and in order.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
#include "passes/VectorBuilder.h"

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

namespace {
class MatmulTiler {
public:
  MatmulTiler(MatmulOp op, TileContext &c)
      : op(op), c(c), v(c.v), b(c.v.b), loc(c.v.loc), layout(op.getLayout()), fields(layout.getFields()),
        bits(8 / fields), coded(static_cast<bool>(op.getSums())),
        row(findKernelRow(op.getKernel() ? op.getKernel()->getRow() : StringRef("generic"))) {}
  void run();

private:
  void tokenTile(Value panel, Value token, int64_t tokens);
  /// i32 accumulators [token][field] over k steps [from, to).
  SmallVector<Value> dots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums);
  SmallVector<Value> floatDots(Value panel, Value token, int64_t tokens, Value from, Value to, int64_t lastColumns,
                               ValueRange init);
  SmallVector<Value> triangularDots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums);
  /// The same for the lanes whose bytes are [offset, offset + bytes) of each step.
  SmallVector<Value> pairDots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                              int64_t offset, int64_t bytes);
  Value bytesAt(Value panel, Value step, int64_t offset, int64_t bytes);
  Value activations(Value token, Value step, int64_t bytes);
  Value ones(int64_t bytes);
  /// Largest code of a field, alone or with all lower ones.
  int64_t maxCode(int64_t field, bool cumulative);
  Value correct(Value dot, Value sum);
  void writeAcc(ArrayRef<Value> acc, Value panel, Value token, int64_t tokens, Value group);
  void epilogue(ArrayRef<Value> values, Value panel, Value token, int64_t tokens);
  Value scaleAt(Value panel, Value group, int64_t field);
  Value actScale(Value token);
  /// First output row of a field of a panel, and the mask of the rows that exist (null if all do).
  std::pair<Value, Value> outputRows(Value panel, int64_t field);

  MatmulOp op;
  TileContext &c;
  VectorBuilder &v;
  OpBuilder &b;
  Location loc;
  LayoutAttr layout;
  int64_t fields, bits;
  bool coded;
  const KernelRow *row;
};

Value MatmulTiler::bytesAt(Value panel, Value step, int64_t offset, int64_t bytes) {
  Value at = v.add(v.mul(v.add(v.mul(panel, layout.getSteps()), step), 64), offset);
  return vector::LoadOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), op.getPacked(), ValueRange{at});
}

Value MatmulTiler::activations(Value token, Value step, int64_t bytes) {
  Value four =
      vector::LoadOp::create(b, loc, VectorType::get({4}, b.getI8Type()), op.getX(), ValueRange{token, v.mul(step, 4)});
  Value word = vector::BitCastOp::create(b, loc, VectorType::get({1}, b.getI32Type()), four);
  Value all = vector::BroadcastOp::create(b, loc, VectorType::get({bytes / 4}, b.getI32Type()),
                                          vector::ExtractOp::create(b, loc, word, ArrayRef<int64_t>{0}));
  return vector::BitCastOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), all);
}

Value MatmulTiler::ones(int64_t bytes) {
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(VectorType::get({bytes}, b.getI8Type()), static_cast<int8_t>(1)));
}

int64_t MatmulTiler::maxCode(int64_t field, bool cumulative) {
  int64_t mask = (1 << (cumulative ? bits * (field + 1) : bits)) - 1;
  // Code 3 does not occur in ternary fields.
  return layout.isBinary() ? mask : mask / 3 * 2;
}

SmallVector<Value> MatmulTiler::dots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums) {
  if (row->method == DotMethod::Triangular)
    return triangularDots(panel, token, tokens, from, to, withSums);
  // A vector holds the whole step where one token uses it once, from memory; several tokens use a narrower part, whose
  // accumulators all stay in registers, and pass over the panel (which is in cache by then) once for each part.
  int64_t bytes = row->bytes;
  if (tokens == 1 && row->bytes >= 32)
    bytes = 64;
  SmallVector<SmallVector<Value>> parts;
  for (int64_t offset = 0; offset < 64; offset += bytes)
    parts.push_back(pairDots(panel, token, tokens, from, to, withSums, offset, bytes));
  if (parts.size() == 1)
    return parts.front();
  SmallVector<Value> acc;
  for (size_t i = 0; i < parts.front().size(); ++i) {
    Value all = v.splatI32(0);
    for (auto [part, values] : llvm::enumerate(parts))
      all = vector::InsertStridedSliceOp::create(
          b, loc, values[i], all, ArrayRef<int64_t>{static_cast<int64_t>(part) * bytes / 4}, ArrayRef<int64_t>{1});
    acc.push_back(all);
  }
  return acc;
}

SmallVector<Value> MatmulTiler::pairDots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                                         int64_t offset, int64_t bytes) {
  int64_t perToken = fields + (withSums ? 1 : 0);
  auto narrow = VectorType::get({bytes / 2}, b.getI16Type()), wide = VectorType::get({bytes / 4}, b.getI32Type());
  int64_t steps = KernelRow::maxPairSteps(maxCode(0, false));
  SmallVector<Value> init(tokens * perToken, arith::ConstantOp::create(b, loc, b.getZeroAttr(wide)));
  return v.loop(from, to, steps, init, [&](Value first, ValueRange sums) {
    SmallVector<Value> zero(tokens * perToken, arith::ConstantOp::create(b, loc, b.getZeroAttr(narrow)));
    Value last = v.min(v.add(first, steps), to);
    SmallVector<Value> pairs = v.loop(first, last, 1, zero, [&](Value step, ValueRange state) {
      Value packed = bytesAt(panel, step, offset, bytes);
      SmallVector<Value> codes, next;
      for (int64_t f = 0; f < fields; ++f)
        codes.push_back(UnpackOp::create(b, loc, packed.getType(), packed, f, bits, /*cumulative=*/false));
      if (withSums)
        codes.push_back(ones(bytes));
      for (int64_t m = 0; m < tokens; ++m) {
        Value x = activations(v.add(token, m), step, bytes);
        for (int64_t f = 0; f < perToken; ++f)
          next.push_back(
              DotPairsOp::create(b, loc, narrow, state[m * perToken + f], codes[f], x, maxCode(0, false), steps));
      }
      return next;
    });
    SmallVector<Value> next;
    Value half = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(wide, 16));
    for (auto [sum, pair] : llvm::zip(sums, pairs)) {
      Value both = vector::BitCastOp::create(b, loc, wide, pair);
      Value low = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, both, half), half);
      Value high = arith::ShRSIOp::create(b, loc, both, half);
      next.push_back(arith::AddIOp::create(b, loc, sum, arith::AddIOp::create(b, loc, low, high)));
    }
    return next;
  });
}

SmallVector<Value> MatmulTiler::triangularDots(Value panel, Value token, int64_t tokens, Value from, Value to,
                                               bool withSums) {
  int64_t perToken = fields + (withSums ? 1 : 0);
  SmallVector<Value> init(tokens * perToken, v.splatI32(0));
  SmallVector<Value> acc = v.loop(from, to, 1, init, [&](Value step, ValueRange state) {
    Value packed = bytesAt(panel, step, 0, 64);
    SmallVector<Value> codes, next;
    for (int64_t f = 0; f < fields; ++f)
      codes.push_back(UnpackOp::create(b, loc, packed.getType(), packed, f, bits, /*cumulative=*/true));
    for (int64_t m = 0; m < tokens; ++m) {
      Value x = activations(v.add(token, m), step, 64);
      for (int64_t f = 0; f < fields; ++f)
        next.push_back(DotOp::create(b, loc, v.i32Lanes(), state[m * perToken + f], codes[f], x, maxCode(f, true)));
      if (withSums)
        next.push_back(DotOp::create(b, loc, v.i32Lanes(), state[m * perToken + fields], ones(64), x, int64_t(1)));
    }
    return next;
  });
  for (int64_t m = 0; m < tokens; ++m)
    for (int64_t f = fields - 1; f > 0; --f) {
      // The triangular system, from the top: field f alone is the difference, exactly divisible.
      Value &high = acc[m * perToken + f];
      Value difference = arith::SubIOp::create(b, loc, high, acc[m * perToken + f - 1]);
      high = arith::ShRSIOp::create(b, loc, difference, v.splatI32(bits * f));
    }
  return acc;
}

Value MatmulTiler::correct(Value dot, Value sum) {
  // Stored codes are w + 1 (ternary) or (w + 1) / 2 (binary).
  if (layout.isBinary())
    dot = arith::AddIOp::create(b, loc, dot, dot);
  return arith::SubIOp::create(b, loc, dot, sum);
}

SmallVector<Value> MatmulTiler::floatDots(Value panel, Value token, int64_t tokens, Value from, Value to,
                                          int64_t lastColumns, ValueRange init) {
  auto step = [&](Value at, int64_t columns, ValueRange state) {
    Value words = vector::BitCastOp::create(b, loc, v.i32Lanes(), bytesAt(panel, at, 0, 64));
    SmallVector<Value> acc(state.begin(), state.end());
    for (int64_t kk = 0; kk < columns; ++kk) {
      SmallVector<Value> x;
      for (int64_t m = 0; m < tokens; ++m)
        x.push_back(v.broadcast(v.loadScalar(op.getX(), {v.add(token, m), v.add(v.mul(at, 4), kk)})));
      for (int64_t f = 0; f < fields; ++f) {
        Value code = arith::ShRUIOp::create(b, loc, words, v.splatI32(8 * kk + bits * f));
        code = arith::AndIOp::create(b, loc, code, v.splatI32((1 << bits) - 1));
        if (layout.isBinary())
          code = arith::AddIOp::create(b, loc, code, code);
        code = arith::SubIOp::create(b, loc, code, v.splatI32(1));
        Value w = arith::SIToFPOp::create(b, loc, v.f32Lanes(), code);
        for (int64_t m = 0; m < tokens; ++m)
          acc[m * fields + f] = v.addf(acc[m * fields + f], v.mulf(x[m], w));
      }
    }
    return acc;
  };
  SmallVector<Value> acc = v.loop(from, to, 1, init, [&](Value at, ValueRange state) { return step(at, 4, state); });
  if (lastColumns)
    acc = step(to, lastColumns, acc);
  return acc;
}

Value MatmulTiler::scaleAt(Value panel, Value group, int64_t field) {
  return v.load(op.getRowScales(), {panel, group, v.index(field * kLanes)});
}

Value MatmulTiler::actScale(Value token) {
  bool perTensor = cast<MemRefType>(op.getActScale().getType()).getShape()[0] == 1 &&
                   cast<MemRefType>(op.getX().getType()).getShape()[0] != 1;
  return v.broadcast(v.loadScalar(op.getActScale(), {perTensor ? v.index(0) : token}));
}

std::pair<Value, Value> MatmulTiler::outputRows(Value panel, int64_t field) {
  int64_t perPanel = layout.getOutputRowsPerPanel();
  Value first = v.add(v.mul(panel, perPanel), field * kLanes);
  if (layout.getOutputRows() % perPanel == 0)
    return {first, Value()};
  return {first, v.prefixMask(v.sub(v.index(layout.getOutputRows()), first))};
}

void MatmulTiler::writeAcc(ArrayRef<Value> acc, Value panel, Value token, int64_t tokens, Value group) {
  bool gated = layout.getOrder() == RowOrder::Gated;
  int64_t half = fields / 2;
  for (int64_t m = 0; m < tokens; ++m)
    for (int64_t f = 0; f < fields; ++f) {
      Value first, mask;
      std::tie(first, mask) = outputRows(panel, gated ? f % half : f);
      Value value = acc[m * fields + f];
      // Accumulators are in the order of the source: all gate rows, then all up rows.
      if (gated && f >= half)
        first = v.add(first, layout.getOutputRows());
      Value t = v.add(token, m);
      if (!group) {
        if (mask)
          v.storeMasked(value, op.getAcc(), {t, first}, mask);
        else
          v.store(value, op.getAcc(), {t, first});
        continue;
      }
      int64_t end = gated ? (f < half ? layout.getOutputRows() : layout.getRows()) : layout.getRows();
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        Value r = v.add(first, lane);
        Value exists = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, r, v.index(end));
        v.onlyIf(exists, [&] {
          v.storeScalar(vector::ExtractOp::create(b, loc, value, ArrayRef<int64_t>{lane}), op.getAcc(), {t, r, group});
        });
      }
    }
}

void MatmulTiler::epilogue(ArrayRef<Value> values, Value panel, Value token, int64_t tokens) {
  bool gated = layout.getOrder() == RowOrder::Gated;
  int64_t outputs = gated ? fields / 2 : fields;
  for (int64_t m = 0; m < tokens; ++m) {
    Value t = v.add(token, m);
    for (int64_t f = 0; f < outputs; ++f) {
      Value first, mask;
      std::tie(first, mask) = outputRows(panel, f);
      auto load = [&](Value memref, ValueRange indices) {
        return mask ? v.loadMasked(memref, indices, mask) : v.load(memref, indices);
      };
      Value value = values[m * fields + f];
      if (gated)
        value = gate(v, op.getEpilogue(), value, values[m * fields + f + outputs]);
      else if (op.getBias() && op.getBiasPlace() == bitnet::BiasPlace::AfterScale)
        value = v.addf(value, load(op.getBias(), {first}));
      if (op.getResidual())
        value = v.addf(load(op.getResidual(), {t, first}), value);
      if (mask)
        v.storeMasked(value, op.getY(), {t, first}, mask);
      else
        v.store(value, op.getY(), {t, first});
    }
  }
}

void MatmulTiler::tokenTile(Value panel, Value token, int64_t tokens) {
  int64_t steps = layout.getSteps();
  bool grouped = op.getGroup().has_value();
  SmallVector<Value> scaled(tokens * fields);
  Value zero = v.index(0);

  // acc of one group -> f32, with the correction for stored codes.
  auto finish = [&](SmallVector<Value> dot, bool withSums) {
    SmallVector<Value> acc;
    for (int64_t m = 0; m < tokens; ++m) {
      Value sum =
          withSums ? dot[m * (fields + 1) + fields] : v.broadcast(v.loadScalar(op.getSums(), {v.add(token, m)}));
      for (int64_t f = 0; f < fields; ++f)
        acc.push_back(correct(dot[m * (fields + (withSums ? 1 : 0)) + f], sum));
    }
    return acc;
  };
  auto asFloat = [&](Value acc) -> Value {
    return coded ? Value(arith::SIToFPOp::create(b, loc, v.f32Lanes(), acc)) : acc;
  };

  if (!grouped) {
    SmallVector<Value> acc;
    if (coded) {
      acc = finish(dots(panel, token, tokens, zero, v.index(steps), false), false);
    } else {
      SmallVector<Value> init(tokens * fields, v.splat(0.0f));
      acc = floatDots(panel, token, tokens, zero, v.index(layout.getCols() / 4), layout.getCols() % 4, init);
    }
    if (op.getAcc())
      writeAcc(acc, panel, token, tokens, Value());
    if (!op.getY())
      return;
    for (int64_t m = 0; m < tokens; ++m) {
      Value act = op.getActScale() ? actScale(v.add(token, m)) : Value();
      for (int64_t f = 0; f < fields; ++f) {
        Value value = asFloat(acc[m * fields + f]);
        if (op.getBias() && op.getBiasPlace() == bitnet::BiasPlace::BeforeScale) {
          auto [first, mask] = outputRows(panel, f);
          value = v.addf(value, mask ? v.loadMasked(op.getBias(), {first}, mask) : v.load(op.getBias(), {first}));
        }
        Value factor = scaleAt(panel, zero, f);
        if (act)
          factor = v.mulf(act, factor);
        scaled[m * fields + f] = v.mulf(value, factor);
      }
    }
    epilogue(scaled, panel, token, tokens);
    return;
  }

  int64_t groups = op.getGroups(), stepsPerGroup = *op.getGroup() / 4;
  int64_t fullGroups = layout.getCols() / *op.getGroup();
  SmallVector<Value> init(tokens * fields, v.splat(0.0f));
  auto oneGroup = [&](Value group, Value from, Value to, int64_t lastColumns, ValueRange state) {
    SmallVector<Value> acc;
    if (coded) {
      acc = finish(dots(panel, token, tokens, from, to, true), true);
    } else {
      SmallVector<Value> start(tokens * fields, v.splat(0.0f));
      acc = floatDots(panel, token, tokens, from, to, lastColumns, start);
    }
    if (op.getAcc())
      writeAcc(acc, panel, token, tokens, group);
    SmallVector<Value> next;
    for (int64_t i = 0; i < tokens * fields; ++i)
      next.push_back(v.addf(state[i], v.mulf(asFloat(acc[i]), scaleAt(panel, group, i % fields))));
    return next;
  };
  SmallVector<Value> sum = v.loop(zero, v.index(fullGroups), 1, init, [&](Value group, ValueRange state) {
    Value from = v.mul(group, stepsPerGroup);
    return oneGroup(group, from, v.add(from, stepsPerGroup), 0, state);
  });
  if (groups > fullGroups) {
    Value from = v.index(fullGroups * stepsPerGroup);
    Value to = v.index(coded ? steps : layout.getCols() / 4);
    sum = oneGroup(v.index(fullGroups), from, to, coded ? 0 : layout.getCols() % 4, sum);
  }
  if (!op.getY())
    return;
  for (int64_t m = 0; m < tokens; ++m) {
    Value act = op.getActScale() ? actScale(v.add(token, m)) : Value();
    for (int64_t f = 0; f < fields; ++f)
      scaled[m * fields + f] = act ? v.mulf(sum[m * fields + f], act) : sum[m * fields + f];
  }
  epilogue(scaled, panel, token, tokens);
}

void MatmulTiler::run() {
  int64_t tile = op.getKernel() ? op.getKernel()->getTokens() : 1;
  auto [begin, end] = v.share(v.index(layout.getPanels()), c.thread, c.threads);
  Value tokens = v.dim(op.getX(), 0);
  v.loop(begin, end, 1, [&](Value panel) {
    Value whole = v.mul(v.div(tokens, tile), tile);
    if (tile > 1)
      v.loop(v.index(0), whole, tile, [&](Value token) { tokenTile(panel, token, tile); });
    v.loop(tile > 1 ? whole : v.index(0), tokens, 1, [&](Value token) { tokenTile(panel, token, 1); });
  });
}
} // namespace

void setun::tileMatmul(MatmulOp op, TileContext &c) { MatmulTiler(op, c).run(); }

Value setun::gate(VectorBuilder &v, Epilogue act, Value gate, Value up) {
  if (act == Epilogue::Relu2) {
    Value positive = v.maxf(gate, v.splat(0.0f));
    return v.mulf(v.mulf(positive, positive), up);
  }
  Value negated = v.subf(v.splat(-0.0f), gate);
  Value silu = v.divf(gate, v.addf(v.splat(1.0f), v.exp(negated)));
  return v.mulf(silu, up);
}
