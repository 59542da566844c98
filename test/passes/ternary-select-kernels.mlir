// Every row of lib/Target/Kernels.def, by features.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni}))' | FileCheck %s -DROW=avx512vnni
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2,avx512f,avx512bw,avx512vl}))' | FileCheck %s -DROW=avx512bw
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2,avx512f}))' | FileCheck %s -DROW=avx2
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels))' | FileCheck %s -DROW=generic

// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2,avxvnni cpu=alderlake}))' | FileCheck %s -DROW=avxvnni
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi cpu=znver4}))' | FileCheck %s -DROW=avx512vbmi

// Bytes that are looked up make 1.6 bits a weight free where memory is slow; elsewhere two bits are cheaper to unpack. A
// layout that is asked for is taken, and so are bytes as they are.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi cpu=znver4}))' | FileCheck %s --check-prefix=BASE3
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 cpu=x86-64-v3}))' | FileCheck %s --check-prefix=BITS
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi cpu=znver4 format=r16k4f4}))' | FileCheck %s --check-prefix=BITS
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 cpu=x86-64-v3 format=r16k4t5}))' | FileCheck %s --check-prefix=BASE3
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{format=dense}))' 2>&1 | FileCheck %s --check-prefix=FORMAT
// BASE3-LABEL: func.func @free
// BASE3: ternary.pack %{{.*}} {layout = #ternary.layout<r16k4t5, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<2048xi8>
// BASE3: ternary.pack_scales {{.*}} -> tensor<2x1x80xf32>
// BASE3: ternary.matmul {{.*}} layout = #ternary.layout<r16k4t5, rows = 96, cols = 64>}
// BASE3-LABEL: func.func @ternary
// BASE3: layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>
// BITS-LABEL: func.func @free
// BITS: ternary.matmul {{.*}} layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
// FORMAT: error: expects a format of auto, r16k4f4, r16k4t5 or r16k4s4, got dense

// Two-way dots isolate fields, which is worth doing once for many tokens; groups are not staged.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 cpu=znver4}))' | FileCheck %s --check-prefix=STAGED
// STAGED-LABEL: func.func @free
// STAGED: kernel = #ternary.kernel<"avx2", tokens = 5, staged = 16>

// Look-ups are used where they are asked for; groups have dots.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi row=avx512lut cpu=znver4}))' | FileCheck %s --check-prefix=LUT
// LUT-LABEL: func.func @free
// LUT: kernel = #ternary.kernel<"avx512lut", tokens = 4, staged = 48>

// Self-tests, of small matrices and few tokens, have the kernels of large ones.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi cpu=znver4}))' | FileCheck %s --check-prefix=SELFTEST
// SELFTEST-LABEL: func.func @binary
// SELFTEST: kernel = #ternary.kernel<"avx512vbmi"
// SELFTEST-LABEL: func.func @__selftest
// SELFTEST: kernel = #ternary.kernel<"avx512lut", tokens = {{[0-9]+}}, staged = 16>

// Kernels for matrices of a shape override the model, and are refused where they cannot be obeyed.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 cpu=znver4 kernels=96x64:avx2:r16k4t5:2:32,2x4:generic:r16k4f4:5:0}))' | FileCheck %s --check-prefix=GIVEN
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 kernels=2x4:avx2:r16k4t5:1:0}))' 2>&1 | FileCheck %s --check-prefix=BYTES
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 kernels=2x4:avx512bw:r16k4f4:1:0}))' 2>&1 | FileCheck %s --check-prefix=LACKS
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 kernels=2x4:avx2:1:0}))' 2>&1 | FileCheck %s --check-prefix=MALFORMED
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx512f,avx512bw,avx512vl,avx512vnni kernels=2x98692:avx512vnni:r16k4f4:1:0}))' 2>&1 | FileCheck %s --check-prefix=INEXACT
// GIVEN-LABEL: func.func @free
// GIVEN: ternary.matmul {{.*}}kernel = #ternary.kernel<"avx2", tokens = 2, staged = 32>, layout = #ternary.layout<r16k4t5, rows = 96, cols = 64>
// GIVEN-LABEL: func.func @ternary
// GIVEN: kernel = #ternary.kernel<"generic", tokens = 5>
// GIVEN-LABEL: func.func @binary
// GIVEN: kernel = #ternary.kernel<"avx2"
// BYTES: error: {{.*}}expects a kernel for the layout r16k4f4 of bytes that are packed already, got 2x4:avx2:r16k4t5:1:0
// LACKS: error: expects a kernel row that the target supports, got 2x4:avx512bw:r16k4f4:1:0
// MALFORMED: error: expects ROWSxCOLS{{.*}}, got '2x4:avx2:1:0'
// INEXACT: error: expects {{.*}}: kernel 'avx512vnni' on r16k4f4 is exact up to 98689 columns, got 98692

// A row that is asked for is taken if the features allow it.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 row=generic}))' | FileCheck %s -DROW=generic
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2 row=avx512bw}))' 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: not setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{row=avx3}))' 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// REFUSED: error: expects a kernel row that the target supports, got avx512bw
// UNKNOWN: error: expects a kernel row that the target supports, got avx3

// Beyond the last K at which four products of the largest codes fit i32, the row falls through, even if asked for.
// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(ternary-select-kernels{features=avx2,avx512f,avx512bw,avx512vl,avx512vnni row=avx512vnni}))' | FileCheck %s --check-prefix=LONG
// LONG-LABEL: func.func @longest
// LONG: kernel = #ternary.kernel<"avx512vnni"
// LONG-LABEL: func.func @too_long
// LONG: kernel = #ternary.kernel<"avx512bw"
// LONG-LABEL: func.func @longest_binary
// LONG: kernel = #ternary.kernel<"avx512vnni"
// LONG-LABEL: func.func @too_long_binary
// LONG: kernel = #ternary.kernel<"avx512bw"

func.func @free(%x: tensor<?x64xi8>, %a: tensor<?xf32>, %c: tensor<?xi32>, %e: tensor<?x96xf32>) -> tensor<?x96xf32> {
  %w = bitnet.weight "w" : tensor<96x64xi2>
  %one = arith.constant dense<1.0> : tensor<1xf32>
  %p = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>} : (tensor<96x64xi2>) -> tensor<2048xi8>
  %s = ternary.pack_scales %one {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>, row_counts = array<i64: 96>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<2x1x64xf32>
  %y = ternary.matmul %x, %p, %s act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
    : (tensor<?x64xi8>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  return %y : tensor<?x96xf32>
}

// CHECK: func.func @ternary
// CHECK: ternary.matmul {{.*}}kernel = #ternary.kernel<"[[ROW]]", tokens = {{[1-9][0-9]*}}
func.func @ternary(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %s: tensor<1x1x64xf32>, %c: tensor<?xi32>, %e: tensor<?x2xi32>)
    -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
// CHECK: func.func @binary
// CHECK: ternary.matmul {{.*}}kernel = #ternary.kernel<"[[ROW]]", tokens = {{[1-9][0-9]*}}
func.func @binary(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %s: tensor<1x1x128xf32>, %c: tensor<?xi32>, %e: tensor<?x2xi32>)
    -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f8, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x128xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
func.func @__selftest(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %s: tensor<1x1x128xf32>, %c: tensor<?xi32>, %e: tensor<?x2xi32>)
    -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f8, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x128xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
// What has been decided stays.
// CHECK: func.func @decided
// CHECK: ternary.matmul {{.*}}kernel = #ternary.kernel<"avx2", tokens = 7>
func.func @decided(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %s: tensor<1x1x64xf32>, %c: tensor<?xi32>, %e: tensor<?x2xi32>)
    -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e)
    {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, kernel = #ternary.kernel<"avx2", tokens = 7>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
// 170 * 128 * 98688 < 2^31 <= 170 * 128 * 98692.
func.func @longest(%x: tensor<?x98688xi8>, %p: tensor<1579008xi8>, %s: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                   %e: tensor<?x2xi32>) -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 98688>}
    : (tensor<?x98688xi8>, tensor<1579008xi8>, tensor<1x1x64xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
func.func @too_long(%x: tensor<?x98692xi8>, %p: tensor<1579072xi8>, %s: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                    %e: tensor<?x2xi32>) -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 98692>}
    : (tensor<?x98692xi8>, tensor<1579072xi8>, tensor<1x1x64xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
// 255 * 128 * 65792 < 2^31 <= 255 * 128 * 65796.
func.func @longest_binary(%x: tensor<?x65792xi8>, %p: tensor<1052672xi8>, %s: tensor<1x1x128xf32>, %c: tensor<?xi32>,
                          %e: tensor<?x2xi32>) -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f8, rows = 2, cols = 65792>}
    : (tensor<?x65792xi8>, tensor<1052672xi8>, tensor<1x1x128xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
func.func @too_long_binary(%x: tensor<?x65796xi8>, %p: tensor<1052736xi8>, %s: tensor<1x1x128xf32>, %c: tensor<?xi32>,
                           %e: tensor<?x2xi32>) -> tensor<?x2xi32> {
  %y = ternary.matmul %x, %p, %s sums(%c) acc_outs(%e) {layout = #ternary.layout<r16k4f8, rows = 2, cols = 65796>}
    : (tensor<?x65796xi8>, tensor<1052736xi8>, tensor<1x1x128xf32>, tensor<?xi32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return %y : tensor<?x2xi32>
}
