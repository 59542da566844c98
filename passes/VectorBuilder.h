//===- VectorBuilder.h - loops and 16-lane vectors, in the stated order ----------*- C++ -*-===//
//
// What the tiling code shares: bounds of a thread's share, loops over chunks of 16 lanes with a masked tail, and the
// float operations of the bitnet dialect's description (sum16, exp), each emitted in exactly that order.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_PASSES_VECTORBUILDER_H
#define SETUN_PASSES_VECTORBUILDER_H

#include "passes/Passes.h"

namespace setun {

constexpr int64_t kLanes = 16;

class VectorBuilder {
public:
  VectorBuilder(mlir::OpBuilder &b, mlir::Location loc) : b(b), loc(loc) {}

  mlir::OpBuilder &b;
  mlir::Location loc;

  // Types and constants.
  mlir::VectorType f32Lanes() { return mlir::VectorType::get({kLanes}, b.getF32Type()); }
  mlir::VectorType i32Lanes() { return mlir::VectorType::get({kLanes}, b.getI32Type()); }
  mlir::Value index(int64_t value) { return mlir::arith::ConstantIndexOp::create(b, loc, value); }
  mlir::Value f32(float value) { return mlir::arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value)); }
  mlir::Value splat(float value);
  mlir::Value splatI32(int32_t value);
  mlir::Value broadcast(mlir::Value scalar);

  // Index arithmetic.
  mlir::Value add(mlir::Value x, mlir::Value y) { return mlir::arith::AddIOp::create(b, loc, x, y); }
  mlir::Value add(mlir::Value x, int64_t y) { return y ? add(x, index(y)) : x; }
  mlir::Value mul(mlir::Value x, int64_t y) { return mlir::arith::MulIOp::create(b, loc, x, index(y)); }
  mlir::Value div(mlir::Value x, int64_t y) { return mlir::arith::DivUIOp::create(b, loc, x, index(y)); }
  mlir::Value rem(mlir::Value x, int64_t y) { return mlir::arith::RemUIOp::create(b, loc, x, index(y)); }
  mlir::Value sub(mlir::Value x, mlir::Value y) { return mlir::arith::SubIOp::create(b, loc, x, y); }
  mlir::Value min(mlir::Value x, mlir::Value y) { return mlir::arith::MinSIOp::create(b, loc, x, y); }
  mlir::Value dim(mlir::Value memref, int64_t i) { return mlir::memref::DimOp::create(b, loc, memref, i); }
  mlir::Value toIndex(mlir::Value i64) { return mlir::arith::IndexCastOp::create(b, loc, b.getIndexType(), i64); }

  // Float arithmetic, lanewise or scalar; no fast-math flags, ever.
  mlir::Value addf(mlir::Value x, mlir::Value y) { return mlir::arith::AddFOp::create(b, loc, x, y); }
  mlir::Value subf(mlir::Value x, mlir::Value y) { return mlir::arith::SubFOp::create(b, loc, x, y); }
  mlir::Value mulf(mlir::Value x, mlir::Value y) { return mlir::arith::MulFOp::create(b, loc, x, y); }
  mlir::Value divf(mlir::Value x, mlir::Value y) { return mlir::arith::DivFOp::create(b, loc, x, y); }
  mlir::Value sqrt(mlir::Value x) { return mlir::math::SqrtOp::create(b, loc, x); }
  /// x > y ? x : y; y if either is NaN.
  mlir::Value maxf(mlir::Value x, mlir::Value y);
  /// x < y ? x : y; y if either is NaN.
  mlir::Value minf(mlir::Value x, mlir::Value y);
  /// Nearest integer, ties to even, for |x| < 2^22, by adding and taking away 1.5 * 2^23.
  mlir::Value roundEven(mlir::Value x);
  /// setun::exactExp on 16 lanes.
  mlir::Value exp(mlir::Value x);
  /// Lanes l with l+8, l+4, l+2, l+1.
  mlir::Value tree(mlir::Value lanes, llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);
  mlir::Value treeSum(mlir::Value lanes);
  mlir::Value treeMax(mlir::Value lanes);

  // Memory. `lanes` < 16 reads and writes that many, the rest of a loaded vector is 0.
  mlir::Value load(mlir::Value memref, mlir::ValueRange indices, int64_t lanes = kLanes);
  void store(mlir::Value vector, mlir::Value memref, mlir::ValueRange indices, int64_t lanes = kLanes);
  /// With a mask that is only known at run time.
  mlir::Value loadMasked(mlir::Value memref, mlir::ValueRange indices, mlir::Value mask);
  void storeMasked(mlir::Value vector, mlir::Value memref, mlir::ValueRange indices, mlir::Value mask);
  /// Asks for the cache line of an element, which need not exist: into the second cache, or with a locality of 3 the
  /// first.
  void prefetch(mlir::Value memref, mlir::ValueRange indices, int64_t locality = 2) {
    mlir::memref::PrefetchOp::create(b, loc, memref, indices, /*isWrite=*/false, locality, /*isDataCache=*/true);
  }
  mlir::Value loadScalar(mlir::Value memref, mlir::ValueRange indices) {
    return mlir::memref::LoadOp::create(b, loc, memref, indices);
  }
  void storeScalar(mlir::Value value, mlir::Value memref, mlir::ValueRange indices) {
    mlir::memref::StoreOp::create(b, loc, value, memref, indices);
  }
  /// vector<16xi1> with the first `count` lanes set; count may be below 0 or above 16.
  mlir::Value prefixMask(mlir::Value count);
  mlir::Value constantMask(int64_t lanes);

  // Control.
  using Body = llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value iv, mlir::ValueRange state)>;
  llvm::SmallVector<mlir::Value> loop(mlir::Value from, mlir::Value to, int64_t step, mlir::ValueRange init, Body body);
  void loop(mlir::Value from, mlir::Value to, int64_t step, llvm::function_ref<void(mlir::Value iv)> body);
  /// Runs `body(k, lanes, state)` for k = 0, 16, 32, ...; the last one with fewer lanes if `size` is no multiple of 16.
  using ChunkBody =
      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value k, int64_t lanes, mlir::ValueRange state)>;
  llvm::SmallVector<mlir::Value> chunks(int64_t size, mlir::ValueRange init, ChunkBody body);
  void chunks(int64_t size, llvm::function_ref<void(mlir::Value k, int64_t lanes)> body);
  void onlyIf(mlir::Value condition, llvm::function_ref<void()> body);
  void choose(mlir::Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise);

  /// This thread's contiguous share [first, second) of `total` items.
  std::pair<mlir::Value, mlir::Value> share(mlir::Value total, mlir::Value thread, mlir::Value threads);
  /// Runs `body` for parts [from, to) of `total` items: this thread's share, and what others have not taken of theirs
  /// once that is done. `taken` as in ternary.matmul; null: the share alone. A state goes from part to part. Most of a
  /// share is its thread's own, for items that take the same time; where `part` is given, none is, and parts are of so
  /// many items.
  using PartBody =
      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value from, mlir::Value to, mlir::ValueRange state)>;
  llvm::SmallVector<mlir::Value> shareTaking(mlir::Value total, mlir::Value thread, mlir::Value threads,
                                             mlir::Value taken, mlir::ValueRange init, PartBody body, int64_t part = 0);
};

/// What of the CPU the shape of loops depends on. Results never do.
struct TileTarget {
  int64_t vectorBits = 128;
  bool convertsF16 = false; ///< f16 vectors to f32 and back
};

/// Per kind of operation: emits the loops at `op`, which the caller erases.
struct TileContext {
  VectorBuilder v;
  mlir::Value thread, threads;
  TileTarget target = {};
};
void tileMatmul(mlir::ternary::MatmulOp op, TileContext &c);
void tileDense(mlir::ternary::DenseOp op, TileContext &c);
void tileEmbedding(mlir::ternary::EmbeddingOp op, TileContext &c);
void tileQuantize(mlir::ternary::QuantizeOp op, TileContext &c);
void tileNorm(mlir::ternary::NormOp op, TileContext &c);
void tileRotary(mlir::ternary::RotaryOp op, TileContext &c);
void tileCacheUpdate(mlir::ternary::CacheUpdateOp op, TileContext &c);
void tileAttention(mlir::ternary::AttentionOp op, TileContext &c);
void tileAttentionFold(mlir::ternary::AttentionFoldOp op, TileContext &c);
void tileBatchAttention(mlir::ternary::BatchAttentionOp op, TileContext &c);
void tileSoftmax(mlir::ternary::SoftmaxOp op, TileContext &c);
/// Erases the operation; reports what its body may not hold.
mlir::LogicalResult tileStructured(mlir::linalg::LinalgOp op, TileContext &c);
void tileGated(mlir::ternary::GatedOp op, TileContext &c);
void tileHadamard(mlir::ternary::HadamardOp op, TileContext &c);
void tileHeadQuantize(mlir::ternary::HeadQuantizeOp op, TileContext &c);
void tileHeadScan(mlir::ternary::HeadScanOp op, TileContext &c);
void tileHeadCandidates(mlir::ternary::HeadCandidatesOp op, TileContext &c);
void tileHeadRescore(mlir::ternary::HeadRescoreOp op, TileContext &c);
void tileHeadSelect(mlir::ternary::HeadSelectOp op, TileContext &c);
/// act(gate) * up on 16 lanes.
mlir::Value gate(VectorBuilder &v, mlir::ternary::Epilogue act, mlir::Value gate, mlir::Value up);
/// 16 lanes of a full-precision matrix as f32, whatever it is stored in; see VectorBuilder::load.
mlir::Value loadAsF32(VectorBuilder &v, mlir::Value memref, mlir::ValueRange indices, int64_t lanes = kLanes);
/// sum16 of the products of `tokens` rows of x from `token` on with `rows` rows of w from `row` on: [token][row], as
/// bitnet.dense has them.
/// Asks for as many rows from `ahead` on, if there is one.
llvm::SmallVector<mlir::Value> dotRows(VectorBuilder &v, mlir::Value x, mlir::Value token, int64_t tokens,
                                       mlir::Value w, mlir::Value row, int64_t rows, mlir::Value ahead = mlir::Value());
/// 16-bit patterns of a finite f16 or bf16, already in i32 lanes, as the f32 of the same value.
mlir::Value widenBits(VectorBuilder &v, mlir::Value bits, mlir::Type stored);
/// vector<16xf16> of finite numbers as f32, and what a cache of f16 takes for 16 lanes of f32 (bitnet.cache_update).
mlir::Value widenF16(TileContext &c, mlir::Value half);
mlir::Value narrowF16(TileContext &c, mlir::Value x);

} // namespace setun

#endif // SETUN_PASSES_VECTORBUILDER_H
