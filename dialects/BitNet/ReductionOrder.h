//===- ReductionOrder.h - the order of sums of structured operations -*- C++ -*-===//
#ifndef SETUN_DIALECTS_BITNET_REDUCTIONORDER_H
#define SETUN_DIALECTS_BITNET_REDUCTIONORDER_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace mlir::bitnet {

/// The operation of the body that combines what 16 lanes have gathered, if the structured operation reduces by lanes;
/// null if its loops simply run in order.
///
/// By lanes: if the innermost loop is a reduction, an input has an element for each point of the iteration space (so it
/// is a reduction of a tensor, not a product of matrices), and the body is `combine(old, f(inputs))` with an operation
/// that has a neutral element. Point (..., i) then goes to lane `i mod 16`, in the order of the loops; lanes start with
/// the neutral element, are combined as `l` with `l+8`, then `l+4`, `l+2`, `l+1`, and the old contents of the output
/// with that.
///
/// The order stays the same when a producer that is element by element becomes part of the body.
Operation *laneCombiner(linalg::LinalgOp op);

} // namespace mlir::bitnet

#endif // SETUN_DIALECTS_BITNET_REDUCTIONORDER_H
