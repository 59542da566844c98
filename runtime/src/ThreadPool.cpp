//===- ThreadPool.cpp - SPMD workers and their barrier --------------------===//
#include "ThreadPool.h"

#include "Cpu.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <signal.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <thread>
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

/// Longer than the usual wait within a token (a tenth of a large matmul), and short enough that little is lost where
/// another program has the CPU of the thread that is waited for.
static constexpr std::chrono::microseconds kLongestLooking(50);

bool WaitWord::waitFor(uint32_t target, const Patience &patience) {
  auto reached = [target](uint32_t count) { return static_cast<int32_t>(count - target) >= 0; };
  constexpr unsigned eager = 64; // looks without a pause, for what is about to come
  for (unsigned i = 0, end = eager + patience.get(); i < end; ++i) {
    if (reached(value.load(std::memory_order_acquire)))
      return false;
    if (i >= eager)
      relax();
  }
  const auto start = std::chrono::steady_clock::now();
  // Either advance() sees the sleeper or the sleeper sees the new value: both sides write, then read, in one order.
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  for (;;) {
    const uint32_t count = value.load(std::memory_order_seq_cst);
    if (reached(count))
      break;
    sleepWhile(value, count);
  }
  sleepers.fetch_sub(1, std::memory_order_relaxed);
  return std::chrono::steady_clock::now() - start > 4 * kLongestLooking;
}

uint32_t WaitWord::advance() {
  const uint32_t next = value.load(std::memory_order_relaxed) + 1;
  value.store(next, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) != 0)
    wakeAll(value);
  return next;
}

//===----------------------------------------------------------------------===//
// Barrier
//===----------------------------------------------------------------------===//

void Barrier::waitForOthers(unsigned thread, uint32_t count) {
  bool sleptLong = false;
  for (unsigned other = thread + 1; other < threads; ++other)
    sleptLong |= arrivals[other].waitFor(count, patience[thread]);
  for (unsigned other = 0; other < thread; ++other)
    sleptLong |= arrivals[other].waitFor(count, patience[thread]);
  patience[thread].adapt(sleptLong);
}

//===----------------------------------------------------------------------===//
// ThreadPool
//===----------------------------------------------------------------------===//

/// Looks that a waiting loop takes in this time. The pause between two is ten times longer on some CPUs than on others.
static unsigned looksIn(std::chrono::nanoseconds time) {
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

ThreadPool::ThreadPool(unsigned threads, unsigned looks) : threads(threads), looks(looks), barrier(threads, looks) {}

namespace {

/// Compiled code keeps operands on the stack, up to about 150 KiB (attention), and some systems give threads 128.
constexpr size_t kStackSize = size_t(1) << 20;

/// For its lifetime signals are kept from this thread, and from those that it starts for good: signals are for the
/// threads of the host program. Not so those that a thread raises itself by a fault, which then end the process unseen
/// by the host's handlers.
class BlockedSignals {
public:
  BlockedSignals() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (int fault : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP})
      sigdelset(&blocked, fault);
    pthread_sigmask(SIG_BLOCK, &blocked, &previous);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &previous, nullptr); }
  BlockedSignals(const BlockedSignals &) = delete;
  BlockedSignals &operator=(const BlockedSignals &) = delete;

private:
  sigset_t previous;
};

} // namespace

Status ThreadPool::create(unsigned threads, std::unique_ptr<ThreadPool> &pool) {
  // With more threads than CPUs some thread that is waited for certainly has no CPU, so they sleep at once.
  unsigned looks = threads == 1 || threads > usableCpus() ? 0 : looksIn(kLongestLooking);
  std::unique_ptr<ThreadPool> made(new ThreadPool(threads, looks));
  SETUN_RETURN_IF_ERROR(made->start());
  if (looks)
    made->measureBarrier();
  pool = std::move(made);
  return Status();
}

Status ThreadPool::start() {
  if (threads == 1)
    return Status();
  alive = Mapping::zeroedByFork();
  if (alive.size())
    *alive.data() = 1;
  BlockedSignals signals;
  pthread_attr_t attributes;
  size_t stack = 0;
  pthread_attr_init(&attributes);
  if (pthread_attr_getstacksize(&attributes, &stack) == 0 && stack < kStackSize)
    pthread_attr_setstacksize(&attributes, kStackSize);
  workers.reserve(threads - 1); // they stay where they are
  int failure = 0;
  for (unsigned number = 1; number < threads && !failure; ++number) {
    Worker &worker = workers.emplace_back(Worker{this, number, {}});
    failure = pthread_create(
        &worker.thread, &attributes,
        [](void *data) -> void * {
          const Worker &self = *static_cast<const Worker *>(data);
          self.pool->work(self.number);
          return nullptr;
        },
        &worker);
    if (failure)
      workers.pop_back();
  }
  pthread_attr_destroy(&attributes);
  if (failure)
    return Status(SETUN_ERROR_OUT_OF_MEMORY,
                  "cannot start " + std::to_string(threads) + " threads: " + std::strerror(failure));
  return Status();
}

void ThreadPool::measureBarrier() {
  constexpr unsigned count = 50;
  auto shortest = std::chrono::nanoseconds::max();
  for (unsigned attempt = 0; attempt < 3; ++attempt) { // workers may just be starting
    setun_invocation call = {};
    const auto start = std::chrono::steady_clock::now();
    run(
        [](const setun_invocation *invocation, uint32_t thread) {
          for (unsigned i = 0; i < count; ++i)
            invocation->barrier(invocation->barrier_data, thread);
        },
        call);
    shortest = std::min<std::chrono::nanoseconds>(shortest, std::chrono::steady_clock::now() - start);
  }
  barrierTime = static_cast<double>(shortest.count()) / count;
}

ThreadPool::~ThreadPool() {
  if (isForked()) // nobody here can wait for the parent's threads
    return;
  function = nullptr;
  job.advance();
  for (const Worker &worker : workers)
    pthread_join(worker.thread, nullptr);
}

void ThreadPool::work(unsigned thread) {
#ifdef __linux__
  pthread_setname_np(pthread_self(), "setun-worker");
#endif
  DefaultFloatEnvironment environment;
  // Jobs come one at a time, and only when all threads have finished the one before.
  Patience patience(looks);
  for (uint32_t next = 1;; ++next) {
    patience.adapt(job.waitFor(next, patience));
    if (!function)
      return;
    function(invocation, thread);
    barrier.arrive(thread); // the caller waits for all, nobody else needs to
  }
}

void ThreadPool::run(setun_entry_fn entry, setun_invocation &call, bool alone) {
  DefaultFloatEnvironment environment;
  if (alone || threads == 1) {
    call.num_threads = 1;
    call.barrier = [](void *, uint32_t) {};
    entry(&call, 0);
    return;
  }
  call.num_threads = threads;
  call.barrier = [](void *data, uint32_t thread) { static_cast<Barrier *>(data)->wait(thread); };
  call.barrier_data = &barrier;
  function = entry;
  invocation = &call;
  job.advance();
  entry(&call, 0);
  barrier.wait(0);
}
