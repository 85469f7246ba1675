"""The contract of a tracker: batch first, with all that a sequence needs in an explicit state.

One tracker object serves benchmarks, roll-outs of sequence-level training, VOT, webcam and export, because it keeps
nothing about a sequence: `init` gives a `State` with one row per sequence, `step` takes it and gives the next one.
Rows know nothing of each other, so sequences may enter (`State.cat`) and leave (`State.select`) a running batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.data import Mask
from lib.models.heads import Candidates
from lib.track.state import Frames, S, State


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the targets of B sequences are in one frame.

    Attributes:
        boxes_xywh: [B, 4] float64 on the CPU, x, y, w, h in image pixels.
        scores: [B] float32 on the CPU, confidence in 0..1 (VOT and DepthTrack read it); the expected overlap where a
            calibration lies next to the weights (`ConfidenceTracker`).
        windowed_scores: [B, N] on the tracker's device, by which the best candidate was chosen, or None.
        polygons: [B, 4, 2] float64 on the CPU, corners x, y in image pixels, where `Tracker.regions` requests them.
        masks: One [H, W] bool array per row, of the size of its frame, where `Tracker.regions` requests them.
        raw_scores: [B] the tracker's own confidence, where `scores` are calibrated.
    """

    boxes_xywh: Tensor
    scores: Tensor
    windowed_scores: Tensor | None = None
    polygons: Tensor | None = None
    masks: list[NDArray[np.bool_]] | None = None
    raw_scores: Tensor | None = None


class Tracker(ABC, Generic[S]):
    """B independent sequences at a time. Row i of a batch gives the boxes that it gives alone.

    Callers run it under `torch.no_grad`; a tracker may open `torch.enable_grad` inside a step.

    Attributes:
        reads_aux: It reads the second picture of RGB-X frames; other trackers ignore it.
        needs_aux: It raises ValueError for frames without a second picture.
        gives_regions: Kinds of regions that it can compute besides boxes: "polygon", "mask".
        regions: Kinds that are requested of it, for all rows of every batch; see `request_regions`.
        row_keys: Keys of TEST that may be searched, and differ from row to row; see `with_settings`. In lower case.
        tracker_keys: Further ones that may be searched, with a tracker for every value; "update.threshold" is nested.
    """

    reads_aux: bool = False
    needs_aux: bool = False
    gives_regions: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    row_keys: tuple[str, ...] = ()
    tracker_keys: tuple[str, ...] = ()

    def with_settings(self, state: S, settings: Mapping[str, float]) -> S:
        """A state whose rows are tracked with settings of their own.

        Args:
            state: Of B rows.
            settings: A value for each of `row_keys`.

        Raises:
            ValueError: The tracker has one setting for all rows.
        """
        if settings:
            raise ValueError(f"{type(self).__name__} tracks all rows with the same {', '.join(settings)}")
        return state

    def request_regions(self, *kinds: str) -> None:
        """Have regions besides boxes in predictions from now on.

        Args:
            kinds: "polygon", "mask".

        Raises:
            ValueError: The tracker cannot compute a kind.
        """
        missing = sorted({*kinds} - self.gives_regions)
        if missing:
            raise ValueError(f"{type(self).__name__} gives boxes, no {' or '.join(missing)}")
        self.regions = frozenset(kinds)

    @abstractmethod
    def init(self, frames: Frames, boxes_xywh: Tensor) -> S:
        """Start on the first frames.

        Args:
            frames: B frames, of any sizes.
            boxes_xywh: [B, 4] targets in image pixels; kept in float64.

        Raises:
            ValueError: A box cannot be cropped (zero or negative size, NaN).
        """

    @abstractmethod
    def step(self, state: S, frames: Frames) -> tuple[S, Prediction]:
        """Find the targets in the next frame of every sequence.

        Args:
            state: Of B sequences; it is left as it was.
            frames: B frames, of the sizes of those before.

        Returns:
            The state after these frames, and the targets in them.
        """


class WrappedTracker(Tracker[S], Generic[S]):
    """A tracker around another one, whose class attributes (`reads_aux`, ...) it takes over.

    Attributes:
        tracker: The inner one.
    """

    def __init__(self, tracker: Tracker[Any]) -> None:
        self.tracker = tracker
        for name in Tracker.__annotations__:
            setattr(self, name, getattr(tracker, name))

    def with_settings(self, state: S, settings: Mapping[str, float]) -> S:
        """See `Tracker`; for wrappers whose state is the inner one's."""
        return cast("S", self.tracker.with_settings(state, settings))

    def request_regions(self, *kinds: str) -> None:
        self.tracker.request_regions(*kinds)  # the error of the inner one names it
        super().request_regions(*kinds)


def checked_boxes(frames: Frames, boxes_xywh: Tensor) -> Tensor:
    """The targets of `Tracker.init`: a [B, 4] float64 copy on the CPU, image pixels.

    Raises:
        ValueError: Their number is not that of the frames, or one is not finite or has no area.
    """
    boxes = boxes_xywh.detach().to("cpu", torch.float64, copy=True)
    if boxes.shape != (len(frames), 4):
        raise ValueError(f"{len(frames)} frames need boxes of shape [{len(frames)}, 4], not {list(boxes.shape)}")
    for i, box in enumerate(boxes.tolist()):
        if not (all(map(math.isfinite, box)) and box[2] > 0 and box[3] > 0):
            raise ValueError(f"initial box {i} is {box}: expected finite x, y and positive w, h in pixels")
    return boxes


# The stages of a step


Policy = Callable[[Tensor], Tensor]
"""Choices in a frame: policy logits [B, N] or, for K choices per frame, [B, K, N] -> choices [B] or [B, K]
int64; a row of -1 leaves the choice to the tracker."""


@dataclass
class TemplateRegion(State):
    """Crops of the targets in the first frames; methods add rows of what else they derive from these frames.

    Attributes:
        crops: [B, C, T, T] uint8 (float32 where a method resamples in floating point), on the tracker's device.
        boxes_xywh: [B, 4] float64, the targets in units of the crop's side.
        padding: [B, C] on the CPU, the colours beyond the frames, in crop styles that have some.
    """

    crops: Tensor
    boxes_xywh: Tensor
    padding: Tensor | None = None


@dataclass
class SearchRegion(State):
    """Crops of the next frames; methods add rows of what else their output depends on, such as a memory.

    Attributes:
        crops: [B, C, S, S] uint8 (float32 where a method resamples in floating point), on the tracker's device.
        centres: [B, 2] x, y of the crops' centres, image pixels, float64 on the CPU.
        sides: [B, 2] widths and heights of the crops, image pixels, float64 on the CPU.
        sizes_hw: [B, 2] of the frames, float64 on the CPU.
    """

    crops: Tensor
    centres: Tensor
    sides: Tensor
    sizes_hw: Tensor

    def to_crop(self, boxes_xywh: Tensor) -> Tensor:
        """Boxes in units of the crops' sides, as the tracker reads them there.

        Args:
            boxes_xywh: [B, 4] in image pixels.
        """
        corners = (boxes_xywh[:, :2] - self.centres) / self.sides + 0.5
        return torch.cat([corners, boxes_xywh[:, 2:] / self.sides], dim=1)

    def to_image(self, boxes: Tensor) -> Tensor:
        """Candidates' boxes as x, y, w, h in image pixels.

        Args:
            boxes: [B, 4] cx, cy, w, h in units of the crops' sides.
        """
        sizes = boxes[:, 2:] * self.sides
        return torch.cat([(boxes[:, :2] - 0.5) * self.sides + self.centres - sizes / 2, sizes], dim=1)


T = TypeVar("T", bound=TemplateRegion)
R = TypeVar("R", bound=SearchRegion)


@dataclass(frozen=True, slots=True)
class TrackerOutput:
    """Network output for M search regions.

    Attributes:
        candidates: Scored boxes, with the head's own maps.
        windowed_scores: [M, N], window and penalties applied; None for a head that gives one box.
        policy_logits: [M, N], or [M, K, N] for K choices per frame; policies of sequence-level training draw from
            them (see `lib.objectives.POLICIES` for their scale); None where there is no choice.
        memory: The memory after this frame, of trackers with one.
    """

    candidates: Candidates
    windowed_scores: Tensor | None = None
    policy_logits: Tensor | None = None
    memory: Tensor | None = None

    def choose(self, policy: Policy | None = None) -> Tensor:
        """The chosen candidate of each search region, of heads with windowed scores.

        Args:
            policy: Chooses by the policy logits; None: the highest windowed score.

        Returns:
            [M] int64.
        """
        assert self.windowed_scores is not None
        best = self.windowed_scores.argmax(dim=1)
        if policy is None or self.policy_logits is None:
            return best
        choice = policy(self.policy_logits)
        return torch.where(choice < 0, best, choice)


class StagedTracker(Tracker[S], Generic[S, T, R]):
    """A tracker whose `init` and `step` consist of stages, so that its network can learn from its own decisions.

    `encode_template`, `init_state` and `forward` are differentiable. A roll-out keeps the search regions of an
    exploring tracker; sequence-level training runs `forward` on them again, with gradients.

    Attributes:
        network: In eval mode.
        device: The network's; crops go there.
        normalise: From crops to the network's input; the identity once normalisation is part of the network.
        grid: Cells along a side of a search region.
        frame_calls: Names of the network's methods that do the larger part of a frame, from tensors to tensors and, on
            a GPU, without waiting for the device.
        size_momentum: TEST.SIZE_MOMENTUM, see `damp_sizes`; None takes sizes as they are found.
    """

    network: Any
    device: torch.device
    normalise: nn.Module
    grid: int
    frame_calls: tuple[str, ...] = ("locate",)
    size_momentum: float | None = None

    @abstractmethod
    def crop_template(self, frames: Frames, boxes_xywh: Tensor) -> T:
        """Cut the templates from the first frames.

        Args:
            frames: B frames, of any sizes.
            boxes_xywh: [B, 4] targets in image pixels.

        Raises:
            ValueError: As `init`.
        """

    @abstractmethod
    def encode_template(self, region: T) -> Any:
        """Run the network's part of once per target, such as template tokens; needs no box of the picture.

        Args:
            region: Of B targets.

        Returns:
            The encoded templates for `init_state`, B rows.
        """

    @abstractmethod
    def init_state(self, region: T, encoded: Any, boxes_xywh: Tensor) -> S:
        """The state after `init`.

        Args:
            region, encoded: Of B targets.
            boxes_xywh: [B, 4] float64 on the CPU, where the targets are, in image pixels; not necessarily in the frames
                that the templates were cut from.
        """

    @abstractmethod
    def crop_search(self, state: S, frames: Frames) -> R:
        """Cut the search regions from the next frames, around the boxes of `state`.

        Args:
            state: Of B targets.
            frames: B frames.
        """

    @abstractmethod
    def forward(self, state: S, region: R, rows: Tensor | None = None) -> TrackerOutput:
        """Run the network.

        Args:
            state: Of B rows. Only fields that stay the same from frame to frame may be read.
            region: M search regions.
            rows: [M] int64 on the tracker's device, the state's row that each search region belongs to; None: M is B,
                in order.
        """

    @abstractmethod
    def postprocess(
        self, state: S, region: R, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[S, Prediction]:
        """Choose a candidate in every frame, and move the state to its box.

        Args:
            state, region, output: Of B targets.
            policy: Chooses by the policy logits; None: the highest windowed score.

        Returns:
            The state with the new boxes, and the prediction.
        """

    def update(self, state: S, frames: Frames, region: R, output: TrackerOutput, prediction: Prediction) -> S:
        """Renew templates, memories and online filters after a frame; the identity by default.

        Args:
            state: After `postprocess`.
            frames, region, output, prediction: Of the frame that `state` is in now.
        """
        return state

    def move_to(self, state: S, boxes_xywh: Tensor) -> S:
        """The state with its targets elsewhere, for a search in other parts of the frame.

        Args:
            state: Of B rows.
            boxes_xywh: [B, 4] float64 on the CPU, image pixels.
        """
        return cast("S", replace(cast("Any", state), boxes_xywh=boxes_xywh))

    def damp_sizes(self, before_wh: Tensor, found_wh: Tensor, scores: Tensor) -> Tensor:
        """Sizes that go ``size_momentum * score`` of the way to those found; every `postprocess` takes them.

        The next search region is as large as the box says, so that a bias of size feeds itself unless it is damped.

        Args:
            before_wh, found_wh: [B, 2] of the last frame and of this one, in one unit.
            scores: [B] confidences in 0..1.
        """
        if self.size_momentum is None:
            return found_wh
        return before_wh + self.size_momentum * scores[:, None].to(found_wh) * (found_wh - before_wh)

    def with_masks(self, region: R, masks: Sequence[Mask | None]) -> R:
        """Search regions with the masks of their targets, of trackers whose method learns masks; the same otherwise.

        Args:
            region: Of B targets.
            masks: [H, W] bool of each frame, or None where it is unknown.
        """
        return region

    def explorer(self) -> StagedTracker[S, T, R]:
        """The tracker of roll-outs, where it is another one than that of evaluation."""
        return self

    @torch.no_grad()
    def init(self, frames: Frames, boxes_xywh: Tensor) -> S:
        region = self.crop_template(frames, boxes_xywh)
        return self.init_state(region, self.encode_template(region), checked_boxes(frames, boxes_xywh))

    @torch.no_grad()
    def step(self, state: S, frames: Frames, policy: Policy | None = None) -> tuple[S, Prediction]:
        region = self.crop_search(state, frames)
        output = self.forward(state, region)
        after, prediction = self.postprocess(state, region, output, policy)
        return self.update(after, frames, region, output, prediction), prediction
