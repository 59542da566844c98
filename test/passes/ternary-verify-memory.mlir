// RUN: setun-opt %s --split-input-file --verify-diagnostics --ternary-verify-memory --allow-unregistered-dialect

func.func @whole_bytes(%x: memref<4xi8>, %f: memref<4xbf16>) {
  %y = memref.alloc() : memref<4xi32>
  return
}

// -----

func.func @result() {
  // expected-error@+1 {{expects buffers of whole bytes, got 'memref<4x4xi2>'; ternary weights must be packed (ternary.pack)}}
  %y = memref.alloc() : memref<4x4xi2>
  return
}

// -----

// Truth values are bytes.
func.func @truth(%x: memref<4xi1>) {
  return
}

// -----

// expected-error@+1 {{expects buffers of whole bytes, got 'memref<4xi4>'}}
func.func @argument(%x: memref<4xi4>) {
  return
}

// -----

func.func @twelve_bits() {
  // expected-error@+1 {{expects buffers of whole bytes, got 'memref<?xi12>'}}
  %0 = "test.op"() : () -> memref<?xi12>
  return
}
