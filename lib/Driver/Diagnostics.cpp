//===- Diagnostics.cpp - messages of a compilation --------------------------------===//
#include "lib/Driver/Diagnostics.h"

#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/IR/Location.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace setun;

//===----------------------------------------------------------------------===//
// Locations
//===----------------------------------------------------------------------===//

/// The most telling place of a location: where fused or inlined, the first.
static FileLineColLoc findPlace(Location location) {
  if (auto place = dyn_cast<FileLineColLoc>(location))
    return place;
  if (auto named = dyn_cast<NameLoc>(location))
    return findPlace(named.getChildLoc());
  if (auto call = dyn_cast<CallSiteLoc>(location)) {
    FileLineColLoc place = findPlace(call.getCallee());
    return place ? place : findPlace(call.getCaller());
  }
  if (auto opaque = dyn_cast<OpaqueLoc>(location))
    return findPlace(opaque.getFallbackLocation());
  if (auto fused = dyn_cast<FusedLoc>(location))
    for (Location part : fused.getLocations())
      if (FileLineColLoc place = findPlace(part))
        return place;
  return FileLineColLoc();
}

/// The first name in a location ("model.layers.0.mlp"), or empty.
static StringRef findName(Location location) {
  if (auto named = dyn_cast<NameLoc>(location))
    return named.getName().getValue();
  if (auto call = dyn_cast<CallSiteLoc>(location))
    return findName(call.getCallee());
  if (auto fused = dyn_cast<FusedLoc>(location))
    for (Location part : fused.getLocations())
      if (StringRef name = findName(part); !name.empty())
        return name;
  return StringRef();
}

static Severity severityOf(DiagnosticSeverity severity) {
  switch (severity) {
  case DiagnosticSeverity::Error:
    return Severity::Error;
  case DiagnosticSeverity::Warning:
    return Severity::Warning;
  case DiagnosticSeverity::Remark:
    return Severity::Remark;
  case DiagnosticSeverity::Note:
    return Severity::Note;
  }
  llvm_unreachable("all severities are handled");
}

setun::Diagnostic DiagnosticLog::convert(mlir::Diagnostic &diagnostic) {
  Diagnostic converted;
  converted.severity = severityOf(diagnostic.getSeverity());
  converted.message = diagnostic.str();
  if (StringRef name = findName(diagnostic.getLocation()); !name.empty())
    converted.message = name.str() + ": " + converted.message;
  if (FileLineColLoc place = findPlace(diagnostic.getLocation())) {
    StringRef file = place.getFilename().getValue();
    converted.location = file.str();
    if (place.getLine())
      converted.location += ":" + std::to_string(place.getLine()) + ":" + std::to_string(place.getColumn());
    if (file == sourceName && place.getLine()) {
      StringRef rest = source, line;
      unsigned number = 0;
      for (; number < place.getLine() && !rest.empty(); ++number) // a module can name lines that it does not have
        std::tie(line, rest) = rest.split('\n');
      // Lines with whole tensors in them help nobody.
      if (number == place.getLine() && line.size() <= 200) {
        converted.sourceLine = line.rtrim('\r').str();
        converted.column = place.getColumn();
      }
    }
  }
  for (mlir::Diagnostic &note : diagnostic.getNotes())
    converted.notes.push_back(convert(note));
  return converted;
}

//===----------------------------------------------------------------------===//
// Log
//===----------------------------------------------------------------------===//

void DiagnosticLog::setSource(StringRef name, StringRef text) {
  sourceName = name.str();
  source = isBytecode(llvm::MemoryBufferRef(text, name)) ? StringRef() : text;
}

void DiagnosticLog::report(Diagnostic diagnostic) {
  // Passes may report from several threads.
  std::lock_guard<std::mutex> lock(mutex);
  // Passes that run for each target remark the same each time.
  if (diagnostic.severity == Severity::Remark && llvm::any_of(result.diagnostics, [&](const Diagnostic &known) {
        return known.severity == Severity::Remark && known.message == diagnostic.message &&
               known.location == diagnostic.location;
      }))
    return;
  errors += diagnostic.severity == Severity::Error;
  if (options.diagnostic)
    options.diagnostic(diagnostic);
  result.diagnostics.push_back(std::move(diagnostic));
}

void DiagnosticLog::add(mlir::Diagnostic &diagnostic) { report(convert(diagnostic)); }

void DiagnosticLog::error(const Twine &message) {
  Diagnostic diagnostic;
  diagnostic.message = message.str();
  report(std::move(diagnostic));
}

void DiagnosticLog::warning(const Twine &message) {
  Diagnostic diagnostic;
  diagnostic.severity = Severity::Warning;
  diagnostic.message = message.str();
  report(std::move(diagnostic));
}

void DiagnosticLog::failure(const Twine &message, const Twine &hint) {
  Diagnostic diagnostic, note;
  diagnostic.severity = hasErrors() ? Severity::Note : Severity::Error;
  diagnostic.message = message.str();
  note.severity = Severity::Note;
  note.message = hint.str();
  diagnostic.notes.push_back(std::move(note));
  report(std::move(diagnostic));
}

std::string setun::toString(const Diagnostic &diagnostic) {
  static const char *const names[] = {"error", "warning", "remark", "note"};
  std::string text = diagnostic.location.empty() ? "" : diagnostic.location + ": ";
  text += std::string(names[static_cast<int>(diagnostic.severity)]) + ": " + diagnostic.message;
  if (!diagnostic.sourceLine.empty()) {
    text += "\n" + diagnostic.sourceLine + "\n";
    // Tabs stay, so that the mark stands below its place.
    for (unsigned i = 0; i + 1 < diagnostic.column && i < diagnostic.sourceLine.size(); ++i)
      text += diagnostic.sourceLine[i] == '\t' ? '\t' : ' ';
    text += "^";
  }
  for (const Diagnostic &note : diagnostic.notes)
    text += "\n" + toString(note);
  return text;
}
