//===- PackingTest.cpp - byte layouts ---------------------------*- C++ -*-===//
//
// Bytes written out by hand, the formula of the layout for odd shapes, and round trips.
//
//===----------------------------------------------------------------------===//

#include "TestUtils.h"

#include "setun/Packing.h"

#include "gtest/gtest.h"

#include <map>

using namespace setun::packing;
using setun::test::Trits;

namespace {

const int64_t kRows[] = {1, 3, 16, 31, 33, 63, 64, 65, 127, 129, 257};
const int64_t kCols[] = {1, 3, 4, 5, 31, 33};

/// sourceRows x K codes of the kind, not the same in any two neighbouring places.
std::vector<int8_t> randomCodes(const PackedShape &shape) {
  Trits trits;
  std::vector<int8_t> codes = trits.take(static_cast<size_t>(shape.sourceRows() * shape.cols));
  if (shape.kind == WeightKind::Binary)
    for (int8_t &code : codes)
      code = code > 0 ? 1 : -1;
  return codes;
}

std::vector<uint8_t> pack(const PackedShape &shape, const std::vector<int8_t> &codes) {
  std::vector<uint8_t> out(static_cast<size_t>(shape.bytes()), 0xee);
  packCodes(shape, codes.data(), out.data());
  return out;
}

TEST(Packing, TernaryBytesByHand) {
  // Rows 0 and 16 share lane 0; K = 5 leaves three padding columns; fields 2 and 3 are padding rows.
  const PackedShape shape{WeightKind::Ternary, RowOrder::Linear, 17, 5};
  EXPECT_EQ(shape.panels(), 1);
  EXPECT_EQ(shape.bytes(), 128);
  std::vector<int8_t> codes(17 * 5, 0);
  const int8_t row0[5] = {1, 0, -1, 1, -1}, row1[5] = {-1, -1, 1, 1, 0}, row16[5] = {-1, -1, 0, 1, 1};
  for (int k = 0; k < 5; ++k) {
    codes[0 * 5 + k] = row0[k];
    codes[1 * 5 + k] = row1[k];
    codes[16 * 5 + k] = row16[k];
  }
  const std::vector<uint8_t> packed = pack(shape, codes);
  std::vector<uint8_t> expected(128, 0x55);
  // k = 0..3 of lane 0: row 0 in bits 0-1, row 16 in bits 2-3, 0x50 above.
  expected[0] = 0x52; // 1 -> 2, -1 -> 0
  expected[1] = 0x51; // 0 -> 1, -1 -> 0
  expected[2] = 0x54; // -1 -> 0, 0 -> 1
  expected[3] = 0x5a; // 1 -> 2, 1 -> 2
  expected[4] = 0x54; // lane 1: row 1, row 17 is padding
  expected[5] = 0x54;
  expected[6] = 0x56;
  expected[7] = 0x56;
  expected[64] = 0x58; // k = 4 of lane 0: -1 -> 0, 1 -> 2
  expected[68] = 0x55;
  EXPECT_EQ(packed, expected);
}

TEST(Packing, BinaryBytesByHand) {
  const PackedShape shape{WeightKind::Binary, RowOrder::Linear, 113, 3};
  EXPECT_EQ(shape.panels(), 1);
  EXPECT_EQ(shape.bytes(), 64);
  std::vector<int8_t> codes(113 * 3, -1);
  codes[0 * 3 + 0] = 1;   // lane 0, field 0
  codes[16 * 3 + 0] = 1;  // lane 0, field 1
  codes[112 * 3 + 2] = 1; // lane 0, field 7
  codes[37 * 3 + 1] = 1;  // lane 5, field 2
  std::vector<uint8_t> expected(64, 0);
  expected[0] = 0x03;
  expected[2] = 0x80;
  expected[5 * 4 + 1] = 0x04;
  EXPECT_EQ(pack(shape, codes), expected);
}

TEST(Packing, GoldenTritsFirstPanel) {
  // 64 x 4 golden trits: byte lane*4 + k holds rows lane, lane+16, lane+32, lane+48, low bits first.
  const PackedShape shape{WeightKind::Ternary, RowOrder::Linear, 64, 4};
  Trits trits;
  const std::vector<int8_t> codes = trits.take(256);
  const std::vector<uint8_t> packed = pack(shape, codes);
  ASSERT_EQ(packed.size(), 64u);
  for (int lane = 0; lane < 16; ++lane)
    for (int k = 0; k < 4; ++k) {
      int expected = 0;
      for (int field = 0; field < 4; ++field)
        expected += (codes[(field * 16 + lane) * 4 + k] + 1) << 2 * field;
      EXPECT_EQ(packed[lane * 4 + k], expected) << "lane " << lane << " k " << k;
    }
}

class PackingShapes : public testing::TestWithParam<std::tuple<WeightKind, RowOrder>> {};

TEST_P(PackingShapes, RoundTripAndFormula) {
  const auto [kind, order] = GetParam();
  for (int64_t rows : kRows)
    for (int64_t cols : kCols) {
      SCOPED_TRACE("rows " + std::to_string(rows) + " cols " + std::to_string(cols));
      const PackedShape shape{kind, order, rows, cols};
      ASSERT_TRUE(shape.isValid());
      const std::vector<int8_t> codes = randomCodes(shape);
      const std::vector<uint8_t> packed = pack(shape, codes);

      std::vector<int8_t> back(codes.size(), 99);
      unpackCodes(shape, packed.data(), back.data());
      EXPECT_EQ(back, codes);

      // The formula of the layout, written out again.
      const bool ternary = kind != WeightKind::Binary, base3 = kind == WeightKind::TernaryBase3;
      const bool gated = order == RowOrder::Gated;
      const int64_t panelRows = base3 ? 80 : ternary ? 64 : 128, half = panelRows / 2;
      const int64_t perPanel = gated && !base3 ? half : panelRows;
      const int64_t panels = (rows + perPanel - 1) / perPanel * (gated && base3 ? 2 : 1), blocks = (cols + 3) / 4;
      ASSERT_EQ(shape.bytes(), panels * blocks * 64);
      std::vector<uint8_t> expected(packed.size());
      for (int64_t p = 0; p < panels; ++p)
        for (int64_t k = 0; k < blocks * 4; ++k)
          for (int64_t i = 0; i < panelRows; ++i) {
            int64_t matrix = 0, row = p * panelRows + i;
            if (gated && base3) { // panels of gate and up in turn
              matrix = p % 2;
              row = p / 2 * 80 + i;
            } else if (gated) {
              matrix = i >= half;
              row = p * half + i % half;
            }
            int value = ternary ? 1 : 0;
            if (row < rows && k < cols) {
              const int8_t code = codes[(matrix * rows + row) * cols + k];
              value = ternary ? code + 1 : code > 0;
            }
            const int64_t field = i / 16, lane = i % 16;
            const int place[5] = {1, 3, 9, 28, 84};
            expected[(p * blocks + k / 4) * 64 + lane * 4 + k % 4] +=
                static_cast<uint8_t>(base3 ? value * place[field] : value << (ternary ? 2 * field : field));
          }
      // The top field in two's complement: 64 * (value - 1).
      const int lowered = kind == WeightKind::TernarySigned ? 64 : 0;
      for (uint8_t &byte : expected)
        byte = static_cast<uint8_t>(byte - lowered);
      EXPECT_EQ(packed, expected);

      // One element at a time.
      std::vector<uint8_t> written(packed.size(), base3 ? 125 : ternary ? 0x55 - lowered : 0x00);
      for (int64_t source = 0; source < shape.sourceRows(); ++source) {
        EXPECT_EQ(shape.sourceRow(shape.packedRow(source)), source);
        for (int64_t k = 0; k < cols; ++k)
          writeCode(shape, written.data(), shape.packedRow(source), k, codes[source * cols + k]);
      }
      EXPECT_EQ(written, packed);
      int64_t padding = 0;
      for (int64_t row = 0; row < shape.paddedRows(); ++row)
        padding += shape.sourceRow(row) < 0;
      EXPECT_EQ(padding, shape.paddedRows() - shape.sourceRows());
    }
}

INSTANTIATE_TEST_SUITE_P(All, PackingShapes,
                         testing::Combine(testing::Values(WeightKind::Ternary, WeightKind::Binary,
                                                          WeightKind::TernaryBase3, WeightKind::TernarySigned),
                                          testing::Values(RowOrder::Linear, RowOrder::Gated)));

TEST(Packing, Base3BytesByHand) {
  // Rows 0, 16 and 64 share lane 0 with two padding rows; 81 rows need a second panel.
  const PackedShape shape{WeightKind::TernaryBase3, RowOrder::Linear, 81, 2};
  EXPECT_EQ(shape.panels(), 2);
  EXPECT_EQ(shape.bytes(), 128);
  std::vector<int8_t> codes(81 * 2, 0);
  codes[0] = 1, codes[1] = -1;               // row 0
  codes[16 * 2] = -1, codes[16 * 2 + 1] = 1; // row 16
  codes[64 * 2] = 1, codes[64 * 2 + 1] = -1; // row 64
  codes[80 * 2] = -1;                        // row 80, alone in the second panel
  const std::vector<uint8_t> packed = pack(shape, codes);
  std::vector<uint8_t> expected(128, 125); // 1 + 3 + 9 + 28 + 84
  expected[0] = 125 + 1 - 3 + 84;
  expected[1] = 125 - 1 + 3 - 84;
  expected[64] = 124;
  EXPECT_EQ(packed, expected);
}

TEST(Packing, BytesByHand) {
  const PackedShape shape{WeightKind::Bytes, RowOrder::Linear, 17, 5};
  EXPECT_EQ(shape.panels(), 2);
  EXPECT_EQ(shape.bytes(), 2 * 2 * 64);
  std::vector<int8_t> codes(17 * 5, 0);
  codes[0] = -128, codes[4] = 127; // row 0, the second in the next step
  codes[16 * 5 + 1] = -1;          // row 16, in the second panel
  const std::vector<uint8_t> packed = pack(shape, codes);
  std::vector<uint8_t> expected(packed.size(), 128); // padding, too
  expected[0] = 0, expected[64] = 255, expected[128 + 1] = 127;
  EXPECT_EQ(packed, expected);
  std::vector<int8_t> back(codes.size(), 99);
  unpackCodes(shape, packed.data(), back.data());
  EXPECT_EQ(back, codes);
  std::vector<uint8_t> written(packed.size(), 128);
  for (int64_t i = 0; i < 17 * 5; ++i)
    writeCode(shape, written.data(), i / 5, i % 5, codes[i]);
  EXPECT_EQ(written, packed);
}

TEST(Packing, SignedBytesAreLinear) {
  // Read as a signed number, a byte is t0 + 4 t1 + 16 t2 + 64 w3 with stored codes t and the code w of the top field.
  const PackedShape shape{WeightKind::TernarySigned, RowOrder::Linear, 64, 1};
  for (int8_t low : {-1, 0, 1})
    for (int8_t top : {-1, 0, 1}) {
      std::vector<int8_t> codes(64, low);
      codes[48] = top;
      std::vector<uint8_t> packed(static_cast<size_t>(shape.bytes()));
      packCodes(shape, codes.data(), packed.data());
      EXPECT_EQ(static_cast<int8_t>(packed[0]), 21 * (low + 1) + 64 * top);
    }
}

TEST(Packing, GatedPanelsTakeTurnsInBase3) {
  const PackedShape shape{WeightKind::TernaryBase3, RowOrder::Gated, 100, 4};
  EXPECT_EQ(shape.panels(), 4);
  EXPECT_EQ(shape.panelsPerUnit(), 2);
  EXPECT_EQ(shape.sourceRow(79), 79);
  EXPECT_EQ(shape.sourceRow(80), 100);      // up row 0
  EXPECT_EQ(shape.sourceRow(160), 80);      // gate row 80
  EXPECT_EQ(shape.sourceRow(160 + 20), -1); // past gate's last row
  EXPECT_EQ(shape.sourceRow(240 + 19), 100 + 99);
}

TEST(Packing, GatedRowsShareALane) {
  for (WeightKind kind : {WeightKind::Ternary, WeightKind::Binary}) {
    const PackedShape shape{kind, RowOrder::Gated, 131, 8};
    EXPECT_EQ(shape.sourceRows(), 262);
    const int64_t half = shape.panelRows() / 2;
    EXPECT_EQ(shape.panels(), (131 + half - 1) / half);
    for (int64_t row = 0; row < 131; ++row) {
      const int64_t gate = shape.packedRow(row), up = shape.packedRow(131 + row);
      EXPECT_EQ(up, gate + half);
      EXPECT_EQ(shape.byteOffset(gate, 5), shape.byteOffset(up, 5));
      EXPECT_EQ(shape.bitOffset(up), shape.bitOffset(gate) + 4);
    }
  }
  // By hand: ternary panel 1 starts with gate row 32.
  const PackedShape shape{WeightKind::Ternary, RowOrder::Gated, 40, 4};
  EXPECT_EQ(shape.sourceRow(64), 32);
  EXPECT_EQ(shape.sourceRow(64 + 32), 40 + 32);
  EXPECT_EQ(shape.sourceRow(64 + 7), 39);
  EXPECT_EQ(shape.sourceRow(64 + 8), -1);
}

TEST(Packing, StreamsPanelsInOrderAndAsksEachRowOnce) {
  const PackedShape shape{WeightKind::Ternary, RowOrder::Gated, 70, 33};
  const std::vector<int8_t> codes = randomCodes(shape);
  std::map<int64_t, int> asked;
  std::vector<uint8_t> streamed;
  Packer packer(shape);
  EXPECT_TRUE(packer.pack(
      [&](int64_t row, int8_t *dst) {
        ++asked[row];
        std::memcpy(dst, codes.data() + row * 33, 33);
        return true;
      },
      [&](const uint8_t *bytes, size_t size) {
        EXPECT_EQ(size, static_cast<size_t>(shape.panelBytes()));
        streamed.insert(streamed.end(), bytes, bytes + size);
        return true;
      }));
  EXPECT_EQ(streamed, pack(shape, codes));
  EXPECT_EQ(asked.size(), 140u);
  for (const auto &[row, count] : asked)
    EXPECT_EQ(count, 1) << "row " << row;
}

TEST(Packing, StopsWhenFetchOrSinkFails) {
  const PackedShape shape{WeightKind::Binary, RowOrder::Linear, 300, 8};
  Packer packer(shape);
  int panels = 0;
  auto zeros = [](int64_t, int8_t *dst) {
    std::memset(dst, 0, 8);
    return true;
  };
  EXPECT_FALSE(packer.pack([&](int64_t row, int8_t *dst) { return zeros(row, dst) && row != 200; },
                           [&](const uint8_t *, size_t) { return ++panels > 0; }));
  EXPECT_EQ(panels, 1);
  panels = 0;
  EXPECT_FALSE(packer.pack(zeros, [&](const uint8_t *, size_t) { return ++panels < 2; }));
  EXPECT_EQ(panels, 2);
}

TEST(Packing, Scales) {
  const PackedShape shape{WeightKind::Ternary, RowOrder::Gated, 33, 256};
  const int64_t groups = 2;
  std::vector<float> scales(static_cast<size_t>(shape.scaleCount(groups)), -1.0f);
  EXPECT_EQ(scales.size(), 2u * 2 * 64);
  packScales(
      shape, groups, [](int64_t row, int64_t group) { return static_cast<float>(1 + row * 10 + group); },
      scales.data());
  // [P][G][64]: panel 0, group 1, packed row 32 is up row 0 = source row 33.
  EXPECT_EQ(scales[(0 * 2 + 1) * 64 + 32], 1 + 33 * 10 + 1);
  EXPECT_EQ(scales[(1 * 2 + 0) * 64 + 0], 1 + 32 * 10);
  EXPECT_EQ(scales[(1 * 2 + 0) * 64 + 1], 0.0f);
  EXPECT_EQ(scales[(1 * 2 + 1) * 64 + 63], 0.0f);
}

TEST(Packing, InvalidShapes) {
  const auto valid = [](int64_t rows, int64_t cols) {
    return PackedShape{WeightKind::Ternary, RowOrder::Gated, rows, cols}.isValid();
  };
  EXPECT_FALSE(valid(0, 4));
  EXPECT_FALSE(valid(4, 0));
  EXPECT_FALSE(valid(-1, 4));
  EXPECT_FALSE(valid(INT64_MAX, 1));
  EXPECT_FALSE(valid(int64_t(1) << 40, int64_t(1) << 40));
  EXPECT_TRUE(valid(128256, 14336));
}

TEST(Packing, Names) {
  EXPECT_STREQ(layoutName(WeightKind::Ternary), "r16k4f4");
  EXPECT_STREQ(layoutName(WeightKind::Binary), "r16k4f8");
  EXPECT_STREQ(layoutName(WeightKind::TernaryBase3), "r16k4t5");
  EXPECT_STREQ(layoutName(WeightKind::Bytes), "r16k4i8");
  EXPECT_STREQ(layoutName(WeightKind::TernarySigned), "r16k4s4");
}

} // namespace
