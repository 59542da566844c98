"""Findings about a user's input, and the error that ends a command because of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

SEVERITIES = ("error", "warning", "note")


class SetunError(Exception):
    """An input or usage error with a message for the user: what is wrong, and how to mend it.

    Args:
        message: one sentence, with the values that were expected and found.
        cure: what the user can do about it, if anything is known to help.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}\n  {self.cure}" if self.cure else self.message


@dataclass(frozen=True)
class Diagnostic:
    """One finding. `code` is stable and short (`missing-tensor`); `tensor` names the tensor or file, or is empty."""

    severity: str
    code: str
    tensor: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.tensor}: " if self.tensor else ""
        text = f"{self.severity}: {place}{self.message} [{self.code}]"
        return f"{text}\n    {self.cure}" if self.cure else text


@dataclass
class Diagnostics:
    """Findings in the order in which they were made."""

    items: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, tensor: str, message: str, cure: str = "") -> None:
        self.items.append(Diagnostic("error", code, tensor, message, cure))

    def warning(self, code: str, tensor: str, message: str, cure: str = "") -> None:
        self.items.append(Diagnostic("warning", code, tensor, message, cure))

    def note(self, code: str, tensor: str, message: str, cure: str = "") -> None:
        self.items.append(Diagnostic("note", code, tensor, message, cure))

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)

    @property
    def errors(self) -> list[Diagnostic]:
        return [item for item in self.items if item.severity == "error"]

    def codes(self) -> set[str]:
        return {item.code for item in self.items}

    def raise_errors(self, subject: str) -> None:
        """Raises one SetunError that lists every error, if there is any."""
        errors = self.errors
        if not errors:
            return
        lines = [f"{subject} has {len(errors)} error{'s' if len(errors) > 1 else ''}:"]
        lines += [f"  {line}" for item in summarize(errors) for line in str(item).splitlines()]
        raise SetunError("\n".join(lines))

    def as_json(self) -> list[dict[str, str]]:
        return [asdict(item) for item in self.items]


def summarize(items: Iterable[Diagnostic], limit: int = 6) -> list[Diagnostic]:
    """At most `limit` findings of each code, then one line that counts the rest: a wrong family repeats per layer."""
    seen: dict[tuple[str, str], int] = {}
    kept: list[Diagnostic] = []
    for item in items:
        key = (item.severity, item.code)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= limit:
            kept.append(item)
    for (severity, code), count in seen.items():
        if count > limit:
            kept.append(Diagnostic(severity, code, "", f"{count - limit} more of these (see --json for all)"))
    return kept
