"""The loader: the same batches for any number of workers and processes, and broken files."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.data import COLLATES, Modality, TooManyBadSamplesError, WorkerError, build_loader, collate, doubled
from tests.unit.data.tiny import TinyDataset, sampler

FIELDS = ("template", "search", "template_boxes", "search_boxes", "template_colour", "search_colour", "modality")


def equal(a, b) -> bool:
    return a.names == b.names and all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


def by_name(batches) -> dict:
    return {name: batch.search[i] for batch in batches for i, name in enumerate(batch.names)}


def test_collate_shapes_and_types():
    source = sampler(TinyDataset(aux=True, modality=Modality.RGBT))
    batch = collate([source(1, i) for i in range(3)])
    assert batch.template.shape == (3, 1, 6, 32, 32)
    assert batch.search.shape == (3, 1, 6, 64, 64)
    assert (batch.search.dtype, batch.search_boxes.dtype, batch.search_colour.dtype) == (
        torch.uint8,
        torch.float32,
        torch.float32,
    )
    assert batch.search_boxes.shape == (3, 1, 4)
    assert batch.modality.tolist() == [list(Modality).index(Modality.RGBT)] * 3
    first = source(1, 0)
    assert batch.names[0] == f"TINY/{first.sequence}:{first.frame_ids[0]},{first.frame_ids[1]}"
    assert np.array_equal(batch.search[0].numpy(), first.search)


def test_rgb_and_rgbx_in_one_batch_is_a_clear_error():
    with pytest.raises(ValueError, match="RGB samples and RGB"):
        collate([sampler()(1, 0), sampler(TinyDataset(aux=True))(1, 0)])


def test_rgb_and_rgbx_sets_make_one_batch_where_rgb_stands_for_the_second_picture():
    plain, both = TinyDataset("PLAIN"), TinyDataset("BOTH", aux=True, modality=Modality.RGBT)
    source = sampler(plain, both, pictures=doubled)
    batch = next(build_loader(source, 16, 16).epoch(1))
    assert batch.search.shape[2] == 6
    is_plain = torch.tensor([name.startswith("PLAIN") for name in batch.names])
    assert 0 < is_plain.sum() < 16
    assert torch.equal(is_plain, batch.modality == list(Modality).index(Modality.RGB))
    same = (batch.search[:, :, :3] == batch.search[:, :, 3:]).flatten(1).all(dim=1)
    assert torch.equal(same, is_plain)


def test_the_same_bytes_for_any_number_of_workers():
    one = list(build_loader(sampler(), 14, 4).epoch(3))
    assert len(one) == 3
    for workers in (1, 2):
        loader = build_loader(sampler(), 14, 4, workers=workers)
        assert all(equal(a, b) for a, b in zip(one, loader.epoch(3), strict=True))


def test_the_same_samples_for_any_number_of_processes():
    alone = {
        name: batch.search[i] for batch in build_loader(sampler(), 16, 4).epoch(1) for i, name in enumerate(batch.names)
    }
    ranks = [list(build_loader(sampler(), 16, 2, rank=r, world_size=2).epoch(1)) for r in range(2)]
    assert [len(r) for r in ranks] == [4, 4]
    together = by_name(b for rank in ranks for b in rank)
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[n], together[n]) for n in alone)
    source = sampler()
    assert np.array_equal(ranks[1][0].search[1].numpy(), source(1, 3).search)


def test_a_resumed_epoch_goes_on_without_loading_what_was_before():
    source = sampler()
    seen = []

    class Watched:
        broken = source.broken

        def __call__(self, epoch, index):
            seen.append(index)
            return source(epoch, index)

    whole = list(build_loader(sampler(), 20, 4).epoch(2))
    rest = list(build_loader(Watched(), 20, 4).epoch(2, start=3))
    assert all(equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert min(seen) == 12


def test_workers_serve_epoch_after_epoch_also_after_a_break():
    loader = build_loader(sampler(), 12, 2, workers=2)
    expected = build_loader(sampler(), 12, 2)
    next(iter(loader.epoch(1)))
    for epoch in (2, 3):
        assert all(equal(a, b) for a, b in zip(expected.epoch(epoch), loader.epoch(epoch), strict=True))
    assert all(equal(a, b) for a, b in zip(expected.epoch(3, 4), loader.epoch(3, 4), strict=True))


@pytest.mark.slow
def test_spawned_workers():
    loader = build_loader(sampler(), 4, 2, workers=1, start_method="spawn")
    expected = build_loader(sampler(), 4, 2).epoch(1)
    assert all(equal(a, b) for a, b in zip(expected, loader.epoch(1), strict=True))


def test_the_training_s_random_numbers_are_not_touched():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    next(iter(build_loader(sampler(), 4, 2, workers=1).epoch(1)))
    assert torch.equal(torch.rand(3), expected)


def test_incomplete_batches_are_dropped_in_all_processes():
    assert len(build_loader(sampler(), 15, 2, rank=1, world_size=2)) == 3
    with pytest.raises(ValueError, match="SAMPLE_PER_EPOCH 3"):
        build_loader(sampler(), 3, 2, world_size=2)
    with pytest.raises(ValueError, match="rank 2"):
        build_loader(sampler(), 100, 2, rank=2, world_size=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_counted_and_reported_once_over_all_workers(workers, caplog):
    source = sampler(TinyDataset(broken=frozenset({7})), max_bad_samples=0.5)
    loader = build_loader(source, 120, 4, workers=workers)
    with caplog.at_level(logging.WARNING, logger="lib.data"):
        list(loader.epoch(1))
    assert loader.bad_samples > 3
    assert sorted(r.message for r in caplog.records) == [f"left out: tiny/{i}/7.jpg: cut short" for i in range(3)]


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_files_reach_the_caller_as_a_sentence(workers):
    source = sampler(TinyDataset(broken=frozenset(range(30))))
    with pytest.raises(
        TooManyBadSamplesError, match=r"^\d+ of \d+ samples could not be read.*tiny/\d/\d+.jpg"
    ) as caught:
        list(build_loader(source, 40, 4, workers=workers).epoch(1))
    assert "Traceback" not in str(caught.value)


class Deadly:
    """Ends its worker process as the out-of-memory killer does."""

    def __init__(self) -> None:
        self.broken = sampler().broken

    def __call__(self, epoch, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_an_error_with_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    with pytest.raises(WorkerError, match=r"epoch 4: a data loading process died"):
        list(build_loader(Deadly(), 4, 2, workers=1).epoch(4))
    monkeypatch.setattr("multiprocessing.get_start_method", lambda *_: "spawn")
    with pytest.raises(WorkerError, match=r"if not, .* a script trains below `if __name__ == '__main__':`"):
        list(build_loader(Deadly(), 4, 2, workers=1).epoch(4))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are never forked")
def test_workers_are_forked_where_python_has_a_fork_server(monkeypatch):
    """From Python 3.14 on it is the default: each worker would unpickle all tables of the data sets."""
    monkeypatch.setattr("multiprocessing.get_start_method", lambda *_: "forkserver")
    monkeypatch.setattr(
        "multiprocessing.context._default_context._actual_context", multiprocessing.get_context("forkserver")
    )
    source = sampler()
    source.cannot_be_pickled = lambda: None
    assert len(list(build_loader(source, 4, 2, workers=1).epoch(1))) == 2


class Faulty(Deadly):
    def __call__(self, epoch, index):
        raise ZeroDivisionError("a defect")


def test_a_defect_in_a_worker_keeps_its_type():
    with pytest.raises(ZeroDivisionError, match="a defect"):
        list(build_loader(Faulty(), 4, 2, workers=1).epoch(1))


def test_sigterm_to_all_processes_leaves_workers_to_the_main_one():
    """A batch system and torchrun signal workers, too; the main process needs their batches to end in good order."""
    of_earlier_tests = multiprocessing.active_children()  # kept alive by a caught error: their end would raise here
    batches = build_loader(sampler(), 12, 2, workers=2).epoch(1)
    next(batches), next(batches)  # one of each worker: both have started
    for worker in set(multiprocessing.active_children()).difference(of_earlier_tests):
        os.kill(worker.pid, signal.SIGTERM)
    assert len(list(batches)) == 4


def with_extras(source, **extras):
    """The sampler's samples with further arrays."""
    sample = source(1, 0)
    return replace(sample, extras={name: np.asarray(value) for name, value in extras.items()})


KILLED = """
import multiprocessing, os, signal, sys, threading, time
from lib.data import build_loader
from tests.unit.data.tiny import sampler

def kill(seconds):
    time.sleep(seconds)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)

batches = build_loader(sampler(), 12, 2, workers=2).epoch(1)
next(batches), next(batches)
workers = multiprocessing.active_children()
if sys.argv[1] == "while waited for at exit":
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    threading.Thread(target=kill, args=(0.5,), daemon=True).start()
else:
    try:
        kill(0)
        time.sleep(0.2)
    except RuntimeError:
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the exit", "while waited for at exit"])
def test_killed_workers_leave_no_temporary_folders(when, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", KILLED, when], env=environment, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"Exception ignored" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_extras_are_stacked_moved_and_go_with_their_rows():
    source = sampler()
    batch = collate([with_extras(source, quality=0.25 * i, labels=np.full(3, i)) for i in range(3)])
    assert batch.extras["quality"].tolist() == [0.0, 0.25, 0.5]
    assert batch.extras["labels"].shape == (3, 3)
    part = batch.to("cpu").select([2, 0])
    assert part.extras["quality"].tolist() == [0.5, 0.0]
    assert torch.equal(part.search, batch.search[[2, 0]])
    assert part.names == [batch.names[2], batch.names[0]]
    assert batch.to("meta").extras["labels"].device.type == "meta"
    with pytest.raises(ValueError, match="different extras"):
        collate([source(1, 0), with_extras(source, quality=1.0)])


@COLLATES.register("toy_reversed")
def reversed_batch(samples):
    return collate(samples[::-1])


def test_a_registered_collate_makes_the_batch():
    plain = next(build_loader(sampler(), 4, 4).epoch(1))
    turned = next(build_loader(sampler(), 4, 4, collate=COLLATES["toy_reversed"]).epoch(1))
    assert turned.names == plain.names[::-1]


def test_open_files_are_allowed_before_workers_need_them_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    allowed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: allowed.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (70, 4096))
    build_loader(sampler(), 16, 4, workers=2)
    build_loader(sampler(), 16, 4)
    assert allowed == [(96, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (70, 90))
    with pytest.raises(ValueError, match=r"may open 90 files here, TRAIN.NUM_WORKER 2 needs 96: allow more \(`ulimit"):
        build_loader(sampler(), 16, 4, workers=2)


def test_more_workers_than_cores_are_no_warning_of_pytorch(recwarn, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert len(list(build_loader(sampler(), 4, 2, workers=2).epoch(1))) == 2
    assert not [w for w in recwarn if "DataLoader" in str(w.message)]


LEFT_OPEN = """
from types import SimpleNamespace
from lib.data import BrokenFiles, build_loader

class Numbers:
    broken = BrokenFiles()

    def __call__(self, epoch, index):
        return index

loader = build_loader(Numbers(), 8, 2, workers=2, collate=lambda samples: samples)
batches = loader.epoch(1)
print(next(batches))
"""


@pytest.mark.slow
def test_a_loader_that_is_left_open_does_not_keep_its_program_from_ending() -> None:
    root = Path(__file__).resolve().parents[3]
    grace = 60  # seconds that workers take after SIGTERM
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN], cwd=root, capture_output=True, text=True, timeout=grace)
    assert (done.stdout, done.returncode) == ("[0, 1]\n", 0)
