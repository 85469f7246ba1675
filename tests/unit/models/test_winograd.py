"""Convolutions in fewer products give what plain ones give."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lib.models.layers import Convolution, FuseOptions, packing_works
from lib.models.layers.winograd import WinogradConvolution, build_convolution


@pytest.mark.parametrize(("rows", "height", "width"), [(1, 31, 31), (2, 9, 14), (3, 5, 5)])
@pytest.mark.parametrize(("dilation", "padding"), [(1, 1), (1, 0), (2, 2), (2, 0), (4, 4)])
@torch.no_grad()
def test_it_gives_the_plain_result(rows: int, height: int, width: int, dilation: int, padding: int) -> None:
    if height <= 2 * (dilation - padding):
        pytest.skip("no output")
    torch.manual_seed(0)
    x = torch.randn(rows, 6, height, width).contiguous(memory_format=torch.channels_last)
    weight, bias, options = torch.randn(5, 6, 3, 3), torch.randn(5), FuseOptions(pack=packing_works(torch.float32))
    expected = F.conv2d(x, weight, bias, padding=padding, dilation=dilation)
    found = WinogradConvolution(weight, bias, options, False, dilation, padding)(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    shortcut = torch.randn_like(expected)
    found = WinogradConvolution(weight, None, options, True, dilation, padding)(x, shortcut)
    torch.testing.assert_close(found, (expected - bias[:, None, None] + shortcut).relu(), rtol=1e-4, atol=1e-4)


def test_large_ones_on_processors_take_this_form() -> None:
    if not packing_works(torch.float32):
        pytest.skip("oneDNN's operators are not there")
    large, small = torch.randn(512, 512, 3, 3), torch.randn(8, 8, 3, 3)
    options = FuseOptions()
    assert isinstance(build_convolution(large, None, options), WinogradConvolution)
    for other in (
        build_convolution(large, None, options, stride=2),
        build_convolution(small, None, options),
        build_convolution(large, None, FuseOptions(pack=False)),
        build_convolution(large[..., :1, :1], None, options),
    ):
        assert isinstance(other, Convolution)
