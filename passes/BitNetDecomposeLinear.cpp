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

/// bitnet.conv2d: its codes, patches of them as rows of a matrix for each group of channels, and matmuls.
class ConvolutionBuilder {
public:
  ConvolutionBuilder(Conv2DOp op, RewriterBase &b)
      : op(op), b(b), loc(op.getLoc()), x(cast<RankedTensorType>(op.getX().getType())),
        batch(tensor::getMixedSize(b, loc, op.getX(), 0)), filters(op.getType().getDimSize(1) / op.getGroups()) {}
  Value build();

private:
  RankedTensorType tensorOf(ArrayRef<int64_t> shape, Type element) { return RankedTensorType::get(shape, element); }
  int64_t times(int64_t factor) { return x.isDynamicDim(0) ? ShapedType::kDynamic : x.getDimSize(0) * factor; }
  Value empty(ArrayRef<OpFoldResult> sizes, Type element) { return tensor::EmptyOp::create(b, loc, sizes, element); }
  OpFoldResult number(int64_t value) { return b.getIndexAttr(value); }
  Value paddedCodes(Value codes);
  Value patches(Value codes, int64_t group);
  Value sumsOf(Value rows);
  Value scaleOfRows(Value scale);
  Value product(Value codes, Value scale, int64_t group);
  /// The part of the scales that the rows of a group have.
  std::pair<Value, ScalesAttr> scalesOf(int64_t group);
  Value rowsOf(Value value, int64_t from, int64_t count);

  Conv2DOp op;
  RewriterBase &b;
  Location loc;
  RankedTensorType x;
  OpFoldResult batch;
  int64_t filters; // of a group
};

/// Codes as BxCxHxW with zeros around.
Value ConvolutionBuilder::paddedCodes(Value codes) {
  auto type = tensorOf(x.getShape(), b.getI8Type());
  SmallVector<OpFoldResult> sizes = {batch};
  for (int64_t size : x.getShape().drop_front())
    sizes.push_back(number(size));
  codes = tensor::ExpandShapeOp::create(b, loc, type, codes, ArrayRef<ReassociationIndices>{{0}, {1, 2, 3}}, sizes);
  ArrayRef<int64_t> padding = op.getPadding();
  if (llvm::all_of(padding, [](int64_t size) { return size == 0; }))
    return codes;
  SmallVector<OpFoldResult> low = {number(0), number(0), number(padding[0]), number(padding[1])};
  SmallVector<OpFoldResult> high = {number(0), number(0), number(padding[2]), number(padding[3])};
  Value zero = arith::ConstantOp::create(b, loc, b.getI8IntegerAttr(0));
  return tensor::PadOp::create(b, loc, Type(), codes, low, high, zero);
}

/// `(B*HO*WO) x (C/G*kh*kw)`: for each output pixel the codes that its filters see.
Value ConvolutionBuilder::patches(Value codes, int64_t group) {
  int64_t channels = x.getDimSize(1) / op.getGroups(), rows = op.getOutputSize(0), cols = op.getOutputSize(1);
  if (op.getGroups() > 1) {
    SmallVector<OpFoldResult> offsets(4, number(0)), sizes = tensor::getMixedSizes(b, loc, codes), ones(4, number(1));
    offsets[1] = number(group * channels);
    sizes[1] = number(channels);
    codes = tensor::ExtractSliceOp::create(b, loc, codes, offsets, sizes, ones);
  }
  AffineExpr d[6];
  for (unsigned i = 0; i < 6; ++i)
    d[i] = b.getAffineDimExpr(i);
  AffineExpr row = d[1] * op.getStrides()[0] + d[4] * op.getDilations()[0];
  AffineExpr col = d[2] * op.getStrides()[1] + d[5] * op.getDilations()[1];
  SmallVector<AffineMap> maps = {AffineMap::get(6, 0, {d[0], d[3], row, col}, b.getContext()),
                                 b.getMultiDimIdentityMap(6)};
  Value init =
      empty({batch, number(rows), number(cols), number(channels), number(op.getKernel()[0]), number(op.getKernel()[1])},
            b.getI8Type());
  SmallVector<utils::IteratorType> loops(6, utils::IteratorType::parallel);
  Value gathered = linalg::GenericOp::create(b, loc, init.getType(), codes, init, maps, loops,
                                             [](OpBuilder &inner, Location at, ValueRange args) {
                                               linalg::YieldOp::create(inner, at, args[0]);
                                             })
                       .getResult(0);
  return tensor::CollapseShapeOp::create(b, loc, gathered, ArrayRef<ReassociationIndices>{{0, 1, 2}, {3, 4, 5}});
}

/// Sum of each row of codes.
Value ConvolutionBuilder::sumsOf(Value rows) {
  Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
  Value init = empty({tensor::getMixedSize(b, loc, rows, 0)}, b.getI32Type());
  init = linalg::FillOp::create(b, loc, zero, init).getResult(0);
  SmallVector<AffineMap> maps = {b.getMultiDimIdentityMap(2), AffineMap::get(2, 0, b.getAffineDimExpr(0))};
  SmallVector<utils::IteratorType> loops = {utils::IteratorType::parallel, utils::IteratorType::reduction};
  return linalg::GenericOp::create(b, loc, init.getType(), rows, init, maps, loops,
                                   [](OpBuilder &inner, Location at, ValueRange args) {
                                     Value code = arith::ExtSIOp::create(inner, at, inner.getI32Type(), args[0]);
                                     Value sum = arith::AddIOp::create(inner, at, args[1], code);
                                     linalg::YieldOp::create(inner, at, sum);
                                   })
      .getResult(0);
}

/// The scale of a sample for each of its output pixels; one scale serves all.
Value ConvolutionBuilder::scaleOfRows(Value scale) {
  if (cast<RankedTensorType>(scale.getType()).getDimSize(0) == 1)
    return scale;
  Value init = empty({batch, number(op.getOutputSize(0) * op.getOutputSize(1))}, b.getF32Type());
  Value spread = linalg::BroadcastOp::create(b, loc, scale, init, ArrayRef<int64_t>{1})->getResult(0);
  return tensor::CollapseShapeOp::create(b, loc, spread, ArrayRef<ReassociationIndices>{{0, 1}});
}

Value ConvolutionBuilder::rowsOf(Value value, int64_t from, int64_t count) {
  auto type = cast<RankedTensorType>(value.getType());
  if (count == type.getDimSize(0))
    return value;
  SmallVector<OpFoldResult> offsets(type.getRank(), number(0)), sizes = tensor::getMixedSizes(b, loc, value);
  SmallVector<OpFoldResult> ones(type.getRank(), number(1));
  offsets[0] = number(from);
  sizes[0] = number(count);
  return tensor::ExtractSliceOp::create(b, loc, value, offsets, sizes, ones);
}

std::pair<Value, ScalesAttr> ConvolutionBuilder::scalesOf(int64_t group) {
  ScalesAttr scales = op.getScales();
  if (scales.getKind() == ScaleKind::Tensor)
    return {op.getScale(), scales};
  if (scales.getRows().empty()) // one for each row
    return {rowsOf(op.getScale(), group * filters, filters), scales};
  SmallVector<int64_t> rows;
  int64_t first = 0, at = 0, begin = group * filters, end = begin + filters;
  for (int64_t count : scales.getRows()) {
    int64_t inside = std::min(at + count, end) - std::max(at, begin);
    if (inside > 0)
      rows.push_back(inside);
    else if (at + count <= begin)
      ++first;
    at += count;
  }
  int64_t ranges = rows.size();
  return {rowsOf(op.getScale(), first, ranges), ScalesAttr::get(op.getContext(), ScaleKind::Rows, rows, 0)};
}

/// `B x HO x WO x F/G`.
Value ConvolutionBuilder::product(Value codes, Value scale, int64_t group) {
  Value rows = patches(codes, group), sums = sumsOf(rows);
  int64_t pixels = op.getOutputSize(0) * op.getOutputSize(1);
  Value w = rowsOf(op.getW(), group * filters, filters);
  Value acc =
      MatmulOp::create(b, loc, tensorOf({times(pixels), filters}, b.getI32Type()), rows, w, sums, IntegerAttr());
  auto [weightScale, scales] = scalesOf(group);
  Value bias = op.getBias() ? rowsOf(op.getBias(), group * filters, filters) : Value();
  Value y =
      DequantizeOp::create(b, loc, tensorOf({times(pixels), filters}, b.getF32Type()), acc, weightScale, scale, bias,
                           scales, op.getDirectionAttr(), BiasPlaceAttr::get(op.getContext(), BiasPlace::AfterScale));
  SmallVector<OpFoldResult> sizes = {batch, number(op.getOutputSize(0)), number(op.getOutputSize(1)), number(filters)};
  auto type = tensorOf({x.getDimSize(0), op.getOutputSize(0), op.getOutputSize(1), filters}, b.getF32Type());
  return tensor::ExpandShapeOp::create(b, loc, type, y, ArrayRef<ReassociationIndices>{{0, 1, 2}, {3}}, sizes);
}

Value ConvolutionBuilder::build() {
  int64_t size = x.getDimSize(1) * x.getDimSize(2) * x.getDimSize(3);
  Value matrix = tensor::CollapseShapeOp::create(b, loc, op.getX(), ArrayRef<ReassociationIndices>{{0}, {1, 2, 3}});
  bool perSample = op.getActivation().getGranularity() == ActGranularity::PerToken;
  auto quantize = QuantizeOp::create(b, loc,
                                     TypeRange{tensorOf({x.getDimSize(0), size}, b.getI8Type()),
                                               tensorOf({perSample ? x.getDimSize(0) : 1}, b.getF32Type()),
                                               tensorOf({x.getDimSize(0)}, b.getI32Type())},
                                     matrix, op.getActivationAttr());
  Value codes = paddedCodes(quantize.getCodes()), scale = scaleOfRows(quantize.getScale());
  SmallVector<Value> parts;
  for (int64_t group = 0, groups = op.getGroups(); group < groups; ++group)
    parts.push_back(product(codes, scale, group));
  Value y = parts.size() == 1 ? parts[0] : tensor::ConcatOp::create(b, loc, 3, parts).getResult();
  auto type = op.getType();
  Value init = empty({batch, number(type.getDimSize(1)), number(type.getDimSize(2)), number(type.getDimSize(3))},
                     b.getF32Type());
  y = linalg::TransposeOp::create(b, loc, y, init, ArrayRef<int64_t>{0, 3, 1, 2})->getResult(0);
  return y.getType() == type ? y : tensor::CastOp::create(b, loc, type, y).getResult();
}

struct DecomposeConv2D : public OpRewritePattern<Conv2DOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(Conv2DOp op, PatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, ConvolutionBuilder(op, rewriter).build());
    return success();
  }
};

struct BitNetDecomposeLinear : public setun::impl::BitNetDecomposeLinearBase<BitNetDecomposeLinear> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<DecomposeLinear, DecomposeConv2D>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
