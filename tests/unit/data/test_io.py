"""Broken files must be errors that name the file, and intact ones must come out to the digit."""

from __future__ import annotations

import struct
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from lib.data import (
    AnnotationError,
    DecodeError,
    decode_depth,
    decode_image,
    gpu_jpeg_decoder,
    io,
    jpeg,
    jpeg_decoder_name,
    number_array,
    number_rows,
    parse_boxes,
    parse_numbers,
    regular_table,
    use_jpeg_decoder,
)
from tests.unit.data.trees import picture, pixels_of


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_pictures_come_out_in_rgb_order(suffix: str) -> None:
    np.testing.assert_array_equal(decode_image(picture(1, suffix), "a"), pixels_of(1))


def test_jpeg_has_the_pixels_of_opencv() -> None:
    data = picture(1, ".jpg")
    wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_image(data, "a"), wanted)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_grey_files_become_three_equal_channels(suffix: str) -> None:
    grey = np.full((5, 7), 77, np.uint8)
    found = decode_image(cv2.imencode(suffix, grey)[1].tobytes(), "a")
    assert found.shape == (5, 7, 3)
    assert (found == 77).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_picture_cut_short_is_an_error_that_names_it(suffix: str, share: float) -> None:
    data = picture(1, suffix)
    with pytest.raises(DecodeError, match="seq/0007"):
        decode_image(data[: int(len(data) * share)], "seq/0007")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_padding_behind_a_picture_is_accepted(suffix: str) -> None:
    data = picture(1, suffix)
    np.testing.assert_array_equal(decode_image(data + bytes(100), "a"), decode_image(data, "a"))


def test_a_cut_jpeg_with_a_whole_thumbnail_inside_is_still_cut() -> None:
    thumbnail, data = picture(2, ".jpg", (8, 8)), picture(1, ".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    whole = data[:2] + segment + data[2:]
    np.testing.assert_array_equal(decode_image(whole, "a"), decode_image(data, "a"))
    with pytest.raises(DecodeError, match="cut short"):
        decode_image(whole[:-200], "a")


@pytest.mark.parametrize("data", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"BM"])
def test_what_is_no_picture_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match="seq/0007"):
        decode_image(data, "seq/0007")


def test_depth_keeps_its_16_bits() -> None:
    depth = np.arange(60000, dtype=np.uint16)[:600].reshape(20, 30) * 100
    found = decode_depth(cv2.imencode(".png", depth)[1].tobytes(), "a")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, depth)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_raw_thermal_pictures_are_stretched(suffix: str) -> None:
    raw = np.linspace(7168, 8448, 64 * 80).reshape(64, 80).astype(np.uint16)
    found = decode_image(cv2.imencode(suffix, raw)[1].tobytes(), "t")
    assert (found.shape, found.dtype) == ((64, 80, 3), np.uint8)
    assert (found == found[..., :1]).all()
    assert (int(found.min()), int(found.max()), int(found[32, 0, 0])) == (0, 255, 128)
    raw[0, 0] = 0  # a dead pixel leaves the others as they are
    assert np.abs(decode_image(cv2.imencode(suffix, raw)[1].tobytes(), "t")[1:].astype(int) - found[1:]).max() <= 1
    assert (decode_image(cv2.imencode(suffix, raw * 0 + 7)[1].tobytes(), "t") == 0).all()


def test_colour_pictures_of_16_bits_keep_their_colours() -> None:
    wide = np.zeros((40, 50, 3), np.uint16)
    wide[..., 0] = np.linspace(0, 65535, 50)
    wide[..., 2] = 32768
    found = decode_image(cv2.imencode(".png", wide)[1].tobytes(), "c")
    np.testing.assert_allclose(found, wide[..., ::-1] / 257, atol=1)


def test_a_picture_of_values_that_are_not_finite_is_an_error() -> None:
    values = np.full((4, 4, 3), np.nan, np.float32)
    uncompressed = [cv2.IMWRITE_TIFF_COMPRESSION, 1]  # before 4.13, OpenCV writes float32 as SGI LogLuv, without NaN
    with pytest.raises(DecodeError, match=r"n\.tiff: .*not finite"):
        decode_image(cv2.imencode(".tiff", values, uncompressed)[1].tobytes(), "n.tiff")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_8_bit_pictures_are_not_stretched(suffix: str) -> None:
    grey = np.full((16, 16), 30, np.uint8)
    grey[4:8] = 40
    for pixels in (grey, np.repeat(grey[..., None], 3, axis=2)):
        data = cv2.imencode(suffix, pixels)[1].tobytes()
        wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decode_image(data, "p"), wanted)


def test_a_colour_picture_is_no_depth() -> None:
    with pytest.raises(DecodeError, match=r"d\.png: expected a depth picture of one 16-bit channel, found 3 x uint8"):
        decode_depth(picture(1), "d.png")


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\nnan,nan,nan,nan\n",
        "1\t2\t3\t4\r\nNaN\tNaN\tNaN\tNaN\r\n\r\n\n",
        "1 2  3 4\nNaN, nan,NAN nan",
        "\ufeff1, 2, 3, 4\nnan,nan,nan,nan",
    ],
)
def test_boxes_in_every_spelling(text: str) -> None:
    found = parse_boxes(text, "gt.txt")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[1, 2, 3, 4], [np.nan] * 4])


def test_boxes_keep_all_their_digits() -> None:
    assert parse_boxes("0.1,162.7465,1e2,-3.25", "gt.txt").tolist() == [[0.1, 162.7465, 100.0, -3.25]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1,2,3,4\n1,2,3\n", 2),
        ("1,2,3,4\n1,2,3,4,5\n", 2),
        ("1,2,3,4\n\n1,2,3,4\n", 2),
        ("1,,3,4\n", 1),
        ("1,2,3,4\n1,,2,3,4\n", 2),
        (",1,2,3,4\n", 1),
        ("1\t\t2\t3\t4\n", 1),
        ("1;2;3;4\n1;2; ;3;4\n", 2),
        ("1,2,3,4\n1_0,2,3,4\n", 2),
        ("1,2,3,\u0664\n", 1),
        ("1,2,3,0x4\n", 1),
        ("1,2,3,4\n1,2,3,4\n1,x,3,4", 3),
        ("1,2,3,inf\n", 1),
    ],
)
def test_a_damaged_row_is_named(text: str, line: int) -> None:
    with pytest.raises(AnnotationError, match=rf"gt\.txt, line {line}:"):
        parse_boxes(text, "gt.txt")


def test_no_row_is_an_empty_array() -> None:
    assert parse_boxes("\n\n", "gt.txt").shape == (0, 4)


def test_numbers_on_one_line_or_many() -> None:
    assert parse_numbers("0,1,0\n").tolist() == parse_numbers("0\r\n1\r\n0\r\n\r\n").tolist() == [0, 1, 0]
    for text in ("0\nx\n", "0\n\n1\n", "0\nnan\n", "0\n1_0\n", "0\n1,,0\n"):
        with pytest.raises(AnnotationError, match=r"cover\.label, line 2"):
            parse_numbers(text, "cover.label")


def test_numbers_of_a_json_file_are_no_text() -> None:
    np.testing.assert_array_equal(number_array([[1, 2.5]], "x.json"), [[1, 2.5]])
    with pytest.raises(AnnotationError, match=r"x\.json: expected numbers"):
        number_array([[1, "1_0"]], "x.json")


def fake_jpeg4py(monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    """A jpeg4py whose library loads and whose pixels are OpenCV's plus `shift`."""

    class Jpeg:
        def __init__(self, data: np.ndarray) -> None:
            self.data = data

        def decode(self) -> np.ndarray:
            return cv2.imdecode(self.data, cv2.IMREAD_COLOR)[..., ::-1] + np.uint8(shift)

    module = types.ModuleType("jpeg4py")
    module.JPEG = Jpeg  # type: ignore[attr-defined]
    module._cffi = types.SimpleNamespace(initialize=lambda: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jpeg4py", module)


@pytest.fixture
def fresh_choice() -> object:
    jpeg._jpeg_backend.cache_clear()
    yield
    jpeg._jpeg_backend.cache_clear()


def test_jpeg4py_is_used_when_its_pixels_are_opencvs(monkeypatch: pytest.MonkeyPatch, fresh_choice: object) -> None:
    fake_jpeg4py(monkeypatch, 0)
    assert jpeg_decoder_name().startswith("jpeg4py")
    data = picture(1, ".jpg")
    np.testing.assert_array_equal(decode_image(data, "a"), io._opencv_rgb(data, "a"))


def test_jpeg4py_with_other_pixels_is_not_used(
    monkeypatch: pytest.MonkeyPatch, fresh_choice: object, caplog: pytest.LogCaptureFixture
) -> None:
    fake_jpeg4py(monkeypatch, 1)
    assert jpeg_decoder_name().startswith("OpenCV")
    assert "other pixels" in caplog.text
    data = picture(1, ".jpg")
    np.testing.assert_array_equal(decode_image(data, "a"), io._opencv_rgb(data, "a"))


def test_jpeg4py_without_its_library_is_not_used(monkeypatch: pytest.MonkeyPatch, fresh_choice: object) -> None:
    def initialize() -> None:
        raise OSError("Could not load libjpeg-turbo library")

    fake_jpeg4py(monkeypatch, 0)
    monkeypatch.setattr(sys.modules["jpeg4py"], "_cffi", types.SimpleNamespace(initialize=initialize))
    assert "Could not load" in jpeg_decoder_name()


def test_a_decoder_is_of_its_thread_and_leaves_what_it_cannot_do_to_opencv() -> None:
    data = picture(1, ".jpg")
    rotated = data[:2] + b"\xff\xe1\x00\x08Exif\0\0" + data[2:]

    def black(file: bytes) -> np.ndarray:
        if len(file) != len(data):
            raise RuntimeError("not this one")
        return np.zeros((2, 2, 3), np.uint8)

    with ThreadPoolExecutor(1, "decode", use_jpeg_decoder, (black,)) as pool:
        assert pool.submit(decode_image, data, "a").result().shape == (2, 2, 3)
        for other in (picture(1, ".png"), rotated, data + b"\0"):
            np.testing.assert_array_equal(pool.submit(decode_image, other, "a").result(), decode_image(other, "a"))
    assert decode_image(data, "a").shape != (2, 2, 3)


@pytest.mark.filterwarnings("ignore:The image decoding and encoding")
def test_torchvisions_decoder_gives_nearly_the_pixels_of_opencv() -> None:
    data = picture(1, ".jpg")
    found = gpu_jpeg_decoder(torch.device("cpu"))(data)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - decode_image(data, "a")).max() <= 3


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "  ", ", ", ",\t"])
def test_a_regular_table_is_what_is_read_row_by_row(separator: str, end: str) -> None:
    numbers = [["0.1", "162.7465", "1e2"], ["-3.25", "nan", "+7."], ["NaN", "-0", "inf"]]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in numbers) + end
    table = regular_table(text)
    assert table is not None
    np.testing.assert_array_equal(table, np.array(number_rows(text, "x")), strict=True)
    assert np.signbit(table[2, 1])


@pytest.mark.parametrize(
    "text",
    ["", "\n", "1,2\n3", "1,2\n\n3,4", "1,,2\n3,,4", ",1\n,2", "1_0\n2_0", "1,5;2,5;3,5;4,5", "x\ny", "1\r2",
     "1\f2\n3 4", "0x10\n1", "\u0661\n2", "1 # a\n2 # b", "--1\n2", "1\u20282\n3 4", "nan(1)\n2", '"1"\n"2"'],
)  # fmt: skip
def test_any_other_text_is_left_to_the_reader_of_rows(text: str) -> None:
    assert regular_table(text) is None
