//===- SessionTest.cpp - running entries ----------------------------------===//
#include "Fixture.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>

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
    Owned<int64_t> rounds(SETUN_I64, {}, {20000}), errors(SETUN_I64, {});
    setun_tensor in = rounds.tensor(), out = errors.tensor();
    EXPECT_EQ(setun_session_run(session.get(), fence, &in, 1, &out, 1), SETUN_OK);
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
