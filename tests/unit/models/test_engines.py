"""Networks computed by ONNX Runtime and OpenVINO give what PyTorch gives, row by row; 8 bits stay near."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.data import Frame, Normalise
from lib.deploy import (
    EngineError,
    Inference,
    calibration_clips,
    check_parity,
    engine_runtime,
    fuse_network,
    fuse_tracker,
    get_engine,
    load_graphs,
    network_graphs,
    prepare,
    quantise,
    record_ranges,
    write_graphs,
)
from lib.methods.ostrack import OSTrack, OSTrackTracker
from lib.methods.sdstrack import SDSTrack
from lib.models import WeightsError
from lib.models.backbones import OneStreamViT, TwoStreamOptions, TwoStreamViT, ViTOptions
from lib.models.heads import FEATURE, CenterHead, CornerHead
from lib.models.layers import FuseOptions
from lib.paths import load_paths
from lib.track import CropSettings
from tests.support.engines import PARAMETERS, needs

pytestmark = pytest.mark.engines

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEMPLATE, SEARCH = 64, 96
PORTABLE = FuseOptions(pixels=Normalise(MEAN, STD), pack=False, grid=SEARCH // 16, portable=True)


def stirred(net: nn.Module) -> Any:
    """No norm, bias or position embedding stays neutral."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1 or "pos_embed" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net.eval()


def network(kind: str) -> OSTrack:
    torch.manual_seed(3)
    ce: Mapping[str, Any] = {}
    if kind == "eliminating":
        ce = {"ce_loc": (0, 1), "ce_keep_ratio": (0.7, 0.7), "ce_template_range": "GT_BOX"}
    size = {"template_size": TEMPLATE, "search_size": SEARCH, "from_scratch": True}
    if kind == "two streams":
        two = TwoStreamOptions(48, 2, 3, fusion_loc=(0, 1), adapter_dim=32, **size)  # type: ignore[arg-type]
        net: OSTrack = SDSTrack(TwoStreamViT(two), CenterHead(48, 64))
    else:
        one = ViTOptions(48, 2, 3, **size, **ce, conv_stem=kind == "corner")  # type: ignore[arg-type]
        net = OSTrack(OneStreamViT(one), CornerHead(48, 64) if kind == "corner" else CenterHead(48, 64))
    made: OSTrack = stirred(net)
    return made


SETTINGS = CropSettings(TEMPLATE, 2.0, SEARCH, 4.0, MEAN, STD)


def tracker(kind: str) -> OSTrackTracker:
    return OSTrackTracker(network(kind), SETTINGS)


@dataclass(frozen=True)
class Written:
    """graphs: what `write_graphs` returned."""

    kind: str
    folder: Path
    graphs: dict[str, Any]


def frames(count: int, aux: bool) -> list[Frame]:
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        return rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)

    return [Frame(picture(), picture() if aux else None) for _ in range(count)]


BOXES = torch.tensor([[60.0, 40.0, 30.0, 24.0], [5.0, 80.0, 40.0, 35.0]], dtype=torch.float64)


def follow(track: OSTrackTracker, rows: list[int], steps: int = 3) -> Tensor:
    """Boxes [steps, rows, 4]."""
    pictures = frames(steps + 1, track.reads_aux)
    state = track.init(pictures[:1] * len(rows), BOXES[rows])
    found = []
    for frame in pictures[1:]:
        state, prediction = track.step(state, [frame] * len(rows))
        found.append(prediction.boxes_xywh)
    return torch.stack(found)


@pytest.fixture(scope="module", params=["eliminating", "corner", "two streams"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Graphs of one kind of network, written once for all runtimes."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("graphs")
    portable = fuse_tracker(tracker(request.param), PORTABLE)
    return Written(request.param, folder, write_graphs(network_graphs(portable.network, portable.normalise), folder))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", PARAMETERS)
def test_an_engine_gives_the_boxes_that_pytorch_gives_and_rows_do_not_mix(written: Written, runtime: str) -> None:
    expected = follow(tracker(written.kind), [0, 1])
    engine = tracker(written.kind)
    loaded = load_graphs(written.folder, written.graphs, runtime, 1)
    engine.network, engine.normalise = engine_runtime(engine.network, loaded), nn.Identity()
    both = follow(engine, [0, 1])
    torch.testing.assert_close(both, expected, rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(follow(engine, [1]), both[:, 1:], rtol=1e-5, atol=1e-3)


@dataclass(frozen=True)
class Examples:
    template: Tensor
    search: Tensor
    tokens: Tensor


@torch.no_grad()
def examples(net: OSTrack, rows: int = 2, seed: int = 0) -> Examples:
    generator, channels = torch.Generator().manual_seed(seed), 6 if isinstance(net, SDSTrack) else 3
    template, search = (
        torch.randint(0, 256, (rows, channels, s, s), dtype=torch.uint8, generator=generator)
        for s in (TEMPLATE, SEARCH)
    )
    return Examples(template, search, net.encode_template(template))


def exported(net: OSTrack, folder: Path) -> dict[str, Any]:
    """A tracker prepared for an engine, which keeps its graphs in `folder`."""
    prepare(OSTrackTracker(net, SETTINGS), Inference(engine="onnx", folder=folder))
    graphs: dict[str, Any] = json.loads((folder / "graphs.json").read_text())["graphs"]
    return graphs


def converted(net: OSTrack, folder: Path) -> dict[str, Any]:
    """OpenVINO's own files."""
    return write_graphs(network_graphs(fuse_network(net, PORTABLE), nn.Identity()), folder, "openvino")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "write"),
    [pytest.param("onnx", exported, marks=needs("onnx")), pytest.param("openvino", converted, marks=needs("openvino"))],
)
def test_maps_of_any_batch_size_equal_those_of_the_trained_network(
    runtime: str, write: Callable[[OSTrack, Path], dict[str, Any]], tmp_path: Path
) -> None:
    net, folder = network("plain"), tmp_path / "graphs"
    portable = fuse_network(net, PORTABLE)
    twin = engine_runtime(net, load_graphs(folder, write(net, folder), runtime, 1))
    normalise = Normalise(MEAN, STD)
    for rows in (1, 3):
        e = examples(portable, rows, seed=rows)
        with torch.no_grad():
            expected = net(normalise(e.template), normalise(e.search)).candidates
        found = twin.locate(twin.encode_template(e.template), e.search).candidates
        assert found.maps.keys() == expected.maps.keys() - {FEATURE}  # graphs do not give the head's features
        for got, want in (
            (found.scores, expected.scores),
            (found.boxes, expected.boxes),
            *((value, expected.maps[name]) for name, value in found.maps.items()),
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        cells = torch.arange(rows) * 7
        torch.testing.assert_close(found.boxes_at(cells), expected.boxes_at(cells), rtol=1e-4, atol=1e-5)


def test_a_network_that_gives_something_else_is_refused() -> None:
    portable = fuse_network(network("plain"), PORTABLE)
    graphs = network_graphs(portable, nn.Identity())

    class Wrong:
        def __init__(self, entry: str, factor: float) -> None:
            self.entry, self.factor = entry, factor

        def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with torch.no_grad():
                outputs = graphs[self.entry].run(inputs)
            return {k: v * self.factor if k == "size_map" else v for k, v in outputs.items()}

    def loaded(factor: float) -> dict[str, Wrong]:
        return {entry: Wrong(entry, factor) for entry in graphs}

    assert max(check_parity(graphs, loaded(1), 1e-4).values()) < 1e-6
    with pytest.raises(EngineError, match="size_map is off by"):
        check_parity(graphs, loaded(1.01), 1e-4)
    with pytest.raises(EngineError, match="size_map, or PyTorch's, holds values that are not finite"):
        check_parity(graphs, loaded(float("nan")), 0.05)


def test_a_network_of_nan_is_not_exported() -> None:
    broken = tracker("plain")
    broken.network.box_head.conv5_size.bias.data[1] = float("nan")
    with pytest.raises(
        WeightsError, match=r"cannot be exported: 1 tensor .*box_head.conv5_size.bias \(1 of 2 values\)"
    ):
        prepare(broken, Inference(engine="onnx"))


def in_8_bits(net: OSTrack) -> OSTrack:
    portable = fuse_network(net, PORTABLE)
    with torch.no_grad(), record_ranges(portable) as seen:
        for seed in range(4):
            e = examples(portable, 1, seed)
            portable.locate(e.tokens, e.search)
    return quantise(portable, seen)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "linear_layers"), [("plain", 8), ("two streams", 24)])
def test_8_bits_are_near_and_rows_do_not_mix(kind: str, linear_layers: int) -> None:
    net = network(kind)
    e = examples(fuse_network(net, PORTABLE), 3, seed=9)
    eight, exact = in_8_bits(net), fuse_network(net, PORTABLE)
    found, expected = (n.locate(e.tokens, e.search) for n in (eight, exact))
    off = (found.feature - expected.feature).abs().mean() / expected.feature.abs().mean()
    assert 1e-4 < off < 0.05
    alone = eight.locate(e.tokens[1:2], e.search[1:2])
    torch.testing.assert_close(alone.feature, found.feature[1:2], rtol=0, atol=0.05)
    inner = {type(m).__name__ for m in eight.modules()}
    assert {"Linear8", "Convolution8"} <= inner
    # 2 blocks of four layers each, and of two in each of four adapters.
    assert sum(type(m).__name__ == "Linear8" for m in eight.modules()) == linear_layers


def test_quantising_leaves_the_network_it_was_made_from_alone() -> None:
    net = network("plain")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    in_8_bits(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "two streams"])
def test_channels_of_unlike_size_are_balanced_before_rounding(kind: str) -> None:
    """Layer norms of trained transformers have a few channels that are a hundred times the others."""
    net = network(kind)
    for block in net.backbone.blocks:
        for norm in (block.get_submodule("norm1"), block.get_submodule("norm2")):
            norm.get_parameter("weight")[3] *= 100
        adapters = ("MLP_X_DTE_Adapter.D_fc1", "MLP_X_X_DTE_Adapter.D_fc1") if kind == "two streams" else ()
        for layer in ("attn.qkv", "mlp.fc1", *adapters):
            block.get_submodule(layer).get_parameter("weight")[:, 3] /= 100
    e = examples(fuse_network(net, PORTABLE), 2, seed=9)
    found, expected = (n.locate(e.tokens, e.search).feature for n in (in_8_bits(net), fuse_network(net, PORTABLE)))
    assert (found - expected).abs().mean() / expected.abs().mean() < 0.05


def test_calibration_needs_something_to_look_at() -> None:
    with pytest.raises(EngineError, match="no layer for 8 bits"):  # so that `fast` leaves 8 bits out
        quantise(fuse_network(network("plain"), PORTABLE), {})
    clips = calibration_clips("SYNTHETIC:seed=3,sequences=2,length=8", load_paths())
    assert len(clips) == 2
    assert all(len(c.frames) == len(c.boxes_xywh) == 4 for c in clips)
    with pytest.raises(EngineError, match="--calibration SYNTHETIC:length=2"):
        calibration_clips("SYNTHETIC:length=2,sequences=2", load_paths())


def test_what_cannot_be_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"'onx' is unknown; did you mean 'onnx'\? \(known: auto, torch, onnx"):
        get_engine("onx")
    with pytest.raises(EngineError, match="leave --compile out"):
        prepare(tracker("plain"), Inference(engine="onnx", compiled=True))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"\(onnx, onnxscript, openvino\); install with: bash install.sh openvino"):
        prepare(tracker("plain"), Inference(engine="openvino-int8"))


@pytest.mark.slow
def test_an_operator_that_onnx_does_not_have_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's own text is a page of advice with colour codes; the cause is at its end."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")

    def exported(*_: Any, **options: Any) -> None:
        raise torch.onnx.OnnxExporterError("\x1b[96mNext steps\x1b[0m:\n- ...") from ValueError("no function for toy")

    monkeypatch.setattr("torch.onnx.export", exported)
    net = fuse_network(network("plain"), PORTABLE)
    with pytest.raises(EngineError, match=r"^PyTorch cannot write template\.onnx: no function for toy$"):
        write_graphs(network_graphs(net, nn.Identity()), tmp_path)


def test_a_network_without_sample_inputs_is_refused() -> None:
    with pytest.raises(EngineError, match="Linear cannot be exported"):
        network_graphs(nn.Linear(3, 3), nn.Identity())
