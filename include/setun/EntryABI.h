/*===- EntryABI.h - contract between compiled code and the runtime -*- C -*-===//
 *
 * The only things that cross between generated code and the runtime. Both sides compile against this header; a change
 * of layout or meaning raises SETUN_ENTRY_ABI_VERSION, and the runtime refuses code of another version.
 *
 *===----------------------------------------------------------------------===*/
#ifndef SETUN_ENTRYABI_H
#define SETUN_ENTRYABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SETUN_ENTRY_ABI_VERSION 2

/* Marks that are no operation's. */
#define SETUN_MARK_BEGIN 0xffffffffu
#define SETUN_MARK_WAIT 0xfffffffeu

/* One run of one entry point. Every worker thread gets the same struct and its own thread number. */
typedef struct setun_invocation {
  uint32_t abi_version;   /* SETUN_ENTRY_ABI_VERSION */
  uint32_t num_threads;   /* threads that execute the entry, >= 1 */
  const uint8_t *weights; /* start of the mapped weights section, 4096-byte aligned */
  uint8_t *workspace;     /* scratch, 64-byte aligned, workspace(dims, num_threads) bytes, contents undefined */
  void *const *buffers;   /* inputs, states, outputs in manifest order; dense, row-major */
  const int64_t *dims;    /* values of the entry's dimension symbols in manifest order */
  int64_t position;       /* tokens already in the session; 0 where the entry has no position */
  void (*barrier)(void *data, uint32_t thread); /* returns once all num_threads threads have called it */
  void *barrier_data;
  /* Null, or told by each thread where it is: SETUN_MARK_BEGIN at the start of the entry, the number of an operation
   * (in the manifest's table of the code section) when the thread's part of it is done, SETUN_MARK_WAIT when it goes on
   * after a barrier. */
  void (*mark)(void *data, uint32_t thread, uint32_t operation);
  void *mark_data;
} setun_invocation;

typedef void (*setun_entry_fn)(const setun_invocation *invocation, uint32_t thread);
/* Bytes of workspace that the entry needs for these dimension values and this many threads, some of whose buffers may
   be a thread's own. -1 - i: the i-th condition on sizes does not hold (CodeEntry.conditions of Package.fbs), and the
   entry must not be run. */
typedef int64_t (*setun_workspace_fn)(const int64_t *dims, uint32_t num_threads);

#ifdef __cplusplus
}
#endif

#endif /* SETUN_ENTRYABI_H */
