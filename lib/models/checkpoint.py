"""Reading of weights: safetensors, PyTorch, Flax and timm. No code from a file is run."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.models.pretrained import TIMM, load_flax_npz, weights_from_timm
from lib.models.safe_pickle import Inert, UnexpectedNameError, WeightsError, kind_of_file, load_inert
from lib.registry import listed

WEIGHT_KEYS = ("net", "model", "state_dict", "network", "module")
"""Where published files keep their tensors, in the order in which they are looked for."""
OPTIMIZER_KEYS = ("optimizer", "optimizer_state_dict")
MOST_ENTRIES = 1_000_000
"""Values of one entry next to the weights; published files have a few thousand."""
BASE = "base"
"""Entry of a release's JSON that names the file it completes."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a file of weights.

    Attributes:
        path: The file.
        state_dict: Name -> tensor on the CPU, without a leading "module.".
        metadata: The other entries as plain types; stand-ins for foreign objects become dictionaries with "class".
        kind: "release" (safetensors), "published" (a training checkpoint), "mae" (pre-training with its decoder),
            "timm", "flax" or "plain".
        key: The entry that held the tensors, "" when the file is a bare state dict.
        optimizer: The optimizer's state where the file has one.
        replaced: Classes of the file that were not loaded.
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

    @property
    def title(self) -> str:
        """The path, with the experiment that a release says it is of; for messages."""
        names = self.metadata.get("script"), self.metadata.get("config_name")
        return f"{self.path} (weights of {names[0]} {names[1]})" if all(names) else str(self.path)

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
        key: The entry that holds the tensors; by default the first of WEIGHT_KEYS that is there, else the file itself
            must be a state dict.

    Raises:
        WeightsError: One sentence, when the file is missing, truncated, refused, or holds no weights.
    """
    if str(path).startswith(TIMM):
        return Checkpoint(Path(path), weights_from_timm(str(path).removeprefix(TIMM)), {}, "timm")
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    known = kind_of_file(path)
    if known:
        raise WeightsError(f"{path}: not a checkpoint but {known}")
    if key is not None and path.suffix in (".safetensors", ".npz"):
        raise WeightsError(f"{path}: no weights under key {key!r}; files of this kind hold weights alone")
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
    _require_tensors(path, found)
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
    keys = listed([str(k) for k in content])
    if key is not None:
        if not isinstance(content.get(key), dict):
            raise WeightsError(f"{path}: no weights under key {key!r} (keys: {keys})")
        return key
    for name in WEIGHT_KEYS:
        if isinstance(content.get(name), dict):
            return name
    if content and all(isinstance(v, Tensor) for v in content.values()):
        return ""
    if path.stem.endswith("_state") and OPTIMIZER_KEYS[0] in content:
        weights = path.with_name(path.stem.removesuffix("_state") + ".safetensors")
        raise WeightsError(f"{path}: the state to resume a training from; the weights of that epoch are in {weights}")
    raise WeightsError(
        f"{path}: no weights found; expected one of the keys {', '.join(WEIGHT_KEYS)} or a bare state dict "
        f"(keys: {keys})"
    )


def _require_tensors(path: Path, found: Mapping[Any, Any]) -> None:
    """Refuse weights that are no dense tensors of real numbers under names."""
    strange = [
        f"{k} ({_named(v)})"
        for k, v in found.items()
        if not (isinstance(v, Tensor) and isinstance(k, str))
        or v.layout is not torch.strided
        or v.is_complex()
        or v.is_meta
        or v.is_quantized
    ]
    if strange:
        raise WeightsError(
            f"{path}: {len(strange)} entries of the weights are no named dense tensors: {listed(strange)}"
        )


def _named(value: Any) -> str:
    if isinstance(value, Tensor):
        return "a tensor without values" if value.is_meta else f"a tensor of {value.dtype}, {value.layout}"
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
        return {"class": value.origin, **{k: _plain(v, budget) for k, v in vars(value).items()}}
    if isinstance(value, Mapping):
        return {str(k): _plain(v, budget) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v, budget) for v in value]
    return str(value)


def _read_release(path: Path) -> Checkpoint:
    """A file of safetensors, completed by the file that its JSON calls `base`, see `difference`."""
    state_dict = _read_safetensors(path)
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
    if (base := metadata.get(BASE)) is not None:
        name, expected = (base.get(k) if isinstance(base, dict) else None for k in ("file", "sha256"))
        if not isinstance(name, str) or name != Path(name).name:
            raise WeightsError(f"{description}: expected the name of a file next to it and its sha256 in {BASE!r}")
        file = path.with_name(name)
        if not file.is_file() or sha256_of(file) != expected:
            there = "which is not there" if not file.is_file() else "which has another sha256"
            raise WeightsError(f"{path}: holds what differs from {file}, {there}")
        state_dict = {**_read_safetensors(file), **state_dict}
    return Checkpoint(path, state_dict, metadata, "release")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        state_dict = load_file(path, device="cpu")
    except Exception as error:  # also of Python's and PyTorch's own kinds where the header is strange
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = "a PyTorch file; name it *.pt" if zipfile.is_zipfile(path) else "a truncated or damaged download"
        raise WeightsError(f"{path}: not a readable safetensors file but {kind} ({text:.200})") from error
    _require_tensors(path, state_dict)
    return state_dict


def difference(whole: Checkpoint, base: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by which a network with further trained parts differs from a release, for a small release of its own.

    Args:
        whole: With the parts.
        base: A release without them; every one of its names is in `whole`.

    Returns:
        The tensors that `base` lacks or has otherwise, and the entry of the release's JSON by which `read_checkpoint`
        completes them with `base`, which has to lie next to it.

    Raises:
        WeightsError: Names of `base` are not in `whole`.
    """
    if absent := sorted(base.state_dict.keys() - whole.state_dict.keys()):
        raise WeightsError(f"{whole.path}: it has not grown from {base.path}, whose {absent[0]} it lacks")
    same = {k for k, v in base.state_dict.items() if torch.equal(v, whole.state_dict[k])}
    own = {k: v for k, v in whole.state_dict.items() if k not in same}
    return own, {BASE: {"file": base.path.name, "sha256": base.sha256}}
