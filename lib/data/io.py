"""Decoding of picture and annotation files into arrays.

A broken file is an error that names it; `BrokenFiles` counts them.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data.jpeg import chosen_jpeg_decoder
from lib.data.types import Boxes, Image
from lib.files import sentence
from lib.registry import listed

log = logging.getLogger("lib.data")

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_START_OF_SCAN = 0xDA
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+(?:(?:[ \t]*;[ \t]*|[ \t]+)-?\d+,\d+){3}[; \t]*$", re.MULTILINE)
_EMPTY_FIELD = re.compile(r"[,;][ \t]*[,;]|^[ \t]*[,;]|\t *\t(?!\s)")
_TABLE = b"0123456789+-.eE,; \t\nnaNifINFA"
"""Characters of a table of numbers."""
_MARKERS_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class DecodeError(ValueError):
    """A picture file that is empty, cut short, damaged, or no picture at all."""


class AnnotationError(ValueError):
    """An annotation file that cannot be understood; the message names the file, and the line where there is one."""


def decode_image(data: bytes, name: str) -> Image:
    """Decode a colour picture (JPEG, PNG, BMP, ...); the orientation tag of a camera is followed, as OpenCV does.

    More than 8 bits per channel are stretched to 0..255, see `stretch`.

    Args:
        data: Bytes of the file.
        name: File or store key, for messages.

    Returns:
        [H, W, 3] uint8 in RGB order; grey becomes three equal channels.

    Raises:
        DecodeError: The file is empty, cut short or damaged.
    """
    check_complete(data, name)
    decode = chosen_jpeg_decoder() if data.startswith(JPEG_START) else None
    # OpenCV applies the rotation of a camera's tags, other decoders do not
    if decode is not None and data.find(b"Exif\0\0", 0, 65536) < 0:
        try:
            return decode(data)
        except Exception:  # OpenCV decides about what the other one refuses (CMYK, odd subsampling)
            log.debug("%s: the JPEG decoder cannot read it; OpenCV decides", name)
    return _opencv_rgb(data, name)


def verify_picture(data: bytes, name: str) -> None:
    """Check a picture. JPEG, PNG and BMP are checked at their end, without decoding; anything else has to decode.

    Args:
        data: Bytes of the file.
        name: File or store key, for messages.

    Raises:
        DecodeError: The file is empty, cut short or no picture at all.
    """
    check_complete(data, name)
    if not data.startswith((JPEG_START, PNG_START, b"BM")):
        decode_image(data, name)


def decode_depth(data: bytes, name: str) -> NDArray[np.uint16]:
    """Decode a one-channel picture.

    Args:
        data: Bytes of the file.
        name: File or store key, for messages.

    Returns:
        [H, W] uint16, values unchanged (8-bit is widened).

    Raises:
        DecodeError: The file is damaged, or has other channels.
    """
    check_complete(data, name)
    picture = _imdecode(data, cv2.IMREAD_UNCHANGED, name)
    if picture.ndim != 2 or picture.dtype not in (np.uint16, np.uint8):
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        raise DecodeError(f"{name}: expected a depth picture of one 16-bit channel, found {channels} x {picture.dtype}")
    return picture.astype(np.uint16, copy=False)


def parse_boxes(text: str, name: str, columns: int = 4) -> Boxes:
    """Read one box per line; see `number_rows` for the text.

    Args:
        text: Of the file.
        name: Of the file, for messages.
        columns: Numbers per line.

    Returns:
        [N, columns] float64; NaN where the file has it.

    Raises:
        AnnotationError: With file and line, for a wrong column count, an infinite coordinate, or what is no number.
    """
    boxes = regular_table(text)
    if boxes is None or boxes.shape[1] != columns:
        rows = number_rows(text, name)
        for number, row in enumerate(rows, 1):
            if len(row) != columns:
                line = text.lstrip("\ufeff").splitlines()[number - 1]
                problem = f"expected {columns} numbers, found {len(row)}: {line[:80]!r}"
                raise AnnotationError(f"{_line(name, number)}: {problem}")
        boxes = np.array(rows, dtype=np.float64).reshape(-1, columns)
    if np.isinf(boxes).any():
        number = int(np.isinf(boxes).any(axis=1).argmax())
        raise AnnotationError(f"{_line(name, number + 1)}: a coordinate is infinite: {boxes[number].tolist()}")
    return boxes


def parse_numbers(text: str, name: str = "numbers") -> NDArray[np.float64]:
    """Read all numbers of a text, on one line or on many; see `number_rows` for the text.

    Args:
        text: Of the file.
        name: Of the file, for messages.

    Returns:
        [N] float64, finite.

    Raises:
        AnnotationError: With file and line, for what is no finite number.
    """
    rows = number_rows(text, name)
    values = np.array([value for row in rows for value in row], dtype=np.float64)
    if not np.isfinite(values).all():
        number = next(n for n, row in enumerate(rows, 1) if not np.isfinite(row).all())
        raise AnnotationError(f"{name}, line {number}: expected finite numbers, found {rows[number - 1][:8]}")
    return values


def number_rows(text: str, name: str) -> list[list[float]]:
    """Read the numbers of every line.

    Commas, semicolons, tabs or blanks separate; CRLF, empty lines at the end and NaN in any spelling are accepted. What
    Python reads as a number but no other program does (`1_0`, digits of other scripts) is an error, and so are an
    empty field between two separators and an empty line between others: either would shift the numbers behind it. So
    is `1,5;2,5;3,5;4,5`, which can be read in two ways.

    Args:
        text: Of the file.
        name: Of the file, for messages.

    Returns:
        The numbers of each line; lines may differ in length.

    Raises:
        AnnotationError: With file and line.
    """
    table = regular_table(text)
    if table is not None:
        return cast(list[list[float]], table.tolist())
    text = text.lstrip("\ufeff").rstrip()
    blank = text.replace(",", " ").replace(";", " ").splitlines()
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        problem = "an empty field" if _EMPTY_FIELD.search(line) else "" if line.strip() else "an empty line"
        if _DECIMAL_COMMA.search(line):
            problem = "four numbers with decimal commas, or eight; write a decimal point and one kind of separator"
        try:
            rows.append([to_number(word) for word in blank[number - 1].split()])
        except ValueError as error:
            problem = problem or str(error)
        if problem:
            raise AnnotationError(f"{_line(name, number)}: {problem}: {line[:80]!r}")
    return rows


def regular_table(text: str) -> NDArray[np.float64] | None:
    """The numbers of a text whose lines have equally many, in half the time that it takes to read line by line.

    Args:
        text: Of the file.

    Returns:
        [N, D]; None for any other text, and for one that `number_rows` may refuse.
    """
    text = text.lstrip("\ufeff").rstrip().replace("\r\n", "\n")
    if not text or not text.isascii() or text.encode().translate(None, _TABLE) or _is_suspicious(text):
        return None
    try:
        table = np.loadtxt(io.StringIO(text.replace(",", " ").replace(";", " ")), comments=None, ndmin=2)
    except ValueError:
        return None
    return table if len(table) == text.count("\n") + 1 else None  # an empty line makes fewer


def _is_suspicious(text: str) -> bool:
    """True if fields may be empty, or commas decimal, or a number be none outside Python."""
    dense = text.replace(";", ",").replace(" ", "").replace("\t,", ",")
    found = any(sign in f"\n{dense}" for sign in ("_", ",,", "\n,", "\r,", "\t\t"))
    return found or (any(sign in text for sign in "; \t") and _DECIMAL_COMMA.search(text) is not None)


def _line(name: str, number: int) -> str:
    """A line for a message; text that is one line of a file comes with its place as name."""
    return name if re.search(r", line \d+$", name) else f"{name}, line {number}"


def to_number(text: str) -> float:
    """Read a number as other programs do: no underscores between digits, and ASCII only.

    Args:
        text: One word; NaN and infinity count as numbers.

    Raises:
        ValueError: It is no number.
    """
    if not text.isascii() or "_" in text or not text.strip():
        raise ValueError(f"{text!r} is not a number")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def number_array(values: Any, name: str) -> NDArray[np.float64]:
    """Numbers of a JSON file as an array; text that looks like a number is none.

    Args:
        values: Nested lists of one shape.
        name: Of the file, for messages.

    Raises:
        AnnotationError: Something else than numbers is among them, or lists differ in length.
    """
    try:
        array = np.array(values)
    except ValueError:
        raise AnnotationError(f"{name}: expected lists of equally many numbers") from None
    if array.size and array.dtype.kind not in "iuf":
        raise AnnotationError(f"{name}: expected numbers, found text or nothing among them")
    return array.astype(np.float64)


def decode_text(data: bytes, name: str) -> str:
    """Decode the UTF-8 text of an annotation file.

    Args:
        data: Bytes of the file.
        name: Of the file, for messages.

    Raises:
        AnnotationError: The file is binary.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        other = "; save it as UTF-8, not UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        problem = f"not a text file of UTF-8 ({error.reason} at byte {error.start}){other}"
        raise AnnotationError(f"{name}: {problem}") from None
    if "\0" in text:
        raise AnnotationError(f"{name}: not a text file (it contains zero bytes)")
    return text


@contextmanager
def expect_form(where: str, form: str) -> Iterator[None]:
    """A block that reads an annotation file of a known form, whatever the file holds.

    Args:
        where: The file, for messages.
        form: Such as "a COCO annotation file".

    Raises:
        AnnotationError: It has another form.
    """
    try:
        yield
    except AnnotationError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        problem = "it has another structure"
        if isinstance(error, KeyError):
            problem = f"{error} is missing"
        elif isinstance(error, SyntaxError | ValueError):
            problem = f"it may be cut short, or another kind of file: {error}"
        raise AnnotationError(f"{where}: not {form}; {problem}") from None


def stretch(picture: NDArray[Any], name: str) -> Image:
    """Bring a picture of more than 8 bits to 0..255, linearly: its darkest thousandth to 0, its brightest to 255.

    Sensors fill a small part of 16 bits: the upper byte, which OpenCV takes, is nearly the same everywhere.

    Args:
        picture: [H, W] or [H, W, C] of any number type; channels are stretched together.
        name: File or store key, for messages.

    Returns:
        The same shape; all 0 if all values are the same.

    Raises:
        DecodeError: A value is not finite.
    """
    values = picture.astype(np.float64)
    if not np.isfinite(values).all():
        raise DecodeError(f"{name}: the picture has values that are not finite")
    low, high = np.percentile(values, (0.1, 99.9))
    scale = 255 / (high - low) if high > low else 0.0
    return np.clip(np.rint((values - low) * scale), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning, once per process: annotations, for one, are read again whenever the cache has dropped them."""
    log.warning("%s", message)


def _opencv_rgb(data: bytes, name: str) -> Image:
    if data.startswith(JPEG_START):  # red first at once saves a fifth of the time; OpenCV cannot do it for all formats
        return cast(Image, _imdecode(data, cv2.IMREAD_COLOR_RGB, name))
    picture = _imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, name)
    if picture.dtype != np.uint8:
        kind = f"pictures of {picture.dtype}"
        warn_once(f"{kind}: each is stretched so that its values fill 0..255 (docs/data_layouts.md)")
        picture = stretch(picture, name)
    return cast(Image, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture))


def _imdecode(data: bytes, flags: int, name: str) -> NDArray[np.integer[Any]]:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DecodeError(f"{name}: cannot be decoded ({str(error).strip().splitlines()[-1]})") from None
    if picture is None:
        raise DecodeError(f"{name}: not a picture that OpenCV can decode ({len(data)} bytes)")
    return cast(NDArray[np.integer[Any]], picture)


def check_complete(data: bytes, name: str) -> None:
    """Check that a picture file has its end: decoders fill the missing part with grey without an error.

    Args:
        data: Bytes of the file.
        name: File or store key, for messages.

    Raises:
        DecodeError: The file is empty or cut short.
    """
    if not data:
        raise DecodeError(f"{name}: the file is empty")
    complete = True
    if data.startswith(JPEG_START):
        complete = data.endswith(JPEG_END) or data.find(JPEG_END, _first_scan(data)) >= 0
    elif data.startswith(PNG_START):
        complete = data.rfind(PNG_END) >= 0
    elif data.startswith(b"BM"):
        complete = len(data) >= 54
        if complete:
            offset, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
            if header >= 40 and compression in (0, 3):
                complete = len(data) >= offset + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    if not complete:
        raise DecodeError(f"{name}: the picture is cut short ({len(data)} bytes)")


def _first_scan(data: bytes) -> int:
    """Offset of a JPEG's compressed data; a segment before it (a thumbnail) may have an end marker of its own."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return at
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _MARKERS_WITHOUT_LENGTH:
            at += 2
        elif marker == _START_OF_SCAN:
            return at
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data)


FILE_ERRORS = (OSError, DecodeError, AnnotationError)
"""Errors of readers for a missing or damaged file; anything else is a defect of the code and is not caught."""
MIN_ATTEMPTS = 200
"""Attempts before the share of failures means anything."""
SHOWN = 5
"""Files that a message names."""


class TooManyBadSamplesError(RuntimeError):
    """So many files could not be read that training on the rest would be training on other data."""


@dataclass(frozen=True, slots=True)
class BrokenReport:
    """Attempts of a worker process since its last report.

    Attributes:
        attempts, failures: All of them, and those that an unreadable file made fail.
        messages: One per file that was new to the process.
    """

    attempts: int = 0
    failures: int = 0
    messages: tuple[str, ...] = ()


@dataclass
class BrokenFiles:
    """Counter of attempts to make a sample, and of those that an unreadable file made fail.

    Attributes:
        max_share: Tolerated share of failures, 0..1.
        quiet: Log no warnings; the process that merges the reports logs them.
        messages: The error of each file, in order of appearance, and how often it occurred.
    """

    max_share: float = 0.01
    quiet: bool = False
    attempts: int = 0
    failures: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    _reported: tuple[int, int, int] = (0, 0, 0)

    def count_read(self) -> None:
        """Count an attempt whose files were read."""
        self.attempts += 1

    def count_unreadable(self, error: Exception) -> None:
        """Count an attempt whose file could not be read.

        Raises:
            TooManyBadSamplesError: The share of failures is larger than tolerated.
        """
        self.merge(BrokenReport(1, 1, (sentence(error) or type(error).__name__,)))

    def take_report(self) -> BrokenReport:
        """The changes since the last call."""
        attempts, failures, messages = self._reported
        self._reported = (self.attempts, self.failures, len(self.messages))
        fresh = tuple(self.messages)[messages:]
        return BrokenReport(self.attempts - attempts, self.failures - failures, fresh)

    def merge(self, report: BrokenReport) -> None:
        """Add the report of a worker process.

        Raises:
            TooManyBadSamplesError: The share of failures is larger than tolerated.
        """
        self.attempts += report.attempts
        self.failures += report.failures
        for message in report.messages:
            if message not in self.messages and not self.quiet:
                log.warning("left out: %s", message)
            self.messages[message] = self.messages.get(message, 0) + 1
        too_many = self.attempts >= MIN_ATTEMPTS and self.failures > self.max_share * self.attempts
        if report.failures and too_many:
            raise TooManyBadSamplesError(
                f"{self.failures} of {self.attempts} samples could not be read, more than "
                f"TRAIN.MAX_BAD_SAMPLES {self.max_share:g} allows: {listed(list(self.messages), SHOWN, '; ')}"
            )
