//===- BitNetRaiseLinear.cpp - BitLinear layers written out as arithmetic ---------===//
//
// Looks at every bitnet.dense: are its weights a few values of one magnitude, and its input the codes of a quantiser,
// or these with the quantiser's scale taken out again? See the pass description.
//
//===----------------------------------------------------------------------===//
#include "lib/Weights/WeightSource.h"
#include "passes/Passes.h"

namespace setun {
#define GEN_PASS_DEF_BITNETRAISELINEAR
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::bitnet;

namespace {
/// By how much a weight or code may miss its value: straight-through estimators leave the rounding of x + (q - x).
constexpr float kTolerance = 1e-5f;

//===----------------------------------------------------------------------===//
// Matching arithmetic
//===----------------------------------------------------------------------===//

/// The number that all elements of a tensor have.
std::optional<float> splatOf(Value value) {
  DenseFPElementsAttr dense;
  FloatAttr number;
  if (matchPattern(value, m_Constant(&number)) && number.getType().isF32())
    return number.getValue().convertToFloat();
  if (matchPattern(value, m_Constant(&dense)))
    return dense.isSplat() && dense.getElementType().isF32() ? std::optional<float>(dense.getSplatValue<float>())
                                                             : std::nullopt;
  Operation *def = value.getDefiningOp();
  if (!def || !isa<linalg::FillOp, linalg::BroadcastOp, tensor::SplatOp, tensor::CastOp, tensor::ExpandShapeOp,
                   tensor::CollapseShapeOp, tensor::FromElementsOp>(def))
    return std::nullopt;
  if (auto elements = dyn_cast<tensor::FromElementsOp>(def);
      elements && (elements.getElements().empty() || !llvm::all_equal(elements.getElements())))
    return std::nullopt;
  return splatOf(def->getOperand(0));
}

/// The other operand of a commutative operation of which one is the number.
template <typename OpTy> std::optional<std::pair<Value, float>> withNumber(Value value) {
  auto op = value.getDefiningOp<OpTy>();
  if (!op)
    return std::nullopt;
  if (auto number = splatOf(op->getOperand(1)))
    return std::make_pair(op->getOperand(0), *number);
  if (auto number = splatOf(op->getOperand(0)))
    return std::make_pair(op->getOperand(1), *number);
  return std::nullopt;
}

/// Without reshapes and casts of types.
Value unshaped(Value value) {
  while (Operation *def = value.getDefiningOp()) {
    if (!isa<tensor::CastOp, tensor::ExpandShapeOp, tensor::CollapseShapeOp>(def))
      break;
    value = def->getOperand(0);
  }
  return value;
}

/// `q` of `x + (q - x)`, with a product by one between or not.
std::pair<Value, Value> straightThrough(Value value) {
  auto sum = value.getDefiningOp<arith::AddFOp>();
  if (!sum)
    return {};
  for (bool swap : {false, true}) {
    Value x = sum->getOperand(swap), difference = sum->getOperand(!swap);
    if (auto scaled = withNumber<arith::MulFOp>(difference); scaled && scaled->second == 1.0f)
      difference = scaled->first;
    if (auto sub = difference.getDefiningOp<arith::SubFOp>(); sub && sub.getRhs() == x)
      return {sub.getLhs(), x};
  }
  return {};
}

struct Bounds {
  Value value;
  float low, high;
};

std::optional<Bounds> clamped(Value value) {
  if (auto outer = withNumber<arith::MinimumFOp>(value))
    if (auto inner = withNumber<arith::MaximumFOp>(outer->first))
      return Bounds{inner->first, inner->second, outer->second};
  if (auto outer = withNumber<arith::MaximumFOp>(value))
    if (auto inner = withNumber<arith::MinimumFOp>(outer->first))
      return Bounds{inner->first, outer->second, inner->second};
  return std::nullopt;
}

/// What is rounded to whole numbers, and whether half to even (else by floor(x + 1/2)).
std::optional<std::pair<Value, bool>> rounded(Value value) {
  auto math = value.getDefiningOp<MathOp>();
  if (!math)
    return std::nullopt;
  if (math.getFunction() == Function::RoundEven)
    return std::make_pair(math.getX(), true);
  if (math.getFunction() == Function::Floor)
    if (auto sum = withNumber<arith::AddFOp>(math.getX()); sum && sum->second == 0.5f)
      return std::make_pair(sum->first, false);
  return std::nullopt;
}

/// Activation codes as f32, and what they are of.
struct Codes {
  Value codes;  ///< of whole numbers that i8 holds
  Value scaled; ///< the activations times their scale
  float low, high;
  bool halfToEven;
};

std::optional<Codes> codesOf(Value value) {
  if (auto [q, x] = straightThrough(value); q)
    if (auto found = codesOf(q))
      return found;
  // By way of an integer type.
  if (auto back = value.getDefiningOp<arith::SIToFPOp>())
    if (auto to = back.getIn().getDefiningOp<arith::FPToSIOp>())
      return codesOf(to.getIn());
  if (auto scaled = withNumber<arith::MulFOp>(value); scaled && scaled->second == 1.0f)
    return codesOf(scaled->first);
  Codes found;
  std::optional<Bounds> bounds = clamped(value);
  std::optional<std::pair<Value, bool>> inner = rounded(bounds ? bounds->value : value);
  if (!inner)
    return std::nullopt;
  if (!bounds) { // rounded last
    bounds = clamped(inner->first);
    if (!bounds)
      return std::nullopt;
    inner->first = bounds->value;
  }
  if (bounds->low < -128 || bounds->high > 127 || bounds->low != std::floor(bounds->low) ||
      bounds->high != std::floor(bounds->high))
    return std::nullopt;
  return Codes{value, inner->first, bounds->low, bounds->high, inner->second};
}

/// The factor that is the same along the last axis of a tensor, without that axis; null if it is not.
linalg::BroadcastOp alongLast(Value value) {
  auto broadcast = unshaped(value).getDefiningOp<linalg::BroadcastOp>();
  if (!broadcast || broadcast.getInit().getType() != value.getType())
    return {};
  int64_t last = cast<RankedTensorType>(value.getType()).getRank() - 1;
  return llvm::is_contained(broadcast.getDimensions(), last) ? broadcast : linalg::BroadcastOp();
}

/// Whether two factors are the same, or broadcast from the same.
bool isSameFactor(Value a, Value b) {
  linalg::BroadcastOp first = alongLast(a), second = alongLast(b);
  return a == b || (first && second && first.getDimensions() == second.getDimensions() &&
                    unshaped(first.getInput()) == unshaped(second.getInput()));
}

/// The input of a product: codes, perhaps divided by (or multiplied with) a factor for each token.
struct Input {
  Codes codes;
  Value factor; ///< [..., K], or null
  bool divides = false;
};

std::optional<Input> inputOf(Value value) {
  if (auto codes = codesOf(value))
    return Input{*codes, Value()};
  if (auto [q, x] = straightThrough(value); q)
    return inputOf(q);
  auto scaledBy = [&](Value codesValue, Value factor, bool divides) -> std::optional<Input> {
    auto codes = codesOf(codesValue);
    if (!codes || (!alongLast(factor) && !splatOf(factor)))
      return std::nullopt;
    return Input{*codes, factor, divides};
  };
  if (auto div = value.getDefiningOp<arith::DivFOp>())
    return scaledBy(div.getLhs(), div.getRhs(), true);
  if (auto mul = value.getDefiningOp<arith::MulFOp>()) {
    if (auto found = scaledBy(mul.getLhs(), mul.getRhs(), false))
      return found;
    return scaledBy(mul.getRhs(), mul.getLhs(), false);
  }
  return std::nullopt;
}

/// Activations, and the quantiser that gives their codes, if its formula is that of #bitnet.act_quant.
struct Quantiser {
  Value x;
  ActQuantAttr how;
};

/// (1 / max(absmax(x), eps)) * qmax, per token; returns x and sets eps.
Value scaleSource(Value scale, float qMax, float &eps) {
  auto product = withNumber<arith::MulFOp>(unshaped(scale));
  if (!product || product->second != qMax)
    return {};
  auto inverse = unshaped(product->first).getDefiningOp<arith::DivFOp>();
  if (!inverse || splatOf(inverse.getLhs()) != 1.0f)
    return {};
  auto bounded = withNumber<arith::MaximumFOp>(unshaped(inverse.getRhs()));
  if (!bounded || !(bounded->second > 0))
    return {};
  eps = bounded->second;
  auto reduce = unshaped(bounded->first).getDefiningOp<linalg::ReduceOp>();
  if (!reduce || reduce.getInputs().size() != 1)
    return {};
  Block *body = &reduce.getCombiner().front();
  auto absolute = reduce.getInputs()[0].getDefiningOp<math::AbsFOp>();
  std::optional<float> start = splatOf(reduce.getInits()[0]);
  int64_t last = absolute ? cast<RankedTensorType>(absolute.getType()).getRank() - 1 : 0;
  auto isArgument = [&](Value value) { return llvm::is_contained(body->getArguments(), value); };
  bool isLargest = absolute && start && *start <= 0 && body->getOperations().size() == 2 &&
                   isa<arith::MaximumFOp, arith::MaxNumFOp>(body->front()) &&
                   llvm::all_of(body->front().getOperands(), isArgument) &&
                   body->front().getOperand(0) != body->front().getOperand(1) &&
                   reduce.getDimensions() == ArrayRef<int64_t>{last};
  return isLargest ? absolute.getOperand() : Value();
}

std::optional<Quantiser> quantiserOf(const Codes &codes) {
  if (!codes.halfToEven || codes.low != -codes.high - 1)
    return std::nullopt;
  unsigned bits = 1 + llvm::Log2_32(static_cast<uint32_t>(codes.high) + 1);
  if (bits < 2 || bits > 8 || codes.high != static_cast<float>((1 << (bits - 1)) - 1))
    return std::nullopt;
  auto product = codes.scaled.getDefiningOp<arith::MulFOp>();
  if (!product)
    return std::nullopt;
  for (bool swap : {false, true}) {
    Value x = product->getOperand(swap);
    linalg::BroadcastOp scale = alongLast(product->getOperand(!swap));
    int64_t rank = cast<RankedTensorType>(x.getType()).getRank();
    if (!scale || scale.getDimensions() != ArrayRef<int64_t>{rank - 1})
      continue;
    float eps;
    if (scaleSource(scale.getInput(), codes.high, eps) == x) {
      Builder b(x.getContext());
      return Quantiser{x, ActQuantAttr::get(x.getContext(), ActGranularity::PerToken, bits, b.getF32FloatAttr(eps))};
    }
  }
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// What weights of one magnitude are.
struct Magnitude {
  float value;
  bool isTernary; ///< kept as 0, +1 and -1, else by their signs
};

/// Finds it, row by row.
struct MagnitudeFinder {
  float value = 0;
  int64_t zeros = 0, plus = 0, minus = 0;
  /// The magnitude, if they are those of a quantiser: of either sign. Where one sign is rare, the mean is close to the
  /// other's weights, and the binary quantiser asks what is above the mean.
  std::optional<Magnitude> found() const {
    if (!plus || !minus)
      return std::nullopt;
    return Magnitude{value, zeros || std::min(plus, minus) < (plus + minus) / 64};
  }
  /// Whether all weights so far are 0, + or - one magnitude.
  bool take(ArrayRef<float> weights) {
    for (float weight : weights) {
      float size = std::fabs(weight);
      if (size == 0) {
        ++zeros;
        continue;
      }
      ++(weight > 0 ? plus : minus);
      if (value == 0)
        value = size;
      if (!(std::fabs(size - value) <= kTolerance * value)) // a NaN, too
        return false;
    }
    return true;
  }
};

struct BitNetRaiseLinear : public setun::impl::BitNetRaiseLinearBase<BitNetRaiseLinear> {
  BitNetRaiseLinear() = default;
  explicit BitNetRaiseLinear(std::shared_ptr<setun::WeightStore> store) : store(std::move(store)) {}

  void runOnOperation() override {
    SmallVector<DenseOp> ops;
    getOperation().walk([&](DenseOp op) { ops.push_back(op); });
    for (DenseOp op : ops)
      raise(op);
  }

private:
  std::optional<Magnitude> magnitudeOf(Value w);
  void raise(DenseOp op);
  /// Codes and magnitude of the weights as values.
  std::pair<Value, Value> weightsOf(DenseOp op, const Magnitude &magnitude, OpBuilder &b);
  Value linear(DenseOp op, Value x, std::optional<ActQuantAttr> how, const Magnitude &magnitude);
  Value product(DenseOp op, const Input &input, const Magnitude &magnitude);

  std::shared_ptr<setun::WeightStore> store;
};

std::optional<Magnitude> BitNetRaiseLinear::magnitudeOf(Value w) {
  auto type = cast<RankedTensorType>(w.getType());
  int64_t n = type.getDimSize(0), k = type.getDimSize(1);
  MagnitudeFinder finder;
  DenseFPElementsAttr dense;
  if (!type.getElementType().isF32())
    return std::nullopt;
  if (matchPattern(w, m_Constant(&dense))) {
    std::vector<float> all(dense.value_begin<float>(), dense.value_end<float>());
    return finder.take(all) ? finder.found() : std::nullopt;
  }
  auto weight = w.getDefiningOp<WeightOp>();
  if (!weight || !store || !store->source)
    return std::nullopt;
  std::lock_guard<std::mutex> lock(store->magnitudesMutex);
  auto [it, isNew] = store->magnitudes.try_emplace(weight.getName());
  if (isNew) {
    std::vector<float> row(k);
    bool isOne = true;
    for (int64_t i = 0; isOne && i < n; ++i) {
      if (llvm::Error error = store->source->readRowsF32(weight.getName(), n, k, i, i + 1, row.data())) {
        llvm::consumeError(std::move(error)); // told where the weight is packed
        isOne = false;
      }
      isOne = isOne && finder.take(row);
    }
    if (std::optional<Magnitude> found = isOne ? finder.found() : std::nullopt)
      it->second = {found->value, found->isTernary};
  }
  if (it->second.first == 0)
    return std::nullopt;
  return Magnitude{it->second.first, it->second.second};
}

std::pair<Value, Value> BitNetRaiseLinear::weightsOf(DenseOp op, const Magnitude &magnitude, OpBuilder &b) {
  Location loc = op.getLoc();
  auto type = cast<RankedTensorType>(op.getW().getType());
  // Of weights that have one magnitude the quantisers keep exactly the signs and zeros.
  auto method = magnitude.isTernary ? WeightQuant::Absmean : WeightQuant::Sign;
  auto codes = RankedTensorType::get(type.getShape(), b.getIntegerType(magnitude.isTernary ? 2 : 1));
  auto scaleType = RankedTensorType::get({1}, b.getF32Type());
  auto quantize =
      QuantizeWeightOp::create(b, loc, codes, scaleType, op.getW(), WeightQuantAttr::get(b.getContext(), method),
                               b.getF32FloatAttr(0.0f), ScalesAttr());
  Value scale = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(scaleType, magnitude.value));
  return {quantize.getCodes(), scale};
}

Value BitNetRaiseLinear::linear(DenseOp op, Value x, std::optional<ActQuantAttr> how, const Magnitude &magnitude) {
  OpBuilder b(op);
  auto [codes, scale] = weightsOf(op, magnitude, b);
  OperationState state(op.getLoc(), LinearOp::getOperationName());
  LinearOp::build(b, state, op.getType(), x, codes, scale, op.getBias(), Value(), Value(), how.value_or(ActQuantAttr()),
                  ScalesAttr::get(b.getContext(), ScaleKind::Tensor),
                  DirectionAttr::get(b.getContext(), Direction::Multiply),
                  BiasPlaceAttr::get(b.getContext(), BiasPlace::AfterScale), NormAttr());
  return b.create(state)->getResult(0);
}

/// Whether the rows of `x` are those of what it is a reshape of: a quantiser of these is one of its rows.
bool keepsRows(Value x) {
  auto collapse = x.getDefiningOp<tensor::CollapseShapeOp>();
  return !collapse || collapse.getReassociationIndices().back().size() == 1;
}

/// `value` as the rows of a matrix, by the reshape that makes `x`, the input of the dense layer.
Value asRows(OpBuilder &b, Value value, Value x) {
  auto collapse = x.getDefiningOp<tensor::CollapseShapeOp>();
  if (!collapse)
    return value;
  return tensor::CollapseShapeOp::create(b, value.getLoc(), value, collapse.getReassociationIndices());
}

/// The product of the codes as they are, then the factor and all that follows as it is written.
Value BitNetRaiseLinear::product(DenseOp op, const Input &input, const Magnitude &magnitude) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  Value x = op.getX();
  auto yType = cast<RankedTensorType>(op.getType());
  Value codes, sums;
  if (std::optional<Quantiser> quantiser = keepsRows(x) ? quantiserOf(input.codes) : std::nullopt) {
    Value rows = asRows(b, quantiser->x, x);
    auto type = cast<RankedTensorType>(rows.getType());
    auto quantize = QuantizeOp::create(b, loc,
                                       TypeRange{type.clone(b.getI8Type()),
                                                 RankedTensorType::get(type.getShape().take_front(), b.getF32Type()),
                                                 RankedTensorType::get(type.getShape().take_front(), b.getI32Type())},
                                       rows, quantiser->how);
    codes = quantize.getCodes();
    sums = quantize.getSums();
  } else {
    auto type = cast<RankedTensorType>(input.codes.codes.getType());
    codes = asRows(b, arith::FPToSIOp::create(b, loc, type.clone(b.getI8Type()), input.codes.codes), x);
    auto rows = cast<RankedTensorType>(codes.getType());
    Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
    Value init =
        tensor::EmptyOp::create(b, loc, ArrayRef<OpFoldResult>{tensor::getMixedSize(b, loc, codes, 0)}, b.getI32Type());
    init = linalg::FillOp::create(b, loc, zero, init).getResult(0);
    Value wide = arith::ExtSIOp::create(b, loc, rows.clone(b.getI32Type()), codes);
    sums = linalg::ReduceOp::create(b, loc, wide, init, ArrayRef<int64_t>{1},
                                    [](OpBuilder &inner, Location at, ValueRange args) {
                                      Value sum = arith::AddIOp::create(inner, at, args[0], args[1]);
                                      linalg::YieldOp::create(inner, at, sum);
                                    })
               ->getResult(0);
  }
  auto [w, scale] = weightsOf(op, magnitude, b);
  Value acc = MatmulOp::create(b, loc, yType.clone(b.getI32Type()), codes, w, sums, IntegerAttr());
  Value y = arith::SIToFPOp::create(b, loc, yType, acc);
  auto empty = [&](RankedTensorType type, Value like) -> Value {
    return tensor::EmptyOp::create(b, loc, tensor::getMixedSizes(b, loc, like), type.getElementType());
  };
  auto filled = [&](float value) -> Value {
    Value number = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
    return linalg::FillOp::create(b, loc, number, empty(yType, acc)).getResult(0);
  };
  if (magnitude.value != 1.0f)
    y = arith::MulFOp::create(b, loc, y, filled(magnitude.value));
  if (input.factor) {
    Value factor;
    if (auto number = splatOf(input.factor)) {
      factor = filled(*number);
    } else {
      // The first element of each row of the factor, which are all the same.
      Value rows = asRows(b, input.factor, x);
      SmallVector<OpFoldResult> offsets(2, b.getIndexAttr(0)),
          sizes = {tensor::getMixedSize(b, loc, rows, 0), b.getIndexAttr(1)};
      SmallVector<OpFoldResult> ones(2, b.getIndexAttr(1));
      auto column = RankedTensorType::get({yType.getDimSize(0)}, b.getF32Type());
      Value each = tensor::ExtractSliceOp::create(b, loc, column, rows, offsets, sizes, ones);
      factor = linalg::BroadcastOp::create(b, loc, each, empty(yType, acc), ArrayRef<int64_t>{1})->getResult(0);
    }
    y = input.divides ? Value(arith::DivFOp::create(b, loc, y, factor)) : arith::MulFOp::create(b, loc, y, factor);
  }
  if (op.getBias()) {
    Value bias =
        linalg::BroadcastOp::create(b, loc, op.getBias(), empty(yType, acc), ArrayRef<int64_t>{0})->getResult(0);
    y = arith::AddFOp::create(b, loc, y, bias);
  }
  return y;
}

void BitNetRaiseLinear::raise(DenseOp op) {
  Value x = op.getX();
  auto collapse = x.getDefiningOp<tensor::CollapseShapeOp>();
  std::optional<Input> input = inputOf(collapse ? collapse.getSrc() : x);
  if (input && input->factor && !splatOf(input->factor) && !keepsRows(x))
    input = std::nullopt; // the factor is not the same along a row
  std::optional<Magnitude> magnitude = magnitudeOf(op.getW());
  if (!magnitude) {
    if (input)
      op.emitRemark() << "computed in floats: its input is quantised, but its weights have more than one magnitude";
    return;
  }
  Value y;
  if (!input) {
    op.emitRemark() << "activations in floats: the weights are " << (magnitude->isTernary ? "ternary" : "binary")
                    << ", but no quantiser of the input is recognised";
    y = linear(op, x, std::nullopt, *magnitude);
  } else {
    // A layer whose quantiser and scale are those of bitnet.linear is one as a whole.
    std::optional<Quantiser> quantiser = keepsRows(x) ? quantiserOf(input->codes) : std::nullopt;
    Value scale = quantiser && input->factor && input->divides
                      ? input->codes.scaled.getDefiningOp<arith::MulFOp>()->getOperand(
                            input->codes.scaled.getDefiningOp<arith::MulFOp>().getLhs() == quantiser->x)
                      : Value();
    if (scale && isSameFactor(scale, input->factor)) {
      OpBuilder b(op);
      y = linear(op, asRows(b, quantiser->x, x), quantiser->how, *magnitude);
    } else {
      y = product(op, *input, *magnitude);
    }
  }
  ++numRaised;
  op.getY().replaceAllUsesWith(y);
  op.erase();
}
} // namespace

std::unique_ptr<Pass> setun::createBitNetRaiseLinear(std::shared_ptr<WeightStore> store) {
  return std::make_unique<BitNetRaiseLinear>(std::move(store));
}
