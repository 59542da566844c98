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
    getOperation().walk([&](QuantizeOp op) {
      if (isa<RankedTensorType>(op.getX().getType()))
        ops.push_back(op);
    });
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
    int64_t groups = bitnet::groupCount(cast<ShapedType>(op.getX().getType()).getDimSize(1), group.getInt());
    OpFoldResult tokens = tensor::getMixedSize(b, op.getLoc(), op.getSums(), 0);
    Value sums =
        tensor::EmptyOp::create(b, op.getLoc(), ArrayRef<OpFoldResult>{tokens, b.getIndexAttr(groups)}, b.getI32Type());
    auto grouped =
        QuantizeOp::create(b, op.getLoc(), TypeRange{op.getCodes().getType(), op.getScale().getType(), sums.getType()},
                           op.getX(), op.getNormWeight(), op.getNormBias(), op.getAhead(), op.getCodes(), op.getScale(),
                           sums, op.getActivationAttr(), op.getNormAttr(), group);
    op->replaceAllUsesWith(grouped);
    op.erase();
  }
};
} // namespace
