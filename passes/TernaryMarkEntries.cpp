//===- TernaryMarkEntries.cpp - interface of entries before bufferisation --------===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYMARKENTRIES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;

namespace {
struct TernaryMarkEntries : public setun::impl::TernaryMarkEntriesBase<TernaryMarkEntries> {
  /// Gives each operation destinations of its own: what shares one would share a buffer, and so its writers' threads.
  static void separateDestinations(func::FuncOp func) {
    SmallVector<tensor::EmptyOp> destinations;
    func.walk([&](tensor::EmptyOp op) { destinations.push_back(op); });
    for (tensor::EmptyOp op : destinations)
      for (OpOperand &use : llvm::make_early_inc_range(op->getUses()))
        if (!op->hasOneUse()) {
          OpBuilder b(use.getOwner());
          use.set(b.clone(*op)->getResult(0));
        }
  }

  void runOnOperation() override {
    Builder b(&getContext());
    for (auto func : getOperation().getOps<func::FuncOp>()) {
      if (!setun::isEntry(func))
        continue;
      auto info = setun::getEntryInfo(func);
      if (failed(info))
        return signalPassFailure();
      separateDestinations(func);
      setun::EntryAbi abi;
      // Inputs belong to the caller: bufferisation must not write results over them. States are updated in place.
      for (const setun::EntryTensor &tensor : info->inputs)
        func.setArgAttr(tensor.index, bufferization::BufferizationDialect::kWritableAttrName, b.getBoolAttr(false));
      for (auto *list : {&info->inputs, &info->states})
        for (const setun::EntryTensor &tensor : *list) {
          abi.arguments.push_back(tensor.index);
          abi.shapes.push_back(tensor.shape);
        }
      for (const setun::EntryTensor &tensor : info->outputs) {
        abi.outputs.push_back(tensor.index);
        abi.shapes.push_back(tensor.shape);
      }
      for (auto [state, result] : llvm::zip(info->states, info->stateResults)) {
        abi.stateArguments.push_back(state.index);
        abi.stateResults.push_back(result);
      }
      abi.position = info->positionArg;
      func->setAttr(setun::kAbiAttr, setun::toAttribute(&getContext(), abi));
    }
  }
};
} // namespace
