"""Losses of a student's features against its teacher's (LoReTrack, arXiv 2405.17660); no network in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def channel_kl(student: Tensor, teacher: Tensor, temperature: float, dim: int = 1) -> Tensor:
    """T^2 * KL(teacher || student) of the distributions over channels, in float32.

    Args:
        student, teacher: Of the same shape.
        temperature: T, by which both are divided before the softmax.
        dim: The channels; it is summed away.
    """
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=dim)
    log_student = F.log_softmax(student.float() / temperature, dim=dim)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=dim) * temperature**2


def resize_map(maps: Tensor, size: int) -> Tensor:
    """Maps of another size: bilinear, half-pixel centres, no antialias.

    Args:
        maps: [B, C, h, w].
        size: Side of the new maps in cells.

    Returns:
        [B, C, size, size]; `maps` itself where it has that size.
    """
    if maps.shape[-2:] == (size, size):
        return maps
    return F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)


def search_map(tokens: Tensor, grid: int) -> Tensor:
    """Search tokens as a map.

    Args:
        tokens: [B, N, C], the search region's last, row-major.
        grid: Side of the search region in tokens.

    Returns:
        [B, C, grid, grid].
    """
    return tokens[:, -grid * grid :].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)


def qkv_kd(student: Tensor, teacher: Tensor, student_grid: int, teacher_grid: int, temperature: float = 4.0) -> Tensor:
    """Global view (QKV-KD): queries, keys and values of the search tokens, each its own distribution over channels.

    Args:
        student, teacher: [B, N, 3C], output of a block's qkv projection, before the scale of the queries; heads merged,
            search tokens last. The student's map is resized to the teacher's grid.
        student_grid, teacher_grid: Sides of the search regions in tokens.
        temperature: See `channel_kl`.

    Returns:
        Sum over positions, divided by B.
    """
    student_map = resize_map(search_map(student, student_grid), teacher_grid)
    teacher_map = search_map(teacher, teacher_grid)
    student_qkv, teacher_qkv = (maps.unflatten(1, (3, -1)) for maps in (student_map, teacher_map))
    return channel_kl(student_qkv, teacher_qkv, temperature, dim=2).sum() / len(student)


@torch.no_grad()
def saliency(feature: Tensor) -> Tensor:
    """Mean square over channels: feature map [B, C, g, g] -> [B, g, g] float32."""
    return feature.float().square().mean(dim=1)


def disc_kd(
    student: Tensor,
    teacher: Tensor,
    saliency_threshold: float = 0.2,
    foreground_weight: float = 0.6,
    background_weight: float = 0.4,
    temperature: float = 4.0,
) -> Tensor:
    """Target-aware view (Disc-KD): search feature maps, weighted by the teacher's saliency.

    Published as two passes over masked maps; a masked position is zero on both sides and adds nothing, so one pass is
    the same.

    Args:
        student, teacher: [B, C, g, g]; the student's map is resized to the teacher's.
        saliency_threshold: Positions whose saliency in the teacher reaches it are foreground.
        foreground_weight, background_weight: Of the positions.
        temperature: See `channel_kl`.

    Returns:
        Weighted sum over positions, divided by B.
    """
    divergence = channel_kl(resize_map(student, teacher.shape[-1]), teacher, temperature)
    weights = torch.where(saliency(teacher) >= saliency_threshold, foreground_weight, background_weight)
    return (divergence * weights).sum() / len(student)
