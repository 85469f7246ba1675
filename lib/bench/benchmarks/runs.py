"""Runs of a sequence, by experiment (one pass, from anchors, ...), and the benchmarks of `benchmarks.yaml` with theirs.

Readers, folders and counts are those of the data set's row in `lib.catalogue`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.bench.benchmarks.benchmark import Benchmark, BenchmarkVideo, one_pass, register_benchmark
from lib.bench.runner import Supervised
from lib.data import AnnotationError, Boxes, parse_numbers
from lib.data.datasets import Annotation, cut_rows, positive, read_text
from lib.files import yaml_rows


def from_first_present(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """One run from the first frame with a target (VisEvent).

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Raises:
        AnnotationError: No frame has a box.
    """
    usable = positive(sequence.boxes_xywh)
    if not usable.any():
        raise AnnotationError("no frame with a box to start on")
    if annotation.present is not None and (usable & annotation.present).any():
        usable &= annotation.present
    return replace(sequence, start=int(np.argmax(usable)))


def unsupervised(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """One run from the first frame, without re-initialisation (VOT's long-term experiment).

    The target is present where the annotation has a box, not `nan`.

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Raises:
        AnnotationError: The first frame has no box.
    """
    present = np.asarray(np.isfinite(sequence.boxes_xywh).all(axis=1))
    if not present[0]:
        raise AnnotationError("the first frame has no box to start on")
    return replace(sequence, present=present, run_name="{name}_001")


def from_anchors(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """A run from every anchor (VOT's multi-start experiment).

    `anchor.value` has a number per frame: 1 starts a run forward to the last frame, -1 backward to the first. The
    attributes are the `<attribute>.tag` files with a 1 in them.

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Raises:
        AnnotationError: `anchor.value` is missing or has no anchor, or an anchor's frame has no box.
    """
    store, folder = annotation.frames.store, annotation.folder
    key = f"{folder}/anchor.value"
    where = store.describe(key)
    if not store.exists(key):
        raise AnnotationError(f"no {where} (a number per frame: 1 start forward, -1 start backward, 0 no start)")
    frames = len(sequence)
    values = cut_rows(parse_numbers(read_text(store, key), where), frames, where)
    anchors = np.flatnonzero(values).tolist()
    if not anchors:
        raise AnnotationError(f"{where}: no anchor, all values are 0")
    if empty := [i for i in anchors if not (np.isfinite(b := sequence.boxes_xywh[i]).all() and b[2:].min() > 0)]:
        raise AnnotationError(f"{where}: an anchor on frame {empty[0]}, which has no box to start on")
    passes = tuple(range(i, frames) if values[i] > 0 else range(i, -1, -1) for i in anchors)
    tags = [name for name in store.listdir(folder) if name.endswith(".tag")]
    tags = [name.removesuffix(".tag") for name in tags if "1" in read_text(store, f"{folder}/{name}").split()]
    return replace(sequence, passes=passes, run_name="{name}_{first:08d}", attributes=sequence.attributes.union(tags))


def supervised(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """One run that starts again after failures (VOT 2013 to 2019).

    A tracker is given the upright box that has a polygon's centre and about its area.

    Args:
        sequence: The video with its labels.
        annotation: Its annotation, with polygons.
    """
    assert annotation.corners is not None, "only readers of VOT's sets have this experiment"
    return replace(sequence, boxes_xywh=axis_aligned_boxes(annotation.corners), run_name="{name}_001")


def axis_aligned_boxes(corners: NDArray[np.float64]) -> Boxes:
    """Upright boxes in place of polygons, as VOT's baselines and pysot's toolkit choose them.

    Args:
        corners: [N, 8] four corners x, y, x, y, ... in image pixels.

    Returns:
        [N, 4] x, y, w, h: the box around the polygon, both sides scaled alike to a rectangle's area by the polygon's
        first two sides, around the mean of the corners.
    """
    points = corners.reshape(-1, 4, 2)
    sides = np.ptp(points, axis=1)
    first, second = (np.linalg.norm(points[:, i] - points[:, i + 1], axis=1) for i in (0, 1))
    scale = np.sqrt(first * second / np.maximum(sides.prod(axis=1), 1e-12))
    size = scale[:, None] * sides + 1
    return np.concatenate([points.mean(axis=1) - (size - 1) / 2, size], axis=1)


_RUNS = {run.__name__: run for run in (one_pass, from_first_present, unsupervised, from_anchors, supervised)}

for _name, _row in yaml_rows(Path(__file__).with_name("benchmarks.yaml")).items():
    _row["runs"] = _RUNS[_row.get("runs", "one_pass")]
    _row["protocol"] = Supervised() if _row["runs"] is supervised else None
    register_benchmark(Benchmark(_name, **_row))
