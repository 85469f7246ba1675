"""Device of a run and the reason for it, which every command states in its first lines."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

DRIVER = Path("/proc/driver/nvidia/version")
"""Written by NVIDIA's kernel module on Linux."""


class DeviceError(ValueError):
    """A device that was requested and is not there."""


def choose_device(name: str = "auto") -> tuple[torch.device, str]:
    """Choose the device of a run.

    Args:
        name: "auto" (the first CUDA device, else Apple's, else the CPU), "cpu", "cuda", "cuda:1" or "mps".

    Returns:
        The device, and the reason in a few words.

    Raises:
        DeviceError: The name is unknown, or the device is not there.
    """
    name = name.strip().lower()
    if name == "auto":
        if count_gpus():
            return torch.device("cuda:0"), f"{torch.cuda.get_device_name(0)}, the first CUDA device"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "no CUDA device is there"
        return torch.device("cpu"), _no_gpu_reason()
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise DeviceError(f"device {name!r} is unknown; expected auto, cpu, cuda, cuda:<number> or mps")
    device = torch.device(name)
    if device.type == "cuda":
        count, index = count_gpus(), device.index or 0
        if index >= count:
            there = f"there are {count} CUDA devices" if count else _no_gpu_reason()
            raise DeviceError(f"device {name!r} was asked for, but {there}; use --device auto or cpu")
        return torch.device("cuda", index), f"{torch.cuda.get_device_name(index)}, as asked for"
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' was asked for, but PyTorch finds no Apple GPU here; use --device auto or cpu")
    return device, "as asked for"


def count_gpus() -> int:
    """Number of CUDA devices; 0 if PyTorch has no code for the first one."""
    return torch.cuda.device_count() if torch.cuda.is_available() and not _unsupported() else 0


def _unsupported() -> str:
    """Reason that PyTorch cannot compute on the first CUDA device; empty if it can. Code of 8.0 runs on 8.6, too."""
    built = [int(found[1]) for name in torch.cuda.get_arch_list() if (found := re.match(r"sm_(\d+)", name))]
    major, minor = torch.cuda.get_device_capability(0) if built else (0, 0)
    if not built or any(code // 10 == major and code % 10 <= minor for code in built):
        return ""
    codes = ", ".join(f"{c // 10}.{c % 10}" for c in built)
    lacking = f"PyTorch for CUDA {torch.version.cuda} none of its code (only {codes}): README, another CUDA"
    return f"{torch.cuda.get_device_name(0)} has compute capability {major}.{minor}, and {lacking}"


def _no_gpu_reason() -> str:
    if torch.cuda.is_available():
        return _unsupported()
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA and no Apple GPU is there"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    if DRIVER.is_file():
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", DRIVER.read_text())
        driver = f"NVIDIA's driver {found[0]}" if found else "an NVIDIA driver"
        cause = "the driver is too old for it (README, another CUDA), or the container was started without GPUs"
        return f"{driver} is there, but PyTorch for CUDA {torch.version.cuda} finds no GPU: {cause}"
    return "PyTorch finds no GPU on this machine"


def has_tf32(device: torch.device) -> bool:
    """True for an NVIDIA GPU from Ampere on, whose products in TF32 are several times as fast as in float32."""
    on_nvidia = device.type == "cuda" and torch.version.hip is None
    return on_nvidia and torch.cuda.get_device_capability(device) >= (8, 0)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; the host does not wait for what a GPU has still to do, as it does for ordinary memory.

    Args:
        x: On the CPU, or there already.
        device: Any device; one without float64 gets float32.
    """
    if device.type == "mps" and x.dtype == torch.float64:
        x = x.float()
    is_copied = device.type == "cuda" and x.device.type == "cpu"
    return x.pin_memory().to(device, non_blocking=True) if is_copied else x.to(device)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work, so that time is measured right.

    Args:
        device: Any device; nothing happens on the CPU.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
