"""ONLINE: a filter next to the head of any one-stream tracker; rows, times, identity, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.config import ConfigError
from lib.data import Frame
from lib.deploy import EngineError, Inference, export, prepare
from lib.methods import load_experiment
from lib.models.heads import FEATURE, Candidates
from lib.track import OneStreamTracker, OnlineFilter, Prediction, SearchRegion

SMALL = {
    "ostrack": ("synthetic_demo", "MODEL.BACKBONE.DEPTH=1"),
    "sdstrack": ("synthetic_demo",),
    "cstrack_s2": ("synthetic_small",),
    "transt": ("synthetic_small",),
    "siamrpnpp": ("synthetic_small",),
    "siamattn": ("synthetic_small",),
}
OFTEN = "ONLINE={WEIGHT: 0.5, THRESHOLD: 0.0, TRAIN_SKIPPING: 2, INIT_ITERATIONS: 3, SAMPLE_MEMORY_SIZE: 11}"
START = torch.tensor([[24.0, 20.0, 30.0, 30.0]], dtype=torch.float64)


def tracker(script: str = "ostrack", *overrides: str) -> OneStreamTracker:
    config, *own = SMALL[script]
    e = load_experiment(script, config, (*own, *overrides))
    torch.manual_seed(0)
    track = e.build_tracker(e.method.build_network(e.config, False))
    assert isinstance(track, OneStreamTracker)
    return track


def clip(seed: int, frames: int = 7, aux: bool = False) -> list[Frame]:
    """A textured target that moves over a smooth ground."""
    rng = np.random.default_rng(seed)
    ground = np.repeat(np.repeat(rng.integers(60, 120, (14, 18, 3), dtype=np.uint8), 8, 0), 8, 1)
    target = np.repeat(np.repeat(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), 5, 0), 5, 1)
    made = []
    for t in range(frames):
        shown = ground.copy()
        shown[20 + t : 50 + t, 24 + 2 * t : 54 + 2 * t] = target
        made.append(Frame(shown, shown[:, :, ::-1].copy()) if aux else Frame(shown))
    return made


def follow(track: OneStreamTracker, frames: list[Frame]) -> tuple[Any, Tensor]:
    state, boxes = track.init(frames[:1], START), []
    for frame in frames[1:]:
        state, prediction = track.step(state, [frame])
        boxes.append(prediction.boxes_xywh[0])
    return state, torch.stack(boxes)


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL)
def test_every_one_stream_tracker_learns_and_lets_the_filter_have_its_share(script: str) -> None:
    plain, online = tracker(script), tracker(script, OFTEN)
    frames = clip(1, 4, plain.reads_aux)
    state = online.init(frames[:1], START)
    assert state.online is not None
    began = state.online.filters
    region = online.crop_search(state, frames[1:2])
    with torch.no_grad():
        own = plain.forward(plain.init(frames[:1], START), region).candidates
        mixed = online.forward(state, region).candidates
    assert torch.equal(own.boxes, mixed.boxes)
    share = 2 * mixed.scores - own.scores
    assert share.min() > -1e-5
    assert share.max() < 1 + 1e-5
    # One number per cell, for all shapes of a cell; it rises where the target is.
    cells = share.view(-1, online.grid, online.grid)
    torch.testing.assert_close(cells, cells[:1].expand_as(cells), rtol=1e-4, atol=1e-4)
    row, column = divmod(int(cells[0].argmax()), online.grid)
    assert max(abs(row - online.grid // 2), abs(column - online.grid // 2)) <= 2
    for frame in frames[1:3]:
        state, _ = online.step(state, [frame])
    assert not torch.equal(state.online.filters, began)  # type: ignore[union-attr]


@pytest.mark.parametrize("prepared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_that_start_at_different_frames_learn_as_they_do_alone(prepared: bool) -> None:
    """Row k of 4 enters with frame k, so that filters are due in different frames; one row sees nothing for a while."""
    track = tracker("ostrack", OFTEN.replace("THRESHOLD: 0.0", "THRESHOLD: 0.1"))
    track = prepare(track) if prepared else track
    clips = [clip(s, 6) for s in range(4)]
    clips[2][3] = Frame(np.full_like(clips[2][3].rgb, 127))
    alone = [follow(track, frames) for frames in clips]
    state: Any = None
    found: list[list[Tensor]] = [[] for _ in clips]
    rows: list[int] = []
    for t in range(8):
        if t < len(clips):
            new = track.init(clips[t][:1], START)
            state = new if state is None else type(new).cat([state, new])
            rows.append(t)
        state, prediction = track.step(state, [clips[r][len(found[r]) + 1] for r in rows])
        for i, r in enumerate(rows):
            found[r].append(prediction.boxes_xywh[i])
        stays = [i for i, r in enumerate(rows) if len(found[r]) < 5]
        for i, r in enumerate(rows):
            if i not in stays:
                one, last = state.select([i]).online, alone[r][0].online
                assert torch.equal(one.samples.stored, last.samples.stored)
                torch.testing.assert_close(one.filters, last.filters, rtol=1e-3, atol=1e-5)
        if stays:
            state, rows = state.select(stays), [rows[i] for i in stays]
    for boxes, (_, expected) in zip(found, alone, strict=True):
        torch.testing.assert_close(torch.stack(boxes), expected, rtol=1e-4, atol=1e-2)


def test_a_step_leaves_the_state_as_it_was() -> None:
    track, frames = tracker("ostrack", OFTEN), clip(1)
    state = track.init(frames[:1], START)
    for frame in frames[1:5]:
        state, _ = track.step(state, [frame])
    first, again = (track.step(state, frames[5:6]) for _ in range(2))
    assert torch.equal(first[1].boxes_xywh, again[1].boxes_xywh)
    assert torch.equal(first[0].online.filters, again[0].online.filters)  # type: ignore[union-attr]


GRID, WIDTH = 12, 16


def scene(generator: torch.Generator, at: tuple[int, int]) -> Tensor:
    """Features [1, C, g, g] of a target at a cell, the same everywhere, and of a look-alike in the corner."""
    rows = torch.Generator().manual_seed(5)
    target, other = torch.randn(2, WIDTH, 1, 1, generator=rows)
    feature = 0.3 * torch.randn(1, WIDTH, GRID, GRID, generator=generator)
    feature[:, :, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] += target
    feature[:, :, :2, :2] += 0.8 * target + 0.6 * other
    return feature


def look_at(feature: Tensor) -> Candidates:
    """A head that likes the look-alike as much as the target."""
    return Candidates(torch.full((1, GRID * GRID), 0.5), torch.zeros(1, GRID * GRID, 4), {FEATURE: feature})


def region(centre: tuple[float, float] = (60.0, 60.0)) -> SearchRegion:
    """A search region of ten pixels per cell around a place."""
    middle, sides = torch.tensor([centre], dtype=torch.float64), torch.full((1, 2), 10.0 * GRID, dtype=torch.float64)
    return SearchRegion(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), middle, sides, sides)


@pytest.fixture
def online() -> OnlineFilter:
    e = load_experiment("ostrack", "synthetic_demo", ("ONLINE={THRESHOLD: 0.4, TRAIN_SKIPPING: 1, WEIGHT: 1.0}",))
    return OnlineFilter(e.config.online, GRID, 1 / GRID, torch.device("cpu"))


TARGET = torch.tensor([[50.0, 60.0, 30.0, 30.0]], dtype=torch.float64)
"""Its middle is in row 7, column 6 of a region around 60, 60."""


def begin(online: OnlineFilter, generator: torch.Generator) -> Any:
    def search_around(around: Tensor) -> Any:
        # Half a cell aside, so that the target's middle is that of a cell.
        x, y = (around[0, :2] + around[0, 2:] / 2 - 5).tolist()
        seen = region((x, y))
        column, row = ((TARGET[0, :2] + 15 - torch.tensor([x, y])) / 10 + GRID / 2).int().tolist()
        return seen, type("Output", (), {"candidates": look_at(scene(generator, (row, column)))})

    return online.init_state(TARGET, search_around)


def test_a_look_alike_is_kept_apart_after_the_first_frame(online: OnlineFilter) -> None:
    generator = torch.Generator().manual_seed(0)
    state = begin(online, generator)
    for at in ((7, 6), (5, 8), (9, 4)):
        scores = online.mix(look_at(scene(generator, at)), state).scores.view(GRID, GRID)
        assert divmod(int(scores.argmax()), GRID) == at
        assert scores[:3, :3].max() < 0.5 * scores.max()


def test_a_product_gives_no_place_a_score_that_the_head_did_not_give(online: OnlineFilter) -> None:
    generator = torch.Generator().manual_seed(0)
    state, seen = begin(online, generator), look_at(scene(generator, (5, 8)))
    online.settings = replace(online.settings, mix="product", weight=0.5)
    scores = online.mix(seen, state).scores.view(GRID, GRID)
    assert divmod(int(scores.argmax()), GRID) == (5, 8)
    assert scores.max() < 0.5
    assert scores.min() >= 0.25


def test_frames_below_the_threshold_and_without_numbers_teach_nothing(online: OnlineFilter) -> None:
    generator = torch.Generator().manual_seed(0)
    state, seen = begin(online, generator), look_at(scene(generator, (7, 6)))
    for score, learns in ((0.39, False), (float("nan"), False), (0.41, True)):
        prediction = Prediction(TARGET, torch.tensor([score]))
        after = online.learn(state, region(), seen, prediction)
        assert (int(after.samples.stored) > int(state.samples.stored)) == learns
        assert torch.equal(after.filters, state.filters) != learns
        assert int(after.steps) == int(state.steps) + 1


def test_a_row_without_numbers_leaves_the_others_alone() -> None:
    track, frames = tracker("ostrack", OFTEN), clip(1)
    _, expected = follow(track, frames)
    state = track.init(frames[:1] * 2, START.repeat(2, 1))
    assert state.online is not None
    state.online.filters[0] = float("nan")
    for t in range(1, 7):
        state, prediction = track.step(state, frames[t : t + 1] * 2)
        torch.testing.assert_close(prediction.boxes_xywh[1], expected[t - 1], rtol=1e-4, atol=1e-2)


def test_it_is_off_by_default_and_part_of_what_a_result_is_of() -> None:
    plain, on, other = (load_experiment("ostrack", "synthetic_demo", o) for o in ((), (OFTEN,), ("ONLINE={}",)))
    assert plain.config.online is None
    assert "ONLINE" not in plain.plain
    assert len({e.hash for e in (plain, on, other)}) == 3
    assert replace(on.config, online=None) == plain.config


@pytest.mark.parametrize(
    ("script", "config", "override", "message"),
    [
        ("ostrack", "synthetic_demo", "ONLINE={FILTER_SIZE: 4}", "FILTER_SIZE must be odd, not 4"),
        ("ostrack", "synthetic_demo", "ONLINE={WEIGHT: 2}", r"ONLINE.*WEIGHT must lie in 0..1, not 2"),
        ("ostrack", "synthetic_demo", "ONLINE={SAMPLE_MEMORY_SIZE: 9}", "SAMPLE_MEMORY_SIZE must be at least 10"),
        ("ostrack", "synthetic_demo", "ONLINE={WEIGTH: 0.1}", "unknown key ONLINE.WEIGTH.*WEIGHT"),
        ("trdimp", "synthetic_small", "ONLINE={}", "ONLINE: the tracker of trdimp is no one-stream tracker"),
    ],
)
def test_what_does_not_fit_is_reported(script: str, config: str, override: str, message: str) -> None:
    def build() -> None:
        e = load_experiment(script, config, (override,))
        e.build_tracker(e.method.build_network(e.config, False))

    with pytest.raises(ConfigError, match=message):
        build()


def test_a_head_without_cells_is_reported() -> None:
    track = tracker("ostrack", OFTEN, "MODEL.HEAD={TYPE: CORNER, NUM_CHANNELS: 8}")
    with pytest.raises(ValueError, match="ONLINE needs a head with a score for every cell"):
        track.init(clip(1)[:1], START)


def test_engines_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="ONLINE learns from features that a graph does not give"):
        export(tracker("ostrack", OFTEN), tmp_path, Inference(engine="onnx"))
