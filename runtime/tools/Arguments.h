//===- Arguments.h - command lines of the runtime's tools -------*- C++ -*-===//
#ifndef SETUN_RUNTIME_TOOLS_ARGUMENTS_H
#define SETUN_RUNTIME_TOOLS_ARGUMENTS_H

#include <charconv>
#include <limits>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace setun {
namespace tools {

/// The words of a command line one by one: a plain word, "--flag", "--name value" or "--name=value".
///
///   while (arguments.next())
///     if (!arguments.isOption()) ...
///     else if (arguments.isFlag("--json")) ...
///     else if (arguments.takes("--entry", value)) ...
///     else return arguments.problem();
class Arguments {
public:
  explicit Arguments(std::vector<std::string> words) : words(std::move(words)) {}

  bool next() {
    if (place == words.size())
      return false;
    name = words[place++];
    error.clear();
    const size_t equals = isOption() ? name.find('=') : std::string::npos;
    hasValue = equals != std::string::npos;
    if (hasValue) {
      attached = name.substr(equals + 1);
      name.resize(equals);
    }
    return true;
  }
  /// The present word; of an option its name alone.
  const std::string &word() const { return name; }
  bool isOption() const { return name.size() > 2 && name.compare(0, 2, "--") == 0; }
  bool isFlag(const char *flag) {
    if (name != flag)
      return false;
    if (hasValue)
      error = "option " + name + " expects no value, got '" + attached + "'";
    return !hasValue;
  }
  /// Takes the value if the present option is `option` and has one.
  bool takes(const char *option, std::string &value) {
    if (name != option)
      return false;
    if (!hasValue && place == words.size()) {
      error = "option " + name + " expects a value";
      return false;
    }
    value = hasValue ? attached : words[place++];
    return true;
  }
  /// What is wrong with the present option, which nobody took.
  std::string problem() const { return error.empty() ? "unknown option " + name : error; }

private:
  std::vector<std::string> words;
  size_t place = 0;
  std::string name, attached, error;
  bool hasValue = false;
};

/// A whole number from 1 to `most`.
template <typename Number>
bool parseNumber(const std::string &text, Number &number, Number most = std::numeric_limits<Number>::max()) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 1 && number <= most;
}

} // namespace tools
} // namespace setun

#endif // SETUN_RUNTIME_TOOLS_ARGUMENTS_H
