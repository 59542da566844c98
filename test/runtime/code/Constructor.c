/* Wants to run a function when it is loaded. */
#include <stdint.h>

static volatile int64_t loaded;
__attribute__((constructor)) static void onLoad(void) { loaded = 1; }
int64_t constructor_workspace(const int64_t *dims, uint32_t num_threads) { return dims[0] + num_threads + loaded; }
