"""Checkpoints of a training: weights for use, and the state that lets the training go on.

``<Net>_ep0040.safetensors`` and ``.json``: weights and what they are. ``<Net>_ep0040_state.pt``: optimiser, loss scale,
random number generators of every process and position, in plain types, so that it opens with ``weights_only=True``.
``<Net>_latest*``: the same in mid-epoch; its state holds the weights too, so that one rename makes it whole.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from lib.config import Train
from lib.files import replacing
from lib.models import read_checkpoint, save_release

FORMAT = 1
STATES_KEPT = 2
LATEST = "latest"
PATIENCE_SECONDS = 30.0
"""How long to wait for a training that is about to end: one that was stopped a moment ago still writes its state."""
HARMLESS = (
    "TEST.",
    "TRAIN.NUM_WORKER",
    "TRAIN.PRINT_INTERVAL",
    "TRAIN.SAVE_",
    "TRAIN.STATE_INTERVAL_",
    "TRAIN.MAX_BAD_SAMPLES",
)
"""Keys that do not touch the parameters a training arrives at; they may change between its parts."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file."""


class ResumeError(RuntimeError):
    """A training that cannot go on as requested."""


@dataclass(frozen=True, order=True)
class Position:
    """Where a training is: the epoch being trained (from 1), and how many of its batches (per process) are done."""

    epoch: int = 1
    step: int = 0


def is_kept(train: Train, epoch: int) -> bool:
    """Whether the weights of this epoch stay: as published every 40th, 79, 159, 239 and the last five."""
    interval = train.save_epoch_interval
    return (
        (interval > 0 and epoch % interval == 0)
        or epoch in train.save_epochs
        or epoch > train.epoch - max(1, train.save_last_n_epoch)
    )


class OccupiedError(RuntimeError):
    """Another training writes to the same folder."""


class FolderLock:
    """A claim on a folder that the system withdraws when the process ends, however it ends.

    Locks by record (POSIX), so that data workers, which are forked, do not hold them on; they also work over NFS.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "training.lock"
        self._file: IO[str] | None = None

    def acquire(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait up to `patience` seconds. Raises OccupiedError that names the process which holds the folder."""
        if self._file is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+", encoding="utf-8")
        deadline = time.monotonic() + patience
        announced = False
        while not _lock(file):
            file.seek(0)
            owner = file.read().strip() or "another process"
            if time.monotonic() >= deadline:
                file.close()
                raise OccupiedError(
                    f"{self.path.parent} is in use by {owner}: two trainings must not write to one folder; "
                    "wait for it or end it, or name another --save_dir"
                )
            if not announced:
                print(f"waiting for {owner}, which still writes to {self.path.parent}", file=sys.stderr, flush=True)
                announced = True
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file


def _lock(file: IO[str]) -> bool:
    """False while another process holds the lock; a file system without locks has nothing to ask."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


class CheckpointFolder:
    """The checkpoints of one experiment. One process writes; the others only read, after a barrier."""

    def __init__(self, folder: Path, network_name: str) -> None:
        self.folder, self.network_name = folder, network_name
        self._lock = FolderLock(folder)

    def save_epoch(
        self, epoch: int, weights: Mapping[str, Tensor], metadata: dict[str, Any], state: dict[str, Any]
    ) -> Path:
        """Write the checkpoint of a finished epoch, remove what it replaces. Returns the state's path."""
        stem = self._stem(f"ep{epoch:04d}")
        state_path = _state_path(stem)
        # A state that is there belongs to the weights of that name, also if the process dies between the two writes.
        state_path.unlink(missing_ok=True)
        save_release(stem, weights, metadata)
        _save_state(state_path, {**state, "weights": stem.name})
        for old in self._epoch_states()[:-STATES_KEPT]:
            old.unlink()
        self._remove_latest()
        return state_path

    def save_latest(self, weights: Mapping[str, Tensor], metadata: dict[str, Any], state: dict[str, Any]) -> Path:
        """Write a checkpoint between two kept epochs, in the place of the one before. Returns the state's path."""
        stem = self._stem(LATEST)
        network = {k: v.detach() for k, v in weights.items()}
        _save_state(_state_path(stem), {**state, "network": network})
        save_release(stem, weights, metadata)
        return _state_path(stem)

    def newest_state(self) -> Path | None:
        """The state that is furthest in the training."""
        candidates = [*self._epoch_states()[-1:], *self.folder.glob(_state_path(self._stem(LATEST)).name)]
        return max(candidates, key=lambda p: position_of(read_state(p)), default=None)

    def newest_weights(self) -> Path | None:
        """The weights of the last kept epoch, else the latest ones, else a published ``*.pth.tar``."""
        epochs = sorted(p for p in self.folder.glob(f"{self.network_name}_ep*.safetensors") if _epoch_of(p) is not None)
        latest = self._stem(LATEST).with_suffix(".safetensors")
        return epochs[-1] if epochs else latest if latest.is_file() else self.published()

    def published(self) -> Path | None:
        """The newest published checkpoint of the folder; such a file has weights but no usable training state."""
        return max(self.folder.glob(f"{self.network_name}_ep*.pth.tar"), default=None)

    def last_good(self) -> Path | None:
        """What to name after a crash: the newest state, else the newest weights."""
        try:
            return self.newest_state() or self.newest_weights()
        except CheckpointError:
            return self.newest_weights()

    def set_aside(self) -> Path | None:
        """Move the files of an earlier training into a folder of their own, apart from those of a fresh one."""
        files = [p for p in self.folder.glob(f"{self.network_name}_*") if p.suffix in (".safetensors", ".json", ".pt")]
        if not files:
            return None
        aside = self.folder / time.strftime("earlier_%Y%m%d_%H%M%S")
        aside.mkdir(exist_ok=True)
        for path in files:
            shutil.move(path, aside / path.name)
        return aside

    def claim(self) -> None:
        """Keep other trainings out while this process lives; delete what killed ones left half written.

        Raises OccupiedError when another training writes here.
        """
        self._lock.acquire()
        for path in self.folder.glob(f"{self.network_name}_*.tmp"):
            path.unlink(missing_ok=True)

    def _stem(self, what: str) -> Path:
        return self.folder / f"{self.network_name}_{what}"

    def _epoch_states(self) -> list[Path]:
        states = (p for p in self.folder.glob(f"{self.network_name}_ep*_state.pt") if _epoch_of(p) is not None)
        return sorted(s for s in states if _weights_path(s).is_file())

    def _remove_latest(self) -> None:
        stem = self._stem(LATEST)
        for path in (_state_path(stem), stem.with_suffix(".safetensors"), stem.with_suffix(".json")):
            path.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
    """The training state; tensors stay in the file until they are used. Raises CheckpointError when it is not one."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file here; every node of a training must see the same --save_dir")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise CheckpointError(
            f"{path}: not a readable training state ({type(error).__name__}); delete it, or train with --resume never"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training state of this library (format {FORMAT})")
    return state


def _save_state(path: Path, state: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        torch.save({**state, "format": FORMAT}, file)


def position_of(state: Mapping[str, Any]) -> Position:
    """Where the training was when the state was written."""
    return Position(*state["position"])


def weights_of(path: Path, state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The network's weights that belong to the state in `path`."""
    return state["network"] if "network" in state else read_checkpoint(_weights_path(path)).state_dict


def _state_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}_state.pt")


def _weights_path(state_path: Path) -> Path:
    return state_path.with_name(state_path.name.removesuffix("_state.pt") + ".safetensors")


def _epoch_of(path: Path) -> int | None:
    match = re.search(r"_ep(\d+)(?:_state)?\.[a-z.]+$", path.name)
    return int(match.group(1)) if match else None


def find_state(folder: CheckpointFolder, mode: str) -> tuple[Path, dict[str, Any]] | None:
    """The state to go on from. mode: ``auto`` (if there is one), ``must`` (ResumeError without), ``never``."""
    if mode == "never":
        return None
    path = folder.newest_state()
    if path is not None:
        return path, read_state(path)
    if mode == "must":
        published = folder.published()
        hint = "" if published is None else f"; {no_state_in(published)}"
        raise ResumeError(f"--resume must: no *_state.pt in {folder.folder}{hint}")
    return None


def no_state_in(published: Path) -> str:
    """What to say of a published checkpoint."""
    return (
        f"{published} is a published checkpoint: it has weights, but no usable training state. "
        f"--load {published} starts a new training from its weights"
    )


def check_state(
    state: Mapping[str, Any],
    identity: Mapping[str, Any],
    processes: int,
    allow_change: bool,
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """Compare a training state with the run that resumes from it.

    Args:
        state: As `read_state` gives it.
        identity: `config` (the resolved configuration) and `config_hash` of the present run.
        processes: Number of processes of the present run.
        allow_change: Accept a configuration that differs from the state's.
        defaults: The configuration with nothing set; keys newer than the state are no change if they have these values.

    Returns:
        Sentences for the log.

    Raises:
        ResumeError: The configuration changed and `allow_change` is False; the message names every changed key.
    """
    notes = []
    changes = config_changes(state["config"], identity["config"], defaults or {})
    serious = [c for c in changes if not c.startswith(HARMLESS)]
    if serious and not allow_change:
        raise ResumeError(
            "the configuration changed since the training began "
            f"({state['config_hash']} -> {identity['config_hash']}): {'; '.join(serious)}"
            + ". --resume never begins from scratch, --allow_config_change goes on with the new values"
        )
    if changes:
        notes.append("configuration changed: " + "; ".join(changes))
    if state["world_size"] != processes:
        notes.append(
            f"{processes} processes now, {state['world_size']} before: the training goes on, but not bit for bit "
            "as it would have"
        )
    position = position_of(state)
    notes.append(f"resumed at epoch {position.epoch}, step {position.step}")
    return notes


def config_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> list[str]:
    """``KEY.PATH: old -> new`` for every value that differs; a key that `before` lacks counts by its default."""
    old, new = {**_flat(defaults or {}), **_flat(before)}, _flat(now)
    absent = "absent"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted(_flat(before).keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
