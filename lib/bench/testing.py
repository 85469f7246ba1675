"""What `tracking/test.py` does with its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lib.bench.benchmarks import Benchmark, get_benchmark
from lib.bench.evaluation import Evaluation, Outcome, run_evaluation
from lib.bench.factory import ExperimentFactory, ReferenceFactory, TrackerFactory
from lib.bench.metrics import METRICS, check_options
from lib.bench.render import check_wish, choose, write_videos
from lib.bench.scoring import Scored
from lib.bench.submit import pack, shortfall
from lib.config import ConfigError
from lib.deploy import TORCH, get_engine
from lib.methods import Experiment, load_experiment
from lib.paths import Paths
from lib.registry import UnknownNameError

SHOWN_FAILURES = 50


@dataclass(frozen=True)
class TrackerChoice:
    """Which tracker: an experiment (script, config) with its weights, or a built-in reference tracker."""

    script: str | None = None
    config: str | None = None
    reference: str | None = None
    checkpoint: str | None = None
    untrained: bool = False
    seed: int = 42
    protocol: str = "official"
    compile: bool = False
    device: str = "auto"
    num_gpus: int = 0
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    engine: str = TORCH
    calibration: str = ""

    def factory(self, paths: Paths, benchmark: str | None = None) -> TrackerFactory:
        """What workers build the tracker from. Raises CheckpointNotFoundError, ConfigError, EngineError."""
        if self.reference:
            return ReferenceFactory(self.reference)
        if not self.script or not self.config:
            raise ValueError("expected SCRIPT CONFIG (such as: ostrack vitb_256_mae_ce_32x4_ep300) or --tracker NAME")
        engine = get_engine(self.engine)
        if engine is not None:
            engine.require()
        experiment = load_experiment(self.script, self.config, self.overrides, self.plugins)
        check_benchmark_keys(experiment)
        checkpoint = None
        if not self.untrained:
            checkpoint = experiment.locate_weights(self.checkpoint or "", paths)
        return ExperimentFactory(
            self.script,
            self.config,
            checkpoint,
            self.overrides,
            self.plugins,
            self.protocol,
            self.device,
            self.num_gpus,
            self.compile,
            benchmark,
            self.seed,
            self.engine,
            self.calibration,
            paths,
        )


def check_benchmark_keys(experiment: Experiment) -> None:
    """Raises ConfigError for a key of TEST.BY_BENCHMARK that names no benchmark, or not as it is called here."""
    for name, where in experiment.config.test.by_benchmark.where.items():
        key = f"{where}: TEST.BY_BENCHMARK.{name}"
        try:
            known = get_benchmark(name).name
        except UnknownNameError as error:
            raise ConfigError(f"{key}: {error}") from None
        if known != name.lower():
            raise ConfigError(f"{key}: write {known.upper()}")


def check_wishes(
    metric: str | None, videos: str | None, datasets: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> None:
    """What is asked for after the tracking must be possible before it. Raises UnknownNameError, ValueError."""
    if metric is not None:
        METRICS[metric]
    for variant in {metric or get_benchmark(name).metric for name in datasets} if options else ():
        try:
            check_options(variant, options or {})
        except TypeError as error:
            raise ValueError(str(error)) from None
    if videos is not None:
        check_wish(videos)


def run_test(job: Evaluation, console: Console, videos: str | None = None) -> int:
    """Announce, track, score, print; returns the exit code (1 when a sequence failed)."""
    execution = job.factory.execution(0)
    script, config = job.factory.labels
    console.print(
        f"[bold]{script} {config}[/bold] on [bold]{job.benchmark.title}[/bold]", highlight=False, soft_wrap=True
    )
    weights = job.factory.details().get("weights")
    if isinstance(weights, dict):
        console.print(
            escape(f"weights: {weights['file'] or 'none'} ({weights['sha256'][:16]})"), highlight=False, soft_wrap=True
        )
    console.print(
        escape(f"device: {execution.device}, {execution.dtype_name} ({execution.why})"), highlight=False, soft_wrap=True
    )
    if not job.degradation.is_none:
        console.print(escape(f"frames: {job.degradation.label}"), highlight=False, soft_wrap=True)
    outcome = run_evaluation(job, console)
    report(outcome, console)
    if outcome.main_process:
        if videos:
            _save_videos(outcome, videos, console)
        if job.benchmark.submission and not outcome.failures and not job.names:
            console.print(
                f"submission: {pack(job.benchmark, outcome.folder, job.paths)}", highlight=False, soft_wrap=True
            )
            if note := shortfall(job.benchmark, len(outcome.sequences)):
                console.print(escape(f"note: {note}"), highlight=False, soft_wrap=True)
    return outcome.exit_code


def report(outcome: Outcome, console: Console) -> None:
    """The table of scores, what failed, where the results are."""
    if outcome.scored is not None:
        total = len(outcome.sequences)
        console.print(score_table(outcome.scored, total))
        for note in outcome.scored.notes:
            console.print(escape(f"note: {note}"), highlight=False, soft_wrap=True)
    elif not outcome.failures:
        console.print("no scores here: the ground truth of this benchmark is not public, or its metric is not built in")
    if outcome.failures:
        console.print(f"[red]{len(outcome.failures)} {outcome.unit} failed:[/red]", highlight=False, soft_wrap=True)
        for name, reason in list(outcome.failures.items())[:SHOWN_FAILURES]:
            console.print(escape(f"  {name}: {reason}"), highlight=False, soft_wrap=True)
    speed = f", {outcome.fps:.1f} frames/s over all workers" if outcome.tracked else ""
    told = f"{outcome.tracked} {outcome.unit} tracked in {outcome.seconds:.1f} s{speed}"
    console.print(
        f"{told}; {outcome.kept} were finished before",
        highlight=False,
        soft_wrap=True,
    )
    console.print(escape(f"results: {outcome.folder}"), highlight=False, soft_wrap=True)


def score_table(scored: Scored, total: int) -> Table:
    """One row for the result files, one for the boxes with all digits where the files cut them."""
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


def _save_videos(outcome: Outcome, wish: str, console: Console) -> None:
    done = outcome.finished
    ranking = outcome.scored.filed.per_sequence() if outcome.scored else {}
    chosen = choose(wish, [s.name for s in done], ranking)
    for path in write_videos(done, {"tracker": outcome.folder}, outcome.folder / "videos", chosen):
        console.print(escape(f"video: {path}"), highlight=False, soft_wrap=True)


def evaluations(choice: TrackerChoice, datasets: Sequence[str], paths: Paths) -> list[tuple[Benchmark, TrackerFactory]]:
    """(benchmark, tracker) for each data set named; all of them are checked before the first one runs."""
    benchmarks = [get_benchmark(name) for name in datasets]
    return [(b, choice.factory(paths, b.name)) for b in benchmarks]
