"""Shared by the commands that evaluate (`tracking/test.py`, the workspaces): checks, processes, report, videos."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lib.bench.benchmarks import BenchmarkVideo, get_benchmark
from lib.bench.evaluate import EvalJob, Outcome, Scored, run_evaluation
from lib.bench.metrics import METRICS, check_options
from lib.bench.results import read_results
from lib.bench.submit import pack_submission, shortfall
from lib.distributed import is_launched, network_notes
from lib.launch import run_under_torchrun
from lib.registry import suggest
from lib.viz import video_tracks, write_video

SHOWN_FAILURES = 50


def check_requests(
    metric: str | None, videos: str | None, datasets: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> None:
    """Check, before anything is tracked, what is used after it.

    Args:
        metric: Variant in place of the benchmarks' own.
        videos: Selection of results that are drawn (`select_videos`).
        datasets: Benchmarks whose own metrics are used where `metric` is None.
        options: Of the metric.

    Raises:
        UnknownNameError: There is no such metric or benchmark.
        ValueError: A metric does not have an option, or the selection is malformed.
    """
    if metric is not None:
        METRICS[metric]
    variants = {get_benchmark(name).metric for name in datasets} if metric is None else {metric}
    for variant in variants if options else ():
        try:
            check_options(variant, options or {})
        except TypeError as error:
            raise ValueError(str(error)) from None
    if videos is not None:
        check_selection(videos)


def run_tests(jobs: Sequence[EvalJob], program: Path | str, argv: Sequence[str], videos: str | None = None) -> int:
    """Run evaluations one after the other, in as many processes as they request.

    Args:
        jobs: The evaluations.
        program: File of the calling command, which torchrun starts again in every process.
        argv: Its command line.
        videos: Which results are drawn (`select_videos`).

    Returns:
        Exit code: 1 when a sequence failed.
    """
    if not is_launched():
        check_jobs(jobs, videos)
    code = start_processes(program, argv, jobs[0].processes)
    if code is not None:
        return code
    console = Console(quiet=os.environ.get("RANK", "0") != "0")
    return max(run_test(job, console, videos).exit_code for job in jobs)


def check_jobs(jobs: Sequence[EvalJob], videos: str | None) -> None:
    """Check every evaluation before the first one begins.

    Args:
        jobs: The evaluations.
        videos: Which results are drawn (`select_videos`).

    Raises:
        BenchmarkError, MissingPathError, FileNotFoundError: A benchmark is not there, or has no such sequence.
        ValueError: A combination is not possible, or results of a benchmark cannot be chosen so.
    """
    for job in jobs:
        job.check()
        benchmark, paths = job.benchmark, job.paths
        names = benchmark.find_names(paths, job.names) if job.names else benchmark.names(paths)
        if videos is None:
            continue
        if check_selection(videos) is None:
            select_videos(videos, names, {})
        elif not job.has_scores:
            ranked = f"--save_video {videos}: {benchmark.title} has no scores here to rank its sequences by"
            raise ValueError(f"{ranked}; expected all, or names with commas")


def start_processes(program: Path | str, argv: Sequence[str], processes: int) -> int | None:
    """Run a command again under torchrun if it requests several processes.

    Args:
        program: File of the command.
        argv: Its command line.
        processes: Number of processes requested.

    Returns:
        Their exit code; None where this process has to do the work: it is alone, or started by torchrun.
    """
    if processes < 2 or is_launched():
        return None
    sys.stdout.flush()
    return run_under_torchrun(program, argv, processes)


def run_test(job: EvalJob, console: Console, videos: str | None = None) -> Outcome:
    """Track and score one benchmark, and print device, scores, failures, videos and submission.

    Args:
        job: The evaluation.
        console: For messages.
        videos: Selection of results that are drawn.

    Returns:
        What was printed.
    """

    def say(message: str) -> None:
        console.print(message, highlight=False, soft_wrap=True)

    execution = job.spec.execution(0)
    for note in network_notes():
        say(escape(note))
    say(f"[bold]{escape(' '.join(job.spec.labels))}[/bold] on [bold]{job.benchmark.title}[/bold]")
    weights = job.spec.details().get("weights")
    if isinstance(weights, dict):
        say(escape(f"weights: {weights['file'] or 'none'} ({weights['sha256'][:16]})"))
    say(escape(f"device: {execution.device}, {execution.dtype_name} ({execution.reason})"))
    if not job.degradation.is_none:
        say(escape(f"frames: {job.degradation.label}"))
    outcome = run_evaluation(job, console)
    if outcome.scored is not None:
        console.print(score_table(outcome.scored, len(outcome.sequences)))
        for note in outcome.scored.notes:
            say(escape(f"note: {note}"))
    elif not outcome.failures and not outcome.unscored:
        console.print("no scores here: the ground truth of this benchmark is not public, or its metric is not built in")
    if outcome.failures:
        say(f"[red]{len(outcome.failures)} {outcome.unit} failed:[/red]")
        for name, reason in list(outcome.failures.items())[:SHOWN_FAILURES]:
            say(escape(f"  {name}: {reason}"))
    if outcome.unscored:
        say(f"[red]{len(outcome.unscored)} sequences cannot be scored:[/red]")
        for name, reason in outcome.unscored.items():
            say(escape(f"  {name}: {reason}"))
    for name, note in outcome.notes.items():
        say(escape(f"note: {name}: {note}"))
    speed = f", {outcome.fps:.1f} frames/s over all workers" if outcome.tracked else ""
    tracked = f"{outcome.tracked} {outcome.unit} tracked in {outcome.seconds:.1f} s{speed}"
    say(f"{tracked}; {outcome.kept} were finished before")
    say(escape(f"results: {outcome.folder}"))
    if outcome.is_main:
        if videos and outcome.finished:
            done = {s.name: s for s in outcome.finished}
            ranking = outcome.scored.filed.per_sequence() if outcome.scored else {}
            chosen = [n for n in select_videos(videos, [s.name for s in outcome.sequences], ranking) if n in done]
            for path in write_videos(done.values(), {"tracker": outcome.folder}, outcome.folder / "videos", chosen):
                say(escape(f"video: {path}"))
        if job.benchmark.submission and not outcome.failures and not job.names:
            packed = pack_submission(job.benchmark, outcome.folder, job.paths, sequences=outcome.sequences)
            say(escape(f"submission: {packed}"))
            if note := shortfall(job.benchmark, len(outcome.sequences)):
                say(escape(f"note: {note}"))
    return outcome


def score_table(scored: Scored, total: int) -> Table:
    """Table with a row for the result files, and one for the boxes with all digits where the files cut them.

    Args:
        scored: The scores.
        total: Number of sequences of the evaluation, scored or not.
    """
    count = len(scored.filed.names)
    over = f"{count} sequences" if count == total else f"only {count} of {total} sequences"
    table = Table(title=f"{scored.benchmark.title}, metric {scored.metric} ({over})", title_justify="left")
    table.add_column("boxes")
    for label in scored.filed.labels.values():
        table.add_column(label, justify="right")
    table.add_row("as filed", *(f"{v:.2f}" for v in scored.filed.headline.values()))
    if scored.exact is not None:
        table.add_row("all digits", *(f"{v:.2f}" for v in scored.exact.headline.values()))
    return table


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
    if ranked := check_selection(selection):
        if not scores:
            raise ValueError(f"{selection}: there are no scores to rank the sequences by")
        order = sorted(scores, key=lambda name: scores[name], reverse=ranked.group(1) == "best")
        return order[: int(ranked.group(2))]
    chosen = [part for part in selection.split(",") if part]
    for name in chosen or [selection]:
        if name not in names:
            expected = "all, worst:N, best:N or names with commas"
            raise ValueError(f"no sequence {name!r}{suggest(name, list(names))} (expected {expected})")
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
        video = wanted[name].runs[0]
        tracks = video_tracks(video, {label: result.boxes_xywh for label, result in results.items()})
        written.append(write_video(target / f"{name}.mp4", video, tracks))
    return written
