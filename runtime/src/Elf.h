//===- Elf.h - the part of the ELF format that code sections use -*- C++ -*-===//
//
// 64-bit structures and numbers of the System V ABI (and the RELR addition), by their names there. <elf.h> would have
// them, but macOS does not have <elf.h>. Not for files that include it.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_RUNTIME_ELF_H
#define SETUN_RUNTIME_ELF_H

#include <cstdint>

namespace setun {
namespace runtime {

struct Elf64_Ehdr {
  uint8_t e_ident[16];
  uint16_t e_type;
  uint16_t e_machine;
  uint32_t e_version;
  uint64_t e_entry;
  uint64_t e_phoff;
  uint64_t e_shoff;
  uint32_t e_flags;
  uint16_t e_ehsize;
  uint16_t e_phentsize;
  uint16_t e_phnum;
  uint16_t e_shentsize;
  uint16_t e_shnum;
  uint16_t e_shstrndx;
};
static_assert(sizeof(Elf64_Ehdr) == 64, "as in the file");

struct Elf64_Phdr {
  uint32_t p_type;
  uint32_t p_flags;
  uint64_t p_offset;
  uint64_t p_vaddr;
  uint64_t p_paddr;
  uint64_t p_filesz;
  uint64_t p_memsz;
  uint64_t p_align;
};
static_assert(sizeof(Elf64_Phdr) == 56, "as in the file");

struct Elf64_Dyn {
  int64_t d_tag;
  uint64_t d_val; // d_un.d_val in <elf.h>
};
static_assert(sizeof(Elf64_Dyn) == 16, "as in the file");

struct Elf64_Rela {
  uint64_t r_offset;
  uint64_t r_info;
  int64_t r_addend;
};
static_assert(sizeof(Elf64_Rela) == 24, "as in the file");

struct Elf64_Sym {
  uint32_t st_name;
  uint8_t st_info;
  uint8_t st_other;
  uint16_t st_shndx;
  uint64_t st_value;
  uint64_t st_size;
};
static_assert(sizeof(Elf64_Sym) == 24, "as in the file");

constexpr uint32_t relocationType(uint64_t info) { return static_cast<uint32_t>(info); }
constexpr uint64_t relocationSymbol(uint64_t info) { return info >> 32; }

constexpr char ELFMAG[] = {0x7f, 'E', 'L', 'F'};
constexpr int EI_CLASS = 4, EI_DATA = 5, EI_VERSION = 6;
constexpr uint8_t ELFCLASS64 = 2, ELFDATA2LSB = 1, EV_CURRENT = 1;
constexpr uint16_t ET_DYN = 3;
constexpr uint16_t EM_NONE = 0, EM_X86_64 = 62, EM_AARCH64 = 183;
// 0 is no relocation on every machine.
constexpr uint32_t R_NONE = 0, R_X86_64_RELATIVE = 8, R_AARCH64_RELATIVE = 1027;

constexpr uint32_t PT_LOAD = 1, PT_DYNAMIC = 2, PT_INTERP = 3, PT_TLS = 7, PT_GNU_STACK = 0x6474e551,
                   PT_GNU_RELRO = 0x6474e552;
constexpr uint32_t PF_X = 1, PF_W = 2, PF_R = 4;

constexpr int64_t DT_NULL = 0, DT_NEEDED = 1, DT_PLTRELSZ = 2, DT_PLTGOT = 3, DT_HASH = 4, DT_STRTAB = 5, DT_SYMTAB = 6,
                  DT_RELA = 7, DT_RELASZ = 8, DT_RELAENT = 9, DT_STRSZ = 10, DT_SYMENT = 11, DT_INIT = 12, DT_FINI = 13,
                  DT_SONAME = 14, DT_SYMBOLIC = 16, DT_REL = 17, DT_RELSZ = 18, DT_PLTREL = 20, DT_DEBUG = 21,
                  DT_TEXTREL = 22, DT_JMPREL = 23, DT_INIT_ARRAY = 25, DT_FINI_ARRAY = 26, DT_INIT_ARRAYSZ = 27,
                  DT_FINI_ARRAYSZ = 28, DT_FLAGS = 30, DT_PREINIT_ARRAY = 32, DT_PREINIT_ARRAYSZ = 33, DT_RELRSZ = 35,
                  DT_RELR = 36, DT_GNU_HASH = 0x6ffffef5, DT_RELACOUNT = 0x6ffffff9, DT_FLAGS_1 = 0x6ffffffb;

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_ELF_H
