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

/// What the type of a cast says of a size, stride or offset, else the value.
OpFoldResult asTyped(OpBuilder &b, Location loc, int64_t typed, OpFoldResult value) {
  if (ShapedType::isDynamic(typed))
    return getValueOrCreateConstantIndexOp(b, loc, value);
  return b.getIndexAttr(typed);
}

struct TernaryLowerReshapes : public setun::impl::TernaryLowerReshapesBase<TernaryLowerReshapes> {
  void runOnOperation() override {
    SmallVector<memref::ExpandShapeOp> ops;
    getOperation().walk([&](memref::ExpandShapeOp op) {
      if (op.getSrcType().isStrided() && op.getResultType().isStrided())
        ops.push_back(op);
    });
    for (memref::ExpandShapeOp op : ops) {
      OpBuilder b(op);
      Location loc = op.getLoc();
      MemRefType source = op.getSrcType();
      auto [typedStrides, typedOffset] = op.getResultType().getStridesAndOffset();
      SmallVector<OpFoldResult> sizes = op.getMixedOutputShape(), strides(sizes.size());
      OpFoldResult offset = b.getIndexAttr(0), stride = b.getIndexAttr(1);
      Value base = op.getSrc();
      memref::ExtractStridedMetadataOp metadata;
      if (!source.getLayout().isIdentity()) {
        metadata = memref::ExtractStridedMetadataOp::create(b, loc, base);
        base = metadata.getBaseBuffer();
        offset = metadata.getConstifiedMixedOffset();
      }
      // A group begins with the stride of its axis of the source; that of a dense one is the product of what follows.
      SmallVector<ReassociationIndices> groups = op.getReassociationIndices();
      for (size_t group = groups.size(); group-- > 0;) {
        if (metadata)
          stride = metadata.getConstifiedMixedStrides()[group];
        for (int64_t axis : llvm::reverse(groups[group])) {
          strides[axis] = asTyped(b, loc, typedStrides[axis], stride);
          if (axis > 0 && (!metadata || axis != groups[group].front()))
            stride = product(b, loc, stride, sizes[axis]);
        }
      }
      Value cast = memref::ReinterpretCastOp::create(b, loc, op.getResultType(), base,
                                                     asTyped(b, loc, typedOffset, offset), sizes, strides);
      op.replaceAllUsesWith(cast);
      op.erase();
    }
  }
};
} // namespace
