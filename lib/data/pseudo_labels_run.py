"""Pseudo labels for the videos of a data set: the flow of each, one process per core, resumable after a kill.

A finished video is a file in `videos/` of the labels' folder; `train.json` is made of these files at the end.
A repeated run labels the videos that have none, and gives the same bytes as one that was not interrupted.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Annotated, Any

import cv2
import numpy as np

from lib.data.boxes import corners_to_xywh, iou_xywh
from lib.data.datasets.base import Annotation, StoredDataset
from lib.data.datasets.pseudo import LABEL_FILE, frame_ids, track_entry
from lib.data.io import FILE_ERRORS, AnnotationError, expect_form
from lib.data.listing import natural_order
from lib.data.pseudo_labels import Flow, LabelSettings, candidate_boxes, make_track
from lib.data.types import Boxes, Image
from lib.files import atomic_write, require_shared_memory, write_text
from lib.launch import end_with_parent
from lib.ranges import Count, Range

TRACK = "00"
VIDEOS, SETTINGS = "videos", "settings.json"
FLOW_WH = 640, 384
"""Size of the pictures whose flow is computed."""
MAX_FLOW = 1e9
"""Pixels that nothing moves; Middlebury files mark unknown flow by more."""
FAST, SLOW, MIN_DISTANCE, MAX_DISTANCE, FIRST_DISTANCE = 16, 8, 2, 6, 4
"""Largest motion in pixels above (below) which the two frames of a flow are taken nearer (farther); bounds on their
distance in frames, and the first one."""


@dataclass(frozen=True)
class LabelJob:
    """Videos to label, and the settings.

    Attributes:
        dataset: The videos.
        folder: Of the labels.
        settings: Of the procedure.
        flow: Folder with a flow file per evaluated frame, `<video>/<picture's name>.flo` or `.npy`; None computes it.
        seed: Of the random moves of boxes before the first and behind the last found one.
        most_frames: Frames of a video that are labelled.
    """

    dataset: StoredDataset
    folder: Path
    settings: LabelSettings = LabelSettings()
    flow: Path | None = None
    seed: Annotated[int, Range(0)] = 0
    most_frames: Count = 2000

    @property
    def record(self) -> dict[str, Any]:
        """The settings that labels of one folder have in common."""
        flow = "DIS" if self.flow is None else str(self.flow)
        return {**asdict(self.settings), "flow": flow, "seed": self.seed, "most_frames": self.most_frames}

    def video_file(self, name: str) -> Path:
        """The file of a finished video."""
        return self.folder / VIDEOS / f"{name}.json"


@dataclass
class LabelReport:
    """Result of a run.

    Attributes:
        file: The label file; None if no video can be learnt from.
        videos: Videos of the data set.
        made: Of these, labelled by this run; the others were there.
        kept: Of these, good enough for the label file.
        left_out: Reason -> number of videos that are not.
        failed: A line for every video that could not be read.
        overlaps: (mean IoU, share of frames above an IoU of 0.5) of each kept video whose annotation is there.
        others: Labels of other videos in the same file.
    """

    file: Path | None = None
    videos: int = 0
    made: int = 0
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    overlaps: list[tuple[float, float]] = field(default_factory=list)
    others: int = 0


FlowSource = Callable[[int], Flow]
"""Optical flow of the frames of one video, asked for in rising order."""


class AdaptiveFlow:
    """Flow by OpenCV (DIS; Kroeger et al., ECCV 2016) to a frame so far behind that fast things move 8 to 16 pixels.

    Args:
        read: Frame number -> picture [H, W, 3].
        count: Frames of the video.
    """

    def __init__(self, read: Callable[[int], Image], count: int) -> None:
        self.distance, self.count = FIRST_DISTANCE, count
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._size = lru_cache(1)(lambda: read(0).shape[1::-1])
        self._grey = lru_cache(16)(lambda i: cv2.resize(cv2.cvtColor(read(i), cv2.COLOR_RGB2GRAY), FLOW_WH))

    def __call__(self, frame: int) -> Flow:
        scale, step = np.divide(self._size(), FLOW_WH).astype(np.float32), 0
        while True:
            behind = min(frame + self.distance, self.count - 1)
            flow = self._dis.calc(self._grey(frame), self._grey(behind), None) * scale  # type: ignore[call-overload]
            fastest = float(np.abs(flow).max())
            if fastest > FAST and self.distance >= MIN_DISTANCE and step <= 0:
                step = -1
            elif fastest < SLOW and self.distance <= MAX_DISTANCE and step >= 0:
                step = 1
            else:
                return np.asarray(cv2.resize(flow, self._size()), dtype=np.float32)
            self.distance += step


@dataclass(frozen=True)
class StoredFlow:
    """Flow from files.

    Attributes:
        folder: Of the video's files.
        names: Names of the pictures, without endings.
        size_wh: Width and height of the pictures.
    """

    folder: Path
    names: list[str]
    size_wh: tuple[int, int]

    def __call__(self, frame: int) -> Flow:
        """The flow of a frame.

        Args:
            frame: Its number.

        Raises:
            FileNotFoundError: There is no file.
            AnnotationError: It is damaged, or of another size than the pictures.
        """
        file = next((f for end in (".flo", ".npy") if (f := self.folder / f"{self.names[frame]}{end}").is_file()), None)
        if file is None:
            raise FileNotFoundError(f"no flow {self.folder / self.names[frame]}.flo (nor .npy)")
        try:
            # Mapped: a damaged header asks for no memory.
            flow = np.lib.format.open_memmap(file, mode="r") if file.suffix == ".npy" else _read_flo(file)
        except (EOFError, OverflowError, TokenError, ValueError) as error:
            raise AnnotationError(f"{file}: not a flow file, or cut short ({error})") from None
        width, height = self.size_wh
        if flow.dtype.kind not in "fiu" or flow.shape != (height, width, 2) or not (np.abs(flow) < MAX_FLOW).all():
            found = f"{' x '.join(map(str, flow.shape))} of {flow.dtype}"
            needed = f"{height} x {width} x 2 finite numbers of pixels"
            raise AnnotationError(f"{file}: the flow is {found}; the pictures need {needed}")
        return np.array(flow, dtype=np.float32)


def _read_flo(file: Path) -> Flow:
    """A Middlebury flow file: the number 202021.25, width and height, then u and v of every pixel."""
    data = file.read_bytes()
    if data[:4] != b"PIEH" or len(data) < 12:
        raise ValueError("it does not begin with PIEH")
    width, height = np.frombuffer(data, dtype="<i4", count=2, offset=4).tolist()
    if min(width, height) < 1:
        raise ValueError(f"its size is {width} x {height}")
    return np.frombuffer(data, dtype="<f4", offset=12).reshape(height, width, 2)


def label_video(job: LabelJob, index: int) -> dict[str, Any]:
    """Label one video.

    Args:
        job: Videos to label, and the settings.
        index: Number of the video.

    Returns:
        What its file holds: the track (None if nothing was found), the reason why it is not kept, and the overlap with
        the truth.

    Raises:
        OSError, DecodeError, AnnotationError: A file is missing or damaged.
    """
    cv2.setNumThreads(1)
    name, annotation = job.dataset.sequence_name(index), job.dataset.annotation(index)
    frames = replace(annotation.frames, aux=None, recipe=None)
    count = min(len(frames), job.most_frames)

    def read(i: int) -> Image:
        return frames.read(i).rgb

    height, width = read(0).shape[:2]
    ids = frame_ids(frames.rgb, count)
    flow: FlowSource = AdaptiveFlow(read, count)
    if job.flow is not None:
        flow = StoredFlow(job.flow / name, ids, (width, height))
    candidates = [candidate_boxes(flow(i), job.settings) for i in job.settings.evaluated(count)]
    digest = hashlib.blake2b(f"{job.seed} {name}".encode(), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    track = make_track(candidates, count, (width, height), job.settings, rng)
    found: dict[str, Any] = {"track": None, "left_out": "nothing moves by itself", "overlap": None}
    if track is not None:
        found["track"] = track_entry(track, ids, (width, height), frames.rgb.folder)
        found["left_out"] = "" if track.usable else "found in too few frames, or at the margin"
        found["overlap"] = _overlap(annotation, track.boxes)
    return found


def _overlap(annotation: Annotation, boxes_xyxy: Boxes) -> list[float] | None:
    """Mean IoU with the truth and share of frames above 0.5, where the target is seen; None without truth."""
    count = len(boxes_xyxy)
    seen = np.flatnonzero(annotation.valid[:count] & annotation.visible[:count])
    if len(seen) < 2:  # the first box alone, or none, is published
        return None
    ious = iou_xywh(corners_to_xywh(boxes_xyxy[seen]), annotation.boxes_xywh[:count][seen])
    return [round(float(ious.mean()), 4), round(float((ious > 0.5).mean()), 4)]


def make_labels(
    job: LabelJob, workers: int = 1, *, restart: bool = False, progress: Callable[[int], None] = lambda videos: None
) -> LabelReport:
    """Label all videos that have no file yet, and write the label file.

    Args:
        job: Videos to label, and the settings.
        workers: Number of processes.
        restart: Label all videos again.
        progress: Called with a number of videos just finished.

    Raises:
        ValueError: The folder holds labels of other settings.
        RuntimeError: A process died.
    """
    names = [job.dataset.sequence_name(i) for i in range(len(job.dataset))]
    _open_folder(job, names if restart else [])
    todo = [i for i, name in enumerate(names) if _read_video(job.video_file(name)) is None]
    report = LabelReport(videos=len(names))
    progress(len(names) - len(todo))
    for index, result in _results(job, todo, workers):
        if isinstance(result, Exception):
            report.failed.append(f"{names[index]}: {result}")
        else:
            write_text(job.video_file(names[index]), json.dumps(result))
            report.made += 1
        progress(1)
    report.failed = natural_order(report.failed)
    _write_label_file(job, set(names), report)
    return report


def _open_folder(job: LabelJob, again: list[str]) -> None:
    """Record the settings, which those of other labels in the folder must equal; forget the videos in `again`."""
    if job.flow is not None and not job.flow.is_dir():
        raise FileNotFoundError(f"{job.flow}: no such folder of flow files (<video>/<picture>.flo or .npy)")
    record, forgotten = job.folder / SETTINGS, [job.video_file(name) for name in again]
    others = set((job.folder / VIDEOS).rglob("*.json")) - set(forgotten)
    if record.is_file() and others:
        with expect_form(str(record), "the settings of labels"):
            there = dict(json.loads(record.read_bytes()))
        differing = [f"{k} {there.get(k)!r} there, {v!r} now" for k, v in job.record.items() if there.get(k) != v]
        if differing:
            found = f"{job.folder} has labels of other settings ({'; '.join(differing)})"
            raise ValueError(f"{found}; give another --output, or --restart with all of its videos")
    for file in forgotten:
        file.unlink(missing_ok=True)
    write_text(record, json.dumps(job.record, indent=1) + "\n")


def _read_video(file: Path) -> dict[str, Any] | None:
    """The content of a finished video's file; None if there is none, or half of one, which is made again."""
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() == {"track", "left_out", "overlap"} else None


def _results(job: LabelJob, todo: list[int], workers: int) -> Iterator[tuple[int, dict[str, Any] | Exception]]:
    """Numbers of videos with their labels, or with what is wrong with their files, as they are finished."""
    if workers <= 1 or len(todo) < 2:
        for index in todo:
            yield index, _try_label(job, index)
        return
    require_shared_memory()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), context, end_with_parent, (os.getpid(),)) as pool:
        waiting = {pool.submit(_try_label, job, index): index for index in todo}
        try:
            for finished in as_completed(waiting):
                yield waiting.pop(finished), finished.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a process died; finished videos are kept, give the same command again to go on"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _try_label(job: LabelJob, index: int) -> dict[str, Any] | Exception:
    try:
        return label_video(job, index)
    except FILE_ERRORS as error:
        return error


def _write_label_file(job: LabelJob, own: set[str], report: LabelReport) -> None:
    """Put `train.json` together of all videos in the folder, those of other runs included, and complete the report."""
    root, file = job.folder / VIDEOS, job.folder / LABEL_FILE
    names = natural_order(f.relative_to(root).as_posix().removesuffix(".json") for f in root.rglob("*.json"))
    with atomic_write(file) as out:  # video by video: together, their numbers take gigabytes
        for name in names:
            found = _read_video(root / f"{name}.json")
            if found is None or found["left_out"]:
                report.left_out.update([found["left_out"]] if found is not None and name in own else [])
                continue
            entry = f"{json.dumps(name)}: {json.dumps({TRACK: found['track']})}"
            out.write((", " if report.kept + report.others else "{").encode() + entry.encode())
            report.kept += name in own
            report.others += name not in own
            report.overlaps += [tuple(found["overlap"])] if found["overlap"] and name in own else []
        out.write(b"}")
    if report.kept + report.others:
        report.file = file
    else:
        file.unlink()  # also one of labels that were made again
