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
/// The matmul whose only use a value is, directly or by way of a reshape that adds axes.
MatmulOp matmulOf(Value value, tensor::ExpandShapeOp &reshape) {
  reshape = value.getDefiningOp<tensor::ExpandShapeOp>();
  Value product = reshape ? reshape.getSrc() : value;
  auto matmul = product.getDefiningOp<MatmulOp>();
  if (!matmul || !matmul.getY() || matmul->getResult(0) != product || !value.hasOneUse() || !product.hasOneUse())
    return MatmulOp();
  return matmul;
}

struct TernaryFuseEpilogue : public setun::impl::TernaryFuseEpilogueBase<TernaryFuseEpilogue> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa<arith::AddFOp, bitnet::MathOp>(op) && isa<RankedTensorType>(op->getResult(0).getType()))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      if (auto math = dyn_cast<bitnet::MathOp>(op)) {
        fuse(math);
        continue;
      }
      auto add = cast<arith::AddFOp>(op);
      if (!fuse(add, add.getLhs(), add.getRhs()))
        fuse(add, add.getRhs(), add.getLhs());
    }
  }

  void fuse(bitnet::MathOp math) {
    tensor::ExpandShapeOp reshape;
    MatmulOp matmul = matmulOf(math.getX(), reshape);
    if (!matmul || matmul.getActivation() || matmul.getResidual() || matmul->getBlock() != math->getBlock() ||
        matmul.getLayout().getOrder() == RowOrder::Gated)
      return;
    matmul.setActivation(math.getFunction());
    matmul->setLoc(OpBuilder(math).getFusedLoc({matmul.getLoc(), math.getLoc()}));
    math.getY().replaceAllUsesWith(math.getX());
    math.erase();
  }

  bool fuse(arith::AddFOp add, Value residual, Value product) {
    tensor::ExpandShapeOp reshape;
    MatmulOp matmul = matmulOf(product, reshape);
    if (!matmul || matmul.getResidual() || residual == product || matmul->getBlock() != add->getBlock() ||
        (reshape && reshape->getBlock() != add->getBlock()) || residual.getType() != product.getType())
      return false;
    // The residual may be defined after the matmul: the matmul moves down to the addition, unless that would take its
    // accumulators from a reader above.
    if (llvm::any_of(matmul->getUsers(), [&](Operation *user) {
          Operation *top = add->getBlock()->findAncestorOpInBlock(*user);
          return top && top != reshape && top->isBeforeInBlock(add);
        }))
      return false;
    matmul->moveBefore(add);
    if (reshape) {
      reshape->moveBefore(add);
      OpBuilder b(matmul);
      residual = tensor::CollapseShapeOp::create(b, add.getLoc(), matmul->getResult(0).getType(), residual,
                                                 reshape.getReassociationIndices());
    }
    matmul.getResidualMutable().assign(residual);
    matmul->setLoc(OpBuilder(add).getFusedLoc({matmul.getLoc(), add.getLoc()}));
    add.getResult().replaceAllUsesWith(product);
    add.erase();
    return true;
  }
};
} // namespace
