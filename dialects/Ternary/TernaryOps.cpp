//===- TernaryOps.cpp - verifiers and interfaces of the ternary operations -------===//
//
// Each check names the constraint (C1, C2, ...) of the operation's description that it enforces.
//
//===----------------------------------------------------------------------===//
#include "dialects/Ternary/Ternary.h"

#include "llvm/Support/CheckedArithmetic.h"

using namespace mlir;
using namespace mlir::ternary;

#define GET_OP_CLASSES
#include "dialects/Ternary/TernaryOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Destination style and effects
//===----------------------------------------------------------------------===//

using EffectList = SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>;

/// Inputs are read, destinations written (and read, for ops that write only part of them); tensors have no effects.
static void dpsEffects(DestinationStyleOpInterface op, bool readsInits, EffectList &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    bool init = op.isDpsInit(&operand);
    if (!init || readsInits)
      effects.emplace_back(MemoryEffects::Read::get(), &operand, SideEffects::DefaultResource::get());
    if (init)
      effects.emplace_back(MemoryEffects::Write::get(), &operand, SideEffects::DefaultResource::get());
  }
}

/// Operands besides the destinations that are written: memory for the kernel's own use.
static void writeEffects(MutableOperandRange operands, EffectList &effects) {
  for (OpOperand &operand : operands)
    effects.emplace_back(MemoryEffects::Write::get(), &operand, SideEffects::DefaultResource::get());
}

#define SETUN_DPS_OP(OP, NUM_INITS, READS)                                                                             \
  MutableOperandRange OP::getDpsInitsMutable() {                                                                       \
    return MutableOperandRange(*this, getNumOperands() - (NUM_INITS), NUM_INITS);                                      \
  }                                                                                                                    \
  void OP::getEffects(EffectList &effects) {                                                                           \
    dpsEffects(cast<DestinationStyleOpInterface>(getOperation()), READS, effects);                                     \
  }

SETUN_DPS_OP(QuantizeOp, 3, false)
SETUN_DPS_OP(DenseOp, 1, false)
SETUN_DPS_OP(NormOp, 1, false)
SETUN_DPS_OP(RotaryOp, 1, false)
SETUN_DPS_OP(CacheUpdateOp, 1, true)
SETUN_DPS_OP(AttentionOp, (getNewK() ? 3 : 1) + (getParts() ? 1 : 0), getNewK() != nullptr)
SETUN_DPS_OP(AttentionFoldOp, 1, true)
SETUN_DPS_OP(BatchAttentionOp, 1, false)
SETUN_DPS_OP(SoftmaxOp, 1, false)
SETUN_DPS_OP(GatedOp, 1, false)
SETUN_DPS_OP(EmbeddingOp, 1, false)
SETUN_DPS_OP(HadamardOp, 1, false)
SETUN_DPS_OP(HeadQuantizeOp, 3, false)
SETUN_DPS_OP(HeadCandidatesOp, 1, false)
SETUN_DPS_OP(HeadSelectOp, 2, false)
#undef SETUN_DPS_OP

MutableOperandRange MatmulOp::getDpsInitsMutable() {
  unsigned inits = (getY() ? 1 : 0) + (getAcc() ? 1 : 0);
  return MutableOperandRange(*this, getNumOperands() - inits, inits);
}
void MatmulOp::getEffects(EffectList &effects) {
  dpsEffects(cast<DestinationStyleOpInterface>(getOperation()), /*readsInits=*/false, effects);
  writeEffects(getScratchMutable(), effects);
  writeEffects(getTakenMutable(), effects);
}

MutableOperandRange HeadScanOp::getDpsInitsMutable() { return MutableOperandRange(*this, getNumOperands() - 3, 3); }
void HeadScanOp::getEffects(EffectList &effects) {
  dpsEffects(cast<DestinationStyleOpInterface>(getOperation()), /*readsInits=*/false, effects);
  writeEffects(getTakenMutable(), effects);
}

MutableOperandRange HeadRescoreOp::getDpsInitsMutable() { return MutableOperandRange(*this, getNumOperands() - 2, 2); }
void HeadRescoreOp::getEffects(EffectList &effects) {
  dpsEffects(cast<DestinationStyleOpInterface>(getOperation()), /*readsInits=*/false, effects);
  writeEffects(getTakenMutable(), effects);
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

static bool compatible(int64_t a, int64_t b) { return a == b || ShapedType::isDynamic(a) || ShapedType::isDynamic(b); }

/// Shape of `value` is `shape`, dynamic on either side matching anything.
static LogicalResult expectShape(Operation *op, StringRef what, Value value, ArrayRef<int64_t> shape) {
  if (!value)
    return success();
  auto type = cast<ShapedType>(value.getType());
  bool ok = type.getRank() == static_cast<int64_t>(shape.size()) &&
            llvm::all_of(llvm::zip(type.getShape(), shape),
                         [](auto pair) { return compatible(std::get<0>(pair), std::get<1>(pair)); });
  if (ok)
    return success();
  auto diag = op->emitOpError() << "expects " << what << " of shape [";
  llvm::interleaveComma(shape, diag, [&](int64_t dim) {
    if (ShapedType::isDynamic(dim))
      diag << "?";
    else
      diag << dim;
  });
  return diag << "], got " << type;
}

static LogicalResult expectRank(Operation *op, StringRef what, Value value, int64_t rank) {
  auto type = cast<ShapedType>(value.getType());
  if (type.getRank() != rank)
    return op->emitOpError() << "expects " << what << " of rank " << rank << ", got " << type;
  return success();
}

/// `taken` of operations whose threads take of one another's shares.
static LogicalResult expectCounters(Operation *op, Value taken) {
  auto type = taken ? cast<MemRefType>(taken.getType()) : MemRefType();
  if (type &&
      (type.getRank() != 2 || !type.isDynamicDim(0) || type.getDimSize(1) < 1 || !type.getLayout().isIdentity()))
    return op->emitOpError() << "expects counters of a dynamic number of rows and fixed columns, got " << type;
  return success();
}

/// Sizes along the axes `axes` are known and at least 1; `sizes` is what they are called.
static LogicalResult expectStatic(Operation *op, StringRef sizes, Value value, ArrayRef<int64_t> axes) {
  auto type = cast<ShapedType>(value.getType());
  for (int64_t axis : axes)
    if (type.getDimSize(axis) < 1)
      return op->emitOpError() << "expects static " << sizes << " of at least 1, got " << type;
  return success();
}

static ArrayRef<int64_t> shapeOf(Value value) { return cast<ShapedType>(value.getType()).getShape(); }
static Type elementOf(Value value) { return cast<ShapedType>(value.getType()).getElementType(); }

static LogicalResult expectWholeBlocks(Operation *op, StringRef what, Value value) {
  int64_t rows = shapeOf(value)[0];
  if (ShapedType::isDynamic(rows) || rows % setun::packing::kCacheBlockRows == 0)
    return success();
  return op->emitOpError() << "expects " << what << " of a multiple of " << setun::packing::kCacheBlockRows
                           << " rows, got " << value.getType();
}

LogicalResult PackOp::verify() {
  LayoutAttr layout = getLayout();
  int64_t rows = 0;
  for (Value weight : getWeights()) {
    auto type = cast<RankedTensorType>(weight.getType());
    if (type.getRank() != 2 || !type.hasStaticShape() || type.getDimSize(1) != layout.getCols()) // C1
      return emitOpError() << "expects weights of static shape [rows, " << layout.getCols() << "], got " << type;
    unsigned bits = layout.isBinary() ? 1 : layout.isBytes() ? 8 : 2;
    if (!type.getElementType().isInteger(bits)) // C2
      return emitOpError() << "expects i" << bits << " weights for " << stringifyPacking(layout.getPacking())
                           << ", got " << type;
    rows += type.getDimSize(0);
  }
  if (rows != layout.getRows()) // C1
    return emitOpError() << "expects " << layout.getRows() << " rows in all, got " << rows;
  if (layout.getOrder() == RowOrder::Gated &&
      (getWeights().size() != 2 || getWeights()[0].getType() != getWeights()[1].getType())) // C4
    return emitOpError() << "expects two weights of the same shape for a gated layout";
  if (!cast<ShapedType>(getPacked().getType()).hasStaticShape()) // C3
    return emitOpError() << "expects packed bytes of static shape, got " << getPacked().getType();
  return expectShape(*this, "packed bytes", getPacked(), {layout.getBytes()}); // C3
}

LogicalResult PackScalesOp::verify() {
  size_t matrices = getInputs().size();
  if (getRowCounts().size() != matrices || getScales().size() != matrices || getDirections().size() != matrices) // C1
    return emitOpError() << "expects a row count, granularity and direction for each of the " << matrices << " scales";
  int64_t rows = 0, group = -1;
  for (auto [count, attr, input] : llvm::zip(getRowCounts(), getScales(), getInputs())) {
    if (count <= 0) // C1
      return emitOpError() << "expects row counts of at least one row, got " << count;
    rows = llvm::checkedAdd(rows, count).value_or(INT64_MAX);
    auto scales = cast<bitnet::ScalesAttr>(attr);
    if (failed(bitnet::verifyScale(*this, cast<RankedTensorType>(input.getType()), scales, count,
                                   getLayout().getCols()))) // C1
      return failure();
    int64_t own = scales.getKind() == bitnet::ScaleKind::Group ? scales.getGroup() : 0;
    if (group >= 0 && group != own) // C2
      return emitOpError() << "expects the same group in all scales, got " << group << " and " << own;
    group = own;
  }
  if (rows != getLayout().getRows()) // C1
    return emitOpError() << "expects row counts that add up to " << getLayout().getRows() << ", got " << rows;
  int64_t groups = bitnet::groupCount(getLayout().getCols(), std::max<int64_t>(group, 0));
  if (!cast<ShapedType>(getPacked().getType()).hasStaticShape()) // C3
    return emitOpError() << "expects packed scales of static shape, got " << getPacked().getType();
  return expectShape(*this, "packed scales", getPacked(),
                     {getLayout().getPanels(), groups, getLayout().getPanelRows()}); // C3
}

LogicalResult SectionOp::verify() {
  int64_t offset = getOffset();  // as signed: the accessor is unsigned
  if (offset < 0 || offset % 64) // C1
    return emitOpError() << "expects an offset that is a multiple of 64 and not negative, got " << offset;
  if (!cast<ShapedType>(getResult().getType()).hasStaticShape()) // C2
    return emitOpError() << "expects a static shape, got " << getResult().getType();
  return success();
}

/// Sums of codes: for each token, and with a group for each of its groups.
static LogicalResult expectSums(Operation *op, Value sums, int64_t t, int64_t k, IntegerAttr group) {
  SmallVector<int64_t> shape = {t};
  if (group) {
    if (group.getInt() <= 0 || group.getInt() % 4)
      return op->emitOpError() << "expects a group that is a positive multiple of 4, got " << group.getInt();
    shape.push_back(bitnet::groupCount(k, group.getInt()));
  }
  return expectShape(op, "sums", sums, shape);
}

LogicalResult QuantizeOp::verify() {
  if (failed(expectRank(*this, "x", getX(), 2)) || failed(expectStatic(*this, "columns", getX(), {1}))) // C1
    return failure();
  int64_t t = shapeOf(getX())[0], k = shapeOf(getX())[1];
  int64_t scales = getActivation().getGranularity() == bitnet::ActGranularity::PerToken ? t : 1;
  if (failed(expectShape(*this, "codes", getCodes(), {t, (k + 3) / 4 * 4})) || // C1
      failed(expectShape(*this, "scale", getScale(), {scales})) ||             // C2
      failed(expectSums(*this, getSums(), t, k, getGroupAttr())) ||            // C2, C4
      failed(expectShape(*this, "norm weight", getNormWeight(), {k})) ||       // C3
      failed(expectShape(*this, "norm bias", getNormBias(), {k})))             // C3
    return failure();
  bitnet::NormKind norm = getNorm() ? getNorm()->getKind() : bitnet::NormKind::None;
  if ((getNormWeight() && norm == bitnet::NormKind::None) || (getNormBias() && norm != bitnet::NormKind::Layer)) // C3
    return emitOpError() << "expects a norm for its norm weight or bias, got " << stringifyNormKind(norm);
  return getAhead() ? expectRank(*this, "ahead", getAhead(), 1) : success(); // C5
}

LogicalResult MatmulOp::verify() {
  LayoutAttr layout = getLayout();
  auto x = cast<ShapedType>(getX().getType());
  bool coded = x.getElementType().isInteger(8);
  if (failed(expectRank(*this, "x", getX(), 2)))
    return failure();
  int64_t t = x.getDimSize(0);
  int64_t groups = getGroups();
  if (failed(expectShape(*this, "x", getX(), {t, coded ? layout.getPaddedCols() : layout.getCols()})) || // C1
      failed(expectShape(*this, "packed bytes", getPacked(), {layout.getBytes()})) ||                    // C2
      failed(expectShape(*this, "row scales", getRowScales(),
                         {layout.getPanels(), groups, hasPanelScales() ? 1 : layout.getPanelRows()})))
    return failure();
  int64_t group = getGroup().value_or(4); // as signed: the accessor is unsigned
  if (group <= 0 || group % 4)            // C8
    return emitOpError() << "expects a group that is a positive multiple of 4, got " << group;
  if (static_cast<bool>(getSums()) != coded || (getActScale() && !coded)) // C3
    return emitOpError() << "expects sums with codes, and neither sums nor act_scale with f32 activations";
  if (coded && getY() && !getActScale()) // C3
    return emitOpError() << "expects act_scale for a scaled result";
  if (!getY() && !getAcc()) // C4
    return emitOpError() << "expects y, acc or both";
  bool gated = layout.getOrder() == RowOrder::Gated;
  if ((getEpilogue() != Epilogue::None && !gated) || (gated && getY() && getEpilogue() == Epilogue::None)) // C5
    return emitOpError() << "expects relu2 or silu with a gated layout and with no other";
  SmallVector<int64_t> accShape = {t, layout.getRows()};
  if (groups > 1 || getGroup())
    accShape.push_back(groups);
  if (failed(expectShape(*this, "y", getY(), {t, layout.getOutputRows()})) ||               // C6
      failed(expectShape(*this, "residual", getResidual(), {t, layout.getOutputRows()})) || // C6
      failed(expectShape(*this, "acc", getAcc(), accShape)) ||                              // C6
      failed(expectShape(*this, "bias", getBias(), {layout.getRows()})) ||                  // C7
      failed(expectSums(*this, getSums(), t, layout.getCols(),
                        getSums() && shapeOf(getSums()).size() == 2 ? getGroupAttr() : IntegerAttr()))) // C3
    return failure();
  if (getBias() && gated) // C7
    return emitOpError() << "expects no bias with a gated layout";
  if (getBiasPlace() == bitnet::BiasPlace::BeforeScale && (!getBias() || getGroup())) // C7
    return emitOpError() << "expects a bias and no groups with before_scale";
  int64_t maxColumns = bitnet::maxColumns(layout.isBytes() ? 8 : 2);
  if (coded && layout.getCols() > maxColumns) // C9
    return emitOpError() << "expects at most " << maxColumns << " columns, got " << layout.getCols();
  if (getAcc() && cast<ShapedType>(getAcc().getType()).getElementType().isF32() == coded) // C6
    return emitOpError() << "expects an accumulator of " << (coded ? "i32" : "f32") << ", got " << getAcc().getType();
  if (getActivation() && (gated || !getY())) // C10
    return emitOpError() << "expects an activation with y and without a gated layout";
  if (Value scratch = getScratch()) // C11
    if (auto type = cast<MemRefType>(scratch.getType());
        type.getRank() != 1 || type.hasStaticShape() || !type.getLayout().isIdentity())
      return emitOpError() << "expects scratch memory of rank 1 and dynamic size, got " << type;
  if (failed(expectCounters(*this, getTaken()))) // C12
    return failure();
  if (Value ahead = getAhead()) // C13
    if (auto type = cast<MemRefType>(ahead.getType()); type.getRank() != 1 || !type.hasStaticShape())
      return emitOpError() << "expects bytes to look ahead to of rank 1 and fixed size, got " << type;
  if (Value scale = getActScale()) { // C3
    ArrayRef<int64_t> shape = shapeOf(scale);
    if (shape.size() != 1 || (shape[0] != 1 && !compatible(shape[0], t)))
      return emitOpError() << "expects an activation scale per token or one, got " << scale.getType();
  }
  return success();
}

LogicalResult DenseOp::verify() {
  if (failed(expectRank(*this, "x", getX(), 2)) || failed(expectRank(*this, "w", getW(), 2)) ||
      failed(expectStatic(*this, "rows and columns", getW(), {0, 1}))) // C1
    return failure();
  int64_t n = shapeOf(getW())[0], k = shapeOf(getW())[1];
  if (failed(expectShape(*this, "x", getX(), {ShapedType::kDynamic, k})) || // C1
      failed(expectShape(*this, "y", getY(), {shapeOf(getX())[0], n})))     // C1
    return failure();
  return expectShape(*this, "bias", getBias(), {n}); // C2
}

LogicalResult NormOp::verify() {
  if (failed(expectRank(*this, "x", getX(), 2)) || failed(expectStatic(*this, "columns", getX(), {1})) ||
      failed(expectShape(*this, "y", getY(), shapeOf(getX()))) ||
      failed(expectShape(*this, "weight", getWeight(), {shapeOf(getX())[1]})))
    return failure();
  if (failed(expectShape(*this, "bias", getBias(), {shapeOf(getX())[1]}))) // C1
    return failure();
  bitnet::NormKind kind = getNorm().getKind();
  if ((getWeight() && kind == bitnet::NormKind::None) || (getBias() && kind != bitnet::NormKind::Layer)) // C2
    return emitOpError() << "expects a norm for its weight or bias, got " << stringifyNormKind(kind);
  return success();
}

LogicalResult RotaryOp::verify() {
  if (failed(expectRank(*this, "x", getX(), 3)) || failed(expectShape(*this, "y", getY(), shapeOf(getX()))) ||
      failed(expectStatic(*this, "heads and head size", getX(), {1, 2}))) // C1
    return failure();
  int64_t size = shapeOf(getX())[2];
  if (size % 2) // C1
    return emitOpError() << "expects an even head size, got " << getX().getType();
  if (failed(expectShape(*this, "cos", getCos(), {ShapedType::kDynamic, size / 2}))) // C2
    return failure();
  return expectShape(*this, "sin", getSin(), {shapeOf(getCos())[0], size / 2}); // C2
}

/// Tables of a rotation of heads of that size.
static LogicalResult expectTables(Operation *op, Value cos, Value sin, int64_t size) {
  if (!cos && !sin)
    return success();
  if (!cos || !sin)
    return op->emitOpError() << "expects both tables of a rotation";
  if (size % 2)
    return op->emitOpError() << "expects an even head size for a rotation, got " << size;
  if (failed(expectShape(op, "cos", cos, {ShapedType::kDynamic, size / 2})))
    return failure();
  return expectShape(op, "sin", sin, {shapeOf(cos)[0], size / 2});
}

LogicalResult CacheUpdateOp::verify() {
  if (failed(expectRank(*this, "rows", getRows(), 3)) ||
      failed(expectStatic(*this, "heads and head size", getRows(), {1, 2}))) // C1
    return failure();
  ArrayRef<int64_t> rows = shapeOf(getRows());
  if (failed(expectShape(*this, "the cache", getCache(), {ShapedType::kDynamic, rows[1], rows[2]}))) // C1
    return failure();
  Type stored = elementOf(getCache()), given = elementOf(getRows());
  if (!given.isF32() && given != stored) // C3
    return emitOpError() << "expects rows of f32 or the cache's elements, got " << getRows().getType() << " for "
                         << getCache().getType();
  if (failed(expectTables(*this, getCos(), getSin(), rows[2]))) // C4
    return failure();
  if (getCos() && !given.isF32()) // C4
    return emitOpError() << "expects rows of f32 for a rotation, got " << getRows().getType();
  return getBlocked() ? expectWholeBlocks(*this, "a blocked cache", getCache()) : success(); // C2
}

LogicalResult AttentionOp::verify() {
  if (failed(expectRank(*this, "q", getQ(), 3)) || failed(expectRank(*this, "k", getK(), 3)) ||
      failed(expectShape(*this, "o", getO(), shapeOf(getQ()))) ||
      failed(expectStatic(*this, "heads and head size", getQ(), {1, 2})) ||
      failed(expectStatic(*this, "heads and head size", getK(), {1, 2}))) // C1
    return failure();
  if (shapeOf(getQ())[2] != shapeOf(getK())[2] || shapeOf(getQ())[1] % shapeOf(getK())[1]) // C1, C2
    return emitOpError() << "expects keys that fit the heads of " << getQ().getType() << ", got " << getK().getType();
  if (failed(expectShape(*this, "v", getV(), {ShapedType::kDynamic, shapeOf(getK())[1], shapeOf(getK())[2]}))) // C1
    return failure();
  if (elementOf(getK()) != elementOf(getV())) // C1
    return emitOpError() << "expects keys and values of one element type, got " << getK().getType() << " and "
                         << getV().getType();
  if (getBlocked() && failed(expectWholeBlocks(*this, "blocked keys", getK()))) // C3
    return failure();
  ArrayRef<int64_t> heads = shapeOf(getQ()).drop_front();
  if (failed(expectShape(*this, "parts", getParts(), {ShapedType::kDynamic, heads[0], kPartHeader + heads[1]})) || // C5
      failed(expectTables(*this, getCos(), getSin(), heads[1])))                                                   // C6
    return failure();
  if (!getNewK() && !getNewV())
    return success();
  if (!getNewK() || !getNewV() || !getBlocked()) // C4
    return emitOpError() << "expects new keys and values together, with blocked keys";
  SmallVector<int64_t> rows = {ShapedType::kDynamic, shapeOf(getK())[1], shapeOf(getK())[2]};
  if (failed(expectShape(*this, "new keys", getNewK(), rows))) // C4
    return failure();
  rows[0] = shapeOf(getNewK())[0];
  return expectShape(*this, "new values", getNewV(), rows); // C4
}

LogicalResult AttentionFoldOp::verify() {
  if (failed(expectRank(*this, "o", getO(), 3)) ||
      failed(expectStatic(*this, "heads and head size", getO(), {1, 2}))) // C1
    return failure();
  ArrayRef<int64_t> heads = shapeOf(getO()).drop_front();
  return expectShape(*this, "parts", getParts(),
                     {ShapedType::kDynamic, heads[0], AttentionOp::kPartHeader + heads[1]}); // C1
}

LogicalResult BatchAttentionOp::verify() {
  if (failed(expectRank(*this, "q", getQ(), 4)) || failed(expectRank(*this, "k", getK(), 4)) ||
      failed(expectShape(*this, "o", getO(), shapeOf(getQ()))) ||
      failed(expectShape(*this, "v", getV(), shapeOf(getK()))) ||
      failed(expectStatic(*this, "heads and head size", getQ(), {2, 3})) ||
      failed(expectStatic(*this, "heads and head size", getK(), {2, 3}))) // C1
    return failure();
  int64_t batch = shapeOf(getQ())[0], heads = shapeOf(getQ())[2], kvHeads = shapeOf(getK())[2];
  if (!compatible(shapeOf(getK())[0], batch) || shapeOf(getQ())[3] != shapeOf(getK())[3] || heads % kvHeads) // C1, C2
    return emitOpError() << "expects keys that fit " << getQ().getType() << ", got " << getK().getType();
  if (!getMask())
    return success();
  if (failed(expectRank(*this, "a mask", getMask(), 4))) // C3
    return failure();
  int64_t samples = shapeOf(getMask())[0] == 1 ? 1 : batch, sets = shapeOf(getMask())[1] == 1 ? 1 : heads;
  return expectShape(*this, "a mask", getMask(), {samples, sets, shapeOf(getQ())[1], shapeOf(getK())[1]}); // C3
}

LogicalResult SoftmaxOp::verify() {
  if (shapeOf(getX()).empty()) // C1
    return emitOpError() << "expects a tensor of rank 1 or more, got " << getX().getType();
  return expectShape(*this, "y", getY(), shapeOf(getX())); // C1
}

LogicalResult GatedOp::verify() {
  if (failed(expectRank(*this, "gate", getGate(), 2)) || failed(expectStatic(*this, "columns", getGate(), {1})) ||
      failed(expectShape(*this, "up", getUp(), shapeOf(getGate())))) // C1
    return failure();
  return expectShape(*this, "y", getY(), shapeOf(getGate())); // C1
}

LogicalResult EmbeddingOp::verify() {
  if (failed(expectRank(*this, "the table", getTable(), 2)) || failed(expectRank(*this, "tokens", getTokens(), 1)) ||
      failed(expectStatic(*this, "rows and columns", getTable(), {0, 1}))) // C1
    return failure();
  return expectShape(*this, "y", getY(), {shapeOf(getTokens())[0], shapeOf(getTable())[1]}); // C1
}

LogicalResult HadamardOp::verify() {
  if (failed(expectRank(*this, "x", getX(), 2)) || failed(expectStatic(*this, "columns", getX(), {1})) ||
      failed(expectShape(*this, "y", getY(), shapeOf(getX())))) // C1
    return failure();
  int64_t block = getBlock(), k = shapeOf(getX())[1];
  if (block <= 0 || (block & (block - 1)) || k % block) // C2
    return emitOpError() << "expects a block that is a power of two and divides the columns of " << getX().getType()
                         << ", got " << block;
  return success();
}

static LogicalResult expectCount(Operation *op, StringRef what, Value value) {
  ArrayRef<int64_t> shape = shapeOf(value);
  if (shape.size() != 1 || shape[0] < 1 || shape[0] > bitnet::TopKOp::kLongest)
    return op->emitOpError() << "expects " << what << " of a length in [1, " << bitnet::TopKOp::kLongest << "], got "
                             << value.getType();
  return success();
}

/// The layout for a matrix, checked.
static FailureOr<setun::packing::HeadShape> headShape(Operation *op, int64_t rows, int64_t cols) {
  setun::packing::HeadShape shape{rows, cols};
  if (!shape.isValid()) {
    op->emitOpError() << "expects at least one row and 1 to " << setun::packing::HeadShape::kMaxCols << " columns, got "
                      << rows << " x " << cols;
    return failure();
  }
  return shape;
}

LogicalResult PackHeadOp::verify() {
  auto type = cast<RankedTensorType>(getW().getType());
  if (type.getRank() != 2 || !type.hasStaticShape()) // C1
    return emitOpError() << "expects a static matrix, got " << type;
  auto shape = headShape(*this, type.getDimSize(0), type.getDimSize(1));                            // C1
  if (failed(shape) || failed(expectShape(*this, "codes", getCodes(), {shape->codeBytes()})) ||     // C2
      failed(expectShape(*this, "scales", getScales(), {shape->scaleBytes()})) ||                   // C2
      failed(expectShape(*this, "coarse rows", getCoarse(), {shape->panels(), 3, 32})) ||           // C2
      failed(expectShape(*this, "fine codes", getFine(), {2, shape->rows, shape->fineBitBytes()}))) // C2
    return failure();
  return expectShape(*this, "fine rows", getFineRows(), {shape->rows, setun::packing::HeadShape::kFineFloats}); // C2
}

LogicalResult HeadQuantizeOp::verify() {
  if (failed(expectRank(*this, "x", getX(), 2)))
    return failure();
  int64_t k = shapeOf(getX())[1];
  auto shape = headShape(*this, 1, k);                                      // C1
  if (failed(shape) || failed(expectShape(*this, "x", getX(), {1, k})) ||   // C1
      failed(expectShape(*this, "codes", getQ(), {shape->paddedCols()})) || // C1
      failed(expectShape(*this, "sums", getSums(), {shape->groups() + 1}))) // C2
    return failure();
  return expectShape(*this, "params", getParams(), {4}); // C2
}

LogicalResult HeadScanOp::verify() {
  if (failed(expectCounters(*this, getTaken()))) // C3
    return failure();
  auto shape = headShape(*this, getRowsAttr().getInt(), getColsAttr().getInt());
  if (failed(shape) || failed(expectShape(*this, "codes of x", getQ(), {shape->paddedCols()})) || // C1
      failed(expectShape(*this, "sums", getSums(), {shape->groups() + 1})) ||                     // C1
      failed(expectShape(*this, "params", getParams(), {4})) ||                                   // C1
      failed(expectShape(*this, "codes", getCodes(), {shape->codeBytes()})) ||                    // C1
      failed(expectShape(*this, "scales", getScales(), {shape->scaleBytes()})) ||                 // C1
      failed(expectShape(*this, "coarse rows", getCoarse(), {shape->panels(), 3, 32})) ||         // C1
      failed(expectShape(*this, "approx", getApprox(), {1, shape->paddedRows()})) ||              // C2
      failed(expectShape(*this, "upper", getUpper(), {1, shape->paddedRows()})))                  // C2
    return failure();
  return expectShape(*this, "maxima", getMaxima(), {shape->panels()}); // C2
}

LogicalResult HeadCandidatesOp::verify() {
  if (failed(expectRank(*this, "w", getW(), 2)))
    return failure();
  auto shape = headShape(*this, shapeOf(getW())[0], shapeOf(getW())[1]);
  if (failed(shape) || failed(expectShape(*this, "x", getX(), {1, shape->cols})) ||  // C1
      failed(expectShape(*this, "approx", getApprox(), {1, shape->paddedRows()})) || // C1
      failed(expectShape(*this, "maxima", getMaxima(), {shape->panels()})) ||        // C1
      failed(expectShape(*this, "k", getK(), {1})))                                  // C2
    return failure();
  return expectCount(*this, "exact logits", getExact()); // C2
}

LogicalResult HeadRescoreOp::verify() {
  if (failed(expectCounters(*this, getTaken()))) // C3
    return failure();
  if (failed(expectRank(*this, "w", getW(), 2)))
    return failure();
  auto shape = headShape(*this, shapeOf(getW())[0], shapeOf(getW())[1]);
  if (failed(shape) || failed(expectShape(*this, "x", getX(), {1, shape->cols})) ||                   // C1
      failed(expectShape(*this, "codes of x", getQ(), {shape->paddedCols()})) ||                      // C1
      failed(expectShape(*this, "sums", getSums(), {shape->groups() + 1})) ||                         // C1
      failed(expectShape(*this, "params", getParams(), {4})) ||                                       // C1
      failed(expectShape(*this, "approx", getApprox(), {1, shape->paddedRows()})) ||                  // C1
      failed(expectShape(*this, "upper", getUpper(), {1, shape->paddedRows()})) ||                    // C1
      failed(expectCount(*this, "candidates", getCandidates())) ||                                    // C1
      failed(expectShape(*this, "k", getK(), {1})) ||                                                 // C1
      failed(expectShape(*this, "fine codes", getFine(), {2, shape->rows, shape->fineBitBytes()})) || // C1
      failed(expectShape(*this, "fine rows", getFineRows(),
                         {shape->rows, setun::packing::HeadShape::kFineFloats})) || // C1
      failed(expectShape(*this, "exact", getExact(), {1, shape->paddedRows()})))    // C2
    return failure();
  return expectShape(*this, "maxima", getMaxima(), {shape->panels()}); // C2
}

LogicalResult HeadSelectOp::verify() {
  if (failed(expectRank(*this, "logits", getLogits(), 2)))
    return failure();
  int64_t rows = getRowsAttr().getInt(), there = shapeOf(getLogits())[1];
  if (!compatible(shapeOf(getLogits())[0], 1) || ShapedType::isDynamic(there) || rows < 1 || rows > there) // C1
    return emitOpError() << "expects one row of at least " << rows << " logits, got " << getLogits().getType();
  if (failed(expectShape(*this, "maxima", getMaxima(), {(rows + 31) / 32})) || // C2
      failed(expectShape(*this, "k", getK(), {1})) ||                          // C3
      failed(expectCount(*this, "ids", getIds())))                             // C3
    return failure();
  return expectShape(*this, "best logits", getBest(), shapeOf(getIds())); // C3
}

LogicalResult UnpackOp::verify() {
  int64_t bits = getBits(), field = getField();
  if ((bits != 1 && bits != 2 && bits != 4) || field < 0 || (field + 1) * bits > 8) // C1
    return emitOpError() << "expects 1, 2 or 4 bits and a field within the byte, got field " << field << " of " << bits
                         << " bits";
  return success();
}

LogicalResult DotPairsOp::verify() {
  int64_t maxCode = getMaxCodeAttr().getInt(), steps = getStepsAttr().getInt();
  if (maxCode < 1 || maxCode > 255 || steps < 1 || steps > 32767 / (2 * maxCode * 128)) // C1
    return emitOpError() << "expects steps of codes that fit 16 bits, got " << steps << " of codes up to " << maxCode;
  if (cast<VectorType>(getAcc().getType()).getNumElements() * 2 !=
      cast<VectorType>(getU().getType()).getNumElements()) // C2
    return emitOpError() << "expects half as many lanes as bytes, got " << getAcc().getType() << " and "
                         << getU().getType();
  return success();
}

LogicalResult MultiplyAddOp::verify() {
  int64_t maxCode = getMaxCodeAttr().getInt(), steps = getStepsAttr().getInt();
  if (maxCode < 1 || maxCode > 255 || steps < 1 || steps > 32767 / (maxCode * 128)) // C1
    return emitOpError() << "expects steps of codes that fit 16 bits, got " << steps << " of codes up to " << maxCode;
  if (cast<VectorType>(getAcc().getType()).getNumElements() !=
      cast<VectorType>(getU().getType()).getNumElements()) // C2
    return emitOpError() << "expects as many lanes as bytes, got " << getAcc().getType() << " and " << getU().getType();
  return success();
}

/// C1 of dots: what bounds the codes.
template <typename Op> static LogicalResult verifyMaxCode(Op op) {
  int64_t most = op.getSignedCodes() ? 128 : 255, maxCode = op.getMaxCodeAttr().getInt();
  if (maxCode < 1 || maxCode > most)
    return op.emitOpError() << "expects max_code in [1, " << most << "], got " << maxCode;
  return success();
}

LogicalResult MatrixDotOp::verify() { return verifyMaxCode(*this); }

LogicalResult DotOp::verify() {
  if (failed(verifyMaxCode(*this))) // C1
    return failure();
  auto lanes = cast<VectorType>(getAcc().getType()), bytes = cast<VectorType>(getU().getType());
  if (lanes.getNumElements() * 4 != bytes.getNumElements() || lanes.isScalable() != bytes.isScalable()) // C2
    return emitOpError() << "expects a quarter as many lanes as bytes, got " << getAcc().getType() << " and "
                         << getU().getType();
  return success();
}

LogicalResult DotTilesOp::verify() {
  MemRefType x = getX().getType(), operands = getU().getType(), sums = getSums().getType();
  if (x.getRank() != 2 || !x.areTrailingDimsContiguous(1)) // C1
    return emitOpError() << "expects rows of codes without gaps, got " << x;
  auto plain = [](MemRefType type, int64_t rank) {
    return type.getRank() == rank && type.hasStaticShape() && type.getLayout().isIdentity();
  };
  if (!plain(operands, 3) || !plain(sums, 4) || operands.getDimSize(2) != 64 || sums.getDimSize(3) != 16 ||
      operands.getDimSize(0) != sums.getDimSize(2)) // C2
    return emitOpError() << "expects operands FxSx64 and sums TxPxFx16, static and without gaps, got " << operands
                         << " and " << sums;
  return success();
}

static LogicalResult verifyDivisor(Operation *op, int64_t divisor) {
  for (int64_t field = 1; field < setun::packing::fieldsPerByte(setun::packing::WeightKind::TernaryBase3); ++field)
    if (divisor == setun::packing::tritPlace(field)) // C1
      return success();
  return op->emitOpError() << "expects a divisor of 3, 9, 28 or 84, got " << divisor;
}
LogicalResult TritsBelowOp::verify() { return verifyDivisor(getOperation(), getDivisor()); }
LogicalResult TopTritOp::verify() { return verifyDivisor(getOperation(), getDivisor()); }

LogicalResult LookUpBytesOp::verify() {
  if (getTable().size() != 64) // C1
    return emitOpError() << "expects a table of 64 bytes, got " << getTable().size();
  if (getShift() < 0 || getShift() > 2) // C2
    return emitOpError() << "expects a shift of 0, 1 or 2, got " << getShift();
  return success();
}

LogicalResult FenceOp::inferReturnTypes(MLIRContext *, std::optional<Location>, ValueRange operands, DictionaryAttr,
                                        OpaqueProperties, RegionRange, SmallVectorImpl<Type> &types) {
  llvm::append_range(types, operands.getTypes());
  return success();
}

LogicalResult AddPairsOp::verify() {
  int64_t lanes = cast<VectorType>(getAcc().getType()).getNumElements();
  int64_t sums = cast<VectorType>(getPairs().getType()).getNumElements();
  if (sums != 2 * lanes && sums != 4 * lanes) // C1
    return emitOpError() << "expects two or four times as many 16-bit sums as lanes, got " << getPairs().getType()
                         << " and " << getAcc().getType();
  return success();
}
