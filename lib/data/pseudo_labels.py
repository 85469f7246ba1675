"""Pseudo labels from optical flow: boxes around what moves unlike its surroundings, linked to one track per video.

The procedure of USOT (Zheng et al., ICCV 2021), by which GDSTrack (IJCAI 2025) labels its training videos: candidate
boxes from the optical flow of every third frame, the best path through them by dynamic programming, boxes between them
by interpolation, and qualities by which samples are drawn. Boxes are x1, y1, x2, y2 in image pixels, ends exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data.types import Boxes, Mask, Qualities
from lib.ranges import Count, NotNegative, Range

Flow = NDArray[np.float32]
"""[H, W, 2] displacement of every pixel in x and y, in pixels."""
Floats = NDArray[np.float64]

LEVELS = (0.7, 0.84)
"""Shares of the mean in the threshold between mean and maximum; each level gives a candidate."""
STILL, STANDS_OUT = 0.05, 2.5
"""A flow has candidates if its deviation from the mean is below this on average, or this many averages somewhere."""
MIN_PART, MIN_BOX, MIN_SIDE, MAX_SIDE, MAX_ASPECT, MARGIN = 80, 50, 0.02, 0.7, 6, 15
"""Least pixels of a component and of a box; sides in shares of the map; aspect ratio; pixels to the margin."""
REWARD, PATH_REACH, PATH_PENALTY, JUMP = 0.091, 100, 4.1, 3
"""Of the path: gain per candidate, longest step in frames with candidates, weight of distances, factor of jumps."""
WINDOW_PENALTY, SMOOTH, FOUND, WINDOW_STEP, WINDOW_REACH = 2.5, 0.45, 0.4, 2, 320
"""Of smooth windows: weight of distances, least agreement and least share of found boxes, step and reach in frames."""
AT_MARGIN, AT_ONE_AXIS = 10, 0.3
"""Pixels within which a box is at the margin; weight of a box that is there on one axis."""
MIN_PICKED, MAX_CORNER, MIN_QUALITY = 0.35, 0.4, 0.33


@dataclass(frozen=True)
class LabelSettings:
    """Settings of the procedure.

    Attributes:
        gap: Every how many frames the flow is evaluated.
        cut_ratio: Margin that is cut from the flow on every side, in shares of it.
        shake: Boxes outside the first and the last found one are moved by up to this many pixels, as long as they lie
            away from the left and the upper margin.
        linear: Interpolate between found boxes in the order of time. The published procedure has the weights of both
            exchanged.
    """

    gap: Count = 3
    cut_ratio: Annotated[float, Range(0, 0.5, below=True)] = 1 / 32
    shake: NotNegative = 3.0
    linear: bool = False

    def evaluated(self, count: int) -> list[int]:
        """The frames of a video whose flow is evaluated.

        Args:
            count: Frames of the video.
        """
        return list(range(self.gap, count - self.gap, self.gap))

    def inner(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a picture without its margins, in whole pixels."""
        cut = self.cut_ratio
        return int(width * cut), int(height * cut), int(width * (1 - cut)), int(height * (1 - cut))


@dataclass(frozen=True)
class PseudoTrack:
    """Pseudo labels of a video.

    Attributes:
        boxes: [N, 4] x1, y1, x2, y2 in image pixels, ends exclusive.
        qualities: How far they can be trusted.
        found: Share of the evaluated frames with candidates.
        picked_frames: Frames whose box is a candidate; the others are interpolated.
    """

    boxes: Boxes
    qualities: Qualities
    found: float
    picked_frames: NDArray[np.int64]

    @property
    def usable(self) -> bool:
        """True if it is good enough to learn from."""
        q = self.qualities
        return q.picked >= MIN_PICKED and q.corner <= MAX_CORNER and q.video >= MIN_QUALITY


def make_track(
    candidates: Sequence[Boxes], count: int, size_wh: tuple[int, int], settings: LabelSettings, rng: np.random.Generator
) -> PseudoTrack | None:
    """The labels of a video from the candidates of its evaluated frames.

    Args:
        candidates: [K, 4] for every frame of `settings.evaluated(count)`; K may be 0.
        count: Frames of the video.
        size_wh: Width and height of its pictures.
        settings: Of the procedure.
        rng: Moves boxes before the first and behind the last found one.

    Returns:
        Labels of all frames; None if nothing was found in any.
    """
    evaluated = np.array(settings.evaluated(count), dtype=np.int64)
    there = [i for i, boxes in enumerate(candidates) if len(boxes)]
    if not there:
        return None
    places, found = best_path([candidates[i] for i in there])
    picked = evaluated[np.array(there)[places]]
    boxes = fill_gaps(picked, found, count, settings, rng)
    short, long = (found_shares(picked, evaluated, count, near * settings.gap) for near in (3, 10))
    inner = settings.inner(*size_wh)
    qualities = Qualities(
        picked=len(picked) / len(evaluated),
        corner=corner_share(boxes, inner),
        short=short,
        long=long,
        window=smooth_windows(boxes, short),
        corner_score=corner_scores(boxes, inner),
    )
    return PseudoTrack(boxes, qualities, len(there) / len(evaluated), picked)


def candidate_boxes(flow: Flow, settings: LabelSettings) -> Boxes:
    """Boxes of what moves unlike the rest of the picture.

    Args:
        flow: [H, W, 2] of the whole picture.
        settings: `cut_ratio` is the margin that is left out.

    Returns:
        [K, 4] x1, y1, x2, y2, at most one per level.
    """
    height, width = flow.shape[:2]
    left, top, right, bottom = settings.inner(width, height)
    moved = flow[top:bottom, left:right].astype(np.float64)
    deviation = np.linalg.norm(moved - moved.mean(axis=(0, 1)), axis=2)
    mean, most = float(deviation.mean()), float(deviation.max())
    if mean >= STILL and most <= STANDS_OUT * mean:
        return np.zeros((0, 4))
    peak = np.unravel_index(int(deviation.argmax()), deviation.shape)
    found = [_best_component(deviation > level * mean + (1 - level) * most, peak) for level in LEVELS]
    offset = np.array([width, height] * 2) * settings.cut_ratio
    return np.array([box for box in found if box is not None], dtype=np.float64).reshape(-1, 4) + offset


def _best_component(moving: Mask, peak: tuple[np.intp, ...]) -> Boxes | None:
    """The box x1, y1, x2, y2 of the component of a map that scores best: large, central, and with the peak in it."""
    mask = moving.astype(np.uint8)
    for value in (1, 0):  # drop small components, then fill small holes
        _, labels, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < MIN_PART
        small[0] = False
        mask[small[labels]] = 1 - value
    stats = cv2.connectedComponentsWithStats(mask, connectivity=8)[2]
    x1, y1, w, h = stats[1:, : cv2.CC_STAT_AREA].astype(np.float64).T
    x2, y2, (rows, columns) = x1 + w, y1 + h, mask.shape
    area, margin_x, margin_y = w * h, np.minimum(x1, columns - x2), np.minimum(y1, rows - y2)
    score = area + 0.5 * margin_x * margin_y
    score *= np.where((x1 <= peak[1]) & (peak[1] < x2) & (y1 <= peak[0]) & (peak[0] < y2), 2, 1)
    at_x, at_y = margin_x <= MARGIN, margin_y <= MARGIN
    score *= np.where(at_x, 0.5, 1) * np.where(at_y, 0.5, 1)
    allowed = (w >= MIN_SIDE * columns) & (h >= MIN_SIDE * rows) & (area >= MIN_BOX)
    allowed &= np.maximum(w, h) <= MAX_ASPECT * np.minimum(w, h)
    allowed &= ~(at_x & (h > MAX_SIDE * rows)) & ~(at_y & (w > MAX_SIDE * columns))
    if not allowed.any():
        return None
    best = int(np.where(allowed, score, -np.inf).argmax())
    return np.array([x1[best], y1[best], x2[best], y2[best]])


def distance_iou(a: Boxes, b: Boxes, penalty: float) -> Floats:
    """IoU less the squared distance of the centres, in units of the squared diagonal around both boxes.

    Args:
        a, b: [..., 4] x1, y1, x2, y2; leading dimensions broadcast.
        penalty: Weight of the distance.

    Returns:
        [...].
    """
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    around = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    return np.asarray(shared / union - penalty * (apart**2).sum(axis=-1) / (around**2).sum(axis=-1))


def path_agreement(a: Boxes, b: Boxes) -> Floats:
    """Agreement of two candidates of a path: `distance_iou`, and jumps count three times."""
    agreement = distance_iou(a, b, PATH_PENALTY)
    return np.where(agreement < 0, JUMP * agreement, agreement)


def window_agreement(a: Boxes, b: Boxes) -> Floats:
    """Agreement of two boxes of a smooth window."""
    return distance_iou(a, b, WINDOW_PENALTY)


def best_path(candidates: Sequence[Boxes]) -> tuple[NDArray[np.int64], Boxes]:
    """The path through candidates that agree best, by dynamic programming; it may leave frames out.

    Every candidate gains `REWARD`, and every step the agreement of its two boxes.

    Args:
        candidates: [K, 4] for every frame that has some, K > 0.

    Returns:
        [P] positions in `candidates` in rising order, and [P, 4] boxes.
    """
    boxes, counts = np.concatenate(candidates), [len(c) for c in candidates]
    starts, frame_of = np.concatenate([[0], np.cumsum(counts)]), np.repeat(np.arange(len(counts)), counts)
    values, previous = np.full(len(boxes), -REWARD), np.full(len(boxes), -1)
    for frame in range(1, len(counts)):
        low, here = starts[max(0, frame - PATH_REACH)], slice(starts[frame], starts[frame + 1])
        before = slice(low, starts[frame])
        costs = values[before] - path_agreement(boxes[here, None], boxes[None, before]) - REWARD
        last_best = costs.shape[1] - 1 - costs[:, ::-1].argmin(axis=1)  # the latest of equal ones
        cost = np.take_along_axis(costs, last_best[:, None], axis=1)[:, 0]
        goes_on = cost <= -REWARD
        values[here] = np.where(goes_on, cost, -REWARD)
        previous[here] = np.where(goes_on, low + last_best, -1)
    ends = np.flatnonzero(values == values.min())
    path = [int(ends[frame_of[ends] == frame_of[ends[0]]][-1])]
    while previous[path[-1]] >= 0:
        path.append(int(previous[path[-1]]))
    return frame_of[path[::-1]], boxes[path[::-1]]


def fill_gaps(
    picked: NDArray[np.int64], boxes: Boxes, count: int, settings: LabelSettings, rng: np.random.Generator
) -> Boxes:
    """Boxes of all frames.

    Args:
        picked: [P] frames with a box, in rising order.
        boxes: [P, 4] their boxes.
        count: Frames of the video.
        settings: `linear` and `shake`.
        rng: Moves boxes before the first and behind the last one.

    Returns:
        [count, 4].
    """
    frames = np.arange(count)
    after = np.clip(np.searchsorted(picked, frames), 1, max(1, len(picked) - 1))
    before, after = after - 1, np.minimum(after, len(picked) - 1)
    share = (frames - picked[before]) / np.maximum(1, picked[after] - picked[before])
    share = (share if settings.linear else 1 - share)[:, None]
    filled = (1 - share) * boxes[before] + share * boxes[after]
    filled[picked] = boxes
    ends = ((slice(0, picked[0]), boxes[0], 75), (slice(picked[-1] + 1, count), boxes[-1], 50))
    for outside, box, away in ends:
        filled[outside] = box
        if settings.shake and box.min() >= away:
            filled[outside] += rng.uniform(-settings.shake, settings.shake, filled[outside].shape)
    return filled


def found_shares(picked: NDArray[np.int64], evaluated: NDArray[np.int64], count: int, reach: int) -> Floats:
    """Share of found boxes among the evaluated frames near each frame.

    Args:
        picked: Frames with a found box.
        evaluated: Frames that were looked at.
        count: Frames of the video.
        reach: Frames on either side that count.

    Returns:
        [count] in 0..1; 0 where no frame near was looked at.
    """
    low, high = np.maximum(0, np.arange(count) - reach), np.minimum(count, np.arange(count) + reach + 1)
    marks = np.zeros((2, count + 1))
    marks[0, picked + 1], marks[1, evaluated + 1] = 1, 1
    found, seen = marks.cumsum(axis=1)[:, high] - marks.cumsum(axis=1)[:, low]
    return np.asarray(found / np.maximum(1, seen))


def corner_share(boxes: Boxes, inner: tuple[int, int, int, int]) -> float:
    """Share of boxes at the margin, where a box that is there on one axis counts 0.3.

    Args:
        boxes: [N, 4].
        inner: The picture without its margins, `LabelSettings.inner`.
    """
    low, high = np.array(inner[:2]) + AT_MARGIN, np.array(inner[2:]) - AT_MARGIN
    axes = ((boxes[:, :2] < low) | (boxes[:, 2:] > high)).sum(axis=1)
    return float(np.array([0, AT_ONE_AXIS, 1])[axes].mean())


def corner_scores(boxes: Boxes, inner: tuple[int, int, int, int]) -> Floats:
    """Distance of boxes from the margin.

    Args:
        boxes: [N, 4].
        inner: The picture without its margins, `LabelSettings.inner`.

    Returns:
        [N], the sum over both axes of the distance in sides of `inner`, each at most 0.1.
    """
    low, high = np.array(inner[:2]), np.array(inner[2:])
    distance = np.minimum(np.abs(boxes[:, :2] - low), np.abs(high - boxes[:, 2:]))
    return np.asarray(np.minimum(distance / (high - low), 0.1).sum(axis=1))


def smooth_windows(boxes: Boxes, short: Floats) -> NDArray[np.int64]:
    """The frames around each frame up to which the box changes smoothly and was found often.

    Args:
        boxes: [N, 4].
        short: [N] share of found boxes near each frame.

    Returns:
        [N, 2] first and last frame. A frame in the window of the one before has the same window.
    """
    count = len(boxes)
    smooth = window_agreement(boxes[:-WINDOW_STEP], boxes[WINDOW_STEP:]) >= SMOOTH
    often = short > FOUND
    windows = np.zeros((count, 2), dtype=np.int64)
    for frame in range(count):
        if frame and frame <= windows[frame - 1, 1]:
            windows[frame] = windows[frame - 1]
            continue
        first = last = frame
        end, begin = min(count, frame + WINDOW_REACH + 1), max(0, frame - WINDOW_REACH)
        while last + WINDOW_STEP < end and smooth[last] and often[last + WINDOW_STEP]:
            last += WINDOW_STEP
        while first - WINDOW_STEP >= begin and smooth[first - WINDOW_STEP] and often[first - WINDOW_STEP]:
            first -= WINDOW_STEP
        windows[frame] = min(first + 1, frame), max(last - 1, frame)
    return windows
