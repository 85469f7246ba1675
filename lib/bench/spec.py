"""Which tracker runs: its description, from which any process builds it, and the device and number format it uses."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import torch

from lib.bench.benchmarks import get_benchmark
from lib.bench.classical import REFERENCES
from lib.bench.results import Identity
from lib.bench.ways import choose_way, graphs_folder, has_bfloat16
from lib.command import is_first_to_report
from lib.config import ConfigError
from lib.cores import available_cores, network_threads
from lib.data import JpegDecoder, gpu_jpeg_decoder
from lib.deploy import (
    AUTO,
    GRAPHS_FILE,
    PROCEDURAL,
    TORCH,
    Engine,
    EngineError,
    Inference,
    calibration_clips,
    get_engine,
    prepare,
)
from lib.distributed import pick_device
from lib.files import sentence
from lib.methods import Experiment, load_experiment
from lib.models import sha256_of
from lib.paths import Paths, load_paths
from lib.registry import UnknownNameError
from lib.track import (
    Calibration,
    ConfidenceTracker,
    ReacquiringTracker,
    StagedTracker,
    Tracker,
    TrackerSession,
    confidence_file,
)

log = logging.getLogger(__name__)

PROTOCOLS = ("official", "fast")
REFERENCE_FIELDS = ("reference", "num_gpus", "plugins", "benchmark", "paths")
"""What a reference tracker takes, which computes on the CPU."""


@cache
def _warn_once(message: str) -> None:
    """Log a warning that every benchmark of a command, and each of its processes, would repeat."""
    if is_first_to_report(message):
        log.warning(message)


@cache
def _hash_of_weights(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, which takes a second, once for each of its states."""
    return sha256_of(file)


@dataclass(frozen=True)
class TrackerSpec:
    """An experiment with its weights, or a built-in reference tracker; fields are named as on command lines.

    Attributes:
        script: Method, a folder of `experiments/`.
        config: YAML file in it, without its ending.
        reference: Name of a tracker without weights (`static`, `classical`, `mil`), in place of script and config.
        checkpoint: File of weights, "latest", or None for epoch TEST.EPOCH; a path once `resolve` has found it.
        untrained: Random weights, drawn with `seed`, in place of a checkpoint.
        protocol: "official" (float32, TF32 off) or "fast" (half precision where the device has it).
        compile: Compile the network with `torch.compile`.
        device: auto, cpu, mps, cuda or cuda:N.
        decode: "cpu", or "gpu": JPEG files are decoded on the tracker's GPU, in the fast protocol alone.
        num_gpus: Number of GPUs that processes share in turn; 0 for all.
        overrides: `KEY=VALUE` texts that override the configuration.
        plugins: Folders of methods from outside the tree.
        engine: Runtime that computes the network; "auto": PyTorch, but on a CPU the quickest way that was timed.
        dtype: Number format that goes with an engine that was chosen by timing, as torch writes it; else empty.
        dtype_reason: Reason for that choice, in words; without a dtype, why nothing was timed that could have been.
        calibration: Data set that an 8-bit engine is calibrated on; empty for procedural sequences.
        cpu_threads: Threads of PyTorch and OpenCV, or of an engine, on the CPU; 0: by the size of the network.
        scores: "calibrated" where a calibration lies next to the weights (`tracking/calibrate.py`), or "raw".
        reacquire: Look for a lost target in the whole frame; needs calibrated scores.
        benchmark: Name of the benchmark, for settings by benchmark.
        paths: Folders of this machine; None for those of local.yaml.
    """

    script: str = ""
    config: str = ""
    reference: str = ""
    checkpoint: str | Path | None = None
    untrained: bool = False
    seed: int = 42
    protocol: str = "official"
    compile: bool = False
    device: str = "auto"
    decode: str = "cpu"
    num_gpus: int = 0
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    engine: str = AUTO
    dtype: str = ""
    dtype_reason: str = ""
    calibration: str = ""
    cpu_threads: int = 0
    scores: str = "calibrated"
    reacquire: bool = False
    benchmark: str | None = None
    paths: Paths | None = None

    @classmethod
    def from_options(cls, options: argparse.Namespace, **changes: Any) -> TrackerSpec:
        """Make the spec of a parsed command line.

        Args:
            options: Parsed options; those that are named like fields are taken, unless they are None.
            changes: Fields in place of options.
        """
        given = {k: v for k, v in {**vars(options), **changes}.items() if k in {f.name for f in fields(cls)}}
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
        return cls(**given)

    def resolve(self, paths: Paths, benchmark: str | None = None) -> TrackerSpec:
        """Find the weights, after all checks that need no network.

        Args:
            paths: Folders of this machine.
            benchmark: Name of the benchmark, for settings by benchmark.

        Returns:
            The spec with paths, benchmark, and the checkpoint's file.

        Raises:
            CheckpointNotFoundError: There are no such weights; the message says where they were looked for.
            ConfigError: The configuration cannot be used.
            EngineError: The engine is not installed.
            ValueError: Neither script and config nor a reference tracker are named.
        """
        spec = replace(self, benchmark=benchmark, paths=paths)
        spec.jpeg_decoder(0)
        if self.reference:
            for f in fields(self):
                value = getattr(self, f.name)
                on_cpu = f.name == "device" and value.strip().lower() == "cpu"
                if value != f.default and f.name not in REFERENCE_FIELDS and not on_cpu:
                    option = "set" if f.name == "overrides" else f.name
                    raise ValueError(f"--{option} is for trained trackers, not for {self.reference}")
            return spec
        if not self.script or not self.config:
            raise ValueError("expected SCRIPT CONFIG (such as: ostrack vitb_256_mae_ce_32x4_ep300) or --tracker NAME")
        if self.untrained and self.checkpoint:
            raise ConfigError(f"--untrained means random weights; leave it out, or --checkpoint {self.checkpoint}")
        if self.untrained and spec.experiment.only_epoch:
            log.warning("TEST.EPOCH=%s has no effect with --untrained", spec.experiment.config.test.epoch)
        if self.cpu_threads > (cores := available_cores()):
            _warn_once(f"--cpu_threads {self.cpu_threads}: this process has {cores} cores, which are used")
            spec = replace(spec, cpu_threads=cores)
        if self.cpu_threads and (device := spec.execution(0).device) != "cpu":
            raise ConfigError(f"--cpu_threads {self.cpu_threads} has no effect on {device}: add --device cpu")
        if self.seed != TrackerSpec.seed and not self.untrained:
            raise ConfigError(f"--seed {self.seed} draws random weights: it goes with --untrained")
        engine = get_engine(self.engine)
        if engine is not None:
            engine.require()
        if self.calibration and not (engine.int8 if engine else self.engine == AUTO and self.protocol == "fast"):
            raise ConfigError("--calibration is for engines in 8 bits: --engine onnx-int8 or openvino-int8")
        for name, where in spec.experiment.config.test.by_benchmark.where.items():
            try:
                known = get_benchmark(name).name
            except UnknownNameError as error:
                raise ConfigError(f"{where}: TEST.BY_BENCHMARK.{name}: {error}") from None
            if known != name.lower():
                raise ConfigError(f"{where}: TEST.BY_BENCHMARK.{name}: write {known.upper()}")
        spec.experiment.tracker_builder()  # a pre-training is refused before its weights are located
        source = None if self.untrained else spec.experiment.locate_weights(str(self.checkpoint or ""), paths)
        spec = replace(spec, checkpoint=source)
        if self.reacquire and self.scores == "raw":
            raise ConfigError("--reacquire needs calibrated scores, by which a target is lost; leave out --scores raw")
        if self.reacquire and spec.confidence is None:
            remedy = f"tracking/calibrate.py {self.script} {self.config} --dataset NAME"
            need = "--reacquire needs calibrated scores, which say that a target is lost"
            raise ConfigError(f"{need}; there are none for {source or 'random weights'} ({remedy})")
        if self.engine != AUTO:
            return spec
        spec = replace(spec, engine=TORCH)
        return spec if self.compile or spec.execution(0).device != "cpu" else spec.with_way()

    def with_way(self, long_run: bool = False) -> TrackerSpec:
        """The resolved spec, computed on the CPU in the way that `lib.bench.ways.choose_way` takes.

        Args:
            long_run: So many frames are about to be tracked that timing pays in the official protocol, too.
        """
        if self.protocol == "official" and self.checkpoint is None:
            return self  # boxes of random weights cannot be compared
        way, reason = choose_way(self, long_run)
        engine, dtype = (self.engine, self.dtype) if way is None else (way.engine, way.dtype)
        return replace(self, engine=engine, dtype=dtype, dtype_reason=reason)

    @cached_property
    def experiment(self) -> Experiment:
        """The resolved configuration and its method."""
        return load_experiment(self.script, self.config, self.overrides, self.plugins)

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights' file, or a sentence for random weights."""
        if self.checkpoint is None:
            return f"random, seed {self.seed}"
        file = os.stat(self.checkpoint)
        return _hash_of_weights(Path(self.checkpoint), file.st_size, file.st_mtime_ns)

    @property
    def confidence(self) -> Path | None:
        """File of the calibration of the scores, where there is one and it is used; scores in float16 stay raw."""
        if self.checkpoint is None or self.scores == "raw" or self.execution(0).dtype == torch.float16:
            return None
        file = confidence_file(Path(self.checkpoint))
        return file if file.is_file() else None

    @property
    def labels(self) -> tuple[str, str]:
        """(script, configuration) as in result paths."""
        if self.reference:
            return "reference", self.reference
        kind = ("_untrained" if self.checkpoint is None else "") + ("_reacquire" if self.reacquire else "")
        return self.script, f"{self.experiment.name}{kind}"

    def identity(self) -> Identity:
        """Everything that influences the boxes."""
        if self.reference:
            return Identity({"tracker": self.reference})
        values = {
            "configuration": self.experiment.hash,
            "weights": self.weights_hash,
            "protocol": self.protocol,
            "dtype": self.execution(0).dtype_name,
            "compiled": self.compile,
        }
        if self.confidence is not None:
            values["confidence"] = sha256_of(self.confidence)
        if self.decode != "cpu":
            values["decode"] = self.decode
        if self.reacquire:
            values["reacquire"] = "rivals"  # another rule, another word: results of the old one are not kept
        engine = get_engine(self.engine)
        # What the official protocol chose by timing gives the same boxes: the other way may continue.
        if engine is not None and not (self.dtype and self.protocol == "official"):
            values["engine"] = engine.name
            if engine.int8:
                values["calibration"] = self.calibration or "procedural"
        return Identity(values)

    def details(self) -> Mapping[str, Any]:
        """Further entries of the manifest: the whole configuration, the file of weights."""
        if self.reference:
            return {"method": f"reference tracker {self.reference}"}
        return {
            "method": self.experiment.method.name,
            "config_file": str(self.experiment.path),
            "config": self.experiment.plain,
            "config_hash": self.experiment.hash,
            "overrides": list(self.overrides),
            "weights": {"file": None if self.checkpoint is None else str(self.checkpoint), "sha256": self.weights_hash},
            "protocol": self.protocol,
            "compiled": self.compile,
            "engine": self.engine,
        }

    def execution(self, slot: int) -> Execution:
        """Device and number format of a process.

        Args:
            slot: Number of the process on its machine; with auto and cuda, processes take turns on the GPUs.

        Raises:
            DeviceError: The device is not there.
        """
        engine = None if self.reference else get_engine(self.engine)
        if engine is not None:
            chosen = engine_execution(engine, self.device, self.protocol)
        else:
            device, protocol = ("cpu", "official") if self.reference else (self.device, self.protocol)
            place, place_reason = pick_device(device, slot, share_gpus=self.num_gpus)
            dtype, dtype_reason = choose_dtype(place, protocol)
            chosen = Execution(str(place), dtype, f"{place_reason}; {dtype_reason}")
        if self.dtype:
            return replace(chosen, dtype=getattr(torch, self.dtype), reason=self.dtype_reason)
        return replace(chosen, reason=f"{chosen.reason}; {self.dtype_reason}") if self.dtype_reason else chosen

    def jpeg_decoder(self, slot: int) -> JpegDecoder | None:
        """The decoder of `decode`; None for the usual one.

        Args:
            slot: Number of the process on its machine.

        Raises:
            ValueError: The protocol is official, or there is no GPU.
        """
        if self.decode == "cpu":
            return None
        device = torch.device(self.execution(slot).device)
        if self.protocol != "fast" or device.type != "cuda":
            place = f"it goes with --protocol fast and --device cuda, not with {self.protocol} and {device}"
            raise ValueError(f"--decode {self.decode} changes pixels by a few levels and needs a GPU: {place}")
        return gpu_jpeg_decoder(device)

    def inference(self, tracker: Tracker) -> Inference:
        """Options of `lib.deploy.prepare`.

        Args:
            tracker: The plain tracker; if it reads a second picture, 8-bit engines are calibrated on pairs.

        Raises:
            EngineError: The engine is not installed.
        """
        engine, name, folder = get_engine(self.engine), TORCH, None
        if engine is not None:
            engine.require()
            name, folder = engine.name, graphs_folder(self, tracker)
        sample = self.calibration or PROCEDURAL[tracker.reads_aux]
        clips = partial(calibration_clips, sample, self.paths or load_paths())
        return Inference(self.execution(0).dtype, self.compile, name, clips, cuda_graph=True, folder=folder)

    def build(self, slot: int = 0) -> Tracker:
        """Build the tracker, prepared for inference.

        Args:
            slot: Number of the process on its machine.
        """
        tracker = self.build_plain(slot)
        if self.reference:
            return tracker
        timed = self.engine != TORCH and self.dtype and self.protocol == "official"
        try:
            inference = self.inference(tracker)
            if timed and not (inference.folder and (inference.folder / GRAPHS_FILE).is_file()):
                raise EngineError("its graphs are not kept for these settings")
            prepared = prepare(tracker, inference)
        except (EngineError, ImportError, RuntimeError) as error:
            if not timed:
                raise
            _warn_once(f"PyTorch computes the network, as {self.engine} cannot: {sentence(error)}")
            prepared = prepare(tracker, Inference())
        if (file := self.confidence) is None:
            return prepared
        if not isinstance(prepared, StagedTracker):
            raise ConfigError(f"{file}: the tracker of {self.script} has no stages of a step: --scores raw")
        calibration = Calibration.load(file)
        if calibration.about.get("weights") != self.weights_hash:
            remedy = "run tracking/calibrate.py again, or give --scores raw"
            raise ConfigError(f"{file} was made for other weights than {self.checkpoint}: {remedy}")
        return (ReacquiringTracker if self.reacquire else ConfidenceTracker)(prepared, calibration)

    def build_plain(self, slot: int = 0) -> Tracker:
        """Build the tracker with its network as it was trained: float32, nothing folded into weights.

        On the CPU this sets the number of threads of the process, see `lib.cores.network_threads`. A GPU becomes its
        current one, where page-locked memory belongs to.

        Args:
            slot: Number of the process on its machine.
        """
        if self.reference:
            return REFERENCES[self.reference]()
        if self.protocol == "official":
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        if self.checkpoint is None:
            torch.manual_seed(self.seed)
        network = self.experiment.method.build_network(self.experiment.config, False)
        if self.checkpoint is not None:
            self.experiment.load_weights(network, Path(self.checkpoint))
        device = self.execution(slot).device
        if device == "cpu":
            threads = network_threads(sum(p.numel() for p in network.parameters()), self.cpu_threads)
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        elif device.startswith("cuda"):
            torch.cuda.set_device(device)
        network.to(device).eval().requires_grad_(False)
        return self.experiment.build_tracker(network, self.benchmark)


class LoadedTracker(TrackerSession):
    """A tracker with its weights, ready to track: `init(image, box)`, then `update(image)` for every frame.

    Attributes:
        spec: Its description, resolved.
    """

    def __init__(self, spec: TrackerSpec) -> None:
        super().__init__(spec.build())
        self.spec = spec

    def __repr__(self) -> str:
        return f"<{' '.join(self.spec.labels)} on {self.spec.execution(0).device}, weights {self.spec.checkpoint}>"


@dataclass(frozen=True)
class Execution:
    """Where a tracker runs.

    Attributes:
        device: As torch writes it ("cuda:0").
        dtype: Number format of the network's products.
        reason: Reasons for both, in words.
    """

    device: str
    dtype: torch.dtype
    reason: str

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16`, ..."""
        return str(self.dtype).removeprefix("torch.")


def engine_execution(engine: Engine, device: str, protocol: str) -> Execution:
    """Device and number format of an engine: the CPU; half precision where protocol, engine and CPU allow it.

    Args:
        engine: The engine.
        device: auto or cpu.
        protocol: "official" or "fast".

    Raises:
        EngineError: The device is another one, or 8 bits are requested in the official protocol.
    """
    if device.strip().lower() not in ("auto", "cpu"):
        raise EngineError(f"engine {engine.name} computes on the CPU; --device {device} is for --engine {TORCH}")
    dtype, reason = choose_dtype(torch.device("cpu"), protocol)
    if engine.int8:
        if protocol == "official":
            raise EngineError(
                f"engine {engine.name} computes in 8 bits, but the official protocol is float32: add --protocol fast"
            )
        return Execution("cpu", torch.float32, f"engine {engine.name}: most products in 8 bits, the others in float32")
    if engine.runtime == "onnx" and dtype != torch.float32:
        dtype, reason = torch.float32, "float32; ONNX Runtime has no half precision on CPUs"
    return Execution("cpu", dtype, f"engine {engine.name}: {reason}")


def choose_dtype(device: torch.device, protocol: str) -> tuple[torch.dtype, str]:
    """Choose the number format of the network's products.

    Args:
        device: The device.
        protocol: "official" (float32) or "fast" (half precision where the device is quicker in it).

    Returns:
        The format, and the reason in words.

    Raises:
        ValueError: The protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is unknown; expected {' or '.join(PROTOCOLS)}")
    if protocol == "official":
        return torch.float32, "float32 with TF32 off, the official protocol"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16, the fast protocol"
        return torch.float16, "float16, the fast protocol; this GPU has no bfloat16"
    if device.type == "mps":
        return torch.float16, "float16, the fast protocol"
    if has_bfloat16():
        return torch.bfloat16, "bfloat16, the fast protocol"
    return torch.float32, "float32; the fast protocol gains nothing from half formats on this CPU"
