//===- ConvertBitNetToTernary.cpp - what becomes how ------------------------------===//
//
// Rewrites the operations of a function in order, each to its ternary counterpart on fresh destinations.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_CONVERTBITNETTOTERNARY
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using bitnet::ActGranularity;
using bitnet::ScaleKind;

namespace {
/// Size of `value` along `axis`. The result of a destination-style operation has the size of its destination, so that
/// asking for a size is no use of the result, which would keep it from being fused.
Value sizeOf(OpBuilder &b, Location loc, Value value, int64_t axis) {
  while (auto result = dyn_cast<OpResult>(value)) {
    auto dps = dyn_cast<DestinationStyleOpInterface>(result.getOwner());
    if (!dps)
      break;
    value = dps.getTiedOpOperand(result)->get();
  }
  if (auto empty = value.getDefiningOp<tensor::EmptyOp>(); empty && empty.getType().isDynamicDim(axis))
    return empty.getDynamicSize(axis);
  return tensor::DimOp::create(b, loc, value, axis);
}

/// tensor.empty of `type`; dynamic sizes are those of the same dimension of `like`.
Value emptyLike(OpBuilder &b, Location loc, RankedTensorType type, Value like) {
  SmallVector<Value> sizes;
  for (auto [i, dim] : llvm::enumerate(type.getShape()))
    if (ShapedType::isDynamic(dim))
      sizes.push_back(sizeOf(b, loc, like, i));
  return tensor::EmptyOp::create(b, loc, type, sizes);
}

/// `codes` with zero columns up to a multiple of 4.
Value padColumns(OpBuilder &b, Location loc, Value codes) {
  auto type = cast<RankedTensorType>(codes.getType());
  int64_t k = type.getDimSize(1), padded = (k + 3) / 4 * 4;
  if (k == padded)
    return codes;
  auto paddedType = RankedTensorType::get({type.getDimSize(0), padded}, type.getElementType());
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(type.getElementType()));
  Value filled =
      linalg::FillOp::create(b, loc, ValueRange{zero}, ValueRange{emptyLike(b, loc, paddedType, codes)}).getResult(0);
  OpFoldResult rows = tensor::getMixedSize(b, loc, codes, 0);
  SmallVector<OpFoldResult> zeros(2, b.getIndexAttr(0)), ones(2, b.getIndexAttr(1));
  return tensor::InsertSliceOp::create(b, loc, codes, filled, zeros, SmallVector<OpFoldResult>{rows, b.getIndexAttr(k)},
                                       ones);
}

struct Converter {
  OpBuilder b;
  StringRef head;
  llvm::DenseMap<Value, Value> padded{}; // codes of quantisers, as they were written: with zero columns

  LogicalResult convert(Operation *op);
  void quantize(bitnet::QuantizeOp op);
  void matmul(bitnet::MatmulOp op);
  ternary::MatmulOp packedMatmul(bitnet::MatmulOp op, bitnet::DequantizeOp dequantize, bool withAcc);
  void topK(bitnet::TopKOp op);
  /// The results of `op`, a bitnet.top_k or bitnet.largest, are chosen among `rows` logits, with the maxima of panels
  /// if there are any.
  template <typename Op> void select(Op op, Value logits, Value maxima, int64_t rows);
  void norm(Operation *op, Value x, Value weight, Value bias, bitnet::NormKind kind, FloatAttr eps);
};

void Converter::quantize(bitnet::QuantizeOp op) {
  Location loc = op.getLoc();
  auto x = cast<RankedTensorType>(op.getX().getType());
  int64_t k = x.getDimSize(1), columns = (k + 3) / 4 * 4;
  auto codesType = RankedTensorType::get({x.getDimSize(0), columns}, b.getI8Type());
  Value codes = emptyLike(b, loc, codesType, op.getX());
  Value scale = emptyLike(b, loc, cast<RankedTensorType>(op.getScale().getType()), op.getX());
  Value sums = emptyLike(b, loc, cast<RankedTensorType>(op.getSums().getType()), op.getX());
  auto result = ternary::QuantizeOp::create(b, loc, TypeRange{codes.getType(), scale.getType(), sums.getType()},
                                            op.getX(), Value(), Value(), Value(), codes, scale, sums,
                                            op.getActivationAttr(), bitnet::NormAttr(), IntegerAttr());
  Value newCodes = result.getResult(0);
  if (columns != k) {
    SmallVector<OpFoldResult> zeros(2, b.getIndexAttr(0)), ones(2, b.getIndexAttr(1));
    newCodes = tensor::ExtractSliceOp::create(
        b, loc, newCodes, zeros,
        SmallVector<OpFoldResult>{tensor::getMixedSize(b, loc, op.getX(), 0), b.getIndexAttr(k)}, ones);
    if (newCodes.getType() != op.getCodes().getType())
      newCodes = tensor::CastOp::create(b, loc, op.getCodes().getType(), newCodes);
    padded[newCodes] = result.getResult(0);
  }
  op.getCodes().replaceAllUsesWith(newCodes);
  op.getScale().replaceAllUsesWith(result.getResult(1));
  op.getSums().replaceAllUsesWith(result.getResult(2));
}

/// The ternary matmul of a bitnet.matmul: scaled as `dequantize` says (null: not scaled), with its accumulators as last
/// result if `withAcc`.
ternary::MatmulOp Converter::packedMatmul(bitnet::MatmulOp op, bitnet::DequantizeOp dequantize, bool withAcc) {
  Location loc = op.getLoc();
  auto w = cast<RankedTensorType>(op.getW().getType());
  int64_t n = w.getDimSize(0), k = w.getDimSize(1);
  unsigned bits = w.getElementTypeBitWidth();
  auto packing = bits == 1   ? ternary::Packing::R16K4F8
                 : bits == 8 ? ternary::Packing::R16K4I8
                             : ternary::Packing::R16K4F4;
  auto layout = ternary::LayoutAttr::get(b.getContext(), packing, n, k, ternary::RowOrder::Linear);
  int64_t groups = bitnet::groupCount(k, op.getGroup().value_or(0));

  Value x = padded.lookup(op.getX());
  if (!x)
    x = op.getSums() ? padColumns(b, loc, op.getX()) : op.getX();
  Value packed = ternary::PackOp::create(b, loc, RankedTensorType::get({layout.getBytes()}, b.getI8Type()),
                                         ValueRange{op.getW()}, layout);
  auto scalesType = RankedTensorType::get({layout.getPanels(), groups, layout.getPanelRows()}, b.getF32Type());
  Value rowScales, actScale, bias, y, acc;
  auto biasPlace = bitnet::BiasPlaceAttr::get(b.getContext(), bitnet::BiasPlace::AfterScale);
  SmallVector<Type> types;
  if (dequantize) {
    rowScales = ternary::PackScalesOp::create(
        b, loc, scalesType, ValueRange{dequantize.getScale()}, layout, b.getDenseI64ArrayAttr({n}),
        b.getArrayAttr({dequantize.getScalesAttr()}),
        b.getArrayAttr({bitnet::DirectionAttr::get(b.getContext(), dequantize.getDirection())}));
    actScale = dequantize.getActScale();
    bias = dequantize.getBias();
    biasPlace = bitnet::BiasPlaceAttr::get(b.getContext(), dequantize.getBiasPlace());
    y = emptyLike(b, loc, cast<RankedTensorType>(dequantize.getY().getType()), op.getX());
    types.push_back(y.getType());
  } else {
    rowScales = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(scalesType, 0.0f));
  }
  if (withAcc) {
    acc = emptyLike(b, loc, cast<RankedTensorType>(op.getAcc().getType()), op.getX());
    types.push_back(acc.getType());
  }
  return ternary::MatmulOp::create(b, loc, types, x, packed, rowScales, actScale, op.getSums(), bias, Value(), Value(),
                                   Value(), Value(), y, acc, layout, op.getGroupAttr(),
                                   ternary::EpilogueAttr::get(b.getContext(), ternary::Epilogue::None),
                                   bitnet::FunctionAttr(), biasPlace, ternary::KernelAttr());
}

void Converter::matmul(bitnet::MatmulOp op) {
  SmallVector<bitnet::DequantizeOp> dequantizes;
  Operation *firstUser = nullptr;
  bool otherUses = op.getAcc().use_empty();
  for (Operation *user : op.getAcc().getUsers()) {
    Operation *place = op->getBlock()->findAncestorOpInBlock(*user);
    if (!firstUser || (place && place->isBeforeInBlock(firstUser)))
      firstUser = place;
    if (auto dequantize = dyn_cast<bitnet::DequantizeOp>(user))
      dequantizes.push_back(dequantize);
    else
      otherUses = true;
  }
  // Each scaling of the accumulators is a matmul of its own, at its own place; accumulators that are used themselves
  // come with the scaling if that stands first (layers that share codes and weights, and differ in scale, are rare).
  bool shared = otherUses && dequantizes.size() == 1 && firstUser == dequantizes.front();
  for (bitnet::DequantizeOp dequantize : dequantizes) {
    b.setInsertionPoint(dequantize);
    ternary::MatmulOp result = packedMatmul(op, dequantize, shared);
    dequantize.getY().replaceAllUsesWith(result->getResult(0));
    dequantize.erase();
    if (shared)
      op.getAcc().replaceAllUsesWith(result->getResult(1));
  }
  if (otherUses && !shared) {
    b.setInsertionPoint(op);
    op.getAcc().replaceAllUsesWith(packedMatmul(op, {}, true)->getResult(0));
  }
}

/// The choice among the rows of a head, by scan and exact re-score, or among all exact logits.
void Converter::topK(bitnet::TopKOp op) {
  Location loc = op.getLoc();
  auto w = cast<RankedTensorType>(op.getW().getType());
  setun::packing::HeadShape shape{w.getDimSize(0), w.getDimSize(1)};
  auto empty = [&](ArrayRef<int64_t> sizes, Type element) -> Value {
    return tensor::EmptyOp::create(b, loc, sizes, element);
  };
  Type f32 = b.getF32Type(), i32 = b.getI32Type(), i8 = b.getI8Type();
  Value rows, maxima;
  if (head == "exact" || !shape.isValid()) {
    Value y = empty({1, shape.rows}, f32);
    rows = ternary::DenseOp::create(b, loc, TypeRange{y.getType()}, op.getX(), op.getW(), Value(), y)->getResult(0);
  } else {
    auto tensor = [](ArrayRef<int64_t> sizes, Type element) { return RankedTensorType::get(sizes, element); };
    auto planes = ternary::PackHeadOp::create(
        b, loc, tensor(shape.codeBytes(), i8), tensor(shape.scaleBytes(), i8), tensor({shape.panels(), 3, 32}, f32),
        tensor({2, shape.rows, shape.fineBitBytes()}, i8),
        tensor({shape.rows, setun::packing::HeadShape::kFineFloats}, f32), op.getW());
    auto results = [](ArrayRef<Value> inits) { return SmallVector<Type>(ValueRange(inits).getTypes()); };
    SmallVector<Value> inits = {empty(shape.paddedCols(), i8), empty(shape.groups() + 1, i32), empty(4, f32)};
    auto q = ternary::HeadQuantizeOp::create(b, loc, results(inits), op.getX(), inits[0], inits[1], inits[2]);
    inits = {empty({1, shape.paddedRows()}, f32), empty({1, shape.paddedRows()}, f32), empty(shape.panels(), f32)};
    auto scan = ternary::HeadScanOp::create(b, loc, results(inits), q->getResult(0), q->getResult(1), q->getResult(2),
                                            planes.getCodes(), planes.getScales(), planes.getCoarse(), Value(),
                                            inits[0], inits[1], inits[2], b.getI64IntegerAttr(shape.rows),
                                            b.getI64IntegerAttr(shape.cols), ternary::KernelAttr());
    Value init = empty(op.getLength(), f32);
    auto candidates = ternary::HeadCandidatesOp::create(b, loc, TypeRange{init.getType()}, op.getX(), op.getW(),
                                                        scan->getResult(0), scan->getResult(2), op.getK(), init);
    inits = {empty({1, shape.paddedRows()}, f32), empty(shape.panels(), f32)};
    auto exact = ternary::HeadRescoreOp::create(
        b, loc, results(inits), op.getX(), op.getW(), q->getResult(0), q->getResult(1), q->getResult(2),
        scan->getResult(0), scan->getResult(1), candidates->getResult(0), op.getK(), planes.getFine(),
        planes.getFineRows(), Value(), inits[0], inits[1], ternary::KernelAttr());
    rows = exact->getResult(0);
    maxima = exact->getResult(1);
  }
  select(op, rows, maxima, shape.rows);
}

template <typename Op> void Converter::select(Op op, Value logits, Value maxima, int64_t rows) {
  Location loc = op.getLoc();
  Value ids = tensor::EmptyOp::create(b, loc, op.getLength(), b.getI64Type());
  Value best = tensor::EmptyOp::create(b, loc, op.getLength(), b.getF32Type());
  auto chosen = ternary::HeadSelectOp::create(b, loc, TypeRange{ids.getType(), best.getType()}, logits, op.getK(),
                                              maxima, ids, best, b.getI64IntegerAttr(rows));
  op.getIds().replaceAllUsesWith(chosen->getResult(0));
  op.getLogits().replaceAllUsesWith(chosen->getResult(1));
}

void Converter::norm(Operation *op, Value x, Value weight, Value bias, bitnet::NormKind kind, FloatAttr eps) {
  auto type = cast<RankedTensorType>(x.getType());
  Value y = emptyLike(b, op->getLoc(), type, x);
  auto result = ternary::NormOp::create(b, op->getLoc(), TypeRange{type}, x, weight, bias, y,
                                        bitnet::NormAttr::get(b.getContext(), kind, eps));
  op->replaceAllUsesWith(result);
}

LogicalResult Converter::convert(Operation *op) {
  b.setInsertionPoint(op);
  Location loc = op->getLoc();
  auto emptyFor = [&](Value result, Value like) {
    return emptyLike(b, loc, cast<RankedTensorType>(result.getType()), like);
  };
  LogicalResult status = success();
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](bitnet::QuantizeOp op) { quantize(op); })
      .Case([&](bitnet::MatmulOp op) { matmul(op); })
      .Case([&](bitnet::DequantizeOp op) { status = op.emitOpError() << "expects the accumulator of a bitnet.matmul"; })
      .Case([&](bitnet::TopKOp op) { topK(op); })
      .Case([&](bitnet::LargestOp op) {
        select(op, op.getY(), Value(), cast<ShapedType>(op.getY().getType()).getDimSize(1));
      })
      .Case([&](bitnet::RmsNormOp op) {
        norm(op, op.getX(), op.getWeight(), Value(), bitnet::NormKind::Rms, op.getEpsAttr());
      })
      .Case([&](bitnet::LayerNormOp op) {
        norm(op, op.getX(), op.getWeight(), op.getBias(), bitnet::NormKind::Layer, op.getEpsAttr());
      })
      .Case([&](bitnet::RotaryOp op) {
        op->replaceAllUsesWith(ternary::RotaryOp::create(b, loc, TypeRange{op.getType()}, op.getX(), op.getCos(),
                                                         op.getSin(), op.getPos(), emptyFor(op.getY(), op.getX())));
      })
      .Case([&](bitnet::CacheUpdateOp op) {
        op->replaceAllUsesWith(ternary::CacheUpdateOp::create(b, loc, TypeRange{op.getType()}, op.getRows(),
                                                              op.getPos(), Value(), Value(), op.getCache(),
                                                              /*blocked=*/false, /*solo=*/false));
      })
      .Case([&](bitnet::AttentionOp op) {
        op->replaceAllUsesWith(ternary::AttentionOp::create(
            b, loc, TypeRange{op.getType()}, op.getQ(), op.getPos(), Value(), Value(), Value(), Value(), op.getK(),
            op.getV(), Value(), emptyFor(op.getO(), op.getQ()), op.getScaleAttr(), op.getCausalAttr(), UnitAttr()));
      })
      .Case([&](bitnet::BatchAttentionOp op) {
        op->replaceAllUsesWith(ternary::BatchAttentionOp::create(
            b, loc, TypeRange{op.getType()}, op.getQ(), op.getK(), op.getV(), op.getMask(),
            emptyFor(op.getO(), op.getQ()), op.getScaleAttr(), op.getCausalAttr()));
      })
      .Case([&](bitnet::SoftmaxOp op) {
        op->replaceAllUsesWith(
            ternary::SoftmaxOp::create(b, loc, TypeRange{op.getType()}, op.getX(), emptyFor(op.getY(), op.getX())));
      })
      .Case([&](bitnet::GatedOp op) {
        op->replaceAllUsesWith(ternary::GatedOp::create(b, loc, TypeRange{op.getType()}, op.getGate(), op.getUp(),
                                                        emptyFor(op.getY(), op.getGate()), op.getActAttr()));
      })
      .Case([&](bitnet::EmbeddingOp op) {
        op->replaceAllUsesWith(ternary::EmbeddingOp::create(b, loc, TypeRange{op.getType()}, op.getTable(),
                                                            op.getTokens(), emptyFor(op.getY(), op.getTokens())));
      })
      .Case([&](bitnet::DenseOp op) {
        op->replaceAllUsesWith(ternary::DenseOp::create(b, loc, TypeRange{op.getType()}, op.getX(), op.getW(),
                                                        op.getBias(), emptyFor(op.getY(), op.getX())));
      })
      .Case([&](bitnet::HadamardOp op) {
        op->replaceAllUsesWith(ternary::HadamardOp::create(b, loc, TypeRange{op.getType()}, op.getX(),
                                                           emptyFor(op.getY(), op.getX()), op.getBlockAttr()));
      })
      .Case<bitnet::LinearOp, bitnet::Conv2DOp>(
          [&](auto op) { status = op.emitOpError() << "expects to be decomposed first (bitnet-decompose-linear)"; })
      .Default([&](Operation *op) { status = op->emitOpError() << "has no counterpart in the ternary dialect"; });
  return status;
}

struct ConvertBitNetToTernary : public setun::impl::ConvertBitNetToTernaryBase<ConvertBitNetToTernary> {
  using ConvertBitNetToTernaryBase::ConvertBitNetToTernaryBase;

  void runOnOperation() override {
    if (head != "exact" && head != "certified") {
      getOperation().emitError() << "expects a head that is exact or certified, got " << head;
      return signalPassFailure();
    }
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa_and_nonnull<bitnet::BitNetDialect>(op->getDialect()) &&
          !isa<bitnet::WeightOp, bitnet::QuantizeWeightOp, bitnet::MathOp, bitnet::PowOp>(op))
        ops.push_back(op);
    });
    Converter converter{OpBuilder(&getContext()), head};
    llvm::SmallPtrSet<Operation *, 16> erased;
    for (Operation *op : ops) {
      if (erased.contains(op))
        continue;
      if (auto matmul = dyn_cast<bitnet::MatmulOp>(op))
        for (Operation *user : matmul.getAcc().getUsers())
          if (isa<bitnet::DequantizeOp>(user))
            erased.insert(user);
      if (failed(converter.convert(op)))
        return signalPassFailure();
      op->erase();
    }
  }
};
} // namespace
