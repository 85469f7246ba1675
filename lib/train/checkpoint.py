"""Checkpoints of a training: weights for use, and the state from which the training is resumed.

``<Net>_ep0040.safetensors`` and ``.json``: weights and what they are. ``<Net>_ep0040_state.pt``: optimiser, loss scale,
random number generators of every process and position, in plain types, so that it opens with ``weights_only=True``.
``<Net>_latest*``: the same in mid-epoch; its state holds the weights too, so that one rename makes it whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from lib.config import Train, flat_items
from lib.files import atomic_write, try_lock
from lib.models import check_archive, read_checkpoint, save_release

FORMAT = 1
STATES_KEPT = 2
LATEST = "latest"
LOCK = "training.lock"
PATIENCE_SECONDS = 30.0
"""Wait for a training that is about to end: one that was stopped a moment ago still writes its state."""
HARMLESS = (
    "TEST.", "TRAIN.NUM_WORKER", "TRAIN.PRINT_INTERVAL", "TRAIN.SAVE_", "TRAIN.STATE_INTERVAL_",
    "TRAIN.MAX_BAD_SAMPLES",
)  # fmt: skip
"""Keys that do not touch the parameters a training arrives at; they may change between its parts."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file."""


class ResumeError(RuntimeError):
    """A training that cannot continue as requested."""


@dataclass(frozen=True, order=True)
class Position:
    """Point in a training.

    Attributes:
        epoch: The epoch being trained, from 1.
        step: Its finished batches, per process.
    """

    epoch: int = 1
    step: int = 0


def is_kept(train: Train, epoch: int) -> bool:
    """True if the weights of an epoch are kept: in OSTrack every 40th, 79, 159, 239 and the last five.

    Args:
        train: SAVE_EPOCH_INTERVAL, SAVE_EPOCHS, SAVE_LAST_N_EPOCH and EPOCH are read; the last epoch is always kept.
        epoch: Counted from 1.
    """
    is_due = train.save_epoch_interval > 0 and epoch % train.save_epoch_interval == 0
    return is_due or epoch in train.save_epochs or epoch > train.epoch - max(1, train.save_last_n_epoch)


class OccupiedError(RuntimeError):
    """Another training writes to the same folder."""


def lock_file(path: Path, patience: float) -> IO[str]:
    """Lock a file against other processes; the system removes the lock when this process ends, however it ends.

    Args:
        path: The file; its folder is made.
        patience: Seconds to wait for another process that holds it.

    Raises:
        OccupiedError: Another process still holds it; the message names the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    deadline, announced = time.monotonic() + patience, False
    while not try_lock(file):
        file.seek(0)
        owner = file.read().strip() or "another process"
        if time.monotonic() >= deadline:
            file.close()
            raise OccupiedError(
                f"{path.parent} is in use by {owner}: two trainings must not write to one folder; "
                "wait for it or end it, or name another --save_dir"
            )
        if not announced:
            print(f"waiting for {owner}, which still writes to {path.parent}", file=sys.stderr, flush=True)
            announced = True
        time.sleep(0.2)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


class CheckpointFolder:
    """The checkpoints of one experiment. One process writes; the others only read, after a barrier.

    Args:
        folder: Made when it is claimed.
        network_name: First part of the file names.
    """

    def __init__(self, folder: Path, network_name: str) -> None:
        self.folder, self.network_name = folder, network_name
        self._lock: IO[str] | None = None
        self._made: list[Path] = []

    def claim(self, patience: float = PATIENCE_SECONDS) -> None:
        """Keep other trainings out while this process lives; delete what killed ones left half written.

        Args:
            patience: Seconds to wait for another training that ends.

        Raises:
            OccupiedError: Another training writes here.
        """
        self._made = self._made or [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self._lock = self._lock or lock_file(self.folder / LOCK, patience)
        for path in self.folder.glob(f"{self.network_name}_*.tmp"):
            path.unlink(missing_ok=True)

    @contextmanager
    def removed_on_failure(self) -> Iterator[None]:
        """Remove the folders that `claim` made, with nothing else in them, if the block raises: nothing has begun."""
        try:
            yield
        except BaseException:
            if self._lock and self._made and [path.name for path in self.folder.iterdir()] == [LOCK]:
                (self.folder / LOCK).unlink()
                with suppress(OSError):  # others write there as well
                    for path in self._made:
                        path.rmdir()
            raise

    def save_epoch(
        self, epoch: int, weights: Mapping[str, Tensor], metadata: dict[str, Any], state: dict[str, Any]
    ) -> Path:
        """Write the checkpoint of a finished epoch and remove what it replaces.

        Args:
            epoch: The finished epoch, from 1.
            weights: Parameters and buffers of the network.
            metadata: Stored with the weights (plain types).
            state: State of the training (plain types and tensors).

        Returns:
            Path of the state.
        """
        stem = self._path(f"ep{epoch:04d}")
        state_path = self._path(f"ep{epoch:04d}_state.pt")
        # A state that is there belongs to the weights of that name, also if the process dies between the two writes.
        state_path.unlink(missing_ok=True)
        save_release(stem, weights, metadata)
        with atomic_write(state_path) as file:
            torch.save({**state, "weights": stem.name, "format": FORMAT}, file)
        for old in self._epoch_states()[:-STATES_KEPT]:
            old.unlink()
        for suffix in ("_state.pt", ".safetensors", ".json"):
            self._path(LATEST + suffix).unlink(missing_ok=True)
        return state_path

    def save_latest(self, weights: Mapping[str, Tensor], metadata: dict[str, Any], state: dict[str, Any]) -> Path:
        """Write a checkpoint between two kept epochs, in the place of the one before.

        Args:
            weights: Parameters and buffers of the network.
            metadata: Stored with the weights (plain types).
            state: State of the training (plain types and tensors).

        Returns:
            Path of the state.
        """
        state_path = self._path(f"{LATEST}_state.pt")
        network = {k: v.detach() for k, v in weights.items()}
        with atomic_write(state_path) as file:
            torch.save({**state, "network": network, "format": FORMAT}, file)
        save_release(self._path(LATEST), weights, metadata)
        return state_path

    def newest_state(self) -> Path | None:
        """The state that is furthest in the training; None without one."""
        candidates = [*self._epoch_states()[-1:], *self.folder.glob(f"{self.network_name}_{LATEST}_state.pt")]
        return max(candidates, key=lambda p: position_of(read_state(p, verify=False)), default=None)

    def newest_weights(self) -> Path | None:
        """The weights of the last kept epoch, else the latest ones, else a published ``*.pth.tar``."""
        epochs = self._epoch_files(".safetensors")
        latest = self._path(f"{LATEST}.safetensors")
        return epochs[-1] if epochs else latest if latest.is_file() else self.published()

    def published(self) -> Path | None:
        """The newest published checkpoint of the folder; such a file has weights but no usable training state."""
        return max(self.folder.glob(f"{self.network_name}_ep*.pth.tar"), default=None)

    def last_good(self) -> str:
        """Sentence for the log after a failure: names the newest state, else the newest weights."""
        try:
            path = self.newest_state() or self.newest_weights()
        except CheckpointError:
            path = self.newest_weights()
        return "nothing was saved yet" if path is None else f"last good checkpoint: {path}"

    def set_aside(self) -> Path | None:
        """Move the files of an earlier training into a folder of their own, apart from those of a fresh one.

        Returns:
            The folder; None where there was nothing to move.
        """
        files = [p for p in self.folder.glob(f"{self.network_name}_*") if p.suffix in (".safetensors", ".json", ".pt")]
        if not files:
            return None
        aside = self.folder / time.strftime("earlier_%Y%m%d_%H%M%S")
        aside.mkdir(exist_ok=True)
        for path in files:
            shutil.move(path, aside / path.name)
        return aside

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.network_name}_{name}"

    def _epoch_files(self, suffix: str) -> list[Path]:
        """Files ``<Net>_ep<number><suffix>``, the last epoch at the end."""
        name = re.compile(rf"{re.escape(self.network_name)}_ep\d+{re.escape(suffix)}")
        return sorted(p for p in self.folder.glob(f"{self.network_name}_ep*{suffix}") if name.fullmatch(p.name))

    def _epoch_states(self) -> list[Path]:
        """States of kept epochs whose weights exist, the last epoch at the end."""
        return [p for p in self._epoch_files("_state.pt") if _weights_path(p).is_file()]


def read_state(path: Path, verify: bool = True) -> dict[str, Any]:
    """Read a training state; tensors stay in the file until they are used.

    Args:
        path: File of the state.
        verify: Compare the whole file with its checksums first.

    Returns:
        Plain types and tensors on the CPU.

    Raises:
        CheckpointError: The file is missing, broken or no training state of this library.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file here; every node of a training must see the same --save_dir")
    try:
        if verify:
            with zipfile.ZipFile(path) as archive:
                check_archive(archive)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a broken file
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise CheckpointError(
            f"{path}: not a readable training state ({reason}); delete it, or train with --resume never"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training state of this library (format {FORMAT})")
    return state


def position_of(state: Mapping[str, Any]) -> Position:
    """Point of the training at which a state was written."""
    return Position(*state["position"])


def weights_of(path: Path, state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The network's weights that belong to a state.

    Args:
        path: File of the state.
        state: Its content.

    Returns:
        Those in the state where it holds them, else those of the file next to it.
    """
    return state["network"] if "network" in state else read_checkpoint(_weights_path(path)).state_dict


def _weights_path(state_path: Path) -> Path:
    return state_path.with_name(state_path.name.removesuffix("_state.pt") + ".safetensors")


def find_state(folder: CheckpointFolder, mode: str) -> tuple[Path, dict[str, Any]] | None:
    """Find the state to resume from.

    Args:
        folder: Checkpoints of the experiment.
        mode: ``auto`` (the newest, if there is one) or ``must`` (an error without one).

    Returns:
        Path and content of the state; None for a training from scratch.

    Raises:
        ResumeError: `mode` is ``must`` and there is no state.
        CheckpointError: The state cannot be read.
    """
    path = folder.newest_state()
    if path is not None:
        return path, read_state(path)
    if mode == "must":
        published = folder.published()
        hint = "" if published is None else f"; {no_state_in(published)}"
        raise ResumeError(f"--resume must: no *_state.pt in {folder.folder}{hint}")
    return None


def no_state_in(published: Path) -> str:
    """Sentence for a published checkpoint where a training state was expected."""
    return (
        f"{published} is a published checkpoint: it has weights, but no usable training state. "
        f"--load {published} starts a new training from its weights"
    )


def check_state(
    state: Mapping[str, Any],
    current: Mapping[str, Any],
    processes: int,
    allow_change: bool,
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """Compare a training state with the run that resumes from it.

    Args:
        state: As `read_state` gives it.
        current: `config`, the resolved configuration of the present run.
        processes: Number of processes of the present run.
        allow_change: Accept a configuration that differs from the state's.
        defaults: The configuration with nothing set; keys newer than the state are no change if they have these values.

    Returns:
        Sentences for the log.

    Raises:
        ResumeError: The configuration changed and `allow_change` is False; the message names every changed key.
    """
    notes = []
    changes = config_changes(state["config"], current["config"], defaults)
    serious = [c for c in changes if not c.startswith(HARMLESS)]
    before, now = (config.get("TRAIN", {}).get("EPOCH", 0) for config in (state["config"], current["config"]))
    if now > before:
        serious = [c for c in serious if not c.startswith("TRAIN.EPOCH:")]
        notes.append(
            f"{now} epochs in place of {before}: from here on the learning rate is that of a training of {now}"
        )
    if serious and not allow_change:
        raise ResumeError(
            f"the folder holds a training with another configuration ({'; '.join(serious)}); to go on with the new "
            "values add --allow_config_change, to start from scratch add --resume never (its files are moved aside)"
        )
    if changes:
        notes.append("configuration changed: " + "; ".join(changes))
    if state["world_size"] != processes:
        counts = {"before": (state["config"], state["world_size"]), "now": (current["config"], processes)}
        total = {when: n * c.get("TRAIN", {}).get("BATCH_SIZE", 1) for when, (c, n) in counts.items()}
        notes.append(
            f"processes: {processes} now, {state['world_size']} before: the training goes on, but not bit for bit as "
            f"it would have; samples per batch of all processes: {total['now']} now, {total['before']} before "
            "(TRAIN.LR belongs to it)"
        )
    position = position_of(state)
    notes.append(f"resumed at epoch {position.epoch}, step {position.step}")
    return notes


def config_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> list[str]:
    """``KEY.PATH: old -> new`` for every value that differs; a key that `before` lacks counts by its default."""
    old, new = {**flat_items(defaults or {}), **flat_items(before)}, flat_items(now)
    absent = "absent"

    def shown(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, default=str)

    return [
        f"{key}: {shown(old.get(key, absent))} -> {shown(new.get(key, absent))}"
        for key in sorted(flat_items(before).keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    ]
