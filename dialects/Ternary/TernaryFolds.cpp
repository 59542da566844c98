//===- TernaryFolds.cpp - folds of ternary operations ----------------------------===//
//
// Packing of constants, through the same code that packs streamed weights (include/setun/Packing.h).
//
//===----------------------------------------------------------------------===//
#include "dialects/Ternary/Ternary.h"

using namespace mlir;
using namespace mlir::ternary;

OpFoldResult PackOp::fold(FoldAdaptor adaptor) {
  LayoutAttr layout = getLayout();
  std::vector<int8_t> codes;
  codes.reserve(layout.getRows() * layout.getCols());
  for (Attribute attr : adaptor.getWeights()) {
    auto dense = dyn_cast_or_null<DenseIntElementsAttr>(attr);
    if (!dense)
      return {};
    for (const APInt &value : dense.getValues<APInt>()) {
      if (value.getBitWidth() == 2 && value.isMinSignedValue()) // left for a diagnostic where it is packed
        return {};
      codes.push_back(layout.isBinary() ? (value.isZero() ? -1 : 1) : static_cast<int8_t>(value.getSExtValue()));
    }
  }
  setun::packing::PackedShape shape = packedShape(layout);
  std::vector<uint8_t> packed(shape.bytes());
  setun::packing::packCodes(shape, codes.data(), packed.data());
  return DenseElementsAttr::getFromRawBuffer(cast<ShapedType>(getPacked().getType()),
                                             ArrayRef<char>(reinterpret_cast<char *>(packed.data()), packed.size()));
}

OpFoldResult PackScalesOp::fold(FoldAdaptor adaptor) {
  std::vector<std::vector<float>> stored;
  for (Attribute attr : adaptor.getInputs()) {
    auto dense = dyn_cast_or_null<DenseFPElementsAttr>(attr);
    if (!dense)
      return {};
    stored.emplace_back(dense.value_begin<float>(), dense.value_end<float>());
  }
  auto type = cast<RankedTensorType>(getPacked().getType());
  int64_t groups = type.getDimSize(1);
  std::vector<float> packed(type.getNumElements());
  setun::packing::packScales(
      packedShape(getLayout()), groups,
      [&](int64_t row, int64_t group) {
        size_t matrix = 0;
        while (row >= getRowCounts()[matrix])
          row -= getRowCounts()[matrix++];
        return rowScale(cast<bitnet::ScalesAttr>(getScales()[matrix]),
                        cast<bitnet::DirectionAttr>(getDirections()[matrix]).getValue(), stored[matrix], groups, row,
                        group);
      },
      packed.data());
  return DenseElementsAttr::get(type, ArrayRef<float>(packed));
}
