"""Data sets in memory: noise pictures that depend on sequence and frame alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib.config import Data, Region
from lib.data import (
    FRAME_SAMPLERS,
    AnnotationError,
    DecodeError,
    Frame,
    Modality,
    Processing,
    TrackingSampler,
    Video,
)

HEIGHT, WIDTH = 60, 80


@dataclass
class TinyFrames:
    sequence: int
    broken: frozenset[int]
    aux: bool

    def __call__(self, index: int) -> Frame:
        if index in self.broken:
            raise DecodeError(f"tiny/{self.sequence}/{index}.jpg: cut short")
        rng = np.random.default_rng([self.sequence, index])
        draw = lambda: rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)  # noqa: E731
        return Frame(draw(), draw() if self.aux else None)

    def path(self, index: int) -> str:
        return f"tiny/{self.sequence}/{index}.jpg"


@dataclass
class TinyDataset:
    """`broken`: frames of each sequence that cannot be decoded. `bad_annotations`: sequences without readable boxes."""

    name: str = "TINY"
    sequences: int = 3
    frames: int = 30
    visible_share: float = 1.0
    broken: frozenset[int] = frozenset()
    bad_annotations: frozenset[int] = frozenset()
    aux: bool = False
    is_video: bool = True
    box: tuple[float, float, float, float] = (30.0, 20.0, 16.0, 12.0)
    modality: Modality = field(default=Modality.RGB)

    def __len__(self) -> int:
        return self.sequences

    def __getitem__(self, index: int) -> Video:
        if index in self.bad_annotations:
            raise AnnotationError(f"tiny/{index}/groundtruth.txt: no annotation row")
        length = self.frames if self.is_video else 1
        boxes = np.tile(np.array(self.box), (length, 1))
        visible = np.random.default_rng(index).random(length) < self.visible_share
        frames = TinyFrames(index, self.broken, self.aux)
        return Video(
            f"seq{index}", boxes, visible, visible, frames, frames.path, modality=self.modality, is_video=self.is_video
        )


def section(templates: int = 1, searches: int = 1, interval: int = 200, **keys) -> Data:
    """A DATA section with small crops."""
    return Data(
        template=Region(32, 2.0, number=templates),
        search=Region(64, 4.0, 3.0, 0.25, number=searches),
        max_sample_interval=interval,
        **keys,
    )


def sampler(*datasets: TinyDataset, ratios=None, data=None, seed=1, mode="causal", **options) -> TrackingSampler:
    datasets, data = datasets or (TinyDataset(),), data or section()
    ratios = ratios or [1.0] * len(datasets)
    return TrackingSampler(datasets, ratios, FRAME_SAMPLERS[mode](data), Processing(data), seed, **options)


def no_other_video() -> Video:
    raise AssertionError("this sampler takes all frames from one video")
