"""Masked appearance transfer from the first command to a tracker that begins with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.support import Run, kill_between_epochs
from tests.support.commands import REPOSITORY

NAMES = ("--script", "translate_template", "--config", "synthetic_small")
BACKBONE = "EMBED_DIM: 24, DEPTH: 2, NUM_HEADS: 3, STRIDE: 8"
SMALL = (
    f"MODEL.BACKBONE={{TYPE: mae_vit, {BACKBONE}, DECODER_EMBED_DIM: 16, DECODER_DEPTH: 1}}",
    "DATA.TRAIN.SAMPLE_PER_EPOCH=16",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.EPOCH=2",
    "TRAIN.NUM_WORKER=1",
    "TEST.EPOCH=2",
)
PICTURE = REPOSITORY / "docs/tracked.jpg"
FOLDER = Path("checkpoints/train/translate_template/synthetic_small")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, benchmark: Path, command: Run) -> Path:
    """A save folder with a pre-trained network."""
    save = tmp_path_factory.mktemp("save")
    command("tracking/train.py", *NAMES, "--save_dir", save, "--data_dir", benchmark, "--set", *SMALL)
    return save


def test_killed_and_resumed_is_bit_identical(tmp_path: Path, trained: Path, benchmark: Path, command: Run) -> None:
    arguments = [
        "tracking/train.py", *NAMES, "--save_dir", str(tmp_path), "--data_dir", str(benchmark), "--set", *SMALL,
    ]  # fmt: skip
    kill_between_epochs(tmp_path / FOLDER, arguments)
    assert "resumed at epoch" in command(*arguments).stdout
    ends = [load_file(save / FOLDER / "MAT_ep0002.safetensors") for save in (trained, tmp_path)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_pictures_of_every_epoch_are_in_the_log(trained: Path) -> None:
    folder = trained / "logs/translate_template-synthetic_small_pictures"
    assert sorted(p.name for p in folder.iterdir()) == ["epoch_0001.jpg", "epoch_0002.jpg", "index.html"]
    page = (folder / "index.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "template predicted" in page
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(
        str(trained / "tensorboard/train/translate_template/synthetic_small/train"), size_guidance={"images": 0}
    )
    events.Reload()
    assert len(events.Images("pictures/search_predicted")) == 2


def test_a_tracker_begins_with_the_pre_training(trained: Path, tmp_path: Path, benchmark: Path, command: Run) -> None:
    file = trained / FOLDER / "MAT_ep0002.safetensors"
    done = command(
        "tracking/train.py", "--script", "ostrack", "--config", "synthetic_small", "--save_dir", tmp_path,
        "--data_dir", benchmark, "--set", "DATA.TRAIN.SAMPLE_PER_EPOCH=8", "TRAIN.BATCH_SIZE=4", "TRAIN.EPOCH=1",
        "TRAIN.NUM_WORKER=0", f"MODEL.BACKBONE={{TYPE: vit, {BACKBONE}}}", f"MODEL.PRETRAIN_FILE={file}",
    )  # fmt: skip
    assert "starting weights (MODEL.PRETRAIN_FILE)" in done.stdout
    assert (tmp_path / "checkpoints/train/ostrack/synthetic_small/OSTrack_ep0001.safetensors").is_file()


def test_commands_that_track_say_that_there_is_no_tracker(tmp_path: Path, benchmark: Path, command: Run) -> None:
    """Whether its weights are there or not."""
    places = ("--save_dir", tmp_path, "--data_dir", benchmark)
    for words in (
        ("tracking/test.py", *NAMES[1::2], "--dataset", "synthetic", *places),
        ("tracking/profile_model.py", *NAMES, "--device", "cpu"),
        ("tracking/export.py", *NAMES[1::2], "--output", tmp_path / "exported", *places),
        ("tracking/demo.py", PICTURE, "--init", "40,40,20,20", *NAMES),
    ):
        done = command(*words, expect=2)
        said = done.stderr + done.stdout
        assert "translate_template synthetic_small trains a network and has no tracker" in said, words
        assert "Traceback" not in said, words


def test_a_file_of_another_method_is_one_sentence(tmp_path: Path, benchmark: Path, command: Run) -> None:
    torch.save({"net": {"box_head.conv.weight": torch.zeros(3)}}, tmp_path / "tracker.pth")
    done = command(
        "tracking/train.py", *NAMES, "--save_dir", tmp_path, "--data_dir", benchmark, "--set", *SMALL,
        f"MODEL.PRETRAIN_FILE={tmp_path / 'tracker.pth'}", expect=2,
    )  # fmt: skip
    assert "neither MAE's weights nor those of masked appearance transfer" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
