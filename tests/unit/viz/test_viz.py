"""Drawing, videos, tables and plots."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import Frame, Video
from lib.files import sentence
from lib.viz import (
    BoxMark,
    Column,
    Line,
    Table,
    VideoWriter,
    curve_plot,
    draw_boxes,
    draw_caption,
    draw_frame,
    inline_svg,
    radar_plot,
    render_page,
    save_figure,
    scatter_plot,
    shrink,
    training_plot,
    video_tracks,
    write_video,
)


def test_boxes_are_drawn_on_a_copy_in_their_colour() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    out = draw_boxes(image, [BoxMark([10, 20, 30, 25], "#0072B2", "me")])
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


def test_aux_is_shown_next_to_rgb_with_the_same_boxes() -> None:
    frame = Frame(np.zeros((40, 60, 3), np.uint8), np.full((20, 30, 3), 9, np.uint8))
    plain = draw_frame(frame)
    assert plain.shape == (40, 120, 3)
    assert (plain[:, 60:] == 9).all()
    drawn = draw_frame(frame, [BoxMark([10, 15, 20, 20], "#0072B2")])
    assert tuple(drawn[35, 20]) == tuple(drawn[35, 80]) == (0, 0x72, 0xB2)
    assert draw_frame(frame, caption="frame 1", longest=60).shape == (20, 60, 3)
    assert not frame.rgb.any()


def test_images_only_shrink() -> None:
    frame = Frame(np.zeros((40, 60, 3), np.uint8))
    assert shrink(frame.rgb, 30).shape == (20, 30, 3)
    assert shrink(frame.rgb, 100) is frame.rgb


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


def test_a_video_is_h264_with_pyav_and_says_so_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(name: str) -> tuple[str, str]:
        with VideoWriter(tmp_path / name, fps=29.97) as video:
            for i in range(5):
                video.write(np.full((60, 80, 3), 20 * i, np.uint8))
        reader = cv2.VideoCapture(str(video.path))
        assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 5
        return int(reader.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode(), video.note

    with monkeypatch.context() as without:
        without.setitem(sys.modules, "av", None)
        codec, note = written("a.mp4")
        assert codec not in ("avc1", "h264")
        assert "after `pip install av` it is H.264" in note
    pytest.importorskip("av")
    for name in ("b.mp4", "c.txt"):
        assert written(name) in (("avc1", ""), ("h264", ""))
    assert (tmp_path / "c.mp4").is_file()


def test_two_programs_write_one_video_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoWriter(tmp_path / "v.mp4") as first:
        first.write(np.zeros((32, 32, 3), np.uint8))
        with monkeypatch.context() as other, VideoWriter(tmp_path / "v.mp4") as second:
            other.setattr(os, "getpid", os.getppid)
            for _ in range(9):
                second.write(np.zeros((64, 64, 3), np.uint8))
        first.write(np.zeros((32, 32, 3), np.uint8))
    reader = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert (reader.get(cv2.CAP_PROP_FRAME_COUNT), reader.get(cv2.CAP_PROP_FRAME_WIDTH)) == (2, 32)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_a_video_that_cannot_be_written_says_so_at_its_first_frame() -> None:
    video = VideoWriter("/proc/v.mp4")  # no files are made here
    with pytest.raises(OSError, match=r"v\.mp4") as caught:
        video.write(np.zeros((32, 32, 3), np.uint8))
    assert sentence(caught.value) == "/proc/v.mp4: no such file or directory"


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


def test_the_best_of_each_row_is_marked_and_bold_in_a_terminal() -> None:
    columns = [Column("Video"), Column("a", 1, best=True), Column("b", 1, best=True), Column("n", 1)]
    table = Table("", columns, [["x", 1.0, 2.0, 9.0], ["y", None, 4.0, 9.0], ["z", 3.04, 3.0, 9.0]], by_row=True)
    assert table.best() == [set(), {2}, {0, 2}, set()]
    line = table.text(bold=True).splitlines()[2]
    assert "\x1b[1m2.0*\x1b[0m" in line
    assert line.replace("\x1b[1m", "").replace("\x1b[0m", "") == table.text().splitlines()[2]


def test_figures_of_a_cited_value_are_in_brackets() -> None:
    table = Table("", [Column("t"), Column("AUC (published)", 1, cited=True)], [["a", 69.1], ["b", None]])
    assert [line.split()[-1] for line in table.text().splitlines()[2:]] == ["(69.1)", "-"]
    assert "(69.1)" in table.latex()
    assert table.csv().splitlines()[1] == "a,69.1"


def test_the_scatter_names_the_videos_far_from_the_diagonal() -> None:
    figure = scatter_plot([10.0, 50.0, 90.0], [80.0, 51.0, 20.0], ["up", "same", "down"], ("a", "b"), most=2)
    assert [text.get_text() for text in figure.axes[0].texts] == ["up", "down"]


def test_tables_are_written_in_every_form() -> None:
    text = TABLE.text().splitlines()
    assert "71.3*" in text[3]
    assert text[5].split() == ["d", "-", "-"]
    assert TABLE.csv().splitlines()[1] == "a_b,71.26,1.0"
    assert r"a\_b & \textbf{71.3} & +1.0 \\" in TABLE.latex()
    assert json.loads(TABLE.json())["rows"][2] == {"Tracker": "d", "AUC": None, "Lead": None}


@pytest.mark.slow
def test_figures_are_files_and_svg_in_the_colour_of_the_page(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 21)
    figure = curve_plot("success", [Line("a$b^{_$", x, 1 - x, 50.0), Line("b", x, (1 - x) ** 2, 33.0)], "Toy")
    assert [p.suffix for p in save_figure(figure, tmp_path / "p")] == [".png", ".pdf"]
    svg = inline_svg(figure, "success curves")
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "[50.0] a" in svg
    assert ">_mine<" in inline_svg(radar_plot(["a", "b", "c"], {"_mine": [1.0, 2.0, 3.0]}), "radar")
    assert ">_mine<" in inline_svg(curve_plot("success", [Line("_mine", x, 1 - x)], "Toy"), "success curves")
    inline_svg(training_plot("Loss", [Line("train", x, x + 1)]), "training")
    with pytest.raises(ValueError, match="three attributes"):
        radar_plot(["a"], {"t": [1.0]})


def test_small_p_values_are_bounds() -> None:
    table = Table("", [Column("p", 4, smallest=1e-4), Column("x", 4)], [[3e-6, 3e-6], [0.25, 1.0]])
    assert [line.split() for line in table.text().splitlines()[2:]] == [["<", "0.0001", "0.0000"], ["0.2500", "1.0000"]]
    assert "$<$ 0.0001" in table.latex()
    assert table.csv().splitlines()[1] == "3e-06,3e-06"


TEMPLATE = """{% extends "page.html" %}
{% import "parts.html" as parts %}
{% set sections = ["One <two>"] %}
{% block content %}
{% call parts.section("One <two>", "5 < 6") %}
{{ parts.cards([("a", "<1>", "")]) }}{{ parts.table(table, {"a_b": "#123456"}) }}
{{ parts.details("d", {"k": {"<x>": "</script>"}}) }}
{% endcall %}
{% endblock %}
"""


def test_a_page_escapes_its_values(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_text(TEMPLATE)
    html = render_page(tmp_path / "t.html", {"title": "<b>", "subtitle": "x & y", "table": TABLE})
    assert "<title>&lt;b&gt;</title>" in html
    assert "5 &lt; 6" in html
    assert "k.&lt;x&gt;" in html
    assert "&lt;c&gt;" in html
    assert html.count(' best"') == 2
    assert html.count("background:#123456") == 1
    assert 'data-v="71.26"' in html
    assert html.count("</script>") == 1
    assert html.count('<section id="one-two">') == html.count("</section>") == html.count('href="#one-two"') == 1


def test_a_template_without_a_value_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_text(TEMPLATE)
    with pytest.raises(Exception, match="'subtitle' is undefined"):
        render_page(tmp_path / "t.html", {"title": "", "table": TABLE})


def moving_target(frames: int = 6) -> Video:
    x = np.arange(frames) * 4.0 + 8
    boxes = np.stack([x, np.full(frames, 20.0), np.full(frames, 16.0), np.full(frames, 12.0)], axis=1)
    visible = np.arange(frames) != 2
    return Video("ball", boxes, visible, visible, lambda i: Frame(np.zeros((48, 64, 3), np.uint8)), str)


def test_tracks_of_a_video_are_the_truth_and_each_tracker_with_overlaps() -> None:
    video = moving_target()
    x, y, w, h = video.boxes_xywh.T
    corners = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)
    given = {"short": video.boxes_xywh[:4] + np.array([8, 0, 0, 0]), "exact": corners}
    truth, short, exact = video_tracks(video, given, {"exact": "#000000"})
    assert np.flatnonzero(np.isnan(truth.boxes_xywh).any(axis=1)).tolist() == [2]
    assert truth.dashed
    assert short.values == pytest.approx([1 / 3, 1 / 3, np.nan, 1 / 3, np.nan, np.nan], nan_ok=True)
    assert exact.boxes_xywh == pytest.approx(video.boxes_xywh)
    assert exact.values == pytest.approx([1, 1, np.nan, 1, 1, 1], nan_ok=True)
    assert exact.colour == "#000000"


def test_a_written_video_shows_the_boxes_of_every_frame(tmp_path: Path) -> None:
    video = moving_target()
    path = write_video(tmp_path / "v.avi", video, video_tracks(video, {"t": video.boxes_xywh}, {"t": "#FF0000"}))
    reader = cv2.VideoCapture(str(path))
    images = []
    while (read := reader.read())[0]:
        images.append(read[1].astype(int))
    assert len(images) == 6
    assert min(((p[..., 2] - p[..., 1]) > 60).sum() for p in images) > 20


def test_the_line_of_right_scores_is_no_tracker() -> None:
    x = np.array([0.2, 0.8])
    figure = curve_plot("reliability", [Line("a", x, x), Line("b", x, x)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert len({str(line.get_color()) for line in figure.axes[0].lines}) == 3
