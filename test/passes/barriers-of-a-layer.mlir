// RUN: setun-opt %s --pass-pipeline='builtin.module(bitnet-to-ternary-pipeline,func.func(ternary-fuse-structured),cse,ternary-pack-weights,ternary-mark-entries,one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map},canonicalize,cse,ternary-lower-entries,canonicalize,cse)' | grep -oE 'ternary\.[a-z_]+ |scf.if|llvm.call|return' | FileCheck %s

// The barriers of one decoder layer. Those under `scf.if` are for several tokens. With one token there are five:
// after q, k and v (attention writes the new rows of the cache); after the ranges of attention, which every thread puts together for itself; after the output, the gate and up, the
// down projection.
// CHECK: ternary.quantize
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.matmul
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.cache_update
// CHECK-NEXT: ternary.cache_update
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.attention
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.attention_fold
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.quantize
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.matmul
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.quantize
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.matmul
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.quantize
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.matmul
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.norm
// CHECK-NEXT: scf.if
// CHECK-NEXT: llvm.call
// CHECK-NEXT: ternary.dense
// CHECK-NEXT: return
func.func @step(%x: tensor<?x64xf32> {bitnet.name = "x", bitnet.dims = ["T"]}, %pos: i64 {bitnet.position},
                %k: tensor<?x2x16xf32> {bitnet.state = "k", bitnet.dims = ["C"]},
                %v: tensor<?x2x16xf32> {bitnet.state = "v", bitnet.dims = ["C"]})
    -> (tensor<1x32xf32> {bitnet.name = "logits"}, tensor<?x2x16xf32> {bitnet.state = "k", bitnet.dims = ["C"]},
        tensor<?x2x16xf32> {bitnet.state = "v", bitnet.dims = ["C"]}) attributes {bitnet.entry, bitnet.max_context = 8 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %x, %c0 : tensor<?x64xf32>
  %wq = arith.constant dense<1> : tensor<64x64xi2>
  %wk = arith.constant dense<1> : tensor<32x64xi2>
  %wv = arith.constant dense<-1> : tensor<32x64xi2>
  %wo = arith.constant dense<-1> : tensor<64x64xi2>
  %wg = arith.constant dense<1> : tensor<96x64xi2>
  %wu = arith.constant dense<-1> : tensor<96x64xi2>
  %wd = arith.constant dense<1> : tensor<64x96xi2>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %g = arith.constant dense<0.25> : tensor<64xf32>
  %gd = arith.constant dense<0.25> : tensor<96xf32>
  %cos = arith.constant dense<0.5> : tensor<8x8xf32>
  %head = arith.constant dense<0.5> : tensor<32x64xf32>
  %n = bitnet.rms_norm %x, %g {eps = 1.0e-5 : f32} : tensor<?x64xf32>, tensor<64xf32>
  %q0 = bitnet.linear %n, %wq scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
    : (tensor<?x64xf32>, tensor<64x64xi2>, tensor<1xf32>) -> tensor<?x64xf32>
  %k0 = bitnet.linear %n, %wk scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
    : (tensor<?x64xf32>, tensor<32x64xi2>, tensor<1xf32>) -> tensor<?x32xf32>
  %v0 = bitnet.linear %n, %wv scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
    : (tensor<?x64xf32>, tensor<32x64xi2>, tensor<1xf32>) -> tensor<?x32xf32>
  %q1 = tensor.expand_shape %q0 [[0], [1, 2]] output_shape [%t, 4, 16] : tensor<?x64xf32> into tensor<?x4x16xf32>
  %k1 = tensor.expand_shape %k0 [[0], [1, 2]] output_shape [%t, 2, 16] : tensor<?x32xf32> into tensor<?x2x16xf32>
  %v1 = tensor.expand_shape %v0 [[0], [1, 2]] output_shape [%t, 2, 16] : tensor<?x32xf32> into tensor<?x2x16xf32>
  %q2 = bitnet.rotary %q1, %cos, %cos, %pos : tensor<?x4x16xf32>, tensor<8x8xf32>
  %k2 = bitnet.rotary %k1, %cos, %cos, %pos : tensor<?x2x16xf32>, tensor<8x8xf32>
  %keys = bitnet.cache_update %k, %k2, %pos : tensor<?x2x16xf32>, tensor<?x2x16xf32>
  %values = bitnet.cache_update %v, %v1, %pos : tensor<?x2x16xf32>, tensor<?x2x16xf32>
  %a = bitnet.attention %q2, %keys, %values, %pos {causal, scale = 0.25 : f32} : tensor<?x4x16xf32>, tensor<?x2x16xf32>, tensor<?x2x16xf32>
  %a1 = tensor.collapse_shape %a [[0], [1, 2]] : tensor<?x4x16xf32> into tensor<?x64xf32>
  %o = bitnet.linear %a1, %wo scale(%s) norm_weight(%g) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x64xf32>, tensor<64x64xi2>, tensor<1xf32>, tensor<64xf32>) -> tensor<?x64xf32>
  %x1 = arith.addf %x, %o : tensor<?x64xf32>
  %m = bitnet.rms_norm %x1, %g {eps = 1.0e-5 : f32} : tensor<?x64xf32>, tensor<64xf32>
  %gate = bitnet.linear %m, %wg scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
    : (tensor<?x64xf32>, tensor<96x64xi2>, tensor<1xf32>) -> tensor<?x96xf32>
  %up = bitnet.linear %m, %wu scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
    : (tensor<?x64xf32>, tensor<96x64xi2>, tensor<1xf32>) -> tensor<?x96xf32>
  %inner = bitnet.gated %gate, %up {act = #bitnet.gate_act<relu2>} : tensor<?x96xf32>
  %down = bitnet.linear %inner, %wd scale(%s) norm_weight(%gd) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x96xf32>, tensor<64x96xi2>, tensor<1xf32>, tensor<96xf32>) -> tensor<?x64xf32>
  %x2 = arith.addf %x1, %down : tensor<?x64xf32>
  %f = bitnet.rms_norm %x2, %g {eps = 1.0e-5 : f32} : tensor<?x64xf32>, tensor<64xf32>
  %last = arith.subi %t, %c1 : index
  %row = tensor.extract_slice %f[%last, 0] [1, 64] [1, 1] : tensor<?x64xf32> to tensor<1x64xf32>
  %logits = bitnet.dense %row, %head : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  return %logits, %keys, %values : tensor<1x32xf32>, tensor<?x2x16xf32>, tensor<?x2x16xf32>
}
