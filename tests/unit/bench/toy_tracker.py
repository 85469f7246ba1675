"""A tracker whose boxes depend on nothing but the pixels and its own state, and tiny benchmarks on disk for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lib.bench import Execution, Identity, TrackerSpec
from lib.data import Frame
from lib.paths import Paths
from lib.track import Prediction, State, Tracker


@dataclass
class ToyState(State):
    """boxes_xywh: [B, 4]. steps: [B] frames seen."""

    boxes_xywh: Tensor
    steps: Tensor


class ToyTracker(Tracker):
    """Moves by the picture's mean; the marker pixel (0, 0) = 255 makes it raise, 254 end its process, 253 give a box
    of NaN, 252 a score of NaN."""

    def __init__(self, log: Path | None = None, speed: float = 1.0) -> None:
        self.log, self.speed = log, speed

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> ToyState:
        if (boxes_xywh[:, 2:] <= 0).any():
            raise ValueError(f"a box of size {boxes_xywh[0, 2:].tolist()} cannot be cropped round")
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {frames[0].rgb.mean():.4f} {os.environ.get('RANK', 0)}\n")
        return ToyState(boxes_xywh.clone(), torch.zeros(len(frames)))

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[ToyState, Prediction]:
        assert isinstance(state, ToyState)
        markers = [int(f.rgb[0, 0, 0]) for f in frames]
        if 255 in markers:
            raise RuntimeError("the toy does not like this picture")
        if 254 in markers:
            os.kill(os.getpid(), signal.SIGKILL)
        means = torch.tensor([float(f.rgb.mean()) for f in frames], dtype=torch.float64)
        boxes = state.boxes_xywh.clone()
        boxes[:, 0] += self.speed * (means / 100 + 0.1 * state.steps)
        boxes[:, 1] += means / 1000
        after = replace(state, boxes_xywh=boxes, steps=state.steps + 1)
        shown = boxes.clone()
        shown[[m == 253 for m in markers]] = float("nan")
        scores = torch.tensor([float("nan") if m == 252 else 0.5 for m in markers])
        return after, Prediction(shown, scores)


@dataclass(frozen=True)
class ToySpec(TrackerSpec):
    """weights: what the identity says; speed: what it changes. log: a line per initialisation."""

    weights: str = "a"
    speed: float = 1.0
    log: Path | None = None

    @property
    def labels(self) -> tuple[str, str]:
        return "toy", "toy"

    def identity(self) -> Identity:
        return Identity({"weights": self.weights, "configuration": "c"})

    def details(self) -> Mapping[str, Any]:
        return {"method": "toy"}

    def execution(self, slot: int) -> Execution:
        return Execution("cpu", torch.float32, "a toy")

    def build(self, slot: int = 0) -> Tracker:
        return ToyTracker(self.log, self.speed)


def write_sequence(root: Path, name: str, frames: int, seed: int = 0) -> Path:
    """A sequence in LaSOT's layout below `root/test`; returns its folder."""
    folder = root / "test" / name.partition("-")[0] / name
    (folder / "img").mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for i in range(frames):
        picture = np.full((24, 32, 3), draw.integers(20, 200), dtype=np.uint8)
        cv2.imwrite(str(folder / "img" / f"{i + 1:08d}.jpg"), picture)
    boxes = np.stack([np.full(frames, 4 + seed), np.full(frames, 5), np.full(frames, 8), np.full(frames, 6)], axis=1)
    (folder / "groundtruth.txt").write_text("".join(",".join(map(str, row)) + "\n" for row in boxes))
    for file in ("full_occlusion.txt", "out_of_view.txt"):
        (folder / file).write_text(",".join(["0"] * frames))
    return folder


def mark(folder: Path, frame: int, value: int) -> None:
    """Give one frame (0, 1, ...) a corner that the toy tracker reacts to."""
    picture = np.full((24, 32, 3), value, dtype=np.uint8)
    cv2.imwrite(str(folder / "img" / f"{frame + 1:08d}.jpg"), picture)


def write_benchmark(root: Path, lengths: Sequence[int] = (5, 9, 3, 7, 12, 4)) -> dict[str, Path]:
    """Sequences toy-1, toy-2, ... of these lengths; returns name -> folder."""
    return {f"toy-{i}": write_sequence(root, f"toy-{i}", n, seed=i) for i, n in enumerate(lengths, 1)}


def paths_at(tmp: Path) -> Paths:
    """Data in `tmp/data`, results below `tmp/output`."""
    return Paths(workspace=tmp, data_dir=tmp / "data", save_dir=tmp / "output", pretrained=tmp / "pretrained")
