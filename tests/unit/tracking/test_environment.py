"""`tracking/environment.py`, which ends an installation, on machines that lack something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_opencv_that_finds_no_desktop_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libxcb.so.1: cannot open shared object file')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for code in (["tracking/environment.py"], ["-c", "import unitrack; unitrack.load()"]):
        done = subprocess.run([sys.executable, *code], cwd=ROOT, env=environment, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode
        assert "OpenCV cannot be loaded (libxcb.so.1: cannot open shared object file)" in last
        assert "opencv-python-headless" in last
        assert ("Traceback" in done.stderr) == (code[0] == "-c")


@pytest.mark.parametrize(
    ("before", "said"),
    [("", "without cv2, numpy, torch, yaml; Python 3.10"), ("sys.version_info = (3, 8, 0)", "is Python 3.8 without")],
)
def test_a_python_that_is_not_the_environments_is_named_with_the_way_to_it(before: str, said: str) -> None:
    code = f"import sys; {before}\nsys.path.insert(0, 'tracking')\nimport _bootstrap"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "`source .venv/bin/activate`" in ended.stderr
