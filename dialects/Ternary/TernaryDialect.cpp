//===- TernaryDialect.cpp - dialect and attributes -------------------------------===//
#include "dialects/Ternary/Ternary.h"

#include "lib/Target/Kernels.h"
#include "lib/Target/MatrixKernels.h"

using namespace mlir;
using namespace mlir::ternary;

#include "dialects/Ternary/TernaryDialect.cpp.inc"
#include "dialects/Ternary/TernaryEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Ternary/TernaryAttrs.cpp.inc"

void TernaryDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Ternary/TernaryAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Ternary/TernaryOps.cpp.inc"
      >();
}

LogicalResult LayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError, Packing, int64_t rows, int64_t cols,
                                 RowOrder order) {
  setun::packing::PackedShape shape;
  shape.rows = rows;
  shape.cols = cols;
  if (rows <= 0 || cols <= 0)
    return emitError() << "expects positive rows and columns, got " << rows << " and " << cols;
  if (!shape.isValid())
    return emitError() << "expects rows and columns whose bytes fit 64 bits, got " << rows << " and " << cols;
  if (order == RowOrder::Gated && rows % 2)
    return emitError() << "expects an even number of rows in gated order, got " << rows;
  return success();
}

LogicalResult KernelAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef row, int64_t tokens,
                                 int64_t staged) {
  if (!setun::findKernelRow(row)) {
    auto diag = emitError() << "expects a row of the kernel table (";
    llvm::interleaveComma(setun::kernelRows(), diag, [&](const setun::KernelRow &r) { diag << r.name; });
    return diag << "), got " << row;
  }
  if (tokens < 1 || tokens > setun::MatrixKernel::kMaxTokens)
    return emitError() << "expects 1 to " << setun::MatrixKernel::kMaxTokens << " tokens, got " << tokens;
  if (staged < 0)
    return emitError() << "expects a number of tokens that is not negative for staging, got " << staged;
  return success();
}

setun::packing::PackedShape ternary::packedShape(LayoutAttr layout) {
  setun::packing::PackedShape shape;
  shape.kind = layout.isBinary()       ? setun::packing::WeightKind::Binary
               : layout.isBase3()      ? setun::packing::WeightKind::TernaryBase3
               : layout.isBytes()      ? setun::packing::WeightKind::Bytes
               : layout.hasSignedTop() ? setun::packing::WeightKind::TernarySigned
                                       : setun::packing::WeightKind::Ternary;
  bool gated = layout.getOrder() == RowOrder::Gated;
  shape.order = gated ? setun::packing::RowOrder::Gated : setun::packing::RowOrder::Linear;
  shape.rows = gated ? layout.getRows() / 2 : layout.getRows();
  shape.cols = layout.getCols();
  return shape;
}

float ternary::rowScale(bitnet::ScalesAttr scales, bitnet::Direction direction, ArrayRef<float> stored, int64_t groups,
                        int64_t row, int64_t group) {
  float value = 0;
  switch (scales.getKind()) {
  case bitnet::ScaleKind::Tensor:
    value = stored[0];
    break;
  case bitnet::ScaleKind::Rows: {
    if (scales.getRows().empty()) {
      value = stored[row];
      break;
    }
    size_t range = 0;
    for (int64_t end = scales.getRows()[0]; row >= end && range + 1 < scales.getRows().size();)
      end += scales.getRows()[++range];
    value = stored[range];
    break;
  }
  case bitnet::ScaleKind::Group:
    value = stored[row * groups + group];
    break;
  }
  return direction == bitnet::Direction::Divide ? 1.0f / value : value;
}

Operation *TernaryDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type, Location loc) {
  return arith::ConstantOp::materialize(builder, value, type, loc);
}
