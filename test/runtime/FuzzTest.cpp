//===- FuzzTest.cpp - damaged and hostile packages ------------------------===//
//
// Changes a package in thousands of ways and does with each what a user would: open, inspect, create a session, run.
// Checksums are made right again in most cases, so that the checks behind them are reached. Run with the address and
// undefined-behaviour sanitizers: passing means that nothing was reported. Code that was changed, or that a changed
// manifest leads to, is loaded but never called: functions of the test stand in for it.
//
//===----------------------------------------------------------------------===//
#include "../../runtime/src/ElfImage.h"
#include "../../runtime/src/Package.h"
#include "../../runtime/src/Session.h"
#include "Fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace setun::package;
using namespace fixture;
namespace rt = setun::runtime;

namespace {

using Bytes = std::vector<uint8_t>;

class Mutator {
public:
  explicit Mutator(uint64_t seed) : random(seed) {}

  uint64_t below(uint64_t limit) { return limit ? std::uniform_int_distribution<uint64_t>(0, limit - 1)(random) : 0; }
  bool chance(unsigned percent) { return below(100) < percent; }

  /// A number that tends to break things.
  uint64_t interesting() {
    static const uint64_t values[] = {
        0,          1,          2,          3,         7,          8,          16,         24,          63,
        64,         126,        127,        128,       255,        256,        4095,       4096,        4097,
        0x7fff,     0xffff,     0x10000,    0x7ffffff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe,  0xfffffff8,
        1ull << 32, 1ull << 40, 1ull << 62, INT64_MAX, 1ull << 63, ~0ull,      ~0ull - 7,  ~0ull << 12, ~0ull - 4095};
    return chance(80) ? values[below(std::size(values))] : random();
  }

  /// Changes bytes in [begin, end) in one of the usual ways.
  void damage(Bytes &bytes, uint64_t begin, uint64_t end) {
    if (begin >= end)
      return;
    const uint64_t size = end - begin;
    switch (below(6)) {
    case 0: // flip bits
      for (uint64_t count = 1 + below(8); count; --count)
        bytes[begin + below(size)] ^= static_cast<uint8_t>(1u << below(8));
      break;
    case 1: // overwrite bytes
      for (uint64_t count = 1 + below(16); count; --count)
        bytes[begin + below(size)] = static_cast<uint8_t>(random());
      break;
    case 2: { // overwrite an aligned number
      const uint64_t width = uint64_t(1) << below(4), value = interesting();
      const uint64_t at = begin + below(size) / width * width;
      std::memcpy(bytes.data() + at, &value, std::min(width, end - at));
      break;
    }
    case 3: { // change a number by a little
      const uint64_t at = begin + below(size) / 4 * 4;
      if (end - at >= 4) {
        uint32_t value;
        std::memcpy(&value, bytes.data() + at, 4);
        value += static_cast<uint32_t>(below(33)) - 16;
        std::memcpy(bytes.data() + at, &value, 4);
      }
      break;
    }
    case 4: { // copy a range over another
      const uint64_t length = 1 + below(std::min<uint64_t>(size, 256));
      const uint64_t from = begin + below(size - length + 1), to = begin + below(size - length + 1);
      std::memmove(bytes.data() + to, bytes.data() + from, length);
      break;
    }
    case 5: { // fill a range
      const uint64_t length = 1 + below(std::min<uint64_t>(size, 64));
      std::memset(bytes.data() + begin + below(size - length + 1), chance(50) ? 0 : 0xff, length);
      break;
    }
    }
  }

  std::mt19937_64 random;
};

FileHeader readHeader(const Bytes &bytes) {
  FileHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

SectionRecord readSection(const Bytes &bytes, uint32_t index) {
  SectionRecord record;
  std::memcpy(&record, bytes.data() + sizeof(FileHeader) + index * sizeof(record), sizeof(record));
  return record;
}

/// Makes all checksums right, as far as the table makes sense.
void fixChecksums(Bytes &bytes) {
  if (bytes.size() < kSectionAlignment)
    return;
  FileHeader header = readHeader(bytes);
  for (uint32_t i = 0; i < std::min(header.sectionCount, kMaxSections); ++i) {
    SectionRecord record = readSection(bytes, i);
    if (record.offset > bytes.size() || record.size > bytes.size() - record.offset)
      continue;
    record.checksum = XXH3_64bits(bytes.data() + record.offset, record.size);
    std::memcpy(bytes.data() + sizeof(FileHeader) + i * sizeof(record), &record, sizeof(record));
  }
  header.headerChecksum = 0;
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.headerChecksum = XXH3_64bits(bytes.data(), kSectionAlignment);
  std::memcpy(bytes.data(), &header, sizeof(header));
}

Bytes mutate(const Bytes &original, Mutator &mutator) {
  Bytes bytes = original;
  const FileHeader header = readHeader(bytes);
  const uint64_t kind = mutator.below(10);
  if (kind == 0) { // as a bad disk or connection would
    mutator.damage(bytes, 0, bytes.size());
    return bytes;
  }
  if (kind == 1) { // cut, or joined with a part of itself
    const size_t cut = mutator.below(bytes.size());
    if (mutator.chance(50)) {
      bytes.resize(cut);
    } else {
      const size_t from = mutator.below(original.size()), length = mutator.below(original.size() - from);
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(cut),
                   original.begin() + static_cast<std::ptrdiff_t>(from),
                   original.begin() + static_cast<std::ptrdiff_t>(from + length));
    }
    if (mutator.chance(50) && bytes.size() >= sizeof(FileHeader)) {
      FileHeader changed = readHeader(bytes);
      changed.fileSize = bytes.size();
      std::memcpy(bytes.data(), &changed, sizeof(changed));
    }
  } else if (kind == 2) { // header and table
    const uint64_t end = sizeof(FileHeader) + header.sectionCount * sizeof(SectionRecord);
    for (uint64_t count = 1 + mutator.below(3); count; --count)
      mutator.damage(bytes, 8, end);
  } else { // one section, mostly the manifest
    const uint32_t index =
        kind < 9 ? header.sectionCount - 1 : static_cast<uint32_t>(mutator.below(header.sectionCount));
    const SectionRecord section = readSection(bytes, index);
    for (uint64_t count = 1 + mutator.below(3); count; --count)
      mutator.damage(bytes, section.offset, section.offset + section.size);
  }
  fixChecksums(bytes);
  return bytes;
}

//===----------------------------------------------------------------------===//
// What is done with a package
//===----------------------------------------------------------------------===//

/// Calls every getter and reads every byte that they give out.
uint64_t inspect(const setun_package *package) {
  uint64_t sum = 0;
  auto read = [&](const char *text) {
    if (text)
      sum += std::strlen(text);
  };
  for (uint32_t e = 0; e < setun_package_num_entries(package); ++e) {
    setun_entry_info entry;
    EXPECT_EQ(setun_package_entry(package, e, &entry), SETUN_OK);
    read(entry.name);
    read(entry.token_symbol);
    read(entry.capacity_symbol);
    for (uint32_t i = 0; i < entry.num_symbols; ++i)
      read(entry.symbols[i]);
    const uint32_t counts[] = {entry.num_inputs, entry.num_states, entry.num_outputs};
    for (int role = SETUN_INPUT; role <= SETUN_OUTPUT; ++role) {
      for (uint32_t i = 0; i < counts[role]; ++i) {
        setun_tensor_info tensor;
        EXPECT_EQ(setun_package_tensor(package, e, static_cast<setun_role>(role), i, &tensor), SETUN_OK);
        read(tensor.name);
        EXPECT_NE(setun_dtype_name(tensor.dtype), nullptr);
        for (int32_t d = 0; d < tensor.rank; ++d) {
          sum += static_cast<uint64_t>(tensor.shape[d]);
          read(tensor.symbols[d]);
        }
      }
    }
  }
  for (uint32_t i = 0; i < setun_package_num_targets(package); ++i) {
    setun_target_info target;
    EXPECT_EQ(setun_package_target(package, i, &target), SETUN_OK);
    read(target.name);
    for (uint32_t f = 0; f < target.num_features; ++f)
      read(target.features[f]);
  }
  for (uint32_t e = 0; e < setun_package_num_entries(package); ++e)
    for (uint32_t i = 0; i < setun_package_num_operations(package, e); ++i) {
      setun_operation_info operation;
      EXPECT_EQ(setun_package_operation(package, e, i, &operation), SETUN_OK);
      for (const char *text : {operation.kind, operation.detail, operation.name, operation.shape})
        read(text);
      if (operation.rows_symbol)
        read(operation.rows_symbol);
    }
  for (uint32_t i = 0; i < setun_package_num_layers(package); ++i) {
    setun_layer_info layer;
    EXPECT_EQ(setun_package_layer(package, i, &layer), SETUN_OK);
    for (uint32_t k = 0; k < layer.num_kernels; ++k) {
      read(layer.kernel_targets[k]);
      read(layer.kernels[k]);
    }
  }
  for (uint32_t i = 0; i < setun_package_num_files(package); ++i) {
    setun_file_info file;
    EXPECT_EQ(setun_package_file(package, i, &file), SETUN_OK);
    for (size_t k = 0; k < file.size; ++k)
      sum += static_cast<const uint8_t *>(file.data)[k];
  }
  read(setun_package_json(package));
  return sum;
}

/// Stands in for compiled code.
void standIn(const setun_invocation *invocation, uint32_t thread) {
  invocation->barrier(invocation->barrier_data, thread);
}
int64_t standInWorkspace(const int64_t *, uint32_t) { return 64; }

/// Creates a session and runs every entry with small tensors of its own shapes.
void use(const std::shared_ptr<rt::Package> &package, Mutator &mutator) {
  const rt::Manifest &manifest = package->manifest();
  package->replaceFunctions(std::vector<rt::EntryFunctions>(manifest.entries.size(), {standIn, standInWorkspace}));
  std::unique_ptr<rt::Session> session;
  rt::Session::Options options;
  options.threads = mutator.chance(3) ? 2 : 1;
  options.context = mutator.chance(50) ? 0 : static_cast<int64_t>(mutator.below(100));
  if (!rt::Session::create(package, options, session).ok())
    return;
  for (uint32_t e = 0; e < manifest.entries.size(); ++e) {
    const rt::Entry &entry = manifest.entries[e];
    int64_t dims[rt::kMaxSymbols];
    for (int64_t &dim : dims)
      dim = 1 + static_cast<int64_t>(mutator.below(3));
    if (entry.capacitySymbol >= 0)
      dims[entry.capacitySymbol] = session->capacity();
    std::vector<std::vector<int64_t>> shapes;
    std::vector<std::vector<uint64_t>> data;
    auto tensors = [&](const std::vector<rt::Tensor> &descriptions, std::vector<setun_tensor> &list) {
      for (const rt::Tensor &tensor : descriptions) {
        int64_t bytes;
        if (!tensor.byteSize(dims, bytes) || bytes > (1 << 20))
          return false;
        std::vector<int64_t> &shape = shapes.emplace_back();
        for (const rt::Dim &dim : tensor.shape)
          shape.push_back(dim.symbol >= 0 ? dims[dim.symbol] : dim.size);
        data.emplace_back(static_cast<size_t>(bytes) / 8 + 1);
        list.push_back({data.back().data(), tensor.dtype, static_cast<int32_t>(shape.size()), shape.data()});
      }
      return true;
    };
    std::vector<setun_tensor> inputs, outputs;
    if (!tensors(entry.inputs, inputs) || !tensors(entry.outputs, outputs))
      continue;
    for (int repeat = 0; repeat < 2; ++repeat) {
      rt::Status status = session->run(e, inputs.data(), static_cast<uint32_t>(inputs.size()), outputs.data(),
                                       static_cast<uint32_t>(outputs.size()));
      EXPECT_TRUE(status.ok() || status.code() == SETUN_ERROR_CAPACITY || status.code() == SETUN_ERROR_OUT_OF_MEMORY)
          << status.message();
    }
    EXPECT_TRUE(session->reset().ok());
  }
}

/// What compiled code depends on is as it was written, so it may be run.
bool mayRun(const Bytes &bytes, const Bytes &original) {
  if (bytes.size() != original.size() ||
      !std::equal(bytes.begin(), bytes.begin() + kSectionAlignment, original.begin()))
    return false;
  for (uint32_t i = 0; i < readHeader(original).sectionCount; ++i) {
    const SectionRecord section = readSection(original, i);
    if (static_cast<SectionKind>(section.kind) != SectionKind::File &&
        std::memcmp(bytes.data() + section.offset, original.data() + section.offset, section.size) != 0)
      return false;
  }
  return true;
}

struct Counts {
  uint64_t opened = 0, loaded = 0, ran = 0;
};

void exercise(const Bytes &bytes, const Bytes &original, Mutator &mutator, Counts &counts) {
  // Exactly as many bytes as the package has, so that any access beyond them is reported.
  std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  setun_package *opened = nullptr;
  if (setun_package_open_memory(exact.get(), bytes.size(), nullptr, &opened) != SETUN_OK) {
    EXPECT_NE(std::string(setun_last_error()), "");
    return;
  }
  ++counts.opened;
  PackagePointer handle(opened);
  inspect(opened);
  (void)setun_package_verify(opened);
  if (mayRun(bytes, original)) {
    SessionPointer session = createSession(handle, 2);
    EXPECT_EQ(runModel(session, 0, {1, 2}, false), expectedLogits({}, {1, 2}));
    ++counts.ran;
  }

  rt::Package::Options options;
  std::shared_ptr<rt::Package> package;
  if (!rt::Package::openMemory(exact.get(), bytes.size(), options, package).ok())
    return;
  for (const rt::Code &code : package->manifest().codes) {
    rt::ElfImage image;
    if (!rt::ElfImage::load(package->sectionData(code.section), package->sectionSize(code.section), image).ok())
      continue;
    ++counts.loaded;
    const void *address;
    for (const CodeEntry &entry : code.entries) {
      if (image.function(entry.entryOffset, address).ok()) {
        EXPECT_NE(address, nullptr);
      }
    }
  }
  use(package, mutator);
}

uint64_t fromEnvironment(const char *name, uint64_t fallback) {
  const char *value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : fallback;
}

} // namespace

TEST(Fuzz, MutatedPackages) {
  const uint64_t seed = fromEnvironment("SETUN_FUZZ_SEED", 1), rounds = fromEnvironment("SETUN_FUZZ_ROUNDS", 12000);
  const Bytes &original = packageBytes();
  Counts counts;
  for (uint64_t round = 0; round < rounds; ++round) {
    Mutator mutator(seed * 1000003 + round);
    SCOPED_TRACE("round " + std::to_string(round) + " of seed " + std::to_string(seed));
    exercise(mutate(original, mutator), original, mutator, counts);
  }
  std::printf("%llu mutations: %llu opened, %llu code sections loaded, %llu ran\n",
              static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(counts.opened),
              static_cast<unsigned long long>(counts.loaded), static_cast<unsigned long long>(counts.ran));
  // If nothing gets through, the deeper checks are not being tested.
  EXPECT_GT(counts.opened, rounds / 50);
  EXPECT_GT(counts.loaded, rounds / 50);
}

TEST(Fuzz, MutatedCode) {
  const uint64_t seed = fromEnvironment("SETUN_FUZZ_SEED", 1), rounds = fromEnvironment("SETUN_FUZZ_ROUNDS", 12000);
  const Bytes original = readFile(SETUN_TEST_CODE);
  uint64_t loaded = 0;
  for (uint64_t round = 0; round < rounds; ++round) {
    Mutator mutator(seed * 2000003 + round);
    Bytes bytes = original;
    // Headers, dynamic section and relocations are where the loader looks.
    const uint64_t end = mutator.chance(60) ? std::min<uint64_t>(bytes.size(), 1024) : bytes.size();
    for (uint64_t count = 1 + mutator.below(3); count; --count)
      mutator.damage(bytes, 0, end);
    if (mutator.chance(10))
      bytes.resize(mutator.below(bytes.size()));
    std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    rt::ElfImage image;
    loaded += rt::ElfImage::load(exact.get(), bytes.size(), image).ok();
  }
  std::printf("%llu of %llu images loaded\n", static_cast<unsigned long long>(loaded),
              static_cast<unsigned long long>(rounds));
  EXPECT_GT(loaded, rounds / 50);
}
