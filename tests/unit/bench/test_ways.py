"""Protocols on a CPU: the quickest way whose boxes each of them allows, timed once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from rich.console import Console

from lib.bench import (
    EvalJob,
    StaticTracker,
    TrackerSpec,
    Way,
    WayTiming,
    demo_spec,
    measure_ways,
    quickest,
    run_evaluation,
    ways_text,
)
from lib.bench.benchmarks import get_benchmark
from lib.deploy import ENGINES, Engine, EngineError, prepare
from lib.paths import load_paths
from lib.track import OneStreamTracker, Tracker
from tests.support.commands import REPOSITORY
from tests.support.small_trackers import SMALL

PREPARING = import_module("lib.deploy.prepare")
"""Where the ways are prepared; `lib.deploy.prepare` is its function."""


def timing(engine: str, seconds: float, problem: str = "") -> WayTiming:
    return WayTiming(Way(engine), seconds, 1.0, 0.0, problem)


def test_the_quickest_way_is_never_slower_than_the_first() -> None:
    plain = timing("torch", 2.0)
    assert quickest([plain, timing("openvino", 3.0)]) is plain
    other = timing("openvino", 1.0)
    assert quickest([plain, other, timing("openvino-int8", 0.5, "boxes overlap by 0.900")]) is other
    assert quickest([plain, WayTiming(Way("onnx"), problem="not here")]) is plain
    assert quickest([plain, timing("openvino-int8", 0.99), other]) is other


@pytest.fixture
def spec() -> TrackerSpec:
    return demo_spec(TrackerSpec(device="cpu", engine="torch", checkpoint=SMALL))


@pytest.mark.slow
def test_a_way_whose_boxes_differ_is_measured_and_not_used(spec: TrackerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(tracker: Tracker, inference: object) -> Tracker:
        found = prepare(tracker)
        if getattr(inference, "dtype", None) == torch.bfloat16:
            assert isinstance(found, OneStreamTracker)
            found.window = found.window.flip(0).roll(40)
        return found

    monkeypatch.setattr(PREPARING, "prepare", damaged)
    plain, other = measure_ways(spec, [Way(), Way(dtype="bfloat16")], seconds=0.1)
    assert (plain.problem, plain.agreement, plain.loss) == ("", 1.0, 0.0)
    assert "boxes overlap by" in other.problem
    assert other.seconds < 1
    assert quickest([plain, replace(other, seconds=0.0)]) is plain
    assert "not used: boxes overlap" in ways_text([plain, other])


@pytest.mark.slow
def test_polygons_and_masks_are_not_traded_for_speed(spec: TrackerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(tracker: Tracker, inference: object) -> Tracker:
        found = prepare(tracker)
        found.gives_regions = frozenset({"mask"} if getattr(inference, "dtype", None) == torch.float32 else ())
        return found

    monkeypatch.setattr(PREPARING, "prepare", prepared)
    plain, other = measure_ways(spec, [Way(), Way(dtype="bfloat16")], seconds=0.1)
    assert (plain.movement, plain.problem) == (0.0, "")
    assert other.problem == "gives boxes alone, the tracker polygons or masks too"
    assert quickest([plain, replace(other, seconds=0.0)]) is plain


class Written:
    """In place of graphs: counts what is written, and may fail at it."""

    def __init__(self, tracker: Tracker, folder: Path, clips: object) -> None:
        self.made.append("8 bits" if clips else "float32")
        self.tracker, self.folder = tracker, folder
        if self.fails:
            raise RuntimeError("it does not\nwork here")

    def load(self, engine: Engine, dtype: torch.dtype) -> tuple[Tracker, None]:
        return prepare(self.tracker), None

    made: ClassVar[list[str]] = []
    graphs: ClassVar[dict[str, str]] = {}
    fails = False


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> type[Written]:
    monkeypatch.setattr(Written, "made", [])
    monkeypatch.setattr(PREPARING, "WrittenTracker", Written)
    monkeypatch.setattr(PREPARING, "checked_export", lambda tracker, how: (tracker, ENGINES[how.engine]))
    return Written


ENGINE_WAYS = [Way(name) for name in ("torch", "openvino", "openvino-int8", "onnx", "onnx-int8")]


@pytest.mark.slow
def test_an_engine_that_fails_leaves_the_others(
    spec: TrackerSpec, written: type[Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "fails", True)
    plain, *broken = found = measure_ways(spec, ENGINE_WAYS, seconds=0.1)
    assert [b.problem.split(",")[0] for b in broken[::2]] == [
        "it does not work here",
        "its graphs could not be written",
    ]
    assert written.made == ["float32", "8 bits"]
    assert quickest(found) is plain
    assert broken[0].problem in ways_text(found)


@pytest.mark.slow
def test_graphs_are_written_once_and_random_boxes_are_not_compared(spec: TrackerSpec, written: type[Written]) -> None:
    spec, notes = replace(spec, checkpoint=None, untrained=True), list[str]()
    found = measure_ways(spec, ENGINE_WAYS, 0.1, notes.append)
    assert written.made == ["float32", "8 bits"]
    assert len(notes) == len(found) + 1 == 6
    assert "onnx float32 (4 of 5, about " in notes[3]
    assert all(t.frames == 0 and t.seconds < 10 and not t.problem for t in found)


@pytest.mark.slow
def test_ways_that_there_is_no_time_for_are_named(spec: TrackerSpec, written: type[Written]) -> None:
    plain, *others = found = measure_ways(spec, ENGINE_WAYS, 0.1, patience=0.0)
    assert plain.frames == 3
    assert written.made == []
    assert quickest(found) is plain
    assert ways_text(found).count("left out, there is no time") == len(others)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TrackerSpec]:
    """The specs whose ways were measured; choices are kept below `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list[TrackerSpec] = []

    def measured(spec: TrackerSpec, ways: list[Way]) -> list[WayTiming]:
        calls.append(spec)
        return [timing("torch", 3.0), timing("openvino-int8", 1.0)]

    monkeypatch.setattr("lib.bench.ways.measure_ways", measured)
    return calls


def test_the_choice_is_made_once_and_kept(
    tmp_path: Path, calls: list[TrackerSpec], capsys: pytest.CaptureFixture[str]
) -> None:
    fast = TrackerSpec(device="cpu", protocol="fast", checkpoint=SMALL)
    first, second = demo_spec(fast), demo_spec(fast)
    assert len(calls) == 1
    assert (first.engine, first.dtype, second.engine) == ("openvino-int8", "float32", "openvino-int8")
    assert "3.00 times as quick as torch float32" in first.execution(0).reason
    assert first.execution(0).reason.endswith("timed now")
    assert second.execution(0).reason.endswith("timed before")
    assert "this is done once" in capsys.readouterr().err
    file = tmp_path / "unitrack/ways.json"
    for damage in ("{", "[]", json.dumps({key: {"engine": "gone"} for key in json.loads(file.read_text())})):
        file.write_text(damage)
        assert demo_spec(fast).engine == "openvino-int8"
    assert len(calls) == 4


OTHER_PROCESS = """
import sys, time
from lib.machine import choices_file, one_at_a_time
with one_at_a_time():
    print("measuring", flush=True)
    time.sleep(0.5)
    choices_file().write_text(sys.argv[1])
"""


def test_a_choice_is_of_a_number_of_threads_and_one_process_makes_it(
    tmp_path: Path, calls: list[TrackerSpec], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fast, file = TrackerSpec(device="cpu", protocol="fast", checkpoint=SMALL), tmp_path / "unitrack/ways.json"
    assert demo_spec(fast).execution(0).reason.endswith("timed now")
    with monkeypatch.context() as patched:
        patched.setattr("lib.bench.ways.network_threads", lambda *_: 7)
        assert demo_spec(fast).execution(0).reason.endswith("timed now")
    assert demo_spec(fast).execution(0).reason.endswith("timed before")
    assert len(calls) == 2
    choices = file.read_text()
    file.unlink()
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, choices], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"measuring\n"
        assert demo_spec(fast).execution(0).reason.endswith("timed before")
    assert (other.returncode, len(calls)) == (0, 2)
    assert "waiting for another process" in capfd.readouterr().err


def test_official_takes_a_way_with_the_same_boxes_that_is_clearly_quicker() -> None:
    def exact(engine: str, seconds: float, movement: float = 1e-4, dtype: str = "float32") -> WayTiming:
        return WayTiming(Way(engine, dtype), seconds, 1.0, 0.0, frames=36, movement=movement)

    plain, quick = exact("torch", 1.0, 0.0), exact("onnx", 0.9)
    assert quickest([plain, quick], "official") is quick
    for other in (
        exact("openvino", 0.96),  # within the noise
        exact("openvino", 0.5, 0.02),
        exact("openvino", 0.5, float("nan")),
        exact("openvino", 0.5, 0.0, "bfloat16"),
        exact("openvino-int8", 0.5, 0.0),
        WayTiming(Way("openvino"), problem="not here"),
    ):
        assert quickest([plain, other], "official") is plain
        assert quickest([plain, other, quick], "official") is quick
    assert "<- official, fast" in ways_text([plain, quick])


@pytest.fixture
def timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Engines that are there and quicker, as the first timing of them finds out; the folder of kept graphs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("lib.deploy.engines.require_packages", lambda *_: None)
    monkeypatch.setattr("lib.bench.ways._graphs_path", lambda spec, engine: tmp_path / "graphs" / engine)

    def measured(spec: TrackerSpec, ways: list[Way]) -> list[WayTiming]:
        (tmp_path / "graphs/openvino").mkdir(parents=True, exist_ok=True)
        (tmp_path / "graphs/openvino/graphs.json").touch()
        quicker = (WayTiming(Way(name), t, 1.0, 0.0, movement=0.0) for name, t in (("torch", 3.0), ("openvino", 2.0)))
        return [*quicker, timing("openvino-int8", 1.0)]

    monkeypatch.setattr("lib.bench.ways.measure_ways", measured)
    return tmp_path / "graphs"


def test_official_never_waits_and_takes_what_fast_has_timed(timed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = TrackerSpec(device="cpu", checkpoint=SMALL)
    before = demo_spec(official)
    assert (before.engine, before.dtype) == ("torch", "")
    assert "PyTorch, since no other way was timed for these weights" in before.execution(0).reason
    assert demo_spec(replace(official, protocol="fast")).engine == "openvino-int8"
    after = demo_spec(official)
    assert (after.engine, after.dtype) == ("openvino", "float32")
    assert after.execution(0).reason.startswith("official: openvino float32, 1.50 times as quick as torch float32 on")
    # A run goes on with either way: neither makes results of the other stale, nor of those before there was a choice.
    assert after.identity() == before.identity() == demo_spec(replace(official, engine="torch")).identity()
    assert "engine" in demo_spec(replace(official, engine="openvino")).identity().values
    assert demo_spec(replace(official, engine="torch")).execution(0).reason.endswith("the official protocol")
    random = TrackerSpec("ostrack", "synthetic_small", device="cpu", untrained=True).resolve(load_paths())
    assert (random.engine, random.dtype_reason) == ("torch", "")
    with monkeypatch.context() as patched:
        patched.setattr("lib.bench.ways.network_threads", lambda *_: 7)
        assert demo_spec(official).engine == "torch"
    with monkeypatch.context() as patched:
        patched.setattr("lib.deploy.engines.require_packages", refuse)
        assert demo_spec(official).engine == "torch"
    (timed / "openvino/graphs.json").unlink()
    assert "since openvino float32 was quicker, but its graphs are no longer kept" in demo_spec(official).dtype_reason


def refuse(*_: object) -> None:
    raise EngineError("a package is missing")


@pytest.mark.usefixtures("timed")
def test_a_long_official_evaluation_is_timed_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    from toy_tracker import paths_at, write_benchmark

    def build(spec: TrackerSpec, slot: int = 0) -> Tracker:
        built.append(spec.engine)
        return StaticTracker()

    built, said = list[str](), StringIO()
    monkeypatch.setattr(TrackerSpec, "build", build)
    write_benchmark(tmp_path / "data/synthetic/test", (5, 9))
    spec = demo_spec(TrackerSpec(device="cpu", checkpoint=SMALL))
    job = EvalJob(spec, get_benchmark("synthetic"), paths_at(tmp_path))
    for bound, rerun in ((15, False), (14, True), (1, False)):
        monkeypatch.setattr("lib.bench.evaluate.LONG_RUN", bound)
        outcome = run_evaluation(replace(job, rerun=rerun), Console(file=said, width=200))
    assert built == ["torch", "openvino"]
    assert (outcome.kept, outcome.tracked) == (2, 0)
    assert said.getvalue().count("device: official: openvino float32, 1.50 times as quick as torch") == 1
    assert said.getvalue().count("timed now") == 1


@pytest.mark.slow
def test_an_engine_that_cannot_be_built_leaves_official_to_pytorch(
    timed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = replace(demo_spec(TrackerSpec(device="cpu", checkpoint=SMALL)), engine="openvino", dtype="float32")
    assert isinstance(spec.build(), Tracker)
    monkeypatch.setattr(PREPARING, "checked_export", refuse)
    (timed / "openvino").mkdir(parents=True)
    (timed / "openvino/graphs.json").touch()
    assert isinstance(spec.build(), Tracker)
    assert caplog.messages == [
        f"PyTorch computes the network, as openvino cannot: {reason}"
        for reason in ("its graphs are not kept for these settings", "a package is missing")
    ]
    with pytest.raises(EngineError, match="a package is missing"):
        replace(spec, dtype="").build()  # --engine openvino


def test_without_engines_and_for_what_was_asked_for_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("lib.bench.ways.measure_ways")
    monkeypatch.setattr("lib.bench.ways.ways_here", lambda: [Way()])
    assert demo_spec(TrackerSpec(device="cpu", checkpoint=SMALL)).engine == "torch"
    assert demo_spec(TrackerSpec(device="cpu", protocol="fast", engine="onnx", checkpoint=SMALL)).engine == "onnx"
    spec = TrackerSpec("ostrack", "synthetic_small", device="cpu", protocol="fast", engine="torch", untrained=True)
    assert spec.resolve(load_paths()).dtype == ""
