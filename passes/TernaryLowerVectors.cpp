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
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(type, APInt(type.getElementTypeBitWidth(), value, /*isSigned=*/true)));
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

/// Plain vector arithmetic: even and odd bytes as 16-bit lanes, two products a lane, then the two halves of 32 bits.
Value dotGeneric(OpBuilder &b, Location loc, DotOp op) {
  auto lanes = cast<VectorType>(op.getAcc().getType());
  VectorType words = vec(b, 2 * lanes.getNumElements(), 16);
  Value u = vector::BitCastOp::create(b, loc, words, op.getU());
  Value s = vector::BitCastOp::create(b, loc, words, op.getS());
  Value eight = splat(b, loc, words, 8);
  Value uLow = arith::AndIOp::create(b, loc, u, splat(b, loc, words, 0xff));
  Value uHigh = arith::ShRUIOp::create(b, loc, u, eight);
  Value sLow = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, s, eight), eight);
  Value sHigh = arith::ShRSIOp::create(b, loc, s, eight);
  Value pairs = arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, uLow, sLow),
                                      arith::MulIOp::create(b, loc, uHigh, sHigh));
  Value both = vector::BitCastOp::create(b, loc, lanes, pairs);
  Value sixteen = splat(b, loc, lanes, 16);
  Value low = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, both, sixteen), sixteen);
  Value high = arith::ShRSIOp::create(b, loc, both, sixteen);
  return arith::AddIOp::create(b, loc, op.getAcc(), arith::AddIOp::create(b, loc, low, high));
}

/// The same for any bytes: single products fit 16 bits.
Value dotEmulated(OpBuilder &b, Location loc, DotOp op) {
  auto lanes = cast<VectorType>(op.getAcc().getType());
  VectorType words = vec(b, 2 * lanes.getNumElements(), 16);
  Value u = vector::BitCastOp::create(b, loc, words, op.getU());
  Value s = vector::BitCastOp::create(b, loc, words, op.getS());
  Value eight = splat(b, loc, words, 8), sixteen = splat(b, loc, lanes, 16), sum = op.getAcc();
  for (bool high : {false, true}) {
    Value x = high ? s : Value(arith::ShLIOp::create(b, loc, s, eight));
    Value y = high ? u : Value(arith::ShLIOp::create(b, loc, u, eight));
    y = op.getSignedCodes() ? Value(arith::ShRSIOp::create(b, loc, y, eight))
                            : Value(arith::ShRUIOp::create(b, loc, y, eight));
    Value products = arith::MulIOp::create(b, loc, y, arith::ShRSIOp::create(b, loc, x, eight));
    Value both = vector::BitCastOp::create(b, loc, lanes, products);
    Value even = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, both, sixteen), sixteen);
    sum = arith::AddIOp::create(b, loc, sum, even);
    sum = arith::AddIOp::create(b, loc, sum, arith::ShRSIOp::create(b, loc, both, sixteen));
  }
  return sum;
}

/// A row of the kernel table, and what of it has to do without its instructions.
struct Target {
  const setun::KernelRow *row;
  SmallVector<StringRef> emulated;

  bool has(StringRef feature) const { return row->features.contains(feature) && !is_contained(emulated, feature); }
  /// Width of the vectors of two-way dots in bits; 0: plain arithmetic.
  int64_t pairsWidth() const { return has("avx512bw") ? 512 : has("avx2") ? 256 : 0; }
};

struct LowerDot : public OpRewritePattern<DotOp> {
  LowerDot(MLIRContext *context, const Target &target) : OpRewritePattern(context), target(target) {}

  LogicalResult matchAndRewrite(DotOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    if (op.getType().isScalable()) {
      if (!target.has("sve") || (!op.getSignedCodes() && op.getMaxCode() > 127))
        return op.emitOpError() << "expects codes that fit signed bytes, on a kernel row with vectors of any length";
      rewriter.replaceOp(
          op, call(rewriter, loc, "llvm.aarch64.sve.sdot.nxv4i32", op.getType(), {op.getAcc(), op.getU(), op.getS()}));
      return success();
    }
    if (target.row->hasSignedDots() && target.has("dotprod")) {
      rewriter.replaceOp(op, dotNeon(rewriter, loc, op, target.has("i8mm")));
      return success();
    }
    if (target.has("sve") && !op.getSignedCodes() && op.getMaxCode() <= 127) {
      rewriter.replaceOp(op, dotProductsNeon(rewriter, loc, op));
      return success();
    }
    if (target.row->isFourWay() || op.getSignedCodes()) {
      bool has = target.has("avx512vnni") || target.has("avxvnni");
      rewriter.replaceOp(op, has ? dotVnni(rewriter, loc, op, 8 * target.row->bytes) : dotEmulated(rewriter, loc, op));
      return success();
    }
    if (2 * static_cast<int64_t>(op.getMaxCode()) * 128 > 32767)
      return op.emitOpError() << "expects a max_code of at most 127 on kernel row " << target.row->name
                              << ", whose partial sums have 16 bits, got " << op.getMaxCode();
    int64_t width = target.pairsWidth();
    rewriter.replaceOp(op, width                ? dotMadd(rewriter, loc, op, width)
                           : target.has("neon") ? dotProductsNeon(rewriter, loc, op)
                                                : dotGeneric(rewriter, loc, op));
    return success();
  }

  const Target &target;
};

/// vpmaddubsw and an addition, on vectors of at most `width` bits. The op's verifier bounds the sums.
Value pairsMadd(OpBuilder &b, Location loc, DotPairsOp op, int64_t width) {
  return inPieces(b, loc, op, width / 8, 2, [&](int64_t bytes, Value acc, Value u, Value s) -> Value {
    return arith::AddIOp::create(b, loc, acc, call(b, loc, maddubs(bytes), vec(b, bytes / 2, 16), {u, s}));
  });
}

/// Plain vector arithmetic: even and odd bytes as 16-bit lanes.
Value pairsGeneric(OpBuilder &b, Location loc, DotPairsOp op) {
  auto words = cast<VectorType>(op.getAcc().getType());
  Value u = vector::BitCastOp::create(b, loc, words, op.getU());
  Value s = vector::BitCastOp::create(b, loc, words, op.getS());
  Value eight = splat(b, loc, words, 8);
  Value uLow = arith::AndIOp::create(b, loc, u, splat(b, loc, words, 0xff));
  Value uHigh = arith::ShRUIOp::create(b, loc, u, eight);
  Value sLow = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, s, eight), eight);
  Value sHigh = arith::ShRSIOp::create(b, loc, s, eight);
  Value sum = arith::AddIOp::create(b, loc, op.getAcc(), arith::MulIOp::create(b, loc, uLow, sLow));
  return arith::AddIOp::create(b, loc, sum, arith::MulIOp::create(b, loc, uHigh, sHigh));
}

struct LowerDotPairs : public OpRewritePattern<DotPairsOp> {
  LowerDotPairs(MLIRContext *context, const Target &target) : OpRewritePattern(context), target(target) {}

  LogicalResult matchAndRewrite(DotPairsOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    int64_t width = target.pairsWidth();
    rewriter.replaceOp(op, width                ? pairsMadd(rewriter, loc, op, width)
                           : target.has("neon") ? pairsNeon(rewriter, loc, op)
                                                : pairsGeneric(rewriter, loc, op));
    return success();
  }

  const Target &target;
};

/// Products in 16-bit lanes; LLVM makes them smlal where there is one.
struct LowerMultiplyAdd : public OpRewritePattern<MultiplyAddOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MultiplyAddOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    rewriter.replaceOp(op, inPieces(rewriter, loc, op, 8, 1, [&](int64_t, Value acc, Value u, Value s) -> Value {
                         auto widen = [&](Value bytes, bool isSigned) {
                           return isSigned ? Value(arith::ExtSIOp::create(rewriter, loc, acc.getType(), bytes))
                                           : Value(arith::ExtUIOp::create(rewriter, loc, acc.getType(), bytes));
                         };
                         Value products =
                             arith::MulIOp::create(rewriter, loc, widen(u, op.getMaxCode() <= 127), widen(s, true));
                         return arith::AddIOp::create(rewriter, loc, acc, products);
                       }));
    return success();
  }
};

struct LowerMatrixDot : public OpRewritePattern<MatrixDotOp> {
  LowerMatrixDot(MLIRContext *context, const Target &target) : OpRewritePattern(context), target(target) {}

  LogicalResult matchAndRewrite(MatrixDotOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    VectorType lanes = op.getType();
    if (target.has("i8mm")) {
      const bool fits = op.getSignedCodes() || op.getMaxCode() <= 127;
      StringRef name = fits ? "llvm.aarch64.neon.smmla.v4i32.v16i8" : "llvm.aarch64.neon.usmmla.v4i32.v16i8";
      rewriter.replaceOp(op, call(rewriter, loc, name, lanes, {op.getAcc(), op.getU(), op.getS()}));
      return success();
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
      Value u = vector::ShuffleOp::create(rewriter, loc, op.getU(), op.getU(), rows);
      Value s = vector::ShuffleOp::create(rewriter, loc, op.getS(), op.getS(), tokens);
      sum = DotOp::create(rewriter, loc, lanes, sum, u, s, op.getMaxCode(), op.getSignedCodes());
    }
    rewriter.replaceOp(op, sum);
    return success();
  }

  const Target &target;
};

struct LowerAddPairs : public OpRewritePattern<AddPairsOp> {
  LowerAddPairs(MLIRContext *context, const Target &target) : OpRewritePattern(context), target(target) {}

  LogicalResult matchAndRewrite(AddPairsOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto lanes = cast<VectorType>(op.getAcc().getType());
    int64_t count = lanes.getNumElements(), perLane = op.getPairs().getType().getNumElements() / count;
    int64_t most = target.pairsWidth() / 32;
    Value sums;
    if (perLane == 4) {
      // Neighbours twice: first as 32-bit lanes, then those.
      auto pairs = vec(rewriter, 2 * count, 32), quads = vec(rewriter, count, 64);
      Value zero = splat(rewriter, loc, pairs, 0);
      Value twice = AddPairsOp::create(rewriter, loc, pairs, zero, op.getPairs());
      if (target.has("neon")) {
        sums = splat(rewriter, loc, lanes, 0);
        for (int64_t at = 0; at < count; at += 4)
          sums = vector::InsertStridedSliceOp::create(
              rewriter, loc,
              pairwise(rewriter, loc,
                       {part(rewriter, loc, twice, 2 * at, 4), part(rewriter, loc, twice, 2 * at + 4, 4)}),
              sums, ArrayRef<int64_t>{at}, ArrayRef<int64_t>{1});
      } else {
        Value both = vector::BitCastOp::create(rewriter, loc, quads, twice);
        Value high = arith::ShRUIOp::create(rewriter, loc, both, splat(rewriter, loc, quads, 32));
        sums = arith::TruncIOp::create(rewriter, loc, lanes, arith::AddIOp::create(rewriter, loc, both, high));
      }
    } else if (target.has("neon")) {
      sums = splat(rewriter, loc, lanes, 0);
      for (int64_t at = 0; at < count; at += 4)
        sums = vector::InsertStridedSliceOp::create(
            rewriter, loc, widenNeon(rewriter, loc, part(rewriter, loc, op.getPairs(), 2 * at, 8)), sums,
            ArrayRef<int64_t>{at}, ArrayRef<int64_t>{1});
    } else if (most == 0) {
      Value both = vector::BitCastOp::create(rewriter, loc, lanes, op.getPairs());
      Value half = splat(rewriter, loc, lanes, 16);
      Value low = arith::ShRSIOp::create(rewriter, loc, arith::ShLIOp::create(rewriter, loc, both, half), half);
      sums = arith::AddIOp::create(rewriter, loc, low, arith::ShRSIOp::create(rewriter, loc, both, half));
    } else if (count <= most) {
      sums = widenMadd(rewriter, loc, op.getPairs());
    } else {
      sums = splat(rewriter, loc, lanes, 0);
      for (int64_t at = 0; at < count; at += most)
        sums = vector::InsertStridedSliceOp::create(
            rewriter, loc, widenMadd(rewriter, loc, part(rewriter, loc, op.getPairs(), 2 * at, 2 * most)), sums,
            ArrayRef<int64_t>{at}, ArrayRef<int64_t>{1});
    }
    rewriter.replaceOpWithNewOp<arith::AddIOp>(op, op.getAcc(), sums);
    return success();
  }

  const Target &target;
};

struct LowerLookUp : public OpRewritePattern<LookUpOp> {
  LowerLookUp(MLIRContext *context, bool looksUp) : OpRewritePattern(context), looksUp(looksUp) {}

  LogicalResult matchAndRewrite(LookUpOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    VectorType type = op.getType();
    if (looksUp) {
      rewriter.replaceOp(op, call(rewriter, loc, "llvm.x86.avx512.vpermi2var.hi.512", type,
                                  {op.getLow(), op.getIndices(), op.getHigh()}));
      return success();
    }
    SmallVector<int64_t> all(2 * type.getNumElements());
    std::iota(all.begin(), all.end(), 0);
    Value tables = vector::ShuffleOp::create(rewriter, loc, op.getLow(), op.getHigh(), all);
    Value indices = arith::AndIOp::create(rewriter, loc, op.getIndices(), splat(rewriter, loc, type, 63));
    SmallVector<Value> words;
    for (int64_t lane = 0; lane < type.getNumElements(); ++lane) {
      Value index = vector::ExtractOp::create(rewriter, loc, indices, ArrayRef<int64_t>{lane});
      index = arith::IndexCastUIOp::create(rewriter, loc, rewriter.getIndexType(), index);
      words.push_back(vector::ExtractOp::create(rewriter, loc, tables, ArrayRef<OpFoldResult>{index}));
    }
    rewriter.replaceOpWithNewOp<vector::FromElementsOp>(op, type, words);
    return success();
  }

  bool looksUp;
};

struct LowerTritsBelow : public OpRewritePattern<TritsBelowOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(TritsBelowOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    // What is below the divisor wraps round to something larger.
    Value rest = op.getBytes(), divisor = splat(rewriter, loc, cast<VectorType>(rest.getType()), op.getDivisor());
    for (int i = 0; i < 2; ++i)
      rest = arith::MinUIOp::create(rewriter, loc, rest, arith::SubIOp::create(rewriter, loc, rest, divisor));
    rewriter.replaceOp(op, rest);
    return success();
  }
};

/// bytes / divisor for bytes below three times the divisor.
Value topTrit(OpBuilder &b, Location loc, Value bytes, int64_t divisor) {
  auto type = cast<VectorType>(bytes.getType());
  auto atLeast = [&](int64_t bound) -> Value {
    Value is = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, bytes, splat(b, loc, type, bound));
    return arith::ExtUIOp::create(b, loc, type, is);
  };
  return arith::AddIOp::create(b, loc, atLeast(divisor), atLeast(2 * divisor));
}

struct LowerTopTrit : public OpRewritePattern<TopTritOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(TopTritOp op, PatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, topTrit(rewriter, op.getLoc(), op.getBytes(), op.getDivisor()));
    return success();
  }
};

struct LowerTritsToFields : public OpRewritePattern<TritsToFieldsOp> {
  LowerTritsToFields(MLIRContext *context, bool looksUp) : OpRewritePattern(context), looksUp(looksUp) {}

  LogicalResult matchAndRewrite(TritsToFieldsOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto type = cast<VectorType>(op.getBytes().getType());
    if (looksUp && type.getNumElements() == 64) {
      // vpermi2b: the index's low 7 bits choose of 128 bytes.
      auto table = [&](int first) -> Value {
        SmallVector<int8_t> entries;
        for (int i = first; i < first + 64; ++i) {
          int fields = 0;
          for (int f = 0, rest = i; f < 4; ++f, rest /= 3)
            fields |= rest % 3 << (2 * f);
          entries.push_back(i < 81 ? static_cast<int8_t>(fields) : 0);
        }
        return arith::ConstantOp::create(rewriter, loc, DenseElementsAttr::get(type, ArrayRef<int8_t>(entries)));
      };
      rewriter.replaceOp(
          op, call(rewriter, loc, "llvm.x86.avx512.vpermi2var.qi.512", type, {table(0), op.getBytes(), table(64)}));
      return success();
    }
    Value rest = op.getBytes(), fields = splat(rewriter, loc, type, 0);
    for (int64_t divisor = 27, shift = 6; divisor >= 1; divisor /= 3, shift -= 2) {
      Value trit = divisor > 1 ? topTrit(rewriter, loc, rest, divisor) : rest;
      if (shift)
        trit = arith::ShLIOp::create(rewriter, loc, trit, splat(rewriter, loc, type, shift));
      fields = arith::AddIOp::create(rewriter, loc, fields, trit);
      if (divisor > 1)
        rest = TritsBelowOp::create(rewriter, loc, type, rest, divisor);
    }
    rewriter.replaceOp(op, fields);
    return success();
  }

  bool looksUp;
};

struct LowerUnpack : public OpRewritePattern<UnpackOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(UnpackOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto type = cast<VectorType>(op.getBytes().getType());
    int64_t bits = op.getBits(), field = op.getField();
    Value codes = op.getBytes();
    int64_t mask = op.getCumulative() ? (1 << (bits * (field + 1))) - 1 : (1 << bits) - 1;
    if (!op.getCumulative() && field)
      codes = arith::ShRUIOp::create(rewriter, loc, codes, splat(rewriter, loc, type, bits * field));
    // The top field needs no mask: nothing stands above it.
    if ((field + 1) * bits < 8)
      codes = arith::AndIOp::create(rewriter, loc, codes, splat(rewriter, loc, type, mask));
    rewriter.replaceOp(op, codes);
    return success();
  }
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
    RewritePatternSet patterns(&getContext());
    patterns.add<LowerUnpack, LowerTritsBelow, LowerTopTrit>(&getContext());
    patterns.add<LowerTritsToFields>(&getContext(), target.has("avx512vbmi"));
    patterns.add<LowerLookUp>(&getContext(), target.has("avx512bw"));
    patterns.add<LowerMultiplyAdd>(&getContext());
    patterns.add<LowerDot, LowerDotPairs, LowerMatrixDot, LowerAddPairs>(&getContext(), target);
    if (failed(applyPatternsGreedily(func, std::move(patterns))))
      return signalPassFailure();
    bool left = false;
    func.walk([&](Operation *op) {
      left |= isa<DotOp, DotPairsOp, MultiplyAddOp, MatrixDotOp, AddPairsOp, LookUpOp, UnpackOp, TritsBelowOp,
                  TopTritOp, TritsToFieldsOp>(op);
    });
    if (left)
      signalPassFailure();
  }
};
} // namespace
