//===- Session.h - state and threads of one use of a package ----*- C++ -*-===//
#ifndef SETUN_RUNTIME_SESSION_H
#define SETUN_RUNTIME_SESSION_H

#include "Package.h"
#include "Profile.h"
#include "ThreadPool.h"

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace setun {
namespace runtime {

class Session {
public:
  struct Options {
    uint32_t threads = 0; ///< 0: one for each usable CPU, or one where a run has too little work for them
    int64_t context = 0;  ///< 0: the largest that the package allows
  };

  static Status create(std::shared_ptr<Package> package, const Options &options, std::unique_ptr<Session> &session);
  /// Runs an entry of a loaded package once, on one thread and from an empty state, for a self-test.
  static Status record(const Package &package, uint32_t entry, const std::vector<int64_t> &dims,
                       const std::vector<std::vector<uint8_t>> &inputs, std::vector<std::vector<uint8_t>> &outputs);

  Status run(uint32_t entry, const setun_tensor *inputs, uint32_t numInputs, const setun_tensor *outputs,
             uint32_t numOutputs);
  Status outputShape(uint32_t entry, const setun_tensor *inputs, uint32_t numInputs, uint32_t output, int32_t &rank,
                     int64_t *shape) const;
  Status reset();
  int64_t position() const { return tokens.load(std::memory_order_relaxed); }
  int64_t capacity() const { return contextCapacity; }
  uint32_t threads() const { return pool->size(); }

  Status profile(bool on);
  Status entryTime(uint32_t entry, setun_profile_time &time) const;
  Status operationTime(uint32_t entry, uint32_t operation, uint32_t thread, setun_profile_time &time) const;

private:
  explicit Session(const Package &package) : package(package) {}

  /// A rough idea of what an entry costs, in nanoseconds of one thread.
  struct Work {
    double fixed = 0;           ///< what does not depend on a symbol
    std::vector<double> of;     ///< for each row that a symbol counts
    double perContextToken = 0; ///< for each token in the session
    double meetings = 0;        ///< how often threads wait for one another
  };

  Status initialize(uint32_t threads, int64_t capacity);
  void estimateWork();
  /// Whether a run is faster on one thread than on all.
  bool isBetterAlone(uint32_t entry, const int64_t *dims, int64_t position) const;
  Status allocateStates();
  /// Makes the workspace large enough for a run. An invalid argument: the sizes break a condition of the entry.
  Status reserveWorkspace(uint32_t entry, const int64_t *dims);
  /// What a negative size of the workspace says.
  Status refusal(uint32_t entry, const int64_t *dims, int64_t bytes) const;
  Status findEntry(uint32_t index, const Entry *&entry) const;
  /// Checks the inputs but for their data, and finds the values of the entry's symbols.
  Status bind(const Entry &entry, const setun_tensor *inputs, uint32_t numInputs, int64_t *dims) const;
  Status checkOutputs(const Entry &entry, const setun_tensor *outputs, uint32_t numOutputs, const int64_t *dims) const;
  void clear();

  std::shared_ptr<Package> keepAlive; ///< null in a session of the package's own
  const Package &package;
  std::unique_ptr<ThreadPool> pool;
  int64_t contextCapacity = 0;
  std::atomic<int64_t> tokens{0};
  mutable std::atomic<bool> busy{false};
  bool empty = true;                        ///< states are all zero
  std::map<std::string, Mapping> states;    ///< by name
  std::vector<std::vector<void *>> buffers; ///< of each entry, the states filled in
  Mapping workspace;
  std::vector<Work> works; ///< of each entry, if the session is to choose between one thread and all
  bool profiling = false;
  std::unique_ptr<Profile> profileTimes; ///< null as long as there was none
};

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_SESSION_H
