//===- Link.h - from object code to code sections ------------------*- C++ -*-===//
#ifndef SETUN_LIB_TRANSLATION_LINK_H
#define SETUN_LIB_TRANSLATION_LINK_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace setun {

/// Links an object file into an ELF shared object without imports, as packages hold them. An undefined symbol is an
/// error that names it. Safe to call from several threads.
llvm::Expected<std::vector<uint8_t>> linkImage(llvm::ArrayRef<char> object);

/// The virtual addresses of exported functions of an image, in the order of `names`.
llvm::Expected<std::vector<uint64_t>> functionAddresses(llvm::ArrayRef<uint8_t> image,
                                                        llvm::ArrayRef<std::string> names);

} // namespace setun

#endif // SETUN_LIB_TRANSLATION_LINK_H
