"""One tracker on one benchmark, from the queue of sequences to the table of scores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.console import Console

from lib.bench.benchmarks import Benchmark, BenchmarkError, BenchmarkSequence, get_benchmark
from lib.bench.benchmarks.benchmark import Run
from lib.bench.cluster import ClusterWork, Group, join_group
from lib.bench.factory import TrackerFactory
from lib.bench.manifest import Identity, host, read_manifest, versions, write_manifest
from lib.bench.metrics import METRICS, MetricError, evaluate
from lib.bench.progress import Display, Summary
from lib.bench.queue import WorkQueue
from lib.bench.results import Result, ResultFolder
from lib.bench.runner import Runner, Work
from lib.bench.scoring import Scored, score
from lib.bench.workers import Watcher, WorkerPool
from lib.cores import threads_per_process
from lib.data import Degradation, Modality, Video
from lib.paths import Paths, results_folder
from lib.registry import suggest


@dataclass(frozen=True)
class Evaluation:
    """What to run.

    names: sequences to take (names or positions as text), all when empty. workers: processes, 0 = in this one.
    batch: rows per process. metric: a variant of `lib.bench.metrics` instead of the benchmark's own, with its options.
    debug: the first failure is raised. degradation: what is wrong with the frames that the tracker sees.
    root: a folder for the results of this very tracker and benchmark, in place of the usual one below save_dir.
    """

    factory: TrackerFactory
    benchmark: Benchmark
    paths: Paths
    workers: int = 0
    batch: int = 1
    run_id: int | None = None
    names: tuple[str, ...] = ()
    metric: str | None = None
    skip_missing: bool = False
    rerun: bool = False
    debug: bool = False
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    degradation: Degradation = Degradation()
    root: Path | None = None

    @property
    def folder(self) -> ResultFolder:
        """`<save_dir>/test/tracking_results/<script>/<config>[_<run id>]/<benchmark>[_<degradation>]`, or `root`."""
        script, config = self.factory.labels
        suffix = "" if self.run_id is None else f"_{self.run_id:03d}"
        usual = results_folder(self.paths.save_dir, script, f"{config}{suffix}") / self.benchmark.name
        path = self.root or usual
        label = self.degradation.label
        return ResultFolder(path.with_name(f"{path.name}_{label}") if label else path, self.benchmark.result_format)

    @property
    def identity(self) -> Identity:
        """What decides the boxes: the tracker, and what it is shown."""
        own = self.factory.identity()
        if self.degradation.is_none:
            return own
        return Identity({**own.values, "degradation": asdict(self.degradation)})

    def check(self) -> None:
        """Raises ValueError for a wish that no sequence can meet."""
        if self.degradation.needs_aux and self.benchmark.modality is Modality.RGB:
            raise ValueError(f"{self.benchmark.title} has no second picture to drop or to corrupt")

    def shown(self, sequence: BenchmarkSequence) -> BenchmarkSequence:
        """The sequence as the tracker sees it."""
        return self.degradation.apply(sequence, sequence.starts)


@dataclass(frozen=True)
class Outcome:
    """What came of it. failures: run (its sequence's name, unless it has several) -> reason.

    tracked, kept: runs. scored: None when a server scores, or nothing is finished.
    """

    folder: Path
    sequences: Sequence[BenchmarkSequence]
    failures: dict[str, str]
    scored: Scored | None
    tracked: int
    kept: int
    seconds: float
    fps: float
    main_process: bool = True

    @property
    def exit_code(self) -> int:
        return 1 if self.failures else 0

    @property
    def unit(self) -> str:
        """What `tracked` and `kept` count."""
        return _unit(self.sequences)

    @property
    def finished(self) -> list[BenchmarkSequence]:
        """The sequences without a failure."""
        return [s for s in self.sequences if self.failures.keys().isdisjoint(s.run_names)]


@dataclass
class TrackSequences:
    """The work of one process; picklable, so that workers get it as it is. owners: run -> its sequence."""

    factory: TrackerFactory
    benchmark: str
    paths: Paths
    folder: ResultFolder
    batch: int
    processes: int
    metric: str
    owners: Mapping[str, str]
    debug: bool = False
    degradation: Degradation = Degradation()
    _open: dict[str, BenchmarkSequence] = field(default_factory=dict)

    def __call__(self, slot: int, connect: Callable[[Callable[[Result], Summary]], Work]) -> None:
        if self.processes > 1:
            torch.set_num_threads(threads_per_process(self.processes))
            cv2.setNumThreads(1)
        tracker = self.factory.build(slot)
        reader = get_benchmark(self.benchmark).open(self.paths)

        def load(name: str) -> tuple[Video, int]:
            found = reader.sequence(self.owners[name])
            self._open[name] = whole = self.degradation.apply(found, found.starts)
            run = whole.runs[whole.run_names.index(name)]
            return run.sequence, run.start

        decoders = max(2, min(8, threads_per_process(self.processes)))
        Runner(tracker, load, connect(self._keep), self.batch, decode_threads=decoders, raise_errors=self.debug).run()

    def _keep(self, result: Result) -> Summary:
        self.folder.write(result)
        sequence = self._open.pop(result.name)
        return Summary(len(result.seconds), float(result.seconds.sum()), self._main_score(sequence, result))

    def _main_score(self, sequence: BenchmarkSequence, result: Result) -> float | None:
        benchmark = get_benchmark(self.benchmark)
        if not benchmark.scored or self.metric not in METRICS or len(sequence.run_names) > 1:
            return None
        try:
            scores = evaluate(self.metric, [sequence.scored([result])], dataset=benchmark.tag)
        except MetricError:  # told at the end, with the scores of the whole
            return None
        return scores.headline[scores.main]


@dataclass
class LocalWork:
    """The queue when there is one process only."""

    queue: WorkQueue
    keep: Callable[[Result], Summary]
    watcher: Watcher

    def take(self) -> str | None:
        return self.queue.take(0)

    def finished(self, result: Result) -> None:
        self.queue.done(0, result.name)
        self.watcher.finished(result.name, self.keep(result))

    def failed(self, name: str, reason: str) -> None:
        self.queue.done(0, name)
        self.watcher.failed(name, reason)

    def tracked(self, frames: int) -> None:
        self.watcher.tracked(frames)


def run_evaluation(job: Evaluation, console: Console) -> Outcome:
    """Track what is not yet finished, then score the whole.

    Results of other weights or another configuration are moved aside first, and that is said. A sequence that fails
    does not stop the others; it is in `Outcome.failures`. On KeyboardInterrupt finished results stay.
    Raises BenchmarkError, MissingPathError, WorkersFailedError, ValueError for a degradation that cannot be.
    """
    job.check()
    group = join_group(job.benchmark.name)
    quiet = group is not None and group.rank > 0
    console = Console(quiet=True) if quiet else console
    sequences = [job.shown(s) for s in select(job)]
    owners = {run: s.name for s in sequences for run in s.run_names}
    prepare = _Preparation(job, sequences, console)
    todo = group.share("todo", prepare) if group else prepare()
    lengths = {run.name: len(run) for s in sequences for run in s.runs}
    with Display(
        console, job.benchmark.title, len(todo), sum(lengths[n] for n in todo), _score_label(job), _unit(sequences)
    ) as display:
        if todo:
            _track(job, todo, owners, display, group)
        seconds = display.seconds
    failures = dict(display.failures)
    if group:
        for other in group.gather("failures", failures):
            failures.update(other)
        failures = group.share("verdict", lambda: failures)
    runs = [run for s in sequences for run in s.runs if run.name not in failures]
    lost = [run.name for run in runs if not job.folder.finished(run.sequence, run.start)]
    failures.update(dict.fromkeys(lost, f"no result in {job.folder.path}"))
    done = [s for s in sequences if failures.keys().isdisjoint(s.run_names)]
    scored = None
    if not quiet:
        _finish_manifest(job, [run for run in runs if run.name not in failures], failures, seconds)
        scored = score(job.benchmark, job.folder, done, job.metric, job.metric_options) if done else None
        if scored and not failures and not job.names:
            job.folder.write_scores(scored.plain())
    if group:
        group.leave()
    tracked = len(todo) - len(failures)
    fps = sum(lengths[n] for n in todo) / seconds if todo and seconds > 0 else 0.0
    kept = len(owners) - len(todo)
    return Outcome(job.folder.path, sequences, failures, scored, tracked, kept, seconds, fps, not quiet)


def select(job: Evaluation) -> list[BenchmarkSequence]:
    """The sequences of the job, in the benchmark's order; an unknown name is an error with the nearest one."""
    if not job.names:
        return job.benchmark.sequences(job.paths, skip_missing=job.skip_missing)
    known = job.benchmark.names(job.paths)
    chosen = []
    for wish in job.names:
        if wish in known:
            chosen.append(wish)
        elif wish.isdigit() and int(wish) < len(known):
            chosen.append(known[int(wish)])
        else:
            raise BenchmarkError(
                f"{job.benchmark.title} has no sequence {wish!r}{suggest(wish, known)} "
                f"(a name, or a position from 0 to {len(known) - 1})"
            )
    return job.benchmark.sequences(job.paths, dict.fromkeys(chosen), job.skip_missing)


@dataclass(frozen=True)
class _Preparation:
    """Before anything is tracked: stale results aside, the manifest, the list of what is to be done."""

    job: Evaluation
    sequences: Sequence[BenchmarkSequence]
    console: Console

    def __call__(self) -> list[str]:
        job, folder = self.job, self.job.folder
        identity = job.identity
        before = (read_manifest(folder.path) or {}).get("identity", {}) if folder.path.is_dir() else {}
        if before and identity.difference(before):
            job.factory.build(0)  # a tracker that cannot be built must not displace results
        aside = folder.set_stale_aside(identity)
        if aside is not None:
            changed = f"other {identity.difference(before)}" if before else "no manifest"
            self.console.print(
                f"results in {folder.path} were made by something else ({changed}): moved to {aside.name}/",
                highlight=False,
                soft_wrap=True,
            )
        if job.rerun:
            folder.forget(name for s in self.sequences for name in s.run_names)
        runs = [run for s in self.sequences for run in s.runs]
        todo = [run for run in runs if not folder.finished(run.sequence, run.start)]
        changed_data = [s.name for s in todo if folder.boxes_file(s.name).is_file()]
        if changed_data:
            shown = ", ".join(changed_data[:5]) + (" ..." if len(changed_data) > 5 else "")
            self.console.print(
                f"{len(changed_data)} results do not fit the data as they are now and run again: {shown}",
                highlight=False,
                soft_wrap=True,
            )
        if todo:
            folder.forget(s.name for s in todo)
        kept = len(runs) - len(todo)
        if kept:
            self.console.print(
                f"{kept} of {len(runs)} {_unit(self.sequences)} are finished already (--rerun repeats them)",
                soft_wrap=True,
            )
        write_manifest(folder.path, _manifest(job, "running"))
        return [s.name for s in sorted(todo, key=lambda s: -len(s))]


def _unit(sequences: Sequence[BenchmarkSequence]) -> str:
    """What is counted: sequences, or runs where a sequence has several."""
    return "runs" if any(len(s.run_names) > 1 for s in sequences) else "sequences"


def _track(job: Evaluation, todo: list[str], owners: Mapping[str, str], display: Display, group: Group | None) -> None:
    processes = max(1, job.workers)
    if group:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", group.size))
    work = TrackSequences(
        job.factory,
        job.benchmark.name,
        job.paths,
        job.folder,
        job.batch,
        processes,
        metric_of(job),
        owners,
        job.debug,
        job.degradation,
    )
    if group:
        work(group.local_rank, lambda keep: ClusterWork(group, todo, keep, display))
    elif job.workers:
        WorkerPool(work, job.workers, WorkQueue(todo), display).run()
    else:
        work(0, lambda keep: LocalWork(WorkQueue(todo), keep, display))


def metric_of(job: Evaluation) -> str:
    """The metric variant in use."""
    return job.metric or job.benchmark.metric


def _score_label(job: Evaluation) -> str:
    name = metric_of(job)
    return next(iter(METRICS[name].scores.values())).label if name in METRICS else "score"


def _manifest(job: Evaluation, state: str) -> dict[str, Any]:
    execution = job.factory.execution(0)
    script, config = job.factory.labels
    return {
        "state": state,
        "benchmark": job.benchmark.name,
        "data": str(job.paths.dataset(job.benchmark.root)),
        "tracker": {"script": script, "config": config, "run_id": job.run_id},
        "identity": job.identity.plain(),
        "hash": job.identity.hash,
        **job.factory.details(),
        "device": execution.device,
        "dtype": execution.dtype_name,
        "why": execution.why,
        "batch": job.batch,
        "workers": job.workers,
        "versions": versions(),
        "host": host(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _finish_manifest(
    job: Evaluation,
    done: Sequence[Run],
    failures: dict[str, str],
    seconds: float,
) -> None:
    speeds: dict[str, Any] = {}
    frames, spent = 0, 0.0
    for run in done:
        times = job.folder.seconds(run.name)
        tail = float(times[1:].sum())
        frames, spent = frames + max(0, len(times) - 1), spent + tail
        speeds[run.name] = {
            "frames": len(run),
            "fps": round((len(times) - 1) / tail, 3) if tail > 0 else None,
        }
    complete = not failures and not job.names
    write_manifest(
        job.folder.path,
        {
            **_manifest(job, "complete" if complete else "incomplete"),
            "timing": {
                "seconds": round(seconds, 3),
                "frames": frames,
                "tracker_fps": round(frames / spent, 3) if spent > 0 else None,
            },
            "failed": failures,
            "sequences": speeds,
        },
    )
