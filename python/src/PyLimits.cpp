//===- PyLimits.cpp - setun._setun.Limits ---------------------------------===//
#include "PySetun.h"

#include "setun/Limits.h"

namespace py = pybind11;
using setun::Limits;

namespace {

/// Runs a measurement without the interpreter's lock.
template <typename Body> auto released(Body body) {
  py::gil_scoped_release release;
  return body();
}

} // namespace

void setun::python::defineLimits(py::module_ &module) {
  py::class_<Limits>(module, "Limits", "What this machine can do at best, with a number of threads.")
      .def(py::init([](unsigned threads, size_t bytes, const std::string &features) {
             return released([&] { return std::make_unique<Limits>(threads, bytes, features); });
           }),
           py::arg("threads"), py::arg("bytes") = 0, py::arg("features") = "",
           R"(Allocates what the measurements read and finds the fastest way to read it.

bytes: size of the buffer; 0: far more than the caches hold.
features: LLVM names separated by commas, to measure the multiply-adds of a smaller CPU.)")
      .def(
          "read_bandwidth", [](Limits &limits) { return released([&] { return limits.readBandwidth(); }); },
          "GB/s that the threads read from memory together, measured for about 0.1 s.")
      .def(
          "int8_peak", [](Limits &limits) { return released([&] { return limits.int8Peak(); }); },
          "Gop/s of 8-bit multiply-adds in registers (two each), measured for about 0.1 s.")
      .def_property_readonly("read_method", &Limits::readMethod)
      .def_property_readonly("int8_method", &Limits::int8Method)
      .def_property_readonly("bytes", &Limits::bytes);
}
