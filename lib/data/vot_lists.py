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
channels.color=color/%08d.jpg
channels.depth=depth/%08d.png
channel.default=color
fps=30
format=rgbd
name={name}
"""


@dataclass(frozen=True)
class VotList:
    """What was written for one folder. problems: what keeps it from being the published set."""

    path: Path
    names: tuple[str, ...]
    changed: bool
    sequence_files: int
    problems: tuple[str, ...]


def write_vot_list(root: Path, key: str) -> VotList:
    """Write `list.txt` (and the missing `sequence` files) for the sequences in `root`, or in its folder `sequences`.

    key: "depthtrack_test" or "vot_rgbd22", for what is expected. An incomplete folder gets the list of what it holds,
    so that the toolkit downloads nothing, and `problems` tell what lacks. Raises FileNotFoundError when there is no
    sequence.
    """
    folder = root / "sequences" if (root / "sequences").is_dir() else root
    names = sorted(path.parent.name for path in folder.glob("*/groundtruth.txt"))
    if not names:
        raise FileNotFoundError(f"no <seq>/groundtruth.txt in {folder}")
    problems = _missing_names(key, names)
    written = 0
    for name in names:
        problems += _count_pictures(folder / name)
        file = folder / name / "sequence"
        if not file.exists():
            write_text(file, _SEQUENCE_FILE.format(name=name))
            written += 1
    path, text = folder / "list.txt", "".join(f"{name}\n" for name in names)
    changed = not path.exists() or path.read_text(encoding="utf-8") != text
    if changed:
        write_text(path, text)
    return VotList(path, tuple(names), changed, written, tuple(problems))


def _missing_names(key: str, names: list[str]) -> list[str]:
    if key == "depthtrack_test":
        wanted = load_list("depthtrack_splits")["test_50"]
        problems = [f"sequence {name} is missing" for name in wanted if name not in names]
        return problems + [f"{name} is none of the 50 test sequences" for name in names if name not in wanted]
    if len(names) != VOT_RGBD22_SEQUENCES:
        return [f"{len(names)} sequences, VOT-RGBD2022 has {VOT_RGBD22_SEQUENCES}"]
    return []


def _count_pictures(folder: Path) -> list[str]:
    rows = sum(bool(line.strip()) for line in (folder / "groundtruth.txt").read_text(encoding="utf-8").splitlines())
    counts = {
        part: len(picture_names(os.listdir(p))) if (p := folder / part).is_dir() else 0 for part in ("color", "depth")
    }
    if all(count == rows for count in counts.values()):
        return []
    return [f"{folder}: {rows} annotation rows, {counts['color']} color and {counts['depth']} depth pictures"]
