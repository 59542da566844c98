//===- Cpu.cpp - what the CPU at hand can do ------------------------------===//
#include "Cpu.h"

#include "Memory.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>
#endif
#ifdef __linux__
#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

using namespace setun::runtime;

std::string setun::runtime::hostArchitecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return std::string();
#endif
}

//===----------------------------------------------------------------------===//
// Features
//===----------------------------------------------------------------------===//

#if defined(__x86_64__)

namespace {

enum Register { EAX, EBX, ECX, EDX };
enum class State { None, AVX, AVX512, AMX };

/// One register of a CPUID leaf; 0 where the CPU does not have the leaf.
uint32_t readCpuid(uint32_t leaf, uint32_t subleaf, Register reg) {
  uint32_t values[4] = {};
  if (__get_cpuid_max(leaf & 0x80000000u, nullptr) < leaf)
    return 0;
  if (leaf == 7 && subleaf > 0) {
    // EAX of subleaf 0 is the highest subleaf.
    __cpuid_count(7, 0, values[EAX], values[EBX], values[ECX], values[EDX]);
    if (values[EAX] < subleaf)
      return 0;
  }
  __cpuid_count(leaf, subleaf, values[EAX], values[EBX], values[ECX], values[EDX]);
  return values[reg];
}

/// Whether the operating system saves the registers: what a CPU has is of no use where the kernel does not.
bool hasState(State state) {
  if (state == State::None)
    return true;
  constexpr uint32_t osxsave = 1u << 27;
  if (!(readCpuid(1, 0, ECX) & osxsave))
    return false;
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t avx = 0x6, avx512 = 0xe6, amx = 0x60000;
  uint32_t wanted = state == State::AVX ? avx : state == State::AVX512 ? avx512 : amx;
  return (low & wanted) == wanted;
}

} // namespace

std::set<std::string> setun::runtime::detectCpuFeatures() {
  std::set<std::string> features;
#define SETUN_X86_FEATURE(name, leaf, subleaf, register, bit, state)                                                   \
  if ((readCpuid(leaf, subleaf, register) >> (bit)) & 1 && hasState(State::state))                                     \
    features.insert(name);
#include "setun/CpuFeatures.def"
  return features;
}

#elif defined(__aarch64__) && defined(__linux__)

std::set<std::string> setun::runtime::detectCpuFeatures() {
  std::set<std::string> features;
  const unsigned long words[3] = {0, getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
#define SETUN_AARCH64_FEATURE(name, word, bit, apple)                                                                  \
  if ((words[word] >> (bit)) & 1)                                                                                      \
    features.insert(name);
#include "setun/CpuFeatures.def"
  return features;
}

#elif defined(__aarch64__) && defined(__APPLE__)

static bool isOptionalPresent(const char *variable) {
  int value = 0;
  size_t size = sizeof(value);
  return ::sysctlbyname((std::string("hw.optional.") + variable).c_str(), &value, &size, nullptr, 0) == 0 && value;
}

std::set<std::string> setun::runtime::detectCpuFeatures() {
  std::set<std::string> features;
#define SETUN_AARCH64_FEATURE(name, word, bit, apple)                                                                  \
  if (*apple && isOptionalPresent(apple))                                                                              \
    features.insert(name);
#include "setun/CpuFeatures.def"
  return features;
}

#else

std::set<std::string> setun::runtime::detectCpuFeatures() { return {}; }

#endif

std::set<std::string> setun::runtime::parseFeatures(const std::string &list) {
  std::set<std::string> features;
  for (size_t start = 0; start <= list.size();) {
    size_t end = std::min(list.find(',', start), list.size());
    if (end > start)
      features.insert(list.substr(start, end - start));
    start = end + 1;
  }
  return features;
}

template <typename Range> static std::string join(const Range &features) {
  std::string text;
  for (const std::string &feature : features)
    text += (text.empty() ? "" : ",") + feature;
  return text;
}

std::string setun::runtime::joinFeatures(const std::set<std::string> &features) { return join(features); }
std::string setun::runtime::joinFeatures(const std::vector<std::string> &features) { return join(features); }

std::string setun::runtime::bestLevel(const std::set<std::string> &features) {
  static const struct {
    const char *arch, *name, *features;
  } levels[] = {
#define SETUN_CPU_LEVEL(arch, name, features) {arch, name, features},
#include "setun/CpuLevels.def"
  };
  std::string best;
  for (const auto &level : levels) {
    const std::set<std::string> needed = parseFeatures(level.features);
    if (level.arch == hostArchitecture() &&
        std::includes(features.begin(), features.end(), needed.begin(), needed.end()))
      best = level.name;
  }
  return best;
}

const std::vector<std::string> &setun::runtime::permittedFeatures() {
  // All that works on tiles needs amx-tile too.
  static const std::vector<std::string> features = {"amx-tile"};
  return features;
}

Status setun::runtime::enableFeatures(const std::vector<std::string> &features) {
#if defined(__x86_64__) && defined(__linux__)
  if (std::find(features.begin(), features.end(), "amx-tile") != features.end()) {
    constexpr int requestPermission = 0x1023; // ARCH_REQ_XCOMP_PERM
    constexpr int tileData = 18;
    if (::syscall(SYS_arch_prctl, requestPermission, tileData) != 0)
      return Status(SETUN_ERROR_UNSUPPORTED,
                    std::string("the system does not permit the use of AMX tiles: ") + std::strerror(errno));
  }
#else
  (void)features;
#endif
  return Status();
}

unsigned setun::runtime::usableCpus() {
  unsigned cpus = std::max(1u, std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0)
    cpus = std::max(1, CPU_COUNT(&set));
  // A container or a job may see more CPUs than it gets the time of ("max" is no number).
  for (const std::string &group : controlGroups(readText("/proc/self/cgroup"))) {
    unsigned long long time = 0, period = 0;
    const std::string quota = readText((group + "/cpu.max").c_str());
    if (std::sscanf(quota.c_str(), "%llu %llu", &time, &period) == 2 && time && period)
      cpus = static_cast<unsigned>(std::min<unsigned long long>(cpus, (time - 1) / period + 1));
  }
#endif
  return cpus;
}

//===----------------------------------------------------------------------===//
// Floating-point environment
//===----------------------------------------------------------------------===//

#if defined(__x86_64__)

DefaultFloatEnvironment::DefaultFloatEnvironment() : saved(_mm_getcsr()) {
  constexpr unsigned defaultControl = 0x1f80; // all exceptions masked, round to nearest, subnormals kept
  _mm_setcsr(defaultControl);
}
DefaultFloatEnvironment::~DefaultFloatEnvironment() { _mm_setcsr(static_cast<unsigned>(saved)); }

#elif defined(__aarch64__)

DefaultFloatEnvironment::DefaultFloatEnvironment() {
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
  __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t(0)));
}
DefaultFloatEnvironment::~DefaultFloatEnvironment() { __asm__ volatile("msr fpcr, %0" : : "r"(saved)); }

#else

DefaultFloatEnvironment::DefaultFloatEnvironment() : saved(0) {}
DefaultFloatEnvironment::~DefaultFloatEnvironment() = default;

#endif
