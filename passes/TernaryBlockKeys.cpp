//===- TernaryBlockKeys.cpp - keys of attention in blocks of 16 rows -------------===//
//
// A state can be blocked only if all entries that have it agree, for they share its bytes: so names are decided over
// the whole module before anything is changed.
//
//===----------------------------------------------------------------------===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"

#include "llvm/ADT/StringSet.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYBLOCKKEYS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;
using setun::packing::BlockedCache;
using setun::packing::kCacheBlockRows;

namespace {
struct TernaryBlockKeys : public setun::impl::TernaryBlockKeysBase<TernaryBlockKeys> {
  void runOnOperation() override;
  /// True if the rows of this state argument are seen by nobody but its own update and attention, as keys.
  bool holdsOnlyKeys(func::FuncOp func, BlockArgument state, StringAttr name, SmallVectorImpl<CacheUpdateOp> &updates);
  void copyToBlocks(AttentionOp op);
};

bool TernaryBlockKeys::holdsOnlyKeys(func::FuncOp func, BlockArgument state, StringAttr name,
                                     SmallVectorImpl<CacheUpdateOp> &updates) {
  auto returnsIt = [&](OpOperand &use) {
    return isa<func::ReturnOp>(use.getOwner()) &&
           func.getResultAttrOfType<StringAttr>(use.getOperandNumber(), bitnet::kStateAttr) == name;
  };
  for (OpOperand &use : state.getUses()) {
    if (returnsIt(use))
      continue;
    auto update = dyn_cast<CacheUpdateOp>(use.getOwner());
    if (!update || &use != &update.getCacheMutable() || update->getNumResults() != 1)
      return false;
    for (OpOperand &inner : update->getResult(0).getUses()) {
      auto attention = dyn_cast<AttentionOp>(inner.getOwner());
      if (!returnsIt(inner) && (!attention || &inner != &attention.getKMutable()))
        return false;
    }
    updates.push_back(update);
  }
  return true;
}

void TernaryBlockKeys::copyToBlocks(AttentionOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto type = cast<RankedTensorType>(op.getK().getType());
  SmallVector<int64_t> shape(type.getShape());
  SmallVector<Value> sizes;
  if (type.isDynamicDim(0)) {
    Value rows = tensor::DimOp::create(b, loc, op.getK(), 0);
    Value step = arith::ConstantIndexOp::create(b, loc, kCacheBlockRows);
    sizes.push_back(arith::MulIOp::create(b, loc, arith::CeilDivUIOp::create(b, loc, rows, step), step));
  } else {
    shape[0] = BlockedCache::paddedRows(shape[0]);
  }
  Value empty = tensor::EmptyOp::create(b, loc, RankedTensorType::get(shape, type.getElementType()), sizes);
  Value zero = arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(0));
  auto update = CacheUpdateOp::create(b, loc, TypeRange{empty.getType()}, op.getK(), zero, Value(), Value(), empty,
                                      /*blocked=*/true,
                                      /*solo=*/false);
  op.getKMutable().assign(update->getResult(0));
  op.setBlocked(true);
}

void TernaryBlockKeys::runOnOperation() {
  llvm::StringSet<> keys, mixed; // states that are keys; states that are something else, too
  SmallVector<std::pair<StringAttr, CacheUpdateOp>> candidates;
  for (auto func : getOperation().getOps<func::FuncOp>()) {
    if (!setun::isEntry(func))
      continue;
    for (BlockArgument argument : func.getArguments()) {
      auto name = func.getArgAttrOfType<StringAttr>(argument.getArgNumber(), bitnet::kStateAttr);
      if (!name)
        continue;
      SmallVector<CacheUpdateOp> updates;
      if (!holdsOnlyKeys(func, argument, name, updates))
        mixed.insert(name);
      for (CacheUpdateOp update : updates) {
        candidates.push_back({name, update});
        if (llvm::any_of(update->getResult(0).getUsers(), llvm::IsaPred<AttentionOp>))
          keys.insert(name);
      }
    }
  }
  for (auto [name, update] : candidates) {
    if (mixed.contains(name) || !keys.contains(name))
      continue;
    int64_t rows = cast<ShapedType>(update.getCache().getType()).getDimSize(0);
    if (!ShapedType::isDynamic(rows) && rows % kCacheBlockRows)
      continue;
    update.setBlocked(true);
    for (Operation *user : update->getResult(0).getUsers())
      if (auto attention = dyn_cast<AttentionOp>(user))
        attention.setBlocked(true);
    ++numBlocked;
  }
  getOperation().walk([&](AttentionOp op) {
    if (!op.getBlocked() && isa<RankedTensorType>(op.getK().getType())) {
      copyToBlocks(op);
      ++numCopied;
    }
  });
}
} // namespace
