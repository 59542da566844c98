//===- TargetsTest.cpp - what `--target` may say ----------------------------------===//
#include "lib/Target/Targets.h"
#include "lib/Target/CostModel.h"

#include "llvm/TargetParser/Host.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <map>
#include <set>

using namespace llvm;
using namespace setun;

namespace {

std::vector<std::string> names(const std::vector<TargetSpec> &targets) {
  std::vector<std::string> result;
  for (const TargetSpec &target : targets)
    result.push_back(target.name);
  return result;
}

std::vector<TargetSpec> parse(StringRef list) {
  auto targets = parseTargets(list);
  if (!targets) {
    ADD_FAILURE() << list.str() << ": " << toString(targets.takeError());
    return {};
  }
  return std::move(*targets);
}

TargetSpec one(StringRef name) {
  std::vector<TargetSpec> targets = parse(name);
  if (targets.size() != 1) {
    ADD_FAILURE() << name.str() << " gives " << targets.size() << " targets";
    return {};
  }
  return targets.front();
}

std::string errorOf(StringRef list) {
  auto targets = parseTargets(list);
  if (!targets)
    return toString(targets.takeError());
  ADD_FAILURE() << list.str() << " is accepted";
  return "";
}

const std::set<std::string> &detectable() {
  static const std::set<std::string> set = {
#define SETUN_X86_FEATURE(name, leaf, subleaf, reg, bit, state) name,
#define SETUN_AARCH64_FEATURE(name, ...) name,
#include "setun/CpuFeatures.def"
  };
  return set;
}

TEST(Targets, levelsHaveTheirFeatures) {
  TargetSpec v2 = one("x86-64-v2"), v3 = one("x86-64-v3"), v4 = one("x86-64-v4");
  EXPECT_TRUE(v2.has("sse4.2") && v2.has("popcnt"));
  EXPECT_FALSE(v2.has("avx"));
  EXPECT_TRUE(v3.has("avx2") && v3.has("fma") && v3.has("bmi2"));
  EXPECT_FALSE(v3.has("avx512f"));
  EXPECT_TRUE(v4.has("avx512f") && v4.has("avx512bw") && v4.has("avx512vl"));
  EXPECT_FALSE(v4.has("avx512vnni"));
  EXPECT_EQ(v4.arch, "x86_64");
  EXPECT_EQ(v4.triple, "x86_64-unknown-linux-gnu");
  EXPECT_EQ(v4.cpu, "x86-64-v4");
  EXPECT_EQ(v4.name, "x86-64-v4");
}

TEST(Targets, theRuntimeKnowsTheLevels) {
  const std::map<std::string, std::string> known = {
#define SETUN_CPU_LEVEL(arch, name, features) {name, features},
#include "setun/CpuLevels.def"
  };
  for (const std::string &level : levelNames()) {
    auto found = known.find(level);
    ASSERT_NE(found, known.end()) << level;
    SmallVector<StringRef> features;
    StringRef(found->second).split(features, ',');
    llvm::sort(features);
    // Alone, a baseline would stand for the portable set.
    std::vector<TargetSpec> targets = parse(level + ",x86-64-v2,x86-64-v3");
    ASSERT_EQ(targets.front().name, level);
    EXPECT_EQ(targets.front().required, std::vector<std::string>(features.begin(), features.end())) << level;
  }
}

TEST(Targets, featuresAreAddedAndLeftOut) {
  TargetSpec target = one("x86-64-v4+avx512vnni+avx512vbmi-avx512cd");
  EXPECT_EQ(target.name, "x86-64-v4+avx512vnni+avx512vbmi-avx512cd");
  EXPECT_TRUE(target.has("avx512vnni") && target.has("avx512vbmi"));
  EXPECT_FALSE(target.has("avx512cd"));
  // What is built on a feature goes with it, and what a feature is built on comes with it.
  EXPECT_FALSE(one("x86-64-v4-avx2").has("avx512f"));
  EXPECT_TRUE(one("x86-64+avx512vnni").has("avx2"));
  // Names with '-' and '.' in them.
  EXPECT_TRUE(one("x86-64-v3+amx-int8").has("amx-tile"));
  EXPECT_TRUE(one("x86-64+sse4.1").has("sse4.1"));
}

TEST(Targets, namesOfCpus) {
  TargetSpec zen4 = one("znver4"), icelake = one("icelake-server");
  EXPECT_TRUE(zen4.has("avx512vnni") && zen4.has("avx512vbmi"));
  EXPECT_TRUE(icelake.has("avx512vnni"));
  EXPECT_EQ(icelake.name, "icelake-server");
  EXPECT_FALSE(one("icelake-server-avx512vnni").has("avx512vnni"));
}

TEST(Targets, onlyWhatTheRuntimeCanCheckIsUsed) {
  for (const std::string &cpu : cpuNames()) {
    TargetSpec target = one(cpu);
    std::set<std::string> enabled;
    for (StringRef feature : target.enabled.keys())
      enabled.insert(feature.str());
    EXPECT_EQ(enabled, std::set<std::string>(target.required.begin(), target.required.end())) << cpu;
    for (const std::string &feature : target.required)
      EXPECT_TRUE(detectable().count(feature)) << cpu << " " << feature;
    // The baseline is never lost on the way.
    EXPECT_TRUE(target.has(target.arch == "aarch64" ? "neon" : "sse2")) << cpu;
  }
  TargetSpec diamond = one("diamondrapids");
  EXPECT_NE(diamond.features.find("-egpr"), std::string::npos) << diamond.features;
  EXPECT_TRUE(diamond.has("avx512vnni"));
  // Neither hints for tuning nor what only the system uses.
  for (const char *feature : {"fast-15bytenop", "vzeroupper", "prefer-256-bit", "pku", "rdpru", "clzero"})
    EXPECT_FALSE(one("znver4").has(feature)) << feature;
  EXPECT_TRUE(one("znver4+sha").has("sha"));
}

TEST(Targets, bareX86IsThePortableSet) {
  std::vector<TargetSpec> targets = parse("x86-64");
  std::vector<std::string> expected = {"x86-64",    "x86-64-v2",           "x86-64-v3", "x86-64-v3+avxvnni",
                                       "x86-64-v4", "x86-64-v4+avx512vnni"};
  EXPECT_EQ(names(targets), expected);
  // The runtime takes the runnable section with most features: each must have more than the one before. Client CPUs are
  // a branch of their own.
  for (size_t i = 1, last = 0; i < targets.size(); ++i) {
    EXPECT_GT(targets[i].required.size(), targets[i - 1].required.size());
    EXPECT_TRUE(std::includes(targets[i].required.begin(), targets[i].required.end(), targets[last].required.begin(),
                              targets[last].required.end()))
        << targets[i].name;
    if (targets[i].name != "x86-64-v3+avxvnni")
      last = i;
  }
  std::vector<std::string> kernels;
  for (const TargetSpec &target : targets) {
    CostQuery query;
    query.features = target.enabled;
    query.cpu = target.cpu;
    kernels.push_back(chooseKernel(query).row->name.str());
  }
  EXPECT_EQ(kernels, (std::vector<std::string>{"generic", "generic", "avx2", "avxvnni", "avx512bw", "avx512vnni"}));
  // Beside others of x86-64 it is the baseline alone, and so is any spelling with a feature.
  EXPECT_EQ(names(parse("x86-64,x86-64-v3")), (std::vector<std::string>{"x86-64", "x86-64-v3"}));
  EXPECT_EQ(names(parse("x86-64+sse2")), (std::vector<std::string>{"x86-64+sse2"}));
  // All of them by name are the same set.
  EXPECT_EQ(names(parse("x86-64,x86-64-v2,x86-64-v3,x86-64-v3+avxvnni,x86-64-v4,x86-64-v4+avx512vnni")), expected);
}

TEST(Targets, levelsOfArm) {
  TargetSpec base = one("aarch64+neon"), dots = one("aarch64-dotprod"), matrices = one("aarch64-i8mm");
  EXPECT_EQ(base.arch, "aarch64");
  EXPECT_EQ(base.triple, "aarch64-unknown-linux-gnu");
  EXPECT_EQ(base.cpu, "generic");
  EXPECT_EQ(base.required, (std::vector<std::string>{"fp-armv8", "neon"}));
  EXPECT_EQ(base.name, "aarch64+neon");
  EXPECT_EQ(dots.name, "aarch64-dotprod");
  EXPECT_TRUE(dots.has("dotprod"));
  EXPECT_FALSE(dots.has("i8mm"));
  EXPECT_TRUE(matrices.has("dotprod") && matrices.has("i8mm"));
  EXPECT_FALSE(matrices.has("sve"));
  TargetSpec sve2 = one("aarch64-sve2"), sme2 = one("aarch64-sme2");
  EXPECT_TRUE(sve2.has("sve") && sve2.has("sve2") && sve2.has("i8mm"));
  // Apple's CPUs have SVE in streaming mode alone.
  EXPECT_TRUE(sme2.has("sme2") && sme2.has("i8mm"));
  EXPECT_FALSE(sme2.has("sve"));
  EXPECT_TRUE(one("aarch64+dotprod").has("dotprod"));
  EXPECT_FALSE(one("aarch64-dotprod-dotprod").has("dotprod"));
  EXPECT_EQ(errorOf("aarch64-neon"), "target 'aarch64-neon' lacks neon, which all aarch64 code needs");
}

TEST(Targets, namesOfArmCpus) {
  TargetSpec a53 = one("cortex-a53"), a76 = one("cortex-a76"), v1 = one("neoverse-v1"), m4 = one("apple-m4");
  EXPECT_EQ(a53.required, (std::vector<std::string>{"fp-armv8", "neon"}));
  EXPECT_TRUE(a76.has("dotprod"));
  EXPECT_FALSE(a76.has("i8mm"));
  EXPECT_TRUE(v1.has("sve") && v1.has("i8mm"));
  EXPECT_TRUE(m4.has("sme2"));
  EXPECT_FALSE(m4.has("sve"));
  // What only libraries and the system use is left out, unless it is asked for.
  EXPECT_FALSE(a76.has("crc"));
  EXPECT_TRUE(one("cortex-a76+crc").has("crc"));
  // Features are those of the architecture.
  EXPECT_NE(errorOf("cortex-a76+avx2").find("unknown CPU feature 'avx2'"), std::string::npos);
}

TEST(Targets, bareArmIsThePortableSet) {
  std::vector<TargetSpec> targets = parse("aarch64");
  EXPECT_EQ(names(targets),
            (std::vector<std::string>{"aarch64", "aarch64-dotprod", "aarch64-i8mm", "aarch64-sve2", "aarch64-sme2"}));
  for (size_t i = 1; i < 4; ++i)
    EXPECT_TRUE(std::includes(targets[i].required.begin(), targets[i].required.end(), targets[i - 1].required.begin(),
                              targets[i - 1].required.end()))
        << targets[i].name;
  EXPECT_TRUE(std::includes(targets[4].required.begin(), targets[4].required.end(), targets[2].required.begin(),
                            targets[2].required.end()));
  // Beside code for other ARM CPUs it is the baseline alone; code for x86-64 is no matter.
  EXPECT_EQ(names(parse("aarch64,aarch64-i8mm")), (std::vector<std::string>{"aarch64", "aarch64-i8mm"}));
  std::vector<std::string> both = {"x86-64-v3",    "aarch64",      "aarch64-dotprod",
                                   "aarch64-i8mm", "aarch64-sve2", "aarch64-sme2"};
  EXPECT_EQ(names(parse("x86-64-v3,aarch64")), both);
  EXPECT_EQ(parse("x86-64,aarch64").size(), parse("x86-64").size() + parse("aarch64").size());
}

TEST(Targets, listsAreTrimmedAndRepetitionsDropped) {
  EXPECT_EQ(names(parse(" x86-64-v2 , x86-64-v3,x86-64-v2")), (std::vector<std::string>{"x86-64-v2", "x86-64-v3"}));
  EXPECT_NE(errorOf("x86-64-v2,,x86-64-v3").find("separated by commas"), std::string::npos);
}

TEST(Targets, hostIsSpelledSoThatItMeansTheSameElsewhere) {
  TargetSpec host = one("host"), again = one(host.name), empty = one("");
  EXPECT_EQ(host.required, again.required) << host.name;
  EXPECT_EQ(host.name, empty.name);
  EXPECT_EQ(host.name.find("host"), std::string::npos);
  // This machine has all that its name asks for.
  auto found = sys::getHostCPUFeatures();
  for (const std::string &feature : host.required) {
    auto place = found.find(feature);
    if (place != found.end())
      EXPECT_TRUE(place->second) << feature << " of " << host.name;
  }
  EXPECT_FALSE(one("host-sse4.2").has("sse4.2"));
}

TEST(Targets, errorsName) {
  EXPECT_EQ(errorOf("znver9"), "unknown target 'znver9', did you mean 'znver1', 'znver2' or 'znver3'?");
  EXPECT_EQ(errorOf("quantum"),
            "unknown target 'quantum', expects host, x86-64, x86-64-v2, x86-64-v3, x86-64-v4, aarch64, "
            "aarch64-dotprod, aarch64-i8mm, aarch64-sve2, aarch64-sme2 or a CPU name (setun-compile --list-targets)");
  EXPECT_EQ(errorOf("x86-64-v4+avx512vnnni"),
            "target 'x86-64-v4+avx512vnnni': unknown CPU feature 'avx512vnnni', did you mean 'avx512vnni' or "
            "'avx512vbmi'?");
  EXPECT_NE(errorOf("x86-64-v5").find("did you mean 'x86-64-v2'"), std::string::npos) << errorOf("x86-64-v5");
  EXPECT_EQ(errorOf("diamondrapids+egpr"),
            "target 'diamondrapids+egpr': feature 'egpr' cannot be used, for the runtime has "
            "no way to find out whether a CPU has it");
  EXPECT_EQ(errorOf("x86-64-sse2"), "target 'x86-64-sse2' lacks sse2, which all x86_64 code needs");
  EXPECT_NE(errorOf("x86-64-v3+").find("unknown CPU feature ''"), std::string::npos);
  // 32-bit CPUs run no package.
  EXPECT_NE(errorOf("pentium4").find("unknown target"), std::string::npos);
}

} // namespace
