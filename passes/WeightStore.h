//===- WeightStore.h - where packed weights go ---------------------*- C++ -*-===//
//
// The pass that packs weights reads them from a WeightSource and writes them to a WeightStore, panel by panel. Packing
// the same thing twice (for another target, or for another entry) finds the first copy by its key.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_PASSES_WEIGHTSTORE_H
#define SETUN_PASSES_WEIGHTSTORE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace setun {
class WeightSource;

class WeightStore {
public:
  virtual ~WeightStore();

  /// Sets `size` bytes aside and returns their offset, a multiple of 64.
  virtual llvm::Expected<uint64_t> reserve(uint64_t size) = 0;
  /// Writes into a reserved range, in ascending order.
  virtual llvm::Error write(uint64_t offset, const void *data, uint64_t size) = 0;
  /// Something to tell the user that is no error ("tensor is all zero").
  virtual void warn(llvm::StringRef message);

  /// Where `bitnet.weight` finds its tensors; null where a module has none.
  WeightSource *source = nullptr;

  /// Offsets of what was packed already, by a key that says what it is and how it is laid out.
  llvm::StringMap<uint64_t> placed;
  /// The one magnitude of the elements of a float matrix, by its name, and whether they are kept as 0, +1 and -1; 0 if
  /// they have several. Guarded by the mutex: functions are raised at the same time.
  llvm::StringMap<std::pair<float, bool>> magnitudes;
  std::mutex magnitudesMutex;
};

/// Keeps everything in memory: for tests, and for tools that do not write packages.
class MemoryWeightStore : public WeightStore {
public:
  llvm::Expected<uint64_t> reserve(uint64_t size) override;
  llvm::Error write(uint64_t offset, const void *data, uint64_t size) override;
  std::vector<uint8_t> bytes;
};

} // namespace setun

#endif // SETUN_PASSES_WEIGHTSTORE_H
