//===- Handles.h - owners of the runtime's handles --------------*- C++ -*-===//
//
// For C++ around the C interface.
//
//===----------------------------------------------------------------------===//
#ifndef SETUN_HANDLES_H
#define SETUN_HANDLES_H

#include "setun/setun.h"

#include <memory>

namespace setun {

struct HandleCloser {
  void operator()(setun_package *package) const { setun_package_close(package); }
  void operator()(setun_session *session) const { setun_session_destroy(session); }
};
using PackagePointer = std::unique_ptr<setun_package, HandleCloser>;
using SessionPointer = std::unique_ptr<setun_session, HandleCloser>;

} // namespace setun

#endif // SETUN_HANDLES_H
