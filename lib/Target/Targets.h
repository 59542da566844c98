//===- Targets.h - what `--target` may say -------------------------*- C++ -*-===//
//
// A target is a CPU and a set of its features: `host`, a level of x86-64 (`x86-64-v3`) or of aarch64 (`aarch64-i8mm`),
// or one of LLVM's CPU names (`znver4`, `cortex-a76`), followed by features to add or to leave out
// (`x86-64-v4+avx512vnni-avx512cd`). Each target becomes one code section of a package.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_TARGET_TARGETS_H
#define SETUN_LIB_TARGET_TARGETS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace setun {

/// One code section to be made.
struct TargetSpec {
  /// As the user could type it to get this code on any machine; `host` is resolved.
  std::string name;
  std::string arch; ///< LLVM's name of the architecture, "x86_64" or "aarch64"
  std::string triple;
  std::string cpu;      ///< for LLVM: sets the baseline features and the tuning
  std::string features; ///< for LLVM: "+a,-b", applied to those of the CPU
  /// Features that generated code may use, LLVM's names; kernels are chosen by these. Tuning flags are not among them.
  llvm::StringSet<> enabled;
  /// The same, sorted: what the runtime looks for before it runs the code. Every name is in CpuFeatures.def.
  std::vector<std::string> required;

  bool has(llvm::StringRef feature) const { return enabled.contains(feature); }
};

/// Parses a list of targets, separated by commas; empty means `host`. `x86-64` and `aarch64` are portable sets: a
/// section for each generation of CPUs, of which the runtime takes the best. Beside other targets of the same
/// architecture they are the baseline alone. Repetitions are dropped.
llvm::Expected<std::vector<TargetSpec>> parseTargets(llvm::StringRef list);

/// What can be typed: the special names and levels, then LLVM's names of CPUs.
std::vector<std::string> levelNames();
std::vector<std::string> cpuNames();
/// Features that can be added or left out.
std::vector<std::string> featureNames();

} // namespace setun

#endif // SETUN_LIB_TARGET_TARGETS_H
