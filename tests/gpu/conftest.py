"""Tests of what only a GPU can break; `scripts/test_gpu.sh` runs them, and without a GPU they are skipped."""

from __future__ import annotations

import pytest
import torch

from tests.e2e.conftest import command  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all of them where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
