//===- PyCompiler.cpp - the module _compiler ------------------------------===//
//
// Compiles modules from Python: include/setun/Compiler.h with text for input and diagnostics as objects. A module of
// its own, so that running packages needs neither LLVM nor MLIR.
//
//===----------------------------------------------------------------------===//
#include "setun/Compiler.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

namespace py = pybind11;
using namespace setun;

namespace {

const char *nameOf(Severity severity) {
  switch (severity) {
  case Severity::Error:
    return "error";
  case Severity::Warning:
    return "warning";
  case Severity::Remark:
    return "remark";
  case Severity::Note:
    return "note";
  }
  return "error";
}

/// Calls Python on the way: progress, and whether the user interrupts. An exception ends the compilation and is thrown
/// when that is over.
class Callbacks {
public:
  explicit Callbacks(const py::object &progress) : progress(progress) {}

  void attach(CompileOptions &options) {
    options.cancelled = [this] { return pending.has_value() || !guarded([] { checkSignals(); }); };
    if (!progress.is_none())
      options.progress = [this](const std::string &stage, const std::string &target, double fraction) {
        if (!pending)
          guarded([&] { progress(stage, target, fraction); });
      };
  }
  void rethrow() {
    if (pending)
      throw *std::move(pending);
  }

private:
  static void checkSignals() {
    if (PyErr_CheckSignals() != 0)
      throw py::error_already_set();
  }
  template <typename Body> bool guarded(Body body) {
    py::gil_scoped_acquire acquire;
    try {
      body();
      return true;
    } catch (py::error_already_set &error) {
      pending.emplace(std::move(error));
      return false;
    }
  }

  const py::object &progress;
  std::optional<py::error_already_set> pending;
};

/// What came of a compilation; the fields of CompileResult that Python wants.
struct Result {
  bool ok;
  std::string text;
  std::vector<Diagnostic> diagnostics;
  std::vector<std::pair<std::string, double>> times;
};

Result compileText(const std::string &text, const std::string &output, const std::string &name,
                   const std::vector<std::string> &targets, const std::vector<std::string> &weights,
                   const std::vector<std::pair<std::string, std::string>> &files, const std::string &emit,
                   const std::string &head, unsigned threads, const py::object &progress) {
  CompileOptions options;
  bool known = false;
  for (const auto &[stageName, stage] : emitStages())
    if (stageName == emit) {
      options.emit = stage;
      known = true;
    }
  if (!known)
    throw py::value_error("unknown stage '" + emit + "'");
  options.targets = targets;
  options.weightFiles = weights;
  options.packageFiles = files;
  options.head = head;
  options.threads = threads;
  Callbacks callbacks(progress);
  callbacks.attach(options);
  CompileResult result;
  {
    py::gil_scoped_release release;
    result = compile(CompileInput::fromText(text, name), options, output);
  }
  callbacks.rethrow();
  return {result.ok, std::move(result.text), std::move(result.diagnostics), std::move(result.times)};
}

} // namespace

PYBIND11_MODULE(_compiler, module) {
  module.doc() = "Compiles modules of the bitnet dialect.";
  py::class_<Diagnostic>(module, "Diagnostic", "A message about a module, its weights or the target.")
      .def_property_readonly("severity", [](const Diagnostic &diagnostic) { return nameOf(diagnostic.severity); })
      .def_readonly("location", &Diagnostic::location)
      .def_readonly("message", &Diagnostic::message)
      .def_readonly("notes", &Diagnostic::notes)
      .def("__str__", [](const Diagnostic &diagnostic) { return toString(diagnostic); });
  py::class_<Result>(module, "Result", "What came of a compilation.")
      .def_readonly("ok", &Result::ok)
      .def_property_readonly("text", [](const Result &result) { return py::bytes(result.text); })
      .def_readonly("diagnostics", &Result::diagnostics)
      .def_readonly("times", &Result::times);
  module.def("compile", &compileText, py::arg("text"), py::arg("output") = "", py::kw_only(),
             py::arg("name") = "<module>", py::arg("targets") = std::vector<std::string>(),
             py::arg("weights") = std::vector<std::string>(),
             py::arg("files") = std::vector<std::pair<std::string, std::string>>(), py::arg("emit") = "package",
             py::arg("head") = "", py::arg("threads") = 0, py::arg("progress") = py::none(),
             R"(Compiles MLIR text.

output: path of the package; of other stages too, or empty to have them as bytes in the result.
name: what stands for the text in messages.
targets: as for setun-compile --target; none: this machine.
weights: .safetensors files in which bitnet.weight finds its tensors.
files: pairs of name and path, which travel in the package.
emit: the stage to write, as for setun-compile --emit.
progress: called with stage, target and the part of the stage that is done.
Other threads of Python run meanwhile; an interrupt ends it. A failure is no exception, but in the result.)");
  module.def(
      "targets",
      [](const std::string &list) {
        std::string error;
        std::vector<TargetInfo> found = describeTargets(list, error);
        if (found.empty())
          throw py::value_error(error);
        std::vector<std::string> names;
        for (const TargetInfo &target : found)
          names.push_back(target.name);
        return names;
      },
      py::arg("list"), "Names of the code sections that a list of targets stands for; ValueError if it is wrong.");
}
