"""Videos of results: the boxes of trackers and the ground truth on every frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lib.bench.benchmarks import BenchmarkVideo
from lib.bench.found_results import read_results
from lib.registry import suggest
from lib.viz import video_tracks, write_video


def select_videos(selection: str, names: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Sequences of a selection.

    Args:
        selection: ``all``, ``worst:10``, ``best:3`` or names with commas.
        names: All sequences.
        scores: Sequence -> score, for worst and best.

    Returns:
        Names of the sequences, the worst or best first.

    Raises:
        ValueError: The selection cannot be understood, or names an unknown sequence.
    """
    if selection == "all":
        return list(names)
    ranked = check_selection(selection)
    if ranked:
        if not scores:
            raise ValueError(f"{selection}: there are no scores to rank the sequences by")
        order = sorted(scores, key=lambda name: scores[name], reverse=ranked.group(1) == "best")
        return order[: int(ranked.group(2))]
    chosen = [part for part in selection.split(",") if part]
    for name in chosen:
        if name not in names:
            raise ValueError(
                f"no sequence {name!r}{suggest(name, list(names))} (expected all, worst:N, best:N or names with commas)"
            )
    return chosen


def check_selection(selection: str) -> re.Match[str] | None:
    """Parse a selection as far as possible without the names of sequences.

    Args:
        selection: As of `select_videos`.

    Returns:
        A match with the groups "worst" or "best", and N; None for ``all`` and for names.

    Raises:
        ValueError: The selection is malformed.
    """
    ranked = re.fullmatch(r"(worst|best):(\d+)", selection)
    if ranked is None and re.match(r"(worst|best)\b", selection):
        raise ValueError(f"{selection!r}: expected worst:N, best:N, all, or names of sequences with commas")
    return ranked


def write_videos(
    sequences: Iterable[BenchmarkVideo], folders: Mapping[str, Path], target: Path, chosen: Sequence[str]
) -> list[Path]:
    """Write a video of each chosen sequence; of several runs the first one is shown, in the order it was tracked.

    Args:
        sequences: All sequences of the benchmark.
        folders: Label -> result folder.
        target: Folder for the videos.
        chosen: Names of the sequences to draw.

    Returns:
        The files, `<target>/<sequence>.mp4`.

    Raises:
        FileNotFoundError: A folder has no result of a sequence.
    """
    wanted = {s.name: s for s in sequences}
    written = []
    for name in chosen:
        results = {label: read_results(folder, wanted[name], exact=True)[0] for label, folder in folders.items()}
        video = wanted[name].runs[0].sequence
        tracks = video_tracks(video, {label: result.boxes_xywh for label, result in results.items()})
        written.append(write_video(target / f"{name}.mp4", video, tracks))
    return written
