"""Options shared by all tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        action="append",
        metavar="DIR",
        help="golden cases: run those below DIR (searched recursively) instead of the bundled ones; may be repeated",
    )
