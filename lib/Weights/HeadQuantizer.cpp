//===- HeadQuantizer.cpp - scan planes of a head ---------------------------------===//
//
// Sixteen rows at a time, one in each lane of a vector, so that nothing is summed across lanes and every machine makes
// the same planes (this file is compiled without contraction).
//
// Codes are chosen to make the residual small; what is stored of it is measured afterwards, from the weights themselves
// and the products step * scale * code as the planes mean them: those are exact in double (24 + 6 bits), and so is
// delta * (2 * fine - 3) and 2 * delta * (2 * first - 1). The sums of squares are of K terms, each with a relative
// error below 2^-50 (three roundings), so a norm is off by less than (K + 8) * 2^-50 <= 2^-33 of itself; `upward` adds
// 2^-20.
//
//===----------------------------------------------------------------------===//
#include "lib/Weights/HeadQuantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace setun;
using packing::HeadShape;

namespace {
constexpr int64_t kLanes = HeadShape::kLanes, kGroup = HeadShape::kGroup;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(128)));

inline Floats splat(float value) { return value - Floats{}; }
inline Floats select(Ints mask, Floats yes, Floats no) { return (Floats)(((Ints)yes & mask) | ((Ints)no & ~mask)); }
inline Floats minimum(Floats a, Floats b) { return select(a < b, a, b); }
inline Floats maximum(Floats a, Floats b) { return select(a > b, a, b); }
inline Floats magnitude(Floats a) { return (Floats)((Ints)a & 0x7fffffff); }
/// Nearest integer of |x| < 2^22.
inline Floats nearest(Floats x) { return (x + 12582912.0f) - 12582912.0f; }
inline Ints toInts(Floats x) { return __builtin_convertvector(x, Ints); }
inline Doubles toDoubles(Floats x) { return __builtin_convertvector(x, Doubles); }

/// A float that is at least x, which is at least 0.
float upward(double x) {
  if (!(x <= 0x1p20))
    return std::numeric_limits<float>::infinity();
  return static_cast<float>(x * (1 + 0x1p-20) + 0x1p-126);
}
} // namespace

struct HeadQuantizer::Scratch {
  explicit Scratch(const HeadShape &shape)
      : weights(shape.groups() * kGroup), scaled(shape.groups() * kGroup), codes(shape.groups() * kGroup),
        scales(shape.groups()), words(shape.steps()), bytes(shape.paddedCols() * kLanes), nibbles(shape.groups()) {}
  std::vector<Floats> weights, scaled, codes, scales;
  std::vector<Ints> words;
  std::vector<uint8_t> bytes;
  std::vector<Ints> nibbles;
};

HeadQuantizer::HeadQuantizer(const HeadShape &shape) : shape(shape), scratch(std::make_unique<Scratch>(shape)) {}
HeadQuantizer::~HeadQuantizer() = default;

int64_t HeadQuantizer::rowsOf(int64_t panel) const {
  return std::min(HeadShape::kPanelRows, shape.rows - panel * HeadShape::kPanelRows);
}

void HeadQuantizer::quantize(int64_t panel, const float *w, uint8_t *codesOut, uint8_t *scalesOut, float *coarse,
                             uint8_t *fine, float *fineRows) {
  const int64_t k = shape.cols, groups = shape.groups(), padded = groups * kGroup, rows = rowsOf(panel);
  Scratch &s = *scratch;
  std::fill(s.words.begin(), s.words.end(), Ints{});
  std::fill(s.nibbles.begin(), s.nibbles.end(), Ints{});
  for (int64_t field = 0; field < 2; ++field) {
    const int64_t first = field * kLanes, count = std::max<int64_t>(0, std::min(kLanes, rows - first));
    // Transposed, so that a vector holds one column of 16 rows.
    float *columns = reinterpret_cast<float *>(s.weights.data());
    std::fill(s.weights.begin(), s.weights.end(), Floats{});
    for (int64_t c = 0; c < k; c += kLanes)
      for (int64_t lane = 0; lane < count; ++lane)
        for (int64_t i = c; i < std::min(k, c + kLanes); ++i)
          columns[i * kLanes + lane] = w[(first + lane) * k + i];

    // The largest element is -8 * -8 steps.
    Floats top = {}, largest = {};
    Doubles squares = {};
    for (int64_t i = 0; i < k; ++i) {
      const Floats value = s.weights[i];
      const Ints greater = magnitude(value) > top;
      top = select(greater, magnitude(value), top);
      largest = select(greater, value, largest);
      squares += toDoubles(value) * toDoubles(value);
    }
    Floats step = largest * 0x1p-6f, inverse = {};
    float norm[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      norm[lane] = upward(std::sqrt(squares[lane]));
      // Rows of zeros, of tiny numbers and of what is no number are not approximated: their residual is the row.
      if (!(norm[lane] <= 0x1p20f) || !(top[lane] >= 0x1p-90f))
        step[lane] = 0.0f;
      inverse[lane] = step[lane] == 0.0f ? 0.0f : 1.0f / step[lane];
      if (!(norm[lane] <= 0x1p20f))
        for (int64_t i = 0; i < k; ++i)
          columns[i * kLanes + lane] = 0.0f; // nothing below is to meet infinities
    }

    for (int64_t g = 0; g < groups; ++g) {
      Floats *y = s.scaled.data() + g * kGroup;
      Floats widest = {};
      for (int64_t j = 0; j < kGroup; ++j) {
        y[j] = s.weights[g * kGroup + j] * inverse;
        widest = maximum(magnitude(y[j]), widest);
      }
      // Scales near the one that just holds the largest element, of either sign: the code range is not symmetric.
      const Floats least = nearest(widest * 0.125f + 0.49999f);
      Floats best = splat(std::numeric_limits<float>::infinity()), scale = {};
      for (int away = 0; away < 4; ++away)
        for (float sign : {-1.0f, 1.0f}) {
          const Floats tried =
              sign * minimum(maximum(least - static_cast<float>(away), splat(1.0f)), splat(sign < 0 ? 8.0f : 7.0f));
          const Floats over = 1.0f / tried;
          Floats error = {};
          for (int64_t j = 0; j < kGroup; ++j) {
            const Floats code = minimum(maximum(nearest(y[j] * over), splat(-8.0f)), splat(7.0f));
            const Floats rest = y[j] - code * tried;
            error += rest * rest;
          }
          const Ints better = error < best;
          best = select(better, error, best);
          scale = select(better, tried, scale);
        }
      scale = select(widest > Floats{}, scale, Floats{});
      const Floats over = 1.0f / select(scale == Floats{}, splat(1.0f), scale);
      s.scales[g] = scale;
      for (int64_t j = 0; j < kGroup; ++j)
        s.codes[g * kGroup + j] = minimum(maximum(nearest(y[j] * over), splat(-8.0f)), splat(7.0f));
    }

    // What is left, exactly; then the fine codes, in one of a few widths.
    Doubles rest = {};
    for (int64_t i = 0; i < padded; ++i) {
      const Doubles left = toDoubles(s.weights[i]) - toDoubles(step) * toDoubles(s.codes[i] * s.scales[i / kGroup]);
      rest += left * left;
      s.scaled[i] = __builtin_convertvector(left, Floats);
    }
    Floats bestDelta = {}, bestError = splat(std::numeric_limits<float>::infinity());
    float residual[kLanes];
    Floats deviation;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      residual[lane] = upward(std::sqrt(rest[lane]));
      deviation[lane] = static_cast<float>(std::sqrt(rest[lane] / static_cast<double>(k)));
    }
    for (float width : {0.45f, 0.5f, 0.56f}) {
      const Floats delta = deviation * width;
      const Floats over = 0.5f / select(delta > 0x1p-120f, delta, splat(1.0f));
      Floats error = {};
      for (int64_t i = 0; i < k; ++i) {
        const Floats code = minimum(maximum(nearest(s.scaled[i] * over + 1.5f), Floats{}), splat(3.0f));
        const Floats left = s.scaled[i] - delta * (code + code - 3.0f);
        error += left * left;
      }
      const Ints better = error < bestError;
      bestError = select(better, error, bestError);
      bestDelta = select(better, delta, bestDelta);
    }
    Floats delta = select(bestDelta > 0x1p-120f, bestDelta, Floats{});
    const Floats over = 0.5f / select(delta == Floats{}, splat(1.0f), delta);
    // What is left of the columns of each stage, without fine codes and with the first bits.
    constexpr int64_t kStages = HeadShape::kStages;
    Doubles withoutBits[kStages] = {}, withFirst[kStages] = {}, fineRest = {};
    for (int64_t i = 0, stage = 0; i < k; ++i) {
      while (i == shape.stageCols(stage) && stage + 1 < kStages)
        ++stage;
      const Floats code = minimum(maximum(nearest(s.scaled[i] * over + 1.5f), Floats{}), splat(3.0f));
      const Doubles all = toDoubles(s.weights[i]) - toDoubles(step) * toDoubles(s.codes[i] * s.scales[i / kGroup]);
      const Doubles afterFirst =
          all - toDoubles(delta) * toDoubles(select(code > splat(1.5f), splat(2.0f), splat(-2.0f)));
      const Doubles left = all - toDoubles(delta) * toDoubles(code + code - 3.0f);
      withoutBits[stage] += all * all;
      withFirst[stage] += afterFirst * afterFirst;
      fineRest += left * left;
      const Ints values = toInts(code);
      for (int64_t lane = 0; lane < kLanes; ++lane)
        s.bytes[i * kLanes + lane] = static_cast<uint8_t>(values[lane]);
    }

    // A plane that approximates worse than zeros is left out.
    float stageResidual[kLanes][kStages], fineResidual[kLanes];
    Ints keep = {}, keepFine = {};
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      keep[lane] = residual[lane] <= norm[lane] && step[lane] != 0.0f ? -1 : 0;
      if (!keep[lane])
        residual[lane] = norm[lane];
      for (int64_t last = 0; last < kStages; ++last) {
        double squares = 0;
        for (int64_t stage = 0; stage < kStages; ++stage)
          squares += (stage <= last ? withFirst : withoutBits)[stage][lane];
        stageResidual[lane][last] = upward(std::sqrt(squares));
      }
      fineResidual[lane] = upward(std::sqrt(fineRest[lane]));
      const bool isCloser = stageResidual[lane][kStages - 1] <= residual[lane] && fineResidual[lane] <= residual[lane];
      keepFine[lane] = keep[lane] && isCloser ? -1 : 0;
      if (!keepFine[lane]) {
        std::fill_n(stageResidual[lane], kStages, residual[lane]);
        fineResidual[lane] = residual[lane];
      }
    }
    step = select(keep, step, Floats{});
    delta = select(keepFine, delta, Floats{});

    const int shift = field ? 4 : 0;
    for (int64_t i = 0; i < padded; i += 4) {
      Ints word = {};
      for (int kk = 0; kk < 4; ++kk)
        word |= (toInts(s.codes[i + kk]) + 8) << (8 * kk + shift);
      s.words[i / 4] |= word;
    }
    for (int64_t g = 0; g < groups; ++g)
      s.nibbles[g] |= (toInts(s.scales[g]) & 15) << shift;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const bool exists = lane < count;
      const int64_t row = first + lane;
      coarse[row] = exists ? step[lane] : 0.0f;
      coarse[32 + row] = exists ? residual[lane] : 0.0f;
      coarse[64 + row] = exists ? norm[lane] : 0.0f;
      if (!exists)
        continue;
      float *described = fineRows + row * HeadShape::kFineFloats;
      *described++ = delta[lane];
      described = std::copy_n(stageResidual[lane], kStages, described);
      *described++ = fineResidual[lane];
      *described = norm[lane];
    }
    for (int64_t lane = 0; lane < count; ++lane) {
      uint8_t *firstBits = fine + (first + lane) * shape.fineBitBytes();
      uint8_t *secondBits = firstBits + shape.secondBitsOffset();
      for (uint8_t *bits : {firstBits, secondBits})
        std::memset(bits, 0, static_cast<size_t>(shape.fineBitBytes()));
      for (int64_t i = 0; i < k; ++i) {
        const uint8_t code = s.bytes[i * kLanes + lane];
        const int64_t at = i / HeadShape::kFineBlock * 64 + i % 64, field = i % HeadShape::kFineBlock / 64;
        firstBits[at] |= static_cast<uint8_t>((code >> 1) << field);
        secondBits[at] |= static_cast<uint8_t>((code & 1) << field);
      }
    }
  }
  std::memcpy(codesOut, s.words.data(), static_cast<size_t>(shape.panelCodeBytes()));
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      scalesOut[g * kLanes + lane] = static_cast<uint8_t>(s.nibbles[g][lane]);
}
