//===- Memory.cpp - mapped memory -----------------------------------------===//
#include "Memory.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

using namespace setun::runtime;

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

size_t setun::runtime::pageSize() {
  long size = ::sysconf(_SC_PAGESIZE);
  return size > 0 ? static_cast<size_t>(size) : 4096;
}

static Status map(size_t size, int protection, int flags, int fd, const std::string &what, void *&start) {
  start = ::mmap(nullptr, size, protection, flags, fd, 0);
  if (start != MAP_FAILED)
    return Status();
  start = nullptr;
  return Status(errno == ENOMEM ? SETUN_ERROR_OUT_OF_MEMORY : SETUN_ERROR_IO,
                "cannot map " + std::to_string(size) + " bytes for " + what + ": " + std::strerror(errno));
}

Status Mapping::anonymous(size_t size, const std::string &what, Mapping &mapping) {
  mapping.release();
  if (size == 0)
    return Status();
  SETUN_RETURN_IF_ERROR(map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, what, mapping.start));
  mapping.length = size;
  return Status();
}

Status Mapping::reserved(size_t size, const std::string &what, Mapping &mapping) {
  mapping.release();
  if (size == 0)
    return Status();
  SETUN_RETURN_IF_ERROR(map(size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, what, mapping.start));
  mapping.length = size;
  return Status();
}

Status Mapping::file(int fd, size_t size, const std::string &path, Mapping &mapping) {
  mapping.release();
  SETUN_RETURN_IF_ERROR(map(size, PROT_READ, MAP_PRIVATE, fd, quoted(path), mapping.start));
  mapping.length = size;
  return Status();
}

void Mapping::clear() {
  // Giving pages back beats writing zeros over them, except for a few pages where the system call costs more.
  constexpr size_t smallSize = size_t(256) << 10;
#ifdef __linux__
  if (length > smallSize && ::madvise(start, length, MADV_DONTNEED) == 0)
    return;
#else
  (void)smallSize;
#endif
  if (length)
    std::memset(start, 0, length);
}

void Mapping::release() {
  if (start)
    ::munmap(start, length);
  start = nullptr;
  length = 0;
}
