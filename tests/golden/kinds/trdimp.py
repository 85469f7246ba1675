"""TrDiMP's tracker and training: crops, labels and losses, sample memory, localisation."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from golden import Case, runner
from torch import Tensor

from kinds.transt import video
from lib.data import InsideStyle, PatchStyle
from lib.models.losses import gaussian_labels, hinge_loss
from lib.models.proposals import density_loss, draw_proposals
from lib.track import FirstFrameAugment, Flag, LocalisationRules, SampleMemory

STRIDE = 16


@runner("slt_pytracking/trdimp_crops")
def crops(case: Case) -> None:
    frame, config, outputs = video(case.config["video"])[0][0], case.config, case.data["outputs"]
    patches, train = PatchStyle(), InsideStyle()
    for (y, x, scale, mode), stored in zip(config["items"], outputs["patches"], strict=True):
        size = stored["patch"]["shape"][-1]
        region = patches.place_at((x, y), scale, size, frame.size_hw, inside=mode == "inside_major")
        (cx, cy), (width, height) = region.centre_xy, region.sides_wh
        corners = [cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2]
        assert corners == stored["coords_y1x1y2x2"], (y, x, scale)
        case.check(patches.crop(frame.rgb, region, size).transpose(2, 0, 1)[None], stored["patch"], f"patch {y} {x}")
    for (x, y, w, h, factor), stored in zip(config["train_items"], outputs["train_crops"], strict=True):
        size = stored["crop"]["shape"][0]
        region = train.region((x, y, w, h), factor, size, frame.size_hw)
        case.check(train.crop(frame.rgb, region, size), stored["crop"], f"training crop {x} {y}")
        placed = train.to_crop((x + 4, y - 3, 0.9 * w, 1.1 * h), region, size)
        case.check(placed, stored["box_in_crop"], f"box {x} {y}", {"rtol": 1e-5, "atol": 1e-4})
    # The patch of the first frame is described in words alone.
    y, x, scale, side = map(
        float, re.findall(r"\(y,x\)=\((\S+),(\S+)\), scale (\S+), expansion (\d+)", case.data["what"])[0]
    )
    region = patches.place_at((x, y), scale, int(side), frame.size_hw, inside=False)
    patch = patches.crop(frame.rgb, region, int(side))
    for words, stored in zip(config["transforms"], outputs["augmented"], strict=True):
        augment, shift = augmentation(words)
        shifts = np.array([shift] * augment.crops)
        crop = augment.crop(patch, stored["shape"][-1], shifts)[-1]
        case.check(crop.transpose(2, 0, 1), stored, words)


def augmentation(words: str) -> tuple[FirstFrameAugment, list[int]]:
    """``blur(3,1) shift(-40,7)`` -> the augmentation with this one crop, and its translation y, x."""
    pairs = [[int(v) for v in pair] for pair in re.findall(r"\((-?\d+),(-?\d+)\)", words)]
    angles = [float(a) for a in re.findall(r"rotate (-?\d+)", words)]
    settings: dict[str, Any] = {
        "relative_shift": ((0.0, 0.0),) * words.startswith("translate"),
        "flip": words.startswith("flip"),
        "blur": (tuple(map(float, pairs[0])),) if words.startswith("blur") else (),
        "rotate": tuple(angles),
    }
    return FirstFrameAugment(**settings), pairs[-1] if pairs else [0, 0]


@runner("slt_pytracking/labels_and_losses")
def labels_and_losses(case: Case) -> None:
    c = case.config
    boxes, grid, size = case.tensor("boxes"), c["feat_sz"], c["image_sz"]
    factors = {}
    for name in ("template_label", "search_label"):
        top, bottom = re.findall(r"sigma_factor ([\d.]+)/?([\d.]*)", c[name])[0]
        factors[name] = float(top) / float(bottom or 1)
    labels = gaussian_labels(boxes / size, grid, factors["template_label"], c["kernel_sz"])
    search = gaussian_labels(boxes / size, grid, factors["search_label"], c["kernel_sz"], padded=True)
    sigma = factors["search_label"] * grid
    sigmas = [pair[0] for pair in c["proposal_sigma"]]
    drawn = draw_proposals(boxes[0], case.tensor("component_ids"), case.tensor("gmm_noise"), sigmas, c["gt_sigma"][0])
    scores, raw = case.tensor("kl_scores").requires_grad_(), case.tensor("hinge_scores").requires_grad_()
    loss, hinge = density_loss(scores, drawn), hinge_loss(raw, search, c["hinge_threshold"])
    (loss + hinge).backward()
    named: dict[str, Any] = {
        "template_label": labels,
        "search_label": search,
        "search_label_density": search / (2 * torch.pi * sigma**2),
        "proposals": drawn.boxes_xywh,
        "proposal_density": drawn.density,
        "gt_density": drawn.target_density,
        "kl_loss": loss,
        "grad_kl": scores.grad,
        "hinge_loss": hinge,
        "grad_hinge": raw.grad,
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/sample_memory")
def sample_memory(case: Case) -> None:
    c = case.config
    memory = SampleMemory.begin(
        torch.zeros(1, c["num_init"], 1, 1, 1), torch.zeros(1, c["num_init"], 4), c["memory_size"]
    )
    for hard, stored in zip(c["hard_negative_steps"], case.data["outputs"]["steps"], strict=True):
        rate = torch.tensor([c["hard_negative_learning_rate"] if hard else c["learning_rate"]])
        memory = memory.add([0], torch.ones(1, 1, 1, 1), torch.ones(1, 4), rate, c["init_samples_minimum_weight"])
        assert int(memory.latest) == stored["replace_index"]
        case.check(memory.weights[0], stored["weights"], "weights")


@runner("slt_pytracking/advanced_localization")
def advanced_localization(case: Case) -> None:
    items = case.config["items"]
    scores = case.tensor("score_maps").float()

    def of(name: str) -> Tensor:
        return torch.tensor([item[name] for item in items], dtype=torch.float32)

    cell = STRIDE * of("sample_scale")[:, None]
    previous = (of("pos_yx") - of("sample_pos_yx")) / cell
    moved, flags = LocalisationRules().localise(scores, of("target_sz_hw") / cell, previous)
    for shift, flag, stored in zip(moved * cell, flags.tolist(), case.data["outputs"]["results"], strict=True):
        case.check(shift, stored["translation_yx"], "translation")
        assert Flag(flag).name.lower() == stored["flag"]
