//===- ThreadPoolTest.cpp - workers and barrier under the thread sanitizer ===//
//
// A program of its own: the thread sanitizer cannot be in one process with the address sanitizer.
//
//===----------------------------------------------------------------------===//
#include "../../runtime/src/ThreadPool.h"

#include <chrono>
#include <cstdio>
#include <pthread.h>
#include <signal.h>
#include <thread>
#include <vector>

using namespace setun::runtime;

namespace {

constexpr int kRounds = 200;

/// Plain data that is only right, and only free of races, if the barrier orders all threads' accesses.
struct Shared {
  std::vector<int> values;
  std::vector<int> errors;
};

void body(const setun_invocation *invocation, uint32_t thread) {
  Shared &shared = *static_cast<Shared *>(invocation->buffers[0]);
  for (int round = 1; round <= kRounds; ++round) {
    shared.values[thread] = round;
    invocation->barrier(invocation->barrier_data, thread);
    for (uint32_t other = 0; other < invocation->num_threads; ++other)
      shared.errors[thread] += shared.values[other] != round;
    invocation->barrier(invocation->barrier_data, thread);
    // Late threads make the others go to sleep.
    if (round % 50 == 0 && thread == static_cast<uint32_t>(round / 50) % invocation->num_threads)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

/// Signals are for the host's threads, but a fault is the business of the thread that made it.
void signals(const setun_invocation *invocation, uint32_t thread) {
  Shared &shared = *static_cast<Shared *>(invocation->buffers[0]);
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  shared.errors[thread] += sigismember(&blocked, SIGINT) != (thread > 0);
  shared.errors[thread] += sigismember(&blocked, SIGSEGV) + sigismember(&blocked, SIGILL);
}

/// As much as compiled code has on the stack.
void needsStack(const setun_invocation *, uint32_t thread) {
  volatile char room[200 << 10];
  for (size_t i = 0; i < sizeof(room); i += 1024)
    room[i] = static_cast<char>(thread);
}

} // namespace

int main() {
#ifdef __GLIBC__
  // As little stack as threads get by default elsewhere.
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 128 << 10);
  pthread_setattr_default_np(&small);
#endif
  int errors = 0;
  for (unsigned threads : {1u, 2u, 3u, 7u}) {
    std::unique_ptr<ThreadPool> pool;
    if (Status status = ThreadPool::create(threads, pool); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.message().c_str());
      return 1;
    }
    for (int run = 0; run < 5; ++run) {
      Shared shared{std::vector<int>(threads), std::vector<int>(threads)};
      void *buffers[] = {&shared};
      setun_invocation invocation = {};
      invocation.buffers = buffers;
      pool->run(body, invocation, run == 4);
      pool->run(signals, invocation);
      pool->run(needsStack, invocation);
      for (int count : shared.errors)
        errors += count;
      // Workers are asleep by the next run.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  std::printf("%d errors\n", errors);
  return errors != 0;
}
