//===- ElfImageTest.cpp - the loader of code sections ---------------------===//
#include "../../runtime/src/ElfImage.h"
#include "Fixture.h"
#include "setun/EntryABI.h"

#include <gtest/gtest.h>

#include <cstring>
#include <elf.h>
#include <fstream>
#include <sstream>

using setun::runtime::ElfImage;
using setun::runtime::Status;

namespace {

std::vector<uint8_t> code() { return fixture::readFile(SETUN_TEST_CODE); }

std::string loadError(const std::vector<uint8_t> &bytes) {
  ElfImage image;
  Status status = ElfImage::load(bytes.data(), bytes.size(), image);
  EXPECT_TRUE(status.ok() || status.code() == SETUN_ERROR_BAD_PACKAGE) << status.message();
  return status.message();
}

void expectError(const std::vector<uint8_t> &bytes, const std::string &text) {
  const std::string message = loadError(bytes);
  EXPECT_NE(message.find(text), std::string::npos) << "got: " << message;
}

template <typename T> T get(const std::vector<uint8_t> &bytes, uint64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}
template <typename T> void put(std::vector<uint8_t> &bytes, uint64_t offset, const T &value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

std::vector<uint8_t> withHeader(void (*change)(Elf64_Ehdr &)) {
  std::vector<uint8_t> bytes = code();
  Elf64_Ehdr header = get<Elf64_Ehdr>(bytes, 0);
  change(header);
  put(bytes, 0, header);
  return bytes;
}

/// Changes the first program header of a type that `wanted` accepts.
template <typename Change, typename Wanted>
std::vector<uint8_t> withSegment(uint32_t type, Wanted wanted, Change change) {
  std::vector<uint8_t> bytes = code();
  const Elf64_Ehdr header = get<Elf64_Ehdr>(bytes, 0);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const uint64_t offset = header.e_phoff + i * sizeof(Elf64_Phdr);
    Elf64_Phdr segment = get<Elf64_Phdr>(bytes, offset);
    if (segment.p_type != type || !wanted(segment))
      continue;
    change(segment);
    put(bytes, offset, segment);
    return bytes;
  }
  ADD_FAILURE() << "no such segment";
  return bytes;
}

bool any(const Elf64_Phdr &) { return true; }
bool executable(const Elf64_Phdr &segment) { return segment.p_flags & PF_X; }

/// File offset of a dynamic entry.
uint64_t dynamicEntry(const std::vector<uint8_t> &bytes, int64_t tag) {
  const Elf64_Ehdr header = get<Elf64_Ehdr>(bytes, 0);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const Elf64_Phdr segment = get<Elf64_Phdr>(bytes, header.e_phoff + i * sizeof(Elf64_Phdr));
    if (segment.p_type != PT_DYNAMIC)
      continue;
    for (uint64_t at = segment.p_offset; at < segment.p_offset + segment.p_filesz; at += sizeof(Elf64_Dyn))
      if (get<Elf64_Dyn>(bytes, at).d_tag == tag)
        return at;
  }
  ADD_FAILURE() << "no dynamic entry " << tag;
  return 0;
}

std::vector<uint8_t> withDynamic(int64_t oldTag, int64_t newTag, uint64_t value) {
  std::vector<uint8_t> bytes = code();
  Elf64_Dyn entry;
  entry.d_tag = newTag;
  entry.d_un.d_val = value;
  put(bytes, dynamicEntry(bytes, oldTag), entry);
  return bytes;
}

/// Changes the first relocation (its virtual address equals its file offset: it is in the first segment).
template <typename Change> std::vector<uint8_t> withRelocation(Change change) {
  std::vector<uint8_t> bytes = code();
  const uint64_t offset = get<Elf64_Dyn>(bytes, dynamicEntry(bytes, DT_RELA)).d_un.d_val;
  Elf64_Rela entry = get<Elf64_Rela>(bytes, offset);
  change(entry);
  put(bytes, offset, entry);
  return bytes;
}

} // namespace

TEST(ElfImage, LoadsAndRuns) {
  const std::vector<uint8_t> bytes = code();
  ElfImage image;
  ASSERT_TRUE(ElfImage::load(bytes.data(), bytes.size(), image).ok());
  const void *address = nullptr;
  ASSERT_TRUE(image.function(fixture::symbolAddress(bytes, "fixture_model_workspace"), address).ok());
  const int64_t dims[2] = {10, 20};
  EXPECT_EQ(reinterpret_cast<setun_workspace_fn>(reinterpret_cast<uintptr_t>(address))(dims, 1), 40);

  // Functions lie in executable memory or nowhere.
  EXPECT_FALSE(image.function(0, address).ok());
  EXPECT_FALSE(image.function(~uint64_t(0), address).ok());
  EXPECT_FALSE(image.function(get<Elf64_Dyn>(bytes, dynamicEntry(bytes, DT_RELA)).d_un.d_val, address).ok());
}

TEST(ElfImage, NothingIsWritableAndExecutable) {
#ifdef __linux__
  const std::vector<uint8_t> bytes = code();
  ElfImage image;
  ASSERT_TRUE(ElfImage::load(bytes.data(), bytes.size(), image).ok());
  const void *address = nullptr;
  ASSERT_TRUE(image.function(fixture::symbolAddress(bytes, "fixture_mlp"), address).ok());
  std::ifstream maps("/proc/self/maps");
  std::string protection;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long begin, end;
    char flags[5];
    ASSERT_EQ(std::sscanf(line.c_str(), "%llx-%llx %4s", &begin, &end, flags), 3);
    EXPECT_FALSE(flags[1] == 'w' && flags[2] == 'x') << line;
    if (reinterpret_cast<uintptr_t>(address) >= begin && reinterpret_cast<uintptr_t>(address) < end)
      protection = flags;
  }
  EXPECT_EQ(protection, "r-xp");
#endif
}

TEST(ElfImage, RefusesBadHeaders) {
  expectError({}, "fewer than an ELF header");
  std::vector<uint8_t> bytes = code();
  bytes[1] = 'x';
  expectError(bytes, "is no ELF file");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_ident[EI_CLASS] = ELFCLASS32; }), "64-bit");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_ident[EI_DATA] = ELFDATA2MSB; }), "little-endian");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_type = ET_EXEC; }), "expects a shared object");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_machine = EM_S390; }), "got 22");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_phnum = 0; }), "got 0");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_phnum = 0xffff; }), "got 65535");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_phoff = ~uint64_t(0) - 8; }), "outside the file");
  expectError(withHeader([](Elf64_Ehdr &h) { h.e_phentsize = 1; }), "unknown size");
}

TEST(ElfImage, RefusesBadSegments) {
  expectError(withSegment(PT_LOAD, any, [](Elf64_Phdr &s) { s.p_filesz = s.p_memsz + 1; }), "larger in the file");
  expectError(withSegment(PT_LOAD, any, [](Elf64_Phdr &s) { s.p_offset = ~uint64_t(0) - 1; }), "outside the file");
  expectError(withSegment(PT_LOAD, any, [](Elf64_Phdr &s) { s.p_vaddr = ~uint64_t(0) - 1; }), "beyond the limit");
  expectError(withSegment(PT_LOAD, any, [](Elf64_Phdr &s) { s.p_memsz = uint64_t(1) << 40; }), "beyond the limit");
  expectError(withSegment(PT_LOAD, any, [](Elf64_Phdr &s) { s.p_memsz += 0x10000; }), "shares a page");
  expectError(withSegment(PT_LOAD, executable, [](Elf64_Phdr &s) { s.p_flags |= PF_W; }), "writable and executable");
  expectError(withSegment(PT_LOAD, executable, [](Elf64_Phdr &s) { s.p_vaddr = 0; }), "out of order");
  expectError(withSegment(PT_GNU_STACK, any, [](Elf64_Phdr &s) { s.p_flags |= PF_X; }), "executable stack");
  expectError(withSegment(PT_GNU_STACK, any, [](Elf64_Phdr &s) { s.p_type = PT_INTERP; }), "interpreter");
  expectError(withSegment(PT_GNU_RELRO, any, [](Elf64_Phdr &s) { s.p_vaddr = 0; }), "read-only-after-relocation");
  expectError(withSegment(PT_GNU_RELRO, any, [](Elf64_Phdr &s) { s.p_memsz = uint64_t(1) << 60; }),
              "read-only-after-relocation");
  expectError(withSegment(PT_GNU_STACK, any, [](Elf64_Phdr &s) { s.p_type = PT_DYNAMIC; }), "two dynamic segments");
  expectError(withSegment(PT_DYNAMIC, any, [](Elf64_Phdr &s) { s.p_vaddr += uint64_t(1) << 40; }),
              "dynamic segment lies outside");
  expectError(withSegment(PT_DYNAMIC, any, [](Elf64_Phdr &s) { s.p_filesz = sizeof(Elf64_Dyn); }), "no end");
}

TEST(ElfImage, RefusesBadDynamicEntries) {
  expectError(withDynamic(DT_RELACOUNT, DT_NEEDED, 1), "imports a shared library");
  expectError(withDynamic(DT_RELACOUNT, DT_JMPREL, 64), "imports functions");
  expectError(withDynamic(DT_RELACOUNT, DT_TEXTREL, 0), "read-only segments");
  expectError(withDynamic(DT_RELACOUNT, DT_INIT, 64), "run when it is loaded");
  expectError(withDynamic(DT_RELACOUNT, DT_REL, 64), "other than RELA");
  expectError(withDynamic(DT_RELACOUNT, 0x12345678, 64), "unknown tag 0x12345678");
  expectError(withDynamic(DT_RELA, DT_RELA, ~uint64_t(0) - 8), "relocations lie outside");
  expectError(withDynamic(DT_RELASZ, DT_RELASZ, uint64_t(24) << 40), "relocations lie outside");
  expectError(withDynamic(DT_RELASZ, DT_RELASZ, 25), "unknown size");
  expectError(withDynamic(DT_RELAENT, DT_RELAENT, 8), "unknown size");
}

TEST(ElfImage, RefusesBadRelocations) {
  expectError(withRelocation([](Elf64_Rela &r) { r.r_info = ELF64_R_INFO(0, 9999); }), "type 9999");
  expectError(withRelocation([](Elf64_Rela &r) { r.r_info = ELF64_R_INFO(1, 9999); }), "imports symbol");
  expectError(withRelocation([](Elf64_Rela &r) { r.r_info = ELF64_R_INFO(0xffffffff, 9999); }), "imports symbol");
  expectError(withRelocation([](Elf64_Rela &r) { r.r_offset = 0; }), "outside the writable segments");
  expectError(withRelocation([](Elf64_Rela &r) { r.r_offset = ~uint64_t(0) - 3; }), "outside the writable segments");
  expectError(withRelocation([](Elf64_Rela &r) { r.r_addend = -1; }), "outside the image");
}

TEST(ElfImage, RefusesRealImagesThatNeedMore) {
  expectError(fixture::readFile(SETUN_TEST_IMPORT), "imports symbol 'somebody_else'");
  expectError(fixture::readFile(SETUN_TEST_CONSTRUCTOR), "run when it is loaded");
  expectError(fixture::readFile(SETUN_TEST_THREAD_LOCAL), "thread-local");
}
