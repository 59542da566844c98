//===- Npy.h - reads and writes .npy files ----------------------*- C++ -*-===//
#ifndef SETUN_TOOLS_NPY_H
#define SETUN_TOOLS_NPY_H

#include "setun/setun.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace setun {
namespace tools {

/// A tensor with its data, dense and row-major. bf16 is kept in .npy files as raw 2-byte items ('V2'), for NumPy has
/// no such type.
struct Array {
  setun_dtype dtype = SETUN_F32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> data;

  setun_tensor tensor() { return {data.data(), dtype, static_cast<int32_t>(shape.size()), shape.data()}; }
};

/// Reads a .npy file (format 1.0 to 3.0, little-endian, C order). Returns an error message or nothing.
std::optional<std::string> readNpy(const std::string &path, Array &array);
/// Writes a .npy file. Returns an error message or nothing.
std::optional<std::string> writeNpy(const std::string &path, const Array &array);

} // namespace tools
} // namespace setun

#endif // SETUN_TOOLS_NPY_H
