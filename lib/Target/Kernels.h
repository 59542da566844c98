//===- Kernels.h - the kernel table --------------------------------*- C++ -*-===//
#ifndef SETUN_LIB_TARGET_KERNELS_H
#define SETUN_LIB_TARGET_KERNELS_H

#include "setun/Packing.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"

#include <optional>
#include <string>

namespace setun {

/// How a row sums products; see Kernels.def.
enum class DotMethod { FourWay, Pairs, Products, LookUp };

/// One row of Kernels.def.
struct KernelRow {
  llvm::StringLiteral name;
  llvm::StringLiteral features;
  llvm::StringLiteral arch;
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
  /// Has four-way dots.
  bool isFourWay() const { return method == DotMethod::FourWay || method == DotMethod::LookUp; }
  /// Products of a step that one lane of the inner loop adds.
  int64_t productsPerLane() const { return isFourWay() ? 4 : method == DotMethod::Pairs ? 2 : 1; }
  /// Vectors of accumulators for one vector of operands.
  int64_t accumulatorsPerField() const { return method == DotMethod::Products ? 2 : 1; }
  /// Steps of `maxCode` that 16 bits hold.
  int64_t maxNarrowSteps(int64_t maxCode) const { return 32767 / (productsPerLane() * maxCode * 128); }
  /// Has sdot, whose operands both are signed.
  bool hasSignedDots() const { return isFourWay() && arch == "aarch64"; }
  /// Has smmla and usmmla, and usdot.
  bool hasMatrixDots() const { return hasSignedDots() && features.contains("i8mm"); }
  /// Vectors are as long as the CPU has them, which only the running code knows.
  bool isScalable() const { return arch == "aarch64" && features.starts_with("sve"); }
  /// What bytes are lowered by so that the row's dots of whole bytes take them.
  int64_t byteOffset(packing::WeightKind kind) const {
    if (!hasSignedDots() || (hasMatrixDots() && kind != packing::WeightKind::TernarySigned))
      return 0;
    return packing::hasTwoBits(kind) ? packing::kSignedOffset : 128;
  }
  /// Has vpermi2b, a look-up of any byte in 128.
  bool looksUpBytes() const { return features.contains("avx512vbmi"); }
  /// Vector registers.
  int64_t registers() const { return bytes == 64 || arch == "aarch64" ? 32 : 16; }
  /// Packed bytes that one token takes at a time: the more, the fewer passes over a panel, as far as the registers hold
  /// the accumulators.
  int64_t bytesAlone(packing::WeightKind kind) const {
    if (arch != "aarch64")
      return bytes >= 32 ? 64 : bytes;
    const int64_t accumulators = operands(kind) * accumulatorsPerField();
    return accumulators <= 5 ? 64 : accumulators <= 10 ? 32 : 16;
  }
  /// Has smopa and sumopa, a vector of tokens by a vector of rows of weights by one step.
  bool hasOuterProducts() const { return arch == "aarch64" && features.ends_with("sme"); }
  /// Has these or tdpbsud, 16 tokens by 16 rows of weights by 16 steps at once.
  bool hasTiles() const { return hasOuterProducts() || features.contains("amx-int8"); }
  /// Many tokens look sums up in tables; 8-bit codes are too many for them.
  bool looksUpSums(packing::WeightKind kind) const {
    return method == DotMethod::LookUp && kind != packing::WeightKind::Bytes;
  }
  /// Operands on stage are those of matrix dots.
  bool stagesPairs() const { return hasMatrixDots() && !hasTiles(); }
  /// Where operands are unpacked once for many tokens: tokens that share a piece of a panel, and its steps. The piece
  /// lies in the first cache (but tokens' codes come from the second where tiles leave nothing else to wait for), and
  /// tiles take 16 steps each.
  int64_t stagedTokens() const { return hasTiles() ? 128 : 48; }
  int64_t stagedSteps(packing::WeightKind kind) const;
  bool supportedBy(const llvm::StringSet<> &features) const;
};

/// Layouts of ternary weights, and the one of that name.
llvm::ArrayRef<packing::WeightKind> ternaryLayouts();
std::optional<packing::WeightKind> findTernaryLayout(llvm::StringRef name);
/// "r16k4f4, r16k4t5 or r16k4s4".
std::string ternaryLayoutNames();

/// All rows, best first.
llvm::ArrayRef<KernelRow> kernelRows();
/// The row of that name, or null.
const KernelRow *findKernelRow(llvm::StringRef name);

} // namespace setun

#endif // SETUN_LIB_TARGET_KERNELS_H
