//===- SelfTests.cpp - recorded runs of each kind of kernel -----------------------===//
#include "lib/Driver/SelfTests.h"

#include "dialects/BitNet/BitNet.h"
#include "lib/Reference/Interpreter.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <set>
#include <tuple>

using namespace mlir;
using namespace setun;

namespace {

/// Tests stay small: longer groups, which only repeat the steps of their kernels, are tested at this length.
constexpr int64_t kLongestGroup = 256;

/// What makes layers use different kernels.
struct Kind {
  unsigned bits = 2; // of a weight
  bool quantised = true;
  int64_t group = 0;
  /// Also a gated unit, with this activation.
  bitnet::GateAct act = bitnet::GateAct::Relu2;

  bool operator<(const Kind &other) const {
    return std::tie(bits, quantised, group) < std::tie(other.bits, other.quantised, other.group);
  }
  std::string name() const {
    std::string text = bits == 1 ? "__selftest_binary" : bits == 2 ? "__selftest_ternary" : "__selftest_bytes";
    if (!quantised)
      text += "_weight_only";
    if (group)
      text += "_group" + std::to_string(group);
    return text;
  }
};

std::set<Kind> kindsOf(ModuleOp module) {
  bitnet::GateAct act = bitnet::GateAct::Relu2;
  module.walk([&](bitnet::GatedOp op) {
    if (op.getAct() == bitnet::GateAct::Silu)
      act = bitnet::GateAct::Silu;
  });
  std::set<Kind> kinds;
  auto add = [&](Value weights, bool quantised, int64_t group) {
    kinds.insert(
        {cast<ShapedType>(weights.getType()).getElementTypeBitWidth(), quantised, std::min(group, kLongestGroup), act});
  };
  module.walk([&](Operation *op) {
    if (auto linear = dyn_cast<bitnet::LinearOp>(op))
      add(linear.getW(), linear.getActivation().has_value(),
          linear.getScales().getKind() == bitnet::ScaleKind::Group ? linear.getScales().getGroup() : 0);
    else if (auto matmul = dyn_cast<bitnet::MatmulOp>(op))
      add(matmul.getW(), matmul.getSums() != nullptr, matmul.getGroup().value_or(0));
    else if (auto conv = dyn_cast<bitnet::Conv2DOp>(op)) // a product of patches
      add(conv.getW(), /*quantised=*/true, /*group=*/0);
  });
  return kinds;
}

/// Numbers without pattern that are the same everywhere.
class Numbers {
public:
  uint32_t next(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33) % below;
  }
  /// An exact multiple of 1/64 in [-8, 8).
  float activation() { return (static_cast<int>(next(1024)) - 512) / 64.0f; }

private:
  uint64_t state = 0x5e7u;
};

/// Writes the function of a test as text, which is shorter than building it.
class Writer {
public:
  explicit Writer(const Kind &kind) : kind(kind) {}

  std::string write();

  // Neither a multiple of a panel's rows, a step's columns nor a vector; more than one panel and more than one group.
  int64_t columns() const { return kind.group ? kind.group + 36 : 37; }
  static constexpr int64_t rows = 134;
  // Many enough that operands are unpacked once for all, tables made and tiles used (ternary-select-kernels does so
  // from 16 tokens on in these functions), and no multiple of any tile.
  static constexpr int64_t tokens = 21;

private:
  std::string scalesType(int64_t n, int64_t k) const {
    if (!kind.group)
      return "tensor<1xf32>";
    return "tensor<" + std::to_string(n) + "x" + std::to_string(bitnet::groupCount(k, kind.group)) + "xf32>";
  }
  std::string matrixType(int64_t n, int64_t k) const {
    return "tensor<" + std::to_string(n) + "x" + std::to_string(k) + "xi" + std::to_string(kind.bits) + ">";
  }
  static std::string rowsType(int64_t k) { return "tensor<?x" + std::to_string(k) + "xf32>"; }
  void weights(StringRef name, int64_t n, int64_t k);
  /// %<name> = linear(%x), with the weights %<name>_w.
  void linear(StringRef name, StringRef x, int64_t n, int64_t k, bool norm);

  Kind kind;
  Numbers numbers;
  std::string text;
};

void Writer::weights(StringRef name, int64_t n, int64_t k) {
  llvm::raw_string_ostream stream(text);
  stream << "  %" << name << "_w = arith.constant dense<[";
  for (int64_t r = 0; r < n; ++r) {
    stream << (r ? ", [" : "[");
    for (int64_t c = 0; c < k; ++c) {
      stream << (c ? ", " : "");
      // The first row meets the largest sums.
      const int largest = kind.bits == 8 ? 127 : 1;
      if (kind.bits == 1)
        stream << (r == 0 || numbers.next(2) ? "true" : "false");
      else
        stream << (r == 0 ? largest : static_cast<int>(numbers.next(2 * largest + 1)) - largest);
    }
    stream << "]";
  }
  stream << "]> : " << matrixType(n, k) << "\n  %" << name << "_s = arith.constant dense<";
  int64_t groups = bitnet::groupCount(k, kind.group);
  for (int64_t r = 0; kind.group && r < n; ++r) {
    stream << (r ? ", [" : "[[");
    for (int64_t g = 0; g < groups; ++g)
      stream << (g ? ", " : "") << llvm::format("%.6f", (1 + numbers.next(100)) / 1024.0);
    stream << (r + 1 == n ? "]]" : "]");
  }
  if (!kind.group)
    stream << llvm::format("%.6f", (1 + numbers.next(100)) / 1024.0);
  stream << "> : " << scalesType(n, k) << "\n";
}

void Writer::linear(StringRef name, StringRef x, int64_t n, int64_t k, bool norm) {
  weights(name, n, k);
  llvm::raw_string_ostream stream(text);
  stream << "  %" << name << " = bitnet.linear %" << x << ", %" << name << "_w scale(%" << name << "_s)"
         << (norm ? " norm_weight(%gain)" : "") << " {";
  if (kind.quantised)
    stream << "activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, ";
  if (norm)
    stream << "norm = #bitnet.norm<rms, eps = 1.0e-5>, ";
  stream << "scales = #bitnet.scales<";
  if (kind.group)
    stream << "group = " << kind.group;
  else
    stream << "tensor";
  stream << ">} : (" << rowsType(k) << ", " << matrixType(n, k) << ", " << scalesType(n, k);
  if (norm)
    stream << ", tensor<" << k << "xf32>";
  stream << ") -> " << rowsType(n) << "\n";
}

std::string Writer::write() {
  const int64_t k = columns(), n = rows;
  auto argument = [&](StringRef name, int64_t size) {
    return rowsType(size) + " {bitnet.name = \"" + name.str() + "\", bitnet.dims = [\"T\"]}";
  };
  text = "func.func @" + kind.name() + "(%x: " + argument("x", k) + ") -> (" + argument("plain", n) + ", " +
         argument("block", k) + ") attributes {bitnet.entry} {\n";
  text += "  %gain = arith.constant dense<[";
  for (int64_t c = 0; c < k; ++c)
    text += (c ? ", " : "") + std::to_string(0.5 + numbers.next(64) / 64.0);
  text += "]> : tensor<" + std::to_string(k) + "xf32>\n";
  // One layer by itself, and a gated unit as in a transformer: norm and quantisation before two matmuls of one input,
  // the gate after them, and a residual.
  linear("plain", "x", n, k, /*norm=*/true);
  std::string rowsK = rowsType(k), gain = "tensor<" + std::to_string(k) + "xf32>";
  text += "  %h = bitnet.rms_norm %x, %gain {eps = 1.0e-5 : f32} : " + rowsK + ", " + gain + "\n";
  linear("gate", "h", n, k, false);
  linear("up", "h", n, k, false);
  text += "  %f = bitnet.gated %gate, %up {act = #bitnet.gate_act<" + bitnet::stringifyGateAct(kind.act).str() +
          ">} : " + rowsType(n) + "\n";
  linear("down", "f", k, n, false);
  text += "  %block = arith.addf %x, %down : " + rowsK + "\n";
  text += "  return %plain, %block : " + rowsType(n) + ", " + rowsK + "\n}\n";
  return text;
}

std::vector<uint8_t> bytesOf(const reference::Tensor &tensor) {
  return std::vector<uint8_t>(tensor.data<uint8_t>(), tensor.data<uint8_t>() + tensor.byteSize());
}

/// Moves the function `name` of the module that `text` is into `module`, with what the interpreter says of its run.
llvm::Expected<package::SelfTest> record(ModuleOp module, StringRef name, StringRef text,
                                         ArrayRef<reference::NamedTensor> inputs) {
  if (module.lookupSymbol(name))
    return llvm::createStringError("the name " + name + " is reserved for self-tests");
  ParserConfig config(module.getContext());
  OwningOpRef<ModuleOp> parsed = parseSourceString<ModuleOp>(text, config, "<self-test>");
  if (!parsed)
    return llvm::createStringError("the self-test " + name + " does not parse");
  auto results = reference::interpret(*parsed, name, inputs, reference::Options());
  if (!results)
    return llvm::joinErrors(llvm::createStringError("the self-test " + name + " cannot be computed"),
                            results.takeError());
  package::SelfTest test;
  test.entry = name.str();
  for (const reference::NamedTensor &input : inputs)
    test.inputs.push_back(bytesOf(input.value));
  for (const reference::NamedTensor &result : *results)
    test.outputs.push_back(bytesOf(result.value));
  func::FuncOp function = *parsed->getOps<func::FuncOp>().begin();
  function->remove();
  module.push_back(function);
  return test;
}

llvm::Expected<package::SelfTest> addSelfTest(ModuleOp module, const Kind &kind) {
  Writer writer(kind);
  reference::Tensor x(Float32Type::get(module.getContext()), {Writer::tokens, writer.columns()});
  Numbers numbers;
  float *values = x.mutableData<float>();
  for (int64_t i = 0; i < x.size(); ++i)
    values[i] = numbers.activation();
  // A token of zeros, whose scale comes from eps, and one that is all the largest code.
  for (int64_t c = 0; c < writer.columns(); ++c) {
    values[writer.columns() + c] = 0.0f;
    values[2 * writer.columns() + c] = 3.0f;
  }
  auto test = record(module, kind.name(), writer.write(), {{"x", x}});
  if (test)
    test->dims["T"] = Writer::tokens;
  return test;
}

/// The choice of the largest logits, among ties, a row of zeros and a padded panel.
llvm::Expected<package::SelfTest> addChoiceSelfTest(ModuleOp module) {
  constexpr int64_t n = 75, k = 37, length = 9;
  constexpr StringLiteral name("__selftest_choice");
  Numbers numbers;
  std::string text;
  llvm::raw_string_ostream stream(text);
  std::string matrix = llvm::formatv("tensor<{0}x{1}xbf16>", n, k), x = llvm::formatv("tensor<1x{0}xf32>", k),
              results = llvm::formatv("tensor<{0}xi64>, tensor<{0}xf32>", length);
  stream << "func.func @" << name << "(%x: " << x << " {bitnet.name = \"x\"}, %k: tensor<1xi64> {bitnet.name = \"k\"})"
         << llvm::formatv(" -> (tensor<{0}xi64> {{bitnet.name = \"ids\"}, tensor<{0}xf32> {{bitnet.name = \"logits\"})",
                          length)
         << " attributes {bitnet.entry} {\n  %w = arith.constant dense<[";
  std::vector<std::string> rows;
  for (int64_t r = 0; r < n; ++r) {
    std::string row;
    for (int64_t c = 0; c < k; ++c)
      llvm::raw_string_ostream(row) << (c ? ", " : "[")
                                    << llvm::format("%.4f",
                                                    r == 3 ? 0.0 : (static_cast<int>(numbers.next(128)) - 64) / 16.0);
    rows.push_back(r % 20 == 19 ? rows[r - 10] : row + "]");
    stream << (r ? ", " : "") << rows.back();
  }
  stream << "]> : " << matrix << "\n  %ids, %logits = bitnet.top_k %x, %w, %k : (" << x << ", " << matrix
         << ", tensor<1xi64>) -> (" << results << ")\n  return %ids, %logits : " << results << "\n}\n";
  reference::Tensor vector(Float32Type::get(module.getContext()), {1, k}),
      count(IntegerType::get(module.getContext(), 64), {1});
  for (int64_t c = 0; c < k; ++c)
    vector.mutableData<float>()[c] = numbers.activation();
  count.setInt(0, length - 1);
  return record(module, name, text, {{"x", vector}, {"k", count}});
}

} // namespace

llvm::Expected<std::vector<package::SelfTest>> setun::addSelfTests(ModuleOp module) {
  std::vector<package::SelfTest> tests;
  bool chooses = false;
  module.walk([&](bitnet::TopKOp) { chooses = true; });
  if (chooses) {
    auto test = addChoiceSelfTest(module);
    if (!test)
      return test.takeError();
    tests.push_back(std::move(*test));
  }
  for (const Kind &kind : kindsOf(module)) {
    auto test = addSelfTest(module, kind);
    if (!test)
      return test.takeError();
    tests.push_back(std::move(*test));
  }
  return tests;
}
