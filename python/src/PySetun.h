//===- PySetun.h - shared by the parts of the module _setun -----*- C++ -*-===//
#ifndef SETUN_PYTHON_PYSETUN_H
#define SETUN_PYTHON_PYSETUN_H

#include "setun/Handles.h"
#include "setun/setun.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace setun {
namespace python {

/// A status of the runtime other than SETUN_OK, on its way to Python.
struct StatusError : std::runtime_error {
  StatusError(setun_status status, const std::string &message) : std::runtime_error(message), status(status) {}
  setun_status status;
};

/// Throws if `status` is an error. To be called on the thread that made the call.
inline void check(setun_status status) {
  if (status != SETUN_OK)
    throw StatusError(status, setun_last_error());
}

/// setun._setun.Package
struct Package {
  std::shared_ptr<setun_package> handle;
};

/// setun._setun.Session
struct Session {
  std::shared_ptr<setun_package> package;
  SessionPointer handle;
};

void definePackage(pybind11::module_ &module);
void defineSession(pybind11::module_ &module);
void defineLimits(pybind11::module_ &module);

} // namespace python
} // namespace setun

#endif // SETUN_PYTHON_PYSETUN_H
