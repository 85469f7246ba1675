"""What to tell a user whose batch did not fit the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch

from lib.data import Batch, Rows

R = TypeVar("R", bound=Rows)


class BatchTooLargeError(RuntimeError):
    """A batch that the device's memory does not hold; the message says which would fit."""


def first_rows(batch: R, rows: int) -> R:
    """The first `rows` samples of a batch."""
    if isinstance(batch, Batch):
        return batch.select(range(rows))  # type: ignore[return-value]
    values: dict[str, Any] = {f.name: getattr(batch, f.name)[:rows] for f in fields(batch)}  # type: ignore[arg-type]
    return replace(batch, **values)  # type: ignore[type-var]


def largest_that_fits(batch: R, fits: Callable[[R], bool]) -> int:
    """The largest number of rows of `batch` (fewer than all) that `fits`, found by bisection; 0 when none does."""
    good, bad = 0, len(batch)
    while bad - good > 1:
        middle = (good + bad) // 2
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if fits(first_rows(batch, middle)):
            good = middle
        else:
            bad = middle
    return good


def explain(batch_size: int, fitting: int, processes: int, accumulate: int, reason: str) -> str:
    """The sentence for the user, with a setting of the same total batch where there is one."""
    text = (
        f"the device has no room for TRAIN.BATCH_SIZE {batch_size} ({processes} processes, ACCUMULATE {accumulate}: "
        f"total batch {batch_size * processes * accumulate}); "
    )
    if not fitting:
        return text + f"not even one sample was seen to fit. {reason}"
    share = max(d for d in range(1, fitting + 1) if batch_size % d == 0)
    return text + (
        f"{fitting} samples were seen to fit. For the same total batch: TRAIN.BATCH_SIZE={share} "
        f"TRAIN.ACCUMULATE={accumulate * batch_size // share}, or TRAIN.PRECISION=bf16. {reason}"
    )
