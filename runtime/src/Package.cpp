//===- Package.cpp - an open package --------------------------------------===//
#include "Package.h"

#include "Cpu.h"
#include "Session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace setun::runtime;
using namespace setun;
using package::FileHeader;
using package::kSectionAlignment;
using package::SectionKind;
using package::SectionRecord;

//===----------------------------------------------------------------------===//
// Opening
//===----------------------------------------------------------------------===//

Status Package::open(const std::string &path, const Options &options, std::shared_ptr<Package> &result) {
  auto failed = [&](const char *what) {
    return Status(SETUN_ERROR_IO, std::string("cannot ") + what + " " + quoted(path) + ": " + std::strerror(errno));
  };
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return failed("open");
  struct stat info;
  Status status;
  auto opened = std::make_shared<Package>();
  if (::fstat(fd, &info) != 0)
    status = failed("examine");
  else if (!S_ISREG(info.st_mode))
    status = Status(SETUN_ERROR_IO, quoted(path) + " is not a regular file");
  else if (info.st_size == 0)
    status = badPackage(quoted(path) + " is empty");
  else
    status = Mapping::file(fd, static_cast<size_t>(info.st_size), path, opened->mapping);
  ::close(fd); // the mapping keeps the file
  SETUN_RETURN_IF_ERROR(status);

  opened->path = path;
  opened->options = options;
  opened->base = opened->mapping.data();
  opened->size = opened->mapping.size();
  status = opened->check();
  if (!status.ok())
    return Status(status.code(), quoted(path) + ": " + status.message());
  result = std::move(opened);
  return Status();
}

Status Package::openMemory(const uint8_t *data, size_t size, const Options &options, std::shared_ptr<Package> &result) {
  auto opened = std::make_shared<Package>();
  opened->options = options;
  opened->base = data;
  opened->size = size;
  if (reinterpret_cast<uintptr_t>(data) % kSectionAlignment != 0 && size) {
    SETUN_RETURN_IF_ERROR(Mapping::largePages(size, "a copy of the package", opened->mapping));
    std::memcpy(opened->mapping.data(), data, size);
    opened->base = opened->mapping.data();
  }
  SETUN_RETURN_IF_ERROR(opened->check());
  result = std::move(opened);
  return Status();
}

Status Package::check() {
  SETUN_RETURN_IF_ERROR(checkHeader());
  SETUN_RETURN_IF_ERROR(checkSections());
  SETUN_RETURN_IF_ERROR(checkContents());
  selectStatus = select();
  // A section asked for by name that is not there is the caller's mistake; that none runs here is told by ready().
  return selectStatus.code() == SETUN_ERROR_NOT_FOUND ? selectStatus : Status();
}

Status Package::checkHeader() {
  if (size < kSectionAlignment)
    return badPackage("has " + std::to_string(size) + " bytes, fewer than a package's header");
  // Checked and used from a copy: the file could change in between.
  std::vector<uint8_t> page(base, base + kSectionAlignment);
  std::memcpy(&header, page.data(), sizeof(header));
  if (std::memcmp(header.magic, package::kMagic, sizeof(header.magic)) != 0)
    return badPackage("is not a setun package");
  if (header.byteOrder != package::kByteOrder)
    return Status(SETUN_ERROR_UNSUPPORTED, "was written for a machine of another byte order");
  if (header.versionMajor != package::kVersionMajor)
    return Status(SETUN_ERROR_UNSUPPORTED, "expects package format " + std::to_string(package::kVersionMajor) +
                                               ".x, got " + std::to_string(header.versionMajor) + "." +
                                               std::to_string(header.versionMinor) +
                                               "; recompile the model or update the runtime");
  FileHeader zeroed = header;
  zeroed.headerChecksum = 0;
  std::memcpy(page.data(), &zeroed, sizeof(zeroed));
  if (XXH3_64bits(page.data(), page.size()) != header.headerChecksum)
    return badPackage("the header's checksum does not match; the file is damaged");
  if (header.fileSize != size)
    return badPackage("expects " + std::to_string(header.fileSize) + " bytes, got " + std::to_string(size) +
                      "; the file is " + (size < header.fileSize ? "truncated" : "followed by something else"));
  if (header.sectionCount > package::kMaxSections)
    return badPackage("has " + std::to_string(header.sectionCount) + " sections, more than the limit of " +
                      std::to_string(package::kMaxSections));
  sections.resize(header.sectionCount);
  if (!sections.empty())
    std::memcpy(sections.data(), page.data() + sizeof(header), sections.size() * sizeof(SectionRecord));
  return Status();
}

Status Package::checkSections() {
  uint64_t end = kSectionAlignment;
  unsigned weightsCount = 0, manifestCount = 0;
  for (uint32_t i = 0; i < sections.size(); ++i) {
    const SectionRecord &section = sections[i];
    const std::string what = "section " + std::to_string(i);
    if (section.offset % kSectionAlignment != 0)
      return badPackage(what + " is not aligned to " + std::to_string(kSectionAlignment) + " bytes");
    if (section.offset < end)
      return badPackage(what + " overlaps what comes before it");
    if (section.offset > size || section.size > size - section.offset)
      return badPackage(what + " lies outside the file");
    end = section.offset + section.size;
    switch (static_cast<SectionKind>(section.kind)) {
    case SectionKind::Weights:
      weightsSection = i;
      ++weightsCount;
      break;
    case SectionKind::Manifest:
      manifestSection = i;
      ++manifestCount;
      break;
    case SectionKind::Code:
    case SectionKind::File:
      break;
    default:
      return badPackage(what + " is of unknown kind " + std::to_string(section.kind));
    }
  }
  if (weightsCount != 1 || manifestCount != 1)
    return badPackage("expects one weights section and one manifest, got " + std::to_string(weightsCount) + " and " +
                      std::to_string(manifestCount));
  return Status();
}

Status Package::checkChecksum(uint32_t section, const uint8_t *data, const std::string &what) const {
  if (XXH3_64bits(data, sections[section].size) != sections[section].checksum)
    return badPackage(what + ": the checksum does not match; the file is damaged");
  return Status();
}

Status Package::checkContents() {
  const uint64_t manifestSize = sectionSize(manifestSection);
  if (manifestSize > package::kMaxManifestSize)
    return badPackage("the manifest has " + std::to_string(manifestSize) + " bytes, more than the limit of " +
                      std::to_string(package::kMaxManifestSize));
  // Aligned for the FlatBuffer, and a copy again.
  std::vector<uint64_t> copy((manifestSize + 7) / 8);
  uint8_t *bytes = reinterpret_cast<uint8_t *>(copy.data());
  if (manifestSize)
    std::memcpy(bytes, sectionData(manifestSection), manifestSize);
  SETUN_RETURN_IF_ERROR(checkChecksum(manifestSection, bytes, "manifest"));
  SETUN_RETURN_IF_ERROR(contents.decode(bytes, manifestSize, sections));
  // However many names a section has, it is read once.
  std::vector<bool> checked(sections.size());
  auto checkOnce = [&](uint32_t section, const std::string &what) {
    const bool again = checked[section];
    checked[section] = true;
    return again ? Status() : checkChecksum(section, sectionData(section), what);
  };
  for (const Code &code : contents.codes)
    SETUN_RETURN_IF_ERROR(checkOnce(code.section, "code section " + quoted(code.target)));
  for (const File &file : contents.files)
    SETUN_RETURN_IF_ERROR(checkOnce(file.section, "file " + quoted(file.name)));
  return Status();
}

Status Package::verifyWeights() const { return checkChecksum(weightsSection, sectionData(weightsSection), "weights"); }

//===----------------------------------------------------------------------===//
// Choice of code
//===----------------------------------------------------------------------===//

static std::vector<std::string> missingFeatures(const Code &code, const std::set<std::string> &features) {
  std::vector<std::string> missing;
  for (const std::string &feature : code.features)
    if (!features.count(feature))
      missing.push_back(feature);
  return missing;
}

bool Package::runnable(const Code &code) const {
  return code.arch == hostArchitecture() && missingFeatures(code, options.features).empty();
}

Status Package::select() {
  selectBest();
  // A section that the system does not let this process run is as good as one for another CPU.
  while (selectedCode >= 0) {
    Status enabled = enableFeatures(contents.codes[selectedCode].features);
    if (enabled.ok())
      return Status();
    refusal = enabled.message();
    for (const std::string &feature : permittedFeatures())
      options.features.erase(feature);
    selectedCode = -1;
    selectBest();
  }
  return nothingRuns();
}

void Package::selectBest() {
  for (size_t i = 0; i < contents.codes.size(); ++i) {
    const Code &code = contents.codes[i];
    if (!options.target.empty() && code.target != options.target)
      continue;
    // If one section needs all that another needs and more, it also has more features, so counting finds the best.
    if (runnable(code) && (selectedCode < 0 || code.features.size() > contents.codes[selectedCode].features.size()))
      selectedCode = static_cast<int32_t>(i);
  }
}

Status Package::nothingRuns() const {
  if (contents.codes.empty())
    return Status(SETUN_ERROR_UNSUPPORTED, "the package holds no code");
  std::string text;
  bool known = options.target.empty();
  for (const Code &code : contents.codes) {
    known |= code.target == options.target;
    text += text.empty() ? "the package holds code for " : ", ";
    text += quoted(code.target);
    if (code.arch != hostArchitecture())
      text += " (" + code.arch + ")";
    else if (!runnable(code))
      text += " (which needs " + joinFeatures(missingFeatures(code, options.features)) + ")";
  }
  if (!known)
    return Status(SETUN_ERROR_NOT_FOUND, "no code section for target " + quoted(options.target) + "; " + text);
  text += "; this CPU is " + (hostArchitecture().empty() ? "of an unknown architecture" : hostArchitecture());
  text += options.features.empty() ? "" : " with " + joinFeatures(options.features);
  text += refusal.empty() ? "" : "; " + refusal;
  text += "; " + cure();
  return Status(SETUN_ERROR_UNSUPPORTED,
                (options.target.empty()
                     ? "no code section runs on this CPU: "
                     : "the code section asked for, " + quoted(options.target) + ", does not run on this CPU: ") +
                    text);
}

std::string Package::cure() const {
  auto recorded = [&](const char *key) {
    for (const auto &[name, value] : contents.provenance)
      if (name == key)
        return value;
    return std::string();
  };
  std::string targets;
  for (const Code &code : contents.codes) {
    if (runnable(code))
      return "code for " + quoted(code.target) + " runs here";
    targets += code.target + ",";
  }
  const std::string level = bestLevel(options.features);
  targets += level.empty() ? "host" : level;
  const std::string source = recorded("source"), head = recorded("compiler.head"), format = recorded("compiler.format");
  const bool otherHead = !head.empty() && head != "certified"; // than the compiler's default
  for (const File &file : contents.files)
    if (file.name == package::kCallFile)
      return "to add code for it, compile the module" + (source.empty() ? "" : " " + quoted(source)) +
             " again, in Python: setun.compile(module, ..., target=\"" + targets +
             (otherHead ? "\", head=\"" + head + "\")" : "\")");
  return "to add code for it: setun compile MODEL" + (path.empty() ? "" : " -o " + quoted(path)) + " --target " +
         targets + (otherHead ? " --head " + head : "") +
         (format.empty() || format == "auto" ? "" : " --format " + format) +
         (source.empty() ? "" : ", where MODEL is " + quoted(source));
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

Status Package::ready() {
  std::lock_guard<std::mutex> lock(loadMutex);
  if (!loaded) {
    loadStatus = load();
    if (loadStatus.ok())
      loadStatus = selfTest();
    loaded = true;
  }
  return loadStatus;
}

void Package::replaceFunctions(std::vector<EntryFunctions> functions) {
  std::lock_guard<std::mutex> lock(loadMutex);
  entryFunctions = std::move(functions);
  loadStatus = Status();
  loaded = true;
}

Status Package::load() {
  SETUN_RETURN_IF_ERROR(selectStatus);
  const Code &code = contents.codes[selectedCode];
  const uint8_t *start = sectionData(code.section);
  std::vector<uint8_t> copy(start, start + sectionSize(code.section));
  SETUN_RETURN_IF_ERROR(checkChecksum(code.section, copy.data(), "code section " + quoted(code.target)));
  SETUN_RETURN_IF_ERROR(ElfImage::load(copy.data(), copy.size(), image));
  std::vector<EntryFunctions> functions;
  for (const package::CodeEntry &entry : code.entries) {
    const void *run = nullptr, *workspace = nullptr;
    SETUN_RETURN_IF_ERROR(image.function(entry.entryOffset, run));
    SETUN_RETURN_IF_ERROR(image.function(entry.workspaceOffset, workspace));
    functions.push_back({reinterpret_cast<setun_entry_fn>(reinterpret_cast<uintptr_t>(run)),
                         reinterpret_cast<setun_workspace_fn>(reinterpret_cast<uintptr_t>(workspace))});
  }
  entryFunctions = std::move(functions);
  if (options.weights == SETUN_WEIGHTS_COPY)
    return copyWeights();
  // Where there is no room for a copy after all, the file's pages will do.
  if (options.weights == SETUN_WEIGHTS_AUTO && copyPays() && copyWeights().ok())
    return Status();
#if defined(MADV_WILLNEED) && defined(__linux__)
  // From now on all weights will be read, in order, for every token.
  if (isFile()) {
    uintptr_t begin = reinterpret_cast<uintptr_t>(weights()) / pageSize() * pageSize();
    (void)::madvise(reinterpret_cast<void *>(begin), reinterpret_cast<uintptr_t>(weights()) + weightsSize() - begin,
                    MADV_WILLNEED);
  }
#endif
  return Status();
}

/// A file's pages are small, and a core that follows one stream of them reads a fifth slower than one in large pages.
/// A copy is worth its memory where there is plenty of it.
bool Package::copyPays() const {
  constexpr uint64_t large = uint64_t(64) << 20;
  return isFile() && weightsSize() >= large && hasLargePages() && availableMemory() / 2 >= weightsSize();
}

Status Package::copyWeights() {
  const uint64_t bytes = weightsSize();
  if (bytes == 0)
    return Status();
  Mapping memory;
  SETUN_RETURN_IF_ERROR(Mapping::largePages(bytes, "a copy of the weights", memory));
  uint8_t *copy = memory.data();
  const uint8_t *source = sectionData(weightsSection);
#if defined(MADV_DONTNEED) && defined(__linux__)
  // Piece by piece: the pages of the file are mapped at once, which is ten times faster than one by one, and go back as
  // soon as they are copied, so that nothing counts twice.
  constexpr uint64_t piece = 8 * kLargePage;
  const bool ofFile = isFile() && kSectionAlignment % pageSize() == 0;
  for (uint64_t offset = 0; offset < bytes; offset += piece) {
    const uint64_t size = std::min(piece, bytes - offset);
    void *pages = const_cast<uint8_t *>(source + offset);
#ifdef MADV_POPULATE_READ
    if (ofFile)
      (void)::madvise(pages, size, MADV_POPULATE_READ);
#endif
    std::memcpy(copy + offset, source + offset, size);
    if (ofFile)
      (void)::madvise(pages, size / pageSize() * pageSize(), MADV_DONTNEED);
  }
#else
  std::memcpy(copy, source, bytes);
#endif
  weightsCopy = std::move(memory);
  return Status();
}

Status Package::selfTest() {
  const std::string target = quoted(contents.codes[selectedCode].target);
  for (const SelfTest &test : contents.selfTests) {
    if (test.code >= 0 && test.code != selectedCode)
      continue;
    const Entry &entry = contents.entries[test.entry];
    const std::string what = "self-test of entry " + quoted(entry.name) + " on code section " + target;
    std::vector<std::vector<uint8_t>> results;
    Status status = Session::record(*this, test.entry, test.dims, test.inputs, results);
    if (!status.ok())
      return Status(SETUN_ERROR_SELF_TEST, what + " failed: " + status.message());
    for (size_t i = 0; i < results.size(); ++i) {
      auto difference = std::mismatch(results[i].begin(), results[i].end(), test.outputs[i].begin());
      if (difference.first != results[i].end()) {
        const size_t element =
            static_cast<size_t>(difference.first - results[i].begin()) / setun_dtype_size(entry.outputs[i].dtype);
        return Status(SETUN_ERROR_SELF_TEST, what + ": element " + std::to_string(element) + " of output " +
                                                 quoted(entry.outputs[i].name) +
                                                 " is not what was recorded when the model was compiled");
      }
    }
  }
  return Status();
}

const std::string &Package::json() {
  std::call_once(jsonOnce, [this] { jsonText = describe(*this); });
  return jsonText;
}
