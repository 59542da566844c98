"""Writes the reference pages of this folder from the TableGen descriptions, or checks that they are up to date.

Usage: generate.py [--check] [--tblgen mlir-tblgen] [--include LLVM_INCLUDE_FOLDER]

With --check, writes nothing, shows how the pages differ and exits with 1 if they do. A test does this.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
PAGES = {
    "BitNetOps.md": ["-gen-dialect-doc", "-dialect=bitnet", "dialects/BitNet/BitNetOps.td"],
    "TernaryOps.md": ["-gen-dialect-doc", "-dialect=ternary", "dialects/Ternary/TernaryOps.td"],
    "Passes.md": ["-gen-pass-doc", "passes/Passes.td"],
}


def generate(tblgen: str, include: str, arguments: list[str]) -> str:
    """Text of one page."""
    command = [tblgen, *arguments, "-I", ".", "-I", include]
    text = subprocess.run(command, cwd=ROOT, check=True, text=True, capture_output=True).stdout
    # Ends of lines hold spaces where a description does; the blank lines at the end vary.
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n") + "\n"


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tblgen", default="/usr/lib/llvm-22/bin/mlir-tblgen")
    parser.add_argument("--include", default="/usr/lib/llvm-22/include")
    options = parser.parse_args()
    stale = 0
    for name, arguments in PAGES.items():
        text, page = generate(options.tblgen, options.include, arguments), FOLDER / name
        old = page.read_text() if page.exists() else ""
        if old == text:
            continue
        stale += 1
        if options.check:
            lines = difflib.unified_diff(old.splitlines(), text.splitlines(), f"{name} (committed)", name, lineterm="")
            print("\n".join(lines))
        else:
            page.write_text(text)
            print(f"wrote {page.relative_to(ROOT)}")
    if options.check:
        print(f"{stale} of {len(PAGES)} pages are out of date" + ("; run docs/generated/generate.py" if stale else ""))
        return 1 if stale else 0
    return 0


sys.exit(main())
