//===- Link.cpp - from object code to code sections --------------------------------===//
#include "lib/Translation/Link.h"

#include "lld/Common/Driver.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace llvm;
using namespace setun;

//===----------------------------------------------------------------------===//
// Linking
//===----------------------------------------------------------------------===//

namespace {

/// A temporary file that is gone when this is, or when the process is stopped by a signal.
class TemporaryFile {
public:
  Error create(StringRef suffix) {
    if (std::error_code code = sys::fs::createTemporaryFile("setun", suffix, path)) {
      SmallString<128> folder;
      sys::path::system_temp_directory(/*ErasedOnReboot=*/true, folder);
      path.clear();
      return createStringError(code, "cannot create a temporary file in '" + folder + "': " + code.message() +
                                         "; TMPDIR names another folder");
    }
    sys::RemoveFileOnSignal(path);
    return Error::success();
  }
  ~TemporaryFile() {
    if (path.empty())
      return;
    sys::fs::remove(path);
    sys::DontRemoveFileOnSignal(path);
  }
  const char *name() { return path.c_str(); }

private:
  SmallString<128> path;
};

/// lld's messages as one: undefined symbols by name, else the text without the linker's prefixes.
std::string linkerMessage(StringRef text) {
  SmallVector<StringRef> lines, undefined;
  text.split(lines, '\n', -1, /*KeepEmpty=*/false);
  std::string rest;
  for (StringRef line : lines) {
    size_t place = line.find("error: ");
    if (place == StringRef::npos)
      continue; // where a symbol is referenced from: our own temporary file
    line = line.drop_front(place + 7);
    if (line.consume_front("undefined symbol: ") || line.consume_front("undefined protected symbol: ") ||
        line.consume_front("undefined hidden symbol: "))
      undefined.push_back(line);
    else
      rest += (rest.empty() ? "" : "; ") + line.str();
  }
  if (undefined.empty())
    return "linking failed: " + (rest.empty() ? text.trim().str() : rest);
  std::string names;
  for (StringRef name : undefined)
    names += (names.empty() ? "'" : ", '") + name.str() + "'";
  return "compiled code must not call anything outside the package, but it uses " + names;
}

} // namespace

Expected<std::vector<uint8_t>> setun::linkImage(ArrayRef<char> object) {
  // lld keeps its state in globals, and may be unusable after a crash that it caught.
  static std::mutex mutex;
  static bool usable = true;
  std::lock_guard<std::mutex> lock(mutex);
  if (!usable)
    return createStringError("the linker has failed before and cannot be used again in this process");

  TemporaryFile input, output;
  if (Error error = input.create("o"))
    return std::move(error);
  if (Error error = output.create("so"))
    return std::move(error);
  {
    std::error_code code;
    raw_fd_ostream stream(input.name(), code);
    if (!code) {
      stream.write(object.data(), object.size());
      stream.close();
      code = stream.error();
      stream.clear_error();
    }
    if (code)
      return createStringError(code, Twine("cannot write ") + input.name() + ": " + code.message());
  }

  // Segments have pages of their own on every system: a Mac or a Raspberry Pi has pages of 16 KiB, other ARM systems of
  // 64 KiB.
  const char *arguments[] = {"ld.lld",
                             "-shared",
                             "-Bsymbolic",
                             "-z",
                             "defs",
                             "-z",
                             "relro",
                             "-z",
                             "now",
                             "-z",
                             "noexecstack",
                             "-z",
                             "max-page-size=65536",
                             "--hash-style=gnu",
                             "--pack-dyn-relocs=none",
                             "--build-id=none",
                             "--gc-sections",
                             "--no-eh-frame-hdr",
                             "--no-color-diagnostics",
                             "--error-limit=0",
                             "--threads=1",
                             input.name(),
                             "-o",
                             output.name()};
  std::string text;
  raw_string_ostream stream(text);
  lld::Result result = lld::lldMain(arguments, stream, stream, {{lld::Gnu, &lld::elf::link}});
  usable = result.canRunAgain;
  if (result.retCode != 0)
    return createStringError(linkerMessage(text));

  ErrorOr<std::unique_ptr<MemoryBuffer>> image =
      MemoryBuffer::getFile(output.name(), /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!image)
    return createStringError(image.getError(),
                             Twine("cannot read ") + output.name() + ": " + image.getError().message());
  const auto *bytes = reinterpret_cast<const uint8_t *>((*image)->getBufferStart());
  return std::vector<uint8_t>(bytes, bytes + (*image)->getBufferSize());
}

//===----------------------------------------------------------------------===//
// Reading back
//===----------------------------------------------------------------------===//

Expected<std::vector<uint64_t>> setun::functionAddresses(ArrayRef<uint8_t> image, ArrayRef<std::string> names) {
  StringRef bytes(reinterpret_cast<const char *>(image.data()), image.size());
  auto file = object::ObjectFile::createELFObjectFile(MemoryBufferRef(bytes, "code section"));
  if (!file)
    return file.takeError();
  const auto *elf = dyn_cast<object::ELFObjectFileBase>(file->get());
  if (!elf)
    return createStringError("the linker made no ELF file");
  StringMap<uint64_t> addresses;
  for (object::ELFSymbolRef symbol : elf->getDynamicSymbolIterators()) {
    Expected<StringRef> name = symbol.getName();
    if (!name)
      return name.takeError();
    Expected<uint64_t> address = symbol.getAddress();
    if (!address)
      return address.takeError();
    Expected<uint32_t> flags = symbol.getFlags();
    if (!flags)
      return flags.takeError();
    if (!(*flags & object::SymbolRef::SF_Undefined) && symbol.getELFType() == ELF::STT_FUNC)
      addresses[*name] = *address;
  }
  std::vector<uint64_t> result;
  for (StringRef name : names) {
    auto place = addresses.find(name);
    if (place == addresses.end())
      return createStringError("the linked code has no function '" + name + "'");
    result.push_back(place->second);
  }
  return result;
}
