"""Which frames of a sequence make a sample: one picker per sampler mode (`DATA.SAMPLER_MODE`)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lib.data.types import Mask, Video
from lib.registry import Registry

MIN_LENGTH = 20
GAP_STEP = 5
MAX_ROUNDS = 10_000


@dataclass(frozen=True, slots=True)
class Pick:
    """Frame numbers of one sample."""

    template: tuple[int, ...]
    search: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PickRule:
    """templates, searches: frames per sample. intervals: how far apart they may lie, in frames."""

    templates: int = 1
    searches: int = 1
    intervals: tuple[int, ...] = (200,)


class FramePicker(Protocol):
    """One sampler mode."""

    requirement: str
    """What `accepts` asks for, for messages."""

    def accepts(self, sequence: Video) -> bool:
        """Whether samples can be picked from this video."""
        ...

    def pick(self, sequence: Video, rng: random.Random) -> Pick | None:
        """Frames of an accepted sequence, or None where this attempt found none."""
        ...


SAMPLERS: Registry[Callable[[PickRule], FramePicker]] = Registry("sampler mode")


def enough_visible(sequence: Video, rule: PickRule) -> bool:
    """More than twice as many visible frames as a sample has, and not a very short video. Images always pass."""
    if not sequence.is_video:
        return True
    return len(sequence) >= MIN_LENGTH and int(sequence.visible.sum()) > 2 * (rule.templates + rule.searches)


def draw_visible(visible: Mask, count: int, low: int, high: int, rng: random.Random) -> list[int] | None:
    """`count` visible frames of [low, high), with replacement, cut to the video; None where there is none."""
    if count == 0:
        return []
    low, high = max(0, low), min(len(visible), high)
    candidates = np.flatnonzero(visible[low:high]) + low if high > low else np.empty(0, dtype=np.int64)
    return [int(i) for i in rng.choices(candidates, k=count)] if len(candidates) else None


class GrowingPicker:
    """A first frame, and the others within an interval of it that grows until there are enough.

    The interval grows by five frames each time none is found, and another first frame is drawn. An image is picked as
    often as frames are needed. Subclasses say which frames go with a first one.
    """

    def __init__(self, rule: PickRule) -> None:
        self.rule = rule
        self.requirement = (
            f"at least {MIN_LENGTH} frames, and more than {2 * (rule.templates + rule.searches)} with a visible target"
        )

    def accepts(self, sequence: Video) -> bool:
        return enough_visible(sequence, self.rule)

    def pick(self, sequence: Video, rng: random.Random) -> Pick | None:
        if not sequence.is_video:
            return Pick((0,) * self.rule.templates, (0,) * self.rule.searches)
        visible, interval = sequence.visible, self.rule.intervals[0]
        for _ in range(MAX_ROUNDS):
            first = draw_visible(visible, 1, *self.firsts(len(visible)), rng)
            if first is None:
                return None
            pick = self.around(visible, first[0], interval, rng)
            if pick is not None:
                return pick
            interval += GAP_STEP
        return None

    def firsts(self, length: int) -> tuple[int, int]:
        """First and last (exclusive) number of the first frame in a video of `length` frames."""
        return 0, length

    def around(self, visible: Mask, base: int, interval: int, rng: random.Random) -> Pick | None:
        """The frames of a sample whose first one is `base`, or None where the interval has none."""
        raise NotImplementedError


class TemplateFirstPicker(GrowingPicker):
    """The first frame is a template. Subclasses say where further templates and search frames may lie."""

    def around(self, visible: Mask, base: int, interval: int, rng: random.Random) -> Pick | None:
        others = draw_visible(visible, self.rule.templates - 1, *self.templates(base, interval), rng)
        if others is None:
            return None
        search = draw_visible(visible, self.rule.searches, *self.searches(base, interval), rng)
        return None if search is None else Pick((base, *others), tuple(search))

    def templates(self, base: int, interval: int) -> tuple[int, int]:
        """First and last (exclusive) number of further templates, when the first one is `base`."""
        raise NotImplementedError

    def searches(self, base: int, interval: int) -> tuple[int, int]:
        """The same for search frames."""
        raise NotImplementedError


@SAMPLERS.register("causal")
class CausalPicker(TemplateFirstPicker):
    """Search frames after the template, at most the interval behind it (OSTrack, ECCV 2022).

    Further templates come from the interval before the first one.
    """

    def firsts(self, length: int) -> tuple[int, int]:
        return self.rule.templates - 1, length - self.rule.searches

    def templates(self, base: int, interval: int) -> tuple[int, int]:
        return base - interval, base

    def searches(self, base: int, interval: int) -> tuple[int, int]:
        return base + 1, base + interval


@SAMPLERS.register("interval")
class IntervalPicker(TemplateFirstPicker):
    """Search frames and further templates before or after the first template (TransT, CVPR 2021; DiMP, ICCV 2019)."""

    def templates(self, base: int, interval: int) -> tuple[int, int]:
        return base - interval, base + interval

    def searches(self, base: int, interval: int) -> tuple[int, int]:
        return base - interval, base + interval


@SAMPLERS.register("order")
class OrderPicker(GrowingPicker):
    """All frames drawn alike from both sides of one frame, then put in order, forward or backward (CSTrack, ICML 2025).

    The first of them are the templates, so that all search frames lie on one side of them.
    """

    def around(self, visible: Mask, base: int, interval: int, rng: random.Random) -> Pick | None:
        count = self.rule.templates + self.rule.searches
        drawn = draw_visible(visible, count, base - interval, base + interval, rng)
        if drawn is None:
            return None
        ordered = sorted(drawn, reverse=rng.random() < 0.5)
        return Pick(tuple(ordered[: self.rule.templates]), tuple(ordered[self.rule.templates :]))
