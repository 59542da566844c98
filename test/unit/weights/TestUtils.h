//===- TestUtils.h - helpers of the weight tests ----------------*- C++ -*-===//

#ifndef SETUN_TEST_UNIT_WEIGHTS_TESTUTILS_H
#define SETUN_TEST_UNIT_WEIGHTS_TESTUTILS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include "gtest/gtest.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace setun {
namespace test {

/// The generator of the golden vectors: s = s*1103515245 + 12345 mod 2^31, value = (s >> 16) mod 3 - 1, s starts at 1.
class Trits {
public:
  int8_t next() {
    state = (state * 1103515245u + 12345u) & 0x7fffffffu;
    return static_cast<int8_t>(static_cast<int>((state >> 16) % 3) - 1);
  }
  std::vector<int8_t> take(size_t count) {
    std::vector<int8_t> values(count);
    for (int8_t &value : values)
      value = next();
    return values;
  }

private:
  uint32_t state = 1;
};

/// A file that is removed at the end of the test.
class TempFile {
public:
  explicit TempFile(const std::string &content) {
    std::string pattern = testing::TempDir() + "setun-weights-XXXXXX";
    const int fd = ::mkstemp(pattern.data());
    EXPECT_GE(fd, 0);
    ::close(fd);
    filePath = pattern;
    write(content);
  }
  ~TempFile() { std::remove(filePath.c_str()); }
  void write(const std::string &content) { std::ofstream(filePath, std::ios::binary) << content; }
  const std::string &path() const { return filePath; }

private:
  std::string filePath;
};

/// A .safetensors file with this header and data; `length` replaces the true header length if given.
inline std::string fileBytes(const std::string &header, const std::string &data, int64_t length = -1) {
  const uint64_t size = length < 0 ? header.size() : static_cast<uint64_t>(length);
  std::string bytes;
  for (unsigned i = 0; i < 8; ++i)
    bytes.push_back(static_cast<char>(size >> 8 * i & 0xff));
  return bytes + header + data;
}

template <typename T> std::vector<uint8_t> bytesOf(const std::vector<T> &values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!bytes.empty())
    std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// Text of an error, empty for success.
inline std::string text(llvm::Error err) { return err ? llvm::toString(std::move(err)) : std::string(); }

} // namespace test
} // namespace setun

/// The error's text holds `part`.
#define EXPECT_ERROR(err, part)                                                                                        \
  do {                                                                                                                 \
    const std::string message = ::setun::test::text(err);                                                              \
    EXPECT_NE(message.find(part), std::string::npos) << "got: " << message;                                            \
  } while (false)
#define EXPECT_OK(err) EXPECT_EQ(::setun::test::text(err), "")

#endif // SETUN_TEST_UNIT_WEIGHTS_TESTUTILS_H
