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
//   base 3, by look-up   b = t0 + 3 t1 + 9 t2 + 28 t3 + 84 t4, of which the upper six bits give u = 28 t3 + 20 t4, the
//   upper trits modulo 64; the lower six bits of b - u give c = t0 + 4 t1 + 16 t2, with its fields c & 15 and c & 3:
//       dot_0 = D(c & 3),  dot_1 = (D(c & 15) - dot_0) / 4,  dot_2 = (D(c) - D(c & 15)) / 16,
//       A = D(b) - dot_0 - 3 dot_1 - 9 dot_2 = 28 dot_3 + 84 dot_4,
//       dot_4 = (A - D(u)) / 64,  dot_3 = (D(u) - 20 dot_4) / 28.
//   base 3, by remainders   b modulo the place of t_(i+1): triangular again, D_i - D_(i-1) = place_i * dot_i.
//
//   bytes   D itself.
//
// All of these divide exactly. Sums are exact in i32 for the K that Kernels.def allows; a division by an odd number is
// then a multiplication by its inverse modulo 2^32.
//
// Where dots take signed bytes alone, the whole byte is lowered until it is one, and the sum of the activations times
// that is added to its dot.
//
// A row with matrix dots takes two steps of K and two tokens at a time: words of both steps are interleaved, which
// makes 2 rows x 8 columns of 16 bytes.
//
// A row with two-way dots or single products isolates the fields, and takes bytes of 8-bit codes in halves. That costs
// as much as the dots of two tokens, so for many tokens the operands of a piece of a panel are unpacked once, into the
// first cache ("staged").
//
// A row that looks sums up takes a few columns of a row of weights together as an index, into a table of all sums that
// a token's activations there can give (as T-MAC does, Wei et al. 2024, but with entries of 16 bits, so that sums are
// exact). Indices are made once for a block of rows, of columns and of tokens, and stay in the second cache; tables for
// a few tokens stay in the first, while all of the block's rows pass. Sums of a block of columns wait in memory of the
// thread's own, which ternary-lower-entries gives the operation.
//
// Staged operands of four-way dots are what tiles take: 16 steps of a field are 16 rows of 64 bytes. A row that has
// tiles multiplies them by tiles of codes, as they lie. Outer products take the operands of a step for as many tokens.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
#include "lib/Target/LookUps.h"
#include "passes/MathBuilder.h"
#include "passes/VectorBuilder.h"

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;

namespace {
/// Steps of K that a tile holds, and tokens of two tiles.
constexpr int64_t kTileSteps = 16, kTileTokens = 32;
/// Tokens of a thread from which on threads may share tokens rather than panels.
constexpr int64_t kSharedTokens = 16;
/// Bytes of activations that are to stay in the second cache, and the fewest tokens that are worth a pass over the
/// panels.
constexpr int64_t kBlockBytes = 512 << 10, kBlockTokens = 64;
/// Vectors of results that stay in registers beside the dots of one token, and the fewest steps between two that are
/// written.
constexpr int64_t kHeldOutputs = 8, kRunSteps = 16;
/// What the top trit of a byte in base 3 counts modulo 64.
constexpr unsigned kTopModulo64 = packing::tritPlace(4) % 64;

/// From how many tokens on a matmul is worked on by a piece of a panel or by look-ups; 0: never.
int64_t stagedFrom(MatmulOp op) {
  KernelAttr kernel = op.getKernel().value_or(KernelAttr());
  return kernel && op.getSums() && !op.getGroup() && !findKernelRow(kernel.getRow())->isScalable() ? kernel.getStaged()
                                                                                                   : 0;
}

class MatmulTiler {
public:
  MatmulTiler(MatmulOp op, TileContext &c)
      : op(op), c(c), v(c.v), b(c.v.b), loc(c.v.loc), layout(op.getLayout()), fields(layout.getFields()),
        panelsPerUnit(layout.getPanelsPerUnit()), kind(packedShape(layout).kind),
        coded(static_cast<bool>(op.getSums())), gated(layout.getOrder() == RowOrder::Gated),
        row(findKernelRow(op.getKernel() ? op.getKernel()->getRow() : StringRef("generic"))), fourWay(row->isFourWay()),
        lookUp(kind, layout.getPanels()), operandCount(row->operands(kind)), maxCode(row->maxOperand(kind)),
        maxStagedTokens(row->stagedTokens()), maxStagedSteps(row->stagedSteps(kind)) {}
  void run();

private:
  /// An operand of the dots and the largest magnitude that it has.
  struct Operand {
    Value bytes;
    int64_t maxCode;
    bool isSigned = false;
  };

  // Packed bytes.
  Value packedAt(Value panel, Value step, int64_t offset, int64_t bytes);
  /// A vector of bytes of a step as the row's dots take them: with a signed top field only where they are signed.
  Value asStored(Value packed);
  SmallVector<Operand> operandsOf(Value packed);
  /// The operand that is all of a byte, as the row's dots take it.
  Operand wholeByte(Value packed, int64_t maxCode);
  /// The fields of packed bytes, one by one.
  SmallVector<Value> isolate(Value packed);
  /// The lower three trits of bytes in base 3 as fields of two bits, and what the upper two count modulo 64.
  std::pair<Value, Value> lookUpTrits(Value packed);
  /// A function of the upper two trits.
  Value lookUpUpper(Value packed, llvm::function_ref<int64_t(int8_t t3, int8_t t4)> of);
  /// Dots of the fields from those of the operands. `sum` is the token's sum of activations, where the row lowers
  /// bytes.
  SmallVector<Value> solve(ArrayRef<Value> dots, Value sum);
  bool lowersBytes() const { return fourWay && row->byteOffset(kind) != 0; }
  /// The sum of a token's activations, of a group's if there is one.
  Value sumOf(Value token, Value group = Value()) {
    if (onlySum && !group)
      return onlySum;
    SmallVector<Value> at = {token};
    if (group)
      at.push_back(group);
    return v.broadcast(v.loadScalar(op.getSums(), at));
  }
  Value exactDivide(Value value, uint32_t divisor);

  // Dots: i32 lanes [token][field], and the sum of the activations after the fields if `withSums`; of a part, those of
  // the operands.
  SmallVector<Value> dots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                          Value group = Value());
  SmallVector<Value> dotsOfPart(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                                int64_t offset, int64_t bytes);
  /// Those of one token and all steps of a panel, which are passed in as many runs as there are `held` values: behind
  /// run i `between` is given i and that value.
  SmallVector<Value> dotsInRuns(Value panel, Value token, ValueRange held,
                                llvm::function_ref<void(Value i, Value value)> between);
  /// One step: `state` plus the dots of `operands` with the activations of `tokens` tokens.
  SmallVector<Value> addDots(ArrayRef<Operand> operands, Value token, int64_t tokens, Value step, ValueRange state);
  /// The same by vectors whose length is known at run time: sums come back by way of memory.
  SmallVector<Value> scalableDots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums);
  /// Bytes from `offset` on that `parts` vectors hold, of a step of 64; sums go to `scalableSums`.
  void scalableDotsOfParts(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums, Value offset,
                           Value vectorBytes, int64_t parts);
  /// The same by matrix dots.
  SmallVector<Value> matrixDotsOfPart(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                                      int64_t offset);
  /// Two steps: `state` plus the matrix dots of `operands`, those of the first two rows and those of the last two, with
  /// the activations of pairs of tokens. Lanes [pair][operand][rows].
  SmallVector<Value> addMatrixDots(ArrayRef<Operand> low, ArrayRef<Operand> high, ValueRange pairs, ValueRange state);
  /// Activations of two tokens in two steps, or in one and zeros.
  Value pairOfTokens(Value first, Value second, Value step, bool both);
  /// Packed bytes of two steps, 2 rows x 8 columns in each; columns past the first step are 0 if there is no second.
  std::pair<Value, Value> twoSteps(Value panel, Value step, int64_t offset, bool both);
  /// Lanes [pair][operand][rows] of matrix dots as [token][operand], and back.
  SmallVector<Value> byToken(ArrayRef<Value> lanes, int64_t tokens, int64_t operands);
  SmallVector<Value> byPair(ArrayRef<Value> lanes, int64_t tokens, int64_t operands);
  /// Runs `body` for every second step, and for the last one alone where their number is odd.
  SmallVector<Value>
  loopOverPairs(Value from, Value to, ValueRange init,
                llvm::function_ref<SmallVector<Value>(Value step, bool both, ValueRange state)> body);
  SmallVector<Value> floatDots(Value panel, Value token, int64_t tokens, Value from, Value to, int64_t lastColumns,
                               ValueRange init);
  Value activations(Value token, Value step, VectorType bytes);
  Operand ones(VectorType bytes) { return {splatBytes(bytes, 1), 1}; }
  Value correct(Value dot, Value sum);
  Value splatBytes(VectorType type, int64_t value) {
    return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, static_cast<int8_t>(value)));
  }
  Value zeros(int64_t lanes, unsigned bits) {
    return arith::ConstantOp::create(b, loc, b.getZeroAttr(VectorType::get({lanes}, b.getIntegerType(bits))));
  }

  // Results.
  using PanelDots = llvm::function_ref<SmallVector<Value>(Value panel, Value index)>;
  /// Runs `body` for each panel of the unit, which gives scaled values [token][field], then the epilogue over them all.
  /// Of several tokens, the values of one panel wait in memory for those of the next: in registers they would drive out
  /// its accumulators.
  void forPanels(Value unit, Value token, int64_t tokens, PanelDots body);
  /// Accumulators, scales and epilogue of a tile, from the dots of each panel of the unit.
  void finish(Value unit, Value token, int64_t tokens, PanelDots dotsOf);
  void finishGroups(Value unit, Value token, int64_t tokens);
  /// Scaled values [token][field] of a panel from its dots; accumulators are written if they are asked for.
  SmallVector<Value> scale(SmallVector<Value> acc, Value unit, Value panel, Value index, Value token, int64_t tokens);
  void writeAcc(ArrayRef<Value> acc, Value unit, Value index, Value token, int64_t tokens, Value group);
  void epilogue(ArrayRef<Value> values, Value unit, Value token, int64_t tokens);
  /// Vectors of output rows of a unit.
  int64_t outputs() const { return fields * panelsPerUnit / (gated ? 2 : 1); }
  /// What a token's values of all fields of a unit are once gates have met what they let pass.
  SmallVector<Value> meetGates(ArrayRef<Value> values);
  /// One of those values, through the rest of the epilogue.
  void writeOutput(Value value, Value unit, Value index, Value token);
  Value asFloat(Value acc) { return coded ? Value(arith::SIToFPOp::create(b, loc, v.f32Lanes(), acc)) : acc; }
  Value scaleAt(Value panel, Value group, int64_t field) {
    if (op.hasPanelScales())
      return v.broadcast(v.loadScalar(op.getRowScales(), {panel, group, v.index(0)}));
    return v.load(op.getRowScales(), {panel, group, v.index(field * kLanes)});
  }
  Value actScale(Value token);
  /// First output row of a field of a unit, and the mask of the rows that exist (null if all do).
  std::pair<Value, Value> outputRows(Value unit, Value field);
  std::pair<Value, Value> outputRows(Value unit, int64_t field) { return outputRows(unit, v.index(field)); }
  Value panelOf(Value unit, Value index) { return v.add(v.mul(unit, panelsPerUnit), index); }

  /// Fields whose accumulators, with their operands, the activations and a product, the registers hold.
  int64_t fieldsAtOnce(int64_t tokens) const {
    if (row->hasMatrixDots()) // two vectors of operands for each field
      return std::clamp<int64_t>((row->registers() - 4) / (tokens + 2), 1, operandCount);
    return std::clamp<int64_t>((row->registers() - 2) / (tokens * row->accumulatorsPerField() + 1), 1, operandCount);
  }
  /// Several tokens that share the operands, as matrix dots where the row has them.
  bool usesMatrixDots(int64_t tokens) const { return tokens > 1 && row->hasMatrixDots(); }
  /// Runs `body` for tiles of tokens from `from` to `to`: whole ones, and what is left by smaller ones.
  void forTokens(Value from, Value to, int64_t tile, llvm::function_ref<void(Value token, int64_t tokens)> body);
  int64_t narrowSteps() const { return row->maxNarrowSteps(maxCode); }
  void tokenTile(Value unit, Value token, int64_t tokens);
  void directTokens(Value unit, Value from, Value to);
  /// The only token, whose weights come from memory in one stream: each line that a panel needs besides is one that the
  /// stream has driven out of the first cache, and holds up the CPU's own prefetching; several at once hold it up most.
  void oneToken();
  /// One unit of the only token. `held` are the results of the unit before and its number (see isUnit); they are
  /// written one by one between runs of this unit's steps. Returns the same of this unit.
  SmallVector<Value> unitInRuns(Value unit, Value token, ValueRange held);
  /// Asks for some lines of `ahead`, the next ones with each run of steps.
  void askAhead(Value run);
  /// Whether it is a unit's number: -1 stands for none.
  Value isUnit(Value number) { return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, number, v.index(0)); }
  /// Whether registers hold a unit's results beside the dots of the next.
  bool passesInRuns() {
    return coded && fourWay && !row->isScalable() && !op.getGroup() && op.getY() && row->bytesAlone(kind) == 64 &&
           outputs() <= kHeldOutputs && layout.getSteps() >= kRunSteps * outputs();
  }
  void stagedTokens(Value unit, Value from, Value to, Value operands, Value sums);
  /// At most LookUpShape::kTokens tokens and the units of a part, by look-ups.
  void lookUpTokens(Value unit, Value endUnit, Value from, Value to);
  /// Runs `body` for `size` steps of tables from `first` on: the step's place among them, and the first step of K and
  /// the number of those that it holds, which are fewer in the very last.
  void forTableSteps(Value first, Value size, llvm::function_ref<void(Value at, Value step, int64_t steps)> body);
  /// Indices of the rows of a panel, to place `index` of the block.
  void stageIndices(Value panel, Value index, Value first, Value size);
  /// Tables of a token, to place `index` of the tile.
  void makeTables(Value token, Value index, Value first, Value size);
  /// Adds what the tables of `tokens` tokens, from `token` of the block on, give for a panel of the block. `before` are
  /// the lanes of sums that are there: none before the first.
  void addLookUps(Value panel, Value token, int64_t tokens, Value size, Value before);
  /// What this thread computes.
  struct Part {
    Value unit, endUnit, token, endToken;
  };
  Part share();
  /// Where the activations of two tokens in two steps are on stage.
  SmallVector<Value> stagedPair(Value token, Value step) { return {v.div(token, 2), v.mul(step, 8)}; }
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
  LookUpShape lookUp;
  int64_t operandCount, maxCode; // of the dots; the code of isolated operands
  /// Of a piece of a panel whose operands are unpacked once.
  int64_t maxStagedTokens, maxStagedSteps;
  Value scalableSums;                  // [token][operand and sum][16] of i32, where vectors are scalable
  Value stagedPairs;                   // [pair of tokens][step][8] of i8, what matrix dots take of a block of tokens
  SmallVector<Operand> stagedOperands; // what the bytes on stage are
  // Of look-ups: [panel][field][step][64] of i8, [token][step][4][32] of i16, [tile][panel][fields][token][field][16]
  // of i32.
  Value indices, tables, lookedUp;
  /// Place of the 64 indices of a field at a step, and further bytes.
  Value indexAt(Value panel, int64_t field, Value step, int64_t further) {
    Value row = v.add(v.mul(panel, fields), field);
    return v.add(v.mul(v.add(v.mul(row, LookUpShape::kSteps), step), packing::kBlockBytes), further);
  }
  /// Place of the first sum of a field. What is added at a time, some fields of a tile of tokens, lies together, in the
  /// order in which it comes.
  SmallVector<Value> sumPlace(Value token, Value panel, int64_t field) {
    return {v.div(token, lookUp.tile),
            panel,
            v.index(field / lookUp.fieldsAtOnce),
            v.rem(token, lookUp.tile),
            v.index(field % lookUp.fieldsAtOnce),
            v.index(0)};
  }
  Value onlySum, onlyScale; // of the token, where there is but one
  Value waiting;            // [panel of the unit][token][field][16] of f32, where a unit has several panels
};

//===----------------------------------------------------------------------===//
// Packed bytes
//===----------------------------------------------------------------------===//

Value MatmulTiler::packedAt(Value panel, Value step, int64_t offset, int64_t bytes) {
  Value at = v.add(v.mul(v.add(v.mul(panel, layout.getSteps()), step), 64), offset);
  auto type = VectorType::get({bytes}, b.getI8Type());
  return asStored(vector::LoadOp::create(b, loc, type, op.getPacked(), ValueRange{at}));
}

Value MatmulTiler::asStored(Value packed) {
  if (!layout.hasSignedTop() || (coded && row->hasSignedDots()))
    return packed;
  auto type = cast<VectorType>(packed.getType());
  return arith::AddIOp::create(b, loc, packed, splatBytes(type, packing::kSignedOffset));
}

MatmulTiler::Operand MatmulTiler::wholeByte(Value packed, int64_t maxCode) {
  int64_t offset = row->byteOffset(kind);
  if (!offset)
    return {packed, maxCode};
  if (!layout.hasSignedTop())
    packed = arith::SubIOp::create(b, loc, packed, splatBytes(cast<VectorType>(packed.getType()), offset));
  return {packed, std::max(offset, maxCode - offset), /*isSigned=*/true};
}

SmallVector<MatmulTiler::Operand> MatmulTiler::operandsOf(Value packed) {
  SmallVector<Operand> operands;
  if (!fourWay) {
    for (Value field : isolate(packed))
      operands.push_back({field, maxCode});
    return operands;
  }
  if (layout.isBytes())
    return {wholeByte(packed, maxCode)};
  if (!layout.isBase3()) {
    int64_t bits = 8 / fields;
    for (int64_t f = 0; f < fields; ++f) {
      int64_t mask = (1 << bits * (f + 1)) - 1;
      if (f == fields - 1) {
        operands.push_back(wholeByte(packed, layout.isBinary() ? 255 : 170));
        break;
      }
      operands.push_back({UnpackOp::create(b, loc, packed.getType(), packed, f, bits, /*cumulative=*/true),
                          layout.isBinary() ? mask : mask / 3 * 2}); // code 3 does not occur
    }
    return operands;
  }
  if (row->looksUpBytes()) {
    auto [low, upper] = lookUpTrits(packed);
    for (int64_t f = 0; f < 2; ++f)
      operands.push_back({UnpackOp::create(b, loc, low.getType(), low, f, 2, /*cumulative=*/true), f ? 10 : 2});
    operands.push_back({low, 42});
    operands.push_back({upper, 96});
    operands.push_back({packed, packing::largestTrits(5)});
    return operands;
  }
  Value rest = packed;
  operands.push_back(wholeByte(packed, packing::largestTrits(5)));
  for (int64_t f = fields - 1; f > 0; --f) {
    rest = TritsBelowOp::create(b, loc, rest.getType(), rest, packing::tritPlace(f));
    operands.insert(operands.begin(), {rest, packing::largestTrits(f)});
  }
  return operands;
}

std::pair<Value, Value> MatmulTiler::lookUpTrits(Value packed) {
  // Upper trits by what four bytes that share them have in common, lower ones by what is then left.
  Value upper =
      lookUpUpper(packed, [](int8_t t3, int8_t t4) { return packing::tritPlace(3) * t3 + kTopModulo64 * t4; });
  SmallVector<int8_t> fieldsOf(64);
  for (int8_t i = 0; i < 27; ++i)
    fieldsOf[i] = i % 3 + i / 3 % 3 * 4 + i / 9 * 16;
  Value rest = arith::SubIOp::create(b, loc, packed, upper);
  return {LookUpBytesOp::create(b, loc, packed.getType(), rest, b.getDenseI8ArrayAttr(fieldsOf)), upper};
}

Value MatmulTiler::lookUpUpper(Value packed, llvm::function_ref<int64_t(int8_t t3, int8_t t4)> of) {
  constexpr int64_t kShift = 2, kEach = packing::tritPlace(3) >> kShift;
  SmallVector<int8_t> table(64);
  for (int8_t trits = 0; trits < 9; ++trits)
    std::fill_n(table.begin() + trits * kEach, kEach, static_cast<int8_t>(of(trits % 3, trits / 3)));
  return LookUpBytesOp::create(b, loc, packed.getType(), packed, b.getDenseI8ArrayAttr(table),
                               b.getI64IntegerAttr(kShift));
}

SmallVector<Value> MatmulTiler::isolate(Value packed) {
  SmallVector<Value> codes;
  if (layout.isBase3() && row->looksUpBytes()) {
    Value low = lookUpTrits(packed).first,
          upper = lookUpUpper(packed, [](int8_t t3, int8_t t4) { return t3 + 4 * t4; });
    for (auto [field, value] : {std::pair(0, low), {1, low}, {2, low}, {0, upper}, {1, upper}})
      codes.push_back(UnpackOp::create(b, loc, value.getType(), value, field, 2, /*cumulative=*/false));
    return codes;
  }
  if (layout.isBase3()) {
    Value rest = packed;
    for (int64_t f = fields - 1; f > 0; --f) {
      codes.insert(codes.begin(), TopTritOp::create(b, loc, rest.getType(), rest, packing::tritPlace(f)));
      rest = TritsBelowOp::create(b, loc, rest.getType(), rest, packing::tritPlace(f));
    }
    codes.insert(codes.begin(), rest);
    return codes;
  }
  int64_t parts = layout.isBytes() ? 2 : fields;
  for (int64_t f = 0; f < parts; ++f)
    codes.push_back(UnpackOp::create(b, loc, packed.getType(), packed, f, 8 / parts, /*cumulative=*/false));
  return codes;
}

/// value / divisor where that leaves no rest.
Value MatmulTiler::exactDivide(Value value, uint32_t divisor) {
  const int bits = llvm::countr_zero(divisor);
  if (bits)
    value = arith::ShRSIOp::create(b, loc, value, v.splatI32(bits));
  divisor >>= bits;
  uint32_t inverse = divisor; // right to 3 bits: the square of odd numbers is 1 mod 8
  for (int i = 0; i < 4; ++i)
    inverse *= 2 - divisor * inverse; // Newton: each step doubles the bits
  return divisor > 1 ? Value(arith::MulIOp::create(b, loc, value, v.splatI32(static_cast<int32_t>(inverse)))) : value;
}

SmallVector<Value> MatmulTiler::solve(ArrayRef<Value> operandDots, Value sum) {
  auto sub = [&](Value x, Value y) -> Value { return arith::SubIOp::create(b, loc, x, y); };
  auto shift = [&](Value x, int64_t bits) -> Value {
    return arith::ShRSIOp::create(b, loc, x, v.splatI32(static_cast<int32_t>(bits)));
  };
  SmallVector<Value> d(operandDots), dots(operandDots);
  if (layout.isBytes() && !fourWay) {
    Value high = arith::ShLIOp::create(b, loc, d[1], v.splatI32(4));
    return {arith::AddIOp::create(b, loc, d[0], high)};
  }
  if (!fourWay)
    return dots;
  if (lowersBytes()) // the whole byte is the last operand
    d.back() = arith::AddIOp::create(
        b, loc, d.back(), arith::MulIOp::create(b, loc, sum, v.splatI32(static_cast<int32_t>(row->byteOffset(kind)))));
  if (layout.isBytes())
    return d;
  if (!layout.isBase3()) {
    for (int64_t f = fields - 1; f > 0; --f)
      dots[f] = shift(sub(d[f], d[f - 1]), 8 / fields * f);
    return dots;
  }
  if (!row->looksUpBytes()) {
    for (int64_t f = fields - 1; f > 0; --f)
      dots[f] = exactDivide(sub(d[f], d[f - 1]), packing::tritPlace(f));
    return dots;
  }
  auto times = [&](unsigned n, Value x) -> Value {
    return arith::MulIOp::create(b, loc, x, v.splatI32(static_cast<int32_t>(n)));
  };
  dots[1] = shift(sub(d[1], d[0]), 2);
  dots[2] = shift(sub(d[2], d[1]), 4);
  Value upper = sub(d[4], d[0]);
  for (int64_t f = 1; f < 3; ++f)
    upper = sub(upper, times(packing::tritPlace(f), dots[f]));
  dots[4] = shift(sub(upper, d[3]), 6);
  dots[3] = exactDivide(sub(d[3], times(kTopModulo64, dots[4])), packing::tritPlace(3));
  return dots;
}

//===----------------------------------------------------------------------===//
// Dots
//===----------------------------------------------------------------------===//

Value MatmulTiler::activations(Value token, Value step, VectorType bytes) {
  Value four =
      vector::LoadOp::create(b, loc, VectorType::get({4}, b.getI8Type()), op.getX(), ValueRange{token, v.mul(step, 4)});
  Value word = vector::BitCastOp::create(b, loc, VectorType::get({1}, b.getI32Type()), four);
  auto words = VectorType::get({bytes.getNumElements() / 4}, b.getI32Type(), bytes.getScalableDims());
  Value all = vector::BroadcastOp::create(b, loc, words, vector::ExtractOp::create(b, loc, word, ArrayRef<int64_t>{0}));
  return vector::BitCastOp::create(b, loc, bytes, all);
}

SmallVector<Value> MatmulTiler::addDots(ArrayRef<Operand> operands, Value token, int64_t tokens, Value step,
                                        ValueRange state) {
  auto bytes = cast<VectorType>(operands.front().bytes.getType());
  SmallVector<Value> next;
  for (int64_t m = 0; m < tokens; ++m) {
    Value x = activations(v.add(token, m), step, bytes);
    for (const Operand &operand : operands) {
      Value acc = state[next.size()];
      Type type = acc.getType();
      switch (row->method) {
      case DotMethod::FourWay:
      case DotMethod::LookUp:
        next.push_back(DotOp::create(b, loc, type, acc, operand.bytes, x, operand.maxCode, operand.isSigned));
        break;
      case DotMethod::Pairs:
        next.push_back(DotPairsOp::create(b, loc, type, acc, operand.bytes, x, operand.maxCode, narrowSteps()));
        break;
      case DotMethod::Products:
        next.push_back(MultiplyAddOp::create(b, loc, type, acc, operand.bytes, x, operand.maxCode, narrowSteps()));
        break;
      }
    }
  }
  return next;
}

Value MatmulTiler::pairOfTokens(Value first, Value second, Value step, bool both) {
  // Eight bytes of a token; of a last step alone four, and zeros.
  auto codes = [&](Value token) -> Value {
    int64_t bytes = both ? 8 : 4;
    Value some = vector::LoadOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), op.getX(),
                                        ValueRange{token, v.mul(step, 4)});
    some = vector::BitCastOp::create(b, loc, VectorType::get({1}, b.getIntegerType(8 * bytes)), some);
    some = vector::ExtractOp::create(b, loc, some, ArrayRef<int64_t>{0});
    return both ? some : Value(arith::ExtUIOp::create(b, loc, b.getI64Type(), some));
  };
  auto words = VectorType::get({2}, b.getI64Type());
  Value x = vector::FromElementsOp::create(b, loc, words, ValueRange{codes(first), codes(second)});
  return vector::BitCastOp::create(b, loc, VectorType::get({16}, b.getI8Type()), x);
}

SmallVector<Value> MatmulTiler::addMatrixDots(ArrayRef<Operand> low, ArrayRef<Operand> high, ValueRange pairs,
                                              ValueRange state) {
  SmallVector<Value> next;
  for (Value x : pairs)
    for (auto [first, second] : llvm::zip_equal(low, high))
      for (const Operand &operand : {first, second}) {
        Value acc = state[next.size()];
        next.push_back(
            MatrixDotOp::create(b, loc, acc.getType(), acc, operand.bytes, x, operand.maxCode, operand.isSigned));
      }
  return next;
}

std::pair<Value, Value> MatmulTiler::twoSteps(Value panel, Value step, int64_t offset, bool both) {
  auto words = VectorType::get({4}, b.getI32Type()), bytes = VectorType::get({16}, b.getI8Type());
  Value first = vector::BitCastOp::create(b, loc, words, packedAt(panel, step, offset, 16));
  Value second = both ? Value(vector::BitCastOp::create(b, loc, words, packedAt(panel, v.add(step, 1), offset, 16)))
                      : zeros(4, 32);
  auto rows = [&](ArrayRef<int64_t> order) -> Value {
    return vector::BitCastOp::create(b, loc, bytes, vector::ShuffleOp::create(b, loc, first, second, order));
  };
  return {rows({0, 4, 1, 5}), rows({2, 6, 3, 7})};
}

SmallVector<Value> MatmulTiler::byToken(ArrayRef<Value> lanes, int64_t tokens, int64_t operands) {
  SmallVector<Value> result;
  for (int64_t m = 0; m < tokens; ++m)
    for (int64_t i = 0; i < operands; ++i) {
      int64_t at = (m / 2 * operands + i) * 2, odd = m % 2;
      result.push_back(vector::ShuffleOp::create(b, loc, lanes[at], lanes[at + 1],
                                                 ArrayRef<int64_t>{odd, odd + 2, odd + 4, odd + 6}));
    }
  return result;
}

SmallVector<Value> MatmulTiler::byPair(ArrayRef<Value> lanes, int64_t tokens, int64_t operands) {
  SmallVector<Value> result;
  for (int64_t m = 0; m < tokens; m += 2)
    for (int64_t i = 0; i < operands; ++i)
      for (int64_t half : {0, 2})
        result.push_back(vector::ShuffleOp::create(b, loc, lanes[m * operands + i],
                                                   lanes[std::min(m + 1, tokens - 1) * operands + i],
                                                   ArrayRef<int64_t>{half, half + 4, half + 1, half + 5}));
  return result;
}

SmallVector<Value>
MatmulTiler::loopOverPairs(Value from, Value to, ValueRange init,
                           llvm::function_ref<SmallVector<Value>(Value step, bool both, ValueRange state)> body) {
  Value whole = v.add(from, v.mul(v.div(v.sub(to, from), 2), 2));
  SmallVector<Value> state =
      v.loop(from, whole, 2, init, [&](Value step, ValueRange state) { return body(step, true, state); });
  return v.loop(whole, to, 1, state, [&](Value step, ValueRange state) { return body(step, false, state); });
}

SmallVector<Value> MatmulTiler::dots(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                                     Value group) {
  // A vector holds the whole step where one token uses it once, from memory; several tokens use a narrower part, whose
  // accumulators all stay in registers, and pass over the panel (which is in cache by then) once for each part.
  int64_t bytes = tokens == 1 ? row->bytesAlone(kind) : row->bytes;
  SmallVector<SmallVector<Value>> parts;
  if (row->isScalable())
    parts.push_back(scalableDots(panel, token, tokens, from, to, withSums));
  for (int64_t offset = 0; offset < 64 && !row->isScalable(); offset += bytes)
    parts.push_back(usesMatrixDots(tokens) ? matrixDotsOfPart(panel, token, tokens, from, to, withSums, offset)
                                           : dotsOfPart(panel, token, tokens, from, to, withSums, offset, bytes));
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
    Value sum;
    if (lowersBytes())
      sum = withSums ? acc[m * perToken + operandCount] : sumOf(v.add(token, m), group);
    llvm::append_range(dots, solve(ArrayRef<Value>(acc).slice(m * perToken, operandCount), sum));
    if (withSums)
      dots.push_back(acc[m * perToken + operandCount]);
  }
  return dots;
}

SmallVector<Value> MatmulTiler::scalableDots(Value panel, Value token, int64_t tokens, Value from, Value to,
                                             bool withSums) {
  Value bytes = v.mul(vector::VectorScaleOp::create(b, loc, b.getIndexType()), 16);
  auto some = [&](Value offset, int64_t parts) {
    scalableDotsOfParts(panel, token, tokens, from, to, withSums, offset, bytes, parts);
  };
  auto atLeast = [&](int64_t size) -> Value {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, bytes, v.index(size));
  };
  if (tokens > 1 || row->bytesAlone(kind) < 64) {
    auto passes = scf::ForOp::create(b, loc, v.index(0), v.index(64), bytes);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(passes.getBody());
    some(passes.getInductionVar(), 1);
  } else {
    // One token takes the whole step at a time, from memory, in as many vectors as it needs.
    Value zero = v.index(0);
    v.choose(
        atLeast(64), [&] { some(zero, 1); },
        [&] { v.choose(atLeast(32), [&] { some(zero, 2); }, [&] { some(zero, 4); }); });
  }
  SmallVector<Value> sums;
  for (int64_t m = 0; m < tokens; ++m)
    for (int64_t f = 0; f < operandCount + (withSums ? 1 : 0); ++f)
      sums.push_back(v.load(scalableSums, {v.index(m), v.index(f), v.index(0)}));
  return sums;
}

void MatmulTiler::scalableDotsOfParts(Value panel, Value token, int64_t tokens, Value from, Value to, bool withSums,
                                      Value offset, Value vectorBytes, int64_t parts) {
  auto scalable = [&](int64_t lanes, unsigned bits) {
    return VectorType::get({lanes}, b.getIntegerType(bits), {true});
  };
  auto splat = [&](VectorType type, int64_t value) -> Value {
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, b.getIntegerAttr(type.getElementType(), value).getValue()));
  };
  VectorType bytes = scalable(16, 8), lanes = scalable(4, 32);
  const int64_t count = operandCount + (withSums ? 1 : 0);
  // Vectors may be longer than what is left of the step.
  SmallVector<Value> offsets, byteMasks, laneMasks;
  for (int64_t p = 0; p < parts; ++p) {
    offsets.push_back(v.add(offset, v.mul(vectorBytes, p)));
    Value left = v.sub(v.index(64), offsets.back());
    byteMasks.push_back(vector::CreateMaskOp::create(b, loc, scalable(16, 1), left));
    laneMasks.push_back(vector::CreateMaskOp::create(b, loc, scalable(4, 1), v.div(left, 4)));
  }
  SmallVector<Value> init(parts * tokens * count, splat(lanes, 0));
  SmallVector<Value> sums = v.loop(from, to, 1, init, [&](Value step, ValueRange state) {
    SmallVector<Value> next;
    for (int64_t p = 0; p < parts; ++p) {
      Value at = v.add(v.mul(v.add(v.mul(panel, layout.getSteps()), step), 64), offsets[p]);
      Value packed = asStored(
          vector::MaskedLoadOp::create(b, loc, bytes, op.getPacked(), ValueRange{at}, byteMasks[p], splat(bytes, 0)));
      SmallVector<Operand> operands = operandsOf(packed);
      if (withSums)
        operands.push_back(ones(bytes));
      llvm::append_range(next, addDots(operands, token, tokens, step, state.slice(p * tokens * count, tokens * count)));
    }
    return next;
  });
  for (int64_t i = 0; i < parts * tokens * count; ++i) {
    int64_t p = i / (tokens * count), m = i / count % tokens, f = i % count;
    v.storeMasked(sums[i], scalableSums, {v.index(m), v.index(f), v.div(offsets[p], 4)}, laneMasks[p]);
  }
}

SmallVector<Value> MatmulTiler::matrixDotsOfPart(Value panel, Value token, int64_t tokens, Value from, Value to,
                                                 bool withSums, int64_t offset) {
  int64_t operands = operandCount + (withSums ? 1 : 0);
  SmallVector<Value> init((tokens + 1) / 2 * operands * 2, zeros(4, 32));
  SmallVector<Value> lanes = loopOverPairs(from, to, init, [&](Value step, bool both, ValueRange state) {
    auto [packedLow, packedHigh] = twoSteps(panel, step, offset, both);
    SmallVector<Operand> low = operandsOf(packedLow), high = operandsOf(packedHigh);
    if (withSums) {
      low.push_back(ones(cast<VectorType>(packedLow.getType())));
      high.push_back(low.back());
    }
    SmallVector<Value> pairs;
    for (int64_t m = 0; m < tokens; m += 2) // an odd token is paired with itself
      pairs.push_back(pairOfTokens(v.add(token, m), v.add(token, std::min(m + 1, tokens - 1)), step, both));
    return addMatrixDots(low, high, pairs, state);
  });
  return byToken(lanes, tokens, operands);
}

SmallVector<Value> MatmulTiler::dotsOfPart(Value panel, Value token, int64_t tokens, Value from, Value to,
                                           bool withSums, int64_t offset, int64_t bytes) {
  int64_t count = tokens * (operandCount + (withSums ? 1 : 0));
  auto oneStep = [&](Value step, ValueRange state) {
    Value packed = packedAt(panel, step, offset, bytes);
    SmallVector<Operand> operands = operandsOf(packed);
    if (withSums)
      operands.push_back(ones(cast<VectorType>(packed.getType())));
    return addDots(operands, token, tokens, step, state);
  };
  SmallVector<Value> init(count, zeros(bytes / 4, 32));
  if (fourWay)
    return v.loop(from, to, 1, init, oneStep);
  int64_t steps = narrowSteps();
  return v.loop(from, to, steps, init, [&](Value first, ValueRange sums) {
    SmallVector<Value> zero(count, zeros(bytes / row->productsPerLane(), 16));
    SmallVector<Value> pairs = v.loop(first, v.min(v.add(first, steps), to), 1, zero, oneStep);
    SmallVector<Value> next;
    for (auto [sum, pair] : llvm::zip(sums, pairs))
      next.push_back(AddPairsOp::create(b, loc, sum.getType(), sum, pair));
    return next;
  });
}

SmallVector<Value> MatmulTiler::dotsInRuns(Value panel, Value token, ValueRange held,
                                           llvm::function_ref<void(Value i, Value value)> between) {
  const int64_t runs = held.size(), length = layout.getSteps() / runs;
  auto pass = [&](Value from, int64_t steps, ValueRange state) {
    return v.loop(v.index(0), v.index(steps), 1, state, [&](Value step, ValueRange state) {
      Value at = v.add(from, step);
      return addDots(operandsOf(packedAt(panel, at, 0, 64)), token, 1, at, state);
    });
  };
  SmallVector<Value> state(operandCount, v.splatI32(0));
  llvm::append_range(state, held); // the next to be given first
  state = v.loop(v.index(0), v.index(runs), 1, state, [&](Value run, ValueRange before) {
    SmallVector<Value> next = pass(v.mul(run, length), length, before.take_front(operandCount));
    ValueRange waiting = before.drop_front(operandCount);
    between(run, waiting.front());
    llvm::append_range(next, waiting.drop_front());
    next.push_back(waiting.front());
    return next;
  });
  SmallVector<Value> acc(ArrayRef<Value>(state).take_front(operandCount));
  if (int64_t rest = layout.getSteps() % runs)
    acc = pass(v.index(runs * length), rest, acc);
  return solve(acc, lowersBytes() ? sumOf(token) : Value());
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
  if (onlyScale)
    return onlyScale;
  bool perTensor = cast<MemRefType>(op.getActScale().getType()).getShape()[0] == 1 &&
                   cast<MemRefType>(op.getX().getType()).getShape()[0] != 1;
  return v.broadcast(v.loadScalar(op.getActScale(), {perTensor ? v.index(0) : token}));
}

std::pair<Value, Value> MatmulTiler::outputRows(Value unit, Value field) {
  int64_t perUnit = layout.getOutputRowsPerUnit();
  Value first = v.add(v.mul(unit, perUnit), v.mul(field, kLanes));
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

SmallVector<Value> MatmulTiler::meetGates(ArrayRef<Value> values) {
  if (!gated)
    return SmallVector<Value>(values);
  SmallVector<Value> met;
  for (int64_t i = 0; i < outputs(); ++i)
    met.push_back(gate(v, op.getEpilogue(), values[i], values[i + outputs()]));
  return met;
}

void MatmulTiler::writeOutput(Value value, Value unit, Value index, Value token) {
  auto [first, mask] = outputRows(unit, index);
  auto load = [&, mask = mask](Value memref, ValueRange indices) {
    return mask ? v.loadMasked(memref, indices, mask) : v.load(memref, indices);
  };
  if (op.getBias() && op.getBiasPlace() == bitnet::BiasPlace::AfterScale)
    value = v.addf(value, load(op.getBias(), {first}));
  if (std::optional<bitnet::Function> activation = op.getActivation())
    value = emitFunction(b, loc, *activation, value);
  if (op.getResidual())
    value = v.addf(load(op.getResidual(), {token, first}), value);
  if (mask)
    v.storeMasked(value, op.getY(), {token, first}, mask);
  else
    v.store(value, op.getY(), {token, first});
}

/// `values` are those of all fields of the unit's panels, token by token.
void MatmulTiler::epilogue(ArrayRef<Value> values, Value unit, Value token, int64_t tokens) {
  const int64_t perToken = fields * panelsPerUnit;
  for (int64_t m = 0; m < tokens; ++m)
    for (auto [i, value] : llvm::enumerate(meetGates(values.slice(m * perToken, perToken))))
      writeOutput(value, unit, v.index(static_cast<int64_t>(i)), v.add(token, m));
}

void MatmulTiler::forPanels(Value unit, Value token, int64_t tokens, PanelDots body) {
  if (panelsPerUnit == 1) {
    SmallVector<Value> values = body(unit, v.index(0));
    if (op.getY())
      epilogue(values, unit, token, tokens);
    return;
  }
  if (tokens == 1) {
    SmallVector<Value> values;
    for (int64_t p = 0; p < panelsPerUnit; ++p)
      llvm::append_range(values, body(panelOf(unit, v.index(p)), v.index(p)));
    if (op.getY())
      epilogue(values, unit, token, 1);
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

SmallVector<Value> MatmulTiler::scale(SmallVector<Value> acc, Value unit, Value panel, Value index, Value token,
                                      int64_t tokens) {
  if (coded)
    for (int64_t m = 0; m < tokens; ++m) {
      Value sum = sumOf(v.add(token, m));
      for (int64_t f = 0; f < fields; ++f)
        acc[m * fields + f] = correct(acc[m * fields + f], sum);
    }
  if (op.getAcc())
    writeAcc(acc, unit, index, token, tokens, Value());
  SmallVector<Value> scaled;
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
}

void MatmulTiler::finish(Value unit, Value token, int64_t tokens, PanelDots dotsOf) {
  forPanels(unit, token, tokens,
            [&](Value panel, Value index) { return scale(dotsOf(panel, index), unit, panel, index, token, tokens); });
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
        SmallVector<Value> all = dots(panel, token, tokens, from, to, /*withSums=*/!sumsGiven, group);
        for (int64_t m = 0; m < tokens; ++m) {
          Value sum = sumsGiven ? sumOf(v.add(token, m), group) : all[m * perToken + fields];
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

void MatmulTiler::directTokens(Value unit, Value from, Value to) {
  int64_t tile = op.getKernel() ? op.getKernel()->getTokens() : 1;
  forTokens(from, to, tile, [&](Value token, int64_t count) { tokenTile(unit, token, count); });
}

void MatmulTiler::oneToken() {
  Value token = v.index(0);
  if (op.getSums() && !op.getGroup())
    onlySum = sumOf(token);
  if (op.getActScale())
    onlyScale = actScale(token);
  // The results that are not written yet, and the unit that they are of: none before the first.
  SmallVector<Value> held;
  if (passesInRuns()) {
    held.assign(outputs(), v.splat(0.0f));
    held.push_back(v.index(-1));
  }
  held = v.shareTaking(v.index(layout.getUnits()), c.thread, c.threads, op.getTaken(), held,
                       [&](Value unit, Value endUnit, ValueRange before) {
                         return v.loop(unit, endUnit, 1, before, [&](Value at, ValueRange before) {
                           if (passesInRuns())
                             return unitInRuns(at, token, before);
                           tokenTile(at, token, 1);
                           return SmallVector<Value>();
                         });
                       });
  onlySum = onlyScale = Value();
  if (!held.empty())
    v.onlyIf(isUnit(held.back()), [&] {
      for (int64_t i = 0; i < outputs(); ++i)
        writeOutput(held[i], held.back(), v.index(i), token);
    });
}

void MatmulTiler::askAhead(Value run) {
  constexpr int64_t kEach = 2, kLine = 64;
  const int64_t lines = llvm::divideCeil(cast<MemRefType>(op.getAhead().getType()).getDimSize(0), kLine);
  Value first = v.mul(run, kEach);
  for (int64_t i = 0; i < kEach; ++i) {
    Value line = arith::RemUIOp::create(b, loc, v.add(first, i), v.index(lines));
    v.prefetch(op.getAhead(), {v.mul(line, kLine)});
  }
}

SmallVector<Value> MatmulTiler::unitInRuns(Value unit, Value token, ValueRange held) {
  Value before = held.back(), exists = isUnit(before);
  auto writeBefore = [&](Value i, Value value) {
    v.onlyIf(exists, [&] { writeOutput(value, before, i, token); });
    if (op.getAhead())
      askAhead(v.add(v.mul(unit, outputs()), i));
  };
  SmallVector<Value> values;
  for (int64_t p = 0; p < panelsPerUnit; ++p) {
    Value index = v.index(p), panel = panelOf(unit, index);
    SmallVector<Value> acc = p ? dots(panel, token, 1, v.index(0), v.index(layout.getSteps()), /*withSums=*/false)
                               : dotsInRuns(panel, token, held.drop_back(), writeBefore);
    llvm::append_range(values, scale(acc, unit, panel, index, token, 1));
  }
  values = meetGates(values);
  values.push_back(unit);
  return values;
}

void MatmulTiler::forTokens(Value from, Value to, int64_t tile, llvm::function_ref<void(Value, int64_t)> body) {
  SmallVector<int64_t> sizes = {tile};
  if (tile > 2 && row->hasMatrixDots())
    sizes.push_back(2);
  if (tile > 1)
    sizes.push_back(1);
  for (int64_t tokens : sizes) {
    Value whole = tokens == 1 ? to : v.add(from, v.mul(v.div(v.sub(to, from), tokens), tokens));
    v.loop(from, whole, tokens, [&](Value token) { body(token, tokens); });
    from = whole;
  }
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
        auto load = [&](Value step) {
          SmallVector<Operand> loaded(ArrayRef<Operand>(stagedOperands).slice(f0, f1 - f0));
          for (auto [i, operand] : llvm::enumerate(loaded))
            operand.bytes =
                vector::LoadOp::create(b, loc, VectorType::get({bytes}, b.getI8Type()), operands,
                                       ValueRange{v.index(f0 + static_cast<int64_t>(i)), step, v.index(offset)});
          return loaded;
        };
        auto oneStep = [&](Value step, ValueRange state) {
          return addDots(load(step), v.add(block, t), n, v.add(first, step), state);
        };
        auto sum = [&](int64_t i) -> Value { return vector::LoadOp::create(b, loc, laneType, sums, sumAt(i)); };
        SmallVector<Value> result;
        int64_t accumulators = n * (f1 - f0);
        if (fourWay) {
          for (int64_t i = 0; i < accumulators; ++i)
            result.push_back(sum(i));
          if (row->hasMatrixDots()) {
            auto twoSteps = [&](Value step, bool, ValueRange state) {
              SmallVector<Value> pairs;
              for (int64_t m = 0; m < n; m += 2)
                pairs.push_back(vector::LoadOp::create(b, loc, VectorType::get({16}, b.getI8Type()), stagedPairs,
                                                       stagedPair(v.add(t, m), step)));
              return addMatrixDots(load(step), load(v.add(step, 1)), pairs, state);
            };
            result = loopOverPairs(v.index(0), size, byPair(result, n, f1 - f0), twoSteps);
            result = byToken(result, n, f1 - f0);
          } else {
            result = v.loop(v.index(0), size, 1, result, oneStep);
          }
        } else {
          SmallVector<Value> zero(accumulators, zeros(bytes / row->productsPerLane(), 16));
          for (auto [i, pair] : llvm::enumerate(v.loop(v.index(0), size, 1, zero, oneStep)))
            result.push_back(AddPairsOp::create(b, loc, laneType, sum(i), pair));
        }
        for (auto [i, value] : llvm::enumerate(result))
          vector::StoreOp::create(b, loc, value, sums, sumAt(i));
      };
      forTokens(v.index(0), count, tile, someTokens);
    }
}

void MatmulTiler::stagedTiles(Value block, Value count, Value panel, Value first, Value size, Value operands,
                              Value sums) {
  const bool isSigned = llvm::any_of(stagedOperands, [](const Operand &operand) { return operand.isSigned; });
  v.loop(v.index(0), count, kTileTokens, [&](Value t) {
    Value tokens = v.min(v.sub(count, t), v.index(kTileTokens)), token = v.add(block, t);
    auto dotTiles = [&](Value step, Value blocks, Value width) {
      DotTilesOp::create(b, loc, op.getX(), token, v.mul(v.add(first, step), 4), operands, step, sums, t, panel, tokens,
                         blocks, width, isSigned);
    };
    if (row->hasOuterProducts()) // one step each
      return dotTiles(v.index(0), size, v.index(1));
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

/// operands: [operand][step][64] bytes, two steps interleaved where matrix dots take them; sums: [token][panel of the
/// unit][operand][16] of i32.
void MatmulTiler::stagedTokens(Value unit, Value from, Value to, Value operands, Value sums) {
  int64_t bytes = row->bytes;
  v.loop(from, to, maxStagedTokens, [&](Value block) {
    Value count = v.min(v.sub(to, block), v.index(maxStagedTokens));
    for (int64_t p = 0; p < panelsPerUnit; ++p) {
      Value panelIndex = v.index(p), panel = panelOf(unit, panelIndex);
      v.loop(v.index(0), count, 1, [&](Value t) {
        for (int64_t f = 0; f < operandCount; ++f)
          v.store(v.splatI32(0), sums, {t, panelIndex, v.index(f), v.index(0)});
      });
      v.loop(v.index(0), v.index(layout.getSteps()), maxStagedSteps, [&](Value first) {
        Value size = v.min(v.sub(v.index(layout.getSteps()), first), v.index(maxStagedSteps));
        auto store = [&](Value packed, Value step, int64_t offset) {
          stagedOperands = operandsOf(packed);
          for (auto [f, operand] : llvm::enumerate(stagedOperands))
            vector::StoreOp::create(b, loc, operand.bytes, operands, ValueRange{v.index(f), step, v.index(offset)});
        };
        if (row->stagesPairs()) {
          v.loop(v.index(0), count, 2, [&](Value t) {
            Value next = v.min(v.add(t, 1), v.sub(count, v.index(1)));
            loopOverPairs(v.index(0), size, ValueRange(), [&](Value step, bool both, ValueRange) {
              Value x = pairOfTokens(v.add(block, t), v.add(block, next), v.add(first, step), both);
              vector::StoreOp::create(b, loc, x, stagedPairs, stagedPair(t, step));
              return SmallVector<Value>();
            });
          });
          loopOverPairs(v.index(0), size, ValueRange(), [&](Value step, bool both, ValueRange) {
            for (int64_t offset = 0; offset < 64; offset += bytes) {
              auto [low, high] = twoSteps(panel, v.add(first, step), offset, both);
              store(low, step, offset);
              store(high, v.add(step, 1), offset);
            }
            return SmallVector<Value>();
          });
        } else {
          v.loop(v.index(0), size, 1, [&](Value step) {
            for (int64_t offset = 0; offset < 64; offset += bytes)
              store(packedAt(panel, v.add(first, step), offset, bytes), step, offset);
          });
        }
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
        return solve(dots, lowersBytes() ? sumOf(v.add(block, t)) : Value());
      });
    });
  });
}

void MatmulTiler::forTableSteps(Value first, Value size, llvm::function_ref<void(Value, Value, int64_t)> body) {
  const int64_t whole = layout.getSteps() / lookUp.depth, rest = layout.getSteps() % lookUp.depth;
  Value wholeHere = rest ? v.min(size, v.sub(v.index(whole), first)) : size;
  v.loop(v.index(0), wholeHere, 1, [&](Value at) { body(at, v.mul(v.add(first, at), lookUp.depth), lookUp.depth); });
  if (rest)
    v.loop(wholeHere, size, 1, [&](Value at) { body(at, v.index(whole * lookUp.depth), rest); });
}

void MatmulTiler::stageIndices(Value panel, Value index, Value first, Value size) {
  auto type = VectorType::get({64}, b.getI8Type());
  // Of the two indices that a look-up takes from a word of bytes, the second is for the other table.
  SmallVector<int8_t> places;
  for (int64_t i = 0; i < 64; ++i)
    places.push_back(i % 4 < 2 ? 0 : LookUpShape::kEntries);
  Value place = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, ArrayRef<int8_t>(places)));
  auto plus = [&](Value x, Value y) -> Value { return arith::AddIOp::create(b, loc, x, y); };
  forTableSteps(first, size, [&](Value at, Value step, int64_t steps) {
    SmallVector<Value> all = isolate(packedAt(panel, v.add(step, steps - 1), 0, 64));
    for (int64_t i = steps - 2; i >= 0; --i)
      for (auto [value, code] : llvm::zip_equal(all, isolate(packedAt(panel, v.add(step, i), 0, 64)))) {
        Value twice = plus(value, value);
        value = plus(lookUp.radix == 3 ? plus(twice, value) : twice, code);
      }
    for (auto [f, value] : llvm::enumerate(all))
      vector::StoreOp::create(b, loc, plus(value, place), indices, indexAt(index, static_cast<int64_t>(f), at, 0));
  });
}

void MatmulTiler::makeTables(Value token, Value index, Value first, Value size) {
  constexpr int64_t entries = LookUpShape::kEntries;
  auto words = VectorType::get({entries}, b.getI16Type()), bytes = VectorType::get({2 * entries}, b.getI8Type());
  auto codeType = VectorType::get({packing::kStep}, b.getI8Type());
  auto pairType = VectorType::get({packing::kStep}, b.getI16Type());
  // The codes that entries have at a step and the next, as a two-way dot takes them.
  auto codesAt = [&](int64_t step) -> Value {
    SmallVector<int8_t> codes;
    for (int64_t entry = 0; entry < entries; ++entry)
      for (int64_t i : {step, step + 1}) {
        int64_t rest = entry;
        for (int64_t j = 0; j < i; ++j)
          rest /= lookUp.radix;
        codes.push_back(static_cast<int8_t>(rest % lookUp.radix));
      }
    return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(bytes, ArrayRef<int8_t>(codes)));
  };
  forTableSteps(first, size, [&](Value at, Value step, int64_t steps) {
    auto activations = [&](int64_t i) -> Value {
      Value x =
          vector::LoadOp::create(b, loc, codeType, op.getX(), ValueRange{token, v.mul(v.add(step, i), packing::kStep)});
      return arith::ExtUIOp::create(b, loc, pairType, x);
    };
    SmallVector<Value> pairs;
    for (int64_t i = 0; i < steps; i += 2) {
      pairs.push_back(activations(i));
      if (i + 1 == steps)
        break;
      Value eight = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(pairType, static_cast<int16_t>(8)));
      Value second = arith::ShLIOp::create(b, loc, activations(i + 1), eight);
      pairs.back() = arith::OrIOp::create(b, loc, pairs.back(), second);
    }
    for (int64_t column = 0; column < packing::kStep; ++column) {
      Value table = zeros(entries, 16);
      for (auto [i, pair] : llvm::enumerate(pairs)) {
        Value both = vector::ShuffleOp::create(b, loc, pair, pair, SmallVector<int64_t>(entries, column));
        both = vector::BitCastOp::create(b, loc, bytes, both);
        table = DotPairsOp::create(b, loc, words, table, codesAt(2 * static_cast<int64_t>(i)), both, lookUp.radix - 1,
                                   static_cast<int64_t>(pairs.size()));
      }
      vector::StoreOp::create(b, loc, table, tables, ValueRange{index, at, v.index(column), v.index(0)});
    }
  });
}

void MatmulTiler::addLookUps(Value panel, Value token, int64_t tokens, Value size, Value before) {
  auto words = VectorType::get({LookUpShape::kEntries}, b.getI16Type());
  Value zero = v.index(0);
  for (int64_t f0 = 0; f0 < fields; f0 += lookUp.fieldsAtOnce) {
    const int64_t some = std::min(fields - f0, lookUp.fieldsAtOnce);
    auto sumAt = [&](int64_t i) { return sumPlace(v.add(token, i / some), panel, f0 + i % some); };
    SmallVector<Value> init(tokens * some, zeros(LookUpShape::kEntries, 16));
    SmallVector<Value> sums = v.loop(zero, size, 1, init, [&](Value step, ValueRange state) {
      SmallVector<Value> next(state);
      // Sums come from the third cache: one line a step of those that follow.
      SmallVector<Value> following = sumPlace(token, panel, f0);
      following.back() = v.mul(v.add(step, tokens * some), kLanes);
      v.prefetch(lookedUp, following);
      // Words of bytes are indices as they lie, and a byte further on those of the odd columns: what a word has above
      // an index does not count, nor does the byte behind the last word.
      for (int64_t column = 0; column < 2; ++column) {
        SmallVector<Value> index;
        for (int64_t f = 0; f < some; ++f) {
          Value bytes = vector::LoadOp::create(b, loc, VectorType::get({64}, b.getI8Type()), indices,
                                               indexAt(panel, f0 + f, step, column));
          index.push_back(vector::BitCastOp::create(b, loc, words, bytes));
        }
        // Four look-ups, then four additions, and so on: of the instructions that are issued at a time each then gets a
        // pipe of its own. One by one, additions take the pipes that alone look up.
        SmallVector<Value> found;
        Value low, high;
        int64_t added = 0;
        auto addFound = [&] {
          SmallVector<Value> values;
          for (Value value : FenceOp::create(b, loc, found).getResults())
            values.push_back(arith::AddIOp::create(b, loc, next[added + values.size()], value));
          values.push_back(low); // which the next look-ups need
          values = FenceOp::create(b, loc, values).getResults();
          low = values.pop_back_val();
          for (Value value : values)
            next[added++] = value;
          found.clear();
        };
        for (int64_t m = 0; m < tokens; ++m) {
          auto table = [&](int64_t of) -> Value {
            return vector::LoadOp::create(b, loc, words, tables, ValueRange{v.index(m), step, v.index(of), zero});
          };
          low = table(column), high = table(column + 2);
          for (int64_t f = 0; f < some; ++f) {
            found.push_back(LookUpOp::create(b, loc, words, index[f], low, high));
            if (found.size() == 4 || (m == tokens - 1 && f == some - 1))
              addFound();
          }
        }
      }
      return next;
    });
    for (int64_t i = 0; i < tokens * some; ++i) {
      Value sum = v.loadMasked(lookedUp, sumAt(i), before);
      v.store(AddPairsOp::create(b, loc, v.i32Lanes(), sum, sums[i]), lookedUp, sumAt(i));
    }
  }
}

void MatmulTiler::lookUpTokens(Value unit, Value endUnit, Value from, Value to) {
  const int64_t steps = packing::ceilDiv(layout.getSteps(), lookUp.depth), units = lookUp.panels / panelsPerUnit;
  Value zero = v.index(0), count = v.sub(to, from);
  v.loop(unit, endUnit, units, [&](Value firstUnit) {
    Value unitCount = v.min(v.sub(endUnit, firstUnit), v.index(units));
    Value panels = v.mul(unitCount, panelsPerUnit), firstPanel = v.mul(firstUnit, panelsPerUnit);
    v.loop(zero, v.index(steps), LookUpShape::kSteps, [&](Value first) {
      Value size = v.min(v.sub(v.index(steps), first), v.index(LookUpShape::kSteps));
      Value isLater = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, first, zero);
      Value before = v.broadcast(isLater);
      v.loop(zero, panels, 1, [&](Value panel) { stageIndices(v.add(firstPanel, panel), panel, first, size); });
      forTokens(zero, count, lookUp.tile, [&](Value t, int64_t tokens) {
        v.loop(zero, v.index(tokens), 1, [&](Value m) { makeTables(v.add(from, v.add(t, m)), m, first, size); });
        v.loop(zero, panels, 1, [&](Value panel) { addLookUps(panel, t, tokens, size, before); });
      });
    });
    v.loop(zero, count, lookUp.tile, [&](Value tile) {
      Value end = v.min(v.add(tile, lookUp.tile), count);
      v.loop(zero, unitCount, 1, [&](Value u) {
        v.loop(tile, end, 1, [&](Value t) {
          finish(v.add(firstUnit, u), v.add(from, t), 1, [&](Value, Value index) {
            SmallVector<Value> dots;
            for (int64_t f = 0; f < fields; ++f)
              dots.push_back(v.load(lookedUp, sumPlace(t, v.add(v.mul(u, panelsPerUnit), index), f)));
            return dots;
          });
        });
      });
    });
  });
}

/// Threads share the units, whose bytes are then read once. Where these do not come out even and there are many tokens,
/// or so many that each thread has its tables to make for a block of them, threads share the tokens instead.
MatmulTiler::Part MatmulTiler::share() {
  Value none = v.index(0), units = v.index(layout.getUnits()), tokens = v.dim(op.getX(), 0);
  auto [unit, endUnit] = v.share(units, c.thread, c.threads);
  int64_t tile = row->hasTiles() ? kTileTokens : op.getKernel() ? op.getKernel()->getTokens() : 1;
  auto [from, to] = v.share(arith::CeilDivUIOp::create(b, loc, tokens, v.index(tile)), c.thread, c.threads);
  // More than a sixteenth of the time would be waiting.
  Value most = v.mul(arith::CeilDivUIOp::create(b, loc, units, c.threads), 16);
  Value isUneven = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt,
                                         arith::MulIOp::create(b, loc, most, c.threads), v.mul(units, 17));
  Value isMany = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, tokens, v.mul(c.threads, kSharedTokens));
  Value byTokens = arith::AndIOp::create(b, loc, isUneven, isMany);
  if (op.getScratch()) {
    Value isMost =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, tokens, v.mul(c.threads, LookUpShape::kTokens));
    byTokens = arith::OrIOp::create(b, loc, byTokens, isMost);
  }
  auto choose = [&](Value ofTokens, Value ofUnits) -> Value {
    return arith::SelectOp::create(b, loc, byTokens, ofTokens, ofUnits);
  };
  return {choose(none, unit), choose(units, endUnit), choose(v.mul(from, tile), none),
          choose(v.min(v.mul(to, tile), tokens), tokens)};
}

void MatmulTiler::run() {
  const int64_t staged = stagedFrom(op);
  auto scratch = [&](ArrayRef<int64_t> shape, Type element) -> Value {
    return memref::AllocaOp::create(b, loc, MemRefType::get(shape, element), b.getI64IntegerAttr(64));
  };
  const int64_t tileTokens = op.getKernel() ? op.getKernel()->getTokens() : 1;
  if (panelsPerUnit > 1 && tileTokens > 1)
    waiting = scratch({panelsPerUnit, tileTokens, fields, kLanes}, b.getF32Type());
  if (row->isScalable())
    scalableSums = scratch({tileTokens, operandCount + 1, kLanes}, b.getI32Type());
  Value operands, sums;
  if (op.getScratch()) {
    auto view = [&](int64_t offset, ArrayRef<int64_t> shape, Type element) -> Value {
      return memref::ViewOp::create(b, loc, MemRefType::get(shape, element), op.getScratch(), v.index(offset),
                                    ValueRange());
    };
    indices = view(0, {lookUp.indexBytes()}, b.getI8Type());
    tables = view(lookUp.indexBytes(), {lookUp.tile, LookUpShape::kSteps, packing::kStep, LookUpShape::kEntries},
                  b.getI16Type());
    lookedUp =
        view(lookUp.indexBytes() + lookUp.tableBytes(),
             {lookUp.tiles(), lookUp.panels, fields / lookUp.fieldsAtOnce, lookUp.tile, lookUp.fieldsAtOnce, kLanes},
             b.getI32Type());
  } else if (staged) {
    operands = scratch({operandCount, maxStagedSteps, 64}, b.getI8Type());
    if (row->stagesPairs())
      stagedPairs = scratch({maxStagedTokens / 2, maxStagedSteps * 8}, b.getI8Type());
    sums = scratch({maxStagedTokens, panelsPerUnit, operandCount, kLanes}, b.getI32Type());
  }
  Part part = share();
  // Blocks of tokens whose codes stay in the cache while all panels pass.
  int64_t tile = row->hasTiles() ? kTileTokens : tileTokens;
  int64_t block =
      llvm::alignTo(std::max(kBlockTokens, kBlockBytes / layout.getCols()), staged ? maxStagedTokens : tile);
  if (op.getScratch())
    block = LookUpShape::kTokens;
  auto blocks = [&](Value from) {
    Value to = v.min(v.add(from, block), part.endToken);
    auto direct = [&] { v.loop(part.unit, part.endUnit, 1, [&](Value unit) { directTokens(unit, from, to); }); };
    if (!staged)
      return direct();
    Value many = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, v.sub(to, from), v.index(staged));
    auto onStage = [&] {
      if (op.getScratch())
        return lookUpTokens(part.unit, part.endUnit, from, to);
      v.loop(part.unit, part.endUnit, 1, [&](Value unit) { stagedTokens(unit, from, to, operands, sums); });
    };
    v.choose(many, onStage, direct);
  };
  Value isOne = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, v.dim(op.getX(), 0), v.index(1));
  v.choose(isOne, [&] { oneToken(); }, [&] { v.loop(part.token, part.endToken, block, blocks); });
}
} // namespace

int64_t setun::matmulScratchBytes(MatmulOp op) {
  if (!stagedFrom(op))
    return 0;
  packing::WeightKind kind = packedShape(op.getLayout()).kind;
  return findKernelRow(op.getKernel()->getRow())->looksUpSums(kind)
             ? LookUpShape(kind, op.getLayout().getPanels()).bytes()
             : 0;
}

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
