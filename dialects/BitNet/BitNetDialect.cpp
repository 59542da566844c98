//===- BitNetDialect.cpp - dialect, attributes and entry-point checks -----------===//
//
// Registers the dialect, parses its attributes, and verifies the attributes that mark entry points.
//
//===----------------------------------------------------------------------===//
#include "dialects/BitNet/BitNet.h"

using namespace mlir;
using namespace mlir::bitnet;

#include "dialects/BitNet/BitNetDialect.cpp.inc"
#include "dialects/BitNet/BitNetEnums.cpp.inc"

static ParseResult parseF32(AsmParser &parser, FloatAttr &attr) {
  double value;
  if (parser.parseFloat(value))
    return failure();
  attr = FloatAttr::get(Float32Type::get(parser.getContext()), value);
  return success();
}
static void printF32(AsmPrinter &printer, FloatAttr attr) { printer << attr.getValue(); }
#define GET_ATTRDEF_CLASSES
#include "dialects/BitNet/BitNetAttrs.cpp.inc"

void BitNetDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/BitNet/BitNetAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/BitNet/BitNetOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

LogicalResult ActQuantAttr::verify(function_ref<InFlightDiagnostic()> emitError, ActGranularity, unsigned bits,
                                   FloatAttr eps) {
  if (bits < 2 || bits > 8)
    return emitError() << "expects bits in [2, 8], got " << bits;
  if (!eps || !eps.getValue().isFinite() || eps.getValue().isNegative() || eps.getValue().isZero())
    return emitError() << "expects a finite eps greater than 0, got " << eps;
  return success();
}

LogicalResult NormAttr::verify(function_ref<InFlightDiagnostic()> emitError, NormKind, FloatAttr eps) {
  if (!eps || !eps.getValue().isFinite() || eps.getValue().isNegative())
    return emitError() << "expects a finite eps that is not negative, got " << eps;
  return success();
}

LogicalResult ScalesAttr::verify(function_ref<InFlightDiagnostic()> emitError, ScaleKind kind, ArrayRef<int64_t> rows,
                                 int64_t group) {
  for (int64_t n : rows)
    if (n <= 0)
      return emitError() << "expects row ranges of at least one row, got " << n;
  if (kind == ScaleKind::Group && (group <= 0 || group % 4 != 0))
    return emitError() << "expects a group that is a positive multiple of 4, got " << group;
  return success();
}

Attribute ScalesAttr::parse(AsmParser &parser, Type) {
  StringRef word;
  SmallVector<int64_t> rows;
  int64_t group = 0;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseKeyword(&word))
    return {};
  std::optional<ScaleKind> kind = symbolizeScaleKind(word);
  if (!kind) {
    parser.emitError(loc) << "expects tensor, rows or group, got " << word;
    return {};
  }
  if (*kind == ScaleKind::Rows) {
    auto parseOne = [&]() { return parser.parseInteger(rows.emplace_back()); };
    SMLoc list = parser.getCurrentLocation();
    if (succeeded(parser.parseOptionalEqual())) {
      if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, parseOne))
        return {};
      if (rows.empty()) {
        parser.emitError(list) << "expects at least one row range";
        return {};
      }
    }
  } else if (*kind == ScaleKind::Group) {
    if (parser.parseEqual() || parser.parseInteger(group))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<ScalesAttr>(loc, parser.getContext(), *kind, ArrayRef<int64_t>(rows), group);
}

void ScalesAttr::print(AsmPrinter &printer) const {
  printer << '<' << stringifyScaleKind(getKind());
  if (getKind() == ScaleKind::Rows && !getRows().empty()) {
    printer << " = [";
    llvm::interleaveComma(getRows(), printer);
    printer << ']';
  } else if (getKind() == ScaleKind::Group) {
    printer << " = " << getGroup();
  }
  printer << '>';
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

static int64_t dynamicDims(Type type) {
  auto shaped = dyn_cast<ShapedType>(type);
  return shaped ? shaped.getNumDynamicDims() : 0;
}

static LogicalResult verifyDims(Operation *op, Type type, NamedAttribute attr) {
  auto names = dyn_cast<ArrayAttr>(attr.getValue());
  if (!names || !llvm::all_of(names, [](Attribute a) { return isa<StringAttr>(a); }))
    return op->emitError() << "expects " << attr.getName() << " to be an array of strings, got " << attr.getValue();
  if (static_cast<int64_t>(names.size()) != dynamicDims(type))
    return op->emitError() << "expects one symbol in " << attr.getName() << " for each of the " << dynamicDims(type)
                           << " dynamic dimensions of " << type << ", got " << names.size();
  return success();
}

LogicalResult BitNetDialect::verifyRegionArgAttribute(Operation *op, unsigned region, unsigned arg,
                                                      NamedAttribute attr) {
  Type type = op->getRegion(region).empty() ? Type() : op->getRegion(region).getArgument(arg).getType();
  if (!type)
    return success();
  StringRef name = attr.getName();
  if (name == kDimsAttr)
    return verifyDims(op, type, attr);
  if (name == kPositionAttr) {
    if (!type.isInteger(64))
      return op->emitError() << "expects the " << kPositionAttr << " argument to be i64, got " << type;
    return success();
  }
  if (name == kNameAttr || name == kStateAttr) {
    if (!isa<StringAttr>(attr.getValue()))
      return op->emitError() << "expects " << name << " to be a string, got " << attr.getValue();
    return success();
  }
  return op->emitError() << "does not know the argument attribute " << name;
}

LogicalResult BitNetDialect::verifyRegionResultAttribute(Operation *op, unsigned, unsigned result,
                                                         NamedAttribute attr) {
  StringRef name = attr.getName();
  if (name == kDimsAttr) {
    auto fn = dyn_cast<FunctionOpInterface>(op);
    return fn ? verifyDims(op, fn.getResultTypes()[result], attr) : success();
  }
  if (name == kNameAttr || name == kStateAttr) {
    if (!isa<StringAttr>(attr.getValue()))
      return op->emitError() << "expects " << name << " to be a string, got " << attr.getValue();
    return success();
  }
  return op->emitError() << "does not know the result attribute " << name;
}

LogicalResult BitNetDialect::verifyOperationAttribute(Operation *op, NamedAttribute attr) {
  StringRef name = attr.getName();
  if (name == kMaxContextAttr) {
    auto context = dyn_cast<IntegerAttr>(attr.getValue());
    if (!context || !context.getType().isInteger(64) || context.getInt() < 1)
      return op->emitError() << "expects " << name << " to be a positive i64, got " << attr.getValue();
    return success();
  }
  if (name == kEntryAttr || name == kResetAttr || name.starts_with("bitnet.layer"))
    return success();
  if (name == kProvenanceAttr) {
    if (!isa<DictionaryAttr>(attr.getValue()))
      return op->emitError() << "expects " << name << " to be a dictionary, got " << attr.getValue();
    return success();
  }
  return op->emitError() << "does not know the attribute " << name;
}
