"""A small network, objective and loader for tests of the loop; as a program, one training run that can be killed."""

from __future__ import annotations

import argparse
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # optimisers import it, which takes seconds: forked processes share this one
from torch import Tensor, nn

from lib import distributed
from lib.config import ParamGroup, Schedule, Train, TrainPhase, as_plain, config_hash
from lib.data import Batch
from lib.distributed import World
from lib.objectives import Losses, Progress
from lib.train import (
    CheckpointFolder,
    Trainer,
    TrainingSetup,
    TrainLog,
    check_state,
    find_state,
    seed_everything,
)

ALONE = World(torch.device("cpu"))
TRAIN = Train(
    lr=1e-2,
    weight_decay=0.1,
    epoch=3,
    lr_drop_epoch=2,
    batch_size=4,
    print_interval=2,
    val_epoch_interval=2,
    grad_clip_norm=1.0,
    scheduler=Schedule(warmup_epochs=0.5),
    save_last_n_epoch=1,
    save_epoch_interval=2,
    save_epochs=(),
    state_interval_steps=2,
)

PHASED = replace(
    TRAIN,
    epoch=4,
    phases=(
        TrainPhase(
            epochs=2,
            optimizer="SGD",
            momentum=0.5,
            param_groups=(ParamGroup("backbone", freeze=True), ParamGroup(".*")),
            eval_modules=("^norm$",),
        ),
        TrainPhase(lr=2e-3, optimizer="ADAM"),
    ),
)


class ToyNetwork(nn.Module):
    """Has what makes exact resume hard: dropout, batch normalisation, a parameter without gradient."""

    def __init__(self, dropout: float = 0.2, batch_norm: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Linear(12, 16)
        self.norm = nn.BatchNorm1d(16) if batch_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.box_head = nn.Linear(16, 4)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, crops: Tensor) -> Tensor:
        """crops: [B, 3, 2, 2] -> boxes [B, 4]."""
        return self.box_head(self.drop(torch.relu(self.norm(self.backbone(crops.flatten(1))))))


class ToyObjective:
    """Mean squared error; with `noise`, scaled by all three generators. `at` may do something in a given step."""

    def __init__(self, noise: bool = True, at: Callable[[Progress, nn.Module], None] | None = None) -> None:
        self.noise, self.at = noise, at

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        if self.at is not None:
            self.at(progress, network)
        error = (network(batch.search[:, 0]) - batch.search_boxes[:, 0]).square().mean()
        scale = 1 + random.random() + float(np.random.rand()) + float(torch.rand(())) if self.noise else 1.0
        return Losses(error * scale, {"Loss/error": error})


class ToyLoader:
    """Batches that are a pure function of seed, epoch, step and rank. `order`: which samples a process gets."""

    def __init__(self, steps: int, batch_size: int, rank: int = 0, world: int = 1, seed: int = 7) -> None:
        self.steps, self.batch_size, self.rank, self.world, self.seed = steps, batch_size, rank, world, seed
        self.bad_samples = 0

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        torch.rand(5)  # starting worker processes draws from the global generator, too
        for step in range(start, self.steps):
            first = (step * self.world + self.rank) * self.batch_size
            samples = [toy_sample(self.seed, epoch, first + i) for i in range(self.batch_size)]
            yield toy_batch(samples)


def toy_sample(seed: int, epoch: int, index: int) -> tuple[Tensor, Tensor]:
    """A crop [1, 3, 2, 2] and its box [1, 4]."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch * 1009 + index)
    return torch.randn(1, 3, 2, 2, generator=generator), torch.rand(1, 4, generator=generator)


def toy_batch(samples: list[tuple[Tensor, Tensor]]) -> Batch:
    crops, boxes = (torch.stack(x) for x in zip(*samples, strict=True))
    names = [f"toy/sequence:{i}" for i in range(len(samples))]
    return Batch(crops, crops, boxes, boxes, torch.zeros(len(samples), dtype=torch.int64), names)


def first_rows(batch: Batch, rows: int) -> Batch:
    """The first `rows` samples of a batch."""
    return batch.select(range(rows))


def toy_trainer(
    folder: Path,
    train: Train = TRAIN,
    world: World = ALONE,
    network: nn.Module | None = None,
    objective: Any = None,
    steps: int = 5,
    log: TrainLog | None = None,
    resume: str = "auto",
) -> Trainer:
    seed_everything(train.seed + world.rank)
    network = network or ToyNetwork()
    setup = TrainingSetup(
        network,
        objective or ToyObjective(),
        ToyLoader(steps, train.batch_size, world.rank, world.size),
        ToyLoader(2, train.batch_size, world.rank, world.size, seed=8),
        prepare=lambda batch: batch,
        metadata={"method": "toy", "config": as_plain(train), "config_hash": config_hash(train)},
    )
    store = CheckpointFolder(folder, "Toy")
    trainer = Trainer(setup, train, world, store, log or TrainLog())
    found = find_state(store, resume)
    if found is not None:
        check_state(found[1], setup.metadata, world.size, allow_change=False)
        trainer.restore(*found)
    return trainer


def killing(epoch: int, step: int) -> Callable[[Progress, nn.Module], None]:
    """Ends the process at once, in the middle of a step."""

    def at(progress: Progress, network: nn.Module) -> None:
        restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        if network.training and (progress.epoch, progress.step) == (epoch, step) and not restarted:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def train_in_world(folder: Path, **options: Any) -> None:
    """One process of a training as `torchrun` would start it; the second one leaves its weights in `rank1.pt`."""
    torch.set_num_threads(1)
    world = distributed.start("cpu")
    trainer = toy_trainer(folder, world=world, **options)
    trainer.run()
    if world.rank == 1:
        torch.save(trainer.setup.network.state_dict(), folder / "rank1.pt")
    distributed.stop(world)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kill", type=int, nargs=2, required=True)
    arguments = parser.parse_args()
    train_in_world(arguments.folder, objective=ToyObjective(at=killing(*arguments.kill)))


if __name__ == "__main__":
    main()
