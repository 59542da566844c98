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

struct Planes {
  explicit Planes(const HeadShape &shape, const std::vector<float> &w)
      : shape(shape), codes(shape.codeBytes(), 0xee), scales(shape.scaleBytes(), 0xee), fine(shape.fineBytes(), 0xee),
        coarse(shape.paddedRows() * 3, NAN), fineRows(shape.rows * 4, NAN) {
    HeadQuantizer quantizer(shape);
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      const int64_t first = panel * HeadShape::kPanelRows;
      quantizer.quantize(panel, w.data() + first * shape.cols, codes.data() + panel * shape.panelCodeBytes(),
                         scales.data() + panel * shape.panelScaleBytes(), coarse.data() + first * 3,
                         fine.data() + first * shape.fineRowBytes(), fineRows.data() + first * 4);
    }
  }
  double coarseAt(int64_t row, int64_t k) const {
    return static_cast<double>(coarse[shape.coarseIndex(row, 0)]) *
           shape.readScale(scales.data(), row, k / HeadShape::kGroup) * shape.readCode(codes.data(), row, k);
  }
  double fineAt(int64_t row, int64_t k) const {
    return static_cast<double>(fineRows[row * 4]) * (2 * shape.readFine(fine.data(), row, k) - 3);
  }
  double firstAt(int64_t row, int64_t k) const {
    return 2.0 * fineRows[row * 4] * (2 * (shape.readFine(fine.data(), row, k) >> 1) - 1);
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
    for (int64_t cols : {1, 15, 17, 255, 300}) {
      const HeadShape shape{rows, cols};
      const std::vector<float> w = randomRows(shape);
      const Planes planes(shape, w);
      for (int64_t row = 0; row < rows; ++row) {
        double norm = 0, coarse = 0, first = 0, fine = 0;
        for (int64_t k = 0; k < cols; ++k) {
          const double value = w[row * cols + k], rest = value - planes.coarseAt(row, k);
          norm += value * value;
          coarse += rest * rest;
          first += (rest - planes.firstAt(row, k)) * (rest - planes.firstAt(row, k));
          fine += (rest - planes.fineAt(row, k)) * (rest - planes.fineAt(row, k));
        }
        const float residual = planes.coarse[shape.coarseIndex(row, 1)],
                    whole = planes.coarse[shape.coarseIndex(row, 2)];
        EXPECT_GE(residual, std::sqrt(coarse));
        EXPECT_LE(residual, std::sqrt(coarse) * 1.00001 + 1e-30);
        EXPECT_GE(whole, std::sqrt(norm));
        EXPECT_LE(whole, std::sqrt(norm) * 1.00001);
        const float *described = planes.fineRows.data() + row * 4;
        for (auto [bound, squares] : {std::pair(described[1], first), std::pair(described[2], fine)}) {
          EXPECT_GE(bound, std::sqrt(squares));
          EXPECT_LE(bound, std::sqrt(squares) * 1.00001 + 1e-30);
          EXPECT_LE(bound, residual);
        }
        EXPECT_EQ(described[3], whole);
        EXPECT_LE(residual, whole);
        // Four bits and two more: what the choice of the next token is fast by.
        if (cols >= 255) {
          EXPECT_LT(residual, 0.11 * whole);
          EXPECT_LT(described[1], 0.65 * residual);
          EXPECT_LT(described[2], 0.45 * residual);
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
    EXPECT_EQ(planes.fineRows[row * 4], 0.0f) << row;
    EXPECT_EQ(planes.fineRows[row * 4 + 1], planes.fineRows[row * 4 + 2]) << row;
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
  EXPECT_EQ(shape.fineRowBytes(), 640);
}

} // namespace
