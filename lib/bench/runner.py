"""One process of an evaluation: sequences from a queue, B rows of one tracker at a time.

Rows enter when a sequence is claimed and leave when it ends (`State.cat`, `State.select`), so a short sequence never
waits for a long one. Frames are decoded ahead by a few threads. What goes wrong in a sequence is reported with its
name and frame and touches no other row.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lib.bench.results import Result
from lib.data import Frame, Video
from lib.track import Prediction, State, Tracker


class OutOfMemoryError(RuntimeError):
    """The device cannot hold the batch; no sequence is to blame."""


class Work(Protocol):
    """Where a runner gets its sequences and leaves what came of them."""

    def take(self) -> str | None:
        """The name of a sequence to track, or None when there is none for this runner now."""

    def finished(self, result: Result) -> None: ...

    def failed(self, name: str, reason: str) -> None: ...

    def tracked(self, frames: int) -> None:
        """That many more frames are done; called after every step."""


class TrackingError(RuntimeError):
    """A tracker that gave something other than a box."""


@dataclass
class _Row:
    """One sequence on its way through the batch. `at` is the number of the frame that comes next."""

    sequence: Video
    start: int
    at: int
    pending: deque[Future[Frame]] = field(default_factory=deque)
    requested: int = 0
    boxes: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)
    seconds: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.sequence)
        self.requested = self.at
        self.boxes = np.repeat(self.sequence.boxes_xywh[self.start : self.start + 1], count, axis=0)
        self.scores = np.zeros(count)
        self.seconds = np.zeros(count)
        self.scores[self.start] = 1.0

    @property
    def over(self) -> bool:
        return self.at >= len(self.sequence)

    def record(self, box_xywh: NDArray[np.float64], score: float, seconds: float) -> None:
        if not np.isfinite(box_xywh).all():
            raise TrackingError(f"the tracker gave the box {box_xywh.tolist()}")
        self.boxes[self.at], self.scores[self.at], self.seconds[self.at] = box_xywh, score, seconds
        self.at += 1

    def result(self) -> Result:
        return Result(self.sequence.name, self.boxes, self.scores, self.seconds)


@dataclass
class Runner:
    """Tracks what `work` hands out, at most `batch` sequences at a time, until nothing is left.

    load: name -> the sequence and the number of the frame that tracking starts on (earlier rows repeat its box).
    lookahead: how many frames of each row are decoded ahead. decode_threads: how many at the same time.
    raise_errors: let the first failure through, for debugging.
    Raises OutOfMemoryError when the device cannot hold the batch; all else that goes wrong belongs to one sequence.
    """

    tracker: Tracker
    load: Callable[[str], tuple[Video, int]]
    work: Work
    batch: int = 1
    lookahead: int = 4
    decode_threads: int = 2
    raise_errors: bool = False

    def run(self) -> None:
        """Work until the queue is empty."""
        pool = ThreadPoolExecutor(self.decode_threads, thread_name_prefix="decode")
        try:
            with torch.no_grad():
                self._loop(pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _loop(self, pool: ThreadPoolExecutor) -> None:
        rows: list[_Row] = []
        states: list[State] = []
        ask = True
        while rows or ask:
            while ask and len(rows) < self.batch:
                name = self.work.take()
                if name is None:
                    ask = False
                    break
                entered = self._enter(name, pool)
                if entered is not None:
                    rows.append(entered[0])
                    states.append(entered[1])
            if rows:
                before = len(rows)
                states = [type(states[0]).cat(states)] if len(states) > 1 else states
                rows, state = self._advance(rows, states[0], pool)
                states = [state] if rows else []
                ask = ask or len(rows) < before

    def _enter(self, name: str, pool: ThreadPoolExecutor) -> tuple[_Row, State] | None:
        """Initialise one sequence; alone, so that a bad box is this sequence's failure and no other's."""
        start = 0
        try:
            sequence, start = self.load(name)
            row = _Row(sequence, start, at=start)
            frame = self._frame(row, pool)
            began = time.perf_counter()
            box = torch.from_numpy(sequence.boxes_xywh[start : start + 1].copy())
            state = self.tracker.init([frame], box)
            row.record(sequence.boxes_xywh[start], 1.0, time.perf_counter() - began)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"{error}; a smaller --batch needs less") from error
        except Exception as error:
            if self.raise_errors:
                raise
            self.work.failed(name, f"frame {start}: {describe(error)}")
            return None
        self.work.tracked(start + 1)
        if row.over:
            self.work.finished(row.result())
            return None
        return row, state

    def _advance(self, rows: list[_Row], state: State, pool: ThreadPoolExecutor) -> tuple[list[_Row], State]:
        """One frame further with every row; those that ended or failed are gone afterwards."""
        frames: list[Frame] = []
        readable: list[int] = []
        for i, row in enumerate(rows):
            try:
                frames.append(self._frame(row, pool))
                readable.append(i)
            except Exception as error:
                self._fail(row, error)
        if len(readable) < len(rows):
            rows = [rows[i] for i in readable]
            if not rows:
                return [], state
            state = state.select(readable)
        rows, state = self._step(rows, state, frames)
        stay = [i for i, row in enumerate(rows) if not row.over]
        for row in rows:
            if row.over:
                self.work.finished(row.result())
        return [rows[i] for i in stay], (state if len(stay) == len(rows) or not stay else state.select(stay))

    def _step(self, rows: list[_Row], state: State, frames: list[Frame]) -> tuple[list[_Row], State]:
        began = time.perf_counter()
        try:
            after, prediction = self.tracker.step(state, frames)
            boxes, scores = _numbers(prediction)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"{error}; a smaller --batch needs less") from error
        except Exception as error:
            if len(rows) > 1:
                return self._step_apart(rows, state, frames)
            self._fail(rows[0], error)
            return [], state
        each = (time.perf_counter() - began) / len(rows)
        keep: list[int] = []
        for i, row in enumerate(rows):
            try:
                row.record(boxes[i], float(scores[i]), each)
                keep.append(i)
            except TrackingError as error:
                self._fail(row, error)
        self.work.tracked(len(rows))
        if len(keep) == len(rows) or not keep:
            return [rows[i] for i in keep], after
        return [rows[i] for i in keep], after.select(keep)

    def _step_apart(self, rows: list[_Row], state: State, frames: list[Frame]) -> tuple[list[_Row], State]:
        """A batch that raised: step its rows one by one from the same state, so that the failure has one name."""
        kept: list[_Row] = []
        states: list[State] = []
        for i, row in enumerate(rows):
            alive, after = self._step([row], state.select([i]), [frames[i]])
            if alive:
                kept.append(row)
                states.append(after)
        return kept, type(state).cat(states) if states else state

    def _frame(self, row: _Row, pool: ThreadPoolExecutor) -> Frame:
        while row.requested < len(row.sequence) and len(row.pending) <= self.lookahead:
            row.pending.append(pool.submit(row.sequence.read_frame, row.requested))
            row.requested += 1
        return row.pending.popleft().result()

    def _fail(self, row: _Row, error: Exception) -> None:
        for future in row.pending:
            future.cancel()
        if self.raise_errors:
            raise error
        self.work.failed(row.sequence.name, f"frame {row.at}: {describe(error)}")


def _numbers(prediction: Prediction) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    boxes = prediction.boxes_xywh.detach().to("cpu", torch.float64).numpy()
    return boxes, prediction.scores.detach().to("cpu", torch.float64).numpy()


def describe(error: BaseException) -> str:
    """One line for a report: the message, with the kind of error where the message alone would say little."""
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"no such file: {error.filename}"
    if isinstance(error, (ValueError, FileNotFoundError, TrackingError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
