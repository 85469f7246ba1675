"""RGB and a second picture as one frame.

The recipes are those of the published RGB-D, RGB-T and RGB-E trackers (ViPT, CVPR 2023; SDSTrack, CVPR 2024), under
their names: ``rgbrgb`` for thermal and event pictures, ``rgbcolormap`` for depth, and so on. For parity with them the
depth colour map stays in OpenCV's channel order (blue first) behind an RGB picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data.io import DecodeError, decode_depth, decode_image
from lib.data.store import Store
from lib.data.types import Frame, Image, Levels

DepthStyle = Literal["colormap", "3x"]
AuxKind = Literal["picture", "depth"]
MAX_CLIP_MM = 10000


def clip_depth(depth: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Limit depth to min(3 x median, 10 m), truncated; missing pixels (zeros) count in the median.

    Args:
        depth: [H, W] millimetres.

    Returns:
        [H, W] millimetres, a copy.
    """
    # np.median without its search for NaN, ten times as fast
    half = depth.size // 2
    sorted_at_half = np.partition(depth, half, axis=None)
    upper = int(sorted_at_half[half])
    median = float(upper) if depth.size % 2 else (int(sorted_at_half[:half].max()) + upper) / 2
    limit = int(min(median * 3, MAX_CLIP_MM))
    return np.asarray(cv2.min(depth, cast(Any, limit)), dtype=np.uint16)


def depth_to_picture(depth: NDArray[np.uint16], clip: bool = True, style: DepthStyle = "colormap") -> Image:
    """A depth map as a colour picture [H, W, 3] uint8; see `depth_to_levels`."""
    return depth_to_levels(depth, clip, style).picture()


def depth_to_levels(depth: NDArray[np.uint16], clip: bool = True, style: DepthStyle = "colormap") -> Levels:
    """A depth map as a picture whose colours are still to be looked up.

    The map is stretched so that its smallest value is level 0 and its largest 255. Clipping and stretching need the
    whole map, colours do not: a crop's pixels are the same either way.

    Args:
        depth: [H, W] millimetres.
        clip: Limit far values first, as training and testing on DepthTrack and VOT-RGBD do.
        style: "colormap" for OpenCV's JET (near is blue) in OpenCV's own BGR order, "3x" for the grey picture three
            times.
    """
    clipped = clip_depth(depth) if clip else depth
    stretched = cv2.normalize(clipped, cast(Any, None), alpha=0, beta=255, norm_type=cv2.NORM_MINMAX)
    return Levels(stretched.astype(np.uint8), colour_table(style))


@cache
def colour_table(style: DepthStyle) -> Image:
    """[256, 3] uint8: the colour of each depth level."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    if style == "colormap":
        return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET), dtype=np.uint8).reshape(256, 3)
    return np.repeat(levels, 3, axis=1)


@dataclass(frozen=True)
class AuxRecipe:
    """Decoding of the second file of a frame.

    Attributes:
        kind: "picture" (thermal, events: read as colour) or "depth" (16 bit, made a picture by `depth_to_levels`).
        clip, style: See `depth_to_levels`.
    """

    kind: AuxKind = "picture"
    clip: bool = True
    style: DepthStyle = "colormap"

    def decode(self, data: bytes, name: str) -> Image | Levels:
        """Decode the file.

        Args:
            data: Its bytes.
            name: File or store key, for messages.

        Returns:
            [H, W, 3] uint8, or levels that stand for it.

        Raises:
            DecodeError: The file is damaged.
        """
        if self.kind == "picture":
            return decode_image(data, name)
        return depth_to_levels(decode_depth(data, name), self.clip, self.style)


def as_read(frame: Frame) -> Frame:
    """The frame as it is."""
    return frame


def rgb_alone(frame: Frame) -> Frame:
    """The frame without its second picture, for methods that read RGB alone."""
    return frame if frame.second is None else Frame(frame.rgb)


def doubled(frame: Frame) -> Frame:
    """An RGB frame that shows its picture as the second modality too; an RGB+X frame as it is."""
    return Frame(frame.rgb, frame.rgb) if frame.second is None else frame


def read_frame(store: Store, rgb_key: str, aux_key: str | None = None, recipe: AuxRecipe | None = None) -> Frame:
    """Read one frame from a store.

    Args:
        store: Where the files are.
        rgb_key: Of the RGB picture.
        aux_key: Of the second picture, or None.
        recipe: Decoding of the second picture; None reads it as a colour picture.

    Raises:
        FileNotFoundError: A file is missing.
        DecodeError: A file is damaged, or the two sizes differ.
    """
    rgb = decode_image(store.read(rgb_key), store.describe(rgb_key))
    if aux_key is None:
        return Frame(rgb)
    aux = (recipe or AuxRecipe()).decode(store.read(aux_key), store.describe(aux_key))
    if aux.shape[:2] != rgb.shape[:2]:
        sizes = f"{aux.shape[1]} x {aux.shape[0]}, but {store.describe(rgb_key)} is {rgb.shape[1]} x {rgb.shape[0]}"
        raise DecodeError(f"{store.describe(aux_key)} is {sizes}")
    return Frame(rgb, aux)
