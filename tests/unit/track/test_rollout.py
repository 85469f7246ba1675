"""Roll-outs: the tracker that explores is the tracker that evaluates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.data import CROP_STYLES, Frame, FrameSet, Modality, cxcywh_to_xywh
from lib.deploy import prepare_for_rollout
from lib.methods import load_experiment
from lib.track import OneStreamTracker, SearchRegion, greedy, roll_out

DEPTH = ("MODEL.BACKBONE.DEPTH=1",)


def tracker(*overrides: str) -> OneStreamTracker:
    experiment = load_experiment("ostrack", "synthetic_demo", (*DEPTH, *overrides))
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, False)
    track: OneStreamTracker = experiment.build_tracker(network)
    return track


def clip(seed: int, height: int, width: int, frames: int = 4) -> FrameSet:
    rng = np.random.default_rng(seed)
    pictures = [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames + 1)]
    boxes = np.array([[20.0 + t, 15.0 + t, 24.0, 18.0 + seed] for t in range(frames + 1)])
    ids = tuple(range(frames + 1))
    return FrameSet((pictures[0],), tuple(pictures[1:]), boxes[:1], boxes[1:], Modality.RGB, "made", f"clip{seed}", ids)


CLIPS = [clip(1, 90, 120), clip(2, 70, 160)]


def last_cell(response: torch.Tensor) -> torch.Tensor:
    """The cell with the lowest response."""
    return response.argmin(dim=1)


def test_both_halves_give_the_boxes_that_step_gives() -> None:
    track = tracker()
    rollout = roll_out(track, CLIPS, last_cell)
    for half, policy in enumerate((greedy, last_cell)):
        for i, one in enumerate(CLIPS):
            state = track.init(list(one.template), torch.from_numpy(one.template_boxes))
            state = replace(state, boxes_xywh=torch.from_numpy(one.search_boxes[:1]))
            for t, frame in enumerate(one.search[1:]):
                state, prediction = track.step(state, [frame], policy)
                torch.testing.assert_close(
                    rollout.boxes_xywh[half, t, i], prediction.boxes_xywh[0], rtol=1e-4, atol=1e-2
                )


def test_a_prepared_copy_rolls_out_alike_and_leaves_the_network_to_learn() -> None:
    track = tracker()
    names = list(track.network.state_dict())
    quick = prepare_for_rollout(track)
    plain, rollout = roll_out(track, CLIPS, last_cell), roll_out(quick, CLIPS, last_cell)
    torch.testing.assert_close(rollout.boxes_xywh, plain.boxes_xywh, rtol=1e-4, atol=1e-2)
    assert quick.network is not track.network
    assert list(track.network.state_dict()) == names
    seen = track.forward(track.init_state(rollout.target, torch.zeros(2, 4)), rollout.views[0]).scores
    seen.sum().backward()
    assert sum(p.grad is not None for p in track.network.parameters()) > 10


def test_a_tracker_that_explores_greedily_has_no_advantage() -> None:
    rollout = roll_out(tracker(), CLIPS, greedy)
    assert torch.equal(rollout.boxes_xywh[0], rollout.boxes_xywh[1])
    assert rollout.advantage().tolist() == [0.0, 0.0]


def test_what_the_exploring_tracker_saw_is_kept_and_nothing_of_it_is_differentiated() -> None:
    track = tracker()
    rollout = roll_out(track, CLIPS, last_cell)
    assert (len(rollout.views), rollout.cells.shape) == (3, (3, 2))
    for before, view in zip(rollout.boxes_xywh[1, :-1], rollout.views[1:], strict=True):
        torch.testing.assert_close(view.centres, before[:, :2] + before[:, 2:] / 2)
    assert all(v.crops.dtype == torch.uint8 for v in rollout.views)
    assert all(p.grad is None for p in track.network.parameters())
    again = track.forward(track.init_state(rollout.target, torch.zeros(2, 4)), rollout.views[0])
    assert again.windowed_scores is not None
    assert torch.equal(last_cell(again.windowed_scores), rollout.cells[0])
    assert again.windowed_scores.requires_grad


def test_absent_targets_are_overlapped_by_nothing() -> None:
    gone = replace(CLIPS[0], search_boxes=CLIPS[0].search_boxes.copy())
    gone.search_boxes[2] = np.nan
    overlaps = roll_out(tracker(), [gone], last_cell).overlaps()
    assert overlaps[:, 1].tolist() == [[0.0], [0.0]]
    assert overlaps.isfinite().all()


def test_a_box_is_placed_where_the_tracker_would_read_it() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    centres, sides = torch.rand(5, 2, generator=generator, dtype=torch.float64) * 100, torch.full((5, 2), 80.0).double()
    view = SearchRegion(torch.zeros(5, 3, 2, 2), centres, sides, torch.zeros(5, 2))
    torch.testing.assert_close(view.place(CROP_STYLES["area"]().to_image(boxes, centres, sides)), cxcywh_to_xywh(boxes))


def test_a_head_without_choice_is_told() -> None:
    with pytest.raises(ValueError, match="one box, not one per cell"):
        roll_out(tracker("MODEL.HEAD={TYPE: CORNER}"), CLIPS, greedy)
