"""OSTrack written plainly, for comparison: what a first implementation from the paper looks like.

Attention as two products with its whole map between, batch norm and branches apart, crops padded together with a mask
that nobody reads and normalised in steps, the template embedded in every frame. Names are those of published
checkpoints, so that weights are exchanged with the library's network.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attention = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c)), attention


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """keep: share of search tokens that stay."""

    def __init__(self, width: int, heads: int, keep: float) -> None:
        super().__init__()
        self.keep = keep
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, index: Tensor, n_template: int, mask: Tensor) -> tuple[Tensor, Tensor]:
        mixed, attention = self.attn(self.norm1(x))
        x = x + mixed
        count = x.shape[1] - n_template
        keep = math.ceil(self.keep * count)
        if keep < count:
            rows = attention[:, :, :n_template, n_template:]
            rows = rows[mask[:, None, :, None].expand_as(rows)].view(*rows.shape[:2], -1, count)
            _, order = torch.sort(rows.mean(dim=2).mean(dim=1), dim=1, descending=True)
            order = order[:, :keep]
            index = index.gather(1, order)
            template, search = x[:, :n_template], x[:, n_template:]
            search = search.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            x = torch.cat([template, search], dim=1)
        return x + self.mlp(self.norm2(x)), index


class Backbone(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, template: int, search: int, ce: tuple[int, ...]) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 197, width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, (template // 16) ** 2, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, (search // 16) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads, 0.7 if i in ce else 1.0) for i in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def embed(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embed.proj(image)
        return tokens.flatten(2).transpose(1, 2)

    def forward(self, template: Tensor, search: Tensor, mask: Tensor) -> Tensor:
        z, x = self.embed(template) + self.pos_embed_z, self.embed(search) + self.pos_embed_x
        nz, nx = z.shape[1], x.shape[1]
        tokens = torch.cat([z, x], dim=1)
        index = torch.linspace(0, nx - 1, nx).repeat(len(x), 1).to(torch.int64)
        for block in self.blocks:
            tokens, index = block(tokens, index, nz, mask)
        tokens = self.norm(tokens)
        z, x = tokens[:, :nz], tokens[:, nz:]
        if x.shape[1] < nx:
            padded = torch.zeros(len(x), nx, x.shape[2], dtype=x.dtype)
            x = padded.scatter(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]), x)
        return torch.cat([z, x], dim=1)


def conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Head(nn.Module):
    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        widths = [inputs, *(channels // 2**i for i in range(4))]
        for branch, outputs in (("ctr", 1), ("offset", 2), ("size", 2)):
            for i in range(4):
                setattr(self, f"conv{i + 1}_{branch}", conv(widths[i], widths[i + 1]))
            setattr(self, f"conv5_{branch}", nn.Conv2d(widths[4], outputs, 1))

    def branch(self, name: str, x: Tensor) -> Tensor:
        for i in range(1, 6):
            x = getattr(self, f"conv{i}_{name}")(x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score = torch.clamp(self.branch("ctr", x).sigmoid(), 1e-4, 1 - 1e-4)
        size = torch.clamp(self.branch("size", x).sigmoid(), 1e-4, 1 - 1e-4)
        return score, size, self.branch("offset", x)


def decode(score: Tensor, size: Tensor, offset: Tensor) -> Tensor:
    """Boxes [B, 4] cx, cy, w, h in 0..1 at the best cell."""
    grid = score.shape[-1]
    _, best = torch.max(score.flatten(1), dim=1, keepdim=True)
    y, x = torch.div(best, grid, rounding_mode="floor"), best % grid
    cells = best.unsqueeze(1).expand(-1, 2, 1)
    wh, xy = size.flatten(2).gather(2, cells).squeeze(-1), offset.flatten(2).gather(2, cells).squeeze(-1)
    return torch.cat([(x + xy[:, :1]).float() / grid, (y + xy[:, 1:]).float() / grid, wh], dim=1)


class PlainOSTrack(nn.Module):
    def __init__(
        self, template: int, search: int, ce: tuple[int, ...] = (), width: int = 768, depth: int = 12, heads: int = 12
    ) -> None:
        super().__init__()
        self.backbone = Backbone(width, depth, heads, template, search, ce)
        self.box_head = Head(width, 256)
        self.grid = search // 16

    def forward(self, template: Tensor, search: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokens = self.backbone(template, search, mask)
        x = tokens[:, -(self.grid**2) :].unsqueeze(-1).permute(0, 3, 2, 1).contiguous()
        score, size, offset = self.box_head(x.view(len(x), -1, self.grid, self.grid))
        return decode(score, size, offset), score, size, offset


def crop(image: NDArray[np.uint8], box: list[float], factor: float, size: int) -> tuple[NDArray[np.uint8], float]:
    """The square round a box, padded and resized, and its resize factor; the padding's mask is made on the way."""
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    x1, y1 = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
    height, width = image.shape[:2]
    left, top = max(0, -x1), max(0, -y1)
    right, bottom = max(x1 + side - width + 1, 0), max(y1 + side - height + 1, 0)
    seen = image[y1 + top : y1 + side - bottom, x1 + left : x1 + side - right]
    padded = cv2.copyMakeBorder(seen, top, bottom, left, right, cv2.BORDER_CONSTANT)
    mask = np.ones(padded.shape[:2])
    mask[top : len(mask) - bottom or None, left : mask.shape[1] - right or None] = 0
    cv2.resize(mask, (size, size)).astype(bool)
    return cv2.resize(padded, (size, size)).astype(np.uint8), size / side


class PlainTracker:
    """One sequence at a time, its state in attributes."""

    def __init__(self, network: PlainOSTrack, template: int, search: int, factor: float) -> None:
        self.network = network.eval()
        self.sizes, self.factor = (template, search), factor
        one = torch.hann_window(search // 16 + 2, periodic=False)[1:-1]
        self.window = (one[:, None] * one[None]).unsqueeze(0).unsqueeze(0)
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))

    def normalised(self, picture: NDArray[np.uint8]) -> Tensor:
        x = torch.tensor(picture).float().permute(2, 0, 1).unsqueeze(0)
        return (x / 255.0 - self.mean) / self.std

    @torch.no_grad()
    def init(self, image: NDArray[np.uint8], box: list[float]) -> None:
        self.box = box
        self.template = self.normalised(crop(image, box, 2.0, self.sizes[0])[0])
        grid = self.sizes[0] // 16
        self.mask = torch.zeros(1, grid, grid, dtype=torch.bool)
        middle = 3 if grid == 8 else grid // 2
        self.mask[:, middle, middle] = True
        self.mask = self.mask.flatten(1)

    @torch.no_grad()
    def track(self, image: NDArray[np.uint8]) -> list[float]:
        picture, resize = crop(image, self.box, self.factor, self.sizes[1])
        _, score, size, offset = self.network(self.template, self.normalised(picture), self.mask)
        found = decode(self.window * score, size, offset)
        cx, cy, w, h = (found.mean(dim=0) * self.sizes[1] / resize).tolist()
        half = 0.5 * self.sizes[1] / resize
        cx += self.box[0] + 0.5 * self.box[2] - half
        cy += self.box[1] + 0.5 * self.box[3] - half
        height, width = image.shape[:2]
        x1, y1 = min(max(0.0, cx - w / 2), width - 10), min(max(0.0, cy - h / 2), height - 10)
        x2, y2 = min(max(10.0, cx + w / 2), width), min(max(10.0, cy + h / 2), height)
        self.box = [x1, y1, max(10.0, x2 - x1), max(10.0, y2 - y1)]
        return self.box
