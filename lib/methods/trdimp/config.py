"""Keys of TrDiMP configuration files; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import Part, schema
from lib.ranges import Count


@dataclass(frozen=True)
class TrDiMPModel(schema.Model):
    """Parts of TrDiMP.

    Attributes:
        backbone: a ResNet of stride 16. pretrain_file: ImageNet weights of one, or a whole tracker.
        classification_dim: channels of the features that the filter is applied to.
        key_dim: of the transformer's keys.
        box_dim: of the box regressor.
        iterations: steps of the filter's optimisation in training.
    """

    backbone: Part = Part("resnet50_stride16")
    classification_dim: Count = 512
    key_dim: Count = 128
    box_dim: Count = 256
    iterations: Count = 5

    def __post_init__(self) -> None:
        if self.head != schema.Model.head:
            raise ValueError(
                "HEAD is not TrDiMP's to choose: its filter and box regressor belong to it; leave HEAD out"
            )


@dataclass(frozen=True)
class TrDiMPConfig(schema.Config):
    """A TrDiMP experiment."""

    model: TrDiMPModel = TrDiMPModel()
