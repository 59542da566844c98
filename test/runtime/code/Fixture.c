/* Code of the package that the runtime's tests use: what a compiler would make, small enough to know by heart. */
#include "setun/EntryABI.h"

enum { kWidth = 3, kVocab = 5, kTokens = 7, kRow = 8, kBiasOffset = 128 };

static void mark(const setun_invocation *inv, uint32_t thread, uint32_t operation) {
  if (inv->mark)
    inv->mark(inv->mark_data, thread, operation);
}

static int64_t shareBegin(int64_t count, uint32_t part, uint32_t parts) { return count * part / parts; }

static float half(float x) { return x * 0.5f; }
static float keep(float x) { return x; }
static float twice(float x) { return x * 2.0f; }
/* Addresses in a table: relocations that the loader must apply. */
static float (*const volatile kHeads[kVocab])(float) = {half, keep, twice, keep, half};

/* Row p of the cache gets twice the table row of token p ("+=" shows that it was zero); the total of a token sums all
   rows up to its own; each logit is a function of the total. */
static void model(const setun_invocation *inv, uint32_t thread, int lastOnly) {
  const int64_t *tokens = inv->buffers[0];
  float *cache = inv->buffers[1];
  float *logits = inv->buffers[2];
  float *totals = (float *)inv->workspace;
  const float *table = (const float *)inv->weights;
  const int64_t count = inv->dims[0], position = inv->position;
  const int64_t begin = shareBegin(count, thread, inv->num_threads);
  const int64_t end = shareBegin(count, thread + 1, inv->num_threads);

  mark(inv, thread, SETUN_MARK_BEGIN);
  for (int64_t t = begin; t < end; ++t)
    for (int64_t j = 0; j < kWidth; ++j)
      cache[(position + t) * kWidth + j] += 2.0f * table[(uint64_t)tokens[t] % kTokens * kWidth + j];
  mark(inv, thread, 0);
  inv->barrier(inv->barrier_data, thread);
  mark(inv, thread, SETUN_MARK_WAIT);
  for (int64_t t = begin; t < end; ++t) {
    float total = 0.0f;
    for (int64_t p = 0; p <= position + t; ++p)
      for (int64_t j = 0; j < kWidth; ++j)
        total += cache[p * kWidth + j];
    totals[t] = total;
  }
  mark(inv, thread, 1);
  inv->barrier(inv->barrier_data, thread);
  mark(inv, thread, SETUN_MARK_WAIT);
  const int64_t first = lastOnly ? count - 1 : 0;
  for (int64_t v = shareBegin(kVocab, thread, inv->num_threads); v < shareBegin(kVocab, thread + 1, inv->num_threads);
       ++v)
    for (int64_t t = first; t < count; ++t)
      logits[(t - first) * kVocab + v] = kHeads[v](totals[t]);
  mark(inv, thread, 2);
}

void fixture_forward(const setun_invocation *inv, uint32_t thread) { model(inv, thread, 0); }
void fixture_step(const setun_invocation *inv, uint32_t thread) { model(inv, thread, 1); }
int64_t fixture_model_workspace(const int64_t *dims, uint32_t num_threads) {
  (void)num_threads;
  return dims[0] * (int64_t)sizeof(float);
}

/* y = 2 x + bias, rows split between the threads. */
void fixture_mlp(const setun_invocation *inv, uint32_t thread) {
  const float *x = inv->buffers[0];
  float *y = inv->buffers[1];
  const float *bias = (const float *)(inv->weights + kBiasOffset);
  for (int64_t b = shareBegin(inv->dims[0], thread, inv->num_threads);
       b < shareBegin(inv->dims[0], thread + 1, inv->num_threads); ++b)
    for (int64_t j = 0; j < kRow; ++j)
      y[b * kRow + j] = 2.0f * x[b * kRow + j] + bias[j];
}
/* Conditions: at least 1, so that no size breaks the first; at most 1000; and one that the package does not tell. */
int64_t fixture_mlp_workspace(const int64_t *dims, uint32_t num_threads) {
  (void)num_threads;
  return dims[0] < 1 ? -1 : dims[0] > 2000 ? -3 : dims[0] > 1000 ? -2 : 0;
}

/* Counts how often a thread saw another that had not reached the round yet, or that was ahead of a barrier. */
void fixture_fence(const setun_invocation *inv, uint32_t thread) {
  const int64_t rounds = *(const int64_t *)inv->buffers[0];
  int64_t *errors = inv->buffers[1];
  /* Two marks of each thread. */
  volatile int64_t *marks = (volatile int64_t *)inv->workspace, *seen = marks + inv->num_threads;
  seen[thread] = 0;
  for (int64_t round = 1; round <= rounds; ++round) {
    marks[thread] = round;
    inv->barrier(inv->barrier_data, thread);
    for (uint32_t other = 0; other < inv->num_threads; ++other)
      if (marks[other] != round)
        seen[thread] = seen[thread] + 1;
    inv->barrier(inv->barrier_data, thread);
  }
  if (thread == 0) {
    *errors = 0;
    for (uint32_t other = 0; other < inv->num_threads; ++other)
      *errors += seen[other];
  }
}
int64_t fixture_fence_workspace(const int64_t *dims, uint32_t num_threads) {
  (void)dims;
  return 2 * num_threads * (int64_t)sizeof(int64_t);
}
