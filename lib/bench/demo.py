"""Tracking in a user's own video: writes the boxes, and a video with the boxes drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from lib.bench.classical import REFERENCES
from lib.bench.runner import PictureSize
from lib.bench.spec import TrackerSpec
from lib.data import Boxes, Frame, Grab, Image, SourceError
from lib.models import WeightPlaces, WeightsError, locate, read_checkpoint
from lib.paths import load_paths, shipped_folder
from lib.registry import listed, suggest
from lib.track import Box, TrackerSession, TrackingError, status_of
from lib.viz import BoxMark, VideoWriter, colour, draw_frame

SHIPPED = shipped_folder("pretrained") / "synthetic_lite.safetensors"
"""The network that comes with the project; its JSON names method and configuration."""

STATUS_COLOURS = {"unsure": "#e69f00", "lost": "#9aa5b1"}
"""Of boxes that are not simply tracked."""


@dataclass
class DemoResult:
    """Boxes and figures of a tracked video.

    Attributes:
        boxes_xywh: One per frame, image pixels; the first is the given box.
        scores: One per frame; the first is 1.
        statuses: "tracked", "unsure" or "lost", one per frame after the first; empty where scores are not calibrated.
        broken: Number and reason of frames that could not be read; they have the last box before them.
        tracking_seconds: Time in the tracker alone.
        seconds: With reading, drawing and writing.
        size: Size of the pictures, with a remark if it changes.
        stopped: True after Ctrl-C.
    """

    boxes_xywh: list[Box] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    tracking_seconds: float = 0.0
    seconds: float = 0.0
    size: PictureSize = field(default_factory=PictureSize)
    stopped: bool = False


def demo_spec(spec: TrackerSpec) -> TrackerSpec:
    """Complete the spec of a demo or of `unitrack.load`.

    Args:
        spec: With a configuration, a file of weights, both, or neither (the shipped network). Weights without a
            configuration must be a release whose JSON names "script" and "config_name". Reference trackers stay as
            they are.

    Returns:
        The resolved spec.

    Raises:
        WeightsError: No configuration is known; also what `TrackerSpec.resolve` raises.
    """
    paths = load_paths()
    if spec.reference:
        return spec.resolve(paths)
    if spec.script and not spec.config and spec.checkpoint is None:
        raise WeightsError(f"script {spec.script} needs a configuration: a YAML file below experiments/{spec.script}")
    if not spec.config:
        weights = SHIPPED
        if spec.checkpoint:
            places = WeightPlaces(paths.pretrained, paths.save_dir / "checkpoints/train")
            weights = locate(str(spec.checkpoint), places, "weights", _hint(str(spec.checkpoint)))
        metadata = read_checkpoint(weights).metadata
        if not isinstance(metadata.get("config_name"), str):
            unknown = "nothing says which configuration these weights belong to"
            raise WeightsError(f"{weights}: {unknown}; name script and configuration")
        script = spec.script or str(metadata.get("script", "ostrack"))
        spec = replace(spec, script=script, config=metadata["config_name"], checkpoint=weights)
    return replace(spec, script=spec.script or "ostrack").resolve(paths)


def _hint(name: str) -> str:
    """Hint for a name that is no file of weights: a configuration of its name, or the nearest known one."""
    experiments = list(shipped_folder("experiments").glob("[a-z]*/*.yaml"))
    if methods := sorted(p.parent.name for p in experiments if p.stem == Path(name).stem):
        return f"; {Path(name).stem} is a configuration of {listed(methods)}: name the method, too"
    releases = [p.stem for p in SHIPPED.parent.glob("*.safetensors")]
    return suggest(name, sorted({*(p.parent.name for p in experiments), *REFERENCES, *releases}))


def first_frame(grabs: Iterator[Grab], name: str) -> Frame:
    """Read the frame to start on.

    Args:
        grabs: Frames of the source.
        name: Of the source, for messages.

    Raises:
        SourceError: The source is empty, or begins with a broken frame.
    """
    grab = next(grabs, None)
    if grab is None:
        raise SourceError(f"{name}: not one frame could be read")
    if grab.frame is None:
        raise SourceError(f"{name}: the first frame cannot be read, so there is nothing to start on ({grab.problem})")
    return grab.frame


@dataclass(frozen=True)
class TrackedFrame:
    """Targets in one frame of a source.

    Attributes:
        index: Number of the frame, from 0.
        frame: The picture; the last one before if this one could not be read.
        boxes_xywh: [B, 4] float64, image pixels.
        scores: [B] confidences; 1 in the first frame.
        problem: Why the frame could not be read; boxes and scores are those before it then. "" for others.
        seconds: Time in the tracker.
    """

    index: int
    frame: Frame
    boxes_xywh: Boxes
    scores: Boxes
    problem: str = ""
    seconds: float = 0.0


def track_frames(
    session: TrackerSession, grabs: Iterator[Grab], first: Frame, boxes_xywh: Sequence[Sequence[float]], name: str
) -> Iterator[TrackedFrame]:
    """Track targets from `first` through the rest of `grabs`.

    Args:
        session: The tracker.
        grabs: The frames after the first.
        first: The frame to start on.
        boxes_xywh: [B, 4] targets in it, image pixels.
        name: Of the source, for messages.

    Yields:
        Every frame, the first included.

    Raises:
        ValueError: A box or picture cannot be tracked, or the tracker does not read the second picture.
        TrackingError: The tracker gave NaN; the message names source and frame.
    """
    if first.second is not None and not session.tracker.reads_aux:
        raise ValueError("aux: this tracker reads RGB alone; leave out the second source")
    session.start(first, boxes_xywh)
    tracked = TrackedFrame(0, first, np.array(boxes_xywh, dtype=np.float64), np.ones(len(boxes_xywh)))
    yield tracked
    for grab in grabs:
        if grab.frame is None:
            tracked = replace(tracked, index=grab.index, problem=grab.problem, seconds=0.0)
        else:
            started = time.perf_counter()
            try:
                prediction = session.step(grab.frame)
            except (TrackingError, ValueError) as error:
                kind = TrackingError if isinstance(error, TrackingError) else ValueError
                raise kind(f"{name}, frame {grab.index}: {error}") from error
            boxes, scores = prediction.boxes_xywh.numpy(), prediction.scores.double().numpy()
            tracked = TrackedFrame(grab.index, grab.frame, boxes, scores, seconds=time.perf_counter() - started)
        yield tracked


def track_video(
    session: TrackerSession,
    grabs: Iterator[Grab],
    first: Frame,
    box_xywh: Sequence[float],
    video: VideoWriter | None = None,
    max_frames: int | None = None,
    on_frame: Callable[[int, Callable[[], Image]], bool] = lambda index, drawn: True,
    name: str = "video",
) -> DemoResult:
    """Track from `first` through the rest of `grabs`.

    Ctrl-C ends the run as if the source had ended, so that what was tracked is kept.

    Args:
        session: The tracker.
        grabs: The frames after the first.
        first: The frame to start on.
        box_xywh: Target in it, image pixels.
        video: Receives every frame with box and score.
        max_frames: Stop after so many, the first included.
        on_frame: Called with the frame's number and a function that draws it; stops the run by returning False.
        name: Of the source, for messages.

    Raises:
        ValueError: The box cannot be tracked.
        TrackingError: The tracker gave NaN; the message names source and frame.
    """
    out = DemoResult()
    started = time.perf_counter()
    try:
        for tracked in track_frames(session, grabs, first, [box_xywh], name):
            x, y, w, h = tracked.boxes_xywh[0].tolist()
            score, index = float(tracked.scores[0]), tracked.index
            out.boxes_xywh.append((x, y, w, h))
            out.scores.append(score)
            out.tracking_seconds += tracked.seconds
            if tracked.problem:
                out.broken.append((index, tracked.problem))
            out.size.see(tracked.frame, index)
            status = ""
            if index and session.prediction is not None and session.prediction.raw_scores is not None:
                status = status_of(score)
                out.statuses.append(status)
            marks = [BoxMark((x, y, w, h), STATUS_COLOURS.get(status, colour(0)), f"{status} {score:.2f}".lstrip())]
            picture = cache(partial(draw_frame, tracked.frame, marks, f"frame {index}"))
            if video is not None:
                video.write(picture())
            if not on_frame(index, picture) or (max_frames is not None and index + 1 >= max_frames):
                break
    except KeyboardInterrupt:
        out.stopped = True
    out.seconds = time.perf_counter() - started
    return out
