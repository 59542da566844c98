//===- TernaryTile.cpp - operations in kernels into loops of vectors -------------===//
#include "passes/VectorBuilder.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYTILE
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernaryTile : public setun::impl::TernaryTileBase<TernaryTile> {
  using TernaryTileBase::TernaryTileBase;

  void runOnOperation() override {
    func::FuncOp func = getOperation();
    if (!func->hasAttr(setun::kKernelAttr))
      return;
    ArrayRef<Type> types = func.getArgumentTypes();
    if (func.isExternal() || !func.getBody().hasOneBlock() || types.size() < 2 ||
        !llvm::all_of(types.take_back(2), llvm::IsaPred<IndexType>)) {
      func.emitError() << "expects a kernel of one block whose last arguments are a thread's number and the number of "
                          "threads (ternary-outline-kernels)";
      return signalPassFailure();
    }
    for (const std::string &feature : features) {
      int64_t bits = feature == "avx512f" ? 512 : feature == "avx2" ? 256 : 128;
      target.vectorBits = std::max(target.vectorBits, bits);
      target.convertsF16 |= feature == "f16c";
    }
    SmallVector<Operation *> ops;
    for (Operation &op : func.getBody().front().without_terminator())
      ops.push_back(&op);
    for (Operation *op : ops)
      if (failed(tile(op)))
        return signalPassFailure();
  }

  setun::TileTarget target;

  LogicalResult tile(Operation *op);
};

LogicalResult TernaryTile::tile(Operation *op) {
  auto func = getOperation();
  if (llvm::any_of(op->getOperandTypes(), llvm::IsaPred<TensorType>))
    return op->emitOpError() << "expects buffers (one-shot-bufferize), got a tensor";
  OpBuilder b(op);
  Block &block = func.getBody().front();
  unsigned count = block.getNumArguments();
  setun::TileContext c{setun::VectorBuilder(b, op->getLoc()), block.getArgument(count - 2),
                       block.getArgument(count - 1), target};
  if (auto copy = dyn_cast<memref::CopyOp>(op)) {
    IRRewriter rewriter(b);
    op = linalg::makeMemRefCopyOp(rewriter, op->getLoc(), copy.getSource(), copy.getTarget());
    copy.erase();
    b.setInsertionPoint(op);
  }
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    return setun::tileStructured(linalgOp, c);
  if (auto attention = dyn_cast<AttentionOp>(op); attention && !attention.getBlocked())
    return op->emitOpError() << "expects blocked keys (ternary-block-keys)";
  bool known = llvm::TypeSwitch<Operation *, bool>(op)
                   .Case([&](MatmulOp op) { return setun::tileMatmul(op, c), true; })
                   .Case([&](DenseOp op) { return setun::tileDense(op, c), true; })
                   .Case([&](EmbeddingOp op) { return setun::tileEmbedding(op, c), true; })
                   .Case([&](QuantizeOp op) { return setun::tileQuantize(op, c), true; })
                   .Case([&](NormOp op) { return setun::tileNorm(op, c), true; })
                   .Case([&](RotaryOp op) { return setun::tileRotary(op, c), true; })
                   .Case([&](CacheUpdateOp op) { return setun::tileCacheUpdate(op, c), true; })
                   .Case([&](AttentionOp op) { return setun::tileAttention(op, c), true; })
                   .Case([&](AttentionFoldOp op) { return setun::tileAttentionFold(op, c), true; })
                   .Case([&](BatchAttentionOp op) { return setun::tileBatchAttention(op, c), true; })
                   .Case([&](SoftmaxOp op) { return setun::tileSoftmax(op, c), true; })
                   .Case([&](GatedOp op) { return setun::tileGated(op, c), true; })
                   .Case([&](HadamardOp op) { return setun::tileHadamard(op, c), true; })
                   .Case([&](HeadQuantizeOp op) { return setun::tileHeadQuantize(op, c), true; })
                   .Case([&](HeadScanOp op) { return setun::tileHeadScan(op, c), true; })
                   .Case([&](HeadCandidatesOp op) { return setun::tileHeadCandidates(op, c), true; })
                   .Case([&](HeadRescoreOp op) { return setun::tileHeadRescore(op, c), true; })
                   .Case([&](HeadSelectOp op) { return setun::tileHeadSelect(op, c), true; })
                   .Default([](Operation *) { return false; });
  if (!known)
    return op->emitOpError() << "expects to be an operation that kernels can hold";
  op->erase();
  return success();
}
} // namespace
