//===- TernaryLowerReshapes.cpp - reshapes of buffers as casts --------------------===//
#include "passes/Passes.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYLOWERRESHAPES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;

namespace {
/// Product of two sizes, a constant if both are.
OpFoldResult product(OpBuilder &b, Location loc, OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> a = getConstantIntValue(x), c = getConstantIntValue(y);
  if (a && c)
    return b.getIndexAttr(*a * *c);
  return arith::MulIOp::create(b, loc, getValueOrCreateConstantIndexOp(b, loc, x),
                               getValueOrCreateConstantIndexOp(b, loc, y))
      .getResult();
}

struct TernaryLowerReshapes : public setun::impl::TernaryLowerReshapesBase<TernaryLowerReshapes> {
  void runOnOperation() override {
    SmallVector<memref::ExpandShapeOp> ops;
    getOperation().walk([&](memref::ExpandShapeOp op) {
      if (op.getSrcType().getLayout().isIdentity())
        ops.push_back(op);
    });
    for (memref::ExpandShapeOp op : ops) {
      OpBuilder b(op);
      SmallVector<OpFoldResult> sizes = op.getMixedOutputShape(), strides(sizes.size());
      OpFoldResult stride = b.getIndexAttr(1);
      for (size_t axis = sizes.size(); axis-- > 0;) {
        strides[axis] = stride;
        if (axis)
          stride = product(b, op.getLoc(), stride, sizes[axis]);
      }
      Value cast = memref::ReinterpretCastOp::create(b, op.getLoc(), op.getResultType(), op.getSrc(), b.getIndexAttr(0),
                                                     sizes, strides);
      op.replaceAllUsesWith(cast);
      op.erase();
    }
  }
};
} // namespace
