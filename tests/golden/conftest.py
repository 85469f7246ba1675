"""Golden tests: every case below the `--cases` folders (default: the bundled ones) becomes one test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def pytest_configure(config: pytest.Config) -> None:
    from golden import RUNNERS  # noqa: F401  (the module must exist under this name before the kinds import it)

    for module in sorted((HERE / "kinds").glob("[a-z]*.py")):
        importlib.import_module(f"kinds.{module.stem}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    from golden import Case

    folders = [Path(f) for f in metafunc.config.getoption("--cases") or [HERE / "cases"]]
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"--cases {folder}: no such folder")
    paths = sorted({p.resolve() for f in folders for p in f.rglob("case_*.json")})
    if not paths:
        raise pytest.UsageError(f"--cases: no case_*.json below {', '.join(map(str, folders))}")
    root = folders[0].resolve()
    names = [str(p.relative_to(root) if p.is_relative_to(root) else p).removesuffix(".json") for p in paths]
    metafunc.parametrize("case", [Case(p) for p in paths], ids=names)
