"""CSTrack's data path: soft masks of template tokens."""

from __future__ import annotations

import numpy as np
import torch
from golden import Case, runner

from lib.data import centred_boxes, soft_masks, soft_masks_of_targets

STRIDE = 16


@runner("cstrack/module_softmask")
def module_softmask(case: Case) -> None:
    stored = case.data["outputs"]
    boxes, size = case.tensor("train_boxes"), STRIDE * round(np.shape(stored["train_masks_full"])[1] ** 0.5)
    for given in (boxes, boxes.double()):
        case.check(soft_masks(given, size), stored["train_masks_full"], "masks of training")
    targets = case.data["inputs"]["test_boxes"]
    sizes = torch.tensor([t["box"][2:] for t in targets], dtype=torch.float64)
    resize = torch.tensor([t["resize_factor"] for t in targets], dtype=torch.float64)
    assert centred_boxes(sizes, resize, size).tolist() == stored["test_resized_boxes"]
    case.check(soft_masks_of_targets(sizes, resize, size), stored["test_masks_full"], "masks of tracking")
