"""JPEG decoders besides OpenCV's: libjpeg-turbo, which gives the same pixels, and the GPU's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
import torch

from lib.data.types import Image

log = logging.getLogger("lib.data")

JpegDecoder = Callable[[bytes], Image]
"""Bytes of a JPEG file -> [H, W, 3] uint8, RGB; raises any error for what it cannot decode."""
_thread_decoder: ContextVar[JpegDecoder | None] = ContextVar("jpeg_decoder", default=None)


def use_jpeg_decoder(decoder: JpegDecoder | None) -> None:
    """Have `decode_image` decode JPEG files by another decoder in the thread that calls this.

    Args:
        decoder: It; None: libjpeg-turbo or OpenCV, as without this call.
    """
    _thread_decoder.set(decoder)


def chosen_jpeg_decoder() -> JpegDecoder | None:
    """The decoder of this thread; None for OpenCV's."""
    return _thread_decoder.get() or _jpeg_backend()[0]


def jpeg_decoder_name() -> str:
    """The usual JPEG decoder of this machine and the reason, in one line."""
    return _jpeg_backend()[1]


def gpu_jpeg_decoder(device: torch.device) -> JpegDecoder:
    """nvJPEG, through torchvision, whose pictures come back to the processor, where frames are.

    Its pixels may differ from OpenCV's by a few levels. Threads may share it: each decodes on a stream of its own and
    does not wait for the kernels of a tracker.

    Args:
        device: The GPU.

    Returns:
        A decoder that raises RuntimeError for what the GPU cannot decode.

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


@lru_cache(maxsize=1)
def _jpeg_backend() -> tuple[JpegDecoder | None, str]:
    """(decoder, reason), the decoder None where OpenCV is used. jpeg4py has to prove that its pixels are OpenCV's."""
    try:
        from jpeg4py import JPEG, _cffi

        _cffi.initialize()
    except ImportError:
        return None, "OpenCV (jpeg4py is not installed)"
    except OSError as error:
        return None, f"OpenCV (jpeg4py is installed, its system library is not: {error})"

    def turbo(data: bytes) -> Image:
        return cast(Image, JPEG(np.frombuffer(data, np.uint8)).decode())

    # small JPEGs over which two decoders would disagree if they ever do: colour subsampling, odd sizes, grey
    y, x = np.mgrid[0:61, 0:83]
    ramp = np.stack([x * 3 % 256, (x * y) % 256, (255 - 4 * y) % 256], axis=2).astype(np.uint8)
    probes: list[bytes] = []
    for picture in (ramp, ramp[..., 1]):
        for factor in (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444):
            options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
            probes.append(cv2.imencode(".jpg", picture, options)[1].tobytes())
    try:
        usual = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) for data in probes]
        same = all(map(np.array_equal, map(turbo, probes), cast(list[Image], usual)))
    except Exception as error:  # a binding that fails on a plain JPEG is not to be used, whatever it raised
        log.warning("jpeg4py fails on a plain JPEG (%s); pictures are decoded with OpenCV", error)
        return None, f"OpenCV (jpeg4py fails: {error})"
    if not same:
        log.warning("jpeg4py gives other pixels than OpenCV on this machine; pictures are decoded with OpenCV")
        return None, "OpenCV (jpeg4py gives other pixels here)"
    return turbo, "jpeg4py (libjpeg-turbo; the same pixels as OpenCV)"
