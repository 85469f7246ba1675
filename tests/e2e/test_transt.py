"""TransT from the first command to the last, in miniature; and published weights, which pickle foreign classes."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.methods import load_experiment
from tests.e2e.support import Run

SMALL = (
    "DATA.TRAIN.SAMPLE_PER_EPOCH=24",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.EPOCH=2",
    "TRAIN.NUM_WORKER=1",
    "TRAIN.SCHEDULER.WARMUP_EPOCHS=0",
    "TEST.EPOCH=2",
    "MODEL.BACKBONE.WIDTH=8",
    "MODEL.HIDDEN_DIM=32",
    "MODEL.DIM_FEEDFORWARD=64",
)


def boxes(folder: Path) -> dict[str, np.ndarray]:
    files = [p for p in sorted(folder.glob("*-*.txt")) if not p.stem.endswith(("_time", "_score"))]
    return {p.stem: np.loadtxt(p, delimiter=",") for p in files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, benchmark: Path, command: Run) -> Path:
    """A save folder with a trained network."""
    save = tmp_path_factory.mktemp("save")
    command(
        "tracking/train.py", "--script", "transt", "--config", "synthetic_small", "--save_dir", save,
        "--data_dir", benchmark, "--set", *SMALL,
    )  # fmt: skip
    return save


def test_batches_give_the_boxes_of_one_at_a_time(trained: Path, benchmark: Path, command: Run) -> None:
    found = []
    for more in ((), ("--batch", 3, "--rerun")):
        command(
            "tracking/test.py", "transt", "synthetic_small", "--dataset", "synthetic", "--set", *SMALL,
            "--save_dir", trained, "--data_dir", benchmark, *more,
        )  # fmt: skip
        found.append(boxes(trained / "test/tracking_results/transt/synthetic_small/synthetic"))
    assert len(found[0]) == 3
    for name, rows in found[0].items():
        np.testing.assert_allclose(found[1][name], rows, atol=0.05)


def test_published_weights_with_pickled_foreign_classes_track(
    tmp_path: Path, benchmark: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold the network's constructor and the settings as objects of another package."""
    experiment = load_experiment("transt", "synthetic_small", SMALL)
    network = experiment.method.build_network(experiment.config, False)
    foreign = types.ModuleType("ltr_elsewhere")
    foreign.Settings = type("Settings", (), {"__module__": "ltr_elsewhere"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ltr_elsewhere", foreign)
    file = tmp_path / "transt.pth"
    constructor = foreign.Settings()
    torch.save({"net": network.state_dict(), "net_type": "TransT", "epoch": 1, "constructor": constructor}, file)
    command(
        "tracking/test.py", "transt", "synthetic_small", "--dataset", "synthetic", "--set", *SMALL,
        "--save_dir", tmp_path, "--data_dir", benchmark, "--checkpoint", file, "--batch", 3,
    )  # fmt: skip
    assert len(boxes(tmp_path / "test/tracking_results/transt/synthetic_small/synthetic")) == 3
