"""Methods computed by other runtimes. Memory and templates of CSTrack go in and out of its graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lib.data import Frame
from lib.deploy import CalibrationClip, Inference, prepare
from lib.methods import load_experiment
from lib.methods.cstrack import CSTrackState, TemplateUpdate
from tests.support import small_trackers
from tests.support.engines import RUNTIMES, needs
from tests.unit.methods import test_gdstrack
from tests.unit.methods.test_cstrack import clip, tracker

pytestmark = [pytest.mark.engines, pytest.mark.slow, needs(*RUNTIMES)]
START = torch.tensor([[30.0, 20.0, 25.0, 30.0]])
FLAT = (
    "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 1, NUM_HEADS: 3, STRIDE: 16}",
    "MODEL.FUSION.UNET={MULTIPLIERS: [1, 2], RES_BLOCKS: 1, ATTENTION_SCALE: 1, GROUPS: 8}",
)
SHALLOW = "MODEL.BACKBONE={TYPE: itpn, EMBED_DIM: 24, DEPTHS: [1, 1, 1], NUM_HEADS: 3, CONV_STEM: false}"


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.repeated), 2])
def test_engines_give_the_boxes_of_cstrack_with_template_updates_and_rows_of_any_age(
    stage: int, tmp_path: Path
) -> None:
    frames = clip(1, 9, 90, 120)

    def boxes(inference: Inference) -> torch.Tensor:
        track, found = prepare(tracker(stage, TemplateUpdate(3, 0.0), SHALLOW), inference), []
        older: Any = track.init(frames[:1], START)
        for frame in frames[1:3]:
            older, _ = track.step(older, [frame])
        state: Any = CSTrackState.cat([older, track.init(frames[2:3], START + 4)])
        for frame in frames[3:]:
            state, prediction = track.step(state, [frame, frame])
            found.append(prediction.boxes_xywh)
        return torch.stack(found)

    expected = boxes(Inference())
    for runtime in RUNTIMES:  # the first one leaves its graphs to the others
        found = boxes(Inference(engine=runtime, folder=tmp_path / "graphs"))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-3)


def follow(track: Any, clips: list[list[Frame]], start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and scores of the frames after the first."""
    state, found = track.init([c[0] for c in clips], start), []
    for frames in list(zip(*clips, strict=True))[1:]:
        state, prediction = track.step(state, list(frames))
        found.append(prediction)
    return torch.stack([p.boxes_xywh for p in found]), torch.stack([p.scores for p in found])


def test_engines_give_the_boxes_of_gdstrack(tmp_path: Path) -> None:
    clips, start = [test_gdstrack.clip(1, 4, 90, 120)] * 2, START.repeat(2, 1)
    expected = follow(prepare(test_gdstrack.tracker(*FLAT)), clips, start)
    for runtime in RUNTIMES:
        inference = Inference(engine=runtime, folder=tmp_path / "graphs")
        boxes, scores = follow(prepare(test_gdstrack.tracker(*FLAT), inference), clips, start)
        torch.testing.assert_close(boxes, expected[0], rtol=1e-3, atol=2e-2)
        torch.testing.assert_close(scores, expected[1], rtol=1e-3, atol=1e-4)


def test_openvino_compiles_gdstrack_in_8_bits() -> None:
    """It could not while layers of the noise level, which read a constant, were in 8 bits."""
    frames = test_gdstrack.clip(1, 3, 90, 120)
    clips = [CalibrationClip(frames, START.double().repeat(3, 1))]
    track = test_gdstrack.tracker(*FLAT, "MODEL.FUSION.HIDDEN_DIM=32")
    found = prepare(track, Inference(engine="openvino-int8", clips=lambda: clips))
    boxes, _ = follow(found, [frames], START)
    assert boxes.isfinite().all()


@pytest.mark.parametrize("script", [pytest.param("siamrpnpp", marks=pytest.mark.repeated), "siamattn"])
def test_engines_give_the_boxes_of_anchors_and_of_their_refinement(script: str, tmp_path: Path) -> None:
    experiment = load_experiment(script, "synthetic_small", small_trackers.UNIT_PIXELS)
    torch.manual_seed(3)
    network = experiment.method.build_network(experiment.config, False).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "conv_offset" in name or "offset_fc.4" in name:  # gammas and offsets begin at 0
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    clips, start = [small_trackers.clip(seed, 4) for seed in range(2)], small_trackers.BOXES[:2]
    expected = follow(prepare(experiment.build_tracker(network)), clips, start)
    for runtime in RUNTIMES:
        inference = Inference(engine=runtime, folder=tmp_path / "graphs")
        boxes, scores = follow(prepare(experiment.build_tracker(network), inference), clips, start)
        torch.testing.assert_close(boxes, expected[0], rtol=1e-4, atol=5e-3)
        torch.testing.assert_close(scores, expected[1], rtol=1e-3, atol=1e-4)
