//===- TernaryGroupSums.cpp - sums of the codes of each group ---------------------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYGROUPSUMS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernaryGroupSums : public setun::impl::TernaryGroupSumsBase<TernaryGroupSums> {
  void runOnOperation() override {
    SmallVector<QuantizeOp> ops;
    getOperation().walk([&](QuantizeOp op) { ops.push_back(op); });
    for (QuantizeOp op : ops)
      if (IntegerAttr group = commonGroup(op)) {
        sumGroups(op, group);
        ++numGrouped;
      }
  }

  /// The group of all matmuls that read the sums; null if there is none.
  static IntegerAttr commonGroup(QuantizeOp op) {
    IntegerAttr group;
    for (OpOperand &use : op->getResult(2).getUses()) {
      auto matmul = dyn_cast<MatmulOp>(use.getOwner());
      if (op.getGroup() || !matmul || !matmul.getGroup() || (group && group != matmul.getGroupAttr()))
        return {};
      group = matmul.getGroupAttr();
    }
    return group;
  }

  static void sumGroups(QuantizeOp op, IntegerAttr group) {
    OpBuilder b(op);
    auto x = cast<RankedTensorType>(op.getX().getType());
    auto type =
        RankedTensorType::get({x.getDimSize(0), bitnet::groupCount(x.getDimSize(1), group.getInt())}, b.getI32Type());
    OpFoldResult tokens = tensor::getMixedSize(b, op.getLoc(), op.getSums(), 0);
    SmallVector<OpFoldResult> sizes = {tokens, b.getIndexAttr(type.getDimSize(1))};
    Value sums = tensor::EmptyOp::create(b, op.getLoc(), sizes, type.getElementType());
    auto grouped = QuantizeOp::create(b, op.getLoc(), TypeRange{op.getCodes().getType(), op.getScale().getType(), type},
                                      op.getX(), op.getNormWeight(), op.getNormBias(), op.getCodes(), op.getScale(),
                                      sums, op.getActivationAttr(), op.getNormAttr(), group);
    op->replaceAllUsesWith(grouped);
    op.erase();
  }
};
} // namespace
