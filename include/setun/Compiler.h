//===- Compiler.h - the compiler as a function -------------------*- C++ -*-===//
//
// Compiles a module of the bitnet dialect (MLIR text or bytecode, docs/contracts.md) into a package, or shows any stage
// on the way. setun-compile and the Python module are thin layers over this header, which needs the standard library
// only.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_COMPILER_H
#define SETUN_COMPILER_H

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace setun {

/// What to write.
enum class EmitStage {
  Bitnet,      ///< the module as it was read and checked
  Kernels,     ///< JSON: the shapes of matrices, the kernels chosen for them, and others with what they would cost
  Ternary,     ///< kernels chosen, weights not packed yet
  LlvmDialect, ///< lowered, in MLIR's LLVM dialect
  Llvm,        ///< LLVM IR, before LLVM's optimiser
  Asm,         ///< assembly
  Object,      ///< ELF object file, for exactly one target
  Package,     ///< the package
};

enum class Severity { Error, Warning, Remark, Note };

/// A message about the module, the weights or the target.
struct Diagnostic {
  Severity severity = Severity::Error;
  /// "file:line:column" of the user's source if the module says it, else of the module; empty if there is no place.
  std::string location;
  std::string message;
  /// The line of the module that `location` names, and the column in it from 1; empty and 0 where it is not at hand.
  std::string sourceLine;
  unsigned column = 0;
  std::vector<Diagnostic> notes;
};

/// "model.mlir:3:7: error: expects ..." with the source line and notes below, without a line end.
std::string toString(const Diagnostic &diagnostic);

/// A module to compile.
struct CompileInput {
  std::string path; ///< of the file, or where `text` is used the name that stands in messages
  std::string text;
  bool isText = false;

  static CompileInput file(std::string path) { return {std::move(path), std::string(), false}; }
  static CompileInput fromText(std::string text, std::string name = "<module>") {
    return {std::move(name), std::move(text), true};
  }
};

struct CompileOptions {
  /// Targets as for `--target`, lists allowed; empty: this machine. See targetNames().
  std::vector<std::string> targets;
  EmitStage emit = EmitStage::Package;
  /// .safetensors files in which bitnet.weight finds its tensors.
  std::vector<std::string> weightFiles;
  /// Files that travel in the package: name in it, and path.
  std::vector<std::pair<std::string, std::string>> packageFiles;
  /// Adds the outputs probe.<layer>.codes and probe.<layer>.acc to every entry point. Such a package has no self-tests.
  bool probe = false;
  /// Row of the kernel table to use wherever it is exact; empty: the best. For tests.
  std::string forceKernel;
  /// Where a target lacks features that `forceKernel` needs, the instructions in question become plain arithmetic of
  /// the same meaning, while all else of the kernel stays as it is. The code then runs on the target. For tests.
  bool emulate = false;
  /// Layout of ternary weights (include/setun/Packing.h): "r16k4f4", "r16k4t5", "r16k4s4", "best" for what the cost
  /// model finds best for each target, or "auto": the best for a single target, and for several the r16k4f4 that all
  /// share, for another layout is another copy of the weights.
  std::string format = "auto";
  /// Cores that will run the model at once, for the cost model; 0: a few.
  unsigned runThreads = 0;
  /// How bitnet.top_k finds the largest logits: "certified" (also if empty: a scan of a copy of the head in few bits,
  /// and the exact logits of all rows that may be among the largest) or "exact" (all logits). The results are the same.
  /// "int8" changes the logits: weights of the head and its activations have 8 bits, with a scale a row and a token.
  std::string head;
  /// File of kernels that override the cost model for matrices of a shape: a JSON list as EmitStage::Kernels shows the
  /// fields of; empty: none.
  std::string kernelFile;
  /// Record a run of each kind of kernel, which the runtime repeats when it loads the code.
  bool selfTest = true;
  /// Threads of the compiler; 0: one for each CPU.
  unsigned threads = 0;
  /// Called as work proceeds: stage ("parse", "quantize head", "raise", "self-test", "convert", "lower", "pack",
  /// "translate", "optimise", "emit", "link", "write"), target ("" where there is none) and the part of the stage that
  /// is done, 0 to 1.
  std::function<void(const std::string &stage, const std::string &target, double fraction)> progress;
  /// Called with each message as it arises. Messages are in the result too.
  std::function<void(const Diagnostic &)> diagnostic;
  /// Asked from time to time; compilation fails once it returns true.
  std::function<bool()> cancelled;
};

struct CompileResult {
  bool ok = false;
  /// Output of a stage if no output path was given; object code is bytes.
  std::string text;
  std::vector<Diagnostic> diagnostics;
  /// Wall seconds of each stage, summed over targets, in the order of first use.
  std::vector<std::pair<std::string, double>> times;

  struct Section {
    std::string target;
    std::vector<std::string> features; ///< needed of the CPU
    uint64_t bytes = 0;                ///< of code
  };
  std::vector<Section> sections;
  uint64_t weightBytes = 0; ///< of packed weights
  uint64_t outputBytes = 0; ///< of the file written

  explicit operator bool() const { return ok; }
};

/// Compiles. The output goes to `outputPath`; text stages and object code go to CompileResult::text if it is empty (a
/// package needs a path). On failure there is no output, and at least one diagnostic is an error.
CompileResult compile(const CompileInput &input, const CompileOptions &options, const std::string &outputPath);

/// "bitnet", "kernels", "ternary", "llvm-dialect", "llvm", "asm", "obj", "package".
const std::vector<std::pair<std::string, EmitStage>> &emitStages();

/// Names for `targets`: "host", the levels of x86-64 and aarch64, then CPUs. Each may be followed by +feature or
/// -feature.
std::vector<std::string> targetNames();
/// Features for them.
std::vector<std::string> targetFeatures();

/// A code section that a target stands for.
struct TargetInfo {
  std::string name; ///< in the package; what `host` is on this machine
  std::string arch;
  std::vector<std::string> features; ///< needed of the CPU
  std::string kernel;                ///< row of the kernel table that it prefers
};

/// What a list of targets ("host,x86-64-v3"; "x86-64" is the portable set) stands for. Empty, with a message in
/// `error`, if the list is wrong.
std::vector<TargetInfo> describeTargets(const std::string &list, std::string &error);

} // namespace setun

#endif // SETUN_COMPILER_H
