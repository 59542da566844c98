//===- ThreadPool.cpp - SPMD workers and their barrier --------------------===//
#include "ThreadPool.h"

#include "Cpu.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <system_error>

#ifdef __linux__
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace setun::runtime;

/// Tells the CPU that this is a waiting loop.
static void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

//===----------------------------------------------------------------------===//
// WaitWord
//===----------------------------------------------------------------------===//

#ifdef __linux__

/// Sleeps if the value still is `old` when the kernel looks; may return early.
static void sleepWhile(std::atomic<uint32_t> &value, uint32_t old) {
  static_assert(sizeof(value) == sizeof(uint32_t), "a futex is 32 bits wide");
  ::syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
}

static void wakeAll(std::atomic<uint32_t> &value) {
  ::syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

#else

// Without futexes, sleeping in short steps needs no further state and cannot miss a wake-up.
static void sleepWhile(std::atomic<uint32_t> &, uint32_t) {
  std::this_thread::sleep_for(std::chrono::microseconds(50));
}
static void wakeAll(std::atomic<uint32_t> &) {}

#endif

void WaitWord::waitWhile(uint32_t old) {
  for (unsigned i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old)
      return;
    relax();
  }
  // Either publish() sees the sleeper or the sleeper sees the new value: both sides write, then read, in one order.
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  while (value.load(std::memory_order_seq_cst) == old)
    sleepWhile(value, old);
  sleepers.fetch_sub(1, std::memory_order_relaxed);
}

void WaitWord::publish(uint32_t next) {
  value.store(next, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) != 0)
    wakeAll(value);
}

//===----------------------------------------------------------------------===//
// Barrier
//===----------------------------------------------------------------------===//

void Barrier::wait() {
  if (threads == 1)
    return;
  // Read before arriving: once the last thread has arrived the generation moves on.
  uint32_t current = generation.load();
  if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    arrived.store(0, std::memory_order_relaxed);
    generation.publish(current + 1);
    return;
  }
  generation.waitWhile(current);
}

//===----------------------------------------------------------------------===//
// ThreadPool
//===----------------------------------------------------------------------===//

/// Looks that a waiting loop takes in this time. The pause between two is ten times longer on some CPUs than on others.
static unsigned spinsIn(std::chrono::nanoseconds time) {
  constexpr unsigned count = 100;
  auto shortest = std::chrono::nanoseconds::max();
  for (unsigned attempt = 0; attempt < 3; ++attempt) { // any one of them may be interrupted
    const auto start = std::chrono::steady_clock::now();
    for (unsigned i = 0; i < count; ++i)
      relax();
    shortest = std::min<std::chrono::nanoseconds>(shortest, std::chrono::steady_clock::now() - start);
  }
  return static_cast<unsigned>(std::max<int64_t>(1, time.count() * count / std::max<int64_t>(1, shortest.count())));
}

ThreadPool::ThreadPool(unsigned threads, unsigned spins) : threads(threads), barrier(threads, spins), job(spins) {}

Status ThreadPool::create(unsigned threads, std::unique_ptr<ThreadPool> &pool) {
  // Longer than the usual wait within a token, and short enough that little is lost where another program has the CPU
  // of the thread that is waited for. With more threads than CPUs that is certain, so they sleep at once.
  unsigned spins = threads == 1 || threads > usableCpus() ? 20 : spinsIn(std::chrono::microseconds(20));
  pool.reset(new ThreadPool(threads, spins));

#ifndef _WIN32
  // Signals are for the threads of the host program.
  sigset_t all, previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
#endif
  Status status;
  try {
    pool->workers.reserve(threads - 1);
    for (unsigned thread = 1; thread < threads; ++thread)
      pool->workers.emplace_back(&ThreadPool::work, pool.get(), thread);
  } catch (const std::system_error &error) {
    status = Status(SETUN_ERROR_OUT_OF_MEMORY, "cannot start " + std::to_string(threads) + " threads: " + error.what());
  }
#ifndef _WIN32
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
#endif
  if (!status.ok())
    pool.reset();
  return status;
}

ThreadPool::~ThreadPool() {
  function = nullptr;
  job.publish(job.load() + 1);
  for (std::thread &worker : workers)
    worker.join();
}

void ThreadPool::work(unsigned thread) {
#ifdef __linux__
  pthread_setname_np(pthread_self(), "setun-worker");
#endif
  DefaultFloatEnvironment environment;
  for (uint32_t seen = 0;;) {
    job.waitWhile(seen);
    ++seen; // jobs are published one at a time, and only when all threads have finished the one before
    if (!function)
      return;
    function(invocation, thread);
    barrier.wait();
  }
}

void ThreadPool::run(setun_entry_fn entry, setun_invocation &call) {
  call.num_threads = threads;
  call.barrier = [](void *data, uint32_t) { static_cast<Barrier *>(data)->wait(); };
  call.barrier_data = &barrier;

  DefaultFloatEnvironment environment;
  if (threads > 1) {
    function = entry;
    invocation = &call;
    job.publish(job.load() + 1);
  }
  entry(&call, 0);
  barrier.wait();
}
