"""Keys of OSTrack configuration files."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import schema
from lib.ranges import CountOrNone


@dataclass(frozen=True)
class OSTrackTrain(schema.Train):
    """Training of OSTrack.

    Attributes:
        ce_start_epoch: the last epoch without candidate elimination.
        ce_warm_epoch: epochs over which elimination reaches its ratio.
    """

    ce_start_epoch: CountOrNone = 20
    ce_warm_epoch: CountOrNone = 80


@dataclass(frozen=True)
class OSTrackConfig(schema.Config):
    """An OSTrack experiment."""

    train: OSTrackTrain = OSTrackTrain()
