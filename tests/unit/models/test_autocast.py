"""What half precision is too coarse or too small for is computed in float32 under autocast, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lib.models.fusion import channel_attention
from lib.models.heads import CornerHead
from lib.models.layers import template_attention


def expected_corners() -> Tensor:
    torch.manual_seed(0)
    head = CornerHead(4, 8).eval()
    logits = 3 * torch.randn(2, 2, 16, 16)
    head.corner_logits = lambda feature: logits  # type: ignore[method-assign]
    return head(torch.zeros(2, 4, 16, 16)).boxes


def attention_over_channels() -> Tensor:
    """Sums over 961 places beyond the range of half precision."""
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 961) + 10 * torch.tensor([1.0, 1.001, 1.002, 1.003])[:, None]
    return channel_attention(maps)


def attention_of_templates() -> Tensor:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 20, 8)
    return template_attention(q, k, 4, None, torch.tensor([[True, False, True, True]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compute", [expected_corners, attention_over_channels, attention_of_templates])
def test_autocast_changes_nothing(compute: Callable[[], Tensor], dtype: torch.dtype) -> None:
    with torch.no_grad():
        exact = compute()
        with torch.autocast("cpu", dtype=dtype):
            found = compute()
    assert torch.isfinite(exact).all()
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)
