//===- TernaryTile.cpp - operations in kernels into loops of vectors -------------===//
#include "passes/VectorBuilder.h"

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
  LogicalResult tileLinalg(linalg::LinalgOp op, setun::TileContext &c);
};

/// The outermost parallel loop is shared among the threads; an operation without one runs on the first thread.
LogicalResult TernaryTile::tileLinalg(linalg::LinalgOp op, setun::TileContext &c) {
  OpBuilder &b = c.v.b;
  bool split = op.getNumLoops() > 0 && op.getIteratorTypesArray()[0] == utils::IteratorType::parallel;
  IRRewriter rewriter(b);
  rewriter.setInsertionPoint(op);
  FailureOr<linalg::LinalgLoops> loops = linalg::linalgOpToLoops(rewriter, op);
  if (failed(loops))
    return op.emitError() << "expects an operation that lowers to loops";
  if (split && !loops->empty()) {
    auto outer = dyn_cast<scf::ForOp>(loops->front());
    if (!outer)
      return op.emitError() << "expects a loop";
    c.v.b.setInsertionPoint(outer);
    auto [begin, end] = c.v.share(outer.getUpperBound(), c.thread, c.threads);
    outer.setLowerBound(begin);
    outer.setUpperBound(end);
  } else {
    // All of it, in place, under "thread 0".
    Operation *first = loops->empty() ? op->getNextNode() : loops->front();
    SmallVector<Operation *> body;
    if (loops->empty()) {
      for (Operation *it = op->getPrevNode(); it && !isa<arith::ConstantOp>(it); it = it->getPrevNode())
        body.insert(body.begin(), it);
      first = body.empty() ? op.getOperation() : body.front();
    } else {
      body.push_back(first);
    }
    b.setInsertionPoint(first);
    Value isFirst = arith::CmpIOp::create(b, op.getLoc(), arith::CmpIPredicate::eq, c.thread, c.v.index(0));
    auto guard = scf::IfOp::create(b, op.getLoc(), isFirst, false);
    for (Operation *inner : body)
      inner->moveBefore(guard.getThenRegion().front().getTerminator());
  }
  return success();
}

LogicalResult TernaryTile::tile(Operation *op) {
  auto func = getOperation();
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
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op)) {
    if (failed(tileLinalg(linalgOp, c)))
      return failure();
    op->erase();
    return success();
  }
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
