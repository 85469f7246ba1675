"""What the writers of all on-disk layouts share: pictures, rows of text, folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Boxes, Image, Modality
from lib.files import write_text
from synthetic.dataset import WorldCameras

JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class WriteTask:
    """One world that is to be written.

    Attributes:
        name: Name of the sequence in the data set.
        number: Its number there.
        split: train, val or test.
        cameras: The world and its cameras.
    """

    name: str
    number: int
    split: str
    cameras: WorldCameras

    @property
    def boxes(self) -> Boxes:
        return self.cameras.world.truth.boxes_xywh

    def aux(self, t: int) -> NDArray[Any]:
        """The second picture of frame t as its sensor gives it."""
        picture = self.cameras.aux(t)
        assert picture is not None, "only layouts with a second modality ask for it"
        return picture

    @property
    def kind(self) -> str:
        """What the target is: person, bag, ..."""
        return self.cameras.world.plan.target.kind

    @property
    def sentence(self) -> str:
        """A description, for the layouts that have one."""
        return f"the {self.kind} that moves over the {self.cameras.world.plan.backdrop.kind}"


class LayoutWriter(ABC):
    """Layout of one data set on disk, seen from the folder that `local.yaml` points to.

    A sequence counts as written once `mark` exists; `write` makes that file or folder last, in one step.
    """

    modality = Modality.RGB
    splits: tuple[str, ...] = ("train", "test")

    @abstractmethod
    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        """One name for each world, given what its target is."""

    @abstractmethod
    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        """What exists as soon as a sequence is written wholly."""

    @abstractmethod
    def write(self, root: Path, task: WriteTask) -> None:
        """Write one sequence."""

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:  # noqa: B027
        """Write what is there once per data set: lists, tables. Names of earlier runs stay in lists."""

    def summary(self, task: WriteTask) -> dict[str, Any]:
        """What `finish` needs of a sequence in addition to its name."""
        return {}


def official(names: Sequence[str], count: int, what: str) -> list[str]:
    """The first `count` published names; ValueError when there are not so many."""
    if count > len(names):
        raise ValueError(
            f"{what} has {len(names)} names, not the {count} requested; write fewer or give names of your own"
        )
    return list(names[:count])


def in_one_step(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder under a temporary name, then rename it: it never exists half written."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def lines(values: Iterable[object]) -> str:
    return "".join(f"{v}\n" for v in values)


def integer_rows(boxes: Boxes) -> str:
    """`x,y,w,h` rounded to pixels; a box that is there is at least one pixel wide."""
    whole = np.round(boxes).astype(int)
    present = (boxes[:, 2:] > 0).all(1)
    whole[present, 2:] = np.maximum(whole[present, 2:], 1)
    return lines(",".join(map(str, row)) for row in whole.tolist())


def float_rows(boxes: Boxes, digits: int) -> str:
    return lines(",".join(f"{v:.{digits}f}" for v in row) for row in boxes.tolist())


def write_rgb(path: Path, picture: Image) -> None:
    """An RGB picture as a file of the kind that its name says."""
    _write(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def write_raw(path: Path, picture: NDArray[Any]) -> None:
    """A single-channel picture, its values as they are."""
    _write(path, picture)


def _write(path: Path, picture: NDArray[Any]) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() in (".jpg", ".jpeg") else []
    suffix = ".jpg" if path.suffix == ".JPEG" else path.suffix
    done, data = cv2.imencode(suffix, picture, options)
    if not done:
        raise OSError(f"OpenCV cannot write {path}")
    path.write_bytes(data.tobytes())


def write_frames(folder: Path, task: WriteTask, pattern: str, first: int) -> None:
    """All RGB frames as `pattern % number`, numbered from `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(len(task.cameras.world)):
        write_rgb(folder / (pattern % (first + t)), task.cameras.world.render(t))


def extend_list(path: Path, names: Sequence[str]) -> None:
    """Add names to a list file that may be there; a name stands in it once."""
    known = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    write_text(path, lines(dict.fromkeys([*filter(None, known), *names])))
