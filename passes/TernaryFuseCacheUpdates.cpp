//===- TernaryFuseCacheUpdates.cpp - one token's cache rows into attention --------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYFUSECACHEUPDATES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernaryFuseCacheUpdates : public setun::impl::TernaryFuseCacheUpdatesBase<TernaryFuseCacheUpdates> {
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops)
      if (fuse(op))
        ++numFused;
  }

  /// The update of a caller's cache of which nobody but `op` and, after it, the return reads the result.
  static CacheUpdateOp updateFor(AttentionOp op, Value cache) {
    auto update = cache.getDefiningOp<CacheUpdateOp>();
    if (!update || update.getPos() != op.getPos() || update->getBlock() != op->getBlock() ||
        !isa<BlockArgument>(update.getCache()) || !update.getCache().hasOneUse() ||
        !cast<ShapedType>(update.getRows().getType()).getElementType().isF32())
      return {};
    for (OpOperand &use : cache.getUses())
      if (use.getOwner() != op && !isa<func::ReturnOp>(use.getOwner()))
        return {};
    return update;
  }

  bool fuse(AttentionOp op) {
    CacheUpdateOp keys = updateFor(op, op.getK()), values = updateFor(op, op.getV());
    if (!op.getBlocked() || op.getNewK() || op.getCos() || op.getParts() || !keys || !values || keys == values ||
        values.getBlocked() || keys.getRows().getType() != values.getRows().getType())
      return false;
    OpBuilder b(op);
    Value k = op.getK(), v = op.getV();
    auto fused = AttentionOp::create(b, op.getLoc(), TypeRange{k.getType(), v.getType(), op->getResult(0).getType()},
                                     op.getQ(), op.getPos(), keys.getRows(), values.getRows(), Value(), Value(), k, v,
                                     Value(), op.getO(), op.getScaleAttr(), op.getCausalAttr(), op.getBlockedAttr());
    op->getResult(0).replaceAllUsesWith(fused->getResult(2));
    op.erase();
    k.replaceAllUsesExcept(fused->getResult(0), fused);
    v.replaceAllUsesExcept(fused->getResult(1), fused);
    keys.setSolo(true);
    values.setSolo(true);
    return true;
  }
};
} // namespace
