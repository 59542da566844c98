//===- HeadQuantizerTest.cpp - scan planes ------------------------*- C++ -*-===//
//
// What the planes say of a row, measured again from the planes as a reader sees them.
//
//===----------------------------------------------------------------------===//

#include "lib/Weights/HeadQuantizer.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <random>

using setun::HeadQuantizer;
using setun::packing::HeadShape;

namespace {

constexpr int64_t kFloats = HeadShape::kFineFloats, kStages = HeadShape::kStages;

struct Planes {
  explicit Planes(const HeadShape &shape, const std::vector<float> &w)
      : shape(shape), codes(shape.codeBytes(), 0xee), scales(shape.scaleBytes(), 0xee), fine(shape.fineBytes(), 0xee),
        coarse(shape.paddedRows() * 3, NAN), fineRows(shape.rows * kFloats, NAN) {
    HeadQuantizer quantizer(shape);
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      const int64_t first = panel * HeadShape::kPanelRows;
      quantizer.quantize(panel, w.data() + first * shape.cols, codes.data() + panel * shape.panelCodeBytes(),
                         scales.data() + panel * shape.panelScaleBytes(), coarse.data() + first * 3,
                         fine.data() + first * shape.fineBitBytes(), fineRows.data() + first * kFloats);
    }
  }
  double coarseAt(int64_t row, int64_t k) const {
    return static_cast<double>(coarse[shape.coarseIndex(row, 0)]) *
           shape.readScale(scales.data(), row, k / HeadShape::kGroup) * shape.readCode(codes.data(), row, k);
  }
  double fineAt(int64_t row, int64_t k) const {
    return static_cast<double>(fineRows[row * kFloats]) * (2 * shape.readFine(fine.data(), row, k) - 3);
  }
  double firstAt(int64_t row, int64_t k) const {
    return 2.0 * fineRows[row * kFloats] * (2 * (shape.readFine(fine.data(), row, k) >> 1) - 1);
  }

  HeadShape shape;
  std::vector<uint8_t> codes, scales, fine;
  std::vector<float> coarse, fineRows;
};

std::vector<float> randomRows(const HeadShape &shape) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> w(shape.rows * shape.cols);
  for (float &value : w)
    value = normal(random);
  return w;
}

TEST(HeadQuantizer, BoundsHoldAndAreClose) {
  for (int64_t rows : {1, 31, 33, 70})
    for (int64_t cols : {1, 15, 17, 255, 300, 1025, 2600}) {
      const HeadShape shape{rows, cols};
      const std::vector<float> w = randomRows(shape);
      const Planes planes(shape, w);
      for (int64_t row = 0; row < rows; ++row) {
        double norm = 0, coarse = 0, stages[kStages] = {}, fine = 0;
        for (int64_t k = 0; k < cols; ++k) {
          const double value = w[row * cols + k], rest = value - planes.coarseAt(row, k);
          norm += value * value;
          coarse += rest * rest;
          for (int64_t stage = 0; stage < kStages; ++stage) {
            const double left = k < shape.stageCols(stage) ? rest - planes.firstAt(row, k) : rest;
            stages[stage] += left * left;
          }
          fine += (rest - planes.fineAt(row, k)) * (rest - planes.fineAt(row, k));
        }
        const float residual = planes.coarse[shape.coarseIndex(row, 1)],
                    whole = planes.coarse[shape.coarseIndex(row, 2)];
        EXPECT_GE(residual, std::sqrt(coarse));
        EXPECT_LE(residual, std::sqrt(coarse) * 1.00001 + 1e-30);
        EXPECT_GE(whole, std::sqrt(norm));
        EXPECT_LE(whole, std::sqrt(norm) * 1.00001);
        const float *described = planes.fineRows.data() + row * kFloats, *all = described + kStages;
        for (int64_t what = 1; what <= kStages + 1; ++what) {
          const double squares = what <= kStages ? stages[what - 1] : fine;
          EXPECT_GE(described[what], std::sqrt(squares));
          EXPECT_LE(described[what], std::sqrt(squares) * 1.00001 + 1e-30);
        }
        for (float bound : {all[0], all[1]})
          EXPECT_LE(bound, residual);
        EXPECT_EQ(all[2], whole);
        EXPECT_LE(residual, whole);
        // Four bits and two more: what the choice of the next token is fast by.
        if (cols >= 255) {
          EXPECT_LT(residual, 0.11 * whole);
          EXPECT_LT(all[0], 0.65 * residual);
          EXPECT_LT(all[1], 0.45 * residual);
        }
      }
    }
}

TEST(HeadQuantizer, LargestElementIsExact) {
  const HeadShape shape{2, 16};
  std::vector<float> w = randomRows(shape);
  w[5] = 100.0f;
  w[16 + 7] = -100.0f;
  const Planes planes(shape, w);
  EXPECT_EQ(planes.coarseAt(0, 5), 100.0);
  EXPECT_EQ(planes.coarseAt(1, 7), -100.0);
}

TEST(HeadQuantizer, RowsThatCannotBeApproximated) {
  const float infinity = std::numeric_limits<float>::infinity();
  const HeadShape shape{6, 20};
  std::vector<float> w = randomRows(shape);
  std::fill_n(w.begin(), 20, 0.0f);
  w[20 + 3] = NAN;
  w[40 + 3] = -infinity;
  for (int64_t k = 0; k < 20; ++k) {
    w[60 + k] *= 1e30f;
    w[80 + k] *= 1e-42f;
  }
  const Planes planes(shape, w);
  for (int64_t row : {0, 1, 2, 3, 4}) {
    EXPECT_EQ(planes.coarse[shape.coarseIndex(row, 0)], 0.0f) << row;
    EXPECT_EQ(planes.fineRows[row * kFloats], 0.0f) << row;
    for (int64_t what = 1; what <= kStages + 1; ++what)
      EXPECT_EQ(planes.fineRows[row * kFloats + what], planes.fineRows[row * kFloats + kStages + 2]) << row;
    EXPECT_EQ(planes.coarse[shape.coarseIndex(row, 1)], planes.coarse[shape.coarseIndex(row, 2)]) << row;
    EXPECT_EQ(std::isinf(planes.coarse[shape.coarseIndex(row, 2)]), row >= 1 && row <= 3) << row;
  }
  EXPECT_NE(planes.coarse[shape.coarseIndex(5, 0)], 0.0f);
  // Rows beside those are as they are alone.
  const HeadShape alone{1, 20};
  const Planes one(alone, std::vector<float>(w.end() - 20, w.end()));
  for (int64_t k = 0; k < 20; ++k)
    EXPECT_EQ(planes.coarseAt(5, k), one.coarseAt(0, k));
}

TEST(HeadQuantizer, PaddingIsZero) {
  const HeadShape shape{33, 5};
  const Planes planes(shape, randomRows(shape));
  for (int64_t row = 33; row < shape.paddedRows(); ++row)
    for (int64_t what = 0; what < 3; ++what)
      EXPECT_EQ(planes.coarse[shape.coarseIndex(row, what)], 0.0f);
  for (int64_t row = 0; row < 33; ++row)
    for (int64_t k = 5; k < 16; ++k)
      EXPECT_EQ(shape.readCode(planes.codes.data(), row, k), 0);
}

TEST(HeadQuantizer, Shapes) {
  EXPECT_TRUE((HeadShape{128256, 2560}.isValid()));
  EXPECT_FALSE((HeadShape{0, 16}.isValid()));
  EXPECT_FALSE((HeadShape{16, 0}.isValid()));
  EXPECT_FALSE((HeadShape{16, HeadShape::kMaxCols + 1}.isValid()));
  const HeadShape shape{128256, 2560};
  EXPECT_EQ(shape.codeBytes(), 128256 * 1280);
  EXPECT_EQ(shape.scaleBytes(), 128256 * 80);
  EXPECT_EQ(shape.fineBitBytes(), 320);
  const HeadShape small{3, 1100};
  const int64_t ends[2][kStages] = {{512, 1024, 1536, 2048, 2560}, {512, 1024, 1024, 1100, 1100}};
  for (int64_t stage = 0; stage < kStages; ++stage) {
    EXPECT_EQ(shape.stageCols(stage), ends[0][stage]);
    EXPECT_EQ(small.stageCols(stage), ends[1][stage]);
  }
}

} // namespace
