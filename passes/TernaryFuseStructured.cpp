//===- TernaryFuseStructured.cpp - structured operations of one form, as few as possible ===//
#include "dialects/BitNet/ReductionOrder.h"
#include "passes/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYFUSESTRUCTURED
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;

namespace {
/// Operations of a body beyond which nothing more is fused into it: its values would not stay in registers.
constexpr size_t kLargestBody = 48;

/// Whether an operation only moves elements.
bool onlyMoves(linalg::GenericOp op) { return op.getBlock()->getOperations().size() == 1; }

/// Whether the producer of an operand should become part of the operand's owner.
bool shouldFuse(OpOperand *operand) {
  auto producer = operand->get().getDefiningOp<linalg::GenericOp>();
  auto consumer = dyn_cast<linalg::GenericOp>(operand->getOwner());
  if (!producer || !consumer)
    return false;
  if (producer.getBlock()->getOperations().size() + consumer.getBlock()->getOperations().size() > kLargestBody)
    return false;
  bool isPermuted = llvm::all_of(producer.getDpsInputOperands(), [&](OpOperand *input) {
    return producer.getMatchingIndexingMap(input).isPermutation();
  });
  // Work that would be done once more for each of several elements or users stays where it is.
  AffineMap map = consumer.getMatchingIndexingMap(operand);
  if (!onlyMoves(producer) && (!producer->hasOneUse() || !map.isPermutation()) && producer.getNumDpsInputs() > 0)
    return false;
  if (consumer.getNumReductionLoops() == 0)
    return true;
  if (!bitnet::laneCombiner(consumer)) {
    bool isLastParallel = consumer.getIteratorTypesArray().back() == utils::IteratorType::parallel;
    bool isProduct = llvm::none_of(consumer.getDpsInputOperands(), [&](OpOperand *input) {
      return consumer.getMatchingIndexingMap(input).isPermutation();
    });
    return isProduct ? onlyMoves(producer) && isPermuted : isLastParallel;
  }
  // A reduction of a tensor must remain one.
  auto isWhole = [&](OpOperand *input) {
    return input != operand && consumer.getMatchingIndexingMap(input).isPermutation();
  };
  if (llvm::any_of(consumer.getDpsInputOperands(), isWhole))
    return true;
  return map.isPermutation() && llvm::any_of(producer.getDpsInputOperands(), [&](OpOperand *input) {
           return producer.getMatchingIndexingMap(input).isPermutation();
         });
}

/// Whether a number follows from the sizes of tensors alone.
bool isSize(Value value) {
  Operation *def = value.getDefiningOp();
  if (!def)
    return false;
  if (isa<tensor::DimOp, arith::ConstantOp>(def))
    return true;
  return isa<arith::ArithDialect, affine::AffineDialect>(def->getDialect()) && llvm::all_of(def->getOperands(), isSize);
}

/// Offsets of a slice of `whole` that come from data, moved inside.
template <typename SliceOp> void clampOffsets(SliceOp slice, Value whole) {
  OpBuilder b(slice);
  Location loc = slice.getLoc();
  unsigned next = 0;
  SmallVector<OpFoldResult> sizes = slice.getMixedSizes(), strides = slice.getMixedStrides();
  for (auto [axis, offset] : llvm::enumerate(slice.getStaticOffsets())) {
    if (!ShapedType::isDynamic(offset))
      continue;
    OpOperand &operand = slice.getOffsetsMutable()[next++];
    if (isSize(operand.get()))
      continue;
    auto value = [&](OpFoldResult number) { return getValueOrCreateConstantIndexOp(b, loc, number); };
    Value one = arith::ConstantIndexOp::create(b, loc, 1), zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value steps = arith::SubIOp::create(b, loc, value(sizes[axis]), one);
    Value span = arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, steps, value(strides[axis])), one);
    Value last = arith::SubIOp::create(b, loc, tensor::DimOp::create(b, loc, whole, axis), span);
    Value inside = arith::MinSIOp::create(b, loc, operand.get(), last);
    operand.set(arith::MaxSIOp::create(b, loc, inside, zero));
  }
}

/// slice(transpose(x)) ==> transpose(slice(x)): a transpose there and back around a choice of heads then cancels out.
struct SliceBeforeTranspose : public OpRewritePattern<tensor::ExtractSliceOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(tensor::ExtractSliceOp slice, PatternRewriter &b) const override {
    auto transpose = slice.getSource().getDefiningOp<linalg::TransposeOp>();
    if (!transpose || !llvm::all_of(transpose->getUsers(), llvm::IsaPred<tensor::ExtractSliceOp>))
      return b.notifyMatchFailure(slice, "expects a transpose of which only slices are used");
    Location loc = slice.getLoc();
    ArrayRef<int64_t> order = transpose.getPermutation();
    SmallVector<OpFoldResult> offsets = slice.getMixedOffsets(), sizes = slice.getMixedSizes(),
                              strides = slice.getMixedStrides();
    applyPermutationToVector(offsets, invertPermutationVector(order));
    applyPermutationToVector(sizes, invertPermutationVector(order));
    applyPermutationToVector(strides, invertPermutationVector(order));
    // What is left of the axes of the input, and where each axis of the result is among them.
    llvm::SmallBitVector dropped = slice.getDroppedDims();
    SmallVector<int64_t> shape, place(order.size(), -1), permutation;
    for (int64_t axis = 0, rank = order.size(); axis < rank; ++axis) {
      int64_t at = llvm::find(order, axis) - order.begin();
      if (dropped[at])
        continue;
      place[axis] = shape.size();
      shape.push_back(getConstantIntValue(sizes[axis]).value_or(ShapedType::kDynamic));
    }
    for (auto [at, axis] : llvm::enumerate(order))
      if (!dropped[at])
        permutation.push_back(place[axis]);
    auto type = RankedTensorType::get(shape, slice.getType().getElementType());
    Value part = tensor::ExtractSliceOp::create(b, loc, type, transpose.getInput(), offsets, sizes, strides);
    if (llvm::is_sorted(permutation)) {
      b.replaceOpWithNewOp<tensor::CastOp>(slice, slice.getType(), part);
      return success();
    }
    SmallVector<OpFoldResult> outSizes = tensor::getMixedSizes(b, loc, part);
    applyPermutationToVector(outSizes, permutation);
    Value init = tensor::EmptyOp::create(b, loc, outSizes, type.getElementType());
    Value result = linalg::TransposeOp::create(b, loc, part, init, permutation)->getResult(0);
    if (result.getType() != slice.getType())
      result = tensor::CastOp::create(b, loc, slice.getType(), result);
    b.replaceOp(slice, result);
    return success();
  }
};

struct TernaryFuseStructured : public setun::impl::TernaryFuseStructuredBase<TernaryFuseStructured> {
  void runOnOperation() override {
    getOperation().walk([&](Operation *op) {
      if (auto insert = dyn_cast<tensor::InsertSliceOp>(op))
        clampOffsets(insert, insert.getDest());
      else if (auto extract = dyn_cast<tensor::ExtractSliceOp>(op))
        clampOffsets(extract, extract.getSource());
    });
    auto count = [&] {
      int64_t number = 0;
      getOperation().walk([&](linalg::GenericOp) { ++number; });
      return number;
    };
    RewritePatternSet slices(&getContext());
    slices.add<SliceBeforeTranspose>(&getContext());
    linalg::TransposeOp::getCanonicalizationPatterns(slices, &getContext());
    tensor::CastOp::getCanonicalizationPatterns(slices, &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(slices))))
      return signalPassFailure();
    RewritePatternSet forms(&getContext());
    tensor::populateDecomposeTensorConcatPatterns(forms);
    forms.add<linalg::DecomposePadOpPattern>(&getContext());
    linalg::populateElementwiseToLinalgConversionPatterns(forms);
    linalg::populateLinalgNamedOpsGeneralizationPatterns(forms);
    if (failed(applyPatternsGreedily(getOperation(), std::move(forms))))
      return signalPassFailure();
    int64_t before = count();
    RewritePatternSet fusions(&getContext());
    linalg::populateElementwiseOpsFusionPatterns(fusions, shouldFuse);
    linalg::GenericOp::getCanonicalizationPatterns(fusions, &getContext());
    tensor::EmptyOp::getCanonicalizationPatterns(fusions, &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(fusions))))
      return signalPassFailure();
    numFused += before - count();
  }
};
} // namespace
