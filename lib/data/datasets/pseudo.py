"""Pseudo labels as a data set: ``LASHER_pseudo`` in ``DATASETS_NAME`` is LasHeR's pictures with boxes from its motion.

Labels are in a `train.json` of USOT (Zheng et al., ICCV 2021), one for each data set folder:

    {video: {track: {frame: [x1, y1, x2, y2, short, long, first, last, corner_score], ..., "meta": {...}}}}

Boxes are whole pixels, ends inclusive; `lib.data.types.Qualities` explains the other numbers, `meta` has those of the
whole video. A frame is named by its picture's file name without the ending, or by the part before ``.<track>.x``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.data.datasets.base import Annotation, StoredDataset, positive
from lib.data.datasets.frames import Files, Listed
from lib.data.io import AnnotationError, number_array
from lib.data.listing import natural_order
from lib.data.pseudo_labels import PseudoTrack
from lib.data.types import Boxes, Qualities

SUFFIX = "_pseudo"
LABEL_FILE = "train.json"
META, ROWS = "meta", "rows"
MAX_FRAMES = 2**31
"""Bound on frame numbers of windows."""
COLUMNS, DIGITS = 9, 4
"""Numbers per frame in a label file, and decimals of the qualities among them."""


@dataclass(frozen=True)
class StoredTrack:
    """One track of a label file.

    Attributes:
        video: Name of the video.
        track: Name of the track in it.
        ids: [N] names of the frames, in order.
        boxes_xywh: [N, 4] in image pixels.
        qualities: Of the boxes.
    """

    video: str
    track: str
    ids: NDArray[np.str_]
    boxes_xywh: Boxes
    qualities: Qualities


class PseudoLabelDataset(StoredDataset):
    """The videos of another data set with pseudo labels; videos without are left out, and every track is a video.

    All frames of a track are visible. Can be pickled.

    Args:
        base: The data set with the pictures; its annotations are not used.
        file: The label file.

    Raises:
        FileNotFoundError: There is no such file, or it has labels of other videos only.
        AnnotationError: The file is damaged.
    """

    def __init__(self, base: StoredDataset, file: Path) -> None:
        tracks = read_tracks(file)
        known = {base.sequence_name(i) for i in range(len(base))}
        mine = [track for track in tracks if track.video in known]
        if not mine:
            raise FileNotFoundError(
                f"{file}: labels of {len(tracks)} tracks ({tracks[0].video}, ...), none of a video of {base.name}"
            )
        counts = Counter(track.video for track in mine)
        self._tracks = {t.video if counts[t.video] == 1 else f"{t.video}.{t.track}": t for t in mine}
        super().__init__(base.store, list(self._tracks), base.name + SUFFIX)
        self.base, self.file = base, file
        self.modality = base.modality

    def qualities(self, index: int) -> Qualities:
        """The qualities of a track; no file is read.

        Args:
            index: Number of the track.
        """
        return self._tracks[self.names[index]].qualities

    def _read(self, index: int) -> Annotation:
        track = self._tracks[self.names[index]]
        found = self.base.annotation(self.base.position(track.video))
        stems = {_stem(found.frames.rgb.key(i)): i for i in range(len(found.frames))}
        rows = [stems.get(f"{i}.{track.track}.x", stems.get(i)) for i in map(str, track.ids)]
        if None in rows:
            lost, first = str(track.ids[rows.index(None)]), found.frames.rgb.key(0)
            raise AnnotationError(
                f"{self.file}: {track.video}, track {track.track} has a box in frame {lost!r}, which is no picture "
                f"among the {len(stems)} like {found.frames.store.describe(first)}"
            )
        numbers = [i for i in rows if i is not None]
        frames = found.frames
        aux = None if frames.aux is None else _chosen(frames.aux, numbers)
        valid = positive(track.boxes_xywh)
        return Annotation(
            track.boxes_xywh,
            valid,
            valid,
            replace(frames, rgb=_chosen(frames.rgb, numbers), aux=aux),
            object_class=found.object_class,
            folder=found.folder,
            qualities=track.qualities,
        )


def _stem(key: str) -> str:
    return key.rpartition("/")[2].rpartition(".")[0]


def _chosen(files: Files, numbers: list[int]) -> Files:
    """Some of the pictures of a sequence."""
    if numbers == list(range(len(files))):
        return files
    return Listed.of(files.folder, [files.key(i).rpartition("/")[2] for i in numbers])


def frame_ids(files: Files, count: int) -> list[str]:
    """Names that label files give to the first frames of a sequence.

    Args:
        files: Its RGB pictures.
        count: Number of frames.
    """
    return [_stem(files.key(i)) for i in range(count)]


def track_entry(track: PseudoTrack, ids: list[str], size_wh: tuple[int, int], place: str) -> dict[str, Any]:
    """A track as it stands in a label file.

    Args:
        track: The labels.
        ids: [N] names of the frames.
        size_wh: Width and height of the pictures.
        place: Folder of the pictures.
    """
    q = track.qualities
    corners = np.rint(track.boxes) - [0, 0, 1, 1]
    most = np.array([size_wh[0] - 1, size_wh[1] - 1] * 2)
    corners = np.clip(corners, 0, most).astype(np.int64)
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2])
    numbers = (q.short.round(DIGITS), q.long.round(DIGITS), q.window, q.corner_score.round(DIGITS))
    short, long, window, score = (array.tolist() for array in numbers)
    rows = zip(corners.tolist(), short, long, window, score, strict=True)
    entry: dict[str, Any] = {i: [*box, s, f, *w, c] for i, (box, s, f, w, c) in zip(ids, rows, strict=True)}
    entry[META] = {
        "aver_vary": round(float(np.abs(np.diff(track.boxes, axis=0)).mean()), DIGITS),
        "base_path": place,
        "bbox_found_freq": round(track.found, DIGITS),
        "bbox_picked_freq": round(q.picked, DIGITS),
        "corner_bbox_freq": round(q.corner, DIGITS),
        "frame_sz": list(size_wh),
    }
    return entry


def read_tracks(file: Path) -> list[StoredTrack]:
    """All tracks of a label file, in its order.

    Args:
        file: The file.

    Raises:
        FileNotFoundError: It does not exist.
        AnnotationError: It is cut short, has another form, no track, or a box outside its picture.
    """
    try:
        table = json.loads(file.read_bytes(), object_hook=_packed)
    except FileNotFoundError:
        hint = "make them with tracking/make_pseudo_labels.py (docs/pseudo_labels.md)"
        raise FileNotFoundError(f"there are no pseudo labels at {file}; {hint}") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file}: not readable as JSON, it may be cut short ({error})") from None
    form = "expected {video: {track: {frame: [9 numbers], ..., 'meta': {...}}}}"
    if not isinstance(table, dict) or not all(isinstance(tracks, dict) for tracks in table.values()):
        raise AnnotationError(f"{file}: {form}")
    found = [
        _read_track(f"{file}: {video}, track {name}", video, name, entry)
        for video, tracks in table.items()
        for name, entry in tracks.items()
    ]
    if not found:
        raise AnnotationError(f"{file}: there is no track in it, {form}")
    return found


class _Rows(NamedTuple):
    """[N] names of the frames of a track, in order, and [N, 9] their numbers."""

    ids: NDArray[np.str_]
    numbers: NDArray[np.float64]


def _packed(entry: dict[str, Any]) -> dict[str, Any]:
    """A track while its file is read, with arrays for its frames unless one is odd: as lists, all take gigabytes."""
    ids = natural_order(key for key in entry if key != META)
    rows = [entry[i] for i in ids]
    if META in entry and rows and all(isinstance(row, list) and len(row) == COLUMNS for row in rows):
        with suppress(AnnotationError):
            return {META: entry[META], ROWS: _Rows(np.array(ids, dtype=np.str_), number_array(rows, ""))}
    return entry


def _read_track(where: str, video: str, name: str, entry: Any) -> StoredTrack:
    """A track of a label file; AnnotationError, which begins with `where`, if something is wrong with it."""
    if not isinstance(entry, dict) or not isinstance(meta := entry.get(META), dict):
        raise AnnotationError(f"{where}: expected frames and 'meta'")
    if not isinstance(found := entry.get(ROWS), _Rows):
        rows = {i: entry[i] for i in natural_order(key for key in entry if key != META)}
        odd = next((i for i, row in rows.items() if not isinstance(row, list) or len(row) != COLUMNS), None)
        if rows and odd is None:
            number_array(list(rows.values()), where)  # an error
        what = f"frame {odd}" if rows else "no frame"
        raise AnnotationError(f"{where}: {what}, expected x1, y1, x2, y2 and five qualities for every frame")
    ids, numbers = found
    boxes = numbers[:, :4]
    picked, corner = (_share(where, meta, key) for key in ("bbox_picked_freq", "corner_bbox_freq"))
    outside = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1) | np.isnan(numbers).any(axis=1)
    picture, size = "any picture", meta.get("frame_sz")
    if isinstance(size, list) and len(size) == 2:
        picture = f"the picture of {size[0]} x {size[1]}"
        outside |= (boxes[:, 2:] > number_array(size, where)).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        box = ", ".join(f"{v:g}" for v in boxes[row])
        raise AnnotationError(f"{where}: the box {box} of frame {ids[row]} is not inside {picture}")
    if (wrong := ~np.isfinite(numbers).all(axis=1) | (np.abs(numbers[:, 6:8]) > MAX_FRAMES).any(axis=1)).any():
        frame = ids[int(wrong.argmax())]
        raise AnnotationError(
            f"{where}: the qualities of frame {frame} are infinite, or too large for numbers of frames"
        )
    if picked == 0:
        raise AnnotationError(f"{where}: bbox_picked_freq is 0, expected the share of found boxes")
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1], axis=1)
    short, long, corner_score = numbers[:, 4], numbers[:, 5], numbers[:, 8]
    qualities = Qualities(picked, corner, short, long, numbers[:, 6:8].astype(np.int64), corner_score)
    return StoredTrack(video, name, ids, xywh, qualities)


def _share(where: str, meta: Mapping[str, Any], key: str) -> float:
    value = meta.get(key)
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise AnnotationError(f"{where}: meta.{key} is {value!r}, expected a share of 0 to 1")
    return float(value)
