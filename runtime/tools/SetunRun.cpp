//===- SetunRun.cpp - runs an entry of a package from the shell -----------===//
#include "Arguments.h"
#include "Outputs.h"
#include "setun/Handles.h"
#include "setun/setun.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <sys/stat.h>
#include <vector>

using setun::PackagePointer;
using setun::SessionPointer;
using setun::tools::Array;
using setun::tools::CommandLine;
using setun::tools::NamedArray;

namespace {

const char kHelp[] = R"(usage: setun-run MODEL.setun --entry NAME [--input NAME=FILE.npy]... [--output-dir DIR]
       setun-run MODEL.setun [--check] [--list | --json]

Runs one entry of a package on tensors from .npy files.

  --entry NAME         entry point to run
  --input NAME=FILE    tensor for an input, once for each input of the entry
  --output-dir DIR     write each output to DIR/<name>.npy (the folder is made if it is missing)
  --threads N          threads that compute (default: one for each CPU, where that is faster)
  --context N          context capacity of the session in tokens (default: the largest that the model allows)
  --target NAME        use the code section of this name (default: the best that this CPU can run)
  --check              compare the checksum of the weights too
  --list               print entries, tensors and code sections
  --json               print all about the package as JSON
  --version            print the version of the runtime
  --help               print this text

Exit status: 0 if all went well, 1 if the package, the inputs or the run failed, 2 for wrong arguments.
)";

struct Options {
  std::string package, entry, outputDir, target;
  std::vector<std::pair<std::string, std::string>> inputs; // name, file
  uint32_t threads = 0;
  int64_t context = 0;
  bool check = false, list = false, json = false;
};

std::string parseArguments(const std::vector<std::string> &words, Options &options) {
  CommandLine line(options.package);
  line.flag("--check", options.check);
  line.flag("--list", options.list);
  line.flag("--json", options.json);
  line.text("--entry", options.entry);
  line.text("--output-dir", options.outputDir);
  line.text("--target", options.target);
  line.number("--threads", options.threads);
  line.number("--context", options.context);
  line.namedFiles("--input", options.inputs);
  if (std::string message = line.parse(words); !message.empty())
    return message;
  if (options.package.empty())
    return "expects a package";
  if (options.entry.empty() && !options.check && !options.list && !options.json)
    return "expects --entry, --check, --list or --json";
  if (options.entry.empty() && (!options.inputs.empty() || !options.outputDir.empty()))
    return "--input and --output-dir go with --entry";
  return std::string();
}

void printTensors(const setun_package *package, uint32_t entry, setun_role role, uint32_t count, const char *label) {
  for (uint32_t i = 0; i < count; ++i) {
    setun_tensor_info tensor;
    if (setun_package_tensor(package, entry, role, i, &tensor) != SETUN_OK)
      continue;
    std::printf("  %-6s %s: %s [", label, tensor.name, setun_dtype_name(tensor.dtype));
    for (int32_t d = 0; d < tensor.rank; ++d)
      std::printf("%s%s", d ? ", " : "",
                  tensor.symbols[d] ? tensor.symbols[d] : std::to_string(tensor.shape[d]).c_str());
    std::printf("]\n");
  }
}

void printList(const setun_package *package) {
  for (uint32_t i = 0; i < setun_package_num_entries(package); ++i) {
    setun_entry_info entry;
    if (setun_package_entry(package, i, &entry) != SETUN_OK || std::strncmp(entry.name, "__", 2) == 0)
      continue;
    std::printf("entry %s", entry.name);
    if (entry.max_context)
      std::printf(" (context %lld)", static_cast<long long>(entry.max_context));
    std::printf("%s\n", entry.resets_session ? " (empties the session)" : "");
    printTensors(package, i, SETUN_INPUT, entry.num_inputs, "input");
    printTensors(package, i, SETUN_STATE, entry.num_states, "state");
    printTensors(package, i, SETUN_OUTPUT, entry.num_outputs, "output");
  }
  for (uint32_t i = 0; i < setun_package_num_targets(package); ++i) {
    setun_target_info target;
    if (setun_package_target(package, i, &target) != SETUN_OK)
      continue;
    std::printf("target %s (%s, %llu bytes)%s\n", target.name, target.arch,
                static_cast<unsigned long long>(target.bytes),
                target.selected   ? ", used on this machine"
                : target.runnable ? ""
                                  : ", does not run on this machine");
  }
}

/// Reads the inputs of the entry in its order. Returns a message on failure.
std::string readInputs(const setun_package *package, uint32_t entry, const setun_entry_info &info,
                       const Options &options, std::vector<Array> &arrays) {
  std::map<std::string, std::string> files;
  for (const auto &input : options.inputs)
    if (!files.emplace(input.first, input.second).second)
      return "input '" + input.first + "' is given twice";
  for (uint32_t i = 0; i < info.num_inputs; ++i) {
    setun_tensor_info tensor;
    if (setun_package_tensor(package, entry, SETUN_INPUT, i, &tensor) != SETUN_OK)
      return setun_last_error();
    auto file = files.find(tensor.name);
    if (file == files.end())
      return "entry '" + options.entry + "' needs --input " + tensor.name + "=FILE.npy";
    if (auto error = setun::tools::readNpy(file->second, arrays.emplace_back()))
      return *error;
    files.erase(file);
  }
  if (!files.empty())
    return "entry '" + options.entry + "' has no input '" + files.begin()->first + "'";
  return std::string();
}

/// Returns a message on failure.
std::string runEntry(setun_package *package, const Options &options) {
  uint32_t entry = 0;
  setun_entry_info info;
  if (setun_package_find_entry(package, options.entry.c_str(), &entry) != SETUN_OK ||
      setun_package_entry(package, entry, &info) != SETUN_OK)
    return setun_last_error();
  std::vector<Array> inputs;
  std::vector<NamedArray> outputs;
  if (std::string message = readInputs(package, entry, info, options, inputs); !message.empty())
    return message;

  const setun_session_options sessionOptions = {sizeof(sessionOptions), options.threads, options.context};
  setun_session *created = nullptr;
  if (setun_session_create(package, &sessionOptions, &created) != SETUN_OK)
    return setun_last_error();
  SessionPointer session(created);

  std::vector<setun_tensor> inputTensors, outputTensors;
  for (Array &input : inputs)
    inputTensors.push_back(input.tensor());
  if (auto error = setun::tools::makeOutputs(package, session.get(), entry, inputTensors, outputs))
    return *error;
  for (NamedArray &output : outputs) {
    // The name comes from the package and becomes a file name.
    if (output.name == "." || output.name == ".." || output.name.find('/') != std::string::npos)
      return "output '" + output.name + "' has a name that cannot be a file name";
    outputTensors.push_back(output.array.tensor());
  }

  if (setun_session_run(session.get(), entry, inputTensors.data(), info.num_inputs, outputTensors.data(),
                        info.num_outputs) != SETUN_OK)
    return setun_last_error();

  if (options.outputDir.empty())
    return std::string();
  if (::mkdir(options.outputDir.c_str(), 0777) != 0 && errno != EEXIST)
    return "cannot make the folder '" + options.outputDir + "': " + std::strerror(errno);
  for (const NamedArray &output : outputs)
    if (auto error = setun::tools::writeNpy(options.outputDir + "/" + output.name + ".npy", output.array))
      return *error;
  return std::string();
}

std::string run(const Options &options) {
  const setun_open_options openOptions = {
      sizeof(openOptions), options.target.empty() ? nullptr : options.target.c_str(), nullptr, SETUN_WEIGHTS_AUTO};
  setun_package *opened = nullptr;
  if (setun_package_open(options.package.c_str(), &openOptions, &opened) != SETUN_OK)
    return setun_last_error();
  PackagePointer package(opened);
  if (options.check && setun_package_verify(package.get()) != SETUN_OK)
    return setun_last_error();
  if (options.json)
    std::printf("%s\n", setun_package_json(package.get()));
  else if (options.list)
    printList(package.get());
  return options.entry.empty() ? std::string() : runEntry(package.get(), options);
}

} // namespace

int main(int argc, char **argv) {
  return setun::tools::runTool<Options>("setun-run", kHelp, argc, argv, parseArguments, run);
}
