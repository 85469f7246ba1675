"""Reports and tables: contents, completeness, self-contained pages, significance."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lib.bench.metrics import MetricError, SequenceResult, evaluate
from lib.bench.report import (
    TrackerRun,
    build_report,
    by_attribute,
    compare,
    comparison_tables,
    export,
    on_common_sequences,
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

    tags = {"occlusion", "scale", "blur"} if int(name[-1]) % 2 else {"occlusion"}
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


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    record = {"loader": "train", "kind": "epoch", "step": 5, "steps": 5, "terms": {"Loss/total": 1.0}, "lr": [0.1]}
    log.write_text("".join(json.dumps({**record, "epoch": e}) + "\n" for e in range(1, 6)))
    runs = [_run("ours <1>", 0.5), _run("other", 3.0)]
    path = build_report("A & B", "Toy", runs, SEQUENCES, training_log=log, out=tmp_path / "out")
    page = path.read_text()
    assert path.name == "report.html"
    outside = [u for u in re.findall(r"""(?:src|href)=["']([^"']+)""", page) if not u.startswith(("data:", "#"))]
    assert not outside
    assert "url(http" not in page
    assert "ours &lt;1&gt;" in page
    assert "ours <1>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for text in ("Success plot", "by attribute", "Worst sequences", "Loss/total", "abc123"):
        assert text in page
    players = re.findall(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert len(players) == 6
    for text in players:
        data = json.loads(text)
        assert [t["name"] for t in data["tracks"]] == ["ground truth", "ours <1>", "other"]
        assert len(data["frames"]) == len(data["numbers"]) == len(data["tracks"][1]["boxes"]) == N


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


def test_export_writes_every_table_and_plot(tmp_path: Path) -> None:
    runs = [_run("a_1", 0.5), _run("b", 3.0)]
    written = {p.name for p in export(runs, by_attribute(SEQUENCES, NAMES), tmp_path)}
    assert {"scores.csv", "scores.tex", "attributes.json", "differences.csv", "sequences.tex"} <= written
    assert {"success_plot.pdf", "precision_plot.png", "norm_precision_plot.pdf", "attribute_radar.png"} <= written
    assert (tmp_path / "success_plot.pdf").read_bytes().startswith(b"%PDF")
    assert r"a\_1" in (tmp_path / "scores.tex").read_text()


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
