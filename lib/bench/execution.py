"""Where a worker's tracker runs and in which number format."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lib.deploy import TORCH, Engine, EngineError
from lib.device import choose_device

PROTOCOLS = ("official", "fast")


@dataclass(frozen=True)
class Execution:
    """device: as torch writes it ("cuda:0"). dtype: of the network's products. why: both reasons, for the reader."""

    device: str
    dtype: torch.dtype
    why: str

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def choose_execution(wish: str, protocol: str, slot: int = 0, num_gpus: int = 0) -> Execution:
    """Device and number format of worker `slot`: workers take turns on the first `num_gpus` GPUs (0 = all there are).

    wish: auto | cpu | mps | cuda | cuda:N; only `auto` and `cuda` share GPUs. Raises DeviceError.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish.strip().lower() in ("auto", "cuda") and there:
        wish = f"cuda:{slot % (min(num_gpus, there) if num_gpus > 0 else there)}"
    device, why_device = choose_device(wish)
    dtype, why_dtype = choose_dtype(device, protocol)
    return Execution(str(device), dtype, f"{why_device}; {why_dtype}")


def engine_execution(engine: Engine, wish: str, protocol: str) -> Execution:
    """Device and number format of an engine: the CPU; half precision where protocol, engine and CPU allow it.

    Raises EngineError for another device, and for 8 bits in the official protocol.
    """
    if wish.strip().lower() not in ("auto", "cpu"):
        raise EngineError(f"engine {engine.name} computes on the CPU; --device {wish} is for --engine {TORCH}")
    if engine.int8:
        choose_dtype(torch.device("cpu"), protocol)
        if protocol == "official":
            raise EngineError(
                f"engine {engine.name} computes in 8 bits, but the official protocol is float32: add --protocol fast"
            )
        return Execution("cpu", torch.float32, f"engine {engine.name}: most products in 8 bits, the others in float32")
    dtype, why = choose_dtype(torch.device("cpu"), protocol)
    if engine.runtime == "onnx" and dtype != torch.float32:
        dtype, why = torch.float32, "float32; ONNX Runtime has no half precision on CPUs"
    return Execution("cpu", dtype, f"engine {engine.name}: {why}")


def choose_dtype(device: torch.device, protocol: str) -> tuple[torch.dtype, str]:
    """The number format of the network's products: float32 for `official`, a half format for `fast` where it pays."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is unknown; expected {' or '.join(PROTOCOLS)}")
    if protocol == "official":
        return torch.float32, "float32 with TF32 off, the official protocol"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16, the fast protocol"
        return torch.float16, "float16, the fast protocol; this GPU has no bfloat16"
    if device.type == "mps":
        return torch.float16, "float16, the fast protocol"
    if _cpu_computes_in_bfloat16():
        return torch.bfloat16, "bfloat16, the fast protocol"
    return torch.float32, "float32; the fast protocol gains nothing from half formats on this CPU"


def _cpu_computes_in_bfloat16() -> bool:
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(check()) for name in names if (check := getattr(torch.cpu, name, None)) is not None)


def use_exact_float32() -> None:
    """Switch TF32 off in this process, as the official protocol wants it."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
