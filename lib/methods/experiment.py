"""An experiment: one method with one YAML file, found by the two names a user types."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from easydict import EasyDict
from torch import nn

from lib.config import ConfigError, as_plain, config_hash, from_tree, read_tree
from lib.data import CROP_STYLES, FRAME_SAMPLERS
from lib.methods.method import METHODS, Method
from lib.models import (
    Checkpoint,
    LoadReport,
    Mapped,
    WeightPlaces,
    WeightsError,
    load_into,
    locate,
    read_checkpoint,
)
from lib.paths import Paths, checkpoint_folder, repository_root
from lib.registry import UnknownNameError, suggest

PLUGIN_VARIABLE = "TRACKING_PLUGINS"


@dataclass(frozen=True)
class Experiment:
    """`experiments/<script>/<name>.yaml`, resolved."""

    script: str
    name: str
    path: Path
    method: Method
    config: Any
    raw: EasyDict

    @property
    def hash(self) -> str:
        """Twelve hex digits of the resolved configuration."""
        return config_hash(self.config)

    @property
    def plain(self) -> dict[str, Any]:
        """The resolved configuration with upper-case keys, defaults included."""
        return as_plain(self.config)

    def locate_weights(self, requested: str, paths: Paths, option: str = "--checkpoint", hint: str = "") -> Path:
        """A file of weights by the name that `option` gave it; see `lib.models.locate`.

        Raises:
            CheckpointNotFoundError: says where it was looked for and what is there.
        """
        places = WeightPlaces(
            paths.pretrained,
            checkpoint_folder(paths.save_dir, self.script, self.name),
            self.script,
            self.name,
            self.method.network_name,
            self.config.test.epoch,
        )
        return locate(requested, places, option, hint)

    def load_weights(
        self,
        network: nn.Module,
        source: Path | Checkpoint,
        role: Literal["trained", "earlier", "pretrained", "similar"] = "trained",
    ) -> LoadReport:
        """Read a file and fill a network of this experiment with it.

        Args:
            network: what is filled.
            source: the file, or what was read from it.
            role: ``trained``: every name must fit; ``earlier``: the file may be of a stage that lacks what this one
                adds; ``pretrained``: what MODEL.PRETRAIN_FILE may name; ``similar``: what fits is taken.

        Raises:
            WeightsError: names what does not fit.
        """
        checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
        method = self.method
        if role == "pretrained":
            if method.map_pretrained is None:
                raise WeightsError(f"MODEL.PRETRAIN_FILE {checkpoint.path}: {method.name} does not begin with any file")
            mapped = method.map_pretrained(self.config, network, checkpoint)
            return load_into(network, mapped, source=f"MODEL.PRETRAIN_FILE {checkpoint.path}")
        state = checkpoint.state_dict
        if method.map_trained is not None:
            state = method.map_trained(self.config, checkpoint)
        fresh = [p for p in method.added if not fnmatch.filter(state, p)] if role == "earlier" else []
        return load_into(network, Mapped(state, tuple(fresh)), strict=role != "similar", source=checkpoint.path)


def load_experiment(
    script: str, config: str, overrides: Sequence[str] = (), plugins: Sequence[str | Path] = ()
) -> Experiment:
    """Read `experiments/<script>/<config>.yaml`.

    overrides: ``KEY.PATH=value``. plugins: folders of methods from outside the tree, each named as its script, with
    an `__init__.py` that calls `register_method` and YAML files beside it; the environment variable TRACKING_PLUGINS
    adds more, so that worker processes see them too.
    Raises ConfigError for an unknown script, configuration file, key or part.
    """
    folders = _plugin_folders(plugins)
    path = _find_yaml(script, config, folders)
    tree = read_tree(path, overrides)
    method = _find_method(str(tree.values.pop("METHOD", script)), folders)
    resolved = from_tree(method.config, tree)
    for dotted, registry in method.parts.items():
        part = resolved
        for name in dotted.split("."):
            part = getattr(part, name)
        part.builder(registry)
    data = resolved.data
    try:
        CROP_STYLES[data.crop_style], FRAME_SAMPLERS[data.sampler_mode]
    except UnknownNameError as error:
        raise ConfigError(f"DATA: {error}") from None
    return Experiment(script, path.stem, path, method, resolved, EasyDict(tree.plain()))


def _plugin_folders(plugins: Sequence[str | Path]) -> list[Path]:
    named = [Path(p).resolve() for p in plugins]
    if named:
        os.environ[PLUGIN_VARIABLE] = os.pathsep.join(map(str, named))
    inherited = [Path(p) for p in os.environ.get(PLUGIN_VARIABLE, "").split(os.pathsep) if p]
    folders = list(dict.fromkeys([*named, *inherited]))
    for folder in folders:
        if not (folder / "__init__.py").is_file():
            raise ConfigError(f"plugin {folder}: expected a folder with an __init__.py that registers a method")
    return folders


def _find_yaml(script: str, config: str, plugins: Sequence[Path]) -> Path:
    if config.endswith((".yaml", ".yml")):
        path = Path(config)
        if path.is_file():
            return path.resolve()
        raise ConfigError(f"{config}: no such configuration file")
    shipped = repository_root() / "experiments"
    folders = [shipped / script, *(p for p in plugins if p.name == script)]
    for folder in folders:
        if (folder / f"{config}.yaml").is_file():
            return folder / f"{config}.yaml"
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


def _find_method(name: str, plugins: Sequence[Path]) -> Method:
    for folder in plugins:
        _import_folder(folder)
    package = importlib.import_module("lib.methods")
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            importlib.import_module(f"lib.methods.{info.name}")
    try:
        return METHODS[name]
    except KeyError as error:
        raise ConfigError(str(error)) from None


def _import_folder(folder: Path) -> None:
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
    except BaseException:
        del sys.modules[name]
        raise
