"""Sample data for engines in 8 bits: targets in a few frames each, from any data set that training knows."""

from __future__ import annotations

import numpy as np
import torch

from lib.data import Video
from lib.data.datasets import build_dataset
from lib.models.engines import EngineError
from lib.paths import Paths
from lib.track import CalibrationClip

SEQUENCES, FRAMES = 12, 4
PROCEDURAL = {False: "SYNTHETIC:seed=880001,sequences=12,length=24", True: "SYNTHETIC:rgbt,seed=880001,sequences=12"}
"""Default data set, for RGB and for RGB+X: nothing has to be downloaded."""


def calibration_clips(name: str, paths: Paths) -> list[CalibrationClip]:
    """Clips of `FRAMES` frames from up to `SEQUENCES` sequences, evenly spread over the data set.

    name: as in DATASETS_NAME of a training configuration. Raises what `build_dataset` raises, and EngineError when no
    sequence has enough frames with a visible target.
    """
    dataset = build_dataset(name, paths)
    clips = []
    for index in np.linspace(0, len(dataset) - 1, min(SEQUENCES, len(dataset))).round().astype(int):
        clip = _clip(dataset[int(index)])
        if clip is not None:
            clips.append(clip)
    if not clips:
        raise EngineError(f"--calibration {name}: no sequence has {FRAMES} frames in which the target is to be seen")
    return clips


def _clip(sequence: Video) -> CalibrationClip | None:
    """Frames with the target, spread over the sequence; None where there are too few."""
    boxes = sequence.boxes_xywh
    seen = np.flatnonzero(sequence.valid & sequence.visible & np.isfinite(boxes).all(1) & (boxes[:, 2:] > 4).all(1))
    if len(seen) < FRAMES:
        return None
    chosen = seen[np.linspace(0, len(seen) - 1, FRAMES).round().astype(int)]
    return CalibrationClip([sequence.read_frame(int(i)) for i in chosen], torch.from_numpy(boxes[chosen].copy()))
