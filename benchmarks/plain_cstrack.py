"""CSTrack written plainly, for comparison: what a first implementation from the paper looks like.

Every picture of both modalities goes through the stem on its own, templates in every frame; attention is two products
with its whole map between, all tokens ask the memory, the relation map is a product of maps. Names are those of
published checkpoints, so that weights are exchanged with the library's network. Stochastic depth is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from plain_ostrack import MEAN, STD, Head, conv, crop, decode
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, GRID = 512, 8, 16
SEARCH_TOKENS, TEMPLATE_TOKENS = 256, 64
PROMPTS, MEMORY, KEPT = 4, 4, 16


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, 3 * width, 1)
        self.act = nn.GELU()
        self.ffn_ln = ChannelNorm(3 * width, eps=1e-6)
        self.fc2 = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.ffn_ln(self.act(self.fc1(x))))


class ConvBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm2 = ChannelNorm(width, eps=1e-6)
        self.mlp = ConvMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, eps=1e-6)
        self.reduction = nn.Conv2d(width, 2 * width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(x))


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: nn.Module) -> Tensor:
    """Attention of HEADS heads over [B, N, C] and [B, M, C]."""
    q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
    attention = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
    return (dropout(attention) @ v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH, bias=False))
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(
            attend(self.q_proj(x) + self.q_bias, self.k_proj(x), self.v_proj(x) + self.v_bias, self.dropout)
        )


class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.ffn_ln = nn.LayerNorm(3 * WIDTH, eps=1e-6)
        self.w3 = nn.Linear(3 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma_1, self.gamma_2 = nn.Parameter(0.1 * torch.ones(WIDTH)), nn.Parameter(0.1 * torch.ones(WIDTH))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = SelfAttention()
        self.mlp = SwiGlu()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x))
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Backbone(nn.Module):
    STEM = 8
    """Number of the blocks that belong to the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 128, 4, 4)
        stem: list[nn.Module] = []
        for width in (128, 256):
            stem += [*(ConvBlock(width) for _ in range(3)), Merge(width)]
        self.blocks = nn.ModuleList([*stem, *(Block() for _ in range(24))])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        tokens = {"cls_token": 1, "pos_embed": 197, "pos_embed_z": 2 * TEMPLATE_TOKENS, "pos_embed_x": SEARCH_TOKENS}
        types = dict.fromkeys(("token_type_search", "token_type_template_fg", "token_type_template_bg"), 1)
        for name, count in (tokens | types).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(1, count, WIDTH)))

    def embed(self, picture: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, (S / 16) ** 2, C]."""
        x = self.patch_embed.proj(picture)
        for block in self.blocks[: self.STEM]:
            x = block(x)
        return x.flatten(2).transpose(1, 2)

    def modality(self, pictures: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Tokens [B, 384, C] of two templates and a search picture."""
        z0, z1, x = (self.embed(picture) for picture in pictures)
        fg, bg = masks[0] * self.token_type_template_fg, (1 - masks[0]) * self.token_type_template_bg
        z0 = z0 + fg + bg
        z1 = z1 + masks[1] * fg + (1 - masks[1]) * bg
        return torch.cat([z0, z1, x + self.token_type_search], dim=1)

    def encode(self, x: Tensor, position: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + position
        for block in self.blocks[self.STEM :]:
            x = block(x)
        return self.norm(x)


class CrossAttention(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        for name in ("q", "k", "v"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH, bias=False))
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.proj(attend(self.q(q), self.k(k), self.v(v), self.dropout))


class Mlp(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.act, self.dropout = nn.GELU(), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.act(self.fc1(x))))


class SpatialLayer(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.cross_attn, self.cross_attn_det = CrossAttention(dropout), CrossAttention(dropout)
        self.MLP, self.MLP_det = Mlp(dropout), Mlp(dropout)
        for name in ("norm2", "norm2_det", "norm3", "norm3_det", "norm_final"):
            setattr(self, name, nn.LayerNorm(WIDTH))
        self.dropout = nn.Dropout(dropout)

    def forward(self, r: Tensor, x: Tensor, position: Tensor) -> Tensor:
        r = self.norm2(r + self.dropout(self.cross_attn(r + position, x + position, x)))
        x = self.norm2_det(x + self.dropout(self.cross_attn_det(x + position, r + position, r)))
        r = self.norm3(r + self.dropout(self.MLP(r)))
        x = self.MLP_det(x)
        x = self.norm3_det(x + self.dropout(x))
        return self.norm_final(torch.cat([r[:, :PROMPTS], x[:, :PROMPTS], r[:, PROMPTS:] + x[:, PROMPTS:]], dim=1))


class TemporalLayer(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(WIDTH, 1024), nn.Linear(1024, WIDTH)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor, memory_position: Tensor) -> Tensor:
        places = memory + memory_position
        memory = self.norm1(memory + self.dropout(self.self_attn(places, places, memory)[0]))
        found = self.multihead_attn(x + position, memory + memory_position, memory)[0]
        x = self.norm2(x + self.dropout(found))
        return self.norm3(x + self.dropout(self.linear2(self.dropout(self.linear1(x).relu()))))


class Layers(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer])


class Confidence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (5, 16, 8, 4, 2)
        for i in range(4):
            setattr(self, f"conv{i + 1}_ctr", conv(widths[i], widths[i + 1]))
        self.conv5_ctr = nn.Conv2d(2, 1, 1)
        self.fc1, self.fc2 = nn.Linear(SEARCH_TOKENS, 512), nn.Linear(512, 1)

    def forward(self, score: Tensor, size: Tensor, offset: Tensor) -> Tensor:
        x = torch.cat([score, size, offset], dim=1)
        for i in range(1, 6):
            x = getattr(self, f"conv{i}_ctr")(x)
        return self.fc2(self.fc1(x.flatten(1)).relu()).sigmoid()


class TaskClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(WIDTH, 256), nn.Linear(256, 256), nn.Linear(256, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.fc1(x).relu())
        return self.fc3(self.dropout(self.fc2(x).relu()))


@dataclass
class Found:
    """Of one frame: boxes [B, 4] cx, cy, w, h in 0..1, maps, confidence [B, 1], task [B, 4].

    Of the second stage: the memory for the next frame, [B, 16, C] each; the map that chose its last entry, and its
    prior, [B, 256].
    """

    boxes: Tensor
    score: Tensor
    size: Tensor
    offset: Tensor
    confidence: Tensor
    task: Tensor
    memory: list[Tensor] = field(default_factory=list)
    relation: Tensor | None = None
    prior: Tensor | None = None


class PlainCSTrack(nn.Module):
    """The published network: search 256, templates 128. temporal: the second stage."""

    def __init__(self, temporal: bool, dropout: float = 0.1) -> None:
        super().__init__()
        self.temporal = temporal
        self.backbone = Backbone()
        self.box_head = Head(WIDTH, 256)
        self.confidence_pred = Confidence()
        self.task_cls = TaskClassifier()
        self.rgb_prompts, self.det_prompts = nn.Embedding(PROMPTS, WIDTH), nn.Embedding(PROMPTS, WIDTH)
        self.cls_prompts_pos = nn.Embedding(1 + 2 * PROMPTS, WIDTH)
        self.backbone_rgb_det_fusion = Layers(SpatialLayer(dropout))
        if temporal:
            self.dy_template_pos_embed = nn.Embedding(MEMORY, WIDTH)
            self.temporal_fusion = Layers(TemporalLayer(dropout))

    def position(self) -> Tensor:
        """[1, 393, C]: class token, prompts, templates, search."""
        first = self.cls_prompts_pos.weight[None]
        return torch.cat([first, self.backbone.pos_embed_z, self.backbone.pos_embed_x], dim=1)

    def encode(self, templates: list[Tensor], search: Tensor, masks: list[Tensor]) -> Tensor:
        """Templates [B, 6, 128, 128], search [B, 6, 256, 256], masks [B, 64, 1] -> [B, 393, C]."""
        pictures, position = [*templates, search], self.position()
        rgb = self.backbone.modality([p[:, :3] for p in pictures], masks)
        aux = self.backbone.modality([p[:, 3:] for p in pictures], masks)
        rgb, aux = (
            torch.cat([prompts.weight.expand(len(t), -1, -1), t], dim=1)
            for prompts, t in ((self.rgb_prompts, rgb), (self.det_prompts, aux))
        )
        mixed = self.backbone_rgb_det_fusion.layers[0](rgb, aux, position[:, 1 + PROMPTS :])
        return self.backbone.encode(mixed, position)

    def head(self, tokens: Tensor, task: Tensor) -> Found:
        x = tokens[:, -SEARCH_TOKENS:].transpose(1, 2).reshape(len(tokens), WIDTH, GRID, GRID)
        score, size, offset = self.box_head(x)
        confidence = self.confidence_pred(score, size, offset)
        return Found(decode(score, size, offset), score, size, offset, confidence, task)

    def frame(self, x: Tensor, task: Tensor, memory: list[Tensor]) -> Found:
        """The second stage on encoded tokens [B, 393, C]; an empty memory begins a clip."""
        search = x[:, -SEARCH_TOKENS:]
        relation = relation_map(search, x[:, :-SEARCH_TOKENS])
        first = not memory
        if first:
            memory = [chosen(search, relation)] * MEMORY
        places = self.dy_template_pos_embed.weight.repeat_interleave(KEPT, dim=0)[None]
        h = self.temporal_fusion.layers[0](x, torch.cat(memory, dim=1), self.position(), places)
        found = self.head(h, task)
        found.prior = gaussian_prior(found.boxes.detach())
        found.relation = relation + found.prior
        entry = chosen(search, found.relation)
        found.memory = [entry] * MEMORY if first else [memory[0], *memory[2:], entry]
        return found

    def forward(
        self, templates: list[Tensor], search: Tensor, masks: list[Tensor], memory: list[Tensor] | None = None
    ) -> Found:
        """One frame; memory: that of the frame before, None or empty for the first one."""
        x = self.encode(templates, search, masks)
        task = self.task_cls(x[:, 0])
        return self.frame(x, task, memory or []) if self.temporal else self.head(x, task)

    def clip(self, templates: list[Tensor], searches: list[Tensor], masks: list[Tensor]) -> list[Found]:
        """All frames of a training batch, encoded at once."""
        n = len(searches)
        repeated = [t.repeat(n, 1, 1, 1) for t in templates]
        x = self.encode(repeated, torch.cat(searches), [m.repeat(n, 1, 1) for m in masks])
        task = self.task_cls(x[:, 0])
        if not self.temporal:
            return [self.head(x, task)]
        found, memory = [], []
        for tokens, classes in zip(x.chunk(n), task.chunk(n), strict=True):
            found.append(self.frame(tokens, classes, memory))
            memory = found[-1].memory
        return found


def relation_map(search: Tensor, others: Tensor) -> Tensor:
    """[B, 256]: how much search tokens differ from the others, 0 to 1 over the batch."""
    a = (((search @ search.transpose(1, 2)) @ search) @ others.transpose(1, 2)).mean(dim=2)
    return (a.max() - a) / (a.max() - a.min())


def chosen(search: Tensor, values: Tensor) -> Tensor:
    """The KEPT tokens of the largest values, in their own order."""
    index = values.topk(KEPT, dim=1).indices.sort(dim=1).values
    return search.gather(1, index[..., None].expand(-1, -1, search.shape[-1]))


def gaussian_prior(boxes: Tensor) -> Tensor:
    """[B, 256] bumps at boxes [B, 4] cx, cy, w, h in 0..1."""
    maps = []
    for cx, cy, w, h in (boxes * GRID).unbind(0):
        cells = torch.arange(GRID, device=boxes.device)
        y, x = torch.meshgrid(cells, cells, indexing="ij")
        maps.append(torch.exp(-0.5 * (((y - cy) / h) ** 2 + ((x - cx) / w) ** 2)).flatten())
    return torch.stack(maps)


def soft_mask(sides: tuple[float, float], resize: float) -> Tensor:
    """[1, 64, 1]: shares of the template's tokens that a target of that width and height covers."""
    w, h = int(sides[0] * resize), int(sides[1] * resize)
    x, y = int(64 - 0.5 * w), int(64 - 0.5 * h)
    pixels = torch.zeros(1, 1, 128, 128)
    pixels[..., y : y + h - 1, x : x + w - 1] = 1
    return F.avg_pool2d(pixels, 16).flatten(1)[..., None]


class PlainCSTracker:
    """One sequence at a time, its state in attributes; pictures are H x W x 6 (or 3, then shown twice)."""

    def __init__(self, network: PlainCSTrack, interval: int = 25, threshold: float = 0.45) -> None:
        self.network = network.eval()
        self.interval, self.threshold = interval, threshold
        one = torch.hann_window(GRID + 2, periodic=False)[1:-1]
        self.window = one[:, None] * one[None]
        self.mean, self.std = (torch.tensor(v * 2).view(1, 6, 1, 1) for v in (MEAN, STD))

    def normalised(self, picture: NDArray[np.uint8]) -> Tensor:
        x = torch.tensor(picture).float().permute(2, 0, 1).unsqueeze(0)
        x = x if x.shape[1] == 6 else torch.cat([x, x], dim=1)
        return (x / 255.0 - self.mean) / self.std

    def cut_template(self, image: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        picture, resize = crop(image, self.box, 2.0, 128)
        return self.normalised(picture), soft_mask((self.box[2], self.box[3]), resize)

    @torch.no_grad()
    def init(self, image: NDArray[np.uint8], box: list[float]) -> None:
        self.box, self.count, self.memory = box, 0, []
        template, mask = self.cut_template(image)
        self.templates, self.masks = [template, template], [mask, mask]

    @torch.no_grad()
    def track(self, image: NDArray[np.uint8]) -> tuple[list[float], float]:
        self.count += 1
        picture, resize = crop(image, self.box, 4.0, 256)
        found = self.network(self.templates, self.normalised(picture), self.masks, self.memory)
        self.memory = found.memory
        response = found.score * self.window
        best = float(response.max())
        box = decode(response, found.size, found.offset)[0]
        self.box = self.placed(image, (box * 256 / resize).tolist(), 256 / resize)
        if self.count % self.interval == 0 and best > self.threshold:
            template, mask = self.cut_template(image)
            self.templates, self.masks = [self.templates[0], template], [self.masks[0], mask]
        return self.box, best

    def placed(self, image: NDArray[np.uint8], box: list[float], side: float) -> list[float]:
        """A box (cx, cy, w, h) of the crop in the image, at least 10 pixels of it inside."""
        cx, cy, w, h = box
        cx += self.box[0] + 0.5 * self.box[2] - 0.5 * side
        cy += self.box[1] + 0.5 * self.box[3] - 0.5 * side
        height, width = image.shape[:2]
        x1, y1 = min(max(0.0, cx - w / 2), width - 10), min(max(0.0, cy - h / 2), height - 10)
        x2, y2 = min(max(10.0, cx + w / 2), width), min(max(10.0, cy + h / 2), height)
        return [x1, y1, max(10.0, x2 - x1), max(10.0, y2 - y1)]
