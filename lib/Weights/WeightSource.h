//===- WeightSource.h - named weights, streamed by rows ---------*- C++ -*-===//
//
// Where the compiler gets the values of bitnet.weight from: a set of .safetensors files, or tensors in memory. Values
// are read by ranges of rows and converted by the file's dtype, so that no more than the caller's rows is ever held.
//
// | asked for        | file dtype and shape            | meaning                                                      |
// |------------------|---------------------------------|--------------------------------------------------------------|
// | ternary N x K    | U8, ceil(N/4) x K               | Hugging Face packing: with R = ceil(N/4), bits 2i and 2i+1   |
// |                  |                                 | of byte (r, c) hold code(i*R + r, c) + 1; 3 is an error      |
// | ternary N x K    | I8, F16, BF16, F32, F64, N x K  | -1, 0, +1 exactly; anything else is an error                 |
// | binary N x K     | U8, BOOL, I8, float, N x K      | -1 or 0 is -1, +1 is +1; a tensor with both -1 and 0 is an   |
// |                  |                                 | error                                                        |
// | float, any shape | F16, BF16, F32, F64, same shape | converted; narrowing rounds once, to nearest even            |
//
// All errors name the tensor, the file, what was expected and what came. Reading is safe from several threads.
//
//===----------------------------------------------------------------------===//

#ifndef SETUN_LIB_WEIGHTS_WEIGHTSOURCE_H
#define SETUN_LIB_WEIGHTS_WEIGHTSOURCE_H

#include "lib/Weights/DType.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace setun {

class SafeTensorsFile;

/// How often each code occurs. A tensor without any non-zero code almost surely was read wrongly.
struct TernaryStats {
  uint64_t minus = 0, zero = 0, plus = 0;

  uint64_t total() const { return minus + zero + plus; }
  bool allZero() const { return minus == 0 && plus == 0; }
  /// Counts `count` codes in {-1, 0, +1}.
  void add(const int8_t *codes, int64_t count);
};

/// A tensor given in memory: name, dtype, shape and little-endian bytes.
struct MemoryTensor {
  std::string name;
  DType dtype = DType::F32;
  llvm::SmallVector<int64_t, 4> shape;
  std::vector<uint8_t> bytes;
};

/// Result of the first pass of a quantiser over a master matrix W[N x K]: one entry for the whole tensor, or with a
/// group size g, one for each row and group of g columns ([N][G], G = ceil(K/g)).
struct MasterScales {
  /// Columns of a group; 0 = one scale for the whole tensor. g = K is one scale per row.
  int64_t groupSize = 0;
  /// G; 1 for a per-tensor scale.
  int64_t groups = 1;
  /// Multiplicative scales: W ~ code * scale.
  std::vector<float> scale;
  /// Sign quantiser only: the mean that is subtracted. Empty for absmean.
  std::vector<float> alpha;

  /// Index into scale and alpha.
  size_t index(int64_t row, int64_t group) const {
    return groupSize == 0 ? 0 : static_cast<size_t>(row * groups + group);
  }
};

class WeightSource {
public:
  struct Info {
    DType dtype = DType::F32;
    llvm::SmallVector<int64_t, 4> shape;
    /// Path of the file, "<memory>" for tensors given in memory.
    std::string file;
  };

  /// Opens and checks all files. The same tensor name in two files is an error.
  static llvm::Expected<std::unique_ptr<WeightSource>> open(llvm::ArrayRef<std::string> files);
  /// Takes tensors from memory; errors if a name occurs twice or a size does not fit the shape.
  static llvm::Expected<std::unique_ptr<WeightSource>> fromMemory(std::vector<MemoryTensor> tensors);
  ~WeightSource();

  bool contains(llvm::StringRef name) const;
  /// Error with the nearest existing names if there is no such tensor.
  llvm::Expected<Info> lookup(llvm::StringRef name) const;
  /// All names, sorted.
  std::vector<std::string> names() const;

  /// Reads codes of rows [rowBegin, rowEnd) of the ternary matrix N x K into out[rowEnd - rowBegin][K]. Adds the counts
  /// to `stats` if given.
  llvm::Error readTernaryRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd, int8_t *out,
                              TernaryStats *stats = nullptr) const;
  /// Reads rows of the binary matrix N x K as -1 and +1. Whether a tensor mixes -1 with 0 is judged over all rows read
  /// so far.
  llvm::Error readBinaryRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                             int8_t *out) const;

  /// Reads a whole float tensor of exactly this shape.
  llvm::Error readFloat(llvm::StringRef name, llvm::ArrayRef<int64_t> shape, std::vector<float> &out) const;
  /// Reads rows of a float matrix N x K into out[rowEnd - rowBegin][K] as f32, f16 bits or bf16 bits.
  llvm::Error readRowsF32(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                          float *out) const;
  llvm::Error readRowsF16(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                          uint16_t *out) const;
  llvm::Error readRowsBF16(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                           uint16_t *out) const;

  // Quantisers for master weights W[N x K] of any float dtype, each in two passes over the rows: measure, then
  // quantise any range of rows. Masters are taken as f32; a value that is not finite is an error.
  //
  // Means are summed in double and rounded to f32 once. torch sums f32 in f32, in an order that depends on its version
  // and the CPU, so its mean differs from the exact one (and from itself elsewhere) in the last bits; the exact one is
  // the only reproducible choice. A code can differ from torch's only where W*s lies within that relative error (about
  // 1e-7) of a rounding boundary.

  /// Absmean (BitNet b1.58): m = max(mean|W|, eps), s = fl(1/m), code = clamp(rhe(fl(W*s)), -1, 1), scale = m. Means
  /// are over the whole tensor (groupSize 0) or over each row's groups of groupSize columns (the last may be shorter).
  llvm::Expected<MasterScales> measureAbsMean(llvm::StringRef name, int64_t N, int64_t K, int64_t groupSize = 0,
                                              float eps = 1e-5f) const;
  llvm::Error quantizeAbsMeanRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                                  const MasterScales &scales, int8_t *out, TernaryStats *stats = nullptr) const;

  /// Sign (BitNet 2023): alpha = mean(W), code = +1 if W - alpha > 0 else -1, scale = mean|W| (of the uncentred W).
  /// Groups as above.
  llvm::Expected<MasterScales> measureSign(llvm::StringRef name, int64_t N, int64_t K, int64_t groupSize = 0) const;
  llvm::Error quantizeSignRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                               const MasterScales &scales, int8_t *out) const;

private:
  struct Entry {
    DType dtype = DType::F32;
    llvm::SmallVector<int64_t, 4> shape;
    llvm::ArrayRef<uint8_t> bytes;
    /// Index into files; -1 for memory.
    int file = -1;
    /// Binary reading: kinds of values seen so far, guarded by the mutex.
    mutable bool sawZero = false, sawMinus = false;
  };

  WeightSource() = default;
  llvm::Error addEntry(llvm::StringRef name, DType dtype, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<uint8_t> bytes,
                       int file);
  llvm::Expected<const Entry *> findEntry(llvm::StringRef name) const;
  llvm::StringRef fileName(const Entry &entry) const;
  llvm::Error fail(llvm::StringRef name, const Entry &entry, const llvm::Twine &message) const;
  /// Error for the first element of a row that is not among the expected codes.
  llvm::Error badElement(llvm::StringRef name, const Entry &entry, int64_t row, int64_t K,
                         llvm::StringRef expected) const;
  /// Error for the first element of a row that is infinite or NaN.
  llvm::Error notFinite(llvm::StringRef name, const Entry &entry, int64_t row, int64_t K) const;
  /// findEntry, for rows rowBegin .. rowEnd-1 of N.
  llvm::Expected<const Entry *> findRows(llvm::StringRef name, int64_t N, int64_t rowBegin, int64_t rowEnd) const;
  llvm::Error checkFloatMatrix(llvm::StringRef name, const Entry &entry, int64_t N, int64_t K) const;
  /// Notes that bytes of a file were read; gives its pages back from time to time.
  void consumed(const Entry &entry, uint64_t bytes) const;
  template <typename T>
  llvm::Error readRowsAs(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd, DType wanted,
                         T *out) const;
  llvm::Expected<MasterScales> measure(llvm::StringRef name, int64_t N, int64_t K, int64_t groupSize, bool withAlpha,
                                       float eps) const;
  template <typename Body>
  llvm::Error quantizeRows(llvm::StringRef name, int64_t N, int64_t K, int64_t rowBegin, int64_t rowEnd,
                           const MasterScales &scales, bool withAlpha, int8_t *out, Body &&body) const;

  std::vector<std::unique_ptr<SafeTensorsFile>> files;
  std::vector<std::vector<uint8_t>> memory;
  llvm::StringMap<Entry> entries;
  mutable std::mutex mutex;
  /// Bytes read from each file since its pages were last given back.
  mutable std::vector<uint64_t> resident;
};

} // namespace setun

#endif // SETUN_LIB_WEIGHTS_WEIGHTSOURCE_H
