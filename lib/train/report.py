"""One line of progress: what it says, and how it reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

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
