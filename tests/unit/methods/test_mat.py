"""Masked appearance transfer: samples, objective, weights that it begins with and that others begin with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.config import ConfigError
from lib.data import Batch, CropDraw, Draws, Frame, FrameSet, Modality, Normalise, collate, normalise_batch
from lib.data.lists import load_list
from lib.methods import load_experiment
from lib.methods.mat import AppearanceTransfer, TransferObjective, TransferProcessing
from lib.models import WeightsError
from lib.objectives import Progress
from lib.train import build_optimizer, parameter_groups

TINY = (
    "MODEL.BACKBONE={TYPE: mae_vit, EMBED_DIM: 24, DEPTH: 2, NUM_HEADS: 3, DECODER_EMBED_DIM: 16, DECODER_DEPTH: 1}",
    "DATA.SEARCH.SIZE=64",
    "DATA.TEMPLATE.SIZE=32",
)


PARTS = {"train": "GOT10K_vottrain_corrected", "val": "GOT10K_votval_corrected"}


def experiment(*overrides: str) -> Any:
    return load_experiment("translate_template", "synthetic_small", (*TINY, *overrides))


def network(*overrides: str) -> AppearanceTransfer:
    e = experiment(*overrides)
    torch.manual_seed(1)
    net: AppearanceTransfer = e.method.build_network(e.config, True)
    return net


def frames() -> FrameSet:
    """The target is half red and half green; in the search frame it is larger, wider and elsewhere."""
    rng = np.random.default_rng(0)
    shown = []
    for x, y, w, h in ((30, 30, 24, 24), (60, 40, 40, 20)):
        picture = rng.integers(0, 40, (120, 160, 3), dtype=np.uint8)
        picture[y : y + h, x : x + w // 2] = (220, 20, 20)
        picture[y : y + h, x + w // 2 : x + w] = (20, 220, 20)
        shown.append(Frame(picture))
    boxes = np.array([[30.0, 30, 24, 24]]), np.array([[60.0, 40, 40, 20]])
    return FrameSet((shown[0],), (shown[1],), *boxes, Modality.RGB, "toy", "video", (0, 5))


def sample(flipped: bool, brightness: float = 1.0) -> Any:
    """A sample whose search region is jittered; nothing but its colours is drawn."""
    process = TransferProcessing(experiment().config.data)
    still = (1.0, False, ((0, 1, 2), (1.0, 1.0, 1.0)), (False, 3, 0, 1), False)
    jitter = np.array([0.3, -0.2], dtype=np.float32), np.array([0.6, 0.3], dtype=np.float32)
    changed = (1.0, False, ((0, 1, 2), (brightness, 1.0, 1.0)), (False, 3, 0, 1), flipped)
    middle = np.zeros(2, dtype=np.float32), np.full(2, 0.5, dtype=np.float32)
    draws = Draws((False, False), (CropDraw(*middle, still),), (CropDraw(*jitter, changed),))
    return process.apply(frames(), draws)


def batch() -> Batch:
    process = TransferProcessing(experiment().config.data)
    samples = [process(frames(), np.random.default_rng(i)) for i in range(4)]
    return normalise_batch(collate(samples), Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.mark.parametrize("flipped", [False, True])
def test_the_second_template_is_the_target_as_it_looks_in_the_search_region(flipped: bool) -> None:
    found = sample(flipped, brightness=0.8)
    read, wanted = found.template
    left, right = (0, 2) if not flipped else (2, 0)
    # Both are stretched to squares, the target in the middle half; the second has the colours of the search region.
    assert read[:, 12:20, 9:15].reshape(3, -1).mean(1).tolist() == pytest.approx([220, 20, 20], abs=3)
    for columns, bright in ((slice(10, 14), left), (slice(18, 22), right)):
        levels = wanted[:, 12:20, columns].reshape(3, -1).mean(1)
        assert levels.argmax() == (0 if bright == 0 else 1)
        assert levels.max() == pytest.approx(0.8 * 220, abs=4)
    assert (wanted[:, 2:5, 2:30] < 60).all()


def test_a_mirrored_search_region_and_its_template_are_mirrored_alike() -> None:
    plain, mirrored = sample(False), sample(True)
    assert np.array_equal(plain.search[..., ::-1], mirrored.search)
    assert np.array_equal(plain.template[1][..., ::-1], mirrored.template[1])
    assert np.array_equal(plain.template[0], mirrored.template[0])


def test_only_hidden_patches_teach_and_the_switch_of_transfer_changes_the_target() -> None:
    net, given = network(), batch()
    noise = net.autoencoder.draw_noise(len(given), torch.device("cpu"))
    objective = TransferObjective(experiment().config, net)
    with torch.no_grad():
        found = net(given.template[:, 0], given.search[:, 0], noise)
        losses = objective.learn(net, given, noise)
        plain = TransferObjective(experiment("TRAIN.TRANSFER=false").config, net).learn(net, given, noise)
    hidden = found.search_masking.hidden.bool()
    predicted = net.predicted(found.search)
    cells = (predicted - given.search[:, 0]).square().unflatten(3, (8, 8)).unflatten(2, (8, 8)).mean(dim=(1, 3, 5))
    assert losses.terms["Loss/search"].item() == pytest.approx(cells.flatten(1)[hidden].mean().item(), rel=1e-5)
    assert plain.terms["Loss/search"] == losses.terms["Loss/search"]
    assert plain.terms["Loss/template"] != losses.terms["Loss/template"]
    swapped = replace(given, template=given.template[:, [0, 0]])
    assert objective.learn(net, swapped, noise).terms["Loss/template"] == plain.terms["Loss/template"]


def test_it_learns_and_position_tables_stay() -> None:
    e, net, given = experiment("TRAIN.LR=0.003"), network(), batch()
    tables = {name: value.clone() for name, value in net.state_dict().items() if name.endswith("pos_embed")}
    objective, train = e.method.build_objective(e.config, net), e.config.train
    optimizer = build_optimizer(parameter_groups(net, train), train)
    noise = net.autoencoder.draw_noise(len(given), torch.device("cpu"))
    totals = []
    for _ in range(40):
        optimizer.zero_grad()
        losses = objective.learn(net, given, noise)
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    assert totals[-1] < 0.6 * totals[0]
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in tables.items())


def test_masks_are_drawn_in_every_step_and_pictures_draw_none() -> None:
    net, given = network(), batch()
    objective = TransferObjective(experiment().config, net)
    with torch.no_grad():
        first, second = (objective(net, given, Progress(1, 1)).total for _ in range(2))
    assert first != second
    state = torch.random.get_rng_state()
    shown = objective.pictures(net, given)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert set(shown) == {"template_in", "template_out", "template_predicted", "search", "search_predicted"}
    for name, pictures in shown.items():
        assert pictures.shape == (4, 3, *((64, 64) if name.startswith("search") else (32, 32)))
        assert 0 <= pictures.min() <= pictures.max() <= 1
    # A quarter of what is read is black.
    assert (shown["search"].sum(1) == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


def save(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    file = tmp_path / "weights.pth"
    torch.save({"model": state}, file)
    return file


def mae(net: AppearanceTransfer, decoder: bool) -> dict[str, torch.Tensor]:
    """What a masked autoencoder of single pictures has, of other values."""
    own = {k: v + 1 for k, v in net.autoencoder.state_dict().items() if not k.startswith("z_")}
    kept = {k: v for k, v in own.items() if decoder or not k.startswith(("decoder", "mask_token"))}
    return {**kept, "head.weight": torch.zeros(10, 24)}


@pytest.mark.parametrize("decoder", [True, False])
def test_it_begins_with_a_masked_autoencoder_with_or_without_decoder(tmp_path: Path, decoder: bool) -> None:
    e, net, other = experiment(), network(), network()
    file = save(tmp_path, mae(other, decoder))
    report = e.load_weights(net, file, "pretrained")
    after, before = net.state_dict(), other.state_dict()
    filled = ["backbone.model.blocks.1.mlp.fc1.weight", "backbone.model.cls_token", "backbone.model.norm.bias"]
    filled += ["backbone.model.decoder_pred.weight", "backbone.model.mask_token"] if decoder else []
    assert all(torch.equal(after[name], before[name] + 1) for name in filled)
    for name in ("z_patch_embed.proj.weight", "pos_embed", "decoder_pos_embed", "z_pos_embed"):
        assert torch.equal(after[f"backbone.model.{name}"], before[f"backbone.model.{name}"]), name
    assert "head.weight" in report.unused[0]
    assert any("decoder_blocks" in name for name in report.fresh) != decoder


def test_it_goes_on_from_a_pre_training_at_other_picture_sizes(tmp_path: Path) -> None:
    e, net = experiment(), network()
    other = network("DATA.SEARCH.SIZE=96", "DATA.TEMPLATE.SIZE=48")
    with torch.no_grad():
        other.autoencoder.z_patch_embed.proj.weight.fill_(0.5)
    e.load_weights(net, save(tmp_path, other.state_dict()), "pretrained")
    assert (net.autoencoder.z_patch_embed.proj.weight == 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_head.conv.weight": torch.zeros(1)}, "neither MAE's weights nor those of masked appearance transfer"),
        ("wider", "do not fit the network .* of another shape"),
        ("deeper", "missing from the file: backbone.model.blocks.2"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path, change: Any, message: str) -> None:
    deep = "DEPTH: 3" if change == "deeper" else "DEPTH: 2"
    wide = "EMBED_DIM: 48" if change == "wider" else "EMBED_DIM: 24"
    e = experiment(
        f"MODEL.BACKBONE={{TYPE: mae_vit, {wide}, {deep}, NUM_HEADS: 3, DECODER_EMBED_DIM: 16, DECODER_DEPTH: 1}}"
    )
    net = e.method.build_network(e.config, True)
    file = save(tmp_path, change if isinstance(change, dict) else network().state_dict())
    with pytest.raises(WeightsError, match=message) as caught:
        e.load_weights(net, file, "pretrained")
    assert "\n" not in str(caught.value)


def test_a_tracker_begins_with_its_encoder(tmp_path: Path) -> None:
    """The patches are those of the search region; tables are resized to both grids."""
    file = save(tmp_path, network().state_dict())
    backbone = "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 2, NUM_HEADS: 3, STRIDE: 8}"
    e = load_experiment("ostrack", "synthetic_small", (backbone,))
    tracker = e.method.build_network(e.config, True)
    e.load_weights(tracker, file, "pretrained")
    encoder = network().autoencoder
    assert torch.equal(tracker.backbone.patch_embed.proj.weight, encoder.patch_embed.proj.weight)
    assert torch.equal(tracker.backbone.blocks[1].mlp.fc2.weight, encoder.blocks[1].mlp.fc2.weight)
    assert tracker.backbone.pos_embed_x.shape[1] == tracker.backbone.grid_search**2


def test_settings_of_a_pre_training() -> None:
    for setting, message in (
        ("MODEL.MASK_RATIO=1.0", "MASK_RATIO"),
        ("DATA.SEARCH.NUMBER=2", "one template and one search region"),
        ("MODEL.HEAD={TYPE: CORNER}", "HEAD has no place"),
        ("DATA.SEARCH.SIZE=60", "multiple of the stride 8"),
        ("DATA.MASKS=true", "MASKS has no place"),
    ):
        with pytest.raises(ConfigError, match=message):
            experiment(setting)
    with pytest.raises(ConfigError, match="has no tracker"):
        experiment().build_tracker(network())
    published = load_experiment("translate_template", "common_pretrain").config
    assert (published.data.search.size, published.data.template.size) == (224, 112)
    assert published.train.batch_size * published.train.accumulate * 2 == 128


def test_published_pretraining_draws_from_all_of_got10k_but_the_thousand_videos_that_vot_forbids() -> None:
    sets = load_experiment("translate_template", "common_pretrain").config.data.train
    ratios = dict(zip(sets.names, sets.datasets_ratio, strict=True))
    parts = {name: load_list(f"got10k_vot_{part}_corrected_split") for part, name in PARTS.items()}
    assert len({index for part in parts.values() for index in part}) == 9335 - 1000
    assert {name: ratios[name] for name in parts} == {name: len(part) for name, part in parts.items()}
