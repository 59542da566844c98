//===- TernaryBufferization.cpp - bufferisation of ternary operations ------------===//
//
// Destination-style operations bufferise alike: operands become buffers, results are the destinations.
//
//===----------------------------------------------------------------------===//
#include "dialects/Ternary/Ternary.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::ternary;
using namespace mlir::bufferization;

namespace {
/// `readsInit`: the destination's old contents matter (a cache of which only some rows are written).
template <typename OpTy, bool readsInit>
struct DpsModel : public DstBufferizableOpInterfaceExternalModel<DpsModel<OpTy, readsInit>, OpTy> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand, const AnalysisState &) const {
    // Attention that writes a row into its caches reads the others.
    if (auto attention = dyn_cast<AttentionOp>(op))
      return operand.get() != attention.getO() && operand.get() != attention.getParts();
    return readsInit || !cast<DestinationStyleOpInterface>(op).isDpsInit(&operand);
  }
  bool bufferizesToMemoryWrite(Operation *op, OpOperand &operand, const AnalysisState &) const {
    return cast<DestinationStyleOpInterface>(op).isDpsInit(&operand);
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter, const BufferizationOptions &options,
                          BufferizationState &state) const {
    SmallVector<Value> operands, results;
    for (OpOperand &operand : op->getOpOperands()) {
      if (!isa<TensorType>(operand.get().getType())) {
        operands.push_back(operand.get());
        continue;
      }
      FailureOr<Value> buffer = getBuffer(rewriter, operand.get(), options, state);
      if (failed(buffer))
        return failure();
      operands.push_back(*buffer);
      if (cast<DestinationStyleOpInterface>(op).isDpsInit(&operand))
        results.push_back(*buffer);
    }
    OperationState newOp(op->getLoc(), op->getName(), operands, TypeRange(), op->getAttrs());
    newOp.propertiesAttr = op->getPropertiesAsAttribute();
    rewriter.setInsertionPoint(op);
    rewriter.create(newOp);
    replaceOpWithBufferizedValues(rewriter, op, results);
    return success();
  }
};

/// A section is a read-only buffer.
struct SectionModel : public BufferizableOpInterface::ExternalModel<SectionModel, SectionOp> {
  bool isWritable(Operation *, Value, const AnalysisState &) const { return false; }
  AliasingOpOperandList getAliasingOpOperands(Operation *, Value, const AnalysisState &) const { return {}; }
  AliasingValueList getAliasingValues(Operation *, OpOperand &, const AnalysisState &) const { return {}; }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter, const BufferizationOptions &,
                          BufferizationState &) const {
    auto section = cast<SectionOp>(op);
    auto type = cast<RankedTensorType>(section.getResult().getType());
    Value buffer = SectionOp::create(rewriter, op->getLoc(), MemRefType::get(type.getShape(), type.getElementType()),
                                     section.getOffsetAttr());
    replaceOpWithBufferizedValues(rewriter, op, buffer);
    return success();
  }
};

template <typename... Ops> void attach(MLIRContext *context) {
  (Ops::template attachInterface<DpsModel<Ops, false>>(*context), ...);
}
} // namespace

void ternary::registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, TernaryDialect *) {
    attach<QuantizeOp, MatmulOp, DenseOp, NormOp, RotaryOp, AttentionOp, BatchAttentionOp, SoftmaxOp, GatedOp,
           EmbeddingOp, HadamardOp, HeadQuantizeOp, HeadScanOp, HeadCandidatesOp, HeadRescoreOp, HeadSelectOp>(context);
    SectionOp::attachInterface<SectionModel>(*context);
    CacheUpdateOp::attachInterface<DpsModel<CacheUpdateOp, true>>(*context);
    AttentionFoldOp::attachInterface<DpsModel<AttentionFoldOp, true>>(*context);
  });
}
