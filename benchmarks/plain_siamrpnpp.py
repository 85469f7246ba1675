"""SiamRPN++ written down plainly: layer by layer, boxes decoded and penalised in numpy on the host, as PySOT does."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

DEPTHS, LEVELS, SIDE, GRID = (3, 4, 6, 3), (2, 3, 4), 255, 25


class PlainSiamRPN:
    """Functions of a state dict with PySOT's names, in eval mode; strength of the penalty, share of the window."""

    penalty_k, influence = 0.05, 0.42
    shares: list[float]
    """Of each row's last choice: penalty times score."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state
        places = (np.arange(GRID) - GRID // 2) * 8.0
        shapes = [(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)]
        grid = [(x, y, w, h) for w, h in shapes for y in places for x in places]
        self.anchors = np.array(grid, dtype=np.float32)
        self.window = np.tile(np.outer(np.hanning(GRID), np.hanning(GRID)).flatten(), len(shapes))

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, padding, dilation)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (self.state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    def block(self, x: Tensor, name: str, stride: int, dilation: int) -> Tensor:
        padding = 0 if stride > 1 else dilation
        y = F.relu(self.norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1"))
        y = F.relu(self.norm(self.conv(y, f"{name}.conv2", stride, padding, dilation), f"{name}.bn2"))
        y = self.norm(self.conv(y, f"{name}.conv3"), f"{name}.bn3")
        if (key := f"{name}.downsample.0") + ".weight" in self.state:
            sliding = (stride, padding, dilation) if self.state[f"{key}.weight"].shape[-1] == 3 else (1, 0, 1)
            x = self.norm(self.conv(x, key, *sliding), f"{name}.downsample.1")
        return F.relu(x + y)

    def maps(self, picture: Tensor) -> list[Tensor]:
        """Stem and all layers, those of the last three at the heads' width."""
        x = F.relu(self.norm(self.conv(picture, "backbone.conv1", 2), "backbone.bn1"))
        found = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for layer, (depth, stride, dilation) in enumerate(zip(DEPTHS, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1):
            for i in range(depth):
                first = (stride, max(1, dilation // 2)) if i == 0 else (1, dilation)
                x = self.block(x, f"backbone.layer{layer}.{i}", *first)
            name = f"neck.downsample{layer}.downsample"
            found.append(self.norm(self.conv(x, f"{name}.0"), f"{name}.1") if layer in LEVELS else x)
        return found

    def levels(self, picture: Tensor) -> list[Tensor]:
        return self.maps(picture)[2:]

    def template(self, picture: Tensor) -> list[Tensor]:
        return [x[:, :, 4:11, 4:11] for x in self.levels(picture)]

    def branch(self, template: Tensor, search: Tensor, name: str) -> Tensor:
        kernel = F.relu(self.norm(self.conv(template, f"{name}.conv_kernel.0"), f"{name}.conv_kernel.1"))
        x = F.relu(self.norm(self.conv(search, f"{name}.conv_search.0"), f"{name}.conv_search.1"))
        rows, channels = x.shape[:2]
        maps = x.reshape(1, rows * channels, *x.shape[2:])
        y = F.conv2d(maps, kernel.reshape(rows * channels, 1, *kernel.shape[2:]), groups=rows * channels)
        y = y.view(rows, channels, *y.shape[2:])
        return self.conv(F.relu(self.norm(self.conv(y, f"{name}.head.0"), f"{name}.head.1")), f"{name}.head.3")

    def locate(self, template: list[Tensor], picture: Tensor, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """cx, cy, w, h of each row's box, in crop pixels from the middle; sizes [B, 2] of the last boxes."""
        return self.choose(*self.scored(template, self.levels(picture)), sizes)

    def scored(self, template: list[Tensor], search: list[Tensor]) -> tuple[Tensor, Tensor]:
        found = []
        for kind in ("cls", "loc"):
            shares = self.state[f"rpn_head.{kind}_weight"].softmax(dim=0)
            maps = [self.branch(template[i], search[i], f"rpn_head.rpn{i + 2}.{kind}") for i in range(len(LEVELS))]
            found.append(sum((share * x for share, x in zip(shares, maps, strict=True)), torch.zeros(())))
        return found[0], found[1]

    def choose(self, cls: Tensor, loc: Tensor, size: NDArray[np.float64]) -> NDArray[np.float64]:
        """cx, cy, w, h of each row's best anchor, in crop pixels from the middle; size [B, 2] of the last boxes."""
        best, self.shares = [], []
        for row in range(len(cls)):
            score = cls[row].view(2, -1).softmax(dim=0)[1].cpu().numpy()
            delta = loc[row].view(4, -1).cpu().numpy()
            a = self.anchors.T
            centre = delta[:2] * a[2:] + a[:2]
            extent = np.exp(delta[2:]) * a[2:]

            def padded(w: NDArray[np.float64], h: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))

            s, r = padded(*extent) / padded(*size[row]), (size[row, 0] / size[row, 1]) / (extent[0] / extent[1])
            penalty = np.exp(-(np.maximum(r, 1 / r) * np.maximum(s, 1 / s) - 1) * self.penalty_k)
            chosen = np.argmax(penalty * score * (1 - self.influence) + self.window * self.influence)
            best.append(np.concatenate([centre[:, chosen], extent[:, chosen]]))
            self.shares.append(float(penalty[chosen] * score[chosen]))
        return np.stack(best)
