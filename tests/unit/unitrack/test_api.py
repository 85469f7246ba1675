"""The public API: what is loaded, tracked, evaluated and compared, and the sentences of wrong calls."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unitrack
from lib.bench import SHIPPED, ForeignSpec
from lib.config import ConfigError
from lib.data import SourceError
from lib.deploy import prepare
from lib.models import CheckpointNotFoundError, WeightsError
from tests.support.small_trackers import SMALL

ROOT = Path(__file__).parents[3]
BOX = (40.0, 30.0, 32.0, 28.0)


def pictures(count: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(count)]


class Shift:
    """Moves its box right by one pixel in every frame, and keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def init(self, image: Any, box: np.ndarray) -> None:
        self.box = box
        self.given.append((image, box.copy()))

    def update(self, image: Any) -> Any:
        self.given.append(image)
        self.box = self.box + np.array([1, 0, 0, 0])
        return self.box


class Answer(Shift):
    """Answers with `BOX` in some form."""

    def __init__(self, form: Callable[[Any], Any]) -> None:
        super().__init__()
        self.form = form

    def update(self, image: Any) -> Any:
        return self.form(np.array(BOX))


class Toolkit(Shift):
    """With the two attributes of the GOT-10k toolkit's base class."""

    name, is_deterministic = "toolkit tracker", True


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, unitrack; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_shipped_network_is_loaded_by_default_by_its_experiment_and_by_its_name() -> None:
    named = [unitrack.load(), unitrack.load("ostrack", "synthetic_lite"), unitrack.load("synthetic_lite.safetensors")]
    for tracker in named:
        assert tracker.spec.labels == ("ostrack", "synthetic_lite")
        assert Path(str(tracker.spec.checkpoint)).read_bytes() == SHIPPED.read_bytes()
    tracker.init(pictures()[0], BOX)
    box, score = tracker.update(pictures()[1])
    assert len(box) == 4
    assert 0 <= score <= 1


@pytest.mark.parametrize("name", ["synthetic_rgbt", "synthetic_rgbd"])
def test_the_shipped_adapters_read_two_pictures(name: str) -> None:
    tracker = unitrack.load(name)
    assert tracker.spec.labels == ("sdstrack", name)
    second = [255 - picture for picture in pictures()[:3]]
    both = list(unitrack.track(tracker, pictures()[:3], init=BOX, aux=second))
    alone = list(unitrack.track(unitrack.load(), pictures()[:3], init=BOX))
    assert len(both) == 3
    assert not np.allclose(both[-1][0], alone[-1][0])


def test_wrong_names_are_sentences() -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"no_such\.pth"):
        unitrack.load("no_such.pth")
    with pytest.raises(CheckpointNotFoundError, match=r"ostrak: no such file of weights.*did you mean 'ostrack'"):
        unitrack.load("ostrak")
    with pytest.raises(ConfigError, match=r"unknown key TEST\.NOPE"):
        unitrack.load(overrides={"TEST.NOPE": [1]})
    with pytest.raises(ConfigError, match="override 'a': expected KEY=VALUE"):
        unitrack.load(overrides=["a"])
    with pytest.raises(WeightsError, match="ostrack needs a configuration"):
        unitrack.load("ostrack")
    with pytest.raises(SourceError, match="no_such_clip"):
        unitrack.track(unitrack.load("static"), "no_such_clip.mp4", BOX)
    with pytest.raises(ValueError, match="outside the picture"):
        next(unitrack.track(unitrack.load("static"), pictures(), (500, 0, 5, 5)))
    with pytest.raises(TypeError, match="Path has no init and no update"):
        unitrack.evaluate(Path(), "synthetic")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unitrack.load("clasical"), "clasical: no such file of weights.*did you mean 'classical'"),
        (lambda: unitrack.load("synthetic_smal"), "did you mean 'synthetic_small'"),
        (lambda: unitrack.load("ostrack/synthetic_small"), "synthetic_small is a configuration of .*ostrack.*: name"),
        (lambda: unitrack.load(str(ROOT)), "no such file of weights"),
        (lambda: unitrack.load("~/no_such.pth"), f"{Path.home()}/no_such.pth"),
        (lambda: unitrack.load("static", weights="x"), "weights: load.'static'. names a tracker with its weights"),
        (lambda: unitrack.load("static", overrides={"TEST.EPOCH": 1}), "--set is for trained trackers, not for static"),
        (lambda: unitrack.load("static", engine="onnx"), "--engine is for trained trackers, not for static"),
        (lambda: unitrack.load("static", device="cdua"), "--device is for trained trackers, not for static"),
        (lambda: unitrack.load("static", protocol="fast"), "--protocol is for trained trackers, not for static"),
        (lambda: unitrack.load("static", cpu_threads=1), "--cpu_threads is for trained trackers, not for static"),
        (
            lambda: unitrack.load("timm:vit_tiny"),
            "timm:vit_tiny: timm has weights of backbones, not of trackers; MODEL",
        ),
        (lambda: prepare(unitrack.load("static")), "expected a lib.track.Tracker, found a LoadedTracker"),  # type: ignore[arg-type]
        (lambda: unitrack.load(engin="onnx"), r"load\(\) has no argument 'engin'; did you mean 'engine'"),
        (lambda: unitrack.train("ostrack", "own_data", sed=1), r"train\(\) has no argument 'sed'; did you mean 'seed'"),
        (
            lambda: unitrack.train("ostrack", "own_data", resume="no"),
            "resume 'no' is unknown; expected auto, never, must",
        ),
        (lambda: unitrack.train("ostrack", None), "no configuration 'None' in experiments/ostrack"),  # type: ignore[arg-type]
        (lambda: unitrack.load(overrides="TEST.NOPE=1"), "override 'TEST.NOPE=1': unknown key"),
        (lambda: unitrack.load(overrides={"TEST.EPOCH": object()}), "overrides: expected texts, numbers"),
        (lambda: unitrack.load(plugins="nothere"), "nothere: expected a folder with an __init__.py"),
        (lambda: unitrack.track(Shift(), pictures(), "1,2,3,4"), "init: expected x, y, w, h in pixels"),
        (lambda: unitrack.track(Shift(), pictures(), [BOX, (1, 2, 3)]), "init: expected x, y, w, h"),
        (lambda: unitrack.track(Shift(), pictures(), None), "init: expected x, y, w, h in pixels"),  # type: ignore[arg-type]
        (lambda: unitrack.track(Shift(), pictures(), BOX, max_frames=0), "max_frames: expected a whole number from 1"),
        (lambda: list(unitrack.track(Shift(), pictures(), BOX, aux=pictures())), "aux: this tracker reads RGB alone"),
        (lambda: unitrack.load("static").init(pictures()[0], "1,2,3,4"), "the box must be four finite numbers"),
        (lambda: unitrack.load("static").init(pictures()[0], [BOX, BOX]), "the box must be four finite numbers"),  # type: ignore[list-item]
        (lambda: unitrack.load("static").init(pictures()[0], None), "the box must be four finite numbers"),  # type: ignore[arg-type]
        (lambda: unitrack.track(Shift(), None, BOX), "source: expected a video file"),  # type: ignore[arg-type]
        (lambda: unitrack.track(Shift(), "", BOX), "'': no such video"),
        (lambda: unitrack.evaluate(Shift(), "synthetic", batch=0), "batch 0: objects from outside track one"),
        (lambda: unitrack.evaluate(unitrack.load("static"), "synthetic", batch=0), "batch: expected a whole number"),
        (
            lambda: unitrack.evaluate(unitrack.load("static"), "synthetic", name="x"),
            "name and pictures are for objects",
        ),
        (lambda: unitrack.evaluate(Shift(), "synthetic", run_id="x"), "run_id: expected a whole number"),  # type: ignore[arg-type]
        (lambda: unitrack.evaluate(Shift(), str(ROOT / "docs")), "for a folder of your own write FOLDER:/"),
        (lambda: unitrack.evaluate(Shift, "synthetic", name="..", sequences="ab"), "has no sequence 'ab'"),
        (lambda: unitrack.evaluate(Answer, "synthetic"), "Answer cannot be made without arguments"),
        (lambda: unitrack.compare(None, "synthetic"), "results: expected what evaluate returned"),  # type: ignore[arg-type]
        (lambda: unitrack.compare([], "synthetic"), "results: there are none to compare"),
        (lambda: unitrack.compare("other_trackers", "synthetic", report="clip.mp4"), "report: clip.mp4 is a file"),
    ],
)
def test_wrong_arguments_are_named(here: Path, call: Callable[[], Any], message: str) -> None:
    with pytest.raises((LookupError, OSError, RuntimeError, TypeError, ValueError), match=message):
        call()


def test_a_wrong_plugin_is_forgotten_and_single_values_stand_for_lists(here: Path) -> None:
    with pytest.raises(ConfigError, match="nothere"):
        unitrack.load(plugins="nothere")
    values = {"TEST.EPOCH": np.int64(3), "MODEL.PRETRAIN_FILE": Path("x")}
    tracker = unitrack.load("synthetic_small", device=torch.device("cpu"), overrides=values)  # type: ignore[arg-type]
    assert tracker.spec.overrides == ("TEST.EPOCH=3", "MODEL.PRETRAIN_FILE=x")
    assert unitrack.load(overrides="TEST.EPOCH=3").spec.overrides == ("TEST.EPOCH=3",)


def test_names_of_objects_stay_in_their_folder() -> None:
    assert [ForeignSpec.of(Shift, name).name for name in ("..", "a/../b", "")] == ["Shift", "a_.._b", "Shift"]


def fake_hub(monkeypatch: pytest.MonkeyPatch, snapshot: Callable[..., str]) -> None:
    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_weights_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def snapshot(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision, allow_patterns))
        return str(tmp_path)

    fake_hub(monkeypatch, snapshot)
    with pytest.raises(WeightsError, match=r"no \.safetensors file"):
        unitrack.load("hf://someone/tracker")
    for ending in (".safetensors", ".json"):
        (tmp_path / f"net{ending}").write_bytes(SMALL.with_suffix(ending).read_bytes())
    assert unitrack.load("hf://someone/tracker@v2").spec.config == "synthetic_small"
    assert asked[-1] == ("someone/tracker", "v2", ["*.safetensors", "*.json"])
    tracker = unitrack.load("ostrack", "synthetic_small", "hf://someone/tracker/net.safetensors")
    assert asked[-1] == ("someone/tracker", None, ["net.safetensors", "net.json"])
    assert tracker.spec.checkpoint == tmp_path / "net.safetensors"
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"found net\.safetensors, other\.safetensors; name one"):
        unitrack.load("hf://someone/tracker")
    with pytest.raises(WeightsError, match=r"has no file gone\.pth"):
        unitrack.load("ostrack", "synthetic_small", "hf://someone/tracker/gone.pth")
    with pytest.raises(WeightsError, match="hf://OWNER/NAME"):
        unitrack.load("hf://someone")


def test_no_hub_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nmore lines")

    fake_hub(monkeypatch, unreachable)
    with pytest.raises(WeightsError, match=r"gave no weights \(no route to host\); without a network"):
        unitrack.load("hf://someone/tracker")
    with pytest.raises(WeightsError, match="hf://someone/tracker: the Hugging Face hub"):
        unitrack.train("ostrack", "synthetic_small", load="hf://someone/tracker", save_dir=tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="needs the package huggingface_hub"):
        unitrack.load("hf://someone/tracker")


def test_a_script_that_data_workers_import_does_not_train_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match=r"below `if __name__ == '__main__':`"):
        unitrack.train("ostrack", "synthetic_small")


def test_several_targets_are_tracked_as_each_alone() -> None:
    tracker, boxes = unitrack.load(), [BOX, (70.0, 20.0, 20.0, 40.0)]
    together = list(unitrack.track(tracker, pictures(), boxes))
    assert [(b.shape, s.shape) for b, s in together] == [((2, 4), (2,))] * 3
    for i, box in enumerate(boxes):
        alone = list(unitrack.track(tracker, iter(pictures()), box))
        assert alone[0] == (box, 1.0)
        np.testing.assert_allclose([b for b, _ in alone], [b[i] for b, _ in together], atol=1e-3)
        np.testing.assert_allclose([s for _, s in alone], [s[i] for _, s in together], atol=1e-5)


def test_files_folders_and_arrays_give_the_same_boxes(tmp_path: Path) -> None:
    for i, picture in enumerate(pictures()):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    tracker = unitrack.load("classical")
    expected = list(unitrack.track(tracker, pictures(), BOX))
    assert list(unitrack.track(tracker, tmp_path, BOX)) == expected
    assert list(unitrack.track(tracker, str(tmp_path), BOX, max_frames=2)) == expected[:2]
    assert list(unitrack.track(tracker, [tmp_path / "0.png", str(tmp_path / "1.png")], BOX)) == expected[:2]
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"frame 1 has the box before it: .*1\.png"):
        broken = list(unitrack.track(tracker, tmp_path, BOX))
    assert broken[1] == broken[0]


def test_an_object_gets_rgb_arrays_and_a_toolkit_tracker_pil_pictures() -> None:
    plain, toolkit = Shift(), Toolkit()
    assert list(unitrack.track(plain, pictures(), BOX))[2] == ((42.0, 30.0, 32.0, 28.0), 1.0)
    list(unitrack.track(toolkit, pictures(), BOX))
    (first, box), *later = plain.given
    assert box.tolist() == list(BOX)
    assert all((a == b).all() for a, b in zip([first, *later], pictures(), strict=True))
    (first, _), *later = toolkit.given
    assert [p.mode for p in (first, *later)] == ["RGB"] * 3
    assert (np.asarray(later[1]) == pictures()[2]).all()
    assert not ForeignSpec.of(Toolkit, pictures="array").pil
    with pytest.raises(ValueError, match="one target at a time"):
        next(unitrack.track(Shift(), pictures(), [BOX, BOX]))


def test_wrong_answers_of_an_object_are_named() -> None:
    class Silent(Shift):
        def update(self, image: Any) -> Any:
            return None

    with pytest.raises(ValueError, match=r"frame 1: update\(\) of Silent returned None; expected x, y, w, h"):
        list(unitrack.track(Silent(), pictures(), BOX))


@pytest.mark.parametrize("given", [list, tuple, torch.tensor, lambda b: b[None], lambda b: torch.tensor(b[None])])
def test_boxes_of_objects_may_have_any_kind_that_the_toolkit_takes(given: Callable[[Any], Any]) -> None:
    assert list(unitrack.track(Answer(given), pictures(), BOX))[1] == (BOX, 1.0)


@pytest.mark.parametrize("given", [[1, 2, -3, 4], [1, 2, 3, 4, 5], {"bbox": BOX}, "1,2,3,4", (BOX, None)])
def test_answers_that_are_no_boxes_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"update\(\) of Answer returned .*; expected x, y, w, h, or \(box, score\)"):
        list(unitrack.track(Answer(lambda _: given), pictures(), BOX))


def test_frames_that_are_no_pictures_and_other_sizes_are_named() -> None:
    first, second, third = pictures()
    with pytest.raises(ValueError, match=r"frame 1: the picture must be H x W x 3 uint8 .*, not uint8 \(120, 160\)"):
        list(unitrack.track(Shift(), [first, second[..., 0]], BOX))
    with pytest.raises(ValueError, match=r"frame 1: the picture must be .*, not NoneType"):
        list(unitrack.track(Shift(), [first, None], BOX))  # type: ignore[list-item]
    with pytest.warns(UserWarning, match="frame 1: the picture changes its size from 160 x 120 to 160 x 100") as said:
        list(unitrack.track(Shift(), [first, second[:100], third], BOX))
    assert len(said) == 1


@pytest.mark.slow
def test_an_object_is_evaluated_and_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = unitrack.evaluate(Toolkit, "synthetic")
    assert results.folder == here / "test/tracking_results/other/toolkit_tracker/synthetic"
    assert "AUC" in capsys.readouterr().out
    manifest = json.loads((results.folder / "manifest.json").read_text())
    assert (manifest["state"], manifest["pictures"], manifest["is_deterministic"]) == ("complete", "pil", True)
    again = unitrack.evaluate(Shift(), "synthetic", name="toolkit_tracker", verbose=False)
    assert again.tracked == 2  # results of an object are not kept unless asked for
    assert unitrack.evaluate(Shift(), "synthetic", name="toolkit_tracker", rerun=False, verbose=False).kept == 2
    assert capsys.readouterr().out == ""
    assert again.scores == results.scores
    assert repr(again).startswith("<toolkit_tracker: AUC ")
    with pytest.raises(ValueError, match="one sequence at a time"):
        unitrack.evaluate(Shift(), "synthetic", batch=2)

    static = unitrack.evaluate(unitrack.load("static"), "synthetic", batch=2, verbose=False)
    found = unitrack.compare([results, static, "other_trackers"], "synthetic")
    assert list(found.scores) == ["toolkit_tracker", "static", "theirs"]
    assert found.scores["theirs"]["AUC"] > found.scores["toolkit_tracker"]["AUC"]
    assert found.scores["static"] == static.scores
    assert "2 sequences, metric variant" in str(found)
    labelled = unitrack.compare({"a": results, "b": Path("other_trackers/theirs")}, "synthetic")
    assert list(labelled.scores) == ["a", "b"]
