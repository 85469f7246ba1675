"""The knobs of a synthetic world."""

from __future__ import annotations

from dataclasses import dataclass

from lib.data import Modality
from synthetic.attributes import check_attributes

GENERATOR_VERSION = 1
"""Raised whenever the same seed gives other pictures or other truth."""


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """width, height: frame size in pixels; length: frames.

    difficulty: 0 (slow, clear, alone) to 1; scales how often things happen, how fast and how faint the target is.
    distractors: number of other moving objects; None draws it.
    attributes: what must happen (names of `ATTRIBUTES`), nothing else being asked for; None draws it by difficulty.
    modality: what the second picture of a frame is.
    """

    width: int = 320
    height: int = 240
    length: int = 60
    difficulty: float = 0.5
    distractors: int | None = None
    attributes: tuple[str, ...] | None = None
    modality: Modality = Modality.RGB

    def __post_init__(self) -> None:
        if self.width < 64 or self.height < 64:
            raise ValueError(f"a synthetic frame must be at least 64 x 64 pixels, not {self.width} x {self.height}")
        if self.length < 1:
            raise ValueError(f"a synthetic sequence needs at least 1 frame, not {self.length}")
        if not 0 <= self.difficulty <= 1:
            raise ValueError(f"difficulty is between 0 and 1, not {self.difficulty}")
        check_attributes(self.attributes or ())
