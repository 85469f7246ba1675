"""A method from outside the tree: trained, tested, profiled by the commands that the built-in methods use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.support import Run
from tests.support.commands import REPOSITORY

PLUGIN = REPOSITORY / "tests/e2e/plugins/toy"


def test_a_method_outside_the_tree_trains_tracks_and_is_profiled(tmp_path: Path, benchmark: Path, command: Run) -> None:
    places = ("--save_dir", tmp_path, "--data_dir", benchmark)
    plugin = ("--plugin", PLUGIN)
    names = ("--script", "toy", "--config", "toy")

    command("tracking/train.py", *names, "--mode", "single", *plugin, *places)
    assert (tmp_path / "checkpoints/train/toy/toy/Toy_ep0001.safetensors").is_file()
    records = [json.loads(line) for line in (tmp_path / "logs/toy-toy.jsonl").read_text().splitlines()]
    assert any("Loss/total" in str(record) for record in records)

    done = command("tracking/test.py", "toy", "toy", "--dataset", "synthetic", *plugin, *places)
    folder = tmp_path / "test/tracking_results/toy/toy/synthetic"
    scores = json.loads((folder / "scores.json").read_text())
    assert len(scores["sequences"]) == 3
    assert "AUC" in done.stdout

    done = command("tracking/profile_model.py", *names, *plugin, "--device", "cpu", "--batch", 1)
    assert "params" in done.stdout.lower()


def test_a_pre_training_without_a_tracker_trains_and_the_other_commands_say_that_it_has_none(
    tmp_path: Path, benchmark: Path, command: Run
) -> None:
    plugin = ("--plugin", PLUGIN.parent / "pretraining")
    names = ("--script", "pretraining", "--config", "pretraining", *plugin)
    places = ("--save_dir", tmp_path, "--data_dir", benchmark)
    command("tracking/train.py", *names, "--mode", "single", *places)
    assert (tmp_path / "checkpoints/train/pretraining/pretraining/Autoencoder_ep0001.safetensors").is_file()
    for words in (
        ("tracking/test.py", "pretraining", "pretraining", *plugin, "--dataset", "synthetic", *places),
        ("tracking/profile_model.py", *names, "--device", "cpu"),
        ("tracking/train.py", *names, "--mode", "single", *places, "--set", "SLT={FRAMES: 4}", "--resume", "never"),
    ):
        done = command(*words, expect=2)
        assert "pretraining pretraining trains a network and has no tracker" in done.stderr + done.stdout, words
        assert "Traceback" not in done.stderr + done.stdout, words


def test_the_same_plugin_is_found_by_its_environment_variable(tmp_path: Path, benchmark: Path, command: Run) -> None:
    done = command(
        "tracking/test.py", "toy", "toy", "--dataset", "synthetic", "--untrained",
        "--save_dir", tmp_path, "--data_dir", benchmark, TRACKING_PLUGINS=str(PLUGIN),
    )  # fmt: skip
    assert "AUC" in done.stdout


def test_a_benchmark_and_a_metric_of_a_plugin(tmp_path: Path, command: Run) -> None:
    """The code of two pages, put into one plugin."""
    pages = [(REPOSITORY / "docs" / page).read_text() for page in ("adding_a_dataset.md", "results_and_reports.md")]
    plugin, folder = tmp_path / "mine", tmp_path / "toyset/test/x"
    (folder / "frames").mkdir(parents=True)
    plugin.mkdir()
    (plugin / "__init__.py").write_text(
        "\n".join(code for page in pages for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    )
    (folder / "boxes.txt").write_text("1,2,10,8\n" * 3)
    (folder / "hidden.txt").write_text("0\n" * 3)
    for number in (1, 2, 3):
        Image.new("RGB", (32, 24)).save(folder / f"frames/{number:04d}.png")
    places = ("--data_dir", tmp_path, "--save_dir", tmp_path, "--plugin", plugin)
    asked = ("--tracker", "static", "--dataset", "toyset", "--metric", "close_corners")
    assert "100.0" in command("tracking/test.py", *asked, *places).stdout


@pytest.mark.parametrize("file", ["tracking/test.py", "tracking/train.py"])
def test_a_fault_in_a_plugin_is_reported_with_its_line(tmp_path: Path, command: Run, file: str) -> None:
    (tmp_path / "__init__.py").write_text("\nfrom lib.data import Nothing\n")
    options = ("--script", "toy", "--config", "toy") if "train" in file else ("toy", "toy", "--dataset", "synthetic")
    done = command(file, *options, "--save_dir", tmp_path, "--plugin", tmp_path, expect=2)
    assert f"{tmp_path / '__init__.py'}, line 2: ImportError: cannot import name 'Nothing'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_plugin_is_reported(tmp_path: Path, command: Run) -> None:
    done = command("tracking/test.py", "toy", "toy", "--dataset", "synthetic", "--plugin", tmp_path, expect=2)
    assert "expected a folder with an __init__.py" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
