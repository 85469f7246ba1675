"""The ways of computing a network that are measured against each other."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from lib.bench import Way, choose_dtype
from lib.deploy import EngineError, get_engine

_BFLOAT16 = choose_dtype(torch.device("cpu"), "fast")[0] == torch.bfloat16
WAYS = {
    "official": Way(),
    **({"bfloat16": Way(dtype="bfloat16")} if _BFLOAT16 else {}),
    "onnx": Way("onnx"),
    "openvino": Way("openvino"),
    **({"openvino bfloat16": Way("openvino", "bfloat16")} if _BFLOAT16 else {}),
    "onnx-int8": Way("onnx-int8"),
    "openvino-int8": Way("openvino-int8"),
}
"""Without bfloat16 where the processor has no instructions for it. Which of them `--protocol fast` takes is timed."""


def dtype_of(way: Way) -> torch.dtype:
    """Number format of the products that are not in 8 bits."""
    found: torch.dtype = getattr(torch, way.dtype)
    return found


def installed(names: Sequence[str]) -> dict[str, Way]:
    """Those of the named ways whose engine is here; the others are named on stderr."""
    found = {}
    for name in names:
        engine = get_engine(WAYS[name].engine)
        try:
            if engine is not None:
                engine.require()
            found[name] = WAYS[name]
        except EngineError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found
