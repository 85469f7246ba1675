"""OSTrack: network, objective and tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.data import Frame
from lib.methods import load_experiment
from lib.methods.ostrack import OSTrack, load_pretrained
from lib.models.backbones import resize_position
from lib.track import OneStreamTracker
from tests.unit.methods.invariance import check_that_rows_know_nothing_of_each_other


def tracker(*overrides: str) -> OneStreamTracker:
    experiment = load_experiment("ostrack", "synthetic_demo", overrides)
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, False)
    return experiment.method.build_tracker(experiment.config, network, None)


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(frames)]


ELIMINATING = (
    "MODEL.BACKBONE.CE_LOC=[1]",
    "MODEL.BACKBONE.CE_KEEP_RATIO=[0.7]",
    "MODEL.BACKBONE.CE_TEMPLATE_RANGE=GT_BOX",
)


@pytest.mark.parametrize("overrides", [(), ELIMINATING, ("MODEL.HEAD={TYPE: CORNER}",)])
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(overrides: tuple[str, ...]) -> None:
    check_that_rows_know_nothing_of_each_other(tracker(*overrides), clip)


@pytest.mark.parametrize("box", [[5.0, 5.0, 0.0, 3.0], [5.0, float("nan"), 4.0, 3.0], [1.0, 1.0, -2.0, 3.0]])
def test_a_box_that_cannot_be_tracked_is_told(box: list[float]) -> None:
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


def small_network() -> OSTrack:
    settings = ["MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 16, DEPTH: 2, NUM_HEADS: 2, STRIDE: 16}"]
    experiment = load_experiment("ostrack", "synthetic_demo", settings)
    return experiment.method.build_network(experiment.config, True)


def test_a_masked_autoencoder_fills_the_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, network = small_network(), small_network()
    weights = {k: v for k, v in source.backbone.state_dict().items() if not k.startswith("pos_embed_")}
    weights |= {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.zeros(8)}
    torch.save({"model": weights}, tmp_path / "mae.pth")
    load_pretrained(network, str(tmp_path / "mae.pth"))
    torch.testing.assert_close(network.backbone.blocks[1].mlp.fc2.weight, source.backbone.blocks[1].mlp.fc2.weight)
    torch.testing.assert_close(network.backbone.pos_embed_x, resize_position(source.backbone.pos_embed, 6))
    torch.testing.assert_close(network.backbone.pos_embed_z, resize_position(source.backbone.pos_embed, 3))


def test_a_missing_file_of_initial_weights_is_told() -> None:
    with pytest.raises(FileNotFoundError, match=r"MODEL\.PRETRAIN_FILE 'nothing\.pth': no such file"):
        load_pretrained(small_network(), "nothing.pth")
