//===- TernaryAddMarks.cpp - where an entry tells how far it is ------------------===//
#include "passes/EntryInfo.h"
#include "passes/OperationInfo.h"
#include "passes/Passes.h"

#include "setun/EntryABI.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYADDMARKS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;

namespace {
/// Fields of setun_invocation.
constexpr int32_t kMarkField = 9, kMarkDataField = 10;

struct TernaryAddMarks : public setun::impl::TernaryAddMarksBase<TernaryAddMarks> {
  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>())
      if (func->hasAttr(setun::kOperationsAttr) && failed(addMarks(func)))
        return signalPassFailure();
  }

  LogicalResult addMarks(func::FuncOp func);
};

/// What a copy that came with the entry's interface is called.
setun::OperationInfo describeRest(Operation *op) {
  setun::OperationInfo info;
  info.kind = op->getName().stripDialect().str();
  return info;
}

LogicalResult TernaryAddMarks::addMarks(func::FuncOp func) {
  auto described = func->getAttrOfType<ArrayAttr>(setun::kOperationsAttr);
  if (!described)
    return func.emitError() << "expects " << setun::kOperationsAttr << " to be a list (ternary-describe-operations)";
  if (failed(setun::verifyLowered(func)))
    return failure();
  Block &block = func.getBody().front();
  Location loc = func.getLoc();
  OpBuilder b = OpBuilder::atBlockBegin(&block);
  auto ptr = LLVM::LLVMPointerType::get(&getContext());
  Type invocation = setun::invocationType(&getContext());
  auto field = [&](int32_t i) -> Value {
    Value address = LLVM::GEPOp::create(b, loc, ptr, invocation, func.getArgument(0), ArrayRef<LLVM::GEPArg>{0, i});
    return LLVM::LoadOp::create(b, loc, ptr, address);
  };
  Value mark = field(kMarkField);
  Value isOn = LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ne, mark, LLVM::ZeroOp::create(b, loc, ptr));
  auto type =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(&getContext()), {ptr, b.getI32Type(), b.getI32Type()});
  auto addMark = [&](uint32_t operation) {
    auto guard = scf::IfOp::create(b, loc, isOn, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard keep(b);
    b.setInsertionPoint(guard.thenBlock()->getTerminator());
    Value number =
        LLVM::ConstantOp::create(b, loc, b.getI32Type(), b.getI32IntegerAttr(static_cast<int32_t>(operation)));
    LLVM::CallOp::create(b, loc, type, ValueRange{mark, field(kMarkDataField), func.getArgument(1), number});
  };

  SmallVector<Attribute> operations(described.getValue());
  SmallVector<Operation *> before;
  for (Operation &op : block)
    before.push_back(&op);
  addMark(SETUN_MARK_BEGIN);
  bool waited = false;
  for (Operation *op : before) {
    if (!op->hasAttr(setun::kComputeAttr)) {
      // Barriers, in whatever form; loads of single elements take no time worth telling.
      waited |= op->getNumRegions() || isa<LLVM::CallOp, ternary::BarrierOp>(op);
      continue;
    }
    auto number = op->getAttrOfType<IntegerAttr>(setun::kOperationAttr);
    if (!number) {
      number = b.getI64IntegerAttr(operations.size());
      operations.push_back(setun::toAttribute(&getContext(), describeRest(op)));
    }
    op->removeAttr(setun::kOperationAttr);
    if (waited) {
      b.setInsertionPoint(op);
      addMark(SETUN_MARK_WAIT);
      waited = false;
    }
    b.setInsertionPointAfter(op);
    addMark(static_cast<uint32_t>(number.getInt()));
  }
  func->setAttr(setun::kOperationsAttr, b.getArrayAttr(operations));
  return success();
}
} // namespace
