//===- read_bandwidth.cpp - how fast this machine reads memory --------------------===//
//
// Each thread reads its own contiguous part of a buffer that no cache holds and folds it into a few registers. Prints
// GB/s, the best of three passes. Usage: read_bandwidth [threads] [mebibytes]
//
//===----------------------------------------------------------------------===//
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

// Eight independent streams of one cache line each; the compiler vectorises the inner loop.
__attribute__((noinline)) static uint64_t readAll(const uint64_t *data, size_t count) {
  uint64_t acc[64] = {};
  for (size_t i = 0; i + 64 <= count; i += 64)
    for (size_t j = 0; j < 64; ++j)
      acc[j] ^= data[i + j];
  uint64_t all = 0;
  for (uint64_t value : acc)
    all ^= value;
  return all;
}

int main(int argc, char **argv) {
  const long threads = argc > 1 ? std::atol(argv[1]) : 1;
  const long mebibytes = argc > 2 ? std::atol(argv[2]) : 1024;
  if (threads < 1 || threads > 1024 || mebibytes < 1) {
    std::fprintf(stderr, "usage: read_bandwidth [threads] [mebibytes]\n");
    return 2;
  }
  std::vector<uint64_t> data(static_cast<size_t>(mebibytes) * 131072, 1);
  const size_t part = data.size() / threads;
  double best = 0;
  volatile uint64_t sink = 0;
  for (int pass = 0; pass < 3; ++pass) {
    std::vector<uint64_t> results(threads);
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (long t = 1; t < threads; ++t)
      workers.emplace_back([&, t] { results[t] = readAll(data.data() + t * part, part); });
    results[0] = readAll(data.data(), part);
    for (std::thread &worker : workers)
      worker.join();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    for (uint64_t value : results)
      sink = sink ^ value;
    best = std::max(best, double(part) * threads * sizeof(uint64_t) / time.count() / 1e9);
  }
  std::printf("%.2f\n", best);
}
