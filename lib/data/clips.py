"""Clips of whole frames for sequence-level training: which frames, their augmentation, transport from worker processes.

The default clip sampler is that of SLT (Kim et al., ECCV 2022, supplement): skipping frames is the augmentation of a
sequence; with a probability a clip runs through the video in random steps, otherwise frame by frame.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lib.config import SLT
from lib.data.augment import becomes_grey, grey_picture, mirror_box
from lib.data.sampling import FrameIds, FrameSampler, sample_visible
from lib.data.types import Frame, FrameSet, InvalidSampleError, Mask, Video
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
            of frames after the template within which the clip begins; negative: with the template's frame. REVERSE is
            the share of clips whose time runs backwards.
    """

    def __init__(self, slt: SLT) -> None:
        self.slt = slt
        self.requirement = (
            f"more than {2 * (slt.frames + 1)} frames with a visible target, as clips of {slt.frames} frames need"
        )

    def accepts(self, video: Video) -> bool:
        if not video.is_video:
            return True
        count = self.slt.frames
        return len(video) >= count + 1 and int((video.visible & video.valid).sum()) > 2 * (count + 1)

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
        if start is None:
            return None
        return template[0], [int(i) + start for i in np.flatnonzero(visible[start:])[: self.slt.frames]]

    def _in_steps(self, visible: Mask, rng: random.Random) -> tuple[int, list[int]]:
        """Template and at most FRAMES frames in random steps; a step may stay where it is.

        The room that is left for the steps shrinks until a visible frame to start from is found. Frames are added at
        random if the video ends too soon.
        """
        frames, length, reach = self.slt.frames, len(visible), self.slt.max_interval
        steps = frames - 1
        widest = max(1, min(reach, length // steps))
        template = start = int(visible.argmax())
        for a in range(widest, 0, -1):
            if found := sample_visible(visible, 1, 0, length - a * steps, rng):
                template = start = found[0]
                break
        for a in range(widest, -1, -1):
            begin = self._start(visible, template, max(length - a * steps, template + 1), rng)
            if begin is not None:
                start = begin
                break
        taken, last = [start], start
        while len(taken) < frames and last < length - 1:
            drawn = sample_visible(visible, 1, last, last + reach + 1, rng)
            if drawn is None:
                last += reach
                continue
            last = drawn[0]
            taken.append(last)
        if len(taken) < frames:
            later = np.setdiff1d(np.flatnonzero(visible[start + 1 :]) + start + 1, taken)
            missing = min(frames - len(taken), len(later))
            taken += [int(i) for i in rng.choices(later, k=missing)] if missing else []
        return template, sorted(taken)

    def _start(self, visible: Mask, template: int, end: int, rng: random.Random) -> int | None:
        """The first frame of the clip, from [template, end) within the gap."""
        if self.slt.max_gap < 0:
            return template
        drawn = sample_visible(visible, 1, template, min(end, template + self.slt.max_gap), rng)
        return None if drawn is None else drawn[0]


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
        boxes = [
            np.array([mirror_box(box.astype(np.float32), f.size_hw[1]) for f, box in zip(frames, boxes, strict=True)])
            for frames, boxes in ((clip.template, clip.template_boxes), (clip.search, clip.search_boxes))
        ]
        masks = [
            None if given is None else tuple(None if m is None else np.ascontiguousarray(m[:, ::-1]) for m in given)
            for given in (clip.template_masks, clip.search_masks)
        ]
        return replace(
            clip,
            template_boxes=boxes[0].astype(np.float64),
            search_boxes=boxes[1].astype(np.float64),
            template_masks=masks[0],
            search_masks=masks[1],
        )


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
