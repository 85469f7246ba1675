"""JPEG files decoded by a GPU (nvJPEG, through torchvision)."""

from __future__ import annotations

from typing import cast

import torch

from lib.data.io import JpegDecoder
from lib.data.types import Image


def gpu_jpeg_decoder(device: torch.device) -> JpegDecoder:
    """A decoder whose pictures come back to the processor, where frames are.

    Its pixels may differ from OpenCV's by a few levels. Threads may share it: each decodes on a stream of its own and
    does not wait for the kernels of a tracker.

    Args:
        device: The GPU.

    Returns:
        Bytes of a JPEG file -> [H, W, 3] uint8, RGB. It raises RuntimeError for what the GPU cannot decode.

    Raises:
        RuntimeError: torchvision has no decoder for JPEG files.
    """
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as error:
        raise RuntimeError(f"a GPU decodes JPEG files through torchvision.io, which has no decoder: {error}") from None

    def decode(data: bytes) -> Image:
        file = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        with torch.cuda.stream(torch.cuda.Stream(device) if device.type == "cuda" else None):
            picture = decode_jpeg(file, ImageReadMode.RGB, device=device)
            return cast(Image, picture.permute(1, 2, 0).contiguous().cpu().numpy())

    return decode
