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

from lib.data.types import Frame, Image, Mask, Video
from lib.registry import suggest

V = TypeVar("V", bound=Video)
Reader = Callable[[int], Frame]
Stream = Callable[..., np.random.Generator]
"""Called with further parts of the name of a stream of random numbers; none for what all frames share."""

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
        """The corruption of a command line option.

        Args:
            text: Such as `noise:0.3` or `occlusion:0.4:rgb`.

        Raises:
            ValueError: It is anything else.
        """
        kind, *rest = text.split(":")
        try:
            strength, pictures = float(rest[0]), rest[1:]
            if len(pictures) > 1:
                raise ValueError
        except (IndexError, ValueError):
            raise ValueError(f"{text!r}: expected KIND:STRENGTH[:rgb|aux|both], such as noise:0.3:aux") from None
        return cls(kind, strength, *pictures)


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
        """The degradation of command line options.

        Args:
            drop, drop_rate, fill, seed: As the attributes.
            corrupt: See `Corruption.parse`.

        Raises:
            ValueError: An option has a wrong value, or no effect.
        """
        wanted = cls(drop, drop_rate, fill, tuple(map(Corruption.parse, corrupt)), seed)
        for option, given in (("--drop_rate", drop_rate != cls.drop_rate), ("--drop_fill", fill != cls.fill)):
            if given and drop is None:
                raise ValueError(f"{option} says how --drop rgb or --drop aux is done; add one of them")
        if seed != cls.seed and not wanted.corruptions and drop_rate in (0, 1):
            raise ValueError("--degradation_seed has no effect without --corrupt, or a --drop_rate between 0 and 1")
        return wanted

    @property
    def is_none(self) -> bool:
        """True if frames stay unchanged."""
        return (self.drop is None or self.drop_rate == 0) and all(c.strength == 0 for c in self.corruptions)

    @property
    def needs_aux(self) -> bool:
        """True if frames need a second picture."""
        return self.drop is not None or any(c.pictures == "aux" for c in self.corruptions)

    @property
    def label(self) -> str:
        """For folder names: `drop-aux-0.5_noise-0.3-rgb`; empty when nothing is degraded."""
        if self.is_none:
            return ""
        parts = [
            f"{c.kind}-{c.strength:g}" + ("" if c.pictures == "both" else f"-{c.pictures}")
            for c in self.corruptions
            if c.strength
        ]
        if self.drop and self.drop_rate:
            parts.insert(0, f"drop-{self.drop}-{self.drop_rate:g}" + ("-repeat" if self.fill == "repeat" else ""))
        return "_".join([*parts, *([f"seed{self.seed}"] if self.seed else [])])

    def apply(self, video: V, starts: Collection[int] = (0,)) -> V:
        """Degrade the frames of a video.

        Args:
            video: The video; none of its frames is read here.
            starts: Numbers of the frames that tracking starts on.

        Returns:
            The same video with another `read_frame`.
        """
        if self.is_none:
            return video
        lost = np.zeros(len(video), dtype=bool)
        if self.drop is not None:
            lost = np.asarray(_generator(self.seed, video.name, "drop").random(len(video)) < self.drop_rate)
            if self.drop_rate < 1:
                lost[list(starts)] = False
        return replace(video, read_frame=partial(self._read, video.name, video.read_frame, lost, set(starts)))

    def _read(self, name: str, read: Reader, lost: Mask, starts: Collection[int], index: int) -> Frame:
        """Frame `index` of a video; lost: [N] which frames lack the dropped picture."""
        frame = read(index)
        rgb, aux = frame.rgb, frame.aux
        if self.needs_aux and aux is None:
            raise ValueError(f"{name}, frame {index}: there is no second picture to drop or to corrupt")
        if lost[index]:
            kept = np.flatnonzero(~lost[:index])
            repeats = self.fill == "repeat" and len(kept) > 0
            stand_in = read(int(kept[-1])) if repeats else Frame(np.zeros_like(rgb), np.zeros_like(rgb))
            rgb, aux = (stand_in.rgb, aux) if self.drop == "rgb" else (rgb, stand_in.aux)
        if index not in starts:
            for number, corruption in enumerate(self.corruptions):
                corrupt = CORRUPTIONS[corruption.kind]
                stream = partial(_generator, self.seed, name, f"{number} {corruption.kind}")
                if corruption.pictures != "aux":
                    rgb = corrupt(rgb, corruption.strength, index, partial(stream, "rgb"))
                if corruption.pictures != "rgb" and aux is not None:
                    aux = corrupt(aux, corruption.strength, index, partial(stream, "aux"))
        return Frame(rgb, aux)


def add_noise(picture: Image, strength: float, index: int, stream: Stream) -> Image:
    """Gaussian noise in every channel.

    Args:
        picture: [H, W, 3] uint8.
        strength: Standard deviation of the noise in units of the whole range.
        index: Frame number.
        stream: Random numbers.
    """
    noise = stream(str(index)).standard_normal(picture.shape, dtype=np.float32) * np.float32(255 * strength)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def occlude(picture: Image, strength: float, index: int, stream: Stream) -> Image:
    """A grey block of the picture's shape that wanders over it.

    Args:
        picture: [H, W, 3] uint8.
        strength: Share of the picture that the block covers.
        index: Frame number.
        stream: Random numbers; all pictures of the video have the same.
    """
    height, width = picture.shape[:2]
    h, w = (round(side * float(np.sqrt(strength))) for side in (height, width))
    rng = stream()
    periods, phases = rng.uniform(60, 160, 2), rng.uniform(0, 2 * np.pi, 2)
    place = 0.5 + 0.5 * np.sin(2 * np.pi * index / periods + phases)
    top, left = round(float(place[0]) * (height - h)), round(float(place[1]) * (width - w))
    covered = picture.copy()
    covered[top : top + h, left : left + w] = GREY
    return covered


CORRUPTIONS: dict[str, Callable[[Image, float, int, Stream], Image]] = {"noise": add_noise, "occlusion": occlude}
"""Name on the command line -> what is done to a picture [H, W, 3] uint8."""


def _generator(seed: int, name: str, *parts: str) -> np.random.Generator:
    """Random numbers that follow from a seed, the name of a video, and what they are for."""
    digest = hashlib.blake2b(f"degradation {seed} {name} {' '.join(parts)}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
