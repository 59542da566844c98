//===- Contents.cpp - what a package tells about a module -------------------------===//
#include "lib/Driver/Contents.h"

#include "dialects/Ternary/Ternary.h"
#include "lib/Target/CostModel.h"
#include "passes/OperationInfo.h"
#include "passes/Passes.h"

#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/xxhash.h"

#include <cmath>

using namespace mlir;
using namespace setun;

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

static std::optional<package::ElementType> elementType(Type type) {
  using package::ElementType;
  if (type.isF16())
    return ElementType::F16;
  if (type.isBF16())
    return ElementType::BF16;
  if (type.isF32())
    return ElementType::F32;
  if (type.isF64())
    return ElementType::F64;
  if (type.isInteger(1))
    return ElementType::Bool;
  if (type.isInteger(8))
    return type.isUnsignedInteger() ? ElementType::U8 : ElementType::I8;
  if (type.isUnsignedInteger())
    return std::nullopt;
  if (type.isInteger(16))
    return ElementType::I16;
  if (type.isInteger(32))
    return ElementType::I32;
  if (type.isInteger(64))
    return ElementType::I64;
  return std::nullopt;
}

FailureOr<package::EntryDesc> setun::describeEntry(func::FuncOp func) {
  FailureOr<EntryInfo> info = getEntryInfo(func);
  if (failed(info))
    return failure();

  package::EntryDesc entry;
  entry.name = info->name;
  entry.symbols.assign(info->symbols.begin(), info->symbols.end());
  entry.resetsSession = info->resets;
  entry.maxContext = info->maxContext;
  entry.usesPosition = info->positionArg >= 0;

  auto describe = [&](ArrayRef<EntryTensor> tensors, StringRef role, std::vector<package::TensorDesc> &into) {
    for (const EntryTensor &tensor : tensors) {
      package::TensorDesc desc;
      desc.name = tensor.name;
      std::optional<package::ElementType> type = elementType(tensor.elementType);
      if (!type) {
        func.emitError() << "entry '" << info->name << "': " << role << " '" << tensor.name
                         << "' expects f16, bf16, f32, f64, i1, i8, ui8, i16, i32 or i64 elements, got "
                         << tensor.elementType;
        return failure();
      }
      desc.type = *type;
      desc.below = tensor.below;
      for (int64_t size : tensor.shape)
        desc.shape.push_back(size < 0 ? package::Dim::dynamic(entry.symbols[-1 - size]) : package::Dim::fixed(size));
      into.push_back(std::move(desc));
    }
    return success();
  };
  if (failed(describe(info->inputs, "input", entry.inputs)) || failed(describe(info->states, "state", entry.states)) ||
      failed(describe(info->outputs, "output", entry.outputs)))
    return failure();

  for (const package::TensorDesc &state : entry.states)
    for (const package::Dim &dim : state.shape) {
      if (dim.symbol.empty())
        continue;
      if (!entry.capacitySymbol.empty() && entry.capacitySymbol != dim.symbol) {
        func.emitError() << "entry '" << info->name << "': all states expect the dimension '" << entry.capacitySymbol
                         << "', got '" << dim.symbol << "' in state '" << state.name << "'";
        return failure();
      }
      entry.capacitySymbol = dim.symbol;
    }
  // The session advances by the number of tokens: the first input's first dimension.
  if (entry.usesPosition && !entry.inputs.empty()) {
    const std::vector<package::Dim> &shape = entry.inputs.front().shape;
    auto dynamic = llvm::find_if(shape, [](const package::Dim &dim) { return !dim.symbol.empty(); });
    if (dynamic != shape.end())
      entry.tokenSymbol = dynamic->symbol;
    else
      entry.tokens = shape.empty() ? 1 : shape.front().size;
  }
  return entry;
}

std::vector<package::OperationDesc> setun::takeOperations(ModuleOp module, StringRef symbol) {
  std::vector<package::OperationDesc> operations;
  auto function = module.lookupSymbol<LLVM::LLVMFuncOp>(symbol);
  auto list = function ? function->getAttrOfType<ArrayAttr>(kOperationsAttr) : ArrayAttr();
  if (!list)
    return operations;
  for (Attribute item : list) {
    OperationInfo info = fromAttribute(cast<DictionaryAttr>(item));
    package::OperationDesc operation;
    operation.kind = std::move(info.kind);
    operation.detail = std::move(info.detail);
    operation.name = std::move(info.name);
    operation.shape = std::move(info.shape);
    operation.rowsSymbol = info.rows < 0 ? static_cast<int32_t>(-1 - info.rows) : -1;
    operation.rows = std::max<int64_t>(info.rows, 0);
    operation.weightBytes = info.weightBytes;
    operation.rowBytes = info.rowBytes;
    operation.contextBytes = info.contextBytes;
    operation.int8Macs = info.int8Macs;
    operation.floatMacs = info.floatMacs;
    operations.push_back(std::move(operation));
  }
  function->removeAttr(kOperationsAttr);
  return operations;
}

std::vector<std::string> setun::takeConditions(ModuleOp module, StringRef symbol) {
  std::vector<std::string> messages;
  auto function = module.lookupSymbol<LLVM::LLVMFuncOp>(symbol);
  if (auto list = function ? function->getAttrOfType<ArrayAttr>(kConditionsAttr) : ArrayAttr()) {
    for (StringAttr message : list.getAsRange<StringAttr>())
      messages.push_back(message.str());
    function->removeAttr(kConditionsAttr);
  }
  return messages;
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

/// The name of the tensor that a value comes from, or empty.
static StringRef weightName(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (auto weight = dyn_cast<bitnet::WeightOp>(op))
      return weight.getName();
    if (op->getNumOperands() != 1)
      break;
    value = op->getOperand(0);
  }
  return StringRef();
}

static std::string scaleText(bitnet::ScalesAttr scales) {
  switch (scales.getKind()) {
  case bitnet::ScaleKind::Tensor:
    return "tensor";
  case bitnet::ScaleKind::Rows:
    return llvm::all_of(scales.getRows(), [](int64_t count) { return count == 1; }) ? "row" : "row ranges";
  case bitnet::ScaleKind::Group:
    return "group " + std::to_string(scales.getGroup());
  }
  llvm_unreachable("all kinds are handled");
}

void LayerTable::add(package::LayerInfo layer, const package::LayerKernel &kernel) {
  // Constants have no name, so no two of them are the same layer.
  if (layer.name.empty())
    return;
  auto [place, added] = byName.try_emplace(layer.name + "/" + layer.format, table.size());
  if (added)
    table.push_back(std::move(layer));
  package::LayerInfo &known = table[place->second];
  if (!kernel.kernel.empty() &&
      llvm::none_of(known.kernels, [&](const package::LayerKernel &other) { return other.target == kernel.target; }))
    known.kernels.push_back(kernel);
}

/// The kernel of a matmul, with its predicted costs and what was measured of it.
static package::LayerKernel describeKernel(ternary::MatmulOp op, const TargetSpec &target, unsigned threads,
                                           ArrayRef<MatrixKernel> kernels) {
  package::LayerKernel result;
  ternary::KernelAttr chosen = op.getKernel().value_or(nullptr);
  const KernelRow *row = chosen ? findKernelRow(chosen.getRow()) : nullptr;
  if (!row)
    return result;
  const packing::WeightKind kind = packedShape(op.getLayout()).kind;
  result.target = target.name;
  result.kernel = row->name.str();
  result.format = ternary::stringifyPacking(op.getLayout().getPacking()).str();
  result.tokens = chosen.getTokens();
  result.staged = chosen.getStaged();
  if (!op.getSums())
    return result; // the model is of dots of codes
  KernelChoice cost = costOf(*row, kind, cpuModel(target.cpu), threads, op.getLayout().getRows(), chosen.getTokens(),
                             chosen.getStaged());
  result.predictedDecode = std::llround(cost.decode * 1000);
  result.predictedPrefill = std::llround(cost.prefill * 1000);
  for (const MatrixKernel &kernel : kernels)
    if (kernel.shape == matrixShape(op) && (kernel.target.empty() || kernel.target == target.name)) {
      result.measuredDecode = kernel.measuredDecode;
      result.measuredPrefill = kernel.measuredPrefill;
    }
  return result;
}

void LayerTable::add(ModuleOp module, const TargetSpec &target, unsigned threads, ArrayRef<MatrixKernel> kernels) {
  module.walk([&](Operation *op) {
    auto parent = op->getParentOfType<func::FuncOp>();
    if (parent && parent.getName().starts_with("__"))
      return; // a self-test
    if (auto matmul = dyn_cast<ternary::MatmulOp>(op)) {
      auto pack = matmul.getPacked().getDefiningOp<ternary::PackOp>();
      if (!pack)
        return;
      auto scales = matmul.getRowScales().getDefiningOp<ternary::PackScalesOp>();
      ternary::LayoutAttr layout = matmul.getLayout();
      // Fused matrices share panels; each is told its part of their bytes.
      int64_t rowsLeft = layout.getRows(), bytesLeft = layout.getBytes();
      for (auto [i, weights] : llvm::enumerate(pack.getWeights())) {
        package::LayerInfo layer;
        layer.name = weightName(weights).str();
        layer.rows = cast<ShapedType>(weights.getType()).getDimSize(0);
        layer.cols = layout.getCols();
        layer.format = ternary::stringifyPacking(layout.getPacking()).str();
        // A matmul whose accumulators are used as they are has no scales.
        layer.scale = scales && i < scales.getScales().size()
                          ? scaleText(cast<bitnet::ScalesAttr>(scales.getScales()[i]))
                          : "none";
        layer.bytes = rowsLeft > 0 ? bytesLeft * layer.rows / rowsLeft : 0;
        rowsLeft -= layer.rows;
        bytesLeft -= layer.bytes;
        add(std::move(layer), describeKernel(matmul, target, threads, kernels));
      }
    } else if (isa<ternary::DenseOp, ternary::EmbeddingOp>(op)) {
      auto dense = dyn_cast<ternary::DenseOp>(op);
      Value matrix = dense ? dense.getW() : cast<ternary::EmbeddingOp>(op).getTable();
      auto type = cast<ShapedType>(matrix.getType());
      package::LayerInfo layer;
      layer.name = weightName(matrix).str();
      layer.rows = type.getDimSize(0);
      layer.cols = type.getDimSize(1);
      llvm::raw_string_ostream(layer.format) << type.getElementType();
      layer.scale = "none";
      layer.bytes = type.getNumElements() * (type.getElementTypeBitWidth() / 8);
      add(std::move(layer), package::LayerKernel());
    } else if (auto pack = dyn_cast<ternary::PackHeadOp>(op)) {
      // What is read as a whole for each choice, and what single rows are read of.
      auto type = cast<ShapedType>(pack.getW().getType());
      packing::HeadShape shape{type.getDimSize(0), type.getDimSize(1)};
      package::LayerInfo layer;
      layer.name = weightName(pack.getW()).str();
      layer.rows = shape.rows;
      layer.cols = shape.cols;
      layer.format = "scan4";
      layer.scale = "group 16";
      layer.bytes = shape.codeBytes() + shape.scaleBytes() + shape.coarseRowsBytes();
      package::LayerKernel kernel;
      kernel.target = target.name;
      for (Operation *user : pack.getCodes().getUsers())
        if (auto scan = dyn_cast<ternary::HeadScanOp>(user); scan && scan.getKernel())
          kernel.kernel = scan.getKernel()->getRow().str();
      kernel.format = layer.format;
      add(layer, kernel);
      kernel.format = layer.format = "scan2";
      layer.scale = "row";
      layer.bytes = shape.fineBytes() + shape.fineRowsBytes();
      add(std::move(layer), kernel);
    }
  });
}

uint64_t LayerTable::bytes() const {
  uint64_t sum = 0;
  for (const package::LayerInfo &layer : table)
    sum += static_cast<uint64_t>(layer.bytes);
  return sum;
}

//===----------------------------------------------------------------------===//
// Weight files
//===----------------------------------------------------------------------===//

llvm::Expected<std::string> setun::describeWeightFile(const std::string &path) {
  uint64_t size = 0;
  if (std::error_code code = llvm::sys::fs::file_size(path, size))
    return llvm::createStringError(code, "cannot read '" + path + "': " + code.message());
  uint64_t header = std::min<uint64_t>(size, 8);
  auto length = llvm::MemoryBuffer::getFileSlice(path, header, 0);
  if (length && header == 8)
    header += std::min<uint64_t>(llvm::support::endian::read64le((*length)->getBufferStart()), size - 8);
  auto bytes = llvm::MemoryBuffer::getFileSlice(path, header, 0);
  if (!bytes)
    return llvm::createStringError(bytes.getError(), "cannot read '" + path + "': " + bytes.getError().message());
  std::string text;
  llvm::raw_string_ostream(text) << size << " bytes, header XXH3 "
                                 << llvm::format_hex_no_prefix(
                                        llvm::xxh3_64bits(llvm::arrayRefFromStringRef((*bytes)->getBuffer())), 16);
  return text;
}
