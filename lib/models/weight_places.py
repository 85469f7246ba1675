"""From a name that a user types to a file of weights."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from lib.files import user_path
from lib.models.pretrained import HUB, TIMM, fetch_from_hub
from lib.paths import repository_root, shipped_folder
from lib.registry import listed

log = logging.getLogger(__name__)

PRETRAIN_FILE = "MODEL.PRETRAIN_FILE"
FILES = "; pretrained/README.md says which files go where"
CHECKPOINT_ENDINGS = (".safetensors", ".pth.tar", ".pth", ".pt")


class CheckpointNotFoundError(FileNotFoundError):
    """No weights where they are looked for; the message says where, and what is there."""


@dataclass(frozen=True)
class WeightPlaces:
    """Where the weights of one experiment are looked for.

    Attributes:
        pretrained: The `pretrained` folder.
        checkpoints: The folder that training of the experiment writes to.
        script, config: The experiment's names.
        network: How the names of its checkpoints begin ("OSTrack"); "*" for any.
        epoch: The epoch that is taken where no file is named (TEST.EPOCH).
        only_epoch: The user asked for this epoch, so that other weights must not stand in for it.
    """

    pretrained: Path
    checkpoints: Path
    script: str = ""
    config: str = ""
    network: str = "*"
    epoch: int | None = None
    only_epoch: bool = False

    def epochs(self) -> dict[int, Path]:
        """Checkpoints by epoch; of several files of one epoch the first kind in CHECKPOINT_ENDINGS."""
        pattern = re.compile(r".*_ep(\d{4})(" + "|".join(map(re.escape, CHECKPOINT_ENDINGS)) + ")")
        files = [(m, p) for p in self.checkpoints.glob(f"{self.network}_ep*") if (m := pattern.fullmatch(p.name))]
        files.sort(key=lambda x: -CHECKPOINT_ENDINGS.index(x[0].group(2)))
        return {int(match.group(1)): path for match, path in files}

    def latest(self) -> list[Path]:
        """The checkpoint between two kept epochs, if there is one."""
        return sorted(self.checkpoints.glob(f"{self.network}_latest.safetensors"))

    def describe(self) -> str:
        """Contents of the checkpoint folder, for messages."""
        found = [path for _, path in sorted(self.epochs().items())] + self.latest()
        if found:
            return "there: " + ", ".join(path.name for path in found)
        return "which has no checkpoint"  # a process of the same training may have made the folder since


def locate(requested: str, places: WeightPlaces, option: str, hint: str = "") -> Path:
    """Find a file of weights.

    A name is looked for as

    1. ``timm:NAME``, weights that timm knows (returned as it is; MODEL.PRETRAIN_FILE alone),
    2. ``hf://owner/name``, a release on the Hugging Face hub (see `fetch_from_hub`),
    3. a path,
    4. a file in the experiment's checkpoint folder, where ``latest`` is the newest epoch, before the first of them
       what was saved in mid-epoch,
    5. a file in the `pretrained` folder (``pretrained/`` in front of the name may be left out), or one that comes
       with the project.

    An empty name stands for the experiment's trained network:

    1. epoch TEST.EPOCH in its checkpoint folder,
    2. ``pretrained/<script>/<config>.safetensors``,
    3. ``pretrained/<config>.safetensors`` whose JSON file names the script and the configuration, also among the
       files that come with the project,
    4. ``models/<network>_<config>.pth.tar``, the link that published evaluation scripts make.

    Args:
        requested: The name.
        places: The folders.
        option: The key or command-line option that gave the name, for messages.
        hint: Added to the message.

    Raises:
        CheckpointNotFoundError: Says where it was looked for and what is there.
    """
    if not requested:
        return _locate_trained(places, option, hint)
    folder, found = places.checkpoints, places.epochs()
    if requested.startswith(TIMM):
        if option == PRETRAIN_FILE:
            return Path(requested)
        raise CheckpointNotFoundError(
            f"{option} {requested}: timm has weights of backbones, not of trackers; {PRETRAIN_FILE}={requested} trains "
            f"a tracker from them, and {option} takes the file of a trained one{hint}"
        )
    if requested.startswith(HUB):
        return fetch_from_hub(requested)
    if requested == "latest":
        newest = [found[max(found)]] if found else places.latest()
        if newest:
            return newest[0]
        raise CheckpointNotFoundError(f"{option} latest: no checkpoint in {folder} ({places.describe()}){hint}")
    inside = Path(requested)
    if inside.is_relative_to("pretrained"):
        inside = inside.relative_to("pretrained")
    shipped = shipped_folder("pretrained") / inside
    for path in (user_path(requested), folder / requested, places.pretrained / inside, shipped):
        for ending in ("", *CHECKPOINT_ENDINGS):
            if (file := path.with_name(path.name + ending)).is_file():
                return file
    raise CheckpointNotFoundError(
        f"{option} {requested}: no such file of weights; looked for {user_path(requested).absolute()}, "
        f"in {folder} ({places.describe()}) and in {places.pretrained} ({_weights_in(places.pretrained)})"
        f"{FILES}{hint}"
    )


def _locate_trained(places: WeightPlaces, option: str, hint: str) -> Path:
    """`locate` for an empty name."""
    folder, found = places.checkpoints, places.epochs()
    named = f"{places.config}.safetensors"
    shared, shipped = places.pretrained / named, shipped_folder("pretrained") / named
    files = [
        places.pretrained / places.script / named,
        *[file for file in (shared, shipped) if _belongs_to(file, places)],
        repository_root() / "models" / f"{places.network}_{places.config}.pth.tar",
    ]
    trained = [found[places.epoch]] if places.epoch in found else []
    taken = next((file for file in [*trained, *files] if file.is_file()), None)
    if taken is not None and places.only_epoch and not trained:
        raise CheckpointNotFoundError(
            f"no checkpoint of epoch {places.epoch} (TEST.EPOCH, as asked for) in {folder} ({places.describe()}); "
            f"without that epoch, {taken} is taken{hint}"
        )
    newest = f"epoch {max(found)}" if found else next((path.name for path in places.latest()), "")
    if taken is not None and folder.is_dir() and (not found or places.epoch not in (None, max(found))):
        log.warning(
            "%s is taken, by TEST.EPOCH (%s), although %s has %s%s",
            *(taken.name, places.epoch, folder, newest or "a training without a checkpoint"),
            "; --checkpoint latest takes the newest" if newest and option == "--checkpoint" else "",
        )
    if taken is not None:
        return taken
    latest = f", or take the newest: {option} latest" if found or places.latest() else ""
    raise CheckpointNotFoundError(
        f"no weights for {places.script} {places.config}: looked for epoch {places.epoch} (TEST.EPOCH) in {folder} "
        f"({places.describe()}), for {files[0]}, {shared} and {files[-1]}{FILES}; "
        f"name a file with {option}{latest}{hint}"
    )


def _belongs_to(file: Path, places: WeightPlaces) -> bool:
    """True if the JSON file of a release names the experiment."""
    try:
        metadata = json.loads(file.with_suffix(".json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    names = places.script, places.config
    return isinstance(metadata, dict) and (metadata.get("script"), metadata.get("config_name")) == names


def _weights_in(folder: Path) -> str:
    if not folder.is_dir():
        return "which does not exist"
    endings = (*CHECKPOINT_ENDINGS, ".npz")
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.endswith(endings))
    return f"there: {listed(names)}" if names else "which has no weights"
