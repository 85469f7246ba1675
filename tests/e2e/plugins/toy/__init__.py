"""A method from outside the tree: one folder with a registration and a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib.config import schema
from lib.methods import Method, register_method
from lib.objectives import BoxCriterion
from lib.track import CropSettings

from .network import Toy
from .objective import ToyObjective
from .tracker import ToyTracker


@dataclass(frozen=True)
class Model(schema.Model):
    """CHANNELS: width of the only convolution."""

    channels: int = 8


@dataclass(frozen=True)
class Config(schema.Config):
    """A toy experiment."""

    model: Model = Model()


def build_tracker(config: Config, network: Any) -> ToyTracker:
    return ToyTracker(network, CropSettings.from_config(config), grid=config.test.search_size // 8)


register_method(
    Method(
        name="toy",
        network_name="Toy",
        config=Config,
        build_network=lambda config, training: Toy(config.model.channels),
        build_objective=lambda config, network: ToyObjective(BoxCriterion(config.train.giou_weight)),
        build_tracker=build_tracker,
    )
)
