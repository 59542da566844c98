//===- Ternary.h - the ternary dialect -----------------------------*- C++ -*-===//
#ifndef SETUN_DIALECTS_TERNARY_TERNARY_H
#define SETUN_DIALECTS_TERNARY_TERNARY_H

#include "dialects/BitNet/BitNet.h"
#include "setun/HeadPlanes.h"
#include "setun/Packing.h"

#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/TilingInterface.h"

namespace mlir::ternary {
/// Operands and destinations are all tensors, with a result for each destination, or all memrefs.
template <typename ConcreteType> class PureSemantics : public OpTrait::TraitBase<ConcreteType, PureSemantics> {
public:
  static LogicalResult verifyTrait(Operation *op) {
    auto dps = cast<DestinationStyleOpInterface>(op);
    if (!dps.hasPureTensorSemantics() && !dps.hasPureBufferSemantics())
      return op->emitOpError() << "expects operands that are all tensors or all memrefs";
    return success();
  }
};
} // namespace mlir::ternary

#include "dialects/Ternary/TernaryDialect.h.inc"
#include "dialects/Ternary/TernaryEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Ternary/TernaryAttrs.h.inc"
#define GET_OP_CLASSES
#include "dialects/Ternary/TernaryOps.h.inc"

namespace mlir::ternary {

/// The layout in the terms of Packing.h.
setun::packing::PackedShape packedShape(LayoutAttr layout);

/// The multiplying scale of row `row` (0-based within its matrix) and group `group`, from the stored scale tensor.
float rowScale(bitnet::ScalesAttr scales, bitnet::Direction direction, ArrayRef<float> stored, int64_t groups,
               int64_t row, int64_t group);

/// Bufferisation of all destination-style operations of the dialect.
void registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry);

} // namespace mlir::ternary

#endif // SETUN_DIALECTS_TERNARY_TERNARY_H
