"""Sequence-level training of CSTrack: what is computed again is what was seen, memory included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.data import FrameSet, Modality
from lib.deploy import prepare_for_rollout
from lib.methods import Experiment, Recipe, resolve
from lib.methods.cstrack import CSTrackRegion, CSTrackTracker, TemplateUpdate
from lib.models import save_release
from lib.models.heads import Candidates
from lib.objectives import Progress, SequenceObjective
from lib.paths import load_paths
from lib.track import TrackerOutput, roll_out
from tests.unit.methods.test_cstrack import SYNTHETIC, clip, experiment, network

LENGTH = 6


def clips(count: int) -> list[FrameSet]:
    """Frames without content, and targets that wander."""
    found = []
    for seed in range(1, count + 1):
        template, *search = clip(seed, 1 + LENGTH, 90, 120)
        boxes = np.array([[30.0 + seed * t, 20.0 + t, 25.0, 30.0] for t in range(LENGTH)])
        names = Modality.RGBT, "made", f"clip_{seed}", tuple(range(1 + LENGTH))
        found.append(FrameSet((template,), tuple(search), boxes[:1], boxes, *names))
    return found


def trained(stage: int, folder: Path, *more: str) -> tuple[Experiment, Recipe]:
    """An experiment that begins with a file of `network(stage)`, resolved."""
    start = save_release(folder / "start", network(stage).state_dict(), {})
    section = f"SLT={{START: {start}, FRAMES: {LENGTH}, MICRO_BATCH: 2}}"
    e = experiment(stage, section, *SYNTHETIC, *more)
    return e, resolve(e, load_paths(save_dir=folder))


def objective(stage: int, folder: Path) -> tuple[SequenceObjective, CSTrackTracker]:
    made = trained(stage, folder)[1].objective
    assert isinstance(made, SequenceObjective)
    track = made.tracker
    assert isinstance(track, CSTrackTracker)
    track.network.eval()
    track.update_rule = TemplateUpdate(1, 0.0)  # so that a second template, were it renewed, would be seen
    return made, track


def live(track: CSTrackTracker, data: list[FrameSet], cells: Tensor) -> TrackerOutput:
    """Frame after frame with gradients, the given cells [K, b] taken; memory is what it was, not what it may become."""
    first = torch.stack([torch.from_numpy(c.template_boxes[0]) for c in data])
    region = track.crop_template([c.template[0] for c in data], first)
    start = torch.stack([torch.from_numpy(c.search_boxes[0]) for c in data])
    state = track.init_state(region, track.encode_template(region), start)
    seen = []
    for t, taken in enumerate(cells, 1):
        search = track.crop_search(state, [c.search[t] for c in data])
        seen.append(track.forward(state, search))
        memory = seen[-1].memory
        with torch.no_grad():
            state, _ = track.postprocess(state, search, seen[-1], lambda _, taken=taken: taken)  # type: ignore[misc]
        state = replace(state, memory=None if memory is None else memory.detach())
    return TrackerOutput(Candidates.cat([j.candidates for j in seen]), None, torch.cat([logits_of(j) for j in seen]))


def logits_of(output: TrackerOutput) -> Tensor:
    assert output.policy_logits is not None
    return output.policy_logits


@pytest.mark.parametrize("stage", [1, 2])
def test_what_is_computed_again_is_what_was_seen(stage: int, tmp_path: Path) -> None:
    made, track = objective(stage, tmp_path)
    data, seen = clips(3), []

    def explore(response: Tensor) -> Tensor:
        seen.append(response)
        return made.policy.draw(response)

    torch.manual_seed(5)
    rollout = roll_out(prepare_for_rollout(track), data, explore)
    for rows, part in zip(([0, 1], [2]), made.parts(rollout, [c.name for c in data]), strict=True):
        assert isinstance(part.regions, CSTrackRegion)
        assert torch.equal(part.start_xywh, rollout.start_xywh[rows])
        state = track.init_state(part.template, track.encode_template(part.template), part.start_xywh)
        again = track.forward(state, part.regions, part.rows)
        before = torch.cat([response[rows] for response in seen])
        torch.testing.assert_close(logits_of(again), before, rtol=2e-4, atol=2e-6)
    responses = torch.stack(seen)
    assert not torch.allclose(responses[1:], responses[:-1], rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_gradients_are_those_of_tracking_itself(stage: int, tmp_path: Path) -> None:
    made, track = objective(stage, tmp_path)
    data = clips(2)
    torch.manual_seed(5)
    (part,) = made.parts(roll_out(track, data, made.policy.draw), [c.name for c in data])
    found = []
    for losses in (
        made(track.network, part, Progress(1, 1)),
        made.losses(live(track, data, part.choices.unflatten(0, (-1, 2))), part),
    ):
        track.network.zero_grad(set_to_none=True)
        losses.total.backward()
        found.append((losses, {n: p.grad for n, p in track.network.named_parameters() if p.grad is not None}))
    (again, mine), (lived, theirs) = found
    assert part.rewards.abs().max() > 0
    torch.testing.assert_close(again.total, lived.total)
    assert mine.keys() == theirs.keys()
    assert ("temporal_fusion.layers.0.linear1.weight" in mine) == (stage == 2)
    largest = max(float(g.abs().max()) for g in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_the_start_of_sequence_level_training_goes_before_an_earlier_stage(tmp_path: Path) -> None:
    for more in ((), ("INIT=null",)):
        e, recipe = trained(2, tmp_path, *more)
        assert (e.config.init is None) == bool(more)
        assert recipe.notes["initial"].startswith("starting weights (SLT.START)")
