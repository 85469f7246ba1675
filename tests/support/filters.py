"""Losses of an online filter, which no code outside tests reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.models.online import SteepestDescent, apply_filter


def filter_losses(
    part: SteepestDescent,
    iterates: Sequence[Tensor],
    features: Tensor,
    boxes_xywh: Tensor,
    sample_weights: Tensor | None = None,
) -> Tensor:
    """Loss of every iterate (DiMP, eq. 5), mean over the sequences; arguments as in `SteepestDescent.forward`."""
    label, mask, weight = part._maps(boxes_xywh.to(features.dtype), features.shape[-2:])
    count = features.shape[1]
    weight = weight * (count**-0.5 if sample_weights is None else sample_weights.sqrt()[..., None, None])
    losses = []
    for weights in iterates:
        scores = apply_filter(features, weights)
        slope = (1 - mask) / 2 * scores.sign() + (1 + mask) / 2
        error = (weight * (slope * scores - label)).square().sum()
        losses.append((error + part.filter_reg.square().clamp_min(1e-6) * weights.square().sum()) / len(weights))
    return torch.cat(losses)
