// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-group-sums))' | FileCheck %s

// The sums of three groups, the last shorter, for both matmuls.
// CHECK-LABEL: func.func @groups
// CHECK: %[[SUMS:.*]] = tensor.empty({{.*}}) : tensor<?x3xi32>
// CHECK: %[[Q:.*]]:3 = ternary.quantize {{.*}} outs({{.*}}, {{.*}}, %[[SUMS]]) {{{.*}}group = 32 : i64} : {{.*}} -> (tensor<?x68xi8>, tensor<?xf32>, tensor<?x3xi32>)
// CHECK-COUNT-2: ternary.matmul %[[Q]]#0, {{.*}} sums(%[[Q]]#2) {{.*}}group = 32
func.func @groups(%x: tensor<?x66xf32>, %codes: tensor<?x68xi8>, %scale: tensor<?xf32>, %sums: tensor<?xi32>,
                  %w: tensor<1088xi8>, %s: tensor<1x3x64xf32>, %y: tensor<?x5xf32>) -> (tensor<?x5xf32>, tensor<?x5xf32>) {
  %q:3 = ternary.quantize %x outs(%codes, %scale, %sums) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<?x66xf32>, tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>)
  %a = ternary.matmul %q#0, %w, %s act_scale(%q#1) sums(%q#2) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 5, cols = 66>, group = 32}
    : (tensor<?x68xi8>, tensor<1088xi8>, tensor<1x3x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x5xf32>) -> tensor<?x5xf32>
  %b = ternary.matmul %q#0, %w, %s act_scale(%q#1) sums(%q#2) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 5, cols = 66>, group = 32}
    : (tensor<?x68xi8>, tensor<1088xi8>, tensor<1x3x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x5xf32>) -> tensor<?x5xf32>
  return %a, %b : tensor<?x5xf32>, tensor<?x5xf32>
}

// -----

// One of them wants the sum of all.
// CHECK-LABEL: func.func @mixed
// CHECK: ternary.quantize {{.*}} -> (tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>)
func.func @mixed(%x: tensor<?x66xf32>, %codes: tensor<?x68xi8>, %scale: tensor<?xf32>, %sums: tensor<?xi32>,
                 %w: tensor<1088xi8>, %s: tensor<1x3x64xf32>, %t: tensor<1x1x64xf32>, %y: tensor<?x5xf32>)
    -> (tensor<?x5xf32>, tensor<?x5xf32>) {
  %q:3 = ternary.quantize %x outs(%codes, %scale, %sums) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (tensor<?x66xf32>, tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>) -> (tensor<?x68xi8>, tensor<?xf32>, tensor<?xi32>)
  %a = ternary.matmul %q#0, %w, %s act_scale(%q#1) sums(%q#2) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 5, cols = 66>, group = 32}
    : (tensor<?x68xi8>, tensor<1088xi8>, tensor<1x3x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x5xf32>) -> tensor<?x5xf32>
  %b = ternary.matmul %q#0, %w, %t act_scale(%q#1) sums(%q#2) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 5, cols = 66>}
    : (tensor<?x68xi8>, tensor<1088xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x5xf32>) -> tensor<?x5xf32>
  return %a, %b : tensor<?x5xf32>, tensor<?x5xf32>
}

// -----

// On buffers there is nothing to replace.
// CHECK-LABEL: func.func @buffers
// CHECK: ternary.quantize
func.func @buffers(%x: memref<?x66xf32>, %q: memref<?x68xi8>, %s: memref<?xf32>, %c: memref<?xi32>) {
  ternary.quantize %x outs(%q, %s, %c) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>}
    : (memref<?x66xf32>, memref<?x68xi8>, memref<?xf32>, memref<?xi32>) -> ()
  return
}
