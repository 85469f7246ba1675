"""Training data of an experiment: which frames make a sample, what becomes of them, how samples become batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from lib.config import Config, DataMix
from lib.data import (
    SAMPLERS,
    Augmentation,
    BatchLoader,
    BoxUnit,
    ClipPicker,
    ClipRule,
    CropStyle,
    FramePicker,
    Modality,
    PickRule,
    Processing,
    RegionRule,
    TrackingSampler,
    WholeFrames,
    as_read,
    build_clip_loader,
    build_loader,
    doubled,
    rgb_alone,
)
from lib.data.datasets import build_dataset
from lib.paths import Paths

VALIDATION_SEED = 1_000_003
"""Added to the seed, so that validation samples are not those of the training."""


@dataclass(frozen=True)
class DataParts:
    """What a method chooses of its training data.

    Attributes:
        frames: chooses the frames of a sample.
        transform: (frame set, random generator) -> sample.
        build_loader: (sampler, sizes and processes by name) -> loader, which collates.
    """

    frames: FramePicker
    transform: Callable[..., Any]
    build_loader: Callable[..., BatchLoader[Any]]


def crop_data(config: Config, training: bool) -> DataParts:
    """Crops of template and search regions, as DATA says."""
    data = config.data
    interval = data.max_sample_interval
    intervals = (interval,) if isinstance(interval, int) else tuple(interval)
    t, s = data.template, data.search
    processing = Processing(
        RegionRule(t.size, t.factor, t.center_jitter, t.scale_jitter),
        RegionRule(s.size, s.factor, s.center_jitter, s.scale_jitter),
        training=training,
        augmentation=Augmentation(**asdict(data.augment)),
        box_unit=cast(BoxUnit, data.box_unit),
        reject_all_padding=data.reject_all_padding,
        crop_style=cast(CropStyle, data.crop_style),
    )
    return DataParts(SAMPLERS[data.sampler_mode](PickRule(t.number, s.number, intervals)), processing, build_loader)


def clip_data(config: Config, training: bool) -> DataParts:
    """Clips of whole frames for sequence-level training, as SLT says."""
    slt = config.slt
    assert slt is not None
    rule = ClipRule(slt.frames, slt.max_gap, slt.max_interval, slt.interval_prob, slt.reverse)
    return DataParts(ClipPicker(rule), WholeFrames(slt.mirror, slt.grey), build_clip_loader)


def open_loader(
    parts: DataParts,
    config: Config,
    mix: DataMix,
    paths: Paths,
    *,
    training: bool,
    reads_aux: bool,
    rank: int = 0,
    world_size: int = 1,
    use_lmdb: bool = False,
) -> BatchLoader[Any]:
    """The loader of one process over the data sets of `mix`.

    Raises:
        ValueError: no data set is named, RGB and RGB-X sets are mixed, or not one batch fits into an epoch.
        MissingPathError: a data set is not there.
    """
    if not mix.names:
        raise ValueError("DATA.TRAIN.DATASETS_NAME is empty: name at least one data set, such as SYNTHETIC")
    train = config.train
    # A published file may write [null] for none; its ratio goes with it.
    ratios = [r for n, r in zip(mix.datasets_name, mix.datasets_ratio, strict=True) if n is not None]
    datasets = [build_dataset(name, paths, "lmdb" if use_lmdb else "auto") for name in mix.names]
    pictures = rgb_alone
    if reads_aux:
        pictures = doubled if config.data.multi_modal_vision else as_read
    plain = [d.name for d in datasets if d.modality is Modality.RGB]
    if pictures is as_read and plain and len(plain) < len(datasets):
        raise ValueError(
            f"RGB-X data sets are mixed with plain RGB ({', '.join(plain)}); with DATA.MULTI_MODAL_VISION: true these "
            "show their picture as the second modality too"
        )
    sampler = TrackingSampler(
        datasets,
        ratios,
        parts.frames,
        parts.transform,
        seed=train.seed if training else train.seed + VALIDATION_SEED,
        max_bad_samples=train.max_bad_samples,
        pictures=pictures,
    )
    return parts.build_loader(
        sampler,
        samples_per_epoch=mix.sample_per_epoch,
        batch_size=train.batch_size,
        workers=train.num_worker,
        rank=rank,
        world_size=world_size,
    )
