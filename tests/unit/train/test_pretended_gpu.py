"""Training steps on a pretended GPU: the losses of the CPU to the bit, and what a step asks of the host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.distributed import World
from lib.methods import load_experiment
from lib.paths import Paths, shipped_folder
from lib.train import CheckpointFolder, Trainer, TrainLog, TrainOptions, build_setup, seed_everything
from tests.support.pretend_cuda import Event, PretendCuda, pretend_cuda

pytestmark = pytest.mark.slow

SMALL = (
    "DATA.TRAIN.SAMPLE_PER_EPOCH=2",
    "DATA.TRAIN.DATASETS_RATIO=[1]",
    "TRAIN.EPOCH=1",
    "TRAIN.BATCH_SIZE=2",
    "TRAIN.NUM_WORKER=0",
    "TRAIN.ACCUMULATE=1",
)
DATA = "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=1,length=24,width=96,height=96,modality={}']"
SLT = ("SLT.FRAMES=4", "SLT.START=''")
END = 2
"""Reads of every step: its losses, and the norm of its gradients."""
# Reads of a step; None for roll-outs, which read every frame.
METHODS: list[tuple[str, str, str, int | None, tuple[str, ...]]] = [
    ("ostrack", "synthetic_distilled", "rgb", END + 1, ()),  # the template's box, for its foreground
    ("ostrack", "synthetic_mask", "rgb", END, ()),
    ("sdstrack", "synthetic_demo", "rgbd", END, ("MODEL.PRETRAIN_FILE=''",)),
    ("cstrack_s1", "synthetic_small", "rgbt", END, ()),
    ("transt", "synthetic_small", "rgb", END + 1, ()),  # cells of targets
    ("translate_template", "synthetic_small", "rgbt", END, ()),
    ("translate_track", "synthetic_small", "rgbt", END, ("TRAIN.PHASES=[]",)),
    ("trdimp", "synthetic_small", "rgb", END, ()),
    ("siamattn", "synthetic_small", "rgb", END + 4, ()),  # targets there, boxes near each of two, masks
    ("slt_siamrpnpp", "slt_synthetic", "rgb", None, SLT),
]


def losses(
    folder: Path, device: PretendCuda | None, precision: str, script: str, config: str, *overrides: str
) -> tuple[Tensor, list[Event]]:
    """Loss of a training of one step, and what the step asked of the host."""
    experiment = load_experiment(script, config, (*SMALL, *overrides, f"TRAIN.PRECISION={precision}"))
    seed_everything(7)
    world = World(torch.device("cpu" if device is None else "cuda"))
    paths = Paths(workspace=folder, data_dir=folder, save_dir=folder, pretrained=shipped_folder("pretrained"))
    parts = build_setup(experiment, world, paths, TrainOptions("x", "x"))
    trainer = Trainer(parts, experiment.config.train, world, CheckpointFolder(folder, "Toy"), TrainLog())
    found: list[float] = []
    asked: list[Event] = []
    whole = trainer.train_step

    def step(*arguments: Any) -> Any:
        if device is not None:
            device.events.clear()
        result = whole(*arguments)
        if device is not None:
            asked.extend(device.events)
        found.append(result.terms["Loss/total"])
        return result

    trainer.train_step = step  # type: ignore[assignment]
    trainer.run()
    return torch.tensor(found), asked


@pytest.mark.parametrize("method", METHODS, ids=[f"{m[0]}-{m[1]}" for m in METHODS])
def test_a_step_has_the_loss_of_the_cpu_and_waits_only_where_it_has_to(
    method: tuple[str, str, str, int | None, tuple[str, ...]], tmp_path: Path
) -> None:
    script, config, modality, reads, overrides = method
    case = script, config, DATA.format(modality), *overrides
    expected, _ = losses(tmp_path / "cpu", None, "fp32", *case)
    with pretend_cuda() as device:
        found, asked = losses(tmp_path / "cuda", device, "fp32", *case)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    seen = Counter(e.kind for e in asked)
    assert reads is None or (seen["read"], seen["copy"]) == (reads, 0), asked


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast(precision: str, tmp_path: Path) -> None:
    case = "cstrack_s1", "synthetic_small", DATA.format("rgbt")
    with pretend_cuda() as device:
        found, asked = losses(tmp_path / "cuda", device, precision, *case)
    assert sum(e.kind == "read" for e in asked) == END + (precision == "fp16")
    assert torch.isfinite(found).all()
