"""YouTube-VOS: an object is a sequence, its boxes are those around its masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.config import Data
from lib.data import FRAME_SAMPLERS, AnnotationError, DecodeError, FrameIds, TrackingSampler
from lib.data.datasets import build_dataset
from lib.paths import Paths


def write(root: Path, frames: tuple[str, ...] = ("00000", "00005")) -> Path:
    """One video of two objects, the second one in the first frame alone."""
    for i, frame in enumerate(frames):
        pixels = np.zeros((60, 80), dtype=np.uint8)
        pixels[10:50, 20 + i : 60 + i] = 1
        if not i:
            pixels[0:5, 0:5] = 2
        palette = Image.fromarray(pixels, mode="P")
        palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        for folder, picture, ending in (
            ("Annotations", palette, "png"),
            ("JPEGImages", Image.fromarray(np.full((60, 80, 3), 90, dtype=np.uint8)), "jpg"),
        ):
            path = root / "youtube_vos/train" / folder / "abc" / f"{frame}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    objects = {"1": {"category": "cat", "frames": list(frames)}, "2": {"category": "dog", "frames": ["00000"]}}
    (root / "youtube_vos/train/meta.json").write_text(json.dumps({"videos": {"abc": {"objects": objects}}}))
    return root


def built(root: Path) -> Any:
    return build_dataset("YOUTUBE_VOS", Paths(root, root, root, root))


def test_objects_are_sequences_with_boxes_around_their_masks(tmp_path: Path) -> None:
    dataset = built(write(tmp_path))
    assert [video.name for video in dataset] == ["abc_1", "abc_2"]
    cat, dog = dataset
    assert cat.boxes_xywh.tolist() == [[20, 10, 40, 40], [21, 10, 40, 40]]
    assert cat.valid.all()
    assert cat.object_class == "cat"
    mask = cat.masks([1])[0]
    assert mask.sum() == 1600
    assert cat.read_frame(1).size_hw == mask.shape
    assert dog.boxes_xywh.tolist() == [[0, 0, 5, 5]]
    assert not dog.valid.any()  # too small


def test_a_mask_of_another_size_than_its_picture_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, tuple(f"{5 * i:05d}" for i in range(20)))
    Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(root / "youtube_vos/train/JPEGImages/abc/00005.jpg")
    dataset = built(root)
    config = Data(max_sample_interval=1)
    sampler = TrackingSampler([dataset], [1], FRAME_SAMPLERS["causal"](config), lambda frames, _: frames, 0, masks=True)
    assert sampler.read(dataset[0], FrameIds((0,), (0,))).search_masks is not None
    with pytest.raises(DecodeError, match=r"00005\.jpg: a mask of 80 x 60 pixels for a picture of 40 x 30"):
        sampler.read(dataset[0], FrameIds((0,), (1,)))


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    dataset = built(write(tmp_path))
    place = tmp_path / "youtube_vos/train/Annotations/abc/00005.png"
    for content, message in (
        (None, "not a picture of masks$"),
        (np.zeros((60, 80, 3), dtype=np.uint8), r"not a picture of masks \(it has 3 channels, not one\)"),
        (np.zeros((30, 40), dtype=np.uint8), "a mask of 40 x 30 pixels for pictures of 80 x 60"),
    ):
        if content is None:
            place.write_bytes(b"nothing")
        else:
            Image.fromarray(content).save(place)
        with pytest.raises(AnnotationError, match=rf"00005\.png: {message}"):
            dataset[0]
    place.unlink()
    with pytest.raises(FileNotFoundError, match=r"00005\.png"):
        dataset[0]
    (tmp_path / "youtube_vos/train/meta.json").write_text('{"videos": 3}')
    with pytest.raises(AnnotationError, match=r"not a meta\.json of YouTube-VOS"):
        built(tmp_path)
