//===- Dialects.h - what a Setun context knows ---------------------*- C++ -*-===//
#ifndef SETUN_PASSES_DIALECTS_H
#define SETUN_PASSES_DIALECTS_H

namespace mlir {
class DialectRegistry;
}

namespace setun {
/// Registers our dialects, the upstream dialects that modules may use, and their interface implementations.
void registerDialects(mlir::DialectRegistry &registry);
/// Registers our passes and pipelines and the upstream passes that pipelines are made of.
void registerPasses();
} // namespace setun

#endif // SETUN_PASSES_DIALECTS_H
