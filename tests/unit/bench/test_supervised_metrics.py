"""Overlap of rasterised polygons, and the measures of supervised VOT runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.bench.metrics import MetricError, SequenceResult, evaluate, polygon_overlap

N = 40


def test_a_box_is_the_polygon_of_its_corners() -> None:
    box, other = np.array([[10.2, 20.7, 30.0, 15.0]]), np.array([[15.0, 22.0, 30.0, 15.0]])
    x, y, w, h = box[0]
    corners = np.array([[x, y, x + w, y, x + w, y + h, x, y + h]])
    assert polygon_overlap(box, other)[0] == polygon_overlap(corners, other)[0]
    assert polygon_overlap(corners, box)[0] == 1.0


def test_a_diamond_covers_half_of_its_box() -> None:
    diamond = np.array([[50.0, 0.0, 100.0, 50.0, 50.0, 100.0, 0.0, 50.0]])
    assert polygon_overlap(diamond, np.array([[0.0, 0.0, 100.0, 100.0]]))[0] == pytest.approx(0.5, abs=0.01)


def test_regions_are_cut_to_the_image_and_apart_beyond_it() -> None:
    first, second = np.array([[-20.0, 0.0, 40.0, 20.0]]), np.array([[-10.0, 0.0, 30.0, 20.0]])
    assert polygon_overlap(first, second)[0] < 1.0
    assert polygon_overlap(first, second, (100, 100))[0] == 1.0
    assert polygon_overlap(first, np.array([[60.0, 60.0, 5.0, 5.0]]))[0] == 0.0
    assert polygon_overlap(first, np.array([[-50.0, 0.0, 20.0, 20.0]]), (100, 100))[0] == 0.0
    assert np.isnan(polygon_overlap(first, np.full((1, 4), np.nan))[0])


def run(failures: list[int], shift: float = 0.0, name: str = "a") -> SequenceResult:
    """A perfect tracker, `shift` pixels off, that fails in some frames."""
    truth = np.tile([50.0, 40.0, 30.0, 20.0], (N, 1))
    found, marks = truth + np.array([shift, 0, 0, 0]), np.full(N, -1)
    marks[0] = 1
    for frame in failures:
        marks[frame : frame + 5] = [2, 0, 0, 0, 0][: N - frame]
        marks[frame + 5 : frame + 6] = 1
    found[marks != -1] = np.nan
    return SequenceResult(name, truth, found, image_size_wh=(200, 100), marks=(marks,))


def test_a_run_without_failure_has_the_overlap_as_eao() -> None:
    scores = evaluate("vot_supervised", [run([], 3.0)], low=10, high=20)
    overlap = polygon_overlap(np.array([[53.0, 40.0, 30.0, 20.0]]), np.array([[50.0, 40.0, 30.0, 20.0]]))[0]
    assert scores.headline["eao"] == pytest.approx(100 * overlap)
    assert scores.headline["accuracy"] == pytest.approx(100 * overlap)
    assert scores.headline["robustness"] == 0.0


def test_failures_cost_expected_overlap_but_no_accuracy() -> None:
    scores = evaluate("vot_supervised", [run([12])], low=10, high=20)
    assert scores.headline["accuracy"] == 100.0
    assert scores.headline["robustness"] == pytest.approx(100 / N)
    assert 50 < scores.headline["eao"] < 100


def test_a_failure_in_the_first_tracked_frame_and_one_before_the_end() -> None:
    scores = evaluate("vot_supervised", [run([1]), run([N - 1], name="b")], low=3, high=6)
    assert scores.values["failures"].tolist() == [1.0, 1.0]
    assert np.isfinite(list(scores.headline.values())).all()


def by_hand(name: str, overlaps: str, marks: list[int] | None, confidence: list[float] | None = None) -> SequenceResult:
    """One frame per letter: a hit "=" (overlap 1), half a box off "-" (1/3), nothing there "." or absent "?"."""
    truth = np.tile([50.0, 40.0, 9.0, 9.0], (len(overlaps), 1))  # 100 pixels
    found = truth + np.array([[5.0 if letter == "-" else 0.0, 0, 0, 0] for letter in overlaps])
    found[[letter == "." for letter in overlaps]] = np.nan
    truth[[letter == "?" for letter in overlaps]] = np.nan
    given = None if confidence is None else np.array(confidence)
    known = () if marks is None else (np.array(marks),)
    return SequenceResult(name, truth, found, image_size_wh=(200, 100), confidence=given, marks=known)


def test_measures_of_two_short_runs_by_hand() -> None:
    # Fragments without their first frames: (1, 1/3, 0, 0, ...) that failed, (1) and (1/3, 1/3, 1/3, 1/3, 1/3).
    failed = by_hand("a", ".=-......=", [1, -1, -1, 2, 0, 0, 0, 0, 1, -1])
    whole = by_hand("b", ".-----", [1, -1, -1, -1, -1, -1])
    found = evaluate("vot_supervised", [failed, whole], low=3, high=6, burn_in=1).headline
    # Two to five frames after the first: means of 2/3, 4/9, 1/3, 4/15 and 1/3.
    assert found["eao"] == pytest.approx(100 * (1 / 2 + 7 / 18 + 1 / 3 + 3 / 10) / 4)
    assert found["accuracy"] == pytest.approx(100 * (1 + 1 / 3 + 1 + 5 / 3) / 8)
    assert found["robustness"] == pytest.approx(100 / 16)


def test_longterm_measures_of_two_short_videos_by_hand() -> None:
    first = by_hand("a", "==-?", None, [np.nan, 0.9, 0.2, 0.8])
    alone = evaluate("pysot_longterm", [first]).headline
    # At 0.9: one hit of one frame, and of three with the target.
    assert [alone[k] for k in ("f_score", "precision", "recall")] == pytest.approx([50, 100, 100 / 3])
    both = evaluate("pysot_longterm", [first, by_hand("b", "=-", None, [np.nan, 0.5])]).headline
    # At 0.2: precisions 4/9 and 1/3, recalls 4/9 and 1/6.
    assert both["precision"] == pytest.approx(100 * 7 / 18)
    assert both["recall"] == pytest.approx(100 * 11 / 36)
    assert both["f_score"] == pytest.approx(100 * 77 / 225)


def test_results_without_marks_are_named() -> None:
    plain = SequenceResult("a", run([]).gt_xywh, run([]).gt_xywh, image_size_wh=(200, 100))
    with pytest.raises(MetricError, match="no marks"):
        evaluate("vot_supervised", [plain])
    some = replace(run([]), repetitions=(plain.prediction_xywh,))
    with pytest.raises(MetricError, match="no marks"):
        evaluate("vot_supervised", [some])
    unknown = run([])
    unknown.gt_xywh[7] = np.nan
    with pytest.raises(
        MetricError, match="a: NaN in the ground truth of frame 7; runs that start again need it in all"
    ):
        evaluate("vot_supervised", [unknown])
    with pytest.raises(MetricError, match="low 20, high 10"):
        evaluate("vot_supervised", [run([])], low=20, high=10)


def test_a_longterm_result_without_any_confidence_is_told() -> None:
    result = replace(run([]), confidence=np.full(N, np.nan))
    with pytest.raises(MetricError, match="no confidence is a number"):
        evaluate("pysot_longterm", [result])


def test_an_eao_of_no_run_is_remarked_on() -> None:
    scores = evaluate("vot_supervised", [run([])])
    assert scores.headline["eao"] == 0.0
    assert "EAO is 0" in str(scores.note)
    assert "of failed runs alone" in str(evaluate("vot_supervised", [run([12])], low=N + 1, high=N + 9).note)
    assert evaluate("vot_supervised", [run([12])], low=10, high=20).note is None
    assert "accuracy" not in str(scores.note)


def test_an_accuracy_of_no_frame_is_remarked_on() -> None:
    scores = evaluate("vot_supervised", [run([*range(1, N, 6)])], low=3, high=6)
    assert scores.headline["accuracy"] == 0.0
    assert "accuracy is 0 because no frame is later than" in str(scores.note)
