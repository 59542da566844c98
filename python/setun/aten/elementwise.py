"""Elementwise operators: arithmetic, comparisons, choices, functions, activations, conversions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import fx

from setun.aten.registry import (
    argument,
    elementwise_operands,
    lowers,
    operand,
    result_element,
)
from setun.writer import FLOATS, Function, Unsupported, Value, element_of, sizes_of

aten = torch.ops.aten


def _by_element(f: Function, name: str, a: Value, b: Value, hint: str = "") -> Value:
    """`arith.<name>f` or `arith.<name>i`."""
    return f.apply(f"arith.{name}{'f' if a.element in FLOATS else 'i'}", a, b, hint=hint)


# Arithmetic.


def _sum(name: str) -> Callable[[Function, fx.Node], Value]:
    def lower(f: Function, node: fx.Node) -> Value:
        a, b = elementwise_operands(f, node, *node.args[:2], element=result_element(node))
        if node.target is aten.rsub.Scalar:
            a, b = b, a
        alpha = argument(node, "alpha", 1)
        if alpha != 1:
            b = _by_element(f, "mul", b, f.filled(alpha, b.sizes, b.element))
        if a.element == "i1":
            if name == "sub":
                raise Unsupported("operands of bool")
            return f.apply("arith.ori", a, b, hint=node.name)
        return _by_element(f, name, a, b, node.name)

    return lower


lowers(aten.add.Tensor, aten.add.Scalar)(_sum("add"))
lowers(aten.sub.Tensor, aten.sub.Scalar, aten.rsub.Scalar)(_sum("sub"))


@lowers(aten.mul.Tensor, aten.mul.Scalar)
def _mul(f: Function, node: fx.Node) -> Value:
    a, b = elementwise_operands(f, node, *node.args[:2], element=result_element(node))
    return f.apply("arith.andi", a, b, hint=node.name) if a.element == "i1" else _by_element(f, "mul", a, b, node.name)


@lowers(aten.div.Tensor, aten.div.Scalar, aten.true_divide.Tensor)
def _div(f: Function, node: fx.Node) -> Value:
    a, b = elementwise_operands(f, node, *node.args[:2], element=result_element(node))
    return f.apply("arith.divf", a, b, hint=node.name)


@lowers(aten.div.Tensor_mode, aten.div.Scalar_mode, aten.floor_divide.default)
def _div_mode(f: Function, node: fx.Node) -> Value:
    a, b = elementwise_operands(f, node, *node.args[:2], element=result_element(node))
    mode = "floor" if node.target is aten.floor_divide.default else argument(node, "rounding_mode")
    if a.element not in FLOATS:
        return f.apply("arith.floordivsi" if mode == "floor" else "arith.divsi", a, b, hint=node.name)
    quotient = f.apply("arith.divf", a, b, hint=node.name)
    return quotient if mode is None else f.apply(f"math.{mode}", quotient, hint=node.name)


@lowers(aten.remainder.Tensor, aten.remainder.Scalar, aten.fmod.Tensor, aten.fmod.Scalar)
def _remainder(f: Function, node: fx.Node) -> Value:
    a, b = elementwise_operands(f, node, *node.args[:2], element=result_element(node))
    towards_zero = node.target in (aten.fmod.Tensor, aten.fmod.Scalar)
    if a.element in FLOATS:
        # a - b * round(a / b), each step rounded
        whole = f.apply("math.trunc" if towards_zero else "math.floor", f.apply("arith.divf", a, b))
        return f.apply("arith.subf", a, f.apply("arith.mulf", whole, b), hint=node.name)
    rest = f.apply("arith.remsi", a, b, hint=node.name)
    if towards_zero:
        return rest
    # The remainder has the sign of the divisor.
    zero = f.filled(0, a.sizes, a.element)
    signs = f.apply("arith.xori", f.compare("lt", rest, zero), f.compare("lt", b, zero))
    wrong = f.apply("arith.andi", signs, f.compare("ne", rest, zero))
    return f.select(wrong, _by_element(f, "add", rest, b), rest, node.name)


@lowers(aten.addcmul.default, aten.addcdiv.default)
def _add_product(f: Function, node: fx.Node) -> Value:
    x, a, b = elementwise_operands(f, node, *node.args[:3], element=result_element(node))
    value = argument(node, "value", 1)
    if value != 1:
        a = _by_element(f, "mul", f.filled(value, a.sizes, a.element), a)
    product = f.apply("arith.divf", a, b) if node.target is aten.addcdiv.default else _by_element(f, "mul", a, b)
    return _by_element(f, "add", x, product, node.name)


@lowers(aten.lerp.Scalar, aten.lerp.Tensor)
def _lerp(f: Function, node: fx.Node) -> Value:
    a, b, weight = elementwise_operands(f, node, *node.args[:3], element=result_element(node))
    return f.apply("arith.addf", a, f.apply("arith.mulf", weight, f.apply("arith.subf", b, a)), hint=node.name)


@lowers(aten.neg.default)
def _neg(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0])
    if x.element in FLOATS:
        return f.apply("arith.negf", x, hint=node.name)
    return f.apply("arith.subi", f.filled(0, x.sizes, x.element), x, hint=node.name)


@lowers(aten.abs.default)
def _abs(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0])
    if x.element in FLOATS:
        return f.apply("math.absf", x, hint=node.name)
    return f.apply("arith.maxsi", x, f.apply("arith.subi", f.filled(0, x.sizes, x.element), x), hint=node.name)


@lowers(aten.square.default)
def _square(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0])
    return _by_element(f, "mul", x, x, node.name)


@lowers(aten.reciprocal.default)
def _reciprocal(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0], element=result_element(node))
    return f.apply("arith.divf", f.filled(1, x.sizes, x.element), x, hint=node.name)


@lowers(aten.sign.default, aten.sgn.default)
def _sign(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0])
    zero, one, minus = (f.filled(number, x.sizes, x.element) for number in (0, 1, -1))
    negative = f.select(f.compare("lt", x, zero), minus, zero)
    return f.select(f.compare("gt", x, zero), one, negative, node.name)


@lowers(aten.pow.Tensor_Scalar)
def _pow_scalar(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0], element=result_element(node))
    exponent = node.args[1]
    if isinstance(exponent, (int, float)) and exponent == int(exponent) and 1 <= exponent <= 4:
        power = x
        for _ in range(int(exponent) - 1):
            power = _by_element(f, "mul", power, x, node.name)
        return power
    if x.element not in FLOATS:
        raise Unsupported(f"an integer to the power {exponent}")
    roots = {0.5: "math.sqrt", -0.5: "math.rsqrt"}
    if exponent in roots:
        return f.apply(roots[exponent], x, hint=node.name)
    if exponent == -1:
        return f.apply("arith.divf", f.filled(1, x.sizes, x.element), x, hint=node.name)
    return f.apply("math.powf", x, f.filled(exponent, x.sizes, x.element), hint=node.name)


@lowers(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def _pow(f: Function, node: fx.Node) -> Value:
    base, exponent = elementwise_operands(f, node, *node.args, element=result_element(node))
    if base.element not in FLOATS:
        raise Unsupported("powers of integers")
    return f.apply("math.powf", base, exponent, hint=node.name)


# The smaller and the larger.


def _extreme(f: Function, a: Value, b: Value, largest: bool, hint: str = "") -> Value:
    name = "max" if largest else "min"
    if a.element in FLOATS:
        return f.apply(f"arith.{name}imumf", a, b, hint=hint)
    return f.apply(f"arith.{name}{'ui' if a.element == 'i1' else 'si'}", a, b, hint=hint)


@lowers(aten.maximum.default, aten.minimum.default, aten.max.other, aten.min.other)
def _maximum(f: Function, node: fx.Node) -> Value:
    a, b = elementwise_operands(f, node, *node.args)
    return _extreme(f, a, b, node.target in (aten.maximum.default, aten.max.other), node.name)


@lowers(aten.clamp.default, aten.clamp.Tensor, aten.clip.default, aten.clamp_min.default, aten.clamp_max.default)
def _clamp(f: Function, node: fx.Node) -> Value:
    element = result_element(node)
    (x,) = elementwise_operands(f, node, node.args[0], element=element)
    for name, largest in (("min", True), ("max", False)):
        bound = argument(node, name)
        if bound is not None:
            x = _extreme(f, x, operand(f, bound, element, x.sizes), largest, node.name)
    return x


@lowers(aten.hardtanh.default, aten.relu6.default)
def _hardtanh(f: Function, node: fx.Node) -> Value:
    low, high = argument(node, "min_val", -1.0), argument(node, "max_val", 1.0)
    if node.target is aten.relu6.default:
        low, high = 0.0, 6.0
    (x,) = elementwise_operands(f, node, node.args[0])
    x = _extreme(f, x, f.filled(low, x.sizes, x.element), True)
    return _extreme(f, x, f.filled(high, x.sizes, x.element), False, node.name)


# Comparisons, logic, choices.


def _comparison(predicate: str) -> Callable[[Function, fx.Node], Value]:
    def lower(f: Function, node: fx.Node) -> Value:
        a, b = elementwise_operands(f, node, *node.args)
        return f.compare(predicate, a, b, node.name)

    return lower


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _packet = getattr(aten, _name)
    lowers(_packet.Tensor, _packet.Scalar)(_comparison(_name))


def _logic(mnemonic: str, logical: bool) -> Callable[[Function, fx.Node], Value]:
    def lower(f: Function, node: fx.Node) -> Value:
        a, b = elementwise_operands(f, node, *node.args, element="i1" if logical else None)
        return f.apply(mnemonic, a, b, hint=node.name)

    return lower


for _name, _mnemonic in (("and", "arith.andi"), ("or", "arith.ori"), ("xor", "arith.xori")):
    lowers(getattr(aten, f"logical_{_name}").default)(_logic(_mnemonic, True))
    _packet = getattr(aten, f"bitwise_{_name}")
    lowers(_packet.Tensor, _packet.Scalar)(_logic(_mnemonic, False))
    _packet = getattr(aten, f"__{_name}__")
    lowers(_packet.Tensor, _packet.Scalar)(_logic(_mnemonic, False))


@lowers(aten.logical_not.default, aten.bitwise_not.default)
def _not(f: Function, node: fx.Node) -> Value:
    logical = node.target is aten.logical_not.default
    (x,) = elementwise_operands(f, node, node.args[0], element="i1" if logical else None)
    return f.apply("arith.xori", x, f.filled(1 if x.element == "i1" else -1, x.sizes, x.element), hint=node.name)


def _shift(mnemonic: str) -> Callable[[Function, fx.Node], Value]:
    def lower(f: Function, node: fx.Node) -> Value:
        a, b = elementwise_operands(f, node, *node.args, element=result_element(node))
        return f.apply(mnemonic, a, b, hint=node.name)

    return lower


for _names, _mnemonic in (
    (("bitwise_right_shift", "__rshift__"), "arith.shrsi"),
    (("bitwise_left_shift", "__lshift__"), "arith.shli"),
):
    for _name in _names:
        for _overload in ("Tensor", "Tensor_Scalar", "Scalar"):
            if _overload in getattr(aten, _name).overloads():
                lowers(getattr(getattr(aten, _name), _overload))(_shift(_mnemonic))


@lowers(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def _where(f: Function, node: fx.Node) -> Value:
    condition = operand(f, node.args[0], "i1", sizes_of(node))
    a, b = elementwise_operands(f, node, *node.args[1:], element=result_element(node))
    return f.select(condition, a, b, node.name)


@lowers(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def _masked_fill(f: Function, node: fx.Node) -> Value:
    x, value = elementwise_operands(f, node, node.args[0], node.args[2], element=result_element(node))
    return f.select(operand(f, node.args[1], "i1", sizes_of(node)), value, x, node.name)


@lowers(aten.isnan.default)
def _isnan(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0])
    return f.compare("ne", x, x, node.name)


@lowers(aten.isinf.default)
def _isinf(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0], element="f32")
    return f.compare("eq", f.apply("math.absf", x), f.filled(math.inf, x.sizes, "f32"), node.name)


@lowers(aten.nan_to_num.default)
def _nan_to_num(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0], element=result_element(node))
    limit = float(torch.finfo(torch.float32).max)
    for name, found, replacement in (("posinf", math.inf, limit), ("neginf", -math.inf, -limit)):
        given = argument(node, name)
        wanted = f.filled(replacement if given is None else given, x.sizes, "f32")
        x = f.select(f.compare("eq", x, f.filled(found, x.sizes, "f32")), wanted, x)
    return f.select(f.compare("ne", x, x), f.filled(argument(node, "nan") or 0.0, x.sizes, "f32"), x, node.name)


# Functions of one number.

_FUNCTIONS = {
    "exp": "math.exp",
    "exp2": "math.exp2",
    "expm1": "math.expm1",
    "log": "math.log",
    "log1p": "math.log1p",
    "log2": "math.log2",
    "log10": "math.log10",
    "sqrt": "math.sqrt",
    "rsqrt": "math.rsqrt",
    "sin": "math.sin",
    "cos": "math.cos",
    "tan": "math.tan",
    "tanh": "math.tanh",
    "sinh": "math.sinh",
    "cosh": "math.cosh",
    "atan": "math.atan",
    "erf": "math.erf",
    "floor": "math.floor",
    "ceil": "math.ceil",
    "trunc": "math.trunc",
    "round": "math.roundeven",
}


def _function(mnemonic: str) -> Callable[[Function, fx.Node], Value]:
    def lower(f: Function, node: fx.Node) -> Value:
        (x,) = elementwise_operands(f, node, node.args[0], element=result_element(node))
        return f.apply(mnemonic, x, hint=node.name) if x.element in FLOATS else x

    return lower


for _name, _mnemonic in _FUNCTIONS.items():
    lowers(getattr(aten, _name).default)(_function(_mnemonic))
lowers(aten.special_erf.default)(_function("math.erf"))


@lowers(aten.atan2.default)
def _atan2(f: Function, node: fx.Node) -> Value:
    a, b = elementwise_operands(f, node, *node.args, element=result_element(node))
    return f.apply("math.atan2", a, b, hint=node.name)


# Activations, in the order of operations that their definitions give.


def _float(f: Function, node: fx.Node) -> Value:
    return elementwise_operands(f, node, node.args[0], element="f32")[0]


def _splat(f: Function, x: Value, number: float) -> Value:
    return f.filled(number, x.sizes, x.element)


def activation(f: Function, x: Value, name: str, hint: str = "") -> Value:
    """A function of `bitnet.math`, which a matrix product before it takes up."""
    return f.apply(f"bitnet.math <{name}>", x, hint=hint or name)


@lowers(aten.sigmoid.default, aten.silu.default)
def _sigmoid(f: Function, node: fx.Node) -> Value:
    name = "silu" if node.target is aten.silu.default else "sigmoid"
    return activation(f, _float(f, node), name, node.name)


@lowers(aten.log_sigmoid.default)
def _log_sigmoid(f: Function, node: fx.Node) -> Value:
    # min(x, 0) - log1p(exp(-|x|))
    x = _float(f, node)
    tail = f.apply("math.log1p", f.apply("math.exp", f.apply("arith.negf", f.apply("math.absf", x))))
    return f.apply("arith.subf", _extreme(f, x, _splat(f, x, 0.0), False), tail, hint=node.name)


@lowers(aten.relu.default)
def _relu(f: Function, node: fx.Node) -> Value:
    (x,) = elementwise_operands(f, node, node.args[0])
    if x.element == "f32":
        return activation(f, x, "relu", node.name)
    return _extreme(f, x, _splat(f, x, 0), True, node.name)


@lowers(aten.leaky_relu.default)
def _leaky_relu(f: Function, node: fx.Node) -> Value:
    x = _float(f, node)
    scaled = f.apply("arith.mulf", x, _splat(f, x, argument(node, "negative_slope", 0.01)))
    return f.select(f.compare("gt", x, _splat(f, x, 0.0)), x, scaled, node.name)


@lowers(aten.prelu.default)
def _prelu(f: Function, node: fx.Node) -> Value:
    x = _float(f, node)
    slope = f.value(node.args[1])
    if slope.sizes is not None and slope.rank == 1 and x.rank > 1:
        slope = f.reshape(slope, [slope.sizes[0], *[1] * (x.rank - 2)])
    scaled = f.apply("arith.mulf", x, f.broadcast(slope, x.sizes))
    return f.select(f.compare("gt", x, _splat(f, x, 0.0)), x, scaled, node.name)


@lowers(aten.elu.default, aten.selu.default, aten.celu.default)
def _elu(f: Function, node: fx.Node) -> Value:
    x = _float(f, node)
    alpha, scale, input_scale = (
        argument(node, "alpha", 1.0),
        argument(node, "scale", 1.0),
        argument(node, "input_scale", 1.0),
    )
    if node.target is aten.selu.default:
        alpha, scale = 1.6732632423543772, 1.0507009873554805
    elif node.target is aten.celu.default:
        input_scale = 1.0 / alpha
    inner = f.apply("math.expm1", f.apply("arith.mulf", x, _splat(f, x, input_scale)))
    low = f.apply("arith.mulf", inner, _splat(f, x, alpha * scale))
    high = x if scale == 1 else f.apply("arith.mulf", x, _splat(f, x, scale))
    return f.select(f.compare("gt", x, _splat(f, x, 0.0)), high, low, node.name)


@lowers(aten.gelu.default)
def _gelu(f: Function, node: fx.Node) -> Value:
    name = "gelu_tanh" if argument(node, "approximate", "none") == "tanh" else "gelu"
    return activation(f, _float(f, node), name, node.name)


@lowers(aten.mish.default)
def _mish(f: Function, node: fx.Node) -> Value:
    x = _float(f, node)
    return f.apply("arith.mulf", x, f.apply("math.tanh", _softplus_of(f, x, 1.0, 20.0)), hint=node.name)


def _softplus_of(f: Function, x: Value, beta: float, threshold: float, hint: str = "") -> Value:
    scaled = f.apply("arith.mulf", x, _splat(f, x, beta))
    soft = f.apply("math.log1p", f.apply("math.exp", scaled))
    soft = f.apply("arith.divf", soft, _splat(f, x, beta))
    return f.select(f.compare("gt", scaled, _splat(f, x, threshold)), x, soft, hint)


@lowers(aten.softplus.default)
def _softplus(f: Function, node: fx.Node) -> Value:
    return _softplus_of(f, _float(f, node), argument(node, "beta", 1), argument(node, "threshold", 20), node.name)


@lowers(aten.hardsigmoid.default, aten.hardswish.default)
def _hardsigmoid(f: Function, node: fx.Node) -> Value:
    # min(max(x + 3, 0), 6) / 6, and x times that
    x = _float(f, node)
    shifted = f.apply("arith.addf", x, _splat(f, x, 3.0))
    bounded = _extreme(f, _extreme(f, shifted, _splat(f, x, 0.0), True), _splat(f, x, 6.0), False)
    if node.target is aten.hardswish.default:
        bounded = f.apply("arith.mulf", x, bounded)
    return f.apply("arith.divf", bounded, _splat(f, x, 6.0), hint=node.name)


@lowers(aten.glu.default)
def _glu(f: Function, node: fx.Node) -> Value:
    x, sizes = f.value(node.args[0]), sizes_of(node)
    axis = int(argument(node, "dim", -1)) % x.rank
    half = f.size(sizes[axis])
    gate = activation(f, f.slice(x, {axis: half}, sizes), "sigmoid")
    return f.apply("arith.mulf", f.slice(x, {}, sizes), gate, hint=node.name)


# Conversions, and what changes nothing.


@lowers(
    aten.alias.default,
    aten.detach.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.lift_fresh_copy.default,
    aten.positive.default,
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
)
def _same(f: Function, node: fx.Node) -> Value:
    if "dropout" in str(node.target) and argument(node, "train", False):
        raise Unsupported("training (call module.eval() first)")
    return f.value(node.args[0])


@lowers(
    aten._to_copy.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.to.other,
    aten.type_as.default,
    torch.ops.prims.convert_element_type.default,
)
def _to(f: Function, node: fx.Node) -> Value:
    return f.cast(f.value(node.args[0]), element_of(node))


@lowers(aten.scalar_tensor.default)
def _scalar_tensor(f: Function, node: fx.Node) -> Value:
    return f.filled(node.args[0], (), result_element(node))


@lowers(aten.copy.default)
def _copy(f: Function, node: fx.Node) -> Value:
    return f.broadcast(f.cast(f.value(node.args[1]), element_of(node)), sizes_of(node))
