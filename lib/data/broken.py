"""Files that cannot be read: counted, told once each, and no longer tolerated when there are too many."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from lib.data.io import AnnotationError, DecodeError

log = logging.getLogger("lib.data")

FILE_ERRORS = (OSError, DecodeError, AnnotationError)
"""What readers raise for a missing or damaged file; anything else is a defect of the code and is not caught."""
PATIENCE = 200
"""Attempts before the share of failures means anything."""
SHOWN = 5


class TooManyBadSamplesError(RuntimeError):
    """So many files could not be read that training on the rest would be training on other data."""


@dataclass(frozen=True, slots=True)
class BrokenReport:
    """What happened in a worker process since its last report. messages: one per file that was new to it."""

    attempts: int = 0
    failures: int = 0
    messages: tuple[str, ...] = ()


@dataclass
class BrokenFiles:
    """Counter of samples that a file spoiled.

    max_share: of all attempts, 0..1, that may fail like that. quiet: leave the warnings to whoever reads the reports.
    messages: the error of each file, in order of appearance, and how often it came.
    """

    max_share: float = 0.01
    quiet: bool = False
    attempts: int = 0
    failures: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    _reported: tuple[int, int, int] = (0, 0, 0)

    def good(self) -> None:
        """An attempt that no file spoiled."""
        self.attempts += 1

    def add(self, error: Exception) -> None:
        """An attempt spoiled by a file. Raises TooManyBadSamplesError beyond the tolerated share."""
        self.attempts += 1
        self.failures += 1
        self._tell(str(error) or type(error).__name__)
        self.check()

    def take(self) -> BrokenReport:
        """What is new since the last call."""
        attempts, failures, messages = self._reported
        self._reported = (self.attempts, self.failures, len(self.messages))
        fresh = tuple(self.messages)[messages:]
        return BrokenReport(self.attempts - attempts, self.failures - failures, fresh)

    def merge(self, report: BrokenReport) -> None:
        """Count what a worker process reports. Raises TooManyBadSamplesError beyond the tolerated share."""
        self.attempts += report.attempts
        self.failures += report.failures
        for message in report.messages:
            self._tell(message)
        if report.failures:
            self.check()

    def check(self) -> None:
        """Raises TooManyBadSamplesError beyond the tolerated share."""
        if self.attempts < PATIENCE or self.failures <= self.max_share * self.attempts:
            return
        first = "; ".join(list(self.messages)[:SHOWN])
        more = f"; and {len(self.messages) - SHOWN} more" if len(self.messages) > SHOWN else ""
        raise TooManyBadSamplesError(
            f"{self.failures} of {self.attempts} samples could not be read, more than "
            f"TRAIN.MAX_BAD_SAMPLES {self.max_share:g} allows: {first}{more}"
        )

    def _tell(self, message: str) -> None:
        if message not in self.messages and not self.quiet:
            log.warning("left out: %s", message)
        self.messages[message] = self.messages.get(message, 0) + 1
