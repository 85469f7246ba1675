"""Weights: where they come from and how they get into a network.

One road serves every name that a user gives to weights - ``MODEL.PRETRAIN_FILE``, ``INIT``, ``TEACHER``, ``SLT.START``,
``MODEL.PRETRAINED_PATH``, ``--load``, ``--script_prv``, ``--checkpoint`` - in four steps:

1. `locate` finds the file (`weight_places.py`; the search order is in its docstring);
2. `read_checkpoint` reads it without running code from it (`checkpoint.py`);
3. a *key map* of the method turns the file's tensors into those of the network (`Mapped`);
4. `load_into` copies them, strictly.

A release is `<stem>.safetensors` with `<stem>.json` next to it (`save_release`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.files import write_bytes, write_text
from lib.models.safe_pickle import WeightsError
from lib.registry import listed

TOLERATED_MISSING = ("*.num_batches_tracked",)
"""Counters that files older than PyTorch 0.4.1 lack and that no forward pass in eval mode reads."""


@dataclass(frozen=True)
class Mapped:
    """A file's tensors under the names of a network: the result of a key map.

    Attributes:
        state_dict: Name in the network -> tensor.
        fresh: Shell patterns of names that such a file may lack; they keep their initial values.
        unused: Names of the file that have no place in the network.
        notes: Sentences for the log.
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
            network: The whole network.
            prefix: The submodule's name and a dot.
            state: Tensors under the submodule's names.
            fresh: Patterns of the submodule's names that `state` may lack.
            elsewhere: Patterns of names in `state` that are left out, such as those of a classifier.
        """
        unused = [name for name in state if _meets(name, elsewhere)]
        given = {prefix + name: state[name] for name in state.keys() - set(unused)}
        others = [name for name in network.state_dict() if not name.startswith(prefix)]
        return cls(given, (*others, *(prefix + pattern for pattern in fresh)), tuple(unused))


@dataclass(frozen=True)
class LoadReport:
    """Result of `load_into`.

    Attributes:
        loaded: Names on both sides.
        missing, unexpected: Names in the network only, in the file only.
        mismatched: Names whose shapes differ.
        fresh: Names that the file was allowed to lack, and lacks.
        unused: Names of the file that a key map left out.
        notes: Of the key map.
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
                parts.append(f"{len(names)} {label} ({listed(names)})")
        return "; ".join([*parts, *self.notes])


def _meets(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


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
        raise WeightsError(f"{source}: {len(bad)} {kind} values that are not finite: {listed(bad)}")


def load_into(
    network: nn.Module,
    state_dict: Mapping[str, Tensor] | Mapped,
    strict: bool = True,
    source: str | Path = "the checkpoint",
) -> LoadReport:
    """Copy tensors into the network's parameters and buffers, by name; the dtype and device stay the network's.

    Args:
        network: What is filled.
        state_dict: Tensors under the network's names, or what a key map made of them.
        strict: Every name must be on both sides, but for `Mapped.fresh` and `*.num_batches_tracked`, which the file
            may lack. Without it, names on one side only are reported. A shape that differs is an error either way.
        source: Named in messages.

    Raises:
        WeightsError: Lists what is missing, unexpected, of another shape or not finite; the network is then untouched.
    """
    mapped = state_dict if isinstance(state_dict, Mapped) else Mapped(state_dict)
    own, given = network.state_dict(), mapped.state_dict
    loaded = tuple(name for name in given if name in own)
    shapes = {k: (tuple(given[k].shape), tuple(own[k].shape)) for k in loaded}
    mismatched = tuple(f"{k} (file {a}, network {b})" for k, (a, b) in shapes.items() if a != b)
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
        problems = "; ".join(f"{len(names)} {label}: {listed(names)}" for label, names in wrong.items() if names)
        raise WeightsError(f"{source}: the weights do not fit the network ({len(loaded)} names agree). {problems}")
    require_finite({name: given[name] for name in loaded}, source)
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(given[name])
    return report


def save_release(stem: str | Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write `<stem>.safetensors` and `<stem>.json`, each atomically.

    Args:
        stem: Path without ending.
        state_dict: The weights.
        metadata: JSON types; "sha256" of the weights is added, by which a pair that does not match is found.

    Returns:
        The path of the weights.

    Raises:
        WeightsError: A value is not finite; nothing is written.
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
