// Entry points: named inputs, states, position, capacity, results in files.
// REQUIRES: numpy
// RUN: rm -rf %t && mkdir -p %t
// RUN: %python -c "import numpy as n; n.save(r'%t/x.npy', n.array([[1, 2], [3, 4]], 'f4').reshape(2, 1, 2)); n.save(r'%t/k.npy', n.full((3, 1, 2), 9, 'f4')); n.save(r'%t/bad.npy', n.zeros((2, 1, 3), 'f4')); n.save(r'%t/y.npy', n.zeros((3, 1, 2), 'f4'))"

// A state that is not given is zero and has the capacity of --context, else of bitnet.max_context.
// RUN: setun-opt --interpret %s --input x=%t/x.npy --context 3 | FileCheck %s --check-prefix=ZERO
// ZERO: @forward
// ZERO-NEXT: out : tensor<2x1x2xf32> = {{\[\[\[}}1, 2]], {{\[\[}}3, 4]]]
// ZERO-NEXT: k : tensor<3x1x2xf32> = {{\[\[\[}}1, 2]], {{\[\[}}3, 4]], {{\[\[}}0, 0]]]
// RUN: setun-opt --interpret %s --input x=%t/x.npy | FileCheck %s --check-prefix=CONTEXT
// CONTEXT: k : tensor<4x1x2xf32>

// RUN: setun-opt --interpret %s --entry=forward --input x=%t/x.npy --state=k=%t/k.npy --position 1 --output-dir %t/out | count 0
// RUN: %python -c "import numpy as n; print(n.load(r'%t/out/k.npy').tolist(), n.load(r'%t/out/out.npy').dtype, n.load(r'%t/out/out.npy').shape)" | FileCheck %s --check-prefix=FILES
// FILES: {{\[\[\[}}9.0, 9.0]], {{\[\[}}1.0, 2.0]], {{\[\[}}3.0, 4.0]]] float32 (2, 1, 2)

// RUN: not setun-opt --interpret %s 2>&1 | FileCheck %s --check-prefix=MISSING
// MISSING: error: input 'x' of @forward is missing
// RUN: not setun-opt --interpret %s --input z=%t/x.npy 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: error: @forward has no input 'z'; it has {{k, x|x, k}}
// RUN: not setun-opt --interpret %s --input x=%t/bad.npy 2>&1 | FileCheck %s --check-prefix=SHAPE
// SHAPE: error: input 'x': expects tensor<?x1x2xf32>, got tensor<2x1x3xf32>
// RUN: not setun-opt --interpret %s --input x=%t/x.npy --input x=%t/x.npy 2>&1 | FileCheck %s --check-prefix=TWICE
// TWICE: error: input 'x' is given twice
// RUN: not setun-opt --interpret %s --input x=%t/nothing.npy 2>&1 | FileCheck %s --check-prefix=NOFILE
// NOFILE: error: cannot open {{.*}}nothing.npy
// RUN: not setun-opt --interpret %s --entry nothing 2>&1 | FileCheck %s --check-prefix=NOENTRY
// NOENTRY: error: there is no function @nothing
// RUN: not setun-opt --interpret %s --input x=%t/x.npy --position 3 2>&1 | FileCheck %s --check-prefix=FULL
// FULL: entry.mlir:[[#]]:{{.*}} error: 'bitnet.cache_update' op expects rows below 4, got 3 to 4
// FULL: error: cannot interpret @forward
// RUN: not setun-opt --interpret %s --entry two --input x=%t/x.npy --input y=%t/y.npy 2>&1 | FileCheck %s --check-prefix=SYMBOL
// SYMBOL: error: input 'y': expects T = 2 as in other inputs, got 3
// RUN: not setun-opt --interpret %s --context nine 2>&1 | FileCheck %s --check-prefix=NUMBER
// NUMBER: error: expects a whole number for --context, got 'nine'
// RUN: not setun-opt --interpret %s --contxt 9 2>&1 | FileCheck %s --check-prefix=OPTION
// OPTION: error: does not know the option '--contxt'
// RUN: not setun-opt --interpret %s --input x=%t/x.npy --context 100000000000 2>&1 | FileCheck %s --check-prefix=LARGE
// LARGE: error: state 'k' is too large for a context of 100000000000

func.func @forward(%x: tensor<?x1x2xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                   %k: tensor<?x1x2xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x1x2xf32> {bitnet.name = "out", bitnet.dims = ["T"]}, tensor<?x1x2xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    attributes {bitnet.entry, bitnet.reset, bitnet.max_context = 4 : i64} {
  %new = bitnet.cache_update %k, %x, %pos : tensor<?x1x2xf32>, tensor<?x1x2xf32>
  return %x, %new : tensor<?x1x2xf32>, tensor<?x1x2xf32>
}

func.func @two(%x: tensor<?x1x2xf32> {bitnet.name = "x", bitnet.dims = ["T"]},
               %y: tensor<?x1x2xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) -> tensor<?x1x2xf32> {
  return %x : tensor<?x1x2xf32>
}
