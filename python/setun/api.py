"""Any PyTorch module to native code, and the code called like the module: `setun.compile`, `load` and `export`.

Compiling needs torch; calling what was compiled does not.
"""

from __future__ import annotations

import linecache
import shlex
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from setun.calling import FILE, Signature, as_array, is_torch
from setun.diagnostics import SetunError
from setun.progress import Progress
from setun.report import Report, report_of
from setun.session import Package, Session, open_package

if TYPE_CHECKING:
    from torch import nn

    from setun.tracer import Traced

ENTRY = "forward"
PACKAGE_FILE = "model.setun"


class CompileError(SetunError):
    """The compiler refused a module.

    Attributes:
        diagnostics: its messages (`setun._compiler.Diagnostic`): severity, location, message, notes.
        reproducer: command line that shows the failure again.
    """

    def __init__(self, diagnostics: Sequence[Any], reproducer: str) -> None:
        self.diagnostics = list(diagnostics)
        self.reproducer = reproducer
        errors = [_with_source(item) for item in diagnostics if item.severity == "error"]
        super().__init__("the module cannot be compiled:\n" + "\n".join(errors), f"To see it again: {reproducer}")


def _with_source(diagnostic: Any) -> str:
    """A message with the line of the user's source that it is about."""
    text = f"{diagnostic.location}: {diagnostic.message}" if diagnostic.location else diagnostic.message
    file, _, rest = diagnostic.location.partition(":")
    line = rest.partition(":")[0]
    source = linecache.getline(file, int(line)).strip() if line.isdigit() else ""
    notes = [f"\n    {note.location}: {note.message}" for note in diagnostic.notes]
    return f"  {text}" + (f"\n    {source}" if source else "") + "".join(notes)


class _Sessions:
    """Sessions for calls from several threads at once: each call has one for itself, as long as it takes."""

    def __init__(self, package: Package, threads: int, stateful: bool) -> None:
        self._package, self._threads, self._stateful = package, threads, stateful
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        # A module that keeps buffers has one session, and calls wait for each other.
        self._single = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[Session]:
        if self._stateful:
            with self._single, self._one() as session:
                yield session
        else:
            with self._one() as session:
                yield session

    @contextmanager
    def _one(self) -> Iterator[Session]:
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is None:
            session = self._package.session(self._threads)
        try:
            yield session
        finally:
            with self._lock:
                self._idle.append(session)


class Compiled:
    """A compiled module. Call it with the arguments that the module takes, from any number of threads.

    Tensors may be torch's, NumPy arrays or whatever speaks DLPack, in the containers that the module was compiled with,
    and are not copied where they are contiguous. Results are torch tensors if an argument is one, else arrays.

    Args:
        package: opened.
        threads: that compute a call; 0: one for each CPU, where that is faster.

    Raises:
        SetunError: the package was not made from a module by `setun.compile`.
    """

    def __init__(self, package: Package, threads: int = 0) -> None:
        files = package.files()
        if FILE not in files:
            raise SetunError(
                f"{package.path} was not made by setun.compile",
                "Language models are opened by setun.session.open_package.",
            )
        self.package = package
        self.signature = Signature.from_json(files[FILE])
        self._inputs = package.entry(ENTRY)["inputs"][: len(self.signature.inputs)]
        self._outputs = package.entry(ENTRY)["outputs"]
        self._sessions = _Sessions(package, threads, self.signature.stateful)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the module.

        Raises:
            SetunError: an argument is not what the module was compiled for; says which and why.
        """
        given = self.signature.tensors(args, kwargs)
        paths = [path for path, _ in given]
        arrays = [
            as_array(value, path, tensor["dtype"]) for (path, value), tensor in zip(given, self._inputs, strict=True)
        ]
        sizes = self.signature.check(paths, arrays, self._inputs)
        inputs = dict(zip(self.signature.inputs, arrays, strict=True)) | self.signature.derived_inputs(sizes)
        with self._sessions.take() as session:
            outputs = session.run(ENTRY, inputs)
        if any(is_torch(value) for _, value in given):
            return self.signature.results_of({name: self._tensor(name, array) for name, array in outputs.items()})
        return self.signature.results_of(outputs)

    def _tensor(self, name: str, array: np.ndarray) -> Any:
        import torch

        tensor = torch.from_numpy(array)
        described = next(output for output in self._outputs if output["name"] == name)
        return tensor.view(torch.bfloat16) if described["dtype"] == "bf16" else tensor

    def reset(self) -> None:
        """Gives the buffers that the module keeps their first values again."""
        with self._sessions.take() as session:
            session.reset()

    def save(self, path: str | Path) -> None:
        """Writes the package; `setun.load` reads it, and so does `setun-run`."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            shutil.copyfile(self.package.path, temporary)
            temporary.replace(path)
        except OSError as error:
            raise SetunError(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):  # it has its name already, or was never made
                temporary.unlink()

    def report(self) -> Report:
        """The layers with their source lines, formats and kernels, and what the compiler had to say."""
        return report_of(self.package.description, self.signature.places)

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    def __repr__(self) -> str:
        return f"<setun.Compiled {self.package.provenance().get('source', '')}: {', '.join(self.signature.arguments)}>"


def load(path: str | Path, *, target: str | None = None, threads: int = 0) -> Compiled:
    """Opens a package that `Compiled.save` wrote.

    Args:
        target: name of the code section to use; the best for this CPU if None.
        threads: that compute a call; 0: one for each CPU, where that is faster.

    Raises:
        SetunError: no such file, damaged, or not made by `setun.compile`.
    """
    return Compiled(open_package(path, target), threads)


def _traced(
    module: nn.Module, example_args: Any, example_kwargs: Mapping[str, Any] | None, dynamic_shapes: Any
) -> tuple[Traced, Signature]:
    from setun.signatures import trace_module

    with Progress("tracing the module"):
        return trace_module(module, example_args, example_kwargs or {}, dynamic_shapes)


def compile(
    module: nn.Module,
    example_args: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    target: str = "host",
    threads: int = 0,
    head: str = "certified",
) -> Compiled:
    """Compiles a module to native code.

    Args:
        module: in eval mode, on the CPU, in float32. Its parameters are copied into the package.
        example_args: tensors (or arrays) of the shapes and dtypes that it will be called with, as a tuple; one alone
            needs none.
        example_kwargs: the same for arguments by name.
        dynamic_shapes: which sizes may differ from call to call, as for `torch.export.export`; arguments without such
            sizes may be left out.
        target: CPUs to compile for, separated by commas, as `setun-compile --target` takes them.
        threads: that compute a call; 0: one for each CPU, where that is faster.
        head: how `setun.top_k`, if the module uses it, finds the largest logits: one of `setun.compiler.HEADS`.

    Raises:
        SetunError: the module uses what cannot be compiled; all of it is listed, with lines of its source.
    """
    traced, signature = _traced(module, example_args, example_kwargs, dynamic_shapes)
    folder = Path(tempfile.mkdtemp(prefix="setun-"))
    try:
        _build(traced, signature, folder, target, head)
        result = Compiled(open_package(folder / PACKAGE_FILE), threads)
    except CompileError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # The package stays mapped; its name in the file system is needed for `save`.
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result


def _write(traced: Traced, folder: Path) -> tuple[Path, list[Path]]:
    from setun.compiler import write_text

    made = write_text(traced, folder)
    return made.mlir, made.weights


def _build(traced: Traced, signature: Signature, folder: Path, target: str, head: str) -> None:
    """Compiles into `folder`. After a failure the folder holds what shows it again."""
    from setun.compiler import LIBRARIES

    try:
        from setun import _compiler
    except ImportError as error:
        raise SetunError(
            f"the compiler cannot be loaded: {error}", f"It is built by scripts/build, and needs {LIBRARIES}."
        ) from error

    mlir, weights = _write(traced, folder)
    call = folder / FILE
    call.write_text(signature.as_json(), encoding="utf-8")
    output = folder / PACKAGE_FILE
    with Progress("compiling") as progress:
        result = _compiler.compile(
            traced.mlir,
            str(output),
            name=str(mlir),
            targets=[target],
            weights=[str(path) for path in weights],
            files=[(FILE, str(call))],
            head=head,
            progress=lambda stage, _, fraction: progress.update(int(100 * fraction), 100, f"compiling: {stage}"),
        )
    if not result.ok:
        flags = [f"--target={target}", *(flag for path in weights for flag in ("--weights", str(path)))]
        command = shlex.join(["setun-compile", str(mlir), "-o", str(output), *flags])
        raise CompileError(result.diagnostics, command)


def export(
    module: nn.Module,
    example_args: Any,
    folder: str | Path,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> tuple[Path, list[Path]]:
    """Writes a module as MLIR text and its weights, to look at and for `setun-compile`.

    Args:
        folder: receives `model.mlir` and, if the module has weights, `constants.safetensors`.
        module, example_args, example_kwargs, dynamic_shapes: as for `compile`.

    Returns:
        Path of the text and paths of the weights.

    Raises:
        SetunError: the module uses what cannot be compiled.
    """
    traced, _ = _traced(module, example_args, example_kwargs, dynamic_shapes)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return _write(traced, folder)
