//===- MathBuilder.h - the functions of setun/Math.h as operations -*- C++ -*-===//
#ifndef SETUN_PASSES_MATHBUILDER_H
#define SETUN_PASSES_MATHBUILDER_H

#include "passes/Passes.h"

#include "dialects/BitNet/Functions.h"

namespace setun {

/// The arithmetic of setun::Math on values of the IR: f32 numbers, or vectors of them of one shape.
class ValueArithmetic {
public:
  using F = mlir::Value;
  using D = mlir::Value;
  using I = mlir::Value;
  using B = mlir::Value;

  /// `like` is f32 or a vector type of f32.
  ValueArithmetic(mlir::OpBuilder &b, mlir::Location loc, mlir::Type like) : b(b), loc(loc), like(like) {}

  mlir::Value f(float x) { return constant(b.getF32FloatAttr(x)); }
  mlir::Value d(double x) { return constant(b.getF64FloatAttr(x)); }
  mlir::Value i(int32_t x) { return constant(b.getI32IntegerAttr(x)); }
  mlir::Value add(mlir::Value x, mlir::Value y) { return mlir::arith::AddFOp::create(b, loc, x, y); }
  mlir::Value sub(mlir::Value x, mlir::Value y) { return mlir::arith::SubFOp::create(b, loc, x, y); }
  mlir::Value mul(mlir::Value x, mlir::Value y) { return mlir::arith::MulFOp::create(b, loc, x, y); }
  mlir::Value div(mlir::Value x, mlir::Value y) { return mlir::arith::DivFOp::create(b, loc, x, y); }
  mlir::Value sqrt(mlir::Value x) { return mlir::math::SqrtOp::create(b, loc, x); }
  mlir::Value abs(mlir::Value x) { return fromBits(andI(bits(x), i(0x7fffffff))); }
  mlir::Value copySign(mlir::Value magnitude, mlir::Value sign) {
    mlir::Value signBit = andI(bits(sign), i(INT32_MIN));
    return fromBits(mlir::arith::OrIOp::create(b, loc, andI(bits(magnitude), i(0x7fffffff)), signBit));
  }
  mlir::Value lt(mlir::Value x, mlir::Value y) { return compare(mlir::arith::CmpFPredicate::OLT, x, y); }
  mlir::Value eq(mlir::Value x, mlir::Value y) { return compare(mlir::arith::CmpFPredicate::OEQ, x, y); }
  mlir::Value isNan(mlir::Value x) { return compare(mlir::arith::CmpFPredicate::UNO, x, x); }
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y) {
    return mlir::arith::SelectOp::create(b, loc, condition, x, y);
  }
  mlir::Value bits(mlir::Value x) { return mlir::arith::BitcastOp::create(b, loc, typed(b.getI32Type()), x); }
  mlir::Value fromBits(mlir::Value x) { return mlir::arith::BitcastOp::create(b, loc, typed(b.getF32Type()), x); }
  mlir::Value addI(mlir::Value x, mlir::Value y) { return mlir::arith::AddIOp::create(b, loc, x, y); }
  mlir::Value subI(mlir::Value x, mlir::Value y) { return mlir::arith::SubIOp::create(b, loc, x, y); }
  mlir::Value shiftLeft(mlir::Value x, int by) { return mlir::arith::ShLIOp::create(b, loc, x, i(by)); }
  mlir::Value shiftRight(mlir::Value x, int by) { return mlir::arith::ShRSIOp::create(b, loc, x, i(by)); }
  mlir::Value andI(mlir::Value x, mlir::Value y) { return mlir::arith::AndIOp::create(b, loc, x, y); }
  mlir::Value eqI(mlir::Value x, mlir::Value y) {
    return mlir::arith::CmpIOp::create(b, loc, mlir::arith::CmpIPredicate::eq, x, y);
  }
  mlir::Value toInt(mlir::Value x) { return mlir::arith::FPToSIOp::create(b, loc, typed(b.getI32Type()), x); }
  mlir::Value toFloat(mlir::Value x) { return mlir::arith::SIToFPOp::create(b, loc, typed(b.getF32Type()), x); }
  mlir::Value widen(mlir::Value x) { return mlir::arith::ExtFOp::create(b, loc, typed(b.getF64Type()), x); }
  mlir::Value narrow(mlir::Value x) { return mlir::arith::TruncFOp::create(b, loc, typed(b.getF32Type()), x); }

private:
  mlir::Type typed(mlir::Type element) {
    auto vector = llvm::dyn_cast<mlir::VectorType>(like);
    return vector ? vector.clone(element) : element;
  }
  mlir::Value constant(mlir::TypedAttr value) {
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(typed(value.getType())))
      value = mlir::DenseElementsAttr::get(vector, mlir::Attribute(value));
    return mlir::arith::ConstantOp::create(b, loc, value);
  }
  mlir::Value compare(mlir::arith::CmpFPredicate predicate, mlir::Value x, mlir::Value y) {
    return mlir::arith::CmpFOp::create(b, loc, predicate, x, y);
  }

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type like;
};

/// bitnet.math and bitnet.pow on f32 or a vector of it, as arithmetic.
mlir::Value emitFunction(mlir::OpBuilder &b, mlir::Location loc, mlir::bitnet::Function function, mlir::Value x);
mlir::Value emitPow(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x, mlir::Value exponent);

} // namespace setun

#endif // SETUN_PASSES_MATHBUILDER_H
