//===- Packing.h - byte layouts of packed weights ---------------*- C++ -*-===//
//
// The one definition of how ternary, binary and dense weights lie in a package. The compiler's folds, the tests and any
// tool that looks into a package use this header, so no second packing loop exists. Standard library only.
//
// All positions are counted in "packed rows" 0 .. paddedRows-1, cut into panels of panelRows rows. Which row of the
// source matrix stands at a packed row is the row order's business (see RowOrder). All values are little-endian.
//
// Ternary in two bits, layout name "r16k4f4": a panel is 64 rows = 4 fields x 16 lanes; K runs in steps of 4.
//
//     KB = ceil(K / 4),  P = ceil(N / 64)
//     byte((p*KB + kb)*64 + lane*4 + kk), bits 2f and 2f+1  =  code(row p*64 + f*16 + lane, k = kb*4 + kk) + 1
//
// with codes -1, 0, +1. Rows and columns past the matrix hold code 0, hence stored bits 01: they add nothing to any dot
// product with codes, while a kernel that multiplies the stored 0..2 and subtracts the sum of the activations stays
// right provided that the activations past K are zero. Sixteen lanes of four consecutive k fill one 64-byte vector in
// the order that a four-way int8 dot product (vpdpbusd, sdot, dp4a) wants, for each of the four fields.
//
// Binary, layout name "r16k4f8": a panel is 128 rows = 8 fields x 16 lanes.
//
//     KB = ceil(K / 4),  P = ceil(N / 128)
//     byte((p*KB + kb)*64 + lane*4 + kk), bit f  =  weight(row p*128 + f*16 + lane, k = kb*4 + kk) > 0
//
// with weights -1, +1. Padding bits are 0.
//
// Ternary in base 3, layout name "r16k4t5": 1.6 bits a weight. A panel is 80 rows = 5 trits x 16 lanes.
//
//     KB = ceil(K / 4),  P = ceil(N / 80)
//     byte((p*KB + kb)*64 + lane*4 + kk)  =  sum over f < 5 of place_f * (code(row p*80 + f*16 + lane, kb*4 + kk) + 1)
//
// with places 1, 3, 9, 28, 84, so bytes are 0 .. 250. As 28 is a multiple of four, the upper two trits follow from the
// byte's upper six bits, and a look-up among 64 bytes finds them. Padding holds code 0. A byte b mixes the trits of
// five rows at the same k; kernels do not take it apart but sum five linear functions of its trits, and solve for the
// rows once at the end (passes/TileMatmul.cpp).
//
// Bytes, layout name "r16k4i8": 8-bit codes, -128 .. 127, one a byte. A panel is 16 rows.
//
//     KB = ceil(K / 4),  P = ceil(N / 16)
//     byte((p*KB + kb)*64 + lane*4 + kk)  =  code(row p*16 + lane, k = kb*4 + kk) + 128
//
// Padding holds code 0.
//
// Ternary in two bits with a signed top field, layout name "r16k4s4": bytes of r16k4f4 less 64, modulo 256. The top
// field is then the code itself in two's complement, and a byte read as a signed number is a linear function of its
// fields: what a signed four-way dot product (sdot) wants.
//
// Scales: float32 [P][G][panelRows] in packed row order, G = number of groups along K (1 when not grouped); padding 0.
//
//===----------------------------------------------------------------------===//

#ifndef SETUN_PACKING_H
#define SETUN_PACKING_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace setun {
namespace packing {

/// Lanes of a panel: rows that share a bit field.
constexpr int64_t kLanes = 16;
/// Consecutive k of a row that stand in consecutive bytes.
constexpr int64_t kStep = 4;
/// Bytes of one (panel, step of K) block.
constexpr int64_t kBlockBytes = kLanes * kStep;

enum class WeightKind : uint8_t {
  Ternary,       ///< codes -1, 0, +1 in two bits ("r16k4f4")
  Binary,        ///< codes -1, +1 in one bit ("r16k4f8")
  TernaryBase3,  ///< codes -1, 0, +1, five in a byte in base 3 ("r16k4t5")
  Bytes,         ///< codes -128 .. 127 ("r16k4i8")
  TernarySigned, ///< as Ternary, the top field in two's complement ("r16k4s4")
};

/// Codes of two bits.
constexpr bool hasTwoBits(WeightKind kind) { return kind == WeightKind::Ternary || kind == WeightKind::TernarySigned; }
/// What bytes of TernarySigned are less than those of Ternary.
constexpr unsigned kSignedOffset = 64;

enum class RowOrder : uint8_t {
  /// Packed row i is source row i.
  Linear,
  /// Two matrices gate[F x K] and up[F x K], taken as one source of 2F rows (gate's first): with H = panelRows / 2, the
  /// first H rows of panel p are gate rows p*H .. p*H+H-1 and the last H rows are up rows of the same numbers. A gate
  /// row and its up row share a lane and differ only in the field, so act(gate) * up needs no shuffle. Where a panel
  /// has
  /// an odd number of fields, panels take turns: panel 2p holds panelRows gate rows, panel 2p + 1 the up rows of the
  /// same numbers.
  Gated,
};

/// Rows that share a byte.
constexpr int64_t fieldsPerByte(WeightKind kind) {
  switch (kind) {
  case WeightKind::Ternary:
  case WeightKind::TernarySigned:
    return 4;
  case WeightKind::Binary:
    return 8;
  case WeightKind::TernaryBase3:
    return 5;
  case WeightKind::Bytes:
    return 1;
  }
  return 1;
}
/// Bits of a field; 0 where fields are trits and not bits.
constexpr int64_t bitsPerField(WeightKind kind) {
  return kind == WeightKind::TernaryBase3 ? 0 : 8 / fieldsPerByte(kind);
}
/// Rows of a panel: 64 (ternary), 128 (binary), 80 (base 3), 16 (bytes).
constexpr int64_t panelRowsOf(WeightKind kind) { return kLanes * fieldsPerByte(kind); }
/// Name used in attributes and manifests.
constexpr const char *layoutName(WeightKind kind) {
  switch (kind) {
  case WeightKind::Ternary:
    return "r16k4f4";
  case WeightKind::Binary:
    return "r16k4f8";
  case WeightKind::TernaryBase3:
    return "r16k4t5";
  case WeightKind::Bytes:
    return "r16k4i8";
  case WeightKind::TernarySigned:
    return "r16k4s4";
  }
  return "";
}
/// What is stored for code 0 of ternary and 8-bit weights; binary weights have no such code.
constexpr int64_t zeroPoint(WeightKind kind) { return kind == WeightKind::Bytes ? 128 : 1; }
/// 3^i.
constexpr unsigned powerOf3(int64_t i) { return i <= 0 ? 1u : 3u * powerOf3(i - 1); }
/// What the trit of field i counts in a byte in base 3.
constexpr unsigned tritPlace(int64_t i) { return i < 3 ? powerOf3(i) : 28u * powerOf3(i - 3); }
/// The largest sum of the trits below field i: that of all for 5.
constexpr unsigned largestTrits(int64_t i) { return i <= 0 ? 0u : largestTrits(i - 1) + 2u * tritPlace(i - 1); }

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/// Sizes and positions of one packed matrix.
struct PackedShape {
  WeightKind kind = WeightKind::Ternary;
  RowOrder order = RowOrder::Linear;
  /// Linear: rows N of the matrix. Gated: rows F of each of the two matrices.
  int64_t rows = 0;
  /// K, the number of inputs.
  int64_t cols = 0;

  /// True if all sizes below are positive and fit in int64_t. Check it before using sizes that come from outside.
  constexpr bool isValid() const {
    constexpr int64_t limit = int64_t(1) << 40;
    return rows > 0 && cols > 0 && rows <= limit && cols <= limit && rows <= (int64_t(1) << 58) / cols;
  }

  constexpr int64_t fields() const { return fieldsPerByte(kind); }
  constexpr int64_t panelRows() const { return panelRowsOf(kind); }
  /// Gated, with gate and up in panels of their own.
  constexpr bool alternates() const { return order == RowOrder::Gated && fields() % 2 != 0; }
  /// Panels that belong together: those which one piece of output comes from.
  constexpr int64_t panelsPerUnit() const { return alternates() ? 2 : 1; }
  /// Rows of each source matrix that one unit takes.
  constexpr int64_t rowsPerUnit() const {
    return order == RowOrder::Gated && !alternates() ? panelRows() / 2 : panelRows();
  }
  /// P.
  constexpr int64_t panels() const { return ceilDiv(rows, rowsPerUnit()) * panelsPerUnit(); }
  /// KB.
  constexpr int64_t kBlocks() const { return ceilDiv(cols, kStep); }
  constexpr int64_t panelBytes() const { return kBlocks() * kBlockBytes; }
  constexpr int64_t bytes() const { return panels() * panelBytes(); }
  /// Packed rows with padding.
  constexpr int64_t paddedRows() const { return panels() * panelRows(); }
  /// Rows of the source: N, or 2F for gated.
  constexpr int64_t sourceRows() const { return order == RowOrder::Gated ? 2 * rows : rows; }

  /// Source row at a packed row, -1 for padding. Gated: 0 .. F-1 are gate's rows, F .. 2F-1 are up's.
  constexpr int64_t sourceRow(int64_t packedRow) const {
    if (order == RowOrder::Linear)
      return packedRow < rows ? packedRow : -1;
    const int64_t part = rowsPerUnit(); // gate's rows of a unit, then up's
    const int64_t inUnit = packedRow % (2 * part);
    const int64_t row = packedRow / (2 * part) * part + inUnit % part;
    if (row >= rows)
      return -1;
    return inUnit < part ? row : rows + row;
  }

  /// Packed row of a source row; inverse of sourceRow.
  constexpr int64_t packedRow(int64_t sourceRow) const {
    if (order == RowOrder::Linear)
      return sourceRow;
    const int64_t part = rowsPerUnit();
    const bool up = sourceRow >= rows;
    const int64_t row = up ? sourceRow - rows : sourceRow;
    return row / part * (2 * part) + (up ? part : 0) + row % part;
  }

  /// Offset of the byte that holds (packedRow, k); k may be any column below kBlocks()*4.
  constexpr int64_t byteOffset(int64_t packedRow, int64_t k) const {
    return (packedRow / panelRows() * kBlocks() + k / kStep) * kBlockBytes + packedRow % kLanes * kStep + k % kStep;
  }
  /// Field of a packed row in that byte.
  constexpr int64_t fieldOf(int64_t packedRow) const { return packedRow % panelRows() / kLanes; }
  /// Lowest bit of that field; 0 where fields are trits.
  constexpr int64_t bitOffset(int64_t packedRow) const { return fieldOf(packedRow) * bitsPerField(kind); }

  /// Elements of the scales array for `groups` groups along K.
  constexpr int64_t scaleCount(int64_t groups) const { return panels() * groups * panelRows(); }
  /// Index of a row's scale in the scales array.
  constexpr int64_t scaleIndex(int64_t groups, int64_t packedRow, int64_t group) const {
    return panelScaleIndex(groups, packedRow, group) * panelRows() + packedRow % panelRows();
  }
  /// Index of the scale of (packedRow, group) where all rows of a panel share one.
  constexpr int64_t panelScaleIndex(int64_t groups, int64_t packedRow, int64_t group) const {
    return packedRow / panelRows() * groups + group;
  }
};

/// Code at (packedRow, k) of a packed matrix: -1, 0, +1 (ternary; the invalid bits 11 read as 2), -1, +1 (binary) or
/// any (bytes).
inline int8_t readCode(const PackedShape &shape, const uint8_t *packed, int64_t packedRow, int64_t k) {
  unsigned byte = packed[shape.byteOffset(packedRow, k)];
  if (shape.kind == WeightKind::Bytes)
    return static_cast<int8_t>(static_cast<int>(byte) - 128);
  if (shape.kind == WeightKind::TernarySigned)
    byte = (byte + kSignedOffset) & 255u;
  if (shape.kind == WeightKind::TernaryBase3) {
    byte -= byte / tritPlace(3); // places 27 and 81 for 28 and 84
    return static_cast<int8_t>(static_cast<int>(byte / powerOf3(shape.fieldOf(packedRow)) % 3) - 1);
  }
  const unsigned bits = byte >> shape.bitOffset(packedRow);
  if (hasTwoBits(shape.kind))
    return static_cast<int8_t>(static_cast<int>(bits & 3u) - 1);
  return (bits & 1u) ? int8_t(1) : int8_t(-1);
}

/// Replaces the code at (packedRow, k).
inline void writeCode(const PackedShape &shape, uint8_t *packed, int64_t packedRow, int64_t k, int8_t code) {
  if (shape.kind == WeightKind::Bytes) {
    packed[shape.byteOffset(packedRow, k)] = static_cast<uint8_t>(code + 128);
    return;
  }
  if (shape.kind == WeightKind::TernaryBase3) {
    const int change = code - readCode(shape, packed, packedRow, k);
    uint8_t &byte = packed[shape.byteOffset(packedRow, k)];
    byte = static_cast<uint8_t>(byte + change * static_cast<int>(tritPlace(shape.fieldOf(packedRow))));
    return;
  }
  const int64_t shift = shape.bitOffset(packedRow);
  const unsigned mask = hasTwoBits(shape.kind) ? 3u : 1u;
  const unsigned value = hasTwoBits(shape.kind) ? static_cast<unsigned>(code + 1) & 3u : code > 0;
  const unsigned offset = shape.kind == WeightKind::TernarySigned ? kSignedOffset : 0u;
  uint8_t &byte = packed[shape.byteOffset(packedRow, k)];
  byte = static_cast<uint8_t>((((byte + offset) & ~(mask << shift)) | (value << shift)) - offset);
}

/// Packs a matrix panel by panel. Holds one panel's worth of scratch (16*K bytes and a row), whatever the matrix.
class Packer {
public:
  explicit Packer(const PackedShape &shape)
      : theShape(shape), paddedCols(shape.kBlocks() * kStep), row(paddedCols), lanes(kLanes * paddedCols) {}

  const PackedShape &shape() const { return theShape; }

  /// Packs panel `panel` into out[0 .. panelBytes).
  /// `fetch(int64_t sourceRow, int8_t *codes) -> bool` writes the K codes of a source row (ternary -1, 0, +1; binary
  /// -1, +1, or 0 for -1; bytes any) and returns false to give up. Rows are asked for field by field for each lane,
  /// each row once; padding rows are not asked for. Returns false if a fetch did; out is then unspecified.
  template <typename Fetch> bool packPanel(int64_t panel, Fetch &&fetch, uint8_t *out) {
    const WeightKind kind = theShape.kind;
    const int64_t fields = theShape.fields();
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      uint8_t *acc = lanes.data() + lane * paddedCols;
      // Horner's rule over the fields, highest first: bytes are only ever added, which vectorises everywhere.
      std::memset(acc, 0, static_cast<size_t>(paddedCols));
      for (int64_t field = fields - 1; field >= 0; --field) {
        const int64_t source = theShape.sourceRow(panel * theShape.panelRows() + field * kLanes + lane);
        if (source >= 0 && !fetch(source, row.data()))
          return false;
        if (kind == WeightKind::Bytes)
          accumulate<1>(acc, source >= 0);
        else if (hasTwoBits(kind))
          accumulate<4>(acc, source >= 0);
        else if (kind == WeightKind::TernaryBase3)
          accumulate<3>(acc, source >= 0);
        else
          accumulate<2>(acc, source >= 0);
      }
      if (kind != WeightKind::Binary) {
        // Adds the zero point to all fields at once. Bytes were taken modulo 256 until here.
        const unsigned zeros = kind == WeightKind::Ternary         ? 0x55u
                               : kind == WeightKind::TernarySigned ? 0x55u - kSignedOffset
                               : kind == WeightKind::TernaryBase3  ? 1u + 3u + 9u + 27u + 81u
                                                                   : 128u;
        for (int64_t k = 0; k < paddedCols; ++k)
          acc[k] = static_cast<uint8_t>(acc[k] + zeros);
      }
      if (kind == WeightKind::TernaryBase3) // places 28 and 84 for 27 and 81
        for (int64_t k = 0; k < paddedCols; ++k)
          acc[k] = static_cast<uint8_t>(acc[k] + acc[k] / 27u);
    }
    const int64_t kBlocks = theShape.kBlocks();
    for (int64_t kb = 0; kb < kBlocks; ++kb)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        std::memcpy(out + kb * kBlockBytes + lane * kStep, lanes.data() + lane * paddedCols + kb * kStep, kStep);
    return true;
  }

  /// Packs all panels in order; `sink(const uint8_t *bytes, size_t size) -> bool` takes each one. Returns false as soon
  /// as a fetch or the sink does.
  template <typename Fetch, typename Sink> bool pack(Fetch &&fetch, Sink &&sink) {
    std::vector<uint8_t> panelBuffer(static_cast<size_t>(theShape.panelBytes()));
    for (int64_t panel = 0; panel < theShape.panels(); ++panel)
      if (!packPanel(panel, fetch, panelBuffer.data()) ||
          !sink(static_cast<const uint8_t *>(panelBuffer.data()), panelBuffer.size()))
        return false;
    return true;
  }

private:
  /// acc = acc * Radix + (this field's contribution), modulo 256.
  template <unsigned Radix> void accumulate(uint8_t *acc, bool present) {
    const int64_t cols = theShape.cols;
    const int8_t *codes = row.data();
    int64_t k = 0;
    if (present) {
      if (Radix != 2) {
        for (; k < cols; ++k)
          acc[k] = static_cast<uint8_t>(acc[k] * Radix + static_cast<uint8_t>(codes[k]));
      } else {
        for (; k < cols; ++k)
          acc[k] = static_cast<uint8_t>(acc[k] * 2u + (codes[k] > 0 ? 1u : 0u));
      }
    }
    for (; k < paddedCols; ++k)
      acc[k] = static_cast<uint8_t>(acc[k] * Radix);
  }

  PackedShape theShape;
  int64_t paddedCols;
  std::vector<int8_t> row;
  std::vector<uint8_t> lanes;
};

/// Packs a whole matrix into out[0 .. shape.bytes()); see Packer::packPanel for `fetch`.
template <typename Fetch> bool packRows(const PackedShape &shape, Fetch &&fetch, uint8_t *out) {
  Packer packer(shape);
  for (int64_t panel = 0; panel < shape.panels(); ++panel)
    if (!packer.packPanel(panel, fetch, out + panel * shape.panelBytes()))
      return false;
  return true;
}

/// Packs codes[sourceRows][K].
inline void packCodes(const PackedShape &shape, const int8_t *codes, uint8_t *out) {
  packRows(
      shape,
      [&](int64_t sourceRow, int8_t *dst) {
        std::memcpy(dst, codes + sourceRow * shape.cols, static_cast<size_t>(shape.cols));
        return true;
      },
      out);
}

/// Inverse of packCodes: writes codes[sourceRows][K].
inline void unpackCodes(const PackedShape &shape, const uint8_t *packed, int8_t *codes) {
  for (int64_t source = 0; source < shape.sourceRows(); ++source) {
    const int64_t packedRow = shape.packedRow(source);
    for (int64_t k = 0; k < shape.cols; ++k)
      codes[source * shape.cols + k] = readCode(shape, packed, packedRow, k);
  }
}

/// Fills out[0 .. scaleCount(groups)) from `fetch(int64_t sourceRow, int64_t group) -> float`; padding rows get 0.
template <typename Fetch> void packScales(const PackedShape &shape, int64_t groups, Fetch &&fetch, float *out) {
  for (int64_t packedRow = 0; packedRow < shape.paddedRows(); ++packedRow) {
    const int64_t source = shape.sourceRow(packedRow);
    for (int64_t group = 0; group < groups; ++group)
      out[shape.scaleIndex(groups, packedRow, group)] = source >= 0 ? fetch(source, group) : 0.0f;
  }
}

/// Rows of a cache that lie together where a cache is blocked (below). Session state is allocated as for a multiple of
/// this many rows, whatever the capacity.
inline constexpr int64_t kCacheBlockRows = 16;

/// Cache of rows [row][head][i] in blocks of 16 rows, element by element: [row/16][head][i][row%16], so that one vector
/// holds element i of 16 rows.
struct BlockedCache {
  int64_t heads = 0;
  int64_t size = 0; ///< elements of a head

  static constexpr int64_t blocks(int64_t rows) { return (rows + kCacheBlockRows - 1) / kCacheBlockRows; }
  static constexpr int64_t paddedRows(int64_t rows) { return blocks(rows) * kCacheBlockRows; }
  /// Element index of (row, head, i).
  constexpr int64_t index(int64_t row, int64_t head, int64_t i) const {
    return ((row / kCacheBlockRows * heads + head) * size + i) * kCacheBlockRows + row % kCacheBlockRows;
  }
};

} // namespace packing
} // namespace setun

#endif // SETUN_PACKING_H
