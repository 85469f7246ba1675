"""Calibrated confidence: the overlap with the target that a fit expects from what the network itself says.

A network's raw score ranks its own candidates; it is no probability. `measure_features` sums up a frame of any tracker
with candidates in seventeen numbers, `Calibration` maps them to an overlap. `tracking/calibrate.py` makes the fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data import Image
from lib.files import write_text
from lib.models.heads import Candidates
from lib.track.state import Frames, State
from lib.track.tracker import Prediction, SearchRegion, StagedTracker, WrappedTracker

LOST, TRACKED = 0.2, 0.5
"""Expected overlaps below which the target counts as lost, and from which it counts as tracked."""
FEATURES = (
    "peak", "windowed", "second", "spread", "sizes", "near", "grown", "reshaped", "moved", "border",
    "usual", "usual_size", "recent", "recent_moved", "farthest", "colours", "contested",
)  # fmt: skip
"""Names of the numbers of `measure_features`, in order; they are explained there."""
USUAL, RECENT = 0.05, 0.3
"""Weights of a frame in the slow and in the quick running average."""
KEPT = 0.98
"""Factor per frame of the largest motion of the past: after a jump, the track may be on a distractor for long."""
FADING = 0.02
"""Logits per frame that are taken off the closest second candidate of the past, which may have become the target."""
LEAST = 1e-4
"""Scores are kept this far off 0 and 1 for their logits."""
COLOURS = (12, 4, 4)
"""Bins of hue, saturation and value in a histogram of colours."""
_GRID = (np.arange(32) + 0.5) / 32
_OFF = (2 * _GRID - 1) ** 2
_CENTRAL = (1 - _OFF[:, None] - _OFF).clip(0).ravel()
_CENTRAL /= _CENTRAL.sum()
"""Weight of each of 32 x 32 places in a box, less and less away from the middle; their sum is 1."""


@dataclass
class ConfidenceState(State):
    """State of B targets.

    Attributes:
        tracker: Of the tracker itself.
        memory: [B, 6] float64 on the CPU, NaN before the first step: slow averages of peak (logit) and of log area,
            quick averages of peak and of motion, largest log1p of the motion, closest second candidate (logit less
            peak).
        colours: [B, 192] float64 on the CPU, `histogram_of_colours` of the first boxes.
    """

    tracker: Any
    memory: Tensor
    colours: Tensor


@dataclass(frozen=True)
class Calibration:
    """A perceptron with one hidden layer, from features to the expected overlap.

    Attributes:
        mean, scale: [F] of the features, in the order of `FEATURES`.
        hidden, hidden_bias: [F, H] and [H].
        out, out_bias: [H] and [].
        about: What it was fitted on and how well it does, for people.
    """

    mean: Tensor
    scale: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    out: Tensor
    out_bias: Tensor
    about: dict[str, Any]

    def __call__(self, features: Tensor) -> Tensor:
        """Expected overlaps [B] float32 for features [B, F]."""
        x = ((features - self.mean) / self.scale).clamp(-4, 4)
        return ((x @ self.hidden + self.hidden_bias).tanh() @ self.out + self.out_bias).sigmoid().float()

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        values = {name: value.tolist() for name, value in vars(self).items() if isinstance(value, Tensor)}
        write_text(path, json.dumps({"features": FEATURES, "about": self.about, **values}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote; features that an older fit lacks get the weight 0.

        Raises:
            ValueError: The file is no calibration, or one of other features.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            features, about = tuple(values.pop("features")), values.pop("about")
            if not set(features) <= set(FEATURES):
                raise ValueError(f"its features are {', '.join(features)}, expected {', '.join(FEATURES)}")
            fit = cls(**{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}, about=about)
            at = torch.tensor([FEATURES.index(name) for name in features])

            def widen(values: Tensor, missing: float) -> Tensor:
                return values.new_full((len(FEATURES), *values.shape[1:]), missing).index_copy(0, at, values)

            return replace(fit, mean=widen(fit.mean, 0), scale=widen(fit.scale, 1), hidden=widen(fit.hidden, 0))
        except (ValueError, TypeError, KeyError, RuntimeError, IndexError) as error:
            raise ValueError(f"{path}: no calibration of scores ({error}); tracking/calibrate.py makes one") from None


def confidence_file(weights: Path) -> Path:
    """Where the calibration of a network lies: next to its weights."""
    return weights.with_name(f"{weights.name.removesuffix('.tar').rsplit('.', 1)[0]}.confidence.json")


def status_of(score: float) -> str:
    """Tracked, unsure or lost, by the expected overlap."""
    return "lost" if score < LOST else "unsure" if score < TRACKED else "tracked"


def histogram_of_colours(picture: Image, box_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the colours in a box and a tenth of its sides around it, the middle above all.

    Args:
        picture: H x W x 3 uint8, RGB.
        box_xywh: [4] pixels; what is outside the picture counts as its border.

    Returns:
        [192] float64, of sum 1: `COLOURS`, the last index runs fastest.
    """
    x, y, w, h = np.where(np.isfinite(box_xywh), box_xywh, 0.0)
    height, width = picture.shape[:2]
    columns = (x + w * (1.2 * _GRID - 0.1)).clip(0, width - 1).astype(np.int64)
    rows = (y + h * (1.2 * _GRID - 0.1)).clip(0, height - 1).astype(np.int64)
    hsv = cv2.cvtColor(picture[rows[:, None], columns], cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(np.int64)
    hues, saturations, values = COLOURS
    index = (hsv[:, 0] * hues // 180 * saturations + hsv[:, 1] * saturations // 256) * values
    return np.bincount(index + hsv[:, 2] * values // 256, _CENTRAL, hues * saturations * values).astype(np.float64)


def _histograms(frames: Frames, boxes_xywh: Tensor) -> Tensor:
    boxes = boxes_xywh.detach().cpu().double().numpy()
    return torch.from_numpy(np.stack([histogram_of_colours(f.rgb, box) for f, box in zip(frames, boxes, strict=True)]))


def measure_features(
    region: SearchRegion,
    found: Candidates,
    prediction: Prediction,
    before_xywh: Tensor,
    memory: Tensor,
    likeness: Tensor,
) -> tuple[Tensor, Tensor]:
    """Numbers of a frame that tell whether the target was found.

    Lengths are in units of the mean side (root of the area) of the box before, or of the best candidate.

    Args:
        region, found, prediction: Of B rows.
        before_xywh: [B, 4] boxes of the frame before, image pixels.
        memory: [B, 6], see `ConfidenceState`.
        likeness: [B] float64 on the CPU in 0..1, Bhattacharyya coefficient of the colours in the predicted and the
            first boxes.

    Returns:
        [B, F] float64 on the CPU in the order of `FEATURES`, and the memory after this frame.
    """
    packed = torch.cat([found.boxes, found.scores[..., None]], dim=2).detach().cpu().double()
    boxes, scores = packed[..., :4].contiguous(), packed[..., 4].contiguous().clamp(min=0)
    top = scores.max(dim=1)
    best = boxes.gather(1, top.indices[:, None, None].expand(-1, 1, 4))
    side = best[..., 2:].prod(dim=-1).sqrt().clamp(min=0.05)
    apart = (boxes[..., :2] - best[..., :2]).norm(dim=-1) / side
    weights = scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-9)
    around = torch.where(apart < 0.5, weights, 0.0)
    around = around / around.sum(dim=1, keepdim=True).clamp(min=1e-9)
    shapes = boxes[..., 2:].clamp(min=1e-4).log()
    deviation = (around[..., None] * (shapes - (around[..., None] * shapes).sum(dim=1, keepdim=True)) ** 2).sum(dim=1)
    second = torch.where(apart > 1.0, scores, 0.0).amax(dim=1)
    sizes, last = prediction.boxes_xywh[:, 2:].clamp(min=1e-3), before_xywh[:, 2:].abs().clamp(min=1e-3)
    change, length = (sizes / last).log(), last.prod(dim=1).sqrt()
    moved = (prediction.boxes_xywh[:, :2] - before_xywh[:, :2] + (sizes - last) / 2).norm(dim=1) / length
    ends = torch.stack([prediction.boxes_xywh[:, :2], region.sizes_hw.flip(1) - prediction.boxes_xywh[:, :2] - sizes])
    peak, area = top.values.logit(LEAST), sizes.log().sum(dim=1)
    margin = second.logit(LEAST) - peak
    now = torch.stack([peak, area, peak, moved.clamp(max=4), moved.log1p(), margin], dim=1)
    memory = torch.where(memory.isnan(), now, memory)
    rate = torch.stack([USUAL * top.values, USUAL * top.values, *[torch.full_like(peak, RECENT)] * 2], dim=1)
    averages = memory[:, :4] + rate * (now - memory)[:, :4]
    faded = torch.stack([KEPT * memory[:, 4], memory[:, 5] - FADING], dim=1)
    after = torch.cat([averages, torch.maximum(now[:, 4:], faded)], dim=1)
    columns = [
        peak,  # "peak": highest score, as a logit
        prediction.scores.double().logit(LEAST),  # "windowed": the tracker's own confidence
        margin,  # "second": highest score more than a side away, less the peak
        (weights * apart).sum(dim=1).log1p(),  # "spread": mean distance of all candidates from the best, by score
        deviation.sum(dim=1).sqrt(),  # "sizes": disagreement of the candidates at the best one about its size
        around.amax(dim=1).clamp(min=1e-3).log(),  # "near": share of the best one among these
        change.sum(dim=1),  # "grown": change of the log area
        (change[:, 0] - change[:, 1]).abs(),  # "reshaped": change of the log aspect ratio
        moved.log1p(),  # "moved": distance of the centre from the last one
        (ends.amin(dim=(0, 2)) / length).clamp(0, 1),  # "border": distance of the box from the frame's border
        peak - memory[:, 0],  # "usual": peak against its slow average
        area - memory[:, 1],  # "usual_size": log area against its slow average
        after[:, 2],  # "recent": quick average of the peak
        after[:, 3],  # "recent_moved": quick average of the motion
        after[:, 4],  # "farthest": largest motion of the past
        likeness,  # "colours"
        after[:, 5],  # "contested": closest second candidate of the past
    ]
    return torch.stack(columns, dim=1), after


def confidence_init(tracker: StagedTracker, frames: Frames, boxes_xywh: Tensor) -> ConfidenceState:
    """`Tracker.init` with an empty memory."""
    memory = torch.full((len(frames), 6), torch.nan, dtype=torch.float64)
    return ConfidenceState(tracker.init(frames, boxes_xywh), memory, _histograms(frames, boxes_xywh))


@torch.no_grad()
def measured_step(
    tracker: StagedTracker, state: ConfidenceState, frames: Frames
) -> tuple[ConfidenceState, Prediction, Tensor]:
    """A step of a tracker: the next state, its prediction with raw scores, and features [B, F]."""
    before = state.tracker
    region = tracker.crop_search(before, frames)
    output = tracker.forward(before, region)
    after, prediction = tracker.postprocess(before, region, output)
    likeness = (_histograms(frames, prediction.boxes_xywh) * state.colours).sqrt().sum(dim=1)
    features, memory = measure_features(
        region, output.candidates, prediction, before.boxes_xywh, state.memory, likeness
    )
    after = tracker.update(after, frames, region, output, prediction)
    return replace(state, tracker=after, memory=memory), prediction, features


class ConfidenceTracker(WrappedTracker[ConfidenceState]):
    """A tracker whose scores are expected overlaps; boxes are those of the tracker itself.

    Attributes:
        tracker: The inner one; its own thresholds go on reading raw scores.
        calibration: Fitted for its network.
    """

    tracker: StagedTracker

    def __init__(self, tracker: StagedTracker, calibration: Calibration) -> None:
        super().__init__(tracker)
        self.calibration = calibration

    def with_settings(self, state: ConfidenceState, settings: Mapping[str, float]) -> ConfidenceState:
        return replace(state, tracker=self.tracker.with_settings(state.tracker, settings))

    def init(self, frames: Frames, boxes_xywh: Tensor) -> ConfidenceState:
        return confidence_init(self.tracker, frames, boxes_xywh)

    def step(self, state: ConfidenceState, frames: Frames) -> tuple[ConfidenceState, Prediction]:
        after, prediction, features = measured_step(self.tracker, state, frames)
        return after, replace(prediction, scores=self.calibration(features), raw_scores=prediction.scores)
