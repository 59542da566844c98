//===- Outputs.cpp - memory for what an entry gives -----------------------===//
#include "Outputs.h"

#include <exception>
#include <utility>

using namespace setun::tools;

std::optional<std::string> setun::tools::makeArray(const std::string &name, setun_dtype dtype,
                                                   std::vector<int64_t> shape, Array &array) {
  array.dtype = dtype;
  array.shape = std::move(shape);
  size_t bytes = setun_dtype_size(dtype);
  for (int64_t size : array.shape)
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes))
      return "tensor '" + name + "' is too large";
  try {
    array.data.resize(bytes);
  } catch (const std::exception &) {
    return "out of memory for the " + std::to_string(bytes) + " bytes of tensor '" + name + "'";
  }
  return std::nullopt;
}

std::optional<std::string> setun::tools::makeOutputs(const setun_package *package, const setun_session *session,
                                                     uint32_t entry, const std::vector<setun_tensor> &inputs,
                                                     std::vector<NamedArray> &outputs) {
  setun_entry_info info;
  if (setun_package_entry(package, entry, &info) != SETUN_OK)
    return setun_last_error();
  outputs.clear();
  for (uint32_t i = 0; i < info.num_outputs; ++i) {
    setun_tensor_info tensor;
    int32_t rank = 0;
    int64_t shape[SETUN_MAX_RANK];
    if (setun_package_tensor(package, entry, SETUN_OUTPUT, i, &tensor) != SETUN_OK ||
        setun_session_output_shape(session, entry, inputs.data(), static_cast<uint32_t>(inputs.size()), i, &rank,
                                   shape) != SETUN_OK)
      return setun_last_error();
    NamedArray &output = outputs.emplace_back();
    output.name = tensor.name;
    if (auto error = makeArray(output.name, tensor.dtype, std::vector<int64_t>(shape, shape + rank), output.array))
      return error;
  }
  return std::nullopt;
}
