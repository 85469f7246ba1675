"""OSTrack from the first command to the last, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.support import Run

SMALL = (
    "DATA.TRAIN.SAMPLE_PER_EPOCH=24",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.EPOCH=2",
    "TRAIN.NUM_WORKER=1",
    "TRAIN.SCHEDULER.WARMUP_EPOCHS=0",
    "TEST.EPOCH=2",
    "MODEL.BACKBONE.EMBED_DIM=32",
    "MODEL.BACKBONE.NUM_HEADS=2",
    "MODEL.BACKBONE.CE_LOC=[1]",
    "MODEL.BACKBONE.CE_KEEP_RATIO=[0.7]",
    "MODEL.BACKBONE.CE_TEMPLATE_RANGE=GT_BOX",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, benchmark: Path, command: Run) -> Path:
    """A save folder with a trained network: small, with elimination by the target's box."""
    save = tmp_path_factory.mktemp("save")
    settings = [text for value in SMALL for text in ("--set", value)]
    command(
        "tracking/train.py", "--script", "ostrack", "--config", "synthetic_demo", "--mode", "single",
        "--save_dir", save, "--data_dir", benchmark, *settings,
    )  # fmt: skip
    return save


def run_test(save: Path, benchmark: Path, command: Run, *more: object) -> Path:
    command(
        "tracking/test.py", "ostrack", "synthetic_demo", "--dataset", "synthetic", "--set", *SMALL,
        "--save_dir", save, "--data_dir", benchmark, *more,
    )  # fmt: skip
    return save / "test/tracking_results/ostrack"


def boxes(folder: Path) -> dict[str, np.ndarray]:
    files = [p for p in sorted(folder.glob("*-*.txt")) if not p.stem.endswith(("_time", "_score"))]
    return {p.stem: np.loadtxt(p, delimiter=",") for p in files}


def test_batches_and_workers_give_the_boxes_of_one_at_a_time(trained: Path, benchmark: Path, command: Run) -> None:
    root = run_test(trained, benchmark, command)
    alone = boxes(root / "synthetic_demo/synthetic")
    assert len(alone) == 3
    for run, more in (("1", ("--batch", 3)), ("2", ("--batch", 2, "--threads", 2))):
        run_test(trained, benchmark, command, "--runid", run, *more)
        other = boxes(root / f"synthetic_demo_00{run}/synthetic")
        assert alone.keys() == other.keys()
        for name, track in alone.items():
            np.testing.assert_allclose(other[name], track, atol=2e-3, err_msg=f"{name}, {more}")
    folders = [root / f"synthetic_demo{suffix}/synthetic" for suffix in ("", "_001")]
    command("tracking/compare_runs.py", *folders, "--tolerance", 0.01)


def test_finished_results_are_kept_until_the_weights_change(trained: Path, benchmark: Path, command: Run) -> None:
    folder = run_test(trained, benchmark, command) / "synthetic_demo/synthetic"
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*-*.txt")}
    run_test(trained, benchmark, command)
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*-*.txt")} == before
    run_test(trained, benchmark, command, "--checkpoint", next(trained.rglob("OSTrack_ep0001.safetensors"), None))
    assert list(folder.parent.rglob("stale-*")), "results of the other weights were not set aside"


def test_an_epoch_that_is_not_there_is_reported(trained: Path, benchmark: Path, command: Run) -> None:
    done = command(
        "tracking/test.py", "ostrack", "synthetic_demo", "--dataset", "synthetic", "--set", *SMALL, "TEST.EPOCH=7",
        "--save_dir", trained, "--data_dir", benchmark, expect=2,
    )  # fmt: skip
    assert "looked for epoch 7 (TEST.EPOCH)" in done.stderr
    assert "OSTrack_ep0002" in done.stderr


@pytest.mark.slow
def test_a_search_of_settings_by_two_processes_is_that_of_one(
    trained: Path, benchmark: Path, command: Run, tmp_path: Path
) -> None:
    (weights,) = trained.rglob("OSTrack_ep0002.safetensors")
    tables = []
    for threads in (0, 2):
        command(
            "tracking/tune.py", "ostrack", "synthetic_demo", "--dataset", "synthetic", "--keys",
            "SEARCH_FACTOR=3.5,4.5", "--batch", 2, "--threads", threads, "--checkpoint", weights, "--set", *SMALL,
            "--save_dir", tmp_path / str(threads), "--data_dir", benchmark,
        )  # fmt: skip
        (file,) = tmp_path.glob(f"{threads}/tune/**/settings.json")
        tables.append({row["folder"]: row["scores"] for row in json.loads(file.read_text())})
    alone, shared = tables
    assert len(alone) == 3
    assert shared == {folder: pytest.approx(scores, abs=0.05) for folder, scores in alone.items()}
