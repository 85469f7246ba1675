"""Clips of whole frames: made of picked frames, packed for their way from a worker process, gathered to batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from lib.data.augment import becomes_grey, grey_picture, mirror_box
from lib.data.processing import InvalidSampleError
from lib.data.types import Boxes, ClipBatch, Frame, FrameSet, Image, Levels


@dataclass(frozen=True)
class WholeFrames:
    """Makes a clip of picked frames; what is drawn holds for the whole clip, so that a target moves as it did.

    mirror, grey: probabilities; published sequence-level training has neither.
    """

    mirror: float = 0.0
    grey: float = 0.0

    def __call__(self, clip: FrameSet, rng: np.random.Generator) -> FrameSet:
        """Draw and apply. Raises InvalidSampleError for a clip that cannot be started on."""
        mirrored, grey = rng.random() < self.mirror, rng.random() < self.grey
        for box in (clip.template_boxes[0], clip.search_boxes[0]):
            if not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
                raise InvalidSampleError(f"{clip.name} would start from the box {box.tolist()}")
        if not mirrored and not grey:
            return clip
        changed = {id(f): _changed(f, mirrored, grey) for f in (*clip.template, *clip.search)}
        return replace(
            clip,
            template=tuple(changed[id(f)] for f in clip.template),
            search=tuple(changed[id(f)] for f in clip.search),
            template_boxes=_boxes(clip.template, clip.template_boxes, mirrored),
            search_boxes=_boxes(clip.search, clip.search_boxes, mirrored),
        )


def _boxes(frames: Sequence[Frame], boxes: Boxes, mirrored: bool) -> Boxes:
    if not mirrored:
        return boxes
    turned = [mirror_box(box.astype(np.float32), f.size_hw[1]) for f, box in zip(frames, boxes, strict=True)]
    return np.stack(turned).astype(np.float64)


def _changed(frame: Frame, mirrored: bool, grey: bool) -> Frame:
    rgb, second = frame.rgb, frame.aux
    if grey:
        grey_rgb, grey_second = becomes_grey(frame, "rgb_and_equal_aux")
        rgb = grey_picture(rgb) if grey_rgb else rgb
        second = grey_picture(second) if grey_second and second is not None else second
    if mirrored:
        rgb = np.ascontiguousarray(rgb[:, ::-1])
        second = None if second is None else np.ascontiguousarray(second[:, ::-1])
    return Frame(rgb, second)


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip whose pictures lie in one tensor, which a worker process shares instead of copying it.

    pixels: [bytes] uint8. frames: per frame, templates first, the places of its arrays: RGB, then nothing, the second
    picture, or its levels and their table. shapes: of each array in `pixels`, in order.
    """

    clip: FrameSet
    pixels: Tensor
    frames: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, ...], ...]


def pack(clip: FrameSet) -> PackedClip:
    """Frames that occur several times are stored once."""
    arrays: list[NDArray[np.uint8]] = []
    place: dict[int, int] = {}

    def put(array: NDArray[np.uint8]) -> int:
        if id(array) not in place:
            place[id(array)] = len(arrays)
            arrays.append(array)
        return place[id(array)]

    frames = tuple(tuple(put(a) for a in _arrays(f)) for f in (*clip.template, *clip.search))
    pixels = torch.empty(sum(a.size for a in arrays), dtype=torch.uint8)
    if get_worker_info() is not None:
        pixels.share_memory_()
    for part, array in zip(_split(pixels, [a.shape for a in arrays]), arrays, strict=True):
        part[...] = array
    bare = replace(clip, template=clip.template[:0], search=clip.search[:0])
    return PackedClip(bare, pixels, frames, tuple(a.shape for a in arrays))


def unpack(packed: PackedClip) -> FrameSet:
    """The clip again; its pictures are views of the tensor."""
    arrays = _split(packed.pixels, packed.shapes)
    frames = tuple(_frame([arrays[i] for i in places]) for places in packed.frames)
    templates = len(packed.clip.template_boxes)
    return replace(packed.clip, template=frames[:templates], search=frames[templates:])


def pack_clips(clips: list[FrameSet]) -> list[PackedClip]:
    """What a worker hands over."""
    return [pack(clip) for clip in clips]


def clip_batch(parts: list[list[PackedClip]]) -> ClipBatch:
    """What the main process makes of it."""
    return ClipBatch([unpack(packed) for part in parts for packed in part])


def _arrays(frame: Frame) -> list[Image]:
    second = frame.second
    if second is None:
        return [frame.rgb]
    return [frame.rgb, second.levels, second.table] if isinstance(second, Levels) else [frame.rgb, second]


def _frame(arrays: list[Image]) -> Frame:
    if len(arrays) == 3:
        return Frame(arrays[0], Levels(arrays[1], arrays[2]))
    return Frame(arrays[0], arrays[1] if len(arrays) == 2 else None)


def _split(pixels: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Image]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    flat = pixels.numpy()
    return [
        flat[end - int(np.prod(shape)) : end].reshape(shape) for end, shape in zip(ends.tolist(), shapes, strict=True)
    ]
