"""Training samples as a pure function of (seed, epoch, index)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from lib.data.broken import FILE_ERRORS, BrokenFiles, TooManyBadSamplesError
from lib.data.modalities import as_read
from lib.data.picking import FramePicker, Pick
from lib.data.processing import InvalidSampleError
from lib.data.types import Dataset, Frame, FrameSet, Video

MAX_FRUITLESS = 500
"""Attempts in a row that one data set may fail before it is given up on."""

T = TypeVar("T")


def random_streams(seed: int, epoch: int, index: int) -> tuple[random.Random, np.random.Generator]:
    """Generators of one sample: which frames, and how they are augmented. The same on every platform."""
    digest = hashlib.blake2b(f"sample {seed} {epoch} {index}".encode(), digest_size=32).digest()
    picking, augmenting = int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little")
    return random.Random(picking), np.random.Generator(np.random.PCG64(augmenting))


class TrackingSampler(Generic[T]):
    """`sampler(epoch, index)` draws a data set by ratio, a sequence, frames, and makes a sample of them.

    What cannot be used is drawn anew: unreadable files (counted in `broken`), frames whose crop is invalid. Can be
    pickled for worker processes as far as the data sets can.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        ratios: Sequence[float],
        picker: FramePicker,
        make_sample: Callable[[FrameSet, np.random.Generator], T],
        seed: int,
        max_bad_samples: float = 0.01,
        pictures: Callable[[Frame], Frame] = as_read,
    ) -> None:
        """ratios: weights of the data sets, of any sum. make_sample: a `Processing` for crops, `WholeFrames` for clips.

        pictures: which of a frame's pictures samples show, see `lib.data.modalities`.
        Raises ValueError naming a data set from which nothing can be sampled.
        """
        _check_ratios(datasets, ratios)
        self.datasets = list(datasets)
        self.weights = [ratio / sum(ratios) for ratio in ratios]
        self.picker = picker
        self.make_sample = make_sample
        self.seed = seed
        self.pictures = pictures
        self.broken = BrokenFiles(max_share=max_bad_samples)
        self._fruitless = [0] * len(self.datasets)
        for dataset, weight in zip(self.datasets, self.weights, strict=True):
            if weight > 0:
                self._check_usable(dataset)

    def __call__(self, epoch: int, index: int) -> T:
        """Sample `index` of an epoch.

        Raises TooManyBadSamplesError when files fail more often than allowed, or when a data set yields nothing.
        """
        picking, augmenting = random_streams(self.seed, epoch, index)
        while True:
            number = self.draw_dataset(picking)
            try:
                sequence, pick = self.draw_frames(number, picking)
                sample = self.make_sample(self._read(number, sequence, pick), augmenting)
            except FILE_ERRORS as error:
                self.broken.add(error)
                self._failed(number, error)
            except InvalidSampleError as error:
                self.broken.good()
                self._failed(number, error)
            else:
                self.broken.good()
                self._fruitless[number] = 0
                return sample

    def draw_dataset(self, rng: random.Random) -> int:
        """Number of a data set, by the ratios."""
        return rng.choices(range(len(self.datasets)), self.weights)[0]

    def draw_frames(self, number: int, rng: random.Random) -> tuple[Video, Pick]:
        """A sequence of data set `number` that the picker accepts, and frames of it. Raises InvalidSampleError."""
        dataset = self.datasets[number]
        for _ in range(max(1000, 20 * len(dataset))):
            sequence = dataset[rng.randint(0, len(dataset) - 1)]
            if self.picker.accepts(sequence):
                pick = self.picker.pick(sequence, rng)
                if pick is None:
                    raise InvalidSampleError(f"no frames to pick in {sequence.name}")
                return sequence, pick
        raise InvalidSampleError(f"no sequence with {self.picker.requirement} was drawn")

    def _read(self, number: int, sequence: Video, pick: Pick) -> FrameSet:
        ids = (*pick.template, *pick.search)
        frames: dict[int, Frame] = {}
        for i in ids:
            if i not in frames:
                frames[i] = self.pictures(sequence.read_frame(i))
        boxes = sequence.boxes_xywh
        return FrameSet(
            template=tuple(frames[i] for i in pick.template),
            search=tuple(frames[i] for i in pick.search),
            template_boxes=boxes[list(pick.template)],
            search_boxes=boxes[list(pick.search)],
            modality=sequence.modality,
            dataset=self.datasets[number].name,
            sequence=sequence.name,
            frame_ids=ids,
        )

    def _failed(self, number: int, error: Exception) -> None:
        self._fruitless[number] += 1
        if self._fruitless[number] > MAX_FRUITLESS:
            name = self.datasets[number].name
            raise TooManyBadSamplesError(f"data set {name} gave no sample in {MAX_FRUITLESS} attempts; last: {error}")

    def _check_usable(self, dataset: Dataset) -> None:
        """One acceptable sequence is enough; the first one usually is."""
        unreadable: Exception | None = None
        for i in range(len(dataset)):
            try:
                if self.picker.accepts(dataset[i]):
                    return
            except FILE_ERRORS as error:
                unreadable = unreadable or error
        if unreadable is not None:
            raise ValueError(f"data set {dataset.name} has no usable sequence; the first problem: {unreadable}")
        raise ValueError(f"data set {dataset.name}: none of its {len(dataset)} sequences has {self.picker.requirement}")


def _check_ratios(datasets: Sequence[Dataset], ratios: Sequence[float]) -> None:
    if not datasets:
        raise ValueError("no data set to sample from")
    if len(datasets) != len(ratios):
        raise ValueError(f"{len(datasets)} data sets, but {len(ratios)} ratios")
    if min(ratios) < 0 or sum(ratios) <= 0:
        raise ValueError(f"the ratios of the data sets must not be negative, and not all zero: {list(ratios)}")
