//===- TernaryTiling.cpp - tiles of packed matmuls --------------------------------===//
//
// A matmul tiles along its tokens. Rows of weights do not tile on tensors: a panel is the smallest piece of packed
// bytes, and which panels a thread takes is the kernel's business.
//
//===----------------------------------------------------------------------===//
#include "dialects/Ternary/Ternary.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::ternary;

SmallVector<utils::IteratorType> MatmulOp::getLoopIteratorTypes() { return {utils::IteratorType::parallel}; }

SmallVector<Range> MatmulOp::getIterationDomain(OpBuilder &b) {
  return {Range{b.getIndexAttr(0), tensor::getMixedSize(b, getLoc(), getX(), 0), b.getIndexAttr(1)}};
}

/// Rows [offset, offset + size) of `value`.
static tensor::ExtractSliceOp sliceRows(OpBuilder &b, Location loc, Value value, OpFoldResult offset,
                                        OpFoldResult size) {
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<OpFoldResult> offsets(type.getRank(), b.getIndexAttr(0)), strides(type.getRank(), b.getIndexAttr(1));
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, value);
  offsets[0] = offset;
  sizes[0] = size;
  return tensor::ExtractSliceOp::create(b, loc, value, offsets, sizes, strides);
}

FailureOr<TilingResult> MatmulOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                         ArrayRef<OpFoldResult> sizes) {
  if (!isa<RankedTensorType>(getX().getType()))
    return emitOpError() << "expects tensors to tile";
  Location loc = getLoc();
  int64_t tokens = cast<ShapedType>(getX().getType()).getDimSize(0);
  auto perToken = [&](Value value) {
    // Everything but packed weights, their scales and the bias has a row for each token; one scale for all has not.
    if (value == getPacked() || value == getRowScales() || value == getBias())
      return false;
    int64_t rows = cast<ShapedType>(value.getType()).getDimSize(0);
    return value != getActScale() || rows != 1 || tokens == 1;
  };
  SmallVector<Value> operands;
  SmallVector<Operation *> slices;
  SmallVector<Type> types;
  for (OpOperand &operand : getOperation()->getOpOperands()) {
    Value value = operand.get();
    if (perToken(value)) {
      slices.push_back(sliceRows(b, loc, value, offsets[0], sizes[0]));
      value = slices.back()->getResult(0);
    }
    operands.push_back(value);
    if (cast<DestinationStyleOpInterface>(getOperation()).isDpsInit(&operand))
      types.push_back(value.getType());
  }
  Operation *tiled = mlir::clone(b, getOperation(), types, operands);
  return TilingResult{{tiled}, SmallVector<Value>(tiled->getResults()), slices};
}

LogicalResult MatmulOp::getResultTilePosition(OpBuilder &b, unsigned result, ArrayRef<OpFoldResult> offsets,
                                              ArrayRef<OpFoldResult> sizes, SmallVector<OpFoldResult> &resultOffsets,
                                              SmallVector<OpFoldResult> &resultSizes) {
  auto type = dyn_cast<RankedTensorType>(getOperation()->getResult(result).getType());
  if (!type)
    return failure();
  Value init = getDpsInitsMutable()[result].get();
  resultOffsets.assign(type.getRank(), b.getIndexAttr(0));
  resultSizes = tensor::getMixedSizes(b, getLoc(), init);
  resultOffsets[0] = offsets[0];
  resultSizes[0] = sizes[0];
  return success();
}
