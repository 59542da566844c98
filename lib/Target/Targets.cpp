//===- Targets.cpp - what `--target` may say --------------------------------------===//
#include "lib/Target/Targets.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/AArch64TargetParser.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/TargetParser/X86TargetParser.h"

#include <memory>
#include <mutex>
#include <optional>

using namespace llvm;
using namespace setun;

namespace {

//===----------------------------------------------------------------------===//
// Architectures
//===----------------------------------------------------------------------===//

/// A generic CPU that is known by a name of ours: LLVM's name of it, and the features that the level adds.
struct Level {
  StringLiteral name, cpu, features;
};

/// What differs between architectures.
struct Architecture {
  StringLiteral name;
  StringLiteral triple;
  /// Stands for the portable set where it is the only target of the architecture.
  StringLiteral baseline;
  /// Targets of the portable set, weakest first: each needs more features than those before it.
  ArrayRef<StringLiteral> portable;
  ArrayRef<Level> levels;
  /// LLVM's flags for all code of the architecture.
  StringLiteral flags;
  /// Features without which LLVM cannot generate code.
  ArrayRef<StringLiteral> indispensable;
  /// Features that the runtime can detect: the rows of CpuFeatures.def.
  ArrayRef<StringLiteral> detectable;
  /// Features that only the system or special libraries use. A CPU's name does not ask for them, so that its code also
  /// runs where a hypervisor hides them; who wants one can add it by name.
  ArrayRef<StringLiteral> unused;
  /// Names that stand for instructions; LLVM's other "features" are hints for tuning.
  SmallVector<StringRef> (*instructions)();
  /// LLVM's names of CPUs.
  SmallVector<StringRef> (*cpus)();

  const Level *level(StringRef name) const {
    const Level *found = find_if(levels, [&](const Level &level) { return level.name == name; });
    return found == levels.end() ? nullptr : found;
  }
  /// Names of CPUs and levels.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Level &level : levels)
      all.push_back(level.name.str());
    for (StringRef cpu : cpus())
      if (!level(cpu))
        all.push_back(cpu.str());
    return all;
  }
  std::vector<std::string> features() const {
    std::vector<std::string> all;
    for (StringRef feature : detectable)
      all.push_back(feature.str());
    return all;
  }
};

// Client CPUs since Alder Lake have AVX-VNNI but no AVX-512.
constexpr StringLiteral x86Portable[] = {"x86-64",    "x86-64-v2",           "x86-64-v3", "x86-64-v3+avxvnni",
                                         "x86-64-v4", "x86-64-v4+avx512vnni"};
constexpr Level x86Levels[] = {{"x86-64", "x86-64", ""},
                               {"x86-64-v2", "x86-64-v2", ""},
                               {"x86-64-v3", "x86-64-v3", ""},
                               {"x86-64-v4", "x86-64-v4", ""}};
constexpr StringLiteral x86Indispensable[] = {"64bit", "sse2"};
constexpr StringLiteral x86Detectable[] = {
#define SETUN_X86_FEATURE(name, leaf, subleaf, reg, bit, state) name,
#include "setun/CpuFeatures.def"
};
constexpr StringLiteral x86Unused[] = {
    "cldemote",  "clflushopt", "clwb",      "clzero",   "enqcmd", "fsgsbase",  "hreset", "invpcid", "lwp",
    "movdir64b", "movdiri",    "mwaitx",    "pconfig",  "pku",    "prefetchi", "rdpid",  "rdpru",   "rdrnd",
    "rdseed",    "rtm",        "serialize", "sha",      "sha512", "shstk",     "sm3",    "sm4",     "tsxldtrk",
    "uintr",     "usermsr",    "waitpkg",   "wbnoinvd", "xsavec", "xsaveopt",  "xsaves"};

SmallVector<StringRef> x86Instructions() {
  return {
#define X86_FEATURE(ENUM, STR) STR,
#include "llvm/TargetParser/X86TargetParser.def"
  };
}

SmallVector<StringRef> x86Cpus() {
  SmallVector<StringRef> names;
  X86::fillValidCPUArchList(names, /*Only64Bit=*/true);
  return names;
}

// Apple's CPUs have SME2 but SVE in streaming mode alone, so that level is a branch of its own.
constexpr Level aarch64Levels[] = {{"aarch64", "generic", ""},
                                   {"aarch64-dotprod", "generic", "+dotprod"},
                                   {"aarch64-i8mm", "generic", "+dotprod,+i8mm"},
                                   {"aarch64-sve2", "generic", "+dotprod,+i8mm,+sve2"},
                                   {"aarch64-sme2", "generic", "+dotprod,+i8mm,+sme2"}};
constexpr StringLiteral aarch64Portable[] = {"aarch64", "aarch64-dotprod", "aarch64-i8mm", "aarch64-sve2",
                                             "aarch64-sme2"};
// Android keeps its shadow call stack in x18, and macOS changes x18 at will.
constexpr StringLiteral aarch64Flags = "+reserve-x18";
constexpr StringLiteral aarch64Indispensable[] = {"fp-armv8", "neon"};
constexpr StringLiteral aarch64Detectable[] = {
#define SETUN_AARCH64_FEATURE(name, ...) name,
#include "setun/CpuFeatures.def"
};
constexpr StringLiteral aarch64Unused[] = {"aes",  "crc",  "flagm", "fp16fml",   "jsconv",
                                           "lse",  "rcpc", "rdm",   "sb",        "sha2",
                                           "sha3", "sm4",  "ssbs",  "complxnum", "sve-bitperm"};

SmallVector<StringRef> aarch64Instructions() {
  SmallVector<StringRef> names;
  for (const AArch64::ExtensionInfo &extension : AArch64::Extensions)
    if (StringRef feature = extension.PosTargetFeature; feature.consume_front("+"))
      names.push_back(feature);
  return names;
}

SmallVector<StringRef> aarch64Cpus() {
  SmallVector<StringRef> names;
  AArch64::fillValidCPUArchList(names);
  erase(names, "generic"); // the level "aarch64"
  return names;
}

constexpr Architecture architectures[] = {
    {"x86_64", "x86_64-unknown-linux-gnu", "x86-64", x86Portable, x86Levels, "", x86Indispensable, x86Detectable,
     x86Unused, x86Instructions, x86Cpus},
    {"aarch64", "aarch64-unknown-linux-gnu", "aarch64", aarch64Portable, aarch64Levels, aarch64Flags,
     aarch64Indispensable, aarch64Detectable, aarch64Unused, aarch64Instructions, aarch64Cpus},
};

/// The architecture that this process runs on, or null if code cannot be generated for it.
const Architecture *hostArchitecture() {
  StringRef arch = Triple::getArchTypeName(Triple(sys::getProcessTriple()).getArch());
  for (const Architecture &candidate : architectures)
    if (candidate.name == arch)
      return &candidate;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

Error targetError(const Twine &message) { return createStringError(message); }

/// ", did you mean 'a', 'b' or 'c'?", or nothing if no name is near.
std::string nearest(StringRef name, ArrayRef<std::string> names) {
  SmallVector<std::pair<unsigned, StringRef>> found;
  for (StringRef candidate : names) {
    unsigned distance = StringRef(name.lower()).edit_distance(candidate);
    if (candidate.starts_with_insensitive(name) && !name.empty())
      distance = std::min(distance, 1u);
    if (distance <= std::max<size_t>(2, name.size() / 3))
      found.push_back({distance, candidate});
  }
  if (found.empty())
    return "";
  llvm::sort(found);
  found.truncate(std::min<size_t>(found.size(), 3));
  std::string text = ", did you mean ";
  for (size_t i = 0; i < found.size(); ++i)
    text += (i == 0 ? "'" : i + 1 == found.size() ? " or '" : ", '") + found[i].second.str() + "'";
  return text + "?";
}

//===----------------------------------------------------------------------===//
// One target
//===----------------------------------------------------------------------===//

/// A target as it was typed.
struct Spelling {
  const Architecture *arch = nullptr;
  StringRef cpu;
  /// Features with their sign, in the order given.
  SmallVector<std::pair<bool, StringRef>> features;

  std::string name() const {
    std::string text = cpu.str();
    for (auto [add, feature] : features)
      text += (add ? "+" : "-") + feature.str();
    return text;
  }
};

/// What LLVM knows of a CPU with some features added and left out.
Expected<std::unique_ptr<MCSubtargetInfo>> subtarget(const Architecture &arch, StringRef cpu, StringRef features) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86TargetMC();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64TargetMC();
  });
  std::string message;
  Triple triple(arch.triple);
  const llvm::Target *target = TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return targetError("LLVM has no code generator for " + arch.triple + ": " + message);
  std::unique_ptr<MCSubtargetInfo> info(target->createMCSubtargetInfo(triple, cpu, features));
  if (!info)
    return targetError("LLVM knows no CPUs of " + arch.triple);
  return std::move(info);
}

StringSet<> enabledFeatures(const MCSubtargetInfo &info) {
  StringSet<> names;
  for (const SubtargetFeatureKV &feature : info.getEnabledProcessorFeatures())
    names.insert(feature.Key);
  return names;
}

/// The longest of `names` that starts `text` and ends there or before a sign; empty if none does. Names contain '-'.
StringRef longestName(StringRef text, ArrayRef<std::string> names) {
  StringRef best;
  for (StringRef name : names)
    if (text.starts_with(name) &&
        (text.size() == name.size() || text[name.size()] == '+' || text[name.size()] == '-') &&
        name.size() > best.size())
      best = text.take_front(name.size());
  return best;
}

Expected<Spelling> spell(StringRef text) {
  Spelling result;
  StringRef rest;
  for (const Architecture &arch : architectures) {
    result.cpu = longestName(text, arch.names());
    if (!result.cpu.empty()) {
      result.arch = &arch;
      rest = text.drop_front(result.cpu.size());
      break;
    }
  }
  std::vector<std::string> targets = levelNames();
  llvm::append_range(targets, cpuNames());
  StringRef typed = text.split('+').first;
  if (!result.arch) {
    std::string near = nearest(typed, targets);
    if (near.empty())
      near = ", expects host, " + join(levelNames(), ", ") + " or a CPU name (setun-compile --list-targets)";
    return targetError("unknown target '" + text + "'" + near);
  }

  std::vector<std::string> known = result.arch->features();
  while (!rest.empty()) {
    bool add = rest.front() == '+';
    rest = rest.drop_front();
    StringRef feature = longestName(rest, known);
    if (feature.empty()) {
      feature = rest.take_until([](char c) { return c == '+'; });
      // "x86-64-v5" is a mistyped level rather than a feature to leave out.
      if (std::string near = nearest(typed, targets); !add && result.features.empty() && !near.empty())
        return targetError("unknown target '" + text + "'" + near);
      if (is_contained(result.arch->instructions(), feature))
        return targetError("target '" + text + "': feature '" + feature +
                           "' cannot be used, for the runtime has no way to find out whether a CPU has it");
      return targetError("target '" + text + "': unknown CPU feature '" + feature + "'" + nearest(feature, known));
    }
    result.features.push_back({add, feature});
    rest = rest.drop_front(feature.size());
  }
  return result;
}

/// Settles the features: those that LLVM would use and the runtime cannot check are switched off.
Expected<TargetSpec> resolve(const Spelling &spelling) {
  const Architecture &arch = *spelling.arch;
  TargetSpec target;
  target.name = spelling.name();
  target.arch = arch.name.str();
  target.triple = arch.triple.str();
  const Level *level = arch.level(spelling.cpu);
  target.cpu = level ? level->cpu.str() : spelling.cpu.str();

  SmallVector<std::string> signs;
  if (!arch.flags.empty())
    signs.push_back(arch.flags.str());
  if (level && !level->features.empty())
    signs.push_back(level->features.str());
  StringSet<> asked;
  for (auto [add, feature] : spelling.features) {
    signs.push_back((add ? "+" : "-") + feature.str());
    if (add)
      asked.insert(feature);
    else
      asked.erase(feature);
  }
  auto info = subtarget(arch, target.cpu, join(signs, ","));
  if (!info)
    return info.takeError();
  StringSet<> all = enabledFeatures(**info);
  for (StringRef feature : arch.instructions()) {
    // vzeroupper is among LLVM's instruction sets, but says only whether the instruction is worth using.
    if (!all.contains(feature) || feature == "vzeroupper" || asked.contains(feature))
      continue;
    // Levels are defined by their features, so there they all stay.
    bool unused = is_contained(arch.unused, feature) && !level;
    if (unused || !is_contained(arch.detectable, feature))
      signs.push_back("-" + feature.str());
  }
  target.features = join(signs, ",");

  info = subtarget(arch, target.cpu, target.features);
  if (!info)
    return info.takeError();
  all = enabledFeatures(**info);
  for (StringRef feature : arch.indispensable)
    if (!all.contains(feature))
      return targetError("target '" + target.name + "' lacks " + feature + ", which all " + arch.name + " code needs");
  for (StringRef feature : arch.detectable)
    if (all.contains(feature)) {
      target.enabled.insert(feature);
      target.required.push_back(feature.str());
    }
  llvm::sort(target.required);
  return target;
}

/// This machine, spelled so that it means the same elsewhere: LLVM's name of the CPU, and where the features differ
/// from those of the name (a hypervisor may hide some), the differences.
Expected<TargetSpec> resolveHost(StringRef signs) {
  const Architecture *arch = hostArchitecture();
  if (!arch)
    return targetError("target 'host': code for this machine (" + sys::getProcessTriple() +
                       ") cannot be generated yet");
  Spelling spelling;
  spelling.arch = arch;
  spelling.cpu = sys::getHostCPUName();
  if (!is_contained(arch->cpus(), spelling.cpu))
    spelling.cpu = arch->baseline;

  StringMap<bool, MallocAllocator> found = sys::getHostCPUFeatures();
  const Level *level = arch->level(spelling.cpu);
  const StringRef llvmCpu = level ? StringRef(level->cpu) : spelling.cpu;
  auto named = subtarget(*arch, llvmCpu, "");
  if (!named)
    return named.takeError();
  StringSet<> have = enabledFeatures(**named);
  // What has to go is taken away first, for that takes along all that builds on it.
  for (bool add : {false, true})
    for (StringRef feature : arch->detectable) {
      auto place = found.find(feature);
      if (place == found.end() || place->second != add || have.contains(feature) == add ||
          is_contained(arch->unused, feature))
        continue;
      spelling.features.push_back({add, feature});
      std::string flags;
      for (auto [sign, name] : spelling.features)
        flags += (flags.empty() ? "" : ",") + std::string(sign ? "+" : "-") + name.str();
      auto changed = subtarget(*arch, llvmCpu, flags);
      if (!changed)
        return changed.takeError();
      have = enabledFeatures(**changed);
    }
  // Go back through the parser for what the user adds.
  Expected<Spelling> full = spell(spelling.name() + signs.str());
  if (!full)
    return full.takeError();
  return resolve(*full);
}

} // namespace

Expected<std::vector<TargetSpec>> setun::parseTargets(StringRef list) {
  SmallVector<StringRef> texts;
  list.split(texts, ',');
  for (StringRef &text : texts)
    text = text.trim();
  if (list.trim().empty())
    texts = {"host"};
  else if (is_contained(texts, ""))
    return targetError("expects targets separated by commas, got '" + list + "'");

  std::vector<TargetSpec> targets;
  auto add = [&](StringRef text) -> Error {
    bool host = text == "host" || text.starts_with("host+") || text.starts_with("host-");
    Expected<TargetSpec> target = [&]() -> Expected<TargetSpec> {
      if (host)
        return resolveHost(text.drop_front(4));
      Expected<Spelling> spelling = spell(text);
      if (!spelling)
        return spelling.takeError();
      return resolve(*spelling);
    }();
    if (!target)
      return target.takeError();
    if (none_of(targets, [&](const TargetSpec &other) { return other.name == target->name; }))
      targets.push_back(std::move(*target));
    return Error::success();
  };
  for (StringRef text : texts)
    if (Error error = add(text))
      return std::move(error);
  for (const Architecture &arch : architectures) {
    auto another = [&](const TargetSpec &target) { return target.arch == arch.name && target.name != arch.baseline; };
    if (!is_contained(texts, arch.baseline) || any_of(targets, another))
      continue;
    for (StringRef text : arch.portable)
      if (Error error = add(text))
        return std::move(error);
  }
  return targets;
}

std::vector<std::string> setun::levelNames() {
  std::vector<std::string> names;
  for (const Architecture &arch : architectures)
    for (const Level &level : arch.levels)
      names.push_back(level.name.str());
  return names;
}

std::vector<std::string> setun::cpuNames() {
  std::vector<std::string> names;
  for (const Architecture &arch : architectures)
    for (StringRef cpu : arch.cpus())
      if (!arch.level(cpu))
        names.push_back(cpu.str());
  llvm::sort(names);
  return names;
}

std::vector<std::string> setun::featureNames() {
  std::vector<std::string> names;
  for (const Architecture &arch : architectures)
    llvm::append_range(names, arch.features());
  llvm::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}
