//===- Profile.cpp - time of each operation -------------------------------===//
#include "Profile.h"

using namespace setun::runtime;

static uint64_t nanoseconds(std::chrono::steady_clock::duration time) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

Profile::Profile(const std::vector<uint32_t> &operations, uint32_t threadCount)
    : entries(operations.size()), threads(threadCount) {
  constexpr uint32_t line = 128 / sizeof(setun_profile_time);
  uint32_t total = 0;
  for (size_t i = 0; i < operations.size(); ++i) {
    entries[i].first = total;
    entries[i].count = operations[i];
    total += operations[i];
  }
  for (Thread &thread : threads)
    thread.times.resize(total + line);
}

void Profile::begin(uint32_t entry, setun_invocation &invocation) {
  running = entry;
  invocation.mark = &Profile::mark;
  invocation.mark_data = this;
  start = Clock::now();
}

void Profile::end(uint32_t entry) {
  ++entries[entry].whole.count;
  entries[entry].whole.nanoseconds += nanoseconds(Clock::now() - start);
}

void Profile::mark(void *data, uint32_t index, uint32_t operation) {
  Profile &profile = *static_cast<Profile *>(data);
  const Entry &entry = profile.entries[profile.running];
  Thread &thread = profile.threads[index];
  const Clock::time_point now = Clock::now();
  if (operation < entry.count) {
    setun_profile_time &time = thread.times[entry.first + operation];
    ++time.count;
    time.nanoseconds += nanoseconds(now - thread.last);
  }
  thread.last = now;
}
