"""A one-stream ViT on EfficientNet-Lite0: timm's numbers, a trunk that stays, tracking, engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from lib.data import Batch, Frame
from lib.deploy import Inference, prepare
from lib.methods import load_experiment
from lib.models import Checkpoint, WeightsError
from lib.objectives import Progress
from lib.train import parameter_groups
from tests.support.engines import RUNTIMES, needs

NAMES = ("ostrack", "synthetic_lite")


def build(training: bool = False) -> torch.nn.Module:
    experiment = load_experiment(*NAMES)
    torch.manual_seed(0)
    network: torch.nn.Module = experiment.method.build_network(experiment.config, training)
    return network.train(training)


@pytest.mark.parametrize("side", [128, 104, 66])
def test_the_trunk_gives_the_maps_of_timm(side: int) -> None:
    """Sides that are no multiple of 16 too: TensorFlow pads them unevenly."""
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3)).eval()
    with torch.no_grad():
        for name, buffer in reference.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
        network = build()
        file = Checkpoint(Path("lite0.pth"), reference.state_dict(), {}, "timm")
        report = load_experiment(*NAMES).load_weights(network, file, "pretrained")
        trunk = network.get_submodule("backbone.patch_embed.trunk")
        picture = torch.randn(2, 3, side, side)
        fine = trunk[0](picture)
        found, expected = [fine, trunk[1](fine)], reference(picture)
    assert not [name for name in report.fresh if "trunk" in name]
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


def test_another_file_is_refused() -> None:
    file = Checkpoint(Path("vit.pth"), {"pos_embed": torch.zeros(1), "patch_embed.proj.weight": torch.zeros(1)}, {}, "")
    with pytest.raises(WeightsError, match=r"MODEL\.PRETRAIN_FILE vit\.pth: neither a backbone .*_blocks\.10"):
        load_experiment(*NAMES).load_weights(build(), file, "pretrained")


def test_the_trunk_stays_and_the_rest_learns() -> None:
    """By the phase of the configuration."""
    train = load_experiment(*NAMES).config.train
    (phase,) = train.phases
    network = build(True)
    parameter_groups(network, replace(train, param_groups=phase.param_groups))
    trunk = network.get_submodule("backbone.patch_embed.trunk")
    assert phase.eval_modules == (r"^backbone\.patch_embed\.trunk$",)
    assert {p.requires_grad for p in trunk.parameters()} == {False}
    trunk.eval()
    boxes = torch.tensor([0.3, 0.3, 0.3, 0.4]).expand(2, 1, 4)
    pictures = [torch.randn(2, 1, 3, side, side) for side in (64, 128)]
    batch = Batch(
        template=pictures[0], search=pictures[1], template_boxes=boxes, search_boxes=boxes, modality=torch.zeros(2)
    )
    objective = load_experiment(*NAMES).method.build_objective(load_experiment(*NAMES).config, network)
    objective(network, batch, Progress(1, 1)).total.backward()
    lacking = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == ["backbone.cls_token", "backbone.pos_embed"]


def found_boxes(*inferences: Inference) -> list[torch.Tensor]:
    """Boxes of a tracker with random weights, plain and prepared."""
    experiment = load_experiment(*NAMES)
    tracker = experiment.method.build_tracker(experiment.config, build())
    rng = np.random.default_rng(3)
    frames = [Frame(rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)) for _ in range(2)]
    found = []
    with torch.no_grad():
        for kind in (tracker, *(prepare(tracker, inference) for inference in inferences)):
            _, prediction = kind.step(kind.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]])), frames[1:])
            found.append(prediction.boxes_xywh)
    assert torch.isfinite(found[0]).all()
    return found


def test_prepared_it_gives_the_same_boxes() -> None:
    plain, prepared = found_boxes(Inference())
    torch.testing.assert_close(plain, prepared, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.engines
@needs(*RUNTIMES)
def test_engines_compute_it(tmp_path: Path) -> None:
    engines = (Inference(engine=engine, folder=tmp_path / "graphs") for engine in RUNTIMES)
    plain, *others = found_boxes(*engines)
    for boxes in others:
        torch.testing.assert_close(boxes, plain, rtol=1e-4, atol=2e-3)
