"""SiamAttn written down plainly: layer by layer, a mask in every frame as published; boxes are decoded on the host."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from plain_siamrpnpp import GRID, LEVELS, SIDE, PlainSiamRPN
from torch import Tensor
from torch.nn import functional as F

SAMPLES, REACH = 4, 0.1


def plain_roi_pool(
    features: Tensor, rows: Tensor, rois_xyxy: Tensor, size: int, scale: float, offsets: Tensor | None = None
) -> Tensor:
    """Deformable RoI pooling that gathers every sample of every bin: [N, C, size, size, 4, 4], then their mean."""
    height, width = features.shape[-2:]
    corners = torch.sign(rois_xyxy) * torch.floor(rois_xyxy.abs() + 0.5)
    low = corners[:, :2] * scale - 0.5
    sides = ((corners[:, 2:] + 1) * scale - 0.5 - low).clamp(min=0.1)
    bins, steps = torch.arange(size), torch.arange(SAMPLES) / SAMPLES
    places = []
    for axis in (0, 1):
        length = sides[:, axis, None, None] / size
        start = low[:, axis, None, None] + (bins[None, :] if axis == 0 else bins[:, None]) * length
        if offsets is not None:
            start = start + offsets[:, axis] * REACH * sides[:, axis, None, None]
        places.append(start.expand(-1, size, size)[..., None] + length[..., None] * steps)
    x, y = (p for p in (places[0][..., None, :], places[1][..., :, None]))
    x, y = torch.broadcast_tensors(x, y)
    counted = ((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).to(features)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top, right, bottom = (p.detach() for p in (x.floor(), y.floor(), x.ceil(), y.ceil()))
    across, down = x - left, y - top

    def cell(column: Tensor, line: Tensor) -> Tensor:
        return features[rows[:, None, None, None, None], :, line.long(), column.long()]

    samples = cell(left, top) * ((1 - across) * (1 - down))[..., None]
    samples = samples + cell(right, top) * (across * (1 - down))[..., None]
    samples = samples + cell(left, bottom) * ((1 - across) * down)[..., None]
    samples = samples + cell(right, bottom) * (across * down)[..., None]
    weight = counted / counted.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    return (samples * weight[..., None]).sum(dim=(3, 4)).permute(0, 3, 1, 2)


class PlainSiamAttn(PlainSiamRPN):
    """Functions of a state dict with published names, in eval mode; masks: drawn, and thrown away."""

    penalty_k, influence, masks = 0.1, 0.25, True

    def position(self, x: Tensor, name: str) -> Tensor:
        q, k, v = (self.conv(x, f"{name}.{part}_conv").flatten(2) for part in ("query", "key", "value"))
        attention = (q.transpose(1, 2) @ k).softmax(dim=-1)
        return self.state[f"{name}.gamma"] * (v @ attention.transpose(1, 2)).view_as(x) + x

    def use(self, x: Tensor, attention: Tensor, name: str) -> Tensor:
        return self.state[f"{name}.gamma"] * (attention @ x.flatten(2)).view_as(x) + x

    def enhanced(self, template: list[Tensor], search: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        from torchvision.ops import deform_conv2d

        both: tuple[list[Tensor], list[Tensor]] = ([], [])
        for i in range(len(LEVELS)):
            maps, attentions = (template[i], search[i]), []
            for x in maps:
                gram = x.flatten(2) @ x.flatten(2).transpose(1, 2)
                attentions.append((gram.amax(dim=-1, keepdim=True) - gram).softmax(dim=-1))
            for k in (0, 1):
                x, name = maps[k], f"feature_enhance.deform_convs.{i}"
                seen = self.position(x, f"feature_enhance.pams.{i}")
                for attention in (attentions[k], attentions[1 - k]):
                    seen = seen + self.use(x, attention, f"feature_enhance.cam_uses.{i}")
                offsets = self.conv(seen, f"{name}.conv_offset", padding=1)
                both[k].append(deform_conv2d(seen, offsets, self.state[f"{name}.weight"], padding=1))
        return both

    def pooled(self, features: Tensor, rois: Tensor, name: str, size: int, scale: float) -> Tensor:
        where = torch.arange(len(rois)), rois, size, scale
        x = plain_roi_pool(features, *where).flatten(1)
        for layer in ("0", "2", "4"):
            x = F.linear(F.relu(x) if layer != "0" else x, *self.linear(f"{name}.offset_fc.{layer}"))
        return plain_roi_pool(features, *where, x.view(-1, 2, size, size))

    def linear(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def fused(self, template: list[Tensor], search: list[Tensor]) -> Tensor:
        total = torch.zeros(())
        for i, (z, x) in enumerate(zip(template, search, strict=True)):
            total = total + self.fuse(self.branch(z, x, f"feature_fusion.xcorr.{i}"), f"feature_fusion.convs.{i}")
        return total

    def locate(self, template: list[Tensor], picture: Tensor, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """cx, cy, w, h of each row's refined box, in crop pixels from the middle; sizes [B, 2] of the last boxes."""
        maps = self.maps(picture)
        zs, xs = self.enhanced(template, maps[2:])
        cls, loc = self.scored(zs, xs)
        boxes = torch.from_numpy(self.choose(cls, loc, sizes)).float()
        centres = (boxes[:, :2] + SIDE / 2).clamp(0, SIDE)
        extents = boxes[:, 2:].clamp(10, SIDE)
        rois = torch.cat([centres - extents / 2 + 0.5, centres + extents / 2 - 0.5], dim=1)
        x = self.pooled(self.fused(zs, xs), rois, "refine_head.roi_pool_b", 4, GRID / SIDE).flatten(1)
        for layer in ("0", "2"):
            x = F.relu(F.linear(x, *self.linear(f"refine_head.tail_det.{layer}")))
        changes = F.linear(x, *self.linear("refine_head.tail_det_box")) * torch.tensor([0.1, 0.1, 0.2, 0.2])
        found = torch.cat([centres - SIDE / 2 + changes[:, :2] * extents, extents * changes[:, 2:].exp()], dim=1)
        if self.masks:
            self.draw([*maps[:2], *xs], rois)
        return np.asarray(found.numpy(), dtype=np.float64)

    def fuse(self, x: Tensor, name: str, padding: int = 0) -> Tensor:
        return F.relu(self.norm(self.conv(x, f"{name}.conv", padding=padding), f"{name}.BN256"))

    def draw(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        side = maps[1].shape[-1]
        total = torch.zeros(())
        for i, x in enumerate(maps):
            x = x if i == 1 else F.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)
            total = total + self.fuse(x, f"feature_fusion.lateral_convs.{i}")
        x = self.pooled(total, rois, "mask_head.roi_pool_m", 16, side / SIDE)
        for i in range(4):
            x = self.fuse(x, f"mask_head.convs.{i}", padding=1)
        x = F.relu(F.conv_transpose2d(x, *self.linear("mask_head.upsample"), stride=4))
        return self.conv(x, "mask_head.conv_logits").sigmoid()
