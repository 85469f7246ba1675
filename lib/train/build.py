"""From an experiment to the parts of a training: data sets, samplers, loaders, network, objective, optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from torch import nn

from lib.config.schema import Config, Data, DataMix, Region
from lib.data.augment import Augmentation
from lib.data.crop import CropStyle
from lib.data.datasets import build_dataset
from lib.data.loader import BatchLoader, build_loader
from lib.data.normalise import Normalise, normalise_batch
from lib.data.picking import SAMPLERS, PickRule
from lib.data.processing import BoxUnit, Processing, RegionRule
from lib.data.sampling import TrackingSampler
from lib.data.types import Batch, Dataset, Modality
from lib.methods import Experiment
from lib.methods.distillation import plan_distillation
from lib.paths import Paths
from lib.train.distributed import World
from lib.train.loop import Parts
from lib.train.optim import build_optimizer, parameter_groups
from lib.train.schedule import lr_factor

VALIDATION_SEED = 1_000_003
"""Added to the seed, so that validation samples are not those of the training."""


def build_parts(
    experiment: Experiment,
    world: World,
    paths: Paths,
    use_lmdb: bool,
    identity: dict[str, Any],
    metadata: dict[str, Any],
) -> Parts:
    """Everything a `Trainer` needs. The network has its initial weights, on the device of this process.

    Raises ConfigError, CheckpointNotFoundError, MissingPathError, WeightsError or ValueError for what the configuration
    asks and is not there.
    """
    config: Config = experiment.config
    lr_factor(config.train, 1)  # an unusable schedule is told now, not when the first step is due
    # Teacher and data first: what is missing there is told within seconds, before a network is built.
    distillation = plan_distillation(experiment, paths)
    train_loader = _loader(config, config.data.train, world, paths, use_lmdb, training=True)
    val_loader = None
    if config.data.val.names and config.data.val.sample_per_epoch and config.train.val_epoch_interval > 0:
        val_loader = _loader(config, config.data.val, world, paths, use_lmdb, training=False)
    own = config if distillation is None else distillation.student_config
    network = experiment.method.build_network(own, True).to(world.device)
    objective = experiment.method.build_objective(own, network)
    if distillation is not None:
        objective = distillation.join(objective, network)
        metadata = {**metadata, "teacher": distillation.describe()}
    if isinstance(objective, nn.Module):
        objective.to(world.device)
    optimizer = build_optimizer(parameter_groups(network, config.train), config.train)
    if config.train.compile:
        network.compile()
    normalise = Normalise(config.data.mean, config.data.std).to(world.device)

    def prepare(batch: Batch) -> Batch:
        return normalise_batch(batch.to(world.device), normalise)

    return Parts(network, objective, optimizer, train_loader, val_loader, prepare, metadata, identity)


def _loader(config: Config, mix: DataMix, world: World, paths: Paths, use_lmdb: bool, training: bool) -> BatchLoader:
    data, train = config.data, config.train
    if not mix.names:
        raise ValueError("DATA.TRAIN.DATASETS_NAME is empty: name at least one data set, such as SYNTHETIC")
    # A published file may write [null] for none; its ratio goes with it.
    ratios = [r for n, r in zip(mix.datasets_name, mix.datasets_ratio, strict=True) if n is not None]
    interval = data.max_sample_interval
    rule = PickRule(
        data.template.number, data.search.number, (interval,) if isinstance(interval, int) else tuple(interval)
    )
    datasets = [build_dataset(name, paths, "lmdb" if use_lmdb else "auto") for name in mix.names]
    if not data.multi_modal_vision:
        _check_one_kind(datasets)
    sampler = TrackingSampler(
        datasets,
        ratios,
        SAMPLERS[data.sampler_mode](rule),
        _processing(data, training),
        seed=train.seed if training else train.seed + VALIDATION_SEED,
        max_bad_samples=train.max_bad_samples,
        rgb_as_aux=data.multi_modal_vision,
    )
    return build_loader(
        sampler,
        mix.sample_per_epoch,
        train.batch_size,
        workers=train.num_worker,
        rank=world.rank,
        world_size=world.size,
        pin_memory=world.device.type == "cuda",
    )


def _check_one_kind(datasets: Sequence[Dataset]) -> None:
    plain = [d.name for d in datasets if d.modality is Modality.RGB]
    if plain and len(plain) < len(datasets):
        raise ValueError(
            f"RGB-X data sets are mixed with plain RGB ({', '.join(plain)}); with DATA.MULTI_MODAL_VISION: true these "
            "show their picture as the second modality too"
        )


def _processing(data: Data, training: bool) -> Processing:
    return Processing(
        _rule(data.template),
        _rule(data.search),
        training=training,
        augmentation=Augmentation(**asdict(data.augment)),
        box_unit=cast(BoxUnit, data.box_unit),
        reject_all_padding=data.reject_all_padding,
        crop_style=cast(CropStyle, data.crop_style),
    )


def _rule(region: Region) -> RegionRule:
    return RegionRule(region.size, region.factor, region.center_jitter, region.scale_jitter)
