"""Training samples as a pure function of (seed, epoch, index), and which frames of a video make a sample.

`TrackingSampler` draws a data set, a video and frames of it, reads them and makes a sample. Which frames is decided by
a frame sampler (`DATA.SAMPLER_MODE`) or, for sequence-level training, a clip sampler (`lib.data.clips`).
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from lib.catalogue import CATALOGUE
from lib.config import Data
from lib.data.io import FILE_ERRORS, BrokenFiles, DecodeError, TooManyBadSamplesError
from lib.data.modalities import as_read
from lib.data.types import Dataset, Frame, FrameSet, InvalidSampleError, Mask, Masks, RatedDataset, Video
from lib.files import sentence
from lib.registry import Registry

log = logging.getLogger(__name__)

MIN_LENGTH = 20
"""Frames of the shortest video that samples are taken from."""
INTERVAL_STEP = 5
"""Frames by which an interval grows when it holds too few visible frames."""
MAX_ROUNDS = 10_000
MAX_FAILED_ATTEMPTS = 500
"""Failed attempts in a row after which a data set is given up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FrameIds:
    """Frame numbers of one sample.

    Attributes:
        template: Frames that templates are cut from.
        search: Frames that search regions are cut from, or the frames of a clip.
        search_video: The video of the search frames of a negative pair; None for the video of the templates.
        real_length: Search frames before the copies that fill up a short clip; -1: there are no copies.
    """

    template: tuple[int, ...]
    search: tuple[int, ...]
    search_video: Video | None = None
    real_length: int = -1


class FrameSampler(Protocol):
    """Choice of the frames of a sample; a pure function of the random generator."""

    requirement: str
    """Requirement of `accepts`, for messages."""

    def accepts(self, video: Video) -> bool:
        """True if samples can be taken from a video.

        Args:
            video: The video; its annotations are read, its pictures are not.
        """

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        """Frames of an accepted video, or None if this attempt found none.

        Args:
            video: An accepted video.
            rng: Source of all random numbers.
            draw_video: Draws another accepted video from the same generator, all data sets in use being equally likely;
                for samplers whose search frame may show a different target.
        """


@runtime_checkable
class VideoChoice(Protocol):
    """A frame sampler that prefers some videos to others."""

    def choose_video(self, dataset: Dataset, index: int, rng: random.Random) -> int:
        """The number of the video to sample from, in place of the one that was drawn.

        Args:
            dataset: Where it was drawn from.
            index: Its number.
            rng: Source of all random numbers.
        """


FRAME_SAMPLERS: Registry[Callable[[Data], FrameSampler]] = Registry("sampler mode")
"""`DATA.SAMPLER_MODE` -> builder, called with the DATA section."""


def sample_visible(visible: Mask, count: int, low: int, high: int, rng: random.Random) -> list[int] | None:
    """Draw visible frames with replacement.

    Args:
        visible: [N] bool, the frames that can be drawn.
        count: Number of frames; 0 draws nothing.
        low, high: Range of frame numbers, `high` exclusive, clipped to the video.
        rng: Source of all random numbers.

    Returns:
        `count` frame numbers, or None if no frame of the range is visible.
    """
    if count == 0:
        return []
    low, high = max(0, low), min(len(visible), high)
    candidates = np.flatnonzero(visible[low:high]) + low if high > low else np.empty(0, dtype=np.int64)
    return [int(i) for i in rng.choices(candidates, k=count)] if len(candidates) else None


def _max_interval(data: Data) -> int:
    """MAX_SAMPLE_INTERVAL in frames; of a list, as published files have it, the first entry."""
    interval = data.max_sample_interval
    return interval if isinstance(interval, int) else interval[0]


@FRAME_SAMPLERS.register("interval")
class IntervalSampler:
    """A first template and all other frames on either side of it (TransT, CVPR 2021; DiMP, ICCV 2019).

    The interval around the first template starts at MAX_SAMPLE_INTERVAL and grows by five frames with every failed
    attempt; the first template is drawn again each time. The frame of a still image is used as often as frames are
    needed.
    """

    causal = False
    """Further templates come before the first one, search frames after it."""

    def __init__(self, data: Data) -> None:
        self.templates, self.searches = data.template.number, data.search.number
        self.interval = _max_interval(data)
        self.least_visible = 2 * (self.templates + self.searches)
        self.requirement = f"at least {MIN_LENGTH} frames, and more than {self.least_visible} with a visible target"

    def accepts(self, video: Video) -> bool:
        return not video.is_video or (len(video) >= MIN_LENGTH and int(video.visible.sum()) > self.least_visible)

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        if not video.is_video:
            return FrameIds((0,) * self.templates, (0,) * self.searches)
        low, high = (self.templates - 1, len(video) - self.searches) if self.causal else (0, len(video))
        interval = self.interval
        for _ in range(MAX_ROUNDS):
            base = sample_visible(video.visible, 1, low, high, rng)
            if base is None:
                return None
            ids = self.around(video.visible, base[0], interval, rng)
            if ids is not None:
                return ids
            interval += INTERVAL_STEP
        return None

    def around(self, visible: Mask, base: int, interval: int, rng: random.Random) -> FrameIds | None:
        """The sample with this base frame.

        Args:
            visible: [N] bool, the frames that can be drawn.
            base: The frame that was drawn first.
            interval: Largest distance in frames of the others from it.
            rng: Source of all random numbers.

        Returns:
            The frames, or None if the interval holds too few visible ones.
        """
        end = base if self.causal else base + interval
        others = sample_visible(visible, self.templates - 1, base - interval, end, rng)
        if others is None:
            return None
        start = base + 1 if self.causal else base - interval
        search = sample_visible(visible, self.searches, start, base + interval, rng)
        return None if search is None else FrameIds((base, *others), tuple(search))


@FRAME_SAMPLERS.register("causal")
class CausalSampler(IntervalSampler):
    """Further templates before the first one, search frames after it (OSTrack, ECCV 2022)."""

    causal = True


@FRAME_SAMPLERS.register("order")
class OrderSampler(IntervalSampler):
    """All frames from both sides of a base frame, sorted forward or backward (CSTrack, ICML 2025).

    The first ones are the templates, so that all search frames lie on one side of them.
    """

    def around(self, visible: Mask, base: int, interval: int, rng: random.Random) -> FrameIds | None:
        drawn = sample_visible(visible, self.templates + self.searches, base - interval, base + interval, rng)
        if drawn is None:
            return None
        ordered = sorted(drawn, reverse=rng.random() < 0.5)
        return FrameIds(tuple(ordered[: self.templates]), tuple(ordered[self.templates :]))


@FRAME_SAMPLERS.register("window")
class WindowSampler:
    """Templates from anywhere; a first search frame on either side of the first template, the others behind each other.

    Each lies at most MAX_SAMPLE_INTERVAL frames from the one before. The search frame that was drawn last comes first
    in the sample: of two, the second is next to the template (GDSTrack, IJCAI 2025, which learns from the first in one
    stage and from the second in the other). Boxes need sides of a pixel.
    """

    def __init__(self, data: Data) -> None:
        self.templates, self.searches = data.template.number, data.search.number
        self.interval = _max_interval(data)
        self.requirement = "a frame with a box of a pixel or more"

    def accepts(self, video: Video) -> bool:
        return bool(_usable(video).any())

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        length = len(video)
        templates = tuple(rng.randrange(length) for _ in range(self.templates))
        search = [rng.randrange(max(0, templates[0] - self.interval), min(length, templates[0] + self.interval))]
        while len(search) < self.searches:
            search.append(rng.randrange(search[-1], min(length, search[-1] + self.interval)))
        usable = _usable(video)
        return FrameIds(templates, tuple(search[::-1])) if all(usable[[*templates, *search]]) else None


def _usable(video: Video) -> Mask:
    """[N] bool: frames whose target is visible in a box of a pixel or more."""
    return np.asarray(video.visible & (video.boxes_xywh[:, 2:] >= 1).all(axis=1))


@FRAME_SAMPLERS.register("quality")
class QualitySampler:
    """Successive frames of pseudo labels, from videos and at frames of good quality (GDSTrack, IJCAI 2025; USOT).

    A drawn video below VIDEO_QUALITY, or with many boxes at the margin, is exchanged for a better one near it in the
    data set. The first template is the best of some frames, the more the worse the video is. Further templates and the
    search frames follow it without a gap.
    """

    near, rounds, videos = 30, 20, 3
    """Videos on either side that may take the place of a bad one; how often that many of them are compared."""

    def __init__(self, data: Data) -> None:
        self.templates, self.length = data.template.number, data.template.number + data.search.number
        self.min_quality, self.max_corner_share = data.video_quality, data.max_corner_share
        self.frame_quality = data.frame_quality
        self.requirement = f"{self.length} frames of pseudo labels (a data set such as LASHER_pseudo)"

    def accepts(self, video: Video) -> bool:
        return video.qualities is not None and len(video) >= self.length

    def choose_video(self, dataset: RatedDataset, index: int, rng: random.Random) -> int:
        own = dataset.qualities(index)
        if own.video >= self.min_quality and own.corner < self.max_corner_share:
            return index
        around = range(max(0, index - self.near), max(1, min(len(dataset) - 1, index + self.near + 1)))
        best = index
        for _ in range(self.rounds):
            best = max(rng.choices(around, k=self.videos), key=lambda i: dataset.qualities(i).video)
            if dataset.qualities(best).video > self.min_quality:
                break
        return best

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        assert video.qualities is not None
        starts = rng.choices(range(len(video) - self.length + 1), k=video.qualities.tries)
        first = starts[int(video.qualities.frames(starts, self.frame_quality).argmax())]
        ids = range(first, first + self.length)
        return FrameIds(tuple(ids[: self.templates]), tuple(ids[self.templates :]))


@FRAME_SAMPLERS.register("pair")
class PairSampler:
    """One template and one search frame nearby, or of another video (DaSiamRPN, ECCV 2018; SiamRPN++, CVPR 2019).

    The frames are drawn from those with a valid box, occluded targets included, as published. MAX_SAMPLE_INTERVAL
    counts them, or INTERVAL_BY_DATASET where the data set is in it. A share of NEGATIVE_PAIRS has a search frame of any
    other video, which shows what does not match the template; ratios of data sets do not count for it, as published.
    """

    def __init__(self, data: Data) -> None:
        self.interval = _max_interval(data)
        self.by_dataset = {CATALOGUE[name].key: value for name, value in data.interval_by_dataset.items()}
        self.negative = data.negative_pairs
        self.requirement = "a frame with a valid box"
        if (data.template.number, data.search.number) != (1, 1):
            raise ValueError("DATA.SAMPLER_MODE pair draws one template and one search frame; leave NUMBER at 1")

    def accepts(self, video: Video) -> bool:
        return bool(video.valid.any())

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        is_negative = self.negative > 0 and rng.random() < self.negative
        usable = np.flatnonzero(video.valid)
        place = rng.randrange(len(usable))
        template = (int(usable[place]),)
        if not is_negative:
            interval = self.by_dataset.get(video.dataset, self.interval)
            near = usable[max(place - interval, 0) : place + interval + 1]
            return FrameIds(template, (int(rng.choice(near)),))
        other = draw_video()
        return FrameIds(template, (int(rng.choice(np.flatnonzero(other.valid))),), other)


def random_streams(seed: int, epoch: int, index: int) -> tuple[random.Random, np.random.Generator]:
    """Random generators of one sample, the same on every platform.

    Args:
        seed: TRAIN.SEED.
        epoch: Counted from 1.
        index: Position in the epoch, over all processes.

    Returns:
        The generator of frame sampling and that of augmentation.
    """
    digest = hashlib.blake2b(f"sample {seed} {epoch} {index}".encode(), digest_size=32).digest()
    sampling, augmenting = int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little")
    return random.Random(sampling), np.random.Generator(np.random.PCG64(augmenting))


class TrackingSampler(Generic[T]):
    """`sampler(epoch, index)` draws a data set by ratio, a video and frames of it, and makes a sample.

    Unusable draws are repeated: unreadable files (counted in `broken`) and frames whose crop is invalid. Can be pickled
    for worker processes if the data sets can.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        ratios: Sequence[float],
        frame_sampler: FrameSampler,
        make_sample: Callable[[FrameSet, np.random.Generator], T],
        seed: int,
        max_bad_samples: float = 0.01,
        pictures: Callable[[Frame], Frame] = as_read,
        masks: bool = False,
    ) -> None:
        """Check that samples can be taken from every data set.

        Args:
            datasets: Where videos come from, at least one.
            ratios: Weights of the data sets, not negative, of any sum.
            frame_sampler: Chooses the frames of a sample.
            make_sample: A `Processing` for crops, `WholeFrames` for clips.
            seed: Of all random numbers.
            max_bad_samples: Tolerated share of unreadable samples, 0..1.
            pictures: Which pictures of a frame are used, see `lib.data.modalities`.
            masks: Also read the target's masks (DATA.MASKS).

        Raises:
            ValueError: Naming a data set from which nothing can be sampled.
        """
        if len(datasets) != len(ratios) or min(ratios) < 0 or sum(ratios) <= 0:
            raise ValueError(
                f"expected {len(datasets)} ratios of data sets, not negative, and not all zero, found {list(ratios)}"
            )
        self.datasets = list(datasets)
        self.weights = [ratio / sum(ratios) for ratio in ratios]
        self.frame_sampler = frame_sampler
        self.make_sample = make_sample
        self.seed = seed
        self.pictures = pictures
        self.masks = masks
        self.broken = BrokenFiles(max_share=max_bad_samples)
        self._failed_attempts = [0] * len(self.datasets)
        usable = [self._usable_video(d) for d, weight in zip(self.datasets, self.weights, strict=True) if weight > 0]
        if masks and not any(video.read_mask for video in usable):
            names = ", ".join(sorted({dataset.name for dataset in self.datasets}))
            log.warning("DATA.MASKS: there is no mask in %s, so that none is learned", names)

    def __call__(self, epoch: int, index: int) -> T:
        """Sample `index` of an epoch.

        Raises:
            TooManyBadSamplesError: Files fail more often than tolerated, or a data set yields no sample.
        """
        sampling, augmenting = random_streams(self.seed, epoch, index)
        while True:
            number = self.draw_dataset(sampling)
            try:
                sample = self.make_sample(self.read(*self.draw_frames(number, sampling)), augmenting)
            except (*FILE_ERRORS, InvalidSampleError) as error:
                if isinstance(error, InvalidSampleError):
                    self.broken.count_read()
                else:
                    self.broken.count_unreadable(error)
                self._failed_attempts[number] += 1
                if self._failed_attempts[number] > MAX_FAILED_ATTEMPTS:
                    raise TooManyBadSamplesError(
                        f"data set {self.datasets[number].name} gave no sample in {MAX_FAILED_ATTEMPTS} attempts; "
                        f"last: {sentence(error)}"
                    ) from error
            else:
                self.broken.count_read()
                self._failed_attempts[number] = 0
                return sample

    def draw_dataset(self, rng: random.Random, evenly: bool = False) -> int:
        """The number of a data set, drawn by the ratios.

        Args:
            rng: Source of all random numbers.
            evenly: Of all that have a ratio above 0, each equally likely.
        """
        weights = [weight > 0 for weight in self.weights] if evenly else self.weights
        return rng.choices(range(len(self.datasets)), weights)[0]

    def draw_video(self, number: int, rng: random.Random) -> Video:
        """A video that the frame sampler accepts.

        Args:
            number: Of the data set.
            rng: Source of all random numbers.

        Raises:
            InvalidSampleError: Many attempts gave none.
        """
        dataset, sampler = self.datasets[number], self.frame_sampler
        for _ in range(max(1000, 20 * len(dataset))):
            index = rng.randint(0, len(dataset) - 1)
            video = dataset[sampler.choose_video(dataset, index, rng) if isinstance(sampler, VideoChoice) else index]
            if self.frame_sampler.accepts(video):
                return replace(video, dataset=dataset.name)
        raise InvalidSampleError(f"no sequence with {self.frame_sampler.requirement} was drawn")

    def draw_frames(self, number: int, rng: random.Random) -> tuple[Video, FrameIds]:
        """A video and frames of it.

        Args:
            number: Of the data set.
            rng: Source of all random numbers.

        Raises:
            InvalidSampleError: No video, or no frames of the video, fit.
        """
        video = self.draw_video(number, rng)
        ids = self.frame_sampler.sample(video, rng, lambda: self.draw_video(self.draw_dataset(rng, evenly=True), rng))
        if ids is None:
            raise InvalidSampleError(f"no frames to sample in {video.name}")
        return video, ids

    def read(self, video: Video, ids: FrameIds) -> FrameSet:
        """Read the frames of a sample, each once.

        Raises:
            OSError, DecodeError: A picture is missing or damaged, or a mask has another size.
        """
        other = ids.search_video or video

        @cache
        def frame(own: bool, i: int) -> Frame:
            return self.pictures((video if own else other).read_frame(i))

        def masks(of: Video, numbers: Sequence[int]) -> Masks | None:
            found = of.masks(numbers)
            for i, mask in zip(numbers, found or (), strict=False):
                size_hw = frame(of is video, i).size_hw
                if mask is not None and mask.shape != size_hw:
                    sizes = [" x ".join(map(str, reversed(shape))) for shape in (mask.shape, size_hw)]
                    raise DecodeError(f"{of.frame_path(i)}: a mask of {sizes[0]} pixels for a picture of {sizes[1]}")
            return found

        has_masks = self.masks and video.read_mask is not None and other.read_mask is not None
        return FrameSet(
            template=tuple(frame(True, i) for i in ids.template),
            search=tuple(frame(other is video, i) for i in ids.search),
            template_boxes=video.boxes_xywh[list(ids.template)],
            search_boxes=other.boxes_xywh[list(ids.search)],
            modality=video.modality,
            dataset=video.dataset,
            sequence=video.name,
            frame_ids=(*ids.template, *ids.search),
            negative_sequence="" if ids.search_video is None else f"{other.dataset}/{other.name}",
            real_length=ids.real_length,
            template_masks=masks(video, ids.template) if has_masks else None,
            search_masks=masks(other, ids.search) if has_masks else None,
        )

    def _usable_video(self, dataset: Dataset) -> Video:
        """One acceptable video is enough; the first one usually is."""
        unreadable: Exception | None = None
        for i in range(len(dataset)):
            try:
                if self.frame_sampler.accepts(video := dataset[i]):
                    return video
            except FILE_ERRORS as error:
                unreadable = unreadable or error
        if unreadable is not None:
            raise ValueError(f"data set {dataset.name} has no usable sequence; the first problem: {unreadable}")
        raise ValueError(
            f"data set {dataset.name}: none of its {len(dataset)} sequences has {self.frame_sampler.requirement}"
        )
