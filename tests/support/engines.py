"""Engines of this machine, and marks of tests that need one."""

from __future__ import annotations

import importlib.util

import pytest

from lib.deploy import ENGINES

RUNTIMES = tuple(dict.fromkeys(engine.runtime for engine in ENGINES.values()))


def is_installed(runtime: str) -> bool:
    return all(importlib.util.find_spec(package) for package in ENGINES[runtime].packages)


def needs(*runtimes: str) -> pytest.MarkDecorator:
    """Skips a test where one of the runtimes is not installed."""
    missing = [runtime for runtime in runtimes if not is_installed(runtime)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


PARAMETERS = [pytest.param(runtime, marks=needs(runtime)) for runtime in RUNTIMES]
"""For `pytest.mark.parametrize`."""
