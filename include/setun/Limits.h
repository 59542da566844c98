//===- Limits.h - what this machine can do at best --------------*- C++ -*-===//
//
// Speeds of packages mean little by themselves: decoding is bound by how fast memory can be read, prefill by how fast
// the CPU multiplies bytes. This measures both, with as many threads as the package gets. A library of its own
// (setun_limits), for tools; the runtime does not need it.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIMITS_H
#define SETUN_LIMITS_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace setun {

class Limits {
public:
  /// Allocates what the measurements read and finds the fastest way to read it; this takes about a second.
  /// `bytes`: size of the buffer; 0: far more than the caches hold. `features`: LLVM names separated by commas, to
  /// measure the multiply-adds of a smaller CPU; empty: those of this CPU. Throws std::bad_alloc or std::system_error.
  explicit Limits(unsigned threads, size_t bytes = 0, const std::string &features = std::string());
  ~Limits();
  Limits(const Limits &) = delete;
  Limits &operator=(const Limits &) = delete;

  /// GB/s (10^9 bytes) that the threads read from memory together, measured for about 0.1 s.
  double readBandwidth();
  /// Gop/s (10^9; a multiply-add is two) of 8-bit multiply-adds in registers, all threads together, for about 0.1 s.
  double int8Peak();

  /// How the figures were reached: "4 streams, prefetch 1024", "vpdpbusd zmm, 12 accumulators".
  const std::string &readMethod() const;
  const std::string &int8Method() const;
  size_t bytes() const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace setun

#endif // SETUN_LIMITS_H
