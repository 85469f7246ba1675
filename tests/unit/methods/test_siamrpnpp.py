"""SiamRPN++: rows of a batch, quick forms, initial weights, what learns in which phase, penalties, sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.config import ConfigError
from lib.data import Batch, Frame, Normalise
from lib.deploy import fuse_network, prepare
from lib.methods import load_experiment
from lib.methods.siamrpnpp import AnchorCriterion, SiamRPN, SiamRPNTracker
from lib.methods.siamrpnpp.config import misplacement
from lib.methods.siamrpnpp.tracker import SizedRegion
from lib.models import WeightsError
from lib.models.layers import FuseOptions
from lib.objectives import Progress
from lib.train import parameter_groups, phases_of
from tests.unit.methods.invariance import (
    check_candidates,
    check_that_rows_know_nothing_of_each_other,
    leave_nothing_neutral,
)

NORMALISE = Normalise((0.0,) * 3, (1 / 255,) * 3, channels="BGR")
TINY = ("MODEL.BACKBONE={TYPE: resnet, DEPTHS: [1, 1, 2, 1], WIDTH: 8}", "MODEL.HIDDEN_DIM=16")


def experiment(*overrides: str) -> Any:
    return load_experiment("siamrpnpp", "synthetic_small", (*TINY, *overrides))


def network(*overrides: str, training: bool = False) -> SiamRPN:
    """Small, with weights that are nowhere neutral and scores that differ."""
    e = experiment(*overrides)
    torch.manual_seed(1)
    net: SiamRPN = e.method.build_network(e.config, training)
    with torch.no_grad():
        leave_nothing_neutral(net)
        net.backbone.bn1.running_var.mul_(100.0**2)  # type: ignore[union-attr]
        for i, branch in enumerate(net.rpn_head.branches()):
            branch.head[3].get_parameter("weight").mul_(0.1 if i % 2 else 1.0)
    return net.eval()


def tracker() -> SiamRPNTracker:
    track: SiamRPNTracker = experiment().build_tracker(network())
    return track


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


def pictures(samples: int, sides: tuple[int, int] = (63, 127)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    z, x = (torch.randint(0, 256, (samples, 3, s, s), dtype=torch.uint8, generator=generator) for s in sides)
    return z, x


def batch(negative: bool = False) -> Batch:
    z, x = (NORMALISE(p)[:, None] for p in pictures(2))
    boxes = torch.tensor([[0.4, 0.4, 0.25, 0.25], [0.5, 0.3, 0.2, 0.4]])[:, None]
    strangers = torch.tensor([negative, negative])
    return Batch(z, x, boxes, boxes, torch.zeros(2, dtype=torch.int64), negative=strangers)


@pytest.mark.parametrize("prepared", [False, True])
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(prepared: bool) -> None:
    track: Any = tracker()
    check_that_rows_know_nothing_of_each_other(prepare(track) if prepared else track, clip)


@pytest.mark.parametrize(("samples", "pack"), [(1, True), (3, False)])
@torch.no_grad()
def test_a_prepared_network_gives_the_same(samples: int, pack: bool) -> None:
    net = network()
    template, search = pictures(samples)
    expected = net(NORMALISE(template), NORMALISE(search))
    assert expected.scores.std() > 0.05
    exact = FuseOptions(pixels=NORMALISE, pack=pack, grid=net.grid)
    for plan in (exact, replace(exact, pixels=None), FuseOptions(pixels=NORMALISE, pack=False, portable=True)):
        quick = fuse_network(net, plan)
        z, x = (template, search) if plan.pixels else (NORMALISE(template), NORMALISE(search))
        check_candidates(quick.locate(quick.encode_template(z), x), expected)
    half = fuse_network(net, replace(exact, dtype=torch.bfloat16))
    found = half.locate(half.encode_template(template), search)
    assert found.scores.dtype == torch.float32
    assert (found.scores - expected.scores).abs().max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("template", "search"), [(63, 135), (74, 130), (71, 143)])
@torch.no_grad()
def test_pictures_of_any_size_have_a_grid_around_their_middle(template: int, search: int) -> None:
    sizes = f"TEMPLATE_SIZE={template}", f"SEARCH_SIZE={search}"
    e, net = experiment(*(f"TEST.{s}" for s in sizes)), network(*(f"TEST.{s}" for s in sizes))
    z, x = pictures(2, (template, search))
    found = net(NORMALISE(z), NORMALISE(x))
    grid = (search - 127) // 8 + 1 + 8
    assert found.boxes.shape == (2, 5 * grid**2, 4)
    centres = (net.anchors[:, :2] * search).view(5, grid, grid, 2)
    assert centres[0, grid // 2, grid // 2].tolist() == pytest.approx([search / 2] * 2, abs=1e-4)
    quick = fuse_network(net, FuseOptions(pixels=NORMALISE, grid=net.grid))
    check_candidates(quick.locate(quick.encode_template(z), x), found)
    check_that_rows_know_nothing_of_each_other(e.build_tracker(net), clip)
    learned = experiment(f"DATA.SEARCH.SIZE={search}")
    targets = AnchorCriterion.from_config(learned.config).targets(torch.tensor([[0.4, 0.4, 0.3, 0.2]]))
    assert targets.labels.shape == (1, 5 * grid**2)


def test_sizes_that_move_all_boxes_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for sizes in ((127, 255), (127, 287), (63, 127), (79, 143)):
        assert misplacement(*sizes) == 0
    assert [misplacement(127, 263), misplacement(127, 262), misplacement(135, 255)] == [-4, 4, -4]
    experiment("TEST.SEARCH_SIZE=143")
    assert not caplog.text
    experiment("TEST.SEARCH_SIZE=135")
    assert "TEST.TEMPLATE_SIZE 63, SEARCH_SIZE 135: boxes begin 4 pixels of the search region off" in caplog.text


def test_all_levels_learn_and_strangers_teach_the_background_alone() -> None:
    e, net = experiment("TRAIN.THR_HIGH=0.3"), network(training=True).train()
    objective = e.method.build_objective(e.config, net)
    losses = objective(net, batch(), Progress(1, 2))
    losses.total.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert losses.terms["Loss/loc"] > 0
    strange = objective(net, batch(negative=True), Progress(1, 2))
    assert strange.terms["Loss/loc"] == 0
    assert strange.terms["Loss/cls"] > 0


def test_the_backbone_learns_from_the_second_phase_on_except_for_its_beginning() -> None:
    small = ("MODEL.BACKBONE={TYPE: resnet, WIDTH: 8, FROZEN: 1}", "MODEL.PRETRAIN_FILE=''", "MODEL.HIDDEN_DIM=8")
    e = load_experiment("siamrpnpp", "siamrpnpp", small)
    first, second = phases_of(e.config.train)
    assert (first.last, second.last) == (10, 20)
    net = e.method.build_network(e.config, True)
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {
        n for n, _ in net.named_parameters() if n.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1"))
    }
    backbone, rest = parameter_groups(net, second.train)
    assert [g["base_lr"] for g in (backbone, rest)] == [pytest.approx(0.001), pytest.approx(0.01)]
    assert {n.split(".")[1] for n in backbone["names"]} == {"layer2", "layer3", "layer4"}
    (rest,) = parameter_groups(net, first.train)
    assert not any(n.startswith("backbone") for n in rest["names"])


def test_changes_of_size_and_shape_are_penalised_alike_in_both_directions() -> None:
    track = tracker()
    size = torch.tensor([[0.3, 0.2]], dtype=torch.float64)
    none = torch.zeros(1, 2)
    region = SizedRegion(none, none, none, none, size)
    sizes = torch.tensor([[0.3, 0.2], [0.6, 0.4], [0.15, 0.1], [0.2, 0.3]])
    found = track.penalties(torch.cat([torch.zeros(4, 2), sizes], dim=1)[None], region)[0]
    expected = torch.exp(-0.05 * torch.tensor([0.0, 1.0, 1.0, 1.25]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("extreme", [1e4, -1e4])
@torch.no_grad()
def test_an_untrained_network_gives_boxes_that_can_be_followed(extreme: float) -> None:
    """Raw pixels and batch norms that have seen none of them drive its changes of size beyond all numbers."""
    track, frames = tracker(), clip(7, 4, 120, 160)
    for branch in track.network.rpn_head.branches()[1::2]:
        branch.head[3].get_parameter("bias").fill_(extreme)
    state = track.init(frames[:1], torch.tensor([[60.0, 40.0, 40.0, 30.0]]))
    for frame in frames[1:]:
        state, prediction = track.step(state, [frame])
        assert prediction.boxes_xywh.isfinite().all()
        assert prediction.windowed_scores is not None
        assert prediction.windowed_scores.isfinite().all()


@torch.no_grad()
def test_a_new_size_is_taken_over_in_part() -> None:
    track = tracker()
    frames, box = clip(3, 2, 120, 160), torch.tensor([[60.0, 40.0, 40.0, 30.0]])
    state = track.init(frames[:1], box)
    region = track.crop_search(state, frames[1:])
    output = track.forward(state, region)
    local, score, share = track.select_anchor(state, region, output)
    after, _ = track.postprocess(state, region, output)
    assert 0 < float(share) < 0.38 * float(score) + 1e-6
    expected = box[:, 2:].double() * (1 - share) + local[:, 2:] * region.sides * share
    torch.testing.assert_close(after.boxes_xywh[:, 2:], expected)


def test_files_begin_the_backbone_or_the_whole(tmp_path: Path) -> None:
    e, source = experiment(), network(training=True)
    imagenet = source.backbone.state_dict() | {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
    torch.save(imagenet, tmp_path / "resnet50.model")
    torch.manual_seed(9)
    target = e.method.build_network(e.config, True)
    e.load_weights(target, tmp_path / "resnet50.model", "pretrained")
    assert all(torch.equal(v, imagenet[n]) for n, v in target.backbone.state_dict().items())
    whole = {f"module.{n}": v for n, v in source.state_dict().items()}
    torch.save({"state_dict": whole, "epoch": 20, "optimizer": {}}, tmp_path / "siamrpnpp.pth")
    e.load_weights(target, tmp_path / "siamrpnpp.pth")
    assert all(torch.equal(v, whole[f"module.{n}"]) for n, v in target.state_dict().items())
    del whole["module.rpn_head.cls_weight"]
    torch.save({"state_dict": whole}, tmp_path / "siamrpnpp.pth")
    with pytest.raises(WeightsError, match=r"1 missing from the file: rpn_head\.cls_weight"):
        e.load_weights(target, tmp_path / "siamrpnpp.pth")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("MODEL.HEAD={TYPE: CORNER}", "leave HEAD out"),
        ("TEST.SEARCH_SIZE=78", "search region .78. must have at least 63 and 79 pixels"),
        ("DATA.TEMPLATE.SIZE=47", "TEMPLATE.SIZE and SEARCH.SIZE: template .47."),
        ("TEST.SIZE_LR=1.5", "SIZE_LR must lie in 0..1"),
        ("TRAIN.THR_LOW=0.7", "THR_LOW 0.7 is above THR_HIGH 0.6"),
        ("MODEL.ANCHOR_RATIOS=[80]", "give an anchor of no size"),
        ("MODEL.BACKBONE={TYPE: resnet101}", "resnet50"),
        ("META_ARC=SiamRPN++", "PySOT's files have other keys; the files in experiments/ hold their settings"),
    ],
)
def test_bad_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(override)
