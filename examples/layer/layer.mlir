// One ternary BitLinear layer, 8 inputs and 6 outputs, as an entry point: y = BitLinear(x) for any number of rows.
module attributes {bitnet.provenance = {source = "examples/layer"}} {
  func.func @forward(%x: tensor<?x8xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
      -> (tensor<?x6xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
    %weight = arith.constant dense<[[ 1,  0, -1,  1,  1, -1,  0,  0],
                                    [ 0,  1,  1, -1,  0,  0, -1,  1],
                                    [-1, -1,  0,  0,  1,  1,  1,  0],
                                    [ 0,  0,  0,  1, -1,  0,  1, -1],
                                    [ 1,  1,  1,  1,  1,  1,  1,  1],
                                    [-1,  0,  1, -1,  0,  1, -1,  0]]> : tensor<6x8xi2>
    %scale = arith.constant dense<0.75> : tensor<1xf32>
    %y = bitnet.linear %x, %weight scale(%scale)
      {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>}
      : (tensor<?x8xf32>, tensor<6x8xi2>, tensor<1xf32>) -> tensor<?x6xf32>
    return %y : tensor<?x6xf32>
  }
}
