//===- Compiler.cpp - the compiler as a function ----------------------------------===//
//
// Reads a module, and for each target takes it through the pipelines, LLVM and the linker. Weights are packed for the
// first target and go straight into the package file; later targets find them there.
//
//===----------------------------------------------------------------------===//
#include "setun/Compiler.h"

#include "lib/Driver/Contents.h"
#include "lib/Driver/Diagnostics.h"
#include "lib/Driver/SelfTests.h"
#include "lib/Driver/Stages.h"
#include "lib/Target/CostModel.h"
#include "lib/Target/MatrixKernels.h"
#include "lib/Target/Targets.h"
#include "lib/Translation/CodeGenerator.h"
#include "lib/Translation/Link.h"
#include "lib/Weights/WeightSource.h"
#include "passes/Dialects.h"
#include "passes/EntryInfo.h"
#include "passes/Passes.h"
#include "passes/Pipelines/Pipelines.h"
#include "setun/Package.h"
#include "setun/setun.h"

#include "dialects/BitNet/BitNet.h"
#include "dialects/Ternary/Ternary.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <map>
#include <set>

using namespace mlir;
using namespace setun;

namespace {

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// Where packed weights go: into the package, or, where only a stage is looked at, nowhere.
class OutputStore : public WeightStore {
public:
  OutputStore(package::Writer *writer, DiagnosticLog &log, Stages &stages, const CompileOptions &options)
      : writer(writer), log(log), stages(stages), options(options) {}

  llvm::Expected<uint64_t> reserve(uint64_t size) override {
    uint64_t offset = package::weightsOffset(end, size);
    if (writer) {
      if (package::Error error = writer->reserveWeights(size, offset))
        return llvm::createStringError(*error);
    }
    end = offset + size;
    return offset;
  }

  llvm::Error write(uint64_t offset, const void *data, uint64_t size) override {
    if (options.cancelled && options.cancelled())
      return llvm::createStringError("cancelled");
    if (writer)
      if (package::Error error = writer->writeWeights(offset, data, size))
        return llvm::createStringError(*error);
    written += size;
    if (expected)
      stages.progress(static_cast<double>(written) / static_cast<double>(expected));
    return llvm::Error::success();
  }

  void warn(StringRef message) override { log.warning(message); }

  /// Bytes that will be written, as far as known.
  uint64_t expected = 0;

private:
  package::Writer *writer;
  DiagnosticLog &log;
  Stages &stages;
  const CompileOptions &options;
  uint64_t end = 0, written = 0;
};

//===----------------------------------------------------------------------===//
// One compilation
//===----------------------------------------------------------------------===//

class Compilation {
public:
  Compilation(const CompileInput &input, const CompileOptions &options, const std::string &outputPath,
              CompileResult &result)
      : input(input), options(options), outputPath(outputPath), result(result), stages(options, result),
        log(options, result) {}

  bool run();

private:
  bool checkOptions();
  bool readKernels();
  bool checkKernels(ModuleOp module, const TargetSpec &target);
  void listKernels(ModuleOp module, const TargetSpec &target);
  void printKernels();
  bool parse(MLIRContext &context);
  bool checkEntries();
  bool openWeights();
  bool openPackage();
  bool quantizeHead();
  bool raiseLayers();
  bool makeSelfTests();
  bool compileFor(const TargetSpec &target);
  bool describe(ModuleOp module, const TargetSpec &target, std::vector<std::string> &symbols);
  bool runPasses(ModuleOp module, const TargetSpec &target, StringRef pipeline, StringRef stage,
                 llvm::function_ref<void(OpPassManager &, const CpuPipelineOptions &)> build);
  bool finishPackage();
  bool writeText();

  bool fail(const Twine &message) {
    log.error(message);
    return false;
  }
  bool fail(llvm::Error error) { return fail(llvm::toString(std::move(error))); }
  /// What the pipelines are told of the layout.
  std::string format() const {
    if (options.format == "auto" && targets.size() > 1)
      return "r16k4f4";
    return options.format == "best" ? "auto" : options.format;
  }
  /// Those of the kernel file that are for a target, as the pipelines take them.
  std::vector<std::string> kernelsOf(const TargetSpec &target) const {
    std::vector<std::string> chosen;
    for (const MatrixKernel &kernel : kernels)
      if (kernel.target.empty() || kernel.target == target.name)
        chosen.push_back(toString(kernel));
    return chosen;
  }
  bool cancelled() { return options.cancelled && options.cancelled() && !fail("cancelled"); }
  /// Appends an operation to the output text.
  void print(ModuleOp module);
  /// Starts the text of one target, where there are several.
  void header(const TargetSpec &target, StringRef comment);
  std::string reproducer(const TargetSpec &target, StringRef pipeline) const;

  const CompileInput &input;
  const CompileOptions &options;
  const std::string outputPath;
  CompileResult &result;
  Stages stages;
  DiagnosticLog log;

  std::vector<TargetSpec> targets;
  std::vector<MatrixKernel> kernels; // of the kernel file
  llvm::json::Array listed;          // for EmitStage::Kernels
  OwningOpRef<ModuleOp> module;
  std::unique_ptr<WeightSource> weights;
  std::shared_ptr<OutputStore> store;
  std::unique_ptr<package::Writer> writer;
  package::Manifest manifest;
  LayerTable layers;
  std::string text;
};

bool Compilation::checkOptions() {
  std::string list;
  for (const std::string &target : options.targets)
    list += (list.empty() ? "" : ",") + target;
  auto parsed = parseTargets(list);
  if (!parsed)
    return fail(parsed.takeError());
  targets = std::move(*parsed);

  if (!options.forceKernel.empty()) {
    const KernelRow *row = findKernelRow(options.forceKernel);
    if (!row) {
      std::string names;
      for (const KernelRow &known : kernelRows())
        names += (names.empty() ? "" : ", ") + known.name.str();
      return fail("unknown kernel '" + options.forceKernel + "', expects one of " + names);
    }
    for (const TargetSpec &target : targets)
      if (!row->arch.empty() && row->arch != target.arch)
        return fail("kernel '" + options.forceKernel + "' is for " + row->arch + ", and target '" + target.name +
                    "' for " + target.arch);
      else if (options.emulate && row->isScalable() && !row->supportedBy(target.enabled))
        return fail("kernel '" + options.forceKernel +
                    "' has vectors of any length, which cannot be emulated on target '" + target.name + "'");
      else if (!options.emulate && !row->supportedBy(target.enabled))
        return fail("kernel '" + options.forceKernel + "' needs " + row->features + ", which target '" + target.name +
                    "' does not have");
  }
  if (options.emulate && options.forceKernel.empty())
    return fail("to emulate instructions expects the kernel whose they are (--force-kernel)");
  if (options.format != "auto" && options.format != "best" && !findTernaryLayout(options.format))
    return fail("unknown format '" + options.format + "', expects auto, best, " + ternaryLayoutNames());
  if (!options.head.empty() && !isHead(options.head))
    return fail("unknown head '" + options.head + "', expects certified, exact or int8");
  if (options.emit == EmitStage::Object && targets.size() > 1)
    return fail("object code expects one target, got " + Twine(targets.size()) + " (" + list + ")");
  if (options.emit == EmitStage::Package && outputPath.empty())
    return fail("a package expects an output path");
  return options.kernelFile.empty() || readKernels();
}

bool Compilation::readKernels() {
  auto file = llvm::MemoryBuffer::getFile(options.kernelFile);
  if (!file)
    return fail("cannot read '" + options.kernelFile + "': " + file.getError().message());
  auto read = readMatrixKernels((*file)->getBuffer());
  if (!read)
    return fail(options.kernelFile + ": " + llvm::toString(read.takeError()));
  kernels = std::move(*read);
  std::string names;
  for (const TargetSpec &target : targets)
    names += (names.empty() ? "" : ", ") + target.name;
  for (const MatrixKernel &kernel : kernels) {
    bool used = false;
    for (const TargetSpec &target : targets) {
      if (!kernel.target.empty() && kernel.target != target.name)
        continue;
      used = true;
      if (!kernel.row->supportedBy(target.enabled))
        return fail(options.kernelFile + ": " + toString(kernel) + ": the kernel needs " + kernel.row->features +
                    ", which target '" + target.name + "' does not have");
    }
    if (!used)
      return fail(options.kernelFile + ": " + toString(kernel) + " is for target '" + kernel.target +
                  "', this compiles for " + names);
  }
  return true;
}

bool Compilation::parse(MLIRContext &context) {
  auto stage = stages.start("parse");
  auto sources = std::make_shared<llvm::SourceMgr>();
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  if (input.isText) {
    buffer = llvm::MemoryBuffer::getMemBufferCopy(input.text, input.path);
  } else {
    auto file = llvm::MemoryBuffer::getFile(input.path);
    if (!file)
      return fail("cannot read '" + input.path + "': " + file.getError().message());
    buffer = std::move(*file);
  }
  log.setSource(input.path, buffer->getBuffer());
  sources->AddNewSourceBuffer(std::move(buffer), llvm::SMLoc());
  log.keepAlive(sources);
  module = parseSourceFile<ModuleOp>(sources, ParserConfig(&context));
  return module ? true : log.hasErrors() ? false : fail("'" + input.path + "' cannot be parsed");
}

/// The tensors that a module names must be there, all of them, before anything is made.
bool Compilation::openWeights() {
  auto opened = WeightSource::open(options.weightFiles);
  if (!opened)
    return fail(opened.takeError());
  weights = std::move(*opened);
  llvm::StringSet<> missing;
  module->walk([&](bitnet::WeightOp op) {
    if (weights->contains(op.getName()) || !missing.insert(op.getName()).second)
      return;
    auto info = weights->lookup(op.getName());
    op.emitError() << (options.weightFiles.empty() ? "no weight files are given; " : "")
                   << llvm::toString(info.takeError());
  });
  return missing.empty();
}

bool Compilation::checkEntries() {
  bool found = false;
  for (auto func : module->getOps<func::FuncOp>())
    found |= isEntry(func);
  if (!found)
    module->emitError() << "expects an entry point: a public func.func with the attribute " << bitnet::kEntryAttr;
  return found;
}

bool Compilation::openPackage() {
  writer = std::make_unique<package::Writer>();
  if (package::Error error = writer->open(outputPath))
    return fail(*error);
  for (const auto &[name, path] : options.packageFiles) {
    auto file = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!file)
      return fail("cannot read '" + path + "': " + file.getError().message());
    StringRef bytes = (*file)->getBuffer();
    if (package::Error error = writer->addFile({name, std::vector<uint8_t>(bytes.bytes_begin(), bytes.bytes_end())}))
      return fail(*error);
  }
  return true;
}

/// Before self-tests are made, so that they test what the head becomes.
bool Compilation::quantizeHead() {
  auto stage = stages.start("quantize head");
  PassManager passes(module->getContext(), ModuleOp::getOperationName());
  buildQuantizeHeadPipeline(passes);
  return succeeded(passes.run(*module)) || fail("the head cannot be quantised");
}

/// Before self-tests are made, which are for the layers that the module has then. Pipelines would do the same.
bool Compilation::raiseLayers() {
  auto stage = stages.start("raise");
  CpuPipelineOptions pipelineOptions;
  pipelineOptions.head = options.head;
  pipelineOptions.store = store;
  PassManager passes(module->getContext(), ModuleOp::getOperationName());
  buildRaiseLinearPipeline(passes, pipelineOptions);
  return succeeded(passes.run(*module)) || fail("layers that are written out as arithmetic cannot be raised");
}

bool Compilation::makeSelfTests() {
  auto stage = stages.start("self-test");
  auto tests = addSelfTests(*module);
  if (!tests)
    return fail(tests.takeError());
  manifest.selfTests = std::move(*tests);
  return true;
}

//===----------------------------------------------------------------------===//
// Pipelines
//===----------------------------------------------------------------------===//

std::string Compilation::reproducer(const TargetSpec &target, StringRef pipeline) const {
  std::string flags = "features=" + llvm::join(target.required, ",") + " cpu=" + target.cpu + " format=" + format();
  if (options.runThreads)
    flags += " threads=" + std::to_string(options.runThreads);
  if (!options.forceKernel.empty())
    flags += " row=" + options.forceKernel;
  if (!options.head.empty())
    flags += " head=" + options.head;
  if (options.emulate)
    flags += " emulate=true";
  if (std::vector<std::string> chosen = kernelsOf(target); !chosen.empty())
    flags += " kernels=" + llvm::join(chosen, ",");
  if (options.probe)
    flags += " probe=true";
  std::string line = "setun-opt --" + pipeline.str() + "=\"" + flags + "\" " + input.path;
  return line;
}

bool Compilation::runPasses(ModuleOp clone, const TargetSpec &target, StringRef pipeline, StringRef stage,
                            llvm::function_ref<void(OpPassManager &, const CpuPipelineOptions &)> build) {
  CpuPipelineOptions pipelineOptions;
  for (StringRef feature : target.enabled.keys())
    pipelineOptions.features.insert(feature);
  pipelineOptions.forceKernel = options.forceKernel;
  pipelineOptions.emulate = options.emulate;
  pipelineOptions.cpu = target.cpu;
  pipelineOptions.runThreads = options.runThreads;
  pipelineOptions.format = format();
  pipelineOptions.head = options.head;
  pipelineOptions.kernels = kernelsOf(target);
  pipelineOptions.probe = options.probe;
  pipelineOptions.store = store;

  PassManager passes(clone.getContext(), ModuleOp::getOperationName());
  auto watch = std::make_unique<PassWatch>(stages);
  PassWatch &seen = *watch;
  passes.addInstrumentation(std::move(watch));
  build(passes, pipelineOptions);
  auto running = stages.start(stage, target.name);
  if (succeeded(passes.run(clone)))
    return true;
  std::string failed = seen.failedPass.empty() ? pipeline.str() : "pass " + seen.failedPass;
  log.failure(failed + " failed for target '" + target.name + "'", "to reproduce: " + reproducer(target, pipeline));
  return false;
}

bool Compilation::describe(ModuleOp clone, const TargetSpec &target, std::vector<std::string> &symbols) {
  std::vector<package::EntryDesc> entries;
  for (auto func : clone.getOps<func::FuncOp>()) {
    if (!isEntry(func))
      continue;
    FailureOr<package::EntryDesc> entry = describeEntry(func);
    if (failed(entry))
      return false;
    symbols.push_back(entrySymbol(entry->name));
    symbols.push_back(workspaceSymbol(entry->name));
    entries.push_back(std::move(*entry));
  }
  layers.add(clone, target, options.runThreads, kernels);
  if (manifest.entries.empty())
    manifest.entries = std::move(entries);
  else if (manifest.entries.size() != entries.size())
    return fail("target '" + target.name + "' has " + Twine(entries.size()) + " entry points, expected " +
                Twine(manifest.entries.size()));
  return true;
}

void Compilation::print(ModuleOp shown) {
  llvm::raw_string_ostream stream(text);
  shown->print(stream, OpPrintingFlags().enableDebugInfo(false));
  stream << "\n";
}

void Compilation::header(const TargetSpec &target, StringRef comment) {
  text += (comment + " target: " + target.name + "\n").str();
}

bool Compilation::compileFor(const TargetSpec &target) {
  if (cancelled())
    return false;
  OwningOpRef<ModuleOp> clone(module->clone());
  if (!runPasses(*clone, target, "bitnet-to-ternary-pipeline", "convert", buildBitnetToTernaryPipeline))
    return false;
  if (!checkKernels(*clone, target))
    return false;
  if (options.emit == EmitStage::Kernels) {
    listKernels(*clone, target);
    return true;
  }
  if (options.emit == EmitStage::Ternary) {
    header(target, "//");
    print(*clone);
    return true;
  }
  std::vector<std::string> symbols;
  if (!describe(*clone, target, symbols))
    return false;
  store->expected = layers.bytes();
  if (!runPasses(*clone, target, "setun-cpu-pipeline", "lower", buildTernaryToLlvmPipeline))
    return false;
  if (options.emit == EmitStage::LlvmDialect) {
    header(target, "//");
    print(*clone);
    return true;
  }

  std::vector<package::CodeEntry> entries(symbols.size() / 2);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].operations = takeOperations(*clone, symbols[2 * i]);
    entries[i].conditions = takeConditions(*clone, symbols[2 * i + 1]);
  }

  auto generator = CodeGenerator::create(target);
  if (!generator)
    return fail(generator.takeError());
  std::unique_ptr<llvm::Module> code;
  {
    auto stage = stages.start("translate", target.name);
    code = (*generator)->translate(*clone, symbols);
  }
  if (!code)
    return log.hasErrors() ? false : fail("the module cannot be translated to LLVM IR");
  clone = nullptr;
  if (options.emit == EmitStage::Llvm) {
    header(target, ";");
    llvm::raw_string_ostream stream(text);
    code->print(stream, nullptr);
    return true;
  }
  if (cancelled())
    return false;
  {
    auto stage = stages.start("optimise", target.name);
    (*generator)->optimise(*code);
  }
  if (cancelled())
    return false;
  SmallVector<char, 0> object;
  {
    auto stage = stages.start("emit", target.name);
    auto kind = options.emit == EmitStage::Asm ? CodeGenerator::Output::Assembly : CodeGenerator::Output::Object;
    if (llvm::Error error = (*generator)->emit(*code, kind, object))
      return fail(std::move(error));
  }
  code.reset();
  if (options.emit != EmitStage::Package) {
    if (options.emit == EmitStage::Asm)
      header(target, "#");
    text.append(object.begin(), object.end());
    return true;
  }

  auto stage = stages.start("link", target.name);
  package::CodeSection section;
  section.target = target.name;
  section.features = target.required;
  auto image = linkImage(object);
  if (!image)
    return fail("target '" + target.name + "': " + llvm::toString(image.takeError()));
  section.image = std::move(*image);
  auto addresses = functionAddresses(section.image, symbols);
  if (!addresses)
    return fail(addresses.takeError());
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].entryOffset = (*addresses)[2 * i];
    entries[i].workspaceOffset = (*addresses)[2 * i + 1];
  }
  section.entries = std::move(entries);
  result.sections.push_back({section.target, section.features, section.image.size()});
  if (package::Error error = writer->addCode(std::move(section)))
    return fail(*error);
  return true;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// Calls back for each matmul of codes outside of self-tests that has a choice of kernels: 8-bit weights have none.
static void forEachMatmul(ModuleOp module, llvm::function_ref<void(ternary::MatmulOp)> visit) {
  for (auto func : module.getOps<func::FuncOp>())
    if (!func.getName().starts_with("__"))
      func.walk([&](ternary::MatmulOp op) {
        if (op.getSums() && !op.getLayout().isBytes())
          visit(op);
      });
}

/// Every kernel given must have found its matrix: a mistyped one would go unnoticed.
bool Compilation::checkKernels(ModuleOp clone, const TargetSpec &target) {
  if (kernels.empty())
    return true;
  std::set<MatrixShape> shapes;
  forEachMatmul(clone, [&](ternary::MatmulOp op) { shapes.insert(matrixShape(op)); });
  for (const MatrixKernel &kernel : kernels) {
    if ((!kernel.target.empty() && kernel.target != target.name) || shapes.count(kernel.shape))
      continue;
    std::string names;
    for (const MatrixShape &shape : shapes)
      names += (names.empty() ? "" : ", ") + toString(shape);
    return fail(options.kernelFile + ": " + toString(kernel.shape) + " is no matrix of the module, which has " +
                (names.empty() ? "none" : names));
  }
  return true;
}

void Compilation::listKernels(ModuleOp clone, const TargetSpec &target) {
  // Entries run the same matrices again.
  std::map<MatrixShape, std::vector<ternary::MatmulOp>> matrices;
  forEachMatmul(clone, [&](ternary::MatmulOp op) { matrices[matrixShape(op)].push_back(op); });
  for (auto &[shape, ops] : matrices) {
    llvm::DenseSet<Operation *> distinct;
    for (ternary::MatmulOp op : ops)
      distinct.insert(op->getParentOfType<func::FuncOp>());
    ternary::MatmulOp op = ops.front();
    CostQuery query;
    query.features = target.enabled;
    query.cpu = target.cpu;
    query.threads = options.runThreads;
    query.binary = shape.binary;
    query.rows = shape.rows;
    query.columns = shape.cols;
    query.stages = shape.group == 0;
    query.row = findKernelRow(options.forceKernel);
    if (std::optional<packing::WeightKind> kind = findTernaryLayout(format()); kind && !shape.binary)
      query.kinds = {*kind};
    auto describe = [](StringRef row, StringRef layout, int64_t tokens, int64_t staged) {
      return llvm::json::Object{{"row", row}, {"format", layout}, {"tokens", tokens}, {"staged", staged}};
    };
    llvm::json::Array candidates;
    for (const KernelChoice &choice : measurableKernels(query)) {
      llvm::json::Object candidate =
          describe(choice.row->name, packing::layoutName(choice.kind), choice.tokens, choice.staged);
      candidate["predicted_decode"] = std::llround(choice.decode * 1000);
      candidate["predicted_prefill"] = std::llround(choice.prefill * 1000);
      candidates.push_back(std::move(candidate));
    }
    ternary::KernelAttr kernel = op.getKernel().value_or(nullptr);
    llvm::json::Object matrix{{"target", target.name},
                              {"rows", shape.rows},
                              {"cols", shape.cols},
                              {"binary", shape.binary},
                              {"gated", shape.gated},
                              {"group", shape.group},
                              {"matrices", static_cast<int64_t>(ops.size() / distinct.size())},
                              {"candidates", std::move(candidates)}};
    if (kernel)
      matrix["chosen"] = describe(kernel.getRow(), ternary::stringifyPacking(op.getLayout().getPacking()),
                                  kernel.getTokens(), kernel.getStaged());
    listed.push_back(std::move(matrix));
  }
}

/// One candidate a line: people read this too.
void Compilation::printKernels() {
  llvm::raw_string_ostream stream(text);
  stream << "[";
  for (size_t i = 0; i < listed.size(); ++i) {
    llvm::json::Object matrix = *listed[i].getAsObject();
    llvm::json::Array candidates = *matrix.getArray("candidates");
    matrix.erase("candidates");
    std::string head;
    llvm::raw_string_ostream(head) << llvm::json::Value(std::move(matrix));
    head.pop_back();
    stream << (i ? ",\n " : "\n ") << head << ",\n  \"candidates\": [";
    for (size_t c = 0; c < candidates.size(); ++c)
      stream << (c ? ",\n   " : "\n   ") << candidates[c];
    stream << "]}";
  }
  stream << (listed.empty() ? "]\n" : "\n]\n");
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

/// What passes had to say about the module, one line each.
static std::string notesOf(ArrayRef<setun::Diagnostic> diagnostics) {
  std::vector<std::string> lines;
  for (const setun::Diagnostic &diagnostic : diagnostics) {
    std::string place = diagnostic.location.empty() ? std::string() : diagnostic.location + ": ";
    std::string line = place + diagnostic.message;
    if (diagnostic.severity == Severity::Remark)
      lines.push_back(std::move(line));
  }
  return llvm::join(lines, "\n");
}

bool Compilation::finishPackage() {
  auto stage = stages.start("write");
  manifest.layers = layers.layers();
  if (auto provenance = (*module)->getAttrOfType<DictionaryAttr>(bitnet::kProvenanceAttr))
    for (NamedAttribute item : provenance)
      if (auto value = dyn_cast<StringAttr>(item.getValue()))
        manifest.provenance[item.getName().str()] = value.getValue().str();
  std::vector<std::string> names;
  for (const TargetSpec &target : targets)
    names.push_back(target.name);
  manifest.provenance["compiler"] = std::string("setun ") + setun_version();
  manifest.provenance["compiler.llvm"] = LLVM_VERSION_STRING;
  manifest.provenance["compiler.targets"] = llvm::join(names, ",");
  if (options.probe)
    manifest.provenance["compiler.probe"] = "true";
  if (!options.forceKernel.empty())
    manifest.provenance["compiler.force-kernel"] = options.forceKernel;
  if (options.emulate)
    manifest.provenance["compiler.emulate"] = "true";
  manifest.provenance["compiler.format"] = options.format;
  manifest.provenance["compiler.head"] = options.head.empty() ? "certified" : options.head;
  if (!kernels.empty()) {
    const bool measured = llvm::any_of(kernels, [](const MatrixKernel &kernel) { return kernel.measuredDecode != 0; });
    manifest.provenance["compiler.kernels"] =
        std::to_string(kernels.size()) + (measured ? " chosen by measurement" : " given");
  }
  if (options.runThreads)
    manifest.provenance["compiler.run-threads"] = std::to_string(options.runThreads);
  if (std::string notes = notesOf(result.diagnostics); !notes.empty())
    manifest.provenance["compiler.notes"] = std::move(notes);
  for (const std::string &path : options.weightFiles) {
    auto described = describeWeightFile(path);
    if (!described)
      return fail(described.takeError());
    manifest.provenance["weights." + llvm::sys::path::filename(path).str()] = *described;
  }
  result.weightBytes = writer->weightsSize();
  if (package::Error error = writer->finish(manifest))
    return fail(*error);
  uint64_t size = 0;
  if (!llvm::sys::fs::file_size(outputPath, size))
    result.outputBytes = size;
  return true;
}

/// Writes a file, which appears whole or not at all; what exists and is no regular file (a device, a pipe) is written
/// into, for a temporary file would take its place.
static llvm::Error writeWhole(StringRef path, StringRef text) {
  std::error_code code;
  auto write = [&](llvm::raw_fd_ostream &stream) {
    stream << text;
    stream.flush();
    code = stream.error();
    stream.clear_error(); // reported here; a stream that goes with an error ends the process
    return llvm::errorCodeToError(code);
  };
  llvm::sys::fs::file_status status;
  if (llvm::sys::fs::status(path, status) || llvm::sys::fs::is_regular_file(status)) {
    auto file = llvm::sys::fs::TempFile::create(path + ".%%%%%%");
    if (!file)
      return file.takeError();
    llvm::raw_fd_ostream stream(file->FD, /*shouldClose=*/false);
    if (llvm::Error error = write(stream))
      return llvm::joinErrors(std::move(error), file->discard());
    return file->keep(path);
  }
  llvm::raw_fd_ostream stream(path, code);
  return code ? llvm::errorCodeToError(code) : write(stream);
}

bool Compilation::writeText() {
  if (outputPath.empty()) {
    result.text = std::move(text);
    return true;
  }
  auto stage = stages.start("write");
  llvm::Error error = writeWhole(outputPath, text);
  if (error)
    return fail("cannot write '" + outputPath + "': " + llvm::toString(std::move(error)));
  result.outputBytes = text.size();
  return true;
}

bool Compilation::run() {
  if (!checkOptions())
    return false;
  DialectRegistry registry;
  registerDialects(registry);
  registerTranslations(registry);
  std::unique_ptr<llvm::DefaultThreadPool> pool;
  MLIRContext context(registry,
                      options.threads == 0 ? MLIRContext::Threading::ENABLED : MLIRContext::Threading::DISABLED);
  if (options.threads > 1) {
    pool = std::make_unique<llvm::DefaultThreadPool>(llvm::hardware_concurrency(options.threads));
    context.setThreadPool(*pool);
  }
  // The context's operations must be gone before it is.
  llvm::scope_exit clean([&] { module = nullptr; });
  context.printOpOnDiagnostic(false); // whole functions help nobody; messages show the source line
  ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    log.add(diagnostic);
    return success();
  });

  if (!parse(context))
    return false;
  if (options.head == "int8" && !quantizeHead())
    return false;
  if (options.emit == EmitStage::Bitnet) {
    print(*module);
    return writeText();
  }
  // Without weights those stages show what does not depend on their values.
  bool needsWeights =
      (options.emit != EmitStage::Ternary && options.emit != EmitStage::Kernels) || !options.weightFiles.empty();
  bool package = options.emit == EmitStage::Package;
  if (!checkEntries() || (needsWeights && !openWeights()) || (package && !openPackage()))
    return false;
  store = std::make_shared<OutputStore>(writer.get(), log, stages, options);
  store->source = weights.get();
  if (package && options.selfTest && !options.probe && (!raiseLayers() || !makeSelfTests()))
    return false;
  for (const TargetSpec &target : targets)
    if (!compileFor(target))
      return false;
  if (options.emit == EmitStage::Kernels)
    printKernels();
  return package ? finishPackage() : writeText();
}

} // namespace

//===----------------------------------------------------------------------===//
// Interface
//===----------------------------------------------------------------------===//

CompileResult setun::compile(const CompileInput &input, const CompileOptions &options, const std::string &outputPath) {
  CompileResult result;
  result.ok = Compilation(input, options, outputPath, result).run();
  return result;
}

const std::vector<std::pair<std::string, EmitStage>> &setun::emitStages() {
  static const std::vector<std::pair<std::string, EmitStage>> stages = {
      {"bitnet", EmitStage::Bitnet},   {"kernels", EmitStage::Kernels},
      {"ternary", EmitStage::Ternary}, {"llvm-dialect", EmitStage::LlvmDialect},
      {"llvm", EmitStage::Llvm},       {"asm", EmitStage::Asm},
      {"obj", EmitStage::Object},      {"package", EmitStage::Package}};
  return stages;
}

std::vector<std::string> setun::targetNames() {
  std::vector<std::string> names = {"host"};
  for (std::vector<std::string> more : {levelNames(), cpuNames()})
    names.insert(names.end(), more.begin(), more.end());
  return names;
}

std::vector<std::string> setun::targetFeatures() { return featureNames(); }

std::vector<TargetInfo> setun::describeTargets(const std::string &list, std::string &error) {
  error.clear();
  std::vector<TargetInfo> infos;
  auto targets = parseTargets(list);
  if (!targets) {
    error = llvm::toString(targets.takeError());
    return infos;
  }
  for (const TargetSpec &target : *targets) {
    CostQuery query;
    query.features = target.enabled;
    query.cpu = target.cpu;
    infos.push_back({target.name, target.arch, target.required, chooseKernel(query).row->name.str()});
  }
  return infos;
}
