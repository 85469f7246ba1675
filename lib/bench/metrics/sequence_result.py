"""Input of a metric: the result of one sequence, with rows of a known form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.bench.result_files import Floats, Marks
from lib.data import Boxes, Mask, corners_to_xywh

FORM_PIXELS = 8
"""Distance from which a row is certainly not the given box."""


class MetricError(ValueError):
    """Results or ground truth that a metric cannot use; the message names the sequences."""


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """Result of one tracker on one sequence, with what a metric needs to know about the sequence.

    Attributes:
        name: name of the sequence.
        gt_xywh: [N, 4] ground truth in image pixels.
        prediction_xywh: [M, 4] boxes of the first run, or [M, 8] corners x1 y1 x2 y1 x2 y2 x1 y2.
        visible: [N] bool, False where the target is absent; None where the data set has no such labels.
        second_gt_xywh: [N, 4] ground truth of the second modality (GTOT, RGBT234).
        image_size_wh: image size in pixels (GOT-10k, VOT).
        cover: [N] visible share of the target (GOT-10k).
        repetitions: boxes of further runs of the tracker, [M, 4] each (GOT-10k, VOT).
        seconds: [M] time per frame of the first run.
        confidence: [M] confidence of each row of the first run (VOT); NaN where the tracker gave none.
        passes: frames of each run in tracking order, for runs that do not all go from the first frame to the last
            (VOT): row i of run k belongs to frame passes[k][i].
        gt_corners: [N, 8] ground truth as polygons (VOT); NaN where the target is absent.
        marks: [M] marks of each run (`lib.bench.result_files`), of supervised runs.
    """

    name: str
    gt_xywh: Boxes
    prediction_xywh: Boxes
    visible: Mask | None = None
    second_gt_xywh: Boxes | None = None
    image_size_wh: tuple[int, int] | None = None
    cover: Floats | None = None
    repetitions: tuple[Boxes, ...] = ()
    seconds: Floats | None = None
    confidence: Floats | None = None
    passes: tuple[range, ...] = ()
    gt_corners: Floats | None = None
    marks: tuple[Marks, ...] = ()

    @property
    def runs(self) -> tuple[Boxes, ...]:
        """Every run of the tracker on this sequence."""
        return (self.prediction_xywh, *self.repetitions)

    def require_size(self) -> tuple[int, int]:
        """`image_size_wh`, or a MetricError where it is missing."""
        if self.image_size_wh is None:
            raise MetricError(f"{self.name}: the image size is missing, but boxes are clipped to the image")
        return self.image_size_wh

    def require_rows(self) -> Boxes:
        """`prediction_xywh`, or a MetricError unless it has one row per frame of the ground truth."""
        if len(self.prediction_xywh) != len(self.gt_xywh):
            raise MetricError(f"{self.name}: {len(self.prediction_xywh)} rows for {len(self.gt_xywh)} frames")
        return self.prediction_xywh

    def padded_rows(self, pad: bool = False) -> Boxes:
        """A copy of the prediction with as many rows as the ground truth; surplus rows are dropped.

        Args:
            pad: append empty boxes where rows are missing, instead of raising MetricError.
        """
        n = len(self.gt_xywh)
        rows = self.prediction_xywh[:n]
        if len(rows) < n and not pad:
            raise MetricError(f"{self.name}: {len(rows)} rows for {n} frames")
        return np.concatenate([rows, np.zeros((n - len(rows), rows.shape[1]))])


def checked(result: SequenceResult, corners: bool) -> SequenceResult:
    """The result with rows that a metric can read.

    Args:
        result: The result.
        corners: Leave corner rows as they are.

    Raises:
        MetricError: Its rows are certainly of another form; the message says which.
    """
    shape = result.prediction_xywh.shape
    if not len(result.gt_xywh):
        raise MetricError(f"{result.name}: the ground truth is empty")
    first, truth = result.prediction_xywh[:1], result.gt_xywh[:1]
    if len(shape) != 2 or shape[1] not in (4, 8):
        for i in range(shape[1] - 3 if len(shape) == 2 and len(first) else 0):
            if np.abs(first[:, i : i + 4] - truth).max() <= 1:
                around = f"{i} numbers in front of x, y, w, h and {shape[1] - 4 - i} behind"
                raise MetricError(f"{result.name}: its rows have {around}; x, y, w, h alone are expected")
        raise MetricError(f"{result.name}: a result is [frames, 4] or [frames, 8], not {list(shape)}")
    if shape[1] == 8:
        if len(first) and np.abs(first[:, 2:6] - truth).max() <= 1:
            raise MetricError(f"{result.name}: two numbers stand in front of x, y, w, h in its rows of 8 numbers")
        if corners:
            return result
        result = replace(result, prediction_xywh=corners_to_xywh(result.prediction_xywh))
    for rows in result.runs:
        if np.isinf(rows).any():
            raise MetricError(f"{result.name}: the box of frame {int(np.isinf(rows).any(axis=1).argmax())} is infinite")
    first = result.prediction_xywh[:1]
    if ((first >= 0) & (first < 1)).all() and (first[:, 2:] > 0).any() and truth[:, 2:].min() > 1 and not result.passes:
        raise MetricError(f"{result.name}: its first row has shares of the picture (0 to 1), pixels are expected")
    low, size = truth[:, :2], truth[:, 2:]
    forms = (
        ("two corners", 1, (low, low + size)),
        ("centre and size", FORM_PIXELS, (low + size / 2, size)),
        ("y, x, h, w", FORM_PIXELS, (low[:, ::-1], size[:, ::-1])),
    )
    for form, pixels, parts in forms:  # within 1 px of the first box in that form, more than `pixels` off as x, y, w, h
        as_form, as_xywh = np.abs(first - np.concatenate(parts, axis=1)), np.abs(first - truth)
        if len(first) and as_form.max() <= 1 and as_xywh.max() > pixels and not result.passes:
            raise MetricError(f"{result.name}: its first row is the first box as {form}, x, y, w, h are expected")
    if shape[0] and np.isnan(result.prediction_xywh[0]).all() and not result.passes:
        # The VOT toolkit marks the initialisation frame in this way: the tracker was given this box.
        result = replace(result, prediction_xywh=np.concatenate([result.gt_xywh[:1], result.prediction_xywh[1:]]))
    return result
