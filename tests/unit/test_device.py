"""The device: chosen with a reason, refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib import device as module
from lib.device import DeviceError, choose_device, has_tf32
from lib.distributed import pick_device


def test_named_devices() -> None:
    assert choose_device("cpu") == (torch.device("cpu"), "as asked for")
    with pytest.raises(DeviceError, match="expected auto, cpu"):
        choose_device("gpu")
    with pytest.raises(DeviceError, match="cuda:99"):
        choose_device("cuda:99")


def test_auto_prefers_cuda_and_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 6))
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


def test_a_gpu_that_pytorch_has_no_code_for_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"is_available": True, "device_count": 1, "get_arch_list": ["sm_75", "sm_120a"]}
    for name, value in values.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 0))
    assert choose_device("auto")[0].type == "cpu"
    for count in (1, 2):
        assert pick_device("auto", 0, count)[0].type == "cpu"
    reason = r"Tesla V100 has compute capability 7\.0, .*only 7\.5, 12\.0"
    with pytest.raises(DeviceError, match=reason):
        choose_device("cuda")
    with pytest.raises(DeviceError, match=reason):
        pick_device("cuda:0", 0, 1, share_gpus=0)


def test_ampere_and_newer_have_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for capability in ((7, 5), (8, 0), (12, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, value=capability: value)
        found.append(has_tf32(torch.device("cuda:1")))
    assert found == [False, True, True]
    assert not has_tf32(torch.device("cpu"))
