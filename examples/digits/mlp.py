"""A multilayer perceptron with ternary weights that reads digits.

    .venv/bin/python examples/digits/mlp.py --out digits-mlp.setun

Trained from scratch: each layer normalises its input, quantises it to int8 and multiplies it with weights of -1, 0 and
+1. The output layer stays in floats.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from digits import CLASSES, SIZE, main
from setun.nn import BitLinear


class Perceptron(nn.Module):
    """`[B, 1, 28, 28]` to scores `[B, 10]`."""

    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        self.first = BitLinear(SIZE * SIZE, hidden, norm="rms")
        self.second = BitLinear(hidden, hidden, norm="rms")
        self.scores = nn.Linear(hidden, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        x = F.relu(self.first(x))
        x = F.relu(self.second(x))
        return self.scores(x)


if __name__ == "__main__":
    main(__doc__, Perceptron, steps=400)
