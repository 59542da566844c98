"""`setun.compile` and what it gives: calls, containers, errors, threads, files, reports; backend of torch.compile."""

from __future__ import annotations

import json
import multiprocessing
import platform
import re
import subprocess
import sys
import threading
import warnings
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import setun
from setun import nn as setun_nn
from setun.backend import SetunWarning, setun_backend
from setun.compiler import find_tool
from setun.session import open_package

Pair = namedtuple("Pair", ["hidden", "input"])
OTHER = "x86-64-v2" if platform.machine() == "aarch64" else "aarch64-dotprod"
"""A target that this machine does not run."""


class Block(nn.Module):
    """Two BitLinear layers and a head, with containers of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.up = setun_nn.BitLinear(16, 32, bias=True, norm="rms")
        self.down = setun_nn.BitLinear(32, 16, bias=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, extra: dict[str, Tensor] | None = None, *, double: bool = False) -> dict[str, Any]:
        y = x + self.down(self.up(x) * self.up(x))
        y = y + extra["shift"] if extra is not None else y
        return {"y": self.head(y + y if double else y), "pair": Pair(y, [x]), "none": None}


def block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture(scope="module")
def compiled() -> setun.Compiled:
    return setun.compile(block(), numbers(3, 16), dynamic_shapes=({0: Dim("batch", max=64)},))


def close(a: Any, b: Any) -> bool:
    return np.allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-5)


def test_a_call_gives_what_the_module_gives(compiled: setun.Compiled) -> None:
    module = block()
    for rows in (3, 1, 32):
        x = numbers(rows, 16)
        with torch.no_grad():
            wanted = module(x)
        found = compiled(x)
        assert close(found["y"], wanted["y"])
        assert isinstance(found["y"], Tensor)
        assert isinstance(found["pair"], Pair)
        assert close(found["pair"].input[0], x)
        assert found["none"] is None


def test_arrays_in_arrays_out(compiled: setun.Compiled) -> None:
    class Exchanged:
        """A tensor of another library."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    x = numbers(5, 16)
    wanted = compiled(x)["y"]
    for given in (x.numpy(), Exchanged(x.numpy())):
        found = compiled(given)["y"]
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, wanted.numpy())


def test_tensors_that_are_not_contiguous(compiled: setun.Compiled) -> None:
    wide = numbers(16, 10)
    assert torch.equal(compiled(wide.t()[::2])["y"], compiled(wide.t()[::2].contiguous())["y"])
    assert torch.equal(compiled(wide.t().requires_grad_())["y"], compiled(wide.t())["y"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((numbers(3, 17),), r"argument x expects 16 in dimension 1 of \[3, 17\], got 17"),
        ((numbers(3),), r"argument x expects 2 dimensions, got \[3\]"),
        ((numbers(3, 16).double(),), "argument x expects float32, got float64"),
        ((numbers(3, 16).numpy().astype(np.int32),), "argument x expects float32, got int32"),
        ((torch.zeros(0, 16),), "argument x is empty: dimension 0"),
        ((numbers(65, 16),), "the size batch is 65, expects at most 64"),
        ((numbers(3, 16).to("meta"),), "argument x is on the device meta"),
        ((numbers(3, 16).to_sparse(),), "argument x has the layout torch.sparse_coo"),
        (([1.0],), "argument x expects a tensor or array, got a list"),
        ((numbers(3, 16), {"shift": numbers(16)}), "argument extra was None when the module was compiled, got a dict"),
        ((numbers(3, 16), None, 4), "wrong arguments: too many positional arguments"),
        ((), "the argument x is missing"),
        ((1, 2, 3, 4), "wrong arguments: too many positional arguments"),
    ],
)
def test_wrong_calls_are_refused(compiled: setun.Compiled, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(setun.SetunError, match=message):
        compiled(*arguments)
    assert compiled(numbers(3, 16))["y"].shape == (3, 4)


def test_two_threads_at_once(compiled: setun.Compiled) -> None:
    given = [numbers(rows, 16) for rows in (2, 7, 19, 33)]
    wanted = [compiled(x)["y"] for x in given]
    wrong = []

    def work(x: Tensor, want: Tensor) -> None:
        for _ in range(50):
            if not torch.equal(compiled(x)["y"], want):
                wrong.append(x.shape)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(given, wanted, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(sys.platform != "linux", reason="other systems start processes anew")
def test_a_forked_process_calls_on() -> None:
    x = numbers(3, 16).numpy()
    made = setun.compile(block(), numbers(3, 16), threads=2)
    expected = made(x)["y"]

    def call() -> None:
        sys.exit(not np.array_equal(made(x)["y"], expected))

    child = multiprocessing.get_context("fork").Process(target=call)
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0
    assert np.array_equal(made(x)["y"], expected)


def test_arguments_by_name_and_constants() -> None:
    x, shift = numbers(3, 16), {"shift": numbers(16)}
    module = block()
    made = setun.compile(module, (x,), {"extra": shift, "double": True})
    with torch.no_grad():
        assert close(made(x, shift, double=True)["y"], module(x, shift, double=True)["y"])
    assert close(made(double=True, extra=shift, x=x)["y"], made(x, shift, double=True)["y"])
    with pytest.raises(setun.SetunError, match="argument double was True when the module was compiled, got False"):
        made(x, shift, double=False)
    with pytest.raises(setun.SetunError, match="argument extra lacks the key 'shift'"):
        made(x, {}, double=True)
    with pytest.raises(setun.SetunError, match="argument extra had no key 'more' when the module was compiled"):
        made(x, shift | {"more": x}, double=True)
    with pytest.raises(setun.SetunError, match="argument double was True when the module was compiled, got False"):
        made(x, shift)


def test_defaults_may_be_given_or_left_out(compiled: setun.Compiled) -> None:
    x = numbers(3, 16)
    wanted = compiled(x)["y"]
    assert torch.equal(compiled(x, None, double=False)["y"], wanted)
    made = setun.compile(block(), (x, None), {"double": False})
    assert torch.equal(made(x)["y"], wanted)
    with pytest.raises(setun.SetunError, match="argument double was False when the module was compiled, got True"):
        compiled(x, double=True)


def test_tensors_of_subclasses(compiled: setun.Compiled) -> None:
    class Marked(Tensor):
        pass

    x = numbers(3, 16)
    assert torch.equal(compiled(x.as_subclass(Marked))["y"], compiled(x)["y"])


class Sum(nn.Module):
    """Keeps a sum from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total + x


def test_buffers_are_kept_from_call_to_call() -> None:
    module = Sum().eval()
    made = setun.compile(module, numbers(4))
    # Neither tracing nor calling what was compiled changes the module's own buffer.
    assert not module.total.any()
    for x in (numbers(4), 3 * numbers(4)):
        assert close(made(x), module(x))
    made.reset()
    assert close(made(numbers(4)), 2 * numbers(4))


class Scaled(nn.Module):
    """Keeps what does not start as zeros in a parameter, and what is computed once in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(3))
        self.shift: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.shift is None:
            self.shift = torch.arange(3.0)
        self.factor.mul_(2)
        return x * self.factor + self.shift


def test_parameters_that_change_are_states() -> None:
    module = Scaled().eval()
    made = setun.compile(module, numbers(3))
    with torch.no_grad():
        assert all(close(made(numbers(3)), module(numbers(3))) for _ in range(3))


class Counts(nn.Module):
    """Remembers in Python how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return x * len(self.calls)


class Grows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.rows = x if self.rows is None else torch.cat([self.rows, x])
        return self.rows * 2


@pytest.mark.parametrize(("module", "name"), [(Counts(), "calls"), (Grows(), "rows")])
def test_what_python_remembers_is_refused(module: nn.Module, name: str) -> None:
    with pytest.raises(setun.SetunError, match=f"what it keeps in the attribute {name}, which compiled code cannot"):
        setun.compile(module.eval(), numbers(2, 3))


class Halves(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.view(-1, 2, 4)[:, 0] + y


class Longer(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined = torch.cat([torch.zeros(1, 4), x, x])
        return joined, x[::2] * 2, x.repeat(1, 2).view(-1, 4)


def test_sizes_depend_on_each_other() -> None:
    n = Dim("n")
    made = setun.compile(Halves().eval(), (numbers(6, 4), numbers(3, 4)), dynamic_shapes=({0: 2 * n}, {0: n}))
    x, y = numbers(10, 4), numbers(5, 4)
    assert close(made(x, y), x[::2] + y)
    with pytest.raises(setun.SetunError, match=r"the size \w+ is 12, expects 2 \* n \+ 0 = 10"):
        made(numbers(12, 4), y)


def windows(x: Tensor, y: Tensor) -> Tensor:
    return x.view(-1, 2, 4).sum(1) + y[:1]


def first(x: Tensor, y: Tensor) -> Tensor:
    return x[: y.shape[0]] * 2


def last(x: Tensor, y: Tensor) -> Tensor:
    return x[-y.shape[0] :] * 2


def between(x: Tensor, y: Tensor) -> Tensor:
    return x[x.shape[0] - y.shape[0] - 1 :] * 2


def branch(x: Tensor, y: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 1 and x.shape[0] != y.shape[0] else x


def spared(x: Tensor, y: Tensor) -> Tensor:
    return x + x.mean(0) if x.shape[0] > 1 else x * 2


def squeezed(x: Tensor, y: Tensor) -> Tensor:
    return x[:, None].squeeze() + y[0]


class Pair2(nn.Module):
    """A function of two tensors `[n, 4]` and `[m, 4]`."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (windows, [(8, 3), (2, 1)], []),
        (first, [(8, 3), (4, 4), (1, 1)], [(3, 4, "m <= n")]),
        (last, [(8, 3), (4, 4), (1, 1)], [(3, 4, "m <= n")]),
        (between, [(8, 3), (4, 3)], [(3, 3, "the module was compiled for")]),
        (branch, [(8, 3), (2, 1)], [(1, 2, "n > 1"), (3, 3, "!=")]),
        (spared, [(8, 3), (1, 1)], []),
        (squeezed, [(8, 3), (2, 1)], [(1, 2, "squeeze.default of 'unsqueeze' expects at least 2 in dimension 0")]),
    ],
)
def test_what_was_taken_for_granted_of_sizes(function: Any, right: Any, wrong: Any) -> None:
    """A graph holds for sizes that take the module's branches as the example did; others are refused, or computed."""
    n = {windows: 2 * Dim("half"), between: Dim("n", min=3)}.get(function, Dim("n"))
    module = Pair2(function).eval()
    made = setun.compile(module, (numbers(8, 4), numbers(3, 4)), dynamic_shapes=({0: n}, {0: Dim("m")}))
    for sizes in right:
        x, y = (numbers(size, 4) for size in sizes)
        assert close(made(x, y), module(x, y))
    for *sizes, message in wrong:
        with pytest.raises(setun.SetunError, match=re.escape(message)):
            made(*(numbers(size, 4) for size in sizes))


def test_tokens_have_to_be_rows_of_the_table() -> None:
    made = setun.compile(nn.Embedding(10, 4).eval(), torch.zeros(2, 3, dtype=torch.int64))
    for token in (10, -1):
        with pytest.raises(setun.SetunError, match=f"expects values from 0 to 9, got {token} at element 0"):
            made(torch.full((2, 3), token))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: x[x > 0],
            r"aten\.index\.Tensor with a mask as index .* in the module itself \(.*test_api\.py:\d+\)",
        ),
        (lambda x: x * x.max().item(), r"aten\._local_scalar_dense\.default with the value of a tensor as a number"),
        (lambda x: x[:0], r"a result of the module is empty: its shape is \[0\]"),
        (lambda x: x.add_(1), "the module changes its argument 'x' in place"),
        (
            lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)),
            r"cond with control flow in the module itself \(.*test_api\.py:\d+\)",
        ),
        (setun_nn.BitLinear(6, 4, group_size=3), r"a weight scale for each 3 inputs \(expects a multiple of 4\)"),
        (
            setun_nn.BitLinear(5, 4),
            r"expects 5 input features, got 6\n  at .*test_api\.py:\d+: return self\.function\(x\)",
        ),
    ],
)
def test_modules_that_are_refused(function: Any, message: str) -> None:
    class Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor) -> Any:
            return self.function(x)

    with pytest.raises(setun.SetunError, match=message):
        setun.compile(Call().eval(), numbers(6))


def test_numbers_are_no_results() -> None:
    class Sizes(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x, x.shape[0]

    assert setun.compile(Sizes().eval(), numbers(6))(numbers(6))[1] == 6
    with pytest.raises(setun.SetunError, match="a result of the module is a number that depends on sizes"):
        setun.compile(Sizes().eval(), numbers(6), dynamic_shapes=({0: Dim("n")},))


def test_examples_may_be_any_arrays() -> None:
    x = numbers(6, 16).numpy()
    x.setflags(write=False)
    assert close(setun.compile(block(), x[::-1])(x[::-1])["y"], block()(torch.tensor(x[::-1].copy()))["y"].detach())
    with pytest.raises(setun.SetunError, match="an example argument is no tensor"):
        setun.compile(block(), np.array(["a"]))


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"z": {0: Dim("n")}}, "dynamic_shapes has an entry for 'z', which is no argument of the example"),
        (({0: Dim("n")}, None, None), "dynamic_shapes has 3 entries for 2 arguments"),
        ((Dim("n"),), "cannot be exported by torch"),
        ([[{0: Dim("n")}]], "dynamic_shapes is built as the arguments are"),
    ],
)
def test_wrong_dynamic_shapes(dynamic: Any, message: str) -> None:
    with pytest.raises(setun.SetunError, match=message):
        setun.compile(Pair2(first).eval(), (numbers(8, 4), numbers(3, 4)), dynamic_shapes=dynamic)


def test_sessions_take_arrays_only(compiled: setun.Compiled) -> None:
    with pytest.raises(setun.SetunError, match="input 'x' of entry 'forward' is no array"):
        compiled.package.session(threads=1).run("forward", {"x": [[1.0], [1.0, 2.0]]})  # type: ignore[dict-item]


def test_an_empty_example_is_refused() -> None:
    with pytest.raises(setun.SetunError, match=r"argument 'x' is empty: its shape is \[0, 16\]"):
        setun.compile(block(), torch.zeros(0, 16))


def test_two_compilations_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Speaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print("hello")
            return x + 1

    made: list[setun.Compiled] = []
    work = lambda: made.append(setun.compile(Speaks().eval(), numbers(3)))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(one(numbers(3)), numbers(3) + 1) for one in made) and len(made) == 4
    print("afterwards")
    assert capsys.readouterr().out == 4 * "hello\n" + "afterwards\n"


def test_results_of_sizes_that_no_argument_has() -> None:
    made = setun.compile(Longer().eval(), numbers(6, 4), dynamic_shapes=({0: Dim("n", min=3)},))
    for rows in (6, 3, 11):
        x = numbers(rows, 4)
        for found, wanted in zip(made(x), Longer()(x), strict=True):
            assert found.shape == wanted.shape
            assert close(found, wanted)


def test_packages_themselves_refuse_wrong_sizes(tmp_path: Path) -> None:
    n = Dim("n", min=3, max=64)
    made = setun.compile(Halves().eval(), (numbers(8, 4), numbers(4, 4)), dynamic_shapes=({0: 2 * n}, {0: n}))
    made.save(tmp_path / "halves.setun")
    session = open_package(tmp_path / "halves.setun").session(threads=1)

    def halves(x: int, y: int) -> bool:
        given = {"x": numbers(x, 4).numpy(), "y": numbers(y, 4).numpy()}
        return close(session.run("forward", given)["output"], given["x"][::2] + given["y"])

    assert halves(10, 5)
    for x, y, text in [
        (12, 5, "size x_0 (dimension 0 of 'x') expects 2*n, where n is dimension 0 of 'y'; got x_0 = 12, n = 5"),
        (4, 2, "size x_0 (dimension 0 of 'x') expects at least 6; got x_0 = 4, n = 2"),
        (128, 65, "size n (dimension 0 of 'y') expects at most 64; got x_0 = 128, n = 65"),
    ]:
        with pytest.raises(setun.SetunError, match=re.escape(text)):
            halves(x, y)
    assert halves(128, 64)


def test_packages_themselves_refuse_wrong_sizes_of_results(tmp_path: Path) -> None:
    made = setun.compile(Longer().eval(), numbers(6, 4), dynamic_shapes=({0: Dim("n", min=3)},))
    package, out = tmp_path / "longer.setun", tmp_path / "out"
    made.save(package)
    command = [find_tool("setun-run"), package, "--entry", "forward", "--output-dir", out]

    def run(n: int, *sizes: int) -> subprocess.CompletedProcess[str]:
        given = {"x": numbers(n, 4).numpy()} | {f"setun.size{i}": np.zeros(k, np.int8) for i, k in enumerate(sizes)}
        for name, array in given.items():
            np.save(tmp_path / f"{name}.npy", array)
        inputs = [part for name in given for part in ("--input", f"{name}={tmp_path / name}.npy")]
        return subprocess.run([*command, *inputs], capture_output=True, text=True, check=False)

    for sizes, text in [
        ((5, 12, 3, 10), "expects 2*n + 1, where n is dimension 0 of 'x'; got n = 5, setun.size0 = 12, "),
        ((5, 11, 2, 10), "size setun.size1 (of a result, the length of 'setun.size1') expects ((n + 1)//2)"),
        ((2, 5, 1, 4), "size n (dimension 0 of 'x') expects at least 3"),
    ]:
        refused = run(*sizes)
        assert refused.returncode == 1 and text in refused.stderr, refused.stderr
        assert not out.exists()
    assert run(5, 11, 3, 10).returncode == 0
    wanted = Longer()(numbers(5, 4))
    assert all(close(np.load(out / f"output{i}.npy"), result) for i, result in enumerate(wanted))


def test_saved_and_loaded_without_torch(compiled: setun.Compiled, tmp_path: Path) -> None:
    path = tmp_path / "block.setun"
    compiled.save(path)
    x = numbers(4, 16)
    np.save(tmp_path / "x.npy", x.numpy())
    program = (
        "import sys, setun\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()\n"  # importing is cheap
        "sys.modules['torch'] = None\n"
        "import numpy as np\n"
        f"result = setun.load({str(path)!r})(np.load({str(tmp_path / 'x.npy')!r}))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, result['y'])\n"
        "assert result['pair'].input[0].shape == (4, 16)\n"
        "assert 'libMLIR' not in open('/proc/self/maps').read()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), compiled(x)["y"].numpy())


@pytest.mark.parametrize("place", ["none/m.setun", "file/m.setun", "folder"])
def test_where_nothing_can_be_saved(compiled: setun.Compiled, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(setun.SetunError, match="cannot be written"):
        compiled.save(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_was_not_made_by_compile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(setun.SetunError, match="no such file"):
        setun.load(tmp_path / "none.setun")
    (tmp_path / "damaged.setun").write_bytes(b"nothing")
    with pytest.raises(setun.SetunError, match=r"damaged\.setun"):
        setun.load(tmp_path / "damaged.setun")


def test_the_message_without_code_for_this_cpu_speaks_of_the_call() -> None:
    """It names the module and how to compile it for more CPUs, not the command for checkpoints."""
    elsewhere = setun.compile(nn.Sequential(nn.Linear(4, 2)).eval(), numbers(3, 4), target=OTHER)
    with pytest.raises(setun.SetunError, match="the package holds code for") as caught:
        elsewhere(numbers(3, 4))
    named = "compile the module 'torch.nn.modules.container.Sequential' again, in Python: "
    assert f'{named}setun.compile(module, ..., target="{OTHER},' in str(caught.value)
    assert "setun compile " not in str(caught.value)
    assert elsewhere.report().targets == (OTHER,)


def test_the_report(compiled: setun.Compiled) -> None:
    report = compiled.report()
    assert [layer.name for layer in report.layers] == ["up.weight", "down.weight", "head.weight"]
    assert all("test_api.py:" in layer.source for layer in report.layers)
    assert report.layers[0].shape == "32 x 16"
    assert report.layers[0].kernel
    assert "up.weight" in str(report)
    assert "<td>up.weight</td>" in report._repr_html_()
    assert json.loads(report.as_json())["layers"][1]["name"] == "down.weight"
    assert compiled._repr_html_() == report._repr_html_()


def test_the_report_without_a_line_or_a_cpu() -> None:
    """Layers that no line of the user's calls have their path; kernels are those of the package, wherever it runs."""

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.modules_ = nn.Sequential(setun_nn.BitLinear(16, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 8)))

        def forward(self, x: Tensor) -> Tensor:
            return self.modules_(x)

    outermost = setun.compile(Inside().modules_.eval(), numbers(3, 16), target="aarch64-sve2").report()
    assert [layer.source for layer in outermost.layers] == ["0", "1.1"]
    assert outermost.layers[0].kernel
    inside = setun.compile(Inside().eval(), numbers(3, 16)).report()
    assert all(re.fullmatch(r"modules_\.\S+ \(.*test_api\.py:\d+\)", layer.source) for layer in inside.layers)
    alone = setun.compile(setun.nn.BitLinear(16, 8).eval(), numbers(3, 16)).report()
    assert [layer.source for layer in alone.layers] == ["the module itself"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda module: module.train(), "the module is in training mode"),
        (lambda module: module.to("meta"), r"up\.weight has no values \(device meta\)"),
        (lambda module: setattr(module.head, "weight", Somewhere()), "head.weight is on the device cuda:0"),
    ],
)
def test_modules_that_cannot_be_read(change: Any, message: str) -> None:
    module = block()
    change(module)
    with pytest.raises(setun.SetunError, match=message):
        setun.compile(module, numbers(3, 16))


class Somewhere(nn.Parameter):
    """A parameter that says that it is on a GPU, for machines that have none."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


def test_the_compilers_errors_have_place_and_reproducer(tmp_path: Path) -> None:
    with pytest.raises(setun.CompileError) as caught:
        setun.compile(block(), numbers(3, 16), target="no-such-cpu")
    assert "no-such-cpu" in str(caught.value)
    assert caught.value.diagnostics[0].severity == "error"
    assert caught.value.reproducer.startswith("setun-compile ")
    words = caught.value.reproducer.split()
    assert Path(words[1]).is_file()


def test_exported_files_compile(tmp_path: Path, root: Path) -> None:
    text, weights = setun.export(block(), numbers(3, 16), tmp_path / "exported")
    assert "bitnet.linear" in text.read_text()
    assert [path.suffix for path in weights] == [".safetensors"]
    tool = root / "build" / "bin" / "setun-compile"
    command = [tool, text, "-o", tmp_path / "m.setun", "--weights", weights[0]]
    subprocess.run(command, check=True)
    assert (tmp_path / "m.setun").stat().st_size > 0


@pytest.fixture
def dynamo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile compiles, which it does not in the other tests."""
    import torch._dynamo

    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    with torch._dynamo.config.patch(disable=False):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("dynamo")
def test_backend_of_torch_compile() -> None:
    module = block()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", SetunWarning)
        fast = torch.compile(module, backend=setun_backend)
        for rows in (3, 3, 5, 9):
            x = numbers(rows, 16)
            assert close(fast(x)["y"], module(x)["y"])
        module.up.weight.neg_()
        assert close(fast(x)["y"], module(x)["y"])


@pytest.mark.usefixtures("dynamo")
def test_backend_falls_back_with_a_warning() -> None:
    with torch.no_grad(), pytest.warns(SetunWarning, match=r"aten\.sort\.default .*test_api\.py:\d+"):
        fast = torch.compile(lambda x: torch.sort(x)[0] + 1, backend=setun_backend)
        assert torch.equal(fast(torch.tensor([2.0, 1.0])), torch.tensor([2.0, 3.0]))
    module = Sum()
    with torch.no_grad(), pytest.warns(SetunWarning, match="changes a buffer or parameter of the module"):
        torch.compile(module, backend=setun_backend)(numbers(4))
        assert torch.equal(module.total, numbers(4))
    with pytest.warns(SetunWarning, match="needs gradients"):
        fast = torch.compile(block(), backend=setun_backend)
        assert fast(numbers(3, 16))["y"].requires_grad
