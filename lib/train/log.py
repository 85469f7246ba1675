"""Log of a training: terminal, text file, JSON lines, TensorBoard and, if requested, wandb."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from lib.files import write_text
from lib.train.checkpoint import Position

WANDB_PROJECT = "tracking"


SHOWN_TERMS = 8


@dataclass(frozen=True)
class Report:
    """Progress of one loader (``train`` or ``val``) at a print interval (kind ``step``) or an epoch's end (``epoch``).

    step of steps: batches per process. terms: running means over the epoch and over all processes.
    data_share: share of the time since the last report that was spent waiting for data.
    eta_epoch, eta: seconds to the end of the epoch and of the training. seconds: what the epoch took so far.
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

    def record(self) -> dict[str, Any]:
        """A JSON object; what does not apply is left out."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    def line(self) -> str:
        """The line that a person reads."""
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
        if self.skipped_steps:
            parts.append(f"{self.skipped_steps} overflowed steps skipped")
        if self.nonfinite_steps:
            parts.append(f"{self.nonfinite_steps} non-finite steps skipped")
        if self.bad_samples:
            parts.append(f"{self.bad_samples} broken samples skipped")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """``1:02:03``, with days in front where there are any."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock


@dataclass(frozen=True)
class LogPaths:
    """Files of one experiment's log, below `save_dir`."""

    text: Path
    lines: Path
    tensorboard: Path

    @classmethod
    def of(cls, save_dir: Path, script: str, config: str) -> LogPaths:
        """``logs/<script>-<config>.log`` and ``.jsonl``, ``tensorboard/train/<script>/<config>``."""
        logs = save_dir / "logs"
        name = f"{script}-{config}"
        return cls(logs / f"{name}.log", logs / f"{name}.jsonl", save_dir / "tensorboard" / "train" / script / config)

    def set_aside(self) -> None:
        """Keep the log of an earlier training under another name, so that a fresh one begins empty."""
        stamp = time.strftime("earlier_%Y%m%d_%H%M%S")
        for path in (self.text, self.lines, self.tensorboard):
            if path.exists():
                path.rename(path.with_name(f"{path.stem}.{stamp}{path.suffix}"))


class Sink:
    """One destination of the log; takes nothing by itself."""

    def message(self, text: str) -> None:
        """One sentence for the reader."""

    def report(self, report: Report) -> None:
        """One line of progress."""

    def close(self) -> None:
        """Write out what is buffered."""


class TrainLog:
    """Passes everything to its sinks. Processes other than rank 0 have none."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = list(sinks)

    def message(self, text: str) -> None:
        """One sentence for the reader."""
        for sink in self._sinks:
            sink.message(text)

    def report(self, report: Report) -> None:
        """One line of progress."""
        for sink in self._sinks:
            sink.report(report)

    def close(self) -> None:
        """Write out what is buffered."""
        for sink in self._sinks:
            sink.close()


class TerminalSink(Sink):
    """Lines on standard output, coloured where it is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(soft_wrap=True, highlight=True)

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)

    def report(self, report: Report) -> None:
        self._console.print(report.line(), markup=False, style="bold" if report.kind == "epoch" else None)


class TextSink(Sink):
    """The same lines, each with its time, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._file = _append(path)

    def message(self, text: str) -> None:
        self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        self._file.flush()

    def report(self, report: Report) -> None:
        self.message(report.line())

    def close(self) -> None:
        self._file.close()


class LinesSink(Sink):
    """One JSON object per report, for reports and other readers; messages are not repeated here.

    position: where the training goes on; records of later steps are dropped, as they will come again.
    """

    def __init__(self, path: Path, position: Position) -> None:
        _drop_after(path, position)
        self._file = _append(path)

    def report(self, report: Report) -> None:
        record = {"time": round(time.time(), 3), **_finite(report.record())}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorboardSink(Sink):
    """Scalars under `<folder>/train` and `<folder>/val`; the x axis is the epoch for epoch means, else the step."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._folder, self._purge_step = folder, purge_step
        self._writers: dict[str, Any] = {}

    def report(self, report: Report) -> None:
        writer = self._writer(report.loader)
        if report.kind == "epoch":
            for name, value in report.terms.items():
                writer.add_scalar(f"epoch/{name}", value, report.epoch)
            return
        for name, value in report.terms.items():
            writer.add_scalar(name, value, report.global_step)
        for i, lr in enumerate(report.lr):
            writer.add_scalar(f"LearningRate/group{i}", lr, report.global_step)
        for name in ("samples_per_second", "data_share", "grad_norm", "memory_gib"):
            if (value := getattr(report, name)) is not None:
                writer.add_scalar(f"info/{name}", value, report.global_step)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, loader: str) -> Any:
        if loader not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[loader] = SummaryWriter(str(self._folder / loader), purge_step=self._purge_step)
        return self._writers[loader]


class WandbSink(Sink):
    """Scalars to Weights & Biases (project "tracking"); needs the `wandb` extra."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project=WANDB_PROJECT, name=name, config=dict(config), dir=str(folder), resume="allow")

    def report(self, report: Report) -> None:
        values = {f"{report.loader}/{k}": v for k, v in report.terms.items()}
        values |= {f"LearningRate/group{i}": lr for i, lr in enumerate(report.lr)}
        self._run.log({**values, "epoch": report.epoch, "step": report.global_step})

    def close(self) -> None:
        self._run.finish()


def tensorboard_available() -> bool:
    """True if TensorBoard's writer can be imported; otherwise the log says what is missing."""
    try:
        from torch.utils import tensorboard
    except ImportError as error:
        logging.getLogger(__name__).warning("no TensorBoard log: %s", error)
        return False
    return hasattr(tensorboard, "SummaryWriter")


def _drop_after(path: Path, position: Position) -> None:
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the half line of a killed process
        at = Position(record["epoch"], record["step"])
        within = at.epoch < position.epoch or (record["kind"], record["loader"]) == ("step", "train")
        if within and at <= position:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


def _append(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


def _finite(value: Any) -> Any:
    """JSON has no NaN: such numbers become null."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
