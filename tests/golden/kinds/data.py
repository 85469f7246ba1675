"""The training data path: crops, box geometry, processing, sampling."""

from __future__ import annotations

import numpy as np
import torch
from golden import Case, runner

from lib.data.boxes import box_in_crop, clip_box, clip_boxes, jitter_box
from lib.data.crop import crop_batch, sample_target
from lib.data.types import Frame


def _float64(values: list[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _check_crop(case: Case, image: np.ndarray, item: dict, output_size: int, stored: dict) -> float:
    """One crop, its mask, and the same crop made by the batched function; the resize factor."""
    box, factor = item.get("box", item.get("box_xywh")), item["factor"]
    tolerance = {"rtol": case.data["tolerance"]["rtol"], "atol": case.data["tolerance"].get("crop_atol", 1.0)}
    crop = sample_target(image, box, factor, output_size, with_mask=True)
    assert crop.mask is not None
    case.check(crop.image, stored["crop"], f"crop {box}", tolerance)
    case.check(crop.mask, stored["attention_mask"], f"mask {box}", {"rtol": 1e-6, "atol": 1e-6})
    assert np.isclose(crop.resize_factor, item["resize_factor"], rtol=1e-6)
    frame = Frame(image[..., :3], image[..., 3:] if image.shape[2] == 6 else None)
    batch, resize_factors = crop_batch([frame], torch.tensor([box], dtype=torch.float64), factor, output_size)
    assert np.array_equal(batch[0].numpy().transpose(1, 2, 0), crop.image), f"{case.path.name}: crop_batch {box}"
    assert float(resize_factors[0]) == crop.resize_factor
    if "crop_size" in item:
        assert crop.crop_size == item["crop_size"]
    if "attention_mask_true_count" in item:
        assert int(crop.mask.sum()) == item["attention_mask_true_count"]
    return crop.resize_factor


@runner("loretrack/crops")
def crops(case: Case) -> None:
    image = case.draw(case.data["inputs"]["image"])
    for item in case.data["crops"]:
        _check_crop(case, image, item, item["output_size"], item["outputs"])


@runner("sdstrack/crops")
def crops_rgbx(case: Case) -> None:
    for item in case.data["items"]:
        factor = _check_crop(case, case.draw(item["image"]), item, item["output_size"], item)
        size = item["output_size"]
        second, first = _float64(item["second_box_xywh"]), _float64(item["box_xywh"])
        found = box_in_crop(second, first, factor, size, size)
        tolerance = {"rtol": 1e-5, "atol": case.data["tolerance"]["boxes"]}
        case.check(found, item["second_box_in_crop_normalised"], f"box {item['box_xywh']}", tolerance)


@runner("loretrack/box_geometry")
def box_geometry(case: Case) -> None:
    for item in case.data["to_crop"]:
        size = item["output_size"]
        found = box_in_crop(_float64(item["box_in"]), _float64(item["box_extract"]), item["resize_factor"], size, size)
        case.check(found, item["box_normalized_xywh"], "to_crop")
    for item in case.data["jitter"]:
        normal, uniform = (np.asarray(item[k], dtype=np.float32) for k in ("normal_2", "uniform_2"))
        box = np.asarray(item["box"], dtype=np.float32)
        found = jitter_box(box, normal, uniform, item["scale_jitter"], item["center_jitter"])
        case.check(found, item["jittered_box"], "jitter")
    for item in case.data["clip_box"]:
        clipped = clip_box(item["box"], item["height"], item["width"], item["margin"])
        case.check(clipped, item["out"], "clip_box")
        size = torch.tensor([[item["height"], item["width"]]], dtype=torch.float64)
        batched = clip_boxes(torch.tensor([item["box"]], dtype=torch.float64), size, item["margin"])
        assert batched[0].tolist() == list(clipped)
