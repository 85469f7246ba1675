"""Benchmarks as they lie on disk, special cases included. Trees are tiny; pictures are read only where it matters."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.bench import FORMATS, Result
from lib.bench.benchmarks import BENCHMARKS, BenchmarkError, get_benchmark
from lib.bench.metrics import METRICS, evaluate
from lib.catalogue import CATALOGUE
from lib.data.lists import load_list
from lib.paths import Paths
from lib.registry import UnknownNameError

TYPED = [
    *("lasot", "LaSOT", "lasot_extension_subset", "lasot_ext", "got10k_test", "got10k_val", "trackingnet", "uav"),
    *("uav123", "UAV123", "nfs", "otb", "otb100", "tnl2k", "vasttrack", "lasher", "rgbt234", "rgbt210", "gtot"),
    *("vtuav", "visevent", "depthtrack", "synthetic", "itb", "tc128", "tc128ce", "vot18", "vot2018", "vot22"),
    *("lasot_lmdb", "got10k_ltrval"),
]


def paths_at(tmp: Path) -> Paths:
    return Paths(workspace=tmp, data_dir=tmp, save_dir=tmp / "output", pretrained=tmp / "pretrained")


def touch(folder: Path, names: list[str], picture: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if picture:
            cv2.imwrite(str(folder / name), np.full((20, 30, 3), 90, np.uint8))
        else:
            (folder / name).write_bytes(b"")


def rows(count: int, first: int = 0, separator: str = ",") -> str:
    return "".join(separator.join(map(str, (first + i, 2, 10, 8))) + "\n" for i in range(count))


def lasot_sequence(root: Path, name: str, frames: int, lines: int | None = None) -> Path:
    folder = root / name.rpartition("-")[0] / name
    touch(folder / "img", [f"{i:08d}.jpg" for i in range(1, frames + 1)])
    lines = frames if lines is None else lines
    (folder / "groundtruth.txt").write_text(rows(lines))
    (folder / "full_occlusion.txt").write_text(",".join("0" * lines))
    (folder / "out_of_view.txt").write_text(",".join(["0"] * (lines - 1) + ["1"]))
    return folder


@pytest.mark.parametrize("name", TYPED)
def test_names_that_users_type_are_known(name: str) -> None:
    assert name.lower() in {get_benchmark(name).name, *(a.lower() for a in get_benchmark(name).aliases)}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'lasot'"):
        get_benchmark("lastot")


def test_declarations_name_things_that_exist() -> None:
    for name in BENCHMARKS:
        benchmark = get_benchmark(name)
        assert benchmark.result_format in FORMATS, name
        assert benchmark.root in CATALOGUE, name
        assert benchmark.metric in METRICS or benchmark.metric == "vot_longterm", name
        if benchmark.attributes:
            assert "sequences" in load_list(benchmark.attributes), name
        if benchmark.other_names:
            known = {row["name"] for row in load_list(CATALOGUE[benchmark.root].options["table"])}
            assert benchmark.other_names.keys() <= known, name


def test_lasot_takes_as_many_frames_as_rows_and_labels_say_what_is_present(tmp_path: Path) -> None:
    lasot_sequence(tmp_path / "lasot", "monkey-17", frames=9, lines=6)
    (sequence,) = get_benchmark("lasot").sequences(paths_at(tmp_path), ["monkey-17"])
    assert len(sequence) == 6
    assert sequence.present is not None
    assert sequence.present.tolist() == [True] * 5 + [False]
    assert sequence.frame_path(0).endswith("monkey/monkey-17/img/00000001.jpg")


def test_missing_sequences_are_listed_unless_they_may_be_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lasot_sequence(tmp_path / "lasot", "airplane-1", frames=3)
    lasot = get_benchmark("lasot")
    with pytest.raises(BenchmarkError, match="279 of 280 sequences") as caught:
        lasot.sequences(paths_at(tmp_path))
    assert "airplane-9" in str(caught.value)
    assert [s.name for s in lasot.sequences(paths_at(tmp_path), skip_missing=True)] == ["airplane-1"]
    assert "left out: 279 of 280 sequences are not there: airplane-9, airplane-13, " in caplog.text
    assert "volleyball-19" in caplog.text


def test_a_damaged_sequence_is_not_left_out_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lasot_sequence(tmp_path / "lasot", "airplane-1", frames=3)
    lasot_sequence(tmp_path / "lasot", "airplane-9", frames=3, lines=6)
    found = get_benchmark("lasot").sequences(paths_at(tmp_path), skip_missing=True)
    assert [s.name for s in found] == ["airplane-1"]
    assert "left out: airplane-9: 3 pictures in" in caplog.text


def test_one_frame_fewer_is_tolerated_and_more_are_not(tmp_path: Path) -> None:
    lasot_sequence(tmp_path / "lasot", "airplane-1", frames=5, lines=6)
    lasot_sequence(tmp_path / "lasot", "airplane-9", frames=3, lines=6)
    lasot = get_benchmark("lasot")
    assert len(lasot.sequences(paths_at(tmp_path), ["airplane-1"])[0]) == 5
    with pytest.raises(BenchmarkError, match=r"airplane-9: 3 pictures in .* 6 annotation rows"):
        lasot.sequences(paths_at(tmp_path), ["airplane-9"])


def test_no_ground_truth_and_no_frames_name_the_sequence(tmp_path: Path) -> None:
    (lasot_sequence(tmp_path / "lasot", "airplane-1", 3) / "groundtruth.txt").write_text("")
    touch(tmp_path / "lasot" / "airplane" / "airplane-9" / "img", [])
    (tmp_path / "lasot" / "airplane" / "airplane-9" / "groundtruth.txt").write_text(rows(3))
    for name in ("airplane-1", "airplane-9"):
        with pytest.raises(BenchmarkError, match=name):
            get_benchmark("lasot").sequences(paths_at(tmp_path), [name])


def test_synthetic_takes_what_is_there_with_its_attributes(tmp_path: Path) -> None:
    root = tmp_path / "synthetic" / "test"
    for n in (1, 2, 10):
        lasot_sequence(root, f"shape-{n}", 3)
    (root / "attributes.json").write_text('{"shape-2": ["OCC", "BLUR"]}')
    found = get_benchmark("synthetic").sequences(paths_at(tmp_path))
    assert [s.name for s in found] == ["shape-1", "shape-2", "shape-10"]
    assert found[1].attributes == {"OCC", "BLUR"}


def test_tables_cut_sequences_from_shared_folders(tmp_path: Path) -> None:
    root = tmp_path / "uav"
    touch(root / "data_seq/UAV123/bird1", [f"{i:06d}.jpg" for i in (775, 776, 1477)])
    (root / "anno/UAV123").mkdir(parents=True)
    (root / "anno/UAV123/bird1_2.txt").write_text("1,2,3,4\nNaN,NaN,NaN,NaN\n" + rows(701))
    (sequence,) = get_benchmark("uav").sequences(paths_at(tmp_path), ["uav_bird1_2"])
    assert (len(sequence), sequence.frame_path(0)[-10:]) == (703, "000775.jpg")
    assert sequence.valid.tolist()[:3] == [True, False, True]


@pytest.mark.parametrize(
    ("benchmark", "name", "folder", "pattern", "anno", "count"),
    [
        ("uav", "uav_bike1", "uav/data_seq/UAV123/bike1", "{:06d}.jpg", "uav/anno/UAV123/bike1.txt", 3085),
        ("otb", "Basketball", "otb/Basketball/img", "{:04d}.jpg", "otb/Basketball/groundtruth_rect.txt", 725),
    ],
)
def test_tables_refuse_pictures_numbered_from_zero(
    tmp_path: Path, benchmark: str, name: str, folder: str, pattern: str, anno: str, count: int
) -> None:
    touch(tmp_path / folder, [pattern.format(i) for i in (0, 1, count - 1, count)])
    (tmp_path / anno).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / anno).write_text(rows(count))
    with pytest.raises(BenchmarkError, match=rf"{pattern.format(0)} to .* annotation rows"):
        get_benchmark(benchmark).sequences(paths_at(tmp_path), [name])
    (tmp_path / folder / pattern.format(0)).unlink()
    (sequence,) = get_benchmark(benchmark).sequences(paths_at(tmp_path), [name])
    assert len(sequence) == count


@pytest.mark.parametrize("times", [1, 8])
def test_nfs_at_240_frames_per_second_is_refused(tmp_path: Path, times: int) -> None:
    """Rows at 30 frames per second would go with pictures of other moments."""
    (row,) = (row for row in load_list("nfs_sequences") if row["name"] == "nfs_Gymnastics")
    last = row["endFrame"]
    touch(tmp_path / "nfs" / row["path"], [f"{i:05d}.jpg" for i in range(1, times * last + 1)])
    (tmp_path / "nfs/anno").mkdir()
    (tmp_path / "nfs" / row["anno_path"]).write_text(rows(last, separator="\t"))
    with pytest.raises(BenchmarkError, match=r"twice as many .* \(NfS at 240\)") if times > 1 else nullcontext():
        assert len(get_benchmark("nfs").sequences(paths_at(tmp_path), [row["name"]])[0]) == last


def test_rows_behind_the_frames_of_a_table_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "otb/Basketball/img", [f"{i:04d}.jpg" for i in (1, 725)])
    (tmp_path / "otb/Basketball/groundtruth_rect.txt").write_text(rows(728))
    (sequence,) = get_benchmark("otb").sequences(paths_at(tmp_path), ["Basketball"])
    assert len(sequence) == 725
    assert "groundtruth_rect.txt: 728 rows for 725 frames" in caplog.text


@pytest.mark.parametrize(
    ("name", "folder", "digits", "first", "last", "file", "omit"),
    [
        ("BlurCar1", "BlurCar1", 4, 247, 988, "groundtruth_rect.txt", 0),
        ("David", "David", 4, 300, 770, "groundtruth_rect.txt", 0),
        ("Tiger1", "Tiger1", 4, 6, 354, "groundtruth_rect.txt", 5),
        ("Board", "Board", 5, 1, 698, "groundtruth_rect.txt", 0),
        ("Jogging_2", "Jogging", 4, 1, 307, "groundtruth_rect.2.txt", 0),
    ],
)
def test_special_cases_of_otb(
    tmp_path: Path, name: str, folder: str, digits: int, first: int, last: int, file: str, omit: int
) -> None:
    root = tmp_path / "otb" / folder
    touch(root / "img", [f"{first:0{digits}d}.jpg", f"{last:0{digits}d}.jpg"])
    count = last - first + 1
    (root / file).write_text(rows(count + omit, first=100, separator="\t"))
    (sequence,) = get_benchmark("otb").sequences(paths_at(tmp_path), [name])
    assert len(sequence) == count
    assert sequence.frame_path(0).endswith(f"{first:0{digits}d}.jpg")
    assert sequence.boxes_xywh[0].tolist() == [100 + omit, 2, 10, 8]


def test_got10k_test_knows_the_first_box_only(tmp_path: Path) -> None:
    folder = tmp_path / "got10k/test/GOT-10k_Test_000001"
    touch(folder, [f"{i:08d}.jpg" for i in range(1, 5)])
    (folder / "groundtruth.txt").write_text("1.0,2.0,3.0,4.0\n")
    (tmp_path / "got10k/test/list.txt").write_text("GOT-10k_Test_000001\n")
    (sequence,) = get_benchmark("GOT10k_test").sequences(paths_at(tmp_path))
    assert len(sequence) == 4
    assert np.isnan(sequence.boxes_xywh[1:]).all()


def test_got10k_val_is_scored_with_cover_and_picture_size(tmp_path: Path) -> None:
    folder = tmp_path / "got10k/val/GOT-10k_Val_000001"
    touch(folder, [f"{i:08d}.jpg" for i in range(1, 4)], picture=True)
    (folder / "groundtruth.txt").write_text(rows(3))
    (folder / "absence.label").write_text("0\n0\n0\n")
    (folder / "cover.label").write_text("8\n8\n0\n")
    (tmp_path / "got10k/val/list.txt").write_text("GOT-10k_Val_000001\n")
    (sequence,) = get_benchmark("got10k_val").sequences(paths_at(tmp_path))
    result = sequence.sequence_result([Result(sequence.name, sequence.boxes_xywh)])
    assert result.image_size_wh == (30, 20)
    assert evaluate("got10k", [result]).headline["ao"] == pytest.approx(100)


def test_trackingnet_frames_are_sorted_by_number(tmp_path: Path) -> None:
    root = tmp_path / "trackingnet/TEST"
    touch(root / "frames/clip_0", [f"{i}.jpg" for i in range(12)])
    (root / "anno").mkdir()
    (root / "anno/clip_0.txt").write_text("1,2,3,4\n")
    (sequence,) = get_benchmark("trackingnet").sequences(paths_at(tmp_path))
    assert [Path(sequence.frame_path(i)).stem for i in (2, 10)] == ["2", "10"]


def test_vasttrack_accepts_both_spellings(tmp_path: Path) -> None:
    names = [n for n in load_list("vasttrack_test") if " " in n][:2]
    for name, spaces in zip(names, (True, False), strict=True):
        own = name if spaces else name.replace(" ", "_")
        folder = tmp_path / "VastTrack/test" / own.rpartition("-")[0] / own
        touch(folder / ("imgs" if spaces else "img"), [f"{i:05d}.jpg" for i in range(1, 4)])
        (folder / ("Groundtruth.txt" if spaces else "groundtruth.txt")).write_text("1,2,3,4\n0,0,0,0\n5,6,7,0\n")
    found = get_benchmark("vasttrack").sequences(paths_at(tmp_path), names)
    for sequence in found:
        assert sequence.present is not None
        assert sequence.present.tolist() == [True, False, True]


def test_gtot_corners_and_both_ground_truths(tmp_path: Path) -> None:
    folder = tmp_path / "gtot/BlackCar"
    touch(folder / "v", ["00001v.png", "00002v.png"])
    touch(folder / "i", ["00001i.png", "00002i.png"])
    (folder / "groundTruth_v.txt").write_text("30 40 10 20\n10 20 30 40\n")
    (folder / "groundTruth_i.txt").write_text("11 20 30 40\n10 20 30 40\n")
    (sequence,) = get_benchmark("gtot").sequences(paths_at(tmp_path), ["BlackCar"])
    assert sequence.boxes_xywh[0].tolist() == [10, 20, 20, 20]
    assert sequence.second_boxes_xywh is not None
    assert sequence.second_boxes_xywh[0].tolist() == [11, 20, 19, 20]
    perfect = sequence.sequence_result([Result(sequence.name, sequence.boxes_xywh)])
    assert evaluate("gtot", [perfect]).headline["precision"] == pytest.approx(100)


def test_vtuav_rows_belong_to_every_tenth_frame(tmp_path: Path) -> None:
    folder = tmp_path / "vtuav/test/short-term/test_ST_001/animal_001"
    for part in ("rgb", "ir"):
        touch(folder / part, [f"{i:06d}.jpg" for i in range(1, 13)])
        (folder / f"{part}.txt").write_text("1 2 3 4\n5 6 7 8\n")
    (sequence,) = get_benchmark("vtuav").sequences(paths_at(tmp_path), ["animal_001"])
    assert len(sequence) == 12
    assert sequence.boxes_xywh[10].tolist() == [5, 6, 7, 8]
    dense = np.nan_to_num(sequence.boxes_xywh)
    for rows in (dense, dense[::10]):
        scores = evaluate("rgbt234", [sequence.sequence_result([Result(sequence.name, rows)])])
        assert scores.headline["precision"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("rgb", "ir", "rows", "reason"),
    [
        ([1, 2, 3, 5], [1, 2, 3, 5], 1, r"the one after 000003\.jpg is missing"),
        ([1, 2, 3, 4], [2, 3, 4, 5], 1, r"\(000001\.jpg to 000004\.jpg\).*thermal pictures begin with 000002\.jpg"),
        ([1, 2, 3, 4], [1, 2, 3, 4], 4, r"\(000001\.jpg to 000004\.jpg\).*\(1 to 4\): every tenth picture has a row"),
    ],
)
def test_vtuav_pictures_that_do_not_go_with_rows_are_an_error(
    tmp_path: Path, rgb: list[int], ir: list[int], rows: int, reason: str
) -> None:
    folder = tmp_path / "vtuav/test/short-term/test_ST_001/animal_001"
    for part, numbers in (("rgb", rgb), ("ir", ir)):
        touch(folder / part, [f"{i:06d}.jpg" for i in numbers])
        (folder / f"{part}.txt").write_text("1 2 3 4\n" * rows)
    with pytest.raises(ValueError, match=reason):
        get_benchmark("vtuav").sequences(paths_at(tmp_path), ["animal_001"])


def test_visevent_starts_on_the_first_frame_with_a_target(tmp_path: Path) -> None:
    root = tmp_path / "visevent/test"
    folder = root / "video_1"
    names = [f"frame{i:04d}.bmp" for i in range(3, 7)]
    touch(folder / "vis_imgs", names)
    touch(folder / "event_imgs", names)
    (folder / "groundtruth.txt").write_text("0,0,0,0\n0,0,0,0\n4,5,6,7\n4,5,6,7\n")
    (folder / "absent_label.txt").write_text("0\n1\n1\n0\n")
    (root / "testlist.txt").write_text("video_1\n")
    (sequence,) = get_benchmark("visevent").sequences(paths_at(tmp_path))
    assert sequence.start == 2
    assert sequence.present is not None
    assert sequence.present.tolist() == [False, True, True, False]
