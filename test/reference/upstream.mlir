// Operations of arith, math, tensor, linalg and func that modules use beside ours.
// RUN: setun-opt --interpret %s | FileCheck %s

// CHECK-LABEL: @floats
// CHECK-NEXT: f32 = 0.300000012
// CHECK-NEXT: f32 = nan
// CHECK-NEXT: f32 = 2
// CHECK-NEXT: f32 = 1
// CHECK-NEXT: f32 = 0.5
// CHECK-NEXT: f32 = 2
// CHECK-NEXT: bf16 = 0.30078125
// CHECK-NEXT: f16 = 0.333251953
// CHECK-NEXT: f64 = 0.33333333333333331
func.func @floats() -> (f32, f32, f32, f32, f32, f32, bf16, f16, f64) {
  %a = arith.constant 0.1 : f32
  %b = arith.constant 0.2 : f32
  %nan = arith.constant 0x7FC00000 : f32
  %two = arith.constant 2.0 : f32
  %zero = arith.constant 0.0 : f32
  %0 = arith.addf %a, %b : f32
  %1 = arith.maximumf %nan, %two : f32
  %2 = arith.maxnumf %nan, %two : f32
  // The exponential of the dialects: exactly 1 at 0.
  %3 = math.exp %zero : f32
  %four = arith.constant 0.25 : f32
  %4 = math.sqrt %four : f32
  %half = arith.constant 2.5 : f32
  %5 = math.roundeven %half : f32
  %6 = arith.truncf %0 : f32 to bf16
  %one16 = arith.constant 1.0 : f16
  %three16 = arith.constant 3.0 : f16
  %7 = arith.divf %one16, %three16 : f16
  %one64 = arith.constant 1.0 : f64
  %three64 = arith.constant 3.0 : f64
  %8 = arith.divf %one64, %three64 : f64
  return %0, %1, %2, %3, %4, %5, %6, %7, %8 : f32, f32, f32, f32, f32, f32, bf16, f16, f64
}

// CHECK-LABEL: @integers
// CHECK-NEXT: i8 = -56
// CHECK-NEXT: i64 = -3
// CHECK-NEXT: i64 = -4
// CHECK-NEXT: i32 = 200
// CHECK-NEXT: i32 = -56
// CHECK-NEXT: i1 = 1
// CHECK-NEXT: i1 = 0
// CHECK-NEXT: index = 7
// CHECK-NEXT: f32 = -56
// CHECK-NEXT: i32 = -1
// CHECK-NEXT: i32 = 1
// CHECK-NEXT: i32 = 1065353216
// CHECK-NEXT: i8 = -128
func.func @integers() -> (i8, i64, i64, i32, i32, i1, i1, index, f32, i32, i32, i32, i8) {
  %a = arith.constant 100 : i8
  %0 = arith.addi %a, %a : i8
  %m7 = arith.constant -7 : i64
  %two = arith.constant 2 : i64
  %1 = arith.divsi %m7, %two : i64
  %2 = arith.floordivsi %m7, %two : i64
  %3 = arith.extui %0 : i8 to i32
  %4 = arith.extsi %0 : i8 to i32
  %5 = arith.cmpi slt, %0, %a : i8
  %6 = arith.cmpi ult, %0, %a : i8
  %seven = arith.constant 7 : i64
  %7 = arith.index_cast %seven : i64 to index
  %8 = arith.sitofp %0 : i8 to f32
  %9 = arith.extsi %5 : i1 to i32
  %10 = arith.extui %5 : i1 to i32
  %one = arith.constant 1.0 : f32
  %11 = arith.bitcast %one : f32 to i32
  %low = arith.constant -128.9 : f32
  %12 = arith.fptosi %low : f32 to i8
  return %0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12 : i8, i64, i64, i32, i32, i1, i1, index, f32, i32, i32, i32, i8
}

// CHECK-LABEL: @tensors
// CHECK-NEXT: tensor<2x2xf32> = {{\[\[}}2, 3], [5, 6]]
// CHECK-NEXT: tensor<2xf32> = [4, 6]
// CHECK-NEXT: tensor<3x3xf32> = {{\[\[}}1, 2, 3], [4, 9, 6], [7, 9, 9]]
// CHECK-NEXT: tensor<3x1x3xf32> = {{\[\[\[}}1, 2, 3]], {{\[\[}}4, 5, 6]], {{\[\[}}7, 8, 9]]]
// CHECK-NEXT: tensor<9xf32> = [1, 2, 3, 4, 5, 6, 7, 8, 9]
// CHECK-NEXT: f32 = 6
// CHECK-NEXT: index = 3
// CHECK-NEXT: tensor<2xi64> = [7, 8]
// CHECK-NEXT: tensor<2x2xi64> = {{\[\[}}0, 1], [10, 11]]
// CHECK-NEXT: tensor<2x5xi64> = {{\[\[}}0, 1, 0, 1, 4], [10, 11, 10, 11, 4]]
func.func @tensors() -> (tensor<2x2xf32>, tensor<2xf32>, tensor<3x3xf32>, tensor<?x1x3xf32>, tensor<?xf32>, f32, index, tensor<2xi64>,
                         tensor<2x2xi64>, tensor<2x5xi64>) {
  %x = arith.constant dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]> : tensor<3x3xf32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %0 = tensor.extract_slice %x[0, 1] [2, 2] [1, 1] : tensor<3x3xf32> to tensor<2x2xf32>
  // Rank-reducing and strided.
  %1 = tensor.extract_slice %x[%c1, 0] [1, 2] [1, %c2] : tensor<3x3xf32> to tensor<2xf32>
  %nine = arith.constant dense<9.0> : tensor<2x1xf32>
  %2 = tensor.insert_slice %nine into %x[1, %c1] [2, 1] [1, 1] : tensor<2x1xf32> into tensor<3x3xf32>
  %d = tensor.cast %x : tensor<3x3xf32> to tensor<?x3xf32>
  %t = tensor.dim %d, %c0 : tensor<?x3xf32>
  %3 = tensor.expand_shape %d [[0, 1], [2]] output_shape [%t, 1, 3] : tensor<?x3xf32> into tensor<?x1x3xf32>
  %4 = tensor.collapse_shape %d [[0, 1]] : tensor<?x3xf32> into tensor<?xf32>
  %5 = tensor.extract %d[%c1, %c2] : tensor<?x3xf32>
  %s7 = arith.constant 7 : i64
  %s8 = arith.constant 8 : i64
  %7 = tensor.from_elements %s7, %s8 : tensor<2xi64>
  %8 = tensor.generate {
  ^bb0(%i: index, %j: index):
    %ten = arith.constant 10 : index
    %row = arith.muli %i, %ten : index
    %at = arith.addi %row, %j : index
    %value = arith.index_cast %at : index to i64
    tensor.yield %value : i64
  } : tensor<2x2xi64>
  %four = arith.constant 4 : i64
  %splat = tensor.splat %four : tensor<2x1xi64>
  %9 = tensor.concat dim(1) %8, %8, %splat : (tensor<2x2xi64>, tensor<2x2xi64>, tensor<2x1xi64>) -> tensor<2x5xi64>
  return %0, %1, %2, %3, %4, %5, %t, %7, %8, %9 : tensor<2x2xf32>, tensor<2xf32>, tensor<3x3xf32>, tensor<?x1x3xf32>, tensor<?xf32>, f32,
    index, tensor<2xi64>, tensor<2x2xi64>, tensor<2x5xi64>
}

// Structured operations run their body point by point, the last loop fastest; a tensor is summed up by lanes.
#row = affine_map<(i, j) -> (i)>
#all = affine_map<(i, j) -> (i, j)>
#flipped = affine_map<(i, j) -> (j, i)>
// CHECK-LABEL: @structured
// CHECK-NEXT: tensor<2xf32> = [1, 7]
// CHECK-NEXT: tensor<3x2xf32> = {{\[\[}}16777216, 2], [2, 4], [-16777214, 7]]
// CHECK-NEXT: tensor<2x2xf32> = {{\[\[}}3, 3], [7, 7]]
// CHECK-NEXT: tensor<2x2xf32> = {{\[\[}}1.5, 1.5], [1.5, 1.5]]
// CHECK-NEXT: tensor<2x3xi1> = {{\[\[}}1, 1, 0], [1, 1, 1]]
func.func @structured() -> (tensor<2xf32>, tensor<3x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x3xi1>) {
  %x = arith.constant dense<[[16777216.0, 1.0, -16777216.0], [1.0, 2.0, 4.0]]> : tensor<2x3xf32>
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<2xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<2xf32>) -> tensor<2xf32>
  %0 = linalg.generic {indexing_maps = [#all, #row], iterator_types = ["parallel", "reduction"]}
    ins(%x : tensor<2x3xf32>) outs(%f : tensor<2xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %s = arith.addf %acc, %a : f32
    linalg.yield %s : f32
  } -> tensor<2xf32>
  %te = tensor.empty() : tensor<3x2xf32>
  %1 = linalg.generic {indexing_maps = [#flipped, #all], iterator_types = ["parallel", "parallel"]}
    ins(%x : tensor<2x3xf32>) outs(%te : tensor<3x2xf32>) {
  ^bb0(%a: f32, %out: f32):
    %i = linalg.index 0 : index
    %j = linalg.index 1 : index
    %both = arith.addi %i, %j : index
    %n = arith.index_cast %both : index to i64
    %v = arith.sitofp %n : i64 to f32
    %s = arith.addf %a, %v : f32
    linalg.yield %s : f32
  } -> tensor<3x2xf32>
  // A named operation.
  %a = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %ones = arith.constant dense<1.0> : tensor<2x2xf32>
  %none = arith.constant dense<0.0> : tensor<2x2xf32>
  %2 = linalg.matmul ins(%a, %ones : tensor<2x2xf32>, tensor<2x2xf32>) outs(%none : tensor<2x2xf32>) -> tensor<2x2xf32>
  %c = arith.constant dense<1.5> : tensor<f32>
  %3 = linalg.broadcast ins(%c : tensor<f32>) outs(%none : tensor<2x2xf32>) dimensions = [0, 1]
  %limit = arith.constant dense<0.0> : tensor<2x3xf32>
  %4 = arith.cmpf ogt, %x, %limit : tensor<2x3xf32>
  return %0, %1, %2, %3, %4 : tensor<2xf32>, tensor<3x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x3xi1>
}

// CHECK-LABEL: @calls
// CHECK-NEXT: i64 = 9
func.func @calls() -> i64 {
  %a = arith.constant 3 : i64
  %b = call @square(%a) : (i64) -> i64
  return %b : i64
}
func.func private @square(%a: i64) -> i64 {
  %b = arith.muli %a, %a : i64
  return %b : i64
}
