//===- MatrixKernelsTest.cpp - kernels chosen by hand or by measurement ------------===//
#include "lib/Target/MatrixKernels.h"
#include "lib/Target/CostModel.h"

#include "gtest/gtest.h"

using namespace setun;

namespace {

std::string error(llvm::StringRef json) {
  auto read = readMatrixKernels(json);
  return read ? "" : llvm::toString(read.takeError());
}

TEST(MatrixKernels, reads) {
  auto read = readMatrixKernels(R"([
    {"rows": 13824, "cols": 2560, "gated": true, "row": "avx2", "format": "r16k4t5", "tokens": 3, "staged": 16,
     "target": "znver4", "measured_decode": 27000, "measured_prefill": 5000},
    {"rows": 64, "cols": 128, "binary": true, "group": 32, "row": "generic", "format": "r16k4f8", "tokens": 1}])");
  ASSERT_TRUE(static_cast<bool>(read)) << llvm::toString(read.takeError());
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ(read->front().target, "znver4");
  EXPECT_EQ(read->front().measuredDecode, 27000);
  EXPECT_EQ(toString(read->front()), "13824x2560:gated:avx2:r16k4t5:3:16");
  EXPECT_EQ(toString(read->back()), "64x128:binary:group32:generic:r16k4f8:1:0");
  for (const MatrixKernel &kernel : *read) {
    auto again = parseMatrixKernel(toString(kernel));
    ASSERT_TRUE(static_cast<bool>(again)) << llvm::toString(again.takeError());
    EXPECT_EQ(toString(*again), toString(kernel));
    EXPECT_TRUE(again->shape == kernel.shape);
  }
}

TEST(MatrixKernels, refuses) {
  EXPECT_NE(error("[{"), "");
  EXPECT_EQ(error("{}"), "expects a list of kernels");
  EXPECT_EQ(error("[1]"), "kernel 1: expects an object");
  EXPECT_EQ(error("[{}]"), "kernel 1: expects the field 'rows'");
  EXPECT_EQ(error(R"([{"rows": 1.5}])"), "kernel 1: expects an integer for 'rows'");
  EXPECT_EQ(error(R"([{"gated": 1}])"), "kernel 1: expects true or false for 'gated'");
  EXPECT_EQ(error(R"([{"row": 1}])"), "kernel 1: expects a string for 'row'");
  EXPECT_EQ(error(R"([{"speed": 1}])"), "kernel 1: unknown field 'speed'");
  EXPECT_EQ(error(R"([{"rows": 4, "cols": 4, "tokens": 1, "format": "r16k4f4"}])"),
            "kernel 1: expects the field 'row'");

  auto one = [](llvm::StringRef fields) {
    return error(("[{\"rows\": 6, \"cols\": 8, \"row\": \"avx2\", " + fields + "}]").str());
  };
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 1)"), "");
  EXPECT_EQ(one(R"("format": "r16k4f8", "tokens": 1)"),
            "kernel 1: expects the format r16k4f4, r16k4t5 or r16k4s4 for ternary weights, got 'r16k4f8'");
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 1, "binary": true)"),
            "kernel 1: expects the format r16k4f8 for binary weights, got 'r16k4f4'");
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 0)"), "kernel 1: expects 1 to 16 tokens, got 0");
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 1, "staged": -1)"),
            "kernel 1: expects staged from 0 to 1048576, got -1");
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 1, "group": 4, "staged": 16)"),
            "kernel 1: matrices with groups are not staged, got staged = 16");
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 1, "group": 9)"),
            "kernel 1: expects a group of 0 to 8 columns, got 9");
  EXPECT_EQ(one(R"("format": "r16k4f4", "tokens": 1, "measured_decode": -1)"),
            "kernel 1: expects measurements that are not negative");
  EXPECT_EQ(error(R"([{"rows": 3, "cols": 8, "gated": true, "row": "avx2", "format": "r16k4f4", "tokens": 1}])"),
            "kernel 1: expects an even number of rows for a gated pair, got 3");
  EXPECT_EQ(error(R"([{"rows": 0, "cols": 8, "row": "avx2", "format": "r16k4f4", "tokens": 1}])"),
            "kernel 1: expects rows and cols of 1 or more, got 0 x 8");
  EXPECT_EQ(error(R"([{"rows": 4, "cols": 4, "row": "avx3", "format": "r16k4f4", "tokens": 1}])")
                .find("kernel 1: unknown kernel 'avx3', expects one of amxint8, avx512vbmi, "),
            0u);
  // 170 * 128 * 98689 < 2^31.
  EXPECT_EQ(error(R"([{"rows": 4, "cols": 98690, "row": "avx512vnni", "format": "r16k4f4", "tokens": 1}])"),
            "kernel 1: kernel 'avx512vnni' on r16k4f4 is exact up to 98689 columns, got 98690");
  auto two = [](const std::string &first, const std::string &second) {
    std::string start = R"({"rows": 4, "cols": 4, "row": "avx2", "tokens": 1, "format": )";
    return error("[" + start + "\"r16k4f4\"" + first + "}, " + start + "\"r16k4t5\"" + second + "}]");
  };
  EXPECT_EQ(two("", ""), "kernel 2: 4x4 has a kernel already");
  EXPECT_EQ(two(R"(, "target": "x86-64-v3")", ""), "kernel 2: 4x4 has a kernel already");
  EXPECT_EQ(two(R"(, "target": "x86-64-v3")", R"(, "target": "znver4")"), "");
}

TEST(MatrixKernels, parses) {
  for (const char *text :
       {"", "4x4", "4:avx2:r16k4f4:1:0", "4x4:avx2:r16k4f4:1", "4x4:thin:avx2:r16k4f4:1:0", "4x4:avx2:r16k4f4:one:0",
        "4x4:avx2:r16k4f4:1:0:0", "4x4:groupx:avx2:r16k4f4:1:0", "4x4:avx2:r16k4f8:1:0"}) {
    auto parsed = parseMatrixKernel(text);
    ASSERT_FALSE(static_cast<bool>(parsed)) << text;
    std::string message = llvm::toString(parsed.takeError());
    EXPECT_EQ(message.find("expects ROWSxCOLS"), 0u) << message;
  }
}

TEST(MatrixKernels, candidates) {
  CostQuery query;
  for (llvm::StringRef feature : {"avx2", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512vbmi"})
    query.features.insert(feature);
  query.cpu = "znver4";
  query.columns = 2560;
  std::vector<KernelChoice> found = measurableKernels(query);
  KernelChoice best = chooseKernel(query);
  EXPECT_EQ(found.front().row, best.row);
  EXPECT_EQ(found.front().tokens, best.tokens);
  bool staged = false, twoBits = false, base3 = false;
  for (const KernelChoice &choice : found) {
    staged |= choice.staged != 0;
    twoBits |= choice.kind == packing::WeightKind::Ternary;
    base3 |= choice.kind == packing::WeightKind::TernaryBase3;
    // The prediction of a tile does not depend on how it was found.
    KernelChoice again =
        costOf(*choice.row, choice.kind, cpuModel(query.cpu), 0, kManyRows, choice.tokens, choice.staged);
    EXPECT_EQ(again.decode, choice.decode);
    EXPECT_EQ(again.prefill, choice.prefill);
  }
  EXPECT_TRUE(staged && twoBits && base3);
  // Tiles: from 16 or 32 tokens on or not at all; the vectors' row beside them.
  query.features.insert("amx-tile");
  query.features.insert("amx-int8");
  query.cpu = "sapphirerapids";
  bool vectors = false;
  for (const KernelChoice &choice : measurableKernels(query)) {
    vectors |= choice.row->name == "avx512vbmi" && choice.kind == packing::WeightKind::Ternary;
    if (choice.row->hasTiles())
      EXPECT_TRUE(choice.staged == 0 || choice.staged == 16 || choice.staged == 32) << choice.staged;
    if (choice.row->hasTiles() && choice.staged)
      EXPECT_EQ(choice.tokens, costOf(*choice.row, choice.kind, cpuModel(query.cpu), 0).tokens);
  }
  EXPECT_TRUE(vectors);
  query.stages = false;
  for (const KernelChoice &choice : measurableKernels(query))
    EXPECT_EQ(choice.staged, 0);
}

} // namespace
