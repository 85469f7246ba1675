"""Trackers by description: a description travels to worker processes, which build the tracker on their own device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from lib.bench.execution import Execution, choose_execution, engine_execution, use_exact_float32
from lib.bench.manifest import Identity
from lib.deploy import PROCEDURAL, TORCH, CalibrationClip, Inference, calibration_clips, get_engine, prepare
from lib.methods import Experiment, load_experiment
from lib.models import sha256_of
from lib.paths import Paths, load_paths
from lib.track import Tracker


class TrackerFactory(Protocol):
    """Picklable description of a tracker. labels: (script, configuration) as in result paths."""

    @property
    def labels(self) -> tuple[str, str]: ...

    def identity(self) -> Identity:
        """What decides its boxes."""

    def details(self) -> Mapping[str, Any]:
        """More for the manifest: the whole configuration, the weights' file."""

    def execution(self, slot: int) -> Execution:
        """Device and precision of worker `slot`."""

    def build(self, slot: int) -> Tracker:
        """The tracker of worker `slot`, ready to track."""


@dataclass(frozen=True)
class ExperimentFactory:
    """A method with its YAML and weights. checkpoint: None = random weights drawn with `seed`.

    engine: who computes the network (`lib.deploy.engines`). calibration: the data set that an engine in 8 bits is
    calibrated on, empty for procedural sequences; paths: where that lies.
    """

    script: str
    config: str
    checkpoint: Path | None
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    protocol: str = "official"
    device: str = "auto"
    num_gpus: int = 0
    compile: bool = False
    benchmark: str | None = None
    seed: int = 42
    engine: str = TORCH
    calibration: str = ""
    paths: Paths | None = None
    _hash: dict[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def experiment(self) -> Experiment:
        return load_experiment(self.script, self.config, self.overrides, self.plugins)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "experiment"}

    @property
    def labels(self) -> tuple[str, str]:
        name = self.experiment.name
        return self.script, name if self.checkpoint else f"{name}_untrained"

    def _weights(self) -> str:
        if self.checkpoint is None:
            return f"random, seed {self.seed}"
        if "weights" not in self._hash:
            self._hash["weights"] = sha256_of(self.checkpoint)
        return self._hash["weights"]

    def identity(self) -> Identity:
        execution = self.execution(0)
        return Identity(
            {
                "configuration": self.experiment.hash,
                "weights": self._weights(),
                "protocol": self.protocol,
                "dtype": execution.dtype_name,
                "compiled": self.compile,
                **self._engine_values(),
            }
        )

    def _engine_values(self) -> dict[str, str]:
        """What another engine than PyTorch adds to the identity."""
        engine = get_engine(self.engine)
        if engine is None:
            return {}
        return {"engine": engine.name} | ({"calibration": self.calibration or "procedural"} if engine.int8 else {})

    def details(self) -> Mapping[str, Any]:
        return {
            "method": self.experiment.method.name,
            "config_file": str(self.experiment.path),
            "config": self.experiment.plain,
            "config_hash": self.experiment.hash,
            "overrides": list(self.overrides),
            "weights": {"file": str(self.checkpoint) if self.checkpoint else None, "sha256": self._weights()},
            "protocol": self.protocol,
            "compiled": self.compile,
            "engine": self.engine,
        }

    def execution(self, slot: int) -> Execution:
        engine = get_engine(self.engine)
        if engine is not None:
            return engine_execution(engine, self.device, self.protocol)
        return choose_execution(self.device, self.protocol, slot, self.num_gpus)

    def build(self, slot: int) -> Tracker:
        tracker = self.build_plain(slot)
        return prepare(tracker, self.inference(tracker))

    def inference(self, tracker: Tracker) -> Inference:
        """How the tracker's network is to be computed. Raises EngineError for an engine that is not installed."""
        engine = get_engine(self.engine)
        clips: list[CalibrationClip] = []
        if engine is not None:
            engine.require()
            if engine.int8:
                name = self.calibration or PROCEDURAL[tracker.reads_aux]
                clips = calibration_clips(name, self.paths or load_paths())
        return Inference(self.execution(0).dtype, self.compile, self.engine, clips)

    def build_plain(self, slot: int) -> Tracker:
        """The same tracker with its network as it was trained: float32, nothing folded into weights."""
        where = self.execution(slot)
        if self.protocol == "official":
            use_exact_float32()
        method, config = self.experiment.method, self.experiment.config
        if self.checkpoint is None:
            torch.manual_seed(self.seed)
        network = method.build_network(config, False)
        if self.checkpoint is not None:
            self.experiment.load_weights(network, self.checkpoint)
        network.to(where.device).eval().requires_grad_(False)
        return self.experiment.build_tracker(network, self.benchmark)


@dataclass(frozen=True)
class ReferenceFactory:
    """A built-in tracker without weights (`lib.bench.classical`): "static", "classical"."""

    name: str

    @property
    def labels(self) -> tuple[str, str]:
        return "reference", self.name

    def identity(self) -> Identity:
        return Identity({"tracker": self.name})

    def details(self) -> Mapping[str, Any]:
        return {"method": f"reference tracker {self.name}"}

    def execution(self, slot: int) -> Execution:
        return choose_execution("cpu", "official")

    def build(self, slot: int) -> Tracker:
        from lib.bench.classical import REFERENCES

        return REFERENCES[self.name]()
