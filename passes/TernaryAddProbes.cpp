//===- TernaryAddProbes.cpp - codes and accumulators as outputs ------------------===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYADDPROBES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
/// Name of the layer that a weight value belongs to; empty if it has none.
std::string layerName(Value weight) {
  if (auto quantize = weight.getDefiningOp<bitnet::QuantizeWeightOp>())
    weight = quantize.getMasters();
  auto op = weight.getDefiningOp<bitnet::WeightOp>();
  if (!op)
    return "";
  StringRef name = op.getName();
  name.consume_back(".weight");
  return name.str();
}

/// The symbol of the entry (as in EntryTensor::shape) that a dynamic size plainly is; none where it is computed.
std::optional<int64_t> symbolOf(const setun::EntryInfo &info, Value tensor, int64_t axis) {
  auto ofSize = [&](OpFoldResult size) -> std::optional<int64_t> {
    auto value = dyn_cast<Value>(size);
    auto dim = value ? value.getDefiningOp<tensor::DimOp>() : tensor::DimOp();
    std::optional<int64_t> index = dim ? dim.getConstantIndex() : std::nullopt;
    return index ? symbolOf(info, dim.getSource(), *index) : std::nullopt;
  };
  if (auto argument = dyn_cast<BlockArgument>(tensor)) {
    if (!isa<func::FuncOp>(argument.getOwner()->getParentOp()) || !argument.getOwner()->isEntryBlock())
      return std::nullopt;
    for (auto *list : {&info.inputs, &info.states})
      for (const setun::EntryTensor &entryTensor : *list)
        if (entryTensor.index == argument.getArgNumber())
          return entryTensor.shape[axis];
    return std::nullopt;
  }
  Operation *def = tensor.getDefiningOp();
  if (auto empty = dyn_cast<tensor::EmptyOp>(def))
    return ofSize(empty.getMixedSizes()[axis]);
  if (auto cast = dyn_cast<tensor::CastOp>(def))
    return symbolOf(info, cast.getSource(), axis);
  if (auto expand = dyn_cast<tensor::ExpandShapeOp>(def))
    return ofSize(expand.getMixedOutputShape()[axis]);
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(def)) {
    llvm::SmallBitVector dropped = slice.getDroppedDims();
    for (auto [i, size] : llvm::enumerate(slice.getMixedSizes()))
      if (!dropped[i] && axis-- == 0)
        return ofSize(size);
  }
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(def)) {
    // The one axis that is not of size 1, if there is one.
    std::optional<int64_t> only;
    for (int64_t inner : collapse.getReassociationIndices()[axis])
      if (collapse.getSrcType().getDimSize(inner) != 1) {
        if (only)
          return std::nullopt;
        only = inner;
      }
    return only ? symbolOf(info, collapse.getSrc(), *only) : std::nullopt;
  }
  if (auto dps = dyn_cast<DestinationStyleOpInterface>(def))
    return symbolOf(info, dps.getTiedOpOperand(cast<OpResult>(tensor))->get(), axis);
  if (auto elementwise = dyn_cast<arith::SelectOp>(def))
    return symbolOf(info, elementwise.getTrueValue(), axis);
  if (def->hasTrait<OpTrait::SameOperandsAndResultShape>() || def->hasTrait<OpTrait::Elementwise>())
    return symbolOf(info, def->getOperand(0), axis);
  return std::nullopt;
}

struct TernaryAddProbes : public setun::impl::TernaryAddProbesBase<TernaryAddProbes> {
  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>())
      if (setun::isEntry(func) && failed(addProbes(func)))
        return signalPassFailure();
  }

  LogicalResult addProbes(func::FuncOp func);
};

LogicalResult TernaryAddProbes::addProbes(func::FuncOp func) {
  auto info = setun::getEntryInfo(func);
  if (failed(info))
    return failure();
  Block &body = func.getBody().front();
  auto ret = dyn_cast<func::ReturnOp>(body.getTerminator());
  if (!ret)
    return func.emitError() << "expects straight-line code in an entry point";
  SmallVector<MatmulOp> matmuls(body.getOps<MatmulOp>());
  SmallVector<Value> probes;
  SmallVector<std::string> names;
  SmallVector<StringRef> symbols; // of the rows of each probe, where they are dynamic
  int unnamed = 0;

  for (MatmulOp op : matmuls) {
    auto pack = op.getPacked().getDefiningOp<PackOp>();
    if (!pack)
      continue;
    OpBuilder b(op);
    Location loc = op.getLoc();
    bool coded = static_cast<bool>(op.getSums());
    LayoutAttr layout = op.getLayout();
    int64_t tokens = cast<ShapedType>(op.getX().getType()).getDimSize(0);
    StringRef symbol;
    if (ShapedType::isDynamic(tokens)) {
      std::optional<int64_t> number = symbolOf(*info, op.getX(), 0);
      if (!number || *number >= 0) {
        std::string name = layerName(pack.getWeights().front());
        return op.emitError() << "expects the rows of layer "
                              << (name.empty() ? "linear" + std::to_string(unnamed) : name)
                              << " to be a dimension of the entry's inputs, so that its probe has a size; compile "
                                 "without probes";
      }
      symbol = info->symbols[-1 - *number];
    }
    SmallVector<int64_t> shape = {tokens, layout.getRows()};
    if (op.getGroup())
      shape.push_back(op.getGroups());
    auto accType = RankedTensorType::get(shape, coded ? b.getI32Type() : Type(b.getF32Type()));
    Value acc;
    if (op.getAcc()) {
      acc = op->getResults().back();
    } else {
      SmallVector<Value> sizes;
      if (accType.isDynamicDim(0))
        sizes.push_back(tensor::DimOp::create(b, loc, op.getX(), 0));
      Value empty = tensor::EmptyOp::create(b, loc, accType, sizes);
      auto probed =
          MatmulOp::create(b, loc, TypeRange{op->getResult(0).getType(), accType}, op.getX(), op.getPacked(),
                           op.getRowScales(), op.getActScale(), op.getSums(), op.getBias(), op.getResidual(), Value(),
                           Value(), Value(), op.getY(), empty, layout, op.getGroupAttr(), op.getEpilogueAttr(),
                           op.getActivationAttr(), op.getBiasPlaceAttr(), op.getKernelAttr());
      op->getResult(0).replaceAllUsesWith(probed->getResult(0));
      op.erase();
      acc = probed->getResult(1);
      op = probed;
    }
    b.setInsertionPointAfterValue(acc);
    Value codes = op.getX();
    OpFoldResult tokenSize = tensor::getMixedSize(b, loc, codes, 0);
    int64_t row = 0;
    auto slice = [&](Value value, ArrayRef<int64_t> offset, ArrayRef<int64_t> size) {
      SmallVector<OpFoldResult> offsets, sizes = {tokenSize}, strides;
      for (int64_t o : offset)
        offsets.push_back(b.getIndexAttr(o));
      for (int64_t s : size)
        sizes.push_back(b.getIndexAttr(s));
      strides.assign(offsets.size(), b.getIndexAttr(1));
      return Value(tensor::ExtractSliceOp::create(b, loc, value, offsets, sizes, strides));
    };
    for (Value weight : pack.getWeights()) {
      std::string name = layerName(weight);
      if (name.empty())
        name = "linear" + std::to_string(unnamed++);
      int64_t n = cast<ShapedType>(weight.getType()).getDimSize(0);
      if (coded) {
        probes.push_back(slice(codes, {0, 0}, {layout.getCols()}));
        names.push_back("probe." + name + ".codes");
        symbols.push_back(symbol);
      }
      probes.push_back(op.getGroup() ? slice(acc, {0, row, 0}, {n, op.getGroups()}) : slice(acc, {0, row}, {n}));
      names.push_back("probe." + name + ".acc");
      symbols.push_back(symbol);
      row += n;
    }
  }

  // Only now: the entry may return what was replaced above.
  SmallVector<Value> results(ret.getOperands());
  llvm::append_range(results, probes);
  Builder b(&getContext());
  SmallVector<DictionaryAttr> attrs;
  for (unsigned i = 0; i < func.getNumResults(); ++i) {
    DictionaryAttr own = func.getResultAttrDict(i);
    attrs.push_back(own ? own : b.getDictionaryAttr({}));
  }
  // Rows are the only dynamic dimension of a probe.
  for (auto [i, name] : llvm::enumerate(names)) {
    SmallVector<NamedAttribute> own = {b.getNamedAttr(bitnet::kNameAttr, b.getStringAttr(name))};
    if (!symbols[i].empty())
      own.push_back(b.getNamedAttr(bitnet::kDimsAttr, b.getStrArrayAttr({symbols[i]})));
    attrs.push_back(b.getDictionaryAttr(own));
  }
  ret.getOperandsMutable().assign(results);
  func.removeResAttrsAttr(); // sized for the old results
  func.setFunctionType(b.getFunctionType(func.getArgumentTypes(), ValueRange(results).getTypes()));
  func.setAllResultAttrs(attrs);
  return success();
}
} // namespace
