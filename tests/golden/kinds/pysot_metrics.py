"""Scores of pysot's toolkit: one-pass curves, overlap of polygons, supervised VOT measures, long-term F-score."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from golden import Case, runner

from lib.bench.metrics import SequenceResult, evaluate, polygon_overlap

TRACKED, SKIPPED, INITIALISED, FAILED = -1, 0, 1, 2


def trajectory(spec: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth and prediction [n, 4] of a random walk."""
    rng, n = np.random.RandomState(spec["seed"]), spec["n"]
    centres = np.cumsum(rng.normal(0, 3, (n, 2)), axis=0) + np.array([160, 120])
    sizes = np.exp(rng.normal(3.6, 0.15, (n, 2)))
    truth = np.concatenate([centres - sizes / 2, sizes], axis=1)
    found = truth + rng.normal(0, 5, (n, 4))
    found[:, 2:] = np.maximum(found[:, 2:], 4)
    return np.round(truth, 2), np.round(found, 2)


@runner("slt_pysot/eval_ope")
def one_pass(case: Case) -> None:
    results = []
    for i, spec in enumerate(case.data["videos"]):
        truth, found = trajectory(spec)
        truth[spec.get("gt_zero_frames", [])] = 0
        visible = None
        if "absent_flag_zero_frames" in spec:
            visible = np.ones(len(truth), dtype=bool)
            visible[spec["absent_flag_zero_frames"]] = False
        results.append(SequenceResult(f"v{i}", truth, found, visible))
    scores = evaluate("pysot", results)
    named = {
        "success_auc": scores.headline["auc"] / 100,
        "precision_at_20": scores.headline["precision"] / 100,
        "norm_precision_at_0.2": scores.headline["norm_precision"] / 100,
        "ao": scores.value("mean_overlap"),
        "op50": scores.headline["op50"] / 100,
        "op75": scores.headline["op75"] / 100,
    }
    for name, stored in case.data["outputs"].items():
        if name.endswith("_curves"):
            curves = dict(zip(scores.names, scores.curves[name.removesuffix("_curves")], strict=True))
            for video, digest in stored.items():
                case.check(curves[video], digest, f"{name} {video}")
        else:
            case.check(named[name], stored, name)


@runner("slt_pysot/eval_region_overlap")
def region_overlap(case: Case) -> None:
    for pair in case.data["pairs"]:
        size = None if pair["bounds_wh"] is None else tuple(pair["bounds_wh"])
        found = polygon_overlap(np.array([pair["a"]]), np.array([pair["b"]]), size)
        case.check(found[0], pair["overlap"], f"{pair['a']} and {pair['b']}")


def supervised_result(case: Case, i: int, spec: dict[str, Any]) -> SequenceResult:
    """Marks of a run that fails in the stated frames."""
    truth, found = trajectory(spec)
    marks = np.full(len(truth), TRACKED)
    marks[0] = INITIALISED
    skip = case.config["skipping"]
    for frame in spec["failure_frames"]:
        marks[frame] = FAILED
        marks[frame + 1 : frame + skip] = SKIPPED
        marks[frame + skip : frame + skip + 1] = INITIALISED
    found[marks != TRACKED] = np.nan
    width, height = case.data["image_wh"]
    return SequenceResult(f"v{i}", truth, found, image_size_wh=(width, height), marks=(marks,))


@runner("slt_pysot/eval_vot_short_term")
def short_term(case: Case) -> None:
    c = case.config
    low, high = c["low_high"]
    results = [supervised_result(case, i, spec) for i, spec in enumerate(case.data["videos"])]
    scores = evaluate("vot_supervised", results, low=low, high=high, burn_in=c["burnin"], skip=c["skipping"])
    named = {
        "accuracy": scores.headline["accuracy"] / 100,
        "robustness": scores.headline["robustness"],
        "lost": scores.values["failures"].sum(),
        "eao": scores.headline["eao"] / 100,
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("slt_pysot/eval_f1")
def long_term(case: Case) -> None:
    results, rules = [], case.data["rules"]
    (period, phase), (width, height) = (map(int, re.findall(r, rules)[0]) for r in (r"i%(\d+)==(\d+)", r"(\d+)x(\d+)"))
    for i, spec in enumerate(case.data["videos"]):
        truth, found = trajectory(spec)
        truth[phase::period] = np.nan
        confidence = np.round(np.random.RandomState(spec["score_seed"]).uniform(0, 1, len(truth)), 4)
        confidence[0] = np.nan
        found[0] = np.nan
        results.append(SequenceResult(f"v{i}", truth, found, image_size_wh=(width, height), confidence=confidence))
    scores = evaluate("pysot_longterm", results)
    named = {
        "precision_curve": scores.overall("tracking_precision"),
        "recall_curve": scores.overall("tracking_recall"),
        "best_index": scores.best,
        "precision": scores.headline["precision"] / 100,
        "recall": scores.headline["recall"] / 100,
        "f1": scores.headline["f_score"] / 100,
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
