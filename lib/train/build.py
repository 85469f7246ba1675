"""From an experiment to the parts of a training: data sets, samplers, loaders, network, objective, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from lib.config import Config, DataMix
from lib.data import (
    CLIP_SAMPLERS,
    FRAME_SAMPLERS,
    Batch,
    BatchLoader,
    ClipBatch,
    Dataset,
    Frame,
    FrameSampler,
    FrameSet,
    Modality,
    Normalise,
    Processing,
    Rows,
    TrackingSampler,
    WholeFrames,
    as_read,
    build_clip_loader,
    build_loader,
    doubled,
    normalise_batch,
    rgb_alone,
)
from lib.data.datasets import build_dataset
from lib.methods import (
    Distillation,
    Experiment,
    InitialWeights,
    SequenceTraining,
    plan_distillation,
    plan_initial_weights,
    plan_sequence_training,
    without_pretraining,
)
from lib.methods.ostrack import TIMM, find_pretrained
from lib.objectives import Objective
from lib.paths import Paths
from lib.train.distributed import World
from lib.train.loop import Parts
from lib.train.optim import build_optimizer, parameter_groups
from lib.train.schedule import lr_factor

T = TypeVar("T")
VALIDATION_SEED = 1_000_003
"""Added to the seed, so that validation samples are not those of the training."""


def build_parts(
    experiment: Experiment,
    world: World,
    paths: Paths,
    use_lmdb: bool,
    identity: dict[str, Any],
    metadata: dict[str, Any],
    begins: bool = True,
) -> Parts:
    """Everything a `Trainer` needs. The network has its initial weights, on the device of this process.

    begins: False where a state or --load is going to replace the weights: MODEL.PRETRAIN_FILE and INIT are left aside
    then, and need not be there any more.
    Raises ConfigError, CheckpointNotFoundError, MissingPathError, WeightsError or ValueError for what the configuration
    asks and is not there.
    """
    config: Config = experiment.config
    lr_factor(config.train, 1)  # an unusable schedule is told now, not when the first step is due
    # Files of weights and data first: what is missing there is told within seconds, before a network is built.
    initial = plan_initial_weights(experiment, paths) if begins else None
    if initial is not None or not begins:
        experiment = without_pretraining(experiment)
    distillation, sequences = plan_distillation(experiment, paths), plan_sequence_training(experiment, paths)
    _check_pretraining(experiment, sequences)
    source = _Source(config, experiment.method.reads_aux, world, paths, use_lmdb, sequences)
    train_loader = source.loader(config.data.train, training=True)
    val_loader = None
    if config.data.val.names and config.data.val.sample_per_epoch and config.train.val_epoch_interval > 0:
        try:
            val_loader = source.loader(config.data.val, training=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{str(error).rstrip('.')}; TRAIN.VAL_EPOCH_INTERVAL=0 trains without validation"
            ) from None
    network, objective, notes = _learner(experiment, distillation, sequences, initial, world)
    metadata = {**metadata, **notes}
    if isinstance(objective, nn.Module):
        objective.to(world.device)
    optimizer = build_optimizer(parameter_groups(network, config.train), config.train)
    if config.train.compile:
        network.compile()
    normalise = Normalise(config.data.mean, config.data.std).to(world.device)

    def prepare(batch: Batch | ClipBatch) -> Rows:
        # Whole frames stay where crops are cut from them.
        return batch if isinstance(batch, ClipBatch) else normalise_batch(batch.to(world.device), normalise)

    return Parts(network, objective, optimizer, train_loader, val_loader, prepare, metadata, identity)


def _check_pretraining(experiment: Experiment, sequences: SequenceTraining | None) -> None:
    name = experiment.config.model.pretrain_file
    if name and not name.startswith(TIMM) and (sequences is None or sequences.start is None):
        find_pretrained(name)


def _learner(
    experiment: Experiment,
    distillation: Distillation | None,
    sequences: SequenceTraining | None,
    initial: InitialWeights | None,
    world: World,
) -> tuple[nn.Module, Objective, dict[str, str]]:
    """Network and objective, and what the metadata says of them."""
    method, own = experiment.method, experiment.config
    if distillation is not None:
        own = distillation.student_config
    elif sequences is not None:
        own = sequences.own_config
    network = method.build_network(own, True).to(world.device)
    notes = {} if initial is None else {"initial": initial.load(network)}
    if sequences is not None:
        sequences.load_start(network)
        return network, sequences.objective(network), {**notes, "sequences": sequences.describe()}
    objective = method.build_objective(own, network)
    if distillation is not None:
        return network, distillation.join(objective, network), {**notes, "teacher": distillation.describe()}
    return network, objective, notes


@dataclass(frozen=True)
class _Source:
    """Where loaders come from: of crops, or of clips for sequence-level training."""

    config: Config
    reads_aux: bool
    world: World
    paths: Paths
    use_lmdb: bool
    sequences: SequenceTraining | None

    def loader(self, mix: DataMix, training: bool) -> BatchLoader[Batch] | BatchLoader[ClipBatch]:
        if not mix.names:
            raise ValueError("DATA.TRAIN.DATASETS_NAME is empty: name at least one data set, such as SYNTHETIC")
        train, sequences = self.config.train, self.sequences
        shares: dict[str, Any] = {
            "samples_per_epoch": mix.sample_per_epoch,
            "batch_size": train.batch_size,
            "workers": train.num_worker,
            "rank": self.world.rank,
            "world_size": self.world.size,
        }
        if sequences is not None:
            slt = sequences.section
            clips = self._sampler(mix, training, CLIP_SAMPLERS[slt.clip_sampler](slt), WholeFrames(slt))
            return build_clip_loader(clips, **shares)
        data = self.config.data
        crops = self._sampler(mix, training, FRAME_SAMPLERS[data.sampler_mode](data), Processing(data, training))
        return build_loader(crops, **shares, pin_memory=self.world.device.type == "cuda")

    def _sampler(
        self,
        mix: DataMix,
        training: bool,
        frame_sampler: FrameSampler,
        make: Callable[[FrameSet, np.random.Generator], T],
    ) -> TrackingSampler[T]:
        train = self.config.train
        # A published file may write [null] for none; its ratio goes with it.
        ratios = [r for n, r in zip(mix.datasets_name, mix.datasets_ratio, strict=True) if n is not None]
        datasets = [build_dataset(name, self.paths, "lmdb" if self.use_lmdb else "auto") for name in mix.names]
        return TrackingSampler(
            datasets,
            ratios,
            frame_sampler,
            make,
            seed=train.seed if training else train.seed + VALIDATION_SEED,
            max_bad_samples=train.max_bad_samples,
            pictures=self._pictures(datasets),
        )

    def _pictures(self, datasets: Sequence[Dataset]) -> Callable[[Frame], Frame]:
        if not self.reads_aux:
            return rgb_alone
        if self.config.data.multi_modal_vision:
            return doubled
        _check_one_kind(datasets)
        return as_read


def _check_one_kind(datasets: Sequence[Dataset]) -> None:
    plain = [d.name for d in datasets if d.modality is Modality.RGB]
    if plain and len(plain) < len(datasets):
        raise ValueError(
            f"RGB-X data sets are mixed with plain RGB ({', '.join(plain)}); with DATA.MULTI_MODAL_VISION: true these "
            "show their picture as the second modality too"
        )
