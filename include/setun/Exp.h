//===- Exp.h - the exponential that compiled code computes ---------*- C++ -*-===//
//
// exp(x) in IEEE single operations rounded to nearest even, none fused, so that every target and the reference
// interpreter give the same bits. Constants and steps are shared with the code generator.
// Method: x = n*ln2 + r, |r| <= ln2/2 (Cody and Waite reduction), degree-6 polynomial, scaling by 2^n.
// Error: below 2 units in the last place for x in [-87.3, 88].
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_EXP_H
#define SETUN_EXP_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace setun {

struct ExpConstants {
  static constexpr float lowest = -87.0f, highest = 88.0f;
  static constexpr float log2e = 1.44269502f;
  static constexpr float ln2Hi = 0.693359375f, ln2Lo = -2.12194440e-4f;
  // Highest power first; the last two, 1 and 1, complete 1 + r + r*r*p(r).
  static constexpr float poly[6] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                    4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

/// exp(x); x below -87 gives exp(-87), above 88 exp(88). exp(0) is exactly 1. NaN stays NaN only in the caller's care:
/// the clamp turns it into exp(-87).
inline float exactExp(float x) {
  using C = ExpConstants;
  x = x > C::lowest ? x : C::lowest;
  x = x < C::highest ? x : C::highest;
  volatile float scaled = x * C::log2e; // volatile: the compiler of this header must not fuse or widen
  float n = std::nearbyint(scaled);
  volatile float hi = n * C::ln2Hi;
  volatile float r = x - hi;
  volatile float lo = n * C::ln2Lo;
  r = r - lo;
  volatile float p = C::poly[0];
  for (int i = 1; i < 6; ++i) {
    volatile float t = p * r;
    p = t + C::poly[i];
  }
  volatile float rr = r * r;
  volatile float t = p * rr;
  t = t + r;
  t = t + 1.0f;
  int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  volatile float y = t * power;
  return y;
}

} // namespace setun

#endif // SETUN_EXP_H
