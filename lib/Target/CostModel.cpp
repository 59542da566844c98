//===- CostModel.cpp - which kernel, layout and tile for a matrix ------------------===//
#include "lib/Target/CostModel.h"
#include "lib/Target/LookUps.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <cmath>

using namespace llvm;
using namespace setun;
using packing::WeightKind;

static constexpr CpuModel models[] = {
#define SETUN_CPU(names, vectorBits, alu, dot, pairs, permute, words, load, tile, coreBytes, socketBytes)              \
  {names, vectorBits, alu, dot, pairs, permute, words, load, tile, coreBytes, socketBytes},
#include "lib/Target/Cpus.def"
};

const CpuModel &setun::cpuModel(StringRef cpu) {
  for (const CpuModel &model : models) {
    SmallVector<StringRef> names;
    model.names.split(names, ',');
    if (is_contained(names, cpu))
      return model;
  }
  return models[std::size(models) - 1];
}

/// Fewer tokens than this do not pay for staging.
static constexpr int64_t kStagedFrom = 16;
/// Nor do fewer than this for indices.
static constexpr int64_t kLookedUpFrom = 48;

namespace {
/// Vector operations by the unit that limits them.
struct Operations {
  double alu = 0, dot = 0, pairs = 0, permute = 0, load = 0, words = 0;

  Operations &operator+=(const Operations &other) {
    alu += other.alu;
    dot += other.dot;
    pairs += other.pairs;
    permute += other.permute;
    load += other.load;
    words += other.words;
    return *this;
  }
  Operations times(double n) const { return {alu * n, dot * n, pairs * n, permute * n, load * n, words * n}; }

  /// Cycles if they overlap perfectly, for vectors of `bits`.
  double cycles(const CpuModel &cpu, double bits) const {
    double parts = std::max(1.0, bits / cpu.vectorBits);
    auto through = [](double count, double rate) { return count == 0 ? 0 : rate == 0 ? 1e9 : count / rate; };
    double slots = alu + dot + pairs + permute * (cpu.permute == 0 ? 1e9 : cpu.permute) +
                   words * (cpu.words == 0 ? 1e9 : cpu.words);
    return parts * std::max({through(slots, cpu.alu), through(dot, cpu.dot), through(pairs, cpu.pairs),
                             through(load, cpu.load)});
  }
};

/// What turns one vector of packed bytes into the operands of dots; as passes/TileMatmul.cpp emits it.
Operations unpacking(bool fourWay, const KernelRow &row, WeightKind kind) {
  if (kind == WeightKind::TernaryBase3) {
    if (fourWay && row.looksUpBytes())
      return {2 + 2, 0, 0, 2, 0};
    // A chain of remainders, two differences and two minima each; isolated trits take two comparisons each more
    // and wait for each other.
    return {fourWay ? 16.0 + (row.byteOffset(kind) ? 1 : 0) : 16.0 + 24.0, 0, 0, 0, 0};
  }
  double operands = static_cast<double>(row.operands(kind));
  // Bytes are lowered, or what lowers them is added again, where row and layout differ.
  double offset = (row.byteOffset(kind) != 0) != (kind == WeightKind::TernarySigned) ? 1 : 0;
  return {(fourWay ? operands - 1 : 2 * (operands - 1)) + offset, 0, 0, 0, 0};
}

/// Predicts a row on a layout.
class Prediction {
public:
  Prediction(const KernelRow &row, WeightKind kind, const CpuModel &cpu, unsigned threads, int64_t rows);

  /// Tokens of the inner loop that the registers allow where operands are unpacked in it, and where they are staged.
  int64_t tokensInLoop() const { return inLoop; }
  int64_t tokensOnStage() const { return onStage; }
  KernelChoice of(int64_t tokens, int64_t staged) const;
  /// The best tile.
  KernelChoice best() const;

private:
  /// Cycles of a vector of weights a token, where `tokens` tokens share what there is to share.
  double direct(int64_t tokens) const;
  double staged(int64_t tokens) const;
  /// The same on the tile unit, for a run of `tokens` tokens.
  double tiled(int64_t tokens) const;
  /// The same by sums looked up.
  double lookedUp(int64_t tokens) const;
  /// Tiles that spill registers cost a store and a load for each accumulator that finds no place.
  Operations spills(int64_t tokens, int64_t fitting) const;

  const KernelRow &row;
  WeightKind kind;
  const CpuModel &cpu;
  int64_t rows;
  double fields, bits, weights, fromMemory; // fields: operands of a vector of packed bytes
  int64_t inLoop, onStage;
  Operations unpack, dots;
  /// What a token adds to dots that several share.
  Operations shared;
};

Prediction::Prediction(const KernelRow &row, WeightKind kind, const CpuModel &cpu, unsigned threads, int64_t rows)
    : row(row), kind(kind), cpu(cpu), rows(rows), fields(static_cast<double>(row.operands(kind))),
      bits(!row.isScalable()   ? row.bytes * 8
           : cpu.names.empty() ? 128.0
                               : std::max(cpu.vectorBits, 128.0)),
      weights(static_cast<double>(packing::fieldsPerByte(kind)) * bits / 8),
      unpack(unpacking(row.isFourWay(), row, kind)) {
  const bool fourWay = row.isFourWay();
  if (row.features.empty()) {
    dots.alu = 8 * fields; // plain 16-bit products
  } else {
    (fourWay ? dots.dot : dots.pairs) = fields * static_cast<double>(row.accumulatorsPerField());
    dots.alu = row.method == DotMethod::Pairs ? fields : 0;
  }
  dots.load = 1;
  shared = dots;
  if (row.hasMatrixDots()) { // twice the products, and activations of two steps in one load
    shared.dot /= 2;
    shared.load /= 2;
  }

  // Registers: accumulators, operands, the token's activations, a product on its way, and the masks, divisors and
  // tables that unpack (of many, some stay in memory).
  const int64_t fieldCount = row.operands(kind);
  const int64_t constants = kind == WeightKind::TernaryBase3 ? 4 : fourWay ? std::min<int64_t>(fieldCount - 1, 6) : 1;
  inLoop = std::clamp<int64_t>((row.registers() - fieldCount - (fourWay ? 1 : 2) - constants) /
                                   (fieldCount * row.accumulatorsPerField()),
                               int64_t(1), 6);
  if (row.hasMatrixDots()) // pairs of tokens, and operands of pairs of rows
    inLoop = std::clamp<int64_t>((row.registers() - 2 * fieldCount - 1 - constants) / fieldCount / 2 * 2, 1, 6);
  // On stage, fields take turns (MatmulTiler::fieldsAtOnce); 16 registers hold two of them for five tokens.
  onStage = row.hasMatrixDots() ? 4 : row.registers() == 16 ? 5 : 6;
  // About two cores saturate the memory that a few share.
  fromMemory = threads == 0 ? (cpu.coreBytes + cpu.socketBytes) / 2
                            : std::clamp(2 * cpu.coreBytes / threads, cpu.socketBytes, cpu.coreBytes);
}

Operations Prediction::spills(int64_t tokens, int64_t fitting) const {
  Operations all;
  // A store takes about as long as a load.
  all.load = 2 * fields * static_cast<double>(std::max<int64_t>(tokens - fitting, 0));
  return all;
}

double Prediction::direct(int64_t tokens) const {
  Operations all = unpack;
  all.load += 1; // of the packed bytes
  all += (tokens > 1 ? shared : dots).times(static_cast<double>(tokens));
  if (tokens > 1 && row.hasMatrixDots())
    all.alu += 1; // two steps are interleaved
  all += spills(tokens, inLoop);
  return all.cycles(cpu, bits) / static_cast<double>(tokens);
}

double Prediction::staged(int64_t tokens) const {
  constexpr double reuse = 64; // tokens that a piece of a panel serves while it is in the first cache
  // What is not counted (sums that go to memory and back between pieces, more loops) as measured for AVX2 on Zen 4:
  // staging gains 5 to 7 %, by the count alone it would be 35. Part of the cost, and not only of the choice whether to
  // stage: else a row that unpacks at more cost, and stages, would seem cheaper than one that need not.
  constexpr double rest = 1.25;
  Operations all = shared.times(static_cast<double>(tokens));
  all.load += fields;
  all += spills(tokens, onStage);
  Operations once = unpack;
  once.load += 1 + fields; // stores take about as long
  return rest * (all.cycles(cpu, bits) / static_cast<double>(tokens) + once.cycles(cpu, bits) / reuse);
}

double Prediction::tiled(int64_t tokens) const {
  // Two tiles of tokens by two of weights at once; sums are loaded and stored for each piece, configurations too. Codes
  // for outer products are turned around, a load and a store for each.
  constexpr double storeCycles = 16, callCycles = 60;
  const double steps = static_cast<double>(row.stagedSteps(kind)), loadCycles = 16 / cpu.load;
  const double tokenTiles = std::ceil(static_cast<double>(tokens) / 16), calls = std::ceil(tokenTiles / 2);
  const double dotCycles = tokenTiles * fields * (cpu.tile > 0 ? cpu.tile : 16);
  const double operandCycles = (calls * fields + std::ceil(fields / 2) * tokenTiles) * loadCycles;
  const double turnCycles = row.hasOuterProducts() ? tokenTiles * steps * 2 : 0;
  const double vectors = 64.0 / row.bytes;
  Operations once = unpack;
  once.load += 1 + fields;
  double cycles = steps / 16 * std::max(dotCycles, operandCycles) + steps * vectors * once.cycles(cpu, bits) +
                  tokenTiles * fields * (loadCycles + storeCycles) + calls * callCycles + turnCycles;
  return cycles / (steps * vectors * static_cast<double>(tokens));
}

double Prediction::lookedUp(int64_t tokens) const {
  const LookUpShape shape(kind, packing::ceilDiv(rows, packing::panelRowsOf(kind)));
  const double depth = static_cast<double>(shape.depth), tile = static_cast<double>(shape.tile);
  const double count = static_cast<double>(std::min(tokens, LookUpShape::kTokens));
  const double panels = static_cast<double>(shape.panels), sums = fields * 2 / depth; // of a step
  Operations all;
  all.words = all.alu = sums;
  all.load = sums / tile + 4 / depth;
  // Additions go to units that look-ups wait for: a fourth more than they would take side by side.
  double cycles = 1.25 * all.cycles(cpu, bits);
  // Once for a block of tokens, the indices; once for one of rows, four tables; and the sums of a block of columns.
  Operations indices = unpacking(/*fourWay=*/false, row, kind), table, widened;
  indices.alu += fields * (static_cast<double>(shape.radix));
  indices.load = 1 + fields / depth;
  table.alu = 4 * 3 * std::ceil(depth / 2) / depth;
  table.pairs = 4 * std::ceil(depth / 2) / depth;
  table.load = (4 + depth) / depth;
  widened.pairs = widened.alu = fields;
  widened.load = 2 * fields;
  return cycles + indices.cycles(cpu, bits) / count + table.cycles(cpu, bits) / panels +
         widened.cycles(cpu, bits) / (static_cast<double>(LookUpShape::kSteps) * depth);
}

KernelChoice Prediction::of(int64_t tokens, int64_t stagedFrom) const {
  KernelChoice choice;
  choice.row = &row;
  choice.kind = kind;
  choice.tokens = tokens;
  choice.staged = stagedFrom;
  // One token leaves nothing to hide loads, addresses and the loop behind.
  constexpr double alone = 1.15;
  choice.decode = 1000 / weights * std::max(alone * direct(1), bits / 8 / fromMemory);
  choice.prefill = 1000 / weights *
                   (!stagedFrom             ? direct(tokens)
                    : row.hasTiles()        ? tiled(row.stagedTokens())
                    : row.looksUpSums(kind) ? lookedUp(LookUpShape::kTokens)
                                            : staged(tokens));
  return choice;
}

KernelChoice Prediction::best() const {
  if (row.hasTiles()) {
    for (int64_t tokens : {16, 32})
      if (tiled(tokens) < 0.9 * direct(inLoop))
        return of(inLoop, tokens);
    return of(inLoop, 0);
  }
  if (row.isScalable())
    return of(inLoop, 0);
  if (row.looksUpSums(kind))
    return of(inLoop, lookedUp(LookUpShape::kTokens) < 0.95 * direct(inLoop) ? kLookedUpFrom : 0);
  // Halves of bytes would be widened too often on stage.
  if (kind != WeightKind::Bytes && staged(onStage) < direct(inLoop))
    return of(onStage, kStagedFrom);
  return of(inLoop, 0);
}
} // namespace

KernelChoice setun::costOf(const KernelRow &row, WeightKind kind, const CpuModel &cpu, unsigned threads, int64_t rows) {
  return Prediction(row, kind, cpu, threads, rows).best();
}

KernelChoice setun::costOf(const KernelRow &row, WeightKind kind, const CpuModel &cpu, unsigned threads, int64_t rows,
                           int64_t tokens, int64_t staged) {
  return Prediction(row, kind, cpu, threads, rows).of(tokens, staged);
}

std::vector<KernelChoice> setun::measurableKernels(const CostQuery &query) {
  std::vector<KernelChoice> found;
  for (const KernelChoice &best : rankKernels(query)) {
    // Rows that differ in look-ups alone are one and the same where nothing is looked up.
    if (best.kind != WeightKind::TernaryBase3 && any_of(found, [&](const KernelChoice &known) {
          return known.row != best.row && known.kind == best.kind && known.row->method == best.row->method &&
                 known.row->bytes == best.row->bytes && known.row->hasTiles() == best.row->hasTiles();
        }))
      continue;
    Prediction prediction(*best.row, best.kind, cpuModel(query.cpu), query.threads, query.rows);
    found.push_back(best);
    const size_t first = found.size() - 1;
    auto add = [&](int64_t tokens, int64_t staged) {
      if (tokens < 1 || (staged && !query.stages) ||
          any_of(
              ArrayRef(found).drop_front(first),
              [&](const KernelChoice &known) { return known.tokens == tokens && known.staged == staged; }))
        return;
      found.push_back(prediction.of(tokens, staged));
    };
    const int64_t inLoop = prediction.tokensInLoop(), onStage = prediction.tokensOnStage();
    for (int64_t difference : {0, -1, 1}) {
      add(inLoop + difference, 0);
      if (!best.row->hasTiles() && !best.row->isScalable() && !best.row->looksUpSums(best.kind))
        add(onStage + difference, kStagedFrom);
    }
    if (best.row->looksUpSums(best.kind))
      add(inLoop, kLookedUpFrom);
    if (best.row->hasTiles())
      for (int64_t staged : {16, 32}) // tiles have one shape; fewer tokens use vectors
        add(inLoop, staged);
  }
  return found;
}

std::vector<KernelChoice> setun::rankKernels(const CostQuery &query) {
  const CpuModel &cpu = cpuModel(query.cpu);
  std::vector<WeightKind> kinds = query.kinds;
  const bool any = kinds.empty();
  if (any)
    kinds = query.binary ? std::vector<WeightKind>{WeightKind::Binary} : ternaryLayouts().vec();
  auto cost = [&](const KernelRow &row, WeightKind kind, const KernelRow *only) {
    Prediction prediction(row, kind, cpu, query.threads, query.rows);
    if (!query.stages)
      return prediction.of(prediction.tokensInLoop(), 0);
    // Whoever asks for look-ups gets them, whatever they cost.
    return only && row.looksUpSums(kind) ? prediction.of(prediction.tokensInLoop(), kLookedUpFrom) : prediction.best();
  };
  auto candidates = [&](const KernelRow *only) {
    std::vector<KernelChoice> found;
    for (const KernelRow &row : kernelRows())
      if (row.supportedBy(query.features) && (!only || &row == only))
        for (WeightKind kind : kinds)
          // Nobody but rows whose dots are signed gains by a signed field.
          if (query.columns <= row.maxColumns(kind) &&
              !(any && kind == WeightKind::TernarySigned && !row.byteOffset(WeightKind::Ternary)))
            found.push_back(cost(row, kind, only));
    return found;
  };
  std::vector<KernelChoice> found = candidates(query.row);
  if (found.empty())
    found = candidates(nullptr);
  if (found.empty()) // beyond every row's bound; the verifier of the operation refuses such matrices
    found.push_back(cost(kernelRows().back(), kinds.front(), nullptr));
  // A decoded token and one of a prompt count the same. Rows stand best first, so ties go to the earlier.
  llvm::sort(found, [](const KernelChoice &x, const KernelChoice &y) {
    return std::make_tuple(x.decode + x.prefill, x.row, x.kind) < std::make_tuple(y.decode + y.prefill, y.row, y.kind);
  });
  return found;
}
