"""Scores of the metric variants against the official tools, from ground truth and results in text files."""

from __future__ import annotations

import configparser
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from golden import Case, runner

from lib.bench import read_boxes, read_column, read_rows
from lib.bench.metrics import Scores, SequenceResult, evaluate, speed


def place(case: Case, key: str, name: str = "", tracker: str = "", data_set: str = "") -> Path:
    """A file as the case's inputs name it: `data/<set>/gt/<seq>.txt`, `data/lasher/{A,B}/<seq>.txt`, or its folder."""
    text = case.data["inputs"][key]
    path = (text[tracker] if isinstance(text, dict) else text).split()[0].rstrip(",;")
    path = re.sub(r"\{.*?\}", tracker, path).replace("<set>", data_set).replace("<seq>", name)
    return case.path.parent / (f"{path}{name}.txt" if path.endswith("/") else path)


def _result(case: Case, name: str, tracker: str, data_set: str = "") -> SequenceResult:
    """One sequence; the file of absent frames is the case's, or lies beside the folder of the ground truth."""
    shared = "lasot" if data_set.startswith("lasot") else data_set
    truth = place(case, "groundtruth", name, data_set=shared)
    absent = truth.parent.parent / "absent" / truth.name
    absent = place(case, "absent", name, data_set=shared) if "absent" in case.data["inputs"] else absent
    visible = read_column(absent) == 0 if absent.is_file() else None
    return SequenceResult(name, read_boxes(truth), read_boxes(place(case, "results", name, tracker, shared)), visible)


def _curve_tolerance(case: Case) -> dict[str, float]:
    tol = dict(case.data["tolerance"])
    return {"rtol": tol["rtol"], "atol": tol.get("curve_atol", tol["atol"])}


def _check_scores(case: Case, scores: Scores, wanted: dict[str, Any], names: dict[str, str], label: str) -> None:
    """names: entry of the case -> key of the headline."""
    headline = scores.headline
    for entry, key in names.items():
        if entry in wanted:
            case.check(headline[key] / 100, wanted[entry], f"{label} {entry}")
    for name, stored in wanted.get("per_sequence", {}).items():
        for entry, key in names.items():
            if isinstance(stored, dict) and entry in stored:
                case.check(scores.per_sequence(key)[name] / 100, stored[entry], f"{label} {name} {entry}")


@runner("benchmarks/pytracking")
def pytracking(case: Case) -> None:
    variant = case.data["protocol"].rsplit("_", 1)[-1]
    for data_set, names in case.data["inputs"]["sequences"].items():
        for mode, trackers in case.data["outputs"][data_set].items():
            for tracker, wanted in trackers.items():
                results = [_result(case, name, tracker, data_set) for name in names]
                scores = evaluate(variant, results, dataset=data_set, exclude_invalid_frames=mode != "default")
                _pytracking_outputs(case, scores, wanted, f"{data_set} {mode} {tracker}")


def _pytracking_outputs(case: Case, scores: Scores, wanted: dict[str, Any], label: str) -> None:
    for key, name in scores.labels.items():
        case.check(scores.headline[key], wanted[name], f"{label} {name}")
    for key, name in (
        ("success", "success_curve"),
        ("precision", "precision_curve"),
        ("norm_precision", "normalized_precision_curve"),
    ):
        case.check(100 * scores.overall(key), wanted[name], f"{label} {name}")
    mean = dict(zip(scores.names, scores.values["mean_overlap"], strict=True))
    for name, stored in wanted["avg_overlap_valid_frames"].items():
        case.check(mean[name], stored, f"{label} {name} average overlap")


@runner("loretrack/evaluation_metrics")
def evaluation_metrics(case: Case) -> None:
    for i, entry in enumerate(case.data["sequences"]):
        truth = np.array(entry["annotation"], dtype=np.float64)
        visible = entry["target_visible"]
        result = SequenceResult(
            f"{entry['dataset']}_{i}",
            truth,
            np.array(entry["prediction"], dtype=np.float64),
            None if visible is None else np.array(visible, dtype=bool),
        )
        scores = evaluate("ostrack", [result], dataset=entry["dataset"])
        for key in ("success", "precision", "norm_precision"):
            case.check(scores.overall(key), entry[f"{key}_curve"], f"{result.name} {key}")
        case.check(scores.value("mean_overlap"), entry["mean_overlap_valid"], f"{result.name} mean overlap")
        for key, name in (
            ("auc", "AUC"),
            ("op50", "OP50"),
            ("op75", "OP75"),
            ("precision", "Precision"),
            ("norm_precision", "NormPrecision"),
        ):
            case.check(scores.headline[key], entry[name], f"{result.name} {name}")


@runner("benchmarks/lasot_matlab", "benchmarks/visevent_matlab")
def matlab(case: Case) -> None:
    names = {
        "success_auc": "auc",
        "precision_at_20px": "precision",
        "normalized_precision_at_0.20": "norm_precision",
    }
    for tracker, wanted in case.data["outputs"].items():
        scores = evaluate("matlab", _plain(case, tracker))
        _check_scores(case, scores, wanted, names, tracker)
        for key, entry in (
            ("success", "success_curve"),
            ("precision", "precision_curve"),
            ("norm_precision", "normalized_precision_curve"),
        ):
            case.check(scores.overall(key), wanted[entry], f"{tracker} {entry}")
        for key, entry in (("precision", "precision"), ("norm_precision", "normalized_precision")):
            stored = wanted[f"mean_of_{entry}_curve"]
            case.check(scores.overall(key).mean(), stored, f"{tracker} mean of {entry}")
        for key, entry in (("success", "sequences_kept_success"), ("precision", "sequences_kept_precision")):
            kept = int((scores.curves[key].sum(axis=1) != 0).sum())
            assert kept == wanted[entry], f"{tracker}: {kept} sequences kept for {key}, not {wanted[entry]}"


def _plain(case: Case, tracker: str) -> list[SequenceResult]:
    return [_result(case, name, tracker) for name in case.data["inputs"]["sequences"]]


@runner("benchmarks/lasher_rgbt_toolkit", "benchmarks/rgbt210_rgbt_toolkit")
def rgbt_single(case: Case) -> None:
    data_set = case.kind.rpartition("/")[2].removesuffix("_rgbt_toolkit")
    names = {"precision": "precision", "normalized_precision": "norm_precision", "success": "auc"}
    for tracker, wanted in case.data["outputs"].items():
        scores = evaluate(data_set, _plain(case, tracker))
        _check_scores(case, scores, wanted, {k: v for k, v in names.items() if v in scores.headline}, tracker)
        for key, entry in (
            ("success", "success_curve"),
            ("precision", "precision_curve"),
            ("norm_precision", "normalized_precision_curve"),
        ):
            if entry in wanted:
                case.check(scores.overall(key), wanted[entry], f"{tracker} {entry}", _curve_tolerance(case))


@runner("benchmarks/rgbt234_rgbt_toolkit", "benchmarks/gtot_rgbt_toolkit")
def rgbt_double(case: Case) -> None:
    data_set = case.kind.rpartition("/")[2].removesuffix("_rgbt_toolkit")
    for label, wanted in case.data["outputs"].items():
        tracker, _, mode = label.partition(".")
        options = {"strict": mode == "strict"} if mode else {}
        results = [_double(case, name, tracker) for name in case.data["inputs"]["sequences"]]
        scores = evaluate(data_set, results, **options)
        _check_scores(case, scores, wanted, {"mpr": "precision", "msr": "auc"}, label)
        for key, entry in (("precision", "mpr_curve"), ("success", "msr_curve")):
            case.check(scores.overall(key), wanted[entry], f"{label} {entry}", _curve_tolerance(case))


def _double(case: Case, name: str, tracker: str) -> SequenceResult:
    folder, truths = place(case, "groundtruth", name).with_suffix(""), []
    for modality in ("visible", "infrared"):
        corners = folder / f"groundTruth_{modality[0]}.txt"
        if corners.is_file():
            rows = read_rows(corners)
            truths.append(np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2]], axis=1))
        else:
            truths.append(read_boxes(folder / f"{modality}.txt"))
    return SequenceResult(name, truths[0], read_rows(place(case, "results", name, tracker)), second_gt_xywh=truths[1])


@runner("benchmarks/pysot_ope")
def pysot(case: Case) -> None:
    for data_set, names in case.data["inputs"]["sequences"].items():
        for tracker, wanted in case.data["outputs"][data_set].items():
            scores = evaluate("pysot", [_pysot_result(case, data_set, tracker, name) for name in names])
            label = f"{data_set} {tracker}"
            _check_scores(
                case,
                scores,
                wanted,
                {"success": "auc", "precision": "precision", "norm_precision": "norm_precision"},
                label,
            )
            for key in ("success", "precision", "norm_precision"):
                case.check(scores.overall(key), wanted[f"{key}_curve"], f"{label} {key} curve")
            for name, stored in wanted["per_sequence"].items():
                mine = [scores.per_sequence(key)[name] / 100 for key in ("auc", "precision", "norm_precision")]
                case.check(mine, stored, f"{label} {name}")


def _pysot_result(case: Case, data_set: str, tracker: str, name: str) -> SequenceResult:
    """As the case prepares it: row 0 from the ground truth, a short result continued by its last row."""
    found = _result(case, name, tracker, data_set)
    truth, rows = found.gt_xywh, found.prediction_xywh
    rows = np.concatenate([rows, np.repeat(rows[-1:], max(0, len(truth) - len(rows)), axis=0)])[: len(truth)]
    rows[0] = truth[0]
    return replace(found, prediction_xywh=rows)


@runner("benchmarks/got10k_val")
def got10k(case: Case) -> None:
    names = (place(case, "dataset") / "list.txt").read_text().split()
    for tracker, wanted in case.data["outputs"].items():
        scores = evaluate("got10k", [_got10k_result(case, tracker, name) for name in names])
        _check_scores(case, scores, wanted, {"ao": "ao", "sr_0.50": "sr50", "sr_0.75": "sr75"}, tracker)
        case.check(scores.overall("success"), wanted["succ_curve_101"], f"{tracker} curve")
        case.check(speed(scores), wanted["speed_fps"], f"{tracker} speed")


def _got10k_result(case: Case, tracker: str, name: str) -> SequenceResult:
    truth, folder = place(case, "dataset") / name, place(case, "results", name, tracker).parent
    meta = configparser.ConfigParser()
    meta.read(truth / "meta_info.ini")
    width, height = map(int, re.findall(r"\d+", meta["METAINFO"]["resolution"]))
    runs = [read_boxes(p) for p in sorted(folder.glob(f"{name}_0*.txt"))]
    return SequenceResult(
        name,
        read_boxes(truth / "groundtruth.txt"),
        runs[0],
        image_size_wh=(width, height),
        cover=read_column(truth / "cover.label"),
        repetitions=tuple(runs[1:]),
        seconds=read_column(folder / f"{name}_time.txt"),
    )
