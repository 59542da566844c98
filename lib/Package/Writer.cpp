//===- Writer.cpp - writes .setun packages --------------------------------===//
//
// The container is written front to back: weights as they come, then at finish() code, files, manifest, and last the
// header, so that a file that was cut off never looks like a package.
//
//===----------------------------------------------------------------------===//
#include "setun/Package.h"

#include "setun/EntryABI.h"
#include "setun/Package_generated.h"
#include "setun/setun.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace setun::package;

namespace {

uint64_t alignTo(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

std::string quoted(const std::string &text) { return "'" + text + "'"; }

std::string systemError(const std::string &what, const std::string &path) {
  return "cannot " + what + " " + quoted(path) + ": " + std::strerror(errno);
}

constexpr uint16_t kMachineX86_64 = 62;   // EM_X86_64
constexpr uint16_t kMachineAArch64 = 183; // EM_AARCH64

/// The architecture by its LLVM name, or empty if the image is no 64-bit little-endian ELF file of one that is known.
std::string imageArchitecture(const std::vector<uint8_t> &image) {
  static const uint8_t ident[6] = {0x7f, 'E', 'L', 'F', 2, 1};
  if (image.size() < 64 || std::memcmp(image.data(), ident, sizeof(ident)) != 0)
    return std::string();
  uint16_t machine = static_cast<uint16_t>(image[18] | image[19] << 8);
  if (machine == kMachineX86_64)
    return "x86_64";
  if (machine == kMachineAArch64)
    return "aarch64";
  return std::string();
}

} // namespace

//===----------------------------------------------------------------------===//
// File
//===----------------------------------------------------------------------===//

struct Writer::Impl {
  ~Impl() { discard(); }

  void discard();
  Error open(const std::string &destination);
  Error writeAt(uint64_t offset, const void *data, size_t size);
  Error writeWeights(uint64_t offset, const void *data, size_t size);
  Error weightsChecksum(uint64_t &checksum);
  Error addSection(SectionKind kind, const void *data, size_t size);
  Error buildManifest(const Manifest &manifest, flatbuffers::FlatBufferBuilder &builder, size_t firstCodeSection,
                      size_t firstFileSection);
  Error publish();

  std::string path;
  std::string temporary; // name of the temporary file; empty while it has none (O_TMPFILE)
  int fd = -1;

  uint64_t weightsEnd = 0; // bytes reserved in the weights section
  uint64_t hashedEnd = 0;  // bytes that went through `hash`
  bool hashInOrder = true; // false once a write came before hashedEnd
  XXH3_state_t hash;

  std::vector<CodeSection> codes;
  std::vector<FileBlob> files;
  std::vector<SectionRecord> sections;
  uint64_t fileEnd = 0;
};

void Writer::Impl::discard() {
  if (fd >= 0)
    ::close(fd);
  fd = -1;
  if (!temporary.empty())
    ::unlink(temporary.c_str());
  temporary.clear();
}

Error Writer::Impl::open(const std::string &destination) {
  path = destination;
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return "cannot write " + quoted(path) + ": it exists and is not a regular file";
  XXH3_64bits_reset(&hash);

#ifdef O_TMPFILE
  // A file without a name disappears by itself, even when the process is killed.
  size_t slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd >= 0)
    return std::nullopt;
#endif
  std::string name = path + ".XXXXXX";
  fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0)
    return systemError("create a file beside", path);
  temporary = name;
  return std::nullopt;
}

Error Writer::Impl::writeAt(uint64_t offset, const void *data, size_t size) {
  const char *bytes = static_cast<const char *>(data);
  while (size) {
    ssize_t written = ::pwrite(fd, bytes, size, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return systemError("write", path);
    bytes += written;
    offset += static_cast<uint64_t>(written);
    size -= static_cast<size_t>(written);
  }
  return std::nullopt;
}

/// Feeds `count` zero bytes.
static void hashZeros(XXH3_state_t &hash, uint64_t count) {
  static const char zeros[4096] = {};
  for (; count; count -= std::min<uint64_t>(count, sizeof(zeros)))
    XXH3_64bits_update(&hash, zeros, std::min<uint64_t>(count, sizeof(zeros)));
}

Error Writer::Impl::writeWeights(uint64_t offset, const void *data, size_t size) {
  if (offset > weightsEnd || size > weightsEnd - offset)
    return "weights [" + std::to_string(offset) + ", +" + std::to_string(size) + ") lie outside the " +
           std::to_string(weightsEnd) + " bytes reserved";
  if (size == 0)
    return std::nullopt;
  if (offset < hashedEnd) {
    hashInOrder = false;
  } else if (hashInOrder) {
    hashZeros(hash, offset - hashedEnd);
    XXH3_64bits_update(&hash, data, size);
    hashedEnd = offset + size;
  }
  return writeAt(kSectionAlignment + offset, data, size);
}

Error Writer::Impl::weightsChecksum(uint64_t &checksum) {
  if (!hashInOrder) {
    XXH3_64bits_reset(&hash);
    std::vector<char> buffer(size_t(1) << 20);
    for (hashedEnd = 0; hashedEnd < weightsEnd;) {
      size_t wanted = std::min<uint64_t>(buffer.size(), weightsEnd - hashedEnd);
      ssize_t got = ::pread(fd, buffer.data(), wanted, static_cast<off_t>(kSectionAlignment + hashedEnd));
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return systemError("read back", path);
      if (got == 0)
        break; // the rest was reserved and never written
      XXH3_64bits_update(&hash, buffer.data(), static_cast<size_t>(got));
      hashedEnd += static_cast<uint64_t>(got);
    }
  }
  hashZeros(hash, weightsEnd - hashedEnd);
  checksum = XXH3_64bits_digest(&hash);
  return std::nullopt;
}

Error Writer::Impl::addSection(SectionKind kind, const void *data, size_t size) {
  if (sections.size() >= kMaxSections)
    return "a package holds at most " + std::to_string(kMaxSections) + " sections";
  SectionRecord record = {};
  record.kind = static_cast<uint32_t>(kind);
  record.offset = alignTo(fileEnd, kSectionAlignment);
  record.size = size;
  record.checksum = XXH3_64bits(data, size);
  sections.push_back(record);
  fileEnd = record.offset + size;
  return writeAt(record.offset, data, size);
}

//===----------------------------------------------------------------------===//
// Manifest
//===----------------------------------------------------------------------===//

namespace {

/// Translates one entry; its errors name the entry.
class EntryBuilder {
public:
  EntryBuilder(flatbuffers::FlatBufferBuilder &builder, const EntryDesc &entry) : builder(builder), entry(entry) {}

  flatbuffers::Offset<fb::Entry> build() {
    std::vector<flatbuffers::Offset<flatbuffers::String>> symbols;
    for (const std::string &symbol : entry.symbols)
      symbols.push_back(builder.CreateString(symbol));
    auto symbolsOffset = builder.CreateVector(symbols);
    auto inputs = tensors(entry.inputs);
    auto states = tensors(entry.states);
    auto outputs = tensors(entry.outputs);
    auto name = builder.CreateString(entry.name);
    int32_t tokenSymbol = entry.tokenSymbol.empty() ? -1 : symbolIndex(entry.tokenSymbol, "the token symbol");
    int32_t capacitySymbol =
        entry.capacitySymbol.empty() ? -1 : symbolIndex(entry.capacitySymbol, "the capacity symbol");
    return fb::CreateEntry(builder, name, symbolsOffset, inputs, states, outputs, entry.usesPosition,
                           entry.resetsSession, entry.maxContext, tokenSymbol, entry.tokens, capacitySymbol);
  }

  Error error;

private:
  int32_t symbolIndex(const std::string &symbol, const std::string &where) {
    auto it = std::find(entry.symbols.begin(), entry.symbols.end(), symbol);
    if (it != entry.symbols.end())
      return static_cast<int32_t>(it - entry.symbols.begin());
    if (!error)
      error = "entry " + quoted(entry.name) + ": " + where + " uses " + quoted(symbol) +
              ", which is not among the entry's symbols";
    return -1;
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Tensor>>>
  tensors(const std::vector<TensorDesc> &list) {
    std::vector<flatbuffers::Offset<fb::Tensor>> offsets;
    for (const TensorDesc &tensor : list) {
      std::vector<flatbuffers::Offset<fb::Dim>> dims;
      for (const Dim &dim : tensor.shape)
        dims.push_back(dim.symbol.empty()
                           ? fb::CreateDim(builder, -1, dim.size)
                           : fb::CreateDim(builder, symbolIndex(dim.symbol, "tensor " + quoted(tensor.name)), 0));
      auto name = builder.CreateString(tensor.name);
      auto shape = builder.CreateVector(dims);
      offsets.push_back(
          fb::CreateTensor(builder, name, static_cast<fb::ElementType>(tensor.type), shape, tensor.below));
    }
    return builder.CreateVector(offsets);
  }

  flatbuffers::FlatBufferBuilder &builder;
  const EntryDesc &entry;
};

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Operation>>>
buildOperations(flatbuffers::FlatBufferBuilder &builder, const std::vector<OperationDesc> &list) {
  std::vector<flatbuffers::Offset<fb::Operation>> offsets;
  for (const OperationDesc &operation : list) {
    // The layers of a model differ in little but their names.
    auto kind = builder.CreateSharedString(operation.kind);
    auto detail = builder.CreateSharedString(operation.detail);
    auto name = builder.CreateSharedString(operation.name);
    auto shape = builder.CreateSharedString(operation.shape);
    offsets.push_back(fb::CreateOperation(builder, kind, detail, name, shape, operation.rowsSymbol, operation.rows,
                                          operation.weightBytes, operation.rowBytes, operation.contextBytes,
                                          operation.int8Macs, operation.floatMacs));
  }
  return builder.CreateVector(offsets);
}

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Bytes>>>
buildBytes(flatbuffers::FlatBufferBuilder &builder, const std::vector<std::vector<uint8_t>> &list) {
  std::vector<flatbuffers::Offset<fb::Bytes>> offsets;
  for (const std::vector<uint8_t> &bytes : list)
    offsets.push_back(fb::CreateBytes(builder, builder.CreateVector(bytes)));
  return builder.CreateVector(offsets);
}

} // namespace

Error Writer::Impl::buildManifest(const Manifest &manifest, flatbuffers::FlatBufferBuilder &builder,
                                  size_t firstCodeSection, size_t firstFileSection) {
  std::vector<flatbuffers::Offset<fb::Entry>> entries;
  for (const EntryDesc &entry : manifest.entries) {
    EntryBuilder entryBuilder(builder, entry);
    entries.push_back(entryBuilder.build());
    if (entryBuilder.error)
      return entryBuilder.error;
  }

  std::vector<flatbuffers::Offset<fb::Code>> codeOffsets;
  for (size_t i = 0; i < codes.size(); ++i) {
    const CodeSection &code = codes[i];
    if (code.entries.size() != manifest.entries.size())
      return "code section " + quoted(code.target) + " has " + std::to_string(code.entries.size()) + " functions for " +
             std::to_string(manifest.entries.size()) + " entries";
    std::vector<flatbuffers::Offset<fb::CodeEntry>> functions;
    for (const CodeEntry &entry : code.entries) {
      auto operations = buildOperations(builder, entry.operations);
      flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>> conditions;
      if (!entry.conditions.empty())
        conditions = builder.CreateVectorOfStrings(entry.conditions);
      functions.push_back(
          fb::CreateCodeEntry(builder, entry.entryOffset, entry.workspaceOffset, operations, conditions));
    }
    auto target = builder.CreateString(code.target);
    auto arch = builder.CreateString(imageArchitecture(code.image));
    auto features = builder.CreateVectorOfStrings(code.features);
    auto functionsOffset = builder.CreateVector(functions);
    codeOffsets.push_back(fb::CreateCode(builder, target, arch, features, static_cast<uint32_t>(firstCodeSection + i),
                                         SETUN_ENTRY_ABI_VERSION, functionsOffset));
  }

  std::vector<flatbuffers::Offset<fb::SelfTest>> selfTests;
  for (const SelfTest &test : manifest.selfTests) {
    auto entry = std::find_if(manifest.entries.begin(), manifest.entries.end(),
                              [&](const EntryDesc &candidate) { return candidate.name == test.entry; });
    if (entry == manifest.entries.end())
      return "self-test of unknown entry " + quoted(test.entry);
    int32_t codeIndex = -1;
    if (!test.target.empty()) {
      auto code = std::find_if(codes.begin(), codes.end(),
                               [&](const CodeSection &candidate) { return candidate.target == test.target; });
      if (code == codes.end())
        return "self-test of unknown code section " + quoted(test.target);
      codeIndex = static_cast<int32_t>(code - codes.begin());
    }
    std::vector<flatbuffers::Offset<fb::DimValue>> dims;
    for (const std::string &symbol : entry->symbols) {
      auto dim = test.dims.find(symbol);
      if (dim == test.dims.end())
        return "self-test of entry " + quoted(test.entry) + " has no value for " + quoted(symbol);
      dims.push_back(fb::CreateDimValue(builder, dim->second));
    }
    auto dimsOffset = builder.CreateVector(dims);
    auto inputs = buildBytes(builder, test.inputs);
    auto outputs = buildBytes(builder, test.outputs);
    selfTests.push_back(fb::CreateSelfTest(builder, static_cast<uint32_t>(entry - manifest.entries.begin()), codeIndex,
                                           dimsOffset, inputs, outputs));
  }

  std::vector<flatbuffers::Offset<fb::Layer>> layers;
  for (const LayerInfo &layer : manifest.layers) {
    std::vector<flatbuffers::Offset<fb::Kernel>> kernels;
    for (const LayerKernel &kernel : layer.kernels)
      kernels.push_back(fb::CreateKernelDirect(builder, kernel.target.c_str(), kernel.kernel.c_str(),
                                               kernel.format.empty() ? nullptr : kernel.format.c_str(), kernel.tokens,
                                               kernel.staged, kernel.predictedDecode, kernel.predictedPrefill,
                                               kernel.measuredDecode, kernel.measuredPrefill));
    layers.push_back(fb::CreateLayerDirect(builder, layer.name.c_str(), layer.rows, layer.cols, layer.format.c_str(),
                                           layer.scale.c_str(), layer.bytes, &kernels));
  }

  std::vector<flatbuffers::Offset<fb::Provenance>> provenance;
  for (const auto &item : manifest.provenance)
    provenance.push_back(fb::CreateProvenanceDirect(builder, item.first.c_str(), item.second.c_str()));

  std::vector<flatbuffers::Offset<fb::File>> fileOffsets;
  for (size_t i = 0; i < files.size(); ++i)
    fileOffsets.push_back(
        fb::CreateFileDirect(builder, files[i].name.c_str(), static_cast<uint32_t>(firstFileSection + i)));

  auto root = fb::CreateManifestDirect(builder, &entries, &codeOffsets, &selfTests, &layers, &provenance, &fileOffsets);
  fb::FinishManifestBuffer(builder, root);
  if (builder.GetSize() > kMaxManifestSize)
    return "the manifest has " + std::to_string(builder.GetSize()) + " bytes, more than the limit of " +
           std::to_string(kMaxManifestSize);
  return std::nullopt;
}

/// Checks the finished file with the runtime's own reader, then gives it its name.
Error Writer::Impl::publish() {
  if (temporary.empty()) {
    // linkat does not replace an existing file, so the file gets a name of its own first.
    std::string source = "/proc/self/fd/" + std::to_string(fd);
    for (unsigned attempt = 0; temporary.empty(); ++attempt) {
      std::string name = path + "." + std::to_string(::getpid()) + "." + std::to_string(attempt);
      if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0)
        temporary = name;
      else if (errno != EEXIST)
        return systemError("create", name);
    }
  } else {
    // mkostemp makes private files; a package gets the permissions of any new file.
    mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(fd, 0666 & ~mask) != 0)
      return systemError("set the permissions of", temporary);
  }

  setun_package *package = nullptr;
  if (setun_package_open(temporary.c_str(), nullptr, &package) != SETUN_OK)
    return "the package is not valid: " + std::string(setun_last_error());
  setun_package_close(package);

  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return systemError("rename a temporary file to", path);
  temporary.clear();
  if (::close(std::exchange(fd, -1)) != 0)
    return systemError("close", path);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Interface
//===----------------------------------------------------------------------===//

Writer::Writer() : impl(std::make_unique<Impl>()) {}
Writer::~Writer() = default;

Error Writer::open(const std::string &path) {
  if (impl->fd >= 0)
    return "the writer is open already, for " + quoted(impl->path);
  return impl->open(path);
}

Error Writer::reserveWeights(uint64_t size, uint64_t &offset) {
  const uint64_t start = weightsOffset(impl->weightsEnd, size);
  if (size > uint64_t(INT64_MAX) - kSectionAlignment - start)
    return "weights of " + std::to_string(size) + " bytes are too large";
  offset = start;
  impl->weightsEnd = start + size;
  return std::nullopt;
}

Error Writer::writeWeights(uint64_t offset, const void *data, size_t size) {
  if (impl->fd < 0)
    return "the writer is not open";
  return impl->writeWeights(offset, data, size);
}

Error Writer::appendWeights(const void *data, size_t size, uint64_t &offset) {
  if (Error error = reserveWeights(size, offset))
    return error;
  return writeWeights(offset, data, size);
}

uint64_t Writer::weightsSize() const { return impl->weightsEnd; }

Error Writer::addCode(CodeSection code) {
  if (imageArchitecture(code.image).empty())
    return "code section " + quoted(code.target) + " is no 64-bit little-endian ELF file for x86-64 or aarch64";
  for (const CodeSection &other : impl->codes)
    if (other.target == code.target)
      return "two code sections for target " + quoted(code.target);
  impl->codes.push_back(std::move(code));
  return std::nullopt;
}

Error Writer::addFile(FileBlob file) {
  for (const FileBlob &other : impl->files)
    if (other.name == file.name)
      return "two files named " + quoted(file.name);
  impl->files.push_back(std::move(file));
  return std::nullopt;
}

Error Writer::finish(const Manifest &manifest) {
  if (impl->fd < 0)
    return "the writer is not open";

  SectionRecord weights = {};
  weights.kind = static_cast<uint32_t>(SectionKind::Weights);
  weights.offset = kSectionAlignment;
  weights.size = impl->weightsEnd;
  if (Error error = impl->weightsChecksum(weights.checksum))
    return error;
  impl->sections.push_back(weights);
  impl->fileEnd = weights.offset + weights.size;

  size_t firstCode = impl->sections.size();
  for (const CodeSection &code : impl->codes)
    if (Error error = impl->addSection(SectionKind::Code, code.image.data(), code.image.size()))
      return error;
  size_t firstFile = impl->sections.size();
  for (const FileBlob &file : impl->files)
    if (Error error = impl->addSection(SectionKind::File, file.bytes.data(), file.bytes.size()))
      return error;

  flatbuffers::FlatBufferBuilder builder;
  if (Error error = impl->buildManifest(manifest, builder, firstCode, firstFile))
    return error;
  if (Error error = impl->addSection(SectionKind::Manifest, builder.GetBufferPointer(), builder.GetSize()))
    return error;

  std::vector<uint8_t> page(kSectionAlignment);
  FileHeader header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.byteOrder = kByteOrder;
  header.versionMajor = kVersionMajor;
  header.versionMinor = kVersionMinor;
  header.fileSize = impl->fileEnd;
  header.sectionCount = static_cast<uint32_t>(impl->sections.size());
  std::memcpy(page.data(), &header, sizeof(header));
  std::memcpy(page.data() + sizeof(header), impl->sections.data(), impl->sections.size() * sizeof(SectionRecord));
  header.headerChecksum = XXH3_64bits(page.data(), page.size());
  std::memcpy(page.data(), &header, sizeof(header));

  // Weights that were reserved and not written, and empty sections at the end, still count.
  if (::ftruncate(impl->fd, static_cast<off_t>(impl->fileEnd)) != 0)
    return systemError("set the size of", impl->path);
  if (Error error = impl->writeAt(0, page.data(), page.size()))
    return error;
  return impl->publish();
}
