//===- Profile.h - time of each operation -----------------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_PROFILE_H
#define SETUN_RUNTIME_PROFILE_H

#include "setun/EntryABI.h"
#include "setun/setun.h"

#include <chrono>
#include <cstdint>
#include <vector>

namespace setun {
namespace runtime {

/// Counts and times of the operations of all entries, on each thread. Runs only write into what the constructor made.
class Profile {
public:
  /// `operations`: how many each entry has.
  Profile(const std::vector<uint32_t> &operations, uint32_t threads);

  /// Lets the invocation report to this profile; the run goes on until end().
  void begin(uint32_t entry, setun_invocation &invocation);
  void end(uint32_t entry);

  const setun_profile_time &entry(uint32_t index) const { return entries[index].whole; }
  const setun_profile_time &operation(uint32_t entry, uint32_t operation, uint32_t thread) const {
    return threads[thread].times[entries[entry].first + operation];
  }

private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    setun_profile_time whole = {};
    uint32_t first = 0; ///< index of its first operation in Thread::times
    uint32_t count = 0;
  };
  /// Threads write at the same time, so each has cache lines of its own.
  struct alignas(128) Thread {
    Clock::time_point last;
    std::vector<setun_profile_time> times; ///< of the operations of all entries, and a line's worth of room
  };

  static void mark(void *data, uint32_t thread, uint32_t operation);

  std::vector<Entry> entries;
  std::vector<Thread> threads;
  uint32_t running = 0; ///< the entry between begin() and end()
  Clock::time_point start;
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_PROFILE_H
