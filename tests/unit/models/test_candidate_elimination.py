"""Candidate elimination: which tokens decide, which go, where they come back."""

from __future__ import annotations

import pytest
import torch

from lib.models.backbones import OneStreamViT, ViTOptions
from lib.models.layers import box_rows, center_rows, keep_rate, put_back, template_attention


def small(**settings: object) -> OneStreamViT:
    torch.manual_seed(0)
    options = ViTOptions(32, 3, 2, 16, 128, 160, from_scratch=True, **settings)  # type: ignore[arg-type]
    return OneStreamViT(options).eval()


def test_each_sample_is_ranked_by_its_own_rows() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, 9, 4), torch.randn(2, 2, 9, 4)
    mask = torch.tensor([[True, False, False, False], [True, True, False, True]])
    both = template_attention(q, k, 4, None, mask)
    for i, rows in enumerate(([0], [0, 1, 3])):
        alone = template_attention(q[i : i + 1], k[i : i + 1], 4, rows, None)
        torch.testing.assert_close(both[i : i + 1], alone)


def test_removed_positions_are_zero_and_the_rest_is_where_it_was() -> None:
    torch.manual_seed(0)
    backbone = small(ce_loc=(1,), ce_keep_ratio=(0.5,))
    with torch.no_grad():
        tokens = backbone(torch.randn(2, 3, 128, 128), torch.randn(2, 3, 160, 160))
    (removed,) = tokens.removed
    assert removed.shape == (2, 50)
    zero = tokens.search.abs().amax(dim=2) == 0
    for row in range(2):
        assert zero[row].nonzero().flatten().tolist() == sorted(removed[row].tolist())


def test_rows_of_a_batch_do_not_know_of_each_other() -> None:
    torch.manual_seed(1)
    backbone = small(ce_loc=(0, 2), ce_keep_ratio=(0.7, 0.7), ce_template_range="GT_BOX")
    template, search = torch.randn(3, 3, 128, 128), torch.randn(3, 3, 160, 160)
    boxes = torch.tensor([[30.0, 30.0, 60.0, 70.0], [10.0, 20.0, 100.0, 90.0], [50.0, 50.0, 20.0, 20.0]])
    mask = box_rows(boxes, 128, 16)
    with torch.no_grad():
        together = backbone(template, search, mask).search
        alone = torch.cat([backbone(template[i : i + 1], search[i : i + 1], mask[i : i + 1]).search for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_elimination_without_the_box_it_needs_is_reported() -> None:
    backbone = small(ce_loc=(0,), ce_keep_ratio=(0.7,), ce_template_range="GT_BOX")
    with pytest.raises(ValueError, match="GT_BOX needs the target's box"):
        backbone(torch.randn(1, 3, 128, 128), torch.randn(1, 3, 160, 160))


def test_ranges_that_a_grid_does_not_have_are_reported() -> None:
    with pytest.raises(ValueError, match="CTR_POINT is defined for template grids 7x7, 8x8"):
        center_rows("CTR_POINT", 6)


def test_keep_rate_ends_where_it_should() -> None:
    assert keep_rate(19, 20, 80, 0.7) == 1
    assert keep_rate(60, 20, 80, 0.7) == pytest.approx(0.85)
    assert keep_rate(100, 20, 80, 0.7) == 0.7


def test_put_back() -> None:
    full = put_back(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[3, 0]]), 4)
    assert full.flatten().tolist() == [2, 0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ce_loc": (7,), "ce_keep_ratio": (0.7,)}, "outside 0..2"),
        ({"ce_loc": (1,)}, "one each is expected"),
    ],
)
def test_impossible_settings_are_reported(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings)
