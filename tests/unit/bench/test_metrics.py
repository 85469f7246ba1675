"""Metric variants on boxes whose scores are known by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.bench.metrics import (
    METRICS,
    MetricError,
    SequenceResult,
    average_runs,
    check_options,
    evaluate,
    unscorable,
)

N = 20


def _truth(n: int = N) -> np.ndarray:
    return np.stack([np.arange(n) * 3.0 + 50, np.full(n, 60.0), np.full(n, 40.0), np.full(n, 30.0)], axis=1)


def _result(name: str = "a", **changes: object) -> SequenceResult:
    values = {"gt_xywh": _truth(), "prediction_xywh": _truth(), **changes}
    return SequenceResult(name, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ["ostrack", "pytracking", "matlab", "lasher", "rgbt210", "pysot"])
def test_a_perfect_tracker_misses_only_the_threshold_one(variant: str) -> None:
    scores = evaluate(variant, [_result(), _result("b")])
    assert scores.headline["auc"] == pytest.approx(100 * 20 / 21)
    assert scores.headline["precision"] == pytest.approx(100)


def test_every_variant_is_registered_with_a_description() -> None:
    wanted = {"ostrack", "pytracking", "matlab", "lasher", "rgbt234", "rgbt210", "gtot", "pysot", "got10k"}
    assert wanted <= set(METRICS)
    assert all(METRICS[name].about for name in METRICS)


def test_half_of_the_frames_lost_is_half_of_the_score() -> None:
    lost = _truth()
    lost[N // 2 :, :2] += 1000
    scores = evaluate("ostrack", [_result(prediction_xywh=lost)])
    assert scores.headline["op50"] == pytest.approx(50)
    assert scores.headline["precision"] == pytest.approx(50)


def test_validity_differs_between_the_two_editions() -> None:
    truth = _truth()
    truth[5, 0] = -1.0
    result = _result(gt_xywh=truth, prediction_xywh=truth.copy())
    assert evaluate("ostrack", [result]).headline["op50"] == pytest.approx(100)
    assert evaluate("pytracking", [result]).headline["op50"] == pytest.approx(95)


def test_absent_frames_raise_normalised_precision_except_on_lasot() -> None:
    visible = np.ones(N, bool)
    visible[10:] = False
    far = _truth()
    far[1:, 0] += 500
    result = _result(prediction_xywh=far, visible=visible)
    assert evaluate("ostrack", [result], dataset="lasot").headline["norm_precision"] == pytest.approx(5)
    assert evaluate("ostrack", [result], dataset="otb").headline["norm_precision"] == pytest.approx(55)


def test_a_short_result_is_an_error_that_names_the_sequence_on_lasot_and_padded_elsewhere() -> None:
    short = _result("car-3", prediction_xywh=_truth()[:15])
    scores = evaluate("ostrack", [_result(), short], dataset="lasot")
    assert (scores.names, scores.unscored) == (("a",), {"car-3": "15 rows for 20 frames"})
    padded = evaluate("ostrack", [short], dataset="otb")
    assert padded.headline["op50"] == pytest.approx(75)
    assert padded.note == "results with other numbers of rows than frames: car-3 (15 rows, 20 frames)"
    for variant in ("matlab", "lasher", "pysot", "rgbt210"):
        with pytest.raises(MetricError, match="car-3"):
            evaluate(variant, [short])


@pytest.mark.parametrize("variant", ["ostrack", "pytracking", "matlab", "lasher"])
def test_rows_behind_the_frames_are_not_cut_without_a_word(variant: str) -> None:
    long = _result("monkey-17", prediction_xywh=_truth(N + 2))
    scores = evaluate(variant, [_result(), long], dataset="lasot")
    assert scores.headline["precision"] == pytest.approx(100)
    assert scores.note is not None
    assert "monkey-17 (22 rows, 20 frames)" in scores.note


def test_every_sequence_that_cannot_be_scored_is_named_and_the_rest_is_scored() -> None:
    nan, negative = _truth(), _truth()
    nan[3] = np.nan
    negative[4, 2] = -5
    broken = [_result("x", prediction_xywh=nan), _result("y", prediction_xywh=negative), _result("z")]
    scores = evaluate("ostrack", broken, {"w": "its file is cut short"})
    assert scores.names == ("z",)
    assert scores.unscored.pop("w") == "its file is cut short"
    assert scores.headline == evaluate("ostrack", broken[2:]).headline
    assert scores.unscored == {"x": "NaN in the result", "y": "negative width or height in the result"}
    with pytest.raises(MetricError, match=r"no sequence can be scored by 'ostrack': x: NaN.*y: negative"):
        evaluate("ostrack", broken[:2])


def test_results_that_do_not_begin_with_the_given_box_are_named() -> None:
    truth = _truth() + 30.0 + np.arange(len(_truth()))[:, None] * [3.0, 0.0, 0.0, 0.0]
    results = [
        _result("x", gt_xywh=truth, prediction_xywh=np.vstack([truth[1:], truth[-1:]])),
        _result("y", gt_xywh=truth, prediction_xywh=np.floor(truth) + 1),
    ]
    note = evaluate("ostrack", results).note
    assert note is not None
    assert "1 of 2 results do not begin with the given box (x); is the row of the first frame missing" in note


@pytest.mark.parametrize("variant", ["ostrack", "matlab", "got10k", "pysot", "lasher"])
def test_infinite_boxes_and_corners_in_place_of_sizes_are_not_scored(variant: str) -> None:
    infinite = _truth() + 30.0
    corners = infinite.copy()
    corners[:, 2:] += corners[:, :2]
    truth = infinite.copy()
    infinite[7, 2] = np.inf
    shares = truth / 640
    numbered = np.hstack([np.ones((len(truth), 2)), truth, -np.ones((len(truth), 2))])  # MOT: frame, target, box, ...
    results = [
        _result(name, gt_xywh=truth, prediction_xywh=rows, image_size_wh=(640, 480))
        for name, rows in (("x", infinite), ("y", corners), ("z", truth), ("shares", shares), ("mot", numbered))
    ]
    centres = np.hstack([truth[:, :2] + truth[:, 2:] / 2, truth[:, 2:]])
    results.append(_result("centres", gt_xywh=truth, prediction_xywh=centres, image_size_wh=(640, 480)))
    turned = truth + np.array([0.0, 90.0, 5.0, 0.0])
    results.append(_result("yx", gt_xywh=turned, prediction_xywh=turned[:, [1, 0, 3, 2]], image_size_wh=(640, 480)))
    scored = np.hstack([np.arange(len(truth))[:, None], truth, np.ones((len(truth), 1))])
    results.append(_result("scored", gt_xywh=truth, prediction_xywh=scored, image_size_wh=(640, 480)))
    scores = evaluate(variant, results)
    assert scores.names == ("z",)
    around = "its rows have 1 numbers in front of x, y, w, h and 1 behind; x, y, w, h alone are expected"
    assert scores.unscored["scored"] == around
    assert scores.unscored["x"] == "the box of frame 7 is infinite"
    assert scores.unscored["y"] == "its first row is the first box as two corners, x, y, w, h are expected"
    assert scores.unscored["shares"] == "its first row has shares of the picture (0 to 1), pixels are expected"
    assert scores.unscored["centres"] == "its first row is the first box as centre and size, x, y, w, h are expected"
    assert scores.unscored["yx"] == "its first row is the first box as y, x, h, w, x, y, w, h are expected"
    assert scores.unscored["mot"] == "two numbers stand in front of x, y, w, h in its rows of 8 numbers"


@pytest.mark.parametrize("variant", sorted(METRICS))
def test_a_truth_that_a_variant_cannot_score_is_named_before_tracking_as_after_it(variant: str) -> None:
    """Every variant: NaN in a ground truth either has a rule, and finite scores, or its video alone is left out."""
    truth = _truth()
    truth[7] = np.nan
    passes = (range(N), range(N - 1, -1, -1)) if variant == "vot_multistart" else ()
    more = {
        "second_gt_xywh": truth,
        "image_size_wh": (300, 200),
        "confidence": np.linspace(0, 1, N),
        "passes": passes,
        "repetitions": (_truth(),) * (len(passes) - 1),
        "marks": (np.array([1] + [-1] * (N - 1)),),
    }
    results = [
        _result("nan", gt_xywh=truth, **more),
        *(_result(n, **{**more, "second_gt_xywh": _truth()}) for n in "ab"),
    ]
    options = {"low": 5, "high": 15} if variant in ("vot_multistart", "vot_supervised") else {}
    known = unscorable(variant, results, **options)
    scores = evaluate(variant, results, **options)
    assert scores.unscored == known
    assert set(known) == ({"nan"} if variant in ("ostrack", "pytracking", "got10k", "vot_supervised") else set())
    assert {*scores.names} | {*known} == {"nan", "a", "b"}
    assert all(np.isfinite(v) for v in scores.headline.values())


def test_nan_rows_of_the_truth_are_for_uav_only() -> None:
    truth = _truth()
    truth[7] = np.nan
    result = _result(gt_xywh=truth)
    with pytest.raises(MetricError, match="NaN in the ground truth"):
        evaluate("ostrack", [result], dataset="otb")
    assert evaluate("ostrack", [result], dataset="uav").headline["precision"] == pytest.approx(100)


def test_zero_boxes_repeat_the_row_before_and_gaps_chain() -> None:
    rows = _truth()
    rows[8:11, 2:] = 0
    repeated = _truth()
    repeated[8:11] = repeated[7]
    for variant in ("ostrack", "matlab"):
        a = evaluate(variant, [_result(prediction_xywh=rows)])
        b = evaluate(variant, [_result(prediction_xywh=repeated)])
        np.testing.assert_array_equal(a.curves["success"], b.curves["success"])


def test_matlab_leaves_out_sequences_without_any_success() -> None:
    truth = _truth()
    truth[0] = 0
    lost = np.full((N, 4), 1.0)
    scores = evaluate("matlab", [_result(), _result("gone", gt_xywh=truth, prediction_xywh=lost)])
    assert scores.headline["auc"] == pytest.approx(100 * 20 / 21)


def test_two_truths_take_the_better_one() -> None:
    other = _truth() + np.array([200, 0, 0, 0])
    for variant in ("rgbt234", "gtot"):
        scores = evaluate(variant, [_result(second_gt_xywh=_truth(), gt_xywh=other)])
        assert scores.overall("success")[10] == 1.0
        with pytest.raises(MetricError, match="second modality"):
            evaluate(variant, [_result()])


def test_got10k_pools_frames_and_leaves_out_the_first() -> None:
    long = _truth(30)
    lost = _truth(10) + np.array([900, 0, 0, 0])
    size = {"image_size_wh": (1000, 500)}
    results = [
        SequenceResult("long", long, long, **size),  # type: ignore[arg-type]
        SequenceResult("short", _truth(10), lost, **size),  # type: ignore[arg-type]
    ]
    scores = evaluate("got10k", results)
    assert scores.headline["ao"] == pytest.approx(100 * 29 / 38)
    assert scores.subset(["short"]).headline["sr50"] == 0
    with pytest.raises(MetricError, match="image size"):
        evaluate("got10k", [_result()])


def test_corner_results_are_boxes() -> None:
    x, y, w, h = _truth().T
    corners = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)
    for variant in ("ostrack", "lasher", "pysot"):
        scores = evaluate(variant, [_result(prediction_xywh=corners)])
        assert scores.headline["auc"] == pytest.approx(100 * 20 / 21)


def test_subset_average_and_their_errors() -> None:
    lost = _truth() + np.array([900, 0, 0, 0])
    scores = evaluate("matlab", [_result("good"), _result("bad", prediction_xywh=lost)])
    assert scores.subset(["good"]).headline["op50"] == pytest.approx(100)
    assert list(scores.subset(["bad", "good"]).per_sequence("op50")) == ["bad", "good"]
    with pytest.raises(MetricError, match="nobody"):
        scores.subset(["nobody"])
    other = evaluate("matlab", [_result("good"), _result("bad")])
    assert average_runs([scores, other]).per_sequence("op50")["bad"] == pytest.approx((5 + 100) / 2)


def test_an_unknown_option_or_variant_suggests_the_known_ones() -> None:
    with pytest.raises(TypeError, match="exclude_invalid_frames"):
        evaluate("ostrack", [_result()], exclude_invalid=True)
    with pytest.raises(KeyError, match="did you mean 'ostrack'"):
        evaluate("ostrak", [_result()])


def test_the_variant_of_the_docs_is_evaluated_like_the_others() -> None:
    page = (Path(__file__).parents[3] / "docs" / "results_and_reports.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    exec(code, {})
    away = _truth()
    away[5:, 0] += 10
    results = [_result("a"), _result("b", prediction_xywh=away)]
    scores = evaluate("close_corners", results, dataset="lasot")
    assert scores.headline == {"close": pytest.approx(100 * (1 + 5 / N) / 2)}
    assert scores.per_sequence() == pytest.approx({"a": 100.0, "b": 25.0})
    assert evaluate("close_corners", results, radius=10.0).headline["close"] == pytest.approx(100)
    with pytest.raises(TypeError, match="did you mean 'radius'"):
        evaluate("close_corners", results, radios=3)
    with pytest.raises(MetricError, match="b: 19 rows for 20 frames"):
        evaluate("close_corners", [_result("b", prediction_xywh=away[:-1])])


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        ("vot_multistart", {"low": "x"}, "option low must be a whole number, not 'x'"),
        ("vot_multistart", {"low": 1.5}, "option low must be a whole number, not 1.5"),
        ("vot_supervised", {"low": True}, "option low must be a whole number, not True"),
        ("ostrack", {"exclude_invalid_frames": "ja"}, "option exclude_invalid_frames must be true or false, not 'ja'"),
    ],
)
def test_an_option_of_another_kind_is_refused(variant: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_options(variant, options)
