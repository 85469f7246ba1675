"""Copy a data set into LMDB: resumable after a kill, every picture verified, the finished copy marked.

The environment grows in ``<target>.partial`` and gets its name when it is whole, so that no reader meets half of one.
Files are written in transactions: after a kill, what was committed is there and the rest is written by the next run.
"""

from __future__ import annotations

import datetime
import fcntl
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import lmdb

from lib.data.io import DecodeError, verify_picture
from lib.data.listing import PICTURE_SUFFIXES
from lib.data.lmdb_plan import Plan
from lib.files import write_text

MARK, LOCK, DOUBTFUL = "build.json", "build.lock", "doubtful.jsonl"
BATCH_FILES = 256
FIRST_MAP_BYTES = 1 << 28
LONGEST_KEY = 511


class BuildError(RuntimeError):
    """A build that cannot go on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that was not stored, or stored although it is broken."""

    path: str
    reason: str


@dataclass
class BuildReport:
    """What one run did for one environment.

    state: "complete" (by this run), "was complete" (nothing to do) or "unfinished" (see `broken`).
    """

    target: Path
    state: str = "unfinished"
    files: int = 0
    already: int = 0
    written: int = 0
    bytes: int = 0
    broken: list[Broken] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.state != "unfinished"


Progress = Callable[[int], None]
"""Called with the number of files just dealt with."""


def partial_folder(target: Path) -> Path:
    """Where an unfinished build lies."""
    return target.with_name(target.name + ".partial")


def finished_build(target: Path) -> BuildReport | None:
    """The report of a finished build, None if there is none. BuildError for an environment that something else made."""
    mark = target / MARK
    if mark.is_file():
        saved = json.loads(mark.read_text(encoding="utf-8"))
        broken = [Broken(**row) for row in saved["broken"]]
        return BuildReport(target, "was complete", files=saved["files"], already=saved["files"], broken=broken)
    if (target / "data.mdb").exists():
        raise BuildError(
            f"{target} holds an LMDB environment that this command did not make; "
            "choose another --target, or move it away (readers can use it as it is)"
        )
    return None


def count_files(plan: Plan) -> int:
    """How many files the plan stores (walks through the source once)."""
    return len(plan.extra) + sum(len(names) for _, names in plan.folders())


def build(
    plan: Plan, *, allow_broken: bool = False, threads: int = 8, progress: Progress = lambda files: None
) -> BuildReport:
    """Make one LMDB environment, or go on with an interrupted one; stored keys are not written again.

    allow_broken: store pictures that are cut short as they are, and call the copy complete; otherwise the copy stays
    unfinished until they are repaired. Raises BuildError (disk full, another build at work, foreign environment).
    """
    done = finished_build(plan.target)
    if done is not None:
        return done
    folder = partial_folder(plan.target)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), _Writer(folder) as writer, ThreadPoolExecutor(threads) as pool:
        job = _Job(writer, pool, folder / DOUBTFUL, BuildReport(plan.target), allow_broken)
        for keys, contents in _batches(plan):
            job.store(keys, contents)
            progress(len(keys))
    if allow_broken or not job.report.broken:
        _finish(plan, folder, job.report)
    return job.report


def write_broken_list(path: Path, reports: Iterable[BuildReport]) -> int:
    """Write "file<TAB>what is wrong" per broken file, or remove an old list if there is none; returns their number."""
    rows = [f"{row.path}\t{row.reason}\n" for report in reports for row in report.broken]
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(rows), encoding="utf-8", errors="surrogateescape")
    elif path.exists():
        path.unlink()
    return len(rows)


def write_sequence_list(target: Path) -> int:
    """TrackingNet: ``seq_list.json`` with [chunk, video] of every finished chunk in `target`; returns their number."""
    pairs: list[tuple[int, str]] = []
    for chunk in range(12):
        folder = target / f"TRAIN_{chunk}_lmdb"
        if (folder / "data.mdb").is_file():
            pairs += [(chunk, video) for video in _videos(folder)]
    write_text(target / "seq_list.json", json.dumps(pairs))
    return len(pairs)


class _Writer:
    """An LMDB environment that is written batch by batch; its map doubles whenever it is full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        data = folder / "data.mdb"
        self._size = max(FIRST_MAP_BYTES, 2 * data.stat().st_size if data.exists() else 0)

    def __enter__(self) -> _Writer:
        try:
            self._env = lmdb.open(str(self.folder), map_size=self._size, readahead=False, meminit=False)
        except lmdb.Error as error:
            raise BuildError(f"{self.folder} cannot be opened ({error}); delete the folder to start anew") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def missing(self, keys: list[bytes]) -> list[bool]:
        """For each key, whether it is not stored yet."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            return [not cursor.set_key(key) for key in keys]

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        """Store all or nothing."""
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    for key, value in items:
                        txn.put(key, value)
                return
            except lmdb.MapFullError:
                self._size *= 2
                self._env.set_mapsize(self._size)
            except (lmdb.DiskError, lmdb.Error, OSError) as error:
                raise BuildError(
                    f"{self.folder}: {error}; what is stored stays, run the same command again to go on"
                ) from None


def _batches(plan: Plan) -> Iterator[tuple[list[str], list[Path | bytes]]]:
    """Keys with the file, or the content, that belongs to each."""
    keys: list[str] = list(plan.extra)
    contents: list[Path | bytes] = list(plan.extra.values())
    for folder, names in plan.folders():
        for name in names:
            keys.append(plan.key(folder, name))
            contents.append(plan.source / folder / name)
            if len(keys) >= BATCH_FILES:
                yield keys, contents
                keys, contents = [], []
    if keys:
        yield keys, contents


class _Job:
    """One run: reads what is missing, looks at every picture, stores it, keeps count.

    doubtful: file with the keys, one per line as JSON, that were stored although broken. A run that is killed leaves it
    to the next one, which looks at those pictures again.
    """

    def __init__(
        self, writer: _Writer, pool: ThreadPoolExecutor, doubtful: Path, report: BuildReport, allow_broken: bool
    ) -> None:
        self.report = report
        self._writer, self._pool, self._doubtful, self._allow_broken = writer, pool, doubtful, allow_broken
        lines = doubtful.read_text(encoding="utf-8").splitlines() if doubtful.exists() else []
        self._again = {json.loads(line).encode() for line in lines}

    def store(self, keys: list[str], contents: list[Path | bytes]) -> None:
        """Store the files of one batch that are not there yet, all or nothing."""
        encoded = [key.encode("utf-8", "surrogateescape") for key in keys]
        missing = self._writer.missing([key[:LONGEST_KEY] for key in encoded])
        todo = [
            (key, content)
            for key, content, new in zip(encoded, contents, missing, strict=True)
            if new or key in self._again
        ]
        items, doubtful = [], []
        for (key, content), (data, reason) in zip(todo, self._pool.map(_read, todo), strict=True):
            if reason:
                self.report.broken.append(Broken(str(content), reason))
            if data is not None and (not reason or self._allow_broken):
                items.append((key, data))
                doubtful += [key] if reason else []
        if doubtful:
            with open(self._doubtful, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(key.decode()) + "\n" for key in doubtful)
        if items:
            self._writer.put(items)
        self.report.files += len(keys)
        self.report.already += len(keys) - len(todo)
        self.report.written += len(items)
        self.report.bytes += sum(len(data) for _, data in items)


def _read(item: tuple[bytes, Path | bytes]) -> tuple[bytes | None, str]:
    """(content, what is wrong with it) of a key and its file; no content when it cannot be stored at all."""
    key, content = item
    if isinstance(content, bytes):
        return content, ""
    if len(key) > LONGEST_KEY:
        return None, f"the path has {len(key)} bytes; an LMDB key has at most {LONGEST_KEY}"
    try:
        key.decode("utf-8")
        data = content.read_bytes()
        if content.name.lower().endswith(PICTURE_SUFFIXES):
            verify_picture(data, str(content))
    except UnicodeDecodeError:
        return None, "the name is not UTF-8"
    except OSError as error:
        return None, error.strerror or str(error)
    except DecodeError as error:
        return data, str(error).removeprefix(f"{content}: ")
    return data, ""


def _finish(plan: Plan, folder: Path, report: BuildReport) -> None:
    report.state = "complete"
    mark = {
        "source": str(plan.source),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "files": report.files,
        "broken": [asdict(row) for row in report.broken],
    }
    write_text(folder / MARK, json.dumps(mark, indent=1))
    for leftover in ("lock.mdb", LOCK, DOUBTFUL):
        (folder / leftover).unlink(missing_ok=True)
    if plan.target.is_dir():
        plan.target.rmdir()
    folder.rename(plan.target)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One build per folder; the lock goes with the process, however it ends."""
    with open(folder / LOCK, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"another process is building {folder}") from None
        yield


def _videos(folder: Path) -> list[str]:
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as txn, txn.cursor() as cursor:
        videos = []
        if cursor.set_range(b"anno/"):
            for key in cursor.iternext(values=False):
                if not key.startswith(b"anno/"):
                    break
                videos.append(key[len(b"anno/") :].decode().removesuffix(".txt"))
        return videos
