"""Agreement with the published implementations, case by case."""

from __future__ import annotations

import pytest
from golden import RUNNERS, Case


def test_case(case: Case) -> None:
    if case.kind not in RUNNERS:
        pytest.fail(f"{case.path}: unknown kind {case.kind!r} (known: {', '.join(sorted(RUNNERS))})")
    RUNNERS[case.kind](case)
