//===- TernaryLowerTiles.cpp - dots by tiles into functions of tile instructions -===//
//
// LLVM configures tiles once in a function, from shapes that it finds to be the same values, and gives each register
// one shape. So the tiles live in functions of their own, one for each number of tiles, whose arguments are the shapes:
//
//   rows     tokens of a tile; a second tile has as many, and overlaps the first where there are fewer tokens: both
//            hold the same sums before and after
//   cols     bytes of codes in a row, 4 for each step; depth: steps, rows of a tile of weights
//
// Two tiles of tokens by two of fields are four of sums, and with their operands all eight registers.
//
//===----------------------------------------------------------------------===//
#include "passes/VectorBuilder.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYLOWERTILES
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;
using setun::VectorBuilder;

namespace {
constexpr int64_t kTileBytes = 1024, kTileRows = 16, kRowBytes = 64;

/// Instructions on tiles. A tile is a value that is used once; `slot` numbers the tiles of a function.
class Tiles {
public:
  virtual ~Tiles() = default;
  virtual Type type() = 0;
  /// A tile of `rows` rows of `cols` bytes (both i16), `stride` bytes apart.
  virtual Value load(int64_t slot, Value rows, Value cols, Value address, Value stride) = 0;
  virtual void store(Value tile, Value rows, Value cols, Value address, Value stride) = 0;
  /// sums[m][r] += a[m][4k + j] * w[k][4r + j], a signed and w unsigned.
  virtual Value dot(Value sums, Value a, Value w, Value rows, Value cols) = 0;
};

class TileInstructions : public Tiles {
public:
  explicit TileInstructions(VectorBuilder &v) : v(v) {}

  Type type() override { return LLVM::LLVMX86AMXType::get(v.b.getContext()); }
  Value load(int64_t, Value rows, Value cols, Value address, Value stride) override {
    return call("llvm.x86.tileloadd64.internal", type(), {rows, cols, address, bytes(stride)}).getResults();
  }
  void store(Value tile, Value rows, Value cols, Value address, Value stride) override {
    LLVM::CallIntrinsicOp::create(v.b, v.loc, v.b.getStringAttr("llvm.x86.tilestored64.internal"),
                                  ValueRange{rows, cols, address, bytes(stride), tile});
  }
  Value dot(Value sums, Value a, Value w, Value rows, Value cols) override {
    Value lanes = arith::ConstantIntOp::create(v.b, v.loc, kRowBytes, 16);
    return call("llvm.x86.tdpbsud.internal", type(), {rows, lanes, cols, sums, a, w}).getResults();
  }

private:
  LLVM::CallIntrinsicOp call(StringRef name, Type result, ValueRange arguments) {
    return LLVM::CallIntrinsicOp::create(v.b, v.loc, result, v.b.getStringAttr(name), arguments);
  }
  Value bytes(Value stride) { return arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), stride); }

  VectorBuilder &v;
};

/// The same in plain arithmetic: a tile is the address of a buffer on the stack.
class EmulatedTiles : public Tiles {
public:
  explicit EmulatedTiles(VectorBuilder &v) : v(v) {
    Value size = LLVM::ConstantOp::create(v.b, v.loc, v.b.getI64Type(), v.b.getI64IntegerAttr(kTileBytes));
    for (Value &buffer : buffers)
      buffer = LLVM::AllocaOp::create(v.b, v.loc, type(), v.b.getI8Type(), size, /*alignment=*/64);
  }

  Type type() override { return LLVM::LLVMPointerType::get(v.b.getContext()); }
  Value load(int64_t slot, Value rows, Value cols, Value address, Value stride) override {
    copy(rows, cols, address, stride, buffers[slot], v.index(kRowBytes));
    return buffers[slot];
  }
  void store(Value tile, Value rows, Value cols, Value address, Value stride) override {
    copy(rows, cols, tile, v.index(kRowBytes), address, stride);
  }
  Value dot(Value sums, Value a, Value w, Value rows, Value cols) override {
    auto bytes = VectorType::get({kRowBytes}, v.b.getI8Type());
    v.loop(v.index(0), index(rows), 1, [&](Value m) {
      Value place = at(sums, v.mul(m, kRowBytes)), codes = at(a, v.mul(m, kRowBytes));
      Value before = LLVM::LoadOp::create(v.b, v.loc, v.i32Lanes(), place, /*alignment=*/64);
      Value after = v.loop(v.index(0), v.div(index(cols), 4), 1, before, [&](Value k, ValueRange state) {
        Value four = LLVM::LoadOp::create(v.b, v.loc, v.b.getI32Type(), at(codes, v.mul(k, 4)), /*alignment=*/4);
        Value x = vector::BitCastOp::create(v.b, v.loc, bytes, v.broadcast(four));
        Value u = LLVM::LoadOp::create(v.b, v.loc, bytes, at(w, v.mul(k, kRowBytes)), /*alignment=*/64);
        return SmallVector<Value>{DotOp::create(v.b, v.loc, v.i32Lanes(), state[0], u, x, /*max_code=*/255)};
      })[0];
      LLVM::StoreOp::create(v.b, v.loc, after, place, /*alignment=*/64);
    });
    return sums;
  }

private:
  Value index(Value i16) { return arith::IndexCastUIOp::create(v.b, v.loc, v.b.getIndexType(), i16); }
  Value at(Value address, Value offset) {
    Value bytes = arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), offset);
    return LLVM::GEPOp::create(v.b, v.loc, type(), v.b.getI8Type(), address, ArrayRef<LLVM::GEPArg>{bytes});
  }
  void copy(Value rows, Value cols, Value from, Value fromStride, Value to, Value toStride) {
    v.loop(v.index(0), index(rows), 1, [&](Value m) {
      Value source = at(from, arith::MulIOp::create(v.b, v.loc, m, fromStride));
      Value target = at(to, arith::MulIOp::create(v.b, v.loc, m, toStride));
      v.loop(v.index(0), index(cols), 4, [&](Value k) {
        Value word = LLVM::LoadOp::create(v.b, v.loc, v.b.getI32Type(), at(source, k), /*alignment=*/1);
        LLVM::StoreOp::create(v.b, v.loc, word, at(target, k), /*alignment=*/1);
      });
    });
  }

  VectorBuilder &v;
  Value buffers[8];
};

struct TernaryLowerTiles : public setun::impl::TernaryLowerTilesBase<TernaryLowerTiles> {
  using TernaryLowerTilesBase::TernaryLowerTilesBase;

  void runOnOperation() override {
    SmallVector<DotTilesOp> ops;
    getOperation().walk([&](DotTilesOp op) { ops.push_back(op); });
    for (DotTilesOp op : ops)
      lower(op);
  }

  void lower(DotTilesOp op);
  /// The function for that many tiles of tokens and of fields.
  func::FuncOp function(int64_t tokenTiles, int64_t fieldTiles, Attribute row);
  void fill(VectorBuilder &v, Block::BlockArgListType arguments, int64_t tokenTiles, int64_t fieldTiles);

  func::FuncOp functions[2][2];
};

Value offsetBy(VectorBuilder &v, Value address, Value bytes) {
  Value offset = arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), bytes);
  return LLVM::GEPOp::create(v.b, v.loc, address.getType(), v.b.getI8Type(), address, ArrayRef<LLVM::GEPArg>{offset});
}

func::FuncOp TernaryLowerTiles::function(int64_t tokenTiles, int64_t fieldTiles, Attribute row) {
  func::FuncOp &func = functions[tokenTiles - 1][fieldTiles - 1];
  if (func)
    return func;
  MLIRContext *context = &getContext();
  OpBuilder b = OpBuilder::atBlockEnd(getOperation().getBody());
  Type index = b.getIndexType(), shape = b.getIntegerType(16), pointer = LLVM::LLVMPointerType::get(context);
  std::string name = "dot_tiles_" + std::to_string(tokenTiles) + "x" + std::to_string(fieldTiles);
  func = func::FuncOp::create(
      b, UnknownLoc::get(context), name,
      b.getFunctionType({shape, shape, shape, pointer, index, index, pointer, index, index, index, pointer, index},
                        {}));
  func.setPrivate();
  // What is known of callers would make constants of some shapes, and several loops of one: then there are more shapes
  // than registers. CodeGenerator.h names the last attribute.
  func->setAttr("passthrough", b.getStrArrayAttr({"noinline", "optsize", "setun-opaque"}));
  if (row)
    func->setAttr(setun::kKernelRowAttr, row);
  Block *block = func.addEntryBlock();
  b.setInsertionPointToStart(block);
  VectorBuilder v(b, func.getLoc());
  fill(v, block->getArguments(), tokenTiles, fieldTiles);
  func::ReturnOp::create(b, func.getLoc());
  return func;
}

void TernaryLowerTiles::fill(VectorBuilder &v, Block::BlockArgListType arguments, int64_t tokenTiles,
                             int64_t fieldTiles) {
  Value rows = arguments[0], cols = arguments[1], depth = arguments[2];
  Value x = arguments[3], pitch = arguments[4], second = arguments[5];
  Value u = arguments[6], fieldBytes = arguments[7], fields = arguments[8], blocks = arguments[9];
  Value sums = arguments[10], tokenBytes = arguments[11];
  auto mul = [&](Value a, Value b) -> Value { return arith::MulIOp::create(v.b, v.loc, a, b); };
  std::unique_ptr<Tiles> tiles;
  if (llvm::is_contained(emulate, "amx-int8"))
    tiles = std::make_unique<EmulatedTiles>(v);
  else
    tiles = std::make_unique<TileInstructions>(v);

  Value blockCodes = arith::IndexCastUIOp::create(v.b, v.loc, v.b.getIndexType(), cols);
  Value blockBytes = v.mul(blockCodes, kRowBytes / 4), lanes = v.index(kRowBytes);
  Value lanesShape = arith::ConstantIntOp::create(v.b, v.loc, kRowBytes, 16);
  v.loop(v.index(0), fields, fieldTiles, [&](Value field) {
    SmallVector<Value> places, init;
    for (int64_t t = 0; t < tokenTiles; ++t)
      for (int64_t f = 0; f < fieldTiles; ++f) {
        Value place = offsetBy(v, sums, v.mul(v.add(field, f), kRowBytes));
        places.push_back(t ? offsetBy(v, place, mul(second, tokenBytes)) : place);
      }
    for (auto [slot, place] : llvm::enumerate(places))
      init.push_back(tiles->load(slot, rows, lanesShape, place, tokenBytes));
    SmallVector<Value> result = v.loop(v.index(0), blocks, 1, init, [&](Value block, ValueRange state) {
      SmallVector<Value> a, w, next(state.begin(), state.end());
      for (int64_t t = 0; t < tokenTiles; ++t) {
        Value codes = offsetBy(v, x, mul(block, blockCodes));
        a.push_back(tiles->load(4 + t, rows, cols, t ? offsetBy(v, codes, mul(second, pitch)) : codes, pitch));
      }
      for (int64_t f = 0; f < fieldTiles; ++f) {
        Value bytes = offsetBy(
            v, u, v.b.createOrFold<arith::AddIOp>(v.loc, mul(v.add(field, f), fieldBytes), mul(block, blockBytes)));
        w.push_back(tiles->load(6 + f, depth, lanesShape, bytes, lanes));
      }
      for (int64_t f = 0; f < fieldTiles; ++f)
        for (int64_t t = 0; t < tokenTiles; ++t) {
          Value &sum = next[t * fieldTiles + f];
          sum = tiles->dot(sum, a[t], w[f], rows, cols);
        }
      return next;
    });
    for (auto [tile, place] : llvm::zip(result, places))
      tiles->store(tile, rows, lanesShape, place, tokenBytes);
  });
}

void TernaryLowerTiles::lower(DotTilesOp op) {
  OpBuilder b(op);
  VectorBuilder v(b, op.getLoc());
  Attribute row = op->getParentOfType<func::FuncOp>()->getAttr(setun::kKernelRowAttr);
  auto addressOf = [&](Value memref, ValueRange at) {
    auto data = memref::ExtractStridedMetadataOp::create(b, v.loc, memref);
    Value elements = data.getOffset();
    for (auto [index, stride] : llvm::zip(at, data.getStrides()))
      elements = v.add(elements, arith::MulIOp::create(b, v.loc, index, stride));
    int64_t bytes = cast<MemRefType>(memref.getType()).getElementTypeBitWidth() / 8;
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(b, v.loc, memref);
    Value address = v.add(base, v.mul(elements, bytes));
    Value word = arith::IndexCastOp::create(b, v.loc, b.getI64Type(), address);
    return LLVM::IntToPtrOp::create(b, v.loc, LLVM::LLVMPointerType::get(&getContext()), word).getResult();
  };
  auto shape = [&](Value index) {
    return arith::IndexCastOp::create(b, v.loc, b.getIntegerType(16), index).getResult();
  };
  MemRefType operands = op.getU().getType(), sums = op.getSums().getType();
  int64_t fields = operands.getDimSize(0), fieldBytes = operands.getDimSize(1) * kRowBytes;
  Value tokenBytes = v.index(sums.getDimSize(1) * fields * kRowBytes);
  Value pitch = memref::ExtractStridedMetadataOp::create(b, v.loc, op.getX()).getStrides()[0];
  Value zero = v.index(0);
  Value x = addressOf(op.getX(), {op.getToken(), op.getColumn()}), u = addressOf(op.getU(), {zero, op.getStep()});
  Value place = addressOf(op.getSums(), {op.getRow(), op.getPanel()});
  Value cols = shape(v.mul(op.getWidth(), 4)), depth = shape(op.getWidth());
  auto call = [&](int64_t tokenTiles, Value tokens, Value second) {
    Value rows = shape(tokens);
    auto some = [&](int64_t from, int64_t count, int64_t fieldTiles) {
      if (count)
        func::CallOp::create(b, v.loc, function(tokenTiles, fieldTiles, row),
                             ValueRange{rows, cols, depth, x, pitch, second, offsetBy(v, u, v.index(from * fieldBytes)),
                                        v.index(fieldBytes), v.index(count), op.getBlocks(),
                                        offsetBy(v, place, v.index(from * kRowBytes)), tokenBytes});
    };
    some(0, fields / 2 * 2, 2);
    some(fields / 2 * 2, fields % 2, 1);
  };
  Value two = arith::CmpIOp::create(b, v.loc, arith::CmpIPredicate::sgt, op.getTokens(), v.index(kTileRows));
  v.choose(
      two, [&] { call(2, v.index(kTileRows), v.sub(op.getTokens(), v.index(kTileRows))); },
      [&] { call(1, op.getTokens(), zero); });
  op.erase();
}
} // namespace
