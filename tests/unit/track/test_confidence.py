"""Calibrated scores and the search for lost targets: rows on their own, the tracker's boxes, tiles, files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lib.bench import StaticTracker, TrackerSpec, demo_spec
from lib.data import Frame
from lib.deploy import AutocastTracker
from lib.methods import load_experiment
from lib.models.heads import Candidates
from lib.track import (
    FEATURES,
    Calibration,
    ConfidenceTracker,
    Prediction,
    ReacquiringTracker,
    SearchRegion,
    StagedTracker,
    Tracker,
    WrappedTracker,
    confidence_file,
    histogram_of_colours,
    measure_features,
    status_of,
    tile_boxes,
)
from tests.support.small_trackers import SMALL


def network_tracker(script: str = "ostrack") -> StagedTracker:
    experiment = load_experiment(script, "synthetic_small")
    torch.manual_seed(0)
    tracker = experiment.build_tracker(experiment.method.build_network(experiment.config, False))
    assert isinstance(tracker, StagedTracker)
    return tracker


def calibration(seed: int = 0, spread: float = 3.0) -> Calibration:
    """Random weights: some rows are lost, others not."""
    rng, count = torch.Generator().manual_seed(seed), len(FEATURES)
    zeros, ones = torch.zeros(count, dtype=torch.float64), torch.ones(count, dtype=torch.float64)
    hidden = spread * torch.randn(count, 4, dtype=torch.float64, generator=rng)
    out = 3 * torch.randn(4, dtype=torch.float64, generator=rng)
    return Calibration(zeros, ones, hidden, zeros[:4], out, torch.tensor(-1.0, dtype=torch.float64), {"made": "up"})


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


BOXES = torch.tensor([[30.0, 20.0, 25.0, 30.0], [60.0, 15.0, 18.0, 22.0], [10.0, 40.0, 40.0, 20.0]]).double()


def test_settings_of_rows_reach_the_tracker() -> None:
    inner, frames = network_tracker(), clip(1, 2, 120, 160)
    own = {"search_factor": 2.5}

    def boxes(tracker: Tracker, settings: dict[str, float]) -> torch.Tensor:
        state = tracker.init(frames[:1], BOXES[:1])
        state = tracker.with_settings(state, settings) if settings else state
        return tracker.step(state, frames[1:])[1].boxes_xywh

    expected = boxes(inner, own)
    assert not torch.allclose(expected, boxes(inner, {}))
    wrapped = (ConfidenceTracker(inner, calibration()), AutocastTracker(inner, "cuda", torch.float16))
    for tracker in wrapped:
        assert torch.equal(boxes(tracker, own), expected)
    again = ReacquiringTracker(inner, calibration())
    state = again.with_settings(again.init(frames[:1], BOXES[:1]), own)
    assert state.track.tracker.settings.tolist() == [[2.5]]
    with pytest.raises(ValueError, match="StaticTracker tracks all rows with the same search_factor"):
        boxes(StaticTracker(), own)


WRAPPERS: dict[str, Callable[[StagedTracker], WrappedTracker]] = {
    "calibrated": lambda inner: ConfidenceTracker(inner, calibration()),
    "reacquiring": lambda inner: ReacquiringTracker(inner, calibration()),
    "autocast": lambda inner: AutocastTracker(inner, "cuda", torch.float16),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_has_every_face_of_its_tracker(name: str) -> None:
    faces = {face for face in vars(Tracker) if not face.startswith("_")}
    attributes = {face for face in faces if not callable(getattr(Tracker, face))}
    assert {"reads_aux", "gives_regions", "row_keys"} < attributes
    inner = network_tracker()
    for attribute in attributes - {"gives_regions"}:
        setattr(inner, attribute, f"its {attribute}")
    inner.gives_regions = frozenset({"mask"})
    wrapper = WRAPPERS[name](inner)
    for attribute in attributes:
        wanted = frozenset() if (name, attribute) == ("reacquiring", "gives_regions") else getattr(inner, attribute)
        assert getattr(wrapper, attribute) == wanted
    for method in faces - attributes:
        assert getattr(type(wrapper), method) is not getattr(Tracker, method)


def test_regions_are_requested_of_the_tracker_inside_unless_the_wrapper_gives_none() -> None:
    inner = network_tracker()
    inner.gives_regions = frozenset({"mask"})
    WRAPPERS["calibrated"](inner).request_regions("mask")
    assert inner.regions == {"mask"}
    with pytest.raises(ValueError, match="ReacquiringTracker gives boxes, no mask"):
        WRAPPERS["reacquiring"](inner).request_regions("mask")


def test_each_row_gets_what_it_gets_alone() -> None:
    track = ConfidenceTracker(network_tracker("siamrpnpp"), calibration())
    clips = [clip(1, 8, 120, 160), clip(2, 8, 90, 200), clip(3, 8, 150, 110)]
    alone = []
    for frames, box in zip(clips, BOXES, strict=True):
        state, found = track.init(frames[:1], box[None]), []
        for frame in frames[1:]:
            state, prediction = track.step(state, [frame])
            found.append(torch.cat([prediction.boxes_xywh[0], prediction.scores.double()]))
        alone.append(torch.stack(found))
    state = track.init([c[0] for c in clips[:2]], BOXES[:2])
    state = type(state).cat([state, track.init([clips[2][0]], BOXES[2:])])
    for t in range(1, 8):
        state, prediction = track.step(state, [c[t] for c in clips])
        for row in range(3):
            together = torch.cat([prediction.boxes_xywh[row], prediction.scores[row : row + 1].double()])
            torch.testing.assert_close(together, alone[row][t - 1], atol=1e-3, rtol=1e-3)


def test_colours_of_a_box_are_told_apart_and_any_box_has_some() -> None:
    picture = np.full((60, 80, 3), (200, 30, 30), dtype=np.uint8)
    picture[:, 40:] = (30, 30, 200)
    red, blue = (histogram_of_colours(picture, np.array([x, 20.0, 20.0, 20.0])) for x in (8, 52))
    assert red.max() == pytest.approx(1.0)
    assert np.sqrt(red * blue).sum() == 0
    half = histogram_of_colours(picture, np.array([30.0, 20.0, 20.0, 20.0]))
    assert np.sqrt(red * half).sum() == pytest.approx(math.sqrt(0.5))
    picture[:] = 0
    picture[18:42, 28:52] = (200, 30, 30)  # a tenth of a side more than the box, on all sides
    for x, y, colours in ((30, 20, 1), (29, 20, 2), (31, 20, 2), (30, 19, 2), (30, 21, 2)):
        assert np.count_nonzero(histogram_of_colours(picture, np.array([x, y, 20.0, 20.0]))) == colours
    for box in ((-500.0, 20.0, 20.0, 20.0), (70.0, 50.0, 30.0, 30.0), (math.nan, 0.0, math.inf, 1.0)):
        assert histogram_of_colours(picture, np.array(box)).sum() == pytest.approx(1.0)


def test_a_jump_and_a_close_second_are_remembered_and_fade() -> None:
    boxes = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]]])
    region = SearchRegion(
        torch.empty(0), torch.tensor([[50.0, 50.0]]), torch.tensor([40.0]), torch.tensor([[99.0, 99.0]])
    )
    place, memory = torch.tensor([[40.0, 40.0, 10.0, 10.0]]).double(), torch.full((1, 6), torch.nan).double()
    farthest, contested = [], []
    for step, second in ((0.0, 0.1), (30.0, 0.5), (0.0, 0.1), (0.0, 0.1), (-10.0, 0.1)):
        before, place = place, place + torch.tensor([step, 0.0, 0.0, 0.0])
        prediction = Prediction(place, torch.tensor([0.8]))
        found = Candidates(torch.tensor([[second, 0.8]]), boxes)
        features, memory = measure_features(region, found, prediction, before, memory, torch.ones(1))
        farthest.append(float(features[0, FEATURES.index("farthest")]))
        contested.append(float(features[0, FEATURES.index("contested")]))
    jump = math.log1p(3.0)
    assert farthest == pytest.approx([0.0, jump, 0.98 * jump, 0.98**2 * jump, 0.98**3 * jump])
    far, close = math.log(0.1 / 0.9 / 4), math.log(1 / 4)
    assert contested == pytest.approx([far, close, close - 0.02, close - 0.04, close - 0.06], abs=1e-6)


def test_boxes_are_the_trackers_own_and_raw_scores_are_kept() -> None:
    plain = network_tracker()
    track, frames = ConfidenceTracker(plain, calibration()), clip(1, 4, 120, 160)
    own, state = plain.init(frames[:1], BOXES[:1]), track.init(frames[:1], BOXES[:1])
    for frame in frames[1:]:
        own, expected = plain.step(own, [frame])
        state, found = track.step(state, [frame])
        assert torch.equal(found.boxes_xywh, expected.boxes_xywh)
        assert found.raw_scores is not None
        assert torch.equal(found.raw_scores, expected.scores)
        assert found.scores.item() != expected.scores.item()


def test_a_calibration_is_written_next_to_the_weights_and_read_again(tmp_path: Path) -> None:
    assert confidence_file(Path("a/OSTrack_ep0300.pth.tar")) == Path("a/OSTrack_ep0300.confidence.json")
    path = confidence_file(tmp_path / "small.v2.safetensors")
    made, features = calibration(), torch.randn(5, len(FEATURES)).double()
    made.save(path)
    read = Calibration.load(path)
    assert path.name == "small.v2.confidence.json"
    assert read.about == {"made": "up"}
    assert torch.equal(read(features), made(features))
    rare = made.mean + 4 * made.scale * torch.ones(1, len(FEATURES)).double()
    assert torch.equal(made(rare), made(rare + 1e3)), "beyond what it was made from, an overlap stays"
    values = json.loads(path.read_text())
    for name in ("features", "mean", "scale", "hidden"):
        del values[name][3]
    path.write_text(json.dumps(values))
    older = replace(made, hidden=made.hidden * (torch.arange(len(FEATURES)) != 3).double()[:, None])
    assert torch.allclose(Calibration.load(path)(features), older(features)), "what it does not know has no weight"
    path.write_text(path.read_text().replace('"border"', '"colour"'))
    with pytest.raises(ValueError, match=r"confidence\.json: no calibration of scores \(its features are .*colour"):
        Calibration.load(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no calibration of scores"):
        Calibration.load(path)


def test_three_kinds_of_frames_by_the_expected_overlap() -> None:
    assert [status_of(score) for score in (0.1, 0.2, 0.49, 0.5)] == ["lost", "unsure", "unsure", "tracked"]


def test_tiles_cover_the_frame_in_turns_from_the_last_place_on() -> None:
    box = torch.tensor([100.0, 60.0, 20.0, 20.0]).double()
    turns = [tile_boxes(box, 4.0, (240, 320), turn, 24) for turn in range(4)]
    centres = torch.cat([t[:, :2] + t[:, 2:] / 2 for t in turns[:2]])
    assert len(turns[0]) == 24
    assert torch.equal(turns[0][:, 2:], box[2:].expand(24, 2))
    away = (centres - box[:2] - box[2:] / 2).norm(dim=1)
    assert (away.diff() >= 0).all()
    assert torch.equal(turns[2], turns[0])
    every = torch.cartesian_prod(torch.arange(0, 320.0), torch.arange(0, 240.0)).double()
    nearest = (every[:, None] - centres).abs().amax(dim=2).amin(dim=1)
    assert nearest.max() <= 20.5, "each point is in the middle half of some search region of 80 pixels"
    assert len(tile_boxes(box, 100.0, (240, 320), 5, 24)) == 1


def scene(at: tuple[int, int] | None) -> Frame:
    """A coloured, textured target at x, y on a smooth ground."""
    rng = np.random.default_rng(5)
    ground = cv2.GaussianBlur(rng.integers(60, 160, (240, 320, 3), dtype=np.uint8), (0, 0), 6)
    if at is not None:
        x, y = at
        target = cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (32, 32), interpolation=cv2.INTER_NEAREST)
        ground[y : y + 32, x : x + 32] = target
    return Frame(ground)


AWAY, FLASH, BACK = (40, 40), (250, 30), (250, 180)
PLACES = [AWAY, *[None] * 3, *[FLASH] * 3, None, *[BACK] * 4]


def shipped_tracker() -> tuple[StagedTracker, Calibration]:
    """The shipped network, with an expected overlap that is a function of the highest score alone."""
    inner = demo_spec(TrackerSpec(device="cpu", scores="raw", checkpoint=SMALL)).build()
    assert isinstance(inner, StagedTracker)
    zeros, ones = torch.zeros(len(FEATURES)).double(), torch.ones(1).double()
    by_peak = zeros[:, None].clone()
    by_peak[0] = 1.0
    return inner, Calibration(zeros, torch.ones(len(FEATURES)).double(), by_peak, 0 * ones, 4 * ones, 0 * ones[0], {})


def follow(
    track: Tracker, *rows: list[tuple[int, int] | None], state: Any = None, slack: float = 0.5
) -> tuple[Any, torch.Tensor]:
    """The state after targets have been at these places, and boxes and scores [T, B, 5]."""
    if state is None:
        state = track.init([scene(AWAY)] * len(rows), torch.tensor([[40.0, 40.0, 32.0, 32.0]] * len(rows)))
    found = []
    for frame, places in enumerate(zip(*rows, strict=True)):
        if frame == 1 and isinstance(track, ReacquiringTracker):
            # Frames without noise would all have the usual score, or a little less.
            state = replace(state, sure_memory=state.sure_memory - slack)
        state, prediction = track.step(state, [scene(place) for place in places])
        found.append(torch.cat([prediction.boxes_xywh, prediction.scores[:, None].double()], dim=1))
    return state, torch.stack(found)


@pytest.mark.slow
def test_a_target_that_comes_back_elsewhere_is_found_again_once_it_has_stayed() -> None:
    inner, calibrated = shipped_tracker()
    without, track = ConfidenceTracker(inner, calibrated), ReacquiringTracker(inner, calibrated)
    _, plain = follow(without, PLACES)
    state, found = follow(track, PLACES)
    assert plain[:, 0, 0].max() < 130, "without the search it stays where it was"
    assert found[:-1, 0, 0].max() < 130, "three frames elsewhere are not enough, whether it stays or not"
    assert (found[-1, 0, :4] - torch.tensor([*BACK, 32.0, 32.0])).abs().max() < 5
    assert [status_of(score) for score in found[:, 0, 4].tolist()] == ["tracked", *["lost"] * 10, "tracked"]
    _, found = follow(track, [AWAY, *[None] * 3, *[BACK] * 4], slack=-0.5)
    assert found[:, 0, 0].max() < 130, "nothing scores as high as the target usually does"
    # Shows the target at its old place again, which is watched for a while.
    track.patience = 99
    for watched, place in ((state, AWAY), (replace(state, watch=torch.zeros_like(state.watch)), BACK)):
        _, found = follow(track, [AWAY] * 4, state=watched)
        assert (found[-1, 0, :2] - torch.tensor(place)).abs().max() < 50


@pytest.mark.slow
def test_rows_in_search_of_their_targets_get_what_they_get_alone() -> None:
    track = ReacquiringTracker(*shipped_tracker())
    track.patience = track.looks = 1
    track.confirm = 2
    rows = [[AWAY, None, None, BACK, BACK, BACK], [AWAY] * 6, [AWAY, None, BACK, BACK, BACK, BACK]]
    state, together = follow(track, *rows)
    assert (state.watch > 0).tolist() == [True, False, True]
    for row, places in enumerate(rows):
        torch.testing.assert_close(follow(track, places)[1][:, 0], together[:, row], atol=1e-3, rtol=1e-3)
