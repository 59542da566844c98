// RUN: setun-opt %s --transform-interpreter --canonicalize --split-input-file | FileCheck %s

// A matmul tiles along its tokens: whatever has a row for each token is sliced, weights are not.

// CHECK-LABEL: func @tokens
// CHECK-SAME: (%[[X:.*]]: tensor<?x64xi8>, %[[P:.*]]: tensor<2048xi8>, %[[W:.*]]: tensor<2x1x64xf32>
func.func @tokens(%x: tensor<?x64xi8>, %p: tensor<2048xi8>, %w: tensor<2x1x64xf32>, %a: tensor<?xf32>,
                  %c: tensor<?xi32>, %y: tensor<?x96xf32>) -> tensor<?x96xf32> {
  // CHECK: scf.for %[[T:.*]] = {{.*}} iter_args(%[[Y:.*]] = {{.*}})
  // CHECK-DAG: %[[XT:.*]] = tensor.extract_slice %[[X]][%[[T]], 0]
  // CHECK-DAG: %[[YT:.*]] = tensor.extract_slice %[[Y]][%[[T]], 0]
  // CHECK: ternary.matmul %[[XT]], %[[P]], %[[W]] act_scale(%{{.*}}) sums(%{{.*}}) outs(%[[YT]])
  // CHECK: tensor.insert_slice
  %r = ternary.matmul %x, %p, %w act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 96, cols = 64>}
    : (tensor<?x64xi8>, tensor<2048xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x96xf32>) -> tensor<?x96xf32>
  return %r : tensor<?x96xf32>
}

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["ternary.matmul"]} in %root : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [8] : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
