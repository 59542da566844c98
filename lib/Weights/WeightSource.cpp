//===- WeightSource.cpp - named weights, streamed by rows -------*- C++ -*-===//
//
// Look-up, and conversion of rows from each encoding. Inner loops are written so that they vectorise with SSE2: they
// gather "something was wrong" in a flag, and a slow second look finds the place.
//
//===----------------------------------------------------------------------===//

#include "lib/Weights/WeightSource.h"

#include "lib/Weights/SafeTensors.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace setun {

namespace {

/// Floats that are converted at a time, on the stack.
constexpr int64_t kChunk = 1024;
/// Bytes read from a file after which its pages are given back: about one large layer.
constexpr uint64_t kResidentLimit = 64u << 20;

using llvm::support::endian::read16le;
using llvm::support::endian::read32le;
using llvm::support::endian::read64le;

template <typename To, typename From> To bitCast(From value) {
  static_assert(sizeof(To) == sizeof(From), "sizes must agree");
  To result;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

/// How doubles become floats.
enum class Narrowing {
  Nearest, ///< the result itself is f32
  Odd,     ///< the result is compared with exact values, or rounded again to fewer bits
};

/// Converts elements [begin, begin + count) of a float tensor.
void toFloat(DType dtype, const uint8_t *bytes, int64_t begin, int64_t count, Narrowing narrowing, float *out) {
  const uint8_t *src = bytes + begin * dtypeSize(dtype);
  switch (dtype) {
  case DType::F32:
    for (int64_t i = 0; i < count; ++i)
      out[i] = bitCast<float>(read32le(src + 4 * i));
    return;
  case DType::BF16:
    for (int64_t i = 0; i < count; ++i)
      out[i] = bitCast<float>(uint32_t(read16le(src + 2 * i)) << 16);
    return;
  case DType::F16:
    for (int64_t i = 0; i < count; ++i)
      out[i] = f16ToFloat(read16le(src + 2 * i));
    return;
  case DType::F64:
    for (int64_t i = 0; i < count; ++i) {
      const double value = bitCast<double>(read64le(src + 8 * i));
      out[i] = narrowing == Narrowing::Odd ? doubleToFloatOdd(value) : static_cast<float>(value);
    }
    return;
  default:
    llvm_unreachable("callers check that the dtype is a float");
  }
}

/// Calls body(const float *values, int64_t column, int64_t count) for consecutive pieces of a row.
template <typename Body>
void forRowChunks(DType dtype, const uint8_t *bytes, int64_t row, int64_t K, Narrowing narrowing, Body &&body) {
  float buffer[kChunk];
  for (int64_t k = 0; k < K; k += kChunk) {
    const int64_t count = std::min(kChunk, K - k);
    toFloat(dtype, bytes, row * K + k, count, narrowing, buffer);
    body(static_cast<const float *>(buffer), k, count);
  }
}

/// Codes of one row of a Hugging Face packed matrix; false if a code 3 occurs.
template <unsigned Shift> bool unpackHF(const uint8_t *src, int64_t K, int8_t *out) {
  // Eight bytes at a time: x in 0..3 becomes x - 1 without borrows between bytes as (x + 0x7f) ^ 0x80.
  constexpr uint64_t ones = 0x0101010101010101u;
  uint64_t bad = 0;
  int64_t k = 0;
  for (; k + 8 <= K; k += 8) {
    uint64_t x;
    std::memcpy(&x, src + k, 8);
    x = x >> Shift & 3 * ones;
    bad |= x & x >> 1;
    x = (x + 0x7f * ones) ^ 0x80 * ones;
    std::memcpy(out + k, &x, 8);
  }
  bad &= ones;
  for (; k < K; ++k) {
    const unsigned x = src[k] >> Shift & 3u;
    bad |= x == 3u;
    out[k] = static_cast<int8_t>(static_cast<int>(x) - 1);
  }
  return bad == 0;
}

bool unpackHF(unsigned field, const uint8_t *src, int64_t K, int8_t *out) {
  switch (field) {
  case 0:
    return unpackHF<0>(src, K, out);
  case 1:
    return unpackHF<2>(src, K, out);
  case 2:
    return unpackHF<4>(src, K, out);
  default:
    return unpackHF<6>(src, K, out);
  }
}

/// Copies values that lie in {-1, 0, +1}; false if another value occurs.
bool codesFromI8(const uint8_t *src, int64_t K, int8_t *out) {
  unsigned char bad = 0;
  for (int64_t k = 0; k < K; ++k) {
    out[k] = static_cast<int8_t>(src[k]);
    bad |= static_cast<unsigned char>(src[k] + 1u) > 2u;
  }
  return !bad;
}

/// Copies values that lie in {0, 1}; false if another value occurs.
bool codesFromU8(const uint8_t *src, int64_t K, int8_t *out) {
  unsigned char bad = 0;
  for (int64_t k = 0; k < K; ++k) {
    out[k] = static_cast<int8_t>(src[k]);
    bad |= src[k] > 1u;
  }
  return !bad;
}

bool codesFromFloat(DType dtype, const uint8_t *bytes, int64_t row, int64_t K, int8_t *out) {
  int bad = 0;
  forRowChunks(dtype, bytes, row, K, Narrowing::Odd, [&](const float *values, int64_t column, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const int code = (values[i] > 0.0f) - (values[i] < 0.0f);
      out[column + i] = static_cast<int8_t>(code);
      bad |= !(values[i] == static_cast<float>(code));
    }
  });
  return !bad;
}

/// Value of one element as text, for messages.
std::string elementText(DType dtype, const uint8_t *bytes, int64_t index) {
  std::string text;
  llvm::raw_string_ostream os(text);
  switch (dtype) {
  case DType::I8:
    os << static_cast<int>(static_cast<int8_t>(bytes[index]));
    break;
  case DType::F64:
    os << llvm::format("%.17g", bitCast<double>(read64le(bytes + 8 * index)));
    break;
  case DType::F32:
  case DType::F16:
  case DType::BF16: {
    float value;
    toFloat(dtype, bytes, index, 1, Narrowing::Nearest, &value);
    os << llvm::format("%.9g", static_cast<double>(value));
    break;
  }
  default:
    os << static_cast<unsigned>(bytes[index]);
    break;
  }
  return text;
}

/// "row 3, column 17".
std::string place(int64_t row, int64_t column) { return llvm::formatv("row {0}, column {1}", row, column).str(); }

/// Sums in double, with a fixed order of additions that vectorises.
struct Sums {
  double sum[8] = {}, magnitude[8] = {};

  void add(const float *values, int64_t count) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
      for (int64_t j = 0; j < 8; ++j) {
        const double value = values[i + j];
        sum[j] += value;
        magnitude[j] += std::fabs(value);
      }
    for (; i < count; ++i) {
      sum[i % 8] += values[i];
      magnitude[i % 8] += std::fabs(static_cast<double>(values[i]));
    }
  }
  static double total(const double (&parts)[8]) {
    return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
  }
};

} // namespace

void TernaryStats::add(const int8_t *codes, int64_t count) {
  // Byte counters for 16 lanes hold 255 rounds before they are emptied.
  int64_t i = 0;
  uint64_t plusCount = 0, minusCount = 0;
  while (i + 16 <= count) {
    uint8_t p[16] = {}, m[16] = {};
    const int64_t end = i + std::min<int64_t>(255, (count - i) / 16) * 16;
    for (; i < end; i += 16)
      for (int64_t j = 0; j < 16; ++j) {
        p[j] = static_cast<uint8_t>(p[j] + (codes[i + j] > 0));
        m[j] = static_cast<uint8_t>(m[j] + (codes[i + j] < 0));
      }
    for (int64_t j = 0; j < 16; ++j) {
      plusCount += p[j];
      minusCount += m[j];
    }
  }
  for (; i < count; ++i) {
    plusCount += codes[i] > 0;
    minusCount += codes[i] < 0;
  }
  plus += plusCount;
  minus += minusCount;
  zero += static_cast<uint64_t>(count) - plusCount - minusCount;
}

WeightSource::~WeightSource() = default;

llvm::Expected<std::unique_ptr<WeightSource>> WeightSource::open(llvm::ArrayRef<std::string> files) {
  std::unique_ptr<WeightSource> source(new WeightSource());
  for (const std::string &path : files) {
    llvm::Expected<std::unique_ptr<SafeTensorsFile>> file = SafeTensorsFile::open(path);
    if (!file)
      return file.takeError();
    const int index = static_cast<int>(source->files.size());
    source->files.push_back(std::move(*file));
    source->resident.push_back(0);
    const SafeTensorsFile &opened = *source->files.back();
    for (const SafeTensor &tensor : opened.tensors())
      if (llvm::Error err = source->addEntry(tensor.name, tensor.dtype, tensor.shape, opened.data(tensor), index))
        return err;
  }
  return source;
}

llvm::Expected<std::unique_ptr<WeightSource>> WeightSource::fromMemory(std::vector<MemoryTensor> tensors) {
  std::unique_ptr<WeightSource> source(new WeightSource());
  for (MemoryTensor &tensor : tensors) {
    std::optional<int64_t> count = elementCount(tensor.shape);
    uint64_t bytes = 0;
    if (!count || __builtin_mul_overflow(static_cast<uint64_t>(*count), uint64_t(dtypeSize(tensor.dtype)), &bytes) ||
        bytes != tensor.bytes.size())
      return llvm::createStringError("tensor '" + tensor.name + "' in <memory>: expects as many bytes as " +
                                     dtypeName(tensor.dtype) + " of shape " + shapeString(tensor.shape) +
                                     " takes, got " + llvm::Twine(tensor.bytes.size()));
    source->memory.push_back(std::move(tensor.bytes));
    if (llvm::Error err = source->addEntry(tensor.name, tensor.dtype, tensor.shape, source->memory.back(), -1))
      return err;
  }
  return source;
}

llvm::Error WeightSource::addEntry(llvm::StringRef name, DType dtype, llvm::ArrayRef<int64_t> shape,
                                   llvm::ArrayRef<uint8_t> bytes, int file) {
  auto [it, inserted] = entries.try_emplace(name);
  Entry &entry = it->second;
  if (!inserted) {
    const std::string first = fileName(entry).str();
    const std::string second = file < 0 ? "<memory>" : files[file]->path().str();
    return llvm::createStringError("tensor '" + name + "': expects one definition, got one in " + first +
                                   " and one in " + second);
  }
  entry.dtype = dtype;
  entry.shape.assign(shape.begin(), shape.end());
  entry.bytes = bytes;
  entry.file = file;
  return llvm::Error::success();
}

llvm::StringRef WeightSource::fileName(const Entry &entry) const {
  return entry.file < 0 ? llvm::StringRef("<memory>") : files[entry.file]->path();
}

llvm::Error WeightSource::fail(llvm::StringRef name, const Entry &entry, const llvm::Twine &message) const {
  return llvm::createStringError("tensor '" + name + "' in " + fileName(entry) + ": " + message);
}

bool WeightSource::contains(llvm::StringRef name) const { return entries.contains(name); }

std::vector<std::string> WeightSource::names() const {
  std::vector<std::string> result;
  for (const auto &entry : entries)
    result.push_back(entry.getKey().str());
  llvm::sort(result);
  return result;
}

llvm::Expected<const WeightSource::Entry *> WeightSource::findEntry(llvm::StringRef name) const {
  auto it = entries.find(name);
  if (it != entries.end())
    return &it->second;

  // Nearest first. A name that only lacks or has a prefix ("model.") counts as near.
  std::vector<std::pair<unsigned, std::string>> near;
  const unsigned limit = std::max<unsigned>(2, static_cast<unsigned>(name.size() / 4));
  for (const auto &entry : entries) {
    const llvm::StringRef candidate = entry.getKey();
    unsigned distance = name.edit_distance(candidate, /*AllowReplacements=*/true, limit);
    if (candidate.ends_with("." + name.str()) || name.ends_with("." + candidate.str()))
      distance = 1;
    if (distance <= limit)
      near.emplace_back(distance, candidate.str());
  }
  llvm::sort(near);
  std::string message = "expects a tensor '" + name.str() + "' in the weight files, got none of that name among " +
                        std::to_string(entries.size());
  if (!near.empty()) {
    message += "; did you mean ";
    for (size_t i = 0; i < std::min<size_t>(near.size(), 3); ++i)
      message += (i ? ", '" : "'") + near[i].second + "'";
    message += "?";
  }
  return llvm::createStringError(message);
}

llvm::Expected<WeightSource::Info> WeightSource::lookup(llvm::StringRef name) const {
  llvm::Expected<const Entry *> entry = findEntry(name);
  if (!entry)
    return entry.takeError();
  return Info{(*entry)->dtype, (*entry)->shape, fileName(**entry).str()};
}

void WeightSource::consumed(const Entry &entry, uint64_t bytes) const {
  if (entry.file < 0)
    return;
  std::lock_guard<std::mutex> lock(mutex);
  resident[entry.file] += bytes;
  if (resident[entry.file] < kResidentLimit)
    return;
  resident[entry.file] = 0;
  files[entry.file]->releasePages();
}

llvm::Expected<const WeightSource::Entry *> WeightSource::findRows(llvm::StringRef name, int64_t N, int64_t rowBegin,
                                                                   int64_t rowEnd) const {
  llvm::Expected<const Entry *> entry = findEntry(name);
  if (entry && (rowBegin < 0 || rowBegin > rowEnd || rowEnd > N))
    return fail(name, **entry, llvm::formatv("expects rows within 0..{0}, got {1}..{2}", N, rowBegin, rowEnd).str());
  return entry;
}

llvm::Error WeightSource::checkFloatMatrix(llvm::StringRef name, const Entry &entry, int64_t N, int64_t K) const {
  if (!isFloatDType(entry.dtype) || llvm::ArrayRef(entry.shape) != llvm::ArrayRef<int64_t>({N, K}))
    return fail(name, entry,
                "expects F16, BF16, F32 or F64 of shape " + shapeString({N, K}) + ", got " + dtypeName(entry.dtype) +
                    " of shape " + shapeString(entry.shape));
  return llvm::Error::success();
}

llvm::Error WeightSource::readTernaryRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                          int8_t *out, TernaryStats *stats) const {
  llvm::Expected<const Entry *> found = findRows(name, N, rowBegin, rowEnd);
  if (!found)
    return found.takeError();
  const Entry &entry = **found;
  const bool packed = entry.dtype == DType::U8;
  const int64_t packedRows = N / 4 + (N % 4 != 0);
  if (!(packed || entry.dtype == DType::I8 || isFloatDType(entry.dtype)) ||
      llvm::ArrayRef(entry.shape) != llvm::ArrayRef<int64_t>({packed ? packedRows : N, K}))
    return fail(name, entry,
                "expects ternary weights " + shapeString({N, K}) + " as U8 of shape " + shapeString({packedRows, K}) +
                    " (four rows a byte) or as I8, F16, BF16, F32 or F64 of shape " + shapeString({N, K}) + ", got " +
                    dtypeName(entry.dtype) + " of shape " + shapeString(entry.shape));

  const uint8_t *bytes = entry.bytes.data();
  for (int64_t row = rowBegin; row < rowEnd; ++row) {
    int8_t *dst = out + (row - rowBegin) * K;
    if (packed) {
      const uint8_t *src = bytes + row % packedRows * K;
      const unsigned field = static_cast<unsigned>(row / packedRows);
      if (unpackHF(field, src, K, dst))
        continue;
      int64_t column = 0;
      while ((src[column] >> 2 * field & 3) != 3)
        ++column;
      return fail(name, entry,
                  place(row, column) + ": expects a packed code 0, 1 or 2, got 3: not ternary, or another packing");
    }
    const bool good = entry.dtype == DType::I8 ? codesFromI8(bytes + row * K, K, dst)
                                               : codesFromFloat(entry.dtype, bytes, row, K, dst);
    if (!good)
      return badElement(name, entry, row, K, "-1, 0 or +1");
  }
  const int64_t count = (rowEnd - rowBegin) * K;
  if (stats)
    stats->add(out, count);
  consumed(entry, static_cast<uint64_t>(count) * dtypeSize(entry.dtype));
  return llvm::Error::success();
}

llvm::Error WeightSource::badElement(llvm::StringRef name, const Entry &entry, int64_t row, int64_t K,
                                     llvm::StringRef expected) const {
  const uint8_t *bytes = entry.bytes.data();
  int64_t column = 0;
  for (; column < K; ++column) {
    const int64_t index = row * K + column;
    if (isFloatDType(entry.dtype)) {
      float value;
      toFloat(entry.dtype, bytes, index, 1, Narrowing::Odd, &value);
      if (!(value == -1.0f || value == 0.0f || value == 1.0f))
        break;
    } else if (entry.dtype == DType::I8 ? static_cast<uint8_t>(bytes[index] + 1u) > 2u : bytes[index] > 1u) {
      break;
    }
  }
  return fail(name, entry,
              place(row, column) + ": expects " + expected + ", got " +
                  elementText(entry.dtype, bytes, row * K + column));
}

llvm::Error WeightSource::readBinaryRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                         int8_t *out) const {
  llvm::Expected<const Entry *> found = findRows(name, N, rowBegin, rowEnd);
  if (!found)
    return found.takeError();
  const Entry &entry = **found;
  const bool isUnsigned = entry.dtype == DType::U8 || entry.dtype == DType::Bool;
  if (!(isUnsigned || entry.dtype == DType::I8 || isFloatDType(entry.dtype)) ||
      llvm::ArrayRef(entry.shape) != llvm::ArrayRef<int64_t>({N, K}))
    return fail(name, entry,
                "expects binary weights as U8, BOOL, I8, F16, BF16, F32 or F64 of shape " + shapeString({N, K}) +
                    ", got " + dtypeName(entry.dtype) + " of shape " + shapeString(entry.shape));

  const uint8_t *bytes = entry.bytes.data();
  for (int64_t row = rowBegin; row < rowEnd; ++row) {
    int8_t *dst = out + (row - rowBegin) * K;
    const bool good = isUnsigned                 ? codesFromU8(bytes + row * K, K, dst)
                      : entry.dtype == DType::I8 ? codesFromI8(bytes + row * K, K, dst)
                                                 : codesFromFloat(entry.dtype, bytes, row, K, dst);
    if (!good)
      return badElement(name, entry, row, K, isUnsigned ? "0 or 1" : "-1, 0 or +1");
    unsigned char zero = 0, minus = 0;
    for (int64_t k = 0; k < K; ++k) {
      zero |= dst[k] == 0;
      minus |= dst[k] < 0;
    }
    {
      std::lock_guard<std::mutex> lock(mutex);
      zero |= entry.sawZero;
      minus |= entry.sawMinus;
      entry.sawZero = zero;
      entry.sawMinus = minus;
    }
    if (zero && minus) {
      return fail(name, entry,
                  "row " + llvm::Twine(row) +
                      ": expects binary weights to be either 0 and 1 or -1 and +1, got both 0 "
                      "and -1 in the tensor: ternary?");
    }
    for (int64_t k = 0; k < K; ++k)
      dst[k] = dst[k] > 0 ? int8_t(1) : int8_t(-1);
  }
  consumed(entry, static_cast<uint64_t>(rowEnd - rowBegin) * K * dtypeSize(entry.dtype));
  return llvm::Error::success();
}

llvm::Error WeightSource::readFloat(llvm::StringRef name, llvm::ArrayRef<int64_t> shape,
                                    std::vector<float> &out) const {
  llvm::Expected<const Entry *> found = findEntry(name);
  if (!found)
    return found.takeError();
  const Entry &entry = **found;
  if (!isFloatDType(entry.dtype) || llvm::ArrayRef(entry.shape) != shape)
    return fail(name, entry,
                "expects F16, BF16, F32 or F64 of shape " + shapeString(shape) + ", got " + dtypeName(entry.dtype) +
                    " of shape " + shapeString(entry.shape));
  const int64_t count = static_cast<int64_t>(entry.bytes.size() / dtypeSize(entry.dtype));
  out.resize(static_cast<size_t>(count));
  toFloat(entry.dtype, entry.bytes.data(), 0, count, Narrowing::Nearest, out.data());
  consumed(entry, entry.bytes.size());
  return llvm::Error::success();
}

template <typename T>
llvm::Error WeightSource::readRowsAs(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                     DType wanted, T *out) const {
  llvm::Expected<const Entry *> found = findRows(name, N, rowBegin, rowEnd);
  if (!found)
    return found.takeError();
  const Entry &entry = **found;
  if (llvm::Error err = checkFloatMatrix(name, entry, N, K))
    return err;
  const uint8_t *bytes = entry.bytes.data();
  const int64_t count = (rowEnd - rowBegin) * K;
  if constexpr (std::is_same_v<T, float>) {
    toFloat(entry.dtype, bytes, rowBegin * K, count, Narrowing::Nearest, out);
  } else if (entry.dtype == wanted) {
    for (int64_t i = 0; i < count; ++i)
      out[i] = read16le(bytes + 2 * (rowBegin * K + i));
  } else {
    for (int64_t row = rowBegin; row < rowEnd; ++row) {
      T *dst = out + (row - rowBegin) * K;
      forRowChunks(entry.dtype, bytes, row, K, Narrowing::Odd, [&](const float *values, int64_t column, int64_t chunk) {
        for (int64_t i = 0; i < chunk; ++i)
          dst[column + i] = wanted == DType::F16 ? floatToF16(values[i]) : floatToBF16(values[i]);
      });
    }
  }
  consumed(entry, static_cast<uint64_t>(count) * dtypeSize(entry.dtype));
  return llvm::Error::success();
}

llvm::Error WeightSource::readRowsF32(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                      float *out) const {
  return readRowsAs(name, N, K, rowBegin, rowEnd, DType::F32, out);
}

llvm::Error WeightSource::readRowsF16(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                      uint16_t *out) const {
  return readRowsAs(name, N, K, rowBegin, rowEnd, DType::F16, out);
}

llvm::Error WeightSource::readRowsBF16(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                       uint16_t *out) const {
  return readRowsAs(name, N, K, rowBegin, rowEnd, DType::BF16, out);
}

llvm::Error WeightSource::notFinite(llvm::StringRef name, const Entry &entry, int64_t row, int64_t K) const {
  int64_t place = 0;
  forRowChunks(entry.dtype, entry.bytes.data(), row, K, Narrowing::Nearest,
               [&](const float *values, int64_t column, int64_t count) {
                 for (int64_t i = 0; i < count && place == column + i; ++i)
                   place += std::isfinite(values[i]);
               });
  return fail(name, entry,
              setun::place(row, place) + ": expects finite master weights, got " +
                  elementText(entry.dtype, entry.bytes.data(), row * K + place));
}

llvm::Expected<MasterScales> WeightSource::measure(llvm::StringRef name, int64_t N, int64_t K, int64_t groupSize,
                                                   bool withAlpha, float eps) const {
  llvm::Expected<const Entry *> found = findEntry(name);
  if (!found)
    return found.takeError();
  const Entry &entry = **found;
  if (llvm::Error err = checkFloatMatrix(name, entry, N, K))
    return err;
  if (groupSize < 0 || groupSize > K || entry.bytes.empty())
    return fail(name, entry,
                llvm::formatv("expects weights and a group size within 0..{0}, got shape {1} and {2}", K,
                              shapeString({N, K}), groupSize)
                    .str());
  MasterScales result;
  result.groupSize = groupSize;
  result.groups = groupSize == 0 ? 1 : K / groupSize + (K % groupSize != 0);
  auto finish = [&](const Sums &sums, int64_t count) {
    const double magnitude = Sums::total(sums.magnitude) / static_cast<double>(count);
    result.scale.push_back(std::max(static_cast<float>(magnitude), eps));
    if (withAlpha)
      result.alpha.push_back(static_cast<float>(Sums::total(sums.sum) / static_cast<double>(count)));
  };

  Sums whole;
  std::vector<float> values(static_cast<size_t>(K));
  for (int64_t row = 0; row < N; ++row) {
    toFloat(entry.dtype, entry.bytes.data(), row * K, K, Narrowing::Nearest, values.data());
    int bad = 0;
    for (float value : values)
      bad |= !(std::fabs(value) <= FLT_MAX);
    if (bad)
      return notFinite(name, entry, row, K);
    if (groupSize == 0) {
      whole.add(values.data(), K);
    } else {
      for (int64_t k = 0; k < K; k += groupSize) {
        const int64_t count = std::min(groupSize, K - k);
        Sums sums;
        sums.add(values.data() + k, count);
        finish(sums, count);
      }
    }
    consumed(entry, static_cast<uint64_t>(K) * dtypeSize(entry.dtype));
  }
  if (groupSize == 0)
    finish(whole, N * K);
  return result;
}

/// Runs body(values, group scale index, first column, count, codes) over pieces of rows that share a scale.
template <typename Body>
llvm::Error WeightSource::quantizeRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                       const MasterScales &scales, bool withAlpha, int8_t *out, Body &&body) const {
  llvm::Expected<const Entry *> found = findRows(name, N, rowBegin, rowEnd);
  if (!found)
    return found.takeError();
  const Entry &entry = **found;
  if (llvm::Error err = checkFloatMatrix(name, entry, N, K))
    return err;
  const int64_t groupSize = scales.groupSize;
  const int64_t groups = groupSize <= 0 ? 1 : K / groupSize + (K % groupSize != 0);
  const size_t expected = groupSize == 0 ? 1 : static_cast<size_t>(N * groups);
  if (groupSize < 0 || scales.groups != groups || scales.scale.size() != expected ||
      scales.alpha.size() != (withAlpha ? expected : 0))
    return fail(name, entry,
                llvm::formatv("expects {0} scales (and as many means for signs) in {1} groups, got {2} and {3} in {4}",
                              expected, groups, scales.scale.size(), scales.alpha.size(), scales.groups)
                    .str());
  std::vector<float> values(static_cast<size_t>(K));
  for (int64_t row = rowBegin; row < rowEnd; ++row) {
    toFloat(entry.dtype, entry.bytes.data(), row * K, K, Narrowing::Nearest, values.data());
    int bad = 0;
    for (float value : values)
      bad |= !(std::fabs(value) <= FLT_MAX);
    if (bad)
      return notFinite(name, entry, row, K);
    const int64_t step = groupSize == 0 ? K : groupSize;
    for (int64_t k = 0, group = 0; k < K; k += step, ++group)
      body(values.data() + k, scales.index(row, group), std::min(step, K - k), out + (row - rowBegin) * K + k);
  }
  consumed(entry, static_cast<uint64_t>(rowEnd - rowBegin) * K * dtypeSize(entry.dtype));
  return llvm::Error::success();
}

llvm::Expected<MasterScales> WeightSource::measureAbsMean(llvm::StringRef name, int64_t N, int64_t K, int64_t groupSize,
                                                          float eps) const {
  return measure(name, N, K, groupSize, /*withAlpha=*/false, eps);
}

llvm::Error WeightSource::quantizeAbsMeanRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin,
                                              int64_t rowEnd, const MasterScales &scales, int8_t *out,
                                              TernaryStats *stats) const {
  llvm::Error err = quantizeRows(name, N, K, rowBegin, rowEnd, scales, /*withAlpha=*/false, out,
                                 [&](const float *values, size_t scale, int64_t count, int8_t *codes) {
                                   const float inverse = 1.0f / scales.scale[scale];
                                   // clamp(rhe(v), -1, 1): exactly a half rounds to 0, everything above it to 1 or
                                   // more.
                                   for (int64_t i = 0; i < count; ++i) {
                                     const float v = values[i] * inverse;
                                     codes[i] = static_cast<int8_t>((v > 0.5f) - (v < -0.5f));
                                   }
                                 });
  if (err)
    return err;
  if (stats)
    stats->add(out, (rowEnd - rowBegin) * K);
  return llvm::Error::success();
}

llvm::Expected<MasterScales> WeightSource::measureSign(llvm::StringRef name, int64_t N, int64_t K,
                                                       int64_t groupSize) const {
  return measure(name, N, K, groupSize, /*withAlpha=*/true, /*eps=*/0.0f);
}

llvm::Error WeightSource::quantizeSignRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                           const MasterScales &scales, int8_t *out) const {
  return quantizeRows(name, N, K, rowBegin, rowEnd, scales, /*withAlpha=*/true, out,
                      [&](const float *values, size_t scale, int64_t count, int8_t *codes) {
                        const float alpha = scales.alpha[scale];
                        for (int64_t i = 0; i < count; ++i)
                          codes[i] = values[i] - alpha > 0.0f ? int8_t(1) : int8_t(-1);
                      });
}

} // namespace setun
