"""Folders of data, weights and results on this machine, and the ``local.yaml`` that names them.

Sources, in rising priority: defaults in the repository (``./data``, ``./output``, ``./pretrained``), ``local.yaml``
in the repository root (or the file that ``$TRACKING_LOCAL_YAML`` names), environment variables (``TRACKING_DATA_DIR``,
``TRACKING_SAVE_DIR``, ``TRACKING_LASOT_DIR`` and so on), and arguments of a call or a command line.
The higher source wins; within one source a data set's own key wins over ``data_dir``.
Relative paths start at the folder of ``local.yaml`` in that file, at the working directory elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lib.catalogue import CATALOGUE, DatasetSpec
from lib.files import user_path
from lib.registry import suggest

LOCAL_YAML_VARIABLE = "TRACKING_LOCAL_YAML"
GENERAL_KEYS = {
    "workspace_dir": "the checkout",
    "data_dir": "parent of every data set folder that is not set below",
    "save_dir": "checkpoints, logs and results",
    "pretrained_dir": "weight files to start from",
    "pseudo_labels_dir": "labels that no annotator drew",
}


class PathsError(ValueError):
    """A path setting cannot be understood; the message names the file and line, variable or argument."""


class MissingPathError(FileNotFoundError):
    """A data set folder is not there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A path that the user has set.

    Attributes:
        path: The folder.
        rank: 1 for local.yaml, 2 for the environment, 3 for a call or command line.
        origin: File and line, variable or argument, for messages.
    """

    path: Path
    rank: int
    origin: str


@dataclass(frozen=True)
class Paths:
    """The folders of this machine.

    Attributes:
        workspace: The repository, or the folder that `workspace_dir` sets.
        data_dir: Parent of every data set folder without a setting of its own.
        save_dir: Checkpoints, logs and results.
        pretrained: Weight files to start from.
        settings: The user's settings by key.
    """

    workspace: Path
    data_dir: Path
    save_dir: Path
    pretrained: Path
    settings: Mapping[str, Setting] = field(default_factory=dict, hash=False)

    @property
    def pseudo_labels(self) -> Path:
        """Parent of the folders with pseudo labels, one for each data set folder."""
        own = self._own("pseudo_labels_dir")
        return self.data_dir / "pseudo_labels" if own is None else own.path

    def candidates(self, row: str | DatasetSpec) -> tuple[Path, ...]:
        """Places where a data set is looked for, in this order.

        Args:
            row: The data set, its key, or an alias.

        Returns:
            The user's own setting alone; without one the default folders, then zip archives of the same names.

        Raises:
            UnknownNameError: No data set has this key.
        """
        spec = CATALOGUE[row] if isinstance(row, str) else row
        own = self._own(spec.key)
        if own is not None:
            return (own.path,)
        folders = [self.data_dir / name for name in spec.folders]
        return (*folders, *(f.with_name(f.name + ".zip") for f in folders))

    def find(self, row: str | DatasetSpec) -> Path | None:
        """The data set's folder or archive, None if there is none.

        Args:
            row: The data set, its key, or an alias.

        Raises:
            UnknownNameError: No data set has this key.
        """
        return next((path for path in self.candidates(row) if path.exists()), None)

    def dataset(self, row: str | DatasetSpec) -> Path:
        """The data set's folder or archive.

        Args:
            row: The data set, its key, or an alias.

        Raises:
            MissingPathError: It is not there; the message names the places that were tried and the ways to set it.
            UnknownNameError: No data set has this key.
        """
        spec = CATALOGUE[row] if isinstance(row, str) else row
        found = self.find(spec)
        if found is not None:
            return found
        own, set_path = self._own(spec.key), self.settings.get(spec.key)
        looked = " or ".join(str(p) for p in self.candidates(spec) if p.suffix != ".zip" or own)
        general = self.settings["data_dir"].origin if "data_dir" in self.settings else "the defaults"
        origin = own.origin if own is not None else f"data_dir, from {general}"
        if set_path is not None and own is None:
            origin += f" ({set_path.origin} says {set_path.path}, but {general} outranks it)"
        places = [path for path in self.candidates(spec) if path.parent.is_dir()]
        alike = [p for path in places for p in path.parent.iterdir() if p.name.lower() == path.name.lower()]
        other_case = f" (there is {alike[0]}: upper and lower case count)" if alike else ""
        raise MissingPathError(
            f"data set {spec.key!r} ({spec.description}) is not at {looked}{other_case}, set by {origin}. "
            f"Expected layout: {spec.layout}. "
            f"Set it by `{spec.key}: FOLDER` in {local_yaml_path()}, by the environment variable {spec.variable}, "
            "or its parent by --data_dir."
        )

    def _own(self, key: str) -> Setting | None:
        """The setting of this data set, or of this general key, unless `data_dir` was set by a higher source."""
        own, general = self.settings.get(key), self.settings.get("data_dir")
        return own if own is not None and (general is None or own.rank >= general.rank) else None


def repository_root() -> Path:
    """The checkout this package lies in; the working directory when the package was installed elsewhere."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def shipped_folder(name: str) -> Path:
    """Folder of files that come with the project: of the checkout, or in the installed package `unitrack`.

    Args:
        name: `experiments` or `pretrained`.
    """
    root = Path(__file__).resolve().parents[1]
    return root / name if (root / "pyproject.toml").is_file() else root / "unitrack" / name


def local_yaml_path() -> Path:
    """The settings file in force, there or not."""
    named = os.environ.get(LOCAL_YAML_VARIABLE)
    return user_path(named).absolute() if named else repository_root() / "local.yaml"


def checkpoint_folder(save_dir: Path, script: str, config: str) -> Path:
    """Folder where training writes checkpoints and testing looks for them.

    Args:
        save_dir: Folder of everything that is written.
        script: Name of the method, as in `experiments/<script>`.
        config: Name of the YAML file without its suffix.

    Returns:
        ``<save_dir>/checkpoints/train/<script>/<config>``.
    """
    return save_dir / "checkpoints" / "train" / script / config


def results_folder(save_dir: Path, script: str, config: str, run_id: int | None = None) -> Path:
    """Folder of the result files, with a sub-folder for each benchmark.

    Args:
        save_dir: Folder of everything that is written.
        script: Name of the method, as in `experiments/<script>`.
        config: Name of the YAML file without its suffix.
        run_id: Number of one of several runs.

    Returns:
        ``<save_dir>/test/tracking_results/<script>/<config>[_<run id>]``.
    """
    suffix = "" if run_id is None else f"_{run_id:03d}"
    return save_dir / "test" / "tracking_results" / script / f"{config}{suffix}"


def load_paths(
    overrides: Mapping[str, str | Path] | None = None,
    *,
    data_dir: str | Path | None = None,
    save_dir: str | Path | None = None,
) -> Paths:
    """Collect the folders from defaults, ``local.yaml``, the environment and these arguments.

    No folder has to exist yet: `Paths.dataset` looks when a data set is needed.

    Args:
        overrides: Data set key -> folder.
        data_dir: Parent of the data set folders.
        save_dir: Checkpoints, logs and results.

    Raises:
        PathsError: A setting cannot be understood; the message names file and line, variable or key.
    """
    settings = {**_from_yaml(local_yaml_path()), **_from_environment()}
    for name, value in {"data_dir": data_dir, "save_dir": save_dir}.items():
        if value is not None:
            settings[name] = Setting(_resolve(value, Path.cwd()), 3, "the command line or call")
    for key, value in (overrides or {}).items():
        name = _known_key(key, "overrides")
        settings[name] = Setting(_resolve(value, Path.cwd()), 3, f"{name}=... on the command line or call")
    folders = {name: setting.path for name, setting in settings.items()}
    root = folders.get("workspace_dir", repository_root())
    return Paths(
        workspace=root,
        data_dir=folders.get("data_dir", root / "data"),
        save_dir=folders.get("save_dir", root / "output"),
        pretrained=folders.get("pretrained_dir", root / "pretrained"),
        settings=settings,
    )


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """Folders from a command line, as `overrides` of `load_paths`.

    Args:
        pairs: Texts such as ``lasot=/data/LaSOT``.

    Raises:
        PathsError: A text has another form, or no data set has the key.
    """
    parsed = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not value:
            raise PathsError(f"{pair!r}: expected KEY=FOLDER, for example lasot=/data/LaSOT")
        parsed[_known_key(key.strip(), "the command line")] = value
    return parsed


def _from_yaml(path: Path) -> dict[str, Setting]:
    """The settings of a `local.yaml`; none if there is no file, unless the environment names it."""
    if not path.is_file():
        if os.environ.get(LOCAL_YAML_VARIABLE):
            raise PathsError(f"${LOCAL_YAML_VARIABLE} names {path}, which is not a file")
        return {}
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise PathsError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
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
            raise PathsError(f"{where}: {key!r} expects one folder")
        if value_node.tag != "tag:yaml.org,2002:null":
            settings[key] = Setting(_resolve(value_node.value, path.parent), 1, where)
    return settings


def _from_environment() -> dict[str, Setting]:
    """The settings of the variables TRACKING_..._DIR; one that names nothing known is an error."""
    settings = {}
    names = {f"TRACKING_{name.upper()}": name for name in GENERAL_KEYS}
    names.update({spec.variable: spec.key for spec in CATALOGUE.values()})
    for variable, value in os.environ.items():
        if not value or not variable.startswith("TRACKING_") or not variable.endswith("_DIR"):
            continue
        if variable not in names:
            near = suggest(variable, list(names))
            raise PathsError(f"environment variable {variable} names no folder known here{near}")
        settings[names[variable]] = Setting(_resolve(value, Path.cwd()), 2, f"${variable}")
    return settings


def _known_key(key: str, where: str) -> str:
    """A key of a setting by its usual name; PathsError, which names the place, if there is no such key."""
    if key in GENERAL_KEYS:
        return key
    if key in CATALOGUE:
        return CATALOGUE[key].key
    known = [*GENERAL_KEYS, *(spec.key for spec in CATALOGUE.values())]
    raise PathsError(f"{where}: unknown key {key!r}{suggest(key, known)} (known: {', '.join(known)})")


def _resolve(value: str | Path, base: Path) -> Path:
    """An absolute path; ~ and variables are replaced, and relative paths start at `base`.

    PathsError for names that are not UTF-8, which libraries cannot write down (of another system, or another locale).
    """
    path = user_path(os.path.expandvars(value))
    path = path if path.is_absolute() else Path(os.path.normpath(base.absolute() / path))
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise PathsError(f"{str(path)!r} is no UTF-8 name: rename it, or set PYTHONUTF8=1 if it is one") from None
    return path
