//===- HeadOps.cpp - evaluators of the choice among the rows of a head ------------===//
//
// bitnet.top_k is all exact logits and a sort; the ternary operations that compiled code makes of it are evaluated one
// by one, as their descriptions say.
//
//===----------------------------------------------------------------------===//
#include "lib/Reference/Formulas.h"
#include "lib/Reference/Interpreter.h"
#include "lib/Weights/HeadQuantizer.h"

#include "dialects/Ternary/Ternary.h"

#include <cmath>
#include <limits>
#include <numeric>

using namespace mlir;
using namespace mlir::ternary;
using namespace setun;
using namespace setun::reference;
using packing::HeadShape;

namespace {
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kPanelRows = HeadShape::kPanelRows;

Tensor likeInit(mlir::Value init, Frame &frame) {
  const Tensor &tensor = frame.get(init);
  return Tensor(tensor.elementType(), tensor.shape());
}

void setResults(Operation *op, ArrayRef<Tensor> values, Frame &frame) {
  for (auto [result, value] : llvm::zip(op->getResults(), values))
    frame.set(result, value);
}

float ordered(float value) { return std::isnan(value) ? -kInfinity : value; }

/// The numbers of the `k` largest of n values, the largest first, of equal ones the lowest number first.
template <typename At> std::vector<int64_t> largest(int64_t n, int64_t k, At at) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int64_t a, int64_t b) {
    float first = ordered(at(a)), second = ordered(at(b));
    return first > second || (first == second && a < b);
  });
  order.resize(std::min(k, n));
  return order;
}

int64_t countOf(mlir::Value k, int64_t longest, Frame &frame) {
  return std::clamp<int64_t>(frame.get(k).intAt(0), 0, longest);
}

/// ids and logits of the choice among n values.
template <typename At> void choose(Operation *op, int64_t n, int64_t k, int64_t length, At at, Frame &frame) {
  Tensor ids(IntegerType::get(op->getContext(), 64), {length}), logits(Float32Type::get(op->getContext()), {length});
  for (int64_t i = 0; i < length; ++i) {
    ids.setInt(i, -1);
    logits.mutableData<float>()[i] = -kInfinity;
  }
  for (auto [i, row] : llvm::enumerate(largest(n, k, at))) {
    ids.setInt(static_cast<int64_t>(i), row);
    logits.mutableData<float>()[i] = ordered(at(row));
  }
  setResults(op, {ids, logits}, frame);
}

/// One exact logit.
float logit(const Tensor &x, const Tensor &w, int64_t row) {
  int64_t k = w.dim(1);
  const float *values = x.data<float>();
  return sum16(k, [&](int64_t i) { return values[i] * static_cast<float>(w.floatAt(row * k + i)); });
}

/// The tree of sum16 with maxima.
float maximumOfPanel(const float *values) {
  float lanes[kSumLanes];
  for (int64_t lane = 0; lane < kSumLanes; ++lane)
    lanes[lane] = maximum(ordered(values[kSumLanes + lane]), ordered(values[lane]));
  for (int64_t distance = kSumLanes / 2; distance > 0; distance /= 2)
    for (int64_t lane = 0; lane < distance; ++lane)
      lanes[lane] = maximum(lanes[lane], lanes[lane + distance]);
  return lanes[0];
}

double squares16(int64_t n, llvm::function_ref<double(int64_t)> term) {
  double lanes[kSumLanes] = {};
  for (int64_t i = 0; i < n; ++i)
    lanes[i % kSumLanes] += term(i) * term(i);
  for (int64_t distance = kSumLanes / 2; distance > 0; distance /= 2)
    for (int64_t lane = 0; lane < distance; ++lane)
      lanes[lane] += lanes[lane + distance];
  return lanes[0];
}

LogicalResult evaluateTopK(bitnet::TopKOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  std::vector<float> y(w.dim(0)), weights = w.toFloats();
  dense(x.data<float>(), weights.data(), nullptr, 1, w.dim(0), w.dim(1), y.data());
  choose(
      op, w.dim(0), countOf(op.getK(), op.getLength(), frame), op.getLength(), [&](int64_t i) { return y[i]; }, frame);
  return success();
}

LogicalResult evaluateLargest(bitnet::LargestOp op, Frame &frame) {
  const Tensor &y = frame.get(op.getY());
  choose(
      op, y.dim(1), countOf(op.getK(), op.getLength(), frame), op.getLength(),
      [&](int64_t i) { return y.data<float>()[i]; }, frame);
  return success();
}

LogicalResult evaluatePackHead(PackHeadOp op, Frame &frame) {
  const Tensor &w = frame.get(op.getW());
  HeadShape shape{w.dim(0), w.dim(1)};
  std::vector<float> values = w.toFloats();
  Type i8 = IntegerType::get(op.getContext(), 8), f32 = Float32Type::get(op.getContext());
  Tensor codes(i8, {shape.codeBytes()}), scales(i8, {shape.scaleBytes()}), coarse(f32, {shape.panels(), 3, 32}),
      fine(i8, {2, shape.rows, shape.fineBitBytes()}), fineRows(f32, {shape.rows, HeadShape::kFineFloats});
  HeadQuantizer quantizer(shape);
  for (int64_t panel = 0; panel < shape.panels(); ++panel) {
    int64_t first = panel * kPanelRows;
    quantizer.quantize(
        panel, values.data() + first * shape.cols, codes.mutableData<uint8_t>() + panel * shape.panelCodeBytes(),
        scales.mutableData<uint8_t>() + panel * shape.panelScaleBytes(), coarse.mutableData<float>() + first * 3,
        fine.mutableData<uint8_t>() + first * shape.fineBitBytes(),
        fineRows.mutableData<float>() + first * HeadShape::kFineFloats);
  }
  setResults(op, {codes, scales, coarse, fine, fineRows}, frame);
  return success();
}

LogicalResult evaluateHeadQuantize(HeadQuantizeOp op, Frame &frame) {
  const float *x = frame.get(op.getX()).data<float>();
  int64_t k = frame.get(op.getX()).dim(1);
  HeadShape shape{1, k};
  float largest = 0.0f;
  for (int64_t i = 0; i < k; ++i)
    largest = maximum(std::fabs(x[i]), largest);
  bool usable = largest >= 0x1p-100f && largest <= 0x1p100f;
  float inverse = usable ? 127.0f / largest : 0.0f, a = usable ? largest / 127.0f : 0.0f;
  Tensor q = likeInit(op.getQ(), frame), sums = likeInit(op.getSums(), frame), params = likeInit(op.getParams(), frame);
  std::vector<double> codes(k);
  int32_t *sum = sums.mutableData<int32_t>();
  for (int64_t i = 0; i < k; ++i) {
    float code = minimum(maximum(std::nearbyint(x[i] * inverse), -127.0f), 127.0f);
    codes[i] = code;
    q.setInt(i, static_cast<int64_t>(code));
    sum[i / HeadShape::kGroup] += static_cast<int32_t>(code);
    sum[shape.groups()] += static_cast<int32_t>(code);
  }
  double wide = a;
  double squares = squares16(k, [&](int64_t i) { return x[i]; });
  double qNorm = std::sqrt(squares16(k, [&](int64_t i) { return wide * codes[i]; }));
  double eNorm = std::sqrt(squares16(k, [&](int64_t i) { return x[i] - wide * codes[i]; }));
  bool known = squares <= 0x1p200;
  double c = (static_cast<double>(k) / 16 + 64) * 0x1p-23;
  double alpha = qNorm * (1 + 0x1p-16), beta = (eNorm + std::sqrt(squares) * c) * (1 + 0x1p-16);
  double eta = (wide + 1.0) * (static_cast<double>(k + 64) * 0x1p-147);
  float *out = params.mutableData<float>();
  out[0] = known ? a : 0.0f;
  out[1] = known ? static_cast<float>(std::max(alpha, 0x1p-100)) : kInfinity;
  out[2] = known ? static_cast<float>(std::max(beta, 0x1p-100)) : kInfinity;
  out[3] = known ? static_cast<float>(eta) : kInfinity;
  setResults(op, {q, sums, params}, frame);
  return success();
}

float bound(const float *params, float residual, float norm) {
  float known = params[1] * residual, rest = params[2] * norm;
  rest = rest + params[3];
  return known + rest;
}

LogicalResult evaluateHeadScan(HeadScanOp op, Frame &frame) {
  HeadShape shape{op.getRowsAttr().getInt(), op.getColsAttr().getInt()};
  const int8_t *q = frame.get(op.getQ()).data<int8_t>();
  const uint8_t *codes = frame.get(op.getCodes()).data<uint8_t>(), *scales = frame.get(op.getScales()).data<uint8_t>();
  const float *coarse = frame.get(op.getCoarse()).data<float>(), *params = frame.get(op.getParams()).data<float>();
  Tensor approx = likeInit(op.getApprox(), frame), upper = likeInit(op.getUpper(), frame),
         maxima = likeInit(op.getMaxima(), frame);
  float *a = approx.mutableData<float>(), *u = upper.mutableData<float>();
  for (int64_t row = 0; row < shape.paddedRows(); ++row) {
    a[row] = u[row] = -kInfinity;
    if (row >= shape.rows)
      continue;
    int32_t sum = 0;
    for (int64_t i = 0; i < shape.cols; ++i)
      sum += shape.readScale(scales, row, i / HeadShape::kGroup) * shape.readCode(codes, row, i) * q[i];
    a[row] = (static_cast<float>(sum) * coarse[shape.coarseIndex(row, 0)]) * params[0];
    u[row] = a[row] + bound(params, coarse[shape.coarseIndex(row, 1)], coarse[shape.coarseIndex(row, 2)]);
  }
  for (int64_t panel = 0; panel < shape.panels(); ++panel)
    maxima.mutableData<float>()[panel] = maximumOfPanel(a + panel * kPanelRows);
  setResults(op, {approx, upper, maxima}, frame);
  return success();
}

LogicalResult evaluateHeadCandidates(HeadCandidatesOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  HeadShape shape{w.dim(0), w.dim(1)};
  const float *approx = frame.get(op.getApprox()).data<float>(), *maxima = frame.get(op.getMaxima()).data<float>();
  Tensor exact = likeInit(op.getExact(), frame);
  int64_t length = exact.dim(0), k = countOf(op.getK(), length, frame);
  std::vector<int64_t> rows;
  if (shape.panels() < 4 * length) {
    rows = largest(shape.rows, k, [&](int64_t i) { return approx[i]; });
  } else {
    for (int64_t panel : largest(shape.panels(), k, [&](int64_t i) { return maxima[i]; })) {
      const float *first = approx + panel * kPanelRows;
      rows.push_back(panel * kPanelRows + (std::find(first, first + kPanelRows, maxima[panel]) - first));
    }
  }
  for (int64_t i = 0; i < k; ++i)
    exact.mutableData<float>()[i] = i < static_cast<int64_t>(rows.size()) ? ordered(logit(x, w, rows[i])) : -kInfinity;
  setResults(op, {exact}, frame);
  return success();
}

LogicalResult evaluateHeadRescore(HeadRescoreOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getX()), &w = frame.get(op.getW());
  HeadShape shape{w.dim(0), w.dim(1)};
  const int8_t *q = frame.get(op.getQ()).data<int8_t>();
  const float *params = frame.get(op.getParams()).data<float>(), *approx = frame.get(op.getApprox()).data<float>(),
              *upper = frame.get(op.getUpper()).data<float>(), *rows = frame.get(op.getFineRows()).data<float>(),
              *candidates = frame.get(op.getCandidates()).data<float>();
  const uint8_t *fine = frame.get(op.getFine()).data<uint8_t>();
  float least = kInfinity;
  for (int64_t i = 0; i < countOf(op.getK(), frame.get(op.getCandidates()).dim(0), frame); ++i)
    least = minimum(candidates[i], least);
  Tensor exact = likeInit(op.getExact(), frame), maxima = likeInit(op.getMaxima(), frame);
  float *out = exact.mutableData<float>();
  std::fill(out, out + shape.paddedRows(), -kInfinity);
  bool inStages = true;
  for (int64_t row = 0; row < shape.rows; ++row) {
    if (row % HeadShape::kBlockRows == 0) {
      const float *end = upper + std::min(row + HeadShape::kBlockRows, shape.rows);
      auto inQuestion = std::count_if(upper + row, end, [&](float bound) { return !(bound < least); });
      inStages = inQuestion <= HeadShape::kMostInStages;
    }
    if (upper[row] < least)
      continue;
    const float *described = rows + row * HeadShape::kFineFloats;
    auto mayBeAmongThem = [&](int32_t sum, float residual) {
      float more = (static_cast<float>(sum) * described[0]) * params[0];
      more = approx[row] + more;
      return !(more + bound(params, residual, described[HeadShape::kNorm]) < least);
    };
    int32_t first = 0, both = 0, total = 0;
    bool survives = true;
    for (int64_t stage = 0, i = 0; stage < HeadShape::kStages && survives; ++stage) {
      for (; i < shape.stageCols(stage); ++i) {
        int code = shape.readFine(fine, row, i);
        first += (code >> 1) * q[i];
        both += code * q[i];
        total += q[i];
      }
      if (inStages || stage + 1 == HeadShape::kStages)
        survives = mayBeAmongThem(2 * (2 * first - total), described[HeadShape::kStageResiduals + stage]);
    }
    if (survives && mayBeAmongThem(2 * both - 3 * total, described[HeadShape::kBothResidual]))
      out[row] = logit(x, w, row);
  }
  for (int64_t panel = 0; panel < shape.panels(); ++panel)
    maxima.mutableData<float>()[panel] = maximumOfPanel(out + panel * kPanelRows);
  setResults(op, {exact, maxima}, frame);
  return success();
}

LogicalResult evaluateHeadSelect(HeadSelectOp op, Frame &frame) {
  const float *logits = frame.get(op.getLogits()).data<float>();
  int64_t length = frame.get(op.getIds()).dim(0);
  choose(
      op, op.getRowsAttr().getInt(), countOf(op.getK(), length, frame), length, [&](int64_t i) { return logits[i]; },
      frame);
  return success();
}
} // namespace

void reference::addHeadEvaluators(EvaluatorTable &table) {
  table.add<bitnet::TopKOp>(evaluateTopK);
  table.add<bitnet::LargestOp>(evaluateLargest);
  table.add<PackHeadOp>(evaluatePackHead);
  table.add<HeadQuantizeOp>(evaluateHeadQuantize);
  table.add<HeadScanOp>(evaluateHeadScan);
  table.add<HeadCandidatesOp>(evaluateHeadCandidates);
  table.add<HeadRescoreOp>(evaluateHeadRescore);
  table.add<HeadSelectOp>(evaluateHeadSelect);
}
