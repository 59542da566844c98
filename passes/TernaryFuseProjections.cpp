//===- TernaryFuseProjections.cpp - matmuls of one input into one ----------------===//
#include "passes/Passes.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYFUSEPROJECTIONS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
/// A matmul that may be put together with others.
bool canFuse(MatmulOp op) {
  return op->getNumResults() == 1 && op.getY() && !op.getAcc() && !op.getBias() && !op.getResidual() &&
         !op.getActivation() && !op.getKernel() && op.getLayout().getOrder() == RowOrder::Linear &&
         op.getPacked().getDefiningOp<PackOp>() && op.getRowScales().getDefiningOp<PackScalesOp>() &&
         op.getY().getDefiningOp<tensor::EmptyOp>();
}

/// A matrix that is not itself several: of two of these the gated order takes half a panel each.
bool hasOneMatrix(MatmulOp op) { return op.getPacked().getDefiningOp<PackOp>().getWeights().size() == 1; }

/// Whether what `values` are computed from may stand before `at`, in whose block it is; `inOrder` gets what does not
/// stand there already.
bool mayPrecede(ValueRange values, Operation *at, llvm::SetVector<Operation *> &inOrder) {
  for (Value value : values) {
    Operation *def = value.getDefiningOp();
    if (!def || def->getBlock() != at->getBlock() || def->isBeforeInBlock(at) || inOrder.contains(def))
      continue;
    if (def == at || !isPure(def) || def->getNumRegions() || !mayPrecede(def->getOperands(), at, inOrder))
      return false;
    inOrder.insert(def);
  }
  return true;
}

struct TernaryFuseProjections : public setun::impl::TernaryFuseProjectionsBase<TernaryFuseProjections> {
  void runOnOperation() override;

  /// One matmul over all rows of `parts`, placed at the last of them; its users' values come from `order`.
  MatmulOp merge(ArrayRef<MatmulOp> parts, RowOrder order, Epilogue epilogue, Value like, Operation *at);
};

MatmulOp TernaryFuseProjections::merge(ArrayRef<MatmulOp> parts, RowOrder order, Epilogue epilogue, Value like,
                                       Operation *at) {
  MatmulOp first = parts.front();
  OpBuilder b(at);
  SmallVector<Location> locs;
  SmallVector<Value> weights, scales;
  SmallVector<int64_t> rowCounts;
  SmallVector<Attribute> granularities, directions;
  int64_t rows = 0;
  for (MatmulOp part : parts) {
    locs.push_back(part.getLoc());
    llvm::append_range(weights, part.getPacked().getDefiningOp<PackOp>().getWeights());
    auto packScales = part.getRowScales().getDefiningOp<PackScalesOp>();
    llvm::append_range(scales, packScales.getInputs());
    llvm::append_range(rowCounts, packScales.getRowCounts());
    llvm::append_range(granularities, packScales.getScales());
    llvm::append_range(directions, packScales.getDirections());
    rows += part.getLayout().getRows();
  }
  Location loc = b.getFusedLoc(locs);
  auto layout =
      LayoutAttr::get(&getContext(), first.getLayout().getPacking(), rows, first.getLayout().getCols(), order);
  Value packed = PackOp::create(b, loc, RankedTensorType::get({layout.getBytes()}, b.getI8Type()), weights, layout);
  auto scalesType =
      RankedTensorType::get({layout.getPanels(), first.getGroups(), layout.getPanelRows()}, b.getF32Type());
  Value rowScales = PackScalesOp::create(b, loc, scalesType, scales, layout, b.getDenseI64ArrayAttr(rowCounts),
                                         b.getArrayAttr(granularities), b.getArrayAttr(directions));
  auto yType = RankedTensorType::get({cast<ShapedType>(first.getY().getType()).getDimSize(0), layout.getOutputRows()},
                                     b.getF32Type());
  SmallVector<Value> sizes;
  if (yType.isDynamicDim(0))
    sizes.push_back(tensor::DimOp::create(b, loc, like, 0));
  Value y = tensor::EmptyOp::create(b, loc, yType, sizes);
  return MatmulOp::create(b, loc, TypeRange{yType}, first.getX(), packed, rowScales, first.getActScale(),
                          first.getSums(), Value(), Value(), Value(), Value(), Value(), y, Value(), layout,
                          first.getGroupAttr(), EpilogueAttr::get(&getContext(), epilogue), bitnet::FunctionAttr(),
                          first.getBiasPlaceAttr(), KernelAttr());
}

void TernaryFuseProjections::runOnOperation() {
  // Gate and up first: they want their own row order.
  SmallVector<GatedOp> gates;
  getOperation().walk([&](GatedOp op) { gates.push_back(op); });
  for (GatedOp gated : gates) {
    auto gate = gated.getGate().getDefiningOp<MatmulOp>();
    auto up = gated.getUp().getDefiningOp<MatmulOp>();
    if (!gate || !up || gate == up || !canFuse(gate) || !canFuse(up) || !hasOneMatrix(gate) || !hasOneMatrix(up) ||
        !gate->hasOneUse() || !up->hasOneUse() || gate.getX() != up.getX() || gate.getSums() != up.getSums() ||
        gate.getLayout() != up.getLayout() || gate.getGroupAttr() != up.getGroupAttr() ||
        gate.getActScale() != up.getActScale())
      continue;
    Epilogue epilogue = gated.getAct() == bitnet::GateAct::Relu2 ? Epilogue::Relu2 : Epilogue::Silu;
    MatmulOp merged = merge({gate, up}, RowOrder::Gated, epilogue, gate.getX(), gated);
    gated->getResult(0).replaceAllUsesWith(merged->getResult(0));
    gated.erase();
    gate.erase();
    up.erase();
    ++numFused;
  }

  // The rest: groups with the same input and activation scale, in program order.
  using Key = std::tuple<Value, Value, Value, Attribute, Attribute>;
  llvm::MapVector<Key, SmallVector<MatmulOp>> groups;
  getOperation().walk([&](MatmulOp op) {
    if (canFuse(op))
      groups[{op.getX(), op.getActScale(), op.getSums(),
              StringAttr::get(&getContext(), stringifyPacking(op.getLayout().getPacking())), op.getGroupAttr()}]
          .push_back(op);
  });
  for (auto &entry : groups) {
    SmallVector<MatmulOp> &parts = entry.second;
    if (parts.size() < 2 || !llvm::all_of(parts, [&](MatmulOp op) { return op->getBlock() == parts[0]->getBlock(); }))
      continue;
    // The first part's place: weights are defined anywhere, so they move up to it.
    MatmulOp at = parts.front();
    llvm::SetVector<Operation *> above;
    if (!llvm::all_of(parts, [&](MatmulOp part) {
          return mayPrecede(part.getPacked().getDefiningOp()->getOperands(), at, above) &&
                 mayPrecede(part.getRowScales().getDefiningOp()->getOperands(), at, above);
        }))
      continue;
    for (Operation *def : above)
      def->moveBefore(at);
    MatmulOp merged = merge(parts, RowOrder::Linear, Epilogue::None, at.getX(), at);
    int64_t row = 0;
    for (MatmulOp part : parts) {
      OpBuilder b(part);
      auto type = cast<RankedTensorType>(part->getResult(0).getType());
      int64_t n = type.getDimSize(1);
      OpFoldResult tokens = tensor::getMixedSize(b, part.getLoc(), merged->getResult(0), 0);
      SmallVector<OpFoldResult> offsets = {b.getIndexAttr(0), b.getIndexAttr(row)};
      SmallVector<OpFoldResult> sizes = {tokens, b.getIndexAttr(n)};
      SmallVector<OpFoldResult> strides(2, b.getIndexAttr(1));
      Value slice =
          tensor::ExtractSliceOp::create(b, part.getLoc(), type, merged->getResult(0), offsets, sizes, strides);
      part->getResult(0).replaceAllUsesWith(slice);
      row += n;
      part.erase();
      ++numFused;
    }
  }
}
} // namespace
