//===- TernaryFuseNormQuantize.cpp - norm into the quantiser ---------------------===//
#include "passes/Passes.h"

#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYFUSENORMQUANTIZE
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct FuseNorm : public OpRewritePattern<QuantizeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(QuantizeOp op, PatternRewriter &rewriter) const override {
    auto norm = op.getX().getDefiningOp<NormOp>();
    if (!norm || op.getNorm())
      return rewriter.notifyMatchFailure(op, "no norm to fuse");
    for (Operation *user : norm->getUsers())
      if (user != op && !isa<tensor::DimOp>(user))
        return rewriter.notifyMatchFailure(op, "the normalised tensor has other uses");
    auto fused =
        QuantizeOp::create(rewriter, rewriter.getFusedLoc({norm.getLoc(), op.getLoc()}), op->getResultTypes(),
                           norm.getX(), norm.getWeight(), norm.getBias(), Value(), op.getCodes(), op.getScale(),
                           op.getSums(), op.getActivationAttr(), norm.getNormAttr(), op.getGroupAttr());
    rewriter.replaceOp(op, fused);
    return success();
  }
};

/// The size of a destination-style result is that of its destination, so that sizes do not keep tensors alive.
struct DimOfResult : public OpRewritePattern<tensor::DimOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(tensor::DimOp op, PatternRewriter &rewriter) const override {
    auto result = dyn_cast<OpResult>(op.getSource());
    auto dps = result ? dyn_cast<DestinationStyleOpInterface>(result.getOwner()) : DestinationStyleOpInterface();
    if (!dps)
      return rewriter.notifyMatchFailure(op, "not the result of a destination-style operation");
    rewriter.modifyOpInPlace(op, [&] { op.getSourceMutable().set(dps.getTiedOpOperand(result)->get()); });
    return success();
  }
};

struct TernaryFuseNormQuantize : public setun::impl::TernaryFuseNormQuantizeBase<TernaryFuseNormQuantize> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<FuseNorm, DimOfResult>(&getContext());
    tensor::EmptyOp::getCanonicalizationPatterns(patterns, &getContext());
    tensor::DimOp::getCanonicalizationPatterns(patterns, &getContext());
    // Packing of constants is not folded here: what was packed is still asked for by name and granularity.
    GreedyRewriteConfig config;
    config.enableFolding(false);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns), config)))
      signalPassFailure();
  }
};
} // namespace
