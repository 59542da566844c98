//===- WeightStore.cpp - where packed weights go ----------------------------------===//
#include "passes/WeightStore.h"

#include <cstring>

using namespace setun;

WeightStore::~WeightStore() = default;
void WeightStore::warn(llvm::StringRef) {}

llvm::Expected<uint64_t> MemoryWeightStore::reserve(uint64_t size) {
  uint64_t offset = (bytes.size() + 63) / 64 * 64;
  bytes.resize(offset + size);
  return offset;
}

llvm::Error MemoryWeightStore::write(uint64_t offset, const void *data, uint64_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset)
    return llvm::createStringError("write beyond the reserved range");
  std::memcpy(bytes.data() + offset, data, size);
  return llvm::Error::success();
}
