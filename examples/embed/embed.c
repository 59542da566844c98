/* Prints the token that a model finds most likely after the given ones:  embed model.setun 1 2 3
 * Build: cc embed.c -lsetun_runtime -o embed */
#include <setun/setun.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  int64_t count = argc - 2, shape[SETUN_MAX_RANK], best = 0;
  int64_t *tokens = calloc(argc, sizeof(*tokens));
  for (int64_t i = 0; tokens && i < count; ++i)
    tokens[i] = strtoll(argv[i + 2], NULL, 10);

  setun_package *package = NULL;
  setun_session *session = NULL;
  uint32_t forward;
  setun_tensor in = {tokens, SETUN_I64, 1, &count}, out = {NULL, SETUN_F32, 0, shape};
  if (setun_package_open(argc > 1 ? argv[1] : "", NULL, &package) ||
      setun_package_find_entry(package, "forward", &forward) || setun_session_create(package, NULL, &session) ||
      setun_session_output_shape(session, forward, &in, 1, 0, &out.rank, shape) ||
      !(out.data = calloc(shape[0] * shape[1], sizeof(float))) || setun_session_run(session, forward, &in, 1, &out, 1))
    return fprintf(stderr, "embed: %s\n", setun_last_error()), 1;

  const float *logits = (const float *)out.data + (shape[0] - 1) * shape[1]; /* [tokens, vocabulary]: the last row */
  for (int64_t i = 1; i < shape[1]; ++i)
    best = logits[i] > logits[best] ? i : best;
  printf("%lld\n", (long long)best);
  setun_session_destroy(session);
  setun_package_close(package);
  free(out.data);
  free(tokens);
  return 0;
}
