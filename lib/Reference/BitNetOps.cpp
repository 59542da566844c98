//===- BitNetOps.cpp - evaluators of the bitnet operations -----------------------===//
#include "lib/Reference/Formulas.h"
#include "lib/Reference/Interpreter.h"
#include "lib/Weights/WeightSource.h"

#include "dialects/Ternary/Ternary.h"

#include <cstring>

using namespace mlir;
using namespace mlir::bitnet;
using namespace setun;
using namespace setun::reference;

/// The elements of an optional operand; empty if it is absent.
static std::vector<float> floatsOf(mlir::Value value, Frame &frame) {
  return value ? frame.get(value).toFloats() : std::vector<float>();
}
static const float *orNull(const std::vector<float> &values) { return values.empty() ? nullptr : values.data(); }

/// Scale of each row and group, [N][G], with the direction applied.
static std::vector<float> expandScales(ScalesAttr scales, Direction direction, const Tensor &stored, int64_t n,
                                       int64_t groups) {
  std::vector<float> values = stored.toFloats(), result;
  for (int64_t row = 0; row < n; ++row)
    for (int64_t g = 0; g < groups; ++g)
      result.push_back(ternary::rowScale(scales, direction, values, groups, row, g));
  return result;
}

static LogicalResult evaluateWeight(WeightOp op, Frame &frame) {
  const WeightSource *source = frame.run.options.weights;
  if (!source)
    return op.emitOpError() << "needs the weight files, but none is given";
  auto type = cast<RankedTensorType>(op.getResult().getType());
  StringRef name = op.getName();
  Type element = type.getElementType();
  Tensor result(element, type.getShape());
  llvm::Error error = llvm::Error::success();
  if (element.isInteger()) {
    int64_t n = type.getDimSize(0), k = type.getDimSize(1);
    int8_t *codes = result.mutableData<int8_t>();
    error = element.isInteger(2) ? source->readTernaryRows(name, n, k, 0, n, codes)
                                 : source->readBinaryRows(name, n, k, 0, n, codes);
    if (element.isInteger(1))
      for (int64_t i = 0; i < result.size(); ++i)
        codes[i] = codes[i] > 0;
  } else if (!element.isF32() && type.getRank() == 2) {
    int64_t n = type.getDimSize(0), k = type.getDimSize(1);
    uint16_t *bits = result.mutableData<uint16_t>();
    error =
        element.isF16() ? source->readRowsF16(name, n, k, 0, n, bits) : source->readRowsBF16(name, n, k, 0, n, bits);
  } else {
    std::vector<float> values;
    error = source->readFloat(name, type.getShape(), values);
    for (size_t i = 0; i < values.size(); ++i)
      result.setFloat(i, values[i]);
  }
  if (error)
    return op.emitOpError() << llvm::toString(std::move(error));
  result.origin = name.str();
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateQuantizeWeight(QuantizeWeightOp op, Frame &frame) {
  const Tensor &masters = frame.get(op.getMasters());
  std::vector<float> w = masters.toFloats();
  for (float value : w)
    if (!std::isfinite(value))
      return op.emitOpError() << "expects finite masters, got " << value;
  QuantizedWeight quantized = quantizeWeight(op.getMethod(), op.getEps().convertToFloat(),
                                             op.getGranularity().getGroup(), w.data(), masters.dim(0), masters.dim(1));
  Tensor codes(cast<ShapedType>(op.getCodes().getType()).getElementType(), masters.shape());
  for (int64_t i = 0; i < codes.size(); ++i)
    codes.setInt(i, op.getMethod() == WeightQuant::Sign ? quantized.codes[i] > 0 : quantized.codes[i]);
  codes.origin = masters.origin;
  frame.set(op.getCodes(), codes);
  frame.set(op.getScale(),
            makeFloats(op.getContext(), quantized.scale, cast<ShapedType>(op.getScale().getType()).getShape()));
  return success();
}

static LogicalResult evaluateLinear(LinearOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  int64_t t = x.dim(0), k = x.dim(1), n = w.dim(0);
  int64_t group = op.getScales().getGroup(), groups = groupCount(k, group);
  std::vector<float> gain = floatsOf(op.getNormWeight(), frame), shift = floatsOf(op.getNormBias(), frame);
  std::vector<float> normed = x.toFloats();
  if (op.getNorm())
    for (int64_t row = 0; row < t; ++row)
      normalizeRow(op.getNorm()->getKind(), op.getNorm()->getEpsValue(), x.data<float>() + row * k, k, orNull(gain),
                   orNull(shift), normed.data() + row * k);
  std::vector<int8_t> weights = w.toCodes();
  std::vector<float> acc, actScale;
  Shape accShape = {t, n};
  if (group)
    accShape.push_back(groups);
  if (op.getActivation()) {
    Quantized q = quantizeActivations(*op.getActivation(), normed.data(), t, k);
    std::vector<int32_t> exact = matmulCodes(q.codes.data(), k, weights.data(), t, n, k, group);
    if (frame.run.options.probe) {
      Tensor codes(IntegerType::get(op.getContext(), 8), {t, k}), sums(IntegerType::get(op.getContext(), 32), accShape);
      std::copy(q.codes.begin(), q.codes.end(), codes.mutableData<int8_t>());
      std::copy(exact.begin(), exact.end(), sums.mutableData<int32_t>());
      frame.run.recordProbe(w.origin, &codes, sums);
    }
    acc.assign(exact.begin(), exact.end());
    actScale = std::move(q.scale);
  } else {
    acc = matmulFloats(normed.data(), k, weights.data(), t, n, k, group);
    if (frame.run.options.probe)
      frame.run.recordProbe(w.origin, nullptr, makeFloats(op.getContext(), acc, accShape));
  }
  std::vector<float> scales = expandScales(op.getScales(), op.getDirection(), frame.get(op.getScale()), n, groups);
  std::vector<float> bias = floatsOf(op.getBias(), frame);
  Tensor y(x.elementType(), {t, n});
  for (int64_t row = 0; row < t; ++row)
    for (int64_t col = 0; col < n; ++col)
      y.mutableData<float>()[row * n + col] =
          dequantizeOne(acc.data() + (row * n + col) * groups, scales.data() + col * groups, group != 0, groups,
                        actScale.empty() ? nullptr : &actScale[actScale.size() == 1 ? 0 : row],
                        bias.empty() ? nullptr : &bias[col], op.getBiasPlace());
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateQuantize(QuantizeOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  int64_t t = x.dim(0), k = x.dim(1);
  Quantized q = quantizeActivations(op.getActivation(), x.data<float>(), t, k);
  Tensor codes(IntegerType::get(op.getContext(), 8), {t, k}), sums(IntegerType::get(op.getContext(), 32), {t});
  std::copy(q.codes.begin(), q.codes.end(), codes.mutableData<int8_t>());
  std::copy(q.sums.begin(), q.sums.end(), sums.mutableData<int32_t>());
  frame.set(op.getCodes(), codes);
  frame.set(op.getScale(), makeFloats(op.getContext(), q.scale, {static_cast<int64_t>(q.scale.size())}));
  frame.set(op.getSums(), sums);
  return success();
}

static LogicalResult evaluateMatmul(MatmulOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  int64_t t = x.dim(0), k = x.dim(1), n = w.dim(0), group = op.getGroup().value_or(0);
  Shape shape = {t, n};
  if (group)
    shape.push_back(groupCount(k, group));
  std::vector<int8_t> weights = w.toCodes();
  Tensor acc(cast<ShapedType>(op.getAcc().getType()).getElementType(), shape);
  if (x.isFloat()) {
    std::vector<float> sums = matmulFloats(x.data<float>(), k, weights.data(), t, n, k, group);
    std::copy(sums.begin(), sums.end(), acc.mutableData<float>());
  } else {
    const Tensor &given = frame.get(op.getSums());
    for (int64_t row = 0; row < t; ++row) {
      int64_t sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += x.data<int8_t>()[row * k + i];
      if (given.dim(0) != t || given.intAt(row) != sum)
        return op.emitOpError() << "expects the sum " << sum << " of the codes of token " << row << ", got "
                                << given.valueString();
    }
    std::vector<int32_t> sums = matmulCodes(x.data<int8_t>(), k, weights.data(), t, n, k, group);
    std::copy(sums.begin(), sums.end(), acc.mutableData<int32_t>());
  }
  frame.set(op.getAcc(), acc);
  return success();
}

static LogicalResult evaluateDequantize(DequantizeOp op, Frame &frame) {
  const Tensor &acc = frame.get(op.getAcc());
  int64_t t = acc.dim(0), n = acc.dim(1), groups = acc.rank() == 3 ? acc.dim(2) : 1;
  std::vector<float> values(acc.size());
  for (int64_t i = 0; i < acc.size(); ++i)
    values[i] = acc.isFloat() ? acc.data<float>()[i] : static_cast<float>(acc.data<int32_t>()[i]);
  std::vector<float> scales = expandScales(op.getScales(), op.getDirection(), frame.get(op.getScale()), n, groups);
  std::vector<float> actScale = floatsOf(op.getActScale(), frame), bias = floatsOf(op.getBias(), frame);
  if (actScale.size() > 1 && static_cast<int64_t>(actScale.size()) != t)
    return op.emitOpError() << "expects " << t << " activation scales, got " << actScale.size();
  Tensor y(Float32Type::get(op.getContext()), {t, n});
  for (int64_t row = 0; row < t; ++row)
    for (int64_t col = 0; col < n; ++col)
      y.mutableData<float>()[row * n + col] =
          dequantizeOne(values.data() + (row * n + col) * groups, scales.data() + col * groups, acc.rank() == 3, groups,
                        actScale.empty() ? nullptr : &actScale[actScale.size() == 1 ? 0 : row],
                        bias.empty() ? nullptr : &bias[col], op.getBiasPlace());
  frame.set(op.getY(), y);
  return success();
}

static void evaluateNorm(NormKind kind, float eps, mlir::Value in, mlir::Value gainValue, mlir::Value shiftValue,
                         mlir::Value out, Frame &frame) {
  const Tensor &x = frame.get(in);
  std::vector<float> gain = floatsOf(gainValue, frame), shift = floatsOf(shiftValue, frame);
  Tensor y(x.elementType(), x.shape());
  for (int64_t row = 0; row < x.dim(0); ++row)
    normalizeRow(kind, eps, x.data<float>() + row * x.dim(1), x.dim(1), orNull(gain), orNull(shift),
                 y.mutableData<float>() + row * x.dim(1));
  frame.set(out, y);
}

static LogicalResult evaluateRotary(RotaryOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &cos = frame.get(op.getCos()), &sin = frame.get(op.getSin());
  int64_t pos = frame.getInt(op.getPos());
  if (pos < 0 || pos + x.dim(0) > cos.dim(0))
    return op.emitOpError() << "expects positions below " << cos.dim(0) << ", got " << pos << " to "
                            << pos + x.dim(0) - 1;
  Tensor y(x.elementType(), x.shape());
  int64_t offset = pos * cos.dim(1);
  rotary(x.data<float>(), cos.data<float>() + offset, sin.data<float>() + offset, x.dim(0), x.dim(1), x.dim(2),
         y.mutableData<float>());
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateCacheUpdate(CacheUpdateOp op, Frame &frame) {
  const Tensor &cache = frame.get(op.getCache()), &rows = frame.get(op.getRows());
  int64_t pos = frame.getInt(op.getPos());
  if (pos < 0 || pos + rows.dim(0) > cache.dim(0))
    return op.emitOpError() << "expects rows below " << cache.dim(0) << ", got " << pos << " to "
                            << pos + rows.dim(0) - 1;
  Tensor result = cache.clone();
  writeCache(
      rows, pos, [&](int64_t row, int64_t head, int64_t i) { return (row * cache.dim(1) + head) * cache.dim(2) + i; },
      result);
  frame.set(op.getResult(), result);
  return success();
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
  Tensor o(q.elementType(), q.shape());
  auto keyIndex = [&](int64_t row, int64_t head, int64_t i) { return (row * k.dim(1) + head) * k.dim(2) + i; };
  attention(shape, q.data<float>(), k.toFloats().data(), keyIndex, v.toFloats().data(), o.mutableData<float>());
  frame.set(op.getO(), o);
  return success();
}

static LogicalResult evaluateBatchAttention(BatchAttentionOp op, Frame &frame) {
  Tensor o(Float32Type::get(op.getContext()), frame.get(op.getQ()).shape());
  if (failed(attendBatch(op, op.getScale().convertToFloat(), op.getCausal(), frame.get(op.getQ()), frame.get(op.getK()),
                         frame.get(op.getV()), op.getMask() ? &frame.get(op.getMask()) : nullptr, o)))
    return failure();
  frame.set(op.getO(), o);
  return success();
}

static LogicalResult evaluateSoftmax(SoftmaxOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  Tensor y(x.elementType(), x.shape());
  softmaxRows(x, y);
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateMath(MathOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  Tensor y(x.elementType(), x.shape());
  for (int64_t i = 0; i < x.size(); ++i)
    y.mutableData<float>()[i] = applyFunction(op.getFunction(), x.data<float>()[i]);
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluatePow(PowOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &exponent = frame.get(op.getExponent());
  if (x.shape() != exponent.shape())
    return op.emitOpError() << "expects operands of one shape, got " << x.typeString() << " and "
                            << exponent.typeString();
  Tensor y(x.elementType(), x.shape());
  for (int64_t i = 0; i < x.size(); ++i)
    y.mutableData<float>()[i] = applyPow(x.data<float>()[i], exponent.data<float>()[i]);
  frame.set(op.getY(), y);
  return success();
}

/// Codes of the patch that output pixel (i, j) of sample b sees in the channels of a group, columns as in the weight.
static void gatherPatch(Conv2DOp op, const Tensor &x, const std::vector<int8_t> &codes, int64_t b, int64_t group,
                        int64_t i, int64_t j, int8_t *patch) {
  int64_t channels = x.dim(1) / op.getGroups();
  for (int64_t c = group * channels; c < (group + 1) * channels; ++c)
    for (int64_t u = 0; u < op.getKernel()[0]; ++u)
      for (int64_t v = 0; v < op.getKernel()[1]; ++v) {
        int64_t row = i * op.getStrides()[0] + u * op.getDilations()[0] - op.getPadding()[0];
        int64_t col = j * op.getStrides()[1] + v * op.getDilations()[1] - op.getPadding()[1];
        bool inside = row >= 0 && row < x.dim(2) && col >= 0 && col < x.dim(3);
        *patch++ = inside ? codes[((b * x.dim(1) + c) * x.dim(2) + row) * x.dim(3) + col] : 0;
      }
}

static LogicalResult evaluateConv2D(Conv2DOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  int64_t batch = x.dim(0), filters = w.dim(0), k = w.dim(1), groups = op.getGroups(), perGroup = filters / groups;
  Quantized q = quantizeActivations(op.getActivation(), x.data<float>(), batch, x.dim(1) * x.dim(2) * x.dim(3));
  std::vector<int8_t> weights = w.toCodes(), patch(k);
  std::vector<float> scales = expandScales(op.getScales(), op.getDirection(), frame.get(op.getScale()), filters, 1);
  std::vector<float> bias = floatsOf(op.getBias(), frame);
  int64_t rows = op.getOutputSize(0), cols = op.getOutputSize(1);
  Tensor y(x.elementType(), {batch, filters, rows, cols});
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) {
          gatherPatch(op, x, q.codes, b, group, i, j, patch.data());
          std::vector<int32_t> acc =
              matmulCodes(patch.data(), k, weights.data() + group * perGroup * k, 1, perGroup, k, 0);
          for (int64_t f = 0; f < perGroup; ++f) {
            int64_t filter = group * perGroup + f;
            float value = static_cast<float>(acc[f]);
            y.mutableData<float>()[((b * filters + filter) * rows + i) * cols + j] =
                dequantizeOne(&value, &scales[filter], false, 1, &q.scale[q.scale.size() == 1 ? 0 : b],
                              bias.empty() ? nullptr : &bias[filter], BiasPlace::AfterScale);
          }
        }
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateGated(GatedOp op, Frame &frame) {
  const Tensor &g = frame.get(op.getGate()), &up = frame.get(op.getUp());
  if (g.shape() != up.shape())
    return op.emitOpError() << "expects operands of one shape, got " << g.typeString() << " and " << up.typeString();
  Tensor y(g.elementType(), g.shape());
  for (int64_t i = 0; i < g.size(); ++i)
    y.mutableData<float>()[i] = gate(op.getAct(), g.data<float>()[i], up.data<float>()[i]);
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateEmbedding(EmbeddingOp op, Frame &frame) {
  const Tensor &table = frame.get(op.getTable()), &tokens = frame.get(op.getTokens());
  int64_t h = table.dim(1);
  Tensor y(Float32Type::get(op.getContext()), {tokens.dim(0), h});
  for (int64_t t = 0; t < tokens.dim(0); ++t) {
    int64_t row = tokens.intAt(t);
    if (row < 0 || row >= table.dim(0))
      row = 0;
    for (int64_t i = 0; i < h; ++i)
      y.setFloat(t * h + i, table.floatAt(row * h + i));
  }
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateDense(DenseOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  std::vector<float> weights = w.toFloats(), bias = floatsOf(op.getBias(), frame);
  Tensor y(x.elementType(), {x.dim(0), w.dim(0)});
  dense(x.data<float>(), weights.data(), orNull(bias), x.dim(0), w.dim(0), w.dim(1), y.mutableData<float>());
  frame.set(op.getY(), y);
  return success();
}

static LogicalResult evaluateHadamard(HadamardOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX());
  Tensor y(x.elementType(), x.shape());
  for (int64_t row = 0; row < x.dim(0); ++row)
    hadamardRow(op.getBlock(), x.dim(1), x.data<float>() + row * x.dim(1), y.mutableData<float>() + row * x.dim(1));
  frame.set(op.getY(), y);
  return success();
}

void reference::addBitNetEvaluators(EvaluatorTable &table) {
  table.add<WeightOp>(evaluateWeight);
  table.add<QuantizeWeightOp>(evaluateQuantizeWeight);
  table.add<LinearOp>(evaluateLinear);
  table.add<QuantizeOp>(evaluateQuantize);
  table.add<MatmulOp>(evaluateMatmul);
  table.add<DequantizeOp>(evaluateDequantize);
  table.add<RmsNormOp>([](RmsNormOp op, Frame &frame) {
    evaluateNorm(NormKind::Rms, op.getEps().convertToFloat(), op.getX(), op.getWeight(), {}, op.getY(), frame);
    return success();
  });
  table.add<LayerNormOp>([](LayerNormOp op, Frame &frame) {
    evaluateNorm(NormKind::Layer, op.getEps().convertToFloat(), op.getX(), op.getWeight(), op.getBias(), op.getY(),
                 frame);
    return success();
  });
  table.add<RotaryOp>(evaluateRotary);
  table.add<CacheUpdateOp>(evaluateCacheUpdate);
  table.add<AttentionOp>(evaluateAttention);
  table.add<BatchAttentionOp>(evaluateBatchAttention);
  table.add<SoftmaxOp>(evaluateSoftmax);
  table.add<MathOp>(evaluateMath);
  table.add<PowOp>(evaluatePow);
  table.add<Conv2DOp>(evaluateConv2D);
  table.add<GatedOp>(evaluateGated);
  table.add<EmbeddingOp>(evaluateEmbedding);
  table.add<DenseOp>(evaluateDense);
  table.add<HadamardOp>(evaluateHadamard);
}
