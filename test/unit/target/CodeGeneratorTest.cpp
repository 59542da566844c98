//===- CodeGeneratorTest.cpp - from the LLVM dialect to code sections -------------===//
#include "lib/Translation/CodeGenerator.h"
#include "lib/Translation/Link.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Object/ELF.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include "gtest/gtest.h"

using namespace llvm;
using namespace setun;

namespace {

/// Compiles modules of the LLVM dialect.
class CodeGeneratorTest : public testing::Test {
protected:
  void prepare(StringRef name) {
    auto targets = parseTargets(name);
    ASSERT_TRUE(static_cast<bool>(targets)) << toString(targets.takeError());
    auto created = CodeGenerator::create(targets->front());
    ASSERT_TRUE(static_cast<bool>(created)) << toString(created.takeError());
    generator = std::move(*created);
  }

  std::unique_ptr<Module> translate(StringRef text, std::vector<std::string> exported = {"entry"}) {
    mlir::DialectRegistry registry;
    registry.insert<mlir::LLVM::LLVMDialect>();
    registerTranslations(registry);
    context = std::make_unique<mlir::MLIRContext>(registry, mlir::MLIRContext::Threading::DISABLED);
    context->loadAllAvailableDialects();
    mlir::OwningOpRef<mlir::ModuleOp> module = mlir::parseSourceString<mlir::ModuleOp>(text, context.get());
    if (!module)
      return nullptr;
    return generator->translate(*module, exported);
  }

  std::string emit(Module &module, CodeGenerator::Output output) {
    SmallVector<char, 0> text;
    Error error = generator->emit(module, output, text);
    EXPECT_FALSE(static_cast<bool>(error)) << toString(std::move(error));
    return std::string(text.begin(), text.end());
  }

  std::string assembly(StringRef text) {
    auto module = translate(text);
    if (!module) {
      ADD_FAILURE() << "not translated";
      return "";
    }
    generator->optimise(*module);
    return emit(*module, CodeGenerator::Output::Assembly);
  }

  Expected<std::vector<uint8_t>> image(StringRef text, std::vector<std::string> exported = {"entry"}) {
    auto module = translate(text, exported);
    if (!module)
      return createStringError("not translated");
    generator->optimise(*module);
    std::string object = emit(*module, CodeGenerator::Output::Object);
    return linkImage(ArrayRef<char>(object.data(), object.size()));
  }

  std::unique_ptr<CodeGenerator> generator;
  std::unique_ptr<mlir::MLIRContext> context;
};

const char *const fill = R"(
  llvm.func @entry(%p: !llvm.ptr, %q: !llvm.ptr, %n: i64) {
    %zero = llvm.mlir.constant(0 : i8) : i8
    "llvm.intr.memset"(%p, %zero, %n) <{isVolatile = false}> : (!llvm.ptr, i8, i64) -> ()
    "llvm.intr.memcpy"(%q, %p, %n) <{isVolatile = false}> : (!llvm.ptr, !llvm.ptr, i64) -> ()
    "llvm.intr.memmove"(%p, %q, %n) <{isVolatile = false}> : (!llvm.ptr, !llvm.ptr, i64) -> ()
    llvm.call @helper(%p, %n) : (!llvm.ptr, i64) -> ()
    llvm.return
  }
  llvm.func @helper(%p: !llvm.ptr, %n: i64) attributes {no_inline} {
    %zero = llvm.mlir.constant(0 : i64) : i64
    %one = llvm.mlir.constant(1 : i64) : i64
    %byte = llvm.mlir.constant(0 : i8) : i8
    llvm.br ^loop(%zero : i64)
  ^loop(%i: i64):
    %at = llvm.getelementptr %p[%i] : (!llvm.ptr, i64) -> !llvm.ptr, i8
    llvm.store %byte, %at : i8, !llvm.ptr
    %next = llvm.add %i, %one : i64
    %more = llvm.icmp "slt" %next, %n : i64
    llvm.cond_br %more, ^loop(%next : i64), ^done
  ^done:
    llvm.return
  })";

TEST_F(CodeGeneratorTest, callsNoLibrary) {
  for (const char *target : {"x86-64+sse2", "x86-64-v3", "x86-64-v4"}) {
    prepare(target);
    std::string text = assembly(fill);
    EXPECT_EQ(text.find("memset"), std::string::npos) << text;
    EXPECT_EQ(text.find("memcpy"), std::string::npos) << text;
    EXPECT_EQ(text.find("memmove"), std::string::npos) << text;
  }
}

TEST_F(CodeGeneratorTest, attributesAndLinkage) {
  prepare("x86-64-v4+avx512vnni");
  auto module = translate(fill);
  ASSERT_TRUE(module);
  Function &entry = *module->getFunction("entry"), &helper = *module->getFunction("helper");
  EXPECT_TRUE(entry.hasExternalLinkage());
  EXPECT_TRUE(helper.hasInternalLinkage());
  for (Function *function : {&entry, &helper}) {
    EXPECT_TRUE(function->hasFnAttribute("no-builtins"));
    EXPECT_TRUE(function->doesNotThrow());
    EXPECT_EQ(function->getFnAttribute("target-cpu").getValueAsString(), "x86-64-v4");
    EXPECT_EQ(function->getFnAttribute("prefer-vector-width").getValueAsString(), "512");
    EXPECT_EQ(function->getFnAttribute("min-legal-vector-width").getValueAsString(), "512");
  }
  EXPECT_EQ(module->getTargetTriple().str(), "x86_64-unknown-linux-gnu");

  module.reset(); // before its generator
  prepare("x86-64-v3");
  module = translate(fill);
  ASSERT_TRUE(module);
  EXPECT_FALSE(module->getFunction("entry")->hasFnAttribute("prefer-vector-width"));
}

TEST_F(CodeGeneratorTest, productAndSumRoundTwice) {
  prepare("x86-64-v4");
  // The flags would allow contraction and any order of additions; results must not depend on the target.
  std::string text = assembly(R"(
    llvm.func @entry(%a: vector<16xf32>, %b: vector<16xf32>, %c: vector<16xf32>) -> vector<16xf32> {
      %p = llvm.fmul %a, %b {fastmathFlags = #llvm.fastmath<fast>} : vector<16xf32>
      %s = llvm.fadd %p, %c {fastmathFlags = #llvm.fastmath<fast>} : vector<16xf32>
      llvm.return %s : vector<16xf32>
    })");
  EXPECT_NE(text.find("vmulps"), std::string::npos) << text;
  EXPECT_NE(text.find("vaddps"), std::string::npos) << text;
  EXPECT_EQ(text.find("vfmadd"), std::string::npos) << text;
}

TEST_F(CodeGeneratorTest, wideVectorsStayWide) {
  // These CPUs' own tuning prefers 256 bits.
  for (const char *target : {"x86-64-v4", "icelake-server"}) {
    prepare(target);
    std::string text = assembly(R"(
      llvm.func @entry(%p: !llvm.ptr, %q: !llvm.ptr) {
        %a = llvm.load %p {alignment = 1 : i64} : !llvm.ptr -> vector<16xi32>
        %s = llvm.add %a, %a : vector<16xi32>
        llvm.store %s, %q {alignment = 1 : i64} : vector<16xi32>, !llvm.ptr
        llvm.return
      })");
    EXPECT_NE(text.find("zmm"), std::string::npos) << target << text;
  }
}

// A table of pointers needs relocations.
const char *const table = R"(
    llvm.mlir.global internal constant @a(dense<[1, 2, 3]> : tensor<3xi32>) : !llvm.array<3 x i32>
    llvm.mlir.global internal constant @b(dense<[4, 5, 6]> : tensor<3xi32>) : !llvm.array<3 x i32>
    llvm.mlir.global internal constant @table() : !llvm.array<2 x ptr> {
      %t = llvm.mlir.undef : !llvm.array<2 x ptr>
      %a = llvm.mlir.addressof @a : !llvm.ptr
      %b = llvm.mlir.addressof @b : !llvm.ptr
      %0 = llvm.insertvalue %a, %t[0] : !llvm.array<2 x ptr>
      %1 = llvm.insertvalue %b, %0[1] : !llvm.array<2 x ptr>
      llvm.return %1 : !llvm.array<2 x ptr>
    }
    llvm.func @entry(%i: i64, %j: i64) -> i32 {
      %t = llvm.mlir.addressof @table : !llvm.ptr
      %at = llvm.getelementptr %t[%i] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
      %p = llvm.load %at : !llvm.ptr -> !llvm.ptr
      %q = llvm.getelementptr %p[%j] : (!llvm.ptr, i64) -> !llvm.ptr, i32
      %v = llvm.load %q : !llvm.ptr -> i32
      llvm.return %v : i32
    }
    llvm.func @space(%dims: !llvm.ptr) -> i64 {
      %v = llvm.load %dims : !llvm.ptr -> i64
      llvm.return %v : i64
    }
    llvm.func @whole() -> !llvm.ptr { // keeps the table from becoming one of offsets
      %t = llvm.mlir.addressof @table : !llvm.ptr
      llvm.return %t : !llvm.ptr
    }
    llvm.func @dead() -> i64 {
      %v = llvm.mlir.constant(7 : i64) : i64
      llvm.return %v : i64
    })";

TEST_F(CodeGeneratorTest, segmentsHavePagesOfTheirOwn) {
  constexpr uint64_t largestPage = 65536;
  for (const char *target : {"x86-64-v3", "aarch64+neon"}) {
    prepare(target);
    auto bytes = image(table, {"entry", "space", "whole"});
    ASSERT_TRUE(static_cast<bool>(bytes)) << toString(bytes.takeError());
    auto file = object::ELF64LEFile::create(StringRef(reinterpret_cast<const char *>(bytes->data()), bytes->size()));
    ASSERT_TRUE(static_cast<bool>(file)) << toString(file.takeError());
    auto headers = file->program_headers();
    ASSERT_TRUE(static_cast<bool>(headers));
    uint64_t end = 0, segments = 0;
    for (const auto &header : *headers) {
      if (header.p_type != ELF::PT_LOAD)
        continue;
      const uint64_t begin = header.p_vaddr;
      EXPECT_GE(alignDown(begin, largestPage), alignTo(end, largestPage)) << target;
      end = begin + header.p_memsz;
      ++segments;
    }
    EXPECT_GE(segments, 3u) << "what is read, run and written";
    EXPECT_LT(bytes->size(), largestPage) << "the file has no such pages";
  }
}

TEST_F(CodeGeneratorTest, imageIsSelfContained) {
  prepare("x86-64-v3");
  auto bytes = image(table, {"entry", "space", "whole"});
  ASSERT_TRUE(static_cast<bool>(bytes)) << toString(bytes.takeError());

  using Elf = object::ELF64LEFile;
  auto file = Elf::create(StringRef(reinterpret_cast<const char *>(bytes->data()), bytes->size()));
  ASSERT_TRUE(static_cast<bool>(file)) << toString(file.takeError());
  EXPECT_EQ(file->getHeader().e_type, ELF::ET_DYN);
  auto headers = file->program_headers();
  ASSERT_TRUE(static_cast<bool>(headers));
  for (const auto &header : *headers) {
    EXPECT_NE(header.p_type, ELF::PT_INTERP);
    EXPECT_NE(header.p_type, ELF::PT_TLS);
    if (header.p_type == ELF::PT_LOAD)
      EXPECT_NE(header.p_flags & (ELF::PF_W | ELF::PF_X), ELF::PF_W | ELF::PF_X);
  }
  auto dynamic = file->dynamicEntries();
  ASSERT_TRUE(static_cast<bool>(dynamic));
  for (const auto &entry : *dynamic) {
    EXPECT_NE(entry.getTag(), ELF::DT_NEEDED);
    EXPECT_NE(entry.getTag(), ELF::DT_JMPREL);
    EXPECT_NE(entry.getTag(), ELF::DT_TEXTREL);
  }
  auto sections = file->sections();
  ASSERT_TRUE(static_cast<bool>(sections));
  unsigned relocations = 0;
  for (const auto &section : *sections) {
    if (section.sh_type != ELF::SHT_RELA)
      continue;
    auto entries = file->relas(section);
    ASSERT_TRUE(static_cast<bool>(entries));
    for (const auto &entry : *entries) {
      EXPECT_EQ(entry.getType(false), static_cast<uint32_t>(ELF::R_X86_64_RELATIVE));
      ++relocations;
    }
  }
  EXPECT_EQ(relocations, 2u);

  auto addresses = functionAddresses(*bytes, {"space", "entry"});
  ASSERT_TRUE(static_cast<bool>(addresses)) << toString(addresses.takeError());
  EXPECT_NE((*addresses)[0], (*addresses)[1]);
  for (uint64_t address : *addresses) {
    bool executable = false;
    for (const auto &header : *headers)
      executable |= header.p_type == ELF::PT_LOAD && (header.p_flags & ELF::PF_X) && address >= header.p_vaddr &&
                    address < header.p_vaddr + header.p_filesz;
    EXPECT_TRUE(executable) << address;
  }
  auto missing = functionAddresses(*bytes, {"dead"});
  ASSERT_FALSE(static_cast<bool>(missing));
  EXPECT_EQ(toString(missing.takeError()), "the linked code has no function 'dead'");
}

/// Names of our files in the directory for temporary files.
unsigned temporaryFiles() {
  SmallString<128> directory;
  sys::path::system_temp_directory(/*ErasedOnReboot=*/true, directory);
  unsigned count = 0;
  std::error_code code;
  for (sys::fs::directory_iterator it(directory, code), end; it != end && !code; it.increment(code)) {
    StringRef name = sys::path::filename(it->path());
    count += name.starts_with("setun-") && (name.ends_with(".o") || name.ends_with(".so"));
  }
  return count;
}

TEST_F(CodeGeneratorTest, undefinedSymbolsAreNamed) {
  prepare("x86-64-v2");
  auto bytes = image(R"(
    llvm.func @expf(f32) -> f32
    llvm.func @"strange name"()
    llvm.func @entry(%x: f32) -> f32 {
      llvm.call @"strange name"() : () -> ()
      %y = llvm.call @expf(%x) : (f32) -> f32
      llvm.return %y : f32
    })");
  ASSERT_FALSE(static_cast<bool>(bytes));
  EXPECT_EQ(toString(bytes.takeError()),
            "compiled code must not call anything outside the package, but it uses 'strange name', 'expf'");

  // The linker can be used again.
  prepare("x86-64-v2");
  auto again = image("llvm.func @entry() { llvm.return }");
  EXPECT_TRUE(static_cast<bool>(again)) << toString(again.takeError());
}

TEST_F(CodeGeneratorTest, temporaryFilesAreGone) {
  unsigned before = temporaryFiles();
  prepare("x86-64-v2");
  auto good = image("llvm.func @entry() { llvm.return }");
  EXPECT_TRUE(static_cast<bool>(good));
  prepare("x86-64-v2");
  auto bad = image("llvm.func @f()\nllvm.func @entry() { llvm.call @f() : () -> () llvm.return }");
  EXPECT_FALSE(static_cast<bool>(bad));
  consumeError(bad.takeError());
  EXPECT_LE(temporaryFiles(), before);
}

TEST_F(CodeGeneratorTest, sameInputSameBytes) {
  prepare("x86-64-v3");
  auto first = image(fill);
  prepare("x86-64-v3");
  auto second = image(fill);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*first, *second);
}

} // namespace
