//===- BitNetFolds.cpp - folds and canonicalisation of bitnet operations --------===//
//
// Rewrites that are always good, on every target.
//
//===----------------------------------------------------------------------===//
#include "dialects/BitNet/BitNet.h"

#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::bitnet;

/// hadamard of block 1 is the identity; hadamard twice with one block is the identity only up to rounding, so it stays.
OpFoldResult HadamardOp::fold(FoldAdaptor) { return getBlock() == 1 ? OpFoldResult(getX()) : OpFoldResult(); }

float bitnet::quantizeAbsmax(ArrayRef<float> row, float eps, int8_t *codes) {
  float largest = 0;
  for (float value : row)
    largest = std::max(largest, std::fabs(value));
  const float scale = std::max(largest, eps) / 127.0f, inverse = 1.0f / scale;
  // Adding 1.5 * 2^23 rounds to nearest even, on every compiler's fast path; products are within 127 and a rounding.
  constexpr float shift = 12582912.0f;
  for (size_t i = 0; i < row.size(); ++i)
    codes[i] = static_cast<int8_t>(static_cast<int>((row[i] * inverse + shift) - shift));
  return scale;
}

/// quantize_weight of constant masters gives constant codes and scale, by the formula of the op's description.
LogicalResult QuantizeWeightOp::fold(FoldAdaptor adaptor, SmallVectorImpl<OpFoldResult> &results) {
  auto masters = dyn_cast_or_null<DenseFPElementsAttr>(adaptor.getMasters());
  if (!masters)
    return failure();
  auto type = cast<RankedTensorType>(getMasters().getType());
  int64_t n = type.getDimSize(0), k = type.getDimSize(1);
  bool grouped = getGranularity().getKind() == ScaleKind::Group;
  int64_t span = grouped ? getGranularity().getGroup() : k;
  int64_t groups = groupCount(k, grouped ? span : 0);
  std::vector<float> w;
  w.reserve(n * k);
  for (APFloat value : masters.getValues<APFloat>()) {
    bool loses;
    if (!value.isFinite()) // left for a diagnostic where it is packed
      return failure();
    value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &loses);
    w.push_back(value.convertToFloat());
  }
  float eps = getEps().convertToFloat();
  if (getMethod() == WeightQuant::Absmax) {
    std::vector<int8_t> bytes(n * k);
    std::vector<float> rowScales(n);
    for (int64_t r = 0; r < n; ++r)
      rowScales[r] = quantizeAbsmax(ArrayRef(w).slice(r * k, k), eps, bytes.data() + r * k);
    results.push_back(DenseElementsAttr::get(cast<ShapedType>(getCodes().getType()), ArrayRef<int8_t>(bytes)));
    results.push_back(DenseElementsAttr::get(cast<ShapedType>(getScale().getType()), ArrayRef<float>(rowScales)));
    return success();
  }
  std::vector<APInt> codes(n * k, APInt(getMethod() == WeightQuant::Absmean ? 2 : 1, 0));
  std::vector<float> scales;
  auto quantise = [&](int64_t rowBegin, int64_t rowEnd, int64_t colBegin, int64_t colEnd) {
    double sum = 0, magnitude = 0;
    for (int64_t r = rowBegin; r < rowEnd; ++r)
      for (int64_t c = colBegin; c < colEnd; ++c) {
        sum += w[r * k + c];
        magnitude += std::fabs(w[r * k + c]);
      }
    double count = double(rowEnd - rowBegin) * (colEnd - colBegin);
    float mean = static_cast<float>(sum / count), absmean = static_cast<float>(magnitude / count);
    bool ternary = getMethod() == WeightQuant::Absmean;
    float scale = ternary ? std::max(absmean, eps) : absmean;
    float inverse = 1.0f / scale;
    for (int64_t r = rowBegin; r < rowEnd; ++r)
      for (int64_t c = colBegin; c < colEnd; ++c) {
        if (ternary) {
          float code = std::nearbyint(w[r * k + c] * inverse);
          code = std::min(std::max(code, -1.0f), 1.0f);
          codes[r * k + c] = APInt(2, static_cast<int64_t>(code), /*isSigned=*/true);
        } else {
          codes[r * k + c] = APInt(1, w[r * k + c] - mean > 0.0f);
        }
      }
    scales.push_back(scale);
  };
  if (grouped) {
    for (int64_t r = 0; r < n; ++r)
      for (int64_t g = 0; g < groups; ++g)
        quantise(r, r + 1, g * span, std::min(k, (g + 1) * span));
  } else {
    quantise(0, n, 0, k);
  }
  results.push_back(DenseElementsAttr::get(cast<ShapedType>(getCodes().getType()), codes));
  results.push_back(DenseElementsAttr::get(cast<ShapedType>(getScale().getType()), ArrayRef<float>(scales)));
  return success();
}

/// Constants that folds produce are arith constants.
Operation *BitNetDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type, Location loc) {
  OperationState state(loc, "arith.constant");
  auto typed = dyn_cast<TypedAttr>(value);
  if (!typed || typed.getType() != type)
    return nullptr;
  state.addTypes(type);
  state.addAttribute("value", typed);
  return builder.create(state);
}
