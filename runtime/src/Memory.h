//===- Memory.h - mapped memory ---------------------------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_MEMORY_H
#define SETUN_RUNTIME_MEMORY_H

#include "Status.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace setun {
namespace runtime {

/// Owner of an mmap'ed range; unmaps it at the end of its life.
class Mapping {
public:
  Mapping() = default;
  ~Mapping() { release(); }
  Mapping(Mapping &&other) noexcept
      : start(std::exchange(other.start, nullptr)), length(std::exchange(other.length, 0)) {}
  Mapping &operator=(Mapping &&other) noexcept {
    std::swap(start, other.start);
    std::swap(length, other.length);
    return *this;
  }

  /// Zeroed memory; a page costs nothing until it is touched. Size 0 gives an empty mapping. `what` is for messages.
  static Status anonymous(size_t size, const std::string &what, Mapping &mapping);
  /// The same in large pages where the system gives them, beginning with a whole one.
  static Status largePages(size_t size, const std::string &what, Mapping &mapping);
  /// Address range without access, to be opened piece by piece with protect().
  static Status reserved(size_t size, const std::string &what, Mapping &mapping);
  /// A page that a fork leaves zeroed in the child. Empty where the system has no such pages.
  static Mapping zeroedByFork();
  /// `size` bytes of a file, read-only.
  static Status file(int fd, size_t size, const std::string &path, Mapping &mapping);

  uint8_t *data() const { return static_cast<uint8_t *>(start); }
  size_t size() const { return length; }
  /// Makes the whole of an anonymous mapping zero again.
  void clear();

private:
  void release();

  void *start = nullptr;
  size_t length = 0;
};

/// Contents of a small file of text; empty if it cannot be read.
std::string readText(const char *path);
/// Page size of the system in bytes.
size_t pageSize();
/// Size and alignment of large pages.
inline constexpr size_t kLargePage = size_t(2) << 20;
/// Whether the system gives large pages to those who ask.
bool hasLargePages();
/// Bytes of memory that could be had without taking any from other programs, as far as the system tells; else 0.
uint64_t availableMemory();
/// Folders of the control groups (version 2) that limit a process, by the contents of its /proc/self/cgroup.
std::vector<std::string> controlGroups(const std::string &groups);

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_MEMORY_H
