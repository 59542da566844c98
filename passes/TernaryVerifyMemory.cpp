//===- TernaryVerifyMemory.cpp - no sub-byte buffers ------------------------------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYVERIFYMEMORY
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;

namespace {
struct TernaryVerifyMemory : public setun::impl::TernaryVerifyMemoryBase<TernaryVerifyMemory> {
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](Operation *op) {
      auto check = [&](Type type) {
        auto memref = dyn_cast<MemRefType>(type);
        if (!memref || !memref.getElementType().isInteger() || memref.getElementType().isInteger(1) ||
            memref.getElementTypeBitWidth() % 8 == 0)
          return WalkResult::advance();
        op->emitError() << "expects buffers of whole bytes, got " << memref
                        << "; ternary weights must be packed (ternary.pack)";
        return WalkResult::interrupt();
      };
      for (Type type : op->getResultTypes())
        if (check(type).wasInterrupted())
          return WalkResult::interrupt();
      for (Region &region : op->getRegions())
        for (Block &block : region)
          for (BlockArgument argument : block.getArguments())
            if (check(argument.getType()).wasInterrupted())
              return WalkResult::interrupt();
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};
} // namespace
