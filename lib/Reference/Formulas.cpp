//===- Formulas.cpp - what the operations compute, on plain arrays ---------------===//
#include "lib/Reference/Formulas.h"

#include "dialects/BitNet/Functions.h"
#include "lib/Weights/DType.h"
#include "setun/Exp.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::bitnet;
using namespace setun;
using namespace setun::reference;

float reference::addLanes(float (&lanes)[kSumLanes]) {
  for (int64_t distance = kSumLanes / 2; distance > 0; distance /= 2)
    for (int64_t lane = 0; lane < distance; ++lane)
      lanes[lane] = lanes[lane] + lanes[lane + distance];
  return lanes[0];
}

void reference::normalizeRow(NormKind kind, float eps, const float *x, int64_t k, const float *gain, const float *shift,
                             float *y) {
  if (kind == NormKind::None) {
    std::copy(x, x + k, y);
    return;
  }
  float count = static_cast<float>(k);
  float mean = kind == NormKind::Layer ? sum16(k, [&](int64_t i) { return x[i]; }) / count : 0.0f;
  auto centred = [&](int64_t i) { return kind == NormKind::Layer ? x[i] - mean : x[i]; };
  float meanSquare = sum16(k, [&](int64_t i) { return centred(i) * centred(i); }) / count;
  float inverse = 1.0f / std::sqrt(meanSquare + eps);
  for (int64_t i = 0; i < k; ++i) {
    float value = centred(i) * inverse;
    if (gain)
      value = value * gain[i];
    if (shift)
      value = value + shift[i];
    y[i] = value;
  }
}

Quantized reference::quantizeActivations(ActQuantAttr how, const float *x, int64_t t, int64_t k) {
  Quantized result;
  result.codes.resize(t * k);
  result.sums.resize(t);
  bool perToken = how.getGranularity() == ActGranularity::PerToken;
  float lowest = static_cast<float>(how.getQMin()), highest = static_cast<float>(how.getQMax());
  int64_t parts = perToken ? t : 1;
  for (int64_t part = 0; part < parts; ++part) {
    int64_t begin = perToken ? part : 0, end = perToken ? part + 1 : t;
    float absmax = 0.0f;
    for (int64_t i = begin * k; i < end * k; ++i)
      absmax = maximum(absmax, std::fabs(x[i]));
    float s = (1.0f / maximum(absmax, how.getEpsValue())) * highest;
    result.scale.push_back(1.0f / s);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = 0; i < k; ++i) {
        float rounded = std::nearbyint(x[row * k + i] * s);
        int8_t code = static_cast<int8_t>(minimum(maximum(rounded, lowest), highest));
        result.codes[row * k + i] = code;
        result.sums[row] += code;
      }
    }
  }
  return result;
}

QuantizedWeight reference::quantizeWeight(WeightQuant method, float eps, int64_t group, const float *w, int64_t n,
                                          int64_t k) {
  QuantizedWeight result;
  result.codes.resize(n * k);
  for (int64_t r = 0; r < n && method == WeightQuant::Absmax; ++r) {
    float largest = eps;
    for (int64_t c = 0; c < k; ++c)
      largest = maximum(largest, std::fabs(w[r * k + c]));
    float scale = largest / 127.0f, inverse = 1.0f / scale;
    for (int64_t c = 0; c < k; ++c)
      result.codes[r * k + c] =
          static_cast<int8_t>(minimum(maximum(std::nearbyint(w[r * k + c] * inverse), -127.0f), 127.0f));
    result.scale.push_back(scale);
  }
  if (method == WeightQuant::Absmax)
    return result;
  auto quantise = [&](int64_t rowBegin, int64_t rowEnd, int64_t colBegin, int64_t colEnd) {
    double sum = 0, magnitude = 0;
    for (int64_t r = rowBegin; r < rowEnd; ++r)
      for (int64_t c = colBegin; c < colEnd; ++c) {
        sum += w[r * k + c];
        magnitude += std::fabs(w[r * k + c]);
      }
    double count = static_cast<double>(rowEnd - rowBegin) * static_cast<double>(colEnd - colBegin);
    float mean = static_cast<float>(sum / count), absmean = static_cast<float>(magnitude / count);
    float scale = method == WeightQuant::Absmean ? maximum(absmean, eps) : absmean;
    float inverse = 1.0f / scale;
    for (int64_t r = rowBegin; r < rowEnd; ++r)
      for (int64_t c = colBegin; c < colEnd; ++c) {
        float value = w[r * k + c];
        if (method == WeightQuant::Absmean)
          result.codes[r * k + c] = static_cast<int8_t>(minimum(maximum(std::nearbyint(value * inverse), -1.0f), 1.0f));
        else
          result.codes[r * k + c] = value - mean > 0.0f ? 1 : -1;
      }
    result.scale.push_back(scale);
  };
  if (group == 0) {
    quantise(0, n, 0, k);
    return result;
  }
  for (int64_t r = 0; r < n; ++r)
    for (int64_t begin = 0; begin < k; begin += group)
      quantise(r, r + 1, begin, std::min(k, begin + group));
  return result;
}

/// Begin and end of group g along K.
static std::pair<int64_t, int64_t> groupRange(int64_t k, int64_t group, int64_t g) {
  return group ? std::make_pair(g * group, std::min(k, (g + 1) * group)) : std::make_pair(int64_t(0), k);
}

std::vector<int32_t> reference::matmulCodes(const int8_t *x, int64_t ldx, const int8_t *w, int64_t t, int64_t n,
                                            int64_t k, int64_t group) {
  int64_t groups = groupCount(k, group);
  std::vector<int32_t> acc;
  acc.reserve(t * n * groups);
  for (int64_t row = 0; row < t; ++row)
    for (int64_t col = 0; col < n; ++col)
      for (int64_t g = 0; g < groups; ++g) {
        auto [begin, end] = groupRange(k, group, g);
        int32_t sum = 0;
        for (int64_t i = begin; i < end; ++i)
          sum += static_cast<int32_t>(x[row * ldx + i]) * static_cast<int32_t>(w[col * k + i]);
        acc.push_back(sum);
      }
  return acc;
}

std::vector<float> reference::matmulFloats(const float *x, int64_t ldx, const int8_t *w, int64_t t, int64_t n,
                                           int64_t k, int64_t group) {
  int64_t groups = groupCount(k, group);
  std::vector<float> acc;
  acc.reserve(t * n * groups);
  for (int64_t row = 0; row < t; ++row)
    for (int64_t col = 0; col < n; ++col)
      for (int64_t g = 0; g < groups; ++g) {
        auto [begin, end] = groupRange(k, group, g);
        acc.push_back(
            seq(begin, end, [&](int64_t i) { return x[row * ldx + i] * static_cast<float>(w[col * k + i]); }));
      }
  return acc;
}

float reference::dequantizeOne(const float *acc, const float *scale, bool grouped, int64_t groups,
                               const float *actScale, const float *bias, BiasPlace place) {
  float value;
  if (grouped) {
    value = seq(0, groups, [&](int64_t g) { return acc[g] * scale[g]; });
    if (actScale)
      value = value * *actScale;
  } else {
    value = acc[0];
    if (bias && place == BiasPlace::BeforeScale)
      value = value + *bias;
    value = value * (actScale ? *actScale * scale[0] : scale[0]);
  }
  if (bias && place == BiasPlace::AfterScale)
    value = value + *bias;
  return value;
}

float reference::gate(GateAct act, float gate, float up) {
  if (act == GateAct::Silu)
    return (gate / (1.0f + exactExp(-gate))) * up;
  float positive = maximum(gate, 0.0f);
  return (positive * positive) * up;
}

void reference::rotary(const float *x, const float *cos, const float *sin, int64_t t, int64_t heads, int64_t size,
                       float *y) {
  int64_t half = size / 2;
  for (int64_t token = 0; token < t; ++token)
    for (int64_t head = 0; head < heads; ++head) {
      const float *in = x + (token * heads + head) * size;
      float *out = y + (token * heads + head) * size;
      for (int64_t i = 0; i < half; ++i) {
        float c = cos[token * half + i], s = sin[token * half + i];
        float a = in[i] * c, b = in[i + half] * s;
        out[i] = a - b;
        a = in[i + half] * c, b = in[i] * s;
        out[i + half] = a + b;
      }
    }
}

static constexpr float lowest = std::numeric_limits<float>::lowest();

namespace {
/// Running softmax of one query: maximum, 16 lanes of weights, weighted sum of values.
struct Softmax {
  explicit Softmax(int64_t size) : acc(size) {}
  float top = lowest;
  float lanes[kSumLanes] = {};
  std::vector<float> acc;

  void rescale(float factor) {
    for (float &lane : lanes)
      lane = lane * factor;
    for (float &value : acc)
      value = value * factor;
  }
};
} // namespace

/// tree over 16 lanes, with the larger one in place of the sum.
static float largest(float (&lanes)[kSumLanes]) {
  for (int64_t distance = kSumLanes / 2; distance > 0; distance /= 2)
    for (int64_t lane = 0; lane < distance; ++lane)
      lanes[lane] = maximum(lanes[lane], lanes[lane + distance]);
  return lanes[0];
}

/// The sums of keys and values `range` to `range` + 256, below `length`, for one query that is scaled already.
static Softmax attendRange(const AttentionShape &shape, const std::vector<float> &query, const float *k,
                           llvm::function_ref<int64_t(int64_t, int64_t, int64_t)> keyIndex, const float *v,
                           int64_t kvHead, int64_t range, int64_t length,
                           llvm::function_ref<float(int64_t row)> mask = nullptr) {
  int64_t size = shape.size;
  Softmax part(size);
  for (int64_t base = range; base < std::min(length, range + kAttentionRange); base += kAttentionBlock) {
    int64_t count = std::min(kAttentionBlock, length - base);
    float scores[kAttentionBlock], lanes[kSumLanes];
    std::fill(std::begin(scores), std::end(scores), lowest);
    std::fill(std::begin(lanes), std::end(lanes), lowest);
    for (int64_t j = 0; j < count; ++j) {
      scores[j] = seq(0, size, [&](int64_t i) { return query[i] * k[keyIndex(base + j, kvHead, i)]; });
      if (mask)
        scores[j] = scores[j] + mask(base + j);
    }
    for (int64_t j = 0; j < kAttentionBlock; ++j)
      lanes[j % kSumLanes] = maximum(lanes[j % kSumLanes], scores[j]);
    for (float &lane : lanes) // drops a NaN
      lane = maximum(lane, lowest);
    float next = maximum(part.top, largest(lanes));
    part.rescale(exactExp(part.top - next));
    part.top = next;
    for (int64_t j = 0; j < count; ++j) {
      float p = exactExp(scores[j] - next);
      part.lanes[j % kSumLanes] = part.lanes[j % kSumLanes] + p;
      const float *value = v + ((base + j) * shape.kvHeads + kvHead) * size;
      for (int64_t i = 0; i < size; ++i) {
        float term = p * value[i];
        part.acc[i] = part.acc[i] + term;
      }
    }
  }
  return part;
}

/// Adds the sums of the next range to those of the ranges before.
static void foldIn(Softmax &total, Softmax part) {
  float next = maximum(total.top, part.top);
  total.rescale(exactExp(total.top - next));
  part.rescale(exactExp(part.top - next));
  total.top = next;
  for (int64_t lane = 0; lane < kSumLanes; ++lane)
    total.lanes[lane] = total.lanes[lane] + part.lanes[lane];
  for (size_t i = 0; i < total.acc.size(); ++i)
    total.acc[i] = total.acc[i] + part.acc[i];
}

static void finishHead(Softmax &total, float *o) {
  float inverse = 1.0f / addLanes(total.lanes);
  for (size_t i = 0; i < total.acc.size(); ++i)
    o[i] = (total.acc[i] + 0.0f) * inverse;
}

static std::vector<float> scaledQuery(const AttentionShape &shape, const float *q) {
  std::vector<float> query(q, q + shape.size);
  for (float &value : query)
    value = value * shape.scale;
  return query;
}

void reference::attention(const AttentionShape &shape, const float *q, const float *k,
                          llvm::function_ref<int64_t(int64_t, int64_t, int64_t)> keyIndex, const float *v, float *o,
                          llvm::function_ref<float(int64_t, int64_t, int64_t)> mask) {
  for (int64_t token = 0; token < shape.tokens; ++token)
    for (int64_t head = 0; head < shape.heads; ++head) {
      int64_t kvHead = head / (shape.heads / shape.kvHeads), place = (token * shape.heads + head) * shape.size;
      std::vector<float> query = scaledQuery(shape, q + place);
      int64_t length = shape.causal ? std::min(shape.position + token + 1, shape.keys) : shape.keys;
      auto added = [&](int64_t row) { return mask(head, token, row); };
      Softmax total(shape.size);
      for (int64_t range = 0; range < length; range += kAttentionRange)
        foldIn(total, attendRange(shape, query, k, keyIndex, v, kvHead, range, length,
                                  mask ? llvm::function_ref<float(int64_t)>(added) : nullptr));
      finishHead(total, o + place);
    }
}

void reference::attentionPart(const AttentionShape &shape, const float *q, const float *k,
                              llvm::function_ref<int64_t(int64_t, int64_t, int64_t)> keyIndex, const float *v,
                              int64_t head, int64_t range, float *part) {
  int64_t kvHead = head / (shape.heads / shape.kvHeads);
  Softmax sums =
      attendRange(shape, scaledQuery(shape, q + head * shape.size), k, keyIndex, v, kvHead, range, shape.position + 1);
  part = std::fill_n(part, kSumLanes, sums.top);
  part = std::copy(std::begin(sums.lanes), std::end(sums.lanes), part);
  std::copy(sums.acc.begin(), sums.acc.end(), part);
}

void reference::attentionFold(const float *parts, int64_t stride, int64_t ranges, int64_t size, float *o) {
  Softmax total(size);
  for (int64_t range = 0; range < ranges; ++range, parts += stride) {
    Softmax part(size);
    part.top = parts[0];
    std::copy_n(parts + kSumLanes, kSumLanes, part.lanes);
    std::copy_n(parts + 2 * kSumLanes, size, part.acc.begin());
    foldIn(total, std::move(part));
  }
  finishHead(total, o);
}

void reference::softmaxRow(int64_t size, const float *x, float *y) {
  float top = lowest;
  for (int64_t i = 0; i < size; ++i)
    top = maximum(x[i], top);
  for (int64_t i = 0; i < size; ++i)
    y[i] = exactExp(x[i] - top);
  float inverse = 1.0f / sum16(size, [&](int64_t i) { return y[i]; });
  for (int64_t i = 0; i < size; ++i)
    y[i] = y[i] * inverse;
}

float reference::applyFunction(Function function, float x) {
  NumberArithmetic arithmetic;
  return bitnet::applyFunction(arithmetic, function, x);
}

float reference::applyPow(float x, float exponent) {
  NumberArithmetic arithmetic;
  return Math<NumberArithmetic>(arithmetic).pow(x, exponent);
}

uint16_t reference::cacheF16(float x) { return floatToF16(minimum(maximum(x, -65504.0f), 65504.0f)); }

void reference::hadamardRow(int64_t block, int64_t k, const float *x, float *y) {
  std::copy(x, x + k, y);
  for (int64_t distance = 1; distance < block; distance *= 2)
    for (int64_t i = 0; i < k; ++i) {
      if (i & distance)
        continue;
      float a = y[i], b = y[i + distance];
      y[i] = a + b;
      y[i + distance] = a - b;
    }
  float norm = static_cast<float>(1.0 / std::sqrt(static_cast<double>(block)));
  for (int64_t i = 0; i < k; ++i)
    y[i] = y[i] * norm;
}

void reference::dense(const float *x, const float *w, const float *bias, int64_t t, int64_t n, int64_t k, float *y) {
  for (int64_t row = 0; row < t; ++row)
    for (int64_t col = 0; col < n; ++col) {
      float value = sum16(k, [&](int64_t i) { return x[row * k + i] * w[col * k + i]; });
      y[row * n + col] = bias ? value + bias[col] : value;
    }
}
