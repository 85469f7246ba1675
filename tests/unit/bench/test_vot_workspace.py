"""Workspaces of the VOT toolkit: what is linked and written, and what a user can get wrong."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from types import ModuleType

import pytest

from lib.bench import TrackerSpec
from lib.bench.vot import (
    VotWorkspace,
    WorkspaceError,
    find_sequences,
    link_results,
    link_sequences,
    open_workspace,
    write_tracker,
)
from lib.paths import Paths, repository_root
from tests.support.commands import import_command
from tests.unit.bench.toy_tracker import paths_at
from tests.unit.bench.vot_tree import write_tree

STATIC = TrackerSpec(reference="static")
COMMITTED = {
    "Depthtrack_workspace": "depthtrack",
    "VOT22RGBD_workspace": "vot_rgbd22",
    "VOT2018_workspace": "vot2018_supervised",
    "VOT2018LT_workspace": "vot2018_lt",
}
INTERVALS = {
    "vot_rgbd22": (115, 755),
    "vot2016_supervised": (108, 371),
    "vot2018_supervised": (100, 356),
    "vot2019_supervised": (46, 291),
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    write_tree(tmp_path / "data/vot_rgbd22")
    return paths_at(tmp_path)


@pytest.fixture(scope="module")
def command() -> ModuleType:
    return import_command("vot_workspace")


@pytest.mark.parametrize("folder", [*COMMITTED, "vot2016_supervised", "vot2019_supervised"])
def test_the_toolkit_parses_our_stacks(folder: str, tmp_path: Path) -> None:
    pytest.importorskip("vot", reason="the VOT toolkit is not installed (bash install.sh)")
    import vot.analysis
    import vot.experiment  # noqa: F401
    from vot.stack import Stack, resolve_stack

    benchmark = COMMITTED.get(folder, folder)
    if folder not in COMMITTED:
        open_workspace(tmp_path / folder, benchmark).make()
    workspace = open_workspace(repository_root() / folder if folder in COMMITTED else tmp_path / folder)
    assert workspace.benchmark.name == benchmark
    config = (workspace.folder / "config.yaml").read_text()
    name = config.split("stack:")[1].split()[0]
    stack = Stack.read(resolve_stack(name, str(workspace.folder)))
    assert stack.dataset is None
    kinds = [type(analysis).__name__ for analysis in stack.experiments[workspace.experiment].analyses]
    assert len(kinds) == 3
    lengths = [(a.low, a.high) for a in stack.experiments[workspace.experiment].analyses if hasattr(a, "low")]
    assert set(lengths) <= {INTERVALS.get(benchmark)}


def test_the_title_of_a_stack_tells_benchmarks_of_one_experiment_apart(tmp_path: Path) -> None:
    open_workspace(tmp_path / "work", "vot2018_lt").make()
    assert open_workspace(tmp_path / "work").benchmark.name == "vot2018_lt"
    with pytest.raises(WorkspaceError, match="work is a workspace of vot2018_lt; give depthtrack another folder"):
        open_workspace(tmp_path / "work", "depthtrack")
    stack = tmp_path / "work/longterm.yaml"
    stack.write_text(stack.read_text().replace("VOT2018-LT", "mine"))
    assert open_workspace(tmp_path / "work").benchmark.name == "depthtrack"


def test_sequences_are_linked_and_the_data_set_stays_as_it_is(
    tmp_path: Path, paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data/vot_rgbd22"
    before = sorted(p.name for p in data.rglob("*"))
    workspace = open_workspace(tmp_path / "work", "vot_rgbd22")
    made = link_sequences(workspace, find_sequences(workspace, None, paths))
    assert made.names == ("a", "b")
    assert (workspace.sequences / "list.txt").read_text() == "a\nb\n"
    assert "channels.depth=depth/%08d.png" in (workspace.sequences / "a/sequence").read_text()
    assert (workspace.sequences / "a/color/00000001.jpg").is_file()
    assert sorted(p.name for p in data.rglob("*")) == before
    for number in range(1, 6):
        (data / f"b/color/{number:08d}.jpg").rename(data / f"b/color/{number:05d}.png")
    assert "channels.color=color/%05d.png" in rebuilt(workspace, paths, "b/sequence")
    (data / "b").rename(data / "my b")
    (data / "list.txt").write_text("\ufeffmy b\r\nx\r\n", encoding="utf-8")
    assert link_sequences(workspace, find_sequences(workspace, None, paths)).names == ("my b",)
    assert "list.txt: 1 of its 2 sequences have no folder with a groundtruth.txt and are left out: x" in caplog.text


def rebuilt(workspace: VotWorkspace, paths: Paths, file: str) -> str:
    link_sequences(workspace, find_sequences(workspace, None, paths))
    return (workspace.sequences / file).read_text()


def test_a_users_own_sequences_are_left_alone(tmp_path: Path, paths: Paths) -> None:
    workspace = open_workspace(tmp_path / "work", "vot_rgbd22")
    write_tree(workspace.sequences)
    assert link_sequences(workspace, find_sequences(workspace, None, paths)).sequence_files == 2
    with pytest.raises(WorkspaceError, match="is there already and was not made here"):
        find_sequences(workspace, tmp_path / "data/vot_rgbd22", paths)
    assert (workspace.sequences / "a/groundtruth.txt").is_file()


def test_trackers_are_added_and_results_of_another_tracker_set_aside(tmp_path: Path, paths: Paths) -> None:
    workspace = open_workspace(tmp_path / "work", "depthtrack")
    assert write_tracker(workspace, "one", STATIC, paths) is None
    assert write_tracker(workspace, "two", TrackerSpec(reference="classical"), paths, timeout=9) is None
    ini = configparser.ConfigParser()
    ini.read(workspace.folder / "trackers.ini")
    assert ini.sections() == ["one", "two"]
    assert ini["two"]["timeout"] == "9"
    assert ini["one"]["command"] == "lib.bench.vot"
    assert Path(ini["one"]["python"]).is_absolute()
    (workspace.folder / "results/one/x").mkdir(parents=True)
    (workspace.folder / "cache/analysis").mkdir(parents=True)
    assert write_tracker(workspace, "one", STATIC, paths) is None
    assert (workspace.folder / "results/one/x").is_dir()
    aside = write_tracker(workspace, "one", TrackerSpec(reference="mil"), paths)
    assert aside is not None
    assert (aside / "x").is_dir()
    assert not (workspace.folder / "cache/analysis").exists()


def test_regions_are_those_that_the_tracker_gives_and_results_of_others_are_set_aside(
    tmp_path: Path, paths: Paths
) -> None:
    workspace = open_workspace(tmp_path / "work", "vot2016_supervised")
    with pytest.raises(WorkspaceError, match=r"--region mask: StaticTracker gives boxes, no mask; --region rectangle"):
        write_tracker(workspace, "one", STATIC, paths, region="mask")
    with pytest.raises(WorkspaceError, match=r"OSTrackTracker gives boxes, no polygon"):  # not the wrapper's name
        write_tracker(workspace, "one", TrackerSpec("ostrack", "synthetic_small"), paths, region="polygon")
    small = TrackerSpec("siamattn", "synthetic_small", untrained=True)
    assert write_tracker(workspace, "one", small, paths, region="mask") is None
    (workspace.folder / "results/one/x").mkdir(parents=True)
    assert write_tracker(workspace, "one", small, paths, region="mask") is None
    aside = write_tracker(workspace, "one", small, paths, region="polygon")
    assert aside is not None
    assert (aside / "x").is_dir()


def test_a_workspace_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    open_workspace(tmp_path / "work", "vot2016_supervised").make()
    assert open_workspace(tmp_path / "work", "vot16").benchmark.name == "vot2016_supervised"
    with pytest.raises(WorkspaceError, match=r"work is a workspace of vot2016_supervised; give vot2019_supervised"):
        open_workspace(tmp_path / "work", "vot2019_supervised")


def test_native_results_are_linked_once_there_are_any(tmp_path: Path, paths: Paths) -> None:
    workspace = open_workspace(tmp_path / "work", "depthtrack")
    with pytest.raises(WorkspaceError, match=r"no results in .*static/depthtrack"):
        link_results(workspace, "static", STATIC, paths)
    native = paths.save_dir / "test/tracking_results/reference/static/depthtrack/a"
    native.mkdir(parents=True)
    for _ in range(2):
        link_results(workspace, "static", STATIC, paths)
    assert (workspace.folder / "results/static/rgbd-unsupervised/a").is_dir()
    (workspace.folder / "results/kit/rgbd-unsupervised").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match="has results of the toolkit"):
        link_results(workspace, "kit", STATIC, paths)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stack: vot2021/rgbd\n", "stack 'vot2021/rgbd' is no file of the workspace"),
        ("stack: mine.yaml\n", "mine.yaml: a `dataset` entry makes the toolkit download"),
        ("stack: odd.yaml\n", "no experiment of type unsupervised or multistart or supervised"),
        ("stack: other.yaml\n", "other.yaml: title 'VOT2012' is none of VOT2016, VOT2018, VOT2019"),
        ("- a\n", "config.yaml: expected `key: value` lines"),
        ("stack: [\n", "config.yaml is not valid YAML"),
    ],
)
def test_a_configuration_that_leads_astray_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "mine.yaml").write_text("dataset: http://x\nexperiments: {a: {type: unsupervised}}\n")
    (tmp_path / "odd.yaml").write_text("experiments: {a: {type: chunked}}\n")
    (tmp_path / "other.yaml").write_text("title: VOT2012\nexperiments: {a: {type: supervised}}\n")
    with pytest.raises(WorkspaceError, match=message):
        open_workspace(tmp_path)


def test_the_command_says_what_lacks(
    tmp_path: Path, paths: Paths, command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--data_dir", str(paths.data_dir), "--save_dir", str(tmp_path)]
    work = str(tmp_path / "work")
    assert command.main([work, "--tracker", "static", *place]) == 2
    assert "or vot2019_supervised to make a new workspace" in capsys.readouterr().err
    made = [work, "--benchmark", "vot_rgbd22", "--tracker", "static", *place]
    assert command.main(made) == 0
    done = capsys.readouterr()
    assert "vot evaluate static" in done.out
    assert "warning: 2 sequences, VOT-RGBD2022 has 127" in done.err
    (paths.data_dir / "vot_rgbd22/b/anchor.value").unlink()
    (paths.data_dir / "vot_rgbd22/a/depth/00000003.png").unlink()
    assert command.main(made) == 1
    printed = capsys.readouterr().err
    assert "b/anchor.value is missing" in printed
    assert "8 annotation rows, 8 color and 7 depth pictures" in printed
    for wrong, said in (
        (["--name", "a b"], "letters, digits, - and _ only"),
        (["--sequences", str(tmp_path / "none")], "none is not there"),
        (["--sequences", str(tmp_path / "work/sequences/a")], "no <seq>/groundtruth.txt"),
    ):
        assert command.main([*made, *wrong]) == 2
        assert said in capsys.readouterr().err


def test_a_refused_command_makes_no_workspace(
    tmp_path: Path, paths: Paths, command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["--benchmark", "vot_rgbd22", "--data_dir", str(paths.data_dir), "--save_dir", str(tmp_path)]
    for work, wrong, said in (
        ("work", ["--tracker", "static", "--sequences", str(tmp_path / "none")], "--sequences: .*none is not there"),
        ("work", ["--tracker", "static", "--name", "a b"], "letters, digits, - and _ only"),
        ("work", ["--tracker", "static", "--region", "mask"], "gives boxes, no mask"),
        ("work", ["--script", "ostrack", "--config", "nothing"], "no configuration 'nothing'"),
        ("grün", ["--tracker", "static"], "grün: the toolkit sends trackers names of ASCII letters only"),
    ):
        assert command.main([str(tmp_path / work), *made, *wrong]) == 2
        assert re.search(said, capsys.readouterr().err)
        assert not (tmp_path / work).exists()
    assert command.main([str(tmp_path / "my work"), *made, "--tracker", "static"]) == 0
    assert "next: cd '" in capsys.readouterr().out
    (paths.data_dir / "vot_rgbd22/list.txt").unlink()
    (paths.data_dir / "vot_rgbd22/a").rename(paths.data_dir / "vot_rgbd22/ä")
    assert command.main([str(tmp_path / "my work"), *made, "--tracker", "static"]) == 2
