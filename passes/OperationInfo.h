//===- OperationInfo.h - what profiles say of an operation ---------*- C++ -*-===//
#ifndef SETUN_PASSES_OPERATIONINFO_H
#define SETUN_PASSES_OPERATIONINFO_H

#include "mlir/IR/BuiltinAttributes.h"

#include <string>

namespace setun {

/// One operation of an entry, as ternary-describe-operations records it. Bytes and multiply-adds are what the operation
/// needs, not what a kernel happens to touch or to pad.
struct OperationInfo {
  std::string kind;         ///< "matmul", "attention", ...
  std::string detail;       ///< kernel row and layout, element type, ...
  std::string name;         ///< of its weights or its state
  std::string shape;        ///< "out x in" of matrices, else of the result
  int64_t rows = 1;         ///< tokens, say, that it computes; below 0: the value of symbol -1 - rows
  int64_t weightBytes = 0;  ///< of the weights section, whatever the rows
  int64_t rowBytes = 0;     ///< of the weights section, for each row
  int64_t contextBytes = 0; ///< of states, for each token in the session
  int64_t int8Macs = 0;     ///< multiply-adds of integers for each row
  int64_t floatMacs = 0;    ///< multiply-adds of floats for each row
};

mlir::DictionaryAttr toAttribute(mlir::MLIRContext *context, const OperationInfo &info);
OperationInfo fromAttribute(mlir::DictionaryAttr attribute);

} // namespace setun

#endif // SETUN_PASSES_OPERATIONINFO_H
