"""Agreement with the published implementations, case by case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden import RUNNERS, Case

AWAITED: dict[str, str] = json.loads((Path(__file__).parent / "awaited_kinds.json").read_text())


def test_case(case: Case) -> None:
    if case.kind in RUNNERS:
        RUNNERS[case.kind](case)
        return
    awaited = AWAITED.get(case.kind) or AWAITED.get(case.kind.partition("/")[0])
    if awaited:
        pytest.skip(f"{case.kind}: {awaited} is not built yet")
    pytest.fail(f"{case.path}: unknown kind {case.kind!r} (known: {', '.join(sorted(RUNNERS))})")
