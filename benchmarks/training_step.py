"""Memory and operations of a training step; its time is measured elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.bench import counting


def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> float:
    optimizer.zero_grad(set_to_none=True)
    total = loss()
    total.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 0.1)
    optimizer.step()
    return float(total.detach())


def saved_mib(run: Callable[[], float]) -> float:
    """Memory that a step keeps for its backward pass: distinct saved tensors, weights left out."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and not (
            tensor._base is not None and isinstance(tensor._base, nn.Parameter)
        ):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        run()
    return sum(seen.values()) / 2**20


def kernels(run: Callable[[], float]) -> int:
    """Operations that a step dispatches, backward pass and update included."""
    with counting() as cost:
        run()
    return cost.kernels


class _Watch(TorchDispatchMode):
    """Bytes of the storages that were made since, and are still alive; their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in inputs:
                storage = tensor.untyped_storage()
                self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {key: value for key, value in self.live.items() if not value[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


def peak_mib(run: Callable[[], float]) -> float:
    """The most memory that tensors made by a step take at once, gradients included."""
    with _Watch() as watch:
        run()
    return watch.peak / 2**20


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    print(title)
    for name, row in rows.items():
        print(f"  {name:<9}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)


def markdown(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """The rows as a table whose first column is their names; all rows have the first one's keys, or fewer."""
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [
        f"{title}:",
        "",
        f"| | {' | '.join(key.replace('_', ' ') for key in keys)} |",
        "|---|" + "---:|" * len(keys),
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[k]:.4g}' if k in row else '' for k in keys)} |")
    return "\n".join(lines) + "\n"
