//===- Passes.td - all passes of the compiler ----------------------*- tablegen -*-===//
#ifndef SETUN_PASSES_TD
#define SETUN_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// On tensors
//===----------------------------------------------------------------------===//

def BitNetRaiseLinear : Pass<"bitnet-raise-linear", "::mlir::func::FuncOp"> {
  let summary = "BitLinear layers written out as arithmetic ==> bitnet.linear, or a product of codes";
  let description = [{
    A `bitnet.dense` whose weights are 0, +s and -s (constants, or tensors of the weight files), and whose input is a
    quantiser's codes as floats, perhaps with their scale taken out again:

    ```
    %q = clamp(round(%x * %s), low, high);  %d = %q / %s;  %y = bitnet.dense %d, %w bias(%b)
    ==>
    %y = bitnet.linear %x, %codes scale(%m) bias(%b) {activation = #bitnet.act_quant<per_token, bits = 8, eps = e>}
    ```
    Read off the match: lowest and highest code, eps, axis, rounding, straight-through estimators (`x + (q - x)`),
    integer types on the way, and whether the scale divides, multiplies or comes after the product. Where the quantiser
    is that of `#bitnet.act_quant` it is one `bitnet.quantize`; any other (rounding by `floor(x + 1/2)`, another scale or
    axis) stays as it is written, and its codes go to `bitnet.matmul`, whose accumulators so are the module's own. What
    follows the product (scales, bias) stays as it is written, too. Weights without quantised input become a weight-only
    `bitnet.linear`.

    What is not raised, or only its weights, is computed as written, with a remark that says why.
  }];
  let dependentDialects = ["::mlir::bitnet::BitNetDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
  let statistics = [Statistic<"numRaised", "num-raised", "products that became those of codes">];
}

def BitNetDecomposeLinear : Pass<"bitnet-decompose-linear", "::mlir::func::FuncOp"> {
  let summary = "bitnet.linear ==> norm, quantize, matmul, dequantize";
  let description = [{
    ```
    %y = bitnet.linear %x, %w scale(%s) {activation, norm, ...}
    ==>
    %n = bitnet.rms_norm %x                 (if it has a norm)
    %q, %a, %c = bitnet.quantize %n         (if it has an activation quantiser)
    %acc = bitnet.matmul %q, %w sums(%c)
    %y = bitnet.dequantize %acc scale(%s) act_scale(%a)
    ```
    `bitnet.conv2d` becomes the same on patches of codes, a matrix with a row for each output pixel, for each group of
    channels.
  }];
  let dependentDialects = ["::mlir::bitnet::BitNetDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def BitNetConvertMath : Pass<"bitnet-convert-math", "::mlir::func::FuncOp"> {
  let summary = "functions of the math dialect ==> bitnet.math";
  let description = [{
    ```
    %y = math.exp %x : tensor<4xf32>  ==>  %y = bitnet.math <exp> %x : tensor<4xf32>
    ```
    Before anything folds them: upstream folds `math` on constants by the C library of the compiling machine. Numbers,
    tensors and bodies of structured operations alike. `math.absf`, `math.sqrt` and `math.copysign` are exact and stay.

    Limits: f32 only; others are refused where they would be compiled.
  }];
  let dependentDialects = ["::mlir::bitnet::BitNetDialect"];
}

def BitNetQuantizeHead : Pass<"bitnet-quantize-head", "::mlir::ModuleOp"> {
  let summary = "language-model head ==> linear layer of 8-bit weights";
  let description = [{
    The head is the matrix of a `bitnet.top_k`, and of a `bitnet.dense` whose result an entry point returns.
    ```
    %y = bitnet.dense %x, %w
    %ids, %best = bitnet.top_k %z, %w, %k
    ==>
    %c, %s = bitnet.quantize_weight %w {method = #bitnet.weight_quant<absmax>, scales = #bitnet.scales<rows>}
    %y = bitnet.linear %x, %c scale(%s) {activation = #bitnet.act_quant<per_token, bits = 8>, scales = #bitnet.scales<rows>}
    %logits = bitnet.linear %z, %c scale(%s) {...}
    %ids, %best = bitnet.largest %logits, %k
    ```
    All of a head's products change, so that the choice is still that of the logits. Other products stay as they are.

    Limits: matrices that are constants or a `bitnet.weight`; calls are inlined before.
  }];
  let dependentDialects = ["::mlir::bitnet::BitNetDialect"];
  let statistics = [Statistic<"numQuantized", "num-quantized", "products of a head that were quantised">];
}

def TernaryFuseStructured : Pass<"ternary-fuse-structured", "::mlir::func::FuncOp"> {
  let summary = "structured operations of one form, as few as possible";
  let description = [{
    Elementwise operations on tensors and named operations become `linalg.generic`, `tensor.concat` and `tensor.pad`
    insertions of slices, slices of a transpose become transposes of slices, and producers that are element by element
    and have one use become part of their consumer's body. Sums keep their order (`dialects/BitNet/ReductionOrder.h`): a
    product of matrices takes up no arithmetic, and a reduction stays one of a tensor. Offsets of slices that come from
    data are clamped to what lies inside, so that compiled code touches no memory but that of its tensors.
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::arith::ArithDialect", "::mlir::affine::AffineDialect"];
  let statistics = [Statistic<"numFused", "num-fused", "operations that became part of another">];
}

def ConvertBitNetToTernary : Pass<"convert-bitnet-to-ternary", "::mlir::func::FuncOp"> {
  let summary = "bitnet operations ==> ternary operations in destination style";
  let description = [{
    Each bitnet operation becomes the ternary operation of the same meaning on fresh destinations; weights are packed by
    `ternary.pack` and `ternary.pack_scales`. A `bitnet.matmul` and the `bitnet.dequantize` of its result become one
    `ternary.matmul`; other users of the accumulator read its `acc` destination. A `bitnet.top_k` becomes a scan of
    planes of few bits (`ternary.pack_head`) and the exact logits of the rows that may be among the largest, or with
    `head=exact` (and for more than 65,536 columns) a `ternary.dense` and the choice among its results; the results are
    the same.

    Limits: `bitnet.linear` must have been decomposed; a `bitnet.dequantize` must use the result of a `bitnet.matmul`.
  }];
  let options = [Option<"head", "head", "std::string", "\"certified\"",
                        "how bitnet.top_k chooses: certified or exact, with the same results">];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::arith::ArithDialect"];
}

def TernaryFuseNormQuantize : Pass<"ternary-fuse-norm-quantize", "::mlir::func::FuncOp"> {
  let summary = "norm followed by quantize ==> quantize with a norm";
  let description = [{
    ```
    %n = ternary.norm %x weight(%g) outs(%e) {norm}
    %q:3 = ternary.quantize %n outs(...)
    ==>
    %q:3 = ternary.quantize %x norm_weight(%g) outs(...) {norm}
    ```
    Only if the normalised tensor has no other use.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect"];
}

def TernaryFuseProjections : Pass<"ternary-fuse-projections", "::mlir::func::FuncOp"> {
  let summary = "matmuls of the same input ==> one matmul";
  let description = [{
    `ternary.matmul` operations that read the same codes (q, k, v; gate, up) become one with their weights below one
    another and each its own scales; users read slices of the result. If the two results are only the operands of a
    `ternary.gated`, the weights take the gated order and the gate becomes the epilogue.
    ```
    %q = ternary.matmul %x, %wq ...; %k = ternary.matmul %x, %wk ...
    ==>
    %qk = ternary.matmul %x, %wqk ...; %q = tensor.extract_slice %qk ...; %k = tensor.extract_slice %qk ...
    ```
    Limits: matmuls without accumulators, bias, residual; ternary or binary, not both; the same group.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect"];
  let statistics = [Statistic<"numFused", "num-fused", "matmuls that became part of another">];
}

def TernaryFuseEpilogue : Pass<"ternary-fuse-epilogue", "::mlir::func::FuncOp"> {
  let summary = "activation and residual addition ==> part of the matmul";
  let description = [{
    ```
    %y = ternary.matmul %x, ... outs(%e)
    %a = bitnet.math <gelu> %y
    %z = arith.addf %r, %a
    ==>
    %z = ternary.matmul %x, ... residual(%r) outs(%e) {activation = #bitnet.function<gelu>}
    ```
    Either or both; also where the result has been reshaped between. Only if the product has no other use. The sum is
    rounded once, so operand order does not matter.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect"];
}

def TernaryBlockKeys : Pass<"ternary-block-keys", "::mlir::ModuleOp"> {
  let summary = "keys of attention ==> blocks of 16 rows";
  let description = [{
    ```
    %k = ternary.cache_update %rows, %pos outs(%state)            %k = ternary.cache_update %rows, %pos outs(%state) {blocked}
    %o = ternary.attention %q, %k, %v, %pos outs(%e)         ==>  %o = ternary.attention %q, %k, %v, %pos outs(%e) {blocked}
    ```
    A state is kept blocked if in all entries nothing but its updates and attention, as keys, sees its rows; its type and
    size stay. Other keys are copied into blocks before each attention.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::arith::ArithDialect"];
  let statistics = [Statistic<"numBlocked", "num-blocked", "updates of states that are kept in blocks">,
                    Statistic<"numCopied", "num-copied", "attentions whose keys are copied into blocks">];
}

def TernaryFuseCacheUpdates : Pass<"ternary-fuse-cache-updates", "::mlir::func::FuncOp"> {
  let summary = "one token's row of the caches ==> attention writes it";
  let description = [{
    ```
    %k = ternary.cache_update %r, %pos outs(%ks) {blocked}        %k = ternary.cache_update %r, %pos outs(%ks) {blocked, solo}
    %v = ternary.cache_update %s, %pos outs(%vs)             ==>  %v = ternary.cache_update %s, %pos outs(%vs) {solo}
    %o = ternary.attention %q, %k, %v, %pos outs(%e)              %a:3 = ternary.attention %q, %k, %v, %pos new(%r, %s) outs(%e)
    return %o, %k, %v                                             return %a#2, %a#0, %a#1
    ```
    With one token an update does nothing and needs no barrier before attention; with several, all is as before. Only for
    caches of the caller (states) that are read by this attention alone.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect"];
  let statistics = [Statistic<"numFused", "num-fused", "attentions that write the rows of one token">];
}

def TernaryFuseRotary : Pass<"ternary-fuse-rotary", "::mlir::func::FuncOp"> {
  let summary = "rotary embedding ==> where queries are read and keys are written";
  let description = [{
    ```
    %r = ternary.rotary %q, %cos, %sin, %pos outs(%e)
    %s = ternary.rotary %n, %cos, %sin, %pos outs(%f)
    %k = ternary.cache_update %s, %pos outs(%keys)
    %a:3 = ternary.attention %r, %k, %v, %pos new(%s, %w) outs(%o)
    ==>
    %k = ternary.cache_update %n, %pos rotary(%cos, %sin) outs(%keys)
    %a:3 = ternary.attention %q, %k, %v, %pos new(%n, %w) rotary(%cos, %sin) outs(%o)
    ```
    Several tokens need one barrier and two passes over memory less. Only what nobody else reads; new keys and queries
    have the same tables.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect"];
  let statistics = [Statistic<"numFused", "num-fused", "operations that rotate what they read">];
}

def TernarySplitAttention : Pass<"ternary-split-attention", "::mlir::func::FuncOp"> {
  let summary = "one token's attention ==> ranges of keys, and what puts them together";
  let description = [{
    ```
    %o = ternary.attention %q, %k, %v, %pos outs(%e)
    ==>
    %p, %a = ternary.attention %q, %k, %v, %pos parts(%r) outs(%e)
    %o = ternary.attention_fold %p, %pos outs(%a)
    ```
    Threads share heads times ranges evenly, where there are fewer heads than they could share. The fold does so little
    that each thread makes it for itself (`ternary-lower-entries`), so one token has no further barrier. Results are the
    same bits: ranges are folded in the order that `bitnet.attention` states.

    Limits: blocked keys; one token, or a number that is known at run time.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::arith::ArithDialect"];
  let statistics = [Statistic<"numSplit", "num-split", "attentions that were split">];
}

def TernaryGroupSums : Pass<"ternary-group-sums", "::mlir::func::FuncOp"> {
  let summary = "sums of activation codes by group, once for all matmuls";
  let description = [{
    ```
    %q:3 = ternary.quantize %x outs(%codes, %scale, %sums)
    %y = ternary.matmul %q#0, ... sums(%q#2) {group = 128}
    ==>
    %q:3 = ternary.quantize %x outs(%codes, %scale, %group_sums) {group = 128}
    %y = ternary.matmul %q#0, ... sums(%q#2) {group = 128}
    ```
    Stored codes of weights have a zero point, so each group of each row needs the sum of its activations. Matmuls that
    are given it do not find it again for every panel. Only if all that read the sums have the same group.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect"];
  let statistics = [Statistic<"numGrouped", "num-grouped", "quantisations that sum by group">];
}

def TernaryAddProbes : Pass<"ternary-add-probes", "::mlir::ModuleOp"> {
  let summary = "makes codes and accumulators of every BitLinear outputs of the entry points";
  let description = [{
    Every `ternary.matmul` also writes its accumulators; codes and accumulators become results named
    `probe.<layer>.codes` and `probe.<layer>.acc`, where `<layer>` is the weight's name without `.weight`. For
    `setun verify`. A fused matmul gives one pair for each of its weights, in the order of the source matrix. The rows
    of a matmul have to be fixed or one of the entry's dimension symbols.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::tensor::TensorDialect"];
}

def TernarySelectKernels : Pass<"ternary-select-kernels", "::mlir::func::FuncOp"> {
  let summary = "chooses the kernel row, layout and tile of every matmul";
  let description = [{
    Writes `kernel = #ternary.kernel<row, tokens = n>` on every `ternary.matmul`: of the rows of `lib/Target/Kernels.def`
    that the features allow and the layouts of `include/setun/Packing.h`, those that are exact for the matrix and that
    the cost model (`lib/Target/CostModel.h`) predicts to be fastest. Where the layout is another than that of the
    `ternary.pack` and `ternary.pack_scales`, these are replaced. Later passes only obey.

    `kernels` overrides the model, and is an error where it cannot be obeyed.

    Limits: weights that are bytes already keep their layout.
  }];
  let options = [ListOption<"features", "features", "std::string", "CPU features, LLVM names (default: none)">,
                 Option<"cpu", "cpu", "std::string", "\"\"", "LLVM's name of the CPU, for the cost model (default: any)">,
                 Option<"threads", "threads", "unsigned", "0",
                        "cores that will run the code at once, for the cost model (default: 0, a few)">,
                 Option<"format", "format", "std::string", "\"auto\"",
                        "layout of ternary weights: auto, r16k4f4, r16k4t5 or r16k4s4 (default: auto)">,
                 Option<"row", "row", "std::string", "\"\"", "row to use wherever it is exact (default: the best)">,
                 ListOption<"kernels", "kernels", "std::string",
                            "instead of the cost model's choice, for matrices of a shape: "
                            "ROWSxCOLS[:binary][:gated][:groupN]:KERNEL:FORMAT:TOKENS:STAGED (default: none)">];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::arith::ArithDialect"];
}

def TernaryPackWeights : Pass<"ternary-pack-weights", "::mlir::ModuleOp"> {
  let summary = "packs weights into the weights section";
  let description = [{
    `ternary.pack`, `ternary.pack_scales`, `ternary.pack_head`, and every other constant tensor become `ternary.section`
    at an offset of the weight store; what is packed already (by an earlier target or entry) is shared. Streams from the
    weight files: holds one panel and its rows at a time. Row scales that are the same for all rows of a panel are stored
    once for it. An all-zero ternary matrix is a warning.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect"];
}

//===----------------------------------------------------------------------===//
// On memrefs
//===----------------------------------------------------------------------===//

def TernaryMarkEntries : Pass<"ternary-mark-entries", "::mlir::ModuleOp"> {
  let summary = "records the interface of entry points before bufferisation";
  let description = [{
    Writes `ternary.abi` on each entry function: shapes with symbol numbers for arguments and results. Inputs become
    read-only for bufferisation; states may be written. Every operation gets a `tensor.empty` of its own. Fails if the
    attributes of docs/contracts.md are missing or do not fit together.
  }];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect"];
}

def TernaryDescribeOperations : Pass<"ternary-describe-operations", "::mlir::ModuleOp"> {
  let summary = "numbers the operations of entry points and records what each of them does";
  let description = [{
    Writes `ternary.operation = N` on every operation of an entry that will be a kernel, and on the entry
    `ternary.operations`, a list of dictionaries in that order: `kind`, `detail`, `name` (of its weights or state),
    `shape`, `rows` (tokens; -1 - s where that is symbol s), `weight_bytes` (of the weights section that a run reads,
    whatever the rows), `row_bytes` (that it reads for each row), `context_bytes` (of states, for each token in the
    session), `int8_macs` and `float_macs` (multiply-adds a row). Zeros and empty texts are left out.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect"];
}

def TernaryLowerEntries : Pass<"ternary-lower-entries", "::mlir::ModuleOp"> {
  let summary = "static memory plan, barriers and C ABI of entry points";
  let description = [{
    For each entry: results become caller's buffers and states are updated in place; every `memref.alloc` gets a place in
    the workspace so that buffers whose lives do not overlap share bytes (offsets are constants, or products of constants
    and the entry's dimension symbols); `ternary.barrier` stands between operations of which one writes what another
    touches; arguments are read from the `setun_invocation`. Adds `setun_workspace_<entry>`.

    Conditions on sizes (`cf.assert`) become part of `setun_workspace_<entry>`, which returns -1 - i where the i-th is the
    first that does not hold; its attribute `ternary.conditions` has their messages. They are arithmetic on the entry's
    dimension symbols, nothing else. That a result has the sizes that its `bitnet.dims` names is a condition, too, where
    it is not plain.

    Operations whose work is small (quantize, norm, ...: what is split by tokens) are solo: with exactly one token every
    thread executes them by itself, into a part of the workspace of its own, and no barrier stands between them and their
    consumers; with several tokens (known at run time) they are split among the threads as all others, and the barrier
    is there (`ternary.barrier unless_one`).

    Matmuls of large weights, the scan of a head and the exact logits after it are given counters (`taken`), one of each
    thread: with one token a thread that is done with its share takes of the others'. Threads set theirs to 0 at the start of the entry; the first
    operation that has them stands behind a barrier.

    A quantiser that every thread executes by itself, and whose codes a matmul of large weights takes, is given the
    weights of the thread's share (`ahead`). The matmul before it, if it has counters, is given the norm's gains.

    Limits: one block; allocation sizes must follow from the entry's dimension symbols alone.
  }];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::LLVM::LLVMDialect", "::mlir::arith::ArithDialect",
                           "::mlir::memref::MemRefDialect", "::mlir::linalg::LinalgDialect", "::mlir::scf::SCFDialect"];
}

def TernaryAddMarks : Pass<"ternary-add-marks", "::mlir::ModuleOp"> {
  let summary = "calls of the invocation's mark between the operations of entry points";
  let description = [{
    An entry tells the runtime where it is, if `mark` of the `setun_invocation` is not null: once at its start, after each
    operation with that operation's number, and before an operation with `SETUN_MARK_WAIT` where there was something
    else (a barrier) since the one before. Operations that have no number yet (copies that the entry's interface needs)
    get the next ones. Removes `ternary.operation`, which must not tell equal kernels apart.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::scf::SCFDialect"];
}

def TernaryOutlineKernels : Pass<"ternary-outline-kernels", "::mlir::ModuleOp"> {
  let summary = "each operation on buffers ==> call of a kernel function";
  let description = [{
    Operations of the same kind, attributes and types call the same function, so identical layers share code. A kernel's
    last two arguments are the thread's number and the number of threads: 0 and 1 for solo operations with one token.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect", "::mlir::memref::MemRefDialect", "::mlir::arith::ArithDialect"];
  let statistics = [Statistic<"numKernels", "num-kernels", "distinct kernels">,
                    Statistic<"numCalls", "num-calls", "kernel calls">];
}

def TernaryTile : Pass<"ternary-tile", "::mlir::func::FuncOp"> {
  let summary = "operations in kernels ==> loops over this thread's tiles of vectors";
  let description = [{
    Splits each operation among the threads (rows of weights for matmuls, tokens or heads otherwise) and writes it as
    loops over vectors of 16 lanes, in the stated order of floats. Matmuls become `ternary.unpack` with `ternary.dot` or
    `ternary.dot_pairs`, as the kernel row says; `ternary.dot_tiles` for many tokens where the row has tiles.
    Features decide how many vectors attention holds in registers, and whether f16 is converted by the CPU (f16c) or by
    integer arithmetic; results are the same.
  }];
  let options = [ListOption<"features", "features", "std::string", "CPU features, LLVM names (default: none)">];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
                           "::mlir::arith::ArithDialect", "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::affine::AffineDialect"];
}

def TernaryLowerTiles : Pass<"ternary-lower-tiles", "::mlir::ModuleOp"> {
  let summary = "dots by tiles ==> functions of tile instructions";
  let description = [{
    `ternary.dot_tiles` becomes calls of functions that hold two tiles of tokens by two fields (or one of either) in
    registers: `tileloadd`, `tdpbsud`, `tilestored`. Each function has one shape of tiles, which its arguments give, for
    LLVM configures tiles once a function. In a row with outer products it becomes a call of one function in streaming
    mode: `smopa` or `sumopa` on tiles as large as the CPU has them.
  }];
  let options = [ListOption<"emulate", "emulate", "std::string",
                            "CPU features whose instructions become plain arithmetic; for tests (default: none)">];
  let dependentDialects = ["::mlir::ternary::TernaryDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
                           "::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::func::FuncDialect"];
}

def TernaryLowerVectors : Pass<"ternary-lower-vectors", "::mlir::func::FuncOp"> {
  let summary = "operations on packed bytes and dots ==> vector arithmetic and target intrinsics";
  let description = [{
    By the kernel row that the function carries (`ternary.kernel_row`; without one, `generic`): `vpdpbusd`, `vpmaddubsw`
    and `vpmaddwd` on 512 or 256 bits, `vpermi2b`; `sdot`, `usdot`, `smmla`, `usmmla`, `smull` on 128 bits, `sdot` on
    vectors of any length; or plain vector arithmetic.
  }];
  let options = [ListOption<"emulate", "emulate", "std::string",
                            "CPU features whose instructions become plain arithmetic; for tests (default: none)">];
  let dependentDialects = ["::mlir::vector::VectorDialect", "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect"];
}

def TernaryLowerReshapes : Pass<"ternary-lower-reshapes", "::mlir::func::FuncOp"> {
  let summary = "memref.expand_shape ==> memref.reinterpret_cast";
  let description = [{
    ```
    %e = memref.expand_shape %m [[0, 1], [2]] output_shape [%a, %b, 24] : memref<?x24xf32> into memref<?x?x24xf32>
    ==>
    %s = arith.muli %b, 24
    %e = memref.reinterpret_cast %m to offset: [0], sizes: [%a, %b, 24], strides: [%s, 24, 1]
    ```
    Upstream's expand-strided-metadata finds no stride where two sizes of one group are dynamic, and crashes.

    Limits: buffers whose layout is no strided one are left to upstream.
  }];
  let dependentDialects = ["::mlir::memref::MemRefDialect", "::mlir::arith::ArithDialect"];
}

def TernaryVerifyMemory : Pass<"ternary-verify-memory", "::mlir::ModuleOp"> {
  let summary = "rejects sub-byte buffers";
  let description = [{
    LLVM reads `memref<..xi2>` as one byte an element, silently. This pass makes it an error. Truth values
    (`memref<..xi1>`) are a byte each, 0 or 1, as NumPy has them: reads and writes of single elements are right, and
    ternary-tile reads vectors of them as bytes.
  }];
}

#endif // SETUN_PASSES_TD
