"""Workspaces of the VOT toolkit, made ready for one of our trackers: sequences, `list.txt`, `trackers.ini`.

<workspace>/config.yaml, <stack>.yaml     kept in the repository; the stack has no `dataset`, so nothing is downloaded
           /sequences/<seq>/...           links to the pictures and annotations; `list.txt` and `sequence` files
           /trackers.ini                  the command that starts the tracker on this machine
           /results/ analysis/ cache/ logs/ reports/   written by the toolkit
"""

from __future__ import annotations

import configparser
import io
import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lib.bench.benchmarks import Benchmark, get_benchmark
from lib.bench.metrics.supervised import INTERVALS
from lib.bench.results import package_version, unused_folder
from lib.bench.spec import TrackerSpec
from lib.bench.vot.adapter import CHANNELS, PREFIX, REGIONS
from lib.data import DirectoryStore, Modality, VotList, write_vot_list
from lib.data.datasets import read_names
from lib.files import visible_files, write_text
from lib.paths import Paths, repository_root, results_folder
from lib.registry import listed

log = logging.getLogger(__name__)

CONFIG, TRACKERS, LIST, MARK = "config.yaml", "trackers.ini", "list.txt", ".linked"
SUPERVISED = ("vot2016_supervised", "vot2018_supervised", "vot2019_supervised")
"""One experiment for all, with other run lengths."""
EXPERIMENTS = {"unsupervised": ("depthtrack", "vot2018_lt"), "multistart": ("vot_rgbd22",), "supervised": SUPERVISED}
"""Benchmarks of a kind of experiment: the title of its stack says which; another one stands for the first, unless the
run lengths depend on it."""
TEMPLATES = {
    "depthtrack": "Depthtrack_workspace",
    "vot2018_lt": "VOT2018LT_workspace",
    "vot_rgbd22": "VOT22RGBD_workspace",
    **dict.fromkeys(SUPERVISED, "VOT2018_workspace"),
}
TIMEOUT_SECONDS = 600
TOOLKIT_VERSIONS = ("0.7.3", "0.7.4")


class WorkspaceError(ValueError):
    """A workspace that cannot be made or used as asked; the message names file and remedy."""


@dataclass(frozen=True)
class VotWorkspace:
    """A folder with a configuration of the toolkit.

    Attributes:
        folder: The folder.
        experiment: Name of the experiment in its stack.
        benchmark: Our benchmark that it runs.
    """

    folder: Path
    experiment: str
    benchmark: Benchmark

    @property
    def sequences(self) -> Path:
        """Folder of the sequences, or link to it."""
        return self.folder / "sequences"

    def make(self) -> None:
        """Copy the repository's own workspace unless there is one; a supervised one gets its title and run lengths."""
        if (self.folder / CONFIG).is_file():
            return
        template = repository_root() / TEMPLATES[self.benchmark.name]
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (*template.glob("*.yaml"), template / ".gitignore"):
            shutil.copyfile(file, self.folder / file.name)
        if self.benchmark.name in SUPERVISED:
            path = self.folder / str(_yaml(self.folder / CONFIG)["stack"])
            stack = _yaml(path) | {"title": self.benchmark.title}
            for analysis in stack["experiments"]["baseline"]["analyses"]:
                if "low" in analysis:
                    analysis["low"], analysis["high"] = INTERVALS[self.benchmark.tag]
            write_text(path, yaml.safe_dump(stack, sort_keys=False))


def open_workspace(folder: Path, benchmark: str | None = None) -> VotWorkspace:
    """Read a workspace, or prepare one, which `VotWorkspace.make` writes.

    Args:
        folder: The workspace.
        benchmark: Name in `TEMPLATES`: a folder without `config.yaml` is to become a copy of the repository's own.

    Raises:
        WorkspaceError: The folder is not a workspace that can be used, or one of another benchmark.
        UnknownNameError: There is no such benchmark.
    """
    folder = place = Path(os.path.abspath(folder))
    _check_letters(str(folder))
    if not (folder / CONFIG).is_file():
        if benchmark is None:
            new = f"--benchmark {' or '.join(TEMPLATES)} to make a new workspace there"
            known = " or ".join(dict.fromkeys(TEMPLATES.values()))
            raise WorkspaceError(f"{folder}: no {CONFIG}; name {known}, or give {new}")
        template = get_benchmark(benchmark).name
        if template not in TEMPLATES:
            raise WorkspaceError(f"no workspace for {template!r}; there are some for {', '.join(TEMPLATES)}")
        place = repository_root() / TEMPLATES[template]
    stack = _yaml(place / CONFIG).get("stack")
    path = place / str(stack)
    if not path.is_file():
        remedy = "name one without a `dataset` entry, since the toolkit's own would download another data set"
        raise WorkspaceError(f"{place / CONFIG}: stack {stack!r} is no file of the workspace; {remedy}")
    content = _yaml(path)
    if content.get("dataset"):
        raise WorkspaceError(f"{path}: a `dataset` entry makes the toolkit download that data set; remove it")
    experiments = dict(content.get("experiments") or {}).items()
    types = [(str(name), str(entry.get("type"))) for name, entry in experiments if isinstance(entry, dict)]
    name, kind = next(((name, kind) for name, kind in types if kind in EXPERIMENTS), ("", ""))
    if not kind:
        raise WorkspaceError(f"{path}: no experiment of type {' or '.join(EXPERIMENTS)}")
    if benchmark is not None and place != folder:
        return VotWorkspace(folder, name, get_benchmark(benchmark))
    by_title = {get_benchmark(b).title: get_benchmark(b) for b in EXPERIMENTS[kind]}
    title: Any = content.get("title")
    if title not in by_title and EXPERIMENTS[kind] is SUPERVISED:
        raise WorkspaceError(f"{path}: title {title!r} is none of {', '.join(by_title)}")
    found = by_title.get(title, next(iter(by_title.values())))
    if benchmark is not None and get_benchmark(benchmark) is not found:
        raise WorkspaceError(f"{folder} is a workspace of {found.name}; give {benchmark} another folder")
    return VotWorkspace(folder, name, found)


def _yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file; WorkspaceError for anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise WorkspaceError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise WorkspaceError(f"{path}: expected `key: value` lines")
    return content


def _check_letters(name: str) -> None:
    """WorkspaceError for letters that TraX, by which the toolkit names pictures to trackers, cannot send."""
    if not name.isascii():
        raise WorkspaceError(f"{name}: the toolkit sends trackers names of ASCII letters only; rename the folder")


def find_sequences(workspace: VotWorkspace, source: Path | None, paths: Paths) -> list[Path] | None:
    """Find the folders that `link_sequences` links, and change nothing.

    Args:
        workspace: The workspace.
        source: Folder with the sequences; None for those in the workspace, else the benchmark's own folder.
        paths: Folders of this machine.

    Returns:
        A folder for each sequence; None if the workspace has a `sequences` folder (or link) that the user has made.

    Raises:
        WorkspaceError, MissingPathError: There are no sequences that can be used.
    """
    target, mark, origin = workspace.sequences, workspace.sequences / MARK, "--sequences"
    if target.exists() and not mark.is_file() and any(target.iterdir()):
        if source is not None and target.resolve() != source.resolve():
            reason = f"{target} is there already and was not made here"
            raise WorkspaceError(f"{reason}; remove it, or leave out --sequences")
        for path in target.glob("*/groundtruth.txt"):
            _check_letters(path.parent.name)
        return None
    if source is None and mark.is_file():
        source, origin = Path(mark.read_text(encoding="utf-8").strip()), str(mark)
    elif source is None:
        source, origin = paths.dataset(workspace.benchmark.spec), workspace.benchmark.spec.key
    source = source.resolve()
    if not source.is_dir():
        kind = "is not a folder; unpack it, the toolkit reads no archives" if source.exists() else "is not there"
        raise WorkspaceError(f"{origin}: {source} {kind}")
    source = source / "sequences" if (source / "sequences").is_dir() else source
    found = [path.parent for path in visible_files(source, "*/groundtruth.txt")]
    if (source / LIST).is_file():
        folders = {folder.name: folder for folder in found}
        wanted = read_names(DirectoryStore(source), LIST)
        if absent := [name for name in wanted if name not in folders]:
            count = f"{len(absent)} of its {len(wanted)} sequences have no folder with a groundtruth.txt"
            log.warning("%s: %s and are left out: %s", source / LIST, count, listed(absent, 20))
        found = [folders[name] for name in wanted if name in folders]
    if not found:
        raise WorkspaceError(f"{source}: no <seq>/groundtruth.txt of a sequence (in list.txt, where there is one)")
    for folder in found:
        _check_letters(folder.name)
    return found


def link_sequences(workspace: VotWorkspace, found: Sequence[Path] | None) -> VotList:
    """Fill `sequences/` with links to the data set, and write `list.txt` and missing `sequence` files.

    The data set itself is not touched. A `sequences` folder (or link) that the user has made is used as it is.

    Args:
        workspace: The workspace.
        found: What `find_sequences` returned.
    """
    target = workspace.sequences
    workspace.make()
    if found is None:
        return write_vot_list(target, workspace.benchmark.spec.key)
    if target.is_symlink():
        target.unlink()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_text(target / MARK, f"{found[0].parent}\n")
    for sequence in found:
        (target / sequence.name).mkdir()
        for entry in sequence.iterdir():
            (target / sequence.name / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    return write_vot_list(target, workspace.benchmark.spec.key)


def anchor_problems(workspace: VotWorkspace, names: tuple[str, ...]) -> list[str]:
    """Find sequences that the anchor-based experiment cannot run.

    Args:
        workspace: The workspace; other experiments need no anchors.
        names: Its sequences.

    Returns:
        A message for each of them.
    """
    if workspace.benchmark.name != "vot_rgbd22":
        return []
    files = [workspace.sequences / name / "anchor.value" for name in names]
    content = "a number per frame: 1 start forward, -1 start backward"
    return [f"{file} is missing ({content})" for file in files if not file.is_file()]


def write_tracker(
    workspace: VotWorkspace,
    name: str,
    spec: TrackerSpec,
    paths: Paths,
    timeout: int = TIMEOUT_SECONDS,
    region: str = REGIONS[0],
) -> Path | None:
    """Write the tracker's section of `trackers.ini`; other sections stay.

    Args:
        workspace: The workspace.
        name: Of the tracker in the toolkit.
        spec: The tracker.
        paths: Folders of this machine.
        timeout: Seconds that the toolkit waits for a reply.
        region: Kind of region that the tracker replies with (`lib.bench.vot.adapter.REGIONS`).

    Returns:
        The folder that results of this name by another tracker were moved to, None if there were none.

    Raises:
        WorkspaceError: The toolkit refuses the name, or the tracker has no such regions; also what
            `TrackerSpec.resolve` raises.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise WorkspaceError(f"tracker name {name!r}: the toolkit wants letters, digits, - and _ only; give --name")
    resolved = spec.resolve(paths, workspace.benchmark.name)
    if region != REGIONS[0]:
        try:
            resolved.build().request_regions(region)
        except ValueError as error:
            remedy = f"--region {REGIONS[0]} is for trackers of boxes"
            raise WorkspaceError(f"--region {region}: {error}; {remedy}") from None
    environment = _environment(workspace, spec, resolved, paths)
    environment["REGION"] = None if region == REGIONS[0] else region
    environment["LOG"] = str(workspace.folder / "logs" / f"{name}_tracker.log")
    section = {
        "label": " ".join(resolved.labels),
        "protocol": "traxpython",
        "command": "lib.bench.vot",
        "paths": str(repository_root()),
        "python": shlex.quote(os.path.abspath(sys.executable)),
        "timeout": str(timeout),
        **{f"env_{PREFIX}{key}": value for key, value in environment.items() if value},
    }
    workspace.make()
    file = workspace.folder / TRACKERS
    ini = configparser.ConfigParser(interpolation=None)
    ini.optionxform = str  # type: ignore[assignment, method-assign]
    if file.is_file():
        ini.read(file, encoding="utf-8")
    before = ini.get(name, f"env_{PREFIX}IDENTITY", fallback=None)
    replied = ini.get(name, f"env_{PREFIX}REGION", fallback=REGIONS[0])
    same = (before, replied) == (environment["IDENTITY"], region)
    aside = None if same else _set_aside(workspace.folder, name, before)
    ini[name] = {key: value.replace("%", "%%") for key, value in section.items()}
    text = io.StringIO()
    ini.write(text)
    write_text(file, "; written by tracking/vot_workspace.py\n" + text.getvalue().rstrip() + "\n")
    return aside


def _environment(
    workspace: VotWorkspace, spec: TrackerSpec, resolved: TrackerSpec, paths: Paths
) -> dict[str, str | None]:
    """Variables (without `PREFIX`) by which `lib.bench.vot.adapter` builds the tracker."""
    further = [f for f in fields(spec) if f.name not in ("script", "config", "checkpoint")]
    options = {f.name: getattr(spec, f.name) for f in further if getattr(spec, f.name) != f.default}
    return {
        "SCRIPT": spec.script,
        "CONFIG": spec.config,
        "CHECKPOINT": os.path.abspath(resolved.checkpoint) if resolved.checkpoint else None,
        "OPTIONS": json.dumps(options) if options else None,
        "SAVE_DIR": os.path.abspath(paths.save_dir),
        "BENCHMARK": workspace.benchmark.name,
        "CHANNELS": ",".join(CHANNELS[workspace.benchmark.modality is Modality.RGBD]),
        "IDENTITY": resolved.identity().hash,
        "WORKSPACE": str(workspace.folder),
    }


def _set_aside(workspace: Path, name: str, identity: str | None) -> Path | None:
    """Rename the folder of a tracker's results and remove their analyses; the new folder, None if there are none."""
    results = workspace / "results" / name
    shutil.rmtree(workspace / "cache" / "analysis", ignore_errors=True)
    if not results.exists():
        return None
    return results.rename(unused_folder(results.with_name(f"{name}.stale-{identity or 'unknown'}")))


def link_results(
    workspace: VotWorkspace, name: str, spec: TrackerSpec, paths: Paths, run_id: int | None = None
) -> Path:
    """Make `results/<name>/<experiment>` a link to results of `tracking/test.py`, for the toolkit's analysis.

    Args:
        workspace: The workspace.
        name: Of the tracker in the toolkit.
        spec: The tracker.
        paths: Folders of this machine.
        run_id: Number of the run, part of the result folder's name.

    Returns:
        The folder linked to.

    Raises:
        WorkspaceError: There are no such results, or the toolkit has written results of this name.
    """
    script, config = spec.resolve(paths, workspace.benchmark.name).labels
    native = results_folder(paths.save_dir, script, config, run_id) / workspace.benchmark.name
    if not native.is_dir():
        command = f"tracking/test.py --dataset {workspace.benchmark.name}"
        raise WorkspaceError(f"no results in {native}: {command} writes them")
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
    """Check that the VOT toolkit can run with this interpreter.

    Returns:
        The reason if it cannot.
    """
    found = package_version("vot-toolkit")
    if found is None:
        return "vot-toolkit is not installed in this interpreter: bash install.sh"
    if found not in TOOLKIT_VERSIONS:
        return f"vot-toolkit {found} is installed; VOT-RGBD2022 needs 0.7.4 (bash install.sh)"
    return None
