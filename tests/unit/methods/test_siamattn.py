"""SiamAttn: rows of a batch, quick forms, initial weights, what learns, regions and their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.data import Batch, ClipBatch, Frame, FrameSet, Modality, Normalise
from lib.deploy import Inference, fuse_network, prepare, record_ranges
from lib.methods import load_experiment
from lib.methods.siamattn import (
    Regions,
    RegionSampler,
    SiamAttn,
    SiamAttnCriterion,
    SiamAttnTracker,
)
from lib.models import WeightsError
from lib.models.heads import changed_boxes, changes_between, masks_in_boxes
from lib.models.layers import FuseOptions
from lib.objectives import Progress, SequenceObjective
from tests.unit.methods.invariance import check_that_rows_know_nothing_of_each_other, leave_nothing_neutral

NORMALISE = Normalise((0.0,) * 3, (1 / 255,) * 3, channels="BGR")
TINY = ("MODEL.BACKBONE={TYPE: resnet, DEPTHS: [1, 1, 1, 1], WIDTH: 8}", "MODEL.HIDDEN_DIM=16")


def experiment(*overrides: str) -> Any:
    return load_experiment("siamattn", "synthetic_small", (*TINY, *overrides))


def network(*overrides: str, training: bool = False) -> SiamAttn:
    """Small, with weights that are nowhere neutral and scores that differ."""
    e = experiment(*overrides)
    torch.manual_seed(1)
    net: SiamAttn = e.method.build_network(e.config, training)
    with torch.no_grad():
        leave_nothing_neutral(net)
        net.backbone.bn1.running_var.mul_(100.0**2)  # type: ignore[union-attr]
        for i, branch in enumerate(net.rpn_head.branches()):
            branch.head[3].get_parameter("weight").mul_(0.1 if i % 2 else 1.0)
        net.mask_head.conv_logits.weight.mul_(5.0)
        net.refine_head.tail_det_box.weight.mul_(50.0)
        for name, parameter in net.named_parameters():
            if "offset" in name and "weight" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return net.eval()


def tracker(*regions: str, side: int = 127) -> SiamAttnTracker:
    size = f"TEST.SEARCH_SIZE={side}"
    track: SiamAttnTracker = experiment(size).build_tracker(network(size))
    track.request_regions(*regions)
    return track


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


def batch(masks: bool = True, negative: bool = False) -> Batch:
    rng = torch.Generator().manual_seed(3)
    z, x = (torch.randint(0, 256, (2, 3, s, s), dtype=torch.uint8, generator=rng) for s in (63, 127))
    boxes = torch.tensor([[0.4, 0.4, 0.25, 0.25], [0.5, 0.3, 0.2, 0.4]])[:, None]
    drawn = torch.zeros(2, 1, 127, 127, dtype=torch.uint8)
    drawn[0, 0, 55:80, 55:70] = 255
    extras = {"search_masks": drawn, "has_masks": torch.tensor([True, False])} if masks else {}
    modality, strange = torch.zeros(2, dtype=torch.int64), torch.tensor([negative] * 2)
    return Batch(NORMALISE(z)[:, None], NORMALISE(x)[:, None], boxes, boxes, modality, negative=strange, extras=extras)


@pytest.mark.slow
@pytest.mark.parametrize("prepared", [False, True])
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(prepared: bool) -> None:
    track: Any = tracker()
    check_that_rows_know_nothing_of_each_other(prepare(track) if prepared else track, clip)


@pytest.mark.parametrize(("prepared", "side"), [(False, 127), (True, 134)])
def test_boxes_are_the_same_with_and_without_regions_which_are_those_of_a_row_alone(prepared: bool, side: int) -> None:
    boxes = torch.tensor([[40.0, 30.0, 30.0, 20.0], [20.0, 25.0, 22.0, 33.0]], dtype=torch.float64)
    first, second = clip(1, 2, 90, 120), clip(2, 2, 80, 100)

    def last(track: Any, rows: list[int]) -> Any:
        track = prepare(track) if prepared else track
        frames = [(first[i], second[i]) for i in (0, 1)]
        state = track.init([frames[0][r] for r in rows], boxes[rows])
        return track.step(state, [frames[1][r] for r in rows])[1]

    plain, both = last(tracker(side=side), [0, 1]), last(tracker("polygon", "mask", side=side), [0, 1])
    torch.testing.assert_close(plain.boxes_xywh, both.boxes_xywh)
    assert plain.polygons is None
    assert plain.masks is None
    assert [m.shape for m in both.masks] == [(90, 120), (80, 100)]
    for row in (0, 1):
        alone = last(tracker("polygon", "mask", side=side), [row])
        torch.testing.assert_close(alone.polygons[0], both.polygons[row], atol=1e-2, rtol=0)
        assert (alone.masks[0] != both.masks[row]).mean() < 1e-3
    assert any(m.any() for m in both.masks)


@pytest.mark.parametrize("centred", [False, True])
def test_masks_of_slt_are_compared_with_their_own_mean(centred: bool) -> None:
    chosen = f"TEST.MASK_CENTRED={centred}", "TEST.MASK_THRESHOLD=0.45", "TEST.SEARCH_SIZE=127"
    track: Any = experiment(*chosen).build_tracker(network())
    track.request_regions("mask")
    logits = torch.full((63, 63), 9.0)
    logits[:, :21] = 12.0  # the mean is 10
    track.network.draw = lambda candidates, regions: logits.expand(len(regions.rows), -1, -1)
    frames = clip(1, 2, 90, 120)
    state = track.init(frames[:1], torch.tensor([[40.0, 30.0, 30.0, 20.0]], dtype=torch.float64))
    state, found = track.step(state, frames[1:])
    share = found.masks[0].sum() / state.boxes_xywh[0, 2:].prod()
    assert share == pytest.approx(1 / 3 if centred else 1.0, abs=0.12)


def test_all_parts_learn_and_strangers_teach_the_background_alone() -> None:
    e, net = experiment("TRAIN.THR_HIGH=0.3"), network(training=True).train()
    objective = e.method.build_objective(e.config, net)
    losses = objective(net, batch(), Progress(1, 2))
    losses.total.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    strange = objective(net, batch(negative=True), Progress(1, 2))
    for term in ("loc", "refine", "mask"):
        assert losses.terms[f"Loss/{term}"] > 0
        assert strange.terms[f"Loss/{term}"] == 0
    unmasked = objective(net, batch(masks=False), Progress(1, 2))
    assert unmasked.terms["Loss/mask"] == 0
    assert unmasked.terms["Loss/refine"] > 0


def test_a_siamrpnpp_begins_a_siamattn_with_what_it_lacks_named(tmp_path: Path) -> None:
    e, net = experiment(), network()
    other = load_experiment("siamrpnpp", "synthetic_small", TINY)
    plain = other.method.build_network(other.config, True)
    path = tmp_path / "siamrpnpp.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in plain.state_dict().items()}}, path)
    report = e.load_weights(net, path, "pretrained")
    assert {name.partition(".")[0] for name in report.fresh} == {
        "feature_enhance",
        "feature_fusion",
        "refine_head",
        "mask_head",
    }
    torch.testing.assert_close(
        net.state_dict()["neck.downsample2.downsample.0.weight"],
        plain.state_dict()["neck.downsample2.downsample.0.weight"],
    )
    with pytest.raises(WeightsError, match="missing from the file: feature_enhance"):
        e.load_weights(net, path)


def test_files_of_old_name_the_refinement_by_its_boxes(tmp_path: Path) -> None:
    e, net = experiment(), network()
    old = {k.replace("refine_head", "bbox_head"): v for k, v in net.state_dict().items()}
    torch.save({"state_dict": old, "epoch": 20}, tmp_path / "siamattn.pth")
    for role in ("trained", "pretrained"):
        loaded = network()
        torch.nn.init.zeros_(loaded.refine_head.tail_det_box.weight)
        e.load_weights(loaded, tmp_path / "siamattn.pth", role)
        assert torch.equal(loaded.refine_head.tail_det_box.weight, net.refine_head.tail_det_box.weight)


@pytest.mark.parametrize("near", [1, 3, 16, 40])
def test_every_sample_has_the_same_number_of_regions_all_of_them_near_the_target(near: int) -> None:
    truth = torch.tensor([[20.0, 20.0, 60.0, 70.0]])
    boxes = torch.cat([truth + torch.arange(1, near)[:, None] * 0.1, torch.tensor([[90.0, 90.0, 99.0, 99.0]] * 5)])
    found = RegionSampler(16, 0.5)(boxes[None], truth)[0]
    assert found.shape == (16, 4)
    assert (found[:, 0] < 40).all()
    kept = len(found.unique(dim=0))
    assert kept == min(near, 16)


def test_changes_are_undone() -> None:
    rois, truth = torch.tensor([[10.0, 20.0, 50.0, 80.0]]), torch.tensor([[14.0, 15.0, 60.0, 70.0]])
    changes = changes_between(rois, truth)
    found = changed_boxes(torch.tensor([[30.0, 50.0, 40.0, 60.0]]), changes)
    torch.testing.assert_close(found, torch.tensor([[37.0, 42.5, 46.0, 55.0]]))


def test_masks_in_boxes_are_cut_to_the_picture() -> None:
    masks = torch.zeros(2, 20, 20)
    masks[1, 5:10, 5:15] = 1
    rois = torch.tensor([[5.0, 5.0, 14.9, 9.0], [-30.0, -30.0, 100.0, 100.0]])
    found = masks_in_boxes(masks, torch.tensor([1, 1]), rois, 20)
    assert found[0].min() == 1
    torch.testing.assert_close(found[1], masks[1])


def test_a_batch_without_targets_keeps_the_graph() -> None:
    e, net = experiment(), network()
    criterion: SiamAttnCriterion = SiamAttnCriterion.from_config(e.config)
    z, x = batch().template[:, 0], batch().search[:, 0]
    output = net(z, x, lambda c: criterion.propose(c, torch.zeros(2, 4), torch.ones(2, dtype=torch.bool)))
    assert output.changes.shape == (8, 4)
    assert output.mask_logits.shape == (8, 64, 64)
    regions = criterion.propose(output.candidates, torch.zeros(2, 4), torch.ones(2, dtype=torch.bool))
    losses = criterion.region_losses(output.changes, output.mask_logits, regions, None, None)
    losses.total.backward()
    assert losses.total == 0
    assert net.mask_head.conv_logits.weight.grad is not None


def test_exactly_one_sample_with_a_target_is_enough() -> None:
    e, net = experiment(), network()
    criterion: SiamAttnCriterion = SiamAttnCriterion.from_config(e.config)
    boxes = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.4, 0.4, 0.3, 0.2]])
    with torch.no_grad():
        candidates = net.locate(net.encode_template(batch().template[:, 0]), batch().search[:, 0], masks=True)
    regions = criterion.propose(candidates, boxes, torch.ones(2, dtype=torch.bool))
    assert regions.rows.tolist() == [1] * 8
    assert regions.has_target


def test_regions_of_rows_do_not_know_each_other() -> None:
    net, data = network(), batch()
    with torch.no_grad():
        both = net.locate(net.encode_template(data.template[:, 0]), data.search[:, 0], masks=True)
        rois = torch.tensor([[20.0, 30.0, 70.0, 80.0], [40.0, 20.0, 100.0, 90.0]])
        found = net.draw(both, Regions(torch.tensor([0, 1]), rois))
        one = both.select(torch.tensor([1]))
        torch.testing.assert_close(net.draw(one, Regions(torch.tensor([0]), rois[1:]))[0], found[1])


def test_what_refines_boxes_is_never_in_8_bits() -> None:
    net = fuse_network(network("MODEL.HIDDEN_DIM=32"), FuseOptions(pack=False, portable=True))
    with torch.no_grad(), record_ranges(net) as ranges:
        found = net.locate(net.encode_template(batch().template[:, 0]), batch().search[:, 0])
        net.refine(found.maps["box_features"], torch.tensor([[20.0, 30.0, 70.0, 80.0], [40.0, 20.0, 100.0, 90.0]]))
    assert {name.partition(".")[0] for name in ranges} == {"backbone", "rpn_head", "feature_fusion"}


def test_evaluation_and_training_order_of_resizing_agree() -> None:
    """Where statistics are fixed, convolving before resizing is the same."""
    fusion = network().feature_fusion
    torch.manual_seed(5)
    search = [torch.randn(1, c, s, s) for c, s in ((8, 61), (32, 31), (16, 15), (16, 15), (16, 15))]
    with torch.no_grad():
        quick = fusion.mask_features(search)
        fusion.training = True
        torch.testing.assert_close(fusion.mask_features(search), quick, rtol=1e-4, atol=1e-4)


def test_a_quick_tracker_in_half_precision_stays_near() -> None:
    frames, box = clip(7, 3, 90, 120), torch.tensor([[40.0, 30.0, 30.0, 20.0]], dtype=torch.float64)
    found = []
    for track in (prepare(tracker()), prepare(tracker(), Inference(torch.bfloat16))):
        state = track.init(frames[:1], box)
        state, prediction = track.step(state, frames[1:2])
        found.append(prediction.scores)
    assert (found[0] - found[1]).abs().max() < 0.1


def clips(masked: bool) -> list[FrameSet]:
    """One clip with masks and one without."""
    found = []
    for number in (1, 2):
        frames, boxes = clip(number, 4, 90, 120), np.tile([40.0, 30.0, 30.0, 20.0], (4, 1))
        mask = np.zeros((90, 120), dtype=bool)
        mask[32:48, 42:60] = True
        masks = (mask,) * 4 if masked and number == 1 else None
        found.append(
            FrameSet((frames[0],), tuple(frames), boxes[:1], boxes, Modality.RGB, "", "", (0,) * 5, search_masks=masks)
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_sequence_level_training_learns_masks_where_clips_have_some(masked: bool) -> None:
    e = load_experiment("slt_siamattn", "slt_synthetic", (*TINY, "TRAIN.THR_HIGH=0.3"))
    net = network()
    tracker = e.build_tracker(net).explorer()
    assert not tracker.whole_sides
    objective = SequenceObjective(tracker, e.method.build_auxiliary(e.config, net), e.config.slt)
    torch.manual_seed(4)
    parts = objective.split(net, ClipBatch(clips(masked)), Progress(1, 2))
    total = {"Loss/mask": 0.0, "Loss/refine": 0.0, "Loss/policy": 0.0}
    for part in parts:
        losses = objective(net, part, Progress(1, 2))
        losses.total.backward()
        total = {k: v + float(losses.terms[k].abs()) for k, v in total.items()}
    assert (total["Loss/mask"] > 0) == masked
    assert total["Loss/refine"] > 0
    gradient = net.mask_head.conv_logits.weight.grad
    assert gradient is not None
    assert bool(gradient.abs().sum() > 0) == masked
    if masked:
        region = parts[0].regions
        assert region.has_masks.reshape(-1, 2).tolist() == [[True, False]] * (len(region.has_masks) // 2)
        assert region.masks[region.has_masks].flatten(1).any(dim=1).all()
        assert not region.masks[~region.has_masks].any()


def test_targets_of_masks_are_as_large_as_what_is_drawn() -> None:
    e, net = experiment(), network()
    criterion: SiamAttnCriterion = SiamAttnCriterion.from_config(e.config)
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.5], [0.4, 0.4, 0.3, 0.2]])
    present = torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        candidates = net.locate(net.encode_template(batch().template[:, 0]), batch().search[:, 0], masks=True)
    regions = criterion.propose(candidates, boxes, present)
    changes = torch.zeros(len(regions.rows), 4)
    logits = [torch.zeros(len(regions.rows), side, side) for side in (32, 64)]
    masks = torch.ones(2, *batch().search.shape[-2:])
    found = [criterion.region_losses(changes, drawn, regions, masks, present).terms["Loss/mask"] for drawn in logits]
    torch.testing.assert_close(found[0], found[1])
