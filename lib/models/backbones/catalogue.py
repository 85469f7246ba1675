"""Backbones by their YAML `TYPE`; the other keys of the node are the builder's arguments in upper case."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from lib.models.backbones.fast_itpn import FastITPN
from lib.models.backbones.one_stream_vit import (
    OneStreamViT,
)
from lib.models.backbones.resnet import ResNet
from lib.models.backbones.two_stream_vit import TwoStreamViT
from lib.registry import Registry

N = TypeVar("N", bound=nn.Module)

BACKBONES: Registry[Callable[..., nn.Module]] = Registry("backbone")
RGBX_BACKBONES: Registry[Callable[..., nn.Module]] = Registry("RGB-X backbone")
"""Known by the same names as their RGB relatives, as published files have it."""
RESNETS: Registry[Callable[..., ResNet]] = Registry("ResNet")
"""For siamese trackers: a picture in, one feature map out."""


@RESNETS.register("resnet50")
def resnet50() -> ResNet:
    """ResNet-50 to its third layer, stride 8, as TransT reads it: the third layer is dilated instead of strided."""
    return ResNet()


@RESNETS.register("resnet")
def resnet(
    depths: tuple[int, ...] = (1, 1, 1),
    strides: tuple[int, ...] = (1, 2, 1),
    dilations: tuple[int, ...] = (1, 1, 2),
    width: int = 16,
) -> ResNet:
    """ResNet of any size, for training from random weights."""
    return ResNet(depths, strides, dilations, width)


ITPNS: Registry[Callable[..., FastITPN]] = Registry("iTPN backbone")
"""For RGB-X trackers that make one stream of both modalities."""


@ITPNS.register("itpn")
def itpn(
    embed_dim: int = 96,
    depths: tuple[int, ...] = (0, 0, 4),
    num_heads: int = 3,
    stride: int = 8,
    mlp_ratio: float = 3.0,
    conv_stem: bool = True,
    template_size: int = 48,
    search_size: int = 96,
    drop_path: float = 0.0,
) -> FastITPN:
    """Fast-iTPN of any size, for training from random weights; DEPTHS of its stem do not count with CONV_STEM."""
    return FastITPN(
        embed_dim,
        depths,
        num_heads,
        stride,
        template_size,
        search_size,
        mlp_ratio=mlp_ratio,
        drop_path=drop_path,
        conv_stem=conv_stem,
        init_std=_fresh_std(embed_dim),
        similar_queries=True,
    )


@BACKBONES.register("vit")
def vit(
    embed_dim: int = 96,
    depth: int = 4,
    num_heads: int = 3,
    stride: int = 8,
    ce_loc: tuple[int, ...] = (),
    ce_keep_ratio: tuple[float, ...] = (),
    ce_template_range: str = "ALL",
    sep_seg: bool = False,
    conv_stem: bool = False,
    template_size: int = 128,
    search_size: int = 256,
    drop_path: float = 0.0,
) -> OneStreamViT:
    """One-stream ViT of any size, for training from random weights.

    0.02 is the usual deviation of fresh weights at width 768; narrower networks take more, as 1 / sqrt(width). With
    0.02 a network of width 96 learns several times more slowly.
    """
    return OneStreamViT(
        embed_dim,
        depth,
        num_heads,
        stride,
        template_size,
        search_size,
        drop_path,
        ce_loc,
        ce_keep_ratio,
        ce_template_range,
        sep_seg,
        conv_stem=conv_stem,
        similar_queries=True,
        init_std=_fresh_std(embed_dim),
    )


@RGBX_BACKBONES.register("vit")
def two_stream_vit(
    embed_dim: int = 96,
    depth: int = 4,
    num_heads: int = 3,
    stride: int = 8,
    fusion_loc: tuple[int, ...] = (1, 3),
    adapter_dim: int = 24,
    ce_loc: tuple[int, ...] = (),
    ce_keep_ratio: tuple[float, ...] = (),
    ce_template_range: str = "ALL",
    conv_stem: bool = False,
    template_size: int = 128,
    search_size: int = 256,
    drop_path: float = 0.0,
) -> TwoStreamViT:
    """Two-stream ViT of any size; with the same EMBED_DIM, DEPTH and so on it takes the weights of a one-stream one."""
    return TwoStreamViT(
        embed_dim,
        depth,
        num_heads,
        stride,
        template_size,
        search_size,
        fusion_loc=fusion_loc,
        adapter_dim=adapter_dim,
        drop_path=drop_path,
        ce_loc=ce_loc,
        ce_keep_ratio=ce_keep_ratio,
        ce_template_range=ce_template_range,
        conv_stem=conv_stem,
        similar_queries=True,
        init_std=_fresh_std(embed_dim),
    )


def _fresh_std(width: int) -> float:
    return 0.02 * (768 / width) ** 0.5


UNUSED_SWITCHES: dict[str, Any] = {
    "cat_mode": "direct",
    "mid_pe": False,
    "merge_layer": 0,
    "add_cls_token": False,
    "cls_token_use_mode": "ignore",
}
"""Keys of published configuration files that are no arguments here, with the only value that these files give."""


def with_published_switches(build: Callable[..., N]) -> Callable[..., N]:
    """The same builder, with further arguments that must have the value of UNUSED_SWITCHES."""

    @functools.wraps(build)
    def checked(**given: Any) -> N:
        for name, only in UNUSED_SWITCHES.items():
            value = given.pop(name, only)
            if value != only:
                raise ValueError(
                    f"MODEL.BACKBONE.{name.upper()} {value!r} is not supported; published files use {only!r}"
                )
        return build(**given)

    own = inspect.signature(build)
    kind = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, kind, default=only) for name, only in UNUSED_SWITCHES.items()]
    named = [p.replace(kind=kind) for p in own.parameters.values()]
    checked.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
    return checked


def _one_stream(width: int, depth: int, heads: int) -> Callable[..., OneStreamViT]:
    """A ViT of fixed size, as published (OSTrack)."""

    def build(
        stride: int = 16,
        ce_loc: tuple[int, ...] = (),
        ce_keep_ratio: tuple[float, ...] = (),
        ce_template_range: str = "ALL",
        sep_seg: bool = False,
        template_size: int = 128,
        search_size: int = 256,
        drop_path: float = 0.0,
    ) -> OneStreamViT:
        sizes = (stride, template_size, search_size, drop_path)
        return OneStreamViT(width, depth, heads, *sizes, ce_loc, ce_keep_ratio, ce_template_range, sep_seg)

    return with_published_switches(build)


BACKBONES.register("vit_base_patch16_224", "vit_base_patch16_224_ce")(_one_stream(768, 12, 12))
BACKBONES.register("vit_large_patch16_224", "vit_large_patch16_224_ce")(_one_stream(1024, 24, 16))


@RGBX_BACKBONES.register("vit_base_patch16_224", "vit_base_patch16_224_ce")
@with_published_switches
def two_stream_vit_base(
    stride: int = 16,
    fusion_loc: tuple[int, ...] = (3, 6, 9, 11),
    adapter_dim: int = 192,
    ce_loc: tuple[int, ...] = (),
    ce_keep_ratio: tuple[float, ...] = (),
    ce_template_range: str = "ALL",
    sep_seg: bool = False,
    template_size: int = 128,
    search_size: int = 256,
    drop_path: float = 0.0,
) -> TwoStreamViT:
    """ViT-B/16 with adapters, as published (SDSTrack)."""
    if sep_seg:
        raise ValueError("MODEL.BACKBONE.SEP_SEG True is not supported; published files use False")
    return TwoStreamViT(
        768,
        12,
        12,
        stride,
        template_size,
        search_size,
        fusion_loc=fusion_loc,
        adapter_dim=adapter_dim,
        drop_path=drop_path,
        ce_loc=ce_loc,
        ce_keep_ratio=ce_keep_ratio,
        ce_template_range=ce_template_range,
    )


@ITPNS.register("itpn_base")
@with_published_switches
def itpn_base(stride: int = 16, template_size: int = 128, search_size: int = 256, drop_path: float = 0.0) -> FastITPN:
    """Fast-iTPN-B, as published (CSTrack)."""
    return FastITPN(512, (3, 3, 24), 8, stride, template_size, search_size, drop_path=drop_path)
