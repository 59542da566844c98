//===- PyModule.cpp - the module _setun -----------------------------------===//
//
// Runs packages from Python: setun.h with NumPy arrays for tensors.
//
//===----------------------------------------------------------------------===//
#include "PySetun.h"

#include <array>
#include <map>

namespace py = pybind11;
using namespace setun::python;

namespace {

/// The exception class of each status; every one is an Error, and most are a class of Python's own too.
using Exceptions = std::map<setun_status, py::object>;

py::object makeException(py::module_ &module, const char *name, const char *doc, const py::tuple &bases) {
  const std::string fullName = std::string("setun._setun.") + name;
  py::object type =
      py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(fullName.c_str(), doc, bases.ptr(), nullptr));
  if (!type)
    throw py::error_already_set();
  module.add_object(name, type);
  return type;
}

} // namespace

PYBIND11_MODULE(_setun, module) {
  module.doc() = "Runs Setun packages.";
  module.attr("__version__") = setun_version();

  // Kept for the life of the process: the translator below has no other place for them.
  static Exceptions *exceptions = new Exceptions;
  static const py::object *base =
      new py::object(makeException(module, "Error", "A package or a run failed.",
                                   py::make_tuple(py::reinterpret_borrow<py::object>(PyExc_RuntimeError))));
  auto derived = [&](setun_status status, const char *name, const char *doc, PyObject *type) {
    (*exceptions)[status] =
        makeException(module, name, doc, py::make_tuple(*base, py::reinterpret_borrow<py::object>(type)));
  };
  derived(SETUN_ERROR_INVALID_ARGUMENT, "ArgumentError", "A wrong type, shape, number or name.", PyExc_ValueError);
  derived(SETUN_ERROR_NOT_FOUND, "NotFoundError", "No entry, target or file of that name.", PyExc_LookupError);
  derived(SETUN_ERROR_CAPACITY, "CapacityError", "More tokens than the session's context holds.", PyExc_ValueError);
  derived(SETUN_ERROR_IO, "IoError", "A file cannot be opened, read or mapped.", PyExc_OSError);
  derived(SETUN_ERROR_OUT_OF_MEMORY, "OutOfMemoryError", "Memory for a session or a run is missing.",
          PyExc_MemoryError);
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer)
        std::rethrow_exception(pointer);
    } catch (const StatusError &error) {
      auto type = exceptions->find(error.status);
      // A path in it need not be UTF-8.
      const std::string text = error.what();
      const py::object message = py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "backslashreplace"));
      PyErr_SetObject((type == exceptions->end() ? *base : type->second).ptr(), message.ptr());
    }
  });

  module.def(
      "cpu_features",
      [] {
        std::array<char, 8192> buffer;
        check(setun_cpu_features(buffer.data(), buffer.size()));
        return py::str(buffer.data()).attr("split")(",");
      },
      "Features of this CPU that the operating system supports too, by their LLVM names.");
  definePackage(module);
  defineSession(module);
  defineLimits(module);
}
