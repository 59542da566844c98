//===- Kernels.cpp - the kernel table --------------------------------------------===//
#include "lib/Target/Kernels.h"

#include "llvm/ADT/SmallVector.h"

using namespace llvm;
using namespace setun;

static constexpr KernelRow rows[] = {
#define SETUN_KERNEL(name, features, method, bytes, ternaryTokens, binaryTokens, description)                          \
  {name, features, DotMethod::method, bytes, ternaryTokens, binaryTokens, description},
#include "lib/Target/Kernels.def"
};

int64_t KernelRow::maxColumns(bool binary) const {
  int64_t maxCode = method == DotMethod::Triangular ? (binary ? 255 : 170) : (binary ? 1 : 2);
  return ((int64_t(1) << 31) - 1) / (maxCode * 128);
}

bool KernelRow::supportedBy(const StringSet<> &available) const {
  SmallVector<StringRef> needed;
  features.split(needed, ',', -1, /*KeepEmpty=*/false);
  return all_of(needed, [&](StringRef feature) { return available.contains(feature); });
}

ArrayRef<KernelRow> setun::kernelRows() { return rows; }

const KernelRow *setun::findKernelRow(StringRef name) {
  for (const KernelRow &row : rows)
    if (row.name == name)
      return &row;
  return nullptr;
}

const KernelRow *setun::selectKernelRow(const StringSet<> &features, bool binary, int64_t columns) {
  for (const KernelRow &row : rows)
    if (row.supportedBy(features) && columns <= row.maxColumns(binary))
      return &row;
  return &rows[std::size(rows) - 1];
}
