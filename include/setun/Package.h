//===- Package.h - layout and writer of .setun packages ---------*- C++ -*-===//
//
// A package is one file, little-endian:
//
//   byte 0         FileHeader and the SectionRecords, padded with zeros to kSectionAlignment bytes
//   then, each at a multiple of kSectionAlignment, in the order of the table, without overlap:
//     weights      packed bytes, shared by all code sections (exactly one such section, possibly empty)
//     code         ELF shared objects without imports, one for each target
//     file         files that travel with the model (tokenizer.json, config.json, ...)
//     manifest     FlatBuffer of Package.fbs (exactly one)
//
// Checksums are XXH3-64 with seed 0. A reader checks header, manifest, code and files when it opens the package, and
// of the weights the bounds and alignment; the weights' checksum is compared on request, for it means reading them all.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_PACKAGE_H
#define SETUN_PACKAGE_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace setun {
namespace package {

//===----------------------------------------------------------------------===//
// File layout
//===----------------------------------------------------------------------===//

/// First bytes of a package. The high bit and the line ends show a file that was sent as text.
inline constexpr unsigned char kMagic[8] = {0x89, 'S', 'E', 'T', 'U', 'N', '\r', '\n'};
/// Readers refuse another major version; a minor version only adds what older readers may ignore.
inline constexpr uint16_t kVersionMajor = 1;
inline constexpr uint16_t kVersionMinor = 0;
/// Reads as another number on a machine of the other byte order.
inline constexpr uint32_t kByteOrder = 0x01020304;
/// Alignment of every section in the file, and size of the header with its table.
inline constexpr uint64_t kSectionAlignment = 4096;
/// Alignment of every piece of weights within the weights section.
inline constexpr uint64_t kWeightsAlignment = 64;
/// The same of pieces from 64 KiB on, which kernels read as streams: what a CPU fetches ahead of one ends with its
/// page.
inline constexpr uint64_t kStreamAlignment = 4096;
/// Where a piece of `size` bytes begins behind others that end at `end`; below 2^63 if `end` is.
constexpr uint64_t weightsOffset(uint64_t end, uint64_t size) {
  const uint64_t alignment = size < 65536 ? kWeightsAlignment : kStreamAlignment;
  return (end + alignment - 1) / alignment * alignment;
}
/// Largest manifest that a reader accepts, in bytes.
inline constexpr uint64_t kMaxManifestSize = uint64_t(64) << 20;
/// File that a package has which setun.compile made from a call of a PyTorch module.
inline constexpr char kCallFile[] = "setun.call.json";
/// Largest rank of a tensor.
inline constexpr unsigned kMaxRank = 8;

enum class SectionKind : uint32_t { Weights = 1, Code = 2, File = 3, Manifest = 4 };

struct SectionRecord {
  uint32_t kind;     ///< SectionKind
  uint32_t reserved; ///< 0
  uint64_t offset;   ///< from the start of the file, a multiple of kSectionAlignment
  uint64_t size;     ///< in bytes, without padding
  uint64_t checksum; ///< XXH3-64 of the `size` bytes
};
static_assert(sizeof(SectionRecord) == 32, "part of the file format");

struct FileHeader {
  unsigned char magic[8];
  uint32_t byteOrder;
  uint16_t versionMajor;
  uint16_t versionMinor;
  uint64_t fileSize;       ///< of the whole package, in bytes
  uint32_t sectionCount;   ///< SectionRecords that follow this struct
  uint32_t reserved;       ///< 0
  uint64_t headerChecksum; ///< XXH3-64 of the first kSectionAlignment bytes with this field 0
  uint64_t padding[3];     ///< 0
};
static_assert(sizeof(FileHeader) == 64, "part of the file format");

inline constexpr uint32_t kMaxSections = (kSectionAlignment - sizeof(FileHeader)) / sizeof(SectionRecord);

//===----------------------------------------------------------------------===//
// Contents
//===----------------------------------------------------------------------===//

/// Element types of tensors that cross the runtime's interface. The numbers are those of setun_dtype and Package.fbs.
enum class ElementType : uint8_t {
  Bool = 0,
  I8 = 1,
  U8 = 2,
  I16 = 3,
  I32 = 4,
  I64 = 5,
  F16 = 6,
  BF16 = 7,
  F32 = 8,
  F64 = 9
};

/// A dimension: a symbol of the entry, or where `symbol` is empty a fixed size >= 0.
struct Dim {
  std::string symbol;
  int64_t size = 0;

  static Dim fixed(int64_t size) { return {std::string(), size}; }
  static Dim dynamic(std::string symbol) { return {std::move(symbol), 0}; }
};

/// Dense row-major tensor.
struct TensorDesc {
  std::string name;
  ElementType type = ElementType::F32;
  std::vector<Dim> shape; ///< at most kMaxRank
  /// Inputs of i64: the runtime refuses elements outside [0, below) (rows of a table, say); 0: no such limit.
  int64_t below = 0;
};

/// One entry point. Buffers of an invocation are inputs, then states, then outputs, in the order given here.
struct EntryDesc {
  std::string name;
  std::vector<TensorDesc> inputs;
  /// Session state: zeroed when the session starts, updated in place. Entries share a state by its name and then agree
  /// on type and shape. The only symbol in a state's shape is the capacity symbol.
  std::vector<TensorDesc> states;
  /// Every symbol here is bound by an input, or is the capacity symbol.
  std::vector<TensorDesc> outputs;
  /// Dimension symbols; setun_invocation::dims has their values in this order.
  std::vector<std::string> symbols;
  bool usesPosition = false;  ///< the session's position is passed, and advances after the run
  bool resetsSession = false; ///< the session is emptied (states zero, position 0) before the run
  int64_t maxContext = 0;     ///< largest session capacity in tokens; 0: no limit
  std::string tokenSymbol;    ///< symbol by which the position advances ("T"); empty: it advances by `tokens`
  int64_t tokens = 0;
  std::string capacitySymbol; ///< symbol whose value is the session's capacity in tokens ("C"); empty: none
};

/// What one kernel call of an entry does. Bytes and multiply-adds are what it needs, not what it pads to.
struct OperationDesc {
  std::string kind;         ///< "matmul", "attention", ...
  std::string detail;       ///< kernel row and layout, element type, ...; may be empty
  std::string name;         ///< of its weights or state; may be empty
  std::string shape;        ///< "out x in" of matrices, else of the result; may be empty
  int32_t rowsSymbol = -1;  ///< rows (tokens) that it computes: index into EntryDesc::symbols ...
  int64_t rows = 1;         ///< ... or where that is -1 this number
  int64_t weightBytes = 0;  ///< of the weights section, whatever the rows
  int64_t rowBytes = 0;     ///< of the weights section, for each row
  int64_t contextBytes = 0; ///< of states, for each token in the session
  int64_t int8Macs = 0;     ///< multiply-adds of integers, for each row
  int64_t floatMacs = 0;    ///< multiply-adds of floats, for each row
};

/// Where one entry lies in a code section: virtual addresses within the image.
struct CodeEntry {
  uint64_t entryOffset = 0;              ///< a setun_entry_fn
  uint64_t workspaceOffset = 0;          ///< a setun_workspace_fn
  std::vector<OperationDesc> operations; ///< numbered as the entry's marks (EntryABI.h)
  std::vector<std::string> conditions{}; ///< on sizes: what a workspace of -1 - i bytes means
};

/// Code for one target.
struct CodeSection {
  std::string target; ///< as the user typed it, e.g. "x86-64-v4+avx512vnni"; unique in the package
  /// What the code needs of the CPU, by LLVM's names, all that is implied included. Only names of CpuFeatures.def can
  /// be found present; tuning flags have no place here. Among runnable sections the one with most features is chosen.
  std::vector<std::string> features;
  std::vector<uint8_t> image;     ///< ELF shared object without imports
  std::vector<CodeEntry> entries; ///< one for each Manifest::entries, in that order
};

/// Recorded run of one entry from an empty session: the runtime repeats it before the first use of a code section and
/// compares outputs byte for byte. Keep it small: it is run whenever a package is loaded.
struct SelfTest {
  std::string entry;
  std::string target;                        ///< code section that it belongs to; empty: all of them
  std::map<std::string, int64_t> dims;       ///< every symbol of the entry, the capacity included
  std::vector<std::vector<uint8_t>> inputs;  ///< bytes of each input
  std::vector<std::vector<uint8_t>> outputs; ///< expected bytes of each output
};

/// The kernel of a layer in one code section, and why it was chosen; see table Kernel of Package.fbs.
struct LayerKernel {
  std::string target;
  std::string kernel; ///< row of the kernel table
  std::string format; ///< of the packed weights that it reads
  int64_t tokens = 0;
  int64_t staged = 0;
  int64_t predictedDecode = 0, predictedPrefill = 0; ///< cycles of a core a million weights
  int64_t measuredDecode = 0, measuredPrefill = 0;   ///< nanoseconds of a core a million weights; 0: not measured
};

/// What `inspect` tells about one layer.
struct LayerInfo {
  std::string name;
  int64_t rows = 0;   ///< output features
  int64_t cols = 0;   ///< input features
  std::string format; ///< of the packed weights
  std::string scale;  ///< granularity of the weight scale: "tensor", "row", "group 128", ...
  int64_t bytes = 0;  ///< in the weights section
  std::vector<LayerKernel> kernels;
};

struct FileBlob {
  std::string name; ///< plain file name, unique in the package
  std::vector<uint8_t> bytes;
};

/// All that is neither weights, code nor files.
struct Manifest {
  std::vector<EntryDesc> entries;
  std::vector<SelfTest> selfTests;
  std::vector<LayerInfo> layers;
  std::map<std::string, std::string> provenance; ///< source files, hashes, compiler version, options
};

//===----------------------------------------------------------------------===//
// Writer
//===----------------------------------------------------------------------===//

/// Empty on success, else what went wrong (lower case, no full stop).
using Error = std::optional<std::string>;

/// Writes a package to a temporary file beside the destination and renames it when all is complete; destroying a
/// writer that was not finished removes the temporary file. Weights go to the file as they come and are never held.
/// After an error the writer can only be destroyed. Not thread-safe.
class Writer {
public:
  Writer();
  ~Writer();
  Writer(const Writer &) = delete;
  Writer &operator=(const Writer &) = delete;

  /// Starts a package that will be at `path`. The destination may exist if it is a regular file.
  [[nodiscard]] Error open(const std::string &path);

  /// Sets `size` bytes of the weights section aside and sets `offset`, a multiple of kWeightsAlignment, to their place
  /// in it. What is never written is zero.
  [[nodiscard]] Error reserveWeights(uint64_t size, uint64_t &offset);
  /// Writes into a reserved range. Writing in ascending order saves a second reading of the file for the checksum.
  [[nodiscard]] Error writeWeights(uint64_t offset, const void *data, size_t size);
  /// reserveWeights, then writeWeights.
  [[nodiscard]] Error appendWeights(const void *data, size_t size, uint64_t &offset);
  /// Bytes of the weights section so far.
  uint64_t weightsSize() const;

  /// Sections can be added at any time before finish().
  [[nodiscard]] Error addCode(CodeSection code);
  [[nodiscard]] Error addFile(FileBlob file);

  /// Writes what is left, checks the package as the runtime's reader does, and gives it its name.
  [[nodiscard]] Error finish(const Manifest &manifest);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace package
} // namespace setun

#endif // SETUN_PACKAGE_H
