"""What a comparison of several trackers costs, and what it says where there is nothing to compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from lib.bench import Comparison
from lib.bench.metrics import MetricError
from lib.bench.report import on_common_sequences
from tests.unit.bench.test_report import NAMES, SEQUENCES, _run


@pytest.mark.slow
def test_paired_tests_of_all_tables_are_computed_once_for_each_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    bootstrap = stats.bootstrap
    monkeypatch.setattr(stats, "bootstrap", lambda *a, **options: computed.append(1) or bootstrap(*a, **options))
    runs = [_run("a", 0.37), _run("b", 3.1), _run("c", 2.3)]
    compared = Comparison("Toy", runs, SEQUENCES)
    repr(compared)
    compared.write_report(tmp_path)
    assert len(computed) == 3


def test_trackers_with_no_sequence_in_common_say_what_each_lacks() -> None:
    a, b = _run("a", 1.0), _run("b", 1.0)
    first, *others = NAMES
    a = replace(a, scores=replace(a.scores.subset([first]), unscored={others[0]: "a negative width"}))
    b = replace(b, scores=b.scores.subset(others))
    with pytest.raises(MetricError, match=f"in common; {others[0]} of a cannot be scored: a negative width"):
        on_common_sequences([a, b])
