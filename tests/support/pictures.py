"""The arrangements of RGB and a second picture that golden cases name (ViPT, CVPR 2023; SDSTrack, CVPR 2024)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data import Frame, Image, depth_to_picture
from synthetic.dataset import three_channels


def merged(frame: Frame) -> Image:
    """The pictures of a frame behind each other, [H, W, 3] or [H, W, 6]."""
    return np.concatenate([p for p in (frame.rgb, frame.aux) if p is not None], axis=2)


def x_frame(rgb: Image, x: NDArray[Any], kind: str, depth_clip: bool = False) -> NDArray[Any]:
    """A frame in one of the published arrangements.

    Args:
        rgb: [H, W, 3] uint8.
        x: The second picture as decoded: [H, W, 3] or [H, W] uint8 in RGB order, or [H, W] uint16 for depth.
        kind: "rgbrgb", "rgbcolormap", "rgb3x" for both pictures, RGB first; "colormap", "3x" for the second picture
            alone; "normalized_x" for the stretched depth; "raw_x" and "color" for one of the two as it is.
        depth_clip: Limit far depth first.

    Returns:
        [H, W, 6] for both pictures, [H, W, 3] for one, [H, W] for "normalized_x".
    """
    if kind not in ("color", "raw_x", "normalized_x", "colormap", "3x", "rgbrgb", "rgbcolormap", "rgb3x"):
        raise ValueError(f"unknown frame arrangement {kind!r}")
    if kind in ("color", "raw_x"):
        return rgb if kind == "color" else x
    if kind == "rgbrgb":
        return merged(Frame(rgb, three_channels(x.astype(np.uint8, copy=False))))
    if kind == "normalized_x":
        return depth_to_picture(x, depth_clip, "3x")[..., 0]
    picture = depth_to_picture(x, depth_clip, "3x" if kind.endswith("3x") else "colormap")
    return merged(Frame(rgb, picture)) if kind.startswith("rgb") else picture
