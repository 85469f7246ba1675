"""The second picture of a frame, to the digit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import (
    AuxRecipe,
    DecodeError,
    clip_depth,
    depth_to_picture,
    open_store,
    read_frame,
)
from synthetic.dataset import three_channels
from tests.support.pictures import merged, x_frame
from tests.unit.data.trees import as_folder, picture, pixels_of


def test_clip_is_three_medians_truncated() -> None:
    depth = np.array([[0, 7, 8, 5000]], np.uint16)  # median 7.5: m = 22.5, written as 22
    assert clip_depth(depth).tolist() == [[0, 7, 8, 22]]
    assert clip_depth(np.array([[4000, 9000, 9000, 60000]], np.uint16)).max() == 10000
    assert clip_depth(np.array([[0, 0, 0, 4000]], np.uint16)).max() == 0


def test_clip_leaves_its_input_alone() -> None:
    depth = np.array([[1, 1, 1, 500]], np.uint16)
    clip_depth(depth)
    assert depth[0, 3] == 500


def test_colour_map_is_opencvs_jet_in_bgr_order() -> None:
    found = depth_to_picture(np.array([[100, 200]], np.uint16), clip=False)
    assert found.tolist() == [[[128, 0, 0], [0, 0, 128]]]


def test_depth_is_stretched_and_rounded() -> None:
    found = depth_to_picture(np.array([[10, 11, 12, 14, 17]], np.uint16), clip=False, style="3x")
    assert found[0, :, 0].tolist() == [0, 36, 73, 146, 255]
    assert (found == found[..., :1]).all()


def test_a_constant_or_all_missing_depth_is_black_blue_everywhere() -> None:
    for value in (0, 900):
        assert (depth_to_picture(np.full((4, 4), value, np.uint16)) == [128, 0, 0]).all()


def test_single_channel_thermal_becomes_three() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    frame = x_frame(np.zeros((2, 3, 3), np.uint8), grey, "rgbrgb")
    assert frame.shape == (2, 3, 6)
    assert (frame[..., 3:] == grey[..., None]).all()
    with pytest.raises(ValueError, match="one or three channels"):
        three_channels(np.zeros((2, 3, 4), np.uint8))


def test_unknown_arrangement_is_an_error() -> None:
    with pytest.raises(ValueError, match="rgbjet"):
        x_frame(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8), "rgbjet")


def test_a_frame_from_files(tmp_path: Path) -> None:
    depth = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 10
    as_folder({"c.png": picture(1), "t.png": picture(2), "d.png": cv2.imencode(".png", depth)[1].tobytes()}, tmp_path)
    store = open_store(tmp_path)
    assert read_frame(store, "c.png").aux is None
    thermal = read_frame(store, "c.png", "t.png")
    np.testing.assert_array_equal(merged(thermal), np.concatenate([pixels_of(1), pixels_of(2)], axis=2))
    coloured = read_frame(store, "c.png", "d.png", AuxRecipe("depth"))
    np.testing.assert_array_equal(coloured.aux, depth_to_picture(depth))


def test_pictures_of_two_sizes_are_an_error_that_names_both(tmp_path: Path) -> None:
    as_folder({"c.png": picture(1), "t.png": picture(2, size=(24, 30))}, tmp_path)
    with pytest.raises(DecodeError, match=r"t\.png is 30 x 24, but .*c\.png is 32 x 24"):
        read_frame(open_store(tmp_path), "c.png", "t.png")
