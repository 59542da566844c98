//===- Stages.cpp - timing and progress of a compilation --------------------------===//
#include "lib/Driver/Stages.h"

#include "mlir/Pass/Pass.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace setun;

void Stages::account() {
  Clock::time_point now = Clock::now();
  if (!stack.empty()) {
    const std::string &name = stack.back().name;
    auto place = llvm::find_if(result.times, [&](const auto &time) { return time.first == name; });
    if (place == result.times.end())
      place = result.times.insert(result.times.end(), {name, 0.0});
    place->second += std::chrono::duration<double>(now - last).count();
  }
  last = now;
}

void Stages::begin(StringRef name, StringRef target) {
  account();
  stack.push_back({name.str(), target.str()});
  if (options.progress)
    options.progress(stack.back().name, stack.back().target, 0);
}

void Stages::end() {
  account();
  if (options.progress)
    options.progress(stack.back().name, stack.back().target, 1);
  stack.pop_back();
}

void Stages::progress(double fraction) {
  // A callback for each panel of weights would be too many.
  Stage &stage = stack.back();
  fraction = std::min(fraction, 1.0);
  if (!options.progress || fraction < stage.reported + 0.002)
    return;
  stage.reported = fraction;
  options.progress(stage.name, stage.target, fraction);
}

static bool isPacking(Pass *pass) { return pass->getArgument() == "ternary-pack-weights"; }

void PassWatch::runBeforePass(Pass *pass, Operation *) {
  if (isPacking(pass))
    stages.begin("pack", stages.target().str());
}

void PassWatch::runAfterPass(Pass *pass, Operation *) {
  if (isPacking(pass))
    stages.end();
}

void PassWatch::runAfterPassFailed(Pass *pass, Operation *) {
  if (isPacking(pass))
    stages.end();
  std::lock_guard<std::mutex> lock(mutex);
  // Adaptors fail after the pass that they hold and have no name of their own.
  if (failedPass.empty())
    failedPass = pass->getArgument().str();
}
