"""Deformable convolution and deformable RoI pooling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.models.layers import DeformConv, DeformRoIPool, FusedDeformConvs, FuseOptions, deform_roi_pool, fuse_module


def test_without_offsets_the_convolution_is_a_plain_one() -> None:
    torch.manual_seed(0)
    layer, x = DeformConv(8), torch.randn(2, 8, 6, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, padding=1))


def test_autocast_computes_and_learns_on_the_cpu() -> None:
    torch.manual_seed(0)
    layer, x = DeformConv(4), torch.randn(1, 4, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(x), rtol=0.02, atol=0.02)
    found.float().sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("pack", [True, False])
def test_the_form_for_inference_gives_the_same(pack: bool) -> None:
    torch.manual_seed(0)
    layer, x = DeformConv(8), torch.randn(2, 8, 6, 5)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    assert float(layer.conv_offset(x).detach().abs().max()) > 5  # beyond the map, too
    fused = fuse_module(layer, FuseOptions(pack=pack))
    torch.testing.assert_close(fused(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [7, 8])
def test_rows_without_numbers_leave_the_others_alone(side: int) -> None:
    torch.manual_seed(0)
    layer, x = DeformConv(8), torch.randn(2, 8, side, side)
    fused = FusedDeformConvs([layer], FuseOptions())
    rois, rows = torch.tensor([[2.0, 3.0, 30.0, 40.0], [torch.nan] * 4]), torch.tensor([1, 1])
    expected, pooled = layer(x), deform_roi_pool(x, rows[:1], rois[:1], 4, 0.2)
    found = deform_roi_pool(x, rows, rois, 4, 0.2)
    assert found[1].isnan().all()
    torch.testing.assert_close(found[:1], pooled)
    x[0] = torch.nan
    for found in (layer(x), fused(x[:, None])[:, 0]):
        assert found[0].isnan().all()
        torch.testing.assert_close(found[1], expected[1])


def pooled_by_loops(maps: Tensor, rows: Tensor, rois: Tensor, size: int, scale: float, offsets: Tensor) -> Tensor:
    """The definition, sample by sample."""
    height, width = maps.shape[-2:]
    out = maps.new_zeros(len(rois), maps.shape[1], size, size)
    for n, roi in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (int(abs(v) + 0.5) * (1 if v >= 0 else -1) for v in roi)
        left, top = x1 * scale - 0.5, y1 * scale - 0.5
        sides = max((x2 + 1) * scale - 0.5 - left, 0.1), max((y2 + 1) * scale - 0.5 - top, 0.1)
        for p in range(size * size):
            row, column = divmod(p, size)
            dx, dy = offsets[n, :, row, column].tolist()
            found = []
            for i in range(16):
                x = left + (column + i % 4 / 4) * sides[0] / size + dx * 0.1 * sides[0]
                y = top + (row + i // 4 / 4) * sides[1] / size + dy * 0.1 * sides[1]
                if -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5:
                    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
                    a, b = int(x), int(y)
                    patch = maps[rows[n], :, b : b + 2, a : a + 2]
                    across = torch.tensor([1 - (x - a), x - a])[: patch.shape[2]].to(maps)
                    down = torch.tensor([1 - (y - b), y - b])[: patch.shape[1]].to(maps)
                    found.append(torch.einsum("chw,h,w->c", patch, down, across))
            if found:
                out[n, :, row, column] = torch.stack(found).mean(dim=0)
    return out


def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    maps, rows = torch.randn(2, 3, 9, 11, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    rois = torch.tensor([[3.5, 10.2, 60.5, 50.0], [-20, -8, 30, 40], [70, 50, 140, 90], [300, 300, 310, 310]])
    return maps, rows, rois.double(), torch.randn(4, 2, 4, 4, dtype=torch.float64)


def test_pooling_agrees_with_the_definition_sample_by_sample() -> None:
    maps, rows, rois, offsets = example()
    found = deform_roi_pool(maps, rows, rois, 4, 0.125, offsets)
    expected = pooled_by_loops(maps, rows, rois, 4, 0.125, offsets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not found[3].any()
    plain = deform_roi_pool(maps, rows, rois, 4, 0.125)
    torch.testing.assert_close(plain, deform_roi_pool(maps, rows, rois, 4, 0.125, torch.zeros_like(offsets)))


@pytest.mark.slow
def test_places_stay_exact_where_features_are_in_half_precision() -> None:
    torch.manual_seed(0)
    maps, rows = torch.randn(2, 3, 63, 63).to(torch.bfloat16), torch.tensor([0, 1, 1, 0])
    rois = torch.tensor([[131.4, 10.2, 190.0, 70.6], [-20, -8, 30, 40], [70.6, 150.5, 140, 230], [201, 3, 254, 254]])
    found, expected = (deform_roi_pool(x, rows, rois, 16, 63 / 255) for x in (maps, maps.float()))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_gradients_of_features_and_offsets() -> None:
    maps, rows, rois, offsets = example()
    maps.requires_grad_()
    # Away from whole cells, where the interpolation has a kink.
    offsets = (offsets / 10 + 0.0137).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m, o: deform_roi_pool(m, rows, rois, 4, 0.125, o), (maps, offsets), atol=1e-4, rtol=1e-3
    )


def test_a_pool_begins_without_offsets_and_rows_do_not_know_each_other() -> None:
    maps, rows, rois, _ = example()
    pool = DeformRoIPool(3, 4, 0.125, 16).double()
    found = pool(maps, rows, rois)
    torch.testing.assert_close(found, deform_roi_pool(maps, rows, rois, 4, 0.125))
    for i in range(len(rois)):
        alone = pool(maps[rows[i] : rows[i] + 1], torch.zeros(1, dtype=torch.int64), rois[i : i + 1])
        torch.testing.assert_close(alone[0], found[i])


@pytest.mark.parametrize("count", [0, 1])
def test_few_or_no_rois(count: int) -> None:
    maps, rows, rois, _ = example()
    assert deform_roi_pool(maps, rows[:count], rois[:count], 4, 0.125).shape == (count, 3, 4, 4)


@pytest.mark.parametrize("with_offsets", [True, False])
def test_pooling_few_rois_at_a_time_has_the_same_gradients(with_offsets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, rows, rois, moved = example()
    gradients = []
    for chunk in (16, 1, 3):
        monkeypatch.setattr("lib.models.layers.deformable.CHUNK", chunk)
        features, offsets = maps.clone().requires_grad_(), moved.clone().requires_grad_() if with_offsets else None
        pooled = deform_roi_pool(features, rows, rois, 4, 0.125, offsets)
        inputs = [features] if offsets is None else [features, offsets]
        weights = torch.linspace(-1, 1, pooled.numel(), dtype=torch.float64).view_as(pooled)
        gradients.append([pooled, *torch.autograd.grad((pooled * weights).sum(), inputs)])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])
