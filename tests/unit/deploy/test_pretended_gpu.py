"""Trackers on a pretended GPU: what a step asks of the host, and what a CUDA graph would refuse."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
import torch

from lib.bench import TrackerSpec, demo_spec
from lib.deploy import AutocastTracker, GraphedCall, cuda_graphs
from lib.track import StagedTracker, Tracker
from tests.support.pretend_cuda import CUDA, OnCuda, pretend_cuda
from tests.support.small_trackers import BOXES, IDS, METHODS, SMALL, clip

pytestmark = pytest.mark.slow

CLIPS = [clip(i, 4) for i in range(2)]
WAITS = {"trdimp": 2}
"""Reads of the device per step, where boxes cannot be had with one: TrDiMP reads scores, then refined boxes."""


@pytest.fixture(autouse=True)
def captured_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "EAGER_CALLS", 1)


def build(method: int, device: str, protocol: str = "official", *more: str) -> Tracker:
    script, config, overrides = METHODS[method]
    return TrackerSpec(
        script=script, config=config, untrained=True, overrides=(*overrides, *more), device=device, protocol=protocol
    ).build()


@pytest.mark.parametrize("method", range(len(METHODS)), ids=IDS)
def test_official_has_the_boxes_of_the_cpu_and_waits_once_per_step(method: int) -> None:
    plain = build(method, "cpu")
    state, expected = plain.init([c[0] for c in CLIPS], BOXES[:2]), []
    for i in range(1, 4):
        state, prediction = plain.step(state, [c[i] for c in CLIPS])
        expected.append(prediction.boxes_xywh)
    with pretend_cuda() as device, torch.no_grad():
        tracker = build(method, "cuda")
        assert isinstance(tracker, StagedTracker)
        assert all(isinstance(x, OnCuda) for x in (*tracker.network.parameters(), *tracker.network.buffers()))
        state = tracker.init([c[0] for c in CLIPS], BOXES[:2])
        for i in range(1, 4):
            device.events.clear()
            state, prediction = tracker.step(state, [c[i] for c in CLIPS])
            assert (prediction.boxes_xywh - expected[i - 1]).abs().max() <= 1e-3
        seen = Counter(e.kind for e in device.events)
        assert seen["copy"] == seen["random"] == 0, device.events
        assert seen["read"] == WAITS.get(IDS[method], 1), device.events
        calls = [getattr(tracker.network, name) for name in tracker.frame_calls]
        assert all(isinstance(call, GraphedCall) and call.capturable for call in calls)


def test_calibrated_scores_take_one_read_more() -> None:
    frames = CLIPS[0]
    with pretend_cuda() as device, torch.no_grad():
        tracker = demo_spec(TrackerSpec(device="cuda", checkpoint=SMALL)).build()
        state = tracker.init(frames[:1], BOXES[:1])
        device.events.clear()
        tracker.step(state, frames[1:2])
    seen = Counter(e.kind for e in device.events)
    assert (seen["read"], seen["copy"]) == (2, 0), device.events


FEWER = {"trdimp": ("TEST.NET_OPT_ITER=1", "TEST.BOX_REFINEMENT.BOX_REFINEMENT_ITER=2")}
"""Half formats are slow on the processor."""
LEARNING = {
    "trdimp": (
        "TEST.LOCALISATION.TARGET_NOT_FOUND_THRESHOLD=0",
        "TEST.LOCALISATION.HARD_NEGATIVE_THRESHOLD=10",
        "TEST.TRAIN_SKIPPING=1",
        "TEST.TRANSFORMER_SKIPPING=1",
    ),
    "cstrack_s2": ("TEST.UPDATE.INTERVAL=1", "TEST.UPDATE.THRESHOLD=0"),
    "ostrack": ("ONLINE={THRESHOLD: 0, TRAIN_SKIPPING: 1}",),
}
"""Trackers that learn something in every frame."""


@pytest.mark.parametrize("method", LEARNING)
def test_what_is_learned_on_the_way_waits_for_nothing(method: str) -> None:
    with pretend_cuda() as device, torch.no_grad():
        tracker = build(IDS.index(method), "cuda", "official", *LEARNING[method])
        state = tracker.init([c[0] for c in CLIPS], BOXES[:2])
        for i in range(1, 3):  # constants are copied in the first frame
            device.events.clear()
            state, _ = tracker.step(state, [c[i] for c in CLIPS])
    seen = Counter(e.kind for e in device.events)
    assert (seen["read"], seen["copy"]) == (WAITS.get(method, 1), 0), device.events


@pytest.mark.parametrize("method", range(len(METHODS)), ids=IDS)
@pytest.mark.parametrize("bfloat16", [True, False], ids=["bfloat16", "float16"])
def test_half_precision(method: int, bfloat16: bool) -> None:
    frames = CLIPS[0]
    with pretend_cuda(bfloat16), torch.no_grad():
        tracker = build(method, "cuda", "fast", *FEWER.get(IDS[method], ()))
        assert isinstance(tracker, AutocastTracker) != bfloat16
        state = tracker.init(frames[:1], BOXES[:1])
        for frame in frames[1 : 3 if bfloat16 else 2]:
            state, prediction = tracker.step(state, [frame])
            assert torch.isfinite(prediction.boxes_xywh).all()
        if isinstance(tracker, StagedTracker):
            assert all(getattr(tracker.network, name).capturable for name in tracker.frame_calls)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x: x + torch.arange(3),
        lambda x: x * x.sum().item(),
        lambda x: x * x.new_tensor([1.0, 2.0, 3.0]),
        lambda x: x[x > 0],
        lambda x: x[:, [2, 1, 0]],
        lambda x: x + torch.ones(3).to(x),
        lambda x: x if bool(x.any()) else -x,
        lambda x: x.cpu(),
    ],
    ids=["arange", "item", "new_tensor", "mask", "list", "copy", "bool", "cpu"],
)
def test_mistakes_are_noticed(mistake, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    with pretend_cuda():
        x = torch.ones(2, 3, device=CUDA)
        graphed = GraphedCall(mistake)
        with suppress(RuntimeError):
            graphed(x), graphed(x)
            assert not graphed.capturable
            assert "stream is capturing" in caplog.text
            return
        with pytest.raises(RuntimeError, match="same device"):
            mistake(x)


def test_a_graph_that_was_captured_is_replayed_with_new_values() -> None:
    with pretend_cuda():
        graphed = GraphedCall(lambda x, y: (x @ y).relu_().sum(dim=0))
        for _ in range(3):
            x, y = torch.randn(2, 3, device=CUDA), torch.randn(3, 4, device=CUDA)
            assert torch.equal(graphed(x, y).cpu(), (x @ y).relu().sum(dim=0).cpu())
        assert graphed.capturable
