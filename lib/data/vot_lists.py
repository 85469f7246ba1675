"""`list.txt` and `sequence` files for DepthTrack and VOT-RGBD2022 folders.

Where `list.txt` is missing, the VOT toolkit downloads another data set over the folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lib.data.listing import picture_names
from lib.data.lists import load_list
from lib.files import write_text

DEPTHTRACK_SEQUENCES = 50
VOT_RGBD22_SEQUENCES = 127
_SEQUENCE_FILE = """\
channels.color=color/{color}
channels.depth=depth/{depth}
channel.default=color
fps=30
format=rgbd
name={name}
"""


_USUAL = {"color": "%08d.jpg", "depth": "%08d.png"}


@dataclass(frozen=True)
class VotList:
    """What was written for one folder. lacking: how it is not the whole published set, in sentences; problems: what is
    wrong with single sequences.
    """

    path: Path
    names: tuple[str, ...]
    changed: bool
    sequence_files: int
    lacking: tuple[str, ...]
    problems: tuple[str, ...]


def write_vot_list(root: Path, key: str) -> VotList:
    """Write `list.txt` (and the missing `sequence` files) for the sequences in `root`, or in its folder `sequences`.

    key: "depthtrack_test" or "vot_rgbd22", for what is expected. An incomplete folder gets the list of what it holds,
    so that the toolkit downloads nothing, and `lacking` and `problems` tell of it. Raises FileNotFoundError when there
    is no sequence.
    """
    folder = root / "sequences" if (root / "sequences").is_dir() else root
    names = sorted(path.parent.name for path in folder.glob("*/groundtruth.txt"))
    if not names:
        raise FileNotFoundError(f"no <seq>/groundtruth.txt in {folder}")
    problems: list[str] = []
    written = 0
    for name in names:
        problems += _count_pictures(folder / name)
        file = folder / name / "sequence"
        if not file.exists():
            patterns = {part: _pattern(folder / name / part, usual) for part, usual in _USUAL.items()}
            write_text(file, _SEQUENCE_FILE.format(name=name, **patterns))
            written += 1
    path, text = folder / "list.txt", "".join(f"{name}\n" for name in names)
    changed = not path.exists() or path.read_text(encoding="utf-8") != text
    if changed:
        write_text(path, text)
    return VotList(path, tuple(names), changed, written, tuple(_lacking(key, names)), tuple(problems))


def _lacking(key: str, names: list[str]) -> list[str]:
    if key != "depthtrack_test":
        few = len(names) != VOT_RGBD22_SEQUENCES
        return [f"{len(names)} sequences, VOT-RGBD2022 has {VOT_RGBD22_SEQUENCES}"] if few else []
    wanted = load_list("depthtrack_splits")["test_50"]
    missing = [name for name in wanted if name not in names]
    other = [name for name in names if name not in wanted]
    told = [f"{len(missing)} of the {len(wanted)} test sequences are missing: {_shown(missing)}"] if missing else []
    return told + ([f"none of the {len(wanted)} test sequences: {_shown(other)}"] if other else [])


def _shown(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _pattern(folder: Path, usual: str) -> str:
    """How the pictures of a folder are named, as `%08d.jpg`; the usual way where there are none, or they do not say."""
    first = next(iter(picture_names(os.listdir(folder))), "") if folder.is_dir() else ""
    stem, ending = os.path.splitext(first)
    return f"%0{len(stem)}d{ending}" if stem.isdigit() else usual


def _count_pictures(folder: Path) -> list[str]:
    rows = sum(bool(line.strip()) for line in (folder / "groundtruth.txt").read_text(encoding="utf-8").splitlines())
    counts = {
        part: len(picture_names(os.listdir(p))) if (p := folder / part).is_dir() else 0 for part in ("color", "depth")
    }
    if all(count == rows for count in counts.values()):
        return []
    return [f"{folder}: {rows} annotation rows, {counts['color']} color and {counts['depth']} depth pictures"]
