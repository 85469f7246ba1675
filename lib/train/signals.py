"""Ctrl-C and SIGTERM: finish the step, write what is needed to go on, leave with the usual exit code."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType, TracebackType

from lib.distributed import is_launched

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedTraining(Exception):  # noqa: N818 - not an error: the user asked for it
    """The training stopped on a signal after its state was written."""

    def __init__(self, signum: int, state: Path | None) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {state or 'the state'} resumes it")
        self.signum, self.state = signum, state

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


class Interrupts:
    """While entered, signals are noted in `received` (0 for none) instead of ending the process.

    A second Ctrl-C ends a lone process at once. Under `torchrun` one Ctrl-C arrives twice (from the terminal and from
    the launcher), so there a repetition means nothing.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        self._before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received and signum == signal.SIGINT and not is_launched():
            raise KeyboardInterrupt
        self.received = self.received or signum
