//===- setun-compile.cpp - compiles modules to packages ---------------------------===//
//
// Parses the command line and calls include/setun/Compiler.h.
//
//===----------------------------------------------------------------------===//
#include "runtime/tools/Arguments.h"
#include "setun/Compiler.h"
#include "setun/setun.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <string>
#include <unistd.h>
#include <vector>

using namespace setun;

static const char *const usage = R"(usage: setun-compile INPUT -o OUTPUT [options]

Compiles a module of the bitnet dialect (MLIR text or bytecode; '-' is standard input) into a package.

  -o, --output FILE       where the output goes; '-' is standard output (not for packages)
  --target LIST           CPUs to compile for, separated by commas; may be repeated (default: host)
                            host                  this machine
                            x86-64                code for six generations of CPUs, of which the runtime takes the best
                                                  (beside other targets of x86-64: the oldest alone)
                            x86-64-v2, -v3, -v4   a level of x86-64
                            aarch64               the same for 64-bit ARM, five of them
                            aarch64-dotprod, -i8mm, -sve2, -sme2
                                                  a level of 64-bit ARM
                            znver4, cortex-a76... a CPU by LLVM's name
                          each may be followed by +FEATURE or -FEATURE: x86-64-v4+avx512vnni
  --weights FILE          .safetensors file with the module's weights; may be repeated
  --file NAME=FILE        puts a file into the package; may be repeated
  --emit STAGE            what to write: bitnet, kernels (the matrices, and what each kernel would cost), ternary,
                          llvm-dialect, llvm, asm, obj or package (default: package)
  --probe                 adds activation codes and accumulators of every layer to the outputs, and no self-tests
  --force-kernel NAME     uses this row of the kernel table wherever it is exact
  --emulate               with --force-kernel: plain arithmetic for instructions that the target lacks; for tests
  --format NAME           layout of ternary weights: r16k4f4 (2 bits), r16k4t5 (1.6 bits), r16k4s4 (2 bits, for signed
                          dots of ARM), best (the fastest for each target) or auto (best for one target; r16k4f4, which
                          they share, for several) (default: auto)
  --run-threads N         cores that will run the model at once, for the choice of kernels (default: a few)
  --head MODE             how the largest logits are found, with the same results: certified (default; scans a copy of
                          the head in few bits, then scores exactly what may be among the largest) or exact (scores
                          all); int8: the head has 8-bit weights and activations, and its logits are those
  --kernels FILE          kernels that override the choice for matrices of a shape: a JSON list of objects with rows,
                          cols, binary, gated, group, row, format, tokens and staged, as --emit=kernels shows them
  --no-self-test          records no self-tests
  --threads N             threads of the compiler (default: one for each CPU)
  --timing                prints the time of each stage
  --progress              shows progress even if standard error is no terminal
  --no-progress           shows none
  --list-targets          lists targets and features
  --version               prints the version
  -h, --help              prints this text

Exit status: 0 if the output was written, 1 if compilation failed, 2 if the command line is wrong.
)";

namespace {

struct CommandLine {
  std::string input, output;
  CompileOptions options;
  bool timing = false;
  enum class Progress { Auto, Always, Never } progress = Progress::Auto;
};

[[noreturn]] void fail(const std::string &message) {
  std::cerr << "setun-compile: error: " << message << "\n(setun-compile --help lists the options)\n";
  std::exit(2);
}

void listTargets() {
  auto describe = [](const std::string &title, const std::string &list) {
    std::string error;
    std::vector<TargetInfo> targets = describeTargets(list, error);
    std::cout << title << "\n";
    if (targets.empty())
      std::cout << "  " << error << "\n";
    for (const TargetInfo &target : targets)
      std::cout << "  " << target.name << " (kernels: " << target.kernel << ")\n";
  };
  auto list = [](const std::string &title, const std::vector<std::string> &names) {
    std::string line;
    std::cout << title << "\n";
    for (const std::string &name : names) {
      if (line.size() + name.size() > 110) {
        std::cout << "  " << line << "\n";
        line.clear();
      }
      line += (line.empty() ? "" : " ") + name;
    }
    std::cout << "  " << line << "\n";
  };
  describe("host:", "host");
  describe("x86-64, the portable set:", "x86-64");
  describe("aarch64, the portable set:", "aarch64");
  list("targets:", targetNames());
  list("features, as in x86-64-v4+avx512vnni:", targetFeatures());
}

CommandLine parse(int argc, char **argv) {
  CommandLine line;
  CompileOptions &options = line.options;
  bool help = false, version = false, list = false, noSelfTest = false, progress = false, noProgress = false;
  tools::CommandLine words(line.input, "input");
  words.flag("-h", help);
  words.flag("--help", help);
  words.flag("--version", version);
  words.flag("--list-targets", list);
  words.flag("--emulate", options.emulate);
  words.flag("--probe", options.probe);
  words.flag("--no-self-test", noSelfTest);
  words.flag("--timing", line.timing);
  words.flag("--progress", progress);
  words.flag("--no-progress", noProgress);
  words.text("-o", line.output);
  words.text("--output", line.output);
  words.text("--force-kernel", options.forceKernel);
  words.text("--format", options.format);
  words.text("--head", options.head);
  words.text("--kernels", options.kernelFile);
  words.texts("--target", options.targets);
  words.texts("--weights", options.weightFiles);
  words.namedFiles("--file", options.packageFiles);
  words.option("--emit", [&](const std::string &value) {
    std::string names;
    for (const auto &[name, stage] : emitStages()) {
      if (name == value) {
        options.emit = stage;
        return std::string();
      }
      names += (names.empty() ? "" : ", ") + name;
    }
    return "expects one of " + names + "; got '" + value + "'";
  });
  auto threads = [&](const char *name, unsigned &number) {
    words.option(name, [&number](const std::string &value) {
      number = 0;
      return value == "0" || tools::parseNumber(value, number, 1024u)
                 ? std::string()
                 : "expects a number from 0 to 1024, got '" + value + "'";
    });
  };
  threads("--threads", options.threads);
  threads("--run-threads", options.runThreads);

  const std::string wrong = words.parse(std::vector<std::string>(argv + 1, argv + argc));
  if (help || version || list) {
    if (help)
      std::cout << usage;
    else if (version)
      std::cout << "setun-compile " << setun_version() << "\n";
    else
      listTargets();
    std::exit(0);
  }
  if (!wrong.empty())
    fail(wrong);
  options.selfTest = !noSelfTest;
  line.progress = noProgress ? CommandLine::Progress::Never
                  : progress ? CommandLine::Progress::Always
                             : CommandLine::Progress::Auto;
  if (line.input.empty())
    fail("expects an input file");
  if (line.output.empty())
    fail("expects an output file (-o)");
  if (line.output == "-") {
    if (options.emit == EmitStage::Package)
      fail("a package cannot go to standard output; use -o FILE");
    line.output.clear();
  }
  return line;
}

/// One line on standard error that is rewritten as work proceeds; where it is no terminal, a line for each stage.
class ProgressBar {
public:
  explicit ProgressBar(bool enabled) : enabled(enabled), terminal(::isatty(STDERR_FILENO)) {}
  ~ProgressBar() { clear(); }

  void update(const std::string &stage, const std::string &target, double fraction) {
    if (!enabled)
      return;
    std::string text = stage + (target.empty() ? "" : " (" + target + ")");
    if (!terminal) {
      if (text != shown)
        std::cerr << text << "\n";
      shown = text;
      return;
    }
    auto now = std::chrono::steady_clock::now();
    if (text == shown && fraction < 1 && now - drawn < std::chrono::milliseconds(50))
      return;
    drawn = now;
    shown = text;
    constexpr int width = 30;
    int full = static_cast<int>(fraction * width);
    std::string bar = std::string(full, '#') + std::string(width - full, '.');
    char percent[8];
    std::snprintf(percent, sizeof(percent), "%3d%%", static_cast<int>(fraction * 100));
    // The rest of the line is cleared, for the text before may have been longer.
    std::cerr << "\r[" << bar << "] " << percent << " " << text << "\x1b[K" << std::flush;
    dirty = true;
  }
  /// Makes room for other output.
  void clear() {
    if (dirty)
      std::cerr << "\r\x1b[K" << std::flush;
    dirty = false;
  }

private:
  const bool enabled, terminal;
  bool dirty = false;
  std::string shown;
  std::chrono::steady_clock::time_point drawn;
};

void printTimes(const CompileResult &result) {
  double total = 0;
  for (const auto &[name, seconds] : result.times)
    total += seconds;
  const std::string rule = "===" + std::string(73, '-') + "===\n";
  std::cerr << rule << "                         ... Compile time report ...\n" << rule;
  std::fprintf(stderr, "  Total Execution Time: %.4f seconds\n\n  ----Wall Time----  ----Name----\n", total);
  for (const auto &[name, seconds] : result.times)
    std::fprintf(stderr, "  %9.4f (%5.1f%%)  %s\n", seconds, total > 0 ? 100 * seconds / total : 0.0, name.c_str());
  std::fprintf(stderr, "  %9.4f (100.0%%)  Total\n", total);
}

} // namespace

int main(int argc, char **argv) {
  CommandLine line = parse(argc, argv);
  bool showProgress = line.progress == CommandLine::Progress::Always ||
                      (line.progress == CommandLine::Progress::Auto && ::isatty(STDERR_FILENO));
  ProgressBar bar(showProgress);
  line.options.progress = [&](const std::string &stage, const std::string &target, double fraction) {
    bar.update(stage, target, fraction);
  };
  line.options.diagnostic = [&](const Diagnostic &diagnostic) {
    bar.clear();
    std::cerr << toString(diagnostic) << std::endl;
  };

  CompileInput input = CompileInput::file(line.input);
  if (line.input == "-")
    input = CompileInput::fromText(
        std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()), "<stdin>");
  CompileResult result = compile(input, line.options, line.output);
  bar.clear();
  if (line.timing)
    printTimes(result);
  if (!result)
    return 1;
  if (line.output.empty() && (std::fwrite(result.text.data(), 1, result.text.size(), stdout) != result.text.size() ||
                              std::fflush(stdout) != 0)) {
    std::cerr << "setun-compile: error: cannot write to standard output: " << std::strerror(errno) << "\n";
    return 1;
  }
  return 0;
}
