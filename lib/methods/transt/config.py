"""Keys of TransT configuration files; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import Part, schema


@dataclass(frozen=True)
class Augment(schema.Augment):
    """Nothing is mirrored."""

    mirror: float = 0.0
    crop_flip: float = 0.0


@dataclass(frozen=True)
class Data(schema.Data):
    """Frames before and after the template, crops with a margin of the mean side."""

    sampler_mode: str = "interval"
    max_sample_interval: int | tuple[int, ...] = 100
    crop_style: str = "context"
    reject_all_padding: bool = False
    augment: Augment = Augment()


@dataclass(frozen=True)
class Model(schema.Model):
    """BACKBONE: a ResNet. HIDDEN_DIM, NHEADS, DIM_FEEDFORWARD, FEATUREFUSION_LAYERS, DROPOUT: of the fusion network.

    PRETRAIN_FILE: ImageNet weights of a ResNet, or a whole tracker if "transt" is in the file's name.
    """

    backbone: Part = Part("resnet50")
    hidden_dim: int = 256
    nheads: int = 8
    dim_feedforward: int = 2048
    featurefusion_layers: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head != schema.Model.head:
            raise ValueError("HEAD is not TransT's to choose: its heads belong to it; leave HEAD out")
        if not 0 <= self.dropout < 1 or self.featurefusion_layers < 1:
            raise ValueError("DROPOUT must lie in 0..1 (1 excluded) and FEATUREFUSION_LAYERS be at least 1")


@dataclass(frozen=True)
class Train(schema.Train):
    """CE_WEIGHT: of the cells' cross-entropy. BACKGROUND_WEIGHT: of a background cell in it.

    WRAP_MATCHES: a target that sticks out of the crop to the left or the top mostly teaches nothing, as in published
    training; where it is off, the cells that it covers learn.
    """

    ce_weight: float = 8.334
    background_weight: float = 0.0625
    wrap_matches: bool = False
    grad_clip_norm: float = 0.0


@dataclass(frozen=True)
class Test(schema.Test):
    """WINDOW_INFLUENCE: share of the window in what the cell is chosen by."""

    window_influence: float = 0.49

    def __post_init__(self) -> None:
        if not 0 <= self.window_influence <= 1:
            raise ValueError(f"WINDOW_INFLUENCE must lie in 0..1, not {self.window_influence}")


@dataclass(frozen=True)
class Config(schema.Config):
    """A TransT experiment."""

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    test: Test = Test()
