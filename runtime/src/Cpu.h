//===- Cpu.h - what the CPU at hand can do ----------------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_CPU_H
#define SETUN_RUNTIME_CPU_H

#include "Status.h"

#include <set>
#include <string>
#include <vector>

namespace setun {
namespace runtime {

/// "x86_64", "aarch64", or empty on a machine that packages know nothing of.
std::string hostArchitecture();
/// Features of the CPU, by LLVM's names, that the operating system supports too.
std::set<std::string> detectCpuFeatures();
/// Names separated by commas; empty ones are left out.
std::set<std::string> parseFeatures(const std::string &list);
/// The best level of CPUs (CpuLevels.def) whose features these are, as --target names it; empty if there is none.
std::string bestLevel(const std::set<std::string> &features);
std::string joinFeatures(const std::set<std::string> &features);
std::string joinFeatures(const std::vector<std::string> &features);
/// Asks the system for what must be asked for before code with these features may run (AMX tiles on Linux).
Status enableFeatures(const std::vector<std::string> &features);
/// Features of which that holds.
const std::vector<std::string> &permittedFeatures();
/// CPUs that this process may use, at least 1.
unsigned usableCpus();

/// For its lifetime this thread computes with the default floating-point environment (round to nearest, subnormals
/// kept): a caller that flushes subnormals must not get other numbers from its own thread than from the workers.
class DefaultFloatEnvironment {
public:
  DefaultFloatEnvironment();
  ~DefaultFloatEnvironment();
  DefaultFloatEnvironment(const DefaultFloatEnvironment &) = delete;
  DefaultFloatEnvironment &operator=(const DefaultFloatEnvironment &) = delete;

private:
  uint64_t saved;
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_CPU_H
