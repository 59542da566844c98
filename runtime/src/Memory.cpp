//===- Memory.cpp - mapped memory -----------------------------------------===//
#include "Memory.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
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

std::string setun::runtime::readText(const char *path) {
  std::string text;
  if (std::FILE *file = std::fopen(path, "re")) {
    char buffer[4096];
    text.assign(buffer, std::fread(buffer, 1, sizeof(buffer), file));
    std::fclose(file);
  }
  return text;
}

bool setun::runtime::hasLargePages() {
  const std::string modes = readText("/sys/kernel/mm/transparent_hugepage/enabled");
  return modes.find("[always]") != std::string::npos || modes.find("[madvise]") != std::string::npos;
}

uint64_t setun::runtime::availableMemory() {
  auto number = [](const std::string &text, size_t at) { return std::strtoull(text.c_str() + at, nullptr, 10); };
  const std::string info = readText("/proc/meminfo");
  constexpr char name[] = "MemAvailable:";
  const size_t at = info.find(name);
  uint64_t bytes = at == std::string::npos ? 0 : number(info, at + sizeof(name) - 1) * 1024;
  // A container or a job may be allowed less ("max" is no number). What it uses includes what it has cached.
  for (const std::string &group : controlGroups(readText("/proc/self/cgroup"))) {
    const uint64_t limit = number(readText((group + "/memory.max").c_str()), 0);
    const uint64_t used = number(readText((group + "/memory.current").c_str()), 0);
    if (limit)
      bytes = std::min(bytes, limit > used ? limit - used : 0);
  }
  return bytes;
}

std::vector<std::string> setun::runtime::controlGroups(const std::string &groups) {
  // Within a container its own group is the root.
  std::vector<std::string> folders = {"/sys/fs/cgroup"};
  // A line "0::/a/b" is version 2's.
  constexpr char start[] = "0::/";
  size_t at = groups.rfind(start, 0) == 0 ? 0 : groups.find(std::string("\n") + start);
  if (at == std::string::npos)
    return folders;
  at = groups.find('/', at);
  const std::string path = groups.substr(at, groups.find('\n', at) - at);
  for (size_t end = 0; end != std::string::npos && path.size() > 1;) {
    end = path.find('/', end + 1);
    folders.push_back(folders.front() + path.substr(0, end));
  }
  return folders;
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

Status Mapping::largePages(size_t size, const std::string &what, Mapping &mapping) {
  size_t room;
  if (__builtin_add_overflow(size, kLargePage, &room))
    return Status(SETUN_ERROR_OUT_OF_MEMORY, "cannot map " + std::to_string(size) + " bytes for " + what);
  SETUN_RETURN_IF_ERROR(anonymous(room, what, mapping));
  // What lies before the first whole large page, and behind the last byte's page, goes back.
  uint8_t *begin = mapping.data(), *end = begin + room;
  uint8_t *first = begin + (kLargePage - reinterpret_cast<uintptr_t>(begin) % kLargePage) % kLargePage;
  uint8_t *last = first + (size + pageSize() - 1) / pageSize() * pageSize();
  if (first > begin)
    ::munmap(begin, static_cast<size_t>(first - begin));
  if (end > last)
    ::munmap(last, static_cast<size_t>(end - last));
  mapping.start = first;
  mapping.length = size;
#ifdef MADV_HUGEPAGE
  (void)::madvise(first, size, MADV_HUGEPAGE); // a wish
#endif
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

Mapping Mapping::zeroedByFork() {
  Mapping page;
#ifdef MADV_WIPEONFORK
  if (!anonymous(pageSize(), "a mark of the process", page).ok() ||
      ::madvise(page.start, page.length, MADV_WIPEONFORK) != 0)
    page.release();
#endif
  return page;
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
