"""Copy a data set into LMDB: resumable after a kill, every picture verified, the finished copy marked.

Keys are those of the STARK / OSTrack family of readers: the path of the file below the data set's folder, with a prefix
for some sets; `lib.catalogue.LmdbCopy` says what is stored. The environment grows in ``<target>.partial`` and is
renamed when it is complete, so that no reader meets half of one. Files are written in transactions: after a kill, what
was committed is there and the next run writes the rest.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import lmdb

from lib.catalogue import CATALOGUE, LmdbCopy
from lib.data.datasets.build import load_part
from lib.data.datasets.trackingnet import ALL_CHUNKS
from lib.data.io import DecodeError, verify_picture
from lib.data.listing import PICTURE_SUFFIXES
from lib.data.store import LmdbStore
from lib.files import is_hidden, try_lock, write_bytes, write_text

Items = list[tuple[bytes, bytes]]
"""Keys with their content."""
MARK, LOCK = "build.json", "build.lock"
BATCH_FILES = 256
MAP_BYTES = 1 << 40
"""Largest environment. Address space, not memory or disk: the file grows as it is written."""
MAX_KEY_BYTES = 511
TEXT_SUFFIXES = (".txt", ".json", ".label", ".ini", ".tag", ".value", ".csv", ".tsv")


class PlanError(ValueError):
    """A source folder does not look like the data set; the message says what was expected."""


class BuildError(RuntimeError):
    """A build cannot continue; the message says what to do."""


@dataclass(frozen=True)
class LmdbPlan:
    """One LMDB environment to be made.

    Attributes:
        source: Folder whose files are stored.
        target: Folder of the environment.
        prefix: Text in front of relative paths.
        parts: Files and folders below `source` to take; () for all.
        extra: Key -> content that is not a file.
    """

    source: Path
    target: Path
    prefix: str = ""
    parts: tuple[str, ...] = ()
    extra: dict[str, bytes] = field(default_factory=dict)

    def files(self) -> Iterator[str]:
        """Paths below `source` of the files that are stored.

        Raises:
            PlanError: One of `parts` is missing.
        """
        for part in self.parts or ("",):
            path = self.source / part
            if path.is_dir():
                yield from _walk(self.source, f"{part}/" if part else "", ())
            elif path.is_file():
                yield part
            else:
                raise PlanError(f"{path} is missing")


def plan_lmdb(dataset: str, source: Path, target: Path, chunks: list[int] | None = None) -> list[LmdbPlan]:
    """The environments that make up the LMDB copy of a data set.

    Args:
        dataset: Key in the catalogue, or an alias.
        source: The data set folder.
        target: Folder of the copy.
        chunks: TrackingNet only, the training chunks to store; None takes those that are there.

    Raises:
        PlanError: The source does not look like the data set.
    """
    spec = CATALOGUE[dataset]
    copy, layout = spec.lmdb or LmdbCopy(), f"expected layout: {spec.layout}"
    if not source.is_dir():
        raise PlanError(f"{spec.key}: the source {source} is not a folder; {layout}")
    if chunks is not None and not copy.chunked:
        raise PlanError(f"{spec.key} has no chunks to choose from")
    if copy.inside and (source / copy.inside).is_dir():  # the whole release
        source = source / copy.inside
    needs_index = bool(copy.index) and not (source / copy.files[0]).is_file()
    if copy.chunked:
        found = [k for k in ALL_CHUNKS if (source / f"TRAIN_{k}" / copy.files[0]).is_dir()]
        numbers = found if chunks is None else chunks
        if not numbers:
            raise PlanError(f"{spec.key}: no chunk in {source}; {layout}")
        plans = [LmdbPlan(source / f"TRAIN_{k}", target / f"TRAIN_{k}_lmdb", parts=copy.files) for k in numbers]
    else:
        plans = [LmdbPlan(source, target, copy.prefix, copy.files[1:] if needs_index else copy.files)]
    for plan in plans:
        for part in plan.parts:
            if not (plan.source / part).exists():
                raise PlanError(f"{spec.key}: {plan.source / part} is missing; {layout}")
    if needs_index:
        try:
            plans[0].extra[copy.files[0]] = load_part(copy.index)(source)
        except FileNotFoundError as error:
            raise PlanError(f"{spec.key}: {error}; {layout}") from None
    if copy.required and not any(next(source.glob(pattern), None) for pattern in copy.required):
        raise PlanError(f"{spec.key}: nothing like {copy.required[0]} in {source}; {layout}")
    if not copy.chunked and next(plans[0].files(), None) is None:
        raise PlanError(f"{spec.key}: no picture or text file in {source}; {layout}")
    return plans


def _walk(root: Path, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Files of `folder` ("" or "a/b/") in sorted order, then those of its folders.

    `above` are the folders on the way, so that a link in a circle ends.
    """
    status = (root / folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(root / folder) as entries:
        names = sorted((entry.is_dir(), entry.name) for entry in entries if not is_hidden(entry.name))
    for is_folder, name in names:
        if is_folder:
            yield from _walk(root, f"{folder}{name}/", (*above, here))
        elif name.lower().endswith((*PICTURE_SUFFIXES, *TEXT_SUFFIXES)):
            yield folder + name


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file that was not stored, or was stored although it is broken."""

    path: str
    reason: str


@dataclass
class BuildReport:
    """Result of one run for one environment.

    Attributes:
        target: The environment.
        state: "complete" (by this run), "was complete" (nothing to do) or "unfinished" (see `broken`).
        files: Files that belong to it.
        already: Of these, stored by earlier runs.
        written: Of these, stored by this run.
        bytes: Size of what was written.
        broken: Files that are broken.
    """

    target: Path
    state: str = "unfinished"
    files: int = 0
    already: int = 0
    written: int = 0
    bytes: int = 0
    broken: list[BrokenFile] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """True for a complete environment, by this run or an earlier one."""
        return self.state != "unfinished"

    def store(self, env: lmdb.Environment, items: Items) -> None:
        """Store keys with their content, all or none, and count them."""
        with env.begin(write=True) as txn, txn.cursor() as cursor:
            cursor.putmulti(items)
        self.written += len(items)
        self.bytes += sum(len(data) for _, data in items)


def partial_folder(target: Path) -> Path:
    """Folder of an unfinished build.

    Args:
        target: Folder of the finished environment.
    """
    return target.with_name(target.name + ".partial")


def finished_build(plan: LmdbPlan) -> BuildReport | None:
    """The report of a finished build.

    Args:
        plan: The environment.

    Returns:
        The report; None if nothing was finished there.

    Raises:
        BuildError: Where the environment is to be, something else is, or a copy of another folder.
    """
    target = plan.target
    if (target / MARK).is_file():
        saved = _check_source(plan, target)
        broken = [BrokenFile(**row) for row in saved["broken"]]
        return BuildReport(target, "was complete", files=saved["files"], already=saved["files"], broken=broken)
    if (target / "data.mdb").exists():
        raise BuildError(
            f"{target} holds an LMDB environment that this command did not make; "
            "choose another --target, or move it away (readers can use it as it is)"
        )
    if target.is_dir() and any(target.iterdir()):
        raise BuildError(f"{target} holds other files than an LMDB copy; choose another --target")
    if target.exists() and not target.is_dir():
        raise BuildError(f"{target} is a file; --target is the folder of the copy")
    return None


def _check_source(plan: LmdbPlan, folder: Path) -> dict[str, Any]:
    """Content of `MARK` in a folder; BuildError if it is a copy of another source."""
    saved: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
    source = Path(saved["source"])
    if source.is_absolute() and source.resolve() != plan.source.resolve():
        raise BuildError(f"{folder} is a copy of {source}, not of {plan.source}; delete it, or choose another --target")
    return saved


def count_files(plan: LmdbPlan) -> int:
    """Number of files that a plan stores; walks through the source once.

    Args:
        plan: The plan.
    """
    return len(plan.extra) + sum(1 for _ in plan.files())


def build_lmdb(
    plan: LmdbPlan,
    *,
    allow_broken: bool = False,
    threads: int = 8,
    progress: Callable[[int], None] = lambda files: None,
) -> BuildReport:
    """Make one LMDB environment, or resume an interrupted one; stored keys are not written again.

    Args:
        plan: The environment.
        allow_broken: Store truncated pictures as they are and call the copy complete; otherwise the copy stays
            unfinished until they are repaired.
        threads: Files that are read at a time.
        progress: Called with the number of files just handled.

    Returns:
        Counts and broken files; `finished` is False if broken files were found and not allowed.

    Raises:
        BuildError: The disk is full, another build is running, or the environment is of other origin.
    """
    done = finished_build(plan)
    if done is not None:
        return done
    folder = partial_folder(plan.target)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MARK).is_file():
        _check_source(plan, folder)
    mark: dict[str, Any] = {"source": os.path.abspath(plan.source)}
    write_text(folder / MARK, json.dumps(mark))
    report = BuildReport(plan.target)
    files = ((plan.prefix + path, plan.source / path) for path in plan.files())
    contents: Iterator[tuple[str, Path | bytes]] = chain(plan.extra.items(), files)
    accepted: Items = []
    with _environment(folder) as env, ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(contents, BATCH_FILES)):
            encoded = [(key.encode("utf-8", "surrogateescape"), content) for key, content in batch]
            with env.begin() as txn, txn.cursor() as cursor:
                todo = [item for item in encoded if not cursor.set_key(item[0][:MAX_KEY_BYTES])]
            good: Items = []
            for (key, content), (data, reason) in zip(todo, pool.map(_read, todo), strict=True):
                if reason:
                    report.broken.append(BrokenFile(str(content), reason))
                if data is not None and (not reason or allow_broken):
                    (accepted if reason else good).append((key, data))
            report.store(env, good)
            report.files += len(batch)
            report.already += len(batch) - len(todo)
            progress(len(batch))
        # Last and at once: a run that is killed before leaves broken pictures to the next one, which looks again.
        report.store(env, accepted)
    if report.broken and not allow_broken:
        return report
    report.state = "complete"
    mark |= {
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "files": report.files,
        "broken": [asdict(row) for row in report.broken],
    }
    write_text(folder / MARK, json.dumps(mark, indent=1))
    for leftover in ("lock.mdb", LOCK):
        (folder / leftover).unlink(missing_ok=True)
    if plan.target.is_dir():
        plan.target.rmdir()
    folder.rename(plan.target)
    return report


def write_broken_list(path: Path, reports: Iterable[BuildReport]) -> int:
    """Write the list of broken files, one "file<TAB>reason" per line; without any, remove an old list.

    Args:
        path: The list file.
        reports: Reports of builds.

    Returns:
        Number of broken files.
    """
    rows = [f"{row.path}\t{row.reason}\n" for report in reports for row in report.broken]
    if rows:
        write_bytes(path, "".join(rows).encode("utf-8", "surrogateescape"))
    elif path.exists():
        path.unlink()
    return len(rows)


def write_sequence_list(target: Path) -> int:
    """Write ``seq_list.json`` of TrackingNet, with [chunk, video] for every video of the finished chunks.

    Args:
        target: Folder with the environments of the chunks.

    Returns:
        Number of videos.
    """
    pairs: list[tuple[int, str]] = []
    for chunk in ALL_CHUNKS:
        folder = target / f"TRAIN_{chunk}_lmdb"
        if (folder / "data.mdb").is_file() and (store := LmdbStore(folder)).exists("anno"):
            pairs += [(chunk, name.removesuffix(".txt")) for name in store.listdir("anno")]
    write_text(target / "seq_list.json", json.dumps(pairs))
    return len(pairs)


@contextmanager
def _environment(folder: Path) -> Iterator[lmdb.Environment]:
    """A new or unfinished environment. One process may have it open; the lock goes with it, however it ends."""
    with open(folder / LOCK, "w", encoding="utf-8") as file:
        if not try_lock(file):
            raise BuildError(f"another process is building {folder}")
        try:
            env = lmdb.open(str(folder), map_size=MAP_BYTES, readahead=False, meminit=False)
        except lmdb.Error as error:
            raise BuildError(f"{folder} cannot be opened ({error}); delete the folder to start again") from None
        try:
            with env:
                yield env
        except lmdb.Error as error:
            raise BuildError(f"{folder}: {error}; what is stored stays, run the same command again to go on") from None


def _read(item: tuple[bytes, Path | bytes]) -> tuple[bytes | None, str]:
    """(content, what is wrong with it) of a key and its file; no content if it cannot be stored at all."""
    key, content = item
    if isinstance(content, bytes):
        return content, ""
    if len(key) > MAX_KEY_BYTES:
        return None, f"the path has {len(key)} bytes; an LMDB key has at most {MAX_KEY_BYTES}"
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
