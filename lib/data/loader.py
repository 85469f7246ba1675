"""Batches of training samples, made by worker processes; the same bytes for any number of workers and processes."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from lib.data.broken import BrokenFiles, BrokenReport, TooManyBadSamplesError
from lib.data.types import Batch, Modality, Sample

__all__ = [
    "WORKER_DIED", "BatchLoader", "SampleSource", "TooManyBadSamplesError", "WorkerError", "build_loader", "collate",
    "is_worker_death",
]  # fmt: skip

Position = tuple[int, int]
"""Epoch and index of a sample."""
WORKER_GRACE_SECONDS = 60
"""How long a worker lives on after SIGTERM, unless the main process ends it in good order before."""


class WorkerError(RuntimeError):
    """A worker process that died."""


WORKER_DIED = (
    "a data loading process died (out of memory, or killed from outside); fewer TRAIN.NUM_WORKER need less memory"
)


def is_worker_death(error: BaseException) -> bool:
    """Whether a worker process died. PyTorch raises at once, so that it may surface anywhere in a training step."""
    told = str(error)
    return isinstance(error, RuntimeError) and ("exited unexpectedly" in told or "killed by signal" in told)


class SampleSource(Protocol):
    """What a loader draws from; `lib.data.sampling.TrackingSampler` is one. Picklable when workers are spawned."""

    broken: BrokenFiles

    def __call__(self, epoch: int, index: int) -> Sample: ...


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What travels from a worker: a batch, or the sentence with which it gave up."""

    batch: Batch | None
    report: BrokenReport | None
    failure: str | None = None

    def pin_memory(self) -> _Loaded:
        return self if self.batch is None else replace(self, batch=self.batch.pin_memory())


class _Batches(TorchDataset[Any]):
    """As torch's loader wants it: a list of positions in, one batch out."""

    def __init__(self, sampler: SampleSource, length: int) -> None:
        self.sampler = sampler
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, positions: list[Position]) -> _Loaded:
        working = get_worker_info() is not None
        try:
            samples = [self.sampler(epoch, index) for epoch, index in positions]
        except TooManyBadSamplesError as error:
            if not working:
                raise
            # sent as a value: an exception would come out of the loader wrapped in the worker's traceback
            return _Loaded(None, self.sampler.broken.take(), str(error))
        return _Loaded(collate(samples), self.sampler.broken.take() if working else None)


@dataclass
class _Positions:
    """Which samples make the batches of this process: of global batch b, every world_size-th one from `rank` on."""

    batch_size: int
    batches: int
    rank: int
    world_size: int
    epoch: int = 1
    start: int = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Position]]:
        epoch = self.epoch
        for batch in range(self.start, self.batches):
            first = batch * self.batch_size * self.world_size + self.rank
            yield [(epoch, first + i * self.world_size) for i in range(self.batch_size)]


class BatchLoader:
    """Batches of any epoch from any position on. Worker processes live as long as the loader.

    One epoch is read at a time: asking for another one ends the one before.
    """

    def __init__(self, sampler: SampleSource, positions: _Positions, loader: DataLoader[Any]) -> None:
        self._sampler = sampler
        self._positions = positions
        self._loader = loader

    def __len__(self) -> int:
        """Batches per epoch for this process; the same in all processes."""
        return len(self._positions)

    @property
    def bad_samples(self) -> int:
        """How many samples could not be read so far, in this process and its workers."""
        return self._sampler.broken.failures

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... of an epoch (counted from 1); the ones before are not loaded.

        Raises TooManyBadSamplesError, and WorkerError when a worker process died.
        """
        self._positions.epoch, self._positions.start = epoch, start
        iterator = iter(self._loader)
        while True:
            try:
                loaded = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                if not is_worker_death(error):
                    raise
                raise WorkerError(f"{WORKER_DIED} in epoch {epoch} ({error})") from error
            yield self._unpack(loaded)

    def _unpack(self, loaded: _Loaded) -> Batch:
        if loaded.report is not None:
            self._sampler.broken.merge(loaded.report)
        if loaded.batch is None:
            raise TooManyBadSamplesError(loaded.failure)
        return loaded.batch


def build_loader(
    sampler: SampleSource,
    samples_per_epoch: int,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 2,
    pin_memory: bool | None = None,
    start_method: str | None = None,
) -> BatchLoader:
    """A loader for one of `world_size` processes.

    batch_size: per process. An incomplete last batch (over all processes) is dropped. workers: processes; 0 loads in
    this one. prefetch: batches that each worker prepares ahead. pin_memory: page-locked batches; None means with CUDA.
    start_method: "fork", "spawn" or "forkserver"; None leaves it to Python. Raises ValueError when not even one batch
    fits into an epoch.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} does not exist among {world_size} processes")
    batches = samples_per_epoch // (batch_size * world_size)
    if batches < 1:
        raise ValueError(
            f"SAMPLE_PER_EPOCH {samples_per_epoch} is less than one batch of {world_size} x {batch_size} samples"
        )
    positions = _Positions(batch_size, batches, rank, world_size)
    several: dict[str, Any] = {}
    if workers > 0:
        share = sampler.broken.max_share
        several = {
            "persistent_workers": True,
            "prefetch_factor": prefetch,
            "multiprocessing_context": start_method,
            "worker_init_fn": partial(_start_worker, share),
        }
    with warnings.catch_warnings():  # NUM_WORKER above the number of cores is the user's to choose
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader: DataLoader[Any] = DataLoader(
            _Batches(sampler, samples_per_epoch),
            batch_sampler=positions,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            # its own generator: the training's random numbers do not depend on when workers start
            generator=torch.Generator(),
            **several,
        )
    return BatchLoader(sampler, positions, loader)


def collate(samples: list[Sample]) -> Batch:
    """Samples of one shape, stacked. Raises ValueError where RGB and RGB+X samples are mixed."""
    shapes = {s.template.shape for s in samples} | {s.search.shape for s in samples}
    if len({shape[1] for shape in shapes}) > 1:
        names = sorted({s.dataset for s in samples})
        raise ValueError(f"RGB samples and RGB+X samples in one batch (data sets {', '.join(names)})")
    modalities = list(Modality)
    return Batch(
        template=_stack([s.template for s in samples]),
        search=_stack([s.search for s in samples]),
        template_boxes=_stack([s.template_boxes for s in samples]),
        search_boxes=_stack([s.search_boxes for s in samples]),
        template_gain=_stack([s.template_gain for s in samples]),
        search_gain=_stack([s.search_gain for s in samples]),
        modality=torch.tensor([modalities.index(s.modality) for s in samples]),
        names=[f"{s.dataset}/{s.sequence}:{','.join(map(str, s.frame_ids))}" for s in samples],
    )


def _stack(arrays: list[Any]) -> Tensor:
    """One tensor; in a worker it lies in shared memory at once, which saves a copy."""
    first = torch.from_numpy(arrays[0])
    stacked = torch.empty((len(arrays), *first.shape), dtype=first.dtype)
    if get_worker_info() is not None:
        stacked.share_memory_()
    np.stack(arrays, out=stacked.numpy())
    return stacked


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _end_later(signum: int, frame: FrameType | None) -> None:
    """SIGTERM to all processes of a training (torchrun, a batch system): the main one still needs its step's data."""
    signal.alarm(WORKER_GRACE_SECONDS)


def _start_worker(max_share: float, worker: int) -> None:
    """One core per worker; signals are the main process's to answer; broken files are reported with the batches."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    info = get_worker_info()
    if info is not None:
        info.dataset.sampler.broken = BrokenFiles(max_share=max_share, quiet=True)  # type: ignore[attr-defined]
