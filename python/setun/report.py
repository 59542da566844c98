"""What became of a module: its layers, and what was not recognised. For people (text, HTML) and programs (JSON)."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("layer", "source", "shape", "format", "bytes", "kernel")


@dataclass(frozen=True)
class Layer:
    """A matrix of the package.

    Attributes:
        name: of its weight in the module.
        source: module path, file and line where it is used, the path alone where no line of the user's uses it (a
            layer in an outermost `nn.Sequential`); empty if not known.
        shape: output by input features.
        format: of its packed weights.
        bytes: of these.
        kernel: row of the kernel table that computes it, on this machine if the package has code for it.
    """

    name: str
    source: str
    shape: str
    format: str
    bytes: int
    kernel: str

    def cells(self) -> tuple[str, ...]:
        return (self.name, self.source, self.shape, self.format, f"{self.bytes:,}", self.kernel)


@dataclass(frozen=True)
class Report:
    """Layers and notes of a compiled module. Printed, it is a table; notebooks show it as one.

    Attributes:
        layers: in the order of the package.
        notes: what the compiler has to say, above all layers that it could not recognise and computes as written.
        bytes: of the package.
        targets: names of its code sections.
    """

    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    bytes: int
    targets: tuple[str, ...]

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def _summary(self) -> str:
        return f"{len(self.layers)} layers, {self.bytes:,} bytes, for {', '.join(self.targets)}"

    def __str__(self) -> str:
        rows = [COLUMNS, *(layer.cells() for layer in self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self._summary(), *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        table = "".join([row(COLUMNS, "th"), *(row(layer.cells(), "td") for layer in self.layers)])
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<table>{table}</table><p>{html.escape(self._summary())}</p>" + (f"<ul>{notes}</ul>" if notes else "")


def _source(name: str, places: Mapping[str, Sequence[Any]]) -> str:
    """Where a weight is used. Names of our own making start with the name of the weight."""
    best = max((key for key in places if name == key or name.startswith(f"{key}.")), key=len, default=None)
    if best is None:
        return ""
    path, file, line = places[best]
    if not file:
        return path or "the module itself"
    return f"{path} ({file}:{line})" if path else f"{file}:{line}"


def report_of(description: Mapping[str, Any], places: Mapping[str, Sequence[Any]]) -> Report:
    """The report of a package, with the kernels of the code section that runs here, or of the first if none does.

    Args:
        description: of the package (`setun.session.Package.description`).
        places: module path, file and line of each weight's first use; no file where the source has no line.
    """
    sections = description["targets"]
    target = next((section["name"] for section in sections if section["selected"]), sections[0]["name"])
    layers = [
        Layer(
            layer["name"],
            _source(layer["name"], places),
            f"{layer['rows']} x {layer['cols']}",
            layer["format"],
            layer["bytes"],
            next((kernel["kernel"] for kernel in layer["kernels"] if kernel["target"] == target), ""),
        )
        for layer in description["layers"]
    ]
    names = tuple(section["name"] for section in sections)
    notes = description["provenance"].get("compiler.notes", "").splitlines()
    return Report(tuple(layers), tuple(notes), description["bytes"], names)
