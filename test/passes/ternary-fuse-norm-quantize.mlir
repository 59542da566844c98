// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-fuse-norm-quantize))' | FileCheck %s

#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @fused
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x8xf32>, %[[G:[^:]*]]: tensor<8xf32>
// CHECK-NOT: ternary.norm
// CHECK: ternary.quantize %[[X]] norm_weight(%[[G]]) outs(%{{.*}}) {{{.*}}norm = #bitnet.norm<rms, eps = {{.*}}>}
func.func @fused(%x: tensor<?x8xf32>, %g: tensor<8xf32>, %e: tensor<?x8xf32>, %q: tensor<?x8xi8>, %s: tensor<?xf32>,
                 %c: tensor<?xi32>) -> tensor<?x8xi8> {
  %n = ternary.norm %x weight(%g) outs(%e) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x8xf32>, tensor<8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %r:3 = ternary.quantize %n outs(%q, %s, %c) {activation = #quant}
    : (tensor<?x8xf32>, tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>)
  return %r#0 : tensor<?x8xi8>
}

// -----

// Asking for the size of the normalised tensor is no use of it.
#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @sizes
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x8xf32>, %[[G:[^:]*]]: tensor<8xf32>, %[[H:[^:]*]]: tensor<8xf32>
// CHECK-NOT: ternary.norm
// CHECK: ternary.quantize %[[X]] norm_weight(%[[G]]) norm_bias(%[[H]])
func.func @sizes(%x: tensor<?x8xf32>, %g: tensor<8xf32>, %h: tensor<8xf32>) -> tensor<?x8xi8> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %n = ternary.norm %x weight(%g) bias(%h) outs(%e) {norm = #bitnet.norm<layer, eps = 1.0e-5>}
    : (tensor<?x8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %u = tensor.dim %n, %c0 : tensor<?x8xf32>
  %q = tensor.empty(%u) : tensor<?x8xi8>
  %s = tensor.empty(%u) : tensor<?xf32>
  %c = tensor.empty(%u) : tensor<?xi32>
  %r:3 = ternary.quantize %n outs(%q, %s, %c) {activation = #quant}
    : (tensor<?x8xf32>, tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>)
  return %r#0 : tensor<?x8xi8>
}

// -----

#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @other_use
// CHECK: %[[N:.*]] = ternary.norm
// CHECK: ternary.quantize %[[N]] outs
func.func @other_use(%x: tensor<?x8xf32>, %e: tensor<?x8xf32>, %q: tensor<?x8xi8>, %s: tensor<?xf32>,
                     %c: tensor<?xi32>) -> (tensor<?x8xi8>, tensor<?x8xf32>) {
  %n = ternary.norm %x outs(%e) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %r:3 = ternary.quantize %n outs(%q, %s, %c) {activation = #quant}
    : (tensor<?x8xf32>, tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>)
  return %r#0, %n : tensor<?x8xi8>, tensor<?x8xf32>
}

// -----

// A quantize that has a norm takes no second one.
#quant = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>
// CHECK-LABEL: func.func @second_norm
// CHECK: %[[N:.*]] = ternary.norm
// CHECK: ternary.quantize %[[N]] outs(%{{.*}}) {{{.*}}norm = #bitnet.norm<layer
func.func @second_norm(%x: tensor<?x8xf32>, %e: tensor<?x8xf32>, %q: tensor<?x8xi8>, %s: tensor<?xf32>,
                       %c: tensor<?xi32>) -> tensor<?x8xi8> {
  %n = ternary.norm %x outs(%e) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %r:3 = ternary.quantize %n outs(%q, %s, %c) {activation = #quant, norm = #bitnet.norm<layer, eps = 1.0e-5>}
    : (tensor<?x8xf32>, tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?xi32>)
  return %r#0 : tensor<?x8xi8>
}
