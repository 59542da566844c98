//===- Formulas.h - what the operations compute, on plain arrays ---*- C++ -*-===//
//
// Each formula once, for both dialects. All float operations are single, rounded to nearest even and never fused, in
// the order that the dialect descriptions state (this directory is compiled without contraction).
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_LIB_REFERENCE_FORMULAS_H
#define SETUN_LIB_REFERENCE_FORMULAS_H

#include "dialects/BitNet/BitNet.h"

#include <cstdint>
#include <vector>

namespace setun::reference {

constexpr int64_t kSumLanes = 16;

/// Lanes l and l+8, then l+4, l+2, l+1.
float addLanes(float (&lanes)[kSumLanes]);

/// sum16 of term(0) .. term(n-1).
template <typename Term> float sum16(int64_t n, Term &&term) {
  float lanes[kSumLanes] = {};
  for (int64_t base = 0; base < n; base += kSumLanes)
    for (int64_t lane = 0; lane < kSumLanes; ++lane)
      lanes[lane] = lanes[lane] + (base + lane < n ? term(base + lane) : 0.0f);
  return addLanes(lanes);
}

/// seq of term(begin) .. term(end-1).
template <typename Term> float seq(int64_t begin, int64_t end, Term &&term) {
  float sum = 0.0f;
  for (int64_t i = begin; i < end; ++i)
    sum = sum + term(i);
  return sum;
}

/// Rows of attention that share a softmax step, and those whose sums are kept apart.
constexpr int64_t kAttentionBlock = 64, kAttentionRange = 256;

inline float maximum(float a, float b) { return a > b ? a : b; }
inline float minimum(float a, float b) { return a < b ? a : b; }

/// One row of #bitnet.norm; gain and shift may be null.
void normalizeRow(mlir::bitnet::NormKind kind, float eps, const float *x, int64_t k, const float *gain,
                  const float *shift, float *y);

/// Activation codes [T][K], dequantising scales [T] or [1], and code sums [T].
struct Quantized {
  std::vector<int8_t> codes;
  std::vector<float> scale;
  std::vector<int32_t> sums;
};
Quantized quantizeActivations(mlir::bitnet::ActQuantAttr how, const float *x, int64_t t, int64_t k);

/// Codes [N][K] and scales ([1] or [N][G], of absmax [N]) of master weights; `group` 0 is per tensor.
struct QuantizedWeight {
  std::vector<int8_t> codes;
  std::vector<float> scale;
};
QuantizedWeight quantizeWeight(mlir::bitnet::WeightQuant method, float eps, int64_t group, const float *w, int64_t n,
                               int64_t k);

/// Accumulators [T][N][G] of x[T][ldx] and codes w[N][K]; groups of `group` columns, 0 for one over all.
std::vector<int32_t> matmulCodes(const int8_t *x, int64_t ldx, const int8_t *w, int64_t t, int64_t n, int64_t k,
                                 int64_t group);
/// The same on f32 activations, each sum in the order of k.
std::vector<float> matmulFloats(const float *x, int64_t ldx, const int8_t *w, int64_t t, int64_t n, int64_t k,
                                int64_t group);

/// Scales and bias of one output: `acc` and `scale` have one element, or `groups` of them if `grouped`. Null
/// `actScale` and `bias` are left out.
float dequantizeOne(const float *acc, const float *scale, bool grouped, int64_t groups, const float *actScale,
                    const float *bias, mlir::bitnet::BiasPlace place);

float gate(mlir::bitnet::GateAct act, float gate, float up);

/// y[T][H][D]; tables have D/2 columns and start at the row of the first token.
void rotary(const float *x, const float *cos, const float *sin, int64_t t, int64_t heads, int64_t size, float *y);

/// Sizes of an attention: tokens, query heads, key/value heads, head size, position of the first token, rows of keys.
struct AttentionShape {
  int64_t tokens, heads, kvHeads, size, position, keys;
  bool causal;
  float scale;
};
/// `keyIndex` gives the element of k that key (row, kv head, i) is; `mask`, if it is given, what is added to a score.
void attention(const AttentionShape &shape, const float *q, const float *k,
               llvm::function_ref<int64_t(int64_t row, int64_t head, int64_t i)> keyIndex, const float *v, float *o,
               llvm::function_ref<float(int64_t head, int64_t token, int64_t row)> mask = nullptr);

/// One row of bitnet.softmax.
void softmaxRow(int64_t size, const float *x, float *y);

/// bitnet.math and bitnet.pow of a number.
float applyFunction(mlir::bitnet::Function function, float x);
float applyPow(float x, float exponent);

/// The part of `ternary.attention` for one token, head and range (starting at key `range`): `part` is [32 + size].
void attentionPart(const AttentionShape &shape, const float *q, const float *k,
                   llvm::function_ref<int64_t(int64_t row, int64_t head, int64_t i)> keyIndex, const float *v,
                   int64_t head, int64_t range, float *part);
/// One head's result o[size] from its first `ranges` parts, `stride` floats apart.
void attentionFold(const float *parts, int64_t stride, int64_t ranges, int64_t size, float *o);

/// What a cache of f16 takes for x: clamped to the finite range (NaN to its lower end), ties to even.
uint16_t cacheF16(float x);

void hadamardRow(int64_t block, int64_t k, const float *x, float *y);

/// y[T][N] = sum16_k(x[t][k] * w[n][k]) + bias[n]; `bias` may be null.
void dense(const float *x, const float *w, const float *bias, int64_t t, int64_t n, int64_t k, float *y);

} // namespace setun::reference

#endif // SETUN_LIB_REFERENCE_FORMULAS_H
