"""Every test finds the harness and the Python package; without a compiler, what compiles is skipped."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "execution"), str(HERE.parent / "python")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from compiled import BIN

    if not (BIN / "setun-compile").exists():
        for item in items:
            if item.path.is_relative_to(HERE / "execution") or item.path.is_relative_to(HERE / "kernels"):
                item.add_marker(pytest.mark.skip(reason=f"the compiler is not built: no {BIN / 'setun-compile'}"))
