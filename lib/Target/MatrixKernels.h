//===- MatrixKernels.h - kernels chosen by hand or by measurement ------------------===//
//
// What overrides the cost model: for a shape of matrix the kernel row, the packed layout and the tile. Files hold a
// list of JSON objects, pass options the same as text.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_TARGET_MATRIXKERNELS_H
#define SETUN_LIB_TARGET_MATRIXKERNELS_H

#include "lib/Target/Kernels.h"

#include "llvm/Support/Error.h"

#include <string>
#include <tuple>
#include <vector>

namespace setun {

/// Matrices that are computed alike, after fusion.
struct MatrixShape {
  int64_t rows = 0; ///< of all matrices that are fused: for a gated pair both
  int64_t cols = 0;
  int64_t group = 0; ///< columns that share a scale; 0: all
  bool binary = false;
  bool gated = false;

  bool operator==(const MatrixShape &other) const { return key() == other.key(); }
  bool operator<(const MatrixShape &other) const { return key() < other.key(); }

private:
  std::tuple<int64_t, int64_t, int64_t, bool, bool> key() const { return {rows, cols, group, binary, gated}; }
};

/// "13824x2560:gated", with ":group128" and ":binary" where that holds.
std::string toString(const MatrixShape &shape);

/// The kernel of all matrices of one shape.
struct MatrixKernel {
  static constexpr int64_t kMaxTokens = 16, kMaxStaged = 1 << 20;

  MatrixShape shape;
  std::string target; ///< that it is for; empty: any
  const KernelRow *row = nullptr;
  packing::WeightKind kind = packing::WeightKind::Ternary;
  int64_t tokens = 1; ///< of the inner loop
  int64_t staged = 0; ///< tokens from which on operands are staged; 0: never
  /// Nanoseconds of a core a million weights, one token from memory and each of many from cache; 0: not measured.
  int64_t measuredDecode = 0, measuredPrefill = 0;
};

/// "13824x2560:gated:avx512vnni:r16k4f4:5:16": shape, row, layout, tokens, staged. Measurements are not in it.
std::string toString(const MatrixKernel &kernel);
llvm::Expected<MatrixKernel> parseMatrixKernel(llvm::StringRef text);

/// Reads a list of JSON objects with rows, cols, row, format, tokens, and, if not 0, false or empty, binary, gated,
/// group, staged, target, measured_decode and measured_prefill. Every kernel is exact for its matrix, and no two are
/// for the same.
llvm::Expected<std::vector<MatrixKernel>> readMatrixKernels(llvm::StringRef json);

} // namespace setun

#endif // SETUN_LIB_TARGET_MATRIXKERNELS_H
