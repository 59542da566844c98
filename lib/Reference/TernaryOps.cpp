//===- TernaryOps.cpp - evaluators of the ternary operations on tensors and vectors ---===//
#include "lib/Reference/Formulas.h"
#include "lib/Reference/Interpreter.h"

#include "dialects/Ternary/Ternary.h"

#include <cstring>

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;
using namespace setun::reference;

static std::vector<float> floatsOf(mlir::Value value, Frame &frame) {
  return value ? frame.get(value).toFloats() : std::vector<float>();
}
static const float *orNull(const std::vector<float> &values) { return values.empty() ? nullptr : values.data(); }

/// A new tensor of the type and shape of a destination.
static Tensor likeInit(mlir::Value init, Frame &frame) {
  const Tensor &tensor = frame.get(init);
  return Tensor(tensor.elementType(), tensor.shape());
}

/// Sets the results of a destination-style operation.
static LogicalResult setResults(Operation *op, ArrayRef<Tensor> values, Frame &frame) {
  if (op->getNumResults() != values.size())
    return op->emitOpError() << "expects a result for each of its " << values.size() << " destinations, got "
                             << op->getNumResults();
  for (auto [result, value] : llvm::zip(op->getResults(), values))
    frame.set(result, value);
  return success();
}

static LogicalResult expectShape(Operation *op, StringRef what, const Tensor &tensor, ArrayRef<int64_t> shape) {
  if (tensor.shape() == shape)
    return success();
  auto diag = op->emitOpError() << "expects " << what << " of shape [";
  llvm::interleaveComma(shape, diag);
  return diag << "], got " << tensor.typeString();
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

static LogicalResult evaluatePack(PackOp op, Frame &frame) {
  std::vector<int8_t> codes;
  for (mlir::Value weight : op.getWeights())
    llvm::append_range(codes, frame.get(weight).toCodes());
  packing::PackedShape shape = packedShape(op.getLayout());
  Tensor packed(IntegerType::get(op.getContext(), 8), {shape.bytes()});
  packing::packCodes(shape, codes.data(), packed.mutableData<uint8_t>());
  frame.set(op.getPacked(), packed);
  return success();
}

static LogicalResult evaluatePackScales(PackScalesOp op, Frame &frame) {
  std::vector<std::vector<float>> stored;
  for (mlir::Value input : op.getInputs())
    stored.push_back(frame.get(input).toFloats());
  auto type = cast<RankedTensorType>(op.getPacked().getType());
  int64_t groups = type.getDimSize(1);
  Tensor packed(type.getElementType(), type.getShape());
  auto fetch = [&](int64_t row, int64_t group) {
    size_t matrix = 0;
    for (; row >= op.getRowCounts()[matrix]; ++matrix)
      row -= op.getRowCounts()[matrix];
    auto scales = cast<bitnet::ScalesAttr>(op.getScales()[matrix]);
    auto direction = cast<bitnet::DirectionAttr>(op.getDirections()[matrix]).getValue();
    return rowScale(scales, direction, stored[matrix], groups, row, group);
  };
  packing::packScales(packedShape(op.getLayout()), groups, fetch, packed.mutableData<float>());
  frame.set(op.getPacked(), packed);
  return success();
}

//===----------------------------------------------------------------------===//
// Compute
//===----------------------------------------------------------------------===//

/// Sums [T][groups] of codes[T][K], `group` of them each.
static Tensor sumsOf(const Tensor &codes, int64_t group, int64_t groups) {
  Tensor sums(IntegerType::get(codes.elementType().getContext(), 32), {codes.dim(0), groups});
  for (int64_t i = 0; i < codes.size(); ++i)
    sums.mutableData<int32_t>()[i / codes.dim(1) * groups + i % codes.dim(1) / group] += codes.data<int8_t>()[i];
  return sums;
}

static LogicalResult evaluateQuantize(QuantizeOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  int64_t t = x.dim(0), k = x.dim(1);
  std::vector<float> gain = floatsOf(op.getNormWeight(), frame), shift = floatsOf(op.getNormBias(), frame);
  std::vector<float> normed = x.toFloats();
  if (op.getNorm())
    for (int64_t row = 0; row < t; ++row)
      normalizeRow(op.getNorm()->getKind(), op.getNorm()->getEpsValue(), x.data<float>() + row * k, k, orNull(gain),
                   orNull(shift), normed.data() + row * k);
  Quantized q = quantizeActivations(op.getActivation(), normed.data(), t, k);
  Tensor codes = likeInit(op.getCodes(), frame), scale = likeInit(op.getScale(), frame),
         sums = likeInit(op.getSums(), frame);
  int64_t padded = (k + 3) / 4 * 4;
  if (failed(expectShape(op, "codes", codes, {t, padded})) ||
      failed(expectShape(op, "scale", scale, {static_cast<int64_t>(q.scale.size())})) ||
      failed(expectShape(op, "sums", sums, op.getGroup() ? Shape{t, bitnet::groupCount(k, *op.getGroup())} : Shape{t})))
    return failure();
  for (int64_t row = 0; row < t; ++row)
    std::copy_n(q.codes.data() + row * k, k, codes.mutableData<int8_t>() + row * padded);
  std::copy(q.scale.begin(), q.scale.end(), scale.mutableData<float>());
  if (op.getGroup())
    sums = sumsOf(codes, *op.getGroup(), sums.dim(1));
  else
    std::copy(q.sums.begin(), q.sums.end(), sums.mutableData<int32_t>());
  return setResults(op, {codes, scale, sums}, frame);
}

/// Codes of the packed weights, row by row of the source matrices.
static std::vector<int8_t> unpackWeights(MatmulOp op, Frame &frame) {
  packing::PackedShape shape = packedShape(op.getLayout());
  std::vector<int8_t> codes(shape.sourceRows() * shape.cols);
  packing::unpackCodes(shape, frame.get(op.getPacked()).data<uint8_t>(), codes.data());
  return codes;
}

static LogicalResult evaluateMatmul(MatmulOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  LayoutAttr layout = op.getLayout();
  packing::PackedShape shape = packedShape(layout);
  int64_t t = x.dim(0), ldx = x.dim(1), n = layout.getRows(), k = layout.getCols();
  int64_t group = op.getGroup().value_or(0), groups = op.getGroups();
  std::vector<int8_t> w = unpackWeights(op, frame);
  std::vector<float> acc;
  SmallVector<Tensor> results;
  Shape accShape = {t, n};
  if (group)
    accShape.push_back(groups);
  Tensor accTensor;
  if (x.isFloat()) {
    acc = matmulFloats(x.data<float>(), ldx, w.data(), t, n, k, group);
    accTensor = makeFloats(op.getContext(), acc, accShape);
  } else {
    const Tensor &sums = frame.get(op.getSums());
    int64_t sumGroups = sums.rank() == 2 ? groups : 1;
    Tensor right = sumsOf(x, sums.rank() == 2 ? group : ldx, sumGroups);
    for (int64_t i = 0; i < t * sumGroups; ++i)
      if (sums.dim(0) != t || sums.intAt(i) != right.intAt(i))
        return op.emitOpError() << "expects the sum " << right.intAt(i) << " of the codes of token " << i / sumGroups
                                << ", got " << sums.valueString();
    std::vector<int32_t> exact = matmulCodes(x.data<int8_t>(), ldx, w.data(), t, n, k, group);
    acc.assign(exact.begin(), exact.end());
    accTensor = Tensor(IntegerType::get(op.getContext(), 32), accShape);
    std::copy(exact.begin(), exact.end(), accTensor.mutableData<int32_t>());
  }
  if (op.getY()) {
    std::vector<float> rowScales = floatsOf(op.getRowScales(), frame), bias = floatsOf(op.getBias(), frame),
                       actScale = floatsOf(op.getActScale(), frame), residual = floatsOf(op.getResidual(), frame);
    if (actScale.size() > 1 && static_cast<int64_t>(actScale.size()) != t)
      return op.emitOpError() << "expects " << t << " activation scales, got " << actScale.size();
    int64_t outputs = layout.getOutputRows();
    Tensor y = likeInit(op.getY(), frame);
    if (failed(expectShape(op, "y", y, {t, outputs})) ||
        (op.getResidual() && failed(expectShape(op, "residual", frame.get(op.getResidual()), {t, outputs}))))
      return failure();
    auto scaled = [&](int64_t row, int64_t col) {
      std::vector<float> scales;
      for (int64_t g = 0; g < groups; ++g)
        scales.push_back(rowScales[op.hasPanelScales() ? shape.panelScaleIndex(groups, shape.packedRow(col), g)
                                                       : shape.scaleIndex(groups, shape.packedRow(col), g)]);
      return dequantizeOne(acc.data() + (row * n + col) * groups, scales.data(), group != 0, groups,
                           actScale.empty() ? nullptr : &actScale[actScale.size() == 1 ? 0 : row],
                           bias.empty() ? nullptr : &bias[col], op.getBiasPlace());
    };
    for (int64_t row = 0; row < t; ++row)
      for (int64_t col = 0; col < outputs; ++col) {
        float value = scaled(row, col);
        if (op.getEpilogue() != Epilogue::None)
          value = gate(op.getEpilogue() == Epilogue::Silu ? bitnet::GateAct::Silu : bitnet::GateAct::Relu2, value,
                       scaled(row, outputs + col));
        if (std::optional<bitnet::Function> activation = op.getActivation())
          value = applyFunction(*activation, value);
        if (!residual.empty())
          value = residual[row * outputs + col] + value;
        y.mutableData<float>()[row * outputs + col] = value;
      }
    results.push_back(y);
  }
  if (op.getAcc()) {
    if (failed(expectShape(op, "acc", frame.get(op.getAcc()), accShape)))
      return failure();
    results.push_back(accTensor);
  }
  return setResults(op, results, frame);
}

static LogicalResult evaluateDense(DenseOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  Tensor y = likeInit(op.getY(), frame);
  if (failed(expectShape(op, "y", y, {x.dim(0), w.dim(0)})))
    return failure();
  std::vector<float> rows = w.toFloats(), bias = floatsOf(op.getBias(), frame);
  dense(x.data<float>(), rows.data(), orNull(bias), x.dim(0), w.dim(0), w.dim(1), y.mutableData<float>());
  return setResults(op, {y}, frame);
}

static LogicalResult evaluateNorm(NormOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  int64_t k = x.dim(1);
  std::vector<float> gain = floatsOf(op.getWeight(), frame), shift = floatsOf(op.getBias(), frame);
  Tensor y = likeInit(op.getY(), frame);
  if (failed(expectShape(op, "y", y, x.shape())))
    return failure();
  for (int64_t row = 0; row < x.dim(0); ++row)
    normalizeRow(op.getNorm().getKind(), op.getNorm().getEpsValue(), x.data<float>() + row * k, k, orNull(gain),
                 orNull(shift), y.mutableData<float>() + row * k);
  return setResults(op, {y}, frame);
}

/// Rows x[T][H][D] of an operation, rotated by its tables if it has any.
template <typename Op> static FailureOr<Tensor> rotated(Op op, const Tensor &x, Frame &frame) {
  if (!op.getCos())
    return x;
  const Tensor &cos = frame.get(op.getCos()), &sin = frame.get(op.getSin());
  int64_t pos = frame.getInt(op.getPos());
  if (pos < 0 || pos + x.dim(0) > cos.dim(0)) {
    op.emitOpError() << "expects positions below " << cos.dim(0) << ", got " << pos << " to " << pos + x.dim(0) - 1;
    return failure();
  }
  if (failed(expectShape(op, "sin", sin, cos.shape())))
    return failure();
  Tensor y(x.elementType(), x.shape());
  int64_t offset = pos * cos.dim(1);
  rotary(x.data<float>(), cos.data<float>() + offset, sin.data<float>() + offset, x.dim(0), x.dim(1), x.dim(2),
         y.mutableData<float>());
  return y;
}

static LogicalResult evaluateRotary(RotaryOp op, Frame &frame) {
  FailureOr<Tensor> y = rotated(op, frame.get(op.getX()), frame);
  if (failed(y) || failed(expectShape(op, "y", frame.get(op.getY()), y->shape())))
    return failure();
  return setResults(op, {*y}, frame);
}

/// Element of a cache [row][head][i] that holds a given one.
static std::function<int64_t(int64_t, int64_t, int64_t)> cacheIndex(const Tensor &cache, bool blocked) {
  packing::BlockedCache shape = {cache.dim(1), cache.dim(2)};
  return [=](int64_t row, int64_t head, int64_t i) {
    return blocked ? shape.index(row, head, i) : (row * shape.heads + head) * shape.size + i;
  };
}

static LogicalResult expectWholeBlocks(Operation *op, const Tensor &cache) {
  if (cache.dim(0) % packing::kCacheBlockRows == 0)
    return success();
  return op->emitOpError() << "expects a blocked cache of a multiple of " << packing::kCacheBlockRows << " rows, got "
                           << cache.typeString();
}

static LogicalResult evaluateCacheUpdate(CacheUpdateOp op, Frame &frame) {
  const Tensor &rows = frame.get(op.getRows()), &cache = frame.get(op.getCache());
  int64_t pos = frame.getInt(op.getPos());
  if (pos < 0 || pos + rows.dim(0) > cache.dim(0))
    return op.emitOpError() << "expects rows below " << cache.dim(0) << ", got " << pos << " to "
                            << pos + rows.dim(0) - 1;
  Tensor result = cache.clone();
  if (op.getBlocked() && failed(expectWholeBlocks(op, cache)))
    return failure();
  FailureOr<Tensor> written = rotated(op, rows, frame);
  if (failed(written))
    return failure();
  writeCache(*written, pos, cacheIndex(cache, op.getBlocked()), result);
  return setResults(op, {result}, frame);
}

static LogicalResult evaluateAttention(AttentionOp op, Frame &frame) {
  const Tensor &q = frame.get(op.getQ()), &k = frame.get(op.getK()), &v = frame.get(op.getV());
  int64_t position = frame.getInt(op.getPos());
  AttentionShape shape = {q.dim(0),       q.dim(1),
                          k.dim(1),       q.dim(2),
                          position,       position + q.dim(0),
                          op.getCausal(), op.getScale().convertToFloat()};
  if (shape.position < 0 || shape.position + shape.tokens > std::min(k.dim(0), v.dim(0)))
    return op.emitOpError() << "expects keys and values of " << shape.position + shape.tokens << " tokens, got "
                            << std::min(k.dim(0), v.dim(0));
  Tensor o = likeInit(op.getO(), frame);
  FailureOr<Tensor> queries = rotated(op, q, frame);
  if (failed(queries) || failed(expectShape(op, "o", o, q.shape())))
    return failure();
  if (op.getBlocked() && failed(expectWholeBlocks(op, k)))
    return failure();
  std::vector<float> keys = k.toFloats(), values = v.toFloats();
  auto index = cacheIndex(k, op.getBlocked());
  SmallVector<Tensor> results;
  if (op.getNewK()) // the updates before have written the new rows
    results = {k, v};
  if (op.getParts()) {
    Tensor parts = likeInit(op.getParts(), frame);
    int64_t ranges = shape.position / kAttentionRange + 1, width = parts.dim(2);
    if (shape.tokens == 1 && parts.dim(0) < ranges)
      return op.emitOpError() << "expects parts for " << ranges << " ranges, got " << parts.typeString();
    for (int64_t range = 0; range < ranges && shape.tokens == 1; ++range)
      for (int64_t head = 0; head < shape.heads; ++head)
        attentionPart(shape, queries->data<float>(), keys.data(), index, values.data(), head, range * kAttentionRange,
                      parts.mutableData<float>() + (range * shape.heads + head) * width);
    results.push_back(parts);
  }
  if (!op.getParts() || shape.tokens != 1)
    attention(shape, queries->data<float>(), keys.data(), index, values.data(), o.mutableData<float>());
  results.push_back(o);
  return setResults(op, results, frame);
}

static LogicalResult evaluateAttentionFold(AttentionFoldOp op, Frame &frame) {
  const Tensor &parts = frame.get(op.getParts());
  Tensor o = frame.get(op.getO()).clone();
  int64_t heads = o.dim(1), size = o.dim(2), width = parts.dim(2);
  int64_t ranges = frame.getInt(op.getPos()) / kAttentionRange + 1;
  if (o.dim(0) == 1 && (ranges < 1 || parts.dim(0) < ranges))
    return op.emitOpError() << "expects parts for " << ranges << " ranges, got " << parts.typeString();
  for (int64_t head = 0; head < heads && o.dim(0) == 1; ++head)
    attentionFold(parts.data<float>() + head * width, heads * width, ranges, size,
                  o.mutableData<float>() + head * size);
  return setResults(op, {o}, frame);
}

static LogicalResult evaluateBatchAttention(BatchAttentionOp op, Frame &frame) {
  const Tensor &q = frame.get(op.getQ());
  Tensor o = likeInit(op.getO(), frame);
  if (failed(expectShape(op, "o", o, q.shape())) ||
      failed(attendBatch(op, op.getScale().convertToFloat(), op.getCausal(), q, frame.get(op.getK()),
                         frame.get(op.getV()), op.getMask() ? &frame.get(op.getMask()) : nullptr, o)))
    return failure();
  return setResults(op, {o}, frame);
}

static LogicalResult evaluateSoftmax(SoftmaxOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  Tensor y = likeInit(op.getY(), frame);
  if (failed(expectShape(op, "y", y, x.shape())))
    return failure();
  softmaxRows(x, y);
  return setResults(op, {y}, frame);
}

static LogicalResult evaluateGated(GatedOp op, Frame &frame) {
  const Tensor &g = frame.get(op.getGate()), &up = frame.get(op.getUp());
  Tensor y = likeInit(op.getY(), frame);
  if (failed(expectShape(op, "up", up, g.shape())) || failed(expectShape(op, "y", y, g.shape())))
    return failure();
  for (int64_t i = 0; i < g.size(); ++i)
    y.mutableData<float>()[i] = gate(op.getAct(), g.data<float>()[i], up.data<float>()[i]);
  return setResults(op, {y}, frame);
}

static LogicalResult evaluateEmbedding(EmbeddingOp op, Frame &frame) {
  const Tensor &table = frame.get(op.getTable()), &tokens = frame.get(op.getTokens());
  int64_t rows = table.dim(0), size = table.dim(1);
  Tensor y = likeInit(op.getY(), frame);
  if (failed(expectShape(op, "y", y, {tokens.dim(0), size})))
    return failure();
  for (int64_t t = 0; t < tokens.dim(0); ++t) {
    int64_t row = tokens.intAt(t);
    if (row < 0 || row >= rows)
      row = 0;
    for (int64_t i = 0; i < size; ++i)
      y.setFloat(t * size + i, table.floatAt(row * size + i));
  }
  return setResults(op, {y}, frame);
}

static LogicalResult evaluateHadamard(HadamardOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  int64_t k = x.dim(1);
  Tensor y = likeInit(op.getY(), frame);
  if (failed(expectShape(op, "y", y, x.shape())))
    return failure();
  for (int64_t row = 0; row < x.dim(0); ++row)
    hadamardRow(op.getBlock(), k, x.data<float>() + row * k, y.mutableData<float>() + row * k);
  return setResults(op, {y}, frame);
}

//===----------------------------------------------------------------------===//
// Vectors and threads
//===----------------------------------------------------------------------===//

static LogicalResult evaluateUnpack(UnpackOp op, Frame &frame) {
  const Tensor &bytes = frame.get(op.getBytes());
  Tensor codes(bytes.elementType(), bytes.shape());
  int64_t bits = op.getBits(), field = op.getField();
  for (int64_t i = 0; i < bytes.size(); ++i) {
    int64_t byte = bytes.intAt(i) & 255;
    codes.setInt(i, op.getCumulative() ? byte & ((int64_t(1) << bits * (field + 1)) - 1)
                                       : byte >> bits * field & ((int64_t(1) << bits) - 1));
  }
  frame.set(op.getCodes(), codes);
  return success();
}

/// result[i] = f(bytes[i]) for unsigned bytes below `limit`.
template <typename Op, typename Function>
static LogicalResult mapBytes(Op op, int64_t limit, Frame &frame, Function f) {
  const Tensor &bytes = frame.get(op.getBytes());
  Tensor result(bytes.elementType(), bytes.shape());
  for (int64_t i = 0; i < bytes.size(); ++i) {
    int64_t byte = bytes.intAt(i) & 255;
    if (byte >= limit)
      return op.emitOpError() << "expects bytes below " << limit << ", got " << byte;
    result.setInt(i, f(byte));
  }
  frame.set(op->getResult(0), result);
  return success();
}

static LogicalResult evaluateTritsBelow(TritsBelowOp op, Frame &frame) {
  int64_t divisor = op.getDivisor();
  return mapBytes(op, 3 * divisor, frame, [&](int64_t byte) { return byte % divisor; });
}

static LogicalResult evaluateTopTrit(TopTritOp op, Frame &frame) {
  int64_t divisor = op.getDivisor();
  return mapBytes(op, 3 * divisor, frame, [&](int64_t byte) { return byte / divisor; });
}

static LogicalResult evaluateLookUpBytes(LookUpBytesOp op, Frame &frame) {
  return mapBytes(op, 256, frame, [&](int64_t byte) { return op.getTable()[byte >> op.getShift() & 63]; });
}

static LogicalResult evaluateAddPairs(AddPairsOp op, Frame &frame) {
  const Tensor &acc = frame.get(op.getAcc()), &pairs = frame.get(op.getPairs());
  Tensor result = acc.clone();
  int64_t perLane = pairs.size() / acc.size();
  for (int64_t i = 0; i < pairs.size(); ++i)
    result.setInt(i / perLane, result.intAt(i / perLane) + pairs.intAt(i));
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateLookUp(LookUpOp op, Frame &frame) {
  const Tensor &indices = frame.get(op.getIndices());
  Tensor result(indices.elementType(), indices.shape());
  for (int64_t i = 0; i < indices.size(); ++i)
    result.setInt(i, frame.get(indices.intAt(i) & 32 ? op.getHigh() : op.getLow()).intAt(indices.intAt(i) & 31));
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateFence(FenceOp op, Frame &frame) {
  for (auto [value, result] : llvm::zip_equal(op.getValues(), op.getResults()))
    frame.set(result, frame.get(value));
  return success();
}

/// The weight codes of a dot, within their bound.
template <typename Op> static FailureOr<SmallVector<int64_t>> codesOf(Op op, bool isSigned, Frame &frame) {
  const Tensor &u = frame.get(op.getU());
  SmallVector<int64_t> codes;
  for (int64_t i = 0; i < u.size(); ++i) {
    codes.push_back(isSigned ? u.intAt(i) : u.intAt(i) & 255);
    if (std::abs(codes.back()) > static_cast<int64_t>(op.getMaxCode()))
      return op.emitOpError() << "expects codes of at most " << op.getMaxCode() << ", got " << codes.back();
  }
  return codes;
}

/// Adds `perLane` neighbouring products to each lane.
template <typename Op> static LogicalResult addProducts(Op op, bool signedCodes, int64_t perLane, Frame &frame) {
  FailureOr<SmallVector<int64_t>> codes = codesOf(op, signedCodes, frame);
  if (failed(codes))
    return failure();
  Tensor result = frame.get(op.getAcc()).clone();
  for (auto [i, code] : llvm::enumerate(*codes)) {
    int64_t at = static_cast<int64_t>(i), lane = at / perLane;
    result.setInt(lane, result.intAt(lane) + code * frame.get(op.getS()).intAt(at));
  }
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateDot(DotOp op, Frame &frame) { return addProducts(op, op.getSignedCodes(), 4, frame); }
static LogicalResult evaluateDotPairs(DotPairsOp op, Frame &frame) { return addProducts(op, false, 2, frame); }
static LogicalResult evaluateMultiplyAdd(MultiplyAddOp op, Frame &frame) { return addProducts(op, false, 1, frame); }

static LogicalResult evaluateMatrixDot(MatrixDotOp op, Frame &frame) {
  FailureOr<SmallVector<int64_t>> codes = codesOf(op, op.getSignedCodes(), frame);
  if (failed(codes))
    return failure();
  Tensor result = frame.get(op.getAcc()).clone();
  for (int64_t lane = 0; lane < 4; ++lane)
    for (int64_t k = 0; k < 8; ++k)
      result.setInt(lane,
                    result.intAt(lane) + (*codes)[lane / 2 * 8 + k] * frame.get(op.getS()).intAt(lane % 2 * 8 + k));
  frame.set(op.getResult(), result);
  return success();
}

void reference::addTernaryEvaluators(EvaluatorTable &table) {
  table.add<PackOp>(evaluatePack);
  table.add<PackScalesOp>(evaluatePackScales);
  table.add<SectionOp>([](SectionOp op, Frame &) {
    return op.emitOpError() << "has a value only in a package, not in the reference interpreter";
  });
  table.add<QuantizeOp>(evaluateQuantize);
  table.add<MatmulOp>(evaluateMatmul);
  table.add<DenseOp>(evaluateDense);
  table.add<NormOp>(evaluateNorm);
  table.add<RotaryOp>(evaluateRotary);
  table.add<CacheUpdateOp>(evaluateCacheUpdate);
  table.add<AttentionOp>(evaluateAttention);
  table.add<AttentionFoldOp>(evaluateAttentionFold);
  table.add<BatchAttentionOp>(evaluateBatchAttention);
  table.add<SoftmaxOp>(evaluateSoftmax);
  table.add<GatedOp>(evaluateGated);
  table.add<EmbeddingOp>(evaluateEmbedding);
  table.add<HadamardOp>(evaluateHadamard);
  table.add<UnpackOp>(evaluateUnpack);
  table.add<TritsBelowOp>(evaluateTritsBelow);
  table.add<TopTritOp>(evaluateTopTrit);
  table.add<LookUpBytesOp>(evaluateLookUpBytes);
  table.add<AddPairsOp>(evaluateAddPairs);
  table.add<LookUpOp>(evaluateLookUp);
  table.add<FenceOp>(evaluateFence);
  table.add<DotOp>(evaluateDot);
  table.add<DotPairsOp>(evaluateDotPairs);
  table.add<MultiplyAddOp>(evaluateMultiplyAdd);
  table.add<MatrixDotOp>(evaluateMatrixDot);
  // One thread interprets, and it is always at the barrier that it reaches.
  table.add<BarrierOp>([](BarrierOp, Frame &) { return success(); });
}
