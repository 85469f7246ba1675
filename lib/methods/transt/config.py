"""Keys of TransT configuration files; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import Part, schema
from lib.ranges import Count, NotNegative, Rate, Share


@dataclass(frozen=True)
class TransTModel(schema.OwnHeadsModel):
    """Parts of TransT.

    Attributes:
        backbone: A ResNet. pretrain_file: ImageNet weights of one, or a whole tracker.
        hidden_dim, nheads, dim_feedforward, featurefusion_layers, dropout: Of the fusion network.
    """

    backbone: Part = Part("resnet50")
    hidden_dim: Count = 256
    nheads: Count = 8
    dim_feedforward: Count = 2048
    featurefusion_layers: Count = 4
    dropout: Rate = 0.1


@dataclass(frozen=True)
class TransTTrain(schema.Train):
    """Training of TransT.

    Attributes:
        ce_weight: Of the cells' cross-entropy.
        background_weight: Of a background cell in it.
        wrap_matches: A target that sticks out of the crop to the left or the top mostly matches no cell, as in
            published training; where it is off, it matches the cells that it covers.
    """

    ce_weight: NotNegative = 8.334
    background_weight: NotNegative = 0.0625
    wrap_matches: bool = False
    grad_clip_norm: NotNegative = 0.0


@dataclass(frozen=True)
class TransTTest(schema.Test):
    """Settings of the tracker. window_influence: share of the window in the windowed scores."""

    window_influence: Share = 0.49


@dataclass(frozen=True)
class TransTConfig(schema.Config):
    """A TransT experiment: frames before and after the template, crops with a margin of the mean side, no mirroring."""

    data: schema.Data = schema.Data(
        sampler_mode="interval",
        max_sample_interval=100,
        crop_style=Part("context"),
        reject_all_padding=False,
        augment=schema.Augment(mirror=0.0, crop_flip=0.0),
    )
    model: TransTModel = TransTModel()
    train: TransTTrain = TransTTrain()
    test: TransTTest = TransTTest()
