"""Drawing, videos, tables and plots."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import Frame
from lib.viz import (
    BoxMark,
    Column,
    Line,
    Page,
    Table,
    VideoWriter,
    curve_plot,
    draw_boxes,
    draw_caption,
    fit,
    inline_svg,
    radar_plot,
    save,
    side_by_side,
    table_html,
    training_plot,
)


def test_boxes_are_drawn_on_a_copy_in_their_colour() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    out = draw_boxes(image, [BoxMark([10, 20, 30, 25], "#0072B2", "me")], thickness=1)
    assert not image.any()
    assert tuple(out[45, 25]) == (0, 0x72, 0xB2)


@pytest.mark.parametrize(
    "box", [[np.nan] * 4, [5, 5, 0, 3], [-1e9, -1e9, 2e9, 2e9], [500, 500, 10, 10], [70, 1, 30, 4]]
)
def test_any_box_can_be_drawn(box: list[float]) -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    marks = [BoxMark(box, "#D55E00", "label", dashed) for dashed in (False, True)]
    assert draw_boxes(image, marks).shape == image.shape
    assert draw_caption(image, "frame 1").shape == image.shape


def test_aux_stands_beside_rgb_and_fit_only_shrinks() -> None:
    frame = Frame(np.zeros((40, 60, 3), np.uint8), np.full((20, 30, 3), 9, np.uint8))
    assert side_by_side(frame).shape == (40, 120, 3)
    assert fit(frame.rgb, 30).shape == (20, 30, 3)
    assert fit(frame.rgb, 100) is frame.rgb


def test_a_video_holds_its_frames(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a" / "v.mp4", fps=10) as video:
        for i in range(7):
            video.write(np.full((61, 81, 3), (200, 20 * i, 0), np.uint8))
    assert list(video.path.parent.iterdir()) == [video.path]
    reader = cv2.VideoCapture(str(video.path))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1])
    assert len(frames) == 7
    assert frames[0].shape == (60, 80, 3)
    assert abs(int(frames[3][30, 40, 2]) - 200) < 16


def test_a_failed_video_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "v.mp4") as video:
            video.write(np.zeros((32, 32, 3), np.uint8))
            video.write(np.zeros((32,), np.uint8))

    with pytest.raises((IndexError, ValueError, cv2.error)):
        fail()
    assert not list(tmp_path.iterdir())


TABLE = Table(
    "Scores & more",
    [Column("Tracker"), Column("AUC", 1, best=True), Column("Lead", 1, signed=True)],
    [["a_b", 71.26, 1.0], ["<c>", 71.31, -1.0], ["d", float("nan"), None]],
)


def test_the_best_is_marked_as_printed_ties_too() -> None:
    tied = Table("", TABLE.columns, [["a", 71.26, 0.0], ["b", 71.31, 0.0], ["c", 70.0, 0.0]])
    assert tied.best()[1] == {0, 1}
    assert TABLE.best()[1] == {0, 1}


def test_tables_are_written_in_every_form() -> None:
    text = TABLE.text().splitlines()
    assert "71.3*" in text[3]
    assert text[5].split() == ["d", "-", "-"]
    assert TABLE.csv().splitlines()[1] == "a_b,71.26,1.0"
    assert r"a\_b & \textbf{71.3} & +1.0 \\" in TABLE.latex()
    assert json.loads(TABLE.json())["rows"][2] == {"Tracker": "d", "AUC": None, "Lead": None}
    html = table_html(TABLE, {"a_b": "#123456"})
    assert "&lt;c&gt;" in html
    assert html.count("best") == 2


def test_figures_are_files_and_svg_in_the_colour_of_the_page(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 21)
    figure = curve_plot("success", [Line("a", x, 1 - x, 50.0), Line("b", x, (1 - x) ** 2, 33.0)], "Toy")
    assert [p.suffix for p in save(figure, tmp_path / "p")] == [".png", ".pdf"]
    svg = inline_svg(figure, "success curves")
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "[50.0] a" in svg
    inline_svg(radar_plot(["a", "b", "c"], {"t": [1.0, 2.0, 3.0]}), "radar")
    inline_svg(training_plot({"Loss": [Line("train", x, x + 1)]}), "training")
    with pytest.raises(ValueError, match="three attributes"):
        radar_plot(["a"], {"t": [1.0]})


def test_a_page_escapes_what_it_is_given() -> None:
    page = Page("<b>", "x & y")
    page.section("One <two>", "5 < 6")
    page.cards([("a", "<1>", "")])
    page.details("d", {"k": {"<x>": "</script>"}})
    html = page.html()
    assert "&lt;b&gt;" in html
    assert "5 &lt; 6" in html
    assert html.count("</script>") == 1
    assert html.count("<section") == html.count("</section>") == 1
