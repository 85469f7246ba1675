"""Engines that compute a network outside PyTorch, from two exported graphs: one per target, one per frame."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch

from lib.registry import suggest

TORCH = "torch"


class EngineError(ValueError):
    """An engine that is unknown, not installed, or cannot do what it is asked for."""


@dataclass(frozen=True)
class Engine:
    """runtime: "onnx" or "openvino". int8: whether most products are in 8 bits. packages: what must be importable."""

    name: str
    runtime: str
    int8: bool
    packages: tuple[str, ...]

    def require(self) -> None:
        """Raises EngineError naming the packages that are missing, and how to get them."""
        require_packages(f"engine {self.name}", self.packages, self.runtime)

    def tolerance(self, dtype: torch.dtype) -> float:
        """How far outputs may be from those of the same network in PyTorch, as a share of their range, in the mean.

        Numbers that are rounded to few digits fall to the other side now and then, and the next layers carry that on.
        """
        return 0.05 if self.int8 or dtype != torch.float32 else 1e-4


_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
ENGINES = {
    name: Engine(name, runtime, int8, _PACKAGES[runtime])
    for runtime in ("onnx", "openvino")
    for name, int8 in ((runtime, False), (f"{runtime}-int8", True))
}
ENGINE_NAMES = (TORCH, *ENGINES)


def get_engine(name: str) -> Engine | None:
    """The engine of this name, None for PyTorch itself. Raises EngineError for an unknown name."""
    if name == TORCH:
        return None
    if name not in ENGINES:
        known = ", ".join(ENGINE_NAMES)
        raise EngineError(f"engine {name!r} is unknown{suggest(name, ENGINE_NAMES)} (known: {known})")
    return ENGINES[name]


def require_packages(what: str, packages: tuple[str, ...], extra: str) -> None:
    """Raises EngineError when one of `packages` is missing, with the extra of this project that brings them."""
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        they = "a package that is" if len(missing) == 1 else "packages that are"
        raise EngineError(
            f"{what} needs {they} not installed ({', '.join(missing)}); install with: bash install.sh {extra} "
            f"(or: pip install -c scripts/pins.txt -e '.[{extra}]')"
        )
