"""Degraded frames for robustness tests: a missing picture, noise, occlusion.

They measure how much an RGB-X tracker depends on each of its two pictures (SDSTrack, CVPR 2024, masks patches in
training against this). The result is a function of the seed, the name of the video and the frame number; the frames
dropped at a low rate are among those dropped at a higher one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lib.data.types import Frame, Image, Video
from lib.registry import suggest

V = TypeVar("V", bound=Video)
Reader = Callable[[int], Frame]

PICTURES = ("rgb", "aux", "both")
FILLS = ("black", "repeat")
GREY = 127


@dataclass(frozen=True)
class Corruption:
    """One corruption of pictures.

    Attributes:
        kind: A name of `CORRUPTIONS`.
        strength: 0..1.
        pictures: "rgb", "aux" or "both" of a frame.
    """

    kind: str
    strength: float
    pictures: str = "both"

    def __post_init__(self) -> None:
        if self.kind not in CORRUPTIONS:
            known = list(CORRUPTIONS)
            raise ValueError(f"unknown corruption {self.kind!r}{suggest(self.kind, known)} (known: {', '.join(known)})")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of {self.kind} must lie in 0..1, not {self.strength:g}")
        if self.pictures not in PICTURES:
            raise ValueError(f"{self.kind} can be on {', '.join(PICTURES)}, not {self.pictures!r}")

    @classmethod
    def parse(cls, text: str) -> Corruption:
        """`noise:0.3`, `occlusion:0.4:rgb`; ValueError for anything else."""
        kind, *rest = text.split(":")
        try:
            strength = float(rest[0])
        except (IndexError, ValueError):
            raise ValueError(f"{text!r}: expected KIND:STRENGTH[:rgb|aux|both], such as noise:0.3:aux") from None
        return cls(kind, strength, *rest[1:2])

    @property
    def label(self) -> str:
        """For file names: `noise-0.3-aux`."""
        return f"{self.kind}-{self.strength:g}" + ("" if self.pictures == "both" else f"-{self.pictures}")


@dataclass(frozen=True)
class Degradation:
    """Degradation of every frame except those that tracking starts on.

    Attributes:
        drop: The missing picture, "rgb" or "aux", or None.
        drop_rate: Share of the frames that lack it. At 1 the modality does not exist: the first frame lacks it too.
        fill: Replacement of a missing picture: "black", or "repeat" for the last picture before it.
        corruptions: Applied in this order.
        seed: Of all random numbers.
    """

    drop: str | None = None
    drop_rate: float = 1.0
    fill: str = "black"
    corruptions: tuple[Corruption, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.drop not in (None, "rgb", "aux"):
            raise ValueError(f"rgb or aux can be dropped, not {self.drop!r}")
        if not 0 <= self.drop_rate <= 1:
            raise ValueError(f"the drop rate must lie in 0..1, not {self.drop_rate:g}")
        if self.fill not in FILLS:
            raise ValueError(f"a dropped picture can be {' or '.join(FILLS)}, not {self.fill!r}")

    @classmethod
    def parse(cls, drop: str | None, drop_rate: float, fill: str, corrupt: Iterable[str], seed: int) -> Degradation:
        """From the options of `lib.config.options.add_degradation_options`. Raises ValueError."""
        return cls(drop, drop_rate, fill, tuple(map(Corruption.parse, corrupt)), seed)

    @property
    def is_none(self) -> bool:
        """Whether frames stay unchanged."""
        return (self.drop is None or self.drop_rate == 0) and all(c.strength == 0 for c in self.corruptions)

    @property
    def needs_aux(self) -> bool:
        """Whether frames need a second picture."""
        return self.drop is not None or any(c.pictures == "aux" for c in self.corruptions)

    @property
    def label(self) -> str:
        """For folder names: `drop-aux-0.5_noise-0.3-rgb`; empty when nothing is degraded."""
        if self.is_none:
            return ""
        parts = [c.label for c in self.corruptions if c.strength]
        if self.drop and self.drop_rate:
            parts.insert(0, f"drop-{self.drop}-{self.drop_rate:g}" + ("-repeat" if self.fill == "repeat" else ""))
        return "_".join([*parts, *([f"seed{self.seed}"] if self.seed else [])])

    def apply(self, video: V, starts: Collection[int] = (0,)) -> V:
        """The video with degraded frames. starts: numbers of the frames that tracking starts on."""
        if self.is_none:
            return video
        lost = self._lost(video.name, len(video), starts)
        return replace(video, read_frame=partial(_read, self, video.name, video.read_frame, lost, set(starts)))

    def _lost(self, name: str, frames: int, starts: Collection[int]) -> NDArray[np.bool_]:
        """[N] which frames lack the dropped picture."""
        if self.drop is None:
            return np.zeros(frames, dtype=bool)
        lost = _generator(self.seed, name, "drop").random(frames) < self.drop_rate
        if self.drop_rate < 1:
            lost[list(starts)] = False
        return np.asarray(lost)


def _read(
    degradation: Degradation, name: str, read: Reader, lost: NDArray[np.bool_], starts: Collection[int], index: int
) -> Frame:
    frame = read(index)
    rgb, aux = frame.rgb, frame.aux
    if degradation.needs_aux and aux is None:
        raise ValueError(f"{name}, frame {index}: there is no second picture to drop or to corrupt")
    if lost[index]:
        kept = np.flatnonzero(~lost[:index])
        repeats = degradation.fill == "repeat" and len(kept) > 0
        stand_in = read(int(kept[-1])) if repeats else Frame(np.zeros_like(rgb), np.zeros_like(rgb))
        rgb, aux = (stand_in.rgb, aux) if degradation.drop == "rgb" else (rgb, stand_in.aux)
    if index not in starts:
        for number, corruption in enumerate(degradation.corruptions):
            spoil = CORRUPTIONS[corruption.kind]
            shot = Shot(degradation.seed, name, f"{number} {corruption.kind}", index, corruption.strength)
            if corruption.pictures != "aux":
                rgb = spoil(rgb, replace(shot, stream=f"{shot.stream} rgb"))
            if corruption.pictures != "rgb" and aux is not None:
                aux = spoil(aux, replace(shot, stream=f"{shot.stream} aux"))
    return Frame(rgb, aux)


@dataclass(frozen=True)
class Shot:
    """One picture to corrupt and the source of its random numbers."""

    seed: int
    sequence: str
    stream: str
    frame: int
    strength: float

    def of_frame(self) -> np.random.Generator:
        """Random numbers of this picture."""
        return _generator(self.seed, self.sequence, f"{self.stream} {self.frame}")

    def of_sequence(self) -> np.random.Generator:
        """Random numbers that all pictures of the sequence share."""
        return _generator(self.seed, self.sequence, self.stream)


def add_noise(picture: Image, shot: Shot) -> Image:
    """Gaussian noise in every channel; its standard deviation is `strength` of the whole range."""
    noise = shot.of_frame().standard_normal(picture.shape, dtype=np.float32) * np.float32(255 * shot.strength)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def occlude(picture: Image, shot: Shot) -> Image:
    """A grey block of the picture's shape, covering `strength` of it, that wanders over it."""
    height, width = picture.shape[:2]
    h, w = (round(side * float(np.sqrt(shot.strength))) for side in (height, width))
    rng = shot.of_sequence()
    periods, phases = rng.uniform(60, 160, 2), rng.uniform(0, 2 * np.pi, 2)
    place = 0.5 + 0.5 * np.sin(2 * np.pi * shot.frame / periods + phases)
    top, left = round(float(place[0]) * (height - h)), round(float(place[1]) * (width - w))
    covered = picture.copy()
    covered[top : top + h, left : left + w] = GREY
    return covered


CORRUPTIONS: dict[str, Callable[[Image, Shot], Image]] = {"noise": add_noise, "occlusion": occlude}
"""Name on the command line -> what is done to a picture [H, W, 3] uint8."""


def _generator(seed: int, name: str, what: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"degradation {seed} {name} {what}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
