"""Which device and precision a tracker runs on, and why: the line every command prints at its start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.data.types import Frame
from lib.track.protocol import Policy, Prediction, State, Tracker, greedy

PROTOCOLS = ("official", "fast")


@dataclass(frozen=True)
class Execution:
    """Where and how precisely. device, dtype: as torch writes them ("cuda:0", "float32"). why: for the reader."""

    device: str
    dtype: str
    why: str

    def __str__(self) -> str:
        return f"device {self.device}, {self.dtype} ({self.why})"


def choose_execution(device: str = "auto", protocol: str = "official", slot: int = 0, num_gpus: int = 0) -> Execution:
    """The device for worker `slot`, and the precision of the protocol on it.

    device: auto | cpu | mps | cuda | cuda:N. protocol: official (float32, TF32 off) | fast (bfloat16 where it pays).
    num_gpus: GPUs to share among workers, 0 = all there are. Raises ValueError for a device that is not there.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r} (known: {', '.join(PROTOCOLS)})")
    where, reason = _device(device, slot, num_gpus)
    if protocol == "official":
        return Execution(where, "float32", f"{reason}; protocol official: float32, TF32 off")
    if _bfloat16_pays(where):
        return Execution(where, "bfloat16", f"{reason}; protocol fast: bfloat16 autocast")
    return Execution(where, "float32", f"{reason}; protocol fast, but bfloat16 has no fast units here")


def _device(wish: str, slot: int, num_gpus: int) -> tuple[str, str]:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wish = wish.lower()
    kind, _, number = wish.partition(":")
    if wish in ("auto", "cuda") and there:
        share = min(num_gpus, there) if num_gpus > 0 else there
        index = slot % share
        return f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {share} of {there} GPUs in use"
    if kind == "cuda":
        if number.isdigit() and int(number) < there:
            return wish, f"asked for: {torch.cuda.get_device_name(int(number))}"
        raise ValueError(f"device {wish!r} is not there: {there} CUDA devices found")
    if wish == "cpu":
        return "cpu", f"asked for: {os.cpu_count()} cores"
    mps = torch.backends.mps.is_available()
    if wish == "mps" or (wish == "auto" and mps):
        if not mps:
            raise ValueError("device 'mps' is not there: this torch has no Metal support here")
        return "mps", "Apple GPU"
    if wish == "auto":
        return "cpu", f"no CUDA and no Apple GPU found: {os.cpu_count()} cores"
    raise ValueError(f"unknown device {wish!r} (expected auto, cpu, mps, cuda or cuda:N)")


def _bfloat16_pays(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    if device != "cpu":
        return False
    flags = torch.backends.cpu.get_cpu_capability()
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(flags != "DEFAULT" and (amx() or bf16()))


def apply_precision(protocol: str) -> None:
    """Set the process-wide switches: full float32 products for `official`, TF32 allowed for what `fast` leaves in float32."""
    torch.set_float32_matmul_precision("highest" if protocol == "official" else "high")
    torch.backends.cudnn.allow_tf32 = protocol != "official"


class AutocastTracker(Tracker):
    """The same tracker with its network under bfloat16 autocast."""

    def __init__(self, tracker: Tracker, device: str, dtype: torch.dtype = torch.bfloat16) -> None:
        self.tracker = tracker
        self._kind = torch.device(device).type
        self._dtype = dtype

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self._kind, dtype=self._dtype)

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> State:
        with self._autocast():
            return self.tracker.init(frames, boxes_xywh)

    def step(self, state: State, frames: Sequence[Frame], policy: Policy = greedy) -> tuple[State, Prediction]:
        with self._autocast():
            return self.tracker.step(state, frames, policy)
