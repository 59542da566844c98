//===- Pipelines.h - the compiler's pipelines ----------------------*- C++ -*-===//
#ifndef SETUN_PASSES_PIPELINES_PIPELINES_H
#define SETUN_PASSES_PIPELINES_PIPELINES_H

#include "passes/WeightStore.h"

#include "llvm/ADT/StringSet.h"

#include <memory>
#include <string>
#include <vector>

namespace mlir {
class OpPassManager;
}

namespace setun {

struct CpuPipelineOptions {
  /// CPU features that the code may use, LLVM names. Select the kernel rows.
  llvm::StringSet<> features;
  /// Name of a kernel row that must be used wherever it is exact; empty: the best one. For tests.
  std::string forceKernel;
  /// Features of that row which the target may lack: their instructions become plain arithmetic. For tests.
  bool emulate = false;
  /// LLVM's name of the CPU and the number of cores that will run the code (0: a few), for the cost model.
  std::string cpu;
  unsigned runThreads = 0;
  /// Layout of ternary weights: "auto" (what the cost model finds best) or a name of Packing.h.
  std::string format = "auto";
  /// How the largest logits are chosen: "certified" (also if empty) or "exact"; "int8": the head has 8 bits.
  std::string head;
  /// Overrides the cost model, as the option `kernels` of ternary-select-kernels.
  std::vector<std::string> kernels;
  /// Adds the outputs probe.<layer>.codes and probe.<layer>.acc to every entry point.
  bool probe = false;
  /// Receives packed weights; required.
  std::shared_ptr<WeightStore> store;
};

/// True for the values of CpuPipelineOptions::head but the empty one.
bool isHead(llvm::StringRef head);
/// bitnet on tensors, the head in 8 bits; calls are inlined.
void buildQuantizeHeadPipeline(mlir::OpPassManager &pm);
/// bitnet on tensors with calls inlined, the head in 8 bits where `head` says so, and layers that are written out as
/// arithmetic raised to operations of the dialect. Doing it again changes nothing.
void buildRaiseLinearPipeline(mlir::OpPassManager &pm, const CpuPipelineOptions &options);
/// bitnet on tensors -> ternary on tensors, with layout, kernel row and tile chosen and fused; weights not packed yet.
void buildBitnetToTernaryPipeline(mlir::OpPassManager &pm, const CpuPipelineOptions &options);
/// ternary on tensors -> LLVM dialect; packs weights into the store. Entry points become the functions of EntryInfo.h.
void buildTernaryToLlvmPipeline(mlir::OpPassManager &pm, const CpuPipelineOptions &options);
/// Both, registered as setun-cpu-pipeline.
void buildSetunCpuPipeline(mlir::OpPassManager &pm, const CpuPipelineOptions &options);

} // namespace setun

#endif // SETUN_PASSES_PIPELINES_PIPELINES_H
