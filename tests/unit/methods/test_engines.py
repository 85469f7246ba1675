"""Methods computed by other runtimes. Memory and templates of CSTrack go in and out of its graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lib.deploy import ENGINES, Inference, prepare
from lib.methods.cstrack import CSTrackState, TemplateUpdate
from tests.unit.methods import test_gdstrack
from tests.unit.methods.test_cstrack import clip, tracker

pytestmark = pytest.mark.engines


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("stage", [1, 2])
def test_an_engine_gives_the_boxes_of_pytorch_with_template_updates_and_rows_of_any_age(
    stage: int, engine: str
) -> None:
    for package in ENGINES[engine].packages:
        pytest.importorskip(package)
    frames, start = clip(1, 9, 90, 120), torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    boxes = []
    for inference in (Inference(), Inference(engine=engine)):
        track = prepare(tracker(stage, TemplateUpdate(3, 0.0)), inference)
        older: Any = track.init(frames[:1], start)
        for frame in frames[1:3]:
            older, _ = track.step(older, [frame])
        state: Any = CSTrackState.cat([older, track.init(frames[2:3], start + 4)])
        for frame in frames[3:]:
            state, prediction = track.step(state, [frame, frame])
            boxes.append(prediction.boxes_xywh)
    count = len(frames) - 3
    torch.testing.assert_close(torch.stack(boxes[count:]), torch.stack(boxes[:count]), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_engine_gives_the_boxes_of_gdstrack(engine: str) -> None:
    for package in ENGINES[engine].packages:
        pytest.importorskip(package)
    frames, start = test_gdstrack.clip(1, 4, 90, 120), torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    found = []
    for inference in (Inference(), Inference(engine=engine)):
        track: Any = prepare(test_gdstrack.tracker(), inference)
        state = track.init(frames[:1] * 2, start.repeat(2, 1))
        for frame in frames[1:]:
            state, prediction = track.step(state, [frame, frame])
            found.append((prediction.boxes_xywh, prediction.scores))
    for (boxes, scores), (other, sure) in zip(found[3:], found[:3], strict=True):
        torch.testing.assert_close(boxes, other, rtol=1e-3, atol=2e-2)
        torch.testing.assert_close(scores, sure, rtol=1e-3, atol=1e-4)
