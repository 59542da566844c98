"""Checks that every `mlir` example in TableGen descriptions parses and verifies.

Usage: ods_examples.py SETUN_OPT FILE.td...

Examples use values that they do not define. Each is read as the body of a module, where order does not matter, followed
by definitions of those values; a definition of the wrong type makes the parser say which type the example uses, so a
few rounds find all types. Prints the number of examples; exits with 1 and the parser's messages if one is wrong.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = re.compile(r"```mlir\n(.*?)```", re.DOTALL)
OP_DEF = re.compile(r"^def (\w+) : \w*_(?:Dps)?Op<\"", re.MULTILINE)
VALUE = re.compile(r"%[A-Za-z_]\w*")
MISTYPED = re.compile(r"definition of SSA value '(%?[\w]+)(?:#0)?' has type 'none'")
USED_AS = re.compile(r"previously used here with type '(.*)'$")


def read_examples(path: Path) -> list[tuple[str, str]]:
    """Pairs of place ("file:line") and text."""
    text = path.read_text()
    return [(f"{path.name}:{text.count(chr(10), 0, m.start(1)) + 1}", m.group(1)) for m in EXAMPLE.finditer(text)]


def ops_without_example(path: Path) -> list[str]:
    """Names of operations whose definition holds no example."""
    text = path.read_text()
    starts = [(m.start(), m.group(1)) for m in OP_DEF.finditer(text)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [name for (start, name), end in zip(starts, ends, strict=True) if "```mlir" not in text[start:end]]


def main() -> int:
    """Runs the check; returns the exit status."""
    setun_opt, paths = sys.argv[1], [Path(p) for p in sys.argv[2:]]
    missing = [name for path in paths for name in ops_without_example(path)]
    if missing:
        print("operations without an example: " + ", ".join(missing))
        return 1
    examples = [example for path in paths for example in read_examples(path)]
    # Names are made unique, so that a message tells which example it is about.
    bodies, types = [], []
    for number, (_, text) in enumerate(examples):
        names = {name: f"%e{number}_{name[1:]}" for name in set(VALUE.findall(text))}
        body = VALUE.sub(lambda m, names=names: names[m.group(0)], text)
        defined = set()
        for line in body.splitlines():
            left, equals, _ = line.partition(" = ")
            if equals and left.strip().startswith("%"):
                defined.update(VALUE.findall(left))
        bodies.append(body)
        types.append({name: "none" for name in names.values() if name not in defined})
    while True:
        modules = []
        for (place, _), body, values in zip(examples, bodies, types, strict=True):
            made = (f'{name} = "example.value"() : () -> {kind}\n' for name, kind in sorted(values.items()))
            definitions = "".join(made)
            modules.append(f"// {place}\n{body}{definitions}")
        run = subprocess.run(
            [setun_opt, "--split-input-file", "--allow-unregistered-dialect", "-o", "/dev/null", "-"],
            input="\n// -----\n".join(modules),
            text=True,
            capture_output=True,
        )
        if run.returncode == 0:
            print(f"{len(examples)} examples parse")
            return 0
        progress, lines = False, run.stderr.splitlines()
        for index, line in enumerate(lines):
            wrong = MISTYPED.search(line)
            if not wrong:
                continue
            name = "%" + wrong.group(1).lstrip("%")
            used = next((m for m in map(USED_AS.search, lines[index + 1 :]) if m), None)
            for values in types:
                if used and values.get(name) == "none":
                    values[name] = used.group(1)
                    progress = True
        if not progress:
            print(run.stderr)
            return 1


sys.exit(main())
