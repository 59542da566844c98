//===- ThreadPool.h - SPMD workers and their barrier ------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_THREADPOOL_H
#define SETUN_RUNTIME_THREADPOOL_H

#include "Status.h"
#include "setun/EntryABI.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace setun {
namespace runtime {

/// A number that threads wait on: they spin for a while, for the usual wait is shorter than a system call, and then
/// sleep, for the machine may have fewer free CPUs than threads.
class alignas(128) WaitWord {
public:
  /// `spins`: how often to look before sleeping.
  explicit WaitWord(unsigned spins) : spins(spins) {}

  uint32_t load() const { return value.load(std::memory_order_acquire); }
  /// Returns once the value is another than `old`.
  void waitWhile(uint32_t old);
  /// Sets the value and wakes all that sleep on it.
  void publish(uint32_t next);

private:
  std::atomic<uint32_t> value{0};
  std::atomic<uint32_t> sleepers{0};
  const unsigned spins;
};

/// Sense-reversing barrier; the sense is the parity of a generation count.
class Barrier {
public:
  Barrier(unsigned threads, unsigned spins) : threads(threads), generation(spins) {}
  /// Returns once all threads have called it; what they wrote before is then visible to all.
  void wait();

private:
  const unsigned threads;
  alignas(128) std::atomic<uint32_t> arrived{0};
  WaitWord generation;
};

/// N-1 threads that, together with the caller as thread 0, run one function at a time.
class ThreadPool {
public:
  static Status create(unsigned threads, std::unique_ptr<ThreadPool> &pool);
  ~ThreadPool();

  unsigned size() const { return threads; }
  /// Runs `function(invocation, thread)` on all threads and returns when all are done. Fills in the invocation's
  /// thread count and barrier. One call at a time.
  void run(setun_entry_fn function, setun_invocation &invocation);

private:
  ThreadPool(unsigned threads, unsigned spins);
  void work(unsigned thread);

  const unsigned threads;
  Barrier barrier;
  WaitWord job;
  // Written by the caller before job.publish, read by the workers after it.
  setun_entry_fn function = nullptr; // null: stop
  const setun_invocation *invocation = nullptr;
  std::vector<std::thread> workers;
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_THREADPOOL_H
