//===- CostModel.h - which kernel, layout and tile for a matrix --------------------===//
//
// Counts the vector operations of the inner loop of each kernel row on each packed layout, sets them against what the
// CPU does in a cycle and what memory delivers, and takes the cheapest. `setun compile --tune` replaces the prediction
// by measurements of the same candidates.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_TARGET_COSTMODEL_H
#define SETUN_LIB_TARGET_COSTMODEL_H

#include "lib/Target/Kernels.h"

#include <string>
#include <vector>

namespace setun {

/// One entry of Cpus.def, which says what the fields mean.
struct CpuModel {
  llvm::StringLiteral names;
  double vectorBits, alu, dot, pairs, permute, words, load, tile, coreBytes, socketBytes;
};

/// The model of one of LLVM's CPU names. Never fails: unknown names get the last entry.
const CpuModel &cpuModel(llvm::StringRef cpu);

/// A kernel row on a layout, with its tile.
struct KernelChoice {
  const KernelRow *row = nullptr;
  packing::WeightKind kind = packing::WeightKind::Ternary;
  /// Tokens that one inner loop computes at once: as many as the registers hold accumulators for.
  int64_t tokens = 1;
  /// From this many tokens on, operands are unpacked once for all of them; 0: never.
  int64_t staged = 0;
  /// Predicted cycles a thousand weights: one token from memory, and each of many tokens from cache.
  double decode = 0, prefill = 0;
};

/// Rows of a matrix of which nothing is known.
inline constexpr int64_t kManyRows = int64_t(1) << 20;

/// What to choose for.
struct CostQuery {
  llvm::StringSet<> features; ///< of the target, LLVM names
  std::string cpu;            ///< LLVM's name
  /// Cores that read memory at once; 0: a few.
  unsigned threads = 0;
  bool binary = false;
  int64_t rows = kManyRows, columns = 1;
  /// Layouts to choose from; empty: all that hold the weights.
  std::vector<packing::WeightKind> kinds;
  /// Row to take wherever it is exact; null: the best.
  const KernelRow *row = nullptr;
  /// The matrix can be staged; one with groups is not.
  bool stages = true;
};

/// All rows and layouts that are exact for the matrix, cheapest first. Never empty.
std::vector<KernelChoice> rankKernels(const CostQuery &query);
inline KernelChoice chooseKernel(const CostQuery &query) { return rankKernels(query).front(); }

/// The tile of a row on a layout, and its predicted cost for matrices of so many rows.
KernelChoice costOf(const KernelRow &row, packing::WeightKind kind, const CpuModel &cpu, unsigned threads,
                    int64_t rows = kManyRows);
/// The predicted cost of a given tile.
KernelChoice costOf(const KernelRow &row, packing::WeightKind kind, const CpuModel &cpu, unsigned threads, int64_t rows,
                    int64_t tokens, int64_t staged);

/// What is worth measuring: for each row and layout of rankKernels the best tile with and without staging, and their
/// neighbours. In the order of rankKernels; of each row and layout the predicted tile comes first.
std::vector<KernelChoice> measurableKernels(const CostQuery &query);

} // namespace setun

#endif // SETUN_LIB_TARGET_COSTMODEL_H
