"""GDSTrack written plainly, for comparison: what a first implementation from the paper looks like.

Streams one after the other, all tokens of all blocks, attention as two products with its whole map between, the
adjacency as numbers, the template embedded in every frame, both search frames encoded in both stages, heads apart,
the noise level embedded at every place. Graph attention is a sum already. Weights are the library's network's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.methods.gdstrack import GDSTrack
from lib.models.fusion import Conditions, DiffusionDraws


class PlainGDSTrack(nn.Module):
    """Reads the weights of `net`."""

    def __init__(self, net: GDSTrack) -> None:
        super().__init__()
        self.net = net

    def block(self, block: Any, x: Tensor) -> Tensor:
        b, n, c = x.shape
        heads = block.attn.heads
        qkv = block.attn.qkv(block.norm1(x)).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        attention = ((qkv[0] @ qkv[1].transpose(-2, -1)) * (c // heads) ** -0.5).softmax(dim=-1)
        x = x + block.attn.proj((attention @ qkv[2]).transpose(1, 2).reshape(b, n, c))
        return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))

    def stream(self, template: Tensor, search: Tensor, end: str) -> Tensor:
        part: Any = self.net.backbone
        z = part.get_submodule(f"z_patch_embed{end}")(template) + getattr(part, f"z_pos_embed{end}")
        positions = getattr(part, f"pos_embed{end}")
        x = part.get_submodule(f"patch_embed{end}")(search) + positions[:, 1:]
        token = (getattr(part, f"cls_token{end}") + positions[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([token, z, x], dim=1)
        for block in part.blocks:
            x = self.block(block, x)
        return part.get_submodule(f"norm{end}")(x)[:, 1 + z.shape[1] :]

    def adjacency(self, tokens: Tensor) -> Tensor:
        part: Any = self.net.generate_adjacency
        first, second = part.linear1(tokens), part.linear2(tokens)
        product = first @ second.transpose(1, 2) / first.shape[2] ** 0.5
        unit = F.normalize(tokens, dim=2)
        mean = (product + unit @ unit.transpose(1, 2) + 1) / 2
        kept = (mean > part.threshold).float()
        ranking = torch.where(kept == 1, product, float("-inf")).softmax(dim=2) + mean
        order = ranking.topk(part.neighbours, dim=2).indices
        adjacency = torch.zeros_like(ranking).scatter_(2, order, 1.0)
        return (adjacency + adjacency.transpose(1, 2)) / 2

    def attention(self, layer: Any, nodes: Tensor, adjacency: Tensor) -> Tensor:
        values = nodes @ layer.W
        width = values.shape[2]
        scores = F.leaky_relu(values @ layer.a[:width] + (values @ layer.a[width:]).transpose(1, 2), layer.slope)
        scores = torch.where(adjacency > 0, scores, -9e15 * torch.ones_like(scores))
        weights = F.dropout(scores.softmax(dim=2), layer.dropout, self.training)
        return weights @ values

    def as_map(self, tokens: Tensor) -> Tensor:
        grid = self.net.backbone.grid_search
        return tokens.transpose(1, 2).reshape(len(tokens), -1, grid, grid)

    def fuse(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        net: Any = self.net
        visible = self.stream(template[:, :3], search[:, :3], "")
        infrared = self.stream(template[:, 3:], search[:, 3:], "_p")
        tokens = torch.cat([visible, infrared], dim=1)
        adjacency, dropout = self.adjacency(tokens), net.GAT_Branch.dropout
        nodes = F.dropout(tokens, dropout, self.training)
        first = F.elu(self.attention(net.GAT_Branch.attention_0, nodes, adjacency))
        nodes = F.dropout(first, dropout, self.training)
        second = F.elu(self.attention(net.GAT_Branch.out_att, nodes, adjacency))
        n = visible.shape[1]
        fused = second[:, :n] + second[:, n:] + net.projector1(visible + infrared)
        return self.as_map(fused), self.as_map(first[:, :n] + first[:, n:]), visible, infrared

    def locate(self, template: Tensor, search: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """One frame: normalised pictures of both modalities, noise [B, C, g, g] -> box and score."""
        net: Any = self.net
        fused, level, visible, infrared = self.fuse(template, search)
        found = net.head(fused)
        rgb, tir = self.as_map(net.projector2(visible)), self.as_map(net.projector2(infrared))
        noise_level = net.lddiffuse_x.level(999).expand(len(noise))
        embedding = net.lddiffuse_x.unet.embed(noise_level)
        clean = net.lddiffuse_x.unet(torch.cat([noise, rgb, tir], dim=1), rgb, level, embedding)
        other = net.head_diffuse(clean)
        first = found.scores[:, 0] > other.scores[:, 0]
        return torch.where(first[:, None], found.boxes[:, 0], other.boxes[:, 0]), torch.where(
            first, found.scores[:, 0], other.scores[:, 0]
        )

    def forward(self, template: Tensor, search: Tensor, search3: Tensor, stage: int) -> tuple[Any, Tensor]:
        """A training step's box and diffusion loss."""
        net: Any = self.net
        fused, *_ = self.fuse(template, search)
        other, level, visible, infrared = self.fuse(template, search3)
        if stage == 1:
            return net.head(fused), fused.new_zeros(())
        net.head(other)
        conditions = Conditions(self.as_map(net.projector2(visible)), self.as_map(net.projector2(infrared)), level)
        clean, loss = net.lddiffuse_x.learn(other, fused, conditions, DiffusionDraws.draw(other))
        return net.head_diffuse(clean), loss / clean.numel()
