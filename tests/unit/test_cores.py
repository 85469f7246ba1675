"""Number of threads of a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.bench import TrackerSpec
from lib.cores import available_cores, network_threads
from lib.paths import load_paths


def test_a_small_network_has_one_thread_unless_it_is_set_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    assert network_threads(800_000) == 1
    assert network_threads(92_000_000) == available_cores()
    assert network_threads(800_000, requested=3) == network_threads(92_000_000, requested=3) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(available_cores()))
    assert network_threads(92_000_000) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert network_threads(92_000_000) == 5


@pytest.mark.parametrize(("requested", "threads"), [(2, 2), (0, 1)])
def test_a_tracker_is_built_with_its_number_of_threads(
    requested: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    before = torch.get_num_threads()
    spec = TrackerSpec("ostrack", "synthetic_small", device="cpu", untrained=True, cpu_threads=requested)
    try:
        spec.resolve(load_paths()).build()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_of_more_threads_than_cores_the_cores_are_used_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    spec = TrackerSpec("ostrack", "synthetic_small", device="cpu", untrained=True, cpu_threads=3)
    assert [spec.resolve(load_paths(), name).cpu_threads for name in ("lasot", "otb")] == [2, 2]
    assert caplog.messages == ["--cpu_threads 3: this process has 2 cores, which are used"]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_a_container_has_the_cores_of_its_quota(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("lib.cores.CONTROL_GROUP", tmp_path)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert available_cores() == cores
