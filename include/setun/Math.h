//===- Math.h - the functions that compiled code computes ----------*- C++ -*-===//
//
// Elementary functions as one sequence of IEEE operations each: single (in places double) precision, rounded to nearest
// even, none fused. The sequence is written once, over an arithmetic `A`: on numbers (NumberArithmetic, for the
// reference interpreter) and on values of the IR (passes/MathBuilder.h, for generated code), so every target and the
// interpreter give the same bits. Code that includes this header must be compiled without contraction
// (-ffp-contract=off).
//
// An arithmetic has types F (f32), D (f64), I (i32) and B (truth), constants f(), d() and i(), and the operations that
// NumberArithmetic shows. Comparisons are ordered: false where an operand is NaN.
//
// Errors, in units in the last place over the range of f32 (test/unit/math/MathTest.cpp measures them): exp, log,
// expm1, log1p, tanh, sinh, cosh, erf, tan, atan 4; sin, cos 2 (absolute 2^-22 near zeros); pow 1. NaN gives NaN,
// infinities and zeros what C's functions give.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_MATH_H
#define SETUN_MATH_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace setun {

/// The arithmetic of numbers.
struct NumberArithmetic {
  using F = float;
  using D = double;
  using I = int32_t;
  using B = bool;
  F f(float x) { return x; }
  D d(double x) { return x; }
  I i(int32_t x) { return x; }
  template <typename T> T add(T x, T y) { return x + y; }
  template <typename T> T sub(T x, T y) { return x - y; }
  template <typename T> T mul(T x, T y) { return x * y; }
  template <typename T> T div(T x, T y) { return x / y; }
  F sqrt(F x) { return std::sqrt(x); }
  F abs(F x) { return std::fabs(x); }
  F copySign(F magnitude, F sign) { return std::copysign(magnitude, sign); }
  template <typename T> B lt(T x, T y) { return x < y; }
  template <typename T> B eq(T x, T y) { return x == y; }
  B isNan(F x) { return x != x; }
  B both(B x, B y) { return x && y; }
  template <typename T> T select(B condition, T x, T y) { return condition ? x : y; }
  I bits(F x) {
    I result;
    std::memcpy(&result, &x, sizeof result);
    return result;
  }
  F fromBits(I x) {
    F result;
    std::memcpy(&result, &x, sizeof result);
    return result;
  }
  // Integers wrap.
  I addI(I x, I y) { return static_cast<I>(static_cast<uint32_t>(x) + static_cast<uint32_t>(y)); }
  I subI(I x, I y) { return static_cast<I>(static_cast<uint32_t>(x) - static_cast<uint32_t>(y)); }
  I shiftLeft(I x, int by) { return static_cast<I>(static_cast<uint32_t>(x) << by); }
  I shiftRight(I x, int by) { return x >> by; } ///< keeps the sign
  I andI(I x, I y) { return x & y; }
  B eqI(I x, I y) { return x == y; }
  I toInt(F x) { return static_cast<I>(x); } ///< of an integral number that fits
  F toFloat(I x) { return static_cast<F>(x); }
  D widen(F x) { return x; }
  F narrow(D x) { return static_cast<F>(x); }
};

/// The functions over an arithmetic.
template <typename A> class Math {
public:
  using F = typename A::F;
  using D = typename A::D;
  using I = typename A::I;
  using B = typename A::B;

  explicit Math(A &a) : a(a) {}

  //===--- Rounding ---===//

  /// To the nearest integer, ties to even, by adding and taking away 2^23; the sign stays.
  F roundEven(F x) {
    F magnitude = a.abs(x), magic = a.f(8388608.0f);
    F rounded = a.sub(a.add(magnitude, magic), magic);
    return a.copySign(a.select(a.lt(magnitude, magic), rounded, magnitude), x);
  }
  F floor(F x) {
    F r = roundEven(x);
    return a.select(a.lt(x, r), a.sub(r, a.f(1.0f)), r);
  }
  F ceil(F x) { return neg(floor(neg(x))); }
  F trunc(F x) { return a.copySign(floor(a.abs(x)), x); }
  /// Ties away from zero.
  F round(F x) {
    F t = floor(a.abs(x)), rest = a.sub(a.abs(x), t);
    return a.copySign(a.select(a.lt(rest, a.f(0.5f)), t, a.add(t, a.f(1.0f))), x);
  }

  //===--- Exponentials ---===//

  /// x = n*ln2 + r with |r| <= ln2/2 (Cody and Waite), 1 + (r + r*r*p(r)), times 2^n in two steps.
  F exp(F x) {
    Reduced e = reduceExp(clamp(x, -104.0f, 89.0f));
    return keepNan(x, scale(a.add(e.fraction, a.f(1.0f)), e.n));
  }
  F exp2(F x) {
    F y = clamp(x, -151.0f, 129.0f), n = roundEven(y);
    return keepNan(x, scale(a.add(expFraction(a.mul(a.sub(y, n), a.f(0.693147182f))), a.f(1.0f)), n));
  }
  F expm1(F x) {
    Reduced e = reduceExp(clamp(x, -40.0f, 40.0f));
    F power = scale(a.f(1.0f), e.n);
    F small = a.add(a.mul(e.fraction, power), a.sub(power, a.f(1.0f)));
    F y = a.select(a.lt(a.f(40.0f), x), exp(x), small);
    return keepNan(x, a.select(a.eq(x, a.f(0.0f)), x, y));
  }
  F tanh(F x) {
    F t = a.abs(x), z = a.mul(x, x);
    static constexpr float p[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f,
                                  -3.33332819422e-1f};
    F small = a.add(a.mul(a.mul(poly(z, p), z), x), x);
    F large = a.sub(a.f(1.0f), a.div(a.f(2.0f), a.add(exp(a.add(t, t)), a.f(1.0f))));
    return keepNan(x, a.select(a.lt(t, a.f(0.625f)), small, a.copySign(large, x)));
  }
  F sinh(F x) {
    F m = expm1(a.abs(x)), half = a.f(0.5f);
    F y = a.mul(half, a.add(m, a.div(m, a.add(m, a.f(1.0f)))));
    // Where exp would overflow before sinh does: exp(x/2) twice.
    return keepNan(x, a.copySign(a.select(a.lt(a.abs(x), a.f(40.0f)), y, halfExp(a.abs(x))), x));
  }
  F cosh(F x) {
    F e = exp(a.abs(x)), half = a.f(0.5f);
    F y = a.add(a.mul(half, e), a.div(half, e));
    return keepNan(x, a.select(a.lt(a.abs(x), a.f(40.0f)), y, halfExp(a.abs(x))));
  }
  /// x*p(x*x) below 1; 1 - exp(-q(x)) above, both fitted to the function.
  F erf(F x) {
    F t = clamp(a.abs(x), 0.0f, 4.0f);
    static constexpr float p[] = {7.853857823647559e-05f, -0.0008010192541405559f, 0.005188327748328447f,
                                  -0.026853810995817184f, 0.1128358542919159f,     -0.3761262595653534f,
                                  0.12837916709551256f};
    static constexpr float q[] = {2.16976877709385e-05f, -0.0004414735594764352f, 0.004205289296805859f,
                                  -0.02521035261452198f, 0.10842212289571762f,    0.633216381072998f,
                                  1.1295803785324097f,   -0.00018847023602575064f};
    F small = a.add(a.mul(poly(a.mul(x, x), p), x), x);
    F large = a.sub(a.f(1.0f), exp(neg(poly(t, q))));
    return keepNan(x, a.select(a.lt(t, a.f(1.0f)), small, a.copySign(large, x)));
  }

  //===--- Logarithms ---===//

  F log(F x) {
    Split s = split(x);
    F y = a.add(a.mul(s.e, a.f(-2.12194440e-4f)), logTail(s.m));
    return logEdges(x, a.add(a.add(s.m, y), a.mul(s.e, a.f(0.693359375f))));
  }
  F log2(F x) {
    Split s = split(x);
    F tail = logTail(s.m), c = a.f(0.44269504088896341f); // log2(e) - 1
    F y = a.add(a.mul(tail, c), a.mul(s.m, c));
    return logEdges(x, a.add(a.add(a.add(y, tail), s.m), s.e));
  }
  F log10(F x) {
    D y = a.mul(a.widen(log(x)), a.d(0.43429448190325182765));
    return a.narrow(y);
  }
  /// log(u) * (x / (u - 1)) with u = 1 + x makes up for what the sum loses.
  F log1p(F x) {
    F one = a.f(1.0f), u = a.add(x, one), rest = a.sub(u, one);
    F y = a.mul(log(u), a.div(x, rest));
    y = a.select(a.eq(rest, a.f(0.0f)), x, y);
    return a.select(a.eq(x, infinity()), x, y);
  }

  //===--- Powers ---===//

  F rsqrt(F x) { return a.div(a.f(1.0f), a.sqrt(x)); }
  /// exp(y * log|x|) in double precision, with the sign of odd powers.
  F pow(F x, F y) {
    F zero = a.f(0.0f), one = a.f(1.0f), magnitude = a.abs(x);
    D t = a.mul(a.widen(clamp(y, -1e30f, 1e30f)), logWide(magnitude));
    F power = expWide(t);
    F half = a.mul(y, a.f(0.5f));
    B whole = a.eq(floor(y), y), even = a.eq(floor(half), half);
    F negative = a.select(whole, a.select(even, power, neg(power)), a.f(std::numeric_limits<float>::quiet_NaN()));
    F result = a.select(a.lt(x, zero), negative, power);
    // A zero or infinity with a sign: that of odd powers alone.
    F odd = a.select(whole, a.select(even, power, a.copySign(power, x)), power);
    result = a.select(a.eq(magnitude, zero), odd, result);
    result = a.select(a.eq(x, neg(infinity())), odd, result);
    result = keepNan(x, keepNan(y, result));
    result = a.select(a.eq(x, one), one, result);
    return a.select(a.eq(y, zero), one, result);
  }

  //===--- Circular functions; x of magnitude 2^30 and more counts as 0 ---===//

  F sin(F x) {
    Quadrant r = reduceAngle(x);
    return keepFinite(x, onCircle(r, r.quadrant));
  }
  F cos(F x) {
    Quadrant r = reduceAngle(x);
    return keepFinite(x, onCircle(r, a.addI(r.quadrant, a.i(1))));
  }
  F tan(F x) { return a.div(sin(x), cos(x)); }
  F atan(F x) {
    F t = a.abs(x), one = a.f(1.0f);
    B far = a.lt(a.f(2.41421366f), t), middle = a.lt(a.f(0.414213568f), t);
    F z = a.select(far, a.div(a.f(-1.0f), t), a.select(middle, a.div(a.sub(t, one), a.add(t, one)), t));
    F base = a.select(far, a.f(1.57079637f), a.select(middle, a.f(0.785398185f), a.f(0.0f)));
    static constexpr float p[] = {8.05374449538e-2f, -1.38776856032e-1f, 1.99777106478e-1f, -3.33329491539e-1f};
    F square = a.mul(z, z);
    F y = a.add(base, a.add(a.mul(a.mul(poly(square, p), square), z), z));
    return keepNan(x, a.copySign(y, x));
  }

  //===--- Activations ---===//

  F relu(F x) { return a.select(a.lt(x, a.f(0.0f)), a.f(0.0f), x); }
  F sigmoid(F x) { return a.div(a.f(1.0f), a.add(a.f(1.0f), exp(neg(x)))); }
  F silu(F x) { return a.div(x, a.add(a.f(1.0f), exp(neg(x)))); }
  /// x/2 * (1 + erf(x / sqrt(2))), with half the operations of erf: an error of 3e-7 in its place.
  F gelu(F x) {
    F bend = erfQuotient(a.mul(x, a.f(0.707106769f)));
    return keepNan(x, a.mul(a.mul(x, a.f(0.5f)), a.add(a.f(1.0f), bend)));
  }
  /// x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).
  F geluTanh(F x) {
    F cube = a.mul(a.mul(x, x), x);
    F inner = a.mul(a.f(0.797884583f), a.add(x, a.mul(a.f(0.044715f), cube)));
    return a.mul(a.mul(x, a.f(0.5f)), a.add(a.f(1.0f), tanh(inner)));
  }

private:
  struct Reduced {
    F fraction, n;
  };
  struct Split {
    F m, e;
  };
  struct Quadrant {
    F r;
    I quadrant;
  };

  F neg(F x) { return a.sub(a.f(-0.0f), x); }
  F infinity() { return a.f(std::numeric_limits<float>::infinity()); }
  F keepNan(F x, F y) { return a.select(a.isNan(x), x, y); }
  /// NaN becomes the lower bound.
  F clamp(F x, float low, float high) {
    x = a.select(a.lt(a.f(low), x), x, a.f(low));
    return a.select(a.lt(x, a.f(high)), x, a.f(high));
  }
  /// Horner's scheme, the highest power first.
  template <size_t N> F poly(F x, const float (&c)[N]) {
    F y = a.f(c[0]);
    for (size_t i = 1; i < N; ++i)
      y = a.add(a.mul(y, x), a.f(c[i]));
    return y;
  }
  /// exp(r) - 1 for |r| <= ln2/2.
  F expFraction(F r) {
    static constexpr float p[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                  4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    return a.add(a.mul(poly(r, p), a.mul(r, r)), r);
  }
  Reduced reduceExp(F x) {
    F n = roundEven(a.mul(x, a.f(1.44269502f)));
    F r = a.sub(a.sub(x, a.mul(n, a.f(0.693359375f))), a.mul(n, a.f(-2.12194440e-4f)));
    return {expFraction(r), n};
  }
  F powerOfTwo(I n) { return a.fromBits(a.shiftLeft(a.addI(n, a.i(127)), 23)); }
  /// x * 2^n for |n| up to 252, in two steps: the first never overflows nor loses bits.
  F scale(F x, F n) {
    I whole = a.toInt(n), half = a.shiftRight(whole, 1);
    return a.mul(a.mul(x, powerOfTwo(half)), powerOfTwo(a.subI(whole, half)));
  }
  /// erf as x*p(x*x) / q(x*x), fitted up to where it is 1; NaN is -1.
  F erfQuotient(F x) {
    static constexpr float p[] = {0.0002322718792129308f, 0.003751499345526099f, 0.05203972011804581f,
                                  0.19408078491687775f, 1.1283791065216064f};
    static constexpr float q[] = {-1.0744624034941808e-07f,
                                  2.2870404791319743e-05f,
                                  0.0010902428766712546f,
                                  0.01477851253002882f,
                                  0.11456888914108276f,
                                  0.505331814289093f,
                                  1.0f};
    F t = clamp(x, -3.87f, 3.87f), z = a.mul(t, t);
    return clamp(a.div(a.mul(t, poly(z, p)), poly(z, q)), -1.0f, 1.0f);
  }
  F halfExp(F x) {
    F half = exp(a.mul(x, a.f(0.5f)));
    return a.mul(a.mul(half, a.f(0.5f)), half);
  }

  /// x = (1 + m) * 2^e with 1 + m in [sqrt(1/2), sqrt(2)), for positive finite x.
  Split split(F x) {
    B tiny = a.lt(x, a.f(1.17549435e-38f));
    I bits = a.bits(a.select(tiny, a.mul(x, a.f(8388608.0f)), x));
    I e = a.shiftRight(a.subI(bits, a.i(0x3f3504f3)), 23);
    F m = a.fromBits(a.subI(bits, a.shiftLeft(e, 23)));
    F exponent = a.toFloat(a.addI(e, a.select(tiny, a.i(-23), a.i(0))));
    return {a.sub(m, a.f(1.0f)), exponent};
  }
  /// log(1 + m) - m.
  F logTail(F m) {
    static constexpr float p[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                  -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                  2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    F z = a.mul(m, m);
    return a.sub(a.mul(a.mul(poly(m, p), z), m), a.mul(z, a.f(0.5f)));
  }
  F logEdges(F x, F y) {
    F zero = a.f(0.0f);
    y = a.select(a.eq(x, infinity()), x, y);
    y = a.select(a.eq(x, zero), neg(infinity()), y);
    y = a.select(a.lt(x, zero), a.f(std::numeric_limits<float>::quiet_NaN()), y);
    return keepNan(x, y);
  }

  /// log(x) of x >= 0 in double precision, an error of 2^-37: 2*atanh(s) with s = m / (m + 2). Zero and infinity give
  /// numbers so large that any power of them but 0 is zero or infinity.
  D logWide(F x) {
    Split parts = split(x);
    D m = a.widen(parts.m), s = a.div(m, a.add(m, a.d(2.0))), z = a.mul(s, s);
    D y = a.d(1.0 / 17);
    for (int k = 15; k >= 1; k -= 2)
      y = a.add(a.mul(y, z), a.d(1.0 / k));
    y = a.add(a.mul(a.widen(parts.e), a.d(0.69314718055994530942)), a.mul(a.add(s, s), y));
    y = a.select(a.eq(x, a.f(0.0f)), a.d(-1e60), y);
    return a.select(a.eq(x, infinity()), a.d(1e60), y);
  }
  F expWide(D t) {
    t = a.select(a.lt(a.d(-110.0), t), t, a.d(-110.0));
    t = a.select(a.lt(t, a.d(90.0)), t, a.d(90.0));
    F n = roundEven(a.narrow(a.mul(t, a.d(1.4426950408889634074))));
    D r = a.sub(t, a.mul(a.widen(n), a.d(0.69314718055994530942)));
    D y = a.d(1.0);
    for (int k = 11; k >= 1; --k)
      y = a.add(a.mul(a.mul(y, r), a.d(1.0 / k)), a.d(1.0));
    I whole = a.toInt(n), half = a.shiftRight(whole, 1);
    D power = a.mul(a.widen(powerOfTwo(half)), a.widen(powerOfTwo(a.subI(whole, half))));
    return a.narrow(a.mul(y, power));
  }

  /// x - n * pi/2 in double precision, and n modulo 4.
  Quadrant reduceAngle(F x) {
    F angle = a.select(a.lt(a.abs(x), a.f(1073741824.0f)), x, a.f(0.0f));
    D wide = a.widen(angle), magic = a.d(6755399441055744.0); // 1.5 * 2^52
    D n = a.sub(a.add(a.mul(wide, a.d(0.63661977236758134308)), magic), magic);
    D r = a.sub(wide, a.mul(n, a.d(1.57079632673412561417)));
    r = a.sub(r, a.mul(n, a.d(6.07710050650619224932e-11)));
    // n modulo 4 as a number that an i32 holds.
    D quarter = a.sub(a.add(a.mul(n, a.d(0.25)), magic), magic);
    I quadrant = a.toInt(a.narrow(a.sub(n, a.mul(quarter, a.d(4.0)))));
    return {a.narrow(r), a.andI(quadrant, a.i(3))};
  }
  /// sin(r + quadrant * pi/2).
  F onCircle(Quadrant q, I quadrant) {
    static constexpr float s[] = {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f};
    static constexpr float c[] = {2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f};
    F z = a.mul(q.r, q.r);
    F sine = a.add(a.mul(a.mul(poly(z, s), z), q.r), q.r);
    F cosine = a.add(a.sub(a.f(1.0f), a.mul(z, a.f(0.5f))), a.mul(a.mul(poly(z, c), z), z));
    F y = a.select(a.eqI(a.andI(quadrant, a.i(1)), a.i(0)), sine, cosine);
    return a.select(a.eqI(a.andI(quadrant, a.i(2)), a.i(0)), y, neg(y));
  }
  /// sin and cos of infinities and NaN are NaN.
  F keepFinite(F x, F y) {
    F nothing = a.sub(x, x); // 0, or NaN
    return a.select(a.isNan(nothing), nothing, y);
  }

  A &a;
};

} // namespace setun

#endif // SETUN_MATH_H
