// A ternary and a binary layer with constants of their own; shapes that no tile divides.
module attributes {bitnet.provenance = {source = "test/driver"}} {
  func.func @forward(%x: tensor<?x66xf32> {bitnet.name = "x", bitnet.dims = ["T"]})
      -> (tensor<?x70xf32> {bitnet.name = "y", bitnet.dims = ["T"]}) attributes {bitnet.entry} {
    %w = arith.constant dense<1> : tensor<131x66xi2>
    %b = arith.constant dense<true> : tensor<70x131xi1>
    %s = arith.constant dense<0.5> : tensor<1xf32>
    %h = bitnet.linear %x, %w scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
         scales = #bitnet.scales<tensor>}
       : (tensor<?x66xf32>, tensor<131x66xi2>, tensor<1xf32>) -> tensor<?x131xf32>
    %y = bitnet.linear %h, %b scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8, eps = 1.0e-5>,
         scales = #bitnet.scales<tensor>}
       : (tensor<?x131xf32>, tensor<70x131xi1>, tensor<1xf32>) -> tensor<?x70xf32>
    return %y : tensor<?x70xf32>
  }
}
