"""Result packs as authors publish them: archives and folders, nested by tracker, run or benchmark, and MATLAB files.

A pack is searched for files that are named by the benchmark's sequences, with what trackers and toolkits add to a name:

    <seq>.txt   <tracker>_<seq>.txt   <seq>_<tracker>.mat   <seq>_001.txt   <seq>/<seq>_001.txt (.bin)

The files are copied to a folder per tracker and run, as `lib.bench.analysis` reads them. No path is made of a name in
an archive but for the last part behind a sequence's name, so that no file can be written elsewhere.
"""

from __future__ import annotations

import logging
import lzma
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, mkdtemp
from typing import IO, NamedTuple

import numpy as np

from lib.bench.benchmarks import BENCHMARKS, BenchmarkVideo, get_benchmark
from lib.bench.result_files import ResultFileError, write_boxes, write_column
from lib.bench.results import MANIFEST
from lib.files import is_hidden
from lib.registry import listed

log = logging.getLogger(__name__)

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".mat")
READ = (".txt", ".csv", ".value", ".bin", ".json", *ARCHIVES)
FOREIGN = (".rar", ".7z")
MAX_BYTES = 8 << 30
"""Unpacked size from which a pack is refused."""
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
)
"""Errors of the standard library for archives that are damaged, encrypted, or packed in an unknown way."""
SIDE = re.compile(r"_(times?|scores?|confidences?|all_boxes|all_scores)$")
SIDE_FOLDER = re.compile(r"^(times?|scores?|confidences?)$", re.I)
SIDE_NAMES = {"time": "_time", "scor": "_score", "conf": "_confidence"}
RUN = re.compile(
    r"^(run|rep|repeat|trial|seed)?[_-]?(\d{1,2}|0\d\d)$|[_-](run|rep|repeat|trial|seed)[_-]?\d+$|_0\d\d$", re.I
)
COMMON_WORDS = {
    "results", "result", "trackingresults", "rawresults", "test", "float", "time", "times", "score", "scores",
}  # fmt: skip
NESTED = 3
"""Archives within archives are opened to this depth."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of a pack: the folders above it in the pack, its name, and where its bytes are."""

    folders: tuple[str, ...]
    name: str
    file: Path


@dataclass
class _Group:
    """The files of one run of one tracker: path in a result folder -> file; the sequences that have boxes."""

    files: dict[str, Path] = field(default_factory=dict)
    sequences: set[str] = field(default_factory=set)


@dataclass
class _Scratch:
    """A folder for the files of a pack, the bytes that have been written there, and files of other kinds."""

    folder: Path
    written: int = 0
    left_out: list[str] = field(default_factory=list)


class _Key(NamedTuple):
    """Tracker and run of a file, from its path: folders, and the text before and behind a sequence's name."""

    folders: tuple[str, ...]
    before: str = ""
    behind: str = ""


def archive_stem(name: str) -> str | None:
    """The name of an archive without its ending; None for other files."""
    endings = [ending for ending in (*ARCHIVES, *FOREIGN) if name.lower().endswith(ending)]
    return name[: -len(max(endings, key=len))] if endings else None


def unpack(path: Path, sequences: Sequence[BenchmarkVideo], scratch: Path) -> dict[str, list[Path]]:
    """Find the results of a benchmark's sequences in an archive or a folder.

    Args:
        path: Archive, MATLAB file or folder.
        sequences: Sequences of the benchmark.
        scratch: Empty folder for the copies.

    Returns:
        Tracker -> result folders, one per run. The name may be empty if there is one tracker.

    Raises:
        FileNotFoundError: No file belongs to a sequence; the message shows some that are there.
        ResultFileError: The archive cannot be read, or is too large.
    """
    files = scratch / "files"
    files.mkdir(parents=True)
    copies = _Scratch(files)
    members = _with_matrices(path, list(_members(path, str(path), copies)), files)
    groups = _grouped(members, sequences)
    if not groups:
        names = listed(["/".join((*m.folders, m.name)) for m in members] or copies.left_out, 3) or "nothing"
        read = "" if members else f" ({', '.join(READ)} are read)"
        raise FileNotFoundError(f"{path}: no result of the {len(sequences)} sequences; there is: {names}{read}")
    most = max(len(group.sequences) for group in groups.values())
    trackers: dict[_Key, list[_Group]] = {}
    for (folders, before, behind), group in sorted(groups.items()):
        if 2 * len(group.sequences) < most:
            count = f"{len(group.sequences)} sequences, others {most}"
            log.warning("left out: %s of %s has results of %s", "/".join(folders) or "the top", path, count)
            continue
        plain = tuple(part for part in (RUN.sub("", part) for part in folders) if part)
        trackers.setdefault(_Key(plain, before, RUN.sub("", behind)), []).append(group)
    found: dict[str, list[Path]] = {}
    for label, runs in zip(_labels(list(trackers), _benchmark_words(sequences)), trackers.values(), strict=True):
        for i, run in enumerate(runs):
            folder = scratch / re.sub(r"[^\w.-]+", "_", f"{path.name} {label} {i if len(runs) > 1 else ''}").strip("_")
            for name, file in run.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / name)
            found.setdefault(label, []).append(folder)
    return found


def _labels(keys: Sequence[_Key], benchmark: Set[str]) -> list[str]:
    """Names that tell the trackers apart: the parts of their keys that differ; for one tracker its innermost part."""
    words = [[*folders, before.strip("_-"), behind.strip("_-")] for folders, before, behind in keys]
    if len(keys) == 1:
        return [next((w for w in reversed(words[0]) if w and _plain(w) not in COMMON_WORDS | benchmark), "")]
    shared = set.intersection(*map(set, words))
    shared |= {w for line in words for w in line if _plain(w) in COMMON_WORDS | benchmark}
    labels = ["/".join(w.removesuffix("_tracking_result") for w in line if w and w not in shared) for line in words]
    if len(set(labels)) < len(labels) or "" in labels:
        labels = ["/".join(filter(None, line)) for line in words]
    return labels


def _members(
    path: Path, where: str, scratch: _Scratch, folders: tuple[str, ...] = (), depth: int = 0
) -> Iterator[_Member]:
    """The files that may be results; those of archives are copied to `scratch` under names of our own.

    `where`: The archive or folder, for messages.
    """
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if parts := _parts(file.relative_to(path).as_posix(), scratch):
                yield from _opened(parts, file, where, scratch, depth)
        return
    if path.suffix.lower() == ".mat" and depth == 0:
        yield from _opened((path.name,), path, where, scratch, depth)
        return
    try:
        for name, stream in _entries(path, where):
            if not (parts := _parts(name, scratch)):
                continue
            with NamedTemporaryFile(dir=scratch.folder, delete=False) as copy:
                while block := stream.read(1 << 20):
                    scratch.written += copy.write(block)
                    if scratch.written > MAX_BYTES:
                        raise ResultFileError(f"{where}: more than {MAX_BYTES >> 30} GiB unpacked, at {name}")
            yield from _opened((*folders, *parts), Path(copy.name), where, scratch, depth)
    except DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ResultFileError(f"{where}: the archive cannot be read ({reason.rstrip(':')})") from None


def _parts(name: str, scratch: _Scratch) -> tuple[str, ...]:
    """Folders and name of a file that may be a result, without parts such as `..`; empty for other files."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part.strip("."))
    if not parts or any(map(is_hidden, parts)) or not parts[-1].lower().endswith(READ):
        scratch.left_out.append(name)
        return ()
    return parts


def _entries(path: Path, where: str) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, open file) of each file in a zip or tar archive; links and devices are left out."""
    if path.name.lower().endswith(FOREIGN):
        raise ResultFileError(f"{where}: archives of this kind are not read; unpack it and give the folder")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as stream:
                        yield info.filename, stream
        return
    if not tarfile.is_tarfile(path):
        kinds = "a folder, or a zip or tar archive of result files"
        raise ResultFileError(f"{where}: expected {kinds}; it is another file, or cut short")
    with tarfile.open(path) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is not None:
                yield entry.name, content


def _opened(parts: tuple[str, ...], file: Path, where: str, scratch: _Scratch, depth: int) -> Iterator[_Member]:
    """A file as it is, an archive in a pack as the files that it holds."""
    *folders, name = parts
    inner = archive_stem(name)
    if inner is None or name.lower().endswith(".mat"):
        yield _Member(tuple(folders), name, file)
    elif depth < NESTED:
        yield from _members(file, f"{where}, {'/'.join(parts)}", scratch, (*folders, inner), depth + 1)
    else:
        log.warning("left out: %s: archives within archives are opened %d deep; unpack it", "/".join(parts), NESTED)


def _with_matrices(path: Path, members: Sequence[_Member], scratch: Path) -> list[_Member]:
    """The files of a pack, MATLAB files as text files of boxes and times.

    Raises:
        ResultFileError: A MATLAB file cannot be read.
    """
    found = [member for member in members if not member.name.lower().endswith(".mat")]
    matlab = [member for member in members if member.name.lower().endswith(".mat")]
    if not matlab:
        return found
    out = Path(mkdtemp(dir=scratch))
    line = [sys.executable, "-I", str(Path(__file__).with_name("mat_files.py")), str(out)]
    done = subprocess.run(line, input="\0".join(str(m.file) for m in matlab), text=True, capture_output=True)
    for i, member in enumerate(matlab):
        if not (out / f"{i}.npz").is_file():
            reason = done.stderr.strip() if done.returncode == 1 else "damaged"
            inner = "/".join((*member.folders, member.name))
            raise ResultFileError(f"{path}{f', {inner}' if inner != path.name else ''}: {reason}")
        arrays = np.load(out / f"{i}.npz")
        boxes = {name.partition("/")[2]: rows for name, rows in arrays.items() if name.startswith("boxes")}
        for number, (keys, rows) in enumerate(boxes.items()):
            place = (*member.folders, member.name[:-4], *(keys.split("/") if len(boxes) > 1 else ()))
            copy = out / f"{i}_{number}.txt"
            write_boxes(copy, rows, "float_space")
            found.append(_Member(place[:-1], f"{place[-1]}.txt", copy))
            speed = f"fps/{keys}".rstrip("/")
            if speed in arrays:
                write_column(copy.with_suffix(".times"), [1 / float(arrays[speed])] * len(rows), "%.9f")
                found.append(_Member(place[:-1], f"{place[-1]}_time.txt", copy.with_suffix(".times")))
    return found


def _plain(text: str) -> str:
    """Letters and digits in lower case."""
    return re.sub(r"[\W_]", "", text.lower())


def _grouped(members: Sequence[_Member], sequences: Sequence[BenchmarkVideo]) -> dict[_Key, _Group]:
    """The files by tracker and run; where some lie in a folder with the benchmark's name, these only."""
    names = {other.lower().replace("-", "_"): s.name for s in sequences for other in s.other_names}
    names |= {s.name.lower().replace("-", "_"): s.name for s in sequences}
    exact = {s.name for s in sequences}
    groups: dict[_Key, _Group] = {}
    for member in sorted(members, key=lambda member: PurePosixPath(member.name).stem not in exact):
        placed = _placed(member, names, exact)
        if placed is not None:
            key, sequence, path, is_boxes = placed
            group = groups.setdefault(key, _Group())
            if path in group.files:
                log.warning("left out: %s: a second file of %s", "/".join((*member.folders, member.name)), sequence)
            group.files.setdefault(path, member.file)
            group.sequences |= {sequence} if is_boxes else set()
    groups = {key: group for key, group in groups.items() if group.sequences}
    for member in members:
        if member.name == MANIFEST:
            for key in (key for key in groups if key.folders == member.folders):
                groups[key].files[MANIFEST] = member.file
    words = _benchmark_words(sequences)
    named = {key: group for key, group in groups.items() if any(_plain(part) in words for part in key.folders)}
    return named or groups


def _benchmark_words(sequences: Sequence[BenchmarkVideo]) -> set[str]:
    """The names of the benchmark, as `_plain` text; none where it is not known."""
    if sequences[0].dataset not in BENCHMARKS:
        return set()
    benchmark = get_benchmark(sequences[0].dataset)
    return {_plain(word) for word in (benchmark.name, benchmark.title, *benchmark.aliases)}


def _placed(member: _Member, names: Mapping[str, str], exact: Container[str]) -> tuple[_Key, str, str, bool] | None:
    """(tracker and run, sequence, path in a result folder, True for boxes) of a file; None if it is of no sequence."""
    folders, name = member.folders, PurePosixPath(member.name)
    if name.suffix.lower() == ".json" or any(part.startswith("stale-") for part in folders):
        return None
    copy = "float/" if folders[-1:] == ("float",) else ""
    side = SIDE.search(name.stem)
    stem = name.stem[: side.start()] if side else name.stem
    of_folder = SIDE_FOLDER.match(folders[-1]) if folders else None
    if copy or of_folder:
        folders = folders[:-1]
    if of_folder and not side and _is_column(member.file):
        side = of_folder
    found = _sequence_in(stem, names, exact)
    if found is None or (side and side[1].startswith("all_")):
        return None
    before, sequence, behind = found
    ending = name.suffix.lower() if name.suffix.lower() in (".value", ".bin") else ".txt"
    if side:
        ending = f"{SIDE_NAMES[side[1][:4].lower()]}{ending}"
    if folders and _sequence_in(folders[-1], names, exact) == ("", sequence, "") and not before:
        run = behind or ("" if side else "_001")
        return _Key(folders[:-1]), sequence, f"{sequence}/{sequence}{run}{ending}", not side
    return _Key(folders, before, behind), sequence, f"{copy}{sequence}{ending}", not side and not copy


def _is_column(file: Path) -> bool:
    """True for a text file whose first line is one number."""
    with file.open("rb") as stream:
        return len(re.split(rb"[\s,;]+", stream.readline(200).strip())) == 1


def _sequence_in(stem: str, names: Mapping[str, str], exact: Container[str]) -> tuple[str, str, str] | None:
    """(text before, sequence, text behind) for a name that has a sequence's name at one of its ends."""
    if stem in exact:
        return "", stem, ""
    text = stem.lower().replace("-", "_")
    if text in names:
        return "", names[text], ""
    cuts = [i for i, letter in enumerate(text) if letter == "_"]
    ends = [("", text[:i], stem[i:]) for i in cuts] + [(stem[: i + 1], text[i + 1 :], "") for i in cuts]
    for before, middle, behind in sorted(ends, key=lambda end: -len(end[1])):
        if middle in names:
            return before, names[middle], behind
    return None
