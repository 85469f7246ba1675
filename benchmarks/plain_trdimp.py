"""TrDiMP written plainly, for comparison: what a first implementation from the papers looks like.

Batch norm apart, attention with softmax and an affinity for each of its uses, labels repeated over the channels, a
memory that is encoded as a whole, images of the first frame one by one, and boxes that climb by recorded graphs. One
sequence at a time. Names are those of published checkpoints, so that weights are exchanged with the library's network.
"""

from __future__ import annotations

import torch
from plain_transt import Bottleneck
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, SIZE, TEMPERATURE = 512, 4, 30
SCALE = (WIDTH * SIZE**2) ** -0.5


def normed(x: Tensor) -> Tensor:
    """Instance normalisation of maps [n, C, h, w]."""
    return x * SCALE * (x[0].numel() / ((x * x).sum(dim=(1, 2, 3), keepdim=True) + 1e-5)).sqrt()


def pooled(features: Tensor, boxes_xyxy: Tensor, size: int, stride: int) -> Tensor:
    """Precise RoI pooling of [1, C, H, W] at boxes [R, 4] -> [R, C, size, size]."""

    def rows(low: Tensor, high: Tensor, cells: int) -> Tensor:
        edges = low[:, None] + torch.arange(size + 1) / size * (high - low)[:, None]
        t = (edges[..., None] - torch.arange(cells)).clamp(-1, 1)
        below = torch.where(t < 0, (t + 1) ** 2 / 2, 1 - (1 - t) ** 2 / 2)
        return (below[:, 1:] - below[:, :-1]) / ((high - low) / size)[:, None, None]

    x1, y1, x2, y2 = (boxes_xyxy / stride).unbind(1)
    down, across = rows(y1, y2, features.shape[2]), rows(x1, x2, features.shape[3])
    return torch.einsum("rph,chw,rqw->rcpq", down, features[0], across)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for i, (width, depth, stride) in enumerate(((64, 3, 1), (128, 4, 2), (256, 6, 2)), 1):
            blocks = []
            for j in range(depth):
                blocks.append(Bottleneck(inputs, width, stride if j == 0 else 1, 1))
                inputs = 4 * width
            setattr(self, f"layer{i}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return fine, self.layer3(fine)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.ModuleList([nn.ModuleDict({"WK": nn.Linear(WIDTH, 128)})])

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        k = F.normalize(self.head[0]["WK"](key), dim=-1)
        q = F.normalize(self.head[0]["WK"](query), dim=-1)
        return torch.softmax(TEMPERATURE * q @ k.t(), dim=-1) @ value


def tokens(x: Tensor) -> Tensor:
    """[n, C, h, w] -> [n * h * w, C]."""
    return x.flatten(2).permute(0, 2, 1).reshape(-1, WIDTH)


def maps(x: Tensor, side: int) -> Tensor:
    return x.reshape(-1, side * side, WIDTH).permute(0, 2, 1).reshape(-1, WIDTH, side, side)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.ModuleDict({"self_attn": Attention(), "cross_attn": Attention()})
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList([layer])})

    def encode(self, x: Tensor) -> Tensor:
        t = tokens(x)
        return tokens(normed(maps(t + self.decoder["layers"][0]["self_attn"](t, t, t), x.shape[-1])))

    def decode(self, x: Tensor, memory: Tensor, label: Tensor) -> Tensor:
        """One image [1, C, h, w] against memory [N, C] and label [n, h, w]."""
        own, across = self.decoder["layers"][0]["self_attn"], self.decoder["layers"][0]["cross_attn"]
        side, mask = x.shape[-1], label.reshape(-1, 1).repeat(1, WIDTH)
        t = tokens(x)
        x = normed(maps(t + own(t, t, t), side))
        t = tokens(x)
        masked = normed(x * maps(across(t, memory, mask), side))
        moved = normed(x + maps(across(t, memory, memory * mask), side))
        return normed(masked + moved)


class Initializer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter_conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor, boxes_xyxy: Tensor) -> Tensor:
        x = self.filter_conv(x)
        return torch.cat([pooled(x[i : i + 1], boxes_xyxy[i : i + 1], SIZE, 16) for i in range(len(x))]).mean(0)[None]


class Optimizer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_step_length, self.filter_reg = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.label_map_predictor = nn.Conv2d(100, 1, 1, bias=False)
        self.target_mask_predictor = nn.Sequential(nn.Conv2d(100, 1, 1, bias=False), nn.Sigmoid())
        self.spatial_weight_predictor = nn.Conv2d(100, 1, 1, bias=False)

    def forward(self, w: Tensor, x: Tensor, boxes_xywh: Tensor, weights: Tensor, iterations: int) -> Tensor:
        side = x.shape[-1] + 1
        centre = (boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2) / 16
        cells = torch.arange(side)
        dy, dx = cells - centre[:, 1:], cells - centre[:, :1]
        distance = (dy[:, :, None] ** 2 + dx[:, None] ** 2).sqrt()[:, None] / 0.1 - torch.arange(100)[:, None, None]
        bins = torch.cat([F.relu(1 - distance[:, :-1].abs()), (1 + distance[:, -1:]).clamp(0, 1)], dim=1)
        y, m = self.label_map_predictor(bins), self.target_mask_predictor(bins)
        v = weights.sqrt()[:, None, None, None] * self.spatial_weight_predictor(bins)
        reg = (self.filter_reg**2).clamp(min=1e-6)
        for _ in range(iterations):
            s = F.conv2d(x, w, padding=2)
            q = (1 - m) / 2 * s.sign() + (1 + m) / 2
            r = v * ((1 - m) / 2 * s.abs() + (1 + m) / 2 * s - y)
            # Each image's channels with its own map: groups, as in the official code.
            grouped = F.conv2d(
                x.reshape(1, -1, *x.shape[2:]),
                (q * v * r).repeat_interleave(WIDTH, 0),
                padding=2,
                groups=len(x) * WIDTH,
            )
            g = grouped.reshape(len(x), WIDTH, SIZE, SIZE).sum(0, keepdim=True) + reg * w
            h = v * q * F.conv2d(x, g, padding=2)
            alpha = (g * g).sum() / ((h * h).sum() + reg * (g * g).sum()).clamp(min=1e-8)
            w = w - self.log_step_length.exp() * alpha * g
        return w


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential(nn.Conv2d(1024, WIDTH, 3, padding=1, bias=False))
        self.transformer = Transformer()
        self.filter_initializer = Initializer()
        self.filter_optimizer = Optimizer()


def block(inputs: int, outputs: int, size: int = 3, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU())


class LinearBlock(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(inputs, 256), nn.BatchNorm1d(256)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.linear(x.flatten(1))))


class IoUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv3_1r, self.conv4_1r, self.fc3_1r = block(512, 128), block(1024, 256), block(128, 256, 3, 0)
        self.fc34_3r, self.fc34_4r = block(512, 256, 1, 0), block(512, 256, 1, 0)
        self.conv3_1t, self.conv3_2t = block(512, 256), block(256, 256)
        self.conv4_1t, self.conv4_2t = block(1024, 256), block(256, 256)
        self.fc3_rt, self.fc4_rt = LinearBlock(256 * 25), LinearBlock(256 * 9)
        self.iou_predictor = nn.Linear(512, 1)

    def modulation(self, fine: Tensor, coarse: Tensor, box_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        both = self.fc3_1r(pooled(self.conv3_1r(fine), box_xyxy, 3, 8)), pooled(self.conv4_1r(coarse), box_xyxy, 1, 16)
        joined = torch.cat(both, dim=1)
        return self.fc34_3r(joined), self.fc34_4r(joined)

    def features(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv3_2t(self.conv3_1t(fine)), self.conv4_2t(self.conv4_1t(coarse))

    def scores(self, modulation: tuple[Tensor, Tensor], features: tuple[Tensor, Tensor], boxes_xyxy: Tensor) -> Tensor:
        c3, c4 = (f * m for f, m in zip(features, modulation, strict=True))
        found = self.fc3_rt(pooled(c3, boxes_xyxy, 5, 8)), self.fc4_rt(pooled(c4, boxes_xyxy, 3, 16))
        return self.iou_predictor(torch.cat(found, dim=1))

    @torch.enable_grad()
    def refine(
        self,
        modulation: tuple[Tensor, Tensor],
        features: tuple[Tensor, Tensor],
        boxes_xywh: Tensor,
        steps: int,
        step: float,
    ) -> Tensor:
        norm, boxes = boxes_xywh[:1, 2:], boxes_xywh
        relative = torch.cat([(boxes[:, :2] + boxes[:, 2:] / 2) / norm, boxes[:, 2:].log()], dim=1)
        for _ in range(steps):
            relative = relative.detach().requires_grad_()
            size = relative[:, 2:].exp()
            low = relative[:, :2] * norm - size / 2
            scores = self.scores(modulation, features, torch.cat([low, low + size], dim=1))
            scores.sum().backward()
            relative = relative + step * relative.grad
        size = relative[:, 2:].exp()
        return torch.cat([relative[:, :2] * norm - size / 2, size], dim=1).detach()


class PlainTrDiMP(nn.Module):
    """For one sequence at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor, self.classifier, self.bb_regressor = Body(), Classifier(), IoUNet()

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Backbone and classification features of [n, 3, H, W]."""
        fine, coarse = self.feature_extractor(images)
        return fine, coarse, normed(self.classifier.feature_extractor(coarse))
