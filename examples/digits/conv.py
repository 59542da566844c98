"""A convolutional network with ternary weights that reads digits.

    .venv/bin/python examples/digits/conv.py --out digits-conv.setun

The first convolution, of one channel, and the output layer stay in floats; between them are BitConv2d layers with int8
activations of each image.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from digits import CLASSES, main
from setun.nn import BitConv2d


class Stage(nn.Module):
    """A ternary convolution, batch norm, ReLU: `[B, C, H, W]` to `[B, F, H / 2, W / 2]`."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv = BitConv2d(channels, filters, 3, padding=1)
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)


class ConvolutionalNetwork(nn.Module):
    """`[B, 1, 28, 28]` to scores `[B, 10]`."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.stages = nn.Sequential(Stage(width, 2 * width), Stage(2 * width, 3 * width))
        self.scores = nn.Linear(3 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(images)), 2)
        return self.scores(self.stages(x).mean(dim=(2, 3)))


if __name__ == "__main__":
    main(__doc__, ConvolutionalNetwork, steps=500)
