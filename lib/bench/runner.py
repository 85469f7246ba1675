"""One process of an evaluation: runs from a queue, B rows of one tracker at a time.

Rows enter when a run is claimed and leave when it ends (`State.cat`, `State.select`), so a short sequence never waits
for a long one. A protocol decides after each frame whether a run continues, ends, or starts again some frames later.
Frames are decoded ahead by a few threads. An error in one run is reported with its name and frame and affects no other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from lib.bench.metrics import polygon_overlap
from lib.bench.queue import WorkQueue
from lib.bench.result_files import FAILED, INITIALISED, SKIPPED, TRACKED, Floats
from lib.bench.results import Result
from lib.data import Boxes, Frame, JpegDecoder, Video, use_jpeg_decoder, xywh_to_corners
from lib.track import State, Tracker, TrackingError, check_box, check_prediction

LOOKAHEAD = 4
"""Frames of each row that are decoded ahead."""
LoadRun = Callable[[str], tuple[Video, int]]
"""Name of a run -> its video, and position of the frame to start on; result rows before it repeat its box."""
RowSettings = Callable[[str], Mapping[str, float]]
"""Name of a run -> settings of its row, see `Tracker.with_settings`."""


class OutOfMemoryError(RuntimeError):
    """The device cannot hold the batch; no sequence is to blame."""


@dataclass(frozen=True)
class Supervised:
    """VOT 2013 to 2019: where prediction and ground truth do not overlap, the tracker starts again some frames later.

    A frame without ground truth is no failure, and a start waits for a target in the picture.

    Attributes:
        skip: Number of frames from the failure to the next initialisation.
    """

    skip: int = 5

    def restart(self, video: Video, frame: int, size_wh: tuple[int, int], region: Floats) -> int | None:
        """Decide after a tracked frame whether the tracker has failed.

        Args:
            video: The run.
            frame: Position of the frame.
            size_wh: Its width and height in pixels.
            region: [4] predicted box x, y, w, h or [8] corners of a polygon, image pixels.

        Returns:
            Position of the frame to start on, the video's length if the run is over; None to continue.
        """
        truth = video.boxes_xywh if video.corners is None else video.corners
        if np.isnan(truth[frame]).any() or polygon_overlap(region[None], truth[frame : frame + 1], size_wh)[0] > 0:
            return None
        later = min(frame + self.skip, len(video))
        corner, size = np.hsplit(video.boxes_xywh[later:], 2)
        is_seen = ((size > 0) & (corner < size_wh) & (corner + size > 0)).all(axis=1)
        return later + int(is_seen.argmax()) if is_seen.any() else len(video)


@dataclass
class PictureSize:
    """Size of a run's pictures. Boxes are pixels of their own picture, so a change in mid-video is remarked on.

    Attributes:
        size_hw: Height and width of the last picture; None before the first.
        note: Remark on the first change; "" without one.
    """

    size_hw: tuple[int, int] | None = None
    note: str = ""

    def see(self, frame: Frame, index: int) -> str:
        """Compare a picture with the one before.

        Args:
            frame: The picture.
            index: Its position in the video.

        Returns:
            The note so far.
        """
        before, self.size_hw = self.size_hw, frame.size_hw
        if before is not None and before != self.size_hw and not self.note:
            sizes = " to ".join(f"{width} x {height}" for height, width in (before, self.size_hw))
            self.note = f"frame {index}: the picture changes its size from {sizes} pixels"
        return self.note


class _Row:
    """One run in the batch.

    Attributes:
        video: The run.
        at: Position of the next frame to track.
        requested: Position of the next frame to decode.
        pending: Frames that are being decoded, from `at` on.
        start_box: [4] box of the last initialisation, image pixels.
        boxes: [N, 4] predictions; rows that are not tracked yet have the start box.
        scores: [N] confidence.
        seconds: [N] time per frame.
        corners: [N, 8] polygons, once the tracker has given one.
        marks: [N] marks of a supervised run.
        size: Size of the pictures.
    """

    def __init__(self, video: Video, start: int) -> None:
        count = len(video)
        self.video, self.at, self.requested = video, start, start
        self.pending: deque[Future[Frame]] = deque()
        self.start_box = video.boxes_xywh[start]
        self.boxes = np.repeat(self.start_box[None], count, axis=0)
        self.scores, self.seconds = np.zeros(count), np.zeros(count)
        self.corners: Floats | None = None
        self.marks = np.full(count, TRACKED)
        self.size = PictureSize()

    @property
    def over(self) -> bool:
        return self.at >= len(self.video)

    @property
    def region(self) -> Floats:
        """The last prediction: the polygon, if the tracker gives some, or else the box."""
        return (self.boxes if self.corners is None else self.corners)[self.at - 1]

    def record(self, box_xywh: Boxes, score: float, seconds: float, corners: Floats | None = None) -> None:
        """Store the prediction of frame `at` and move to the next; raises what `check_prediction` raises."""
        check_prediction(box_xywh.tolist(), score)
        self.boxes[self.at], self.scores[self.at], self.seconds[self.at] = box_xywh, score, seconds
        if corners is not None:
            if self.corners is None:
                self.corners = np.repeat(xywh_to_corners(self.start_box[None]), len(self.video), axis=0)
            self.corners[self.at] = corners
        self.at += 1

    def restart(self, frame: int) -> None:
        """Mark the frame that was just recorded as a failure, and skip to another one."""
        self.boxes[self.at - 1 : frame] = np.nan
        self.marks[self.at - 1] = FAILED
        self.marks[self.at : frame] = SKIPPED
        for _ in range(min(frame - self.at, len(self.pending))):
            self.pending.popleft().cancel()
        self.at, self.requested = frame, max(self.requested, frame)
        if not self.over:
            self.start_box = self.video.boxes_xywh[frame]

    def next_frame(self, pool: ThreadPoolExecutor) -> Frame:
        """Wait for frame `at`, while further frames are being decoded. Raises what reading it raises."""
        while self.requested < len(self.video) and len(self.pending) <= LOOKAHEAD:
            self.pending.append(pool.submit(self.video.read_frame, self.requested))
            self.requested += 1
        frame = self.pending.popleft().result()
        self.size.see(frame, self.at)
        return frame

    def result(self, marked: bool) -> Result:
        """Result of the whole run, with marks if `marked`; corners of frames without a box are NaN."""
        if self.corners is not None:
            self.corners[np.isnan(self.boxes[:, 0])] = np.nan
        marks = self.marks if marked else None
        return Result(self.video.name, self.boxes, self.scores, self.seconds, self.corners, marks, self.size.note)


@dataclass
class Runner:
    """Tracks runs from a queue, several at a time.

    Attributes:
        tracker: Tracks all rows.
        load: Reads a run.
        queue: Of runs.
        batch: Number of rows, at most.
        protocol: Of runs that start again after failures, whose rows are marked; None: each goes to its last frame.
        decode_threads: Number of threads that decode.
        jpeg_decoder: Decodes JPEG files in place of the usual one.
        raise_errors: Raise the first failure of a run, for debugging.
        settings: Of each row; None: those of the tracker.
    """

    tracker: Tracker
    load: LoadRun
    queue: WorkQueue
    batch: int = 1
    protocol: Supervised | None = None
    decode_threads: int = 2
    jpeg_decoder: JpegDecoder | None = None
    raise_errors: bool = False
    settings: RowSettings | None = None

    @torch.no_grad()
    def run(self) -> None:
        """Track until the queue has nothing more for this process; errors of one run are reported to the queue.

        Raises:
            OutOfMemoryError: The device cannot hold the batch.
        """
        pool = ThreadPoolExecutor(self.decode_threads, "decode", use_jpeg_decoder, (self.jpeg_decoder,))
        rows: list[_Row] = []
        states: list[State] = []
        ask = True
        try:
            while rows or ask:
                while ask and len(rows) < self.batch:
                    ask = (name := self.queue.take()) is not None
                    if name is not None and (entered := self._enter(name, pool)):
                        rows.append(entered[0])
                        states.append(entered[1])
                if rows:
                    before = len(rows)
                    rows, states = self._advance(rows, _joined(states), pool)
                    ask = ask or len(rows) < before
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _enter(self, name: str, pool: ThreadPoolExecutor) -> tuple[_Row, State] | None:
        """Load one run and initialise the tracker."""
        try:
            row = _Row(*self.load(name))
        except Exception as error:
            if self.raise_errors:
                raise
            self.queue.failed(name, f"frame 0: {describe(error)}")
            return None
        self.queue.tracked(row.at)  # the rows before the first tracked frame
        state = self._initialise(row, pool)
        return None if state is None else (row, state)

    def _initialise(self, row: _Row, pool: ThreadPoolExecutor) -> State | None:
        """Start a run on its next frame; alone, so that a bad box is a failure of this run and of no other."""
        try:
            frame = row.next_frame(pool)
            check_box(row.start_box.tolist(), frame)
            began = time.perf_counter()
            state = self.tracker.init([frame], torch.from_numpy(row.start_box[None].copy()))
            if self.settings is not None:
                state = self.tracker.with_settings(state, self.settings(row.video.name))
            row.marks[row.at] = INITIALISED
            corners = None if row.corners is None else xywh_to_corners(row.start_box[None])[0]
            row.record(row.start_box, 1.0, time.perf_counter() - began, corners)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"{error}; a smaller --batch needs less") from error
        except Exception as error:
            self._fail(row, error)
            return None
        self.queue.tracked(1)
        if row.over:
            self.queue.finished(row.result(marked=self.protocol is not None))
            return None
        return state

    def _advance(self, rows: list[_Row], state: State, pool: ThreadPoolExecutor) -> tuple[list[_Row], list[State]]:
        """One frame further with every row; those that ended or failed are gone afterwards, restarted ones are last."""
        frames: list[Frame] = []
        readable: list[int] = []
        for i, row in enumerate(rows):
            try:
                frames.append(row.next_frame(pool))
                readable.append(i)
            except Exception as error:
                self._fail(row, error)
        if not readable:
            return [], []
        if len(readable) < len(rows):
            rows, state = [rows[i] for i in readable], state.select(readable)
        sizes = {id(row): frame.size_hw[::-1] for row, frame in zip(rows, frames, strict=True)}
        rows, state = self._step(rows, state, frames)

        stay: list[int] = []
        restarted: list[tuple[_Row, State]] = []
        for i, row in enumerate(rows):
            restart = None
            if self.protocol is not None:
                restart = self.protocol.restart(row.video, row.at - 1, sizes[id(row)], row.region)
            if restart is not None:
                self.queue.tracked(restart - row.at)
                row.restart(restart)
            if row.over:
                self.queue.finished(row.result(marked=self.protocol is not None))
            elif restart is None:
                stay.append(i)
            elif (fresh := self._initialise(row, pool)) is not None:
                restarted.append((row, fresh))
        states = [state if len(stay) == len(rows) else state.select(stay)] if stay else []
        return [*(rows[i] for i in stay), *(row for row, _ in restarted)], [*states, *(s for _, s in restarted)]

    def _step(self, rows: list[_Row], state: State, frames: list[Frame]) -> tuple[list[_Row], State]:
        """Step the tracker and record its boxes; rows that failed are gone afterwards."""
        began = time.perf_counter()
        try:
            after, prediction = self.tracker.step(state, frames)
            boxes = prediction.boxes_xywh.detach().to("cpu", torch.float64).numpy()
            scores = prediction.scores.detach().to("cpu", torch.float64).numpy()
            given = prediction.polygons
            corners = None if given is None else given.detach().to("cpu", torch.float64).flatten(1).numpy()
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"{error}; a smaller --batch needs less") from error
        except Exception as error:
            if len(rows) == 1:
                self._fail(rows[0], error)
                return [], state
            # Step the rows one by one from the same state, so that the failure has one name.
            alone = [self._step([row], state.select([i]), [frames[i]]) for i, row in enumerate(rows)]
            kept = [(left[0], one) for left, one in alone if left]
            return [row for row, _ in kept], _joined([one for _, one in kept]) if kept else state
        seconds = (time.perf_counter() - began) / len(rows)
        keep: list[int] = []
        for i, row in enumerate(rows):
            try:
                row.record(boxes[i], float(scores[i]), seconds, None if corners is None else corners[i])
                keep.append(i)
            except TrackingError as error:
                self._fail(row, error)
        self.queue.tracked(len(rows))
        if len(keep) == len(rows) or not keep:
            return [rows[i] for i in keep], after
        return [rows[i] for i in keep], after.select(keep)

    def _fail(self, row: _Row, error: Exception) -> None:
        """Report the failure of a run, or raise it when debugging."""
        for future in row.pending:
            future.cancel()
        if self.raise_errors:
            raise error
        self.queue.failed(row.video.name, f"frame {row.at}: {describe(error)}")


def _joined(states: list[State]) -> State:
    return type(states[0]).cat(states) if len(states) > 1 else states[0]


def describe(error: BaseException) -> str:
    """Describe an error in one line for a report.

    Args:
        error: The error.

    Returns:
        Its message, preceded by the error's class where the message alone would say little.
    """
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"no such file: {error.filename}"
    if isinstance(error, (ValueError, FileNotFoundError, TrackingError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
