"""Sections that an experiment may have, of any method: TEACHER and KD, INIT, SLT, ONLINE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from lib.config.build import Part, Section, require
from lib.ranges import Choice, Count, CountOrNone, NotNegative, Positive, Range, Rate, Share


@dataclass(frozen=True)
class Teacher(Section):
    """Another experiment whose trained network teaches this one.

    DATA describes the teacher's crops; the student's sizes are TEST.SEARCH_SIZE and TEST.TEMPLATE_SIZE.

    Attributes:
        script, config: The experiment.
        checkpoint: Its weights; see `lib.models.locate`. Empty: those of its trained network.
        precision: Of the teacher's forward pass.
    """

    script: str
    config: str
    checkpoint: str = ""
    precision: Annotated[str, Choice(("fp32", "bf16", "fp16"))] = "fp32"


@dataclass(frozen=True)
class KD(Section):
    """Losses of a student against its teacher; LoReTrack's values (weights 0.75 and 0.25 under the GOT-10k protocol).

    Attributes:
        temperature: Of the softmax over channels.
        layers: Blocks whose queries, keys and values are compared, -1 the last.
        saliency_threshold: Mean square of the teacher's feature from which a position counts as foreground.
        foreground_weight, background_weight: Weights of the two kinds of positions.
        disc_weight, qkv_weight: Weights of the two losses; 0 leaves one out.
    """

    temperature: Positive = 4.0
    layers: tuple[Annotated[int, Range(-1000, 999)], ...] = (-1,)
    saliency_threshold: NotNegative = 0.2
    foreground_weight: NotNegative = 0.6
    background_weight: NotNegative = 0.4
    disc_weight: NotNegative = 0.01
    qkv_weight: NotNegative = 0.01


@dataclass(frozen=True)
class Init(Section):
    """Weights of an earlier stage to begin with, in place of MODEL.PRETRAIN_FILE.

    Attributes:
        script, config: The experiment of the earlier stage.
        checkpoint: Its weights; see `lib.models.locate`. Empty: those of its trained network.
    """

    script: str = ""
    config: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.checkpoint or (self.script and self.config)
        require(bool(named), "needs a CHECKPOINT, or a SCRIPT and its CONFIG")


@dataclass(frozen=True)
class Copies(Section):
    """Augmentation of the copies that fill up a clip; SLT-SiamAttn's values.

    Attributes:
        shift: Largest movement, in units of the picture's mean side, or of the sum of the box's sides if that is less.
        scale: Largest change of the shown window's sides, as a share.
        blur, colour: Probabilities of the blur and the change of colours of PySOT.
    """

    shift: NotNegative = 0.1
    scale: Rate = 0.2
    blur: Share = 0.2
    colour: Share = 0.5


@dataclass(frozen=True)
class SLT(Section):
    """Sequence-level training on roll-outs of the tracker; published values (Kim et al., ECCV 2022).

    TRAIN.BATCH_SIZE and DATA.TRAIN.SAMPLE_PER_EPOCH count clips.

    Attributes:
        start: Weights to begin with: a file, also in the `pretrained` folder, loaded strictly; empty:
            MODEL.PRETRAIN_FILE, --load or --script_prv.
        frames: Per clip; the first one gives the box only.
        micro_batch: Clips whose losses are averaged, in one backward pass; 0 for all.
        clips_per_pass: Fewer clips of a micro-batch per backward pass: the same gradient in less memory.
        micro_frames: Frames per backward pass in place of MICRO_BATCH, taken from all clips frame by frame; gradients
            are averaged over all frames. 0: passes count clips.
        average: Gradients of these passes are averaged, not added up.
        clip_sampler: Choice of the frames of a clip, a name of `lib.data.CLIP_SAMPLERS`.
        max_gap, max_interval, interval_prob, reverse: See `lib.data.VisibleClipSampler`.
        template_gap, interval_mode: See `lib.data.AnnotatedClipSampler`.
        copies_teach: Copies that fill up short clips teach boxes too, without a reward (SLT-SiamRPN++).
        copies: Copies that fill up short clips are augmented, and count as frames (SLT-SiamAttn).
        mirror, grey: Probabilities, for a whole clip.
        temperature, epsilon: Of the default policy; may be given in POLICY too.
        policy: {TYPE: softmax_logit} (the default), softmax of TEMPERATURE * logit of windowed scores kept EPSILON off
            0 and 1, or another one of `lib.objectives.POLICIES`.
        policy_weight: Of the policy's loss, which is added to the method's box losses by their TRAIN weights.
        initial_weight, iterate_weight: Of the policy's loss under the initial filter, and under those between it and
            the last one, which share theirs; for trackers that learn a filter in steps.
    """

    start: str = ""
    frames: Annotated[int, Range(2)] = 24
    micro_batch: CountOrNone = 2
    clips_per_pass: Count | None = field(default=None, metadata={"section": True})
    micro_frames: CountOrNone = 0
    average: bool = False
    clip_sampler: str = "visible"
    max_gap: Annotated[int, Range(-1)] = 300
    max_interval: Count = 10
    interval_prob: Share = 0.3
    template_gap: Annotated[int, Range(-1)] = -1
    interval_mode: Annotated[str, Choice(("random", "uniform"))] = "random"
    copies_teach: bool = False
    copies: Copies | None = field(default=None, metadata={"section": True})
    reverse: Share = 0.0
    mirror: Share = 0.0
    grey: Share = 0.0
    temperature: Positive = 4.0
    epsilon: Annotated[float, Range(0, 0.5, above=True, below=True)] = 0.01
    policy: Part | None = field(default=None, metadata={"section": True})
    policy_weight: NotNegative = 15.0
    initial_weight: NotNegative | None = field(default=None, metadata={"section": True})
    iterate_weight: NotNegative | None = field(default=None, metadata={"section": True})


@dataclass(frozen=True)
class Online(Section):
    """A filter that a one-stream tracker learns while it tracks, on the features that its head reads.

    Attributes:
        mix: The scores are (1 - WEIGHT) * head + WEIGHT * filter (`sum`), or head * (1 - WEIGHT + WEIGHT * filter)
            (`product`), by which a filter can only take a place away.
        weight: Share of the filter.
        filter_size: Cells along a side of the filter, odd.
        label_sigma: Deviation of its label around the target in cells.
        init_shift: Distance of the further search regions from the first target, in units of its mean side.
        init_iterations: Steps of the optimisation in the first frame.
        iterations, train_skipping: Steps in every TRAIN_SKIPPING-th frame.
        threshold: Least confidence of a frame that becomes a sample.
        sample_memory_size, learning_rate, init_samples_minimum_weight: See `lib.track.MemoryRules`.
    """

    mix: Annotated[str, Choice(("sum", "product"))] = "sum"
    weight: Share = 0.3
    filter_size: Annotated[int, Range(1, 15)] = 3
    label_sigma: Positive = 0.75
    init_shift: NotNegative = 1.0
    init_iterations: Count = 20
    iterations: Count = 2
    train_skipping: Count = 5
    threshold: Share = 0.3
    sample_memory_size: Annotated[int, Range(10)] = 50
    learning_rate: Rate = 0.01
    init_samples_minimum_weight: Share = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.filter_size % 2 == 1, f"FILTER_SIZE must be odd, not {self.filter_size}")
