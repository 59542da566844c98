//===- Kernels.cpp - the kernel table --------------------------------------------===//
#include "lib/Target/Kernels.h"

#include "llvm/ADT/SmallVector.h"

using namespace llvm;
using namespace setun;
using packing::WeightKind;

static constexpr KernelRow rows[] = {
#define SETUN_KERNEL(name, features, method, bytes, description)                                                       \
  {name, features, DotMethod::method, bytes, description},
#include "lib/Target/Kernels.def"
};

int64_t KernelRow::maxOperand(WeightKind kind) const {
  if (method == DotMethod::Pairs)
    return kind == WeightKind::Binary ? 1 : 2;
  switch (kind) {
  case WeightKind::Ternary:
    return 170;
  case WeightKind::Binary:
    return 255;
  case WeightKind::TernaryBase3:
    return 242;
  }
  return 255;
}

int64_t KernelRow::maxColumns(WeightKind kind) const { return ((int64_t(1) << 31) - 1) / (maxOperand(kind) * 128); }

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
