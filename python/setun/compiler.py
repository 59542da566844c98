"""A checkpoint directory to a package: lint, trace, and the `setun-compile` tool.

Weights never pass through Python: it reads headers and scans values in pieces, writes MLIR text that names the
tensors, and the tool streams them from their files.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from setun.diagnostics import SetunError
from setun.progress import Progress

if TYPE_CHECKING:
    from torch import nn

    from setun.checkpoint import Checkpoint
    from setun.lint import Import
    from setun.tracer import Traced

TEXT_STAGES = ("mlir", "bitnet", "kernels", "ternary", "llvm-dialect", "llvm", "asm")
HEADS = ("certified", "exact", "int8")
"""How a package finds the likeliest tokens: the same tokens and logits, by a scan and exact scores of what it leaves
open, or by all exact logits; or by the logits of a head whose weights and activations have 8 bits."""

STAGES = (*TEXT_STAGES, "obj", "package")
"""What can be looked at: the traced text, then the stages of `setun-compile`."""

LIBRARIES = "the shared libraries of LLVM and MLIR 22 (on Debian the package libmlir-22)"
"""What the compiler needs where it runs."""

MLIR_FILE = "model.mlir"
CONSTANTS_FILE = "constants.safetensors"


def find_tool(name: str, on_path: bool = True) -> Path:
    """A program of the compiler: in $SETUN_BIN, in build/bin of the source tree, beside this package, or on PATH.

    Raises:
        SetunError: it is nowhere.
    """
    source = Path(__file__).resolve().parents[2]
    folders = [Path(os.environ["SETUN_BIN"])] if os.environ.get("SETUN_BIN") else []
    folders += [source / "build" / "bin", Path(__file__).resolve().parent / "bin"]
    for folder in folders:
        if os.access(folder / name, os.X_OK) and (folder / name).is_file():
            return folder / name
    found = shutil.which(name) if on_path else None
    if found:
        return Path(found)
    raise SetunError(
        f"the program {name} is not found in {', '.join(map(str, folders))}{' or on PATH' if on_path else ''}",
        "Build it with scripts/build, or set SETUN_BIN to the folder that has it.",
    )


def become_tool() -> None:
    """What pip installs under the name of a program of this package: becomes that program."""
    name = Path(sys.argv[0]).name
    try:
        tool = find_tool(name, on_path=False)  # there, it would find itself
        os.execv(tool, [name, *sys.argv[1:]])
    except (SetunError, OSError) as error:
        sys.exit(f"{name}: {error}")


def run_tool(command: Sequence[str | Path], what: str, cure: str | None = None) -> str:
    """Runs a program whose messages go to the user's standard error, and returns its standard output.

    Args:
        what: name of the program in messages.
        cure: what to do if it fails; its command line if None.

    Raises:
        SetunError: it failed; says how, and with which command line to try again.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=None, check=False)
    except OSError as error:
        raise SetunError(f"{words[0]} cannot be run ({error.strerror or error})") from error
    if done.returncode != 0:
        how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        if done.returncode == 127:  # of the dynamic linker, which has said what is missing
            cure = f"{what} needs {LIBRARIES}."
        raise SetunError(f"{what} failed ({how}); its messages are above", cure or f"Command: {shlex.join(words)}")
    return done.stdout.decode("utf-8", "replace")


@dataclass
class FrontEnd:
    """What a front end hands to the compiler: MLIR text, constants of its own, and the checkpoint's files.

    Attributes:
        mlir: path of the text.
        weights: `.safetensors` files that the text names tensors of.
        files: files that travel in the package, by their name in it.
    """

    mlir: Path
    weights: list[Path]
    files: dict[str, Path] = field(default_factory=dict)
    imported: Import | None = None

    def command(self, output: Path, target: str, emit: str, *flags: str) -> list[str | Path]:
        """Command line of `setun-compile`."""
        command: list[str | Path] = [find_tool("setun-compile"), self.mlir, "-o", output, f"--target={target}"]
        command += [f"--emit={emit}"] if emit != "package" else []
        for weights in self.weights:
            command += ["--weights", weights]
        for name, path in self.files.items():
            command += ["--file", f"{name}={path}"]
        return [*command, *flags]


def write_text(traced: Traced, folder: Path) -> FrontEnd:
    """Writes the text of a traced module and its constants into `folder`."""
    from safetensors.torch import save_file

    mlir, constants = folder / MLIR_FILE, folder / CONSTANTS_FILE
    mlir.write_text(traced.mlir, encoding="utf-8")
    if not traced.constants:
        return FrontEnd(mlir, [])
    # The file's writer wants no two tensors in one memory.
    tensors, seen = {}, set()
    for name, tensor in traced.constants.items():
        tensor = tensor.detach().contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    save_file(tensors, constants)
    return FrontEnd(mlir, [constants])


def _write(module: nn.Module, context: int, provenance: Mapping[str, str], folder: Path) -> FrontEnd:
    """Traces a module and writes its text and constants into `folder`."""
    from setun.tracer import trace

    return write_text(trace(module, context, provenance), folder)


def write_front_end(imported: Import, folder: Path) -> FrontEnd:
    """Traces a linted checkpoint and writes its text and constants into `folder`."""
    assert imported.model is not None and imported.config is not None
    checkpoint = imported.checkpoint
    made = _write(imported.model, imported.config.context, checkpoint.provenance(), folder)
    made.weights = [*(file.resolve() for file in checkpoint.files), *made.weights]
    made.files = {name: path.resolve() for name, path in checkpoint.tokenizer_files().items()}
    made.imported = imported
    return made


def lint_or_fail(
    checkpoint: Checkpoint, context: int | None, report: list[str] | None = None, kv_cache: str = "f16"
) -> Import:
    """Lints a checkpoint; warnings are appended to `report` as text.

    Raises:
        SetunError: lists every error.
    """
    from setun.lint import check

    with Progress("checking weights", "bytes") as progress:
        imported = check(checkpoint, context, progress.update, kv_cache)
    imported.found.raise_errors(str(checkpoint.directory))
    if report is not None:
        report += [str(item) for item in imported.found if item.severity == "warning"]
    return imported


@contextmanager
def front_end(
    directory: Path,
    context: int | None = None,
    keep: Path | None = None,
    report: list[str] | None = None,
    kv_cache: str = "f16",
) -> Iterator[FrontEnd]:
    """Lints and traces a checkpoint. The files live as long as the context, or for good in the folder `keep`."""
    from setun.checkpoint import open_checkpoint

    imported = lint_or_fail(open_checkpoint(directory), context, report, kv_cache)
    with tempfile.TemporaryDirectory(prefix="setun-") as temporary:
        folder = Path(temporary)
        if keep is not None:
            folder = keep
            folder.mkdir(parents=True, exist_ok=True)
        with Progress("tracing the model"):
            result = write_front_end(imported, folder)
        yield result


def compile_checkpoint(
    directory: Path,
    output: Path,
    *,
    target: str = "host",
    context: int | None = None,
    kv_cache: str = "f16",
    emit: str = "package",
    head: str = HEADS[0],
    keep: Path | None = None,
    flags: Sequence[str] = (),
    report: list[str] | None = None,
    tune_threads: Sequence[int] = (),
) -> str:
    """Compiles a checkpoint directory; returns what the tool printed on standard output, or the table of the tuning.

    Args:
        output: file to write. It appears whole or not at all.
        target: targets of `setun-compile`, separated by commas.
        context: largest session in tokens; the model's own maximum if None.
        kv_cache: element type of the key and value cache, `f16` or `f32`.
        emit: one of `STAGES`.
        head: one of `HEADS`.
        keep: folder that keeps the traced text and constants.
        flags: further flags of the tool.
        report: receives the warnings of the lint.
        tune_threads: measure kernels with these numbers of threads, instead of the cost model; empty: do not.

    Raises:
        SetunError: bad input, or the tool is missing or failed.
    """
    if emit not in STAGES:
        raise SetunError(f"unknown stage {emit!r}", f"Stages: {', '.join(STAGES)}.")
    if head not in HEADS:
        raise SetunError(f"unknown head {head!r}", f"Heads: {', '.join(HEADS)}.")
    if emit != "mlir":
        find_tool("setun-compile")
    with front_end(directory, context, keep, report, kv_cache) as made:
        if emit == "mlir":
            if str(output) == "-":
                return made.mlir.read_text(encoding="utf-8")
            shutil.copyfile(made.mlir, output)
            return ""
        table = ""
        flags = list(flags)
        if tune_threads:
            from setun.tune import Tuner

            tuner = Tuner(made, target, tune_threads, [flag for flag in flags if flag != "--timing"])
            kernels = tuner.run(made.mlir.parent)
            table = tuner.describe() + "\n"
            flags.append(f"--kernels={kernels}")
        cure = None if keep is not None else "To look into it, keep the tool's input with --keep-mlir DIR."
        flags = [f"--head={head}", *flags]
        return table + run_tool(made.command(output, target, emit, *flags), "setun-compile", cure)


def compile_module(
    module: nn.Module,
    output: Path,
    *,
    context: int,
    target: str = "host",
    head: str = HEADS[0],
    provenance: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> None:
    """Compiles a PyTorch module with `entries` (`setun.models.layers.Entry`) and real parameters to a package.

    Args:
        output: package to write.
        context: largest session in tokens, and largest value of every symbolic size.
        target: targets of `setun-compile`, separated by commas.
        provenance: copied into the package.
        flags: further flags of the tool.

    Raises:
        SetunError: the module uses what cannot be compiled, or the tool is missing or failed.
    """
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        made = _write(module, context, provenance or {"source": type(module).__qualname__}, Path(folder))
        run_tool(made.command(output, target, "package", f"--head={head}", *flags), "setun-compile")
