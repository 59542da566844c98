//===- WritePackage.cpp - writes the tests' package for other tests -------===//
#include "Fixture.h"

#include <cstdio>

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FILE.setun\n", argv[0]);
    return 2;
  }
  if (setun::package::Error error = fixture::write(fixture::parts(), argv[1])) {
    std::fprintf(stderr, "%s\n", error->c_str());
    return 1;
  }
  return 0;
}
