//===- Kernels.h - the kernel table --------------------------------*- C++ -*-===//
#ifndef SETUN_LIB_TARGET_KERNELS_H
#define SETUN_LIB_TARGET_KERNELS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"

namespace setun {

/// How a row sums products; see Kernels.def.
enum class DotMethod { Triangular, Pairs };

/// One row of Kernels.def.
struct KernelRow {
  llvm::StringLiteral name;
  llvm::StringLiteral features;
  DotMethod method;
  int bytes;
  int ternaryTokens, binaryTokens;
  llvm::StringLiteral description;

  /// Largest K for which no accumulator can wrap, from the code range (see Kernels.def).
  int64_t maxColumns(bool binary) const;
  /// Steps of `maxCode` that 16 bits hold.
  static int64_t maxPairSteps(int64_t maxCode) { return 32767 / (2 * maxCode * 128); }
  bool supportedBy(const llvm::StringSet<> &features) const;
};

/// All rows, best first.
llvm::ArrayRef<KernelRow> kernelRows();
/// The row of that name, or null.
const KernelRow *findKernelRow(llvm::StringRef name);
/// The first row that the features support and that is exact for K columns. Never null: the last row always matches.
const KernelRow *selectKernelRow(const llvm::StringSet<> &features, bool binary, int64_t columns);

} // namespace setun

#endif // SETUN_LIB_TARGET_KERNELS_H
