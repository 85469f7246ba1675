"""Masks in whole frames and the polygons around them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lib.track import paste_mask, polygon_of


def test_a_polygon_follows_the_largest_part_or_is_the_box() -> None:
    box = np.array([10.0, 20.0, 30.0, 40.0])
    corners = [[10.0, 20.0], [40.0, 20.0], [40.0, 60.0], [10.0, 60.0]]
    mask = np.zeros((100, 100), dtype=bool)
    assert polygon_of(mask, box).tolist() == corners
    mask[5, 5:8] = True  # a contour of less than three points
    mask[50:55, 50:55] = True
    assert polygon_of(mask, box).tolist() == corners
    mask[60:90, 60:80] = True
    found = polygon_of(mask, box)
    assert sorted(map(tuple, found.round().tolist())) == [(60, 60), (60, 89), (79, 60), (79, 89)]


@pytest.mark.parametrize("published", [False, True])
def test_a_mask_over_a_box_lies_there_in_the_image(published: bool) -> None:
    drawn = paste_mask(np.ones((64, 64), dtype=np.float32), (20.0, 10.0, 32.0, 16.0), (60, 80), published) > 0.5
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert (rows[0], columns[0]) == (10, 20)
    assert abs(rows[-1] - 25) <= 1
    assert abs(columns[-1] - 51) <= 1


def test_what_was_cut_and_shrunk_goes_back_to_where_it_was() -> None:
    """A blob has its middle where it was, to a tenth of a pixel: centres of pixels go to centres of pixels."""
    image = cv2.GaussianBlur(np.pad(np.ones((30, 20), np.float32), ((40, 50), (30, 70))), (0, 0), 5)
    small = cv2.resize(image[20:116, 10:106], (24, 24), interpolation=cv2.INTER_AREA)
    back = paste_mask(small, (10.0, 20.0, 96.0, 96.0), image.shape)
    y, x = np.indices(image.shape)
    for axis in (x, y):
        assert abs((back * axis).sum() / back.sum() - (image * axis).sum() / image.sum()) < 0.1
