"""The ways of computing a network that are measured against each other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lib.bench import choose_dtype
from lib.deploy import EngineError, get_engine

HALF = choose_dtype(torch.device("cpu"), "fast")[0]


@dataclass(frozen=True)
class Way:
    """protocol and engine as on the command line; dtype: of products that are not in 8 bits."""

    protocol: str
    engine: str
    dtype: torch.dtype


WAYS = {
    "official": Way("official", "torch", torch.float32),
    "fast": Way("fast", "torch", HALF),
    "onnx": Way("official", "onnx", torch.float32),
    "openvino": Way("official", "openvino", torch.float32),
    "openvino fast": Way("fast", "openvino", HALF),
    "onnx-int8": Way("fast", "onnx-int8", torch.float32),
    "openvino-int8": Way("fast", "openvino-int8", torch.float32),
}


def installed(names: Sequence[str]) -> dict[str, Way]:
    """Those of the named ways whose engine is here; the others are told on stderr."""
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
