// RUN: setun-opt %s --pass-pipeline='builtin.module(func.func(bitnet-convert-math))' | FileCheck %s

// CHECK-LABEL: func.func @functions
func.func @functions(%x: tensor<4xf32>, %n: f32, %d: tensor<4xf64>) -> tensor<4xf32> {
  // CHECK: bitnet.math <exp> %{{.*}} : tensor<4xf32>
  %0 = math.exp %x : tensor<4xf32>
  // CHECK: bitnet.math <round_even> %{{.*}} : f32
  %1 = math.roundeven %n : f32
  // CHECK: bitnet.pow %{{.*}}, %{{.*}} : tensor<4xf32>
  %2 = math.powf %0, %x : tensor<4xf32>
  // Exact ones stay, and so do other types.
  // CHECK: math.sqrt
  %3 = math.sqrt %2 : tensor<4xf32>
  // CHECK: math.exp %{{.*}} : tensor<4xf64>
  %4 = math.exp %d : tensor<4xf64>
  %e = tensor.empty() : tensor<4xf32>
  // CHECK: linalg.generic
  // CHECK: bitnet.math <tanh> %{{.*}} : f32
  %5 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
    ins(%3 : tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %b: f32):
    %t = math.tanh %a : f32
    linalg.yield %t : f32
  } -> tensor<4xf32>
  return %5 : tensor<4xf32>
}
