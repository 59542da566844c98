//===- TernaryLowerVectors.cpp - unpack and dot into target instructions ---------===//
//
// One lowering of ternary.dot, dot_pairs, multiply_add, matrix_dot and add_pairs for each row of
// lib/Target/Kernels.def. All are exact: u is at most max_code, s is any int8, and 16-bit partial sums are used only
// where their bound is proved from max_code.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
#include "passes/Passes.h"

#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <numeric>

namespace setun {
#define GEN_PASS_DEF_TERNARYLOWERVECTORS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;

namespace {
VectorType vec(OpBuilder &b, int64_t lanes, unsigned bits) { return VectorType::get({lanes}, b.getIntegerType(bits)); }
Value splat(OpBuilder &b, Location loc, VectorType type, int64_t value) {
  return arith::ConstantOp::create(b, loc,
                                   DenseElementsAttr::get(type, APInt(type.getElementTypeBitWidth(), value,
                                                                      /*isSigned=*/true, /*implicitTrunc=*/true)));
}
Value call(OpBuilder &b, Location loc, StringRef intrinsic, VectorType type, ValueRange arguments) {
  return LLVM::CallIntrinsicOp::create(b, loc, Type(type), b.getStringAttr(intrinsic), arguments).getResults();
}
Value part(OpBuilder &b, Location loc, Value value, int64_t from, int64_t lanes) {
  return vector::ExtractStridedSliceOp::create(b, loc, value, ArrayRef<int64_t>{from}, ArrayRef<int64_t>{lanes},
                                               ArrayRef<int64_t>{1});
}

/// `op` on pieces of at most `bytes` bytes; `one` makes a piece from its accumulator, unsigned and signed bytes, of
/// which `perLane` make a lane.
template <typename Op, typename One>
Value inPieces(OpBuilder &b, Location loc, Op op, int64_t bytes, int64_t perLane, One one) {
  int64_t total = cast<VectorType>(op.getU().getType()).getNumElements();
  if (total <= bytes)
    return one(total, op.getAcc(), op.getU(), op.getS());
  Value result = op.getAcc();
  for (int64_t at = 0; at < total; at += bytes) {
    Value piece = one(bytes, part(b, loc, op.getAcc(), at / perLane, bytes / perLane),
                      part(b, loc, op.getU(), at, bytes), part(b, loc, op.getS(), at, bytes));
    result = vector::InsertStridedSliceOp::create(b, loc, piece, result, ArrayRef<int64_t>{at / perLane},
                                                  ArrayRef<int64_t>{1});
  }
  return result;
}

/// vpdpbusd: four products a lane, added to i32 without saturation; on vectors of at most `width` bits.
Value dotVnni(OpBuilder &b, Location loc, DotOp op, int64_t width) {
  return inPieces(b, loc, op, width / 8, 4, [&](int64_t bytes, Value acc, Value u, Value s) {
    std::string name = "llvm.x86.avx512.vpdpbusd." + std::to_string(8 * bytes);
    return call(b, loc, name, vec(b, bytes / 4, 32), {acc, u, s});
  });
}

StringRef maddubs(int64_t bytes) {
  return bytes == 64   ? "llvm.x86.avx512.pmaddubs.w.512"
         : bytes == 32 ? "llvm.x86.avx2.pmadd.ub.sw"
                       : "llvm.x86.ssse3.pmadd.ub.sw.128";
}
StringRef maddwd(int64_t bytes) {
  return bytes == 64   ? "llvm.x86.avx512.pmaddw.d.512"
         : bytes == 32 ? "llvm.x86.avx2.pmadd.wd"
                       : "llvm.x86.sse2.pmadd.wd";
}
/// Pairs of 16-bit sums as 32-bit lanes: vpmaddwd with ones.
Value widenMadd(OpBuilder &b, Location loc, Value pairs) {
  int64_t lanes = cast<VectorType>(pairs.getType()).getNumElements() / 2;
  return call(b, loc, maddwd(4 * lanes), vec(b, lanes, 32), {pairs, splat(b, loc, vec(b, 2 * lanes, 16), 1)});
}

/// vpmaddubsw, then vpmaddwd with ones. Pairs are at most 2 * max_code * 128.
Value dotMadd(OpBuilder &b, Location loc, DotOp op, int64_t width) {
  return inPieces(b, loc, op, width / 8, 4, [&](int64_t bytes, Value acc, Value u, Value s) -> Value {
    Value pairs = call(b, loc, maddubs(bytes), vec(b, bytes / 2, 16), {u, s});
    return arith::AddIOp::create(b, loc, acc, widenMadd(b, loc, pairs));
  });
}

/// sdot, or usdot where codes need all eight bits: four products a lane, added to i32.
Value dotNeon(OpBuilder &b, Location loc, DotOp op, bool hasMixed) {
  const bool fits = op.getSignedCodes() || op.getMaxCode() <= 127;
  return inPieces(b, loc, op, 16, 4, [&](int64_t bytes, Value acc, Value u, Value s) {
    auto dot = [&](StringRef name, Value codes) {
      acc = call(b, loc, ("llvm.aarch64.neon." + name + ".v4i32.v16i8").str(), vec(b, 4, 32), {acc, codes, s});
    };
    if (fits || hasMixed) {
      dot(fits ? "sdot" : "usdot", u);
      return acc;
    }
    // u = (u - 128) + 64 + 64.
    VectorType type = vec(b, bytes, 8);
    dot("sdot", arith::XOrIOp::create(b, loc, u, splat(b, loc, type, -128)));
    dot("sdot", splat(b, loc, type, 64));
    dot("sdot", splat(b, loc, type, 64));
    return acc;
  });
}

/// The products of 16 bytes each as two halves of 16-bit lanes.
std::pair<Value, Value> productsNeon(OpBuilder &b, Location loc, Value u, Value s) {
  auto half = [&](int64_t from) {
    return call(b, loc, "llvm.aarch64.neon.smull.v8i16", vec(b, 8, 16),
                {part(b, loc, u, from, 8), part(b, loc, s, from, 8)});
  };
  return {half(0), half(8)};
}
Value pairwise(OpBuilder &b, Location loc, std::pair<Value, Value> halves) {
  auto type = cast<VectorType>(halves.first.getType());
  std::string name = type.getElementTypeBitWidth() == 16 ? "v8i16" : "v4i32";
  return call(b, loc, "llvm.aarch64.neon.addp." + name, type, {halves.first, halves.second});
}
/// Neighbours of 8 16-bit lanes added, as 32-bit lanes.
Value widenNeon(OpBuilder &b, Location loc, Value sums) {
  return call(b, loc, "llvm.aarch64.neon.saddlp.v4i32.v8i16", vec(b, 4, 32), {sums});
}

/// smull, pairs of products added in 16 bits, then in 32. Codes are at most 127.
Value dotProductsNeon(OpBuilder &b, Location loc, DotOp op) {
  return inPieces(b, loc, op, 16, 4, [&](int64_t, Value acc, Value u, Value s) -> Value {
    return arith::AddIOp::create(b, loc, acc, widenNeon(b, loc, pairwise(b, loc, productsNeon(b, loc, u, s))));
  });
}
Value pairsNeon(OpBuilder &b, Location loc, DotPairsOp op) {
  return inPieces(b, loc, op, 16, 2, [&](int64_t, Value acc, Value u, Value s) -> Value {
    return arith::AddIOp::create(b, loc, acc, pairwise(b, loc, productsNeon(b, loc, u, s)));
  });
}

/// Neighbouring 16-bit sums added, as 32-bit lanes.
Value addHalves(OpBuilder &b, Location loc, VectorType lanes, Value sums) {
  Value both = vector::BitCastOp::create(b, loc, lanes, sums), half = splat(b, loc, lanes, 16);
  Value low = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, both, half), half);
  return arith::AddIOp::create(b, loc, low, arith::ShRSIOp::create(b, loc, both, half));
}

/// The products of even and of odd bytes, as 16-bit lanes.
std::pair<Value, Value> productsGeneric(OpBuilder &b, Location loc, Value u, Value s, bool isSigned) {
  VectorType words = vec(b, cast<VectorType>(u.getType()).getNumElements() / 2, 16);
  u = vector::BitCastOp::create(b, loc, words, u);
  s = vector::BitCastOp::create(b, loc, words, s);
  Value eight = splat(b, loc, words, 8);
  auto product = [&](Value x, Value y) -> Value { // of the high bytes
    x = isSigned ? Value(arith::ShRSIOp::create(b, loc, x, eight)) : Value(arith::ShRUIOp::create(b, loc, x, eight));
    return arith::MulIOp::create(b, loc, x, arith::ShRSIOp::create(b, loc, y, eight));
  };
  return {product(arith::ShLIOp::create(b, loc, u, eight), arith::ShLIOp::create(b, loc, s, eight)), product(u, s)};
}

/// Plain vector arithmetic: two products a 16-bit lane.
Value pairsGeneric(OpBuilder &b, Location loc, Value u, Value s) {
  auto [even, odd] = productsGeneric(b, loc, u, s, /*isSigned=*/false);
  return arith::AddIOp::create(b, loc, even, odd);
}
Value dotGeneric(OpBuilder &b, Location loc, DotOp op) {
  Value pairs = pairsGeneric(b, loc, op.getU(), op.getS());
  return arith::AddIOp::create(b, loc, op.getAcc(), addHalves(b, loc, op.getType(), pairs));
}

/// The same for any bytes: single products fit 16 bits.
Value dotEmulated(OpBuilder &b, Location loc, DotOp op) {
  auto [even, odd] = productsGeneric(b, loc, op.getU(), op.getS(), op.getSignedCodes());
  Value sum = arith::AddIOp::create(b, loc, op.getAcc(), addHalves(b, loc, op.getType(), even));
  return arith::AddIOp::create(b, loc, sum, addHalves(b, loc, op.getType(), odd));
}

/// A row of the kernel table, and what of it has to do without its instructions.
struct Target {
  const setun::KernelRow *row;
  SmallVector<StringRef> emulated;

  bool has(StringRef feature) const { return row->features.contains(feature) && !is_contained(emulated, feature); }
  /// Width of the vectors of two-way dots in bits; 0: plain arithmetic.
  int64_t pairsWidth() const { return has("avx512bw") ? 512 : has("avx2") ? 256 : 0; }
};

/// Whether the row has dots of such codes; diagnoses if not.
LogicalResult checkDot(Operation *op, VectorType lanes, bool isSigned, int64_t maxCode, const Target &target) {
  if (lanes.isScalable()) {
    if (target.has("sve") && (isSigned || maxCode <= 127))
      return success();
    return op->emitOpError() << "expects codes that fit signed bytes, on a kernel row with vectors of any length";
  }
  if (target.row->isFourWay() || isSigned || 2 * maxCode * 128 <= 32767)
    return success();
  return op->emitOpError() << "expects a max_code of at most 127 on kernel row " << target.row->name
                           << ", whose partial sums have 16 bits, got " << maxCode;
}

Value lower(OpBuilder &b, Location loc, DotOp op, const Target &target) {
  if (op.getType().isScalable())
    return call(b, loc, "llvm.aarch64.sve.sdot.nxv4i32", op.getType(), {op.getAcc(), op.getU(), op.getS()});
  if (target.row->hasSignedDots() && target.has("dotprod"))
    return dotNeon(b, loc, op, target.has("i8mm"));
  if (target.has("sve") && !op.getSignedCodes() && op.getMaxCode() <= 127)
    return dotProductsNeon(b, loc, op);
  if (target.row->isFourWay() || op.getSignedCodes()) {
    bool has = target.has("avx512vnni") || target.has("avxvnni");
    return has ? dotVnni(b, loc, op, 8 * target.row->bytes) : dotEmulated(b, loc, op);
  }
  if (int64_t width = target.pairsWidth())
    return dotMadd(b, loc, op, width);
  return target.has("neon") ? dotProductsNeon(b, loc, op) : dotGeneric(b, loc, op);
}

/// vpmaddubsw and an addition, on vectors of at most `width` bits. The op's verifier bounds the sums.
Value pairsMadd(OpBuilder &b, Location loc, DotPairsOp op, int64_t width) {
  return inPieces(b, loc, op, width / 8, 2, [&](int64_t bytes, Value acc, Value u, Value s) -> Value {
    return arith::AddIOp::create(b, loc, acc, call(b, loc, maddubs(bytes), vec(b, bytes / 2, 16), {u, s}));
  });
}

Value lower(OpBuilder &b, Location loc, DotPairsOp op, const Target &target) {
  if (int64_t width = target.pairsWidth())
    return pairsMadd(b, loc, op, width);
  if (target.has("neon"))
    return pairsNeon(b, loc, op);
  return arith::AddIOp::create(b, loc, op.getAcc(), pairsGeneric(b, loc, op.getU(), op.getS()));
}

/// Products in 16-bit lanes; LLVM makes them smlal where there is one.
Value lower(OpBuilder &b, Location loc, MultiplyAddOp op, const Target &) {
  return inPieces(b, loc, op, 8, 1, [&](int64_t, Value acc, Value u, Value s) -> Value {
    auto widen = [&](Value bytes, bool isSigned) {
      return isSigned ? Value(arith::ExtSIOp::create(b, loc, acc.getType(), bytes))
                      : Value(arith::ExtUIOp::create(b, loc, acc.getType(), bytes));
    };
    Value products = arith::MulIOp::create(b, loc, widen(u, op.getMaxCode() <= 127), widen(s, true));
    return arith::AddIOp::create(b, loc, acc, products);
  });
}

Value lower(OpBuilder &b, Location loc, MatrixDotOp op, const Target &target) {
  VectorType lanes = op.getType();
  if (target.has("i8mm")) {
    const bool fits = op.getSignedCodes() || op.getMaxCode() <= 127;
    StringRef name = fits ? "llvm.aarch64.neon.smmla.v4i32.v16i8" : "llvm.aarch64.neon.usmmla.v4i32.v16i8";
    return call(b, loc, name, lanes, {op.getAcc(), op.getU(), op.getS()});
  }
  // Two dots of half the columns, each with every row beside every token.
  Value sum = op.getAcc();
  for (int64_t half : {0, 4}) {
    SmallVector<int64_t> rows, tokens;
    for (int64_t lane = 0; lane < 4; ++lane)
      for (int64_t k = 0; k < 4; ++k) {
        rows.push_back(lane / 2 * 8 + half + k);
        tokens.push_back(lane % 2 * 8 + half + k);
      }
    Value u = vector::ShuffleOp::create(b, loc, op.getU(), op.getU(), rows);
    Value s = vector::ShuffleOp::create(b, loc, op.getS(), op.getS(), tokens);
    sum = DotOp::create(b, loc, lanes, sum, u, s, op.getMaxCode(), op.getSignedCodes());
  }
  return sum;
}

/// `count` 32-bit lanes, of which `piece` makes `lanes` at a time from the number of the first.
template <typename Piece> Value lanesInPieces(OpBuilder &b, Location loc, int64_t count, int64_t lanes, Piece piece) {
  Value result = splat(b, loc, vec(b, count, 32), 0);
  for (int64_t at = 0; at < count; at += lanes)
    result =
        vector::InsertStridedSliceOp::create(b, loc, piece(at), result, ArrayRef<int64_t>{at}, ArrayRef<int64_t>{1});
  return result;
}

/// Neighbours of the 16-bit lanes of `pairs`, two by two, in 32 bits.
Value addNeighbours(OpBuilder &b, Location loc, Value pairs, const Target &target) {
  int64_t count = cast<VectorType>(pairs.getType()).getNumElements() / 2, most = target.pairsWidth() / 32;
  if (target.has("neon"))
    return lanesInPieces(b, loc, count, 4,
                         [&](int64_t at) { return widenNeon(b, loc, part(b, loc, pairs, 2 * at, 8)); });
  if (most == 0)
    return addHalves(b, loc, vec(b, count, 32), pairs);
  if (count <= most)
    return widenMadd(b, loc, pairs);
  return lanesInPieces(b, loc, count, most,
                       [&](int64_t at) { return widenMadd(b, loc, part(b, loc, pairs, 2 * at, 2 * most)); });
}

Value lower(OpBuilder &b, Location loc, AddPairsOp op, const Target &target) {
  auto lanes = cast<VectorType>(op.getAcc().getType());
  int64_t count = lanes.getNumElements();
  Value sums = addNeighbours(b, loc, op.getPairs(), target);
  if (op.getPairs().getType().getNumElements() == 4 * count) { // once more, now as 32-bit lanes
    if (target.has("neon")) {
      sums = lanesInPieces(b, loc, count, 4, [&, twice = sums](int64_t at) {
        return pairwise(b, loc, {part(b, loc, twice, 2 * at, 4), part(b, loc, twice, 2 * at + 4, 4)});
      });
    } else {
      auto quads = vec(b, count, 64);
      Value both = vector::BitCastOp::create(b, loc, quads, sums);
      Value high = arith::ShRUIOp::create(b, loc, both, splat(b, loc, quads, 32));
      sums = arith::TruncIOp::create(b, loc, lanes, arith::AddIOp::create(b, loc, both, high));
    }
  }
  return arith::AddIOp::create(b, loc, op.getAcc(), sums);
}

Value lower(OpBuilder &b, Location loc, LookUpOp op, const Target &target) {
  VectorType type = op.getType();
  if (target.has("avx512bw"))
    return call(b, loc, "llvm.x86.avx512.vpermi2var.hi.512", type, {op.getLow(), op.getIndices(), op.getHigh()});
  SmallVector<int64_t> all(2 * type.getNumElements());
  std::iota(all.begin(), all.end(), 0);
  Value tables = vector::ShuffleOp::create(b, loc, op.getLow(), op.getHigh(), all);
  Value indices = arith::AndIOp::create(b, loc, op.getIndices(), splat(b, loc, type, 63));
  SmallVector<Value> words;
  for (int64_t lane = 0; lane < type.getNumElements(); ++lane) {
    Value index = vector::ExtractOp::create(b, loc, indices, ArrayRef<int64_t>{lane});
    index = arith::IndexCastUIOp::create(b, loc, b.getIndexType(), index);
    words.push_back(vector::ExtractOp::create(b, loc, tables, ArrayRef<OpFoldResult>{index}));
  }
  return vector::FromElementsOp::create(b, loc, type, words);
}

/// bytes mod divisor for bytes below three times the divisor.
Value tritsBelow(OpBuilder &b, Location loc, Value bytes, int64_t divisor) {
  // What is below the divisor wraps round to something larger.
  Value constant = splat(b, loc, cast<VectorType>(bytes.getType()), divisor);
  for (int i = 0; i < 2; ++i)
    bytes = arith::MinUIOp::create(b, loc, bytes, arith::SubIOp::create(b, loc, bytes, constant));
  return bytes;
}

Value lower(OpBuilder &b, Location loc, TritsBelowOp op, const Target &) {
  return tritsBelow(b, loc, op.getBytes(), op.getDivisor());
}

/// bytes / divisor for bytes below three times the divisor.
Value topTrit(OpBuilder &b, Location loc, Value bytes, int64_t divisor) {
  auto type = cast<VectorType>(bytes.getType());
  auto atLeast = [&](int64_t bound) -> Value {
    Value is = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, bytes, splat(b, loc, type, bound));
    return arith::ExtUIOp::create(b, loc, type, is);
  };
  return arith::AddIOp::create(b, loc, atLeast(divisor), atLeast(2 * divisor));
}

Value lower(OpBuilder &b, Location loc, TopTritOp op, const Target &) {
  return topTrit(b, loc, op.getBytes(), op.getDivisor());
}

Value lower(OpBuilder &b, Location loc, LookUpBytesOp op, const Target &target) {
  auto type = cast<VectorType>(op.getBytes().getType());
  constexpr int64_t size = 64;
  auto tableType = VectorType::get({size}, b.getI8Type());
  Value table = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(tableType, op.getTable()));
  Value indices = op.getBytes();
  const auto shift = static_cast<int64_t>(op.getShift());
  if (target.has("avx512vbmi") && type == tableType) {
    if (shift) { // of words, for want of one of bytes; what gets in from above is above the six bits
      auto words = VectorType::get({size / 2}, b.getI16Type());
      indices = vector::BitCastOp::create(b, loc, words, indices);
      indices = arith::ShRUIOp::create(b, loc, indices, splat(b, loc, words, shift));
      indices = vector::BitCastOp::create(b, loc, type, indices);
    }
    return call(b, loc, "llvm.x86.avx512.permvar.qi.512", type, {table, indices});
  }
  if (shift)
    indices = arith::ShRUIOp::create(b, loc, indices, splat(b, loc, type, shift));
  indices = arith::AndIOp::create(b, loc, indices, splat(b, loc, type, size - 1));
  SmallVector<Value> bytes;
  for (int64_t i = 0; i < type.getNumElements(); ++i) {
    Value at = vector::ExtractOp::create(b, loc, indices, ArrayRef<int64_t>{i});
    at = arith::IndexCastUIOp::create(b, loc, b.getIndexType(), at);
    bytes.push_back(vector::ExtractOp::create(b, loc, table, OpFoldResult(at)));
  }
  return vector::FromElementsOp::create(b, loc, type, bytes);
}

Value lower(OpBuilder &b, Location loc, UnpackOp op, const Target &) {
  auto type = cast<VectorType>(op.getBytes().getType());
  int64_t bits = op.getBits(), field = op.getField();
  Value codes = op.getBytes();
  int64_t mask = op.getCumulative() ? (1 << (bits * (field + 1))) - 1 : (1 << bits) - 1;
  if (!op.getCumulative() && field)
    codes = arith::ShRUIOp::create(b, loc, codes, splat(b, loc, type, bits * field));
  // The top field needs no mask: nothing stands above it.
  if ((field + 1) * bits < 8)
    codes = arith::AndIOp::create(b, loc, codes, splat(b, loc, type, mask));
  return codes;
}

template <typename Op> struct Lower : public OpRewritePattern<Op> {
  Lower(MLIRContext *context, const Target &target) : OpRewritePattern<Op>(context), target(target) {}

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, lower(rewriter, op.getLoc(), op, target));
    return success();
  }

  const Target &target;
};

/// An instruction of no bytes that LLVM does not know, with results where the operands were.
struct LowerFence : public OpRewritePattern<FenceOp> {
  LowerFence(MLIRContext *context, const Target &target) : OpRewritePattern(context), target(target) {}

  LogicalResult matchAndRewrite(FenceOp op, PatternRewriter &rewriter) const override {
    if (!target.has("avx512bw") || op.getNumResults() < 2) {
      rewriter.replaceOp(op, op.getValues());
      return success();
    }
    std::string constraints;
    for (size_t i = 0; i < op.getNumResults(); ++i)
      constraints += "=v,";
    for (size_t i = 0; i < op.getNumResults(); ++i)
      constraints += (i ? "," : "") + std::to_string(i);
    auto type = LLVM::LLVMStructType::getLiteral(getContext(), llvm::to_vector(op.getResultTypes()));
    auto all = LLVM::InlineAsmOp::create(rewriter, op.getLoc(), type, op.getValues(), /*asm_string=*/"", constraints,
                                         /*has_side_effects=*/false, /*is_align_stack=*/false, LLVM::TailCallKind::None,
                                         LLVM::AsmDialectAttr(), ArrayAttr());
    SmallVector<Value> results;
    for (int64_t i = 0; i < static_cast<int64_t>(op.getNumResults()); ++i)
      results.push_back(LLVM::ExtractValueOp::create(rewriter, op.getLoc(), all.getRes(), ArrayRef<int64_t>{i}));
    rewriter.replaceOp(op, results);
    return success();
  }

  const Target &target;
};

struct TernaryLowerVectors : public setun::impl::TernaryLowerVectorsBase<TernaryLowerVectors> {
  using TernaryLowerVectorsBase::TernaryLowerVectorsBase;

  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto name = func->getAttrOfType<StringAttr>(setun::kKernelRowAttr);
    StringRef row = name ? name.getValue() : "generic";
    Target target{setun::findKernelRow(row), {}};
    for (const std::string &feature : emulate)
      target.emulated.push_back(feature);
    if (!target.row) {
      func.emitError() << "expects a row of the kernel table, got " << row;
      return signalPassFailure();
    }
    WalkResult checked = func.walk([&](Operation *op) {
      LogicalResult status = success();
      if (auto dot = dyn_cast<DotOp>(op))
        status = checkDot(op, dot.getType(), dot.getSignedCodes(), dot.getMaxCode(), target);
      else if (auto matrix = dyn_cast<MatrixDotOp>(op); matrix && !target.has("i8mm"))
        status = checkDot(op, matrix.getType(), matrix.getSignedCodes(), matrix.getMaxCode(), target);
      return WalkResult(status);
    });
    if (checked.wasInterrupted())
      return signalPassFailure();
    RewritePatternSet patterns(&getContext());
    patterns
        .add<Lower<DotOp>, Lower<DotPairsOp>, Lower<MultiplyAddOp>, Lower<MatrixDotOp>, Lower<AddPairsOp>,
             Lower<LookUpOp>, Lower<TritsBelowOp>, Lower<TopTritOp>, Lower<LookUpBytesOp>, Lower<UnpackOp>, LowerFence>(
            &getContext(), target);
    if (failed(applyPatternsGreedily(func, std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
