"""What a student loses against its teacher: KL divergence over channels, position by position (LoReTrack).

LoReTrack: Efficient and Accurate Low-Resolution Transformer Tracking (Dong et al., arXiv 2405.17660), after Hinton's
distillation with temperature. Sums run over positions and are divided by the batch alone, as published, so a value
grows with the teacher's grid.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def channel_kl(student: Tensor, teacher: Tensor, temperature: float, dim: int = 1) -> Tensor:
    """T^2 * KL(teacher || student) at every position, in float32; `dim` (the channels) is summed away."""
    expected = F.log_softmax(teacher.float() / temperature, dim=dim)
    found = F.log_softmax(student.float() / temperature, dim=dim)
    return F.kl_div(found, expected, reduction="none", log_target=True).sum(dim=dim) * temperature**2


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum of `channel_kl` over all positions of [B, C, ...] maps, divided by B."""
    return channel_kl(student, teacher, temperature).sum() / len(student)


def resize_map(maps: Tensor, size: int) -> Tensor:
    """[B, C, h, w] -> [B, C, size, size]: bilinear, half-pixel centres, no antialias; untouched where it fits."""
    if maps.shape[-2:] == (size, size):
        return maps
    return F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)


def search_map(tokens: Tensor, grid: int) -> Tensor:
    """The last grid^2 of the tokens [B, N, C] (the search region's, row-major) as a map [B, C, grid, grid]."""
    return tokens[:, -grid * grid :].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)


def qkv_kd(student: Tensor, teacher: Tensor, student_grid: int, teacher_grid: int, temperature: float = 4.0) -> Tensor:
    """Global view (QKV-KD): queries, keys and values of the search tokens, each its own distribution over channels.

    student, teacher: [B, N, 3C], what a block's qkv projection gives (before the scale of the queries), heads merged,
    search tokens last. The student's map is resized to the teacher's grid.
    """
    found = resize_map(search_map(student, student_grid), teacher_grid)
    expected = search_map(teacher, teacher_grid)
    shape = (3, expected.shape[1] // 3)
    return channel_kl(found.unflatten(1, shape), expected.unflatten(1, shape), temperature, dim=2).sum() / len(student)


@torch.no_grad()
def saliency(feature: Tensor) -> Tensor:
    """Mean square over channels of a feature map [B, C, g, g] -> [B, g, g]."""
    return feature.float().square().mean(dim=1)


def disc_kd(
    student: Tensor,
    teacher: Tensor,
    saliency_threshold: float = 0.2,
    foreground_weight: float = 0.6,
    background_weight: float = 0.4,
    temperature: float = 4.0,
) -> Tensor:
    """Target-aware view (Disc-KD): search feature maps [B, C, g, g], weighted by where the teacher sees something.

    Positions whose saliency in the teacher reaches `saliency_threshold` weigh `foreground_weight`, the others
    `background_weight`. Published
    as two passes over masked maps; a masked position is zero on both sides and adds nothing, so one pass is the same.
    """
    divergence = channel_kl(resize_map(student, teacher.shape[-1]), teacher, temperature)
    weights = torch.where(saliency(teacher) >= saliency_threshold, foreground_weight, background_weight)
    return (divergence * weights).sum() / len(student)
