//===- Outputs.h - memory for what an entry gives ---------------*- C++ -*-===//
#ifndef SETUN_TOOLS_OUTPUTS_H
#define SETUN_TOOLS_OUTPUTS_H

#include "Npy.h"

namespace setun {
namespace tools {

struct NamedArray {
  std::string name;
  Array array;
};

/// Makes an array of zeros; `name` is for messages. Returns an error message or nothing.
std::optional<std::string> makeArray(const std::string &name, setun_dtype dtype, std::vector<int64_t> shape,
                                     Array &array);
/// Makes arrays for the outputs of an entry, of the shapes that follow from the inputs'. Returns an error message or
/// nothing.
std::optional<std::string> makeOutputs(const setun_package *package, const setun_session *session, uint32_t entry,
                                       const std::vector<setun_tensor> &inputs, std::vector<NamedArray> &outputs);

} // namespace tools
} // namespace setun

#endif // SETUN_TOOLS_OUTPUTS_H
