"""From an experiment to the parts of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.data import Batch, ClipBatch, Rows, normalise_batch
from lib.distributed import World
from lib.methods import Experiment, resolve
from lib.paths import Paths
from lib.train.loop import Parts
from lib.train.optim import build_optimizer, parameter_groups
from lib.train.schedule import lr_factor


def build_parts(
    experiment: Experiment,
    world: World,
    paths: Paths,
    use_lmdb: bool,
    identity: dict[str, Any],
    metadata: dict[str, Any],
    begins: bool = True,
    load: Path | None = None,
    previous: tuple[str, str] | None = None,
) -> Parts:
    """Everything a `Trainer` needs; begins, load, previous: see `lib.methods.resolve`."""
    train = experiment.config.train
    lr_factor(train, 1)  # an unusable schedule is an error now, not when the first step is due
    recipe = resolve(
        experiment,
        paths,
        device=world.device,
        rank=world.rank,
        world_size=world.size,
        use_lmdb=use_lmdb,
        begins=begins,
        load=load,
        previous=previous,
    )
    optimizer = build_optimizer(parameter_groups(recipe.network, train), train)
    if train.compile:
        recipe.network.compile()

    def prepare(batch: Batch | ClipBatch) -> Rows:
        # Whole frames stay where crops are cut from them.
        return batch if isinstance(batch, ClipBatch) else normalise_batch(batch.to(world.device), recipe.normalise)

    return Parts(
        recipe.network,
        recipe.objective,
        optimizer,
        recipe.train_loader,
        recipe.val_loader,
        prepare,
        {**metadata, **recipe.notes},
        identity,
    )
