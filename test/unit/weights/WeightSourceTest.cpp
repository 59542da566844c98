//===- WeightSourceTest.cpp - encodings and quantisers ----------*- C++ -*-===//

#include "TestUtils.h"

#include "lib/Weights/WeightSource.h"
#include "setun/Packing.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <thread>

using namespace setun;
using namespace setun::test;

namespace {

std::unique_ptr<WeightSource> sourceOf(std::vector<MemoryTensor> tensors) {
  llvm::Expected<std::unique_ptr<WeightSource>> source = WeightSource::fromMemory(std::move(tensors));
  if (!source) {
    ADD_FAILURE() << text(source.takeError());
    return nullptr;
  }
  return std::move(*source);
}

template <typename T> MemoryTensor tensor(DType dtype, std::vector<int64_t> shape, const std::vector<T> &values) {
  return {"w", dtype, llvm::SmallVector<int64_t, 4>(shape.begin(), shape.end()), bytesOf(values)};
}

/// `values` in any float dtype.
std::vector<uint8_t> floatBytes(DType dtype, const std::vector<double> &values) {
  std::vector<uint8_t> bytes;
  auto append = [&](const auto &value) {
    const auto *p = reinterpret_cast<const uint8_t *>(&value);
    bytes.insert(bytes.end(), p, p + sizeof(value));
  };
  for (double value : values) {
    if (dtype == DType::F64)
      append(value);
    else if (dtype == DType::F32)
      append(static_cast<float>(value));
    else
      append(dtype == DType::F16 ? floatToF16(static_cast<float>(value)) : floatToBF16(static_cast<float>(value)));
  }
  return bytes;
}

const DType kFloats[] = {DType::F16, DType::BF16, DType::F32, DType::F64};

/// Packs codes N x K four rows to a byte, ceil(N/4) byte rows, missing rows as zero bits.
std::vector<uint8_t> packHF(const std::vector<int8_t> &codes, int64_t N, int64_t K) {
  const int64_t R = (N + 3) / 4;
  std::vector<uint8_t> bytes(static_cast<size_t>(R * K));
  for (int64_t row = 0; row < N; ++row)
    for (int64_t k = 0; k < K; ++k)
      bytes[row % R * K + k] |= static_cast<uint8_t>((codes[row * K + k] + 1) << 2 * (row / R));
  return bytes;
}

//===----------------------------------------------------------------------===//
// Ternary
//===----------------------------------------------------------------------===//

TEST(Ternary, HuggingFaceDocstringExample) {
  auto source = sourceOf({tensor<uint8_t>(DType::U8, {2, 2}, {0b10100001, 0b00011000, 0b10010000, 0b00001010})});
  std::vector<int8_t> codes(16);
  EXPECT_OK(source->readTernaryRows("w", 8, 2, 0, 8, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{0, -1, -1, 1, -1, 1, -1, 1, 1, 0, 0, -1, 1, -1, 1, -1}));
}

TEST(Ternary, HuggingFaceGoldenVector) {
  auto source = sourceOf({tensor<uint8_t>(DType::U8, {2, 4}, {0x02, 0x01, 0x04, 0x89, 0x61, 0x92, 0xa8, 0x88})});
  std::vector<int8_t> codes(32);
  EXPECT_OK(source->readTernaryRows("w", 8, 4, 0, 8, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{1,  0,  -1, 0,  0, 1, -1, -1, -1, -1, 0,  1, -1, -1, 1, 1,
                                        -1, -1, -1, -1, 1, 0, 1,  -1, -1, -1, -1, 1, 0,  1,  1, 1}));
  Trits trits;
  EXPECT_EQ(codes, trits.take(32));
}

TEST(Ternary, EveryEncodingGivesTheSameCodes) {
  for (int64_t N : {1, 2, 3, 4, 5, 7, 8, 16, 31, 33})
    for (int64_t K : {1, 3, 7, 8, 9, 31, 33, 1030}) {
      SCOPED_TRACE(std::to_string(N) + "x" + std::to_string(K));
      Trits trits;
      const std::vector<int8_t> codes = trits.take(static_cast<size_t>(N * K));
      std::vector<MemoryTensor> tensors;
      tensors.push_back({"hf", DType::U8, {(N + 3) / 4, K}, packHF(codes, N, K)});
      tensors.push_back({"i8", DType::I8, {N, K}, bytesOf(codes)});
      for (DType dtype : kFloats)
        tensors.push_back({dtypeName(dtype).str(),
                           dtype,
                           {N, K},
                           floatBytes(dtype, std::vector<double>(codes.begin(), codes.end()))});
      auto source = sourceOf(std::move(tensors));
      for (const std::string &name : source->names()) {
        SCOPED_TRACE(name);
        std::vector<int8_t> read(codes.size(), 99);
        TernaryStats stats;
        EXPECT_OK(source->readTernaryRows(name, N, K, 0, N, read.data(), &stats));
        EXPECT_EQ(read, codes);
        EXPECT_EQ(stats.total(), codes.size());
        EXPECT_EQ(stats.plus, static_cast<uint64_t>(std::count(codes.begin(), codes.end(), 1)));
        EXPECT_EQ(stats.minus, static_cast<uint64_t>(std::count(codes.begin(), codes.end(), -1)));
        // A range in the middle.
        const int64_t begin = N / 3, end = N - N / 4;
        std::vector<int8_t> part(static_cast<size_t>((end - begin) * K));
        EXPECT_OK(source->readTernaryRows(name, N, K, begin, end, part.data()));
        EXPECT_EQ(part, std::vector<int8_t>(codes.begin() + begin * K, codes.begin() + end * K));
      }
    }
}

TEST(Ternary, CodeThree) {
  // Row 5 of 8 is field 2 of byte row 1; columns 0..15 go through the word path, 16 through the byte path.
  for (int64_t column : {3, 16}) {
    std::vector<uint8_t> bytes(2 * 17, 0x55);
    bytes[17 + column] = 0x75;
    auto source = sourceOf({tensor(DType::U8, {2, 17}, bytes)});
    std::vector<int8_t> codes(8 * 17);
    EXPECT_OK(source->readTernaryRows("w", 8, 17, 0, 5, codes.data()));
    EXPECT_ERROR(source->readTernaryRows("w", 8, 17, 0, 8, codes.data()),
                 "tensor 'w' in <memory>: row 5, column " + std::to_string(column) +
                     ": expects a packed code 0, 1 or 2, got 3");
  }
}

TEST(Ternary, UnusedFieldsOfTheLastRowsAreIgnored) {
  // N = 5: R = 2, so field 2 of byte row 1 and field 3 of both hold no row.
  std::vector<uint8_t> bytes = {0xd5, 0xf5};
  auto source = sourceOf({tensor(DType::U8, {2, 1}, bytes)});
  std::vector<int8_t> codes(5, 9);
  EXPECT_OK(source->readTernaryRows("w", 5, 1, 0, 5, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 0, 0, 0}));
}

TEST(Ternary, OtherValues) {
  std::vector<int8_t> codes(40), out(40);
  codes[23] = -2;
  EXPECT_ERROR(sourceOf({tensor(DType::I8, {2, 20}, codes)})->readTernaryRows("w", 2, 20, 0, 2, out.data()),
               "row 1, column 3: expects -1, 0 or +1, got -2");
  codes[23] = 127;
  EXPECT_ERROR(sourceOf({tensor(DType::I8, {2, 20}, codes)})->readTernaryRows("w", 2, 20, 0, 2, out.data()), "got 127");
  for (DType dtype : kFloats) {
    std::vector<double> values(40, 1.0);
    values[23] = 0.5;
    auto source = sourceOf({{"w", dtype, {2, 20}, floatBytes(dtype, values)}});
    EXPECT_ERROR(source->readTernaryRows("w", 2, 20, 0, 2, out.data()),
                 "row 1, column 3: expects -1, 0 or +1, got 0.5");
    values[23] = std::nan("");
    source = sourceOf({{"w", dtype, {2, 20}, floatBytes(dtype, values)}});
    EXPECT_ERROR(source->readTernaryRows("w", 2, 20, 0, 2, out.data()), "row 1, column 3");
    values[23] = -0.0;
    source = sourceOf({{"w", dtype, {2, 20}, floatBytes(dtype, values)}});
    EXPECT_OK(source->readTernaryRows("w", 2, 20, 0, 2, out.data()));
    EXPECT_EQ(out[23], 0);
  }
  // A double that rounds to 1 in f32 is still not 1.
  auto source = sourceOf({tensor<double>(DType::F64, {1, 2}, {1.0, 1.0 + 1e-12})});
  EXPECT_ERROR(source->readTernaryRows("w", 1, 2, 0, 1, out.data()), "row 0, column 1");
}

TEST(Ternary, ShapesAndDtypes) {
  std::vector<int8_t> out(64);
  auto source = sourceOf({tensor<uint8_t>(DType::U8, {8, 4}, std::vector<uint8_t>(32, 0x55))});
  EXPECT_ERROR(source->readTernaryRows("w", 8, 4, 0, 8, out.data()),
               "expects ternary weights 8x4 as U8 of shape 2x4 (four rows a byte) or as I8, F16, BF16, F32 or F64 of "
               "shape 8x4, got U8 of shape 8x4");
  EXPECT_ERROR(source->readTernaryRows("w", 32, 5, 0, 1, out.data()), "got U8 of shape 8x4");
  EXPECT_ERROR(source->readTernaryRows("w", 32, 4, 30, 33, out.data()), "expects rows within 0..32, got 30..33");
  EXPECT_ERROR(source->readTernaryRows("w", 32, 4, -1, 3, out.data()), "got -1..3");
  EXPECT_ERROR(source->readTernaryRows("w", 32, 4, 4, 3, out.data()), "got 4..3");
  EXPECT_OK(source->readTernaryRows("w", 32, 4, 32, 32, out.data()));
  for (DType dtype : {DType::Bool, DType::I32, DType::F8E4M3}) {
    auto other = sourceOf({{"w", dtype, {1, 8}, std::vector<uint8_t>(8 * dtypeSize(dtype))}});
    EXPECT_ERROR(other->readTernaryRows("w", 1, 8, 0, 1, out.data()),
                 ("got " + dtypeName(dtype) + " of shape 1x8").str());
  }
}

TEST(Ternary, Statistics) {
  // Long runs of one code overflow byte counters that are not emptied in time.
  for (int64_t count : {0, 1, 15, 16, 17, 255 * 16, 255 * 16 + 16, 1000003}) {
    for (int code : {-1, 0, 1}) {
      std::vector<int8_t> codes(static_cast<size_t>(count), static_cast<int8_t>(code));
      TernaryStats stats;
      stats.add(codes.data(), count);
      EXPECT_EQ(stats.total(), static_cast<uint64_t>(count));
      EXPECT_EQ(code < 0 ? stats.minus : code > 0 ? stats.plus : stats.zero, static_cast<uint64_t>(count));
      EXPECT_EQ(stats.allZero(), code == 0 || count == 0);
    }
  }
  // Past 2^32.
  std::vector<int8_t> codes(1 << 20, 1);
  TernaryStats stats;
  stats.plus = 0xffffffffu;
  stats.add(codes.data(), 1 << 20);
  EXPECT_EQ(stats.plus, 0xffffffffull + (1 << 20));

  auto source = sourceOf({{"zero", DType::U8, {16, 64}, std::vector<uint8_t>(1024, 0x55)},
                          {"one", DType::U8, {16, 64}, std::vector<uint8_t>(1024, 0x56)}});
  std::vector<int8_t> read(64 * 64);
  TernaryStats zero, one;
  EXPECT_OK(source->readTernaryRows("zero", 64, 64, 0, 64, read.data(), &zero));
  EXPECT_OK(source->readTernaryRows("one", 64, 64, 0, 64, read.data(), &one));
  EXPECT_TRUE(zero.allZero());
  EXPECT_EQ(zero.zero, 4096u);
  EXPECT_EQ(one.plus, 1024u);
  EXPECT_EQ(one.zero, 3072u);
  EXPECT_ERROR(source->readTernaryRows("zero", 64, int64_t(1) << 60, 0, 0, nullptr), "got U8 of shape 16x64");
}

TEST(Ternary, PacksThroughThePacker) {
  const int64_t N = 70, K = 37;
  Trits trits;
  const std::vector<int8_t> codes = trits.take(N * K);
  auto source = sourceOf({{"w", DType::U8, {(N + 3) / 4, K}, packHF(codes, N, K)}});
  const packing::PackedShape shape{packing::WeightKind::Ternary, packing::RowOrder::Linear, N, K};
  std::vector<uint8_t> streamed(static_cast<size_t>(shape.bytes())), direct(streamed.size());
  EXPECT_TRUE(packing::packRows(
      shape, [&](int64_t row, int8_t *dst) { return !source->readTernaryRows("w", N, K, row, row + 1, dst); },
      streamed.data()));
  packing::packCodes(shape, codes.data(), direct.data());
  EXPECT_EQ(streamed, direct);
}

//===----------------------------------------------------------------------===//
// Binary
//===----------------------------------------------------------------------===//

TEST(Binary, UnsignedAndSigned) {
  const std::vector<int8_t> expected = {1, -1, -1, 1, 1, -1};
  const std::vector<uint8_t> bits = {1, 0, 0, 1, 1, 0};
  const std::vector<double> zeroOne = {1, 0, 0, 1, 1, 0}, signs = {1, -1, -1, 1, 1, -1};
  std::vector<MemoryTensor> tensors = {{"u8", DType::U8, {3, 2}, bits},
                                       {"bool", DType::Bool, {3, 2}, bits},
                                       {"i8-bits", DType::I8, {3, 2}, bits},
                                       {"i8-signs", DType::I8, {3, 2}, bytesOf(expected)}};
  for (DType dtype : kFloats) {
    tensors.push_back({"bits-" + dtypeName(dtype).str(), dtype, {3, 2}, floatBytes(dtype, zeroOne)});
    tensors.push_back({"signs-" + dtypeName(dtype).str(), dtype, {3, 2}, floatBytes(dtype, signs)});
  }
  auto source = sourceOf(std::move(tensors));
  for (const std::string &name : source->names()) {
    std::vector<int8_t> out(6);
    EXPECT_OK(source->readBinaryRows(name, 3, 2, 0, 3, out.data()));
    EXPECT_EQ(out, expected) << name;
    // Reading again changes nothing.
    EXPECT_OK(source->readBinaryRows(name, 3, 2, 1, 2, out.data()));
    EXPECT_EQ(out[0], -1);
  }
}

TEST(Binary, MixOfZeroAndMinusOne) {
  std::vector<int8_t> out(6);
  auto source = sourceOf({tensor<int8_t>(DType::I8, {3, 2}, {1, 1, 0, 1, -1, 1})});
  EXPECT_OK(source->readBinaryRows("w", 3, 2, 0, 2, out.data()));
  EXPECT_ERROR(source->readBinaryRows("w", 3, 2, 2, 3, out.data()),
               "row 2: expects binary weights to be either 0 and 1 or -1 and +1");
  auto same = sourceOf({tensor<float>(DType::F32, {1, 3}, {-1, 0, 1})});
  EXPECT_ERROR(same->readBinaryRows("w", 1, 3, 0, 1, out.data()), "row 0: expects binary weights to be either");
}

TEST(Binary, OtherValues) {
  std::vector<int8_t> out(6);
  EXPECT_ERROR(sourceOf({tensor<uint8_t>(DType::U8, {1, 3}, {0, 1, 2})})->readBinaryRows("w", 1, 3, 0, 1, out.data()),
               "row 0, column 2: expects 0 or 1, got 2");
  EXPECT_ERROR(
      sourceOf({tensor<uint8_t>(DType::Bool, {1, 3}, {0, 255, 1})})->readBinaryRows("w", 1, 3, 0, 1, out.data()),
      "row 0, column 1: expects 0 or 1, got 255");
  EXPECT_ERROR(
      sourceOf({tensor<float>(DType::F32, {1, 3}, {0, 1, -0.25f})})->readBinaryRows("w", 1, 3, 0, 1, out.data()),
      "row 0, column 2: expects -1, 0 or +1, got -0.25");
  EXPECT_ERROR(sourceOf({tensor<uint8_t>(DType::U8, {3, 1}, {0, 1, 1})})->readBinaryRows("w", 1, 3, 0, 1, out.data()),
               "expects binary weights as U8, BOOL, I8, F16, BF16, F32 or F64 of shape 1x3, got U8 of shape 3x1");
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

TEST(Floats, ConversionTables) {
  // Every f16 and bf16 value survives the way to f32 and back.
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float f16 = f16ToFloat(half), bf16 = bf16ToFloat(half);
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(f16ToFloat(floatToF16(f16))));
    } else {
      ASSERT_EQ(floatToF16(f16), half);
    }
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(bf16ToFloat(floatToBF16(bf16))));
    } else {
      ASSERT_EQ(floatToBF16(bf16), half);
    }
    // The value itself, from the definition of the format.
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent < 31) {
      const double magnitude = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
      ASSERT_EQ(f16, static_cast<float>(half & 0x8000 ? -magnitude : magnitude));
    }
  }
  // Half way between neighbours goes to the even one, a little more goes up.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const double low = f16ToFloat(static_cast<uint16_t>(bits));
    const double high = bits == 0x7bff ? 65536.0 : f16ToFloat(static_cast<uint16_t>(bits + 1));
    const float middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(floatToF16(middle), bits + (bits & 1));
    ASSERT_EQ(floatToF16(-middle), (bits + (bits & 1)) | 0x8000);
    ASSERT_EQ(floatToF16(std::nextafterf(middle, 1e9f)), bits + 1);
    ASSERT_EQ(floatToF16(std::nextafterf(middle, 0.0f)), bits);
  }
  EXPECT_EQ(floatToF16(1e9f), 0x7c00);
  EXPECT_EQ(floatToF16(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(floatToBF16(3.4e38f), 0x7f80);
  EXPECT_EQ(floatToBF16(1.00390625f), 0x3f80); // 1 + 2^-8: tie to even
  EXPECT_EQ(floatToBF16(1.01171875f), 0x3f82); // 1 + 3 * 2^-8: tie to even
}

TEST(Floats, RowsInEveryFormat) {
  const std::vector<double> values = {0.1, -2.5, 3.14159265358979, 1e-6, 65504, 0, -0.0, 7};
  for (DType dtype : kFloats) {
    auto source = sourceOf({{"w", dtype, {4, 2}, floatBytes(dtype, values)}});
    std::vector<float> f32(4), all;
    std::vector<uint16_t> f16(4), bf16(4);
    EXPECT_OK(source->readRowsF32("w", 4, 2, 1, 3, f32.data()));
    EXPECT_OK(source->readRowsF16("w", 4, 2, 1, 3, f16.data()));
    EXPECT_OK(source->readRowsBF16("w", 4, 2, 1, 3, bf16.data()));
    EXPECT_OK(source->readFloat("w", {4, 2}, all));
    for (int i = 0; i < 4; ++i) {
      const float value = static_cast<float>(values[2 + i]);
      const float expected = dtype == DType::F16    ? f16ToFloat(floatToF16(value))
                             : dtype == DType::BF16 ? bf16ToFloat(floatToBF16(value))
                                                    : value;
      EXPECT_EQ(f32[i], expected);
      EXPECT_EQ(all[2 + i], expected);
      EXPECT_EQ(f16[i], floatToF16(expected));
      EXPECT_EQ(bf16[i], floatToBF16(expected));
    }
    EXPECT_ERROR(source->readRowsF32("w", 2, 4, 0, 1, f32.data()),
                 "expects F16, BF16, F32 or F64 of shape 2x4, got " + dtypeName(dtype).str() + " of shape 4x2");
    EXPECT_ERROR(source->readFloat("w", {8}, all), "of shape 8, got");
    EXPECT_ERROR(source->readRowsBF16("w", 4, 2, 3, 5, bf16.data()), "expects rows within 0..4, got 3..5");
  }
  std::vector<float> all;
  EXPECT_ERROR(sourceOf({{"w", DType::F8E5M2, {2}, {1, 2}}})->readFloat("w", {2}, all), "got F8_E5M2 of shape 2");
  EXPECT_ERROR(sourceOf({{"w", DType::U8, {2}, {1, 2}}})->readFloat("w", {2}, all), "got U8 of shape 2");
}

TEST(Floats, DoublesRoundOnce) {
  // A little above the tie 1 + 2^-11 of f16, but less than half an f32 unit: rounding twice would give 1.
  const double f16Case = 1.0 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40);
  const double bf16Case = 1.0 + std::ldexp(1.0, -8) + std::ldexp(1.0, -40);
  auto source = sourceOf({tensor<double>(DType::F64, {1, 4}, {f16Case, bf16Case, -f16Case, 1e300})});
  std::vector<uint16_t> out(4);
  std::vector<float> f32(4);
  EXPECT_OK(source->readRowsF16("w", 1, 4, 0, 1, out.data()));
  EXPECT_EQ(out[0], 0x3c01);
  EXPECT_EQ(out[2], 0xbc01);
  EXPECT_EQ(out[3], 0x7c00);
  EXPECT_OK(source->readRowsBF16("w", 1, 4, 0, 1, out.data()));
  EXPECT_EQ(out[1], 0x3f81);
  EXPECT_EQ(out[3], 0x7f80);
  EXPECT_OK(source->readRowsF32("w", 1, 4, 0, 1, f32.data()));
  EXPECT_EQ(f32[0], static_cast<float>(f16Case));
}

TEST(Floats, ScalarAndUnaligned) {
  TempFile file(fileBytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                          R"("s":{"dtype":"F32","shape":[],"data_offsets":[1,5]}})",
                          std::string("\0\0\0\x80\x3f", 5)));
  llvm::Expected<std::unique_ptr<WeightSource>> source = WeightSource::open({file.path()});
  ASSERT_TRUE(static_cast<bool>(source));
  std::vector<float> values;
  EXPECT_OK((*source)->readFloat("s", {}, values));
  EXPECT_EQ(values, std::vector<float>{1.0f});
}

//===----------------------------------------------------------------------===//
// Look-up
//===----------------------------------------------------------------------===//

TEST(Lookup, DidYouMean) {
  std::vector<MemoryTensor> tensors;
  for (const char *name : {"model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight",
                           "model.layers.0.mlp.gate_proj.weight", "model.norm.weight", "lm_head.weight"})
    tensors.push_back({name, DType::U8, {1}, {0}});
  auto source = sourceOf(std::move(tensors));
  EXPECT_TRUE(source->contains("lm_head.weight"));
  llvm::Expected<WeightSource::Info> info = source->lookup("model.norm.weight");
  ASSERT_TRUE(static_cast<bool>(info));
  EXPECT_EQ(info->dtype, DType::U8);
  EXPECT_EQ(info->file, "<memory>");
  EXPECT_ERROR(
      source->lookup("model.layers.0.mlp.up_prj.weight").takeError(),
      "expects a tensor 'model.layers.0.mlp.up_prj.weight' in the weight files, got none of that name among 5; "
      "did you mean 'model.layers.0.mlp.up_proj.weight', 'model.layers.1.mlp.up_proj.weight'");
  EXPECT_ERROR(source->lookup("norm.weight").takeError(), "did you mean 'model.norm.weight'?");
  const std::string far = text(source->lookup("completely.different").takeError());
  EXPECT_EQ(far.find("did you mean"), std::string::npos) << far;
  std::vector<float> values;
  EXPECT_ERROR(source->readFloat("absent", {1}, values), "got none of that name");
}

TEST(Lookup, SeveralFiles) {
  TempFile a(fileBytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  TempFile b(fileBytes(R"({"b":{"dtype":"I8","shape":[1,1],"data_offsets":[0,1]}})", std::string(1, '\xff')));
  llvm::Expected<std::unique_ptr<WeightSource>> source = WeightSource::open({a.path(), b.path()});
  ASSERT_TRUE(static_cast<bool>(source));
  EXPECT_EQ((*source)->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ((*source)->lookup("b")->file, b.path());
  int8_t code = 0;
  EXPECT_OK((*source)->readTernaryRows("b", 1, 1, 0, 1, &code));
  EXPECT_EQ(code, -1);
  source = WeightSource::open({a.path(), b.path(), a.path()});
  ASSERT_FALSE(static_cast<bool>(source));
  EXPECT_ERROR(source.takeError(),
               "tensor 'a': expects one definition, got one in " + a.path() + " and one in " + a.path());
}

TEST(Lookup, MemoryTensorsAreChecked) {
  llvm::Expected<std::unique_ptr<WeightSource>> source =
      WeightSource::fromMemory({{"w", DType::F32, {3}, std::vector<uint8_t>(11)}});
  ASSERT_FALSE(static_cast<bool>(source));
  EXPECT_ERROR(source.takeError(), "expects as many bytes as F32 of shape 3 takes, got 11");
  source = WeightSource::fromMemory({{"w", DType::U8, {1}, {0}}, {"w", DType::U8, {1}, {0}}});
  ASSERT_FALSE(static_cast<bool>(source));
  EXPECT_ERROR(source.takeError(), "expects one definition");
}

TEST(Lookup, ReleasesPagesAndReadsOn) {
  // Reads over the limit at which pages are given back, from two threads, and compares every row.
  const int64_t N = 64, K = 1 << 16;
  std::string data(static_cast<size_t>(N / 4 * K), '\0');
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = static_cast<char>((i * 2654435761u >> 13) % 2 ? 0x52 : 0x18);
  const std::string shape = "[" + std::to_string(N / 4) + "," + std::to_string(K) + "]";
  TempFile file(fileBytes("{\"w\":{\"dtype\":\"U8\",\"shape\":" + shape + ",\"data_offsets\":[0," +
                              std::to_string(data.size()) + "]}}",
                          data));
  llvm::Expected<std::unique_ptr<WeightSource>> source = WeightSource::open({file.path()});
  ASSERT_TRUE(static_cast<bool>(source));
  auto readAll = [&](uint64_t &wrong) {
    std::vector<int8_t> row(K);
    for (int pass = 0; pass < 24; ++pass)
      for (int64_t i = 0; i < N; ++i) {
        if (llvm::Error err = (*source)->readTernaryRows("w", N, K, i, i + 1, row.data())) {
          llvm::consumeError(std::move(err));
          ++wrong;
        }
        for (int64_t k = 0; k < K; k += 97)
          wrong += row[k] != (static_cast<uint8_t>(data[i % 16 * K + k]) >> 2 * (i / 16) & 3) - 1;
      }
  };
  uint64_t wrongA = 0, wrongB = 0;
  std::thread other([&] { readAll(wrongB); });
  readAll(wrongA);
  other.join();
  EXPECT_EQ(wrongA, 0u);
  EXPECT_EQ(wrongB, 0u);
}

//===----------------------------------------------------------------------===//
// Quantisers
//===----------------------------------------------------------------------===//

TEST(AbsMean, ByHand) {
  // mean|W| = 8/8 = 1: ties at a half go to zero.
  const std::vector<double> W = {0.5, -0.5, 1.5, -1.5, 0.75, -0.75, 2.5, 0};
  for (DType dtype : kFloats) {
    auto source = sourceOf({{"w", dtype, {2, 4}, floatBytes(dtype, W)}});
    llvm::Expected<MasterScales> scales = source->measureAbsMean("w", 2, 4);
    ASSERT_TRUE(static_cast<bool>(scales)) << text(scales.takeError());
    EXPECT_EQ(scales->scale, std::vector<float>{1.0f});
    EXPECT_TRUE(scales->alpha.empty());
    std::vector<int8_t> codes(8);
    TernaryStats stats;
    EXPECT_OK(source->quantizeAbsMeanRows("w", 2, 4, 0, 2, *scales, codes.data(), &stats));
    EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 1, -1, 1, -1, 1, 0}));
    EXPECT_EQ(stats.zero, 3u);
    std::vector<int8_t> row(4);
    EXPECT_OK(source->quantizeAbsMeanRows("w", 2, 4, 1, 2, *scales, row.data()));
    EXPECT_EQ(row, (std::vector<int8_t>{1, -1, 1, 0}));
  }
}

TEST(AbsMean, EqualsTheFormulaOnRandomMasters) {
  const int64_t N = 37, K = 1111;
  std::vector<float> W(N * K);
  uint32_t state = 7;
  for (float &w : W) {
    // Sum of uniforms, scaled like latents of a small model.
    double sum = 0;
    for (int i = 0; i < 6; ++i) {
      state = state * 1664525u + 1013904223u;
      sum += state / 4294967296.0 - 0.5;
    }
    w = static_cast<float>(sum * 0.03);
  }
  for (int64_t group : {int64_t(0), int64_t(128), K}) {
    SCOPED_TRACE("group " + std::to_string(group));
    auto source = sourceOf({tensor(DType::F32, {N, K}, W)});
    llvm::Expected<MasterScales> scales = source->measureAbsMean("w", N, K, group);
    ASSERT_TRUE(static_cast<bool>(scales));
    const int64_t width = group ? group : K, groups = group ? (K + group - 1) / group : 1;
    EXPECT_EQ(scales->groups, groups);
    EXPECT_EQ(scales->scale.size(), group ? static_cast<size_t>(N * groups) : 1u);
    std::vector<int8_t> codes(W.size());
    EXPECT_OK(source->quantizeAbsMeanRows("w", N, K, 0, N, *scales, codes.data()));
    for (int64_t row = 0; row < N; ++row)
      for (int64_t g = 0; g < groups; ++g) {
        const float m = scales->scale[scales->index(row, g)];
        const int64_t begin = group ? row * K + g * width : 0;
        const int64_t end = group ? std::min(begin + width, (row + 1) * K) : N * K;
        long double sum = 0;
        for (int64_t i = begin; i < end; ++i)
          sum += std::fabs(W[i]);
        const int64_t count = end - begin;
        if (row == 0 || group) {
          ASSERT_FLOAT_EQ(m, static_cast<float>(sum / count));
        }
        const float s = 1.0f / m;
        for (int64_t k = g * width; k < std::min(K, (g + 1) * width); ++k) {
          const float scaled = W[row * K + k] * s;
          ASSERT_EQ(codes[row * K + k], std::max(-1.0f, std::min(1.0f, std::nearbyint(scaled))));
        }
      }
  }
}

TEST(AbsMean, EpsilonClampsAndZerosStayZero) {
  auto source = sourceOf({tensor<float>(DType::F32, {2, 2}, {0, 0, 1e-7f, -1e-7f})});
  llvm::Expected<MasterScales> scales = source->measureAbsMean("w", 2, 2, 2);
  ASSERT_TRUE(static_cast<bool>(scales));
  EXPECT_EQ(scales->scale, (std::vector<float>{1e-5f, 1e-5f}));
  std::vector<int8_t> codes(4, 9);
  EXPECT_OK(source->quantizeAbsMeanRows("w", 2, 2, 0, 2, *scales, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 0, 0}));
  scales = source->measureAbsMean("w", 2, 2, 2, /*eps=*/0.0f);
  ASSERT_TRUE(static_cast<bool>(scales));
  EXPECT_OK(source->quantizeAbsMeanRows("w", 2, 2, 0, 2, *scales, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 1, -1}));
}

TEST(Sign, ByHand) {
  // mean = 0.5, mean|W| = 1.5; a value equal to the mean is -1.
  auto source = sourceOf({tensor<float>(DType::F32, {2, 2}, {0.5f, 2.5f, 1.0f, -2.0f})});
  llvm::Expected<MasterScales> scales = source->measureSign("w", 2, 2);
  ASSERT_TRUE(static_cast<bool>(scales));
  EXPECT_EQ(scales->alpha, std::vector<float>{0.5f});
  EXPECT_EQ(scales->scale, std::vector<float>{1.5f});
  std::vector<int8_t> codes(4);
  EXPECT_OK(source->quantizeSignRows("w", 2, 2, 0, 2, *scales, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{-1, 1, 1, -1}));
}

TEST(Sign, Groups) {
  // K = 3 in groups of 2: the last group of a row has one column, which equals its mean.
  auto source = sourceOf({tensor<float>(DType::F32, {2, 3}, {1, 3, 5, -4, 0, -1})});
  llvm::Expected<MasterScales> scales = source->measureSign("w", 2, 3, 2);
  ASSERT_TRUE(static_cast<bool>(scales));
  EXPECT_EQ(scales->groups, 2);
  EXPECT_EQ(scales->alpha, (std::vector<float>{2, 5, -2, -1}));
  EXPECT_EQ(scales->scale, (std::vector<float>{2, 5, 2, 1}));
  std::vector<int8_t> codes(6);
  EXPECT_OK(source->quantizeSignRows("w", 2, 3, 0, 2, *scales, codes.data()));
  EXPECT_EQ(codes, (std::vector<int8_t>{-1, 1, -1, -1, 1, -1}));
}

TEST(Quantizers, Errors) {
  const float inf = std::numeric_limits<float>::infinity();
  auto source = sourceOf({tensor<float>(DType::F32, {2, 3}, {1, 2, 3, 4, inf, 6}),
                          {"codes", DType::I8, {2, 3}, std::vector<uint8_t>(6)},
                          {"fine", DType::F32, {2, 3}, std::vector<uint8_t>(24)},
                          {"none", DType::F32, {0, 3}, {}}});
  EXPECT_ERROR(source->measureAbsMean("w", 2, 3).takeError(),
               "tensor 'w' in <memory>: row 1, column 1: expects finite master weights, got inf");
  EXPECT_ERROR(source->measureSign("w", 2, 3, 2).takeError(), "row 1, column 1: expects finite master weights");
  EXPECT_ERROR(source->measureAbsMean("codes", 2, 3).takeError(), "got I8 of shape 2x3");
  EXPECT_ERROR(source->measureAbsMean("fine", 2, 3, 4).takeError(), "group size within 0..3");
  EXPECT_ERROR(source->measureAbsMean("fine", 2, 3, -1).takeError(), "group size within 0..3");
  EXPECT_ERROR(source->measureAbsMean("none", 0, 3).takeError(), "expects weights");
  llvm::Expected<MasterScales> scales = source->measureAbsMean("fine", 2, 3, 2);
  ASSERT_TRUE(static_cast<bool>(scales));
  std::vector<int8_t> codes(6);
  EXPECT_ERROR(source->quantizeAbsMeanRows("w", 2, 3, 0, 2, *scales, codes.data()), "row 1, column 1");
  EXPECT_ERROR(source->quantizeSignRows("fine", 2, 3, 0, 2, *scales, codes.data()), "expects 4 scales");
  scales->scale.pop_back();
  EXPECT_ERROR(source->quantizeAbsMeanRows("fine", 2, 3, 0, 2, *scales, codes.data()), "expects 4 scales");
}

} // namespace
