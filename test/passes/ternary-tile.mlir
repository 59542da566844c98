// RUN: setun-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(ternary-tile))' | FileCheck %s

// A thread's share: ceil(tokens / threads) consecutive tokens. Rows of 20 are one vector of 16 and four lanes more.
// CHECK-LABEL: func.func @gated
// CHECK-SAME: %[[X:[a-z0-9]*]]: memref<?x20xf32>, %[[U:[a-z0-9]*]]: memref<?x20xf32>, %[[Y:[a-z0-9]*]]: memref<?x20xf32>, %[[T:[a-z0-9]*]]: index, %[[N:[a-z0-9]*]]: index
// CHECK: %[[TOKENS:.*]] = memref.dim %[[X]]
// CHECK: %[[CHUNK:.*]] = arith.ceildivui %[[TOKENS]], %[[N]]
// CHECK: %[[FIRST:.*]] = arith.muli %[[T]], %[[CHUNK]]
// CHECK: %[[BEGIN:.*]] = arith.minsi %[[FIRST]], %[[TOKENS]]
// CHECK: %[[LAST:.*]] = arith.addi %[[BEGIN]], %[[CHUNK]]
// CHECK: %[[END:.*]] = arith.minsi %[[LAST]], %[[TOKENS]]
// CHECK: scf.for %[[TOKEN:.*]] = %[[BEGIN]] to %[[END]]
// CHECK: scf.for
// CHECK: vector.load %[[X]][%[[TOKEN]], %{{.*}}] : memref<?x20xf32>, vector<16xf32>
// CHECK: vector.store %{{.*}}, %[[Y]]
// CHECK: vector.constant_mask [4]
// CHECK: vector.maskedload
// CHECK: vector.maskedstore
// CHECK-NOT: ternary.gated
func.func @gated(%x: memref<?x20xf32>, %u: memref<?x20xf32>, %y: memref<?x20xf32>, %thread: index, %threads: index)
    attributes {ternary.kernel} {
  ternary.gated %x, %u outs(%y) {act = #bitnet.gate_act<relu2>} : (memref<?x20xf32>, memref<?x20xf32>, memref<?x20xf32>) -> ()
  return
}

// -----

// sum16: sixteen lanes, then lanes 8, 4, 2 and 1 apart, each addition on its own.
// CHECK-LABEL: func.func @norm
// CHECK: arith.addf {{.*}} : vector<16xf32>
// CHECK: arith.addf {{.*}} : vector<8xf32>
// CHECK: arith.addf {{.*}} : vector<4xf32>
// CHECK: arith.addf {{.*}} : vector<2xf32>
// CHECK: arith.addf {{.*}} : vector<1xf32>
// CHECK: math.sqrt
// CHECK-NOT: math.rsqrt
// CHECK-NOT: fastmath
// CHECK-NOT: ternary.norm
func.func @norm(%x: memref<?x32xf32>, %y: memref<?x32xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  ternary.norm %x outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (memref<?x32xf32>, memref<?x32xf32>) -> ()
  return
}

// -----

// Threads share the panels of weights. 130 rows are three panels of 64, whose last rows are masked.
// CHECK-LABEL: func.func @matmul
// CHECK-SAME: %[[T:[a-z0-9]*]]: index, %[[N:[a-z0-9]*]]: index)
// CHECK: %[[PANELS:.*]] = arith.constant 3 : index
// CHECK: arith.ceildivui %[[PANELS]], %[[N]]
// CHECK: ternary.unpack %{{.*}} {bits = 2 : i64, {{.*}}field = 2 : i64}
// CHECK: ternary.dot
// CHECK: vector.create_mask
// CHECK: vector.maskedstore {{.*}} memref<?x130xi32>
// CHECK-NOT: ternary.matmul
func.func @matmul(%x: memref<?x8xi8>, %p: memref<384xi8>, %s: memref<3x1x64xf32>, %c: memref<?xi32>, %y: memref<?x130xi32>,
                  %thread: index, %threads: index) attributes {ternary.kernel, ternary.kernel_row = "avx512vnni"} {
  ternary.matmul %x, %p, %s sums(%c) acc_outs(%y)
    {layout = #ternary.layout<r16k4f4, rows = 130, cols = 8>, kernel = #ternary.kernel<"avx512vnni", tokens = 4>}
    : (memref<?x8xi8>, memref<384xi8>, memref<3x1x64xf32>, memref<?xi32>, memref<?x130xi32>) -> ()
  return
}

// -----

// Whole panels need no mask.
// CHECK-LABEL: func.func @whole_panels
// CHECK: ternary.unpack %{{.*}} {bits = 1 : i64, {{.*}}field = 6 : i64}
// CHECK: vector.store {{.*}} memref<?x128xi32>
// CHECK-NOT: vector.maskedstore
// CHECK: return
func.func @whole_panels(%x: memref<?x8xi8>, %p: memref<128xi8>, %s: memref<1x1x128xf32>, %c: memref<?xi32>, %y: memref<?x128xi32>,
                        %thread: index, %threads: index) attributes {ternary.kernel, ternary.kernel_row = "avx512vnni"} {
  ternary.matmul %x, %p, %s sums(%c) acc_outs(%y)
    {layout = #ternary.layout<r16k4f8, rows = 128, cols = 8>, kernel = #ternary.kernel<"avx512vnni", tokens = 2>}
    : (memref<?x8xi8>, memref<128xi8>, memref<1x1x128xf32>, memref<?xi32>, memref<?x128xi32>) -> ()
  return
}

// -----

// Base 3: gate and up panels in turn make one unit; 130 rows are two units of 80. Five functions of a byte, solved. A
// single token has loops of its own: what all panels need of it is read before them, and nothing waits in memory.
// CHECK-LABEL: func.func @base3_gated
// CHECK: memref.alloca() {alignment = 64 : i64} : memref<2x2x5x16xf32>
// CHECK: %[[UNITS:.*]] = arith.constant 2 : index
// CHECK: arith.ceildivui %[[UNITS]],
// CHECK: arith.cmpi eq
// CHECK-NEXT: scf.if
// CHECK: memref.load %{{.*}} : memref<?xi32>
// CHECK: memref.load %{{.*}} : memref<?xf32>
// CHECK: scf.for
// CHECK-NOT: memref.load
// CHECK-NOT: memref<2x2x5x16xf32>
// CHECK-COUNT-10: ternary.dot
// CHECK-NOT: ternary.dot
// CHECK: vector.maskedstore {{.*}} memref<?x130xf32>
// CHECK: } else {
// CHECK: %[[UPPER:.*]] = ternary.look_up_bytes %[[BYTES:.*]] {shift = 2 : i64,
// CHECK: %[[REST:.*]] = arith.subi %[[BYTES]], %[[UPPER]]
// CHECK: ternary.look_up_bytes %[[REST]]
// CHECK-COUNT-10: ternary.dot
// CHECK-NOT: ternary.dot
// CHECK: vector.store {{.*}} memref<2x2x5x16xf32>
// CHECK: vector.load {{.*}} memref<2x2x5x16xf32>
// CHECK: vector.maskedstore {{.*}} memref<?x130xf32>
// CHECK: return
func.func @base3_gated(%x: memref<?x8xi8>, %p: memref<512xi8>, %s: memref<4x1x80xf32>, %a: memref<?xf32>, %c: memref<?xi32>,
                       %y: memref<?x130xf32>, %thread: index, %threads: index)
    attributes {ternary.kernel, ternary.kernel_row = "avx512vbmi"} {
  ternary.matmul %x, %p, %s act_scale(%a) sums(%c) outs(%y) {epilogue = #ternary.epilogue<relu2>,
    layout = #ternary.layout<r16k4t5, rows = 260, cols = 8, order = gated>, kernel = #ternary.kernel<"avx512vbmi", tokens = 2>}
    : (memref<?x8xi8>, memref<512xi8>, memref<4x1x80xf32>, memref<?xf32>, memref<?xi32>, memref<?x130xf32>) -> ()
  return
}

// -----

// Looked up: from 48 tokens on indices of a block of rows, tables of a tile of tokens and sums are in scratch memory; one
// look-up gives sums of six columns, which are widened before they could wrap.
// CHECK-LABEL: func.func @look_ups
// CHECK-DAG: %[[I:.*]] = memref.view %[[SCRATCH:.*]][%{{.*}}][] : memref<?xi8> to memref<6464xi8>
// CHECK-DAG: %[[T:.*]] = memref.view %[[SCRATCH]][%{{.*}}][] : memref<?xi8> to memref<4x20x4x32xi16>
// CHECK-DAG: %[[S:.*]] = memref.view %[[SCRATCH]][%{{.*}}][] : memref<?xi8> to memref<64x1x1x4x5x16xi32>
// CHECK: arith.cmpi sge
// CHECK: scf.if
// CHECK: ternary.look_up_bytes
// CHECK: vector.store %{{.*}}, %[[I]]
// CHECK: ternary.dot_pairs {{.*}}steps = 2
// CHECK: vector.store %{{.*}}, %[[T]]
// CHECK: scf.for
// CHECK: vector.load %[[I]]
// CHECK: vector.load %[[T]]
// CHECK-COUNT-4: ternary.look_up %
// CHECK-NEXT: ternary.fence
// CHECK-COUNT-4: arith.addi {{.*}} : vector<32xi16>
// CHECK-NEXT: ternary.fence
// CHECK-COUNT-4: ternary.look_up %
// CHECK: ternary.add_pairs
// CHECK: vector.store %{{.*}}, %[[S]]
// CHECK: } else {
// CHECK: ternary.dot
// CHECK: return
func.func @look_ups(%x: memref<?x32xi8>, %p: memref<512xi8>, %s: memref<1x1x80xf32>, %c: memref<?xi32>, %scratch: memref<?xi8>,
                    %y: memref<?x80xi32>, %thread: index, %threads: index)
    attributes {ternary.kernel, ternary.kernel_row = "avx512lut"} {
  ternary.matmul %x, %p, %s sums(%c) scratch(%scratch) acc_outs(%y)
    {layout = #ternary.layout<r16k4t5, rows = 80, cols = 32>, kernel = #ternary.kernel<"avx512lut", tokens = 4, staged = 48>}
    : (memref<?x32xi8>, memref<512xi8>, memref<1x1x80xf32>, memref<?xi32>, memref<?xi8>, memref<?x80xi32>) -> ()
  return
}

// -----

// Staged: from 16 tokens on the operands of a piece of a panel go to memory once, and two-way dots read them there.
// CHECK-LABEL: func.func @staged
// CHECK: memref.alloca() {alignment = 64 : i64} : memref<4x63x64xi8>
// CHECK: memref.alloca() {alignment = 64 : i64} : memref<48x1x4x16xi32>
// CHECK: arith.cmpi sge
// CHECK: scf.if
// CHECK: ternary.unpack
// CHECK: vector.store {{.*}} memref<4x63x64xi8>
// CHECK: vector.load {{.*}} memref<4x63x64xi8>
// CHECK: ternary.dot_pairs
// CHECK: ternary.add_pairs
// CHECK: } else {
// CHECK: ternary.unpack
// CHECK: return
func.func @staged(%x: memref<?x8xi8>, %p: memref<128xi8>, %s: memref<1x1x64xf32>, %c: memref<?xi32>, %y: memref<?x64xi32>,
                  %thread: index, %threads: index) attributes {ternary.kernel, ternary.kernel_row = "avx2"} {
  ternary.matmul %x, %p, %s sums(%c) acc_outs(%y)
    {layout = #ternary.layout<r16k4f4, rows = 64, cols = 8>, kernel = #ternary.kernel<"avx2", tokens = 3, staged = 16>}
    : (memref<?x8xi8>, memref<128xi8>, memref<1x1x64xf32>, memref<?xi32>, memref<?x64xi32>) -> ()
  return
}

// -----

// Structured operations: parallel loops without gaps become one, pieces of which are shared; whole vectors, then numbers.
// CHECK-LABEL: func.func @parallel
// CHECK-SAME: %[[X:[a-z0-9]*]]: memref<?x3xf32>, %[[T:[a-z0-9]*]]: index, %[[N:[a-z0-9]*]]: index)
// CHECK: %[[FLAT:.*]] = memref.collapse_shape %[[X]]
// CHECK: arith.ceildivui %{{.*}}, %[[N]]
// CHECK: scf.for
// CHECK: scf.for
// CHECK: vector.load %[[FLAT]]
// CHECK: arith.addf {{.*}} vector<16xf32>
// CHECK: vector.store
// CHECK: scf.for
// CHECK: memref.load %[[FLAT]]
#id = affine_map<(i, j) -> (i, j)>
func.func @parallel(%x: memref<?x3xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  linalg.generic {indexing_maps = [#id], iterator_types = ["parallel", "parallel"]} outs(%x : memref<?x3xf32>) {
  ^bb0(%o: f32):
    %a = arith.addf %o, %o : f32
    linalg.yield %a : f32
  }
  return
}
// A sum by lanes, and what was there before.
// CHECK-LABEL: func.func @reduction
// CHECK: %[[SUM:.*]] = scf.for {{.*}} iter_args(%[[OLD:.*]] = %{{.*}}) -> (vector<16xf32>)
// CHECK: arith.addf %[[OLD]], %{{.*}} : vector<16xf32>
// CHECK: vector.store %[[SUM]]
// CHECK: scf.for
// CHECK: arith.addf {{.*}} : f32
// CHECK: arith.addf {{.*}} : vector<8xf32>
// CHECK: arith.addf {{.*}} : vector<1xf32>
// CHECK: %[[TOTAL:.*]] = arith.addf %{{.*}}, %{{.*}} : f32
// CHECK: memref.store %[[TOTAL]]
#first = affine_map<(i) -> (i)>
#none = affine_map<(i) -> ()>
func.func @reduction(%x: memref<?xf32>, %y: memref<f32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  linalg.generic {indexing_maps = [#first, #none], iterator_types = ["reduction"]} ins(%x : memref<?xf32>) outs(%y : memref<f32>) {
  ^bb0(%i: f32, %o: f32):
    %a = arith.addf %o, %i : f32
    linalg.yield %a : f32
  }
  return
}
// A product: a panel of columns together, tiles of registers.
// CHECK-LABEL: func.func @product
// CHECK: memref.alloca() {alignment = 64 : i64} : memref<128x16xf32>
// CHECK: scf.for {{.*}} -> (vector<16xf32>, vector<16xf32>)
// CHECK-COUNT-2: arith.addf {{.*}} : vector<16xf32>
#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>
func.func @product(%x: memref<?x8xf32>, %w: memref<?x8xf32>, %y: memref<?x?xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  linalg.generic {indexing_maps = [#mk, #nk, #mn], iterator_types = ["parallel", "parallel", "reduction"]}
    ins(%x, %w : memref<?x8xf32>, memref<?x8xf32>) outs(%y : memref<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %o, %p : f32
    linalg.yield %s : f32
  }
  return
}

// -----

func.func @not_element_by_element(%x: memref<?xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  linalg.generic {indexing_maps = [affine_map<(i) -> (i)>], iterator_types = ["parallel"]} outs(%x : memref<?xf32>) {
  ^bb0(%o: f32):
    // expected-error@+1 {{is not supported element by element}}
    %a = arith.remf %o, %o : f32
    linalg.yield %a : f32
  }
  return
}

// -----

// Only kernels are tiled.
// CHECK-LABEL: func.func @no_kernel
// CHECK: ternary.norm
func.func @no_kernel(%x: memref<?x32xf32>, %y: memref<?x32xf32>, %thread: index, %threads: index) {
  ternary.norm %x outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (memref<?x32xf32>, memref<?x32xf32>) -> ()
  return
}

// -----

func.func @not_a_kernel_operation(%x: memref<?x32xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  // expected-error@+1 {{expects to be an operation that kernels can hold}}
  ternary.barrier
  return
}

// -----

// expected-error@+1 {{expects a kernel of one block whose last arguments are a thread's number and the number of threads}}
func.func @no_threads(%x: memref<2x8xf32>) attributes {ternary.kernel} {
  return
}

// -----

func.func @tensors(%x: tensor<2x8xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  // expected-error@+1 {{expects buffers (one-shot-bufferize), got a tensor}}
  %y = ternary.norm %x outs(%x) {norm = #bitnet.norm<rms, eps = 1.0e-5>} : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return
}

// -----

// With one token, vectors of 64 bytes and many steps, the results of a unit are held in registers while the next is
// passed in runs, as many as there are results: behind each run one of them is written. The last steps come behind the
// runs, and what is held in the end is written once all parts are done.
// CHECK-LABEL: func.func @runs
// CHECK: %[[NONE:[-a-z0-9_]*]] = arith.constant -1 : index
// CHECK: scf.for {{.*}} iter_args({{.*}}, %[[BEFORE:[a-z0-9]*]] = %[[NONE]]) -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, index)
// CHECK: %[[LATER:[0-9]*]] = arith.cmpi sge, %[[BEFORE]]
// CHECK: scf.for %{{[a-z0-9]*}} = %c0{{[_0-9]*}} to %c4{{[_0-9]*}} step
// CHECK: scf.for %{{[a-z0-9]*}} = %c0{{[_0-9]*}} to %c16{{[_0-9]*}} step
// CHECK: ternary.dot
// CHECK: scf.if %[[LATER]]
// CHECK: vector.load %{{.*}} : memref<?x128xf32>
// CHECK: vector.store
// CHECK: scf.for %{{[a-z0-9]*}} = %c0{{[_0-9]*}} to %c2{{[_0-9]*}} step
// CHECK: ternary.dot
// CHECK-NOT: vector.store
// CHECK: scf.yield {{.*}}vector<16xf32>, index
// CHECK: scf.if
// CHECK-COUNT-4: vector.store
func.func @runs(%x: memref<?x264xi8>, %p: memref<8448xi8>, %s: memref<2x1x64xf32>, %a: memref<?xf32>, %c: memref<?xi32>,
    %r: memref<?x128xf32>, %y: memref<?x128xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  ternary.matmul %x, %p, %s act_scale(%a) sums(%c) residual(%r) outs(%y)
    {layout = #ternary.layout<r16k4f4, rows = 128, cols = 264>, kernel = #ternary.kernel<"avx512vnni", tokens = 4>}
    : (memref<?x264xi8>, memref<8448xi8>, memref<2x1x64xf32>, memref<?xf32>, memref<?xi32>, memref<?x128xf32>,
       memref<?x128xf32>) -> ()
  return
}

// -----

// Behind each run two lines more of what comes next are asked for, from the front again once all are.
// CHECK-LABEL: func.func @runs_ahead
// CHECK-SAME: %[[AHEAD:[a-z0-9]*]]: memref<1000xi8>
// CHECK: scf.for %[[UNIT:[a-z0-9]*]] =
// CHECK: scf.for %[[PASS:[a-z0-9]*]] =
// CHECK: ternary.dot
// CHECK: scf.if
// CHECK: %[[BEFORE:.*]] = arith.muli %[[UNIT]], %c4
// CHECK: %[[NUMBER:.*]] = arith.addi %[[BEFORE]], %[[PASS]]
// CHECK: %[[FIRST:.*]] = arith.muli %[[NUMBER]], %c2
// CHECK: %[[LINE:.*]] = arith.remui %{{.*}}, %c16
// CHECK: %[[BYTE:.*]] = arith.muli %[[LINE]], %c64
// CHECK: memref.prefetch %[[AHEAD]][%[[BYTE]]], read
// CHECK: memref.prefetch %[[AHEAD]]
// CHECK-NOT: memref.prefetch %[[AHEAD]]
// CHECK: return
func.func @runs_ahead(%x: memref<1x264xi8>, %p: memref<8448xi8>, %s: memref<2x1x64xf32>, %a: memref<1xf32>, %c: memref<1xi32>,
    %next: memref<1000xi8>, %y: memref<1x128xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  ternary.matmul %x, %p, %s act_scale(%a) sums(%c) ahead(%next) outs(%y)
    {layout = #ternary.layout<r16k4f4, rows = 128, cols = 264>, kernel = #ternary.kernel<"avx512vnni", tokens = 4>}
    : (memref<1x264xi8>, memref<8448xi8>, memref<2x1x64xf32>, memref<1xf32>, memref<1xi32>, memref<1000xi8>,
       memref<1x128xf32>) -> ()
  return
}

// -----

// Where there are counters a thread takes the most of its share, then parts of what is left of it and of the next
// threads' shares.
// CHECK-LABEL: func.func @taken
// CHECK-SAME: %[[TAKEN:[a-z0-9]*]]: memref<?x16xi64>
// CHECK: scf.if
// CHECK: memref.prefetch %[[TAKEN]]{{.*}} write
// CHECK: scf.while
// CHECK: } do {
// CHECK: ternary.dot
// CHECK: scf.while
// CHECK: } do {
// CHECK: memref.atomic_rmw addi %c1{{.*}}, %[[TAKEN]]
// CHECK: scf.yield
func.func @taken(%x: memref<?x8xi8>, %p: memref<384xi8>, %s: memref<3x1x64xf32>, %c: memref<?xi32>, %taken: memref<?x16xi64>,
    %y: memref<?x130xi32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  ternary.matmul %x, %p, %s sums(%c) taken(%taken) acc_outs(%y)
    {layout = #ternary.layout<r16k4f4, rows = 130, cols = 8>, kernel = #ternary.kernel<"avx512vnni", tokens = 4>}
    : (memref<?x8xi8>, memref<384xi8>, memref<3x1x64xf32>, memref<?xi32>, memref<?x16xi64>, memref<?x130xi32>) -> ()
  return
}

// -----

// With one token, the norm's gains are asked for in the first pass, 64 bytes ahead with each chunk of the others; with
// several tokens nothing is.
// CHECK-LABEL: func.func @ahead
// CHECK-SAME: %[[X:[a-z0-9]*]]: memref<?x256xf32>, %[[GAIN:[a-z0-9]*]]: memref<256xf32>, %[[AHEAD:[a-z0-9]*]]: memref<?xi8>
// CHECK: %[[ONE:.*]] = arith.cmpi eq, %{{.*}}, %c1
// CHECK: scf.if %[[ONE]] {
// CHECK: scf.for %[[K:[a-z0-9]*]] =
// CHECK: memref.prefetch %[[GAIN]][%[[K]]], read, locality<3>, data
// CHECK: vector.load %[[X]]
// CHECK: scf.for
// CHECK-COUNT-4: memref.prefetch %[[AHEAD]][%{{.*}}], read, locality<3>, data
// CHECK: vector.load %[[X]]
// CHECK: scf.for %[[K:[a-z0-9]*]] =
// CHECK: %[[BYTES:.*]] = arith.muli %[[K]], %c1024
// CHECK: %[[AT:.*]] = arith.divui %[[BYTES]], %c256
// CHECK: memref.prefetch %[[AHEAD]][%[[AT]]], read, locality<3>, data
// CHECK: vector.store
// CHECK: } else {
// CHECK-NOT: prefetch
// CHECK: return
func.func @ahead(%x: memref<?x256xf32>, %gain: memref<256xf32>, %next: memref<?xi8>, %q: memref<?x256xi8>, %a: memref<?xf32>,
    %c: memref<?xi32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  ternary.quantize %x norm_weight(%gain) ahead(%next) outs(%q, %a, %c)
    {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (memref<?x256xf32>, memref<256xf32>, memref<?xi8>, memref<?x256xi8>, memref<?xf32>, memref<?xi32>) -> ()
  return
}

// -----

// Of one token's keys and values no line beyond the last key is asked for: block and row of what is asked for are at most
// its block and its row.
// CHECK-LABEL: func.func @attention_parts
// CHECK: %[[KEYS:.*]] = memref.load %{{.*}} : memref<64xindex>
// CHECK-NEXT: arith.constant -1 : index
// CHECK-NEXT: %[[LAST:.*]] = arith.addi %[[KEYS]], %c-1{{.*}} : index
// CHECK: %[[LAST_BLOCK:.*]] = arith.divui %[[LAST]], %c16{{.*}} : index
// CHECK: %[[BLOCK:.*]] = arith.minsi %{{.*}}, %[[LAST_BLOCK]] : index
// CHECK: memref.prefetch %{{.*}}[%[[BLOCK]], %{{.*}}, %{{.*}}, %{{.*}}], read, locality<2>, data : memref<?x2x64x16xf16
// CHECK: memref.prefetch %{{.*}} : memref<?x2x64x16xf16
// CHECK: %[[ROW:.*]] = arith.minsi %{{.*}}, %[[LAST]] : index
// CHECK: memref.prefetch %{{.*}}[%[[ROW]], %{{.*}}, %{{.*}}], read, locality<2>, data : memref<?x2x64xf16>
// CHECK: %[[LATER:.*]] = arith.minsi %{{.*}}, %[[LAST]] : index
// CHECK: memref.prefetch %{{.*}}[%[[LATER]], %{{.*}}, %{{.*}}], read, locality<2>, data : memref<?x2x64xf16>
func.func @attention_parts(%q: memref<?x4x64xf32>, %pos: i64, %new: memref<?x2x64xf32>, %k: memref<?x2x64xf16>, %v: memref<?x2x64xf16>,
    %parts: memref<?x4x96xf32>, %o: memref<?x4x64xf32>, %thread: index, %threads: index) attributes {ternary.kernel} {
  ternary.attention %q, %k, %v, %pos new(%new, %new) parts(%parts) outs(%o) {blocked, causal, scale = 0.125 : f32}
    : (memref<?x4x64xf32>, i64, memref<?x2x64xf32>, memref<?x2x64xf32>, memref<?x2x64xf16>, memref<?x2x64xf16>, memref<?x4x96xf32>,
       memref<?x4x64xf32>) -> ()
  return
}
