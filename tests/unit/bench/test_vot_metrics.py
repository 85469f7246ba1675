"""VOT metrics where the numbers are known by hand; agreement with the toolkit is in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest

from lib.bench.metrics import MetricError, Scores, SequenceResult, average_runs, evaluate, parse_options, vot_overlap

SIZE = (200, 100)


def truth(frames: int) -> np.ndarray:
    return np.tile([20.0, 20.0, 40.0, 30.0], (frames, 1))


def longterm(name: str, frames: int = 20, lost_from: int = 20, sure: float = 0.9, **more: object) -> SequenceResult:
    """Perfect until `lost_from`; the confidence falls from `sure` by a thousandth per frame, to 0.1 once it is lost."""
    boxes = truth(frames)
    boxes[lost_from:, 0] += 100
    confidence = np.where(np.arange(frames) < lost_from, sure - np.arange(frames) / 1000, 0.1)
    values = {"image_size_wh": SIZE, "confidence": confidence, **more}
    return SequenceResult(name, truth(frames), boxes, **values)  # type: ignore[arg-type]


def multistart(name: str, fails_at: dict[int, int], frames: int = 30) -> SequenceResult:
    """Runs from the first frame forward and from the last one backward; run k is lost from its frame fails_at[k] on."""
    passes = (range(frames), range(frames - 1, -1, -1))
    runs = [truth(frames) for _ in passes]
    for k, at in fails_at.items():
        runs[k][at:, 0] += 100
    return SequenceResult(name, truth(frames), runs[0], image_size_wh=SIZE, repetitions=(runs[1],), passes=passes)


def test_overlap_counts_pixels_within_the_image() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [195, 0, 10, 10], [0, 0, 10, 10], [0, 0, 1, 9]], dtype=np.float64)
    b = np.array([[5, 0, 10, 10], [np.nan] * 4, [195, 0, 5, 10], [0.4, 0.4, 10.4, 9.6], [0, 0, 1, 3]])
    assert vot_overlap(a, b, SIZE).tolist() == [50 / 150, 0, 1, 1, 1]


def test_a_confident_tracker_is_scored_where_it_is_confident() -> None:
    scores = evaluate("vot_longterm", [longterm("a", lost_from=10), longterm("b", lost_from=20)])
    # At 0.89: 9 and 19 tracked frames (the first never counts) of 20.
    assert scores.headline["precision"] == pytest.approx(100)
    assert scores.headline["recall"] == pytest.approx(100 * (9 + 19) / 40)
    assert scores.per_sequence("recall") == pytest.approx({"a": 45.0, "b": 95.0})
    assert scores.note is None


def test_thresholds_of_a_subset_are_its_own() -> None:
    results = [longterm("a", lost_from=10, sure=0.6), longterm("b", lost_from=15)]
    whole = evaluate("vot_longterm", results)
    alone = evaluate("vot_longterm", results[:1])
    part = whole.subset(["a"])
    assert part.headline == alone.headline
    np.testing.assert_array_equal(part.thresholds["f_score"], alone.thresholds["f_score"])


def test_constant_confidence_is_noted() -> None:
    scores = evaluate("vot_longterm", [longterm("a", confidence=np.full(20, 1.0))])
    assert "confidence is the same" in (scores.note or "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": None}, "x: no confidence with the boxes"),
        ({"image_size_wh": None}, "x: the image size is missing"),
        ({"confidence": np.ones(19)}, "x: 19 confidences for 20 frames"),
    ],
)
def test_missing_inputs_of_the_longterm_metric_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        evaluate("vot_longterm", [longterm("x", **changes)])  # type: ignore[arg-type]


def test_a_failure_ends_a_run_ten_frames_later() -> None:
    scores = evaluate("vot_multistart", [multistart("a", {0: 15})], low=5, high=31)
    assert scores.headline["robustness"] == pytest.approx(100 * (15 + 30) / 60)
    assert scores.headline["accuracy"] == pytest.approx(100 * (14 + 29) / (15 + 30))
    kept = evaluate("vot_multistart", [multistart("a", {0: 21})], low=5, high=31)  # 9 lost frames: no failure
    assert kept.headline["robustness"] == pytest.approx(100)


def test_a_run_that_did_not_fail_counts_up_to_its_end() -> None:
    scores = evaluate("vot_multistart", [multistart("a", {}), multistart("long", {0: 40}, frames=60)], low=50, high=60)
    assert scores.headline["eao"] == pytest.approx(100 * np.mean([(39 / j + 1) / 2 for j in range(50, 60)]))
    assert scores.note is None


def test_eao_of_runs_that_are_too_short_is_explained() -> None:
    scores = evaluate("vot_multistart", [multistart("a", {})])
    assert scores.headline["eao"] == 0
    assert "no run is longer than 29 frames" in (scores.note or "")
    assert "115 to 754" in (scores.note or "")
    partly = evaluate("vot_multistart", [multistart("a", {})], low=20, high=45)
    assert "no run is 30 frames long" in (partly.note or "")


def test_averages_over_sequences_have_the_toolkits_weights() -> None:
    results = [multistart("a", {0: 10, 1: 10}), multistart("b", {}, frames=90)]
    scores = evaluate("vot_multistart", results, low=5, high=20)
    assert scores.headline["robustness"] == pytest.approx(100 * (30 * 10 / 30 + 90) / 120)
    assert scores.headline["accuracy"] == pytest.approx(100 * (2 * 9 + 2 * 89) / (2 * 10 + 2 * 90))
    assert scores.subset(["b"]).headline["robustness"] == pytest.approx(100)


def test_repetitions_of_one_tracker_are_pooled() -> None:
    def scored(at: int) -> Scores:
        return evaluate("vot_multistart", [multistart("a", {0: at})], low=5, high=25)

    both = average_runs([scored(5), scored(15)])
    assert both.headline["robustness"] == pytest.approx(np.mean([scored(5).headline["robustness"], 75.0]))
    assert both.headline["eao"] == pytest.approx(np.mean([scored(5).headline["eao"], scored(15).headline["eao"]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"low": 10, "high": 10}, "expected 1 <= low < high"), ({"hihg": 3}, "did you mean 'high'")],
)
def test_wrong_limits_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises((MetricError, TypeError), match=message):
        evaluate("vot_multistart", [multistart("a", {})], **options)


def test_options_of_a_command_line() -> None:
    assert parse_options(["low=20", "strict=true"]) == {"low": 20, "strict": True}
    with pytest.raises(MetricError, match=r"'low': expected NAME=VALUE"):
        parse_options(["low"])


def test_a_resolution_without_thresholds_is_an_error_at_once() -> None:
    with pytest.raises(MetricError, match="at least 3 thresholds"):
        evaluate("vot_longterm", [longterm("a")], resolution=2)
