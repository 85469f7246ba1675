"""Enhancement and fusion of feature levels in SiamAttn (Yu et al., Deformable Siamese Attention Networks, CVPR 2020).

Attention over places and over channels enhances template and search region, each of which also applies the other's
attention over channels (sec. 3.2). Correlated levels become the features of boxes, the search region's levels those of
masks (sec. 3.3). Module names are those of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.heads.correlation import DepthwiseHead, correlate, fused_sides
from lib.models.layers.conv_norm import ConvModule, folded
from lib.models.layers.deformable import DeformConv, FusedDeformConvs
from lib.models.layers.fused import Convolution, FuseOptions, fuse_module, fused_form_of
from lib.models.layers.numeric import at_least_float32, without_autocast

QUERY_SHARE = 8
"""Channels of a map per channel of a query."""


@without_autocast
def channel_attention(maps: Tensor) -> Tensor:
    """Attention of channels to those that are least like them.

    Args:
        maps: [..., C, N].

    Returns:
        [..., C, C] softmax of (largest entry of the row - entry) of the Gram matrix.
    """
    exact = at_least_float32(maps)
    gram = exact @ exact.transpose(-2, -1)
    return (gram.amax(dim=-1, keepdim=True) - gram).softmax(dim=-1).to(maps)


class PositionAttention(nn.Module):
    """x + gamma * softmax(Q K) V over all places of a map, not scaled; gamma begins with 0 (DANet, CVPR 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // QUERY_SHARE)
        self.query_conv, self.key_conv = nn.Conv2d(width, inner, 1), nn.Conv2d(width, inner, 1)
        self.value_conv = nn.Conv2d(width, width, 1)
        for layer in (self.query_conv, self.key_conv, self.value_conv):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(cast("Tensor", layer.bias))
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, width, H, W] -> [B, width, H, W]."""
        q, k, v = (conv(x).flatten(2).transpose(1, 2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self.gamma * attended.transpose(1, 2).view_as(x) + x


class ChannelScale(nn.Module):
    """The weight of the attention over channels, which begins with 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, attended: Tensor) -> Tensor:
        """attended of any shape -> gamma * attended."""
        return self.gamma * attended


class FeatureEnhance(nn.Module):
    """Self- and cross-attention of template and search region on each level, then a deformable convolution.

    What depends on the template alone is computed once per target, as `encode_template`.

    Args:
        levels: Their number.
        width: Channels of each.
    """

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.pams = nn.ModuleList(PositionAttention(width) for _ in range(levels))
        self.cam_uses = nn.ModuleList(ChannelScale() for _ in range(levels))
        self.deform_convs = nn.ModuleList(DeformConv(width) for _ in range(levels))

    def encode_template(self, template: Sequence[Tensor]) -> Tensor:
        """Once per target.

        Args:
            template: L levels [B, C, h, h].

        Returns:
            [B, L, C, 2 h h + C]: the level, what attention within it makes of it, its attention over channels.
        """
        packed = []
        for level, pam, use in zip(template, self.pams, self.cam_uses, strict=True):
            flat = level.flatten(2)
            attention = channel_attention(flat)
            within = pam(level).flatten(2) + use(attention @ flat) + flat
            packed.append(torch.cat([flat, within, attention], dim=2))
        return torch.stack(packed, dim=1)

    def forward(self, template: Tensor, search: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Once per frame.

        Args:
            template: [B, L, C, 2 h h + C], from `encode_template`.
            search: L levels [B, C, H, H].

        Returns:
            Enhanced levels of both, of their shapes.
        """
        places = (template.shape[-1] - self.width) // 2
        both: tuple[list[Tensor], list[Tensor]] = ([], [])
        layers = zip(template.unbind(dim=1), search, self.pams, self.cam_uses, self.deform_convs, strict=True)
        for packed, level, pam, use, conv in layers:
            z_flat, within, attention = packed.split([places, places, self.width], dim=2)
            x_flat = level.flatten(2)
            other = channel_attention(x_flat)
            z = within + use(other @ z_flat) + z_flat
            x = pam(level) + (use((other + attention) @ x_flat) + 2 * x_flat).view_as(level)
            both[0].append(conv(z.unflatten(2, (isqrt(places), -1))))
            both[1].append(conv(x))
        return both


@fused_form_of(FeatureEnhance, portable=True)
class FusedFeatureEnhance(nn.Module):
    """A `FeatureEnhance` for inference: all levels in one operation, the weights of attention in its products.

    A packed template holds its sums with itself, and its attention times the weight of the latter.
    """

    def __init__(self, enhance: FeatureEnhance, options: FuseOptions) -> None:
        super().__init__()
        self.width, self.inner = enhance.width, max(1, enhance.width // QUERY_SHARE)
        pams = [cast("PositionAttention", pam) for pam in enhance.pams]
        layers = [((p.query_conv, 1.0), (p.key_conv, 1.0), (p.value_conv, p.gamma)) for p in pams]
        weight = torch.stack([torch.cat([share * c.weight.flatten(1) for c, share in level]) for level in layers])
        bias = torch.stack([torch.cat([share * cast("Tensor", c.bias) for c, share in level]) for level in layers])
        scale = torch.stack([use.get_parameter("gamma") for use in enhance.cam_uses])
        self.weight, self.bias, self.scale = (
            nn.Parameter(value.detach().to(options.dtype), requires_grad=False)
            for value in (weight, bias[..., None], scale[..., None])
        )
        self.deform = FusedDeformConvs([cast("DeformConv", layer) for layer in enhance.deform_convs], options)
        self.eval()

    def encode_template(self, template: Sequence[Tensor]) -> Tensor:
        """As `FeatureEnhance.encode_template`; what the attention makes of the level includes it once more."""
        flat = torch.stack(list(template), dim=1).flatten(3)
        attention = self.scale * channel_attention(flat)
        within = self._attended(flat, attention @ flat + 3 * flat)
        return torch.cat([flat, within, attention], dim=3)

    def forward(self, template: Tensor, search: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """As `FeatureEnhance.forward`."""
        places = (template.shape[-1] - self.width) // 2
        z_flat, within, attention = template.split([places, places, self.width], dim=3)
        maps = torch.stack(list(search), dim=1)
        x_flat = maps.flatten(3)
        other = self.scale * channel_attention(x_flat)
        z = within + other @ z_flat
        both = (other + attention).flatten(0, 1)
        rows = x_flat.flatten(0, 1)
        x = self._attended(x_flat, torch.baddbmm(rows, both, rows, beta=3).view_as(x_flat))
        shapes = (*z.shape[:3], isqrt(places), isqrt(places)), maps.shape
        levels = [self.deform(y.float().view(shape)).to(y.dtype) for y, shape in zip((z, x), shapes, strict=True)]
        return list(levels[0].unbind(dim=1)), list(levels[1].unbind(dim=1))

    def _attended(self, x: Tensor, total: Tensor) -> Tensor:
        """Attention over places of x, added to a sum, both [B, L, C, N]."""
        parts = (self.weight @ x + self.bias).split([self.inner, self.inner, self.width], dim=2)
        q, k, v = (part.flatten(0, 1) for part in parts)
        attention = (at_least_float32(q).transpose(1, 2) @ at_least_float32(k)).softmax(dim=-1).to(v)
        return torch.baddbmm(total.flatten(0, 1), v, attention.transpose(1, 2)).view_as(x)


class PyramidFusion(nn.Module):
    """Features of boxes from correlated levels, features of masks from all levels of the search region.

    Args:
        inputs: Channels of the search region's maps: stem, first layer, enhanced levels.
        width: Of the features.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        levels = len(inputs) - 2
        self.lateral_convs = nn.ModuleList(ConvModule(channels, width) for channels in inputs)
        self.xcorr = nn.ModuleList(DepthwiseHead(width, width) for _ in range(levels))
        self.convs = nn.ModuleList(ConvModule(width, width) for _ in range(levels))

    def box_features(self, template: Sequence[Tensor], search: Sequence[Tensor]) -> Tensor:
        """Features in which boxes are refined.

        Args:
            template, search: Enhanced levels [B, width, h, h] and [B, width, H, H].

        Returns:
            [B, width, H - h + 1, H - h + 1].
        """
        heads = cast("list[DepthwiseHead]", list(self.xcorr))
        levels = zip(heads, self.convs, template, search, strict=True)
        return torch.stack([conv(head(head.encode_template(z), x)) for head, conv, z, x in levels]).sum(dim=0)

    def mask_features(self, search: Sequence[Tensor]) -> Tensor:
        """Features in which masks are drawn.

        Args:
            search: Maps of the stem, of the first layer, and the enhanced levels.

        Returns:
            [B, width, G, G], of the first layer's size.
        """
        side = search[1].shape[-1]
        total = self.lateral_convs[1](search[1])
        for i in (0, *range(2, len(search))):
            total = total + self._lateral(self.lateral_convs[i], search[i], side)
        return total

    def _lateral(self, block: nn.Module, x: Tensor, side: int) -> Tensor:
        """A level, resized and convolved; in eval mode small maps are convolved first: the same, and cheaper."""

        def resized(maps: Tensor) -> Tensor:
            return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=True)

        if self.training or x.shape[-1] > side:
            return block(resized(x))
        return resized(cast("ConvModule", block).linear(x)).relu()


@fused_form_of(PyramidFusion, portable=True)
class FusedPyramidFusion(PyramidFusion):
    """A `PyramidFusion` for inference: all levels are correlated in one operation.

    The last layer of a correlated level and the convolution behind it, nothing in between, are one.
    """

    def __init__(self, fusion: PyramidFusion, options: FuseOptions) -> None:
        nn.Module.__init__(self)
        self.lateral_convs = nn.ModuleList(fuse_module(block, options) for block in fusion.lateral_convs)
        heads = [cast("DepthwiseHead", head) for head in fusion.xcorr]
        self.templates, self.searches = fused_sides([[head] for head in heads], options)
        firsts = [folded(*list(head.head)[:2]) for head in heads]
        lasts = []
        for head, block in zip(heads, fusion.convs, strict=True):
            weight, bias = folded(*block.children())
            before = cast("nn.Conv2d", head.head[3])
            product = (weight.flatten(1) @ before.weight.flatten(1))[..., None, None]
            lasts.append((product, bias + weight.flatten(1) @ cast("Tensor", before.bias)))
        self.first, self.last = (
            Convolution(torch.cat(weights), torch.cat(biases), options, relu=True, groups=len(heads))
            for weights, biases in (zip(*firsts, strict=True), zip(*lasts, strict=True))
        )
        self.eval()

    def box_features(self, template: Sequence[Tensor], search: Sequence[Tensor]) -> Tensor:
        kernels = torch.cat([layer(z) for layer, z in zip(self.templates, template, strict=True)], dim=1).contiguous()
        maps = torch.cat([layer(x) for layer, x in zip(self.searches, search, strict=True)], dim=1)
        return self.last(self.first(correlate(maps, kernels))).unflatten(1, (len(self.templates), -1)).sum(dim=1)
