//===- PackageTest.cpp - writing, opening and inspecting packages ---------===//
#include "../../runtime/src/Manifest.h"
#include "Fixture.h"
#include "setun/Package_generated.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace setun::package;
using namespace fixture;

namespace {

/// Opens and expects a failure with this status whose message holds `text`.
void expectFailure(const std::vector<uint8_t> &bytes, setun_status status, const std::string &text,
                   const setun_open_options *options = nullptr) {
  setun_package *package = nullptr;
  EXPECT_EQ(setun_package_open_memory(bytes.data(), bytes.size(), options, &package), status);
  EXPECT_EQ(package, nullptr);
  EXPECT_NE(std::string(setun_last_error()).find(text), std::string::npos) << setun_last_error();
  setun_package_close(package);
}

FileHeader header(const std::vector<uint8_t> &bytes) {
  FileHeader result;
  std::memcpy(&result, bytes.data(), sizeof(result));
  return result;
}

/// Puts a changed header in place, with the right checksum.
void setHeader(std::vector<uint8_t> &bytes, FileHeader header) {
  header.headerChecksum = 0;
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.headerChecksum = XXH3_64bits(bytes.data(), kSectionAlignment);
  std::memcpy(bytes.data(), &header, sizeof(header));
}

SectionRecord section(const std::vector<uint8_t> &bytes, uint32_t index) {
  SectionRecord result;
  std::memcpy(&result, bytes.data() + sizeof(FileHeader) + index * sizeof(result), sizeof(result));
  return result;
}

void setSection(std::vector<uint8_t> &bytes, uint32_t index, const SectionRecord &record) {
  std::memcpy(bytes.data() + sizeof(FileHeader) + index * sizeof(record), &record, sizeof(record));
  setHeader(bytes, header(bytes));
}

/// Writes changed parts and expects that this fails with `text`.
void expectUnwritable(const Parts &parts, const std::string &text) {
  const std::string folder = temporaryFolder() + "/unwritable";
  std::filesystem::create_directory(folder);
  Error error = write(parts, folder + "/model.setun");
  ASSERT_TRUE(error);
  EXPECT_NE(error->find(text), std::string::npos) << *error;
  EXPECT_TRUE(std::filesystem::is_empty(folder)) << "something was left behind";
}

} // namespace

TEST(Writer, WritesWhatTheReaderReads) {
  PackagePointer package = open(packageBytes());
  ASSERT_TRUE(package);
  EXPECT_EQ(setun_package_num_entries(package.get()), 4u);
  setun_entry_info entry;
  ASSERT_EQ(setun_package_entry(package.get(), 1, &entry), SETUN_OK);
  EXPECT_STREQ(entry.name, "step");
  EXPECT_EQ(entry.num_inputs, 1u);
  EXPECT_EQ(entry.num_states, 1u);
  EXPECT_EQ(entry.num_outputs, 1u);
  ASSERT_EQ(entry.num_symbols, 2u);
  EXPECT_STREQ(entry.symbols[1], "C");
  EXPECT_TRUE(entry.uses_position);
  EXPECT_FALSE(entry.resets_session);
  EXPECT_EQ(entry.max_context, kMaxContext);
  EXPECT_STREQ(entry.token_symbol, "T");
  EXPECT_STREQ(entry.capacity_symbol, "C");

  setun_tensor_info tensor;
  ASSERT_EQ(setun_package_tensor(package.get(), 0, SETUN_STATE, 0, &tensor), SETUN_OK);
  EXPECT_STREQ(tensor.name, "cache");
  EXPECT_EQ(tensor.dtype, SETUN_F32);
  ASSERT_EQ(tensor.rank, 2);
  EXPECT_EQ(tensor.shape[0], -1);
  EXPECT_STREQ(tensor.symbols[0], "C");
  EXPECT_EQ(tensor.shape[1], kWidth);
  EXPECT_EQ(tensor.symbols[1], nullptr);

  setun_target_info target;
  ASSERT_EQ(setun_package_target(package.get(), 0, &target), SETUN_OK);
  EXPECT_STREQ(target.name, "base");
  EXPECT_EQ(target.arch, hostArchitecture());
  EXPECT_TRUE(target.runnable);
  EXPECT_TRUE(target.selected);

  setun_layer_info layer;
  ASSERT_EQ(setun_package_layer(package.get(), 0, &layer), SETUN_OK);
  EXPECT_STREQ(layer.name, "layer \"0\"");
  EXPECT_EQ(layer.rows, kTokens);
  ASSERT_EQ(layer.num_kernels, 1u);
  EXPECT_STREQ(layer.kernels[0], "plain");

  setun_file_info file;
  ASSERT_EQ(setun_package_find_file(package.get(), "tokenizer.json", &file), SETUN_OK);
  EXPECT_EQ(std::string(static_cast<const char *>(file.data), file.size), "{}");
  ASSERT_EQ(setun_package_find_file(package.get(), "empty.txt", &file), SETUN_OK);
  EXPECT_EQ(file.size, 0u);

  const char *key, *value;
  ASSERT_EQ(setun_package_provenance(package.get(), 1, &key, &value), SETUN_OK);
  EXPECT_STREQ(value, "line one\nline two");
  EXPECT_EQ(setun_package_weights_size(package.get()), 160u);
  EXPECT_EQ(setun_package_verify(package.get()), SETUN_OK);

  const std::string json = setun_package_json(package.get());
  EXPECT_NE(json.find(R"("name": "layer \"0\"")"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("predicted_prefill": 1000)"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("measured_decode": 900)"), std::string::npos) << json;
  EXPECT_EQ(json.find("measured_prefill"), std::string::npos) << json;
  EXPECT_NE(json.find(R"(line one\u000aline two)"), std::string::npos) << json;
}

TEST(Writer, FinishedPackagesAreTheSameBytes) {
  const std::string path = temporaryFolder() + "/again.setun";
  ASSERT_FALSE(write(parts(), path));
  EXPECT_EQ(readFile(path), packageBytes());
  ASSERT_FALSE(write(parts(), path)) << "replaces an existing package";
  EXPECT_EQ(readFile(path), packageBytes());
}

TEST(Writer, LeavesNothingBehindWithoutFinish) {
  const std::string folder = temporaryFolder() + "/unfinished";
  std::filesystem::create_directory(folder);
  {
    Writer writer;
    ASSERT_FALSE(writer.open(folder + "/model.setun"));
    uint64_t offset;
    ASSERT_FALSE(writer.appendWeights("abc", 3, offset));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST(Writer, LargeWeightsBeginOnAPage) {
  Writer writer;
  ASSERT_FALSE(writer.open(temporaryFolder() + "/pages.setun"));
  uint64_t offset;
  for (auto [size, expected] : {std::pair<uint64_t, uint64_t>{100, 0}, {65535, 128}, {65536, 69632}, {1, 135168}}) {
    ASSERT_FALSE(writer.reserveWeights(size, offset));
    EXPECT_EQ(offset, expected);
  }
}

TEST(Writer, WeightsOutOfOrderHaveTheSameChecksum) {
  std::vector<uint8_t> files[2];
  for (int backwards = 0; backwards < 2; ++backwards) {
    const std::string path = temporaryFolder() + "/order.setun";
    Writer writer;
    ASSERT_FALSE(writer.open(path));
    std::vector<uint8_t> data(5000, 7);
    uint64_t offsets[3];
    for (uint64_t &offset : offsets) {
      ASSERT_FALSE(writer.reserveWeights(data.size(), offset));
      EXPECT_EQ(offset % kWeightsAlignment, 0u);
    }
    for (int i = 0; i < 2; ++i) { // the third range stays zero
      const uint64_t offset = offsets[backwards ? 1 - i : i];
      ASSERT_FALSE(writer.writeWeights(offset, data.data(), 2000));
      ASSERT_FALSE(writer.writeWeights(offset + 2000, data.data(), 3000));
    }
    EXPECT_TRUE(writer.writeWeights(offsets[2] + 1, data.data(), data.size())) << "beyond what was reserved";
    Parts base = parts();
    base.manifest.selfTests.clear();
    ASSERT_FALSE(writer.addCode(base.codes[0]));
    ASSERT_FALSE(writer.finish(base.manifest));
    files[backwards] = readFile(path);
    EXPECT_EQ(setun_package_verify(open(files[backwards]).get()), SETUN_OK);
  }
  EXPECT_EQ(files[0], files[1]);
}

TEST(Writer, RefusesSpecialFilesAsDestination) {
  Writer writer;
  Error error = writer.open("/dev/null");
  ASSERT_TRUE(error);
  EXPECT_NE(error->find("not a regular file"), std::string::npos) << *error;
  Writer other;
  EXPECT_TRUE(other.open(temporaryFolder() + "/no/such/folder/model.setun"));
}

TEST(Writer, RefusesInconsistentManifests) {
  Parts changed = parts();
  changed.manifest.entries[0].inputs[0].shape[0] = Dim::dynamic("X");
  expectUnwritable(changed, "'X'");

  changed = parts();
  changed.manifest.entries[2].symbols.push_back("U");
  expectUnwritable(changed, "no input has the dimension 'U'");

  changed = parts();
  changed.manifest.entries[1].name = "forward";
  expectUnwritable(changed, "two entries named 'forward'");

  changed = parts();
  changed.manifest.entries[1].states[0].shape[1] = Dim::fixed(kWidth + 1);
  expectUnwritable(changed, "state 'cache' differs");

  changed = parts();
  changed.manifest.entries[0].states[0].shape[0] = Dim::dynamic("T");
  expectUnwritable(changed, "which is not the capacity");

  changed = parts();
  changed.manifest.entries[2].inputs[0].shape[1] = Dim::fixed(int64_t(1) << 62);
  expectUnwritable(changed, "too large");

  changed = parts();
  changed.manifest.entries[2].inputs[0].shape.assign(9, Dim::fixed(1));
  expectUnwritable(changed, "rank 9");

  changed = parts();
  changed.manifest.entries[0].tokenSymbol.clear();
  expectUnwritable(changed, "never advances");

  changed = parts();
  changed.codes[0].entries[0].operations[1].kind.clear();
  expectUnwritable(changed, "entry 'forward', operation 1: a name is empty");

  changed = parts();
  changed.codes[0].entries[1].operations[2].rowsSymbol = 2;
  expectUnwritable(changed, "entry 'step', operation 2: dimension symbol 2 of 2");

  changed = parts();
  changed.codes[0].entries[1].operations[0].rowBytes = -1;
  expectUnwritable(changed, "operation 0: has the negative count -1");

  changed = parts();
  changed.codes[0].entries[2].conditions[1].clear();
  expectUnwritable(changed, "entry 'mlp', condition 1: a name is empty");

  changed = parts();
  changed.manifest.selfTests[0].inputs[0].pop_back();
  expectUnwritable(changed, "records 15 bytes");

  changed = parts();
  changed.manifest.selfTests[0].entry = "nothing";
  expectUnwritable(changed, "unknown entry 'nothing'");

  changed = parts();
  changed.codes[0].entries.pop_back();
  expectUnwritable(changed, "3 functions for 4 entries");

  changed = parts();
  changed.codes.push_back(changed.codes[0]);
  expectUnwritable(changed, "two code sections");

  changed = parts();
  changed.codes[0].image = {'x'};
  expectUnwritable(changed, "ELF");

  changed = parts();
  changed.files[0].name = "../escape";
  expectUnwritable(changed, "plain file name");

  changed = parts();
  changed.manifest.provenance["bad"] = "\xff";
  expectUnwritable(changed, "UTF-8");

  changed = parts();
  changed.manifest.entries.clear();
  changed.manifest.selfTests.clear();
  changed.codes[0].entries.clear();
  expectUnwritable(changed, "no entries");
}

TEST(Reader, RefusesTruncatedFiles) {
  const std::vector<uint8_t> &whole = packageBytes();
  for (size_t size :
       {size_t(0), size_t(1), size_t(63), size_t(4095), size_t(4096), whole.size() / 2, whole.size() - 1}) {
    std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    cut.reserve(1);
    expectFailure(cut, SETUN_ERROR_BAD_PACKAGE, size < kSectionAlignment ? "fewer than" : "truncated");
  }
  std::vector<uint8_t> longer = whole;
  longer.push_back(0);
  expectFailure(longer, SETUN_ERROR_BAD_PACKAGE, "followed by something else");
}

TEST(Reader, RefusesDamageOfEverySection) {
  for (uint32_t i = 0; i < header(packageBytes()).sectionCount; ++i) {
    std::vector<uint8_t> bytes = packageBytes();
    const SectionRecord record = section(bytes, i);
    if (record.size == 0)
      continue;
    bytes[record.offset + record.size / 2] ^= 0x10;
    if (static_cast<SectionKind>(record.kind) == SectionKind::Weights) {
      PackagePointer package = open(bytes);
      EXPECT_EQ(setun_package_verify(package.get()), SETUN_ERROR_BAD_PACKAGE);
      EXPECT_NE(std::string(setun_last_error()).find("weights"), std::string::npos);
    } else {
      expectFailure(bytes, SETUN_ERROR_BAD_PACKAGE, "checksum does not match");
    }
  }
}

TEST(Reader, RefusesBadHeaders) {
  std::vector<uint8_t> bytes = packageBytes();
  bytes[0] = 'P';
  expectFailure(bytes, SETUN_ERROR_BAD_PACKAGE, "not a setun package");

  bytes = packageBytes();
  bytes[100] ^= 1;
  expectFailure(bytes, SETUN_ERROR_BAD_PACKAGE, "header's checksum");

  auto changed = [](auto change) {
    std::vector<uint8_t> bytes = packageBytes();
    FileHeader edited = header(bytes);
    change(edited);
    setHeader(bytes, edited);
    return bytes;
  };
  expectFailure(changed([](FileHeader &h) { h.versionMajor = 99; }), SETUN_ERROR_UNSUPPORTED, "99.");
  expectFailure(changed([](FileHeader &h) { h.byteOrder = 0x04030201; }), SETUN_ERROR_UNSUPPORTED, "byte order");
  expectFailure(changed([](FileHeader &h) { h.sectionCount = 1000; }), SETUN_ERROR_BAD_PACKAGE, "1000 sections");
  expectFailure(changed([](FileHeader &h) { h.sectionCount = 0; }), SETUN_ERROR_BAD_PACKAGE, "one weights section");
  EXPECT_TRUE(open(changed([](FileHeader &h) { h.versionMinor = 99; }))) << "minor versions are compatible";
}

TEST(Reader, RefusesBadSectionTables) {
  auto changed = [](uint32_t index, auto change) {
    std::vector<uint8_t> bytes = packageBytes();
    SectionRecord record = section(bytes, index);
    change(record);
    setSection(bytes, index, record);
    return bytes;
  };
  expectFailure(changed(1, [](SectionRecord &s) { s.offset += 1; }), SETUN_ERROR_BAD_PACKAGE, "aligned");
  expectFailure(changed(1, [](SectionRecord &s) { s.offset = 0; }), SETUN_ERROR_BAD_PACKAGE, "overlaps");
  expectFailure(changed(1, [](SectionRecord &s) { s.offset = ~uint64_t(0) << 12; }), SETUN_ERROR_BAD_PACKAGE,
                "outside the file");
  expectFailure(changed(1, [](SectionRecord &s) { s.size = ~uint64_t(0); }), SETUN_ERROR_BAD_PACKAGE,
                "outside the file");
  expectFailure(changed(1, [](SectionRecord &s) { s.kind = 77; }), SETUN_ERROR_BAD_PACKAGE, "unknown kind 77");
  expectFailure(changed(1, [](SectionRecord &s) { s.kind = 3; }), SETUN_ERROR_BAD_PACKAGE, "holds no code");
  expectFailure(changed(1, [](SectionRecord &s) { s.kind = 1; }), SETUN_ERROR_BAD_PACKAGE, "one weights section");
}

TEST(Reader, CountsTextsThatTablesShare) {
  // One table of names, 40,000 times in a layer: 160 KB in the file, 320 MB if all of them were copied.
  flatbuffers::FlatBufferBuilder builder;
  const std::string name(4000, 'x');
  const std::vector<flatbuffers::Offset<fb::Kernel>> kernels(
      40000, fb::CreateKernelDirect(builder, name.c_str(), name.c_str()));
  const std::vector<flatbuffers::Offset<fb::Layer>> layers = {
      fb::CreateLayerDirect(builder, "layer", 1, 1, "f32", "tensor", 4, &kernels)};
  const std::vector<flatbuffers::Offset<fb::Entry>> entries = {fb::CreateEntryDirect(builder, "entry")};
  fb::FinishManifestBuffer(builder, fb::CreateManifestDirect(builder, &entries, nullptr, nullptr, &layers));
  std::vector<uint64_t> aligned((builder.GetSize() + 7) / 8);
  std::memcpy(aligned.data(), builder.GetBufferPointer(), builder.GetSize());
  setun::runtime::Manifest manifest;
  const setun::runtime::Status status =
      manifest.decode(reinterpret_cast<const uint8_t *>(aligned.data()), builder.GetSize(), {});
  EXPECT_EQ(status.code(), SETUN_ERROR_BAD_PACKAGE);
  EXPECT_NE(status.message().find("layer 'layer': texts and recorded tensors take more than"), std::string::npos)
      << status.message();
}

TEST(Reader, OpensFiles) {
  const std::string path = temporaryFolder() + "/file.setun";
  writeFile(path, packageBytes());
  setun_package *package = nullptr;
  ASSERT_EQ(setun_package_open(path.c_str(), nullptr, &package), SETUN_OK) << setun_last_error();
  PackagePointer owner(package);
  EXPECT_EQ(setun_package_verify(package), SETUN_OK);
  EXPECT_EQ(setun_package_open((path + ".missing").c_str(), nullptr, &package), SETUN_ERROR_IO);
  EXPECT_EQ(package, nullptr);
  EXPECT_EQ(setun_package_open(temporaryFolder().c_str(), nullptr, &package), SETUN_ERROR_IO);
  writeFile(path + ".empty", {});
  EXPECT_EQ(setun_package_open((path + ".empty").c_str(), nullptr, &package), SETUN_ERROR_BAD_PACKAGE);
}

TEST(Reader, ReportsWrongArguments) {
  PackagePointer package = open(packageBytes());
  setun_entry_info entry;
  EXPECT_EQ(setun_package_entry(package.get(), 4, &entry), SETUN_ERROR_INVALID_ARGUMENT);
  EXPECT_STREQ(setun_last_error(), "expects an entry below 4, got 4");
  EXPECT_EQ(setun_package_entry(nullptr, 0, &entry), SETUN_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(setun_package_entry(package.get(), 0, nullptr), SETUN_ERROR_INVALID_ARGUMENT);
  uint32_t index;
  EXPECT_EQ(setun_package_find_entry(package.get(), "nothing", &index), SETUN_ERROR_NOT_FOUND);
  EXPECT_STREQ(setun_last_error(), "no entry 'nothing'; the package has 'forward', 'step', 'mlp', 'fence'");
  // Where a message is too long, it ends with a whole character.
  for (const char *prefix : {"", "x"}) {
    std::string name = prefix;
    for (int i = 0; i < 2000; ++i)
      name += "\u00e9";
    EXPECT_EQ(setun_package_find_entry(package.get(), name.c_str(), &index), SETUN_ERROR_NOT_FOUND);
    const std::string message = setun_last_error();
    EXPECT_GT(message.size(), 2000u);
    EXPECT_EQ(message.substr(message.size() - 2), "\u00e9");
  }
  EXPECT_EQ(setun_package_json(nullptr), nullptr);
  setun_file_info file;
  EXPECT_EQ(setun_package_file(package.get(), 2, &file), SETUN_ERROR_INVALID_ARGUMENT);
  setun_open_options options = {};
  setun_package *none = nullptr;
  EXPECT_EQ(setun_package_open_memory(packageBytes().data(), packageBytes().size(), &options, &none),
            SETUN_ERROR_INVALID_ARGUMENT);
}

//===----------------------------------------------------------------------===//
// Choice of code
//===----------------------------------------------------------------------===//

namespace {

/// A package with the fixture's code for several targets.
std::vector<uint8_t> packageFor(const std::vector<std::pair<std::string, std::vector<std::string>>> &targets,
                                bool otherArchitecture = false) {
  Parts several = parts();
  const CodeSection code = several.codes[0];
  several.codes.clear();
  for (const auto &target : targets) {
    several.codes.push_back(code);
    several.codes.back().target = target.first;
    several.codes.back().features = target.second;
    if (otherArchitecture) {
      uint8_t &machine = several.codes.back().image[18];
      machine = machine == 62 ? 183 : 62;
    }
  }
  const std::string path = temporaryFolder() + "/targets.setun";
  Error error = write(several, path);
  EXPECT_FALSE(error) << *error;
  return readFile(path);
}

std::string selected(const PackagePointer &package) {
  for (uint32_t i = 0; i < setun_package_num_targets(package.get()); ++i) {
    setun_target_info target;
    EXPECT_EQ(setun_package_target(package.get(), i, &target), SETUN_OK);
    if (target.selected)
      return target.name;
  }
  return "";
}

} // namespace

TEST(Targets, TakesTheBestThatRuns) {
  const std::vector<uint8_t> bytes =
      packageFor({{"v3", {"avx", "avx2"}}, {"v2", {"avx"}}, {"v4", {"avx", "avx2", "avx512f"}}, {"v1", {}}});
  auto choice = [&](const char *features, const char *target = nullptr) {
    setun_open_options options = {sizeof(options), target, features, SETUN_WEIGHTS_AUTO};
    return selected(open(bytes, &options));
  };
  EXPECT_EQ(choice(""), "v1");
  EXPECT_EQ(choice("sse2,avx"), "v2");
  EXPECT_EQ(choice("avx2,avx"), "v3");
  EXPECT_EQ(choice("avx2,avx512f,avx,avx512bw"), "v4");
  EXPECT_EQ(choice("avx2,avx512f,avx", "v2"), "v2");
}

TEST(Targets, TilesNeedTheSystemsPermission) {
#ifndef __x86_64__
  GTEST_SKIP() << "only x86-64 has AMX tiles";
#endif
  // Features that are taken for granted do not count where the system says no; on a machine with tiles it says yes.
  char buffer[4096];
  ASSERT_EQ(setun_cpu_features(buffer, sizeof(buffer)), SETUN_OK);
  const bool tiles = std::string(buffer).find("amx-tile") != std::string::npos;
  const std::vector<uint8_t> bytes = packageFor({{"v2", {"avx"}}, {"tiles", {"amx-int8", "amx-tile", "avx"}}});
  setun_open_options options = {sizeof(options), nullptr, "avx,amx-int8,amx-tile", SETUN_WEIGHTS_AUTO};
  EXPECT_EQ(selected(open(bytes, &options)), tiles ? "tiles" : "v2");
  if (tiles)
    GTEST_SKIP() << "this machine has tiles";
  options.target = "tiles";
  PackagePointer package = open(bytes, &options);
  ASSERT_TRUE(package) << "it can still be inspected";
  setun_session *session = nullptr;
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  const std::string message = setun_last_error();
  for (const char *part : {"'tiles' (which needs amx-tile)", "the system does not permit the use of AMX tiles"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Targets, SaysWhyNothingRuns) {
  const std::vector<uint8_t> bytes = packageFor({{"v3", {"avx", "avx2"}}, {"v4", {"avx", "avx512f"}}});
  setun_open_options options = {sizeof(options), nullptr, "avx,sse2", SETUN_WEIGHTS_AUTO};
  PackagePointer package = open(bytes, &options);
  ASSERT_TRUE(package) << "it can still be inspected";
  EXPECT_EQ(selected(package), "");
  setun_session *session = nullptr;
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  const std::string message = setun_last_error();
  for (const char *part : {"'v3' (which needs avx2)", "'v4' (which needs avx512f)", "with avx,sse2",
                           "to add code for it: setun compile MODEL --target v3,v4,host, ", "where MODEL is 'line one"})
    EXPECT_NE(message.find(part), std::string::npos) << message;

  // A level of CPUs is named where the CPU has one.
  const bool x86 = hostArchitecture() == "x86_64";
  options.cpu_features = x86 ? "64bit,cmov,cx8,fxsr,mmx,sse,sse2,x87" : "fp-armv8,neon,dotprod,crc";
  package = open(bytes, &options);
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  const std::string level = x86 ? "--target v3,v4,x86-64," : "--target v3,v4,aarch64-dotprod,";
  EXPECT_NE(std::string(setun_last_error()).find(level), std::string::npos) << setun_last_error();

  // Where other code runs, that is the cure.
  options.cpu_features = "avx,avx2";
  options.target = "v4";
  package = open(bytes, &options);
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  EXPECT_NE(std::string(setun_last_error()).find("code for 'v3' runs here"), std::string::npos) << setun_last_error();

  options.cpu_features = "avx,sse2";
  options.target = "v3";
  package = open(bytes, &options);
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  options.target = "v5";
  expectFailure(bytes, SETUN_ERROR_NOT_FOUND, "'v5'", &options);
}

TEST(Targets, SaysWithWhichOptionsToCompileAgain) {
  Parts changed = parts();
  changed.codes[0].features = {"no-such-feature"};
  changed.manifest.provenance["compiler.head"] = "int8";
  changed.manifest.provenance["compiler.format"] = "best";
  const std::string path = temporaryFolder() + "/options.setun";
  ASSERT_FALSE(write(changed, path));
  const std::vector<uint8_t> bytes = readFile(path); // outlives its package
  setun_open_options options = {sizeof(options), nullptr, "avx", SETUN_WEIGHTS_AUTO};
  PackagePointer package = open(bytes, &options);
  setun_session *session = nullptr;
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  EXPECT_NE(std::string(setun_last_error()).find("--target base,host --head int8 --format best, where MODEL is"),
            std::string::npos)
      << setun_last_error();
}

TEST(Targets, SaysHowAModuleGetsMoreCode) {
  Parts changed = parts();
  changed.codes[0].features = {"no-such-feature"};
  changed.manifest.provenance["source"] = "torch.nn.modules.container.Sequential";
  changed.files.push_back({kCallFile, {'{', '}'}});
  const std::string path = temporaryFolder() + "/call.setun";
  Error error = write(changed, path);
  ASSERT_FALSE(error) << *error;
  const std::vector<uint8_t> bytes = readFile(path); // outlives its package
  setun_open_options options = {sizeof(options), nullptr, "avx", SETUN_WEIGHTS_AUTO};
  PackagePointer package = open(bytes, &options);
  setun_session *session = nullptr;
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  const std::string cure = "compile the module 'torch.nn.modules.container.Sequential' again, in Python: "
                           "setun.compile(module, ..., target=\"base,host\")";
  EXPECT_NE(std::string(setun_last_error()).find(cure), std::string::npos) << setun_last_error();
}

TEST(Targets, OtherArchitecturesCanBeInspected) {
  PackagePointer package = open(packageFor({{"elsewhere", {}}}, true));
  ASSERT_TRUE(package);
  EXPECT_EQ(setun_package_num_entries(package.get()), 4u);
  setun_session *session = nullptr;
  EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_UNSUPPORTED);
  EXPECT_NE(std::string(setun_last_error()).find("'elsewhere' ("), std::string::npos) << setun_last_error();
}

TEST(Targets, FeaturesOfThisCpu) {
  char buffer[4096];
  ASSERT_EQ(setun_cpu_features(buffer, sizeof(buffer)), SETUN_OK);
  const std::string features = std::string(",") + buffer + ",";
  EXPECT_NE(features.find(hostArchitecture() == "x86_64" ? ",sse2," : ",neon,"), std::string::npos) << features;
  EXPECT_EQ(setun_cpu_features(buffer, 2), SETUN_ERROR_INVALID_ARGUMENT);
}

TEST(SelfTest, WrongResultsStopTheSession) {
  Parts changed = parts();
  changed.manifest.selfTests[0].outputs[0][9] ^= 1;
  const std::string path = temporaryFolder() + "/selftest.setun";
  ASSERT_FALSE(write(changed, path));
  PackagePointer package = open(readFile(path));
  setun_session *session = nullptr;
  for (int attempt = 0; attempt < 2; ++attempt) {
    EXPECT_EQ(setun_session_create(package.get(), nullptr, &session), SETUN_ERROR_SELF_TEST);
    EXPECT_EQ(session, nullptr);
    EXPECT_NE(std::string(setun_last_error()).find("element 2 of output 'logits'"), std::string::npos)
        << setun_last_error();
  }

  // Of another code section, so it does not count.
  changed.codes.push_back(changed.codes[0]);
  changed.codes[1].target = "other";
  changed.codes[1].features = {"no-such-feature"};
  changed.manifest.selfTests[0].target = "other";
  ASSERT_FALSE(write(changed, path));
  EXPECT_TRUE(createSession(open(readFile(path))));
}

//===----------------------------------------------------------------------===//
// Place of the weights
//===----------------------------------------------------------------------===//

TEST(Weights, AreReadFromTheFileOrFromACopy) {
  const std::string path = temporaryFolder() + "/place.setun";
  writeFile(path, packageBytes());
  for (setun_weights place : {SETUN_WEIGHTS_AUTO, SETUN_WEIGHTS_MAP, SETUN_WEIGHTS_COPY}) {
    setun_open_options options = {};
    options.struct_size = sizeof(options);
    options.weights = place;
    setun_package *opened = nullptr;
    ASSERT_EQ(setun_package_open(path.c_str(), &options, &opened), SETUN_OK) << setun_last_error();
    PackagePointer package(opened);
    EXPECT_EQ(setun_package_weights_copied(package.get()), 0) << "there is no session yet";
    SessionPointer session = createSession(package, 2);
    // A package as small as this is not worth a copy.
    EXPECT_EQ(setun_package_weights_copied(package.get()), place == SETUN_WEIGHTS_COPY ? 1 : 0);
    EXPECT_EQ(runModel(session, 0, {1, 2}, false), expectedLogits({}, {1, 2}));
    EXPECT_EQ(setun_package_verify(package.get()), SETUN_OK);
  }
  // From memory, too.
  setun_open_options options = {};
  options.struct_size = sizeof(options);
  options.weights = SETUN_WEIGHTS_COPY;
  PackagePointer package = open(packageBytes(), &options);
  SessionPointer session = createSession(package, 1);
  EXPECT_EQ(setun_package_weights_copied(package.get()), 1);
  EXPECT_EQ(runModel(session, 0, {1, 2}, false), expectedLogits({}, {1, 2}));
  EXPECT_EQ(setun_package_weights_copied(nullptr), 0);
}

TEST(Weights, ACopyLeavesThePackageAsItIs) {
  const std::string path = temporaryFolder() + "/large.setun";
  {
    Writer writer;
    ASSERT_FALSE(writer.open(path));
    uint64_t offset;
    const std::vector<uint8_t> data(20000, 7); // whole pages
    ASSERT_FALSE(writer.appendWeights(data.data(), data.size(), offset));
    Parts base = parts();
    base.manifest.selfTests.clear();
    ASSERT_FALSE(writer.addCode(base.codes[0]));
    ASSERT_FALSE(writer.finish(base.manifest));
  }
  const std::vector<uint8_t> bytes = readFile(path);
  std::vector<uint8_t> room(bytes.size() + kSectionAlignment + 1);
  uint8_t *aligned = room.data() + (kSectionAlignment - reinterpret_cast<uintptr_t>(room.data()) % kSectionAlignment);
  setun_open_options options = {sizeof(options), nullptr, nullptr, SETUN_WEIGHTS_COPY};
  for (int place = 0; place < 3; ++place) { // a file, memory that is used as it is, memory that is copied
    setun_package *opened = nullptr;
    if (place == 0) {
      ASSERT_EQ(setun_package_open(path.c_str(), &options, &opened), SETUN_OK) << setun_last_error();
    } else {
      uint8_t *start = aligned + (place - 1);
      std::copy(bytes.begin(), bytes.end(), start);
      ASSERT_EQ(setun_package_open_memory(start, bytes.size(), &options, &opened), SETUN_OK) << setun_last_error();
    }
    PackagePointer package(opened);
    SessionPointer session = createSession(package, 1);
    EXPECT_EQ(setun_package_weights_copied(opened), 1);
    EXPECT_EQ(setun_package_verify(opened), SETUN_OK) << place << ": " << setun_last_error();
  }
}

TEST(Weights, UnknownPlaceIsAnError) {
  setun_open_options options = {};
  options.struct_size = sizeof(options);
  for (setun_weights place : {-1, 3}) {
    options.weights = place;
    setun_package *opened = nullptr;
    EXPECT_EQ(setun_package_open_memory(packageBytes().data(), packageBytes().size(), &options, &opened),
              SETUN_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(opened, nullptr);
  }
  // An older caller's struct has no such field.
  options.weights = 3;
  options.struct_size = offsetof(setun_open_options, weights);
  setun_package *opened = nullptr;
  EXPECT_EQ(setun_package_open_memory(packageBytes().data(), packageBytes().size(), &options, &opened), SETUN_OK);
  setun_package_close(opened);
}
