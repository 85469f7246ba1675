"""Annotating own videos: a tracker propagates a given box through a video; boxes are written as own data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lib.bench.result_files import write_boxes
from lib.data import AnnotationError, Frame, FrameSource, check_name, encode_picture, parse_boxes
from lib.files import errors_name, require_writable
from lib.track import Box, TrackerSession, check_box

Marks = Mapping[int, Box | None]
"""Frame, from 0 -> box x, y, w, h in image pixels; None where the target cannot be seen."""
ABSENT = "none"


def parse_marks(texts: list[str]) -> dict[int, Box | None]:
    """Boxes that a user typed.

    Args:
        texts: ``x,y,w,h`` for the first frame, ``FRAME:x,y,w,h`` for a later one, ``FRAME:none`` from where on the
            target cannot be seen.

    Raises:
        ValueError: A text is none of these, or the first frame has no box.
    """
    marks: dict[int, Box | None] = {}
    for text in texts:
        frame, colon, box = text.rpartition(":")
        try:
            index = int(frame) if colon else 0
            x, y, w, h = (0.0,) * 4 if box == ABSENT else parse_boxes(box, "--init")[0].tolist()
        except (AnnotationError, IndexError, ValueError):
            kinds = "x,y,w,h (four numbers, in pixels), FRAME:x,y,w,h, FRAME:none or the word mouse"
            raise ValueError(f"--init {text!r}: expected {kinds}") from None
        if index in marks:
            raise ValueError(f"--init {text!r}: frame {index} has two boxes, expected one for each frame")
        marks[index] = None if box == ABSENT else (x, y, w, h)
    if min(marks) < 0 or marks.get(0) is None:
        raise ValueError("--init: the first frame (0) needs a box")
    return marks


def propagate(
    session: TrackerSession,
    source: FrameSource,
    marks: Marks,
    on_frame: Callable[[int, Frame, Box | None], None] = lambda index, frame, box: None,
) -> dict[int, Box | None]:
    """Propagate boxes through a video; a frame with a given box initialises the tracker again.

    Args:
        session: The tracker.
        source: The video, to be read from its first frame.
        marks: The given boxes, one of them in frame 0.
        on_frame: Called with every frame and its box.

    Returns:
        A box per frame, None where the target cannot be seen or the frame cannot be read.

    Raises:
        ValueError: A given box lies outside its picture, or behind the end.
    """
    boxes: dict[int, Box | None] = {}
    following = False
    for grab in source:
        box = marks.get(grab.index)
        if grab.frame is None:
            if box is not None:
                raise ValueError(f"{source.name}: the frame of a given box cannot be read ({grab.problem})")
        elif box is not None:
            box = check_box(box, grab.frame)
            session.init(grab.frame, box)
            following = True
        elif grab.index in marks:
            following = False
        elif following:
            box, _ = session.update(grab.frame)
        boxes[grab.index] = box
        if grab.frame is not None:
            on_frame(grab.index, grab.frame, box)
    if beyond := [index for index in marks if index not in boxes]:
        raise ValueError(f"{source.name} has {len(boxes)} frames (from 0), and no frame {min(beyond)}")
    return boxes


def write_truth(path: Path, boxes: Marks, count: int) -> None:
    """Write a box file with two decimals and a row for each of `count` frames; NaN where there is no box."""
    write_boxes(path, np.array([boxes.get(i) or (np.nan,) * 4 for i in range(count)]), "trackingnet")


def check_new_sequence(folder: Path, name: str) -> None:
    """Check, before boxes are made, that a sequence of this name can be added to own data.

    Args:
        folder: The own folder.
        name: Of the sequence.

    Raises:
        FileExistsError: A sequence is there already.
        OSError: There can be no such folder, or it cannot be written to.
        ValueError: The name is none.
    """
    if (place := folder / check_name(name)).exists():
        raise FileExistsError(f"{place} is there already; remove it, or name another folder with --output")
    require_writable(folder)


def write_sequences(folder: Path, source: FrameSource, targets: Mapping[str, Marks]) -> list[Path]:
    """Write own data: `<folder>/<target>/{00000001.jpg, ..., groundtruth.txt}`, from the first box to the last.

    A frame that cannot be read repeats the picture before it.

    Args:
        folder: The own folder.
        source: The pictures, to be read from the first one.
        targets: Name of a sequence -> its boxes.

    Returns:
        The sequences' folders.

    Raises:
        FileExistsError, OSError: Those of `check_new_sequence`.
        ValueError: A target has no box, one that is none, or boxes behind the end of the source.
    """
    spans: dict[str, tuple[int, int]] = {}
    for name, boxes in targets.items():
        check_new_sequence(folder, name)
        there = [index for index, box in boxes.items() if box is not None]
        for index in there:
            if not np.isfinite(box := np.array(boxes[index])).all() or (box[2:] < 0).any():
                raise ValueError(f"{name}, frame {index} (from 0): {boxes[index]} is not a box x, y, w, h")
        if not there:
            raise ValueError(f"{name}: not one frame has a box")
        spans[name] = min(there), max(there)
    folder.mkdir(parents=True, exist_ok=True)
    # nothing half done after Ctrl-C
    with errors_name(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".part") as part:
        data, count = b"", 0
        for grab in source:
            data = data if grab.frame is None else encode_picture(grab.frame.rgb)
            count = grab.index + 1
            for name, (first, last) in spans.items():
                if first <= grab.index <= last:
                    (Path(part) / name).mkdir(parents=True, exist_ok=True)
                    (Path(part) / name / f"{grab.index - first + 1:08d}.jpg").write_bytes(data)
        for name, (first, last) in spans.items():
            if last >= count:
                raise ValueError(f"{name} has a box in frame {last} (from 0), but {source.name} has {count} frames")
            rows = {index - first: box for index, box in targets[name].items() if isinstance(index, int)}
            write_truth(Path(part) / name / "groundtruth.txt", rows, last - first + 1)
        for name in spans:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(part) / name).rename(folder / name)
    return [folder / name for name in spans]
