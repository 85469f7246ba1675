"""Workspaces of the VOT toolkit, made ready for one of our trackers: sequences, `list.txt`, `trackers.ini`.

<workspace>/config.yaml, <stack>.yaml     kept in the repository; the stack has no `dataset`, so nothing is downloaded
           /sequences/<seq>/...           links to the pictures and annotations; `list.txt` and `sequence` files
           /trackers.ini                  how this machine starts the tracker
           /results/ analysis/ cache/ logs/ reports/   what the toolkit writes
"""

from __future__ import annotations

import configparser
import io
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lib.bench.benchmarks import Benchmark, get_benchmark
from lib.bench.environment import package_version
from lib.bench.factory import TrackerFactory
from lib.bench.testing import TrackerChoice
from lib.bench.vot.adapter import PREFIX
from lib.data import VotList, write_vot_list
from lib.files import write_text
from lib.paths import Paths, repository_root, results_folder

CONFIG, TRACKERS, LIST, MARK = "config.yaml", "trackers.ini", "list.txt", ".linked"
EXPERIMENTS = {"unsupervised": "depthtrack", "multistart": "vot_rgbd22"}
TEMPLATES = {"depthtrack": "Depthtrack_workspace", "vot_rgbd22": "VOT22RGBD_workspace"}
TIMEOUT_SECONDS = 600
TOOLKIT_VERSIONS = ("0.7.3", "0.7.4")


class WorkspaceError(ValueError):
    """A workspace that cannot be made or used as asked; the message names file and remedy."""


@dataclass(frozen=True)
class Workspace:
    """A folder with a configuration. experiment: name in its stack; benchmark: the one of ours that it runs."""

    folder: Path
    experiment: str
    benchmark: Benchmark

    @property
    def sequences(self) -> Path:
        return self.folder / "sequences"


def open_workspace(folder: Path, benchmark: str | None = None) -> Workspace:
    """The workspace in `folder`; made there from the repository's own when it has no `config.yaml` and `benchmark`
    ("depthtrack", "vot_rgbd22") says which. Raises WorkspaceError, UnknownNameError.
    """
    folder = Path(os.path.abspath(folder))
    if not (folder / CONFIG).is_file():
        if benchmark is None:
            raise WorkspaceError(
                f"{folder}: no {CONFIG}; name Depthtrack_workspace or VOT22RGBD_workspace, or give --benchmark "
                f"{' or '.join(TEMPLATES)} to make a new workspace there"
            )
        _copy_template(folder, get_benchmark(benchmark).name)
    stack = _yaml(folder / CONFIG).get("stack")
    path = folder / str(stack)
    if not path.is_file():
        raise WorkspaceError(
            f"{folder / CONFIG}: stack {stack!r} is no file of the workspace; name one without a `dataset` entry, "
            "since the toolkit's own would download another data set"
        )
    content = _yaml(path)
    if content.get("dataset"):
        raise WorkspaceError(f"{path}: a `dataset` entry makes the toolkit download that data set; remove it")
    for name, experiment in dict(content.get("experiments") or {}).items():
        kind = experiment.get("type") if isinstance(experiment, dict) else None
        if kind in EXPERIMENTS:
            return Workspace(folder, str(name), get_benchmark(EXPERIMENTS[kind]))
    raise WorkspaceError(f"{path}: no experiment of type {' or '.join(EXPERIMENTS)}")


def _copy_template(folder: Path, benchmark: str) -> None:
    if benchmark not in TEMPLATES:
        raise WorkspaceError(f"no workspace for {benchmark!r}; there are some for {', '.join(TEMPLATES)}")
    template = repository_root() / TEMPLATES[benchmark]
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*template.glob("*.yaml"), template / ".gitignore"):
        shutil.copyfile(path, folder / path.name)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise WorkspaceError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise WorkspaceError(f"{path}: expected `key: value` lines")
    return content


def link_sequences(workspace: Workspace, source: Path | None, paths: Paths) -> VotList:
    """Fill `sequences/` with links to the data set and write `list.txt` and the `sequence` files that lack; the data
    set itself is not touched. A `sequences` folder (or link) that the user has made is used as it is.

    source: folder with the sequences; None takes what is in the workspace, else the benchmark's own folder.
    Raises WorkspaceError, MissingPathError, FileNotFoundError.
    """
    target, mark = workspace.sequences, workspace.sequences / MARK
    own = target.exists() and not mark.is_file() and any(target.iterdir())
    if own and source is not None and target.resolve() != source.resolve():
        raise WorkspaceError(f"{target} is there already and was not made here; remove it, or leave out --sequences")
    if not own:
        if source is None and mark.is_file():
            source = Path(mark.read_text(encoding="utf-8").strip())
        _link(source or paths.dataset(workspace.benchmark.root), target)
    return write_vot_list(target, workspace.benchmark.root)


def _link(source: Path, target: Path) -> None:
    source = source.resolve()
    if not source.is_dir():
        kind = "is no folder; unpack it, the toolkit reads no archives" if source.exists() else "is not there"
        raise WorkspaceError(f"{source} {kind}")
    source = source / "sequences" if (source / "sequences").is_dir() else source
    found = sorted(path.parent for path in source.glob("*/groundtruth.txt"))
    if (source / LIST).is_file():
        wanted = set((source / LIST).read_text(encoding="utf-8").split())
        found = [folder for folder in found if folder.name in wanted]
    if not found:
        raise WorkspaceError(f"{source}: no <seq>/groundtruth.txt of a sequence (in list.txt, where there is one)")
    if target.is_symlink():
        target.unlink()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_text(target / MARK, f"{source}\n")
    for sequence in found:
        (target / sequence.name).mkdir()
        for entry in sequence.iterdir():
            (target / sequence.name / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())


def anchor_problems(workspace: Workspace, names: tuple[str, ...]) -> list[str]:
    """Sequences that the anchor-based experiment cannot run, in words."""
    if workspace.benchmark.name != "vot_rgbd22":
        return []
    files = [workspace.sequences / name / "anchor.value" for name in names]
    return [
        f"{file} is missing (a number per frame: 1 start forward, -1 start backward)"
        for file in files
        if not file.is_file()
    ]


def write_tracker(
    workspace: Workspace, name: str, choice: TrackerChoice, paths: Paths, timeout: int = TIMEOUT_SECONDS
) -> Path | None:
    """Write the tracker's section of `trackers.ini`; other sections stay. Results of this name that another tracker
    made are moved aside, to the folder that is returned.

    Raises WorkspaceError for a name that the toolkit refuses, and what building the tracker's description raises.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise WorkspaceError(f"tracker name {name!r}: the toolkit wants letters, digits, - and _ only; give --name")
    factory = choice.factory(paths, workspace.benchmark.name)
    identity = factory.identity().hash
    file = workspace.folder / TRACKERS
    ini = configparser.ConfigParser(interpolation=None)
    ini.optionxform = str  # type: ignore[assignment, method-assign]
    if file.is_file():
        ini.read(file, encoding="utf-8")
    before = ini.get(name, f"env_{PREFIX}IDENTITY", fallback=None)
    aside = _set_aside(workspace, name, before) if before != identity else None
    ini[name] = {k: v.replace("%", "%%") for k, v in _section(workspace, name, choice, factory, paths, timeout).items()}
    text = io.StringIO()
    ini.write(text)
    write_text(file, "; written by tracking/vot_workspace.py\n" + text.getvalue().rstrip() + "\n")
    return aside


def _section(
    workspace: Workspace, name: str, choice: TrackerChoice, factory: TrackerFactory, paths: Paths, timeout: int
) -> dict[str, str]:
    script, config = factory.labels
    checkpoint = getattr(factory, "checkpoint", None)
    named = ("script", "config", "checkpoint")
    usual = TrackerChoice()
    more = {
        f.name: v
        for f in fields(choice)
        if f.name not in named and (v := getattr(choice, f.name)) != getattr(usual, f.name)
    }
    environment = {
        "SCRIPT": choice.script,
        "CONFIG": choice.config,
        "CHECKPOINT": os.path.abspath(checkpoint) if checkpoint else None,
        "OPTIONS": json.dumps(more) if more else None,
        "SAVE_DIR": os.path.abspath(paths.save_dir),
        "BENCHMARK": workspace.benchmark.name,
        "CHANNELS": "color,depth",
        "IDENTITY": factory.identity().hash,
        "WORKSPACE": str(workspace.folder),
        "LOG": str(workspace.folder / "logs" / f"{name}_tracker.log"),
    }
    return {
        "label": f"{script} {config}",
        "protocol": "traxpython",
        "command": "lib.bench.vot",
        "paths": str(repository_root()),
        "python": shlex.quote(os.path.abspath(sys.executable)),
        "timeout": str(timeout),
        **{f"env_{PREFIX}{key}": value for key, value in environment.items() if value},
    }


def _set_aside(workspace: Workspace, name: str, before: str | None) -> Path | None:
    """Move results of another identity out of the toolkit's sight, with the analyses it has kept of them."""
    results = workspace.folder / "results" / name
    shutil.rmtree(workspace.folder / "cache" / "analysis", ignore_errors=True)
    if not results.exists():
        return None
    stem = results.with_name(f"{name}.stale-{before or 'unknown'}")
    aside = next(p for p in (stem, *(stem.with_name(f"{stem.name}-{i}") for i in range(2, 1000))) if not p.exists())
    results.rename(aside)
    return aside


def link_results(
    workspace: Workspace, name: str, choice: TrackerChoice, paths: Paths, run_id: int | None = None
) -> Path:
    """Let the toolkit analyse what `tracking/test.py` has tracked: `results/<name>/<experiment>` becomes a link to it.

    Returns the folder linked to. Raises WorkspaceError where there are no such results, or toolkit's own ones.
    """
    script, config = choice.factory(paths, workspace.benchmark.name).labels
    suffix = "" if run_id is None else f"_{run_id:03d}"
    native = results_folder(paths.save_dir, script, f"{config}{suffix}") / workspace.benchmark.name
    if not native.is_dir():
        raise WorkspaceError(
            f"no results in {native}: tracking/test.py --dataset {workspace.benchmark.name} writes them"
        )
    link = workspace.folder / "results" / name / workspace.experiment
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise WorkspaceError(f"{link} has results of the toolkit; remove them, or give another --name")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(native.resolve(), target_is_directory=True)
    shutil.rmtree(workspace.folder / "cache" / "analysis", ignore_errors=True)
    return native


def toolkit_problem() -> str | None:
    """Why `vot` would not run with this interpreter, in words."""
    found = package_version("vot-toolkit")
    if found is None:
        return "vot-toolkit is not installed in this interpreter: bash install.sh"
    if found not in TOOLKIT_VERSIONS:
        return f"vot-toolkit {found} is installed; VOT-RGBD2022 needs 0.7.4 (bash install.sh)"
    return None
