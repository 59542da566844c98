//===- Arguments.h - command lines of the tools -----------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_TOOLS_ARGUMENTS_H
#define SETUN_RUNTIME_TOOLS_ARGUMENTS_H

#include "setun/setun.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace setun {
namespace tools {

/// A whole number from 1 to `most`.
template <typename Number>
bool parseNumber(const std::string &text, Number &number, Number most = std::numeric_limits<Number>::max()) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 1 && number <= most;
}

/// What a tool takes: one file, flags ("--json") and options with a value ("--entry NAME" or "--entry=NAME").
class CommandLine {
public:
  /// Takes the value of an option; returns what is wrong with it, or nothing.
  using Taker = std::function<std::string(const std::string &value)>;

  explicit CommandLine(std::string &file, const char *what = "package") : file(file), what(what) {}

  void flag(const char *name, bool &set) { flags[name] = &set; }
  void option(const char *name, Taker taker) { takers[name] = std::move(taker); }
  void text(const char *name, std::string &text) {
    option(name, [&text](const std::string &value) {
      text = value;
      return std::string();
    });
  }
  /// May be given several times.
  void texts(const char *name, std::vector<std::string> &list) {
    option(name, [&list](const std::string &value) {
      list.push_back(value);
      return std::string();
    });
  }
  /// NAME=FILE; may be given several times.
  void namedFiles(const char *name, std::vector<std::pair<std::string, std::string>> &list) {
    option(name, [&list](const std::string &value) {
      const size_t split = value.find('=');
      if (split == 0 || split == std::string::npos || split + 1 == value.size())
        return "expects NAME=FILE, got '" + value + "'";
      list.emplace_back(value.substr(0, split), value.substr(split + 1));
      return std::string();
    });
  }
  /// A whole number of at least 1.
  template <typename Number> void number(const char *name, Number &number) {
    option(name, [&number](const std::string &value) {
      return parseNumber(value, number) ? std::string() : "expects a number of at least 1, got '" + value + "'";
    });
  }

  /// Returns what is wrong, or nothing.
  std::string parse(const std::vector<std::string> &words) const {
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string &word = words[i];
      if (word.size() < 2 || word[0] != '-') {
        if (!file.empty())
          return "expects one " + what + ", got '" + file + "' and '" + word + "'";
        file = word;
        continue;
      }
      const size_t equals = word.find('=');
      const bool attached = equals != std::string::npos;
      const std::string name = word.substr(0, equals);
      if (auto flag = flags.find(name); flag != flags.end()) {
        if (attached)
          return "option " + name + " expects no value, got '" + word.substr(equals + 1) + "'";
        *flag->second = true;
      } else if (auto taker = takers.find(name); taker != takers.end()) {
        const std::string value = attached ? word.substr(equals + 1) : ++i < words.size() ? words[i] : std::string();
        if (value.empty())
          return "option " + name + " expects a value";
        if (std::string wrong = taker->second(value); !wrong.empty())
          return name + " " + wrong;
      } else {
        return "unknown option " + name;
      }
    }
    return std::string();
  }

private:
  std::string &file;
  const std::string what;
  std::map<std::string, bool *> flags;
  std::map<std::string, Taker> takers;
};

/// The main function of a tool: --help, --version, messages and exit status (0, 1 after a failure, 2 for wrong
/// arguments). `parse` and `run` return what is wrong, or nothing.
template <typename Options>
int runTool(const std::string &tool, const char *help, int argc, char **argv,
            std::string (*parse)(const std::vector<std::string> &words, Options &options),
            std::string (*run)(const Options &options)) {
  auto fail = [&](const std::string &message, int status) {
    std::fprintf(stderr, "%s: error: %s\n", tool.c_str(), message.c_str());
    return status;
  };
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    for (const std::string &word : words) {
      if (word == "--help" || word == "-h") {
        std::fputs(help, stdout);
        return 0;
      }
      if (word == "--version") {
        std::printf("%s %s\n", tool.c_str(), setun_version());
        return 0;
      }
    }
    Options options;
    if (std::string message = parse(words, options); !message.empty())
      return fail(message + " (see " + tool + " --help)", 2);
    if (std::string message = run(options); !message.empty())
      return fail(message, 1);
  } catch (const std::exception &error) {
    return fail(error.what(), 1);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    return fail(std::string("cannot write to standard output: ") + std::strerror(errno), 1);
  return 0;
}

} // namespace tools
} // namespace setun

#endif // SETUN_RUNTIME_TOOLS_ARGUMENTS_H
