"""Log of a training: terminal, text file, JSON lines, TensorBoard and, if requested, wandb."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lib.data import encode_picture
from lib.files import errors_name, write_bytes, write_text
from lib.train.checkpoint import Position
from lib.viz import render_page

WANDB_PROJECT = "tracking"
PAGE = Path(__file__).parent / "assets" / "pictures.html"
PAGE_EPOCHS = 12
"""Epochs that a page of pictures shows, evenly chosen."""
PICTURE_SIDE = 128
"""Side of a picture on that page in pixels."""
SHOWN_TERMS = 8
"""Terms of a report that fit on the line for a person; the files hold all of them."""


@dataclass(frozen=True)
class Report:
    """Progress of one loader at a print interval, or at the end of an epoch.

    Attributes:
        loader: ``train`` or ``val``.
        kind: ``step`` at a print interval, ``epoch`` at the end of an epoch.
        epoch: Current epoch, from 1.
        epochs: Epochs of the training.
        step: Finished batches of the epoch, per process.
        steps: Batches of the epoch, per process.
        terms: Means over the epoch so far and over all processes, by name.
        samples_per_second: Throughput of all processes.
        data_share: Share of the time since the last report that was spent waiting for data, 0 to 1.
        eta_epoch: Seconds to the end of the epoch.
        eta: Seconds to the end of the training.
        seconds: Duration of the epoch so far.
        lr: Learning rate of each parameter group.
        grad_norm: Global gradient norm before clipping.
        bad_samples: Unreadable samples that were skipped, in all processes.
        skipped_steps: Steps skipped by the loss scaler.
        nonfinite_steps: Steps skipped for a value that is not finite.
        memory_gib: Largest amount of GPU memory in use so far, in GiB.
    """

    loader: str
    kind: str
    epoch: int
    epochs: int
    step: int
    steps: int
    terms: dict[str, float]
    samples_per_second: float = 0.0
    data_share: float = 0.0
    eta_epoch: float | None = None
    eta: float | None = None
    seconds: float = 0.0
    lr: list[float] = field(default_factory=list)
    grad_norm: float | None = None
    bad_samples: int = 0
    skipped_steps: int = 0
    nonfinite_steps: int | None = None
    memory_gib: float | None = None

    @property
    def global_step(self) -> int:
        """Batches per process since the training began."""
        return (self.epoch - 1) * self.steps + self.step

    def line(self) -> str:
        """Format the report for a person, as one line of text.

        Returns:
            Values that are known and not zero, separated by two spaces; at most `SHOWN_TERMS` terms.
        """
        parts = [f"{self.loader} epoch {self.epoch}/{self.epochs}"]
        parts.append(f"step {self.step}/{self.steps}" if self.kind == "step" else f"done in {duration(self.seconds)}")
        parts.append(f"{self.samples_per_second:.1f} samples/s")
        if self.kind == "step" and self.eta_epoch is not None:
            parts.append(
                f"eta {duration(self.eta_epoch)}" + ("" if self.eta is None else f", all {duration(self.eta)}")
            )
        elif self.eta is not None:
            parts.append(f"eta {duration(self.eta)}")
        parts.append(f"data {self.data_share:.0%}")
        if self.lr:
            parts.append("lr " + " ".join(f"{v:.3g}" for v in self.lr))
        parts += [f"{name} {value:.4f}" for name, value in list(self.terms.items())[:SHOWN_TERMS]]
        if self.grad_norm is not None:
            parts.append(f"grad {self.grad_norm:.3g}")
        if self.memory_gib is not None:
            parts.append(f"mem {self.memory_gib:.1f} GiB")
        skipped = {
            "overflowed steps": self.skipped_steps,
            "non-finite steps": self.nonfinite_steps,
            "broken samples": self.bad_samples,
        }
        parts += [f"{count} {what} skipped" for what, count in skipped.items() if count]
        return "  ".join(parts)


@dataclass(frozen=True)
class EpochPictures:
    """Input and prediction of a network at the end of an epoch.

    Attributes:
        epoch: From 1.
        global_step: Batches per process since the training began.
        images: Name -> [B, 3, S, S] in 0..1.
    """

    epoch: int
    global_step: int
    images: dict[str, Tensor]

    def table(self) -> NDArray[np.uint8]:
        """One row per sample, one column per name, [H, W, 3] RGB."""
        columns = []
        for images in self.images.values():
            levels = images.float().mul(255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
            side = (PICTURE_SIDE, PICTURE_SIDE)
            columns.append(np.concatenate([cv2.resize(x, side, interpolation=cv2.INTER_AREA) for x in levels]))
        return np.concatenate(columns, axis=1)


def duration(seconds: float) -> str:
    """Format a duration as ``1:02:03``, from one day on as ``2 d 1:02:03``.

    Args:
        seconds: The duration; rounded, negative values count as zero.
    """
    return re.sub(r" days?,", " d", str(timedelta(seconds=max(0, round(seconds)))))


@dataclass(frozen=True)
class LogPaths:
    """Files of one experiment's log, below `save_dir`.

    Attributes:
        text: Lines for a person.
        lines: The reports as JSON lines.
        tensorboard: Folder of TensorBoard's event files.
        pictures: Folder of pictures, with a page of them; only where an objective gives some.
        wandb: The number of the run at Weights & Biases, which a resumed training goes on with; only if it logs there.
    """

    text: Path
    lines: Path
    tensorboard: Path
    pictures: Path
    wandb: Path

    @classmethod
    def of(cls, save_dir: Path, script: str, config: str) -> LogPaths:
        """Name the files as OSTrack does.

        Args:
            save_dir: Root of all outputs.
            script: The experiment's method.
            config: The experiment's configuration.

        Returns:
            ``logs/<script>-<config>.log`` and ``.jsonl``, ``tensorboard/train/<script>/<config>``,
            ``logs/<script>-<config>_pictures``, ``logs/<script>-<config>.wandb``.
        """
        logs, name = save_dir / "logs", f"{script}-{config}"
        events = save_dir / "tensorboard" / "train" / script / config
        pictures, wandb = logs / f"{name}_pictures", logs / f"{name}.wandb"
        return cls(logs / f"{name}.log", logs / f"{name}.jsonl", events, pictures, wandb)

    def set_aside(self) -> None:
        """Rename the log of an earlier training, so that a fresh one begins empty."""
        stamp = time.strftime("earlier_%Y%m%d_%H%M%S")
        for path in astuple(self):
            if path.exists():
                path.rename(path.with_name(f"{path.stem}.{stamp}{path.suffix}"))


class Sink:
    """One destination of the log."""

    def write(self, entry: str | Report) -> None:
        """Take one entry.

        Args:
            entry: A sentence for the reader, which most sinks ignore, or a report of progress.
        """
        if isinstance(entry, Report):
            self.report(entry)

    def report(self, report: Report) -> None:
        """Take a report of progress."""

    def show(self, pictures: EpochPictures) -> None:
        """Take the pictures of an epoch; most sinks ignore them.

        Args:
            pictures: Of a few samples.
        """

    def close(self) -> None:
        """Write out what is buffered."""


class TrainLog(Sink):
    """Passes every entry to its sinks.

    Args:
        sinks: Destinations; none in processes other than rank 0.
    """

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self.sinks = list(sinks)

    def write(self, entry: str | Report) -> None:
        for sink in self.sinks:
            sink.write(entry)

    def show(self, pictures: EpochPictures) -> None:
        for sink in self.sinks:
            sink.show(pictures)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


class TerminalSink(Sink):
    """Lines on standard output, coloured where it is a terminal; none once that is closed (a lost connection)."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(soft_wrap=True, highlight=True)

    def write(self, entry: str | Report) -> None:
        style = "bold" if isinstance(entry, Report) and entry.kind == "epoch" else None
        try:
            self._console.print(entry if isinstance(entry, str) else entry.line(), markup=False, style=style)
        except (OSError, SystemExit):  # rich raises SystemExit for a pipe that is closed
            self._console.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered would be an error at exit


class TextSink(Sink):
    """The same lines, each with its time, appended to a file.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, entry: str | Report) -> None:
        text = entry if isinstance(entry, str) else entry.line()
        self._append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def _append(self, line: str) -> None:
        with errors_name(self._file.name):
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class LinesSink(TextSink):
    """One JSON object per report, appended to a file; sentences are not repeated here.

    Args:
        path: The file; its folder is made.
        position: Where the training continues; records of later steps are dropped, as they will come again.
    """

    def __init__(self, path: Path, position: Position) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the half line of a killed process
            at = Position(record["epoch"], record["step"])
            within = at.epoch < position.epoch or (record["kind"], record["loader"]) == ("step", "train")
            if within and at <= position:
                kept.append(line + "\n")
        if path.is_file():
            write_text(path, "".join(kept))
        super().__init__(path)

    def write(self, entry: str | Report) -> None:
        if isinstance(entry, Report):
            values = {name: value for name, value in asdict(entry).items() if value is not None}
            self._append(json.dumps({"time": round(time.time(), 3), **_finite(values)}) + "\n")


class TensorboardSink(Sink):
    """Scalars for TensorBoard; the x axis is the epoch for means of an epoch, else the step.

    Args:
        folder: Event files are written to ``train`` and ``val`` below it.
        purge_step: Events of an earlier run from this step on are hidden.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer_class = SummaryWriter
        self._folder, self._purge_step = folder, purge_step
        self._writers: dict[str, SummaryWriter] = {}

    def report(self, report: Report) -> None:
        writer = self._writer(report.loader)
        if report.kind == "epoch":
            for name, value in report.terms.items():
                writer.add_scalar(f"epoch/{name}", value, report.epoch)
            return
        values = report.terms | {f"LearningRate/group{i}": lr for i, lr in enumerate(report.lr)}
        for name in ("samples_per_second", "data_share", "grad_norm", "memory_gib"):
            if getattr(report, name) is not None:
                values[f"info/{name}"] = getattr(report, name)
        for name, value in values.items():
            writer.add_scalar(name, value, report.global_step)

    def show(self, pictures: EpochPictures) -> None:
        for name, images in pictures.images.items():
            self._writer("train").add_images(f"pictures/{name}", images.float().cpu(), pictures.global_step)

    def _writer(self, loader: str) -> Any:
        if loader not in self._writers:
            self._writers[loader] = self._writer_class(str(self._folder / loader), purge_step=self._purge_step)
        return self._writers[loader]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class PicturesSink(Sink):
    """Pictures of every epoch as JPEG files, and `index.html`, which shows some of them.

    Args:
        folder: Made with the first pictures.
        title: Heading of the page.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._folder, self._title = folder, title

    def show(self, pictures: EpochPictures) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._folder / f"epoch_{pictures.epoch:04d}.jpg", encode_picture(pictures.table(), 85))
        files = sorted(self._folder.glob("epoch_*.jpg"))
        chosen = np.linspace(0, len(files) - 1, min(PAGE_EPOCHS, len(files))).round().astype(int)
        shown = [(files[i].stem, base64.b64encode(files[i].read_bytes()).decode()) for i in chosen]
        page = render_page(PAGE, {"title": self._title, "names": list(pictures.images), "epochs": shown})
        write_text(self._folder / "index.html", page)


class WandbSink(Sink):
    """Scalars to Weights & Biases (project "tracking"); needs the `wandb` extra.

    Args:
        name: Name of the run.
        config: The resolved configuration.
        paths: wandb keeps its local files alongside the log.
    """

    def __init__(self, name: str, config: Mapping[str, Any], paths: LogPaths) -> None:
        import wandb

        paths.wandb.parent.mkdir(parents=True, exist_ok=True)
        run = {"id": paths.wandb.read_text(), "resume": "allow"} if paths.wandb.exists() else {}
        self._run = wandb.init(
            project=WANDB_PROJECT, name=name, config=dict(config), dir=str(paths.wandb.parent), **run
        )
        self._run.define_metric("*", step_metric="step")  # curves of a resumed training overlap where it was repeated
        write_text(paths.wandb, self._run.id)

    def report(self, report: Report) -> None:
        values = {f"{report.loader}/{k}": v for k, v in report.terms.items()}
        values |= {f"LearningRate/group{i}": lr for i, lr in enumerate(report.lr)}
        self._run.log({**values, "epoch": report.epoch, "step": report.global_step})

    def close(self) -> None:
        self._run.finish()


def open_log(paths: LogPaths, position: Position, steps: int) -> TrainLog:
    """Open the log of a training on the terminal, in files and, if it is installed, for TensorBoard.

    Args:
        paths: The files.
        position: Where the training starts or continues.
        steps: Batches of an epoch, per process.
    """
    sinks: list[Sink] = [TerminalSink(), TextSink(paths.text), LinesSink(paths.lines, position)]
    sinks.append(PicturesSink(paths.pictures, paths.text.stem))
    try:
        sinks.append(TensorboardSink(paths.tensorboard, (position.epoch - 1) * steps + position.step + 1))
    except ImportError as error:
        logging.getLogger(__name__).warning("no TensorBoard log: %s", error)
    return TrainLog(sinks)


def _finite(value: Any) -> Any:
    """Floats with 7 digits; JSON has no NaN, so that numbers which are not finite become null."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
