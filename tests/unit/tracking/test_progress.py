"""Progress where there is no terminal: lines, and only of work that takes long."""

from __future__ import annotations

import pytest

from tracking import _progress


@pytest.mark.parametrize(
    ("total", "seconds", "said"),
    [
        (None, 0.0, "clip: 1 frames\nclip: 2 frames\n"),
        (2, 0.0, "clip: 1 of 2 frames, ETA 00:00\nclip: 2 of 2 frames, ETA 00:00\n"),
        (2, 60.0, ""),
    ],
)
def test_lines_in_place_of_a_bar(
    total: int | None, seconds: float, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "LINE_SECONDS", seconds)
    with _progress.show_progress("clip", total, unit="frames") as meter:
        meter.update()
        meter.update()
    assert capsys.readouterr().err.replace("\r", "") == said
