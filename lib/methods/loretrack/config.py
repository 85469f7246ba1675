"""Keys of LoReTrack configuration files: OSTrack's, with a teacher.

A published file has no TEACHER: its DATA section is the teacher's resolution, its TEST section the student's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lib.config import schema
from lib.methods.ostrack import config as ostrack


@dataclass(frozen=True)
class Teacher(schema.Teacher):
    """The published teacher, where a file names none: OSTrack at 384 pixels without elimination."""

    script: str = "ostrack"
    config: str = "vitb_384_mae_32x4_ep300"


@dataclass(frozen=True)
class Train(ostrack.Train):
    """The last ten epochs are kept, since published students are picked among them (TEST.EPOCH 296)."""

    save_last_n_epoch: int = 10


@dataclass(frozen=True)
class Config(ostrack.Config):
    """A LoReTrack experiment."""

    train: Train = Train()
    teacher: Teacher = field(default=Teacher(), metadata={"section": True})
