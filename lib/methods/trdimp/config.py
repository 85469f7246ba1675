"""Keys of TrDiMP configuration files; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import Part, require, schema
from lib.ranges import Count, CountOrNone, NotNegative, Positive, Share, Side
from lib.track import BoxRules, FirstFrameAugment, LocalisationRules, MemoryRules


@dataclass(frozen=True)
class TrDiMPModel(schema.OwnHeadsModel):
    """Parts of TrDiMP.

    Attributes:
        backbone: A ResNet of stride 16. pretrain_file: ImageNet weights of one, or a whole tracker.
        classification_dim: Channels of the features that the filter is applied to.
        key_dim: Of the transformer's keys.
        box_dim: Of the box regressor.
        iterations: Steps of the filter's optimisation in training.
    """

    backbone: Part = Part("resnet50_stride16")
    classification_dim: Count = 512
    key_dim: Count = 128
    box_dim: Count = 256
    iterations: Count = 5


@dataclass(frozen=True)
class TrDiMPTrain(schema.Train):
    """Training of TrDiMP.

    Attributes:
        bb_ce, test_clf, test_init_clf, test_iter_clf: Weights of the losses of boxes and of the scores under the last
            filter, the initial one, and those between, which share theirs.
        hinge_threshold: Label below which a cell is background: only its positive scores have a loss.
        search_sigma: Deviation of the search regions' labels in units of the map's side.
        proposals: Boxes per search region that the regressor learns to score.
        proposal_sigmas: Deviations [places, sizes] of the distributions that they are drawn from.
        activation_checkpointing: The backbone is computed again in the backward pass of sequence-level training, a few
            crops at a time, for less memory; the gradient is the same.
    """

    bb_ce: NotNegative = 0.01
    test_clf: NotNegative = 100.0
    test_init_clf: NotNegative = 100.0
    test_iter_clf: NotNegative = 400.0
    hinge_threshold: NotNegative = 0.05
    search_sigma: Positive = 0.25 / 6
    proposals: Count = 128
    proposal_sigmas: tuple[tuple[Positive, ...], ...] = ((0.05, 0.05), (0.5, 0.5))
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = bool(self.proposal_sigmas) and all(len(pair) == 2 for pair in self.proposal_sigmas)
        require(pairs, "PROPOSAL_SIGMAS needs a list of pairs [places, sizes], such as [[0.05, 0.05], [0.5, 0.5]]")


@dataclass(frozen=True)
class TrDiMPTest(schema.Test):
    """Settings of the tracker; SEARCH_SIZE and SEARCH_FACTOR are those of all its crops.

    Attributes:
        augment: Samples that are made of the first frame.
        memory: Samples that the filter learns from.
        localisation: How score maps are read.
        box_refinement: How boxes are refined.
        seed: Of the random numbers; repeated runs differ by it alone.
        update_classifier: Go on learning after the first frame.
        net_opt_iter, net_opt_update_iter, net_opt_hn_iter: Steps of the filter's optimisation in the first frame, in
            every TRAIN_SKIPPING-th one, and where there is a hard negative.
        train_skipping: See above.
        transformer_skipping: Every how many frames a template image enters the transformer; 0: never.
        transformer_memory_size: Template images, of which the oldest one leaves; those of the first frame are kept
            where there are more.
        patch_max_scale_change: Factor by which a crop that is larger than the picture is shrunk at most.
        target_inside_ratio: Share of a target that stays in the picture when it moves.
        update_scale_when_uncertain: The crop's scale follows the box even if a distractor may have been taken for the
            target.
    """

    template_size: Side = 352
    template_factor: Positive = 6.0
    search_size: Side = 352
    search_factor: Positive = 6.0
    augment: FirstFrameAugment = FirstFrameAugment()
    memory: MemoryRules = MemoryRules()
    localisation: LocalisationRules = LocalisationRules()
    box_refinement: BoxRules = BoxRules()
    seed: CountOrNone = 0
    update_classifier: bool = True
    net_opt_iter: CountOrNone = 10
    net_opt_update_iter: CountOrNone = 2
    net_opt_hn_iter: CountOrNone = 1
    train_skipping: Count = 20
    transformer_skipping: CountOrNone = 5
    transformer_memory_size: Count = 20
    patch_max_scale_change: Positive = 1.5
    target_inside_ratio: Share = 0.2
    update_scale_when_uncertain: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.update_classifier and self.memory.sample_memory_size <= self.augment.samples:
            raise ValueError(
                f"MEMORY.SAMPLE_MEMORY_SIZE {self.memory.sample_memory_size} must be larger than the number of samples "
                f"of the first frame, which is {self.augment.samples} by AUGMENT"
            )


STRIDE = 16
"""Pixels per cell of TrDiMP's maps."""
CROP = schema.Region(size=352, factor=6.0, number=3, center_jitter=3.0, scale_jitter=0.25)


@dataclass(frozen=True)
class TrDiMPConfig(schema.Config):
    """A TrDiMP experiment: three template and three later search frames, crops of one size that stay in the picture."""

    data: schema.Data = schema.Data(
        crop_style=Part("inside"),
        max_sample_interval=500,
        reject_all_padding=False,
        template=CROP,
        search=schema.Region(size=352, factor=6.0, number=3, center_jitter=5.5, scale_jitter=0.5),
    )
    model: TrDiMPModel = TrDiMPModel()
    train: TrDiMPTrain = TrDiMPTrain()
    test: TrDiMPTest = TrDiMPTest()

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = {"DATA.SEARCH.SIZE": self.data.search.size, "TEST.SEARCH_SIZE": self.test.search_size}
        for key, side in sides.items():
            require(side % STRIDE == 0, f"{key}, the crops' side {side}, must be a multiple of {STRIDE}")
