//===- MathTest.cpp - errors and edges of the functions of setun/Math.h -----------===//
#include "setun/Math.h"

#include <gtest/gtest.h>

#include <functional>

using namespace setun;

namespace {
using Function = float (Math<NumberArithmetic>::*)(float);

NumberArithmetic arithmetic;
Math<NumberArithmetic> math(arithmetic);
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

/// A unit in the last place of `x` as f32, down to that of subnormal numbers.
double unitOf(double x) {
  float size = std::fabs(static_cast<float>(x));
  return std::max(std::nextafter(size, kInfinity) - size, std::numeric_limits<float>::denorm_min());
}

/// The largest error, in units, over a range.
double worst(Function function, double (*exact)(double), float low, float high) {
  double most = 0;
  for (int i = 0; i <= 50000; ++i) {
    float x = low + (high - low) * (static_cast<float>(i) / 50000);
    double want = exact(x);
    float got = (math.*function)(x);
    if (std::isinf(static_cast<float>(want)))
      most = std::max(most, got == static_cast<float>(want) ? 0.0 : 1e9);
    else if (!(std::isnan(want) && std::isnan(got)))
      most = std::max(most, std::fabs(got - want) / unitOf(want));
  }
  return most;
}

struct Range {
  const char *name;
  Function function;
  double (*exact)(double);
  float low, high;
  double units;
};

double exactExp2(double x) { return std::exp2(x); }

const Range kRanges[] = {
    {"exp", &Math<NumberArithmetic>::exp, std::exp, -110, 92, 2},
    {"exp2", &Math<NumberArithmetic>::exp2, exactExp2, -152, 130, 2},
    {"expm1", &Math<NumberArithmetic>::expm1, std::expm1, -50, 92, 4},
    {"expm1 near 0", &Math<NumberArithmetic>::expm1, std::expm1, -1e-2f, 1e-2f, 2},
    {"log", &Math<NumberArithmetic>::log, std::log, 1e-38f, 3, 2},
    {"log of subnormals", &Math<NumberArithmetic>::log, std::log, 0, 1e-38f, 2},
    {"log2", &Math<NumberArithmetic>::log2, std::log2, 0.1f, 3, 3},
    {"log10", &Math<NumberArithmetic>::log10, std::log10, 0.1f, 3, 3},
    {"log1p", &Math<NumberArithmetic>::log1p, std::log1p, -1, 3, 4},
    {"sin", &Math<NumberArithmetic>::sin, std::sin, -7, 7, 2},
    {"cos", &Math<NumberArithmetic>::cos, std::cos, -7, 7, 2},
    {"tan", &Math<NumberArithmetic>::tan, std::tan, -7, 7, 4},
    {"atan", &Math<NumberArithmetic>::atan, std::atan, -10, 10, 4},
    {"tanh", &Math<NumberArithmetic>::tanh, std::tanh, -12, 12, 4},
    {"sinh", &Math<NumberArithmetic>::sinh, std::sinh, -92, 92, 4},
    {"cosh", &Math<NumberArithmetic>::cosh, std::cosh, -92, 92, 4},
    {"erf", &Math<NumberArithmetic>::erf, std::erf, -5, 5, 2},
    {"floor", &Math<NumberArithmetic>::floor, std::floor, -10, 10, 0},
    {"ceil", &Math<NumberArithmetic>::ceil, std::ceil, -10, 10, 0},
    {"trunc", &Math<NumberArithmetic>::trunc, std::trunc, -9e6f, 9e6f, 0},
    {"round", &Math<NumberArithmetic>::round, std::round, -9e6f, 9e6f, 0},
    {"round to even", &Math<NumberArithmetic>::roundEven, std::nearbyint, -9e6f, 9e6f, 0},
};

TEST(MathTest, ErrorsAreSmall) {
  for (const Range &range : kRanges)
    EXPECT_LE(worst(range.function, range.exact, range.low, range.high), range.units) << range.name;
}

TEST(MathTest, LargeAnglesAreReduced) {
  for (float x = 1e4f; x < 1e9f; x *= 1.37f) {
    EXPECT_NEAR(math.sin(x), std::sin(static_cast<double>(x)), 0x1p-22) << x;
    EXPECT_NEAR(math.cos(x), std::cos(static_cast<double>(x)), 0x1p-22) << x;
  }
}

TEST(MathTest, ActivationsAreClose) {
  for (float x = -12; x < 12; x += 0.013f) {
    double wide = x;
    EXPECT_NEAR(math.gelu(x), 0.5 * wide * (1 + std::erf(wide * std::sqrt(0.5))), 4e-7 * std::fabs(wide)) << x;
    EXPECT_NEAR(math.sigmoid(x), 1 / (1 + std::exp(-wide)), 2e-7) << x;
    EXPECT_NEAR(math.silu(x), wide / (1 + std::exp(-wide)), 2e-7 * std::fabs(wide)) << x;
    double inner = std::sqrt(2 / M_PI) * (wide + 0.044715 * wide * wide * wide);
    EXPECT_NEAR(math.geluTanh(x), 0.5 * wide * (1 + std::tanh(inner)), 4e-7 * std::fabs(wide)) << x;
  }
  EXPECT_EQ(math.relu(-1.0f), 0.0f);
  EXPECT_EQ(math.gelu(-100.0f), 0.0f);
  EXPECT_EQ(math.gelu(100.0f), 100.0f);
  EXPECT_TRUE(std::isnan(math.gelu(kNan)));
}

TEST(MathTest, Edges) {
  EXPECT_EQ(math.exp(kInfinity), kInfinity);
  EXPECT_EQ(math.exp(-kInfinity), 0.0f);
  EXPECT_EQ(math.exp(0.0f), 1.0f);
  EXPECT_EQ(math.expm1(-kInfinity), -1.0f);
  EXPECT_EQ(math.log(0.0f), -kInfinity);
  EXPECT_EQ(math.log(1.0f), 0.0f);
  EXPECT_TRUE(std::isnan(math.log(-1.0f)));
  EXPECT_EQ(math.log1p(-1.0f), -kInfinity);
  EXPECT_TRUE(std::isnan(math.sin(kInfinity)));
  EXPECT_EQ(math.erf(kInfinity), 1.0f);
  EXPECT_EQ(math.tanh(-kInfinity), -1.0f);
  EXPECT_EQ(math.cosh(kInfinity), kInfinity);
  for (Function function : {&Math<NumberArithmetic>::exp, &Math<NumberArithmetic>::log, &Math<NumberArithmetic>::tanh,
                            &Math<NumberArithmetic>::erf, &Math<NumberArithmetic>::floor})
    EXPECT_TRUE(std::isnan((math.*function)(kNan)));
}

TEST(MathTest, PowersAreThoseOfC) {
  const float numbers[] = {0.0f, -0.0f, 1.0f, -1.0f, 2.0f,      -2.0f,      3.0f,  -3.0f,
                           0.5f, -0.5f, 2.5f, -2.5f, kInfinity, -kInfinity, 1e30f, -1e30f};
  for (float x : numbers)
    for (float y : numbers) {
      float want = std::pow(x, y), got = math.pow(x, y);
      if (x == -1.0f && std::isinf(y)) // 1 in C, the limit of nothing
        continue;
      bool isRight = std::isnan(want) ? std::isnan(got) : got == want || std::fabs(got - want) <= unitOf(want);
      EXPECT_TRUE(isRight) << x << " to the power " << y << " is " << got;
      EXPECT_TRUE(std::isnan(want) || std::signbit(want) == std::signbit(got)) << x << " to the power " << y;
    }
}
} // namespace
