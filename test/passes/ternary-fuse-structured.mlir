// RUN: setun-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(ternary-fuse-structured))' | FileCheck %s

// A chain of elementwise operations is one.
// CHECK-LABEL: func.func @chain
// CHECK: linalg.generic
// CHECK: arith.addf
// CHECK: bitnet.math <exp>
// CHECK-NOT: linalg.generic
// CHECK: return
func.func @chain(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = arith.addf %x, %y : tensor<?x4xf32>
  %1 = bitnet.math <exp> %0 : tensor<?x4xf32>
  return %1 : tensor<?x4xf32>
}

// -----

// A reduction takes up what it reduces as long as an operand has an element for each point: of a product of broadcasts
// not both, which would make it a product of matrices with another order of sums.
// CHECK-LABEL: func.func @sums
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]
// CHECK: arith.mulf
// CHECK: arith.addf
// CHECK: %[[WIDE:.*]] = linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "parallel"]
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "reduction"]} ins(%{{.*}}, %[[WIDE]] : tensor<3x4xf32>, tensor<3x3x4xf32>)
// CHECK: arith.mulf
// CHECK: arith.addf
func.func @sums(%x: tensor<3x4xf32>, %f: tensor<3xf32>, %g: tensor<3x3xf32>) -> (tensor<3xf32>, tensor<3x3xf32>) {
  %0 = arith.mulf %x, %x : tensor<3x4xf32>
  %1 = linalg.reduce { arith.addf } ins(%0 : tensor<3x4xf32>) outs(%f : tensor<3xf32>) dimensions = [1]
  %e = tensor.empty() : tensor<3x3x4xf32>
  %a = linalg.broadcast ins(%x : tensor<3x4xf32>) outs(%e : tensor<3x3x4xf32>) dimensions = [0]
  %b = linalg.broadcast ins(%x : tensor<3x4xf32>) outs(%e : tensor<3x3x4xf32>) dimensions = [1]
  %2 = arith.mulf %a, %b : tensor<3x3x4xf32>
  %3 = linalg.reduce { arith.addf } ins(%2 : tensor<3x3x4xf32>) outs(%g : tensor<3x3xf32>) dimensions = [2]
  return %1, %3 : tensor<3xf32>, tensor<3x3xf32>
}

// -----

// A product takes up a transpose, and no arithmetic.
// CHECK-LABEL: func.func @product
// CHECK: linalg.generic {{.*}}
// CHECK: math.absf
// CHECK: linalg.generic
// CHECK-SAME: iterator_types = ["parallel", "parallel", "reduction"]
// CHECK-NOT: linalg.generic
// CHECK: return
func.func @product(%x: tensor<3x4xf32>, %w: tensor<5x4xf32>, %f: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = math.absf %x : tensor<3x4xf32>
  %e = tensor.empty() : tensor<4x5xf32>
  %t = linalg.transpose ins(%w : tensor<5x4xf32>) outs(%e : tensor<4x5xf32>) permutation = [1, 0]
  %y = linalg.matmul ins(%0, %t : tensor<3x4xf32>, tensor<4x5xf32>) outs(%f : tensor<3x5xf32>) -> tensor<3x5xf32>
  return %y : tensor<3x5xf32>
}

// -----

// Work for each row is not done once more for each of its elements.
// CHECK-LABEL: func.func @rows
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel"]
// CHECK: bitnet.math <rsqrt>
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel"]
// CHECK: arith.mulf
func.func @rows(%x: tensor<3x4xf32>, %v: tensor<3xf32>) -> tensor<3x4xf32> {
  %0 = bitnet.math <rsqrt> %v : tensor<3xf32>
  %e = tensor.empty() : tensor<3x4xf32>
  %b = linalg.broadcast ins(%0 : tensor<3xf32>) outs(%e : tensor<3x4xf32>) dimensions = [1]
  %y = arith.mulf %x, %b : tensor<3x4xf32>
  return %y : tensor<3x4xf32>
}

// -----

// Offsets that come from data are moved inside; sizes are what they are.
// CHECK-LABEL: func.func @offsets
// CHECK-SAME: %[[AT:[a-z0-9]*]]: index
// CHECK: %[[LEAST:.*]] = arith.minsi %[[AT]],
// CHECK: %[[INSIDE:.*]] = arith.maxsi %[[LEAST]],
// CHECK: tensor.insert_slice %{{.*}} into %{{.*}}[%[[INSIDE]], 0]
func.func @offsets(%x: tensor<2x4xf32>, %s: tensor<?x4xf32>, %at: index) -> tensor<?x4xf32> {
  %y = tensor.insert_slice %x into %s[%at, 0] [2, 4] [1, 1] : tensor<2x4xf32> into tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// Transposes there and back around slices cancel out.
// CHECK-LABEL: func.func @heads
// CHECK-SAME: %[[X:[a-z0-9]*]]: tensor<2x5x3x4x8xf32>
// CHECK-NOT: linalg
// CHECK: %[[PART:.*]] = tensor.extract_slice %[[X]][0, 0, 1, 0, 0] [2, 5, 1, 4, 8] [1, 1, 1, 1, 1] : tensor<2x5x3x4x8xf32> to tensor<2x5x4x8xf32>
// CHECK: return %[[PART]]
func.func @heads(%x: tensor<2x5x3x4x8xf32>) -> tensor<2x5x4x8xf32> {
  %e = tensor.empty() : tensor<3x2x4x5x8xf32>
  %t = linalg.transpose ins(%x : tensor<2x5x3x4x8xf32>) outs(%e : tensor<3x2x4x5x8xf32>) permutation = [2, 0, 3, 1, 4]
  %s = tensor.extract_slice %t[1, 0, 0, 0, 0] [1, 2, 4, 5, 8] [1, 1, 1, 1, 1] : tensor<3x2x4x5x8xf32> to tensor<2x4x5x8xf32>
  %f = tensor.empty() : tensor<2x5x4x8xf32>
  %y = linalg.transpose ins(%s : tensor<2x4x5x8xf32>) outs(%f : tensor<2x5x4x8xf32>) permutation = [0, 2, 1, 3]
  return %y : tensor<2x5x4x8xf32>
}
