"""Parts that several methods share: backbone and head, parameter groups, key maps of first weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from lib.config import Config, ParamGroup
from lib.models import Checkpoint, Mapped, WeightsError
from lib.models.backbones import encoder_weights, fit_positions
from lib.models.heads import HEADS
from lib.registry import Registry

C = TypeVar("C", bound=Config)
ELSEWHERE = ("head.*", "fc_norm.*", "attn_pool.*", "decoder_*", "mask_token", "z_*")
"""Names without a place in a tracker: of a ViT's classifier, MAE's decoder and mask token, MAT's template patches."""


def input_sizes(config: Config, training: bool) -> tuple[int, int]:
    """Sides of the network's inputs.

    Args:
        config: Of the experiment.
        training: The sizes of DATA, otherwise those of TEST.

    Returns:
        Template and search region, in pixels.
    """
    data, test = config.data, config.test
    return (data.template.size, data.search.size) if training else (test.template_size, test.search_size)


def backbone_and_head(config: Config, registry: Registry[Callable[..., Any]], training: bool) -> tuple[Any, nn.Module]:
    """MODEL.BACKBONE and MODEL.HEAD with fresh weights.

    Args:
        config: Of the experiment.
        registry: Of the backbones.
        training: The sizes are those of DATA and there is stochastic depth; otherwise the sizes of TEST and none.
    """
    template, search = input_sizes(config, training)
    drop_path = config.train.drop_path_rate if training else 0.0
    backbone = config.model.backbone.build(registry, template_size=template, search_size=search, drop_path=drop_path)
    return backbone, config.model.head.build(HEADS, inputs=backbone.width)


def with_param_groups(config: C, groups: tuple[ParamGroup, ...]) -> C:
    """Give TRAIN.PARAM_GROUPS a default that depends on other keys.

    Args:
        config: Of the experiment; returned as it is where it has groups.
        groups: The default.
    """
    train = config.train
    return config if train.param_groups else replace(config, train=replace(train, param_groups=groups))


def map_vit(network: nn.Module, checkpoint: Checkpoint, fresh: Sequence[str] = ()) -> Mapped:
    """Key map of a ViT that was pre-trained on pictures: it fills the backbone alone.

    Position embeddings are resized to the two grids, the patch convolution to the stride. Of a pre-training by masked
    appearance transfer the encoder is taken, with the patches of the search region.

    Args:
        network: A tracker with a one-stream `backbone`.
        checkpoint: The ViT, such as MAE's.
        fresh: Patterns of further names of the backbone that a ViT lacks.

    Raises:
        WeightsError: The file holds no such network.
    """
    given = encoder_weights(checkpoint.state_dict) or checkpoint.state_dict
    backbone: Any = network.get_submodule("backbone")
    try:
        state = backbone.adapt_pretrained(given)
    except KeyError as error:
        wanted = "neither a backbone that was pre-trained on pictures nor a whole tracker"
        raise WeightsError(f"MODEL.PRETRAIN_FILE {checkpoint.path}: {wanted} ({error} is missing)") from error
    return Mapped.of_part(network, "backbone.", state, ("*_segment_pos_embed", *fresh), ELSEWHERE)


def map_tracker(network: nn.Module, checkpoint: Checkpoint, fresh: Sequence[str] = ()) -> Mapped:
    """Key map of a whole tracker; its position embeddings are resized to the network's grids.

    Args:
        network: A tracker with a one-stream `backbone`.
        checkpoint: Of a tracker.
        fresh: Patterns of names that the file may lack.
    """
    backbone: Any = network.get_submodule("backbone")
    return Mapped(fit_positions(checkpoint.state_dict, backbone.grid_template, backbone.grid_search), tuple(fresh))


def is_tracker(checkpoint: Checkpoint) -> bool:
    """True for a file that holds a whole tracker of the OSTrack family: it has a box head."""
    return any(name.startswith("box_head.") for name in checkpoint.state_dict)
