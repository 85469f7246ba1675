"""Box heads by their YAML `TYPE`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lib.models.heads.boxes import BoxMaps, decode_cells
from lib.models.heads.cells import BACKGROUND, TARGET, CellBoxes, Perceptron
from lib.models.heads.center import CenterHead
from lib.models.heads.confidence import ConfidenceHead
from lib.models.heads.corner import CornerHead
from lib.models.heads.task import TaskHead
from lib.registry import Registry

HEADS: Registry[Callable[..., nn.Module]] = Registry("head")


@HEADS.register("CENTER")
def center(inputs: int, num_channels: int = 256, prior: float | None = None) -> CenterHead:
    """Centre head on a feature map of `inputs` channels; `prior`: what a fresh score map says everywhere."""
    return CenterHead(inputs, num_channels, prior)


@HEADS.register("CORNER")
def corner(inputs: int, num_channels: int = 256) -> CornerHead:
    """Corner head on a feature map of `inputs` channels."""
    return CornerHead(inputs, num_channels)
