"""Joint training on nine data sets, as CSTrack's published files ask for it: from trees on disk to batches."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.config import schema
from lib.data import (
    FRAME_SAMPLERS,
    Batch,
    BatchLoader,
    Dataset,
    Modality,
    Processing,
    TrackingSampler,
    as_read,
    build_loader,
    check_part,
    check_parts,
    doubled,
)
from lib.data.datasets import build_dataset
from lib.methods import load_experiment
from lib.paths import Paths, load_paths
from synthetic import Job, WorldConfig, usual_place, write_benchmark

LAYOUTS = ("lasot", "got10k", "trackingnet", "vasttrack", "tnl2k", "coco", "lasher", "depthtrack", "visevent")
AUX = {"lasher": Modality.RGBT, "depthtrack": Modality.RGBD, "visevent": Modality.RGBE}
BATCH = 40


@functools.cache
def published() -> schema.Data:
    """The DATA section of stage 2."""
    data = load_experiment("cstrack_s2", "cstrack_s2").config.data
    assert isinstance(data, schema.Data)
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("nine")
    for layout in LAYOUTS:
        config = WorldConfig(96, 72, 20, attributes=())
        write_benchmark(Job(layout, usual_place(layout, "train", data), 1, seed=3, config=config))
    return data


@pytest.fixture
def paths(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Of those trees alone, whatever this machine's settings say."""
    settings = tmp_path / "local.yaml"
    settings.write_text("{}\n")
    monkeypatch.setenv("TRACKING_LOCAL_YAML", str(settings))
    return load_paths(data_dir=folder)


def datasets(paths: Paths) -> list[Dataset]:
    return [build_dataset(name, paths) for name in published().train.names]


def loader(paths: Paths, workers: int = 0) -> BatchLoader[Batch]:
    data = published()
    data = replace(
        data,
        template=replace(data.template, size=32),
        search=replace(data.search, size=64, factor=4.0, center_jitter=3.5, scale_jitter=0.5),
    )
    sampler = TrackingSampler(
        datasets(paths),
        data.train.datasets_ratio,
        FRAME_SAMPLERS[data.sampler_mode](data),
        Processing(data),
        seed=1,
        max_bad_samples=0.5,
        pictures=doubled if data.multi_modal_vision else as_read,
    )
    return build_loader(sampler, BATCH, BATCH, workers=workers)


def frames_of(name: str) -> list[int]:
    return [int(n) for n in name.rpartition(":")[2].split(",")]


def set_of(name: str) -> str:
    return name.partition("/")[0]


def test_published_names_and_ratios() -> None:
    mix = published().train
    assert mix.names == (
        "LASOT", "GOT10K_vottrain", "TRACKINGNET", "VastTrack", "TNL2K_train", "COCO17", "LasHeR_train:882",
        "DepthTrack_train", "VisEvent",
    )  # fmt: skip
    assert mix.datasets_ratio == (2, 2, 2, 2, 2, 2, 1, 1, 1)


@pytest.mark.slow
def test_one_batch_of_all_kinds(paths: Paths) -> None:
    (batch,) = loader(paths, workers=1).epoch(1)
    assert {set_of(name) for name in batch.names} == set(LAYOUTS)
    assert batch.template.shape == (BATCH, 2, 6, 32, 32)
    assert batch.search.shape == (BATCH, 6, 6, 64, 64)
    wanted = [list(Modality).index(AUX.get(set_of(name), Modality.RGB)) for name in batch.names]
    assert batch.modality.tolist() == wanted
    for name, template, search in zip(batch.names, batch.template, batch.search, strict=True):
        frames = frames_of(name)
        assert len(frames) == 2 + 6
        assert frames in (sorted(frames), sorted(frames, reverse=True))
        assert torch.equal(template[:, :3], template[:, 3:]) == (set_of(name) not in AUX)
        assert torch.equal(search[:, :3], search[:, 3:]) == (set_of(name) not in AUX)


@pytest.mark.slow
def test_a_cut_picture_and_a_missing_one_are_counted_and_left_out(paths: Paths) -> None:
    source = loader(paths)
    (clean,) = source.epoch(1)
    assert source.bad_samples == 0
    rows = {set_of(name): row for row, name in enumerate(clean.names)}
    cut, gone = (_earliest_picture(paths, clean.names[rows[key]]) for key in ("lasot", "trackingnet"))
    whole = {path: path.read_bytes() for path in (cut, gone)}
    try:
        cut.write_bytes(whole[cut][: len(whole[cut]) // 3])
        gone.unlink()
        source = loader(paths)
        (batch,) = source.epoch(1)
    finally:
        for path, content in whole.items():
            path.write_bytes(content)
    assert len(batch) == BATCH
    assert source.bad_samples >= 2
    for row in (rows["lasot"], rows["trackingnet"]):
        assert batch.names[row] != clean.names[row]
    same = [row for row in range(BATCH) if batch.names[row] == clean.names[row]]
    assert len(same) >= BATCH / 2
    assert all(torch.equal(batch.search[row], clean.search[row]) for row in same)


def _earliest_picture(paths: Paths, name: str) -> Path:
    """The file of a sample's earliest frame: one that is missing at the end only shortens the video."""
    dataset = next(d for d in datasets(paths) if d.name == set_of(name))
    sequence = next(s for i in range(len(dataset)) if (s := dataset[i]).name == name.split("/")[1].partition(":")[0])
    return Path(sequence.frame_path(min(frames_of(name))))


@pytest.mark.slow
def test_the_data_check_passes_all_nine(paths: Paths) -> None:
    parts = [p for p in check_parts() if p.spec.key in LAYOUTS and p.subset.label == "training"]
    assert {p.spec.key for p in parts} == set(LAYOUTS)
    for part in parts:
        result = check_part(part, paths, "full")
        assert not result.is_wrong(partial=True), (part.name, result.problems)


def test_published_lists_hold_the_sequences_of_cstrack(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    datasets(paths)
    messages = "\n".join(r.getMessage() for r in caplog.records)
    for name, count in {"LASOT": 1120, "LasHeR_train:882": 882, "DepthTrack_train": 146}.items():
        assert f"{name}: 1 of its {count} sequences" in messages
    assert "of its 7086 sequences" in messages


def test_small_boxes_of_pictures_are_not_left_out(paths: Paths) -> None:
    """The rule of 50 pixels bounds no picture that is drawn."""
    coco = build_dataset("COCO17", paths)
    frame_sampler = FRAME_SAMPLERS["order"](published())
    small = [s for s in (coco[i] for i in range(len(coco))) if np.min(s.boxes_xywh[:, 2:]) < 50]
    assert small
    assert all(frame_sampler.accepts(s) for s in small)
