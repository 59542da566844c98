//===- Session.cpp - state and threads of one use of a package ------------===//
#include "Session.h"

#include "Cpu.h"
#include "setun/Packing.h"

#include <algorithm>

using namespace setun::runtime;

namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr int64_t kUnbound = -1;

/// "[2, 3]"
std::string shapeText(const int64_t *shape, int32_t rank) {
  std::string text = "[";
  for (int32_t i = 0; i < rank; ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// "[T, 128256]"
std::string shapeText(const Tensor &tensor) {
  std::string text = "[";
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    text += i ? ", " : "";
    text += tensor.symbolNames[i] ? tensor.symbolNames[i] : std::to_string(tensor.sizes[i]);
  }
  return text + "]";
}

std::string typeName(setun_dtype dtype) {
  const char *name = setun_dtype_name(dtype);
  return name ? name : "unknown type " + std::to_string(static_cast<int>(dtype));
}

/// A tensor of the caller that is being checked. Its text is made only for an error: runs do not allocate.
struct Checked {
  const char *role;
  const Entry &entry;
  const Tensor &expected;
  const setun_tensor &given;

  Status error(const std::string &message) const {
    return invalidArgument(std::string(role) + " " + quoted(expected.name) + " of entry " + quoted(entry.name) + ": " +
                           message);
  }

  /// Type and rank, and that the shape can be read.
  Status checkKind() const {
    if (given.dtype != expected.dtype)
      return error("expects " + typeName(expected.dtype) + ", got " + typeName(given.dtype));
    const int32_t rank = static_cast<int32_t>(expected.shape.size());
    if (given.rank != rank)
      return error("expects rank " + std::to_string(rank) + " " + shapeText(expected) + ", got " +
                   std::to_string(given.rank));
    if (rank && !given.shape)
      return error("the shape is a null pointer");
    return Status();
  }

  Status checkSize(const int64_t *dims) const {
    int64_t bytes;
    return expected.byteSize(dims, bytes) ? Status()
                                          : error("shape " + shapeText(given.shape, given.rank) + " is too large");
  }

  Status checkData() const {
    if (!given.data)
      return error("the data is a null pointer");
    const size_t alignment = setun_dtype_size(expected.dtype);
    if (reinterpret_cast<uintptr_t>(given.data) % alignment != 0)
      return error("expects data aligned to " + std::to_string(alignment) + " bytes");
    return Status();
  }

  /// Elements of an index input lie within the table that they index.
  Status checkValues() const {
    if (!expected.below)
      return Status();
    int64_t count = 1; // cannot overflow: checkSize came before
    for (int32_t i = 0; i < given.rank; ++i)
      count *= given.shape[i];
    const int64_t *values = static_cast<const int64_t *>(given.data);
    for (int64_t i = 0; i < count; ++i)
      if (values[i] < 0 || values[i] >= expected.below)
        return error("expects values from 0 to " + std::to_string(expected.below - 1) + ", got " +
                     std::to_string(values[i]) + " at element " + std::to_string(i));
    return Status();
  }
};

/// Holds a session's busy flag, if it was free.
class Claim {
public:
  explicit Claim(std::atomic<bool> &flag) : flag(flag), held(!flag.exchange(true, std::memory_order_acquire)) {}
  ~Claim() {
    if (held)
      flag.store(false, std::memory_order_release);
  }
  Status status() const {
    return held ? Status() : Status(SETUN_ERROR_BUSY, "the session is being used by another thread");
  }

private:
  std::atomic<bool> &flag;
  const bool held;
};

} // namespace

//===----------------------------------------------------------------------===//
// Creation
//===----------------------------------------------------------------------===//

Status Session::create(std::shared_ptr<Package> package, const Options &options, std::unique_ptr<Session> &session) {
  const Manifest &manifest = package->manifest();
  const uint32_t threads = options.threads ? options.threads : std::min(usableCpus(), kMaxThreads);
  if (threads > kMaxThreads)
    return invalidArgument("expects at most " + std::to_string(kMaxThreads) + " threads, got " +
                           std::to_string(threads));
  const int64_t maxContext = manifest.maxContext();
  if (options.context < 0)
    return invalidArgument("expects a context of at least 1 token, got " + std::to_string(options.context));
  if (maxContext && options.context > maxContext)
    return invalidArgument("expects a context of at most " + std::to_string(maxContext) + " tokens, got " +
                           std::to_string(options.context));
  const int64_t capacity = options.context ? options.context : maxContext;
  for (const Entry &entry : manifest.entries)
    if (entry.capacitySymbol >= 0 && capacity == 0)
      return invalidArgument("the package sets no largest context, so the session's must be given");

  SETUN_RETURN_IF_ERROR(package->ready());
  std::unique_ptr<Session> created(new Session(*package));
  created->keepAlive = std::move(package);
  SETUN_RETURN_IF_ERROR(created->initialize(threads, capacity));
  if (!options.threads && threads > 1)
    created->estimateWork();
  session = std::move(created);
  return Status();
}

Status Session::initialize(uint32_t threads, int64_t capacity) {
  contextCapacity = capacity;
  SETUN_RETURN_IF_ERROR(allocateStates());
  SETUN_RETURN_IF_ERROR(ThreadPool::create(threads, pool));
  // One row or token is what most calls have; longer ones enlarge the workspace when they come.
  const std::vector<Entry> &entries = package.manifest().entries;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    int64_t dims[kMaxSymbols];
    std::fill_n(dims, kMaxSymbols, 1);
    if (entries[i].capacitySymbol >= 0)
      dims[entries[i].capacitySymbol] = contextCapacity;
    // Not every entry can be run with sizes of 1.
    if (Status status = reserveWorkspace(i, dims); status.code() != SETUN_ERROR_INVALID_ARGUMENT)
      SETUN_RETURN_IF_ERROR(std::move(status));
  }
  return Status();
}

void Session::estimateWork() {
  // Rates of one core as of about 2020, from cache; that they are off by half does not matter much.
  constexpr double bytesPerNs = 32, int8MacsPerNs = 200, floatMacsPerNs = 16;
  const std::vector<Entry> &entries = package.manifest().entries;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    Work work;
    work.of.resize(entries[i].symbols.size());
    if (const std::vector<package::OperationDesc> *operations = package.operations(i))
      for (const package::OperationDesc &operation : *operations) {
        const double macs = operation.int8Macs / int8MacsPerNs + operation.floatMacs / floatMacsPerNs;
        const double bytes = operation.weightBytes / bytesPerNs;
        work.perContextToken += operation.contextBytes / bytesPerNs;
        // Weights are read for one row as for many.
        if (operation.rowsSymbol < 0)
          work.fixed += std::max(bytes, macs * operation.rows);
        else
          work.of[operation.rowsSymbol] += std::max(bytes, macs);
        work.meetings += operation.int8Macs > 0 || operation.floatMacs > 0;
      }
    works.push_back(std::move(work));
  }
}

bool Session::isBetterAlone(uint32_t index, const int64_t *dims, int64_t position) const {
  if (works.empty())
    return false;
  const Work &work = works[index];
  double alone = work.fixed + work.perContextToken * static_cast<double>(position);
  for (size_t symbol = 0; symbol < work.of.size(); ++symbol)
    alone += work.of[symbol] * static_cast<double>(dims[symbol]);
  // Besides the barrier itself threads lose what they read from one another's caches, and what one has more to do than
  // another: measured, about seven barriers more.
  return alone * (1 - 1.0 / threads()) < work.meetings * 8 * pool->barrierNanoseconds();
}

Status Session::allocateStates() {
  for (const Entry &entry : package.manifest().entries) {
    const size_t count = entry.inputs.size() + entry.states.size() + entry.outputs.size();
    std::vector<void *> &pointers = buffers.emplace_back(count, nullptr);
    int64_t dims[kMaxSymbols];
    std::fill_n(dims, kMaxSymbols, 1);
    if (entry.capacitySymbol >= 0) {
      // Code may keep rows in blocks; the last one is whole.
      if (contextCapacity > INT64_MAX - packing::kCacheBlockRows)
        return Status(SETUN_ERROR_OUT_OF_MEMORY,
                      "a context of " + std::to_string(contextCapacity) + " tokens is too large");
      dims[entry.capacitySymbol] = packing::BlockedCache::paddedRows(contextCapacity);
    }
    for (size_t i = 0; i < entry.states.size(); ++i) {
      const Tensor &state = entry.states[i];
      auto [place, added] = states.try_emplace(state.name);
      if (added) {
        const std::string what = "state " + quoted(state.name);
        int64_t bytes = 0;
        if (!state.byteSize(dims, bytes))
          return Status(SETUN_ERROR_OUT_OF_MEMORY, what + " is too large");
        SETUN_RETURN_IF_ERROR(Mapping::anonymous(static_cast<size_t>(bytes), what, place->second));
      }
      pointers[entry.inputs.size() + i] = place->second.data();
    }
  }
  return Status();
}

Status Session::refusal(uint32_t index, const int64_t *dims, int64_t bytes) const {
  const Entry &entry = package.manifest().entries[index];
  const package::CodeEntry *code = package.selectedEntry(index);
  const uint64_t condition = static_cast<uint64_t>(-1 - bytes);
  if (!code || condition >= code->conditions.size())
    return Status(SETUN_ERROR_INTERNAL,
                  "entry " + quoted(entry.name) + " asks for " + std::to_string(bytes) + " bytes of workspace");
  std::string sizes;
  for (size_t i = 0; i < entry.symbols.size(); ++i)
    sizes += (i ? ", " : "") + entry.symbols[i] + " = " + std::to_string(dims[i]);
  return invalidArgument("entry " + quoted(entry.name) + ": " + code->conditions[condition] + "; got " + sizes);
}

Status Session::reserveWorkspace(uint32_t entry, const int64_t *dims) {
  const int64_t bytes = package.functions()[entry].workspace(dims, pool->size());
  if (bytes < 0)
    return refusal(entry, dims, bytes);
  if (static_cast<uint64_t>(bytes) <= workspace.size())
    return Status();
  Mapping larger;
  SETUN_RETURN_IF_ERROR(Mapping::anonymous(static_cast<size_t>(bytes), "workspace", larger));
  workspace = std::move(larger);
  return Status();
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

Status Session::findEntry(uint32_t index, const Entry *&entry) const {
  const std::vector<Entry> &entries = package.manifest().entries;
  if (index >= entries.size())
    return invalidArgument("expects an entry below " + std::to_string(entries.size()) + ", got " +
                           std::to_string(index));
  entry = &entries[index];
  return Status();
}

Status Session::bind(const Entry &entry, const setun_tensor *inputs, uint32_t numInputs, int64_t *dims) const {
  if (numInputs != entry.inputs.size())
    return invalidArgument("entry " + quoted(entry.name) + " expects " + std::to_string(entry.inputs.size()) +
                           " inputs, got " + std::to_string(numInputs));
  if (numInputs && !inputs)
    return invalidArgument("entry " + quoted(entry.name) + ": the inputs are a null pointer");
  std::fill_n(dims, kMaxSymbols, kUnbound);
  if (entry.capacitySymbol >= 0)
    dims[entry.capacitySymbol] = contextCapacity;

  for (uint32_t i = 0; i < numInputs; ++i) {
    const Tensor &expected = entry.inputs[i];
    const setun_tensor &given = inputs[i];
    const Checked checked{"input", entry, expected, given};
    SETUN_RETURN_IF_ERROR(checked.checkKind());
    for (size_t d = 0; d < expected.shape.size(); ++d) {
      const int32_t symbol = expected.shape[d].symbol;
      const int64_t wanted = symbol >= 0 ? dims[symbol] : expected.shape[d].size;
      if (given.shape[d] < 1 || (wanted != kUnbound && given.shape[d] != wanted))
        return checked.error("dimension " + std::to_string(d) +
                             (symbol >= 0 ? " (" + entry.symbols[symbol] + ")" : std::string()) + " expects " +
                             (wanted == kUnbound ? "at least 1" : std::to_string(wanted)) + ", got " +
                             std::to_string(given.shape[d]));
      if (symbol >= 0)
        dims[symbol] = given.shape[d];
    }
    SETUN_RETURN_IF_ERROR(checked.checkSize(dims));
  }
  return Status();
}

Status Session::checkOutputs(const Entry &entry, const setun_tensor *outputs, uint32_t numOutputs,
                             const int64_t *dims) const {
  if (numOutputs != entry.outputs.size())
    return invalidArgument("entry " + quoted(entry.name) + " expects " + std::to_string(entry.outputs.size()) +
                           " outputs, got " + std::to_string(numOutputs));
  if (numOutputs && !outputs)
    return invalidArgument("entry " + quoted(entry.name) + ": the outputs are a null pointer");
  for (uint32_t i = 0; i < numOutputs; ++i) {
    const Tensor &expected = entry.outputs[i];
    const setun_tensor &given = outputs[i];
    const Checked checked{"output", entry, expected, given};
    SETUN_RETURN_IF_ERROR(checked.checkKind());
    int64_t shape[package::kMaxRank];
    bool same = true;
    for (size_t d = 0; d < expected.shape.size(); ++d) {
      shape[d] = expected.shape[d].symbol >= 0 ? dims[expected.shape[d].symbol] : expected.shape[d].size;
      same &= shape[d] == given.shape[d];
    }
    if (!same)
      return checked.error("expects shape " + shapeText(shape, given.rank) + ", got " +
                           shapeText(given.shape, given.rank));
    SETUN_RETURN_IF_ERROR(checked.checkSize(dims));
    SETUN_RETURN_IF_ERROR(checked.checkData());
  }
  return Status();
}

Status Session::run(uint32_t index, const setun_tensor *inputs, uint32_t numInputs, const setun_tensor *outputs,
                    uint32_t numOutputs) {
  Claim claim(busy);
  SETUN_RETURN_IF_ERROR(claim.status());
  const Entry *entry;
  SETUN_RETURN_IF_ERROR(findEntry(index, entry));
  int64_t dims[kMaxSymbols];
  SETUN_RETURN_IF_ERROR(bind(*entry, inputs, numInputs, dims));
  for (uint32_t i = 0; i < numInputs; ++i) {
    const Checked input{"input", *entry, entry->inputs[i], inputs[i]};
    SETUN_RETURN_IF_ERROR(input.checkData());
    SETUN_RETURN_IF_ERROR(input.checkValues());
  }
  SETUN_RETURN_IF_ERROR(checkOutputs(*entry, outputs, numOutputs, dims));

  const int64_t start = entry->usesPosition && !entry->resetsSession ? position() : 0;
  const int64_t advance = entry->advance(dims);
  if (entry->usesPosition && advance > (contextCapacity ? contextCapacity : INT64_MAX) - start)
    return Status(SETUN_ERROR_CAPACITY, "entry " + quoted(entry->name) + ": " + std::to_string(advance) +
                                            " tokens after the " + std::to_string(start) +
                                            " in the session exceed its context of " +
                                            std::to_string(contextCapacity ? contextCapacity : INT64_MAX));
  SETUN_RETURN_IF_ERROR(reserveWorkspace(index, dims));
  if (pool->isForked()) // the session was taken along, its threads were not
    SETUN_RETURN_IF_ERROR(ThreadPool::create(threads(), pool));

  if (entry->resetsSession)
    clear();
  std::vector<void *> &pointers = buffers[index];
  for (uint32_t i = 0; i < numInputs; ++i)
    pointers[i] = inputs[i].data;
  for (uint32_t i = 0; i < numOutputs; ++i)
    pointers[entry->inputs.size() + entry->states.size() + i] = outputs[i].data;

  setun_invocation invocation = {};
  invocation.abi_version = SETUN_ENTRY_ABI_VERSION;
  invocation.weights = package.weights();
  invocation.workspace = workspace.data();
  invocation.buffers = pointers.data();
  invocation.dims = dims;
  invocation.position = start;
  empty &= entry->states.empty();
  if (profiling)
    profileTimes->begin(index, invocation);
  pool->run(package.functions()[index].run, invocation, isBetterAlone(index, dims, start));
  if (profiling)
    profileTimes->end(index);
  if (entry->usesPosition)
    tokens.store(start + advance, std::memory_order_relaxed);
  return Status();
}

Status Session::outputShape(uint32_t index, const setun_tensor *inputs, uint32_t numInputs, uint32_t output,
                            int32_t &rank, int64_t *shape) const {
  const Entry *entry;
  SETUN_RETURN_IF_ERROR(findEntry(index, entry));
  int64_t dims[kMaxSymbols];
  SETUN_RETURN_IF_ERROR(bind(*entry, inputs, numInputs, dims));
  if (output >= entry->outputs.size())
    return invalidArgument("entry " + quoted(entry->name) + " expects an output below " +
                           std::to_string(entry->outputs.size()) + ", got " + std::to_string(output));
  const Tensor &tensor = entry->outputs[output];
  rank = static_cast<int32_t>(tensor.shape.size());
  for (size_t d = 0; d < tensor.shape.size(); ++d)
    shape[d] = tensor.shape[d].symbol >= 0 ? dims[tensor.shape[d].symbol] : tensor.shape[d].size;
  return Status();
}

void Session::clear() {
  if (!empty)
    for (auto &state : states)
      state.second.clear();
  empty = true;
  tokens.store(0, std::memory_order_relaxed);
}

Status Session::reset() {
  Claim claim(busy);
  SETUN_RETURN_IF_ERROR(claim.status());
  clear();
  return Status();
}

//===----------------------------------------------------------------------===//
// Profile
//===----------------------------------------------------------------------===//

Status Session::profile(bool on) {
  Claim claim(busy);
  SETUN_RETURN_IF_ERROR(claim.status());
  if (on) {
    std::vector<uint32_t> operations;
    for (uint32_t i = 0; i < package.manifest().entries.size(); ++i)
      operations.push_back(package.operations(i) ? static_cast<uint32_t>(package.operations(i)->size()) : 0);
    profileTimes = std::make_unique<Profile>(operations, threads());
  }
  profiling = on;
  return Status();
}

Status Session::entryTime(uint32_t index, setun_profile_time &time) const {
  Claim claim(busy);
  SETUN_RETURN_IF_ERROR(claim.status());
  const Entry *entry;
  SETUN_RETURN_IF_ERROR(findEntry(index, entry));
  time = profileTimes ? profileTimes->entry(index) : setun_profile_time();
  return Status();
}

Status Session::operationTime(uint32_t index, uint32_t operation, uint32_t thread, setun_profile_time &time) const {
  Claim claim(busy);
  SETUN_RETURN_IF_ERROR(claim.status());
  const Entry *entry;
  SETUN_RETURN_IF_ERROR(findEntry(index, entry));
  const auto *operations = package.operations(index);
  const size_t count = operations ? operations->size() : 0;
  if (operation >= count)
    return invalidArgument("entry " + quoted(entry->name) + " expects an operation below " + std::to_string(count) +
                           ", got " + std::to_string(operation));
  if (thread >= threads())
    return invalidArgument("expects a thread below " + std::to_string(threads()) + ", got " + std::to_string(thread));
  time = profileTimes ? profileTimes->operation(index, operation, thread) : setun_profile_time();
  return Status();
}

Status Session::record(const Package &package, uint32_t index, const std::vector<int64_t> &dims,
                       const std::vector<std::vector<uint8_t>> &inputs, std::vector<std::vector<uint8_t>> &outputs) {
  const Entry &entry = package.manifest().entries[index];
  Session session(package);
  SETUN_RETURN_IF_ERROR(session.initialize(1, entry.capacitySymbol >= 0 ? dims[entry.capacitySymbol] : 1));
  if (entry.capacitySymbol < 0)
    session.contextCapacity = 0;

  outputs.clear();
  for (const Tensor &output : entry.outputs) {
    int64_t bytes = 0;
    if (!output.byteSize(dims.data(), bytes))
      return Status(SETUN_ERROR_OUT_OF_MEMORY, "output " + quoted(output.name) + " is too large");
    outputs.emplace_back(static_cast<size_t>(bytes));
  }
  std::vector<std::vector<int64_t>> shapes;
  auto tensors = [&](const std::vector<Tensor> &descriptions, const std::vector<std::vector<uint8_t>> &data) {
    std::vector<setun_tensor> list;
    for (size_t i = 0; i < descriptions.size(); ++i) {
      std::vector<int64_t> &shape = shapes.emplace_back();
      for (const Dim &dim : descriptions[i].shape)
        shape.push_back(dim.symbol >= 0 ? dims[dim.symbol] : dim.size);
      list.push_back(
          {const_cast<uint8_t *>(data[i].data()), descriptions[i].dtype, static_cast<int32_t>(shape.size()), nullptr});
    }
    return list;
  };
  std::vector<setun_tensor> in = tensors(entry.inputs, inputs), out = tensors(entry.outputs, outputs);
  for (size_t i = 0; i < shapes.size(); ++i)
    (i < in.size() ? in[i] : out[i - in.size()]).shape = shapes[i].data();
  return session.run(index, in.data(), static_cast<uint32_t>(in.size()), out.data(), static_cast<uint32_t>(out.size()));
}
