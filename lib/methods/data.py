"""Training data of an experiment: which frames make a sample, what becomes of them, how samples become batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lib.config import Config, DataMix
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
    """What a method chooses of its training data.

    Attributes:
        frames: chooses the frames of a sample.
        transform: (frame set, random generator) -> sample.
        build_loader: (sampler, sizes and processes by name) -> loader, which collates.
    """

    frames: FrameSampler
    transform: Callable[..., Any]
    build_loader: Callable[..., BatchLoader[Any]]


def crop_data(config: Config, training: bool) -> DataParts:
    """Crops of template and search regions, as DATA says."""
    data = config.data
    stacked = partial(build_loader, collate=COLLATES[data.collate])
    return DataParts(FRAME_SAMPLERS[data.sampler_mode](data), Processing(data, training), stacked)


def clip_data(config: Config, training: bool) -> DataParts:
    """Clips of whole frames for sequence-level training, as SLT says."""
    slt = config.slt
    assert slt is not None
    return DataParts(CLIP_SAMPLERS[slt.clip_sampler](slt), WholeFrames(slt), build_clip_loader)


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
        masks=config.data.masks,
    )
    return parts.build_loader(
        sampler,
        samples_per_epoch=mix.sample_per_epoch,
        batch_size=train.batch_size,
        workers=train.num_worker,
        rank=rank,
        world_size=world_size,
    )
