//===- HeadQuantizer.h - scan planes of a head ------------------*- C++ -*-===//
//
// Makes the planes of include/setun/HeadPlanes.h, a panel of 32 rows at a time.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_WEIGHTS_HEADQUANTIZER_H
#define SETUN_LIB_WEIGHTS_HEADQUANTIZER_H

#include "setun/HeadPlanes.h"

#include <memory>
#include <vector>

namespace setun {

class HeadQuantizer {
public:
  explicit HeadQuantizer(const packing::HeadShape &shape);
  ~HeadQuantizer();

  /// Bytes of one panel: `codes` panelCodeBytes(), `scales` panelScaleBytes(), `coarse` 3 x 32 floats; `fine`
  /// fineBitBytes(), there and secondBitsOffset() behind it, and `fineRows` kFineFloats for each of the panel's rows
  /// that exist. `w` is [rows of the panel][K].
  void quantize(int64_t panel, const float *w, uint8_t *codes, uint8_t *scales, float *coarse, uint8_t *fine,
                float *fineRows);

  /// Rows of panel `panel` that exist.
  int64_t rowsOf(int64_t panel) const;

private:
  struct Scratch;
  packing::HeadShape shape;
  std::unique_ptr<Scratch> scratch;
};

} // namespace setun

#endif // SETUN_LIB_WEIGHTS_HEADQUANTIZER_H
