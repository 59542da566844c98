// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(ternary-mark-entries,one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map},ternary-lower-entries,canonicalize,cse)' | FileCheck %s

// The last operation writes the caller's buffer; the tensor between is workspace, 8 floats a token in whole lines of 64.
// CHECK-LABEL: func.func @setun_workspace_between(%{{.*}}: !llvm.ptr, %{{.*}}: i32) -> i64
// CHECK: %[[T:.*]] = llvm.load %{{.*}} : !llvm.ptr -> i64
// CHECK: %[[TI:.*]] = arith.index_cast %[[T]] : i64 to index
// CHECK: %[[BYTES:.*]] = arith.muli %[[TI]], %c32
// CHECK: %[[UP:.*]] = arith.addi %[[BYTES]], %c63
// CHECK: arith.andi %[[UP]], %c-64
// CHECK-LABEL: func.func @setun_entry_between
// CHECK-SAME: %{{.*}}: !llvm.ptr, %[[THREAD:.*]]: i32) {
// CHECK: %[[X:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<?x8xf32>
// CHECK: %[[Y:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<?x8xf32>
// CHECK: %[[N:.*]] = memref.view
// CHECK: ternary.norm %[[X]] outs(%[[N]]) {{{.*}}ternary.compute}
// One barrier, as a call of the invocation's function, between writer and reader.
// CHECK: llvm.call %{{.*}}(%{{.*}}, %[[THREAD]]) : !llvm.ptr, (!llvm.ptr, i32) -> ()
// CHECK: ternary.hadamard %[[N]] outs(%[[Y]]) {{{.*}}ternary.compute}
// CHECK-NOT: llvm.call
// CHECK-NOT: memref.copy
// CHECK: return
func.func @between(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x8xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %n = ternary.norm %x outs(%e) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %h = ternary.hadamard %n outs(%e) {block = 8} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  return %h : tensor<?x8xf32>
}

// -----

// Of four tensors in a chain two are alive at a time: two places.
// CHECK-LABEL: func.func @setun_workspace_chain
// CHECK: %c512_i64 = arith.constant 512 : i64
// CHECK: return %c512_i64
// CHECK-LABEL: func.func @setun_entry_chain
// CHECK-DAG: %[[A:.*]] = memref.view %[[ARENA:.*]][%c0][] : memref<?xi8> to memref<8x8xf32>
// CHECK-DAG: %[[B:.*]] = memref.view %[[ARENA]][%c256][] : memref<?xi8> to memref<8x8xf32>
// CHECK: ternary.hadamard %{{.*}} outs(%[[A]]) {block = 2
// CHECK: ternary.hadamard %[[A]] outs(%[[B]]) {block = 4
// CHECK: ternary.hadamard %[[B]] outs(%[[A]]) {block = 8
// CHECK: ternary.hadamard %[[A]] outs(%[[B]]) {block = 1
func.func @chain(%x: tensor<8x8xf32> {bitnet.name = "x"}) -> (tensor<8x8xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e0 = tensor.empty() : tensor<8x8xf32>
  %e1 = tensor.empty() : tensor<8x8xf32>
  %e2 = tensor.empty() : tensor<8x8xf32>
  %e3 = tensor.empty() : tensor<8x8xf32>
  %e4 = tensor.empty() : tensor<8x8xf32>
  %0 = ternary.hadamard %x outs(%e0) {block = 2} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %1 = ternary.hadamard %0 outs(%e1) {block = 4} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %2 = ternary.hadamard %1 outs(%e2) {block = 8} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %3 = ternary.hadamard %2 outs(%e3) {block = 1} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %4 = ternary.hadamard %3 outs(%e4) {block = 2} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %4 : tensor<8x8xf32>
}

// -----

// Operations that touch nothing of each other's need no barrier.
// CHECK-LABEL: func.func @setun_entry_independent
// CHECK: ternary.hadamard
// CHECK-NOT: llvm.call
// CHECK: ternary.hadamard
func.func @independent(%x: tensor<8x8xf32> {bitnet.name = "x"})
    -> (tensor<8x8xf32> {bitnet.name = "y"}, tensor<8x8xf32> {bitnet.name = "z"}) attributes {bitnet.entry} {
  %e = tensor.empty() : tensor<8x8xf32>
  %f = tensor.empty() : tensor<8x8xf32>
  %0 = ternary.hadamard %x outs(%e) {block = 2} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %1 = ternary.hadamard %x outs(%f) {block = 4} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %0, %1 : tensor<8x8xf32>, tensor<8x8xf32>
}

// -----

// All threads have read a state before any of them writes it.
// CHECK-LABEL: func.func @setun_entry_write_after_read
// CHECK: ternary.hadamard
// CHECK: llvm.call
// CHECK: ternary.cache_update
func.func @write_after_read(%new: tensor<?x2x4xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                            %k: tensor<8x2x4xf32> {bitnet.state = "k"})
    -> (tensor<16x4xf32> {bitnet.name = "y"}, tensor<8x2x4xf32> {bitnet.state = "k"}) attributes {bitnet.entry, bitnet.max_context = 8 : i64} {
  %e = tensor.empty() : tensor<16x4xf32>
  %rows = tensor.collapse_shape %k [[0, 1], [2]] : tensor<8x2x4xf32> into tensor<16x4xf32>
  %h = ternary.hadamard %rows outs(%e) {block = 4} : (tensor<16x4xf32>, tensor<16x4xf32>) -> tensor<16x4xf32>
  %u = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x4xf32>, i64, tensor<8x2x4xf32>) -> tensor<8x2x4xf32>
  return %h, %u : tensor<16x4xf32>, tensor<8x2x4xf32>
}

// -----

// A state is updated in place, without a copy.
// CHECK-LABEL: func.func @setun_entry_state
// CHECK: %[[NEW:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<?x2x4xf32>
// CHECK: %[[STATE:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<?x2x4xf32>
// CHECK-NOT: memref.copy
// CHECK: ternary.cache_update %[[NEW]], %{{.*}} outs(%[[STATE]])
// CHECK-NOT: memref.copy
// CHECK: return
func.func @state(%new: tensor<?x2x4xf32> {bitnet.name = "new", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                 %k: tensor<?x2x4xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x2x4xf32> {bitnet.state = "k", bitnet.dims = ["C"]}) attributes {bitnet.entry, bitnet.max_context = 8 : i64} {
  %u = ternary.cache_update %new, %pos outs(%k) : (tensor<?x2x4xf32>, i64, tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
  return %u : tensor<?x2x4xf32>
}

// -----

// States that change places: both are copied aside before either is overwritten, after outputs are copied out.
// CHECK-LABEL: func.func @setun_entry_swap
// CHECK: %[[A:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<4xf32>
// CHECK: %[[B:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<4xf32>
// CHECK: %[[OUT:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<4xf32>
// CHECK: memref.copy %[[A]], %[[OUT]]
// CHECK: memref.copy %[[B]], %[[AB:[^ ]*]] {ternary.compute}
// CHECK: memref.copy %[[A]], %[[AA:[^ ]*]] {ternary.compute}
// CHECK: llvm.call
// CHECK: memref.copy %[[AB]], %[[A]]
// CHECK: memref.copy %[[AA]], %[[B]]
func.func @swap(%x: tensor<1xf32> {bitnet.name = "x"}, %a: tensor<4xf32> {bitnet.state = "a"}, %b: tensor<4xf32> {bitnet.state = "b"})
    -> (tensor<4xf32> {bitnet.state = "a"}, tensor<4xf32> {bitnet.state = "b"}, tensor<4xf32> {bitnet.name = "old"}) attributes {bitnet.entry} {
  return %b, %a, %a : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
}

// -----

// One value as two outputs is computed into the first and copied into the second.
// CHECK-LABEL: func.func @setun_entry_twice
// CHECK: %[[X:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<8x8xf32>
// CHECK: %[[Y:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<8x8xf32>
// CHECK: %[[Z:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<8x8xf32>
// CHECK: ternary.hadamard %[[X]] outs(%[[Y]])
// CHECK: llvm.call
// CHECK: memref.copy %[[Y]], %[[Z]]
func.func @twice(%x: tensor<8x8xf32> {bitnet.name = "x"})
    -> (tensor<8x8xf32> {bitnet.name = "y"}, tensor<8x8xf32> {bitnet.name = "z"}) attributes {bitnet.entry} {
  %e = tensor.empty() : tensor<8x8xf32>
  %0 = ternary.hadamard %x outs(%e) {block = 2} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %0, %0 : tensor<8x8xf32>, tensor<8x8xf32>
}

// -----

// What one thread wrote, every thread reads as a scalar: a barrier stands before the load.
// CHECK-LABEL: func.func @setun_entry_scalar
// CHECK: ternary.hadamard %{{.*}} outs(%[[H:[0-9a-z_]+]]) {
// CHECK: llvm.call
// CHECK: memref.load %[[H]]
func.func @scalar(%x: tensor<8x8xf32> {bitnet.name = "x"}) -> (tensor<4xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %e = tensor.empty() : tensor<8x8xf32>
  %0 = ternary.hadamard %x outs(%e) {block = 2} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %s = tensor.extract %0[%c0, %c0] : tensor<8x8xf32>
  %f = tensor.empty() : tensor<4xf32>
  %y = linalg.fill ins(%s : f32) outs(%f : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// The caller would hand over T rows where C are written.
// expected-error@+1 {{expects dimension 0 of output 0 to have the size that its bitnet.dims names}}
func.func @another_size(%x: tensor<?x4xf32> {bitnet.name = "x", bitnet.dims = ["T"]},
                        %k: tensor<?x4xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x4xf32> {bitnet.name = "y", bitnet.dims = ["T"]}, tensor<?x4xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    attributes {bitnet.entry, bitnet.max_context = 8 : i64} {
  %c0 = arith.constant 0 : index
  %c = tensor.dim %k, %c0 : tensor<?x4xf32>
  %e = tensor.empty(%c) : tensor<?x4xf32>
  %h = ternary.hadamard %k outs(%e) {block = 4} : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  return %h, %k : tensor<?x4xf32>, tensor<?x4xf32>
}

// -----

// Conditions on sizes: the workspace function says which is the first that does not hold, and computes nothing beyond.
// CHECK-LABEL: func.func @setun_workspace_conditions
// CHECK-SAME: attributes {ternary.conditions = ["at most 64", "twice as many"]}
// CHECK: %[[N:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK: %[[MOST:.*]] = arith.cmpi sle, %[[N]], %c64 : index
// CHECK: scf.if %[[MOST]] -> (i64) {
// CHECK:   %[[M:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK:   %[[TWICE:.*]] = arith.muli %[[N]], %c2
// CHECK:   %[[EQUAL:.*]] = arith.cmpi eq, %[[M]], %[[TWICE]] : index
// CHECK:   scf.if %[[EQUAL]] -> (i64) {
// CHECK:     arith.muli %[[M]], %c32
// CHECK:   } else {
// CHECK:     scf.yield %c-2_i64
// CHECK: } else {
// CHECK:   scf.yield %c-1_i64
// CHECK-LABEL: func.func @setun_entry_conditions
// CHECK-NOT: cf.assert
func.func @conditions(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["N"]},
                      %y: tensor<?x8xf32> {bitnet.name = "y", bitnet.dims = ["M"]})
    -> (tensor<?x8xf32> {bitnet.name = "z", bitnet.dims = ["M"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %c64 = arith.constant 64 : index
  %n = tensor.dim %x, %c0 : tensor<?x8xf32>
  %m = tensor.dim %y, %c0 : tensor<?x8xf32>
  %most = arith.cmpi sle, %n, %c64 : index
  cf.assert %most, "at most 64"
  %twice = arith.muli %n, %c2 : index
  %equal = arith.cmpi eq, %m, %twice : index
  cf.assert %equal, "twice as many"
  %e = tensor.empty(%m) : tensor<?x8xf32>
  %h = ternary.hadamard %y outs(%e) {block = 2} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %i = ternary.hadamard %h outs(%e) {block = 4} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  return %i : tensor<?x8xf32>
}

// -----

func.func @condition_on_data(%x: tensor<4xi1> {bitnet.name = "x"}) -> (tensor<4xi1> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  // expected-error@+1 {{expects a condition on sizes to follow from the entry's dimensions}}
  %b = tensor.extract %x[%c0] : tensor<4xi1>
  cf.assert %b, "true"
  return %x : tensor<4xi1>
}

// -----

func.func @condition_inside(%x: tensor<4xi1> {bitnet.name = "x"}) -> (tensor<4xi1> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %e = tensor.empty() : tensor<4xi1>
  %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%x : tensor<4xi1>) outs(%e : tensor<4xi1>) {
  ^bb0(%a: i1, %b: i1):
    // expected-error@+1 {{expects conditions on sizes outside of other operations}}
    cf.assert %a, "true"
    linalg.yield %a : i1
  } -> tensor<4xi1>
  return %y : tensor<4xi1>
}

// -----

func.func @branches(%x: tensor<4xf32> {bitnet.name = "x"}, %c: i64 {bitnet.position})
    -> (tensor<4xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %zero = arith.constant 0 : i64
  %b = arith.cmpi eq, %c, %zero : i64
  // expected-error@+1 {{expects straight-line code in an entry point}}
  %y = scf.if %b -> tensor<4xf32> {
    scf.yield %x : tensor<4xf32>
  } else {
    %e = tensor.empty() : tensor<4xf32>
    scf.yield %e : tensor<4xf32>
  }
  return %y : tensor<4xf32>
}

// -----

func.func @size_from_data(%x: tensor<4xi64> {bitnet.name = "x"}) -> (tensor<4xf32> {bitnet.name = "y"}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  // expected-error@+1 {{expects the size of an intermediate tensor to follow from the entry's dimensions}}
  %n = tensor.extract %x[%c0] : tensor<4xi64>
  %i = arith.index_cast %n : i64 to index
  %e = tensor.empty(%i) : tensor<?x8xf32>
  %f = tensor.empty(%i) : tensor<?x8xf32>
  %h = ternary.hadamard %e outs(%f) {block = 2} : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %s = tensor.extract_slice %h[0, 0] [1, 4] [1, 1] : tensor<?x8xf32> to tensor<4xf32>
  return %s : tensor<4xf32>
}

// -----

// Sums of look-ups wait in memory of each thread's own, behind the workspace that all share: of one panel 6,464 bytes of
// indices, 20,480 of tables and 81,920 of sums.
// CHECK-LABEL: func.func @setun_workspace_look_ups(%{{.*}}: !llvm.ptr, %{{.*}}: i32) -> i64
// CHECK: %[[THREADS:.*]] = arith.index_castui %{{.*}} : i32 to index
// CHECK: %[[BYTES:.*]] = arith.muli %[[THREADS]], %c108864 : index
// CHECK: arith.index_cast %[[BYTES]] : index to i64
// CHECK-LABEL: func.func @setun_entry_look_ups
// CHECK-SAME: %{{.*}}: !llvm.ptr, %[[THREAD:.*]]: i32) {
// CHECK: %[[T:.*]] = arith.index_castui %[[THREAD]] : i32 to index
// CHECK: %[[AT:.*]] = arith.muli %[[T]], %c108864 : index
// CHECK: %[[VIEW:.*]] = memref.view %{{.*}}[%[[AT]]][] : memref<?xi8> to memref<108864xi8>
// CHECK: %[[OWN:.*]] = memref.cast %[[VIEW]] : memref<108864xi8> to memref<?xi8>
// CHECK: ternary.matmul {{.*}} scratch(%[[OWN]])
func.func @look_ups(%x: tensor<?x32xi8> {bitnet.name = "x", bitnet.dims = ["T"]}, %p: tensor<512xi8> {bitnet.name = "p"},
    %s: tensor<1x1x80xf32> {bitnet.name = "s"}, %c: tensor<?xi32> {bitnet.name = "c", bitnet.dims = ["T"]})
    -> (tensor<?x80xi32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x32xi8>
  %e = tensor.empty(%t) : tensor<?x80xi32>
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e)
    {layout = #ternary.layout<r16k4t5, rows = 80, cols = 32>, kernel = #ternary.kernel<"avx512lut", tokens = 4, staged = 48>}
    : (tensor<?x32xi8>, tensor<512xi8>, tensor<1x1x80xf32>, tensor<?xi32>, tensor<?x80xi32>) -> tensor<?x80xi32>
  return %y : tensor<?x80xi32>
}

// -----

// Threads take of one another's shares of one token where the weights are large and a barrier stands before, behind which
// all counters are 0: here the second matmul alone. Each thread has a line of them, behind all else of the workspace.
// CHECK-LABEL: func.func @setun_workspace_taken
// CHECK: %[[THREADS:.*]] = arith.index_castui %{{.*}} : i32 to index
// CHECK: %[[BYTES:.*]] = arith.muli %[[THREADS]], %c128 : index
// CHECK: arith.addi %{{.*}}, %[[BYTES]] : index
// CHECK-LABEL: func.func @setun_entry_taken
// CHECK: %[[TAKEN:.*]] = memref.view %{{.*}}[%{{.*}}][%{{.*}}] : memref<?xi8> to memref<?x16xi64>
// CHECK-COUNT-2: llvm.store %{{.*}}, %{{.*}} {alignment = 64 : i64} : vector<64xi8>, !llvm.ptr
// CHECK: ternary.matmul
// CHECK-NOT: taken
// CHECK: llvm.call
// CHECK: ternary.matmul {{.*}} taken(%[[TAKEN]])
func.func @taken(%x: tensor<?x1024xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %p: tensor<262144xi8> {bitnet.name = "p"},
    %s: tensor<16x1x64xf32> {bitnet.name = "s"})
    -> (tensor<?x1024xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x1024xf32>
  %e = tensor.empty(%t) : tensor<?x1024xf32>
  %m = ternary.matmul %x, %p, %s outs(%e) {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xf32>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<?x1024xf32>) -> tensor<?x1024xf32>
  %e1 = tensor.empty(%t) : tensor<?x1024xf32>
  %y = ternary.matmul %m, %p, %s outs(%e1) {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xf32>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<?x1024xf32>) -> tensor<?x1024xf32>
  return %y : tensor<?x1024xf32>
}

// -----

// So are the exact logits of a head's rows in question, where the fine codes are large.
// CHECK-LABEL: func.func @setun_entry_taken_head
// CHECK: ternary.head_candidates
// CHECK: llvm.call
// CHECK: ternary.head_rescore {{.*}} taken(
func.func @taken_head(%x: tensor<1x64xf32> {bitnet.name = "x"}, %w: tensor<1024x64xbf16> {bitnet.name = "w"},
    %q: tensor<512xi8> {bitnet.name = "q"}, %sums: tensor<5xi32> {bitnet.name = "sums"},
    %params: tensor<4xf32> {bitnet.name = "params"}, %approx: tensor<1x1024xf32> {bitnet.name = "approx"},
    %upper: tensor<1x1024xf32> {bitnet.name = "upper"}, %maxima: tensor<32xf32> {bitnet.name = "maxima"},
    %k: tensor<1xi64> {bitnet.name = "k"}, %fine: tensor<2x1024x64xi8> {bitnet.name = "fine"},
    %rows: tensor<1024x8xf32> {bitnet.name = "rows"})
    -> (tensor<1x1024xf32> {bitnet.name = "exact"}) attributes {bitnet.entry} {
  %e0 = tensor.empty() : tensor<8xf32>
  %cand = ternary.head_candidates %x, %w, %approx, %maxima, %k outs(%e0)
    : (tensor<1x64xf32>, tensor<1024x64xbf16>, tensor<1x1024xf32>, tensor<32xf32>, tensor<1xi64>, tensor<8xf32>) -> tensor<8xf32>
  %e1 = tensor.empty() : tensor<1x1024xf32>
  %e2 = tensor.empty() : tensor<32xf32>
  %exact, %largest = ternary.head_rescore %x, %w, %q, %sums, %params, %approx, %upper, %cand, %k, %fine, %rows
    outs(%e1, %e2) : (tensor<1x64xf32>, tensor<1024x64xbf16>, tensor<512xi8>, tensor<5xi32>, tensor<4xf32>, tensor<1x1024xf32>, tensor<1x1024xf32>, tensor<8xf32>, tensor<1xi64>, tensor<2x1024x64xi8>, tensor<1024x8xf32>, tensor<1x1024xf32>, tensor<32xf32>)
    -> (tensor<1x1024xf32>, tensor<32xf32>)
  return %exact : tensor<1x1024xf32>
}

// -----

// What every thread quantises for itself looks ahead to its share of the weights that come next: 16 units of 16 KiB, from
// an offset of 4096 on. One scale for all tokens, and little weights: nothing.
// CHECK-LABEL: func.func @setun_entry_ahead
// CHECK: %[[EACH:.*]] = arith.ceildivui %c16, %[[THREADS:.*]] : index
// CHECK: %[[SHARE:.*]] = arith.muli %[[THREAD:.*]], %[[EACH]] : index
// CHECK: %[[FIRST:.*]] = arith.minsi %[[SHARE]], %c16 : index
// CHECK: %[[BEGIN:.*]] = arith.muli %[[FIRST]], %c16384 : index
// CHECK: %[[PLACE:.*]] = arith.addi %[[BEGIN]], %c4096 : index
// CHECK: %[[LEFT:.*]] = arith.subi %c262144, %[[BEGIN]] : index
// CHECK: %[[AHEAD:.*]] = memref.view %{{.*}}[%[[PLACE]]][%[[LEFT]]] : memref<?xi8> to memref<?xi8>
// CHECK: ternary.quantize %{{.*}} ahead(%[[AHEAD]]) outs
// CHECK: ternary.matmul
// CHECK-NOT: ahead
// CHECK: return
func.func @ahead(%x: tensor<?x1024xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x1024xf32> {bitnet.name = "y", bitnet.dims = ["T"]}, tensor<?x64xf32> {bitnet.name = "z", bitnet.dims = ["T"]},
        tensor<?x1024xf32> {bitnet.name = "u", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x1024xf32>
  %p = ternary.section {offset = 4096} : tensor<262144xi8>
  %s = ternary.section {offset = 0} : tensor<16x1x64xf32>
  %small = ternary.section {offset = 266240} : tensor<16384xi8>
  %ss = ternary.section {offset = 282624} : tensor<1x1x64xf32>
  %q = tensor.empty(%t) : tensor<?x1024xi8>
  %a = tensor.empty(%t) : tensor<?xf32>
  %c = tensor.empty(%t) : tensor<?xi32>
  %a1 = tensor.empty() : tensor<1xf32>
  %e = tensor.empty(%t) : tensor<?x1024xf32>
  %f = tensor.empty(%t) : tensor<?x64xf32>
  %r:3 = ternary.quantize %x outs(%q, %a, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<?x1024xf32>, tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
      -> (tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
  %y = ternary.matmul %r#0, %p, %s act_scale(%r#1) sums(%r#2) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xi8>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x1024xf32>)
      -> tensor<?x1024xf32>
  %r1:3 = ternary.quantize %y outs(%q, %a, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<?x1024xf32>, tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
      -> (tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
  %z = ternary.matmul %r1#0, %small, %ss act_scale(%r1#1) sums(%r1#2) outs(%f) {layout = #ternary.layout<r16k4f4, rows = 64, cols = 1024>}
    : (tensor<?x1024xi8>, tensor<16384xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x64xf32>)
      -> tensor<?x64xf32>
  %r2:3 = ternary.quantize %x outs(%q, %a1, %c) {activation = #bitnet.act_quant<per_tensor, bits = 8, eps = 1.0e-5>}
    : (tensor<?x1024xf32>, tensor<?x1024xi8>, tensor<1xf32>, tensor<?xi32>)
      -> (tensor<?x1024xi8>, tensor<1xf32>, tensor<?xi32>)
  %u = ternary.matmul %r2#0, %p, %s act_scale(%r2#1) sums(%r2#2) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xi8>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<1xf32>, tensor<?xi32>, tensor<?x1024xf32>)
      -> tensor<?x1024xf32>
  return %y, %z, %u : tensor<?x1024xf32>, tensor<?x64xf32>, tensor<?x1024xf32>
}

// -----

// A result whose size is not plainly the one it is declared to have has it as a condition.
// CHECK-LABEL: func.func @setun_workspace_twice
// CHECK-SAME: ternary.conditions = ["dimension 0 of output 0 expects the size that its bitnet.dims names"]
// CHECK: %[[SIZE:.*]] = arith.addi
// CHECK: %[[HOLDS:.*]] = arith.cmpi eq, %[[SIZE]], %{{.*}}
// CHECK: arith.select %[[HOLDS]], %{{.*}}, %c-1_i64
func.func @twice(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]},
                 %s: tensor<?xi8> {bitnet.name = "s", bitnet.dims = ["S"]})
    -> (tensor<?x8xf32> {bitnet.name = "y", bitnet.dims = ["S"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %t1 = arith.addi %t, %c1 : index
  %e = tensor.empty(%t1) : tensor<?x8xf32>
  %zero = arith.constant 0.0 : f32
  %y = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// A matmul whose shares are taken asks meanwhile for the gains of the quantiser that comes next, all of them.
// CHECK-LABEL: func.func @setun_entry_gains
// CHECK: %[[GAINS:.*]] = memref.view %{{.*}}[%{{.*}}][] : memref<?xi8> to memref<2048xi8>
// CHECK: ternary.quantize
// CHECK: ternary.matmul
// CHECK-NOT: ahead
// CHECK: llvm.call
// CHECK: ternary.quantize
// CHECK: ternary.matmul {{.*}} taken(%{{.*}}) ahead(%[[GAINS]]) outs
// CHECK: llvm.call
// CHECK: ternary.quantize
// CHECK: ternary.matmul
// CHECK-NOT: ahead
// CHECK: return
func.func @gains(%x: tensor<?x1024xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
    -> (tensor<?x1024xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x1024xf32>
  %p = ternary.section {offset = 4096} : tensor<262144xi8>
  %s = ternary.section {offset = 0} : tensor<16x1x64xf32>
  %g = ternary.section {offset = 266240} : tensor<1024xbf16>
  %q0 = tensor.empty(%t) : tensor<?x1024xi8>
  %a0 = tensor.empty(%t) : tensor<?xf32>
  %c1 = tensor.empty(%t) : tensor<?xi32>
  %e0 = tensor.empty(%t) : tensor<?x1024xf32>
  %r0:3 = ternary.quantize %x norm_weight(%g) outs(%q0, %a0, %c1)
    {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x1024xf32>, tensor<1024xbf16>, tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
      -> (tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
  %y0 = ternary.matmul %r0#0, %p, %s act_scale(%r0#1) sums(%r0#2) outs(%e0)
    {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xi8>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x1024xf32>)
      -> tensor<?x1024xf32>
  %q1 = tensor.empty(%t) : tensor<?x1024xi8>
  %a1 = tensor.empty(%t) : tensor<?xf32>
  %c2 = tensor.empty(%t) : tensor<?xi32>
  %e1 = tensor.empty(%t) : tensor<?x1024xf32>
  %r1:3 = ternary.quantize %y0 norm_weight(%g) outs(%q1, %a1, %c2)
    {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x1024xf32>, tensor<1024xbf16>, tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
      -> (tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
  %y1 = ternary.matmul %r1#0, %p, %s act_scale(%r1#1) sums(%r1#2) outs(%e1)
    {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xi8>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x1024xf32>)
      -> tensor<?x1024xf32>
  %q2 = tensor.empty(%t) : tensor<?x1024xi8>
  %a2 = tensor.empty(%t) : tensor<?xf32>
  %c3 = tensor.empty(%t) : tensor<?xi32>
  %e2 = tensor.empty(%t) : tensor<?x1024xf32>
  %r2:3 = ternary.quantize %y1 norm_weight(%g) outs(%q2, %a2, %c3)
    {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x1024xf32>, tensor<1024xbf16>, tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
      -> (tensor<?x1024xi8>, tensor<?xf32>, tensor<?xi32>)
  %y2 = ternary.matmul %r2#0, %p, %s act_scale(%r2#1) sums(%r2#2) outs(%e2)
    {layout = #ternary.layout<r16k4f4, rows = 1024, cols = 1024>}
    : (tensor<?x1024xi8>, tensor<262144xi8>, tensor<16x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x1024xf32>)
      -> tensor<?x1024xf32>
  return %y2 : tensor<?x1024xf32>
}
