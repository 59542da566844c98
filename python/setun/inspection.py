"""A package's description as text, for `setun inspect`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any


def size(count: int) -> str:
    """Bytes as text, with three figures and the largest unit below them."""
    if count < 1000:
        return f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def _tensor(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']} {tensor['dtype']}[{', '.join(map(str, tensor['shape']))}]"


def _bits(layer: dict[str, Any]) -> float:
    return 8 * layer["bytes"] / max(layer["rows"] * layer["cols"], 1)


def _kernel(kernel: dict[str, Any]) -> str:
    """`avx2, 2 tokens at once; of a core a thousand weights (decode + prefill): 45.5 + 12.5 cycles predicted`."""
    text = kernel["kernel"]
    if kernel.get("tokens"):
        text += f", {kernel['tokens']} tokens at once" if kernel["tokens"] > 1 else ", one token at once"
    if kernel.get("staged"):
        text += f", staged from {kernel['staged']} tokens"
    costs = [
        f"{kernel[f'{how}_decode'] / 1000:.1f} + {kernel[f'{how}_prefill'] / 1000:.1f} {unit} {how}"
        for how, unit in (("predicted", "cycles"), ("measured", "ns"))
        if f"{how}_decode" in kernel and f"{how}_prefill" in kernel
    ]
    return f"{text}; of a core a thousand weights (decode + prefill): {', '.join(costs)}" if costs else text


def _shorten(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def describe(data: dict[str, Any], path: Path) -> str:
    """Entries, code sections, layers by shape and format, files and provenance of a package.

    Args:
        data: the runtime's description (`setun_package_json`), parsed.
        path: of the package, for the title.
    """
    lines = [f"{path}: {size(data['bytes'])}, of which weights {size(data['weights_bytes'])}", "", "entries"]
    for entry in data["entries"]:
        if entry["name"].startswith("__"):  # the compiler's own, for self-tests
            continue
        inputs = ", ".join(_tensor(tensor) for tensor in entry["inputs"])
        outputs = ", ".join(_tensor(tensor) for tensor in entry["outputs"])
        lines.append(f"  {entry['name']}({inputs}) -> {outputs}")
        notes = []
        if entry["states"]:
            shapes = {tuple(tensor["shape"]) for tensor in entry["states"]}
            notes.append(
                f"{len(entry['states'])} states [{'], ['.join(', '.join(map(str, s)) for s in sorted(shapes))}]"
            )
        if entry["resets_session"]:
            notes.append("empties the session first")
        if entry["max_context"]:
            notes.append(f"context up to {entry['max_context']} tokens")
        if notes:
            lines.append(f"    {'; '.join(notes)}")
    lines += ["", "targets"]
    for target in data["targets"]:
        mark = "*" if target["selected"] else " "
        runnable = "" if target["runnable"] else ", not for this CPU"
        names = target["features"]
        features = (
            f" ({', '.join(names) if len(names) <= 12 else f'{len(names)} features, see --json'})" if names else ""
        )
        lines.append(f"{mark} {target['name']}: {target['arch']}{features}, {size(target['bytes'])}{runnable}")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for layer in data["layers"]:
        kernels = tuple(sorted((kernel["target"], _kernel(kernel)) for kernel in layer["kernels"]))
        groups[(layer["rows"], layer["cols"], layer["format"], layer["scale"], kernels)].append(layer)
    if groups:
        lines += ["", "layers"]
    for (rows, cols, form, scale, kernels), layers in groups.items():
        total = sum(layer["bytes"] for layer in layers)
        scales = f", scale per {scale}" if scale not in ("", "none") else ""
        lines.append(
            f"  {len(layers):3} x {rows} x {cols}, {form}{scales}: {size(layers[0]['bytes'])} each, "
            f"{size(total)} in all ({_bits(layers[0]):.2f} bits a weight): {_shorten([n['name'] for n in layers])}"
        )
        for target, kernel in kernels:
            lines.append(f"        {target}: {kernel}")
    if data["files"]:
        lines += ["", "files"]
        lines += [f"  {file['name']}: {size(file['bytes'])}" for file in data["files"]]
    if data["provenance"]:
        lines += ["", "provenance"]
        lines += [f"  {key}: {value}" for key, value in data["provenance"].items()]
    return "\n".join(lines)
