"""Denoising of a feature map under conditions: the UNet of GDSTrack's diffusion (IJCAI 2025, sec. 3.3; after SR3).

Names of modules are those of published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import Convolution, FuseOptions, Product, fuse_module, with_fused_children
from lib.ranges import Count, CountOrNone, Positive


@dataclass(frozen=True)
class UNetSize:
    """Size of the UNet.

    Attributes:
        multipliers: Factor of the width at each scale; each scale has half the side of the one before.
        res_blocks: Residual blocks per scale on the way down; there is one more on the way up.
        attention_scale: Scale (0 the full size) whose blocks have attention; the block in the middle has, too.
        groups: Of group norms.
    """

    multipliers: tuple[Positive, ...] = (1.0, 1.5, 2.0)
    res_blocks: Count = 3
    attention_scale: CountOrNone = 1
    groups: Count = 32


class NormConvolution(nn.Module):
    """Group norm, x * sigmoid(x), 3 x 3 convolution."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        layers = nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Identity(), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, g, g] -> [B, outputs, g, g]."""
        return self.block(x)


class NoiseTerm(nn.Module):
    """Term per channel, from the noise level, that is added to a map."""

    exact = True
    """See `lib.deploy.record_ranges`: a row per picture gains nothing in 8 bits, which OpenVINO cannot compile here."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(width, outputs))

    def forward(self, embedding: Tensor) -> Tensor:
        """embedding [B, width] -> [B, outputs, 1, 1]."""
        return self.noise_func(embedding)[:, :, None, None]


class MapAttention(nn.Module):
    """Attention of every place of a map to all others, with one head."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, g, g] -> [B, C, g, g]."""
        grid = x.shape[2:]
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(mixed.transpose(1, 2).unflatten(2, grid))


class ResBlock(nn.Module):
    """Two convolutions with the term of the noise level between them, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, width: int, groups: int) -> None:
        super().__init__()
        self.noise_func = NoiseTerm(width, outputs)
        self.block1 = NormConvolution(inputs, outputs, groups)
        self.block2 = NormConvolution(outputs, outputs, groups)
        self.res_conv = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [B, inputs, g, g], embedding [B, width] of the noise level -> [B, outputs, g, g]."""
        hidden = self.block1(x) + self.noise_func(embedding)
        return self.block2(hidden) + self.res_conv(x)


class Stage(nn.Module):
    """A residual block, and attention behind it at one of the scales."""

    def __init__(self, inputs: int, outputs: int, width: int, groups: int, attends: bool) -> None:
        super().__init__()
        self.res_block = ResBlock(inputs, outputs, width, groups)
        self.attn = MapAttention(outputs, groups) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As `ResBlock.forward`."""
        return self.attn(self.res_block(x, embedding))


class Resize(nn.Module):
    """Half or twice the side: a convolution of stride 2, or nearest neighbours and a convolution."""

    def __init__(self, width: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(width, width, 3, stride=1 if up else 2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [B, C, g, g] -> [B, C, g', g']; the noise level has no effect."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)


class NoiseEmbedding(nn.Module):
    """Sines and cosines of the noise level in `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.waves = width // 2

    def forward(self, level: Tensor) -> Tensor:
        """level [B] -> [B, width]."""
        steps = torch.arange(self.waves, dtype=level.dtype, device=level.device) / self.waves
        angles = level[:, None] * torch.exp(-math.log(1e4) * steps)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class DenoisingUNet(nn.Module):
    """Predicts the clean map from a noisy one, the maps of two modalities, and a map of the graph's first level.

    Args:
        size: Its size.
        width: Channels of the map, and of the noise level's embedding.
        level_channels: Channels of the graph's map.

    Raises:
        ValueError: Channels at some scale are no multiple of the norms' groups.
    """

    def __init__(self, size: UNetSize, width: int, level_channels: int) -> None:
        super().__init__()
        widths, groups = [int(width * factor) for factor in size.multipliers], size.groups
        if any(c % groups for c in (width, *widths)):
            found = f"{widths} channels (HIDDEN_DIM {width} times MULTIPLIERS)"
            raise ValueError(f"MODEL.FUSION.UNET: {found} must be multiples of GROUPS {groups}")
        scales = range(len(widths))
        perceptron = nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width)
        self.noise_level_mlp = nn.Sequential(NoiseEmbedding(width), *perceptron)
        self.noise_level_mlp.exact = True  # type: ignore[assignment]
        downs: list[nn.Module] = [nn.Conv2d(3 * width, width, 3, padding=1)]
        skips, now = [width], width
        for scale in scales:
            for _ in range(size.res_blocks):
                downs.append(Stage(now, widths[scale], width, groups, scale == size.attention_scale))
                now = widths[scale]
                skips.append(now)
            if scale != scales[-1]:
                downs.append(Resize(now, up=False))
                skips.append(now)
        self.downs = nn.ModuleList(downs)
        self.mid = nn.ModuleList(Stage(now, now, width, groups, attends) for attends in (True, False))
        ups: list[nn.Module] = []
        for scale in reversed(scales):
            for _ in range(size.res_blocks + 1):
                inputs = now + skips.pop()
                ups.append(Stage(inputs, widths[scale], width, groups, scale == size.attention_scale))
                now = widths[scale]
            if scale:
                ups.append(Resize(now, up=True))
        self.ups = nn.ModuleList(ups)
        self.final_conv: Any = NormConvolution(now, width, groups)
        self.final_conv2: Any = NormConvolution(width, width, groups)
        self.norm: nn.Module = nn.GroupNorm(groups, width)
        reduction = 2 ** scales[-1]
        self.conv_GAT: nn.Module = nn.Conv2d(level_channels, level_channels, reduction, stride=reduction)
        self.conv_11: nn.Module = nn.Conv2d(widths[-1] + level_channels, widths[-1], 1)
        self.norm1: nn.Module = nn.GroupNorm(groups, widths[-1])

    def embed(self, level: Tensor) -> Tensor:
        """Embedding of noise levels.

        Args:
            level: [B], 0..1.

        Returns:
            [B, width].
        """
        return self.noise_level_mlp(level)

    def forward(self, maps: Tensor, visible: Tensor, graph: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Denoise.

        Args:
            maps: [B, 3 * width, g, g]: the noisy fused map, then the maps of the visible and the infrared stream.
            visible: [B, width, g, g], the map of the visible stream.
            graph: [B, level_channels, g, g], map of the graph's first level.
            embedding: [B, width] or [1, width], from `embed`.

        Returns:
            [B, width, g, g], the clean fused map.
        """
        x = self.downs[0](maps)
        skips = [x]
        for layer in self.downs[1:]:
            x = layer(x, embedding)
            skips.append(x)
        for layer in self.mid:
            x = layer(x, embedding)
        x = self.norm1(self.with_graph(x, self.conv_GAT(graph)))
        for layer in self.ups:
            x = layer(x if isinstance(layer, Resize) else torch.cat([x, skips.pop()], dim=1), embedding)
        return self.norm(self.final_conv2(self.with_visible(x, visible)))

    def with_graph(self, x: Tensor, graph: Tensor) -> Tensor:
        """The map x [B, C, g, g], plus what a product makes of it and the graph's [B, level_channels, g, g]."""
        return x + self.conv_11(torch.cat([x, graph], dim=1))

    def with_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        """What the last but one convolution makes of the map, plus the map of the visible stream."""
        return self.final_conv(x) + visible


class FusedConvolution(nn.Module):
    """A `NormConvolution` for inference. constant: [outputs], added everywhere."""

    def __init__(self, layer: NormConvolution, options: FuseOptions, constant: Tensor | None = None) -> None:
        super().__init__()
        weight, bias = (layer.block[3].get_parameter(name) for name in ("weight", "bias"))
        self.norm = fuse_module(layer.block[0], options)
        self.convolution = Convolution(weight, bias if constant is None else bias + constant, options)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """x [B, inputs, g, g] -> [B, outputs, g, g], plus a shortcut of that shape."""
        return self.convolution(F.silu(self.norm(x), inplace=True), shortcut)


class FusedStage(nn.Module):
    """A `Stage` for one noise level, which is part of a bias; shortcuts belong to convolutions."""

    def __init__(self, stage: Stage, options: FuseOptions, embedding: Tensor) -> None:
        super().__init__()
        block = stage.res_block
        self.first = FusedConvolution(block.block1, options, block.noise_func(embedding).flatten())
        self.second = FusedConvolution(block.block2, options)
        shortcut = block.res_conv
        self.shortcut: Convolution | None = None
        if isinstance(shortcut, nn.Conv2d):
            self.shortcut = Convolution(shortcut.weight, shortcut.bias, options)
        self.norm: nn.Module | None = None
        if isinstance(stage.attn, MapAttention):
            attn = stage.attn
            self.norm = fuse_module(attn.norm, options)
            # There is one head, and the weights of a place sum to one: what follows the mixing may come before it.
            weight, out = attn.qkv.weight.flatten(1), attn.out.weight.flatten(1)
            values = (out.double() @ weight[-len(out) :].double()).to(weight.dtype)
            bias = F.pad(attn.out.get_parameter("bias"), (len(weight) - len(out), 0))
            self.qkv = Product(torch.cat([weight[: -len(out)], values]), bias, options)

    def forward(self, x: Tensor, embedding: None = None) -> Tensor:
        """As `Stage.forward`, of the one noise level."""
        x = self.second(self.first(x), x if self.shortcut is None else self.shortcut(x))
        if self.norm is None:
            return x
        tokens = self.norm(x).permute(0, 2, 3, 1)
        q, k, v = self.qkv(tokens.flatten(1, 2))[:, None].chunk(3, dim=3)
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0].view(tokens.shape)
        return x.add_(mixed.permute(0, 3, 1, 2))


class FusedUNet(DenoisingUNet):
    """A `DenoisingUNet` for inference at one noise level, without an embedding of it; maps are channels-last.

    Args:
        unet: The network.
        options: Number format and packing; its grid is that of the maps.
        embedding: [1, width] of the noise level, from `DenoisingUNet.embed`.
    """

    def __init__(self, unet: DenoisingUNet, options: FuseOptions, embedding: Tensor) -> None:
        nn.Module.__init__(self)
        scale = 0

        def fused(layer: nn.Module) -> nn.Module:
            nonlocal scale
            if isinstance(layer, Resize) and layer.up:
                scale -= 1
            sized = replace(options, grid=max(1, options.grid >> scale))
            if isinstance(layer, Stage):
                return FusedStage(layer, sized, embedding)
            if not isinstance(layer, Resize):
                return Convolution(layer.get_parameter("weight"), layer.get_parameter("bias"), sized)
            scale += 0 if layer.up else 1
            twin, conv = with_fused_children(layer, sized), layer.conv
            twin._modules["conv"] = Convolution(conv.weight, conv.bias, sized, stride=conv.stride[0])
            return twin

        self.downs = nn.ModuleList(fused(layer) for layer in unet.downs)
        self.mid = nn.ModuleList(fused(layer) for layer in unet.mid)
        small = replace(options, grid=max(1, options.grid >> scale))
        self.ups = nn.ModuleList(fused(layer) for layer in unet.ups)
        self.conv_GAT, self.norm, self.norm1 = (fuse_module(m, options) for m in (unet.conv_GAT, unet.norm, unet.norm1))
        # The sum of the map and its product is one product.
        joint = unet.conv_11.get_parameter("weight").detach().clone()
        joint[:, : joint.shape[0], 0, 0] += torch.eye(joint.shape[0], device=joint.device)
        self.conv_11 = Convolution(joint, unet.conv_11.get_parameter("bias"), small)
        self.final_conv, self.final_conv2 = (FusedConvolution(c, options) for c in (unet.final_conv, unet.final_conv2))

    def with_graph(self, x: Tensor, graph: Tensor) -> Tensor:
        return self.conv_11(torch.cat([x, graph], dim=1))

    def with_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        return self.final_conv(x, visible)
