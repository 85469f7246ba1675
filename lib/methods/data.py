"""Training data of an experiment: frames of a sample, their transform, and the loader that makes batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lib.config import Config
from lib.data import (
    CLIP_SAMPLERS,
    COLLATES,
    FRAME_SAMPLERS,
    BatchLoader,
    FrameSampler,
    Modality,
    Processing,
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
    """Parts of the training data that a method chooses.

    Attributes:
        frames: Chooses the frames of a sample.
        transform: (frame set, random generator) -> sample.
        build_loader: (sampler, sizes and processes by name) -> loader, which collates.
    """

    frames: FrameSampler
    transform: Callable[..., Any]
    build_loader: Callable[..., BatchLoader[Any]]


def crop_data(config: Config, training: bool) -> DataParts:
    """Crops of template and search regions, by DATA: the usual training data.

    Args:
        config: Of the experiment.
        training: With augmentation.
    """
    data = config.data
    stacked = partial(build_loader, collate=COLLATES[data.collate])
    return DataParts(FRAME_SAMPLERS[data.sampler_mode](data), Processing(data, training), stacked)


def clip_data(config: Config, training: bool) -> DataParts:
    """Clips of whole frames for sequence-level training, by SLT.

    Args:
        config: Of the experiment.
        training: Of no effect; frames are not augmented.
    """
    slt = config.slt
    assert slt is not None
    return DataParts(CLIP_SAMPLERS[slt.clip_sampler](slt), WholeFrames(slt), build_clip_loader)


def open_loader(
    build_data: Callable[[Any, bool], DataParts],
    config: Config,
    paths: Paths,
    *,
    training: bool,
    reads_aux: bool,
    use_lmdb: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> BatchLoader[Any]:
    """The loader of one process over the data sets of DATA.TRAIN or DATA.VAL.

    Args:
        build_data: See `Method.build_data`.
        config: Of the experiment.
        paths: Where data sets lie.
        training: DATA.TRAIN with augmentation; otherwise DATA.VAL, whose samples are drawn by another seed.
        reads_aux: Samples have the second picture of RGB-X frames.
        use_lmdb: Read data sets from LMDB stores.
        rank, world_size: This process among all.

    Raises:
        ValueError: No data set is named, RGB and RGB-X sets are mixed, or not one batch fits into an epoch.
        MissingPathError: A data set is not there.
    """
    data, train, parts = config.data, config.train, build_data(config, training)
    mix = data.train if training else data.val
    if not mix.names:
        raise ValueError("DATA.TRAIN.DATASETS_NAME is empty: name at least one data set, such as SYNTHETIC")
    # A published file may write [null] for none; its ratio goes with it.
    ratios = [r for n, r in zip(mix.datasets_name, mix.datasets_ratio, strict=True) if n is not None]
    datasets = [build_dataset(name, paths, use_lmdb) for name in mix.names]
    pictures = rgb_alone
    if reads_aux:
        pictures = doubled if data.multi_modal_vision else as_read
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
        masks=data.masks,
    )
    share = {"rank": rank, "world_size": world_size}
    sizes = {"samples_per_epoch": mix.sample_per_epoch, "batch_size": train.batch_size}
    return parts.build_loader(sampler, workers=train.num_worker, **sizes, **share)
