//===- Status.h - result of an operation ------------------------*- C++ -*-===//
//
// A status code of the C interface with its message. Messages are lower case, without a full stop, and say what was
// expected and what came.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_RUNTIME_STATUS_H
#define SETUN_RUNTIME_STATUS_H

#include "setun/setun.h"

#include <string>
#include <utility>

namespace setun {
namespace runtime {

class [[nodiscard]] Status {
public:
  Status() = default;
  Status(setun_status code, std::string message) : statusCode(code), text(std::move(message)) {}

  bool ok() const { return statusCode == SETUN_OK; }
  setun_status code() const { return statusCode; }
  const std::string &message() const { return text; }

private:
  setun_status statusCode = SETUN_OK;
  std::string text;
};

inline Status badPackage(std::string message) { return Status(SETUN_ERROR_BAD_PACKAGE, std::move(message)); }
inline Status invalidArgument(std::string message) { return Status(SETUN_ERROR_INVALID_ARGUMENT, std::move(message)); }

inline std::string quoted(const std::string &text) { return "'" + text + "'"; }

/// a * b, or false if the product does not fit; both operands are >= 0.
inline bool multiply(int64_t a, int64_t b, int64_t &product) { return !__builtin_mul_overflow(a, b, &product); }

} // namespace runtime
} // namespace setun

/// Returns from the enclosing function if the operation failed.
#define SETUN_RETURN_IF_ERROR(expression)                                                                              \
  do {                                                                                                                 \
    if (::setun::runtime::Status returnedStatus = (expression); !returnedStatus.ok())                                  \
      return returnedStatus;                                                                                           \
  } while (false)

#endif // SETUN_RUNTIME_STATUS_H
