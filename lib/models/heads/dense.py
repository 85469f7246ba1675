"""A score and a box for every cell by itself, from its token alone (TransT, CVPR 2021, sec. 3.1)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.heads.candidates import Candidates, at_least_float32
from lib.models.layers.fused import FuseOptions, Product, with_fused_children

TARGET, BACKGROUND = 0, 1


class Perceptron(nn.Module):
    """Linear layers `layers.0` .. with ReLU between."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int = 3) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., inputs]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """For inference; see `FuseOptions`. Its last layer is in float32: scores are compared."""
        if options.portable:
            return with_fused_children(self, options)
        exact = replace(options, dtype=torch.float32)
        pairs = [(layer.get_parameter("weight"), layer.get_parameter("bias")) for layer in self.layers]
        hidden = [Product(*pair, options, "relu") for pair in pairs[:-1]]
        return nn.Sequential(*hidden, _InFloat32(), Product(*pairs[-1], exact))


class _InFloat32(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


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
