//===- SessionTest.cpp - running entries ----------------------------------===//
#include "../../runtime/src/Session.h"
#include "../../runtime/src/Memory.h"
#include "Fixture.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

using namespace fixture;

namespace {

class SessionTest : public testing::Test {
protected:
  PackagePointer package = open(packageBytes());
  const uint32_t forward = entryIndex(package, "forward");
  const uint32_t step = entryIndex(package, "step");
  const uint32_t mlp = entryIndex(package, "mlp");
  const uint32_t fence = entryIndex(package, "fence");

  void expectError(setun_status actual, setun_status expected, const std::string &message) {
    EXPECT_EQ(actual, expected);
    EXPECT_EQ(setun_last_error(), message);
  }
};

std::vector<float> last(const std::vector<float> &logits) { return {logits.end() - kVocab, logits.end()}; }

} // namespace

TEST_F(SessionTest, AtOnceOrTokenByTokenOnAnyNumberOfThreads) {
  const std::vector<int64_t> tokens = {1, 5, 2, 6, 0, 3};
  for (uint32_t threads : {1u, 2u, 3u, 8u}) {
    SessionPointer session = createSession(package, threads);
    EXPECT_EQ(setun_session_threads(session.get()), threads);
    EXPECT_EQ(runModel(session, forward, tokens, false), expectedLogits({}, tokens));
    EXPECT_EQ(setun_session_position(session.get()), 6);
    EXPECT_EQ(runModel(session, step, {4}, true), expectedLogits(tokens, {4}));
    EXPECT_EQ(setun_session_position(session.get()), 7);

    // forward empties the session, so the result is the same again.
    EXPECT_EQ(runModel(session, forward, tokens, false), expectedLogits({}, tokens));

    ASSERT_EQ(setun_session_reset(session.get()), SETUN_OK);
    EXPECT_EQ(setun_session_position(session.get()), 0);
    std::vector<int64_t> before;
    for (int64_t token : tokens) {
      EXPECT_EQ(runModel(session, step, {token}, true), expectedLogits(before, {token}));
      before.push_back(token);
    }
    ASSERT_EQ(setun_session_reset(session.get()), SETUN_OK);
    EXPECT_EQ(runModel(session, step, tokens, true), last(expectedLogits({}, tokens)));
  }
}

TEST_F(SessionTest, ContextIsLimited) {
  SessionPointer session = createSession(package, 1, 4);
  EXPECT_EQ(setun_session_capacity(session.get()), 4);
  EXPECT_EQ(runModel(session, step, {1, 2, 3}, true), last(expectedLogits({}, {1, 2, 3})));
  Owned<int64_t> tokens(SETUN_I64, {2});
  Owned<float> logits(SETUN_F32, {1, kVocab});
  setun_tensor in = tokens.tensor(), out = logits.tensor();
  expectError(setun_session_run(session.get(), step, &in, 1, &out, 1), SETUN_ERROR_CAPACITY,
              "entry 'step': 2 tokens after the 3 in the session exceed its context of 4");
  EXPECT_EQ(setun_session_position(session.get()), 3) << "a failed run changes nothing";
  EXPECT_EQ(runModel(session, step, {4}, true), expectedLogits({1, 2, 3}, {4}));
  Owned<int64_t> five(SETUN_I64, {5});
  Owned<float> all(SETUN_F32, {5, kVocab});
  in = five.tensor();
  out = all.tensor();
  EXPECT_EQ(setun_session_run(session.get(), forward, &in, 1, &out, 1), SETUN_ERROR_CAPACITY);

  setun_session_options options = {sizeof(options), 1, kMaxContext + 1};
  setun_session *none = nullptr;
  expectError(setun_session_create(package.get(), &options, &none), SETUN_ERROR_INVALID_ARGUMENT,
              "expects a context of at most 64 tokens, got 65");
  options.context = -1;
  EXPECT_EQ(setun_session_create(package.get(), &options, &none), SETUN_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(setun_session_capacity(createSession(package).get()), kMaxContext);
}

TEST_F(SessionTest, ContextsThatNoMemoryHolds) {
  Parts changed = parts();
  for (auto &entry : changed.manifest.entries)
    entry.maxContext = 0;
  const std::string path = temporaryFolder() + "/unlimited.setun";
  ASSERT_FALSE(write(changed, path));
  const std::vector<uint8_t> bytes = readFile(path); // outlives its package
  PackagePointer unlimited = open(bytes);
  for (int64_t context : {INT64_MAX, INT64_MAX / 12, int64_t(1) << 59}) {
    setun_session_options options = {sizeof(options), 1, context};
    setun_session *none = nullptr;
    EXPECT_EQ(setun_session_create(unlimited.get(), &options, &none), SETUN_ERROR_OUT_OF_MEMORY) << context;
  }
}

TEST_F(SessionTest, EntriesWithoutStateOrPosition) {
  SessionPointer session = createSession(package, 2);
  for (int64_t batch : {1, 2, 5, 300}) {
    Owned<float> x(SETUN_F32, {batch, kRow}), y(SETUN_F32, {batch, kRow});
    for (size_t i = 0; i < x.data.size(); ++i)
      x.data[i] = static_cast<float>(i) - 3.0f;
    setun_tensor in = x.tensor(), out = y.tensor();
    int32_t rank = 0;
    int64_t shape[SETUN_MAX_RANK];
    ASSERT_EQ(setun_session_output_shape(session.get(), mlp, &in, 1, 0, &rank, shape), SETUN_OK);
    EXPECT_EQ(std::vector<int64_t>(shape, shape + rank), y.shape);
    ASSERT_EQ(setun_session_run(session.get(), mlp, &in, 1, &out, 1), SETUN_OK) << setun_last_error();
    for (size_t i = 0; i < y.data.size(); ++i)
      ASSERT_EQ(y.data[i], 2.0f * x.data[i] + 0.25f * static_cast<float>(i % kRow));
  }
  EXPECT_EQ(setun_session_position(session.get()), 0);
}

TEST_F(SessionTest, ChecksTensors) {
  SessionPointer session = createSession(package);
  Owned<int64_t> tokens(SETUN_I64, {3}, {1, 2, 3});
  Owned<float> logits(SETUN_F32, {3, kVocab});
  const setun_tensor goodIn = tokens.tensor(), goodOut = logits.tensor();
  auto run = [&](const setun_tensor &in, const setun_tensor &out) {
    return setun_session_run(session.get(), forward, &in, 1, &out, 1);
  };
  ASSERT_EQ(run(goodIn, goodOut), SETUN_OK);
  constexpr setun_status wrong = SETUN_ERROR_INVALID_ARGUMENT;

  setun_tensor in = goodIn, out = goodOut;
  in.dtype = SETUN_I32;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': expects i64, got i32");
  in.dtype = static_cast<setun_dtype>(77);
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': expects i64, got unknown type 77");

  for (int64_t outside : {int64_t(-1), int64_t(kTokens), INT64_MIN, INT64_MAX}) {
    Owned<int64_t> bad(SETUN_I64, {3}, {1, outside, 3});
    expectError(run(bad.tensor(), goodOut), wrong,
                "input 'tokens' of entry 'forward': expects values from 0 to " + std::to_string(kTokens - 1) +
                    ", got " + std::to_string(outside) + " at element 1");
  }
  in = goodIn;
  in.rank = 2;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': expects rank 1 [T], got 2");
  in.rank = -1;
  EXPECT_EQ(run(in, out), wrong);

  in = goodIn;
  in.shape = nullptr;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': the shape is a null pointer");
  const int64_t zero[] = {0}, negative[] = {-5}, huge[] = {INT64_MAX};
  in.shape = zero;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': dimension 0 (T) expects at least 1, got 0");
  in.shape = negative;
  EXPECT_EQ(run(in, out), wrong);
  in.shape = huge;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': shape [9223372036854775807] is too large");

  in = goodIn;
  in.data = nullptr;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': the data is a null pointer");
  in.data = reinterpret_cast<char *>(goodIn.data) + 1;
  expectError(run(in, out), wrong, "input 'tokens' of entry 'forward': expects data aligned to 8 bytes");

  in = goodIn;
  const int64_t fewer[] = {2, kVocab};
  out.shape = fewer;
  expectError(run(in, out), wrong, "output 'logits' of entry 'forward': expects shape [3, 5], got [2, 5]");
  out = goodOut;
  out.data = nullptr;
  expectError(run(in, out), wrong, "output 'logits' of entry 'forward': the data is a null pointer");

  expectError(setun_session_run(session.get(), forward, &in, 0, &out, 1), wrong,
              "entry 'forward' expects 1 inputs, got 0");
  expectError(setun_session_run(session.get(), forward, &in, 1, &out, 2), wrong,
              "entry 'forward' expects 1 outputs, got 2");
  expectError(setun_session_run(session.get(), forward, nullptr, 1, &goodOut, 1), wrong,
              "entry 'forward': the inputs are a null pointer");
  expectError(setun_session_run(session.get(), 99, &goodIn, 1, &goodOut, 1), wrong, "expects an entry below 4, got 99");
  EXPECT_EQ(setun_session_run(nullptr, forward, &goodIn, 1, &goodOut, 1), wrong);

  Owned<float> x(SETUN_F32, {2, kRow + 1}), y(SETUN_F32, {2, kRow});
  in = x.tensor();
  out = y.tensor();
  expectError(setun_session_run(session.get(), mlp, &in, 1, &out, 1), wrong,
              "input 'x' of entry 'mlp': dimension 1 expects 8, got 9");
  EXPECT_EQ(setun_session_position(session.get()), 3) << "failed runs change nothing";
}

TEST_F(SessionTest, SymbolsAgreeBetweenInputs) {
  Parts changed = parts();
  changed.manifest.entries[2].inputs.push_back(
      {"z", setun::package::ElementType::F32, {setun::package::Dim::dynamic("B")}});
  const std::string path = temporaryFolder() + "/symbols.setun";
  ASSERT_FALSE(write(changed, path));
  PackagePointer other = open(readFile(path));
  SessionPointer session = createSession(other);
  Owned<float> x(SETUN_F32, {2, kRow}), z(SETUN_F32, {3}), y(SETUN_F32, {2, kRow});
  setun_tensor in[] = {x.tensor(), z.tensor()}, out = y.tensor();
  expectError(setun_session_run(session.get(), mlp, in, 2, &out, 1), SETUN_ERROR_INVALID_ARGUMENT,
              "input 'z' of entry 'mlp': dimension 0 (B) expects 2, got 3");
}

TEST_F(SessionTest, ConditionsOnSizes) {
  SessionPointer session = createSession(package, 2);
  auto run = [&](int64_t batch) {
    Owned<float> x(SETUN_F32, {batch, kRow}), y(SETUN_F32, {batch, kRow});
    std::fill(x.data.begin(), x.data.end(), 1.0f);
    setun_tensor in = x.tensor(), out = y.tensor();
    setun_status status = setun_session_run(session.get(), mlp, &in, 1, &out, 1);
    EXPECT_EQ(y.data[0], status == SETUN_OK ? 2.0f : 0.0f);
    return status;
  };
  EXPECT_EQ(run(1000), SETUN_OK);
  expectError(run(1001), SETUN_ERROR_INVALID_ARGUMENT, "entry 'mlp': size B expects at most 1000; got B = 1001");
  expectError(run(2001), SETUN_ERROR_INTERNAL, "entry 'mlp' asks for -3 bytes of workspace");
  EXPECT_EQ(run(1), SETUN_OK);
}

TEST_F(SessionTest, BarriersHoldWithMoreThreadsThanCpus) {
  for (uint32_t threads : {1u, 2u, 5u, 16u}) {
    SessionPointer session = createSession(package, threads);
    Owned<int64_t> rounds(SETUN_I64, {}, {500}), errors(SETUN_I64, {}, {-1});
    setun_tensor in = rounds.tensor(), out = errors.tensor();
    for (int run = 0; run < 3; ++run) {
      ASSERT_EQ(setun_session_run(session.get(), fence, &in, 1, &out, 1), SETUN_OK) << setun_last_error();
      EXPECT_EQ(errors.data[0], 0);
    }
  }
}

TEST_F(SessionTest, SessionsOutliveThePackageHandle) {
  SessionPointer session = createSession(package, 2);
  package.reset();
  EXPECT_EQ(runModel(session, forward, {1, 2}, false), expectedLogits({}, {1, 2}));
}

TEST_F(SessionTest, SessionsOfOnePackageAreIndependent) {
  std::atomic<int> failures{0};
  std::vector<std::thread> users;
  for (int user = 0; user < 4; ++user) {
    users.emplace_back([&, user] {
      setun_session_options options = {sizeof(options), 2, 0};
      setun_session *created = nullptr;
      if (setun_session_create(package.get(), &options, &created) != SETUN_OK) {
        ++failures;
        return;
      }
      SessionPointer session(created);
      std::vector<int64_t> before;
      for (int64_t i = 0; i < 20; ++i) {
        const int64_t token = (i * (user + 1)) % kTokens;
        failures += runModel(session, step, {token}, true) != expectedLogits(before, {token});
        before.push_back(token);
      }
    });
  }
  for (std::thread &user : users)
    user.join();
  EXPECT_EQ(failures, 0);
}

TEST_F(SessionTest, OneThreadAtATime) {
  SessionPointer session = createSession(package, 2);
  std::atomic<bool> done{false};
  std::thread other([&] {
    Owned<int64_t> rounds(SETUN_I64, {}, {2000}), errors(SETUN_I64, {});
    setun_tensor in = rounds.tensor(), out = errors.tensor();
    setun_status status;
    do // a reset may have its turn first
      status = setun_session_run(session.get(), fence, &in, 1, &out, 1);
    while (status == SETUN_ERROR_BUSY);
    EXPECT_EQ(status, SETUN_OK);
    done = true;
  });
  // Until the other thread is done a call gets either its turn or the status; never a crash.
  while (!done) {
    const setun_status status = setun_session_reset(session.get());
    EXPECT_TRUE(status == SETUN_OK || status == SETUN_ERROR_BUSY);
    if (status == SETUN_OK)
      std::this_thread::yield();
  }
  other.join();
}

TEST_F(SessionTest, TimesOfARunThatGoesOn) {
  // A run that asks its own session: any other thread would get the same.
  static const setun::runtime::Session *running;
  static setun_status statuses[2];
  auto ask = [](const setun_invocation *, uint32_t) {
    setun_profile_time time;
    statuses[0] = running->entryTime(0, time).code();
    statuses[1] = running->operationTime(0, 0, 0, time).code();
  };
  std::shared_ptr<setun::runtime::Package> opened;
  const std::vector<uint8_t> &bytes = packageBytes();
  ASSERT_TRUE(setun::runtime::Package::openMemory(bytes.data(), bytes.size(), {}, opened).ok());
  opened->replaceFunctions(
      std::vector<setun::runtime::EntryFunctions>(4, {ask, [](const int64_t *, uint32_t) { return int64_t(64); }}));
  std::unique_ptr<setun::runtime::Session> session;
  ASSERT_TRUE(setun::runtime::Session::create(opened, {1, 0}, session).ok());
  running = session.get();
  ASSERT_TRUE(session->profile(true).ok());
  Owned<int64_t> rounds(SETUN_I64, {}), errors(SETUN_I64, {});
  const setun_tensor in = rounds.tensor(), out = errors.tensor();
  ASSERT_TRUE(session->run(fence, &in, 1, &out, 1).ok());
  EXPECT_EQ(statuses[0], SETUN_ERROR_BUSY);
  EXPECT_EQ(statuses[1], SETUN_ERROR_BUSY);
}

TEST_F(SessionTest, SystemsThatForbidToLoadCode) {
#ifdef __linux__
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    constexpr int setDenyWriteExecute = 65, refuseExecGain = 1; // PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    if (::prctl(setDenyWriteExecute, refuseExecGain, 0, 0, 0) != 0)
      ::_exit(2);
    setun_session *none = nullptr;
    const setun_status status = setun_session_create(package.get(), nullptr, &none);
    const bool said = std::string(setun_last_error()).find("MemoryDenyWriteExecute") != std::string::npos;
    ::_exit(status == SETUN_ERROR_UNSUPPORTED && said ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
    GTEST_SKIP() << "this kernel cannot forbid it (Linux 6.3 can)";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
#endif
}

TEST_F(SessionTest, AForkTakesItsSessionsAlong) {
#ifdef MADV_WIPEONFORK
  SessionPointer session = createSession(package, 3);
  runModel(session, step, {1, 5}, true);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(60); // so that a wait for threads that are not there has an end
    const bool same = runModel(session, step, {2}, true) == expectedLogits({1, 5}, {2});
    session.reset();
    ::_exit(same ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(runModel(session, step, {4}, true), expectedLogits({1, 5}, {4})) << "the parent's goes on as well";
#endif
}

TEST(Memory, ControlGroups) {
  using setun::runtime::controlGroups;
  using Folders = std::vector<std::string>;
  const std::string root = "/sys/fs/cgroup";
  EXPECT_EQ(controlGroups(""), Folders{root});
  EXPECT_EQ(controlGroups("0::/\n"), Folders{root});
  EXPECT_EQ(controlGroups("9:name=systemd:/a\n8:pids:/b\n"), Folders{root}) << "version 1";
  const Folders nested = {root, root + "/job.scope", root + "/job.scope/step_0"};
  EXPECT_EQ(controlGroups("0::/job.scope/step_0\n"), nested);
  EXPECT_EQ(controlGroups("1:name=systemd:/x\n0::/job.scope/step_0"), nested);
}

TEST_F(SessionTest, CallersFloatEnvironmentDoesNotMatter) {
#if defined(__x86_64__)
  SessionPointer session = createSession(package);
  const unsigned control = _mm_getcsr();
  _mm_setcsr(control | 0x8040); // flush subnormals, take them for zero
  const float tiny = 1e-40f;
  Owned<float> x(SETUN_F32, {1, kRow}, std::vector<float>(kRow, tiny)), y(SETUN_F32, {1, kRow});
  setun_tensor in = x.tensor(), out = y.tensor();
  const setun_status status = setun_session_run(session.get(), mlp, &in, 1, &out, 1);
  const unsigned after = _mm_getcsr();
  _mm_setcsr(control);
  EXPECT_EQ(status, SETUN_OK);
  EXPECT_EQ(after & 0x8040, 0x8040u) << "the caller's setting is kept";
  EXPECT_EQ(y.data[0], 2.0f * tiny);
#endif
}

TEST_F(SessionTest, TooManyThreads) {
  setun_session_options options = {sizeof(options), 100000, 0};
  setun_session *none = nullptr;
  expectError(setun_session_create(package.get(), &options, &none), SETUN_ERROR_INVALID_ARGUMENT,
              "expects at most 1024 threads, got 100000");
}

//===----------------------------------------------------------------------===//
// Profile
//===----------------------------------------------------------------------===//

TEST_F(SessionTest, OperationsOfAnEntry) {
  EXPECT_EQ(setun_package_num_operations(package.get(), forward), 3u);
  EXPECT_EQ(setun_package_num_operations(package.get(), fence), 0u);
  EXPECT_EQ(setun_package_num_operations(package.get(), 99), 0u);
  EXPECT_EQ(setun_package_num_operations(nullptr, 0), 0u);
  setun_operation_info info;
  ASSERT_EQ(setun_package_operation(package.get(), step, 0, &info), SETUN_OK);
  EXPECT_STREQ(info.kind, "embed");
  EXPECT_STREQ(info.detail, "f32");
  EXPECT_STREQ(info.name, "table");
  EXPECT_STREQ(info.shape, "? x 3");
  EXPECT_STREQ(info.rows_symbol, "T");
  EXPECT_EQ(info.row_bytes, kWidth * 4);
  ASSERT_EQ(setun_package_operation(package.get(), step, 2, &info), SETUN_OK);
  EXPECT_STREQ(info.name, "");
  EXPECT_EQ(info.rows_symbol, nullptr);
  EXPECT_EQ(info.rows, 1);
  EXPECT_EQ(info.float_macs, kVocab);
  EXPECT_EQ(info.weight_bytes, 0);
  expectError(setun_package_operation(package.get(), step, 3, &info), SETUN_ERROR_INVALID_ARGUMENT,
              "expects an operation below 3, got 3");
  expectError(setun_package_operation(package.get(), 4, 0, &info), SETUN_ERROR_INVALID_ARGUMENT,
              "expects an entry below 4, got 4");
  EXPECT_EQ(setun_package_operation(package.get(), step, 0, nullptr), SETUN_ERROR_INVALID_ARGUMENT);
}

TEST_F(SessionTest, ProfileCountsOperationsAndChangesNothing) {
  for (uint32_t threads : {1u, 3u}) {
    SessionPointer session = createSession(package, threads);
    auto operation = [&](uint32_t entry, uint32_t index, uint32_t thread) {
      setun_profile_time time = {99, 99};
      EXPECT_EQ(setun_session_operation_time(session.get(), entry, index, thread, &time), SETUN_OK);
      return time;
    };
    auto whole = [&](uint32_t entry) {
      setun_profile_time time = {99, 99};
      EXPECT_EQ(setun_session_entry_time(session.get(), entry, &time), SETUN_OK);
      return time;
    };
    // Never on: zeros.
    runModel(session, forward, {1, 2}, false);
    EXPECT_EQ(whole(forward).count, 0u);
    EXPECT_EQ(operation(forward, 0, threads - 1).count, 0u);

    ASSERT_EQ(setun_session_profile(session.get(), 1), SETUN_OK);
    EXPECT_EQ(runModel(session, forward, {1, 5, 2}, false), expectedLogits({}, {1, 5, 2}));
    EXPECT_EQ(runModel(session, step, {4}, true), expectedLogits({1, 5, 2}, {4}));
    EXPECT_EQ(runModel(session, step, {6}, true), expectedLogits({1, 5, 2, 4}, {6}));
    EXPECT_EQ(whole(forward).count, 1u);
    EXPECT_EQ(whole(step).count, 2u);
    EXPECT_EQ(whole(mlp).count, 0u);
    EXPECT_EQ(whole(mlp).nanoseconds, 0u);
    for (uint32_t thread = 0; thread < threads; ++thread) {
      uint64_t sum = 0;
      for (uint32_t index = 0; index < 3; ++index) {
        EXPECT_EQ(operation(forward, index, thread).count, 1u);
        EXPECT_EQ(operation(step, index, thread).count, 2u);
        sum += operation(step, index, thread).nanoseconds;
      }
      EXPECT_LE(sum, whole(step).nanoseconds) << "operations happen within their run";
    }
    EXPECT_GT(whole(step).nanoseconds, 0u);

    // Off: the figures stay. On again: from zero.
    ASSERT_EQ(setun_session_profile(session.get(), 0), SETUN_OK);
    runModel(session, step, {1}, true);
    EXPECT_EQ(whole(step).count, 2u);
    EXPECT_EQ(operation(step, 1, 0).count, 2u);
    ASSERT_EQ(setun_session_profile(session.get(), 1), SETUN_OK);
    EXPECT_EQ(whole(step).count, 0u);
    EXPECT_EQ(operation(step, 1, 0).count, 0u);

    setun_profile_time time;
    expectError(setun_session_operation_time(session.get(), step, 3, 0, &time), SETUN_ERROR_INVALID_ARGUMENT,
                "entry 'step' expects an operation below 3, got 3");
    expectError(setun_session_operation_time(session.get(), step, 0, threads, &time), SETUN_ERROR_INVALID_ARGUMENT,
                "expects a thread below " + std::to_string(threads) + ", got " + std::to_string(threads));
    expectError(setun_session_entry_time(session.get(), 4, &time), SETUN_ERROR_INVALID_ARGUMENT,
                "expects an entry below 4, got 4");
    EXPECT_EQ(setun_session_entry_time(session.get(), step, nullptr), SETUN_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(setun_session_profile(nullptr, 1), SETUN_ERROR_INVALID_ARGUMENT);
  }
}

TEST_F(SessionTest, ThreadsThatNobodyAskedForRunWhatIsWorthIt) {
  // The same code, described as next to nothing and as hours of work.
  for (int64_t macs : {int64_t(1), int64_t(1) << 60}) {
    Parts changed = parts();
    for (auto &operation : changed.codes[0].entries[step].operations)
      operation.floatMacs = operation.int8Macs = macs;
    const std::string path = temporaryFolder() + "/worth.setun";
    auto error = write(changed, path);
    ASSERT_FALSE(error) << *error;
    const std::vector<uint8_t> bytes = readFile(path); // outlives its package
    PackagePointer odd = open(bytes);
    for (uint32_t threads : {0u, 2u}) {
      SessionPointer session = createSession(odd, threads);
      if (setun_session_threads(session.get()) == 1)
        GTEST_SKIP() << "one CPU";
      ASSERT_EQ(setun_session_profile(session.get(), 1), SETUN_OK);
      EXPECT_EQ(runModel(session, step, {1, 5, 2}, true), last(expectedLogits({}, {1, 5, 2})));
      setun_profile_time time;
      ASSERT_EQ(setun_session_operation_time(session.get(), step, 0, 1, &time), SETUN_OK);
      EXPECT_EQ(time.count, threads == 2 || macs > 1 ? 1u : 0u);
    }
  }
}

TEST_F(SessionTest, ProfileSurvivesCodeThatMarksNothingOrTooMuch) {
  Parts changed = parts();
  changed.codes[0].entries[0].operations.resize(1); // its code marks three
  changed.codes[0].entries[2].operations.resize(1);
  changed.codes[0].entries[2].operations[0].kind = "silent"; // its code marks none
  const std::string path = temporaryFolder() + "/marks.setun";
  auto error = write(changed, path);
  ASSERT_FALSE(error) << *error;
  const std::vector<uint8_t> bytes = readFile(path); // outlives its package
  PackagePointer odd = open(bytes);
  SessionPointer session = createSession(odd, 2);
  ASSERT_EQ(setun_session_profile(session.get(), 1), SETUN_OK);
  EXPECT_EQ(runModel(session, forward, {1, 5, 2}, false), expectedLogits({}, {1, 5, 2}));
  Owned<float> x(SETUN_F32, {2, kRow}), y(SETUN_F32, {2, kRow});
  setun_tensor in = x.tensor(), out = y.tensor();
  ASSERT_EQ(setun_session_run(session.get(), mlp, &in, 1, &out, 1), SETUN_OK);
  setun_profile_time time;
  ASSERT_EQ(setun_session_operation_time(session.get(), forward, 0, 1, &time), SETUN_OK);
  EXPECT_EQ(time.count, 1u);
  ASSERT_EQ(setun_session_operation_time(session.get(), mlp, 0, 1, &time), SETUN_OK);
  EXPECT_EQ(time.count, 0u);
}
