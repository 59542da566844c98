//===- CostModelTest.cpp - which kernel, layout and tile ----------------------------===//
#include "lib/Target/CostModel.h"
#include "lib/Target/Targets.h"

#include <gtest/gtest.h>

using namespace llvm;
using namespace setun;
using packing::WeightKind;

namespace {

CostQuery queryFor(StringRef target) {
  auto parsed = parseTargets(target);
  EXPECT_TRUE(static_cast<bool>(parsed));
  CostQuery query;
  if (!parsed) {
    consumeError(parsed.takeError());
    return query;
  }
  query.features = parsed->front().enabled;
  query.cpu = parsed->front().cpu;
  query.columns = 2560;
  return query;
}

std::string choiceFor(StringRef target, bool binary = false) {
  CostQuery query = queryFor(target);
  query.binary = binary;
  KernelChoice choice = chooseKernel(query);
  std::string kind = choice.kind == WeightKind::Ternary         ? "2 bits"
                     : choice.kind == WeightKind::Binary        ? "1 bit"
                     : choice.kind == WeightKind::TernarySigned ? "2 bits, signed"
                                                                : "1.6";
  return choice.row->name.str() + ", " + kind;
}

} // namespace

TEST(CostModel, knownCpus) {
  // 1.6 bits wherever dots leave the time to take base 3 apart: one look-up where there is one, a chain of minima for
  // sums of four-way dots where vectors are long or memory is slow. Isolated fields cost too much.
  EXPECT_EQ(choiceFor("znver5"), "avx512vbmi, 1.6");
  EXPECT_EQ(choiceFor("znver4"), "avx512lut, 1.6");
  EXPECT_EQ(choiceFor("icelake-server"), "avx512vbmi, 1.6");
  EXPECT_EQ(choiceFor("x86-64-v4+avx512vnni"), "avx512vnni, 1.6");
  EXPECT_EQ(choiceFor("alderlake"), "avxvnni, 2 bits");
  EXPECT_EQ(choiceFor("x86-64-v3"), "avx2, 2 bits");
  EXPECT_EQ(choiceFor("x86-64"), "generic, 2 bits");
  EXPECT_EQ(choiceFor("znver5", /*binary=*/true), "avx512vbmi, 1 bit");
  EXPECT_EQ(choiceFor("alderlake", /*binary=*/true), "avxvnni, 1 bit");
  for (const char *cpu : {"sapphirerapids", "emeraldrapids", "graniterapids"}) {
    EXPECT_EQ(choiceFor(cpu), "amxint8, 1.6") << cpu;
    EXPECT_EQ(choiceFor(cpu, /*binary=*/true), "amxint8, 1 bit") << cpu;
  }
}

TEST(CostModel, knownArmCpus) {
  EXPECT_EQ(choiceFor("cortex-a53"), "neon, 2 bits");
  EXPECT_EQ(choiceFor("cortex-a72", /*binary=*/true), "neon, 1 bit");
  // A signed field spares signed dots an operation; smmla takes any.
  EXPECT_EQ(choiceFor("cortex-a76"), "dotprod, 2 bits, signed");
  EXPECT_EQ(choiceFor("apple-m1"), "dotprod, 2 bits, signed");
  EXPECT_EQ(choiceFor("apple-m2"), "i8mm, 2 bits");
  EXPECT_EQ(choiceFor("aarch64-i8mm", /*binary=*/true), "i8mm, 1 bit");
  EXPECT_EQ(choiceFor("aarch64-sme2"), "sme, 2 bits");
  EXPECT_EQ(choiceFor("apple-m4", /*binary=*/true), "sme, 1 bit");
  // Vectors of any length are for those that have long ones, as far as is known.
  EXPECT_EQ(choiceFor("cortex-x925"), "i8mm, 2 bits");
  EXPECT_EQ(choiceFor("fujitsu-monaka"), "i8mm, 2 bits");
  EXPECT_EQ(choiceFor("a64fx").substr(0, 4), "sve,");
  // Nobody else is offered the signed field.
  CostQuery query = queryFor("znver4");
  for (const KernelChoice &choice : measurableKernels(query))
    EXPECT_NE(choice.kind, WeightKind::TernarySigned) << choice.row->name.str();
}

TEST(CostModel, matrixDotsAreForSeveralTokens) {
  const CpuModel &cpu = cpuModel("apple-m2");
  KernelChoice dots = costOf(*findKernelRow("dotprod"), WeightKind::TernarySigned, cpu, 0);
  KernelChoice matrices = costOf(*findKernelRow("i8mm"), WeightKind::TernarySigned, cpu, 0);
  EXPECT_EQ(matrices.decode, dots.decode);
  EXPECT_LT(matrices.prefill, dots.prefill / 1.5);
  EXPECT_EQ(matrices.tokens % 2, 0);
}

TEST(CostModel, outerProductsAreForManyTokens) {
  const CpuModel &cpu = cpuModel("apple-m4");
  for (WeightKind kind : {WeightKind::Ternary, WeightKind::TernaryBase3, WeightKind::Binary}) {
    KernelChoice tiles = costOf(*findKernelRow("sme"), kind, cpu, 0);
    KernelChoice vectors = costOf(*findKernelRow("i8mm"), kind, cpu, 0);
    EXPECT_EQ(tiles.staged, 16);
    EXPECT_EQ(tiles.decode, vectors.decode);
    EXPECT_LT(tiles.prefill, vectors.prefill);
  }
}

TEST(CostModel, memoryThatIsShared) {
  // One or two cores of Zen 4 read two bits faster than they take base 3 apart without look-ups; many wait for memory.
  CostQuery query = queryFor("znver4-avx512vbmi");
  for (unsigned threads : {1, 2}) {
    query.threads = threads;
    EXPECT_EQ(chooseKernel(query).kind, WeightKind::Ternary) << threads;
  }
  query.threads = 16;
  EXPECT_EQ(chooseKernel(query).kind, WeightKind::TernaryBase3);
  // What a core gets never grows with the number of cores.
  double last = 0;
  for (unsigned threads = 1; threads < 32; ++threads) {
    KernelChoice choice = costOf(*findKernelRow("avx512vnni"), WeightKind::Ternary, cpuModel("znver4"), threads);
    EXPECT_GE(choice.decode, last) << threads;
    last = choice.decode;
  }
}

TEST(CostModel, tilesAreForManyTokens) {
  CostQuery query = queryFor("sapphirerapids");
  for (WeightKind kind : {WeightKind::Ternary, WeightKind::TernaryBase3, WeightKind::Binary}) {
    KernelChoice tiles = costOf(*findKernelRow("amxint8"), kind, cpuModel(query.cpu), 0);
    KernelChoice vectors = costOf(*findKernelRow("avx512vbmi"), kind, cpuModel(query.cpu), 0);
    // From 16 tokens on a tile of them is full, which repays the unpacking.
    EXPECT_EQ(tiles.staged, 16);
    // A token by itself takes the same path on both rows.
    EXPECT_EQ(tiles.decode, vectors.decode);
    // Tiles multiply eight times as much in a cycle; what feeds them takes its time too.
    EXPECT_LT(tiles.prefill, vectors.prefill / 4);
    EXPECT_GT(tiles.prefill, vectors.prefill / 8);
  }
  // Without AMX the same CPU takes vectors.
  EXPECT_EQ(choiceFor("sapphirerapids-amx-tile"), "avx512vbmi, 1.6");
}

TEST(CostModel, staging) {
  // Isolated fields are unpacked once for many tokens; sums of four-way dots need no unpacking to speak of.
  EXPECT_EQ(costOf(*findKernelRow("avx2"), WeightKind::Ternary, cpuModel("x86-64-v3"), 0).staged, 16);
  EXPECT_EQ(costOf(*findKernelRow("avx512vnni"), WeightKind::Ternary, cpuModel("znver5"), 0).staged, 0);
}

TEST(CostModel, stagingIsWorthWhatWasMeasured) {
  // AVX2 on Zen 4, many tokens: 5 to 7 %.
  auto prefill = [](int64_t tokens, int64_t staged) {
    return costOf(*findKernelRow("avx2"), WeightKind::Ternary, cpuModel("znver4"), 0, kManyRows, tokens, staged)
        .prefill;
  };
  const double gain = prefill(2, 0) / prefill(5, 16);
  EXPECT_GT(gain, 1.02);
  EXPECT_LT(gain, 1.15);
}

TEST(CostModel, lookUpsTakeTheSlotsOfDots) {
  auto direct = [](const char *row, WeightKind kind, const char *cpu, int64_t tokens) {
    return costOf(*findKernelRow(row), kind, cpuModel(cpu), 0, kManyRows, tokens, 0).prefill;
  };
  // On Zen a look-up and the simple operations around it run beside the dots, as many a weight in either layout.
  EXPECT_EQ(direct("avx512vbmi", WeightKind::TernaryBase3, "znver4", 4),
            direct("avx512vnni", WeightKind::Ternary, "znver4", 6));
  // Intel's look-up is three operations on the ports of dots, and still less than a chain of remainders.
  EXPECT_GT(direct("avx512vbmi", WeightKind::TernaryBase3, "sapphirerapids", 4),
            1.1 * direct("avx512vnni", WeightKind::Ternary, "sapphirerapids", 6));
  EXPECT_LT(direct("avx512vbmi", WeightKind::TernaryBase3, "sapphirerapids", 4),
            direct("avx512vnni", WeightKind::TernaryBase3, "sapphirerapids", 4));
  // Staged or not, what costs less to unpack never costs more.
  for (const char *cpu : {"znver5", "znver4", "sapphirerapids", "icelake-server", "x86-64-v4"})
    EXPECT_LE(costOf(*findKernelRow("avx512vbmi"), WeightKind::TernaryBase3, cpuModel(cpu), 0).prefill,
              costOf(*findKernelRow("avx512vnni"), WeightKind::TernaryBase3, cpuModel(cpu), 0).prefill)
        << cpu;
}

TEST(CostModel, sumsAreLookedUpWhereThatIsFaster) {
  CostQuery query = queryFor("znver4");
  auto row = [&](int64_t rows, const char *cpu) {
    query.rows = rows;
    query.cpu = cpu;
    KernelChoice choice = chooseKernel(query);
    EXPECT_EQ(choice.staged != 0, choice.row->name == "avx512lut");
    return choice.row->name;
  };
  EXPECT_EQ(row(2560, "znver4"), "avx512lut");
  // A matrix of few rows does not pay for tables, and other CPUs' look-ups are slow.
  EXPECT_EQ(row(80, "znver4"), "avx512vbmi");
  EXPECT_EQ(row(2560, "icelake-server"), "avx512vbmi");
  // The row has its dots for what is not looked up.
  query.stages = false;
  EXPECT_EQ(row(2560, "znver4"), "avx512vbmi");
}

TEST(CostModel, exactOrNotAtAll) {
  // Beyond a row's bound the next one is taken, whatever was asked for.
  CostQuery query = queryFor("sapphirerapids");
  query.row = findKernelRow("amxint8");
  query.kinds = {WeightKind::Ternary};
  query.columns = query.row->maxColumns(WeightKind::Ternary);
  EXPECT_EQ(chooseKernel(query).row->name, "amxint8");
  ++query.columns;
  EXPECT_EQ(chooseKernel(query).row->method, DotMethod::Pairs);
}

TEST(CostModel, onlyWhatTheTargetHas) {
  for (const char *cpu :
       {"sapphirerapids", "znver4", "alderlake", "x86-64-v4", "x86-64-v2", "cortex-a53", "neoverse-v1", "apple-m4"}) {
    CostQuery query = queryFor(cpu);
    for (const KernelChoice &choice : rankKernels(query))
      EXPECT_TRUE(choice.row->supportedBy(query.features)) << cpu << " " << choice.row->name.str();
  }
}
