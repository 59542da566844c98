//===- TernaryPackWeights.cpp - weights into the weights section -----------------===//
//
// Every constant tensor of the module becomes bytes of the weight store. Matrices are streamed: one panel, and the rows
// that it is made of, are in memory at a time.
//
//===----------------------------------------------------------------------===//
#include "lib/Weights/HeadQuantizer.h"
#include "lib/Weights/WeightSource.h"
#include "passes/Passes.h"

#include "llvm/Support/Endian.h"
#include "llvm/Support/SHA1.h"

namespace setun {
#define GEN_PASS_DEF_TERNARYPACKWEIGHTS
#include "passes/Passes.h.inc"
} // namespace setun

using namespace mlir;
using namespace mlir::ternary;
namespace packing = setun::packing;
using packing::HeadShape;

namespace {
/// Rows of one matrix of few bits, wherever they come from.
class RowReader {
public:
  static FailureOr<std::unique_ptr<RowReader>> create(Value value, setun::WeightStore &store);

  int64_t rows() const { return count; }
  /// Codes of one row.
  llvm::Error read(int64_t row, int8_t *out);
  /// Says what is packed; equal text, equal codes.
  std::string key;
  setun::TernaryStats stats;
  std::string name;
  bool binary = false;

private:
  /// Adds to the key which rows these are, if they are not all.
  void nameRows();

  int64_t n = 0, k = 0;
  int64_t first = 0, count = 0; // of the rows that are packed
  std::vector<int8_t> constant;
  setun::WeightSource *source = nullptr;
  std::optional<setun::MasterScales> masters;
  bool sign = false;
  /// Masters of 8-bit codes are as precise as the module says.
  bitnet::QuantizeWeightOp absmax;
  std::vector<float> row;
};

std::string hashOf(ArrayRef<char> bytes) {
  llvm::SHA1 hash;
  hash.update(ArrayRef<uint8_t>(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()));
  return llvm::toHex(hash.final());
}

/// The bytes of a constant, splats written out.
std::vector<char> rawBytes(DenseElementsAttr attr) {
  std::vector<char> out;
  ArrayRef<char> raw = attr.getRawData();
  if (attr.isSplat() && attr.getNumElements() > 1)
    for (int64_t i = 0; i < attr.getNumElements(); ++i)
      out.insert(out.end(), raw.begin(), raw.end());
  else
    out.assign(raw.begin(), raw.end());
  return out;
}

llvm::Expected<setun::MasterScales> measure(setun::WeightSource &source, bitnet::QuantizeWeightOp op) {
  auto type = cast<RankedTensorType>(op.getMasters().getType());
  auto weight = op.getMasters().getDefiningOp<bitnet::WeightOp>();
  int64_t group = op.getGranularity().getKind() == bitnet::ScaleKind::Group ? op.getGranularity().getGroup() : 0;
  if (op.getMethod() == bitnet::WeightQuant::Absmean)
    return source.measureAbsMean(weight.getName(), type.getDimSize(0), type.getDimSize(1), group,
                                 op.getEps().convertToFloat());
  return source.measureSign(weight.getName(), type.getDimSize(0), type.getDimSize(1), group);
}

/// Rows of a weight in the element type that the module gives it, as f32: [to - from][K].
llvm::Error readStored(const setun::WeightSource &source, bitnet::WeightOp weight, int64_t from, int64_t to,
                       float *out) {
  auto type = cast<RankedTensorType>(weight.getResult().getType());
  int64_t n = type.getDimSize(0), k = type.getDimSize(1);
  Type element = type.getElementType();
  if (element.isF32())
    return source.readRowsF32(weight.getName(), n, k, from, to, out);
  std::vector<uint16_t> halves((to - from) * k);
  if (llvm::Error error = element.isBF16() ? source.readRowsBF16(weight.getName(), n, k, from, to, halves.data())
                                           : source.readRowsF16(weight.getName(), n, k, from, to, halves.data()))
    return error;
  for (size_t i = 0; i < halves.size(); ++i)
    out[i] = element.isBF16() ? setun::bf16ToFloat(halves[i]) : setun::f16ToFloat(halves[i]);
  return llvm::Error::success();
}

/// Codes and scale of one row of a weight by `absmax`.
llvm::Expected<float> quantizeRow(const setun::WeightSource &source, bitnet::QuantizeWeightOp op, int64_t row,
                                  MutableArrayRef<float> values, int8_t *codes) {
  auto weight = op.getMasters().getDefiningOp<bitnet::WeightOp>();
  if (llvm::Error error = readStored(source, weight, row, row + 1, values.data()))
    return error;
  for (auto [column, value] : llvm::enumerate(values))
    if (!std::isfinite(value))
      return llvm::createStringError("%s: expects finite weights, got an infinity or NaN in row %lld, column %lld",
                                     weight.getName().str().c_str(), static_cast<long long>(row),
                                     static_cast<long long>(column));
  return bitnet::quantizeAbsmax(values, op.getEps().convertToFloat(), codes);
}

FailureOr<std::unique_ptr<RowReader>> RowReader::create(Value value, setun::WeightStore &store) {
  auto reader = std::make_unique<RowReader>();
  reader->count = cast<RankedTensorType>(value.getType()).getDimSize(0);
  if (auto slice = value.getDefiningOp<tensor::ExtractSliceOp>()) {
    auto from = slice.getStaticOffsets();
    bool isRows = slice.getSourceType().getRank() == 2 && slice.getType().getRank() == 2 &&
                  slice.getOffsets().empty() && from[1] == 0 && slice.hasUnitStride() &&
                  slice.getSourceType().getDimSize(1) == slice.getType().getDimSize(1);
    if (!isRows) {
      slice.emitOpError() << "expects whole rows of packed weights";
      return failure();
    }
    reader->first = from[0];
    value = slice.getSource();
  }
  auto type = cast<RankedTensorType>(value.getType());
  reader->n = type.getDimSize(0);
  reader->k = type.getDimSize(1);
  reader->binary = type.getElementType().isInteger(1);
  Operation *def = value.getDefiningOp();
  DenseIntElementsAttr dense;
  if (matchPattern(value, m_Constant(&dense))) {
    for (const APInt &code : dense.getValues<APInt>()) {
      if (code.getBitWidth() == 2 && code.isMinSignedValue()) {
        emitError(value.getLoc()) << "expects ternary weights of -1, 0 and +1, got -2";
        return failure();
      }
      reader->constant.push_back(reader->binary ? (code.isZero() ? -1 : 1) : static_cast<int8_t>(code.getSExtValue()));
    }
    reader->key = "constant " + hashOf({reinterpret_cast<char *>(reader->constant.data()), reader->constant.size()});
    reader->nameRows();
    return reader;
  }
  auto quantize = dyn_cast_or_null<bitnet::QuantizeWeightOp>(def);
  auto weight =
      quantize ? quantize.getMasters().getDefiningOp<bitnet::WeightOp>() : dyn_cast_or_null<bitnet::WeightOp>(def);
  if (!weight) {
    emitError(value.getLoc())
        << "expects packed weights to be a constant, a bitnet.weight or its bitnet.quantize_weight";
    return failure();
  }
  if (!store.source) {
    weight.emitOpError() << "expects weight files, got none";
    return failure();
  }
  reader->source = store.source;
  reader->name = weight.getName().str();
  reader->key = weight.getName().str();
  if (quantize) {
    reader->sign = quantize.getMethod() == bitnet::WeightQuant::Sign;
    llvm::raw_string_ostream(reader->key)
        << " " << stringifyWeightQuant(quantize.getMethod()) << " " << quantize.getEps().convertToFloat() << " "
        << quantize.getGranularity() << " " << cast<ShapedType>(quantize.getMasters().getType()).getElementType();
    if (quantize.getMethod() == bitnet::WeightQuant::Absmax) {
      reader->nameRows();
      reader->absmax = quantize;
      reader->row.resize(reader->k);
      return reader;
    }
    auto scales = measure(*store.source, quantize);
    if (!scales) {
      weight.emitOpError() << llvm::toString(scales.takeError());
      return failure();
    }
    reader->masters = std::move(*scales);
  }
  reader->nameRows();
  return reader;
}

void RowReader::nameRows() {
  if (count != n)
    llvm::raw_string_ostream(key) << " rows " << first << " + " << count;
}

llvm::Error RowReader::read(int64_t row, int8_t *out) {
  row += first;
  if (!source) {
    std::memcpy(out, constant.data() + row * k, k);
    return llvm::Error::success();
  }
  if (absmax)
    return quantizeRow(*source, absmax, row, this->row, out).takeError();
  if (masters && sign)
    return source->quantizeSignRows(name, n, k, row, row + 1, *masters, out);
  if (masters)
    return source->quantizeAbsMeanRows(name, n, k, row, row + 1, *masters, out, &stats);
  if (binary)
    return source->readBinaryRows(name, n, k, row, row + 1, out);
  return source->readTernaryRows(name, n, k, row, row + 1, out, &stats);
}

/// What the weights that an operation packs are called: the names' common part once, then what differs; empty if they
/// have no names. "layers.0.attn.q.weight" and "layers.0.attn.k.weight" are "layers.0.attn.q+k".
std::string weightName(Operation *op) {
  SmallVector<StringRef> names;
  auto add = [&](Operation *def) {
    if (auto slice = dyn_cast_or_null<tensor::ExtractSliceOp>(def))
      def = slice.getSource().getDefiningOp();
    if (auto quantize = dyn_cast_or_null<bitnet::QuantizeWeightOp>(def))
      def = quantize.getMasters().getDefiningOp();
    if (auto weight = dyn_cast_or_null<bitnet::WeightOp>(def)) {
      StringRef name = weight.getName();
      name.consume_back(".weight");
      names.push_back(name);
    }
  };
  add(op);
  for (Value operand : op->getOperands())
    add(operand.getDefiningOp());
  if (names.empty())
    return std::string();
  StringRef common = names.front().take_front(names.front().rfind('.') + 1);
  while (!llvm::all_of(names, [&](StringRef name) { return name.starts_with(common); }))
    common = common.drop_back().take_front(common.drop_back().rfind('.') + 1);
  std::string text = common.str();
  for (StringRef name : names)
    text += (text.size() > common.size() ? "+" : "") + name.drop_front(common.size()).str();
  return text;
}

struct TernaryPackWeights : public setun::impl::TernaryPackWeightsBase<TernaryPackWeights> {
  TernaryPackWeights() : store(std::make_shared<setun::MemoryWeightStore>()) {}
  explicit TernaryPackWeights(std::shared_ptr<setun::WeightStore> store) : store(std::move(store)) {}

  void runOnOperation() override;

  LogicalResult pack(PackOp op);
  LogicalResult packScales(PackScalesOp op);
  LogicalResult placeRows(bitnet::WeightOp op);
  LogicalResult packHead(PackHeadOp op);
  LogicalResult placeWeight(bitnet::WeightOp op);
  LogicalResult placeConstant(arith::ConstantOp op);

  /// The offset of what `key` names; `write` streams it there if it is new.
  LogicalResult place(Operation *op, Value value, const std::string &key, uint64_t size,
                      function_ref<llvm::Error(uint64_t offset)> write);
  /// The bytes of an operation's only result, as they are.
  LogicalResult placeBytes(Operation *op, std::vector<char> raw);
  FailureOr<std::vector<float>> floats(Value value);
  /// Row scales of matmuls ==> one for each panel and group, if the rows of each have the same. True if they had.
  bool joinRowScales(Value value, std::vector<float> &scales);
  /// Gains of norms ==> bf16, if that is as exact, in `raw`.
  void narrowGains(Value value, std::vector<char> &raw);

  std::shared_ptr<setun::WeightStore> store;
};

LogicalResult TernaryPackWeights::place(Operation *op, Value value, const std::string &key, uint64_t size,
                                        function_ref<llvm::Error(uint64_t)> write) {
  auto known = store->placed.find(key);
  uint64_t offset;
  if (known != store->placed.end()) {
    offset = known->second;
  } else {
    auto reserved = store->reserve(size);
    if (!reserved)
      return op->emitError() << llvm::toString(reserved.takeError());
    offset = *reserved;
    if (llvm::Error error = write(offset))
      return op->emitOpError() << llvm::toString(std::move(error));
    store->placed[key] = offset;
  }
  OpBuilder b(op);
  // Later passes tell operations apart by the names of their weights.
  Location loc = op->getLoc();
  if (std::string name = weightName(op); !name.empty())
    loc = NameLoc::get(b.getStringAttr(name), loc);
  Value section = SectionOp::create(b, loc, value.getType(), b.getI64IntegerAttr(offset));
  value.replaceAllUsesWith(section);
  return success();
}

LogicalResult TernaryPackWeights::pack(PackOp op) {
  std::vector<std::unique_ptr<RowReader>> readers;
  std::string key;
  llvm::raw_string_ostream stream(key);
  stream << "pack " << op.getLayout();
  for (Value weight : op.getWeights()) {
    auto reader = RowReader::create(weight, *store);
    if (failed(reader))
      return failure();
    stream << " | " << (*reader)->key;
    readers.push_back(std::move(*reader));
  }
  packing::PackedShape shape = packedShape(op.getLayout());
  return place(op, op.getPacked(), key, shape.bytes(), [&](uint64_t offset) -> llvm::Error {
    llvm::Error failed = llvm::Error::success();
    uint64_t at = offset;
    packing::Packer packer(shape);
    bool ok = packer.pack(
        [&](int64_t row, int8_t *codes) {
          size_t matrix = 0;
          while (row >= readers[matrix]->rows())
            row -= readers[matrix++]->rows();
          failed = readers[matrix]->read(row, codes);
          return !failed;
        },
        [&](const uint8_t *bytes, size_t size) {
          failed = store->write(at, bytes, size);
          at += size;
          return !failed;
        });
    if (!ok)
      return failed;
    for (auto &reader : readers)
      if (!reader->binary && !reader->name.empty() && reader->stats.total() && reader->stats.allZero())
        store->warn(reader->name + ": all weights are zero; re-uploaded checkpoints are known to have lost tensors "
                                   "this way, compare with another revision");
    return failed;
  });
}

FailureOr<std::vector<float>> TernaryPackWeights::floats(Value value) {
  if (auto slice = value.getDefiningOp<tensor::ExtractSliceOp>();
      slice && slice.getOffsets().empty() && slice.getSourceType().getRank() == 1 && slice.getType().getRank() == 1 &&
      slice.getType().hasStaticShape() && slice.hasUnitStride()) {
    auto all = floats(slice.getSource());
    if (failed(all))
      return failure();
    auto from = all->begin() + slice.getStaticOffset(0);
    return std::vector<float>(from, from + slice.getType().getDimSize(0));
  }
  DenseFPElementsAttr dense;
  if (matchPattern(value, m_Constant(&dense)))
    return std::vector<float>(dense.value_begin<float>(), dense.value_end<float>());
  Operation *def = value.getDefiningOp();
  if (def && !store->source && isa<bitnet::WeightOp, bitnet::QuantizeWeightOp>(def)) {
    def->emitOpError() << "expects weight files, got none";
    return failure();
  }
  if (auto weight = dyn_cast_or_null<bitnet::WeightOp>(def)) {
    std::vector<float> out;
    if (llvm::Error error =
            store->source->readFloat(weight.getName(), cast<ShapedType>(value.getType()).getShape(), out)) {
      weight.emitOpError() << llvm::toString(std::move(error));
      return failure();
    }
    return out;
  }
  if (auto quantize = dyn_cast_or_null<bitnet::QuantizeWeightOp>(def)) {
    if (quantize.getMethod() == bitnet::WeightQuant::Absmax &&
        quantize.getMasters().getDefiningOp<bitnet::WeightOp>()) {
      auto type = cast<RankedTensorType>(quantize.getMasters().getType());
      std::vector<float> scales, values(type.getDimSize(1));
      std::vector<int8_t> codes(type.getDimSize(1));
      for (int64_t row = 0; row < type.getDimSize(0); ++row) {
        auto scale = quantizeRow(*store->source, quantize, row, values, codes.data());
        if (!scale) {
          quantize.emitOpError() << llvm::toString(scale.takeError());
          return failure();
        }
        scales.push_back(*scale);
      }
      return scales;
    }
    if (quantize.getMasters().getDefiningOp<bitnet::WeightOp>()) {
      auto scales = measure(*store->source, quantize);
      if (!scales) {
        quantize.emitOpError() << llvm::toString(scales.takeError());
        return failure();
      }
      return scales->scale;
    }
  }
  emitError(value.getLoc()) << "expects a scale that is a constant, a bitnet.weight or from bitnet.quantize_weight";
  return failure();
}

bool TernaryPackWeights::joinRowScales(Value value, std::vector<float> &scales) {
  LayoutAttr layout;
  for (OpOperand &use : value.getUses()) {
    auto matmul = dyn_cast<MatmulOp>(use.getOwner());
    if (!matmul || use.get() != matmul.getRowScales() || (layout && layout != matmul.getLayout()))
      return false;
    layout = matmul.getLayout();
  }
  auto type = cast<RankedTensorType>(value.getType());
  if (!layout || type.getRank() != 3 || type.getDimSize(2) != layout.getPanelRows())
    return false;
  packing::PackedShape shape = packedShape(layout);
  const int64_t groups = type.getDimSize(1);
  std::vector<std::optional<float>> joined(layout.getPanels() * groups);
  for (int64_t row = 0; row < shape.paddedRows(); ++row)
    for (int64_t group = 0; shape.sourceRow(row) >= 0 && group < groups; ++group) {
      const float scale = scales[shape.scaleIndex(groups, row, group)];
      std::optional<float> &common = joined[shape.panelScaleIndex(groups, row, group)];
      if (common.value_or(scale) != scale)
        return false;
      common = scale;
    }
  scales.clear();
  for (std::optional<float> common : joined)
    scales.push_back(common.value_or(0.0f));
  value.setType(RankedTensorType::get({layout.getPanels(), groups, 1}, type.getElementType()));
  return true;
}

LogicalResult TernaryPackWeights::packScales(PackScalesOp op) {
  std::vector<std::vector<float>> stored;
  for (Value scale : op.getInputs()) {
    auto values = floats(scale);
    if (failed(values))
      return failure();
    for (float value : *values)
      if (!std::isfinite(value) || value <= 0) {
        std::string name;
        if (auto weight = scale.getDefiningOp<bitnet::WeightOp>())
          name = weight.getName().str() + ": ";
        return op.emitOpError() << name << "expects scales that are finite and greater than 0, got " << value;
      }
    stored.push_back(std::move(*values));
  }
  auto type = cast<RankedTensorType>(op.getPacked().getType());
  int64_t groups = type.getDimSize(1);
  std::vector<float> packed(type.getNumElements());
  packing::packScales(
      packedShape(op.getLayout()), groups,
      [&](int64_t row, int64_t group) {
        size_t matrix = 0;
        while (row >= op.getRowCounts()[matrix])
          row -= op.getRowCounts()[matrix++];
        return rowScale(cast<bitnet::ScalesAttr>(op.getScales()[matrix]),
                        cast<bitnet::DirectionAttr>(op.getDirections()[matrix]).getValue(), stored[matrix], groups, row,
                        group);
      },
      packed.data());
  joinRowScales(op.getPacked(), packed);
  uint64_t size = packed.size() * sizeof(float);
  std::string key = "f32 " + hashOf({reinterpret_cast<const char *>(packed.data()), size});
  return place(op, op.getPacked(), key, size,
               [&](uint64_t offset) { return store->write(offset, packed.data(), size); });
}

/// f16 rows are widened by integer arithmetic that has no infinities.
llvm::Error checkHalves(const uint16_t *values, int64_t row, int64_t k) {
  for (int64_t column = 0; column < k; ++column)
    if ((values[column] & 0x7c00) == 0x7c00)
      return llvm::createStringError("expects finite f16 weights, got an infinity or NaN in row %lld, column %lld",
                                     static_cast<long long>(row), static_cast<long long>(column));
  return llvm::Error::success();
}

/// True if a matrix is read by kernels that take any float type, row by row.
bool isRowMatrix(Value value) {
  return cast<ShapedType>(value.getType()).getRank() == 2 && llvm::any_of(value.getUsers(), [](Operation *user) {
           return isa<DenseOp, EmbeddingOp, HeadCandidatesOp>(user);
         });
}

LogicalResult TernaryPackWeights::placeRows(bitnet::WeightOp op) {
  auto type = cast<RankedTensorType>(op.getResult().getType());
  if (!store->source)
    return op.emitOpError() << "expects weight files, got none";
  int64_t n = type.getDimSize(0), k = type.getDimSize(1);
  Type element = type.getElementType();
  uint64_t rowBytes = k * (element.getIntOrFloatBitWidth() / 8);
  std::string key;
  llvm::raw_string_ostream(key) << "rows " << type << " | " << op.getName();
  return place(op, op.getResult(), key, n * rowBytes, [&](uint64_t offset) -> llvm::Error {
    // About a megabyte at a time.
    int64_t step = std::max<int64_t>(1, (int64_t(1) << 20) / static_cast<int64_t>(rowBytes));
    std::vector<char> rows(std::min(step, n) * rowBytes);
    auto *halves = reinterpret_cast<uint16_t *>(rows.data());
    for (int64_t row = 0; row < n; row += step) {
      int64_t end = std::min(n, row + step);
      if (llvm::Error error = element.isF32()    ? store->source->readRowsF32(op.getName(), n, k, row, end,
                                                                              reinterpret_cast<float *>(rows.data()))
                              : element.isBF16() ? store->source->readRowsBF16(op.getName(), n, k, row, end, halves)
                                                 : store->source->readRowsF16(op.getName(), n, k, row, end, halves))
        return error;
      if (element.isF16())
        for (int64_t i = row; i < end; ++i)
          if (llvm::Error error = checkHalves(halves + (i - row) * k, i, k))
            return error;
      if (llvm::Error error = store->write(offset + row * rowBytes, rows.data(), (end - row) * rowBytes))
        return error;
    }
    return llvm::Error::success();
  });
}

LogicalResult TernaryPackWeights::packHead(PackHeadOp op) {
  auto type = cast<RankedTensorType>(op.getW().getType());
  packing::HeadShape shape{type.getDimSize(0), type.getDimSize(1)};
  std::string key;
  llvm::raw_string_ostream stream(key);
  stream << "head " << type << " | ";
  DenseFPElementsAttr dense;
  auto weight = op.getW().getDefiningOp<bitnet::WeightOp>();
  std::vector<float> constant;
  if (matchPattern(op.getW(), m_Constant(&dense))) {
    stream << hashOf(rawBytes(dense));
    for (const APFloat &value : dense.getValues<APFloat>()) {
      APFloat single = value;
      bool inexact;
      single.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &inexact);
      constant.push_back(single.convertToFloat());
    }
  } else if (weight) {
    if (!store->source)
      return weight.emitOpError() << "expects weight files, got none";
    stream << weight.getName();
  } else {
    return op.emitOpError() << "expects a constant or a bitnet.weight";
  }

  // The codes stream into their place, panel by panel; the smaller rest is kept until they are complete, so that the
  // section is written from front to back.
  std::vector<uint8_t> scales, fine;
  std::vector<float> coarse, fineRows;
  auto quantizePanels = [&](uint64_t offset) -> llvm::Error {
    setun::HeadQuantizer quantizer(shape);
    std::vector<float> w(HeadShape::kPanelRows * shape.cols);
    std::vector<uint8_t> codes(shape.panelCodeBytes());
    scales.resize(shape.scaleBytes());
    fine.resize(shape.fineBytes());
    coarse.resize(shape.paddedRows() * HeadShape::kCoarseFloats);
    fineRows.resize(shape.rows * HeadShape::kFineFloats);
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      int64_t first = panel * HeadShape::kPanelRows, end = first + quantizer.rowsOf(panel);
      if (weight) {
        if (llvm::Error error = readStored(*store->source, weight, first, end, w.data()))
          return error;
      } else {
        std::copy_n(constant.data() + first * shape.cols, (end - first) * shape.cols, w.data());
      }
      quantizer.quantize(panel, w.data(), codes.data(), scales.data() + panel * shape.panelScaleBytes(),
                         coarse.data() + first * HeadShape::kCoarseFloats, fine.data() + first * shape.fineBitBytes(),
                         fineRows.data() + first * HeadShape::kFineFloats);
      if (llvm::Error error = store->write(offset + panel * shape.panelCodeBytes(), codes.data(), codes.size()))
        return error;
    }
    return llvm::Error::success();
  };
  auto placeRest = [&](Value value, StringRef what, const void *data, uint64_t size) {
    return place(op, value, (key + " " + what).str(), size,
                 [&](uint64_t offset) { return store->write(offset, data, size); });
  };
  if (failed(place(op, op.getCodes(), key, shape.codeBytes(), quantizePanels)) ||
      failed(placeRest(op.getScales(), "scales", scales.data(), shape.scaleBytes())) ||
      failed(placeRest(op.getCoarse(), "coarse", coarse.data(), shape.coarseRowsBytes())) ||
      failed(placeRest(op.getFine(), "fine", fine.data(), shape.fineBytes())))
    return failure();
  return placeRest(op.getFineRows(), "fine rows", fineRows.data(), shape.fineRowsBytes());
}

void TernaryPackWeights::narrowGains(Value value, std::vector<char> &raw) {
  auto type = cast<RankedTensorType>(value.getType());
  const bool areGains = llvm::all_of(value.getUsers(), [&](Operation *user) {
    Value gains;
    if (auto quantize = dyn_cast<QuantizeOp>(user))
      gains = quantize.getNormWeight();
    else if (auto norm = dyn_cast<NormOp>(user))
      gains = norm.getWeight();
    return gains == value && llvm::count(user->getOperands(), value) == 1;
  });
  if (!areGains || !type.getElementType().isF32())
    return;
  // bf16 is the upper half of an f32.
  std::vector<char> halves;
  for (size_t at = 0; at < raw.size(); at += sizeof(float)) {
    const uint32_t bits = llvm::support::endian::read32(raw.data() + at, llvm::endianness::native);
    if (bits & 0xffff)
      return;
    halves.insert(halves.end(), 2, 0);
    llvm::support::endian::write16(&halves[at / 2], static_cast<uint16_t>(bits >> 16), llvm::endianness::native);
  }
  raw = std::move(halves);
  value.setType(RankedTensorType::get(type.getShape(), BFloat16Type::get(type.getContext())));
}

LogicalResult TernaryPackWeights::placeWeight(bitnet::WeightOp op) {
  auto type = cast<RankedTensorType>(op.getResult().getType());
  if (isRowMatrix(op.getResult()) && isa<FloatType>(type.getElementType()))
    return placeRows(op);
  if (!type.getElementType().isF32())
    return op.emitOpError() << "expects to be packed, or to be f32 where it is used as it is, got " << type;
  auto values = floats(op.getResult());
  if (failed(values))
    return failure();
  const char *bytes = reinterpret_cast<const char *>(values->data());
  return placeBytes(op, std::vector<char>(bytes, bytes + values->size() * sizeof(float)));
}

LogicalResult TernaryPackWeights::placeConstant(arith::ConstantOp op) {
  auto dense = dyn_cast<DenseElementsAttr>(op.getValue());
  if (!dense || !dense.getElementType().isIntOrFloat())
    return op.emitOpError() << "expects dense elements that are integers or floats, got " << op.getType();
  std::vector<char> raw;
  if (dense.getElementType().isInteger(1)) // truth values, a byte each
    llvm::append_range(raw, dense.getValues<bool>());
  else if (dense.getElementType().getIntOrFloatBitWidth() % 8)
    return op.emitOpError() << "expects sub-byte constants to be packed, got " << op.getType();
  else
    raw = rawBytes(dense);
  if (dense.getElementType().isF32() && dense.getType().getRank() == 3) {
    std::vector<float> values(dense.value_begin<float>(), dense.value_end<float>());
    if (joinRowScales(op.getResult(), values))
      raw.assign(reinterpret_cast<const char *>(values.data()),
                 reinterpret_cast<const char *>(values.data() + values.size()));
  }
  if (isRowMatrix(op.getResult()) && dense.getElementType().isF16()) {
    int64_t k = dense.getType().getShape()[1];
    for (int64_t row = 0; row < dense.getType().getShape()[0]; ++row)
      if (llvm::Error error = checkHalves(reinterpret_cast<uint16_t *>(raw.data()) + row * k, row, k))
        return op.emitOpError() << llvm::toString(std::move(error));
  }
  return placeBytes(op, std::move(raw));
}

LogicalResult TernaryPackWeights::placeBytes(Operation *op, std::vector<char> raw) {
  Value value = op->getResult(0);
  narrowGains(value, raw);
  std::string key;
  llvm::raw_string_ostream(key) << cast<ShapedType>(value.getType()).getElementType() << " " << hashOf(raw);
  return place(op, value, key, raw.size(),
               [&](uint64_t offset) { return store->write(offset, raw.data(), raw.size()); });
}

void TernaryPackWeights::runOnOperation() {
  SmallVector<Operation *> ops;
  getOperation().walk([&](Operation *op) { ops.push_back(op); });
  auto run = [&](auto kind, auto method) {
    for (Operation *&op : ops)
      if (auto typed = op ? dyn_cast<decltype(kind)>(op) : decltype(kind)()) {
        if (!op->use_empty() && failed((this->*method)(typed)))
          return failure();
        op->erase();
        op = nullptr;
      }
    return success();
  };
  auto placeConstants = [&]() -> LogicalResult {
    for (Operation *&op : ops)
      if (auto constant = op ? dyn_cast<arith::ConstantOp>(op) : arith::ConstantOp()) {
        if (!isa<RankedTensorType>(constant.getType()))
          continue;
        if (!op->use_empty() && failed(placeConstant(constant)))
          return failure();
        op->erase();
        op = nullptr;
      }
    return success();
  };
  auto dropSlices = [&]() -> LogicalResult {
    for (Operation *&op : ops)
      if (op && isa<tensor::ExtractSliceOp>(op) && op->use_empty()) {
        op->erase();
        op = nullptr;
      }
    return success();
  };
  auto dropQuantizers = [&]() -> LogicalResult {
    for (Operation *&op : ops)
      if (op && isa<bitnet::QuantizeWeightOp>(op)) {
        if (!op->use_empty())
          return op->emitOpError() << "expects its results to be packed";
        op->erase();
        op = nullptr;
      }
    return success();
  };
  // Rows that come in f16 are checked when they are placed, so they have to come from there.
  for (Operation *op : ops) {
    auto dense = dyn_cast<DenseOp>(op);
    auto embedding = dyn_cast<EmbeddingOp>(op);
    auto head = dyn_cast<HeadCandidatesOp>(op);
    Value matrix = dense ? dense.getW() : embedding ? embedding.getTable() : head ? head.getW() : Value();
    if (matrix && !isa_and_nonnull<arith::ConstantOp, bitnet::WeightOp, SectionOp>(matrix.getDefiningOp())) {
      op->emitOpError() << "expects a matrix that is a constant or a bitnet.weight";
      return signalPassFailure();
    }
  }
  // Packed matrices, then what they consumed.
  if (failed(run(PackOp(), &TernaryPackWeights::pack)) ||
      failed(run(PackScalesOp(), &TernaryPackWeights::packScales)) ||
      failed(run(PackHeadOp(), &TernaryPackWeights::packHead)) || failed(dropSlices()) || failed(dropQuantizers()) ||
      failed(run(bitnet::WeightOp(), &TernaryPackWeights::placeWeight)) || failed(placeConstants()))
    signalPassFailure();
}
} // namespace

std::unique_ptr<Pass> setun::createTernaryPackWeights(std::shared_ptr<WeightStore> store) {
  return std::make_unique<TernaryPackWeights>(std::move(store));
}
