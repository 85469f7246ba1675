"""What several methods share: backbones of one stream, crops of a tracker, weights to begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lib.config import Config
from lib.models import Checkpoint, Mapped, WeightsError
from lib.models.backbones import adapt_vit, fit_positions
from lib.registry import Registry
from lib.track import CropSettings

ELSEWHERE = ("head.*", "fc_norm.*", "decoder_*", "mask_token")
"""Names of a ViT's classifier, and of MAE's decoder and mask token, which have no place in a tracker."""


def build_backbone(config: Config, registry: Registry[Callable[..., Any]], training: bool) -> Any:
    """MODEL.BACKBONE of a registry, at the sizes of DATA for training, of TEST otherwise.

    Stochastic depth is for training alone.
    """
    data, test = config.data, config.test
    template, search = (data.template.size, data.search.size) if training else (test.template_size, test.search_size)
    drop_path = config.train.drop_path_rate if training else 0.0
    return config.model.backbone.build(registry, template_size=template, search_size=search, drop_path=drop_path)


def crop_settings(config: Config) -> CropSettings:
    """Crops of template and search region, as TEST says."""
    t, d = config.test, config.data
    sizes = t.template_size, t.template_factor, t.search_size, t.search_factor
    return CropSettings(*sizes, d.mean, d.std, d.crop_style, d.channels)


def map_vit(network: nn.Module, checkpoint: Checkpoint, fresh: Sequence[str] = ()) -> Mapped:
    """Key map of a ViT that was pre-trained on pictures: it fills the backbone alone.

    Position embeddings are resized to the two grids, the patch convolution to the stride.

    Args:
        network: a tracker with a one-stream `backbone`.
        checkpoint: the ViT, such as MAE's.
        fresh: patterns of further names of the backbone that a ViT lacks.

    Raises:
        WeightsError: the file holds no ViT.
    """
    if not {"patch_embed.proj.weight", "pos_embed"} <= checkpoint.state_dict.keys():
        raise WeightsError(
            f"MODEL.PRETRAIN_FILE {checkpoint.path}: neither a ViT that was pre-trained on pictures nor a whole tracker"
        )
    backbone: Any = network.get_submodule("backbone")
    state = adapt_vit(checkpoint.state_dict, backbone.patch, backbone.grid_template, backbone.grid_search)
    return Mapped.of_part(network, "backbone.", state, ("*_segment_pos_embed", *fresh), ELSEWHERE)


def map_tracker(network: nn.Module, checkpoint: Checkpoint, fresh: Sequence[str] = ()) -> Mapped:
    """Key map of a whole tracker with a one-stream `backbone`: position embeddings of other grids are resized."""
    backbone: Any = network.get_submodule("backbone")
    return Mapped(fit_positions(checkpoint.state_dict, backbone.grid_template, backbone.grid_search), tuple(fresh))


def is_tracker(checkpoint: Checkpoint) -> bool:
    """Whether a file holds a whole tracker of the OSTrack family, by its box head."""
    return any(name.startswith("box_head.") for name in checkpoint.state_dict)
