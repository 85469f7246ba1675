"""Frame sources: colours and order are right, broken frames are named, what cannot be opened is an error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import Grab, SourceError, open_source

SIZE = (64, 48)


def picture(i: int) -> np.ndarray:
    """Red on the left, frame number as brightness of the right half; RGB."""
    image = np.full((SIZE[1], SIZE[0], 3), 8 * i, np.uint8)
    image[:, : SIZE[0] // 2] = (255, 0, 0)
    return image


def number_of(grab: Grab) -> int:
    assert grab.frame is not None
    return round(float(grab.frame.rgb[:, SIZE[0] * 3 // 4 :].mean()) / 8)


def write_video(path: Path, frames: int = 12) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE)
    assert writer.isOpened()
    for i in range(frames):
        writer.write(cv2.cvtColor(picture(i), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def damage(path: Path, frame: int) -> None:
    """Zero the picture of one frame inside the AVI."""
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 4) if data[i : i + 4] == b"00dc"]
    start, end = starts[frame] + 8, starts[frame + 1] - 1
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def test_video_file_is_rgb_in_order(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.avi")))
    assert (source.length, source.fps, source.name) == (12, 25, "a")
    grabs = list(source)
    assert [number_of(g) for g in grabs] == [g.index for g in grabs] == list(range(12))
    red = grabs[3].frame.rgb[24, 8].astype(int)
    assert red[0] > 200
    assert red[2] < 60


def test_broken_frame_in_a_video_keeps_its_place(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    damage(path, 5)
    source = open_source(str(path))
    grabs = list(source)
    broken = [g for g in grabs if g.frame is None]
    assert len(broken) == 1
    assert str(path) in broken[0].problem
    assert len(grabs) == 12
    assert all(number_of(g) == g.index for g in grabs[broken[0].index + 1 :])
    assert source.unread == 0


def test_a_cut_video_says_what_is_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    data = path.read_bytes()
    path.write_bytes(data[: [i for i in range(len(data)) if data[i : i + 4] == b"00dc"][7]])
    source = open_source(str(path))
    grabs = list(source)
    assert 2 <= len(grabs) < 12
    assert source.unread == 12 - len(grabs)


def test_a_codec_that_is_not_decoded_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"HFYU"))
    with pytest.raises(
        SourceError, match=r"a\.avi: OpenCV decodes not one frame of it \(codec 'HFYU'\); `ffmpeg -i a\.avi"
    ):
        list(open_source(str(path)))


def test_folder_in_the_order_of_numbers_with_a_broken_picture(tmp_path: Path) -> None:
    for i in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.cvtColor(picture(i), cv2.COLOR_RGB2BGR))
    (tmp_path / "notes.txt").write_text("x")
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    grabs = list(open_source(str(tmp_path)))
    assert number_of(grabs[0]) == 1
    assert grabs[1].frame is None
    assert "2.png" in grabs[1].problem
    assert number_of(grabs[2]) == 10


def test_one_picture_and_aux(tmp_path: Path) -> None:
    file = tmp_path / "rgb.png"
    cv2.imwrite(str(file), cv2.cvtColor(picture(1), cv2.COLOR_RGB2BGR))
    (tmp_path / "depth").mkdir()
    depth = np.tile(np.arange(SIZE[0], dtype=np.uint16) * 50, (SIZE[1], 1))
    cv2.imwrite(str(tmp_path / "depth" / "1.png"), depth)
    grabs = list(open_source(str(file), str(tmp_path / "depth")))
    assert len(grabs) == 1
    aux = grabs[0].frame.aux
    assert aux.shape == (SIZE[1], SIZE[0], 3)
    assert len(np.unique(aux[0], axis=0)) > 20
    cv2.imwrite(str(tmp_path / "depth" / "2.png"), depth)
    with pytest.raises(SourceError, match=r"1 frames and .* 2 frames"):
        open_source(str(file), str(tmp_path / "depth"))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("noise.mp4", "cannot read this as a video"),
        ("empty", "no pictures"),
        ("gone", "no such"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(str(tmp_path / source))
