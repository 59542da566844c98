//===- BitNet.h - the bitnet dialect -------------------------------*- C++ -*-===//
#ifndef SETUN_DIALECTS_BITNET_BITNET_H
#define SETUN_DIALECTS_BITNET_BITNET_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/BitNet/BitNetDialect.h.inc"
#include "dialects/BitNet/BitNetEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/BitNet/BitNetAttrs.h.inc"
#define GET_OP_CLASSES
#include "dialects/BitNet/BitNetOps.h.inc"

namespace mlir::bitnet {

/// Names of the attributes that describe entry points (docs/contracts.md, section 1).
inline constexpr llvm::StringLiteral kEntryAttr = "bitnet.entry";
inline constexpr llvm::StringLiteral kNameAttr = "bitnet.name";
inline constexpr llvm::StringLiteral kDimsAttr = "bitnet.dims";
inline constexpr llvm::StringLiteral kStateAttr = "bitnet.state";
inline constexpr llvm::StringLiteral kPositionAttr = "bitnet.position";
inline constexpr llvm::StringLiteral kResetAttr = "bitnet.reset";
inline constexpr llvm::StringLiteral kMaxContextAttr = "bitnet.max_context";
inline constexpr llvm::StringLiteral kProvenanceAttr = "bitnet.provenance";

/// Number of groups of `group` along K; 1 without groups (`group` = 0).
inline int64_t groupCount(int64_t k, int64_t group) { return group > 0 ? k / group + (k % group != 0) : 1; }

/// True for i2 (ternary), false for other weight element types.
inline bool isTernary(Type weightElementType) { return weightElementType.isInteger(2); }

/// Largest K for which sums of products of 8-bit activation codes and weights of `bits` bits fit i32.
inline int64_t maxColumns(unsigned bits) { return (int64_t(1) << 31) / (bits == 8 ? 128 * 128 : 128) - 1; }

/// Elements of a head of attention, at most: tiles of queries lie on the stack, 832 bytes an element, and worker
/// threads have a megabyte of it (runtime/src/ThreadPool.cpp).
inline constexpr int64_t kMaxHeadSize = 1024;

/// Codes of one row by the weight quantiser `absmax`, which all are finite; returns its scale.
float quantizeAbsmax(ArrayRef<float> row, float eps, int8_t *codes);

/// Whether stored scales have the shape that `scales` asks for with N rows and K columns, and row ranges add up to N;
/// reports otherwise.
LogicalResult verifyScale(Operation *op, RankedTensorType type, ScalesAttr scales, int64_t n, int64_t k);

} // namespace mlir::bitnet

#endif // SETUN_DIALECTS_BITNET_BITNET_H
