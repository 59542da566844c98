//===- SafeTensors.h - read-only .safetensors files -------------*- C++ -*-===//
//
// A mapped .safetensors file whose header has been checked completely before any tensor can be reached.
//
// Format: 8-byte little-endian header length n, n bytes of JSON (tensor name -> {dtype, shape, data_offsets}, plus an
// optional "__metadata__" of strings), then the data; offsets count from the end of the header. Refused: a header over
// 100 MB or past the end of the file, bad or deeply nested JSON, repeated keys, unknown dtypes, shapes whose product
// overflows, sizes that differ from product * element size, ranges outside the file, overlaps and holes (the format
// demands that tensors cover the data exactly).
//
//===----------------------------------------------------------------------===//

#ifndef SETUN_LIB_WEIGHTS_SAFETENSORS_H
#define SETUN_LIB_WEIGHTS_SAFETENSORS_H

#include "lib/Weights/DType.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <string>
#include <vector>

namespace setun {

/// One tensor of a file.
struct SafeTensor {
  std::string name;
  DType dtype = DType::U8;
  llvm::SmallVector<int64_t, 4> shape;
  /// Byte range in the file, from its beginning.
  uint64_t begin = 0, end = 0;
};

class SafeTensorsFile {
public:
  /// Maps and checks `path`. Errors name the file, the tensor, what was expected and what came.
  static llvm::Expected<std::unique_ptr<SafeTensorsFile>> open(llvm::StringRef path);
  ~SafeTensorsFile();
  SafeTensorsFile(const SafeTensorsFile &) = delete;
  SafeTensorsFile &operator=(const SafeTensorsFile &) = delete;

  llvm::StringRef path() const { return filePath; }
  /// In file order.
  llvm::ArrayRef<SafeTensor> tensors() const { return entries; }
  /// Null if there is none of that name.
  const SafeTensor *find(llvm::StringRef name) const;

  /// The tensor's bytes in the mapping: not aligned, little-endian. A file that another process shortens while it is
  /// mapped faults on access, as with any mapping.
  llvm::ArrayRef<uint8_t> data(const SafeTensor &tensor) const;

  /// Gives the mapping's resident pages back to the system. Data stays readable (pages are read again on access), also
  /// for other threads that are reading at this moment.
  void releasePages() const;

private:
  SafeTensorsFile() = default;
  llvm::Error map(llvm::StringRef path);
  llvm::Error parseHeader();

  std::string filePath;
  const uint8_t *base = nullptr;
  uint64_t size = 0;
  std::vector<SafeTensor> entries;
  llvm::StringMap<size_t> byName;
};

} // namespace setun

#endif // SETUN_LIB_WEIGHTS_SAFETENSORS_H
