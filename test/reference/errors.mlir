// What cannot be interpreted is a diagnostic at the operation's place.
// RUN: not setun-opt --interpret %s --entry unsupported 2>&1 | FileCheck %s --check-prefix=CBRT
// RUN: not setun-opt --interpret %s --entry section 2>&1 | FileCheck %s --check-prefix=SECTION
// RUN: not setun-opt --interpret %s --entry weight 2>&1 | FileCheck %s --check-prefix=WEIGHT
// RUN: not setun-opt --interpret %s --entry memref 2>&1 | FileCheck %s --check-prefix=MEMREF
// RUN: not setun-opt --interpret %s --entry position 2>&1 | FileCheck %s --check-prefix=POSITION
// RUN: not setun-opt --interpret %s --entry keys 2>&1 | FileCheck %s --check-prefix=KEYS
// RUN: not setun-opt --interpret %s --entry sums 2>&1 | FileCheck %s --check-prefix=SUMS
// RUN: not setun-opt --interpret %s --entry max_code 2>&1 | FileCheck %s --check-prefix=CODE
// RUN: not setun-opt --interpret %s --entry shapes 2>&1 | FileCheck %s --check-prefix=SHAPES
// RUN: not setun-opt --interpret %s --entry slice 2>&1 | FileCheck %s --check-prefix=SLICE
// RUN: not setun-opt --interpret %s --entry cast 2>&1 | FileCheck %s --check-prefix=CAST
// RUN: not setun-opt --interpret %s --entry divide 2>&1 | FileCheck %s --check-prefix=DIVIDE
// RUN: not setun-opt --interpret %s --entry endless 2>&1 | FileCheck %s --check-prefix=ENDLESS
// RUN: not setun-opt --interpret %s --entry branches 2>&1 | FileCheck %s --check-prefix=BRANCHES
// RUN: not setun-opt --interpret %s --entry masters 2>&1 | FileCheck %s --check-prefix=MASTERS
// RUN: not setun-opt --interpret %s --entry condition 2>&1 | FileCheck %s --check-prefix=CONDITION

// CBRT: errors.mlir:[[#@LINE+3]]:8: error: 'math.cbrt' op is not supported by the reference interpreter
func.func @unsupported() -> f32 {
  %a = arith.constant 1.0 : f32
  %b = math.cbrt %a : f32
  return %b : f32
}

// SECTION: errors.mlir:[[#@LINE+2]]:8: error: 'ternary.section' op has a value only in a package, not in the reference interpreter
func.func @section() -> tensor<64xi8> {
  %a = ternary.section {offset = 0} : tensor<64xi8>
  return %a : tensor<64xi8>
}

// WEIGHT: errors.mlir:[[#@LINE+2]]:8: error: 'bitnet.weight' op needs the weight files, but none is given
func.func @weight() -> tensor<4x4xi2> {
  %a = bitnet.weight "a" : tensor<4x4xi2>
  return %a : tensor<4x4xi2>
}

// MEMREF: errors.mlir:[[#@LINE+2]]:8: error: 'memref.alloc' op is not supported by the reference interpreter
func.func @memref() {
  %a = memref.alloc() : memref<4xf32>
  return
}

// POSITION: 'bitnet.rotary' op expects positions below 2, got 1 to 2
func.func @position() -> tensor<2x1x2xf32> {
  %x = arith.constant dense<1.0> : tensor<2x1x2xf32>
  %t = arith.constant dense<1.0> : tensor<2x1xf32>
  %pos = arith.constant 1 : i64
  %y = bitnet.rotary %x, %t, %t, %pos : tensor<2x1x2xf32>, tensor<2x1xf32>
  return %y : tensor<2x1x2xf32>
}

// KEYS: 'bitnet.attention' op expects keys and values of 3 tokens, got 2
func.func @keys() -> tensor<2x1x2xf32> {
  %x = arith.constant dense<1.0> : tensor<2x1x2xf32>
  %pos = arith.constant 1 : i64
  %y = bitnet.attention %x, %x, %x, %pos {scale = 1.0 : f32} : tensor<2x1x2xf32>, tensor<2x1x2xf32>, tensor<2x1x2xf32>
  return %y : tensor<2x1x2xf32>
}

// SUMS: 'bitnet.matmul' op expects the sum 3 of the codes of token 0, got [4]
func.func @sums() -> tensor<1x1xi32> {
  %q = arith.constant dense<[[1, 2]]> : tensor<1x2xi8>
  %c = arith.constant dense<4> : tensor<1xi32>
  %w = arith.constant dense<1> : tensor<1x2xi2>
  %acc = bitnet.matmul %q, %w sums(%c) : (tensor<1x2xi8>, tensor<1x2xi2>, tensor<1xi32>) -> tensor<1x1xi32>
  return %acc : tensor<1x1xi32>
}

// CODE: 'ternary.dot' op expects codes of at most 3, got 4
func.func @max_code() -> vector<16xi32> {
  %acc = arith.constant dense<0> : vector<16xi32>
  %u = arith.constant dense<4> : vector<64xi8>
  %r = ternary.dot %acc, %u, %u {max_code = 3} : vector<16xi32>, vector<64xi8>
  return %r : vector<16xi32>
}

// SHAPES: 'arith.addf' op expects operands of one shape, got tensor<2xf32> and tensor<3xf32>
func.func @shapes() -> tensor<?xf32> {
  %a = arith.constant dense<1.0> : tensor<2xf32>
  %b = arith.constant dense<1.0> : tensor<3xf32>
  %c = tensor.cast %a : tensor<2xf32> to tensor<?xf32>
  %d = tensor.cast %b : tensor<3xf32> to tensor<?xf32>
  %e = arith.addf %c, %d : tensor<?xf32>
  return %e : tensor<?xf32>
}

// SLICE: 'tensor.extract_slice' op expects a slice within 2 elements, got 2 from 1 with stride 1
func.func @slice() -> tensor<2xf32> {
  %a = arith.constant dense<1.0> : tensor<2xf32>
  %one = arith.constant 1 : index
  %b = tensor.extract_slice %a[%one] [2] [1] : tensor<2xf32> to tensor<2xf32>
  return %b : tensor<2xf32>
}

// CAST: 'tensor.cast' op gives tensor<2xf32> for its result of type 'tensor<3xf32>'
func.func @cast() -> tensor<3xf32> {
  %a = arith.constant dense<1.0> : tensor<2xf32>
  %b = tensor.cast %a : tensor<2xf32> to tensor<?xf32>
  %c = tensor.cast %b : tensor<?xf32> to tensor<3xf32>
  return %c : tensor<3xf32>
}

// DIVIDE: 'arith.divsi' op is undefined for 1 and 0
func.func @divide() -> i64 {
  %a = arith.constant 1 : i64
  %b = arith.constant 0 : i64
  %c = arith.divsi %a, %b : i64
  return %c : i64
}

// ENDLESS: 'func.func' op is called too deeply
func.func @endless() {
  call @endless() : () -> ()
  return
}

// BRANCHES: 'func.func' op has control flow, which the reference interpreter does not support
func.func @branches() {
  "cf.br"() [^next] : () -> ()
^next:
  return
}

// MASTERS: 'bitnet.quantize_weight' op expects finite masters, got INF
func.func @masters() -> tensor<1x1xi1> {
  %m = arith.constant dense<0x7F800000> : tensor<1x1xf32>
  %w, %s = bitnet.quantize_weight %m {method = #bitnet.weight_quant<sign>, eps = 0.0 : f32}
    : tensor<1x1xf32> -> tensor<1x1xi1>, tensor<1xf32>
  return %w : tensor<1x1xi1>
}

// Sizes that hold pass; the first that does not stops the run.
// CONDITION-NOT: at least 2
// CONDITION: errors.mlir:[[#@LINE+10]]:3: error: size N expects at least 4
func.func @condition() -> index {
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %x = arith.constant dense<1.0> : tensor<3xf32>
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<3xf32>
  %two = arith.cmpi sge, %n, %c2 : index
  %four = arith.cmpi sge, %n, %c4 : index
  cf.assert %two, "size N expects at least 2"
  cf.assert %four, "size N expects at least 4"
  return %n : index
}
