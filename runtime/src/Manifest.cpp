//===- Manifest.cpp - what a package says about itself --------------------===//
#include "Manifest.h"

#include "setun/EntryABI.h"
#include "setun/Package_generated.h"

#include <algorithm>
#include <map>
#include <set>

using namespace setun::runtime;
namespace fb = setun::package::fb;
using setun::package::SectionKind;

namespace {

constexpr size_t kMaxNameLength = 4096;
constexpr flatbuffers::uoffset_t kMaxTables = 1000000;
constexpr flatbuffers::uoffset_t kMaxDepth = 16;
/// What texts and bytes may take together. Tables may share them, so a small manifest can stand for terabytes.
constexpr size_t kMaxCopied = size_t(256) << 20;

Status bad(const std::string &where, const std::string &message) {
  return badPackage("manifest: " + (where.empty() ? message : where + ": " + message));
}

/// Valid UTF-8 without control characters (line ends and tabs are allowed in `text`, not in names).
bool isText(const char *data, size_t size, bool name) {
  for (size_t i = 0; i < size;) {
    unsigned char lead = static_cast<unsigned char>(data[i]);
    size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || length > size - i)
      return false;
    if (length == 1) {
      if (lead == 0x7f || (lead < 0x20 && (name || (lead != '\n' && lead != '\r' && lead != '\t'))))
        return false;
    } else {
      uint32_t point = lead & (0xff >> (length + 1));
      for (size_t k = 1; k < length; ++k) {
        unsigned char next = static_cast<unsigned char>(data[i + k]);
        if (next >> 6 != 2)
          return false;
        point = point << 6 | (next & 0x3f);
      }
      const uint32_t smallest = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
      if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
        return false;
    }
    i += length;
  }
  return true;
}

template <typename T> size_t sizeOf(const flatbuffers::Vector<T> *vector) { return vector ? vector->size() : 0; }

/// Copies what a manifest holds of texts and bytes, up to kMaxCopied.
class Copier {
public:
  /// A name: not empty, of sensible length, printable.
  Status name(const flatbuffers::String *text, const std::string &where, std::string &name) {
    if (!text || text->size() == 0)
      return bad(where, "a name is empty");
    if (text->size() > kMaxNameLength)
      return bad(where, "a name has " + std::to_string(text->size()) + " bytes, more than the limit of " +
                            std::to_string(kMaxNameLength));
    if (!isText(text->c_str(), text->size(), true))
      return bad(where, "a name is not printable UTF-8");
    SETUN_RETURN_IF_ERROR(count(sizeof(name) + text->size(), where));
    name = text->str();
    return Status();
  }
  /// A name that may be missing.
  Status optionalName(const flatbuffers::String *text, const std::string &where, std::string &name) {
    return text && text->size() ? this->name(text, where, name) : Status();
  }
  Status names(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>> *list, const std::string &where,
               const std::string &what, std::vector<std::string> &names) {
    for (size_t i = 0; i < sizeOf(list); ++i)
      SETUN_RETURN_IF_ERROR(name(list->Get(i), where + ", " + what + " " + std::to_string(i), names.emplace_back()));
    return Status();
  }
  /// A text of lines; it may be empty.
  Status text(const flatbuffers::String &source, const std::string &where, std::string &text) {
    if (!isText(source.c_str(), source.size(), false))
      return bad(where, "the value is not printable UTF-8");
    SETUN_RETURN_IF_ERROR(count(source.size(), where));
    text = source.str();
    return Status();
  }
  Status bytes(const flatbuffers::Vector<uint8_t> *source, const std::string &where, std::vector<uint8_t> &bytes) {
    SETUN_RETURN_IF_ERROR(count(sizeOf(source), where));
    if (source)
      bytes.assign(source->begin(), source->end());
    return Status();
  }

private:
  Status count(size_t size, const std::string &where) {
    if (size > left)
      return bad(where, "texts and recorded tensors take more than " + std::to_string(kMaxCopied) + " bytes");
    left -= size;
    return Status();
  }

  size_t left = kMaxCopied;
};

/// Reports the second use of a name.
class UniqueNames {
public:
  UniqueNames(std::string where, std::string what) : where(std::move(where)), what(std::move(what)) {}
  Status add(const std::string &name) {
    return names.insert(name).second ? Status() : bad(where, "two " + what + " named " + quoted(name));
  }

private:
  std::string where, what;
  std::set<std::string> names;
};

/// Decodes one entry.
class EntryReader {
public:
  EntryReader(Copier &copier, const fb::Entry &source, Entry &entry) : copier(copier), source(source), entry(entry) {}

  Status read() {
    SETUN_RETURN_IF_ERROR(copier.name(source.name(), "entry", entry.name));
    where = "entry " + quoted(entry.name);
    SETUN_RETURN_IF_ERROR(readSymbols());
    entry.usesPosition = source.uses_position();
    entry.resetsSession = source.resets_session();
    entry.maxContext = source.max_context();
    entry.tokens = source.tokens();
    if (entry.maxContext < 0 || entry.tokens < 0)
      return bad(where, "a number of tokens is negative");
    SETUN_RETURN_IF_ERROR(readIndex(source.token_symbol(), entry.tokenSymbol));
    SETUN_RETURN_IF_ERROR(readIndex(source.capacity_symbol(), entry.capacitySymbol));
    if (entry.usesPosition && entry.tokenSymbol < 0 && entry.tokens == 0)
      return bad(where, "has a position that never advances");
    if (entry.tokenSymbol >= 0 && entry.tokenSymbol == entry.capacitySymbol)
      return bad(where, "the token symbol is the capacity symbol");

    bound.assign(entry.symbols.size(), false);
    if (entry.capacitySymbol >= 0)
      bound[entry.capacitySymbol] = true;
    SETUN_RETURN_IF_ERROR(readTensors(source.states(), "states", entry.states));
    for (const Tensor &state : entry.states)
      for (const Dim &dim : state.shape)
        if (dim.symbol >= 0 && dim.symbol != entry.capacitySymbol)
          return bad(where, "state " + quoted(state.name) + " has the dimension " + quoted(entry.symbols[dim.symbol]) +
                                ", which is not the capacity");
    SETUN_RETURN_IF_ERROR(readTensors(source.inputs(), "inputs", entry.inputs));
    for (const Tensor &input : entry.inputs)
      for (const Dim &dim : input.shape)
        if (dim.symbol >= 0)
          bound[dim.symbol] = true;
    for (size_t i = 0; i < bound.size(); ++i)
      if (!bound[i])
        return bad(where, "no input has the dimension " + quoted(entry.symbols[i]));
    return readTensors(source.outputs(), "outputs", entry.outputs);
  }

private:
  Status readSymbols() {
    const size_t count = sizeOf(source.symbols());
    if (count > kMaxSymbols)
      return bad(where, "has " + std::to_string(count) + " dimension symbols, more than the limit of " +
                            std::to_string(kMaxSymbols));
    UniqueNames unique(where, "dimension symbols");
    SETUN_RETURN_IF_ERROR(copier.names(source.symbols(), where, "dimension symbol", entry.symbols));
    for (const std::string &symbol : entry.symbols)
      SETUN_RETURN_IF_ERROR(unique.add(symbol));
    return Status();
  }

  Status readIndex(int32_t value, int32_t &index) {
    if (value < -1 || value >= static_cast<int64_t>(entry.symbols.size()))
      return bad(where, "dimension symbol " + std::to_string(value) + " of " + std::to_string(entry.symbols.size()));
    index = value;
    return Status();
  }

  Status readTensors(const flatbuffers::Vector<flatbuffers::Offset<fb::Tensor>> *list, const char *role,
                     std::vector<Tensor> &tensors) {
    UniqueNames unique(where, role);
    tensors.resize(sizeOf(list));
    for (size_t i = 0; i < tensors.size(); ++i) {
      SETUN_RETURN_IF_ERROR(readTensor(*list->Get(i), tensors[i]));
      SETUN_RETURN_IF_ERROR(unique.add(tensors[i].name));
    }
    return Status();
  }

  Status readTensor(const fb::Tensor &tensor, Tensor &result) {
    SETUN_RETURN_IF_ERROR(copier.name(tensor.name(), where, result.name));
    const std::string what = "tensor " + quoted(result.name);
    if (tensor.type() > fb::ElementType::MAX)
      return bad(where, what + " has the unknown element type " + std::to_string(static_cast<int>(tensor.type())));
    result.dtype = static_cast<setun_dtype>(tensor.type());
    if (sizeOf(tensor.shape()) > setun::package::kMaxRank)
      return bad(where, what + " has rank " + std::to_string(tensor.shape()->size()) + ", more than the limit of " +
                            std::to_string(setun::package::kMaxRank));
    for (size_t i = 0; i < sizeOf(tensor.shape()); ++i) {
      const fb::Dim &dim = *tensor.shape()->Get(i);
      Dim &copy = result.shape.emplace_back();
      SETUN_RETURN_IF_ERROR(readIndex(dim.symbol(), copy.symbol));
      copy.size = dim.size();
      if (copy.symbol < 0 && copy.size < 1)
        return bad(where, what + " has a dimension of size " + std::to_string(copy.size));
    }
    result.below = tensor.below();
    if (result.below < 0 || (result.below && result.dtype != SETUN_I64))
      return bad(where, what + " has the limit " + std::to_string(result.below) + " on elements of " +
                            setun_dtype_name(result.dtype));
    int64_t bytes;
    if (!result.byteSize(std::vector<int64_t>(entry.symbols.size(), 1).data(), bytes))
      return bad(where, what + " is too large");
    return Status();
  }

  Copier &copier;
  const fb::Entry &source;
  Entry &entry;
  std::string where = "entry";
  std::vector<bool> bound;
};

/// Entries share states by name, so they must agree on them.
Status checkSharedStates(const std::vector<Entry> &entries) {
  std::map<std::string, std::pair<const Entry *, const Tensor *>> seen;
  for (const Entry &entry : entries) {
    for (const Tensor &state : entry.states) {
      auto [it, added] = seen.try_emplace(state.name, &entry, &state);
      const Tensor &other = *it->second.second;
      // Symbols of states are capacities, whatever their name in the entry.
      bool same = added || (state.dtype == other.dtype && state.shape.size() == other.shape.size() &&
                            std::equal(state.shape.begin(), state.shape.end(), other.shape.begin(),
                                       [](const Dim &a, const Dim &b) {
                                         return (a.symbol < 0) == (b.symbol < 0) && (a.symbol >= 0 || a.size == b.size);
                                       }));
      if (!same)
        return bad("entry " + quoted(entry.name),
                   "state " + quoted(state.name) + " differs from that of entry " + quoted(it->second.first->name));
    }
  }
  return Status();
}

Status readOperation(Copier &copier, const fb::Operation &source, const Entry &entry, const std::string &where,
                     setun::package::OperationDesc &operation) {
  SETUN_RETURN_IF_ERROR(copier.name(source.kind(), where, operation.kind));
  SETUN_RETURN_IF_ERROR(copier.optionalName(source.detail(), where, operation.detail));
  SETUN_RETURN_IF_ERROR(copier.optionalName(source.name(), where, operation.name));
  SETUN_RETURN_IF_ERROR(copier.optionalName(source.shape(), where, operation.shape));
  operation.rowsSymbol = source.rows_symbol();
  if (operation.rowsSymbol < -1 || operation.rowsSymbol >= static_cast<int64_t>(entry.symbols.size()))
    return bad(where, "dimension symbol " + std::to_string(operation.rowsSymbol) + " of " +
                          std::to_string(entry.symbols.size()));
  operation.rows = source.rows();
  operation.weightBytes = source.weight_bytes();
  operation.rowBytes = source.row_bytes();
  operation.contextBytes = source.context_bytes();
  operation.int8Macs = source.int8_macs();
  operation.floatMacs = source.float_macs();
  for (int64_t count : {operation.rows, operation.weightBytes, operation.rowBytes, operation.contextBytes,
                        operation.int8Macs, operation.floatMacs})
    if (count < 0)
      return bad(where, "has the negative count " + std::to_string(count));
  return Status();
}

Status readCode(Copier &copier, const fb::Code &source, const Manifest &manifest,
                const std::vector<setun::package::SectionRecord> &sections, Code &code) {
  SETUN_RETURN_IF_ERROR(copier.name(source.target(), "code section", code.target));
  const std::string where = "code section " + quoted(code.target);
  SETUN_RETURN_IF_ERROR(copier.name(source.arch(), where, code.arch));
  SETUN_RETURN_IF_ERROR(copier.names(source.features(), where, "feature", code.features));
  code.section = source.section();
  if (code.section >= sections.size() || sections[code.section].kind != static_cast<uint32_t>(SectionKind::Code))
    return bad(where, "section " + std::to_string(code.section) + " of the file holds no code");
  if (source.entry_abi() != SETUN_ENTRY_ABI_VERSION)
    return Status(SETUN_ERROR_UNSUPPORTED,
                  where + ": expects entry ABI version " + std::to_string(SETUN_ENTRY_ABI_VERSION) + ", got " +
                      std::to_string(source.entry_abi()) + "; recompile the model with this version of setun");
  if (sizeOf(source.entries()) != manifest.entries.size())
    return bad(where, "has " + std::to_string(sizeOf(source.entries())) + " functions for " +
                          std::to_string(manifest.entries.size()) + " entries");
  for (size_t i = 0; i < manifest.entries.size(); ++i) {
    const fb::CodeEntry &entry = *source.entries()->Get(i);
    setun::package::CodeEntry &copy = code.entries.emplace_back();
    copy.entryOffset = entry.entry_offset();
    copy.workspaceOffset = entry.workspace_offset();
    const std::string place = where + ", entry " + quoted(manifest.entries[i].name);
    SETUN_RETURN_IF_ERROR(copier.names(entry.conditions(), place, "condition", copy.conditions));
    copy.operations.resize(sizeOf(entry.operations()));
    for (size_t k = 0; k < copy.operations.size(); ++k)
      SETUN_RETURN_IF_ERROR(readOperation(copier, *entry.operations()->Get(k), manifest.entries[i],
                                          place + ", operation " + std::to_string(k), copy.operations[k]));
  }
  return Status();
}

/// Copies recorded tensors and checks their sizes.
Status readBytes(Copier &copier, const flatbuffers::Vector<flatbuffers::Offset<fb::Bytes>> *list,
                 const std::vector<Tensor> &tensors, const int64_t *dims, const std::string &where,
                 std::vector<std::vector<uint8_t>> &result) {
  if (sizeOf(list) != tensors.size())
    return bad(where,
               "records " + std::to_string(sizeOf(list)) + " tensors, expected " + std::to_string(tensors.size()));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto *data = list->Get(i)->data();
    int64_t expected = 0;
    if (!tensors[i].byteSize(dims, expected) || sizeOf(data) != static_cast<uint64_t>(expected))
      return bad(where, "records " + std::to_string(sizeOf(data)) + " bytes of tensor " + quoted(tensors[i].name) +
                            ", expected " + std::to_string(expected));
    SETUN_RETURN_IF_ERROR(copier.bytes(data, where, result.emplace_back()));
  }
  return Status();
}

Status readSelfTest(Copier &copier, const fb::SelfTest &source, const Manifest &manifest, SelfTest &test) {
  test.entry = source.entry();
  test.code = source.code();
  if (test.entry >= manifest.entries.size())
    return bad("self-test", "entry " + std::to_string(test.entry) + " of " + std::to_string(manifest.entries.size()));
  if (test.code < -1 || test.code >= static_cast<int64_t>(manifest.codes.size()))
    return bad("self-test",
               "code section " + std::to_string(test.code) + " of " + std::to_string(manifest.codes.size()));
  const Entry &entry = manifest.entries[test.entry];
  const std::string where = "self-test of entry " + quoted(entry.name);
  if (sizeOf(source.dims()) != entry.symbols.size())
    return bad(where, "has " + std::to_string(sizeOf(source.dims())) + " dimensions, expected " +
                          std::to_string(entry.symbols.size()));
  for (size_t i = 0; i < entry.symbols.size(); ++i) {
    test.dims.push_back(source.dims()->Get(i)->value());
    if (test.dims.back() < 1)
      return bad(where, "dimension " + quoted(entry.symbols[i]) + " is " + std::to_string(test.dims.back()));
  }
  if (entry.capacitySymbol >= 0 && entry.maxContext && test.dims[entry.capacitySymbol] > entry.maxContext)
    return bad(where, "its context is larger than the entry's");
  SETUN_RETURN_IF_ERROR(readBytes(copier, source.inputs(), entry.inputs, test.dims.data(), where, test.inputs));
  return readBytes(copier, source.outputs(), entry.outputs, test.dims.data(), where, test.outputs);
}

Status readLayer(Copier &copier, const fb::Layer &source, Layer &layer) {
  SETUN_RETURN_IF_ERROR(copier.name(source.name(), "layer", layer.name));
  const std::string where = "layer " + quoted(layer.name);
  SETUN_RETURN_IF_ERROR(copier.name(source.format(), where, layer.format));
  SETUN_RETURN_IF_ERROR(copier.name(source.scale(), where, layer.scale));
  layer.rows = source.rows();
  layer.cols = source.cols();
  layer.bytes = source.bytes();
  if (layer.rows < 0 || layer.cols < 0 || layer.bytes < 0)
    return bad(where, "has a negative size");
  layer.kernels.resize(sizeOf(source.kernels()));
  for (size_t i = 0; i < layer.kernels.size(); ++i) {
    const fb::Kernel &from = *source.kernels()->Get(i);
    LayerKernel &kernel = layer.kernels[i];
    SETUN_RETURN_IF_ERROR(copier.name(from.target(), where, kernel.target));
    SETUN_RETURN_IF_ERROR(copier.name(from.kernel(), where, kernel.kernel));
    SETUN_RETURN_IF_ERROR(copier.optionalName(from.format(), where, kernel.format));
    kernel.tokens = from.tokens();
    kernel.staged = from.staged();
    kernel.predictedDecode = from.predicted_decode();
    kernel.predictedPrefill = from.predicted_prefill();
    kernel.measuredDecode = from.measured_decode();
    kernel.measuredPrefill = from.measured_prefill();
    for (int64_t number : {kernel.tokens, kernel.staged, kernel.predictedDecode, kernel.predictedPrefill,
                           kernel.measuredDecode, kernel.measuredPrefill})
      if (number < 0)
        return bad(where, "has a negative number in a kernel");
  }
  return Status();
}

Status readFile(Copier &copier, const fb::File &source, const std::vector<setun::package::SectionRecord> &sections,
                File &file) {
  SETUN_RETURN_IF_ERROR(copier.name(source.name(), "file", file.name));
  const std::string where = "file " + quoted(file.name);
  // Users write these files to disk by their names.
  if (file.name == "." || file.name == ".." || file.name.find_first_of("/\\:") != std::string::npos)
    return bad(where, "expects a plain file name");
  file.section = source.section();
  if (file.section >= sections.size() || sections[file.section].kind != static_cast<uint32_t>(SectionKind::File))
    return bad(where, "section " + std::to_string(file.section) + " of the package holds no file");
  return Status();
}

void nameSymbols(const Entry &entry, std::vector<Tensor> &tensors) {
  for (Tensor &tensor : tensors) {
    for (const Dim &dim : tensor.shape) {
      tensor.sizes.push_back(dim.symbol < 0 ? dim.size : -1);
      tensor.symbolNames.push_back(dim.symbol < 0 ? nullptr : entry.symbols[dim.symbol].c_str());
    }
  }
}

/// Fills in the arrays of C strings, now that no string moves any more.
void linkNames(Manifest &manifest) {
  for (Entry &entry : manifest.entries) {
    for (const std::string &symbol : entry.symbols)
      entry.symbolNames.push_back(symbol.c_str());
    nameSymbols(entry, entry.inputs);
    nameSymbols(entry, entry.states);
    nameSymbols(entry, entry.outputs);
  }
  for (Code &code : manifest.codes)
    for (const std::string &feature : code.features)
      code.featureNames.push_back(feature.c_str());
  for (Layer &layer : manifest.layers) {
    for (const auto &kernel : layer.kernels) {
      layer.targetNames.push_back(kernel.target.c_str());
      layer.kernelNames.push_back(kernel.kernel.c_str());
    }
  }
}

} // namespace

bool Tensor::byteSize(const int64_t *dims, int64_t &bytes) const {
  bytes = static_cast<int64_t>(setun_dtype_size(dtype));
  for (const Dim &dim : shape)
    if (!multiply(bytes, dim.symbol < 0 ? dim.size : dims[dim.symbol], bytes))
      return false;
  return true;
}

int64_t Manifest::maxContext() const {
  int64_t smallest = 0;
  for (const Entry &entry : entries)
    if (entry.maxContext && (!smallest || entry.maxContext < smallest))
      smallest = entry.maxContext;
  return smallest;
}

Status Manifest::decode(const uint8_t *bytes, size_t size, const std::vector<package::SectionRecord> &sections) {
  if (size < 16)
    return bad("", "has " + std::to_string(size) + " bytes");
  flatbuffers::Verifier verifier(bytes, size, kMaxDepth, kMaxTables);
  if (!fb::VerifyManifestBuffer(verifier))
    return bad("", "is no valid FlatBuffer");
  const fb::Manifest &root = *fb::GetManifest(bytes);

  Copier copier;
  if (sizeOf(root.entries()) == 0)
    return bad("", "has no entries");
  UniqueNames entryNames("", "entries");
  entries.resize(root.entries()->size());
  for (size_t i = 0; i < entries.size(); ++i) {
    SETUN_RETURN_IF_ERROR(EntryReader(copier, *root.entries()->Get(i), entries[i]).read());
    SETUN_RETURN_IF_ERROR(entryNames.add(entries[i].name));
  }
  SETUN_RETURN_IF_ERROR(checkSharedStates(entries));

  UniqueNames targetNames("", "code sections");
  codes.resize(sizeOf(root.codes()));
  for (size_t i = 0; i < codes.size(); ++i) {
    SETUN_RETURN_IF_ERROR(readCode(copier, *root.codes()->Get(i), *this, sections, codes[i]));
    SETUN_RETURN_IF_ERROR(targetNames.add(codes[i].target));
  }

  selfTests.resize(sizeOf(root.self_tests()));
  for (size_t i = 0; i < selfTests.size(); ++i)
    SETUN_RETURN_IF_ERROR(readSelfTest(copier, *root.self_tests()->Get(i), *this, selfTests[i]));

  layers.resize(sizeOf(root.layers()));
  for (size_t i = 0; i < layers.size(); ++i)
    SETUN_RETURN_IF_ERROR(readLayer(copier, *root.layers()->Get(i), layers[i]));

  UniqueNames keys("", "provenance items");
  provenance.resize(sizeOf(root.provenance()));
  for (size_t i = 0; i < provenance.size(); ++i) {
    const fb::Provenance &item = *root.provenance()->Get(i);
    SETUN_RETURN_IF_ERROR(copier.name(item.key(), "provenance", provenance[i].first));
    SETUN_RETURN_IF_ERROR(keys.add(provenance[i].first));
    SETUN_RETURN_IF_ERROR(
        copier.text(*item.value(), "provenance " + quoted(provenance[i].first), provenance[i].second));
  }

  UniqueNames fileNames("", "files");
  files.resize(sizeOf(root.files()));
  for (size_t i = 0; i < files.size(); ++i) {
    SETUN_RETURN_IF_ERROR(readFile(copier, *root.files()->Get(i), sections, files[i]));
    SETUN_RETURN_IF_ERROR(fileNames.add(files[i].name));
  }

  linkNames(*this);
  return Status();
}
