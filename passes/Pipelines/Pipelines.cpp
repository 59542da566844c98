//===- Pipelines.cpp - the compiler's pipelines -----------------------------------===//
#include "passes/Pipelines/Pipelines.h"
#include "lib/Target/Kernels.h"
#include "passes/Dialects.h"
#include "passes/Passes.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace setun;

static SmallVector<std::string> sortedFeatures(const CpuPipelineOptions &options) {
  SmallVector<std::string> features;
  for (const auto &feature : options.features)
    features.push_back(feature.getKey().str());
  llvm::sort(features);
  return features;
}

/// Features of the forced row that are to be emulated.
static SmallVector<std::string> emulatedFeatures(const CpuPipelineOptions &options) {
  SmallVector<std::string> emulated;
  const KernelRow *row = options.emulate ? findKernelRow(options.forceKernel) : nullptr;
  SmallVector<StringRef> needed;
  if (row)
    row->features.split(needed, ',', -1, /*KeepEmpty=*/false);
  for (StringRef feature : needed)
    if (!options.features.contains(feature))
      emulated.push_back(feature.str());
  return emulated;
}

bool setun::isHead(StringRef head) { return head == "certified" || head == "exact" || head == "int8"; }

/// What every pipeline begins with: entries without calls, whose functions nothing has folded.
static void prepare(OpPassManager &pm) {
  pm.nest<func::FuncOp>().addPass(createBitNetConvertMath()); // before anything folds
  pm.addPass(createInlinerPass());
  pm.addPass(createSymbolDCEPass());
}

void setun::buildQuantizeHeadPipeline(OpPassManager &pm) {
  prepare(pm);
  pm.addPass(createBitNetQuantizeHead());
}

void setun::buildRaiseLinearPipeline(OpPassManager &pm, const CpuPipelineOptions &options) {
  if (options.head == "int8")
    buildQuantizeHeadPipeline(pm);
  else
    prepare(pm);
  pm.nest<func::FuncOp>().addPass(options.store ? createBitNetRaiseLinear(options.store) : createBitNetRaiseLinear());
}

void setun::buildBitnetToTernaryPipeline(OpPassManager &pm, const CpuPipelineOptions &options) {
  buildRaiseLinearPipeline(pm, options);
  OpPassManager &func = pm.nest<func::FuncOp>();
  func.addPass(createBitNetDecomposeLinear());
  func.addPass(createCSEPass()); // one quantisation for all that read it
  ConvertBitNetToTernaryOptions convert;
  if (!options.head.empty())
    convert.head = options.head == "int8" ? "exact" : options.head;
  func.addPass(createConvertBitNetToTernary(convert));
  func.addPass(createCSEPass());
  func.addPass(createTernaryFuseProjections()); // before anything folds the packing of constants
  func.addPass(createTernaryFuseEpilogue());
  func.addPass(createTernaryFuseNormQuantize());
  func.addPass(createTernaryGroupSums());
  func.addPass(createCSEPass());
  pm.addPass(createTernaryBlockKeys());
  pm.nest<func::FuncOp>().addPass(createTernaryFuseCacheUpdates());
  pm.nest<func::FuncOp>().addPass(createTernaryFuseRotary());
  pm.nest<func::FuncOp>().addPass(createTernarySplitAttention());
  if (options.probe)
    pm.addPass(createTernaryAddProbes());
  TernarySelectKernelsOptions select;
  select.features = sortedFeatures(options);
  llvm::append_range(select.features, emulatedFeatures(options));
  select.row = options.forceKernel;
  select.cpu = options.cpu;
  select.threads = options.runThreads;
  select.format = options.format;
  for (const std::string &kernel : options.kernels)
    select.kernels.push_back(kernel);
  pm.nest<func::FuncOp>().addPass(createTernarySelectKernels(select));
}

void setun::buildTernaryToLlvmPipeline(OpPassManager &pm, const CpuPipelineOptions &options) {
  // Packing, then buffers.
  pm.nest<func::FuncOp>().addPass(createTernaryFuseStructured());
  pm.addPass(createCSEPass());
  pm.addPass(options.store ? createTernaryPackWeights(options.store) : createTernaryPackWeights());
  pm.addPass(createTernaryMarkEntries());
  pm.addPass(bufferization::createEmptyTensorEliminationPass());
  bufferization::OneShotBufferizePassOptions bufferize;
  bufferize.bufferizeFunctionBoundaries = true;
  bufferize.functionBoundaryTypeConversion = bufferization::LayoutMapOption::IdentityLayoutMap;
  pm.addPass(bufferization::createOneShotBufferizePass(bufferize));
  pm.addPass(memref::createResolveShapedTypeResultDimsPass()); // sizes in terms of the entry's dimensions
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  // Entries and kernels.
  pm.addPass(createTernaryDescribeOperations());
  pm.addPass(createTernaryLowerEntries());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createTernaryAddMarks());
  pm.addPass(createTernaryOutlineKernels());
  TernaryTileOptions tile;
  tile.features = sortedFeatures(options);
  pm.nest<func::FuncOp>().addPass(createTernaryTile(tile));
  TernaryLowerTilesOptions tiles;
  llvm::append_range(tiles.emulate, emulatedFeatures(options));
  pm.addPass(createTernaryLowerTiles(tiles));
  TernaryLowerVectorsOptions vectors;
  llvm::append_range(vectors.emulate, emulatedFeatures(options));
  pm.nest<func::FuncOp>().addPass(createTernaryLowerVectors(vectors));
  pm.addPass(createTernaryVerifyMemory());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  // Down to LLVM.
  pm.nest<func::FuncOp>().addPass(createTernaryLowerReshapes());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  pm.nest<func::FuncOp>().addPass(arith::createArithExpandOpsPass());
  pm.addPass(createConvertVectorToLLVMPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
}

void setun::buildSetunCpuPipeline(OpPassManager &pm, const CpuPipelineOptions &options) {
  buildBitnetToTernaryPipeline(pm, options);
  buildTernaryToLlvmPipeline(pm, options);
}

namespace {
/// Options of the pipelines as the opt tool has them.
struct CpuPipelineCliOptions : public PassPipelineOptions<CpuPipelineCliOptions> {
  ListOption<std::string> features{*this, "features", llvm::cl::desc("CPU features, LLVM names (default: none)")};
  Option<std::string> row{*this, "row", llvm::cl::desc("kernel row to use wherever it is exact (default: the best)")};
  Option<bool> emulate{
      *this, "emulate",
      llvm::cl::desc("plain arithmetic for what the row needs and the features lack (default: false)")};
  Option<std::string> cpu{*this, "cpu", llvm::cl::desc("LLVM's name of the CPU, for the cost model (default: any)")};
  Option<unsigned> threads{*this, "threads",
                           llvm::cl::desc("cores that will run the code, for the cost model (default: 0, a few)"),
                           llvm::cl::init(0)};
  Option<std::string> format{
      *this, "format", llvm::cl::desc("layout of ternary weights: auto, r16k4f4, r16k4t5 or r16k4s4 (default: auto)"),
      llvm::cl::init("auto")};
  Option<std::string> head{*this, "head", llvm::cl::desc("exact, certified or int8 (default: certified)")};
  ListOption<std::string> kernels{*this, "kernels",
                                  llvm::cl::desc("kernels for matrices of a shape, as of ternary-select-kernels "
                                                 "(default: none)")};
  Option<bool> probe{*this, "probe", llvm::cl::desc("codes and accumulators as outputs (default: false)")};

  CpuPipelineOptions get() const {
    CpuPipelineOptions options;
    for (const std::string &feature : features)
      options.features.insert(feature);
    options.forceKernel = row;
    options.emulate = emulate;
    options.cpu = cpu;
    options.runThreads = threads;
    options.format = format;
    options.head = head;
    for (const std::string &kernel : kernels)
      options.kernels.push_back(kernel);
    options.probe = probe;
    options.store = std::make_shared<MemoryWeightStore>();
    return options;
  }
};
} // namespace

void setun::registerPasses() {
  registerSetunPasses();
  registerTransformsPasses();
  registerConversionPasses();
  bufferization::registerBufferizationPasses();
  registerLinalgPasses();
  PassPipelineRegistration<>("quantize-head-pipeline", "bitnet with the head in full precision to 8 bits",
                             buildQuantizeHeadPipeline);
  PassPipelineRegistration<CpuPipelineCliOptions>(
      "bitnet-to-ternary-pipeline", "bitnet on tensors to ternary on tensors, fused, kernels chosen",
      [](OpPassManager &pm, const CpuPipelineCliOptions &o) { buildBitnetToTernaryPipeline(pm, o.get()); });
  PassPipelineRegistration<CpuPipelineCliOptions>(
      "ternary-to-llvm-pipeline", "ternary on tensors to the LLVM dialect",
      [](OpPassManager &pm, const CpuPipelineCliOptions &o) { buildTernaryToLlvmPipeline(pm, o.get()); });
  PassPipelineRegistration<CpuPipelineCliOptions>(
      "setun-cpu-pipeline", "the whole way from bitnet to the LLVM dialect",
      [](OpPassManager &pm, const CpuPipelineCliOptions &o) { buildSetunCpuPipeline(pm, o.get()); });
}
