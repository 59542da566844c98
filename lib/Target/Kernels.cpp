//===- Kernels.cpp - the kernel table --------------------------------------------===//
#include "lib/Target/Kernels.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

using namespace llvm;
using namespace setun;
using packing::WeightKind;

static constexpr KernelRow rows[] = {
#define SETUN_KERNEL(name, features, arch, method, bytes, description)                                                 \
  {name, features, arch, DotMethod::method, bytes, description},
#include "lib/Target/Kernels.def"
};

int64_t KernelRow::maxOperand(WeightKind kind) const {
  if (!isFourWay())
    return kind == WeightKind::Binary ? 1 : kind == WeightKind::Bytes ? 15 : 2;
  switch (kind) {
  case WeightKind::Ternary:
  case WeightKind::TernarySigned:
    return 170;
  case WeightKind::Binary:
    return 255;
  case WeightKind::TernaryBase3:
    return packing::largestTrits(5);
  case WeightKind::Bytes:
    return 255;
  }
  return 255;
}

int64_t KernelRow::maxColumns(WeightKind kind) const {
  // Nothing is divided where bytes are summed, so that sums may wrap if the product itself fits.
  const int64_t largest = kind == WeightKind::Bytes ? 128 : maxOperand(kind);
  return ((int64_t(1) << 31) - 1) / (largest * 128);
}

int64_t KernelRow::operands(WeightKind kind) const {
  return kind == WeightKind::Bytes && !isFourWay() ? 2 : packing::fieldsPerByte(kind);
}

int64_t KernelRow::stagedSteps(WeightKind kind) const {
  if (hasTiles())
    return 512 / packing::fieldsPerByte(kind) / 16 * 16;
  if (isFourWay())
    return hasMatrixDots() ? 64 : 63;
  return std::min<int64_t>(63, maxNarrowSteps(maxOperand(kind)));
}

bool KernelRow::supportedBy(const StringSet<> &available) const {
  SmallVector<StringRef> needed;
  features.split(needed, ',', -1, /*KeepEmpty=*/false);
  return all_of(needed, [&](StringRef feature) { return available.contains(feature); });
}

ArrayRef<WeightKind> setun::ternaryLayouts() {
  static constexpr WeightKind kinds[] = {WeightKind::Ternary, WeightKind::TernaryBase3, WeightKind::TernarySigned};
  return kinds;
}

std::optional<WeightKind> setun::findTernaryLayout(StringRef name) {
  for (WeightKind kind : ternaryLayouts())
    if (name == packing::layoutName(kind))
      return kind;
  return std::nullopt;
}

std::string setun::ternaryLayoutNames() {
  std::string names;
  for (auto [i, kind] : enumerate(ternaryLayouts()))
    names += (i == 0 ? "" : i + 1 == ternaryLayouts().size() ? " or " : ", ") + std::string(packing::layoutName(kind));
  return names;
}

ArrayRef<KernelRow> setun::kernelRows() { return rows; }

const KernelRow *setun::findKernelRow(StringRef name) {
  for (const KernelRow &row : rows)
    if (row.name == name)
      return &row;
  return nullptr;
}
