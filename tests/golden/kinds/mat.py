"""Masked appearance transfer: crops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from golden import Case, runner

from lib.config import Region
from lib.data import CROP_STYLES, CropStyle, Frame, mirror_box_in_crop


def smooth(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    """Noise on a grid of 6 x 8 nodes, bilinear between, [height, width, channels] uint8."""
    grid = np.random.RandomState(seed).uniform(0, 255, (6, 8, channels))
    rows, columns = np.linspace(0, 5, height), np.linspace(0, 7, width)
    top, left = np.minimum(rows.astype(int), 4), np.minimum(columns.astype(int), 6)
    dy, dx = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = grid[top][:, left] * (1 - dx) + grid[top][:, left + 1] * dx
    lower = grid[top + 1][:, left] * (1 - dx) + grid[top + 1][:, left + 1] * dx
    return np.rint(upper * (1 - dy) + lower * dy).astype(np.uint8)


def texture(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    """Noise in cells of 4 x 4 pixels, uint8."""
    cells = np.random.RandomState(seed).randint(0, 256, size=(height // 4, width // 4, channels), dtype=np.uint8)
    return cells.repeat(4, axis=0).repeat(4, axis=1)


def synthetic_frame(spec: dict[str, Any], t: int | None = None) -> Frame:
    """Frame t of a synthetic RGB-T video, both pictures in RGB order; `spec` is an input of a case."""
    height, width, seed = spec["H"], spec["W"], spec["seed"]
    (x, y, w, h), (vx, vy), t = spec["box"], spec["v"], spec["t"] if t is None else t
    left, top = x + vx * t, y + vy * t
    pictures = []
    for first, channels in ((seed, 3), (seed + 2, 1)):
        picture, pattern = smooth(first, height, width, channels), texture(first + 1, h, w, channels)
        ys, xs = slice(max(top, 0), max(top + h, 0)), slice(max(left, 0), max(left + w, 0))
        shown = picture[ys, xs]
        rows, columns = max(-top, 0), max(-left, 0)
        shown[:] = pattern[rows : rows + shown.shape[0], columns : columns + shown.shape[1]]
        pictures.append(np.ascontiguousarray(picture[..., ::-1] if channels == 3 else picture.repeat(3, axis=2)))
    return Frame(*pictures)


def crop_pair(style: CropStyle, frame: Frame, region: Any, size: int, border: list[float]) -> np.ndarray:
    """Crops [2, size, size, 3] of both pictures of a frame."""
    planes = np.empty((6, size, size), dtype=style.dtype)
    style.crop_frame(frame, region, planes, border=np.array(border * 2))
    return planes.reshape(2, 3, size, size).transpose(0, 2, 3, 1)


@runner("gdstrack/crop_training")
def crop_training(case: Case) -> None:
    frame = synthetic_frame(case.data["inputs"]["image"])
    for stored in case.data["outputs"]:
        # The published code writes labels of whole-number boxes back as whole numbers.
        whole = all(isinstance(v, int) for v in stored["box_xywh"])
        style = CROP_STYLES["affine_truncated" if whole else "affine"]()
        size, (spread, reach) = stored["out_size"][0], stored["jitter"]
        box, normal, uniform = (np.array(stored[k], dtype=np.float32) for k in ("box_xywh", "randn2", "rand2"))
        jittered = style.jitter(box, normal, uniform, Region(size, stored["scale_factor"], reach, spread))
        region = style.region(jittered.tolist(), stored["scale_factor"], size, frame.size_hw)
        rgb, aux = crop_pair(style, frame, region, size, case.config["border"])
        label = style.to_crop(stored["box_xywh"], region, size)
        named = {
            "crop_color": rgb,
            "crop_ir": aux,
            "flipped_crop": rgb[:, ::-1],
            "out_box_xywh": label,
            "flipped_box_xywh": mirror_box_in_crop(label / size) * size,
        }
        for name in named.keys() & stored.keys():
            exact = {"rtol": 0.0, "atol": 1e-3} if "box" in name else None
            case.check(named[name], stored[name], f"{name} {stored['box_xywh']}", exact)


@runner("gdstrack/crop_square")
def crop_square(case: Case) -> None:
    frame, style = synthetic_frame(case.data["inputs"]["image"]), CROP_STYLES["affine_stretched"]()
    for stored in case.data["outputs"]:
        size, box = stored["out_size"][0], stored["box_xywh"]
        region = style.region(box, stored["scale_factor"], size, frame.size_hw)
        case.check(crop_pair(style, frame, region, size, case.config["border"])[0], stored["crop"], f"crop {box}")
        exact = {"rtol": 0.0, "atol": 1e-3}
        case.check(style.to_crop(box, region, size), stored["out_box_xywh"], f"box {box}", exact)


@runner("gdstrack/crop_inference")
def crop_inference(case: Case) -> None:
    frame, style = synthetic_frame(case.data["inputs"]["image"]), CROP_STYLES["affine"]()
    for stored in case.data["outputs"]:
        size, (x1, y1, x2, y2) = stored["out_size"], stored["box_xyxy"]
        w, h = x2 - x1 + 1, y2 - y1 + 1
        box = torch.tensor([[(x1 + x2 - w) / 2, (y1 + y2 - h) / 2, w, h]], dtype=torch.float64)
        border = torch.tensor([case.config["border_rgb"] * 2])
        crops = style.crop_frames([frame], box, stored["scale_factor"], size, border)
        rgb, aux = crops.pixels[0].permute(1, 2, 0).split(3, dim=2)
        (cx, cy), scale = crops.centres[0].tolist(), size / crops.sides[0]
        offset = size / 2 - scale * crops.centres[0]
        placed = [
            (v - c) * a + size / 2 for v, c, a in zip((x1, y1, x2, y2), (cx, cy) * 2, scale.tolist() * 2, strict=True)
        ]
        named = {"crop_color": rgb, "crop_ir": aux, "out_box": placed, "a_b_c_d": [*scale.tolist(), *offset.tolist()]}
        for name in named.keys() & stored.keys():
            exact = None if "crop" in name else {"rtol": 1e-6, "atol": 1e-5}
            case.check(named[name], stored[name], f"{name} {stored['box_xyxy']}", exact)
