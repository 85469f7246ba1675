"""docs/pseudo_labels.md in miniature: videos without boxes are labelled, and a method trains on the labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.e2e.support import command

SMALL = [
    "DATA.TRAIN.DATASETS_RATIO=[1]", "DATA.TRAIN.SAMPLE_PER_EPOCH=4", "TRAIN.BATCH_SIZE=2", "TRAIN.EPOCH=1",
    "TRAIN.NUM_WORKER=0", "DATA.SEARCH.SIZE=64", "DATA.TEMPLATE.SIZE=32", "MODEL.BACKBONE.DEPTH=1",
]  # fmt: skip


def write_videos(root: Path, count: int = 2, frames: int = 24) -> None:
    """Folders of pictures, in which a textured square moves over a textured ground; no boxes."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 120, (20, 27, 3)).astype(np.uint8), (213, 160), interpolation=cv2.INTER_CUBIC)
    square = cv2.resize(rng.integers(100, 256, (8, 8, 3)).astype(np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
    for n in range(count):
        folder = root / f"video{n}"
        folder.mkdir(parents=True)
        for i in range(frames):
            picture = ground.copy()
            picture[60 + 10 * n : 92 + 10 * n, 40 + 3 * i : 72 + 3 * i] = square
            cv2.imwrite(str(folder / f"{i + 1:04d}.png"), picture)


@pytest.mark.slow
def test_a_method_trains_on_videos_that_nobody_annotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKING_PSEUDO_LABELS_DIR", str(tmp_path / "labels"))
    write_videos(tmp_path / "videos")
    name = f"FOLDER_pseudo:{tmp_path / 'videos'}"
    said = command("make_pseudo_labels", "--dataset", f"FOLDER:{tmp_path / 'videos'}", "--workers", 1)
    assert "2 videos, 2 labelled now, 0 were there; 2 kept" in said
    assert f"DATASETS_NAME: ['{name}']" in said
    assert name in command("check_data", name, "--full")
    more = [*SMALL, f"DATA.TRAIN.DATASETS_NAME=['{name}']", "DATA.SAMPLER_MODE=quality"]
    command(
        "train", "--script", "ostrack", "--config", "synthetic_small", "--save_dir", tmp_path / "out", "--set", *more
    )
    assert list((tmp_path / "out/checkpoints/train/ostrack/synthetic_small").glob("*ep0001.safetensors"))
