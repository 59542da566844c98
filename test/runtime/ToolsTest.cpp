//===- ToolsTest.cpp - .npy files and setun-run ---------------------------===//
#include "../../runtime/tools/Npy.h"
#include "Fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <sys/wait.h>

using setun::tools::Array;
using namespace fixture;

namespace {

struct Result {
  int status;
  std::string output; // stdout and stderr
};

Result runCommand(const std::string &command) {
  Result result = {};
  std::FILE *pipe = ::popen((command + " 2>&1").c_str(), "r");
  char buffer[4096];
  while (size_t count = std::fread(buffer, 1, sizeof(buffer), pipe))
    result.output.append(buffer, count);
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return result;
}

void expectRun(const std::string &arguments, int status, const std::string &text) {
  const Result result = runCommand(SETUN_RUN " " + arguments);
  EXPECT_EQ(result.status, status) << arguments << "\n" << result.output;
  EXPECT_NE(result.output.find(text), std::string::npos) << arguments << "\n" << result.output;
}

template <typename T> Array array(setun_dtype dtype, std::vector<int64_t> shape, const std::vector<T> &values) {
  Array result;
  result.dtype = dtype;
  result.shape = std::move(shape);
  result.data.resize(values.size() * sizeof(T));
  if (!values.empty())
    std::memcpy(result.data.data(), values.data(), result.data.size());
  return result;
}

std::vector<uint8_t> npy(const std::string &header, size_t dataSize, uint8_t version = 1) {
  std::vector<uint8_t> bytes = {0x93,
                                'N',
                                'U',
                                'M',
                                'P',
                                'Y',
                                version,
                                0,
                                static_cast<uint8_t>(header.size() & 0xff),
                                static_cast<uint8_t>(header.size() >> 8)};
  if (version > 1)
    bytes.insert(bytes.end(), 2, 0);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), dataSize, 1);
  return bytes;
}

} // namespace

TEST(Npy, RoundTrip) {
  const std::string path = temporaryFolder() + "/array.npy";
  const std::vector<Array> arrays = {array<float>(SETUN_F32, {2, 3}, {1, 2, 3, 4, 5, 6}),
                                     array<int64_t>(SETUN_I64, {}, {-7}),
                                     array<int64_t>(SETUN_I64, {4}, {1, 2, 3, 4}),
                                     array<uint16_t>(SETUN_BF16, {1, 1, 2}, {0x3f80, 0x4000}),
                                     array<uint8_t>(SETUN_BOOL, {2}, {0, 1}),
                                     array<float>(SETUN_F32, {0, 3}, {})};
  for (const Array &original : arrays) {
    ASSERT_FALSE(writeNpy(path, original));
    EXPECT_EQ((readFile(path).size() - original.data.size()) % 64, 0u);
    Array copy;
    auto error = readNpy(path, copy);
    ASSERT_FALSE(error) << *error;
    EXPECT_EQ(copy.dtype, original.dtype);
    EXPECT_EQ(copy.shape, original.shape);
    EXPECT_EQ(copy.data, original.data);
  }
}

TEST(Npy, RefusesBadFiles) {
  const std::string path = temporaryFolder() + "/bad.npy";
  auto expectError = [&](const std::vector<uint8_t> &bytes, const std::string &text) {
    writeFile(path, bytes);
    Array ignored;
    auto error = readNpy(path, ignored);
    ASSERT_TRUE(error) << text;
    EXPECT_NE(error->find(text), std::string::npos) << *error;
  };
  Array array;
  EXPECT_TRUE(readNpy(path + ".missing", array));
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
  writeFile(path, npy(good, 8, 2));
  EXPECT_FALSE(readNpy(path, array));
  writeFile(path, npy("{\"shape\": (2, 1), \"fortran_order\": False, \"descr\": '<f4'}\n", 8, 3));
  EXPECT_FALSE(readNpy(path, array));

  expectError({}, "not a .npy file");
  expectError(npy(good, 8, 9), "version 9");
  expectError(npy(good, 7), "expects 8 bytes of data, got 7");
  expectError(npy(good, 9), "expects 8 bytes of data, got 9");
  std::vector<uint8_t> cut = npy(good, 0);
  cut.resize(30);
  expectError(cut, "truncated");
  expectError(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8), "'>f4'");
  expectError(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8), "structured");
  expectError(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,2), }", 8), "Fortran");
  expectError(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,2), }", 8), "too large");
  expectError(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 8), "too large");
  expectError(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", 8), "whole number");
  expectError(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4), "dimensions");
  expectError(npy("{'descr': '<f4', 'fortran_order': False, }", 8), "lacks");
  expectError(npy("{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }", 8), "unexpected key");
  expectError(npy(good + "x", 8), "followed by something else");
  expectError(npy("{'descr: ", 8), "expects a key");
}

class SetunRunTest : public testing::Test {
protected:
  const std::string folder = temporaryFolder();
  const std::string model = folder + "/run.setun";
  const std::string tokens = folder + "/tokens.npy";

  void SetUp() override {
    writeFile(model, packageBytes());
    ASSERT_FALSE(writeNpy(tokens, array<int64_t>(SETUN_I64, {3}, {4, 0, 6})));
  }
};

TEST_F(SetunRunTest, WritesOutputs) {
  for (const char *options : {"", " --threads 3", " --threads=1 --context 3 --target base --check"}) {
    const std::string out = folder + "/out";
    std::filesystem::remove_all(out);
    expectRun(model + " --entry forward --input tokens=" + tokens + " --output-dir " + out + options, 0, "");
    Array logits;
    auto error = readNpy(out + "/logits.npy", logits);
    ASSERT_FALSE(error) << *error;
    EXPECT_EQ(logits.dtype, SETUN_F32);
    EXPECT_EQ(logits.shape, (std::vector<int64_t>{3, kVocab}));
    const std::vector<float> expected = expectedLogits({}, {4, 0, 6});
    ASSERT_EQ(logits.data.size(), expected.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(logits.data.data(), expected.data(), logits.data.size()), 0);
  }
}

TEST_F(SetunRunTest, Lists) {
  expectRun("--help", 0, "usage: setun-run");
  expectRun("--version", 0, "setun-run ");
  expectRun(model + " --list", 0, "  input  tokens: i64 [T]");
  expectRun(model + " --list", 0, "target base");
  expectRun(model + " --json", 0, "\"layers\"");
  expectRun(model + " --check", 0, "");
}

TEST_F(SetunRunTest, ReportsMistakes) {
  expectRun("", 2, "expects a package");
  expectRun(model, 2, "expects --entry");
  expectRun(model + " --entry", 2, "expects a value");
  expectRun(model + " --nonsense 1", 2, "unknown option --nonsense ");
  expectRun(model + " --nonsense=1", 2, "unknown option --nonsense ");
  expectRun(model + " --list=1", 2, "option --list expects no value, got '1'");
  expectRun(model + " other --list", 2, "expects one package");
  expectRun(model + " --entry forward --input tokens", 2, "NAME=FILE");
  expectRun(model + " --entry forward --threads 0", 2, "--threads");
  expectRun(model + " --entry forward --threads 2x", 2, "'2x'");
  expectRun(model + " --list --output-dir x", 2, "go with --entry");

  expectRun(folder + "/missing.setun --list", 1, "cannot open");
  expectRun(tokens + " --list", 1, "fewer than");
#ifdef __linux__
  expectRun(model + " --json >/dev/full", 1, "");
#endif
  expectRun(model + " --entry nothing", 1, "no entry 'nothing'");
  expectRun(model + " --entry forward", 1, "needs --input tokens=FILE.npy");
  expectRun(model + " --entry forward --input tokens=" + tokens + " --input more=" + tokens, 1, "no input 'more'");
  expectRun(model + " --entry forward --input tokens=" + tokens + " --input tokens=" + tokens, 1, "twice");
  expectRun(model + " --entry forward --input tokens=" + folder + "/missing.npy", 1, "cannot open");
  expectRun(model + " --entry forward --target v9 --input tokens=" + tokens, 1, "no code section for target 'v9'");
  expectRun(model + " --entry forward --context 2 --input tokens=" + tokens, 1, "exceed its context of 2");
  expectRun(model + " --entry forward --context 65 --input tokens=" + tokens, 1, "at most 64 tokens");
  ASSERT_FALSE(writeNpy(tokens, array<float>(SETUN_F32, {3}, {4, 0, 6})));
  expectRun(model + " --entry forward --input tokens=" + tokens, 1, "expects i64, got f32");
  ASSERT_FALSE(writeNpy(tokens, array<int64_t>(SETUN_I64, {3}, {4, 0, 6})));
  expectRun(model + " --entry forward --input tokens=" + tokens + " --output-dir " + model, 1, "cannot create");

  std::vector<uint8_t> damaged = packageBytes();
  damaged[4096] ^= 1; // the first weight
  writeFile(model, damaged);
  expectRun(model + " --list", 0, "forward");
  expectRun(model + " --check", 1, "checksum does not match");
}

TEST(Embed, PrintsTheLikeliestToken) {
  const std::string model = temporaryFolder() + "/embed.setun";
  writeFile(model, packageBytes());
  for (const std::vector<int64_t> &tokens : {std::vector<int64_t>{6, 6}, std::vector<int64_t>{0}}) {
    std::string command = SETUN_EMBED " " + model;
    for (int64_t token : tokens)
      command += " " + std::to_string(token);
    const std::vector<float> logits = expectedLogits({}, tokens);
    const auto best = std::max_element(logits.end() - kVocab, logits.end()) - (logits.end() - kVocab);
    const Result result = runCommand(command);
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.output, std::to_string(best) + "\n");
  }
  const Result result = runCommand(SETUN_EMBED " " + model + " 1 2 3 4 5 6 6" + std::string(100, ' ') + "nonsense");
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(runCommand(SETUN_EMBED " " + model).status, 0) << "no tokens";
  EXPECT_NE(runCommand(SETUN_EMBED).status, 0) << "no package";
}
