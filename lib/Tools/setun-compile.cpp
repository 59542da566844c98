//===- setun-compile.cpp - compiles modules to packages ---------------------------===//
//
// Parses the command line and calls include/setun/Compiler.h.
//
//===----------------------------------------------------------------------===//
#include "setun/Compiler.h"
#include "setun/setun.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
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
  --file NAME=PATH        puts a file into the package; may be repeated
  --emit STAGE            what to write: bitnet, kernels (the matrices, and what each kernel would cost), ternary,
                          llvm-dialect, llvm, asm, obj or package (default: package)
  --probe                 adds activation codes and accumulators of every layer to the outputs, and no self-tests
  --force-kernel NAME     uses this row of the kernel table wherever it is exact
  --emulate               with --force-kernel: plain arithmetic for instructions that the target lacks; for tests
  --format NAME           layout of ternary weights: r16k4f4 (2 bits), r16k4t5 (1.6 bits), r16k4s4 (2 bits, for signed
                          dots of ARM), best (the fastest for each target) or auto (best for one target; r16k4f4, which they
                          share, for several) (default: auto)
  --run-threads N         cores that will run the model at once, for the choice of kernels (default: a few)
  --head MODE             how the largest logits are found, with the same results: certified (default; scans a copy of the
                          head in few bits, then scores exactly what may be among the largest) or exact (scores all);
                          int8: the head has 8-bit weights and activations, and its logits are those
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

/// The options of a command line one by one: "--name value" or "--name=value".
class Arguments {
public:
  Arguments(int argc, char **argv) : words(argv + 1, argv + argc) {}

  bool next() {
    if (place == words.size())
      return false;
    name = words[place++];
    hasValue = false;
    size_t equals = name.find('=');
    if (name.size() > 2 && name.compare(0, 2, "--") == 0 && equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
      hasValue = true;
    }
    return true;
  }
  /// The value of the present option.
  std::string take() {
    if (!hasValue && place < words.size()) {
      value = words[place++];
      hasValue = true;
    }
    if (!hasValue || value.empty())
      fail("option '" + name + "' expects a value");
    return value;
  }
  bool isFlag(const char *flag) {
    if (name != flag)
      return false;
    if (hasValue)
      fail("option '" + name + "' expects no value, got '" + value + "'");
    return true;
  }
  bool is(const char *option) const { return name == option; }

  [[noreturn]] static void fail(const std::string &message) {
    std::cerr << "setun-compile: error: " << message << "\n(setun-compile --help lists the options)\n";
    std::exit(2);
  }

  std::string name, value;

private:
  std::vector<std::string> words;
  size_t place = 0;
  bool hasValue = false;
};

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
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    const std::string &name = arguments.name;
    if (arguments.isFlag("-h") || arguments.isFlag("--help")) {
      std::cout << usage;
      std::exit(0);
    } else if (arguments.isFlag("--version")) {
      std::cout << "setun-compile " << setun_version() << "\n";
      std::exit(0);
    } else if (arguments.isFlag("--list-targets")) {
      listTargets();
      std::exit(0);
    } else if (arguments.is("-o") || arguments.is("--output")) {
      line.output = arguments.take();
    } else if (arguments.is("--target")) {
      line.options.targets.push_back(arguments.take());
    } else if (arguments.is("--weights")) {
      line.options.weightFiles.push_back(arguments.take());
    } else if (arguments.is("--file")) {
      std::string text = arguments.take();
      size_t equals = text.find('=');
      if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
        Arguments::fail("option '--file' expects NAME=PATH, got '" + text + "'");
      line.options.packageFiles.push_back({text.substr(0, equals), text.substr(equals + 1)});
    } else if (arguments.is("--emit")) {
      std::string stage = arguments.take(), names;
      bool found = false;
      for (const auto &[known, value] : emitStages()) {
        if (known == stage) {
          line.options.emit = value;
          found = true;
        }
        names += (names.empty() ? "" : ", ") + known;
      }
      if (!found)
        Arguments::fail("option '--emit' expects one of " + names + "; got '" + stage + "'");
    } else if (arguments.is("--force-kernel")) {
      line.options.forceKernel = arguments.take();
    } else if (arguments.is("--head")) {
      line.options.head = arguments.take();
    } else if (arguments.isFlag("--emulate")) {
      line.options.emulate = true;
    } else if (arguments.is("--format")) {
      line.options.format = arguments.take();
    } else if (arguments.is("--threads") || arguments.is("--run-threads")) {
      std::string option = name, text = arguments.take();
      char *end = nullptr;
      unsigned long threads = std::strtoul(text.c_str(), &end, 10);
      if (text.empty() || *end || threads > 1024)
        Arguments::fail("option '" + option + "' expects a number from 0 to 1024, got '" + text + "'");
      (option == "--threads" ? line.options.threads : line.options.runThreads) = static_cast<unsigned>(threads);
    } else if (arguments.is("--kernels")) {
      line.options.kernelFile = arguments.take();
    } else if (arguments.isFlag("--probe")) {
      line.options.probe = true;
    } else if (arguments.isFlag("--no-self-test")) {
      line.options.selfTest = false;
    } else if (arguments.isFlag("--timing")) {
      line.timing = true;
    } else if (arguments.isFlag("--progress")) {
      line.progress = CommandLine::Progress::Always;
    } else if (arguments.isFlag("--no-progress")) {
      line.progress = CommandLine::Progress::Never;
    } else if (name.size() > 1 && name[0] == '-') {
      Arguments::fail("unknown option '" + name + "'");
    } else if (!line.input.empty()) {
      Arguments::fail("expects one input, got '" + line.input + "' and '" + name + "'");
    } else {
      line.input = name;
    }
  }
  if (line.input.empty())
    Arguments::fail("expects an input file");
  if (line.output.empty())
    Arguments::fail("expects an output file (-o)");
  if (line.output == "-") {
    if (line.options.emit == EmitStage::Package)
      Arguments::fail("a package cannot go to standard output; use -o FILE");
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
  if (line.output.empty() && std::fwrite(result.text.data(), 1, result.text.size(), stdout) != result.text.size()) {
    std::cerr << "setun-compile: error: cannot write to standard output\n";
    return 1;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}
