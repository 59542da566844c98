//===- BitNetConvertMath.cpp - functions of math to those of bitnet ---------------===//
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_BITNETCONVERTMATH
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using bitnet::Function;

namespace {
std::optional<Function> functionOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, std::optional<Function>>(op)
      .Case([](math::ExpOp) { return Function::Exp; })
      .Case([](math::Exp2Op) { return Function::Exp2; })
      .Case([](math::ExpM1Op) { return Function::Expm1; })
      .Case([](math::LogOp) { return Function::Log; })
      .Case([](math::Log2Op) { return Function::Log2; })
      .Case([](math::Log10Op) { return Function::Log10; })
      .Case([](math::Log1pOp) { return Function::Log1p; })
      .Case([](math::SinOp) { return Function::Sin; })
      .Case([](math::CosOp) { return Function::Cos; })
      .Case([](math::TanOp) { return Function::Tan; })
      .Case([](math::AtanOp) { return Function::Atan; })
      .Case([](math::SinhOp) { return Function::Sinh; })
      .Case([](math::CoshOp) { return Function::Cosh; })
      .Case([](math::TanhOp) { return Function::Tanh; })
      .Case([](math::ErfOp) { return Function::Erf; })
      .Case([](math::RsqrtOp) { return Function::Rsqrt; })
      .Case([](math::FloorOp) { return Function::Floor; })
      .Case([](math::CeilOp) { return Function::Ceil; })
      .Case([](math::TruncOp) { return Function::Trunc; })
      .Case([](math::RoundOp) { return Function::Round; })
      .Case([](math::RoundEvenOp) { return Function::RoundEven; })
      .Default([](Operation *) { return std::nullopt; });
}

struct BitNetConvertMath : public setun::impl::BitNetConvertMathBase<BitNetConvertMath> {
  void runOnOperation() override {
    OpBuilder b(&getContext());
    getOperation().walk([&](Operation *op) {
      if (!isa<math::MathDialect>(op->getDialect()) || !getElementTypeOrSelf(op->getResult(0).getType()).isF32())
        return;
      b.setInsertionPoint(op);
      Value result;
      if (std::optional<Function> function = functionOf(op))
        result = bitnet::MathOp::create(b, op->getLoc(), op->getResult(0).getType(), *function, op->getOperand(0));
      else if (isa<math::PowFOp>(op))
        result = bitnet::PowOp::create(b, op->getLoc(), op->getOperand(0), op->getOperand(1));
      else
        return;
      op->replaceAllUsesWith(ValueRange(result));
      op->erase();
    });
  }
};
} // namespace
