// RUN: setun-opt %s --split-input-file --verify-diagnostics --ternary-mark-entries | FileCheck %s

// Buffers: inputs, states, outputs; a size below 0 is symbol -1 - size, numbered in the order of inputs and states.
// Inputs are read-only from here on.
// CHECK-LABEL: func.func @forward
// CHECK-SAME: %{{[^:]*}}: tensor<?x4xf32> {bitnet.dims = ["C"], bitnet.state = "k"},
// CHECK-SAME: %{{[^:]*}}: i64 {bitnet.position}, %{{[^:]*}}: tensor<?xi64> {bitnet.dims = ["T"], bitnet.name = "tokens", bufferization.writable = false})
// CHECK-SAME: ternary.abi = {arguments = array<i64: 2, 0>, outputs = array<i64: 1>, position = 1 : i64,
// CHECK-SAME: shapes = [array<i64: -1>, array<i64: -2, 4>, array<i64: -1, 2>], state_arguments = array<i64: 0>, state_results = array<i64: 0>}
func.func @forward(%k: tensor<?x4xf32> {bitnet.state = "k", bitnet.dims = ["C"]}, %pos: i64 {bitnet.position},
                   %tokens: tensor<?xi64> {bitnet.name = "tokens", bitnet.dims = ["T"]})
    -> (tensor<?x4xf32> {bitnet.state = "k", bitnet.dims = ["C"]}, tensor<?x2xf32> {bitnet.name = "y", bitnet.dims = ["T"]})
    attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xi64>
  %y = tensor.empty(%t) : tensor<?x2xf32>
  return %k, %y : tensor<?x4xf32>, tensor<?x2xf32>
}
// CHECK-LABEL: func.func private @no_entry
// CHECK-NOT: ternary.abi
func.func private @no_entry(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}

// -----

// Destinations are separate, so that bufferisation does not join what has nothing in common.
// CHECK-LABEL: func.func @destinations
// CHECK-DAG: %[[A:.*]] = tensor.empty
// CHECK: ternary.hadamard %{{.*}} outs(%[[A]])
// CHECK: %[[B:.*]] = tensor.empty
// CHECK: ternary.hadamard %{{.*}} outs(%[[B]])
func.func @destinations(%x: tensor<8x8xf32> {bitnet.name = "x"}) -> (tensor<8x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e = tensor.empty() : tensor<8x8xf32>
  %0 = ternary.hadamard %x outs(%e) {block = 8} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %1 = ternary.hadamard %0 outs(%e) {block = 2} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %1 : tensor<8x8xf32>
}

// -----

// expected-error@+1 {{expects bitnet.dims on input x with a symbol for dimension 0}}
func.func @no_symbols(%x: tensor<?xf32> {bitnet.name = "x"}) -> (tensor<2xf32> {bitnet.name = "y"})
    attributes {bitnet.entry} {
  %y = tensor.empty() : tensor<2xf32>
  return %y : tensor<2xf32>
}

// -----

// expected-error@+1 {{expects an input or state with the dimension U of output y}}
func.func @symbol_from_nowhere(%x: tensor<?xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?xf32> {bitnet.name = "y", bitnet.dims = ["U"]}) attributes {bitnet.entry} {
  return %x : tensor<?xf32>
}

// -----

// expected-error@+1 {{expects a result with the state k}}
func.func @state_without_result(%k: tensor<4xf32> {bitnet.state = "k"}) -> (tensor<4xf32> {bitnet.name = "y"})
    attributes {bitnet.entry} {
  return %k : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects an argument with the state k of type 'tensor<5xf32>'}}
func.func @state_of_another_type(%k: tensor<4xf32> {bitnet.state = "k"}) -> (tensor<5xf32> {bitnet.state = "k"})
    attributes {bitnet.entry} {
  %y = tensor.empty() : tensor<5xf32>
  return %y : tensor<5xf32>
}

// -----

// expected-error@+1 {{expects input 0 of the entry to be a ranked tensor, got 'f32'}}
func.func @scalar(%x: f32 {bitnet.name = "x"}) -> (tensor<5xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %y = tensor.empty() : tensor<5xf32>
  return %y : tensor<5xf32>
}

// -----

// expected-error@+1 {{expects one result with the state k, got results 0 and 1}}
func.func @state_twice(%k: tensor<4xf32> {bitnet.state = "k"})
    -> (tensor<4xf32> {bitnet.state = "k"}, tensor<4xf32> {bitnet.state = "k"}) attributes {bitnet.entry} {
  return %k, %k : tensor<4xf32>, tensor<4xf32>
}

// -----

// A session must not get longer than its rotary tables.
func.func @short_tables(%x: tensor<?x2x4xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position})
    -> (tensor<?x2x4xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry, bitnet.max_context = 9 : i64} {
  %t = arith.constant dense<0.5> : tensor<8x2xf32>
  // expected-error@+1 {{expects bitnet.max_context of at most 8, the rows of a rotary table, got 9}}
  %y = bitnet.rotary %x, %t, %t, %pos : tensor<?x2x4xf32>, tensor<8x2xf32>
  return %y : tensor<?x2x4xf32>
}
