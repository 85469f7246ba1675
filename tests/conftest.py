"""Options shared by all tests."""

from __future__ import annotations

import gc
import os

import pytest

gc.disable()  # until tests run: what imports and collection make stays, and would be walked through again and again


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        action="append",
        metavar="DIR",
        help="golden cases: run those below DIR (searched recursively) instead of the bundled ones; may be repeated",
    )
    parser.addoption(
        "--all",
        action="store_true",
        help="run what repeats another test's proof too, such as golden cases of published size and their whole videos",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow what runs the user's commands, and golden cases of networks, whose weights a manifest lists.

    Tests of engines come last: what these leave in the process can crash a later fork.
    """
    for item in items:
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        is_command = "e2e" in item.path.parts
        if is_command or (case is not None and "manifest" in str(case.data.get("weights"))):
            item.add_marker(pytest.mark.slow)
    if not config.getoption("--all"):
        repeated = [item for item in items if item.get_closest_marker("repeated")]
        items[:] = [item for item in items if item not in repeated]
        config.hook.pytest_deselected(items=repeated)
    items.sort(key=lambda item: item.get_closest_marker("engines") is not None)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the project keeps about this machine stays out of the user's folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
