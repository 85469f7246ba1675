"""The annotation of a sequence, computed from the plan of its world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.data import Boxes, Mask, Modality
from synthetic.draw import fill
from synthetic.figure import Figure, bounds
from synthetic.palette import distance
from synthetic.plan import WorldPlan

ABSENT = 0.05
"""A target of which less than this share can be seen is absent."""
_RASTER = 40

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """Annotation of N frames.

    Attributes:
        boxes_xywh: [N, 4] the smallest box around the target's whole silhouette - as if nothing were in front of it -
            clipped to the frame; all zero where the target is absent.
        full_xyxy: [N, 4] the same before clipping, in absent frames too.
        visible_fraction: [N] share of the silhouette's area that is inside the frame and not covered.
        inside: [N] share that is inside the frame.
        absent: [N] `visible_fraction` is below 0.05.
        out_of_view: [N] `inside` is below 0.05.
        covered: [N] absent, but not out of view.
        attributes: Tags of the sequence.
    """

    boxes_xywh: Boxes
    full_xyxy: Boxes
    visible_fraction: Array
    inside: Array
    absent: Mask
    out_of_view: Mask
    covered: Mask
    attributes: frozenset[str]


def _overlap(a: Array, b: Array) -> Mask:
    return np.asarray((a[:, 0] < b[:, 2]) & (b[:, 0] < a[:, 2]) & (a[:, 1] < b[:, 3]) & (b[:, 1] < a[:, 3]))


def _raster(outlines: list[Array], k: int, box: Array) -> NDArray[np.uint8]:
    """[40, 40] coverage of the outlines of frame k within a box."""
    scale = _RASTER / np.maximum(box[2:] - box[:2], 1e-6)
    total = np.zeros((_RASTER, _RASTER), np.uint8)
    for o in outlines:
        layer = np.zeros_like(total)
        fill(layer, (o[k] - box[:2]) * scale - 0.5, 0, 0)
        total = np.maximum(total, layer)
    return total


def _visibility(plan: WorldPlan, full: Boxes, times: Array) -> tuple[Array, Array]:
    """[N] share inside the frame, [N] share inside and uncovered."""
    w, h = plan.config.width, plan.config.height
    inside, seen = np.ones(len(times)), np.ones(len(times))
    cut = (full[:, 0] < 0) | (full[:, 1] < 0) | (full[:, 2] > w) | (full[:, 3] > h)
    own = plan.target.outlines(times)
    others = [f.outlines(times) for f in plan.front]
    meets = [_overlap(full, bounds(o)) for o in others]
    for k in np.flatnonzero(np.any([*meets, cut], axis=0)).tolist():
        box = full[k]
        target = _raster(own, k, box).astype(np.float64)
        area = max(target.sum(), 1e-6)
        x = box[0] + (np.arange(_RASTER) + 0.5) / _RASTER * (box[2] - box[0])
        y = box[1] + (np.arange(_RASTER) + 0.5) / _RASTER * (box[3] - box[1])
        target *= ((x >= 0) & (x < w))[None] & ((y >= 0) & (y < h))[:, None]
        inside[k] = target.sum() / area
        for other, meet in zip(others, meets, strict=True):
            if meet[k]:
                target *= 1.0 - _raster(other, k, box) / 255.0
        seen[k] = target.sum() / area
    return inside, seen


def _bending(figure: Figure, times: Array) -> float:
    """Travel of outline points in the object's own frame, as a share of its size (95th percentile)."""
    worst = 0.0
    few = times[:: max(1, len(times) // 20)]
    for part in figure.parts:
        points = part.outline(few)
        if not figure.wave.still:
            points = figure.wave.bend(points, few)
        worst = max(worst, float(np.quantile(np.ptp(points, axis=0).max(-1), 0.95)))
    return worst / 2.0


def _scene_speed(plan: WorldPlan, times: Array) -> float:
    """Mean travel in pixels per frame of the scene under the middle of the picture."""
    if len(times) < 2:
        return 0.0
    m = plan.camera.matrices(times)
    middle = np.array([plan.config.width, plan.config.height]) * 0.75
    at = m[:, :, :2] @ middle + m[:, :, 2]
    return float(np.hypot(*np.diff(at, axis=0).T).mean())


def _shape_tags(plan: WorldPlan, full: Boxes, times: Array) -> set[str]:
    """Tags of size, shape, pose and light."""
    side = full[:, 2:] - full[:, :2]
    area, aspect = side.prod(1), side[:, 0] / side[:, 1]
    light = plan.light(times).clip(0.02)
    tests = {
        "SV": np.any((area > 2 * area[0]) | (area < 0.5 * area[0])),
        "ARC": np.any((aspect > 2 * aspect[0]) | (aspect < 0.5 * aspect[0])),
        "ROT": np.ptp(plan.target.angle(times)) > np.pi / 6,
        "DEF": _bending(plan.target, times) > 0.06,
        "IV": light.max() >= 1.5 * light.min(),
        "LL": light.mean() < 0.4,
        "LR": area.min() < 400,
        "BC": distance(np.concatenate([p.skin.colours for p in plan.target.parts]), plan.backdrop.colours) < 12,
        "TC": plan.config.modality is Modality.RGBT and plan.crossover(times).max() > 0.9,
    }
    return {name for name, true in tests.items() if true}


def _motion_tags(plan: WorldPlan, full: Boxes, times: Array) -> set[str]:
    """Tags of motion and of company."""
    centre = (full[:, :2] + full[:, 2:]) / 2
    size = np.sqrt((full[:, 2:] - full[:, :2]).prod(1))
    step = np.hypot(*np.diff(centre, axis=0).T) if len(times) > 1 else np.zeros(1)
    tests = {
        "FM": np.any(step > 0.5 * size[: len(step)]),
        "MB": np.mean(step * plan.shutter >= 4) >= 0.05,
        "CM": _scene_speed(plan, times) > 1.0,
    }
    for look_alike in plan.look_alikes:
        box = bounds(look_alike.outlines(times))
        away = np.hypot(*((box[:, :2] + box[:, 2:]) / 2 - centre).T)
        tests["SIM"] = tests.get("SIM", False) or np.mean(away < 3 * size) >= 0.1
    return {name for name, true in tests.items() if true}


def find_truth(plan: WorldPlan) -> Truth:
    """The annotation of a planned world."""
    w, h = plan.config.width, plan.config.height
    times = np.arange(plan.config.length, dtype=np.float64)
    full = bounds(plan.target.outlines(times))
    full[:, 2:] += 1.0  # an outline through pixels i..j covers j - i + 1 of them
    inside, seen = _visibility(plan, full, times)
    absent = seen < ABSENT
    out_of_view = inside < ABSENT
    covered = absent & ~out_of_view
    low, high = np.clip(full[:, :2], 0, (w, h)), np.clip(full[:, 2:], 0, (w, h))
    boxes = np.concatenate([low, high - low], axis=1)
    boxes[absent] = 0.0
    share = 1 - seen / np.maximum(inside, 1e-6)
    tags = _shape_tags(plan, full, times) | _motion_tags(plan, full, times)
    tags |= {n for n, true in (("OV", np.any(inside == 0)), ("FOC", np.any((share > 0.95) & ~out_of_view))) if true}
    if np.sum((share >= 0.15) & (share <= 0.95) & ~out_of_view) >= 2:
        tags.add("POC")
    if tags & {"POC", "FOC"}:
        tags.add("OCC")
    return Truth(boxes, full, seen, inside, absent, out_of_view, covered, frozenset(tags))
