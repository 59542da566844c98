//===- PyPackage.cpp - setun._setun.Package -------------------------------===//
#include "PySetun.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <iterator>
#include <optional>

namespace py = pybind11;
using namespace setun::python;

namespace {

Package openPackage(const py::object &path, const std::optional<std::string> &target,
                    const std::optional<std::string> &features, const std::string &weights) {
  const char *const places[] = {"auto", "map", "copy"};
  const auto place = std::find(std::begin(places), std::end(places), weights);
  if (place == std::end(places))
    throw StatusError(SETUN_ERROR_INVALID_ARGUMENT, "weights expects auto, map or copy, got '" + weights + "'");
  const std::string file = py::module_::import("os").attr("fsencode")(path).cast<std::string>();
  const setun_open_options options = {sizeof(options), target ? target->c_str() : nullptr,
                                      features ? features->c_str() : nullptr,
                                      static_cast<setun_weights>(place - std::begin(places))};
  setun_package *package = nullptr;
  {
    py::gil_scoped_release release;
    check(setun_package_open(file.c_str(), &options, &package));
  }
  return {std::shared_ptr<setun_package>(package, setun::HandleCloser())};
}

std::string toJson(const Package &package) {
  const char *text = setun_package_json(package.handle.get());
  if (!text)
    throw StatusError(SETUN_ERROR_INTERNAL, setun_last_error());
  return text;
}

/// One part of the description, as Python objects.
py::object part(const Package &package, const char *name) {
  return py::module_::import("json").attr("loads")(toJson(package))[name];
}

py::list operations(const Package &package, const std::string &entryName) {
  uint32_t entry = 0;
  check(setun_package_find_entry(package.handle.get(), entryName.c_str(), &entry));
  py::list result;
  for (uint32_t i = 0; i < setun_package_num_operations(package.handle.get(), entry); ++i) {
    setun_operation_info info;
    check(setun_package_operation(package.handle.get(), entry, i, &info));
    py::dict item;
    item["kind"] = info.kind;
    item["detail"] = info.detail;
    item["name"] = info.name;
    item["shape"] = info.shape;
    if (info.rows_symbol)
      item["rows"] = info.rows_symbol;
    else
      item["rows"] = info.rows;
    item["weight_bytes"] = info.weight_bytes;
    item["row_bytes"] = info.row_bytes;
    item["context_bytes"] = info.context_bytes;
    item["int8_macs"] = info.int8_macs;
    item["float_macs"] = info.float_macs;
    result.append(item);
  }
  return result;
}

py::bytes file(const Package &package, const std::string &name) {
  setun_file_info info;
  check(setun_package_find_file(package.handle.get(), name.c_str(), &info));
  return py::bytes(static_cast<const char *>(info.data), info.size);
}

py::dict files(const Package &package) {
  py::dict result;
  for (uint32_t i = 0; i < setun_package_num_files(package.handle.get()); ++i) {
    setun_file_info info;
    check(setun_package_file(package.handle.get(), i, &info));
    result[info.name] = py::bytes(static_cast<const char *>(info.data), info.size);
  }
  return result;
}

} // namespace

void setun::python::definePackage(py::module_ &module) {
  py::class_<Package>(module, "Package", "An open package (.setun).")
      .def(py::init(&openPackage), py::arg("path"), py::arg("target") = py::none(),
           py::arg("cpu_features") = py::none(), py::arg("weights") = "auto",
           R"(Opens a package and checks everything but the values of its weights.

target: name of the code section to use; None takes the best that this CPU can run.
cpu_features: LLVM feature names separated by commas, in place of those of this CPU.
weights: "map" reads them where the file is mapped, "copy" from a copy in large pages, which a core reads faster; "auto"
copies large ones where memory is plenty.
Raises IoError if the file cannot be read, Error if it is damaged or of another version.)")
      .def_property_readonly(
          "entries", [](const Package &package) { return part(package, "entries"); },
          R"(Entry points: list of dicts with name, inputs, states, outputs (each a list of dicts
with name, dtype, shape; a dimension is an int or the name of a symbol), uses_position, resets_session, max_context,
token_symbol, tokens, capacity_symbol.)")
      .def_property_readonly(
          "targets", [](const Package &package) { return part(package, "targets"); },
          "Code sections: list of dicts with name, arch, features, bytes, runnable, selected.")
      .def_property_readonly(
          "layers", [](const Package &package) { return part(package, "layers"); },
          "Layers: list of dicts with name, rows, cols, format, scale, bytes, kernels.")
      .def_property_readonly(
          "provenance", [](const Package &package) { return part(package, "provenance"); },
          "Where the package comes from: dict of strings.")
      .def_property_readonly("files", &files, "Files that travel with the model: dict of name to bytes.")
      .def("file", &file, py::arg("name"), "Bytes of one such file; raises NotFoundError if there is none.")
      .def_property_readonly("weights_bytes",
                             [](const Package &package) { return setun_package_weights_size(package.handle.get()); })
      .def("operations", &operations, py::arg("entry"),
           R"(What an entry consists of in the code section that sessions use: list of dicts with kind,
detail, name, shape, rows (a number, or the name of a symbol), weight_bytes, row_bytes, context_bytes, int8_macs,
float_macs. Empty where no code section runs on this CPU. Raises NotFoundError if there is no such entry.)")
      .def_property_readonly(
          "weights_copied",
          [](const Package &package) { return setun_package_weights_copied(package.handle.get()) != 0; },
          "Whether sessions read a copy of the weights; known once there is one.")
      .def("json", &toJson, "All about the package as a JSON object.")
      .def(
          "verify",
          [](const Package &package) {
            py::gil_scoped_release release;
            check(setun_package_verify(package.handle.get()));
          },
          "Reads all weights and compares their checksum; raises Error if it does not match.");
}
