"""Training on a GPU: the losses of the CPU, half precision, nccl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.distributed import World
from lib.methods import load_experiment
from lib.paths import Paths
from lib.train import CheckpointFolder, Trainer, TrainLog, TrainOptions, build_setup, seed_everything

SMALL = (
    "DATA.TRAIN.SAMPLE_PER_EPOCH=24",
    "TRAIN.EPOCH=1",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.NUM_WORKER=0",
    "TRAIN.LR=0.0001",
    "TRAIN.SCHEDULER.WARMUP_EPOCHS=0",
)
DATA = "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=3,length=24,width=96,height=96{}']"
METHODS = [
    ("ostrack", "synthetic_small", DATA.format("")),
    (
        "cstrack_s1",
        "synthetic_small",
        DATA.format(",modality=rgbt"),
        "DATA.TRAIN.DATASETS_RATIO=[1]",
        "TRAIN.DROP_PATH_RATE=0",
    ),
    ("transt", "synthetic_small", DATA.format("")),
]
OTHERS = [
    ("translate_template", "synthetic_small", DATA.format(",modality=rgbt"), "TRAIN.ACCUMULATE=1"),
    ("translate_track", "synthetic_small", DATA.format(",modality=rgbt"), "TRAIN.PHASES=[]"),
    ("trdimp", "synthetic_small", DATA.format("")),
    ("siamrpnpp", "synthetic_small", DATA.format("")),
    ("siamattn", "synthetic_small", DATA.format("")),
    ("ostrack", "slt_synthetic", DATA.format(""), "SLT.FRAMES=8"),
    ("slt_trdimp", "slt_synthetic", DATA.format(""), "SLT.FRAMES=8"),
    ("slt_siamattn", "slt_synthetic", DATA.format(""), "SLT.FRAMES=8"),
]
"""Methods that draw numbers on the device, which differ from those of the CPU."""


def losses(folder: Path, device: str, script: str, config: str, *overrides: str) -> torch.Tensor:
    """Losses of the steps of one epoch."""
    experiment = load_experiment(script, config, (*SMALL, *overrides))
    seed_everything(7)
    world = World(torch.device(device))
    paths = Paths(workspace=folder, data_dir=folder, save_dir=folder, pretrained=folder)
    parts = build_setup(experiment, world, paths, TrainOptions("x", "x"))
    for module in parts.network.modules():
        for name in ("p", "dropout"):  # devices draw different numbers
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    trainer = Trainer(parts, experiment.config.train, world, CheckpointFolder(folder / device, "Toy"), TrainLog())
    found: list[Tensor] = []
    trainer.module.register_forward_hook(lambda module, arguments, output: found.append(output[0].detach().cpu()))
    trainer.run()
    return torch.stack(found)


@pytest.mark.parametrize("method", METHODS, ids=[m[0] for m in METHODS])
def test_steps_have_the_losses_of_the_cpu(tmp_path: Path, method: tuple[str, ...]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    expected, found = (losses(tmp_path, device, *method) for device in ("cpu", "cuda"))
    assert len(found) == len(expected) == 6
    torch.testing.assert_close(found[:1], expected[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("method", OTHERS, ids=[f"{m[0]}-{m[1]}" for m in OTHERS])
def test_other_methods_train(tmp_path: Path, method: tuple[str, ...]) -> None:
    found = losses(tmp_path, "cuda", *method)
    assert len(found) > 0
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_reduced_precision_has_nearly_the_losses_of_float32(tmp_path: Path, precision: str) -> None:
    expected = losses(tmp_path, "cuda", *METHODS[0])
    found = losses(tmp_path, "cuda", *METHODS[0], f"TRAIN.PRECISION={precision}")
    torch.testing.assert_close(found[0], expected[0], rtol=3e-2, atol=0)
    assert torch.isfinite(found).all()


def test_one_process_with_nccl_trains_and_is_resumed(tmp_path: Path, command: Callable[..., Any]) -> None:
    arguments = (
        "tracking/train.py", "--script", "ostrack", "--config", "synthetic_small", "--mode", "multiple",
        "--nproc_per_node", 1, "--device", "cuda", "--save_dir", tmp_path, "--set", *SMALL[2:], METHODS[0][2],
        "DATA.TRAIN.SAMPLE_PER_EPOCH=24",
    )  # fmt: skip
    command(*arguments, "TRAIN.EPOCH=1")
    assert list(tmp_path.rglob("OSTrack_ep0001.safetensors"))
