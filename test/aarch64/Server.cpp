//===- Server.cpp - runs packages for a test on another machine -----------===//
//
// Reads requests from standard input and answers on standard output, so that one start of an emulator serves any number
// of runs. emulator.py is the other side. Numbers are little-endian, a text is its u32 length and its bytes, a tensor
// its type and rank (u8 each), sizes (i64) and data. An answer is a byte: 0 and the result, or 1 and a message.
//
//   'f'                                      text: features of the CPU
//   'o' text package, text target ("": the best), u32 threads, i64 context
//                                            u32: number of the new session, text: the package as JSON
//   'r' u32 session, text entry, u32 count, count tensors (inputs in the entry's order)
//                                            u32 count, count times: text name, tensor
//   'z' as 'r', with the caller's matrix tiles waiting to be saved (the CPU must have SME)
//                                            u8: 0 if they still wait, 1 if they were saved as they were, 2 if not so
//   'c' u32 session                          nothing; the session is closed
//
//===----------------------------------------------------------------------===//
#include "../../runtime/tools/Outputs.h"
#include "setun/Handles.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>

using namespace setun::tools;

namespace {

struct Opened {
  setun::PackagePointer package;
  setun::SessionPointer session; // goes before its package
};

void check(setun_status status) {
  if (status != SETUN_OK)
    throw std::runtime_error(setun_last_error());
}

/// Without the rest of a request there is nobody to answer.
void readBytes(void *data, size_t size) {
  if (size && std::fread(data, size, 1, stdin) != 1)
    std::exit(1);
}

template <typename Number> Number readNumber() {
  Number number;
  readBytes(&number, sizeof(number));
  return number;
}

std::string readText() {
  std::string text(readNumber<uint32_t>(), '\0');
  readBytes(text.data(), text.size());
  return text;
}

Array readTensor() {
  Array array;
  array.dtype = static_cast<setun_dtype>(readNumber<uint8_t>());
  array.shape.resize(readNumber<uint8_t>());
  size_t bytes = setun_dtype_size(array.dtype);
  for (int64_t &size : array.shape) {
    size = readNumber<int64_t>();
    bytes *= static_cast<size_t>(size);
  }
  array.data.resize(bytes);
  readBytes(array.data.data(), bytes);
  return array;
}

/// An answer under construction.
class Answer {
public:
  template <typename Number> void number(Number value) {
    bytes.append(reinterpret_cast<const char *>(&value), sizeof(value));
  }
  void text(const std::string &value) {
    number(static_cast<uint32_t>(value.size()));
    bytes += value;
  }
  void tensor(const Array &array) {
    number(static_cast<uint8_t>(array.dtype));
    number(static_cast<uint8_t>(array.shape.size()));
    for (int64_t size : array.shape)
      number(size);
    bytes.append(reinterpret_cast<const char *>(array.data.data()), array.data.size());
  }
  void send(uint8_t status) const {
    std::fputc(status, stdout);
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }

private:
  std::string bytes;
};

/// A caller that leaves its tiles to be saved by whoever needs them, as the procedure call standard has it.
class WaitingTiles {
public:
  WaitingTiles() {
    asm volatile(".arch_extension sme\n rdsvl %0, #1" : "=r"(rowBytes));
    tiles.resize(rowBytes * rowBytes);
    for (size_t i = 0; i < tiles.size(); ++i)
      tiles[i] = static_cast<uint8_t>(i * 31 + i / 256);
    saved.resize(tiles.size());
    block = {saved.data(), static_cast<uint16_t>(rowBytes), {}};
    asm volatile("smstart za" ::: "memory");
    for (uint64_t row = 0; row < rowBytes; ++row)
      asm volatile("mov w12, %w0\n ldr za[w12, 0], [%1]" ::"r"(row), "r"(&tiles[row * rowBytes]) : "w12", "memory");
    setWaiting(&block);
  }
  ~WaitingTiles() {
    setWaiting(nullptr);
    asm volatile("smstop za" ::: "memory");
  }
  uint8_t state() const {
    const Block *waiting;
    asm volatile("mrs %0, S3_3_C13_C0_5" : "=r"(waiting)::"memory"); // TPIDR2_EL0
    return waiting ? (waiting == &block ? 0 : 2) : (saved == tiles ? 1 : 2);
  }

private:
  struct Block {
    uint8_t *buffer;
    uint16_t rows;
    uint8_t reserved[6];
  };
  static void setWaiting(const Block *waiting) { asm volatile("msr S3_3_C13_C0_5, %0" ::"r"(waiting) : "memory"); }

  uint64_t rowBytes;
  std::vector<uint8_t> tiles, saved;
  Block block;
};

class Server {
public:
  void answer(char request, Answer &answer) {
    switch (request) {
    case 'f':
      return features(answer);
    case 'o':
      return open(answer);
    case 'r':
      return run(answer);
    case 'z':
      return runWithTiles(answer);
    case 'c':
      sessions.erase(readNumber<uint32_t>());
      return;
    default:
      std::exit(1); // where the next request begins is unknown
    }
  }

private:
  void features(Answer &answer) {
    char names[4096];
    check(setun_cpu_features(names, sizeof(names)));
    answer.text(names);
  }

  void open(Answer &answer) {
    const std::string path = readText(), target = readText();
    setun_session_options sessionOptions = {sizeof(sessionOptions), 0, 0};
    sessionOptions.threads = readNumber<uint32_t>();
    sessionOptions.context = readNumber<int64_t>();
    const setun_open_options options = {sizeof(options), target.empty() ? nullptr : target.c_str(), nullptr,
                                        SETUN_WEIGHTS_AUTO};
    Opened opened;
    setun_package *package = nullptr;
    check(setun_package_open(path.c_str(), &options, &package));
    opened.package.reset(package);
    setun_session *session = nullptr;
    check(setun_session_create(package, &sessionOptions, &session));
    opened.session.reset(session);
    answer.number(next);
    answer.text(setun_package_json(package));
    sessions.emplace(next++, std::move(opened));
  }

  void run(Answer &answer) {
    const uint32_t number = readNumber<uint32_t>();
    const std::string name = readText();
    std::vector<Array> inputs(readNumber<uint32_t>());
    std::vector<setun_tensor> inputTensors, outputTensors;
    for (Array &input : inputs) {
      input = readTensor();
      inputTensors.push_back(input.tensor());
    }
    const Opened &opened = sessions.at(number);
    uint32_t entry = 0;
    check(setun_package_find_entry(opened.package.get(), name.c_str(), &entry));
    std::vector<NamedArray> outputs;
    if (auto error = makeOutputs(opened.package.get(), opened.session.get(), entry, inputTensors, outputs))
      throw std::runtime_error(*error);
    for (NamedArray &output : outputs)
      outputTensors.push_back(output.array.tensor());
    check(setun_session_run(opened.session.get(), entry, inputTensors.data(),
                            static_cast<uint32_t>(inputTensors.size()), outputTensors.data(),
                            static_cast<uint32_t>(outputTensors.size())));
    answer.number(static_cast<uint32_t>(outputs.size()));
    for (const NamedArray &output : outputs) {
      answer.text(output.name);
      answer.tensor(output.array);
    }
  }

  void runWithTiles(Answer &answer) {
    const WaitingTiles tiles;
    Answer outputs;
    run(outputs);
    answer.number(tiles.state());
  }

  std::map<uint32_t, Opened> sessions;
  uint32_t next = 0;
};

} // namespace

int main() {
  Server server;
  for (int request; (request = std::fgetc(stdin)) != EOF;) {
    Answer answer;
    try {
      server.answer(static_cast<char>(request), answer);
      answer.send(0);
    } catch (const std::exception &error) {
      Answer message;
      message.text(error.what());
      message.send(1);
    }
  }
  return 0;
}
