"""Videos of results: the tracker's box and the true one on every frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lib.bench.analysis import read_results
from lib.bench.benchmarks import BenchmarkSequence
from lib.registry import suggest
from lib.viz import video_tracks, write_video


def choose(wish: str, names: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """The sequences that ``all``, ``worst:10``, ``best:3`` or ``name,name`` means; ValueError for anything else.

    scores: sequence -> score, for worst and best.
    """
    if wish == "all":
        return list(names)
    ranked = _ranked(wish)
    if ranked:
        if not scores:
            raise ValueError(f"{wish}: there are no scores to rank the sequences by")
        order = sorted(scores, key=lambda name: scores[name], reverse=ranked.group(1) == "best")
        return order[: int(ranked.group(2))]
    chosen = [part for part in wish.split(",") if part]
    for name in chosen:
        if name not in names:
            known = list(names)
            raise ValueError(
                f"no sequence {name!r}{suggest(name, known)} (expected all, worst:N, best:N or names with commas)"
            )
    return chosen


def check_wish(wish: str) -> None:
    """Raises ValueError for what `choose` cannot understand whatever the sequences are."""
    _ranked(wish)


def _ranked(wish: str) -> re.Match[str] | None:
    ranked = re.fullmatch(r"(worst|best):(\d+)", wish)
    if ranked is None and re.match(r"(worst|best)\b", wish):
        raise ValueError(f"{wish!r}: expected worst:N, best:N, all, or names of sequences with commas")
    return ranked


def write_videos(
    sequences: Iterable[BenchmarkSequence], folders: Mapping[str, Path], target: Path, chosen: Sequence[str]
) -> list[Path]:
    """Videos of the chosen sequences from result folders (label -> folder); a missing result file is an error.

    Where several runs make a sequence, the first one is shown, in the order it was tracked.
    """
    wanted = {s.name: s for s in sequences}
    written = []
    for name in chosen:
        results = {label: read_results(folder, wanted[name], exact=True)[0] for label, folder in folders.items()}
        video = wanted[name].runs[0].sequence
        tracks = video_tracks(video, {label: result.boxes_xywh for label, result in results.items()})
        written.append(write_video(target / f"{name}.mp4", video, tracks))
    return written
