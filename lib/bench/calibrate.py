"""Calibrating a tracker's scores: track annotated videos, fit the expected overlap, measure its reliability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.bench.metrics import Reliability, overlap, reliability
from lib.bench.metrics.curves import Floats
from lib.data import Frame, Video
from lib.track import Calibration, StagedTracker, confidence_init, measured_step, update_rows

HIDDEN, PENALTY, STEPS = 4, 0.003, 150
"""Units of the fit, weight of its squared weights, steps of its descent: by cross-validation and five real clips."""
FOLDS = 4
"""Parts that the videos are divided into for cross-validation."""
DISPLACEMENT = 0.08
"""Chance, per frame of the second pass, that the tracker is moved to a wrong box, or back to the true one."""


@dataclass(frozen=True)
class ConfidenceSamples:
    """Frames of tracked videos.

    Attributes:
        features: [N, F] of `measure_features`.
        raw: [N] the tracker's own scores.
        overlaps: [N] with the truth, 0 where the target is absent.
        videos: [N] number of the video.
        natural: [N] bool, the tracker was not moved there.
    """

    features: Tensor
    raw: Floats
    overlaps: Floats
    videos: NDArray[np.int64]
    natural: NDArray[np.bool_]

    def select(self, rows: NDArray[np.bool_]) -> ConfidenceSamples:
        """Some frames."""
        kept = {name: value[rows] for name, value in vars(self).items() if name != "features"}
        return ConfidenceSamples(self.features[torch.from_numpy(rows)], **kept)


class _Pass:
    """One of the two passes through a video: undisturbed, or with a tracker that is moved now and then.

    Attributes:
        at: Position of the frame.
        natural: The tracker was not moved here.
    """

    def __init__(self, video: Video, number: int, displaced: bool, seed: int) -> None:
        self.video, self.number, self.displaced = video, number, displaced
        self.has_truth: NDArray[np.bool_] = np.asarray((video.boxes_xywh[:, 2:] > 0).all(axis=1))
        self.start = self.at = int(np.argmax(self.has_truth))
        self.natural = True
        self.rng = np.random.default_rng([seed, number, int(displaced)])

    def read(self) -> Frame:
        frame = self.video.read_frame(self.at)
        self.size_hw = frame.size_hw
        return frame

    def displacement(self) -> Floats | None:
        """[4] box that the tracker is moved to before the next frame; mostly None."""
        if not self.displaced or self.rng.random() >= DISPLACEMENT:
            return None
        self.natural = bool(self.has_truth[self.at - 1] and self.rng.random() < 0.5)
        if self.natural:
            return self.video.boxes_xywh[self.at - 1]
        size = self.video.boxes_xywh[self.start, 2:] * np.exp(self.rng.normal(0, 0.4, 2))
        return np.concatenate([self.rng.random(2) * self.size_hw[::-1] - size / 2, size])

    def overlap(self, box_xywh: Floats) -> float | None:
        """With the truth, 0 where the target is absent; None where it is unknown."""
        truth, visible = self.video.boxes_xywh[self.at], self.video.visible[self.at]
        if self.has_truth[self.at] and visible:
            return float(overlap(box_xywh[None], truth[None])[0])
        return None if visible and np.isnan(truth).any() else 0.0


def collect_samples(
    tracker: StagedTracker[Any, Any, Any],
    videos: Sequence[Video],
    batch: int = 16,
    seed: int = 0,
    progress: Callable[[int], object] = lambda frames: None,
) -> ConfidenceSamples:
    """Track videos twice; in the second pass the tracker is moved to wrong boxes now and then.

    Otherwise a good tracker would be lost too rarely in a few videos to learn from.

    Args:
        tracker: The tracker.
        videos: With truth; frames whose truth is unknown (NaN, without a label of absence) are left out.
        batch: Videos at a time.
        seed: Of the wrong boxes.
        progress: Called with numbers of frames just tracked.

    Raises:
        ValueError: No frame after a first one has known truth.
    """
    rows: list[tuple[Tensor, float, float, int, bool]] = []
    for first in range(0, len(videos), batch):
        some = enumerate(videos[first : first + batch], first)
        runs = [_Pass(video, number, displaced, seed) for number, video in some for displaced in (False, True)]
        start = torch.from_numpy(np.stack([run.video.boxes_xywh[run.start] for run in runs]))
        state = confidence_init(tracker, [run.read() for run in runs], start)
        progress(len(runs))
        while stay := [i for i, run in enumerate(runs) if run.at + 1 < len(run.video)]:
            runs, state = [runs[i] for i in stay], state.select(stay)
            for run in runs:
                run.at += 1
            places = [run.displacement() for run in runs]
            due = torch.tensor([place is not None for place in places])
            boxes = torch.from_numpy(np.stack([np.zeros(4) if place is None else place for place in places]))
            inner = update_rows(state.tracker, due, lambda part, i, to=boxes: tracker.move_to(part, to[i]))  # type: ignore[misc]
            state = replace(state, tracker=inner)
            state, prediction, features = measured_step(tracker, state, [run.read() for run in runs])
            for run, box, score, seen in zip(runs, prediction.boxes_xywh, prediction.scores, features, strict=True):
                share = run.overlap(box.numpy())
                if share is not None:
                    rows.append((seen, float(score), share, run.number, run.natural))
            progress(len(runs))
    if not rows:
        raise ValueError("no video has a frame with known truth after its first one")
    found, *columns = zip(*rows, strict=True)
    return ConfidenceSamples(torch.stack(found), *(np.array(column) for column in columns))


def fit_calibration(samples: ConfidenceSamples, about: dict[str, Any]) -> Calibration:
    """Fit the expected overlap by cross-entropy with the overlap itself as the label.

    Args:
        samples: To fit on.
        about: For `Calibration.about`.
    """
    mean, scale = samples.features.mean(dim=0), samples.features.std(dim=0).clamp(min=1e-3)
    generator = torch.Generator().manual_seed(0)
    hidden = 0.3 * torch.randn(len(mean), HIDDEN, dtype=torch.float64, generator=generator)
    out = 0.3 * torch.randn(HIDDEN, dtype=torch.float64, generator=generator)
    weights = [hidden, out.new_zeros(HIDDEN), out, out.new_zeros(())]
    for weight in weights:
        weight.requires_grad_(True)
    x, y = ((samples.features - mean) / scale).clamp(-4, 4), torch.from_numpy(samples.overlaps)
    optimizer = torch.optim.Adam(weights, lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = (x @ weights[0] + weights[1]).tanh() @ weights[2] + weights[3]
        size = weights[0].square().sum() + weights[2].square().sum()
        (nn.functional.binary_cross_entropy_with_logits(logits, y) + PENALTY * size).backward()
        optimizer.step()
    first, first_bias, last, last_bias = (weight.detach() for weight in weights)
    return Calibration(mean, scale, first, first_bias, last, last_bias, about)


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration and its reliability on videos that it was not fitted on.

    Attributes:
        calibration: Fitted on all videos.
        raw, calibrated: Reliability of the raw and of the calibrated scores on held-out videos, each by a fit on the
            others; frames that the tracker was not moved to.
    """

    calibration: Calibration
    raw: Reliability
    calibrated: Reliability


def calibrate_scores(samples: ConfidenceSamples, about: dict[str, Any]) -> CalibrationResult:
    """Fit and cross-validate over videos.

    Args:
        samples: Of `collect_samples`, from at least two videos.
        about: What the samples are, for `Calibration.about`; the figures join it.

    Raises:
        ValueError: There are fewer than two videos, or no frame is known.
    """
    folds = min(FOLDS, len(np.unique(samples.videos)))
    if folds < 2:
        raise ValueError("calibration needs at least two videos with truth: one checks the fit on the other")
    held = np.zeros(len(samples.raw))
    for fold in range(folds):
        out = samples.videos % folds == fold
        held[out] = fit_calibration(samples.select(~out), {})(samples.features[torch.from_numpy(out)]).numpy()
    own = samples.natural
    raw, calibrated = (reliability(scores[own], samples.overlaps[own]) for scores in (samples.raw, held))
    assert raw is not None
    assert calibrated is not None
    figures = {"auroc": calibrated.auroc, "calibration_error": calibrated.calibration_error}
    about = {**about, "frames": len(samples.raw), "held_out": figures}
    return CalibrationResult(fit_calibration(samples, about), raw, calibrated)
