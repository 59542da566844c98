// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-fuse-epilogue))' | FileCheck %s

// The residual may be either operand, and be defined after the matmul.
// CHECK-LABEL: func.func @residual
// CHECK: %[[R:.*]] = math.absf
// CHECK: %[[Z:.*]] = ternary.matmul {{.*}} residual(%[[R]]) outs(%{{.*}})
// CHECK-NOT: arith.addf
// CHECK: return %[[Z]]
func.func @residual(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %ws: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                    %a: tensor<?xf32>, %e: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %y = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>) -> tensor<?x2xf32>
  %after = math.absf %r : tensor<?x2xf32>
  %z = arith.addf %y, %after : tensor<?x2xf32>
  return %z : tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @other_use
// CHECK: ternary.matmul
// CHECK-NOT: residual
// CHECK: arith.addf
func.func @other_use(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %ws: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                     %a: tensor<?xf32>, %e: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> (tensor<?x2xf32>, tensor<?x2xf32>) {
  %y = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>) -> tensor<?x2xf32>
  %z = arith.addf %r, %y : tensor<?x2xf32>
  return %z, %y : tensor<?x2xf32>, tensor<?x2xf32>
}

// -----

// A matmul has one residual; the second sum stays. A product added to itself is no residual.
// CHECK-LABEL: func.func @once
// CHECK: %[[Y:.*]] = ternary.matmul {{.*}} residual(
// CHECK: %[[Z:.*]] = arith.addf %[[Y]],
// CHECK: arith.addf %[[Z]], %[[Z]]
func.func @once(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %ws: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                %a: tensor<?xf32>, %e: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %y = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>) -> tensor<?x2xf32>
  %z = arith.addf %r, %y : tensor<?x2xf32>
  %u = arith.addf %z, %r : tensor<?x2xf32>
  %v = arith.addf %u, %u : tensor<?x2xf32>
  return %v : tensor<?x2xf32>
}

// -----

// The matmul cannot move below a reader of its accumulators.
// CHECK-LABEL: func.func @accumulators_read_before
// CHECK: ternary.matmul
// CHECK-NOT: residual
// CHECK: arith.sitofp
// CHECK: arith.addf
func.func @accumulators_read_before(%x: tensor<?x4xi8>, %p: tensor<64xi8>, %ws: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                                    %a: tensor<?xf32>, %e: tensor<?x2xf32>, %i: tensor<?x2xi32>) -> tensor<?x2xf32> {
  %y:2 = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%e) acc_outs(%i)
    {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>, tensor<?x2xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>)
  %r = arith.sitofp %y#1 : tensor<?x2xi32> to tensor<?x2xf32>
  %z = arith.addf %r, %y#0 : tensor<?x2xf32>
  return %z : tensor<?x2xf32>
}

// -----

// An activation, then the residual, both behind a reshape.
// CHECK-LABEL: func.func @activation
// CHECK-SAME: %[[R:[a-z0-9]*]]: tensor<?x3x2xf32>
// CHECK: %[[FLAT:.*]] = tensor.collapse_shape %[[R]]
// CHECK: %[[Y:.*]] = ternary.matmul {{.*}} residual(%[[FLAT]]) {{.*}} {activation = #bitnet.function<gelu>
// CHECK-NOT: bitnet.math
// CHECK: %[[Z:.*]] = tensor.expand_shape %[[Y]]
// CHECK-NOT: arith.addf
// CHECK: return %[[Z]]
func.func @activation(%r: tensor<?x3x2xf32>, %x: tensor<?x4xi8>, %p: tensor<64xi8>, %ws: tensor<1x1x64xf32>, %c: tensor<?xi32>,
                      %a: tensor<?xf32>, %e: tensor<?x2xf32>, %n: index) -> tensor<?x3x2xf32> {
  %y = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%e) {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>}
    : (tensor<?x4xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x2xf32>) -> tensor<?x2xf32>
  %s = tensor.expand_shape %y [[0, 1], [2]] output_shape [%n, 3, 2] : tensor<?x2xf32> into tensor<?x3x2xf32>
  %g = bitnet.math <gelu> %s : tensor<?x3x2xf32>
  %z = arith.addf %r, %g : tensor<?x3x2xf32>
  return %z : tensor<?x3x2xf32>
}
