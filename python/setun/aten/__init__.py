"""How each operator of a traced graph is written in MLIR: one lowering an operator, by overload.

`registry` holds them; the other modules fill it, by subject. `python -m setun.aten` prints the page of the operators,
`docs/generated/operators.md`.
"""

from setun.aten import (
    bitnet,
    creation,
    elementwise,
    indexing,
    norms,
    pooling,
    products,
    reductions,
    shapes,
)
from setun.aten.registry import REGISTRY, lowers

GROUPS = {
    "Elementwise": elementwise,
    "Shapes": shapes,
    "Creation": creation,
    "Reductions": reductions,
    "Products, convolutions, attention": products,
    "Normalisation": norms,
    "Pooling": pooling,
    "Indexing": indexing,
    "The operators of Setun": bitnet,
}
"""The modules of lowerings, by the heading that they have in the documentation."""

__all__ = ["GROUPS", "REGISTRY", "lowers"]
