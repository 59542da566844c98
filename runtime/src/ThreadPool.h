//===- ThreadPool.h - SPMD workers and their barrier ------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_THREADPOOL_H
#define SETUN_RUNTIME_THREADPOOL_H

#include "Memory.h"
#include "Status.h"
#include "setun/EntryABI.h"

#include <atomic>
#include <memory>
#include <pthread.h>
#include <vector>

namespace setun {
namespace runtime {

/// How often one thread looks at what it waits for before it sleeps. Halved when that was in vain (some other program
/// has the CPU of the thread that is waited for, and perhaps wants this one's), doubled again when it was not, or when
/// the thread slept for so short a time that looking on would have been better.
class alignas(128) Patience {
public:
  explicit Patience(unsigned most) : most(most), looks(most) {}
  unsigned get() const { return looks; }
  void adapt(bool sleptLong) {
    if (sleptLong)
      looks = looks / 2;
    else if (looks < most)
      looks = looks * 2 + 1 < most ? looks * 2 + 1 : most;
  }

private:
  unsigned most, looks;
};

/// A number that threads wait on: they spin for a while, for the usual wait is shorter than a system call, and then
/// sleep, for the machine may have fewer free CPUs than threads.
class alignas(128) WaitWord {
public:
  /// Returns once the count has reached `target`, which is never far from it (counts wrap). True: it slept for long.
  bool waitFor(uint32_t target, const Patience &patience);
  /// Adds one, by the only thread that does, and wakes all that sleep; returns the new count.
  uint32_t advance();

private:
  std::atomic<uint32_t> value{0};
  std::atomic<uint32_t> sleepers{0};
};

/// Every thread counts its arrivals in a cache line of its own and looks at those of the others: one line crosses from
/// core to core, where a common counter and then a common flag would have to. A thread cannot be two barriers ahead, so
/// counts need no reset.
class Barrier {
public:
  Barrier(unsigned threads, unsigned looks)
      : threads(threads), patience(threads, Patience(looks)), arrivals(new WaitWord[threads]) {}
  /// Returns once all threads have called it; what they wrote before is then visible to all.
  void wait(unsigned thread) { waitForOthers(thread, arrive(thread)); }
  /// The two halves of wait(), for threads of which one alone waits.
  uint32_t arrive(unsigned thread) { return arrivals[thread].advance(); }
  void waitForOthers(unsigned thread, uint32_t count);

private:
  const unsigned threads;
  std::vector<Patience> patience; ///< of each thread
  std::unique_ptr<WaitWord[]> arrivals;
};

/// N-1 threads that, together with the caller as thread 0, run one function at a time.
class ThreadPool {
public:
  static Status create(unsigned threads, std::unique_ptr<ThreadPool> &pool);
  ~ThreadPool();

  unsigned size() const { return threads; }
  /// Whether the threads are another process's: this one was forked from it.
  bool isForked() const { return alive.size() && !*alive.data(); }
  /// What a barrier of all threads takes when they come at the same time, measured at the start; 0 where there are more
  /// threads than CPUs.
  double barrierNanoseconds() const { return barrierTime; }
  /// Runs `function(invocation, thread)` on all threads, or on the caller's alone, and returns when all are done. Fills
  /// in the invocation's thread count and barrier. One call at a time.
  void run(setun_entry_fn function, setun_invocation &invocation, bool alone = false);

private:
  ThreadPool(unsigned threads, unsigned looks);
  Status start();
  void work(unsigned thread);
  void measureBarrier();

  const unsigned threads, looks;
  Barrier barrier;
  WaitWord job;
  // Written by the caller before job.advance, read by the workers after it.
  setun_entry_fn function = nullptr; // null: stop
  const setun_invocation *invocation = nullptr;
  struct Worker {
    ThreadPool *pool;
    unsigned number;
    pthread_t thread;
  };
  std::vector<Worker> workers;
  Mapping alive; // its first byte is 1 in the process that has the workers
  double barrierTime = 0;
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_THREADPOOL_H
