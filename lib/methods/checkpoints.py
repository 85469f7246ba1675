"""Where the weights of a trained experiment lie: what training wrote, a published file put there, or a release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lib.methods.experiment import Experiment
from lib.paths import checkpoint_folder, repository_root

CHECKPOINT_ENDINGS = (".safetensors", ".pth.tar", ".pth", ".pt")
_EPOCH = re.compile(r"_ep(\d{4})(" + "|".join(map(re.escape, CHECKPOINT_ENDINGS)) + ")")


class CheckpointNotFoundError(FileNotFoundError):
    """No weights where they are looked for; the message says where, and what is there."""


def find_file(wish: str, pretrained: Path, option: str, remark: str = "") -> Path:
    """A file of weights that a configuration names: a path, or one in the `pretrained` folder.

    option: the key, and remark: what is to be said beside it, for the message. Raises CheckpointNotFoundError.
    """
    for path in (Path(wish), pretrained / wish):
        if path.is_file():
            return path
    raise CheckpointNotFoundError(f"{option} {wish}: no such file, neither as a path nor in {pretrained}{remark}")


def find_checkpoint(
    experiment: Experiment, save_dir: Path, wish: str | None, pretrained: Path, option: str = "--checkpoint"
) -> Path:
    """The weights of a trained network: a file, also one in its checkpoint folder, "latest", or epoch TEST.EPOCH.

    Where training has left no such epoch: `pretrained/<script>/<config>.safetensors`, then
    `models/<network>_<config>.pth.tar`, the link that published evaluation scripts make.
    option: what a user sets to name a file, for messages.
    Raises CheckpointNotFoundError saying where it looked and which checkpoints are there.
    """
    folder = checkpoint_folder(save_dir, experiment.script, experiment.name)
    found = _checkpoints(folder, experiment.method.network_name)
    if wish == "latest":
        if found:
            return found[max(found)]
        raise CheckpointNotFoundError(f"no checkpoint in {folder} ({_listing(folder, found)})")
    if wish is not None:
        for path in (Path(wish), folder / wish):
            if path.is_file():
                return path
        there = _listing(folder, found)
        raise CheckpointNotFoundError(f"{option} {wish}: no such file (checkpoint folder: {folder}, {there})")
    epoch = experiment.config.test.epoch
    if epoch in found:
        return found[epoch]
    released = pretrained / experiment.script / f"{experiment.name}.safetensors"
    linked = repository_root() / "models" / f"{experiment.method.network_name}_{experiment.name}.pth.tar"
    for file in (released, linked):
        if file.is_file():
            return file
    latest = ", or take --checkpoint latest" if option == "--checkpoint" else ""
    raise CheckpointNotFoundError(
        f"no weights for {experiment.script} {experiment.name}: looked for epoch {epoch} (TEST.EPOCH) in {folder} "
        f"({_listing(folder, found)}), for {released} and for {linked}; name a file with {option}{latest}"
    )


def _checkpoints(folder: Path, network: str) -> dict[int, Path]:
    """Epoch -> file; of several files of one epoch the first kind in CHECKPOINT_ENDINGS."""
    found: dict[int, Path] = {}
    rank = {ending: i for i, ending in enumerate(CHECKPOINT_ENDINGS)}
    files = [(m, p) for p in folder.glob(f"{network}_ep*") if (m := _EPOCH.fullmatch(p.name[len(network) :]))]
    for match, path in sorted(files, key=lambda x: -rank[x[0].group(2)]):
        found[int(match.group(1))] = path
    return found


def _listing(folder: Path, found: Mapping[int, Path]) -> str:
    if found:
        return "there: " + ", ".join(found[epoch].name for epoch in sorted(found))
    return "which has no checkpoint" if folder.is_dir() else "which does not exist"
