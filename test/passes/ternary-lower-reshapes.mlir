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

// A buffer with gaps stays.
// CHECK-LABEL: func.func @gaps
// CHECK: memref.expand_shape
func.func @gaps(%m: memref<6x4xf32, strided<[8, 1]>>) -> memref<2x3x4xf32, strided<[24, 8, 1]>> {
  %e = memref.expand_shape %m [[0, 1], [2]] output_shape [2, 3, 4]
    : memref<6x4xf32, strided<[8, 1]>> into memref<2x3x4xf32, strided<[24, 8, 1]>>
  return %e : memref<2x3x4xf32, strided<[24, 8, 1]>>
}
