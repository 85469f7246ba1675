"""Engines as commands use them: identity of results, refusals, exported folders, 8 bits on a trained network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.bench import TrackerSpec, Way, demo_spec, engine_execution, export_tracker, keep_ways, measure_ways
from lib.data import iou_xywh
from lib.deploy import ENGINES, EngineError, prepare
from lib.paths import repository_root
from lib.track import Tracker, TrackerSession
from synthetic import build_synthetic
from tests.support.engines import RUNTIMES, needs
from tests.support.small_trackers import SMALL

pytestmark = pytest.mark.engines


def factory(engine: str, protocol: str = "fast", calibration: str = "") -> TrackerSpec:
    asked = {"protocol": protocol, "engine": engine, "calibration": calibration}
    return demo_spec(TrackerSpec(device="cpu", scores="raw", checkpoint=SMALL, **asked))


@needs("openvino")
def test_runtimes_do_not_report_their_use_to_their_makers() -> None:
    importlib.import_module("openvino")
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_results_of_another_engine_or_calibration_are_other_results() -> None:
    torch_identity = factory("torch").identity()
    openvino, eight = factory("openvino").identity(), factory("openvino-int8").identity()
    assert openvino.difference(torch_identity.plain()) == "engine"
    assert factory("openvino-int8", calibration="LASOT").identity().difference(eight.plain()) == "calibration"
    # Results from before there were engines stay valid.
    assert "engine" not in torch_identity.plain()


def test_what_an_engine_cannot_do_is_refused_before_anything_is_tracked() -> None:
    with pytest.raises(EngineError, match="--device cuda:1 is for --engine torch"):
        engine_execution(ENGINES["onnx"], "cuda:1", "official")
    with pytest.raises(EngineError, match="add --protocol fast"):
        factory("onnx-int8", "official").identity()
    with pytest.raises(ValueError, match="protocol 'quick' is unknown"):
        engine_execution(ENGINES["onnx-int8"], "cpu", "quick")
    assert engine_execution(ENGINES["onnx"], "auto", "fast").dtype == torch.float32


def overlap_one_frame_on(tracker: Tracker, reference: Tracker) -> np.ndarray:
    """Overlap of both trackers' boxes when both start every frame where the reference was."""
    data = build_synthetic("SYNTHETIC:seed=990001,sequences=4,length=8")
    found = []
    for sequence in data:
        boxes = torch.from_numpy(sequence.boxes_xywh[:1].copy())
        first = [sequence.read_frame(0)]
        state, other = reference.init(first, boxes), tracker.init(first, boxes)
        for i in range(1, len(sequence)):
            frame = [sequence.read_frame(i)]
            other.boxes_xywh = state.boxes_xywh  # type: ignore[attr-defined]
            _, guess = tracker.step(other, frame)
            state, expected = reference.step(state, frame)
            found.append(iou_xywh(guess.boxes_xywh, expected.boxes_xywh))
    return np.concatenate([np.asarray(v) for v in found])


@pytest.mark.slow
@needs("openvino")
def test_a_second_start_takes_the_graphs_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    video = build_synthetic("SYNTHETIC:seed=3,sequences=1,length=4")[0]

    def score() -> float:
        session = TrackerSession(factory("openvino").build())
        session.init(video.read_frame(0), video.boxes_xywh[0].tolist())
        return session.update(video.read_frame(1))[1]

    class ExportedError(EngineError):
        pass

    def exported(*arguments: object, **options: object) -> None:
        raise ExportedError

    (old := tmp_path / "unitrack/graphs/tmpkilled").mkdir(parents=True)
    os.utime(old, (0, 0))
    first = score()
    monkeypatch.setattr("torch.onnx.export", exported)
    assert score() == first
    (folder,) = (tmp_path / "unitrack/graphs").iterdir()
    (folder / "frame.onnx").write_bytes(b"damaged")
    with pytest.raises(ExportedError):
        score()
    # Graphs that were calibrated on a data set, which may change, are not kept.
    spec, tracker = factory("openvino-int8"), factory("torch", "official").build_plain()
    assert spec.inference(tracker).folder is not None
    assert replace(spec, calibration="LASOT").inference(tracker).folder is None


@pytest.mark.slow
@needs("openvino")
def test_official_tracks_by_the_engine_that_was_timed_with_the_boxes_of_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = factory("auto", "official")
    assert before.engine == "torch"
    monkeypatch.setattr("lib.bench.ways.quickest", lambda timings, protocol="fast": timings[-1])
    plain, quick = timings = measure_ways(before, [Way(), Way("openvino")], seconds=0.1)
    assert plain.movement == 0 < quick.movement < 1e-3
    assert quick.is_usable("official")
    keep_ways(before, timings)
    monkeypatch.delattr("torch.onnx.export")  # the graphs are there
    after = factory("auto", "official")
    assert (after.engine, after.identity()) == ("openvino", before.identity())
    video = build_synthetic("SYNTHETIC:seed=3,sequences=1,length=4")[0]
    sessions = [TrackerSession(spec.build()) for spec in (before, after)]
    for session in sessions:
        session.init(video.read_frame(0), video.boxes_xywh[0].tolist())
    for i in range(1, 4):
        boxes = [session.update(video.read_frame(i))[0] for session in sessions]
        np.testing.assert_allclose(*boxes, rtol=0, atol=1e-3)


@pytest.mark.slow
@needs(*RUNTIMES)
def test_8_bits_on_the_shipped_network(tmp_path: Path) -> None:
    plain = factory("torch", "official").build_plain()
    for runtime in RUNTIMES:  # the first one leaves its graphs to the others
        inference = replace(factory(f"{runtime}-int8").inference(plain), folder=tmp_path / "graphs")
        overlap = overlap_one_frame_on(prepare(plain, inference), plain)
        assert np.median(overlap) > 0.9
        assert overlap.mean() > 0.8
        assert overlap.min() < 1  # it is not the same network


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network as the page exports it."""
    folder = tmp_path_factory.mktemp("page") / "exported/synthetic_small"
    export_tracker(factory("onnx", "official"), folder)
    return folder


@pytest.mark.slow
@needs("onnx")
def test_an_exported_folder_is_all_that_a_program_needs(exported: Path) -> None:
    import onnxruntime

    made, folder = factory("onnx", "official"), exported
    about = json.loads((folder / "graphs.json").read_text())
    assert about["weights"]["sha256"] == hashlib.sha256(SMALL.read_bytes()).hexdigest()
    sides = {"template_size": 48, "template_factor": 2.0, "search_size": 96, "search_factor": 4.0}
    assert about["crop"].items() >= sides.items()
    assert about["graphs"]["frame"]["inputs"]["search"] == {"shape": ["batch", 3, 96, 96], "dtype": "uint8"}
    template, frame = (onnxruntime.InferenceSession(folder / about["graphs"][g]["file"]) for g in ("template", "frame"))
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (2, 3, side, side), dtype=np.uint8) for side in (48, 96)]
    (tokens,) = template.run(None, {"template": crops[0]})
    names = list(about["graphs"]["frame"]["outputs"])
    maps = dict(zip(names, frame.run(names, {"tokens": tokens, "search": crops[1]}), strict=True))
    plain = made.build_plain(0)
    with torch.no_grad():
        z, x = (plain.normalise(torch.from_numpy(c)) for c in crops)  # type: ignore[attr-defined]
        expected = plain.network(z, x).candidates  # type: ignore[attr-defined]
    np.testing.assert_allclose(maps["score_map"], expected.maps["score_map"].numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(maps["boxes_cxcywh"], expected.best_boxes().numpy(), rtol=1e-3, atol=1e-5)
    with pytest.raises(EngineError, match="not empty"):
        export_tracker(made, folder)


@pytest.mark.slow
@needs("onnx")
def test_the_program_of_the_page_gives_the_boxes_of_the_tracker(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository_root() / "docs/inference.md").read_text(encoding="utf-8")
    program = next(part.split("```")[0] for part in page.split("```python\n") if "onnxruntime" in part)
    made, folder = factory("onnx", "official"), exported.parents[1]
    video = build_synthetic("SYNTHETIC:seed=3,sequences=1,length=6")[0]
    box = [float(v) for v in video.boxes_xywh[0]]
    height, width = video.read_frame(0).rgb.shape[:2]
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for i in range(len(video)):
        writer.write(np.ascontiguousarray(video.read_frame(i).rgb[..., ::-1]))
    writer.release()
    monkeypatch.chdir(folder)
    found: list[list[float]] = []
    exec(program.replace("[169, 74, 96, 89]", str(box)), {"print": found.append})
    session, reader = TrackerSession(made.build_plain(0)), cv2.VideoCapture("clip.mp4")
    session.init(cv2.cvtColor(reader.read()[1], cv2.COLOR_BGR2RGB), box)
    expected = [session.update(cv2.cvtColor(reader.read()[1], cv2.COLOR_BGR2RGB))[0] for _ in found]
    assert len(found) == len(video) - 1
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_a_missing_package_is_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "tracking"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    import export

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    weights = ["--checkpoint", str(SMALL)]
    assert export.main(["ostrack", "synthetic_small", "--output", str(tmp_path / "x"), *weights]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bash install.sh onnx" in said
    assert not (tmp_path / "x").exists()
