"""Third-party trackers: any object with `init(image, box)` and `update(image)`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lib.bench.classical import BoxState
from lib.bench.results import Identity
from lib.bench.spec import Execution, TrackerSpec
from lib.data import Frame
from lib.track import Prediction, State, Tracker, checked_boxes

PICTURES = ("auto", "array", "pil")


class ForeignTracker(Tracker):
    """Drives an object that keeps its target to itself, so that a batch has one row.

    Args:
        tracker: `init(image, box)` and `update(image)`, which returns the box, or the box and a score.
        pil: Pictures are `PIL.Image` in RGB, as the GOT-10k toolkit gives them; otherwise H x W x 3 uint8 arrays in RGB
            order. Boxes are arrays [4] of x, y, w, h in image pixels.
    """

    def __init__(self, tracker: Any, pil: bool) -> None:
        self.tracker, self.pil = tracker, pil

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> BoxState:
        """Give the object its first picture and box.

        Args:
            frames: One frame.
            boxes_xywh: [1, 4] target, image pixels.
        """
        if len(frames) != 1:
            raise ValueError(f"{type(self.tracker).__name__} tracks one target at a time, not {len(frames)}")
        boxes = checked_boxes(frames, boxes_xywh)
        self.tracker.init(self._picture(frames[0]), boxes[0].numpy().copy())
        return BoxState(boxes)

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[BoxState, Prediction]:
        """Ask the object for its box.

        Args:
            state: What `init` or the previous `step` returned.
            frames: One frame.

        Returns:
            The next state, and the box with the object's score, or with 1 if it gives none.

        Raises:
            ValueError: The answer is neither a box nor a box with a score.
        """
        (frame,) = frames
        given = self.tracker.update(self._picture(frame))
        box, score = given if isinstance(given, tuple | list) and len(given) == 2 else (given, 1.0)
        try:
            box = box[0] if len(box) == 1 else box  # [1, 4] fits the toolkit's arrays as well
            boxes = torch.as_tensor([float(v) for v in box], dtype=torch.float64).reshape(1, 4)
            scores = torch.tensor([float(score)])
            if (boxes[:, 2:] < 0).any():
                raise ValueError("a size is negative")
        except (LookupError, TypeError, ValueError, RuntimeError):
            what = f"update() of {type(self.tracker).__name__} returned {given!r}"
            raise ValueError(f"{what}; expected x, y, w, h, or (box, score)") from None
        return BoxState(boxes), Prediction(boxes.clone(), scores)

    def _picture(self, frame: Frame) -> Any:
        if not self.pil:
            return frame.rgb
        from PIL import Image

        return Image.fromarray(frame.rgb)


@dataclass(frozen=True)
class ForeignSpec(TrackerSpec):
    """Spec of a third-party tracker in this process; it is not rebuilt.

    Attributes:
        tracker: The object.
        name: Its name in result paths and tables.
        pil: See `ForeignTracker`.
    """

    tracker: Any = None
    name: str = ""
    pil: bool = False

    @classmethod
    def of(cls, tracker: Any, name: str = "", pictures: str = "auto") -> ForeignSpec:
        """Describe an object, or a class that is called without arguments.

        Args:
            tracker: Has `init(image, box)` and `update(image)`.
            name: In place of its attribute `name`, or of its class's name.
            pictures: "array", "pil", or "auto": PIL for trackers of the GOT-10k toolkit, which have `name` and
                `is_deterministic`, and arrays for others.

        Raises:
            TypeError: It lacks a method.
            ValueError: `pictures` is another word.
        """
        if pictures not in PICTURES:
            raise ValueError(f"pictures {pictures!r} is unknown; expected {', '.join(PICTURES)}")
        try:
            made = tracker() if inspect.isclass(tracker) else tracker
        except TypeError as error:
            raise TypeError(f"{tracker.__name__} cannot be made without arguments ({error}); give an object") from error
        kind = type(made).__name__
        if lacking := [method for method in ("init", "update") if not callable(getattr(made, method, None))]:
            raise TypeError(f"{kind} has no {' and no '.join(lacking)}; expected init(image, box) and update(image)")
        toolkit = hasattr(made, "is_deterministic") and hasattr(made, "name")
        label = re.sub(r"[^\w.+-]+", "_", str(name or getattr(made, "name", ""))).lstrip(".")
        return cls(tracker=made, name=label or kind, pil=pictures == "pil" or (pictures == "auto" and toolkit))

    @property
    def labels(self) -> tuple[str, str]:
        """("other", name) as in result paths."""
        return "other", self.name

    def resolve(self, paths: Any, benchmark: str | None = None) -> ForeignSpec:
        """The spec for a benchmark; there is nothing to find."""
        return replace(self, benchmark=benchmark, paths=paths)

    def identity(self) -> Identity:
        """Name and class; what the object computes is not known."""
        kind = type(self.tracker)
        return Identity({"tracker": self.name, "class": f"{kind.__module__}.{kind.__qualname__}"})

    def details(self) -> Mapping[str, Any]:
        """Further entries of the manifest."""
        deterministic = getattr(self.tracker, "is_deterministic", None)
        return {
            "method": f"an object with init and update ({self.identity().values['class']})",
            "pictures": "pil" if self.pil else "array",
            "is_deterministic": None if deterministic is None else bool(deterministic),
        }

    def execution(self, slot: int) -> Execution:
        """The object chooses its device itself."""
        return Execution("cpu", torch.float32, "pictures are read on the CPU; the tracker computes where it likes")

    def build(self, slot: int = 0) -> Tracker:
        """The object behind the tracker's contract."""
        return ForeignTracker(self.tracker, self.pil)
