"""Distillation losses against their definition, written out plainly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lib.models.distillation_losses import channel_kl, disc_kd, qkv_kd, resize_map


def plain_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    return temperature**2 * (p * (p.log() - q.log())).sum() / len(student)


def test_one_weighted_pass_is_the_two_masked_passes() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 8, 3, 3), torch.randn(2, 8, 6, 6) * torch.rand(2, 1, 6, 6)
    enlarged = resize_map(student, 6)
    mask = (teacher.square().mean(dim=1, keepdim=True) >= 0.2).float()
    assert 0 < mask.mean() < 1
    found = disc_kd(student, teacher, 0.2, foreground_weight=0.75, background_weight=0.25, temperature=4.0)
    foreground = plain_kd(enlarged * mask, teacher * mask, 4.0)
    background = plain_kd(enlarged * (1 - mask), teacher * (1 - mask), 4.0)
    torch.testing.assert_close(found, 0.75 * foreground + 0.25 * background)


def test_queries_keys_and_values_are_distributions_of_their_own() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4 + 9, 3 * 8), torch.randn(2, 16 + 36, 3 * 8)
    expected = torch.zeros(())
    for s, t in zip(student[:, -9:].chunk(3, dim=2), teacher[:, -36:].chunk(3, dim=2), strict=True):
        small, large = s.transpose(1, 2).reshape(2, 8, 3, 3), t.transpose(1, 2).reshape(2, 8, 6, 6)
        expected = expected + plain_kd(resize_map(small, 6), large, 4.0)
    torch.testing.assert_close(qkv_kd(student, teacher, 3, 6), expected)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_student_like_its_teacher_loses_nothing(scale: float) -> None:
    teacher = torch.randn(2, 8, 6, 6) * scale
    assert channel_kl(teacher.clone(), teacher, 1.0).sum().item() == pytest.approx(0.0, abs=2e-5)
    assert channel_kl(-teacher, teacher, 1.0).sum() > 1
