//===- Kernels.h - the kernel table --------------------------------*- C++ -*-===//
#ifndef SETUN_LIB_TARGET_KERNELS_H
#define SETUN_LIB_TARGET_KERNELS_H

#include "setun/Packing.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"

namespace setun {

/// How a row sums products; see Kernels.def.
enum class DotMethod { FourWay, Pairs };

/// One row of Kernels.def.
struct KernelRow {
  llvm::StringLiteral name;
  llvm::StringLiteral features;
  DotMethod method;
  int bytes;
  llvm::StringLiteral description;

  /// Largest unsigned operand of the row's dots.
  int64_t maxOperand(packing::WeightKind kind) const;
  /// Largest K for which no accumulator can wrap, from the code range (see Kernels.def).
  int64_t maxColumns(packing::WeightKind kind) const;
  /// Steps of `maxCode` that 16 bits hold.
  static int64_t maxPairSteps(int64_t maxCode) { return 32767 / (2 * maxCode * 128); }
  /// Has vpermi2b, a look-up of any byte in 128.
  bool looksUpBytes() const { return features.contains("avx512vbmi"); }
  /// Vector registers.
  int64_t registers() const { return bytes == 64 ? 32 : 16; }
  bool supportedBy(const llvm::StringSet<> &features) const;
};

/// All rows, best first.
llvm::ArrayRef<KernelRow> kernelRows();
/// The row of that name, or null.
const KernelRow *findKernelRow(llvm::StringRef name);

} // namespace setun

#endif // SETUN_LIB_TARGET_KERNELS_H
