"""State of a process outside the network: random number generators, and signals that end a training."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from lib.distributed import is_launched

SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the end of a job, a terminal that is gone."""


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch; convolutions take deterministic algorithms, as the published trainers do.

    Args:
        seed: For all three generators; the processes of a training get different ones.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def rng_state() -> dict[str, Any]:
    """Read the random number generators of this process.

    Returns:
        States of python's, numpy's and torch's generator and, once CUDA is in use, of the current GPU's: plain types
        and tensors, so that they open with ``weights_only=True``.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    words = torch.from_numpy(np.asarray(keys).astype(np.int64))
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), words, int(position), int(has_gauss), cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Set the random number generators of this process.

    Args:
        state: As `rng_state` returned it.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


class InterruptedTraining(Exception):  # noqa: N818 - not an error: the user asked for it
    """The training stopped on a signal after its state was written.

    Args:
        signum: The signal.
        state: Path of the state; None in processes other than rank 0.

    Attributes:
        exit_code: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, signum: int, state: Path | None) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {state or 'the state'} resumes it")
        self.exit_code = 128 + signum


class Interrupts:
    """Notes the signals that end a training, so that it can write its state first.

    Attributes:
        received: Number of the first signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note SIGINT, SIGTERM and, without nohup, SIGHUP in `received` instead of ending the process.

        A second Ctrl-C ends a lone process at once. Under `torchrun` one Ctrl-C arrives twice (from the terminal and
        from the launcher), so there a repetition means nothing.

        Raises:
            KeyboardInterrupt: Ctrl-C after another signal, outside `torchrun`.
        """

        def note(signum: int, frame: FrameType | None) -> None:
            if self.received and signum == signal.SIGINT and not is_launched():
                raise KeyboardInterrupt
            self.received = self.received or signum

        in_main = threading.current_thread() is threading.main_thread()  # Python gives signals to that one alone
        noted = [s for s in SIGNALS if in_main and (s.name != "SIGHUP" or signal.getsignal(s) != signal.SIG_IGN)]
        before = {s: signal.signal(s, note) for s in noted}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
