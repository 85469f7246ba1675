"""Where data, weights and results lie on this machine.

Sources, in rising priority: defaults beside the repository (``./data``, ``./output``, ``./pretrained``), ``local.yaml``
in the repository root (or the file that ``$TRACKING_LOCAL_YAML`` names), environment variables (``TRACKING_DATA_DIR``,
``TRACKING_SAVE_DIR``, ``TRACKING_LASOT_DIR`` and so on), and what a call or a command line says.
The higher source wins; within one source a data set's own key wins over ``data_dir``.
Relative paths start at the folder of ``local.yaml`` in that file, at the working directory elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lib.layouts import LAYOUTS, UnknownKeyError, layout_of
from lib.registry import suggest

LOCAL_YAML_VARIABLE = "TRACKING_LOCAL_YAML"
GENERAL_KEYS = ("workspace_dir", "data_dir", "save_dir", "pretrained_dir")


class PathsError(ValueError):
    """A path setting that cannot be understood; the message names the file and line, variable or argument."""


class MissingPathError(FileNotFoundError):
    """A data set folder that is not there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A path that somebody set. rank: 1 local.yaml, 2 environment, 3 call or command line. origin: for messages."""

    path: Path
    rank: int
    origin: str


@dataclass(frozen=True)
class Paths:
    """The folders of this machine.

    workspace: the repository (or what `workspace_dir` says); save_dir: checkpoints, logs and results;
    pretrained: weight files to start from; data_dir: the parent of every data set folder without a setting of its own.
    """

    workspace: Path
    data_dir: Path
    save_dir: Path
    pretrained: Path
    settings: Mapping[str, Setting] = field(default_factory=dict, hash=False)

    def candidates(self, key: str) -> tuple[Path, ...]:
        """Where a data set is looked for, in this order; a zip beside the default folder counts as the folder."""
        layout = layout_of(key)
        own = self._own(layout.key)
        if own is not None:
            return (own.path,)
        folders = [self.data_dir / name for name in layout.folders]
        return (*folders, *(f.with_name(f.name + ".zip") for f in folders))

    def find(self, key: str) -> Path | None:
        """The data set's folder (or archive), None when there is none; an unknown key raises `UnknownKeyError`."""
        return next((path for path in self.candidates(key) if path.exists()), None)

    def dataset(self, key: str) -> Path:
        """The data set's folder (or archive); `MissingPathError` says where it was looked for and how to set it."""
        found = self.find(key)
        if found is None:
            raise MissingPathError(self._missing(key))
        return found

    def origin(self, key: str) -> str:
        """Who decided where the data set is looked for: a line of ``local.yaml``, a variable, or ``data_dir``."""
        own = self._own(layout_of(key).key)
        return own.origin if own is not None else f"data_dir, from {self._origin_of_data_dir()}"

    def _own(self, key: str) -> Setting | None:
        own, general = self.settings.get(key), self.settings.get("data_dir")
        return own if own is not None and (general is None or own.rank >= general.rank) else None

    def _origin_of_data_dir(self) -> str:
        general = self.settings.get("data_dir")
        return general.origin if general is not None else "the defaults"

    def _missing(self, key: str) -> str:
        layout = layout_of(key)
        looked = " or ".join(map(str, (p for p in self.candidates(key) if p.suffix != ".zip" or self._own(layout.key))))
        own = self.settings.get(layout.key)
        outranked = ""
        if own is not None and self._own(layout.key) is None:
            outranked = f" ({own.origin} says {own.path}, but {self._origin_of_data_dir()} outranks it)"
        return (
            f"data set {layout.key!r} ({layout.purpose}) is not at {looked}, set by {self.origin(key)}{outranked}. "
            f"Layout wanted there: {layout.tree}. "
            f"Set it by `{layout.key}: FOLDER` in {local_yaml_path()}, by the environment variable {layout.variable}, "
            f"or by data_dir / {layout.key}=FOLDER on the command line."
        )


def repository_root() -> Path:
    """The checkout this package lies in; the working directory when the package was installed elsewhere."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def local_yaml_path() -> Path:
    """The settings file in force, there or not."""
    named = os.environ.get(LOCAL_YAML_VARIABLE)
    return Path(named).expanduser().absolute() if named else repository_root() / "local.yaml"


def checkpoint_folder(save_dir: Path, script: str, config: str) -> Path:
    """``<save_dir>/checkpoints/train/<script>/<config>``, where training writes and testing looks."""
    return save_dir / "checkpoints" / "train" / script / config


def results_folder(save_dir: Path, script: str, config: str) -> Path:
    """``<save_dir>/test/tracking_results/<script>/<config>``, with a folder for each benchmark."""
    return save_dir / "test" / "tracking_results" / script / config


def load_paths(
    overrides: Mapping[str, str | Path] | None = None,
    *,
    workspace: str | Path | None = None,
    data_dir: str | Path | None = None,
    save_dir: str | Path | None = None,
    pretrained: str | Path | None = None,
) -> Paths:
    """Settle every folder from defaults, ``local.yaml``, the environment and these arguments.

    overrides: data set key -> folder.
    Raises `PathsError` for a setting that cannot be understood, naming file and line, variable or key.
    No folder has to exist yet: `Paths.dataset` looks when a data set is asked for.
    """
    settings = _from_yaml(local_yaml_path())
    settings.update(_from_environment())
    given = {"workspace_dir": workspace, "data_dir": data_dir, "save_dir": save_dir, "pretrained_dir": pretrained}
    for name, value in given.items():
        if value is not None:
            settings[name] = Setting(_resolve(value, Path.cwd()), 3, f"{name} on the call")
    for key, value in (overrides or {}).items():
        name = _known_key(key, "overrides")
        settings[name] = Setting(_resolve(value, Path.cwd()), 3, f"{name}=... on the call")

    root = repository_root()

    def general(name: str, default: Path) -> Path:
        return settings[name].path if name in settings else default

    place = general("workspace_dir", root)
    return Paths(
        workspace=place,
        data_dir=general("data_dir", place / "data"),
        save_dir=general("save_dir", place / "output"),
        pretrained=general("pretrained_dir", place / "pretrained"),
        settings=settings,
    )


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """``["lasot=/data/LaSOT"]`` from a command line as `overrides` of `load_paths`."""
    parsed = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not value:
            raise PathsError(f"{pair!r}: expected KEY=FOLDER, for example lasot=/data/LaSOT")
        parsed[_known_key(key.strip(), "the command line")] = value
    return parsed


def _from_yaml(path: Path) -> dict[str, Setting]:
    if not path.is_file():
        if os.environ.get(LOCAL_YAML_VARIABLE):
            raise PathsError(f"${LOCAL_YAML_VARIABLE} names {path}, which is not a file")
        return {}
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise PathsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, yaml.MappingNode):
        raise PathsError(f"{path}: expected lines of the form `key: folder`")
    settings: dict[str, Setting] = {}
    for key_node, value_node in tree.value:
        where = f"{path}:{key_node.start_mark.line + 1}"
        key = _known_key(str(key_node.value), where)
        if key in settings:
            raise PathsError(f"{where}: key {key!r} is set twice (first in {settings[key].origin})")
        if not isinstance(value_node, yaml.ScalarNode):
            raise PathsError(f"{where}: {key!r} wants one folder")
        if value_node.tag != "tag:yaml.org,2002:null":
            settings[key] = Setting(_resolve(value_node.value, path.parent), 1, where)
    return settings


def _from_environment() -> dict[str, Setting]:
    settings = {}
    names = {f"TRACKING_{name.upper()}": name for name in GENERAL_KEYS}
    names.update({layout.variable: layout.key for layout in LAYOUTS.values()})
    for variable, value in os.environ.items():
        if not value or not variable.startswith("TRACKING_") or not variable.endswith("_DIR"):
            continue
        if variable not in names:
            near = suggest(variable, list(names))
            raise PathsError(f"environment variable {variable} names no folder known here{near}")
        settings[names[variable]] = Setting(_resolve(value, Path.cwd()), 2, f"${variable}")
    return settings


def _known_key(key: str, where: str) -> str:
    if key in GENERAL_KEYS:
        return key
    try:
        return layout_of(key).key
    except UnknownKeyError:
        known = [*GENERAL_KEYS, *LAYOUTS]
        near = suggest(key, known)
        raise PathsError(f"{where}: unknown key {key!r}{near} (known: {', '.join(known)})") from None


def _resolve(value: str | Path, base: Path) -> Path:
    path = Path(os.path.expandvars(value)).expanduser()
    return path if path.is_absolute() else Path(os.path.normpath(base.absolute() / path))
