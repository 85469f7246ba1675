"""LoReTrack: OSTrack at low resolution, with OSTrack at high resolution as its teacher (Dong et al., arXiv 2405.17660).

Network and tracker are OSTrack's without elimination. Its objective - OSTrack's losses and two terms of a frozen
teacher - is the TEACHER section that any one-stream method may have (`lib.objectives.distillation`). A published file
has no TEACHER: its DATA section is the teacher's resolution, its TEST section the student's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lib.config import schema
from lib.methods.method import METHODS, register_method
from lib.methods.ostrack.config import OSTrackConfig, OSTrackTrain
from lib.ranges import CountOrNone


@dataclass(frozen=True)
class LoReTrackTeacher(schema.Teacher):
    """The published teacher, where a file names none: OSTrack at 384 pixels without elimination."""

    script: str = "ostrack"
    config: str = "vitb_384_mae_32x4_ep300"


@dataclass(frozen=True)
class LoReTrackTrain(OSTrackTrain):
    """The last ten epochs are kept, since published students are picked among them (TEST.EPOCH 296)."""

    save_last_n_epoch: CountOrNone = 10


@dataclass(frozen=True)
class LoReTrackConfig(OSTrackConfig):
    """A LoReTrack experiment."""

    train: LoReTrackTrain = LoReTrackTrain()
    teacher: LoReTrackTeacher = field(default=LoReTrackTeacher(), metadata={"section": True})


register_method(replace(METHODS["ostrack"], name="loretrack", config=LoReTrackConfig))
