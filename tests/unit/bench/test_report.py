"""Reports and tables: contents, completeness, self-contained pages, significance."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lib.bench.metrics import MetricError, SequenceResult, evaluate, reliability
from lib.bench.report import (
    TrackerRun,
    attribute_figure,
    build_report,
    by_attribute,
    compare,
    comparison_tables,
    export,
    on_common_sequences,
    size_bias,
    training_lines,
    worst_and_best,
)
from lib.data import Frame, Video

N = 12
NAMES = [f"ball-{i}" for i in range(6)]


def _sequence(name: str) -> Video:
    boxes = np.stack([np.arange(N) * 2.0 + 10, np.full(N, 20.0), np.full(N, 24.0), np.full(N, 18.0)], axis=1)
    visible = np.ones(N, bool)

    def read(i: int) -> Frame:
        image = np.full((80, 120, 3), 90, np.uint8)
        x, y, w, h = boxes[i].astype(int)
        image[y : y + h, x : x + w] = (200, 40, 40)
        return Frame(image)

    tags = {"occlusion", "scale", "blur"} if int(name[-1]) else {"occlusion", "rare"}
    return Video(name, boxes, visible, visible, read, lambda i: f"{i}.jpg", attributes=frozenset(tags))


SEQUENCES = [_sequence(name) for name in NAMES]


def _run(name: str, noise: float, keep: int = 6) -> TrackerRun:
    rng = np.random.default_rng(1)
    results = {
        s.name: s.boxes_xywh + np.append(rng.normal(0, noise * (i + 1), 2), [0, 0])
        for i, s in enumerate(SEQUENCES[:keep])
    }
    scored = [SequenceResult(s.name, s.boxes_xywh, results[s.name]) for s in SEQUENCES[:keep]]
    return TrackerRun(name, results, evaluate("ostrack", scored), {"config_hash": "abc123", "device": "cpu"})


@pytest.mark.slow
def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    record = {"loader": "train", "kind": "epoch", "step": 5, "steps": 5, "terms": {"Loss/total": 1.0}, "lr": [0.1]}
    log.write_text("".join(json.dumps({**record, "epoch": e}) + "\n" for e in range(1, 6)))
    runs = [_run("ours <1>", 0.5), _run("other", 3.0)]
    about = {"other": "a box that <never> moves"}
    path = build_report("A & B", "Toy", runs, SEQUENCES, training_log=log, out=tmp_path / "out", about=about)
    page = path.read_text()
    assert path.name == "report.html"
    outside = [u for u in re.findall(r"""(?:src|href)=["']([^"']+)""", page) if not u.startswith(("data:", "#"))]
    assert not outside
    assert "url(http" not in page
    assert "ours &lt;1&gt;" in page
    assert "<b>other</b>: a box that &lt;never&gt; moves" in page
    assert "ours <1>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for text in ("Success plot", "by attribute", "Worst sequences", "Loss/total", "Learning rate", "abc123"):
        assert text in page
    assert page.count('aria-label="Loss/total of the training"') == page.count('aria-label="Learning rate of the') == 1
    players = re.findall(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert len(players) == 6
    for text in players:
        data = json.loads(text)
        assert [t["name"] for t in data["tracks"]] == ["ground truth", "ours <1>", "other"]
        assert len(data["frames"]) == len(data["numbers"]) == len(data["tracks"][1]["boxes"]) == N


def test_trackers_are_ranked_and_the_best_of_each_row_is_marked() -> None:
    poor, good = (
        _run("poor", 6.0),
        replace(_run("good", 0.2), published={"AUC": 71.25}, fps=31.0, parameters=92_000_000),
    )
    tables = comparison_tables([poor, good], by_attribute(SEQUENCES, NAMES))
    assert [row[0] for row in tables["scores"].rows] == ["good", "poor"]
    titles = [column.title for column in tables["scores"].columns]
    assert titles[-3:] == ["AUC (published)", "fps", "Params [M]"]
    assert tables["scores"].text().splitlines()[2].split()[-3:] == ["(71.2)", "31.0", "92.0"]
    assert tables["scores"].rows[1][-3:] == [None, None, None]
    assert tables["scores"].best()[titles.index("AUC (published)")] == set()
    attributes = tables["attributes"]
    assert [column.title for column in attributes.columns][:4] == ["Attribute", "Sequences", "good", "poor"]
    assert attributes.best()[2:] == [{0, 1, 2, 3}, set()]
    assert [attributes.rows[i][0] for i in attributes.faint] == ["rare"]
    assert tables["sequences"].latex().count(r"\textbf") == len(NAMES)
    assert tables["sequences"].csv().splitlines()[1].split(",")[-1].startswith("-")


def test_boxes_twice_as_large_have_a_size_bias_of_the_logarithm_of_two() -> None:
    truth = np.tile([10.0, 10.0, 20.0, 10.0], (4, 1))
    found = truth * [1, 1, 2, 1]
    truth[3, 2:] = np.nan
    found[0, 2:] = 900
    assert size_bias(found, truth) == pytest.approx(np.log(2))
    assert size_bias(found[:2], truth) is None, "a result that has not one box for each frame"
    assert size_bias(found[:1], truth[:1]) is None
    run = replace(_run("a", 0.5), size_biases={NAMES[0]: 0.5, NAMES[1]: -0.1, "not scored": 9.0})
    scores = comparison_tables([run, _run("b", 0.5)], {})["scores"]
    assert [dict(zip([c.title for c in scores.columns], row, strict=True))["Size bias"] for row in scores.rows] == [
        pytest.approx(0.2),
        None,
    ]


@pytest.mark.slow
def test_the_reliability_of_scores_is_a_figure_and_two_columns(tmp_path: Path) -> None:
    rating = reliability(np.array([0.1, 0.9, 0.8]), np.array([0.0, 0.9, 1.0]))
    runs = [replace(_run("a", 0.5), reliability=rating), _run("b", 0.5)]
    scores = comparison_tables(runs, {})["scores"]
    assert [c.title for c in scores.columns][-2:] == ["AUROC lost", "ECE"]
    assert sorted(row[-2:] for row in scores.rows if row[0] == "a") == [[1.0, pytest.approx((0.1 + 0.2) / 3)]]
    page = build_report("T", "Toy", runs, out=tmp_path / "x.html").read_text()
    assert "Reliability of scores" in page
    assert "Reliability of scores" not in build_report("T", "Toy", runs[1:], out=tmp_path / "y.html").read_text()


@pytest.mark.slow
def test_cards_name_their_tracker_and_say_behind_the_best(tmp_path: Path) -> None:
    poor, good = _run("poor", 6.0), _run("good", 0.2)
    page = build_report("T", "Toy", [poor, good], out=tmp_path / "x.html").read_text()
    lead = good.scores.headline["auc"] - poor.scores.headline["auc"]
    assert f"<span>Behind the best</span><b>{lead:.1f}</b><small>AUC: poor against good</small>" in page
    assert f"<small>poor; best: good {good.scores.headline['auc']:.1f}</small>" in page
    page = build_report("T", "Toy", [good, poor], out=tmp_path / "x.html").read_text()
    assert f"<span>Ahead of the next</span><b>{lead:.1f}</b>" in page


@pytest.mark.slow
def test_players_open_where_the_target_is_lost_and_the_sequence_table_links_to_them(tmp_path: Path) -> None:
    run = _run("a", 0.1)
    boxes = dict(run.results)
    boxes["ball-2"] = boxes["ball-2"] + np.where(np.arange(N)[:, None] < 2, 0, [500, 0, 0, 0])
    scored = [SequenceResult(s.name, s.boxes_xywh, boxes[s.name]) for s in SEQUENCES]
    lost = TrackerRun("a", boxes, evaluate("ostrack", scored))
    page = build_report("T", "Toy", [lost, _run("b", 1.0)], SEQUENCES, out=tmp_path / "x.html").read_text()
    found = WellFormed(page)
    starts = [data["numbers"][data["start"]] for data in map(json.loads, found.scripts[:-1])]
    assert starts[0] == 2
    assert "lost from frame 2" in page
    assert starts[3:] == [0, 0, 0]
    linked = re.findall(r'<a href="#(video-\d)">(ball-\d)</a>', page)
    assert len(linked) == 6
    assert linked[0] == ("video-0", "ball-2")
    assert {link for link, _ in linked} <= set(found.ids)


@pytest.mark.slow
def test_attributes_of_few_sequences_have_no_point_on_the_radar() -> None:
    runs = [_run("a", 1.0), _run("b", 2.0)]
    attributes = by_attribute(SEQUENCES, NAMES)
    figure = attribute_figure(runs, attributes)
    assert figure is not None
    wheel = figure.axes[0]
    labels = {text.get_text(): text.get_color() for text in wheel.get_xticklabels()}
    assert list(labels)[-1] == "rare (1)"
    assert labels["rare (1)"] != labels["blur (5)"]
    assert np.flatnonzero(np.isnan(wheel.lines[0].get_ydata())).tolist() == [3]
    assert attribute_figure(runs, {name: attributes[name] for name in ("blur", "occlusion", "rare")}) is None


def test_a_report_without_frames_or_attributes_still_compares(tmp_path: Path) -> None:
    path = build_report("T", "Toy", [_run("a", 1.0)], out=tmp_path / "x.html")
    assert "Worst sequences" not in path.read_text()


def test_only_common_sequences_are_compared() -> None:
    runs = on_common_sequences([_run("a", 1.0), _run("b", 1.0, keep=4)])
    assert [r.scores.names for r in runs] == [tuple(NAMES[:4])] * 2


def test_scores_of_two_variants_do_not_mix() -> None:
    a, b = _run("a", 1.0), _run("b", 1.0)
    other = evaluate("matlab", [SequenceResult(s.name, s.boxes_xywh, s.boxes_xywh) for s in SEQUENCES])
    with pytest.raises(MetricError, match="one metric variant"):
        on_common_sequences([a, TrackerRun("b", b.results, other)])


def test_worst_and_best_never_overlap() -> None:
    run = _run("a", 2.0)
    scores = run.scores.per_sequence()
    for count in (1, 2, 3, 5):
        worst, best = worst_and_best(run, count)
        assert not set(worst) & set(best)
        assert max(scores[n] for n in worst) <= min(scores[n] for n in best)


def test_paired_comparison_finds_a_difference_and_none() -> None:
    a, b = _run("a", 0.2).scores, _run("b", 4.0).scores
    found = compare(a, b, ("a", "b"))
    assert found.mean > 0
    assert found.low > 0
    assert found.wins == 6
    assert found.wilcoxon_p == pytest.approx(2 / 2**6)
    same = compare(a, a, ("a", "a"))
    assert (same.mean, same.wilcoxon_p, same.bootstrap_p) == (0.0, 1.0, 1.0)


def test_paired_bootstrap_has_the_interval_of_resampled_means() -> None:
    a, b = _run("a", 1.0).scores, _run("b", 1.5).scores
    difference = np.array([a.per_sequence()[name] - b.per_sequence()[name] for name in NAMES])
    drawn = np.random.default_rng(0).integers(0, len(NAMES), (10_000, len(NAMES)))
    means = difference[drawn].mean(axis=1)
    found = compare(a, b, ("a", "b"))
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    tail = max(1e-4, min((means <= 0).mean(), (means >= 0).mean()))
    assert found.bootstrap_p == pytest.approx(min(1, max(2 / 2 ** len(NAMES), 2 * tail)))
    assert found == compare(a, b, ("a", "b"))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_sequences_have_no_p_value(count: int) -> None:
    a, b = (_run(name, noise, keep=count) for name, noise in (("a", 0.2), ("b", 4.0)))
    found = compare(a.scores, b.scores, ("a", "b"))
    assert (found.wilcoxon_p, found.bootstrap_p) == (None, None)
    assert found.low <= found.mean <= found.high
    if count > 1:
        head, row = comparison_tables([a, b], {})["differences"].csv().splitlines()
        shown = dict(zip(head.split(","), row.split(","), strict=True))
        assert shown["p (Wilcoxon)"] == shown["p (bootstrap)"] == "n too small"


def test_the_bootstrap_claims_no_more_than_the_signs_of_so_few_sequences_can_show() -> None:
    better, worse = (_run(name, noise, keep=6) for name, noise in (("a", 0.2), ("b", 9.0)))
    found = compare(better.scores, worse.scores, ("a", "b"))
    assert found.wins == 6
    assert found.bootstrap_p == found.wilcoxon_p == pytest.approx(2 / 2**6)


class WellFormed(HTMLParser):
    """Checks that tags close in order; collects ids, links within the page, and the text of scripts."""

    ALONE = ("meta", "img", "path", "use")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if tag == "a" else []
        self.scripts += [""] if tag == "script" else []
        self.open += [tag] if tag not in self.ALONE else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [v or "" for k, v in attrs if k == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.ALONE:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


@pytest.mark.slow
def test_text_cannot_leave_the_script_block_or_become_markup(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script><!--"
    page = build_report(name, name, [_run(name, 0.5), _run("b", 1.0)], SEQUENCES, out=tmp_path / "x.html").read_text()
    found = WellFormed(page)
    assert "<script>alert" not in page
    assert set(found.links) <= {f"#{i}" for i in found.ids}
    assert len(found.ids) == len(set(found.ids))
    *players, code = found.scripts
    assert [json.loads(text)["tracks"][1]["name"] for text in players] == [name] * 6
    assert "alert" not in code


@pytest.mark.slow
def test_export_writes_every_table_and_plot(tmp_path: Path) -> None:
    runs = [_run("a_1", 0.5), _run("b", 3.0)]
    written = {p.name for p in export(runs, by_attribute(SEQUENCES, NAMES), tmp_path)}
    assert {"scores.csv", "scores.tex", "attributes.json", "differences.csv", "sequences.tex"} <= written
    assert {"success_plot.pdf", "precision_plot.png", "norm_precision_plot.pdf", "attribute_radar.png"} <= written
    assert {"sequence_scatter.png", "sequence_scatter.pdf"} <= written
    assert (tmp_path / "success_plot.pdf").read_bytes().startswith(b"%PDF")
    assert r"a\_1" in (tmp_path / "scores.tex").read_text()
    (tmp_path / "notes.csv").touch()
    alone = {p.name for p in export(runs[:1], {}, tmp_path)}
    assert {p.name for p in tmp_path.iterdir()} == {*alone, "notes.csv"}
    assert alone < written


def test_the_log_of_a_killed_training_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    steps = [
        {"loader": "train", "kind": "step", "epoch": 1, "step": s, "steps": 4, "terms": {"IoU": s / 4}} for s in (2, 4)
    ]
    log.write_text("\n".join(map(json.dumps, steps)) + '\n{"loader": "tr')
    panels = training_lines(log)
    np.testing.assert_allclose(panels["IoU"][0].x, [0.5, 1.0])
    log.write_text('{"a": \n' + json.dumps(steps[0]) + "\n")
    with pytest.raises(ValueError, match="line 1"):
        training_lines(log)
