//===- ArithOps.cpp - evaluators of arith and math -------------------------------===//
//
// Scalars and element by element on tensors and vectors. Float results are rounded once to the element type.
//
//===----------------------------------------------------------------------===//
#include "lib/Reference/Interpreter.h"

#include "lib/Reference/Formulas.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace setun;
using namespace setun::reference;

static LogicalResult expectOneShape(Operation *op, Frame &frame) {
  const Tensor &first = frame.get(op->getOperand(0));
  for (mlir::Value operand : op->getOperands())
    if (frame.get(operand).shape() != first.shape())
      return op->emitOpError() << "expects operands of one shape, got " << first.typeString() << " and "
                               << frame.get(operand).typeString();
  return success();
}

static Type resultElement(Operation *op) { return getElementTypeOrSelf(op->getResult(0).getType()); }

/// Width in bits; index counts as 64.
static unsigned widthOf(Type type) { return type.isIndex() ? 64 : type.getIntOrFloatBitWidth(); }

/// Element as unsigned, and as signed where i1 is 0 or -1.
static uint64_t unsignedAt(const Tensor &tensor, int64_t i) {
  unsigned width = widthOf(tensor.elementType());
  uint64_t mask = width == 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1;
  return static_cast<uint64_t>(tensor.intAt(i)) & mask;
}
static int64_t signedAt(const Tensor &tensor, int64_t i) {
  return tensor.elementType().isInteger(1) ? -tensor.intAt(i) : tensor.intAt(i);
}

/// The results of float operations of f32 are computed in f32; in the other types a product, quotient, sum or root in
/// f64 followed by rounding is the same as one rounding.
template <typename OpTy, typename Fn> static void addFloatBinary(EvaluatorTable &table, Fn fn) {
  table.add<OpTy>([fn](OpTy op, Frame &frame) -> LogicalResult {
    if (failed(expectOneShape(op, frame)))
      return failure();
    const Tensor &a = frame.get(op->getOperand(0)), &b = frame.get(op->getOperand(1));
    Tensor result(a.elementType(), a.shape());
    if (a.elementType().isF32())
      for (int64_t i = 0; i < a.size(); ++i)
        result.mutableData<float>()[i] = fn(a.data<float>()[i], b.data<float>()[i]);
    else
      for (int64_t i = 0; i < a.size(); ++i)
        result.setFloat(i, fn(a.floatAt(i), b.floatAt(i)));
    frame.set(op->getResult(0), result);
    return success();
  });
}

template <typename OpTy, typename Fn> static void addFloatUnary(EvaluatorTable &table, Fn fn) {
  table.add<OpTy>([fn](OpTy op, Frame &frame) -> LogicalResult {
    const Tensor &a = frame.get(op->getOperand(0));
    Tensor result(a.elementType(), a.shape());
    if (a.elementType().isF32())
      for (int64_t i = 0; i < a.size(); ++i)
        result.mutableData<float>()[i] = fn(a.data<float>()[i]);
    else
      for (int64_t i = 0; i < a.size(); ++i)
        result.setFloat(i, fn(a.floatAt(i)));
    frame.set(op->getResult(0), result);
    return success();
  });
}

/// `fn(a, b, i)` gives an element from two tensors; none is undefined behaviour in the IR.
template <typename OpTy, typename Fn> static void addIntBinary(EvaluatorTable &table, Fn fn) {
  table.add<OpTy>([fn](OpTy op, Frame &frame) -> LogicalResult {
    if (failed(expectOneShape(op, frame)))
      return failure();
    const Tensor &a = frame.get(op->getOperand(0)), &b = frame.get(op->getOperand(1));
    Tensor result(resultElement(op), a.shape());
    for (int64_t i = 0; i < a.size(); ++i) {
      std::optional<uint64_t> value = fn(a, b, i);
      if (!value)
        return op.emitOpError() << "is undefined for " << a.intAt(i) << " and " << b.intAt(i);
      result.setInt(i, static_cast<int64_t>(*value));
    }
    frame.set(op->getResult(0), result);
    return success();
  });
}

/// `fn(from, to, i)` converts one element.
template <typename OpTy, typename Fn> static void addCast(EvaluatorTable &table, Fn fn) {
  table.add<OpTy>([fn](OpTy op, Frame &frame) -> LogicalResult {
    const Tensor &from = frame.get(op->getOperand(0));
    Tensor to(resultElement(op), from.shape());
    for (int64_t i = 0; i < from.size(); ++i)
      fn(from, to, i);
    frame.set(op->getResult(0), to);
    return success();
  });
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

/// Quotient of signed values, rounded towards zero (0), down (-1) or up (+1); none for 0 as divisor and overflow.
static std::optional<uint64_t> divideSigned(const Tensor &a, const Tensor &b, int64_t i, int rounding) {
  int64_t x = signedAt(a, i), y = signedAt(b, i);
  if (y == 0 || (y == -1 && x == std::numeric_limits<int64_t>::min()))
    return std::nullopt;
  int64_t quotient = x / y;
  bool negative = (x < 0) != (y < 0);
  if (x % y != 0 && ((rounding < 0 && negative) || (rounding > 0 && !negative)))
    quotient += rounding;
  return static_cast<uint64_t>(quotient);
}

static bool compareInts(arith::CmpIPredicate predicate, const Tensor &a, const Tensor &b, int64_t i) {
  int64_t x = signedAt(a, i), y = signedAt(b, i);
  uint64_t ux = unsignedAt(a, i), uy = unsignedAt(b, i);
  switch (predicate) {
  case arith::CmpIPredicate::eq:
    return x == y;
  case arith::CmpIPredicate::ne:
    return x != y;
  case arith::CmpIPredicate::slt:
    return x < y;
  case arith::CmpIPredicate::sle:
    return x <= y;
  case arith::CmpIPredicate::sgt:
    return x > y;
  case arith::CmpIPredicate::sge:
    return x >= y;
  case arith::CmpIPredicate::ult:
    return ux < uy;
  case arith::CmpIPredicate::ule:
    return ux <= uy;
  case arith::CmpIPredicate::ugt:
    return ux > uy;
  case arith::CmpIPredicate::uge:
    return ux >= uy;
  }
  llvm_unreachable("all predicates are handled");
}

static void addIntegerEvaluators(EvaluatorTable &table) {
  using Int = std::optional<uint64_t>;
  using T = const Tensor &;
  addIntBinary<arith::AddIOp>(table, [](T a, T b, int64_t i) -> Int { return unsignedAt(a, i) + unsignedAt(b, i); });
  addIntBinary<arith::SubIOp>(table, [](T a, T b, int64_t i) -> Int { return unsignedAt(a, i) - unsignedAt(b, i); });
  addIntBinary<arith::MulIOp>(table, [](T a, T b, int64_t i) -> Int { return unsignedAt(a, i) * unsignedAt(b, i); });
  addIntBinary<arith::AndIOp>(table, [](T a, T b, int64_t i) -> Int { return unsignedAt(a, i) & unsignedAt(b, i); });
  addIntBinary<arith::OrIOp>(table, [](T a, T b, int64_t i) -> Int { return unsignedAt(a, i) | unsignedAt(b, i); });
  addIntBinary<arith::XOrIOp>(table, [](T a, T b, int64_t i) -> Int { return unsignedAt(a, i) ^ unsignedAt(b, i); });
  addIntBinary<arith::MaxSIOp>(table,
                               [](T a, T b, int64_t i) -> Int { return std::max(signedAt(a, i), signedAt(b, i)); });
  addIntBinary<arith::MinSIOp>(table,
                               [](T a, T b, int64_t i) -> Int { return std::min(signedAt(a, i), signedAt(b, i)); });
  addIntBinary<arith::MaxUIOp>(table,
                               [](T a, T b, int64_t i) -> Int { return std::max(unsignedAt(a, i), unsignedAt(b, i)); });
  addIntBinary<arith::MinUIOp>(table,
                               [](T a, T b, int64_t i) -> Int { return std::min(unsignedAt(a, i), unsignedAt(b, i)); });
  addIntBinary<arith::DivSIOp>(table, [](T a, T b, int64_t i) { return divideSigned(a, b, i, 0); });
  addIntBinary<arith::FloorDivSIOp>(table, [](T a, T b, int64_t i) { return divideSigned(a, b, i, -1); });
  addIntBinary<arith::CeilDivSIOp>(table, [](T a, T b, int64_t i) { return divideSigned(a, b, i, 1); });
  addIntBinary<arith::RemSIOp>(table, [](T a, T b, int64_t i) -> Int {
    Int quotient = divideSigned(a, b, i, 0);
    return quotient ? Int(signedAt(a, i) - *quotient * signedAt(b, i)) : Int();
  });
  addIntBinary<arith::DivUIOp>(table, [](T a, T b, int64_t i) -> Int {
    return unsignedAt(b, i) ? Int(unsignedAt(a, i) / unsignedAt(b, i)) : Int();
  });
  addIntBinary<arith::RemUIOp>(table, [](T a, T b, int64_t i) -> Int {
    return unsignedAt(b, i) ? Int(unsignedAt(a, i) % unsignedAt(b, i)) : Int();
  });
  auto inWidth = [](T a, T b, int64_t i) { return unsignedAt(b, i) < widthOf(a.elementType()); };
  addIntBinary<arith::ShLIOp>(table, [inWidth](T a, T b, int64_t i) -> Int {
    return inWidth(a, b, i) ? Int(unsignedAt(a, i) << unsignedAt(b, i)) : Int();
  });
  addIntBinary<arith::ShRUIOp>(table, [inWidth](T a, T b, int64_t i) -> Int {
    return inWidth(a, b, i) ? Int(unsignedAt(a, i) >> unsignedAt(b, i)) : Int();
  });
  addIntBinary<arith::ShRSIOp>(table, [inWidth](T a, T b, int64_t i) -> Int {
    return inWidth(a, b, i) ? Int(signedAt(a, i) >> unsignedAt(b, i)) : Int();
  });
}

//===----------------------------------------------------------------------===//
// Comparison, choice, conversion
//===----------------------------------------------------------------------===//

static bool compareFloats(arith::CmpFPredicate predicate, double x, double y) {
  using P = arith::CmpFPredicate;
  bool unordered = std::isnan(x) || std::isnan(y);
  switch (predicate) {
  case P::AlwaysFalse:
    return false;
  case P::AlwaysTrue:
    return true;
  case P::ORD:
    return !unordered;
  case P::UNO:
    return unordered;
  case P::OEQ:
    return x == y;
  case P::OGT:
    return x > y;
  case P::OGE:
    return x >= y;
  case P::OLT:
    return x < y;
  case P::OLE:
    return x <= y;
  case P::ONE:
    return !unordered && x != y;
  case P::UEQ:
    return unordered || x == y;
  case P::UGT:
    return unordered || x > y;
  case P::UGE:
    return unordered || x >= y;
  case P::ULT:
    return unordered || x < y;
  case P::ULE:
    return unordered || x <= y;
  case P::UNE:
    return unordered || x != y;
  }
  llvm_unreachable("all predicates are handled");
}

static LogicalResult evaluateCmpF(arith::CmpFOp op, Frame &frame) {
  if (failed(expectOneShape(op, frame)))
    return failure();
  const Tensor &a = frame.get(op.getLhs()), &b = frame.get(op.getRhs());
  Tensor result(resultElement(op), a.shape());
  for (int64_t i = 0; i < a.size(); ++i)
    result.setInt(i, compareFloats(op.getPredicate(), a.floatAt(i), b.floatAt(i)));
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateCmpI(arith::CmpIOp op, Frame &frame) {
  if (failed(expectOneShape(op, frame)))
    return failure();
  const Tensor &a = frame.get(op.getLhs()), &b = frame.get(op.getRhs());
  Tensor result(resultElement(op), a.shape());
  for (int64_t i = 0; i < a.size(); ++i)
    result.setInt(i, compareInts(op.getPredicate(), a, b, i));
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateSelect(arith::SelectOp op, Frame &frame) {
  const Tensor &condition = frame.get(op.getCondition()), &a = frame.get(op.getTrueValue()),
               &b = frame.get(op.getFalseValue());
  if (a.shape() != b.shape() || (condition.rank() && condition.shape() != a.shape()))
    return op.emitOpError() << "expects operands of one shape, got " << condition.typeString() << ", " << a.typeString()
                            << " and " << b.typeString();
  Tensor result(a.elementType(), a.shape());
  for (int64_t i = 0; i < a.size(); ++i)
    result.copyElement(i, condition.intAt(condition.rank() ? i : 0) ? a : b, i);
  frame.set(op.getResult(), result);
  return success();
}

static LogicalResult evaluateConstant(arith::ConstantOp op, Frame &frame) {
  std::optional<Tensor> value = Tensor::fromAttribute(op.getValue());
  if (!value)
    return op.emitOpError() << "has a value of a kind that the reference interpreter does not support";
  frame.set(op.getResult(), *value);
  return success();
}

/// Towards zero; values that do not fit are undefined in the IR, and the nearest bound here.
static int64_t truncateToInt(double value) {
  constexpr double limit = 9223372036854775808.0;
  if (std::isnan(value))
    return 0;
  if (value >= limit)
    return std::numeric_limits<int64_t>::max();
  if (value <= -limit)
    return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(value);
}

static void addCasts(EvaluatorTable &table) {
  auto toSigned = [](const Tensor &from, Tensor &to, int64_t i) { to.setInt(i, signedAt(from, i)); };
  auto toUnsigned = [](const Tensor &from, Tensor &to, int64_t i) {
    to.setInt(i, static_cast<int64_t>(unsignedAt(from, i)));
  };
  addCast<arith::ExtSIOp>(table, toSigned);
  addCast<arith::ExtUIOp>(table, toUnsigned);
  addCast<arith::TruncIOp>(table, toSigned);
  addCast<arith::IndexCastOp>(table, toSigned);
  addCast<arith::IndexCastUIOp>(table, toUnsigned);
  auto toFloat = [](const Tensor &from, Tensor &to, int64_t i) { to.setFloat(i, from.floatAt(i)); };
  addCast<arith::ExtFOp>(table, toFloat);
  addCast<arith::TruncFOp>(table, toFloat);
  // From 64 bits straight to f32: by way of f64 some would be rounded twice.
  addCast<arith::SIToFPOp>(table, [](const Tensor &from, Tensor &to, int64_t i) {
    int64_t value = signedAt(from, i);
    to.setFloat(i, to.elementType().isF32() ? static_cast<float>(value) : static_cast<double>(value));
  });
  addCast<arith::UIToFPOp>(table, [](const Tensor &from, Tensor &to, int64_t i) {
    uint64_t value = unsignedAt(from, i);
    to.setFloat(i, to.elementType().isF32() ? static_cast<float>(value) : static_cast<double>(value));
  });
  auto toInt = [](const Tensor &from, Tensor &to, int64_t i) { to.setInt(i, truncateToInt(from.floatAt(i))); };
  addCast<arith::FPToSIOp>(table, toInt);
  addCast<arith::FPToUIOp>(table, toInt);
  addCast<arith::BitcastOp>(table, [](const Tensor &from, Tensor &to, int64_t i) {
    std::memcpy(to.mutableData<uint8_t>() + i * to.elementBytes(), from.data<uint8_t>() + i * from.elementBytes(),
                to.elementBytes());
  });
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

template <typename OpTy> static void addFunction(EvaluatorTable &table, bitnet::Function function) {
  addFloatUnary<OpTy>(table, [function](auto a) -> decltype(a) { return applyFunction(function, a); });
}

/// Functions of math are those of the bitnet dialect, in f32.
static void addMathFunctions(EvaluatorTable &table) {
  using F = bitnet::Function;
  addFunction<math::ExpOp>(table, F::Exp);
  addFunction<math::Exp2Op>(table, F::Exp2);
  addFunction<math::ExpM1Op>(table, F::Expm1);
  addFunction<math::LogOp>(table, F::Log);
  addFunction<math::Log2Op>(table, F::Log2);
  addFunction<math::Log10Op>(table, F::Log10);
  addFunction<math::Log1pOp>(table, F::Log1p);
  addFunction<math::SinOp>(table, F::Sin);
  addFunction<math::CosOp>(table, F::Cos);
  addFunction<math::TanOp>(table, F::Tan);
  addFunction<math::AtanOp>(table, F::Atan);
  addFunction<math::SinhOp>(table, F::Sinh);
  addFunction<math::CoshOp>(table, F::Cosh);
  addFunction<math::TanhOp>(table, F::Tanh);
  addFunction<math::ErfOp>(table, F::Erf);
  addFunction<math::RsqrtOp>(table, F::Rsqrt);
  addFunction<math::FloorOp>(table, F::Floor);
  addFunction<math::CeilOp>(table, F::Ceil);
  addFunction<math::TruncOp>(table, F::Trunc);
  addFunction<math::RoundOp>(table, F::Round);
  addFunction<math::RoundEvenOp>(table, F::RoundEven);
  addFloatBinary<math::PowFOp>(table, [](auto a, auto b) -> decltype(a) { return applyPow(a, b); });
}

static void addFloatEvaluators(EvaluatorTable &table) {
  addFloatBinary<arith::AddFOp>(table, [](auto a, auto b) { return a + b; });
  addFloatBinary<arith::SubFOp>(table, [](auto a, auto b) { return a - b; });
  addFloatBinary<arith::MulFOp>(table, [](auto a, auto b) { return a * b; });
  addFloatBinary<arith::DivFOp>(table, [](auto a, auto b) { return a / b; });
  // maximumf and minimumf: NaN wins, +0 is above -0. maxnumf and minnumf: a number wins over NaN.
  addFloatBinary<arith::MaximumFOp>(table, [](auto a, auto b) {
    if (std::isnan(a) || std::isnan(b))
      return a + b;
    return a == b ? (std::signbit(a) ? b : a) : (a > b ? a : b);
  });
  addFloatBinary<arith::MinimumFOp>(table, [](auto a, auto b) {
    if (std::isnan(a) || std::isnan(b))
      return a + b;
    return a == b ? (std::signbit(a) ? a : b) : (a < b ? a : b);
  });
  addFloatBinary<arith::MaxNumFOp>(table, [](auto a, auto b) { return std::fmax(a, b); });
  addFloatBinary<arith::MinNumFOp>(table, [](auto a, auto b) { return std::fmin(a, b); });
  addFloatBinary<arith::RemFOp>(table, [](auto a, auto b) { return std::fmod(a, b); });
  addFloatBinary<math::CopySignOp>(table, [](auto a, auto b) { return std::copysign(a, b); });
  addFloatUnary<arith::NegFOp>(table, [](auto a) { return -a; });
  addFloatUnary<math::AbsFOp>(table, [](auto a) { return std::fabs(a); });
  addFloatUnary<math::SqrtOp>(table, [](auto a) { return std::sqrt(a); });
  addMathFunctions(table);
}

void reference::addArithEvaluators(EvaluatorTable &table) {
  table.add<arith::ConstantOp>(evaluateConstant);
  table.add<arith::CmpIOp>(evaluateCmpI);
  table.add<arith::CmpFOp>(evaluateCmpF);
  table.add<arith::SelectOp>(evaluateSelect);
  addIntegerEvaluators(table);
  addFloatEvaluators(table);
  addCasts(table);
}
