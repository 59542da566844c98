//===- TernaryLowerVectors.cpp - unpack and dot into target instructions ---------===//
//
// One lowering of ternary.dot and ternary.dot_pairs for each row of lib/Target/Kernels.def. All are exact: u is at most
// max_code, s is any int8, and 16-bit partial sums are used only where their bound is proved from max_code.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
#include "passes/Passes.h"

#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

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

/// vpdpbusd: four products a lane, added to i32 without saturation.
Value dotVnni(OpBuilder &b, Location loc, DotOp op) {
  return call(b, loc, "llvm.x86.avx512.vpdpbusd.512", vec(b, 16, 32), {op.getAcc(), op.getU(), op.getS()});
}

/// vpmaddubsw, then vpmaddwd with ones, on `bits`-wide vectors. Pairs are at most 2 * max_code * 128.
Value dotMadd(OpBuilder &b, Location loc, DotOp op, unsigned width) {
  int64_t bytes = width / 8;
  StringRef maddubs = width == 512 ? "llvm.x86.avx512.pmaddubs.w.512" : "llvm.x86.avx2.pmadd.ub.sw";
  StringRef maddwd = width == 512 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd";
  Value ones = splat(b, loc, vec(b, bytes / 2, 16), 1);
  Value result = op.getAcc();
  for (int64_t at = 0; at < 64; at += bytes) {
    Value u = bytes == 64 ? op.getU() : part(b, loc, op.getU(), at, bytes);
    Value s = bytes == 64 ? op.getS() : part(b, loc, op.getS(), at, bytes);
    Value pairs = call(b, loc, maddubs, vec(b, bytes / 2, 16), {u, s});
    Value sums = call(b, loc, maddwd, vec(b, bytes / 4, 32), {pairs, ones});
    Value old = bytes == 64 ? op.getAcc() : part(b, loc, op.getAcc(), at / 4, bytes / 4);
    Value sum = arith::AddIOp::create(b, loc, old, sums);
    result = bytes == 64 ? sum
                         : Value(vector::InsertStridedSliceOp::create(b, loc, sum, result, ArrayRef<int64_t>{at / 4},
                                                                      ArrayRef<int64_t>{1}));
  }
  return result;
}

/// Plain vector arithmetic: even and odd bytes as 16-bit lanes, two products a lane, then the two halves of 32 bits.
Value dotGeneric(OpBuilder &b, Location loc, DotOp op) {
  VectorType words = vec(b, 32, 16), lanes = vec(b, 16, 32);
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

struct LowerDot : public OpRewritePattern<DotOp> {
  LowerDot(MLIRContext *context, StringRef row) : OpRewritePattern(context), row(row) {}

  LogicalResult matchAndRewrite(DotOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    if (row == "avx512vnni") {
      rewriter.replaceOp(op, dotVnni(rewriter, loc, op));
      return success();
    }
    if (2 * static_cast<int64_t>(op.getMaxCode()) * 128 > 32767)
      return op.emitOpError() << "expects a max_code of at most 127 on kernel row " << row
                              << ", whose partial sums have 16 bits, got " << op.getMaxCode();
    if (row == "avx512bw")
      rewriter.replaceOp(op, dotMadd(rewriter, loc, op, 512));
    else if (row == "avx2")
      rewriter.replaceOp(op, dotMadd(rewriter, loc, op, 256));
    else
      rewriter.replaceOp(op, dotGeneric(rewriter, loc, op));
    return success();
  }

  StringRef row;
};

/// vpmaddubsw and an addition, on vectors of at most `width` bits. The op's verifier bounds the sums.
Value pairsMadd(OpBuilder &b, Location loc, DotPairsOp op, unsigned width) {
  int64_t total = cast<VectorType>(op.getU().getType()).getNumElements();
  int64_t bytes = std::min<int64_t>(total, width / 8);
  StringRef maddubs = bytes == 64   ? "llvm.x86.avx512.pmaddubs.w.512"
                      : bytes == 32 ? "llvm.x86.avx2.pmadd.ub.sw"
                                    : "llvm.x86.ssse3.pmadd.ub.sw.128";
  if (bytes == total)
    return arith::AddIOp::create(b, loc, op.getAcc(),
                                 call(b, loc, maddubs, vec(b, bytes / 2, 16), {op.getU(), op.getS()}));
  Value result = op.getAcc();
  for (int64_t at = 0; at < total; at += bytes) {
    Value pairs = call(b, loc, maddubs, vec(b, bytes / 2, 16),
                       {part(b, loc, op.getU(), at, bytes), part(b, loc, op.getS(), at, bytes)});
    Value sum = arith::AddIOp::create(b, loc, part(b, loc, op.getAcc(), at / 2, bytes / 2), pairs);
    result = vector::InsertStridedSliceOp::create(b, loc, sum, result, ArrayRef<int64_t>{at / 2}, ArrayRef<int64_t>{1});
  }
  return result;
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
  LowerDotPairs(MLIRContext *context, StringRef row) : OpRewritePattern(context), row(row) {}

  LogicalResult matchAndRewrite(DotPairsOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    if (row == "avx512vnni" || row == "avx512bw")
      rewriter.replaceOp(op, pairsMadd(rewriter, loc, op, 512));
    else if (row == "avx2")
      rewriter.replaceOp(op, pairsMadd(rewriter, loc, op, 256));
    else
      rewriter.replaceOp(op, pairsGeneric(rewriter, loc, op));
    return success();
  }

  StringRef row;
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
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto name = func->getAttrOfType<StringAttr>(setun::kKernelRowAttr);
    StringRef row = name ? name.getValue() : "generic";
    if (!setun::findKernelRow(row)) {
      func.emitError() << "expects a row of the kernel table, got " << row;
      return signalPassFailure();
    }
    RewritePatternSet patterns(&getContext());
    patterns.add<LowerUnpack>(&getContext());
    patterns.add<LowerDot, LowerDotPairs>(&getContext(), row);
    if (failed(applyPatternsGreedily(func, std::move(patterns))))
      return signalPassFailure();
    bool left = false;
    func.walk([&](Operation *op) { left |= isa<DotOp, DotPairsOp, UnpackOp>(op); });
    if (left)
      signalPassFailure();
  }
};
} // namespace
