"""The device: chosen with a reason, refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib import device as module
from lib.device import DeviceError, choose_device


def test_named_devices() -> None:
    assert choose_device("cpu") == (torch.device("cpu"), "as asked for")
    with pytest.raises(DeviceError, match="expected auto, cpu"):
        choose_device("gpu")
    with pytest.raises(DeviceError, match="cuda:99"):
        choose_device("cuda:99")


def test_auto_prefers_cuda_and_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    assert choose_device("auto") == (torch.device("cuda:0"), "Some GPU, the first CUDA device")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    device, reason = choose_device("auto")
    assert device.type == "cpu"
    assert "GPU" in reason


@pytest.mark.parametrize(
    ("text", "visible", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun",
            "0",
            "driver 535.183.01 is there, but",
        ),
        ("unknown", None, "an NVIDIA driver is there, but PyTorch for CUDA 13.0 finds no GPU"),
        ("NVRM version: 580.65.06", "", "CUDA_VISIBLE_DEVICES hides all GPUs"),
    ],
)
def test_a_gpu_that_pytorch_does_not_see_has_a_reason(
    text: str, visible: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(module, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert expected in choose_device("auto")[1]
    with pytest.raises(DeviceError, match="'cuda' was asked for, but"):
        choose_device("cuda")
