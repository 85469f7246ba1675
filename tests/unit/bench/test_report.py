"""Reports and tables: what they say, and that they are whole and self-contained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lib.bench.metrics import MetricError, SequenceResult, evaluate
from lib.bench.report import (
    TrackerRun,
    build_report,
    by_attribute,
    compare,
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
        picture = np.full((80, 120, 3), 90, np.uint8)
        x, y, w, h = boxes[i].astype(int)
        picture[y : y + h, x : x + w] = (200, 40, 40)
        return Frame(picture)

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
    assert "cannot be told apart" in same.sentence()


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
    panels, _ = training_lines(log)
    np.testing.assert_allclose(panels["IoU"][0].x, [0.5, 1.0])
    log.write_text('{"a": \n' + json.dumps(steps[0]) + "\n")
    with pytest.raises(ValueError, match="line 1"):
        training_lines(log)
