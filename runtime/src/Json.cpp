//===- Json.cpp - description of a package as JSON ------------------------===//
#include "Package.h"

#include <cinttypes>
#include <cstdio>

using namespace setun::runtime;

namespace {

/// Writes JSON, putting in commas and line breaks. Values of lists and objects follow each other in the order written.
class JsonWriter {
public:
  void beginObject() { begin('{'); }
  void endObject() { end('}'); }
  void beginList() { begin('['); }
  void endList() { end(']'); }
  void key(const std::string &name) {
    separate();
    string(name);
    text += ": ";
    afterKey = true;
  }
  void value(const std::string &string_) {
    separate();
    string(string_);
  }
  void value(const char *string_) { value(std::string(string_)); }
  void value(int64_t number) {
    separate();
    text += std::to_string(number);
  }
  void value(bool flag) {
    separate();
    text += flag ? "true" : "false";
  }
  void null() {
    separate();
    text += "null";
  }

  std::string take() { return std::move(text); }

private:
  void begin(char bracket) {
    separate();
    text += bracket;
    depth++;
    first = true;
  }
  void end(char bracket) {
    depth--;
    if (!first)
      newline();
    text += bracket;
    first = false;
  }
  void newline() {
    text += '\n';
    text.append(2 * depth, ' ');
  }
  void separate() {
    if (afterKey) {
      afterKey = false;
      return;
    }
    if (!first)
      text += ',';
    if (depth)
      newline();
    first = false;
  }
  void string(const std::string &raw) {
    text += '"';
    for (char c : raw) {
      if (c == '"' || c == '\\') {
        text += '\\';
        text += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        char escape[8];
        std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
        text += escape;
      } else {
        text += c;
      }
    }
    text += '"';
  }

  std::string text;
  size_t depth = 0;
  bool first = true;
  bool afterKey = false;
};

void writeTensors(JsonWriter &json, const char *role, const std::vector<Tensor> &tensors) {
  json.key(role);
  json.beginList();
  for (const Tensor &tensor : tensors) {
    json.beginObject();
    json.key("name");
    json.value(tensor.name);
    json.key("dtype");
    json.value(setun_dtype_name(tensor.dtype));
    json.key("shape");
    json.beginList();
    for (size_t i = 0; i < tensor.sizes.size(); ++i) {
      if (tensor.symbolNames[i])
        json.value(tensor.symbolNames[i]);
      else
        json.value(tensor.sizes[i]);
    }
    json.endList();
    if (tensor.below) {
      json.key("below");
      json.value(tensor.below);
    }
    json.endObject();
  }
  json.endList();
}

void writeSymbol(JsonWriter &json, const char *name, const Entry &entry, int32_t symbol) {
  json.key(name);
  if (symbol >= 0)
    json.value(entry.symbols[symbol]);
  else
    json.null();
}

void writeEntry(JsonWriter &json, const Entry &entry) {
  json.beginObject();
  json.key("name");
  json.value(entry.name);
  writeTensors(json, "inputs", entry.inputs);
  writeTensors(json, "states", entry.states);
  writeTensors(json, "outputs", entry.outputs);
  json.key("uses_position");
  json.value(entry.usesPosition);
  json.key("resets_session");
  json.value(entry.resetsSession);
  json.key("max_context");
  json.value(entry.maxContext);
  writeSymbol(json, "token_symbol", entry, entry.tokenSymbol);
  json.key("tokens");
  json.value(entry.tokens);
  writeSymbol(json, "capacity_symbol", entry, entry.capacitySymbol);
  json.endObject();
}

void writeLayer(JsonWriter &json, const Layer &layer) {
  json.beginObject();
  json.key("name");
  json.value(layer.name);
  json.key("rows");
  json.value(layer.rows);
  json.key("cols");
  json.value(layer.cols);
  json.key("format");
  json.value(layer.format);
  json.key("scale");
  json.value(layer.scale);
  json.key("bytes");
  json.value(layer.bytes);
  json.key("kernels");
  json.beginList();
  for (const LayerKernel &kernel : layer.kernels) {
    json.beginObject();
    json.key("target");
    json.value(kernel.target);
    json.key("kernel");
    json.value(kernel.kernel);
    if (!kernel.format.empty()) {
      json.key("format");
      json.value(kernel.format);
    }
    // Packages of older compilers have none of these, and few are measured.
    auto number = [&](const char *name, int64_t value, bool always) {
      if (value || always) {
        json.key(name);
        json.value(value);
      }
    };
    number("tokens", kernel.tokens, false);
    number("staged", kernel.staged, kernel.tokens != 0);
    number("predicted_decode", kernel.predictedDecode, false);
    number("predicted_prefill", kernel.predictedPrefill, false);
    number("measured_decode", kernel.measuredDecode, false);
    number("measured_prefill", kernel.measuredPrefill, false);
    json.endObject();
  }
  json.endList();
  json.endObject();
}

} // namespace

std::string setun::runtime::describe(const Package &package) {
  const Manifest &manifest = package.manifest();
  JsonWriter json;
  json.beginObject();
  json.key("bytes");
  json.value(static_cast<int64_t>(package.fileSize()));
  json.key("weights_bytes");
  json.value(static_cast<int64_t>(package.weightsSize()));

  json.key("entries");
  json.beginList();
  for (const Entry &entry : manifest.entries)
    writeEntry(json, entry);
  json.endList();

  json.key("targets");
  json.beginList();
  for (size_t i = 0; i < manifest.codes.size(); ++i) {
    const Code &code = manifest.codes[i];
    json.beginObject();
    json.key("name");
    json.value(code.target);
    json.key("arch");
    json.value(code.arch);
    json.key("features");
    json.beginList();
    for (const std::string &feature : code.features)
      json.value(feature);
    json.endList();
    json.key("bytes");
    json.value(static_cast<int64_t>(package.sectionSize(code.section)));
    json.key("runnable");
    json.value(package.runnable(code));
    json.key("selected");
    json.value(static_cast<int32_t>(i) == package.selected());
    json.endObject();
  }
  json.endList();

  json.key("layers");
  json.beginList();
  for (const Layer &layer : manifest.layers)
    writeLayer(json, layer);
  json.endList();

  json.key("files");
  json.beginList();
  for (const File &file : manifest.files) {
    json.beginObject();
    json.key("name");
    json.value(file.name);
    json.key("bytes");
    json.value(static_cast<int64_t>(package.sectionSize(file.section)));
    json.endObject();
  }
  json.endList();

  json.key("self_tests");
  json.value(static_cast<int64_t>(manifest.selfTests.size()));
  json.key("provenance");
  json.beginObject();
  for (const auto &item : manifest.provenance) {
    json.key(item.first);
    json.value(item.second);
  }
  json.endObject();
  json.endObject();
  return json.take();
}
