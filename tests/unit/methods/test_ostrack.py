"""OSTrack: network, objective and tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.data import Frame
from lib.methods import Experiment, load_experiment
from lib.methods.ostrack import OSTrack
from lib.models import CheckpointNotFoundError, WeightsError, save_release
from lib.models.backbones import resize_position
from lib.paths import Paths, load_paths
from lib.track import OneStreamTracker
from tests.unit.methods.invariance import check_that_rows_know_nothing_of_each_other


def tracker(*overrides: str) -> OneStreamTracker:
    experiment = load_experiment("ostrack", "synthetic_demo", overrides)
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, False)
    return experiment.build_tracker(network)


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


ELIMINATING = (
    "MODEL.BACKBONE.CE_LOC=[1]",
    "MODEL.BACKBONE.CE_KEEP_RATIO=[0.7]",
    "MODEL.BACKBONE.CE_TEMPLATE_RANGE=GT_BOX",
)


@pytest.mark.parametrize("overrides", [(), ELIMINATING, ("MODEL.HEAD={TYPE: CORNER}", "TEST.SIZE_MOMENTUM=0.3")])
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(overrides: tuple[str, ...]) -> None:
    check_that_rows_know_nothing_of_each_other(tracker(*overrides), clip)


@pytest.mark.parametrize("box", [[5.0, 5.0, 0.0, 3.0], [5.0, float("nan"), 4.0, 3.0], [1.0, 1.0, -2.0, 3.0]])
def test_a_box_that_cannot_be_tracked_is_refused(box: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite x, y and positive w, h"):
        tracker().init(clip(0, 1, 60, 60), torch.tensor([box]))


def test_a_target_far_outside_does_not_break_the_tracker() -> None:
    track = tracker()
    state = track.init(clip(0, 1, 60, 60), torch.tensor([[500.0, 400.0, 30.0, 30.0]]))
    _, prediction = track.step(state, clip(0, 1, 60, 60))
    x, y, w, h = prediction.boxes_xywh[0].tolist()
    assert 0 <= x <= 50
    assert 0 <= y <= 50
    assert w >= 10
    assert h >= 10


def test_an_rgb_tracker_leaves_the_second_picture_aside() -> None:
    track = tracker()
    frames = clip(4, 2, 80, 90)
    start = torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    _, plain = track.step(track.init(frames[:1], start), frames[1:])
    doubled = [Frame(f.rgb, f.rgb[::-1].copy()) for f in frames]
    _, thermal = track.step(track.init(doubled[:1], start), doubled[1:])
    assert thermal.boxes_xywh.tolist() == plain.boxes_xywh.tolist()


TINY = "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 16, DEPTH: 2, NUM_HEADS: 2, STRIDE: 16}"


def small(*overrides: str) -> tuple[Experiment, OSTrack]:
    experiment = load_experiment("ostrack", "synthetic_demo", [TINY, *overrides])
    return experiment, experiment.method.build_network(experiment.config, True)


def test_segment_embeddings_tell_the_template_from_the_search_region() -> None:
    experiment = load_experiment("ostrack", "synthetic_demo", [TINY.replace("}", ", SEP_SEG: true}")])
    backbone = experiment.method.build_network(experiment.config, False).backbone
    pictures = [torch.zeros(1, 3, side, side) for side in (backbone.template_size, backbone.search_size)]
    with torch.no_grad():
        before = backbone.embed_template(pictures[0]), backbone.embed_search(pictures[1])
        backbone.template_segment_pos_embed.add_(1.0)
        backbone.search_segment_pos_embed.add_(2.0)
        torch.testing.assert_close(backbone.embed_template(pictures[0]), before[0] + 1)
        torch.testing.assert_close(backbone.embed_search(pictures[1]), before[1] + 2)


def test_a_masked_autoencoder_fills_the_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (_, source), (experiment, network) = small(), small()
    weights = {k: v for k, v in source.backbone.state_dict().items() if not k.startswith("pos_embed_")}
    weights |= {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.zeros(8)}
    torch.save({"model": weights}, tmp_path / "mae.pth")
    report = experiment.load_weights(network, tmp_path / "mae.pth", "pretrained")
    assert report.unused == ("mask_token", "decoder_blocks.0.norm1.weight")
    assert {name.partition(".")[0] for name in report.fresh} == {"box_head"}
    torch.testing.assert_close(network.backbone.blocks[1].mlp.fc2.weight, source.backbone.blocks[1].mlp.fc2.weight)
    torch.testing.assert_close(network.backbone.pos_embed_x, resize_position(source.backbone.pos_embed, 6))
    torch.testing.assert_close(network.backbone.pos_embed_z, resize_position(source.backbone.pos_embed, 3))


@pytest.mark.parametrize("name", ["OSTrack_ep0300.pth.tar", "any.pth"])
def test_a_whole_tracker_is_known_by_its_names_and_loaded_strictly(tmp_path: Path, name: str) -> None:
    """In the `pretrained` folder or as a path, whatever the file is called; the grids may differ."""
    torch.manual_seed(0)
    _, source = small()
    experiment, network = small("DATA.SEARCH.SIZE=128", f"MODEL.PRETRAIN_FILE={name}")
    state = source.state_dict()
    torch.save({"net": state, "epoch": 300}, tmp_path / name)
    paths = Paths(tmp_path, tmp_path, tmp_path / "output", tmp_path)
    file = experiment.locate_weights(name, paths, "MODEL.PRETRAIN_FILE")
    assert file == tmp_path / name
    experiment.load_weights(network, file, "pretrained")
    assert torch.equal(network.box_head.conv1_ctr[0].weight, state["box_head.conv1_ctr.0.weight"])
    torch.testing.assert_close(
        network.backbone.pos_embed_x, resize_position(state["backbone.pos_embed_x"], 8, prefix=0)
    )
    del state["box_head.conv5_ctr.weight"]
    torch.save({"net": state}, tmp_path / name)
    with pytest.raises(WeightsError, match=r"1 missing from the file: box_head\.conv5_ctr\.weight"):
        experiment.load_weights(network, file, "pretrained")


def test_a_tracker_of_another_method_is_refused_in_one_sentence(tmp_path: Path) -> None:
    other = load_experiment("transt", "synthetic_small")
    file = save_release(tmp_path / "transt", other.method.build_network(other.config, True).state_dict(), {})
    experiment, network = small()
    with pytest.raises(WeightsError, match=r"MODEL\.PRETRAIN_FILE .*transt\.safetensors: neither"):
        experiment.load_weights(network, file, "pretrained")


def test_the_shipped_network_is_found_under_the_name_of_its_experiment(tmp_path: Path) -> None:
    paths = load_paths(save_dir=tmp_path)
    found = load_experiment("ostrack", "synthetic_small").locate_weights("", paths)
    assert found == paths.pretrained / "synthetic_small.safetensors"
    with pytest.raises(CheckpointNotFoundError, match="no weights for transt synthetic_small"):
        load_experiment("transt", "synthetic_small").locate_weights("", paths)


def test_a_missing_file_says_where_it_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "other.pth").touch()
    experiment, _ = small()
    paths = Paths(tmp_path, tmp_path, tmp_path / "output", tmp_path)
    with pytest.raises(CheckpointNotFoundError, match=r"PRETRAIN_FILE nothing\.pth: no such .*there: other\.pth"):
        experiment.locate_weights("nothing.pth", paths, "MODEL.PRETRAIN_FILE")
