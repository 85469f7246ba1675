"""Result packs as authors publish them: every layout has the scores of the plain folder, none writes elsewhere."""

from __future__ import annotations

import io
import logging
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lib.bench import ResultFileError, ResultSource, Scoring, load_runs, read_truth, write_boxes
from lib.bench.benchmarks import BENCHMARKS, BenchmarkVideo, get_benchmark
from lib.bench.metrics import METRICS, MetricError
from lib.bench.report import TrackerRun
from lib.methods import load_experiment

NAMES = ("airplane-1", "Bolt2", "Human4_2")
ROOT = Path(__file__).parents[3]


def boxes(name: str, shift: float = 0.0) -> np.ndarray:
    x = np.arange(12) * 2.0 + 10 * NAMES.index(name)
    return np.stack([x + shift, np.full(12, 9.0), np.full(12, 20.0), np.full(12, 16.0)], axis=1)


def text(name: str, shift: float = 0.0, delimiter: str = ",") -> str:
    return "".join(delimiter.join(f"{v:.3f}" for v in row) + "\n" for row in boxes(name, shift))


@pytest.fixture
def truth(tmp_path: Path) -> list[BenchmarkVideo]:
    for name in NAMES:
        write_boxes(tmp_path / "gt" / f"{name}.txt", boxes(name))
    return [
        replace(s, dataset="lasot", other_names=("human4-2",) * (s.name == "Human4_2"))
        for s in read_truth(tmp_path / "gt")
    ]


def zipped(path: Path, files: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


def matlab(variables: Mapping[str, object]) -> bytes:
    out = io.BytesIO()
    savemat(out, dict(variables))
    return out.getvalue()


def load(path: Path | str, truth: list[BenchmarkVideo]) -> list[TrackerRun]:
    return load_runs([ResultSource.parse(str(path))], truth, Scoring("ostrack"))


def otb(name: str) -> bytes:
    struct = {"type": "rect", "res": boxes(name, 4), "fps": 40.0, "len": 12}
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = struct
    return matlab({"results": cell})


LAYOUTS: dict[str, Mapping[str, str | bytes]] = {
    "flat": {f"{n}.txt": text(n, 4) for n in NAMES},
    "below folders, in other case": {f"Results/MyTracker/LaSOT/{n.lower()}.txt": text(n, 4, "\t") for n in NAMES},
    "tracker before the name": {f"BBOX/MyTracker_{n}.txt": text(n, 4, " ") for n in NAMES},
    "tracker behind the name": {f"{n}_MyTracker.txt": text(n, 4) for n in NAMES},
    "other toolkit's names": {f"{n}.txt": text(NAMES[i], 4) for i, n in enumerate(("airplane_1", "bolt2", "human4-2"))},
    "got10k": {f"t/{n}/{n}_001.txt": text(n, 4) for n in NAMES} | {f"t/{n}/{n}_time.txt": "0.1\n" * 12 for n in NAMES},
    "with times and scores": {
        f"a/{n}{e}.txt": text(n, 4) if not e else "0.5\n" * 12 for n in NAMES for e in ("", "_time", "_score")
    },
    "times in a folder beside": {
        f"a/{d}/{n}.txt": text(n, 4) if d == "res" else "0.5\n" * 12 for n in NAMES for d in ("res", "time", "scores")
    },
    "windows": {f"results\\lasot\\{n}.txt": text(n, 4) for n in NAMES},
    "macOS": {f"r/{n}.txt": text(n, 4) for n in NAMES} | {f"__MACOSX/r/._{n}.txt": b"\x00\x05" for n in NAMES},
    "OTB's MATLAB files": {f"OPE/{n}_MyTracker.mat": otb(n) for n in NAMES},
    "one MATLAB file": {"all.mat": matlab({"boxes": {n.replace("-", "_"): boxes(n, 4) for n in NAMES}})},
    "two benchmarks": {f"t/{d}/{n}.txt": text(n, 4 if d == "lasot" else 9) for n in NAMES for d in ("lasot", "otb")},
    "our own folder": {f"t/{f}{n}.txt": text(n, 4) for n in NAMES for f in ("", "float/", "stale-1/")}
    | {"t/manifest.json": "{}"},
}


def test_a_folder_of_ours_is_called_by_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "trdimp/small/lasot"
    folder.mkdir(parents=True)
    assert ResultSource.parse(str(folder)).label == "lasot"
    (folder / "manifest.json").write_text("{}")
    assert ResultSource.parse(str(folder)).label == "trdimp/small"


def test_a_folder_with_signs_of_the_notation_in_its_name_is_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1,bs=8"
    folder.mkdir()
    for text, label in ((str(folder), folder.name), (f"a={folder}", "a")):
        assert ResultSource.parse(text) == ResultSource(label, (folder,))
    assert ResultSource.parse("a=b,c") == ResultSource("a", (Path("b"), Path("c")))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_scores_of_the_plain_folder(
    layout: str, truth: list[BenchmarkVideo], tmp_path: Path
) -> None:
    for name in NAMES:
        write_boxes(tmp_path / "plain" / f"{name}.txt", boxes(name, 4))
    (plain,) = load(tmp_path / "plain", truth)
    (run,) = load(zipped(tmp_path / "MyTracker.zip", LAYOUTS[layout]), truth)
    assert run.name == "MyTracker"
    assert run.scores.headline == pytest.approx(plain.scores.headline)
    assert run.size_bias == pytest.approx(plain.size_bias)
    inner = zipped(tmp_path / "outer.zip", {"x/MyTracker.zip": (tmp_path / "MyTracker.zip").read_bytes()})
    assert load(inner, truth)[0].scores.headline == pytest.approx(plain.scores.headline)
    with zipfile.ZipFile(tmp_path / "MyTracker.zip") as archive:
        archive.extractall(tmp_path / "folder")
    assert load(f"a={tmp_path / 'folder'}", truth)[0].scores.headline == pytest.approx(plain.scores.headline)


def test_times_in_a_pack_are_its_speed(truth: list[BenchmarkVideo], tmp_path: Path) -> None:
    (run,) = load(zipped(tmp_path / "a.zip", LAYOUTS["got10k"]), truth)
    assert run.fps == pytest.approx(10)
    (run,) = load(zipped(tmp_path / "b.zip", LAYOUTS["OTB's MATLAB files"]), truth)
    assert run.fps == pytest.approx(40)
    within = {f"a/{d}{n}.txt": "0.2\n" * 12 if d else text(n, 4) for n in NAMES for d in ("", "time/")}
    (run,) = load(zipped(tmp_path / "d.zip", within), truth)
    assert run.fps == pytest.approx(5)
    (run,) = load(zipped(tmp_path / "c.zip", LAYOUTS["flat"]), truth)
    assert run.fps is None


def test_runs_are_averaged_and_trackers_are_kept_apart(truth: list[BenchmarkVideo], tmp_path: Path) -> None:
    files = {f"dimp/dimp50_00{r}/{n}.txt": text(n, 2 * r) for n in NAMES for r in range(3)}
    (mean,) = load(tarred(tmp_path / "dimp.tar.gz", files), truth)
    apart = {f"results/T_{size}/lasot/{n}.txt": text(n, size / 128) for n in NAMES for size in (256, 384)}
    runs = load(zipped(tmp_path / "pack.zip", apart), truth)
    assert [run.name for run in runs] == ["T_256", "T_384"]
    assert [run.name for run in load(f"theirs={tmp_path / 'pack.zip'}", truth)] == ["theirs/T_256", "theirs/T_384"]
    single = [
        load(zipped(tmp_path / f"{r}.zip", {f"{n}.txt": text(n, 2 * r) for n in NAMES}), truth)[0] for r in range(3)
    ]
    assert mean.scores.headline["auc"] == pytest.approx(np.mean([r.scores.headline["auc"] for r in single]))
    with pytest.raises(ValueError, match="several trackers"):
        load(f"x={tmp_path / 'pack.zip'},{tmp_path / 'dimp.tar.gz'}", truth)


def test_one_tracker_below_a_folder_has_the_name_of_its_own_folder(truth: list[BenchmarkVideo], tmp_path: Path) -> None:
    for name in NAMES:
        write_boxes(tmp_path / "downloads" / "theirs" / "results" / "lasot" / f"{name}.txt", boxes(name))
    assert [run.name for run in load(tmp_path / "downloads", truth)] == ["theirs"]
    assert [run.name for run in load(f"x={tmp_path / 'downloads'}", truth)] == ["x"]


def test_a_tracker_of_few_sequences_is_named_and_left_out(
    truth: list[BenchmarkVideo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {f"whole/{n}.txt": text(n) for n in NAMES} | {"part/Bolt2.txt": text("Bolt2")}
    with caplog.at_level(logging.WARNING):
        assert len(load(zipped(tmp_path / "pack.zip", files), truth)) == 1
    assert "left out: part of" in caplog.text


def test_no_name_in_an_archive_leads_elsewhere(truth: list[BenchmarkVideo], tmp_path: Path) -> None:
    work = tmp_path / "a" / "b" / "c"
    work.mkdir(parents=True)
    outside = [f"../../../{n}.txt" for n in NAMES]
    (run,) = load(zipped(work / "up.zip", {name: text(n, 4) for name, n in zip(outside, NAMES, strict=True)}), truth)
    assert run.scores.headline["auc"] < 90
    absolute = {f"{tmp_path}/stolen/{n}.txt": text(n, 4) for n in NAMES}
    assert len(load(tarred(work / "absolute.tar.gz", absolute), truth)) == 1
    with tarfile.open(work / "links.tar.gz", "w:gz") as archive:
        for name in NAMES:
            link = tarfile.TarInfo(f"{name}.txt")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "gt" / f"{name}.txt")
            archive.addfile(link)
    with pytest.raises(FileNotFoundError, match="no result of the 3 sequences"):
        load(work / "links.tar.gz", truth)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "gt"]
    assert sorted(p.name for p in work.iterdir()) == ["absolute.tar.gz", "links.tar.gz", "up.zip"]


def test_of_two_files_of_one_sequence_the_exact_name_is_read(
    truth: list[BenchmarkVideo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flat = LAYOUTS["flat"]
    plain = load(zipped(tmp_path / "plain.zip", flat), truth)[0].scores.headline
    both = zipped(tmp_path / "both.zip", {**flat, "bolt2.txt": text("Bolt2", 50), "BOLT2.txt": text("Bolt2", 60)})
    with caplog.at_level(logging.WARNING):
        assert load(both, truth)[0].scores.headline == plain
    assert "left out: bolt2.txt: a second file of Bolt2" in caplog.text


def test_links_to_nothing_are_no_results_and_endings_have_any_case(truth: list[BenchmarkVideo], tmp_path: Path) -> None:
    for name in NAMES:
        write_boxes(tmp_path / "x" / f"{name}.TXT", boxes(name))
    assert len(load(tmp_path / "x", truth)[0].scores.names) == 3
    (tmp_path / "x" / "Bolt2.TXT").unlink()
    (tmp_path / "x" / "Bolt2.txt").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match="x: no result for 1 of 3 sequences: Bolt2"):
        load(tmp_path / "x", truth)


def test_a_copy_further_down_has_a_label_of_its_own(truth: list[BenchmarkVideo], tmp_path: Path) -> None:
    files = {f"{folder}/{name}": content for folder in ("A", "A/copy") for name, content in LAYOUTS["flat"].items()}
    assert [run.name for run in load(zipped(tmp_path / "x.zip", files), truth)] == ["A", "A/copy"]


def test_archives_too_deep_are_named(
    truth: list[BenchmarkVideo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zipped(tmp_path / "0.zip", LAYOUTS["flat"])
    for depth in range(1, 5):
        path = zipped(tmp_path / f"{depth}.zip", {path.name: path.read_bytes()})
    with caplog.at_level(logging.WARNING), pytest.raises(FileNotFoundError, match="no result of the 3 sequences"):
        load(path, truth)
    assert "0.zip: archives within archives are opened 3 deep" in caplog.text


@pytest.mark.slow
def test_what_cannot_be_read_is_a_sentence(
    truth: list[BenchmarkVideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = zipped(tmp_path / "whole.zip", LAYOUTS["flat"]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.zip").write_bytes(whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(300))
    for name, message in (
        ("cut.zip", "expected a folder, or a zip or tar archive of result files; it is another file, or cut short"),
        ("flipped.zip", "cannot be read"),
        ("a.rar", "unpack it"),
        ("a.mat", "not a MATLAB file"),
    ):
        with pytest.raises(ResultFileError, match=f"{name}: .*{message}"):
            load(tmp_path / name, truth)
    crash = matlab({"boxes": {n: boxes(n) for n in NAMES[1:]}})
    for seed in range(4):
        noise = np.random.default_rng(seed)
        damaged = bytearray(crash)
        for place in noise.integers(128, len(crash), 30):
            damaged[place] = noise.integers(256)
        (tmp_path / "noise.mat").write_bytes(damaged)
        with pytest.raises((ResultFileError, FileNotFoundError, MetricError), match=r"noise"):
            load(tmp_path / "noise.mat", truth)
    with pytest.raises(FileNotFoundError, match=r"none.zip: no such folder or archive"):
        load(tmp_path / "none.zip", truth)
    with pytest.raises(FileNotFoundError, match=r"other.zip: no result of the 3 sequences; there is: x/y.txt"):
        load(zipped(tmp_path / "other.zip", {"x/y.txt": "1"}), truth)
    with pytest.raises(FileNotFoundError, match=r"there is: Bolt2.npy \(.txt, .csv, .* are read\)"):
        load(zipped(tmp_path / "other.zip", {"Bolt2.npy": "1"}), truth)
    with pytest.raises(ResultFileError, match=r"nested.zip, inner.zip: expected a folder, or a zip or tar"):
        load(zipped(tmp_path / "nested.zip", {"inner.zip": whole[:50]}), truth)
    word = zipped(tmp_path / "word.zip", {**LAYOUTS["flat"], "Bolt2.txt": "1,2,3,x\n"})
    assert load(word, truth)[0].scores.unscored == {"Bolt2": "Bolt2.txt, line 1: 'x' is not a number: '1,2,3,x'"}
    monkeypatch.setattr("lib.bench.packs.MAX_BYTES", 500)
    with pytest.raises(ResultFileError, match=r"whole.zip: more than"):
        load(tmp_path / "whole.zip", truth)


def test_a_label_that_names_a_configuration_has_its_size_and_published_figures(
    truth: list[BenchmarkVideo], tmp_path: Path
) -> None:
    pack = zipped(tmp_path / "x.zip", LAYOUTS["flat"])
    (run,) = load(f"vitb_256_mae_ce_32x4_ep300={pack}", truth)
    assert run.published == {"AUC": 69.1}
    assert run.parameters == 92_518_533
    (run,) = load(f"x={pack}", truth)
    assert (run.published, run.parameters) == ({}, None)


def test_published_figures_are_of_known_benchmarks_and_scores() -> None:
    found = 0
    for path in sorted((ROOT / "experiments").glob("[a-z]*/*.yaml")):
        if "PUBLISHED" not in path.read_text():
            continue
        for name, figures in load_experiment(path.parent.name, path.stem).config.published.items():
            assert name.lower() in BENCHMARKS
            benchmark = get_benchmark(name)
            labels = {score.label for score in METRICS[benchmark.metric].scores.values()}
            assert set(figures) <= labels, path
            found += len(figures)
    assert found > 40


@pytest.mark.parametrize("second", ["1.0", "0.4"])
def test_one_score_in_all_frames_is_not_rated(tmp_path: Path, truth: list[BenchmarkVideo], second: str) -> None:
    scores = "\n".join(["1.0", second] * 6) + "\n"
    files = {f"{n}.txt": text(n) for n in NAMES} | {f"{n}_score.txt": scores for n in NAMES}
    (run,) = load(zipped(tmp_path / "mine.zip", files), truth)
    assert (run.reliability is None) == (second == "1.0")
