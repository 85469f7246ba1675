"""Backbones by their YAML `TYPE`; the other keys of the node are the builder's arguments in upper case."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lib.models.backbones.fast_itpn import FastITPN
from lib.models.backbones.one_stream_vit import OneStreamViT
from lib.models.backbones.resnet import ResNet
from lib.models.backbones.two_stream_vit import TwoStreamViT
from lib.registry import Registry

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


@ITPNS.register("itpn_base")
def itpn_base(
    stride: int = 16, cat_mode: str = "direct", template_size: int = 128, search_size: int = 256, drop_path: float = 0.0
) -> FastITPN:
    """Fast-iTPN-B, as published (CSTrack)."""
    _check_unused(cat_mode)
    return FastITPN(512, (3, 3, 24), 8, stride // 4, template_size, search_size, drop_path=drop_path)


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
        stride // 4,
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


def _published(width: int, depth: int, heads: int) -> Callable[..., OneStreamViT]:
    """A ViT of fixed size with the switches that published configuration files may carry."""

    def build(
        stride: int = 16,
        ce_loc: tuple[int, ...] = (),
        ce_keep_ratio: tuple[float, ...] = (),
        ce_template_range: str = "ALL",
        sep_seg: bool = False,
        cat_mode: str = "direct",
        mid_pe: bool = False,
        merge_layer: int = 0,
        add_cls_token: bool = False,
        cls_token_use_mode: str = "ignore",
        template_size: int = 128,
        search_size: int = 256,
        drop_path: float = 0.0,
    ) -> OneStreamViT:
        _check_unused(cat_mode, mid_pe, merge_layer, add_cls_token, cls_token_use_mode)
        return OneStreamViT(
            width,
            depth,
            heads,
            stride,
            template_size,
            search_size,
            drop_path,
            ce_loc,
            ce_keep_ratio,
            ce_template_range,
            sep_seg,
        )

    return build


def _check_unused(
    cat_mode: str = "direct",
    mid_pe: bool = False,
    merge_layer: int = 0,
    add_cls_token: bool = False,
    cls_token_use_mode: str = "ignore",
    sep_seg: bool = False,
) -> None:
    """Switches that published files carry and none turns on."""
    unused = {"CAT_MODE": (cat_mode, "direct"), "MID_PE": (mid_pe, False), "MERGE_LAYER": (merge_layer, 0)}
    unused |= {"ADD_CLS_TOKEN": (add_cls_token, False), "CLS_TOKEN_USE_MODE": (cls_token_use_mode, "ignore")}
    unused |= {"SEP_SEG": (sep_seg, False)}
    for key, (value, only) in unused.items():
        if value != only:
            raise ValueError(f"MODEL.BACKBONE.{key} {value!r} is not supported; published files use {only!r}")


BACKBONES.register("vit_base_patch16_224", "vit_base_patch16_224_ce")(_published(768, 12, 12))
BACKBONES.register("vit_large_patch16_224", "vit_large_patch16_224_ce")(_published(1024, 24, 16))


@RGBX_BACKBONES.register("vit_base_patch16_224", "vit_base_patch16_224_ce")
def two_stream_vit_base(
    stride: int = 16,
    fusion_loc: tuple[int, ...] = (3, 6, 9, 11),
    adapter_dim: int = 192,
    ce_loc: tuple[int, ...] = (),
    ce_keep_ratio: tuple[float, ...] = (),
    ce_template_range: str = "ALL",
    sep_seg: bool = False,
    cat_mode: str = "direct",
    mid_pe: bool = False,
    merge_layer: int = 0,
    add_cls_token: bool = False,
    cls_token_use_mode: str = "ignore",
    template_size: int = 128,
    search_size: int = 256,
    drop_path: float = 0.0,
) -> TwoStreamViT:
    """ViT-B/16 with adapters, as published (SDSTrack)."""
    _check_unused(cat_mode, mid_pe, merge_layer, add_cls_token, cls_token_use_mode, sep_seg)
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
