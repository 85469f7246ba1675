"""Trainings that are killed outright and started again by the same command: frame by frame, and by sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.support import Run, kill_between_epochs

SMALL = (
    "TRAIN.EPOCH=2",
    "TRAIN.NUM_WORKER=1",
    "MODEL.BACKBONE.WIDTH=8",
)
TRANST = ("MODEL.HIDDEN_DIM=32", "MODEL.DIM_FEEDFORWARD=64")
TRDIMP = ("MODEL.CLASSIFICATION_DIM=16", "MODEL.KEY_DIM=8", "MODEL.BOX_DIM=8")
SIAMRPN = ("MODEL.HIDDEN_DIM=32",)
SIAMATTN = (
    "MODEL.HIDDEN_DIM=16",
    "TRAIN.ROI_PER_IMG=2",
    "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=3,length=12,width=96,height=96']",
)
FRAMES = ("DATA.TRAIN.SAMPLE_PER_EPOCH=16", "TRAIN.BATCH_SIZE=4", "TRAIN.SCHEDULER.WARMUP_EPOCHS=0")
CLIPS = (
    "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=2,length=24,width=96,height=96']",
    "DATA.TRAIN.SAMPLE_PER_EPOCH=8",
    "TRAIN.BATCH_SIZE=2",
    "SLT.FRAMES=4",
)
THAWING = (
    "TRAIN.PHASES=[{EPOCHS: 1, CONTINUE_SCHEDULE: true, EVAL_MODULES: ['^backbone$'], "
    "PARAM_GROUPS: [{PATTERN: '^backbone', FREEZE: true}, {PATTERN: '.*'}]}, {CONTINUE_SCHEDULE: true}]",
)
"""The backbone learns from the second epoch on."""


@pytest.mark.parametrize(
    ("script", "config", "own"),
    [
        pytest.param("transt", "synthetic_small", (*TRANST, *FRAMES), marks=pytest.mark.repeated),
        ("slt_transt", "slt_synthetic", (*TRANST, *CLIPS)),
        ("trdimp", "synthetic_small", (*TRDIMP, *FRAMES)),
        pytest.param("slt_trdimp", "slt_synthetic", (*TRDIMP, *CLIPS), marks=pytest.mark.repeated),
        pytest.param("siamrpnpp", "synthetic_small", (*SIAMRPN, *FRAMES, *THAWING), marks=pytest.mark.repeated),
        ("siamattn", "synthetic_small", (*SIAMATTN, *FRAMES, *THAWING)),
        ("slt_siamrpnpp", "slt_synthetic", (*SIAMRPN, *CLIPS, "SLT.MICRO_FRAMES=4")),
    ],
)
def test_killed_and_resumed_is_bit_identical(
    tmp_path: Path, benchmark: Path, command: Run, script: str, config: str, own: tuple[str, ...]
) -> None:
    ends = {}
    for name in ("whole", "parts"):
        arguments = [
            "tracking/train.py", "--script", script, "--config", config, "--save_dir", str(tmp_path / name),
            "--data_dir", str(benchmark), "--set", *SMALL, *own,
        ]  # fmt: skip
        folder = tmp_path / name / "checkpoints/train" / script / config
        if name == "parts":
            kill_between_epochs(folder, arguments)
            assert not list(folder.glob("*_ep0002*")), "nothing was left to resume"
        assert ("resumed at epoch" in command(*arguments).stdout) == (name == "parts")
        ends[name] = load_file(next(folder.glob("*_ep0002.safetensors")))
    assert ends["whole"].keys() == ends["parts"].keys()
    assert all(torch.equal(value, ends["parts"][key]) for key, value in ends["whole"].items())
