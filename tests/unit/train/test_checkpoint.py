"""Checkpoint files: atomic, safe to open, kept as published."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.config import Train
from lib.files import atomic_write
from lib.models import read_checkpoint
from lib.train import (
    CheckpointError,
    CheckpointFolder,
    ResumeError,
    check_state,
    config_changes,
    find_state,
    is_kept,
    read_state,
)
from tests.unit.train.test_loop import in_child
from tests.unit.train.toy import TRAIN, toy_trainer


def test_kill_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "Toy_latest_state.pt"
    path.write_bytes(b"old")

    def die_writing() -> None:
        with atomic_write(path) as file:
            file.write(b"n" * 100_000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die_writing) == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    CheckpointFolder(tmp_path, "Toy").claim()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Toy_latest_state.pt", "training.lock"]


def test_state_opens_without_pickled_classes_and_says_everything(tmp_path: Path) -> None:
    toy_trainer(tmp_path, replace(TRAIN, epoch=1)).run()
    state = torch.load(tmp_path / "Toy_ep0001_state.pt", weights_only=True)
    assert {"position", "samples_in_epoch", "world_size", "optimizer", "precision", "processes"} <= state.keys()
    assert state["processes"][0]["rng"].keys() >= {"python", "numpy", "torch"}
    assert state["position"] == [2, 0]
    assert "network" not in state
    weights = read_checkpoint(tmp_path / "Toy_ep0001.safetensors")
    assert weights.metadata["method"] == "toy"
    assert weights.metadata["epoch"] == 1


def test_published_retention() -> None:
    kept = [e for e in range(1, 301) if is_kept(Train(epoch=300), e)]
    assert kept == [40, 79, 80, 120, 159, 160, 200, 239, 240, 280, 296, 297, 298, 299, 300]


def test_the_last_epoch_is_kept_whatever_is_asked() -> None:
    train = Train(epoch=7, save_epoch_interval=0, save_epochs=(), save_last_n_epoch=0)
    assert [e for e in range(1, 8) if is_kept(train, e)] == [7]


def test_states_of_the_newest_two_and_no_latest_remain(tmp_path: Path) -> None:
    toy_trainer(tmp_path, replace(TRAIN, epoch=5, save_last_n_epoch=3)).run()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "Toy_ep0002.json",
        "Toy_ep0002.safetensors",
        "Toy_ep0003.json",
        "Toy_ep0003.safetensors",
        "Toy_ep0004.json",
        "Toy_ep0004.safetensors",
        "Toy_ep0004_state.pt",
        "Toy_ep0005.json",
        "Toy_ep0005.safetensors",
        "Toy_ep0005_state.pt",
    ]


def test_state_without_its_weights_is_passed_over(tmp_path: Path) -> None:
    toy_trainer(tmp_path, replace(TRAIN, epoch=4, save_epoch_interval=1)).run()
    (tmp_path / "Toy_ep0004.safetensors").unlink()
    newest = CheckpointFolder(tmp_path, "Toy").newest_state()
    assert newest is not None
    assert newest.name == "Toy_ep0003_state.pt"


def test_broken_state_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "Toy_latest_state.pt"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(CheckpointError, match=r"Toy_latest_state\.pt: not a readable training state"):
        read_state(path)


def test_a_state_with_one_flipped_byte_is_not_resumed_from(tmp_path: Path) -> None:
    toy_trainer(tmp_path, replace(TRAIN, epoch=1)).run()
    path = tmp_path / "Toy_ep0001_state.pt"
    data = bytearray(path.read_bytes())
    moment = next(iter(read_state(path)["optimizer"]["moments"].values()))["exp_avg"]
    data[data.index(moment.numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"Toy_ep0001_state\.pt: not a readable .*does not have the checksum"):
        find_state(CheckpointFolder(tmp_path, "Toy"), "auto")


def test_fresh_training_moves_earlier_files_aside(tmp_path: Path) -> None:
    toy_trainer(tmp_path, replace(TRAIN, epoch=1)).run()
    folder = CheckpointFolder(tmp_path, "Toy")
    aside = folder.set_aside()
    assert folder.newest_state() is None
    assert aside is not None
    assert (aside / "Toy_ep0001_state.pt").is_file()


def test_published_checkpoint_is_no_training_state(tmp_path: Path) -> None:
    (tmp_path / "Toy_ep0300.pth.tar").write_bytes(b"")
    folder = CheckpointFolder(tmp_path, "Toy")
    assert find_state(folder, "auto") is None
    with pytest.raises(ResumeError, match=r"no usable training state. --load .*Toy_ep0300.pth.tar"):
        find_state(folder, "must")


def test_more_epochs_simply_go_on_and_other_changes_name_both_ways() -> None:
    state = {"config": {"TRAIN": {"EPOCH": 3, "LR": 0.1}}, "world_size": 1, "position": [4, 0]}

    def check(**train: object) -> list[str]:
        return check_state(state, {"config": {"TRAIN": {"EPOCH": 3, "LR": 0.1, **train}}}, 1, False)

    assert check(EPOCH=5)[0] == "5 epochs in place of 3: from here on the learning rate is that of a training of 5"
    with pytest.raises(
        ResumeError, match=r"TRAIN\.LR: 0\.1 -> 0\.2\); .*--allow_config_change.*--resume never"
    ) as caught:
        check(EPOCH=5, LR=0.2)
    assert "EPOCH" not in str(caught.value)
    with pytest.raises(ResumeError, match=r"TRAIN\.PHASES: absent -> \[\{\"EPOCHS\": 2\}\]"):
        check(PHASES=[{"EPOCHS": 2}])


def test_another_number_of_processes_names_both_sizes_of_a_batch() -> None:
    state = {"config": {"TRAIN": {"BATCH_SIZE": 4}}, "world_size": 2, "position": [1, 5]}
    assert "4 now, 8 before (TRAIN.LR" in check_state(state, {"config": state["config"]}, 1, False)[0]


def test_changes_of_a_configuration_are_named() -> None:
    before = {"TRAIN": {"LR": 1e-4, "EPOCH": 3}, "DATA": {"MEAN": [0.5]}}
    now = {"TRAIN": {"LR": 2e-4, "EPOCH": 3}, "DATA": {"MEAN": [0.5], "STD": [1.0]}}
    assert config_changes(before, now) == ["DATA.STD: absent -> [1.0]", "TRAIN.LR: 0.0001 -> 0.0002"]
    # A key that is newer than the state counts by its default.
    assert config_changes(before, now, {"DATA": {"STD": [1.0]}}) == ["TRAIN.LR: 0.0001 -> 0.0002"]
    assert config_changes(before, now, {"DATA": {"STD": [2.0]}})[0] == "DATA.STD: [2.0] -> [1.0]"
