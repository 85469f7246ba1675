"""The contract of a tracker: batch first, with all that a sequence needs in an explicit state.

One tracker object serves benchmarks, roll-outs of sequence-level training, VOT, webcam and export, because it keeps
nothing about a sequence: `init` gives a `State` with one row per sequence, `step` takes it and gives the next one.
Rows know nothing of each other, so sequences may enter (`State.cat`) and leave (`State.select`) a running batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data import Frame

S = TypeVar("S", bound="State")

Policy = Callable[[Tensor], Tensor]
"""Which cell to take: response [B, N] (window applied, non-negative) -> cell [B] int64."""


def greedy(response: Tensor) -> Tensor:
    """The cell with the highest response, the first one among equals."""
    return response.argmax(dim=1)


@dataclass
class State:
    """Base of a tracker's per-sequence state; subclasses are dataclasses.

    A field is a tensor or numpy array with one row per sequence, a list with one entry per sequence (for what differs
    in size from row to row), another `State`, or None.
    """

    def select(self: S, rows: Sequence[int]) -> S:
        """The state of these rows, in this order."""
        return replace(self, **{f.name: _select(getattr(self, f.name), rows) for f in fields(self)})

    @classmethod
    def cat(cls: type[S], states: Sequence[S]) -> S:
        """The rows of all `states` under one another."""
        if not states:
            raise ValueError("State.cat needs at least one state")
        return replace(
            states[0], **{f.name: _cat([getattr(s, f.name) for s in states], f.name) for f in fields(states[0])}
        )


def _select(value: Any, rows: Sequence[int]) -> Any:
    if value is None:
        return None
    if isinstance(value, State):
        return value.select(rows)
    if isinstance(value, Tensor):
        return value[torch.as_tensor(rows, dtype=torch.long, device=value.device)]
    if isinstance(value, np.ndarray):
        return value[np.asarray(rows, dtype=np.int64)]
    if isinstance(value, list):
        return [value[i] for i in rows]
    raise TypeError(f"a state field must be a tensor, an array, a list, a State or None, not {type(value).__name__}")


def _cat(values: list[Any], name: str) -> Any:
    first = values[0]
    if any(type(v) is not type(first) for v in values):
        raise TypeError(f"state field {name!r} has different types in the states to be joined")
    if first is None:
        return None
    if isinstance(first, State):
        return type(first).cat(values)
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, list):
        return [x for v in values for x in v]
    raise TypeError(f"state field {name!r} must be a tensor, an array, a list, a State or None")


def checked_boxes(frames: Sequence[Frame], boxes_xywh: Tensor) -> Tensor:
    """The targets of `Tracker.init`: a [B, 4] float64 copy on the CPU.

    Raises ValueError when their number is not that of the frames, or one is not finite or has no area.
    """
    boxes = boxes_xywh.detach().to("cpu", torch.float64, copy=True)
    if boxes.shape != (len(frames), 4):
        raise ValueError(f"{len(frames)} frames need boxes of shape [{len(frames)}, 4], not {list(boxes.shape)}")
    for i, box in enumerate(boxes.tolist()):
        if not (all(map(math.isfinite, box)) and box[2] > 0 and box[3] > 0):
            raise ValueError(f"initial box {i} is {box}: expected finite x, y and positive w, h in pixels")
    return boxes


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the targets of B sequences are in one frame.

    Attributes:
        boxes_xywh: [B, 4] float64 on the CPU, x, y, w, h in image pixels.
        scores: [B] float32 on the CPU, confidence in 0..1 (what VOT and DepthTrack read).
        windowed_scores: [B, N] on the tracker's device, what the best candidate was chosen by, or None.
        polygons: [B, 4, 2] float64 on the CPU, corners x, y in image pixels, where `Tracker.regions` requests them.
        masks: one [H, W] bool array per row, of the size of its frame, where `Tracker.regions` requests them.
    """

    boxes_xywh: Tensor
    scores: Tensor
    windowed_scores: Tensor | None = None
    polygons: Tensor | None = None
    masks: list[NDArray[np.bool_]] | None = None


class Tracker(ABC, Generic[S]):
    """B independent sequences at a time. Row i of a batch gives the boxes that it gives alone.

    Attributes:
        reads_aux: Whether it takes the second picture of RGB+X frames; a tracker that does not leaves it aside, one
            that does raises ValueError for frames without.
        gives_regions: Kinds of regions that it can compute beside boxes: "polygon", "mask".
        regions: Kinds that are requested of it, for all rows of every batch; see `request_regions`.
    """

    reads_aux: bool = False
    gives_regions: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()

    def request_regions(self, *kinds: str) -> None:
        """From now on predictions have these regions beside boxes. Raises ValueError for kinds it cannot compute."""
        missing = sorted({*kinds} - self.gives_regions)
        if missing:
            raise ValueError(f"{type(self).__name__} gives boxes, no {' or '.join(missing)}")
        self.regions = frozenset(kinds)

    @abstractmethod
    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> S:
        """Start on the first frames.

        frames: B frames, of any sizes. boxes_xywh: [B, 4] targets in image pixels; kept in float64.
        Raises ValueError when a box cannot be cropped round (zero or negative size, NaN).
        """

    @abstractmethod
    def step(self, state: S, frames: Sequence[Frame], policy: Policy = greedy) -> tuple[S, Prediction]:
        """The next frame of every sequence of `state`; `state` itself is left as it was."""
