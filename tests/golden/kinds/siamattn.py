"""SiamAttn: deformable operators, proposals and their targets, forward pass, tracker, training, sequence-level step."""

from __future__ import annotations

from typing import Any

import torch
from golden import Case, runner

from lib.models.layers import deform_conv, deform_roi_pool


def gradient_tolerance(case: Case, stored: Any) -> dict[str, float]:
    """Of gradients and updates, which are small numbers."""
    rule = case.data["gradient_tolerance"]
    scale = max(abs(v) for v in stored["values"])
    return {"rtol": rule["rtol"], "atol": rule["atol_times_scale"] * scale}


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
    for i, part in enumerate(case.data["cases"]):
        data, offset = (torch.from_numpy(case.draw(part["inputs"][k])).requires_grad_() for k in ("data", "offset"))
        size, scale = part["out_size"], part["spatial_scale"]
        plain = deform_roi_pool(data, rows, boxes, size, scale)
        y = deform_roi_pool(data, rows, boxes, size, scale, offset)
        y.backward(torch.from_numpy(case.draw(part["inputs"]["grad_out"])))
        named = {"y_no_offset": plain, "y": y, "grad_data": data.grad, "grad_offset": offset.grad}
        stored = {k: v for k, v in part.items() if k in named}
        check_all(case, named, stored, f"part {i} ")
