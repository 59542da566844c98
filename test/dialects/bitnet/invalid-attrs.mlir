// Constraints of the attributes, and of those that describe entry points.
// RUN: setun-opt %s --verify-diagnostics --split-input-file

// expected-error @below {{expects bits in [2, 8], got 1}}
func.func private @act_quant_c1() attributes {a = #bitnet.act_quant<per_token, bits = 1, eps = 1.0>}

// -----

// expected-error @below {{expects bits in [2, 8], got 9}}
func.func private @act_quant_c1_high() attributes {a = #bitnet.act_quant<per_token, bits = 9, eps = 1.0>}

// -----

// expected-error @below {{expects a finite eps greater than 0, got 0.000000e+00 : f32}}
func.func private @act_quant_c2() attributes {a = #bitnet.act_quant<per_token, bits = 8, eps = 0.0>}

// -----

// A positive number that is too small for f32 is 0, one that is too large is infinite.
// expected-error @below {{expects a finite eps greater than 0, got 0.000000e+00 : f32}}
func.func private @act_quant_c2_tiny() attributes {a = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-60>}

// -----

// expected-error @below {{expects a finite eps that is not negative, got -1.000000e+00 : f32}}
func.func private @norm_c1() attributes {a = #bitnet.norm<rms, eps = -1.0>}

// -----

// expected-error @below {{expects a finite eps that is not negative}}
func.func private @norm_c1_infinite() attributes {a = #bitnet.norm<rms, eps = 1.0e60>}

// -----

// expected-error @below {{expects row ranges of at least one row, got 0}}
func.func private @scales_c1() attributes {a = #bitnet.scales<rows = [4, 0]>}

// -----

// expected-error @below {{expects at least one row range}}
func.func private @scales_c1_empty() attributes {a = #bitnet.scales<rows = []>}

// -----

// expected-error @below {{expects a group that is a positive multiple of 4, got 6}}
func.func private @scales_c2() attributes {a = #bitnet.scales<group = 6>}

// -----

// expected-error @below {{expects a group that is a positive multiple of 4, got 0}}
func.func private @scales_c2_zero() attributes {a = #bitnet.scales<group = 0>}

// -----

// expected-error @below {{expects tensor, rows or group, got columns}}
func.func private @scales_kind() attributes {a = #bitnet.scales<columns>}

// -----

// expected-error @below {{expects one symbol in "bitnet.dims" for each of the 1 dynamic dimensions of 'tensor<?x4xf32>', got 2}}
func.func @dims(%x: tensor<?x4xf32> {bitnet.dims = ["T", "K"]}) {
  return
}

// -----

// expected-error @below {{expects "bitnet.dims" to be an array of strings, got [1]}}
func.func @dims_kind(%x: tensor<?x4xf32> {bitnet.dims = [1]}) {
  return
}

// -----

// expected-error @below {{expects the bitnet.position argument to be i64, got 'i32'}}
func.func @position(%x: i32 {bitnet.position}) {
  return
}

// -----

// expected-error @below {{expects bitnet.name to be a string, got 1 : i64}}
func.func @name(%x: tensor<4xf32> {bitnet.name = 1}) {
  return
}

// -----

// expected-error @below {{expects bitnet.state to be a string, got unit}}
func.func @state(%x: tensor<4xf32>) -> (tensor<4xf32> {bitnet.state}) {
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{does not know the argument attribute bitnet.nam}}
func.func @unknown_argument(%x: tensor<4xf32> {bitnet.nam = "x"}) {
  return
}

// -----

// expected-error @below {{does not know the result attribute bitnet.position}}
func.func @unknown_result(%x: i64) -> (i64 {bitnet.position}) {
  return %x : i64
}

// -----

// expected-error @below {{does not know the attribute bitnet.entri}}
func.func @unknown() attributes {bitnet.entri} {
  return
}

// -----

// expected-error @below {{expects bitnet.max_context to be a positive i64, got -5 : i64}}
func.func @negative_context() attributes {bitnet.entry, bitnet.max_context = -5 : i64} {
  return
}

// -----

// expected-error @below {{expects bitnet.max_context to be a positive i64, got "many"}}
func.func @context_in_words() attributes {bitnet.entry, bitnet.max_context = "many"} {
  return
}

// -----

// expected-error @below {{expects bitnet.provenance to be a dictionary, got "x"}}
module attributes {bitnet.provenance = "x"} {
}
