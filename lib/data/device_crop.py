"""Crops resized on a GPU, to the bit as `cv2.resize` does it on the processor.

Only the pixels that crops show are copied to the device, all of a batch at once; a fixed number of kernels does the
rest, whatever the number of crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data.types import Image
from lib.device import to_device

CHUNK = 64
"""Crops that are resized at once; it bounds the memory."""
UNIT = 2048
"""Weights of the bilinear interpolation are whole multiples of 1 / UNIT."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A square of whole pixels, some of which may be beyond the picture.

    Attributes:
        pixels: [h, w, 3] uint8, what it shows of the picture; of no size if that is nothing.
        top, left: Where that begins, pixels from the square's corner.
        side: Of the square in pixels.
        border: [3] colour of the other pixels; None: black.
    """

    pixels: Image
    top: int
    left: int
    side: int
    border: NDArray[np.uint8] | None = None


def resize_cuts(cuts: Sequence[Cut], size: int, device: torch.device) -> Tensor:
    """Squares resized bilinearly.

    Args:
        cuts: N squares.
        size: Side of the crops in pixels.
        device: Where they are resized.

    Returns:
        [N, 3, size, size] uint8 on the device.
    """
    chunks = [_resize(cuts[i : i + CHUNK], size, device) for i in range(0, len(cuts), CHUNK)]
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def _resize(cuts: Sequence[Cut], size: int, device: torch.device) -> Tensor:
    """`resize_cuts` in one go."""
    pinned = device.type == "cuda"
    heights, widths = (np.array([cut.pixels.shape[i] for cut in cuts]) for i in (0, 1))
    ends = np.cumsum(heights * widths + 1)
    starts = ends - heights * widths - 1
    # The first pixel of each square is that beyond the picture, the others follow row by row.
    staged = torch.empty(int(ends[-1]), 3, dtype=torch.uint8, pin_memory=pinned)
    flat = staged.numpy()
    for cut, start, end in zip(cuts, starts, ends, strict=True):
        flat[start] = 0 if cut.border is None else cut.border
        flat[start + 1 : end].reshape(cut.pixels.shape)[...] = cut.pixels
    sides = np.array([cut.side for cut in cuts])
    columns, column_weights = _taps(sides, size, clipped=True)
    rows, row_weights = _taps(sides, size, clipped=False)
    columns -= np.array([cut.left for cut in cuts])[:, None, None]
    rows -= np.array([cut.top for cut in cuts])[:, None, None]
    columns[(columns < 0) | (columns >= widths[:, None, None])] = -1
    beyond = (rows < 0) | (rows >= heights[:, None, None])
    rows = np.where(beyond, -1, rows * widths[:, None, None])
    first = np.broadcast_to(starts[:, None, None], (len(cuts), 1, size))
    table = np.concatenate([columns, column_weights, rows, row_weights, first], axis=1)
    x, across, y, down, begin = to_device(torch.from_numpy(table), device).split([2, 2, 2, 2, 1], dim=1)
    begin, pixels = begin[..., :1], staged.to(device, non_blocking=True)

    def mixed(i: int) -> Tensor:
        """Line `i` of the two that are mixed, resized along the rows and weighted, [N, size, size, 3]."""
        parts = []
        for j in range(2):
            at_y, at_x = y[:, i, :, None], x[:, j, None]
            place = torch.where((at_y >= 0) & (at_x >= 0), begin + 1 + at_y + at_x, begin)
            parts.append(pixels[place].int() * across[:, j, None, :, None].int())
        return ((parts[0] + parts[1]) >> 4) * down[:, i, :, None, None].int() >> 16

    return ((mixed(0) + mixed(1) + 2) >> 2).to(torch.uint8).permute(0, 3, 1, 2).contiguous()


def _taps(sides: NDArray[np.int64], size: int, clipped: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels that are mixed along one axis, and their weights, both [N, 2, size].

    Args:
        sides: [N] of the squares in pixels.
        size: Of the crops in pixels.
        clipped: Beyond the middle of the outermost pixels one pixel is taken whole, as OpenCV does it along rows.
    """
    scales = 1.0 / (size / sides)
    positions = ((np.arange(size) + 0.5) * scales[:, None] - 0.5).astype(np.float32)
    whole = np.floor(positions)
    low, share = whole.astype(np.int64), positions - whole
    last = sides[:, None] - 1
    if clipped:
        share = np.where((low < 0) | (low >= last), np.float32(0), share)
    places = np.stack([low, low + 1], axis=1).clip(0, last[:, None])
    weights = np.stack([np.float32(1) - share, share], axis=1) * np.float32(UNIT)
    return places, np.rint(weights).astype(np.int64)
