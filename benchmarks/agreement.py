"""Agreement of the ways of computing the shipped network on synthetic sequences, in boxes and in the metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.bench import TrackerSpec, Way, demo_spec, single_steps
from lib.bench.metrics import SequenceResult, evaluate
from lib.data import Frame, Video, iou_xywh
from lib.deploy import CalibrationClip
from lib.track import Tracker, TrackerSession
from synthetic import build_synthetic


@dataclass(frozen=True)
class Agreement:
    """One way against official.

    step_pixels, step_overlap: median difference of box sides' ends in pixels and mean overlap, when every frame starts
    where official was. run_overlap: mean overlap when the way follows its own boxes. success: area under the curve in
    percent, as OSTrack's evaluation computes it, of its own boxes; moved: against official, and moved_error its
    standard error over the sequences: a target that one way loses and another keeps moves a sequence by much.
    """

    way: str
    sequences: int
    frames: int
    step_pixels: float
    step_overlap: float
    run_overlap: float
    success: float
    moved: float
    moved_error: float


def agreement(ways: dict[str, Way], count: int, length: int) -> list[Agreement]:
    data = build_synthetic(f"SYNTHETIC:seed=990001,sequences={count},length={length},difficulty=0.2")
    pictures = [[sequence.read_frame(i) for i in range(length)] for sequence in data]
    official = _tracker(Way())
    expected = [follow(official, s, p) for s, p in zip(data, pictures, strict=True)]
    reference = np.concatenate([r.prediction_xywh for r in expected])
    base = _successes(expected)
    found = []
    for name, way in ways.items():
        tracker = _tracker(way)
        steps = np.concatenate([guided(tracker, r.prediction_xywh, p) for r, p in zip(expected, pictures, strict=True)])
        runs = [follow(tracker, s, p) for s, p in zip(data, pictures, strict=True)]
        own = np.concatenate([r.prediction_xywh for r in runs])
        success = _successes(runs)
        moved = success - base
        corners = np.abs(_corners(steps) - _corners(reference)).max(axis=1)
        found.append(
            Agreement(
                name, count, len(own), float(np.median(corners)), float(iou_xywh(steps, reference).mean()),
                float(iou_xywh(own, reference).mean()), float(success.mean()), float(moved.mean()),
                float(moved.std(ddof=1) / len(moved) ** 0.5) if len(moved) > 1 else 0.0,
            )
        )  # fmt: skip
    return found


def _tracker(way: Way) -> Tracker:
    return demo_spec(TrackerSpec(device="cpu", protocol=way.protocol, engine=way.engine, scores="raw")).build()


def follow(tracker: Tracker, sequence: Video, pictures: list[Frame]) -> SequenceResult:
    session = TrackerSession(tracker)
    first = sequence.boxes_xywh[0]
    session.init(pictures[0], first.tolist())
    boxes = [tuple(first.tolist()), *(session.update(p)[0] for p in pictures[1:])]
    return SequenceResult(sequence.name, sequence.boxes_xywh, np.array(boxes), sequence.visible)


def guided(tracker: Tracker, path_xywh: np.ndarray, pictures: list[Frame]) -> np.ndarray:
    """Boxes [N, 4] of a tracker that starts every frame at the given path's box of the frame before."""
    path = torch.from_numpy(path_xywh)
    clip = CalibrationClip(pictures, torch.cat([path[:1], path[:-1]]))
    return torch.cat([path[:1], *single_steps(tracker, [clip])]).numpy()


def _successes(results: list[SequenceResult]) -> np.ndarray:
    """Area under the curve of every sequence, in percent."""
    return np.array([evaluate("ostrack", [r]).headline["auc"] for r in results])


def _corners(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def agreement_table(rows: list[Agreement]) -> str:
    head = f"{'way':<14} {'sequences':>9} {'frames':>6} {'px/step':>8} {'overlap/step':>12} {'overlap/run':>11}"
    head += f" {'success':>7} {'moved':>13}"
    lines = [
        f"{r.way:<14} {r.sequences:>9} {r.frames:>6} {r.step_pixels:8.3f} {r.step_overlap:12.4f} {r.run_overlap:11.4f} "
        f"{r.success:7.2f} {r.moved:+6.2f} ± {r.moved_error:4.2f}"
        for r in rows
    ]
    return "\n".join([head, *lines])
