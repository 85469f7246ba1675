"""Backbones by their YAML `TYPE`; the other keys of the node are the builder's arguments in upper case."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import nn

from lib.models.backbones.efficient_vit import EfficientViT
from lib.models.backbones.fast_itpn import FastITPN, ITPNOptions
from lib.models.backbones.masked_autoencoder import AutoencoderOptions, MaskedAutoencoder
from lib.models.backbones.one_stream_vit import OneStreamViT, ViTOptions
from lib.models.backbones.paired_vit import PairedOptions, PairedViT
from lib.models.backbones.resnet import ResNet
from lib.models.backbones.timm_vit import timm_vit
from lib.models.backbones.two_stream_vit import TwoStreamOptions, TwoStreamViT
from lib.ranges import Count, CountOrNone, hints_of
from lib.registry import Registry

BACKBONES: Registry[Callable[..., nn.Module]] = Registry("backbone")
RGBX_BACKBONES: Registry[Callable[..., nn.Module]] = Registry("RGB-X backbone")
"""Known by the same names as their RGB relatives, as published files have it."""
ITPNS: Registry[Callable[..., FastITPN]] = Registry("iTPN backbone")
"""For RGB-X trackers that make one stream of both modalities."""
PAIRED_VITS: Registry[Callable[..., PairedViT]] = Registry("paired ViT")
"""For visible and infrared streams of a masked autoencoder."""
RESNETS: Registry[Callable[..., ResNet]] = Registry("ResNet")
"""For siamese trackers: a picture in, one feature map out."""
AUTOENCODERS: Registry[Callable[..., MaskedAutoencoder]] = Registry("masked autoencoder")
"""For pre-training."""
ATROUS_RESNETS: Registry[Callable[..., ResNet]] = Registry("atrous ResNet")
"""For SiamRPN++ and its descendants: four layers, three of them of stride 8."""

DECODER = {"decoder_embed_dim", "decoder_depth", "decoder_num_heads"}
PUBLISHED = {"embed_dim", "depth", "depths", "num_heads", "mlp_ratio", "conv_stem", "from_scratch", *DECODER}
"""Fields of the options of a published network that configuration files do not set."""
UNUSED_SWITCHES: dict[str, Any] = {
    "cat_mode": "direct",
    "mid_pe": False,
    "merge_layer": 0,
    "add_cls_token": False,
    "cls_token_use_mode": "ignore",
}
"""Keys of published configuration files that are no arguments here, with the only value that these files give."""


def _builder(network: Callable[[Any], Any], options: Any, fixed: set[str] = PUBLISHED) -> Callable[..., Any]:
    """Builder whose keyword arguments are the fields of a network's options.

    Args:
        network: Makes the network of its options.
        options: Dataclass with the default of every argument.
        fixed: Fields that are no arguments. Builders of published networks take UNUSED_SWITCHES as well, which must
            have their one value.

    Returns:
        The builder; its signature names the arguments.
    """
    switches = UNUSED_SWITCHES if fixed is PUBLISHED else {}

    def build(**given: Any) -> Any:
        for name, only in switches.items():
            value = given.pop(name, only)
            if value != only:
                raise ValueError(
                    f"MODEL.BACKBONE.{name.upper()} {value!r} is not supported; published files use {only!r}"
                )
        return network(replace(options, **given))

    defaults = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in fixed}
    kind = inspect.Parameter.KEYWORD_ONLY
    named = [inspect.Parameter(name, kind, default=value) for name, value in {**defaults, **switches}.items()]
    build.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    build.__annotations__ = {name: hints_of(type(options))[name] for name in defaults}
    return build


def _own(network: Callable[[Any], Any], options: Any, *fixed: str) -> Callable[..., Any]:
    """`_builder` of a network of any size, for training from random weights."""
    return _builder(network, replace(options, from_scratch=True), {"from_scratch", *fixed})


# Networks of any size, for training from random weights.
BACKBONES.register("vit")(_own(OneStreamViT, ViTOptions(96, 4, 3, 8)))
BACKBONES.register("efficient_vit")(_own(EfficientViT, ViTOptions(96, 4, 3, 8), "conv_stem"))
RGBX_BACKBONES.register("vit")(_own(TwoStreamViT, TwoStreamOptions(96, 4, 3, 8, fusion_loc=(1, 3), adapter_dim=24)))
ITPNS.register("itpn")(_own(FastITPN, ITPNOptions(96, (0, 0, 4), 3, 8, 48, 96, conv_stem=True)))
PAIRED_VITS.register("vit")(_own(PairedViT, PairedOptions(96, 4, 3, 8)))
RESNETS.register("resnet")(ResNet)
AUTOENCODERS.register("mae_vit")(_builder(MaskedAutoencoder, AutoencoderOptions(96, 4, 3, 64, 2, 2, 8), set()))
BACKBONES.register("timm")(timm_vit)

# Published networks: OSTrack, SDSTrack, CSTrack, TransT, MAT.
BACKBONES.register("vit_base_patch16_224", "vit_base_patch16_224_ce")(_builder(OneStreamViT, ViTOptions()))
BACKBONES.register("vit_large_patch16_224", "vit_large_patch16_224_ce")(
    _builder(OneStreamViT, ViTOptions(1024, 24, 16))
)
RGBX_BACKBONES.register("vit_base_patch16_224", "vit_base_patch16_224_ce")(_builder(TwoStreamViT, TwoStreamOptions()))
ITPNS.register("itpn_base")(_builder(FastITPN, ITPNOptions()))
AUTOENCODERS.register("mae_vit_base_patch16")(_builder(MaskedAutoencoder, AutoencoderOptions()))
AUTOENCODERS.register("mae_vit_small_patch16")(_builder(MaskedAutoencoder, AutoencoderOptions(384)))
AUTOENCODERS.register("mae_vit_large_patch16")(_builder(MaskedAutoencoder, AutoencoderOptions(1024, 24, 16)))
PAIRED_VITS.register("vit_base_patch16")(_builder(PairedViT, PairedOptions(), PUBLISHED | {"stride"}))


@RESNETS.register("resnet50")
def resnet50() -> ResNet:
    """ResNet-50 to its third layer, stride 8, as TransT reads it: the third layer is dilated instead of strided."""
    return ResNet((3, 4, 6), width=64)


@RESNETS.register("resnet50_stride16")
def resnet50_stride16(frozen: CountOrNone = 2) -> ResNet:
    """ResNet-50 to its third layer, stride 16, as TrDiMP reads it.

    Args:
        frozen: Layers that learn nothing, the stem included; see `ResNet`.
    """
    return ResNet((3, 4, 6), strides=(1, 2, 2), dilations=(1, 1, 1), width=64, frozen=frozen)


@ATROUS_RESNETS.register("resnet")
def atrous_resnet(depths: Sequence[Count] = (1, 1, 1, 1), width: Count = 8, frozen: CountOrNone = 0) -> ResNet:
    """An atrous ResNet of any size, for training from random weights; its arguments are those of `ResNet`."""
    return ResNet(depths, (1, 2, 1, 1), (1, 1, 2, 4), width, frozen, atrous=True)


@ATROUS_RESNETS.register("resnet50")
def atrous_resnet50(frozen: CountOrNone = 1) -> ResNet:
    """ResNet-50 whose last two layers are dilated instead of strided, as SiamRPN++ reads it.

    Args:
        frozen: Layers that learn nothing, the stem included; see `ResNet`.
    """
    return atrous_resnet((3, 4, 6, 3), 64, frozen)
