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
// Outer products (SME) have no shapes to configure, but a vector length that the code learns when it runs, from 128 to
// 2,048 bits, and 32-bit tiles of as many rows and columns as a vector has words. A function in streaming mode does all
// of an operation: it turns words of codes around, in a tile, so that those of a step lie side by side, and multiplies
// them by the operands on stage, two vectors of tokens by two of weights. Masks stand for what is not there. The
// operands are those of NEON's dots. `luti2` would not give them: it expands a byte into four neighbours, and the
// fields of a byte are of four rows of weights, where an outer product takes four columns of one.
//
//===----------------------------------------------------------------------===//
#include "lib/Target/Kernels.h"
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
  /// sums[m][r] += a[m][4k + j] * w[k][4r + j], a signed and w unsigned, or signed as well.
  virtual Value dot(Value sums, Value a, Value w, Value rows, Value cols) = 0;
};

class TileInstructions : public Tiles {
public:
  TileInstructions(VectorBuilder &v, bool isSigned) : v(v), isSigned(isSigned) {}

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
    StringRef name = isSigned ? "llvm.x86.tdpbssd.internal" : "llvm.x86.tdpbsud.internal";
    return call(name, type(), {rows, lanes, cols, sums, a, w}).getResults();
  }

private:
  LLVM::CallIntrinsicOp call(StringRef name, Type result, ValueRange arguments) {
    return LLVM::CallIntrinsicOp::create(v.b, v.loc, result, v.b.getStringAttr(name), arguments);
  }
  Value bytes(Value stride) { return arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), stride); }

  VectorBuilder &v;
  bool isSigned;
};

/// The same in plain arithmetic: a tile is the address of a buffer on the stack.
class EmulatedTiles : public Tiles {
public:
  EmulatedTiles(VectorBuilder &v, bool isSigned) : v(v), isSigned(isSigned) {
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
        return SmallVector<Value>{
            DotOp::create(v.b, v.loc, v.i32Lanes(), state[0], u, x, isSigned ? 128 : 255, isSigned)};
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
  bool isSigned;
  Value buffers[8];
};

Value offsetBy(VectorBuilder &v, Value address, Value bytes) {
  Value offset = arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), bytes);
  return LLVM::GEPOp::create(v.b, v.loc, address.getType(), v.b.getI8Type(), address, ArrayRef<LLVM::GEPArg>{offset});
}

/// An operation by SME's outer products; see the top of the file.
class OuterProducts {
public:
  /// What a function takes: tokens (up to kTokens) and steps; codes of the first token and bytes from one token to the
  /// next; operands, bytes from one field to the next, and fields; sums, and bytes from one token to the next.
  struct Arguments {
    Value tokens, steps, x, pitch, u, fieldBytes, fields, sums, tokenBytes;
  };
  OuterProducts(VectorBuilder &v, bool isSigned, const Arguments &in) : v(v), isSigned(isSigned), in(in) {}
  void emit();

private:
  /// Tokens of a call; steps whose codes are turned around at a time, into a row of kTokens words each.
  static constexpr int64_t kTokens = 32, kSteps = 128, kCodesBytes = 4 * kTokens;

  /// Words of a vector, from `start` on: how many there are, masks of them as words and as bytes, and their first
  /// byte in memory.
  struct Part {
    Value start, words, wordMask, byteMask, address;
  };

  void emit(Value first, Value steps, Value codes);
  void turnCodes(Value first, Value steps, Value codes);
  void multiply(ArrayRef<Part> tokens, ArrayRef<Part> columns, ArrayRef<Value> sums, Value steps);
  void saveCallersTiles();
  /// Runs `body` for the slices of the tile of each pair of parts that hold tokens.
  void forSlices(ArrayRef<Part> tokens, ArrayRef<Part> columns, ArrayRef<Value> sums, StringRef instruction);
  Part part(Value start, Value words, Value address) {
    return {start, words, mask(words, 4), mask(v.mul(words, 4), 16), address};
  }

  VectorType vec(int64_t lanes, unsigned bits) {
    return VectorType::get({lanes}, v.b.getIntegerType(bits), /*scalableDims=*/{true});
  }
  Value call(StringRef name, Type result, ValueRange arguments) {
    return LLVM::CallIntrinsicOp::create(v.b, v.loc, result, v.b.getStringAttr(name), arguments).getResults();
  }
  void call(StringRef name, ValueRange arguments) {
    LLVM::CallIntrinsicOp::create(v.b, v.loc, v.b.getStringAttr(name), arguments);
  }
  Value i64(Value index) { return arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), index); }
  Value i32(Value index) { return arith::IndexCastOp::create(v.b, v.loc, v.b.getI32Type(), index); }
  Value i32(int64_t value) { return arith::ConstantIntOp::create(v.b, v.loc, value, 32); }
  Value mul(Value x, Value y) { return arith::MulIOp::create(v.b, v.loc, x, y); }
  Value ceilDiv(Value x, Value y) { return arith::DivUIOp::create(v.b, v.loc, v.sub(v.add(x, y), v.index(1)), y); }
  Value mask(Value count, int64_t lanes) {
    Value zero = arith::ConstantIntOp::create(v.b, v.loc, 0, 64);
    return call(lanes == 4 ? "llvm.aarch64.sve.whilelo.nxv4i1.i64" : "llvm.aarch64.sve.whilelo.nxv16i1.i64",
                vec(lanes, 1), {zero, i64(count)});
  }
  /// Of `total` items, how many a vector holds that starts at `start`; 0 past the end.
  Value wordsFrom(Value start, Value total) {
    return v.min(words, arith::MaxSIOp::create(v.b, v.loc, v.sub(total, start), v.index(0)));
  }

  VectorBuilder &v;
  bool isSigned;
  Arguments in;
  Value words; // of a vector
};

void OuterProducts::emit() {
  Value codes = LLVM::AllocaOp::create(v.b, v.loc, in.x.getType(), v.b.getI8Type(),
                                       arith::ConstantIntOp::create(v.b, v.loc, kSteps * kCodesBytes, 64),
                                       /*alignment=*/64);
  words = v.mul(v.toIndex(call("llvm.aarch64.sme.cntsd", v.b.getI64Type(), {})), 2);
  saveCallersTiles();
  call("llvm.aarch64.sme.za.enable", {});
  v.loop(v.index(0), in.steps, kSteps, [&](Value first) {
    Value steps = v.min(v.sub(in.steps, first), v.index(kSteps));
    turnCodes(first, steps, codes);
    emit(first, steps, codes);
  });
  call("llvm.aarch64.sme.za.disable", {});
}

/// Tiles belong to the caller of our code, which may have left them to be saved by whoever needs them: the procedure
/// call standard's lazy saving. The library function for it is not at hand here.
void OuterProducts::saveCallersTiles() {
  Type word = v.b.getI64Type(), pointer = in.x.getType();
  Value zero = arith::ConstantIntOp::create(v.b, v.loc, 0, 64);
  Value block = call("llvm.aarch64.sme.get.tpidr2", word, {});
  v.onlyIf(arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::ne, block, zero), [&] {
    // The block: address of a buffer, slices that it has room for (16 bits).
    Value address = LLVM::IntToPtrOp::create(v.b, v.loc, pointer, block);
    Value buffer = LLVM::LoadOp::create(v.b, v.loc, pointer, address, /*alignment=*/8);
    Value count = LLVM::LoadOp::create(v.b, v.loc, v.b.getIntegerType(16), offsetBy(v, address, v.index(8)),
                                       /*alignment=*/2);
    count = arith::IndexCastUIOp::create(v.b, v.loc, v.b.getIndexType(), count);
    v.loop(v.index(0), count, 1, [&](Value slice) {
      call("llvm.aarch64.sme.str", {i32(slice), offsetBy(v, buffer, mul(slice, v.mul(words, 4))), i32(int64_t(0))});
    });
    call("llvm.aarch64.sme.set.tpidr2", {zero});
  });
}

/// codes[step][token] of words, from `first` on: rows of the first tile are written, columns read.
void OuterProducts::turnCodes(Value first, Value steps, Value codes) {
  Value tile = i32(int64_t(0));
  v.loop(v.index(0), ceilDiv(in.tokens, words), 1, [&](Value index) {
    Value token = mul(index, words), tokens = wordsFrom(token, in.tokens), tokenMask = mask(tokens, 4);
    v.loop(v.index(0), ceilDiv(steps, words), 1, [&](Value piece) {
      Value step = mul(piece, words), count = wordsFrom(step, steps), stepMask = mask(count, 4);
      v.loop(v.index(0), tokens, 1, [&](Value i) {
        Value at = v.add(mul(v.add(token, i), in.pitch), v.mul(v.add(first, step), 4));
        call("llvm.aarch64.sme.ld1w.horiz", {stepMask, offsetBy(v, in.x, at), tile, i32(i)});
      });
      v.loop(v.index(0), count, 1, [&](Value i) {
        Value at = v.add(v.mul(v.add(step, i), kCodesBytes), v.mul(token, 4));
        call("llvm.aarch64.sme.st1w.vert", {tokenMask, offsetBy(v, codes, at), tile, i32(i)});
      });
    });
  });
}

void OuterProducts::emit(Value first, Value steps, Value codes) {
  // The 16 rows of weights of a field take several vectors, or less than one.
  Value parts = ceilDiv(v.index(16), words), columns = mul(in.fields, parts);
  v.loop(v.index(0), ceilDiv(in.tokens, words), 2, [&](Value index) {
    SmallVector<Part> some;
    for (int64_t i = 0; i < 2; ++i) {
      Value token = mul(v.add(index, i), words);
      some.push_back(part(token, wordsFrom(token, in.tokens), offsetBy(v, codes, v.mul(token, 4))));
    }
    v.loop(v.index(0), columns, 2, [&](Value column) {
      SmallVector<Part> weights;
      SmallVector<Value> sums;
      for (int64_t i = 0; i < 2; ++i) {
        Value at = v.add(column, i);
        Value field = arith::DivUIOp::create(v.b, v.loc, at, parts);
        Value row = mul(arith::RemUIOp::create(v.b, v.loc, at, parts), words);
        Value exists = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::ult, at, columns);
        Value count = arith::SelectOp::create(v.b, v.loc, exists, v.min(words, v.index(kTileRows)), v.index(0));
        Value bytes = v.add(mul(field, in.fieldBytes), v.add(v.mul(row, 4), v.mul(first, kRowBytes)));
        weights.push_back(part(row, count, offsetBy(v, in.u, bytes)));
        sums.push_back(offsetBy(v, in.sums, v.add(v.mul(field, kRowBytes), v.mul(row, 4))));
      }
      forSlices(some, weights, sums, "llvm.aarch64.sme.ld1w.horiz");
      v.loop(v.index(0), steps, 1, [&](Value step) {
        auto load = [&](const Part &part, int64_t stride) {
          return call("llvm.aarch64.sve.ld1.nxv16i8", vec(16, 8),
                      {part.byteMask, offsetBy(v, part.address, v.mul(step, stride))});
        };
        Value a[] = {load(some[0], kCodesBytes), load(some[1], kCodesBytes)};
        Value w[] = {load(weights[0], kRowBytes), load(weights[1], kRowBytes)};
        StringRef name = isSigned ? "llvm.aarch64.sme.smopa.wide.nxv16i8" : "llvm.aarch64.sme.sumopa.wide.nxv16i8";
        for (int64_t tile = 0; tile < 4; ++tile)
          call(name, {i32(tile), some[tile / 2].byteMask, weights[tile % 2].byteMask, a[tile / 2], w[tile % 2]});
      });
      forSlices(some, weights, sums, "llvm.aarch64.sme.st1w.horiz");
    });
  });
}

void OuterProducts::forSlices(ArrayRef<Part> tokens, ArrayRef<Part> columns, ArrayRef<Value> sums,
                              StringRef instruction) {
  for (int64_t tile = 0; tile < 4; ++tile) {
    const Part &part = tokens[tile / 2];
    v.loop(v.index(0), part.words, 1, [&](Value i) {
      Value place = offsetBy(v, sums[tile % 2], mul(v.add(part.start, i), in.tokenBytes));
      call(instruction, {columns[tile % 2].wordMask, place, i32(tile), i32(i)});
    });
  }
}

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
  func::FuncOp function(int64_t tokenTiles, int64_t fieldTiles, bool isSigned, StringAttr row);
  void fill(VectorBuilder &v, Block::BlockArgListType arguments, int64_t tokenTiles, int64_t fieldTiles, bool isSigned);
  /// The function of outer products.
  func::FuncOp outerProducts(bool isSigned, StringAttr row);
  /// An empty private function; `b` is left in its body.
  func::FuncOp create(OpBuilder &b, const Twine &name, bool isSigned, TypeRange inputs, ArrayRef<StringRef> attributes,
                      StringAttr row);
  /// Plain arithmetic takes the place of the row's instructions on tiles.
  bool emulates() const { return llvm::is_contained(emulate, "amx-int8") || llvm::is_contained(emulate, "sme"); }

  func::FuncOp functions[2][2][2], outer[2];
};

func::FuncOp TernaryLowerTiles::create(OpBuilder &b, const Twine &name, bool isSigned, TypeRange inputs,
                                       ArrayRef<StringRef> attributes, StringAttr row) {
  b.setInsertionPointToEnd(getOperation().getBody());
  auto func = func::FuncOp::create(b, UnknownLoc::get(&getContext()), (name + (isSigned ? "_signed" : "")).str(),
                                   b.getFunctionType(inputs, {}));
  func.setPrivate();
  func->setAttr("passthrough", b.getStrArrayAttr(attributes));
  if (row)
    func->setAttr(setun::kKernelRowAttr, row);
  b.setInsertionPointToStart(func.addEntryBlock());
  return func;
}

func::FuncOp TernaryLowerTiles::outerProducts(bool isSigned, StringAttr row) {
  func::FuncOp &func = outer[isSigned];
  if (func)
    return func;
  OpBuilder b(&getContext());
  Type index = b.getIndexType(), pointer = LLVM::LLVMPointerType::get(&getContext());
  // The caller enters and leaves streaming mode, so that nothing here is computed before.
  func = create(b, "outer_products", isSigned, {index, index, pointer, index, pointer, index, index, pointer, index},
                {"noinline", "aarch64_pstate_sm_enabled"}, row);
  auto in = func.getArguments();
  VectorBuilder v(b, func.getLoc());
  OuterProducts(v, isSigned, {in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], in[8]}).emit();
  func::ReturnOp::create(b, func.getLoc());
  return func;
}

func::FuncOp TernaryLowerTiles::function(int64_t tokenTiles, int64_t fieldTiles, bool isSigned, StringAttr row) {
  func::FuncOp &func = functions[isSigned][tokenTiles - 1][fieldTiles - 1];
  if (func)
    return func;
  OpBuilder b(&getContext());
  Type index = b.getIndexType(), shape = b.getIntegerType(16), pointer = LLVM::LLVMPointerType::get(&getContext());
  // What is known of callers would make constants of some shapes, and several loops of one: then there are more shapes
  // than registers. CodeGenerator.h names the last attribute.
  func = create(b, "dot_tiles_" + Twine(tokenTiles) + "x" + Twine(fieldTiles), isSigned,
                {shape, shape, shape, pointer, index, index, pointer, index, index, index, pointer, index},
                {"noinline", "optsize", "setun-opaque"}, row);
  VectorBuilder v(b, func.getLoc());
  fill(v, func.getArguments(), tokenTiles, fieldTiles, isSigned);
  func::ReturnOp::create(b, func.getLoc());
  return func;
}

void TernaryLowerTiles::fill(VectorBuilder &v, Block::BlockArgListType arguments, int64_t tokenTiles,
                             int64_t fieldTiles, bool isSigned) {
  Value rows = arguments[0], cols = arguments[1], depth = arguments[2];
  Value x = arguments[3], pitch = arguments[4], second = arguments[5];
  Value u = arguments[6], fieldBytes = arguments[7], fields = arguments[8], blocks = arguments[9];
  Value sums = arguments[10], tokenBytes = arguments[11];
  auto mul = [&](Value a, Value b) -> Value { return arith::MulIOp::create(v.b, v.loc, a, b); };
  std::unique_ptr<Tiles> tiles;
  if (emulates())
    tiles = std::make_unique<EmulatedTiles>(v, isSigned);
  else
    tiles = std::make_unique<TileInstructions>(v, isSigned);

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
  auto row = op->getParentOfType<func::FuncOp>()->getAttrOfType<StringAttr>(setun::kKernelRowAttr);
  const setun::KernelRow *known = row ? setun::findKernelRow(row) : nullptr;
  const bool isSigned = op.getSignedCodes();
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
  if (known && known->hasOuterProducts() && !emulates()) {
    Value steps = arith::MulIOp::create(b, v.loc, op.getBlocks(), op.getWidth());
    func::CallOp::create(
        b, v.loc, outerProducts(isSigned, row),
        ValueRange{op.getTokens(), steps, x, pitch, u, v.index(fieldBytes), v.index(fields), place, tokenBytes});
    op.erase();
    return;
  }
  Value cols = shape(v.mul(op.getWidth(), 4)), depth = shape(op.getWidth());
  auto call = [&](int64_t tokenTiles, Value tokens, Value second) {
    Value rows = shape(tokens);
    auto some = [&](int64_t from, int64_t count, int64_t fieldTiles) {
      if (count)
        func::CallOp::create(b, v.loc, function(tokenTiles, fieldTiles, isSigned, row),
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
