//===- Value.cpp - values of the reference interpreter --------------------------===//
#include "lib/Reference/Value.h"

#include "lib/Weights/DType.h"

#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace setun::reference;

static unsigned bytesOf(Type type) {
  if (type.isF64() || type.isIndex())
    return 8;
  if (type.isF32())
    return 4;
  if (type.isF16() || type.isBF16())
    return 2;
  if (auto integer = dyn_cast<IntegerType>(type))
    switch (integer.getWidth()) {
    case 1:
    case 2:
    case 8:
      return 1;
    case 16:
      return 2;
    case 32:
      return 4;
    case 64:
      return 8;
    }
  return 0;
}

bool Tensor::supports(Type elementType) { return bytesOf(elementType) != 0; }

Tensor::Tensor(Type elementType, ArrayRef<int64_t> shape)
    : type(elementType), dims(shape.begin(), shape.end()), width(bytesOf(elementType)) {
  assert(width && "element type was not checked");
  count = 1;
  for (int64_t dim : shape)
    count *= dim;
  bytes = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(count) * width);
}

Tensor Tensor::scalar(Type type, int64_t value) {
  Tensor result(type, {});
  result.setInt(0, value);
  return result;
}

Tensor Tensor::scalar(Type type, double value) {
  Tensor result(type, {});
  result.setFloat(0, value);
  return result;
}

static double toDouble(APFloat value) {
  bool loses;
  value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
  return value.convertToDouble();
}

std::optional<Tensor> Tensor::fromAttribute(TypedAttr attr) {
  Type type = attr.getType();
  auto shaped = dyn_cast<ShapedType>(type);
  Type elementType = shaped ? shaped.getElementType() : type;
  if (!supports(elementType) || (shaped && !shaped.hasStaticShape()))
    return std::nullopt;
  Tensor result(elementType, shaped ? shaped.getShape() : ArrayRef<int64_t>());
  if (auto value = dyn_cast<IntegerAttr>(attr)) {
    result.setInt(0, value.getValue().getSExtValue());
    return result;
  }
  if (auto value = dyn_cast<FloatAttr>(attr)) {
    result.setFloat(0, toDouble(value.getValue()));
    return result;
  }
  if (auto dense = dyn_cast<DenseFPElementsAttr>(attr)) {
    for (auto [i, value] : llvm::enumerate(dense.getValues<APFloat>()))
      result.setFloat(i, toDouble(value));
    return result;
  }
  if (auto dense = dyn_cast<DenseIntElementsAttr>(attr)) {
    for (auto [i, value] : llvm::enumerate(dense.getValues<APInt>()))
      result.setInt(i, value.getSExtValue());
    return result;
  }
  // A resource is a blob of whole elements; sub-byte types have no agreed form there.
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(attr)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    if (!blob || blob->getData().size() != result.byteSize() || elementType.getIntOrFloatBitWidth() < 8)
      return std::nullopt;
    std::memcpy(result.mutableData<uint8_t>(), blob->getData().data(), result.byteSize());
    return result;
  }
  return std::nullopt;
}

bool Tensor::conformsTo(Type irType) const {
  auto shaped = dyn_cast<ShapedType>(irType);
  if (!shaped)
    return irType == type && dims.empty();
  if (shaped.getElementType() != type || shaped.getRank() != rank())
    return false;
  for (auto [own, wanted] : llvm::zip(dims, shaped.getShape()))
    if (!ShapedType::isDynamic(wanted) && own != wanted)
      return false;
  return true;
}

int64_t Tensor::intAt(int64_t i) const {
  switch (width) {
  case 1:
    return data<int8_t>()[i];
  case 2:
    return data<int16_t>()[i];
  case 4:
    return data<int32_t>()[i];
  default:
    return data<int64_t>()[i];
  }
}

void Tensor::setInt(int64_t i, int64_t value) {
  switch (width) {
  case 1:
    if (type.isInteger(1))
      value &= 1;
    else if (type.isInteger(2))
      value = ((value & 3) ^ 2) - 2;
    mutableData<int8_t>()[i] = static_cast<int8_t>(value);
    break;
  case 2:
    mutableData<int16_t>()[i] = static_cast<int16_t>(value);
    break;
  case 4:
    mutableData<int32_t>()[i] = static_cast<int32_t>(value);
    break;
  default:
    mutableData<int64_t>()[i] = value;
  }
}

double Tensor::floatAt(int64_t i) const {
  if (type.isF32())
    return data<float>()[i];
  if (type.isF64())
    return data<double>()[i];
  uint16_t bits = data<uint16_t>()[i];
  return type.isF16() ? setun::f16ToFloat(bits) : setun::bf16ToFloat(bits);
}

void Tensor::setFloat(int64_t i, double value) {
  if (type.isF32()) {
    mutableData<float>()[i] = static_cast<float>(value);
  } else if (type.isF64()) {
    mutableData<double>()[i] = value;
  } else {
    float odd = setun::doubleToFloatOdd(value);
    mutableData<uint16_t>()[i] = type.isF16() ? setun::floatToF16(odd) : setun::floatToBF16(odd);
  }
}

void Tensor::copyElement(int64_t i, const Tensor &from, int64_t j) {
  std::memcpy(bytes->data() + i * width, from.bytes->data() + j * width, width);
}

Tensor Tensor::reshaped(ArrayRef<int64_t> shape) const {
  Tensor result = *this;
  result.dims.assign(shape.begin(), shape.end());
  return result;
}

Tensor Tensor::clone() const {
  Tensor result = *this;
  result.bytes = std::make_shared<std::vector<uint8_t>>(*bytes);
  return result;
}

std::vector<float> Tensor::toFloats() const {
  std::vector<float> result(count);
  for (int64_t i = 0; i < count; ++i)
    result[i] = static_cast<float>(floatAt(i));
  return result;
}

std::vector<int8_t> Tensor::toCodes() const {
  std::vector<int8_t> result(data<int8_t>(), data<int8_t>() + count);
  if (type.isInteger(1))
    for (int8_t &code : result)
      code = code ? 1 : -1;
  return result;
}

std::string Tensor::typeString() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (dims.empty()) {
    os << type;
    return text;
  }
  os << "tensor<";
  for (int64_t dim : dims)
    os << dim << 'x';
  os << type << '>';
  return text;
}

std::string Tensor::valueString() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto element = [&](int64_t i) {
    if (!isFloat())
      os << intAt(i);
    else if (std::isnan(floatAt(i)))
      os << "nan";
    else
      os << llvm::format(type.isF64() ? "%.17g" : "%.9g", floatAt(i));
  };
  int64_t next = 0;
  auto print = [&](auto &self, int64_t axis) -> void {
    if (axis == rank()) {
      element(next++);
      return;
    }
    os << '[';
    for (int64_t i = 0; i < dims[axis]; ++i) {
      if (i)
        os << ", ";
      self(self, axis + 1);
    }
    os << ']';
  };
  print(print, 0);
  return text;
}

int64_t setun::reference::flatten(ArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  int64_t position = 0;
  for (auto [i, dim] : llvm::zip(index, shape))
    position = position * dim + i;
  return position;
}

bool setun::reference::advance(MutableArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  for (int64_t axis = static_cast<int64_t>(shape.size()) - 1; axis >= 0; --axis) {
    if (++index[axis] < shape[axis])
      return true;
    index[axis] = 0;
  }
  return false;
}
