//===- CompilerTest.cpp - the compiler as a function ------------------------------===//
#include "setun/Compiler.h"
#include "setun/setun.h"

#include "gtest/gtest.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

using namespace setun;
namespace fs = std::filesystem;

namespace {

const char *const layer = R"(
module attributes {bitnet.provenance = {source = "CompilerTest"}} {
  func.func @forward(%x: tensor<?x36xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
      -> (tensor<?x70xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
    %w = bitnet.weight "up.weight" : tensor<70x36xi2>
    %s = arith.constant dense<0.5> : tensor<1xf32>
    %y = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
         scales = #bitnet.scales<tensor>} : (tensor<?x36xf32>, tensor<70x36xi2>, tensor<1xf32>) -> tensor<?x70xf32>
    return %y : tensor<?x70xf32>
  }
})";

class CompilerTest : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "setun-compiler-test-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    writeWeights();
    options.targets = {"x86-64-v2"};
    options.weightFiles = {path("w.safetensors")};
  }
  void TearDown() override { fs::remove_all(folder); }

  std::string path(const std::string &name) const { return (folder / name).string(); }

  /// One I8 tensor of ones.
  void writeWeights() {
    writeWeights(R"({"up.weight":{"dtype":"I8","shape":[70,36],"data_offsets":[0,2520]}})", std::string(2520, '\1'));
  }
  void writeWeights(std::string header, const std::string &data) {
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::ofstream file(path("w.safetensors"), std::ios::binary);
    uint64_t size = header.size();
    file.write(reinterpret_cast<const char *>(&size), 8);
    file << header << data;
  }

  /// How many self-tests the package m.setun has.
  int selfTests() const {
    setun_package *package = nullptr;
    EXPECT_EQ(setun_package_open(path("m.setun").c_str(), nullptr, &package), SETUN_OK) << setun_last_error();
    const std::string json = package ? setun_package_json(package) : "", key = "\"self_tests\": ";
    const size_t place = json.find(key);
    EXPECT_NE(place, std::string::npos) << json;
    setun_package_close(package);
    return place == std::string::npos ? -1 : std::atoi(json.c_str() + place + key.size());
  }

  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }

  static std::string firstError(const CompileResult &result) {
    for (const Diagnostic &diagnostic : result.diagnostics)
      if (diagnostic.severity == Severity::Error)
        return diagnostic.message;
    return "";
  }

  fs::path folder;
  CompileOptions options;
};

TEST_F(CompilerTest, makesAPackage) {
  options.targets = {"x86-64-v2", "x86-64-v3,x86-64-v4"};
  std::ofstream(path("note.txt")) << "hello";
  options.packageFiles = {{"readme", path("note.txt")}};
  std::vector<std::string> stages;
  double last = 0;
  options.progress = [&](const std::string &stage, const std::string &, double fraction) {
    EXPECT_GE(fraction, 0);
    EXPECT_LE(fraction, 1);
    if (stages.empty() || stages.back() != stage)
      stages.push_back(stage);
    last = fraction;
  };
  CompileResult result = compile(CompileInput::fromText(layer), options, path("m.setun"));
  ASSERT_TRUE(result) << firstError(result);
  EXPECT_TRUE(result.diagnostics.empty());
  ASSERT_EQ(result.sections.size(), 3u);
  EXPECT_EQ(result.sections[1].target, "x86-64-v3");
  EXPECT_EQ(result.outputBytes, fs::file_size(path("m.setun")));
  EXPECT_GT(result.weightBytes, 0u);
  EXPECT_EQ(stages.front(), "parse");
  EXPECT_EQ(stages.back(), "write");
  EXPECT_EQ(last, 1);
  for (const char *stage : {"self-test", "convert", "pack", "lower", "optimise", "emit", "link"})
    EXPECT_NE(std::find(stages.begin(), stages.end(), stage), stages.end()) << stage;
  for (const auto &[stage, seconds] : result.times)
    EXPECT_GE(seconds, 0) << stage;

  // The runtime opens it, repeats the self-tests, and runs it.
  setun_package *package = nullptr;
  ASSERT_EQ(setun_package_open(path("m.setun").c_str(), nullptr, &package), SETUN_OK) << setun_last_error();
  setun_session *session = nullptr;
  ASSERT_EQ(setun_session_create(package, nullptr, &session), SETUN_OK) << setun_last_error();
  std::vector<float> x(3 * 36, 2.0f), y(3 * 70);
  int64_t xShape[] = {3, 36}, yShape[] = {3, 70};
  setun_tensor input = {x.data(), SETUN_F32, 2, xShape}, output = {y.data(), SETUN_F32, 2, yShape};
  uint32_t entry = 0;
  ASSERT_EQ(setun_package_find_entry(package, "forward", &entry), SETUN_OK);
  ASSERT_EQ(setun_session_run(session, entry, &input, 1, &output, 1), SETUN_OK) << setun_last_error();
  // Codes are 127, the activation scale 1 / (0.5 * 127), the weight scale 0.5.
  const float scale = 1.0f / ((1.0f / 2.0f) * 127.0f);
  for (float value : y)
    EXPECT_EQ(value, 36.0f * 127.0f * (scale * 0.5f));
  setun_session_destroy(session);

  setun_layer_info info;
  ASSERT_EQ(setun_package_num_layers(package), 1u);
  ASSERT_EQ(setun_package_layer(package, 0, &info), SETUN_OK);
  EXPECT_STREQ(info.name, "up.weight");
  EXPECT_EQ(info.rows, 70);
  EXPECT_EQ(info.cols, 36);
  EXPECT_STREQ(info.format, "r16k4f4");
  EXPECT_STREQ(info.scale, "tensor");
  EXPECT_EQ(info.bytes, 2 * 9 * 64);
  ASSERT_EQ(info.num_kernels, 3u);
  EXPECT_STREQ(info.kernel_targets[1], "x86-64-v3");
  EXPECT_STREQ(info.kernels[1], "avx2");
  const std::string json = setun_package_json(package);
  EXPECT_NE(json.find("\"source\": \"CompilerTest\""), std::string::npos);
  EXPECT_NE(json.find("\"weights.w.safetensors\": \"2600 bytes, header XXH3 "), std::string::npos) << json;
  setun_package_close(package);
}

TEST_F(CompilerTest, stagesComeAsText) {
  for (const auto &[name, stage] : emitStages()) {
    if (stage == EmitStage::Package)
      continue;
    options.emit = stage;
    CompileResult result = compile(CompileInput::fromText(layer), options, "");
    EXPECT_TRUE(result) << name << ": " << firstError(result);
    EXPECT_NE(result.text.find(stage == EmitStage::Kernels ? "\"rows\":70" : "forward"), std::string::npos) << name;
  }
  options.emit = EmitStage::Package;
  EXPECT_EQ(firstError(compile(CompileInput::fromText(layer), options, "")), "a package expects an output path");
}

TEST_F(CompilerTest, messagesComeWithTheirPlace) {
  std::vector<Diagnostic> seen;
  options.diagnostic = [&](const Diagnostic &diagnostic) { seen.push_back(diagnostic); };
  CompileResult result =
      compile(CompileInput::fromText("func.func @f() {\n  %0 = arith.nothing\n}", "in.mlir"), options, path("m.setun"));
  EXPECT_FALSE(result);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].location, "in.mlir:2:8");
  EXPECT_EQ(seen[0].severity, Severity::Error);
  EXPECT_EQ(toString(seen[0]),
            "in.mlir:2:8: error: custom op 'arith.nothing' is unknown\n  %0 = arith.nothing\n       ^");
  EXPECT_EQ(result.diagnostics.size(), 1u);
  EXPECT_EQ(files(), 1u);
}

TEST_F(CompilerTest, placesBeyondTheSource) {
  CompileResult result =
      compile(CompileInput::fromText(
                  "module { %0 = bitnet.weight \"\" : tensor<4x4xi2> loc(\"in.mlir\":4000000000:7) }", "in.mlir"),
              options, path("m.setun"));
  ASSERT_EQ(result.diagnostics.size(), 1u);
  EXPECT_EQ(result.diagnostics[0].location, "in.mlir:4000000000:7");
  EXPECT_EQ(result.diagnostics[0].sourceLine, "");
  EXPECT_EQ(result.diagnostics[0].column, 0u);
}

/// A layer in floats whose weights, all ones and minus ones, are found to be binary.
std::string rawLayer(const std::string &function, const std::string &weight, const std::string &attributes) {
  return "func.func @" + function + R"((%x: tensor<?x2xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
      -> (tensor<?x4xf32> {bitnet.name = "y", bitnet.dims = ["T"]}))" +
         attributes + "{\n" + weight + R"(
    %y = bitnet.dense %x, %w : (tensor<?x2xf32>, tensor<4x2xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  })";
}

TEST_F(CompilerTest, raisedLayersAreTested) {
  options.targets = {"x86-64-v2", "x86-64-v3"};
  const std::string weight =
      "%w = arith.constant dense<[[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]> : tensor<4x2xf32>";
  CompileResult result = compile(CompileInput::fromText(rawLayer("forward", weight, " attributes {bitnet.entry}")),
                                 options, path("m.setun"));
  ASSERT_TRUE(result) << firstError(result);
  // Each target's passes remark the same.
  ASSERT_EQ(result.diagnostics.size(), 1u);
  EXPECT_EQ(result.diagnostics[0].severity, Severity::Remark);
  EXPECT_EQ(selfTests(), 1);
}

TEST_F(CompilerTest, convolutionsAreTested) {
  CompileResult result = compile(CompileInput::fromText(R"(
  func.func @forward(%x: tensor<?x1x3x3xf32> {bitnet.name = "x", bitnet.dims = ["B"]})
      -> (tensor<?x2x3x3xf32> {bitnet.name = "y", bitnet.dims = ["B"]}) attributes {bitnet.entry} {
    %w = arith.constant dense<[[1, 0, -1, 1, 1, 0, 0, -1, 1], [-1, 1, 1, 0, 1, 1, 0, 0, 0]]> : tensor<2x9xi2>
    %s = arith.constant dense<0.5> : tensor<1xf32>
    %y = bitnet.conv2d %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
         scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, padding = array<i64: 1, 1, 1, 1>}
      : (tensor<?x1x3x3xf32>, tensor<2x9xi2>, tensor<1xf32>) -> tensor<?x2x3x3xf32>
    return %y : tensor<?x2x3x3xf32>
  })"),
                                 options, path("m.setun"));
  ASSERT_TRUE(result) << firstError(result);
  EXPECT_EQ(selfTests(), 1);
}

TEST_F(CompilerTest, testsOfLongGroupsAreSmall) {
  std::string text = layer;
  for (auto [from, to] : {std::pair("#bitnet.scales<tensor>", "#bitnet.scales<group = 1099511627776>"),
                          std::pair("dense<0.5> : tensor<1xf32>", "dense<0.5> : tensor<70x1xf32>"),
                          std::pair("tensor<70x36xi2>, tensor<1xf32>", "tensor<70x36xi2>, tensor<70x1xf32>")})
    text.replace(text.find(from), std::string(from).size(), to);
  CompileResult result = compile(CompileInput::fromText(text), options, path("m.setun"));
  ASSERT_TRUE(result) << firstError(result);
  EXPECT_EQ(selfTests(), 1);
}

TEST_F(CompilerTest, functionsAreRaisedAtTheSameTime) {
  std::string header = "{", text;
  constexpr int count = 300, bytes = 4 * 2 * 4;
  for (int i = 0; i < count; ++i) {
    const std::string name = "w" + std::to_string(i);
    header += (i ? ",\"" : "\"") + name + R"(":{"dtype":"F32","shape":[4,2],"data_offsets":[)" +
              std::to_string(i * bytes) + "," + std::to_string((i + 1) * bytes) + "]}";
    text += rawLayer("f" + std::to_string(i), "%w = bitnet.weight \"" + name + "\" : tensor<4x2xf32>",
                     i ? "" : " attributes {bitnet.entry}");
  }
  std::string values;
  for (int i = 0; i < count * 8; ++i) {
    const float value = i % 3 ? 1.0f : -1.0f;
    values.append(reinterpret_cast<const char *>(&value), 4);
  }
  writeWeights(header + "}", values);
  options.threads = 8;
  options.emit = EmitStage::Ternary;
  CompileResult result = compile(CompileInput::fromText(text), options, "");
  ASSERT_TRUE(result) << firstError(result);
  EXPECT_EQ(result.diagnostics.size(), size_t(count)); // a remark each
}

TEST_F(CompilerTest, namesOfSelfTestsAreReserved) {
  std::string text = layer;
  text.insert(text.rfind('}'), "func.func @__selftest_ternary() { return }\n");
  EXPECT_EQ(firstError(compile(CompileInput::fromText(text), options, path("m.setun"))),
            "the name __selftest_ternary is reserved for self-tests");
}

TEST_F(CompilerTest, nothingIsLeftBehind) {
  // An earlier package stays as it is when its successor fails.
  std::ofstream(path("m.setun")) << "old";
  options.weightFiles.clear();
  CompileResult result = compile(CompileInput::fromText(layer), options, path("m.setun"));
  EXPECT_FALSE(result);
  EXPECT_NE(firstError(result).find("up.weight"), std::string::npos) << firstError(result);
  EXPECT_EQ(fs::file_size(path("m.setun")), 3u);
  EXPECT_EQ(files(), 2u);
}

TEST_F(CompilerTest, canBeCancelled) {
  // At whatever moment it happens.
  for (int after : {0, 1, 2, 3, 5, 8}) {
    int left = after;
    options.cancelled = [&] { return left-- <= 0; };
    CompileResult result = compile(CompileInput::fromText(layer), options, path("m.setun"));
    if (result)
      continue; // it was faster
    EXPECT_NE(firstError(result).find("cancelled"), std::string::npos) << firstError(result);
    EXPECT_EQ(files(), 1u);
  }
}

TEST_F(CompilerTest, probesAreOutputs) {
  options.probe = true;
  options.emit = EmitStage::Ternary;
  CompileResult result = compile(CompileInput::fromText(layer), options, "");
  ASSERT_TRUE(result) << firstError(result);
  EXPECT_NE(result.text.find("probe.up.codes"), std::string::npos);
  EXPECT_NE(result.text.find("probe.up.acc"), std::string::npos);
}

TEST_F(CompilerTest, targetsAreDescribed) {
  std::string error;
  std::vector<TargetInfo> targets = describeTargets("x86-64", error);
  EXPECT_EQ(targets.size(), 6u);
  EXPECT_TRUE(error.empty());
  EXPECT_TRUE(describeTargets("x86-64-v9", error).empty());
  EXPECT_NE(error.find("x86-64-v9"), std::string::npos);
  EXPECT_EQ(targetNames().front(), "host");
}

} // namespace
