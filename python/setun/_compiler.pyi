"""Types of the native compiler module."""

from collections.abc import Callable, Sequence

class Diagnostic:
    @property
    def severity(self) -> str: ...
    @property
    def location(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def notes(self) -> list[Diagnostic]: ...

class Result:
    @property
    def ok(self) -> bool: ...
    @property
    def text(self) -> bytes: ...
    @property
    def diagnostics(self) -> list[Diagnostic]: ...
    @property
    def times(self) -> list[tuple[str, float]]: ...

def compile(
    text: str,
    output: str = "",
    *,
    name: str = "<module>",
    targets: Sequence[str] = (),
    weights: Sequence[str] = (),
    files: Sequence[tuple[str, str]] = (),
    emit: str = "package",
    head: str = "",
    threads: int = 0,
    progress: Callable[[str, str, float], object] | None = None,
) -> Result: ...
def targets(list: str) -> list[str]: ...
