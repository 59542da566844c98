//===- Npy.cpp - reads and writes .npy files ------------------------------===//
#include "Npy.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

using namespace setun::tools;

namespace {

using Error = std::optional<std::string>;

constexpr unsigned char kMagic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
constexpr size_t kMaxHeader = 65536;

struct TypeCode {
  const char *code;
  setun_dtype dtype;
};
// The first row of a type is the one that is written.
const TypeCode typeCodes[] = {{"|b1", SETUN_BOOL}, {"|i1", SETUN_I8},  {"|u1", SETUN_U8},  {"<i2", SETUN_I16},
                              {"<i4", SETUN_I32},  {"<i8", SETUN_I64}, {"<f2", SETUN_F16}, {"<V2", SETUN_BF16},
                              {"|V2", SETUN_BF16}, {"<f4", SETUN_F32}, {"<f8", SETUN_F64}};

struct FileCloser {
  void operator()(std::FILE *file) const { std::fclose(file); }
};
using FilePointer = std::unique_ptr<std::FILE, FileCloser>;

std::string systemError(const char *what, const std::string &path) {
  return std::string("cannot ") + what + " '" + path + "': " + std::strerror(errno);
}

/// Parser of the header, a Python dictionary literal: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class HeaderParser {
public:
  explicit HeaderParser(const std::string &text) : text(text) {}

  Error parse(std::string &descr, bool &fortranOrder, std::vector<int64_t> &shape) {
    bool hasDescr = false, hasOrder = false, hasShape = false;
    if (!take('{'))
      return "expects a dictionary";
    while (!take('}')) {
      std::string key;
      if (!string(key) || !take(':'))
        return "expects a key";
      if (key == "descr" && !hasDescr) {
        hasDescr = true;
        if (!string(descr))
          return "expects a simple type; structured types are not supported";
      } else if (key == "fortran_order" && !hasOrder) {
        hasOrder = true;
        if (word("True"))
          fortranOrder = true;
        else if (word("False"))
          fortranOrder = false;
        else
          return "expects True or False for fortran_order";
      } else if (key == "shape" && !hasShape) {
        hasShape = true;
        if (Error error = tuple(shape))
          return error;
      } else {
        return "has the unexpected key '" + key + "'";
      }
      if (!take(',') && !peek('}'))
        return "expects a comma";
    }
    skipSpace();
    if (position != text.size())
      return "is followed by something else";
    if (!hasDescr || !hasOrder || !hasShape)
      return "lacks descr, fortran_order or shape";
    return std::nullopt;
  }

private:
  void skipSpace() {
    while (position < text.size() && (text[position] == ' ' || text[position] == '\n' || text[position] == '\t'))
      ++position;
  }
  bool peek(char c) {
    skipSpace();
    return position < text.size() && text[position] == c;
  }
  bool take(char c) {
    if (!peek(c))
      return false;
    ++position;
    return true;
  }
  bool word(const char *expected) {
    skipSpace();
    if (text.compare(position, std::strlen(expected), expected) != 0)
      return false;
    position += std::strlen(expected);
    return true;
  }
  bool string(std::string &value) {
    skipSpace();
    if (position >= text.size() || (text[position] != '\'' && text[position] != '"'))
      return false;
    size_t end = text.find(text[position], position + 1);
    if (end == std::string::npos)
      return false;
    value = text.substr(position + 1, end - position - 1);
    position = end + 1;
    return true;
  }
  Error tuple(std::vector<int64_t> &shape) {
    if (!take('('))
      return "expects a tuple for shape";
    while (!take(')')) {
      skipSpace();
      int64_t size = 0;
      const size_t start = position;
      for (; position < text.size() && text[position] >= '0' && text[position] <= '9'; ++position)
        if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, text[position] - '0', &size))
          return "has a dimension that is too large";
      if (position == start)
        return "expects a whole number in shape";
      shape.push_back(size);
      if (shape.size() > SETUN_MAX_RANK)
        return "has more than " + std::to_string(SETUN_MAX_RANK) + " dimensions";
      if (!take(',') && !peek(')'))
        return "expects a comma in shape";
    }
    return std::nullopt;
  }

  const std::string &text;
  size_t position = 0;
};

Error readContents(std::FILE *file, Array &array) {
  unsigned char start[12];
  if (std::fread(start, 1, 8, file) != 8 || std::memcmp(start, kMagic, sizeof(kMagic)) != 0)
    return "is not a .npy file";
  const unsigned major = start[6];
  if (major < 1 || major > 3)
    return "has the unknown format version " + std::to_string(major);
  const size_t lengthSize = major == 1 ? 2 : 4;
  if (std::fread(start + 8, 1, lengthSize, file) != lengthSize)
    return "is truncated";
  size_t length = 0;
  for (size_t i = lengthSize; i-- > 0;)
    length = length << 8 | start[8 + i];
  if (length > kMaxHeader)
    return "has a header of " + std::to_string(length) + " bytes";
  std::string header(length, '\0');
  if (std::fread(header.data(), 1, length, file) != length)
    return "is truncated";

  std::string descr;
  bool fortranOrder = false;
  array.shape.clear();
  if (Error error = HeaderParser(header).parse(descr, fortranOrder, array.shape))
    return "has a bad header: it " + *error;
  const TypeCode *type = nullptr;
  for (const TypeCode &candidate : typeCodes)
    if (descr == candidate.code)
      type = &candidate;
  if (!type)
    return "has the element type '" + descr +
           "'; expects one of b1, i1, u1, i2, i4, i8, f2, f4, f8, little-endian, "
           "or V2 for bf16";
  array.dtype = type->dtype;
  if (fortranOrder && array.shape.size() > 1)
    return "is in Fortran order; save it with numpy.ascontiguousarray";
  int64_t bytes = static_cast<int64_t>(setun_dtype_size(array.dtype));
  for (int64_t size : array.shape)
    if (__builtin_mul_overflow(bytes, size, &bytes))
      return "has a shape that is too large";

  // The file's own size is the limit, so that a lying header allocates nothing.
  const long here = std::ftell(file);
  if (here < 0 || std::fseek(file, 0, SEEK_END) != 0)
    return "cannot be searched";
  const long end = std::ftell(file);
  if (end < 0 || std::fseek(file, here, SEEK_SET) != 0)
    return "cannot be searched";
  if (end - here != bytes)
    return "expects " + std::to_string(bytes) + " bytes of data, got " + std::to_string(end - here);
  array.data.resize(static_cast<size_t>(bytes));
  if (bytes && std::fread(array.data.data(), 1, array.data.size(), file) != array.data.size())
    return "is truncated";
  return std::nullopt;
}

} // namespace

Error setun::tools::readNpy(const std::string &path, Array &array) {
  FilePointer file(std::fopen(path.c_str(), "rb"));
  if (!file)
    return systemError("open", path);
  if (Error error = readContents(file.get(), array))
    return "'" + path + "' " + *error;
  return std::nullopt;
}

Error setun::tools::writeNpy(const std::string &path, const Array &array) {
  const TypeCode *type = nullptr;
  for (const TypeCode &candidate : typeCodes)
    if (!type && candidate.dtype == array.dtype)
      type = &candidate;
  if (!type)
    return "'" + path + "': unknown element type";
  std::string header = std::string("{'descr': '") + type->code + "', 'fortran_order': False, 'shape': (";
  for (int64_t size : array.shape)
    header += std::to_string(size) + ", ";
  if (array.shape.size() > 1)
    header.resize(header.size() - 2);
  header += "), }";
  // Magic, version, length and header together are a multiple of 64 bytes, the last one a line end.
  const size_t prefix = sizeof(kMagic) + 2 + 2;
  header.append((64 - (prefix + header.size() + 1) % 64) % 64, ' ');
  header += '\n';

  FilePointer file(std::fopen(path.c_str(), "wb"));
  if (!file)
    return systemError("create", path);
  const unsigned char version[4] = {1, 0, static_cast<unsigned char>(header.size() & 0xff),
                                    static_cast<unsigned char>(header.size() >> 8)};
  bool written =
      std::fwrite(kMagic, 1, sizeof(kMagic), file.get()) == sizeof(kMagic) &&
      std::fwrite(version, 1, sizeof(version), file.get()) == sizeof(version) &&
      std::fwrite(header.data(), 1, header.size(), file.get()) == header.size() &&
      (array.data.empty() || std::fwrite(array.data.data(), 1, array.data.size(), file.get()) == array.data.size());
  // What is still in the buffer may fail to reach a full disk.
  written &= std::fclose(file.release()) == 0;
  if (!written)
    return systemError("write", path);
  return std::nullopt;
}
