"""CUDA graphs without a GPU: a recorder stands in for the graph, and what a capture would refuse is looked for."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.bench import TrackerSpec
from lib.data import Frame
from lib.deploy import GraphedCall, fuse_tracker
from lib.models.layers import FuseOptions
from tests.support.small_trackers import BOXES, IDS, METHODS, clip


class Recorder(TorchDispatchMode):
    """Keeps the operations of a computation, to do them again on the same memory."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        found = function(*arguments, **(options or {}))
        self.operations.append((function, arguments, options or {}, found))
        return found

    def replay(self):
        for function, arguments, options, found in self.operations:
            again = function(*arguments, **options)
            for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def recorded(monkeypatch):
    """CUDA graphs that are recorders; gives those that were captured."""
    graphs = []

    @contextmanager
    def graph(recorder, pool=None, stream=None, capture_error_mode=None):
        graphs.append(recorder)
        with recorder:
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 1)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: device)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return graphs


@dataclass
class Pair:
    first: torch.Tensor
    second: torch.Tensor | None


def combine(x, pair, factor, maps):
    first = pair.first if pair.second is None else pair.first * pair.second
    return Pair(x @ first * factor, None), {"sum": (x + maps["a"]).sum(dim=0)}


def test_a_graph_gives_what_the_call_gives_for_every_shape_and_number(recorded):
    graphed = GraphedCall(combine)
    for n in range(48):
        rows, factor, second = 2 + n % 2, 2.0 if n % 4 < 2 else 3.0, None if n % 8 < 4 else torch.randn(3, 5)
        arguments = torch.randn(rows, 3), Pair(torch.randn(3, 5), second), factor, {"a": torch.randn(rows, 3)}
        (product, maps), (expected, sums) = graphed(*arguments), combine(*arguments)
        torch.testing.assert_close(product.first, expected.first)
        torch.testing.assert_close(maps["sum"], sums["sum"])
        if n > 24:  # later calls leave earlier results alone
            kept = product.first.clone()
            graphed(torch.zeros(rows, 3), *arguments[1:])
            assert torch.equal(product.first, kept)
    assert len(recorded) == 8
    assert graphed.capturable


def test_a_call_that_cannot_be_captured_goes_on_kernel_by_kernel(monkeypatch, recorded, caplog):
    @contextmanager
    def refuses(recorder, pool=None, stream=None, capture_error_mode=None):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuses)
    graphed = GraphedCall(torch.Tensor.double)
    for i in range(5):
        assert torch.equal(graphed(torch.full((2,), i)), torch.full((2,), i).double())
    assert [r.message for r in caplog.records] == [
        "double is computed kernel by kernel, since it is no CUDA graph: operation not permitted when stream is "
        "capturing"
    ]


WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::lift_fresh", "aten::masked_select", "aten::equal"}
"""On a GPU they wait for the device, or copy a number that was made on the processor."""


@pytest.mark.parametrize(("script", "config", "overrides"), METHODS[1:], ids=IDS[1:])
def test_the_calls_of_a_frame_can_be_captured(script, config, overrides):
    spec = TrackerSpec(script=script, config=config, untrained=True, overrides=overrides, device="cpu")
    plain = spec.build_plain()
    tracker = fuse_tracker(plain, FuseOptions(torch.float32, pack=False, grid=plain.grid))
    network, waiting, seen = tracker.network, [], set()

    def watched(name, call):
        def wrapper(*arguments):
            seen.add(name)
            with Recorder() as recorder:
                found = call(*arguments)
            names = [o[0]._schema.name for o in recorder.operations]
            # Replays with an operator of another package, torchvision's deformable convolution, were wrong.
            waiting.extend(n for n in names if n in WAITS or n.split("::")[0] not in {"aten", "prims"})
            return found

        return wrapper

    for name in tracker.frame_calls:
        setattr(network, name, watched(name, getattr(network, name)))
    if script == "trdimp":  # on the processor boxes are refined in windows, on a GPU on whole maps
        head = network.bb_regressor
        head.refine = lambda modulation, fine, coarse, *climb: head.ascend(
            modulation, head.features(fine, coarse), *climb
        )[:2]
    frames = clip(1, 4)
    with torch.no_grad():
        state = tracker.init([frames[0]] * 2, BOXES[:2])
        for frame in frames[1:]:
            state, _ = tracker.step(state, [Frame(frame.rgb, frame.second)] * 2)
    assert seen == {*tracker.frame_calls}
    assert waiting == []
