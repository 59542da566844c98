//===- Interpret.h - command line of the reference interpreter -----*- C++ -*-===//
#ifndef SETUN_LIB_REFERENCE_INTERPRET_H
#define SETUN_LIB_REFERENCE_INTERPRET_H

namespace mlir {
class DialectRegistry;
}

namespace setun {

/// `--interpret in.mlir [--entry NAME] [--input NAME=FILE.npy]... [--state NAME=FILE.npy]... [--position N]
/// [--context C] [--weights FILE]... [--output-dir DIR] [--probe]`: runs an entry point and writes its results to DIR,
/// or prints them. Without --entry, runs @forward, or else every public function that takes no arguments. Returns the
/// exit status.
int interpretMain(int argc, char **argv, mlir::DialectRegistry &registry);

} // namespace setun

#endif // SETUN_LIB_REFERENCE_INTERPRET_H
