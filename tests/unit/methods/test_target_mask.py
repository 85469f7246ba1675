"""MASK: a head for a trained tracker learns alone, and draws where it is requested to; boxes stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.config import ConfigError
from lib.data import Batch, Frame
from lib.deploy import Inference, prepare
from lib.methods import Experiment, load_experiment, resolve
from lib.methods.ostrack import OSTrack, OSTrackTracker
from lib.models import WeightsError, save_release
from lib.objectives import Progress
from lib.paths import Paths
from lib.train import build_optimizer, parameter_groups, phases_of, set_train_mode
from tests.unit.methods.invariance import check_that_rows_know_nothing_of_each_other, leave_nothing_neutral

TINY = (
    "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 16, DEPTH: 1, NUM_HEADS: 2, STRIDE: 16, CONV_STEM: false}",
    "MODEL.HEAD.NUM_CHANNELS=8",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.NUM_WORKER=0",
    "DATA.TRAIN={DATASETS_NAME: ['SYNTHETIC:sequences=1,length=24,width=96,height=96'], DATASETS_RATIO: [1], "
    "SAMPLE_PER_EPOCH: 4}",
)
PLAIN = (*TINY, "INIT={CHECKPOINT: tracker.safetensors}")
MASKED = (*PLAIN, "MASK={WIDTH: 8}")


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


def built(*overrides: str, script: str = "ostrack") -> tuple[Experiment, OSTrack]:
    experiment = load_experiment(script, "synthetic_demo", overrides)
    torch.manual_seed(0)
    network: OSTrack = experiment.method.build_network(experiment.config, False)
    leave_nothing_neutral(network)
    if network.mask_head is not None:
        torch.nn.init.normal_(network.mask_head.logits.weight)  # masks of all sizes
    return experiment, network.eval()


def tracker(*overrides: str, regions: tuple[str, ...] = ()) -> OSTrackTracker:
    experiment, network = built(*overrides)
    track = experiment.build_tracker(network)
    assert isinstance(track, OSTrackTracker)
    track.request_regions(*regions)
    return track


@torch.no_grad()
def last(track: OSTrackTracker) -> tuple[Tensor, list[np.ndarray] | None, Tensor | None]:
    frames = [clip(seed, 4, height, 120) for seed, height in ((1, 90), (2, 80))]
    state = track.init([f[0] for f in frames], torch.tensor([[30.0, 20.0, 25.0, 30.0], [40.0, 30.0, 50.0, 20.0]]))
    for pair in zip(*(f[1:] for f in frames), strict=True):
        state, prediction = track.step(state, pair)
    return prediction.boxes_xywh, prediction.masks, prediction.polygons


def test_boxes_are_the_same_to_the_bit_with_and_without_masks() -> None:
    plain, masked = tracker(*PLAIN), tracker(*MASKED, regions=("polygon", "mask"))
    masked.network.load_state_dict(plain.network.state_dict(), strict=False)
    boxes, masks, polygons = last(masked)
    assert torch.equal(boxes, last(plain)[0])
    assert masks is not None
    assert polygons is not None
    assert [m.shape for m in masks] == [(90, 120), (80, 120)]
    assert any(m.any() and not m.all() for m in masks)
    assert polygons.shape == (2, 4, 2)
    masked.request_regions()
    assert last(masked)[1:] == (None, None)
    with pytest.raises(ValueError, match="gives boxes, no mask"):
        plain.request_regions("mask")


def test_rows_are_drawn_as_alone_and_as_prepared() -> None:
    track = tracker(*MASKED, regions=("mask",))
    check_that_rows_know_nothing_of_each_other(track, clip)
    quick = prepare(track, Inference())
    assert isinstance(quick, OSTrackTracker)
    (_, masks, _), (_, prepared, _) = last(track), last(quick)
    assert masks is not None
    assert prepared is not None
    assert all((a != b).mean() < 5e-3 for a, b in zip(masks, prepared, strict=True))


@pytest.mark.parametrize(("script", "pictures"), [("ostrack", 3), ("sdstrack", 6)])
def test_the_head_reads_pixels_next_to_features(script: str, pictures: int) -> None:
    _, network = built("INIT={CHECKPOINT: x}", "MASK={WIDTH: 8, DOUBLINGS: 1}", *TINY[2:], script=script)
    assert network.mask_head is not None
    assert network.mask_head.pictures == pictures
    grid, box = network.backbone.grid_search, torch.tensor([[0.25, 0.25, 0.75, 0.5]])
    feature, search = torch.randn(1, network.feature_width, grid, grid), torch.randn(1, pictures, 96, 96)
    drawn = [network.mask_head(feature, box, search), network.mask_head(feature, box, search.flip(3))]
    assert drawn[0].shape == (1, 2 * grid, 2 * grid)
    assert not torch.allclose(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], network.mask_head(feature, box / 2, search))


def test_the_head_alone_learns_on_a_tracker_that_is_loaded_strictly(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path, tmp_path / "output", tmp_path / "pretrained")
    _, trained = built(*TINY)
    state = trained.state_dict()
    save_release(paths.pretrained / "tracker", state, {})
    experiment = load_experiment("ostrack", "synthetic_demo", (*MASKED, "TRAIN.DROP_PATH_RATE=0.5"))
    recipe = resolve(experiment, paths)
    network = recipe.network
    (phase,) = phases_of(experiment.config.train)
    optimizer = build_optimizer(parameter_groups(network, phase.train), phase.train)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in state.items())
    masks = torch.zeros(4, 1, 96, 96, dtype=torch.uint8)
    masks[:, :, 20:60, 30:50] = 255
    extras = {"search_masks": masks, "has_masks": torch.tensor([True, True, False, True])}
    boxes = torch.tensor([[[0.3, 0.2, 0.2, 0.4]]]).expand(4, 1, 4)
    pictures = torch.randn(4, 1, 3, 48, 48), torch.randn(4, 1, 3, 96, 96)
    batch = Batch(*pictures, boxes, boxes, torch.zeros(4, dtype=torch.long), extras=extras)
    set_train_mode(network, recipe.objective, phase.train.fix_bn, phase.eval_modules)
    losses = recipe.objective(network, batch, Progress(1, 1))
    losses.total.backward()
    optimizer.step()
    after = network.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved
    assert moved.isdisjoint(state)
    assert moved == {name for name in after if name.startswith("mask_head.")}
    assert all(p.grad is None for name, p in network.named_parameters() if name in state)
    unknown = replace(batch, extras={**batch.extras, "has_masks": torch.zeros(4, dtype=torch.bool)})
    assert recipe.objective(network, unknown, Progress(1, 1)).total == 0
    del state["box_head.conv5_ctr.weight"]
    save_release(paths.pretrained / "tracker", state, {})
    with pytest.raises(WeightsError, match=r"1 missing from the file: box_head\.conv5_ctr\.weight"):
        resolve(experiment, paths)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MASK.WIDTH=8",), "MASK needs INIT"),
        (("MASK.WIDTH=8", "INIT.CHECKPOINT=x", "SLT.FRAMES=4"), "MASK and SLT are given"),
        (("MASK.WIDHT=8", "INIT.CHECKPOINT=x"), "WIDHT"),
    ],
)
def test_a_mask_section_that_cannot_be_is_a_sentence(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_experiment("ostrack", "synthetic_demo", overrides)


def test_a_teacher_has_no_part_in_it() -> None:
    config = load_experiment("loretrack", "synthetic_64", ("MASK.WIDTH=8", "INIT.CHECKPOINT=x")).config
    assert config.teacher is None
    assert config.data.masks
