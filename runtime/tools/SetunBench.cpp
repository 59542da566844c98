//===- SetunBench.cpp - times one entry beside the machine's limits -------===//
#include "../src/Memory.h"
#include "Arguments.h"
#include "Outputs.h"
#include "setun/Handles.h"
#include "setun/Limits.h"
#include "setun/setun.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

using setun::Limits;
using setun::PackagePointer;
using setun::SessionPointer;
using setun::runtime::Mapping;
using setun::tools::Array;
using setun::tools::CommandLine;
using setun::tools::NamedArray;
using setun::tools::parseNumber;

namespace {

constexpr uint32_t kMaxThreads = 1024;

const char kHelp[] =
    R"(usage: setun-bench MODEL.setun [--entry NAME] [--dim SYMBOL=N,...]... [--threads N,...] [options]
       setun-bench --limits [--threads N,...] [--rounds N] [--json]

Times one entry of a package on random inputs, beside what this machine can do at best: how fast it reads memory, and how
fast it multiplies bytes. Limits and runs are measured in turn, and medians are printed with the smallest and largest.

  --entry NAME         entry to run (default: the package's only one)
  --dim SYMBOL=N,...   sizes of a dimension, T=1,16,512 say (default: 1); all combinations are run
  --threads N,...      numbers of threads (default: 1)
  --rounds N           times that everything is measured (default: 5)
  --seconds S          time for a measurement in each round (default: 0.1)
  --cold               weights come from memory: what a run left in the caches is dropped before the next
  --context N          capacity of the session in tokens (default: the largest that the model allows)
  --target NAME        code section to use (default: the best that this CPU can run)
  --profile            print the time of each operation, too
  --limits             the machine's limits alone, without a package
  --json               print the results as JSON
  --version            print the version of the runtime
  --help               print this text

GB/s is what the entry needs of the weights section, by the time of a run; Gop/s counts two for an 8-bit multiply-add.
Exit status: 0 if all went well, 1 if the package or a run failed, 2 for wrong arguments.
)";

struct Options {
  std::string package, entry, target;
  std::vector<std::pair<std::string, std::vector<int64_t>>> dims;
  std::vector<uint32_t> threads = {1};
  uint32_t rounds = 5;
  double seconds = 0.1;
  int64_t context = 0;
  bool cold = false, profile = false, limits = false, json = false;
};

template <typename Number> bool parseList(const std::string &text, Number most, std::vector<Number> &list) {
  list.clear();
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    if (!parseNumber(text.substr(start, end - start), list.emplace_back(), most))
      return false;
    start = end + 1;
  }
  return true;
}

std::string parseArguments(const std::vector<std::string> &words, Options &options) {
  CommandLine line(options.package);
  line.flag("--cold", options.cold);
  line.flag("--profile", options.profile);
  line.flag("--limits", options.limits);
  line.flag("--json", options.json);
  line.text("--entry", options.entry);
  line.text("--target", options.target);
  line.number("--rounds", options.rounds);
  line.number("--context", options.context);
  line.option("--dim", [&](const std::string &value) {
    const size_t split = value.find('=');
    auto &dim = options.dims.emplace_back(value.substr(0, split), std::vector<int64_t>());
    return split != 0 && split != std::string::npos && parseList(value.substr(split + 1), int64_t(1) << 40, dim.second)
               ? std::string()
               : "expects SYMBOL=N,... with numbers of at least 1, got '" + value + "'";
  });
  line.option("--threads", [&](const std::string &value) {
    return parseList(value, kMaxThreads, options.threads)
               ? std::string()
               : "expects numbers from 1 to " + std::to_string(kMaxThreads) + ", got '" + value + "'";
  });
  line.option("--seconds", [&](const std::string &value) {
    char *end = nullptr;
    options.seconds = std::strtod(value.c_str(), &end);
    return !value.empty() && !*end && options.seconds > 0 && options.seconds <= 3600
               ? std::string()
               : "expects a time above 0, got '" + value + "'";
  });
  if (std::string message = line.parse(words); !message.empty())
    return message;
  if (options.limits && !options.package.empty())
    return "--limits goes without a package: with one, the limits are printed anyway";
  if (!options.limits && options.package.empty())
    return "expects a package, or --limits";
  return std::string();
}

//===----------------------------------------------------------------------===//
// Figures
//===----------------------------------------------------------------------===//

struct Spread {
  std::vector<double> values;

  void add(double value) { values.push_back(value); }
  double median() const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    const size_t half = sorted.size() / 2;
    return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }
  double least() const { return *std::min_element(values.begin(), values.end()); }
  double most() const { return *std::max_element(values.begin(), values.end()); }
};

std::string quoted(const std::string &raw) {
  std::string text = "\"";
  for (char c : raw) {
    if (c == '"' || c == '\\')
      text += '\\';
    text += c;
  }
  return text + "\"";
}

std::string number(double value) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.10g", value);
  return text;
}

/// `"name": median, "name_min": ..., "name_max": ...`
std::string json(const std::string &name, const Spread &spread) {
  return quoted(name) + ": " + number(spread.median()) + ", " + quoted(name + "_min") + ": " + number(spread.least()) +
         ", " + quoted(name + "_max") + ": " + number(spread.most());
}

struct Machine {
  uint32_t threads;
  std::unique_ptr<Limits> limits;
  Spread read, int8;

  void measure() {
    read.add(limits->readBandwidth());
    int8.add(limits->int8Peak());
  }
  std::string asJson() const {
    return "{\"threads\": " + std::to_string(threads) + ", " + json("dram_read_gb_s", read) + ", " +
           json("int8_peak_gops", int8) + ", \"dram_read_method\": " + quoted(limits->readMethod()) +
           ", \"int8_method\": " + quoted(limits->int8Method()) + "}";
  }
  void print() const {
    std::printf("%u thread%s: memory reads %.1f GB/s (%.1f to %.1f; %s), int8 %.0f Gop/s (%.0f to %.0f; %s)\n", threads,
                threads == 1 ? "" : "s", read.median(), read.least(), read.most(), limits->readMethod().c_str(),
                int8.median(), int8.least(), int8.most(), limits->int8Method().c_str());
  }
};

//===----------------------------------------------------------------------===//
// Runs
//===----------------------------------------------------------------------===//

/// A whole file in large pages, as the limits are measured; it begins with a page, so that the runtime uses it there.
class File {
public:
  /// Returns a message on failure.
  std::string read(const std::string &path) {
    std::ifstream stream(path, std::ios::binary | std::ios::ate);
    const std::streamoff end = stream ? static_cast<std::streamoff>(stream.tellg()) : -1;
    if (end < 0)
      return "cannot open '" + path + "'";
    length = static_cast<size_t>(end);
    if (setun::runtime::Status status = Mapping::largePages(length, "'" + path + "'", memory); !status.ok())
      return status.message();
    stream.seekg(0);
    if (!stream.read(reinterpret_cast<char *>(memory.data()), end))
      return "cannot read '" + path + "'";
    return std::string();
  }
  uint8_t *data() const { return memory.data(); }
  size_t size() const { return length; }

private:
  Mapping memory;
  size_t length = 0;
};

/// Drops a range from all caches.
class Evictor {
public:
  explicit Evictor(const File &file) : file(file) {
#if !defined(__x86_64__)
    other.resize(size_t(256) << 20);
#endif
  }
  void run() {
#if defined(__x86_64__)
    for (size_t i = 0; i < file.size(); i += 64)
      _mm_clflush(file.data() + i);
    _mm_mfence();
#else
    // Something else takes its place.
    for (size_t i = 0; i < other.size(); i += 64)
      other[i] = static_cast<uint8_t>(other[i] + 1);
#endif
  }

private:
  const File &file;
  std::vector<uint8_t> other;
};

/// Numbers that are the same in every run of the program.
class Random {
public:
  uint64_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 11;
  }
  double unit() { return static_cast<double>(next()) / static_cast<double>(uint64_t(1) << 53); }

private:
  uint64_t state = 0x5e7a;
};

/// Fills a tensor with values that an entry takes; `below`: of i64 inputs that index a table, 0: no such limit.
void fillRandom(Array &tensor, int64_t below, Random &random) {
  const size_t count = tensor.data.size() / setun_dtype_size(tensor.dtype);
  auto value = [&] { return 2 * random.unit() - 1; };
  auto put = [&](size_t i, auto element) {
    std::memcpy(tensor.data.data() + i * sizeof(element), &element, sizeof(element));
  };
  for (size_t i = 0; i < count; ++i)
    switch (tensor.dtype) {
    case SETUN_F32:
      put(i, static_cast<float>(value()));
      break;
    case SETUN_F64:
      put(i, value());
      break;
    case SETUN_F16: // 1 to 2, of either sign
      put(i, static_cast<uint16_t>(0x3c00 | (random.next() & 0x83ff)));
      break;
    case SETUN_BF16:
      put(i, static_cast<uint16_t>(0x3f80 | (random.next() & 0x807f)));
      break;
    case SETUN_I64:
      put(i, static_cast<int64_t>(random.next() % static_cast<uint64_t>(below ? below : 2)));
      break;
    case SETUN_BOOL:
      put(i, static_cast<uint8_t>(random.next() & 1));
      break;
    case SETUN_I32:
      put(i, static_cast<int32_t>(random.next() & 1));
      break;
    case SETUN_I16:
      put(i, static_cast<int16_t>(random.next() & 1));
      break;
    default:
      put(i, static_cast<uint8_t>(random.next() & 1));
    }
}

/// One entry with one choice of sizes and threads.
struct Case {
  std::vector<std::pair<std::string, int64_t>> dims;
  uint32_t threads = 1;
  SessionPointer session;
  std::vector<Array> inputs;
  std::vector<NamedArray> outputs;
  std::vector<setun_tensor> in, out;
  double weightBytes = 0, int8Ops = 0, floatOps = 0;
  uint64_t runs = 0;
  Spread seconds;

  std::string dimText() const {
    std::string text;
    for (const auto &[symbol, size] : dims)
      text += (text.empty() ? "" : " ") + symbol + "=" + std::to_string(size);
    return text.empty() ? "-" : text;
  }
  double gigabytes() const { return weightBytes / seconds.median() / 1e9; }
  double gigaOps() const { return int8Ops / seconds.median() / 1e9; }
};

struct Bench {
  const Options &options;
  File file;
  PackagePointer package;
  uint32_t entry = 0;
  setun_entry_info info = {};
  std::vector<Case> cases;
  std::vector<Machine> machines;

  explicit Bench(const Options &options) : options(options) {}

  std::string open();
  std::string findEntry();
  std::string makeCases();
  std::string prepare(Case &one);
  std::string run(Case &one, double wanted, Evictor *evictor);
  Machine &machineOf(const Case &one) {
    return *std::find_if(machines.begin(), machines.end(),
                         [&](const Machine &machine) { return machine.threads == one.threads; });
  }
  void print();
  /// What a run spends, in seconds: all of it, and on each operation, the mean of the threads.
  struct OperationTimes {
    double whole = 0;
    std::vector<std::pair<setun_operation_info, double>> operations;
  };
  OperationTimes operationTimes(const Case &one);
  void printOperations(const Case &one);
  std::string asJson();
  std::string operationsAsJson(const Case &one);
};

std::string Bench::open() {
  // A file that is mapped belongs to the page cache, which lies in memory as other pages do; a copy of one's own can be
  // dropped from the caches without touching anybody else's.
  const setun_open_options open = {sizeof(open), options.target.empty() ? nullptr : options.target.c_str(), nullptr,
                                   options.cold ? SETUN_WEIGHTS_MAP : SETUN_WEIGHTS_AUTO};
  setun_package *opened = nullptr;
  setun_status status;
  if (options.cold) {
    if (std::string message = file.read(options.package); !message.empty())
      return message;
    status = setun_package_open_memory(file.data(), file.size(), &open, &opened);
  } else {
    status = setun_package_open(options.package.c_str(), &open, &opened);
  }
  package.reset(opened);
  return status == SETUN_OK ? std::string() : setun_last_error();
}

std::string Bench::findEntry() {
  std::string names;
  uint32_t count = 0;
  for (uint32_t i = 0; i < setun_package_num_entries(package.get()); ++i) {
    setun_entry_info candidate;
    if (setun_package_entry(package.get(), i, &candidate) != SETUN_OK || std::strncmp(candidate.name, "__", 2) == 0)
      continue;
    names += (names.empty() ? "" : ", ") + std::string(candidate.name);
    entry = i;
    ++count;
  }
  if (options.entry.empty() && count != 1)
    return "the package has " + std::to_string(count) + " entries (" + names + "); choose one with --entry";
  if (!options.entry.empty() && setun_package_find_entry(package.get(), options.entry.c_str(), &entry) != SETUN_OK)
    return setun_last_error();
  return setun_package_entry(package.get(), entry, &info) == SETUN_OK ? std::string() : setun_last_error();
}

std::string Bench::makeCases() {
  std::vector<std::string> symbols;
  for (uint32_t i = 0; i < info.num_symbols; ++i)
    if (!info.capacity_symbol || std::strcmp(info.symbols[i], info.capacity_symbol) != 0)
      symbols.push_back(info.symbols[i]);
  for (size_t i = 0; i < options.dims.size(); ++i) {
    const std::string &symbol = options.dims[i].first;
    if (std::find(symbols.begin(), symbols.end(), symbol) == symbols.end())
      return "entry '" + std::string(info.name) + "' has no dimension '" + symbol + "' to choose" +
             (info.capacity_symbol && symbol == info.capacity_symbol ? "; --context sets it" : "");
    for (size_t k = 0; k < i; ++k)
      if (options.dims[k].first == symbol)
        return "--dim " + symbol + " is given twice";
  }
  // All combinations, the last symbol's sizes running fastest.
  std::vector<std::vector<std::pair<std::string, int64_t>>> combinations = {{}};
  for (const std::string &symbol : symbols) {
    std::vector<int64_t> sizes = {1};
    for (const auto &dim : options.dims)
      if (dim.first == symbol)
        sizes = dim.second;
    std::vector<std::vector<std::pair<std::string, int64_t>>> longer;
    for (const auto &combination : combinations)
      for (int64_t size : sizes) {
        longer.push_back(combination);
        longer.back().emplace_back(symbol, size);
      }
    combinations = std::move(longer);
  }
  for (uint32_t threads : options.threads)
    for (const auto &combination : combinations) {
      Case &one = cases.emplace_back();
      one.dims = combination;
      one.threads = threads;
    }
  return std::string();
}

std::string Bench::prepare(Case &one) {
  const setun_session_options sessionOptions = {sizeof(sessionOptions), one.threads, options.context};
  setun_session *created = nullptr;
  if (setun_session_create(package.get(), &sessionOptions, &created) != SETUN_OK)
    return setun_last_error();
  one.session.reset(created);
  auto sizeOf = [&](const char *symbol) {
    for (const auto &dim : one.dims)
      if (dim.first == symbol)
        return dim.second;
    return setun_session_capacity(one.session.get());
  };
  Random random;
  for (uint32_t i = 0; i < info.num_inputs; ++i) {
    setun_tensor_info tensor;
    if (setun_package_tensor(package.get(), entry, SETUN_INPUT, i, &tensor) != SETUN_OK)
      return setun_last_error();
    std::vector<int64_t> shape;
    for (int32_t d = 0; d < tensor.rank; ++d)
      shape.push_back(tensor.symbols[d] ? sizeOf(tensor.symbols[d]) : tensor.shape[d]);
    if (auto error = setun::tools::makeArray(tensor.name, tensor.dtype, shape, one.inputs.emplace_back()))
      return *error;
    fillRandom(one.inputs.back(), tensor.below, random);
  }
  for (Array &input : one.inputs)
    one.in.push_back(input.tensor());
  if (auto error = setun::tools::makeOutputs(package.get(), one.session.get(), entry, one.in, one.outputs))
    return *error;
  for (NamedArray &output : one.outputs)
    one.out.push_back(output.array.tensor());

  for (uint32_t i = 0; i < setun_package_num_operations(package.get(), entry); ++i) {
    setun_operation_info operation;
    if (setun_package_operation(package.get(), entry, i, &operation) != SETUN_OK)
      return setun_last_error();
    const double rows = static_cast<double>(operation.rows_symbol ? sizeOf(operation.rows_symbol) : operation.rows);
    one.weightBytes += static_cast<double>(operation.weight_bytes) + rows * static_cast<double>(operation.row_bytes);
    one.int8Ops += 2 * rows * static_cast<double>(operation.int8_macs);
    one.floatOps += 2 * rows * static_cast<double>(operation.float_macs);
  }
  // The first run enlarges the workspace and touches everything.
  return run(one, 0, nullptr);
}

/// Adds one measurement (none if nothing is wanted); returns a message on failure.
std::string Bench::run(Case &one, double wanted, Evictor *evictor) {
  using Clock = std::chrono::steady_clock;
  double total = 0;
  uint64_t runs = 0;
  // The emptying of a session and of the caches takes its time, too; that is not counted, but not for ever either.
  const Clock::time_point begin = Clock::now();
  do {
    if (info.uses_position && !info.resets_session && setun_session_reset(one.session.get()) != SETUN_OK)
      return setun_last_error();
    if (evictor)
      evictor->run();
    const Clock::time_point start = Clock::now();
    if (setun_session_run(one.session.get(), entry, one.in.data(), static_cast<uint32_t>(one.in.size()), one.out.data(),
                          static_cast<uint32_t>(one.out.size())) != SETUN_OK)
      return setun_last_error();
    total += std::chrono::duration<double>(Clock::now() - start).count();
    ++runs;
  } while (total < wanted && std::chrono::duration<double>(Clock::now() - begin).count() < 10 * wanted);
  if (wanted > 0) {
    one.seconds.add(total / static_cast<double>(runs));
    one.runs += runs;
  }
  return std::string();
}

std::string timeText(double seconds) {
  char text[32];
  if (seconds < 1e-3)
    std::snprintf(text, sizeof(text), "%.2f us", seconds * 1e6);
  else if (seconds < 1)
    std::snprintf(text, sizeof(text), "%.2f ms", seconds * 1e3);
  else
    std::snprintf(text, sizeof(text), "%.2f s", seconds);
  return text;
}

void Bench::print() {
  std::printf("entry %s, weights %s\n", info.name, options.cold ? "from memory" : "wherever the run before left them");
  for (const Machine &machine : machines)
    machine.print();
  std::printf("\n%-16s %7s %11s %24s %9s %6s %10s %6s\n", "sizes", "threads", "time", "least to most", "GB/s", "of",
              "Gop/s", "of");
  for (Case &one : cases) {
    const Machine &machine = machineOf(one);
    std::printf("%-16s %7u %11s %24s %9.2f %5.1f%% %10.2f %5.1f%%\n", one.dimText().c_str(), one.threads,
                timeText(one.seconds.median()).c_str(),
                (timeText(one.seconds.least()) + " to " + timeText(one.seconds.most())).c_str(), one.gigabytes(),
                100 * one.gigabytes() / machine.read.median(), one.gigaOps(),
                100 * one.gigaOps() / machine.int8.median());
  }
  if (options.profile)
    for (const Case &one : cases)
      printOperations(one);
}

Bench::OperationTimes Bench::operationTimes(const Case &one) {
  OperationTimes times;
  setun_profile_time whole = {}, time = {};
  (void)setun_session_entry_time(one.session.get(), entry, &whole);
  const double runs = static_cast<double>(std::max<uint64_t>(whole.count, 1));
  times.whole = static_cast<double>(whole.nanoseconds) * 1e-9 / runs;
  for (uint32_t i = 0; i < setun_package_num_operations(package.get(), entry); ++i) {
    auto &[operation, seconds] = times.operations.emplace_back();
    (void)setun_package_operation(package.get(), entry, i, &operation);
    for (uint32_t thread = 0; thread < one.threads; ++thread) {
      (void)setun_session_operation_time(one.session.get(), entry, i, thread, &time);
      seconds += static_cast<double>(time.nanoseconds) * 1e-9 / one.threads / runs;
    }
  }
  return times;
}

void Bench::printOperations(const Case &one) {
  const OperationTimes times = operationTimes(one);
  std::printf("\noperations, %s, %u thread%s\n%11s %6s  %s\n", one.dimText().c_str(), one.threads,
              one.threads == 1 ? "" : "s", "time", "share", "operation");
  double rest = times.whole;
  auto line = [&](double seconds, const std::string &text) {
    std::printf("%11s %5.1f%%  %s\n", timeText(seconds).c_str(), 100 * seconds / std::max(1e-9, times.whole),
                text.c_str());
  };
  for (const auto &[operation, seconds] : times.operations) {
    rest -= seconds;
    std::string text = operation.kind;
    for (const char *part : {operation.detail, operation.shape, operation.name})
      text += *part ? std::string(", ") + part : std::string();
    line(seconds, text);
  }
  line(rest, "barriers and waiting");
}

std::string Bench::operationsAsJson(const Case &one) {
  std::string text;
  for (const auto &[operation, seconds] : operationTimes(one).operations)
    text += std::string(text.empty() ? "" : ", ") + "{\"kind\": " + quoted(operation.kind) +
            ", \"detail\": " + quoted(operation.detail) + ", \"shape\": " + quoted(operation.shape) +
            ", \"name\": " + quoted(operation.name) + ", \"seconds\": " + number(seconds) + "}";
  return "[" + text + "]";
}

std::string limitsAsJson(const std::vector<Machine> &machines) {
  std::string text;
  for (const Machine &machine : machines)
    text += (text.empty() ? "" : ",\n  ") + machine.asJson();
  return "\"limits\": [" + text + "]";
}

std::string Bench::asJson() {
  std::string text;
  for (Case &one : cases) {
    const Machine &machine = machineOf(one);
    text += text.empty() ? "{\"dims\": {" : ",\n  {\"dims\": {";
    for (size_t i = 0; i < one.dims.size(); ++i)
      text += (i ? ", " : "") + quoted(one.dims[i].first) + ": " + std::to_string(one.dims[i].second);
    text += "}, \"threads\": " + std::to_string(one.threads) + ", \"runs\": " + std::to_string(one.runs) + ", " +
            json("seconds", one.seconds) + ", \"weight_bytes\": " + number(one.weightBytes) +
            ", \"int8_ops\": " + number(one.int8Ops) + ", \"float_ops\": " + number(one.floatOps) +
            ", \"gb_s\": " + number(one.gigabytes()) + ", \"gop_s\": " + number(one.gigaOps()) +
            ", \"dram_fraction\": " + number(one.gigabytes() / machine.read.median()) +
            ", \"int8_fraction\": " + number(one.gigaOps() / machine.int8.median());
    if (options.profile)
      text += ", \"operations\": " + operationsAsJson(one);
    text += "}";
  }
  return "{\"entry\": " + quoted(info.name) + ", \"cold\": " + (options.cold ? "true" : "false") + ",\n" +
         limitsAsJson(machines) + ",\n\"cases\": [" + text + "]}\n";
}

std::string run(const Options &options) {
  Bench bench(options);
  if (!options.limits)
    for (auto step : {&Bench::open, &Bench::findEntry, &Bench::makeCases})
      if (std::string message = (bench.*step)(); !message.empty())
        return message;
  for (uint32_t threads : options.threads) {
    if (std::any_of(bench.machines.begin(), bench.machines.end(),
                    [&](const Machine &machine) { return machine.threads == threads; }))
      continue;
    Machine &machine = bench.machines.emplace_back();
    machine.threads = threads;
    machine.limits = std::make_unique<Limits>(threads);
  }
  for (Case &one : bench.cases)
    if (std::string message = bench.prepare(one); !message.empty())
      return message;
  std::unique_ptr<Evictor> evictor = options.cold ? std::make_unique<Evictor>(bench.file) : nullptr;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    for (Machine &machine : bench.machines)
      machine.measure();
    for (Case &one : bench.cases)
      if (std::string message = bench.run(one, options.seconds, evictor.get()); !message.empty())
        return message;
  }
  // Times of operations come from runs of their own.
  if (options.profile)
    for (Case &one : bench.cases) {
      if (setun_session_profile(one.session.get(), 1) != SETUN_OK)
        return setun_last_error();
      const Spread measured = one.seconds;
      const uint64_t runs = one.runs;
      if (std::string message = bench.run(one, options.seconds, evictor.get()); !message.empty())
        return message;
      one.seconds = measured;
      one.runs = runs;
    }
  if (options.limits && options.json)
    std::printf("{%s}\n", limitsAsJson(bench.machines).c_str());
  else if (options.limits)
    for (const Machine &machine : bench.machines)
      machine.print();
  else if (options.json)
    std::fputs(bench.asJson().c_str(), stdout);
  else
    bench.print();
  return std::string();
}

} // namespace

int main(int argc, char **argv) {
  return setun::tools::runTool<Options>("setun-bench", kHelp, argc, argv, parseArguments, run);
}
