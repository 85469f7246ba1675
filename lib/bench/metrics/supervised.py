"""Measures of the VOT challenges of 2016 to 2019, on rasterised polygons (`polygon_overlap`).

- `vot_supervised`: accuracy, robustness and expected average overlap of runs that start again after a failure. Kristan
  et al., "A novel performance evaluation methodology for single-target trackers", TPAMI 2016.
- `pysot_longterm` (VOT2018-LT): precision, recall and F-score as pysot's toolkit computes them.

A row of NaN is a frame without a region: an initialisation, a failure, or a skipped frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from lib.bench.metrics.curves import Floats, has_nan, mean_where
from lib.bench.metrics.metric import Scores, SequenceCurves
from lib.bench.metrics.polygons import polygon_overlap
from lib.bench.metrics.sequence_result import MetricError, SequenceResult
from lib.bench.metrics.vot import ACCURACY, CURVE, EAO, checked_longterm, points, precision_and_recall
from lib.bench.result_files import FAILED, INITIALISED, Marks

REPETITIONS = 15
"""Runs of a tracker that draws at random; fewer are not averaged."""
PYSOT_THRESHOLDS = 98
INTERVALS = {"vot2016": (108, 371), "vot2017": (100, 356), "vot2018": (100, 356), "vot2019": (46, 291)}
"""Run lengths of the expected average overlap; those of VOT2018 stand in for other benchmarks."""


def supervised_samples(result: SequenceResult, burn_in: int = 10, skip: int = 5) -> SequenceCurves:
    """Accuracy and robustness of the runs on one sequence, and the overlaps that the expected overlap is made of.

    Args:
        result: with `marks`; 15 runs, or else the first one counts.
        burn_in: frames from an initialisation on that do not count in the accuracy.
        skip: frames from a failure to the next initialisation.
    """
    width, height = result.require_size()
    truth = result.gt_xywh if result.gt_corners is None else result.gt_corners
    unknown = np.flatnonzero(has_nan(truth))
    if len(unknown):
        where = f"{result.name}: NaN in the ground truth of frame {unknown[0]}"
        raise MetricError(f"{where}; runs that start again need it in all frames")
    if len(result.marks) != len(result.runs):
        raise MetricError(f"{result.name}: the result has no marks of initialisations and failures")
    runs = result.runs if len(result.runs) == REPETITIONS else result.runs[:1]
    fair, raw, failures = [], [], []
    for rows, marks in zip(runs, result.marks[: len(runs)], strict=True):
        if not len(rows) == len(marks) == len(truth):
            raise MetricError(f"{result.name}: {len(rows)} rows for {len(truth)} frames")
        inside = polygon_overlap(rows, truth, (width, height))
        for start in np.flatnonzero(marks == INITIALISED):
            inside[start : start + burn_in] = np.nan
        fair.append(inside)
        raw.append(polygon_overlap(rows, truth, (width - 1, height - 1)))
        failures.append(np.flatnonzero(marks == FAILED))
    counts = (~np.isnan(fair)).sum(axis=0)
    counted = counts > 0
    mean = np.divide(np.nansum(fair, axis=0), counts, out=np.full(len(truth), np.nan), where=counted)
    accuracy, lost = mean_where(mean, counted), sum(map(len, failures)) / len(runs)
    return SequenceCurves(
        curves=points(accuracy if counted.any() else 0.0, lost / len(truth)),
        values={"mean_overlap": accuracy, "failures": lost},
        frames=len(truth),
        weights=points(counted.sum(), len(truth)),
        thresholds=points(0, 0),
        samples={
            f"{k}.{i}": part
            for k, (overlaps, failed) in enumerate(zip(raw, failures, strict=True))
            for i, part in enumerate(fragments(overlaps, failed + skip))
        },
    )


def fragments(overlaps: Floats, restarts: Marks) -> list[Floats]:
    """The stretches of a run between its initialisations; one that failed extends to the next initialisation.

    Args:
        overlaps: [N] NaN where there is no region.
        restarts: frames of all further initialisations; those beyond the end are left out.

    Returns:
        Overlaps of each stretch, 0 in place of NaN; a failed one ends with NaN as a mark.
    """
    starts = [0, *(int(r) for r in restarts if r <= len(overlaps))]
    filled = np.nan_to_num(overlaps)
    failed = [np.append(filled[a : b + 1], np.nan) for a, b in pairwise(starts)]
    return [part for part in (*failed, filled[starts[-1] :]) if len(part)]


def aggregate_supervised(
    sequences: Sequence[SequenceCurves], dataset: str = "", low: int | None = None, high: int | None = None
) -> list[SequenceCurves]:
    """Expected overlap over run lengths, from the fragments of all sequences.

    A fragment contributes up to its length; one that failed is padded with zeros to the longest video's.

    Args:
        sequences: with the samples of `supervised_samples`.
        dataset: benchmark whose interval is taken where none is given.
        low, high: run lengths, from the first frame on, that the expected average overlap is averaged over.
    """
    usual = INTERVALS.get(dataset, INTERVALS["vot2018"])
    low, high = usual[0] if low is None else low, usual[1] if high is None else high
    if not 1 < low < high:
        raise MetricError(f"low {low}, high {high}: expected 1 < low < high")
    lengths = np.arange(1, max(low, *(s.frames for s in sequences)), dtype=np.float64)
    aggregated = []
    for sequence in sequences:
        summed, count = np.zeros(len(lengths)), np.zeros(len(lengths))
        for part in sequence.samples.values():
            reached = np.cumsum(part[~np.isnan(part)][1:])
            summed[: len(reached)] += reached / lengths[: len(reached)]
            count[: len(reached)] += 1
            if np.isnan(part[-1]):
                summed[len(reached) :] += (reached[-1] if len(reached) else 0.0) / lengths[len(reached) :]
                count[len(reached) :] += 1
        curve = np.divide(summed, count, out=np.zeros(len(lengths)), where=count > 0)
        within = slice(low - 2, high - 1)
        aggregated.append(
            replace(
                sequence,
                curves={**sequence.curves, CURVE: curve, EAO: curve[within]},
                weights={**sequence.weights, CURVE: count, EAO: count[within]},
                thresholds={**sequence.thresholds, CURVE: lengths + 1.0, EAO: lengths[within] + 1.0},
            )
        )
    return aggregated


def supervised_note(scores: Scores) -> str | None:
    """Remark on sequences that are too short, and on failures that are too close, for a measure."""
    notes, low = [], round(scores.thresholds[EAO][0])
    if not scores.weights[EAO].sum(axis=0)[0]:
        notes.append(f"EAO is 0 because no run is as long as {low} frames (metric option low)")
    elif max(s.frames for s in scores.sequences) < low:
        notes.append(f"EAO is of failed runs alone, since no sequence is as long as {low} frames (metric option low)")
    if not scores.weights[ACCURACY].sum():
        notes.append("accuracy is 0 because no frame is later than burn_in after a start (metric option burn_in)")
    return "; ".join(notes) or None


def pysot_longterm_samples(result: SequenceResult) -> SequenceCurves:
    """Overlap and confidence of every frame; frames without a region have overlap 0, those without a number 0."""
    truth = result.gt_xywh if result.gt_corners is None else result.gt_corners
    overlap = np.nan_to_num(polygon_overlap(result.require_rows(), truth, result.require_size()))
    confidence, present = checked_longterm(result, truth)
    samples = {"overlap": overlap, "confidence": confidence, "present": present.astype(np.float64)}
    return SequenceCurves({}, {"mean_overlap": mean_where(overlap, present)}, len(truth), samples=samples)


def aggregate_pysot_longterm(sequences: Sequence[SequenceCurves]) -> list[SequenceCurves]:
    """Precision and recall of each sequence over 100 thresholds taken from the confidences of all sequences.

    Args:
        sequences: with the samples of `pysot_longterm_samples`.
    """
    confidence = np.concatenate([s.samples["confidence"] for s in sequences])
    rising = np.sort(confidence[~np.isnan(confidence)])
    if not len(rising):
        raise MetricError("no confidence is a number; the F-score needs some")
    step = len(rising) // PYSOT_THRESHOLDS
    places = np.floor(np.linspace(step - 1, len(rising) - step, PYSOT_THRESHOLDS) + 0.5)
    inner = rising[np.clip(places, 0, len(rising) - 1).astype(np.int64)][::-1]
    # The lowest threshold lets every confidence above 0 pass.
    thresholds = np.concatenate([[np.inf], inner, [np.nextafter(0.0, 1.0)]])
    filled = [
        replace(s, samples={**s.samples, "confidence": np.nan_to_num(s.samples["confidence"])}) for s in sequences
    ]
    return precision_and_recall(filled, thresholds)
