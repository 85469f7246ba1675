"""Whether and from where a training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.train.checkpoint import CheckpointFolder, position_of, read_state

HARMLESS = (
    "TEST.",
    "TRAIN.NUM_WORKER",
    "TRAIN.PRINT_INTERVAL",
    "TRAIN.SAVE_",
    "TRAIN.STATE_INTERVAL_",
    "TRAIN.MAX_BAD_SAMPLES",
)
"""Keys that do not touch the parameters a training arrives at; they may change between its parts."""


class ResumeError(RuntimeError):
    """A training that cannot go on as asked."""


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


def check_state(state: Mapping[str, Any], identity: Mapping[str, Any], processes: int, allow_change: bool) -> list[str]:
    """Sentences for the log about a state that will be gone on from.

    identity: `config` (the resolved configuration) and `config_hash` of the present run.
    Raises ResumeError, naming every changed key, when the configuration is not the state's and `allow_change` is False.
    """
    notes = []
    changes = config_changes(state["config"], identity["config"])
    serious = [c for c in changes if not c.startswith(HARMLESS)]
    if serious and not allow_change:
        raise ResumeError(
            "the configuration changed since the training began "
            f"({state['config_hash']} -> {identity['config_hash']}): {'; '.join(serious)}"
            + ". --resume never begins anew, --allow_config_change goes on with the new values"
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


def config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``KEY.PATH: old -> new`` for every value that differs."""
    old, new = _flat(before), _flat(now)
    absent = "absent"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted(old.keys() | new.keys())
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
