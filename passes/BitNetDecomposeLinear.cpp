//===- BitNetDecomposeLinear.cpp - bitnet.linear into its parts ------------------===//
#include "passes/Passes.h"

#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace setun {
#define GEN_PASS_DEF_BITNETDECOMPOSELINEAR
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::bitnet;

namespace {
struct DecomposeLinear : public OpRewritePattern<LinearOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(LinearOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    Value x = op.getX();
    auto xType = cast<RankedTensorType>(x.getType());
    int64_t t = xType.getDimSize(0);
    Type f32 = rewriter.getF32Type(), i32 = rewriter.getI32Type(), i8 = rewriter.getI8Type();

    NormKind norm = op.getNorm() ? op.getNorm()->getKind() : NormKind::None;
    if (norm == NormKind::Rms)
      x = RmsNormOp::create(rewriter, loc, xType, x, op.getNormWeight(), op.getNorm()->getEps());
    else if (norm == NormKind::Layer)
      x = LayerNormOp::create(rewriter, loc, xType, x, op.getNormWeight(), op.getNormBias(), op.getNorm()->getEps());

    Value actScale, sums;
    if (std::optional<ActQuantAttr> quant = op.getActivation()) {
      int64_t scales = quant->getGranularity() == ActGranularity::PerToken ? t : 1;
      auto quantize =
          QuantizeOp::create(rewriter, loc,
                             TypeRange{RankedTensorType::get(xType.getShape(), i8),
                                       RankedTensorType::get({scales}, f32), RankedTensorType::get({t}, i32)},
                             x, *quant);
      x = quantize.getCodes();
      actScale = quantize.getScale();
      sums = quantize.getSums();
    }

    ScalesAttr scales = op.getScales();
    SmallVector<int64_t> accShape(cast<RankedTensorType>(op.getY().getType()).getShape());
    IntegerAttr group;
    if (scales.getKind() == ScaleKind::Group) {
      group = rewriter.getI64IntegerAttr(scales.getGroup());
      accShape.push_back(groupCount(xType.getDimSize(1), scales.getGroup()));
    }
    Value acc =
        MatmulOp::create(rewriter, loc, RankedTensorType::get(accShape, sums ? i32 : f32), x, op.getW(), sums, group);
    rewriter.replaceOpWithNewOp<DequantizeOp>(op, op.getY().getType(), acc, op.getScale(), actScale, op.getBias(),
                                              scales, op.getDirectionAttr(), op.getBiasPlaceAttr());
    return success();
  }
};

struct BitNetDecomposeLinear : public setun::impl::BitNetDecomposeLinearBase<BitNetDecomposeLinear> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<DecomposeLinear>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
