"""State of B sequences: rows that enter and leave a batch, large stores that rows share, random numbers per row."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lib.data import Frame
from lib.device import to_device

Frames = Sequence[Frame]
"""A frame of each of B sequences."""
S = TypeVar("S", bound="State")


@dataclass
class State:
    """Base of a tracker's state; subclasses are dataclasses.

    A field is a tensor or numpy array with one row per sequence, a list with one entry per sequence (for what differs
    in size from row to row), `Slots`, another `State`, or None.
    """

    def select(self: S, rows: Sequence[int]) -> S:
        """The state of these rows, in this order; a row may be there several times, or not at all."""
        return replace(self, **{f.name: _select(getattr(self, f.name), rows) for f in fields(self)})

    @classmethod
    def cat(cls: type[S], states: Sequence[S]) -> S:
        """The rows of all `states`, one after the other.

        Raises:
            ValueError: There is no state.
            TypeError: A field has different types in the states.
        """
        if not states:
            raise ValueError("State.cat needs at least one state")
        first = states[0]
        return replace(first, **{f.name: _cat([getattr(s, f.name) for s in states], f.name) for f in fields(first)})


def update_rows(state: S, due: Tensor, update: Callable[[S, list[int]], S]) -> S:
    """Update the rows that are due, gathered in one batch; the state itself is left as it was.

    Args:
        state: Of B rows.
        due: [B] bool on the CPU.
        update: (state of the due rows, their numbers) -> the same state with some fields replaced.

    Returns:
        The state with those fields' rows exchanged; other fields are not copied. `state` where no row is due.
    """
    rows = due.nonzero().flatten().tolist()
    if not rows:
        return state
    part = state.select(rows)
    after = update(part, rows)
    changed = [f.name for f in fields(state) if getattr(after, f.name) is not getattr(part, f.name)]
    return replace(state, **{name: _put(getattr(state, name), rows, getattr(after, name)) for name in changed})


def _select(value: Any, rows: Sequence[int]) -> Any:
    """Some rows of a field."""
    if value is None:
        return None
    if isinstance(value, State):
        return value.select(rows)
    if isinstance(value, Tensor):
        return value[to_device(torch.as_tensor(rows, dtype=torch.long), value.device)]
    if isinstance(value, np.ndarray):
        return value[np.asarray(rows, dtype=np.int64)]
    if isinstance(value, list):
        return type(value)(value[i] for i in rows)
    raise TypeError(f"a state field must be a tensor, an array, a list, Slots, a State or None, not {type(value)}")


def _cat(values: list[Any], name: str) -> Any:
    """The rows of a field of several states. name: of the field, for messages."""
    first = values[0]
    if any(type(v) is not type(first) for v in values):
        raise TypeError(f"state field {name!r} has different types in the states to be joined")
    if first is None:
        return None
    if isinstance(first, State):
        return type(first).cat(values)
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, list):
        return type(first)(entry for value in values for entry in value)
    raise TypeError(f"state field {name!r} must be a tensor, an array, a list, Slots, a State or None")


def _put(value: Any, rows: list[int], part: Any) -> Any:
    """A copy of the field with some rows exchanged."""
    if isinstance(value, Tensor):
        return value.index_copy(0, to_device(torch.tensor(rows), value.device), part)
    if isinstance(value, np.ndarray):
        copied = value.copy()
        copied[rows] = part
        return copied
    if isinstance(value, State):
        names = [f.name for f in fields(value)]
        return replace(value, **{name: _put(getattr(value, name), rows, getattr(part, name)) for name in names})
    if isinstance(value, list):
        entries = dict(zip(rows, part, strict=True))
        return type(value)(entries.get(i, entry) for i, entry in enumerate(value))
    return part


class Slots(list["_Store"]):
    """Large memories as a state field: a list with one store of a fixed number of slots per row.

    `State.select` and `State.cat` copy no store: rows of several states refer to the same one. Writing a slot happens
    in place and keeps the old value of that slot alone, as long as an older state refers to it. Only a second write to
    the same older store (two branches of one history) copies the store.
    """

    @classmethod
    def of(cls, stores: Iterable[Tensor]) -> Slots:
        """A store per row, each [capacity, ...] of memory of its own."""
        return cls(map(_Store, stores))

    def read(self, row: int) -> Tensor:
        """A row's store [capacity, ...]; in the newest state it is no copy, so it must not be written to."""
        return self[row].read()

    def write(self, rows: Sequence[int], slots: Sequence[int], values: Tensor) -> Slots:
        """Slots with one slot written in each of these rows.

        Args:
            rows: R row numbers.
            slots: The slot of each of them.
            values: [R, ...].
        """
        stores = Slots(self)
        for row, slot, value in zip(rows, slots, values, strict=True):
            stores[row] = stores[row].written(slot, value)
        return stores


class _Store:
    """A version of a store: the newest one holds the tensor, an older one what differs from the next (Baker, 1991)."""

    def __init__(self, values: Tensor) -> None:
        self._values: Tensor | None = values
        self._next: tuple[_Store, int, Tensor] | None = None

    def read(self) -> Tensor:
        """This version's values; an older version becomes independent of the newer ones."""
        if self._values is not None:
            return self._values
        differences = []
        version = self
        while version._next is not None:
            version, slot, value = version._next
            differences.append((slot, value))
        assert version._values is not None
        values = version._values.clone()
        for slot, value in reversed(differences):
            values[slot] = value
        self._values, self._next = values, None
        return values

    @torch.no_grad()
    def written(self, slot: int, value: Tensor) -> _Store:
        """The next version, with one slot written."""
        values = self.read()
        after = _Store(values)
        self._values, self._next = None, (after, slot, values[slot].clone())
        values[slot] = value
        return after


def sequence_keys(frames: Frames, boxes_xywh: Tensor) -> Tensor:
    """Numbers that identify sequences, by their first frame and box; see `row_noise`.

    Args:
        frames: B first frames.
        boxes_xywh: [B, 4] targets in image pixels.

    Returns:
        [B] int64, the same for the same picture and box.
    """
    boxes = boxes_xywh.detach().to("cpu", torch.float64).numpy()
    checks = [zlib.crc32(box.tobytes(), zlib.crc32(f.rgb.tobytes())) for f, box in zip(frames, boxes, strict=True)]
    return torch.tensor(checks, dtype=torch.int64)


Noise = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
"""(`sequence_keys` [B], steps [B], shape of a row) -> random numbers [B, *shape], such as `row_noise` with a seed."""

WORTH_A_THREAD = 1 << 14
"""Numbers of a row from which on rows are drawn by threads; they take a quarter of a millisecond."""


def row_noise(seed: int, keys: Tensor, steps: Tensor, shape: Sequence[int], normal: bool = False) -> Tensor:
    """Random numbers that depend on nothing but seed, sequence and frame, whatever else is in the batch.

    A tracker that draws keeps `sequence_keys` and a count of frames in its state, and calls a `Noise` that can be set
    from outside: `functools.partial(row_noise, seed)` unless something else is wanted.

    Args:
        seed: Of the tracker, not negative.
        keys: [B] int64, see `sequence_keys`.
        steps: [B] int64, frames since the start of each row.
        shape: Of one row.
        normal: Of mean 0 and deviation 1; without it uniform in 0..1.

    Returns:
        [B, *shape] float64 on the CPU.
    """
    drawn = np.empty((len(keys), *shape))

    def draw(i: int) -> None:
        stream = np.random.default_rng([seed, int(keys[i]), int(steps[i])])
        (stream.standard_normal if normal else stream.random)(out=drawn[i])

    if len(keys) > 1 and drawn[0].size >= WORTH_A_THREAD:
        with ThreadPoolExecutor(min(len(keys), os.cpu_count() or 1)) as pool:
            list(pool.map(draw, range(len(keys))))
    else:
        for i in range(len(keys)):
            draw(i)
    return torch.from_numpy(drawn)
