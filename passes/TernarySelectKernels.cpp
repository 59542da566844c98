//===- TernarySelectKernels.cpp - kernel row, layout and tile of every matmul -----===//
//
// Asks the cost model (lib/Target/CostModel.h) for each matrix, lays its weights out anew where another layout is
// cheaper, and writes the choice into an attribute.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/CostModel.h"
#include "lib/Target/MatrixKernels.h"
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYSELECTKERNELS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;
using setun::packing::WeightKind;

setun::MatrixShape setun::matrixShape(MatmulOp op) {
  MatrixShape shape;
  shape.rows = op.getLayout().getRows();
  shape.cols = op.getLayout().getCols();
  shape.group = static_cast<int64_t>(op.getGroup().value_or(0));
  shape.binary = op.getLayout().isBinary();
  shape.gated = op.getLayout().getOrder() == RowOrder::Gated;
  return shape;
}

namespace {
/// Tokens that self-tests (lib/Driver/SelfTests.cpp) have at least.
constexpr int64_t kSelfTestTokens = 16;

Packing packingOf(WeightKind kind) {
  switch (kind) {
  case WeightKind::Ternary:
    return Packing::R16K4F4;
  case WeightKind::Binary:
    return Packing::R16K4F8;
  case WeightKind::TernaryBase3:
    return Packing::R16K4T5;
  case WeightKind::Bytes:
    return Packing::R16K4I8;
  case WeightKind::TernarySigned:
    return Packing::R16K4S4;
  }
  llvm_unreachable("all kinds are handled");
}

/// Whether the weights are not in bytes yet, so that their layout can change. Zeros stand for no scales.
bool isFree(MatmulOp op) {
  return op.getPacked().getDefiningOp<PackOp>() &&
         (op.getRowScales().getDefiningOp<PackScalesOp>() || matchPattern(op.getRowScales(), m_AnyZeroFloat()));
}

/// Lays the weights and scales of `op` out as `packing`.
void relayout(MatmulOp op, Packing packing) {
  OpBuilder b(op);
  LayoutAttr old = op.getLayout();
  auto layout = LayoutAttr::get(b.getContext(), packing, old.getRows(), old.getCols(), old.getOrder());
  auto pack = op.getPacked().getDefiningOp<PackOp>();
  Value packed = PackOp::create(b, pack.getLoc(), RankedTensorType::get({layout.getBytes()}, b.getI8Type()),
                                pack.getWeights(), layout);
  auto type = RankedTensorType::get({layout.getPanels(), op.getGroups(), layout.getPanelRows()}, b.getF32Type());
  Value scales;
  if (auto packScales = op.getRowScales().getDefiningOp<PackScalesOp>())
    scales =
        PackScalesOp::create(b, packScales.getLoc(), type, packScales.getInputs(), layout,
                             packScales.getRowCountsAttr(), packScales.getScalesAttr(), packScales.getDirectionsAttr());
  else // no scales: accumulators are used as they are
    scales = arith::ConstantOp::create(b, op.getLoc(), DenseElementsAttr::get(type, 0.0f));
  SmallVector<Operation *> before = {pack, op.getRowScales().getDefiningOp()};
  op.getPackedMutable().assign(packed);
  op.getRowScalesMutable().assign(scales);
  op.setLayoutAttr(layout);
  for (Operation *user : before)
    if (user->use_empty())
      user->erase();
}

void choose(MatmulOp op, StringRef row, WeightKind kind, int64_t tokens, int64_t staged) {
  if (packingOf(kind) != op.getLayout().getPacking())
    relayout(op, packingOf(kind));
  op.setKernelAttr(KernelAttr::get(op.getContext(), row, tokens, staged));
}

struct TernarySelectKernels : public setun::impl::TernarySelectKernelsBase<TernarySelectKernels> {
  using TernarySelectKernelsBase::TernarySelectKernelsBase;

  void runOnOperation() override {
    setun::CostQuery query;
    for (const std::string &feature : features)
      query.features.insert(feature);
    query.cpu = cpu;
    query.threads = threads;
    std::optional<WeightKind> ternary = setun::findTernaryLayout(format);
    if (!ternary && format != "auto") {
      getOperation().emitError() << "expects a format of auto, " << setun::ternaryLayoutNames() << ", got " << format;
      return signalPassFailure();
    }
    if (!row.empty()) {
      query.row = setun::findKernelRow(row);
      if (!query.row || !query.row->supportedBy(query.features)) {
        getOperation().emitError() << "expects a kernel row that the target supports, got " << row;
        return signalPassFailure();
      }
    }
    // The dots of a head are exact on every row, whatever its columns; the best one reads as fast as any.
    const setun::KernelRow *best =
        query.row ? query.row : llvm::find_if(setun::kernelRows(), [&](const setun::KernelRow &row) {
          return row.supportedBy(query.features);
        });
    getOperation().walk([&](Operation *op) {
      if (isa<HeadScanOp, HeadRescoreOp>(op) && !op->hasAttr("kernel"))
        op->setAttr("kernel", KernelAttr::get(&getContext(), best->name, 1, 0));
    });
    std::vector<setun::MatrixKernel> given;
    for (const std::string &text : kernels) {
      auto kernel = setun::parseMatrixKernel(text);
      if (!kernel) {
        getOperation().emitError(llvm::toString(kernel.takeError()));
        return signalPassFailure();
      }
      if (!kernel->row->supportedBy(query.features)) {
        getOperation().emitError() << "expects a kernel row that the target supports, got " << text;
        return signalPassFailure();
      }
      given.push_back(std::move(*kernel));
    }
    // Self-tests run what the model runs, though their matrices are small and their tokens few.
    const bool selfTest = getOperation().getName().starts_with("__");
    auto stagedFrom = [&](int64_t staged) { return selfTest ? std::min(staged, kSelfTestTokens) : staged; };
    SmallVector<MatmulOp> ops;
    getOperation().walk([&](MatmulOp op) { ops.push_back(op); });
    for (MatmulOp op : ops) {
      if (op.getKernel())
        continue;
      // Full-precision inputs have no dots to choose for, 8-bit weights one layout.
      const bool chooses = op.getSums() && !op.getLayout().isBytes();
      if (chooses) {
        setun::MatrixShape shape = setun::matrixShape(op);
        auto kernel = llvm::find_if(given, [&](const setun::MatrixKernel &known) {
          return known.shape == shape || (selfTest && known.shape.binary == shape.binary &&
                                          known.shape.gated == shape.gated && known.shape.group == shape.group);
        });
        if (kernel != given.end()) {
          if (!isFree(op) && packingOf(kernel->kind) != op.getLayout().getPacking()) {
            op.emitOpError() << "expects a kernel for the layout " << stringifyPacking(op.getLayout().getPacking())
                             << " of bytes that are packed already, got " << setun::toString(*kernel);
            return signalPassFailure();
          }
          choose(op, kernel->row->name, kernel->kind, kernel->tokens, stagedFrom(kernel->staged));
          continue;
        }
      }
      query.binary = op.getLayout().isBinary();
      query.rows = selfTest ? setun::kManyRows : op.getLayout().getRows();
      query.columns = op.getLayout().getCols();
      query.kinds.clear();
      if (!isFree(op) || !chooses)
        query.kinds = {packedShape(op.getLayout()).kind};
      else if (!query.binary && ternary)
        query.kinds = {*ternary};
      // Groups add up after each group, which staging would do too often; full-precision inputs have no dots.
      query.stages = !op.getGroup() && op.getSums();
      setun::KernelChoice choice = setun::chooseKernel(query);
      choose(op, choice.row->name, choice.kind, choice.tokens, stagedFrom(choice.staged));
    }
  }
};
} // namespace
