"""SiamAttn: deformable operators, proposals and their targets, forward pass, training, sequence-level step."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, replace
from typing import Any

import cv2
import numpy as np
import torch
from golden import Case, runner
from torch import Tensor

from kinds.siamrpnpp import (
    Shuffled,
    Watched,
    build,
    check_losses,
    clips_of,
    experiment_of,
    gradient_tolerance,
    learner,
    picture,
    sequence_settings,
    sequence_step,
)
from lib.data import Batch, CropRegion, FrameSet, Mask, PySOTStyle, xywh_to_xyxy
from lib.methods import Experiment
from lib.methods.siamattn import (
    BOX_FEATURES,
    MASK_FEATURES,
    Regions,
    RegionSampler,
    RegionTargets,
    SiamAttn,
    SiamAttnAuxiliary,
    SiamAttnCriterion,
    SiamAttnTracker,
)
from lib.models.fusion import channel_attention
from lib.models.heads import AnchorTargets, Candidates, changes_between, masks_in_boxes
from lib.models.layers import deform_conv, deform_roi_pool
from lib.objectives import Progress
from lib.track import CropSettings


def check_all(case: Case, named: dict[str, Any], stored: dict[str, Any], label: str = "") -> None:
    for name, digest in stored.items():
        tolerance = gradient_tolerance(case, digest) if name.startswith("grad_") and "values" in digest else None
        case.check(named[name], digest, f"{label}{name}", tolerance)


@runner("slt_pysot/deform_conv")
def deformable_convolution(case: Case) -> None:
    x, offset, weight = (case.tensor(name).requires_grad_() for name in ("x", "offset", "weight"))
    y = deform_conv(x, offset, weight)
    y.backward(case.tensor("grad_out"))
    named = {"y": y, "grad_x": x.grad, "grad_offset": offset.grad, "grad_weight": weight.grad}
    check_all(case, named, case.data["outputs"])


@runner("slt_pysot/deform_roi_pool")
def deformable_pooling(case: Case) -> None:
    rois = torch.tensor(case.data["rois"], dtype=torch.float32)
    rows, boxes = rois[:, 0].long(), rois[:, 1:]
    assert case.config == {"trans_std": 0.1, "sample_per_part": 4, "group_size": 1}
    for i, part in enumerate(case.data["cases"]):
        data, offset = (torch.from_numpy(case.draw(part["inputs"][k])).requires_grad_() for k in ("data", "offset"))
        size, scale = part["out_size"], part["spatial_scale"]
        plain = deform_roi_pool(data, rows, boxes, size, scale)
        y = deform_roi_pool(data, rows, boxes, size, scale, offset)
        y.backward(torch.from_numpy(case.draw(part["inputs"]["grad_out"])))
        named = {"y_no_offset": plain, "y": y, "grad_data": data.grad, "grad_offset": offset.grad}
        stored = {k: v for k, v in part.items() if k in named}
        check_all(case, named, stored, f"part {i} ")


@runner("siamattn/forward")
def forward(case: Case) -> None:
    network: SiamAttn = build(case)
    seen: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, value: Tensor) -> None:
        seen[f"{name}#{calls[name]}"] = seen[name] = value.detach().clone()
        calls[name] += 1

    stored = case.data["outputs"] | case.data.get("intermediates", {})
    for name, module in network.named_modules():
        if any(wanted.partition("#")[0] == name for wanted in stored):
            module.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out))
    template, search = picture(case, "template"), picture(case, "search")
    rois = torch.tensor(case.data["roi"]).to(template.dtype)
    regions = Regions(rois[:, 0].long(), rois[:, 1:])
    network.feature_enhance.register_forward_pre_hook(lambda _m, args: levels.extend(args[1]))
    levels: list[Tensor] = []
    with torch.no_grad():
        candidates = network.locate(network.encode_template(template), search, masks=True)
        seen["bbox_refine"] = network.refine(candidates.maps["box_features"], regions.rois_xyxy, regions.rows)
        seen["mask_refine"] = network.draw(candidates, regions)[:, None]
        maps = network.backbone.maps(template)
        levels_z = network.neck(maps[2:])
        cut = slice((levels_z[0].shape[-1] - 7) // 2, (levels_z[0].shape[-1] + 7) // 2)
        features = [*maps[:2], *(level[..., cut, cut] for level in levels_z)]
        for side, found in enumerate((features[2:], levels)):
            for i, level in enumerate(found):
                seen[f"feature_enhance.cam_cals.{i}#{side}"] = channel_attention(level.flatten(2))
    seen |= {"b_fused": candidates.maps[BOX_FEATURES], "m_fused": candidates.maps[MASK_FEATURES]}
    seen |= {f"template.feature.{i}": x for i, x in enumerate(features)}
    grid = network.grid
    for name in ("cls", "loc"):
        seen[name] = candidates.maps[name].unflatten(-1, (-1, grid, grid)).flatten(1, 2)
    for name, digest in stored.items():
        case.check(seen[name], digest, name)


class NumpyChoice:
    """The reference's draws: the second one, of no background box, is made where there is a candidate for it."""

    def __init__(self, candidates: int) -> None:
        self.candidates = candidates

    def __call__(self, positions: Tensor, count: int) -> Tensor:
        drawn = np.random.choice(positions.numpy(), size=count, replace=False)
        if background := self.candidates - len(positions):
            np.random.choice(np.arange(background), size=0, replace=False)
        return torch.from_numpy(drawn)


@runner("slt_pysot/proposals_mask_targets")
def proposals(case: Case) -> None:
    data, c = case.data, case.config
    truth = torch.tensor(data["gt_boxes"], dtype=torch.float32)
    jitter = case.tensor("jitter")
    rule = re.search(r"\+ (\d+)\*jitter.*image (\d+) .*shifted by (\d+)\*sign", data["input_rule"])
    assert rule is not None, data["input_rule"]
    reach, image, shift = map(int, rule.groups())
    boxes = truth[:, None] + reach * jitter
    boxes[image] += shift * torch.sign(jitter[image, :, :1])
    masks = torch.zeros([int(n) for n in re.findall(r"\d+", data["masks"].partition(")")[0])])
    for mask, sides in zip(masks, re.findall(r"(\d+):(\d+)/(\d+):(\d+)", data["masks"]), strict=True):
        top, bottom, left, right = map(int, sides)
        mask[top:bottom, left:right] = 1
    chosen = torch.tensor(data["selected_images"])
    np.random.seed(data["np_random_seed"])
    sampler = RegionSampler(c["ROI_PER_IMG"], c["FG_THRESH"], NumpyChoice(boxes.shape[1] + 1))
    rois = sampler(boxes[chosen], truth[chosen])
    assert c["BBOX_NORMALIZE_STDS"] == [0.1, 0.1, 0.2, 0.2]
    changes = changes_between(rois, truth[chosen][:, None].double())
    rows = chosen.repeat_interleave(rois.shape[1])
    regions = RegionTargets(rows, rois.flatten(0, 1).float(), changes.flatten(0, 1).float())
    box, mask = (case.tensor(name).requires_grad_() for name in ("pred_box", "pred_mask"))
    known = torch.zeros(len(masks), dtype=torch.bool)
    known[chosen] = torch.tensor(data["mask_weight"]) > 0
    criterion = replace(SiamAttnCriterion.from_config(experiment_of(case).config), refine_weight=1.0, mask_weight=1.0)
    losses = criterion.region_losses(box, mask.flatten(0, 1), regions, masks, known)
    losses.total.backward()
    side = c["MASK_OUTSIZE"]
    named = {
        "rois": rois,
        "targets": changes,
        "mask_targets": masks_in_boxes(masks, rows, regions.rois_xyxy, side).unflatten(0, rois.shape[:2]),
        "refine_loss": losses.terms["Loss/refine"],
        "mask_loss": losses.terms["Loss/mask"],
        "grad_pred_box": box.grad,
        "grad_pred_mask": mask.grad,
    }
    check_all(case, named, data["outputs"])


class PerImage(SiamAttnCriterion):
    """With the random numbers of the reference: the targets image by image, then the proposals."""

    seeds: list[int]

    def targets(self, boxes_xywh: Tensor, negative: Tensor | None = None) -> AnchorTargets:
        if self.seeds:
            np.random.seed(self.seeds[0])
        none = torch.zeros(len(boxes_xywh), dtype=torch.bool) if negative is None else negative
        rows = [slice(i, i + 1) for i in range(len(boxes_xywh))]
        found = [super(PerImage, self).targets(boxes_xywh[row], none[row]) for row in rows]
        return AnchorTargets(*(torch.cat([getattr(f, k) for f in found]) for k in ("labels", "changes", "weights")))

    def propose(self, candidates: Candidates, boxes_xywh: Tensor, present: Tensor) -> RegionTargets:
        if self.seeds:
            np.random.seed(self.seeds[1])
        return super().propose(candidates, boxes_xywh, present)


def per_image(experiment: Experiment, network: SiamAttn, seeds: list[int]) -> PerImage:
    """The experiment's criterion with the reference's random numbers."""
    plain = SiamAttnCriterion.from_config(experiment.config)
    own = {f.name: getattr(plain, f.name) for f in fields(plain)}
    own["matcher"] = replace(plain.matcher, keep=Shuffled())
    own["sampler"] = replace(plain.sampler, pick=NumpyChoice(len(network.anchors) + 1))
    criterion = PerImage(**own)
    object.__setattr__(criterion, "seeds", seeds)
    return criterion


@runner("siamattn/train_step")
def train_step(case: Case) -> None:
    data = case.data
    experiment, network, objective = learner(case)
    seeds = [int(re.search(r"np\.random\.seed\((\d+)\)", data["rules"][k]).group(1)) for k in RULES]  # type: ignore
    objective.criterion = per_image(experiment, network, seeds)
    template, search = picture(case, "template"), picture(case, "search")
    corners, side = torch.tensor(data["gt_boxes"], dtype=search.dtype), search.shape[-1]
    masks = torch.zeros(len(corners), 1, side, side, dtype=torch.uint8)
    negative = torch.tensor(data["neg"]) > 0
    top, bottom, left, right = insets(case)
    for mask, box, strange in zip(masks, corners.tolist(), negative.tolist(), strict=True):
        x1, y1, x2, y2 = map(int, box)
        mask[0, y1 + top : y2 + bottom, x1 + left : x2 + right] = 0 if strange else 255
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)[:, None] / side
    known = torch.tensor(data["mask_weight"]) > 0
    if len(known) < len(negative):  # of the positive pairs alone, in order
        known = torch.zeros_like(negative).masked_scatter(~negative, known)
    extras = {"search_masks": masks, "has_masks": known}
    modality = torch.zeros(len(boxes), dtype=torch.int64)
    batch = Batch(template[:, None], search[:, None], boxes, boxes, modality, negative=negative, extras=extras)
    losses = objective(network, batch, Progress(case.config["epoch"] + 1, experiment.config.train.epoch))
    check_losses(case, network, losses)


def insets(case: Case) -> list[int]:
    """Of a mask in its box, downwards and to the right: "rows int(y1)+10:int(y2)-5, columns int(x1)+8:int(x2)-12"."""
    return [int(number) for number in re.findall(r"[+-]\d+", case.data["rules"]["masks"])]


RULES = "anchor targets", "proposals"
"""Where a training step says how it draws."""


class WatchedAttn(Watched, SiamAttnTracker):
    """Keeps what both halves of the batch saw."""


class WholeMasks(PySOTStyle):
    """The case's masks are uint8, so that resized ones are rounded before they are compared with 0."""

    def crop_mask(self, mask: Mask, region: CropRegion, size: int) -> Mask:
        return np.asarray(cv2.resize(self.cut(mask.astype(np.uint8)[..., None], region), (size, size)) > 0)


@runner("siamattn/slt_step")
def slt_step(case: Case) -> None:
    data = case.data
    experiment, network = experiment_of(case, **sequence_settings(case)), build(case)
    config = experiment.config
    criterion = per_image(experiment, network, [])
    tracker = WatchedAttn(network, CropSettings.from_config(config), config.test)
    tracker.whole_sides = False
    tracker.crop_style = WholeMasks()
    clips = [masked(clip, *insets(case)) for clip in clips_of(data)]
    seeds = re.findall(r"np\.random\.seed\((\d+)\)", data["rules"]["random"])
    known = masked_sequences(data["rules"]["masks"], len(clips))

    def explored(rollout: Any) -> None:
        """Mask weights in the reference's order, sequence by sequence, for samples frame by frame."""
        steps = len(rollout.regions)
        for t, region in enumerate(rollout.regions):
            for s in range(len(clips)):
                region.has_masks[s] = (t * len(clips) + s) // steps in known
        np.random.seed(int(seeds[1]))

    losses = {"loss_sum": "policy", "reg_loss_sum": "loc", "refine_loss_sum": "refine", "mask_loss_sum": "mask"}
    summed = {name: f"Loss/{term}" for name, term in losses.items()}
    auxiliary = SiamAttnAuxiliary(criterion, network)
    sequence_step(case, experiment, tracker, auxiliary, clips, summed, explored)


def masked_sequences(rule: str, count: int) -> set[int]:
    """Those of a sentence such as "mask_weight 1 for sequences 0 and 2, 0 for the others", of `count` sequences."""
    given = re.search(r"mask_weight 1 for (.*?)(?:, 0 for|;|$)", rule)
    words = given[1] if given else ""
    if re.search(r"\b(?:all|both|every)\b", words):
        return set(range(count))
    return set(map(int, re.findall(r"\d+", words)))


def masked(clip: FrameSet, top: int, bottom: int, left: int, right: int) -> FrameSet:
    """All frames count, and the middle of each box is the target's mask."""
    masks = []
    for frame, box in zip(clip.search, xywh_to_xyxy(clip.search_boxes).astype(int).tolist(), strict=True):
        x1, y1, x2, y2 = box
        mask = np.zeros(frame.size_hw, dtype=bool)
        mask[y1 + top : y2 + bottom, x1 + left : x2 + right] = True
        masks.append(mask)
    return replace(clip, search_masks=tuple(masks), real_length=len(clip.search))
