//===- Interpret.cpp - command line of the reference interpreter -----------------===//
#include "lib/Reference/Interpret.h"

#include "lib/Reference/Interpreter.h"
#include "lib/Weights/WeightSource.h"
#include "runtime/tools/Npy.h"

#include "dialects/BitNet/BitNet.h"

#include "mlir/IR/AsmState.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/WithColor.h"

#include <cstring>

using namespace mlir;
using namespace setun;
using namespace setun::reference;

namespace {
struct CommandLine {
  std::string file, entry, outputDir;
  /// Name and path; inputs and states alike.
  std::vector<std::pair<std::string, std::string>> inputs;
  std::vector<std::string> weights;
  Options options;
};
} // namespace

static int report(const llvm::Twine &message) {
  llvm::WithColor::error(llvm::errs(), "setun-opt --interpret") << message << '\n';
  return 1;
}

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

static const char usage[] =
    R"(usage: setun-opt --interpret MODULE.mlir [--entry NAME] [--input NAME=FILE.npy]... [--output-dir DIR]

Evaluates a function of a module operation by operation; the module is not compiled.

  --entry NAME         function to run (default: @forward, else every public function without arguments)
  --input NAME=FILE    tensor for an input, once for each input
  --state NAME=FILE    tensor for a state (default: zeros)
  --position N         tokens that the states hold (default: 0)
  --context N          context capacity, the size of the states (default: bitnet.max_context, else what is needed)
  --weights FILE       .safetensors file with the module's weights; may be repeated
  --output-dir DIR     write each result to DIR/<name>.npy (default: print them)
  --probe              adds activation codes and accumulators of every bitnet.linear to the results
)";

static llvm::Error parse(int argc, char **argv, CommandLine &line) {
  for (int i = 1; i < argc; ++i) {
    StringRef arg = argv[i], value;
    bool attached = false;
    if (!arg.starts_with("-") || arg == "-") {
      if (!line.file.empty())
        return fail("expects one module, got '" + line.file + "' and '" + arg + "'");
      line.file = arg.str();
      continue;
    }
    arg = arg.drop_while([](char c) { return c == '-'; });
    if (arg == "interpret")
      continue;
    if (arg == "probe") {
      line.options.probe = true;
      continue;
    }
    // --flag value and --flag=value; a value of --input and --state has an equal sign of its own.
    for (StringRef flag : {"entry", "input", "state", "position", "context", "weights", "output-dir"})
      if (arg.starts_with((flag + "=").str())) {
        value = arg.drop_front(flag.size() + 1);
        arg = flag;
        attached = true;
        break;
      }
    if (!attached) {
      if (!llvm::is_contained({"entry", "input", "state", "position", "context", "weights", "output-dir"}, arg))
        return fail("does not know the option '" + llvm::Twine(argv[i]) +
                    "'; it knows --entry, --input, --state, --position, --context, --weights, --output-dir, --probe");
      if (++i == argc)
        return fail("expects a value after --" + arg);
      value = argv[i];
    }
    if (arg == "entry") {
      line.entry = value.str();
    } else if (arg == "weights") {
      line.weights.push_back(value.str());
    } else if (arg == "output-dir") {
      line.outputDir = value.str();
    } else if (arg == "input" || arg == "state") {
      auto [name, path] = value.split('=');
      if (name.empty() || path.empty())
        return fail("expects --" + arg + " NAME=FILE.npy, got '" + value + "'");
      line.inputs.push_back({name.str(), path.str()});
    } else {
      int64_t number;
      if (value.getAsInteger(10, number) || number < 0)
        return fail("expects a whole number for --" + arg + ", got '" + value + "'");
      if (arg == "position")
        line.options.position = number;
      else
        line.options.context = number;
    }
  }
  if (line.file.empty())
    return fail("expects the name of a module, or - for standard input");
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// Tensors in files
//===----------------------------------------------------------------------===//

static Type typeOf(setun_dtype dtype, MLIRContext *context) {
  switch (dtype) {
  case SETUN_BOOL:
    return IntegerType::get(context, 1);
  case SETUN_I8:
    return IntegerType::get(context, 8);
  case SETUN_I16:
    return IntegerType::get(context, 16);
  case SETUN_I32:
    return IntegerType::get(context, 32);
  case SETUN_I64:
    return IntegerType::get(context, 64);
  case SETUN_F16:
    return Float16Type::get(context);
  case SETUN_BF16:
    return BFloat16Type::get(context);
  case SETUN_F32:
    return Float32Type::get(context);
  case SETUN_F64:
    return Float64Type::get(context);
  default:
    return Type();
  }
}

static llvm::Expected<NamedTensor> readTensor(const std::string &name, const std::string &path, MLIRContext *context) {
  tools::Array array;
  if (std::optional<std::string> error = tools::readNpy(path, array))
    return fail(*error);
  Type type = typeOf(array.dtype, context);
  if (!type)
    return fail("'" + path + "' has an element type that the IR does not have");
  Tensor tensor(type, array.shape);
  std::memcpy(tensor.mutableData<uint8_t>(), array.data.data(), array.data.size());
  return NamedTensor{name, tensor};
}

/// i2 is written as i8, index as i64.
static llvm::Error writeTensor(const NamedTensor &result, StringRef directory) {
  const Tensor &tensor = result.value;
  Type type = tensor.elementType();
  std::optional<setun_dtype> dtype;
  for (setun_dtype candidate :
       {SETUN_BOOL, SETUN_I8, SETUN_I16, SETUN_I32, SETUN_I64, SETUN_F16, SETUN_BF16, SETUN_F32, SETUN_F64})
    if (typeOf(candidate, type.getContext()) == type)
      dtype = candidate;
  if (!dtype)
    dtype = type.isIndex() ? SETUN_I64 : SETUN_I8;
  tools::Array array;
  array.dtype = *dtype;
  array.shape.assign(tensor.shape().begin(), tensor.shape().end());
  array.data.assign(tensor.data<uint8_t>(), tensor.data<uint8_t>() + tensor.byteSize());
  SmallString<128> path(directory);
  // Names of states and layers have dots; a slash would leave the directory.
  std::string file = result.name + ".npy";
  std::replace(file.begin(), file.end(), '/', '_');
  llvm::sys::path::append(path, file);
  if (std::optional<std::string> error = tools::writeNpy(path.str().str(), array))
    return fail(*error);
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// Main
//===----------------------------------------------------------------------===//

/// What to run: the named entry, @forward, or all public functions without arguments.
static std::vector<std::string> entriesOf(ModuleOp module, const CommandLine &line) {
  if (!line.entry.empty())
    return {line.entry};
  if (module.lookupSymbol<func::FuncOp>("forward"))
    return {"forward"};
  std::vector<std::string> names;
  for (auto fn : module.getOps<func::FuncOp>())
    if (fn.isPublic() && fn.getNumArguments() == 0 && !fn.isExternal())
      names.push_back(fn.getName().str());
  return names;
}

static llvm::Error run(CommandLine &line, ModuleOp module) {
  std::vector<NamedTensor> inputs;
  for (auto &[name, path] : line.inputs) {
    llvm::Expected<NamedTensor> input = readTensor(name, path, module.getContext());
    if (!input)
      return input.takeError();
    inputs.push_back(std::move(*input));
  }
  std::unique_ptr<WeightSource> weights;
  if (!line.weights.empty()) {
    auto opened = WeightSource::open(line.weights);
    if (!opened)
      return opened.takeError();
    weights = std::move(*opened);
    line.options.weights = weights.get();
  }
  std::vector<std::string> entries = entriesOf(module, line);
  if (entries.empty())
    return fail("the module has neither @forward nor a public function without arguments; name one with --entry");
  if (!line.outputDir.empty())
    if (std::error_code code = llvm::sys::fs::create_directories(line.outputDir))
      return fail("cannot create '" + line.outputDir + "': " + code.message());
  for (const std::string &entry : entries) {
    auto results = interpret(module, entry, inputs, line.options);
    if (!results)
      return results.takeError();
    if (line.outputDir.empty() && line.entry.empty())
      llvm::outs() << '@' << entry << '\n';
    for (const NamedTensor &result : *results) {
      if (line.outputDir.empty())
        llvm::outs() << result.name << " : " << result.value.typeString() << " = " << result.value.valueString()
                     << '\n';
      else if (llvm::Error error = writeTensor(result, line.outputDir))
        return error;
    }
  }
  return llvm::Error::success();
}

int setun::interpretMain(int argc, char **argv, DialectRegistry &registry) {
  for (int i = 1; i < argc; ++i)
    if (StringRef(argv[i]) == "--help" || StringRef(argv[i]) == "-h") {
      llvm::outs() << usage;
      return 0;
    }
  CommandLine line;
  if (llvm::Error error = parse(argc, argv, line))
    return report(llvm::toString(std::move(error)));
  registry.insert<func::FuncDialect>();
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.printOpOnDiagnostic(false); // whole functions help nobody; messages show the source line
  llvm::SourceMgr sources;
  SourceMgrDiagnosticHandler diagnostics(sources, &context);
  ParserConfig config(&context);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(line.file, sources, config);
  if (!module)
    return 1;
  if (llvm::Error error = run(line, *module))
    return report(llvm::toString(std::move(error)));
  return 0;
}
