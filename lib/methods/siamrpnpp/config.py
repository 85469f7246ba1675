"""Keys of SiamRPN++ configuration files; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lib.config import Part, require, schema
from lib.models.heads import KERNEL_CELLS, anchor_shapes
from lib.ranges import Count, NotNegative, Positive, Range, Share

STRIDE = 8
"""Image pixels per cell of the backbone's last three layers, and of the grid of anchors."""
CELL_BORDER = 7
"""Pixels that the unpadded backbone takes off a picture."""
CORRELATED = 6
"""Cells of the search region's map that correlation takes off: two by a 3 x 3 convolution, four by kernels of five."""


def cells_of(side: int) -> int:
    """Cells along the feature map of a picture; an incomplete one at its right and lower border is left out.

    Args:
        side: Of the picture in pixels.
    """
    return (side - CELL_BORDER) // STRIDE


def misplacement(template: int, search: int) -> int:
    """Offset of the best cell's anchors from the target; 0 for 127 and 255, and in steps of 16 from these.

    Args:
        template, search: Sides in pixels.

    Returns:
        Pixels of the search region, to the right and below.
    """
    in_template = max(0, (cells_of(template) - KERNEL_CELLS) // 2) + KERNEL_CELLS // 2
    in_search = CORRELATED // 2 + (cells_of(search) - CORRELATED) // 2
    return (in_template - in_search) * STRIDE - template // 2 + search // 2


def check_sides(template: int, search: int, section: str) -> None:
    """Check the sizes of crops.

    Args:
        template, search: Sides in pixels.
        section: Where they stand, for the message.

    Raises:
        ValueError: The kernels would have less than five cells, or the map of scores less than three.
    """
    least = "must have at least 63 and 79 pixels; published are 127 and 255"
    fault = f"{section}: template ({template}) and search region ({search}) {least}"
    require(template >= 63 and search >= 79, fault)


@dataclass(frozen=True)
class SiamRPNModel(schema.OwnHeadsModel):
    """Parts of SiamRPN++.

    Attributes:
        backbone: An atrous ResNet. pretrain_file: ImageNet weights of one, or a whole tracker.
        hidden_dim: Channels of neck and heads.
        anchor_ratios: Heights over widths of anchors.
        anchor_scales: Their sizes, in cells.
    """

    backbone: Part = Part("resnet50")
    hidden_dim: Count = 256
    anchor_ratios: tuple[Positive, ...] = (0.33, 0.5, 1.0, 2.0, 3.0)
    anchor_scales: tuple[Positive, ...] = (8.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.anchors), "ANCHOR_RATIOS and ANCHOR_SCALES need one value each at least")
        sized = all(min(shape) > 0 for shape in self.anchors)
        require(sized, f"ANCHOR_RATIOS give an anchor of no size: {self.anchors}")

    @property
    def anchors(self) -> list[tuple[float, float]]:
        """Widths and heights in pixels."""
        return anchor_shapes(STRIDE, self.anchor_ratios, self.anchor_scales)


@dataclass(frozen=True)
class SiamRPNTrain(schema.Train):
    """Training of SiamRPN++.

    Attributes:
        cls_weight, loc_weight: Of the scores' and the boxes' losses.
        thr_high, thr_low, pos_num, neg_num, total_num: Which anchors learn, see `lib.models.heads.AnchorMatcher`.
    """

    cls_weight: NotNegative = 1.0
    loc_weight: NotNegative = 1.2
    thr_high: Share = 0.6
    thr_low: Share = 0.3
    pos_num: Annotated[int, Range(0)] = 16
    neg_num: Annotated[int, Range(0)] = 16
    total_num: Annotated[int, Range(1)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.thr_low <= self.thr_high, f"THR_LOW {self.thr_low} is above THR_HIGH {self.thr_high}")
        require(self.pos_num <= self.total_num, f"POS_NUM {self.pos_num} is above TOTAL_NUM {self.total_num}")


@dataclass(frozen=True)
class SiamRPNTest(schema.Test):
    """Settings of the tracker.

    Attributes:
        penalty_k: Strength of the penalty on changes of size and shape.
        window_influence: Share of the window in the windowed scores.
        size_lr: Share of a new size that is taken over, times the chosen anchor's penalised score.
    """

    template_factor: Positive = 2.0
    template_size: schema.Side = 127
    search_factor: Positive = 2 * 255 / 127
    search_size: schema.Side = 255
    penalty_k: NotNegative = 0.05
    window_influence: Share = 0.42
    size_lr: Share = 0.38

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(self.template_size, self.search_size, "TEMPLATE_SIZE and SEARCH_SIZE")


@dataclass(frozen=True)
class SiamRPNData(schema.Data):
    """Samples of SiamRPN++: pairs of frames, some of them negative, and pixels 0..255 in the order BGR."""

    sampler_mode: str = "pair"
    max_sample_interval: Count | tuple[Count, ...] = 100
    crop_style: Part = Part("pysot")
    reject_all_padding: bool = False
    clip_colours: bool = False
    augment: schema.Augment = schema.Augment(grey=0.0, grey_rule="rgb", mirror=0.0, crop_flip=0.0, brightness=0.0)
    channels: Annotated[str, schema.Choice(("RGB", "BGR"))] = "BGR"
    mean: tuple[Share, ...] = (0.0, 0.0, 0.0)
    std: tuple[Positive, ...] = (1 / 255, 1 / 255, 1 / 255)
    negative_pairs: Share = 0.2
    template: schema.Region = schema.Region(size=127, factor=2.0, center_jitter=4, scale_jitter=0.05)
    search: schema.Region = schema.Region(size=255, factor=2 * 255 / 127, center_jitter=64, scale_jitter=0.18)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(self.template.size, self.search.size, "TEMPLATE.SIZE and SEARCH.SIZE")


@dataclass(frozen=True)
class SiamRPNConfig(schema.Config):
    """A SiamRPN++ experiment."""

    data: SiamRPNData = SiamRPNData()
    model: SiamRPNModel = SiamRPNModel()
    train: SiamRPNTrain = SiamRPNTrain()
    test: SiamRPNTest = SiamRPNTest()
