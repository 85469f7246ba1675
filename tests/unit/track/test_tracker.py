"""TEST.SIZE_MOMENTUM: any tracker's boxes keep their centres, and their sizes go a stated part of the way."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

from lib.data import Frame
from lib.methods import load_experiment
from lib.track import OneStreamTracker, StagedTracker

MOMENTUM = 0.4
CONFIGS = [
    ("ostrack", []),
    ("cstrack_s1", []),
    ("translate_track", []),
    ("transt", []),
    ("siamrpnpp", []),
    ("trdimp", ["TEST.LOCALISATION.TARGET_NOT_FOUND_THRESHOLD=0"]),
]


@pytest.mark.parametrize(("script", "overrides"), CONFIGS)
def test_sizes_go_the_momentum_times_the_score_of_the_way(script: str, overrides: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = load_experiment(script, "synthetic_small", [*overrides, f"TEST.SIZE_MOMENTUM={MOMENTUM}"])
    torch.manual_seed(1)
    damped = experiment.build_tracker(experiment.method.build_network(experiment.config, False))
    assert isinstance(damped, StagedTracker)
    if isinstance(damped, OneStreamTracker):
        damped.margin = 0.0  # boxes are not made larger afterwards
    # Random networks of these two give sizes beyond the picture.
    local = torch.tensor([[0.5, 0.6, 0.3, 0.2], [0.4, 0.5, 0.2, 0.5]], dtype=torch.float64)
    scores = torch.tensor([0.5, 0.7])
    if script == "translate_track":
        damped.select_box = lambda *_: (local, scores)
    elif script == "siamrpnpp":
        damped.select_anchor = lambda *_: (local, scores, scores[:, None].double())
    plain = copy.copy(damped)
    plain.size_momentum = None
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    frame = Frame(picture, picture if damped.reads_aux else None)
    start = torch.tensor([[300.0, 220.0, 40.0, 30.0], [280.0, 200.0, 24.0, 60.0]], dtype=torch.float64)
    state = damped.init([frame] * 2, start)
    _, found = plain.step(state, [frame] * 2)
    _, given = damped.step(state, [frame] * 2)
    before = start[:, 2:] - (1 if script == "translate_track" else 0)  # its sizes are from pixel to pixel
    share = MOMENTUM * found.scores[:, None].double()
    sizes = before + share * (found.boxes_xywh[:, 2:] - before)
    assert given.scores.tolist() == found.scores.tolist()
    assert not torch.equal(found.boxes_xywh[:, 2:], before)
    torch.testing.assert_close(given.boxes_xywh[:, 2:], sizes)
    middles = [p.boxes_xywh[:, :2] + p.boxes_xywh[:, 2:] / 2 for p in (given, found)]
    torch.testing.assert_close(*middles)
