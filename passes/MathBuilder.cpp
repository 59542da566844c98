//===- MathBuilder.cpp - the functions of setun/Math.h as operations -------------===//
#include "passes/MathBuilder.h"

using namespace mlir;

Value setun::emitFunction(OpBuilder &b, Location loc, bitnet::Function function, Value x) {
  ValueArithmetic arithmetic(b, loc, x.getType());
  return bitnet::applyFunction(arithmetic, function, x);
}

Value setun::emitPow(OpBuilder &b, Location loc, Value x, Value exponent) {
  ValueArithmetic arithmetic(b, loc, x.getType());
  return Math<ValueArithmetic>(arithmetic).pow(x, exponent);
}
