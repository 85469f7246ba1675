"""The published RGB-T and RGB-E commands on synthetic trees, and training on RGB and RGB-T together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.e2e.support import Run

TINY = (
    "MODEL.BACKBONE.EMBED_DIM=32",
    "MODEL.BACKBONE.NUM_HEADS=2",
    "MODEL.BACKBONE.ADAPTER_DIM=4",
    "MODEL.PRETRAIN_FILE=''",
    "MODEL.COPY_STEM=false",
    "TRAIN.EPOCH=1",
    "TEST.EPOCH=1",
)
TRAIN = (
    "DATA.TRAIN.DATASETS_NAME=[LasHeR_train,'SYNTHETIC:length=24,sequences=2,width=160,height=120']",
    "DATA.TRAIN.DATASETS_RATIO=[1,1]",
    "DATA.TRAIN.SAMPLE_PER_EPOCH=8",
    "DATA.MULTI_MODAL_VISION=true",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.NUM_WORKER=0",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, command: Run) -> Path:
    root = tmp_path_factory.mktemp("rgbx")
    for layout, folder, split, frames in (
        ("lasher", "lasher/trainingset", "train", 24),
        ("lasher", "lasher/testingset", "test", 6),
        ("visevent", "visevent/test", "test", 6),
    ):
        command(
            "tracking/make_synthetic_data.py", "--layout", layout, "--output", root / folder, "--split", split,
            "--sequences", 2, "--frames", frames, "--width", 160, "--height", 120, "--workers", 1,
        )  # fmt: skip
    return root


def test_train_on_a_mixture_then_track_with_the_published_commands(data: Path, tmp_path: Path, command: Run) -> None:
    places = ("--data_dir", data, "--save_dir", tmp_path)
    command(
        "tracking/train.py", "--script", "sdstrack", "--config", "synthetic_demo", "--mode", "single", *places,
        "--set", *TINY, *TRAIN,
    )  # fmt: skip
    rgbt = ("RGBT_workspace/test_rgbt_mgpus.py", "--dataset_name", "LasHeR", "--threads", 1)
    rgbe = ("RGBE_workspace/test_rgbe_mgpus.py", "--mode", "sequential")
    common = ("--yaml_name", "synthetic_demo", "--output", tmp_path / "results", *places, "--set", *TINY)
    for script, *more in (rgbt, rgbe):
        printed = command(script, "--script_name", "sdstrack", *more, *common).stdout
        assert "these are 2 sequences" in printed
    found = {p.parent.parent.name: np.loadtxt(p, delimiter=d) for d, p in _results(tmp_path / "results")}
    assert {name: rows.shape for name, rows in found.items()} == {"LasHeR": (6, 4), "VisEvent": (6, 4)}
    assert (tmp_path / "results/VisEvent/synthetic_demo/fps_rgbe.txt").is_file()


def _results(folder: Path) -> list[tuple[str | None, Path]]:
    """(delimiter, file) of the first sequence of both."""
    files = []
    for dataset, delimiter in (("LasHeR", None), ("VisEvent", ",")):
        names = [p.name for p in (folder / dataset / "synthetic_demo/float").iterdir()]
        files.append((delimiter, folder / dataset / "synthetic_demo" / min(names)))
    return files
