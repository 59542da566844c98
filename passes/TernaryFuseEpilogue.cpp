//===- TernaryFuseEpilogue.cpp - residual addition into the matmul ---------------===//
#include "passes/Passes.h"

#include "mlir/IR/Dominance.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYFUSEEPILOGUE
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernaryFuseEpilogue : public setun::impl::TernaryFuseEpilogueBase<TernaryFuseEpilogue> {
  void runOnOperation() override {
    SmallVector<arith::AddFOp> adds;
    getOperation().walk([&](arith::AddFOp op) {
      if (isa<RankedTensorType>(op.getType()))
        adds.push_back(op);
    });
    for (arith::AddFOp add : adds)
      if (!fuse(add, add.getLhs(), add.getRhs()))
        fuse(add, add.getRhs(), add.getLhs());
  }

  bool fuse(arith::AddFOp add, Value residual, Value product) {
    auto matmul = product.getDefiningOp<MatmulOp>();
    if (!matmul || !matmul.getY() || matmul.getResidual() || !product.hasOneUse() || residual == product ||
        matmul->getResult(0) != product || matmul->getBlock() != add->getBlock() ||
        residual.getType() != product.getType())
      return false;
    // The residual may be defined after the matmul: the matmul moves down to the addition, unless that would take its
    // accumulators from a reader above.
    if (llvm::any_of(matmul->getUsers(), [&](Operation *user) {
          Operation *top = add->getBlock()->findAncestorOpInBlock(*user);
          return top && top->isBeforeInBlock(add);
        }))
      return false;
    matmul->moveBefore(add);
    matmul.getResidualMutable().assign(residual);
    matmul->setLoc(OpBuilder(add).getFusedLoc({matmul.getLoc(), add.getLoc()}));
    add.getResult().replaceAllUsesWith(product);
    add.erase();
    return true;
  }
};
} // namespace
