//===- TernaryOutlineKernels.cpp - operations on buffers into kernel functions ---===//
#include "passes/EntryInfo.h"
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYOUTLINEKERNELS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
struct TernaryOutlineKernels : public setun::impl::TernaryOutlineKernelsBase<TernaryOutlineKernels> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (op->hasAttr(setun::kComputeAttr))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      auto entry = dyn_cast<func::FuncOp>(op->getParentOp());
      if (!entry || op->getNumResults()) {
        op->emitError() << "expects an operation on buffers in an entry point (ternary-lower-entries)";
        return signalPassFailure();
      }
      if (failed(setun::verifyLowered(entry)))
        return signalPassFailure();
      outline(op, entry);
    }
  }

  void outline(Operation *op, func::FuncOp entry);
  /// The thread's number and the number of threads, as index values of an entry.
  std::pair<Value, Value> threadOf(func::FuncOp entry);

  llvm::StringMap<func::FuncOp> kernels;
  llvm::DenseMap<Operation *, std::pair<Value, Value>> threads;
};

std::pair<Value, Value> TernaryOutlineKernels::threadOf(func::FuncOp entry) {
  auto [it, isNew] = threads.try_emplace(entry);
  if (isNew) {
    // Entries have the arguments of setun_entry_fn: the invocation and the thread's number.
    Location loc = entry.getLoc();
    OpBuilder b = OpBuilder::atBlockBegin(&entry.getBody().front());
    auto ptr = LLVM::LLVMPointerType::get(&getContext());
    Value address = LLVM::GEPOp::create(b, loc, ptr, setun::invocationType(&getContext()), entry.getArgument(0),
                                        ArrayRef<LLVM::GEPArg>{0, 1});
    Value count = LLVM::LoadOp::create(b, loc, b.getI32Type(), address);
    it->second = {arith::IndexCastOp::create(b, loc, b.getIndexType(), entry.getArgument(1)),
                  arith::IndexCastOp::create(b, loc, b.getIndexType(), count)};
  }
  return it->second;
}

/// The row of the kernel table that an operation with dots names; empty for others.
StringRef rowOf(Operation *op) {
  auto kernel = op->getAttrOfType<KernelAttr>("kernel");
  return kernel ? kernel.getRow() : StringRef();
}

/// Name of a kernel: its operation, and the row if it has dots.
std::string baseName(Operation *op) {
  std::string name = op->getName().stripDialect().str();
  if (StringRef row = rowOf(op); !row.empty())
    name += "_" + row.str();
  std::replace(name.begin(), name.end(), '.', '_');
  return "kernel_" + name;
}

void TernaryOutlineKernels::outline(Operation *op, func::FuncOp entry) {
  op->removeAttr(setun::kComputeAttr);
  bool alone = op->removeAttr(setun::kAloneAttr) != nullptr;
  Value tokensOf = setun::tokensOperand(op);
  // Values from outside: operands, and what a linalg body captures.
  llvm::SetVector<Value> captured(op->operand_begin(), op->operand_end());
  op->walk([&](Operation *inner) {
    for (Value operand : inner->getOperands())
      if (operand.getParentRegion() == op->getParentRegion())
        captured.insert(operand);
  });
  SmallVector<Value> arguments(captured.begin(), captured.end());

  // Equal text (without locations) and equal wiring of operands mean equal kernels.
  std::string key;
  llvm::raw_string_ostream stream(key);
  OpPrintingFlags flags;
  flags.useLocalScope().printGenericOpForm().skipRegions(false);
  for (Value operand : op->getOperands())
    stream << (llvm::find(arguments, operand) - arguments.begin()) << " " << operand.getType() << ", ";
  {
    // Printed without its operands: their names differ between calls.
    stream << op->getName() << " " << op->getAttrDictionary();
    if (Attribute properties = op->getPropertiesAsAttribute())
      stream << properties;
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (Operation &inner : block) {
          stream << inner.getName() << inner.getAttrDictionary();
          for (Value operand : inner.getOperands()) {
            if (auto argument = dyn_cast<BlockArgument>(operand); argument && argument.getOwner() == &block)
              stream << " arg" << argument.getArgNumber();
            else if (operand.getParentRegion() == op->getParentRegion())
              stream << " capture" << (llvm::find(arguments, operand) - arguments.begin());
            else
              stream << " op" << std::distance(block.begin(), operand.getDefiningOp()->getIterator());
          }
          stream << inner.getResultTypes();
        }
  }

  OpBuilder b(op);
  Location loc = op->getLoc();
  func::FuncOp &kernel = kernels[key];
  if (!kernel) {
    SmallVector<Type> types;
    for (Value argument : arguments)
      types.push_back(argument.getType());
    types.append(2, b.getIndexType());
    OpBuilder mb = OpBuilder::atBlockEnd(getOperation().getBody());
    std::string name = baseName(op) + "_" + std::to_string(kernels.size() - 1);
    kernel = func::FuncOp::create(mb, UnknownLoc::get(&getContext()), name, b.getFunctionType(types, {}));
    kernel.setPrivate();
    kernel->setAttr(setun::kKernelAttr, b.getUnitAttr());
    if (StringRef row = rowOf(op); !row.empty())
      kernel->setAttr(setun::kKernelRowAttr, b.getStringAttr(row));
    Block *block = kernel.addEntryBlock();
    OpBuilder kb = OpBuilder::atBlockBegin(block);
    IRMapping map;
    for (auto [argument, inner] : llvm::zip(arguments, block->getArguments()))
      map.map(argument, inner);
    kb.clone(*op, map);
    func::ReturnOp::create(kb, kernel.getLoc());
    ++numKernels;
  }
  auto [thread, count] = threadOf(entry);
  if (alone) {
    Value tokens = memref::DimOp::create(b, loc, tokensOf, 0), one = arith::ConstantIndexOp::create(b, loc, 1);
    Value isOne = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, tokens, one);
    thread = arith::SelectOp::create(b, loc, isOne, arith::ConstantIndexOp::create(b, loc, 0), thread);
    count = arith::SelectOp::create(b, loc, isOne, one, count);
  }
  arguments.push_back(thread);
  arguments.push_back(count);
  func::CallOp::create(b, loc, kernel, arguments);
  op->erase();
  ++numCalls;
}
} // namespace
