"""Conformance cases: how one is read, filled, drawn and compared.

A case is a JSON file that names its `kind`; exactly one runner handles every case of a kind, here and elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.deploy import prepare
from lib.methods import Experiment
from lib.models import Mapped, load_into

RUNNERS: dict[str, Callable[[Case], None]] = {}


def runner(*kinds: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Decorator: this function runs the cases of these kinds; it raises AssertionError where they disagree."""

    def add(run: Callable[[Case], None]) -> Callable[[Case], None]:
        for kind in kinds:
            if kind in RUNNERS:
                raise ValueError(f"two runners for the case kind {kind!r}")
            RUNNERS[kind] = run
        return run

    return add


@dataclass(frozen=True)
class Case:
    """One case file.

    Attributes:
        whole: Trackers follow the whole video; otherwise its first frame with their network as it was trained, three
            with the prepared one.
    """

    path: Path
    whole: bool = True

    @cached_property
    def data(self) -> dict[str, Any]:
        return fill.load(self.path)

    @property
    def kind(self) -> str:
        """`kind`, or for benchmark cases `benchmarks/<protocol>`."""
        if "kind" in self.data:
            return str(self.data["kind"])
        return f"benchmarks/{self.data.get('protocol', 'missing')}"

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.data.get("config", {}))

    def draw(self, spec: dict[str, Any]) -> np.ndarray:
        """The array that an entry of `inputs` describes."""
        return fill.draw(spec)

    def tensor(self, name: str) -> Tensor:
        """Entry `name` of the case's `inputs`."""
        return torch.from_numpy(self.draw(self.data["inputs"][name]))

    def find_file(self, name: str) -> Path:
        """A file named by the case: next to it or in a parent folder; the bundled copy if the case came without it."""
        for folder in (self.path.parent, *self.path.parent.parents):
            if (folder / name).is_file():
                return folder / name
        bundled = sorted(Path(__file__).parent.rglob(name))
        if bundled:
            return bundled[0]
        pytest.fail(f"{self.path}: {name} is neither next to the case nor in a parent folder")

    def state(self, manifest: str, overrides: dict[str, Any] | None = None, part: str = "") -> dict[str, Tensor]:
        """A manifest's parameters, filled; nobody writes into them.

        Args:
            manifest: File name.
            overrides: {"scale": x} | {"add": x} | {"draw": spec} by name.
            part: Only parameters whose names begin so.
        """
        specs = json.loads(self.find_file(manifest).read_text()).items()
        filled = {
            name: filled_parameter(name, tuple(spec["shape"]))
            for name, spec in specs
            if name.startswith(part) and spec["dtype"].startswith("float") and not spec.get("computed")
        }
        for name, rule in (overrides or {}).items():
            if unknown := set(rule) - {"scale", "add", "draw"}:
                raise KeyError(f"{self.path}: unknown override {sorted(unknown)} of {name}")
            value = torch.from_numpy(self.draw(rule["draw"])) if "draw" in rule else filled[name]
            filled[name] = (value * np.float32(rule.get("scale", 1.0)) + np.float32(rule.get("add", 0.0))).float()
        return filled

    def both_ways(self, tracker: Any, frames: list[Any]) -> list[tuple[Any, list[Any]]]:
        """The tracker as it was trained, and as `tracking/test.py` uses it, with the frames that each follows."""
        shown = [frames, frames] if self.whole else [frames[:2], frames[:4]]
        return list(zip((tracker, prepare(tracker)), shown, strict=True))

    def differences(self, array: Any, stored: Any, tolerance: dict[str, float] | None = None) -> list[str]:
        """Where `array` leaves the stored digest (or plain number / list) beyond the case's tolerance, in words."""
        tol = tolerance or self.data.get("tolerance", {})
        rtol, atol = float(tol.get("rtol", 1e-3)), float(tol.get("atol", 1e-4))
        value = (
            array.detach().cpu().double().numpy() if isinstance(array, Tensor) else np.asarray(array, dtype=np.float64)
        )
        if isinstance(stored, dict) and "shape" in stored:
            return fill.check(value, stored, rtol=rtol, atol=atol)
        wanted = np.asarray(stored, dtype=np.float64)
        if value.shape != wanted.shape:
            return [f"shape {value.shape} != {wanted.shape}"]
        if np.allclose(value, wanted, rtol=rtol, atol=atol, equal_nan=True):
            return []
        return [f"differs by {np.nanmax(np.abs(value - wanted)):.3g}: {value.ravel()[:8]} != {wanted.ravel()[:8]}"]

    def check(self, array: Any, stored: Any, label: str = "", tolerance: dict[str, float] | None = None) -> None:
        """Assert that `array` agrees with the stored digest, number or list."""
        found = self.differences(array, stored, tolerance)
        assert not found, f"{self.path.name} {label}: {'; '.join(found)}"


@lru_cache(maxsize=1000)
def filled_parameter(name: str, shape: tuple[int, ...]) -> Tensor:
    """The values of one parameter, which many cases share; about a gigabyte is kept."""
    return torch.from_numpy(np.ascontiguousarray(fill.fill_param(name, shape)))


DRAWN = ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_")
"""Initialisations of `torch.nn.init` that draw random numbers."""


@contextmanager
def without_drawing() -> Iterator[None]:
    """Networks built inside start with zeros in place of random numbers, which takes seconds for published sizes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in DRAWN:
            patch.setattr(nn.init, name, lambda tensor, *_args, **_kwargs: nn.init.zeros_(tensor))
        yield


def build_filled(experiment: Experiment, state: Mapping[str, Tensor] | Mapped, training: bool = False) -> Any:
    """The experiment's network in eval mode, with weights loaded strictly under their published names."""
    with without_drawing():
        network = experiment.method.build_network(experiment.config, training)
    load_into(network, state)
    return network.eval()
