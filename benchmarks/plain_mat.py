"""Masked appearance transfer written plainly, for comparison: what a first implementation from the paper looks like.

Attention with its whole map between two products, shuffled and restored token by token through index tables, both crops
normalised in steps. Names are those of published checkpoints.
"""

from __future__ import annotations

import torch
from plain_ostrack import Attention, Mlp
from torch import Tensor, nn

EPS = 1e-6


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))[0]
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class PlainMAT(nn.Module):
    """ViT-B/16, template 112, search region 224."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 768))
        self.pos_embed = nn.Parameter(torch.zeros(1, 197, 768), requires_grad=False)
        self.z_pos_embed = nn.Parameter(torch.zeros(1, 49, 768), requires_grad=False)
        self.patch_embed, self.z_patch_embed = Patches(768), Patches(768)
        self.blocks = nn.ModuleList(Block(768, 12) for _ in range(12))
        self.norm = nn.LayerNorm(768, eps=EPS)
        self.decoder_embed = nn.Linear(768, 512)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 512))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, 197, 512), requires_grad=False)
        self.z_decoder_pos_embed = nn.Parameter(torch.zeros(1, 50, 512), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(Block(512, 16) for _ in range(8))
        self.decoder_norm = nn.LayerNorm(512, eps=EPS)
        self.decoder_pred = nn.Linear(512, 768)

    def mask(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, c = x.shape
        kept = int(n * 0.75)
        shuffle = torch.argsort(noise, dim=1)
        restore = torch.argsort(shuffle, dim=1)
        visible = torch.gather(x, 1, shuffle[:, :kept].unsqueeze(-1).repeat(1, 1, c))
        mask = torch.ones(b, n, device=x.device)
        mask[:, :kept] = 0
        return visible, torch.gather(mask, 1, restore), restore

    def decode(self, x: Tensor, restore: Tensor, positions: Tensor) -> Tensor:
        x = self.decoder_embed(x)
        missing = self.mask_token.repeat(x.shape[0], restore.shape[1] + 1 - x.shape[1], 1)
        tokens = torch.cat([x[:, 1:], missing], dim=1)
        tokens = torch.gather(tokens, 1, restore.unsqueeze(-1).repeat(1, 1, x.shape[2]))
        x = torch.cat([x[:, :1], tokens], dim=1) + positions
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def loss(self, picture: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        g = picture.shape[2] // 16
        target = torch.einsum("nchpwq->nhwpqc", picture.reshape(-1, 3, g, 16, g, 16)).reshape(-1, g * g, 768)
        return (((predicted - target) ** 2).mean(dim=-1) * mask).sum() / mask.sum()

    def forward(self, template: Tensor, wanted: Tensor, search: Tensor, noise: tuple[Tensor, Tensor]) -> Tensor:
        x = self.patch_embed(search) + self.pos_embed[:, 1:]
        z = self.z_patch_embed(template) + self.z_pos_embed
        x, mask_x, restore_x = self.mask(x, noise[0])
        z, mask_z, restore_z = self.mask(z, noise[1])
        token = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([token, z, x], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        n = 1 + z.shape[1]
        predicted_z = self.decode(tokens[:, :n], restore_z, self.z_decoder_pos_embed)
        predicted_x = self.decode(torch.cat([tokens[:, :1], tokens[:, n:]], 1), restore_x, self.decoder_pos_embed)
        return self.loss(wanted, predicted_z, mask_z) + self.loss(search, predicted_x, mask_x)
