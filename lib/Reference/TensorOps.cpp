//===- TensorOps.cpp - evaluators of func, cf, tensor and linalg -----------------===//
#include "lib/Reference/Interpreter.h"

#include "dialects/BitNet/ReductionOrder.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace setun;
using namespace setun::reference;

/// Offsets, sizes and strides where some are attributes and the others operands.
static Shape mixed(ArrayRef<OpFoldResult> values, Frame &frame) {
  Shape result;
  for (OpFoldResult value : values) {
    if (auto attr = dyn_cast<Attribute>(value))
      result.push_back(cast<IntegerAttr>(attr).getInt());
    else
      result.push_back(frame.getInt(cast<mlir::Value>(value)));
  }
  return result;
}

static Shape indices(ValueRange values, Frame &frame) {
  Shape result;
  for (mlir::Value value : values)
    result.push_back(frame.getInt(value));
  return result;
}

static Type elementOf(mlir::Value value) { return getElementTypeOrSelf(value.getType()); }

/// Shape of a result with the dynamic dimensions in `sizes`.
static Shape shapeWith(mlir::Value result, ValueRange sizes, Frame &frame) {
  Shape shape(cast<ShapedType>(result.getType()).getShape());
  size_t next = 0;
  for (int64_t &dim : shape)
    if (ShapedType::isDynamic(dim))
      dim = frame.getInt(sizes[next++]);
  return shape;
}

static LogicalResult checkShape(Operation *op, ArrayRef<int64_t> shape) {
  for (int64_t dim : shape)
    if (dim < 0)
      return op->emitOpError() << "expects sizes that are not negative, got " << dim;
  return success();
}

static LogicalResult checkIndex(Operation *op, ArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  for (auto [i, dim] : llvm::zip(index, shape))
    if (i < 0 || i >= dim)
      return op->emitOpError() << "expects an index in [0, " << dim << "), got " << i;
  return success();
}

//===----------------------------------------------------------------------===//
// Creation and elements
//===----------------------------------------------------------------------===//

static LogicalResult evaluateCall(func::CallOp op, Frame &frame) {
  auto callee = frame.run.module.lookupSymbol<func::FuncOp>(op.getCallee());
  if (!callee)
    return op.emitOpError() << "calls @" << op.getCallee() << ", which is not there";
  SmallVector<Tensor> args, results;
  for (mlir::Value operand : op.getOperands())
    args.push_back(frame.get(operand));
  if (failed(frame.run.call(callee, args, results)))
    return failure();
  for (auto [result, value] : llvm::zip(op.getResults(), results))
    frame.set(result, value);
  return success();
}

static LogicalResult evaluateAssert(cf::AssertOp op, Frame &frame) {
  return frame.getInt(op.getArg()) ? success() : op.emitError() << op.getMsg();
}

static LogicalResult evaluateEmpty(tensor::EmptyOp op, Frame &frame) {
  Shape shape = shapeWith(op.getResult(), op.getDynamicSizes(), frame);
  if (failed(checkShape(op, shape)))
    return failure();
  frame.set(op.getResult(), Tensor(elementOf(op.getResult()), shape));
  return success();
}

static LogicalResult evaluateDim(tensor::DimOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSource());
  int64_t axis = frame.getInt(op.getIndex());
  if (failed(checkIndex(op, {axis}, {source.rank()})))
    return failure();
  frame.set(op.getResult(), Tensor::scalar(op.getType(), source.dim(axis)));
  return success();
}

static LogicalResult evaluateExtract(tensor::ExtractOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getTensor());
  Shape index = indices(op.getIndices(), frame);
  if (failed(checkIndex(op, index, source.shape())))
    return failure();
  Tensor result(source.elementType(), {});
  result.copyElement(0, source, flatten(index, source.shape()));
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateInsert(tensor::InsertOp op, Frame &frame) {
  const Tensor &dest = frame.get(op.getDest());
  Shape index = indices(op.getIndices(), frame);
  if (failed(checkIndex(op, index, dest.shape())))
    return failure();
  Tensor result = dest.clone();
  result.copyElement(flatten(index, dest.shape()), frame.get(op.getScalar()), 0);
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateFromElements(tensor::FromElementsOp op, Frame &frame) {
  Tensor result(elementOf(op.getResult()), op.getType().getShape());
  for (auto [i, element] : llvm::enumerate(op.getElements()))
    result.copyElement(i, frame.get(element), 0);
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateSplat(tensor::SplatOp op, Frame &frame) {
  Shape shape = shapeWith(op.getAggregate(), op.getDynamicSizes(), frame);
  if (failed(checkShape(op, shape)))
    return failure();
  Tensor result(elementOf(op.getAggregate()), shape);
  for (int64_t i = 0; i < result.size(); ++i)
    result.copyElement(i, frame.get(op.getInput()), 0);
  frame.set(op.getAggregate(), result);
  return success();
}

static LogicalResult evaluateGenerate(tensor::GenerateOp op, Frame &frame) {
  Shape shape = shapeWith(op.getResult(), op.getDynamicExtents(), frame);
  if (failed(checkShape(op, shape)))
    return failure();
  Tensor result(elementOf(op.getResult()), shape);
  Block &body = op.getBody().front();
  Shape index(shape.size(), 0);
  for (int64_t i = 0; i < result.size(); ++i, advance(index, shape)) {
    for (auto [argument, value] : llvm::zip(body.getArguments(), index))
      frame.set(argument, Tensor::scalar(argument.getType(), value));
    SmallVector<Tensor> yielded;
    if (failed(frame.evaluate(body, yielded)))
      return failure();
    result.copyElement(i, yielded[0], 0);
  }
  frame.set(op.getResult(), result);
  return success();
}

//===----------------------------------------------------------------------===//
// Parts and shapes
//===----------------------------------------------------------------------===//

/// Checks that a slice lies inside a tensor of shape `shape`.
static LogicalResult checkSlice(Operation *op, ArrayRef<int64_t> offsets, ArrayRef<int64_t> sizes,
                                ArrayRef<int64_t> strides, ArrayRef<int64_t> shape) {
  if (failed(checkShape(op, sizes)))
    return failure();
  for (auto [offset, size, stride, dim] : llvm::zip(offsets, sizes, strides, shape)) {
    int64_t last = offset + (size - 1) * stride;
    if (size > 0 && (offset < 0 || offset >= dim || last < 0 || last >= dim))
      return op->emitOpError() << "expects a slice within " << dim << " elements, got " << size << " from " << offset
                               << " with stride " << stride;
  }
  return success();
}

/// Calls `visit(inside, outside)` with the positions of each element of a slice, in the slice and in the whole.
template <typename Fn>
static void forEachInSlice(ArrayRef<int64_t> offsets, ArrayRef<int64_t> sizes, ArrayRef<int64_t> strides,
                           ArrayRef<int64_t> shape, Fn &&visit) {
  if (llvm::is_contained(sizes, 0))
    return;
  Shape index(sizes.size(), 0), outside(sizes.size(), 0);
  int64_t inside = 0;
  do {
    for (size_t axis = 0; axis < sizes.size(); ++axis)
      outside[axis] = offsets[axis] + index[axis] * strides[axis];
    visit(inside++, flatten(outside, shape));
  } while (advance(index, sizes));
}

static LogicalResult evaluateExtractSlice(tensor::ExtractSliceOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSource());
  Shape offsets = mixed(op.getMixedOffsets(), frame), sizes = mixed(op.getMixedSizes(), frame),
        strides = mixed(op.getMixedStrides(), frame);
  if (failed(checkSlice(op, offsets, sizes, strides, source.shape())))
    return failure();
  llvm::SmallBitVector dropped = op.getDroppedDims();
  Shape shape;
  for (auto [axis, size] : llvm::enumerate(sizes))
    if (!dropped.test(axis))
      shape.push_back(size);
  Tensor result(source.elementType(), shape);
  forEachInSlice(offsets, sizes, strides, source.shape(),
                 [&](int64_t inside, int64_t outside) { result.copyElement(inside, source, outside); });
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateInsertSlice(tensor::InsertSliceOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSource()), &dest = frame.get(op.getDest());
  Shape offsets = mixed(op.getMixedOffsets(), frame), sizes = mixed(op.getMixedSizes(), frame),
        strides = mixed(op.getMixedStrides(), frame);
  if (failed(checkSlice(op, offsets, sizes, strides, dest.shape())))
    return failure();
  int64_t elements = 1;
  for (int64_t size : sizes)
    elements *= size;
  if (elements != source.size())
    return op.emitOpError() << "expects a source of " << elements << " elements, got " << source.typeString();
  Tensor result = dest.clone();
  forEachInSlice(offsets, sizes, strides, dest.shape(),
                 [&](int64_t inside, int64_t outside) { result.copyElement(outside, source, inside); });
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateExpandShape(tensor::ExpandShapeOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSrc());
  Shape shape = mixed(op.getMixedOutputShape(), frame);
  int64_t elements = 1;
  for (int64_t dim : shape)
    elements *= dim;
  if (failed(checkShape(op, shape)))
    return failure();
  if (elements != source.size())
    return op.emitOpError() << "expects a shape of " << source.size() << " elements, got " << elements;
  frame.set(op.getResult(), source.reshaped(shape));
  return success();
}

static LogicalResult evaluateCollapseShape(tensor::CollapseShapeOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSrc());
  Shape shape;
  for (const ReassociationIndices &axes : op.getReassociationIndices()) {
    int64_t dim = 1;
    for (int64_t axis : axes)
      dim *= source.dim(axis);
    shape.push_back(dim);
  }
  frame.set(op.getResult(), source.reshaped(shape));
  return success();
}

static LogicalResult evaluatePad(tensor::PadOp op, Frame &frame) {
  const Tensor source = frame.get(op.getSource()); // a copy: the frame moves its values when it grows
  Shape low = mixed(op.getMixedLowPad(), frame), high = mixed(op.getMixedHighPad(), frame), shape;
  mlir::Value padding = op.getConstantPaddingValue();
  if (!padding)
    return op.emitOpError() << "expects one value as padding";
  if (!frame.has(padding) && failed(frame.run.evaluate(padding.getDefiningOp(), frame)))
    return failure();
  for (int64_t axis = 0; axis < source.rank(); ++axis)
    shape.push_back(low[axis] + source.dim(axis) + high[axis]);
  if (failed(checkShape(op, low)) || failed(checkShape(op, high)))
    return failure();
  Tensor result(source.elementType(), shape);
  for (int64_t i = 0; i < result.size(); ++i)
    result.copyElement(i, frame.get(padding), 0);
  forEachInSlice(low, source.shape(), Shape(source.rank(), 1), shape,
                 [&](int64_t inside, int64_t outside) { result.copyElement(outside, source, inside); });
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateConcat(tensor::ConcatOp op, Frame &frame) {
  int64_t axis = op.getDim();
  Shape shape(frame.get(op.getInputs()[0]).shape());
  shape[axis] = 0;
  for (mlir::Value input : op.getInputs()) {
    const Tensor &part = frame.get(input);
    for (int64_t i = 0; i < part.rank(); ++i)
      if (i != axis && part.dim(i) != shape[i])
        return op.emitOpError() << "expects inputs that agree but in dimension " << axis << ", got "
                                << part.typeString();
    shape[axis] += part.dim(axis);
  }
  Tensor result(elementOf(op.getResult()), shape);
  Shape offsets(shape.size(), 0), strides(shape.size(), 1);
  for (mlir::Value input : op.getInputs()) {
    const Tensor &part = frame.get(input);
    forEachInSlice(offsets, part.shape(), strides, shape,
                   [&](int64_t inside, int64_t outside) { result.copyElement(outside, part, inside); });
    offsets[axis] += part.dim(axis);
  }
  frame.set(op.getResult(), result);
  return success();
}

//===----------------------------------------------------------------------===//
// Structured operations
//===----------------------------------------------------------------------===//

static int64_t evaluateExpr(AffineExpr expr, ArrayRef<int64_t> index) {
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return index[dim.getPosition()];
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return constant.getValue();
  auto binary = cast<AffineBinaryOpExpr>(expr);
  int64_t a = evaluateExpr(binary.getLHS(), index), b = evaluateExpr(binary.getRHS(), index);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return a + b;
  case AffineExprKind::Mul:
    return a * b;
  case AffineExprKind::Mod:
    return ((a % b) + b) % b;
  case AffineExprKind::FloorDiv:
    return llvm::divideFloorSigned(a, b);
  case AffineExprKind::CeilDiv:
    return llvm::divideCeilSigned(a, b);
  default:
    llvm_unreachable("indexing maps have no symbols");
  }
}

namespace {
/// A structured operation at work: its operands, and its body at one point of the iteration space after another.
class Structured {
public:
  Structured(linalg::LinalgOp op, Frame &frame) : op(op), frame(frame), maps(op.getIndexingMapsArray()) {
    for (OpOperand &operand : op->getOpOperands()) {
      const Tensor &value = frame.get(operand.get());
      operands.push_back(op.isDpsInit(&operand) ? value.clone() : value);
    }
    positions.resize(operands.size());
  }

  LogicalResult run();

private:
  LogicalResult findRanges();
  /// Sets the body's arguments for a point.
  LogicalResult bind(ArrayRef<int64_t> index);
  LogicalResult runInOrder();
  LogicalResult runByLanes(Operation *combiner);
  /// combiner(a, b).
  LogicalResult combine(Operation *combiner, const Tensor &a, const Tensor &b, Tensor &result);
  /// Calls `body` for each point of the iteration space, the last loop fastest.
  LogicalResult forEachPoint(function_ref<LogicalResult(ArrayRef<int64_t> index)> body);

  linalg::LinalgOp op;
  Frame &frame;
  SmallVector<AffineMap> maps;
  std::vector<Tensor> operands;
  std::vector<int64_t> positions; // of the operands' elements at the point at hand
  Shape ranges;
};
} // namespace

/// Loop ranges from the operands' shapes, all of which must agree.
LogicalResult Structured::findRanges() {
  ranges.assign(op.getNumLoops(), -1);
  for (auto [map, operand] : llvm::zip(maps, operands))
    for (auto [axis, expr] : llvm::enumerate(map.getResults()))
      if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
        int64_t &range = ranges[dim.getPosition()];
        if (range >= 0 && range != operand.dim(axis))
          return op.emitOpError() << "expects operands that agree on loop " << dim.getPosition() << ", got " << range
                                  << " and " << operand.dim(axis);
        range = operand.dim(axis);
      }
  if (llvm::is_contained(ranges, -1))
    return op.emitOpError() << "has a loop whose range no operand gives";
  return success();
}

LogicalResult Structured::bind(ArrayRef<int64_t> index) {
  Block &body = *op.getBlock();
  Shape element;
  frame.iteration.assign(index.begin(), index.end());
  for (auto [i, operand] : llvm::enumerate(operands)) {
    element.clear();
    for (AffineExpr expr : maps[i].getResults())
      element.push_back(evaluateExpr(expr, index));
    if (failed(checkIndex(op, element, operand.shape())))
      return failure();
    positions[i] = flatten(element, operand.shape());
    if (i < body.getNumArguments()) {
      Tensor value(operand.elementType(), {});
      value.copyElement(0, operand, positions[i]);
      frame.set(body.getArgument(i), std::move(value));
    }
  }
  return success();
}

LogicalResult Structured::forEachPoint(function_ref<LogicalResult(ArrayRef<int64_t>)> body) {
  if (llvm::is_contained(ranges, 0))
    return success();
  Shape index(ranges.size(), 0);
  do
    if (failed(body(index)))
      return failure();
  while (advance(index, ranges));
  return success();
}

LogicalResult Structured::runInOrder() {
  int64_t firstInit = op.getNumDpsInputs();
  return forEachPoint([&](ArrayRef<int64_t> index) -> LogicalResult {
    SmallVector<Tensor> yielded;
    if (failed(bind(index)) || failed(frame.evaluate(*op.getBlock(), yielded)))
      return failure();
    for (auto [i, value] : llvm::enumerate(yielded))
      operands[firstInit + i].copyElement(positions[firstInit + i], value, 0);
    return success();
  });
}

LogicalResult Structured::combine(Operation *combiner, const Tensor &a, const Tensor &b, Tensor &result) {
  frame.set(combiner->getOperand(0), a);
  frame.set(combiner->getOperand(1), b);
  if (failed(frame.run.evaluate(combiner, frame)))
    return failure();
  result = frame.get(combiner->getResult(0));
  return success();
}

LogicalResult Structured::runByLanes(Operation *combiner) {
  constexpr int64_t lanes = 16;
  Block &body = *op.getBlock();
  Tensor neutral = *Tensor::fromAttribute(*arith::getNeutralElement(combiner));
  llvm::DenseMap<int64_t, std::vector<Tensor>> gathered; // by position of the output
  LogicalResult status = forEachPoint([&](ArrayRef<int64_t> index) -> LogicalResult {
    if (failed(bind(index)))
      return failure();
    std::vector<Tensor> &own = gathered.try_emplace(positions.back(), lanes, neutral).first->second;
    Tensor &lane = own[index.back() % lanes];
    frame.set(body.getArguments().back(), lane);
    SmallVector<Tensor> yielded;
    if (failed(frame.evaluate(body, yielded)))
      return failure();
    lane = yielded[0];
    return success();
  });
  if (failed(status))
    return failure();
  Tensor &output = operands.back();
  for (auto &[position, own] : gathered) {
    for (int64_t distance = lanes / 2; distance > 0; distance /= 2)
      for (int64_t lane = 0; lane < distance; ++lane)
        if (failed(combine(combiner, own[lane], own[lane + distance], own[lane])))
          return failure();
    Tensor old(output.elementType(), {}), result;
    old.copyElement(0, output, position);
    if (failed(combine(combiner, old, own[0], result)))
      return failure();
    output.copyElement(position, result, 0);
  }
  return success();
}

LogicalResult Structured::run() {
  if (failed(findRanges()))
    return failure();
  Shape saved = frame.iteration;
  Operation *combiner = bitnet::laneCombiner(op);
  if (failed(combiner ? runByLanes(combiner) : runInOrder()))
    return failure();
  frame.iteration = saved;
  for (auto [i, result] : llvm::enumerate(op->getResults()))
    frame.set(result, operands[op.getNumDpsInputs() + i]);
  return success();
}

static LogicalResult evaluateStructured(linalg::LinalgOp op, Frame &frame) {
  if (!op.hasPureTensorSemantics())
    return op.emitOpError() << "is interpreted on tensors only";
  return Structured(op, frame).run();
}

void reference::addTensorEvaluators(EvaluatorTable &table) {
  table.add<func::CallOp>(evaluateCall);
  table.add<cf::AssertOp>(evaluateAssert);
  table.add<tensor::EmptyOp>(evaluateEmpty);
  table.add<tensor::DimOp>(evaluateDim);
  table.add<tensor::ExtractOp>(evaluateExtract);
  table.add<tensor::InsertOp>(evaluateInsert);
  table.add<tensor::FromElementsOp>(evaluateFromElements);
  table.add<tensor::SplatOp>(evaluateSplat);
  table.add<tensor::GenerateOp>(evaluateGenerate);
  table.add<tensor::CastOp>([](tensor::CastOp op, Frame &frame) {
    frame.set(op.getResult(), Tensor(frame.get(op.getSource())));
    return success();
  });
  table.add<tensor::ExtractSliceOp>(evaluateExtractSlice);
  table.add<tensor::InsertSliceOp>(evaluateInsertSlice);
  table.add<tensor::ExpandShapeOp>(evaluateExpandShape);
  table.add<tensor::CollapseShapeOp>(evaluateCollapseShape);
  table.add<tensor::PadOp>(evaluatePad);
  table.add<tensor::ConcatOp>(evaluateConcat);
  table.addStructured(
      [](Operation *op, Frame &frame) { return evaluateStructured(cast<linalg::LinalgOp>(op), frame); });
  table.add<linalg::IndexOp>([](linalg::IndexOp op, Frame &frame) {
    frame.set(op.getResult(), Tensor::scalar(op.getType(), frame.iteration[op.getDim()]));
    return success();
  });
}
