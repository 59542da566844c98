"""Progress on the terminal: one line that rewrites itself, on standard error, and nothing when that is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO


class Progress:
    """A line such as `checking weights  43% 512/1180 MB`. Use as a context manager.

    Args:
        title: what is being done.
        unit: of the counts given to `update`; `bytes` are shown in MB.
        stream: where to write; standard error if None.
    """

    def __init__(self, title: str, unit: str = "", stream: TextIO | None = None) -> None:
        self.title = title
        self.unit = unit
        self.stream = stream if stream is not None else sys.stderr
        self.visible = self.stream.isatty()
        self._shown = 0.0

    def __enter__(self) -> Progress:
        self._write(f"{self.title} ...")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("")

    def update(self, done: int, total: int, title: str = "") -> None:
        """Shows how far the work is, under another title if it has come to another part. Cheap enough to call often."""
        now = time.monotonic()
        if not self.visible or (now - self._shown < 0.1 and done < total):
            return
        self._shown = now
        if self.unit == "bytes":
            counts = f"{done / 1e6:.0f}/{total / 1e6:.0f} MB"
        else:
            counts = f"{done}/{total} {self.unit}".rstrip()
        self._write(f"{title or self.title} {100 * done // max(total, 1):3d}% {counts}")

    def _write(self, text: str) -> None:
        if self.visible:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r\x1b[K" + text[:width])
            self.stream.flush()
