"""Types of the data path: frames, videos, data sets, samples and batches.

Boxes are ``x, y, w, h`` with the top-left corner, in image pixels as the data set publishes them, unless a name says
otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]
Box = tuple[float, float, float, float]
Mask = NDArray[np.bool_]
Masks = tuple[Mask | None, ...]
"""One per frame; None for a frame without."""


class InvalidSampleError(ValueError):
    """These frames and random numbers give no usable sample; others will."""


class Modality(enum.Enum):
    """Pictures of a frame: RGB alone, or with depth, thermal or events."""

    RGB = "rgb"
    RGBD = "rgbd"
    RGBT = "rgbt"
    RGBE = "rgbe"


@dataclass(frozen=True, slots=True)
class Levels:
    """A picture as levels and a colour table; colours are looked up only where they are needed.

    Attributes:
        levels: H x W uint8.
        table: [256, 3] uint8, the colour of each level.
    """

    levels: Image
    table: Image

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3), the shape of the picture."""
        return self.levels.shape[0], self.levels.shape[1], 3

    def coloured(self, levels: Image) -> Image:
        """Look up colours.

        Args:
            levels: [H, W] or [H, W, 1] uint8 levels of any picture, not empty.

        Returns:
            [H, W, 3] uint8.
        """
        return np.asarray(cv2.applyColorMap(levels, self.table.reshape(256, 1, 3)), dtype=np.uint8)

    def picture(self) -> Image:
        """The whole picture, H x W x 3."""
        return self.coloured(self.levels)


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of a video.

    Attributes:
        rgb: H x W x 3 uint8, channels in RGB order.
        second: The picture of the second modality (thermal, depth colour map, events), or None for plain RGB.
    """

    rgb: Image
    second: Image | Levels | None = None

    @property
    def aux(self) -> Image | None:
        """`second` as H x W x 3 uint8; computed in every call if it is given as levels."""
        return self.second.picture() if isinstance(self.second, Levels) else self.second

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True, slots=True)
class Qualities:
    """Quality of a video's pseudo labels (USOT, ICCV 2021), by which GDSTrack draws its samples.

    Attributes:
        picked: Share of the evaluated frames whose box was found in the optical flow, above 0; the others are
            interpolated.
        corner: Share of boxes at the picture's margin, where 1 stands for both axes and 0.3 for one.
        short, long: [N] the same share as `picked` among the neighbouring frames, near and far ones.
        window: [N, 2] first and last frame up to which the box changes smoothly.
        corner_score: [N] distance from the margin, 0 to 0.2 of the picture's sides.
    """

    picked: float
    corner: float
    short: NDArray[np.float64]
    long: NDArray[np.float64]
    window: NDArray[np.int64]
    corner_score: NDArray[np.float64]

    @property
    def video(self) -> float:
        """Quality of the whole video, at most 1."""
        return self.picked - self.corner / 3

    @property
    def tries(self) -> int:
        """Frames to draw a sample's first one from: the more, the fewer of the boxes were found."""
        return int(3 / self.picked)

    def frames(self, ids: Sequence[int] | NDArray[np.int64], term: str = "long") -> NDArray[np.float64]:
        """Quality of some frames.

        Args:
            ids: [K] frame numbers.
            term: "long" counts the length of the window in, "short" does not.

        Returns:
            [K].
        """
        short, corner = self.short[ids], self.corner_score[ids]
        if term == "short":
            return np.asarray(short + 2 / 3 * corner)
        first, last = self.window[ids].T
        return np.asarray(short + corner / 2 + (last - first) / (2 * len(self.short)))


@dataclass(frozen=True, slots=True)
class Video:
    """One target in one video (or in one image that stands for a video of length 1).

    Attributes:
        boxes_xywh: [N, 4] float64, as published; NaN where the annotation says so.
        valid: [N] bool, the box can serve as a regression target.
        visible: [N] bool, the target can be seen.
        read_frame: Frame number 0..N-1 -> Frame; raises `lib.data.io.DecodeError` or FileNotFoundError naming the file.
        frame_path: Frame number -> path (or store key) of the RGB picture, for messages.
        visible_ratio: [N] float64 in 0..1, if the data set has it (GOT-10k).
        is_video: False for image data sets, whose single picture may serve as template and search frame.
        read_mask: Frame number -> [H, W] bool, True on the target, or None if this frame has no mask; None for videos
            without masks.
        qualities: Of pseudo labels; None for annotated boxes.
        corners: [N, 8] float64, corners x, y, ... of annotated polygons in image pixels, NaN where the target is
            absent; None for data sets of boxes.
    """

    name: str
    boxes_xywh: Boxes
    valid: Mask
    visible: Mask
    read_frame: Callable[[int], Frame]
    frame_path: Callable[[int], str]
    modality: Modality = Modality.RGB
    visible_ratio: NDArray[np.float64] | None = None
    object_class: str | None = None
    attributes: frozenset[str] = frozenset()
    is_video: bool = True
    dataset: str = ""
    read_mask: Callable[[int], Mask | None] | None = None
    qualities: Qualities | None = None
    corners: Boxes | None = None

    def __len__(self) -> int:
        return len(self.boxes_xywh)

    def masks(self, frames: Sequence[int]) -> Masks | None:
        """Read the masks of some frames.

        Args:
            frames: Frame numbers.

        Returns:
            One per frame; None for a video without masks.
        """
        read = self.read_mask
        return None if read is None else tuple(read(i) for i in frames)


class Dataset(Protocol):
    """An index of videos; annotations are read when a video is asked for, pictures when a frame is."""

    name: str
    modality: Modality
    is_video: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Video: ...


class RatedDataset(Dataset, Protocol):
    """A data set of pseudo labels, which knows their qualities before a video is read."""

    def qualities(self, index: int) -> Qualities: ...


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Whole frames of one sample or one clip.

    Attributes:
        template, search: Frames.
        template_boxes, search_boxes: [Nt, 4] and [Ns, 4] float64 x, y, w, h in image pixels.
        frame_ids: [Nt + Ns] frame numbers in the video, templates first.
        negative_sequence: "dataset/sequence" of the search frames, if they are of another video than the templates and
            do not show their target.
        real_length: Search frames before the copies that fill up a clip; -1 stands for all of them.
        template_masks, search_masks: Target masks [H, W] bool per frame, None for a frame without; None unless masks
            were asked for and the video has some.
    """

    template: tuple[Frame, ...]
    search: tuple[Frame, ...]
    template_boxes: Boxes
    search_boxes: Boxes
    modality: Modality
    dataset: str
    sequence: str
    frame_ids: tuple[int, ...]
    negative_sequence: str = ""
    real_length: int = -1
    template_masks: Masks | None = None
    search_masks: Masks | None = None

    def __post_init__(self) -> None:
        if self.real_length < 0:
            object.__setattr__(self, "real_length", len(self.search_boxes))

    @property
    def name(self) -> str:
        """``dataset/sequence:frame,frame``, for messages; search frames of another video follow behind a semicolon."""
        ids, templates = [str(i) for i in self.frame_ids], len(self.template_boxes)
        if not self.negative_sequence:
            return f"{self.dataset}/{self.sequence}:{','.join(ids)}"
        own, other = ",".join(ids[:templates]), ",".join(ids[templates:])
        return f"{self.dataset}/{self.sequence}:{own};{self.negative_sequence}:{other}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample: crops, and changes of their colours that are applied on the device.

    Attributes:
        template, search: [Nt, C, T, T] and [Ns, C, S, S] uint8 or float32 in 0..255, C = 3 or 6 (RGB, then auxiliary).
        template_boxes, search_boxes: [Nt, 4] and [Ns, 4] float32 x, y, w, h in units of the crop's side.
        template_colour, search_colour: [Nt, 3, 4] and [Ns, 3, 4] float32 affine change of R, G, B in grey levels,
            applied when the crops are normalised.
        frame_ids: [Nt + Ns] frame numbers in the video, templates first.
        name: `FrameSet.name`.
        negative: The search frames are of another video and do not show the target of the templates.
        extras: Further arrays by name, as `Batch.extras` has them.
    """

    template: NDArray[Any]
    search: NDArray[Any]
    template_boxes: NDArray[np.float32]
    search_boxes: NDArray[np.float32]
    template_colour: NDArray[np.float32]
    search_colour: NDArray[np.float32]
    modality: Modality
    dataset: str
    sequence: str
    frame_ids: tuple[int, ...]
    name: str
    negative: bool = False
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples, batch first.

    Attributes:
        template, search: [B, Nt, C, T, T] and [B, Ns, C, S, S]; 0..255 as loaded, float32 once normalised.
        template_boxes, search_boxes: [B, Nt, 4] and [B, Ns, 4] float32 x, y, w, h in units of the crop's side.
        modality: [B] int64, position of the sample's modality in `Modality`.
        names: One "dataset/sequence:frame,frame" per sample, for messages.
        template_colour, search_colour: [B, Nt, 3, 4] and [B, Ns, 3, 4] float32, see `Sample`; None: no change, or it is
            applied.
        negative: [B] bool, the search frames do not show the target; None: all of them do.
        extras: Further tensors [B, ...] by name: "template_masks" and "search_masks" [B, N, S, S] uint8 0..255 and
            "has_masks" [B] bool with DATA.MASKS; qualities or labels of methods that add them.
    """

    template: Tensor
    search: Tensor
    template_boxes: Tensor
    search_boxes: Tensor
    modality: Tensor
    names: list[str] = field(default_factory=list)
    template_colour: Tensor | None = None
    search_colour: Tensor | None = None
    negative: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.template.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """Move every tensor.

        Args:
            device: Where to.
            non_blocking: Do not wait for copies from page-locked memory.

        Returns:
            The same batch on `device`.
        """
        return self._each(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (the loader calls this)."""
        return self._each(lambda t: t.pin_memory())

    def select(self, rows: Sequence[int]) -> Batch:
        """Take some of the samples.

        Args:
            rows: Their positions in the batch, in the order of the result.
        """
        index = torch.as_tensor(rows, dtype=torch.long)
        picked = self._each(lambda t: t[index.to(t.device)])
        return replace(picked, names=[self.names[i] for i in rows] if self.names else [])

    def _each(self, f: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {x.name: f(v) for x in fields(self) if isinstance(v := getattr(self, x.name), Tensor)}
        return replace(self, **moved, extras={name: f(tensor) for name, tensor in self.extras.items()})


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """B clips of whole frames, for objectives that track during training; frames stay on the CPU, where crops are cut.

    All clips have the same number of search frames; their frames may differ in size.
    """

    clips: list[FrameSet]

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def names(self) -> list[str]:
        """One per clip, for messages."""
        return [clip.name for clip in self.clips]


class Rows(Protocol):
    """A batch of any kind, as a training step needs it: `Batch`, `ClipBatch`, or a part of one."""

    @property
    def names(self) -> list[str]: ...

    def __len__(self) -> int: ...
