/*===- setun.h - C interface of the Setun runtime -------------------*- C -*-===//
 *
 * Opens, checks and runs model packages (.setun). All functions are safe against malformed packages and wrong
 * arguments: they return a status and leave a message for setun_last_error. A package carries native code, which the
 * checks keep from being loaded damaged but not from being malicious: run only packages that you would run as programs.
 *
 * Threads: a setun_package may be used by several threads at once, a setun_session by one at a time (a second call
 * meanwhile gets SETUN_ERROR_BUSY; only setun_session_destroy must not come meanwhile). After a fork on Linux both
 * processes may go on with a session that was not in use, each for itself. The file of an open package must not be
 * changed or truncated; replace it by renaming another file over it.
 *
 * All strings are UTF-8 and end with a zero byte. Pointers obtained from a package stay valid until it is closed.
 *
 *===----------------------------------------------------------------------===*/
#ifndef SETUN_SETUN_H
#define SETUN_SETUN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SETUN_API
#else
#define SETUN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct setun_package setun_package;
typedef struct setun_session setun_session;

typedef enum setun_status {
  SETUN_OK = 0,
  SETUN_ERROR_INVALID_ARGUMENT = 1, /* wrong index, data type, rank, shape, null pointer, ... */
  SETUN_ERROR_IO = 2,               /* the file cannot be opened, read or mapped */
  SETUN_ERROR_BAD_PACKAGE = 3,      /* not a package, truncated, damaged or inconsistent */
  SETUN_ERROR_UNSUPPORTED = 4,      /* sound, but of another version, or without code that this CPU or system runs */
  SETUN_ERROR_SELF_TEST = 5,        /* the code gave other results than those recorded when it was compiled */
  SETUN_ERROR_CAPACITY = 6,         /* more tokens than the session's context holds */
  SETUN_ERROR_OUT_OF_MEMORY = 7,
  SETUN_ERROR_BUSY = 8,      /* another thread is using the session */
  SETUN_ERROR_NOT_FOUND = 9, /* no entry, target or file of that name */
  SETUN_ERROR_INTERNAL = 10
} setun_status;

/* Message of the last failed call of this thread; empty if none failed. Valid until the thread's next failing call. */
SETUN_API const char *setun_last_error(void);
/* Version of the library, "major.minor.patch". */
SETUN_API const char *setun_version(void);
/* Features of this CPU that the operating system supports too, by their LLVM names, separated by commas.
 * SETUN_ERROR_INVALID_ARGUMENT if the `size` bytes do not hold them; the message says how many do. */
SETUN_API setun_status setun_cpu_features(char *buffer, size_t size);

/*===----------------------------------------------------------------------===//
 * Tensors
 *===----------------------------------------------------------------------===*/

enum { SETUN_MAX_RANK = 8 };

/* Element type; an int32_t and not an enum, so that a wrong number is an error and not undefined behaviour. */
typedef int32_t setun_dtype;
enum {
  SETUN_BOOL = 0, /* one byte, 0 or 1 */
  SETUN_I8 = 1,
  SETUN_U8 = 2,
  SETUN_I16 = 3,
  SETUN_I32 = 4,
  SETUN_I64 = 5,
  SETUN_F16 = 6,
  SETUN_BF16 = 7,
  SETUN_F32 = 8,
  SETUN_F64 = 9
};

/* Size of an element in bytes; 0 for an unknown type. */
SETUN_API size_t setun_dtype_size(setun_dtype dtype);
/* Short name ("f32", "i64", ...); NULL for an unknown type. */
SETUN_API const char *setun_dtype_name(setun_dtype dtype);

/* A tensor of the caller: dense, row-major, aligned to the size of its element. */
typedef struct setun_tensor {
  void *data; /* inputs are only read */
  setun_dtype dtype;
  int32_t rank;         /* 0 to SETUN_MAX_RANK */
  const int64_t *shape; /* rank sizes, each at least 1; may be NULL for rank 0 */
} setun_tensor;

/*===----------------------------------------------------------------------===//
 * Packages
 *===----------------------------------------------------------------------===*/

/* Where the weights are read from. */
typedef int32_t setun_weights;
enum {
  SETUN_WEIGHTS_AUTO = 0, /* SETUN_WEIGHTS_COPY for a large file where memory is plenty, else SETUN_WEIGHTS_MAP */
  SETUN_WEIGHTS_MAP = 1,  /* where the package lies: nothing is copied, processes share the pages */
  SETUN_WEIGHTS_COPY = 2  /* from a copy in large pages, made with the first session: a core reads it faster */
};

typedef struct setun_open_options {
  size_t struct_size;       /* sizeof(setun_open_options) */
  const char *target;       /* use the code section of this name; NULL: the best that this CPU can run */
  const char *cpu_features; /* take these for the CPU's features (LLVM names, commas between); NULL: look */
  setun_weights weights;
} setun_open_options;

/* Opens a package and checks everything but the values of the weights (see setun_package_verify). Code is loaded and
 * tested when the first session is created, so a package for another machine can be opened and inspected. */
SETUN_API setun_status setun_package_open(const char *path, const setun_open_options *options, setun_package **package);
/* The same for a package in memory, which must stay unchanged until the package is closed and its sessions are
 * destroyed. Memory that is not aligned to 4096 bytes is copied. */
SETUN_API setun_status setun_package_open_memory(const void *data, size_t size, const setun_open_options *options,
                                                 setun_package **package);
/* Sessions keep what they need of a package alive. NULL is allowed. */
SETUN_API void setun_package_close(setun_package *package);

/* Reads all weights and compares their checksum. */
SETUN_API setun_status setun_package_verify(setun_package *package);

typedef struct setun_entry_info {
  const char *name;
  uint32_t num_inputs;
  uint32_t num_states;
  uint32_t num_outputs;
  uint32_t num_symbols;
  const char *const *symbols; /* names of the dimension symbols */
  int uses_position;          /* the session's position advances when the entry is run */
  int resets_session;         /* the session is emptied before the entry is run */
  int64_t max_context;        /* largest context capacity; 0: no limit */
  const char *token_symbol;   /* symbol by which the position advances; NULL: it advances by `tokens` */
  int64_t tokens;
  const char *capacity_symbol; /* symbol whose value is the context capacity of the session, or NULL */
} setun_entry_info;

typedef int32_t setun_role;
enum { SETUN_INPUT = 0, SETUN_STATE = 1, SETUN_OUTPUT = 2 };

typedef struct setun_tensor_info {
  const char *name;
  setun_dtype dtype;
  int32_t rank;
  const int64_t *shape;       /* sizes; -1 where the dimension is a symbol */
  const char *const *symbols; /* symbols; NULL where the dimension is fixed */
  int64_t below;              /* inputs of i64: elements must lie in [0, below); 0: no such limit */
} setun_tensor_info;

typedef struct setun_target_info {
  const char *name; /* as given to the compiler */
  const char *arch; /* "x86_64" or "aarch64" */
  uint32_t num_features;
  const char *const *features; /* needed of the CPU, LLVM names */
  uint64_t bytes;              /* of the code section */
  int runnable;                /* 1 if the CPU has them all */
  int selected;                /* 1 for the section that sessions will use */
} setun_target_info;

typedef struct setun_layer_info {
  const char *name;
  int64_t rows;       /* output features */
  int64_t cols;       /* input features */
  const char *format; /* of the packed weights ("r16k4f4", ...; setun/Packing.h) */
  const char *scale;  /* granularity of the weight scale */
  int64_t bytes;      /* packed */
  uint32_t num_kernels;
  const char *const *kernel_targets; /* target by target, ... */
  const char *const *kernels;        /* ... the row of the kernel table that computes the layer */
} setun_layer_info;

typedef struct setun_operation_info {
  const char *kind;        /* "matmul", "attention", ... */
  const char *detail;      /* kernel row and layout, element type, ...; may be empty */
  const char *name;        /* of its weights or state; may be empty */
  const char *shape;       /* "out x in" of matrices, else of the result; may be empty */
  const char *rows_symbol; /* rows (tokens) that it computes: the value of this symbol of the entry ... */
  int64_t rows;            /* ... or where that is NULL this number */
  int64_t weight_bytes;    /* of the weights section that a run reads, whatever the rows */
  int64_t row_bytes;       /* of the weights section that it reads for each row */
  int64_t context_bytes;   /* of states that it reads for each token in the session */
  int64_t int8_macs;       /* multiply-adds of integers for each row */
  int64_t float_macs;      /* multiply-adds of floats for each row */
} setun_operation_info;

typedef struct setun_file_info {
  const char *name;
  const void *data;
  size_t size; /* in bytes */
} setun_file_info;

/* What a package holds. An index that is too large is SETUN_ERROR_INVALID_ARGUMENT, an unknown name
 * SETUN_ERROR_NOT_FOUND. */
SETUN_API uint32_t setun_package_num_entries(const setun_package *package);
SETUN_API setun_status setun_package_entry(const setun_package *package, uint32_t index, setun_entry_info *info);
SETUN_API setun_status setun_package_find_entry(const setun_package *package, const char *name, uint32_t *index);
SETUN_API setun_status setun_package_tensor(const setun_package *package, uint32_t entry, setun_role role,
                                            uint32_t index, setun_tensor_info *info);
SETUN_API uint32_t setun_package_num_targets(const setun_package *package);
SETUN_API setun_status setun_package_target(const setun_package *package, uint32_t index, setun_target_info *info);
SETUN_API uint32_t setun_package_num_layers(const setun_package *package);
SETUN_API setun_status setun_package_layer(const setun_package *package, uint32_t index, setun_layer_info *info);
SETUN_API uint32_t setun_package_num_provenance(const setun_package *package);
SETUN_API setun_status setun_package_provenance(const setun_package *package, uint32_t index, const char **key,
                                                const char **value);
SETUN_API uint32_t setun_package_num_files(const setun_package *package);
SETUN_API setun_status setun_package_file(const setun_package *package, uint32_t index, setun_file_info *info);
SETUN_API setun_status setun_package_find_file(const setun_package *package, const char *name, setun_file_info *info);
/* Bytes of the weights section. */
SETUN_API uint64_t setun_package_weights_size(const setun_package *package);
/* 1 once sessions read a copy of the weights (SETUN_WEIGHTS_COPY), else 0. */
SETUN_API int setun_package_weights_copied(const setun_package *package);
/* What a package holds as a JSON object, but for its operations and the contents of files; NULL after an error. */
SETUN_API const char *setun_package_json(const setun_package *package);
/* What an entry consists of in the code section that sessions use: kernel calls, in their order. 0 where no code
 * section runs on this CPU. Needs are counted, not what a kernel pads to. */
SETUN_API uint32_t setun_package_num_operations(const setun_package *package, uint32_t entry);
SETUN_API setun_status setun_package_operation(const setun_package *package, uint32_t entry, uint32_t index,
                                               setun_operation_info *info);

/*===----------------------------------------------------------------------===//
 * Sessions
 *===----------------------------------------------------------------------===*/

typedef struct setun_session_options {
  size_t struct_size; /* sizeof(setun_session_options) */
  uint32_t threads;   /* threads that compute, the caller's included; 0: one for each CPU that the process may use, in
                         runs that have enough work for them */
  int64_t context;    /* context capacity in tokens; 0: the largest that the package allows */
} setun_session_options;

/* Creates a session with zeroed state at position 0. The first session of a package loads its code and runs the
 * self-tests recorded in it. */
SETUN_API setun_status setun_session_create(setun_package *package, const setun_session_options *options,
                                            setun_session **session);
/* NULL is allowed. */
SETUN_API void setun_session_destroy(setun_session *session);

/* Runs entry number `entry` on the caller's tensors, given in the package's order. Outputs have the shapes that follow
 * from the inputs' (setun_session_output_shape) and do not overlap inputs. Arguments are checked before anything is
 * changed:
 * SETUN_ERROR_INVALID_ARGUMENT for tensors that do not fit the entry, SETUN_ERROR_CAPACITY for more tokens than the
 * context has room for. Results do not depend on the number of threads. */
SETUN_API setun_status setun_session_run(setun_session *session, uint32_t entry, const setun_tensor *inputs,
                                         uint32_t num_inputs, const setun_tensor *outputs, uint32_t num_outputs);
/* Shape of output number `output` for inputs of these shapes (their data is not looked at). */
SETUN_API setun_status setun_session_output_shape(const setun_session *session, uint32_t entry,
                                                  const setun_tensor *inputs, uint32_t num_inputs, uint32_t output,
                                                  int32_t *rank, int64_t shape[SETUN_MAX_RANK]);
/* Empties the session: state zero, position 0. */
SETUN_API setun_status setun_session_reset(setun_session *session);
/* Tokens in the session. */
SETUN_API int64_t setun_session_position(const setun_session *session);
/* Tokens that fit in the session; 0 where the package sets no limit. */
SETUN_API int64_t setun_session_capacity(const setun_session *session);
/* Threads that compute, the caller's included. */
SETUN_API uint32_t setun_session_threads(const setun_session *session);

/* Where the time goes. While a profile is on, runs take the time of each operation on each thread. Turning it on starts
 * from zero; turning it off keeps the figures. Results do not change, and runs do not allocate. */
SETUN_API setun_status setun_session_profile(setun_session *session, int on);

typedef struct setun_profile_time {
  uint64_t count;       /* how often it was run */
  uint64_t nanoseconds; /* all together */
} setun_profile_time;

/* Whole runs of an entry, as their caller sees them. Zeros if the session has had no profile. */
SETUN_API setun_status setun_session_entry_time(const setun_session *session, uint32_t entry, setun_profile_time *time);
/* One operation of an entry (setun_package_operation) on one thread; what is missing to the whole was spent at barriers
 * or waiting for other threads. */
SETUN_API setun_status setun_session_operation_time(const setun_session *session, uint32_t entry, uint32_t operation,
                                                    uint32_t thread, setun_profile_time *time);

#ifdef __cplusplus
}
#endif

#endif /* SETUN_SETUN_H */
