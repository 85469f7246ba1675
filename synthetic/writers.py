"""Writing synthetic worlds to disk in the layout of a published data set: in parallel, deterministic, resumable."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from lib.catalogue import CATALOGUE
from lib.files import errors_name, require_shared_memory, write_text
from lib.launch import end_with_parent
from lib.registry import Registry
from synthetic.config import GENERATOR_VERSION, WorldConfig
from synthetic.dataset import SyntheticDataset, WorldCameras
from synthetic.layout import LayoutWriter, WriteTask
from synthetic.layouts import (
    CocoLayout,
    DepthTrackLayout,
    Got10kLayout,
    LasherLayout,
    LasotLayout,
    SyntheticLayout,
    Tnl2kLayout,
    TrackingNetLayout,
    VastTrackLayout,
    VisEventLayout,
    VotRgbdLayout,
    YoutubeVosLayout,
)

WRITERS: Registry[LayoutWriter] = Registry("layout")
for _name, _layout in {
    "synthetic": SyntheticLayout(),
    "lasot": LasotLayout(),
    "got10k": Got10kLayout(),
    "trackingnet": TrackingNetLayout(),
    "coco": CocoLayout(),
    "youtube_vos": YoutubeVosLayout(),
    "tnl2k": Tnl2kLayout(),
    "vasttrack": VastTrackLayout(),
    "lasher": LasherLayout(),
    "depthtrack": DepthTrackLayout(),
    "vot_rgbd22": VotRgbdLayout(),
    "visevent": VisEventLayout(),
}.items():
    WRITERS.register(_name)(_layout)

ATTRIBUTES_FILE, RECORD_FILE = "attributes.json", "synthetic.json"


@dataclass(frozen=True)
class Job:
    """What to write where.

    Attributes:
        layout: Name in `WRITERS`.
        root: The folder that `local.yaml` points to for that data set.
        sequences: How many.
        seed: The same seed gives the same files.
        split: train, val or test; parts of one seed share no world.
        config: Settings of the worlds; the modality follows from the layout.
        names: Of the sequences; None takes published names if the data set has a list, else generated ones.
    """

    layout: str
    root: Path
    sequences: int
    seed: int = 0
    split: str = "train"
    config: WorldConfig = WorldConfig()
    names: tuple[str, ...] | None = None


def usual_place(layout: str, split: str, data_dir: Path) -> Path:
    """Where readers look for that part of a data set below the data folder; UnknownNameError for an unknown layout."""
    WRITERS[layout]
    if layout == "synthetic":
        return data_dir / CATALOGUE[layout].folders[0] / split
    key = CATALOGUE[layout].key
    part = f"{key}_{split}"
    return data_dir / CATALOGUE[part if part in CATALOGUE else key].folders[0]


def _check(job: Job) -> tuple[LayoutWriter, SyntheticDataset]:
    layout = WRITERS[job.layout]
    if job.split not in layout.splits:
        raise ValueError(f"layout {job.layout!r} has no part {job.split!r} (it has {', '.join(layout.splits)})")
    config = replace(job.config, modality=layout.modality)
    return layout, SyntheticDataset(_split_seed(job), job.sequences, config)


def _split_seed(job: Job) -> int:
    """Parts written from one seed share no world."""
    return 3 * job.seed + ("train", "val", "test").index(job.split)


def _record(job: Job) -> dict[str, Any]:
    config = asdict(job.config)
    config["modality"] = WRITERS[job.layout].modality.value
    config["attributes"] = None if config["attributes"] is None else list(config["attributes"])
    for option in ("pictures", "lifelike"):  # folders that were written without them stay as they are
        if not config[option]:
            del config[option]
    return {"layout": job.layout, "seed": job.seed, "generator_version": GENERATOR_VERSION, "world": config}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); remove it to write the data again") from None


def _open_record(job: Job) -> None:
    """Record the arguments of this part; refuse to mix it with one of other arguments."""
    path = job.root / RECORD_FILE
    record = _read_json(path)
    wanted, found = _record(job), record.get(job.split)
    if found is not None:
        was, now = ({**part, **part.get("world", {})} for part in (found, wanted))
        names = {**now, **was}.keys() - {"world", "sequences"}  # more of the same may be written
        differing = [k for k in sorted(names) if was.get(k) != now.get(k)]
        if differing:
            made = ", ".join(f"{k} = {was.get(k)}, not {now.get(k)}" for k in differing)
            raise ValueError(
                f"{job.root} already holds a {job.split} part made with {made}; choose another folder or remove it"
            )
    record[job.split] = {**wanted, "sequences": max(job.sequences, (found or {}).get("sequences", 0))}
    write_text(path, json.dumps(record, indent=1) + "\n")


def _names(job: Job, layout: LayoutWriter, dataset: SyntheticDataset) -> list[str]:
    if job.names is None:
        kinds = [
            WorldCameras(dataset.world_seed(k), dataset.config).world.plan.target.kind for k in range(job.sequences)
        ]
        return layout.names(job.split, kinds)
    if len(job.names) != job.sequences or len(set(job.names)) != job.sequences:
        raise ValueError(f"{job.sequences} sequences need as many different names; {len(set(job.names))} were given")
    return list(job.names)


def _one(job: Job, number: int, name: str) -> tuple[int, list[str], dict[str, Any], bool]:
    """Write one sequence unless it is there. Returns its number, tags, summary, and whether it was written."""
    cv2.setNumThreads(1)
    layout, dataset = _check(job)
    task = WriteTask(name, number, job.split, WorldCameras(dataset.world_seed(number), dataset.config))
    fresh = not layout.mark(job.root, name, number, job.split).exists()
    if fresh:
        layout.write(job.root, task)
    return number, sorted(task.cameras.world.truth.attributes), layout.summary(task), fresh


def _results(job: Job, names: Sequence[str], workers: int) -> Iterator[tuple[int, list[str], dict[str, Any], bool]]:
    if workers <= 1 or job.sequences == 1:
        for number, name in enumerate(names):
            yield _one(job, number, name)
        return
    require_shared_memory()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),)) as pool:
        waiting = [pool.submit(_one, job, number, name) for number, name in enumerate(names)]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_benchmark(job: Job, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Write the sequences of a job and return their names.

    Sequences that are there already are left alone, so that an interrupted run is taken up by the same call; the files
    are the same whatever the number of workers. In addition to the data set files the root gets `attributes.json`
    ({sequence: [tags]}) and `synthetic.json` (the arguments of each part).

    Args:
        job: What to write where.
        workers: Number of processes.
        progress: Called with (sequences finished, sequences written among them).

    Raises:
        ValueError: The folder holds a part of other arguments.
        UnknownNameError: There is no such layout.
    """
    layout, dataset = _check(job)
    job.root.mkdir(parents=True, exist_ok=True)
    _open_record(job)
    names = _names(job, layout, dataset)
    tags: dict[str, list[str]] = {}
    summaries: list[dict[str, Any]] = [{} for _ in names]
    written = 0
    with errors_name(job.root):
        for done, (number, found, summary, fresh) in enumerate(_results(job, names, workers), 1):
            tags[names[number]], summaries[number] = found, summary
            written += fresh
            if progress is not None:
                progress(done, written)
    layout.finish(job.root, job.split, names, summaries)
    table = {**_read_json(job.root / ATTRIBUTES_FILE), **tags}
    write_text(job.root / ATTRIBUTES_FILE, json.dumps(dict(sorted(table.items())), indent=0) + "\n")
    return names


def dataset_of(job: Job) -> SyntheticDataset:
    """The worlds of a job, in memory."""
    return _check(job)[1]
