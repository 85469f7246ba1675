"""Labels from optical flow: candidates, path, boxes between them, qualities; and the same labels however a run goes."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from itertools import pairwise, product
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import (
    AdaptiveFlow,
    AnnotationError,
    DirectoryStore,
    LabelJob,
    LabelSettings,
    StoredFlow,
    best_path,
    candidate_boxes,
    make_labels,
    make_track,
    path_agreement,
    smooth_windows,
)
from lib.data.datasets import OwnDataset
from tests.support.commands import run_and_kill, run_python

ROOT = Path(__file__).parents[3]
SETTINGS = LabelSettings()
REWARD = 0.091


def moving_square(x: float, y: float, side: int = 40, height: int = 240, width: int = 320) -> np.ndarray:
    """[H, W, 3] a textured square on a textured ground."""
    ground = np.random.default_rng(0).integers(0, 120, (height // 8, width // 8, 3)).astype(np.uint8)
    picture = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
    texture = np.random.default_rng(1).integers(100, 256, (side // 4, side // 4, 3)).astype(np.uint8)
    texture = cv2.resize(texture, (side, side), interpolation=cv2.INTER_CUBIC)
    picture[round(y) : round(y) + side, round(x) : round(x) + side] = texture
    return picture


def write_video(folder: Path, frames: int = 24, speed: float = 3.0, y: int = 90, boxes: bool = True) -> None:
    folder.mkdir(parents=True)
    places = [60 + speed * i for i in range(frames)]
    for i, x in enumerate(places):
        cv2.imwrite(str(folder / f"{i + 1:04d}.jpg"), moving_square(x, y), [cv2.IMWRITE_JPEG_QUALITY, 95])
    if boxes:
        (folder / "groundtruth.txt").write_text("".join(f"{round(x)},{y},40,40\n" for x in places))


def videos(root: Path) -> OwnDataset:
    return OwnDataset(DirectoryStore(root), name="mine", needs_boxes=False)


def path_value(boxes: list[np.ndarray]) -> float:
    return -REWARD * len(boxes) - sum(float(path_agreement(a, b)) for a, b in pairwise(boxes))


def test_the_path_is_the_best_of_all():
    rng = np.random.default_rng(3)
    for _ in range(20):
        candidates = []
        for _ in range(5):
            corner = rng.uniform(0, 60, (rng.integers(1, 3), 2))
            candidates.append(np.concatenate([corner, corner + rng.uniform(20, 60, corner.shape)], axis=1))
        chains = [
            [candidates[f][c] for f, c in enumerate(choice) if c >= 0]
            for choice in product(*(range(-1, len(c)) for c in candidates))
        ]
        best = min(path_value(chain) for chain in chains if chain)
        places, boxes = best_path(candidates)
        assert list(places) == sorted(set(places))
        assert path_value(list(boxes)) == pytest.approx(best, abs=1e-12)


def test_a_path_leaves_out_at_most_a_hundred_frames_with_candidates():
    far, near = np.array([[200.0, 200, 240, 240]]), np.array([[10.0, 10, 50, 50]])
    places, _ = best_path([near, *[far] * 99, near])
    assert 0 not in places  # the ninety-nine agree with one another, too
    tiny = [np.array([[1000.0 * i, 0, 1000 * i + 1, 1]]) for i in range(1, 120)]
    assert list(best_path([near, *tiny[:99], near])[0]) == [0, 100]
    assert len(best_path([near, *tiny[:100], near])[0]) == 1


def test_boxes_between_two_found_ones_in_both_orders():
    boxes = np.array([[0.0, 0, 40, 40], [3, 0, 43, 40]])
    candidates = [boxes[:1], boxes[1:]]
    for linear, expected in ((True, [0, 0, 0, 0, 1, 2, 3, 3, 3, 3]), (False, [0, 0, 0, 0, 2, 1, 3, 3, 3, 3])):
        settings = LabelSettings(linear=linear)
        track = make_track(candidates, 10, (320, 240), settings, np.random.default_rng(0))
        assert track.boxes[:, 0].tolist() == pytest.approx(expected)


def test_boxes_outside_the_found_ones_are_shaken_away_from_the_margin():
    rng = np.random.default_rng(0)
    box = np.array([[80.0, 80, 160, 160]])
    track = make_track([box, box], 10, (320, 240), SETTINGS, rng)
    moved = np.abs(track.boxes - box)
    assert moved[3:7].max() == 0
    assert (moved[:3].min(), moved[7:].min()) > (0, 0)
    assert moved.max() <= 3
    low = np.array([[60.0, 60, 160, 160]])
    moved = np.abs(make_track([low, low], 10, (320, 240), SETTINGS, rng).boxes - low)
    assert (moved[:3].max(), moved[7:].min() > 0) == (0, True)  # at least 75 before, at least 50 behind


def test_windows_end_where_the_box_jumps():
    boxes = np.tile([10.0, 10, 50, 50], (30, 1))
    boxes[15:] += 100
    windows = smooth_windows(boxes, np.ones(30))
    assert windows[0].tolist() == [0, 13]  # 14 was visited last
    assert windows[13].tolist() == [0, 13]  # it lies in the window of the frame before
    assert windows[14].tolist() == [1, 14]
    assert windows[15].tolist() == [15, 28]
    assert windows[29].tolist() == [16, 29]


def test_windows_need_found_boxes():
    short = np.ones(30)
    short[10:] = 0.4
    assert smooth_windows(np.tile([10.0, 10, 50, 50], (30, 1)), short)[0].tolist() == [0, 7]


def test_a_still_or_a_uniform_flow_has_no_candidate():
    ramp = np.zeros((240, 320, 2), dtype=np.float32)
    ramp[..., 0] = np.linspace(-8, 8, 320)  # its largest deviation is twice the mean one
    assert candidate_boxes(ramp, SETTINGS).shape == (0, 4)
    assert candidate_boxes(np.full((240, 320, 2), 5, dtype=np.float32), SETTINGS).shape == (0, 4)


def test_nothing_found_is_no_track():
    assert make_track([np.zeros((0, 4))] * 3, 15, (320, 240), SETTINGS, np.random.default_rng(0)) is None


def test_flow_finds_a_square_and_reaches_farther_if_it_is_slow():
    frames = {speed: [moving_square(60 + speed * i, 90) for i in range(16)] for speed in (1, 12)}
    for speed, expected in ((1, 7), (12, 1)):
        flow = AdaptiveFlow(frames[speed].__getitem__, 16)
        field = flow(6)
        assert field.shape == (240, 320, 2)
        inside = np.median(field[100:120, 60 + speed * 6 + 10 : 60 + speed * 6 + 30], axis=(0, 1))
        assert flow.distance == expected
        assert inside == pytest.approx([speed * flow.distance, 0], abs=0.5)
        box = candidate_boxes(field, SETTINGS)[0]
        uncovered = speed * flow.distance  # moves with the square, in the flow
        assert np.abs(box - [60 + 6 * speed, 90, 100 + 6 * speed, 130]).max() < uncovered + 4


def test_labels_of_a_moving_square_lie_on_it(tmp_path):
    write_video(tmp_path / "videos" / "a")
    report = make_labels(LabelJob(videos(tmp_path / "videos"), tmp_path / "labels"))
    assert (report.videos, report.made, report.kept, report.failed) == (1, 1, 1, [])
    ((iou, share),) = report.overlaps
    assert iou > 0.6
    assert share > 0.9


def test_bare_folders_of_pictures_are_enough(tmp_path):
    write_video(tmp_path / "videos" / "a", boxes=False)
    report = make_labels(LabelJob(videos(tmp_path / "videos"), tmp_path / "labels"))
    assert (report.kept, report.overlaps) == (1, [])
    entry = json.loads(report.file.read_text())["a"]["00"]
    assert list(entry)[:2] == ["0001", "0002"]
    assert entry["meta"]["frame_sz"] == [320, 240]


@pytest.mark.slow
def test_a_run_that_was_stopped_gives_the_same_file(tmp_path):
    for i in range(3):
        write_video(tmp_path / "videos" / f"v{i}", 12, y=60 + 20 * i)
    dataset = videos(tmp_path / "videos")
    whole = make_labels(LabelJob(dataset, tmp_path / "whole"))

    class StopError(Exception):
        pass

    def stop(count: int) -> None:
        if (tmp_path / "parts" / "videos" / "v1.json").exists():
            raise StopError

    job = LabelJob(dataset, tmp_path / "parts")
    with pytest.raises(StopError):
        make_labels(job, progress=stop)
    assert not (tmp_path / "parts" / "train.json").exists()
    (tmp_path / "parts" / "videos" / "v0.json").write_text('{"track": {"00')  # half a file is made again
    report = make_labels(job)
    assert report.made == 2
    assert (tmp_path / "parts" / "train.json").read_bytes() == whole.file.read_bytes()
    assert make_labels(job).made == 0


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_file(tmp_path):
    for i in range(6):
        write_video(tmp_path / "videos" / f"v{i}", 24, y=60 + 8 * i)

    def command(output, workers):
        dataset = ("--dataset", f"FOLDER:{tmp_path / 'videos'}")
        return ["tracking/make_pseudo_labels.py", *dataset, "--output", tmp_path / output, "--workers", workers]

    run_and_kill(command("killed", 1), lambda: list((tmp_path / "killed").rglob("v0.json")))
    assert not list((tmp_path / "killed").rglob("train.json"))
    for output, workers in (("killed", 2), ("whole", 1)):
        run = run_python(command(output, workers))
        assert run.returncode == 0, run.stderr
        assert "overlap with annotations (6 videos)" in run.stdout + run.stderr
    files = [next((tmp_path / output).rglob("train.json")).read_bytes() for output in ("killed", "whole")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_labels_of_other_settings_are_not_mixed(tmp_path):
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / name, 12)
    dataset = videos(tmp_path / "videos")
    make_labels(LabelJob(dataset, tmp_path / "labels"))
    before = (tmp_path / "labels" / "train.json").read_bytes()
    other = LabelJob(dataset, tmp_path / "labels", LabelSettings(gap=2))
    with pytest.raises(ValueError, match=r"has labels of other settings .gap 3 there, 2 now.; .*--restart"):
        make_labels(other)
    part = videos(tmp_path / "videos")
    part.restrict_to(["a"])
    with pytest.raises(ValueError, match="has labels of other settings"):  # b would keep those of before
        make_labels(LabelJob(part, tmp_path / "labels", LabelSettings(gap=2)), restart=True)
    assert make_labels(LabelJob(dataset, tmp_path / "labels")).made == 0
    assert (tmp_path / "labels" / "train.json").read_bytes() == before
    assert make_labels(other, restart=True).made == 2


def test_settings_without_labels_bind_nobody_and_a_missing_folder_of_flow_is_named(tmp_path):
    write_video(tmp_path / "videos" / "a", 12)
    dataset, folder = videos(tmp_path / "videos"), tmp_path / "labels"
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder of flow files"):
        make_labels(LabelJob(dataset, folder, flow=tmp_path / "nowhere"))
    assert not folder.exists()
    (tmp_path / "flow").mkdir()
    assert make_labels(LabelJob(dataset, folder, flow=tmp_path / "flow")).failed
    assert make_labels(LabelJob(dataset, folder)).made == 1
    (folder / "settings.json").write_text("")
    with pytest.raises(AnnotationError, match=r"settings\.json: not the settings of labels"):
        make_labels(LabelJob(dataset, folder))


def test_parts_of_a_data_set_share_a_file(tmp_path):
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / name, 12)
    parts = [videos(tmp_path / "videos") for _ in range(2)]
    for part, name in zip(parts, "ba", strict=True):
        part.restrict_to([name])
        report = make_labels(LabelJob(part, tmp_path / "labels"))
    assert (report.kept, report.others) == (1, 1)
    assert list(json.loads(report.file.read_text())) == ["a", "b"]


def write_flow(folder: Path, size_hw: tuple[int, int] = (240, 320), suffix: str = ".flo") -> None:
    folder.mkdir(parents=True)
    for i in range(3, 9, 3):
        flow = np.zeros((*size_hw, 2), dtype=np.float32)
        flow[90:130, 60 + 3 * i : 100 + 3 * i] = 8
        if suffix == ".flo":
            head = b"PIEH" + np.array(size_hw[::-1], dtype="<i4").tobytes()
            (folder / f"{i + 1:04d}.flo").write_bytes(head + flow.tobytes())
        else:
            np.save(folder / f"{i + 1:04d}.npy", flow)


@pytest.mark.parametrize("suffix", [".flo", ".npy"])
def test_flow_from_files(tmp_path, suffix):
    write_video(tmp_path / "videos" / "a", 12)
    write_flow(tmp_path / "flow" / "a", suffix=suffix)
    report = make_labels(LabelJob(videos(tmp_path / "videos"), tmp_path / "labels", flow=tmp_path / "flow"))
    entry = json.loads(report.file.read_text())["a"]["00"]
    assert entry["0004"][:4] == pytest.approx([69, 90, 108, 129], abs=1)
    assert report.overlaps[0][0] > 0.7


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: os.remove(f), r"^a: no flow .*0004\.flo \(nor \.npy\)$"),
        (lambda f: f.write_bytes(f.read_bytes()[:999]), r"^a: .*0004\.flo: not a flow file, or cut short"),
        (
            lambda f: f.write_bytes(b"x"),
            r"^a: .*0004\.flo: not a flow file, or cut short \(it does not begin with PIEH\)",
        ),
        (None, r"^a: .*0004\.flo: the flow is 60 x 80 x 2 of float32; the pictures need 240 x 320 x 2 finite"),
    ],
)
def test_bad_flow_files_are_one_sentence_and_other_videos_are_labelled(tmp_path, spoil, message):
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / name, 12)
    write_flow(tmp_path / "flow" / "a", (240, 320) if spoil else (60, 80))
    write_flow(tmp_path / "flow" / "b")
    if spoil:
        spoil(tmp_path / "flow" / "a" / "0004.flo")
    report = make_labels(LabelJob(videos(tmp_path / "videos"), tmp_path / "labels", flow=tmp_path / "flow"))
    (line,) = report.failed
    assert re.search(message, line), line
    assert list(json.loads(report.file.read_text())) == ["b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((6, 8, 2), "c8"), "the flow is 6 x 8 x 2 of complex64; the pictures need 6 x 8 x 2 finite numbers"),
        (np.zeros(4, "f4,f4"), "the flow is 4 of .*; the pictures need"),
        (np.full((6, 8, 2), 1e10), "the flow is 6 x 8 x 2 of float64; the pictures need 6 x 8 x 2 finite numbers"),
        (b"(6999999999, 8, 2)", "cut short .mmap length is greater than file size"),
        (b"PK\3\4", "not a flow file"),
    ],
    ids=["complex", "records", "unknown flow", "damaged header", "archive"],
)
def test_arrays_that_are_no_flow_are_one_sentence(tmp_path, content, message):
    file = tmp_path / "0000.npy"
    np.save(file, np.zeros((6, 8, 2), "f4") if isinstance(content, bytes) else content)
    if isinstance(content, bytes):
        data = file.read_bytes()
        file.write_bytes(data.replace(b"(6, 8, 2)", content) if content.startswith(b"(") else content)
    with pytest.raises(AnnotationError, match=rf"0000\.npy: .*{message}"):
        StoredFlow(tmp_path, ["0000"], (8, 6))(0)


def test_videos_in_which_nothing_moves_are_left_out(tmp_path):
    write_video(tmp_path / "videos" / "a", 12, speed=0)
    report = make_labels(LabelJob(videos(tmp_path / "videos"), tmp_path / "labels"))
    assert (report.file, report.kept, sum(report.left_out.values())) == (None, 0, 1)
    assert not (tmp_path / "labels" / "train.json").exists()


def test_labels_of_many_videos_are_never_all_in_memory(tmp_path):
    rows, names = {f"{i:04d}": [0, 0, 9, 9, 0.5, 0.5, 0, 9, 0.1] for i in range(200)}, [f"v{i:02d}" for i in range(16)]
    text = json.dumps({"track": rows, "left_out": "", "overlap": [0.5, 0.25]})
    for name in names:
        (tmp_path / "videos" / name).mkdir(parents=True)
        (tmp_path / "videos" / name / "0001.jpg").touch()
    (tmp_path / "labels" / "videos").mkdir(parents=True)
    for name in ("other", *names):
        (tmp_path / "labels" / "videos" / f"{name}.json").write_text(text)
    job = LabelJob(videos(tmp_path / "videos"), tmp_path / "labels")
    tracemalloc.start()
    try:
        json.loads(text)
        one = tracemalloc.get_traced_memory()[1]
        report = make_labels(job)
        assert tracemalloc.get_traced_memory()[1] < 5 * one
    finally:
        tracemalloc.stop()
    assert (report.kept, report.others, report.overlaps) == (16, 1, [(0.5, 0.25)] * 16)
    assert report.file.read_text() == json.dumps({name: {"00": rows} for name in ["other", *names]})
