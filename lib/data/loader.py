"""Batches of training samples, made by worker processes; the same bytes for any number of workers and processes.

Crops travel as finished batches. Clips of whole frames are a hundred times larger: each travels by itself, so that all
workers decode for the same batch and no more than `workers * prefetch` clips wait in memory.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.util import get_temp_dir
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from lib.data.clips import PackedClip, pack_clips, unpack_clip
from lib.data.io import BrokenFiles, BrokenReport, TooManyBadSamplesError
from lib.data.types import Batch, ClipBatch, FrameSet, Modality, Sample
from lib.files import require_shared_memory
from lib.registry import Registry

Position = tuple[int, int]
"""Epoch and index of a sample."""
WORKER_GRACE_SECONDS = 60
"""Seconds that a worker keeps working after SIGTERM, unless the main process ends it before."""
WORKER_DIED = (
    "a data loading process died (out of memory, or killed from outside); fewer TRAIN.NUM_WORKER need less memory"
)
MAIN_GUARD = (
    "where processes are not forked (macOS, Windows, Python 3.14), a script trains below `if __name__ == '__main__':`, "
    "or with TRAIN.NUM_WORKER=0"
)
OPEN_FILES, OPEN_FILES_PER_WORKER = 64, 16
"""Files that a training process opens by itself, and for each data loading process: pipes, and tensors on their way."""
TROUBLE = (
    (
        ("bus error", "shared memory", "</torch_"),
        "the shared memory of this machine (/dev/shm), through which data loading processes send batches, is full; "
        "containers get more by --shm-size=8g, and fewer TRAIN.NUM_WORKER need less",
    ),
    (
        ("too many open files", "ancdata"),
        "too many open files for one process; `ulimit -n 65536` allows more, and fewer TRAIN.NUM_WORKER need fewer",
    ),
    (
        ("can't start new thread", "resource temporarily unavailable"),
        "this user or container may start no more processes and threads; `ulimit -u` and --pids-limit allow more, and "
        "fewer TRAIN.NUM_WORKER and OMP_NUM_THREADS need fewer",
    ),
    (("exited unexpectedly", "killed by signal"), WORKER_DIED),
    (("enforce fail", "pytorchstreamwriter", "no space left"), "the disk is full, a file could not be written"),
)
"""Words in messages of PyTorch and the system when the machine is short of something -> a sentence."""


def machine_trouble(error: BaseException) -> str:
    """Explain an error that comes from the machine and not from the program.

    Args:
        error: Of any place in a training step, since PyTorch raises at once when a worker process dies.

    Returns:
        A sentence with the first line of the message; "" for any other error.
    """
    if not isinstance(error, RuntimeError | OSError):
        return ""
    lines = str(error).strip().splitlines() or [""]
    found = str(error).lower()
    sentence = next((text for signs, text in TROUBLE if any(sign in found for sign in signs)), "")
    # in a worker's traceback the last line has the reason
    return f"{sentence} ({lines[-1] if lines[0].startswith('Caught') else lines[0]:.200})" if sentence else ""


class WorkerError(RuntimeError):
    """A worker process that died."""


def require_open_files(workers: int) -> None:
    """Let this process open as many files as batches on their way from its workers need, one for each tensor.

    Without them PyTorch waits for a batch that its worker could not send.

    Args:
        workers: Data loading processes.

    Raises:
        ValueError: The system does not allow as many.
    """
    if os.name != "posix":
        return
    import resource

    needed = OPEN_FILES + OPEN_FILES_PER_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"a process may open {hard} files here, TRAIN.NUM_WORKER {workers} needs {needed}: allow more "
            "(`ulimit -n 65536`, --ulimit nofile=65536 of a container) or take fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


S_co = TypeVar("S_co", covariant=True)
B = TypeVar("B")


class SampleSource(Protocol[S_co]):
    """Source of a loader's samples, such as `TrackingSampler`. Picklable if workers are spawned."""

    broken: BrokenFiles

    def __call__(self, epoch: int, index: int) -> S_co: ...


COLLATES: Registry[Callable[[list[Sample]], Batch]] = Registry("collate")
"""`DATA.COLLATE` -> function that makes a batch of samples."""


@COLLATES.register("stack")
def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one shape.

    Raises:
        ValueError: RGB and RGB-X samples, or samples with different extras, are mixed.
    """
    first, datasets = samples[0], ", ".join(sorted({s.dataset for s in samples}))
    if len({s.template.shape[1] for s in samples} | {s.search.shape[1] for s in samples}) > 1:
        raise ValueError(f"RGB samples and RGB+X samples in one batch (data sets {datasets})")
    if any(s.extras.keys() != first.extras.keys() for s in samples):
        raise ValueError(f"samples with different extras in one batch (data sets {datasets})")
    arrays = ("template", "search", "template_boxes", "search_boxes", "template_colour", "search_colour")
    modalities = list(Modality)
    return Batch(
        **{name: _stack([getattr(s, name) for s in samples]) for name in arrays},
        modality=torch.tensor([modalities.index(s.modality) for s in samples]),
        names=[s.name for s in samples],
        negative=torch.tensor([s.negative for s in samples]),
        extras={name: _stack([s.extras[name] for s in samples]) for name in first.extras},
    )


def _stack(arrays: list[Any]) -> Tensor:
    """One tensor; in a worker it lies in shared memory at once, which saves a copy."""
    first = torch.from_numpy(arrays[0])
    stacked = torch.empty((len(arrays), *first.shape), dtype=first.dtype)
    if get_worker_info() is not None:
        stacked.share_memory_()
    np.stack(arrays, out=stacked.numpy())
    return stacked


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A (part of a) batch from a worker, or the message with which it gave up.

    Attributes:
        batch: The batch, or None.
        report: Of a worker process; None if the batch was made in this one.
        failure: The message.
    """

    batch: Any
    report: BrokenReport | None
    failure: str | None = None

    def pin_memory(self) -> _Loaded:
        return replace(self, batch=self.batch.pin_memory()) if isinstance(self.batch, Batch) else self


@dataclass
class _Batches(TorchDataset[_Loaded]):
    """A map from lists of positions to collated samples."""

    sampler: SampleSource[Any]
    collate: Callable[[list[Any]], Any]

    def __getitem__(self, positions: list[Position]) -> _Loaded:
        working = get_worker_info() is not None
        try:
            samples = [self.sampler(epoch, index) for epoch, index in positions]
        except TooManyBadSamplesError as error:
            if not working:
                raise
            # sent as a value: an exception would come out of the loader wrapped in the worker's traceback
            return _Loaded(None, self.sampler.broken.take_report(), str(error))
        return _Loaded(self.collate(samples), self.sampler.broken.take_report() if working else None)


@dataclass
class _BatchPositions:
    """The samples of this process's batches: of global batch b, every world_size-th one from `rank` on.

    They are requested in `parts` equal shares per batch.
    """

    batch_size: int
    batches: int
    rank: int
    world_size: int
    parts: int = 1
    epoch: int = 1
    start: int = 0

    def __iter__(self) -> Iterator[list[Position]]:
        epoch, share = self.epoch, self.batch_size // self.parts
        for batch in range(self.start, self.batches):
            first = batch * self.batch_size * self.world_size + self.rank
            own = [(epoch, first + i * self.world_size) for i in range(self.batch_size)]
            yield from (own[i : i + share] for i in range(0, self.batch_size, share))


class _QuietLoader(DataLoader[_Loaded]):
    def check_worker_number_rationality(self) -> None:
        """No warning, here or at an epoch's start: NUM_WORKER above the number of cores is the user's to choose."""


class BatchLoader(Generic[B]):
    """Batches of any epoch from any position on. Worker processes live as long as the loader.

    One epoch is read at a time: requesting another one ends the one before. Made by `build_loader`.
    """

    def __init__(
        self,
        sampler: SampleSource[Any],
        positions: _BatchPositions,
        collate: Callable[[list[Any]], Any],
        join: Callable[[list[Any]], B],
        workers: int,
        pin_memory: bool,
        start_method: str | None = None,
    ) -> None:
        """Make the loader of PyTorch; see `build_loader` for the other arguments.

        Args:
            positions: The samples of each batch.
            collate: Makes a part of a batch of samples, in the workers.
            join: Makes a batch of its parts, in this process.
        """
        self._sampler, self._positions, self._join = sampler, positions, join
        if start_method is None and sys.platform == "linux" and multiprocessing.get_start_method(True) != "spawn":
            start_method = "fork"  # Python's own until 3.13: workers share the tables of data sets, and start at once
        if workers:
            require_open_files(workers)
            require_shared_memory()
            get_temp_dir()  # one folder for this process and its workers: it is cleared even if they are killed
        self._forked = start_method == "fork"
        self._loader: DataLoader[_Loaded] = _QuietLoader(
            _Batches(sampler, collate),
            batch_size=None,
            sampler=positions,
            num_workers=workers,
            pin_memory=pin_memory,
            # its own generator: the training's random numbers do not depend on when workers start
            generator=torch.Generator(),
            persistent_workers=workers > 0,
            multiprocessing_context=start_method if workers else None,
            worker_init_fn=partial(_start_worker, sampler.broken.max_share),
        )
        if workers:
            atexit.register(_end_workers, weakref.ref(self._loader))
            atexit.unregister(_ignore_dead_workers)
            atexit.register(_ignore_dead_workers)  # the last one registered is the first one called

    def __len__(self) -> int:
        """Batches per epoch for this process; the same in all processes."""
        return self._positions.batches

    @property
    def bad_samples(self) -> int:
        """Samples that could not be read so far, in this process and its workers."""
        return self._sampler.broken.failures

    def epoch(self, epoch: int, start: int = 0) -> Iterator[B]:
        """Batches `start`, `start + 1`, ... of an epoch (counted from 1); the ones before are not loaded.

        Raises:
            TooManyBadSamplesError: Files fail more often than tolerated.
            WorkerError: A worker process died.
        """
        self._positions.epoch, self._positions.start = epoch, start
        iterator, parts = iter(self._loader), []
        while True:
            try:
                loaded: _Loaded = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError) as error:
                if not (trouble := machine_trouble(error)):
                    raise
                guard = "" if self._forked else f"; if not, {MAIN_GUARD}"
                raise WorkerError(
                    f"epoch {epoch}: {trouble}{guard if trouble.startswith(WORKER_DIED) else ''}"
                ) from error
            if loaded.report is not None:
                self._sampler.broken.merge(loaded.report)
            if loaded.batch is None:
                raise TooManyBadSamplesError(loaded.failure)
            parts.append(loaded.batch)
            if len(parts) == self._positions.parts:
                yield self._join(parts)
                parts = []


def build_loader(
    sampler: SampleSource[Sample],
    samples_per_epoch: int,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    start_method: str | None = None,
    collate: Callable[[list[Sample]], Batch] | None = None,
) -> BatchLoader[Batch]:
    """A loader of crops for one of `world_size` processes; with CUDA its batches are page-locked.

    Args:
        sampler: Makes the samples.
        samples_per_epoch: Over all processes; an incomplete last batch is dropped.
        batch_size: Per process.
        workers: Processes; 0 loads in this one.
        rank, world_size: Of this process.
        start_method: "fork", "spawn" or "forkserver"; None: "fork" on Linux unless Python is set to spawn, elsewhere
            Python's own.
        collate: Makes a batch of samples; None: stacks them.

    Raises:
        ValueError: Not even one batch fits into an epoch.
    """
    positions = _positions_of_process(samples_per_epoch, batch_size, rank, world_size)
    pinned, make_batch = torch.cuda.is_available(), collate or COLLATES["stack"]
    return BatchLoader(sampler, positions, make_batch, lambda parts: parts[0], workers, pinned, start_method)


def build_clip_loader(
    sampler: SampleSource[FrameSet],
    samples_per_epoch: int,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> BatchLoader[ClipBatch]:
    """A loader of clips for one of `world_size` processes.

    Args:
        sampler: Makes the clips.
        samples_per_epoch: Clips over all processes; an incomplete last batch is dropped.
        batch_size, workers, rank, world_size: See `build_loader`.

    Raises:
        ValueError: Not even one batch fits into an epoch.
    """
    positions = replace(_positions_of_process(samples_per_epoch, batch_size, rank, world_size), parts=batch_size)

    def join(parts: list[list[PackedClip]]) -> ClipBatch:
        return ClipBatch([unpack_clip(packed) for part in parts for packed in part])

    return BatchLoader(sampler, positions, pack_clips, join, workers, pin_memory=False)


def _positions_of_process(samples_per_epoch: int, batch_size: int, rank: int, world_size: int) -> _BatchPositions:
    """The samples of one process.

    Raises:
        ValueError: There are none.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} does not exist among {world_size} processes")
    batches = samples_per_epoch // (batch_size * world_size)
    if batches < 1:
        raise ValueError(
            f"SAMPLE_PER_EPOCH {samples_per_epoch} is less than one batch of {world_size} x {batch_size} samples"
        )
    return _BatchPositions(batch_size, batches, rank, world_size)


def _end_workers(loader: weakref.ref[DataLoader[Any]]) -> None:
    """At exit: end the workers of a loader that is still there; after a SIGTERM they would go on for a minute."""
    iterator: Any = getattr(loader(), "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def _ignore_dead_workers() -> None:
    """At exit: stop PyTorch's SIGCHLD handler from raising, for a killed worker, in other modules' clean-up."""
    while sys.platform != "win32" and signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL:
        with suppress(RuntimeError):  # from the handler, for a death that it still has to report
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _start_worker(max_share: float, worker: int) -> None:
    """One core per worker; signals are the main process's to answer; broken files are reported with the batches."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # SIGTERM goes to all processes of a training (torchrun, a batch system): the main one still needs its step's data
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(WORKER_GRACE_SECONDS))
    info = get_worker_info()
    if info is not None:
        info.dataset.sampler.broken = BrokenFiles(max_share=max_share, quiet=True)  # type: ignore[attr-defined]
