"""Visual object tracking from Python: load a tracker, track, evaluate, compare, train.

    import unitrack

    tracker = unitrack.load()
    for box, score in unitrack.track(tracker, "clip.mp4", init=(315, 139, 113, 116)):
        print(box, score)

Boxes are x, y, w, h in image pixels, counted from 0 at the top left corner. Pictures are H x W x 3 uint8 arrays in RGB
order. This module is thin: each function fills in the objects of `lib` that the commands of `tracking/` use as well.
PyTorch is imported by the first call.
"""

from __future__ import annotations

import json
import multiprocessing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import __version__

if TYPE_CHECKING:
    from lib.bench import Comparison, LoadedTracker, Outcome
    from lib.data import Source

__all__ = ["__version__", "compare", "evaluate", "load", "track", "train"]


def load(
    name: str | Path | None = None,
    config: str | None = None,
    weights: str | Path | None = None,
    *,
    device: str = "auto",
    protocol: str = "official",
    overrides: Mapping[str, Any] | Sequence[str] | str | None = None,
    plugins: Sequence[str | Path] | str | Path = (),
    **options: Any,
) -> LoadedTracker:
    """Load a tracker with its weights.

        load()                                               the network that comes with the project
        load("ostrack", "vitb_256_mae_ce_32x4_ep300")        method and configuration: weights where training puts them
        load("ostrack", "vitb_256_mae_ce_32x4_ep300", "OSTrack_ep0300.pth.tar")
        load("my_tracker.safetensors")                       a release, whose JSON file names the configuration
        load("hf://owner/name")                              the same from the Hugging Face hub
        load("classical")                                    a reference tracker without weights: classical, mil, static

    Args:
        name: Method (a folder of `experiments/`), file of weights, `hf://owner/name`, or reference tracker.
        config: YAML file of the method, without its ending, or a path.
        weights: File or `hf://` name; by default the trained network of the configuration.
        device: auto, cpu, mps, cuda or cuda:N.
        protocol: "official" (float32, as papers report) or "fast".
        overrides: Keys of the configuration, such as `{"TEST.SEARCH_SIZE": 320}`, or texts `KEY=VALUE`.
        plugins: Folders of methods from outside the project.
        options: Further fields of `lib.bench.TrackerSpec`, such as `engine="openvino"` or `untrained=True`.

    Returns:
        The tracker, for `track` and `evaluate`; it also has `init(image, box)` and `update(image) -> (box, score)`.

    Raises:
        CheckpointNotFoundError, WeightsError: The weights are not there, cannot be read, or do not fit.
        ConfigError: The configuration cannot be used.
    """
    from lib.bench import REFERENCES, LoadedTracker, TrackerSpec, demo_spec
    from lib.paths import shipped_folder

    _check_options(options, TrackerSpec, "load")
    what: dict[str, Any] = {"script": str(name or ""), "config": str(config or ""), "checkpoint": weights}
    if config is None and name is not None:
        alone = {"reference": str(name)} if str(name) in REFERENCES else {"checkpoint": str(name)}
        if "reference" in alone or str(name) not in [p.name for p in shipped_folder("experiments").iterdir()]:
            if weights is not None:
                raise ValueError(f"weights: load({str(name)!r}) names a tracker with its weights; name a configuration")
            what = alone
    what |= {"device": str(device), "protocol": protocol, "overrides": _texts(overrides), **options}
    return LoadedTracker(demo_spec(TrackerSpec(**what, plugins=tuple(map(str, _several(plugins))))))


def track(
    tracker: Any,
    source: Source,
    init: Sequence[float] | Sequence[Sequence[float]],
    *,
    aux: Source | None = None,
    max_frames: int | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Track one or several targets through a video.

    Args:
        tracker: What `load` returned, or any object with `init(image, box)` and `update(image)`.
        source: A video file, a folder of pictures, a picture, a camera's number, or a list or any iterator of
            pictures: H x W x 3 uint8 in RGB order, or their files.
        init: [4] the target in the first frame, or [B, 4] several, which are tracked as rows of one batch; x, y, w, h
            in image pixels.
        aux: Source of the second modality (thermal, depth, events), for RGB-X trackers.
        max_frames: Stop after so many, the first included.

    Returns:
        (box, score) for every frame, the first included (with score 1): four floats x, y, w, h and a float; with
        several targets arrays [B, 4] and [B]. A frame that cannot be read has the box before it, with a warning; so
        is a change of the pictures' size.

    Raises:
        SourceError: The source cannot be opened, or its first frame cannot be read.
        ValueError: A box lies outside the first frame, or has no size.
    """
    import numpy as np

    from lib.bench import ForeignSpec, LoadedTracker, PictureSize, first_frame, track_frames
    from lib.data import open_source
    from lib.track import TrackerSession

    try:
        boxes = np.asarray(init, dtype=np.float64)
    except (TypeError, ValueError):
        boxes = np.zeros(0)
    if boxes.ndim not in (1, 2) or not boxes.size or boxes.shape[-1] != 4:
        raise ValueError(f"init: expected x, y, w, h in pixels, or a list of such boxes, not {init!r:.80}")
    if max_frames is not None and (not isinstance(max_frames, Integral) or max_frames < 1):
        raise ValueError(f"max_frames: expected a whole number from 1, not {max_frames!r:.80}")
    frames = open_source(source, aux)
    grabs = iter(frames)
    first = first_frame(grabs, frames.name)
    built = tracker.tracker if isinstance(tracker, LoadedTracker) else ForeignSpec.of(tracker).build()
    tracked = track_frames(TrackerSession(built), grabs, first, np.atleast_2d(boxes).tolist(), frames.name)

    def results() -> Iterator[tuple[Any, Any]]:
        size = PictureSize()
        for frame in islice(tracked, max_frames):
            if frame.problem:
                warnings.warn(f"frame {frame.index} has the box before it: {frame.problem}", stacklevel=2)
            if not size.note and size.see(frame.frame, frame.index):
                warnings.warn(size.note, stacklevel=2)
            if boxes.ndim == 1:
                yield tuple(frame.boxes_xywh[0].tolist()), float(frame.scores[0])
            else:
                yield frame.boxes_xywh, frame.scores

    return results()


def evaluate(
    tracker: Any,
    benchmark: str,
    *,
    batch: int = 1,
    name: str = "",
    pictures: str = "auto",
    sequences: Sequence[str | int] | str | int = (),
    metric: str | None = None,
    data_dir: str | Path | None = None,
    save_dir: str | Path | None = None,
    run_id: int | None = None,
    rerun: bool | None = None,
    skip_missing: bool = False,
    verbose: bool = True,
) -> Outcome:
    """Track a benchmark and score it.

    Args:
        tracker: What `load` returned; or any object with `init(image, box)` and `update(image)`, which returns a box
            x, y, w, h in image pixels, or (box, score), such as one written for the GOT-10k toolkit; or its class. It
            sees RGB alone.
        benchmark: Name such as "lasot", "got10k_val", "lasher" (`python tracking/test.py --help`), or `FOLDER:path`, a
            folder of your own.
        batch: Sequences that are tracked at a time; 1 for other objects.
        name: Name of an object in tables and result paths; its attribute `name`, or its class's name, by default.
        pictures: What an object is given: "array" (H x W x 3 uint8, RGB), "pil" (`PIL.Image`, RGB), or "auto": PIL for
            objects that have `name` and `is_deterministic`, as trackers of the GOT-10k toolkit do.
        sequences: Names or positions of some sequences.
        metric: Variant in place of the benchmark's own.
        data_dir: Parent of the data set folders (default: local.yaml, or `data`).
        save_dir: Where results go (default: local.yaml, or `output`).
        run_id: Number of a repetition.
        rerun: Track finished sequences again. By default only for other objects, which may have changed unnoticed.
        skip_missing: Continue without sequences that are not on disk.
        verbose: Print progress and the score table.

    Returns:
        `scores` (name -> percent), `folder` (result files), `failures` and `unscored` (sequence -> reason); an argument
        of `compare`.

    Raises:
        BenchmarkError, MissingPathError: The benchmark's data are not complete.
        ValueError: An option is unusable.
    """
    import os

    from rich.console import Console

    from lib.bench import EvalJob, ForeignSpec, LoadedTracker, check_requests, run_test
    from lib.bench.benchmarks import get_benchmark
    from lib.paths import load_paths

    check_requests(metric, None)
    paths, chosen = load_paths(data_dir=data_dir, save_dir=save_dir), get_benchmark(benchmark)
    ours = isinstance(tracker, LoadedTracker)
    if batch != 1 and not ours:
        raise ValueError(f"batch {batch!r}: objects from outside track one sequence at a time")
    if ours and (name or pictures != "auto"):
        raise ValueError("name and pictures are for objects from outside; trackers of unitrack.load have theirs")
    spec = tracker.spec if ours else ForeignSpec.of(tracker, name, pictures)
    job = EvalJob(
        spec.resolve(paths, chosen.name),
        chosen,
        paths,
        batch=batch,
        run_id=run_id,
        names=tuple(map(str, _several(sequences))),
        metric=metric,
        skip_missing=skip_missing,
        rerun=not ours if rerun is None else rerun,
    )
    return run_test(job, Console(quiet=not verbose or os.environ.get("RANK", "0") != "0"))


def compare(
    results: Outcome | str | Path | Iterable[Outcome | str | Path] | Mapping[str, Outcome | str | Path],
    benchmark: str,
    *,
    metric: str | None = None,
    report: str | Path | None = None,
    attributes: Sequence[str] | str = (),
    skip_missing: bool = False,
    data_dir: str | Path | None = None,
    title: str | None = None,
) -> Comparison:
    """Compare trackers on a benchmark by their result files.

    Args:
        results: What `evaluate` returned, result folders of any origin (one text file per sequence, or a folder of such
            folders), archives, texts `LABEL=FOLDER`; or label -> one of these.
        benchmark: As in `evaluate`.
        metric: Variant in place of the benchmark's own.
        report: Folder that gets `report.html`, tables and plots.
        attributes: Only sequences that have all of these.
        skip_missing: Leave out sequences that some tracker lacks.
        data_dir: Parent of the data set folders (default: local.yaml, or `data`).
        title: Heading of the report.

    Returns:
        `scores` (tracker -> name -> percent), `tables`; `print` shows them.

    Raises:
        FileNotFoundError: A folder is not there, or lacks sequences.
        MetricError: Results cannot be scored.
    """
    from lib.bench import Comparison, Scoring, load_runs, with_attributes
    from lib.bench.benchmarks import get_benchmark
    from lib.paths import load_paths

    sources, chosen = list(_sources(results)), get_benchmark(benchmark)
    if not sources:
        raise ValueError("results: there are none to compare")
    if report is not None and Path(report).is_file():
        raise NotADirectoryError(f"report: {report} is a file, expected a folder")
    scoring = Scoring.of(chosen, metric)
    found = chosen.sequences(load_paths(data_dir=data_dir), skip_missing=skip_missing)
    if attributes:
        found = with_attributes(found, _several(attributes))
    comparison = Comparison(chosen.title, load_runs(sources, found, scoring, skip_missing), found, found)
    if report is not None:
        comparison.write_report(Path(report), title)
    return comparison


def train(
    name: str,
    config: str,
    *,
    overrides: Mapping[str, Any] | Sequence[str] | str | None = None,
    load: str | Path | None = None,
    data_dir: str | Path | None = None,
    save_dir: str | Path | None = None,
    device: str = "auto",
    resume: str = "auto",
    plugins: Sequence[str | Path] | str | Path = (),
    **options: Any,
) -> Path | None:
    """Train a tracker in this process; start your file with `torchrun --nproc_per_node N` for several GPUs.

    Args:
        name: Method, a folder of `experiments/`.
        config: Its YAML file, without its ending, or a path.
        overrides: Keys of the configuration, such as `{"TRAIN.EPOCH": 20, "DATA.TRAIN.DATASETS_NAME": ["LASOT"]}`, or
            texts `KEY=VALUE`.
        load: Weights to begin with.
        data_dir: Parent of the data set folders (default: local.yaml, or `data`).
        save_dir: Where checkpoints and logs go (default: local.yaml, or `output`).
        device: auto, cpu, mps, cuda or cuda:N.
        resume: "auto" resumes an earlier training of this configuration; "never" begins from scratch;
            "must" is an error without an earlier one.
        plugins: Folders of methods from outside the project.
        options: Further fields of `lib.train.TrainOptions`.

    Returns:
        The trained weights, for `load`.

    Raises:
        ConfigError: The configuration cannot be used.
        TrainingError: The training cannot continue.
        InterruptedTraining: Ctrl-C; the same call resumes.
        RuntimeError: A data loading process that imports the script has come to this call as well.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        from lib.data import MAIN_GUARD

        raise RuntimeError(f"unitrack.train was called while a data loading process imports the script: {MAIN_GUARD}")
    from lib.train import TrainOptions
    from lib.train import train as run

    _check_options(options, TrainOptions, "train")
    paths: dict[str, Any] = {"data_dir": data_dir, "save_dir": save_dir}
    paths = {key: None if path is None else Path(path) for key, path in paths.items()}
    values: dict[str, Any] = {"device": str(device), "load": load, "resume": resume, "overrides": _texts(overrides)}
    return run(
        TrainOptions(str(name), str(config), plugins=tuple(map(str, _several(plugins))), **paths, **values, **options)
    )


def _check_options(options: Mapping[str, Any], kind: Any, function: str) -> None:
    """TypeError unless all further options are fields of a dataclass."""
    from lib.registry import suggest

    known = [field.name for field in fields(kind)]
    if unknown := [name for name in options if name not in known]:
        raise TypeError(f"{function}() has no argument {unknown[0]!r}{suggest(unknown[0], known)}")


def _several(values: Any) -> Any:
    """A list; one text, path or number becomes a list of one."""
    return (values,) if isinstance(values, str | Path | Integral) else values


def _texts(overrides: Mapping[str, Any] | Sequence[str] | str | None) -> tuple[str, ...]:
    """Overrides as the command line writes them; JSON values are YAML."""

    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):  # numpy's and torch's numbers and arrays
            return value.tolist()
        if isinstance(value, Path):
            return str(value)
        raise TypeError(f"overrides: expected texts, numbers and lists of them, not {type(value).__name__}")

    if not isinstance(overrides, Mapping):
        return tuple(map(str, _several(overrides or ())))
    values = {k: v if isinstance(v, str | Path) else json.dumps(v, default=plain) for k, v in overrides.items()}
    return tuple(f"{key}={value}" for key, value in values.items())


def _sources(results: Any) -> Iterator[Any]:
    """The argument of `compare` as `lib.bench.ResultSource`s."""
    from lib.bench import Outcome, ResultSource

    results = (results,) if isinstance(results, str | Path | Outcome) or results is None else results
    items = results.items() if isinstance(results, Mapping) else [("", result) for result in results]
    for label, result in items:
        if not isinstance(result, str | Path | Outcome):
            expected = "what evaluate returned, a folder, an archive or LABEL=FOLDER"
            raise TypeError(f"results: expected {expected}, not {type(result).__name__}")
        if isinstance(result, str):
            source = ResultSource.parse(result)
        else:
            name, folder = (result.name, result) if isinstance(result, Path) else (result.label, result.folder)
            source = ResultSource(name, (folder,))
        yield ResultSource(label, source.folders) if label else source
