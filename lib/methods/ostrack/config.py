"""Keys of OSTrack configuration files."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import schema


@dataclass(frozen=True)
class Train(schema.Train):
    """CE_START_EPOCH, CE_WARM_EPOCH: when elimination begins and over how many epochs it reaches its ratio."""

    ce_start_epoch: int = 20
    ce_warm_epoch: int = 80


@dataclass(frozen=True)
class Config(schema.Config):
    """An OSTrack experiment."""

    train: Train = Train()
