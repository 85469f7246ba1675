"""One tracker on one benchmark: track the unfinished sequences, then score all."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import IO, Any

import cv2
from rich.console import Console
from rich.markup import escape

from lib.bench.benchmarks import Benchmark, BenchmarkVideo
from lib.bench.metrics import METRICS, MetricError, Scores, evaluate, unscorable
from lib.bench.queue import Display, Summary, Team, WorkQueue, join_team
from lib.bench.result_files import box_format
from lib.bench.results import Identity, Result, ResultFolder, read_manifest, read_scorable, versions, write_manifest
from lib.bench.runner import LoadRun, RowSettings, Runner, describe
from lib.bench.spec import TrackerSpec
from lib.cores import threads_per_process
from lib.data import Degradation, Modality, Video
from lib.files import try_lock
from lib.paths import Paths, results_folder
from lib.registry import listed

SHORT_TERM = ("vot_multistart", "vot_supervised")
"""Metrics whose trackers report where the target is and never look for it again."""
LONG_RUN = 50_000
"""Frames from which an evaluation in the official protocol is worth timing the ways of computing the network first."""


@dataclass(frozen=True)
class EvalJob:
    """One tracker on one benchmark.

    Attributes:
        spec: The tracker.
        benchmark: The benchmark.
        paths: Folders of this machine.
        processes: Number of processes that were requested; 0 and 1 are this one.
        batch: Rows per process.
        run_id: Number of the run, part of the result folder's name.
        names: Sequences (names, or positions as text); empty for all.
        metric: Variant of `lib.bench.metrics` in place of the benchmark's own.
        metric_options: Its options.
        skip_missing: Continue without sequences that are not on disk.
        rerun: Track finished sequences again.
        debug: Raise the first failure.
        degradation: What is wrong with the frames that the tracker sees.
        root: Folder for the results, in place of the usual one below save_dir.
    """

    spec: TrackerSpec
    benchmark: Benchmark
    paths: Paths
    processes: int = 0
    batch: int = 1
    run_id: int | None = None
    names: tuple[str, ...] = ()
    metric: str | None = None
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    skip_missing: bool = False
    rerun: bool = False
    debug: bool = False
    degradation: Degradation = Degradation()
    root: Path | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("batch", self.batch, 1), ("run_id", self.run_id or 0, 0)):
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name}: expected a whole number from {least}, not {value!r}")

    @property
    def folder(self) -> ResultFolder:
        """`<save_dir>/test/tracking_results/<script>/<config>[_<run id>]/<benchmark>[_<degradation>]`, or `root`."""
        usual = results_folder(self.paths.save_dir, *self.spec.labels, self.run_id) / self.benchmark.name
        path, label = self.root or usual, self.degradation.label
        return ResultFolder(path.with_name(f"{path.name}_{label}") if label else path, self.benchmark.result_format)

    @property
    def identity(self) -> Identity:
        """Everything that influences the boxes: the tracker, and the frames that it sees."""
        own = self.spec.identity()
        return own if self.degradation.is_none else Identity({**own.values, "degradation": asdict(self.degradation)})

    @property
    def variant(self) -> str:
        """The metric variant in use."""
        return self.metric or self.benchmark.metric

    @property
    def has_scores(self) -> bool:
        """True if results can be scored here, False where only a server can."""
        return self.benchmark.scored and self.variant in METRICS

    @property
    def score_label(self) -> str:
        """Name of the score that decides, "score" without one."""
        return next(iter(METRICS[self.variant].scores.values())).label if self.variant in METRICS else "score"

    def require_scores(self) -> None:
        """Check that results can be scored here.

        Raises:
            MetricError: They cannot.
        """
        if not self.has_scores:
            raise MetricError(f"{self.benchmark.title} has no public ground truth to be scored with")

    def check(self) -> None:
        """Check degradation and re-search against the benchmark.

        Raises:
            ValueError: No sequence of the benchmark has the picture that is to be degraded, or lost targets are to be
                searched for in a short-term protocol.
        """
        if self.spec.reacquire and self.variant in SHORT_TERM:
            raise ValueError(f"{self.benchmark.title}: a short-term protocol ({self.variant}) forbids --reacquire")
        if self.degradation.needs_aux and self.benchmark.modality is Modality.RGB:
            raise ValueError(f"{self.benchmark.title} has no second picture to drop or to corrupt")

    def sequences(self) -> list[BenchmarkVideo]:
        """The sequences as the tracker sees them, in the benchmark's order.

        Raises:
            BenchmarkError: A name is unknown (the message has the nearest one), or sequences cannot be read.
        """
        chosen = self.benchmark.find_names(self.paths, self.names) if self.names else None
        found = self.benchmark.sequences(self.paths, chosen, self.skip_missing)
        return [self.degradation.apply(s, s.starts) for s in found]


@dataclass(frozen=True)
class Scored:
    """Scores of one result folder.

    Attributes:
        benchmark: The benchmark.
        metric: Variant of `lib.bench.metrics`.
        filed: Scores of the result files, the numbers that papers of this family quote.
        exact: Scores of the copies with all digits, where the official format cuts them; else None.
        options: Of the metric, where not the usual ones.
    """

    benchmark: Benchmark
    metric: str
    filed: Scores
    exact: Scores | None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """Remarks that belong to the numbers."""
        count, published = len(self.filed.names), self.benchmark.sequence_count
        these = "this is 1 sequence" if count == 1 else f"these are {count} sequences"
        counted = f"{these}, {self.benchmark.title} has {published}" if published and count != published else ""
        return list(filter(None, (counted, self.benchmark.note, self.filed.note)))

    def plain(self) -> dict[str, Any]:
        """Content of `scores.json`: percent, overall and per sequence."""
        each = {key: self.filed.per_sequence(key) for key in self.filed.headline}
        return {
            "benchmark": self.benchmark.name,
            "metric": self.metric,
            "metric_options": dict(self.options),
            "labels": self.filed.labels,
            "headline": self.filed.headline,
            "float_boxes": self.exact.headline if self.exact else None,
            "result_format": self.benchmark.result_format,
            "unscored": dict(self.filed.unscored),
            "sequences": {name: {key: scores[name] for key, scores in each.items()} for name in self.filed.names},
        }


@dataclass(frozen=True)
class Outcome:
    """Result of an evaluation.

    Attributes:
        folder: Result folder.
        sequences: All sequences of the job.
        failures: Run (named like its sequence, unless that has several) -> reason.
        scored: Scores; None when only a server can score, or nothing is finished.
        tracked: Number of runs that were tracked.
        kept: Number of runs that were finished before.
        seconds: Duration of the tracking.
        fps: Frames per second over all processes.
        unscored: Tracked sequence that the metric cannot score -> reason.
        notes: Run -> remark on its pictures.
        is_main: True in the process that reports.
        label: Name of the tracker.
    """

    folder: Path
    sequences: Sequence[BenchmarkVideo]
    failures: dict[str, str]
    scored: Scored | None
    tracked: int
    kept: int
    seconds: float
    fps: float
    unscored: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    is_main: bool = True
    label: str = ""

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in self.scores.items()) or "no scores"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<{self.label}: {scores}; {len(self.sequences)} sequences{failed}; {self.folder}>"

    @property
    def scores(self) -> dict[str, float]:
        """Name of a score -> percent, of the result files; empty without scores."""
        filed = self.scored.filed if self.scored else None
        return {} if filed is None else {filed.labels[key]: value for key, value in filed.headline.items()}

    @property
    def exit_code(self) -> int:
        """1 when a run failed or cannot be scored; the main process says so for all."""
        return int(bool(self.failures or self.unscored) and self.is_main)

    @property
    def unit(self) -> str:
        """Unit of `tracked` and `kept`: "sequences" or "runs"."""
        return _unit(self.sequences)

    @property
    def finished(self) -> list[BenchmarkVideo]:
        """The sequences without a failure."""
        return [s for s in self.sequences if self.failures.keys().isdisjoint(s.run_names)]


def _unit(sequences: Sequence[BenchmarkVideo]) -> str:
    """Unit of counts: "runs" where a sequence has several, else "sequences"."""
    return "runs" if any(len(s.run_names) > 1 for s in sequences) else "sequences"


def run_evaluation(job: EvalJob, console: Console) -> Outcome:
    """Track what is not finished, then score the whole.

    Under torchrun every process calls this with the same job; the first one prepares, reports and scores. Results of
    other weights or another configuration are moved aside first, with a message. A run that fails does not stop the
    others; it is in `Outcome.failures`. Sequences that the metric cannot score are named before tracking. On
    KeyboardInterrupt finished results stay.

    Args:
        job: The evaluation.
        console: For progress and messages, in the first process.

    Raises:
        BenchmarkError, MissingPathError: The benchmark's data are not complete.
        RuntimeError: No process could work.
        ResultsInUseError: Another tracker writes to the result folder.
        ValueError: The degradation is not possible.
    """
    job.check()
    team = join_team(str(job.folder.path))
    if not team.is_main:
        console = Console(quiet=True)
        logging.getLogger("lib").setLevel(logging.ERROR)  # the first process says what is left out
    sequences = job.sequences()
    runs = [(run, s.start) for s in sequences for run in s.runs]
    job = replace(job, spec=replace(job.spec, **team.share("way", lambda: _choose_way(job, runs, console))))
    with job.folder.claim(job.identity) if team.is_main else nullcontext() as claim:
        return _evaluate(job, team, sequences, console, claim)


def _evaluate(
    job: EvalJob, team: Team, sequences: list[BenchmarkVideo], console: Console, claim: IO[str] | None
) -> Outcome:
    """`run_evaluation` from where the main process has claimed the folder."""
    runs = [(run, s.start) for s in sequences for run in s.runs]
    lengths = {run.name: len(run) for run, _ in runs}
    todo: list[str] = team.share("todo", lambda: prepare_results(job, sequences, console))
    if claim is not None:
        try_lock(claim, shared=True)
    unscored: dict[str, str] = {}
    if team.is_main and job.has_scores:
        truths = [s.truth_only() for s in sequences]
        unscored = unscorable(job.variant, truths, dataset=job.benchmark.tag, **job.metric_options)
        notes = [f"{name} cannot be scored by {job.variant!r}: {reason}" for name, reason in unscored.items()]
        no_target = [run.name for run, start in runs if not (run.boxes_xywh[start, 2:] > 0).all()]
        notes += [f"{name} cannot be tracked: there is no target in its first frame" for name in no_target]
        for note in notes:
            console.print(escape(note), highlight=False, soft_wrap=True)
    frames, unit = sum(lengths[n] for n in todo), _unit(sequences)
    display = Display(console, job.benchmark.title, len(todo), frames, job.score_label, unit)
    with display:
        if todo:
            _track(job, team, todo, {run: s.name for s in sequences for run in s.run_names}, display)
        seconds = display.seconds
    failures: dict[str, str] = team.share("failures", lambda: display.failures)
    tracked_now = set(todo) - failures.keys()
    lacking = [r.name for r, start in runs if r.name in tracked_now and not job.folder.finished(r, start)]
    lacking += [r.name for r, _ in runs if r.name not in todo and not job.folder.boxes_file(r.name).is_file()]
    failures.update(dict.fromkeys(lacking, f"no result in {job.folder.path}"))
    scored = finish_results(job, sequences, failures, unscored, seconds) if team.is_main else None
    fps = sum(lengths[n] for n in todo) / seconds if todo and seconds > 0 else 0.0
    tracked, kept = len(todo) - len(failures), len(runs) - len(todo)
    return Outcome(
        job.folder.path, sequences, failures, scored, tracked=tracked, kept=kept, seconds=seconds, fps=fps,
        unscored=unscored, notes=display.notes, is_main=team.is_main, label=job.spec.labels[1],
    )  # fmt: skip


def _choose_way(job: EvalJob, runs: Sequence[tuple[Video, int]], console: Console) -> dict[str, str]:
    """The engine of all processes, and its number format; ways are timed first where the frames to track pay for it."""
    spec = job.spec
    if spec.dtype_reason and not spec.dtype:
        frames = sum(len(run) for run, start in runs if job.rerun or not job.folder.finished(run, start))
        spec = spec.with_way(long_run=True) if frames >= LONG_RUN else spec
        if spec.dtype:
            console.print(f"device: {spec.execution(0).reason}", highlight=False, soft_wrap=True, markup=False)
    return {name: getattr(spec, name) for name in ("engine", "dtype", "dtype_reason")}


def prepare_results(job: EvalJob, sequences: Sequence[BenchmarkVideo], console: Console) -> list[str]:
    """Before anything is tracked, move stale results aside and write the manifest.

    Args:
        job: The evaluation.
        sequences: Of it.
        console: For messages.

    Returns:
        Names of the runs that are still to be tracked, the longest first.
    """
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    folder, identity = job.folder, job.identity
    before = (read_manifest(folder.path) or {}).get("identity", {})
    if before and identity.difference(before):
        job.spec.build(0)  # a tracker that cannot be built must not displace results
    if aside := folder.move_stale_aside(identity):
        made_by = f"other {identity.difference(before)}" if before else "no manifest"
        say(f"results in {folder.path} were made by something else ({made_by}): moved to {aside.name}/")
    if job.rerun:
        folder.mark_unfinished(name for s in sequences for name in s.run_names)
    runs = [(run, s.start) for s in sequences for run in s.runs]
    todo = [run for run, start in runs if not folder.finished(run, start)]
    if changed := [run.name for run in todo if folder.boxes_file(run.name).is_file()]:
        say(f"{len(changed)} results do not fit the data as they are now and run again: {listed(changed, 5)}")
    if todo:
        folder.mark_unfinished(run.name for run in todo)
    if kept := len(runs) - len(todo):
        say(f"{kept} of {len(runs)} {_unit(sequences)} are finished already (--rerun repeats them)")
    write_manifest(folder.path, _manifest(job, "running"))
    return [run.name for run in sorted(todo, key=lambda run: -len(run))]


def finish_results(
    job: EvalJob, sequences: list[BenchmarkVideo], failures: dict[str, str], unscored: dict[str, str], seconds: float
) -> Scored | None:
    """After everything is tracked, score it and finish the manifest.

    Args:
        job: The evaluation.
        sequences: Of it.
        failures: Failed run -> reason.
        unscored: Sequence that the metric cannot score -> reason; those that turn out to be such are added.
        seconds: Duration of the tracking.

    Returns:
        Scores of the sequences without a failure; None without any, or where only a server can score.
    """
    complete = not failures and not job.names
    timing, speeds = job.folder.speeds(run for s in sequences for run in s.runs if run.name not in failures)
    timing["seconds"] = round(seconds, 3)
    manifest = _manifest(job, "complete" if complete else "incomplete")
    write_manifest(job.folder.path, {**manifest, "timing": timing, "failed": failures, "sequences": speeds})
    scorable = [s for s in sequences if s.name not in unscored and failures.keys().isdisjoint(s.run_names)]
    scored = _score(job, scorable) if scorable else None
    if scored:
        unscored |= scored.filed.unscored
        scored = replace(scored, filed=replace(scored.filed, unscored=unscored))
    if scored and complete:
        job.folder.write_scores(scored.plain())
    return scored


def _track(job: EvalJob, team: Team, todo: list[str], owners: Mapping[str, str], display: Display) -> None:
    """Track runs until all of them are settled.

    Args:
        job: The evaluation.
        team: Its processes.
        todo: Runs to track.
        owners: Run -> name of its sequence.
        display: Progress, shown in the main process.
    """
    opened: dict[str, BenchmarkVideo] = {}
    reader = job.benchmark.open(job.paths)

    def load(name: str) -> tuple[Video, int]:
        clean = reader.sequence(owners[name])
        opened[name] = sequence = job.degradation.apply(clean, clean.starts)
        return sequence.runs[sequence.run_names.index(name)], sequence.start

    def write_result(result: Result) -> Summary:
        job.folder.write(result)
        sequence, main_score = opened.pop(result.name), None
        if job.has_scores and len(sequence.run_names) == 1:
            with suppress(MetricError):  # reported at the end, with the scores of the whole
                scores = evaluate(job.variant, [sequence.sequence_result([result])], dataset=job.benchmark.tag)
                main_score = scores.headline[scores.main]
        return Summary(main_score, result.note)

    track_queue(job, WorkQueue(team, todo, write_result, display if team.is_main else None), load)


def track_queue(job: EvalJob, queue: WorkQueue, load: LoadRun, settings: RowSettings | None = None) -> None:
    """Track what this process gets from a queue, until all of its runs are settled.

    An error that is not of one run is raised with `debug` or in a single process; else other processes continue without
    this one.

    Args:
        job: The evaluation.
        queue: Of its runs.
        load, settings: See `Runner`.
    """
    works = queue.recover()
    runner: Runner | None = None
    while not queue.over():
        if not works:
            queue.wait()
            continue
        try:
            runner = runner or _build_runner(job, queue, load, settings)
            runner.run()
        except Exception as error:
            if queue.team.size == 1 or job.debug:
                raise
            works = queue.in_flight  # what has claimed a run may go on with another one
            queue.give_back(describe(error), resume=works)
        else:
            if not queue.over():
                queue.wait()
    queue.poll()


def _build_runner(job: EvalJob, queue: WorkQueue, load: LoadRun, settings: RowSettings | None) -> Runner:
    """The tracker of this process, with its threads that decode. Arguments as of `track_queue`."""
    team, benchmark = queue.team, job.benchmark
    if team.local_size > 1:
        cv2.setNumThreads(1)
    tracker = job.spec.build(team.local_rank)
    if tracker.needs_aux and benchmark.modality is Modality.RGB:
        read = "frames of two pictures (RGB and thermal, depth or events)"
        raise ValueError(f"{benchmark.title} has RGB alone, and this tracker reads {read}")
    if box_format(job.folder.box_format).corners and "polygon" in tracker.gives_regions:
        tracker.request_regions("polygon")
    decoders = max(2, min(16, threads_per_process(team.local_size)))
    return Runner(
        tracker, load, queue, job.batch, benchmark.protocol, decode_threads=decoders,
        jpeg_decoder=job.spec.jpeg_decoder(team.local_rank), raise_errors=job.debug, settings=settings,
    )  # fmt: skip


def _score(job: EvalJob, sequences: Sequence[BenchmarkVideo]) -> Scored | None:
    """Scores of some finished sequences, None where only a server can score; MetricError if some cannot be scored."""
    if not job.has_scores:
        return None

    def scores(exact: bool) -> Scores:
        results, unreadable = read_scorable(job.folder.path, sequences, exact)
        return evaluate(job.variant, results, unreadable, dataset=job.benchmark.tag, **job.metric_options)

    exact = scores(exact=True) if box_format(job.benchmark.result_format).whole else None
    return Scored(job.benchmark, job.variant, scores(exact=False), exact, job.metric_options)


def _manifest(job: EvalJob, state: str) -> dict[str, Any]:
    """Entries of `manifest.json`; `state` is "running", "complete" or "incomplete"."""
    execution = job.spec.execution(0)
    script, config = job.spec.labels
    return {
        "state": state,
        "benchmark": job.benchmark.name,
        "data": str(job.paths.dataset(job.benchmark.spec)),
        "second_picture": job.benchmark.second_picture,
        "tracker": {"script": script, "config": config, "run_id": job.run_id},
        "identity": job.identity.plain(),
        "hash": job.identity.hash,
        **job.spec.details(),
        "device": execution.device,
        "dtype": execution.dtype_name,
        "reason": execution.reason,
        "batch": job.batch,
        "workers": job.processes,
        "versions": versions(),
        "host": {"name": socket.gethostname(), "system": platform.platform(), "cpus": os.cpu_count()},
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
