"""SDSTrack written plainly, for comparison: what a first implementation from the paper looks like.

Every stream and every pass goes through the blocks on its own, fusion is one attention over both token lists with the
pairs of one modality masked, every attention map is kept, adapters are apart, template pictures are embedded in
every frame. Names are those of published checkpoints, so that weights are exchanged with the library's network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from plain_ostrack import Head, Mlp, decode
from torch import Tensor, nn

FUSION = (3, 6, 9, 11)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, forbidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q @ k.transpose(-2, -1)) * self.scale
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, float("-inf"))
        attention = scores.softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c)), attention


class Adapter(nn.Module):
    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.D_fc1 = nn.Linear(width, width // 4)
        self.act = nn.GELU()
        self.D_fc2 = nn.Linear(width // 4, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.D_fc2(self.act(self.D_fc1(x)))
        return x + y if self.skip else y


class Block(nn.Module):
    def __init__(self, width: int, heads: int, eliminates: bool) -> None:
        super().__init__()
        self.eliminates = eliminates
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        for name, skip in (
            ("MLP_X_DTE", False),
            ("Space_X_DTE", True),
            ("MLP_X_X_DTE", False),
            ("Space_X_X_DTE", True),
        ):
            self.add_module(f"{name}_Adapter", Adapter(width, skip))

    def stream(self, x: Tensor, index: Tensor, mask: Tensor, rate: float, adapted: bool) -> tuple[Tensor, Tensor]:
        mixed, attention = self.attn(self.norm1(x))
        x = x + (self.get_submodule("Space_X_DTE_Adapter")(mixed) if adapted else mixed)
        n = mask.shape[1]
        keep = math.ceil(rate * (x.shape[1] - n))
        if self.eliminates and keep < x.shape[1] - n:
            x, index = eliminate(x, attention, index, mask, keep)
        y = self.norm2(x)
        if adapted:
            return x + self.mlp(y) + 0.5 * self.get_submodule("MLP_X_DTE_Adapter")(y), index
        return x + self.mlp(y), index

    def fusion(self, rgb: Tensor, aux: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = rgb.shape[1]
        x = torch.cat([rgb, aux], dim=1)
        forbidden = torch.zeros(2 * n, 2 * n, dtype=torch.bool)
        forbidden[:n, :n] = True
        forbidden[n:, n:] = True
        mixed, _ = self.attn(self.norm1(x), forbidden)
        x = x + self.get_submodule("Space_X_X_DTE_Adapter")(mixed)
        y = self.norm2(x)
        x = x + self.mlp(y) + 0.5 * self.get_submodule("MLP_X_X_DTE_Adapter")(y)
        return x[:, :n], x[:, n:], x


def eliminate(x: Tensor, attention: Tensor, index: Tensor, mask: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    n = mask.shape[1]
    count = x.shape[1] - n
    rows = attention[:, :, :n, n:]
    rows = rows[mask[:, None, :, None].expand_as(rows)].view(*rows.shape[:2], -1, count)
    _, order = torch.sort(rows.mean(dim=2).mean(dim=1), dim=1, descending=True)
    order = order[:, :keep]
    search = x[:, n:].gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    return torch.cat([x[:, :n], search], dim=1), index.gather(1, order)


@dataclass
class Pass:
    """score, size, offset maps, boxes, and the fusions' outputs of one pass."""

    boxes: Tensor
    score: Tensor
    size: Tensor
    offset: Tensor
    fused: list[Tensor]


class Backbone(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, template: int, search: int, ce: tuple[int, ...]) -> None:
        super().__init__()
        for name in ("patch_embed", "patch_embed_multimodal"):
            stem = nn.Module()
            stem.proj = nn.Conv2d(3, width, 16, 16)
            self.add_module(name, stem)
        nz, nx = (template // 16) ** 2, (search // 16) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 197, width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, nz, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, nx, width))
        self.pos_embed_z_z_dte = nn.Parameter(torch.zeros(1, 2 * nz, width))
        self.pos_embed_x_x_dte = nn.Parameter(torch.zeros(1, 2 * nx, width))
        self.blocks = nn.ModuleList(Block(width, heads, i in ce) for i in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def embed(self, pictures: Tensor) -> list[Tensor]:
        stems = (self.patch_embed, self.patch_embed_multimodal)
        parts = (pictures[:, :3], pictures[:, 3:])
        return [s.proj(p).flatten(2).transpose(1, 2) for s, p in zip(stems, parts, strict=True)]

    def encode(self, z: list[Tensor], x: list[Tensor], mask: Tensor, rate: float) -> tuple[Tensor, list[Tensor]]:
        nx = x[0].shape[1]
        streams = [torch.cat([a + self.pos_embed_z, b + self.pos_embed_x], dim=1) for a, b in zip(z, x, strict=True)]
        index = [torch.linspace(0, nx - 1, nx).repeat(len(z[0]), 1).to(torch.int64) for _ in streams]
        fused = []
        for i, block in enumerate(self.blocks):
            for s in (0, 1):
                streams[s], index[s] = block.stream(streams[s], index[s], mask, rate, s == 1)
            if i in FUSION:
                streams[0], streams[1], both = block.fusion(streams[0], streams[1])
                fused.append(both)
        full = [restored(s, i, mask.shape[1], nx) for s, i in zip(streams, index, strict=True)]
        return self.norm((full[0] + full[1]) / 2), fused


def restored(x: Tensor, index: Tensor, n: int, length: int) -> Tensor:
    padded = torch.zeros(len(x), length, x.shape[2], dtype=x.dtype)
    search = padded.scatter(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]), x[:, n:])
    return torch.cat([x[:, :n], search], dim=1)


class PlainSDSTrack(nn.Module):
    def __init__(
        self,
        template: int = 128,
        search: int = 256,
        ce: tuple[int, ...] = (3, 6, 9),
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(width, depth, heads, template, search, ce)
        self.box_head = Head(width, 256)
        self.grid = search // 16

    def head(self, tokens: Tensor, fused: list[Tensor]) -> Pass:
        x = tokens[:, -(self.grid**2) :].unsqueeze(-1).permute(0, 3, 2, 1).contiguous()
        score, size, offset = self.box_head(x.view(len(x), -1, self.grid, self.grid))
        return Pass(decode(score, size, offset), score, size, offset, fused)

    def forward(
        self, template: Tensor, search: Tensor, mask: Tensor, rate: float = 0.7, hidden: list[Tensor] | None = None
    ) -> list[Pass]:
        """hidden: [B, Nz] and [B, Nx] of RGB, then of X, for the second, masked pass."""
        z, x = self.backbone.embed(template), self.backbone.embed(search)
        passes = [(z, x)]
        if hidden is not None:
            masked_z = [t * (~h).unsqueeze(-1) for t, h in zip(z, hidden[::2], strict=True)]
            masked_x = [t * (~h).unsqueeze(-1) for t, h in zip(x, hidden[1::2], strict=True)]
            passes.append((masked_z, masked_x))
        return [self.head(*self.backbone.encode(a, b, mask, rate)) for a, b in passes]
