//===- SafeTensorsTest.cpp - honest and hostile files -----------*- C++ -*-===//

#include "TestUtils.h"

#include "lib/Weights/SafeTensors.h"

#include "gtest/gtest.h"

#include <sys/stat.h>

using namespace setun;
using namespace setun::test;

namespace {

const char *const kGoodHeader = R"({"__metadata__":{"format":"pt"},)"
                                R"("a":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]},)"
                                R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[6,8]},)"
                                R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},)"
                                R"("s":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}   )";

std::string openText(const std::string &content) {
  TempFile file(content);
  llvm::Expected<std::unique_ptr<SafeTensorsFile>> opened = SafeTensorsFile::open(file.path());
  if (opened)
    return "";
  const std::string message = llvm::toString(opened.takeError());
  EXPECT_EQ(message.rfind(file.path() + ": ", 0), 0u) << "no file name in: " << message;
  return message;
}

void expectRefused(const std::string &content, const std::string &part) {
  const std::string message = openText(content);
  EXPECT_NE(message.find(part), std::string::npos) << "expected: " << part << "\ngot: " << message;
}

void expectHeaderRefused(const std::string &header, const std::string &part, size_t dataBytes = 8) {
  expectRefused(fileBytes(header, std::string(dataBytes, '\0')), part);
}

TEST(SafeTensors, Good) {
  TempFile file(fileBytes(kGoodHeader, "abcdefghijkl"));
  llvm::Expected<std::unique_ptr<SafeTensorsFile>> opened = SafeTensorsFile::open(file.path());
  ASSERT_TRUE(static_cast<bool>(opened)) << text(opened.takeError());
  const SafeTensorsFile &st = **opened;
  ASSERT_EQ(st.tensors().size(), 4u);
  EXPECT_EQ(st.tensors()[0].name, "a");
  const SafeTensor *b = st.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DType::BF16);
  EXPECT_EQ(shapeString(b->shape), "1");
  EXPECT_EQ(st.data(*b)[0], 'g');
  st.releasePages();
  EXPECT_EQ(st.data(*b)[1], 'h');
  EXPECT_EQ(st.data(*st.find("empty")).size(), 0u);
  EXPECT_EQ(shapeString(st.find("s")->shape), "scalar");
  EXPECT_EQ(st.find("c"), nullptr);
}

TEST(SafeTensors, EmptyHeader) { EXPECT_EQ(openText(fileBytes("{}", "")), ""); }

TEST(SafeTensors, EightBitFloatsOpen) {
  EXPECT_EQ(openText(fileBytes(R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", "01234567")), "");
}

// The file as such.
TEST(SafeTensors, NoFile) {
  llvm::Expected<std::unique_ptr<SafeTensorsFile>> opened = SafeTensorsFile::open("/nonexistent/model.safetensors");
  ASSERT_FALSE(static_cast<bool>(opened));
  EXPECT_ERROR(opened.takeError(), "/nonexistent/model.safetensors: cannot open: No such file");
}
TEST(SafeTensors, Directory) {
  llvm::Expected<std::unique_ptr<SafeTensorsFile>> opened = SafeTensorsFile::open(testing::TempDir());
  ASSERT_FALSE(static_cast<bool>(opened));
  EXPECT_ERROR(opened.takeError(), "expects a regular file");
}
TEST(SafeTensors, PipeDoesNotBlock) {
  TempFile file("");
  std::remove(file.path().c_str());
  ASSERT_EQ(::mkfifo(file.path().c_str(), 0600), 0);
  llvm::Expected<std::unique_ptr<SafeTensorsFile>> opened = SafeTensorsFile::open(file.path());
  ASSERT_FALSE(static_cast<bool>(opened));
  EXPECT_ERROR(opened.takeError(), "expects a regular file");
}
TEST(SafeTensors, EmptyFile) { expectRefused("", "at least 8 bytes of header length, got a file of 0 bytes"); }
TEST(SafeTensors, SevenBytes) { expectRefused("1234567", "got a file of 7 bytes"); }

// The header's length and text.
TEST(SafeTensors, HugeHeaderLength) {
  expectRefused(fileBytes("{}", "", int64_t(0x7fffffffffffffff)), "at most 100000000 bytes, got 9223372036854775807");
}
TEST(SafeTensors, HeaderLengthAllOnes) {
  expectRefused(std::string(8, '\xff') + "{}", "at most 100000000 bytes, got 18446744073709551615");
}
TEST(SafeTensors, HeaderPastTheEnd) {
  expectRefused(fileBytes("{}", "", 3), "header of 3 bytes, got a file of only 10 bytes");
}
TEST(SafeTensors, NoHeader) { expectRefused(fileBytes("", "", 0), "JSON object as header, got nothing"); }
TEST(SafeTensors, OtherFormat) { expectRefused(std::string("GGUF\x03\0\0\0", 8) + "xxxx", "not a .safetensors file"); }
TEST(SafeTensors, HeaderIsArray) { expectHeaderRefused("[1]", "JSON object as header"); }
TEST(SafeTensors, BadJson) { expectHeaderRefused(R"({"a":{"dtype")", "expects JSON in the header"); }
TEST(SafeTensors, TextAfterTheObject) { expectHeaderRefused("{}x", "expects JSON in the header"); }
TEST(SafeTensors, BadUtf8) { expectHeaderRefused("{\"\xff\":{}}", "expects JSON in the header"); }
TEST(SafeTensors, DeepNesting) {
  expectHeaderRefused("{\"a\":" + std::string(1000000, '['), "at most 8 nested levels");
  expectHeaderRefused(std::string("{") + std::string(100, '{'), "at most 8 nested levels");
}
TEST(SafeTensors, OpenString) { expectHeaderRefused(R"({"a\)", "expects JSON in the header"); }

// Keys.
TEST(SafeTensors, TensorTwice) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                      "unique keys in the header, got 'a' twice");
}
TEST(SafeTensors, TensorTwiceInDisguise) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("\u0061":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                      "got 'a' twice");
}
TEST(SafeTensors, FieldTwice) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8]}})", "got 'shape' twice");
}
TEST(SafeTensors, SameFieldsInDifferentTensors) {
  EXPECT_EQ(openText(fileBytes(R"({"dtype":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                               R"("shape":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                               "01234567")),
            "");
}

// One tensor's entry.
TEST(SafeTensors, EntryNotObject) { expectHeaderRefused(R"({"a":3})", "tensor 'a': expects an object"); }
TEST(SafeTensors, MetadataNotStrings) {
  expectHeaderRefused(R"({"__metadata__":{"k":1}})", "expects strings in '__metadata__'");
  expectHeaderRefused(R"({"__metadata__":[]})", "expects an object of strings in '__metadata__'");
}
TEST(SafeTensors, NoDtype) {
  expectHeaderRefused(R"({"a":{"shape":[8],"data_offsets":[0,8]}})", "expects a string 'dtype', got none");
}
TEST(SafeTensors, UnknownDtype) {
  expectHeaderRefused(R"({"a":{"dtype":"Q4","shape":[8],"data_offsets":[0,8]}})", "tensor 'a': expects dtype BOOL");
  expectHeaderRefused(R"({"a":{"dtype":"Q4","shape":[8],"data_offsets":[0,8]}})", "got 'Q4'");
}
TEST(SafeTensors, NoShape) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":8,"data_offsets":[0,8]}})", "expects an array 'shape'");
}
TEST(SafeTensors, NegativeDim) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[-8,-1],"data_offsets":[0,8]}})",
                      "non-negative integers in 'shape'");
}
TEST(SafeTensors, FractionalDim) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[7.5],"data_offsets":[0,8]}})", "got 7.5");
}
TEST(SafeTensors, TextDim) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":["8"],"data_offsets":[0,8]}})", "non-negative integers in 'shape'");
}
TEST(SafeTensors, HugeDim) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[1e30],"data_offsets":[0,8]}})",
                      "non-negative integers in 'shape'");
}
TEST(SafeTensors, ProductOverflow) {
  // 2^32 * 2^32 is 0 modulo 2^64; 2^61 * 8 bytes as well.
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                      "expects a size below 2^63, got shape 4294967296x4294967296", 0);
  expectHeaderRefused(R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
                      "expects a size below 2^63", 0);
}
TEST(SafeTensors, NoOffsets) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[8]}})", "expects 'data_offsets' of two integers, got none");
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,9]}})", "of two integers, got 3");
}
TEST(SafeTensors, NegativeOffset) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[-8,0]}})", "got [-8, 0]");
}
TEST(SafeTensors, OffsetsBackwards) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}})", "data_offsets in order, got [8, 0]");
}
TEST(SafeTensors, OffsetPastTheEnd) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})",
                      "within the file's 8 bytes of data, got [0, 9]");
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9223372036854775807]}})", "truncated");
}
TEST(SafeTensors, SizeDiffersFromShape) {
  expectHeaderRefused(R"({"a":{"dtype":"F16","shape":[8],"data_offsets":[0,8]}})",
                      "tensor 'a': expects 16 bytes for F16 of shape 8, got data_offsets of 8 bytes");
}

// Tensors together.
TEST(SafeTensors, Overlap) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},)"
                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                      "tensor 'b': expects data of its own, got data_offsets that overlap those of 'a'");
}
TEST(SafeTensors, SameData) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
                      "overlap");
}
TEST(SafeTensors, Hole) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                      "tensor 'b': expects tensors without holes between them, got 1 bytes");
}
TEST(SafeTensors, BytesAtTheEnd) {
  expectHeaderRefused(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "got 5 bytes after it");
}
TEST(SafeTensors, LongAndUnprintableNames) {
  const std::string name(100000, 'x');
  const std::string message = openText(fileBytes("{\"" + name + "\":3,\"b\\n\\u001b\":3}", ""));
  EXPECT_LT(message.size(), 1000u);
  expectHeaderRefused("{\"b\\n\\u001b\":3}", R"(tensor 'b\0A\1B')");
}

TEST(SafeTensors, EveryTruncation) {
  const std::string good = fileBytes(kGoodHeader, "abcdefghijkl");
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_NE(openText(good.substr(0, length)), "") << "length " << length;
}

TEST(SafeTensors, MutationsNeverCrash) {
  const std::string good = fileBytes(kGoodHeader, "abcdefghijkl");
  TempFile file(good);
  uint32_t state = 12345;
  auto random = [&](size_t bound) {
    state = state * 1664525u + 1013904223u;
    return static_cast<size_t>(state >> 8) % bound;
  };
  for (int round = 0; round < 5000; ++round) {
    std::string bad = good;
    for (size_t edits = 1 + random(4); edits > 0; --edits) {
      const size_t place = random(bad.size());
      if (round % 2)
        bad[place] = static_cast<char>(bad[place] ^ (1 << random(8)));
      else
        bad[place] = "0123456789-\"\\{}[]:,eE."[random(22)];
    }
    file.write(bad);
    llvm::Expected<std::unique_ptr<SafeTensorsFile>> opened = SafeTensorsFile::open(file.path());
    if (!opened) {
      EXPECT_NE(llvm::toString(opened.takeError()), "");
      continue;
    }
    unsigned sum = 0;
    for (const SafeTensor &tensor : (*opened)->tensors())
      for (uint8_t byte : (*opened)->data(tensor))
        sum += byte;
    EXPECT_LE(sum, 255u * 12);
  }
}

} // namespace
