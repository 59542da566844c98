//===- DType.cpp - element types of weight files ----------------*- C++ -*-===//
//
// Names, sizes and floating-point conversions.
//
//===----------------------------------------------------------------------===//

#include "lib/Weights/DType.h"

#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <cstring>

namespace setun {

llvm::StringRef dtypeName(DType dtype) {
  switch (dtype) {
  case DType::Bool:
    return "BOOL";
  case DType::U8:
    return "U8";
  case DType::I8:
    return "I8";
  case DType::I16:
    return "I16";
  case DType::U16:
    return "U16";
  case DType::F16:
    return "F16";
  case DType::BF16:
    return "BF16";
  case DType::I32:
    return "I32";
  case DType::U32:
    return "U32";
  case DType::F32:
    return "F32";
  case DType::F64:
    return "F64";
  case DType::I64:
    return "I64";
  case DType::U64:
    return "U64";
  case DType::F8E4M3:
    return "F8_E4M3";
  case DType::F8E5M2:
    return "F8_E5M2";
  case DType::F8E8M0:
    return "F8_E8M0";
  }
  return "";
}

std::optional<DType> parseDType(llvm::StringRef name) {
  return llvm::StringSwitch<std::optional<DType>>(name)
      .Case("BOOL", DType::Bool)
      .Case("U8", DType::U8)
      .Case("I8", DType::I8)
      .Case("I16", DType::I16)
      .Case("U16", DType::U16)
      .Case("F16", DType::F16)
      .Case("BF16", DType::BF16)
      .Case("I32", DType::I32)
      .Case("U32", DType::U32)
      .Case("F32", DType::F32)
      .Case("F64", DType::F64)
      .Case("I64", DType::I64)
      .Case("U64", DType::U64)
      .Case("F8_E4M3", DType::F8E4M3)
      .Case("F8_E5M2", DType::F8E5M2)
      .Case("F8_E8M0", DType::F8E8M0)
      .Default(std::nullopt);
}

unsigned dtypeSize(DType dtype) {
  switch (dtype) {
  case DType::Bool:
  case DType::U8:
  case DType::I8:
  case DType::F8E4M3:
  case DType::F8E5M2:
  case DType::F8E8M0:
    return 1;
  case DType::I16:
  case DType::U16:
  case DType::F16:
  case DType::BF16:
    return 2;
  case DType::I32:
  case DType::U32:
  case DType::F32:
    return 4;
  case DType::F64:
  case DType::I64:
  case DType::U64:
    return 8;
  }
  return 0;
}

bool isFloatDType(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

std::optional<int64_t> elementCount(llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count))
      return std::nullopt;
  return count;
}

std::string shapeString(llvm::ArrayRef<int64_t> shape) {
  if (shape.empty())
    return "scalar";
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(shape, os, "x");
  return text;
}

static float floatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

static uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float bf16ToFloat(uint16_t bits) { return floatFromBits(uint32_t(bits) << 16); }

float f16ToFloat(uint16_t bits) {
  constexpr uint32_t exponentMask = 0x1fu << 23, rebias = uint32_t(127 - 15) << 23;
  uint32_t value = uint32_t(bits & 0x7fff) << 13;
  const uint32_t exponent = value & exponentMask;
  value += rebias;
  if (exponent == exponentMask) {
    value += rebias; // infinity and NaN
  } else if (exponent == 0) {
    // Subnormal: give it an implicit one, then subtract that one in float arithmetic, which normalises.
    value += 1u << 23;
    value = bitsOf(floatFromBits(value) - floatFromBits(rebias + (1u << 23)));
  }
  return floatFromBits(value | uint32_t(bits & 0x8000) << 16);
}

uint16_t floatToBF16(float value) {
  const uint32_t bits = bitsOf(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

uint16_t floatToF16(float value) {
  const uint32_t bits = bitsOf(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x47800000u) // 2^16 and above
    return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) // below 2^-14: adding 0.5 leaves units of 2^-24, rounded to nearest even
    return static_cast<uint16_t>(sign | (bitsOf(floatFromBits(magnitude) + 0.5f) - bitsOf(0.5f)));
  magnitude -= uint32_t(127 - 15) << 23;
  magnitude += 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | magnitude >> 13);
}

float doubleToFloatOdd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value))
    return nearest;
  uint32_t bits = bitsOf(nearest);
  if (bits & 1u)
    return nearest;
  // The nearest neighbour is even, so the one on the other side of the value is odd.
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value))
    --bits;
  else
    ++bits;
  return floatFromBits(bits);
}

} // namespace setun
