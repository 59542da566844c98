//===- ElfImage.cpp - loads code sections ---------------------------------===//
#include "ElfImage.h"

#include "Elf.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>

using namespace setun::runtime;

namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
constexpr uint32_t kRelative = R_X86_64_RELATIVE;
constexpr uint64_t kCodeAlignment = 1;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
constexpr uint32_t kRelative = R_AARCH64_RELATIVE;
constexpr uint64_t kCodeAlignment = 4;
#else
constexpr uint16_t kMachine = EM_NONE;
constexpr uint32_t kRelative = R_NONE;
constexpr uint64_t kCodeAlignment = 1;
#endif

/// Code of one model is a few megabytes; this only keeps a damaged file from reserving all address space.
constexpr uint64_t kMaxSpan = uint64_t(1) << 30;
constexpr uint16_t kMaxProgramHeaders = 64;
constexpr uint64_t kMaxDynamicEntries = 1024;

Status badCode(const std::string &message) { return badPackage("code section: " + message); }

std::string hex(uint64_t value) {
  char text[2 + 16 + 1];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

/// What the dynamic section says.
struct Dynamic {
  uint64_t rela = 0, relaSize = 0, relaEntry = sizeof(Elf64_Rela);
  uint64_t strtab = 0, strtabSize = 0, symtab = 0;
};

/// Checks an image, and then applies it to reserved memory.
class Loader {
public:
  Loader(const uint8_t *bytes, size_t size) : bytes(bytes), size(size), page(pageSize()) {}

  Status check();
  Status map(Mapping &mapping) const;

  const std::vector<Elf64_Phdr> &segments() const { return loads; }

private:
  Status checkHeader();
  Status checkLoad(const Elf64_Phdr &header);
  Status checkRelro();
  Status readDynamic();
  Status readRelocations();
  /// The `length` bytes that the file gives for virtual address `address`, or null.
  const uint8_t *fileBytes(uint64_t address, uint64_t length) const;
  std::string symbolName(uint64_t index) const;

  template <typename T> T read(uint64_t offset) const {
    T value;
    std::memcpy(&value, bytes + offset, sizeof(T));
    return value;
  }
  uint64_t pageDown(uint64_t address) const { return address / page * page; }
  uint64_t pageUp(uint64_t address) const { return (address + page - 1) / page * page; }
  static bool inside(uint64_t offset, uint64_t length, uint64_t limit) {
    return offset <= limit && length <= limit - offset;
  }
  static bool overlaps(const Elf64_Phdr &segment, uint64_t address, uint64_t length) {
    return address >= segment.p_vaddr && inside(address - segment.p_vaddr, length, segment.p_memsz);
  }

  const uint8_t *bytes;
  const size_t size;
  const uint64_t page;
  std::vector<Elf64_Phdr> loads;
  std::vector<Elf64_Phdr> relro;
  bool hasDynamic = false;
  Elf64_Phdr dynamicHeader = {};
  Dynamic dynamic;
  struct Relocation {
    uint64_t address; // of the 8 bytes to be set
    uint64_t target;  // virtual address that they shall hold
  };
  std::vector<Relocation> relocations;
  uint64_t span = 0; // of all segments, in bytes, from virtual address 0
};

Status Loader::checkHeader() {
  if (size < sizeof(Elf64_Ehdr))
    return badCode("has " + std::to_string(size) + " bytes, fewer than an ELF header");
  Elf64_Ehdr header = read<Elf64_Ehdr>(0);
  if (std::memcmp(header.e_ident, ELFMAG, sizeof(ELFMAG)) != 0)
    return badCode("is no ELF file");
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_ident[EI_VERSION] != EV_CURRENT || header.e_version != EV_CURRENT)
    return badCode("expects a 64-bit little-endian ELF file of version 1");
  if (header.e_type != ET_DYN)
    return badCode("expects a shared object, got ELF type " + std::to_string(header.e_type));
  if (header.e_machine != kMachine)
    return badCode("expects ELF machine " + std::to_string(kMachine) + ", got " + std::to_string(header.e_machine));
  if (header.e_ehsize != sizeof(Elf64_Ehdr) || header.e_phentsize != sizeof(Elf64_Phdr))
    return badCode("has an ELF header or program headers of unknown size");
  if (header.e_phnum == 0 || header.e_phnum > kMaxProgramHeaders)
    return badCode("expects 1 to " + std::to_string(kMaxProgramHeaders) + " program headers, got " +
                   std::to_string(header.e_phnum));
  if (!inside(header.e_phoff, uint64_t(header.e_phnum) * sizeof(Elf64_Phdr), size))
    return badCode("program headers lie outside the file");

  for (uint16_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment = read<Elf64_Phdr>(header.e_phoff + i * sizeof(Elf64_Phdr));
    switch (segment.p_type) {
    case PT_LOAD:
      if (segment.p_memsz == 0 && segment.p_filesz == 0)
        break;
      SETUN_RETURN_IF_ERROR(checkLoad(segment));
      loads.push_back(segment);
      break;
    case PT_DYNAMIC:
      if (hasDynamic)
        return badCode("has two dynamic segments");
      hasDynamic = true;
      dynamicHeader = segment;
      break;
    case PT_GNU_RELRO:
      relro.push_back(segment);
      break;
    case PT_GNU_STACK:
      if (segment.p_flags & PF_X)
        return badCode("asks for an executable stack");
      break;
    case PT_INTERP:
      return badCode("asks for a program interpreter");
    case PT_TLS:
      return badCode("uses thread-local storage");
    default: // notes, unwind tables: nothing that loading depends on
      break;
    }
  }
  if (loads.empty())
    return badCode("has no segment to load");
  return Status();
}

Status Loader::checkLoad(const Elf64_Phdr &segment) {
  std::string name = "segment at " + hex(segment.p_vaddr);
  if (segment.p_filesz > segment.p_memsz)
    return badCode(name + " is larger in the file than in memory");
  if (!inside(segment.p_offset, segment.p_filesz, size))
    return badCode(name + " lies outside the file");
  if (!inside(segment.p_vaddr, segment.p_memsz, kMaxSpan))
    return badCode(name + " ends beyond the limit of " + hex(kMaxSpan));
  if ((segment.p_flags & PF_W) && (segment.p_flags & PF_X))
    return badCode(name + " is writable and executable");
  if (!loads.empty()) {
    // Pages have one protection each, so segments must not share any.
    const Elf64_Phdr &previous = loads.back();
    if (pageDown(segment.p_vaddr) < pageUp(previous.p_vaddr + previous.p_memsz))
      return badCode(name + " is out of order or shares a page of " + std::to_string(page) +
                     " bytes with the segment at " + hex(previous.p_vaddr));
  }
  span = pageUp(segment.p_vaddr + segment.p_memsz);
  return Status();
}

const uint8_t *Loader::fileBytes(uint64_t address, uint64_t length) const {
  for (const Elf64_Phdr &segment : loads)
    if (address >= segment.p_vaddr && inside(address - segment.p_vaddr, length, segment.p_filesz))
      return bytes + segment.p_offset + (address - segment.p_vaddr);
  return nullptr;
}

std::string Loader::symbolName(uint64_t index) const {
  const std::string unknown = "symbol " + std::to_string(index);
  uint64_t offset;
  if (__builtin_mul_overflow(index, sizeof(Elf64_Sym), &offset) ||
      __builtin_add_overflow(offset, dynamic.symtab, &offset))
    return unknown;
  const uint8_t *place = fileBytes(offset, sizeof(Elf64_Sym));
  if (!place)
    return unknown;
  Elf64_Sym symbol;
  std::memcpy(&symbol, place, sizeof(symbol));
  const uint8_t *strings = fileBytes(dynamic.strtab, dynamic.strtabSize);
  if (!strings || symbol.st_name >= dynamic.strtabSize)
    return unknown;
  const char *name = reinterpret_cast<const char *>(strings) + symbol.st_name;
  std::string text(name, ::strnlen(name, std::min<uint64_t>(dynamic.strtabSize - symbol.st_name, 256)));
  for (char &c : text)
    if (c < ' ' || c > '~')
      c = '?';
  return "symbol " + quoted(text);
}

Status Loader::readDynamic() {
  if (!hasDynamic)
    return Status();
  const uint64_t count = dynamicHeader.p_filesz / sizeof(Elf64_Dyn);
  if (count > kMaxDynamicEntries)
    return badCode("has " + std::to_string(count) + " dynamic entries");
  const uint8_t *entries = fileBytes(dynamicHeader.p_vaddr, dynamicHeader.p_filesz);
  if (!entries)
    return badCode("the dynamic segment lies outside the loaded segments");
  for (uint64_t i = 0; i < count; ++i) {
    Elf64_Dyn entry;
    std::memcpy(&entry, entries + i * sizeof(entry), sizeof(entry));
    const uint64_t value = entry.d_val;
    switch (entry.d_tag) {
    case DT_NULL:
      return Status();
    case DT_RELA:
      dynamic.rela = value;
      break;
    case DT_RELASZ:
      dynamic.relaSize = value;
      break;
    case DT_RELAENT:
      dynamic.relaEntry = value;
      break;
    case DT_STRTAB:
      dynamic.strtab = value;
      break;
    case DT_STRSZ:
      dynamic.strtabSize = value;
      break;
    case DT_SYMTAB:
      dynamic.symtab = value;
      break;
    case DT_NEEDED:
      return badCode("imports a shared library");
    case DT_PLTRELSZ:
    case DT_JMPREL:
      if (value)
        return badCode("imports functions");
      break;
    case DT_REL:
    case DT_RELSZ:
    case DT_RELR:
    case DT_RELRSZ:
      if (value)
        return badCode("has relocations in a form other than RELA");
      break;
    case DT_TEXTREL:
      return badCode("has relocations in read-only segments");
    case DT_INIT:
    case DT_FINI:
    case DT_INIT_ARRAY:
    case DT_FINI_ARRAY:
    case DT_PREINIT_ARRAY:
    case DT_INIT_ARRAYSZ:
    case DT_FINI_ARRAYSZ:
    case DT_PREINIT_ARRAYSZ:
      if (value)
        return badCode("has functions that run when it is loaded");
      break;
    case DT_HASH:
    case DT_GNU_HASH:
    case DT_SYMENT:
    case DT_SONAME:
    case DT_SYMBOLIC:
    case DT_RELACOUNT:
    case DT_DEBUG:
    case DT_PLTGOT:
    case DT_PLTREL:
    case DT_FLAGS:
    case DT_FLAGS_1:
      break; // without relocations by name these change nothing
    default:
      return badCode("has a dynamic entry of unknown tag " + hex(static_cast<uint64_t>(entry.d_tag)));
    }
  }
  return badCode("the dynamic segment has no end");
}

Status Loader::readRelocations() {
  if (dynamic.relaSize == 0)
    return Status();
  if (dynamic.relaEntry != sizeof(Elf64_Rela) || dynamic.relaSize % sizeof(Elf64_Rela) != 0)
    return badCode("has relocations of unknown size");
  const uint8_t *entries = fileBytes(dynamic.rela, dynamic.relaSize);
  if (!entries)
    return badCode("relocations lie outside the loaded segments");
  const uint64_t count = dynamic.relaSize / sizeof(Elf64_Rela);
  relocations.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    Elf64_Rela entry;
    std::memcpy(&entry, entries + i * sizeof(entry), sizeof(entry));
    const uint32_t type = relocationType(entry.r_info);
    const uint64_t symbol = relocationSymbol(entry.r_info);
    if (type == R_NONE)
      continue;
    if (type != kRelative || symbol != 0)
      return badCode("relocation " + std::to_string(i) + " at " + hex(entry.r_offset) + " is of type " +
                     std::to_string(type) + (symbol ? " and imports " + symbolName(symbol) : std::string()) +
                     "; only relative relocations are allowed");
    bool writable = false;
    for (const Elf64_Phdr &segment : loads)
      writable |= (segment.p_flags & PF_W) && overlaps(segment, entry.r_offset, sizeof(uint64_t));
    if (!writable)
      return badCode("relocation " + std::to_string(i) + " at " + hex(entry.r_offset) +
                     " lies outside the writable segments");
    const uint64_t target = static_cast<uint64_t>(entry.r_addend);
    if (target > span)
      return badCode("relocation " + std::to_string(i) + " at " + hex(entry.r_offset) + " points to " + hex(target) +
                     ", outside the image");
    relocations.push_back({entry.r_offset, target});
  }
  return Status();
}

Status Loader::checkRelro() {
  for (const Elf64_Phdr &range : relro) {
    bool inWritable = range.p_memsz == 0;
    for (const Elf64_Phdr &segment : loads)
      // The linker pads the range to its page size, which may be more than the segment has.
      inWritable |= (segment.p_flags & PF_W) && range.p_vaddr >= segment.p_vaddr &&
                    inside(range.p_vaddr, range.p_memsz, pageUp(segment.p_vaddr + segment.p_memsz));
    if (!inWritable)
      return badCode("the read-only-after-relocation range at " + hex(range.p_vaddr) +
                     " lies outside the writable segments");
  }
  return Status();
}

Status Loader::check() {
  SETUN_RETURN_IF_ERROR(checkHeader());
  SETUN_RETURN_IF_ERROR(readDynamic());
  SETUN_RETURN_IF_ERROR(readRelocations());
  return checkRelro();
}

Status Loader::map(Mapping &mapping) const {
  SETUN_RETURN_IF_ERROR(Mapping::reserved(span, "code", mapping));
  uint8_t *base = mapping.data();
  auto protect = [&](uint64_t begin, uint64_t end, int protection) {
    if (end <= begin || ::mprotect(base + begin, end - begin, protection) == 0)
      return Status();
    const char *reason = std::strerror(errno);
    if (protection & PROT_EXEC)
      return Status(SETUN_ERROR_UNSUPPORTED,
                    "the system does not let this process run code that it has loaded itself (systemd: "
                    "MemoryDenyWriteExecute, SELinux: execmem, macOS: the hardened runtime): " +
                        std::string(reason));
    return Status(SETUN_ERROR_IO, std::string("cannot protect the memory of a code section: ") + reason);
  };

  for (const Elf64_Phdr &segment : loads) {
    const uint64_t begin = pageDown(segment.p_vaddr), end = pageUp(segment.p_vaddr + segment.p_memsz);
    SETUN_RETURN_IF_ERROR(protect(begin, end, PROT_READ | PROT_WRITE));
    if (segment.p_filesz)
      std::memcpy(base + segment.p_vaddr, bytes + segment.p_offset, segment.p_filesz);
  }
  for (const Relocation &relocation : relocations) {
    const uint64_t value = reinterpret_cast<uint64_t>(base) + relocation.target;
    std::memcpy(base + relocation.address, &value, sizeof(value));
  }
  for (const Elf64_Phdr &segment : loads) {
    const uint64_t begin = pageDown(segment.p_vaddr), end = pageUp(segment.p_vaddr + segment.p_memsz);
    int protection = PROT_NONE;
    if (segment.p_flags & PF_X) {
      protection = PROT_READ | PROT_EXEC;
      __builtin___clear_cache(reinterpret_cast<char *>(base + begin), reinterpret_cast<char *>(base + end));
    } else if (segment.p_flags & PF_W) {
      protection = PROT_READ | PROT_WRITE;
    } else if (segment.p_flags & PF_R) {
      protection = PROT_READ;
    }
    SETUN_RETURN_IF_ERROR(protect(begin, end, protection));
  }
  for (const Elf64_Phdr &range : relro)
    // Only whole pages: what follows on the last one stays writable.
    SETUN_RETURN_IF_ERROR(protect(pageDown(range.p_vaddr), pageDown(range.p_vaddr + range.p_memsz), PROT_READ));
  return Status();
}

} // namespace

Status ElfImage::load(const uint8_t *bytes, size_t size, ElfImage &image) {
  image = ElfImage();
  Loader loader(bytes, size);
  SETUN_RETURN_IF_ERROR(loader.check());
  Mapping mapping;
  SETUN_RETURN_IF_ERROR(loader.map(mapping));
  image.mapping = std::move(mapping);
  for (const Elf64_Phdr &segment : loader.segments())
    if (segment.p_flags & PF_X)
      image.executable.push_back({segment.p_vaddr, segment.p_vaddr + segment.p_filesz});
  return Status();
}

Status ElfImage::function(uint64_t offset, const void *&address) const {
  for (const Range &range : executable) {
    if (offset < range.begin || offset >= range.end)
      continue;
    if (offset % kCodeAlignment != 0)
      return badCode("a function at " + hex(offset) + " is not aligned to " + std::to_string(kCodeAlignment) +
                     " bytes");
    address = mapping.data() + offset;
    return Status();
  }
  return badCode("a function at " + hex(offset) + " lies outside the executable segments");
}
