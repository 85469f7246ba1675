"""`list.txt` and `sequence` files for DepthTrack, VOT-RGBD2022 and VOT2018 folders.

If `list.txt` is missing, the VOT toolkit downloads another data set over the folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lib.catalogue import CATALOGUE
from lib.data.listing import picture_names
from lib.data.lists import load_list
from lib.files import visible_files, write_text
from lib.registry import listed

_USUAL_PATTERNS = {"color": "%08d.jpg", "depth": "%08d.png"}
_WITH_DEPTH = ("depthtrack_test", "vot_rgbd22")


@dataclass(frozen=True)
class VotList:
    """Result of `write_vot_list` for one folder.

    Attributes:
        path: The `list.txt`.
        names: Its sequences.
        changed: It was written; otherwise it was right already.
        sequence_files: Number of `sequence` files that were written.
        lacking: Differences from the published set, in sentences.
        problems: What is wrong with single sequences.
    """

    path: Path
    names: tuple[str, ...]
    changed: bool
    sequence_files: int
    lacking: tuple[str, ...]
    problems: tuple[str, ...]


def write_vot_list(root: Path, key: str) -> VotList:
    """Write `list.txt` (and the missing `sequence` files) for the sequences in `root`, or in its folder `sequences`.

    An incomplete folder gets the list of what it holds, so that the toolkit downloads nothing.

    Args:
        root: The data set folder.
        key: "depthtrack_test", "vot_rgbd22" or "vot2018", the published set to compare with.

    Returns:
        The written list, with differences from the published set and problems of sequences.

    Raises:
        FileNotFoundError: There is no sequence.
    """
    folder = root / "sequences" if (root / "sequences").is_dir() else root
    names = [path.parent.name for path in visible_files(folder, "*/groundtruth.txt")]
    if not names:
        raise FileNotFoundError(f"no <seq>/groundtruth.txt in {folder}")
    problems: list[str] = []
    written, parts = 0, ("color", "depth")[: 1 + (key in _WITH_DEPTH)]
    for name in names:
        sequence = folder / name
        pictures = {part: picture_names(os.listdir(p)) if (p := sequence / part).is_dir() else [] for part in parts}
        text = (sequence / "groundtruth.txt").read_text(encoding="utf-8")
        rows = sum(bool(line.strip()) for line in text.splitlines())
        if any(len(files) != rows for files in pictures.values()):
            counts = " and ".join(f"{len(files)} {part}" for part, files in pictures.items())
            problems.append(f"{sequence}: {rows} annotation rows, {counts} pictures")
        if not (sequence / "sequence").exists():
            patterns = {part: _USUAL_PATTERNS[part] for part in parts}
            for part, files in pictures.items():
                stem, ending = os.path.splitext(files[0] if files else "")
                if stem.isdigit():
                    patterns[part] = f"%0{len(stem)}d{ending}"
            channels = "".join(f"channels.{part}={part}/{pattern}\n" for part, pattern in patterns.items())
            kind = "rgbd" if len(parts) > 1 else "default"
            end = f"channel.default=color\nfps=30\nformat={kind}\nname={name}\n"
            write_text(sequence / "sequence", channels + end)
            written += 1
    path, text = folder / "list.txt", "".join(f"{name}\n" for name in names)
    changed = not path.exists() or path.read_text(encoding="utf-8") != text
    if changed:
        write_text(path, text)
    return VotList(path, tuple(names), changed, written, tuple(_lacking(key, names)), tuple(problems))


def _lacking(key: str, names: list[str]) -> list[str]:
    """Differences from the published set, in sentences."""
    if key != "depthtrack_test":
        count = CATALOGUE[key].subset("test").count
        title = CATALOGUE[key].description.partition(" ")[0]
        return [] if len(names) == count else [f"{len(names)} sequences, {title} has {count}"]
    published = load_list("depthtrack_splits")["test_50"]
    missing = [name for name in published if name not in names]
    other = [name for name in names if name not in published]
    sentences = []
    if missing:
        sentences.append(f"{len(missing)} of the {len(published)} test sequences are missing: {listed(missing, 5)}")
    if other:
        sentences.append(f"none of the {len(published)} test sequences: {listed(other, 5)}")
    return sentences
