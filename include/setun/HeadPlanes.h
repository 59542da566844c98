//===- HeadPlanes.h - layout of a head's scan planes ------------*- C++ -*-===//
//
// Where the largest of many dot products with rows w_r (N x K, full precision) are looked for, the rows are kept a
// second time in few bits: a coarse plane of four bits, which is read as a whole, and two more bits, of which single
// rows are read: a first bit, and for few of these rows a second.
//
//     coarse: w_r[k] ~ step_r * scale_r[g] * code_r[k]            g = k / 16, scale and code in -8 .. 7
//     first:  w_r[k] ~ coarse + 2 * delta_r * (2 * first_r[k] - 1)
//     fine:   w_r[k] ~ coarse + delta_r * (2 * fine_r[k] - 3)     fine = 2 * first + second, in 0 .. 3
//
// Codes, coarse: a panel is 32 rows = 2 fields x 16 lanes; P = ceil(N / 32), G = ceil(K / 16);
//
//     byte((p*G*4 + kb)*64 + lane*4 + kk), bits 4f, 4f+1, ..  =  code(row p*32 + f*16 + lane, k = kb*4 + kk) + 8
//
// Scales: byte((p*G + g)*16 + lane), bits 4f, ..  =  scale(row p*32 + f*16 + lane, g) & 15.
// Coarse rows: float32 [P][3][32]: step, bound of the residual's norm, bound of the row's norm.
// Codes, fine, first the first bits of all rows, then the second bits, row by row in B = ceil(K / 512) blocks of 64
// bytes, for where most rows are asked, that is one stream:
//
//     byte((bit*N + r)*B*64 + b*64 + j), bit f  =  first or second(r, k = b*512 + f*64 + j)
//
// Fine rows: float32 [N][8]: delta, bounds of the residual's norm with the first bits of the columns of each of five
// stages (the last: all), and with both bits, bound of the row's norm. A stage is a fifth of the blocks more, rounded
// up: most rows need not be read to their end. Where more than half of a block of 2,048 rows are in question by the
// coarse plane, stages would leave out less than they take, and all first bits are read at once.
// Padding rows have step 0 and bounds 0; padding columns code 0 (stored 8) and fine 0.
//
// The norms' bounds are l2 norms, rounded upward; a row that cannot be approximated (an infinity, NaN, a norm beyond
// 2^20) has infinite bounds and zero steps.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_HEADPLANES_H
#define SETUN_HEADPLANES_H

#include <cstdint>

namespace setun {
namespace packing {

struct HeadShape {
  static constexpr int64_t kLanes = 16;
  static constexpr int64_t kPanelRows = 32;
  static constexpr int64_t kGroup = 16;
  static constexpr int64_t kFineBlock = 512;
  /// Stages in which a row's first bits are read.
  static constexpr int64_t kStages = 5;
  /// Floats of a row's description; places in that of the fine plane: delta, then the residual of each stage.
  static constexpr int64_t kCoarseFloats = 3, kFineFloats = kStages + 3;
  static constexpr int64_t kStageResiduals = 1, kBothResidual = kStageResiduals + kStages, kNorm = kBothResidual + 1;
  /// Rows of a block, and how many of them may be in question for their first bits to be read in stages.
  static constexpr int64_t kBlockPanels = 64, kBlockRows = kBlockPanels * kPanelRows, kMostInStages = kBlockRows / 2;
  /// Largest K: sums of 16 products of codes in [-8, 7] and [-127, 127] times a scale of up to 8, and squares of 127,
  /// fit int32.
  static constexpr int64_t kMaxCols = int64_t(1) << 16;

  int64_t rows = 0;
  int64_t cols = 0;

  constexpr bool isValid() const { return rows > 0 && rows <= (int64_t(1) << 31) && cols > 0 && cols <= kMaxCols; }
  constexpr int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  constexpr int64_t rowBlocks() const { return (panels() + kBlockPanels - 1) / kBlockPanels; }
  constexpr int64_t paddedRows() const { return panels() * kPanelRows; }
  constexpr int64_t groups() const { return (cols + kGroup - 1) / kGroup; }
  constexpr int64_t steps() const { return groups() * 4; }
  constexpr int64_t panelCodeBytes() const { return steps() * 64; }
  constexpr int64_t panelScaleBytes() const { return groups() * kLanes; }
  constexpr int64_t codeBytes() const { return panels() * panelCodeBytes(); }
  constexpr int64_t scaleBytes() const { return panels() * panelScaleBytes(); }
  constexpr int64_t fineBlocks() const { return (cols + kFineBlock - 1) / kFineBlock; }
  /// Of all first bits of a row, or all second ones; second bits are secondBitsOffset() behind the first.
  constexpr int64_t fineBitBytes() const { return fineBlocks() * 64; }
  constexpr int64_t secondBitsOffset() const { return rows * fineBitBytes(); }
  /// Blocks whose first bits are read by the end of a stage, and the columns in them.
  constexpr int64_t stageBlocks(int64_t stage) const { return (fineBlocks() * (stage + 1) + kStages - 1) / kStages; }
  constexpr int64_t stageCols(int64_t stage) const {
    const int64_t end = stageBlocks(stage) * kFineBlock;
    return end < cols ? end : cols;
  }
  constexpr int64_t fineBytes() const { return 2 * rows * fineBitBytes(); }
  /// Columns of a vector that is multiplied: zeros beyond K.
  constexpr int64_t paddedCols() const { return fineBlocks() * kFineBlock; }
  /// Of the rows' descriptions.
  constexpr int64_t coarseRowsBytes() const { return paddedRows() * kCoarseFloats * 4; }
  constexpr int64_t fineRowsBytes() const { return rows * kFineFloats * 4; }

  int readCode(const uint8_t *codes, int64_t row, int64_t k) const {
    const int64_t at = (row / kPanelRows * steps() + k / 4) * 64 + row % kLanes * 4 + k % 4;
    return (codes[at] >> field(row) & 15) - 8;
  }
  int readScale(const uint8_t *scales, int64_t row, int64_t group) const {
    const int value = scales[(row / kPanelRows * groups() + group) * kLanes + row % kLanes] >> field(row) & 15;
    return value < 8 ? value : value - 16;
  }
  int readFine(const uint8_t *fine, int64_t row, int64_t k) const {
    const uint8_t *first = fine + row * fineBitBytes() + k / kFineBlock * 64 + k % 64;
    const uint8_t *second = first + secondBitsOffset();
    const int64_t field = k % kFineBlock / 64;
    return (*first >> field & 1) * 2 + (*second >> field & 1);
  }
  /// Index of a row's value `what` (0 step, 1 residual, 2 norm) in the description of the coarse plane.
  constexpr int64_t coarseIndex(int64_t row, int64_t what) const {
    return (row / kPanelRows * kCoarseFloats + what) * kPanelRows + row % kPanelRows;
  }

private:
  static constexpr int field(int64_t row) { return row % kPanelRows < kLanes ? 0 : 4; }
};

} // namespace packing
} // namespace setun

#endif // SETUN_HEADPLANES_H
