"""SDSTrack: foundation, what is trained, masks, streams and their fusion, tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.config import ConfigError
from lib.data import Batch, Frame, Normalise
from lib.deploy import fuse_network
from lib.methods import load_experiment
from lib.methods.sdstrack import SDSTrack
from lib.models import WeightsError
from lib.models.layers import FuseOptions, MaskRates
from lib.objectives import Progress
from lib.paths import Paths
from lib.track import OneStreamTracker
from lib.train import parameter_groups
from tests.unit.methods.invariance import check_candidates, check_that_rows_know_nothing_of_each_other

MEAN, STD = (0.485, 0.456, 0.406, 0.3, 0.4, 0.5), (0.229, 0.224, 0.225, 0.1, 0.2, 0.3)
FRESH = ("MODEL.PRETRAIN_FILE=''",)
ELIMINATING = ("MODEL.BACKBONE.CE_LOC=[1,2]", "MODEL.BACKBONE.CE_KEEP_RATIO=[0.7,0.7]")
GT_BOX = (*ELIMINATING, "MODEL.BACKBONE.CE_TEMPLATE_RANGE=GT_BOX")
TINY = ("MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 4, NUM_HEADS: 3, FUSION_LOC: [1, 3], ADAPTER_DIM: 8}",)


def experiment(*overrides: str) -> Any:
    return load_experiment("sdstrack", "synthetic_demo", (*FRESH, *TINY, *overrides))


def network(*overrides: str, training: bool = False) -> SDSTrack:
    """Small, with weights that are nowhere neutral."""
    e = experiment(*overrides)
    torch.manual_seed(1)
    net: SDSTrack = e.method.build_network(e.config, training)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1 or "pos_embed" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net.eval()


def tracker(*overrides: str) -> OneStreamTracker:
    e = experiment(*overrides)
    track: OneStreamTracker = e.build_tracker(network(*overrides))
    return track


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)

    def picture() -> np.ndarray:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    return [Frame(picture(), picture()) for _ in range(frames)]


def pictures(samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    sizes = (48, 96)
    z, x = (torch.randint(0, 256, (samples, 6, s, s), dtype=torch.uint8, generator=generator) for s in sizes)
    return z, x


def batch(samples: int = 2) -> Batch:
    normalise = Normalise(MEAN, STD)
    z, x = (normalise(p)[:, None] for p in pictures(samples))
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.5, 0.2, 0.25, 0.2], [0.4, 0.4, 0.2, 0.2]])[:samples, None]
    return Batch(z, x, boxes, boxes, torch.zeros(samples, dtype=torch.int64))


@pytest.mark.parametrize("overrides", [(), ELIMINATING, GT_BOX])
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(overrides: tuple[str, ...]) -> None:
    check_that_rows_know_nothing_of_each_other(tracker(*overrides), clip)


def test_both_pictures_decide() -> None:
    track = tracker()
    frames, other = clip(1, 2, 90, 120), clip(2, 2, 90, 120)
    start = torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    state = track.init(frames[:1], start)
    _, first = track.step(state, frames[1:])
    for changed in (Frame(frames[1].rgb, other[1].aux), Frame(other[1].rgb, frames[1].aux)):
        _, second = track.step(state, [changed])
        assert second.windowed_scores is not None
        assert first.windowed_scores is not None
        assert not torch.allclose(first.windowed_scores, second.windowed_scores, rtol=1e-4)


def test_a_frame_without_second_picture_is_refused() -> None:
    frames = [Frame(f.rgb) for f in clip(1, 1, 90, 120)]
    with pytest.raises(ValueError, match="reads frames of two pictures"):
        tracker().init(frames, torch.tensor([[30.0, 20.0, 25.0, 30.0]]))


@pytest.mark.parametrize(("samples", "pack"), [(1, True), (3, False)])
@pytest.mark.parametrize(
    "overrides", [(), ELIMINATING, ("MODEL.BACKBONE.CONV_STEM=true",), ("MODEL.BACKBONE.FUSION_LOC=[1]",)]
)
@torch.no_grad()
def test_a_prepared_network_gives_the_same_maps(overrides: tuple[str, ...], samples: int, pack: bool) -> None:
    net, normalise = network(*overrides), Normalise(MEAN, STD)
    template, search = pictures(samples)
    expected = net(normalise(template), normalise(search))
    for plan in (
        FuseOptions(pixels=normalise, pack=pack, grid=12),
        FuseOptions(pack=pack),
        FuseOptions(portable=True, pack=False),
    ):
        quick = fuse_network(net, plan)
        z, x = (template, search) if plan.pixels else (normalise(template), normalise(search))
        found = quick.locate(quick.encode_template(z), x)
        check_candidates(found.candidates, expected.candidates)
        torch.testing.assert_close(found.feature, expected.feature, rtol=1e-4, atol=1e-4)
    half = fuse_network(net, FuseOptions(torch.bfloat16, normalise, pack=pack, grid=12))
    found = half.locate(half.encode_template(template), search)
    assert found.candidates.scores.dtype == torch.float32
    assert (found.candidates.maps["size_map"] - expected.candidates.maps["size_map"]).abs().max() < 0.05


@torch.no_grad()
def test_the_clean_half_of_a_masked_pass_is_the_plain_pass() -> None:
    net, data = network(*ELIMINATING), batch(3)
    masks = MaskRates().draw(3, *(s.shape[-1] ** 2 // 64 for s in (data.template, data.search)), torch.device("cpu"))
    plain = net(data.template[:, 0], data.search[:, 0])
    both = net(data.template[:, 0], data.search[:, 0], patch_masks=masks)
    clean, hidden = both.candidates.chunk(2)
    torch.testing.assert_close(clean.scores, plain.candidates.scores)
    torch.testing.assert_close(clean.boxes, plain.candidates.boxes)
    assert not torch.allclose(hidden.scores, plain.candidates.scores, rtol=1e-3)


def test_masks_never_hide_a_place_in_both_modalities() -> None:
    masks = MaskRates(0.3, 0.3).draw(64, 64, 256, torch.device("cpu"))
    for hidden in (masks.template, masks.search):
        assert not (hidden[:, 0] & hidden[:, 1]).any()
    rates = masks.search.float().mean(dim=(0, 2))
    torch.testing.assert_close(rates, torch.tensor([0.3, 0.21]), rtol=0, atol=0.02)


def test_stochastic_depth_drops_both_modalities_of_a_sample_in_fusion() -> None:
    torch.manual_seed(0)
    block = network("TRAIN.DROP_PATH_RATE=0.5", training=True).backbone.blocks[3].train()
    x = torch.randn(2 * 16, 5, 24)
    kept = (block.fuse(x) - x).abs().amax(dim=(1, 2)) > 0
    assert torch.equal(kept[:16], kept[16:])
    assert 0 < kept.sum() < 32


@pytest.mark.parametrize("overrides", [(), ELIMINATING, (*ELIMINATING, "TRAIN.ALIGN_TOKENS=true")])
def test_gradients_reach_what_learns_and_nothing_else(overrides: tuple[str, ...]) -> None:
    e = experiment("TRAIN.CE_START_EPOCH=0", "TRAIN.CE_WARM_EPOCH=0", *overrides)
    net = network(*overrides, training=True)
    parameter_groups(net, e.config.train)
    objective = e.method.build_objective(e.config, net)
    losses = objective(net, batch(), Progress(1, 2))
    losses.total.backward()
    learned = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "backbone.patch_embed_multimodal.proj.weight" in learned
    assert "backbone.norm.weight" in learned
    assert {f"backbone.blocks.{i}.Space_X_X_DTE_Adapter.D_fc2.weight" in learned for i in (1, 3)} == {True}
    assert not any(".attn." in n or ".mlp." in n or "box_head" in n for n in learned)
    named = {"Loss/total", "Loss/total_f", "Loss/total_m", "Loss/mse_m", "IoU_f", "IoU_m"}
    assert set(losses.terms) == named


def test_aligned_tokens_agree_where_both_passes_kept_them() -> None:
    settings = (*ELIMINATING, "TRAIN.CE_START_EPOCH=0", "TRAIN.CE_WARM_EPOCH=0", "TRAIN.MASK_RATE_RGB=0")
    e = experiment(*settings, "TRAIN.MASK_RATE_X=0", "TRAIN.ALIGN_TOKENS=true")
    net = network(*ELIMINATING)
    losses = e.method.build_objective(e.config, net)(net, batch(), Progress(1, 2))
    assert float(losses.terms["Loss/mse_m"]) < 1e-8


def test_published_parts_learn_at_published_rates() -> None:
    e = load_experiment("sdstrack", "cvpr2024_rgbt", (*TINY, *FRESH))
    bare = load_experiment("sdstrack", "cvpr2024_rgbt", (*TINY, *FRESH, "TRAIN.PARAM_GROUPS=[]"))
    for config in (e.config, bare.config):
        groups = parameter_groups(e.method.build_network(config, True), config.train)
        assert [g["base_lr"] for g in groups] == [1e-4, pytest.approx(1e-5)]
        assert all("Adapter" in n or "multimodal" in n for n in groups[0]["names"])
        assert groups[1]["names"] == ["backbone.norm.weight", "backbone.norm.bias"]


def rgb_tracker() -> dict[str, Tensor]:
    settings = ["MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 4, NUM_HEADS: 3}"]
    e = load_experiment("ostrack", "synthetic_demo", settings)
    torch.manual_seed(7)
    return dict(e.method.build_network(e.config, True).state_dict())


def test_the_foundation_is_a_whole_rgb_tracker(tmp_path: Path) -> None:
    state = rgb_tracker()
    torch.save({"net": state, "epoch": 300}, tmp_path / "OSTrack_ep0300.pth.tar")
    net = network(training=True)
    fresh = net.backbone.patch_embed_multimodal.proj.weight.clone()
    experiment("MODEL.COPY_STEM=false").load_weights(net, tmp_path / "OSTrack_ep0300.pth.tar", "pretrained")
    own = net.state_dict()
    assert all(torch.equal(own[k], v) for k, v in state.items())
    assert torch.equal(net.backbone.patch_embed_multimodal.proj.weight, fresh)
    experiment("MODEL.COPY_STEM=true").load_weights(net, tmp_path / "OSTrack_ep0300.pth.tar", "pretrained")
    assert torch.equal(net.backbone.patch_embed_multimodal.proj.weight, state["backbone.patch_embed.proj.weight"])


def test_a_foundation_that_lacks_something_is_refused(tmp_path: Path) -> None:
    state = rgb_tracker()
    del state["backbone.blocks.2.norm1.weight"]
    torch.save({"net": state}, tmp_path / "OSTrack_ep0300.pth.tar")
    with pytest.raises(WeightsError, match=r"1 missing from the file: backbone\.blocks\.2\.norm1\.weight"):
        experiment().load_weights(network(training=True), tmp_path / "OSTrack_ep0300.pth.tar", "pretrained")


def test_the_name_of_a_foundation_may_begin_with_the_pretrained_folder(tmp_path: Path) -> None:
    (tmp_path / "here.pth").touch()
    paths = Paths(tmp_path, tmp_path, tmp_path / "output", tmp_path)
    assert experiment().locate_weights("./pretrained/here.pth", paths) == tmp_path / "here.pth"
    with pytest.raises(FileNotFoundError, match=r"MODEL\.PRETRAIN_FILE \./pretrained/none\.pth: no such file"):
        experiment().locate_weights("./pretrained/none.pth", paths, "MODEL.PRETRAIN_FILE")


def test_training_may_go_on_from_a_tracker_of_its_own_kind(tmp_path: Path) -> None:
    source = network(training=True)
    torch.save({"net": source.state_dict()}, tmp_path / "SDSTrack_ep0040.pth.tar")
    torch.manual_seed(99)
    e = experiment()
    target = e.method.build_network(e.config, True)
    e.load_weights(target, tmp_path / "SDSTrack_ep0040.pth.tar", "pretrained")
    found = target.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in source.state_dict().items())


def test_a_fusion_beyond_the_last_block_is_refused() -> None:
    with pytest.raises((ValueError, ConfigError), match=r"FUSION_LOC \[4\] must name one or more of the blocks 0\.\.3"):
        network("MODEL.BACKBONE.FUSION_LOC=[4]")


PUBLISHED = """
DATA:
  MAX_SAMPLE_INTERVAL: 200
  MEAN: [0.485, 0.456, 0.406]
  SEARCH: {CENTER_JITTER: 3, FACTOR: 4.0, SCALE_JITTER: 0.25, SIZE: 256, NUMBER: 1}
  STD: [0.229, 0.224, 0.225]
  TEMPLATE: {CENTER_JITTER: 0, FACTOR: 2.0, SCALE_JITTER: 0, SIZE: 128}
  TRAIN: {DATASETS_NAME: [VisEvent], DATASETS_RATIO: [1], SAMPLE_PER_EPOCH: 60000}
  VAL: {DATASETS_NAME: [null], DATASETS_RATIO: [1], SAMPLE_PER_EPOCH: 10000}
MODEL:
  PRETRAIN_FILE: ./pretrained/vitb_256_mae_ce_32x4_ep300/OSTrack_ep0300.pth.tar
  EXTRA_MERGER: False
  RETURN_INTER: False
  BACKBONE:
    TYPE: vit_base_patch16_224_ce
    STRIDE: 16
    CE_LOC: [3, 6, 9]
    CE_KEEP_RATIO: [0.7, 0.7, 0.7]
    CE_TEMPLATE_RANGE: 'CTR_POINT'
  HEAD: {TYPE: CENTER, NUM_CHANNELS: 256}
TRAIN:
  BACKBONE_MULTIPLIER: 0.1
  DROP_PATH_RATE: 0.1
  CE_START_EPOCH: 4
  CE_WARM_EPOCH: 16
  BATCH_SIZE: 16
  EPOCH: 50
  GIOU_WEIGHT: 2.0
  L1_WEIGHT: 5.0
  GRAD_CLIP_NORM: 0.1
  LR: 0.0001
  LR_DROP_EPOCH: 51
  NUM_WORKER: 10
  OPTIMIZER: ADAMW
  PRINT_INTERVAL: 50
  SCHEDULER: {TYPE: step, DECAY_RATE: 0.1}
  VAL_EPOCH_INTERVAL: 1
  WEIGHT_DECAY: 0.0001
  AMP: False
  FIX_BN: true
  SAVE_EPOCH_INTERVAL: 5
  SAVE_LAST_N_EPOCH: 1
TEST: {EPOCH: 50, SEARCH_FACTOR: 4.0, SEARCH_SIZE: 256, TEMPLATE_FACTOR: 2.0, TEMPLATE_SIZE: 128}
"""


def test_a_file_as_published_means_what_ours_means(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(PUBLISHED)
    theirs = load_experiment("sdstrack", str(tmp_path / "theirs.yaml"))
    ours = load_experiment("sdstrack", "cvpr2024_rgbe")
    assert theirs.config.data == ours.config.data
    assert theirs.config.test == ours.config.test
    assert theirs.config.train == ours.config.train
    mine, published = (e.config.model.backbone.args for e in (ours, theirs))
    assert {k: v for k, v in mine.items() if k != "fusion_loc"} == published
