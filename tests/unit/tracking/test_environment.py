"""`tracking/environment.py`, which ends an installation, on machines that lack something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


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
