//===- ReductionOrder.cpp - the order of sums of structured operations -----------===//
#include "dialects/BitNet/ReductionOrder.h"

using namespace mlir;

Operation *bitnet::laneCombiner(linalg::LinalgOp op) {
  SmallVector<utils::IteratorType> loops = op.getIteratorTypesArray();
  if (loops.empty() || loops.back() != utils::IteratorType::reduction || op.getNumDpsInits() != 1)
    return nullptr;
  bool reducesTensor = llvm::any_of(
      op.getDpsInputOperands(), [&](OpOperand *operand) { return op.getMatchingIndexingMap(operand).isPermutation(); });
  Block *body = op.getBlock();
  BlockArgument old = body->getArguments().back();
  Operation *combiner = body->getTerminator()->getOperand(0).getDefiningOp();
  if (!reducesTensor || !combiner || combiner->getBlock() != body || combiner->getNumOperands() != 2 ||
      !old.hasOneUse() || *old.user_begin() != combiner || !arith::getNeutralElement(combiner))
    return nullptr;
  return combiner;
}
