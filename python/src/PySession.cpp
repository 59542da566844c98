//===- PySession.cpp - setun._setun.Session -------------------------------===//
#include "PySetun.h"

#include <algorithm>
#include <array>
#include <vector>

namespace py = pybind11;
using namespace setun::python;

namespace {

/// NumPy's type for each setun_dtype. It has no bf16: such tensors are the 16-bit patterns.
const char *const kNumpyTypes[] = {"bool",  "int8",    "uint8",  "int16",   "int32",
                                   "int64", "float16", "uint16", "float32", "float64"};

/// The element type of an array; for uint16 that is bf16.
setun_dtype dtypeOf(const py::array &array, const std::string &name) {
  for (size_t i = 0; i < std::size(kNumpyTypes); ++i)
    if (array.dtype().equal(py::dtype(kNumpyTypes[i])))
      return static_cast<setun_dtype>(i);
  throw StatusError(SETUN_ERROR_INVALID_ARGUMENT,
                    "input '" + name + "' has the unsupported type " + py::str(array.dtype()).cast<std::string>());
}

/// Arrays and their descriptions as the runtime wants them.
class Tensors {
public:
  void add(py::array array, setun_dtype dtype) {
    if (array.ndim() > SETUN_MAX_RANK)
      throw StatusError(SETUN_ERROR_INVALID_ARGUMENT, "expects at most " + std::to_string(SETUN_MAX_RANK) +
                                                          " dimensions, got " + std::to_string(array.ndim()));
    std::array<int64_t, SETUN_MAX_RANK> shape = {};
    for (py::ssize_t i = 0; i < array.ndim(); ++i)
      shape[i] = array.shape(i);
    shapes.push_back(shape);
    // Inputs may be read-only arrays; they are only read.
    tensors.push_back({const_cast<void *>(array.data()), dtype, static_cast<int32_t>(array.ndim()), nullptr});
    arrays.push_back(std::move(array));
  }
  const setun_tensor *data() {
    for (size_t i = 0; i < tensors.size(); ++i)
      tensors[i].shape = shapes[i].data();
    return tensors.data();
  }
  uint32_t size() const { return static_cast<uint32_t>(tensors.size()); }
  const py::array &operator[](size_t index) const { return arrays[index]; }

private:
  std::vector<py::array> arrays;
  std::vector<std::array<int64_t, SETUN_MAX_RANK>> shapes;
  std::vector<setun_tensor> tensors;
};

Session createSession(const Package &package, uint32_t threads, int64_t context) {
  const setun_session_options options = {sizeof(options), threads, context};
  setun_session *session = nullptr;
  {
    py::gil_scoped_release release;
    check(setun_session_create(package.handle.get(), &options, &session));
  }
  return {package.handle, setun::SessionPointer(session)};
}

py::dict run(Session &session, const std::string &entryName, const py::dict &inputs) {
  setun_package *package = session.package.get();
  uint32_t entry = 0;
  setun_entry_info info;
  check(setun_package_find_entry(package, entryName.c_str(), &entry));
  check(setun_package_entry(package, entry, &info));

  Tensors in, out;
  for (uint32_t i = 0; i < info.num_inputs; ++i) {
    setun_tensor_info tensor;
    check(setun_package_tensor(package, entry, SETUN_INPUT, i, &tensor));
    if (!inputs.contains(tensor.name))
      throw StatusError(SETUN_ERROR_INVALID_ARGUMENT,
                        "entry '" + entryName + "' needs the input '" + tensor.name + "'");
    py::array array = py::array::ensure(inputs[tensor.name], py::array::c_style);
    if (!array) // which clears Python's own error
      throw StatusError(SETUN_ERROR_INVALID_ARGUMENT,
                        "input '" + std::string(tensor.name) + "' of entry '" + entryName + "' is no array");
    const setun_dtype dtype = dtypeOf(array, tensor.name);
    in.add(std::move(array), dtype);
  }
  if (inputs.size() != info.num_inputs) {
    for (auto item : inputs) {
      bool known = false;
      const std::string name = py::str(item.first).cast<std::string>();
      for (uint32_t i = 0; i < info.num_inputs; ++i) {
        setun_tensor_info tensor;
        check(setun_package_tensor(package, entry, SETUN_INPUT, i, &tensor));
        known |= name == tensor.name;
      }
      if (!known)
        throw StatusError(SETUN_ERROR_INVALID_ARGUMENT, "entry '" + entryName + "' has no input '" + name + "'");
    }
  }

  py::dict results;
  for (uint32_t i = 0; i < info.num_outputs; ++i) {
    setun_tensor_info tensor;
    int32_t rank = 0;
    int64_t shape[SETUN_MAX_RANK];
    check(setun_package_tensor(package, entry, SETUN_OUTPUT, i, &tensor));
    check(setun_session_output_shape(session.handle.get(), entry, in.data(), in.size(), i, &rank, shape));
    py::array array(py::dtype(kNumpyTypes[tensor.dtype]), std::vector<py::ssize_t>(shape, shape + rank));
    results[tensor.name] = array;
    out.add(std::move(array), tensor.dtype);
  }

  const setun_tensor *inputTensors = in.data(), *outputTensors = out.data();
  {
    py::gil_scoped_release release;
    check(setun_session_run(session.handle.get(), entry, inputTensors, in.size(), outputTensors, out.size()));
  }
  return results;
}

/// Index of the largest; of equal ones the first. Blocks without anything larger, nearly all, are one comparison a
/// vector.
int64_t largest(const std::vector<float> &values, size_t begin) {
  constexpr size_t block = 64;
  size_t best = begin;
  for (size_t i = begin; i < values.size(); i += block) {
    const size_t end = std::min(i + block, values.size());
    const float bound = values[best];
    bool larger = false;
    for (size_t k = i; k < end; ++k)
      larger |= values[k] > bound;
    if (larger)
      for (size_t k = i; k < end; ++k)
        if (values[k] > values[best])
          best = k;
  }
  return static_cast<int64_t>(best - begin);
}

/// Tensors of an entry that takes one token and gives the next, or the logits to choose it by.
class Decoder {
public:
  Decoder(const Session &session, const std::string &entryName) : session(session.handle.get()) {
    setun_package *package = session.package.get();
    setun_entry_info info;
    check(setun_package_find_entry(package, entryName.c_str(), &entry));
    check(setun_package_entry(package, entry, &info));
    auto wrong = [&](const std::string &what) {
      return StatusError(SETUN_ERROR_INVALID_ARGUMENT, "entry '" + entryName + "' " + what);
    };
    setun_tensor_info tensor;
    for (uint32_t i = 0; i < info.num_inputs; ++i) {
      check(setun_package_tensor(package, entry, SETUN_INPUT, i, &tensor));
      const std::string name = tensor.name;
      if (tensor.dtype != SETUN_I64 || tensor.rank != 1 || (name != "tokens" && name != "k"))
        throw wrong("has the input '" + name + "', expects tokens and at most a count 'k'");
      inputs.push_back({name == "k" ? &one : &token, SETUN_I64, 1, &one});
      hasTokens |= name == "tokens";
    }
    if (!hasTokens)
      throw wrong("has no input 'tokens'");
    shapes.resize(info.num_outputs);
    ids.resize(info.num_outputs);
    logits.resize(info.num_outputs);
    for (uint32_t i = 0; i < info.num_outputs; ++i) {
      check(setun_package_tensor(package, entry, SETUN_OUTPUT, i, &tensor));
      int32_t rank = 0;
      check(
          setun_session_output_shape(this->session, entry, inputs.data(), info.num_inputs, i, &rank, shapes[i].data()));
      size_t count = 1;
      for (int32_t d = 0; d < rank; ++d)
        count *= static_cast<size_t>(shapes[i][d]);
      void *data = nullptr;
      if (tensor.dtype == SETUN_I64 && tensor.name == std::string("ids")) {
        ids[i].resize(count);
        data = ids[i].data();
        chosen = i;
      } else if (tensor.dtype == SETUN_F32 && tensor.name == std::string("logits")) {
        logits[i].resize(count);
        data = logits[i].data();
        vocabulary = rank ? static_cast<size_t>(shapes[i][rank - 1]) : 1;
        scored = i;
      } else {
        throw wrong("has the output '" + std::string(tensor.name) + "', expects ids or logits");
      }
      outputs.push_back({data, tensor.dtype, rank, shapes[i].data()});
    }
    if (chosen == SIZE_MAX && scored == SIZE_MAX)
      throw wrong("has neither ids nor logits");
  }

  /// Runs a token and returns the next; to be called without the interpreter's lock.
  int64_t next(int64_t previous) {
    token = previous;
    check(setun_session_run(session, entry, inputs.data(), static_cast<uint32_t>(inputs.size()), outputs.data(),
                            static_cast<uint32_t>(outputs.size())));
    return chosen != SIZE_MAX ? ids[chosen].front() : largest(logits[scored], logits[scored].size() - vocabulary);
  }

private:
  setun_session *session;
  uint32_t entry = 0;
  int64_t token = 0, one = 1;
  bool hasTokens = false;
  size_t chosen = SIZE_MAX, scored = SIZE_MAX, vocabulary = 0;
  std::vector<setun_tensor> inputs, outputs;
  std::vector<std::array<int64_t, SETUN_MAX_RANK>> shapes;
  std::vector<std::vector<int64_t>> ids;
  std::vector<std::vector<float>> logits;
};

py::array_t<int64_t> decode(Session &session, const std::string &entry, int64_t token, int64_t count) {
  if (count < 0)
    throw StatusError(SETUN_ERROR_INVALID_ARGUMENT, "expects a count of at least 0, got " + std::to_string(count));
  Decoder decoder(session, entry);
  py::array_t<int64_t> result(count);
  int64_t *tokens = result.mutable_data();
  py::gil_scoped_release release;
  for (int64_t i = 0; i < count; ++i)
    tokens[i] = token = decoder.next(token);
  return result;
}

py::dict times(const Session &session, const std::string &entryName) {
  setun_package *package = session.package.get();
  uint32_t entry = 0;
  check(setun_package_find_entry(package, entryName.c_str(), &entry));
  setun_profile_time time;
  check(setun_session_entry_time(session.handle.get(), entry, &time));
  py::dict result;
  result["runs"] = time.count;
  result["seconds"] = static_cast<double>(time.nanoseconds) * 1e-9;
  py::list operations;
  for (uint32_t i = 0; i < setun_package_num_operations(package, entry); ++i) {
    py::list threads;
    for (uint32_t thread = 0; thread < setun_session_threads(session.handle.get()); ++thread) {
      check(setun_session_operation_time(session.handle.get(), entry, i, thread, &time));
      threads.append(py::make_tuple(time.count, static_cast<double>(time.nanoseconds) * 1e-9));
    }
    operations.append(threads);
  }
  result["operations"] = operations;
  return result;
}

} // namespace

void setun::python::defineSession(py::module_ &module) {
  py::class_<Session>(module, "Session", "State and threads of one use of a package. One thread at a time may use it.")
      .def(py::init(&createSession), py::arg("package"), py::arg("threads") = 0, py::arg("context") = 0,
           R"(Creates a session with zeroed state at position 0.

threads: threads that compute, the caller's included; 0 is one for each CPU, in runs that have enough
work for them.
context: context capacity in tokens; 0 is the largest that the package allows.
The first session of a package loads its code and runs the self-tests recorded in it.)")
      .def("run", &run, py::arg("entry"), py::arg("inputs"),
           R"(Runs an entry on arrays by name and returns its outputs by name.

Inputs have the entry's element types and shapes; bf16 tensors are uint16 arrays of their bits.
Raises ArgumentError for wrong inputs and CapacityError if the tokens do not fit; the session is then unchanged.)")
      .def(
          "reset", [](Session &session) { check(setun_session_reset(session.handle.get())); },
          "Empties the session: state zero, position 0.")
      .def("decode", &decode, py::arg("entry"), py::arg("token"), py::arg("count"),
           R"(Runs an entry `count` times on one token, first the given one, then the likeliest of those before.

The entry takes tokens (and k, which is 1) and gives ids or logits. Returns the tokens chosen.)")
      .def(
          "profile", [](Session &session, bool on) { check(setun_session_profile(session.handle.get(), on)); },
          py::arg("on"), "Turns the taking of times on, starting from zero, or off; results do not change.")
      .def("times", &times, py::arg("entry"),
           R"(Times since profile(True): dict with runs, seconds (whole runs of the entry), and operations: for each of
Package.operations(entry) a list of (count, seconds), one a thread.)")
      .def_property_readonly(
          "position", [](const Session &session) { return setun_session_position(session.handle.get()); },
          "Tokens in the session.")
      .def_property_readonly(
          "capacity", [](const Session &session) { return setun_session_capacity(session.handle.get()); },
          "Tokens that fit in the session; 0 where the package sets no limit.")
      .def_property_readonly(
          "threads", [](const Session &session) { return setun_session_threads(session.handle.get()); },
          "Threads that compute.");
}
