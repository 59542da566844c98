//===- Api.cpp - the C interface ------------------------------------------===//
//
// Turns statuses and exceptions into status codes; the work is done in the classes behind.
//
//===----------------------------------------------------------------------===//
#include "Cpu.h"
#include "Package.h"
#include "Session.h"
#include "setun/setun.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>

using namespace setun::runtime;
namespace package = setun::package;

struct setun_package {
  std::shared_ptr<Package> package;
};

struct setun_session {
  std::unique_ptr<Session> session;
};

namespace {

// A plain buffer: keeping a message cannot itself fail, and the thread's end has nothing to destroy.
thread_local char lastError[2048];

setun_status report(setun_status code, const char *message) {
  size_t length = std::strlen(message);
  if (length >= sizeof(lastError)) {
    length = sizeof(lastError) - 1;
    while (length && (message[length] & 0xc0) == 0x80) // within a character
      --length;
  }
  std::memcpy(lastError, message, length);
  lastError[length] = 0;
  return code;
}

/// Runs the body of an interface function; no exception leaves it.
template <typename Body> setun_status guarded(Body body) {
  try {
    Status status = body();
    return status.ok() ? SETUN_OK : report(status.code(), status.message().c_str());
  } catch (const std::bad_alloc &) {
    return report(SETUN_ERROR_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception &error) {
    return report(SETUN_ERROR_INTERNAL, error.what());
  } catch (...) {
    return report(SETUN_ERROR_INTERNAL, "unknown error");
  }
}

Status notNull(const void *pointer, const char *what) {
  return pointer ? Status() : invalidArgument(std::string(what) + " is a null pointer");
}

Status checkIndex(uint64_t index, uint64_t count, const char *what) {
  if (index < count)
    return Status();
  return invalidArgument("expects " + std::string(what) + " below " + std::to_string(count) + ", got " +
                         std::to_string(index));
}

/// Copies an options struct that may be of an older or newer version of the header.
template <typename Options> Status readOptions(const Options *given, Options &options) {
  options = {};
  if (!given)
    return Status();
  if (given->struct_size < sizeof(given->struct_size))
    return invalidArgument("struct_size of the options is not set");
  std::memcpy(&options, given, std::min(given->struct_size, sizeof(Options)));
  return Status();
}

Status packageOptions(const setun_open_options *given, Package::Options &options) {
  setun_open_options copy;
  SETUN_RETURN_IF_ERROR(readOptions(given, copy));
  options.target = copy.target ? copy.target : "";
  options.features = copy.cpu_features ? parseFeatures(copy.cpu_features) : detectCpuFeatures();
  SETUN_RETURN_IF_ERROR(checkIndex(static_cast<uint32_t>(copy.weights), SETUN_WEIGHTS_COPY + 1, "a place of weights"));
  options.weights = copy.weights;
  return Status();
}

const Manifest &manifest(const setun_package *package) { return package->package->manifest(); }

void describeFile(const setun_package *package, const File &file, setun_file_info *info) {
  info->name = file.name.c_str();
  info->data = package->package->sectionData(file.section);
  info->size = package->package->sectionSize(file.section);
}

const char *nameOrNull(const Entry &entry, int32_t symbol) {
  return symbol >= 0 ? entry.symbols[symbol].c_str() : nullptr;
}

struct TypeInfo {
  const char *name;
  size_t size;
};
const TypeInfo typeInfos[] = {{"bool", 1}, {"i8", 1},  {"u8", 1},   {"i16", 2}, {"i32", 4},
                              {"i64", 8},  {"f16", 2}, {"bf16", 2}, {"f32", 4}, {"f64", 8}};

const TypeInfo *typeInfo(setun_dtype dtype) {
  const unsigned index = static_cast<unsigned>(dtype);
  return index < std::size(typeInfos) ? &typeInfos[index] : nullptr;
}

} // namespace

//===----------------------------------------------------------------------===//
// General
//===----------------------------------------------------------------------===//

const char *setun_last_error(void) { return lastError; }

const char *setun_version(void) { return SETUN_VERSION; }

setun_status setun_cpu_features(char *buffer, size_t size) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(buffer, "the buffer"));
    const std::string features = joinFeatures(detectCpuFeatures());
    if (features.size() >= size)
      return invalidArgument("expects a buffer of at least " + std::to_string(features.size() + 1) + " bytes, got " +
                             std::to_string(size));
    std::memcpy(buffer, features.c_str(), features.size() + 1);
    return Status();
  });
}

size_t setun_dtype_size(setun_dtype dtype) {
  const TypeInfo *info = typeInfo(dtype);
  return info ? info->size : 0;
}

const char *setun_dtype_name(setun_dtype dtype) {
  const TypeInfo *info = typeInfo(dtype);
  return info ? info->name : nullptr;
}

//===----------------------------------------------------------------------===//
// Packages
//===----------------------------------------------------------------------===//

setun_status setun_package_open(const char *path, const setun_open_options *options, setun_package **package) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(path, "the path"));
    SETUN_RETURN_IF_ERROR(notNull(package, "the place for the package"));
    *package = nullptr;
    Package::Options open;
    SETUN_RETURN_IF_ERROR(packageOptions(options, open));
    auto handle = std::make_unique<setun_package>();
    SETUN_RETURN_IF_ERROR(Package::open(path, open, handle->package));
    *package = handle.release();
    return Status();
  });
}

setun_status setun_package_open_memory(const void *data, size_t size, const setun_open_options *options,
                                       setun_package **package) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(data, "the data"));
    SETUN_RETURN_IF_ERROR(notNull(package, "the place for the package"));
    *package = nullptr;
    Package::Options open;
    SETUN_RETURN_IF_ERROR(packageOptions(options, open));
    auto handle = std::make_unique<setun_package>();
    SETUN_RETURN_IF_ERROR(Package::openMemory(static_cast<const uint8_t *>(data), size, open, handle->package));
    *package = handle.release();
    return Status();
  });
}

void setun_package_close(setun_package *package) { delete package; }

setun_status setun_package_verify(setun_package *package) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    return package->package->verifyWeights();
  });
}

uint32_t setun_package_num_entries(const setun_package *package) {
  return package ? static_cast<uint32_t>(manifest(package).entries.size()) : 0;
}

setun_status setun_package_entry(const setun_package *package, uint32_t index, setun_entry_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    SETUN_RETURN_IF_ERROR(checkIndex(index, manifest(package).entries.size(), "an entry"));
    const Entry &entry = manifest(package).entries[index];
    info->name = entry.name.c_str();
    info->num_inputs = static_cast<uint32_t>(entry.inputs.size());
    info->num_states = static_cast<uint32_t>(entry.states.size());
    info->num_outputs = static_cast<uint32_t>(entry.outputs.size());
    info->num_symbols = static_cast<uint32_t>(entry.symbols.size());
    info->symbols = entry.symbolNames.data();
    info->uses_position = entry.usesPosition;
    info->resets_session = entry.resetsSession;
    info->max_context = entry.maxContext;
    info->token_symbol = nameOrNull(entry, entry.tokenSymbol);
    info->tokens = entry.tokens;
    info->capacity_symbol = nameOrNull(entry, entry.capacitySymbol);
    return Status();
  });
}

setun_status setun_package_find_entry(const setun_package *package, const char *name, uint32_t *index) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(name, "the name"));
    SETUN_RETURN_IF_ERROR(notNull(index, "the place for the result"));
    const std::vector<Entry> &entries = manifest(package).entries;
    std::string known;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].name == name) {
        *index = static_cast<uint32_t>(i);
        return Status();
      }
      if (entries[i].name.rfind("__", 0) != 0) // the compiler's own, for self-tests
        known += (known.empty() ? "" : ", ") + quoted(entries[i].name);
    }
    return Status(SETUN_ERROR_NOT_FOUND, "no entry " + quoted(name) + "; the package has " + known);
  });
}

setun_status setun_package_tensor(const setun_package *package, uint32_t entry, setun_role role, uint32_t index,
                                  setun_tensor_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    SETUN_RETURN_IF_ERROR(checkIndex(entry, manifest(package).entries.size(), "an entry"));
    SETUN_RETURN_IF_ERROR(checkIndex(static_cast<unsigned>(role), SETUN_OUTPUT + 1, "a role"));
    const Entry &owner = manifest(package).entries[entry];
    const std::vector<Tensor> &tensors = role == SETUN_INPUT   ? owner.inputs
                                         : role == SETUN_STATE ? owner.states
                                                               : owner.outputs;
    SETUN_RETURN_IF_ERROR(checkIndex(index, tensors.size(), "a tensor"));
    const Tensor &tensor = tensors[index];
    info->name = tensor.name.c_str();
    info->dtype = tensor.dtype;
    info->rank = static_cast<int32_t>(tensor.shape.size());
    info->shape = tensor.sizes.data();
    info->symbols = tensor.symbolNames.data();
    info->below = tensor.below;
    return Status();
  });
}

uint32_t setun_package_num_targets(const setun_package *package) {
  return package ? static_cast<uint32_t>(manifest(package).codes.size()) : 0;
}

setun_status setun_package_target(const setun_package *package, uint32_t index, setun_target_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    SETUN_RETURN_IF_ERROR(checkIndex(index, manifest(package).codes.size(), "a target"));
    const Code &code = manifest(package).codes[index];
    info->name = code.target.c_str();
    info->arch = code.arch.c_str();
    info->num_features = static_cast<uint32_t>(code.features.size());
    info->features = code.featureNames.data();
    info->bytes = package->package->sectionSize(code.section);
    info->runnable = package->package->runnable(code);
    info->selected = package->package->selected() == static_cast<int32_t>(index);
    return Status();
  });
}

uint32_t setun_package_num_layers(const setun_package *package) {
  return package ? static_cast<uint32_t>(manifest(package).layers.size()) : 0;
}

setun_status setun_package_layer(const setun_package *package, uint32_t index, setun_layer_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    SETUN_RETURN_IF_ERROR(checkIndex(index, manifest(package).layers.size(), "a layer"));
    const Layer &layer = manifest(package).layers[index];
    info->name = layer.name.c_str();
    info->rows = layer.rows;
    info->cols = layer.cols;
    info->format = layer.format.c_str();
    info->scale = layer.scale.c_str();
    info->bytes = layer.bytes;
    info->num_kernels = static_cast<uint32_t>(layer.kernels.size());
    info->kernel_targets = layer.targetNames.data();
    info->kernels = layer.kernelNames.data();
    return Status();
  });
}

uint32_t setun_package_num_provenance(const setun_package *package) {
  return package ? static_cast<uint32_t>(manifest(package).provenance.size()) : 0;
}

setun_status setun_package_provenance(const setun_package *package, uint32_t index, const char **key,
                                      const char **value) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(key, "the place for the key"));
    SETUN_RETURN_IF_ERROR(notNull(value, "the place for the value"));
    SETUN_RETURN_IF_ERROR(checkIndex(index, manifest(package).provenance.size(), "an item"));
    *key = manifest(package).provenance[index].first.c_str();
    *value = manifest(package).provenance[index].second.c_str();
    return Status();
  });
}

uint32_t setun_package_num_files(const setun_package *package) {
  return package ? static_cast<uint32_t>(manifest(package).files.size()) : 0;
}

setun_status setun_package_file(const setun_package *package, uint32_t index, setun_file_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    SETUN_RETURN_IF_ERROR(checkIndex(index, manifest(package).files.size(), "a file"));
    describeFile(package, manifest(package).files[index], info);
    return Status();
  });
}

setun_status setun_package_find_file(const setun_package *package, const char *name, setun_file_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(name, "the name"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    for (const File &file : manifest(package).files) {
      if (file.name == name) {
        describeFile(package, file, info);
        return Status();
      }
    }
    return Status(SETUN_ERROR_NOT_FOUND, "no file " + quoted(name) + " in the package");
  });
}

uint64_t setun_package_weights_size(const setun_package *package) {
  return package ? package->package->weightsSize() : 0;
}

int setun_package_weights_copied(const setun_package *package) { return package && package->package->weightsCopied(); }

const char *setun_package_json(const setun_package *package) {
  const char *text = nullptr;
  guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    text = package->package->json().c_str();
    return Status();
  });
  return text;
}

uint32_t setun_package_num_operations(const setun_package *package, uint32_t entry) {
  const std::vector<package::OperationDesc> *operations = package ? package->package->operations(entry) : nullptr;
  return operations ? static_cast<uint32_t>(operations->size()) : 0;
}

setun_status setun_package_operation(const setun_package *package, uint32_t entry, uint32_t index,
                                     setun_operation_info *info) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(info, "the place for the result"));
    SETUN_RETURN_IF_ERROR(checkIndex(entry, manifest(package).entries.size(), "an entry"));
    SETUN_RETURN_IF_ERROR(checkIndex(index, setun_package_num_operations(package, entry), "an operation"));
    const package::OperationDesc &operation = (*package->package->operations(entry))[index];
    info->kind = operation.kind.c_str();
    info->detail = operation.detail.c_str();
    info->name = operation.name.c_str();
    info->shape = operation.shape.c_str();
    info->rows_symbol = nameOrNull(manifest(package).entries[entry], operation.rowsSymbol);
    info->rows = operation.rows;
    info->weight_bytes = operation.weightBytes;
    info->row_bytes = operation.rowBytes;
    info->context_bytes = operation.contextBytes;
    info->int8_macs = operation.int8Macs;
    info->float_macs = operation.floatMacs;
    return Status();
  });
}

//===----------------------------------------------------------------------===//
// Sessions
//===----------------------------------------------------------------------===//

setun_status setun_session_create(setun_package *package, const setun_session_options *options,
                                  setun_session **session) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(package, "the package"));
    SETUN_RETURN_IF_ERROR(notNull(session, "the place for the session"));
    *session = nullptr;
    setun_session_options copy;
    SETUN_RETURN_IF_ERROR(readOptions(options, copy));
    auto handle = std::make_unique<setun_session>();
    SETUN_RETURN_IF_ERROR(Session::create(package->package, {copy.threads, copy.context}, handle->session));
    *session = handle.release();
    return Status();
  });
}

void setun_session_destroy(setun_session *session) { delete session; }

setun_status setun_session_run(setun_session *session, uint32_t entry, const setun_tensor *inputs, uint32_t num_inputs,
                               const setun_tensor *outputs, uint32_t num_outputs) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(session, "the session"));
    return session->session->run(entry, inputs, num_inputs, outputs, num_outputs);
  });
}

setun_status setun_session_output_shape(const setun_session *session, uint32_t entry, const setun_tensor *inputs,
                                        uint32_t num_inputs, uint32_t output, int32_t *rank,
                                        int64_t shape[SETUN_MAX_RANK]) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(session, "the session"));
    SETUN_RETURN_IF_ERROR(notNull(rank, "the place for the rank"));
    SETUN_RETURN_IF_ERROR(notNull(shape, "the place for the shape"));
    return session->session->outputShape(entry, inputs, num_inputs, output, *rank, shape);
  });
}

setun_status setun_session_reset(setun_session *session) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(session, "the session"));
    return session->session->reset();
  });
}

int64_t setun_session_position(const setun_session *session) { return session ? session->session->position() : 0; }

int64_t setun_session_capacity(const setun_session *session) { return session ? session->session->capacity() : 0; }

uint32_t setun_session_threads(const setun_session *session) { return session ? session->session->threads() : 0; }

setun_status setun_session_profile(setun_session *session, int on) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(session, "the session"));
    return session->session->profile(on != 0);
  });
}

setun_status setun_session_entry_time(const setun_session *session, uint32_t entry, setun_profile_time *time) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(session, "the session"));
    SETUN_RETURN_IF_ERROR(notNull(time, "the place for the result"));
    return session->session->entryTime(entry, *time);
  });
}

setun_status setun_session_operation_time(const setun_session *session, uint32_t entry, uint32_t operation,
                                          uint32_t thread, setun_profile_time *time) {
  return guarded([&] {
    SETUN_RETURN_IF_ERROR(notNull(session, "the session"));
    SETUN_RETURN_IF_ERROR(notNull(time, "the place for the result"));
    return session->session->operationTime(entry, operation, thread, *time);
  });
}
