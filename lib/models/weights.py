"""Weights in files: reading any published checkpoint safely, loading strictly, writing our own release format.

A release is `<stem>.safetensors` with `<stem>.json` beside it. Published `.pth.tar`, `.pth` and `.pt` files are read
without running code from them (`lib.models.inert`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.files import write_bytes, write_text
from lib.models.inert import Inert, load_inert

WEIGHT_KEYS = ("net", "model", "state_dict", "network")
"""Where published files keep their tensors, in the order in which they are looked for."""
OPTIMIZER_KEYS = ("optimizer", "optimizer_state_dict")
TOLERATED_MISSING = ("*.num_batches_tracked",)
"""Counters that files older than PyTorch 0.4.1 lack and that no forward pass in eval mode reads."""
SHOWN = 10

KeyMap = Mapping[str, str] | Callable[[str], str | None]
"""Name in the file -> name in the network; None from a callable leaves the entry out (and the report says so)."""


class WeightsError(RuntimeError):
    """A file of weights that is missing, unreadable, or does not fit the network."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights held.

    state_dict: name -> tensor on the CPU, without a leading "module.".
    metadata: the other entries as plain types (numbers, strings, lists, dicts); stand-ins become dicts with "class".
    kind: "release" (safetensors), "published" (a training checkpoint), "mae" (pre-training with its decoder), "plain".
    key: the entry that the tensors were taken from, "" when the file is a bare state dict.
    optimizer: the optimizer's state where the file has one. replaced: classes of the file that were not loaded.
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
        """One line for the log: what was found and how it was taken."""
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
class LoadReport:
    """What went where. missing: in the network only; unexpected: in the file only; ignored: left out on request."""

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    tolerated: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """One line for the log, naming what was not loaded."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        for label in ("missing", "unexpected", "mismatched", "ignored", "tolerated"):
            names = getattr(self, label)
            if names:
                parts.append(f"{len(names)} {label} ({_first(names)})")
        return "; ".join(parts)


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
    """Read `.safetensors` (+ `.json`) or anything that `torch.save` wrote; no code from the file runs.

    key: the entry that holds the tensors; by default the first of "net", "model", "state_dict", "network" that is
    there, else the file itself must be a state dict.
    Raises WeightsError, one sentence, when the file is missing, truncated, refused, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    if path.suffix == ".safetensors":
        return _read_release(path)
    try:
        content, replaced = load_inert(path)
    except Exception as error:
        raise WeightsError(
            f"{path}: not a readable PyTorch checkpoint; it is truncated, damaged, of another kind or unsafe "
            f"({_reason(error)})"
        ) from error
    taken, found = _find_weights(path, content, key)
    state_dict, unwrapped = _unwrap(path, found)
    others = {str(k): v for k, v in content.items() if k != taken} if taken else {}
    optimizer = next((others.pop(k) for k in OPTIMIZER_KEYS if others.get(k) is not None), None)
    metadata = {k: _plain(v) for k, v in others.items()}
    kind = _kind(taken, state_dict, others, optimizer)
    return Checkpoint(path, state_dict, metadata, kind, taken, optimizer, replaced, unwrapped)


def _reason(error: Exception) -> str:
    """The line that matters of PyTorch's many, without its advice to switch safety off."""
    text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    return text.strip().splitlines()[0].strip() if text.strip() else type(error).__name__


def _find_weights(path: Path, content: Any, key: str | None) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a state dict or a checkpoint, found {_named(content)}")
    if key is not None:
        if not isinstance(content.get(key), dict):
            raise WeightsError(f"{path}: no weights under key {key!r} (keys: {_first([str(k) for k in content])})")
        return key, content[key]
    for name in WEIGHT_KEYS:
        if isinstance(content.get(name), dict):
            return name, content[name]
    if content and all(isinstance(v, Tensor) for v in content.values()):
        return "", content
    raise WeightsError(
        f"{path}: no weights found; expected one of the keys {', '.join(WEIGHT_KEYS)} or a bare state dict "
        f"(keys: {_first([str(k) for k in content])})"
    )


def _named(value: Any) -> str:
    return f"an object of {value.origin}" if isinstance(value, Inert) else f"a {type(value).__name__}"


def _unwrap(path: Path, found: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """The tensors under their own names: "module." of a data-parallel wrapper goes when every name has it."""
    strange = [f"{k} ({_named(v)})" for k, v in found.items() if not isinstance(v, Tensor)]
    if strange:
        raise WeightsError(f"{path}: {len(strange)} entries of the weights are no tensors: {_first(strange)}")
    unwrapped = bool(found) and all(k.startswith("module.") for k in found)
    return {k.removeprefix("module.") if unwrapped else k: v.detach() for k, v in found.items()}, unwrapped


def _kind(key: str, state_dict: Mapping[str, Tensor], others: Mapping[str, Any], optimizer: Any) -> str:
    if any(k.startswith("decoder_") or k == "mask_token" for k in state_dict) or (
        key == "model" and "cls_token" in state_dict
    ):
        return "mae"
    if key and (optimizer is not None or {"actor_type", "net_type", "epoch"} & others.keys()):
        return "published"
    return "plain"


def _plain(value: Any) -> Any:
    """JSON-able picture of what a checkpoint holds beside its weights."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"tensor {tuple(value.shape)}"
    if isinstance(value, Inert):
        return {"class": value.origin, **{k: _plain(v) for k, v in vars(value).items() if k != "call_args"}}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    return str(value)


def _read_release(path: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state_dict = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    beside = path.with_suffix(".json")
    metadata: dict[str, Any] = {}
    if beside.is_file():
        try:
            metadata = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WeightsError(f"{beside}: not readable JSON ({error})") from error
        expected = metadata.get("sha256")
        if expected is not None and expected != sha256_of(path):
            raise WeightsError(f"{path}: these are not the weights that {beside.name} describes (sha256 differs)")
    return Checkpoint(path, state_dict, metadata, "release")


def load_into(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    strict: bool = True,
    key_map: KeyMap | None = None,
    ignore: Sequence[str] = (),
    source: str | Path = "the checkpoint",
) -> LoadReport:
    """Copy tensors into the network's parameters and buffers, by name; the dtype and device stay the network's.

    strict: every name must be on both sides (`*.num_batches_tracked` may be absent from the file). Without it, names on
    one side only are reported. A shape that differs is an error either way. ignore: shell patterns of names (as they
    are in the network) that are left as they are and reported. source: named in messages.
    Raises WeightsError listing what is missing, unexpected and of another shape; the network is then untouched.
    """
    own = network.state_dict()
    renamed, left_out = _rename(state_dict, key_map, source)
    ignored = tuple(k for k in dict.fromkeys([*own, *renamed]) if _meets(k, ignore))
    skip = set(ignored)
    both = [k for k in renamed if k in own and k not in skip]
    mismatched = tuple(
        f"{k} (file {tuple(renamed[k].shape)}, network {tuple(own[k].shape)})"
        for k in both
        if renamed[k].shape != own[k].shape
    )
    absent = [k for k in own if k not in renamed and k not in skip]
    tolerated = tuple(k for k in absent if _meets(k, TOLERATED_MISSING))
    missing = tuple(k for k in absent if k not in set(tolerated))
    unexpected = tuple(k for k in renamed if k not in own and k not in skip)
    report = LoadReport(tuple(both), missing, unexpected, mismatched, (*ignored, *left_out), tolerated)
    if mismatched or (strict and (missing or unexpected)):
        raise WeightsError(_complaint(source, report, strict))
    with torch.no_grad():
        for name in both:
            own[name].copy_(renamed[name])
    return report


def _rename(
    state_dict: Mapping[str, Tensor], key_map: KeyMap | None, source: str | Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    renamed: dict[str, Tensor] = {}
    left_out = []
    for name, tensor in state_dict.items():
        new = name if key_map is None else key_map(name) if callable(key_map) else key_map.get(name, name)
        if new is None:
            left_out.append(name)
            continue
        if new in renamed:
            raise WeightsError(f"{source}: two entries are mapped to {new!r}, one of them {name!r}")
        renamed[new] = tensor
    return renamed, tuple(left_out)


def _meets(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


def _complaint(source: str | Path, report: LoadReport, strict: bool) -> str:
    wrong = {"of another shape": report.mismatched}
    if strict:
        wrong = {
            "missing from the file": report.missing,
            "unknown to the network": report.unexpected,
            "of another shape": report.mismatched,
        }
    told = "; ".join(f"{len(names)} {label}: {_first(names)}" for label, names in wrong.items() if names)
    return f"{source}: the weights do not fit the network ({len(report.loaded)} names agree). {told}"


def save_release(stem: str | Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write `<stem>.safetensors` and `<stem>.json`, each at once or not at all; returns the former's path.

    metadata must be JSON-able; "sha256" of the weights is added, which tells a pair that does not belong together.
    """
    from safetensors.torch import save

    stem = Path(stem)
    weights, beside = stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")
    data = save({k: _own_memory(v) for k, v in state_dict.items()}, metadata={"format": "pt"})
    text = json.dumps({**metadata, "sha256": hashlib.sha256(data).hexdigest()}, indent=2) + "\n"
    write_bytes(weights, data)
    write_text(beside, text)
    return weights


def _own_memory(tensor: Tensor) -> Tensor:
    """Contiguous on the CPU, sharing memory with no other tensor (safetensors refuses shared memory)."""
    return tensor.detach().to("cpu", copy=True).contiguous()
