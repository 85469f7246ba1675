"""The ways of computing a network that are measured against each other."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from lib.bench import Way, choose_dtype
from lib.deploy import (
    PROCEDURAL,
    EngineError,
    Exports,
    calibration_clips,
    get_engine,
)
from lib.paths import load_paths
from lib.track import Tracker

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


def by_engines(tracker: Tracker, names: Sequence[str]) -> dict[str, Tracker]:
    """The tracker computed by engines, which share the graphs of their number format; others are named on stderr."""
    clips = calibration_clips(PROCEDURAL[tracker.reads_aux], load_paths())[:2]
    found: dict[str, Tracker] = {}
    with tempfile.TemporaryDirectory() as folder:
        exports = Exports(tracker, Path(folder))
        for name in names:
            try:
                found[name] = exports.prepare(Way(name).inference(clips))
            except (EngineError, RuntimeError) as error:
                print(f"left out: {name}: {error}", file=sys.stderr)
    return found
