"""Roll-outs: the tracker that explores is the tracker that evaluates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.data import CROP_STYLES, CropError, Frame, FrameSet, Modality
from lib.deploy import prepare_for_rollout
from lib.methods import load_experiment
from lib.track import (
    OneStreamState,
    OneStreamTracker,
    Policy,
    Prediction,
    Rollout,
    SearchRegion,
    TrackerOutput,
    roll_out,
)
from tests.support.boxes import cxcywh_to_xywh

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


def last(policy_logits: torch.Tensor) -> torch.Tensor:
    """The candidate with the lowest score."""
    return policy_logits.argmin(dim=-1)


def best(policy_logits: torch.Tensor) -> torch.Tensor:
    return policy_logits.argmax(dim=-1)


def forward(track: OneStreamTracker, rollout: Rollout, frame: int) -> TrackerOutput:
    """The network's output for what the exploring rows saw in a frame."""
    state = track.init_state(rollout.template, track.encode_template(rollout.template), rollout.start_xywh)
    return track.forward(state, rollout.regions[frame])


def test_both_halves_give_the_boxes_that_step_gives() -> None:
    track = tracker()
    rollout = roll_out(track, CLIPS, last)
    for half, policy in enumerate((None, last)):
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
    plain, rollout = roll_out(track, CLIPS, last), roll_out(quick, CLIPS, last)
    torch.testing.assert_close(rollout.boxes_xywh, plain.boxes_xywh, rtol=1e-4, atol=1e-2)
    assert quick.network is not track.network
    assert list(track.network.state_dict()) == names
    forward(track, rollout, 0).candidates.scores.sum().backward()
    assert sum(p.grad is not None for p in track.network.parameters()) > 10


def test_a_tracker_that_explores_greedily_has_no_advantage() -> None:
    rollout = roll_out(tracker(), CLIPS, best)
    assert torch.equal(rollout.boxes_xywh[0], rollout.boxes_xywh[1])
    assert rollout.advantage().tolist() == [0.0, 0.0]


def test_what_the_exploring_tracker_saw_is_kept_and_nothing_of_it_is_differentiated() -> None:
    track = tracker()
    rollout = roll_out(track, CLIPS, last)
    assert (len(rollout.regions), rollout.choices.shape) == (3, (3, 2))
    for before, region in zip(rollout.boxes_xywh[1, :-1], rollout.regions[1:], strict=True):
        torch.testing.assert_close(region.centres, before[:, :2] + before[:, 2:] / 2)
    assert all(r.crops.dtype == torch.uint8 for r in rollout.regions)
    assert torch.equal(rollout.start_xywh, torch.from_numpy(np.stack([c.search_boxes[0] for c in CLIPS])))
    assert all(p.grad is None for p in track.network.parameters())
    again = forward(track, rollout, 0)
    assert again.windowed_scores is not None
    assert torch.equal(last(again.windowed_scores), rollout.choices[0])
    assert again.windowed_scores.requires_grad


class Exploding(OneStreamTracker):
    """Its last row finds boxes that no crop can be cut around, in the first two frames."""

    frames = 0
    found = ([-3e3, -4e3, 1e6, 1e6], [5.0, 5.0, 0.0, 9.0])

    def postprocess(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[OneStreamState, Prediction]:
        state, prediction = super().postprocess(state, region, output, policy)
        self.frames += 1
        boxes = state.boxes_xywh.clone()
        if self.frames <= 2:
            boxes[-1] = torch.tensor(self.found[self.frames - 1])
        return replace(state, boxes_xywh=boxes), replace(prediction, boxes_xywh=boxes)


def test_a_box_beyond_all_bounds_does_not_end_the_training() -> None:
    track = tracker()
    plain = roll_out(track, CLIPS, last)
    track.__class__ = Exploding
    rollout = roll_out(track, CLIPS, last)
    # Wherever it says that the target is, it looks round the start until it finds a box again.
    middle = torch.from_numpy(CLIPS[1].search_boxes[0, :2] + CLIPS[1].search_boxes[0, 2:] / 2)
    for region in rollout.regions:
        torch.testing.assert_close(region.centres[1], middle)
    assert rollout.overlaps()[1, :2, 1].max() < 1e-6
    torch.testing.assert_close(rollout.boxes_xywh[:, :, 0], plain.boxes_xywh[:, :, 0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(rollout.boxes_xywh[0], plain.boxes_xywh[0], rtol=1e-4, atol=1e-2)


def test_nan_in_a_roll_out_ends_the_training() -> None:
    track = tracker()
    track.__class__ = type("FindsNothing", (Exploding,), {"found": ([np.nan] * 4,) * 2})
    with pytest.raises(CropError, match="not a finite number"):
        roll_out(track, CLIPS, last)


def test_search_regions_name_the_row_that_they_belong_to() -> None:
    """Templates are encoded once per clip, however many frames of it are looked at, and in any order."""
    track = tracker()
    rollout = roll_out(track, CLIPS, last)
    state = track.init_state(rollout.template, track.encode_template(rollout.template), rollout.start_xywh)
    rows = torch.tensor([1, 0, 1])
    region = SearchRegion.cat([rollout.regions[0], rollout.regions[1]]).select([1, 0, 3])
    with torch.no_grad():
        found = track.forward(state, region, rows)
        alone = [track.forward(state.select([int(r)]), region.select([i])) for i, r in enumerate(rows)]
    assert found.windowed_scores is not None
    expected = torch.cat([o.windowed_scores for o in alone if o.windowed_scores is not None])
    torch.testing.assert_close(found.windowed_scores, expected, rtol=1e-4, atol=1e-6)


def test_absent_targets_are_overlapped_by_nothing() -> None:
    gone = replace(CLIPS[0], search_boxes=CLIPS[0].search_boxes.copy())
    gone.search_boxes[2] = np.nan
    overlaps = roll_out(tracker(), [gone], last).overlaps()
    assert overlaps[:, 1].tolist() == [[0.0], [0.0]]
    assert overlaps.isfinite().all()


def test_a_box_lies_in_the_crop_where_the_tracker_reads_it() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    centres, sides = torch.rand(5, 2, generator=generator, dtype=torch.float64) * 100, torch.full((5, 2), 80.0).double()
    region = SearchRegion(torch.zeros(5, 3, 2, 2), centres, sides, torch.zeros(5, 2))
    image = CROP_STYLES["area"]().to_image(boxes, centres, sides)
    torch.testing.assert_close(region.to_crop(image), cxcywh_to_xywh(boxes))


def test_a_head_without_choice_is_reported() -> None:
    track = tracker("MODEL.HEAD={TYPE: CORNER}")
    plain = track.forward

    def without(state: OneStreamState, region: SearchRegion, rows: torch.Tensor | None = None) -> TrackerOutput:
        return replace(plain(state, region, rows), policy_logits=None)

    track.forward = without  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="one box and no choice"):
        roll_out(track, CLIPS, best)


def test_the_greedy_half_of_a_corner_head_takes_the_expected_corners() -> None:
    track = tracker("MODEL.HEAD={TYPE: CORNER}")
    rollout = roll_out(track, CLIPS[:1], best)
    assert rollout.choices.shape == (3, 1, 2)
    state = track.init(list(CLIPS[0].template), torch.from_numpy(CLIPS[0].template_boxes))
    state = replace(state, boxes_xywh=torch.from_numpy(CLIPS[0].search_boxes[:1]))
    _, prediction = track.step(state, [CLIPS[0].search[1]])
    torch.testing.assert_close(rollout.boxes_xywh[0, 0], prediction.boxes_xywh, rtol=1e-4, atol=1e-2)
    assert not torch.allclose(rollout.boxes_xywh[1, 0], prediction.boxes_xywh, atol=0.5)


@pytest.mark.parametrize("update", [False, True])
def test_a_roll_out_updates_trackers_where_that_is_requested(update: bool) -> None:
    track = tracker()
    seen: list[int] = []

    def counted(
        state: OneStreamState,
        frames: list[Frame],
        region: SearchRegion,
        output: TrackerOutput,
        prediction: Prediction,
    ) -> OneStreamState:
        seen.append(len(frames))
        return state

    track.update = counted  # type: ignore[method-assign, assignment]
    roll_out(track, CLIPS, best, update=update)
    assert seen == ([4, 4, 4] if update else [])


def test_clips_that_cannot_be_followed_are_named() -> None:
    with pytest.raises(ValueError, match=r"made/clip2.* has a single frame: there is nothing to track in it"):
        roll_out(tracker(), [CLIPS[0], replace(CLIPS[1], real_length=1)], best)
    nowhere = replace(CLIPS[0], search_boxes=np.zeros_like(CLIPS[0].search_boxes))
    with pytest.raises(ValueError, match=r"initial box 0 is \[0.0, 0.0, 0.0, 0.0\]"):
        roll_out(tracker(), [nowhere], best)
