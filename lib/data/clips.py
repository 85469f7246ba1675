"""Clips of whole frames for sequence-level training: which frames, their augmentation, transport from worker processes.

The default clip sampler is that of SLT (Kim et al., ECCV 2022, supplement): skipping frames is the augmentation of a
sequence; with a probability a clip runs through the video in random steps, otherwise frame by frame.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from lib.config import SLT, Copies
from lib.data.augment import CrossBlur, PcaColour, becomes_grey, grey_picture, mirror_box
from lib.data.crop import CropRegion, Pixels
from lib.data.crop_styles import mean_colour, warp
from lib.data.sampling import FrameIds, FrameSampler, sample_visible
from lib.data.types import Boxes, Frame, FrameSet, InvalidSampleError, Mask, Video
from lib.registry import Registry

CLIP_SAMPLERS: Registry[Callable[[SLT], FrameSampler]] = Registry("clip sampler")
"""`SLT.CLIP_SAMPLER` -> builder, called with the SLT section."""


@CLIP_SAMPLERS.register("visible")
class VisibleClipSampler:
    """One template, then FRAMES frames in which the target is visible.

    A video that ends too soon is filled up with copies of its last frame, which do not count in `real_length`. A still
    image is a clip of itself, all of whose frames count.

    Attributes:
        slt: INTERVAL_PROB is the share of clips with random steps of at most MAX_INTERVAL frames. MAX_GAP is the number
            of frames after the template within which the clip begins; 0 or -1: with the template's frame. REVERSE is
            the share of clips whose time runs backwards.
    """

    def __init__(self, slt: SLT) -> None:
        self.slt = slt
        self.least = 2 * (slt.frames + 1)
        self.requirement = f"more than {self.least} frames with a visible target, as clips of {slt.frames} frames need"

    def accepts(self, video: Video) -> bool:
        return not video.is_video or int((video.visible & video.valid).sum()) > self.least

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        frames = self.slt.frames
        if not video.is_video:
            return FrameIds((0,), (0,) * frames)
        visible = np.asarray(video.visible & video.valid)
        backwards = self.slt.reverse > 0 and rng.random() < self.slt.reverse
        visible = visible[::-1] if backwards else visible
        stepping = rng.random() < self.slt.interval_prob
        found = self._in_steps(visible, rng) if stepping else self._one_by_one(visible, rng)
        if found is None:
            return None
        template, search = found
        if backwards:
            template, search = len(visible) - 1 - template, [len(visible) - 1 - i for i in search]
        return FrameIds((template,), (*search, *search[-1:] * (frames - len(search))), real_length=len(search))

    def _one_by_one(self, visible: Mask, rng: random.Random) -> tuple[int, list[int]] | None:
        """Template and at most FRAMES successive visible frames."""
        last = len(visible) - self.slt.frames
        template = sample_visible(visible, 1, 0, last, rng)
        if template is None:
            return None
        start = self._start(visible, template[0], last, rng)
        return template[0], [int(i) + start for i in np.flatnonzero(visible[start:])[: self.slt.frames]]

    def _in_steps(self, visible: Mask, rng: random.Random) -> tuple[int, list[int]]:
        """Template and at most FRAMES frames in random steps; a step may stay where it is.

        The room that is left for the steps shrinks until a visible frame to start from is found. Frames are added at
        random if the video ends too soon.
        """
        frames, length, reach = self.slt.frames, len(visible), self.slt.max_interval
        steps = frames - 1
        widest = max(1, min(reach, length // steps))
        template = int(visible.argmax())
        for a in range(widest, 0, -1):
            if found := sample_visible(visible, 1, 0, length - a * steps, rng):
                template = found[0]
                break
        start = self._start(visible, template, max(length - widest * steps, template + 1), rng)
        taken = [start]
        while len(taken) < frames and taken[-1] < length - 1:
            taken += sample_visible(visible, 1, taken[-1], taken[-1] + reach + 1, rng) or []
        if len(taken) < frames:
            later = np.setdiff1d(np.flatnonzero(visible[start + 1 :]) + start + 1, taken)
            missing = min(frames - len(taken), len(later))
            taken += [int(i) for i in rng.choices(later, k=missing)] if missing else []
        return template, sorted(taken)

    def _start(self, visible: Mask, template: int, end: int, rng: random.Random) -> int:
        """The first frame of the clip, from [template, end) within the gap; the template's own is among them."""
        if self.slt.max_gap <= 0:
            return template
        return (sample_visible(visible, 1, template, min(end, template + self.slt.max_gap), rng) or [template])[0]


@CLIP_SAMPLERS.register("annotated")
class AnnotatedClipSampler:
    """One template, then up to FRAMES frames from one with a box on, whether the target is in the others or not.

    A share of INTERVAL_PROB of the clips runs through the video in random steps of up to MAX_INTERVAL frames (or,
    INTERVAL_MODE uniform, in equal ones), the others frame by frame. The template is the video's first frame, or, with
    a TEMPLATE_GAP, one that is at most so many frames before the clip. A clip that the video is too short for is filled
    up with copies of its last frame, which do not count in `real_length`. (SLT-SiamRPN++ and SLT-SiamAttn, ECCV 2022)
    """

    TRIES = 5
    """Frames without a box that are drawn in a row before a clip begins with the video."""

    def __init__(self, slt: SLT) -> None:
        self.slt = slt
        self.requirement = "a box in its first frame"

    def accepts(self, video: Video) -> bool:
        return len(video) > 0 and bool(self._boxes(video)[0])

    def sample(self, video: Video, rng: random.Random, draw_video: Callable[[], Video]) -> FrameIds | None:
        boxes = self._boxes(video)
        stepping = rng.random() <= self.slt.interval_prob
        search = self.frames(boxes, self.slt.interval_mode if stepping else "sequential", rng)
        template = self.template(boxes, search[0], rng)
        filled = (*search, *search[-1:] * (self.slt.frames - len(search)))
        return FrameIds((template,), filled, real_length=len(search))

    @staticmethod
    def _boxes(video: Video) -> Mask:
        """[N] bool, frames with a box of some size."""
        return np.asarray(video.valid & (video.boxes_xywh[:, 2:] > 0).all(axis=1))

    def frames(self, boxes: Mask, mode: str, rng: random.Random) -> list[int]:
        """The frames of a clip.

        Args:
            boxes: [N] bool, frames with a box.
            mode: "sequential", "random" or "uniform" steps.
            rng: Source of all random numbers.
        """
        length, count, reach = len(boxes), self.slt.frames, self.slt.max_interval
        widest = max(1, (length - 1) // (count - 1))

        def room(step: int) -> int:
            """Frames before the last one that steps of this width can begin with."""
            return length - (step * (count - 1) + 1)

        if mode == "sequential":
            start = self._start(boxes, length - count, rng)
            return [*range(start, min(start + count, length))]
        if mode == "uniform":
            step = min(rng.randint(1, reach), widest)
            return [*range(self._start(boxes, room(step), rng), length, step)][:count]
        step = min(reach, widest)
        start = rng.randint(0, room(step)) if room(step) >= 0 else 0
        while not boxes[start] and step > 0:
            step -= 1
            start = rng.randint(0, max(0, room(step))) if step else 0
        taken, last = [start], start
        while len(taken) < count:
            last += rng.randint(1, reach)
            if last >= length:
                break
            taken.append(last)
        if len(taken) < count:
            others = sorted({*range(start, length)} - {*taken})
            taken += rng.choices(others, k=min(len(others), count - len(taken)))
        return sorted(taken)

    def _start(self, boxes: Mask, room: int, rng: random.Random) -> int:
        """A first frame with a box; 0 where many draws find none, and where the video has no room."""
        start, tries = rng.randint(0, max(0, room)), 0
        while not boxes[start]:
            start, tries = rng.randint(0, max(0, room)), tries + 1
            if tries > self.TRIES:
                return 0
        return start

    def template(self, boxes: Mask, start: int, rng: random.Random) -> int:
        """The template's frame.

        Args:
            boxes: [N] bool, frames with a box.
            start: First frame of the clip.
            rng: Source of all random numbers.
        """
        for _ in range(10 if self.slt.template_gap >= 0 else 0):
            drawn = rng.randint(max(0, start - self.slt.template_gap), start)
            if boxes[drawn]:
                return drawn
        return 0


@dataclass(frozen=True)
class CopyChanges:
    """Random numbers of one copy of a frame.

    Attributes:
        uniform: Four in -1..1: scale along x and y, shift along x and y.
        colour: [3] change of R, G and B in grey levels, or None.
        blur: Change of the picture, or None.
    """

    uniform: tuple[float, float, float, float]
    colour: NDArray[np.float64] | None
    blur: Callable[[Pixels], Pixels] | None


def copy_region(size_hw: tuple[int, int], box_xywh: Boxes, copies: Copies, changes: CopyChanges) -> CropRegion:
    """The window of a frame that a copy shows; the target stays in it.

    Args:
        size_hw: Height and width of the frame.
        box_xywh: [4] image pixels.
        copies: Extents of the changes.
        changes: Random numbers.
    """
    wholes, firsts, extents = size_hw[::-1], box_xywh[:2].tolist(), box_xywh[2:].tolist()
    scales = [
        max(1 + r * copies.scale, extent / whole)
        for r, extent, whole in zip(changes.uniform[:2], extents, wholes, strict=True)
    ]
    sides = [scale * whole for scale, whole in zip(scales, wholes, strict=True)]
    reach = min(sum(sides) / 2 * copies.shift, sum(extents))
    corner = []
    for r, first, extent, side, whole in zip(changes.uniform[2:], firsts, extents, sides, wholes, strict=True):
        low = (whole - side) / 2
        corner.append(low + max(first + extent - low - side, min(first - low, r * reach)))
    middle = corner[0] + sides[0] / 2, corner[1] + sides[1] / 2
    return CropRegion(corner[0], corner[1], sides[0], sides[1], middle, (sides[0], sides[1]))


def changed_copy(
    frame: Frame, box_xywh: Boxes, mask: Mask | None, copies: Copies, changes: CopyChanges
) -> tuple[Frame, Boxes, Mask | None]:
    """A copy of a frame that shows another window of it, with its target (SLT-SiamAttn).

    Args:
        frame: RGB.
        box_xywh: [4] image pixels.
        mask: [H, W] of the target, or None.
        copies: Extents of the changes.
        changes: Random numbers.

    Returns:
        A frame of the same size, the box in it and the mask.
    """
    region, size_wh = copy_region(frame.size_hw, box_xywh, copies, changes), frame.size_hw[::-1]
    picture = warp(frame.rgb, region, size_wh, mean_colour(frame, (None, None)))
    picture = picture if changes.colour is None else np.clip(picture + changes.colour, 0, 255)
    picture = picture if changes.blur is None else changes.blur(picture)
    scale = np.array(region.sides_wh) / size_wh
    box = np.concatenate([(box_xywh[:2] - [region.left, region.top]) / scale, box_xywh[2:] / scale])
    if mask is not None:
        mask = warp(mask.astype(np.float32)[..., None], region, size_wh, np.zeros(1))[..., 0] > 0
    return Frame(np.rint(picture).astype(np.uint8)), box, mask


def with_varied_copies(clip: FrameSet, copies: Copies, rng: np.random.Generator) -> FrameSet:
    """The clip with changes in the copies of its last frame that fill it up; they count as frames then.

    A clip whose last frame has no box stays as it is.

    Args:
        clip: Whole frames.
        copies: Extents of the changes.
        rng: Source of all random numbers.
    """
    count, boxes = clip.real_length, clip.search_boxes.copy()
    if count == len(boxes) or not (boxes[count - 1, 2:] > 0).all():
        return clip
    frames, masks = list(clip.search), None if clip.search_masks is None else list(clip.search_masks)
    colour, blur = PcaColour(copies.colour), CrossBlur(probability=copies.blur)
    for i in range(count, len(boxes)):
        mask = None if masks is None else masks[count - 1]
        rx, ry, sx, sy = (2 * rng.random(4) - 1).tolist()  # equally many numbers are drawn whatever the outcome
        drawn, normal = colour.draw(rng)
        shift = -colour.AXES @ normal if drawn else None
        changes = CopyChanges((rx, ry, sx, sy), shift, blur.change(blur.draw(rng)))
        frames[i], boxes[i], mask = changed_copy(frames[count - 1], boxes[count - 1], mask, copies, changes)
        if masks is not None:
            masks[i] = mask
    search_masks = None if masks is None else tuple(masks)
    return replace(clip, search=tuple(frames), search_boxes=boxes, search_masks=search_masks, real_length=len(boxes))


@dataclass(frozen=True)
class WholeFrames:
    """Makes a clip of sampled frames. Drawn changes apply to the whole clip, so that the target's motion is kept.

    Attributes:
        slt: MIRROR and GREY are probabilities; published sequence-level training has neither.
    """

    slt: SLT

    def __call__(self, clip: FrameSet, rng: np.random.Generator) -> FrameSet:
        """Draw the changes of a clip and apply them.

        Args:
            clip: The sampled frames.
            rng: Source of all random numbers.

        Raises:
            InvalidSampleError: The clip cannot be tracked: a box to start from is invalid, or there is one frame only.
        """
        mirrored, grey = rng.random() < self.slt.mirror, rng.random() < self.slt.grey
        for box in (clip.template_boxes[0], clip.search_boxes[0]):
            if not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
                raise InvalidSampleError(f"{clip.name} would start from the box {box.tolist()}")
        if self.slt.copies is not None:
            clip = with_varied_copies(clip, self.slt.copies, rng)
        if clip.real_length < 2:
            raise InvalidSampleError(f"{clip.name} has a single frame: there is nothing to track in it")
        changed: dict[int, Frame] = {}
        for frame in (*clip.template, *clip.search):
            if id(frame) not in changed:
                rgb, second = frame.rgb, frame.second
                if grey:
                    rgb = grey_picture(rgb)
                    if frame.aux is not None and becomes_grey(frame, "rgb_and_equal_aux")[1]:
                        second = grey_picture(frame.aux)
                if mirrored:
                    aux = Frame(rgb, second).aux
                    rgb = np.ascontiguousarray(rgb[:, ::-1])
                    second = None if aux is None else np.ascontiguousarray(aux[:, ::-1])
                changed[id(frame)] = Frame(rgb, second)
        template, search = (tuple(changed[id(f)] for f in frames) for frames in (clip.template, clip.search))
        clip = replace(clip, template=template, search=search)
        if not mirrored:
            return clip
        changes: dict[str, Any] = {}
        for kind in ("template", "search"):
            frames, masks = getattr(clip, kind), getattr(clip, f"{kind}_masks")
            boxes = zip(getattr(clip, f"{kind}_boxes").astype(np.float32), frames, strict=True)
            changes[f"{kind}_boxes"] = np.array([mirror_box(b, f.size_hw[1]) for b, f in boxes]).astype(np.float64)
            if masks is not None:
                flipped = (None if mask is None else np.ascontiguousarray(mask[:, ::-1]) for mask in masks)
                changes[f"{kind}_masks"] = tuple(flipped)
        return replace(clip, **changes)


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip whose pictures lie in one tensor, which a worker process shares instead of copying.

    Attributes:
        clip: The pickled clip without the content of its pictures.
        pixels: [bytes] uint8, their content.
        sizes: Bytes of each array in `pixels`, in order.
    """

    clip: bytes
    pixels: Tensor
    sizes: list[int]


def pack_clip(clip: FrameSet) -> PackedClip:
    """Copy the pictures of a clip into one tensor, repeated ones once (pickle protocol 5, out-of-band buffers).

    Args:
        clip: Whole frames.

    Returns:
        The clip for a worker process to send; in one, the tensor lies in shared memory.
    """
    buffers: list[memoryview] = []

    def travels_inside(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).format == "B":
            buffers.append(buffer.raw())
            return False
        return True  # boxes: their numbers need aligned memory

    pickled = pickle.dumps(clip, protocol=5, buffer_callback=travels_inside)
    sizes = [buffer.nbytes for buffer in buffers]
    pixels = torch.empty(sum(sizes), dtype=torch.uint8)
    if get_worker_info() is not None:
        pixels.share_memory_()
    for part, buffer in zip(pixels.split(sizes), buffers, strict=True):
        part.numpy()[:] = np.frombuffer(buffer, dtype=np.uint8)
    return PackedClip(pickled, pixels, sizes)


def unpack_clip(packed: PackedClip) -> FrameSet:
    """The clip; its pictures are views of the tensor."""
    parts = packed.pixels.split(packed.sizes)
    return cast(FrameSet, pickle.loads(packed.clip, buffers=[part.numpy() for part in parts]))


def pack_clips(clips: list[FrameSet]) -> list[PackedClip]:
    """Pack the clips that a worker process sends."""
    return [pack_clip(clip) for clip in clips]
