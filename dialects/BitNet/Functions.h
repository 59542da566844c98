//===- Functions.h - what the functions of bitnet.math are ---------*- C++ -*-===//
#ifndef SETUN_DIALECTS_BITNET_FUNCTIONS_H
#define SETUN_DIALECTS_BITNET_FUNCTIONS_H

#include "dialects/BitNet/BitNet.h"

#include "setun/Math.h"

namespace mlir::bitnet {

/// function(x) in the given arithmetic (include/setun/Math.h).
template <typename A> typename A::F applyFunction(A &arithmetic, Function function, typename A::F x) {
  setun::Math<A> math(arithmetic);
  switch (function) {
  case Function::Exp:
    return math.exp(x);
  case Function::Exp2:
    return math.exp2(x);
  case Function::Expm1:
    return math.expm1(x);
  case Function::Log:
    return math.log(x);
  case Function::Log2:
    return math.log2(x);
  case Function::Log10:
    return math.log10(x);
  case Function::Log1p:
    return math.log1p(x);
  case Function::Sin:
    return math.sin(x);
  case Function::Cos:
    return math.cos(x);
  case Function::Tan:
    return math.tan(x);
  case Function::Atan:
    return math.atan(x);
  case Function::Sinh:
    return math.sinh(x);
  case Function::Cosh:
    return math.cosh(x);
  case Function::Tanh:
    return math.tanh(x);
  case Function::Erf:
    return math.erf(x);
  case Function::Rsqrt:
    return math.rsqrt(x);
  case Function::Floor:
    return math.floor(x);
  case Function::Ceil:
    return math.ceil(x);
  case Function::Trunc:
    return math.trunc(x);
  case Function::Round:
    return math.round(x);
  case Function::RoundEven:
    return math.roundEven(x);
  case Function::Relu:
    return math.relu(x);
  case Function::Sigmoid:
    return math.sigmoid(x);
  case Function::Silu:
    return math.silu(x);
  case Function::Gelu:
    return math.gelu(x);
  case Function::GeluTanh:
    return math.geluTanh(x);
  }
  llvm_unreachable("all functions are handled");
}

} // namespace mlir::bitnet

#endif // SETUN_DIALECTS_BITNET_FUNCTIONS_H
