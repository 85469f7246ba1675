"""The smallest overlap of two runs, where boxes are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.bench import compare_runs

HERE, AWAY, EMPTY, NONE = "10,10,20,20", "10,10,20,10", "5,5,0,0", "nan,nan,nan,nan"


@pytest.mark.parametrize(
    ("a", "b", "overlap"), [(HERE, HERE, 1), (HERE, AWAY, 0.5), (EMPTY, EMPTY, 1), (NONE, NONE, 1), (HERE, NONE, 0)]
)
def test_smallest_overlap(tmp_path: Path, a: str, b: str, overlap: float) -> None:
    for name, row in (("a", a), ("b", b)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "car-1.txt").write_text(f"{HERE}\n{row}\n")
    (found,) = compare_runs(tmp_path / "a", tmp_path / "b").sequences
    assert found.overlap == pytest.approx(overlap)
    assert found.differs == (overlap < 1)


@pytest.mark.parametrize("tolerance", [float("nan"), -1.0])
def test_a_tolerance_that_everything_passes_is_refused(tmp_path: Path, tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be at least 0 pixels"):
        compare_runs(tmp_path, tmp_path, tolerance)


def test_settings_are_compared_one_by_one_where_both_folders_have_a_manifest(tmp_path: Path) -> None:
    for name, batch in (("a", 1), ("b", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "car-1.txt").write_text(f"{HERE}\n")
        manifest = {"batch": batch, "versions": {"torch": "2.9", "timm": f"1.{batch}"}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert found.settings == {"batch": (1, 8), "versions.timm": ("1.1", "1.8")}
    (tmp_path / "a/manifest.json").unlink()
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert (found.settings, found.without_manifest) == ({}, [tmp_path / "a"])
