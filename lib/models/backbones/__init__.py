"""Backbones and their registries; `catalogue` has the builders of every YAML `TYPE`."""

from lib.models.backbones.catalogue import (
    ATROUS_RESNETS,
    AUTOENCODERS,
    BACKBONES,
    ITPNS,
    PAIRED_VITS,
    RESNETS,
    RGBX_BACKBONES,
)
from lib.models.backbones.fast_itpn import FastITPN, ITPNOptions
from lib.models.backbones.masked_autoencoder import (
    MAT_PREFIX,
    AutoencoderOptions,
    MaskedAutoencoder,
    Masking,
    Reconstruction,
    encoder_weights,
    paired_weights,
    resize_table,
    to_patches,
    to_pictures,
)
from lib.models.backbones.one_stream_vit import (
    OneStreamBackbone,
    OneStreamViT,
    Tokens,
    ViTOptions,
    fit_positions,
    resize_patch_embed,
    resize_position,
)
from lib.models.backbones.paired_vit import STREAMS, PairedViT
from lib.models.backbones.resnet import ResNet
from lib.models.backbones.timm_vit import TimmViT
from lib.models.backbones.two_stream_vit import Fusion, TwoStreamOptions, TwoStreamViT
