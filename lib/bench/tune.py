"""Search of a tracker's settings: all are tracked as rows of one batch, over frames that are decoded once.

    <save_dir>/tune/<script>/<config>/<benchmark>/<hash>/       results of one setting, as `lib.bench.results` has them
    <save_dir>/tune/<script>/<config>/<benchmark>/settings.json scores of all that are finished
    <save_dir>/tune/<script>/<config>/<benchmark>/best.yaml     the best one, to be pasted into a configuration

A setting is an override of TEST, so that its results are those of `tracking/test.py` with the same override.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from threading import Lock

import numpy as np
from rich.console import Console
from rich.table import Table

from lib.bench.evaluate import EvalJob, Outcome, Scored, finish_results, prepare_results, run_evaluation, track_queue
from lib.bench.metrics import MetricError
from lib.bench.queue import Display, Summary, Team, WorkQueue, join_team
from lib.bench.results import Result
from lib.bench.search_space import Setting, Span, check_keys, overrides_of, settings_to_try, yaml_snippet
from lib.data import Frame, Video
from lib.files import write_text
from lib.paths import results_folder

KEPT_FRAMES = 32
"""Decoded frames that rows may still ask for."""
SHOWN = 10
"""Settings in the printed table."""


def with_setting(job: EvalJob, setting: Setting, root: Path | None = None) -> EvalJob:
    """The evaluation of a tracker with other settings.

    Args:
        job: With the settings of the configuration.
        setting: What differs.
        root: Folder for the results.

    Raises:
        ConfigError: A value is not in its range.
    """
    spec = replace(job.spec, overrides=(*job.spec.overrides, *overrides_of(setting, job.benchmark)))
    return replace(job, spec=spec, root=root)


@dataclass(frozen=True)
class Trial:
    """One setting of a search.

    Attributes:
        setting: Its values.
        job: Its evaluation.
        scored: Its scores; None if a run failed.
        failures: Failed run -> reason.
    """

    setting: Setting
    job: EvalJob
    scored: Scored | None = None
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The main score in percent; -inf without scores."""
        return -math.inf if self.scored is None else self.scored.filed.headline[self.scored.filed.main]


class SharedFrames:
    """Decodes a frame once for all rows that are near it; safe for several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._frames: OrderedDict[tuple[str, int], Future[Frame]] = OrderedDict()

    def video(self, video: Video, name: str) -> Video:
        """A video whose frames are shared with all others that this gives for it.

        Args:
            video: Plain.
            name: For this one.
        """
        return replace(video, name=name, read_frame=lambda i: self._read(video, i))

    def _read(self, video: Video, i: int) -> Frame:
        with self._lock:
            future = self._frames.get((video.name, i))
            mine = future is None
            if future is None:
                future = self._frames[video.name, i] = Future()
                if len(self._frames) > KEPT_FRAMES:
                    self._frames.popitem(last=False)
        if mine:
            try:
                future.set_result(video.read_frame(i))
            except Exception as error:
                future.set_exception(error)
        return future.result()


def search(
    job: EvalJob, settings: Sequence[Setting], row_keys: Sequence[str], root: Path, console: Console
) -> list[Trial]:
    """Track and score every setting; what is finished is not tracked again.

    Settings that differ in `row_keys` alone are rows of one tracker, others have one each.

    Args:
        job: The tracker on the benchmark, with the settings of the configuration.
        settings: To be tried, of the same keys.
        row_keys: Of the tracker.
        root: Folder of the search.
        console: For progress and messages.

    Returns:
        The trials in the order of `settings`; none in processes other than the main one.

    Raises:
        ConfigError: A value is not in its range.
        MetricError: The benchmark has no scores.
    """
    job.require_scores()
    trials = [Trial(setting, with_setting(job, setting)) for setting in settings]
    trials = [replace(t, job=replace(t.job, root=root / t.job.identity.hash)) for t in trials]
    team, quiet = join_team(str(root)), Console(quiet=True)
    sequences = job.sequences()
    lengths = {run.name: len(run) for s in sequences for run in s.runs}
    todo: list[list[str]] = team.share("todo", lambda: [prepare_results(t.job, sequences, quiet) for t in trials])
    # Run by run, the longest first, so that rows with the same frames are side by side.
    order = sorted(lengths, key=lambda run: -lengths[run])
    names = [f"{i}:{run}" for run in order for i in range(len(trials)) if run in todo[i]]
    title = f"{job.benchmark.title}, {len(trials)} settings"
    frames = sum(lengths[trial_and_run(name)[1]] for name in names)
    if len(names) < len(lengths) * len(trials) and team.is_main:
        kept = len(lengths) * len(trials) - len(names)
        console.print(f"{kept} of {len(lengths) * len(trials)} runs are finished already", highlight=False)
    with Display(console if team.is_main else quiet, title, len(names), frames, unit="runs") as display:
        owners = {run: s.name for s in sequences for run in s.run_names}
        for part in by_tracker(trials, row_keys):
            if own := [name for name in names if trial_and_run(name)[0] in part]:
                track_rows(trials, part, own, owners, row_keys, join_team(f"{root} {part[0]}"), display)
    failures: dict[str, str] = team.share("failures", lambda: display.failures)
    if not team.is_main:
        return []
    done = []
    for i, trial in enumerate(trials):
        failed = {run: failures[f"{i}:{run}"] for run in lengths if f"{i}:{run}" in failures}
        scored = finish_results(trial.job, sequences, failed, {}, display.seconds)
        done.append(replace(trial, scored=None if failed else scored, failures=failed))
    write_trials(done, root)
    return done


def trial_and_run(name: str) -> tuple[int, str]:
    """Number of the trial, and name of the run, of a row's name `<trial>:<run>`."""
    number, _, run = name.partition(":")
    return int(number), run


def track_rows(
    trials: Sequence[Trial],
    part: Sequence[int],
    names: Sequence[str],
    owners: Mapping[str, str],
    row_keys: Sequence[str],
    team: Team,
    display: Display,
) -> None:
    """Track rows of one tracker.

    Args:
        trials: All trials.
        part: Numbers of those that share the tracker.
        names: Their rows, see `trial_and_run`, in the order in which they are to be tracked.
        owners: Run -> name of its sequence.
        row_keys: Of the tracker.
        team: Processes that share the rows.
        display: Progress, shown in the main process.
    """
    job, frames = trials[part[0]].job, SharedFrames()
    reader = job.benchmark.open(job.paths)
    values = {i: row_values(trials[i].job, row_keys) for i in part}

    def load(name: str) -> tuple[Video, int]:
        run_name = trial_and_run(name)[1]
        sequence = reader.sequence(owners[run_name])
        return frames.video(sequence.runs[sequence.run_names.index(run_name)], name), sequence.start

    def write_result(result: Result) -> Summary:
        number, run_name = trial_and_run(result.name)
        trials[number].job.folder.write(replace(result, name=run_name))
        return Summary(note=result.note)

    queue = WorkQueue(team, names, write_result, display if team.is_main else None)
    track_queue(job, queue, load, lambda name: values[trial_and_run(name)[0]])


def by_tracker(trials: Sequence[Trial], row_keys: Sequence[str]) -> list[list[int]]:
    """Numbers of the trials that one tracker can do as rows of a batch.

    Args:
        trials: All trials.
        row_keys: Of the tracker.
    """
    found: dict[str, list[int]] = {}
    for i, trial in enumerate(trials):
        rest = {key: value for key, value in trial.setting.items() if key not in row_keys}
        found.setdefault(json.dumps(rest), []).append(i)
    return list(found.values())


def row_values(job: EvalJob, keys: Sequence[str]) -> dict[str, float]:
    """Values of TEST on the job's benchmark.

    Args:
        job: The evaluation.
        keys: In lower case, with dots.
    """
    test = job.spec.experiment.for_benchmark(job.benchmark.name).config.test
    return {key: attrgetter(key)(test) for key in keys}


def write_trials(trials: Sequence[Trial], root: Path) -> None:
    """Write `settings.json`, the best first.

    Args:
        trials: All trials.
        root: Folder of the search.
    """
    rows = []
    for trial in sorted(trials, key=lambda t: -t.score):
        setting = {key.upper(): value for key, value in trial.setting.items()}
        scores = None if trial.scored is None else trial.scored.filed.headline
        folder, failed = trial.job.folder.path.name, dict(trial.failures)
        rows.append({"setting": setting, "folder": folder, "scores": scores, "failed": failed})
    write_text(root / "settings.json", json.dumps(rows, indent=1) + "\n")


@dataclass(frozen=True)
class Tuning:
    """A search, and the test of what it found.

    Attributes:
        search: The tracker, untuned, on the benchmark that is searched on.
        test: On the benchmark that the best setting is tested on; the same one for its other half.
        spans: What is tried.
        trials: Number of random settings; 0: all combinations.
        seed: Of all draws.
        share: Of the videos that are searched on, or of half of them.
    """

    search: EvalJob
    test: EvalJob
    spans: Sequence[Span]
    trials: int = 0
    seed: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"--share must be above 0 and at most 1, not {self.share:g}")

    @property
    def halves(self) -> bool:
        """True if search and test have one half of the same benchmark each."""
        return self.search.benchmark.name == self.test.benchmark.name

    def jobs(self) -> tuple[EvalJob, EvalJob]:
        """Search and test with the videos that they have.

        Raises:
            ValueError: There are too few videos.
        """
        names = self.search.benchmark.names(self.search.paths)
        order = [names[i] for i in np.random.default_rng(self.seed).permutation(len(names))]
        searched, rest = (order[: len(names) // 2], order[len(names) // 2 :]) if self.halves else (order, [])
        kept = set(searched[: math.ceil(self.share * len(searched))])
        if not kept:
            raise ValueError(f"{self.search.benchmark.title} has {len(names)} videos: too few for two halves")
        whole = len(kept) == len(names)
        search = self.search if whole else replace(self.search, names=tuple(n for n in names if n in kept))
        return search, replace(self.test, names=tuple(n for n in names if n in set(rest)))


def tune(tuning: Tuning, console: Console) -> int:
    """Search, test the best setting alongside the untuned one, and print and write what was found.

    Results of the best setting are those of a configuration named `<config>_tuned`.

    Args:
        tuning: What to do.
        console: For progress and messages.

    Returns:
        Exit code: 1 if a run failed.

    Raises:
        MetricError: Every setting failed, or the benchmark has no scores.
    """

    def say(message: str) -> None:
        console.print(message, highlight=False, soft_wrap=True, markup=False)

    tracker, keys = tuning.search.spec.build_plain(), [span.key for span in tuning.spans]
    check_keys(tracker, keys)
    job, test_job = tuning.jobs()
    settings = settings_to_try(tuning.spans, row_values(job, keys), tuning.trials, tuning.seed)
    script, config = job.spec.labels
    root = job.paths.save_dir / "tune" / script / config / job.benchmark.name
    if tuning.halves:
        parts = f"on {len(job.names)} videos, tested on the other {len(test_job.names)}"
        say(f"{job.benchmark.title}: searched {parts}; a test on another benchmark says more (--test_dataset)")
    trials = search(job, settings, tracker.row_keys, root, console)
    number = join_team(f"{root} best").share("best", lambda: best_of(trials))
    if number == 0:
        say(f"none of {len(settings) - 1} settings is better than the untuned one on {job.benchmark.title}")
    chosen = results_folder(job.paths.save_dir, script, f"{config}_tuned") / test_job.benchmark.name
    tests = {"untuned": test_job}
    tests |= {"tuned": with_setting(test_job, settings[number], chosen)} if number else {}
    outcomes = {name: run_evaluation(j, console) for name, j in tests.items()}
    if not trials:
        return 0
    found = {"untuned": trials[0], "tuned": trials[number]}
    console.print(trials_table(trials))
    console.print(tuned_table(found, outcomes))
    if number:
        first, best = trials[0].score, trials[number].score
        remark = f"{best:.2f} on {job.benchmark.title} (untuned {first:.2f}): the best of {len(trials)} settings"
        text = yaml_snippet(settings[number], test_job.benchmark, f"{remark}, seed {tuning.seed}")
        write_text(root / "best.yaml", text)
        say(f"{root / 'best.yaml'}:\n{text}")
        missing = " --skip_missing" if tuning.halves else ""
        line = f"{script} {config} {config}_tuned --dataset {test_job.benchmark.name}{missing}"
        say(f"both in one report: python tracking/analysis_results.py {line}")
    failed = [t for t in trials if t.failures]
    for trial in failed:
        run, reason = next(iter(trial.failures.items()))
        say(f"{dict(trial.setting)}: {len(trial.failures)} runs failed; {run}: {reason}")
    return int(bool(failed) or any(outcome.exit_code for outcome in outcomes.values()))


def best_of(trials: Sequence[Trial]) -> int:
    """Number of the best trial, the first one of equals.

    Args:
        trials: All trials.

    Raises:
        MetricError: None has scores.
    """
    if all(trial.scored is None for trial in trials):
        failures = [f"{run}: {reason}" for trial in trials for run, reason in trial.failures.items()]
        raise MetricError(f"every setting failed; the first one, {[*failures, 'nothing can be scored'][0]}")
    return max(range(len(trials)), key=lambda i: trials[i].score)


def trials_table(trials: Sequence[Trial]) -> Table:
    """The best settings and their main scores on the benchmark that was searched on."""
    job = trials[0].job
    table = Table(title=f"{job.benchmark.title}, metric {job.variant}: best of {len(trials)}", title_justify="left")
    for column in (*(key.upper() for key in trials[0].setting), job.score_label):
        table.add_column(column, justify="right")
    for trial in sorted(trials, key=lambda t: -t.score)[:SHOWN]:
        table.add_row(*(f"{v:g}" for v in trial.setting.values()), f"{trial.score:.2f}")
    return table


def tuned_table(trials: Mapping[str, Trial], outcomes: Mapping[str, Outcome]) -> Table:
    """Tuned alongside untuned: settings, score on what was searched on, scores on what is tested.

    Args:
        trials, outcomes: By "untuned", and "tuned" where a setting is better.
    """
    columns = list(outcomes)
    table = Table("", *columns, title="Tuned and untuned", title_justify="left")
    for key in trials["untuned"].setting:
        table.add_row(key.upper(), *(f"{trials[name].setting[key]:g}" for name in columns))
    job = trials["untuned"].job
    table.add_row(f"searched on {job.benchmark.title}: {job.score_label}", *(f"{trials[n].score:.2f}" for n in columns))
    tested = [outcome.scored for outcome in outcomes.values() if outcome.scored]
    for label in outcomes["untuned"].scores if tested else ():
        values = (outcomes[name].scores.get(label, math.nan) for name in columns)
        table.add_row(f"tested on {tested[0].benchmark.title}: {label}", *(f"{v:.2f}" for v in values))
    return table
