"""An experiment: one method with one YAML file, found by the two names a user types."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import inspect
import logging
import os
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from easydict import EasyDict
from torch import nn

from lib.config import ConfigError, ConfigWarning, Tree, as_plain, config_hash, from_tree, read_tree, schema, take_inert
from lib.data import AUGMENTATIONS, COLLATES, CROP_STYLES, FRAME_SAMPLERS
from lib.files import user_path
from lib.methods.method import METHODS, Method
from lib.models import Checkpoint, LoadReport, Mapped, WeightPlaces, WeightsError, load_into, locate, read_checkpoint
from lib.objectives import POLICIES
from lib.paths import Paths, checkpoint_folder, shipped_folder
from lib.registry import UnknownNameError, suggest
from lib.track import OneStreamTracker, OnlineFilter, StagedTracker, Tracker

log = logging.getLogger(__name__)

PLUGIN_VARIABLE = "TRACKING_PLUGINS"

Role = Literal["trained", "earlier", "pretrained", "similar"]
"""Relation of a file of weights to a network; see `Experiment.load_weights`."""


@dataclass(frozen=True)
class Experiment:
    """`experiments/<script>/<name>.yaml`, read.

    Attributes:
        script, name: The two names that a user types.
        path: The YAML file.
        method: Of the script, or of the key METHOD.
        config: The effective configuration, an instance of `method.config`.
        notes: Keys that are spelt as published, or have no effect; for the log.
        only_epoch: An override asks for TEST.EPOCH, so that no other weights may stand in for that epoch.
    """

    script: str
    name: str
    path: Path
    method: Method
    config: Any
    notes: tuple[str, ...] = ()
    only_epoch: bool = False

    @property
    def hash(self) -> str:
        """Twelve hex digits of the effective configuration."""
        return config_hash(self.config)

    @property
    def plain(self) -> dict[str, Any]:
        """The effective configuration with upper-case keys, defaults included."""
        return as_plain(self.config)

    @property
    def cfg(self) -> EasyDict:
        """The same as published code reads it: ``cfg.TRAIN.LR``."""
        return EasyDict(self.plain)

    def for_benchmark(self, benchmark: str | None) -> Experiment:
        """The experiment with the settings of TEST.BY_BENCHMARK for one benchmark.

        Args:
            benchmark: Its name, in upper or lower case; None: TEST as it is.
        """
        return replace(self, config=replace(self.config, test=self.config.test.for_benchmark(benchmark)))

    def build_tracker(self, network: nn.Module, benchmark: str | None = None) -> Tracker:
        """The tracker, with the settings of a benchmark where one is named.

        Args:
            network: Of this experiment, with its weights.
            benchmark: See `for_benchmark`.

        Raises:
            ConfigError: The method has no tracker, or one that TEST.SIZE_MOMENTUM or ONLINE does not fit.
        """
        config = self.for_benchmark(benchmark).config
        tracker = self.tracker_builder()(config, network)
        if isinstance(tracker, StagedTracker):
            tracker.size_momentum = config.test.size_momentum
        elif config.test.size_momentum is not None:
            raise ConfigError(f"TEST.SIZE_MOMENTUM: the tracker of {self.method.name} has no stages of a step")
        if isinstance(tracker, OneStreamTracker) and config.online is not None:
            tracker.online = OnlineFilter(config.online, tracker.grid, tracker.cell, tracker.device)
        elif config.online is not None:
            raise ConfigError(f"ONLINE: the tracker of {self.method.name} is no one-stream tracker; leave ONLINE out")
        return tracker

    def tracker_builder(self) -> Callable[[Any, Any], Tracker]:
        """The builder of the tracker, from a configuration and a network.

        Raises:
            ConfigError: The method has none.
        """
        if self.method.build_tracker is None:
            raise ConfigError(
                f"{self.script} {self.name} trains a network and has no tracker: method {self.method.name} can be "
                "trained, and its weights are for other methods to begin with"
            )
        return self.method.build_tracker

    def locate_weights(self, requested: str, paths: Paths, option: str = "--checkpoint", hint: str = "") -> Path:
        """Find a file of weights; see `lib.models.locate`. Warns of an epoch that is asked for alongside another file.

        Args:
            requested: The name; empty: the trained network of this experiment.
            paths: Where weights lie.
            option: The option or key that gave the name, for messages.
            hint: Added to the message.

        Raises:
            CheckpointNotFoundError: Names the places that were searched.
        """
        folder = checkpoint_folder(paths.save_dir, self.script, self.name)
        names, epoch = (self.script, self.name, self.method.network_name), self.config.test.epoch
        places = WeightPlaces(paths.pretrained, folder, *names, epoch, self.only_epoch)
        file = locate(requested, places, option, hint)
        if requested and option == "--checkpoint" and self.only_epoch:
            asked = places.epochs().get(epoch)
            if asked is None or asked.resolve() != file.resolve():
                log.warning("TEST.EPOCH=%s has no effect, since the weights are named: %s", epoch, file)
        return file

    def load_weights(self, network: nn.Module, source: Path | Checkpoint, role: Role = "trained") -> LoadReport:
        """Read a file and fill a network of this experiment with it.

        Args:
            network: Of this experiment.
            source: The file, or a checkpoint that was read.
            role: ``trained``: every name must fit; ``earlier``: the file may be of a stage that lacks what this one
                adds; ``pretrained``: a file for MODEL.PRETRAIN_FILE; ``similar``: names that fit are taken.

        Raises:
            WeightsError: The file does not fit; the message names the tensors.
        """
        checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
        method = self.method
        if role == "pretrained":
            if method.map_pretrained is None:
                raise WeightsError(f"MODEL.PRETRAIN_FILE {checkpoint.path}: {method.name} does not begin with any file")
            mapped = method.map_pretrained(self.config, network, checkpoint)
            return load_into(network, mapped, source=f"MODEL.PRETRAIN_FILE {checkpoint.title}")
        mapped = Mapped(checkpoint.state_dict)
        if method.map_trained is not None:
            mapped = method.map_trained(self.config, checkpoint)
        if role == "earlier":
            added = [p for p in method.added if not fnmatch.filter(mapped.state_dict, p)]
            mapped = replace(mapped, fresh=(*mapped.fresh, *added))
        return load_into(network, mapped, strict=role != "similar", source=checkpoint.title)


def load_experiment(
    script: str, config: str, overrides: Sequence[str] = (), plugins: Sequence[str | Path] = ()
) -> Experiment:
    """Read `experiments/<script>/<config>.yaml`.

    Warns (`ConfigWarning`) of keys that were set and have no effect.

    Args:
        script: The method's name, or a folder of experiments whose files name a METHOD.
        config: The file's name without suffix, or the path of a YAML file.
        overrides: ``KEY.PATH=value``.
        plugins: As in `load_plugins`; a folder of a method is named as its script, and has YAML files next to it.

    Raises:
        ConfigError: For an unknown script, configuration file, key or part.
    """
    folders = load_plugins(plugins)
    path = _find_yaml(script, config, folders)
    tree = read_tree(path, overrides)
    epoch_is_asked = tree.is_asked("TEST.EPOCH")
    method = _find_method(str(tree.values.pop("METHOD", script)))
    notes = take_inert(tree, {**schema.INERT_KEYS, **method.inert_keys})
    for note in notes:
        warnings.warn(note, ConfigWarning, stacklevel=2)
    if method.translate is not None:
        notes += method.translate(tree)
    resolved = from_tree(method.config, tree)
    for dotted, registry in method.parts.items():
        attrgetter(dotted)(resolved).builder(registry)
    _check_sizes(tree, resolved, method)
    if resolved.slt is not None and resolved.slt.policy is not None:
        resolved.slt.policy.builder(POLICIES)
    data = resolved.data
    try:
        FRAME_SAMPLERS[data.sampler_mode], COLLATES[data.collate]
        data.crop_style.builder(CROP_STYLES)
        for part in data.augment.transforms:
            part.builder(AUGMENTATIONS)
    except UnknownNameError as error:
        raise ConfigError(f"DATA: {error}") from None
    for benchmark in resolved.test.by_benchmark.values:
        resolved.test.for_benchmark(benchmark)
    if resolved.teacher is not None and resolved.kd is None:
        resolved = replace(resolved, kd=schema.KD())
    if method.complete is not None:
        resolved = method.complete(resolved)
    return Experiment(script, path.stem, path, method, resolved, tuple(notes), epoch_is_asked)


def _check_sizes(tree: Tree, config: Any, method: Method) -> None:
    """ConfigError for a side of a picture that is not a multiple of the backbone's STRIDE, where it has one."""
    if "model.backbone" not in method.parts:
        return
    backbone = config.model.backbone
    known = inspect.signature(backbone.builder(method.parts["model.backbone"])).parameters
    stride = backbone.args.get("stride", known["stride"].default) if "stride" in known else 1
    for key in ("DATA.TEMPLATE.SIZE", "DATA.SEARCH.SIZE", "TEST.TEMPLATE_SIZE", "TEST.SEARCH_SIZE"):
        side = attrgetter(key.lower())(config)
        if side % stride:
            fault = f"{key} must be a multiple of the stride {stride} (MODEL.BACKBONE.STRIDE), not {side}"
            raise ConfigError(f"{tree.origin(key)}: {fault}")


def load_plugins(plugins: Sequence[str | Path] = ()) -> list[Path]:
    """Import what is registered from outside the tree: methods, parts, benchmarks, metrics.

    Args:
        plugins: Folders with an `__init__.py`. The environment variable TRACKING_PLUGINS adds more, and gets these, so
            that child processes have them too.

    Returns:
        The folders.

    Raises:
        ConfigError: A folder has no `__init__.py`, cannot be imported, or two have one name.
    """
    named = [user_path(p).resolve() for p in plugins]
    inherited = [Path(p) for p in os.environ.get(PLUGIN_VARIABLE, "").split(os.pathsep) if p]
    folders = list(dict.fromkeys([*named, *inherited]))
    for folder in folders:
        if not (folder / "__init__.py").is_file():
            raise ConfigError(f"plugin {folder}: expected a folder with an __init__.py that registers what it adds")
        _import_folder(folder)
    if named:
        os.environ[PLUGIN_VARIABLE] = os.pathsep.join(map(str, folders))
    return folders


def _find_yaml(script: str, config: str, plugins: Sequence[Path]) -> Path:
    """The YAML file of an experiment."""
    path = Path(config)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path.resolve()
        if path.name != config:
            raise ConfigError(f"{config}: no such configuration file")
        config = path.stem
    shipped = shipped_folder("experiments")
    folders = [shipped / script, *(p for p in plugins if p.name == script)]
    for folder in folders:
        if (folder / f"{config}.yaml").is_file():
            return folder / f"{config}.yaml"
    if (shipped / config / f"{script}.yaml").is_file():
        raise ConfigError(f"script {script!r}, config {config!r}: these are swapped; the script is {config!r}")
    known = sorted(p.stem for f in folders for p in f.glob("*.yaml"))
    if not known:
        scripts = sorted(p.name for p in shipped.glob("[a-z]*") if p.is_dir())
        scripts += [p.name for p in plugins]
        raise ConfigError(
            f"no experiments for script {script!r}{suggest(script, scripts)} (known: {', '.join(scripts)})"
        )
    raise ConfigError(
        f"no configuration {config!r} in experiments/{script}{suggest(config, known)} (known: {', '.join(known)})"
    )


def _find_method(name: str) -> Method:
    """The method of this name, once all are imported."""
    package = importlib.import_module("lib.methods")
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            importlib.import_module(f"lib.methods.{info.name}")
    try:
        return METHODS[name]
    except KeyError as error:
        raise ConfigError(str(error)) from None


def _import_folder(folder: Path) -> None:
    """Import a plugin; once per process."""
    name = f"tracking_plugin_{folder.name}"
    if name in sys.modules:
        first = sys.modules[name].__file__
        if first is None or Path(first).parent != folder:
            raise ConfigError(f"plugin {folder}: another plugin folder has the same name ({first})")
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin {folder}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
        place = f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""
        raise ConfigError(f"plugin {folder} cannot be imported: {place}{type(error).__name__}: {error}") from error
