//===- Limits.cpp - what this machine can do at best ----------------------===//
//
// Each method is tried when an object is made, and the fastest is what later measurements use: which number of streams,
// which prefetch distance and how many accumulators are best differs from CPU to CPU.
//
//===----------------------------------------------------------------------===//
#include "setun/Limits.h"

#include "../src/Cpu.h"
#include "../src/Memory.h"
#include "setun/setun.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

using namespace setun;

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

constexpr size_t kChunk = size_t(1) << 20; // what a thread takes at a time

/// Reads a chunk in `Streams` equal parts at once, `Ahead` bytes being prefetched (0: by the hardware alone), and folds
/// all of it into one number.
using ReadFunction = uint64_t (*)(const uint8_t *chunk);

struct ReadMethod {
  std::string name;
  ReadFunction read;
};

template <unsigned Streams, unsigned Ahead> uint64_t readGeneric(const uint8_t *chunk) {
  constexpr size_t part = kChunk / Streams;
  uint64_t acc[8] = {};
  for (size_t i = 0; i < part; i += 64)
    for (unsigned s = 0; s < Streams; ++s) {
      const uint8_t *line = chunk + s * part + i;
      if (Ahead)
        __builtin_prefetch(line + Ahead, 0, 3);
      for (unsigned k = 0; k < 8; ++k) {
        uint64_t word;
        std::memcpy(&word, line + 8 * k, sizeof(word));
        acc[k] ^= word;
      }
    }
  return acc[0] ^ acc[1] ^ acc[2] ^ acc[3] ^ acc[4] ^ acc[5] ^ acc[6] ^ acc[7];
}

#if defined(__x86_64__)

template <unsigned Streams, unsigned Ahead>
__attribute__((target("avx512f"))) uint64_t readAvx512(const uint8_t *chunk) {
  constexpr size_t part = kChunk / Streams;
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (size_t i = 0; i < part; i += 256)
    for (unsigned s = 0; s < Streams; ++s) {
      const uint8_t *lines = chunk + s * part + i;
      if (Ahead)
        for (unsigned k = 0; k < 256; k += 64)
          _mm_prefetch(reinterpret_cast<const char *>(lines + Ahead + k), _MM_HINT_T0);
      a = _mm512_xor_si512(a, _mm512_loadu_si512(lines));
      b = _mm512_xor_si512(b, _mm512_loadu_si512(lines + 64));
      c = _mm512_xor_si512(c, _mm512_loadu_si512(lines + 128));
      d = _mm512_xor_si512(d, _mm512_loadu_si512(lines + 192));
    }
  uint64_t words[8], all = 0;
  _mm512_storeu_si512(words, _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
  for (uint64_t word : words)
    all ^= word;
  return all;
}

template <unsigned Streams, unsigned Ahead> __attribute__((target("avx2"))) uint64_t readAvx2(const uint8_t *chunk) {
  constexpr size_t part = kChunk / Streams;
  __m256i acc[4] = {};
  for (size_t i = 0; i < part; i += 128)
    for (unsigned s = 0; s < Streams; ++s) {
      const uint8_t *lines = chunk + s * part + i;
      if (Ahead)
        for (unsigned k = 0; k < 128; k += 64)
          _mm_prefetch(reinterpret_cast<const char *>(lines + Ahead + k), _MM_HINT_T0);
      for (unsigned k = 0; k < 4; ++k)
        acc[k] = _mm256_xor_si256(acc[k], _mm256_loadu_si256(reinterpret_cast<const __m256i *>(lines + 32 * k)));
    }
  uint64_t words[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(words),
                      _mm256_xor_si256(_mm256_xor_si256(acc[0], acc[1]), _mm256_xor_si256(acc[2], acc[3])));
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}

#endif

#define SETUN_READ_METHOD(function, streams, ahead)                                                                    \
  methods.push_back({std::string(name) + ", " + std::to_string(streams) + (streams == 1 ? " stream" : " streams") +    \
                         (ahead ? ", prefetch " + std::to_string(ahead) : std::string()),                              \
                     function<streams, ahead>})
#define SETUN_READ_METHODS(function)                                                                                   \
  SETUN_READ_METHOD(function, 1, 0);                                                                                   \
  SETUN_READ_METHOD(function, 1, 512);                                                                                 \
  SETUN_READ_METHOD(function, 1, 1024);                                                                                \
  SETUN_READ_METHOD(function, 1, 2048);                                                                                \
  SETUN_READ_METHOD(function, 1, 4096);                                                                                \
  SETUN_READ_METHOD(function, 2, 0);                                                                                   \
  SETUN_READ_METHOD(function, 2, 1024);                                                                                \
  SETUN_READ_METHOD(function, 2, 2048);                                                                                \
  SETUN_READ_METHOD(function, 4, 0);                                                                                   \
  SETUN_READ_METHOD(function, 4, 512);                                                                                 \
  SETUN_READ_METHOD(function, 4, 1024);                                                                                \
  SETUN_READ_METHOD(function, 8, 0)

std::vector<ReadMethod> readMethods(const std::function<bool(const char *)> &has) {
  std::vector<ReadMethod> methods;
  const char *name = "64-bit loads";
#if defined(__x86_64__)
  if (has("avx512f")) {
    name = "zmm loads";
    SETUN_READ_METHODS(readAvx512);
  } else if (has("avx2")) {
    name = "ymm loads";
    SETUN_READ_METHODS(readAvx2);
  } else
#endif
  {
    (void)has;
    SETUN_READ_METHODS(readGeneric);
  }
  return methods;
}

/// Anonymous memory, in large pages where the system gives them.
runtime::Mapping allocate(size_t size) {
  runtime::Mapping memory;
  if (!size || !runtime::Mapping::largePages(size, "a buffer", memory).ok())
    throw std::bad_alloc();
  return memory;
}

/// A number of bytes in a file of one line, with K, M or no unit behind it; 0 if there is none.
size_t readSize(const char *path) {
  std::FILE *file = std::fopen(path, "r");
  if (!file)
    return 0;
  unsigned long long value = 0;
  char unit = 0;
  const int found = std::fscanf(file, "%llu%c", &value, &unit);
  std::fclose(file);
  return found < 1 ? 0 : value * (unit == 'K' ? 1024 : unit == 'M' ? 1048576 : 1);
}

size_t defaultBytes() {
  size_t cache = 0;
  for (int level = 2; level <= 4; ++level)
    cache = std::max(cache,
                     readSize(("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size").c_str()));
  size_t bytes = std::max(size_t(512) << 20, 8 * cache);
  if (const uint64_t available = runtime::availableMemory())
    bytes = std::min<uint64_t>(bytes, available / 2);
  return bytes;
}

//===----------------------------------------------------------------------===//
// Multiplying
//===----------------------------------------------------------------------===//

/// Does `count` times what its method does once a loop; the result keeps the compiler from dropping it.
using MultiplyFunction = int64_t (*)(uint64_t count, const uint8_t *operands);

struct MultiplyMethod {
  std::string name;
  double macs; // multiply-adds of one loop
  MultiplyFunction run;
};

constexpr size_t kOperandBytes = 64 * 40;

#if defined(__x86_64__) || defined(__aarch64__)

// Accumulators start differently, so that no two are the same to the compiler.
#define SETUN_MULTIPLY(function, features, Vector, load, step, store)                                                  \
  template <unsigned Accumulators>                                                                                     \
  __attribute__((target(features))) int64_t function(uint64_t count, const uint8_t *operands) {                        \
    Vector acc[Accumulators];                                                                                          \
    for (unsigned i = 0; i < Accumulators; ++i)                                                                        \
      acc[i] = load(operands + 64 * i);                                                                                \
    const Vector codes = load(operands + 64 * 38), weights = load(operands + 64 * 39);                                 \
    for (uint64_t n = 0; n < count; ++n)                                                                               \
      for (unsigned i = 0; i < Accumulators; ++i)                                                                      \
        acc[i] = step(acc[i], codes, weights);                                                                         \
    int64_t sum = 0;                                                                                                   \
    int32_t lanes[sizeof(Vector) / 4];                                                                                 \
    for (unsigned i = 0; i < Accumulators; ++i) {                                                                      \
      store(lanes, acc[i]);                                                                                            \
      for (int32_t lane : lanes)                                                                                       \
        sum += lane;                                                                                                   \
    }                                                                                                                  \
    return sum;                                                                                                        \
  }

#endif

#if defined(__x86_64__)

#define SETUN_LOAD256(from) _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from))
#define SETUN_STORE256(to, value) _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), value)
#define SETUN_LOAD128(from) _mm_loadu_si128(reinterpret_cast<const __m128i *>(from))
#define SETUN_STORE128(to, value) _mm_storeu_si128(reinterpret_cast<__m128i *>(to), value)
// The compiler must not take the product, which is the same each time, out of the loop.
#define SETUN_OPAQUE(value) __asm__ volatile("" : "+x"(value))

__attribute__((target("avx2"), always_inline)) inline __m256i addProducts16(__m256i acc, __m256i codes,
                                                                            __m256i weights) {
  SETUN_OPAQUE(codes);
  return _mm256_add_epi16(acc, _mm256_maddubs_epi16(codes, weights));
}
__attribute__((target("avx2"), always_inline)) inline __m256i addProducts32(__m256i acc, __m256i codes,
                                                                            __m256i weights) {
  SETUN_OPAQUE(codes);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, weights), _mm256_set1_epi16(1)));
}
__attribute__((target("avx512bw"), always_inline)) inline __m512i addProducts512(__m512i acc, __m512i codes,
                                                                                 __m512i weights) {
  __asm__ volatile("" : "+v"(codes));
  return _mm512_add_epi16(acc, _mm512_maddubs_epi16(codes, weights));
}
inline __m128i addProductsSse2(__m128i acc, __m128i codes, __m128i weights) {
  SETUN_OPAQUE(codes);
  return _mm_add_epi32(acc, _mm_madd_epi16(codes, weights));
}

/// What ldtilecfg reads: tiles of 16 rows of 64 bytes.
struct alignas(64) TileShapes {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Four tiles of sums, as of two tiles of tokens by two of weights.
__attribute__((target("amx-tile,amx-int8"))) int64_t multiplyTiles(uint64_t count, const uint8_t *operands) {
  const TileShapes shapes;
  _tile_loadconfig(&shapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, operands, 64);
  _tile_loadd(5, operands + 64, 64);
  _tile_loadd(6, operands + 128, 64);
  _tile_loadd(7, operands + 192, 64);
  for (uint64_t n = 0; n < count; ++n) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  int32_t sums[4][16 * 16];
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
  _tile_stored(3, sums[3], 64);
  _tile_release();
  int64_t sum = 0;
  for (const auto &tile : sums)
    for (int32_t value : tile)
      sum += value;
  return sum;
}

SETUN_MULTIPLY(multiplyVnni512, "avx512f,avx512vnni", __m512i, _mm512_loadu_si512, _mm512_dpbusd_epi32,
               _mm512_storeu_si512)
SETUN_MULTIPLY(multiplyVnni256, "avx2,avxvnni", __m256i, SETUN_LOAD256, _mm256_dpbusd_avx_epi32, SETUN_STORE256)
SETUN_MULTIPLY(multiplyBw512, "avx512f,avx512bw", __m512i, _mm512_loadu_si512, addProducts512, _mm512_storeu_si512)
SETUN_MULTIPLY(multiplyAvx2, "avx2", __m256i, SETUN_LOAD256, addProducts16, SETUN_STORE256)
SETUN_MULTIPLY(multiplyAvx2Wide, "avx2", __m256i, SETUN_LOAD256, addProducts32, SETUN_STORE256)
SETUN_MULTIPLY(multiplySse2, "sse2", __m128i, SETUN_LOAD128, addProductsSse2, SETUN_STORE128)

#else

#if defined(__aarch64__)
#define SETUN_LOAD128(from) vld1q_s32(reinterpret_cast<const int32_t *>(from))
#define SETUN_DOT(acc, codes, weights) vdotq_s32(acc, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(weights))
#define SETUN_MATRIX(acc, codes, weights) vmmlaq_s32(acc, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(weights))

SETUN_MULTIPLY(multiplyDot, "arch=armv8.2-a+dotprod", int32x4_t, SETUN_LOAD128, SETUN_DOT, vst1q_s32)
SETUN_MULTIPLY(multiplyMatrix, "arch=armv8.2-a+i8mm", int32x4_t, SETUN_LOAD128, SETUN_MATRIX, vst1q_s32)
#endif

/// 16-bit products in whatever vectors the compiler has.
template <unsigned Accumulators> int64_t multiplyGeneric(uint64_t count, const uint8_t *operands) {
  typedef int16_t Vector __attribute__((vector_size(16)));
  auto load = [&](unsigned i) {
    Vector value;
    std::memcpy(&value, operands + 64 * i, sizeof(value));
    return value;
  };
  Vector acc[Accumulators], codes = load(38), weights = load(39);
  for (unsigned i = 0; i < Accumulators; ++i)
    acc[i] = load(i);
  for (uint64_t n = 0; n < count; ++n)
    for (unsigned i = 0; i < Accumulators; ++i) {
      __asm__ volatile("" : "+w"(codes));
      acc[i] += codes * weights;
    }
  int64_t sum = 0;
  for (unsigned i = 0; i < Accumulators; ++i)
    for (unsigned k = 0; k < 8; ++k)
      sum += acc[i][k];
  return sum;
}

#endif

#define SETUN_MULTIPLY_METHOD(function, name, macs, count)                                                             \
  methods.push_back({name ", " #count " accumulators", double(macs) * (count), function<count>})

std::vector<MultiplyMethod> multiplyMethods(const std::function<bool(const char *)> &has) {
  std::vector<MultiplyMethod> methods;
#if defined(__x86_64__)
  if (has("amx-tile") && has("amx-int8") && runtime::enableFeatures({"amx-tile"}).ok())
    methods.push_back({"tdpbsud, 4 tiles", 4.0 * 16 * 16 * 64, multiplyTiles});
  if (has("avx512f") && has("avx512vnni")) {
    SETUN_MULTIPLY_METHOD(multiplyVnni512, "vpdpbusd zmm", 64, 8);
    SETUN_MULTIPLY_METHOD(multiplyVnni512, "vpdpbusd zmm", 64, 10);
    SETUN_MULTIPLY_METHOD(multiplyVnni512, "vpdpbusd zmm", 64, 12);
    SETUN_MULTIPLY_METHOD(multiplyVnni512, "vpdpbusd zmm", 64, 16);
    SETUN_MULTIPLY_METHOD(multiplyVnni512, "vpdpbusd zmm", 64, 24);
  }
  if (has("avxvnni")) {
    SETUN_MULTIPLY_METHOD(multiplyVnni256, "vpdpbusd ymm", 32, 8);
    SETUN_MULTIPLY_METHOD(multiplyVnni256, "vpdpbusd ymm", 32, 10);
    SETUN_MULTIPLY_METHOD(multiplyVnni256, "vpdpbusd ymm", 32, 12);
  }
  if (methods.empty() && has("avx512bw")) {
    SETUN_MULTIPLY_METHOD(multiplyBw512, "vpmaddubsw zmm + vpaddw", 64, 8);
    SETUN_MULTIPLY_METHOD(multiplyBw512, "vpmaddubsw zmm + vpaddw", 64, 12);
    SETUN_MULTIPLY_METHOD(multiplyBw512, "vpmaddubsw zmm + vpaddw", 64, 24);
  }
  if (methods.empty() && has("avx2")) {
    SETUN_MULTIPLY_METHOD(multiplyAvx2, "vpmaddubsw ymm + vpaddw", 32, 4);
    SETUN_MULTIPLY_METHOD(multiplyAvx2, "vpmaddubsw ymm + vpaddw", 32, 8);
    SETUN_MULTIPLY_METHOD(multiplyAvx2, "vpmaddubsw ymm + vpaddw", 32, 12);
    SETUN_MULTIPLY_METHOD(multiplyAvx2Wide, "vpmaddubsw ymm + vpmaddwd + vpaddd", 32, 8);
  }
  if (methods.empty()) {
    SETUN_MULTIPLY_METHOD(multiplySse2, "pmaddwd xmm + paddd", 8, 4);
    SETUN_MULTIPLY_METHOD(multiplySse2, "pmaddwd xmm + paddd", 8, 8);
    SETUN_MULTIPLY_METHOD(multiplySse2, "pmaddwd xmm + paddd", 8, 12);
  }
#else
#if defined(__aarch64__)
  if (has("i8mm")) {
    SETUN_MULTIPLY_METHOD(multiplyMatrix, "smmla", 32, 8);
    SETUN_MULTIPLY_METHOD(multiplyMatrix, "smmla", 32, 16);
  }
  if (has("dotprod")) {
    SETUN_MULTIPLY_METHOD(multiplyDot, "sdot", 16, 8);
    SETUN_MULTIPLY_METHOD(multiplyDot, "sdot", 16, 16);
  }
#else
  (void)has;
#endif
  SETUN_MULTIPLY_METHOD(multiplyGeneric, "16-bit products", 8, 8);
  SETUN_MULTIPLY_METHOD(multiplyGeneric, "16-bit products", 8, 16);
#endif
  return methods;
}

} // namespace

//===----------------------------------------------------------------------===//
// Measuring
//===----------------------------------------------------------------------===//

struct Limits::Impl {
  Impl(unsigned threads, size_t bytes, const std::string &features);

  /// Runs `body(thread)` on all threads, which start together; returns the seconds until the last is done.
  double together(const std::function<void(unsigned)> &body);
  double read(const ReadMethod &method, double wanted);
  double multiply(const MultiplyMethod &method, double wanted);

  struct alignas(128) Part {
    size_t begin, end; // chunks
    std::atomic<size_t> next{0};
  };

  const unsigned threads;
  runtime::Mapping buffer;
  std::vector<Part> parts;
  std::vector<uint8_t> operands;
  ReadMethod bestRead;
  MultiplyMethod bestMultiply;
  std::atomic<uint64_t> sink{0};
};

double Limits::Impl::together(const std::function<void(unsigned)> &body) {
  std::atomic<unsigned> ready{0};
  std::atomic<bool> go{false};
  auto work = [&](unsigned thread) {
    ready.fetch_add(1);
    while (!go.load(std::memory_order_acquire))
      std::this_thread::yield();
    body(thread);
  };
  std::vector<std::thread> workers;
  try {
    for (unsigned thread = 1; thread < threads; ++thread)
      workers.emplace_back(work, thread);
  } catch (...) {
    go.store(true);
    for (std::thread &worker : workers)
      worker.join();
    throw;
  }
  while (ready.load() + 1 < threads)
    std::this_thread::yield();
  const Clock::time_point start = Clock::now();
  go.store(true, std::memory_order_release);
  body(0);
  for (std::thread &worker : workers)
    worker.join();
  return secondsSince(start);
}

double Limits::Impl::read(const ReadMethod &method, double wanted) {
  double total = 0, bytes = 0;
  while (total < wanted) {
    for (Part &part : parts)
      part.next.store(part.begin);
    total += together([&](unsigned thread) {
      // Its own part, which lies in memory near it, then what slower threads have left.
      uint64_t sum = 0;
      for (unsigned i = 0; i < threads; ++i) {
        Part &part = parts[(thread + i) % threads];
        for (size_t chunk; (chunk = part.next.fetch_add(1)) < part.end;)
          sum += method.read(buffer.data() + chunk * kChunk);
      }
      sink += sum;
    });
    bytes += static_cast<double>(parts.back().end) * kChunk;
  }
  return bytes / total / 1e9;
}

double Limits::Impl::multiply(const MultiplyMethod &method, double wanted) {
  // A stretch is long beside the start of the threads.
  uint64_t count = 1000;
  double seconds = 0;
  for (;;) {
    seconds = together([&](unsigned) { sink += static_cast<uint64_t>(method.run(count, operands.data())); });
    if (seconds >= wanted)
      break;
    count =
        static_cast<uint64_t>(static_cast<double>(count) * std::min(10.0, 1.2 * wanted / std::max(seconds, 1e-6))) + 1;
  }
  return 2 * method.macs * static_cast<double>(count) * threads / seconds / 1e9;
}

Limits::Impl::Impl(unsigned threadCount, size_t bytes, const std::string &features)
    : threads(std::max(1u, threadCount)),
      buffer(allocate(std::max<size_t>((bytes ? bytes : defaultBytes()) / kChunk, threads) * kChunk + kChunk)),
      parts(threads), operands(kOperandBytes) {
  char detected[8192];
  if (setun_cpu_features(detected, sizeof(detected)) != SETUN_OK)
    detected[0] = 0;
  const std::string cpu = "," + std::string(detected) + ",", allowed = "," + features + ",";
  auto has = [&](const char *name) {
    const std::string wanted = "," + std::string(name) + ",";
    return cpu.find(wanted) != std::string::npos && (features.empty() || allowed.find(wanted) != std::string::npos);
  };

  // The last chunk is only there to be prefetched. Whoever reads a part writes it first.
  const size_t chunks = buffer.size() / kChunk - 1;
  for (unsigned i = 0; i < threads; ++i) {
    parts[i].begin = chunks * i / threads;
    parts[i].end = chunks * (i + 1) / threads;
  }
  together([&](unsigned thread) {
    std::memset(buffer.data() + parts[thread].begin * kChunk, static_cast<int>(thread + 1),
                (parts[thread].end - parts[thread].begin) * kChunk);
  });
  for (size_t i = 0; i < operands.size(); ++i)
    operands[i] = static_cast<uint8_t>(i % 64 == 0 ? i / 64 : 1);

  // Each method several times in turns: another program's load meets all of them.
  auto choose = [](const auto &methods, const auto &measure) {
    std::vector<std::vector<double>> speeds(methods.size());
    for (int round = 0; round < 3; ++round)
      for (size_t i = 0; i < methods.size(); ++i)
        speeds[i].push_back(measure(methods[i]));
    size_t best = 0;
    for (size_t i = 1; i < methods.size(); ++i)
      if (median(speeds[i]) > median(speeds[best]))
        best = i;
    return methods[best];
  };
  bestRead = choose(readMethods(has), [&](const ReadMethod &method) { return read(method, 0.005); });
  bestMultiply = choose(multiplyMethods(has), [&](const MultiplyMethod &method) { return multiply(method, 0.01); });
}

Limits::Limits(unsigned threads, size_t bytes, const std::string &features)
    : impl(std::make_unique<Impl>(threads, bytes, features)) {}
Limits::~Limits() = default;

double Limits::readBandwidth() { return impl->read(impl->bestRead, 0.1); }
double Limits::int8Peak() { return impl->multiply(impl->bestMultiply, 0.1); }
const std::string &Limits::readMethod() const { return impl->bestRead.name; }
const std::string &Limits::int8Method() const { return impl->bestMultiply.name; }
size_t Limits::bytes() const { return impl->buffer.size() - kChunk; }
