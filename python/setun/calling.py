"""How a package is called as the module that it was made from: its signature, containers, dtypes and sizes.

The front end writes this down (`Signature.as_json`), and it travels in the package; callers need no torch.
"""

from __future__ import annotations

import inspect
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np

from setun.diagnostics import SetunError
from setun.structure import Structure, rebuild, take

FILE = "setun.call.json"
"""Name of the file in a package."""

_KINDS = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "VAR_POSITIONAL", "KEYWORD_ONLY", "VAR_KEYWORD")

DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "bool": "bool",
}
"""What torch and NumPy call the runtime's element types."""


@dataclass(frozen=True)
class Size:
    """What a dynamic size has to be.

    Attributes:
        smallest, largest: inclusive; `largest` 0: no limit.
        base, times, plus: it is `times * base + plus`, where `base` is another size, or empty: any number.
    """

    smallest: int = 1
    largest: int = 0
    base: str = ""
    times: int = 1
    plus: int = 0

    def problem(self, size: int, sizes: Mapping[str, int]) -> str:
        """What is wrong with a size; empty if nothing is."""
        if size < self.smallest:
            return f"at least {self.smallest}"
        if self.largest and size > self.largest:
            return f"at most {self.largest}"
        if self.base and self.base in sizes and size != self.times * sizes[self.base] + self.plus:
            return f"{self.times} * {self.base} + {self.plus} = {self.times * sizes[self.base] + self.plus}"
        if not self.base and (size - self.plus) % self.times:
            return f"a multiple of {self.times}" + (f" and {self.plus} more" if self.plus else "")
        return ""


@dataclass
class Signature:
    """The call of a module.

    Attributes:
        parameters: name and kind (as `inspect` counts them) of each parameter of `forward`.
        arguments: structure of each argument that was given.
        defaults: values of parameters that may be left out, where they are constants.
        results: structure of the results.
        inputs, outputs: names of the entry's tensors, by number.
        sizes: of the dynamic dimensions.
        derived: sizes of results that no argument has, as trees `[operation, operand, ...]` of numbers and names of
            sizes. The entry has an input of the name of each, whose only dimension tells it; its elements are not read.
        places: module path, file and line of each weight's first use (no file where the source has no line).
        stateful: the module keeps buffers from call to call.
    """

    parameters: list[tuple[str, int]]
    arguments: dict[str, Structure]
    results: Structure
    inputs: list[str]
    outputs: list[str]
    sizes: dict[str, Size] = field(default_factory=dict)
    derived: dict[str, list[Any]] = field(default_factory=dict)
    places: dict[str, Sequence[Any]] = field(default_factory=dict)
    stateful: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str | bytes) -> Signature:
        """Reads what `as_json` wrote.

        Raises:
            SetunError: it is something else.
        """
        try:
            fields = json.loads(text)
            fields["sizes"] = {name: Size(**size) for name, size in fields["sizes"].items()}
            return Signature(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SetunError(f"{FILE} is damaged ({error})", "Compile the package again.") from error

    def tensors(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """The tensors of a call with their paths in it, in the order of `inputs`.

        Raises:
            SetunError: the arguments are not those that the module was compiled for.
        """
        try:
            given = self._python.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise SetunError(f"wrong arguments: {error}", f"It takes {', '.join(self.arguments)}.") from error
        found: dict[int, tuple[str, Any]] = {}
        for name, value in given.items():
            if name not in self.arguments and name not in self.defaults:
                raise SetunError(
                    f"argument {name} was not given when the module was compiled", "Compile the module with it."
                )
            take(self.arguments.get(name, {"constant": self.defaults.get(name)}), value, name, found)
        for name, structure in self.arguments.items():
            if name in given:
                continue
            if name not in self.defaults or "constant" not in structure:
                raise SetunError(f"the argument {name} is missing")
            take(structure, self.defaults[name], name, found)
        return [found[number] for number in range(len(self.inputs))]

    @cached_property
    def _python(self) -> inspect.Signature:
        """The parameters as Python binds them, all of them optional: what is missing is told apart afterwards."""
        kinds = {int(kind): kind for kind in (getattr(inspect.Parameter, name) for name in _KINDS)}
        parameters = []
        for name, number in self.parameters:
            variadic = number in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            default = inspect.Parameter.empty if variadic else None
            parameters.append(inspect.Parameter(name, kinds[number], default=default))
        return inspect.Signature(parameters)

    def check(
        self, paths: Sequence[str], arrays: Sequence[np.ndarray], described: Sequence[Mapping[str, Any]]
    ) -> dict[str, int]:
        """Checks arrays against the entry's inputs, and gives the sizes of its dynamic dimensions.

        Raises:
            SetunError: names the argument, what it is, and what it should be.
        """
        sizes: dict[str, int] = {}
        for path, array, tensor in zip(paths, arrays, described, strict=True):
            shape = tensor["shape"]
            if array.ndim != len(shape):
                raise SetunError(f"argument {path} expects {len(shape)} dimensions, got {list(array.shape)}")
            for axis, (size, wanted) in enumerate(zip(array.shape, shape, strict=True)):
                if size == 0:
                    raise SetunError(f"argument {path} is empty: dimension {axis} of {list(array.shape)} is 0")
                if isinstance(wanted, str):
                    wanted = sizes.setdefault(wanted, size)
                if size != wanted:
                    raise SetunError(
                        f"argument {path} expects {wanted} in dimension {axis} of {list(array.shape)}, got {size}",
                        "Sizes that change from call to call are named in dynamic_shapes.",
                    )
        for name, size in sizes.items():
            problem = self.sizes.get(name, Size()).problem(size, sizes)
            if problem:
                raise SetunError(f"the size {name} is {size}, expects {problem}")
        return sizes

    def derived_inputs(self, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The inputs that tell sizes of results.

        Raises:
            SetunError: a result would be empty.
        """
        made = {}
        for name, tree in self.derived.items():
            size = evaluate(tree, sizes)
            if size < 1:
                raise SetunError("a result would be empty for arguments of these sizes")
            made[name] = np.zeros(size, np.int8)
        return made

    def results_of(self, outputs: Mapping[str, Any]) -> Any:
        """The containers of results, with the entry's outputs in them."""
        return rebuild(self.results, lambda number: outputs[self.outputs[number]])


_OPERATIONS = {
    "addi": operator.add,
    "muli": operator.mul,
    "maxsi": max,
    "minsi": min,
    "floordivsi": operator.floordiv,
    "remsi": operator.mod,
}


def evaluate(tree: Any, sizes: Mapping[str, int]) -> int:
    """The value of a tree of arithmetic on sizes."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return sizes[tree]
    return reduce(_OPERATIONS[tree[0]], (evaluate(operand, sizes) for operand in tree[1:]))


def is_torch(value: Any) -> bool:
    """Whether a value is a tensor of torch, which need not be loaded."""
    names = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    return "torch" in names and hasattr(value, "detach")


def as_array(value: Any, path: str, dtype: str) -> np.ndarray:
    """A tensor of torch or of anything that exchanges tensors, as an array over the same memory where it may be.

    Args:
        path: of the argument, for messages.
        dtype: element type that the entry expects, by the runtime's name.

    Raises:
        SetunError: no tensor in this machine's memory, or of another type.
    """
    wanted = DTYPES[dtype]
    if is_torch(value):
        found, array = str(value.dtype).removeprefix("torch."), _torch_array(value, path)
    elif isinstance(value, np.ndarray):
        # NumPy has no bf16; such tensors are the 16-bit patterns.
        array, found = value, "bfloat16" if dtype == "bf16" and value.dtype == np.uint16 else value.dtype.name
    elif hasattr(value, "__dlpack__"):
        if value.__dlpack_device__()[0] != 1:
            raise SetunError(f"argument {path} is not in this machine's memory", "Copy it to the CPU first.")
        try:
            array = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError) as error:  # other libraries raise what they like here
            raise SetunError(
                f"argument {path} cannot be read as an array: {error}", "Convert it to a NumPy array first."
            ) from error
        found = array.dtype.name
    else:
        raise SetunError(f"argument {path} expects a tensor or array, got a {type(value).__name__}")
    if found != wanted:
        raise SetunError(f"argument {path} expects {wanted}, got {found}", "Convert it first.")
    return array


def _torch_array(value: Any, path: str) -> np.ndarray:
    if value.device.type != "cpu":
        raise SetunError(f"argument {path} is on the device {value.device}", "Copy it first: tensor.cpu().")
    if str(value.layout) != "torch.strided":
        raise SetunError(f"argument {path} has the layout {value.layout}", "Make it dense first: tensor.to_dense().")
    value = value.detach().resolve_conj().resolve_neg()
    if str(value.dtype) == "torch.bfloat16":
        import torch

        value = value.contiguous().view(torch.uint16)
    return value.numpy()
