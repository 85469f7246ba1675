"""Sequences as frame players: subsampled, downscaled pictures with true and predicted boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.bench.metrics.curves import overlap
from lib.bench.report.runs import TrackerRun
from lib.bench.result_files import corners_to_xywh
from lib.data import Boxes, Image, Video
from lib.viz import TRUTH, Player, Track, colour, fit, jpeg, side_by_side

SIZES = (400, 320, 256, 200, 160)


def worst_and_best(run: TrackerRun, count: int) -> tuple[list[str], list[str]]:
    """Names of the `count` sequences with the lowest and with the highest main score, no name in both."""
    scores = run.scores.per_sequence()
    order = sorted(scores, key=lambda name: scores[name])
    worst = order[: min(count, (len(order) + 1) // 2)]
    rest = order[len(worst) :]
    return worst, rest[::-1][:count]


def build_player(
    sequence: Video, runs: Sequence[TrackerRun], colours: Mapping[str, str], budget: int, most_frames: int = 60
) -> Player:
    """A player of one sequence for all trackers. budget: bytes of JPEG it may take; the pictures shrink to fit."""
    numbers = np.unique(np.linspace(0, len(sequence) - 1, min(most_frames, len(sequence))).round().astype(int))
    pictures, factor = _pictures(sequence, numbers)
    for longest in SIZES:
        shown = [fit(p, longest) for p in pictures]
        frames = [jpeg(p) for p in shown]
        if sum(map(len, frames)) <= budget:
            break
    factor *= shown[0].shape[1] / pictures[0].shape[1]
    truth = np.where(sequence.visible[:, None], sequence.boxes_xywh, np.nan)
    tracks = [Track("ground truth", TRUTH, truth[numbers] * factor, dashed=True)]
    for run in runs:
        boxes = _as_long(run.results[sequence.name], len(sequence))
        iou = np.where(sequence.visible & sequence.valid, overlap(boxes, sequence.boxes_xywh), np.nan)
        tracks.append(Track(run.name, colours[run.name], boxes[numbers] * factor, iou[numbers]))
    main = runs[0].scores
    tags = f"; {', '.join(sorted(sequence.attributes))}" if sequence.attributes else ""
    note = f"{main.labels[main.main]} {main.per_sequence()[sequence.name]:.1f}, {len(sequence)} frames{tags}"
    size = (shown[0].shape[1], shown[0].shape[0])
    return Player(sequence.name, size, frames, numbers.tolist(), tracks, note)


def tracker_colours(runs: Sequence[TrackerRun]) -> dict[str, str]:
    """Tracker name -> colour, the same in every plot, table and player."""
    return {run.name: colour(i) for i, run in enumerate(runs)}


def _pictures(sequence: Video, numbers: NDArray[np.int64]) -> tuple[list[Image], float]:
    """The frames, no larger than the largest size, and their scale."""
    pictures, scale = [], 1.0
    for i in numbers:
        whole = side_by_side(sequence.read_frame(int(i)))
        pictures.append(fit(whole, SIZES[0]))
        scale = pictures[-1].shape[1] / whole.shape[1]
    return pictures, scale


def _as_long(boxes: Boxes, frames: int) -> Boxes:
    """[frames, 4]; frames without a row get NaN."""
    boxes = corners_to_xywh(boxes) if boxes.shape[1] == 8 else boxes
    lacking = max(0, frames - len(boxes))
    return np.concatenate([boxes[:frames], np.full((lacking, 4), np.nan)])
