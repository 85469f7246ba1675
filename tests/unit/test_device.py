"""The device: chosen with a reason, refused in a sentence."""

from __future__ import annotations

import pytest
import torch

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
