"""Soft masks of template tokens."""

from __future__ import annotations

import pytest
import torch

from lib.data import soft_masks, soft_masks_of_targets


def drawn(first: tuple[int, int], last: tuple[int, int], size: int, stride: int) -> torch.Tensor:
    """The published rule: a map of pixels, filled by slices, averaged over the tokens."""
    pixels = torch.zeros(size, size)
    pixels[first[1] : last[1], first[0] : last[0]] = 1
    return torch.nn.functional.avg_pool2d(pixels[None, None], stride).flatten()


@pytest.mark.parametrize(("size", "stride"), [(128, 16), (64, 16), (96, 8)])
def test_same_as_a_drawn_map_wherever_the_box_lies(size: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(size)
    boxes = torch.rand(300, 4, generator=generator)
    boxes = boxes * torch.tensor([2.4, 2.4, 1.6, 1.6]) - torch.tensor([1.2, 1.2, 0.0, 0.0])
    for box, mask in zip(boxes * size, soft_masks(boxes, size, stride), strict=True):
        x, y, w, h = box
        assert torch.equal(mask, drawn((int(x), int(y)), (int(x + w - 1), int(y + h - 1)), size, stride))


def test_masks_of_targets_are_those_of_the_box_in_the_middle_of_the_crop() -> None:
    generator = torch.Generator().manual_seed(1)
    sizes = torch.rand(200, 2, generator=generator, dtype=torch.float64) * 150 + 0.5
    resize = torch.rand(200, generator=generator, dtype=torch.float64) * 3
    for (w, h), factor, mask in zip(
        sizes.tolist(), resize.tolist(), soft_masks_of_targets(sizes, resize, 128), strict=True
    ):
        width, height = int(w * factor), int(h * factor)
        x, y = int(64 - 0.5 * width), int(64 - 0.5 * height)
        assert torch.equal(mask, drawn((x, y), (x + width - 1, y + height - 1), 128, 16))


def test_shape_and_type() -> None:
    mask = soft_masks(torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 3, dtype=torch.float64), 128)
    assert mask.shape == (3, 64)
    assert mask.dtype == torch.float32
    # 127 of 128 pixels: the last column and row are left out
    assert mask[0, 0] == 1
    assert mask[0, 7] == 15 / 16
    assert mask[0, 63] == (15 / 16) ** 2


def test_a_crop_that_tokens_do_not_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="100 pixels cannot be divided into tokens of 16"):
        soft_masks(torch.zeros(1, 4), 100)
