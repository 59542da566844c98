"""Packages and sessions in Python, over the runtime module `setun._setun`. Needs neither torch nor the compiler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from setun.diagnostics import SetunError


class Package:
    """An opened package.

    Attributes:
        path: where it lies.
        description: entries, targets, layers, files and provenance, as `setun inspect --json` prints them.
    """

    def __init__(self, path: Path, target: str | None = None, weights: str = "auto") -> None:
        from setun import _setun

        self.path = path
        self._error = _setun.Error
        if not path.is_file():
            what = "is no regular file" if path.exists() else "no such file"
            raise SetunError(f"{path}: {what}", "Compile one with: setun compile DIR -o FILE.setun")
        try:
            self._native = _setun.Package(str(path), target, weights=weights)
            self.description: dict[str, Any] = json.loads(self._native.json())
        except (self._error, OSError) as error:
            raise SetunError(_with_path(path, error)) from error

    def entry(self, name: str) -> dict[str, Any] | None:
        """Description of an entry point, or None."""
        return next((entry for entry in self.description["entries"] if entry["name"] == name), None)

    def vocabulary(self, entry: str) -> int:
        """Size of the last axis of an entry's `logits`.

        Raises:
            SetunError: the entry has no such output.
        """
        described = self.entry(entry)
        for tensor in described["outputs"] if described else []:
            if tensor["name"] == "logits" and tensor["shape"] and isinstance(tensor["shape"][-1], int):
                return tensor["shape"][-1]
        raise SetunError(f"entry {entry!r} has no output 'logits'", "Only language models generate text.")

    def choices(self) -> int:
        """How many of the likeliest tokens the entry `choose` gives at most; 0 if the package has no such entry."""
        described = self.entry("choose")
        if described is None or [tensor["name"] for tensor in described["inputs"]] != ["tokens", "k"]:
            return 0
        return next((tensor["shape"][0] for tensor in described["outputs"] if tensor["name"] == "ids"), 0)

    def provenance(self) -> dict[str, str]:
        return self.description["provenance"]

    def target(self) -> str:
        """Name of the code section that sessions use.

        Raises:
            SetunError: none of them runs on this CPU.
        """
        for target in self.description["targets"]:
            if target["selected"]:
                return target["name"]
        # The runtime says what is missing, and how to add it.
        self.session(threads=1)
        raise AssertionError("a session without code")

    def files(self) -> dict[str, bytes]:
        """Contents of the files that travel in the package, by name."""
        return self._native.files

    def operations(self, entry: str) -> list[dict[str, Any]]:
        """What an entry consists of, in the code section that sessions use."""
        return self._native.operations(entry)

    @property
    def weights_copied(self) -> bool:
        """Whether sessions read a copy of the weights; known once there is one."""
        return self._native.weights_copied

    def check_weights(self) -> None:
        """Reads all weights and compares their checksum; opening a package checks everything else.

        Raises:
            SetunError: they are damaged.
        """
        try:
            self._native.verify()
        except self._error as error:
            raise SetunError(_with_path(self.path, error), "Compile or copy the package again.") from error

    def session(self, threads: int = 0, context: int = 0) -> Session:
        """A new, empty session. `threads` 0: one for each CPU, where that is faster; `context` 0: the largest capacity.

        Raises:
            SetunError: the code cannot be loaded on this machine.
        """
        from setun import _setun

        try:
            return Session(_setun.Session(self._native, threads=threads, context=context), self._error)
        except self._error as error:
            raise SetunError(_with_path(self.path, error)) from error


class Session:
    """State of one sequence (the key and value caches) and the threads that compute it."""

    def __init__(self, native: Any, error: type[Exception]) -> None:
        self._native = native
        self._error = error

    def run(self, entry: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs an entry point; the session's position advances.

        Raises:
            SetunError: wrong names, dtypes or shapes, or more tokens than the session holds.
        """
        try:
            return self._native.run(entry, dict(inputs))
        except self._error as error:
            raise SetunError(_with_name(f"'{entry}'", entry, error)) from error

    def decode(self, entry: str, token: int, count: int) -> np.ndarray:
        """Runs an entry `count` times on one token, first the given one, then the likeliest; returns those chosen.

        Raises:
            SetunError: the entry takes more than tokens, gives neither ids nor logits, or the session is full.
        """
        try:
            return self._native.decode(entry, token, count)
        except self._error as error:
            raise SetunError(_with_name(f"'{entry}'", entry, error)) from error

    def reset(self) -> None:
        """Empties the session."""
        self._native.reset()

    def profile(self, on: bool) -> None:
        """Turns the taking of times on, starting from zero, or off; results do not change."""
        self._native.profile(on)

    def times(self, entry: str) -> dict[str, Any]:
        """Times since `profile(True)`: runs, seconds, and for each operation (count, seconds) of each thread."""
        return self._native.times(entry)

    @property
    def position(self) -> int:
        """Tokens in the session."""
        return self._native.position


def _with_name(name: str, prefix: object, error: Exception) -> str:
    """The runtime's message, with a prefix unless it has the name."""
    return str(error) if name in str(error) else f"{prefix}: {error}"


def _with_path(path: Path, error: Exception) -> str:
    return _with_name(str(path), path, error)


def open_package(path: str | Path, target: str | None = None, weights: str = "auto") -> Package:
    """Opens and checks a package; `target` names the code section to use, the best for this CPU if None.

    `weights`: `map` reads them where the file is mapped, `copy` from a copy in large pages, which a core reads faster;
    `auto` copies large ones where memory is plenty.

    Raises:
        SetunError: no such file, damaged, or of another version.
    """
    return Package(Path(path), target, weights)
