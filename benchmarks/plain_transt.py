"""TransT written plainly, for comparison: what a first implementation from the paper looks like.

PyTorch's multi-head attention with its averaged map, batch norm apart, a position code and a projection of the template
in every frame; only the template's backbone features are kept. Names are those of published checkpoints, so that
weights are exchanged with the library's network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WIDTH, HEADS, HIDDEN, LAYERS = 256, 8, 2048, 4


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = None
        if inputs != 4 * width or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for i, (width, depth, stride, dilation) in enumerate(((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 1, 2)), 1):
            blocks = []
            for j in range(depth):
                blocks.append(Bottleneck(inputs, width, stride if j == 0 else 1, dilation if j == 0 else 1))
                inputs = 4 * width
            setattr(self, f"layer{i}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x)))


def position_code(grid: int) -> Tensor:
    """[N, 1, C] of a grid x grid map."""
    places = torch.arange(1, grid + 1, dtype=torch.float32) / (grid + 1e-6) * 2 * math.pi
    index = torch.arange(WIDTH // 2, dtype=torch.float32)
    angles = places[:, None] / 10000 ** (2 * (index // 2) / (WIDTH // 2))
    line = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)
    y, x = line[:, None].expand(grid, grid, -1), line[None].expand(grid, grid, -1)
    return torch.cat([y, x], dim=2).flatten(0, 1)[:, None]


class EncoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for b in (1, 2):
            setattr(self, f"self_attn{b}", nn.MultiheadAttention(WIDTH, HEADS))
            setattr(self, f"multihead_attn{b}", nn.MultiheadAttention(WIDTH, HEADS))
            setattr(self, f"linear{b}1", nn.Linear(WIDTH, HIDDEN))
            setattr(self, f"linear{b}2", nn.Linear(HIDDEN, WIDTH))
            for i in (1, 2, 3):
                setattr(self, f"norm{b}{i}", nn.LayerNorm(WIDTH))

    def forward(self, z: Tensor, x: Tensor, pz: Tensor, px: Tensor) -> tuple[Tensor, Tensor]:
        z = self.norm11(z + self.self_attn1(z + pz, z + pz, value=z)[0])
        x = self.norm21(x + self.self_attn2(x + px, x + px, value=x)[0])
        dz = self.multihead_attn1(z + pz, x + px, value=x)[0]
        dx = self.multihead_attn2(x + px, z + pz, value=z)[0]
        z, x = self.norm12(z + dz), self.norm22(x + dx)
        z = self.norm13(z + self.linear12(self.linear11(z).relu()))
        x = self.norm23(x + self.linear22(self.linear21(x).relu()))
        return z, x


class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.linear1, self.linear2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, z: Tensor, px: Tensor, pz: Tensor) -> Tensor:
        x = self.norm1(x + self.multihead_attn(x + px, z + pz, value=z)[0])
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class Fusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(EncoderLayer() for _ in range(LAYERS))})
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList([DecoderLayer()]), "norm": nn.LayerNorm(WIDTH)})

    def forward(self, z: Tensor, x: Tensor, pz: Tensor, px: Tensor) -> Tensor:
        for layer in self.encoder["layers"].children():
            z, x = layer(z, x, pz, px)
        for layer in self.decoder["layers"].children():
            x = layer(x, z, px, pz)
        return self.decoder["norm"](x)


class Perceptron(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](self.layers[1](self.layers[0](x).relu()).relu())


class PlainTransT(nn.Module):
    """For pictures of any multiple of 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": Body()})])
        self.input_proj = nn.Conv2d(1024, WIDTH, 1)
        self.featurefusion_network = Fusion()
        self.class_embed, self.bbox_embed = Perceptron(2), Perceptron(4)

    def features(self, picture: Tensor) -> Tensor:
        """The backbone's map, [B, 1024, h, w]."""
        return self.backbone[0]["body"](picture)

    def forward(self, template_features: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, N, 2] and boxes [B, N, 4]."""
        maps = [self.input_proj(m) for m in (template_features, self.features(search))]
        codes = [position_code(m.shape[-1]) for m in maps]
        z, x = (m.flatten(2).permute(2, 0, 1) for m in maps)
        tokens = self.featurefusion_network(z, x, *codes).transpose(0, 1)
        return self.class_embed(tokens), self.bbox_embed(tokens).sigmoid()
