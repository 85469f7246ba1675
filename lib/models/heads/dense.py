"""A score and a box for every cell from its own token (TransT, CVPR 2021, sec. 3.1)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.heads.candidates import Candidates
from lib.models.layers.fused import FuseOptions, Product, fused_form_of
from lib.models.layers.numeric import at_least_float32

TARGET, BACKGROUND = 0, 1


class Perceptron(nn.Module):
    """Linear layers `layers.0` .. with ReLU between.

    Args:
        inputs, hidden, outputs: Widths of the first input, of what lies between, of the last output.
        depth: Number of layers.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int = 3) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


@fused_form_of(Perceptron)
class FusedPerceptron(nn.Sequential):
    """A `Perceptron` for inference; its last layer is in float32, since scores are compared."""

    def __init__(self, perceptron: Perceptron, options: FuseOptions) -> None:
        pairs = [(layer.get_parameter("weight"), layer.get_parameter("bias")) for layer in perceptron.layers]
        last = Product(*pairs[-1], replace(options, dtype=torch.float32))
        super().__init__(*(Product(*pair, options, "relu") for pair in pairs[:-1]), last)

    def forward(self, x: Tensor) -> Tensor:
        """As `Perceptron.forward`."""
        *hidden, last = self
        for layer in hidden:
            x = layer(x)
        return last(x.float())


def dense_candidates(logits: Tensor, boxes: Tensor) -> Candidates:
    """One candidate per cell, its score the probability of the target.

    Args:
        logits: [B, N, 2] of target and background, row-major.
        boxes: [B, N, 4] cx, cy, w, h in units of the search crop's side.
    """
    scores = at_least_float32((logits[..., TARGET] - logits[..., BACKGROUND]).sigmoid())
    grid = isqrt(scores.shape[1])
    maps = {"logits": logits, "score_map": scores.unflatten(1, (1, grid, grid))}
    return Candidates(scores, at_least_float32(boxes), maps)
