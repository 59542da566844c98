// RUN: setun-opt %s --split-input-file --ternary-lower-reshapes | FileCheck %s

// Two dynamic sizes in one group.
// CHECK-LABEL: func.func @two
// CHECK-SAME: %[[M:.*]]: memref<?x24xf32>, %[[A:.*]]: index, %[[B:.*]]: index
// CHECK: %[[C24:.*]] = arith.constant 24 : index
// CHECK: %[[S:.*]] = arith.muli %[[C24]], %[[B]]
// CHECK: memref.reinterpret_cast %[[M]] to offset: [0], sizes: [%[[A]], %[[B]], 24], strides: [%[[S]], 24, 1] : memref<?x24xf32> to memref<?x?x24xf32>
// CHECK-NOT: memref.expand_shape
func.func @two(%m: memref<?x24xf32>, %a: index, %b: index) -> memref<?x?x24xf32> {
  %e = memref.expand_shape %m [[0, 1], [2]] output_shape [%a, %b, 24] : memref<?x24xf32> into memref<?x?x24xf32>
  return %e : memref<?x?x24xf32>
}

// -----

// Static strides need no arithmetic; an outermost dynamic size is no stride.
// CHECK-LABEL: func.func @static
// CHECK-NOT: arith.muli
// CHECK: memref.reinterpret_cast {{.*}} strides: [12, 4, 1] : memref<?x4xf32> to memref<?x3x4xf32>
func.func @static(%m: memref<?x4xf32>, %a: index) -> memref<?x3x4xf32> {
  %e = memref.expand_shape %m [[0, 1], [2]] output_shape [%a, 3, 4] : memref<?x4xf32> into memref<?x3x4xf32>
  return %e : memref<?x3x4xf32>
}

// -----

// A buffer with gaps: its own strides and offset are where a group begins.
// CHECK-LABEL: func.func @gaps
// CHECK-SAME: %[[M:.*]]: memref
// CHECK: %[[BASE:.*]], %[[OFFSET:.*]], %{{.*}}:2, %{{.*}}:2 = memref.extract_strided_metadata %[[M]]
// CHECK: memref.reinterpret_cast %[[BASE]] to offset: [%[[OFFSET]]], sizes: [2, 3, 4], strides: [24, 8, 1]
func.func @gaps(%m: memref<6x4xf32, strided<[8, 1], offset: ?>>)
    -> memref<2x3x4xf32, strided<[24, 8, 1], offset: ?>> {
  %e = memref.expand_shape %m [[0, 1], [2]] output_shape [2, 3, 4]
    : memref<6x4xf32, strided<[8, 1], offset: ?>> into memref<2x3x4xf32, strided<[24, 8, 1], offset: ?>>
  return %e : memref<2x3x4xf32, strided<[24, 8, 1], offset: ?>>
}

// -----

// Two dynamic sizes in one group of a buffer with gaps.
// CHECK-LABEL: func.func @two_with_gaps
// CHECK-SAME: %[[M:.*]]: memref<{{.*}}>, %[[A:.*]]: index, %[[B:.*]]: index
// CHECK: %[[BASE:.*]], %{{.*}}, %{{.*}}:2, %[[S:.*]]:2 = memref.extract_strided_metadata %[[M]]
// CHECK: %[[OUTER:.*]] = arith.muli %[[S]]#0, %[[B]]
// CHECK: memref.reinterpret_cast %[[BASE]] to offset: [0], sizes: [%[[A]], %[[B]], 4], strides: [%[[OUTER]], %[[S]]#0, 1]
func.func @two_with_gaps(%m: memref<?x4xf32, strided<[?, 1]>>, %a: index, %b: index)
    -> memref<?x?x4xf32, strided<[?, ?, 1]>> {
  %e = memref.expand_shape %m [[0, 1], [2]] output_shape [%a, %b, 4]
    : memref<?x4xf32, strided<[?, 1]>> into memref<?x?x4xf32, strided<[?, ?, 1]>>
  return %e : memref<?x?x4xf32, strided<[?, ?, 1]>>
}
