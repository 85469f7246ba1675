"""Calibrating a tracker's scores: track with known truth, fit the expected overlap, measure what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.bench.metrics import Reliability, overlap, reliability
from lib.bench.metrics.curves import Floats
from lib.data import Video
from lib.track import Calibration, StagedTracker, begin, measured_step

HIDDEN = 16
"""Units of the fit."""
KIDNAP = 0.08
"""Chance, per frame of every second pass, that the tracker is set down at a wrong box, or back at the true one."""


@dataclass(frozen=True)
class ConfidenceSamples:
    """Frames of tracked videos.

    Attributes:
        features: [N, F] of `measure_features`.
        raw: [N] the tracker's own scores.
        overlaps: [N] with the truth, 0 where the target is absent.
        videos: [N] number of the video.
        natural: [N] bool, the tracker had come there by itself.
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


def collect_samples(
    tracker: StagedTracker[Any, Any, Any],
    videos: Sequence[Video],
    passes: int = 2,
    seed: int = 0,
    on_video: Callable[[str], object] = lambda name: None,
) -> ConfidenceSamples:
    """Track videos, and in every second pass set the tracker down at wrong boxes now and then.

    A good tracker is lost too rarely in a few videos for a fit of what being lost looks like.

    Args:
        tracker: The tracker.
        videos: With truth; frames whose truth is unknown (NaN, without a label of absence) are left out.
        passes: How often each video is tracked.
        seed: Of the wrong boxes.
        on_video: Called with the name of each video that was tracked.
    """
    rows: list[tuple[Tensor, float, float, int, bool]] = []
    for number, video in enumerate(videos):
        has_truth = (video.boxes_xywh[:, 2:] > 0).all(axis=1)
        start = int(np.argmax(has_truth))
        for turn in range(passes):
            rng = np.random.default_rng([seed, number, turn])
            frame = video.read_frame(start)
            height, width = frame.size_hw
            state = begin(tracker, [frame], torch.from_numpy(video.boxes_xywh[start : start + 1].copy()))
            natural = True
            for t in range(start + 1, len(video)):
                if turn % 2 and rng.random() < KIDNAP:
                    box = video.boxes_xywh[t - 1].copy()
                    natural = bool(has_truth[t - 1] and rng.random() < 0.5)
                    if not natural:
                        size = np.nan_to_num(video.boxes_xywh[start, 2:]) * np.exp(rng.normal(0, 0.4, 2))
                        box = np.concatenate([rng.random(2) * (width, height) - size / 2, size])
                    moved = tracker.move_to(state.tracker, torch.from_numpy(box[None]))
                    state = type(state)(moved, state.memory)
                state, prediction, features = measured_step(tracker, state, [video.read_frame(t)])
                known = has_truth[t] or not np.isnan(video.boxes_xywh[t]).any() or not video.visible[t]
                if known:
                    truth = video.boxes_xywh[t : t + 1]
                    share = (
                        overlap(prediction.boxes_xywh.numpy(), truth)[0] if has_truth[t] and video.visible[t] else 0.0
                    )
                    rows.append((features[0], float(prediction.scores[0]), float(share), number, natural))
        on_video(video.name)
    features, raw, overlaps, numbers, natural_rows = zip(*rows, strict=True)
    return ConfidenceSamples(
        torch.stack(features), np.array(raw), np.array(overlaps), np.array(numbers), np.array(natural_rows)
    )


def fit_calibration(samples: ConfidenceSamples, about: dict[str, Any], seed: int = 0) -> Calibration:
    """Fit the expected overlap by cross-entropy with the overlap itself as the label.

    Args:
        samples: To fit on.
        about: For `Calibration.about`.
        seed: Of the first weights.
    """
    mean, scale = samples.features.mean(dim=0), samples.features.std(dim=0).clamp(min=1e-3)
    generator = torch.Generator().manual_seed(seed)
    hidden = 0.3 * torch.randn(len(mean), HIDDEN, dtype=torch.float64, generator=generator)
    out = 0.3 * torch.randn(HIDDEN, dtype=torch.float64, generator=generator)
    weights = [hidden, out.new_zeros(HIDDEN), out, out.new_zeros(())]
    for weight in weights:
        weight.requires_grad_(True)
    x, y = ((samples.features - mean) / scale).clamp(-4, 4), torch.from_numpy(samples.overlaps)
    optimizer = torch.optim.AdamW(weights, lr=0.02, weight_decay=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        logits = (x @ weights[0] + weights[1]).tanh() @ weights[2] + weights[3]
        nn.functional.binary_cross_entropy_with_logits(logits, y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Calibration(mean, scale, *(weight.detach() for weight in weights), about)


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration and what it is worth on videos that it was not fitted on.

    Attributes:
        calibration: Fitted on all videos.
        raw, calibrated: Reliability of the raw and of the calibrated scores on held-out videos, each by a fit on the
            others; frames that the tracker came to by itself.
    """

    calibration: Calibration
    raw: Reliability
    calibrated: Reliability


def calibrate_scores(samples: ConfidenceSamples, about: dict[str, Any], folds: int = 4) -> CalibrationResult:
    """Fit and cross-validate over videos.

    Args:
        samples: Of `collect_samples`, from at least two videos.
        about: What the samples are, for `Calibration.about`; the figures join it.
        folds: Parts that the videos are divided into.

    Raises:
        ValueError: There are fewer than two videos, or no frame is known.
    """
    folds = min(folds, len(np.unique(samples.videos)))
    if folds < 2:
        raise ValueError("calibration needs at least two videos with truth: one checks the fit on the other")
    held = np.zeros(len(samples.raw))
    for fold in range(folds):
        out = samples.videos % folds == fold
        fit = fit_calibration(samples.select(~out), {})
        held[out] = fit(samples.features[torch.from_numpy(out)]).numpy()
    own = samples.natural
    raw, calibrated = (reliability(scores[own], samples.overlaps[own]) for scores in (samples.raw, held))
    assert raw is not None
    assert calibrated is not None
    figures = {"auroc": calibrated.auroc, "calibration_error": calibrated.calibration_error}
    about = {**about, "frames": len(samples.raw), "held_out": figures}
    return CalibrationResult(fit_calibration(samples, about), raw, calibrated)
