//===- BitNetQuantizeHead.cpp - the head in 8 bits --------------------------------===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"

#include "llvm/ADT/SmallPtrSet.h"

namespace setun {
#define GEN_PASS_DEF_BITNETQUANTIZEHEAD
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::bitnet;

namespace {
/// Rows of zeros, as of a padded vocabulary, need a scale that is not 0.
constexpr float kWeightEps = 1e-30f, kActivationEps = 1e-5f;

/// What tells matrices apart; null for a matrix that cannot be quantised.
Attribute keyOf(Value matrix) {
  if (auto weight = matrix.getDefiningOp<WeightOp>())
    return weight.getNameAttr();
  DenseFPElementsAttr constant;
  return matchPattern(matrix, m_Constant(&constant)) ? Attribute(constant) : Attribute();
}

struct BitNetQuantizeHead : public setun::impl::BitNetQuantizeHeadBase<BitNetQuantizeHead> {
  void runOnOperation() override;

  /// The product of `x` and the rows of `matrix` in 8 bits.
  Value product(OpBuilder &b, Location loc, Value x, Value matrix, Value bias, Type result);
};

Value BitNetQuantizeHead::product(OpBuilder &b, Location loc, Value x, Value matrix, Value bias, Type result) {
  auto type = cast<RankedTensorType>(matrix.getType());
  auto rows = ScalesAttr::get(b.getContext(), ScaleKind::Rows);
  auto quantized = QuantizeWeightOp::create(b, loc, RankedTensorType::get(type.getShape(), b.getI8Type()),
                                            RankedTensorType::get({type.getDimSize(0)}, b.getF32Type()), matrix,
                                            WeightQuantAttr::get(b.getContext(), WeightQuant::Absmax),
                                            b.getF32FloatAttr(kWeightEps), rows);
  auto activation = ActQuantAttr::get(b.getContext(), ActGranularity::PerToken, 8, b.getF32FloatAttr(kActivationEps));
  ++numQuantized;
  return LinearOp::create(b, loc, result, x, quantized.getCodes(), quantized.getScale(), bias, Value(), Value(),
                          activation, rows, DirectionAttr::get(b.getContext(), Direction::Multiply),
                          BiasPlaceAttr::get(b.getContext(), BiasPlace::AfterScale), NormAttr());
}

void BitNetQuantizeHead::runOnOperation() {
  llvm::SmallPtrSet<Attribute, 2> heads;
  auto isHead = [&](Value matrix) {
    Attribute key = keyOf(matrix);
    return key && heads.contains(key);
  };
  getOperation().walk([&](TopKOp op) { heads.insert(keyOf(op.getW())); });
  getOperation().walk([&](func::ReturnOp op) {
    if (setun::isEntry(op->getParentOfType<func::FuncOp>()))
      for (Value result : op.getOperands())
        if (auto dense = result.getDefiningOp<DenseOp>())
          heads.insert(keyOf(dense.getW()));
  });
  getOperation().walk([&](Operation *op) {
    OpBuilder b(op);
    if (auto dense = dyn_cast<DenseOp>(op); dense && isHead(dense.getW())) {
      dense.replaceAllUsesWith(
          product(b, op->getLoc(), dense.getX(), dense.getW(), dense.getBias(), dense.getY().getType()));
      op->erase();
    } else if (auto choice = dyn_cast<TopKOp>(op); choice && isHead(choice.getW())) {
      int64_t rows = cast<RankedTensorType>(choice.getW().getType()).getDimSize(0);
      Value y = product(b, op->getLoc(), choice.getX(), choice.getW(), Value(),
                        RankedTensorType::get({1, rows}, b.getF32Type()));
      choice.replaceAllUsesWith(LargestOp::create(b, op->getLoc(), choice.getResultTypes(), y, choice.getK()));
      op->erase();
    }
  });
}
} // namespace
