"""Is a picture file whole? A quick look that does not decode what it need not."""

from __future__ import annotations

from lib.data.io import JPEG_START, PNG_START, check_complete, decode_image

BMP_START = b"BM"


def verify_picture(data: bytes, name: str) -> None:
    """Raise `DecodeError`, naming the file, for a picture that is empty, cut short or no picture at all.

    JPEG, PNG and BMP are judged by their end, without decoding; anything else has to decode.
    """
    check_complete(data, name)
    if not data.startswith((JPEG_START, PNG_START, BMP_START)):
        decode_image(data, name)
