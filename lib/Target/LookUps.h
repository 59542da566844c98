//===- LookUps.h - sums of products from tables ------------------------*- C++ -*-===//
#ifndef SETUN_LIB_TARGET_LOOKUPS_H
#define SETUN_LIB_TARGET_LOOKUPS_H

#include "setun/Packing.h"

#include <algorithm>

namespace setun {

/// How the codes of a few columns become an index into a table of the sums that a token's activations there can give,
/// and the blocks in which a matrix is worked on. Columns of a table stand at the same place of successive steps, so a
/// byte of 64 is the index of its row of weights, and a step of the table is `depth` steps of K.
struct LookUpShape {
  /// Entries of a table, in words of a vector.
  static constexpr int64_t kEntries = 32;
  /// Steps of the table for which sums of 16 bits add up, and which tables and indices are made for at a time: tables
  /// of a tile of tokens stay in the first cache.
  static constexpr int64_t kSteps = 20;
  // Two look-ups a step, of three codes up to 2 or of five up to 1 (Kernels.def).
  static_assert(2 * kSteps * 3 * 2 * 128 <= 32767 && 2 * kSteps * 5 * 1 * 128 <= 32767, "sums would wrap");
  /// Tokens for which indices are made once, and rows of weights for which tables are made once: indices stay in the
  /// second cache.
  static constexpr int64_t kTokens = 256, kRows = 2560;

  /// For a matrix of so many panels.
  LookUpShape(packing::WeightKind kind, int64_t matrixPanels) {
    const bool binary = kind == packing::WeightKind::Binary;
    radix = binary ? 2 : 3;
    depth = binary ? 5 : 3;
    fields = packing::fieldsPerByte(kind);
    fieldsAtOnce = fields == 5 ? 5 : 4;
    tile = fields == 5 ? 4 : 5;
    panels = std::min(kRows / packing::panelRowsOf(kind), matrixPanels);
  }

  int64_t radix, depth; ///< codes of a field, and columns of a table
  int64_t fields;
  int64_t fieldsAtOnce, tile; ///< fields and tokens whose accumulators, with indices, tables and sums, registers hold
  int64_t panels;             ///< of a block of rows

  // Memory of a thread: indices, and a vector that is read past them, tables and sums, in this order.
  int64_t indexBytes() const { return (panels * fields * kSteps + 1) * packing::kBlockBytes; }
  int64_t tableBytes() const { return tile * kSteps * packing::kStep * kEntries * 2; }
  int64_t tiles() const { return packing::ceilDiv(kTokens, tile); }
  int64_t sumBytes() const { return tiles() * panels * tile * fields * packing::kLanes * 4; }
  int64_t bytes() const { return indexBytes() + tableBytes() + sumBytes(); }
};

} // namespace setun

#endif // SETUN_LIB_TARGET_LOOKUPS_H
