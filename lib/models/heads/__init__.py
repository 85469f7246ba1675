"""Box heads by their YAML `TYPE`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lib.models.heads.auxiliary import ConfidenceHead, TaskHead
from lib.models.heads.candidates import Candidates
from lib.models.heads.center import CenterHead
from lib.models.heads.corner import CornerHead, boxes_from_corners, corner_candidates
from lib.models.heads.dense import BACKGROUND, TARGET, Perceptron, dense_candidates
from lib.registry import Registry

HEADS: Registry[Callable[..., nn.Module]] = Registry("head")


@HEADS.register("CENTER")
def center(inputs: int, num_channels: int = 256, prior: float | None = None) -> CenterHead:
    """Centre head on a feature map of `inputs` channels; `prior`: score of every cell of a fresh head."""
    return CenterHead(inputs, num_channels, prior)


@HEADS.register("CORNER")
def corner(inputs: int, num_channels: int = 256) -> CornerHead:
    """Corner head on a feature map of `inputs` channels."""
    return CornerHead(inputs, num_channels)
