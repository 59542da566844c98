//===- TileMatmul.cpp - loops of the packed matmul --------------------------------===//
//
// Threads split the units of output rows (a panel, or a gate and an up panel), so that each reads its weights once and
// in order. For each unit and each tile of tokens: one pass over K with one accumulator of 16 lanes (16 rows of
// weights) for each field and token, then the epilogue.
//
// A row of the kernel table with four-way dots does not take the fields of a byte apart. It sums dots of functions of
// the byte that are linear in its fields, one for each field, and solves for the fields' own dots at the end:
//
//   bits   f_i = b & (4^(i+1) - 1), the fields up to i: a triangular system. D_i - D_(i-1) = 4^i * dot_i, a shift.
//   base 3, by look-up   b, r = b mod 81, c = t0 + 4 t1 + 16 t2 + 64 t3 and its fields c & 15 and c & 3:
//       dot_0 = D(c & 3),  dot_1 = (D(c & 15) - dot_0) / 4,  dot_4 = (D(b) - D(r)) / 81,
//       A = (D(r) - dot_0 - 3 dot_1) / 9 = dot_2 + 3 dot_3,  B = (D(c) - D(c & 15)) / 16 = dot_2 + 4 dot_3,
//       dot_3 = B - A,  dot_2 = A - 3 dot_3.
//   base 3, by remainders   b mod 3^(i+1): triangular again, D_i - D_(i-1) = 3^i * dot_i.
//
//   bytes   D itself.
//
// All of these divide exactly. Sums are exact in i32 for the K that Kernels.def allows; a division by a power of 3 is
// then a multiplication by its inverse modulo 2^32.
//
// A row with two-way dots isolates the fields, and takes bytes of 8-bit codes in halves. That costs as much as the dots
// of two tokens, so for many tokens the operands of a piece of a panel are unpacked once, into the first cache
// ("staged").
//
// Staged operands of four-way dots are what tiles take: 16 steps of a field are 16 rows of 64 bytes. A row that has
// tiles multiplies them by tiles of codes, as they lie.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
#include "passes/MathBuilder.h"
#include "passes/VectorBuilder.h"

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

namespace {
/// Steps of K that a tile holds, and tokens of two tiles.
constexpr int64_t kTileSteps = 16, kTileTokens = 32;

class MatmulTiler {
public:
  MatmulTiler(MatmulOp op, TileContext &c)
      : op(op), c(c), v(c.v), b(c.v.b), loc(c.v.loc), layout(op.getLayout()), fields(layout.getFields()),
        panelsPerUnit(layout.getPanelsPerUnit()), kind(packedShape(layout).kind),
        coded(static_cast<bool>(op.getSums())), gated(layout.getOrder() == RowOrder::Gated),
        row(findKernelRow(op.getKernel() ? op.getKernel()->getRow() : StringRef("generic"))),
        fourWay(row->method == DotMethod::FourWay), operandCount(row->operands(kind)), maxCode(row->maxOperand(kind)),
        maxStagedTokens(row->stagedTokens()), maxStagedSteps(row->stagedSteps(kind)) {}
  void run();

private:
  /// An unsigned operand of the dots and the largest value that it takes.
  struct Operand {
    Value bytes;
    int64_t maxCode;
  };

  // Packed bytes.
  Value packedAt(Value panel, Value step, int64_t offset, int64_t bytes);
  SmallVector<Operand> operandsOf(Value packed);
  /// The fields of packed bytes, one by one.
  SmallVector<Value> isolate(Value packed);
  /// Dots of the fields from those of the operands.
  SmallVector<Value> solve(ArrayRef<Value> dots);
  Value exactDivide(Value value, int64_t power);

  // Dots: i32 lanes [token][field], and the sum of the activations after the fields if `withSums`; of a part, those of
  // the operands.
  SmallVector<Value> dots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums);
  SmallVector<Value> dotsOfPart(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                                int64_t offset, int64_t bytes);
  /// One step: `state` plus the dots of `operands` with the activations of `tokens` tokens.
  SmallVector<Value> addDots(ArrayRef<Operand> operands, Value token, int64_t tokens, Value step, ValueRange state,
                             int64_t bytes);
  SmallVector<Value> floatDots(Value panel, Value token, int64_t tokens, Value from, Value to, int64_t lastColumns,
                               ValueRange init);
  Value activations(Value token, Value step, int64_t bytes);
  Operand ones(int64_t bytes);
  Value correct(Value dot, Value sum);
  Value zeros(int64_t lanes, unsigned bits) {
    return arith::ConstantOp::create(b, loc, b.getZeroAttr(VectorType::get({lanes}, b.getIntegerType(bits))));
  }

  // Results.
  using PanelDots = llvm::function_ref<SmallVector<Value>(Value panel, Value index)>;
  /// Runs `body` for each panel of the unit, which gives scaled values [token][field], then the epilogue over them all.
  /// The values of one panel wait in memory for those of the next: in registers they would drive out its accumulators.
  void forPanels(Value unit, Value token, int64_t tokens, PanelDots body);
  /// Accumulators, scales and epilogue of a tile, from the dots of each panel of the unit.
  void finish(Value unit, Value token, int64_t tokens, PanelDots dotsOf);
  void finishGroups(Value unit, Value token, int64_t tokens);
  void writeAcc(ArrayRef<Value> acc, Value unit, Value index, Value token, int64_t tokens, Value group);
  void epilogue(ArrayRef<Value> values, Value unit, Value token, int64_t tokens);
  Value asFloat(Value acc) { return coded ? Value(arith::SIToFPOp::create(b, loc, v.f32Lanes(), acc)) : acc; }
  Value scaleAt(Value panel, Value group, int64_t field) {
    return v.load(op.getRowScales(), {panel, group, v.index(field * kLanes)});
  }
  Value actScale(Value token);
  /// First output row of a field of a unit, and the mask of the rows that exist (null if all do).
  std::pair<Value, Value> outputRows(Value unit, int64_t field);
  Value panelOf(Value unit, Value index) { return v.add(v.mul(unit, panelsPerUnit), index); }

  /// Fields whose accumulators, with their operands, the activations and a product, the registers hold.
  int64_t fieldsAtOnce(int64_t tokens) const {
    return std::clamp<int64_t>((row->registers() - 2) / (tokens + 1), 1, operandCount);
  }
  void tokenTile(Value unit, Value token, int64_t tokens);
  void directTokens(Value unit, Value tokens);
  void stagedTokens(Value unit, Value tokens, Value operands, Value sums);
  /// Dots of a staged piece by vectors, and by tiles.
  void stagedVectors(Value block, Value count, Value panel, Value first, Value size, Value operands, Value sums);
  void stagedTiles(Value block, Value count, Value panel, Value first, Value size, Value operands, Value sums);

  MatmulOp op;
  TileContext &c;
  VectorBuilder &v;
  OpBuilder &b;
  Location loc;
  LayoutAttr layout;
  int64_t fields, panelsPerUnit;
  packing::WeightKind kind;
  bool coded, gated;
  const KernelRow *row;
  bool fourWay;
  int64_t operandCount, maxCode; // of the dots; the code of isolated operands
  /// Of a piece of a panel whose operands are unpacked once.
  int64_t maxStagedTokens, maxStagedSteps;
  Value waiting; // [panel of the unit][token][field][16] of f32, where a unit has several panels
};

//===----------------------------------------------------------------------===//
// Packed bytes
//===----------------------------------------------------------------------===//

Value MatmulTiler::packedAt(Value panel, Value step, int64_t offset, int64_t bytes) {
  Value at = v.add(v.mul(v.add(v.mul(panel, layout.getSteps()), step), 64), offset);
  return vector::LoadOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), op.getPacked(), ValueRange{at});
}

SmallVector<MatmulTiler::Operand> MatmulTiler::operandsOf(Value packed) {
  SmallVector<Operand> operands;
  if (!fourWay) {
    for (Value field : isolate(packed))
      operands.push_back({field, maxCode});
    return operands;
  }
  if (layout.isBytes())
    return {{packed, maxCode}};
  if (!layout.isBase3()) {
    int64_t bits = 8 / fields;
    for (int64_t f = 0; f < fields; ++f) {
      int64_t mask = (1 << bits * (f + 1)) - 1;
      operands.push_back({UnpackOp::create(b, loc, packed.getType(), packed, f, bits, /*cumulative=*/true),
                          layout.isBinary() ? mask : mask / 3 * 2}); // code 3 does not occur
    }
    return operands;
  }
  if (row->looksUpBytes()) {
    Value low = TritsBelowOp::create(b, loc, packed.getType(), packed, 81);
    Value codes = TritsToFieldsOp::create(b, loc, low.getType(), low);
    for (int64_t f = 0; f < 2; ++f)
      operands.push_back({UnpackOp::create(b, loc, codes.getType(), codes, f, 2, /*cumulative=*/true), f ? 10 : 2});
    operands.push_back({codes, 170});
    operands.push_back({low, 80});
    operands.push_back({packed, 242});
    return operands;
  }
  Value rest = packed;
  operands.push_back({packed, 242});
  for (int64_t divisor = 81; divisor >= 3; divisor /= 3) {
    rest = TritsBelowOp::create(b, loc, rest.getType(), rest, divisor);
    operands.insert(operands.begin(), {rest, divisor - 1});
  }
  return operands;
}

SmallVector<Value> MatmulTiler::isolate(Value packed) {
  SmallVector<Value> codes;
  if (layout.isBase3()) {
    Value rest = packed;
    for (int64_t divisor = 81; divisor >= 3; divisor /= 3) {
      codes.insert(codes.begin(), TopTritOp::create(b, loc, rest.getType(), rest, divisor));
      rest = TritsBelowOp::create(b, loc, rest.getType(), rest, divisor);
    }
    codes.insert(codes.begin(), rest);
    return codes;
  }
  int64_t parts = layout.isBytes() ? 2 : fields;
  for (int64_t f = 0; f < parts; ++f)
    codes.push_back(UnpackOp::create(b, loc, packed.getType(), packed, f, 8 / parts, /*cumulative=*/false));
  return codes;
}

/// value / 3^power where that leaves no rest.
Value MatmulTiler::exactDivide(Value value, int64_t power) {
  uint32_t divisor = packing::powerOf3(power),
           inverse = divisor; // right to 3 bits: the square of odd numbers is 1 mod 8
  for (int i = 0; i < 4; ++i)
    inverse *= 2 - divisor * inverse; // Newton: each step doubles the bits
  return power ? Value(arith::MulIOp::create(b, loc, value, v.splatI32(static_cast<int32_t>(inverse)))) : value;
}

SmallVector<Value> MatmulTiler::solve(ArrayRef<Value> d) {
  auto sub = [&](Value x, Value y) -> Value { return arith::SubIOp::create(b, loc, x, y); };
  auto shift = [&](Value x, int64_t bits) -> Value {
    return arith::ShRSIOp::create(b, loc, x, v.splatI32(static_cast<int32_t>(bits)));
  };
  SmallVector<Value> dots(d.begin(), d.end());
  if (layout.isBytes() && !fourWay) {
    Value high = arith::ShLIOp::create(b, loc, d[1], v.splatI32(4));
    return {arith::AddIOp::create(b, loc, d[0], high)};
  }
  if (!fourWay || layout.isBytes())
    return dots;
  if (!layout.isBase3()) {
    for (int64_t f = fields - 1; f > 0; --f)
      dots[f] = shift(sub(d[f], d[f - 1]), 8 / fields * f);
    return dots;
  }
  if (!row->looksUpBytes()) {
    for (int64_t f = fields - 1; f > 0; --f)
      dots[f] = exactDivide(sub(d[f], d[f - 1]), f);
    return dots;
  }
  auto times3 = [&](Value x) -> Value { return arith::MulIOp::create(b, loc, x, v.splatI32(3)); };
  dots[1] = shift(sub(d[1], d[0]), 2);
  dots[4] = exactDivide(sub(d[4], d[3]), 4);
  Value base3 = exactDivide(sub(sub(d[3], d[0]), times3(dots[1])), 2), base4 = shift(sub(d[2], d[1]), 4);
  dots[3] = sub(base4, base3);
  dots[2] = sub(base3, times3(dots[3]));
  return dots;
}

//===----------------------------------------------------------------------===//
// Dots
//===----------------------------------------------------------------------===//

Value MatmulTiler::activations(Value token, Value step, int64_t bytes) {
  Value four =
      vector::LoadOp::create(b, loc, VectorType::get({4}, b.getI8Type()), op.getX(), ValueRange{token, v.mul(step, 4)});
  Value word = vector::BitCastOp::create(b, loc, VectorType::get({1}, b.getI32Type()), four);
  Value all = vector::BroadcastOp::create(b, loc, VectorType::get({bytes / 4}, b.getI32Type()),
                                          vector::ExtractOp::create(b, loc, word, ArrayRef<int64_t>{0}));
  return vector::BitCastOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), all);
}

MatmulTiler::Operand MatmulTiler::ones(int64_t bytes) {
  auto type = VectorType::get({bytes}, b.getI8Type());
  return {arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, static_cast<int8_t>(1))), 1};
}

SmallVector<Value> MatmulTiler::addDots(ArrayRef<Operand> operands, Value token, int64_t tokens, Value step,
                                        ValueRange state, int64_t bytes) {
  SmallVector<Value> next;
  int64_t steps = KernelRow::maxPairSteps(maxCode);
  for (int64_t m = 0; m < tokens; ++m) {
    Value x = activations(v.add(token, m), step, bytes);
    for (const Operand &operand : operands) {
      Value acc = state[next.size()];
      next.push_back(
          fourWay ? Value(DotOp::create(b, loc, acc.getType(), acc, operand.bytes, x, operand.maxCode))
                  : Value(DotPairsOp::create(b, loc, acc.getType(), acc, operand.bytes, x, operand.maxCode, steps)));
    }
  }
  return next;
}

SmallVector<Value> MatmulTiler::dots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums) {
  // A vector holds the whole step where one token uses it once, from memory; several tokens use a narrower part, whose
  // accumulators all stay in registers, and pass over the panel (which is in cache by then) once for each part.
  int64_t bytes = tokens == 1 && row->bytes >= 32 ? 64 : row->bytes;
  SmallVector<SmallVector<Value>> parts;
  for (int64_t offset = 0; offset < 64; offset += bytes)
    parts.push_back(dotsOfPart(panel, token, tokens, from, to, withSums, offset, bytes));
  SmallVector<Value> acc;
  for (size_t i = 0; i < parts.front().size(); ++i) {
    Value all = parts.size() == 1 ? parts[0][i] : v.splatI32(0);
    for (auto [part, values] : llvm::enumerate(parts))
      if (parts.size() > 1)
        all = vector::InsertStridedSliceOp::create(
            b, loc, values[i], all, ArrayRef<int64_t>{static_cast<int64_t>(part) * bytes / 4}, ArrayRef<int64_t>{1});
    acc.push_back(all);
  }
  int64_t perToken = operandCount + (withSums ? 1 : 0);
  SmallVector<Value> dots;
  for (int64_t m = 0; m < tokens; ++m) {
    llvm::append_range(dots, solve(ArrayRef<Value>(acc).slice(m * perToken, operandCount)));
    if (withSums)
      dots.push_back(acc[m * perToken + operandCount]);
  }
  return dots;
}

SmallVector<Value> MatmulTiler::dotsOfPart(Value panel, Value token, int64_t tokens, Value from, Value to,
                                           bool withSums, int64_t offset, int64_t bytes) {
  int64_t count = tokens * (operandCount + (withSums ? 1 : 0));
  auto oneStep = [&](Value step, ValueRange state) {
    SmallVector<Operand> operands = operandsOf(packedAt(panel, step, offset, bytes));
    if (withSums)
      operands.push_back(ones(bytes));
    return addDots(operands, token, tokens, step, state, bytes);
  };
  SmallVector<Value> init(count, zeros(bytes / 4, 32));
  if (fourWay)
    return v.loop(from, to, 1, init, oneStep);
  int64_t steps = KernelRow::maxPairSteps(maxCode);
  return v.loop(from, to, steps, init, [&](Value first, ValueRange sums) {
    SmallVector<Value> zero(count, zeros(bytes / 2, 16));
    SmallVector<Value> pairs = v.loop(first, v.min(v.add(first, steps), to), 1, zero, oneStep);
    SmallVector<Value> next;
    for (auto [sum, pair] : llvm::zip(sums, pairs))
      next.push_back(AddPairsOp::create(b, loc, sum.getType(), sum, pair));
    return next;
  });
}

Value MatmulTiler::correct(Value dot, Value sum) {
  // Stored codes are w + 1 (ternary), (w + 1) / 2 (binary) or w + 128.
  if (layout.isBinary())
    dot = arith::AddIOp::create(b, loc, dot, dot);
  if (layout.isBytes())
    sum = arith::ShLIOp::create(b, loc, sum, v.splatI32(7));
  return arith::SubIOp::create(b, loc, dot, sum);
}

SmallVector<Value> MatmulTiler::floatDots(Value panel, Value token, int64_t tokens, Value from, Value to,
                                          int64_t lastColumns, ValueRange init) {
  auto step = [&](Value at, int64_t columns, ValueRange state) {
    SmallVector<Value> words;
    Value packed = packedAt(panel, at, 0, 64);
    for (Value field : layout.isBytes() ? SmallVector<Value>{packed} : isolate(packed))
      words.push_back(vector::BitCastOp::create(b, loc, v.i32Lanes(), field));
    SmallVector<Value> acc(state.begin(), state.end());
    for (int64_t kk = 0; kk < columns; ++kk) {
      SmallVector<Value> x;
      for (int64_t m = 0; m < tokens; ++m)
        x.push_back(v.broadcast(v.loadScalar(op.getX(), {v.add(token, m), v.add(v.mul(at, 4), kk)})));
      for (int64_t f = 0; f < fields; ++f) {
        Value code = arith::ShRUIOp::create(b, loc, words[f], v.splatI32(8 * kk));
        code = arith::AndIOp::create(b, loc, code, v.splatI32(255));
        if (layout.isBinary())
          code = arith::AddIOp::create(b, loc, code, code);
        code = arith::SubIOp::create(b, loc, code, v.splatI32(static_cast<int32_t>(packing::zeroPoint(kind))));
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

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

Value MatmulTiler::actScale(Value token) {
  bool perTensor = cast<MemRefType>(op.getActScale().getType()).getShape()[0] == 1 &&
                   cast<MemRefType>(op.getX().getType()).getShape()[0] != 1;
  return v.broadcast(v.loadScalar(op.getActScale(), {perTensor ? v.index(0) : token}));
}

std::pair<Value, Value> MatmulTiler::outputRows(Value unit, int64_t field) {
  int64_t perUnit = layout.getOutputRowsPerUnit();
  Value first = v.add(v.mul(unit, perUnit), field * kLanes);
  if (layout.getOutputRows() % perUnit == 0)
    return {first, Value()};
  return {first, v.prefixMask(v.sub(v.index(layout.getOutputRows()), first))};
}

void MatmulTiler::writeAcc(ArrayRef<Value> acc, Value unit, Value index, Value token, int64_t tokens, Value group) {
  for (int64_t m = 0; m < tokens; ++m)
    for (int64_t f = 0; f < fields; ++f) {
      // Accumulators are in the order of the source: all gate rows, then all up rows.
      bool up = gated && !layout.alternates() && f >= fields / 2;
      auto [first, mask] = outputRows(unit, up ? f - fields / 2 : f);
      Value before = layout.alternates() ? v.mul(index, layout.getOutputRows())
                                         : v.index(up ? layout.getOutputRows() : int64_t(0));
      Value at = v.add(before, first);
      Value value = acc[m * fields + f];
      Value t = v.add(token, m);
      if (!group) {
        if (mask)
          v.storeMasked(value, op.getAcc(), {t, at}, mask);
        else
          v.store(value, op.getAcc(), {t, at});
        continue;
      }
      Value end = v.add(before, layout.getOutputRows());
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        Value r = v.add(at, lane);
        Value exists = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, r, end);
        v.onlyIf(exists, [&] {
          v.storeScalar(vector::ExtractOp::create(b, loc, value, ArrayRef<int64_t>{lane}), op.getAcc(), {t, r, group});
        });
      }
    }
}

/// `values` are those of all fields of the unit's panels, token by token.
void MatmulTiler::epilogue(ArrayRef<Value> values, Value unit, Value token, int64_t tokens) {
  int64_t perToken = fields * panelsPerUnit, outputs = gated ? perToken / 2 : perToken;
  for (int64_t m = 0; m < tokens; ++m) {
    Value t = v.add(token, m);
    for (int64_t f = 0; f < outputs; ++f) {
      auto [first, mask] = outputRows(unit, f);
      auto load = [&, mask = mask](Value memref, ValueRange indices) {
        return mask ? v.loadMasked(memref, indices, mask) : v.load(memref, indices);
      };
      Value value = values[m * perToken + f];
      if (gated)
        value = gate(v, op.getEpilogue(), value, values[m * perToken + f + outputs]);
      else if (op.getBias() && op.getBiasPlace() == bitnet::BiasPlace::AfterScale)
        value = v.addf(value, load(op.getBias(), {first}));
      if (std::optional<bitnet::Function> activation = op.getActivation())
        value = emitFunction(v.b, v.loc, *activation, value);
      if (op.getResidual())
        value = v.addf(load(op.getResidual(), {t, first}), value);
      if (mask)
        v.storeMasked(value, op.getY(), {t, first}, mask);
      else
        v.store(value, op.getY(), {t, first});
    }
  }
}

void MatmulTiler::forPanels(Value unit, Value token, int64_t tokens, PanelDots body) {
  if (panelsPerUnit == 1) {
    SmallVector<Value> values = body(unit, v.index(0));
    if (op.getY())
      epilogue(values, unit, token, tokens);
    return;
  }
  auto place = [&](Value index, int64_t m, int64_t f) -> SmallVector<Value> {
    return {index, v.index(m), v.index(f), v.index(0)};
  };
  v.loop(v.index(0), v.index(panelsPerUnit), 1, [&](Value index) {
    SmallVector<Value> values = body(panelOf(unit, index), index);
    for (int64_t i = 0; op.getY() && i < tokens * fields; ++i)
      v.store(values[i], waiting, place(index, i / fields, i % fields));
  });
  if (!op.getY())
    return;
  for (int64_t m = 0; m < tokens; ++m) {
    SmallVector<Value> values;
    for (int64_t p = 0; p < panelsPerUnit; ++p)
      for (int64_t f = 0; f < fields; ++f)
        values.push_back(v.load(waiting, place(v.index(p), m, f)));
    epilogue(values, unit, v.add(token, m), 1);
  }
}

void MatmulTiler::finish(Value unit, Value token, int64_t tokens, PanelDots dotsOf) {
  forPanels(unit, token, tokens, [&](Value panel, Value index) {
    SmallVector<Value> acc = dotsOf(panel, index), scaled;
    if (coded)
      for (int64_t m = 0; m < tokens; ++m) {
        Value sum = v.broadcast(v.loadScalar(op.getSums(), {v.add(token, m)}));
        for (int64_t f = 0; f < fields; ++f)
          acc[m * fields + f] = correct(acc[m * fields + f], sum);
      }
    if (op.getAcc())
      writeAcc(acc, unit, index, token, tokens, Value());
    if (!op.getY())
      return scaled;
    for (int64_t m = 0; m < tokens; ++m) {
      Value act = op.getActScale() ? actScale(v.add(token, m)) : Value();
      for (int64_t f = 0; f < fields; ++f) {
        Value value = asFloat(acc[m * fields + f]);
        if (op.getBias() && op.getBiasPlace() == bitnet::BiasPlace::BeforeScale) {
          auto [first, mask] = outputRows(unit, f);
          value = v.addf(value, mask ? v.loadMasked(op.getBias(), {first}, mask) : v.load(op.getBias(), {first}));
        }
        Value factor = scaleAt(panel, v.index(0), f);
        if (act)
          factor = v.mulf(act, factor);
        scaled.push_back(v.mulf(value, factor));
      }
    }
    return scaled;
  });
}

void MatmulTiler::finishGroups(Value unit, Value token, int64_t tokens) {
  int64_t steps = layout.getSteps();
  const bool sumsGiven = coded && cast<MemRefType>(op.getSums().getType()).getRank() == 2;
  int64_t groups = op.getGroups(), stepsPerGroup = *op.getGroup() / 4, fullGroups = layout.getCols() / *op.getGroup();
  forPanels(unit, token, tokens, [&](Value panel, Value index) {
    SmallVector<Value> init(tokens * fields, v.splat(0.0f));
    auto oneGroup = [&](Value group, Value from, Value to, int64_t lastColumns, ValueRange state) {
      SmallVector<Value> acc;
      if (coded) {
        const int64_t perToken = fields + (sumsGiven ? 0 : 1);
        SmallVector<Value> all = dots(panel, token, tokens, from, to, /*withSums=*/!sumsGiven);
        for (int64_t m = 0; m < tokens; ++m) {
          Value sum = sumsGiven ? v.broadcast(v.loadScalar(op.getSums(), {v.add(token, m), group}))
                                : all[m * perToken + fields];
          for (int64_t f = 0; f < fields; ++f)
            acc.push_back(correct(all[m * perToken + f], sum));
        }
      } else {
        acc = floatDots(panel, token, tokens, from, to, lastColumns, init);
      }
      if (op.getAcc())
        writeAcc(acc, unit, index, token, tokens, group);
      SmallVector<Value> next;
      for (int64_t i = 0; i < tokens * fields; ++i)
        next.push_back(v.addf(state[i], v.mulf(asFloat(acc[i]), scaleAt(panel, group, i % fields))));
      return next;
    };
    SmallVector<Value> sum = v.loop(v.index(0), v.index(fullGroups), 1, init, [&](Value group, ValueRange state) {
      Value from = v.mul(group, stepsPerGroup);
      return oneGroup(group, from, v.add(from, stepsPerGroup), 0, state);
    });
    if (groups > fullGroups) {
      Value from = v.index(fullGroups * stepsPerGroup);
      Value to = v.index(coded ? steps : layout.getCols() / 4);
      sum = oneGroup(v.index(fullGroups), from, to, coded ? 0 : layout.getCols() % 4, sum);
    }
    if (op.getY() && op.getActScale())
      for (int64_t m = 0; m < tokens; ++m) {
        Value act = actScale(v.add(token, m));
        for (int64_t f = 0; f < fields; ++f)
          sum[m * fields + f] = v.mulf(sum[m * fields + f], act);
      }
    return sum;
  });
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

void MatmulTiler::tokenTile(Value unit, Value token, int64_t tokens) {
  if (op.getGroup())
    return finishGroups(unit, token, tokens);
  finish(unit, token, tokens, [&](Value panel, Value) {
    if (coded)
      return dots(panel, token, tokens, v.index(0), v.index(layout.getSteps()), /*withSums=*/false);
    SmallVector<Value> init(tokens * fields, v.splat(0.0f));
    return floatDots(panel, token, tokens, v.index(0), v.index(layout.getCols() / 4), layout.getCols() % 4, init);
  });
}

void MatmulTiler::directTokens(Value unit, Value tokens) {
  int64_t tile = op.getKernel() ? op.getKernel()->getTokens() : 1;
  Value whole = v.mul(v.div(tokens, tile), tile);
  if (tile > 1)
    v.loop(v.index(0), whole, tile, [&](Value token) { tokenTile(unit, token, tile); });
  v.loop(tile > 1 ? whole : v.index(0), tokens, 1, [&](Value token) { tokenTile(unit, token, 1); });
}

void MatmulTiler::stagedVectors(Value block, Value count, Value panel, Value first, Value size, Value operands,
                                Value sums) {
  int64_t tile = op.getKernel()->getTokens(), bytes = row->bytes, lanes = bytes / 4;
  auto laneType = VectorType::get({lanes}, b.getI32Type());
  // Fields in turns, so that the accumulators of a turn stay in registers and its operands in the first cache.
  for (int64_t offset = 0; offset < 64; offset += bytes)
    for (int64_t f0 = 0; f0 < operandCount; f0 += fieldsAtOnce(tile)) {
      int64_t f1 = std::min(operandCount, f0 + fieldsAtOnce(tile));
      auto someTokens = [&](Value t, int64_t n) {
        auto sumAt = [&](int64_t i) -> SmallVector<Value> {
          return {v.add(t, i / (f1 - f0)), panel, v.index(f0 + i % (f1 - f0)), v.index(offset / 4)};
        };
        auto oneStep = [&](Value step, ValueRange state) {
          SmallVector<Operand> loaded;
          for (int64_t f = f0; f < f1; ++f)
            loaded.push_back({vector::LoadOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), operands,
                                                     ValueRange{v.index(f), step, v.index(offset)}),
                              maxCode});
          return addDots(loaded, v.add(block, t), n, v.add(first, step), state, bytes);
        };
        auto sum = [&](int64_t i) -> Value { return vector::LoadOp::create(b, loc, laneType, sums, sumAt(i)); };
        SmallVector<Value> result;
        int64_t accumulators = n * (f1 - f0);
        if (fourWay) {
          for (int64_t i = 0; i < accumulators; ++i)
            result.push_back(sum(i));
          result = v.loop(v.index(0), size, 1, result, oneStep);
        } else {
          SmallVector<Value> zero(accumulators, zeros(bytes / 2, 16));
          for (auto [i, pair] : llvm::enumerate(v.loop(v.index(0), size, 1, zero, oneStep)))
            result.push_back(AddPairsOp::create(b, loc, laneType, sum(i), pair));
        }
        for (auto [i, value] : llvm::enumerate(result))
          vector::StoreOp::create(b, loc, value, sums, sumAt(i));
      };
      Value whole = v.mul(v.div(count, tile), tile);
      v.loop(v.index(0), whole, tile, [&](Value t) { someTokens(t, tile); });
      if (tile > 1)
        v.loop(whole, count, 1, [&](Value t) { someTokens(t, 1); });
    }
}

void MatmulTiler::stagedTiles(Value block, Value count, Value panel, Value first, Value size, Value operands,
                              Value sums) {
  v.loop(v.index(0), count, kTileTokens, [&](Value t) {
    Value tokens = v.min(v.sub(count, t), v.index(kTileTokens)), token = v.add(block, t);
    auto dotTiles = [&](Value step, Value blocks, Value width) {
      DotTilesOp::create(b, loc, op.getX(), token, v.mul(v.add(first, step), 4), operands, step, sums, t, panel, tokens,
                         blocks, width);
    };
    if (layout.getSteps() >= kTileSteps)
      dotTiles(v.index(0), v.div(size, kTileSteps), v.index(kTileSteps));
    if (layout.getSteps() % kTileSteps == 0)
      return;
    // Only the last piece has a rest.
    Value rest = v.rem(size, kTileSteps);
    Value some = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, rest, v.index(0));
    v.onlyIf(some, [&] { dotTiles(v.sub(size, rest), v.index(1), rest); });
  });
}

/// operands: [operand][step][64] bytes; sums: [token][panel of the unit][operand][16] of i32.
void MatmulTiler::stagedTokens(Value unit, Value tokens, Value operands, Value sums) {
  int64_t bytes = row->bytes;
  v.loop(v.index(0), tokens, maxStagedTokens, [&](Value block) {
    Value count = v.min(v.sub(tokens, block), v.index(maxStagedTokens));
    for (int64_t p = 0; p < panelsPerUnit; ++p) {
      Value panelIndex = v.index(p), panel = panelOf(unit, panelIndex);
      v.loop(v.index(0), count, 1, [&](Value t) {
        for (int64_t f = 0; f < operandCount; ++f)
          v.store(v.splatI32(0), sums, {t, panelIndex, v.index(f), v.index(0)});
      });
      v.loop(v.index(0), v.index(layout.getSteps()), maxStagedSteps, [&](Value first) {
        Value size = v.min(v.sub(v.index(layout.getSteps()), first), v.index(maxStagedSteps));
        v.loop(v.index(0), size, 1, [&](Value step) {
          for (int64_t offset = 0; offset < 64; offset += bytes)
            for (auto [f, operand] : llvm::enumerate(operandsOf(packedAt(panel, v.add(first, step), offset, bytes))))
              vector::StoreOp::create(b, loc, operand.bytes, operands, ValueRange{v.index(f), step, v.index(offset)});
        });
        if (row->hasTiles())
          stagedTiles(block, count, panelIndex, first, size, operands, sums);
        else
          stagedVectors(block, count, panelIndex, first, size, operands, sums);
      });
    }
    v.loop(v.index(0), count, 1, [&](Value t) {
      finish(unit, v.add(block, t), 1, [&](Value, Value index) {
        SmallVector<Value> dots;
        for (int64_t f = 0; f < operandCount; ++f)
          dots.push_back(v.load(sums, {t, index, v.index(f), v.index(0)}));
        return solve(dots);
      });
    });
  });
}

void MatmulTiler::run() {
  int64_t staged = op.getKernel() && coded && !op.getGroup() ? op.getKernel()->getStaged() : 0;
  auto scratch = [&](ArrayRef<int64_t> shape, Type element) -> Value {
    return memref::AllocaOp::create(b, loc, MemRefType::get(shape, element), b.getI64IntegerAttr(64));
  };
  if (panelsPerUnit > 1)
    waiting =
        scratch({panelsPerUnit, op.getKernel() ? op.getKernel()->getTokens() : 1, fields, kLanes}, b.getF32Type());
  Value operands, sums;
  if (staged) {
    operands = scratch({operandCount, maxStagedSteps, 64}, b.getI8Type());
    sums = scratch({maxStagedTokens, panelsPerUnit, operandCount, kLanes}, b.getI32Type());
  }
  auto [begin, end] = v.share(v.index(layout.getUnits()), c.thread, c.threads);
  Value tokens = v.dim(op.getX(), 0);
  v.loop(begin, end, 1, [&](Value unit) {
    if (!staged)
      return directTokens(unit, tokens);
    Value many = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, tokens, v.index(staged));
    v.choose(many, [&] { stagedTokens(unit, tokens, operands, sums); }, [&] { directTokens(unit, tokens); });
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
