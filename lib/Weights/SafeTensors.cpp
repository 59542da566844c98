//===- SafeTensors.cpp - read-only .safetensors files -----------*- C++ -*-===//
//
// Maps a file and checks its header. Nothing in the file is trusted before it has been checked.
//
//===----------------------------------------------------------------------===//

#include "lib/Weights/SafeTensors.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace setun {

namespace {

/// Bound of the format's own reader.
constexpr uint64_t kMaxHeaderBytes = 100000000;
/// A valid header nests three deep; llvm::json recurses, so depth is bounded before it sees the text.
constexpr size_t kMaxDepth = 8;

/// Printable form of a name from a file, shortened.
std::string quoted(llvm::StringRef name) {
  constexpr size_t limit = 160;
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '\'';
  llvm::printEscapedString(name.take_front(limit), os);
  os << (name.size() > limit ? "...'" : "'");
  return text;
}

llvm::Error error(llvm::StringRef path, const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), llvm::Twine(path) + ": " + message);
}

llvm::Error tensorError(llvm::StringRef path, llvm::StringRef name, const llvm::Twine &message) {
  return error(path, "tensor " + quoted(name) + ": " + message);
}

/// Finds what llvm::json does not report: nesting that is too deep for its recursion, and repeated keys (it keeps the
/// last one). Malformed text is left for the parser to report.
llvm::Error checkNestingAndKeys(llvm::StringRef path, llvm::StringRef text) {
  struct Level {
    bool isObject;
    bool expectKey;
    llvm::StringSet<> keys;
  };
  std::vector<Level> levels;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '{' || c == '[') {
      if (levels.size() == kMaxDepth)
        return error(path, "expects a header of at most " + llvm::Twine(kMaxDepth) + " nested levels, got more");
      levels.push_back({c == '{', c == '{', {}});
    } else if ((c == '}' || c == ']') && !levels.empty()) {
      levels.pop_back();
    } else if (c == ',' && !levels.empty()) {
      levels.back().expectKey = levels.back().isObject;
    } else if (c == '"') {
      const size_t begin = i;
      bool escaped = false;
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') {
          escaped = true;
          ++i;
        }
      }
      if (levels.empty() || !levels.back().expectKey || i >= text.size())
        continue;
      levels.back().expectKey = false;
      std::string key = text.slice(begin + 1, i).str();
      if (escaped) {
        llvm::Expected<llvm::json::Value> value = llvm::json::parse(text.slice(begin, i + 1));
        if (!value) {
          llvm::consumeError(value.takeError());
          continue;
        }
        key = value->getAsString()->str();
      }
      if (!levels.back().keys.insert(key).second)
        return error(path, "expects unique keys in the header, got " + quoted(key) + " twice");
    }
  }
  return llvm::Error::success();
}

/// A non-negative integer that fits in int64_t.
std::optional<int64_t> asSize(const llvm::json::Value &value) {
  std::optional<int64_t> number = value.getAsInteger();
  return number && *number >= 0 ? number : std::nullopt;
}

llvm::Expected<SafeTensor> parseTensor(llvm::StringRef path, llvm::StringRef name, const llvm::json::Value &value,
                                       uint64_t dataBegin, uint64_t dataSize) {
  const llvm::json::Object *object = value.getAsObject();
  if (!object)
    return tensorError(path, name, "expects an object in the header, got another JSON value");
  SafeTensor tensor;
  tensor.name = name.str();

  std::optional<llvm::StringRef> dtype = object->getString("dtype");
  if (!dtype)
    return tensorError(path, name, "expects a string 'dtype', got none");
  std::optional<DType> parsed = parseDType(*dtype);
  if (!parsed)
    return tensorError(path, name,
                       "expects dtype BOOL, U8, I8, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64 or an F8 type, "
                       "got " +
                           quoted(*dtype));
  tensor.dtype = *parsed;

  const llvm::json::Array *shape = object->getArray("shape");
  if (!shape)
    return tensorError(path, name, "expects an array 'shape', got none");
  for (const llvm::json::Value &element : *shape) {
    std::optional<int64_t> dim = asSize(element);
    if (!dim)
      return tensorError(path, name, "expects non-negative integers in 'shape', got " + llvm::formatv("{0}", element));
    tensor.shape.push_back(*dim);
  }
  std::optional<int64_t> count = elementCount(tensor.shape);
  uint64_t bytes = 0;
  if (!count || __builtin_mul_overflow(static_cast<uint64_t>(*count), uint64_t(dtypeSize(*parsed)), &bytes))
    return tensorError(path, name, "expects a size below 2^63, got shape " + shapeString(tensor.shape));

  const llvm::json::Array *offsets = object->getArray("data_offsets");
  if (!offsets || offsets->size() != 2)
    return tensorError(path, name,
                       "expects 'data_offsets' of two integers, got " +
                           (offsets ? llvm::Twine(offsets->size()).str() : std::string("none")));
  std::optional<int64_t> begin = asSize((*offsets)[0]), end = asSize((*offsets)[1]);
  if (!begin || !end)
    return tensorError(path, name,
                       "expects non-negative integers in 'data_offsets', got " +
                           llvm::formatv("[{0}, {1}]", (*offsets)[0], (*offsets)[1]).str());
  if (*begin > *end)
    return tensorError(path, name,
                       "expects data_offsets in order, got [" + llvm::Twine(*begin) + ", " + llvm::Twine(*end) + "]");
  if (static_cast<uint64_t>(*end) > dataSize)
    return tensorError(path, name,
                       "expects data_offsets within the file's " + llvm::Twine(dataSize) + " bytes of data, got [" +
                           llvm::Twine(*begin) + ", " + llvm::Twine(*end) + "]: the file is truncated or damaged");
  if (static_cast<uint64_t>(*end - *begin) != bytes)
    return tensorError(path, name,
                       "expects " + llvm::Twine(bytes) + " bytes for " + dtypeName(*parsed) + " of shape " +
                           shapeString(tensor.shape) + ", got data_offsets of " + llvm::Twine(*end - *begin) +
                           " bytes");
  tensor.begin = dataBegin + static_cast<uint64_t>(*begin);
  tensor.end = dataBegin + static_cast<uint64_t>(*end);
  return tensor;
}

} // namespace

llvm::Expected<std::unique_ptr<SafeTensorsFile>> SafeTensorsFile::open(llvm::StringRef path) {
  std::unique_ptr<SafeTensorsFile> file(new SafeTensorsFile());
  if (llvm::Error err = file->map(path))
    return err;
  if (llvm::Error err = file->parseHeader())
    return err;
  return file;
}

SafeTensorsFile::~SafeTensorsFile() {
  if (base)
    ::munmap(const_cast<uint8_t *>(base), size);
}

llvm::Error SafeTensorsFile::map(llvm::StringRef path) {
  filePath = path.str();
  // Not blocking: opening a pipe must fail below instead of waiting for a writer.
  const int fd = ::open(filePath.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return error(path, "cannot open: " + std::generic_category().message(errno));
  struct stat status;
  if (::fstat(fd, &status) != 0) {
    const int code = errno;
    ::close(fd);
    return error(path, "cannot read: " + std::generic_category().message(code));
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(fd);
    return error(path, "expects a regular file, got something else");
  }
  size = static_cast<uint64_t>(status.st_size);
  if (size < 8) {
    ::close(fd);
    return error(path, "expects at least 8 bytes of header length, got a file of " + llvm::Twine(size) + " bytes");
  }
  void *mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int code = errno;
  ::close(fd);
  if (mapped == MAP_FAILED)
    return error(path, "cannot map " + llvm::Twine(size) + " bytes: " + std::generic_category().message(code));
  base = static_cast<const uint8_t *>(mapped);
  ::madvise(mapped, size, MADV_SEQUENTIAL);
  return llvm::Error::success();
}

llvm::Error SafeTensorsFile::parseHeader() {
  const uint64_t length = llvm::support::endian::read64le(base);
  if (length > kMaxHeaderBytes)
    return error(filePath, "expects a header of at most " + llvm::Twine(kMaxHeaderBytes) + " bytes, got " +
                               llvm::Twine(length) + ": not a .safetensors file, or damaged");
  if (length > size - 8)
    return error(filePath, "expects a header of " + llvm::Twine(length) + " bytes, got a file of only " +
                               llvm::Twine(size) + " bytes: the file is truncated or damaged");
  const llvm::StringRef text(reinterpret_cast<const char *>(base + 8), length);
  if (!text.starts_with("{"))
    return error(filePath, "expects a JSON object as header, got " +
                               (text.empty() ? std::string("nothing") : quoted(text.take_front(8))));
  if (llvm::Error err = checkNestingAndKeys(filePath, text))
    return err;
  llvm::Expected<llvm::json::Value> json = llvm::json::parse(text);
  if (!json)
    return error(filePath, "expects JSON in the header, got an error: " + llvm::toString(json.takeError()));
  const llvm::json::Object *object = json->getAsObject();
  if (!object)
    return error(filePath, "expects a JSON object as header, got another JSON value");

  const uint64_t dataBegin = 8 + length, dataSize = size - dataBegin;
  for (const auto &[key, value] : *object) {
    const llvm::StringRef name = key;
    if (name == "__metadata__") {
      const llvm::json::Object *pairs = value.getAsObject();
      if (!pairs)
        return error(filePath, "expects an object of strings in '__metadata__', got another JSON value");
      for (const auto &[metaKey, metaValue] : *pairs)
        if (!metaValue.getAsString())
          return error(filePath, "expects strings in '__metadata__', got another JSON value for " + quoted(metaKey));
      continue;
    }
    llvm::Expected<SafeTensor> tensor = parseTensor(filePath, name, value, dataBegin, dataSize);
    if (!tensor)
      return tensor.takeError();
    entries.push_back(std::move(*tensor));
  }
  llvm::sort(entries, [](const SafeTensor &a, const SafeTensor &b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });

  uint64_t covered = dataBegin;
  for (size_t i = 0; i < entries.size(); ++i) {
    const SafeTensor &tensor = entries[i];
    if (tensor.begin < covered)
      return tensorError(filePath, tensor.name,
                         "expects data of its own, got data_offsets that overlap those of " +
                             quoted(entries[i - 1].name));
    if (tensor.begin > covered)
      return tensorError(filePath, tensor.name,
                         "expects tensors without holes between them, got " + llvm::Twine(tensor.begin - covered) +
                             " bytes before it that belong to none");
    covered = tensor.end;
  }
  if (covered != size)
    return error(filePath, "expects the file to end with its last tensor, got " + llvm::Twine(size - covered) +
                               " bytes after it");
  for (size_t i = 0; i < entries.size(); ++i)
    byName[entries[i].name] = i;
  return llvm::Error::success();
}

const SafeTensor *SafeTensorsFile::find(llvm::StringRef name) const {
  auto it = byName.find(name);
  return it == byName.end() ? nullptr : &entries[it->second];
}

llvm::ArrayRef<uint8_t> SafeTensorsFile::data(const SafeTensor &tensor) const {
  return {base + tensor.begin, static_cast<size_t>(tensor.end - tensor.begin)};
}

void SafeTensorsFile::releasePages() const { ::madvise(const_cast<uint8_t *>(base), size, MADV_DONTNEED); }

} // namespace setun
