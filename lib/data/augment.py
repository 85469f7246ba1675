"""Random changes of training samples: a list of registered transforms.

Each transform draws its numbers from the sample's generator and writes what they mean into a `CropPlan`. Drawing and
applying are separate, so that a sample can be made again from given numbers. What can be done on the device is
collected in one affine change of colours per crop and applied when crops are normalised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.config import Augment, GreyRule
from lib.data.boxes import Float32s
from lib.data.crop import PICTURES, CropPlan, Pixels
from lib.data.types import Frame, Image
from lib.ranges import Choice, Positive, Range, Share
from lib.registry import Registry

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in grey (ITU-R BT.601)."""
KINDS = ("template", "search")
Kinds = tuple[Annotated[str, Choice(KINDS)], ...]
Pictures = tuple[Annotated[str, Choice(PICTURES)], ...]


class Augmentation(ABC):
    """One kind of random change."""

    per_crop: ClassVar[bool] = True
    """Drawn for each crop by itself, in training alone; otherwise once for a whole sample, in validation too."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """The numbers of one crop or one sample; draws equally often whatever the outcome."""

    @abstractmethod
    def apply(self, plan: CropPlan, numbers: Any) -> None:
        """Write the change into the plan of a crop.

        Args:
            plan: Changed in place.
            numbers: What `draw` gave.
        """


@dataclass
class OccasionalChange(Augmentation):
    """A change that happens or does not.

    Attributes:
        probability: Of the change.
    """

    probability: Share

    def draw(self, rng: np.random.Generator) -> Any:
        return rng.random() < self.probability


@dataclass(kw_only=True)
class Filter(Augmentation):
    """A change of finished crops; numbers are drawn for every crop, whether it is changed or not.

    Attributes:
        kinds: Crops that it changes.
        pictures: Pictures that it changes, both with the same numbers. Two entries of TRANSFORMS, one for each picture,
            have numbers of their own.
    """

    kinds: Kinds = KINDS
    pictures: Pictures = PICTURES

    @abstractmethod
    def change(self, numbers: Any) -> Callable[[Pixels], Pixels] | None:
        """The change [S, S, 3] -> [S, S, 3] that drawn numbers stand for, or None for no change."""

    def apply(self, plan: CropPlan, numbers: Any) -> None:
        change = self.change(numbers) if plan.kind in self.kinds else None
        if change is not None:
            plan.filters.append((change, self.pictures))


@dataclass
class RangedFilter(Filter):
    """A filter that happens or does not, of an extent between two bounds."""

    probability: Share
    least: float
    most: float

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(f"LEAST {self.least} is above MOST {self.most}")


AUGMENTATIONS: Registry[Callable[..., Augmentation]] = Registry("augmentation")
"""`TYPE` of DATA.AUGMENT.TRANSFORMS -> class; other keys are arguments of its constructor."""


@AUGMENTATIONS.register("grey")
@dataclass
class Grey(OccasionalChange):
    """A whole sample becomes grey.

    Attributes:
        grey_rule: Which pictures of RGB-X frames do, see `becomes_grey`.
    """

    grey_rule: GreyRule = "rgb_only"
    per_crop = False

    def apply(self, plan: CropPlan, numbers: bool) -> None:
        if numbers:
            rgb, aux = becomes_grey(plan.frame, self.grey_rule)
            plan.edits = grey_picture if rgb else None, grey_picture if aux else None


@AUGMENTATIONS.register("mirror")
@dataclass
class Mirror(OccasionalChange):
    """All frames of a sample are mirrored before crops are cut."""

    per_crop = False

    def apply(self, plan: CropPlan, numbers: bool) -> None:
        plan.mirrored = plan.mirrored != numbers


@AUGMENTATIONS.register("brightness")
@dataclass
class Brightness(Augmentation):
    """A factor, uniform in 1 - spread .. 1 + spread."""

    spread: Share

    def draw(self, rng: np.random.Generator) -> float:
        return 1 - self.spread + 2 * self.spread * rng.random()

    def apply(self, plan: CropPlan, numbers: float) -> None:
        plan.recolour(np.eye(3, 4) * numbers)


@AUGMENTATIONS.register("saturation")
class Saturation(Brightness):
    """A mixture with the grey picture; the factor of the colours is uniform in 1 - spread .. 1 + spread."""

    def apply(self, plan: CropPlan, numbers: float) -> None:
        plan.recolour(saturation_matrix(numbers))


@AUGMENTATIONS.register("contrast")
@dataclass
class Contrast(Filter):
    """A mixture with the mean grey level of the crop; its factor is uniform in 1 - spread .. 1 + spread."""

    spread: Share

    def draw(self, rng: np.random.Generator) -> float:
        return 1 - self.spread + 2 * self.spread * rng.random()

    def change(self, numbers: float) -> Callable[[Pixels], Pixels]:
        return lambda crop: recoloured(crop, contrast_matrix(numbers, crop))


@AUGMENTATIONS.register("colour_jitter")
@dataclass
class ColourJitter(Filter):
    """Brightness, contrast and saturation in a drawn order, each followed by clipping (MAT, CVPR 2023).

    Attributes:
        brightness, contrast, saturation: Spreads of the factors, each uniform in 1 - spread .. 1 + spread.
    """

    brightness: Share
    contrast: Share
    saturation: Share

    def draw(self, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[float, ...]]:
        order = tuple(rng.permutation(3).tolist())
        spreads = (self.brightness, self.contrast, self.saturation)
        return order, tuple(rng.uniform(1 - spread, 1 + spread) for spread in spreads)

    def change(self, numbers: tuple[tuple[int, ...], tuple[float, ...]]) -> Callable[[Pixels], Pixels]:
        order, (bright, contrast, saturation) = numbers

        def jitter(crop: Pixels) -> Pixels:
            for i in order:
                if i == 1:
                    crop = recoloured(crop, contrast_matrix(contrast, crop))
                else:
                    crop = recoloured(crop, np.eye(3, 4) * bright if i == 0 else saturation_matrix(saturation))
            return crop

        return jitter


@AUGMENTATIONS.register("crop_flip")
@dataclass
class CropFlip(OccasionalChange):
    """A finished crop is mirrored.

    Attributes:
        kinds: Of which crops.
    """

    kinds: Kinds = KINDS

    def apply(self, plan: CropPlan, numbers: bool) -> None:
        plan.flipped = plan.flipped != (numbers and plan.kind in self.kinds)


@AUGMENTATIONS.register("pca_colour")
@dataclass
class PcaColour(OccasionalChange):
    """One colour is added to the whole crop, drawn along the principal axes of natural colours (PySOT).

    Attributes:
        kinds: Of which crops.
    """

    AXES: ClassVar[NDArray[np.float64]] = np.array(
        [
            [-0.55919361, 0.98062831, -0.41940627],
            [1.72091413, 0.19879334, -1.82968581],
            [4.64467907, 4.73710203, 4.88324118],
        ]
    )
    """R, G and B of three normal numbers, in grey levels; they are subtracted."""
    kinds: Kinds = KINDS

    def draw(self, rng: np.random.Generator) -> tuple[bool, NDArray[np.float64]]:
        return rng.random() < self.probability, rng.standard_normal(3)

    def apply(self, plan: CropPlan, numbers: tuple[bool, NDArray[np.float64]]) -> None:
        drawn, normal = numbers
        if drawn and plan.kind in self.kinds:
            plan.recolour(np.column_stack([np.eye(3), -self.AXES @ normal]))


@AUGMENTATIONS.register("cross_blur")
@dataclass
class CrossBlur(RangedFilter):
    """Blur by a horizontal and a vertical line of odd length, uniform between `least` and `most` pixels (PySOT)."""

    least: Annotated[int, Range(2)] = 5
    most: Annotated[int, Range(2)] = 45

    def draw(self, rng: np.random.Generator) -> tuple[bool, int, float]:
        """Whether, length of the lines, weight of the vertical one."""
        drawn = rng.random() < self.probability
        return drawn, 2 * int(rng.integers(self.least // 2, self.most // 2 + 1)) + 1, rng.random()

    def change(self, numbers: tuple[bool, int, float]) -> Callable[[Pixels], Pixels] | None:
        blurred, side, vertical = numbers
        kernel = np.zeros((side, side))
        kernel[:, side // 2] += vertical / side
        kernel[side // 2] += (1 - vertical) / side
        return (lambda crop: np.asarray(cv2.filter2D(crop, -1, kernel))) if blurred else None


@AUGMENTATIONS.register("blur")
@dataclass
class Blur(RangedFilter):
    """Gaussian blur with a probability, its standard deviation uniform between two values in crop pixels."""

    least: Positive = 0.2
    most: Positive = 1.0

    def draw(self, rng: np.random.Generator) -> tuple[bool, float]:
        return rng.random() < self.probability, rng.uniform(self.least, self.most)

    def change(self, numbers: tuple[bool, float]) -> Callable[[Pixels], Pixels] | None:
        blurred, sigma = numbers
        side = round(6 * sigma + 1) | 1
        return (lambda crop: np.asarray(cv2.GaussianBlur(crop, (side, side), sigma))) if blurred else None


@AUGMENTATIONS.register("motion_blur")
@dataclass
class MotionBlur(RangedFilter):
    """Blur along a line between two cells of a square kernel of odd side, uniform between `least` and `most` pixels."""

    least: Annotated[int, Range(2)] = 3
    most: Annotated[int, Range(2)] = 15

    def draw(self, rng: np.random.Generator) -> tuple[bool, int, int, int]:
        blurred = rng.random() < self.probability
        side = 2 * int(rng.integers(self.least // 2, self.most // 2 + 1)) + 1
        first = int(rng.integers(side * side))
        return blurred, side, first, (first + 1 + int(rng.integers(side * side - 1))) % (side * side)

    def change(self, numbers: tuple[bool, int, int, int]) -> Callable[[Pixels], Pixels] | None:
        blurred, side, first, last = numbers
        if not blurred:
            return None
        kernel = np.zeros((side, side), dtype=np.float32)
        cv2.line(kernel, (first % side, first // side), (last % side, last // side), 1.0)
        kernel /= kernel.sum()
        return lambda crop: np.asarray(cv2.filter2D(crop, -1, kernel))


def build_augmentations(augment: Augment) -> list[Augmentation]:
    """The transforms of DATA.AUGMENT in the order in which they are applied: its own keys, then TRANSFORMS."""
    return [
        Grey(augment.grey, augment.grey_rule),
        Mirror(augment.mirror),
        Brightness(augment.brightness),
        CropFlip(augment.crop_flip),
        *(part.build(AUGMENTATIONS) for part in augment.transforms),
    ]


@dataclass(frozen=True, slots=True)
class CropDraw:
    """Random numbers of one crop.

    Attributes:
        normal, uniform: For the jitter, as many as the crop style takes.
        changes: One per transform that is drawn per crop; empty in validation.
    """

    normal: Float32s
    uniform: Float32s
    changes: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers of one sample.

    Attributes:
        changes: One per transform that is drawn per sample.
        template, search: One per crop.
    """

    changes: tuple[Any, ...]
    template: tuple[CropDraw, ...]
    search: tuple[CropDraw, ...]


def plan_crop(
    frame: Frame,
    kind: Literal["template", "search"],
    augmentations: list[Augmentation],
    sample_changes: tuple[Any, ...],
    crop_changes: tuple[Any, ...],
) -> CropPlan:
    """Apply the drawn transforms to the plan of one crop.

    Args:
        frame: The frame that is cropped.
        kind: Template or search region.
        augmentations: The transforms.
        sample_changes, crop_changes: See `Draws` and `CropDraw`.
    """
    plan = CropPlan(frame, kind)
    for drawn, per_crop in ((sample_changes, False), (crop_changes, True)):
        chosen = [a for a in augmentations if a.per_crop == per_crop] if drawn else []
        for augmentation, numbers in zip(chosen, drawn, strict=True):
            augmentation.apply(plan, numbers)
    return plan


def saturation_matrix(factor: float) -> NDArray[np.float64]:
    """Affine colour change [3, 4]: `factor` times a picture, mixed with its grey picture."""
    mixed = np.eye(3, 4) * factor
    mixed[:, :3] += (1 - factor) * np.array(LUMA)
    return mixed


def contrast_matrix(factor: float, crop: Pixels) -> NDArray[np.float64]:
    """Affine colour change [3, 4]: `factor` times a crop [S, S, 3], mixed with its mean grey level."""
    mixed = np.eye(3, 4) * factor
    mixed[:, 3] = (1 - factor) * np.dot(cv2.mean(crop)[:3], LUMA)
    return mixed


def recoloured(crop: Pixels, change: NDArray[np.float64]) -> Pixels:
    """A crop [S, S, 3] after an affine change [3, 4] of its colours, clipped to 0..255; uint8 is rounded."""
    changed = np.asarray(cv2.transform(crop, change))
    return changed if crop.dtype == np.uint8 else np.clip(changed, 0, 255)


def grey_picture(image: Image) -> Image:
    """Luma (OpenCV's weights) in all three channels.

    Args:
        image: [H, W, 3] uint8 in RGB order.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def becomes_grey(frame: Frame, rule: str) -> tuple[bool, bool]:
    """The pictures of a frame that change when its sample becomes grey.

    Args:
        frame: The frame.
        rule: For RGB-X frames, "rgb_only": none of their pictures; "rgb": RGB alone; "rgb_and_equal_aux": the other
            one too if it is equal.

    Returns:
        Whether the RGB picture and whether the auxiliary picture changes.
    """
    if frame.second is None:
        return True, False
    if rule != "rgb_and_equal_aux":
        return rule == "rgb", False
    return True, frame.second is frame.rgb or bool(np.array_equal(frame.rgb, np.asarray(frame.aux)))


def mirror_box(box_xywh: Float32s, width: int) -> Float32s:
    """Mirror a box with its image; pixel column x becomes width - 1 - x.

    Both corners are moved and the size taken from them, in single precision: the crop's rounding depends on it.

    Args:
        box_xywh: [4] image pixels.
        width: Of the image.
    """
    x, y, w, h = np.asarray(box_xywh, dtype=np.float32)
    last = np.float32(width - 1)
    left, right = last - (x + w), last - x
    return np.array([left, y, right - left, (y + h) - y], dtype=np.float32)


def mirror_box_in_crop(box_xywh: Float32s, end: float = 1.0) -> Float32s:
    """Mirror a box with its crop.

    Args:
        box_xywh: [..., 4] in units of the crop's side.
        end: Where the crop ends; less than 1 where published training is a pixel short.
    """
    mirrored = np.array(box_xywh)
    mirrored[..., 0] = end - (box_xywh[..., 0] + box_xywh[..., 2])
    return mirrored
