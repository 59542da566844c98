//===- TernarySelectKernels.cpp - kernel row and tile of every matmul ------------===//
#include "lib/Target/Kernels.h"
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYSELECTKERNELS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;

namespace {
struct TernarySelectKernels : public setun::impl::TernarySelectKernelsBase<TernarySelectKernels> {
  using TernarySelectKernelsBase::TernarySelectKernelsBase;

  void runOnOperation() override {
    llvm::StringSet<> available;
    for (const std::string &feature : features)
      available.insert(feature);
    const setun::KernelRow *forced = nullptr;
    if (!row.empty()) {
      forced = setun::findKernelRow(row);
      if (!forced || !forced->supportedBy(available)) {
        getOperation().emitError() << "expects a kernel row that the target supports, got " << row;
        return signalPassFailure();
      }
    }
    getOperation().walk([&](ternary::MatmulOp op) {
      if (op.getKernel())
        return;
      bool binary = op.getLayout().isBinary();
      int64_t cols = op.getLayout().getCols();
      const setun::KernelRow *chosen =
          forced && cols <= forced->maxColumns(binary) ? forced : setun::selectKernelRow(available, binary, cols);
      op.setKernelAttr(
          ternary::KernelAttr::get(&getContext(), chosen->name, binary ? chosen->binaryTokens : chosen->ternaryTokens));
    });
  }
};
} // namespace
