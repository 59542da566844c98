//===- Manifest.h - what a package says about itself ------------*- C++ -*-===//
//
// The manifest, decoded and checked: after decode() every index, count, size and name in it can be used as it is.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_RUNTIME_MANIFEST_H
#define SETUN_RUNTIME_MANIFEST_H

#include "Status.h"
#include "setun/Package.h"

#include <cstdint>
#include <string>
#include <vector>

namespace setun {
namespace runtime {

/// Largest number of dimension symbols of an entry.
inline constexpr unsigned kMaxSymbols = 64;

struct Dim {
  int32_t symbol; ///< index into Entry::symbols, or -1
  int64_t size;   ///< where symbol is -1
};

struct Tensor {
  std::string name;
  setun_dtype dtype;
  /// Inputs of i64: elements lie in [0, below); 0: no such limit.
  int64_t below = 0;
  std::vector<Dim> shape;
  /// The same as setun_tensor_info has it.
  std::vector<int64_t> sizes;
  std::vector<const char *> symbolNames;

  /// Size in bytes for these values of the entry's symbols, each >= 1; false if it does not fit into 63 bits.
  bool byteSize(const int64_t *dims, int64_t &bytes) const;
};

struct Entry {
  std::string name;
  std::vector<std::string> symbols;
  std::vector<Tensor> inputs;
  std::vector<Tensor> states;
  std::vector<Tensor> outputs;
  bool usesPosition;
  bool resetsSession;
  int64_t maxContext;
  int32_t tokenSymbol; ///< or -1
  int64_t tokens;
  int32_t capacitySymbol; ///< or -1
  std::vector<const char *> symbolNames;

  /// Tokens by which the position advances.
  int64_t advance(const int64_t *dims) const {
    return !usesPosition ? 0 : tokenSymbol >= 0 ? dims[tokenSymbol] : tokens;
  }
};

struct Code {
  std::string target;
  std::string arch;
  std::vector<std::string> features;
  uint32_t section;
  std::vector<package::CodeEntry> entries; ///< one for each entry of the manifest
  std::vector<const char *> featureNames;
};

struct SelfTest {
  uint32_t entry;
  int32_t code; ///< or -1 for all
  std::vector<int64_t> dims;
  std::vector<std::vector<uint8_t>> inputs;
  std::vector<std::vector<uint8_t>> outputs;
};

struct LayerKernel {
  std::string target, kernel;
  std::string format; ///< empty where an older compiler did not write it, and the numbers are 0
  int64_t tokens, staged, predictedDecode, predictedPrefill, measuredDecode, measuredPrefill;
};

struct Layer {
  std::string name;
  int64_t rows, cols, bytes;
  std::string format, scale;
  std::vector<LayerKernel> kernels;
  std::vector<const char *> targetNames, kernelNames;
};

struct File {
  std::string name;
  uint32_t section;
};

struct Manifest {
  std::vector<Entry> entries;
  std::vector<Code> codes;
  std::vector<SelfTest> selfTests;
  std::vector<Layer> layers;
  std::vector<std::pair<std::string, std::string>> provenance;
  std::vector<File> files;

  /// Decodes the FlatBuffer in `bytes`, aligned to 8. `sections` is the package's table, already checked.
  Status decode(const uint8_t *bytes, size_t size, const std::vector<package::SectionRecord> &sections);
  /// Largest context capacity of a session, or 0 if no entry sets a limit.
  int64_t maxContext() const;
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_MANIFEST_H
