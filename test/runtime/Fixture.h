//===- Fixture.h - the package that the runtime's tests use -----*- C++ -*-===//
#ifndef SETUN_TEST_RUNTIME_FIXTURE_H
#define SETUN_TEST_RUNTIME_FIXTURE_H

#include "setun/Handles.h"
#include "setun/Package.h"
#include "setun/setun.h"

#include <cstdint>
#include <string>
#include <vector>

namespace fixture {

inline constexpr int64_t kWidth = 3, kVocab = 5, kTokens = 7, kRow = 8, kMaxContext = 64;

std::vector<uint8_t> readFile(const std::string &path);
void writeFile(const std::string &path, const std::vector<uint8_t> &bytes);
/// Value of a symbol of an ELF shared object; fails the test if it is not there.
uint64_t symbolAddress(const std::vector<uint8_t> &image, const std::string &name);
/// "x86_64" or "aarch64".
std::string hostArchitecture();
/// A folder that is removed at the end of the program.
const std::string &temporaryFolder();

/// The parts of the package, for tests to change before it is written.
struct Parts {
  std::vector<float> table;                       ///< kTokens x kWidth
  std::vector<float> bias;                        ///< kRow
  setun::package::Manifest manifest;              ///< entries forward, step, mlp, fence
  std::vector<setun::package::CodeSection> codes; ///< one, target "base"
  std::vector<setun::package::FileBlob> files;
};
Parts parts();
setun::package::Error write(const Parts &parts, const std::string &path);
/// The package of parts() as bytes.
const std::vector<uint8_t> &packageBytes();

/// Logits that forward gives for tokens that follow `before`.
std::vector<float> expectedLogits(const std::vector<int64_t> &before, const std::vector<int64_t> &tokens);

using setun::PackagePointer;
using setun::SessionPointer;

PackagePointer open(const std::vector<uint8_t> &bytes, const setun_open_options *options = nullptr);
SessionPointer createSession(const PackagePointer &package, uint32_t threads = 1, int64_t context = 0);
uint32_t entryIndex(const PackagePointer &package, const char *name);

/// A tensor that owns its data.
template <typename T> struct Owned {
  std::vector<int64_t> shape;
  std::vector<T> data;
  setun_dtype dtype;

  Owned(setun_dtype dtype, std::vector<int64_t> shape, std::vector<T> data = {})
      : shape(std::move(shape)), data(std::move(data)), dtype(dtype) {
    size_t count = 1;
    for (int64_t size : this->shape)
      count *= static_cast<size_t>(size);
    this->data.resize(count);
  }
  setun_tensor tensor() { return {data.data(), dtype, static_cast<int32_t>(shape.size()), shape.data()}; }
};

/// Runs forward or step and returns its logits.
std::vector<float> runModel(const SessionPointer &session, uint32_t entry, const std::vector<int64_t> &tokens,
                            bool lastOnly);

} // namespace fixture

#endif // SETUN_TEST_RUNTIME_FIXTURE_H
