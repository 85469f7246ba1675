"""Archives for the servers of GOT-10k and TrackingNet, from results on disk; incomplete results are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lib.bench.benchmarks import Benchmark, BenchmarkVideo
from lib.bench.result_files import Floats, ResultFileError, format_boxes, read_boxes, read_column
from lib.bench.results import exact_file
from lib.data import Boxes
from lib.files import atomic_write
from lib.paths import Paths
from lib.registry import listed


class SubmissionError(ValueError):
    """Results that make no complete submission; the message lists what is missing."""


def pack_submission(
    benchmark: Benchmark,
    folder: Path,
    paths: Paths,
    exact: bool = True,
    repetitions: Sequence[Path] = (),
    sequences: Sequence[BenchmarkVideo] = (),
) -> Path:
    """Write `<folder>/<benchmark>_submission.zip` and return its path; the results themselves stay as they are.

    Args:
        benchmark: One with a server.
        folder: Its results.
        paths: Folders of this machine.
        repetitions: Results of further runs, which go into the same archive where the server takes them (GOT-10k).
        exact: Take the boxes with all their digits; else the integers that the OSTrack family has submitted.
        sequences: Those to pack; by default all of the benchmark.

    Raises:
        SubmissionError: Sequences without a result, with too few or too many rows, or with NaN; the message lists them.
    """
    if benchmark.submission is None:
        raise SubmissionError(f"{benchmark.title} has no evaluation server that takes result files")
    if repetitions and benchmark.submission == "trackingnet":
        raise SubmissionError(f"the server of {benchmark.title} takes a single run")
    style, content = benchmark.submission if exact else "int_comma", dict[str, str]()
    times: dict[str, list[Floats]] = {}
    for number, run in enumerate((folder, *repetitions), start=1):
        for name, rows in _complete_results(benchmark, run, sequences or benchmark.sequences(paths), exact).items():
            if benchmark.submission == "trackingnet":
                content[f"{name}.txt"] = format_boxes(rows, style)
                continue
            taken = run / f"{name}_time.txt"
            if not taken.is_file():
                raise SubmissionError(f"{name}: no times ({taken})")
            content[f"{name}/{name}_{number:03d}.txt"] = format_boxes(rows, style)
            times.setdefault(name, []).append(read_column(taken))
    for name, columns in times.items():
        lines = (",".join(f"{t:.6f}" for t in row) for row in zip(*columns, strict=True))
        content[f"{name}/{name}_time.txt"] = "".join(f"{line}\n" for line in lines)
    target = folder / f"{benchmark.name}_submission.zip"
    with atomic_write(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return target


def shortfall(benchmark: Benchmark, count: int) -> str:
    """Remark on an incomplete data set.

    Args:
        benchmark: The benchmark.
        count: Number of its sequences on this disk.

    Returns:
        A sentence if the published set has another number of sequences, else "".
    """
    if benchmark.sequence_count in (None, count):
        return ""
    return f"the data set on this disk has {count} of {benchmark.sequence_count} sequences; the server wants every one"


def _complete_results(
    benchmark: Benchmark, folder: Path, sequences: Iterable[BenchmarkVideo], exact: bool
) -> dict[str, Boxes]:
    found: dict[str, Boxes] = {}
    lacking: list[str] = []
    for sequence in sequences:
        file = folder / f"{sequence.name}.txt"
        copy = exact_file(folder, sequence.name)
        try:
            boxes = found[sequence.name] = read_boxes(copy if exact and copy.is_file() else file)
            if len(boxes) != len(sequence):
                raise ResultFileError(f"{len(boxes)} rows for {len(sequence)} frames")
            if not np.isfinite(boxes).all():
                raise ResultFileError("a box that is no number")
        except FileNotFoundError:
            lacking.append(f"{sequence.name}: no result ({file})")
        except ValueError as error:
            lacking.append(f"{sequence.name}: {error}")
    if lacking:
        shown = listed(lacking, separator="\n  ")
        raise SubmissionError(f"{benchmark.title}: the submission is not complete:\n  {shown}")
    return found
