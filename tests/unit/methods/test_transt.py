"""TransT: rows of a batch, quick forms, what is done once per target, initial weights, what is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.config import ConfigError
from lib.data import Batch, Frame, Normalise
from lib.deploy import Inference, fuse_network, prepare
from lib.methods import load_experiment
from lib.methods.transt import TransT, TransTTracker
from lib.models import WeightsError, weights_from_timm
from lib.models.layers import FuseOptions
from lib.objectives import Progress
from lib.train import parameter_groups
from tests.unit.methods.invariance import check_that_rows_know_nothing_of_each_other, leave_nothing_neutral

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISE = Normalise(MEAN, STD)
TINY = (
    "MODEL.BACKBONE={TYPE: resnet, DEPTHS: [1, 2, 2], WIDTH: 8}",
    "MODEL.HIDDEN_DIM=32",
    "MODEL.DIM_FEEDFORWARD=48",
    "MODEL.FEATUREFUSION_LAYERS=3",
)


def experiment(*overrides: str) -> Any:
    return load_experiment("transt", "synthetic_small", (*TINY, *overrides))


def network(*overrides: str, training: bool = False) -> TransT:
    """Small, with weights that are nowhere neutral and logits that differ."""
    e = experiment(*overrides)
    torch.manual_seed(1)
    net: TransT = e.method.build_network(e.config, training)
    with torch.no_grad():
        leave_nothing_neutral(net)
        net.class_embed.layers[-1].get_parameter("weight").mul_(10)
    return net.eval()


def tracker() -> TransTTracker:
    e = experiment()
    track: TransTTracker = e.build_tracker(network())
    return track


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


def pictures(samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    z, x = (torch.randint(0, 256, (samples, 3, s, s), dtype=torch.uint8, generator=generator) for s in (48, 96))
    return z, x


def batch(samples: int = 2) -> Batch:
    z, x = (NORMALISE(p)[:, None] for p in pictures(samples))
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.5, 0.2, 0.25, 0.2]])[:samples, None]
    return Batch(z, x, boxes, boxes, torch.zeros(samples, dtype=torch.int64))


@pytest.mark.parametrize("prepared", [False, True])
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(prepared: bool) -> None:
    track = tracker()
    if prepared:
        track = prepare(track)
    check_that_rows_know_nothing_of_each_other(track, clip)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_step_leaves_the_state_as_it_was(prepared: bool) -> None:
    track = tracker()
    if prepared:
        track = prepare(track)
    frames = clip(4, 2, 90, 120)
    state = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    tokens = state.template.clone()
    _, first = track.step(state, frames[1:])
    _, again = track.step(state, frames[1:])
    assert torch.equal(state.template, tokens)
    assert torch.equal(first.boxes_xywh, again.boxes_xywh)


def test_what_lies_outside_has_the_first_frame_s_colour() -> None:
    track = tracker()
    frames, box = clip(5, 2, 90, 120), torch.tensor([[0.0, 0.0, 25.0, 30.0]])
    bright = Frame(np.full_like(frames[1].rgb, 255))
    state = track.init(frames[:1], box)
    assert state.padding is not None
    assert state.padding.tolist() == [[int(v) for v in frames[0].rgb.mean(axis=(0, 1))]]
    seen: list[Tensor] = []
    network_locate = track.network.locate
    track.network.locate = lambda tokens, crops: seen.append(crops) or network_locate(tokens, crops)  # type: ignore
    track.step(state, [bright])
    corner = seen[0][0, :, 0, 0] * torch.tensor(STD) + torch.tensor(MEAN)
    torch.testing.assert_close((corner * 255).round().to(torch.uint8), state.padding[0])


def test_every_one_stream_method_tracks_with_either_style_of_crops() -> None:
    e = load_experiment("ostrack", "synthetic_demo", ("DATA.CROP_STYLE=context",))
    track = e.build_tracker(e.method.build_network(e.config, False).eval())
    frames = clip(5, 2, 90, 120)
    state = track.init(frames[:1], torch.tensor([[0.0, 0.0, 25.0, 30.0]]))
    assert state.padding.shape == (1, 3)
    view = track.crop_search(state, frames[1:])
    # 25 and 30 grow by three times their mean.
    assert view.sides.tolist() == [[np.ceil(np.sqrt((25 + 82.5) * (30 + 82.5)))] * 2]
    assert torch.equal(view.crops[0, :, 0, 0], state.padding[0])


def test_the_policy_chooses_the_cell_from_the_response() -> None:
    track = tracker()
    frames = clip(6, 2, 90, 120)
    state = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    seen: list[Tensor] = []

    def last(response: Tensor) -> Tensor:
        seen.append(response)
        return torch.full((1,), response.shape[1] - 1)

    _, best = track.step(state, frames[1:])
    _, other = track.step(state, frames[1:], last)
    assert best.windowed_scores is not None
    assert torch.equal(seen[0], best.windowed_scores)
    assert (seen[0] >= 0).all()
    assert (seen[0] <= 1).all()
    assert not torch.equal(other.boxes_xywh, best.boxes_xywh)
    # The window is zero in the corner, so that the response there shows the score that is given as confidence.
    torch.testing.assert_close(other.scores, seen[0][:, -1] / 0.51)


@pytest.mark.parametrize(("samples", "pack"), [(1, True), (3, False)])
@torch.no_grad()
def test_a_prepared_network_gives_the_same(samples: int, pack: bool) -> None:
    net = network()
    template, search = pictures(samples)
    expected = net(NORMALISE(template), NORMALISE(search))
    exact = FuseOptions(pixels=NORMALISE, pack=pack, grid=12)
    for plan in (exact, replace(exact, pixels=None), FuseOptions(pixels=NORMALISE, pack=False, portable=True)):
        quick = fuse_network(net, plan)
        z, x = (template, search) if plan.pixels else (NORMALISE(template), NORMALISE(search))
        found = quick.locate(quick.encode_template(z), x)
        torch.testing.assert_close(found.maps["logits"], expected.maps["logits"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-4, atol=1e-5)
    half = fuse_network(net, replace(exact, dtype=torch.bfloat16))
    found = half.locate(half.encode_template(template), search)
    assert found.maps["logits"].dtype == torch.float32
    assert (found.boxes - expected.boxes).abs().max() < 0.05


def test_gradients_reach_every_parameter() -> None:
    e = experiment()
    net = network(training=True).train()
    losses = e.method.build_objective(e.config, net)(net, batch(), Progress(1, 2))
    losses.total.backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert set(losses.terms) == {"Loss/total", "Loss/ce", "Loss/bbox", "Loss/giou", "IoU"}


def test_the_backbone_learns_at_a_tenth_of_the_rate() -> None:
    e = load_experiment("transt", "transt", ("MODEL.BACKBONE={TYPE: resnet, WIDTH: 8}", "MODEL.PRETRAIN_FILE=''"))
    net = e.method.build_network(e.config, True)
    other, backbone = parameter_groups(net, e.config.train)
    assert [g["base_lr"] for g in (other, backbone)] == [1e-4, pytest.approx(1e-5)]
    assert all(n.startswith("backbone.0.body.") for n in backbone["names"])
    assert len(other["names"]) + len(backbone["names"]) == len(list(net.parameters()))


def test_search_regions_go_through_batch_norm_before_templates() -> None:
    net, data = network(training=True).train(), batch()
    order: list[int] = []
    net.body.register_forward_pre_hook(lambda _m, args: order.append(args[0].shape[-1]))
    net(data.template[:, 0], data.search[:, 0])
    assert order == [96, 48]


@pytest.mark.slow
def test_initial_weights_of_an_imagenet_resnet(tmp_path: Path) -> None:
    e = load_experiment("transt", "transt", ("MODEL.PRETRAIN_FILE=''", "MODEL.FEATUREFUSION_LAYERS=1"))
    net = e.method.build_network(e.config, True)
    state = weights_from_timm("resnet50.tv_in1k", pretrained=False)
    torch.save(state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, tmp_path / "resnet50.pth")
    e.load_weights(net, tmp_path / "resnet50.pth", "pretrained")
    own = net.body.state_dict()
    assert all(torch.equal(own[k], v) for k, v in state.items() if not k.startswith("layer4"))


def test_a_whole_tracker_is_loaded_strictly(tmp_path: Path) -> None:
    source = network(training=True)
    state = source.state_dict()
    torch.save({"net": state, "epoch": 1}, tmp_path / "net.pth")
    e = experiment()
    torch.manual_seed(9)
    target = e.method.build_network(e.config, True)
    e.load_weights(target, tmp_path / "net.pth", "pretrained")
    assert all(torch.equal(v, state[k]) for k, v in target.state_dict().items())
    del state["class_embed.layers.0.weight"]
    torch.save({"net": state}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"1 missing from the file: class_embed\.layers\.0\.weight"):
        e.load_weights(target, tmp_path / "net.pth", "pretrained")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("MODEL.HEAD={TYPE: CORNER}", "leave HEAD out"),
        ("TEST.WINDOW_INFLUENCE=1.5", "WINDOW_INFLUENCE must lie in 0..1"),
        ("MODEL.DROPOUT=1", "DROPOUT must be at least 0 and below 1"),
        ("DATA.CROP_STYLE=contxt", "unknown crop style .contxt.; did you mean .context."),
        ("DATA.SAMPLER_MODE=casual", "DATA: unknown sampler mode .casual.; did you mean .causal."),
        ("MODEL.BACKBONE={TYPE: resnet, WITH: 8}", "did you mean 'WIDTH'"),
    ],
)
def test_bad_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(override)


def test_sides_that_the_stride_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="must be multiples of the stride 8"):
        network("TEST.SEARCH_SIZE=100")


def test_half_precision_is_prepared_and_compiles_nothing_else() -> None:
    track = tracker()
    track = prepare(track, Inference(torch.bfloat16))
    assert isinstance(track.normalise, nn.Identity)
