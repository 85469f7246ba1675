"""Which device and number format a run uses, and why: every command states it in its first lines."""

from __future__ import annotations

import torch

PROTOCOLS = ("official", "fast")


class DeviceError(ValueError):
    """A device that was asked for and is not there."""


def choose_device(name: str = "auto") -> tuple[torch.device, str]:
    """The device for "auto", "cpu", "cuda", "cuda:1" or "mps", and a sentence that gives the reason.

    "auto" takes the first CUDA device, else Apple's, else the CPU. Raises DeviceError when a named one is not there.
    """
    name = name.strip().lower()
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0"), f"cuda:0 ({torch.cuda.get_device_name(0)}), the first CUDA device"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "mps, no CUDA device is there"
        return torch.device("cpu"), f"cpu ({torch.get_num_threads()} threads), {_why_no_gpu()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is unknown; expected auto, cpu, cuda, cuda:<number> or mps")
    if device.type == "cuda":
        return _cuda(name, device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' was asked for, but PyTorch finds no Apple GPU here; use --device auto or cpu")
    return device, f"{name}, as asked for"


def _cuda(name: str, device: torch.device) -> tuple[torch.device, str]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        there = f"there are {count} CUDA devices" if count else _why_no_gpu()
        raise DeviceError(f"device {name!r} was asked for, but {there}; use --device auto or cpu")
    return torch.device("cuda", index), f"cuda:{index} ({torch.cuda.get_device_name(index)}), as asked for"


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA and no Apple GPU is there"
    return "PyTorch finds no GPU on this machine"


def choose_dtype(device: torch.device, protocol: str = "official") -> tuple[torch.dtype, str]:
    """The number format of the network for a protocol of inference, and the reason.

    "official": float32 without TF32, the numbers that papers quote. "fast": half precision where the device computes
    in it. Raises ValueError for another protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    if protocol == "official":
        return torch.float32, "float32, TF32 off: the official protocol"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16: the fast protocol, and this GPU computes in it"
        return torch.float16, "float16: the fast protocol, and this GPU has no bfloat16"
    if device.type == "mps":
        return torch.float16, "float16: the fast protocol"
    return torch.float32, "float32: the fast protocol gains nothing from half precision on a CPU"


def use_exact_float32() -> None:
    """Switch TF32 off in this process, as the official protocol wants it."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock reads true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
