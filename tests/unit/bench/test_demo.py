"""Following a target: one box per frame whatever happens, and the right tracker for the options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.bench import TrackerSpec, demo_spec, first_frame, track_video
from lib.data import Frame, Grab, SourceError
from lib.models import WeightsError, save_release
from lib.track import Prediction, State, Tracker, TrackerSession, TrackingError


@dataclass
class Count(State):
    seen: Tensor


class Counting(Tracker):
    """Its box moves right by one pixel with every frame it is given."""

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> Count:
        return Count(boxes_xywh)

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
        assert isinstance(state, Count)
        moved = state.seen + torch.tensor([1.0, 0, 0, 0])
        return Count(moved), Prediction(moved, torch.tensor([0.5]))


def frame() -> Frame:
    return Frame(np.zeros((40, 60, 3), np.uint8))


def grabs(broken: Sequence[int] = (), count: int = 6) -> Iterator[Grab]:
    for i in range(1, count):
        yield Grab(i, None, f"frame {i} is bad") if i in broken else Grab(i, frame())


def test_a_box_for_every_frame() -> None:
    out = track_video(TrackerSession(Counting()), grabs(broken=[2, 5]), frame(), (1, 2, 8, 9))
    assert [b[0] for b in out.boxes_xywh] == [1, 2, 2, 3, 4, 4]
    assert out.scores == [1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert [i for i, _ in out.broken] == [2, 5]


def test_calibrated_scores_say_whether_the_target_is_tracked() -> None:
    class Calibrated(Counting):
        def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
            after, found = super().step(state, frames)
            scores = torch.tensor([{2.0: 0.9, 3.0: 0.3}.get(found.boxes_xywh[0, 0].item(), 0.1)])
            return after, replace(found, scores=scores, raw_scores=found.scores)

    out = track_video(TrackerSession(Calibrated()), grabs(broken=[4]), frame(), (1, 2, 8, 9))
    assert out.statuses == ["tracked", "unsure", "lost", "lost", "lost"]
    assert track_video(TrackerSession(Counting()), grabs(), frame(), (1, 2, 8, 9)).statuses == []


def test_it_stops_when_asked() -> None:
    assert len(track_video(TrackerSession(Counting()), grabs(), frame(), (1, 2, 8, 9), max_frames=3).boxes_xywh) == 3
    out = track_video(TrackerSession(Counting()), grabs(), frame(), (1, 2, 8, 9), on_frame=lambda i, drawn: i < 1)
    assert len(out.boxes_xywh) == 2

    def interrupted() -> Iterator[Grab]:
        yield Grab(1, frame())
        raise KeyboardInterrupt

    out = track_video(TrackerSession(Counting()), interrupted(), frame(), (1, 2, 8, 9))
    assert out.stopped
    assert len(out.boxes_xywh) == 2


def test_a_score_that_is_not_finite_ends_the_run_and_names_the_frame() -> None:
    class Broken(Counting):
        def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
            after, found = super().step(state, frames)
            third = found.boxes_xywh[0, 0] == 4
            return after, Prediction(found.boxes_xywh, torch.where(third, float("nan"), found.scores))

    with pytest.raises(TrackingError, match=r"^clip.mp4, frame 3: the tracker gave the box .* with the score nan"):
        track_video(TrackerSession(Broken()), grabs(), frame(), (1, 2, 8, 9), name="clip.mp4")


def test_start_needs_a_frame() -> None:
    with pytest.raises(SourceError, match="not one frame"):
        first_frame(iter([]), "x.mp4")
    with pytest.raises(SourceError, match="first frame"):
        first_frame(iter([Grab(0, None, "bad")]), "x.mp4")


def test_which_tracker(tmp_path: Path) -> None:
    named = {"script": "ostrack", "config_name": "synthetic_small"}
    own = save_release(tmp_path / "own", {"w": torch.zeros(1)}, named)
    spec = demo_spec(TrackerSpec(checkpoint=own, device="cpu"))
    assert (spec.script, spec.config, spec.checkpoint) == ("ostrack", "synthetic_small", own)
    bare = save_release(tmp_path / "bare", {"w": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="name script and configuration"):
        demo_spec(TrackerSpec(checkpoint=bare, device="cpu"))
    assert demo_spec(TrackerSpec(config="synthetic_small", checkpoint=bare, device="cpu")).config == "synthetic_small"
    with pytest.raises(WeightsError, match="needs a configuration"):
        demo_spec(TrackerSpec("ostrack"))
