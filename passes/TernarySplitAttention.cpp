//===- TernarySplitAttention.cpp - one token's ranges of keys by threads ----------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYSPLITATTENTION
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernarySplitAttention : public setun::impl::TernarySplitAttentionBase<TernarySplitAttention> {
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops)
      if (split(op))
        ++numSplit;
  }

  /// Ranges of keys: of as many rows as the cache has.
  static Value ranges(OpBuilder &b, AttentionOp op) {
    Value keys = op.getK();
    // The size of a result is that of its destination.
    while (auto dps = keys.getDefiningOp<DestinationStyleOpInterface>())
      keys = dps.getTiedOpOperand(cast<OpResult>(keys))->get();
    Value rows = tensor::DimOp::create(b, op.getLoc(), keys, 0);
    Value more = arith::ConstantIndexOp::create(b, op.getLoc(), AttentionOp::kRange - 1);
    Value range = arith::ConstantIndexOp::create(b, op.getLoc(), AttentionOp::kRange);
    return arith::DivUIOp::create(b, op.getLoc(), arith::AddIOp::create(b, op.getLoc(), rows, more), range);
  }

  bool split(AttentionOp op) {
    auto type = dyn_cast<RankedTensorType>(op.getO().getType());
    if (!type || !op.getBlocked() || op.getParts() || (!type.isDynamicDim(0) && type.getDimSize(0) != 1))
      return false;
    OpBuilder b(op);
    auto partsType = RankedTensorType::get(
        {ShapedType::kDynamic, type.getDimSize(1), AttentionOp::kPartHeader + type.getDimSize(2)}, b.getF32Type());
    Value empty = tensor::EmptyOp::create(b, op.getLoc(), partsType, ranges(b, op));
    SmallVector<Type> types(llvm::drop_end(op->getResultTypes()));
    types.append({partsType, type});
    auto attention = AttentionOp::create(b, op.getLoc(), types, op.getQ(), op.getPos(), op.getNewK(), op.getNewV(),
                                         op.getCos(), op.getSin(), op.getK(), op.getV(), empty, op.getO(),
                                         op.getScaleAttr(), op.getCausalAttr(), op.getBlockedAttr());
    auto results = attention->getResults();
    auto fold = AttentionFoldOp::create(b, op.getLoc(), TypeRange{type}, results.drop_back().back(), op.getPos(),
                                        results.back());
    SmallVector<Value> replacements(results.drop_back(2));
    replacements.push_back(fold->getResult(0));
    op->replaceAllUsesWith(replacements);
    op.erase();
    return true;
  }
};
} // namespace
