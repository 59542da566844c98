"""Skips what needs an emulator where there is none."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import emulator  # noqa: E402  (by the path above)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = emulator.missing()
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def machine() -> Iterator[Callable[[str], emulator.Machine]]:
    """Machines by their CPU; each runs until the test module ends."""
    machines: dict[str, emulator.Machine] = {}

    def start(cpu: str) -> emulator.Machine:
        if cpu not in machines:
            machines[cpu] = emulator.Machine(cpu)
        return machines[cpu]

    yield start
    for one in machines.values():
        one.close()
