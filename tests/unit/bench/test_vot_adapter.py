"""The tracker process of the VOT toolkit, spoken to as vot-trax 4 and vot-trax 3 speak."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lib.bench import REFERENCES, StaticTracker
from lib.bench.vot import AdapterOptions, main
from tests.unit.bench.vot_tree import write_sequence


class Picture:
    """As trax gives a picture."""

    PATH = "path"

    def __init__(self, file: Path) -> None:
        self.file = file

    def path(self) -> str:
        return str(self.file)


class Box(tuple[float, ...]):
    """A rectangle of either version."""

    @classmethod
    def create(cls, *xywh: float) -> Box:
        return cls(xywh)

    def bounds(self) -> tuple[float, ...]:
        """In single precision, as the library has it."""
        return tuple(float(np.float32(v)) for v in self)


class Server4:
    """vot-trax 4: lists of objects, a reason at the end."""

    script: Iterator[Any]
    said: list[Any]

    def __init__(
        self,
        region_formats: Any,
        image_formats: Any,
        image_channels: Any,
        metadata: Any = None,
        multiobject: bool = False,
    ) -> None:
        assert metadata is None, "vot=python would have the process restarted for each run"
        self.said.append(("hello", tuple(image_channels)))

    def wait(self) -> Any:
        kind, pictures, box = next(self.script)
        return SimpleNamespace(type=kind, image=pictures, objects=[(box, {})])

    def status(self, objects: list[Any]) -> None:
        self.said.append(objects[0])

    def quit(self, reason: str | None = None) -> None:
        self.said.append(("quit", reason))


class Server3(Server4):
    """vot-trax 3: one region, no reason."""

    def __init__(
        self,
        region_formats: Any,
        image_formats: Any,
        image_channels: Any,
        customMetadata: Any = None,  # noqa: N803
    ) -> None:
        super().__init__(region_formats, image_formats, image_channels, customMetadata)

    def wait(self) -> Any:
        kind, pictures, box = next(self.script)
        return SimpleNamespace(type=kind, image=pictures, region=box)

    def status(self, region: Any, properties: Any = None) -> None:  # type: ignore[override]
        self.said.append((region, properties))

    def quit(self) -> None:  # type: ignore[override]
        self.said.append(("quit", None))


def requests(folder: Path) -> list[Any]:
    """Two runs of three frames, from one process."""

    def frame(i: int) -> dict[str, Picture]:
        return {p: Picture(folder / p / f"{i:08d}.{e}") for p, e in (("color", "jpg"), ("depth", "png"))}

    box = Box.create(5.1, 8, 12, 10)
    run = [("initialize", frame(1), box), ("frame", frame(2), None), ("frame", frame(3), None)]
    return [*run, *run, ("quit", {}, None)]


class Polygon(list[Any]):
    """A polygon of either version."""

    @classmethod
    def create(cls, points: Any) -> Polygon:
        return cls(points)


@REFERENCES.register("static_polygon")
class PolygonTracker(StaticTracker):
    """Replies with the diamond inside its box."""

    gives_regions = frozenset({"polygon"})

    def step(self, state: Any, frames: Any, policy: Any = None) -> Any:
        state, prediction = super().step(state, frames)
        x, y, w, h = prediction.boxes_xywh.T
        points = torch.stack([x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2], dim=1)
        return state, replace(prediction, polygons=points.reshape(-1, 4, 2) if self.regions else None)


def talk(
    server: type[Server4], script: list[Any], monkeypatch: pytest.MonkeyPatch, **variables: str
) -> tuple[int, list[Any]]:
    trax = ModuleType("trax")
    trax.__file__ = "trax"
    server.script, server.said = iter(script), []
    trax.Server, trax.Image, trax.Rectangle, trax.Polygon = server, Picture, Box, Polygon  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trax", trax)
    return main({f"TRACKING_{k}": v for k, v in variables.items()}), server.said


@pytest.mark.parametrize("server", [Server4, Server3])
def test_one_process_serves_several_runs(
    server: type[Server4], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path / "s", [1, 0, 0])
    log = tmp_path / "logs/x.log"
    code, said = talk(
        server, requests(tmp_path / "s"), monkeypatch, OPTIONS='{"reference": "static"}', LOG=str(log),
        SAVE_DIR=str(tmp_path),
    )  # fmt: skip
    assert code == 0
    box = (5.1, 8.0, 12.0, 10.0)
    run = [(box, {}), (box, {"confidence": 1.0}), (box, {"confidence": 1.0})]
    assert said == [("hello", ("color", "depth")), *run, *run]
    text = log.read_text()
    assert text.count("run from") == 2
    assert "quit after 6 frames" in text


@pytest.mark.parametrize("region", ["", "polygon", "mask"])
def test_polygons_are_the_reply_where_they_are_requested(
    region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path / "s", [1, 0, 0])
    options = {"OPTIONS": '{"reference": "static_polygon"}', "REGION": region}
    code, said = talk(Server4, requests(tmp_path / "s"), monkeypatch, **options)
    if region == "mask":
        assert code == 1
        assert "the tracker cannot start: PolygonTracker gives boxes, no mask" in said[-1][1]
        return
    assert code == 0
    diamond = [(11.1, 8), (17.1, 13), (11.1, 18), (5.1, 13)]
    assert [r for r, properties in said[1:] if properties] == [diamond if region else (5.1, 8, 12, 10)] * 4


def test_a_score_that_is_not_finite_ends_the_session_with_the_name_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path / "s", [1, 0, 0])
    step = StaticTracker.step

    def broken(self: StaticTracker, *arguments: Any) -> Any:
        after, found = step(self, *arguments)
        return after, replace(found, scores=torch.full((1,), float("nan")))

    monkeypatch.setattr(StaticTracker, "step", broken)
    code, said = talk(Server4, requests(tmp_path / "s"), monkeypatch, OPTIONS='{"reference": "static"}')
    assert code == 1
    assert re.search(r"the tracker stopped: .*00000002\.jpg: .* with the score nan", said[-1][1])


def test_a_picture_that_is_missing_ends_the_session_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(tmp_path / "s", [1, 0, 0])
    (tmp_path / "s/depth/00000002.png").unlink()
    code, said = talk(Server4, requests(tmp_path / "s"), monkeypatch, OPTIONS='{"reference": "static"}')
    assert code == 1
    reason = f"the tracker stopped: no such file: {tmp_path / 's/depth/00000002.png'}"
    assert said[-1] == ("quit", reason)
    assert capsys.readouterr().err == f"error: {reason}\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "TRACKING_SCRIPT and TRACKING_CONFIG are not set"),
        ({"OPTIONS": "{"}, "TRACKING_OPTIONS: expected a JSON object"),
        ({"OPTIONS": '{"refrence": "static"}'}, "refrence"),
        (
            {"OPTIONS": '{"reference": "static"}', "CHANNELS": "depth"},
            "'depth'; expected color or color,depth or color,ir",
        ),
        ({"OPTIONS": '{"reference": "static"}', "IDENTITY": "0"}, "not those that this workspace was made for"),
        ({"SCRIPT": "ostrack", "CONFIG": "none"}, "none"),
    ],
)
def test_a_tracker_that_cannot_start_gives_its_reason_to_the_toolkit(
    variables: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "x.log"
    script = [("initialize", {}, Box.create(1, 2, 3, 4))]
    code, said = talk(Server4, script, monkeypatch, LOG=str(log), SAVE_DIR=str(tmp_path), **variables)
    assert code == 1
    assert said[-1][0] == "quit"
    assert said[-1][1].startswith("the tracker cannot start: ")
    assert message in said[-1][1]
    assert "Traceback" in log.read_text()


def test_analyses_of_earlier_results_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache/analysis/x").mkdir(parents=True)
    options = {"OPTIONS": '{"reference": "static"}', "WORKSPACE": str(tmp_path)}
    talk(Server4, [("quit", {}, None)], monkeypatch, **options)
    assert not (tmp_path / "cache/analysis").exists()


def test_an_experiment_is_named_by_its_variables() -> None:
    options = AdapterOptions.from_environment(
        {"TRACKING_SCRIPT": "s", "TRACKING_CONFIG": "c", "TRACKING_OPTIONS": '{"overrides": ["A=1"]}'}
    )
    assert (options.spec.script, options.spec.config, options.spec.overrides) == ("s", "c", ("A=1",))
