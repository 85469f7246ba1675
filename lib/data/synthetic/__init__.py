"""A synthetic world for tracking: endless labelled videos, RGB and RGB-X, from a seed, in memory or on disk."""

from lib.data.synthetic.attributes import ATTRIBUTES, Attribute
from lib.data.synthetic.config import GENERATOR_VERSION, WorldConfig
from lib.data.synthetic.dataset import SyntheticDataset, build_synthetic
from lib.data.synthetic.truth import Truth
from lib.data.synthetic.world import World

__all__ = [
    "ATTRIBUTES",
    "GENERATOR_VERSION",
    "Attribute",
    "SyntheticDataset",
    "Truth",
    "World",
    "WorldConfig",
    "build_synthetic",
]
