"""tracking/convert_checkpoint.py as a user calls it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

from lib.models import read_checkpoint, save_release
from tests.support.commands import run_python


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_python(["tracking/convert_checkpoint.py", *arguments])


def test_a_published_file_becomes_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "OSTrack_ep0300.pth.tar"
    content = {"epoch": 300, "net": {"module.w": torch.arange(3.0)}, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(content, file)
    done = convert(file)
    assert done.returncode == 0, done.stderr
    assert "epoch 300" in done.stdout
    assert "with optimizer state" in done.stdout
    found = read_checkpoint(tmp_path / "OSTrack_ep0300.safetensors")
    assert found.state_dict["w"].tolist() == [0, 1, 2]
    assert (found.metadata["epoch"], found.metadata["converted_from"]) == (300, file.name)
    assert convert(file, "--output", tmp_path / "named.safetensors").returncode == 0
    assert {p.name for p in tmp_path.glob("named*")} == {"named.safetensors", "named.json"}


def test_weights_go_back_under_published_names(tmp_path: Path) -> None:
    names = [f"classifier.transformer.{part}.layers.0.self_attn.head.0.WK.bias" for part in ("encoder", "decoder")]
    like, ours = tmp_path / "trdimp.pth", tmp_path / "mine.pth.tar"
    rest = {"feature_extractor.fc.bias": torch.ones(2)}
    torch.save({"net": {**{n: torch.zeros(3) for n in names}, **rest}, "constructor": None}, like)
    torch.save({"net": {names[1]: torch.arange(3.0)}, "epoch": 7}, ours)
    done = convert(ours, "--published", "trdimp", "trdimp", "--like", like, "--output", tmp_path / "written")
    assert done.returncode == 0, done.stderr
    found = read_checkpoint(tmp_path / "written.pth")
    assert found.metadata["epoch"] == 7
    assert {n: v.tolist() for n, v in found.state_dict.items()} == {
        **{key: [0, 1, 2] for key in names},
        "feature_extractor.fc.bias": [1, 1],
    }
    done = convert(ours, "--published", "trdimp", "trdimp", "--output", tmp_path / "TrDiMP_ep0007.pth.tar")
    assert done.stdout.strip().endswith(f"written: {tmp_path / 'TrDiMP_ep0007.pth.tar'} (2 tensors)")
    torch.save({"net": {"backbone.w": torch.zeros(1)}}, ours)
    done = convert(ours, "--published", "trdimp", "trdimp", "--like", like, "--output", tmp_path / "written")
    assert done.returncode == 2
    assert "backbone.w is no name of" in done.stderr


def test_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    torch.save({"net": {"w": torch.zeros(1)}}, file)
    assert convert(file).returncode == 0
    for path, message in ((tmp_path / "none.pth", "no such file"), (tmp_path / "a.safetensors", "already")):
        done = convert(path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert message in done.stderr


def test_a_small_release_lies_next_to_its_base(tmp_path: Path) -> None:
    base, whole = (save_release(tmp_path / name, {"w": torch.zeros(3)}, {}) for name in ("base", "whole"))
    data = base.read_bytes()
    for output in (tmp_path / "base", tmp_path / "elsewhere" / "small"):
        done = convert(whole, "--base", base, "--output", output)
        assert done.returncode == 2
        assert "a small release has to lie next to" in done.stderr
        assert base.read_bytes() == data
