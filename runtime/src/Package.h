//===- Package.h - an open package ------------------------------*- C++ -*-===//
#ifndef SETUN_RUNTIME_PACKAGE_H
#define SETUN_RUNTIME_PACKAGE_H

#include "ElfImage.h"
#include "Manifest.h"
#include "Memory.h"
#include "Status.h"
#include "setun/EntryABI.h"
#include "setun/Package.h"

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace setun {
namespace runtime {

/// The functions of one entry.
struct EntryFunctions {
  setun_entry_fn run = nullptr;
  setun_workspace_fn workspace = nullptr;
};

class Package : public std::enable_shared_from_this<Package> {
public:
  struct Options {
    std::string target; ///< empty: the best that runs here
    std::set<std::string> features;
    setun_weights weights = SETUN_WEIGHTS_AUTO;
  };

  static Status open(const std::string &path, const Options &options, std::shared_ptr<Package> &package);
  static Status openMemory(const uint8_t *data, size_t size, const Options &options, std::shared_ptr<Package> &package);

  const Manifest &manifest() const { return contents; }
  /// Where code reads the weights.
  const uint8_t *weights() const { return weightsCopy.size() ? weightsCopy.data() : sectionData(weightsSection); }
  bool weightsCopied() const {
    std::lock_guard<std::mutex> lock(loadMutex);
    return weightsCopy.size() != 0;
  }
  uint64_t weightsSize() const { return sections[weightsSection].size; }
  const uint8_t *sectionData(uint32_t index) const { return base + sections[index].offset; }
  uint64_t sectionSize(uint32_t index) const { return sections[index].size; }
  uint64_t fileSize() const { return size; }

  /// Index of the code section that sessions use, or -1 if none can run here.
  int32_t selected() const { return selectedCode; }
  bool runnable(const Code &code) const;
  /// The operations of an entry in the selected code section; null if there is no such entry or section.
  const std::vector<package::OperationDesc> *operations(uint32_t entry) const {
    const package::CodeEntry *code = selectedEntry(entry);
    return code ? &code->operations : nullptr;
  }
  /// An entry in the selected code section; null if there is no such entry or section.
  const package::CodeEntry *selectedEntry(uint32_t entry) const {
    if (selectedCode < 0 || entry >= contents.entries.size())
      return nullptr;
    return &contents.codes[selectedCode].entries[entry];
  }
  /// Reads all weights and compares their checksum.
  Status verifyWeights() const;
  /// Loads the selected code and runs its self-tests, once; later calls return the same result.
  Status ready();
  /// The loaded functions of each entry; only after ready() succeeded.
  const std::vector<EntryFunctions> &functions() const { return entryFunctions; }
  /// All about the package as JSON.
  const std::string &json();

  /// For tests of everything around the code: these functions stand in for those of the package.
  void replaceFunctions(std::vector<EntryFunctions> functions);

private:
  Status check();
  Status checkHeader();
  Status checkSections();
  Status checkContents();
  Status checkChecksum(uint32_t section, const uint8_t *data, const std::string &what) const;
  /// Settles which code runs here.
  Status select();
  void selectBest();
  /// Why none does.
  Status nothingRuns() const;
  /// What to do where nothing runs.
  std::string cure() const;
  Status load();
  bool isFile() const { return !path.empty(); }
  bool copyPays() const;
  Status copyWeights();
  Status selfTest();

  std::string path; ///< empty for a package in memory
  Options options;
  Mapping mapping; ///< of the file, or a copy of memory; empty for borrowed memory
  const uint8_t *base = nullptr;
  uint64_t size = 0;
  package::FileHeader header = {};
  std::vector<package::SectionRecord> sections;
  uint32_t weightsSection = 0;
  uint32_t manifestSection = 0;
  Manifest contents;
  int32_t selectedCode = -1;
  Status selectStatus;
  std::string refusal; ///< what the system said to features that it did not permit

  mutable std::mutex loadMutex; ///< guards what follows
  bool loaded = false;
  Status loadStatus;
  ElfImage image;
  Mapping weightsCopy; ///< empty where there is none
  std::vector<EntryFunctions> entryFunctions;

  std::once_flag jsonOnce;
  std::string jsonText;
};

/// The package as JSON.
std::string describe(const Package &package);

} // namespace runtime
} // namespace setun

#endif // SETUN_RUNTIME_PACKAGE_H
