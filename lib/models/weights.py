"""Weights: where they come from and how they get into a network.

One road serves every name that a user gives to weights - ``MODEL.PRETRAIN_FILE``, ``INIT``, ``TEACHER``, ``SLT.START``,
``MODEL.PRETRAINED_PATH``, ``--load``, ``--script_prv``, ``--checkpoint`` - in four steps:

1. `locate` finds the file (the search order is in its docstring);
2. `read_checkpoint` reads it without running code from it;
3. a *key map* of the method turns the file's tensors into those of the network (`Mapped`);
4. `load_into` copies them, strictly.

A release is `<stem>.safetensors` with `<stem>.json` next to it (`save_release`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.files import write_bytes, write_text
from lib.models.inert import Inert, UnexpectedNameError, WeightsError, kind_of_file, load_inert
from lib.models.pretrained import HUB, fetch_from_hub, load_flax_npz, weights_from_timm
from lib.paths import repository_root, shipped_folder

TIMM = "timm:"
CHECKPOINT_ENDINGS = (".safetensors", ".pth.tar", ".pth", ".pt")
WEIGHT_KEYS = ("net", "model", "state_dict", "network", "module")
"""Where published files keep their tensors, in the order in which they are looked for."""
OPTIMIZER_KEYS = ("optimizer", "optimizer_state_dict")
TOLERATED_MISSING = ("*.num_batches_tracked",)
"""Counters that files older than PyTorch 0.4.1 lack and that no forward pass in eval mode reads."""
SHOWN = 10
MOST_ENTRIES = 1_000_000
"""Values of one entry next to the weights; published files have a few thousand."""


class CheckpointNotFoundError(FileNotFoundError):
    """No weights where they are looked for; the message says where, and what is there."""


@dataclass(frozen=True)
class WeightPlaces:
    """Where the weights of one experiment are looked for.

    Attributes:
        pretrained: the `pretrained` folder.
        checkpoints: the folder that training of the experiment writes to.
        script, config: the experiment's names.
        network: how the names of its checkpoints begin ("OSTrack"); "*" for any.
        epoch: the epoch that is taken where no file is named (TEST.EPOCH).
    """

    pretrained: Path
    checkpoints: Path
    script: str = ""
    config: str = ""
    network: str = "*"
    epoch: int | None = None

    def epochs(self) -> dict[int, Path]:
        """Checkpoints by epoch; of several files of one epoch the first kind in CHECKPOINT_ENDINGS."""
        pattern = re.compile(r".*_ep(\d{4})(" + "|".join(map(re.escape, CHECKPOINT_ENDINGS)) + ")")
        files = [(m, p) for p in self.checkpoints.glob(f"{self.network}_ep*") if (m := pattern.fullmatch(p.name))]
        files.sort(key=lambda x: -CHECKPOINT_ENDINGS.index(x[0].group(2)))
        return {int(match.group(1)): path for match, path in files}

    def describe(self) -> str:
        """Contents of the checkpoint folder, for messages."""
        found = self.epochs()
        if found:
            return "there: " + ", ".join(found[epoch].name for epoch in sorted(found))
        return "which has no checkpoint" if self.checkpoints.is_dir() else "which does not exist"


def locate(requested: str, places: WeightPlaces, option: str, hint: str = "") -> Path:
    """Find a file of weights.

    A name is looked for as

    1. ``timm:NAME``, weights that timm knows (returned as it is),
    2. ``hf://owner/name``, a release on the Hugging Face hub (see `fetch_from_hub`),
    3. a path,
    4. a file in the experiment's checkpoint folder, where ``latest`` is the newest epoch,
    5. a file in the `pretrained` folder (``pretrained/`` in front of the name may be left out), or one that comes
       with the project.

    An empty name stands for the experiment's trained network:

    1. epoch TEST.EPOCH in its checkpoint folder,
    2. ``pretrained/<script>/<config>.safetensors``,
    3. ``pretrained/<config>.safetensors`` whose JSON file names the script and the configuration, also among the
       files that come with the project,
    4. ``models/<network>_<config>.pth.tar``, the link that published evaluation scripts make.

    Args:
        requested: the name.
        places: the folders.
        option: the key or command-line option that gave the name, for messages.
        hint: added to the message.

    Raises:
        CheckpointNotFoundError: says where it was looked for and what is there.
    """
    folder, found = places.checkpoints, places.epochs()
    if not requested:
        named = f"{places.config}.safetensors"
        shared, shipped = places.pretrained / named, shipped_folder("pretrained") / named
        files = [
            places.pretrained / places.script / named,
            *[file for file in (shared, shipped) if _belongs_to(file, places)],
            repository_root() / "models" / f"{places.network}_{places.config}.pth.tar",
        ]
        if places.epoch in found:
            return found[places.epoch]
        for file in files:
            if file.is_file():
                return file
        latest = ", or take --checkpoint latest" if option == "--checkpoint" else ""
        raise CheckpointNotFoundError(
            f"no weights for {places.script} {places.config}: looked for epoch {places.epoch} (TEST.EPOCH) in {folder} "
            f"({places.describe()}), for {files[0]}, {shared} and {files[-1]}; name a file with {option}{latest}{hint}"
        )
    if requested.startswith(TIMM):
        return Path(requested)
    if requested.startswith(HUB):
        return fetch_from_hub(requested)
    if requested == "latest":
        if found:
            return found[max(found)]
        raise CheckpointNotFoundError(f"{option} latest: no checkpoint in {folder} ({places.describe()}){hint}")
    inside = Path(requested)
    if inside.is_relative_to("pretrained"):
        inside = inside.relative_to("pretrained")
    shipped = shipped_folder("pretrained") / inside
    for path in (Path(requested), folder / requested, places.pretrained / inside, shipped):
        for ending in ("", *CHECKPOINT_ENDINGS):
            if (file := path.with_name(path.name + ending)).is_file():
                return file
    raise CheckpointNotFoundError(
        f"{option} {requested}: no such file of weights; looked for {Path(requested).absolute()}, in {folder} "
        f"({places.describe()}) and in {places.pretrained} ({_weights_in(places.pretrained)}){hint}"
    )


def _belongs_to(file: Path, places: WeightPlaces) -> bool:
    """True if the JSON file of a release names the experiment."""
    try:
        metadata = json.loads(file.with_suffix(".json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(metadata, dict) and [metadata.get("script"), metadata.get("config_name")] == [
        places.script,
        places.config,
    ]


def _weights_in(folder: Path) -> str:
    if not folder.is_dir():
        return "which does not exist"
    names = sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.endswith((*CHECKPOINT_ENDINGS, ".npz"))
    )
    return f"there: {_first(names)}" if names else "which has no weights"


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a file of weights.

    Attributes:
        path: the file.
        state_dict: name -> tensor on the CPU, without a leading "module.".
        metadata: the other entries as plain types; stand-ins for foreign objects become dictionaries with "class".
        kind: "release" (safetensors), "published" (a training checkpoint), "mae" (pre-training with its decoder),
            "timm", "flax" or "plain".
        key: the entry that held the tensors, "" when the file is a bare state dict.
        optimizer: the optimizer's state where the file has one.
        replaced: classes of the file that were not loaded.
        unwrapped: "module." of a data-parallel wrapper was taken off the names.
    """

    path: Path
    state_dict: dict[str, Tensor]
    metadata: dict[str, Any]
    kind: str
    key: str = ""
    optimizer: Any = None
    replaced: tuple[str, ...] = ()
    unwrapped: bool = False

    @cached_property
    def sha256(self) -> str:
        return sha256_of(self.path)

    @property
    def parameters(self) -> int:
        """Numbers in all floating-point tensors, buffers included."""
        return sum(t.numel() for t in self.state_dict.values() if t.is_floating_point())

    def describe(self) -> str:
        """One line for the log: kind, tensors, epoch, what was not loaded."""
        source = f'key "{self.key}"' if self.key else "the whole file"
        parts = [f"{self.path.name}: {self.kind} weights from {source}", f"{len(self.state_dict)} tensors"]
        if "epoch" in self.metadata:
            parts.append(f"epoch {self.metadata['epoch']}")
        if self.unwrapped:
            parts.append('"module." stripped')
        parts.append("with optimizer state" if self.optimizer is not None else "no optimizer state")
        if self.replaced:
            parts.append(f"not loaded: objects of {', '.join(self.replaced)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Mapped:
    """A file's tensors under the names of a network: the result of a key map.

    Attributes:
        state_dict: name in the network -> tensor.
        fresh: shell patterns of names that such a file may lack; they keep their initial values.
        unused: names of the file that have no place in the network.
        notes: sentences for the log.
    """

    state_dict: Mapping[str, Tensor]
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_part(
        cls,
        network: nn.Module,
        prefix: str,
        state: Mapping[str, Tensor],
        fresh: Sequence[str] = (),
        elsewhere: Sequence[str] = (),
    ) -> Mapped:
        """Weights of one submodule; all others keep their initial values.

        Args:
            network: the whole network.
            prefix: the submodule's name and a dot.
            state: tensors under the submodule's names.
            fresh: patterns of the submodule's names that `state` may lack.
            elsewhere: patterns of names in `state` that are left out, such as those of a classifier.
        """
        unused = [name for name in state if _meets(name, elsewhere)]
        given = {prefix + name: state[name] for name in state.keys() - set(unused)}
        others = [name for name in network.state_dict() if not name.startswith(prefix)]
        return cls(given, (*others, *(prefix + pattern for pattern in fresh)), tuple(unused))


@dataclass(frozen=True)
class LoadReport:
    """Result of `load_into`.

    Attributes:
        loaded: names on both sides.
        missing, unexpected: names in the network only, in the file only.
        mismatched: names whose shapes differ.
        fresh: names that the file was allowed to lack, and lacks.
        unused: names of the file that a key map left out.
        notes: of the key map.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for the log, naming what was not loaded."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        for label in ("missing", "unexpected", "mismatched", "fresh", "unused"):
            names = getattr(self, label)
            if names:
                parts.append(f"{len(names)} {label} ({_first(names)})")
        return "; ".join([*parts, *self.notes])


def _meets(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _first(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_checkpoint(path: str | Path, key: str | None = None) -> Checkpoint:
    """Read weights; no code from the file runs.

    Args:
        path: `.safetensors` (with its `.json`), a Flax `.npz`, anything that `torch.save` wrote, or ``timm:NAME``.
        key: the entry that holds the tensors; by default the first of WEIGHT_KEYS that is there, else the file itself
            must be a state dict.

    Raises:
        WeightsError: one sentence, when the file is missing, truncated, refused, or holds no weights.
    """
    if str(path).startswith(TIMM):
        return Checkpoint(Path(path), weights_from_timm(str(path).removeprefix(TIMM)), {}, "timm")
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    known = kind_of_file(path)
    if known:
        raise WeightsError(f"{path}: not a checkpoint but {known}")
    if path.suffix == ".safetensors":
        return _read_release(path)
    if path.suffix == ".npz":
        return Checkpoint(path, load_flax_npz(path), {}, "flax")
    try:
        content, replaced = load_inert(path)
    except UnexpectedNameError as error:
        raise WeightsError(
            f"{path}: refused as unsafe, since it names {error}, which no checkpoint of a tracker has a use for; "
            "nothing of the file was run"
        ) from None
    except Exception as error:
        # The line that matters of PyTorch's many, without its advice to switch safety off.
        text = (str(error).partition("WeightsUnpickler error: ")[2] or str(error)).strip() or type(error).__name__
        raise WeightsError(
            f"{path}: not a readable PyTorch checkpoint; it is truncated, damaged, of another kind or unsafe "
            f"({text.splitlines()[0].strip():.200})"
        ) from error
    taken = _key_of_weights(path, content, key)
    found = content[taken] if taken else content
    strange = [f"{k} ({_named(v)})" for k, v in found.items() if not (isinstance(v, Tensor) and isinstance(k, str))]
    if strange:
        raise WeightsError(f"{path}: {len(strange)} entries of the weights are no named tensors: {_first(strange)}")
    unwrapped = bool(found) and all(k.startswith("module.") for k in found)
    state_dict = {k.removeprefix("module.") if unwrapped else k: v.detach() for k, v in found.items()}
    others = {str(k): v for k, v in content.items() if k != taken} if taken else {}
    optimizer = next((others.pop(k) for k in OPTIMIZER_KEYS if others.get(k) is not None), None)
    kind = "plain"
    decoder = any(k.startswith("decoder_") or k == "mask_token" for k in state_dict)
    if decoder or (taken == "model" and "cls_token" in state_dict):
        kind = "mae"
    elif taken and (optimizer is not None or {"actor_type", "net_type", "epoch"} & others.keys()):
        kind = "published"
    try:
        metadata = {k: _plain(v, [MOST_ENTRIES]) for k, v in others.items()}
    except RecursionError:
        raise WeightsError(
            f"{path}: the entries next to the weights are nested too deeply, or within themselves"
        ) from None
    return Checkpoint(path, state_dict, metadata, kind, taken, optimizer, replaced, unwrapped)


def _key_of_weights(path: Path, content: Any, key: str | None) -> str:
    """The entry of a file that holds the tensors, "" for the file itself."""
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a state dict or a checkpoint, found {_named(content)}")
    keys = _first([str(k) for k in content])
    if key is not None:
        if not isinstance(content.get(key), dict):
            raise WeightsError(f"{path}: no weights under key {key!r} (keys: {keys})")
        return key
    for name in WEIGHT_KEYS:
        if isinstance(content.get(name), dict):
            return name
    if content and all(isinstance(v, Tensor) for v in content.values()):
        return ""
    raise WeightsError(
        f"{path}: no weights found; expected one of the keys {', '.join(WEIGHT_KEYS)} or a bare state dict "
        f"(keys: {keys})"
    )


def _named(value: Any) -> str:
    return f"an object of {value.origin}" if isinstance(value, Inert) else f"a {type(value).__name__}"


def _plain(value: Any, budget: list[int]) -> Any:
    """An entry of a checkpoint that is not its weights, as JSON types.

    Args:
        value: The entry.
        budget: Number of values that it may still have, lists that stand in several places counted each time.

    Raises:
        RecursionError: It has more, or lies in itself.
    """
    budget[0] -= 1
    if budget[0] < 0:
        raise RecursionError
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"tensor {tuple(value.shape)}"
    if isinstance(value, Inert):
        items = {k: _plain(v, budget) for k, v in vars(value).items() if k != "call_args"}
        return {"class": value.origin, **items}
    if isinstance(value, Mapping):
        return {str(k): _plain(v, budget) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v, budget) for v in value]
    return str(value)


def _read_release(path: Path) -> Checkpoint:
    from safetensors.torch import load_file

    try:
        state_dict = load_file(path, device="cpu")
    except Exception as error:  # also of Python's and PyTorch's own kinds where the header is strange
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = "a PyTorch file; name it *.pt" if zipfile.is_zipfile(path) else "a truncated or damaged download"
        raise WeightsError(f"{path}: not a readable safetensors file but {kind} ({text:.200})") from error
    description = path.with_suffix(".json")
    metadata: dict[str, Any] = {}
    if description.is_file():
        try:
            metadata = json.loads(description.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{description}: not readable JSON ({str(error).splitlines()[0]})") from error
        if not isinstance(metadata, dict):
            raise WeightsError(f"{description}: expected a mapping of names, found a {type(metadata).__name__}")
        expected = metadata.get("sha256")
        if expected is not None and expected != sha256_of(path):
            raise WeightsError(f"{path}: these are not the weights that {description.name} describes (sha256 differs)")
    return Checkpoint(path, state_dict, metadata, "release")


def nonfinite_tensors(tensors: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors that hold NaN or infinite values.

    Args:
        tensors: By name; one read of each, and one synchronisation per device.

    Returns:
        ``name (n of N values)`` for each of them; empty if all is finite.
    """
    devices: dict[torch.device, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            devices.setdefault(tensor.device, []).append(name)
    found = []
    for names in devices.values():
        # A sum that is finite has finite terms; one that is not may be an overflow, so that its terms are counted.
        sums = torch.stack([tensors[name].detach().sum(dtype=torch.float32) for name in names])
        for i in (~sums.isfinite()).nonzero().flatten().tolist():
            tensor = tensors[names[i]].detach()
            count = tensor.numel() - int(tensor.isfinite().sum())
            found += [f"{names[i]} ({count} of {tensor.numel()} values)"] if count else []
    return found


def require_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuse weights with NaN or infinite values.

    Args:
        tensors: By name.
        source: Named in the message.

    Raises:
        WeightsError: Names the tensors and the numbers of such values.
    """
    if bad := nonfinite_tensors(tensors):
        kind = "tensor holds" if len(bad) == 1 else "tensors hold"
        raise WeightsError(f"{source}: {len(bad)} {kind} values that are not finite: {_first(bad)}")


def load_into(
    network: nn.Module,
    state_dict: Mapping[str, Tensor] | Mapped,
    strict: bool = True,
    source: str | Path = "the checkpoint",
) -> LoadReport:
    """Copy tensors into the network's parameters and buffers, by name; the dtype and device stay the network's.

    Args:
        network: what is filled.
        state_dict: tensors under the network's names, or what a key map made of them.
        strict: every name must be on both sides, but for `Mapped.fresh` and `*.num_batches_tracked`, which the file
            may lack. Without it, names on one side only are reported. A shape that differs is an error either way.
        source: named in messages.

    Raises:
        WeightsError: lists what is missing, unexpected, of another shape or not finite; the network is then untouched.
    """
    mapped = state_dict if isinstance(state_dict, Mapped) else Mapped(state_dict)
    own, given = network.state_dict(), mapped.state_dict
    loaded = tuple(name for name in given if name in own)
    mismatched = tuple(
        f"{k} (file {tuple(given[k].shape)}, network {tuple(own[k].shape)})"
        for k in loaded
        if given[k].shape != own[k].shape
    )
    absent = [k for k in own if k not in given]
    exact, patterns = set(mapped.fresh), [p for p in (*mapped.fresh, *TOLERATED_MISSING) if "*" in p]
    fresh = [k for k in absent if k in exact or _meets(k, patterns)]
    missing = tuple(k for k in absent if k not in set(fresh))
    unexpected = tuple(k for k in given if k not in own)
    report = LoadReport(loaded, missing, unexpected, mismatched, tuple(fresh), mapped.unused, mapped.notes)
    wrong = {"of another shape": mismatched}
    if strict:
        wrong = {"missing from the file": missing, "unknown to the network": unexpected, **wrong}
    if any(wrong.values()):
        listed = "; ".join(f"{len(names)} {label}: {_first(names)}" for label, names in wrong.items() if names)
        raise WeightsError(f"{source}: the weights do not fit the network ({len(loaded)} names agree). {listed}")
    require_finite({name: given[name] for name in loaded}, source)
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(given[name])
    return report


def save_release(stem: str | Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write `<stem>.safetensors` and `<stem>.json`, each atomically.

    Args:
        stem: path without ending.
        state_dict: the weights.
        metadata: JSON types; "sha256" of the weights is added, by which a pair that does not match is found.

    Returns:
        The path of the weights.

    Raises:
        WeightsError: a value is not finite; nothing is written.
    """
    from safetensors.torch import save

    stem = Path(stem)
    require_finite(state_dict, f"{stem}: not written")
    weights, description = stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")
    # Contiguous copies on the CPU: safetensors refuses tensors that share memory.
    copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state_dict.items()}
    data = save(copies, metadata={"format": "pt"})
    text = json.dumps({**metadata, "sha256": hashlib.sha256(data).hexdigest()}, indent=2) + "\n"
    write_bytes(weights, data)
    write_text(description, text)
    return weights
