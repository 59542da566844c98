//===- Fixture.cpp - the package that the runtime's tests use -------------===//
#include "Fixture.h"

#include <gtest/gtest.h>

#include <cstring>
#include <elf.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace setun::package;

std::vector<uint8_t> fixture::readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::vector<uint8_t>(std::istreambuf_iterator<char>(file), {});
}

void fixture::writeFile(const std::string &path, const std::vector<uint8_t> &bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file.good()) << path;
}

uint64_t fixture::symbolAddress(const std::vector<uint8_t> &image, const std::string &name) {
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof(header));
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  std::memcpy(sections.data(), image.data() + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
  for (const Elf64_Shdr &section : sections) {
    if (section.sh_type != SHT_DYNSYM)
      continue;
    const char *strings = reinterpret_cast<const char *>(image.data() + sections[section.sh_link].sh_offset);
    for (uint64_t offset = 0; offset < section.sh_size; offset += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, image.data() + section.sh_offset + offset, sizeof(symbol));
      if (name == strings + symbol.st_name)
        return symbol.st_value;
    }
  }
  ADD_FAILURE() << "no symbol " << name;
  return 0;
}

std::string fixture::hostArchitecture() {
#if defined(__aarch64__)
  return "aarch64";
#else
  return "x86_64";
#endif
}

const std::string &fixture::temporaryFolder() {
  struct Folder {
    std::string path = (std::filesystem::temp_directory_path() / "setun-test-XXXXXX").string();
    Folder() {
      if (!::mkdtemp(path.data()))
        std::abort();
    }
    ~Folder() { std::filesystem::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

fixture::Parts fixture::parts() {
  Parts parts;
  for (int i = 0; i < kTokens * kWidth; ++i)
    parts.table.push_back(static_cast<float>(i - 10));
  for (int i = 0; i < kRow; ++i)
    parts.bias.push_back(static_cast<float>(i) * 0.25f);

  EntryDesc forward;
  forward.name = "forward";
  forward.symbols = {"T", "C"};
  forward.inputs = {{"tokens", ElementType::I64, {Dim::dynamic("T")}, /*below=*/kTokens}};
  forward.states = {{"cache", ElementType::F32, {Dim::dynamic("C"), Dim::fixed(kWidth)}}};
  forward.outputs = {{"logits", ElementType::F32, {Dim::dynamic("T"), Dim::fixed(kVocab)}}};
  forward.usesPosition = true;
  forward.resetsSession = true;
  forward.maxContext = kMaxContext;
  forward.tokenSymbol = "T";
  forward.capacitySymbol = "C";

  EntryDesc step = forward;
  step.name = "step";
  step.resetsSession = false;
  step.outputs = {{"logits", ElementType::F32, {Dim::fixed(1), Dim::fixed(kVocab)}}};

  EntryDesc mlp;
  mlp.name = "mlp";
  mlp.symbols = {"B"};
  mlp.inputs = {{"x", ElementType::F32, {Dim::dynamic("B"), Dim::fixed(kRow)}}};
  mlp.outputs = {{"y", ElementType::F32, {Dim::dynamic("B"), Dim::fixed(kRow)}}};

  EntryDesc fence;
  fence.name = "fence";
  fence.inputs = {{"rounds", ElementType::I64, {}}};
  fence.outputs = {{"errors", ElementType::I64, {}}};

  parts.manifest.entries = {forward, step, mlp, fence};

  SelfTest test;
  test.entry = "forward";
  test.dims = {{"T", 2}, {"C", 4}};
  const std::vector<int64_t> tokens = {3, 6};
  const std::vector<float> logits = expectedLogits({}, tokens);
  auto bytes = [](const auto &values) {
    const uint8_t *data = reinterpret_cast<const uint8_t *>(values.data());
    return std::vector<uint8_t>(data, data + values.size() * sizeof(values[0]));
  };
  test.inputs = {bytes(tokens)};
  test.outputs = {bytes(logits)};
  parts.manifest.selfTests = {test};
  parts.manifest.layers = {{"layer \"0\"",
                            kTokens,
                            kWidth,
                            "f32",
                            "tensor",
                            kTokens * kWidth * 4,
                            {{"base", "plain", "f32", 2, 16, 2000, 1000, 900, 0}}}};
  parts.manifest.provenance = {{"compiler", "fixture 1.0"}, {"source", "line one\nline two"}};

  CodeSection code;
  code.target = "base";
  code.image = readFile(SETUN_TEST_CODE);
  auto entry = [&](const char *run, const char *workspace) {
    code.entries.push_back({symbolAddress(code.image, run), symbolAddress(code.image, workspace), {}});
  };
  entry("fixture_forward", "fixture_model_workspace");
  entry("fixture_step", "fixture_model_workspace");
  entry("fixture_mlp", "fixture_mlp_workspace");
  code.entries.back().conditions = {"size B expects at least 1", "size B expects at most 1000"};
  entry("fixture_fence", "fixture_fence_workspace");
  for (size_t i = 0; i < 2; ++i) {
    OperationDesc embed, total, head;
    embed.kind = "embed";
    embed.detail = "f32";
    embed.name = "table";
    embed.shape = "? x 3";
    embed.rowsSymbol = 0;
    embed.rowBytes = kWidth * 4;
    total.kind = "total";
    total.rowsSymbol = 0;
    total.contextBytes = kWidth * 4;
    head.kind = "head";
    head.rowsSymbol = i ? -1 : 0;
    head.floatMacs = kVocab;
    code.entries[i].operations = {embed, total, head};
  }
  parts.codes = {code};
  parts.files = {{"tokenizer.json", {'{', '}'}}, {"empty.txt", {}}};
  return parts;
}

Error fixture::write(const Parts &parts, const std::string &path) {
  Writer writer;
  uint64_t offset = 0;
  if (Error error = writer.open(path))
    return error;
  if (Error error = writer.appendWeights(parts.table.data(), parts.table.size() * sizeof(float), offset))
    return error;
  if (Error error = writer.appendWeights(parts.bias.data(), parts.bias.size() * sizeof(float), offset))
    return error;
  EXPECT_EQ(offset, 128u); // kBiasOffset of the code
  for (const CodeSection &code : parts.codes)
    if (Error error = writer.addCode(code))
      return error;
  for (const FileBlob &file : parts.files)
    if (Error error = writer.addFile(file))
      return error;
  return writer.finish(parts.manifest);
}

const std::vector<uint8_t> &fixture::packageBytes() {
  static const std::vector<uint8_t> bytes = [] {
    const std::string path = temporaryFolder() + "/fixture.setun";
    Error error = write(parts(), path);
    EXPECT_FALSE(error) << *error;
    return readFile(path);
  }();
  return bytes;
}

std::vector<float> fixture::expectedLogits(const std::vector<int64_t> &before, const std::vector<int64_t> &tokens) {
  const float factors[kVocab] = {0.5f, 1.0f, 2.0f, 1.0f, 0.5f};
  std::vector<int64_t> all = before;
  std::vector<float> logits;
  float total = 0.0f;
  auto add = [&](int64_t token) {
    for (int64_t j = 0; j < kWidth; ++j)
      total += 2.0f * static_cast<float>(token % kTokens * kWidth + j - 10);
  };
  for (int64_t token : before)
    add(token);
  for (int64_t token : tokens) {
    add(token);
    for (float factor : factors)
      logits.push_back(factor * total);
  }
  return logits;
}

fixture::PackagePointer fixture::open(const std::vector<uint8_t> &bytes, const setun_open_options *options) {
  setun_package *package = nullptr;
  EXPECT_EQ(setun_package_open_memory(bytes.data(), bytes.size(), options, &package), SETUN_OK) << setun_last_error();
  return PackagePointer(package);
}

fixture::SessionPointer fixture::createSession(const PackagePointer &package, uint32_t threads, int64_t context) {
  setun_session_options options = {sizeof(options), threads, context};
  setun_session *session = nullptr;
  EXPECT_EQ(setun_session_create(package.get(), &options, &session), SETUN_OK) << setun_last_error();
  return SessionPointer(session);
}

uint32_t fixture::entryIndex(const PackagePointer &package, const char *name) {
  uint32_t index = 0;
  EXPECT_EQ(setun_package_find_entry(package.get(), name, &index), SETUN_OK) << setun_last_error();
  return index;
}

std::vector<float> fixture::runModel(const SessionPointer &session, uint32_t entry, const std::vector<int64_t> &tokens,
                                     bool lastOnly) {
  const int64_t count = static_cast<int64_t>(tokens.size());
  Owned<int64_t> input(SETUN_I64, {count}, tokens);
  Owned<float> output(SETUN_F32, {lastOnly ? 1 : count, kVocab});
  setun_tensor in = input.tensor(), out = output.tensor();
  EXPECT_EQ(setun_session_run(session.get(), entry, &in, 1, &out, 1), SETUN_OK) << setun_last_error();
  return output.data;
}
