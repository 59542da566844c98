// What each target's code is made of, for every operation that floats or codes pass through.

// RUN: setun-compile %s -o - --emit=asm --target=x86-64-v4+avx512vnni | FileCheck %s --check-prefix=VNNI
// RUN: setun-compile %s -o - --emit=asm --target=x86-64-v4 | FileCheck %s --check-prefix=BW
// RUN: setun-compile %s -o - --emit=asm --target=x86-64-v3 | FileCheck %s --check-prefix=AVX2
// RUN: setun-compile %s -o - --emit=asm --target=x86-64-v2 | FileCheck %s --check-prefix=SSE
// RUN: setun-compile %s -o - --emit=asm --target=x86-64-v3+avxvnni | FileCheck %s --check-prefix=AVXVNNI
// RUN: setun-compile %s -o - --emit=asm --target=znver4 | FileCheck %s --check-prefix=VBMI

// Ternary and binary weights alike.
// VNNI-LABEL: kernel_matmul_avx512vnni_{{[0-9]+}}:
// VNNI: vpdpbusd {{.*}}zmm
// VNNI-LABEL: kernel_matmul_avx512vnni_{{[0-9]+}}:
// VNNI: vpdpbusd {{.*}}zmm

// AVXVNNI-NOT: zmm
// AVXVNNI-LABEL: kernel_matmul_avxvnni_{{[0-9]+}}:
// AVXVNNI: {vex} vpdpbusd {{.*}}ymm
// AVXVNNI-LABEL: kernel_matmul_avxvnni_{{[0-9]+}}:
// AVXVNNI: {vex} vpdpbusd {{.*}}ymm
// AVXVNNI-NOT: zmm

// Base 3 is taken apart by two look-ups.
// VBMI-LABEL: kernel_matmul_avx512vbmi_{{[0-9]+}}:
// VBMI: vpermb {{.*}}zmm
// VBMI: vpermb {{.*}}zmm
// VBMI: vpdpbusd {{.*}}zmm

// BW-NOT: vpdpbusd
// BW-LABEL: kernel_matmul_avx512bw_{{[0-9]+}}:
// BW: vpmaddubsw {{.*}}zmm
// BW-LABEL: kernel_matmul_avx512bw_{{[0-9]+}}:
// BW: vpmaddubsw {{.*}}zmm
// BW-NOT: vpdpbusd

// AVX2-NOT: zmm
// AVX2-LABEL: kernel_matmul_avx2_{{[0-9]+}}:
// AVX2: vpmaddubsw {{.*}}ymm
// AVX2-LABEL: kernel_matmul_avx2_{{[0-9]+}}:
// AVX2: vpmaddubsw {{.*}}ymm
// AVX2-NOT: zmm

// SSE-NOT: {{[yz]mm}}
// SSE-NOT: {{v?}}pmaddubsw
// SSE-LABEL: kernel_matmul_generic_{{[0-9]+}}:
// SSE: {{pmullw|pmaddwd}}
// SSE-NOT: {{[yz]mm}}
// SSE-NOT: pmaddubsw

// Nothing is called but kernels and the barrier; products and sums are rounded one by one; no square root or reciprocal
// is an estimate.
// RUN: setun-compile %s -o %t.s --emit=asm --target=x86-64-v2,x86-64-v3,x86-64-v4,x86-64-v4+avx512vnni
// RUN: FileCheck %s --check-prefix=NONE --input-file=%t.s --implicit-check-not='@PLT' --implicit-check-not=vfmadd \
// RUN:   --implicit-check-not=vfnmadd --implicit-check-not=vfmsub --implicit-check-not=rsqrt --implicit-check-not=rcp \
// RUN:   --implicit-check-not=memset --implicit-check-not=memcpy --implicit-check-not=memmove --implicit-check-not=expf \
// RUN:   --implicit-check-not=nearbyint --implicit-check-not='call{{q?}} .*GOT'
// NONE-COUNT-4: {{^}}setun_entry_forward:

func.func @forward(%tokens: tensor<?xi64> {bitnet.name = "tokens", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                   %k: tensor<?x2x16xf32> {bitnet.state = "k", bitnet.dims = ["C"]})
    -> (tensor<?x70xf32> {bitnet.name = "y", bitnet.dims = ["T"]},
        tensor<?x2x16xf32> {bitnet.state = "k", bitnet.dims = ["C"]}) attributes {bitnet.entry, bitnet.max_context = 64 : i64} {
  %c0 = arith.constant 0 : index
  %table = arith.constant dense<0.5> : tensor<70x64xf16>
  %angles = arith.constant dense<0.5> : tensor<64x8xf32>
  %gain = arith.constant dense<2.0> : tensor<64xf32>
  %t = arith.constant dense<1> : tensor<64x64xi2>
  %b = arith.constant dense<true> : tensor<64x32xi1>
  %d = arith.constant dense<true> : tensor<32x64xi1>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %x = bitnet.embedding %table, %tokens : tensor<70x64xf16>, tensor<?xi64> -> tensor<?x64xf32>
  %q = bitnet.linear %x, %t scale(%s) norm_weight(%gain) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x64xf32>, tensor<64x64xi2>, tensor<1xf32>, tensor<64xf32>) -> tensor<?x64xf32>
  %kv = bitnet.linear %x, %d scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
    scales = #bitnet.scales<tensor>} : (tensor<?x64xf32>, tensor<32x64xi1>, tensor<1xf32>) -> tensor<?x32xf32>
  %tokens_n = tensor.dim %tokens, %c0 : tensor<?xi64>
  %qh = tensor.expand_shape %q [[0], [1, 2]] output_shape [%tokens_n, 4, 16] : tensor<?x64xf32> into tensor<?x4x16xf32>
  %kh = tensor.expand_shape %kv [[0], [1, 2]] output_shape [%tokens_n, 2, 16] : tensor<?x32xf32> into tensor<?x2x16xf32>
  %r = bitnet.rotary %qh, %angles, %angles, %pos : tensor<?x4x16xf32>, tensor<64x8xf32>
  %kn = bitnet.cache_update %k, %kh, %pos : tensor<?x2x16xf32>, tensor<?x2x16xf32>
  %o = bitnet.attention %r, %kn, %kn, %pos {causal, scale = 0.25 : f32} : tensor<?x4x16xf32>, tensor<?x2x16xf32>, tensor<?x2x16xf32>
  %of = tensor.collapse_shape %o [[0], [1, 2]] : tensor<?x4x16xf32> into tensor<?x64xf32>
  %g = bitnet.gated %of, %q {act = #bitnet.gate_act<silu>} : tensor<?x64xf32>
  %n = bitnet.layer_norm %g {eps = 1.0e-5 : f32} : (tensor<?x64xf32>) -> tensor<?x64xf32>
  %h = bitnet.hadamard %n {block = 64} : tensor<?x64xf32>
  %a = arith.addf %h, %x : tensor<?x64xf32>
  %y = bitnet.dense %a, %table : (tensor<?x64xf32>, tensor<70x64xf16>) -> tensor<?x70xf32>
  return %y, %kn : tensor<?x70xf32>, tensor<?x2x16xf32>
}
