//===- MatrixKernels.cpp - kernels chosen by hand or by measurement ----------------===//
#include "lib/Target/MatrixKernels.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"

#include <optional>

using namespace llvm;
using namespace setun;
using packing::WeightKind;

std::string setun::toString(const MatrixShape &shape) {
  std::string text = std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
  if (shape.binary)
    text += ":binary";
  if (shape.gated)
    text += ":gated";
  if (shape.group)
    text += ":group" + std::to_string(shape.group);
  return text;
}

std::string setun::toString(const MatrixKernel &kernel) {
  return toString(kernel.shape) + ":" + kernel.row->name.str() + ":" + packing::layoutName(kernel.kind) + ":" +
         std::to_string(kernel.tokens) + ":" + std::to_string(kernel.staged);
}

static Error wrong(const Twine &message) { return createStringError(message); }

/// Takes the row and the layout by their names, and checks everything against everything.
static Error complete(MatrixKernel &kernel, StringRef row, StringRef format) {
  const MatrixShape &shape = kernel.shape;
  constexpr int64_t limit = int64_t(1) << 40;
  if (shape.rows < 1 || shape.cols < 1 || shape.rows > limit || shape.cols > limit)
    return wrong("expects rows and cols of 1 or more, got " + Twine(shape.rows) + " x " + Twine(shape.cols));
  if (shape.gated && shape.rows % 2)
    return wrong("expects an even number of rows for a gated pair, got " + Twine(shape.rows));
  if (shape.group < 0 || shape.group > shape.cols)
    return wrong("expects a group of 0 to " + Twine(shape.cols) + " columns, got " + Twine(shape.group));
  kernel.row = findKernelRow(row);
  if (!kernel.row) {
    std::string names;
    for (const KernelRow &known : kernelRows())
      names += (names.empty() ? "" : ", ") + known.name.str();
    return wrong("unknown kernel '" + row + "', expects one of " + names);
  }
  const std::string binary = packing::layoutName(WeightKind::Binary);
  std::optional<WeightKind> found = findTernaryLayout(format);
  if (shape.binary)
    found = format == binary ? std::optional(WeightKind::Binary) : std::nullopt;
  if (!found)
    return wrong("expects the format " + (shape.binary ? binary : ternaryLayoutNames()) + " for " +
                 (shape.binary ? "binary" : "ternary") + " weights, got '" + format + "'");
  kernel.kind = *found;
  if (shape.cols > kernel.row->maxColumns(kernel.kind))
    return wrong("kernel '" + row + "' on " + format + " is exact up to " + Twine(kernel.row->maxColumns(kernel.kind)) +
                 " columns, got " + Twine(shape.cols));
  if (kernel.tokens < 1 || kernel.tokens > MatrixKernel::kMaxTokens)
    return wrong("expects 1 to " + Twine(MatrixKernel::kMaxTokens) + " tokens, got " + Twine(kernel.tokens));
  if (kernel.staged < 0 || kernel.staged > MatrixKernel::kMaxStaged)
    return wrong("expects staged from 0 to " + Twine(MatrixKernel::kMaxStaged) + ", got " + Twine(kernel.staged));
  if (kernel.staged && shape.group)
    return wrong("matrices with groups are not staged, got staged = " + Twine(kernel.staged));
  if (kernel.staged && kernel.row->isScalable())
    return wrong("kernel '" + row + "' is not staged, got staged = " + Twine(kernel.staged));
  if (kernel.measuredDecode < 0 || kernel.measuredPrefill < 0)
    return wrong("expects measurements that are not negative");
  return Error::success();
}

Expected<MatrixKernel> setun::parseMatrixKernel(StringRef text) {
  auto malformed = [&](const Twine &what) {
    return wrong("expects ROWSxCOLS[:binary][:gated][:groupN]:KERNEL:FORMAT:TOKENS:STAGED, got '" + text + "'" + what);
  };
  SmallVector<StringRef> parts;
  text.split(parts, ':');
  MatrixKernel kernel;
  auto [rows, cols] = parts.front().split('x');
  if (rows.getAsInteger(10, kernel.shape.rows) || cols.getAsInteger(10, kernel.shape.cols))
    return malformed("");
  size_t next = 1;
  for (; next + 4 < parts.size(); ++next) {
    StringRef part = parts[next];
    if (part == "binary")
      kernel.shape.binary = true;
    else if (part == "gated")
      kernel.shape.gated = true;
    else if (!part.consume_front("group") || part.getAsInteger(10, kernel.shape.group))
      return malformed("");
  }
  if (parts.size() != next + 4 || parts[next + 2].getAsInteger(10, kernel.tokens) ||
      parts[next + 3].getAsInteger(10, kernel.staged))
    return malformed("");
  if (Error error = complete(kernel, parts[next], parts[next + 1]))
    return malformed(": " + llvm::toString(std::move(error)));
  return kernel;
}

static Expected<MatrixKernel> readOne(const json::Value &value) {
  const json::Object *object = value.getAsObject();
  if (!object)
    return wrong("expects an object");
  MatrixKernel kernel;
  std::string row, format;
  struct Number {
    const char *name;
    int64_t *place;
    bool required, found = false;
  } numbers[] = {{"rows", &kernel.shape.rows, true},
                 {"cols", &kernel.shape.cols, true},
                 {"tokens", &kernel.tokens, true},
                 {"group", &kernel.shape.group, false},
                 {"staged", &kernel.staged, false},
                 {"measured_decode", &kernel.measuredDecode, false},
                 {"measured_prefill", &kernel.measuredPrefill, false}};
  struct Flag {
    const char *name;
    bool *place;
  } flags[] = {{"binary", &kernel.shape.binary}, {"gated", &kernel.shape.gated}};
  struct Text {
    const char *name;
    std::string *place;
    bool required;
  } texts[] = {{"row", &row, true}, {"format", &format, true}, {"target", &kernel.target, false}};

  for (const auto &[key, item] : *object) {
    StringRef name = key;
    bool known = false;
    for (Number &number : numbers)
      if (name == number.name) {
        std::optional<int64_t> got = item.getAsInteger();
        if (!got)
          return wrong("expects an integer for '" + name + "'");
        *number.place = *got;
        known = number.found = true;
      }
    for (Flag &flag : flags)
      if (name == flag.name) {
        std::optional<bool> got = item.getAsBoolean();
        if (!got)
          return wrong("expects true or false for '" + name + "'");
        *flag.place = *got;
        known = true;
      }
    for (Text &text : texts)
      if (name == text.name) {
        std::optional<StringRef> got = item.getAsString();
        if (!got || got->empty())
          return wrong("expects a string for '" + name + "'");
        *text.place = got->str();
        known = true;
      }
    if (!known)
      return wrong("unknown field '" + name + "'");
  }
  for (const Number &number : numbers)
    if (number.required && !number.found)
      return wrong(Twine("expects the field '") + number.name + "'");
  for (const Text &text : texts)
    if (text.required && text.place->empty())
      return wrong(Twine("expects the field '") + text.name + "'");
  if (Error error = complete(kernel, row, format))
    return std::move(error);
  return kernel;
}

Expected<std::vector<MatrixKernel>> setun::readMatrixKernels(StringRef text) {
  Expected<json::Value> parsed = json::parse(text);
  if (!parsed)
    return parsed.takeError();
  const json::Array *list = parsed->getAsArray();
  if (!list)
    return wrong("expects a list of kernels");
  std::vector<MatrixKernel> kernels;
  for (size_t i = 0; i < list->size(); ++i) {
    Expected<MatrixKernel> kernel = readOne((*list)[i]);
    if (!kernel)
      return wrong("kernel " + Twine(i + 1) + ": " + llvm::toString(kernel.takeError()));
    for (const MatrixKernel &other : kernels)
      if (other.shape == kernel->shape &&
          (other.target.empty() || kernel->target.empty() || other.target == kernel->target))
        return wrong("kernel " + Twine(i + 1) + ": " + toString(kernel->shape) + " has a kernel already");
    kernels.push_back(std::move(*kernel));
  }
  return kernels;
}
