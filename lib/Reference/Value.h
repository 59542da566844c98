//===- Value.h - values of the reference interpreter ---------------*- C++ -*-===//
//
// A typed, dense, row-major array. Scalars, vectors and tensors of the IR are all such arrays; a scalar has rank 0.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_REFERENCE_VALUE_H
#define SETUN_LIB_REFERENCE_VALUE_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/SmallVector.h"

#include <memory>
#include <string>
#include <vector>

namespace setun::reference {

using Shape = llvm::SmallVector<int64_t, 4>;

/// Elements are stored one by one: i1 as a byte 0 or 1, i2 as a byte -2 .. 1, index as i64, f16 and bf16 as their bits.
/// Copies share the bytes; `mutableData` is for the one who has just created the tensor.
class Tensor {
public:
  Tensor() = default;
  /// Zeros. The element type must be supported.
  Tensor(mlir::Type elementType, llvm::ArrayRef<int64_t> shape);

  /// True for f64, f32, f16, bf16, index and integers of 1, 2, 8, 16, 32 and 64 bits.
  static bool supports(mlir::Type elementType);
  static Tensor scalar(mlir::Type type, int64_t value);
  static Tensor scalar(mlir::Type type, double value);
  /// None if the attribute is of a kind or type that is not supported.
  static std::optional<Tensor> fromAttribute(mlir::TypedAttr attr);

  mlir::Type elementType() const { return type; }
  llvm::ArrayRef<int64_t> shape() const { return dims; }
  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  int64_t dim(int64_t i) const { return dims[i]; }
  int64_t size() const { return count; }
  bool isFloat() const { return llvm::isa<mlir::FloatType>(type); }
  /// Whether this is a value of an IR type: same element type, same shape where that is static.
  bool conformsTo(mlir::Type irType) const;

  template <typename T> const T *data() const { return reinterpret_cast<const T *>(bytes->data()); }
  template <typename T> T *mutableData() { return reinterpret_cast<T *>(bytes->data()); }
  size_t byteSize() const { return bytes->size(); }
  unsigned elementBytes() const { return width; }

  /// Sign extended, except that i1 is 0 or 1.
  int64_t intAt(int64_t i) const;
  /// Truncates to the element type.
  void setInt(int64_t i, int64_t value);
  /// Exact.
  double floatAt(int64_t i) const;
  /// Rounds once, to nearest even.
  void setFloat(int64_t i, double value);
  /// Copies one element from a tensor of the same element type.
  void copyElement(int64_t i, const Tensor &from, int64_t j);

  /// The same bytes in another shape of as many elements.
  Tensor reshaped(llvm::ArrayRef<int64_t> shape) const;
  /// A copy that shares nothing.
  Tensor clone() const;
  /// All elements as f32; exact for every float type but f64.
  std::vector<float> toFloats() const;
  /// Weight codes: i2 as they are, i1 as -1 and +1.
  std::vector<int8_t> toCodes() const;

  /// "tensor<2x3xf32>"; "f32" for a scalar.
  std::string typeString() const;
  /// "[[1, 2], [3, 4]]"; floats with nine digits, which tell any two apart.
  std::string valueString() const;

  /// Name of the weight that this value is or comes from; empty if there is none.
  std::string origin;

private:
  mlir::Type type;
  Shape dims;
  int64_t count = 0;
  unsigned width = 0;
  std::shared_ptr<std::vector<uint8_t>> bytes;
};

/// Row-major position of `index` in `shape`.
int64_t flatten(llvm::ArrayRef<int64_t> index, llvm::ArrayRef<int64_t> shape);
/// Steps `index` through `shape` in row-major order; false after the last.
bool advance(llvm::MutableArrayRef<int64_t> index, llvm::ArrayRef<int64_t> shape);

} // namespace setun::reference

#endif // SETUN_LIB_REFERENCE_VALUE_H
