//===- TernaryFuseRotary.cpp - rotations where rows are read and written ----------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYFUSEROTARY
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernaryFuseRotary : public setun::impl::TernaryFuseRotaryBase<TernaryFuseRotary> {
  void runOnOperation() override {
    SmallVector<AttentionOp> attentions;
    SmallVector<CacheUpdateOp> updates;
    getOperation().walk([&](AttentionOp op) { attentions.push_back(op); });
    for (AttentionOp op : attentions)
      fuseQueries(op);
    getOperation().walk([&](CacheUpdateOp op) { updates.push_back(op); });
    for (CacheUpdateOp op : updates)
      if (RotaryOp rotary = rotationOf(op.getRows(), op.getPos(), op.getCos()); rotary && rotary->hasOneUse())
        rotate(op, op.getRowsMutable(), rotary);
  }

  /// The rotation that makes `value` for tokens at `pos`; null if there is none, or where there is one already.
  static RotaryOp rotationOf(Value value, Value pos, Value known) {
    auto rotary = value.getDefiningOp<RotaryOp>();
    return rotary && !known && rotary.getPos() == pos ? rotary : RotaryOp();
  }

  /// `op` reads what `rotary` does, and rotates it.
  template <typename Op> void rotate(Op op, OpOperand &operand, RotaryOp rotary) {
    operand.set(rotary.getX());
    op.getCosMutable().assign(rotary.getCos());
    op.getSinMutable().assign(rotary.getSin());
    if (rotary->use_empty())
      rotary.erase();
    ++numFused;
  }

  void fuseQueries(AttentionOp op) {
    RotaryOp queries = rotationOf(op.getQ(), op.getPos(), op.getCos());
    if (!queries || !queries->hasOneUse())
      return;
    if (!op.getNewK())
      return rotate(op, op.getQMutable(), queries);
    // New keys are rotated with the queries, by attention and by the updates that write several of them.
    RotaryOp keys = rotationOf(op.getNewK(), op.getPos(), Value());
    if (!keys || keys.getCos() != queries.getCos() || keys.getSin() != queries.getSin())
      return;
    SmallVector<CacheUpdateOp> updates;
    for (Operation *user : keys->getUsers()) {
      auto update = dyn_cast<CacheUpdateOp>(user);
      if (user != op && (!update || update.getPos() != op.getPos() || update.getCos()))
        return;
      if (update)
        updates.push_back(update);
    }
    op.getNewKMutable().assign(keys.getX());
    for (CacheUpdateOp update : updates)
      rotate(update, update.getRowsMutable(), keys);
    rotate(op, op.getQMutable(), queries);
  }
};
} // namespace
