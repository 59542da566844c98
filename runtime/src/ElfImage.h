//===- ElfImage.h - loads code sections -------------------------*- C++ -*-===//
//
// A loader for the one kind of ELF file that packages hold: shared objects of the host's architecture without imports,
// whose relocations are relative only. Everything is checked before anything becomes executable, and nothing is
// writable and executable at once.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_RUNTIME_ELFIMAGE_H
#define SETUN_RUNTIME_ELFIMAGE_H

#include "Memory.h"
#include "Status.h"

#include <cstdint>
#include <vector>

namespace setun {
namespace runtime {

class ElfImage {
public:
  /// Checks and maps an image. The bytes are copied. On an error `image` is empty.
  static Status load(const uint8_t *bytes, size_t size, ElfImage &image);

  /// The address of the function at virtual address `offset`; an error unless it lies in executable memory.
  Status function(uint64_t offset, const void *&address) const;

private:
  struct Range {
    uint64_t begin;
    uint64_t end;
  };

  Mapping mapping;
  std::vector<Range> executable; // virtual addresses
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_ELFIMAGE_H
