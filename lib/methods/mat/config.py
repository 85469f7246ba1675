"""Keys of the pre-training's configuration files; defaults are the published values (MAT, CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lib.config import Part, require, schema
from lib.ranges import NotNegative, Range


@dataclass(frozen=True)
class MATModel(schema.Model):
    """Parts of the network.

    Attributes:
        backbone: A masked autoencoder. pretrain_file: MAE's weights with or without its decoder, or a pre-training.
        mask_ratio: Share of hidden patches of either crop.
    """

    backbone: Part = Part("mae_vit_base_patch16")
    mask_ratio: Annotated[float, Range(0, 1, above=True, below=True)] = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.head == schema.Model.head, "HEAD has no place in a pre-training; leave it out")


@dataclass(frozen=True)
class MATTrain(schema.Train):
    """The pre-training.

    Attributes:
        transfer: The template is to be predicted as the target looks in the search region; otherwise as it is.
        norm_pix_loss: Every patch of a target is normalised by its own mean and deviation.
    """

    transfer: bool = True
    norm_pix_loss: bool = False
    backbone_multiplier: NotNegative = 1.0
    grad_clip_norm: NotNegative = 0.0


@dataclass(frozen=True)
class MATData(schema.Data):
    """Pairs of frames. template: the crop's extent is FACTOR times width and height of the target, stretched."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one = self.template.number == self.search.number == 1
        require(one, "a pre-training reads one template and one search region: NUMBER must be 1 in both")
        require(not self.masks, "MASKS has no place in a pre-training; leave it out")


@dataclass(frozen=True)
class MATConfig(schema.Config):
    """A pre-training: two frames from anywhere in a video."""

    data: MATData = MATData(
        sampler_mode="window",
        max_sample_interval=9999,
        crop_style=Part("affine"),
        reject_all_padding=False,
        augment=schema.Augment(grey=0.0, mirror=0.0, crop_flip=0.0, brightness=0.0),
    )
    model: MATModel = MATModel()
    train: MATTrain = MATTrain()
