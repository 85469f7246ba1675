"""Boxes to begin a refinement with, and the best of those it ends with (ATOM, CVPR 2019, sec. 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.ranges import Count, CountOrNone, NotNegative, Positive


@dataclass(frozen=True)
class BoxRules:
    """Refinement of boxes by gradient ascent on their scores; TrDiMP's values.

    Attributes:
        box_refinement_iter, box_refinement_step_length: Of the ascent.
        box_refinement_step_decay: Factor of the step length after each step.
        num_init_random_boxes: Random boxes besides the given one.
        box_jitter_pos, box_jitter_sz: Range of their places and sizes, in units of the given box's mean side.
        iounet_k: Best boxes whose mean is the result.
        maximal_aspect_ratio: Boxes that are longer are left out.
    """

    box_refinement_iter: Count = 10
    box_refinement_step_length: NotNegative = 2.5e-3
    box_refinement_step_decay: Positive = 1.0
    num_init_random_boxes: CountOrNone = 9
    box_jitter_pos: NotNegative = 0.1
    box_jitter_sz: NotNegative = 0.5
    iounet_k: Count = 3
    maximal_aspect_ratio: Positive = 6.0

    def starts(self, boxes_xywh: Tensor, uniform: Tensor) -> Tensor:
        """The given boxes, and random ones around them.

        Args:
            boxes_xywh: [B, 4].
            uniform: [B or 1, num_init_random_boxes, 4] random numbers in 0..1.

        Returns:
            [B, 1 + num_init_random_boxes, 4].
        """
        place, size = boxes_xywh[:, None, :2], boxes_xywh[:, None, 2:]
        spread = uniform.new_tensor([self.box_jitter_pos] * 2 + [self.box_jitter_sz] * 2)
        moved = (uniform - 0.5) * size.prod(dim=2, keepdim=True).sqrt() * spread
        extent = torch.maximum(size + moved[..., 2:], size.amin(dim=2, keepdim=True) / 3)
        around = torch.cat([place + size / 2 + moved[..., :2] - extent / 2, extent], dim=2)
        return torch.cat([boxes_xywh[:, None], around], dim=1)

    def choose(self, boxes_xywh: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the best boxes.

        Args:
            boxes_xywh: [B, R, 4].
            scores: [B, R].

        Returns:
            [B, 4], and [B] bool: there was a finite box of a usable shape.
        """
        boxes = torch.cat([boxes_xywh[..., :2], boxes_xywh[..., 2:].clamp(min=1)], dim=2)
        ratio = boxes[..., 2] / boxes[..., 3]
        usable = (ratio < self.maximal_aspect_ratio) & (ratio > 1 / self.maximal_aspect_ratio)
        usable &= boxes.isfinite().all(dim=2) & scores.isfinite()
        best = scores.masked_fill(~usable, -torch.inf).topk(min(self.iounet_k, scores.shape[1]), dim=1).indices
        counted = usable.gather(1, best)
        chosen = boxes.gather(1, best[..., None].expand(-1, -1, 4)).masked_fill(~counted[..., None], 0.0)
        return chosen.sum(dim=1) / counted.sum(dim=1, keepdim=True).clamp(min=1), counted.any(dim=1)
