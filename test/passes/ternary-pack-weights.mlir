// RUN: setun-opt %s --split-input-file --verify-diagnostics --ternary-pack-weights | FileCheck %s

// Each packed constant is a place of the weights section; what is equal shares it.
// CHECK-LABEL: func.func @places
// CHECK-DAG: %[[P:.*]] = ternary.section {offset = 0 : i64} : tensor<64xi8>
// CHECK-DAG: %[[S:.*]] = ternary.section {offset = 128 : i64} : tensor<1x1x64xf32>
// CHECK-DAG: %[[B:.*]] = ternary.section {offset = 64 : i64} : tensor<64xi8>
// CHECK-DAG: %[[D:.*]] = ternary.section {offset = 384 : i64} : tensor<2x1xf16>
// CHECK-DAG: %[[C:.*]] = ternary.section {offset = 448 : i64} : tensor<3xf32>
// CHECK-NOT: ternary.pack
// CHECK: return %[[P]], %{{.*}}, %[[B]], %[[S]], %[[D]], %[[C]]
func.func @places() -> (tensor<64xi8>, tensor<64xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<2x1xf16>, tensor<3xf32>) {
  %w = arith.constant dense<[[1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>
  %same = arith.constant dense<[[1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>
  %b = arith.constant dense<true> : tensor<2x4xi1>
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %d = arith.constant dense<0.5> : tensor<2x1xf16>
  %c = arith.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32>
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>} : (tensor<2x4xi2>) -> tensor<64xi8>
  %1 = ternary.pack %same {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>} : (tensor<2x4xi2>) -> tensor<64xi8>
  %2 = ternary.pack %b {layout = #ternary.layout<r16k4f8, rows = 2, cols = 4>} : (tensor<2x4xi1>) -> tensor<64xi8>
  %3 = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<1x1x64xf32>
  return %0, %1, %2, %3, %d, %c : tensor<64xi8>, tensor<64xi8>, tensor<64xi8>, tensor<1x1x64xf32>, tensor<2x1xf16>, tensor<3xf32>
}

// -----

// A second order of the same matrix is another place; scalars and unused constants need none.
// CHECK-LABEL: func.func @orders
// CHECK-NOT: dense<
// CHECK: arith.constant 2.000000e+00 : f32
// CHECK: ternary.section {offset = 0 : i64}
// CHECK: ternary.section {offset = 64 : i64}
// CHECK-NOT: ternary.section
// CHECK: return
func.func @orders() -> (tensor<64xi8>, tensor<64xi8>, f32) {
  %w = arith.constant dense<1> : tensor<2x4xi2>
  %v = arith.constant dense<0> : tensor<2x4xi2>
  %unused = arith.constant dense<7.0> : tensor<9xf32>
  %scalar = arith.constant 2.0 : f32
  %0 = ternary.pack %w, %v {layout = #ternary.layout<r16k4f4, rows = 4, cols = 4>} : (tensor<2x4xi2>, tensor<2x4xi2>) -> tensor<64xi8>
  %1 = ternary.pack %w, %v {layout = #ternary.layout<r16k4f4, rows = 4, cols = 4, order = gated>} : (tensor<2x4xi2>, tensor<2x4xi2>) -> tensor<64xi8>
  return %0, %1, %scalar : tensor<64xi8>, tensor<64xi8>, f32
}

// -----

// Gains of norms are halved where bf16 is as exact; not what something else takes, too.
// CHECK-LABEL: func.func @gains
// CHECK-DAG: %[[EXACT:.*]] = ternary.section {offset = {{.*}}} : tensor<4xbf16>
// CHECK-DAG: %[[LONG:.*]] = ternary.section {offset = {{.*}}} : tensor<4xf32>
// CHECK-DAG: %[[SHARED:.*]] = ternary.section {offset = {{.*}}} : tensor<4xf32>
// CHECK: ternary.norm %{{.*}} weight(%[[EXACT]])
// CHECK: ternary.norm %{{.*}} weight(%{{.*}}) bias(%{{.*}}) outs({{.*}}) {{.*}} (tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32>
// CHECK: ternary.norm %{{.*}} weight(%{{.*}}) outs({{.*}}) {{.*}} (tensor<?x4xf32>, tensor<4xf32>
// CHECK: ternary.quantize %{{.*}} norm_weight(%[[EXACT]])
func.func @gains(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>, %q: tensor<?x4xi8>, %s: tensor<?xf32>, %c: tensor<?xi32>)
    -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xi8>) {
  %exact = arith.constant dense<[1.0, -0.0, 0x7F800000, 3.140625]> : tensor<4xf32>
  %long = arith.constant dense<[1.0, 0.5, 0x3F800001, 2.0]> : tensor<4xf32>
  %shared = arith.constant dense<2.0> : tensor<4xf32>
  %0 = ternary.norm %x weight(%exact) outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x4xf32>, tensor<4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  %1 = ternary.norm %x weight(%shared) bias(%shared) outs(%y) {norm = #bitnet.norm<layer, eps = 1.0e-5>}
    : (tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  %2 = ternary.norm %x weight(%long) outs(%y) {norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x4xf32>, tensor<4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  %3:3 = ternary.quantize %x norm_weight(%exact) outs(%q, %s, %c)
    {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, norm = #bitnet.norm<rms, eps = 1.0e-5>}
    : (tensor<?x4xf32>, tensor<4xf32>, tensor<?x4xi8>, tensor<?xf32>, tensor<?xi32>)
      -> (tensor<?x4xi8>, tensor<?xf32>, tensor<?xi32>)
  return %0, %1, %2, %3#0 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xi8>
}

// -----

func.func @no_files() -> tensor<64xi8> {
  // expected-error@+1 {{expects weight files, got none}}
  %w = bitnet.weight "w" : tensor<2x4xi2>
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>} : (tensor<2x4xi2>) -> tensor<64xi8>
  return %0 : tensor<64xi8>
}

// -----

func.func @no_files_for_a_table(%x: tensor<3x1xf32>, %y: tensor<3x2xf32>) -> tensor<3x2xf32> {
  // expected-error@+1 {{expects weight files, got none}}
  %w = bitnet.weight "w" : tensor<2x1xbf16>
  %0 = ternary.dense %x, %w outs(%y) : (tensor<3x1xf32>, tensor<2x1xbf16>, tensor<3x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// -----

// expected-error@+1 {{expects packed weights to be a constant, a bitnet.weight or its bitnet.quantize_weight}}
func.func @weights_from_an_argument(%w: tensor<2x4xi2>) -> tensor<64xi8> {
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>} : (tensor<2x4xi2>) -> tensor<64xi8>
  return %0 : tensor<64xi8>
}

// -----

// expected-error@+1 {{expects a scale that is a constant, a bitnet.weight or from bitnet.quantize_weight}}
func.func @scale_from_an_argument(%s: tensor<1xf32>) -> tensor<1x1x64xf32> {
  %0 = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<1x1x64xf32>
  return %0 : tensor<1x1x64xf32>
}

// -----

func.func @zero_scale() -> tensor<1x1x64xf32> {
  %s = arith.constant dense<0.0> : tensor<1xf32>
  // expected-error@+1 {{expects scales that are finite and greater than 0, got 0}}
  %0 = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>]} : (tensor<1xf32>) -> tensor<1x1x64xf32>
  return %0 : tensor<1x1x64xf32>
}

// -----

func.func @table_from_an_argument(%w: tensor<2x1xf16>, %x: tensor<3x1xf32>, %y: tensor<3x2xf32>) -> tensor<3x2xf32> {
  // expected-error@+1 {{expects a matrix that is a constant or a bitnet.weight}}
  %0 = ternary.dense %x, %w outs(%y) : (tensor<3x1xf32>, tensor<2x1xf16>, tensor<3x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// -----

func.func @codes_as_they_are() -> tensor<2x4xi2> {
  // expected-error@+1 {{expects sub-byte constants to be packed, got 'tensor<2x4xi2>'}}
  %w = arith.constant dense<1> : tensor<2x4xi2>
  return %w : tensor<2x4xi2>
}

// -----

func.func @half_as_it_is() -> tensor<4xf16> {
  // expected-error@+1 {{expects to be packed, or to be f32 where it is used as it is, got 'tensor<4xf16>'}}
  %w = bitnet.weight "w" : tensor<4xf16>
  return %w : tensor<4xf16>
}

// -----

func.func @infinite_half(%tokens: tensor<3xi64>, %y: tensor<3x2xf32>) -> tensor<3x2xf32> {
  // expected-error@+1 {{expects finite f16 weights, got an infinity or NaN in row 1, column 1}}
  %w = arith.constant dense<[[1.0, 2.0], [0.5, 0x7C00]]> : tensor<2x2xf16>
  %0 = ternary.embedding %w, %tokens outs(%y) : (tensor<2x2xf16>, tensor<3xi64>, tensor<3x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// -----

// expected-error@+2 {{expects ternary weights of -1, 0 and +1, got -2}}
func.func @no_code() -> tensor<64xi8> {
  %w = arith.constant dense<[[1, -2, 0, 1], [0, 0, 0, 0]]> : tensor<2x4xi2>
  %0 = ternary.pack %w {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>} : (tensor<2x4xi2>) -> tensor<64xi8>
  return %0 : tensor<64xi8>
}

// -----

func.func @resource() -> tensor<1xf32> {
  // expected-error@+1 {{expects dense elements that are integers or floats, got 'tensor<1xf32>'}}
  %w = arith.constant dense_resource<blob> : tensor<1xf32>
  return %w : tensor<1xf32>
}

{-# dialect_resources: { builtin: { blob: "0x040000000000803f" } } #-}

// -----

func.func @indices() -> tensor<2xindex> {
  // expected-error@+1 {{expects dense elements that are integers or floats, got 'tensor<2xindex>'}}
  %w = arith.constant dense<[1, 2]> : tensor<2xindex>
  return %w : tensor<2xindex>
}

// -----

// expected-error@+3 {{expects a scale that is a constant, a bitnet.weight or from bitnet.quantize_weight}}
func.func @column_of_scales() -> tensor<1x1x64xf32> {
  %all = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %s = tensor.extract_slice %all[0, 1] [2, 1] [1, 1] : tensor<2x2xf32> to tensor<2xf32>
  %0 = ternary.pack_scales %s {layout = #ternary.layout<r16k4f4, rows = 2, cols = 4>, row_counts = array<i64: 2>,
    scales = [#bitnet.scales<rows>], directions = [#bitnet.direction<multiply>]} : (tensor<2xf32>) -> tensor<1x1x64xf32>
  return %0 : tensor<1x1x64xf32>
}

// -----

// Row scales of a matmul are one for a panel if its rows have the same; what is behind the last row does not count.
// CHECK-LABEL: func.func @joined
// CHECK: %[[S:.*]] = ternary.section {{.*}} : tensor<2x1x1xf32>
// CHECK: ternary.matmul %{{.*}}, %{{.*}}, %[[S]]
// CHECK-LABEL: func.func @of_a_constant
// CHECK: ternary.section {{.*}} : tensor<2x1x1xf32>
// CHECK-LABEL: func.func @not_joined
// CHECK: %[[S:.*]] = ternary.section {{.*}} : tensor<2x1x64xf32>
// CHECK: ternary.matmul %{{.*}}, %{{.*}}, %[[S]]
func.func @joined(%x: tensor<?x4xi8>, %p: tensor<128xi8>, %a: tensor<?xf32>, %c: tensor<?xi32>, %y: tensor<?x66xf32>) -> tensor<?x66xf32> {
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %t = arith.constant dense<0.25> : tensor<1xf32>
  %ws = ternary.pack_scales %s, %t {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>, row_counts = array<i64: 64, 2>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]}
    : (tensor<1xf32>, tensor<1xf32>) -> tensor<2x1x64xf32>
  %r = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>}
    : (tensor<?x4xi8>, tensor<128xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x66xf32>) -> tensor<?x66xf32>
  return %r : tensor<?x66xf32>
}
func.func @of_a_constant(%x: tensor<?x4xi8>, %p: tensor<128xi8>, %a: tensor<?xf32>, %c: tensor<?xi32>, %y: tensor<?x66xf32>) -> tensor<?x66xf32> {
  %ws = arith.constant dense<0.5> : tensor<2x1x64xf32>
  %r = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>}
    : (tensor<?x4xi8>, tensor<128xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x66xf32>) -> tensor<?x66xf32>
  return %r : tensor<?x66xf32>
}
func.func @not_joined(%x: tensor<?x4xi8>, %p: tensor<128xi8>, %a: tensor<?xf32>, %c: tensor<?xi32>, %y: tensor<?x66xf32>) -> tensor<?x66xf32> {
  %s = arith.constant dense<0.5> : tensor<1xf32>
  %t = arith.constant dense<0.25> : tensor<1xf32>
  %ws = ternary.pack_scales %s, %t {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>, row_counts = array<i64: 63, 3>,
    scales = [#bitnet.scales<tensor>, #bitnet.scales<tensor>], directions = [#bitnet.direction<multiply>, #bitnet.direction<multiply>]}
    : (tensor<1xf32>, tensor<1xf32>) -> tensor<2x1x64xf32>
  %r = ternary.matmul %x, %p, %ws act_scale(%a) sums(%c) outs(%y) {layout = #ternary.layout<r16k4f4, rows = 66, cols = 4>}
    : (tensor<?x4xi8>, tensor<128xi8>, tensor<2x1x64xf32>, tensor<?xf32>, tensor<?xi32>, tensor<?x66xf32>) -> tensor<?x66xf32>
  return %r : tensor<?x66xf32>
}
