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
  /// Unsigned operands of the dots that a vector of packed bytes gives: one for each field, or the two halves of bytes
  /// where their products would not fit 16 bits.
  int64_t operands(packing::WeightKind kind) const;
  /// Steps of `maxCode` that 16 bits hold.
  static int64_t maxPairSteps(int64_t maxCode) { return 32767 / (2 * maxCode * 128); }
  /// Has vpermi2b, a look-up of any byte in 128.
  bool looksUpBytes() const { return features.contains("avx512vbmi"); }
  /// Vector registers.
  int64_t registers() const { return bytes == 64 ? 32 : 16; }
  /// Has tdpbsud, 16 tokens by 16 rows of weights by 16 steps at once.
  bool hasTiles() const { return features.contains("amx-int8"); }
  /// Where operands are unpacked once for many tokens: tokens that share a piece of a panel, and its steps. The piece
  /// lies in the first cache (but tokens' codes come from the second where tiles leave nothing else to wait for), and
  /// tiles take 16 steps each.
  int64_t stagedTokens() const { return hasTiles() ? 128 : 48; }
  int64_t stagedSteps(packing::WeightKind kind) const;
  bool supportedBy(const llvm::StringSet<> &features) const;
};

/// All rows, best first.
llvm::ArrayRef<KernelRow> kernelRows();
/// The row of that name, or null.
const KernelRow *findKernelRow(llvm::StringRef name);

} // namespace setun

#endif // SETUN_LIB_TARGET_KERNELS_H
