"""Files in one step: what a reader, a full disk or an exception meets."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lib.bench import write_sequences
from lib.data import BrokenFiles, build_loader, open_source
from lib.data.sources import unpack_video
from lib.files import atomic_write, errors_name, sentence, try_lock, write_text
from lib.viz import VideoWriter
from synthetic import Job, WorldConfig, write_benchmark


def test_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"old")

    def fill_the_disk() -> None:
        with atomic_write(path) as file:
            file.write(b"new")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        fill_the_disk()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_stands_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write_text(path, "old\n")
    with atomic_write(path) as file:
        file.write(b"new\n")
        file.flush()
        assert path.read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_a_share_that_does_not_sync_folders_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("os.fsync", refuse)
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_missing_folders_are_made_and_line_feeds_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "sequence.txt"
    write_text(path, "1,2\r\nZürich\n")
    assert path.read_bytes() == "1,2\r\nZürich\n".encode()


def test_what_a_killed_process_left_is_deleted_by_the_next_writer(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    path = tmp_path / "boxes [1].txt"
    left = tmp_path / f"{path.name}.{ended.pid}.tmp"
    others = [tmp_path / f"{path.name}.{os.getppid()}.tmp", tmp_path / f"other.{ended.pid}.tmp"]
    for file in (left, *others):
        file.write_text("half")
    write_text(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_folder_of_many_files_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[object] = []
    listing = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: [listed.append(path), listing(path)][1])
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"{path} is listed"))
    for number in range(20):
        write_text(tmp_path / f"{number}.txt", "1,2,3,4\n")
    assert len(listed) <= 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_named_by_its_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left") as caught,
        errors_name(tmp_path / "a.png"),
        open("/dev/full", "wb") as f,
    ):
        f.write(b"pixels")
    assert sentence(caught.value) == f"{tmp_path / 'a.png'}: no space left on device"
    with pytest.raises(OSError, match="list") as caught:
        write_text("/proc/list.txt", "no files are made here")
    assert sentence(caught.value) == "/proc/list.txt: no such file or directory"
    assert sentence(ValueError("as it is")) == "as it is"


def test_errors_whose_file_cannot_be_set_are_named(tmp_path: Path) -> None:
    class FixedError(FileNotFoundError):  # as PyAV's
        filename = property(lambda self: None)  # type: ignore[assignment]

    with pytest.raises(FileNotFoundError) as caught, errors_name(tmp_path / "a.mp4"):
        raise FixedError(2, "No such file or directory")
    assert sentence(caught.value) == f"{tmp_path / 'a.mp4'}: no such file or directory"


def test_shared_memory_that_is_full_is_named_before_processes_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.Lock", full)
    with pytest.raises(OSError, match="No space left") as caught:
        build_loader(SimpleNamespace(broken=BrokenFiles()), 4, 2, workers=1)
    assert sentence(caught.value) == "/dev/shm: no space left on device"
    with pytest.raises(OSError, match="/dev/shm"):
        write_benchmark(Job("lasot", tmp_path, sequences=2), workers=2)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for path in (tmp_path / "out" / "a.txt", tmp_path / "out" / "b" / "a.txt"):
        with pytest.raises(OSError) as caught:
            write_text(path, "x")
        assert sentence(caught.value) == f"{tmp_path / 'out'}: a file stands where a folder is needed"


def test_a_link_to_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "scratch")
    for path in (tmp_path / "out" / "a.txt", tmp_path / "out" / "b" / "a.txt"):
        with pytest.raises(OSError) as caught:
            write_text(path, "x")
        assert sentence(caught.value) == f"{tmp_path / 'out'}: a link to {tmp_path / 'scratch'}, which is not there"


def test_a_full_disk_is_named_by_the_folder_of_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoWriter(tmp_path / "clip.mp4") as video:
        for _ in range(3):
            video.write(np.zeros((64, 64, 3), np.uint8))

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    source = open_source(str(tmp_path / "clip.mp4"))
    world = Job("synthetic", tmp_path / "rendered", 1, config=WorldConfig(width=64, height=64, length=4))
    writers: dict[str, Callable[[], object]] = {
        "mine": lambda: write_sequences(tmp_path / "mine", source, {"a": {0: (1.0, 2.0, 30.0, 20.0)}}),
        "frames": lambda: unpack_video(tmp_path / "clip.mp4", tmp_path / "frames"),
        "rendered": lambda: write_benchmark(world),
    }
    for name, write in writers.items():
        with pytest.raises(OSError, match="No space left") as caught:
            write()
        assert sentence(caught.value) == f"{tmp_path / name}: no space left on device"


WITHOUT_POSIX = """
import os, pkgutil, signal, sys, types
import cv2, lmdb, torch, torch.utils.data, torch.utils.tensorboard, torchvision
locked = []
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *given: locked.append(given[1:]))
sys.platform = "win32"
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("killpg", "register_at_fork", "sched_getaffinity", "getloadavg"):
    delattr(os, name)
for name in ("SIGCHLD", "SIGKILL", "SIGALRM", "alarm"):
    delattr(signal, name)
import lib, unitrack
for module in pkgutil.walk_packages(lib.__path__, "lib."):
    __import__(module.name)
from pathlib import Path
from lib.files import write_text
from lib.train import CheckpointFolder
folder = CheckpointFolder(Path(sys.argv[1]), "Net")
folder.claim()
assert locked == [(2, 1)]
os.kill = None  # 0 is Ctrl-C there
(Path(sys.argv[1]) / "a.txt.1.tmp").touch()
write_text(Path(sys.argv[1]) / "a.txt", "one")
"""


@pytest.mark.slow
def test_modules_do_without_what_windows_lacks(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)], check=True)
    assert (tmp_path / "a.txt").read_text() == "one"


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_where_the_file_system_has_no_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with (tmp_path / "lock").open("w") as file:
        assert try_lock(file)
