"""Which frames make a clip for sequence-level training (SLT, Kim et al., ECCV 2022, supplement).

Frames that skip are the augmentation of a sequence: with a probability the clip runs through the video in random steps,
otherwise frame by frame.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from lib.data.picking import Pick, draw_visible
from lib.data.types import Mask, Video


@dataclass(frozen=True, slots=True)
class ClipRule:
    """frames: per clip, the first of which gives the box that tracking starts from.

    max_gap: how many frames after the template the clip may begin; negative: it begins with the template's frame.
    max_interval, interval_prob: largest step between frames, and how often a clip is taken in such random steps.
    reverse: how often time runs backwards, from the end of the video to its beginning.
    """

    frames: int = 24
    max_gap: int = 300
    max_interval: int = 10
    interval_prob: float = 0.3
    reverse: float = 0.0


class ClipPicker:
    """One template, then the frames of a clip, in which the target can be seen throughout.

    A video that is too short for the clip ends in copies of its last frame. An image is a clip of itself.
    """

    def __init__(self, rule: ClipRule) -> None:
        self.rule = rule
        self.requirement = (
            f"more than {2 * (rule.frames + 1)} frames with a visible target, as clips of {rule.frames} frames need"
        )

    def accepts(self, sequence: Video) -> bool:
        if not sequence.is_video:
            return True
        count = self.rule.frames
        return len(sequence) >= count + 1 and int(usable(sequence).sum()) > 2 * (count + 1)

    def pick(self, sequence: Video, rng: random.Random) -> Pick | None:
        rule = self.rule
        if not sequence.is_video:
            return Pick((0,), (0,) * rule.frames)
        visible = usable(sequence)
        backwards = rule.reverse > 0 and rng.random() < rule.reverse
        visible = visible[::-1] if backwards else visible
        stepping = rng.random() < rule.interval_prob
        pick = self._in_steps(visible, rng) if stepping else self._one_by_one(visible, rng)
        if pick is None or not backwards:
            return pick
        last = len(visible) - 1
        return Pick(tuple(last - i for i in pick.template), tuple(last - i for i in pick.search))

    def _one_by_one(self, visible: Mask, rng: random.Random) -> Pick | None:
        frames, length = self.rule.frames, len(visible)
        template = draw_visible(visible, 1, 0, length - frames, rng)
        if template is None:
            return None
        start = self._start(visible, template[0], length - frames, rng)
        if start is None:
            return None
        seen = np.flatnonzero(visible[start:]) + start
        return Pick((template[0],), _padded([int(i) for i in seen[:frames]], frames))

    def _in_steps(self, visible: Mask, rng: random.Random) -> Pick | None:
        """The room that is left for the steps shrinks until a visible frame is found to start from."""
        frames, length = self.rule.frames, len(visible)
        widest = max(1, min(self.rule.max_interval, length // (frames - 1)))
        template = next(
            (t[0] for a in range(widest, 0, -1) if (t := draw_visible(visible, 1, 0, length - a * (frames - 1), rng))),
            int(visible.argmax()),
        )
        start = next(
            (
                s
                for a in range(widest, -1, -1)
                if (s := self._start(visible, template, max(length - a * (frames - 1), template + 1), rng)) is not None
            ),
            template,
        )
        return Pick((template,), _padded(self._walk(visible, start, rng), frames))

    def _start(self, visible: Mask, template: int, end: int, rng: random.Random) -> int | None:
        """The clip's first frame, from [template, end) within the gap."""
        if self.rule.max_gap < 0:
            return template
        drawn = draw_visible(visible, 1, template, min(end, template + self.rule.max_gap), rng)
        return None if drawn is None else drawn[0]

    def _walk(self, visible: Mask, start: int, rng: random.Random) -> list[int]:
        """Random steps from `start` on; a step may stay where it is. Frames are added where the video ends too soon."""
        frames, reach = self.rule.frames, self.rule.max_interval
        taken, last = [start], start
        while len(taken) < frames and last < len(visible) - 1:
            drawn = draw_visible(visible, 1, last, last + reach + 1, rng)
            if drawn is None:
                last += reach
                continue
            last = drawn[0]
            taken.append(last)
        if len(taken) < frames:
            later = np.setdiff1d(np.flatnonzero(visible[start + 1 :]) + start + 1, taken)
            missing = min(frames - len(taken), len(later))
            taken += [int(i) for i in rng.choices(later, k=missing)] if missing else []
        return sorted(taken)


def usable(sequence: Video) -> Mask:
    """[N] bool: frames in which the target can be seen and has a box."""
    return np.asarray(sequence.visible & sequence.valid)


def _padded(frames: list[int], count: int) -> tuple[int, ...]:
    return (*frames, *frames[-1:] * (count - len(frames)))
