"""Checkpoints of a training: weights for use, and beside them the state that lets the training go on.

``<Net>_ep0040.safetensors`` and ``.json``: weights and what they are. ``<Net>_ep0040_state.pt``: optimiser, loss scale,
random number generators of every process and position, in plain types, so that it opens with ``weights_only=True``.
``<Net>_latest*``: the same in mid-epoch; its state holds the weights too, so that one rename makes it whole.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.config import Train
from lib.files import replacing
from lib.models import read_checkpoint, save_release
from lib.train.ownership import FolderLock

FORMAT = 1
STATES_KEPT = 2
LATEST = "latest"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file."""


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
        # A state that is there belongs to the weights beside it, also when the process dies between the two writes.
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
