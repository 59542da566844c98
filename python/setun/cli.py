"""The command line: `setun compile | lint | inspect | generate | bench | verify`.

Exit status: 0 done, 1 a check failed, 2 wrong usage or input. Results go to standard output, progress and messages to
standard error. torch is imported only by the commands that read checkpoints.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from setun import __version__
from setun.compiler import HEADS, STAGES, TEXT_STAGES
from setun.diagnostics import SetunError, summarize
from setun.models.config import KV_CACHES

OK, FAILED, USAGE = 0, 1, 2
MAX_THREADS = 1024  # of the runtime
EXTRAS = {"torch": "compile", "safetensors": "compile", "tokenizers": "text", "jinja2": "text"}  # of pyproject.toml


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expects an integer of 1 or more, got {text!r}")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expects an integer of 0 or more, got {text!r}")
    return value


def _threads(text: str) -> int:
    value = _count(text)
    if value > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"expects at most {MAX_THREADS} threads, got {text!r}")
    return value


def _thread_list(text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if any(not 1 <= value <= MAX_THREADS for value in values):
        raise argparse.ArgumentTypeError(f"expects numbers from 1 to {MAX_THREADS} with commas between, got {text!r}")
    return values


def _default_threads() -> list[int]:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, min(cpus, MAX_THREADS)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setun",
        description="Compile 1-bit and 1.58-bit neural networks ahead of time, and run them.",
        epilog="Every command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"setun {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    compile_ = commands.add_parser(
        "compile",
        help="compile a checkpoint to a package",
        description="Compile a Hugging Face checkpoint directory (config.json, model.safetensors) to one .setun file.",
    )
    compile_.add_argument("directory", metavar="DIR", type=Path, help="checkpoint directory")
    compile_.add_argument(
        "-o", "--output", type=Path, help="file to write (default: NAME.setun; '-' for stages as text)"
    )
    compile_.add_argument(
        "--target",
        default="host",
        help="host, x86-64 or aarch64 (portable sets, chosen at run time), x86-64-v2, -v3, -v4, aarch64-dotprod, "
        "-i8mm, -sve2, -sme2, an LLVM CPU name, each with +features; several separated by commas (default: host; "
        "setun-compile --list-targets lists all)",
    )
    compile_.add_argument("--context", type=_positive, metavar="N", help="largest session in tokens (default: model's)")
    compile_.add_argument(
        "--kv-cache",
        choices=KV_CACHES,
        default="f16",
        help="element type of the key and value cache: f16 (default) takes half the memory, f32 rounds nothing",
    )
    compile_.add_argument(
        "--emit",
        choices=STAGES,
        default="package",
        help="write this stage instead of a package: the traced text (mlir), or what the compiler makes of it",
    )
    compile_.add_argument(
        "--head",
        choices=HEADS,
        default=HEADS[0],
        help="how generation finds the likeliest tokens: certified keeps a copy of the head in few bits, scans that "
        "and scores exactly what may be among the likeliest; exact scores all, with the same result; int8 gives the "
        "head 8-bit weights and activations, which changes the logits (default: certified)",
    )
    compile_.add_argument(
        "--format",
        choices=("auto", "best", "r16k4f4", "r16k4t5", "r16k4s4"),
        default="auto",
        help="layout of ternary weights: r16k4f4 (2 bits), r16k4t5 (1.6 bits), r16k4s4 (2 bits, for signed dots), "
        "best (the fastest for each target) or auto (best for one target; r16k4f4, which they share, for several; "
        "default)",
    )
    compile_.add_argument(
        "--run-threads",
        type=_threads,
        default=0,
        metavar="N",
        help="cores that will run the model at once, for the choice of kernels (0: a few, default)",
    )
    compile_.add_argument(
        "--tune",
        action="store_true",
        help="measure the kernels on this machine, instead of predicting their speed; takes up to a minute, and prints "
        "what was measured",
    )
    compile_.add_argument(
        "--tune-threads",
        type=_thread_list,
        metavar="LIST",
        help="numbers of threads to measure with (default: --run-threads, or one for each CPU)",
    )
    compile_.add_argument("--keep-mlir", type=Path, metavar="DIR", help="keep the traced model.mlir and its constants")
    compile_.add_argument("--timing", action="store_true", help="print the time of each stage")
    compile_.set_defaults(run=_compile)

    lint = commands.add_parser(
        "lint",
        help="check a checkpoint",
        description="Check a checkpoint directory: files, configuration, every tensor's place and values.",
    )
    lint.add_argument("directory", metavar="DIR", type=Path, help="checkpoint directory")
    lint.add_argument("--json", action="store_true", help="print everything as JSON")
    lint.set_defaults(run=_lint)

    inspect = commands.add_parser("inspect", help="show what a package holds", description="Show what a package holds.")
    inspect.add_argument("package", metavar="MODEL.setun", type=Path)
    inspect.add_argument("--json", action="store_true", help="print everything as JSON")
    inspect.set_defaults(run=_inspect)

    generate = commands.add_parser(
        "generate", help="generate text", description="Generate text with a language-model package, as it is made."
    )
    generate.add_argument("package", metavar="MODEL.setun", type=Path)
    generate.add_argument("--prompt", help="text to continue, or to answer with --chat; '-' reads standard input")
    generate.add_argument("--prompt-ids", metavar="IDS", help="token ids instead of a text, separated by commas")
    generate.add_argument("--chat", action="store_true", help="put the prompt into the model's chat template")
    generate.add_argument("--system", metavar="TEXT", help="system message for --chat")
    generate.add_argument("--max-new-tokens", type=_count, default=128, metavar="N", help="default 128")
    generate.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest (default)")
    generate.add_argument("--top-k", type=int, default=0, metavar="K", help="choose among the K likeliest (0: all)")
    generate.add_argument("--top-p", type=float, default=1.0, metavar="P", help="... that together have P (default 1)")
    generate.add_argument("--seed", type=_count, default=0, metavar="S", help="of the random choice (default 0)")
    generate.add_argument(
        "--threads", type=_threads, default=0, metavar="N", help="0: one for each CPU, where that is faster (default)"
    )
    generate.add_argument("--target", metavar="NAME", help="use this code section instead of the best for this CPU")
    generate.add_argument("--context", type=_count, default=0, metavar="N", help="capacity in tokens (0: as needed)")
    generate.add_argument("--chunk", type=_positive, default=512, metavar="N", help="feed the prompt N tokens at once")
    generate.add_argument("--ids", action="store_true", help="print token ids instead of text")
    generate.add_argument("--ignore-eos", action="store_true", help="do not stop at the model's stop tokens")
    generate.add_argument("--quiet", action="store_true", help="no timing at the end")
    generate.set_defaults(run=_generate)

    bench = commands.add_parser(
        "bench",
        help="measure the speed of a language model",
        description="Measure prefill and decode of a language-model package beside what this machine can do at best: "
        "decode by how fast memory is read, prefill by how fast bytes are multiplied. Limits and model are measured in "
        "turn; medians are printed with the smallest and largest.",
        epilog="Only ratios of figures that were measured together mean anything on a machine that others use, too.",
    )
    bench.add_argument("package", metavar="MODEL.setun", type=Path)
    bench.add_argument(
        "--prompt-tokens",
        type=_count,
        default=512,
        metavar="N",
        help="length of the prompt of the prefill test, given at once (default 512; 0: no such test)",
    )
    bench.add_argument(
        "--gen-tokens",
        type=_count,
        default=128,
        metavar="N",
        help="tokens of the decode test, each chosen by the one before (default 128; 0: no such test)",
    )
    bench.add_argument(
        "--depth", type=_count, default=0, metavar="N", help="tokens in the session before each test (default 0)"
    )
    bench.add_argument(
        "--threads",
        type=_thread_list,
        default=_default_threads(),
        metavar="N,...",
        help="numbers of threads, each measured by itself (default: 1 and one for each CPU)",
    )
    bench.add_argument(
        "--rounds", type=_positive, default=5, metavar="N", help="measure everything N times (default 5)"
    )
    bench.add_argument("--target", metavar="NAME", help="use this code section instead of the best for this CPU")
    bench.add_argument(
        "--weights",
        choices=("auto", "map", "copy"),
        default="auto",
        help="read weights where the file is mapped, or from a copy in large pages (default: by size and free memory)",
    )
    bench.add_argument("--profile", action="store_true", help="print where the time goes, operation by operation")
    bench.add_argument("--plot", type=Path, metavar="FILE.png", help="draw where the time goes")
    bench.add_argument("--no-limits", action="store_true", help="leave the machine's limits out")
    bench.add_argument("--json", action="store_true", help="print everything as JSON")
    bench.set_defaults(run=_bench)

    verify = commands.add_parser(
        "verify",
        help="compare a package with its checkpoint",
        description="Compare a package with the checkpoint that it was compiled from: integers with the reference "
        "interpreter, logits with Hugging Face transformers in float32.",
    )
    verify.add_argument("package", metavar="MODEL.setun", type=Path)
    verify.add_argument("directory", metavar="DIR", type=Path, help="checkpoint directory")
    verify.add_argument("--tokens", type=_positive, default=64, metavar="N", help="length of the text (default 64)")
    verify.add_argument("--seed", type=_count, default=0, metavar="S", help="of the random text (default 0)")
    verify.add_argument(
        "--threads", type=_threads, default=0, metavar="N", help="0: one for each CPU, where that is faster (default)"
    )
    verify.add_argument("--target", metavar="NAME", help="use this code section instead of the best for this CPU")
    verify.add_argument("--only", choices=("integers", "logits"), help="one of the two comparisons alone")
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_defaults(run=_verify)
    return parser


def _compile(options: argparse.Namespace) -> int:
    from setun.compiler import compile_checkpoint

    started = time.monotonic()
    output = options.output
    if output is None:
        name = options.directory.resolve().name
        output = Path("-" if options.emit in TEXT_STAGES else f"{name}.{'o' if options.emit == 'obj' else 'setun'}")
    if str(output) == "-" and options.emit not in TEXT_STAGES:
        raise SetunError(f"--emit={options.emit} cannot go to standard output", "Give a file with -o.")
    if str(output) != "-" and not output.absolute().parent.is_dir():
        raise SetunError(
            f"{output.absolute().parent}: no such directory", "Make it first, or give another file with -o."
        )
    if str(output) != "-" and output.is_dir():
        raise SetunError(f"{output}: is a directory", "Give the name of a file with -o.")
    if options.keep_mlir is not None and options.keep_mlir.exists() and not options.keep_mlir.is_dir():
        raise SetunError(f"{options.keep_mlir}: is no directory", "Give another name with --keep-mlir.")
    if options.tune and options.emit != "package":
        raise SetunError(f"--tune measures for packages, not for --emit={options.emit}", "Leave out one of the two.")
    if options.tune_threads and not options.tune:
        raise SetunError("--tune-threads says how to measure, which only --tune does", "Add --tune.")
    flags = [f"--format={options.format}"] if options.format != "auto" else []
    flags += [f"--run-threads={options.run_threads}"] if options.run_threads else []
    flags += ["--timing"] if options.timing else []
    tune_threads: list[int] = []
    if options.tune:
        tune_threads = options.tune_threads or [options.run_threads or _default_threads()[-1]]
    warnings: list[str] = []
    printed = compile_checkpoint(
        options.directory,
        output,
        target=options.target,
        context=options.context,
        kv_cache=options.kv_cache,
        emit=options.emit,
        head=options.head,
        keep=options.keep_mlir,
        flags=flags,
        report=warnings,
        tune_threads=tune_threads,
    )
    for warning in warnings:
        say(warning)
    sys.stdout.write(printed)
    if str(output) != "-":
        say(f"{output}: {output.stat().st_size / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")
    return OK


def _lint(options: argparse.Namespace) -> int:
    from setun.checkpoint import open_checkpoint
    from setun.diagnostics import Diagnostic
    from setun.lint import check
    from setun.progress import Progress

    try:
        checkpoint = open_checkpoint(options.directory)
    except SetunError as error:
        if not options.json:
            raise
        found = Diagnostic("error", "unreadable", "", error.message, error.cure)
        print(json.dumps({"checkpoint": str(options.directory), "ok": False, "diagnostics": [vars(found)]}, indent=1))
        return FAILED
    with Progress("checking weights", "bytes") as progress:
        result = check(checkpoint, None, progress.update)
    if options.json:
        print(json.dumps(result.as_json(), indent=1))
    else:
        for item in summarize(result.found):
            print(item)
        if result.config is not None and result.linears:
            storages = sorted({linear.storage for linear in result.linears.values()})
            zeros = [linear.zeros for linear in result.linears.values() if linear.zeros is not None]
            share = f", {100 * sum(zeros) / len(zeros):.1f}% zeros" if zeros else ""
            weights = sum(linear.out_features * linear.in_features for linear in result.linears.values())
            print(
                f"{result.config.architecture}: {len(result.linears)} ternary layers ({', '.join(storages)}), "
                f"{weights / 1e6:.1f} million weights{share}"
            )
        errors = len(result.found.errors)
        others = len(result.found.items) - errors
        print(f"{errors} errors, {others} warnings" if errors or others else "no findings")
    return FAILED if result.found.errors else OK


def _inspect(options: argparse.Namespace) -> int:
    from setun.inspection import describe
    from setun.session import open_package

    data = open_package(options.package).description
    print(json.dumps(data, indent=1) if options.json else describe(data, options.package))
    return OK


def _generate(options: argparse.Namespace) -> int:
    from setun.generate import run

    return run(options)


def _bench(options: argparse.Namespace) -> int:
    from setun.bench import run

    return run(options)


def _verify(options: argparse.Namespace) -> int:
    from setun.verify import verify

    result = verify(
        options.package,
        options.directory,
        tokens=options.tokens,
        seed=options.seed,
        threads=options.threads,
        target=options.target,
        only=options.only,
    )
    print(json.dumps(result.as_json(), indent=1) if options.json else result.describe())
    return OK if result.ok else FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status. Users see messages, never tracebacks (unless SETUN_TRACEBACK is set)."""
    status, message = USAGE, ""
    try:
        options: Any = _parser().parse_args(arguments)
        status = int(options.run(options))
    except SystemExit as request:  # argparse: --help, --version and wrong usage
        status = int(request.code or 0) if not isinstance(request.code, str) else USAGE
    except KeyboardInterrupt:
        status, message = 130, "interrupted"
    except BrokenPipeError:
        pass  # who wanted the results has seen enough of them
    except (SetunError, ImportError, OSError, MemoryError) as error:
        if os.environ.get("SETUN_TRACEBACK"):
            raise
        message = str(error) if isinstance(error, SetunError) else _explain(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        # The interpreter tries again to write what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or USAGE
        message = message or ("" if isinstance(error, BrokenPipeError) else _explain(error))
    if message:
        say(f"setun: {message}")
    return status


def _explain(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        if error.name == "setun._setun":
            return "the runtime module is not built\n  Run scripts/build."
        package = str(error.name).partition(".")[0]
        wanted = f"'setun[{EXTRAS[package]}]'" if package in EXTRAS else package
        return f"the Python package {package!r} is missing\n  Run scripts/setup, or: pip install {wanted}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read or write: {error.strerror}"
    return str(error) or type(error).__name__
