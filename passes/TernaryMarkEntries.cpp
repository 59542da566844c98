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
/// `ternary.abi = {arguments = [[shape]...], results = [[shape]...], order = [...], ...}`; a dimension below 0 is
/// symbol -1 - d. `order` lists argument numbers as buffers (inputs, then states); results that are outputs follow.
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
      SmallVector<Attribute> shapes;
      SmallVector<int64_t> order, outputs, stateResults, stateArgs;
      // Inputs belong to the caller: bufferisation must not write results over them. States are updated in place.
      for (const setun::EntryTensor &tensor : info->inputs)
        func.setArgAttr(tensor.index, bufferization::BufferizationDialect::kWritableAttrName, b.getBoolAttr(false));
      for (auto *list : {&info->inputs, &info->states})
        for (const setun::EntryTensor &tensor : *list) {
          order.push_back(tensor.index);
          shapes.push_back(b.getDenseI64ArrayAttr(tensor.shape));
        }
      for (const setun::EntryTensor &tensor : info->outputs) {
        outputs.push_back(tensor.index);
        shapes.push_back(b.getDenseI64ArrayAttr(tensor.shape));
      }
      for (auto [state, result] : llvm::zip(info->states, info->stateResults)) {
        stateArgs.push_back(state.index);
        stateResults.push_back(result);
      }
      func->setAttr(setun::kAbiAttr, b.getDictionaryAttr({
                                         b.getNamedAttr("shapes", b.getArrayAttr(shapes)),
                                         b.getNamedAttr("arguments", b.getDenseI64ArrayAttr(order)),
                                         b.getNamedAttr("outputs", b.getDenseI64ArrayAttr(outputs)),
                                         b.getNamedAttr("state_arguments", b.getDenseI64ArrayAttr(stateArgs)),
                                         b.getNamedAttr("state_results", b.getDenseI64ArrayAttr(stateResults)),
                                         b.getNamedAttr("position", b.getI64IntegerAttr(info->positionArg)),
                                     }));
    }
  }
};
} // namespace
