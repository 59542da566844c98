//===- BitNetOps.cpp - verifiers of the bitnet operations -----------------------===//
//
// Each check names the constraint (C1, C2, ...) of the operation's description that it enforces.
//
//===----------------------------------------------------------------------===//
#include "dialects/BitNet/BitNet.h"

#include "llvm/Support/CheckedArithmetic.h"

using namespace mlir;
using namespace mlir::bitnet;

#define GET_OP_CLASSES
#include "dialects/BitNet/BitNetOps.cpp.inc"

/// Dimensions agree when equal or when either is dynamic.
static bool compatible(int64_t a, int64_t b) { return a == b || ShapedType::isDynamic(a) || ShapedType::isDynamic(b); }

static LogicalResult expectRank(Operation *op, StringRef what, Type type, int64_t rank) {
  auto shaped = cast<ShapedType>(type);
  if (shaped.getRank() != rank)
    return op->emitOpError() << "expects " << what << " of rank " << rank << ", got " << type;
  return success();
}

/// Sizes from `firstDim` on are known, and there are elements.
static LogicalResult expectStatic(Operation *op, StringRef what, Type type, unsigned firstDim = 0) {
  for (int64_t dim : cast<ShapedType>(type).getShape().drop_front(firstDim)) {
    if (ShapedType::isDynamic(dim))
      return op->emitOpError() << "expects " << (firstDim ? "static inner dimensions" : "a static shape") << " of "
                               << what << ", got " << type;
    if (dim == 0)
      return op->emitOpError() << "expects sizes of at least 1 in " << what << ", got " << type;
  }
  return success();
}

/// One number for each token; their number may be unknown on either side.
static LogicalResult expectPerToken(Operation *op, StringRef what, Value value, int64_t size) {
  if (!value)
    return success();
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getRank() != 1 || !compatible(type.getDimSize(0), size)) {
    auto diag = op->emitOpError() << "expects " << what << " of shape ";
    if (ShapedType::isDynamic(size))
      diag << "?";
    else
      diag << size;
    return diag << ", got " << type;
  }
  return success();
}

static LogicalResult expectVector(Operation *op, StringRef what, Value value, int64_t size) {
  if (value && cast<RankedTensorType>(value.getType()).getShape() != ArrayRef(size))
    return op->emitOpError() << "expects " << what << " of shape " << size << ", got " << value.getType();
  return success();
}

static LogicalResult expectEps(Operation *op, const APFloat &eps) {
  if (!eps.isFinite() || eps.isNegative()) {
    SmallString<16> text;
    eps.toString(text);
    return op->emitOpError() << "expects a finite eps that is not negative, got " << text;
  }
  return success();
}

static LogicalResult expectScale(Operation *op, RankedTensorType type, ScalesAttr scales, int64_t n, int64_t k) {
  SmallVector<int64_t> shape;
  switch (scales.getKind()) {
  case ScaleKind::Tensor:
    shape = {1};
    break;
  case ScaleKind::Rows:
    shape = {scales.getRows().empty() ? n : static_cast<int64_t>(scales.getRows().size())};
    break;
  case ScaleKind::Group:
    shape = {n, groupCount(k, scales.getGroup())};
    break;
  }
  if (type.getShape() != ArrayRef(shape)) {
    auto diag = op->emitOpError() << "expects a scale of shape [";
    llvm::interleaveComma(shape, diag);
    return diag << "] for " << scales << ", got " << type;
  }
  return success();
}

static LogicalResult expectRows(Operation *op, ScalesAttr scales, int64_t n) {
  if (scales.getRows().empty())
    return success();
  int64_t sum = 0;
  for (int64_t rows : scales.getRows())
    sum = llvm::checkedAdd(sum, rows).value_or(INT64_MAX);
  if (sum != n)
    return op->emitOpError() << "expects row ranges that add up to " << n << ", got " << sum;
  return success();
}

LogicalResult bitnet::verifyScale(Operation *op, RankedTensorType type, ScalesAttr scales, int64_t n, int64_t k) {
  return failure(failed(expectScale(op, type, scales, n, k)) || failed(expectRows(op, scales, n)));
}

LogicalResult WeightOp::verify() {
  auto type = cast<RankedTensorType>(getResult().getType());
  if (failed(expectStatic(*this, "the weight", type))) // C2
    return failure();
  if (getName().empty()) // C3
    return emitOpError() << "expects a name that is not empty";
  if (type.getElementType().isInteger() && failed(expectRank(*this, "a ternary or binary weight", type, 2))) // C4
    return failure();
  return success();
}

LogicalResult QuantizeWeightOp::verify() {
  auto masters = cast<RankedTensorType>(getMasters().getType());
  auto codes = cast<RankedTensorType>(getCodes().getType());
  unsigned bits = getMethod() == WeightQuant::Absmean ? 2 : getMethod() == WeightQuant::Sign ? 1 : 8;
  if (!codes.getElementType().isInteger(bits)) // C1
    return emitOpError() << "expects i" << bits << " codes from " << stringifyWeightQuant(getMethod()) << ", got "
                         << codes;
  if (failed(expectRank(*this, "masters", masters, 2)) || failed(expectStatic(*this, "masters", masters))) // C5
    return failure();
  if (codes.getShape() != masters.getShape()) // C2
    return emitOpError() << "expects codes of the shape of " << masters << ", got " << codes;
  bool rows = getGranularity().getKind() == ScaleKind::Rows;
  if (getMethod() == WeightQuant::Absmax) { // C3, C4
    if (!rows || !getGranularity().getRows().empty())
      return emitOpError() << "expects a scale per row, got " << getGranularity();
    if (!(getEps().convertToFloat() >= 1e-30f))
      return emitOpError() << "expects an eps of at least 1e-30 for absmax";
  } else if (rows) { // C3
    return emitOpError() << "expects scales per tensor or group, got " << getGranularity();
  }
  if (failed(expectScale(*this, cast<RankedTensorType>(getScale().getType()), getGranularity(), masters.getDimSize(0),
                         masters.getDimSize(1)))) // C3
    return failure();
  return expectEps(*this, getEps()); // C4
}

LogicalResult LinearOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto w = cast<RankedTensorType>(getW().getType());
  auto y = cast<RankedTensorType>(getY().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectRank(*this, "w", w, 2)) ||
      failed(expectRank(*this, "y", y, 2)) || failed(expectStatic(*this, "w", w))) // C1
    return failure();
  int64_t n = w.getDimSize(0), k = w.getDimSize(1);
  if (x.getDimSize(1) != k) // C1
    return emitOpError() << "expects x with " << k << " columns as w has, got " << x;
  if (y.getDimSize(1) != n || !compatible(y.getDimSize(0), x.getDimSize(0))) // C1
    return emitOpError() << "expects a result of " << x.getDimSize(0) << "x" << n << ", got " << y;
  if (failed(expectScale(*this, cast<RankedTensorType>(getScale().getType()), getScales(), n, k)) || // C2
      failed(expectRows(*this, getScales(), n)) ||                                                   // C3
      failed(expectVector(*this, "bias", getBias(), n)) ||                                           // C4
      failed(expectVector(*this, "norm weight", getNormWeight(), k)) ||                              // C5
      failed(expectVector(*this, "norm bias", getNormBias(), k)))                                    // C5
    return failure();
  NormKind norm = getNorm() ? getNorm()->getKind() : NormKind::None;
  if (getNormWeight() && norm == NormKind::None) // C5
    return emitOpError() << "expects a norm for its norm weight, got none";
  if (getNormBias() && norm != NormKind::Layer) // C5
    return emitOpError() << "expects a layer norm for its norm bias, got " << stringifyNormKind(norm);
  int64_t most = maxColumns(w.getElementTypeBitWidth());
  if (getActivation() && k > most) // C6
    return emitOpError() << "expects at most " << most << " columns, got " << k;
  if (getBiasPlace() == BiasPlace::BeforeScale && (!getBias() || getScales().getKind() == ScaleKind::Group)) // C7
    return emitOpError() << "expects a bias and no groups with before_scale";
  return success();
}

LogicalResult QuantizeOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto codes = cast<RankedTensorType>(getCodes().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectStatic(*this, "x", x, 1))) // C1
    return failure();
  if (x.getShape() != codes.getShape()) // C1
    return emitOpError() << "expects codes of the shape of " << x << ", got " << codes;
  int64_t scales = getActivation().getGranularity() == ActGranularity::PerToken ? x.getDimSize(0) : 1;
  if (failed(expectPerToken(*this, "a scale", getScale(), scales))) // C2
    return failure();
  return expectPerToken(*this, "sums", getSums(), x.getDimSize(0)); // C3
}

LogicalResult MatmulOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto w = cast<RankedTensorType>(getW().getType());
  auto acc = cast<RankedTensorType>(getAcc().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectRank(*this, "w", w, 2)) ||
      failed(expectStatic(*this, "w", w))) // C1
    return failure();
  int64_t n = w.getDimSize(0), k = w.getDimSize(1);
  if (x.getDimSize(1) != k) // C1
    return emitOpError() << "expects x with " << k << " columns as w has, got " << x;
  int64_t group = getGroup().value_or(4); // as signed: the accessor is unsigned
  if (group <= 0 || group % 4)            // C5
    return emitOpError() << "expects a group that is a positive multiple of 4, got " << group;
  SmallVector<int64_t> shape = {x.getDimSize(0), n};
  if (getGroup())
    shape.push_back(groupCount(k, group));
  if (acc.getRank() != static_cast<int64_t>(shape.size()) || !compatible(acc.getDimSize(0), shape[0]) ||
      acc.getShape().drop_front() != ArrayRef(shape).drop_front()) { // C1
    auto diag = emitOpError() << "expects an accumulator of shape [";
    llvm::interleaveComma(shape, diag);
    return diag << "], got " << acc;
  }
  bool coded = x.getElementType().isInteger(8);
  if (acc.getElementType().isF32() == coded) // C2
    return emitOpError() << "expects an accumulator of " << (coded ? "i32" : "f32") << " for " << x << ", got " << acc;
  if (static_cast<bool>(getSums()) != coded) // C2
    return emitOpError() << "expects sums with i8 codes and none with f32 activations";
  if (failed(expectPerToken(*this, "sums", getSums(), x.getDimSize(0)))) // C3
    return failure();
  int64_t most = maxColumns(w.getElementTypeBitWidth());
  if (coded && k > most) // C4
    return emitOpError() << "expects at most " << most << " columns, got " << k;
  return success();
}

LogicalResult DequantizeOp::verify() {
  auto acc = cast<RankedTensorType>(getAcc().getType());
  auto y = cast<RankedTensorType>(getY().getType());
  bool grouped = getScales().getKind() == ScaleKind::Group;
  if (failed(expectRank(*this, "acc", acc, grouped ? 3 : 2)) || failed(expectRank(*this, "y", y, 2)) ||
      failed(expectStatic(*this, "acc", acc, 1))) // C1
    return failure();
  if (!compatible(acc.getDimSize(0), y.getDimSize(0)) || acc.getDimSize(1) != y.getDimSize(1)) // C1
    return emitOpError() << "expects a result of the rows and columns of " << acc << ", got " << y;
  int64_t n = y.getDimSize(1);
  auto scale = cast<RankedTensorType>(getScale().getType());
  if (grouped) { // C2
    if (scale.getRank() != 2 || scale.getDimSize(0) != n || scale.getDimSize(1) != acc.getDimSize(2))
      return emitOpError() << "expects a scale of shape [" << n << ", " << acc.getDimSize(2) << "] for " << getScales()
                           << ", got " << scale;
  } else if (failed(expectScale(*this, scale, getScales(), n, /*k=*/0))) {
    return failure();
  }
  if (failed(expectVector(*this, "bias", getBias(), n))) // C3
    return failure();
  if (Value actScale = getActScale()) { // C4
    auto type = cast<RankedTensorType>(actScale.getType());
    if (type.getRank() != 1 || (type.getDimSize(0) != 1 && !compatible(type.getDimSize(0), acc.getDimSize(0))))
      return emitOpError() << "expects an activation scale per token or one, got " << type;
  }
  if (getBiasPlace() == BiasPlace::BeforeScale && (!getBias() || grouped)) // C6
    return emitOpError() << "expects a bias and no groups with before_scale";
  return expectRows(*this, getScales(), n); // C5
}

LogicalResult RmsNormOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectStatic(*this, "x", x, 1)) ||
      failed(expectVector(*this, "a weight", getWeight(), x.getDimSize(1)))) // C1
    return failure();
  return expectEps(*this, getEps()); // C2
}

LogicalResult LayerNormOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectStatic(*this, "x", x, 1)) ||
      failed(expectVector(*this, "a weight", getWeight(), x.getDimSize(1))) ||
      failed(expectVector(*this, "a bias", getBias(), x.getDimSize(1)))) // C1
    return failure();
  return expectEps(*this, getEps()); // C2
}

LogicalResult RotaryOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto cos = cast<RankedTensorType>(getCos().getType());
  if (failed(expectRank(*this, "x", x, 3)) || failed(expectStatic(*this, "x", x, 1)) ||
      failed(expectRank(*this, "tables", cos, 2)) || failed(expectStatic(*this, "tables", cos)))
    return failure();
  if (x.getDimSize(2) % 2) // C1
    return emitOpError() << "expects an even head size, got " << x.getDimSize(2);
  if (cos.getDimSize(1) * 2 != x.getDimSize(2)) // C2
    return emitOpError() << "expects tables with " << x.getDimSize(2) / 2 << " columns, got " << cos;
  return success();
}

LogicalResult CacheUpdateOp::verify() {
  auto cache = cast<RankedTensorType>(getCache().getType());
  auto rows = cast<RankedTensorType>(getRows().getType());
  if (failed(expectRank(*this, "the cache", cache, 3)) || failed(expectRank(*this, "rows", rows, 3)) ||
      failed(expectStatic(*this, "the cache", cache, 1)))
    return failure();
  if (cache.getShape().drop_front() != rows.getShape().drop_front()) // C1
    return emitOpError() << "expects rows with the heads and head size of " << cache << ", got " << rows;
  return success();
}

LogicalResult AttentionOp::verify() {
  auto q = cast<RankedTensorType>(getQ().getType());
  auto k = cast<RankedTensorType>(getK().getType());
  if (failed(expectRank(*this, "q", q, 3)) || failed(expectRank(*this, "k", k, 3)) ||
      failed(expectStatic(*this, "q", q, 1)) || failed(expectStatic(*this, "k", k, 1)))
    return failure();
  if (q.getDimSize(2) != k.getDimSize(2)) // C1
    return emitOpError() << "expects keys of head size " << q.getDimSize(2) << ", got " << k;
  if (q.getDimSize(2) > kMaxHeadSize) // C1
    return emitOpError() << "expects heads of at most " << kMaxHeadSize << " elements, got " << q;
  if (q.getDimSize(1) % k.getDimSize(1)) // C2
    return emitOpError() << "expects a number of query heads that is a multiple of " << k.getDimSize(1) << ", got "
                         << q.getDimSize(1);
  if (!getScale().isFinite()) // C3
    return emitOpError() << "expects a finite scale";
  return success();
}

LogicalResult GatedOp::verify() {
  if (failed(expectRank(*this, "gate", getGate().getType(), 2)))
    return failure();
  return expectStatic(*this, "gate", getGate().getType(), 1); // C1
}

LogicalResult EmbeddingOp::verify() {
  auto table = cast<RankedTensorType>(getTable().getType());
  auto tokens = cast<RankedTensorType>(getTokens().getType());
  auto y = cast<RankedTensorType>(getY().getType());
  if (failed(expectRank(*this, "the table", table, 2)) || failed(expectStatic(*this, "the table", table)) ||
      failed(expectRank(*this, "tokens", tokens, 1)) || failed(expectRank(*this, "y", y, 2)))
    return failure();
  if (y.getDimSize(1) != table.getDimSize(1) || !compatible(y.getDimSize(0), tokens.getDimSize(0))) // C1
    return emitOpError() << "expects a result of " << tokens.getDimSize(0) << "x" << table.getDimSize(1) << ", got "
                         << y;
  return success();
}

LogicalResult DenseOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto w = cast<RankedTensorType>(getW().getType());
  auto y = cast<RankedTensorType>(getY().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectRank(*this, "w", w, 2)) ||
      failed(expectRank(*this, "y", y, 2)) || failed(expectStatic(*this, "w", w)))
    return failure();
  if (x.getDimSize(1) != w.getDimSize(1)) // C1
    return emitOpError() << "expects x with " << w.getDimSize(1) << " columns as w has, got " << x;
  if (y.getDimSize(1) != w.getDimSize(0) || !compatible(y.getDimSize(0), x.getDimSize(0))) // C1
    return emitOpError() << "expects a result of " << x.getDimSize(0) << "x" << w.getDimSize(0) << ", got " << y;
  return expectVector(*this, "bias", getBias(), w.getDimSize(0)); // C2
}

/// k of one element, and two results of one length that is allowed.
template <typename Op> static LogicalResult verifyChoice(Op op) {
  if (cast<RankedTensorType>(op.getK().getType()).getShape() != ArrayRef<int64_t>({1}))
    return op.emitOpError() << "expects k of one element, got " << op.getK().getType();
  auto ids = cast<RankedTensorType>(op.getIds().getType());
  if (ids.getRank() != 1 || ids.getDimSize(0) < 1 || ids.getDimSize(0) > TopKOp::kLongest ||
      ids.getShape() != cast<RankedTensorType>(op.getLogits().getType()).getShape())
    return op.emitOpError() << "expects results of the same length in [1, " << TopKOp::kLongest << "], got " << ids
                            << " and " << op.getLogits().getType();
  return success();
}

LogicalResult TopKOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto w = cast<RankedTensorType>(getW().getType());
  if (failed(expectRank(*this, "w", w, 2)) || failed(expectStatic(*this, "w", w)))
    return failure();
  if (x.getShape() != ArrayRef<int64_t>({1, w.getDimSize(1)})) // C1
    return emitOpError() << "expects one row of x with " << w.getDimSize(1) << " columns as w has, got " << x;
  return verifyChoice(*this); // C1, C2
}

LogicalResult LargestOp::verify() {
  auto y = cast<RankedTensorType>(getY().getType());
  if (failed(expectRank(*this, "y", y, 2)) || failed(expectStatic(*this, "y", y))) // C1
    return failure();
  if (y.getDimSize(0) != 1) // C1
    return emitOpError() << "expects one row of logits, got " << y;
  return verifyChoice(*this); // C1, C2
}

LogicalResult HadamardOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  if (failed(expectRank(*this, "x", x, 2)) || failed(expectStatic(*this, "x", x, 1))) // C1
    return failure();
  int64_t block = getBlock();
  if (block <= 0 || (block & (block - 1)) || x.getDimSize(1) % block) // C2
    return emitOpError() << "expects a block that is a power of two and divides " << x.getDimSize(1) << ", got "
                         << block;
  return success();
}

LogicalResult SoftmaxOp::verify() {
  if (getX().getType().getRank() == 0) // C1
    return emitOpError() << "expects a tensor of rank 1 or more, got " << getX().getType();
  return success();
}

LogicalResult BatchAttentionOp::verify() {
  auto q = cast<RankedTensorType>(getQ().getType());
  auto k = cast<RankedTensorType>(getK().getType());
  if (failed(expectRank(*this, "q", q, 4)) || failed(expectRank(*this, "k", k, 4)) ||
      failed(expectStatic(*this, "q", q, 2)) || failed(expectStatic(*this, "k", k, 2))) // C1
    return failure();
  if (!compatible(q.getDimSize(0), k.getDimSize(0)) || q.getDimSize(3) != k.getDimSize(3)) // C1
    return emitOpError() << "expects keys with the samples and the head size of " << q << ", got " << k;
  if (q.getDimSize(3) > kMaxHeadSize) // C1
    return emitOpError() << "expects heads of at most " << kMaxHeadSize << " elements, got " << q;
  if (q.getDimSize(2) % k.getDimSize(2)) // C2
    return emitOpError() << "expects a number of query heads that is a multiple of " << k.getDimSize(2) << ", got "
                         << q.getDimSize(2);
  if (!getScale().isFinite()) // C3
    return emitOpError() << "expects a finite scale";
  if (!getMask())
    return success();
  auto mask = cast<RankedTensorType>(getMask().getType());
  if (failed(expectRank(*this, "a mask", mask, 4))) // C4
    return failure();
  auto serves = [](int64_t size, int64_t all) { return size == 1 || compatible(size, all); };
  if (!serves(mask.getDimSize(0), q.getDimSize(0)) || !serves(mask.getDimSize(1), q.getDimSize(2)) ||
      !compatible(mask.getDimSize(2), q.getDimSize(1)) || !compatible(mask.getDimSize(3), k.getDimSize(1))) // C4
    return emitOpError() << "expects a mask that fits queries " << q << " and keys " << k << ", got " << mask;
  return success();
}

LogicalResult Conv2DOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType());
  auto w = cast<RankedTensorType>(getW().getType());
  auto y = cast<RankedTensorType>(getY().getType());
  if (failed(expectRank(*this, "x", x, 4)) || failed(expectRank(*this, "y", y, 4)) ||
      failed(expectRank(*this, "w", w, 2)) || failed(expectStatic(*this, "x", x, 1)) ||
      failed(expectStatic(*this, "w", w))) // C1, C2
    return failure();
  auto expectNumbers = [&](StringRef what, ArrayRef<int64_t> values, size_t count, int64_t least) -> LogicalResult {
    constexpr int64_t most = INT32_MAX;
    if (values.size() == count && llvm::all_of(values, [&](int64_t value) { return value >= least && value <= most; }))
      return success();
    auto diag = emitOpError() << "expects " << count << " numbers in [" << least << ", " << most << "] as " << what
                              << ", got [";
    llvm::interleaveComma(values, diag);
    return diag << "]";
  };
  if (failed(expectNumbers("kernel", getKernel(), 2, 1)) || failed(expectNumbers("strides", getStrides(), 2, 1)) ||
      failed(expectNumbers("dilations", getDilations(), 2, 1)) ||
      failed(expectNumbers("padding", getPadding(), 4, 0))) // C3
    return failure();
  int64_t channels = x.getDimSize(1), outputs = w.getDimSize(0), groups = getGroups();
  if (groups < 1 || channels % groups || outputs % groups) // C4
    return emitOpError() << "expects groups that divide " << channels << " and " << outputs << ", got " << groups;
  int64_t columns = llvm::checkedMul(channels / groups, getKernel()[0] * getKernel()[1]).value_or(INT64_MAX);
  if (int64_t most = maxColumns(w.getElementTypeBitWidth()); columns > most) // C5
    return emitOpError() << "expects at most " << most << " columns, got " << columns;
  if (w.getDimSize(1) != columns) // C2
    return emitOpError() << "expects weights with " << columns << " columns, got " << w;
  if (!compatible(y.getDimSize(0), x.getDimSize(0)) || y.getDimSize(1) != outputs ||
      y.getDimSize(2) != getOutputSize(0) || y.getDimSize(3) != getOutputSize(1) || getOutputSize(0) < 1 ||
      getOutputSize(1) < 1) // C1
    return emitOpError() << "expects a result of Bx" << outputs << "x" << getOutputSize(0) << "x" << getOutputSize(1)
                         << ", got " << y;
  if (getScales().getKind() == ScaleKind::Group) // C5
    return emitOpError() << "expects scales per tensor or rows, got " << getScales();
  auto scale = cast<RankedTensorType>(getScale().getType());
  return failure(failed(verifyScale(*this, scale, getScales(), outputs, columns)) ||
                 failed(expectVector(*this, "bias", getBias(), outputs))); // C5
}
