"""Golden tests: every case below the `--cases` folders (default: the bundled ones) becomes one test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

REPEATED = (
    "cstrack/case_s2_multiframe",
    "gdstrack/case_backbone",
    "gdstrack/case_forward_stage1",
    "gdstrack/case_forward_stage2",
    "gdstrack/case_mat_forward",
    "gdstrack/case_track_video_b",
    "loretrack/case_loretrack128_forward",
    "loretrack/case_loretrack192_forward",
    "loretrack/case_ostrack256_train_step",
    "loretrack/case_ostrack256ce_forward_all",
    "loretrack/case_ostrack256ce_forward_keep085",
    "loretrack/case_ostrack256ce_forward_keep1",
    "loretrack/case_tracker_loretrack128",
    "loretrack/case_tracker_loretrack192",
    "loretrack/case_tracker_ostrack256",
    "sdstrack/case_infer_ce",
    "slt_pysot/case_siamattn_forward",
    "slt_pysot/case_siamattn_tracker",
    "slt_pysot/case_siamattn_train_step_epoch10",
    "slt_pysot/case_siamrpnpp_forward",
    "slt_pysot/case_slt_siamattn_step",
    "slt_pysot/case_slt_siamrpnpp_step",
    "slt_pytracking/case_slt_transt_step",
    "slt_pytracking/case_slt_trdimp_lasot_track",
    "slt_pytracking/case_slt_trdimp_track_no_random",
    "slt_pytracking/case_transt_forward",
)
"""Bundled cases of published size whose code others run too: of their kind, a training step or a tracker of the same
network; of a sequence-level step, its objective and a training step. `--all` runs them."""


def pytest_configure(config: pytest.Config) -> None:
    from golden import RUNNERS  # noqa: F401  (the module must exist under this name before the kinds import it)

    for module in sorted((HERE / "kinds").glob("[a-z]*.py")):
        importlib.import_module(f"kinds.{module.stem}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    from golden import Case

    given = metafunc.config.getoption("--cases")
    folders = [Path(f) for f in given or [HERE / "cases"]]
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"--cases {folder}: no such folder")
    paths = sorted({p.resolve() for f in folders for p in f.rglob("case_*.json")})
    if not paths:
        raise pytest.UsageError(f"--cases: no case_*.json below {', '.join(map(str, folders))}")
    root = folders[0].resolve()
    names = [str(p.relative_to(root) if p.is_relative_to(root) else p).removesuffix(".json") for p in paths]
    whole = bool(given) or metafunc.config.getoption("--all")
    cases = {name: Case(p, whole) for name, p in zip(names, paths, strict=True) if whole or name not in REPEATED}
    metafunc.parametrize("case", list(cases.values()), ids=list(cases))
