"""A small tracker of every method, and moving pictures that all of them can follow."""

from __future__ import annotations

import numpy as np
import torch

from lib.data import Frame, Image
from lib.paths import shipped_folder

SMALL = shipped_folder("pretrained") / "synthetic_small.safetensors"
"""The smaller one of the two networks that come with the project."""

UNIT_PIXELS = ("DATA.STD=[1.0,1.0,1.0]",)
"""Random weights on pixels up to 255 give scores of 0 and 1 alone, among which rounding chooses."""
METHODS = [
    ("ostrack", "synthetic_small", ()),
    ("ostrack", "synthetic_small", ("MODEL.BACKBONE.CE_LOC=[1,2]", "MODEL.BACKBONE.CE_KEEP_RATIO=[0.7,0.7]")),
    ("sdstrack", "synthetic_demo", ("MODEL.PRETRAIN_FILE=''",)),
    ("cstrack_s1", "synthetic_small", ()),
    ("cstrack_s2", "synthetic_small", ()),
    ("transt", "synthetic_small", ()),
    ("translate_track", "synthetic_small", ()),
    ("trdimp", "synthetic_small", ()),
    ("siamrpnpp", "synthetic_small", UNIT_PIXELS),
    ("siamattn", "synthetic_small", UNIT_PIXELS),
]
IDS = [
    "ostrack", "ostrack_elimination", "sdstrack", "cstrack_s1", "cstrack_s2", "transt", "gdstrack", "trdimp",
    "siamrpnpp", "siamattn",
]  # fmt: skip
BOXES = torch.tensor([[30.0, 20.0, 25.0, 30.0], [60.0, 15.0, 18.0, 22.0], [10.0, 40.0, 40.0, 20.0]]).double()
"""[3, 4] x, y, w, h in three clips."""


def clip(seed: int, count: int, height: int = 120, width: int = 160) -> list[Frame]:
    """Frames of smooth noise that moves by a few pixels, with a second picture."""
    rng = np.random.default_rng(seed)
    world: Image = rng.integers(0, 256, (height + 4 * count, width + 4 * count, 3), dtype=np.uint8)
    cuts = [np.ascontiguousarray(world[2 * i : 2 * i + height, 3 * i : 3 * i + width]) for i in range(count)]
    return [Frame(c, np.ascontiguousarray(255 - c)) for c in cuts]
