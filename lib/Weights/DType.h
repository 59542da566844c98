//===- DType.h - element types of weight files ------------------*- C++ -*-===//
//
// Element types of .safetensors files and conversions between the floating-point ones.
//
//===----------------------------------------------------------------------===//

#ifndef SETUN_LIB_WEIGHTS_DTYPE_H
#define SETUN_LIB_WEIGHTS_DTYPE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>
#include <string>

namespace setun {

/// Element types that the .safetensors format names. The 8-bit floats are known so that files holding them can be
/// opened; reading such a tensor is an error.
enum class DType : uint8_t { Bool, U8, I8, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64, F8E4M3, F8E5M2, F8E8M0 };

/// Name in the format, e.g. "BF16".
llvm::StringRef dtypeName(DType dtype);
/// Inverse of dtypeName; none for names that the format does not have.
std::optional<DType> parseDType(llvm::StringRef name);
/// Bytes of an element.
unsigned dtypeSize(DType dtype);
/// True for F16, BF16, F32 and F64.
bool isFloatDType(DType dtype);
/// Product of the dimensions; none if it does not fit in int64_t or a dimension is negative. 1 for a scalar.
std::optional<int64_t> elementCount(llvm::ArrayRef<int64_t> shape);
/// "2560x6912", "scalar" for rank 0.
std::string shapeString(llvm::ArrayRef<int64_t> shape);

/// Exact.
float bf16ToFloat(uint16_t bits);
/// Exact, subnormals included.
float f16ToFloat(uint16_t bits);
/// Nearest, ties to even; overflow goes to infinity, NaN stays NaN.
uint16_t floatToBF16(float value);
/// Nearest, ties to even; overflow goes to infinity, NaN stays NaN.
uint16_t floatToF16(float value);
/// Rounds towards whichever float32 neighbour has an odd last bit, so that a following rounding to f16 or bf16 equals
/// one rounding from the double.
float doubleToFloatOdd(double value);

} // namespace setun

#endif // SETUN_LIB_WEIGHTS_DTYPE_H
