//===- CodeGenerator.cpp - from the LLVM dialect to object code -------------------===//
#include "lib/Translation/CodeGenerator.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Analysis/TargetTransformInfo.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Operator.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Transforms/Utils/LowerMemIntrinsics.h"

#include <mutex>

using namespace llvm;
using namespace setun;

void setun::registerTranslations(mlir::DialectRegistry &registry) {
  mlir::registerBuiltinDialectTranslation(registry);
  mlir::registerLLVMDialectTranslation(registry);
}

Expected<std::unique_ptr<CodeGenerator>> CodeGenerator::create(const TargetSpec &target) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
  });
  Triple triple(target.triple);
  std::string message;
  const Target *backend = TargetRegistry::lookupTarget(triple, message);
  if (!backend)
    return createStringError("LLVM has no code generator for " + target.triple + ": " + message);

  TargetOptions options;
  // A product and a sum round twice, as in the reference, wherever the IR does not ask for a fused operation.
  options.AllowFPOpFusion = FPOpFusion::Strict;
  // Lets the linker drop what no entry needs.
  options.FunctionSections = true;
  options.DataSections = true;
  options.UniqueSectionNames = false;
  // A kernel is a few loops of long instructions, which come from the cache of decoded ones by lines of 64 bytes.
  if (triple.isX86())
    options.LoopAlignment = 64;

  std::unique_ptr<CodeGenerator> generator(new CodeGenerator());
  generator->target = target;
  generator->machine.reset(backend->createTargetMachine(triple, target.cpu, target.features, options, Reloc::PIC_,
                                                        CodeModel::Small, CodeGenOptLevel::Default));
  if (!generator->machine)
    return createStringError("LLVM cannot generate code for " + target.triple + ", CPU " + target.cpu);
  generator->context.setDiagnosticHandlerCallBack(
      [](const DiagnosticInfo *info, void *self) {
        if (info->getSeverity() != DS_Error)
          return;
        std::string &errors = static_cast<CodeGenerator *>(self)->errors;
        raw_string_ostream stream(errors);
        DiagnosticPrinterRawOStream printer(stream);
        stream << (errors.empty() ? "" : "; ");
        info->print(printer);
      },
      generator.get());
  return std::move(generator);
}

//===----------------------------------------------------------------------===//
// Translation
//===----------------------------------------------------------------------===//

std::unique_ptr<Module> CodeGenerator::translate(mlir::ModuleOp module, ArrayRef<std::string> exported) {
  module->setAttr(mlir::LLVM::LLVMDialect::getDataLayoutAttrName(),
                  mlir::StringAttr::get(module.getContext(), machine->createDataLayout().getStringRepresentation()));
  module->setAttr(mlir::LLVM::LLVMDialect::getTargetTripleAttrName(),
                  mlir::StringAttr::get(module.getContext(), target.triple));
  std::unique_ptr<Module> result = mlir::translateModuleToLLVMIR(module, context, "setun");
  if (!result)
    return nullptr;

  // An entry calls kernels hundreds of times. Copies of them in it would gain nothing, and loop passes take a time that
  // grows faster than a function.
  for (const std::string &name : exported)
    if (Function *entry = result->getFunction(name))
      for (Instruction &instruction : instructions(*entry))
        if (auto *call = dyn_cast<CallBase>(&instruction))
          if (Function *kernel = call->getCalledFunction(); kernel && !kernel->isDeclaration())
            kernel->addFnAttr(Attribute::NoInline);
  for (GlobalVariable &global : result->globals())
    if (!global.isDeclaration())
      global.setLinkage(GlobalValue::InternalLinkage);
  bool zmm = target.has("avx512f");
  for (Function &function : *result) {
    if (function.isDeclaration())
      continue;
    if (is_contained(exported, function.getName())) {
      function.setLinkage(GlobalValue::ExternalLinkage);
      function.setVisibility(GlobalValue::ProtectedVisibility);
      function.setDSOLocal(true);
    } else if (function.hasFnAttribute(kOpaqueAttr)) {
      // For all that the optimiser knows, there are other callers.
      function.setLinkage(GlobalValue::ExternalLinkage);
      function.setVisibility(GlobalValue::HiddenVisibility);
      function.setDSOLocal(true);
    } else {
      function.setLinkage(GlobalValue::InternalLinkage);
    }
    function.addFnAttr(Attribute::NoUnwind);
    function.addFnAttr("target-cpu", target.cpu);
    if (!target.features.empty())
      function.addFnAttr("target-features", target.features);
    // There is no library: loops must not turn into calls of memset and memcpy.
    function.addFnAttr("no-builtins");
    if (zmm) {
      function.addFnAttr("prefer-vector-width", "512");
      function.addFnAttr("min-legal-vector-width", "512");
    }
    for (Instruction &instruction : instructions(function)) {
      if (!isa<FPMathOperator>(instruction))
        continue;
      // Nothing that lets results differ between targets; what only says that a value does not occur may stay.
      FastMathFlags flags = instruction.getFastMathFlags();
      flags.setAllowReassoc(false);
      flags.setAllowContract(false);
      flags.setAllowReciprocal(false);
      flags.setApproxFunc(false);
      instruction.copyFastMathFlags(flags);
    }
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Optimisation
//===----------------------------------------------------------------------===//

namespace {

/// Block copies and fills that the code generator would turn into library calls become loops.
struct ExpandMemoryIntrinsics : PassInfoMixin<ExpandMemoryIntrinsics> {
  static bool isRequired() { return true; }

  PreservedAnalyses run(Function &function, FunctionAnalysisManager &analyses) {
    // Constant sizes up to this are single instructions on every target.
    constexpr uint64_t inlineBytes = 64;
    SmallVector<MemIntrinsic *> found;
    for (Instruction &instruction : instructions(function))
      if (auto *intrinsic = dyn_cast<MemIntrinsic>(&instruction)) {
        auto *length = dyn_cast<ConstantInt>(intrinsic->getLength());
        if (!length || length->getValue().ugt(inlineBytes))
          found.push_back(intrinsic);
      }
    const auto &costs = analyses.getResult<TargetIRAnalysis>(function);
    bool changed = false;
    for (MemIntrinsic *intrinsic : found) {
      if (auto *copy = dyn_cast<MemCpyInst>(intrinsic))
        expandMemCpyAsLoop(copy, costs);
      else if (auto *fill = dyn_cast<MemSetInst>(intrinsic))
        expandMemSetAsLoop(fill);
      else if (auto *move = dyn_cast<MemMoveInst>(intrinsic); !move || !expandMemMoveAsLoop(move, costs))
        continue;
      intrinsic->eraseFromParent();
      changed = true;
    }
    return changed ? PreservedAnalyses::none() : PreservedAnalyses::all();
  }
};

} // namespace

void CodeGenerator::optimise(Module &module) {
  LoopAnalysisManager loops;
  FunctionAnalysisManager functions;
  CGSCCAnalysisManager components;
  ModuleAnalysisManager modules;
  PassBuilder builder(machine.get());
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);

  ModulePassManager passes;
  passes.addPass(createModuleToFunctionPassAdaptor(ExpandMemoryIntrinsics()));
  passes.addPass(builder.buildPerModuleDefaultPipeline(OptimizationLevel::O2));
  // Optimisation may have merged stores into new ones.
  passes.addPass(createModuleToFunctionPassAdaptor(ExpandMemoryIntrinsics()));
  passes.run(module, modules);
}

Error CodeGenerator::emit(Module &module, Output output, SmallVectorImpl<char> &text) {
  raw_svector_ostream stream(text);
  legacy::PassManager passes;
  CodeGenFileType type = output == Output::Assembly ? CodeGenFileType::AssemblyFile : CodeGenFileType::ObjectFile;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, type))
    return createStringError("LLVM cannot write this kind of file for " + target.triple);
  passes.run(module);
  if (!errors.empty())
    return createStringError("LLVM: " + std::exchange(errors, ""));
  return Error::success();
}
